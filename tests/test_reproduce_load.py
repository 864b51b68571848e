"""reproduce/load.py: its random lists, its goodput, and lists of one's own."""
import numpy as np
import pandas as pd
import pytest
from conftest import refused

import common
from reproduce import load, study

MODEL, DEVICE = common.get_model("GPT-Neo 1.3B"), common.get_device("T4")


def test_arrivals_are_a_poisson_process():
    """Times between arrivals: their standard deviation is their mean, and 1 - 1 / e of them are below it."""
    drawn = load.TASKS, load.PROMPT, load.OUTPUT, load.TRANS, load.FACTOR, None, MODEL, DEVICE
    lists = [study.random_tasks(np.random.default_rng(run), *drawn) for run in range(10)]
    gaps = np.concatenate([np.diff(tasks["arrival_time"]) for tasks in lists])
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.05)
    assert (gaps < gaps.mean()).mean() == pytest.approx(1 - 1 / np.e, abs=0.02)


@pytest.mark.parametrize("met, largest", [
    ([95, 85, 60, 30], 0.35), ([99, 90, 90, 80], 0.5), ([95, 80, 92, 82], 0.52), ([87, 70, 50, 0], 0),
    ([99, 98, 97, 93], 0.6)])
def test_goodput_is_the_largest_load_at_which_the_goal_is_met(met, largest):
    """Of lists that are all alike the interval has no width; of unlike ones with the same mean it has."""
    loads = (0.3, 0.4, 0.5, 0.6)
    runs = pd.DataFrame([dict(run=run, load=at, algorithm="ADSA", deadlines_met_percent=share)
                         for run in range(12) for at, share in zip(loads, met)])
    row, = load.goodput(runs, ["ADSA"]).to_dict("records")
    assert [row["mean"], row["low"], row["high"]] == pytest.approx([largest] * 3)
    runs["deadlines_met_percent"] += runs["run"] % 2 * 4 - 2  # half of the lists above, half below
    row, = load.goodput(runs, ["ADSA"]).to_dict("records")
    assert row["mean"] == pytest.approx(largest)
    assert row["low"] < largest < row["high"] or row["low"] == row["high"] == largest in (0, 0.6)


def test_a_list_of_ones_own(run):
    own = pd.DataFrame({"label": list("abcd"), "prompt": "", "arrival_time": [0, 1, 2, 8], "output_words": 0,
                        "trans_time": [1, 2, 1, 1], "deadline": [9, 9, 9, 19], "computation_time": [4, 3, 1, 2]})
    own.to_csv("mine.csv", index=False)
    status, out, err = run("reproduce/load", "--tasks", "mine.csv", "--link", "dedicated", "--no-plot")
    assert (status, err) == (0, "")
    assert "mine.csv: 4 tasks, at each load once" in out
    runs = pd.read_csv("results/load_runs.csv")
    assert "\n90 %  1.400  1.220  1.400  1.400  1.400\n" in out  # FCFS meets 4 at load 1.2, and 2 at 1.3
    served = runs[(runs["algorithm"] == "FCFS") & (runs["load"] == 0.5)]  # arrivals at 0, 2.5, 5 and 20 s
    assert served[["T_end", "mean_turnaround_time", "deadlines_met_percent"]].to_numpy().tolist() == [[23, 4.625, 100]]


@pytest.mark.parametrize("arguments, message", [
    (["--tasks", "one.csv"], "one.csv: all tasks arrive at once, at any load"),
    (["--tasks", "idle.csv"], "idle.csv: no task takes any computation")])
def test_a_list_without_a_load_is_refused(arguments, message, run):
    tasks = pd.DataFrame({"label": ["A", "B"], "prompt": "", "arrival_time": 1, "output_words": 1, "trans_time": 1,
                          "deadline": 9})
    tasks.to_csv("one.csv", index=False)
    tasks.assign(arrival_time=[1, 2], computation_time=0).to_csv("idle.csv", index=False)
    refused(run("reproduce/load", *arguments), message)
