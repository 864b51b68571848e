"""HexGen: layers placed and groups searched as a plain loop does, operators by hand, groupings near the best of all."""
import functools

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of

import common
import HexGen

# Groupings ------------------------------------------------------------------------------------------------------------


class Drawn:
    """A source of random numbers that gives these, each k out of n, in turn; a shuffle reverses."""

    def __init__(self, *numbers, edge=0.5):
        self.numbers = [(k + edge) / n for k, n in numbers]

    def random(self):
        return self.numbers.pop(0)

    def shuffle(self, one):
        one.reverse()


LINE = np.abs(np.subtract.outer([0, 1, 5, 6, 7.5, 9], [0, 1, 5, 6, 7.5, 9]))  # five devices on a line, and the client


@pytest.mark.parametrize("edge", [0.02, 0.97])  # the least and the most random number that is k out of n
@pytest.mark.parametrize("operator, a, other, drawn, expected", [
    ("merge", (0, 1), None, [], [[0, 1, 2], [4]]), ("merge", (2, 0), None, [], [[2], [4, 0, 1]]),
    ("merge", (1, 1), None, [], [[0, 1], [2], [4]]),
    ("split", (0, 1), None, [(0, 1)], [[1], [0], [2], [4]]), ("split", (1, 1), None, [], [[0, 1], [2], [4]]),
    ("move", (0, 2), None, [], [[2], [4], [0, 1]]), ("move", (2, 0), None, [], [[4], [0, 1], [2]]),
    ("reverse", (2, 0), None, [], [[4], [2], [0, 1]]), ("reverse", (0, 1), None, [], [[2], [0, 1], [4]]),
    ("swap", (0, 2), 2, [(1, 2), (0, 1)], [[0, 4], [2], [1]]), ("swap", (0, 1), "free", [(0, 2), (0, 1)],
                                                                [[3, 1], [2], [4]]),
    ("swap", (0, 1), "none free", [], [[0, 1], [2], [4]]),
    ("give", (0, 1), 1, [(1, 2)], [[0], [2, 1], [4]]), ("give", (0, 1), "free", [(0, 2)], [[1], [2], [4]]),
    ("take", (1, 0), 0, [(1, 2), (0, 2)], [[0], [2, 1], [4]]),
    ("take", (1, 0), 0, [(0, 2), (1, 2), (3, 4)], [[1], [2], [4], [0]]),
    ("take", (1, 0), "free", [(0, 1), (1, 2), (0, 4)], [[3], [0, 1], [2], [4]]),
    ("take", (0, 0), "none free", [(0, 2), (0, 2)], [[1], [2], [4]]),
    ("take", (0, 0), "none free", [(0, 2), (1, 2), (1, 4)], [[1], [0], [2], [4]]),
    ("pair_up", (0, 0), None, [(4, 5), (2, 4)], [[0, 1], [2], [3, 4], []]),
    ("pair_up", (0, 0), None, [(1, 5), (3, 4)], [[], [2], [4], [0, 1]])])
def test_operators(operator, a, other, drawn, expected, edge):
    groups, rng, (a, b) = [[0, 1], [2], [4]], Drawn(*drawn, edge=edge), a
    others = {"free": [3], "none free": []}
    used = list(others[other]) if other in others else groups[b if other is None else other]
    getattr(HexGen, operator)(groups=groups, a=a, b=b, one=groups[a], other=used, delay=LINE, rng=rng)
    assert groups == expected
    assert not rng.numbers
    if other in others:  # what leaves the groups is free
        assert sorted(i for group in (*groups, used) for i in group) == sorted([0, 1, 2, 4, *others[other]])


def test_a_child_is_made_by_a_chain_of_operators():
    """Which operator, two groups, the other group or the free devices, what the operator draws, one more or none."""
    assert len(set(HexGen.OPERATORS)) == 8
    merge, give, last = (0, 8), (5, 8), (0, 3)
    for drawn, child in (
            ([merge, (1, 2), (0, 2), (0, 2), last], [[2, 0, 1]]),
            ([give, (1, 2), (0, 2), (1, 2), (0, 1), last], [[0, 1]]),
            ([give, (1, 2), (0, 2), (0, 2), (0, 1), last], [[0, 1, 2]]),
            ([merge, (0, 2), (1, 2), (0, 2), (1, 3), give, (0, 1), (0, 1), (1, 2), (2, 3), last], [[0, 1]])):
        assert HexGen.mutated(((0, 1), (2,)), LINE, Drawn(*drawn)) == child
    for k, child in enumerate([[[2], [1, 0]], [[2, 1], [0]]]):  # a group of three is split in either place
        assert HexGen.mutated(((0, 1, 2),), LINE, Drawn((1, 8), (0, 1), (0, 1), (1, 2), (k, 2), last)) == child
    assert HexGen.mutated(((3,),), LINE, Drawn(give, (0, 1), (0, 1), (1, 2), (0, 1), last)) == [[3]]  # the last of all


def test_first_groupings():
    """Three devices, from the fastest: 2, 0, 1; the random routes, and those from the client on."""
    delay = np.array([[0, 1, 5, 4.0], [1, 0, 2, 3], [5, 2, 0, 9], [4, 3, 9, 0]])
    times = np.array([[2.0, 3, 1], [2, 4, 1]])
    found = HexGen.first_groupings(9, times, delay, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    routes = [rng.permutation([2, 0, 1]).tolist() for _ in range(4)] + [[2], [0, 2], [1, 0, 2]]
    alone = [[[i] for i in route] for route in routes]
    pairs = [[route[:2], route[2:]] if route[2:] else [route[:2]] for route in routes]
    assert found == alone + pairs + [[route] for route in routes]
    few = HexGen.first_groupings(2, times, delay, np.random.default_rng(0))
    assert all(sorted(i for group in groups for i in group) == [0, 2] for groups in few[:4])  # those that can hold most


@pytest.mark.parametrize("heads, kv_heads, sizes", [
    (16, 0, {1, 2, 4, 8, 16}), (12, 12, {1, 2, 3, 4, 6, 12}), (32, 8, {1, 2, 4, 8, 16, 32}), (12, 4, {1, 2, 4, 12}),
    (24, 2, {1, 2, 4, 6, 8, 12, 24}), (6, 1, {1, 2, 3, 6})])
def test_sizes_of_groups(heads, kv_heads, sizes):
    assert HexGen.group_sizes(model_of(heads, kv_heads)) == sizes


# Allocations ----------------------------------------------------------------------------------------------------------


def instance(rng, devices, layers, tight, workstations):
    """offers, delay, times, arrivals of random devices of two speeds; tight: the offers are just enough."""
    slow = rng.random(devices) < 0.5
    offers = rng.integers(1, layers + 1, devices)
    while offers.sum() < layers:
        offers[rng.integers(devices)] += 1
    while tight and offers.sum() > layers and (offers > 1).any():
        offers[rng.choice(np.flatnonzero(offers > 1))] -= 1
    number = int(rng.integers(1, 6))
    times = rng.uniform(0.3, 1.2, (number, 1)) * np.where(slow, 3, 1) * rng.uniform(0.9, 1.1, devices)
    delay = np.triu(rng.rayleigh(3, (devices + 1, devices + 1)), 1)
    if workstations:
        for i in range(0, devices - 1, 2):
            delay[i, i + 1] = 0.02
    return offers.tolist(), delay + delay.T, times * rng.choice([0.3, 1, 4]), np.sort(rng.uniform(0, 20, number))


def model_of(heads, kv_heads=0):
    return common.Model("any", layers=1, hidden=heads, feed_forward=1, heads=heads, context=1, kv_heads=kv_heads)


ANY_SIZE = model_of(27720)  # which all numbers up to 12 divide
TASKS = pd.DataFrame({"kv_bytes": [70, 100, 30]})


def room_of(model):
    """Function of what a group's devices offer to the most layers that it holds, with the caches of TASKS."""
    return functools.partial(naive.most_layers, model=model, cache=100)


def allocate(layers, offers, delay, times, arrivals, seed=0, model=ANY_SIZE, **settings):
    """Stages, notes and completion time of HexGen, which is checked against the notes."""
    stages, notes = HexGen.allocate(model=model, layers=layers, tasks=TASKS, bids=pd.DataFrame({"layers": offers}),
                                    delay=np.array(delay), times=np.array(times), arrivals=np.array(arrivals),
                                    seed=seed, **settings)
    grouping = [tuple(stage["devices"]) for stage in stages]
    cap, w, d = naive.stage_values(grouping, offers, delay, times, room_of(model))
    n = [stage["layers"] for stage in stages]
    assert sum(n) == layers and all(1 <= count <= most for count, most in zip(n, cap))
    time = naive.list_completion(n, w, d, arrivals)
    assert any(f"completion time {time:.3f} s" in line for line in notes)
    return stages, notes, time


def test_the_search_is_that_of_a_plain_loop():
    """Generation by generation, in whole numbers: what is bred, placed, kept and told. Of every third model each device
    of a group holds a copy of the one key-value head: the group then has less room than its devices offer."""
    rng, sizes = np.random.default_rng(22), {1, 2, 4}
    for seed in range(50):
        devices, layers = int(rng.integers(2, 7)), int(rng.integers(2, 17))
        offers, *rest = instance(rng, devices, layers, tight=seed % 3 == 0, workstations=seed % 2 == 0)
        scales = 0.3 if seed % 4 else 0, 3, 1
        delay, times, arrivals = (np.rint(values * scale) * 12 for values, scale in zip(rest, scales))
        if seed % 2:  # each task has fast and slow devices of its own: once the better of two descents matters
            times = 12.0 * rng.integers(0, 9, (6, devices)) * (rng.random((6, devices)) < 0.4)
            arrivals = 12.0 * np.arange(6)
        limits = {key: int(rng.integers(1, most)) for key, most in (
            ("population", 7), ("children", 9), ("tries", 4), ("stale", 5), ("patience", 5))}
        drawn = np.random.default_rng(seed)
        first = HexGen.first_groupings(layers, times, delay, drawn)
        model = model_of(4, kv_heads=4 if seed % 3 else 1)
        (time, grouping, n), generations, known = naive.genetic_search(
            layers, offers, delay, times, arrivals, sizes, room_of(model), first, HexGen.mutated, drawn, **limits)
        stages, notes, least = allocate(layers, offers, delay, times, arrivals, seed, model, **limits)
        assert stages == [{"devices": list(group), "layers": count} for group, count in zip(grouping, n)]
        assert least == time
        assert notes == [f"genetic algorithm: {generations} generations, {known} groupings",
                         f"completion time {time:.3f} s, the best found: no proof that none is better"]


@pytest.mark.parametrize("heads, kv_heads", [(27720, 0), (9, 3)])
def test_the_search_reaches_the_optimum_of_all_groupings(heads, kv_heads):
    """Of all groups that split the heads: up to 5 devices; a tenth of the cases has more devices than layers. Where
    links are quick, as large groups as may be are best."""
    rng, model, used, ratios = np.random.default_rng(1), model_of(heads, kv_heads), set(), []
    sizes = HexGen.group_sizes(model)
    for k in range(part_of(100, 10)):
        devices = int(rng.choice([1, 2, 3, 4, 4, 4, 4, 5]))
        layers = int(rng.integers(1, 4) if k % 10 == 0 else rng.integers(devices, 9))
        offers, delay, times, arrivals = instance(rng, devices, layers, tight=k % 3 == 0, workstations=k % 2 == 0)
        case = layers, offers, delay / (100 if k % 4 == 1 else 1), times, arrivals
        stages, _, time = allocate(*case, model=model, stale=15)
        used |= {len(stage["devices"]) for stage in stages}
        ratios.append(time / naive.best_grouping(*case, sizes=sizes))
    assert min(ratios) >= 1 - 1e-9
    assert sum(ratio <= 1.01 for ratio in ratios) >= 0.95 * len(ratios)
    assert used <= sizes
    assert max(used) >= max(size for size in sizes if size <= 4)


@pytest.mark.parametrize("name", ["plan", "population", "children", "tries", "stale", "patience"])
def test_settings_of_less_than_one(name):
    with pytest.raises(common.UserError, match=f"{name.upper()}.*at least 1"):
        allocate(2, [2, 2], 1 - np.eye(3), np.ones((1, 2)), [0.0], **{name: 0})


# Long lists, of which some tasks are planned on -----------------------------------------------------------------------


@pytest.mark.parametrize("times, arrivals, plan, some, closer", [
    # Every other of five tasks, with 6 of 8 s of work: 6 s in 30 s where 8 s came in 40 s.
    ([[1, 0], [0, 1], [1, 1], [1, 0], [2, 1]], [100, 110, 124, 130, 140], 3, [0, 2, 4], [100, 118, 130]),
    ([[1, 1]] * 4, [3, 4, 5, 6], 1, [0], [3]),
    ([[0, 0]] * 4, [3, 4, 5, 7], 2, [0, 3], [3, 5]),  # no work: by the share of tasks
    ([[1, 1]] * 4, [3, 3, 3, 3], 2, [0, 3], [3, 3]),
])
def test_thinned_lists(times, arrivals, plan, some, closer):
    found = HexGen.thinned(np.array(times, float), np.array(arrivals, float), plan)
    assert [part.tolist() for part in found] == [[times[k] for k in some], closer]


def test_a_long_list_is_planned_on_some_of_its_tasks():
    rng = np.random.default_rng(12)
    offers, delay, _, _ = instance(rng, 6, 20, tight=False, workstations=True)
    times, arrivals = rng.uniform(0.2, 2, (30, 6)), np.sort(rng.uniform(0, 300, 30))
    given = dict(model=ANY_SIZE, layers=20, tasks=TASKS, bids=pd.DataFrame({"layers": offers}), delay=delay, seed=2,
                 stale=10)
    long, notes = HexGen.allocate(times=times, arrivals=arrivals, plan=7, **given)
    some, closer = HexGen.thinned(times, arrivals, 7)
    short, same = HexGen.allocate(times=some, arrivals=closer, **given)
    assert long == short
    assert notes == ["planned on 7 of the 30 tasks, evenly picked, their arrivals drawn together so that the load "
                     "stays the same", same[0], same[1].replace("time", "time of these 7")]
    whole_list = HexGen.allocate(times=times, arrivals=arrivals, plan=30, **given)
    assert whole_list == HexGen.allocate(times=times, arrivals=arrivals, **given)
    assert "planned" not in str(whole_list)
