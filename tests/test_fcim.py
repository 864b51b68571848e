"""FCIM: equal to a second, plain reading of the rules, and what must hold of every auction."""
import naive
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM

AMPLE = 1e9  # a budget or deadline that leaves no bid out
WEIGHTS = [(0.1, 0.3, 0.6), (0.3, 0.1, 0.6), (0.6, 0.3, 0.1), (0.2, 0.6, 0.2), (0.7, 0.1, 0.8), (1, 0, 0), (0, 1, 0),
           (0, 0, 1), (0, 0, 0)]


def table(offers):
    """Bids from (layers, price, computation time)."""
    bids = pd.DataFrame(offers, columns=["layers", "price", "computation_time"])
    return bids.assign(device=[f"D{k}" for k in range(len(offers))])


def allocate(layers, offers, tasks=1, budget=AMPLE, deadline=AMPLE, **settings):
    """Stages and notes of FCIM; budget and deadline: for each of the tasks."""
    times = np.ones((tasks, len(offers)))
    return FCIM.allocate(layers, table(offers), times, budget=budget, deadline=deadline, **settings)


def auction(layers, offers, **setting):
    """[(device, layers, reward)] of FCIM, or the line that says why there is none."""
    try:
        stages, _ = allocate(layers, offers, **setting)
    except common.NoAllocation as error:
        return str(error)
    return [(*stage["devices"], stage["layers"], stage["reward"]) for stage in stages]


def test_fcim_equals_the_plain_rules():
    draw = np.random.default_rng(1)
    for _ in range(3000):
        offers = [(int(draw.integers(1, 9)), int(draw.integers(13)), int(draw.integers(13)))
                  for _ in range(draw.integers(1, 8))]
        layers = int(draw.integers(1, 31))
        setting = dict(weights=WEIGHTS[draw.integers(len(WEIGHTS))], delta=float(draw.choice([0, 0.1, 0.5, 2])),
                       budget=int(draw.choice([5, 20, 1000])), deadline=int(draw.choice([6, 1000])))
        found, expected = auction(layers, offers, **setting), naive.fcim(layers, offers, **setting)
        if expected is None:
            assert isinstance(found, str)
        else:
            assert [row[:2] for row in found] == [row[:2] for row in expected]
            assert [row[2] for row in found] == pytest.approx([float(row[2]) for row in expected], abs=1e-9)


COST, TIME = (0.1, 0.3, 0.6), (0.1, 0.8, 0.1)


@pytest.mark.parametrize("layers, offers, setting, reward", [
    (4, [(6, 3, 5)], dict(weights=COST), 2),  # a lone bid: c n
    (4, [(6, 3, 5)], dict(weights=TIME), 2),
    (4, [(4, 2, 4), (4, 6, 4)], dict(weights=COST), 2),  # cost first, all it offered: its price
    (2, [(4, 2, 4), (4, 6, 4)], dict(weights=COST), 3),  # less than it offered: c2 n
    (4, [(4, 2, 4), (4, 6, 4)], dict(weights=TIME), 6),  # time first, the cheapest wins: c2 n
    (4, [(4, 6, 2), (4, 2, 8)], dict(weights=TIME), 6 - 0.1 * 4 * (1.5 - 1) + 0.2),  # the fine would cost it: c n
    (4, [(4, 6, 2), (4, 8, 4), (4, 2, 8)], dict(weights=TIME, delta=0.5), 8 - 0.5 * 4 * (1.5 - 4 / 3)),  # c2 n, fined
    (4, [(4, 6, 2), (4, 8, 4), (4, 14, 8), (4, 5, 9)], dict(weights=TIME), 8 + 0.1 * 4 * (2.0625 - 1.5)),  # cheap
    (4, [(4, 2, 4), (4, 6, 4)], dict(weights=TIME, budget=5), 2),  # the dear one is not admitted: alone
    (4, [(4, 5, 4), (4, 6, 6)], dict(weights=TIME, budget=6), 6),
    (2, [(4, 5, 2), (4, 5, 6)], dict(weights=COST, budget=5), 2.5),
    (4, [(4, 4, 2), (2, 5, 4)], dict(weights=TIME, budget=6), 6),  # 2.5 x 4 = 10 cents, cut to the budget
])
def test_every_case_of_the_payment(layers, offers, setting, reward):
    assert auction(layers, offers, **setting)[0][2] == pytest.approx(reward)


def test_a_generous_reward_may_leave_too_little_for_the_rest():
    found = auction(5, [(4, 4, 2), (4, 6, 2)], weights=TIME, budget=8)
    assert "1 of 5 layers left: of 1 bids 1 ask more than the 2.000 cents left of BUDGET, 0 take longer" in found


def test_ties_go_to_the_cheaper_then_to_the_first():
    assert auction(2, [(2, 4, 4), (2, 4, 4)])[0][0] == 0
    assert auction(2, [(2, 8, 2), (2, 4, 4)], weights=(0, 0.5, 0.5))[0][0] == 1


# Properties -----------------------------------------------------------------------------------------------------------


@settings(max_examples=1000)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from(WEIGHTS), st.sampled_from([0, 0.1, 0.5, 2]))
def test_what_holds_of_every_auction(seed, weights, delta):
    draw = np.random.default_rng(seed)
    n = draw.integers(1, 12)
    layers, l = draw.integers(1, 60), draw.integers(1, 20, n)
    P, T = draw.uniform(0.1, 2, n) * l, draw.uniform(1, 9, n) * l
    budget, deadline = draw.uniform(0.3, 2.5) * layers, draw.choice([60, 1000])
    offers = list(zip(l.tolist(), P.tolist(), T.tolist()))
    found = auction(layers, offers, weights=weights, delta=delta, budget=budget, deadline=deadline)
    order = draw.permutation(n)
    again = auction(layers, [offers[i] for i in order], weights=weights, delta=delta, budget=budget, deadline=deadline)
    if isinstance(found, str):
        assert found == again
        return
    assert [(order[i], *rest) for i, *rest in again] == found  # the order of the list does not matter
    assert sum(taken for _, taken, _ in found) == layers
    assert len({i for i, _, _ in found}) == len(found)
    assert sum(reward for _, _, reward in found) <= budget + 1e-9
    for i, taken, reward in found:
        assert 1 <= taken <= l[i]
        assert T[i] <= deadline
        assert reward >= P[i] / l[i] * taken - 1e-9  # so its utility is not negative either: true cost <= price


@pytest.mark.parametrize("setting, why", [
    (dict(budget=3), "round 1, 9 of 9 layers left: of 2 bids 2 ask more than the 3.000 cents left of BUDGET, 0 take"),
    (dict(budget=99, deadline=2), "round 1, 9 of 9 layers left: of 2 bids 0 ask more than the 99.000 cents left of "
                                  "BUDGET, 2 take longer than DEADLINE"),
    (dict(), "the offers add up to 8 of 17 layers"),
])
def test_why_there_is_none(setting, why):
    found = auction(9 if setting else 17, [(4, 4, 3), (4, 4, 3)], **setting)
    assert why in found


def test_budget_and_deadline_are_for_each_task():
    offers = [(4, 4, 9), (4, 5, 30), (4, 7, 31)]
    assert auction(4, offers, tasks=3, budget=2, deadline=10, weights=(0, 0, 0)) == [(0, 4, 5)]  # the third: too late
    assert "of 3 bids 3 ask more than the 3.000 cents" in auction(4, offers, tasks=3, budget=1)
    assert auction(4, offers, tasks=4, budget=1, deadline=10)[0][0] == 0


# The report of the rounds ---------------------------------------------------------------------------------------------


def test_the_report_tells_each_round():
    _, notes = allocate(6, [(4, 2, 4), (4, 6, 4)])
    assert notes == [
        "round 1: 6 layers and 1000000000.000 cents left; valid bids: 2; scores",
        "    D0 0.000, D1 0.600",
        "    D0 wins 4 of the 4 layers it offered at 2.000 cents, for 2.000 cents",
        "round 2: 2 layers and 999999998.000 cents left; valid bids: 1; scores",
        "    D1 0.000",
        "    D1 wins 2 of the 4 layers it offered at 6.000 cents, for 3.000 cents"]


def test_the_report_names_the_bids_that_are_not_valid_and_the_rule():
    _, notes = allocate(6, [(4, 2, 9), (4, 5, 4), (1, 6, 8), (4, 1, 4), (4, 4, 4)], budget=5, deadline=8)
    assert notes[:4] == [
        "round 1: 6 layers and 5.000 cents left; valid bids: 3; scores",
        "    D3 0.000, D4 0.450, D1 0.600",
        "    not valid, more than is left of BUDGET: D2",
        "    not valid, longer than DEADLINE: D0"]
    assert notes[5:9] == [
        "round 2: 2 layers and 4.000 cents left; valid bids: 1; scores",
        "    D4 0.000",
        "    not valid, more than is left of BUDGET: D1, D2",
        "    not valid, longer than DEADLINE: D0"]


def test_of_many_bids_the_first_are_told():
    _, notes = allocate(1, [(1, 1, 1)] * (common.TABLE_ROWS + 1) + [(1, 1, 9)] * (common.TABLE_ROWS + 1), deadline=8)
    assert notes[1] == "    " + ", ".join(f"D{k} 0.000" for k in range(common.TABLE_ROWS)) + ", ..."
    first = common.TABLE_ROWS + 1
    late = [f"D{k}" for k in range(first, first + common.TABLE_ROWS)]
    assert notes[2] == f"    not valid, longer than DEADLINE: {', '.join(late)}, ..."
