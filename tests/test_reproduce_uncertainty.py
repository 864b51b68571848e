"""reproduce/uncertainty.py: online runs against schedules of whole lists and tick by tick, estimates, changes."""
import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of

import ADSA
import common
import FCFS
import LLF
import SRTF
from reproduce import EDF, uncertainty

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


def test_changes_are_those_from_exact_lengths_and_free_preemptions():
    rng = np.random.default_rng(4)
    settings = [(0, 0), (1, 0), (0, 0.1)]
    runs = pd.DataFrame([dict(load=0.9, run=run, sigma=sigma, cost=cost, algorithm=name,
                              **{metric: rng.uniform(1, 9) for metric in uncertainty.METRICS})
                         for run in range(5) for sigma, cost in settings for name in ("ADSA", "FCFS")])
    changed = uncertainty.changes_of_settings(runs, ["ADSA", "FCFS"])
    assert len(changed) == 2 * 2 * len(uncertainty.METRICS)
    means = runs.groupby(["algorithm", "sigma", "cost"])[uncertainty.METRICS].mean()
    for row in changed.to_dict("records"):
        value = means.loc[(row["algorithm"], row["sigma"], row["cost"]), row["metric"]]
        exact = means.loc[(row["algorithm"], 0, 0), row["metric"]]
        assert row["change"] == pytest.approx(100 * (value / exact - 1), abs=1e-5)


def test_policies_that_look_at_no_length_do_not_mind_estimates():
    model, device = common.get_model(uncertainty.MODEL), common.get_device(uncertainty.DEVICE)
    runs = pd.DataFrame(uncertainty.run_case(0.9, 0, 1, {"FCFS": "FCFS", "EDF": "reproduce.EDF"}, model, device, "shared"))
    free = runs[runs["cost"] == 0]
    assert len(runs) == 2 * (len(uncertainty.SIGMAS) + len(uncertainty.COSTS))
    assert (free.groupby("algorithm")[uncertainty.METRICS].nunique() == 1).all(axis=None)
    met = runs["deadlines_met"] * uncertainty.TASKS / 100
    assert np.allclose(met, met.round())
