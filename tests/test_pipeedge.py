"""PipeEdge: equal to plain references, and what must hold of every allocation of it."""
from unittest import mock

import naive
import numpy as np
from conftest import check_allocation, part_of, pipeline_case, pipeline_cases, short
from hypothesis import given, settings
from hypothesis import strategies as st

import PipeEdge


def value(stages, given):
    """The bottleneck of an allocation."""
    path, counts = check_allocation(stages, **given)
    return naive.bottleneck(path, counts, naive.means(given["times"]), given["delay"])


def bottleneck_line(stages, given, proof="proven least"):
    """What is said of an allocation: its bottleneck, how good it is, and the stage or link that is slowest."""
    path, counts = check_allocation(stages, **given)
    slowest = naive.what_is_slowest(path, counts, naive.means(given["times"]), given["delay"])
    return f"bottleneck {value(stages, given):.3f} s ({proof}): {slowest}"


@settings(max_examples=part_of(300))
@given(pipeline_cases())
def test_it_equals_trying_all(given):
    if short(given):
        return
    least, devices, _, path = naive.every_pipeline(
        given["layers"], given["bids"]["layers"].tolist(), given["times"], given["delay"])
    stages, notes = PipeEdge.allocate(**given)
    assert value(stages, given) == least
    assert len(stages) == devices
    assert tuple(stage["devices"][0] for stage in stages) == path
    assert notes == [bottleneck_line(stages, given)]


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


def test_a_hidden_path_through_all_devices_is_found():
    """Every device is needed for all layers, and one path alone has fast links."""
    for D in 14, PipeEdge.EXACT:
        hidden = np.random.default_rng(D).permutation(D).tolist()
        links = {(i, j): 5.0 for j in range(D) for i in range(j)}
        links.update({(min(pair), max(pair)): 1.0 for pair in zip(hidden, hidden[1:])})
        given = pipeline_case(6 * D, [6] * D, [0.1] * D, links)
        stages, notes = PipeEdge.allocate(**given)
        path, counts = check_allocation(stages, **given)
        assert path in (hidden, hidden[::-1])
        assert counts == [6] * D
        assert notes[0].startswith("bottleneck 1.000 s (proven least): the link from GPU ")


def test_by_hand():
    given = pipeline_case(8, [4, 4, 4], [[1, 2, 9], [2, 2, 11]], {(0, 1): 5, (0, 2): 0, (1, 2): 0}, client=50)
    stages, notes = PipeEdge.allocate(**given)
    assert stages == [{"devices": [0], "layers": 4}, {"devices": [1], "layers": 4}]
    assert notes == ["bottleneck 8.000 s (proven least): 4 layers on GPU 1"]
    given["delay"][0, 1] = given["delay"][1, 0] = 8.5
    assert PipeEdge.allocate(**given)[1][0].endswith("bottleneck 8.500 s (proven least): the link from GPU 0 to GPU 1")


# The beam -------------------------------------------------------------------------------------------------------------


@settings(max_examples=part_of(200))
@given(pipeline_cases(most_devices=6, most_layers=12), st.integers(1, 4))
def test_a_narrow_beam_is_valid_and_never_better_than_exact_and_a_wide_one_is_exact(given, width):
    if short(given):
        return
    best = PipeEdge.allocate(**given)[0]
    exact = value(best, given)
    stages, notes = PipeEdge.allocate(**given, exact=0, beam=width)
    found = value(stages, given)
    t, offers = naive.means(given["times"]), given["bids"]["layers"]
    least = sorted(n * t[i] for i in range(len(t)) for n in range(1, offers[i] + 1))[given["layers"] - 1]
    assert least <= exact <= found  # least: what all devices together need, links aside
    proof = "proven least" if found == least else f"best of a beam of {width}, not proven: at least {least:.3f} s"
    assert notes == [bottleneck_line(stages, given, proof)]
    wide = PipeEdge.allocate(**given, exact=0, beam=10 ** 6)[0]
    assert (value(wide, given), len(wide)) == (exact, len(best))


def test_the_beam_follows_what_can_take_most():
    """Two of fifty devices take six layers each, the others one: a beam of one path finds the two."""
    links = {(i, j): 1.0 for j in range(50) for i in range(j)}
    given = pipeline_case(12, [6 if i in (17, 31) else 1 for i in range(50)], [0.1] * 50, links)
    stages, _ = PipeEdge.allocate(**given, beam=1)
    assert sorted(stage["devices"][0] for stage in stages) == [17, 31]


def test_exact_up_to_and_including_the_setting():
    given = pipeline_case(4, [2] * 3, [1.0] * 3, {(0, 1): 9, (0, 2): 9, (1, 2): 9})
    for devices, other in (3, "beam_path"), (2, "exact_path"):
        with mock.patch.object(PipeEdge, other, None):
            assert ("proven least" in PipeEdge.allocate(**given, exact=devices)[1][0]) == (devices == 3)
