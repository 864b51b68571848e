"""optimal: its solver missing, failing or interrupted, and settings that are wrong."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import pandas as pd
import pulp
import pytest
from conftest import ROOT, files, refused
from test_optimal import HARD, TICK, solver_at
from test_schedules import table

import common
import optimal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulp")  # of what PuLP 4 will not have


def test_a_missing_solver_is_said(monkeypatch, tmp_path):
    solver_at(tmp_path / "nothing", monkeypatch)
    with pytest.raises(common.UserError, match="the solver CBC is not installed"):
        optimal.schedule(table(HARD, TICK))


def test_a_solver_that_may_not_be_executed_is_said(monkeypatch, tmp_path):
    program = tmp_path / "cbc"
    solver_at(program, monkeypatch, "exit 0")
    program.chmod(0o644)
    with pytest.raises(common.UserError, match=f"the solver CBC may not be executed: {program}"):
        optimal.schedule(table(HARD, TICK))


@pytest.mark.parametrize("script", ["kill -9 $$", "exit 1", "exit 0"])
def test_a_failing_solver_is_said(script, monkeypatch, tmp_path):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    solver_at(tmp_path / "cbc", monkeypatch, script)
    with pytest.raises(common.UserError, match=r"the solver CBC failed: [^\n]*$"):
        optimal.schedule(table(HARD, TICK))
    assert files(tmp_path) == ["cbc"]


@pytest.mark.parametrize("version", ["3.0.0", "3.0.1"])
def test_a_release_of_pulp_that_builds_wrong_constraints_is_refused(version, monkeypatch, run):
    monkeypatch.setattr(pulp, "__version__", version)
    refused(run("optimal"), f"PuLP {version} builds wrong constraints: install another release, pip install ")


@pytest.mark.skipif(os.name == "nt", reason="file names of bytes")
@pytest.mark.parametrize("folder", [b"a space", b"caf\xe9", "\u65e5\u672c".encode()])
def test_any_temporary_folder_serves(folder, tmp_path):
    temporary = os.path.join(os.fsencode(tmp_path), folder)
    os.mkdir(temporary)
    write_tasks(tmp_path)
    done = subprocess.run([sys.executable, *SCRIPT, "--no-plot", "--time-limit", "0.3"], cwd=tmp_path,
                          env={**os.environb, b"TMPDIR": temporary}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not os.listdir(temporary)


@pytest.mark.parametrize("setting, values", [
    ("objective", ["", "tardiness"]), ("time_limit", [-1, float("nan"), float("inf"), 1e10])])
def test_a_wrong_setting_is_said_before_anything_is_computed(setting, values, monkeypatch):
    monkeypatch.setattr(common, "simulate", None)
    for value in values:
        with pytest.raises(common.UserError, match=setting.upper()) as error:
            optimal.schedule(table(HARD, TICK), **{setting: value})
        assert "\n" not in str(error.value)


# Signals --------------------------------------------------------------------------------------------------------------


def write_tasks(folder):
    rows = [(f"T{k}", "", a, 0, q, d, p) for k, (a, p, q, d) in enumerate(HARD)]
    pd.DataFrame(rows, columns=["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline",
                                "computation_time"]).to_csv(folder / "tasks.csv", index=False)


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


SCRIPT = [str(ROOT / "optimal.py"), "--tasks", "tasks.csv", "--objective", "turnaround"]
FUNCTION = ["-c", f"""import sys
sys.path.insert(0, {str(ROOT)!r})
import common, optimal
tasks = common.read_tasks('tasks.csv', common.get_model('GPT-Neo 1.3B'), [common.get_device('T4')])
optimal.schedule(tasks, objective='turnaround')"""]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("program, stop, status, message", [
    (SCRIPT, "SIGINT to all", 130, "optimal: interrupted\n"),  # as a terminal's Ctrl-C
    (SCRIPT, "SIGINT", 130, "optimal: interrupted\n"),
    (SCRIPT, "SIGTERM", 143, ""),
    (FUNCTION, "SIGTERM", 143, ""),
    (SCRIPT, "kill the solver", 2, "optimal: the solver CBC failed: [^\n]*\n")])
def test_a_signal_leaves_no_solver_and_no_file(program, stop, status, message, tmp_path):
    write_tasks(tmp_path)
    (tmp_path / "temporary").mkdir()
    script = subprocess.Popen(
        [sys.executable, *program], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # ignored in what a shell runs with &
    seen = [[]]
    while not (seen[-1] and seen[-1:] * 10 == seen[-10:]) and script.poll() is None:  # half a second in one program
        time.sleep(0.05)
        seen.append(children(script.pid))
    assert len(seen[-1]) == 1 and len(list((tmp_path / "temporary").iterdir())) == 1
    if stop == "SIGINT to all":
        os.killpg(script.pid, signal.SIGINT)
    elif stop == "kill the solver":
        os.kill(*seen[-1], signal.SIGKILL)
    else:
        os.kill(script.pid, getattr(signal, stop))
    _, err = script.communicate(timeout=30)  # far below TIME_LIMIT
    assert script.returncode == status
    assert re.fullmatch(message, err)
    with pytest.raises(ProcessLookupError):
        os.killpg(script.pid, 0)
    assert files(tmp_path) == ["tasks.csv"] and not list((tmp_path / "temporary").iterdir())
