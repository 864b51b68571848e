"""reproduce/tables.py: bootstrap, pairs, draws without a result, LaTeX, bars, further scripts; and its processes."""
import itertools
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files
from hypothesis import given
from hypothesis import strategies as st

import common
from reproduce import tables

# Statistics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 7, 30])
def test_drawings_are_with_replacement_and_always_the_same(n):
    counts = tables.drawings(n)
    assert counts.shape == (10000, n)
    assert (counts.sum(axis=1) == n).all()
    assert (counts >= 0).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=0.05)
    assert counts.var(axis=0) == pytest.approx(np.full(n, 1 - 1 / n), abs=0.06)  # of a multinomial
    tables.drawings.cache_clear()
    assert (tables.drawings(n) == counts).all()


@pytest.mark.parametrize("n", [2, 5, 30])
def test_means_and_changes_are_those_of_a_plain_loop(n):
    rng = np.random.default_rng(n)
    first, other = rng.gamma(2, 5, n), rng.gamma(3, 4, n)
    means, changed = [], []
    for counts in tables.drawings(n).tolist():
        drawn = [k for k, count in enumerate(counts) for _ in range(int(count))]
        mine, theirs = sum(first[k] for k in drawn) / n, sum(other[k] for k in drawn) / n
        means.append(mine)
        changed.append(100 * (mine / theirs - 1))
    means.sort()
    changed.sort()
    assert tables.mean(first) == pytest.approx((first.sum() / n, means[250], means[-251]))
    assert tables.change(first, other) == pytest.approx(
        (100 * (first.sum() / other.sum() - 1), changed[250], changed[-251]))


def test_the_intervals_hold_what_they_should_about_as_often_as_they_say():
    rng, cases = np.random.default_rng(1), 300
    of_mean = of_change = 0
    for _ in range(cases):
        other = rng.gamma(4, 2.5, 30)  # its mean: 10
        first = 0.8 * other + rng.normal(0, 1, 30)
        _, low, high = tables.mean(other)
        of_mean += low <= 10 <= high
        _, low, high = tables.change(first, other)
        of_change += low <= -20 <= high
    assert 0.89 < of_mean / cases < 0.98
    assert 0.89 < of_change / cases < 0.98


def test_a_change_is_that_of_pairs():
    """Runs differ far more than methods do: in pairs a difference of 1 % is certain, unlike without."""
    other = np.random.default_rng(0).gamma(0.5, 100, 30)
    _, low, high = tables.change(1.01 * other, other)
    assert low == pytest.approx(1)
    assert high == pytest.approx(1)
    _, low, high = tables.change(1.01 * other[::-1], other)
    assert low < -20
    assert high > 20


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8), st.integers(1, 20))
def test_a_change_by_a_factor_has_no_width(values, factor):
    values = np.array(values, dtype=float)
    assert tables.change(factor * values, values) == pytest.approx([100 * (factor - 1)] * 3)


def test_degenerate_runs():
    nan = pytest.approx(math.nan, nan_ok=True)
    assert tables.mean(np.array([])) == (nan, nan, nan)
    assert tables.mean(np.array([5.0])) == (5, nan, nan)
    assert tables.mean(np.full(4, 5.0)) == (5, 5, 5)
    assert tables.change(np.array([]), np.array([])) == (nan, nan, nan)
    assert tables.change(np.array([3.0]), np.array([4.0])) == (-25, nan, nan)
    assert tables.change(np.array([3.0, 1.0]), np.zeros(2)) == (nan, nan, nan)
    assert tables.change(np.zeros(3), np.full(3, 2.0)) == (-100, -100, -100)
    found, low, high = tables.change(np.ones(5), np.array([0, 0, 0, 0, 1.0]))
    assert found == 400
    assert low > 0
    assert high == math.inf  # some drawings miss the only one that is not 0
    assert tables.change(np.array([-3.0, -3.0]), np.array([-2.0, -2.0])) == (-50, -50, -50)  # less is a minus


def test_runs_without_a_value_are_left_out_in_pairs():
    values = {"X": [1, math.nan, 2, 6], "Y": [2, 4, math.nan, 6], "Z": [math.nan] * 4}
    runs = pd.DataFrame([{"case": "one", "seed": k, "algorithm": name, "gap": gap}
                         for name, gaps in values.items() for k, gap in enumerate(gaps)])
    table = tables.compare(runs, ["case"], "seed", ["X", "Y", "Z"], ["gap"]).set_index("algorithm")
    assert table["runs"].tolist() == [3, 3, 0]
    assert table["mean"][:2].tolist() == [3, 4]
    assert table["change"]["Y"] == pytest.approx(-12.5)  # 7 / 8, of the runs 0 and 3
    assert table.loc["Z", ["mean", "low", "high", "change"]].isna().all()
    assert math.isnan(table["change"]["X"])
    part = table.reset_index()
    assert tables.means(part, ["X", "Y", "Z"], {"gap": "%"})["Z"][0] == "n/a"
    assert tables.changes(part, ["X", "Y", "Z"], ["gap"])["Z"][0] == "n/a"


@pytest.mark.parametrize("cell, text", [
    ((-8.54, -19.2, -2.1), "-8.5 [-19.2, -2.1]"), ((-8.54, -19.2, 2.1), "~-8.5 [-19.2, +2.1]"),
    ((0, 0, 0), "~+0.0 [+0.0, +0.0]"), ((3, math.nan, math.nan), "+3.0 [n/a]"), ((math.nan,) * 3, "n/a"),
])
def test_a_change_whose_interval_holds_0_is_marked(cell, text):
    assert tables.show_change(*cell) == text
    assert "~: the interval holds 0" in tables.legend(30)
    assert "few" not in tables.legend(10)
    assert "9 runs are few" in tables.legend(9)


def test_draws_are_shared_and_failures_counted():
    rows = [("p", 0, "X", ""), ("p", 0, "Y", ""), ("p", 1, "X", "no bid"), ("p", 1, "Y", ""), ("p", 2, "X", "none"),
            ("p", 2, "Y", "full"), ("q", 0, "X", ""), ("q", 0, "Y", "")]
    runs = pd.DataFrame(rows, columns=["pool", "seed", "algorithm", "problem"])
    shared = tables.shared_draws(runs, ["pool", "seed"])
    assert shared[["pool", "seed"]].drop_duplicates().to_numpy().tolist() == [["p", 0], ["q", 0]]
    failed = tables.failures(runs, ["pool"])
    assert failed.to_numpy().tolist() == [["p", "X", 3, 2, "no bid"], ["p", "Y", 3, 1, "full"]]
    assert tables.failures(shared, ["pool"]).columns.tolist() == failed.columns.tolist()


# Settings, further scripts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check, arguments, message", [
    (tables.check_count, (0, "RUNS"), "RUNS: 0 is not positive"),
    (tables.check_count, (2.5, "RUNS"), "RUNS: 2.5 is not a whole number"),
    (tables.check_range, ((3, 1), "WORDS"), "WORDS: 3 is more than 1"),
    (tables.check_range, (7, "WORDS"), "WORDS: 7 is not two numbers, the least and the most"),
    (tables.check_range, ((1, "x"), "WORDS"), "WORDS: 'x' is not a number"),
    (tables.check_range, ((1, 2.5), "WORDS", True), "WORDS: 2.5 is not a whole number"),
    (tables.check_settings, ({}, "REGIMES", None), "REGIMES: {} is not a dict of settings"),
])
def test_a_wrong_setting_is_named(check, arguments, message):
    with pytest.raises(common.UserError) as error:
        check(*arguments)
    assert str(error.value) == message


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
        tables.load_scripts(["ADSA", "FCFS"], [name], "schedule")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_script_finds_what_is_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "helper_of_mine.py").write_text("VALUE = 5")
    (tmp_path / "Mine.py").write_text("import helper_of_mine\ndef schedule(tasks): return helper_of_mine.VALUE")
    methods = tables.load_scripts(["ADSA"], [str(tmp_path / "Mine.py")], "schedule")
    assert list(methods) == ["ADSA", "Mine"]
    assert tables.script(methods["Mine"]).schedule([]) == 5


# Tables and figures ---------------------------------------------------------------------------------------------------


def check_latex(text, count):
    """That a LaTeX file has so many whole tables."""
    found = re.findall(r"\\begin{tabular}{(lr*)}\n\\toprule\n(.*?)\\bottomrule\n\\end{tabular}", text, re.DOTALL)
    assert len(found) == text.count(r"\begin{table}") == text.count(r"\end{table}") == count
    for columns, body in found:
        rows = [row for row in body.splitlines() if row != r"\midrule"]
        assert len(rows) > 1
        for row in rows:
            assert row.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    body = text.split("\n", 1)[1]  # after the comment that names the package
    assert not re.search(r"(?<!\\)[%#_~]", body)
    assert text.isascii()


def test_every_letter_is_written_for_latex(tmp_path):
    table = pd.DataFrame({"a_b": ["50 % & more", "~+1.0 [-1.0, +3.0]"], "c": [1.5, "2 \u00b1 3"]})
    tables.latex_writer([("Cost in $ {all} #1 \\ ^", table)])(tmp_path / "x.tex")
    text = (tmp_path / "x.tex").read_text()
    check_latex(text, 1)
    for part in (r"a\_b & c \\", r"50 \% \& more & 1.500 \\", r"$\sim$+1.0 [-1.0, +3.0] & 2 $\pm$ 3 \\",
                 r"\caption{Cost in \$ \{all\} \#1 \textbackslash{} \^{}}"):
        assert part in text


def draw(monkeypatch, function, *arguments):
    """The matplotlib figure that a drawing function would write."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    function("x.png", *arguments)
    FigureCanvasAgg(drawn[0]).draw()
    return drawn[0]


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
def test_the_bars_are_the_means_and_their_intervals(count, monkeypatch):
    groups, panels = ["g", "h", "i"], [("cost", "cost (cents)"), ("time", "time (s)")]
    who = [f"Method {k}" for k in range(count)]
    rows = [dict(regime=regime, metric=metric, algorithm=name, mean=k + 5.5, low=k + 5, high=k + 7)
            for k, (regime, metric, name) in enumerate(itertools.product(groups, ["cost", "time"], who))]
    table = pd.DataFrame(rows)
    figure = draw(monkeypatch, tables.draw_bars, panels, "regime", who, table)
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


def test_a_column_of_panels_for_each_value_of_another_key(monkeypatch):
    rows = [dict(pool=pool, model=model, metric=metric, algorithm=name, mean=k - 3, low=math.nan, high=math.nan)
            for k, (pool, model, metric, name) in enumerate(itertools.product(
                ["p", "q"], ["m", "n", "o"], ["cost", "time"], ["X", "Y"]))]
    table = pd.DataFrame(rows)
    figure = draw(monkeypatch, tables.draw_bars, [("cost", "cost (cents)"), ("time", "time (s)")], "model", ["X", "Y"],
                  table, "pool")
    assert [axes.get_title() for axes in figure.axes] == ["p", "q", "", ""]
    for axes, (metric, pool) in zip(figure.axes, itertools.product(["cost", "time"], ["p", "q"])):
        heights = [bar.get_height() for bars in axes.containers[::2] for bar in bars]
        part = table[(table["metric"] == metric) & (table["pool"] == pool)]
        assert heights == [*part[part["algorithm"] == "X"]["mean"], *part[part["algorithm"] == "Y"]["mean"]]
        low, high = axes.get_ylim()
        assert low <= min(heights)
        assert high >= max(heights)


# Processes ------------------------------------------------------------------------------------------------------------


def fails(k):
    if k == 2:
        raise common.UserError("the third is wrong")
    return k


def dies(k):
    if k == 1:
        os._exit(3)
    return k


def leaves(k):
    """SIGTERM while a solver runs becomes this."""
    sys.exit(143)


def large(k):
    return bytes(3000000 + k)


@pytest.mark.parametrize("cores", [1, 2, None])
def test_results_come_in_order(cores, monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert tables.parallel(math.pow, [(k, 2) for k in range(20)]) == [k * k for k in range(20)]
    found = tables.parallel(large, [(k,) for k in range(4)])
    assert [len(result) for result in found] == [3000000 + k for k in range(4)]
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tables.parallel(math.pow, [(k, 2) for k in range(4)])
    out, err = capsys.readouterr()
    assert (out, err.count("\r"), err.count("\n")) == ("", 4, 1)
    assert err.endswith(f"\r[{'#' * 40}] 4 of 4\n")


@pytest.mark.parametrize("function, message", [
    (fails, "the third is wrong"), (dies, "a process that ran one of the cases has ended"),
    (leaves, "a process that ran one of the cases has ended")])
def test_what_goes_wrong_in_a_process_is_one_line_and_leaves_no_file(function, message, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(common.UserError, match=message):
        tables.parallel(function, [(k,) for k in range(4)])
    assert list(tmp_path.iterdir()) == []


def processes():
    """{process: (parent, process group)} of all that run."""
    found = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent), int(group)
    return found


def descendants(ancestor, all_of):
    mine = [process for process, (parent, _) in all_of.items() if parent == ancestor]
    return mine + [other for process in mine for other in descendants(process, all_of)]


def stop(command, folder, is_up, kill, number):
    """Starts a command in a group of its own, ends it with the signal once is_up(descendants), and waits until all that
    it had started has ended. Returns its exit status, output and error. Its temporary files go to folder/tmp."""
    (folder / "tmp").mkdir()
    script = subprocess.Popen(command, text=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True, env=dict(os.environ, TMPDIR=str(folder / "tmp")))
    for _ in range(1200):
        now = processes()
        started = descendants(script.pid, now)
        if is_up(started) or script.poll() is not None:
            break
        time.sleep(0.05)
    assert script.poll() is None
    groups = {now[process][1] for process in started}
    kill(script.pid, number)
    out, err = script.communicate(timeout=60)
    left = started
    for _ in range(100):
        left = [process for process, (_, group) in processes().items() if process in started or group in groups]
        if not left:
            break
        time.sleep(0.05)
    assert left == []
    return script.returncode, out, err


SIGNALS = [(os.kill, signal.SIGINT), (os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM), (os.kill, signal.SIGKILL)]
linux = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@linux
@pytest.mark.parametrize("kill, number", SIGNALS)
def test_whatever_ends_the_parent_leaves_no_process_and_no_file(kill, number, tmp_path):
    (tmp_path / "many.py").write_text(textwrap.dedent(f"""
        import subprocess, sys, tempfile, time
        sys.path.insert(0, {str(ROOT)!r})
        import common
        from reproduce import tables

        def job(k):
            open(tempfile.mkdtemp() + "/file", "w").close()
            subprocess.run(["sleep", "100"])

        if __name__ == "__main__":
            common.run(lambda name: tables.parallel(job, [(k,) for k in range(10)]), "many")
        """))
    workers = min(10, os.cpu_count())
    status, out, err = stop([sys.executable, "many.py"], tmp_path, lambda started: len(started) == 2 * workers, kill,
                            number)
    assert files(tmp_path) == ["many.py"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert out == ""
    if number == signal.SIGINT:
        assert status == 130
        assert err == "many: interrupted\n"
    else:
        assert err.count("\n") <= 1
        assert "Traceback" not in err
