"""reproduce/allocation.py: tables that follow from the runs, whatever the number of processes; claims, references."""
import functools
import os
import pathlib
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, quick, refused, run_here, thorough
from test_reproduce_tables import but_latex, check_latex, check_texts, drawn

import common
import FCIM
import PipeDream
from reproduce import allocation, claims, stats, tables

pytestmark = pytest.mark.usefixtures("little_search")

SIX = ["FCIM", "FCIM_links", "HexGen", "PipeDream", "PipeDream, prefix", "PipeEdge"]
NEO = common.get_model("GPT-Neo 1.3B")
FIGURES = str(ROOT / "reproduce" / "figures")
PRIORITIES = ["cost first", "time first", "devices first"]
SETTINGS = [("GPT-Neo 1.3B", "campus"), ("GPT-Neo 1.3B", "paper"), ("BLOOM-176B", "campus"), ("BLOOM-176B", "paper")]
FLAGS = ["--model", "GPT-Neo 1.3B", "--model", "bloom-176b", "--pool", "campus", "--pool", "paper"]
FEW = ["--model", "GPT-Neo 1.3B", "--pool", "paper", "--pool", "workstations"]  # to be quick
METRICS = ["completion_time", "completion_time_unseen", "mean_turnaround_time", "computation_time",
           "communication_time", "communication_overhead", "total_cost", "memory_utilization", "fairness_layers",
           "fairness_layers_all", "fairness_rewards", "fairness_rewards_all", "devices", "cost_efficiency",
           "deadlines_met", "utility"]
CSV = [f"allocation_{what}.csv" for what in ("claims", "failures", "priorities", "runs", "table")]


def read(name, folder="results"):
    return pd.read_csv(pathlib.Path(folder, f"allocation_{name}.csv"), keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def compared(tmp_path_factory, little_search):
    """Folder and output of a comparison of three draws of four settings."""
    folder = tmp_path_factory.mktemp("compare")
    status, out, err = run_here(ROOT / "reproduce" / "allocation.py", "--runs", "3", *FLAGS, "--out", folder)
    assert (status, err) == (0, "")
    return folder, out


def test_all_files_are_written_and_every_setting_is_there(compared):
    folder, out = compared
    assert but_latex(folder) == ["allocation_campus.png", *CSV[:2], "allocation_paper.png", *CSV[2:]]
    runs = read("runs", folder)
    assert len(runs) == len(SETTINGS) * 3 * 9
    assert set(runs["algorithm"]) == {*SIX, *PRIORITIES}
    assert "here all do." in out
    for model, pool in SETTINGS:
        for what, first in (("", "FCIM"), (", what FCIM's weights put first", "cost first")):
            assert f"\n{model}, pool {pool}{what}: means of 3 draws\n" in out
            assert f"\n{model}, pool {pool}{what}: change of {first} in % against each\n" in out
    assert out.count("completion_time (s)") == 2 * len(SETTINGS)
    assert max(map(len, out.split("\nThe paper's claims")[0].splitlines())) <= 160


def test_means_intervals_and_changes_follow_from_the_runs(compared):
    folder, _ = compared
    runs = read("runs", folder)
    for file, who in (("table", SIX), ("priorities", PRIORITIES)):
        table = read(file, folder)
        assert len(table) == len(SETTINGS) * len(METRICS) * len(who)
        for row in table.to_dict("records"):
            same = (runs["model"] == row["model"]) & (runs["pool"] == row["pool"])
            values, first = (runs.loc[same & (runs["algorithm"] == name), row["metric"]].to_numpy(float) for name in (
                row["algorithm"], who[0]))
            assert row["runs"] == len(values) == 3
            assert row["mean"] == pytest.approx(values.mean(), abs=2e-6)
            assert [row["mean"], row["low"], row["high"]] == pytest.approx(stats.mean(values), abs=1e-6)
            if row["algorithm"] != who[0]:
                plain = 100 * (first.mean() - values.mean()) / abs(values.mean())
                assert row["change"] == pytest.approx(plain, abs=1e-5)
                assert [row["change"], row["change_low"], row["change_high"]] == pytest.approx(
                    stats.change(first, values), abs=1e-5)


def test_a_draw_is_measured_as_the_scripts_measure_it(compared, run):
    """Each of the five scripts, run by itself on seed 2, gives the metrics of that draw."""
    runs = read("runs", compared[0])
    runs = runs[(runs["seed"] == 2) & (runs["model"] == "BLOOM-176B") & (runs["pool"] == "paper")]
    for name in SIX:
        if name == "PipeDream, prefix":
            continue
        path = "reproduce/FCIM_links" if name == "FCIM_links" else quick(name)
        assert run(path, "--seed", "2", "--pool", "paper", "--no-plot")[0] == 0
        found, mine = pd.read_csv(f"results/{name}_metrics.csv").iloc[0], runs[runs["algorithm"] == name].iloc[0]
        same = [metric for metric in METRICS[:-1] if metric != "completion_time_unseen"]
        assert mine[same].tolist() == found[same].tolist()
        utility = pd.read_csv(f"results/{name}_stages.csv")["utility"].sum()
        assert mine["utility"] == pytest.approx(utility, abs=1e-6)


@pytest.mark.usefixtures("whole_search")
@pytest.mark.parametrize("model, pool", [
    pytest.param("BLOOM-176B", "campus", marks=thorough), ("GPT-Neo 1.3B", "workstations")])
def test_the_stored_runs_are_those_of_the_command(model, pool):
    """Two draws of a setting, run anew, are to the last digit what reproduce/figures holds."""
    methods = tables.load_scripts(allocation.SCRIPTS, [], "allocate")
    fresh = tables.as_written(pd.DataFrame([row for seed in (0, 1) for row in allocation.run_case(
        FCIM.tasks, methods, common.get_model(model), pool, seed)]))
    stored = allocation.read(FIGURES)
    stored = stored[(stored["model"] == model) & (stored["pool"] == pool) & (stored["seed"] <= 1)]
    pd.testing.assert_frame_equal(fresh, stored.reset_index(drop=True), check_exact=True)


def test_the_claims_follow_from_the_runs(compared):
    """Each row by a plain loop: on `campus` FCIM leaves bidders out, of GPT-Neo on `paper` too."""
    folder, out = compared
    runs, found = read("runs", folder), read("claims", folder)
    means = runs.groupby(["model", "pool", "algorithm"])[METRICS].mean()
    choice = [setting for setting in SETTINGS if setting != ("BLOOM-176B", "paper")]
    kinds = {"static": ["PipeDream"], "performance-driven": ["HexGen", "PipeEdge"]}
    expected = []
    for reading, metric, paper, settings in (
            ("ratio", "communication_overhead", "-54.7 %", choice), ("time", "communication_time", "-54.7 %", choice),
            ("completion", "completion_time", "-36.9 %", choice),
            ("completion, list not planned on", "completion_time_unseen", "-36.9 %", choice),
            ("completion of a task", "mean_turnaround_time", "-36.9 %", choice),
            ("computation", "computation_time", "-36.9 %", choice),
            ("time, no choice", "communication_time", "-54.7 %", [("BLOOM-176B", "paper")]),
            ("completion, no choice", "completion_time", "-36.9 %", [("BLOOM-176B", "paper")])):
        for kind, others in kinds.items():
            expected.append((f"{reading}, {kind}", metric, paper, settings, others, ["FCIM"]))
    for reading, metric in (("layers", "layers"), ("layers, over all that bid", "layers_all"), ("rewards", "rewards"),
                            ("rewards, over all that bid", "rewards_all")):
        expected.append((f"Jain's index of {reading}", f"fairness_{metric}", "always higher", SETTINGS,
                         ["PipeDream", "HexGen", "PipeEdge"], ["FCIM"]))
    expected += [(f"Jain's index of {what}, shifting priorities", f"fairness_{what}", "always higher", SETTINGS,
                  ["PipeDream", "HexGen", "PipeEdge"], PRIORITIES) for what in ("layers", "rewards")]
    assert found["reading"].tolist() == [reading for reading, *_ in expected]
    for row, (_, metric, paper, settings, others, firsts) in zip(found.to_dict("records"), expected):
        changes = {}
        for model, pool in settings:
            for name in others:
                for first in firsts:
                    mine, theirs = (means.loc[(model, pool, who), metric] for who in (first, name))
                    key = f"{model}, {pool}, {name}" + (f", {first}" if first != "FCIM" else "")
                    changes[key] = 100 * (mine / theirs - 1)
        assert row["paper"] == paper
        assert row["ours"] == pytest.approx(sum(changes.values()) / len(changes), abs=1e-5)
        assert row["low"] <= row["ours"] + 1e-6
        assert row["high"] >= row["ours"] - 1e-6
        best = (max if paper == "always higher" else min)(changes.values())
        assert row["best"] == pytest.approx(best, abs=1e-5) == changes[row["best_in"]]
        assert row["verdict"] in out


def test_settings_with_a_choice_stand_apart(compared):
    _, out = compared
    assert "\nSettings with a choice: change in % against each, mean over 3 models and pools\n" in out
    assert "\nSettings without a choice: change in % against each, mean over 1 models and pools\n" in out


# The references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_another_list_is_of_the_same_kind_and_judged_as_any(seed):
    case = common.allocation_case(FCIM.tasks, NEO, "campus", seed)
    other = allocation.another_list(case)
    tasks, drawn_tasks = case["tasks"], other["tasks"]
    kinds = ["prompt_tokens", "output_tokens", "trans_time"]
    rows = {tuple(row): k for k, row in enumerate(tasks[kinds].to_numpy().tolist())}
    assert len(rows) == len(tasks) == len(drawn_tasks)
    for j, row in enumerate(drawn_tasks[kinds].to_numpy().tolist()):
        k = rows[tuple(row)]  # one of the list's tasks
        assert (other["times"][j] == case["times"][k]).all()
        allowed = drawn_tasks["deadline"].iloc[j] - drawn_tasks["arrival_time"].iloc[j]
        assert allowed == tasks["deadline"].iloc[k] - tasks["arrival_time"].iloc[k]
    arrival = drawn_tasks["arrival_time"]
    assert arrival.is_monotonic_increasing
    assert arrival.between(tasks["arrival_time"].min(), tasks["arrival_time"].max()).all()
    assert (other["arrivals"] * 1000000).tolist() == pytest.approx(arrival.tolist())
    assert drawn_tasks["label"].tolist() == tasks["label"].tolist()
    stages, _ = PipeDream.allocate(**case)
    assert allocation.completion_time(stages, **other) == common.evaluate(stages, **other)[3]["completion_time"]
    assert allocation.completion_time(stages, **case) == common.evaluate(stages, **case)[3]["completion_time"]


@pytest.mark.parametrize("seed", range(40))
def test_the_prefix_is_the_best_of_all_prefixes_by_pipedreams_plan(seed):
    """Its bottleneck as PipeDream itself reports it, of every prefix whose offers suffice."""
    rng = np.random.default_rng(seed)
    devices, layers = int(rng.integers(1, 7)), int(rng.integers(1, 13))
    offers = rng.integers(1, 6, devices)
    if offers.sum() < layers:
        offers[0] += layers - offers.sum()
    times = rng.integers(1, 4, (3, devices)).astype(float) if seed % 2 else rng.uniform(0.1, 3, (3, devices))
    delay = rng.uniform(0, 4, (devices + 1, devices + 1)).round(seed % 3)
    delay = (delay + delay.T) * (1 - np.eye(devices + 1))
    bids = pd.DataFrame({"device": [f"GPU {k}" for k in range(devices)], "layers": offers})
    plans = []
    for n in range(1, devices + 1):
        if offers[:n].sum() >= layers:
            nodes = [*range(n), devices]
            stages, notes = PipeDream.allocate(layers=layers, bids=bids[:n], delay=delay[np.ix_(nodes, nodes)],
                                               times=times[:, :n])
            plans.append((float(notes[0].split("bottleneck ")[1].split(" s")[0]), n, stages))
    found, _ = allocation.plan_prefix(layers, bids, delay, times)
    least = min(bottleneck for bottleneck, _, _ in plans)
    assert found in [stages for bottleneck, _, stages in plans if bottleneck <= least + 0.0011]  # it is printed so


def test_the_latex_tables_are_whole(compared):
    check_latex(compared[0], "allocation", 4 * len(SETTINGS) + 3)


def test_no_text_of_the_figure_is_cut_off_or_covers_another(compared):
    table = read("table", compared[0])
    figure = drawn(tables.draw_bars, allocation.PANELS, "model", SIX, table[table["pool"] == "campus"], "campus")
    check_texts(figure, 30)


@pytest.mark.parametrize("flags, message", [
    (["--runs", "3"], "--runs: has no effect with --from"), (["--seed", "3"], "--seed: has no effect with --from"),
    (["--tasks", "x.csv"], "--tasks: has no effect with --from"),
    (["--also", "x.py"], "--also: has no effect with --from"),
    (["--pool", "paper"], "--pool: has no effect with --from"),
    (["--from", "nowhere"], "--from nowhere: no allocation_runs.csv (No such file or directory)"),
])
def test_what_has_no_effect_with_from_is_refused(flags, message, run):
    refused(run("reproduce/allocation", "--from", FIGURES, *flags), message)


@pytest.mark.parametrize("old, new, message", [
    ("model,pool", "made,pool", "allocation_runs.csv: has no column model"),
    ("PipeEdge", "Other", "allocation_runs.csv: has no run of PipeEdge"),
    (",1,12,FCIM,", ",zero,12,FCIM,", "allocation_runs.csv, seed: not all are numbers"),
])
def test_runs_that_are_not_as_they_must_be_are_named(old, new, message, run, compared):
    text = pathlib.Path(compared[0], "allocation_runs.csv").read_text()
    assert old in text
    pathlib.Path("allocation_runs.csv").write_text(text.replace(old, new))
    refused(run("reproduce/allocation", "--from", "."), message)


@thorough
def test_the_same_whatever_the_number_of_processes_and_from_its_runs(run):
    written = ["allocation_claims.csv", "allocation_failures.csv", "allocation_paper.png", "allocation_priorities.csv",
               "allocation_runs.csv", "allocation_table.csv", "allocation_workstations.png"]
    texts = []
    for count in (1, 2):
        with mock.patch.object(os, "cpu_count", lambda count=count: count):
            status, out, err = run("reproduce/allocation", "--runs", "1", *FEW, "--out", f"by{count}")
        assert (status, err) == (0, "")
        texts.append([pathlib.Path(f"by{count}", name).read_bytes() for name in written])
    again = run("reproduce/allocation", "--from", "by2", "--out", "again")
    assert again == (0, out.replace("by2/", "again/"), "")
    assert texts[0] == texts[1] == [pathlib.Path("again", name).read_bytes() for name in written]
    assert but_latex("again") == written
    assert "\u00b1 n/a" in out  # of one run there is no interval
    assert read("table", "by1")[["low", "high", "change_low", "change_high"]].isna().all(axis=None)
    assert set(read("claims", "by1")["verdict"]) == {claims.UNTESTED}


MINE = '''"""All layers in order of listing, as offered."""


def allocate(layers, bids, **_):
    stages = []
    for device, offer in enumerate(bids["layers"]):
        if layers:
            stages.append({"devices": [device], "layers": min(layers, offer)})
            layers -= stages[-1]["layers"]
    return stages, []
'''


@thorough
def test_own_tasks_and_a_script_of_the_users_are_compared(run):
    pd.DataFrame(FCIM.tasks[:2]).to_csv("tasks.csv", index=False)
    pathlib.Path("Mine.py").write_text(MINE)
    status, out, err = run("reproduce/allocation", "--runs", "1", "--tasks", "tasks.csv", "--no-plot", "--also",
                           "Mine.py", "--out", "two", *FEW)
    assert (status, err) == (0, "")
    assert but_latex("two") == CSV
    table = read("table", "two")
    assert table.query("metric == 'deadlines_met'")["mean"].max() <= 2
    assert table["algorithm"].unique().tolist() == [*SIX, "Mine"]
    assert "Mine" in out.split("\nSettings with a choice: ")[1]
    assert (read("runs", "two")["algorithm"] == "Mine").sum() == 2


def test_a_wrong_allocation_of_the_users_is_named(run):
    pathlib.Path("Mine.py").write_text(MINE.replace("min(layers, offer)", "1"))
    refused(run("reproduce/allocation", "--runs", "1", *FEW, "--also", "Mine.py"), "reproduce.allocation: Mine: ")


def test_draws_without_an_allocation_are_left_out_and_counted(run, monkeypatch):
    monkeypatch.setattr(FCIM, "allocate", functools.partial(FCIM.allocate, budget=2.2 / len(FCIM.tasks)))
    status, out, err = run("reproduce/allocation", "--runs", "3", "--no-plot", *FLAGS[2:])
    assert (status, err) == (0, "")
    runs, table, failed = read("runs"), read("table"), read("failures")
    left_out = runs[runs["problem"].notna()]
    assert len(left_out) > 0
    assert left_out["problem"].str.contains("cents left of BUDGET").all()
    kept = 3 - left_out.drop_duplicates(["model", "pool", "seed"]).groupby(["model", "pool"]).size()
    counts = table.groupby(["model", "pool"])["runs"].max()
    for (model, pool), n in kept.items():
        assert counts.get((model, pool), 0) == n
        text = f"{model}, pool {pool}: " + (f"means of {n} draws" if n else "no draw on which all methods find")
        assert text in out
    assert failed["failed"].sum() == len(left_out)
    assert (failed["draws"] == 3).all()
    assert failed.groupby("algorithm")["failed"].sum().to_dict() == left_out["algorithm"].value_counts().to_dict()
    assert "\nDraws without an allocation\n" in out


def test_no_draw_that_all_share(run, monkeypatch):
    monkeypatch.setattr(FCIM, "allocate", functools.partial(FCIM.allocate, budget=0))
    status, out, err = run("reproduce/allocation", "--runs", "1", "--no-plot", *FEW)
    assert (status, out) == (1, "")
    assert err.startswith("reproduce.allocation: no draw on which every method finds an allocation: no valid bid")
    assert files() == []


@pytest.mark.parametrize("arguments, message", [
    (["--runs", "0"], "--runs: 0 is not positive"),
    (["--runs", "-3"], "--runs: -3 is not a number from 0 to 1e9"),
    (["--runs", "x"], "argument --runs: invalid int value: 'x'"),
    (["--seed", "-3"], "--seed: -3"),
    (["--bids", "bids.csv"], "unrecognized arguments: --bids bids.csv"),
    (["--pool", "moon"], "unknown pool 'moon'"),
    (["--tasks", "none.csv"], "none.csv: No such file or directory"),
    (["--also", "none.py"], "--also none.py: FileNotFoundError"),
])
@pytest.mark.parametrize("script", ["allocation", "incentives"])
def test_wrong_arguments_are_one_line(script, arguments, message, run):
    if script == "incentives" and arguments[0] in ("--also", "--pool"):
        message = f"unrecognized arguments: {' '.join(arguments)}"
    refused(run(f"reproduce/{script}", *arguments), message)
