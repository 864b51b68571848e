"""Pipelines of single devices against trying all: PipeDream, PipeEdge, and what reproduce/ compares them with."""
import itertools
from unittest import mock

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, check_allocation, part_of, pipeline_case, pipeline_cases, short
from hypothesis import example, given, settings
from hypothesis import strategies as st

import common
import FCIM
import PipeDream
import PipeEdge
from reproduce import Cheapest, LeastLatency, published

# PipeDream: planned for the mean device and link ----------------------------------------------------------------------


@settings(max_examples=part_of(300))
@example([4, 2, 6, 9, 4], 1, [3, 2, 2], 0.001)  # the evenest is not the one of the least bottleneck
@example([4, 3, 6, 2, 2, 0, 0, 6, 2], 14, [5, 1, 5, 4, 3], 1)  # by cubes, not squares: 2, 1, 2, 3, 1
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 25),
       st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([1, 0.1, 0.001]))
def test_the_partition_equals_trying_all(time, link, most, unit):
    found = PipeDream.partition([n * unit for n in time], link * unit, most)
    assert found == naive.plain_partition(time, link, most)


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
    real = [n * seconds for n, seconds in zip(counts, t)]
    slowest = real.index(max(real))
    assert notes == [
        f"planned for mean devices ({mean:.3f} s a layer) and mean links ({link:.3f} s): bottleneck {planned:.3f} s",
        f"really the slowest stage takes {max(real):.3f} s a task, {counts[slowest]} layers on GPU {slowest}"]


# PipeEdge -------------------------------------------------------------------------------------------------------------


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
def test_pipeedge_equals_trying_all(given):
    """On the path, layers are placed one by one where the stage is shortest with one more."""
    if short(given):
        return
    offers, t = given["bids"]["layers"].tolist(), naive.means(given["times"])
    least, devices, _, path = naive.every_pipeline(given["layers"], offers, given["times"], given["delay"])
    stages, notes = PipeEdge.allocate(**given)
    found, counts = check_allocation(stages, **given)
    assert value(stages, given) == least
    assert len(stages) == devices
    assert tuple(found) == path
    assert counts == naive.filled_up(given["layers"], [offers[i] for i in path], [[t[i] for i in path]], [1] * devices)
    assert notes == [bottleneck_line(stages, given)]


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


# LeastLatency and Cheapest --------------------------------------------------------------------------------------------


@st.composite
def reference_cases(draw):
    """Small cases whose links of the client and prices differ too, some of them equal, some 0."""
    given = draw(pipeline_cases(most_devices=4, most_layers=6, offer=4))
    number = len(given["bids"])
    values = st.lists(st.sampled_from([0, 0.1, 0.2, 0.3, 1, 1.5, 7.25]), min_size=number, max_size=number)
    given["delay"][-1, :-1] = given["delay"][:-1, -1] = draw(values)
    given["bids"]["price"] = draw(values)
    return given


@settings(max_examples=part_of(300))
@given(reference_cases())
def test_the_references_are_the_least_of_all_pipelines(given):
    """LeastLatency in the links and the work of a task in the mean, Cheapest in cents."""
    offers, t = given["bids"]["layers"].tolist(), naive.means(given["times"])
    cents = (given["bids"]["price"] / given["bids"]["layers"]).tolist()

    def latency(path, counts):
        return given["delay"][[-1, *path], [*path, -1]].sum() + sum(n * t[i] for i, n in zip(path, counts))

    def cost(path, counts):
        return sum(n * cents[i] for i, n in zip(path, counts))
    for module, value in ((LeastLatency, latency), (Cheapest, cost)):
        if short(given):
            with pytest.raises(common.NoAllocation):
                module.allocate(**given)
            continue
        stages, _ = module.allocate(**given)
        least = min(value(*pipeline) for pipeline in naive.pipelines(given["layers"], offers))
        assert value(*check_allocation(stages, **given)) == pytest.approx(least, abs=1e-9)


def test_no_method_is_faster_for_a_task_alone_than_the_least_latency():
    case = common.allocation_case(FCIM.tasks[:1], common.get_model("BLOOM-176B"), "campus", 0)
    alone = {}
    for allocate in (LeastLatency.allocate, Cheapest.allocate, FCIM.allocate):
        stages, _ = allocate(**case)
        alone[allocate] = common.evaluate(stages, **case)[3]["mean_turnaround_time"]
    assert alone[LeastLatency.allocate] == min(alone.values()) < alone[FCIM.allocate]


def test_more_bidders_than_it_takes_are_refused(run):
    case = {"layers": 4, "bids": pd.DataFrame({"layers": [1] * 17, "price": [1.0] * 17}),
            "delay": np.ones((18, 18)), "times": np.ones((1, 17))}
    with pytest.raises(common.UserError, match="16 bidders, not 17"):
        LeastLatency.allocate(**case)


@pytest.mark.parametrize("name", ["Cheapest", "LeastLatency"])
def test_a_reference_runs_by_itself(run, name):
    status, out, err = run(str(ROOT / "reproduce" / f"{name}.py"), "--no-plot")
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: 5 tasks")


# The methods of the published scripts ---------------------------------------------------------------------------------


def published_case(given):
    """L, l, T, links and client."""
    bids, delay = given["bids"], given["delay"]
    return given["layers"], bids["layers"].tolist(), bids["computation_time"].tolist(), delay[:-1, :-1], delay[-1, :-1]


published_cases = reference_cases().filter(lambda given: not short(given)).map(published_case)


def slowest(counts, l, T, links, client):
    """PipeEdge's objective of layer counts in listing order: devices before the first one used cost nothing."""
    first = next(j for j, n in enumerate(counts) if n)
    return max(T[j] * counts[j] / l[j] + (links[j, 0] if j else 0) + client[j] for j in range(first, len(l)))


@settings(max_examples=part_of(300))
@given(published_cases)
def test_the_published_pipeedge_is_the_least_of_all_counts(case):
    L, l, T, links, client = case
    best = min(slowest(counts, l, T, links, client)
               for counts in itertools.product(*(range(n + 1) for n in l)) if sum(counts) == L)
    devices, layers, _ = published.pipeedge(*case)
    counts = [0] * len(l)
    for j, n in zip(devices, layers):
        counts[j] = n
    assert devices == list(range(devices[0], len(l))) and layers[0] > 0 and sum(layers) == L
    assert slowest(counts, l, T, links, client) == pytest.approx(best)


@settings(max_examples=part_of(200))
@given(published_cases, st.integers(0, 5))
def test_the_published_hexgen_places_all_layers_within_the_offers(case, seed):
    L, l, T, links, _ = case
    devices, layers, _ = published.hexgen(L, l, T, links, np.random.default_rng(seed))
    assert sum(layers) == L and all(0 < n <= l[i] for i, n in zip(devices, layers))
    assert published.hexgen(L, l, T, links, np.random.default_rng(seed))[:2] == (devices, layers)


def test_the_published_pipedream_gives_the_last_device_what_is_left_beyond_its_offer():
    assert published.pipedream(10, [4, 4, 4, 1]) == ([0, 1, 2, 3], [3, 3, 3, 1], None)
    assert published.pipedream(11, [5, 5, 1]) == ([0, 1, 2], [5, 5, 1], None)
    assert published.pipedream(23, [8, 8, 8, 1]) == ([0, 1, 2, 3], [7, 7, 7, 2], None)


def test_the_published_fcim_scores_bids_that_cannot_win():
    """The third bid asks more than the budget; over all three the first wins by time, over the first two by price."""
    devices, layers, _ = published.fcim(4, [4, 4, 4], [2, 1, 9], [1, 3, 3], most_paid=8, longest=10)
    assert (devices, layers) == ([0], [4])
    devices, _, _ = published.fcim(4, [4, 4], [2, 1], [1, 3], most_paid=8, longest=10)
    assert devices == [1]
    assert published.fcim(4, [4], [9], [1], most_paid=8, longest=10) is None


@pytest.mark.parametrize("rule, seconds", [
    ("FCIM", [1, 2, 30]), ("PipeEdge", [1, 2, 30]), ("PipeDream", [10, 1, 2]), ("HexGen", [10, 20, 30])])
def test_published_links_are_counted_by_the_rule_of_each_script(rule, seconds):
    links = np.array([[0, 1, 5], [1, 0, 2], [5, 2, 0]])
    assert published.links_counted(rule, [0, 1, 2], links, np.array([10, 20, 30])) == seconds
    found = published.measure(rule, [0, 1, 2], [2, 1, 1], [1, 1, 2], [2, 2, 2], [4, 2, 6], links,
                              np.array([10, 20, 30]))
    assert found["time_on_links"] == sum(seconds) and found["computation_time"] == 8
    assert found["one_count_links"] == 10 + 1 + 2 + 30
    slowest_stage = max(time + link for time, link in zip((4, 1, 3), seconds))
    assert found["latency"] == 8 + sum(seconds) + (9 * slowest_stage if rule == "PipeDream" else 0)
