"""reproduce/parallel.py: results in order; what goes wrong is one line; nothing outlives the script."""
import math
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import ROOT, files

import common
from reproduce.parallel import parallel


def fails(k):
    if k == 2:
        raise common.UserError("the third is wrong")
    return k


def dies(k):
    if k == 1:
        os._exit(3)
    return k


def leaves(k):
    """SIGTERM while a solver runs becomes this."""
    sys.exit(143)


def large(k):
    return bytes(3000000 + k)


@pytest.mark.parametrize("cores", [1, 2, None])
def test_results_come_in_order(cores, monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert parallel(math.pow, [(k, 2) for k in range(20)]) == [k * k for k in range(20)]
    found = parallel(large, [(k,) for k in range(4)])
    assert [len(result) for result in found] == [3000000 + k for k in range(4)]
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    parallel(math.pow, [(k, 2) for k in range(4)])
    out, err = capsys.readouterr()
    assert (out, err.count("\r"), err.count("\n")) == ("", 4, 1)
    assert err.endswith(f"\r[{'#' * 40}] 4 of 4\n")


def test_a_bar_that_stops_ends_its_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(common.UserError):
        parallel(fails, [(k,) for k in range(4)])
    assert capsys.readouterr().err.endswith("2 of 4\n")


@pytest.mark.parametrize("function, message", [
    (fails, "the third is wrong"), (dies, "a process that ran one of the cases has ended"),
    (leaves, "a process that ran one of the cases has ended")])
def test_what_goes_wrong_in_a_process_is_one_line_and_leaves_no_file(function, message, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(common.UserError, match=message):
        parallel(function, [(k,) for k in range(4)])
    assert list(tmp_path.iterdir()) == []


def processes():
    """{process: (parent, process group)} of all that run."""
    found = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent), int(group)
    return found


def descendants(ancestor, all_of):
    mine = [process for process, (parent, _) in all_of.items() if parent == ancestor]
    return mine + [other for process in mine for other in descendants(process, all_of)]


def heed_interrupts():
    """What a process started in the background may have been told to ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def stop(command, folder, is_up, kill, number):
    """Starts a command in a group of its own, ends it with the signal once is_up(descendants), and waits until all that
    it had started has ended. Returns its exit status, output and error. Its temporary files go to folder/tmp."""
    (folder / "tmp").mkdir()
    script = subprocess.Popen(command, text=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True, env=dict(os.environ, TMPDIR=str(folder / "tmp")),
                              preexec_fn=heed_interrupts)
    for _ in range(1200):
        now = processes()
        started = descendants(script.pid, now)
        if is_up(started) or script.poll() is not None:
            break
        time.sleep(0.05)
    assert script.poll() is None
    groups = {now[process][1] for process in started}
    kill(script.pid, number)
    out, err = script.communicate(timeout=60)
    left = started
    for _ in range(100):
        left = [process for process, (_, group) in processes().items() if process in started or group in groups]
        if not left:
            break
        time.sleep(0.05)
    assert left == []
    return script.returncode, out, err


SIGNALS = [(os.kill, signal.SIGINT), (os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM), (os.kill, signal.SIGKILL)]
linux = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@linux
@pytest.mark.parametrize("kill, number", SIGNALS)
def test_whatever_ends_the_parent_leaves_no_process_and_no_file(kill, number, tmp_path):
    (tmp_path / "many.py").write_text(textwrap.dedent(f"""
        import subprocess, sys, tempfile, time
        sys.path.insert(0, {str(ROOT)!r})
        import common
        from reproduce.parallel import parallel

        def job(k):
            open(tempfile.mkdtemp() + "/file", "w").close()
            subprocess.run(["sleep", "100"])

        if __name__ == "__main__":
            common.run(lambda name: parallel(job, [(k,) for k in range(10)]), "many")
        """))
    workers = min(10, os.cpu_count())
    status, out, err = stop([sys.executable, "many.py"], tmp_path, lambda started: len(started) == 2 * workers, kill,
                            number)
    assert files(tmp_path) == ["many.py"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert out == ""
    if number == signal.SIGINT:
        assert status == 130
        assert err == "many: interrupted\n"
    else:
        assert err.count("\n") <= 1
        assert "Traceback" not in err
