"""reproduce/uncertainty.py: online runs against schedules of whole lists and tick by tick, tables and flags."""
import math

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, part_of, refused, thorough

import ADSA
import common
import FCFS
import LLF
import SRTF
from reproduce import EDF, stats, uncertainty

POLICIES = {"ADSA": ADSA, "FCFS": FCFS, "SRTF": SRTF, "EDF": EDF}


def task_table(arrival, length, trans, deadline):
    """In microseconds."""
    columns = dict(arrival_time=arrival, computation_time=length, trans_time=trans, deadline=deadline)
    table = pd.DataFrame({key: np.array(values, dtype="int64") for key, values in columns.items()})
    return table.assign(label=[f"Task {k}" for k in range(len(table))])


def random_list(rng, least=0):
    """Tasks of whole seconds, among which many are equal, of any microseconds, or of both; in any order of arrival."""
    n = int(rng.integers(1, 7))
    draw = [lambda most: rng.integers(least, most, n, endpoint=True) * common.US,
            lambda most: rng.integers(least, most * common.US, n, endpoint=True),
            lambda most: rng.integers(least, most, n, endpoint=True) * rng.choice([1, common.US], n)][rng.integers(3)]
    arrival, length, trans = draw(8), draw(5), draw(3)
    return task_table(arrival, length, trans, arrival + draw(25))


def online(module, tasks, estimates=None, cost=0):
    estimates = tasks["computation_time"] if estimates is None else pd.Series(estimates)
    return uncertainty.run_online(module.schedule, tasks, estimates, cost)


# Against the whole list -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
def test_with_exact_lengths_online_equals_the_schedule_of_the_whole_list(name):
    rng = np.random.default_rng(7)
    for _ in range(part_of(500, 10)):
        tasks = random_list(rng)
        expected = POLICIES[name].schedule(tasks)
        pd.testing.assert_frame_equal(online(POLICIES[name], tasks), expected, check_like=True)


def test_llf_online_keeps_the_processor_busy_and_runs_the_least_laxity():
    """Its quantum begins anew with each decision, so it need not equal its schedule of the whole list."""
    rng = np.random.default_rng(8)
    for _ in range(part_of(60)):
        tasks = random_list(rng, least=1)
        intervals = online(LLF, tasks)
        common.simulate(tasks, intervals, "shared")  # whole, none before it arrives, no two at once
        busy = [(row.start, row.end) for row in intervals.itertuples()]
        assert joined(busy) == joined([(row.start, row.end) for row in FCFS.schedule(tasks).itertuples()])
        for now in {*intervals["start"], *tasks["arrival_time"]}:
            laxity = laxities(tasks, intervals, now)
            running = intervals["label"][(intervals["start"] <= now) & (now < intervals["end"])]
            if len(running):
                assert laxity[running.iloc[0]] == min(laxity.values())


def joined(spans):
    """Spans of time in which the processor is busy, those that meet joined."""
    found = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def laxities(tasks, intervals, now):
    """{label: laxity} of the unfinished tasks that have arrived."""
    found = {}
    for task in tasks.itertuples():
        own = intervals[intervals["label"] == task.label]
        left = task.computation_time - (own["end"].clip(upper=now) - own["start"].clip(upper=now)).sum()
        if task.arrival_time <= now and left:
            found[task.label] = task.deadline - task.trans_time - now - left
    return found


# Estimates and costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FCFS", "SRTF", "EDF"])
@pytest.mark.parametrize("cost", [0, 1, 4])
def test_estimates_and_costs_equal_the_same_tick_by_tick(name, cost, monkeypatch):
    rng = np.random.default_rng(9)
    for _ in range(part_of(60)):
        n, rest = int(rng.integers(1, 6)), int(rng.integers(1, 5))
        monkeypatch.setattr(uncertainty, "REST", rest / common.US)
        arrival, length, estimate, due = (rng.integers(least, most, n) for least, most in (
            (0, 12), (1, 9), (1, 12), (5, 40)))
        tasks = task_table(arrival, length, 0 * arrival, due)

        def rule(j, expected, name=name, due=due):
            return {"FCFS": 0, "SRTF": expected, "EDF": due[j]}[name]
        ticks = naive.online(arrival.tolist(), length.tolist(), estimate.tolist(), rule, cost, rest)
        found = [None] * len(ticks)
        for row in online(POLICIES[name], tasks, estimate, cost).itertuples():
            found[row.start:row.end] = [int(row.label.split()[1])] * (row.end - row.start)
        assert found == ticks


@pytest.mark.parametrize("estimates, cost, expected", [
    # seconds: task 0 arrives at 0 and takes 10, task 1 at 4 and takes 2
    ([10, 2], 0, [(0, 0, 4), (1, 4, 6), (0, 6, 12)]),
    ([10, 2], 1, [(0, 0, 4), (1, 5, 7), (0, 7, 13)]),  # leaving a task that is not done costs a second
    ([10, 7], 0, [(0, 0, 10), (1, 10, 12)]),  # task 1 is taken for longer than what is left of task 0
    ([5, 2], 0, [(0, 0, 10), (1, 10, 12)]),  # task 0 seems to be nearly done, again and again
    ([12, 1.5], 0, [(0, 0, 4), (1, 4, 6), (0, 6, 12)]),  # task 1 is not done when its estimate is used up: REST is less
])
def test_small_cases_by_hand(estimates, cost, expected):
    tasks = task_table([0, 4 * common.US], [10 * common.US, 2 * common.US], [0, 0], [0, 0])
    estimates = [round(seconds * common.US) for seconds in estimates]
    intervals = online(SRTF, tasks, estimates, cost * common.US)
    found = [(int(row.label[-1]), row.start / common.US, row.end / common.US) for row in intervals.itertuples()]
    assert found == expected


def test_estimates_are_right_in_the_median_and_as_far_off_as_sigma(monkeypatch):
    """And the same ones are handed to every policy."""
    seen = []

    def online(schedule, tasks, estimates, cost):
        seen.append(np.log(estimates / tasks["computation_time"]).to_numpy())
        return FCFS.schedule(tasks)
    monkeypatch.setattr(uncertainty, "run_online", online)
    model, device = common.get_model(uncertainty.MODEL), common.get_device(uncertainty.DEVICE)
    for run in range(10):
        uncertainty.run_case(0.9, 0, run, {"ADSA": "ADSA", "FCFS": "FCFS"}, model, device, "shared")
    errors = np.array(seen).reshape(10, -1, 2, uncertainty.TASKS)
    assert (errors[:, :, 0] == errors[:, :, 1]).all()
    for k, sigma in enumerate(uncertainty.SIGMAS):
        assert np.median(errors[:, k]) == pytest.approx(0, abs=0.1)
        assert errors[:, k].std() == pytest.approx(sigma, abs=0.1)
        assert errors[:, k, 0] == pytest.approx(sigma * errors[:, len(uncertainty.SIGMAS) - 1, 0], abs=1e-5)


@pytest.mark.parametrize("load", uncertainty.LOADS)
def test_random_lists_have_the_load_and_deadlines_that_are_set(load):
    model, device = common.get_model(uncertainty.MODEL), common.get_device(uncertainty.DEVICE)
    tasks = uncertainty.random_tasks(load, np.random.default_rng(3), model, device)
    span = tasks["arrival_time"].max() - tasks["arrival_time"].min()
    assert tasks["computation_time"].sum() / span == pytest.approx(load, rel=1e-6)
    factor = (tasks["deadline"] - tasks["arrival_time"]) / (tasks["computation_time"] + tasks["trans_time"])
    assert factor.between(*uncertainty.DEADLINE).all()
    other = uncertainty.random_tasks(2 * load, np.random.default_rng(3), model, device)
    for key in ("computation_time", "trans_time", "prompt_tokens", "output_tokens"):
        assert other[key].tolist() == tasks[key].tolist()


# The whole script -----------------------------------------------------------------------------------------------------
FILES = ["uncertainty_changes.csv", "uncertainty_runs.csv", "uncertainty_table.csv"]


@pytest.fixture
def small(monkeypatch):
    """Few and short lists."""
    monkeypatch.setattr(uncertainty, "TASKS", 5)
    monkeypatch.setattr(uncertainty, "LOADS", (0.9, 1.2))
    monkeypatch.setattr(uncertainty, "SIGMAS", (0, 1))
    monkeypatch.setattr(uncertainty, "COSTS", (0.1,))


def start(monkeypatch, capsys, *flags):
    monkeypatch.setattr("sys.argv", ["uncertainty", *flags])
    uncertainty.main("reproduce.uncertainty")
    return capsys.readouterr().out


def test_tables_and_figure_follow_from_the_runs(small, monkeypatch, capsys, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text((ROOT / "SRTF.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    out = start(monkeypatch, capsys, "--runs", "2", "--seed", "5", "--also", str(mine), "--out", "one")
    runs, table, changed = (pd.read_csv(f"one/{name}") for name in (FILES[1], FILES[2], FILES[0]))
    assert len(runs) == 2 * 2 * 3 * 6
    assert {*FILES, "uncertainty.png"} <= set(files("one"))
    wide = runs.pivot(index=["load", "sigma", "cost", "run"], columns="algorithm", values=list(uncertainty.UNITS))
    for metric in uncertainty.UNITS:
        assert wide[metric]["mine"].tolist() == wide[metric]["SRTF"].tolist()
        for name in ("FCFS", uncertainty.EDF):  # look at no length
            by_sigma = wide[metric][name].unstack("sigma").xs(0, level="cost")
            assert by_sigma[0].tolist() == by_sigma[1].tolist()
    for row in table.to_dict("records"):
        values = wide.loc[(row["load"], row["sigma"], row["cost"])][row["metric"]]
        assert row["mean"] == pytest.approx(values[row["algorithm"]].mean(), abs=1e-6)
        change = stats.change(values["ADSA"].to_numpy(dtype=float), values[row["algorithm"]].to_numpy(dtype=float))
        if row["algorithm"] != "ADSA":
            assert row["change"] == pytest.approx(change[0], abs=1e-6, nan_ok=True)
    for row in changed.to_dict("records"):
        value, before = (wide.loc[setting][row["metric"]][row["algorithm"]].mean() for setting in (
            (row["load"], row["sigma"], row["cost"]), (row["load"], 0, 0)))
        percent = 100 * (value / before - 1) if before else math.nan
        assert row["change"] == pytest.approx(percent, abs=1e-5, nan_ok=True)
    met = wide["deadlines_met"]
    assert np.allclose(met * 5 / 100, (met * 5 / 100).round())

    again = start(monkeypatch, capsys, "--from", "one", "--out", "two")
    assert again.split("\nwritten")[0] == out.split("\nwritten")[0]
    for name in files("one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@thorough
def test_a_run_is_the_same_however_many_there_are(small, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for number in ("1", "2"):
        start(monkeypatch, capsys, "--runs", number, "--out", number, "--no-plot")
    one, two = (pd.read_csv(f"{number}/uncertainty_runs.csv") for number in ("1", "2"))
    pd.testing.assert_frame_equal(two[two["run"] == 0].reset_index(drop=True), one)
    assert "uncertainty.png" not in files("1")


@pytest.mark.parametrize("flags, message", [
    (["--runs", "0"], "--runs: 0 is not positive"), (["--link", "none"], "unknown link"),
    (["--from", "nowhere"], "--from nowhere: no uncertainty_runs.csv"),
    (["--from", "nowhere", "--seed", "3"], "--seed: has no effect with --from"),
    (["--also", "nowhere.py"], "--also nowhere.py: "), (["--model", "none"], "unknown model")])
def test_flags_that_cannot_be_are_refused_in_one_line(flags, message, run):
    refused(run(str(ROOT / "reproduce" / "uncertainty.py"), *flags), message)
