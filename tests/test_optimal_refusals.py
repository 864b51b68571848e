"""optimal: its solver missing, failing or interrupted, and settings that are wrong."""
import signal
import tempfile

import pulp
import pytest
from conftest import files
from test_optimal import TICK, solver_at
from test_schedules import table

import common
import optimal


@pytest.fixture(autouse=True)
def program_alone(monkeypatch):
    monkeypatch.setattr(optimal, "WIDTHS", ())


CASE = [(7, 10, 9, 500), (4, 6, 10, 500), (15, 11, 10, 500), (2, 10, 1, 500), (29, 8, 5, 500)]


@pytest.mark.parametrize("script", [None, "kill -9 $$", "exit 1", "exit 0"])
def test_a_solver_that_is_missing_or_fails_is_said(script, monkeypatch, tmp_path):
    solver_at(tmp_path / "cbc", monkeypatch, script)
    with pytest.raises(common.UserError, match=r"the solver CBC failed: [^\n]*$"):
        optimal.schedule(table(CASE, TICK), objective="turnaround")


def test_an_interrupted_solver_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    solver_at(tmp_path / "cbc", monkeypatch, "kill -INT $PPID; sleep 1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it runs with &
    try:
        with pytest.raises(KeyboardInterrupt):
            optimal.schedule(table(CASE, TICK), objective="turnaround")
    finally:
        signal.signal(signal.SIGINT, before)
    assert files(tmp_path) == ["cbc"]


@pytest.mark.parametrize("version", ["3.0.0", "3.0.1", "4.0.0"])  # 4 has no solver
def test_a_release_of_pulp_that_cannot_serve_is_refused(version, monkeypatch):
    monkeypatch.setattr(pulp, "__version__", version)
    if version == "4.0.0":
        monkeypatch.delattr(pulp, "PULP_CBC_CMD")
    with pytest.raises(common.UserError, match=f"PuLP {version}: pip install 'pulp<4,"):
        optimal.schedule(table(CASE, TICK), objective="turnaround")


@pytest.mark.parametrize("setting, value", [("objective", "tardiness"), ("time_limit", -1), ("time_limit", 1e11)])
def test_a_wrong_setting_is_said_before_anything_is_computed(setting, value, monkeypatch):
    monkeypatch.setattr(common, "simulate", None)
    with pytest.raises(common.UserError, match=setting.upper()):
        optimal.schedule(table(CASE, TICK), **{setting: value})
