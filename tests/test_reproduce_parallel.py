"""reproduce/parallel.py: results in order; what goes wrong is one line; nothing outlives the script."""
import contextlib
import math
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, files

import common
from reproduce.parallel import cores, parallel


def fails(k):
    if k == 2:
        raise common.UserError("the third is wrong")
    return k


def has_a_fault(k):
    return common.no_such_name


def dies(k):
    if k == 1:
        os._exit(3)
    return k


def results(function, jobs):
    found = {}
    parallel(function, jobs, found.__setitem__)
    return [found[k] for k in range(len(jobs))]


@pytest.mark.parametrize("allowed", [1, 2])
def test_results_come_in_order_from_as_many_processes_as_cores_are_allowed(allowed, monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(allowed), raising=False)
    started = []
    start = multiprocessing.process.BaseProcess.start
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", lambda one: started.append(one) or start(one))
    assert results(math.pow, [(k, 2) for k in range(20)]) == [k * k for k in range(20)]
    assert len(started) == allowed
    found = results(bytes, [(3000000 + k,) for k in range(4)])  # more than a pipe holds at once
    assert [len(result) for result in found] == [3000000 + k for k in range(4)]
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    results(math.pow, [(k, 2) for k in range(4)])
    out, err = capsys.readouterr()
    assert (out, err.count("\r"), err.count("\n")) == ("", 4, 1)
    assert err.endswith(f"\r[{'#' * 40}] 4 of 4\n")
    with pytest.raises(common.UserError):
        results(fails, [(k,) for k in range(4)])
    assert capsys.readouterr().err.endswith("2 of 4\n")  # a bar that stops ends its line


@pytest.mark.parametrize("function, message", [
    (fails, "the third is wrong"),
    (has_a_fault, r"AttributeError: module 'common' has no attribute 'no_such_name' \(.*parallel.py, line \d+\)$"),
    (dies, "a process that ran one of the cases has ended"),
    (sys.exit, "a process that ran one of the cases has ended")])  # as SIGTERM while a solver runs
def test_what_goes_wrong_in_a_process_is_one_line_and_leaves_no_file(function, message, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(common.UserError, match=message):
        results(function, [(k,) for k in range(4)])
    assert list(tmp_path.iterdir()) == []


def wait_for(leader, number):
    """Until so many processes of a session (that a process leads) run; for a minute at most."""
    running = []
    for _ in range(1200):
        running.clear()
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                state, _, _, of_session = stat.read_text().rsplit(")", 1)[1].split()[:4]
                if state != "Z" and int(of_session) == leader:
                    running.append(stat.parent.name)
        if len(running) == number:
            break
        time.sleep(0.05)
    assert len(running) == number


JOBS = f"""
import subprocess, sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
import common
from reproduce.parallel import parallel

def job(k):
    open(tempfile.mkdtemp() + "/file", "w").close()
    subprocess.run(["sleep", "100"])

if __name__ == "__main__":
    common.run(lambda name: parallel(job, [(k,) for k in range(10)], print), "many")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
@pytest.mark.parametrize("kill, number", [(os.kill, signal.SIGINT), (os.killpg, signal.SIGINT),
                                          (os.kill, signal.SIGTERM), (os.kill, signal.SIGKILL)])
def test_whatever_ends_the_parent_leaves_no_process_and_no_file(kill, number, tmp_path):
    (tmp_path / "many.py").write_text(JOBS)
    (tmp_path / "tmp").mkdir()

    def heed_interrupts():  # which a process started in the background may have been told to ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    script = subprocess.Popen([sys.executable, "many.py"], text=True, cwd=tmp_path, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed_interrupts,
                              env=dict(os.environ, TMPDIR=str(tmp_path / "tmp")))
    workers = min(10, cores())
    wait_for(script.pid, 1 + 2 * workers)  # each with its sleep
    kill(script.pid, number)
    out, err = script.communicate(timeout=60)
    wait_for(script.pid, 0)
    assert files(tmp_path) == ["many.py"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert out == ""
    if number == signal.SIGINT:
        assert (script.returncode, err) == (130, "many: interrupted\n")
    assert err.count("\n") <= 1
    assert "Traceback" not in err
