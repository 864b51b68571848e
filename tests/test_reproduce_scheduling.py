"""reproduce/scheduling.py: EDF, its random lists, its distances from the optimum, its tables and the list's figures."""
import collections
import itertools
import math
import re

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, cases, figure_of, files, runs_of, task_table
from hypothesis import given

import ADSA
import common
import optimal
import SRTF
from reproduce import EDF, scheduling, study

MODEL, DEVICE = common.get_model("GPT-Neo 1.3B"), common.get_device("T4")
EXACT = {"optimal (makespan)": "T_end", "optimal (turnaround)": "mean_turnaround_time"}
WHO = [*study.POLICIES, *EXACT]
DISTANCES = ["deadlines_behind", "T_end_above", "mean_turnaround_time_above"]


@pytest.fixture(scope="module")
def stored():
    """The stored runs: of the list, and of random lists."""
    return study.read_runs(ROOT / "reproduce" / "figures", "scheduling_runs.csv")


@pytest.fixture(scope="module")
def lists():
    """The stored intervals of the list."""
    return study.read_runs(ROOT / "reproduce" / "figures", "scheduling_list_runs.csv")


# EDF ------------------------------------------------------------------------------------------------------------------
@given(cases(most=7))
def test_edf_is_that_of_a_plain_clock(case):
    """Of the tasks that have arrived the one runs that is due first, its transmission included."""
    tasks = task_table(case)
    found = EDF.schedule(tasks)
    common.check_schedule(tasks, found)
    plain = naive.edf([(arrival, length, trans, due - trans) for arrival, length, trans, due in case])
    assert [run for run in runs_of(found) if run[1] < run[2]] == [run for run in plain if run[1] < run[2]]


# Random lists ---------------------------------------------------------------------------------------------------------
def test_a_model_of_short_context_runs_none_capped(capsys):
    small = common.Model("small", layers=2, hidden=16, feed_forward=64, heads=2, context=512)
    table = scheduling.random_tasks("strict", 0, 0, small, DEVICE)
    assert capsys.readouterr().err == ""
    assert (table["prompt_tokens"] + table["output_tokens"] <= 512).all()
    assert table["output_tokens"].max() > 150


# The optimum ----------------------------------------------------------------------------------------------------------
def test_no_method_beats_the_proven_optimum_and_distances_are_from_it(stored, lists):
    runs = stored[stored["algorithm"] != scheduling.FREE]
    compared = 0
    equal = collections.Counter()
    for _, of_list in runs.groupby(["regime", "run"]):
        of_list = of_list.set_index("algorithm")
        for exact, metric in EXACT.items():
            best = of_list.loc[exact]
            assert best["proven_optimal"] is True
            assert best["lower_bound"] == pytest.approx(best[metric], abs=2e-6)
            for name, row in of_list.iterrows():
                behind = best["deadlines_met"] - row["deadlines_met"]
                assert row["deadlines_behind"] == behind >= 0
                above = row[f"{metric}_above"]
                expected = math.nan if behind else 100 * (row[metric] - best[metric]) / best[metric]
                assert above == pytest.approx(expected, abs=1e-4, nan_ok=True)
                assert math.isnan(above) or above >= 0
                compared += not behind
                equal[row["regime"], name] += metric == "T_end" and not behind and row[metric] == best[metric]
    assert compared > 500
    shown, = (part[2].set_index("regime") for part in scheduling.report(stored, lists)[0] if part[0] == "T_end")
    for regime, name in itertools.product(scheduling.REGIMES, study.POLICIES):
        above = runs[(runs["regime"] == regime) & (runs["algorithm"] == name)]["T_end_above"]
        assert shown.loc[regime, name] == f"{equal[regime, name]} of {above.notna().sum()}"
    least = runs[runs["algorithm"] == "SRTF"].set_index(["regime", "run"])["mean_waiting_time"]
    waiting = runs.set_index(["regime", "run"])["mean_waiting_time"]
    assert (waiting >= least.reindex(waiting.index) - 2e-6).all()  # nobody's is less (Schrage 1968)


def test_what_is_not_proven_is_no_measure(monkeypatch):
    """Distances from what is not proven are left out, and the count says so."""
    def unproven(tasks, *_):
        intervals = SRTF.schedule(tasks)
        intervals.attrs.update(metrics={"proven_optimal": False, "lower_bound": 0.0}, summary=["best found"])
        return intervals

    monkeypatch.setattr(optimal, "schedule", unproven)
    of_list, drawn = (scheduling.run_case(regime, 0, 0, tasks, study.POLICIES, MODEL, DEVICE, "shared")
                      for regime, tasks in (("list", common.read_tasks(ADSA.tasks, MODEL, [DEVICE])),
                                            ("overload", scheduling.random_tasks("overload", 0, 0, MODEL, DEVICE))))
    assert drawn[1] == []  # no intervals
    runs = pd.DataFrame(of_list[0] + drawn[0])
    assert runs[DISTANCES].isna().all(axis=None)
    parts, _, _ = scheduling.report(runs, pd.DataFrame(of_list[1]))
    shown, = (part[2].set_index("metric") for part in parts if part[0] == "overload_means")
    assert "T_end_above (%)" not in shown.index and "T_end (s)" in shown.index
    assert "the list, optimal (makespan): best found\nrandom lists, optimal (makespan): proven on 0 of 1\n" in parts[-1]


# Runs, tables, claims -------------------------------------------------------------------------------------------------
def test_a_random_list_is_that_of_the_stored_runs(stored):
    tasks = scheduling.random_tasks("strict", 0, 0, MODEL, DEVICE)
    row = stored.query("regime == 'strict' and run == 0 and algorithm == 'ADSA'").iloc[0]
    result, _ = common.simulate(tasks, ADSA.schedule(tasks), "shared")
    metrics = common.scheduling_metrics(tasks, result, MODEL, DEVICE)
    assert row[list(scheduling.SHOWN)].tolist() == [metrics[key] for key in scheduling.SHOWN]


# The list's figures ---------------------------------------------------------------------------------------------------
def test_a_long_list_is_one_overview_and_no_random_lists(run):
    k = np.arange(70)
    pd.DataFrame({"label": k, "prompt": "", "arrival_time": k * 8 % 97, "output_words": 0, "trans_time": 3 + k * 5 % 11,
                  "deadline": k * 8 % 97 + 60, "computation_time": 3 + k * 7 % 12}).to_csv("tasks.csv", index=False)
    status, out, err = run("reproduce/scheduling", "--tasks", "tasks.csv")
    assert (status, err) == (0, "")
    assert "The list: 70 tasks" in out
    assert "the list, optimal (turnaround): best found, gap " in out and "limited to 60 tasks" in out
    assert not re.search(r"T_end_above|deadlines_behind|optimal \(\w+\)(?!:)", out)  # no columns, no rows of n/a
    assert "strict" not in out
    assert [name for name in files("results") if not name.endswith(".tex")] == [
        f"scheduling_{end}" for end in ("list_runs.csv", "overview.png", "runs.csv", "table.csv")]
    assert pd.read_csv("results/scheduling_runs.csv")[DISTANCES].isna().all(axis=None)


def test_an_overview_shows_the_distributions_and_who_is_there():
    tasks = pd.DataFrame({"label": [f"T{k}" for k in range(40)], "arrival_time": np.arange(40.0) * 3,
                          "waiting_time": np.arange(40.0), "turnaround_time": np.arange(40.0) + 5})
    tasks["completion_time"] = tasks["arrival_time"] + 5
    twice = tasks.assign(waiting_time=2 * tasks["waiting_time"])
    figure = figure_of(scheduling.draw_overview, {"X": tasks, "Y": twice})
    of_waiting, _, of_system = figure.axes
    for line, table in zip(of_waiting.lines, (tasks, twice)):
        for value in table["waiting_time"]:
            share = line.get_ydata()[np.searchsorted(line.get_xdata(), value, side="right") - 1]
            assert share == pytest.approx((table["waiting_time"] <= value).mean(), abs=1 / 20)
    times, present = of_system.lines[0].get_data()
    half = (times[1] - times[0]) / 2
    for k in (0, 1, 33, len(times) - 1):  # the mean over a slice of time
        both = tasks["completion_time"].clip(upper=times[k] + half) - tasks["arrival_time"].clip(lower=times[k] - half)
        assert present[k] == pytest.approx(both.clip(lower=0).sum() / (2 * half))
    for axes in figure.axes:  # equal lines are all seen
        assert axes.lines[0].get_linewidth() > axes.lines[1].get_linewidth()


@pytest.mark.parametrize("copies, pages", [(1, 1), (3, 3)])
def test_the_charts_of_a_list_have_one_scale_and_are_no_taller_than_a_page(copies, pages, lists):
    intervals = pd.concat([lists.assign(label=f"{k}: " + lists["label"]) for k in range(copies)])
    figures = [figure_of(*drawing) for drawing in scheduling.list_figures(intervals).values()]
    assert len(figures) == pages
    assert max(figure.get_figheight() for figure in figures) <= 9
    charts = [axes for figure in figures for axes in figure.axes]
    assert [axes.get_title().split(":")[0] for axes in charts] == WHO
    assert len({axes.get_xlim() for axes in charts}) == 1
    for axes in charts:  # deadlines are drawn where they are, but for one beyond the scale
        marks = [due for line in axes.lines if line.get_marker() in ("|", "x") for due in line.get_xdata()]
        assert sorted(marks) == sorted([20, 35, 45, 55] * copies)
        later, = (line for line in axes.lines if line.get_marker() == ">")
        assert set(later.get_xdata()) == {axes.get_xlim()[1]}
