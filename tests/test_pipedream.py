"""PipeDream: equal to a plain reference, and what must hold of every allocation of it."""
import naive
import pytest
from conftest import check_allocation, part_of, pipeline_case, pipeline_cases, short
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import PipeDream


@settings(max_examples=part_of(300))
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 25),
       st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([1, 0.1, 0.001]))
def test_the_partition_equals_trying_all(time, link, most, unit):
    found = PipeDream.partition([n * unit for n in time], link * unit, most)
    assert found == naive.plain_partition(time, link, most)


def test_limits_too_small_or_stages_too_many_leave_no_partition():
    assert PipeDream.partition([1] * 4, 1, [1, 2]) is None
    assert PipeDream.partition([1], 1, [1, 1]) is None
    assert PipeDream.partition([1] * 3, 1, [1, 2]) == (1, 2)


def test_a_slow_link_does_not_leave_the_partition_lopsided():
    assert PipeDream.partition([1] * 6, 100, [6, 6]) == (3, 3)
    assert PipeDream.partition([1] * 6, 100, [6, 6, 6]) == (2, 2, 2)
    thousandths = [n / 1000 for n in [4, 2, 6, 9, 4]]
    assert PipeDream.partition(thousandths, 0.001, [3, 2, 2]) == (3, 1, 1)
    assert PipeDream.partition(thousandths, 1, [3, 2, 2]) == (2, 1, 2)
    assert PipeDream.partition([8, 1, 1, 1, 1], 0, [4, 4, 4]) == (1, 2, 2)  # the first layer sets the pace


def test_even_means_the_least_sum_of_squares():
    """By cubes the counts would be 2, 1, 2, 3, 1."""
    time, most = [4, 3, 6, 2, 2, 0, 0, 6, 2], [5, 1, 5, 4, 3]
    assert PipeDream.partition(time, 14, most) == naive.plain_partition(time, 14, most) == (1, 1, 1, 3, 3)


def test_decimal_times_do_not_hide_ties():
    for n in range(3, 40):  # equal layers, whose sums differ in the last place: as even as can be, the rest last
        for k in range(1, 4):
            even = tuple(n // k + (s >= k - n % k) for s in range(k))
            assert PipeDream.partition([0.1] * n, 0.05, [n] * k) == even


@settings(max_examples=part_of(200))
@given(pipeline_cases(most_layers=9))
def test_pipedream_plans_for_the_mean_in_listing_order(given):
    if short(given):
        return
    D, layers, t = len(given["bids"]), given["layers"], naive.means(given["times"])
    S = min(D, layers)
    pairs = [given["delay"][i, j] for j in range(D) for i in range(j)]
    mean, link = sum(t) / D, sum(pairs) / len(pairs) if pairs else 0
    stages, notes = PipeDream.allocate(**given)
    path, counts = check_allocation(stages, **given)
    assert path == list(range(S))
    plan = naive.plain_partition([round(mean * 1e9)] * layers, round(link * 1e9), given["bids"]["layers"].tolist()[:S])
    assert tuple(counts) == plan
    planned = max(max(counts) * mean, link if S > 1 else 0)
    assert notes[0] == (f"planned for mean devices ({mean:.3f} s a layer) and mean links ({link:.3f} s): "
                        f"bottleneck {planned:.3f} s")
    real = [n * seconds for n, seconds in zip(counts, naive.means(given["times"]))]
    assert len(notes) == 2
    assert notes[1] == (f"really the slowest stage takes {max(real):.3f} s a task, "
                        f"{counts[real.index(max(real))]} layers on GPU {real.index(max(real))}")


def test_pipedream_names_what_is_slowest_in_fact():
    given = pipeline_case(8, [4, 2, 9], [[1, 2, 3], [3, 2, 1]], {(0, 1): 1, (0, 2): 8, (1, 2): 3})
    stages, notes = PipeDream.allocate(**given)
    assert stages == [{"devices": [0], "layers": 3}, {"devices": [1], "layers": 2}, {"devices": [2], "layers": 3}]
    assert notes == ["planned for mean devices (2.000 s a layer) and mean links (4.000 s): bottleneck 6.000 s",
                     "really the slowest stage takes 6.000 s a task, 3 layers on GPU 0"]


def test_offers_below_the_layers_are_said_to_be():
    links = {(0, 1): 1}
    with pytest.raises(common.NoAllocation, match="the offers add up to 6 of 7 layers"):
        PipeDream.allocate(**pipeline_case(7, [2, 4], [1, 1], links))
    assert sum(stage["layers"] for stage in PipeDream.allocate(**pipeline_case(6, [2, 4], [1, 1], links))[0]) == 6


@settings(max_examples=part_of(100))
@given(pipeline_cases())
def test_no_allocation_exactly_where_the_offers_are_short(given):
    if short(given):
        with pytest.raises(common.NoAllocation):
            PipeDream.allocate(**given)
    else:
        check_allocation(PipeDream.allocate(**given)[0], **given)


def test_one_device():
    stages, notes = PipeDream.allocate(**pipeline_case(5, [7], [[0.5], [1.5]], {}, client=99))
    assert stages == [{"devices": [0], "layers": 5}]
    assert notes[-1] == "really the slowest stage takes 5.000 s a task, 5 layers on GPU 0"


def test_more_devices_than_layers():
    given = pipeline_case(2, [5, 5, 5], [1, 1, 1], {(0, 1): 2, (0, 2): 2, (1, 2): 2})
    assert PipeDream.allocate(**given)[0] == [{"devices": [0], "layers": 1}, {"devices": [1], "layers": 1}]
