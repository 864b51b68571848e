"""reproduce/study.py, and what all studies share: a tiny run of each, --from, wrong flags, methods of one's own."""
import functools
import itertools
import math
import pathlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, edited, figure_of, files, refused, run_here
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import common
import FCIM
from reproduce import stats, study

pytestmark = pytest.mark.usefixtures("little_search")

# Every script of reproduce/ that ends with study.run, and, where its cases are many, settings for a tiny run.
STUDIES = [path.stem for path in sorted((ROOT / "reproduce").glob("*.py")) if '    study.run("' in path.read_text()]
TINY = {"allocation": dict(MODELS=["GPT-Neo 1.3B"], POOLS=["campus"]), "batching": dict(TASKS=3, BATCH=(1, 4)),
        "devices": dict(TASKS=12, MOST=3), "incentives": dict(MODELS=["GPT-Neo 1.3B"], POOLS=["campus"]),
        "load": dict(TASKS=20, LOADS=(0.5, 1.2)), "published": dict(MODELS=["GPT-Neo 1.3B"], POOLS=["campus"]),
        "scheduling": dict(TASKS=5, LIMIT=2), "sensitivity": dict(SWEEPS={"devices": [6, 8], "MARGIN": [1, 1.6]}),
        "tokens": dict(POOLS=["campus"]), "uncertainty": dict(TASKS=5, LOADS=(0.9, 1.2), SIGMAS=(0, 1)),
        "whole_system": dict(TASKS=6, MODEL="'GPT-Neo 1.3B'", LOADS={"overload": 1.3})}
MORE = {"incentives": ["gains_runs", "curves_runs"], "scheduling": ["list_runs"]}
FIGURES = ROOT / "reproduce" / "figures"
OWN = "from FCFS import schedule\nfrom FCIM import allocate\n"
LAZY = """import FCFS
def schedule(tasks): return FCFS.schedule(tasks)[1:]
def allocate(**_): return [dict(devices=[0], layers=1)], []
"""


def tiny(name):
    """The path of a copy of the study with less to do."""
    return pathlib.Path(edited(f"reproduce/{name}", to=f"{name}.py", **TINY.get(name, {})))


def has_flag(name, flag):
    return f"[{flag} " in run_here(ROOT / "reproduce" / f"{name}.py", "--help")[1]


@pytest.mark.parametrize("name", STUDIES)
def test_a_tiny_run_and_the_same_of_what_it_has_written(name, monkeypatch):
    script = tiny(name)
    status, out, err = run_here(script, "--runs", 2, "--out", "one", "--no-plot")
    assert (status, err) == (0, "")
    assert not re.search(r"\bnan\b", out)
    written = files("one")
    assert {file[-4:] for file in written} == {".csv", ".tex"}
    runs = pd.read_csv(f"one/{name}_runs.csv")
    assert set(runs["run" if "run" in runs else "seed"]) == {0, 1}

    figures = {}
    save = Figure.savefig

    def savefig(figure, path, **options):
        figures[str(path)] = figure
        save(figure, path, **options)
    monkeypatch.setattr(Figure, "savefig", savefig)
    kinds = ["pdf", "png"] if name == "devices" else ["png"]  # each draws all figures anew
    again = run_here(script, "--from", "one", "--out", "two", "--format", kinds[0])
    assert (again[0], again[1].split("\nwritten")[0], again[2]) == (0, out.split("\nwritten")[0], "")
    same = [file for file in written if not file.endswith("runs.csv")]
    drawn = [file[:-4] for file in files("two") if file.endswith(".png")]
    assert files("two") == sorted([*same, *(f"{file}.{kind}" for file in drawn for kind in kinds)])
    for file in same:
        content = pathlib.Path("two", file).read_text(encoding="utf-8")
        assert content == pathlib.Path("one", file).read_text(encoding="utf-8")
        if file.endswith(".tex"):
            check_latex(content)
    assert len(figures) == len(kinds) * len(drawn) > 0
    for figure in set(figures.values()):
        check_texts(figure)


@pytest.mark.parametrize("name", STUDIES)
def test_the_first_case_gives_the_stored_rows(name, monkeypatch):
    """But for those of HexGen, which searches little here, and of the optima, which are not unique."""
    def run_first(run_case, cases, done):
        found.append(run_case(*cases[0]))
        raise common.UserError("that is enough")

    found = []
    monkeypatch.setattr(study, "parallel", run_first)
    refused(run_here(ROOT / "reproduce" / f"{name}.py"), "that is enough")
    for what, rows in zip(["runs", *MORE.get(name, [])], found[0] if name in MORE else found):
        stored = study.read_runs(FIGURES, f"{name}_{what}.csv")
        fresh = pd.DataFrame(rows, columns=list(stored)).fillna(np.nan)
        fresh, stored = (table[~table.isin(["HexGen", "optimal (makespan)", "optimal (turnaround)"]).any(axis=1)]
                         for table in (fresh, stored[:len(fresh)]))
        pd.testing.assert_frame_equal(fresh, stored, check_dtype=False, rtol=1e-9)


@pytest.mark.parametrize("name", STUDIES)
def test_a_method_of_ones_own(name):
    """A copy under another name has the same metrics; one that leaves a task or a layer out is named."""
    if not has_flag(name, "--also"):
        pytest.skip("compares no methods")
    script = tiny(name)
    pathlib.Path("Mine.py").write_text(OWN)
    assert run_here(script, "--runs", 1, "--also", "Mine.py", "--no-plot")[0] == 0
    runs = pd.read_csv(f"results/{name}_runs.csv")
    mine = runs[runs["algorithm"] == "Mine"].drop(columns="algorithm").reset_index(drop=True)
    assert len(mine)
    copied = "FCFS" if "FCFS" in set(runs["algorithm"]) else "FCIM"
    theirs = runs[runs["algorithm"] == copied].drop(columns="algorithm").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, theirs)

    if name == "uncertainty":
        return  # it asks for the next task alone
    shutil.rmtree("results")
    pathlib.Path("Lazy.py").write_text(LAZY)
    refused(run_here(script, "--runs", 1, "--also", "Lazy.py"), "Lazy: the ")


@pytest.mark.parametrize("name", ["allocation", "device_loss", "incentives", "sensitivity", "tokens", "whole_system"])
def test_without_an_allocation_one_line_says_why(name, monkeypatch):
    """FCIM finds none of any draw. The runs are there, and nothing is made of them."""
    monkeypatch.setattr(FCIM, "BUDGET", 0)
    monkeypatch.setattr(FCIM, "allocate", functools.partial(FCIM.allocate, budget=0))
    status, _, err = run_here(tiny(name), "--runs", 1, "--no-plot")
    assert (status, err.count("\n")) == (1, 1)
    assert re.search("no draw on which every method finds an allocation: no valid bid|none of the auctions has", err)
    assert files("results") == [f"{name}_{what}.csv" for what in sorted(["runs", *MORE.get(name, [])])]
    for what in MORE.get(name, []):
        found = pd.read_csv(f"results/{name}_{what}.csv").filter(["gain", "utility"])
        assert len(found.columns) == 1 and found.isna().all(axis=None)


@pytest.mark.parametrize("name", STUDIES)
def test_wrong_flags_are_told_in_one_line(name):
    pathlib.Path(f"{name}_runs.csv").write_text("algorithm,seed\nFCIM,0\n")
    for flag, *more, message in [
            ("--runs", "0", "--runs: 0 is not "), ("--seed", "1.5", "--seed: "),
            ("--from", "nowhere", f"nowhere/{name}_runs.csv: No such file"),
            ("--from", ".", f"{name}_runs.csv: has no column "),
            ("--from", ".", "--runs", "3", "--runs: has no effect with --from"), ("--link", "rope", "link 'rope'"),
            ("--pool", "moon", "pool 'moon'"), ("--device", "abacus", "device 'abacus'"),
            ("--model", "none", "model 'none'"), ("--tasks", "none.csv", "No such file or directory: 'none.csv'"),
            ("--also", "none.py", "--also none.py: FileNotFoundError")]:
        if has_flag(name, flag):
            refused(run_here(ROOT / "reproduce" / f"{name}.py", flag, *more), message)


# Cells and tables -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cell, text", [
    ((-8.54, -19.2, -2.1), "-8.5 [-19.2, -2.1]"), ((-8.54, -19.2, 2.1), "~-8.5 [-19.2, +2.1]"),
    ((-0.01, -0.02, 0), "+0.0"), ((3, math.nan, math.nan), "+3.0"), ((math.nan,) * 3, "n/a")])
def test_a_change_whose_interval_holds_0_is_marked(cell, text):
    assert study.show_change(*cell) == text


@pytest.mark.parametrize("cell, text", [
    ((123.456, 120, 128), "123.5 \u00b1 4.0"), ((12.3456, 12, 13), "12.35 \u00b1 0.50"),
    ((0.5, 0.4, 0.6), "0.500 \u00b1 0.100"), ((3, math.nan, math.nan), "3.000"), ((math.nan,) * 3, "n/a")])
def test_a_mean_has_half_of_its_interval(cell, text):
    assert study.show_mean(*cell) == text


def test_tables_have_a_row_for_each_setting():
    runs = pd.DataFrame({"case": [0.5] * 4, "seed": [0, 1, 0, 1], "algorithm": ["X", "X", "Z", "Z"],
                         "gap": [1, 3, math.nan, math.nan], "cost": [3, 3, 4, 4]})
    table = stats.compare(runs, ["case"], "seed", ["X", "Z"], ["gap", "cost"])
    means = study.means(table, ["case", "metric"], ["X", "Z"], {"gap": "%", "cost": ""})
    assert means.to_numpy().tolist() == [["0.5", "gap (%)", "2.000 \u00b1 1.000", "n/a"],
                                         ["0.5", "cost", "3.000 \u00b1 0.000", "4.000 \u00b1 0.000"]]
    changes = study.changes(table, ["metric"], ["X", "Z"])
    assert changes.to_numpy().tolist() == [["gap", "n/a"], ["cost", "-25.0"]]
    assert "few" not in study.legend(10)
    assert "9 runs are few" in study.legend(9)


def test_a_method_of_ones_own_has_its_changes_against_each():
    runs = pd.DataFrame({"load": [0.5] * 6, "run": [0, 1] * 3, "algorithm": ["ADSA"] * 2 + ["FCFS"] * 2 + ["Mine"] * 2,
                         "cost": [2, 2, 5, 5, 4, 4]})
    (name, caption, table), = study.own_changes(runs, ["load"], "run", ["ADSA", "FCFS", "Mine"], ["cost"])
    assert (name, caption) == ("Mine_by_load", "Change of Mine in % against each")
    assert table.to_dict("records") == [{"load": "0.5", "metric": "cost", "ADSA": "+100.0", "FCFS": "-20.0"}]
    assert study.own_changes(runs[:4], ["load"], "run", ["ADSA", "FCFS"], ["cost"]) == []


def test_runs_are_read_as_they_were_written(tmp_path):
    """A column of texts without a text is no number."""
    written = pd.DataFrame({"gap": [0.1, 2 / 3], "seed": [0, 1], "problem": ""})
    written.to_csv(tmp_path / "runs.csv", index=False)
    assert study.read_runs(tmp_path, "runs.csv", ["gap"]).to_dict("list") == written.to_dict("list")
    (tmp_path / "odd.csv").write_bytes(b"a,b\n\xff,1\n")
    (tmp_path / "empty.csv").write_text("gap,problem\n")
    for file, message in (("odd.csv", "not a CSV file"), ("empty.csv", "has no rows"), ("none.csv", "No such file")):
        with pytest.raises(common.UserError, match=f"{file}: {message}"):
            study.read_runs(tmp_path, file)


@pytest.mark.parametrize("name, text, message", [
    ("Mine.py", "def other(tasks): pass", "has no function schedule"),
    ("Mine.py", "import nothing_of_this_name", "ModuleNotFoundError: No module named"),
    ("Mine.py", "def (", "SyntaxError: invalid syntax"), ("Mine.py", "import sys; sys.exit(3)", "SystemExit: 3"),
    ("FCFS.py", "def schedule(tasks): pass", "there is a method FCFS already")])
def test_a_script_that_cannot_be_compared_is_named(name, text, message, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    study.script.cache_clear()
    pathlib.Path(name).write_text(text)
    with pytest.raises(common.UserError) as error:
        study.further_methods([name], {"ADSA": "ADSA", "FCFS": "FCFS"})
    assert str(error.value).startswith(f"--also {name}: {message}")
    assert "\n" not in str(error.value)


def test_a_list_at_a_load_keeps_its_first_arrival_and_the_times_until_deadlines():
    tasks = pd.DataFrame({"arrival_time": [7, 5, 15], "computation_time": [20, 10, 10], "deadline": [20, 9, 30]})
    moved = study.at_load(tasks, 0.5)  # 40 of computation in 80
    assert moved["arrival_time"].tolist() == [21, 5, 85]
    assert moved["deadline"].tolist() == [34, 9, 100]


# LaTeX ----------------------------------------------------------------------------------------------------------------
def check_latex(text):
    """That a LaTeX file is one whole table, each row with as many cells as columns, all letters written for LaTeX."""
    body = text.split("\n", 1)[1]  # after the comment that names the packages
    kind, kinds = re.search(r"\\begin{(tabular|longtable)}{([lr]+)}\n", body).groups()
    rows = [row for row in re.search(rf"\\toprule\n(.*?)\\bottomrule\n\\end{{{kind}}}", body, re.S)[1].splitlines()
            if row != r"\midrule"]
    assert len(rows) > 1
    for row in rows:
        assert row.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", row)) == len(kinds) - 1
    assert body.count(r"\caption{") == body.count(r"\label{tab:") == 1
    assert body.count("{") == body.count("}")
    assert not re.search(r"(?<!\\)[#_~]|(?<!\\|{)%|[ {\[]-\d", body)
    assert text.isascii()


def test_every_letter_is_written_for_latex():
    odd = pd.DataFrame({"a_b": ["50 % & more", "~+1.0 [-1.0, +3.0]", "8-bit GPT-3"], "c": [1.5, "-2 \u00b1 3", "-inf"]})
    text = study.in_latex(odd, "Cost in $ {all} #1 \\ ^ * - 1", "mine_of_all")
    check_latex(text.replace(r"\{", "").replace(r"\}", ""))
    for part in (r"a b & c \\", r"50 \% \& more & 1.500 \\", r"$\sim$+1.0 {[}$-$1.0, +3.0] & $-$2 $\pm$ 3 \\",
                 r"8-bit GPT-3 & $-$inf \\", r"\label{tab:mine-of-all}",
                 r"\caption{Cost in \$ \{all\} \#1 \textbackslash{} \^{} {*} - 1}"):
        assert part in text
    assert r"\begin{longtable}{lr}" in study.in_latex(pd.concat([odd] * 18), "long", "long")


# Figures --------------------------------------------------------------------------------------------------------------
def check_texts(figure, least=8):
    """That no text of a figure (of at least so many) is small, cut off, or covers another."""
    figure.set_dpi(100)
    FigureCanvasAgg(figure).draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    shown = [(text.get_text(), text.get_fontsize(), text.get_window_extent()) for text in texts
             if text.get_visible() and text.get_text()]
    assert len(shown) >= least
    assert figure.get_figwidth() == 3.5
    for name, size, box in shown:
        assert 6.5 <= size <= 8, name
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, name
    for (one, _, a), (other, _, b) in itertools.combinations(shown, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, (one, other)


PANELS = {"cost": "cost (cents)", "time": "time (s)"}


def table_of(who, settings, key):
    rows = [{key: value, "metric": metric, "algorithm": name, "mean": 2 * k + j, "low": 2 * k + j - 0.5,
             "high": 2 * k + j + 1.5}
            for k, name in enumerate(who) for j, (value, metric) in enumerate(itertools.product(settings, PANELS))]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("who", [["FCIM", "HexGen", "PipeDream", "PipeEdge"], [f"Method {k}" for k in range(9)]])
def test_bars_are_the_means_and_their_intervals(who):
    groups = ["g", "h", "i"]
    table = table_of(who, groups, "regime")
    figure = figure_of(study.draw_bars, PANELS, "regime", who, table, "here")
    check_texts(figure, 15)
    means = table.set_index(["metric", "algorithm"]).sort_index()
    for axes, (metric, label) in zip(figure.axes, PANELS.items()):
        assert axes.get_ylabel() == label
        for name, bars, whiskers in zip(who, axes.containers[::2], axes.containers[1::2]):
            expected = means.loc[(metric, name)]
            assert [bar.get_height() for bar in bars] == expected["mean"].tolist()
            ends = np.array([segment[:, 1] for segment in whiskers.lines[2][0].get_segments()])
            assert ends == pytest.approx(expected[["low", "high"]].to_numpy())
            assert [round(bar.get_x() + bar.get_width() / 2) for bar in bars] == [0, 1, 2]
    assert figure.axes[0].get_title() == "here"
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == groups
    assert [text.get_text() for text in figure.legends[0].get_texts()] == who


@pytest.mark.parametrize("columns, log", [(None, ()), ("pool", ["load", "time"])])
def test_lines_are_the_means(columns, log):
    who, loads = ["ADSA", "FCFS", "Mine"], [1, 2, 8]
    table = table_of(who, loads, "load")
    table = pd.concat([table.assign(pool="a"), table.assign(pool="b")]) if columns else table
    figure = figure_of(study.draw_lines, PANELS, "load", who, table, columns, log)
    check_texts(figure, 10)
    assert len(figure.axes) == (4 if columns else 2)
    for k, axes in enumerate(figure.axes):
        metric = list(PANELS)[k * len(PANELS) // len(figure.axes)]
        for name, line in zip(who, axes.lines):
            mean = table[(table["algorithm"] == name) & (table["metric"] == metric)]["mean"].tolist()
            assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == (loads, mean[:3])
            assert line.get_color() == study.looks(who)[name][0]
