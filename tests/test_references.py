"""The references of reproduce/ that are not the paper's: Cheapest and LeastLatency."""
import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM
from reproduce import Cheapest, LeastLatency

SECONDS = st.sampled_from([0, 0.1, 0.2, 0.3, 1, 1.5, 3, 1e-6, 7.25])


@st.composite
def cases(draw):
    """Up to four bidders and six layers; equal links, times and prices among them, and offers that may not suffice."""
    number = draw(st.integers(1, 4))
    links = draw(st.lists(SECONDS, min_size=number * (number + 1) // 2, max_size=number * (number + 1) // 2))
    delay = np.zeros((number + 1, number + 1))
    delay[np.triu_indices(number + 1, 1)] = links
    return {
        "layers": draw(st.integers(1, 6)),
        "bids": pd.DataFrame({"layers": draw(st.lists(st.integers(1, 4), min_size=number, max_size=number)),
                              "price": draw(st.lists(SECONDS, min_size=number, max_size=number))}),
        "delay": delay + delay.T,
        "times": np.array([draw(st.lists(SECONDS, min_size=number, max_size=number)) for _ in range(2)]),
    }


def placements(layers, offers):
    """All layer counts of the devices that add up to the layers."""
    return [counts for counts in itertools.product(*(range(n + 1) for n in offers)) if sum(counts) == layers]


@settings(max_examples=part_of(300))
@given(cases())
def test_least_latency_is_the_least_of_all_pipelines(case):
    offers = case["bids"]["layers"].tolist()
    layer_time = case["times"].mean(axis=0)
    latencies = []
    for counts in placements(case["layers"], offers):
        for order in itertools.permutations([i for i, n in enumerate(counts) if n]):
            links = case["delay"][[-1, *order], [*order, -1]].sum()
            latencies.append(links + sum(n * layer_time[i] for i, n in enumerate(counts)))
    if not latencies:
        with pytest.raises(common.NoAllocation):
            LeastLatency.allocate(**case)
        return
    stages, _ = LeastLatency.allocate(**case)
    order = [stage["devices"][0] for stage in stages]
    counts = [stage["layers"] for stage in stages]
    assert sum(counts) == case["layers"] and len(set(order)) == len(order)
    assert all(1 <= n <= offers[i] for i, n in zip(order, counts))
    found = case["delay"][[-1, *order], [*order, -1]].sum() + sum(n * layer_time[i] for i, n in zip(order, counts))
    assert found == pytest.approx(min(latencies), abs=1e-9)


@settings(max_examples=part_of(300))
@given(cases())
def test_cheapest_costs_least_of_all_placements(case):
    bids = case["bids"]
    per_layer = (bids["price"] / bids["layers"]).tolist()
    costs = [sum(n * c for n, c in zip(counts, per_layer)) for counts in placements(case["layers"], bids["layers"])]
    if not costs:
        with pytest.raises(common.NoAllocation):
            Cheapest.allocate(**case)
        return
    stages, _ = Cheapest.allocate(**case)
    assert sum(stage["layers"] for stage in stages) == case["layers"]
    assert sum(stage["layers"] * per_layer[stage["devices"][0]] for stage in stages) == pytest.approx(min(costs))


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
def test_it_runs_by_itself(run, name):
    status, out, err = run(str(ROOT / "reproduce" / f"{name}.py"), "--no-plot")
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: 5 tasks")
