"""All nine scripts, whatever a user does: any valid list, any setting, plots and terminals that fail, signals."""
import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import warnings

import pandas as pd
import pytest
from conftest import ALLOCATORS, ROOT, SCHEDULERS, edited, files, refused, settings_of
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import common
import FCIM

NINE = [*ALLOCATORS, *SCHEDULERS]
PNG = b"\x89PNG\r\n\x1a\n"


def tables(name):
    ends = ("bids", "intervals", "links", "metrics", "stages", "tasks") if name in ALLOCATORS else (
        "intervals", "metrics", "tasks")
    return [f"{name}_{end}.csv" for end in ends]


def figure(name):
    return f"{name}_{'layers' if name in ALLOCATORS else 'gantt'}.png"


def plain(text):
    """Whether a terminal shows all of a text, and obeys none."""
    return all(letter.isprintable() for line in text.split("\n") for letter in line)


def written_labels(name):
    with open(f"results/{name}_tasks.csv", encoding="utf-8", newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def quick(name):
    """The script, or a copy of it that searches less."""
    return edited(name, STALE=1) if name == "HexGen" else name


@pytest.fixture
def coarse(monkeypatch):
    """Figures of few pixels: what is drawn is the same."""
    from matplotlib.figure import Figure
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: save(figure, path, dpi=20, **options))


# Any valid list -------------------------------------------------------------------------------------------------------


ODD = ["cost $5 and $6_x^", "100 %s %d", "\\frac{a}{b} {x}", "{", "}", "two\nlines", "\u4efb\u52a1", "long " * 60,
       "\x1b[31mred\x1b[0m", "a+b", "client", "'\"", "tab\tand bell\a", " spaces ", "\u202eright to left", "\U0001f642",
       "C:\\new", "#", ",;", "nan", "1", "Task 1", "<b>&amp;", "^_", "$", "\\", "one\x85two\u2028three", "-", "=1+1",
       "_x"]
letters = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r")
labels = st.one_of(st.sampled_from(ODD), st.text(letters, min_size=1, max_size=40).filter(str.strip))


@st.composite
def task_lists(draw):
    """Lists of one task to eight: zero lengths, all at once, deadlines far and passed, odd labels, empty prompts, what
    is estimated given or not."""
    span, deadline = draw(st.sampled_from([0, 0.5, 40, 1e6])), draw(st.sampled_from(["far", "passed", "near", "any"]))
    number = st.sampled_from([0, 0.000001, 0.37, 5, 9])
    tasks = []
    for label in draw(st.lists(labels, min_size=1, max_size=8, unique=True)):
        arrival = draw(st.integers(0, 1000)) * span / 1000
        slack = {"far": 1e8, "passed": 0, "near": draw(st.integers(0, 30)), "any": draw(st.sampled_from([0, 9, 1e8]))}
        task = {"label": label, "prompt": draw(st.sampled_from(["", "one", "a few words\n", "word " * 3000])),
                "arrival_time": arrival, "output_words": draw(st.sampled_from([0, 1, 100, 9000])),
                "trans_time": draw(number), "deadline": arrival + slack[deadline]}
        options = {"computation_time": number, "prompt_tokens": st.integers(0, 3000),
                   "output_tokens": st.integers(0, 3000), "memory_gb": st.sampled_from([0, 0.01, 5])}
        task.update({key: draw(value) for key, value in options.items() if draw(st.sampled_from([0, 0, 1]))})
        tasks.append(task)
    return tasks


def check_runs(run, tasks, link, device, model, pool):
    """All nine run the list, with their plots, say nothing that a terminal obeys, and write what they say."""
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    for name in NINE:
        shutil.rmtree("results", ignore_errors=True)
        script = edited("FCIM", BUDGET=1e9, DEADLINE=1e9) if name == "FCIM" else quick(name)
        flags = ["--pool", pool] if name in ALLOCATORS else ["--link", link, "--device", device]
        more = ["--time-limit", "0.5"] if name == "optimal" else []
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a package: no user should see one
            status, out, err = run(script, "--tasks", "tasks.json", "--model", model, *flags, *more)
        assert status == 0, (name, out, err)
        assert plain(out) and plain(err)
        told = [line for line in err.splitlines()
                if not re.match("warning: ([0-9]+ of [0-9]+ tasks exceed|the tasks need .* GB)", line)]
        assert (name, told) == (name, [])
        assert files("results") == sorted([*tables(name), figure(name)])
        assert pathlib.Path("results", figure(name)).read_bytes()[:8] == PNG
        assert written_labels(name) == [task["label"] for task in tasks]


def task(label, arrival=0, work=2, trans=1, deadline=1e8, **more):
    return {"label": label, "prompt": "", "arrival_time": arrival, "output_words": 0, "trans_time": trans,
            "deadline": deadline, "computation_time": work, **more}


@settings(max_examples=9, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@example([task("of no length", work=0, trans=0, deadline=0)], "shared", "T4", "GPT-Neo 1.3B", "paper")
@example([task("one", deadline=0)], "dedicated", "T4", "BLOOM-176B", "workstations")
@example([task(k) for k in ODD], "shared", "RTX 4090", "GPT-3 175B", "paper")  # all far away, all at once
@given(task_lists(), st.sampled_from(common.LINKS), st.sampled_from([device.type for device in common.DEVICES]),
       st.sampled_from([model.name for model in common.MODELS]), st.sampled_from(sorted(common.POOLS)))
def test_any_valid_list_runs_in_all_nine(run, coarse, tasks, link, device, model, pool):
    check_runs(run, tasks, link, device, model, pool)


def test_hundreds_of_tasks_run_in_all_nine(run, coarse):
    tasks = [task(f"T{k}", k * 7 % 300, 1 + k % 5, k % 3, k * 7 % 300 + 9 * (1 + k % 4)) for k in range(300)]
    check_runs(run, tasks, "shared", "T4", "GPT-Neo 1.3B", "paper")


@pytest.mark.parametrize("name", ["FCFS", "FCIM"])
def test_a_carriage_return_in_a_label_breaks_no_file(name, run):
    pathlib.Path("tasks.json").write_text(json.dumps([dict(FCIM.tasks[0], label="one\rtwo"), FCIM.tasks[1]]))
    outcome = run(name, "--tasks", "tasks.json", "--no-plot")
    if outcome[0]:
        refused(outcome, "tasks.json, row 1, label: 'one\\rtwo' is not a text")
    else:
        assert written_labels(name) == ["one\rtwo", "Task 2"]


# Any setting ----------------------------------------------------------------------------------------------------------


WHOLE = {"SEED", "MAX_TASKS", "EXACT", "BEAM", "POPULATION", "CHILDREN", "TRIES", "STALE", "PATIENCE", "ROUNDS",
         "FRONTIER"}
NO_NUMBER = ['None', '""', '"1"', '"one"', 'True', '[1]', '{}', '1j', 'print']
NO_AMOUNT = ['-1', 'float("nan")', 'float("inf")', '-float("inf")', '2e9', '10 ** 400']
NO_NAME = ['None', '3', '2.5', 'True', '""', '"nonsense"', '[]', '["x"]', '{}', 'b"x"', 'print', '"\\x1b[31m"',
           '"a\\nb"']
WRONG = {
    "OUT": ['None', '3', 'True', '""', '[]', '"mine.py"', '"mine.py/results"', '"a\\0b"', 'b"results"'],
    "WEIGHTS": ['None', '1', '"abc"', '()', '(1, 2)', '(1, 2, 3, 4)', '(1, 2, "3")', '(1, 2, None)', '(1, 2, -1)',
                '(1, 2, float("nan"))', '(1, 2, True)', '{1, 2, 3}', '{"alpha": 1}'],
    "tasks": ['None', '3', 'True', '""', '"none.csv"', '[]', '()', '{}', '[1]', '[None]', '[{}]', '["Task 1"]',
              'print'],
    "bids": ['3', 'True', '""', '"none.csv"', '{}', '[1]', '[None]', '[{}]', '["GPU 1"]', 'print'],
    "links": ['3', 'True', '""', '"none.csv"', '[]', '[1]', '{}', '{"GPU 1": 3}', '{1: {2: 3}}', 'print'],
}


def wrong_settings():
    for name in NINE:
        for key, value in settings_of(name).items():
            if key in WRONG:
                wrong = WRONG[key]
            else:
                wrong = NO_NAME if isinstance(value, str) else NO_NUMBER + NO_AMOUNT + ['0.5'] * (key in WHOLE)
            yield pytest.param(name, key, wrong, id=f"{name}-{key}")
        for key in ("tasks", "bids", "links") if name in ALLOCATORS else ("tasks",):
            yield pytest.param(name, key, WRONG[key], id=f"{name}-{key}")


@pytest.mark.parametrize("name, key, wrong", list(wrong_settings()))
def test_a_wrong_setting_is_one_line_that_names_it(name, key, wrong, run):
    """Before anything is printed, and nothing is written."""
    for value in wrong:
        status, out, err = run(edited(name, **{key: value}))
        refused((status, out, err), "")
        place = "none.csv" if "none.csv" in value else "''" if value == '""' and key in WRONG else key
        assert re.search(place.replace("_", "[-_ ]").rstrip("s"), err, re.IGNORECASE), (value, err)
        assert err.startswith(f"{name}: ") and plain(err)
    assert files() == ["mine.py"]


@pytest.mark.parametrize("name", NINE)
def test_a_setting_of_zero_is_refused_or_works(name, run):
    """No traceback; whether a line is said depends on the setting."""
    pathlib.Path("tasks.json").write_text(json.dumps(FCIM.tasks))
    zero = [key for key, value in settings_of(name).items() if isinstance(value, (int, float))]
    assert zero or name in ("FCFS", "SRTF")
    for key in zero:
        values = {"STALE": 1, key: 0} if name == "HexGen" else {key: 0}
        status, _, err = run(edited(name, **values), "--no-plot", "--tasks", "tasks.json")
        assert (status, err.count("\n")) in ((0, 0), (1, 1), (2, 1)), (key, err)


WRONG_POOLS = [None, 3, "paper", {}, [], [("A", "T4")], [("A", "T4", "h", "more")], [("A", "T4", 3)], [(1, "T4", "h")],
               [("", "T4", "h")], [("A", "", "h")], [("A", "T4", " ")], [("A", "T4", "h"), ("A", "T4", "h")],
               [("A+B", "T4", "h")], [("client", "T4", "h")], [("A", None, "h")], ["A"], [None], ["GPU"], [3]]


@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_wrong_pool_is_one_line(name, run, monkeypatch):
    for pool in WRONG_POOLS:
        monkeypatch.setitem(common.POOLS, "paper", pool)
        refused(run(name, "--pool", "paper"), "POOLS, paper")
    monkeypatch.setitem(common.POOLS, "paper", [("A", "T5", "h")])
    refused(run(name, "--pool", "paper"), "unknown device 'T5': choose from ")
    for pools in (None, [], {}, "paper", {3: []}):
        monkeypatch.setattr(common, "POOLS", pools)
        refused(run(name), "pool" if pools == {3: []} else "POOLS")


VALUES = [None, "", "16", [1], True, -1, 0, float("nan"), float("inf"), 1e10, 1j]


@pytest.mark.parametrize("title, field", [
    *(("DEVICES", field.name) for field in dataclasses.fields(common.Device)),
    *(("MODELS", field.name) for field in dataclasses.fields(common.Model))])
def test_a_wrong_line_of_devices_or_models_is_one_line(title, field, run, monkeypatch):
    free = ("price_per_hour", "kv_heads", "head_dim", "gated")
    if field in ("type", "name"):
        values = [None, "", 3, ["T4"], "another"]
    elif field == "gated":
        values = [None, "", "yes", [1], -1, float("nan")]
    else:
        values = [value for value in VALUES if not (field in free and value == 0)]
        values += [2.5] * (title == "MODELS" and field != "bits")
    table = getattr(common, title)
    at = [entry.type if title == "DEVICES" else entry.name for entry in table].index(
        "T4" if title == "DEVICES" else "GPT-Neo 1.3B")
    for value in values:
        wrong = [*table]
        wrong[at] = dataclasses.replace(table[at], **{field: value})
        monkeypatch.setattr(common, title, wrong)
        for name in ("FCFS", "FCIM") if title == "DEVICES" else ("FCFS",):
            outcome = run(name, *(["--pool", "paper"] if name == "FCIM" else []))
            if field in ("type", "name"):
                refused(outcome, title[:-1].lower())
            else:
                refused(outcome, f"{title}, {'T4' if title == 'DEVICES' else 'GPT-Neo 1.3B'}, {field}: ")
    assert files() == []


@pytest.mark.parametrize("title", ["DEVICES", "MODELS"])
def test_a_wrong_table_of_devices_or_models_is_one_line(title, run, monkeypatch):
    table = getattr(common, title)
    for wrong in (None, 3, "T4", [], {}, [None], ["T4"], [3], [*table, table[0]], {"T4": table[0]}):
        monkeypatch.setattr(common, title, wrong)
        for name in ("FCFS", "FCIM"):
            refused(run(name), title)


# Plots, packages, terminals and signals -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NINE)
def test_without_matplotlib_all_but_the_figure_is_there(name, run, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    status, out, err = run(quick(name))
    assert status == 0
    assert err.startswith(f"warning: no {figure(name)}: ") and "matplotlib" in err and err.count("\n") == 1
    assert files("results") == tables(name)
    assert figure(name) not in out and all(table in out for table in tables(name))


@pytest.mark.parametrize("error", [
    ValueError("no such\nfont"), RuntimeError(""), MemoryError(), OSError(28, "No space"), RecursionError("too deep"),
    KeyError("Agg"), ImportError("DLL load failed")])
def test_a_plot_that_raises_costs_the_plot(error, run, monkeypatch):
    from matplotlib.figure import Figure

    def fail(figure, path, **options):
        pathlib.Path(path).write_bytes(PNG)
        raise error
    monkeypatch.setattr(Figure, "savefig", fail)
    for name in ("FCFS", "FCIM"):
        status, _, err = run(name, "--out", name)
        assert status == 0
        assert err.startswith(f"warning: no {figure(name)}: ") and err.count("\n") == 1 and len(err) < 200
        assert files(name) == tables(name)


@pytest.mark.parametrize("name", NINE)
def test_a_script_needs_only_the_packages_that_it_uses(name, run, monkeypatch):
    unused = ["transformers", "matplotlib", "matplotlib.figure", "torch"] + ["pulp"] * (name != "optimal")
    for module in unused:
        monkeypatch.setitem(sys.modules, module, None)
    status, _, err = run(quick(name), "--no-plot")
    assert (status, err) == (0, "")
    assert files("results") == tables(name)


def test_a_model_of_a_folder_without_transformers_is_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    os.mkdir("model")
    pathlib.Path("model", "config.json").write_text('{"model_type": "llama"}')
    refused(run("FCFS", "--model", "./model"), "transformers")


def test_optimal_without_its_solver_is_one_line(run, monkeypatch):
    """Where the program is needed: a list that no bound proves."""
    monkeypatch.setitem(sys.modules, "pulp", None)
    tasks = [task(f"T{k}", k * 8 % 97, 3 + k * 7 % 12, 3 + k * 5 % 11, k * 8 % 97 + 24) for k in range(12)]
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    refused(run("optimal", "--tasks", "tasks.json"), "pulp")


def call(command, **options):
    return subprocess.run(command, capture_output=True, encoding="utf-8", **options)


EACH = """import runpy, sys
sys.path.insert(0, {root!r})
for name in {names!r}:
    sys.argv[:] = [name + ".py", {flag!r}]
    print("begin", name)
    try:
        runpy.run_path({root!r} + "/" + name + ".py", run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, stop.code
    print("loaded", *sorted({{"transformers", "matplotlib", "pulp", "torch"}} & set(sys.modules)))
"""


def test_a_default_run_without_a_plot_imports_no_heavy_package(tmp_path):
    names = [name for name in NINE if name != "optimal"] + ["optimal"]
    done = call([sys.executable, "-c", EACH.format(root=str(ROOT), names=names, flag="--no-plot")], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = re.findall(r"^loaded ?(.*)$", done.stdout, re.MULTILINE)
    assert loaded[:-1] == [""] * 8
    assert loaded[-1] in ("", "pulp")


def test_help_is_quick_and_needs_no_package():
    """No heavy import is behind --help: it works where none of the packages can be found."""
    done = call([sys.executable, "-I", "-S", "-c", EACH.format(root=str(ROOT), names=NINE, flag="--help")])
    assert (done.returncode, done.stderr) == (0, "")
    for text in done.stdout.split("begin ")[1:]:
        name = text.split("\n")[0]
        flags = {"tasks", "model", "out", "no-plot"} | (
            {"pool", "seed", "bids", "links"} if name in ALLOCATORS else {"device", "link"}) | (
            {"objective", "time-limit"} if name == "optimal" else set())
        assert set(re.findall(r"^  --([\w-]+)", text, re.MULTILINE)) == flags, name  # these and no others


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("name, where, statuses", [
    ("FCFS", "> /dev/full", {1}), ("FCIM", "> /dev/full", {1}), ("FCFS", ">&-", {0, 1}), ("FCIM", "| true", {0}),
    ("FCFS", "2>&-", {0}), ("FCFS", "> /dev/full 2>&1", {1})])
def test_a_standard_output_that_fails_costs_no_file(name, where, statuses, tmp_path):
    done = call(f'"{sys.executable}" "{ROOT / name}.py" --no-plot {where}', shell=True, cwd=tmp_path)
    assert done.returncode in statuses
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stderr.count("\n") == (where == "> /dev/full")
    assert files(tmp_path / "results") == tables(name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_help_into_what_is_full_or_closed_is_no_traceback(tmp_path):
    for where in ("> /dev/full", ">&-", "| true"):
        done = call(f'"{sys.executable}" "{ROOT}/FCFS.py" --help {where}', shell=True, cwd=tmp_path)
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr
        assert where == ">&-" or done.stderr.count("\n") <= 1  # the help goes there


@pytest.mark.parametrize("stop, status, line", [("SIGTERM", 143, ""), ("SIGINT", 130, "FCFS: interrupted\n")])
@pytest.mark.parametrize("at", ["tasks.csv", "metrics.csv", "gantt.png"])
def test_a_signal_while_files_are_written_leaves_none(at, stop, status, line, run, monkeypatch):
    from matplotlib.figure import Figure

    def interrupted(write):
        def write_and_stop(table, path, *rest, **options):
            write(table, path, *rest, **options)
            if str(path).endswith(at):
                os.kill(os.getpid(), getattr(signal, stop))
        return write_and_stop
    monkeypatch.setattr(pd.DataFrame, "to_csv", interrupted(pd.DataFrame.to_csv))
    monkeypatch.setattr(Figure, "savefig", interrupted(Figure.savefig))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("FCFS") == (status, "", line)
    finally:
        signal.signal(signal.SIGINT, before)
    assert files() == []
    assert not pathlib.Path("results").exists() or not list(pathlib.Path("results").iterdir())


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FCFS", "FCIM"])
@pytest.mark.parametrize("label", ["a\0b", "\ud800", "half \udfff of a pair"])
def test_a_label_that_no_file_can_hold_is_refused(label, name, run):
    pathlib.Path("tasks.json").write_text(json.dumps([dict(FCIM.tasks[0], label=label)]))
    refused(run(name, "--tasks", "tasks.json"), f"tasks.json, row 1, label: {label!a} is not a text")
    refused(run(edited(name, tasks=ascii([dict(FCIM.tasks[0], label=label)]))), "tasks, row 1, label: ")


def test_a_label_cannot_steer_the_terminal(run):
    """In tables, lines about tasks, warnings and errors."""
    evil = "\x1b[2J\x1b]0;title\x07"
    rows = [dict(FCIM.tasks[0], label=evil, output_words=9000, deadline=0), dict(FCIM.tasks[1], label=f"{evil}2")]
    for tasks in (rows, [rows[0], rows[0]], [dict(rows[0], trans_time=evil)], [{evil: 1, **rows[1]}]):
        pathlib.Path("tasks.json").write_text(json.dumps(tasks))
        for name in ("optimal", "PipeEdge"):
            _, out, err = run(name, "--tasks", "tasks.json", "--no-plot")
            assert plain(out) and plain(err)


def test_a_name_of_a_file_cannot_steer_the_terminal(run):
    evil = "\x1b[31mred"
    pathlib.Path(f"{evil}.json").write_text(json.dumps(FCIM.tasks))
    status, out, err = run("FCFS", "--tasks", f"{evil}.json", "--no-plot")
    assert (status, plain(out), plain(err)) == (0, True, True)
    _, out, err = run("FCFS", "--tasks", f"{evil}.csv", "--no-plot")
    assert plain(out) and plain(err) and err.count("\n") == 1
