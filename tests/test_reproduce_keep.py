"""reproduce/keep.py and cluster.py: whatever is killed, and wherever cases run, the files are the same bytes."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, part_of, refused, run_here, thorough
from hypothesis import given, settings
from hypothesis import strategies as st

import common
from reproduce import keep

STUDY = '''"""Gaps."""
import time

import numpy as np

import common
from parts import scale
from reproduce import stats, study

PAUSE = 0.05

def cases(args):
    return [(load, args.seed + k) for load in (0.5, 1) for k in range(args.runs)]

def run_case(load, seed):
    time.sleep(PAUSE)
    common.require(seed < 99, "seed 99 is wrong")
    gap = scale.BY * np.random.default_rng(seed).uniform(size=3) * [1, load, np.inf if seed == 3 else np.nan]
    return [dict(load=load, seed=np.int64(seed), algorithm=name, gap=gap[k], place=seed + k, is_first=k == 0,
                 is_last=np.bool_(seed == 9), problem="" if k else None) for k, name in enumerate("ABC")]

def report(runs):
    table = stats.compare(runs, ["load"], "seed", ["A", "B"], ["gap"])
    return [("gaps", "Gaps", study.means(table, ["load"], ["A", "B"]))], {"table": table}, {}

if __name__ == "__main__":
    study.run("gaps", __doc__, cases, run_case, report, 10, ["load", "seed", "gap"], seed=0, out="results")
'''


@pytest.fixture
def script(tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "__init__.py").touch()
    (parts / "scale.py").write_text("BY = 1 / 3\n")
    (tmp_path / "gaps.py").write_text(STUDY)
    return tmp_path / "gaps.py"


@pytest.fixture
def plain(script):
    """{file: content} of a run that keeps nothing."""
    assert run_here(script, "--out", "plain")[0] == 0
    return contents("plain")


def contents(folder):
    return {name: pathlib.Path(folder, name).read_bytes() for name in files(folder)}


def kept(folder):
    """The number of cases, all whole, in each file of a folder."""
    return {path: path.read_bytes().count(b"\n") - 1 for path in pathlib.Path(folder).glob("gaps.*.jsonl")}


def wait_until(true):
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("waited for a minute in vain")


def start(*command, **options):
    return subprocess.Popen([sys.executable, *map(str, command)], start_new_session=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **options)


def start_study(*command):
    """Of a user's own, from outside the project."""
    return start(*command, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_after_each_kill_the_same_command_goes_on(script, plain):
    for number in (2, 5, 11):
        process = start_study(script, "--keep", "k", "--out", "killed")
        wait_until(lambda number=number: sum(kept("k").values()) >= number)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    longest = max(kept("k"), key=kept("k").get)
    longest.write_bytes(longest.read_bytes()[:-9])  # a torn line
    assert run_here(script, "--keep", "k", "--out", "killed")[::2] == (0, "")
    assert contents("killed") == plain
    assert sum(kept("k").values()) == 20

    # More runs: only those that are new are run, and of the same runs none.
    assert run_here(script, "--runs", 12, "--out", "more")[0] == 0
    before = kept("k")
    for _ in range(2):
        assert run_here(script, "--runs", 12, "--keep", "k", "--out", "kept")[0] == 0
        assert contents("kept") == contents("more")
    added, = set(kept("k")) - set(before)
    assert kept("k")[added] == 4


def test_shares_in_any_order_give_the_same(script, plain):
    def share(k):
        return run_here(script, "--keep", "k", "--share", f"{k}/3", "--out", "shared")
    assert share(2) == (0, "7 of 20 cases are in k\n", "")
    torn, = kept("k")
    torn.write_text("\n".join(torn.read_text().splitlines()[:4])[:-5])  # as one that is killed leaves it
    assert share(3) == (0, "8 of 20 cases are in k\n", "")
    assert share(1) == (0, "15 of 20 cases are in k\n", "")
    assert not pathlib.Path("shared").exists()
    assert share(2)[0] == 0
    assert contents("shared") == plain


def test_cases_of_another_run_are_refused(script, monkeypatch):
    assert run_here(script, "--runs", 1, "--keep", "k", "--out", "o")[0] == 0
    refused(run_here(script, "--keep", "k", "--seed", 1), ".jsonl: cases of another run, not the same: seed")
    with monkeypatch.context() as patch:
        patch.setattr(pd, "__version__", "0")
        refused(run_here(script, "--keep", "k"), ".jsonl: cases of another run, not the same: pandas")
    script.write_text(STUDY + "# edited\n")
    refused(run_here(script, "--keep", "k"), ".jsonl: cases of another run, not the same: gaps.py")

    assert start_study(script, "--runs", 1, "--keep", "k2").wait() == 0
    (script.parent / "parts" / "scale.py").write_text("BY = 2 / 3\n")
    assert "cases of another run, not the same: scale.py" in start_study(script, "--keep", "k2").communicate()[0]


def test_what_is_typed_wrong_and_what_is_interrupted(script, monkeypatch):
    for share in ("0/3", "4/3", "1", "/3", "a/b", ""):
        refused(run_here(script, "--keep", "k", "--share", share), f"--share: '{share}' is not one of 1/n, 2/n ... n/n")
    refused(run_here(script, "--share", "1/3"), "--share: needs --keep")
    refused(run_here(script, "--from", ".", "--keep", "k"), "--keep: has no effect with --from")
    refused(run_here(script, "--keep", script), f"--keep {script}: ")

    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("reproduce.study.parallel", interrupt)
    assert run_here(script) == (
        130, "", "reproduce.gaps: interrupted: nothing is kept, as it would be with --keep DIR\n")
    assert run_here(script, "--keep", "k") == (130, "", "reproduce.gaps: interrupted: the same command goes on\n")


integers = st.integers(-2 ** 63, 2 ** 63 - 1)
numbers = st.one_of(integers, st.floats(), st.booleans(), integers.map(np.int64), st.floats().map(np.float64),
                    st.booleans().map(np.bool_))
cells = st.one_of(numbers, st.none(), st.text())


@settings(max_examples=part_of(100))
@given(st.lists(st.fixed_dictionaries({"a": cells, "b": numbers}, optional={"c": cells}), min_size=1, max_size=4))
def test_rows_come_back_as_they_were(rows):
    """Of the same types, numpy's as Python's, and as the same bytes of a CSV file."""
    back = json.loads(keep.to_json(rows))
    for row, again in zip(rows, back):
        python = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
        assert repr(again) == repr(python)
    common.write_file("there.csv", pd.DataFrame(rows))
    common.write_file("back.csv", pd.DataFrame(back))
    assert pathlib.Path("there.csv").read_bytes() == pathlib.Path("back.csv").read_bytes()


@thorough
def test_workers_of_dask(script, plain, tmp_path, monkeypatch):
    """Scheduler and workers in folders of their own, the project importable on neither: one of the workers is killed in
    the middle, edits are seen, there and back, and what a case raises is not tried again."""
    pytest.importorskip("distributed")
    script.write_text(STUDY.replace("PAUSE = 0.05", "PAUSE = 0.3"))
    processes = []

    def start_dask(what, *flags):
        folder = tmp_path / str(len(processes))
        shutil.copytree(tmp_path / "parts", folder / "parts")
        (folder / "parts" / "scale.py").write_text("BY = 9\n")  # of an earlier time
        processes.append(start("-m", f"distributed.cli.dask_{what}", "--scheduler-file", tmp_path / "scheduler.json",
                               "--no-dashboard", *flags, cwd=folder))
    try:
        start_dask("scheduler", "--host", "127.0.0.1", "--port", "0")
        start_dask("worker", "--nthreads", "1")
        start_dask("worker", "--nthreads", "1")
        wait_until((tmp_path / "scheduler.json").exists)
        address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        study = start_study(script, "--keep", "k", "--out", "cluster")
        wait_until(lambda: sum(kept("k").values()) >= 5)
        os.killpg(processes[1].pid, signal.SIGKILL)  # with its nanny
        out, _ = study.communicate(timeout=60)
        assert out.startswith(f"2 workers of {address}, 1 lost\n")
        assert contents("cluster") == plain

        for by, out in (("2 / 3", "edited"), ("1 / 3", "back")):
            (tmp_path / "parts" / "scale.py").write_text(f"BY = {by}\n")
            assert start_study(script, "--out", out).wait(60) == 0
        assert contents("edited") != contents("back") == plain

        (tmp_path / "mine.py").write_text("from ADSA import schedule\nfrom parts import scale\n")
        devices = ("-m", "reproduce.devices", "--runs", "1", "--most", "1", "--also", "mine.py", "--no-plot", "--out")
        assert start_study(*devices, "there").wait(60) == 0
        with monkeypatch.context() as patch:
            patch.delenv("DASK_SCHEDULER_ADDRESS")
            assert start_study(*devices, "here").wait(60) == 0
        assert contents("there") == contents("here")

        assert start_study(script, "--seed", 90).communicate()[0] == "reproduce.gaps: seed 99 is wrong\n"
        start_dask("worker", "--nthreads", "2")
        wait_until(lambda: "--nthreads 1" in start_study(script, "--runs", 1).communicate()[0])
    finally:
        for process in processes:
            process.terminate()
