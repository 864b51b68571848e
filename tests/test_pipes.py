"""PipeDream and PipeEdge: equal to plain references, and what must hold of every allocation of theirs."""
from itertools import permutations
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import PipeDream
import PipeEdge


def case(layers, offers, times, links, client=9.0):
    """Arguments of allocate: offers per device, times (tasks, D), links {(i, j): seconds} with i < j."""
    D = len(offers)
    delay = np.zeros((D + 1, D + 1))
    for (i, j), seconds in links.items():
        delay[i, j] = delay[j, i] = seconds
    delay[D, :D] = delay[:D, D] = client
    times = np.array(times, dtype=float).reshape(-1, D)
    bids = pd.DataFrame({"device": [f"GPU {i}" for i in range(D)], "layers": offers, "price": 1.0,
                         "computation_time": times.sum(axis=0) * offers, "true_cost": 0.5})
    return dict(layers=layers, bids=bids, delay=delay, times=times, arrivals=np.zeros(len(times)), seed=0)


whole = st.integers(0, 4).map(float)  # few distinct values, so that ties are common
real = st.floats(0, 4, allow_subnormal=False)


@st.composite
def cases(draw, most_devices=5, most_layers=7, offer=5):
    """Arguments of allocate for small cases, mostly such that the offers reach the layers."""
    D, number = draw(st.integers(1, most_devices)), draw(st.sampled_from([whole, real]))
    offers = draw(st.lists(st.integers(1, offer), min_size=D, max_size=D))
    layers = draw(st.integers(1, min(most_layers, sum(offers) + draw(st.sampled_from([0, 0, 0, 2])))))
    times = draw(st.lists(number, min_size=D, max_size=D * 3).filter(lambda values: len(values) % D == 0))
    links = {(i, j): draw(number) for j in range(D) for i in range(j)}
    return case(layers, offers, times, links, client=draw(st.sampled_from([0.0, 9.0])))


def means(times):
    return [sum(column) / len(column) for column in times.T.tolist()]


def compositions(layers, most):
    """All ways to give each stage a layer at least and its limit at most."""
    if not most:
        return [()] if layers == 0 else []
    return [(n, *rest) for n in range(1, min(most[0], layers) + 1) for rest in compositions(layers - n, most[1:])]


def bottleneck(path, counts, t, delay):
    parts = [n * t[i] for i, n in zip(path, counts)] + [delay[i, j] for i, j in zip(path, path[1:])]
    return max(parts)


def plain_partition(time, link, most):
    """PipeDream's problem by trying everything: times and link are whole numbers."""
    def cost(counts):
        stages = [sum(time[sum(counts[:s]):sum(counts[:s + 1])]) for s in range(len(counts))]
        return max(stages + [link] * (len(most) > 1)), sum(stage ** 2 for stage in stages), counts
    return min(map(cost, compositions(len(time), most)), default=(None, None, None))[2]


def every_pipeline(layers, most, times, delay):
    """PipeEdge's problem by trying everything: least (bottleneck, devices, their set as a number, path)."""
    t, D, found = means(times), len(most), []
    for k in range(1, D + 1):
        for path in permutations(range(D), k):
            for counts in compositions(layers, [most[i] for i in path]):
                found.append((bottleneck(path, counts, t, delay), k, sum(1 << i for i in path), path))
    return min(found)


def plain_pipeedge(layers, most, times, delay):
    """PipeEdge's problem by its dynamic program: (least bottleneck, fewest devices that reach it).

    h[S][u][i]: the least bottleneck of the first i layers on the devices of the set S, u being the last of them.
    """
    t, D, inf = means(times), len(most), float("inf")
    link = delay.tolist()
    h = [[[inf] * (layers + 1) for _ in range(D)] for _ in range(1 << D)]
    for u in range(D):
        for n in range(1, min(most[u], layers) + 1):
            h[1 << u][u][n] = n * t[u]
    for S in range(1, 1 << D):
        for u in range(D):
            for v in range(D):
                if not S >> u & 1 or S >> v & 1:
                    continue
                new = h[S | 1 << v][v]
                for i in range(1, layers):
                    so_far = max(h[S][u][i], link[u][v])
                    if so_far < inf:
                        for n in range(1, min(most[v], layers - i) + 1):
                            new[i + n] = min(new[i + n], max(so_far, n * t[v]))
    return min((h[S][u][layers], bin(S).count("1")) for S in range(1, 1 << D) for u in range(D))


def check_allocation(stages, layers, bids, **_):
    """The path and the layer counts of an allocation, once it is seen to be one."""
    path, counts = [stage["devices"][0] for stage in stages], [stage["layers"] for stage in stages]
    assert all(len(stage["devices"]) == 1 for stage in stages)
    assert all(type(value) is int for value in path + counts)
    assert len(set(path)) == len(path)
    assert set(path) <= set(range(len(bids)))
    assert sum(counts) == layers
    assert all(1 <= n <= bids["layers"][i] for i, n in zip(path, counts))
    return path, counts


def value(stages, given):
    path, counts = check_allocation(stages, **given)
    return bottleneck(path, counts, means(given["times"]), given["delay"])


def short(given):
    return given["bids"]["layers"].sum() < given["layers"]


# PipeDream ------------------------------------------------------------------------------------------------------------


@settings(max_examples=600)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 25),
       st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([1, 0.1, 0.001]))
def test_the_partition_equals_trying_all(time, link, most, unit):
    found = PipeDream.partition([n * unit for n in time], link * unit, most)
    assert found == plain_partition(time, link, most)


def test_limits_too_small_or_stages_too_many_leave_no_partition():
    assert PipeDream.partition([1] * 4, 1, [1, 2]) is None
    assert PipeDream.partition([1], 1, [1, 1]) is None
    assert PipeDream.partition([1] * 3, 1, [1, 2]) == (1, 2)


def test_a_slow_link_does_not_leave_the_partition_lopsided():
    assert PipeDream.partition([1] * 6, 100, [6, 6]) == (3, 3)
    assert PipeDream.partition([1] * 6, 100, [6, 6, 6]) == (2, 2, 2)
    assert PipeDream.partition([8, 1, 1, 1, 1], 0, [4, 4, 4]) == (1, 2, 2)  # the first layer sets the pace


def test_decimal_times_do_not_hide_ties():
    for n in range(3, 40):  # equal layers, whose sums differ in the last place: as even as can be, the rest last
        for k in range(1, 4):
            even = tuple(n // k + (s >= k - n % k) for s in range(k))
            assert PipeDream.partition([0.1] * n, 0.05, [n] * k) == even


@settings(max_examples=300)
@given(cases(most_layers=9))
def test_pipedream_plans_for_the_mean_in_listing_order(given):
    if short(given):
        return
    D, layers, t = len(given["bids"]), given["layers"], means(given["times"])
    S = min(D, layers)
    pairs = [given["delay"][i, j] for j in range(D) for i in range(j)]
    mean, link = sum(t) / D, sum(pairs) / len(pairs) if pairs else 0
    stages, notes = PipeDream.allocate(**given)
    path, counts = check_allocation(stages, **given)
    assert path == list(range(S))
    plan = plain_partition([round(mean * 1e9)] * layers, round(link * 1e9), given["bids"]["layers"].tolist()[:S])
    assert tuple(counts) == plan
    planned = max(max(counts) * mean, link if S > 1 else 0)
    assert notes[0] == (f"planned for mean devices ({mean:.3f} s a layer) and mean links ({link:.3f} s): "
                        f"bottleneck {planned:.3f} s")
    assert notes[1].startswith(f"with the real devices and links: bottleneck {value(stages, given):.3f} s, ")


def test_pipedream_names_what_is_slowest_in_fact():
    given = case(8, [4, 2, 9], [[1, 2, 3], [3, 2, 1]], {(0, 1): 1, (0, 2): 8, (1, 2): 3})
    stages, notes = PipeDream.allocate(**given)
    assert stages == [{"devices": [0], "layers": 3}, {"devices": [1], "layers": 2}, {"devices": [2], "layers": 3}]
    assert notes == ["planned for mean devices (2.000 s a layer) and mean links (4.000 s): bottleneck 6.000 s",
                     "with the real devices and links: bottleneck 6.000 s, 3 layers on GPU 0"]
    given["delay"][1, 2] = given["delay"][2, 1] = 6.3
    assert PipeDream.allocate(**given)[1][1].endswith("bottleneck 6.300 s, the link from GPU 1 to GPU 2")


# PipeEdge -------------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(cases())
def test_pipeedge_equals_trying_all(given):
    if short(given):
        return
    problem = given["layers"], given["bids"]["layers"].tolist(), given["times"], given["delay"]
    least, devices, _, first = every_pipeline(*problem)
    assert plain_pipeedge(*problem) == (least, devices)
    stages, notes = PipeEdge.allocate(**given)
    assert value(stages, given) == least
    assert tuple(stage["devices"][0] for stage in stages) == first
    assert len(notes) == 1
    assert notes[0].startswith(f"bottleneck {least:.3f} s (proven least): ")


@settings(max_examples=60)
@given(cases(most_devices=6, most_layers=20, offer=9))
def test_larger_ones_equal_the_dynamic_program(given):
    if short(given):
        return
    stages, _ = PipeEdge.allocate(**given)
    found = plain_pipeedge(given["layers"], given["bids"]["layers"].tolist(), given["times"], given["delay"])
    assert (value(stages, given), len(stages)) == found


@settings(max_examples=200)
@given(cases(most_layers=20, offer=9))
def test_no_layer_would_be_better_off_elsewhere(given):
    if short(given):
        return
    stages, _ = PipeEdge.allocate(**given)
    path, counts = check_allocation(stages, **given)
    t, offers = means(given["times"]), given["bids"]["layers"]
    for i, n in zip(path, counts):
        for j, m in zip(path, counts):
            if i != j and n > 1 and m < offers[j]:
                assert (m + 1) * t[j] >= n * t[i]


def test_a_hidden_path_through_sixteen_devices_is_found():
    """Every device is needed for 96 layers, and one path alone has fast links."""
    for seed in range(3):
        hidden = np.random.default_rng(seed).permutation(16).tolist()
        links = {(i, j): 5.0 for j in range(16) for i in range(j)}
        links.update({(min(pair), max(pair)): 1.0 for pair in zip(hidden, hidden[1:])})
        stages, notes = PipeEdge.allocate(**case(96, [6] * 16, [0.1] * 16, links))
        path, counts = [stage["devices"][0] for stage in stages], [stage["layers"] for stage in stages]
        assert path in (hidden, hidden[::-1])
        assert counts == [6] * 16
        assert notes[0].startswith("bottleneck 1.000 s (proven least): the link from GPU ")


def test_pipeedge_names_the_stage_or_the_link():
    given = case(8, [4, 4, 4], [[1, 2, 9], [2, 2, 11]], {(0, 1): 5, (0, 2): 0, (1, 2): 0}, client=50)
    stages, notes = PipeEdge.allocate(**given)
    assert stages == [{"devices": [0], "layers": 4}, {"devices": [1], "layers": 4}]
    assert notes == ["bottleneck 8.000 s (proven least): 4 layers on GPU 1"]
    given["delay"][0, 1] = given["delay"][1, 0] = 8.5
    assert PipeEdge.allocate(**given)[1][0].endswith("bottleneck 8.500 s (proven least): the link from GPU 0 to GPU 1")


@settings(max_examples=200)
@given(cases(), st.integers(1, 4))
def test_a_narrow_beam_is_valid_and_never_better_than_exact(given, width):
    if short(given):
        return
    exact = value(PipeEdge.allocate(**given)[0], given)
    with mock.patch.object(PipeEdge, "EXACT", 0), mock.patch.object(PipeEdge, "BEAM", width):
        stages, notes = PipeEdge.allocate(**given)
    found = value(stages, given)
    assert found >= exact
    if "proven least" in notes[0]:
        assert found == exact
    else:
        assert notes[0].startswith(f"bottleneck {found:.3f} s (best of a beam of {width}, not proven: at least ")
        assert float(notes[0].split("at least ")[1].split()[0]) <= exact + 0.0005  # it is printed to the third place


@settings(max_examples=200)
@given(cases(most_devices=6, most_layers=12))
def test_a_beam_that_keeps_everything_is_exact(given):
    if short(given):
        return
    exact = PipeEdge.allocate(**given)[0]
    with mock.patch.object(PipeEdge, "EXACT", 0), mock.patch.object(PipeEdge, "BEAM", 10 ** 6):
        beam = PipeEdge.allocate(**given)[0]
    assert (value(beam, given), len(beam)) == (value(exact, given), len(exact))


def test_the_beam_follows_what_can_take_most():
    """Two of fifty devices take six layers each, the others one: a beam of one path finds the two."""
    links = {(i, j): 1.0 for j in range(50) for i in range(j)}
    given = case(12, [6 if i in (17, 31) else 1 for i in range(50)], [0.1] * 50, links)
    with mock.patch.object(PipeEdge, "BEAM", 1):
        stages, notes = PipeEdge.allocate(**given)
    assert sorted(stage["devices"][0] for stage in stages) == [17, 31]
    assert notes[0].startswith("bottleneck 1.000 s (best of a beam of 1, not proven: at least 0.100 s): the link from ")


def test_a_beam_that_meets_the_bound_is_proven():
    given = case(4, [4] * 3, [1.0] * 3, {(0, 1): 0, (0, 2): 0, (1, 2): 0})
    with mock.patch.object(PipeEdge, "EXACT", 2):
        assert PipeEdge.allocate(**given)[1][0].startswith("bottleneck 2.000 s (proven least): 2 layers on ")


def test_exact_up_to_and_including_the_setting():
    given = case(4, [2] * 3, [1.0] * 3, {(0, 1): 9, (0, 2): 9, (1, 2): 9})
    for devices, other in (3, "beam_path"), (2, "exact_path"):
        with mock.patch.object(PipeEdge, "EXACT", devices), mock.patch.object(PipeEdge, other, None):
            assert ("proven least" in PipeEdge.allocate(**given)[1][0]) == (devices == 3)
    with mock.patch.object(PipeEdge, "BEAM", 0), pytest.raises(common.UserError, match="BEAM: at least one"):
        PipeEdge.allocate(**given)


# Both -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [PipeDream, PipeEdge])
def test_offers_below_the_layers_are_said_to_be(script):
    links = {(0, 1): 1}
    with pytest.raises(common.NoAllocation, match="the offers add up to 6 of 7 layers"):
        script.allocate(**case(7, [2, 4], [1, 1], links))
    assert sum(stage["layers"] for stage in script.allocate(**case(6, [2, 4], [1, 1], links))[0]) == 6


@settings(max_examples=100)
@given(cases())
def test_no_allocation_exactly_where_the_offers_are_short(given):
    for script in PipeDream, PipeEdge:
        if short(given):
            with pytest.raises(common.NoAllocation):
                script.allocate(**given)
        else:
            check_allocation(script.allocate(**given)[0], **given)


@pytest.mark.parametrize("script", [PipeDream, PipeEdge])
@pytest.mark.parametrize("exact", [0, 16])
def test_one_device(script, exact):
    with mock.patch.object(PipeEdge, "EXACT", exact):
        stages, notes = script.allocate(**case(5, [7], [[0.5], [1.5]], {}, client=99))
    assert stages == [{"devices": [0], "layers": 5}]
    assert "bottleneck 5.000 s" in notes[-1]
    assert notes[-1].endswith("5 layers on GPU 0")


@pytest.mark.parametrize("exact", [0, 16])
def test_a_device_that_takes_no_time(exact):
    with mock.patch.object(PipeEdge, "EXACT", exact):
        stages, _ = PipeEdge.allocate(**case(5, [3, 2, 5], [0, 1, 1], {(0, 1): 1, (0, 2): 9, (1, 2): 9}))
    assert sorted((stage["devices"][0], stage["layers"]) for stage in stages) == [(0, 3), (1, 2)]


def test_more_devices_than_layers():
    given = case(2, [5, 5, 5], [1, 1, 1], {(0, 1): 2, (0, 2): 2, (1, 2): 2})
    assert PipeDream.allocate(**given)[0] == [{"devices": [0], "layers": 1}, {"devices": [1], "layers": 1}]
    assert PipeEdge.allocate(**given)[0] == [{"devices": [0], "layers": 2}]
