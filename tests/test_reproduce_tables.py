"""reproduce/tables.py: cells, further scripts, what is written, bars."""
import itertools
import math
import pathlib
import re
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import files

import common
from reproduce import stats, tables

# Cells ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell, text", [
    ((-8.54, -19.2, -2.1), "-8.5 [-19.2, -2.1]"), ((-8.54, -19.2, 2.1), "~-8.5 [-19.2, +2.1]"),
    ((0, 0, 0), "~+0.0 [+0.0, +0.0]"), ((3, math.nan, math.nan), "+3.0 [n/a]"), ((math.nan,) * 3, "n/a"),
])
def test_a_change_whose_interval_holds_0_is_marked(cell, text):
    assert tables.show_change(*cell) == text
    assert "~: the interval holds 0" in tables.legend(30)
    assert "few" not in tables.legend(10)
    assert "9 runs are few" in tables.legend(9)


def test_a_cell_of_no_runs_says_so():
    runs = pd.DataFrame({"case": "one", "seed": [0, 1, 0, 1], "algorithm": ["X", "X", "Z", "Z"],
                         "gap": [1, 2, math.nan, math.nan]})
    table = stats.compare(runs, ["case"], "seed", ["X", "Z"], ["gap"])
    assert tables.means(table, ["X", "Z"], {"gap": "%"})["Z"][0] == "n/a"
    assert tables.changes(table, ["X", "Z"], ["gap"])["Z"][0] == "n/a"


# Further scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, text, message", [
    ("Mine.py", "def other(tasks): pass", "--also Mine.py: has no function schedule"),
    ("Mine.py", "schedule = 3", "--also Mine.py: has no function schedule"),
    ("Mine.py", "import nothing_of_this_name", "--also Mine.py: ModuleNotFoundError: No module named"),
    ("Mine.py", "def (", "--also Mine.py: SyntaxError: invalid syntax"),
    ("Mine.py", "import sys; sys.exit(3)", "--also Mine.py: SystemExit: 3"),
    ("FCFS.py", "def schedule(tasks): pass", "--also FCFS.py: there is a method FCFS already"),
    ("Mine.txt", "", "--also Mine.txt: not a Python script (.py)"),
    ("None.py", None, "--also None.py: FileNotFoundError"),
])
def test_a_script_that_cannot_be_compared_is_named(name, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    if text is not None:
        pathlib.Path(name).write_text(text)
    with pytest.raises(common.UserError) as error:
        tables.load_scripts({"ADSA": "ADSA", "FCFS": "FCFS"}, [name], "schedule")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_script_finds_what_is_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "helper_of_mine.py").write_text("VALUE = 5")
    (tmp_path / "Mine.py").write_text("import helper_of_mine\ndef schedule(tasks): return helper_of_mine.VALUE")
    methods = tables.load_scripts({"ADSA": "ADSA"}, [str(tmp_path / "Mine.py")], "schedule")
    assert list(methods) == ["ADSA", "Mine"]
    assert tables.script(methods["Mine"]).schedule([]) == 5


# Tables and figures ---------------------------------------------------------------------------------------------------


def but_latex(folder):
    """The files of a folder, without the LaTeX tables, whose number depends on what was run."""
    return [name for name in files(folder) if not name.endswith(".tex")]


def check_latex(folder, name, count):
    """That a script has written so many LaTeX files, each a whole table with a label of its own."""
    paths = list(pathlib.Path(folder).glob(f"{name}_*.tex"))
    assert len(paths) == count
    labels = set()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        kind = re.search(r"\\begin{(table\*?)}", text).group(1)
        assert text.endswith(f"\\end{{{kind}}}\n")
        labels.add(re.search(r"\\label{(.*?)}", text).group(1))
        found = re.findall(r"\\begin{tabular}{([^\n]*)}\n\\toprule\n(.*?)\\bottomrule\n\\end{tabular}", text, re.DOTALL)
        assert len(found) == text.count(r"\begin{tabular}") >= 1
        for kinds, body in found:
            number = len(re.sub(r">{.*?}p{.*?}", "l", kinds))
            rows = [row for row in body.splitlines() if row != r"\midrule"]
            assert len(rows) > 1
            for row in rows:
                assert row.endswith(r" \\")
                assert len(re.findall(r"(?<!\\)&", row)) == number - 1
        body = text.split("\n", 1)[1]  # after the comment that names the packages
        assert not re.search(r"(?<!\\)[%#_~]", body)
        assert not re.search(r"[ {\[]-\d", body)
        assert text.isascii()
    assert len(labels) == count


def drawn(function, *arguments):
    """The figure that a drawing function returns, as it is written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    figure = common.try_figure(function, *arguments)
    FigureCanvasAgg(figure).draw()
    return figure


def check_texts(figure, least):
    """That no text of a figure (of at least so many) is small, cut off, or covers another."""
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
    width, height = figure.bbox.width, figure.bbox.height
    for name, size, box in shown:
        assert 6.5 <= size <= 8, name
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, name
    for (one, _, a), (other, _, b) in itertools.combinations(shown, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, (one, other)


@pytest.mark.parametrize("count", [4, 9])
def test_the_bars_are_the_means_and_their_intervals(count):
    groups, panels = ["g", "h", "i"], [("cost", "cost (cents)"), ("time", "time (s)")]
    who = [f"Method {k}" for k in range(count)]
    rows = [dict(regime=regime, metric=metric, algorithm=name, mean=k + 5.5, low=k + 5, high=k + 7)
            for k, (regime, metric, name) in enumerate(itertools.product(groups, ["cost", "time"], who))]
    table = pd.DataFrame(rows)
    figure = drawn(tables.draw_bars, panels, "regime", who, table)
    means = table.set_index(["metric", "algorithm", "regime"]).sort_index()
    for axes, (metric, label) in zip(figure.axes, panels):
        assert axes.get_ylabel() == label
        bars, whiskers = axes.containers[::2], axes.containers[1::2]
        assert len(bars) == len(whiskers) == count
        for name, heights, whisker in zip(who, bars, whiskers):
            expected = means.loc[metric, name].loc[groups]
            assert [bar.get_height() for bar in heights] == expected["mean"].tolist()
            ends = np.array([segment[:, 1] for segment in whisker.lines[2][0].get_segments()])
            assert ends == pytest.approx(expected[["low", "high"]].to_numpy())
        centres = [bar.get_x() + bar.get_width() / 2 for heights in bars for bar in heights]
        assert [round(x) for x in centres] == [0, 1, 2] * count
        looks = {(bar.get_facecolor(), bar.get_hatch()) for heights in bars for bar in heights}
        assert len(looks) == count
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == groups
    assert [text.get_text() for text in figure.legends[0].get_texts()] == who
    check_texts(figure, 15)


def test_looks_differ():
    assert len({tables.look(k) for k in range(36)}) == 36
    assert len({tables.look(k)[0] for k in range(6)}) == len({tables.look(k)[1] for k in range(6)}) == 6


def test_a_title_and_means_below_0():
    rows = [dict(model=model, metric="cost", algorithm=name, mean=k - 2, low=math.nan, high=math.nan)
            for k, (model, name) in enumerate(itertools.product("mn", "XY"))]
    figure = drawn(tables.draw_bars, [("cost", "cost (cents)")], "model", ["X", "Y"], pd.DataFrame(rows), "here")
    axes, = figure.axes
    assert axes.get_title() == "here"
    assert axes.get_ylim()[0] <= -2
    assert axes.lines  # that of 0


def test_a_publication_writes_pdf_where_it_is_asked_for(tmp_path, capsys):
    figure = common.new_figure(2)
    table = pd.DataFrame({"a": ["x"], "b": [1]})
    parts = ["a line", ("A caption", table), ("More", table, 1)]
    tables.publish("mine", str(tmp_path), parts, {"table": table}, {"": figure, "_none": None}, "pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.pdf", "mine.png", "mine_a_caption.tex", "mine_more.tex", "mine_table.csv"]
    out = capsys.readouterr().out
    assert out.startswith("a line\n\nA caption\na  b\nx  1\n\nMore\n")
    assert out.endswith(f"and 2 tables in {tmp_path}/mine_*.tex\n")
