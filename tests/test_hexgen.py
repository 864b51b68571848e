"""HexGen: layers placed exactly within a grouping, groupings that are the best or nearly so, and what must hold."""
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
    """Arguments of place: times with ties or without, some of them 0, arrivals with gaps, tight limits and loose."""
    stages, number = draw(st.integers(1, most_stages)), draw(st.integers(1, most_tasks))
    cap = draw(st.lists(st.integers(1, 7), min_size=stages, max_size=stages))
    layers = draw(st.integers(stages, max(stages, min(sum(cap), most_layers))))
    w = draw(st.lists(st.lists(seconds, min_size=stages, max_size=stages), min_size=number, max_size=number))
    d = draw(st.lists(seconds, min_size=stages + 1, max_size=stages + 1))
    gap = draw(st.sampled_from([0, 1, 10, 60]))
    arrivals = sorted(draw(st.lists(st.floats(0, 1), min_size=number, max_size=number)))
    return layers, cap, w, d, [gap * arrival for arrival in arrivals]


def arrays(layers, cap, w, d, arrivals):
    return layers, np.array(cap), np.array(w), np.array(d), np.array(arrivals)


def check_exact(case):
    """place finds the least completion time, with counts that have it, below a cutoff only."""
    layers, cap, w, d, arrivals = case
    least = plain_place(*case)
    near = pytest.approx(least, rel=1e-9, abs=1e-12)
    for cutoff in (math.inf, least * 1.001 + 1e-6, least * 2 + 1):
        time, n, proven = HexGen.place(*arrays(*case), cutoff)
        assert proven
        assert time == near
        assert n.sum() == layers and (n >= 1).all() and (n <= cap).all()
        assert plain_completion(n.tolist(), w, d, arrivals) == near
    for cutoff in (least * 0.999 - 1e-6, least / 2 - 1):
        assert HexGen.place(*arrays(*case), cutoff) == (cutoff, None, True)


@settings(max_examples=400)
@given(placements())
def test_layers_are_placed_as_well_as_any(case):
    check_exact(case)


@settings(max_examples=400)
@given(placements(), st.sampled_from([1, 5]))
def test_they_are_so_whatever_the_search_starts_from(case, rounds):
    """With a bad placement to begin with, and bounds that are loose, all hangs on the enumeration."""
    def bad(layers, cap, w, d, arrivals, moves):
        n = np.array(compositions(layers, cap.tolist())[0])
        return HexGen.completion(n[None], w, d, arrivals)[0], n
    with mock.patch.object(HexGen, "descend", bad), mock.patch.object(HexGen, "ROUNDS", rounds):
        check_exact(case)


@settings(max_examples=60)
@given(placements(most_tasks=40, most_stages=3, most_layers=18))
def test_long_lists_are_placed_exactly(case):
    check_exact(case)


@settings(max_examples=250)
@given(placements(), st.integers(1, 30))
def test_a_narrow_frontier_claims_no_proof(case, width):
    least = plain_place(*case)
    with mock.patch.object(HexGen, "FRONTIER", width), mock.patch.object(HexGen, "ROUNDS", 2):
        time, n, proven = HexGen.place(*arrays(*case))
    assert plain_completion(n.tolist(), *case[2:]) == pytest.approx(time, rel=1e-9, abs=1e-12)
    assert time >= least * (1 - 1e-9) - 1e-12
    assert not proven or time <= least * (1 + 1e-9) + 1e-12


def test_a_placement_past_the_frontier_is_not_proven():
    rng = np.random.default_rng(0)
    case = 60, np.full(8, 20), rng.uniform(1, 2, (5, 8)), rng.uniform(0, 3, 9), np.arange(5.0)
    assert HexGen.place(*case)[2]
    with mock.patch.object(HexGen, "FRONTIER", 5), mock.patch.object(HexGen, "ROUNDS", 1):
        assert not HexGen.place(*case)[2]


@settings(max_examples=250)
@given(placements())
def test_the_bound_is_one_and_the_paths_are_longest(case):
    layers, cap, w, d, arrivals = arrays(*case)
    n = np.array(compositions(layers, case[1]))
    times = [plain_completion(row, *case[2:]) for row in n.tolist()]
    assert HexGen.completion(n, w, d, arrivals) == pytest.approx(times, rel=1e-9, abs=1e-12)
    entry, cost = HexGen.longest_paths(n, w, d, arrivals)
    base = arrivals[entry[:, 0]] + d.sum()
    assert base + (cost * n).sum(axis=1) == pytest.approx(times, rel=1e-9, abs=1e-12)
    bound, weights = HexGen.mixture(layers, cap, base, cost, math.inf)
    assert weights.sum() == pytest.approx(1)
    assert bound <= min(times) * (1 + 1e-9) + 1e-12


@settings(max_examples=250)
@given(placements())
def test_the_cheapest_counts_are(case):
    layers, cap, (cost, *_), *_ = arrays(*case)
    n = HexGen.cheapest(layers, cap, cost)
    assert n.sum() == layers and (n >= 1).all() and (n <= cap).all()
    assert n @ cost == pytest.approx(min(cost @ other for other in np.array(compositions(layers, case[1]))))


def test_the_bound_comes_near_the_optimum():
    """Of 40 random cases; the enumeration is quick only while this holds."""
    rng, gaps = np.random.default_rng(3), []
    for _ in range(40):
        w, d, arrivals = rng.uniform(0.5, 2, (5, 4)), rng.uniform(0, 3, 5), np.sort(rng.uniform(0, 20, 5))
        n = np.array(compositions(12, [6] * 4))
        entry, cost = HexGen.longest_paths(n, w, d, arrivals)
        bound, _ = HexGen.mixture(12, np.full(4, 6), arrivals[entry[:, 0]] + d.sum(), cost, math.inf)
        gaps.append(1 - bound / HexGen.completion(n, w, d, arrivals).min())
    assert np.mean(gaps) < 0.05
    assert max(gaps) < 0.1


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
        _, notes, time = allocate(layers, offers.tolist(), *rest)
        assert time >= least * (1 - 1e-9)
        assert "exact for each" in notes[0]
        ratios.append(time / least)
    assert sum(ratio <= 1.01 for ratio in ratios) >= 55


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


def test_placements_that_are_not_proven_are_told():
    rng = np.random.default_rng(0)
    case = instance(rng, 6, 40, tight=False, workstations=False)
    with mock.patch.object(HexGen, "FRONTIER", 5), mock.patch.object(HexGen, "ROUNDS", 1):
        _, notes, _ = allocate(40, case[0].tolist(), *case[1:])
    assert "not proven for" in notes[0]


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
    rng, sizes, orders = np.random.default_rng(0), Counter(), set()
    grouping = ((0, 1), (2,), (4,))
    for _ in range(3000):
        child = HexGen.mutated(grouping, 5, rng)
        used = [i for group in child for i in group]
        assert all(child) and len(set(used)) == len(used) and set(used) <= set(range(5))
        sizes[len(child), len(used)] += 1
        if sorted(map(sorted, child)) == [[0, 1], [2], [4]]:
            orders.add(tuple(tuple(sorted(group)) for group in child))
    # merge, split, drop of one of two, drop of one alone, take into a group, take alone: one operator makes many
    assert min(sizes[key] for key in ((2, 4), (4, 4), (3, 3), (2, 3), (3, 5), (4, 5))) >= 40
    assert orders == set(permutations(grouping))
    assert grouping == ((0, 1), (2,), (4,))


def test_the_default_sized_instance_is_quick_and_proven():
    rng = np.random.default_rng(6)
    times = np.outer(rng.uniform(0.3, 1, 5), [1, 1, 1, 3, 3, 3])
    delay = np.triu(rng.rayleigh(3, (7, 7)), 1)
    _, notes, _ = allocate(70, [15, 14, 16, 9, 10, 8], delay + delay.T, times, np.sort(rng.uniform(0, 20, 5)))
    assert "exact for each" in notes[0]
