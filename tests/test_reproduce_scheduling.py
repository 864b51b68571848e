"""reproduce/scheduling.py: its random lists, its distances from the optimum, its tables, figures and settings."""
import itertools
import math
import os
import pathlib
import re
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, metrics, refused, run_here, thorough
from hypothesis import given
from hypothesis import strategies as st
from test_reproduce_parallel import SIGNALS, linux, stop
from test_reproduce_tables import but_latex, check_latex, check_texts, drawn

import ADSA
import common
import optimal
import reproduce.EDF
import SRTF
from reproduce import claims, scheduling, stats, tables

MODEL, DEVICE = common.get_model("GPT-Neo 1.3B"), common.get_device("T4")
REGIMES = ["loose", "strict", "overload"]
FOUR = {name: name for name in ("ADSA", "FCFS", "SRTF", "LLF")}
REFERENCE, FREE = "EDF (reference)", "ADSA (uplink free)"
METHODS = {**FOUR, REFERENCE: "reproduce.EDF"}
WHO = [*METHODS, "optimal (makespan)", "optimal (turnaround)"]
FIGURES = str(ROOT / "reproduce" / "figures")
FILES = [f"scheduling{end}" for end in ("_claims.csv", "_list.csv", "_list_runs.csv", "_runs.csv", "_table.csv")]
PNG = ["scheduling.png", "scheduling_gantt.png"]
ALL = sorted(FILES + PNG)
MEASURED = ("mean_waiting_time mean_response_time mean_uplink_waiting_time mean_turnaround_time p95_turnaround_time "
            "deadlines_met T_end preemptions peak_memory_gb").split()
DISTANCES = ["deadlines_behind", "T_end_above", "mean_turnaround_time_above"]
EXACT = {"optimal (makespan)": "T_end", "optimal (turnaround)": "mean_turnaround_time"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Folder and standard output of one comparison of two runs."""
    folder = tmp_path_factory.mktemp("compared")
    status, out, err = run_here(ROOT / "reproduce" / "scheduling.py", "--runs", "2", "--seed", "7", "--out", folder)
    assert (status, err) == (0, "")
    return folder, out


def read(compared, name):
    return pd.read_csv(compared[0] / f"scheduling_{name}.csv")


def of_random_lists(runs):
    """Of the runs those of random lists, and of methods that the tables compare."""
    return runs[(runs["regime"] != "list") & (runs["algorithm"] != FREE)]


def table_of(out, caption):
    """Lines of the rows of a printed table, by their first words."""
    lines = out.split(f"\n{caption}")[1].split("\n\n")[0].splitlines()[1:]
    cells = [re.split("  +", line.strip()) for line in lines]
    return {row[0]: row[1:] for row in cells}


# Statistics -----------------------------------------------------------------------------------------------------------


def test_means_intervals_and_changes_follow_from_the_runs(compared):
    runs, table = of_random_lists(read(compared, "runs")), read(compared, "table")
    assert len(read(compared, "runs")) == (3 * 2 + 1) * 8
    assert len(runs) == 3 * 2 * 7
    assert len(table) == 3 * 12 * 7
    for row in table.to_dict("records"):
        def values(name, regime=row["regime"], metric=row["metric"]):
            return runs[(runs["regime"] == regime) & (runs["algorithm"] == name)].set_index("run")[metric].dropna()
        mine, first = values(row["algorithm"]), values("ADSA")
        assert row["runs"] == len(mine)
        if len(mine):
            found = stats.mean(mine.to_numpy())
            assert found[0] == pytest.approx(sum(mine) / len(mine))
            assert [row["mean"], row["low"], row["high"]] == pytest.approx(found, abs=1e-6, nan_ok=True)
        found = [row["change"], row["change_low"], row["change_high"]]
        if row["metric"] in DISTANCES or row["algorithm"] == "ADSA" or row["mean"] == 0:
            assert np.isnan(found).all()
        else:
            assert found == pytest.approx(stats.change(first.to_numpy(), mine.to_numpy()), abs=1e-6)
            assert found[0] == pytest.approx(100 * (first.mean() - mine.mean()) / mine.mean(), abs=1e-6)


def test_the_claims_follow_from_the_runs(compared):
    runs, claims = read(compared, "runs"), read(compared, "claims")
    runs = runs[runs["regime"] == "strict"]
    runs = runs.assign(both=runs["mean_waiting_time"] + runs["mean_uplink_waiting_time"])
    means = runs.groupby("algorithm")[["mean_response_time", "mean_waiting_time", "both",
                                        "mean_turnaround_time"]].mean()
    assert (claims["paper"] == "-39.0 %").all()
    for row, (metric, first, others) in zip(claims.to_dict("records"), [
            ("mean_response_time", "ADSA", ["FCFS"]), ("mean_response_time", "ADSA", ["FCFS", "SRTF", "LLF"]),
            ("mean_waiting_time", "ADSA", ["FCFS", "SRTF", "LLF"]), ("both", "ADSA", ["FCFS", "SRTF", "LLF"]),
            ("both", FREE, ["FCFS", "SRTF", "LLF"]), ("mean_turnaround_time", "ADSA", ["FCFS", "SRTF", "LLF"])]):
        changes = {f"strict, {name}": 100 * (means[metric][first] / means[metric][name] - 1) for name in others}
        assert row["ours"] == pytest.approx(sum(changes.values()) / len(changes), abs=1e-5)
        assert row["best"] == pytest.approx(min(changes.values()), abs=1e-5)
        assert changes[row["best_in"]] == min(changes.values())
    assert len(claims) == 6


def test_the_uplink_free_changes_nothing_but_the_uplink(compared):
    runs = read(compared, "runs").set_index("algorithm")
    free, shared = runs.loc[FREE], runs.loc["ADSA"]
    assert (free["mean_uplink_waiting_time"] == 0).all()
    assert (shared["mean_uplink_waiting_time"] > 0).any()
    for key in ("mean_waiting_time", "mean_response_time", "preemptions"):
        assert free[key].tolist() == shared[key].tolist()


def test_who_beats_adsa_is_who_is_better_for_sure(compared):
    table = read(compared, "table")
    rows = scheduling.beaten(table, list(METHODS)).set_index("regime")
    assert rows.index.tolist() == REGIMES
    metrics_shown = [*MEASURED[:4], "deadlines_met"]
    for regime, metric, name in itertools.product(REGIMES, metrics_shown, ["FCFS", "SRTF", "LLF", REFERENCE]):
        line = table[(table["regime"] == regime) & (table["metric"] == metric) & (table["algorithm"] == name)].iloc[0]
        worse = line["change_high"] < 0 if metric == "deadlines_met" else line["change_low"] > 0
        assert (name.split()[0] in rows.loc[regime, metric].split(", ")) == worse


def test_the_stored_runs_are_those_of_the_command():
    stored, of_list = scheduling.read(FIGURES)
    cases = [("strict", 0, 0), ("overload", 0, 1)]
    rows = [dict(zip(("regime", "seed", "run"), case), model=MODEL.name, device="T4", link="shared", **metrics)
            for case in cases for metrics in scheduling.run_case(
                scheduling.random_tasks(*case, MODEL, DEVICE), METHODS, MODEL, DEVICE, "shared")[0]]
    fresh = tables.as_written(pd.DataFrame(rows))
    same = pd.concat([stored[(stored["regime"] == regime) & (stored["run"] == run)] for regime, _, run in cases])
    assert fresh.to_csv() == same.reset_index(drop=True).to_csv()
    tasks = common.read_tasks(ADSA.tasks, MODEL, [DEVICE])
    details = scheduling.run_case(tasks, METHODS, MODEL, DEVICE, "shared")[1]
    assert details.to_csv(index=False) == of_list.to_csv(index=False)


def test_a_run_and_its_runs_give_the_same(compared, run):
    folder, out = compared
    again = run("reproduce/scheduling", "--from", folder, "--out", "again")
    assert again == (0, out.replace(f"{folder}/", "again/"), "")
    for name in ALL:
        assert pathlib.Path("again", name).read_bytes() == (folder / name).read_bytes()
    refused(run("reproduce/scheduling", "--from", folder, "--link", "dedicated"), "--link: has no effect with --from")


# EDF ------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9), st.integers(0, 5), st.integers(0, 30)), min_size=1,
                max_size=7))
def test_edf_is_that_of_a_plain_clock(rows):
    """Unit by unit: of the tasks that have arrived the one runs that is due first, ties to the earlier arrival."""
    a, p, q, d = (np.array(column) * common.US for column in zip(*rows))
    tasks = pd.DataFrame({"label": [f"T{k}" for k in range(len(rows))], "arrival_time": a, "computation_time": p,
                          "trans_time": q, "deadline": a + d})
    left, end, now = p // common.US, a.copy(), 0
    while left.any():
        ready = [k for k in range(len(rows)) if a[k] <= now * common.US and left[k]]
        if ready:
            k = min(ready, key=lambda k: (tasks["deadline"][k] - q[k], a[k], k))
            left[k] -= 1
            end[k] = (now + 1) * common.US
        now += 1
    found = reproduce.EDF.schedule(tasks)
    ends = found.groupby("label")["end"].max()
    assert [ends[f"T{k}"] for k in range(len(rows)) if p[k]] == [end[k] for k in range(len(rows)) if p[k]]
    common.check_schedule(tasks, found)


# The random lists -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("run", range(4))
def test_loads_and_deadlines_are_as_told(regime, run):
    load, (low, high) = {"loose": (0.6, (4, 8)), "strict": (0.9, (1.5, 3)), "overload": (1.3, (1.5, 3))}[regime]
    table = scheduling.random_tasks(regime, 5, run, MODEL, DEVICE)
    span = table["arrival_time"].max() - table["arrival_time"].min()
    assert table["computation_time"].sum() / span == pytest.approx(load, rel=1e-6)
    factor = (table["deadline"] - table["arrival_time"]) / (table["computation_time"] + table["trans_time"])
    assert factor.between(low - 1e-6, high + 1e-6).all()
    assert factor.max() - factor.min() > 0.4 * (high - low)  # the range is used
    assert len(table) == 12
    assert table["arrival_time"].min() == 0
    assert table["arrival_time"].is_monotonic_increasing
    assert table["trans_time"].between(0.5e6, 5e6).all()
    words = table["output_tokens"] / common.TOKENS_PER_WORD
    assert words.between(39.9, 1201).all()
    for row in table.to_dict("records"):  # the model's estimate, nothing else
        seconds = 24 * common.layer_time(MODEL, DEVICE, row["prompt_tokens"], row["output_tokens"])
        assert row["computation_time"] == pytest.approx(seconds * 1e6, abs=1)
        assert row["kv_bytes"] == (row["prompt_tokens"] + row["output_tokens"]) * 24 * 2 * 2048 * 2


def test_the_tasks_of_a_run_are_those_of_all_regimes_and_of_no_other_run():
    same = ["label", "prompt", "computation_time", "trans_time", "kv_bytes"]
    drawn = {(regime, seed, run): scheduling.random_tasks(regime, seed, run, MODEL, DEVICE)[same]
             for regime in REGIMES for seed in (0, 1) for run in (0, 1)}
    for (one, a), (other, b) in itertools.combinations(drawn.items(), 2):
        assert a.equals(b) == (one[1:] == other[1:])
    assert scheduling.random_tasks("loose", 1, 0, MODEL, DEVICE)[same].equals(drawn["loose", 1, 0])


def test_a_model_of_short_context_runs_none_capped(capsys):
    small = common.Model("small", layers=2, hidden=16, feed_forward=64, heads=2, context=512)
    table = scheduling.random_tasks("strict", 0, 0, small, DEVICE)
    assert capsys.readouterr().err == ""
    assert (table["prompt_tokens"] + table["output_tokens"] <= 512).all()
    assert table["output_tokens"].max() > 150


# The optimum ----------------------------------------------------------------------------------------------------------


def test_no_method_beats_the_proven_optimum_and_distances_are_from_it(compared):
    runs = of_random_lists(read(compared, "runs"))
    lists = list(runs.groupby(["regime", "run"]))
    assert len(lists) == 6
    compared_lists = 0
    for _, of_list in lists:
        of_list = of_list.set_index("algorithm")
        assert of_list["seed"].unique().tolist() == [7]
        for exact, metric in EXACT.items():
            best = of_list.loc[exact]
            assert str(best["proven_optimal"]) == "True"
            assert best["lower_bound"] == pytest.approx(best[metric], abs=2e-6)
            for name, row in of_list.iterrows():
                assert row["deadlines_met"] <= best["deadlines_met"]
                assert row["deadlines_behind"] == best["deadlines_met"] - row["deadlines_met"]
                above = row[f"{metric}_above"]
                if row["deadlines_met"] < best["deadlines_met"]:
                    assert math.isnan(above)
                else:
                    assert above >= 0
                    assert above == pytest.approx(100 * (row[metric] - best[metric]) / best[metric], abs=1e-4)
                    compared_lists += name not in EXACT
    assert compared_lists > 12
    behind = runs[~runs["algorithm"].isin(EXACT)]["deadlines_behind"]
    assert (behind > 0).any()
    assert (behind == 0).any()


def test_no_schedule_waits_less_than_srtf(compared):
    """What the closing sentence says of every list."""
    runs = read(compared, "runs").set_index(["regime", "run"])
    least = runs[runs["algorithm"] == "SRTF"]["mean_waiting_time"]
    assert (runs["mean_waiting_time"] >= least.reindex(runs.index) - 2e-6).all()


def test_what_is_not_proven_is_no_measure(monkeypatch):
    """Distances from what is not proven are left out, and the count says so."""
    def unproven(tasks, *_):
        intervals = SRTF.schedule(tasks)
        intervals.attrs["metrics"] = {"proven_optimal": False, "lower_bound": 0.0}
        return intervals

    monkeypatch.setattr(optimal, "schedule", unproven)
    tasks = scheduling.random_tasks("overload", 0, 0, MODEL, DEVICE)
    runs = pd.DataFrame(scheduling.run_case(tasks, METHODS, MODEL, DEVICE, "shared")[0]).assign(run=0)
    runs = runs[runs["algorithm"] != FREE]
    assert not runs["proven_optimal"].dropna().any()
    assert runs[DISTANCES].isna().all(axis=None)
    table = scheduling.compare(runs, ["tasks"], WHO, scheduling.UNITS)
    shown = scheduling.readable("caption: more", table, runs, WHO, scheduling.UNITS)[0][1].set_index("metric")
    assert shown.loc["proven optimal (lists)", list(EXACT)].tolist() == ["0", "0"]
    assert set(shown.loc["T_end_above (%)"]) == {"n/a"}


@pytest.mark.parametrize("link", ["shared", pytest.param("dedicated", marks=thorough)])
def test_the_list_is_measured_as_the_scripts_measure_it(link, run):
    assert run("reproduce/scheduling", "--runs", "1", "--link", link, "--no-plot")[0] == 0
    table = pd.read_csv("results/scheduling_list.csv").set_index("algorithm")
    for name in FOUR:
        run(name, "--link", link, "--no-plot")
        assert table.loc[name, MEASURED].tolist() == metrics(name)[MEASURED].tolist()
    for name in EXACT:
        run("optimal", "--objective", name[9:-1], "--link", link, "--no-plot")
        known = ["deadlines_met", EXACT[name], "lower_bound", "proven_optimal"]
        assert table.loc[name, known].astype(str).tolist() == metrics("optimal")[known].astype(str).tolist()
    changes = 100 * (table["mean_waiting_time"]["ADSA"] / table["mean_waiting_time"][WHO[1:]] - 1)
    assert table["change_mean_waiting_time"][WHO[1:]].tolist() == pytest.approx(changes.tolist(), abs=1e-3)


# Output ---------------------------------------------------------------------------------------------------------------


def test_the_files_and_the_printed_tables(compared):
    folder, out = compared
    assert but_latex(folder) == ALL
    for name in PNG:
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for regime, load, factor in (("loose", 0.6, "4..8"), ("strict", 0.9, "1.5..3"), ("overload", 1.3, "1.5..3")):
        assert (f"\n{regime}: load {load} (computation / span of arrivals), deadline = arrival + {factor} x "
                "(computation + transmission), 2 lists\n") in out
    assert "optimal (makespan): optimal: 0 of 5 deadlines missed, then makespan" in out
    assert "GPT-Neo 1.3B on T4, shared uplink" in out
    assert max(map(len, out.split("\nThe paper's claim")[0].splitlines())) <= 145
    table = read(compared, "table").set_index(["regime", "metric", "algorithm"])
    for regime in REGIMES:
        means, changes = table_of(out, f"{regime}: "), table_of(out, f"{regime}, ADSA's change")
        for metric, unit in (("mean_waiting_time", " (s)"), ("T_end", " (s)"), ("preemptions", "")):
            found = [table.loc[regime, metric, name] for name in WHO]
            cells = [float(cell.split(" \u00b1 ")[0]) for cell in means[metric + unit]]
            assert cells == pytest.approx([row["mean"] for row in found], rel=1e-3)
            assert len(changes[metric]) == 4
            for cell, row in zip(changes[metric], found[1:]):
                if cell != "n/a":
                    numbers = list(map(float, re.findall(r"[-+]?(?:\d+\.\d|inf)", cell)))
                    assert numbers == pytest.approx([*row[["change", "change_low", "change_high"]]], abs=0.051)
                    assert (cell[0] == "~") == (row["change_low"] <= 0 <= row["change_high"])
        assert means["proven optimal (lists)"] == ["2", "2"]
    assert table_of(out, "The list: 5 tasks")["proven optimal (lists)"] == ["1", "1"]


def test_the_latex_tables_are_whole(compared):
    check_latex(compared[0], "scheduling", 10)


@thorough
def test_the_same_bytes_whatever_the_number_of_processes_and_one_run(run, monkeypatch):
    told = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        status, out, err = run("reproduce/scheduling", "--runs", "1", "--seed", "3", "--out", str(cores))
        assert (status, err) == (0, "")
        told.append(out.split("\nwritten")[0])
    assert told[0] == told[1]
    assert files("1") == files("2")
    for name in files("1"):
        assert pathlib.Path("1", name).read_bytes() == pathlib.Path("2", name).read_bytes()
    assert pd.read_csv("1/scheduling_table.csv")[["low", "high", "change_low", "change_high"]].isna().all(axis=None)
    cells = re.findall(r"\u00b1 (\S+)", told[0].split("\nloose: ")[1])
    assert len(cells) > 100
    assert set(cells) == {"n/a"}
    assert "nan" not in told[0]
    run("reproduce/scheduling", "--runs", "1", "--seed", "4", "--no-plot", "--out", "other")
    assert but_latex("other") == FILES
    assert pathlib.Path("other/scheduling_runs.csv").read_text() != pathlib.Path("1/scheduling_runs.csv").read_text()


def test_a_long_list_is_one_overview_and_no_random_lists(run):
    rows = [(f"T{k}", "", k * 8 % 97, 0, 3 + k * 5 % 11, k * 8 % 97 + 60, 3 + k * 7 % 12) for k in range(70)]
    pd.DataFrame(rows, columns=["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline",
                                "computation_time"]).to_csv("tasks.csv", index=False)
    status, out, err = run("reproduce/scheduling", "--tasks", "tasks.csv")
    assert (status, err) == (0, "")
    assert "The list: 70 tasks" in out
    assert re.search(r"optimal \(turnaround\): best found, gap .* of 70 deadlines missed \(at least \d+\)", out)
    assert "strict" not in out
    assert but_latex("results") == [
        "scheduling_list.csv", "scheduling_list_runs.csv", "scheduling_overview.png", "scheduling_runs.csv"]
    table = pd.read_csv("results/scheduling_list.csv").set_index("algorithm")
    assert table[DISTANCES].isna().all(axis=None)
    run("SRTF", "--tasks", "tasks.csv", "--no-plot")
    assert table.loc["SRTF", "p99_waiting_time"] == metrics("SRTF")["p99_waiting_time"]
    again = run("reproduce/scheduling", "--from", "results", "--out", "again")
    assert again == (0, out.replace("results/", "again/"), "")
    for name in files("again"):
        assert pathlib.Path("again", name).read_bytes() == pathlib.Path("results", name).read_bytes()


def test_an_overview_shows_the_distributions_and_who_is_there():
    tasks = pd.DataFrame({
        "label": [f"T{k}" for k in range(40)], "arrival_time": np.arange(40.0) * 3, "waiting_time": np.arange(40.0),
        "turnaround_time": np.arange(40.0) + 5}).assign(completion_time=lambda table: table["arrival_time"] + 5)
    figure = drawn(scheduling.draw_overview, {"X": tasks, "Y": tasks.assign(waiting_time=tasks["waiting_time"] * 2)})
    for line, factor in zip(figure.axes[0].lines, (1, 2)):
        at, share = line.get_xdata(), line.get_ydata()
        for value, part in ((0, 0), (39 * factor, 1)):
            assert share[at.tolist().index(value)] == part or share[-1] == 1
        assert (at[0], at[-1]) == (0, 39 * factor)
    times = figure.axes[2].lines[0].get_xdata()
    present = figure.axes[2].lines[0].get_ydata()
    for when in (0.5, 4.0, 4.5, 60.2, 121.0):
        plain = ((tasks["arrival_time"] <= when) & (tasks["completion_time"] > when)).sum()
        assert present[np.searchsorted(times, when, side="right") - 1] == plain
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["X", "Y"]
    check_texts(figure, 20)


def test_charts_of_many_tasks_are_on_several_pages():
    tasks = common.read_tasks([dict(ADSA.tasks[k % 5], label=f"T{k}") for k in range(12)], MODEL, [DEVICE])
    figures = list_figures(tasks)
    assert len(figures) == 3
    titles = [axes.get_title().split(":")[0] for figure in figures for axes in figure.axes]
    assert titles == WHO
    for figure in figures:
        assert figure.get_figheight() <= 9
        check_texts(figure, 20)


EDF = '''"""Earliest deadline first, not preemptive."""
import common


def schedule(tasks):
    left = sorted(zip(*(tasks[key] for key in ("arrival_time", "deadline", "computation_time", "label"))))
    now, runs = 0, []
    while left:
        now = max(now, left[0][0])
        job = min((job for job in left if job[0] <= now), key=lambda job: job[1])
        left.remove(job)
        runs.append((tasks["label"].tolist().index(job[3]), now, now + job[2]))
        now += job[2]
    return common.interval_table(tasks, runs)
'''


@thorough
def test_a_script_of_the_users_is_compared_with_its_own_look(run, monkeypatch):
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/EDF.py").write_text(EDF)
    text = (ROOT / "FCFS.py").read_text()
    pathlib.Path("Copy.py").write_text(text)
    status, _, err = run("reproduce/scheduling", "--runs", "2", "--also", "mine/EDF.py", "--also", "Copy.py")
    assert (status, err) == (0, "")
    runs = pd.read_csv("results/scheduling_runs.csv").set_index("algorithm")
    assert runs.index.unique().tolist() == [*FOUR, REFERENCE, "EDF", "Copy", FREE, *EXACT]
    measured = ["regime", "run", *MEASURED, *DISTANCES]
    assert runs.loc["Copy", measured].reset_index(drop=True).equals(runs.loc["FCFS", measured].reset_index(drop=True))
    assert runs.loc["EDF", MEASURED].to_numpy().tolist() != runs.loc["FCFS", MEASURED].to_numpy().tolist()
    table = pd.read_csv("results/scheduling_table.csv")
    who = table["algorithm"].unique().tolist()
    figure = drawn(tables.draw_bars, scheduling.PANELS, "regime", who, table)
    looks = {(bars[0].get_facecolor(), bars[0].get_hatch()) for bars in figure.axes[0].containers[::2]}
    assert len(looks) == 9
    check_texts(figure, 30)


def test_a_wrong_schedule_of_the_users_is_named(run):
    pathlib.Path("Wrong.py").write_text("import FCFS\n\n\ndef schedule(tasks):\n    return FCFS.schedule(tasks)[:-1]\n")
    refused(run("reproduce/scheduling", "--runs", "1", "--also", "Wrong.py"), "Wrong: the schedule is wrong: ")


@pytest.mark.parametrize("flags, message", [
    (["--runs", "0"], "--runs: 0 is not positive"),
    (["--runs", "-1"], "--runs: -1 is not a number from 0 to 1e9"),
    (["--runs", "x"], "argument --runs: invalid int value: 'x'"),
    (["--seed", "-2"], "--seed: -2"),
    (["--also", "Mine.txt"], "--also Mine.txt: not a Python script (.py)"),
    (["--link", "loose"], "unknown link 'loose'"),
    (["--pool", "paper"], "unrecognized arguments: --pool paper"),
])
def test_wrong_arguments_are_one_line(flags, message, run):
    refused(run("reproduce/scheduling", *flags), message)


@thorough
def test_regimes_of_ones_own_and_nobody_waits(run, monkeypatch):
    monkeypatch.setattr(claims, "STRICT", "idle")
    for name, value in (("REGIMES", {"idle": (0.001, (50, 60))}), ("TASKS", 3), ("RUNS", 2)):
        monkeypatch.setattr(scheduling, name, value)
    monkeypatch.setattr("sys.argv", ["scheduling"])
    scheduling.main("scheduling")
    found = pd.read_csv("results/scheduling_claims.csv")
    assert found["ours"].isna().tolist() == [True] * 5 + [False]  # turnaround is more than waiting
    assert found["verdict"].tolist() == [claims.UNTESTED] * 5 + [claims.NOT]


# Figures and processes ------------------------------------------------------------------------------------------------


def list_figures(tasks):
    """The figures of a list, as they are written."""
    _, details = scheduling.run_case(tasks, METHODS, MODEL, DEVICE, "shared")
    figures = scheduling.list_figures(details)
    return [drawn(lambda figure=figure: figure) for figure in figures.values()]


def test_no_text_of_a_figure_is_cut_off_or_covers_another(compared, monkeypatch):
    figure = drawn(tables.draw_bars, scheduling.PANELS, "regime", WHO, read(compared, "table"))
    assert [metric for metric, _ in scheduling.PANELS] == [
        metric for metric in MEASURED if metric not in ("peak_memory_gb", "T_end", "p95_turnaround_time")]
    for axes, (_, label) in zip(figure.axes, scheduling.PANELS):
        assert axes.get_ylabel() == label
        assert re.search(r"\((s|count)\)$", label)
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == REGIMES
    check_texts(figure, 30)
    tasks = common.read_tasks(ADSA.tasks, MODEL, [DEVICE])
    figure, = list_figures(tasks)
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == WHO
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    for axes in figure.axes:  # deadlines are drawn where they are, but for one beyond the common scale
        marks = [(row, due) for line in axes.lines for due, row in zip(line.get_xdata(), line.get_ydata())
                 if line.get_marker() in ("|", "x")]
        assert sorted(marks) == [(1, 20), (2, 35), (3, 45), (4, 55)]
        later, = (line for line in axes.lines if line.get_marker() == ">")
        assert (list(later.get_xdata()), list(later.get_ydata())) == ([axes.get_xlim()[1]], [0])
    check_texts(figure, 30)


def test_a_far_deadline_is_marked_as_later():
    tasks = common.read_tasks([*ADSA.tasks, dict(ADSA.tasks[0], label="Far", deadline=5000)], MODEL, [DEVICE])
    figures = list_figures(tasks)
    assert len(figures) == 2
    for figure in figures:
        assert "deadline later" in [text.get_text() for text in figure.legends[0].get_texts()]
        for axes in figure.axes:
            assert {line.get_xdata()[-1] for line in axes.lines if line.get_marker() == ">"} == {axes.get_xlim()[1]}


def is_solver(process):
    try:
        return "cbc" in pathlib.Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return False


@linux
@pytest.mark.parametrize("kill, number", [SIGNALS[0], pytest.param(*SIGNALS[3], marks=thorough)])
def test_no_solver_is_left(kill, number, tmp_path):
    rows = [(f"T{k}", "", k * 8 % 97, 0, 3 + k * 5 % 11, k * 8 % 97 + 14 + 2 * (3 + k * 5 % 11), 3 + k * 7 % 12)
            for k in range(28)]  # CBC does not solve it in a minute
    pd.DataFrame(rows, columns=["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline",
                                "computation_time"]).to_csv(tmp_path / "tasks.csv", index=False)
    status, out, err = stop([sys.executable, str(ROOT / "reproduce/scheduling.py"), "--tasks", "tasks.csv"], tmp_path,
                            lambda started: any(map(is_solver, started)), kill, number)
    assert (status, out, err) in ((130, "", "reproduce.scheduling: interrupted\n"), (-number, "", ""))
    assert but_latex(tmp_path) == ["tasks.csv"]
    assert list((tmp_path / "tmp").iterdir()) == []
