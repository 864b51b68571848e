"""reproduce/uncertainty.py: online runs tick by tick, estimates, changes."""
import functools

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of

import common
import FCFS
import LLF
import SRTF
from reproduce import EDF, uncertainty

POLICIES = {"FCFS": FCFS.schedule, "SRTF": SRTF.schedule, "EDF": EDF.schedule,
            "LLF": functools.partial(LLF.schedule, quantum=1 / common.US)}  # looks at the laxities at every tick


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("cost", [0, 1, 4])
def test_estimates_and_costs_equal_the_same_tick_by_tick(name, cost, monkeypatch):
    rng = np.random.default_rng(9)
    for _ in range(part_of(60)):
        n, rest = int(rng.integers(1, 6)), int(rng.integers(1, 5))
        monkeypatch.setattr(uncertainty, "REST", rest / common.US)
        arrival, length, estimate, due = (rng.integers(least, most, n) for least, most in (
            (0, 12), (1, 9), (1, 12), (5, 40)))
        tasks = pd.DataFrame({"label": [f"Task {k}" for k in range(n)], "arrival_time": arrival, "trans_time": 0,
                              "computation_time": length, "deadline": due})

        def rule(j, expected, name=name, due=due):
            return {"FCFS": 0, "SRTF": expected, "EDF": due[j], "LLF": due[j] - expected}[name]
        ticks = naive.online(arrival.tolist(), length.tolist(), estimate.tolist(), rule, cost, rest)
        found = [None] * len(ticks)
        for row in uncertainty.run_online(POLICIES[name], tasks, pd.Series(estimate), cost).itertuples():
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
