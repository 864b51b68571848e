"""reproduce/allocation.py: tables that follow from the runs, whatever the number of processes; claims, settings."""
import os
import pathlib
import subprocess
import sys
from unittest import mock

import pandas as pd
import pytest
from conftest import ROOT, files, refused
from test_reproduce_tables import but_latex, check_latex, check_texts, drawn

import common
import FCIM
from reproduce import allocation, claims, stats, tables

FIVE = ["FCIM", "FCIM, links", "HexGen", "PipeDream", "PipeEdge"]
NEO = common.get_model("GPT-Neo 1.3B")
FIGURES = str(ROOT / "reproduce" / "figures")
PRIORITIES = ["cost first", "time first", "devices first"]
SETTINGS = [(model, pool) for model in allocation.MODELS for pool in common.POOLS]
METRICS = ["completion_time", "computation_time", "communication_time", "communication_overhead", "total_cost",
           "memory_utilization", "fairness_layers", "fairness_rewards", "devices", "cost_efficiency", "deadlines_met",
           "utility"]
WRITTEN = ["allocation.png", "allocation_claims.csv", "allocation_failures.csv",
           "allocation_priorities.csv", "allocation_runs.csv", "allocation_table.csv"]


def read(name, folder="results"):
    return pd.read_csv(pathlib.Path(folder, f"allocation_{name}.csv"), keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Folder and output of the comparison that README.md shows, from its runs."""
    folder = tmp_path_factory.mktemp("compare")
    done = subprocess.run([sys.executable, str(ROOT / "reproduce" / "allocation.py"), "--from", FIGURES], cwd=folder,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "results", done.stdout


def test_all_files_are_written_and_every_setting_is_there(compared):
    folder, out = compared
    assert but_latex(folder) == WRITTEN
    runs = read("runs", folder)
    assert len(runs) == len(SETTINGS) * 30 * 8
    assert set(runs["algorithm"]) == {*FIVE, *PRIORITIES}
    assert "here all do." in out
    for model, pool in SETTINGS:
        for what, first in (("", "FCIM"), (", what FCIM's weights put first", "cost first")):
            assert f"\n{model}, pool {pool}{what}: means of 30 draws\n" in out
            assert f"\n{model}, pool {pool}{what}: change of {first} in % against each\n" in out
    assert out.count("completion_time (s)") == 2 * len(SETTINGS)
    assert max(map(len, out.split("\nThe paper's claims")[0].splitlines())) <= 140


def test_means_intervals_and_changes_follow_from_the_runs(compared):
    folder, _ = compared
    runs = read("runs", folder)
    for file, who in (("table", FIVE), ("priorities", PRIORITIES)):
        table = read(file, folder)
        assert len(table) == len(SETTINGS) * len(METRICS) * len(who)
        for row in table.to_dict("records"):
            same = (runs["model"] == row["model"]) & (runs["pool"] == row["pool"])
            values, first = (runs.loc[same & (runs["algorithm"] == name), row["metric"]].to_numpy(float) for name in (
                row["algorithm"], who[0]))
            assert row["runs"] == len(values) == 30
            assert row["mean"] == pytest.approx(values.mean(), abs=2e-6)
            assert [row["mean"], row["low"], row["high"]] == pytest.approx(stats.mean(values), abs=1e-6)
            if row["algorithm"] != who[0]:
                plain = 100 * (first.mean() - values.mean()) / abs(values.mean())
                assert row["change"] == pytest.approx(plain, abs=1e-5)
                assert [row["change"], row["change_low"], row["change_high"]] == pytest.approx(
                    stats.change(first, values), abs=1e-5)


def test_a_draw_is_measured_as_the_scripts_measure_it(compared, run):
    """Each of the four scripts, run by itself on seed 2, gives the metrics of that draw."""
    runs = read("runs", compared[0])
    runs = runs[(runs["seed"] == 2) & (runs["model"] == "BLOOM-176B") & (runs["pool"] == "workstations")]
    for name in FIVE:
        if name == "FCIM, links":
            continue
        assert run(name, "--seed", "2", "--pool", "workstations", "--no-plot")[0] == 0
        found, mine = pd.read_csv(f"results/{name}_metrics.csv").iloc[0], runs[runs["algorithm"] == name].iloc[0]
        assert mine[METRICS[:-1]].tolist() == found[METRICS[:-1]].tolist()
        utility = pd.read_csv(f"results/{name}_stages.csv")["utility"].sum()
        assert mine["utility"] == pytest.approx(utility, abs=1e-6)


@pytest.mark.parametrize("model, pool", [("BLOOM-176B", "campus"), ("GPT-Neo 1.3B", "workstations")])
def test_the_stored_runs_are_those_of_the_command(model, pool):
    """Two draws of a setting, run anew, are to the last digit what reproduce/figures holds."""
    methods = tables.load_scripts([name for name in FIVE if name != "FCIM, links"], [], "allocate")
    fresh = tables.as_written(pd.DataFrame([row for seed in (0, 1) for row in allocation.run_case(
        FCIM.tasks, methods, common.get_model(model), pool, seed)]))
    stored = allocation.read(FIGURES)
    stored = stored[(stored["model"] == model) & (stored["pool"] == pool) & (stored["seed"] <= 1)]
    pd.testing.assert_frame_equal(fresh, stored.reset_index(drop=True), check_exact=True)


def test_the_claims_follow_from_the_runs(compared):
    folder, out = compared
    runs, claims = read("runs", folder), read("claims", folder)
    assert len(claims) == 10
    means = runs.groupby(["model", "pool", "algorithm"])[METRICS].mean()
    names = {"ratio": "communication_overhead", "time": "communication_time", "completion": "completion_time",
             "computation": "computation_time", "Jain's index of layers": "fairness_layers",
             "Jain's index of rewards": "fairness_rewards"}
    for row in claims.to_dict("records"):
        reading, _, kind = row["reading"].partition(", ")
        others = {"static": ["PipeDream"], "performance-driven": ["HexGen", "PipeEdge"]}.get(kind, FIVE[2:])
        changes = {f"{model}, {pool}, {name}": 100 * (means.loc[(model, pool, "FCIM"), names[reading]] / means.loc[
            (model, pool, name), names[reading]] - 1) for model, pool in SETTINGS for name in others}
        assert row["ours"] == pytest.approx(sum(changes.values()) / len(changes), abs=1e-5)
        assert row["low"] < row["ours"] < row["high"]
        best = (max if row["paper"] == "always higher" else min)(changes.values())
        assert row["best"] == pytest.approx(best, abs=1e-5) == changes[row["best_in"]]
        assert row["verdict"] in out
    assert claims["paper"].tolist() == ["-54.7 %"] * 4 + ["-36.9 %"] * 4 + ["always higher"] * 2


def test_the_latex_tables_are_whole(compared):
    check_latex(compared[0], "allocation", 4 * len(SETTINGS) + 2)


def test_no_text_of_the_figure_is_cut_off_or_covers_another(compared, monkeypatch):
    figure = drawn(tables.draw_bars, allocation.PANELS, "model", FIVE, read("table", compared[0]), "pool")
    check_texts(figure, 30)


@pytest.fixture
def few(monkeypatch):
    """One model on two pools, to be quick."""
    monkeypatch.setattr(allocation, "MODELS", allocation.MODELS[2:])
    monkeypatch.setattr(common, "POOLS", {pool: common.POOLS[pool] for pool in ("paper", "workstations")})


@pytest.mark.parametrize("flags, message", [
    (["--runs", "3"], "--runs: has no effect with --from"), (["--seed", "3"], "--seed: has no effect with --from"),
    (["--tasks", "x.csv"], "--tasks: has no effect with --from"),
    (["--also", "x.py"], "--also: has no effect with --from"),
    (["--from", "nowhere"], "--from nowhere: no allocation_runs.csv (No such file or directory)"),
])
def test_what_has_no_effect_with_from_is_refused(flags, message, run):
    refused(run("reproduce/allocation", "--from", FIGURES, *flags), message)


@pytest.mark.parametrize("old, new, message", [
    ("model,pool", "made,pool", "allocation_runs.csv: has no column model"),
    ("PipeEdge", "Other", "allocation_runs.csv: has no run of PipeEdge"),
    (",0,FCIM", ",zero,FCIM", "allocation_runs.csv, seed: not all are numbers"),
])
def test_runs_that_are_not_as_they_must_be_are_named(old, new, message, run):
    text = pathlib.Path(FIGURES, "allocation_runs.csv").read_text()
    assert old in text
    pathlib.Path("allocation_runs.csv").write_text(text.replace(old, new))
    refused(run("reproduce/allocation", "--from", "."), message)


def test_the_same_whatever_the_number_of_processes_and_from_its_runs(run, few):
    texts = []
    for count in (1, 2):
        with mock.patch.object(os, "cpu_count", lambda count=count: count):
            status, out, err = run("reproduce/allocation", "--runs", "1", "--out", f"by{count}")
        assert (status, err) == (0, "")
        texts.append([pathlib.Path(f"by{count}", name).read_bytes() for name in WRITTEN])
    again = run("reproduce/allocation", "--from", "by2", "--out", "again")
    assert again == (0, out.replace("by2/", "again/"), "")
    assert texts[0] == texts[1] == [pathlib.Path("again", name).read_bytes() for name in WRITTEN]
    assert but_latex("again") == WRITTEN
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


def test_own_tasks_and_a_script_of_the_users_are_compared(run, few):
    pd.DataFrame(FCIM.tasks[:2]).to_csv("tasks.csv", index=False)
    pathlib.Path("Mine.py").write_text(MINE)
    status, out, err = run("reproduce/allocation", "--runs", "1", "--tasks", "tasks.csv", "--no-plot", "--also",
                           "Mine.py", "--out", "two")
    assert (status, err) == (0, "")
    assert but_latex("two") == [name for name in WRITTEN if not name.endswith(".png")]
    table = read("table", "two")
    assert table.query("metric == 'deadlines_met'")["mean"].max() <= 2
    assert table["algorithm"].unique().tolist() == [*FIVE, "Mine"]
    assert "Mine" in out.split("\nAll settings: ")[1]
    assert (read("runs", "two")["algorithm"] == "Mine").sum() == 2


def test_a_wrong_allocation_of_the_users_is_named(run, few):
    pathlib.Path("Mine.py").write_text(MINE.replace("min(layers, offer)", "1"))
    refused(run("reproduce/allocation", "--runs", "1", "--also", "Mine.py"), "reproduce.allocation: Mine: ")


def test_draws_without_an_allocation_are_left_out_and_counted(run, monkeypatch, few):
    monkeypatch.setattr(common, "MODELS", [common.get_model("BLOOM-176B"), NEO])
    monkeypatch.setattr(FCIM, "BUDGET", 2.2 / len(FCIM.tasks))
    status, out, err = run("reproduce/allocation", "--runs", "3", "--no-plot")
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


def test_no_draw_that_all_share(run, monkeypatch, few):
    monkeypatch.setattr(FCIM, "BUDGET", 0)
    status, out, err = run("reproduce/allocation", "--runs", "1", "--no-plot")
    assert (status, out) == (1, "")
    assert err.startswith("reproduce.allocation: no draw on which every method finds an allocation: no valid bid")
    assert files() == []


@pytest.mark.parametrize("arguments, message", [
    (["--runs", "0"], "--runs: 0 is not positive"),
    (["--runs", "-3"], "--runs: -3 is not from 0 to 1e9"),
    (["--runs", "x"], "argument --runs: invalid int value: 'x'"),
    (["--seed", "-3"], "--seed: -3"),
    (["--bids", "bids.csv"], "unrecognized arguments: --bids bids.csv"),
    (["--pool", "paper"], "unrecognized arguments: --pool paper"),
    (["--tasks", "none.csv"], "none.csv: No such file or directory"),
    (["--also", "none.py"], "--also none.py: FileNotFoundError"),
])
@pytest.mark.parametrize("script", ["allocation", "incentives"])
def test_wrong_arguments_are_one_line(script, arguments, message, run):
    if script == "incentives" and arguments[0] == "--also":
        message = "unrecognized arguments: --also none.py"
    refused(run(f"reproduce/{script}", *arguments), message)
