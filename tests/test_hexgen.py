"""HexGen: layers placed so that no move of one betters them, groupings that are the best or nearly so, and what must
hold."""
import math
from collections import Counter
from itertools import permutations

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import HexGen

# Inner step -----------------------------------------------------------------------------------------------------------

whole = st.integers(0, 4).map(float)
real = st.one_of(whole, st.sampled_from([0.1, 0.3, 0.7, 2.5]), st.floats(0.01, 9))


@st.composite
def placements(draw, seconds, most_tasks=5, most_stages=5, most_layers=10):
    """layers, cap, w, d, arrivals: times with ties or without, some of them 0; tight limits and loose."""
    stages, number = draw(st.integers(1, most_stages)), draw(st.integers(1, most_tasks))
    cap = draw(st.lists(st.integers(1, 7), min_size=stages, max_size=stages))
    layers = draw(st.integers(stages, max(stages, min(sum(cap), most_layers))))
    w = draw(st.lists(st.lists(seconds, min_size=stages, max_size=stages), min_size=number, max_size=number))
    d = draw(st.lists(seconds, min_size=stages + 1, max_size=stages + 1))
    gap = draw(st.sampled_from([0, 1, 10, 60]))
    arrivals = sorted(draw(st.lists(seconds, min_size=number, max_size=number)))
    return layers, cap, w, d, [gap * arrival for arrival in arrivals]


def candidate(case, n=None):
    """What HexGen.descend takes, of a placement; n: one layer a stage, if not given."""
    _, cap, w, d, _ = case
    return {"n": list(n or [1] * len(cap)), "cap": cap, "w": list(np.array(w).T), "d": d}


def descended(case, n=None, **settings):
    """Time and layer counts that HexGen.descend finds."""
    one, = HexGen.descend([candidate(case, n)], case[0], np.array(case[4]), **settings)
    return one["time"], one["n"]


def check_completion(case, n, near):
    """HexGen.completion against the plain pipeline, for the counts n and all that one move makes of them."""
    _, _, w, d, arrivals = case
    times, moved = HexGen.completion(np.array(n)[:, None], np.array(w).T[:, :, None], np.array(d)[:, None],
                                     np.array(arrivals))
    assert times.shape == (1,)
    assert times[0] == near(naive.list_completion(n, w, d, arrivals))
    for more in range(len(n)):
        for less in range(len(n)):
            other = [count + (s == more) - (s == less) for s, count in enumerate(n)]
            expected = naive.list_completion(other, w, d, arrivals) if more != less else math.inf
            assert moved[more, less, 0] == near(expected)


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-12)


@settings(max_examples=part_of(150, 10))
@given(placements(real), st.randoms(use_true_random=False))
def test_completion_times_and_those_of_all_moves(case, random):
    n = random.choice(naive.compositions(*case[:2]))
    check_completion(case, n, near)
    ends = common.pipeline(np.array(case[4]), np.array(case[3][:-1]), np.array(case[2]) * n)[2]
    assert ends[-1, -1] + case[3][-1] == near(naive.list_completion(n, *case[2:]))


@settings(max_examples=part_of(150, 10))
@given(placements(whole), st.randoms(use_true_random=False))
def test_completion_times_of_whole_numbers_are_exact(case, random):
    check_completion(case, random.choice(naive.compositions(*case[:2])), float)


@settings(max_examples=part_of(250, 10))
@given(placements(whole), st.lists(st.integers(1, 9), min_size=5, max_size=5))
def test_the_best_move_of_a_layer_is_made_as_long_as_one_helps(case, start):
    """Move by move what a plain loop does, ties and all: from even stages, and from too few or too many layers."""
    for n in ([1] * len(case[1]), start[:len(case[1])]):
        counts, time = naive.best_moves(*case, n)
        assert descended(case, n) == (time, counts)


@settings(max_examples=part_of(250, 10))
@given(placements(real), st.lists(st.integers(1, 9), min_size=5, max_size=5))
def test_no_move_of_a_layer_betters_a_placement(case, start):
    layers, cap, w, d, arrivals = case
    for counts in ([1] * len(cap), start[:len(cap)]):
        time, n = descended(case, counts)
        assert sum(n) == layers and all(1 <= count <= most for count, most in zip(n, cap))
        assert time == near(naive.list_completion(n, w, d, arrivals))
        assert all(naive.list_completion(other, w, d, arrivals) >= time * (1 - 1e-8) - 1e-12
                   for other in naive.layer_moves(n, cap))


def test_placements_are_near_the_optimum():
    """Of 200 random ones of up to 5 stages: how far a local optimum may be from the best."""
    rng, ratios = np.random.default_rng(3), []
    for _ in range(200):
        stages, tasks = rng.integers(2, 6), rng.integers(1, 6)
        case = (12, rng.integers(4, 8, stages).tolist() if stages > 3 else [12] * stages,
                rng.uniform(0.5, 2, (tasks, stages)).tolist(), rng.uniform(0, 3, stages + 1).tolist(),
                np.sort(rng.uniform(0, 20, tasks)).tolist())
        counts = naive.compositions(*case[:2])
        ratios.append(descended(case)[0] / min(naive.list_completion(n, *case[2:]) for n in counts))
    assert min(ratios) >= 1 - 1e-9
    assert np.mean(ratios) < 1.005
    assert sum(ratio <= 1.01 for ratio in ratios) >= 170


def random_cases(rng, number, tasks):
    arrivals = np.sort(rng.uniform(0, 20, tasks)).tolist()
    return [(12, [12] * stages, rng.uniform(0.5, 2, (tasks, stages)).tolist(),
             rng.uniform(0, 3, stages + 1).tolist(), arrivals) for stages in rng.integers(1, 7, number).tolist()]


def test_placements_of_a_batch_are_those_of_each_alone():
    rng = np.random.default_rng(7)
    for tasks in (1, 2, 5, 40):
        cases = random_cases(rng, 30, tasks)
        placed = HexGen.descend([candidate(case) for case in cases], 12, np.array(cases[0][4]))
        for case, one in zip(cases, placed):
            time, n = descended(case)
            assert one["time"] == pytest.approx(time, rel=1e-12)
            assert one["n"] == n
    assert HexGen.descend([], 12, np.array([0.0])) == []


def test_only_what_stays_above_the_cutoff_is_given_up():
    """Without patience a candidate is given up at the first move that leaves it above; with enough, none is."""
    rng = np.random.default_rng(8)
    cases = random_cases(rng, 60, 4)
    candidates, arrivals = [dict(candidate(case), k=k) for k, case in enumerate(cases)], np.array(cases[0][4])
    best = HexGen.descend(candidates, 12, arrivals)
    cutoff = np.median([one["time"] for one in best])
    under = [one for one in best if one["time"] < cutoff]
    assert 0 < len(under) < 60

    def found(patience):
        placed = HexGen.descend(candidates, 12, arrivals, patience, cutoff)
        return [(one["k"], one["n"], one["time"]) for one in placed]
    everything = [(one["k"], one["n"], one["time"]) for one in under]
    assert found(10 ** 6) == everything
    assert set(map(str, found(1))) <= set(map(str, everything))
    assert found(1e-6) == [(k, one["n"], one["time"]) for k, one in enumerate(best) if one["time"] < cutoff
                        and naive_first_time(cases[k]) < cutoff]


def naive_first_time(case):
    return naive.list_completion(naive.filled_up(case[0], case[1], case[2], [1] * len(case[1])), *case[2:])


# Groupings and allocations --------------------------------------------------------------------------------------------


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
    return offers, delay + delay.T, times * rng.choice([0.3, 1, 4]), np.sort(rng.uniform(0, 20, number))


def model_of(heads, kv_heads=0):
    return common.Model("any", layers=1, hidden=heads, feed_forward=1, heads=heads, context=1, kv_heads=kv_heads)


ANY_SIZE = model_of(27720)  # which all numbers up to 12 divide


def allocate(layers, offers, delay, times, arrivals, seed=0, model=ANY_SIZE, **settings):
    """Stages, notes and completion time of HexGen, after a check that the stages are an allocation."""
    stages, notes = HexGen.allocate(model=model, layers=layers, bids=pd.DataFrame({"layers": offers}), seed=seed,
                                    delay=np.array(delay), times=np.array(times), arrivals=np.array(arrivals),
                                    **settings)
    used = [i for stage in stages for i in stage["devices"]]
    assert len(set(used)) == len(used) and set(used) <= set(range(len(offers)))
    assert sum(stage["layers"] for stage in stages) == layers
    cap, w, d = naive.stage_values(tuple(tuple(stage["devices"]) for stage in stages), offers, delay, times)
    assert all(1 <= stage["layers"] <= most for stage, most in zip(stages, cap))
    time = naive.list_completion([stage["layers"] for stage in stages], w, d, arrivals)
    assert any(f"completion time {time:.3f} s" in line for line in notes)
    return stages, notes, time


def test_one_device():
    stages, _, time = allocate(7, [9], [[0, 2], [2, 0]], [[0.5], [1]], [1, 3])
    assert stages == [{"devices": [0], "layers": 7}]
    assert time == pytest.approx(2 + max(1 + 3.5, 3) + 7 + 2)


def test_more_devices_than_layers():
    delay = 5 - 5 * np.eye(9)
    times = np.array([[4, 4, 1, 4, 4, 4, 1, 4.0]])
    delay[2, 6] = delay[6, 2] = 0.5
    stages, _, time = allocate(2, [1] * 8, delay, times, [0.0])
    assert sorted(i for stage in stages for i in stage["devices"]) == [2, 6]
    assert time == pytest.approx(5 + 1 + 0.5 + 1 + 5)


def test_the_same_seed_finds_the_same():
    case = instance(np.random.default_rng(5), 6, 30, tight=False, workstations=True)
    first, second = (allocate(30, case[0].tolist(), *case[1:], seed=4) for _ in range(2))
    assert first == second


def workstation_case():
    """Two hosts of two devices, 0.01 s apart, all else 2 s: 12 slow layers, for which a pair is worth its links."""
    delay = 2 - 2 * np.eye(5)
    for i in (0, 2):
        delay[i, i + 1] = delay[i + 1, i] = 0.01
    return 12, [4] * 4, delay, np.full((3, 4), 2.0), [0.0, 1.0, 2.0]


def test_pairs_of_a_host_share_layers_where_that_is_better():
    layers, offers, delay, times, arrivals = workstation_case()
    stages, _, time = allocate(layers, offers, delay, times, arrivals)
    pairs = [stage["devices"] for stage in stages if len(stage["devices"]) == 2]
    assert pairs and all(pair in ([0, 1], [2, 3]) for pair in pairs)
    assert time < 0.8 * naive.best_grouping(layers, offers, delay, times, arrivals, sizes=[1])


def test_far_devices_do_not_share_layers():
    layers, offers, _, times, arrivals = workstation_case()
    stages, _, _ = allocate(layers, offers, 2 - 2 * np.eye(5), times, arrivals)
    assert all(len(stage["devices"]) == 1 for stage in stages)


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
    if other in others and operator != "pair_up":  # what leaves the groups is free
        assert sorted(i for group in (*groups, used) for i in group) == sorted([0, 1, 2, 4, *others[other]])


def test_a_child_is_made_by_a_chain_of_operators():
    """Which operator, two groups, the other group or the free devices, what the operator draws, one more or none."""
    merge, give, last = (0, 8), (5, 8), (0, 3)
    assert HexGen.mutated(((0, 1), (2,)), LINE, Drawn(merge, (1, 2), (0, 2), (0, 2), last)) == [[2, 0, 1]]
    assert HexGen.mutated(((0, 1), (2,)), LINE, Drawn(give, (1, 2), (0, 2), (1, 2), (0, 1), last)) == [[0, 1]]
    assert HexGen.mutated(((0, 1), (2,)), LINE, Drawn(give, (1, 2), (0, 2), (0, 2), (0, 1), last)) == [[0, 1, 2]]
    chain = Drawn(merge, (0, 2), (1, 2), (0, 2), (1, 3), give, (0, 1), (0, 1), (1, 2), (2, 3), last)
    assert HexGen.mutated(((0, 1), (2,)), LINE, chain) == [[0, 1]]
    assert HexGen.mutated(((3,),), LINE, Drawn(give, (0, 1), (0, 1), (1, 2), (0, 1), last)) == [[3]]  # the last of all


def test_children_are_groupings():
    """Every operator at work: no device twice or unknown, no empty group, and every kind of change."""
    rng, sizes, orders, exchanged = np.random.default_rng(0), Counter(), set(), 0
    grouping = ((0, 1), (2,), (4,))
    for _ in range(6000):
        child = HexGen.mutated(grouping, LINE, rng)
        used = [i for group in child for i in group]
        assert all(child) and len(set(used)) == len(used) and set(used) <= set(range(5))
        sizes[len(child), len(used)] += 1
        if sorted(map(sorted, child)) == [[0, 1], [2], [4]]:
            orders.add(tuple(tuple(sorted(group)) for group in child))
        exchanged += sorted(map(sorted, child)) == [[0, 1], [2], [3]]
    # merge, split, drop of one of two, drop of one alone, take into a group, take alone: one operator makes many
    assert min(sizes[key] for key in ((2, 4), (4, 4), (3, 3), (2, 3), (3, 5), (4, 5))) >= 40
    assert orders == set(permutations(grouping))
    assert exchanged >= 40  # a free device in the place of one


def test_any_free_device_may_be_taken(monkeypatch):
    rng = np.random.default_rng(2)
    monkeypatch.setattr(HexGen, "OPERATORS", [HexGen.take])  # others find a near one by themselves
    taken = {i for _ in range(300) for group in HexGen.mutated([(0,), (2,)], LINE, rng) for i in group}
    assert taken == set(range(len(LINE) - 1))


def test_a_single_device_is_never_lost():
    rng = np.random.default_rng(1)
    assert {str(HexGen.mutated([(0,)], np.zeros((2, 2)), rng)) for _ in range(200)} == {"[[0]]"}


def test_first_groupings():
    """Three devices, from the fastest: 2, 0, 1; the routes from the client on, and the random ones."""
    delay = np.array([[0, 1, 5, 4.0], [1, 0, 2, 3], [5, 2, 0, 9], [4, 3, 9, 0]])
    times = np.array([[2.0, 3, 1], [2, 4, 1]])
    drawn = [np.random.default_rng(0), np.random.default_rng(0)]
    found = HexGen.first_groupings(9, times, delay, drawn[0])
    routes = [drawn[1].permutation([2, 0, 1]).tolist() for _ in range(4)] + [[2], [0, 2], [1, 0, 2]]
    alone = [[[i] for i in route] for route in routes]
    pairs = [[route[:2], route[2:]] if route[2:] else [route[:2]] for route in routes]
    assert found == alone + pairs + [[route] for route in routes]
    few = HexGen.first_groupings(2, times, delay, np.random.default_rng(0))
    assert all(sorted(i for group in groups for i in group) == [0, 2] for groups in few[:4])  # those that can hold most


def test_candidates():
    """The values of a grouping from the definitions; layers as in the parent; none if it is known or too small."""
    rng = np.random.default_rng(6)
    offers, delay, times, _ = instance(rng, 5, 20, tight=False, workstations=True)
    offers, known, new = [4, 6, 5, 7, 3], {((2,), (3,))}, []
    given = dict(layers=9, offers=offers, sizes={1, 2, 3, 5}, times=times, delay=delay, known=known, seconds={})
    for groups in ([[3, 1], [0]], [[0], [1, 3]], [[1, 3], [0]], [[2], [3]], [[4], [0]], [[4, 3]], [[3, 2, 1, 0, 4]]):
        HexGen.admit(new, groups, {0: 1.4, 1: 3.5, 3: 3.2}, **given)
    assert [(one["grouping"], one["n"]) for one in new] == [
        (((1, 3), (0,)), [7, 1]), (((0,), (1, 3)), [1, 7]), (((0, 1, 2, 3, 4),), [8])]
    assert known == {((2,), (3,)), *(one["grouping"] for one in new)}
    for one in new:
        most, w, d = naive.stage_values(one["grouping"], offers, delay, times)
        assert one["cap"] == most
        assert np.allclose(np.array(one["w"]).T, w, rtol=1e-12)
        assert one["d"] == d
    HexGen.admit(new, [[0], [1], [2]], {}, **dict(given, layers=2))  # more stages than layers
    HexGen.admit(new, [[0], [1], [2]], {}, **dict(given, layers=3))
    HexGen.admit(new, [[4], [3, 0]], {}, **dict(given, layers=11))  # exactly what they can hold
    HexGen.admit(new, [[4], [3, 0, 1, 2]], {}, **given)
    assert [one["n"] for one in new[3:]] == [[1, 1, 1], [1, 1]]


@pytest.mark.parametrize("heads, kv_heads, sizes", [
    (16, 0, {1, 2, 4, 8, 16}), (12, 12, {1, 2, 3, 4, 6, 12}), (32, 8, {1, 2, 4, 8, 16, 32}),
    (52, 0, {1, 2, 4, 13, 26, 52}), (12, 4, {1, 2, 4, 12}), (24, 2, {1, 2, 4, 6, 8, 12, 24}), (6, 1, {1, 2, 3, 6})])
def test_sizes_of_groups(heads, kv_heads, sizes):
    assert HexGen.group_sizes(model_of(heads, kv_heads)) == sizes


@pytest.mark.parametrize("heads, kv_heads", [(32, 8), (9, 3), (5, 0)])
def test_the_search_keeps_to_groups_that_split_the_heads(heads, kv_heads):
    """Layers so slow that as large groups as may be are best, and the least over all groupings of those sizes."""
    rng, sizes = np.random.default_rng(heads), HexGen.group_sizes(model_of(heads, kv_heads))
    largest = 0
    for _ in range(8):
        offers, delay, times, arrivals = instance(rng, 4, 8, tight=False, workstations=False)
        case = 8, offers.tolist(), delay / 100, times, arrivals
        stages, _, time = allocate(*case, model=model_of(heads, kv_heads), stale=20)
        largest = max([largest, *(len(stage["devices"]) for stage in stages)])
        assert {len(stage["devices"]) for stage in stages} <= sizes
        least = naive.best_grouping(*case, sizes=sizes)
        assert least * (1 - 1e-9) <= time <= least * 1.01
    assert largest == max(size for size in sizes if size <= 4)


def test_three_devices_do_not_split_32_heads(monkeypatch, run):
    llama = common.Model("Llama 3 8B", layers=32, hidden=4096, feed_forward=14336, heads=32, kv_heads=8, context=8192,
                         gated=True)
    monkeypatch.setattr(common, "MODELS", [*common.MODELS, llama])
    monkeypatch.setitem(common.POOLS, "three", [(f"A{k}", "RTX 4090", "a") for k in range(3)])
    status, _, err = run("HexGen", "--model", "Llama 3 8B", "--pool", "three", "--no-plot")
    assert (status, err) == (0, "")
    stages = pd.read_csv("results/HexGen_stages.csv")
    assert set(stages["tensor_parallel"]) <= {1, 2}


def test_a_thinned_list():
    """Every other of five tasks, with 6 of 8 s of work: 6 s in 30 s where 8 s came in 40 s."""
    times = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [2, 1.0]])
    some, arrivals = HexGen.thinned(times, 100 + np.array([0, 10, 24, 30, 40.0]), 3)
    assert some.tolist() == [[1, 0], [1, 1], [2, 1]]
    assert arrivals.tolist() == [100, 118, 130]


@settings(max_examples=part_of(100, 10))
@given(st.lists(st.tuples(real, real), min_size=3, max_size=40), st.integers(2, 39), st.randoms(use_true_random=False))
def test_a_thinned_list_has_the_load_of_the_whole(times, plan, random):
    times, plan = np.array(times), min(plan, len(times) - 1)
    arrivals = np.sort([random.choice([random.uniform(0, 100), random.randint(0, 9)]) for _ in times])
    some, closer = HexGen.thinned(times, arrivals, plan)
    assert len(some) == len(closer) == plan
    assert some[0].tolist() == times[0].tolist() and some[-1].tolist() == times[-1].tolist()
    assert (np.diff(closer) >= 0).all()
    assert some.sum() * (arrivals[-1] - arrivals[0]) == near(times.sum() * (closer[-1] - closer[0]))
    rows = [row.tolist() for row in times]
    at = [rows.index(row.tolist()) for row in some] if len({*map(tuple, rows)}) == len(rows) else []
    assert all(gap in (len(times) // plan - 1, *range(len(times) // plan, len(times) // (plan - 1) + 2))
               for gap in np.diff(at))


def test_thinned_lists_without_span_or_work():
    assert HexGen.thinned(np.ones((4, 2)), np.array([3.0, 4, 5, 6]), 1)[1].tolist() == [3]
    assert HexGen.thinned(np.zeros((4, 2)), np.array([3.0, 4, 5, 7]), 2)[1].tolist() == [3, 5]
    assert HexGen.thinned(np.ones((4, 2)), np.full(4, 3.0), 2)[1].tolist() == [3, 3]


def test_a_long_list_is_planned_on_some_of_its_tasks():
    rng = np.random.default_rng(12)
    offers, delay, _, _ = instance(rng, 6, 20, tight=False, workstations=True)
    times, arrivals = rng.uniform(0.2, 2, (30, 6)), np.sort(rng.uniform(0, 300, 30))
    given = dict(model=ANY_SIZE, layers=20, bids=pd.DataFrame({"layers": offers}), delay=delay, seed=2, stale=10)
    long, notes = HexGen.allocate(times=times, arrivals=arrivals, plan=7, **given)
    some, closer = HexGen.thinned(times, arrivals, 7)
    short, same = HexGen.allocate(times=some, arrivals=closer, **given)
    assert long == short
    assert notes == ["planned on 7 of the 30 tasks, evenly picked, their arrivals drawn together so that the load "
                     "stays the same", same[0], same[1].replace("time", "time of these 7")]
    assert HexGen.allocate(times=times, arrivals=arrivals, plan=30, **given) == HexGen.allocate(
        times=times, arrivals=arrivals, **given)
    assert "planned" not in str(HexGen.allocate(times=times, arrivals=arrivals, plan=30, **given))


def test_the_search_is_that_of_a_plain_loop():
    """Generation by generation, in whole numbers: what is bred, placed, kept and told."""
    rng, sizes = np.random.default_rng(13), {1, 2, 4}
    for seed in range(50):
        devices, layers = int(rng.integers(2, 7)), int(rng.integers(2, 17))
        offers, *rest = instance(rng, devices, layers, tight=seed % 3 == 0, workstations=seed % 2 == 0)
        scales = 0.3 if seed % 4 else 0, 3, 1
        delay, times, arrivals = (np.rint(values * scale) * 12 for values, scale in zip(rest, scales))
        if seed % 2:  # each task has fast and slow devices of its own
            times = 12.0 * rng.integers(1, 20, (6, devices))
            arrivals = 12.0 * np.arange(6)
        limits = {key: int(rng.integers(1, most)) for key, most in (
            ("population", 7), ("children", 9), ("tries", 4), ("stale", 5))}
        drawn = np.random.default_rng(seed)
        first = HexGen.first_groupings(layers, times, delay, drawn)
        (time, grouping, n), generations, known = naive.genetic_search(
            layers, offers.tolist(), delay, times, arrivals, sizes, first, HexGen.mutated, drawn, **limits)
        stages, notes, least = allocate(layers, offers.tolist(), delay, times, arrivals, seed, model_of(4),
                                        patience=1e9, **limits)
        assert stages == [{"devices": list(group), "layers": count} for group, count in zip(grouping, n)]
        assert least == time
        assert notes == [f"genetic algorithm: {generations} generations, {known} groupings",
                         f"completion time {time:.3f} s, the best found: no proof that none is better"]


@pytest.mark.parametrize("change, gain", [(5, 0), (-5, 5)])
def test_of_two_descents_the_better_survives(change, gain, monkeypatch):
    """As if every descent from even stages, the second of each generation, ended 5 s later, or earlier."""
    case = 12, [12, 6, 6], 2 - 2 * np.eye(4), np.full((2, 3), 1.0), [0.0, 1.0]
    _, _, time = allocate(*case, stale=3)
    descend, calls = HexGen.descend, []

    def changed(*arguments):
        calls.append(arguments)
        later = change if len(calls) % 2 == 0 else 0
        return [dict(one, time=one["time"] + later) for one in descend(*arguments)]
    monkeypatch.setattr(HexGen, "descend", changed)
    given = dict(zip(("layers", "delay", "times"), (case[0], *case[2:4])), arrivals=np.array(case[4]))
    _, notes = HexGen.allocate(model=ANY_SIZE, bids=pd.DataFrame({"layers": case[1]}), seed=0, stale=3, **given)
    assert f"completion time {time - gain:.3f} s" in notes[1]
    assert all(one["n"] == [1] * len(one["grouping"]) for one in calls[-1][0])


def test_the_search_ends_when_all_groupings_are_known():
    """Two devices have five groupings: fewer children than are asked, then none."""
    delay, times = 2 - 2 * np.eye(3), np.ones((2, 2))
    _, notes, _ = allocate(4, [4, 4], delay, times, [0.0, 1.0])
    assert "5 groupings" in notes[0]  # alone, in either order, as one
    assert int(notes[0].split()[2]) < HexGen.STALE


@pytest.mark.parametrize("layers, offers, tasks", [(1, [1], 1), (1, [3, 2, 1], 4), (2, [1, 1], 1), (9, [3, 3, 3], 1)])
def test_zero_times(layers, offers, tasks):
    devices = len(offers)
    stages, _, time = allocate(layers, offers, np.zeros((devices + 1, devices + 1)), np.zeros((tasks, devices)),
                               [0.0] * tasks)
    assert stages and time == 0
    _, _, time = allocate(layers, offers, np.zeros((devices + 1, devices + 1)), np.zeros((tasks, devices)),
                          [3.0 * k for k in range(tasks)])
    assert time == 3 * (tasks - 1)


def test_one_task_on_many_devices():
    rng = np.random.default_rng(9)
    offers, delay, times, _ = instance(rng, 12, 30, tight=False, workstations=True)
    _, _, time = allocate(30, offers.tolist(), delay, times[:1], [7.0])
    alone = [7 + 2 * delay[i, -1] + 30 * times[0, i] for i in range(12) if offers[i] >= 30]
    assert time <= min(alone, default=math.inf) * (1 + 1e-9)


def test_least_settings():
    rng = np.random.default_rng(10)
    offers, *rest = instance(rng, 5, 12, tight=False, workstations=False)
    _, notes, _ = allocate(12, offers.tolist(), *rest, population=1, children=1, tries=1, stale=1, patience=1)
    assert notes[0].startswith("genetic algorithm: ")


def test_more_children_find_more():
    case = instance(np.random.default_rng(11), 8, 40, tight=False, workstations=True)
    found = [allocate(40, case[0].tolist(), *case[1:], stale=stale, children=children)[1][0].split()
             for stale, children in ((1, 10), (1, 20), (5, 20))]
    generations, groupings = zip(*((int(words[2]), int(words[4].replace(",", ""))) for words in found))
    assert groupings[0] < groupings[1] < groupings[2]
    assert generations[1] < generations[2]


# Search ---------------------------------------------------------------------------------------------------------------


def test_the_search_reaches_the_optimum_of_all_groupings():
    """100 instances of up to 5 devices; a tenth has more devices than layers."""
    rng, ratios = np.random.default_rng(1), []
    for case in range(part_of(100, 10)):
        devices = int(rng.choice([1, 2, 3, 3, 4, 4, 4, 5]))
        layers = int(rng.integers(1, 4) if case % 10 == 0 else rng.integers(devices, 9))
        offers, *rest = instance(rng, devices, layers, tight=case % 3 == 0, workstations=case % 2 == 0)
        least = naive.best_grouping(layers, offers.tolist(), *rest)
        _, _, time = allocate(layers, offers.tolist(), *rest, stale=15)
        assert time >= least * (1 - 1e-9)
        ratios.append(time / least)
    assert sum(ratio <= 1.01 for ratio in ratios) >= 0.95 * len(ratios)


def shortest_tour(delay):
    """Least sum of links from the client (the last) over all others and back: by subset and last device."""
    devices = len(delay) - 1
    least = {(1 << i, i): delay[-1][i] for i in range(devices)}
    for mask in range(1, 1 << devices):
        for i in range(devices):
            for j in range(devices):
                if mask >> i & 1 and not mask >> j & 1:
                    key = mask | 1 << j, j
                    least[key] = min(least.get(key, math.inf), least[mask, i] + delay[i][j])
    return min(least[(1 << devices) - 1, i] + delay[i][-1] for i in range(devices))


def test_the_search_finds_short_orders():
    """8 devices with a layer each, and links that take nearly all of the time: only the order counts."""
    rng, ratios = np.random.default_rng(4), []
    for seed in range(6):
        delay = np.triu(rng.uniform(2, 9, (9, 9)), 1)
        delay += delay.T
        stages, _, time = allocate(8, [1] * 8, delay, np.full((1, 8), 0.001), [0.0], seed, stale=25)
        assert len(stages) == 8
        ratios.append(time / (shortest_tour(delay.tolist()) + 0.008))
    assert sum(ratio <= 1.01 for ratio in ratios) >= 5
    assert min(ratios) >= 1 - 1e-9


def test_an_allocation_is_found_whenever_there_is_one():
    """Offers that are just enough, with a search too short to repair anything."""
    rng = np.random.default_rng(2)
    for _ in range(part_of(150, 10)):
        devices, layers = int(rng.integers(1, 13)), int(rng.integers(1, 30))
        offers, *rest = instance(rng, devices, layers, tight=True, workstations=rng.random() < 0.5)
        allocate(layers, offers.tolist(), *rest, stale=1, children=2)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [[3], [2, 4, 1], [1, 1, 1, 1]])
def test_too_few_layers_are_offered(offers):
    devices = len(offers)
    delay = np.ones((devices + 1, devices + 1)) - np.eye(devices + 1)
    with pytest.raises(common.NoAllocation, match=f"^the offers add up to {sum(offers)} of {sum(offers) + 1} layers$"):
        allocate(sum(offers) + 1, offers, delay, np.ones((2, devices)), [0.0, 1.0])
    assert allocate(sum(offers), offers, delay, np.ones((2, devices)), [0.0, 1.0])


@pytest.mark.parametrize("name", ["plan", "population", "children", "tries", "stale", "patience"])
def test_settings_of_less_than_one(name):
    with pytest.raises(common.UserError, match=f"{name.upper()}.*at least 1"):
        allocate(2, [2, 2], 1 - np.eye(3), np.ones((1, 2)), [0.0], **{name: 0})
