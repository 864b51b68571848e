"""All nine scripts, whatever a user does: flags, any valid list, packages and terminals that are missing, signals."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import warnings

import matplotlib
import pandas as pd
import pytest
from conftest import ALLOCATORS, ROOT, SCHEDULERS, edited, figure_of, files, metrics, part_of, quick, script
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import common
import FCFS
import FCIM

NINE = [*ALLOCATORS, *SCHEDULERS]


def tables(name, source=None):
    """Of a run of a script, or of a copy of another."""
    ends = ("bids", "intervals", "links", "metrics", "stages", "tasks") if (source or name) in ALLOCATORS else (
        "intervals", "metrics", "tasks")
    return [f"{name}_{end}.csv" for end in ends]


def figure(name, source=None):
    return f"{name}_layers.png" if (source or name) in ALLOCATORS else f"{name}_gantt.png"


# What is shipped, what a run writes, and its flags --------------------------------------------------------------------


@pytest.mark.parametrize("names", [ALLOCATORS, SCHEDULERS])
def test_the_shipped_lists_and_settings_are_one(names):
    texts = [script(name) for name in names]
    assert len({text.split("\ntasks = ")[1].split("\n]\n")[0] for text in texts}) == 1
    for line in ("MODEL", "POOL", "DEVICE", "LINK", "SEED", "OUT", "bids", "links"):
        assert len({tuple(re.findall(rf"^{line} = .*$", text, re.MULTILINE)) for text in texts}) == 1


HEADERS = {
    "tasks": "label,arrival_time,computation_time,trans_time,deadline,start_time,end_computation,completion_time,"
             "response_time,waiting_time,uplink_waiting_time,turnaround_time,deadline_met,preemptions",
    "stages": "stage,devices,tensor_parallel,first_layer,last_layer,layers,computation_time,link_delay,reward,utility,"
              "memory_gb,memory_utilization",
    "bids": "device,type,host,capacity,layers,price,computation_time,true_cost",
    "links": "," + ",".join(f"GPU {k}" for k in range(1, 13)) + ",client",
}


def contents():
    return {file: pathlib.Path("results", file).read_bytes() for file in files("results")}


@pytest.mark.parametrize("name", NINE)
def test_a_run_writes_the_files_and_prints_the_tables(name, run):
    status, out, err = run(quick(name))
    assert (status, err) == (0, "")
    assert files("results") == sorted([*tables(name), figure(name)])
    written = contents()
    headers = {file[len(name) + 1:-4]: content.decode().split("\n")[0] for file, content in written.items()
               if file.endswith(".csv")}
    header = headers.pop("metrics")
    if name in ALLOCATORS:
        assert headers == {**HEADERS, "intervals": "label,kind,start,end,stage,devices"}
        assert header.startswith("algorithm,model,pool,seed,") and ",tasks_file,bids_file,links_file,tasks," in header
        used = ["BLOOM-176B", "campus", 0]
    else:
        assert headers == {"tasks": HEADERS["tasks"], "intervals": "label,kind,start,end"}
        assert header.startswith("scheduler,model,device,link,") and ",tasks_file,tasks," in header
        used = ["GPT-Neo 1.3B", "T4", "shared"]
    row = metrics(name)
    assert row.tolist()[:4] == [name, *used]
    assert row[["tasks_file", "tasks"]].tolist() == [f"{name}.py", 5]
    heading = ", ".join(f"{key} {value}" for key, value in zip(row.index[1:4], used))
    assert out.startswith(f"{name}: 5 tasks, {heading}")
    assert all(text in out for text in ("Task 1", "Task 5", row.index[-1], f"results/{figure(name)}"))
    assert run(quick(name)) == (status, out, err)
    assert contents() == written


@pytest.mark.parametrize("name", NINE)
def test_each_flag_changes_the_run(name, run):
    """On three tasks of a file, whose transmissions queue."""
    if name in ALLOCATORS:
        measure, tasks = "completion_time", FCIM.tasks
        flags = [("--seed", 1), ("--pool", "Workstations"), ("--model", "gpt-3-175b")]
    else:
        measure, tasks = "mean_turnaround_time", FCFS.tasks
        flags = [("--device", "rtx-4090"), ("--link", "dedicated"), ("--model", "GPT-3 175B")]
    pd.DataFrame(tasks[:3]).assign(trans_time=60).to_csv("tasks.csv", index=False)
    of_all = ["--tasks", "tasks.csv", "--no-plot"]
    assert run(quick(name), *of_all, "--out", "a/b")[0] == 0
    assert files("a/b") == tables(name)
    before = metrics(name, "a/b")
    assert before[["tasks_file", "tasks"]].tolist() == ["tasks.csv", 3]
    for flag in flags:
        status, _, err = run(quick(name), *of_all, *flag)
        assert status == 0
        assert metrics(name)[measure] != before[measure]
        fits = flag[1] != "GPT-3 175B"  # which is more than a T4 holds, at 4 bits
        assert err.count("\n") == err.count("than the T4 has") == (not fits)


@pytest.mark.parametrize("name", NINE)
def test_help_names_the_flags_and_no_others(name, run):
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    flags = {"tasks", "model", "out", "no-plot"} | (
        {"pool", "seed", "bids", "links"} if name in ALLOCATORS else {"device", "link"}) | (
        {"objective", "time-limit"} if name == "optimal" else set())
    assert set(re.findall(r"^  --([\w-]+)", out, re.MULTILINE)) == flags


# Any valid list -------------------------------------------------------------------------------------------------------


ODD = ["cost $5 and $6_x^", "100 %s %d", "\\frac{a}{b} {x}", "{", "}", "two\nlines", "\u4efb\u52a1", "long " * 60,
       "a+b", "client", "'\"", "tab\tand so on", " spaces ", "\u202eright to left", "\U0001f642",
       "C:\\new", "#", ",;", "nan", "1", "Task 1", "<b>&amp;", "^_", "$", "\\", "-", "=1+1",
       "_x"]
letters = st.characters(blacklist_categories=["Cs", "Cc"])
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


def task(label, work=2, trans=1, deadline=1e8):
    return {"label": label, "prompt": "", "arrival_time": 0, "output_words": 0, "trans_time": trans,
            "deadline": deadline, "computation_time": work}


HUNDRED = [task(label) for label in [*ODD, *(f"T{k}" for k in range(100 - len(ODD)))]]  # all at once


@settings(max_examples=part_of(15, 15), phases=[Phase.explicit, Phase.generate],
          suppress_health_check=list(HealthCheck))
@example([task("of no length", work=0, trans=0, deadline=0)], "dedicated", "T4", "BLOOM-176B", "workstations")
@example(HUNDRED, "shared", "RTX 4090", "GPT-3 175B", "paper")
@given(task_lists(), st.sampled_from(common.LINKS), st.sampled_from([device.type for device in common.DEVICES]),
       st.sampled_from([model.name for model in common.MODELS]), st.sampled_from(sorted(common.POOLS)))
def test_any_valid_list_runs_in_all_nine(run, tasks, link, device, model, pool):
    """With its plot; it says nothing that a terminal obeys, and writes what it says."""
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    for name in NINE:
        shutil.rmtree("results", ignore_errors=True)
        script = edited("FCIM", to="FCIM.py", BUDGET=1e9, DEADLINE=1e9) if name == "FCIM" else quick(name)
        flags = ["--pool", pool] if name in ALLOCATORS else ["--link", link, "--device", device]
        more = ["--time-limit", "0.5"] if name == "optimal" else []
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a package: no user should see one
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="pulp")  # PuLP 3's own: none is shown
            status, out, err = run(script, "--tasks", "tasks.json", "--model", model, *flags, *more)
        assert status == 0, (name, out, err)
        usual = "warning: ([0-9]+ of [0-9]+ tasks exceed|the tasks need more memory)"
        assert (name, [line for line in err.splitlines() if not re.match(usual, line)]) == (name, [])
        assert files("results") == sorted([*tables(name), figure(name)])
        assert pathlib.Path("results", figure(name)).read_bytes()[:4] == b"\x89PNG"
        assert max(map(len, out.splitlines())) <= common.TEXT_WIDTH, name
        rows = pd.read_csv(f"results/{name}_tasks.csv", dtype=str, keep_default_na=False)
        assert rows["label"].tolist() == [task["label"] for task in tasks]
        left_out = len(tasks) - common.TABLE_ROWS
        assert (f"... and {left_out} more rows" in out) == (left_out > 0)


@pytest.mark.parametrize("name", NINE)
def test_a_list_in_seconds_since_1970_gives_the_same_from_the_first_arrival_on(name, run):
    """Times of tasks stay as they came; metrics and figures count from the first arrival."""
    epoch, tasks = 1700158546, FCIM.tasks if name in ALLOCATORS else FCFS.tasks
    later = [dict(task, arrival_time=task["arrival_time"] + epoch, deadline=task["deadline"] + epoch) for task in tasks]
    found = []
    for out, rows in (("now", tasks), ("later", later)):
        pathlib.Path("tasks.json").write_text(json.dumps(rows))
        assert run(quick(name), "--tasks", "tasks.json", "--out", out, "--no-plot")[::2] == (0, "")
        found.append((metrics(name, out), pd.read_csv(f"{out}/{name}_tasks.csv")))
    (before, early), (after, late) = found
    assert before.equals(after)
    moved = ["arrival_time", "deadline", "start_time", "end_computation", "completion_time"]
    assert late.drop(columns=moved).equals(early.drop(columns=moved))
    assert (late[moved] - early[moved] - epoch).abs().max().max() < 1e-6
    if name in SCHEDULERS:
        intervals = [pd.read_csv(f"{out}/{name}_intervals.csv") for out in ("now", "later")]
        axes = [figure_of(common.schedule_figure, name, result, runs).axes[0]
                for result, runs in zip((early, late), intervals)]
        drawn = [[*one.get_xlim(), *(edge for bar in one.patches for edge in bar.get_bbox().intervalx)] for one in axes]
        assert drawn[0] == pytest.approx(drawn[1], abs=1e-6)
        assert [one.get_xlabel() for one in axes] == ["time (s)", "time since the first arrival (s)"]


# Plots, packages, terminals and signals -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NINE)
def test_a_script_needs_only_the_packages_that_it_uses(name, run, monkeypatch):
    """Without matplotlib all but the figure is there, and why is said. The shipped list is proven without pulp."""
    for module in ("transformers", "matplotlib", "matplotlib.figure", "torch", "pulp"):
        monkeypatch.setitem(sys.modules, module, None)
    halted = "ModuleNotFoundError: import of matplotlib halted; None in sys.modules"
    for flags, warning in ((["--no-plot"], ""), ([], f"warning: {figure(name)} is not drawn: {halted}\n")):
        status, out, err = run(quick(name), *flags)
        assert (status, err) == (0, warning)
        assert files("results") == tables(name)
        assert ".png" not in out and all(table in out for table in tables(name))


@pytest.mark.parametrize("name, to, why", [("FCFS", "FCFS", None), ("FCFS", "a $x_$", "ValueError: "),
                                           ("PipeEdge", "PipeEdge", None), ("PipeEdge", "a $x_$", "ValueError: ")])
def test_a_figure_that_cannot_be_drawn_is_a_warning_and_matplotlib_is_left_as_it_was(name, to, why, run):
    """A name that is no formula; LaTeX and fonts that are missing do not matter."""
    pathlib.Path(f"{to}.py").write_text(script(name), encoding="utf-8")
    with matplotlib.rc_context({"text.usetex": True, "font.family": "none", "axes.titlesize": 7}):
        before = dict(matplotlib.rcParams), warnings.filters[:]
        status, out, err = run(f"{to}.py")
        assert (dict(matplotlib.rcParams), warnings.filters) == before
    assert status == 0
    assert files("results") == sorted(tables(to, name) + [figure(to, name)] * (why is None))
    assert err.startswith(f"warning: {figure(to, name)} is not drawn: {why}" if why else "")
    assert err.count("\n") == (why is not None)
    assert (figure(to, name) in out) == (why is None)


def test_a_schedule_gets_the_settings_that_it_takes(run):
    script = edited("ADSA", ("def schedule(tasks, alike=ALIKE)", "def schedule(tasks, alike)"))
    assert run(script, "--no-plot")[0] == 0


@pytest.mark.parametrize("where", ["| true", ">&-", "2>&-"])
def test_a_standard_output_that_is_closed_costs_no_file(where, tmp_path):
    command = f'"{sys.executable}" "{ROOT / "FCFS"}.py" --no-plot {where}'
    done = subprocess.run(command, shell=True, cwd=tmp_path, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert files(tmp_path / "results") == tables("FCFS")


@pytest.mark.parametrize("stop, status, line", [("SIGTERM", 143, ""), ("SIGINT", 130, "FCFS: interrupted\n")])
@pytest.mark.parametrize("at", ["tasks.csv", "metrics.csv", "gantt.png"])
def test_a_signal_while_files_are_written_leaves_those_of_before(at, stop, status, line, run, monkeypatch):
    write = common.write_file

    def write_and_stop(path, content):
        write(path, content)
        if path.endswith(at):
            os.kill(os.getpid(), getattr(signal, stop))
    monkeypatch.setattr(common, "write_file", write_and_stop)
    pathlib.Path("results").mkdir()
    pathlib.Path("results/FCFS_tasks.csv").write_text("of the run before")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("FCFS") == (status, "", line)
    finally:
        signal.signal(signal.SIGINT, before)
    written = tables("FCFS") if at == "gantt.png" else ["FCFS_tasks.csv"]  # the figure comes last
    assert files() == [f"results/{file}" for file in written]
    assert len(list(pathlib.Path("results").iterdir())) == len(written)
    assert (pathlib.Path(files()[-1]).read_text() == "of the run before") == (at != "gantt.png")
