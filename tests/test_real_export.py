"""real.export: what it writes for each engine, word by word, and what it refuses. No engine is started here."""
import functools
import json
import pathlib
import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files, run_here

import common
from real import export

MODEL = common.Model("me/m", layers=12, hidden=64, feed_forward=96, heads=4, context=256)
GGUF = replace(MODEL, name="my m.gguf")
LLAMA = replace(MODEL, name="me/llama", layers=32, hidden=4096, feed_forward=11008)
SINGLE = [["GPU 1"], ["GPU 2"], ["T 3"]]
PAIRS = [["A", "B"], ["C", "D"]]
UNEVEN = [["A", "B"], ["C"]]
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs real.export in this process, in an empty folder; returns exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(run_here, ROOT / "real" / "export.py")


def lines(engine, groups, counts, model, addresses=ADDRESSES):
    """The commands of an engine as a shell splits them: [(environment, words)]; comments are left out."""
    found = []
    for line in export.ENGINES[engine](groups, counts, model, addresses).splitlines():
        words = shlex.split(line, comments=True)
        settings = {}
        while words and "=" in words[0] and not words[0].startswith("-"):
            key, settings[key] = words.pop(0).split("=", 1)
        if words:
            found.append((settings, words))
    return found


# What is written ------------------------------------------------------------------------------------------------------


def test_vllm_has_a_line_for_each_device():
    first, second, third = lines("vllm", SINGLE, [5, 4, 3], MODEL)
    shared = ["vllm", "serve", "me/m", "--pipeline-parallel-size", "3", "--tensor-parallel-size", "1", "--nnodes", "3"]
    for rank, (settings, words) in enumerate([first, second, third]):
        assert settings == {"VLLM_PP_LAYER_PARTITION": "5,4,3"}
        node = ["--node-rank", str(rank), "--master-addr", "10.0.0.1"]
        assert words == shared + node + (["--headless"] if rank else [])


def test_vllm_with_groups_has_a_line_for_each_of_their_devices():
    found = lines("vllm", PAIRS, [5, 7], MODEL)
    assert [words[words.index("--node-rank") + 1] for _, words in found] == ["0", "1", "2", "3"]
    for settings, words in found:
        assert settings == {"VLLM_PP_LAYER_PARTITION": "5,7"}
        assert words[3:9] == ["--pipeline-parallel-size", "2", "--tensor-parallel-size", "2", "--nnodes", "4"]


def test_one_device_needs_no_nodes():
    assert lines("vllm", [["A"]], [12], MODEL) == [(
        {"VLLM_PP_LAYER_PARTITION": "12"},
        ["vllm", "serve", "me/m", "--pipeline-parallel-size", "1", "--tensor-parallel-size", "1"])]


def test_sglang_has_a_line_for_each_device():
    for rank, (settings, words) in enumerate(lines("SGLang", PAIRS, [5, 7], MODEL)):
        assert settings == {"SGLANG_PP_LAYER_PARTITION": "5,7"}
        assert words == ["python3", "-m", "sglang.launch_server", "--model-path", "me/m", "--pp-size", "2",
                         "--tp-size", "2", "--nnodes", "4", "--node-rank", str(rank),
                         "--dist-init-addr", "10.0.0.1:20000"]


def test_llama_cpp_has_workers_and_then_the_server():
    *workers, server = lines("llama.cpp", SINGLE, [5, 4, 3], GGUF, ["a", "b", "a"])
    assert workers == [({}, ["ggml-rpc-server", "-H", "a", "-p", "50052"]),
                       ({}, ["ggml-rpc-server", "-H", "b", "-p", "50052"]),
                       ({}, ["ggml-rpc-server", "-H", "a", "-p", "50053"])]
    assert server == ({}, [
        "llama-server", "-m", "my m.gguf", "--rpc", "a:50052,b:50052,a:50053", "--device", "RPC0,RPC1,RPC2",
        "-ngl", "all", "-sm", "layer", "-ts", "5,4,4"])


def test_prima_cpp_is_a_ring():
    found = lines("prima.cpp", SINGLE, [5, 4, 3], GGUF)
    assert [words[0] for _, words in found] == ["llama-server", "llama-cli", "llama-cli"]
    for rank, (_, words) in enumerate(found):
        flags = ("-m", "--world", "--rank", "--master", "--next", "-ngl")
        assert [words[words.index(flag) + 1] for flag in flags] == [
            "my m.gguf", "3", str(rank), "10.0.0.1", ADDRESSES[(rank + 1) % 3], str([5, 4, 3][rank])]
        assert ("-lw" in words) == (rank == 0)
    assert found[0][1][found[0][1].index("-lw") + 1] == "5,4,3"


def test_hexgen_has_the_whole_command_for_each_device():
    found = lines("hexgen", UNEVEN, [20, 12], LLAMA)
    for rank, (settings, words) in enumerate(found):
        assert settings == {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "9991", "WORLD_SIZE": "3", "RANK": str(rank)}
        assert words == ["python3", "llama_inference.py", "--model_size", "llama-7b", "--use-flash-attn",
                         "--hetero_config", "2", "1", "--pp_partition", "20", "12"]
    assert len(found) == 3


@pytest.mark.parametrize("engine", [name for name in export.ENGINES if name != "device_map"])
@pytest.mark.parametrize("name", ["plain", "two words", "it's", 'a "b"', "$HOME", "a;b", "#x", "é", "a&b|c>d"])
def test_every_word_comes_through_a_shell(engine, name):
    """shlex.split of a line gives back the words, whatever the file and the devices are called."""
    model = replace(LLAMA, name=f"{name}/m.gguf")
    for settings, words in lines(engine, [[f"{name} 1"], [f"{name} 2"]], [20, 12], model, [f"{name}.1", f"{name}.2"]):
        text = export.command([*(f"{key}={value}" for key, value in settings.items()), *words])
        assert shlex.split(text, comments=True) == [*(f"{key}={value}" for key, value in settings.items()), *words]
        if engine != "hexgen" and "ggml-rpc-server" not in words:
            assert model.name in words


@pytest.mark.parametrize("engine", [name for name in export.ENGINES if name != "device_map"])
def test_it_is_said_where_each_line_runs_and_what_is_held_besides(engine):
    text = export.ENGINES[engine]([["A\nB"], ["C"]], [20, 12], replace(LLAMA, name="m.gguf"), ADDRESSES[:2])
    assert "# on A B, 10.0.0.1\n" in text and "# on C, 10.0.0.2" in text
    assert "embeddings" in text.splitlines()[0]
    assert "replace the addresses" in text


# llama.cpp's rule -----------------------------------------------------------------------------------------------------


def llama_cpp_places(shares, layers):
    """Where llama.cpp puts layer 0 to `layers`, the last being the output layer (load_tensors): the shares are added
    up in single precision and divided by their sum; layer i goes to the first device whose sum exceeds i / (layers +
    1)."""
    sums = np.cumsum(np.array(shares, dtype=np.float32), dtype=np.float32)
    sums /= sums[-1]
    return [int(np.searchsorted(sums, np.float32(i) / np.float32(layers + 1), side="right"))
            for i in range(layers + 1)]


def test_llama_cpp_places_what_was_allocated():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        stages = int(rng.integers(1, export.MOST_WORKERS + 1))
        counts = rng.integers(1, rng.integers(2, 40), size=stages).tolist()
        flags = export.llama_flags("m.gguf", counts, [f"h:{s}" for s in range(stages)])
        shares = [int(share) for share in flags[flags.index("-ts") + 1].split(",")]
        expected = [s for s, n in enumerate(counts) for _ in range(n)] + [stages - 1]
        assert llama_cpp_places(shares, sum(counts)) == expected


def test_the_rule_sees_shares_that_forget_the_output_layer():
    assert llama_cpp_places([5, 4, 3], 12) != [0] * 5 + [1] * 4 + [2] * 4


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine, groups, counts, model, message", [
    ("vllm", UNEVEN, [5, 7], MODEL, "not between [2, 1] devices: hexgen does"),
    ("SGLang", UNEVEN, [5, 7], MODEL, "not between [2, 1] devices: hexgen does"),
    ("device_map", UNEVEN, [5, 7], MODEL, "device_map cannot split a layer between A+B"),
    ("llama.cpp", UNEVEN, [5, 7], GGUF, "llama.cpp cannot split a layer between A+B"),
    ("prima.cpp", UNEVEN, [5, 7], GGUF, "prima.cpp cannot split a layer between A+B"),
    ("llama.cpp", [[str(k)] for k in range(16)], [1] * 16, GGUF, "15 workers at most, not 16"),
    ("llama.cpp", SINGLE, [5, 4, 3], MODEL, "needs a GGUF file: --model MODEL.gguf, not me/m"),
    ("prima.cpp", SINGLE, [5, 4, 3], MODEL, "needs a GGUF file"),
    ("hexgen", SINGLE, [5, 4, 3], MODEL, "hexgen runs llama-7b, "),
    *[(engine, [["A"]], [model.layers], model, f"{engine} needs a checkpoint, and {model.name} is a name")
      for engine in ("vllm", "SGLang", "hexgen") for model in common.MODELS[:1]]])
def test_what_an_engine_cannot_run_is_refused(engine, groups, counts, model, message):
    with pytest.raises(common.UserError) as error:
        export.ENGINES[engine](groups, counts, model, [f"10.0.0.{k}" for k in range(20)])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("arguments, message", [
    (["FCIM", "onnx"], "unknown engine 'onnx': choose from device_map, vllm, SGLang, llama.cpp, prima.cpp, hexgen"),
    (["FCIM", "vllm"], "vllm needs a checkpoint, and BLOOM-176B is a name that is built in"),
    (["FCIM", "llama.cpp"], "llama.cpp needs a GGUF file"),
    (["FCIM", "vllm", "--model", "llama", "--addresses", "a,b"], "--addresses: 2 of them for 1 devices")])
def test_mistakes_on_the_command_line_are_one_line(arguments, message, command):
    transformers = pytest.importorskip("transformers")
    transformers.LlamaConfig(num_hidden_layers=4).save_pretrained("llama")
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"real.export: {message}")
    assert files() == ["llama/config.json"]


def test_an_export_is_written_and_printed(command):
    transformers = pytest.importorskip("transformers")
    transformers.LlamaConfig(num_hidden_layers=4).save_pretrained("my llama")
    pathlib.Path("bids.json").write_text(json.dumps([
        {"device": f"GPU {k}", "layers": n, "price": 1, "computation_time": n} for k, n in ((1, 3), (2, 1))]))
    status, out, _ = command("PipeDream", "VLLM", "--model", "./my llama", "--bids", "bids.json", "--addresses", "a,b")
    assert status == 0
    text = pathlib.Path("results/PipeDream_vllm.txt").read_text()
    assert text.strip() in out
    assert "VLLM_PP_LAYER_PARTITION=3,1 vllm serve './my llama' --pipeline-parallel-size 2" in text
    assert pd.Series(text.splitlines()).str.contains("# on GPU [12], [ab]$").sum() == 2
