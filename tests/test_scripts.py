"""The scripts as a user runs them: what they print and write, their flags, and how they refuse."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT, files, metrics, refused

import ADSA
import common
import FCFS
import LLF
import optimal
import SRTF

NAMES = ["FCFS", "SRTF", "LLF", "ADSA", "optimal"]
COLUMNS = ("label,arrival_time,computation_time,trans_time,deadline,start_time,end_computation,completion_time,"
           "response_time,waiting_time,turnaround_time,deadline_met,preemptions")
METRICS = ("scheduler,tasks,mean_waiting_time,mean_response_time,mean_turnaround_time,deadlines_met,T_end,preemptions,"
           "peak_memory_gb,memory_utilization")


# What a run prints and writes -----------------------------------------------------------------------------------------


def test_the_shipped_lists_are_one():
    for script in (SRTF, LLF, ADSA, optimal):
        assert script.tasks == FCFS.tasks
    assert len({(ROOT / f"{name}.py").read_text().split("\ntasks = ")[1].split("\n]\n")[0] for name in NAMES}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_run_writes_the_files_and_prints_the_tables(name, run):
    status, out, err = run(name)
    assert (status, err) == (0, "")
    names = [f"{name}_{end}" for end in ("gantt.png", "intervals.csv", "metrics.csv", "tasks.csv")]
    assert files("results") == names
    text = {end: pathlib.Path("results", end).read_text() for end in names[1:]}
    assert text[f"{name}_tasks.csv"].split("\n")[0] == COLUMNS
    assert text[f"{name}_intervals.csv"].split("\n")[0] == "label,kind,start,end"
    extra = ",objective,proven_optimal,lower_bound" if name == "optimal" else ""
    assert text[f"{name}_metrics.csv"].split("\n")[0] == METRICS + extra
    assert pathlib.Path("results", f"{name}_gantt.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"{name}: 5 tasks, GPT-Neo 1.3B (24 layers, 16 bits) on T4, shared uplink" in out
    for label in ("Task 1", "Task 5", "mean_waiting_time", f"results{os.sep}{name}_gantt.png"):
        assert label in out


@pytest.mark.parametrize("name", NAMES)
def test_the_metrics_follow_from_the_other_files(name, run):
    run(name, "--no-plot")
    tasks = pd.read_csv(f"results/{name}_tasks.csv").set_index("label")
    intervals = pd.read_csv(f"results/{name}_intervals.csv")
    found = metrics(name)
    compute = intervals[intervals["kind"] == "compute"].groupby("label")
    sent = intervals[intervals["kind"] == "transmit"].set_index("label").loc[tasks.index]
    assert (compute["start"].min() == tasks["start_time"]).all()
    assert (compute["end"].max() == tasks["end_computation"]).all()
    assert (compute.size() - 1 == tasks["preemptions"]).all()
    assert (sent["end"] == tasks["completion_time"]).all()
    length = (intervals["end"] - intervals["start"])[intervals["kind"] == "compute"].groupby(intervals["label"]).sum()
    assert length.to_numpy() == pytest.approx(tasks["computation_time"].to_numpy())
    waiting = tasks["end_computation"] - tasks["arrival_time"] - tasks["computation_time"]
    assert waiting.to_numpy() == pytest.approx(tasks["waiting_time"].to_numpy())
    assert found["mean_waiting_time"] == pytest.approx(tasks["waiting_time"].mean())
    assert found["mean_response_time"] == pytest.approx((tasks["start_time"] - tasks["arrival_time"]).mean())
    assert found["mean_turnaround_time"] == pytest.approx((tasks["completion_time"] - tasks["arrival_time"]).mean())
    assert found["deadlines_met"] == (tasks["completion_time"] <= tasks["deadline"]).sum()
    assert found["T_end"] == tasks["completion_time"].max()
    assert found["preemptions"] == tasks["preemptions"].sum()
    assert found["memory_utilization"] == pytest.approx(found["peak_memory_gb"] / 16)


@pytest.mark.parametrize("name", NAMES)
def test_editing_the_list_in_the_script_changes_the_result(name, run):
    run(name, "--no-plot")
    before = metrics(name)["mean_turnaround_time"]
    text = (ROOT / f"{name}.py").read_text()
    assert text.count('"arrival_time": 14, "output_words": 100') == 1
    pathlib.Path("mine.py").write_text(text.replace('"output_words": 100,', '"output_words": 900,'))
    status, _, err = run("mine.py", "--no-plot")
    assert (status, err) == (0, "")
    assert metrics(name)["mean_turnaround_time"] > before


@pytest.mark.parametrize("name", NAMES)
def test_the_flags_work_in_each(name, run):
    pd.DataFrame(FCFS.tasks[:3]).to_csv("tasks.csv", index=False)
    pd.DataFrame(FCFS.tasks[:3]).to_json("tasks.json", orient="records")
    for file in ("tasks.csv", "tasks.json"):
        status, out, _ = run(name, "--tasks", file, "--no-plot", "--out", "a/b")
        assert (status, files("a/b")) == (0, [f"{name}_{end}.csv" for end in ("intervals", "metrics", "tasks")])
        assert f"{name}: 3 tasks" in out
    base = metrics(name, "a/b")
    for flags, faster in ((("--device", "rtx-4090"), True), (("--model", "GPT-3 175B"), False)):
        status, out, err = run(name, "--tasks", "tasks.csv", *flags, "--no-plot")
        assert status == 0
        assert (metrics(name)["mean_turnaround_time"] < base["mean_turnaround_time"]) == faster
    assert "the T4 has 16 GB" in err  # 175 billion weights at 4 bits do not fit
    assert err.count("\n") == 1
    run(name, "--tasks", "tasks.csv", "--link", "dedicated", "--no-plot")
    sent = pd.read_csv(f"results/{name}_tasks.csv")
    left = sent["completion_time"] - sent["end_computation"]
    assert left.to_numpy() == pytest.approx(sent["trans_time"].to_numpy())
    run(name, "--load", "2", "--no-plot")
    table = pd.read_csv(f"results/{name}_tasks.csv")
    assert table["computation_time"].sum() / table["arrival_time"].max() == pytest.approx(2)


def test_the_flags_of_optimal(run):
    assert run("optimal", "--objective", "turnaround", "--no-plot", "--time-limit", "30")[0] == 0
    turnaround = metrics("optimal")
    run("optimal", "--no-plot")
    makespan = metrics("optimal")
    assert (turnaround["objective"], makespan["objective"]) == ("turnaround", "makespan")
    assert turnaround["proven_optimal"]
    assert makespan["proven_optimal"]
    assert turnaround["mean_turnaround_time"] == pytest.approx(turnaround["lower_bound"])
    assert turnaround["mean_turnaround_time"] <= makespan["mean_turnaround_time"]
    assert makespan["T_end"] == makespan["lower_bound"] <= turnaround["T_end"]


def test_the_same_run_gives_the_same_bytes(run):
    for folder in ("a", "b"):
        for name in NAMES:
            run(name, "--out", folder)
    assert len(files("a")) == 20
    for file in files("a"):
        assert pathlib.Path("a", file).read_bytes() == pathlib.Path("b", file).read_bytes()


def test_thousands_of_tasks_are_excerpted(run):
    rows = "".join(f"2023-11-16 18:{k // 60:02}:{k % 60:02}.0000000,{300 + k % 700},{k % 40}\n" for k in range(2000))
    pathlib.Path("trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    for name in NAMES:
        status, out, _ = run(name, "--tasks", "trace.csv", "--load", "0.9")
        assert status == 0
        assert "... and 1,980 more rows in results" in out
        assert len(pd.read_csv(f"results/{name}_tasks.csv")) == 2000
    assert "the exact program is limited to 60 tasks" in out
    assert not metrics("optimal")["proven_optimal"]


def test_the_gantt_draws_each_task_bar_and_deadline(tmp_path):
    """Bars and marks of the figure against the schedule, read back from matplotlib's own objects."""
    from unittest import mock

    from matplotlib.figure import Figure
    tasks = common.read_tasks(FCFS.tasks, common.get_model("GPT-Neo 1.3B"), common.DEVICES["T4"])
    result, intervals = map(common.in_seconds, common.simulate(tasks, FCFS.schedule(tasks), "shared"))
    drawn = []
    with mock.patch.object(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure)):
        common.draw_gantt(tmp_path / "x.png", [("FCFS", result, intervals)])
    axes = drawn[0].axes[0]
    bars = sorted((round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in axes.patches)
    assert bars == sorted((round(s, 6), round(e, 6)) for s, e in zip(intervals["start"], intervals["end"]))
    assert sorted(x for line in axes.lines for x in line.get_xdata()) == sorted(result["deadline"])
    assert axes.get_xlabel() == "time (s)"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == result["label"].tolist()


def test_any_label_can_be_drawn_and_printed(run):
    labels = ["cost $5 and $6_x^", "\u4efb\u52a1", "a long label that goes on\nand on", "{%s}\\frac"]
    pd.DataFrame([dict(FCFS.tasks[0], label=label) for label in labels]).to_json("tasks.json", orient="records")
    status, out, err = run("FCFS", "--tasks", "tasks.json")
    assert (status, err) == (0, "")
    assert "a long label that goes on and on " in out
    assert pd.read_csv("results/FCFS_tasks.csv")["label"].tolist() == labels


# How they refuse ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arguments, message", [
    (["--device", "Abacus"], "unknown device 'Abacus': choose from RTX 4090, T4"),
    (["--model", "GPT-9"], "unknown model 'GPT-9': choose from GPT-Neo 1.3B, GPT-3 175B, BLOOM-176B"),
    (["--model", "."], "model '.': "),
    (["--link", "wet string"], "unknown link 'wet string': choose from shared, dedicated"),
    (["--tasks", "none.csv"], "none.csv: No such file or directory"),
    (["--load", "0"], "--load: 0 is not a load"),
    (["--load", "nan"], "--load: nan is not finite"),
    (["--load", "much"], "argument --load: invalid float value: 'much'"),
    (["--wrong"], "unrecognized arguments: --wrong"),
    (["--out", "file/folder"], "is not a folder that can be written in"),
])
def test_wrong_arguments_are_one_line(name, arguments, message, run):
    pathlib.Path("file").write_text("")
    refused(run(name, *arguments), message)


def test_wrong_arguments_of_optimal_are_one_line(run):
    refused(run("optimal", "--objective", "joy"), "unknown objective 'joy': choose from makespan, turnaround")
    refused(run("optimal", "--time-limit", "-1"), "--time-limit: -1.0 is negative")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("old, new, message", [
    ('"deadline": 100}', '"deadline": "late"}', "tasks, row 1, deadline: 'late' is not a number"),
    ('"deadline": 20}', '"deadline": 2}', "tasks, row 2, deadline: 2 is before arrival_time 3"),
    ('"label": "Task 3"', '"label": "Task 1"', "tasks, row 3, label: 'Task 1' is that of row 1 already"),
    ('"trans_time": 8, ', "", "tasks, row 4, trans_time: missing"),
    ('DEVICE = "T4"', 'DEVICE = "T5"', "unknown device 'T5'"),
    ('LINK = "shared"', "LINK = None", "unknown link None"),
    ('OUT = "results"', "OUT = None", "OUT: None is not a folder"),
])
def test_a_wrong_edit_of_a_script_is_one_line(name, old, new, message, run):
    text = (ROOT / f"{name}.py").read_text()
    assert text.count(old) == 1
    pathlib.Path("mine.py").write_text(text.replace(old, new))
    refused(run("mine.py"), message)


@pytest.mark.parametrize("name, old, new", [
    ("LLF", "QUANTUM = 1 ", 'QUANTUM = "1 s"'), ("ADSA", "ALIKE = 0.1", "ALIKE = -1")])
def test_a_wrong_setting_of_an_algorithm_is_one_line(name, old, new, run):
    text = (ROOT / f"{name}.py").read_text()
    assert text.count(old) == 1
    pathlib.Path("mine.py").write_text(text.replace(old, new))
    status, _, err = run("mine.py")
    assert status == 2
    assert re.match(rf"{name}.py: {new.split()[0]}: .* is (not a number|negative)\n$", err)
    assert files() == ["mine.py"]


@pytest.mark.parametrize("old, new", [
    ("return common.interval_table(queue, runs)", "return common.interval_table(queue, runs[1:])"),  # one left out
    ("runs.append((j, start, now))", "runs.append((j, start - 1, now - 1))"),  # begun before it arrived
    ("runs.append((j, start, now))", "runs.append((j, start, now + 1))"),  # too long
])
def test_a_policy_that_loses_work_is_told(old, new, run):
    text = (ROOT / "SRTF.py").read_text()
    assert text.count(old) == 1
    pathlib.Path("mine.py").write_text(text.replace(old, new))
    status, _, err = run("mine.py")
    assert status == 2
    assert err == "SRTF.py: the schedule does not compute every task, whole and after its arrival\n"


def test_a_folder_that_cannot_be_written_in_is_refused_before_the_work(run, monkeypatch):
    os.mkdir("locked")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("locked"))  # root may write anywhere
    refused(run("FCFS", "--out", "locked/results"), "locked is not a folder that can be written in")
    assert files() == []


def test_a_full_disk_leaves_nothing(run, monkeypatch):
    run("FCFS")
    before = {file: pathlib.Path(file).read_bytes() for file in files()}

    def fail(path, *rest):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(common, "draw_gantt", fail)
    status, _, err = run("FCFS", "--device", "RTX 4090")
    assert (status, err) == (2, "FCFS.py: --out results: No space left on device\n")
    assert {file: pathlib.Path(file).read_bytes() for file in files()} == before


def test_a_capped_task_is_warned_of(run):
    task = dict(FCFS.tasks[0], output_words=5000)
    pd.DataFrame([task]).to_csv("tasks.csv", index=False)
    status, _, err = run("FCFS", "--tasks", "tasks.csv", "--no-plot")
    assert status == 0
    assert err.startswith("warning: 1 of 1 tasks exceed the context of GPT-Neo 1.3B (2048 tokens) and run capped")
    assert err.count("\n") == 1


def test_help_is_quick_and_needs_no_package():
    """No heavy import is behind --help: it works where none of the packages can be found."""
    for name in NAMES:
        code = (f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[:] = ['{name}.py', '--help'];"
                f"runpy.run_path({str(ROOT / name) + '.py'!r}, run_name='__main__')")
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for flag in ("--tasks", "--load", "--model", "--device", "--link", "--out", "--no-plot"):
            assert flag in done.stdout
        assert ("--objective" in done.stdout and "--time-limit" in done.stdout) == (name == "optimal")


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    done = subprocess.run(f'"{sys.executable}" "{ROOT / "FCFS.py"}" --no-plot | true', shell=True, cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.stderr == ""


def hard_list(path):
    rows = [(f"T{k}", "", k * 8 % 97, 0, 3 + k * 5 % 11, k * 8 % 97 + 14 + 2 * (3 + k * 5 % 11), 3 + k * 7 % 12)
            for k in range(28)]
    pd.DataFrame(rows, columns=[*common.FIELDS, "computation_time"]).to_csv(path, index=False)


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("stop", ["interrupt", "kill the solver"])
def test_an_interrupt_or_a_killed_solver_leaves_one_line_and_no_file(stop, tmp_path):
    hard_list(tmp_path / "tasks.csv")
    script = subprocess.Popen(
        [sys.executable, str(ROOT / "optimal.py"), "--tasks", "tasks.csv", "--objective", "turnaround"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, start_new_session=True)
    for _ in range(600):
        solvers = children(script.pid)
        if solvers or script.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(0.3)
    if stop == "interrupt":  # as a terminal does: to all of the foreground
        os.killpg(script.pid, signal.SIGINT)
    else:
        while script.poll() is None:  # it may have gone on to its next program meanwhile
            for solver in children(script.pid):
                os.kill(solver, signal.SIGKILL)
            time.sleep(0.05)
    _, err = script.communicate(timeout=60)
    assert script.returncode == (130 if stop == "interrupt" else 2)
    assert err == "optimal.py: interrupted\n" if stop == "interrupt" else "optimal.py: the solver CBC failed" in err
    assert err.count("\n") == 1
    assert files(tmp_path) == ["tasks.csv"]


# README ---------------------------------------------------------------------------------------------------------------


README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_in_readme_are_those_of_the_runs(name, run):
    run(name, "--no-plot")
    found = metrics(name)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()
            if line.startswith(f"| [{name}.py]({name}.py) | ")]
    cells = next(row for row in rows if len(row) == 7)
    assert cells[1:] == [f"{found[key]:.2f}" if "time" in key or key == "T_end" else str(found[key]) for key in (
        "mean_waiting_time", "mean_response_time", "mean_turnaround_time", "deadlines_met", "T_end", "preemptions")]


def test_readme_and_continuous_integration_run_the_same_commands():
    commands = re.findall(r"^(?:python3 -m venv|\.venv/bin/pip) .*", README, re.MULTILINE)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    assert 'grep -E "^(python3 -m venv|\\.venv/bin/pip) " README.md' in script


def test_nothing_else_stands_at_the_top():
    names = set(subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split())
    if not names:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in names if not name.startswith(".")}
    allowed = {"FCIM.py", "HexGen.py", "PipeDream.py", "PipeEdge.py", *(f"{name}.py" for name in NAMES), "common.py",
               "requirements.txt", "README.md", "tests"}
    assert top <= allowed


def test_files_of_an_earlier_run_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "FCFS_tasks.csv").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    common.write_files(str(tmp_path), {"FCFS_tasks.csv": lambda path: pathlib.Path(path).write_text("new")})
    assert files(tmp_path) == ["FCFS_tasks.csv", "notes.txt"]
    assert (tmp_path / "FCFS_tasks.csv").read_text() == "new"
