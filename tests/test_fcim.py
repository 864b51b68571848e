"""FCIM equals a second, plain reading of its rules; ours, FCIM_links and FCIM_critical, change one thing each."""
import naive
import numpy as np
import pandas as pd
import pytest
from conftest import files, metrics, part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM
from reproduce import FCIM_critical, FCIM_links

AMPLE = 1e9  # a budget or deadline that leaves no bid out
DEFAULT = dict(weights=FCIM.WEIGHTS, delta=FCIM.DELTA, budget=AMPLE, deadline=AMPLE)
WEIGHTS = [(0.1, 0.3, 0.6), (0.3, 0.1, 0.6), (0.6, 0.3, 0.1), (0.2, 0.6, 0.2), (0.7, 0.1, 0.8), (1, 0, 0), (0, 1, 0),
           (0, 0, 1), (0, 0, 0)]


def table(offers):
    """Bids from (layers, price, computation time)."""
    bids = pd.DataFrame(offers, columns=["layers", "price", "computation_time"])
    return bids.assign(device=[f"D{k}" for k in range(len(offers))])


def allocate(layers, offers, module=FCIM, delay=None, tasks=1, budget=AMPLE, deadline=AMPLE, **setting):
    """Stages and notes of FCIM or one of ours; budget and deadline: for each of the tasks."""
    times = np.ones((tasks, len(offers)))
    return module.allocate(layers=layers, bids=table(offers), times=times, delay=delay, budget=budget,
                           deadline=deadline, **setting)


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


# Ours: FCIM_links and FCIM_critical -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FCIM_links", "FCIM_critical"])
def test_each_runs_by_itself_as_an_allocation_script(name, run):
    assert run("FCIM")[0] == 0
    before = files("results")
    status, out, err = run(f"reproduce/{name}")
    assert (status, err) == (0, "")
    assert f"{name}: {len(FCIM.tasks)} tasks" in out
    assert files("results") == sorted([*before, *(file.replace("FCIM", name) for file in before)])
    ours, papers = metrics(name), metrics("FCIM")
    assert ours.index.tolist() == papers.index.tolist()
    assert ours["algorithm"] == name
    for key in ("weights", "delta", "budget", "deadline", "devices", "computation_time", "fairness_layers"):
        assert ours[key] == papers[key]


def random_links(draw, n):
    """Symmetric links over n devices and the client; of a few values now and then, so that sums are equal."""
    delay = draw.choice([0, 0.02, 1.5, 3], (n + 1, n + 1)) if draw.random() < 0.5 else draw.rayleigh(3, (n + 1, n + 1))
    delay = np.triu(delay, 1)
    return delay + delay.T


def test_the_order_equals_that_of_brute_force_and_beyond_twelve_winners_is_that_in_which_they_won():
    draw = np.random.default_rng(2)
    for k in range(part_of(300, 10)):
        n, others = 1 + k % 6 if k < part_of(280, 10) else 7, draw.integers(4)
        delay = random_links(draw, n + others)
        won = draw.permutation(n + others)[:n].tolist()
        assert FCIM_links.by_links(won, delay) == (naive.least_way(delay, won), "proven least")
    won = draw.permutation(13).tolist()
    assert FCIM_links.by_links(won, random_links(draw, 13)) == (won, "as won, as there are more than 12 winners")


def test_the_order_changes_no_winner_and_no_reward():
    draw = np.random.default_rng(5)
    for _ in range(part_of(40, 10)):
        n = draw.integers(1, 16)
        offers = list(zip(draw.integers(1, 9, n).tolist(), draw.uniform(1, 9, n), draw.uniform(1, 9, n)))
        layers = int(draw.integers(1, sum(l for l, _, _ in offers) + 1))
        delay = random_links(draw, n)
        won, notes = allocate(layers, offers)
        placed, more = allocate(layers, offers, FCIM_links, delay)
        path = [i for stage in placed for i in stage["devices"]]
        before = [i for stage in won for i in stage["devices"]]
        assert sorted(placed, key=lambda stage: before.index(stage["devices"][0])) == won
        assert naive.way(delay, path) <= naive.way(delay, before)
        assert more[:-1] == notes
        assert f"{naive.way(delay, path) / 1e6:.3f} s" in more[-1]


def random_case(seed):
    """Layers, offers and settings: bids that are alike or not at all, a budget that is ample or not."""
    draw = np.random.default_rng(seed)
    n = draw.integers(2, 8)
    l = draw.integers(1, 16, n)
    P, T = (l * (draw.uniform(1, 1.5, n) if seed % 2 else draw.uniform(0.1, 2, n)) for _ in "PT")
    layers = max(1, int(l.sum() * draw.uniform(0.3, 0.95)))
    setting = dict(weights=[(0.1, 0.3, 0.6), (0.1, 0.6, 0.3), (0.6, 0.3, 0.1)][seed % 3], delta=0.1,
                   budget=float(P.sum() * draw.choice([0.8, 1.5, 3])), deadline=AMPLE)
    return layers, list(zip(l.tolist(), P.tolist(), T.tolist())), setting


def auction_case(layers, offers, setting):
    """The arguments of FCIM.auction."""
    return FCIM_critical.auction_case(layers, table(offers), 1, **setting)


def layers_at(i, x, case):
    """Layers that bid i wins asking x a layer, by FCIM's auction."""
    try:
        rounds = FCIM.auction(**FCIM_critical.with_bid(case, i, P=x * case["l"][i]))
    except common.NoAllocation:
        return 0
    return sum(won.layers for won in rounds if won.winner == i)


def grows(won):
    return any(after > before for before, after in zip(won, won[1:]))


def test_the_integral_equals_that_by_a_fine_grid():
    tested = seed = 0
    while tested < part_of(120, 10):
        seed += 1
        layers, offers, setting = random_case(seed)
        case = auction_case(layers, offers, setting)
        i = seed % len(offers)
        l, P, _ = offers[i]
        n = layers_at(i, P / l, case)
        step = (setting["budget"] - P) / l / 150
        won = [layers_at(i, P / l + (k + 0.5) * step, case) for k in range(150)]
        if n == 0 or grows([n, *won]):
            continue
        found = FCIM_critical.payment(P / l, n, FCIM_critical.layers_won(i, case))
        assert found == pytest.approx(P / l * n + step * sum(won), abs=step * n / 2 + 1e-7)
        assert found >= P / l * n
        tested += 1


def test_the_payments_change_rewards_alone():
    for seed in range(part_of(100, 10)):
        layers, offers, setting = random_case(seed)
        try:
            papers, notes = allocate(layers, offers, **setting)
        except common.NoAllocation:
            continue
        stages, more = allocate(layers, offers, FCIM_critical, **setting)
        assert [dict(stage, reward=0) for stage in stages] == [dict(stage, reward=0) for stage in papers]
        for stage in stages:
            l, P, _ = offers[stage["devices"][0]]
            assert P / l * stage["layers"] <= stage["reward"] <= setting["budget"] * (1 + 1e-9)
        assert more[:-2] == notes


@pytest.mark.parametrize("layers, offers, rewards, beyond", [
    (4, [(4, 4, 4), (4, 6, 4)], [6], 0),  # D0 wins all layers up to the 1.5 cents a layer of D1, then none
    (8, [(4, 2, 4), (4, 3, 4)], [7, 8], 5),  # none can be spared: each could have asked what the budget leaves
])
def test_payments_by_hand(layers, offers, rewards, beyond):
    stages, notes = allocate(layers, offers, FCIM_critical, weights=(0, 0, 1), budget=10)
    assert [stage["reward"] for stage in stages] == pytest.approx(rewards, abs=1e-6)
    assert f"{sum(rewards):.3f} cents in all, {beyond:.3f} beyond BUDGET" in notes[-2]
    assert "and so true prices are best" in notes[-1]


@pytest.mark.parametrize("seed", [41, 44])
def test_a_draw_for_which_truthfulness_is_not_proven_is_told(seed):
    layers, offers, setting = random_case(seed)
    case = auction_case(layers, offers, setting)
    _, notes = allocate(layers, offers, FCIM_critical, **setting)
    curves = {f"D{i}": FCIM_critical.layers_won(i, case) for i in range(len(offers))}
    names = [name for name, curve in curves.items() if grows([n for _, n in curve])]
    assert names
    assert f"asking more would win {', '.join(names)} more layers; true prices are not proven best" in notes[-1]
    for name in names:
        assert all(layers_at(int(name[1:]), x, case) == n for x, n in curves[name])
