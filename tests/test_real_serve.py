"""real.serve: served equals simulated where tokens take what is expected; preempted tasks make the tokens of others."""
import functools
import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import files, part_of, script

import ADSA
import common
import FCFS
import LLF
import SRTF
from real import serve

DEVICE = [common.get_device("T4")]
MODEL = common.get_model("GPT-Neo 1.3B")


class Steps:
    """A clock that only steps advance, and a stand-in for a model whose token takes 1 us."""

    def __init__(self, tokens):
        self.now, self.left = 0, list(tokens)

    def clock(self):
        return self.now

    def wait(self, until):
        self.now = max(self.now, until)

    def make_token(self, k):
        self.now += 1
        self.left[k] -= 1
        return self.left[k] == 0


def table_of(arrivals, tokens, trans, slack):
    """A task table in order of arrival whose tasks make so many tokens, a microsecond each."""
    rows = [{"label": f"Task {k}", "prompt": "a", "arrival_time": a / common.US, "output_words": 1,
             "trans_time": q / common.US, "deadline": (a + p + q + more) / common.US, "output_tokens": p,
             "computation_time": p / common.US}
            for k, (a, p, q, more) in enumerate(zip(arrivals, tokens, trans, slack))]
    return common.read_tasks(rows, MODEL, DEVICE).sort_values("arrival_time", kind="stable")


@functools.lru_cache(maxsize=None)
def random_tables(number):
    rng = np.random.default_rng(1)
    tables = []
    for _ in range(number):
        n = int(rng.integers(2, 4))
        trans = rng.choice([0, 50_000, 200_000, 400_000], size=n)  # alike or not, by ADSA's setting
        columns = rng.integers(0, 8, size=n), rng.integers(1, 10, size=n), trans, rng.integers(0, 20, size=n)
        tables.append(table_of(*columns))
    return tables


# The policies ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", [FCFS, SRTF, ADSA, LLF], ids=lambda policy: policy.__name__)
def test_with_a_clock_of_steps_served_is_simulated(policy):
    """LLF, whose quantum begins anew at each decision, serves every task whole."""
    preempted = 0
    for tasks in random_tables(part_of(200)):
        steps = Steps(tasks["computation_time"])
        runs = []
        decisions = serve.serve(policy.schedule, tasks, steps.make_token, steps.clock, steps.wait, runs)
        served = common.interval_table(tasks, runs)
        common.check_schedule(tasks, served)
        if policy is not LLF:
            pd.testing.assert_frame_equal(served, policy.schedule(tasks), check_dtype=False)
        preempted += len(served) > len(tasks)
        assert decisions == [0] * len(decisions) and len(decisions) >= len(tasks)
    assert (preempted > part_of(20)) == (policy is not FCFS)  # or it would hardly be a test


def test_a_task_that_takes_longer_than_expected_is_served_to_its_end():
    tasks = table_of([0, 2], [5, 4], [0, 0], [0, 0])
    steps = Steps([9, 4])
    runs = []
    serve.serve(SRTF.schedule, tasks, steps.make_token, steps.clock, steps.wait, runs)
    assert runs == [(0, 0, 9), (1, 9, 13)]  # at 2 three are left, and four of the other; from 5 on, one is
    assert serve.computed_times(runs, 2).tolist() == [9, 4]


@pytest.mark.parametrize("measured, seconds", [({}, 2.5), ({"measured_model": "m"}, None)])
def test_what_the_list_would_take_on_the_modelled_device(measured, seconds):
    """By the time that a task gives, unless that is measured."""
    rows = [{"label": str(k), "prompt": "a b c", "arrival_time": 0, "output_words": 3, "trans_time": 0, "deadline": 9,
             **measured} for k in range(2)]
    rows[1]["computation_time"] = 2.5
    tasks = common.read_tasks(rows, MODEL, DEVICE)
    estimate = MODEL.layers * common.layer_time(MODEL, DEVICE[0], 4, 4)
    assert serve.estimated_seconds(tasks, MODEL, DEVICE[0]) == pytest.approx(estimate + (seconds or estimate))


# The command ----------------------------------------------------------------------------------------------------------
def test_scripts_are_served_one_after_another(run, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pathlib.Path("tasks.json").write_text(json.dumps([  # they arrive together, the shortest last
        {"label": f"Task {k}", "prompt": "ab", "arrival_time": 0.001 * k, "output_words": words, "trans_time": 0.01 * k,
         "deadline": 60} for k, words in ((1, 20), (2, 9), (3, 4))]))
    pathlib.Path("Mine.py").write_text(script("SRTF"))
    flags = "--tasks", "tasks.json", "--stretch", "auto", "--repeats", "1"
    status, out, err = run("real/serve", "FCFS", "Mine.py", *flags)
    assert status == 0 and err == ""
    ends = ["gantt.png", "intervals.csv", "metrics.csv", "tasks.csv"]
    assert files("results") == [f"{name}_served_{end}" for name in ("FCFS", "Mine") for end in ends]
    for name in ("FCFS", "Mine"):
        assert f"\n{name}: " in out
        intervals, metrics, tasks = (pd.read_csv(f"results/{name}_served_{end}") for end in ends[1:])
        computed = intervals[intervals["kind"] == "compute"].groupby("label")
        assert (computed["end"].sum() - computed["start"].sum()).tolist() == pytest.approx(
            tasks["computation_time"].tolist(), abs=1e-6)
        assert metrics["metric"].tolist() == list(serve.COMPARED)
        turnaround = metrics.set_index("metric").loc["mean_turnaround_time"]
        assert turnaround["measured"] == pytest.approx(tasks["turnaround_time"].mean(), abs=1e-5)
        for error, expected in (("error_percent", "simulated"), ("replay_error_percent", "replayed")):
            percent = 100 * (turnaround["measured"] / turnaround[expected] - 1)
            assert turnaround[error] == pytest.approx(percent, abs=0.1)
        rows = tasks[["label", *common.TIMES]].assign(prompt="", output_words=1).to_dict("records")
        again = common.read_tasks(rows, MODEL, DEVICE)
        replayed, _ = common.simulate(again, {"FCFS": FCFS, "Mine": SRTF}[name].schedule(again), "shared")
        assert turnaround["replayed"] == pytest.approx(replayed["turnaround_time"].mean() / common.US, abs=1e-6)


def test_a_measured_list_is_not_measured_again(run, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pathlib.Path("tasks.json").write_text(json.dumps([
        {"label": "Task 1", "prompt": "ab", "arrival_time": 0, "output_words": 3, "trans_time": 0.1, "deadline": 9,
         "output_tokens": 4, "computation_time": 0.25, "measured_model": "another", "measured_device": "Abacus"}]))
    status, out, err = run("real/serve", "FCFS", "--tasks", "tasks.json", "--no-plot")
    assert status == 0
    assert "measured with another, not with random GPT-Neo" in err
    assert "measured with Abacus, not with " in err
    assert "alone the tasks take 0.250 s here" in out
    assert pd.read_csv("results/FCFS_served_metrics.csv")["simulated"][2] == 0.35
