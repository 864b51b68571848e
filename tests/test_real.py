"""The commands of real/: what each prints and writes, and what it tells a user who gets something wrong."""
import json
import pathlib
import subprocess
import sys
from unittest import mock

import pandas as pd
import pytest
from conftest import ROOT, files, refused

import common
import FCIM
from real import model as real

COMMANDS = ["describe", "execute", "measure", "serve", "calibrate", "export", "llamacpp"]
WEIGHTS = 4 * 2669952  # bytes of the small GPT-Neo
RANDOM = "random weights: timing and placement are real, the text is not (12 layers, torch.float32, cpu)"


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: no real model is run")
    torch.set_num_threads(1)  # as many more only get in each other's way
    return torch


@pytest.fixture
def command(run, monkeypatch):
    """Runs a command of real/ in this process, in an empty folder; returns exit status, standard output and error."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # no number of threads is tried
    return lambda name, *arguments: run(f"real/{name}", *arguments)


@pytest.fixture
def short(command):
    """A task file of three short outputs, in the empty folder of `command`."""
    tasks = [dict(task, output_words=words) for task, words in zip(FCIM.tasks, (6, 4, 5))]
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    return "--tasks", "tasks.json"


def read(name):
    return pd.read_csv(f"results/{name}.csv", keep_default_na=False, lineterminator="\n")


def write_bids(layers, seconds=1):
    """bids.json: of each device of {name: layers}."""
    pathlib.Path("bids.json").write_text(json.dumps([
        {"device": device, "layers": n, "price": 1, "computation_time": seconds} for device, n in layers.items()]))
    return "--bids", "bids.json"


def test_an_allocation_is_executed_in_one_process(torch, command, short):
    status, out, err = command("execute", "FCIM", "--seed", "2", *short)
    assert (status, err) == (0, "")
    assert f"executed in one process: {RANDOM}" in out
    stages, measured, texts = (read(f"FCIM_{end}") for end in ("stages", "measured", "texts"))
    assert files() == [*(f"results/FCIM_{end}.csv" for end in ("measured", "stages", "texts")), "tasks.json"]
    assert measured["layers"].tolist() == stages["layers"].tolist()
    assert measured["layers"].sum() == 12
    share = stages["computation_time"] / stages["computation_time"].sum()
    assert measured["predicted_share"].tolist() == pytest.approx(share.tolist(), abs=0.02)  # of rounded times
    assert measured["measured_share"].tolist() == pytest.approx(
        (measured["measured_seconds"] / measured["measured_seconds"].sum()).tolist(), abs=1e-5)
    assert (measured["measured_seconds"] > 0).all()
    assert texts["label"].tolist() == ["Task 1", "Task 2", "Task 3"]
    assert (texts["tokens"] <= [8, 6, 7]).all()


def test_texts_and_files_are_in_the_order_of_the_list_and_stages_as_allocated(torch, command, short):
    tasks = json.loads(pathlib.Path("tasks.json").read_text())[::-1]  # the last arrives first
    tasks[0]["prompt"] = "line\r\nor \"two\"\rx"
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    flags = write_bids({"GPU 4": 5, "GPU 6": 7})
    assert command("execute", "pipeedge", *flags, "--out", "here", *short)[0] == 0
    there = pd.read_csv("here/PipeEdge_texts.csv", lineterminator="\n")
    assert there["label"].tolist() == ["Task 3", "Task 2", "Task 1"]
    assert command("measure", "PIPEEDGE", *short, "--out", "here")[0] == 0
    tasks_again = common.read_tasks("here/PipeEdge_measured_tasks.csv", common.get_model("GPT-Neo 1.3B"),
                                    [common.get_device("T4")])
    assert tasks_again["prompt"].tolist() == [task["prompt"] for task in tasks]


def test_groups_of_devices_are_planned_only(torch, command, short):
    flags = write_bids({"GPU 5": 6, "GPU 6": 6}, 2000)
    status, out, _ = command("execute", "HexGen", "--pool", "workstations", *flags, *short)
    assert status == 0
    assert read("HexGen_stages")["tensor_parallel"].tolist() == [2]
    assert "tensor parallelism is planned only" in out
    assert read("HexGen_measured")["layers"].tolist() == [12]


def test_measured_tasks_are_a_task_file_that_the_scripts_read(torch, command, run, short):
    status, out, err = command("measure", "ADSA", "--repeats", "2", *short)
    assert (status, err) == (0, "")
    assert f"measuring on {RANDOM}" in out
    tasks, texts = read("ADSA_measured_tasks"), read("ADSA_texts")
    for key in ("label", "prompt", "arrival_time", "trans_time", "deadline"):
        assert tasks[key].tolist() == [task[key] for task in FCIM.tasks[:3]]
    assert tasks["computation_time"].tolist() == texts["seconds"].tolist() and (texts["seconds"] > 0).all()
    assert tasks["output_tokens"].tolist() == texts["tokens"].tolist() and texts["tokens"].between(1, 8).all()
    assert tasks["prompt_tokens"].tolist() == tasks["prompt"].str.len().tolist()  # of bytes
    assert tasks["measured_spread"].tolist() == texts["spread"].tolist() and (texts["spread"] >= 0).all()
    made_on = tasks[["measured_model", "measured_threads", "measured_torch"]].drop_duplicates()
    assert made_on.to_numpy().tolist() == [["random GPT-Neo", 1, torch.__version__]]
    assert tasks["measured_device"].str.len().min() > 0
    assert tasks["measured_weights_gb"].tolist() == pytest.approx([WEIGHTS / 1e9] * 3, abs=1e-6)
    caches = 12 * 2 * 128 * 4 * tasks["prompt_tokens"] / 1e9
    assert (tasks["memory_gb"] >= caches / 2).all() and (tasks["memory_gb"] < 0.5).all()

    measured = "--tasks", "results/ADSA_measured_tasks.csv"
    assert run("FCIM", *measured, "--no-plot")[0] == run("ADSA", *measured, "--no-plot")[0] == 0
    assert read("ADSA_tasks")["computation_time"].tolist() == tasks["computation_time"].tolist()
    assert read("ADSA_metrics")["model"][0] == "random GPT-Neo"
    assert command("measure", "ADSA", "--sample", "--seed", "5", *short)[0] == 0
    assert read("ADSA_texts")["text"].tolist() != texts["text"].tolist()


def test_the_median_of_the_runs_counts(torch, monkeypatch):
    runs = iter([9.0, 3.0, 1.0, 2.0, 7.0, 4.0, 4.0])  # the first is the warm-up's
    monkeypatch.setattr(real, "run_once", lambda model, prompt, *_, **__: dict(
        ids=prompt, seconds=next(runs), peak_memory=5, growth=2))
    rows = list(real.generate(torch.nn.Module(), [[1], [2]], [1, 1], repeats=3))
    assert [(row["ids"], row["seconds"], row["spread"]) for row in rows] == [([1], 2, 2), ([2], 4, 3)]


def test_what_is_measured_is_kept_when_a_run_is_interrupted(torch, command, short, monkeypatch):
    from transformers import GenerationMixin
    whole = GenerationMixin.generate
    left = [1 + 2 * 2]  # the warm-up, and two tasks

    def generate(self, *arguments, **settings):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return whole(self, *arguments, **settings)
    monkeypatch.setattr(GenerationMixin, "generate", generate)
    status, _, err = command("measure", "ADSA", "--repeats", "2", *short)
    assert status == 130
    assert err.splitlines() == ["warning: 2 of 3 tasks are measured, and kept in results/ADSA_measured_part.csv",
                                "real.measure: interrupted"]
    assert files() == ["results/ADSA_measured_part.csv", "tasks.json"]
    assert read("ADSA_measured_part")["label"].tolist() == ["Task 1", "Task 2"]


def test_the_fastest_number_of_threads_is_set_and_said(torch, monkeypatch):
    model = mock.MagicMock(device=torch.device("cpu"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(real, "thread_counts", lambda: [1, 2, 4])
    seconds = {1: 0.03, 2: 0.01, 4: 0.02}
    monkeypatch.setattr(real, "token_seconds", lambda model: seconds[torch.get_num_threads()])
    try:
        assert real.set_threads(model) == "threads: 2, the fastest for a token (1: 30.0 ms, 2: 10.0 ms, 4: 20.0 ms)"
        assert torch.get_num_threads() == 2
        assert real.set_threads(model, 3) == "threads: 3"
    finally:
        torch.set_num_threads(1)


def test_a_terminal_shows_what_is_left(monkeypatch, capsys):
    assert real.progress_bar(10)(5) is None  # no terminal: nothing
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    times = iter([100.0, 103.0, 103.1, 104.0])
    monkeypatch.setattr(real.time, "perf_counter", lambda: next(times))
    show = real.progress_bar(8)
    for done in (2, 3, 4):  # the second comes too soon after the first
        show(done, "task")
    lines = capsys.readouterr().err.split("\r")[1:]
    assert [line.strip() for line in lines] == ["[#####               ]  25 %, 3 s, 9 s left  task",
                                                "[##########          ]  50 %, 4 s, 4 s left  task"]


def test_a_built_in_model_is_exported_as_a_device_map(torch, command):
    status, out, err = command("export", "PipeEdge", "device_map", "--model", "BLOOM-176B")
    assert (status, err) == (0, "")
    text = pathlib.Path("results/PipeEdge_device_map.json").read_text()
    assert text in out
    places = json.loads(text)
    layers = [place for key, place in places.items() if key.startswith("transformer.h.")]
    assert len(layers) == 70 and layers == sorted(layers)
    assert places["transformer.word_embeddings"] == 0


def test_what_cannot_be_run_is_told(torch, command):
    pathlib.Path("tasks.csv").write_text(
        "label,prompt,arrival_time,output_words,trans_time,deadline,prompt_tokens\nRequest 1,,0,10,1,20,4\n")
    refused(command("measure", "ADSA", "--tasks", "tasks.csv"), "'Request 1': a real model needs its prompt")
    refused(command("measure", "ADSA", "--checkpoint", "./none"), "checkpoint './none': no such file")


def test_a_model_of_more_layers_than_devices_hold_ends_with_1(torch, command, short):
    status, out, err = command("execute", "FCIM", *write_bids({"GPU 1": 5}), *short)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("real.execute: ") and "of 12 layers" in err
    assert files() == ["bids.json", "tasks.json"]


@pytest.mark.parametrize("name, arguments, field", [
    ("execute", [], "SCRIPT"), ("execute", ["ADSA"], "'ADSA'"), ("measure", ["common"], "'common'"),
    ("measure", ["FCFS", "--repeats", "0"], "--repeats"), ("measure", ["FCFS", "--threads", "x"], "--threads"),
    ("calibrate", ["--device", "abacus"], "'abacus'"), ("serve", [], "SCRIPT"), ("serve", ["FCIM"], "'FCIM'"),
    ("serve", ["mine.py"], "mine.py: has no schedule"), ("serve", ["FCFS", "--stretch", "0"], "--stretch: '0'"),
    ("serve", ["FCFS", "--stretch", "long"], "--stretch: 'long'"), ("serve", ["FCFS", "--repeats", "0"], "--repeats"),
    ("serve", ["FCFS", "--model", "./llama"], "'./llama'"), ("serve", ["FCFS", "--tasks", "none.csv"], "none.csv"),
    ("export", ["FCIM"], "ENGINE"), ("export", ["FCIM", "onnx"], "'onnx'"),
    ("export", ["FCIM", "vllm", "--model", "none.gguf"], "'none.gguf'"),
    ("export", ["FCIM", "vllm", "--model", "llama", "--addresses", "a,b"], "--addresses"),
    ("llamacpp", [], "SCRIPT, --checkpoint"), ("llamacpp", ["ADSA", "--checkpoint", "m.gguf"], "'ADSA'"),
    ("llamacpp", ["FCIM", "--checkpoint", "m.gguf", "--tokens", "0"], "--tokens")])
def test_mistakes_on_the_command_line_are_one_line(name, arguments, field, command):
    transformers = pytest.importorskip("transformers")
    if "--tasks" in arguments:  # which is read once torch is there
        pytest.importorskip("torch")
    transformers.LlamaConfig(num_hidden_layers=4).save_pretrained("llama")
    pathlib.Path("mine.py").write_text("")
    refused(command(name, *arguments), field)


@pytest.mark.parametrize("arguments", [["measure", "ADSA"], ["calibrate"], ["export", "FCIM", "device_map"]])
def test_without_torch_one_line_says_what_to_install(arguments, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(command(*arguments), "a real model needs torch: pip install torch")


HELP = """import runpy, sys
for package in "torch", "transformers", "matplotlib", "pulp":
    sys.modules[package] = None
for name in {names!r}:
    sys.path[0], sys.argv[:] = {folder!r}, [{folder!r} + "/" + name + ".py", "--help"]
    try:
        {start}
    except SystemExit as stop:
        assert not stop.code, stop.code
"""


@pytest.mark.parametrize("folder, start", [
    (ROOT / "real", 'runpy.run_path(sys.argv[0], run_name="__main__")'),  # python real/execute.py
    (ROOT, 'runpy.run_module("real." + name, run_name="__main__")')])  # python -m real.execute
def test_help_needs_no_package_and_a_path_serves_as_well(folder, start, tmp_path):
    code = HELP.format(names=COMMANDS, folder=str(folder), start=start)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"python -m real.{name} " in done.stdout
