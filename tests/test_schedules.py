"""What becomes of a schedule (uplink, measures, checks), and the five schedulers as a user runs them."""
import os
import pathlib

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import SCHEDULERS, cases, edited, files, metrics, part_of, refused, script, thorough
from conftest import runs_of as runs
from conftest import task_table as table
from hypothesis import given, settings
from hypothesis import strategies as st

import ADSA
import common
import FCFS
import LLF
import optimal
import SRTF

POLICIES = [FCFS, SRTF, LLF, ADSA]
COLUMNS = ("label,arrival_time,computation_time,trans_time,deadline,start_time,end_computation,completion_time,"
           "response_time,waiting_time,uplink_waiting_time,turnaround_time,deadline_met,preemptions")
MEASURES = ["tasks", *(f"{kind}_{key}_time" for key in ("waiting", "response", "turnaround")
                       for kind in ("mean", "p50", "p95", "p99")),
            "mean_uplink_waiting_time", "deadlines_met", "mean_tardiness", "T_end", "preemptions", "throughput",
            "tokens_per_second", "processor_utilization", "uplink_utilization", "peak_memory_gb", "memory_utilization"]
OWN_SETTING = {"ADSA": ["alike"], "LLF": ["quantum"]}


@settings(max_examples=part_of(400, 10))
@given(cases(), st.sampled_from(POLICIES), st.sampled_from(common.LINKS))
def test_the_uplink_and_the_measures_equal_a_loop(case, policy, link):
    intervals = policy.schedule(table(case))
    result, everything = common.simulate(table(case), intervals, link)
    start, end, pieces = {}, {}, dict.fromkeys(range(len(case)), 0)
    for j, s, e in runs(intervals):
        start.setdefault(j, s)
        end[j] = e
        pieces[j] += 1
    done = naive.uplink(case, [end[j] for j in range(len(case))], link)
    for j, (a, p, _, d) in enumerate(case):
        row = result.iloc[j]
        assert row["label"] == f"T{j}"
        assert (row["start_time"], row["end_computation"], row["completion_time"]) == (start[j], end[j], done[j])
        assert (row["response_time"], row["turnaround_time"]) == (start[j] - a, done[j] - a)
        assert row["waiting_time"] == end[j] - a - p >= 0
        assert row["uplink_waiting_time"] == done[j] - case[j][2] - end[j] >= 0
        assert (row["deadline_met"], row["preemptions"]) == (done[j] <= d, pieces[j] - 1)
    sent = everything[everything["kind"] == "transmit"]
    assert sorted(sent["end"] - sent["start"]) == sorted(q for _, _, q, _ in case)
    model = common.Model("m", layers=3, hidden=8, feed_forward=4, heads=2, context=1)  # 3 x 320 weights of two bytes
    tasks = table(case).assign(output_tokens=7, measured_weights_gb=np.nan)
    metrics = common.scheduling_metrics(tasks, result, model, common.get_device("T4"))
    held = 1920 + naive.peak_memory(case, start, end, range(1, len(case) + 1))
    assert metrics["peak_memory_gb"] == pytest.approx(held / 1e9)
    assert metrics["memory_utilization"] == pytest.approx(held / 16e9)
    n = len(case)
    means = {"turnaround": sum(done[j] - case[j][0] for j in range(n)), "response": sum(
        start[j] - case[j][0] for j in range(n)), "waiting": sum(end[j] - case[j][0] - case[j][1] for j in range(n)),
        "uplink_waiting": sum(done[j] - case[j][2] - end[j] for j in range(n))}
    for key, total in means.items():
        assert metrics[f"mean_{key}_time"] == pytest.approx(total / n / 1e6, abs=1e-6)
    assert (metrics["T_end"], metrics["tasks"]) == (max(done) / 1e6, len(case))
    late = sum(max(0, done[j] - case[j][3]) for j in range(n))
    assert metrics["mean_tardiness"] == pytest.approx(late / n / 1e6, abs=1e-6)
    span = (max(done) - min(a for a, _, _, _ in case)) / 1e6
    rates = {"throughput": n, "tokens_per_second": 7 * n, "processor_utilization": sum(p for _, p, _, _ in case) / 1e6,
             "uplink_utilization": sum(q for _, _, q, _ in case) / 1e6}
    for key, count in rates.items():
        assert metrics[key] == pytest.approx(count / span if span else np.nan, nan_ok=True)


def check_schedule(case, intervals, link):
    """What must hold of any schedule of a case."""
    by_time = runs(intervals)
    assert [start for _, start, _ in by_time] == sorted(start for _, start, _ in by_time)
    for (_, _, end), (_, start, _) in zip(by_time, by_time[1:]):
        assert end <= start  # one at a time
    for j, (a, p, _, _) in enumerate(case):
        mine = [(start, end) for i, start, end in by_time if i == j]
        assert mine
        assert sum(end - start for start, end in mine) == p  # no work lost, none invented
        assert mine[0][0] >= a  # nothing runs before it arrives
    busy = {t for _, start, end in by_time for t in range(start, end)}
    for t in range(max(end for _, _, end in by_time)):  # no idling while there is work
        todo = sum(p for a, p, _, _ in case if a <= t) - sum(1 for s in busy if s < t)
        assert (t in busy) == (todo > 0)
    _, everything = common.simulate(table(case), intervals, link)
    if link == "shared":
        sent = everything[everything["kind"] == "transmit"].sort_values(["start", "end"])
        assert (sent["start"].to_numpy()[1:] >= sent["end"].to_numpy()[:-1]).all()


@settings(max_examples=part_of(400, 10))
@given(cases(), st.sampled_from([*POLICIES, optimal]), st.sampled_from(common.LINKS))
def test_invariants(case, policy, link):
    options = {"link": link, "time_limit": 0} if policy is optimal else {}
    check_schedule(case, policy.schedule(table(case), **options), link)


def online(case, policy):
    """The runs of a policy that knows the tasks that are there alone, asked at every arrival and completion."""
    tasks, left, runs, now = table(case), [p for _, p, _, _ in case], [], 0
    unfinished = set(range(len(case)))
    while unfinished:
        here = [j for j in sorted(unfinished) if case[j][0] <= now]
        later = [a for a, _, _, _ in case if a > now]
        if not here:
            now = min(later)
            continue
        waiting = tasks.iloc[here].assign(computation_time=[left[j] for j in here])
        label, until = common.next_run(policy.schedule, waiting, now)
        j, end = int(label[1:]), min([until, *later])
        runs.append((j, now, end))
        left[j] -= end - now
        if left[j] == 0:
            unfinished.remove(j)
        now = end
    return naive.merged(runs)


@settings(max_examples=part_of(300, 10))
@given(cases(), st.sampled_from([FCFS, SRTF, ADSA]))
def test_online_a_policy_decides_as_it_does_on_the_whole_list(case, policy):
    assert online(case, policy) == runs(policy.schedule(table(case)))


def test_online_least_laxity_runs_until_another_has_caught_up():
    """Laxities of 4 and 6 s from now on, 5 s: the first runs for 2 s, until the second is as urgent."""
    waiting = table([(3, 9, 1, 19), (1, 2, 0, 13)], 10 ** 6)
    assert common.next_run(LLF.schedule, waiting, 5 * 10 ** 6) == ("T0", 7 * 10 ** 6)


def test_an_urgent_late_arrival_separates_fcfs_and_adsa():
    """The first two tasks of the shipped list alone: FCFS misses Task 2, ADSA meets both."""
    device, model = common.get_device("T4"), common.get_model("GPT-Neo 1.3B")
    tasks = common.read_tasks(ADSA.tasks[:2], model, [device])
    assert (tasks["computation_time"] / 1e6).round(1).tolist() == [16.5, 4.1]
    met = {policy: common.simulate(tasks, policy.schedule(tasks), "shared")[0]["deadline_met"].tolist()
           for policy in (FCFS, ADSA)}
    assert met == {FCFS: [True, False], ADSA: [True, True]}


def test_the_shipped_list_tells_the_schedulers_apart():
    device, model = common.get_device("T4"), common.get_model("GPT-Neo 1.3B")
    tasks = common.read_tasks(ADSA.tasks, model, [device])
    results = {policy: common.simulate(tasks, policy.schedule(tasks), "shared")[0] for policy in [*POLICIES, optimal]}
    assert len({tuple(result["end_computation"]) for result in results.values()}) == 5
    assert results[ADSA]["preemptions"].sum() >= 1
    assert not results[FCFS]["deadline_met"].all()


# What a run prints and writes -----------------------------------------------------------------------------------------


def test_the_shipped_lists_are_one():
    assert all(policy.tasks == FCFS.tasks for policy in (SRTF, LLF, ADSA, optimal))
    assert len({script(name).split("\ntasks = ")[1].split("\n]\n")[0] for name in SCHEDULERS}) == 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_run_writes_the_files_and_prints_the_tables(name, run):
    status, out, err = run(name)
    assert (status, err) == (0, "")
    names = [f"{name}_{end}" for end in ("gantt.png", "intervals.csv", "metrics.csv", "tasks.csv")]
    assert files("results") == names
    text = {end: pathlib.Path("results", end).read_text() for end in names[1:]}
    assert text[f"{name}_tasks.csv"].split("\n")[0] == COLUMNS
    assert text[f"{name}_intervals.csv"].split("\n")[0] == "label,kind,start,end"
    header = text[f"{name}_metrics.csv"].split("\n")[0].split(",")
    assert header[:4] == ["scheduler", "model", "device", "link"]
    assert header[header.index("tasks_file") + 1:][:len(MEASURES)] == MEASURES
    if name == "optimal":
        assert header[-3:] == ["objective", "proven_optimal", "lower_bound"]
    else:
        assert header == [*header[:4], *OWN_SETTING.get(name, []), "tasks_file", *MEASURES]
    assert pathlib.Path("results", f"{name}_gantt.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"{name}: 5 tasks, model GPT-Neo 1.3B, device T4, link shared" in out
    for label in ("Task 1", "Task 5", "p95", "mean_uplink_waiting_time", f"results{os.sep}{name}_gantt.png"):
        assert label in out
    found = metrics(name)
    assert [found[key] for key in (*header[:4], "tasks_file", "tasks")] == [
        name, "GPT-Neo 1.3B", "T4", "shared", f"{name}.py", 5]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_metrics_follow_from_the_other_files(name, run):
    run(name, "--no-plot")
    tasks = pd.read_csv(f"results/{name}_tasks.csv").set_index("label")
    intervals = pd.read_csv(f"results/{name}_intervals.csv")
    found = metrics(name)
    compute = intervals[intervals["kind"] == "compute"].groupby("label")
    sent = intervals[intervals["kind"] == "transmit"].set_index("label").loc[tasks.index]
    assert (compute["start"].min() == tasks["start_time"]).all()
    assert (compute["end"].max() == tasks["end_computation"]).all()
    assert (compute.size() - 1 == tasks["preemptions"]).all()
    assert (sent["end"] == tasks["completion_time"]).all()
    length = (intervals["end"] - intervals["start"])[intervals["kind"] == "compute"].groupby(intervals["label"]).sum()
    assert length.to_numpy() == pytest.approx(tasks["computation_time"].to_numpy())
    waiting = tasks["end_computation"] - tasks["arrival_time"] - tasks["computation_time"]
    assert waiting.to_numpy() == pytest.approx(tasks["waiting_time"].to_numpy())
    assert found["mean_waiting_time"] == pytest.approx(tasks["waiting_time"].mean())
    assert found["mean_response_time"] == pytest.approx((tasks["start_time"] - tasks["arrival_time"]).mean())
    assert found["mean_turnaround_time"] == pytest.approx((tasks["completion_time"] - tasks["arrival_time"]).mean())
    assert found["deadlines_met"] == (tasks["completion_time"] <= tasks["deadline"]).sum()
    assert found["T_end"] == tasks["completion_time"].max()
    assert found["preemptions"] == tasks["preemptions"].sum()
    assert found["memory_utilization"] == pytest.approx(found["peak_memory_gb"] / 16)


DEADLINES = {
    "shipped": [task["deadline"] for task in FCFS.tasks],
    "far": [1e8] * 5,
    "passed": [task["arrival_time"] for task in FCFS.tasks],
    "equal": [40] * 5,
    "far, passed and equal": [1e8, 3, 45, 45, 20],
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("deadlines", DEADLINES.values(), ids=DEADLINES)
def test_percentiles_rates_and_tardiness_follow_from_the_files(name, deadlines, run):
    rows = [dict(task, deadline=deadline, prompt_tokens=9) for task, deadline in zip(FCFS.tasks, deadlines)]
    pd.DataFrame(rows).to_csv("tasks.csv", index=False)
    assert run(name, "--tasks", "tasks.csv", "--no-plot")[0] == 0
    tasks = pd.read_csv(f"results/{name}_tasks.csv")
    intervals = pd.read_csv(f"results/{name}_intervals.csv")
    found = metrics(name)
    for key in ("waiting_time", "response_time", "turnaround_time"):
        for percent in (50, 95, 99):
            assert found[f"p{percent}_{key}"] == pytest.approx(np.percentile(tasks[key], percent), abs=2e-6)
    span = intervals["end"].max() - tasks["arrival_time"].min()
    length = intervals["end"] - intervals["start"]
    assert found["processor_utilization"] == pytest.approx(length[intervals["kind"] == "compute"].sum() / span)
    assert found["uplink_utilization"] == pytest.approx(length[intervals["kind"] == "transmit"].sum() / span)
    assert found["throughput"] == pytest.approx(5 / span)
    tokens = 1596 + 399 + 1064 + 133 + 1064  # 1.33 a word
    assert found["tokens_per_second"] == pytest.approx(tokens / span)
    late = tasks["completion_time"].to_numpy() - np.array(deadlines)
    assert found["mean_tardiness"] == pytest.approx(np.mean(np.maximum(late, 0)), abs=2e-6)
    assert found["deadlines_met"] == np.count_nonzero(late <= 0)


def test_a_measured_list_names_its_model_device_and_weights(run):
    rows = [dict(task, measured_model="my 2B", measured_device="my CPU", measured_weights_gb=3.5, memory_gb=0.25)
            for task in FCFS.tasks]
    pd.DataFrame(rows).to_csv("tasks.csv", index=False)
    assert run("FCFS", "--tasks", "tasks.csv", "--no-plot")[0] == 0
    found = metrics("FCFS")
    assert (found["model"], found["device"], found["peak_memory_gb"]) == ("my 2B", "my CPU", 3.75)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_editing_the_list_in_the_script_changes_the_result(name, run):
    run(name, "--no-plot")
    before = metrics(name)["mean_turnaround_time"]
    status, _, err = run(edited(name, ('"output_words": 100,', '"output_words": 900,')), "--no-plot")
    assert (status, err) == (0, "")
    assert metrics("mine")["mean_turnaround_time"] > before


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_flags_work_in_each(name, run):
    pd.DataFrame(FCFS.tasks[:3]).to_csv("tasks.csv", index=False)
    pd.DataFrame(FCFS.tasks[:3]).to_json("tasks.json", orient="records")
    for file in ("tasks.csv", "tasks.json"):
        status, out, _ = run(name, "--tasks", file, "--no-plot", "--out", "a/b")
        assert (status, files("a/b")) == (0, [f"{name}_{end}.csv" for end in ("intervals", "metrics", "tasks")])
        assert f"{name}: 3 tasks" in out
    base = metrics(name, "a/b")
    for flags, faster in ((("--device", "rtx-4090"), True), (("--model", "GPT-3 175B"), False)):
        status, out, err = run(name, "--tasks", "tasks.csv", *flags, "--no-plot")
        assert status == 0
        assert (metrics(name)["mean_turnaround_time"] < base["mean_turnaround_time"]) == faster
    assert "the T4 has 16 GB" in err  # 175 billion weights at 4 bits do not fit
    assert err.count("\n") == 1
    run(name, "--tasks", "tasks.csv", "--link", "dedicated", "--no-plot")
    sent = pd.read_csv(f"results/{name}_tasks.csv")
    left = sent["completion_time"] - sent["end_computation"]
    assert left.to_numpy() == pytest.approx(sent["trans_time"].to_numpy())
    assert [metrics(name)[key] for key in ("link", "tasks_file", "tasks")] == ["dedicated", "tasks.csv", 3]


def test_the_flags_of_optimal(run):
    assert run("optimal", "--objective", "turnaround", "--no-plot", "--time-limit", "30")[0] == 0
    turnaround = metrics("optimal")
    run("optimal", "--no-plot")
    makespan = metrics("optimal")
    assert (turnaround["objective"], makespan["objective"]) == ("turnaround", "makespan")
    assert turnaround["proven_optimal"]
    assert makespan["proven_optimal"]
    assert turnaround["mean_turnaround_time"] == pytest.approx(turnaround["lower_bound"])
    assert turnaround["mean_turnaround_time"] <= makespan["mean_turnaround_time"]
    assert makespan["T_end"] == makespan["lower_bound"] <= turnaround["T_end"]


@thorough
def test_the_same_run_gives_the_same_bytes(run):
    for folder in ("a", "b"):
        for name in SCHEDULERS:
            run(name, "--out", folder)
    assert len(files("a")) == 20
    for file in files("a"):
        assert pathlib.Path("a", file).read_bytes() == pathlib.Path("b", file).read_bytes()


def test_thousands_of_tasks_are_excerpted(run):
    rows = [{"label": f"Request {k}", "prompt": "", "arrival_time": k / 4, "output_words": k % 40, "trans_time": 0.1,
             "deadline": k / 4 + 5, "prompt_tokens": 300 + k % 700} for k in range(2000)]
    pd.DataFrame(rows).to_csv("tasks.csv", index=False)
    for name in SCHEDULERS:
        status, out, _ = run(name, "--tasks", "tasks.csv")
        assert status == 0
        assert "... and 1,980 more rows in results" in out
        assert len(pd.read_csv(f"results/{name}_tasks.csv")) == 2000
    assert "the integer program is limited to 60 tasks" in out
    assert not metrics("optimal")["proven_optimal"]


def test_the_gantt_draws_each_task_bar_and_deadline():
    """Bars and marks of the figure against the schedule, read back from matplotlib's own objects."""
    tasks = common.read_tasks(FCFS.tasks, common.get_model("GPT-Neo 1.3B"), [common.get_device("T4")])
    result, intervals = map(common.in_seconds, common.simulate(tasks, FCFS.schedule(tasks), "shared"))
    axes = common.schedule_figure("FCFS", result, intervals).axes[0]
    bars = sorted((round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in axes.patches)
    assert bars == sorted((round(s, 6), round(e, 6)) for s, e in zip(intervals["start"], intervals["end"]))
    left, last = result["arrival_time"].min(), result["completion_time"].max()
    far = result["deadline"] > left + 1.5 * (last - left)
    assert far.any()
    marked = result["deadline"].where(~far, axes.get_xlim()[1])  # a far one as an arrow at the edge
    assert sorted(x for line in axes.lines for x in line.get_xdata()) == sorted(marked)
    assert axes.get_xlabel() == "time (s)"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == result["label"].tolist()
    (waits,) = (lines for lines in axes.collections if len(lines.get_paths()) == len(result))
    spans = [(path.vertices[0, 0], path.vertices[1, 0]) for path in waits.get_paths()]
    assert spans == list(zip(result["arrival_time"], result["end_computation"]))


def test_a_deadline_beyond_the_bars_is_an_arrow():
    """The bars end at 40 s: beyond 60 s a deadline is an arrow at the edge, a missed one never."""
    deadlines = [39, 60, 60.000001, 5]
    tasks = table([(0, 10, 0, 0)] * 4, 10 ** 6).assign(deadline=(np.array(deadlines) * 1e6).astype("int64"))
    result, intervals = map(common.in_seconds, common.simulate(tasks, FCFS.schedule(tasks), "shared"))
    axes = common.schedule_figure("FCFS", result, intervals).axes[0]
    marks = {line.get_marker(): list(zip(line.get_xdata(), line.get_ydata())) for line in axes.lines}
    right = axes.get_xlim()[1]
    assert 60 < right < 62
    assert marks == {"|": [(39, 0), (60, 1)], ">": [(right, 2)], "x": [(5, 3)]}


@pytest.mark.parametrize("most, scale", [(100, "linear"), (101, "symlog")])
def test_times_of_more_than_two_decades_are_on_a_logarithmic_scale(most, scale):
    axes = common.new_figure(3).subplots()
    common.set_time_scale(axes, pd.Series([1.0] * 10 + [float(most)] * 10))
    assert (axes.get_xscale(), axes.get_xlim()[0]) == (scale, 0)


def steps_at(line, times):
    """The values that a line of steps has at these times."""
    at, values = line.get_xdata(), line.get_ydata()
    return [values[np.searchsorted(at, time, side="right") - 1] for time in times]


@pytest.mark.parametrize("gap, scale", [(12, "linear"), (1, "symlog")])  # s between arrivals: light load, overload
def test_the_overview_shows_times_tasks_and_memory(gap, scale):
    random = np.random.default_rng(2)
    case = [(50 + gap * k, int(random.integers(1, 9)), 1, 110 + gap * k) for k in range(150)]
    tasks = table(case, 10 ** 6).assign(kv_bytes=random.integers(1, 9, len(case)) * 10 ** 8)
    result = common.in_seconds(common.simulate(tasks, SRTF.schedule(tasks), "shared")[0])
    memory = common.over_time(result["start_time"], result["end_computation"], tasks["kv_bytes"] / 1e9)
    memory["held"] += 2  # weights
    figure = common.overview_figure("SRTF", result, memory, common.get_device("T4"))
    top, middle, bottom = figure.axes
    for line, key in zip(top.lines, ("waiting_time", "turnaround_time")):
        at, share = line.get_xdata(), line.get_ydata()
        assert (share[0], share[-1], len(share)) == (0, 1, len(case) + 1)
        assert at == pytest.approx(np.quantile(result[key], share))
    assert (top.get_xscale(), top.get_xlim()[0]) == (scale, 0)
    met = np.count_nonzero(result["completion_time"] <= result["deadline"])
    assert top.get_title() == f"SRTF: {met} of {len(case)} deadlines met"

    times = random.uniform(50, result["completion_time"].max(), 200)
    times = [*times, *result["start_time"], *result["arrival_time"], *result["completion_time"]]
    present = [np.count_nonzero((result["arrival_time"] <= time) & (result["completion_time"] > time))
               for time in times]
    assert steps_at(middle.lines[0], times) == present
    inside = [time for time in times if time >= result["start_time"].min()]
    held = [2 + tasks["kv_bytes"][(result["start_time"] <= time) & (result["end_computation"] > time)].sum() / 1e9
            for time in inside]
    assert steps_at(bottom.lines[0], inside) == pytest.approx(held)
    assert set(bottom.lines[1].get_ydata()) == {16}
    for axes in (middle, bottom):
        assert axes.get_ylim()[0] == 0
        assert axes.get_xlim() == (50, result["completion_time"].max())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "waiting", "turnaround", "memory held", "memory of a T4"]


# How they refuse ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("arguments, message", [
    (["--device", "Abacus"], "unknown device 'Abacus': choose from T4, L4, V100, A100, RTX 4090"),
    (["--model", "GPT-9"], "unknown model 'GPT-9': choose from GPT-Neo 1.3B, GPT-3 175B, BLOOM-176B"),
    (["--model", "."], "model '.': "),
    (["--link", "wet string"], "unknown link 'wet string': choose from shared, dedicated"),
    (["--tasks", "none.csv"], "none.csv: No such file or directory"),
    (["--tasks", ""], "'': No such file or directory"),
    (["--model", ""], "unknown model '': choose from"),
    (["--model", "./none"], "model './none': no such file or folder"),
    (["--seed", "5"], "unrecognized arguments: --seed 5"),
    (["--load", "0.9"], "unrecognized arguments: --load 0.9"),
    (["--compare"], "unrecognized arguments: --compare"),
    (["--out", ""], "--out: names no folder"),
    (["--wrong"], "unrecognized arguments: --wrong"),
    (["--out", "file/folder"], "is not a folder that can be written in"),
])
def test_wrong_arguments_are_one_line(name, arguments, message, run):
    pathlib.Path("file").write_text("")
    refused(run(name, *arguments), message)


def test_wrong_arguments_of_optimal_are_one_line(run):
    refused(run("optimal", "--objective", "joy"), "unknown OBJECTIVE 'joy': choose from makespan, turnaround")
    refused(run("optimal", "--time-limit", "-1"), "TIME_LIMIT: -1.0 is not a number from 0 to 1e9")
    refused(run("optimal", "--time-limit", "soon"), "argument --time-limit: invalid float value: 'soon'")
    refused(run("optimal", "--solver", "HiGHS"), "unrecognized arguments: --solver HiGHS")


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("old, new, message", [
    ('"deadline": 100}', '"deadline": "late"}', "tasks, row 1, deadline: 'late' is not a number from 0 to 1e9"),
    ('"deadline": 20}', '"deadline": 2}', "tasks, row 2, deadline: 2.0 is before arrival_time"),
    ('"label": "Task 3"', '"label": "Task 1"', "tasks, row 3, label: 'Task 1' is there already"),
    ('"trans_time": 8, ', "", "tasks, row 4, trans_time: missing"),
    ('DEVICE = "T4"', 'DEVICE = "T5"', "unknown device 'T5'"),
    ('LINK = "shared"', "LINK = None", "unknown link None"),
    ('OUT = "results"', "OUT = None", "--out: names no folder"),
])
def test_a_wrong_edit_of_a_script_is_one_line(name, old, new, message, run):
    refused(run(edited(name, (old, new))), message)


RUNS = "return common.interval_table(queue, list(runs))"
NOT_WHOLE = "'Task 1' is not computed whole"


@pytest.mark.parametrize("new, message", [
    ("return common.interval_table(queue, list(runs)[1:])", NOT_WHOLE),
    ("return common.interval_table(queue, [(j, start - 1, end - 1) for j, start, end in runs])",
     "'Task 1' runs before it arrives"),
    ("return common.interval_table(queue, [(j, start, end + j) for j, start, end in runs])",
     "'Task 2' is not computed whole"),
    ("return common.interval_table(queue, [(j, start, end) for j, start, end in runs for _ in 'ab'])",
     NOT_WHOLE),
    ("arrival, length = queue['arrival_time'], queue['computation_time']\n"  # each from its own arrival on
     "    return common.interval_table(queue, list(zip(range(5), arrival, arrival + length)))",
     "'Task 2' runs while another task does"),
    ("return common.interval_table(queue, [])", NOT_WHOLE),
    ("return None", "schedule must return a table of common.interval_table"),
    ("return list(runs)", "schedule must return a table of common.interval_table"),
    ("return common.interval_table(queue, list(runs)).assign(label='Task 9')", "'Task 9' is no task of the list"),
    ("return common.interval_table(queue, list(runs))[:0]", NOT_WHOLE),
    ("return common.interval_table(queue, list(runs)), []", "must return a table"),
    ("table = common.interval_table(queue, list(runs))\n    table.attrs['transmission_order'] = ['Task 1']\n"
     "    return table", "transmission_order"),
])
def test_a_schedule_that_is_none_is_told(new, message, run):
    refused(run(edited("FCFS", (RUNS, new))), message)


def test_a_schedule_in_any_order_and_with_further_columns_is_one(run):
    run("FCFS", "--no-plot", "--out", "a")
    new = RUNS + "[::-1].assign(start=lambda table: table['start'].astype('int32'), colour='red')"
    assert run(edited("FCFS", (RUNS, new)), "--no-plot", "--out", "b")[0] == 0
    assert pathlib.Path("a/FCFS_tasks.csv").read_text() == pathlib.Path("b/mine_tasks.csv").read_text()


@settings(max_examples=part_of(150))
@given(cases(most=6), st.data())
def test_two_at_once_are_always_found(case, data):
    """Intervals moved about: refused exactly where two overlap, a task runs too early, or its work is not its own."""
    intervals = FCFS.schedule(table(case, 10))
    moved = data.draw(st.lists(st.integers(-6, 25), min_size=len(intervals), max_size=len(intervals)))
    later = intervals.assign(start=intervals["start"] + np.array(moved), end=intervals["end"] + np.array(moved))
    spans = sorted(zip(later["start"], later["end"]))
    overlap = any(start < end and one < two and max(start, one) < min(end, two) for k, (start, end) in enumerate(spans)
                  for one, two in spans[k + 1:])
    inside = any(start < one == two < end for start, end in spans for one, two in spans)  # of no length, in another
    early = any(start < 10 * case[int(label[1:])][0] for label, start in zip(later["label"], later["start"]))
    if overlap or early or inside:
        with pytest.raises(common.UserError, match="the schedule is wrong: "):
            common.simulate(table(case, 10), later, "shared")
    else:
        common.simulate(table(case, 10), later, "shared")


def test_a_folder_that_cannot_be_written_in_is_refused_before_the_work(run, monkeypatch):
    os.mkdir("locked")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("locked"))  # root may write anywhere
    refused(run("FCFS", "--out", "locked/results"), "locked is not a folder that can be written in")
    assert files() == []


@pytest.mark.parametrize("plot", [True, False])
def test_a_full_disk_leaves_nothing(plot, run, monkeypatch):
    """It fails at the last of the tables."""
    flags = [] if plot else ["--no-plot"]
    run("FCFS", *flags)
    before = {file: pathlib.Path(file).read_bytes() for file in files()}
    write = pd.DataFrame.to_csv

    def fail(frame, path, *rest, **options):
        if str(path).endswith("metrics.csv"):
            raise OSError(28, "No space left on device")
        return write(frame, path, *rest, **options)
    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    status, out, err = run("FCFS", "--device", "RTX 4090", *flags)
    assert (status, out, err) == (2, "", "FCFS: --out results: No space left on device\n")
    assert {file: pathlib.Path(file).read_bytes() for file in files()} == before
    assert [path for path in pathlib.Path("results").iterdir() if path.is_dir()] == []


def test_a_capped_task_is_warned_of(run):
    task = dict(FCFS.tasks[0], output_words=5000)
    pd.DataFrame([task]).to_csv("tasks.csv", index=False)
    status, _, err = run("FCFS", "--tasks", "tasks.csv", "--no-plot")
    assert status == 0
    assert err.startswith("warning: 1 of 1 tasks exceed the 2048 tokens of GPT-Neo 1.3B and run capped")
    assert err.count("\n") == 1
