"""FCIM_links and FCIM_critical, ours: the auction is FCIM's, the links add up to least, true prices are best."""
import naive
import numpy as np
import pytest
from conftest import files, metrics, part_of
from test_fcim import AMPLE, table

import common
import FCIM
from reproduce import FCIM_critical, FCIM_links


def random_links(draw, n):
    """Symmetric links over n devices and the client; of a few values now and then, so that sums are equal."""
    delay = draw.choice([0, 0.02, 1.5, 3], (n + 1, n + 1)) if draw.random() < 0.5 else draw.rayleigh(3, (n + 1, n + 1))
    delay = np.triu(delay, 1)
    return delay + delay.T


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


def allocate(module, layers, offers, delay=None, **setting):
    """Stages and notes of a module for a list of a single task; no stages, where it finds none."""
    case = dict(layers=layers, bids=table(offers), times=np.ones((1, len(offers))), delay=delay)
    try:
        return module.allocate(**case, **setting)
    except common.NoAllocation as error:
        return [], str(error)


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


# The order of the links -----------------------------------------------------------------------------------------------


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
        delay, setting = random_links(draw, n), dict(budget=AMPLE, deadline=AMPLE)
        won, notes = allocate(FCIM, layers, offers, **setting)
        placed, more = allocate(FCIM_links, layers, offers, delay, **setting)
        path = [i for stage in placed for i in stage["devices"]]
        before = [i for stage in won for i in stage["devices"]]
        assert sorted(placed, key=lambda stage: before.index(stage["devices"][0])) == won
        assert naive.way(delay, path) <= naive.way(delay, before)
        assert more[:-1] == notes
        assert f"{naive.way(delay, path) / 1e6:.3f} s" in more[-1]


# Myerson's payments ---------------------------------------------------------------------------------------------------


def auction_case(layers, offers, setting):
    """The arguments of FCIM.auction."""
    return FCIM_critical.auction_case(layers, table(offers), 1, **setting)


def asking(i, x, case):
    """The case where bid i asks x a layer."""
    return FCIM_critical.with_bid(case, i, P=x * case["l"][i])


def layers_at(i, x, case):
    """Layers that bid i wins asking x a layer, by FCIM's auction."""
    try:
        rounds = FCIM.auction(**asking(i, x, case))
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


def test_no_price_gains_by_more_than_rounding_where_n_never_grows():
    tested = 0
    for seed in range(part_of(200, 10)):
        layers, offers, setting = random_case(seed)
        case = auction_case(layers, offers, setting)
        i = seed % len(offers)
        l, P, _ = offers[i]
        cost = P / l
        honest = FCIM_critical.layers_won(i, case)
        taken = {x: layers_at(i, x, case) for x in sorted([cost, *(cost * k for k in np.geomspace(0.3, 6, 25))])}
        if grows(list(taken.values())) or not FCIM_critical.never_grows(honest):
            continue
        tested += 1
        utility = FCIM_critical.payment(cost, taken[cost], honest) - cost * taken[cost]
        assert utility >= 0
        for k, (x, n) in enumerate(taken.items()):  # all else equal, n(x) is the same: found anew for a part of them
            won = FCIM_critical.layers_won(i, asking(i, x, case)) if k * 3 == seed % 75 else honest
            assert FCIM_critical.payment(x, n, won) - cost * n <= utility + 1e-6
    assert tested >= part_of(180, 10)


def test_the_payments_change_rewards_alone():
    for seed in range(part_of(100, 10)):
        layers, offers, setting = random_case(seed)
        papers, notes = allocate(FCIM, layers, offers, **setting)
        stages, more = allocate(FCIM_critical, layers, offers, **setting)
        if not papers:
            assert (stages, more) == ([], notes)
            continue
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
    stages, notes = allocate(FCIM_critical, layers, offers, weights=(0, 0, 1), budget=10)
    assert [stage["reward"] for stage in stages] == pytest.approx(rewards, abs=1e-6)
    assert f"{sum(rewards):.3f} cents in all, {beyond:.3f} beyond BUDGET" in notes[-2]
    assert "and so true prices are best" in notes[-1]


@pytest.mark.parametrize("seed", [41, 44])
def test_a_draw_for_which_truthfulness_is_not_proven_is_told(seed):
    layers, offers, setting = random_case(seed)
    case = auction_case(layers, offers, setting)
    _, notes = allocate(FCIM_critical, layers, offers, **setting)
    curves = {f"D{i}": FCIM_critical.layers_won(i, case) for i in range(len(offers))}
    names = [name for name, curve in curves.items() if grows([n for _, n in curve])]
    assert names
    assert f"asking more would win {', '.join(names)} more layers; true prices are not proven best" in notes[-1]
    for name in names:
        assert all(layers_at(int(name[1:]), x, case) == n for x, n in curves[name])
