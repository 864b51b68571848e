"""reproduce/whole_system.py: the pipeline's stages against plain simulations, the draws, and what a run writes."""
import functools
import json
import os
import pathlib
from unittest import mock

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of, refused, run_main, thorough
from test_reproduce_tables import but_latex, check_latex, check_texts, drawn

import ADSA
import common
import FCFS
import FCIM
from reproduce import EDF, stats, tables, whole_system

pytestmark = pytest.mark.usefixtures("little_search")

WRITTEN = ["whole_system.png", "whole_system_devices.png", "whole_system_failures.csv",
           "whole_system_pipelines.csv", "whole_system_runs.csv", "whole_system_table.csv", "whole_system_whole.csv"]
ALLOCATORS = {name: whole_system.ALLOCATORS[name] for name in ("FCIM", "FCIM (links)", "PipeDream")}


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
                       times=rng.integers(0, most, (tasks, devices)) / common.US)


@pytest.mark.parametrize("policy", list(whole_system.SCHEDULERS))
def test_any_policy_gives_what_a_plain_simulation_of_the_whole_pipeline_gives(policy):
    rng = np.random.default_rng(list(whole_system.SCHEDULERS).index(policy))
    preempted = 0
    for _ in range(part_of(100, 10)):
        stages, case = random_case(rng, rng.integers(1, 6), rng.integers(1, 13), rng.integers(2, 5))
        quantum = int(rng.integers(1, 4))
        schedule = tables.script(whole_system.SCHEDULERS[policy]).schedule
        if policy == "LLF":
            schedule = functools.partial(schedule, quantum=quantum / common.US)
        results, _ = whole_system.feed_forward(stages, case, schedule)
        expected = naive.queue_at_each_stage(policy, stages, case, quantum)
        assert results[-1]["completion_time"].tolist() == expected
        preempted += sum(result["preemptions"].sum() for result in results)
    assert (preempted > part_of(50, 10)) == (policy != "FCFS")


def test_first_come_first_served_completes_as_the_pipeline_of_common_does():
    rng = np.random.default_rng(0)
    for _ in range(part_of(300, 10)):
        stages, case = random_case(rng, rng.integers(1, 6), rng.integers(1, 30), 10 ** rng.integers(1, 8))
        work, links = whole_system.work_and_links(stages, case)
        assert (work.tolist(), links.tolist()) == naive.stage_work(stages, case)
        (*_, result), _ = whole_system.feed_forward(stages, case, FCFS.schedule)
        assert (result["completion_time"] == common.evaluate(stages, **case)[1]["completion_time"]).all()


@pytest.mark.parametrize("policy", list(whole_system.SCHEDULERS))
def test_no_work_is_lost_none_done_early_and_no_two_tasks_at_once(policy):
    rng = np.random.default_rng(1)
    for _ in range(10):
        stages, case = random_case(rng, 4, 20, 10 ** 6)
        work, links = naive.stage_work(stages, case)
        reached = dict(zip(case["tasks"]["label"], case["tasks"]["arrival_time"] + links[0]))
        rows = dict(zip(case["tasks"]["label"], work))
        schedule = tables.script(whole_system.SCHEDULERS[policy]).schedule
        found = whole_system.feed_forward(stages, case, schedule)
        for s, (result, intervals) in enumerate(zip(*found)):
            runs = intervals[intervals["kind"] == "compute"].sort_values(["start", "end"])
            assert (runs["start"].to_numpy()[1:] >= runs["end"].to_numpy()[:-1]).all()
            for label, part in runs.groupby("label"):
                assert (part["end"] - part["start"]).sum() == rows[label][s]
                assert part["start"].min() >= reached[label]
            ends = runs.groupby("label")["end"].max()
            reached = {label: ends[label] + links[s + 1] for label in reached}
            assert dict(zip(result["label"], result["completion_time"])) == reached


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
    assert metrics["T_end"] == max(done) / 1e6
    runs = sum(len(part[part["kind"] == "compute"]) for part in intervals)
    assert metrics["preemptions"] == runs - 45


# Draws and runs -------------------------------------------------------------------------------------------------------


def test_a_draw_is_scaled_by_a_plain_pipeline():
    model = common.get_model("BLOOM-176B")
    case, late = (whole_system.draw(model, "campus", 3, load) for load in (0.9, 1.8))
    same = [column for column in case["tasks"] if column not in ("arrival_time", "deadline")]
    assert case["tasks"][same].equals(late["tasks"][same])
    assert case["bids"].equals(late["bids"])
    assert case["links"].equals(late["links"])
    assert not case["tasks"]["prompt_tokens"].equals(
        whole_system.draw(model, "campus", 4, 0.9)["tasks"]["prompt_tokens"])
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


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Runs the script in this process, on few tasks and without HexGen, which takes seconds for a draw."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(whole_system, "ALLOCATORS", ALLOCATORS)
    monkeypatch.setattr(whole_system, "TASKS", 8)
    return functools.partial(run_main, whole_system.main, "reproduce.whole_system")


def test_a_run_writes_and_prints_what_its_runs_say(small):
    status, out, err = small("--runs", "2")
    assert (status, err) == (0, "")
    assert but_latex("results") == WRITTEN
    runs, table, whole = (pd.read_csv(f"results/whole_system_{what}.csv") for what in ("runs", "table", "whole"))
    assert len(runs) == 2 * 2 * 3 * 5
    for row in table.to_dict("records"):
        mine = runs[(runs["setting"] == row["setting"]) & (runs["allocator"] == row["allocator"])]
        first, values = (mine.loc[mine["algorithm"] == name, row["metric"]].to_numpy() for name in (
            "ADSA", row["algorithm"]))
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-6)
        if row["algorithm"] != "ADSA" and values.any():
            assert row["change"] == pytest.approx(stats.change(first, values)[0], abs=1e-5)
    for row in whole.to_dict("records"):
        mine = runs[runs["setting"] == row["setting"]]
        first, values = (mine.loc[(mine["allocator"] == allocator) & (mine["algorithm"] == name), row["metric"]].mean()
                         for allocator, name in (("FCIM", "ADSA"), (row["allocator"], row["algorithm"])))
        assert np.isnan(row["change"]) or row["change"] == pytest.approx(100 * (first / values - 1), abs=1e-4)
    for metric in whole_system.METRICS:
        assert f"\noverload, {metric}" in out
    assert "EDF is not of the paper" in out
    assert max(map(len, out.split("\nwritten")[0].splitlines())) <= 150
    check_latex("results", "whole_system", 2 * (1 + 6 + 2 * 3))

    # FCIM with ADSA as the two scripts, called one after the other, have it
    case = whole_system.draw(common.get_model("BLOOM-176B"), "campus", 1, 1.3)
    results, _ = whole_system.feed_forward(FCIM.allocate(**case)[0], case, ADSA.schedule)
    mine = runs[(runs["setting"] == "overload") & (runs["seed"] == 1)].set_index(["allocator", "algorithm"])
    mine = mine.loc[("FCIM", "ADSA")][list(whole_system.METRICS)].to_dict()
    assert mine == whole_system.queue_metrics(case["tasks"], results)


def test_a_setting_in_which_all_is_alike_beats_nobody_and_a_better_one_is_named():
    columns = ["setting", "allocator", "metric", "algorithm", "change", "change_low", "change_high"]
    table = pd.DataFrame([["a", "FCIM", "deadlines_met", "EDF", -5.0, -9.0, -1.0],
                          ["a", "FCIM", "deadlines_met", "LLF", -5.0, -9.0, 1.0],
                          ["a", "FCIM", "mean_waiting_time", "SRTF", 5.0, 1.0, 9.0],
                          ["a", "FCIM", "mean_waiting_time", "FCFS", -5.0, -9.0, -1.0],
                          ["b", "FCIM", "deadlines_met", "SRTF", -5.0, -9.0, -1.0]], columns=columns)
    lines = whole_system.beaten_lines(table[table["setting"] == "a"], table[:0])
    assert "deadlines_met: ADSA is beaten by EDF (FCIM)" in lines
    assert "mean_waiting_time: ADSA is beaten by SRTF (FCIM)" in lines
    assert "mean_turnaround_time: ADSA is beaten by none" in lines
    assert "deadlines_met: FCIM with ADSA is beaten by none" in lines


@thorough
def test_the_same_bytes_whatever_the_number_of_processes(small):
    texts = []
    for count in (1, 2):
        with mock.patch.object(os, "cpu_count", lambda count=count: count):
            assert small("--runs", "1", "--out", f"by{count}")[0] == 0
        texts.append([pathlib.Path(f"by{count}", name).read_bytes() for name in WRITTEN])
    assert texts[0] == texts[1]


@thorough
def test_a_list_of_your_own_by_the_path_of_the_script(run):
    pathlib.Path("mine.json").write_text(json.dumps(FCIM.tasks), encoding="utf-8")
    status, out, err = run("reproduce/whole_system", "--tasks", "mine.json", "--runs", "1", "--pool", "paper",
                           "--no-plot")
    assert (status, err) == (0, "")
    assert "\nmine.json, deadlines_met\n" in out
    runs = pd.read_csv("results/whole_system_runs.csv")
    assert sorted(runs["allocator"].unique()) == sorted(whole_system.ALLOCATORS)
    assert (runs["deadlines_met"] <= 5).all()


@thorough
def test_draws_without_an_allocation_are_counted(small, monkeypatch):
    allocate = FCIM.allocate
    monkeypatch.setattr(FCIM, "allocate", functools.partial(allocate, budget=0.45))
    status, out, err = small("--runs", "4", "--no-plot")
    failed = pd.read_csv("results/whole_system_failures.csv") if status == 0 else pd.DataFrame()
    assert (status, err) == (0, "")
    assert (failed["failed"] == 3).all()  # one of the four draws costs less
    assert "Draws without an allocation" in out
    monkeypatch.setattr(FCIM, "allocate", functools.partial(allocate, budget=0))
    status, out, err = small("--runs", "2", "--out", "none")
    assert (status, out) == (1, "")
    assert err.startswith("reproduce.whole_system: no draw on which every method finds an allocation: no valid bid")


@thorough
def test_own_allocators_and_schedulers_are_compared_with_all_others(small):
    pathlib.Path("Mine.py").write_text("import FCIM\ndef allocate(**case):\n    return FCIM.allocate(**case)\n")
    pathlib.Path("Line.py").write_text("import FCFS\ndef schedule(tasks):\n    return FCFS.schedule(tasks)\n")
    status, out, err = small("--runs", "1", "--also", "Mine.py", "--also", "Line.py", "--no-plot")
    assert (status, err) == (0, "")
    runs = pd.read_csv("results/whole_system_runs.csv")
    assert set(runs["allocator"]) == {*ALLOCATORS, "Mine"}
    assert set(runs["algorithm"]) == {*whole_system.SCHEDULERS, "Line"}
    runs = runs.set_index(["setting", "allocator", "algorithm"])[list(whole_system.METRICS)].sort_index()
    for setting in whole_system.LOADS:
        runs_of = runs.loc[setting]
        assert runs_of.loc["Mine"].equals(runs_of.loc["FCIM"])
        assert runs_of.xs("Line", level=1).equals(runs_of.xs("FCFS", level=1))
    for line in ("deadlines_met: change of FCIM with ADSA", "deadlines_met: ADSA's change"):
        table = out.split(line)[1].split("\n\n")[0]
        assert "Line" in table.splitlines()[1]
        assert "\nMine " in table


@pytest.mark.parametrize("text, message", [
    ("value = 5", "--also own.py: has no function allocate, nor schedule"),
    ("import nothing_of_the_kind", "--also own.py: ModuleNotFoundError"),
    ("import FCFS\ndef schedule(tasks): return FCFS.schedule(tasks)[1:]", "own: the schedule is wrong"),
    ("def allocate(bids, **_): return [dict(devices=[0], layers=1)], []", "own: the allocation is wrong"),
])
def test_own_scripts_that_cannot_be_compared_are_named(text, message, small):
    pathlib.Path("own.py").write_text(text)
    refused(small("--runs", "1", "--also", "own.py"), message)


@pytest.mark.parametrize("arguments, message", [
    (("--tasks", "none.csv"), "none.csv: No such file"),
    (("--runs", "0"), "--runs: 0 is not positive"),
    (("--pool", "moon"), "unknown pool 'moon'"),
])
def test_wrong_flags_are_told(arguments, message, run):
    refused(run("reproduce/whole_system", *arguments), message)


def test_the_chart_shows_who_computes_which_task_when():
    case = whole_system.draw(common.get_model("BLOOM-176B"), "campus", 0, 1.3)
    stages, _ = FCIM.allocate(**case)
    found = whole_system.feed_forward(stages, case, ADSA.schedule)
    names = ["+".join(case["bids"]["device"][stage["devices"]]) for stage in stages]
    figure = drawn(whole_system.draw_devices, "FCIM with ADSA", names, *found)
    check_texts(figure, 20)
    axes = figure.axes[0]
    bars = [bar for bar in axes.patches if bar.get_height() == pytest.approx(0.72)]
    shown = {text.get_text() for text in figure.legends[0].get_texts()} - {"other tasks"}
    assert len(shown) == whole_system.CHART
    runs = [part[(part["kind"] == "compute") & part["label"].isin(shown)] for part in found[1]]
    assert sorted((round(bar.get_y() + 0.36), round(bar.get_x() * 1e6), round(bar.get_width() * 1e6)) for bar in bars) \
        == sorted((s, a, b - a) for s, part in enumerate(runs) for a, b in zip(part["start"], part["end"]))
