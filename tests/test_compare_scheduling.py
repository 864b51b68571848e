"""python ADSA.py --compare: its statistics, its random lists, its distances from the optimum, tables and figures."""
import inspect
import itertools
import math
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, metrics, refused
from test_scripts import children, hard_list

import ADSA
import common

MODEL, DEVICE = common.get_model("GPT-Neo 1.3B"), common.DEVICES["T4"]
REGIMES = ["loose", "strict", "overload"]
FILES = [f"ADSA_compare{end}" for end in (".tex", "_claims.csv", "_list.csv", "_regimes.csv", "_runs.csv")]
PNG = ["compare_gantt.png", "compare_scheduling.png"]
MEASURED = ("mean_waiting_time mean_response_time mean_turnaround_time deadlines_met T_end preemptions "
            "peak_memory_gb").split()
DISTANCES = ["deadlines_behind", "T_end_above", "mean_turnaround_time_above"]
EXACT = {"optimal (makespan)": "T_end", "optimal (turnaround)": "mean_turnaround_time"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Folder and standard output of one comparison of three runs."""
    folder = tmp_path_factory.mktemp("compared")
    done = subprocess.run([sys.executable, str(ROOT / "ADSA.py"), "--compare", "--runs", "3", "--seed", "7"],
                          cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "results", done.stdout


def read(compared, name):
    return pd.read_csv(compared[0] / f"ADSA_compare_{name}.csv")


# Statistics -----------------------------------------------------------------------------------------------------------


def test_the_quantile_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    degrees = [*range(1, 60), 99, 250, 999, 9999]
    assert [common.t_quantile(n) for n in degrees] == pytest.approx(stats.t.ppf(0.975, degrees).tolist(), rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 30])
def test_the_interval_is_that_of_scipy(n):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).gamma(2, 5, (2, n))
    runs = pd.DataFrame({"case": "one", "algorithm": np.repeat(["X", "Y"], n), "time": values.ravel()})
    table = common.compare(runs, ["case"], ["X", "Y"], ["time"]).set_index("algorithm")
    for name, row in zip("XY", values):
        low, high = stats.t.interval(0.95, n - 1, loc=row.mean(), scale=stats.sem(row))
        found = table.loc[name]
        assert found["mean"] - found["interval"] == pytest.approx(low, abs=2e-5)
        assert found["mean"] + found["interval"] == pytest.approx(high, abs=2e-5)
        assert (found["case"], found["runs"]) == ("one", n)
    assert table["change"]["Y"] == pytest.approx(100 * (values[0].mean() / values[1].mean() - 1), abs=1e-3)
    assert math.isnan(table["change"]["X"])


def test_runs_without_a_value_are_left_out():
    runs = pd.DataFrame({"case": "one", "algorithm": ["X"] * 4 + ["Y"], "gap": [1, math.nan, 2, 6, math.nan]})
    table = common.compare(runs, ["case"], ["X", "Y"], ["gap"])
    assert table["runs"].tolist() == [3, 0]
    assert table["mean"][0] == 3
    assert table["interval"][0] == pytest.approx(4.30265273 * math.sqrt(7 / 3), abs=1e-5)
    assert table.loc[1, ["mean", "interval", "change"]].isna().all()
    assert common.side_by_side(table, ["X", "Y"], {"gap": "%"})["Y"][0] == "n/a"


def test_means_intervals_and_changes_follow_from_the_runs(compared):
    runs, table = read(compared, "runs"), read(compared, "regimes")
    assert len(runs) == 3 * 3 * 6
    assert len(table) == 3 * 10 * 6
    t = {2: 12.7062047, 3: 4.30265273}  # by number of runs: from a printed table
    for row in table.to_dict("records"):
        def values(name, regime=row["regime"], metric=row["metric"]):
            return runs[(runs["regime"] == regime) & (runs["algorithm"] == name)][metric].dropna().tolist()
        mine = values(row["algorithm"])
        assert row["runs"] == len(mine)
        if mine:
            assert row["mean"] == pytest.approx(sum(mine) / len(mine), abs=1e-6)
        if len(mine) > 1:
            half = t[len(mine)] * statistics.stdev(mine) / math.sqrt(len(mine))
            assert row["interval"] == pytest.approx(half, abs=2e-6, rel=1e-5)
        else:
            assert math.isnan(row["interval"])
        if row["metric"] in DISTANCES or row["algorithm"] == "ADSA" or row["mean"] == 0:
            assert math.isnan(row["change"])
        else:
            change = 100 * (statistics.mean(values("ADSA")) - row["mean"]) / row["mean"]
            assert row["change"] == pytest.approx(change, abs=1.1e-3)


def test_the_claims_follow_from_the_runs(compared):
    runs, claims = read(compared, "runs"), read(compared, "claims").set_index("ADSA against")
    means = runs[runs["regime"] == "strict"].groupby("algorithm")[MEASURED[:3]].mean()
    assert claims.index.tolist() == ["FCFS", "SRTF", "LLF", "their mean"]
    assert (claims["paper (%)"] == -39).all()
    far = {}
    for name in claims.index:
        for metric in MEASURED[:3]:
            other = means.loc[["FCFS", "SRTF", "LLF"] if name == "their mean" else [name], metric].mean()
            far[metric, name] = change = 100 * (means[metric]["ADSA"] - other) / other
            assert claims[f"{metric} (%)"][name] == pytest.approx(change, abs=0.0501)
    metric, name = min(far, key=lambda pair: abs(far[pair] + 39))
    assert f"nearest to the claim comes {metric} against {name} ({far[metric, name]:+.1f} %)." in compared[1]


# The random lists -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("run", range(4))
def test_loads_and_deadlines_are_as_told(regime, run):
    load, (low, high) = {"loose": (0.6, (4, 8)), "strict": (0.9, (1.5, 3)), "overload": (1.3, (1.5, 3))}[regime]
    table = ADSA.random_tasks(regime, 5, run, MODEL, DEVICE)
    span = table["arrival_time"].max() - table["arrival_time"].min()
    assert table["computation_time"].sum() / span == pytest.approx(load, rel=1e-6)
    factor = (table["deadline"] - table["arrival_time"]) / (table["computation_time"] + table["trans_time"])
    assert factor.between(low - 1e-6, high + 1e-6).all()
    assert factor.max() - factor.min() > 0.4 * (high - low)  # the range is used
    assert len(table) == 12
    assert table["arrival_time"].min() == 0
    assert table["trans_time"].between(0.5e6, 5e6).all()
    words = table["output_tokens"] / common.TOKENS_PER_WORD
    assert words.between(39.9, 1201).all()
    assert table["computation_time"].between(0.5e6, 15.4e6).all()
    for row in table.to_dict("records"):  # the model's estimate, nothing else
        seconds = 24 * common.layer_time(MODEL, DEVICE, row["prompt_tokens"], row["output_tokens"])
        assert row["computation_time"] == pytest.approx(seconds * 1e6, abs=1)
        assert row["kv_bytes"] == (row["prompt_tokens"] + row["output_tokens"]) * 24 * 2 * 2048 * 2


def test_the_tasks_of_a_run_are_those_of_all_regimes_and_of_no_other_run():
    same = ["label", "prompt", "computation_time", "trans_time", "kv_bytes"]
    drawn = {(regime, seed, run): ADSA.random_tasks(regime, seed, run, MODEL, DEVICE)[same]
             for regime in REGIMES for seed in (0, 1) for run in (0, 1)}
    for (one, a), (other, b) in itertools.combinations(drawn.items(), 2):
        assert a.equals(b) == (one[1:] == other[1:])
    assert ADSA.random_tasks("loose", 1, 0, MODEL, DEVICE)[same].equals(drawn["loose", 1, 0])


def test_a_model_of_short_context_runs_none_capped(capsys):
    small = common.Model("small", 2, 1000, 8, 512)
    table = ADSA.random_tasks("strict", 0, 0, small, DEVICE)
    assert capsys.readouterr().err == ""
    assert (table["prompt_tokens"] + table["output_tokens"] <= 512).all()
    assert table["output_tokens"].max() > 150


# The optimum ----------------------------------------------------------------------------------------------------------


def test_no_method_beats_the_proven_optimum_and_distances_are_from_it(compared):
    runs = read(compared, "runs")
    lists = list(runs.groupby(["regime", "run"]))
    assert len(lists) == 9
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
    assert compared_lists > 20
    behind = runs[~runs["algorithm"].isin(EXACT)]["deadlines_behind"]
    assert (behind > 0).any()
    assert (behind == 0).any()


def test_no_schedule_waits_less_than_srtf(compared):
    """What the closing sentence says of every list."""
    runs = read(compared, "runs").set_index(["regime", "run"])
    least = runs[runs["algorithm"] == "SRTF"]["mean_waiting_time"]
    assert (runs["mean_waiting_time"] >= least.reindex(runs.index) - 2e-6).all()


def test_what_is_not_proven_is_no_measure(monkeypatch):
    """A program without time proves nothing: distances are left out and the count says so."""
    monkeypatch.setattr(ADSA, "LIMIT", 0)
    runs = pd.DataFrame(ADSA.measure(("overload", 0, 0), MODEL, DEVICE, "shared")[0])
    assert not runs["proven_optimal"].dropna().any()
    assert runs[DISTANCES].isna().all(axis=None)
    table = common.compare(runs, ["tasks"], ADSA.METHODS, [*MEASURED, *DISTANCES])
    shown = ADSA.readable(table, runs).set_index("metric")
    assert shown.loc["proven optimal (lists)", list(EXACT)].tolist() == ["0", "0"]
    assert set(shown.loc["T_end_above (%)"]) == {"n/a"}


@pytest.mark.parametrize("link", ["shared", "dedicated"])
def test_the_list_is_measured_as_the_scripts_measure_it(link, run):
    assert run("ADSA", "--compare", "--runs", "1", "--link", link, "--no-plot")[0] == 0
    table = pd.read_csv("results/ADSA_compare_list.csv").set_index("algorithm")
    for name in ("ADSA", "FCFS", "SRTF", "LLF"):
        run(name, "--link", link, "--no-plot")
        assert table.loc[name, MEASURED].tolist() == metrics(name)[MEASURED].tolist()
    for name in EXACT:
        run("optimal", "--objective", name[9:-1], "--link", link, "--no-plot")
        known = ["deadlines_met", EXACT[name], "lower_bound", "proven_optimal"]
        assert table.loc[name, known].astype(str).tolist() == metrics("optimal")[known].astype(str).tolist()
    changes = 100 * (table["mean_waiting_time"]["ADSA"] / table["mean_waiting_time"][1:] - 1)
    assert table["change_mean_waiting_time"][1:].tolist() == pytest.approx(changes.tolist(), abs=1e-3)


# Output ---------------------------------------------------------------------------------------------------------------


def test_the_files_and_the_printed_tables(compared):
    folder, out = compared
    assert files(folder) == FILES + PNG
    for name in PNG:
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for regime, load, factor in (("loose", 0.6, "4..8"), ("strict", 0.9, "1.5..3"), ("overload", 1.3, "1.5..3")):
        assert (f"\n{regime}: load {load} (computation / span of arrivals), deadline = arrival + {factor} x "
                "(computation + transmission), 3 lists\n") in out
    assert "optimal (makespan): optimal: 0 of 5 deadlines missed, then makespan" in out
    assert "GPT-Neo 1.3B (24 layers, 16 bits) on T4, shared uplink" in out
    assert max(map(len, out.split("\nwritten")[0].splitlines())) <= 140
    table = read(compared, "regimes").set_index(["regime", "metric", "algorithm"])
    printed = re.findall(r"^(mean_waiting_time \(s\)|ADSA's change: mean_waiting_time) (.*)$", out, re.MULTILINE)[2:]
    assert len(printed) == 6
    for regime, (_, line), (_, changes) in zip(REGIMES, printed[::2], printed[1::2]):
        found = [table.loc[regime, "mean_waiting_time", name] for name in ADSA.METHODS]
        cells = [float(cell.split(" \u00b1 ")[0]) for cell in re.split(r"  +", line.strip())]
        assert cells == pytest.approx([row["mean"] for row in found], rel=1e-3)
        assert [float(cell) for cell in changes.replace("%", "").split()] == pytest.approx(
            [row["change"] for row in found[1:]], abs=0.051)
    proven = re.findall(r"^proven optimal \(lists\) +(\d+) +(\d+)$", out, re.MULTILINE)
    assert proven == [("1", "1"), ("3", "3"), ("3", "3"), ("3", "3")]


def test_the_latex_tables_are_whole(compared):
    text = (compared[0] / "ADSA_compare.tex").read_text(encoding="utf-8")
    tables = re.findall(r"\\begin{tabular}{(lr*)}\n\\toprule\n(.*?)\\bottomrule\n\\end{tabular}", text, re.DOTALL)
    assert len(tables) == 5
    for columns, body in tables:
        rows = [row for row in body.splitlines() if row != r"\midrule"]
        assert len(rows) > 4
        for row in rows:
            assert row.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    assert not re.search(r"(?<!\\)[%#_]", text)
    assert "\u00b1" not in text
    assert r"$\pm$" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 5
    assert text.isascii()


def test_the_same_bytes_whatever_the_number_of_processes_and_one_run(run, monkeypatch):
    told = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        status, out, err = run("ADSA", "--compare", "--runs", "1", "--seed", "3", "--out", str(cores))
        assert (status, err) == (0, "")
        told.append(out.split("\nwritten")[0])
    assert told[0] == told[1]
    assert files("1") == files("2") == FILES + PNG
    for name in FILES + PNG:
        assert pathlib.Path("1", name).read_bytes() == pathlib.Path("2", name).read_bytes()
    assert pd.read_csv("1/ADSA_compare_regimes.csv")["interval"].isna().all()
    cells = re.findall(r"\u00b1 (\S+)", told[0].split("\nloose: ")[1])
    assert len(cells) > 100
    assert set(cells) == {"n/a"}
    assert "nan" not in told[0]
    run("ADSA", "--compare", "--runs", "1", "--seed", "4", "--no-plot", "--out", "other")
    assert files("other") == FILES
    assert pathlib.Path("other/ADSA_compare_runs.csv").read_text() != pathlib.Path(
        "1/ADSA_compare_runs.csv").read_text()


def test_a_list_that_is_too_long_to_solve(run):
    rows = [(f"T{k}", "", k * 8 % 97, 0, 3 + k * 5 % 11, k * 8 % 97 + 60, 3 + k * 7 % 12) for k in range(70)]
    pd.DataFrame(rows, columns=[*common.FIELDS, "computation_time"]).to_csv("tasks.csv", index=False)
    status, out, err = run("ADSA", "--compare", "--runs", "1", "--tasks", "tasks.csv", "--no-plot")
    assert (status, err) == (0, "")
    assert "The list: 70 tasks" in out
    assert re.search(r"optimal \(turnaround\): best found, gap .* of 70 deadlines missed \(at least \d+\)", out)
    assert "the exact program is limited to 60 tasks" in out
    assert pd.read_csv("results/ADSA_compare_list.csv")[DISTANCES].isna().all(axis=None)


@pytest.mark.parametrize("flags, message", [
    (["--runs", "0"], "ADSA.py: --runs: 0 is not a number of runs"),
    (["--runs", "-1"], "ADSA.py: --runs: -1 is negative"),
    (["--runs", "x"], "ADSA.py: argument --runs: invalid int value: 'x'"),
    (["--seed", "-2"], "ADSA.py: --seed: -2 is negative"),
])
def test_wrong_numbers_are_one_line(flags, message, run):
    refused(run("ADSA", "--compare", *flags), message)


def running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("kill", [os.kill, os.killpg])  # the process alone; as a terminal does, all of the foreground
def test_an_interrupt_leaves_one_line_no_file_and_no_process(kill, tmp_path):
    hard_list(tmp_path / "tasks.csv")
    (tmp_path / "tmp").mkdir()
    script = subprocess.Popen(
        [sys.executable, str(ROOT / "ADSA.py"), "--compare", "--tasks", "tasks.csv"], text=True, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=dict(os.environ, TMPDIR=str(tmp_path / "tmp")))
    solvers = []
    for _ in range(1200):
        workers = children(script.pid)
        solvers = [solver for worker in workers for solver in children(worker)]
        if solvers or script.poll() is not None:
            break
        time.sleep(0.05)
    assert solvers
    time.sleep(0.5)
    started = [*workers, *solvers, *(solver for worker in workers for solver in children(worker))]
    kill(script.pid, signal.SIGINT)
    out, err = script.communicate(timeout=60)
    assert (script.returncode, out, err) == (130, "", "ADSA.py: interrupted\n")
    time.sleep(0.2)
    assert [pid for pid in started if running(pid)] == []
    assert files(tmp_path) == ["tasks.csv"]
    assert list((tmp_path / "tmp").iterdir()) == []


# Figures --------------------------------------------------------------------------------------------------------------


def draw(monkeypatch, function, *arguments):
    """The matplotlib figure that a drawing function of common would write."""
    from matplotlib.figure import Figure
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    function("x.png", *arguments)
    drawn[0].canvas.draw()
    return drawn[0]


def test_the_bars_are_the_means_and_their_intervals(compared, monkeypatch):
    table = read(compared, "regimes")
    figure = draw(monkeypatch, common.draw_bars, ADSA.PANELS, "regime", ADSA.METHODS, table)
    means = table.set_index(["metric", "algorithm", "regime"]).sort_index()
    assert [metric for metric, _ in ADSA.PANELS] == [metric for metric in MEASURED if metric != "peak_memory_gb"]
    assert figure.get_figwidth() == 3.5
    for axes, (metric, label) in zip(figure.axes, ADSA.PANELS):
        assert axes.get_ylabel() == label
        assert re.search(r"\((s|count)\)$", label)
        bars, whiskers = axes.containers[::2], axes.containers[1::2]
        assert len(bars) == len(whiskers) == len(ADSA.METHODS)
        for name, heights, whisker in zip(ADSA.METHODS, bars, whiskers):
            expected = means.loc[metric, name].loc[REGIMES]
            assert [bar.get_height() for bar in heights] == expected["mean"].tolist()
            ends = np.array([segment[:, 1] for segment in whisker.lines[2][0].get_segments()])
            assert ends == pytest.approx(np.array([expected["mean"] - expected["interval"],
                                                   expected["mean"] + expected["interval"]]).T)
        centres = [bar.get_x() + bar.get_width() / 2 for heights in bars for bar in heights]
        assert [round(x) for x in centres] == [0, 1, 2] * len(ADSA.METHODS)
        looks = {(bar.get_facecolor(), bar.get_hatch()) for heights in bars for bar in heights}
        assert len(looks) == len({colour for colour, _ in looks}) == len({hatch for _, hatch in looks}) == 6
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == REGIMES
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ADSA.METHODS


def test_a_column_of_panels_for_each_value_of_another_key(monkeypatch):
    rows = [dict(pool=pool, model=model, metric=metric, algorithm=name, mean=k - 3, interval=math.nan)
            for k, (pool, model, metric, name) in enumerate(itertools.product(
                ["p", "q"], ["m", "n", "o"], ["cost", "time"], ["X", "Y"]))]
    table = pd.DataFrame(rows)
    figure = draw(monkeypatch, common.draw_bars, [("cost", "cost (cents)"), ("time", "time (s)")], "model", ["X", "Y"],
                  table, "pool")
    assert [axes.get_title() for axes in figure.axes] == ["p", "q", "", ""]
    for axes, (metric, pool) in zip(figure.axes, itertools.product(["cost", "time"], ["p", "q"])):
        heights = [bar.get_height() for bars in axes.containers[::2] for bar in bars]
        part = table[(table["metric"] == metric) & (table["pool"] == pool)]
        assert heights == [*part[part["algorithm"] == "X"]["mean"], *part[part["algorithm"] == "Y"]["mean"]]
        low, high = axes.get_ylim()
        assert low <= min(heights)
        assert high >= max(heights)


@pytest.mark.parametrize("picture", ["bars", "gantt"])
def test_no_text_of_a_figure_is_cut_off_or_covers_another(picture, compared, monkeypatch):
    if picture == "bars":
        figure = draw(monkeypatch, common.draw_bars, ADSA.PANELS, "regime", ADSA.METHODS, read(compared, "regimes"))
    else:
        tasks = common.read_tasks(ADSA.tasks, MODEL, DEVICE)
        charts = [(row["algorithm"], common.in_seconds(result), common.in_seconds(intervals))
                  for row, (result, intervals, _) in zip(*ADSA.measure(tasks, MODEL, DEVICE, "shared"))]
        figure = draw(monkeypatch, common.draw_gantt, charts)
        assert [axes.get_title() for axes in figure.axes] == ADSA.METHODS
        assert len({axes.get_xlim() for axes in figure.axes}) == 1
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    shown = [(text.get_text(), text.get_fontsize(), text.get_window_extent()) for text in texts
             if text.get_visible() and text.get_text()]
    assert len(shown) > 30
    width, height = figure.bbox.width, figure.bbox.height
    for name, size, box in shown:
        assert 6.5 <= size <= 8, name
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, name
    for (one, _, a), (other, _, b) in itertools.combinations(shown, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, (one, other)


# Processes ------------------------------------------------------------------------------------------------------------


def fails(k):
    if k == 2:
        raise common.UserError("the third is wrong")
    return k


def test_processes_keep_the_order_and_pass_on_what_a_user_did_wrong():
    assert common.in_parallel(math.pow, [(k, 2) for k in range(20)]) == [k * k for k in range(20)]
    with pytest.raises(common.UserError, match="the third is wrong"):
        common.in_parallel(fails, [(k,) for k in range(4)])


def test_the_script_needs_no_sibling_but_to_compare():
    """FCFS, SRTF, LLF and optimal are imported where they are compared with, and nowhere else."""
    lines = [line for line in inspect.getsource(ADSA).splitlines() if re.match(r" *(import|from) ", line)]
    assert sorted(line for line in lines if not line.startswith(" ")) == ["import common", "import heapq",
                                                                          "import math"]
    assert {line.split()[1] for line in lines if line.startswith(" ")} == {
        "FCFS", "SRTF", "LLF", "optimal", "numpy", "pandas"}
