"""The four policies against plain references, what becomes of a schedule, and the schedulers as a user runs them."""
import pathlib

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import cases, edited, metrics, part_of, runs_of, task_table
from hypothesis import given, settings
from hypothesis import strategies as st

import ADSA
import common
import FCFS
import LLF
import SRTF

POLICIES = [FCFS, SRTF, LLF, ADSA]


# Each policy gives exactly the runs of its reference ------------------------------------------------------------------


def found(policy, case, ticks, unit=1):
    """Runs of a policy. ticks: the QUANTUM of LLF, or ADSA's ALIKE, in ticks of `unit` microseconds as all the case."""
    own = [ticks * unit / 1e6] if policy in (LLF, ADSA) else []
    return runs_of(policy.schedule(task_table(case, unit), *own), unit)


def expected(policy, case, ticks, by_tick=False):
    """Runs of its reference. by_tick: that of LLF goes on a tick at a time."""
    if policy is LLF:
        return naive.llf(case, ticks, by_tick)
    if policy is ADSA:
        return naive.adsa(case, ticks)
    return naive.fcfs(case) if policy is FCFS else naive.srtf(case)


units = st.sampled_from([1, 37, 100000])  # decimal times: ticks of 0.1 s, or of no round number of microseconds


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=part_of(250))
@given(cases(), units, st.integers(1, 12))
def test_a_policy_equals_its_reference(policy, case, unit, ticks):
    assert found(policy, case, ticks, unit) == expected(policy, case, ticks, by_tick=True)


@pytest.mark.parametrize("policy", [SRTF, LLF, ADSA])
@settings(max_examples=20)
@given(cases(most=120, longest=20), st.integers(1, 6))
def test_a_policy_equals_its_reference_on_long_lists(policy, case, ticks):
    assert found(policy, case, ticks) == expected(policy, case, ticks)


@st.composite
def odd_cases(draw, most=8):
    """Lists of tasks of ranges that nobody expects, in microseconds, and one for ALIKE or QUANTUM: zeros and single
    microseconds beside hours and weeks, sums and differences of one another, deadlines passed at once or far away."""
    scale = st.sampled_from([1, 3, 1000, 10 ** 6, 36 * 10 ** 8, 10 ** 12])
    some = draw(st.lists(scale.flatmap(lambda high: st.integers(0, high)), min_size=1, max_size=4))
    number = st.sampled_from([0, *some, *(abs(x + sign * y) for x in some for y in some for sign in (1, -1))])
    tasks = draw(st.lists(st.tuples(number, number, number, number), min_size=1, max_size=most))
    return [(a, p, q, a + slack) for a, p, q, slack in tasks], draw(number)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=part_of(150))
@given(odd_cases())
def test_a_policy_equals_its_reference_on_odd_ranges(policy, drawn):
    case, ticks = drawn
    if policy is LLF:  # so that tasks of equal laxity take turns 60 times at most
        ticks = max(1, ticks, sum(p for _, p, _, _ in case) // 60)
    assert found(policy, case, ticks) == expected(policy, case, ticks)


def test_tasks_of_equal_laxity_take_turns_of_a_second():
    runs = runs_of(LLF.schedule(task_table([(0, 30, 0, 100), (0, 30, 0, 100)], 10 ** 5)), 10 ** 5)
    assert runs[:2] == [(0, 0, 10), (1, 10, 20)]


@pytest.mark.parametrize("spread, first", [(99999, 0), (100000, 1)])
def test_transmissions_are_alike_within_a_tenth_of_a_second(spread, first):
    """No deadline is in danger: by arrival the first runs first, else the one that is longer to send."""
    case = [(0, 10, 0, 10 ** 9), (0, 10, spread, 10 ** 9)]
    assert runs_of(ADSA.schedule(task_table(case)))[0][0] == first


# What becomes of a schedule ------------------------------------------------------------------------------------------


@settings(max_examples=part_of(400, 10))
@given(cases(), st.sampled_from(POLICIES), st.sampled_from(common.LINKS))
def test_the_uplink_and_the_measures_equal_a_loop(case, policy, link):
    case = [tuple(seconds * common.US for seconds in task) for task in case]
    intervals = policy.schedule(task_table(case))
    result, everything = common.simulate(task_table(case), intervals, link)
    start, end, pieces = {}, {}, dict.fromkeys(range(len(case)), 0)
    for j, s, e in runs_of(intervals):
        start.setdefault(j, s)
        end[j] = e
        pieces[j] += 1
    done = naive.uplink(case, [end[j] for j in range(len(case))], link)
    expected = pd.DataFrame([{
        "label": f"T{j}", "arrival_time": a, "computation_time": p, "trans_time": q, "deadline": d,
        "start_time": start[j], "end_computation": end[j], "completion_time": done[j], "response_time": start[j] - a,
        "waiting_time": end[j] - a - p, "uplink_waiting_time": done[j] - q - end[j], "turnaround_time": done[j] - a,
        "deadline_met": done[j] <= d, "preemptions": pieces[j] - 1} for j, (a, p, q, d) in enumerate(case)])
    pd.testing.assert_frame_equal(result, expected)
    sent = everything[everything["kind"] == "transmit"]
    assert sorted(sent["end"] - sent["start"]) == sorted(expected["trans_time"])

    model = common.Model("m", layers=3, hidden=8000, feed_forward=4000, heads=2, context=1)  # 3 x 0.64 GB
    caches = [k * 10 ** 9 for k in range(1, len(case) + 1)]
    tasks = task_table(case).assign(output_tokens=7, measured_weights_gb=np.nan, kv_bytes=caches)
    found = common.scheduling_metrics(tasks, result, model, common.get_device("T4"))
    n, span = len(case), (max(done) - min(expected["arrival_time"])) / 1e6 or np.nan
    held = 1.92 + naive.peak_memory(case, start, end, caches) / 1e9
    wanted = {
        "tasks": n, "T_end": np.nan_to_num(span), "deadlines_met": sum(expected["deadline_met"]),
        "mean_tardiness": np.mean((expected["completion_time"] - expected["deadline"]).clip(lower=0)) / 1e6,
        "mean_uplink_waiting_time": np.mean(expected["uplink_waiting_time"]) / 1e6,
        "preemptions": sum(expected["preemptions"]), "throughput": n / span, "tokens_per_second": 7 * n / span,
        "processor_utilization": sum(expected["computation_time"]) / 1e6 / span,
        "uplink_utilization": sum(expected["trans_time"]) / 1e6 / span,
        "peak_memory_gb": held, "memory_utilization": held / 16}
    for key in ("waiting_time", "response_time", "turnaround_time"):
        wanted[f"mean_{key}"] = np.mean(expected[key]) / 1e6
        wanted.update({f"p{percent}_{key}": np.percentile(expected[key], percent) / 1e6 for percent in (50, 95, 99)})
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-6, nan_ok=True)


# One decision at a time -----------------------------------------------------------------------------------------------


@settings(max_examples=part_of(300, 10))
@given(cases(), st.sampled_from([FCFS, SRTF, ADSA]))
def test_online_a_policy_decides_as_it_does_on_the_whole_list(case, policy):
    """Asked at every arrival and completion, and given the tasks alone that are there."""
    def choose(now, present, remaining, running):
        rows = sorted(present)
        waiting = task_table(case).iloc[rows].assign(computation_time=[remaining[j] for j in rows])
        label, until = common.next_run(policy.schedule, waiting, now)
        task = int(label[1:])
        assert until == now + remaining[task]
        return task
    assert naive.by_decision(case, choose) == runs_of(policy.schedule(task_table(case)))


def test_online_least_laxity_runs_until_another_has_caught_up():
    """Laxities of 4 and 6 s from now on, 5 s: the first runs for 2 s, until the second is as urgent."""
    waiting = task_table([(3, 9, 1, 19), (1, 2, 0, 13)], 10 ** 6)
    assert common.next_run(LLF.schedule, waiting, 5 * 10 ** 6) == ("T0", 7 * 10 ** 6)


# What a run prints and writes -----------------------------------------------------------------------------------------


def test_the_flags_of_optimal(run):
    for objective, measure in (("turnaround", "mean_turnaround_time"), ("makespan", "T_end")):
        assert run("optimal", "--objective", objective, "--no-plot", "--time-limit", "30")[0] == 0
        found = metrics("optimal")
        assert (found["objective"], found["proven_optimal"]) == (objective, True)
        assert found[measure] == pytest.approx(found["lower_bound"])


def test_a_measured_list_names_its_model_device_and_weights(run):
    rows = [dict(task, measured_model="my 2B", measured_device="my CPU", measured_weights_gb=3.5, memory_gb=0.25)
            for task in FCFS.tasks]
    pd.DataFrame(rows).to_csv("tasks.csv", index=False)
    assert run("FCFS", "--tasks", "tasks.csv", "--no-plot")[0] == 0
    assert metrics("FCFS")[["model", "device", "peak_memory_gb"]].tolist() == ["my 2B", "my CPU", 3.75]


def test_the_gantt_draws_each_task_bar_and_deadline():
    """Bars and marks of the figure against the schedule, read back from matplotlib's own objects. They end at 42 s:
    beyond 63 s a deadline is an arrow at the edge, a missed one never."""
    deadlines = [39, 63, 63.000001, 5]
    tasks = task_table([(0, 10, 2, 0)] * 4, 10 ** 6).assign(deadline=(np.array(deadlines) * 1e6).astype("int64"))
    result, intervals = map(common.in_seconds, common.simulate(tasks, FCFS.schedule(tasks), "shared"))
    axes = common.schedule_figure("FCFS", result, intervals).axes[0]
    bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
    assert bars == sorted(zip(intervals["start"], intervals["end"]))
    marks = {line.get_marker(): list(zip(line.get_xdata(), line.get_ydata())) for line in axes.lines}
    right = axes.get_xlim()[1]
    assert 63 < right < 65
    assert marks == {"|": [(39, 0), (63, 1)], ">": [(right, 2)], "x": [(5, 3)]}
    assert axes.get_xlabel() == "time (s)"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == result["label"].tolist()
    (waits,) = (lines for lines in axes.collections if len(lines.get_paths()) == len(result))
    spans = [(path.vertices[0, 0], path.vertices[1, 0]) for path in waits.get_paths()]
    assert spans == list(zip(result["arrival_time"], result["end_computation"]))
    tasks = task_table([(0, 1, 0, 9)] * 31, 10 ** 6)  # of more than 30 the first
    many = map(common.in_seconds, common.simulate(tasks, FCFS.schedule(tasks), "shared"))
    axes = common.schedule_figure("FCFS", *many).axes[0]
    assert (axes.get_title(), len(axes.get_yticks())) == ("FCFS: first 30 of 31 tasks", 30)


def test_a_schedule_in_any_order_and_with_further_columns_is_one(run):
    run("FCFS", "--no-plot", "--out", "a")
    old = "return common.interval_table(queue, list(runs))"
    new = old + "[::-1].assign(start=lambda table: table['start'].astype('int32'), colour='red')"
    assert run(edited("FCFS", (old, new)), "--no-plot", "--out", "b")[0] == 0
    assert pathlib.Path("a/FCFS_tasks.csv").read_text() == pathlib.Path("b/mine_tasks.csv").read_text()
