"""HexGen: layers placed so that no move of one betters them, groupings that are the best or nearly so, and what must
hold."""
import math
from collections import Counter
from itertools import combinations, permutations
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import HexGen

# Plain references -----------------------------------------------------------------------------------------------------


def plain_completion(n, w, d, arrivals):
    """When the task list is completed, task after task and stage after stage."""
    free = [0.0] * len(n)  # when a stage has finished the task before
    now = 0.0
    for k, arrival in enumerate(arrivals):
        now = arrival
        for s in range(len(n)):
            free[s] = max(free[s], now + d[s]) + n[s] * w[k][s]
            now = free[s]
    return now + d[-1]


def compositions(layers, cap):
    """All layer counts, at least 1 and at most cap, that add up to layers."""
    if not cap:
        return [()] if layers == 0 else []
    return [(first, *rest) for first in range(1, min(cap[0], layers) + 1)
            for rest in compositions(layers - first, cap[1:])]


def plain_place(layers, cap, w, d, arrivals):
    return min((plain_completion(n, w, d, arrivals) for n in compositions(layers, cap)), default=math.inf)


def groupings(devices):
    """All ordered groupings of the devices, each of them used."""
    if not devices:
        yield ()
    for size in range(1, len(devices) + 1):
        for group in combinations(devices, size):
            for rest in groupings(tuple(i for i in devices if i not in group)):
                yield (group, *rest)


def stage_table(grouping, offers, delay, times):
    """cap, w and d of a grouping, from the definitions."""
    cap, w, d = [], [], []
    for s, group in enumerate(grouping):
        k = len(group)
        slowest = max((delay[i][j] for i in group for j in group if i != j), default=0)
        cap.append(k * min(offers[i] for i in group))
        w.append([max(row[i] for i in group) / k + 4 * (k - 1) / k * slowest for row in times])
        before = grouping[s - 1] if s else (len(offers),)
        d.append(min(delay[i][j] for i in before for j in group))
    d.append(min(delay[i][len(offers)] for i in grouping[-1]))
    return cap, list(zip(*w)), d


def best_grouping(layers, offers, delay, times, arrivals, most=99):
    """Least completion time over all subsets of devices, groupings (`most` devices a group at most) and counts."""
    best = math.inf
    for size in range(1, len(offers) + 1):
        for devices in combinations(range(len(offers)), size):
            for grouping in groupings(devices):
                if max(map(len, grouping)) > most:
                    continue
                cap, w, d = stage_table(grouping, offers, delay, times)
                counts = compositions(layers, cap)
                if counts:  # the loop of plain_completion, over all counts at once
                    n, free = np.array(counts), np.zeros((len(grouping), len(counts)))
                    for k, arrival in enumerate(arrivals):
                        now = arrival
                        for s in range(len(grouping)):
                            now = free[s] = np.maximum(free[s], now + d[s]) + n[:, s] * w[k][s]
                    best = min(best, now.min() + d[-1])
    return best


# Inner step -----------------------------------------------------------------------------------------------------------

seconds = st.one_of(st.integers(0, 4).map(float), st.sampled_from([0.1, 0.3, 0.7, 2.5]), st.floats(0.01, 9))


@st.composite
def placements(draw, most_tasks=5, most_stages=5, most_layers=10):
    """layers, cap, w, d, arrivals: times with ties or without, some of them 0; tight limits and loose."""
    stages, number = draw(st.integers(1, most_stages)), draw(st.integers(1, most_tasks))
    cap = draw(st.lists(st.integers(1, 7), min_size=stages, max_size=stages))
    layers = draw(st.integers(stages, max(stages, min(sum(cap), most_layers))))
    w = draw(st.lists(st.lists(seconds, min_size=stages, max_size=stages), min_size=number, max_size=number))
    d = draw(st.lists(seconds, min_size=stages + 1, max_size=stages + 1))
    gap = draw(st.sampled_from([0, 1, 10, 60]))
    arrivals = sorted(draw(st.lists(st.floats(0, 1), min_size=number, max_size=number)))
    return layers, cap, w, d, [gap * arrival for arrival in arrivals]


def batch(cases):
    """cap, w and d of placements of the same number of tasks: those of fewer stages are led by empty ones."""
    most = max(len(cap) for _, cap, *_ in cases)
    cap, w, d = np.zeros((most, len(cases)), dtype=int), np.zeros((most, len(cases[0][2]), len(cases))), []
    for k, (_, limits, seconds_a_layer, delays, _) in enumerate(cases):
        cap[most - len(limits):, k], w[most - len(limits):, :, k] = limits, np.array(seconds_a_layer).T
        d.append([0] * (most - len(limits)) + delays)
    return cap, w, np.array(d).T


def moved(n, cap):
    """All layer counts that a move of one layer makes."""
    return [tuple(count + (s == more) - (s == less) for s, count in enumerate(n)) for more in range(len(n))
            for less in range(len(n)) if more != less and n[more] < cap[more] and n[less] > 1]


@settings(max_examples=300)
@given(placements(), st.randoms(use_true_random=False))
def test_completion_times_and_those_of_all_moves(case, random):
    layers, cap, w, d, arrivals = case
    n = random.choice(compositions(layers, cap))
    _, table, delays = batch([case])
    times, near = HexGen.completion(np.array(n)[:, None], table, delays, np.array(arrivals))
    near_to = pytest.approx(plain_completion(n, w, d, arrivals), rel=1e-9, abs=1e-12)
    assert times[0] == near_to
    ends = common.pipeline(np.array(arrivals), np.array(d[:-1]), np.array(w) * n)[2]
    assert ends[-1, -1] + d[-1] == near_to
    for more in range(len(n)):
        for less in range(len(n)):
            other = [count + (s == more) - (s == less) for s, count in enumerate(n)]
            expected = plain_completion(other, w, d, arrivals) if more != less else math.inf
            assert near[more, less, 0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=400)
@given(placements(), st.lists(st.integers(1, 9), min_size=5, max_size=5))
def test_no_move_of_a_layer_betters_a_placement(case, start):
    """From even stages, and from counts that add up to too few or too many."""
    layers, cap, w, d, arrivals = case
    limits, table, delays = batch([case])
    for n in ([1] * len(cap), start[:len(cap)]):
        times, counts = HexGen.descend(layers, limits, table, delays, np.array(arrivals), np.array(n)[:, None])
        n = counts[:, 0].tolist()
        assert sum(n) == layers and all(1 <= count <= most for count, most in zip(n, cap))
        time = plain_completion(n, w, d, arrivals)
        assert times[0] == pytest.approx(time, rel=1e-9, abs=1e-12)
        assert all(plain_completion(other, w, d, arrivals) >= time * (1 - 1e-8) - 1e-12 for other in moved(n, cap))


def even(case):
    cap, w, d = batch([case])
    times, n = HexGen.descend(case[0], cap, w, d, np.array(case[4]), np.minimum(1, cap))
    return times[0], n[:, 0].tolist()


def test_placements_are_near_the_optimum():
    """Of 200 random ones of up to 5 stages: how far a local optimum may be from the best."""
    rng, ratios = np.random.default_rng(3), []
    for _ in range(200):
        stages, tasks = rng.integers(2, 6), rng.integers(1, 6)
        case = (12, rng.integers(4, 8, stages).tolist() if stages > 3 else [12] * stages,
                rng.uniform(0.5, 2, (tasks, stages)).tolist(), rng.uniform(0, 3, stages + 1).tolist(),
                np.sort(rng.uniform(0, 20, tasks)).tolist())
        ratios.append(even(case)[0] / plain_place(*case))
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
        cap, w, d = batch(cases)
        times, counts = HexGen.descend(12, cap, w, d, np.array(cases[0][4]), np.minimum(1, cap))
        for case, time, n in zip(cases, times, counts.T.tolist()):
            alone, alone_n = even(case)
            assert time == pytest.approx(alone, rel=1e-12)
            assert n == [0] * (len(n) - len(alone_n)) + alone_n


def test_only_what_stays_above_the_cutoff_is_given_up():
    rng = np.random.default_rng(8)
    cases = random_cases(rng, 60, 4)
    cap, w, d = batch(cases)
    arguments = 12, cap, w, d, np.array(cases[0][4]), np.minimum(1, cap)
    best, n = HexGen.descend(*arguments)
    with mock.patch.object(HexGen, "PATIENCE", 10 ** 6):
        assert np.array_equal(HexGen.descend(*arguments, np.median(best))[1], n)
    times, counts = HexGen.descend(*arguments, np.median(best))
    under = times < np.median(best)
    assert under.any() and not under.all()
    assert np.array_equal(counts[:, under], n[:, under])
    assert (times >= best * (1 - 1e-12)).all() and (times > best * (1 + 1e-6)).any()


# Outer step -----------------------------------------------------------------------------------------------------------


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


def allocate(layers, offers, delay, times, arrivals, seed=0):
    """Stages, notes and completion time of HexGen, after a check that the stages are an allocation."""
    stages, notes = HexGen.allocate(layers=layers, bids=pd.DataFrame({"layers": offers}), delay=np.array(delay),
                                    times=np.array(times), arrivals=np.array(arrivals), seed=seed, something="else")
    used = [i for stage in stages for i in stage["devices"]]
    assert len(set(used)) == len(used) and set(used) <= set(range(len(offers)))
    assert sum(stage["layers"] for stage in stages) == layers
    cap, w, d = stage_table(tuple(tuple(stage["devices"]) for stage in stages), offers, delay, times)
    assert all(1 <= stage["layers"] <= most for stage, most in zip(stages, cap))
    time = plain_completion([stage["layers"] for stage in stages], w, d, arrivals)
    assert any(f"completion time {time:.3f} s" in line for line in notes)
    return stages, notes, time


def test_the_search_reaches_the_optimum_of_all_groupings():
    """100 instances of up to 5 devices; a tenth has more devices than layers."""
    rng, ratios = np.random.default_rng(1), []
    for case in range(100):
        devices = int(rng.choice([1, 2, 3, 3, 4, 4, 4, 5]))
        layers = int(rng.integers(1, 4) if case % 10 == 0 else rng.integers(devices, 9))
        offers, *rest = instance(rng, devices, layers, tight=case % 3 == 0, workstations=case % 2 == 0)
        least = best_grouping(layers, offers.tolist(), *rest)
        _, _, time = allocate(layers, offers.tolist(), *rest)
        assert time >= least * (1 - 1e-9)
        ratios.append(time / least)
    assert sum(ratio <= 1.01 for ratio in ratios) >= 95


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
        stages, _, time = allocate(8, [1] * 8, delay, np.full((1, 8), 0.001), [0.0], seed)
        assert len(stages) == 8
        ratios.append(time / (shortest_tour(delay.tolist()) + 0.008))
    assert sum(ratio <= 1.01 for ratio in ratios) >= 5
    assert min(ratios) >= 1 - 1e-9


def test_an_allocation_is_found_whenever_there_is_one():
    """Offers that are just enough, with a search too short to repair anything."""
    rng = np.random.default_rng(2)
    with mock.patch.object(HexGen, "STALE", 1), mock.patch.object(HexGen, "CHILDREN", 2):
        for _ in range(150):
            devices, layers = int(rng.integers(1, 13)), int(rng.integers(1, 30))
            offers, *rest = instance(rng, devices, layers, tight=True, workstations=rng.random() < 0.5)
            allocate(layers, offers.tolist(), *rest)


@pytest.mark.parametrize("offers", [[3], [2, 4, 1], [1, 1, 1, 1]])
def test_offers_too_few_layers(offers):
    devices = len(offers)
    delay = np.ones((devices + 1, devices + 1)) - np.eye(devices + 1)
    with pytest.raises(common.NoAllocation, match=f"^the offers add up to {sum(offers)} of {sum(offers) + 1} layers$"):
        allocate(sum(offers) + 1, offers, delay, np.ones((2, devices)), [0.0, 1.0])
    assert allocate(sum(offers), offers, delay, np.ones((2, devices)), [0.0, 1.0])


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
    assert time < 0.8 * best_grouping(layers, offers, delay, times, arrivals, most=1)


def test_far_devices_do_not_share_layers():
    layers, offers, _, times, arrivals = workstation_case()
    stages, _, _ = allocate(layers, offers, 2 - 2 * np.eye(5), times, arrivals)
    assert all(len(stage["devices"]) == 1 for stage in stages)


def test_children_are_groupings():
    """Every operator at work: no device twice or unknown, no empty group, and every kind of change."""
    rng, sizes, orders, exchanged = np.random.default_rng(0), Counter(), set(), 0
    grouping, pairs = ((0, 1), (2,), (4,)), [{0, 1}, {1, 0}, {2, 3}, {3, 2}, {4, 3}]
    for _ in range(6000):
        child = HexGen.mutated(grouping, pairs, rng)
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
    assert grouping == ((0, 1), (2,), (4,))


def test_a_single_device_is_never_lost():
    rng = np.random.default_rng(1)
    assert {str(HexGen.mutated([(0,)], [{0}], rng)) for _ in range(200)} == {"[[0]]"}


def test_a_stage_of_two_near_devices_is_bred():
    rng = np.random.default_rng(2)
    children = [HexGen.mutated([(0,), (3,)], [{0, 1}, {1, 2}, {2, 1}, {3, 2}], rng) for _ in range(2000)]
    assert sum(sorted(map(sorted, child)) == [[0], [1, 2], [3]] for child in children) >= 20


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


@pytest.mark.parametrize("name", ["POPULATION", "CHILDREN", "TRIES", "STALE", "PATIENCE"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None, True, math.nan, math.inf])
def test_wrong_settings(name, value):
    with mock.patch.object(HexGen, name, value), pytest.raises(common.UserError, match=f"^{name}: [^\\n]*$"):
        allocate(2, [2, 2], 1 - np.eye(3), np.ones((1, 2)), [0.0])


def test_least_settings():
    """One of each, and whole numbers that are floats."""
    rng = np.random.default_rng(10)
    offers, *rest = instance(rng, 5, 12, tight=False, workstations=False)
    for value in (1, 1.0):
        names = dict.fromkeys(["POPULATION", "CHILDREN", "TRIES", "STALE", "PATIENCE"], value)
        with mock.patch.multiple(HexGen, **names):
            allocate(12, offers.tolist(), *rest)
