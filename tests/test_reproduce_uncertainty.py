"""reproduce/uncertainty.py: online runs against schedules of whole lists and tick by tick, estimates, changes."""
import functools

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

POLICIES = {"ADSA": ADSA.schedule, "FCFS": FCFS.schedule, "SRTF": SRTF.schedule, "EDF": EDF.schedule}
EACH_TICK = functools.partial(LLF.schedule, quantum=1 / common.US)  # looks at the laxities at every tick


def task_table(arrival, length, trans, deadline):
    """In microseconds."""
    return pd.DataFrame({"arrival_time": arrival, "computation_time": length, "trans_time": trans, "deadline": deadline,
                         "label": [f"Task {k}" for k in range(len(arrival))]})


def random_list(rng):
    """Tasks of whole seconds, among which many are equal, of any microseconds, or of both; in any order of arrival."""
    n = int(rng.integers(1, 7))
    draw = [lambda most: rng.integers(0, most, n, endpoint=True) * common.US,
            lambda most: rng.integers(0, most * common.US, n, endpoint=True),
            lambda most: rng.integers(0, most, n, endpoint=True) * rng.choice([1, common.US], n)][rng.integers(3)]
    arrival, length, trans = draw(8), draw(5), draw(3)
    return task_table(arrival, length, trans, arrival + draw(25))


@pytest.mark.parametrize("name", POLICIES)
def test_with_exact_lengths_online_equals_the_schedule_of_the_whole_list(name):
    rng = np.random.default_rng(7)
    for _ in range(part_of(500, 10)):
        tasks = random_list(rng)
        found = uncertainty.run_online(POLICIES[name], tasks, tasks["computation_time"], 0)
        pd.testing.assert_frame_equal(found, POLICIES[name](tasks), check_like=True)


@pytest.mark.parametrize("name", ["FCFS", "SRTF", "EDF", "LLF"])
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
            return {"FCFS": 0, "SRTF": expected, "EDF": due[j], "LLF": due[j] - expected}[name]
        ticks = naive.online(arrival.tolist(), length.tolist(), estimate.tolist(), rule, cost, rest)
        found = [None] * len(ticks)
        schedule = POLICIES.get(name, EACH_TICK)
        for row in uncertainty.run_online(schedule, tasks, pd.Series(estimate), cost).itertuples():
            found[row.start:row.end] = [int(row.label.split()[1])] * (row.end - row.start)
        assert found == ticks


def test_estimates_are_right_in_the_median_and_as_far_off_as_sigma(monkeypatch):
    """And the same ones are handed to every policy."""
    seen = []

    def online(schedule, tasks, estimates, cost):
        seen.append(np.log(estimates / tasks["computation_time"]).to_numpy())
        return FCFS.schedule(tasks)
    monkeypatch.setattr(uncertainty, "run_online", online)
    model, device = common.get_model(uncertainty.MODEL), common.get_device(uncertainty.DEVICE)
    for run in range(5):
        uncertainty.run_case(0.9, 0, run, {"ADSA": "ADSA", "FCFS": "FCFS"}, model, device, "shared")
    errors = np.array(seen).reshape(5, -1, 2, uncertainty.TASKS)
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
    changed = uncertainty.changes_of_settings(runs)
    assert len(changed) == 3 * 2 * len(uncertainty.METRICS)
    means = runs.groupby(["algorithm", "sigma", "cost"])[uncertainty.METRICS].mean()
    for row in changed.to_dict("records"):
        value = means.loc[(row["algorithm"], row["sigma"], row["cost"]), row["metric"]]
        exact = means.loc[(row["algorithm"], 0, 0), row["metric"]]
        assert row["change"] == pytest.approx(100 * (value / exact - 1), abs=1e-5)
