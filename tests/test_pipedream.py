"""PipeDream: the partition equals that of trying all, and it is planned for the mean device and link."""
import naive
import pytest
from conftest import check_allocation, part_of, pipeline_case, pipeline_cases, short
from hypothesis import given, settings
from hypothesis import strategies as st

import PipeDream


@settings(max_examples=part_of(300))
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 25),
       st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([1, 0.1, 0.001]))
def test_the_partition_equals_trying_all(time, link, most, unit):
    found = PipeDream.partition([n * unit for n in time], link * unit, most)
    assert found == naive.plain_partition(time, link, most)


@pytest.mark.parametrize("time, link, most, counts", [
    ([1] * 4, 1, [1, 2], None),  # the limits are too small
    ([1], 1, [1, 1], None),  # more stages than layers
    ([1] * 3, 1, [1, 2], (1, 2)),
    ([1] * 6, 100, [6, 6, 6], (2, 2, 2)),  # a slow link does not leave it lopsided
    ([0.004, 0.002, 0.006, 0.009, 0.004], 0.001, [3, 2, 2], (3, 1, 1)),
    ([0.004, 0.002, 0.006, 0.009, 0.004], 1, [3, 2, 2], (2, 1, 2)),
    ([8, 1, 1, 1, 1], 0, [4, 4, 4], (1, 2, 2)),  # the first layer sets the pace
    ([4, 3, 6, 2, 2, 0, 0, 6, 2], 14, [5, 1, 5, 4, 3], (1, 1, 1, 3, 3)),  # by cubes, not squares: 2, 1, 2, 3, 1
])
def test_partitions_by_hand(time, link, most, counts):
    assert PipeDream.partition(time, link, most) == counts


def test_decimal_times_do_not_hide_ties():
    for n in range(3, 40):  # equal layers, whose sums differ in the last place: as even as can be, the rest last
        for k in range(1, 4):
            even = tuple(n // k + (s >= k - n % k) for s in range(k))
            assert PipeDream.partition([0.1] * n, 0.05, [n] * k) == even


@settings(max_examples=part_of(200))
@given(pipeline_cases(most_layers=9))
def test_it_plans_for_the_mean_in_listing_order(given):
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
    real = [n * seconds for n, seconds in zip(counts, t)]
    slowest = real.index(max(real))
    assert notes == [
        f"planned for mean devices ({mean:.3f} s a layer) and mean links ({link:.3f} s): bottleneck {planned:.3f} s",
        f"really the slowest stage takes {max(real):.3f} s a task, {counts[slowest]} layers on GPU {slowest}"]


def test_by_hand():
    given = pipeline_case(8, [4, 2, 9], [[1, 2, 3], [3, 2, 1]], {(0, 1): 1, (0, 2): 8, (1, 2): 3})
    stages, notes = PipeDream.allocate(**given)
    assert stages == [{"devices": [0], "layers": 3}, {"devices": [1], "layers": 2}, {"devices": [2], "layers": 3}]
    assert notes == ["planned for mean devices (2.000 s a layer) and mean links (4.000 s): bottleneck 6.000 s",
                     "really the slowest stage takes 6.000 s a task, 3 layers on GPU 0"]
