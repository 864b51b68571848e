"""real.llamacpp: with stand-ins for llama.cpp's programs everywhere, and with the programs where they are found."""
import functools
import json
import os
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, refused, run_main

import common
from real import describe, llamacpp

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
COMPLETION = """#!{python}
import sys
if sys.argv[1] == "--version":
    print("version: 1 (stand-in)")
    sys.exit()
flags = dict(zip(sys.argv[1:], sys.argv[2:]))
devices, shares = flags["--device"].split(","), [int(n) for n in flags["-ts"].split(",")]
assert len(devices) == len(shares) == len(flags["--rpc"].split(","))
with open(flags["--log-file"], "w") as log:
    on = [d for d, n in zip(devices, shares) for _ in range(n)]
    {change}
    for layer, device in enumerate(on):
        log.write("load_tensors: layer %3d assigned to device %s, is_swa = 0\\n" % (layer, device))
    runs = int(flags["-n"]) - 1
    log.write("perf: prompt eval time =  9.00 ms /  3 tokens\\n")
    log.write("perf:        eval time =  %.2f ms / %5d runs\\n" % (4 * runs, runs))
print(flags["-p"][::-1], end="")
sys.exit({status})
"""


def write_programs(folder, change="pass", status=0):
    """Stand-ins for llama.cpp's two programs, as older builds call them."""
    folder.mkdir()
    for name, text in (("rpc-server", WORKER), ("llama-cli", COMPLETION)):
        path = folder / name
        path.write_text(text.format(python=sys.executable, change=change, status=status))
        path.chmod(0o755)
    os.environ["LLAMA_CPP"] = str(folder)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs real.llamacpp in this process, in an empty folder, on MODEL; returns exit status, output and error."""
    monkeypatch.chdir(tmp_path)
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


def test_an_allocation_runs_on_workers_of_this_machine(command, tmp_path):
    write_programs(tmp_path / "bin")
    status, out, err = command("PipeDream", *inputs([5, 4, 3]))
    assert (status, [line for line in err.splitlines() if "the bids promise" not in line]) == (0, [])
    assert "llama-cli: version: 1 (stand-in)" in out
    assert "placed as allocated, by the log: 5 layers, 4 layers, 3 layers, the output layer last" in out
    assert "a token, from end to end: 4.000 ms measured" in out
    assert "the texts are those of 11 layers on one worker" in out
    table = pd.read_csv("results/PipeDream_llamacpp.csv")
    assert table["layers"].tolist() == [5, 4, 3]
    assert table["head_ms"][:2].tolist() == [0, 0]
    assert pd.read_csv("results/PipeDream_llamacpp_texts.csv")["text"].tolist() == ["ba", "dc"]


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


@pytest.mark.parametrize("change, status, places, field", [
    ("on[4] = 'CPU'", 0, "a:1,b:2,c:3", "layer 4 on CPU, not on RPC0 as allocated"),  # the log says something else
    ("pass", 3, "a:1,b:2,c:3", "llama-cli ended with 3: load_tensors: layer 12"),
    ("pass", 0, "a:1,b:2", "--rpc: 2 workers for 3 stages")])
def test_a_run_that_goes_wrong_is_not_reported(change, status, places, field, command, tmp_path):
    write_programs(tmp_path / "bin", change, status)
    stopped, out, err = command("PipeDream", *inputs([5, 4, 3]), "--rpc", places)
    assert stopped == 2 and field in err.splitlines()[-1]
    assert "placed as allocated" not in out and not pathlib.Path("results").exists()


def test_programs_that_are_not_there_are_told(command):
    refused(command("FCIM", "--checkpoint", "m.gguf"), "llama-completion is not in nowhere: build it with ")


def test_what_is_predicted_of_a_stage():
    """A layer takes 2 ms, a worker 0.5 besides, the head 3."""
    table = pd.DataFrame({"stage": [1, 2], "devices": ["A", "B"], "layers": [7, 5]})
    stages = llamacpp.local_table(table, ["a:1", "b:2"], np.array([22.5, 2.5, 3.5]), np.array([14.5, 10.8]))
    assert stages["layers_ms"].tolist() == [14, 10]
    assert stages["worker_ms"].tolist() == [0.5, 0.5]
    assert stages["head_ms"].tolist() == [0, 3]
    assert stages["predicted_ms"].tolist() == [14.5, 13.5]
    assert stages["error_percent"].tolist() == [0, 25]


def test_the_time_of_a_process_is_read():
    mine = llamacpp.cpu_seconds([os.getpid()])
    if np.isnan(mine[0]):
        pytest.skip("this system does not tell")
    start = sum(os.times()[:2])
    while sum(os.times()[:2]) < start + 0.1:
        pass
    assert llamacpp.cpu_seconds([os.getpid()])[0] - mine[0] == pytest.approx(0.1, abs=0.05)
