"""reproduce/whole_system.py: the pipeline's stages against plain simulations, the draws, and what a run writes."""
import argparse
import functools
import json

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import figure_of, part_of

import ADSA
import common
import FCIM
from reproduce import EDF, study, whole_system

pytestmark = pytest.mark.usefixtures("little_search")

BLOOM = common.get_model("BLOOM-176B")
LINKS = {name: study.ALLOCATORS[name] for name in ("FCIM", "FCIM_links")}
SHORT = {name: study.POLICIES[name] for name in ("ADSA", "EDF")}


def random_case(rng, stages, tasks, most):
    """Stages, among them groups of two, and a case, whose times are small whole microseconds."""
    sizes = rng.integers(1, 3, stages)
    layers, devices = rng.integers(1, 4, stages), int(sizes.sum())
    order = iter(rng.permutation(devices).tolist())
    found = [{"devices": [next(order) for _ in range(size)], "layers": int(n)} for size, n in zip(sizes, layers)]
    delay = np.triu(rng.integers(0, most, (devices + 1, devices + 1)), 1) / common.US
    arrival = rng.integers(0, tasks * most // 2 + 1, tasks)
    table = pd.DataFrame({"label": [f"Task {k}" for k in range(tasks)], "arrival_time": arrival,
                          "computation_time": 0, "trans_time": 0, "kv_bytes": 1.0,
                          "deadline": arrival + rng.integers(0, 4 * stages * most, tasks)})
    table = table.sort_values("arrival_time", kind="stable")
    model = common.Model("M", layers=int(layers.sum()), hidden=8, feed_forward=8, heads=1, context=9)
    bids = pd.DataFrame({"device": [f"GPU {i}" for i in range(devices)], "layers": 3, "price": 1.0, "true_cost": 1.0})
    return found, dict(tasks=table, model=model, bids=bids, delay=delay + delay.T, memory=[1.0] * devices,
                       watts=[1] * devices, times=rng.integers(0, most, (tasks, devices)) / common.US)


@pytest.mark.parametrize("policy", list(study.POLICIES))
def test_any_policy_gives_what_a_plain_simulation_of_the_whole_pipeline_gives(policy):
    rng = np.random.default_rng(list(study.POLICIES).index(policy))
    preempted = 0
    for _ in range(part_of(100, 10)):
        stages, case = random_case(rng, rng.integers(1, 6), rng.integers(1, 13), rng.integers(2, 5))
        quantum = int(rng.integers(1, 4))
        schedule = study.script(study.POLICIES[policy]).schedule
        if policy == "LLF":
            schedule = functools.partial(schedule, quantum=quantum / common.US)
        results, _ = whole_system.feed_forward(stages, case, schedule)
        expected = naive.queue_at_each_stage(policy, stages, case, quantum)
        assert results[-1]["completion_time"].tolist() == expected
        if policy == "FCFS":
            assert common.evaluate(stages, **case)[1]["completion_time"].tolist() == expected
        preempted += sum(result["preemptions"].sum() for result in results)
    assert (preempted > part_of(50, 10)) == (policy != "FCFS")


def test_the_metrics_are_those_of_plain_loops():
    stages, case = random_case(np.random.default_rng(2), 3, 15, 10 ** 6)
    tasks = case["tasks"]
    results, intervals = whole_system.feed_forward(stages, case, EDF.schedule)
    work, links = naive.stage_work(stages, case)
    done = results[-1]["completion_time"].tolist()
    spent = [(end - a) / 1e6 for end, a in zip(done, tasks["arrival_time"])]
    waited = [x - (sum(row) + sum(links)) / 1e6 for x, row in zip(spent, work)]
    metrics = whole_system.queue_metrics(tasks, results)
    assert metrics["mean_waiting_time"] == pytest.approx(sum(waited) / 15, abs=1e-6)
    assert metrics["mean_turnaround_time"] == pytest.approx(sum(spent) / 15, abs=1e-6)
    assert sorted(spent)[13] <= metrics["p95_turnaround_time"] <= sorted(spent)[14]
    assert metrics["deadlines_met"] == sum(end <= due for end, due in zip(done, tasks["deadline"]))
    assert metrics["T_end"] == (max(done) - tasks["arrival_time"].min()) / 1e6
    runs = sum(len(part[part["kind"] == "compute"]) for part in intervals)
    assert metrics["preemptions"] == runs - 45
    pipeline = whole_system.pipeline_metrics(stages, case)
    assert pipeline["stages"] == 3
    assert pipeline["time_alone"] == pytest.approx(sum(sum(row) + sum(links) for row in work) / 15 / 1e6)
    span = tasks["arrival_time"].max() - tasks["arrival_time"].min()
    assert pipeline["slowest_stage_load"] == pytest.approx(max(map(sum, zip(*work))) / span)


def test_a_draw_is_scaled_by_a_plain_pipeline():
    case, late, other = (whole_system.one_case(BLOOM, "campus", *drawn) for drawn in ((3, 0.9), (3, 1.8), (4, 0.9)))
    assert case["tasks"]["prompt_tokens"].equals(late["tasks"]["prompt_tokens"])
    assert not case["tasks"]["prompt_tokens"].equals(other["tasks"]["prompt_tokens"])
    assert case["bids"].equals(late["bids"])
    assert case["links"].equals(late["links"])
    times, offers, left, work = case["times"], case["bids"]["layers"].tolist(), 70, []
    for i in sorted(range(len(offers)), key=lambda i: times[:, i].sum()):
        if left:
            work.append(times[:, i] * min(left, offers[i]))
            left -= min(left, offers[i])
    arrival = case["tasks"]["arrival_time"].to_numpy() / 1e6
    assert arrival[0] == 0
    assert max(stage.sum() for stage in work) / arrival[-1] == pytest.approx(0.9)
    assert late["arrivals"] == pytest.approx(arrival / 2, abs=2e-6)
    links = [case["delay"][i, j] for i in range(len(case["delay"])) for j in range(i)]
    alone = sum(work) + (len(work) + 1) * sum(links) / len(links)
    factor = (case["tasks"]["deadline"] / 1e6 - arrival) / alone
    assert 1.5 <= factor.min() < 1.7
    assert 2.8 < factor.max() <= 3


def test_the_tables_are_those_of_the_runs(monkeypatch):
    monkeypatch.setattr(whole_system, "TASKS", 8)
    runs = pd.DataFrame([row for setting, load in whole_system.LOADS.items() for seed in (0, 1) for row in
                         whole_system.run_case(LINKS, SHORT, "", BLOOM, "campus", seed, setting, load)])
    parts, tables, _ = whole_system.report(runs)
    value = runs.groupby(["setting", "allocator", "algorithm"])[[*whole_system.METRICS, *whole_system.PIPELINE]].mean()
    for row in tables["table"].query("algorithm == 'EDF'").to_dict("records"):
        first, other = (value.loc[(row["setting"], row["allocator"], name), row["metric"]] for name in SHORT)
        assert row["mean"] == pytest.approx(other, abs=1e-6)
        assert np.isnan(row["change"]) or row["change"] == pytest.approx(100 * (first / other - 1), abs=1e-4)
    for row in tables["pipelines"].to_dict("records"):
        mean = value.loc[(row["setting"], row["algorithm"], "EDF"), row["metric"]]
        assert row["mean"] == pytest.approx(mean, abs=1e-6)
    assert {part[0]: len(part[2]) for part in parts if "deadlines_met" in part[0]} == {
        "deadlines_met": 4, "deadlines_met_changes": 4}


def test_a_list_of_your_own_has_its_name_and_no_load(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(FCIM.tasks), encoding="utf-8")
    args = argparse.Namespace(tasks=str(tmp_path / "mine.json"), model="BLOOM-176B", pool="paper", seed=3, runs=1,
                              methods={**LINKS, **SHORT})
    case, = whole_system.cases(args)
    runs = pd.DataFrame(whole_system.run_case(*case))
    assert runs["setting"].tolist() == ["mine.json"] * 4
    assert runs["deadlines_met"].between(1, len(FCIM.tasks)).all()


def test_the_chart_shows_who_computes_which_task_when():
    case = whole_system.one_case(BLOOM, "campus", 0, 1.3)
    stages, _ = FCIM.allocate(**case)
    found = whole_system.feed_forward(stages, case, ADSA.schedule)
    names = ["+".join(case["bids"]["device"][stage["devices"]]) for stage in stages]
    since = found[0][0]["arrival_time"].min()
    figure = figure_of(whole_system.draw_devices, "FCIM with ADSA", names, *found)
    bars = [bar for bar in figure.axes[0].patches if bar.get_height() == pytest.approx(0.72)]
    shown = {text.get_text() for text in figure.legends[0].get_texts()} - {"other tasks"}
    assert len(shown) == whole_system.CHART
    drawn = [(round(bar.get_y() + 0.36), round(bar.get_x() * 1e6), round(bar.get_width() * 1e6)) for bar in bars]
    runs = [part[(part["kind"] == "compute") & part["label"].isin(shown)] for part in found[1]]
    assert sorted(drawn) == sorted(
        (s, a - since, b - a) for s, part in enumerate(runs) for a, b in zip(part["start"], part["end"]))
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in bars}
    assert len(looks) == len(shown)
