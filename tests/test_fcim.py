"""FCIM: equal to a second, plain reading of the rules, and what must hold of every auction."""
import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM

AMPLE = 1e9  # a budget or deadline that leaves no bid out
DEFAULT = dict(weights=FCIM.WEIGHTS, delta=FCIM.DELTA, budget=AMPLE, deadline=AMPLE)
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


# By hand --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers, offers, setting, why", [
    (9, [(4, 4, 3), (4, 4, 3)], dict(budget=3),
     "round 1, 9 of 9 layers left: of 2 bids 2 ask more than the 3.000 cents left of BUDGET, 0 take"),
    (17, [(4, 4, 3), (4, 4, 3)], {}, "the offers add up to 8 of 17 layers"),
    (5, [(4, 4, 2), (4, 6, 2)], dict(weights=(0.1, 0.8, 0.1), budget=8),  # a generous reward leaves too little
     "1 of 5 layers left: of 1 bids 1 ask more than the 2.000 cents left of BUDGET, 0 take longer"),
    (4, [(4, 1 + 2e-9, 1)], dict(budget=1), "of 1 bids 1 ask more"),  # beyond 1e-9 of a limit
    (4, [(4, 1, 1 + 2e-9)], dict(deadline=1), "1 take longer than DEADLINE"),
])
def test_why_there_is_none(layers, offers, setting, why):
    assert why in auction(layers, offers, **setting)


@pytest.mark.parametrize("layers, offers, setting, winners", [
    (2, [(2, 4, 4), (2, 4, 4)], {}, [0]),  # a tie: the first
    (2, [(2, 8, 2), (2, 4, 4)], dict(weights=(0, 0.5, 0.5)), [1]),  # a tie: the cheaper
    (8, [(3, 0.3, 3), (5, 0.5, 5)], {}, [1, 0]),  # equal prices and times a layer: the larger offer
    (6, [(3, 0.1, 1), (7, 0.7 / 3, 7 / 3)], {}, [1]),  # equal to nine digits, thirds
    (3, [(1, 0.1, 1), (1, 0.1, 1), (1, 0.1, 1)], dict(budget=0.1, tasks=3), [0, 1, 2]),  # 0.3 cents pay all three
    (4, [(4, 1, 12.3)], dict(deadline=4.1, tasks=3), [0]),  # 3 x 4.1 s are 12.3 s
    (4, [(4, 1 + 1e-9, 1 + 1e-9)], dict(budget=1, deadline=1), [0]),  # within 1e-9 of the limits
    (2, [(3, 0.30000001, 3), (3, 0.3, 3)], dict(weights=(0, 0, 1)), [1]),  # in the ninth digit the second is cheaper
    (2, [(3, 0.3000000001, 3), (3, 0.3, 3)], dict(weights=(0, 0, 1)), [0]),  # beyond nine digits: equal
    (2, [(7, 0.6, 1), (7, 0.5, 2), (7, 0.7, 0)], dict(weights=(0, 0.5, 0.5)), [1]),  # all score 0.5: the cheapest
    (10, [(30, 3, 3.0000000150000004), (10, 1, 1.000000005)], dict(weights=(0, 1, 0)), [0]),  # equal in twelve digits
])
def test_who_wins_is_decided_by_no_rounding(layers, offers, setting, winners):
    found = auction(layers, offers, **setting)
    assert [row[0] for row in found] == winners
    assert [row[0] for row in naive.fcim(layers, offers, **{**DEFAULT, **setting})] == winners


# The report of the rounds ---------------------------------------------------------------------------------------------


def test_the_report_tells_each_round():
    _, notes = allocate(6, [(4, 2, 9), (4, 5, 4), (1, 6, 8), (4, 1, 4), (4, 4, 4)], budget=5, deadline=8)
    assert notes == [
        "round 1: 6 layers and 5.000 cents left; valid bids: 3; scores",
        "    D3 0.000, D4 0.450, D1 0.600",
        "    not valid, more than is left of BUDGET: D2",
        "    not valid, longer than DEADLINE: D0",
        "    D3 wins 4 of the 4 layers it offered at 1.000 cents, for 1.000 cents",
        "round 2: 2 layers and 4.000 cents left; valid bids: 1; scores",
        "    D4 0.000",
        "    not valid, more than is left of BUDGET: D1, D2",
        "    not valid, longer than DEADLINE: D0",
        "    D4 wins 2 of the 4 layers it offered at 4.000 cents, for 2.000 cents"]


def test_of_many_bids_the_first_are_told():
    most = common.TABLE_ROWS
    _, notes = allocate(1, [(1, 1, 1)] * (most + 1) + [(1, 1, 9)] * most, deadline=8)
    assert notes[1] == "    " + ", ".join(f"D{k} 0.000" for k in range(most)) + ", ..."
    late = ", ".join(f"D{k}" for k in range(most + 1, 2 * most + 1))
    assert notes[2] == f"    not valid, longer than DEADLINE: {late}"


# Equal to the plain rules, and what holds of every auction ------------------------------------------------------------


def few_whole(draw):
    """Bids of few whole numbers: many are equal, many are 0."""
    return int(draw.integers(1, 9)), int(draw.integers(13)), int(draw.integers(13))


def round_decimals(draw):
    """Bids at round prices and times a layer: equal ones whose quotients differ as floats, 0.3 / 3 and 0.5 / 5."""
    l = int(draw.integers(1, 15))
    return l, round(l * float(draw.choice([0.1, 0.2, 0.3, 0.7])), 1), round(l * float(draw.choice([0.3, 1.1, 1.2])), 1)


def six_digits(draw):
    """Bids as they are drawn: real values in six digits, the time of a layer equal within a type."""
    l, time = int(draw.integers(1, 15)), draw.choice([1.83773, 4.70712])
    price = float(f"{l * time * draw.choice([0.00416667, 0.0111111]) * draw.uniform(1.1, 1.6):.6g}")
    return l, price, round(l * float(time), 8)


@settings(max_examples=part_of(300))
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
    assert sum(reward for _, _, reward in found) <= budget + 1e-9
    for i, taken, reward in found:
        assert 1 <= taken <= l[i]
        assert T[i] <= deadline
        assert reward >= P[i] / l[i] * taken - 1e-9  # so its utility is not negative either: true cost <= price


@pytest.mark.parametrize("bid, limits, deadlines", [
    (few_whole, [5, 20, 1000], [6, 1000]), (round_decimals, [0.3, 1.1, 4.7, 1000], [4.1, 7.7, 1000]),
    (six_digits, [0.3, 0.7, 1000], [30, 60, 1000])])
def test_fcim_equals_the_plain_rules(bid, limits, deadlines):
    draw, none = np.random.default_rng(1), 0
    for _ in range(part_of(1000)):
        offers = [bid(draw) for _ in range(draw.integers(1, 9))]
        layers, tasks = int(draw.integers(1, 1 + max(1, sum(l for l, _, _ in offers)))), int(draw.choice([1, 3]))
        setting = dict(weights=WEIGHTS[draw.integers(len(WEIGHTS))], delta=float(draw.choice([0, 0.1, 0.5, 2])),
                       budget=float(draw.choice(limits)), deadline=float(draw.choice(deadlines)), tasks=tasks)
        found, expected = auction(layers, offers, **setting), naive.fcim(layers, offers, **setting)
        if expected is None:
            assert isinstance(found, str)
            none += 1
        else:
            assert [row[:2] for row in found] == [row[:2] for row in expected]
            assert [row[2] for row in found] == pytest.approx([float(row[2]) for row in expected], rel=1e-9, abs=0)
    assert part_of(100) < none < part_of(600)
