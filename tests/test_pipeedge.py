"""PipeEdge: equal to plain references, and what must hold of every allocation of it."""
from unittest import mock

import naive
import numpy as np
import pytest
from conftest import check_allocation, part_of, pipeline_case, pipeline_cases, short, value
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import PipeEdge


@settings(max_examples=part_of(120))
@given(pipeline_cases())
def test_pipeedge_equals_trying_all(given):
    if short(given):
        return
    problem = given["layers"], given["bids"]["layers"].tolist(), given["times"], given["delay"]
    least, devices, _, first = naive.every_pipeline(*problem)
    assert naive.plain_pipeedge(*problem) == (least, devices)
    stages, notes = PipeEdge.allocate(**given)
    assert value(stages, given) == least
    assert tuple(stage["devices"][0] for stage in stages) == first
    path, counts = check_allocation(stages, **given)
    what = naive.what_is_slowest(path, counts, naive.means(given["times"]), given["delay"])
    assert notes == [f"bottleneck {least:.3f} s (proven least): {what}"]


@settings(max_examples=60)
@given(pipeline_cases(most_devices=4, most_layers=9))
def test_layers_are_as_even_as_the_path_allows(given):
    """Of all ways to place them on the path: the slowest stage is the least, then the second slowest, and so on."""
    if short(given):
        return
    path, counts = check_allocation(PipeEdge.allocate(**given)[0], **given)
    t, offers = naive.means(given["times"]), given["bids"]["layers"]

    def slowest_first(counts):
        return sorted((n * t[i] for i, n in zip(path, counts)), reverse=True)
    ways = naive.compositions(given["layers"], [offers[i] for i in path])
    assert slowest_first(counts) == min(map(slowest_first, ways))


@settings(max_examples=60)
@given(pipeline_cases(most_devices=6, most_layers=20, offer=9))
def test_larger_ones_equal_the_dynamic_program(given):
    if short(given):
        return
    stages, _ = PipeEdge.allocate(**given)
    found = naive.plain_pipeedge(given["layers"], given["bids"]["layers"].tolist(), given["times"], given["delay"])
    assert (value(stages, given), len(stages)) == found


@pytest.mark.parametrize("seed", range(60))
def test_times_and_links_of_many_digits(seed):
    """Nearly all candidates of the binary search differ: one step too far misses the least."""
    draw = np.random.default_rng(seed)
    D = draw.integers(2, 7)
    offers = draw.integers(1, 7, D)
    layers = int(draw.integers(1, offers.sum() + 1))
    links = {(i, j): draw.uniform(0, 4) for j in range(D) for i in range(j)}
    given = pipeline_case(layers, offers.tolist(), draw.uniform(0.1, 2, (2, D)), links)
    stages, notes = PipeEdge.allocate(**given)
    least, devices = naive.plain_pipeedge(layers, offers.tolist(), given["times"], given["delay"])
    path, counts = check_allocation(stages, **given)
    what = naive.what_is_slowest(path, counts, naive.means(given["times"]), given["delay"])
    assert (value(stages, given), len(stages)) == (least, devices)
    assert notes == [f"bottleneck {least:.3f} s (proven least): {what}"]


@settings(max_examples=part_of(120))
@given(pipeline_cases(most_layers=20, offer=9))
def test_no_layer_would_be_better_off_elsewhere(given):
    if short(given):
        return
    stages, _ = PipeEdge.allocate(**given)
    path, counts = check_allocation(stages, **given)
    t, offers = naive.means(given["times"]), given["bids"]["layers"]
    for i, n in zip(path, counts):
        for j, m in zip(path, counts):
            if i != j and n > 1 and m < offers[j]:
                assert (m + 1) * t[j] >= n * t[i]


def test_a_hidden_path_through_all_devices_is_found():
    """Every device is needed for all layers, and one path alone has fast links."""
    for D in 14, PipeEdge.EXACT:
        hidden = np.random.default_rng(D).permutation(D).tolist()
        links = {(i, j): 5.0 for j in range(D) for i in range(j)}
        links.update({(min(pair), max(pair)): 1.0 for pair in zip(hidden, hidden[1:])})
        stages, notes = PipeEdge.allocate(**pipeline_case(6 * D, [6] * D, [0.1] * D, links))
        path, counts = [stage["devices"][0] for stage in stages], [stage["layers"] for stage in stages]
        assert path in (hidden, hidden[::-1])
        assert counts == [6] * D
        assert notes[0].startswith("bottleneck 1.000 s (proven least): the link from GPU ")


def test_pipeedge_names_the_stage_or_the_link():
    given = pipeline_case(8, [4, 4, 4], [[1, 2, 9], [2, 2, 11]], {(0, 1): 5, (0, 2): 0, (1, 2): 0}, client=50)
    stages, notes = PipeEdge.allocate(**given)
    assert stages == [{"devices": [0], "layers": 4}, {"devices": [1], "layers": 4}]
    assert notes == ["bottleneck 8.000 s (proven least): 4 layers on GPU 1"]
    given["delay"][0, 1] = given["delay"][1, 0] = 8.5
    assert PipeEdge.allocate(**given)[1][0].endswith("bottleneck 8.500 s (proven least): the link from GPU 0 to GPU 1")


@settings(max_examples=part_of(120))
@given(pipeline_cases(), st.integers(1, 4))
def test_a_narrow_beam_is_valid_and_never_better_than_exact(given, width):
    if short(given):
        return
    exact = value(PipeEdge.allocate(**given)[0], given)
    stages, notes = PipeEdge.allocate(**given, exact=0, beam=width)
    found = value(stages, given)
    assert found >= exact
    t, offers = naive.means(given["times"]), given["bids"]["layers"]
    least = sorted(n * t[i] for i in range(len(t)) for n in range(1, offers[i] + 1))[given["layers"] - 1]
    assert least <= exact  # what all devices together need, links aside
    proof = "proven least" if found == least else f"best of a beam of {width}, not proven: at least {least:.3f} s"
    what = naive.what_is_slowest(*check_allocation(stages, **given), t, given["delay"])
    assert notes == [f"bottleneck {found:.3f} s ({proof}): {what}"]


@settings(max_examples=part_of(120))
@given(pipeline_cases(most_devices=6, most_layers=12))
def test_a_beam_that_keeps_everything_is_exact(given):
    if short(given):
        return
    exact = PipeEdge.allocate(**given)[0]
    beam = PipeEdge.allocate(**given, exact=0, beam=10 ** 6)[0]
    assert (value(beam, given), len(beam)) == (value(exact, given), len(exact))


def test_the_beam_follows_what_can_take_most():
    """Two of fifty devices take six layers each, the others one: a beam of one path finds the two."""
    links = {(i, j): 1.0 for j in range(50) for i in range(j)}
    given = pipeline_case(12, [6 if i in (17, 31) else 1 for i in range(50)], [0.1] * 50, links)
    stages, notes = PipeEdge.allocate(**given, beam=1)
    assert sorted(stage["devices"][0] for stage in stages) == [17, 31]
    assert notes[0].startswith("bottleneck 1.000 s (best of a beam of 1, not proven: at least 0.100 s): the link from ")


def test_a_beam_that_meets_the_bound_is_proven():
    given = pipeline_case(4, [4] * 3, [1.0] * 3, {(0, 1): 0, (0, 2): 0, (1, 2): 0})
    assert PipeEdge.allocate(**given, exact=2)[1][0].startswith("bottleneck 2.000 s (proven least): 2 layers on ")


def test_exact_up_to_and_including_the_setting():
    given = pipeline_case(4, [2] * 3, [1.0] * 3, {(0, 1): 9, (0, 2): 9, (1, 2): 9})
    for devices, other in (3, "beam_path"), (2, "exact_path"):
        with mock.patch.object(PipeEdge, other, None):
            assert ("proven least" in PipeEdge.allocate(**given, exact=devices)[1][0]) == (devices == 3)


def test_offers_below_the_layers_are_said_to_be():
    links = {(0, 1): 1}
    with pytest.raises(common.NoAllocation, match="the offers add up to 6 of 7 layers"):
        PipeEdge.allocate(**pipeline_case(7, [2, 4], [1, 1], links))
    assert sum(stage["layers"] for stage in PipeEdge.allocate(**pipeline_case(6, [2, 4], [1, 1], links))[0]) == 6


@settings(max_examples=part_of(100))
@given(pipeline_cases())
def test_no_allocation_exactly_where_the_offers_are_short(given):
    if short(given):
        with pytest.raises(common.NoAllocation):
            PipeEdge.allocate(**given)
    else:
        check_allocation(PipeEdge.allocate(**given)[0], **given)


@pytest.mark.parametrize("exact", [0, 16])
def test_one_device(exact):
    stages, notes = PipeEdge.allocate(**pipeline_case(5, [7], [[0.5], [1.5]], {}, client=99), exact=exact)
    assert stages == [{"devices": [0], "layers": 5}]
    assert "bottleneck 5.000 s" in notes[-1]
    assert notes[-1].endswith("5 layers on GPU 0")


@pytest.mark.parametrize("exact", [0, 16])
def test_a_device_that_takes_no_time(exact):
    given = pipeline_case(5, [3, 2, 5], [0, 1, 1], {(0, 1): 1, (0, 2): 9, (1, 2): 9})
    stages, _ = PipeEdge.allocate(**given, exact=exact)
    assert sorted((stage["devices"][0], stage["layers"]) for stage in stages) == [(0, 3), (1, 2)]


def test_more_devices_than_layers():
    given = pipeline_case(2, [5, 5, 5], [1, 1, 1], {(0, 1): 2, (0, 2): 2, (1, 2): 2})
    assert PipeEdge.allocate(**given)[0] == [{"devices": [0], "layers": 2}]
