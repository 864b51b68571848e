"""reproduce/load.py: its curves against a closed form, its lists at each load, its tables and what it refuses."""
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, refused, run_here, thorough

import common
from reproduce import load, stats

MODEL, DEVICE = common.get_model("GPT-Neo 1.3B"), common.get_device("T4")
SCRIPT = ROOT / "reproduce" / "load.py"
WHO = ["ADSA", "FCFS", "SRTF", "LLF", "EDF (reference)"]
LOADS = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folder and standard output of a run of two random lists."""
    folder = tmp_path_factory.mktemp("drawn")
    status, out, err = run_here(SCRIPT, "--runs", 2, "--seed", 7, "--out", folder)
    assert (status, err) == (0, "")
    return folder, out


def table(arrival, work, trans=0, due=1):
    task = dict(label="T", prompt="", arrival_time=0, output_words=1, trans_time=0, deadline=0)
    one = common.read_tasks([task], MODEL, [DEVICE])
    tasks = one.loc[[0] * len(arrival)].reset_index(drop=True)
    return tasks.assign(label=[f"T{j}" for j in range(len(arrival))], arrival_time=arrival, computation_time=work,
                        trans_time=trans, deadline=arrival + due)


@pytest.mark.parametrize("rho", [0.5, *(pytest.param(rho, marks=thorough) for rho in (0.3, 0.6))])
def test_waiting_is_that_of_a_queue_with_a_closed_form(rho):
    """Poisson arrivals at rate lambda, exponential service at rate mu, first come first served: rho / (mu - lambda)."""
    service, waiting = 1e6, []
    for run in range(40):
        draw = np.random.default_rng((3, run))
        arrival = np.cumsum(draw.exponential(service, 4000)).astype("int64")
        tasks = table(arrival, draw.exponential(service, 4000).astype("int64"))
        row, = load.run_case(load.at_load(tasks, rho), {"FCFS": "FCFS"}, MODEL, DEVICE, "dedicated")
        waiting.append(row["mean_waiting_time"])
    _, low, high = stats.mean(np.array(waiting))
    assert low <= rho / (1 - rho) <= high
    assert high - low < 0.1 * rho / (1 - rho)


@pytest.mark.parametrize("seed", range(20))
def test_a_list_at_a_load_keeps_all_but_the_times_between_arrivals(seed):
    draw = np.random.default_rng(seed)
    arrival = draw.integers(0, draw.choice([10, 10 ** 9]), 30)
    arrival[0] += 1
    tasks = table(arrival, draw.integers(1, 10 ** 8, 30), draw.integers(0, 10 ** 8, 30), draw.integers(0, 10 ** 9, 30))
    for share in LOADS:
        moved = load.at_load(tasks, share)
        span = np.ptp(moved["arrival_time"])
        assert tasks["computation_time"].sum() / span == pytest.approx(share, rel=1e-6)
        assert moved["arrival_time"].min() == arrival.min()
        assert (moved["deadline"] - moved["arrival_time"]).equals(tasks["deadline"] - tasks["arrival_time"])
        since = (moved["arrival_time"] - arrival.min()) / span
        assert since.to_numpy() == pytest.approx((arrival - arrival.min()) / np.ptp(arrival), abs=1e-6)
        others = ["label", "computation_time", "trans_time"]
        assert moved[others].equals(tasks[others])


def test_the_curves_are_those_of_the_lists(drawn):
    """Each list at two of the loads, served by hand."""
    runs = pd.read_csv(drawn[0] / "load_runs.csv")
    assert len(runs) == 2 * 12 * 5
    for run in 0, 1:
        tasks = load.random_list(7, run, MODEL, DEVICE)
        assert len(tasks) == 300
        for share in 0.3, 1.4:
            moved = load.at_load(tasks, share)
            for name in WHO:
                policy = __import__({"EDF (reference)": "reproduce.EDF"}.get(name, name), fromlist=["schedule"])
                result, _ = common.simulate(moved, policy.schedule(moved), "shared")
                own = runs[(runs["run"] == run) & (runs["load"] == share) & (runs["algorithm"] == name)].iloc[0]
                assert own["deadlines_met_percent"] == pytest.approx(100 * result["deadline_met"].mean())
                late = np.percentile(result["turnaround_time"], 95) / 1e6
                assert own["p95_turnaround_time"] == pytest.approx(late, abs=1e-5)


def test_the_table_follows_from_the_runs(drawn):
    runs, found = (pd.read_csv(drawn[0] / f"load_{what}.csv") for what in ("runs", "table"))
    assert len(found) == 12 * 2 * 5
    for row in found.to_dict("records"):
        own = runs[(runs["load"] == row["load"]) & (runs["algorithm"] == row["algorithm"])][row["metric"]]
        assert [row["mean"], row["low"], row["high"]] == pytest.approx(stats.mean(own.to_numpy()), abs=1e-5)
    rows = [line.split() for line in drawn[1].splitlines() if line[:2] in ("0.", "1.")]
    assert [float(row[0]) for row in rows] == LOADS * 2
    first = found[(found["metric"] == "deadlines_met_percent") & (found["algorithm"] == "ADSA")]
    assert [float(row[1]) for row in rows[:12]] == pytest.approx(first["mean"].tolist(), abs=0.051)


def test_fewer_deadlines_are_met_and_tasks_take_longer_at_a_higher_load(drawn):
    found = pd.read_csv(drawn[0] / "load_table.csv").set_index(["metric", "load", "algorithm"])["mean"]
    for name in WHO:
        assert found["deadlines_met_percent", 0.3, name] > found["deadlines_met_percent", 1.4, name]
        assert found["p95_turnaround_time", 0.3, name] < found["p95_turnaround_time", 1.4, name]


def test_an_earlier_run_gives_the_same(drawn, tmp_path):
    status, out, err = run_here(SCRIPT, "--from", drawn[0], "--out", tmp_path / "again")
    assert (status, err) == (0, "")
    assert out.split("\nwritten")[0] == drawn[1].split("\nwritten")[0]
    assert files(tmp_path / "again") == files(drawn[0])
    for name in files(drawn[0]):
        if name.endswith((".csv", ".tex")):
            assert pathlib.Path(tmp_path, "again", name).read_bytes() == (drawn[0] / name).read_bytes()


LAST = """import common


def schedule(tasks):
    end, runs = 0, []
    for k in range(len(tasks))[::-1]:
        start = max(end, tasks["arrival_time"][k])
        end = start + tasks["computation_time"][k]
        runs.append((k, start, end))
    return common.interval_table(tasks, runs)
"""


def test_a_list_of_ones_own_and_a_policy_of_ones_own(run):
    own = pd.DataFrame({"label": list("abcd"), "prompt": "", "arrival_time": [0, 1, 2, 8], "output_words": 0,
                        "trans_time": [1, 2, 1, 1], "deadline": [9, 9, 9, 19], "computation_time": [4, 3, 1, 2]})
    own.to_csv("mine.csv", index=False)
    pathlib.Path("Last.py").write_text(LAST)
    status, out, err = run(str(SCRIPT), "--tasks", "mine.csv", "--also", "Last.py", "--link", "dedicated", "--no-plot")
    assert (status, err) == (0, "")
    assert "mine.csv: 4 tasks, at each load once" in out
    runs = pd.read_csv("results/load_runs.csv")
    assert runs["algorithm"].unique().tolist() == [*WHO, "Last"]
    last = runs[(runs["algorithm"] == "Last") & (runs["load"] == 0.5)].iloc[0]  # arrivals at 0, 2.5, 5 and 20 s
    assert last["T_end"] == 31
    assert last["deadlines_met_percent"] == 25


AT_ONCE = "label,prompt,arrival_time,output_words,trans_time,deadline\nT0,,1,1,1,9\nT1,,1,1,1,9\n"
IDLE = "label,prompt,arrival_time,output_words,trans_time,deadline,computation_time\nT0,,1,1,1,9,0\nT1,,2,1,1,9,0\n"


@pytest.mark.parametrize("arguments, message", [
    (["--tasks", "one.csv", "--runs", 3], "--runs and --seed: have no effect with --tasks"),
    (["--tasks", "one.csv", "--seed", 3], "--runs and --seed: have no effect with --tasks"),
    (["--tasks", "one.csv"], "one.csv: all tasks arrive at once, at any load"),
    (["--tasks", "idle.csv"], "idle.csv: no task takes any computation"),
    (["--from", "nowhere"], "--from nowhere: no load_runs.csv"),
    (["--link", "both"], "unknown link 'both'"), (["--runs", 0], "--runs: 0")])
def test_what_has_no_effect_or_no_meaning_is_refused(arguments, message, run):
    pathlib.Path("one.csv").write_text(AT_ONCE)
    pathlib.Path("idle.csv").write_text(IDLE)
    refused(run(str(SCRIPT), *arguments), message)
