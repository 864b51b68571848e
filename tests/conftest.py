"""What the tests share: hypothesis draws the same cases every run, scripts run as a user runs them, small pipelines."""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process a core: more threads would only get in the way

import contextlib
import io
import pathlib
import re
import runpy
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import common
import HexGen

ROOT = pathlib.Path(common.__file__).parent
SCHEDULERS = ["FCFS", "SRTF", "LLF", "ADSA", "optimal"]
ALLOCATORS = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
settings.register_profile("same cases every run", deadline=None, derandomize=True, database=None)
settings.load_profile("same cases every run")
SEARCH = HexGen.allocate.__defaults__
LITTLE = {"POPULATION": 4, "CHILDREN": 4, "TRIES": 2, "STALE": 1, "PATIENCE": 1}  # a search of HexGen's, soon over
IS_THOROUGH = "THOROUGH" in os.environ
thorough = pytest.mark.skipif(not IS_THOROUGH, reason="takes long: runs with THOROUGH=1 in the environment")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no worker is left alone with one of them."""
    longest = ["test_readme.py", "test_scripts.py", "test_real_ranks.py", "test_reproduce_whole_system.py"]
    items.sort(key=lambda item: item.path.name not in longest)


def part_of(number, part=5):
    """How many of so many random cases are drawn: all with THOROUGH=1 in the environment, else the first fifth, or of
    costly ones a smaller part."""
    return number if IS_THOROUGH else number // part


@pytest.fixture(scope="session", autouse=True)
def coarse():
    """Figures of few pixels, in this process: what is drawn is the same."""
    from matplotlib.figure import Figure
    save = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **options: save(figure, path, **{"dpi": 40, **options}))
        yield


@pytest.fixture(scope="module")
def little_search():
    """HexGen as imported, by a command of reproduce perhaps, searches little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HexGen.allocate, "__defaults__", (HexGen.PLAN, *LITTLE.values()))
        yield


@pytest.fixture
def whole_search(monkeypatch):
    """Where the rest of a file has little_search: HexGen as it is."""
    monkeypatch.setattr(HexGen.allocate, "__defaults__", SEARCH)


def run_here(path, *arguments):
    """Runs a script in this process and folder; returns exit status, standard output and error."""
    def start():
        sys.path.insert(0, str(path.parent))
        runpy.run_path(str(path), run_name="__main__")
    return outcome(start, [path, *arguments])


def run_main(main, name, *arguments):
    """The same of the main of a module as it is imported, some of its settings patched perhaps."""
    return outcome(lambda: common.run(main, name), [name, *arguments])


def outcome(start, argv):
    """Exit status, standard output and error of start(), for a command line."""
    handler = signal.getsignal(signal.SIGTERM)
    out = io.StringIO()
    err = io.StringIO()
    status = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "path", sys.path[:])
        patch.setattr(sys, "argv", list(map(str, argv)))
        try:
            start()
        except SystemExit as stop:
            status = stop.code or 0
        finally:
            signal.signal(signal.SIGTERM, handler)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    """Every test runs in an empty folder: that of the project may hold results."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run():
    """Runs a script in this process; returns exit status, standard output and error."""
    def run(script, *arguments):
        return run_here(pathlib.Path(script) if script.endswith(".py") else ROOT / f"{script}.py", *arguments)
    return run


def script(name):
    """The text of a script at the top."""
    return (ROOT / f"{name}.py").read_text(encoding="utf-8")


def edited(name, *changes, to="mine.py", **values):
    """A copy of a script, some of its text replaced (old, new), and settings, or tasks, bids and links, at other values
    (given as text)."""
    text = script(name)
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    for key, value in values.items():
        line = re.compile(rf"^{key} = (\[\n.*?^\]|.*?)$", re.MULTILINE | re.DOTALL)
        text, count = line.subn(lambda _, key=key, value=value: f"{key} = {value}", text)
        assert count == 1
    pathlib.Path(to).write_text(text, encoding="utf-8")
    return to


def quick(name):
    """The script, or, of HexGen, a copy of the same name that searches little."""
    return edited("HexGen", to="HexGen.py", **LITTLE) if name == "HexGen" else name


def files(folder="."):
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*") if path.is_file())


def metrics(script, folder="results"):
    return pd.read_csv(pathlib.Path(folder) / f"{script}_metrics.csv").iloc[0]


def figure_of(draw, *arguments):
    """A figure, drawn as common.write_figure draws it."""
    import matplotlib
    with matplotlib.rc_context(common.STYLE):
        return draw(*arguments)


def refused(outcome, message):
    status, out, err = outcome
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert out == ""
    assert not pathlib.Path("results").exists()


# Lists of tasks (arrival, computation, trans, deadline) in whole ticks, for the schedulers ---------------------------


def task_table(case, unit=1):
    """Task table of a case in ticks of `unit` microseconds."""
    columns = np.array(case, dtype="int64").reshape(-1, 4).T * unit
    return pd.DataFrame({"label": [f"T{j}" for j in range(len(case))], **dict(zip(
        ("arrival_time", "computation_time", "trans_time", "deadline"), columns)), "kv_bytes": range(1, len(case) + 1)})


def runs_of(intervals, unit=1):
    """Compute intervals as naive has them: (task, start, end) in ticks."""
    return [(int(label[1:]), start // unit, end // unit) for label, start, end in zip(
        intervals["label"], intervals["start"], intervals["end"])]


@st.composite
def cases(draw, most=9, longest=12):
    """Lists of tasks: few distinct values, so that ties are common; idle gaps; overload; tasks of no length."""
    span = draw(st.sampled_from([0, 3, 12, 40, 90]))
    alike = draw(st.sampled_from([0, 1, 9]))
    task = st.tuples(st.integers(0, span), st.integers(0, longest), st.integers(0, alike), st.integers(-3, 30))
    return [(a, p, q, max(a, a + p + q + slack)) for a, p, q, slack in draw(st.lists(task, min_size=1, max_size=most))]


# Small pipelines, for PipeDream and PipeEdge --------------------------------------------------------------------------


def pipeline_case(layers, offers, times, links, client=9.0):
    """Arguments of allocate: offers per device, times (tasks, D), links {(i, j): seconds} with i < j."""
    D = len(offers)
    delay = np.zeros((D + 1, D + 1))
    for (i, j), seconds in links.items():
        delay[i, j] = delay[j, i] = seconds
    delay[D, :D] = delay[:D, D] = client
    times = np.array(times, dtype=float).reshape(-1, D)
    bids = pd.DataFrame({"device": [f"GPU {i}" for i in range(D)], "layers": offers, "price": 1.0,
                         "computation_time": times.sum(axis=0) * offers, "true_cost": 0.5})
    return dict(layers=layers, bids=bids, delay=delay, times=times, arrivals=np.zeros(len(times)), seed=0)


whole = st.integers(0, 4).map(float)  # few distinct values, so that ties are common
real = st.floats(0, 4, allow_subnormal=False)
uneven = st.integers(1, 10 ** 9).map(lambda k: k / 2.5e8)  # hardly ever equal, nor sums of one another


@st.composite
def pipeline_cases(draw, most_devices=5, most_layers=7, offer=5):
    """Arguments of allocate for small cases, mostly such that the offers reach the layers."""
    D, number = draw(st.integers(1, most_devices)), draw(st.sampled_from([whole, real, uneven, uneven]))
    offers = draw(st.lists(st.integers(1, offer), min_size=D, max_size=D))
    layers = draw(st.integers(1, min(most_layers, sum(offers) + draw(st.sampled_from([0, 0, 0, 2])))))
    times = draw(st.lists(number, min_size=D, max_size=D * 3).filter(lambda values: len(values) % D == 0))
    links = {(i, j): draw(number) for j in range(D) for i in range(j)}
    return pipeline_case(layers, offers, times, links, client=draw(st.sampled_from([0.0, 9.0])))


def check_allocation(stages, layers, bids, **_):
    """The devices, in order, and the layer counts of an allocation, once it is seen to be one."""
    used = [i for stage in stages for i in stage["devices"]]
    counts = [stage["layers"] for stage in stages]
    assert all(type(value) is int for value in used + counts)
    assert len(set(used)) == len(used)
    assert set(used) <= set(range(len(bids)))
    assert sum(counts) == layers
    for stage in stages:
        group = stage["devices"]
        assert 1 <= stage["layers"] <= len(group) * bids["layers"][group].min()
    return used, counts


def short(given):
    return given["bids"]["layers"].sum() < given["layers"]
