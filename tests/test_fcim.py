"""FCIM: equal to a second, plain reading of the rules, and what must hold of every auction."""
from fractions import Fraction
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM


def table(offers):
    """Bids from (layers, price, computation time); each device's true cost is 0.8 of its price."""
    l, P, T = zip(*offers)
    return pd.DataFrame({"device": [f"D{k}" for k in range(len(offers))], "layers": l, "price": P,
                         "computation_time": T, "true_cost": [0.8 * price for price in P]})


def settings_of(weights=(0.1, 0.3, 0.6), delta=0.1, budget=1e9, deadline=1e9):
    return mock.patch.multiple(FCIM, WEIGHTS=weights, DELTA=delta, BUDGET=budget, DEADLINE=deadline)


def auction(layers, offers, **setting):
    """[(device, layers, reward)] of FCIM, or the line that says why there is none."""
    with settings_of(**setting):
        try:
            stages, _ = FCIM.allocate(layers=layers, bids=table(offers), delay=None, times=None, arrivals=None, seed=0)
        except common.NoAllocation as error:
            return str(error)
    return [(*stage["devices"], stage["layers"], stage["reward"]) for stage in stages]


def plain_auction(layers, offers, weights, delta, budget, deadline):
    """The rules of the mechanism one after another, in fractions: [(device, layers, reward)], or None."""
    offers = [tuple(map(Fraction, offer)) for offer in offers]
    alpha, beta, gamma = (Fraction(str(weight)) for weight in weights)
    delta, budget = Fraction(str(delta)), Fraction(budget)
    present, out, missing = list(range(len(offers))), [], layers
    while missing > 0:
        valid = [i for i in present if offers[i][1] <= budget and offers[i][2] <= deadline]
        if not valid:
            return None
        criteria = [{i: layers / offers[i][0] for i in valid}, {i: offers[i][2] / offers[i][0] for i in valid},
                    {i: offers[i][1] / offers[i][0] for i in valid}]
        score = dict.fromkeys(valid, 0)
        for weight, values in zip((alpha, beta, gamma), criteria):
            least, most = min(values.values()), max(values.values())
            for i in valid:
                if most > least:
                    score[i] += weight * (values[i] - least) / (most - least)
        per_layer = criteria[2]
        ranked = sorted(valid, key=lambda i: (score[i], per_layer[i], i))
        winner = ranked[0]
        l, P, _ = offers[winner]
        n, c = min(l, missing), per_layer[winner]
        average = sum(per_layer.values()) / len(valid)
        if len(valid) == 1:
            paid = c * n
        elif gamma > alpha + beta and n == l:
            paid = P
        elif gamma > alpha + beta or all(c <= other for other in per_layer.values()):
            paid = per_layer[ranked[1]] * n
        else:
            paid = max(per_layer[ranked[1]], c) * n - delta * n * (c - average)
        paid = max(paid, c * n)
        paid = min(paid, budget)
        out.append((winner, n, paid))
        present.remove(winner)
        missing -= n
        budget -= paid
    return out


weights = st.sampled_from([(0.1, 0.3, 0.6), (0.3, 0.1, 0.6), (0.6, 0.3, 0.1), (0.2, 0.6, 0.2), (0.7, 0.1, 0.8),
                           (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)])
offer = st.tuples(st.integers(1, 8), st.integers(0, 12), st.integers(0, 12))


@settings(max_examples=3000)
@given(st.lists(offer, min_size=1, max_size=7), st.integers(1, 30), weights, st.sampled_from([0, 0.1, 0.5, 2]),
       st.sampled_from([5, 20, 1000]), st.sampled_from([6, 1000]))
def test_fcim_equals_the_plain_rules(offers, layers, weights, delta, budget, deadline):
    found = auction(layers, offers, weights=weights, delta=delta, budget=budget, deadline=deadline)
    expected = plain_auction(layers, offers, weights, delta, budget, deadline)
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
@given(st.integers(0, 2 ** 32 - 1), weights, st.sampled_from([0, 0.1, 0.5, 2]))
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
    (dict(), "round 3, 9 of 17 layers left: of 0 bids"),
])
def test_why_there_is_none(setting, why):
    found = auction(9 if setting else 17, [(4, 4, 3), (4, 4, 3)], **setting)
    assert why in found


@pytest.mark.parametrize("name, value", [
    ("BUDGET", -1), ("DEADLINE", "soon"), ("DELTA", None), ("WEIGHTS", (1, 2, "3")), ("WEIGHTS", (1, 2)),
    ("WEIGHTS", 1)])
def test_a_wrong_setting_is_told(name, value):
    with mock.patch.object(FCIM, name, value), pytest.raises(common.UserError, match=name):
        FCIM.allocate(layers=2, bids=table([(2, 1, 1)]))


def test_the_report_tells_each_round():
    with settings_of():
        _, report = FCIM.allocate(layers=6, bids=table([(4, 2, 4), (4, 6, 4)]))
    assert report[0] == "round 1: 6 layers and 1000000000.000 cents left; valid bids: 2; scores"
    assert report[1].strip() == "D0 0.000, D1 0.600"
    assert report[2].strip() == "D0 wins 4 of the 4 layers it offered at 2.000 cents, for 2.000 cents"
    assert report[5].strip() == "D1 wins 2 of the 4 layers it offered at 6.000 cents, for 3.000 cents"
