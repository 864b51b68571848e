"""`FCIM.py --compare` and `--audit`: tables that follow from the runs, whatever the number of processes."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, refused

import common
import FCIM

FOUR = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
WRITTEN = ["FCIM_compare.tex", "FCIM_compare_claims.csv", "FCIM_compare_priorities.csv", "FCIM_compare_runs.csv",
           "FCIM_compare_table.csv", "compare_allocation.png"]


def read(name, folder="results"):
    return pd.read_csv(pathlib.Path(folder, name), keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Folder and output of `--compare --runs 3`, run once."""
    folder = tmp_path_factory.mktemp("compare")
    done = subprocess.run([sys.executable, str(ROOT / "FCIM.py"), "--compare", "--runs", "3"], cwd=folder,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "results", done.stdout


def test_all_files_are_written_and_every_setting_is_there(compared):
    folder, out = compared
    assert files(folder) == WRITTEN
    runs = read("FCIM_compare_runs.csv", folder)
    assert len(runs) == 3 * 2 * 3 * 7
    assert set(runs["algorithm"]) == {*FOUR, *FCIM.PRIORITIES}
    for model in common.MODELS:
        for pool in common.POOLS:
            assert f"\n{model}, pool {pool}\n" in out
            assert f"\n{model}, pool {pool}, what FCIM's weights put first\n" in out
    assert out.count("completion_time (s)") == 12


def test_means_intervals_and_changes_follow_from_the_runs(compared):
    stats = pytest.importorskip("scipy.stats")
    folder, _ = compared
    runs = read("FCIM_compare_runs.csv", folder)
    for file, who in (("FCIM_compare_table.csv", FOUR), ("FCIM_compare_priorities.csv", list(FCIM.PRIORITIES))):
        table = read(file, folder)
        assert len(table) == 3 * 2 * len(FCIM.METRICS) * len(who)
        for row in table.to_dict("records"):
            same = (runs["model"] == row["model"]) & (runs["pool"] == row["pool"])
            values, first = (runs.loc[same & (runs["algorithm"] == name), row["metric"]] for name in (
                row["algorithm"], who[0]))
            assert row["runs"] == len(values) == 3
            assert row["mean"] == pytest.approx(values.mean(), abs=2e-6)
            if values.nunique() > 1:
                low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
                assert (row["mean"] - row["interval"], row["mean"] + row["interval"]) == pytest.approx(
                    (low, high), abs=1e-5)
            if row["algorithm"] != who[0]:
                assert row["change"] == pytest.approx(100 * (first.mean() - values.mean()) / values.mean(), abs=1e-3)


def test_the_claims_follow_from_the_table(compared):
    folder, out = compared
    table, claims = read("FCIM_compare_table.csv", folder), read("FCIM_compare_claims.csv", folder)
    assert len(claims) == 8
    for row in claims.to_dict("records"):
        metric, names = row["claim"].split(" against ")
        assert row["paper"] == {"communication_overhead": -54.7, "completion_time": -36.9}[metric]
        change = table.loc[(table["metric"] == metric) & table["algorithm"].isin(names.split(" or ")), "change"]
        assert len(change) == 6 * len(names.split(" or "))
        assert (row["ours"], row["least"], row["most"]) == pytest.approx(
            (change.mean(), change.min(), change.max()), abs=0.051)
    assert out.index("-54.7") > out.rindex("what FCIM's weights put first")


def test_the_latex_tables_are_whole(compared):
    text = pathlib.Path(compared[0], "FCIM_compare.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 13
    for columns, body in re.findall(r"\\begin{tabular}{(lr*)}\n(.*?)\\end{tabular}", text, re.DOTALL):
        for line in body.splitlines():
            if line.endswith(r"\\"):
                assert line.count("&") == len(columns) - 1
    assert not re.search(r"(?<!\\)[%_#]", text)
    assert r"$\pm$" in text
    assert "\u00b1" not in text


def test_the_same_whatever_the_number_of_processes(run):
    texts = []
    for count in (1, 2):
        with mock.patch.object(os, "cpu_count", lambda count=count: count):
            status, out, err = run("FCIM", "--compare", "--runs", "1", "--out", f"by{count}")
        assert (status, err) == (0, "")
        texts.append([pathlib.Path(f"by{count}", name).read_bytes() for name in WRITTEN])
    assert texts[0] == texts[1]
    assert "\u00b1 n/a" in out  # of one run there is no interval
    assert read("FCIM_compare_table.csv", "by1")["interval"].isna().all()


def test_own_tasks_are_compared(run):
    pd.DataFrame(FCIM.tasks[:2]).to_csv("tasks.csv", index=False)
    assert run("FCIM", "--compare", "--runs", "1", "--tasks", "tasks.csv", "--no-plot", "--out", "two")[0] == 0
    assert files("two") == [name for name in WRITTEN if not name.endswith(".png")]
    assert read("FCIM_compare_table.csv", "two").query("metric == 'deadlines_met'")["mean"].max() <= 2


@pytest.mark.parametrize("flag", ["--compare", "--audit"])
@pytest.mark.parametrize("arguments, message", [
    (["--runs", "0"], "--runs: must be at least 1"),
    (["--runs", "-3"], "--runs: -3 is negative"),
    (["--runs", "x"], "argument --runs: invalid int value: 'x'"),
    (["--bids", "bids.csv"], "draw the bids and links of many runs: leave out your own"),
])
def test_wrong_arguments_are_one_line(flag, arguments, message, run):
    refused(run("FCIM", flag, *arguments), message)


def test_draws_without_an_allocation_are_left_out_and_counted(run):
    text = (ROOT / "FCIM.py").read_text()
    pathlib.Path("mine.py").write_text(text.replace("BUDGET = 5 ", "BUDGET = 2.2 "))
    assert run("mine.py", "--compare", "--runs", "3", "--no-plot")[0] == 0
    runs, table = read("FCIM_compare_runs.csv"), read("FCIM_compare_table.csv")
    left_out = runs[runs["problem"].notna()]
    assert left_out["problem"].str.contains("cents left of BUDGET").all()
    kept = 3 - left_out.drop_duplicates(["model", "pool", "seed"]).groupby(["model", "pool"]).size()
    assert 0 < len(left_out)
    counts = table.groupby(["model", "pool"])["runs"].max()
    for setting, n in kept.items():
        assert counts.get(setting, 0) == n


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_an_interrupt_leaves_one_line_and_no_file_and_no_process(tmp_path):
    script = subprocess.Popen([sys.executable, str(ROOT / "FCIM.py"), "--compare", "--runs", "200"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, start_new_session=True)

    def workers():
        path = pathlib.Path(f"/proc/{script.pid}/task/{script.pid}/children")
        return path.read_text().split() if path.exists() else []

    for _ in range(600):
        if workers() or script.poll() is not None:
            break
        time.sleep(0.05)
    children = workers()
    assert children
    time.sleep(0.5)
    os.killpg(script.pid, signal.SIGINT)
    _, err = script.communicate(timeout=60)
    assert (script.returncode, err) == (130, "FCIM.py: interrupted\n")
    assert files(tmp_path) == []
    time.sleep(0.2)
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


# Audit ----------------------------------------------------------------------------------------------------------------


def test_the_audit_finds_what_a_plain_search_finds(run):
    status, out, err = run("FCIM", "--audit", "--runs", "2")
    assert (status, err) == (0, "")
    assert files("results") == ["FCIM_audit.csv", "FCIM_audit_table.csv"]
    rows, table = read("FCIM_audit.csv"), read("FCIM_audit_table.csv")
    assert len(rows) == 3 * 2 * 2 * 6
    model = common.get_model("BLOOM-176B")
    tasks, estimates = common.allocation_tasks(FCIM.tasks, model, "paper")
    bids = common.allocation_case(model, "paper", tasks, estimates, 1)[0]
    bids["price"] = bids["true_cost"]
    found = rows[(rows["model"] == model.name) & (rows["seed"] == 1) & (rows["asked"] == "true cost")].reset_index()

    def gained(changed, i):
        try:
            stages, _ = FCIM.allocate(layers=model.layers, bids=changed)
        except common.NoAllocation:
            return 0
        mine = [stage for stage in stages if stage["devices"] == [i]]
        cost = bids["true_cost"][i] / bids["layers"][i]
        return sum(stage["reward"] - cost * stage["layers"] for stage in mine)

    for i in range(6):
        assert found["utility"][i] == pytest.approx(gained(bids, i), abs=1e-6)
        by_price, by_layers = [], []
        for factor in np.arange(5, 31) / 10:
            changed = bids.astype({"price": float})
            changed.loc[i, "price"] *= factor
            by_price.append(gained(changed, i))
        for n in range(1, bids["layers"][i]):
            changed = bids.astype({"price": float})
            for key in ("price", "computation_time"):
                changed.loc[i, key] *= n / bids["layers"][i]
            changed.loc[i, "layers"] = n
            by_layers.append(gained(changed, i))
        for gains, key in ((by_price, "gain_by_price"), (by_layers, "gain_by_layers")):
            assert found[key][i] == pytest.approx(max(0, max(gains) - found["utility"][i]), abs=2e-6)
    for row in table.to_dict("records"):
        part = rows[(rows["model"] == row["model"]) & (rows["asked"] == row["price"])]
        assert row["share_that_gains_by_price"] == pytest.approx((part["gain_by_price"] > 0).mean(), abs=1e-6)
        assert row["mean_gain_by_price"] == pytest.approx(part["gain_by_price"].mean(), abs=2e-6)
        assert row["largest_gain_by_layers"] == pytest.approx(part["gain_by_layers"].max(), abs=1e-6)
        assert row["least_winner_utility"] == pytest.approx(part.loc[part["paid"] > 0, "utility"].min(), abs=1e-6)
        assert row["within_budget"] == 1
    assert "No winner loses, and payments stay within BUDGET: yes, in all auctions." in out
    assert "Not truthful: by asking another price, " in out
