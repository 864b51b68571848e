"""What the tests share: hypothesis draws the same cases every run, and scripts run as a user runs them."""
import pathlib
import runpy
import sys

import pandas as pd
import pytest
from hypothesis import settings

import common

ROOT = pathlib.Path(common.__file__).parent
settings.register_profile("same cases every run", deadline=None, derandomize=True, database=None)
settings.load_profile("same cases every run")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a script in this process, in an empty folder; returns exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments):
        path = pathlib.Path(script) if script.endswith(".py") else ROOT / f"{script}.py"
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            status = stop.code or 0
        return (status, *capsys.readouterr())
    return run


def files(folder="."):
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*") if path.is_file())


def metrics(script, folder="results"):
    return pd.read_csv(pathlib.Path(folder) / f"{script}_metrics.csv").iloc[0]


def refused(outcome, message):
    status, out, err = outcome
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert out == ""
    assert not pathlib.Path("results").exists()
