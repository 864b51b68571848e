"""optimal: its solver missing, failing or interrupted, and settings that are wrong."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pandas as pd
import pulp
import pytest
from conftest import ROOT, files
from test_optimal import HARD, TICK, solver_at
from test_schedules import table

import common
import optimal


@pytest.mark.parametrize("script", [None, "kill -9 $$", "exit 1", "exit 0"])
def test_a_solver_that_is_missing_or_fails_is_said(script, monkeypatch, tmp_path):
    solver_at(tmp_path / "cbc", monkeypatch, script)
    with pytest.raises(common.UserError, match=r"the solver CBC failed: [^\n]*$"):
        optimal.schedule(table(HARD, TICK))


@pytest.mark.parametrize("version", ["3.0.0", "3.0.1", "4.0.0"])
def test_a_release_of_pulp_that_cannot_serve_is_refused(version, monkeypatch):
    """Two build wrong constraints; 4 has no solver and another interface."""
    monkeypatch.setattr(pulp, "__version__", version)
    if version == "4.0.0":
        monkeypatch.delattr(pulp, "PULP_CBC_CMD")
    with pytest.raises(common.UserError, match=f"PuLP {version}: pip install 'pulp<4,"):
        optimal.schedule(table(HARD, TICK))
    few = HARD[:optimal.MAX_EXACT]  # need none
    assert optimal.schedule(table(few, TICK)).attrs["metrics"]["proven_optimal"] is True


@pytest.mark.parametrize("setting, value", [("objective", "tardiness"), ("time_limit", -1), ("time_limit", 1e10)])
def test_a_wrong_setting_is_said_before_anything_is_computed(setting, value, monkeypatch):
    monkeypatch.setattr(common, "simulate", None)
    with pytest.raises(common.UserError, match=setting.upper()):
        optimal.schedule(table(HARD, TICK), **{setting: value})


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_an_interrupt_ends_the_run_at_once_and_leaves_no_file(tmp_path):
    rows = [(f"T{k}", "", a, 0, q, d, p) for k, (a, p, q, d) in enumerate(HARD)]
    pd.DataFrame(rows, columns=["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline",
                                "computation_time"]).to_csv(tmp_path / "tasks.csv", index=False)
    (tmp_path / "temporary").mkdir()
    script = subprocess.Popen(
        [sys.executable, ROOT / "optimal.py", "--tasks", "tasks.csv", "--objective", "turnaround"], cwd=tmp_path,
        text=True, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # ignored in what a shell runs with &
    solver = pathlib.Path(f"/proc/{script.pid}/task/{script.pid}/children")
    while script.poll() is None and not solver.read_text():
        time.sleep(0.05)
    os.killpg(script.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
    _, err = script.communicate(timeout=30)  # far below TIME_LIMIT
    with contextlib.suppress(ProcessLookupError):
        os.killpg(script.pid, signal.SIGKILL)  # the solver may end later
    assert (script.returncode, err) == (130, "optimal: interrupted\n")
    assert files(tmp_path) == ["tasks.csv"]
