"""Real models from the command line: --execute, --measure, --calibrate, --export."""
import json
import os
import pathlib
import re
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT, files

import common
import FCIM

torch = pytest.importorskip("torch", reason="torch is not installed: no real model is run")
torch.set_num_threads(1)  # as many more only get in each other's way

ALLOCATORS = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
SCHEDULERS = ["FCFS", "SRTF", "LLF", "ADSA", "optimal"]


@pytest.fixture
def short(run):
    """A task file of three short outputs, in the empty folder of `run`."""
    tasks = [dict(task, output_words=words) for task, words in zip(FCIM.tasks, (6, 4, 5))]
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    return "--tasks", "tasks.json", "--no-plot"


def read(name):
    return pd.read_csv(f"results/{name}.csv", keep_default_na=False, lineterminator="\n")


@pytest.mark.parametrize("name", ALLOCATORS)
def test_an_allocation_is_executed_in_one_process(name, run, short):
    status, out, err = run(name, "--execute", "--seed", "2", *short)
    assert (status, err) == (0, "")
    assert "executed in one process: random weights: timing and placement are real, the text is not (12 layers" in out
    stages, measured, texts = (read(f"{name}_{end}") for end in ("stages", "measured", "texts"))
    assert measured["layers"].tolist() == stages["layers"].tolist()
    assert measured["layers"].sum() == 12
    share = stages["computation_time"] / stages["computation_time"].sum()
    assert measured["predicted_share"].tolist() == pytest.approx(share.tolist(), abs=0.02)  # of rounded times
    assert measured["measured_share"].tolist() == pytest.approx(
        (measured["measured_seconds"] / measured["measured_seconds"].sum()).tolist(), abs=1e-5)
    assert (measured["measured_seconds"] > 0).all()
    assert texts["label"].tolist() == ["Task 1", "Task 2", "Task 3"]
    assert (texts["tokens"] <= [8, 6, 7]).all()
    first = texts["text"].tolist()
    assert run(name, "--execute", "--seed", "2", *short)[0] == 0
    assert read(f"{name}_texts")["text"].tolist() == first
    assert run(name, "--execute", "--seed", "2", "--sample", *short)[0] == 0
    assert read(f"{name}_texts")["text"].tolist() != first


def torchrun(ranks, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.run([*command, *map(str, arguments)], env=dict(os.environ, OMP_NUM_THREADS="1"),
                          capture_output=True, text=True, timeout=120)


def test_under_torchrun_each_rank_runs_a_stage_and_the_texts_are_the_same(run, short):
    bids = [{"device": f"GPU {k}", "layers": layers, "price": 1, "computation_time": 1} for k, layers in
            ((4, 5), (6, 7))]
    pathlib.Path("bids.json").write_text(json.dumps(bids))
    assert run("PipeEdge", "--execute", "--bids", "bids.json", *short)[0] == 0
    alone, counts = read("PipeEdge_texts"), read("PipeEdge_stages")["layers"].tolist()
    assert sorted(counts) == [5, 7]
    done = torchrun(2, ROOT / "PipeEdge.py", "--execute", "--bids", "bids.json", *short)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert done.stdout.count("executed on 2 ranks: random weights") == 1
    assert read("PipeEdge_texts")["text"].tolist() == alone["text"].tolist()
    measured = read("PipeEdge_measured")
    assert measured["layers"].tolist() == counts
    assert measured["bytes_sent"].iloc[1] == 0 < measured["bytes_sent"].iloc[0]
    assert measured["bytes_sent"].iloc[0] % (128 * 4) == 0  # hidden states of whole positions
    files_then = files()
    for ranks, arguments, line in (
            (3, ["--execute", "--bids", "bids.json", *short], "torchrun has started 3 ranks for 2 stages"),
            (2, ["--bids", "bids.json", *short], "torchrun is for --execute")):
        done = torchrun(ranks, ROOT / "PipeEdge.py", "--out", "none", *arguments)
        assert done.returncode != 0
        assert done.stderr.count(f"PipeEdge.py: {line}") == 1
        assert "Traceback" not in done.stderr.split("ChildFailedError")[0].replace(
            "Traceback (most recent call last)", "", 1)  # that of torchrun itself
    assert files() == files_then


def test_groups_of_devices_are_planned_only(run, short):
    bids = [{"device": f"GPU {k}", "layers": 6, "price": 1, "computation_time": 2000} for k in (5, 6)]
    pathlib.Path("bids.json").write_text(json.dumps(bids))
    status, out, _ = run("HexGen", "--execute", "--pool", "workstations", "--bids", "bids.json", *short)
    assert status == 0
    assert read("HexGen_stages")["tensor_parallel"].tolist() == [2]
    assert "tensor parallelism is planned only" in out
    assert read("HexGen_measured")["layers"].tolist() == [12]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_measured_times_are_scheduled(name, run, short):
    status, out, err = run(name, "--measure", *short)
    assert (status, err) == (0, "")
    assert "measuring on random weights: timing and placement are real, the text is not (12 layers" in out
    tasks, texts, metrics = (read(f"{name}_{end}") for end in ("tasks", "texts", "metrics"))
    assert tasks["computation_time"].tolist() == texts["seconds"].tolist()
    assert (texts["seconds"] > 0).all()
    assert texts["tokens"].between(1, 8).all()
    config = common.load_config()
    weights = 12 * common.model_from_config("", config).params * 4 / 1e9
    assert weights <= metrics["peak_memory_gb"].iloc[0] < weights + 1
    again = texts["text"].tolist()
    if name == "ADSA":
        assert run(name, "--measure", "--load", "2", *short)[0] == 0
        tasks = read("ADSA_tasks")
        assert tasks["computation_time"].sum() / tasks["arrival_time"].max() == pytest.approx(2, rel=1e-3)
        assert read("ADSA_texts")["text"].tolist() == again


def test_a_checkpoint_alone_is_told_or_names_the_model(run):
    for flags in (["--checkpoint", "./none"], ["--sample"]):
        assert run("FCFS", *flags) == (2, "", "FCFS.py: --checkpoint and --sample are for --measure or --calibrate\n")
    from transformers import GPT2Config
    GPT2Config(n_layer=7, n_embd=64, n_head=4).save_pretrained("small")
    status, out, _ = run("PipeDream", "--checkpoint", "small", "--no-plot")
    assert status == 0
    assert "PipeDream: 5 tasks, small (7 layers, 16 bits)" in out
    assert read("PipeDream_stages")["layers"].sum() == 7


def test_calibration_prints_lines_ready_to_paste(run):
    for name, count in (("FCFS", 1), ("PipeEdge", 2)):
        status, out, err = run(name, "--calibrate")
        assert (status, err) == (0, "")
        constants = re.findall(r"^(COMPUTE_EFFICIENCY|BANDWIDTH_EFFICIENCY) = (\S+)  #", out, re.MULTILINE)
        assert [constant for constant, _ in constants] == ["COMPUTE_EFFICIENCY", "BANDWIDTH_EFFICIENCY"] * count
        assert all(float(value) > 0 for _, value in constants)
        assert files() == []


@pytest.mark.parametrize("engine, file", [("device_map", "json"), ("vllm", "txt"), ("llama.cpp", "txt"),
                                          ("petals", "txt"), ("HEXGEN", "txt")])
def test_an_allocation_is_exported(engine, file, run):
    status, out, err = run("PipeEdge", "--export", engine, "--no-plot")
    assert (status, err) == (0, "")
    text = pathlib.Path(f"results/PipeEdge_{engine.lower()}.{file}").read_text()
    assert text in out
    counts = read("PipeEdge_stages")["layers"].tolist()
    if engine == "device_map":
        places = json.loads(text)
        assert [places[f"transformer.h.{i}"] for i in range(70)] == [s for s, n in enumerate(counts) for _ in range(n)]
        assert places["transformer.word_embeddings"] == 0
    elif engine != "petals":
        counts = counts[:-1] + [counts[-1] + (engine == "llama.cpp")]
        assert re.search("[, ]".join(map(str, counts)), text)


def test_what_cannot_be_exported_is_told(run):
    status, _, err = run("HexGen", "--pool", "workstations", "--export", "petals")
    assert (status, err.count("\n")) == (2, 1)
    assert "petals cannot split a layer between GPU 5+GPU 6" in err
    status, out, err = run("FCIM", "--export", "onnx")
    assert (status, out, err) == (2, "", "FCIM.py: unknown engine 'onnx': choose from device_map, vllm, llama.cpp, "
                                         "petals, hexgen\n")
    assert files() == []


@pytest.mark.parametrize("name, flag", [("ADSA", "--measure"), ("FCIM", "--execute")])
def test_what_cannot_be_run_is_told(name, flag, run, monkeypatch):
    pathlib.Path("trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,4,10\n"
                                         "2023-11-16 18:17:09,4,10\n")
    for arguments, message in ((["--tasks", "trace.csv"], f"trace.csv: {flag} needs prompts, and a trace has none"),
                               (["--checkpoint", "./none"], "checkpoint './none': no such folder")):
        status, _, err = run(name, flag, *arguments)
        assert (status, err) == (2, f"{name}.py: {message}\n")
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = run(name, flag)
    assert status == 2
    assert err.startswith(f"{name}.py: a real model needs torch: pip install torch")
    assert err.count("\n") == 1
    assert files() == ["trace.csv"]
