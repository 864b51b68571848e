"""FCIM: equal to a second, plain reading of the rules, and what must hold of every auction."""
import itertools
import math
import re
import timeit
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


def allocate(layers, offers, tasks=1, weights=(0.1, 0.3, 0.6), delta=0.1, budget=1e9, deadline=1e9, **settings):
    """Stages and notes of FCIM; budget and deadline: for each of the tasks."""
    with mock.patch.multiple(FCIM, DELTA=delta, BUDGET=budget, DEADLINE=deadline):
        return FCIM.allocate(layers=layers, bids=table(offers), arrivals=None, seed=0, weights=weights,
                             **{"times": np.ones((tasks, len(offers))), "delay": None, **settings})


def auction(layers, offers, **setting):
    """[(device, layers, reward)] of FCIM, or the line that says why there is none."""
    try:
        stages, _ = allocate(layers, offers, **setting)
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


WRONG = [("BUDGET", -1), ("BUDGET", True), ("DEADLINE", "soon"), ("DEADLINE", float("nan")), ("DELTA", None),
         ("DELTA", -1), ("weights", (1, 2, "3")), ("weights", (1, 2)), ("weights", 1), ("weights", None),
         ("weights", "123"), ("weights", (1, -1, 0)), ("order", "best"), ("order", None), ("order", ["won"]),
         ("payment", "fair"), ("payment", None), ("payment", 1)]


@pytest.mark.parametrize("name, value", WRONG)
def test_a_wrong_setting_is_told(name, value, monkeypatch):
    monkeypatch.setattr(FCIM, "auction", None)  # nothing is computed before
    if name.isupper():
        monkeypatch.setattr(FCIM, name, value)
    keywords = {} if name.isupper() else {name: value}
    with pytest.raises(common.UserError, match=name.upper()) as error:
        FCIM.allocate(layers=2, bids=table([(2, 1, 1)]), times=np.ones((1, 1)), delay=np.ones((2, 2)), **keywords)
    assert "\n" not in str(error.value)


def test_the_report_tells_each_round():
    _, notes = allocate(6, [(4, 2, 4), (4, 6, 4)])
    assert notes[0] == "round 1: 6 layers and 1000000000.000 cents left; valid bids: 2; scores"
    assert notes[1].strip() == "D0 0.000, D1 0.600"
    assert notes[2].strip() == "D0 wins 4 of the 4 layers it offered at 2.000 cents, for 2.000 cents"
    assert notes[5].strip() == "D1 wins 2 of the 4 layers it offered at 6.000 cents, for 3.000 cents"


# ORDER "links" --------------------------------------------------------------------------------------------------------


def way(delay, order):
    """Links of a task, client to client, in microseconds, as integers of Python."""
    path = [len(delay) - 1, *order, len(delay) - 1]
    return sum(round(float(delay[i, j]) * 1e6) for i, j in zip(path, path[1:]))


def random_links(draw, n):
    """Symmetric links over n devices and the client; of a few values only now and then, so that sums are equal."""
    delay = draw.choice([0, 0.02, 1.5, 3], (n + 1, n + 1)) if draw.random() < 0.5 else draw.rayleigh(3, (n + 1, n + 1))
    delay = np.triu(delay, 1)
    return delay + delay.T


@settings(max_examples=300)
@given(st.integers(1, 7), st.integers(0, 3), st.integers(0, 2 ** 32 - 1))
def test_order_by_links_equals_brute_force(n, others, seed):
    draw = np.random.default_rng(seed)
    delay = random_links(draw, n + others)
    path = draw.permutation(n + others)[:n].tolist()
    best = min(itertools.permutations(range(n)), key=lambda order: (way(delay, [path[i] for i in order]), order))
    assert FCIM.by_links(path, delay)[0] == [path[i] for i in best]  # of equal ones the first, compared as lists


@settings(max_examples=30)
@given(st.integers(8, 12), st.integers(0, 2 ** 32 - 1))
def test_no_exchange_betters_twelve_and_insertion_is_no_worse_than_the_order_won(n, seed):
    draw = np.random.default_rng(seed)
    delay = random_links(draw, n)
    path = draw.permutation(n).tolist()
    found, proof = FCIM.by_links(path, delay)
    inserted, doubt = FCIM.by_links(path, delay, exact=5)
    assert (proof, doubt) == ("proven least", "best insertion, not proven least")
    assert sorted(found) == sorted(inserted) == sorted(path)
    assert way(delay, found) <= way(delay, inserted) <= way(delay, path)
    for i, j in itertools.combinations(range(n), 2):
        exchanged, reversed_ = found[:], found[:i] + found[i:j + 1][::-1] + found[j + 1:]
        exchanged[i], exchanged[j] = found[j], found[i]
        assert way(delay, found) <= min(way(delay, exchanged), way(delay, reversed_))


def test_order_by_links_is_quick():
    delay = random_links(np.random.default_rng(1), 12)
    seconds = min(timeit.repeat(lambda: FCIM.by_links(list(range(12)), delay), number=1, repeat=5))
    assert seconds < 0.05


@settings(max_examples=100)
@given(st.integers(0, 2 ** 32 - 1))
def test_the_order_changes_no_winner_and_no_reward(seed):
    draw = np.random.default_rng(seed)
    n = draw.integers(1, 16)
    offers = list(zip(draw.integers(1, 9, n).tolist(), draw.uniform(1, 9, n), draw.uniform(1, 9, n)))
    layers = int(draw.integers(1, sum(l for l, _, _ in offers) + 1))
    delay = random_links(draw, n)
    won, notes = allocate(layers, offers, delay=delay)
    placed, more = allocate(layers, offers, delay=delay, order="links")
    path = [i for stage in placed for i in stage["devices"]]
    before = [i for stage in won for i in stage["devices"]]
    assert sorted(placed, key=lambda stage: before.index(stage["devices"][0])) == won
    assert way(delay, path) <= way(delay, before)
    assert more[:-1] == notes
    proof = "proven least" if len(won) <= 12 else "best insertion, not proven least"
    assert more[-1] == (f"order of the links: {way(delay, path) / 1e6:.3f} s of them a task ({proof}), "
                        f"{way(delay, before) / 1e6:.3f} s in the order won")


# PAYMENT "critical" ---------------------------------------------------------------------------------------------------


def random_case(seed):
    """Layers, offers and settings: bids that are alike or not at all, a budget that is ample or not."""
    draw = np.random.default_rng(seed)
    n = draw.integers(2, 8)
    l = draw.integers(1, 16, n)
    P, T = (l * (draw.uniform(1, 1.5, n) if seed % 2 else draw.uniform(0.1, 2, n)) for _ in "PT")
    layers = max(1, int(l.sum() * draw.uniform(0.3, 0.95)))
    budget = P.sum() * draw.choice([0.8, 1.5, 3])
    priorities = [(0.1, 0.3, 0.6), (0.1, 0.6, 0.3), (0.6, 0.3, 0.1)][seed % 3]
    return layers, list(zip(l.tolist(), P.tolist(), T.tolist())), dict(weights=priorities, budget=budget)


def won_at(i, x, layers, offers, setting):
    """Layers that bid i wins asking x a layer, by FCIM's auction."""
    l, P, T = map(np.array, zip(*offers))
    try:
        rounds = FCIM.auction(layers, l, np.where(np.arange(len(l)) == i, x * l, P), T, setting["weights"],
                              setting["budget"], 1e9)
    except common.NoAllocation:
        return 0
    return sum(n for winner, n, *_ in rounds if winner == i)


def curve(i, x, layers, offers, setting):
    """What layers_won finds of bid i, which asks x a layer."""
    l, P, T = map(np.array, zip(*offers))
    P[i] = x * l[i]
    return FCIM.layers_won(i, layers, l, P, T, setting["weights"], setting["budget"], 1e9)


def grows(won):
    return any(after > before for before, after in zip(won, won[1:]))


def test_the_integral_equals_that_by_a_fine_grid():
    tested = seed = 0
    while tested < 200:
        seed += 1
        layers, offers, setting = random_case(seed)
        i = seed % len(offers)
        l, P, _ = offers[i]
        n = won_at(i, P / l, layers, offers, setting)
        step = (setting["budget"] - P) / l / 150
        if n == 0:
            continue
        won = [won_at(i, P / l + (k + 0.5) * step, layers, offers, setting) for k in range(150)]
        if grows([n, *won]):
            continue
        found = FCIM.critical(P / l, n, curve(i, P / l, layers, offers, setting))
        assert found == pytest.approx(P / l * n + step * sum(won), abs=step * n / 2 + 1e-7)
        assert found >= P / l * n
        tested += 1


def test_no_price_gains_by_more_than_rounding_where_n_never_grows():
    auctions = gained_by_paper = 0
    for seed in range(330):
        layers, offers, setting = random_case(seed)
        i = seed % len(offers)
        l, P, T = offers[i]
        cost = P / l
        n = won_at(i, cost, layers, offers, setting)
        honest = curve(i, cost, layers, offers, setting)
        prices = [cost * k for k in np.geomspace(0.3, 6, 25)]
        taken = {x: won_at(i, x, layers, offers, setting) for x in sorted([cost, *prices])}
        if grows(list(taken.values())) or grows([n for _, n in honest]):
            continue
        auctions += 1
        utility = FCIM.critical(cost, n, honest) - cost * n
        assert utility >= 0
        for k, x in enumerate(prices):  # all else equal, n(x) is the same: it is found anew for a part of them
            won = curve(i, x, layers, offers, setting) if k * 3 == seed % 75 else honest
            assert FCIM.critical(x, taken[x], won) - cost * taken[x] <= utility + 1e-6
        paid = []
        for price in P, 1.2 * P:
            found = auction(layers, [*offers[:i], (l, price, T), *offers[i + 1:]], **setting)
            paid.append(sum(reward - cost * n for j, n, reward in found if j == i) if isinstance(found, list) else 0)
        gained_by_paper += paid[1] > paid[0] + 1e-6
    assert auctions >= 300
    assert gained_by_paper > 10  # so there is something to find


@settings(max_examples=50)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from(["won", "links"]))
def test_payment_changes_rewards_alone(seed, order):
    layers, offers, setting = random_case(seed)
    setting.update(order=order, delay=random_links(np.random.default_rng(seed), len(offers)))
    try:
        paper, notes = allocate(layers, offers, **setting)
    except common.NoAllocation as error:
        with pytest.raises(common.NoAllocation, match="^" + re.escape(str(error))):
            allocate(layers, offers, payment="critical", **setting)
        return
    stages, more = allocate(layers, offers, payment="critical", **setting)
    assert [dict(stage, reward=0) for stage in stages] == [dict(stage, reward=0) for stage in paper]
    for stage in stages:
        l, P, _ = offers[stage["devices"][0]]
        assert P / l * stage["layers"] <= stage["reward"] <= setting["budget"] * (1 + 1e-9)
    total = math.fsum(stage["reward"] for stage in stages)
    excess = max(total - setting["budget"], 0)
    rounds = len(notes) - (order == "links")
    assert more[:rounds] == notes[:rounds]
    assert more[rounds] == f"critical payments instead: {total:.3f} cents in all, {excess:.3f} beyond BUDGET"
    assert more[rounds + 2:] == notes[rounds:]


def test_critical_payments_by_hand():
    # D1 asks 1.5 a layer: D0 (1 a layer) wins all of 4 layers up to that price, then none
    _, notes = allocate(4, [(4, 4, 4), (4, 6, 4)], weights=(0, 0, 1), budget=10, payment="critical")
    stages, _ = allocate(4, [(4, 4, 4), (4, 6, 4)], weights=(0, 0, 1), budget=10, payment="critical")
    assert stages[0]["reward"] == pytest.approx(6, abs=1e-6)
    assert notes[-2:] == ["critical payments instead: 6.000 cents in all, 0.000 beyond BUDGET",
                          "asking more wins no device more layers, as far as tried"]
    # nobody can be spared, so that each is paid what the budget admits: together more than it
    _, notes = allocate(8, [(4, 2, 4), (4, 3, 4)], weights=(0, 0, 1), budget=10, payment="critical")
    assert notes[-2] == "critical payments instead: 15.000 cents in all, 5.000 beyond BUDGET"


def test_a_draw_for_which_truthfulness_is_not_proven_is_told():
    told = []
    for seed in (4, 8, 10, 14, *range(44, 400, 6)):
        layers, offers, setting = random_case(seed)
        try:
            _, notes = allocate(layers, offers, payment="critical", **setting)
        except common.NoAllocation:
            continue
        if notes[-1] == "asking more wins no device more layers, as far as tried":
            continue
        found = {f"D{i}": curve(i, P / l, layers, offers, setting) for i, (l, P, _) in enumerate(offers)}
        names = [name for name, won in found.items() if grows([n for _, n in won])]
        assert notes[-1] == ("truthfulness is not proven for this draw: asking more would win "
                             f"{', '.join(names)} more layers")
        for name in names:
            assert all(won_at(int(name[1:]), x, layers, offers, setting) == n for x, n in found[name])
        told.append(seed)
        if len(told) == 2:
            return
    raise AssertionError("no such draw")


def test_critical_payments_are_quick():
    draw = np.random.default_rng(3)
    l = draw.integers(6, 16, 12)
    offers = list(zip(l.tolist(), draw.uniform(0.02, 0.1, 12) * l, draw.uniform(2, 6, 12) * l))
    seconds = min(timeit.repeat(lambda: allocate(70, offers, payment="critical", budget=5), number=1, repeat=3))
    assert seconds < 1
