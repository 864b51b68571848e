"""real.export: what it writes for each engine, word by word, and what it refuses. No engine is started here."""
import json
import pathlib
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

import common
from real import export

MODEL = common.Model("me/m", layers=12, hidden=64, feed_forward=96, heads=4, context=256)
GGUF = replace(MODEL, name="my m.gguf")
LLAMA = replace(MODEL, name="me/llama", layers=32, hidden=4096, feed_forward=11008)
SINGLE = [["GPU 1"], ["GPU 2"], ["T 3"]]
PAIRS = [["A", "B"], ["C", "D"]]
UNEVEN = [["A", "B"], ["C"]]
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
COMMANDS = [name for name in export.ENGINES if name != "device_map"]


def lines(engine, groups, counts, model, addresses=ADDRESSES):
    """The commands of an engine as a shell splits them, settings of the environment included; comments are left out."""
    text = export.ENGINES[engine](groups, counts, model, addresses)
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line for line in words if line]


# What is written ------------------------------------------------------------------------------------------------------
def test_vllm_has_a_line_for_each_device():
    for rank, words in enumerate(lines("vllm", SINGLE, [5, 4, 3], MODEL)):
        assert words == ["VLLM_PP_LAYER_PARTITION=5,4,3", "vllm", "serve", "me/m", "--max-model-len", "256",
                         "--pipeline-parallel-size", "3", "--tensor-parallel-size", "1", "--nnodes", "3", "--node-rank",
                         str(rank), "--master-addr", "10.0.0.1"] + (["--headless"] if rank else [])
    assert [words[6:14] for words in lines("vllm", PAIRS, [5, 7], MODEL)] == [
        ["--pipeline-parallel-size", "2", "--tensor-parallel-size", "2", "--nnodes", "4", "--node-rank", str(rank)]
        for rank in range(4)]
    assert lines("vllm", [["A"]], [12], MODEL)[0][6:] == [
        "--pipeline-parallel-size", "1", "--tensor-parallel-size", "1"]


def test_sglang_has_a_line_for_each_device():
    for rank, words in enumerate(lines("SGLang", PAIRS, [5, 7], MODEL)):
        assert words == ["SGLANG_PP_LAYER_PARTITION=5,7", "python3", "-m", "sglang.launch_server", "--model-path",
                         "me/m", "--context-length", "256", "--pp-size", "2", "--tp-size", "2", "--nnodes", "4",
                         "--node-rank", str(rank), "--dist-init-addr", "10.0.0.1:20000"]


def test_llama_cpp_has_workers_and_then_the_server():
    assert lines("llama.cpp", SINGLE, [5, 4, 3], GGUF, ["a", "b", "a"]) == [
        ["ggml-rpc-server", "-H", "a", "-p", "50052"], ["ggml-rpc-server", "-H", "b", "-p", "50052"],
        ["ggml-rpc-server", "-H", "a", "-p", "50053"],
        ["llama-server", "-m", "my m.gguf", "--rpc", "a:50052,b:50052,a:50053", "--device", "RPC0,RPC1,RPC2",
         "-ngl", "all", "-sm", "layer", "-ts", "5,4,4", "-c", "256"]]


def test_prima_cpp_is_a_ring():
    first, *others = lines("prima.cpp", SINGLE, [5, 4, 3], GGUF)
    assert first == ["llama-server", "--host", "127.0.0.1", "--port", "8080", "-m", "my m.gguf", "--world", "3",
                     "--rank", "0", "--master", "10.0.0.1", "--next", "10.0.0.2", "-lw", "5,4,3", "-c", "256", "-ngl",
                     "5"]
    for rank, words in enumerate(others, 1):
        assert words == ["llama-cli", "-m", "my m.gguf", "--world", "3", "--rank", str(rank), "--master", "10.0.0.1",
                         "--next", ADDRESSES[(rank + 1) % 3], "-ngl", str([5, 4, 3][rank])]


def test_hexgen_has_the_whole_command_for_each_device():
    found = lines("hexgen", UNEVEN, [20, 12], LLAMA)
    assert found == [
        ["MASTER_ADDR=10.0.0.1", "MASTER_PORT=9991", "WORLD_SIZE=3", f"RANK={rank}", "python3", "llama_inference.py",
         "--model_size", "llama-7b", "--use-flash-attn", "--hetero_config", "2", "1", "--pp_partition", "20", "12"]
        for rank in range(3)]


@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("name", ["it's", 'a "b"', "$HOME", "#x", "é", "a&b|c>d"])
def test_every_word_comes_through_a_shell(engine, name):
    """Whatever the file and the devices are called. Comments say where a line runs, and what is held besides."""
    model = replace(LLAMA, name=f"{name}/m.gguf")
    case = [[f"{name}\n1"], [f"{name} 2"]], [20, 12], model, [f"{name}.1", f"{name}.2"]
    found = lines(engine, *case)
    assert engine == "hexgen" or any(model.name in words for words in found)
    text = export.ENGINES[engine](*case)
    assert f"# on {name} 1, {name}.1\n" in text and f"# on {name} 2, {name}.2" in text
    assert "embeddings" in text.splitlines()[0] and "replace the addresses" in text


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
    assert llama_cpp_places([5, 4, 3], 12) != [0] * 5 + [1] * 4 + [2] * 4  # shares that forget the output layer


# What is refused ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("engine, groups, model, field", [
    ("vllm", UNEVEN, MODEL, "[2, 1] devices"), ("SGLang", UNEVEN, MODEL, "[2, 1] devices"),
    ("device_map", UNEVEN, MODEL, "A+B"), ("llama.cpp", UNEVEN, GGUF, "A+B"), ("prima.cpp", UNEVEN, GGUF, "A+B"),
    ("llama.cpp", [[str(k)] for k in range(16)], GGUF, "15 workers at most, not 16"),
    ("llama.cpp", SINGLE, MODEL, "GGUF file: MODEL.gguf, not me/m"), ("prima.cpp", SINGLE, MODEL, "not me/m"),
    ("hexgen", SINGLE, MODEL, "not me/m")])
def test_what_an_engine_cannot_run_is_refused(engine, groups, model, field):
    with pytest.raises(common.UserError) as error:
        export.ENGINES[engine](groups, [1] * len(groups), model, [f"10.0.0.{k}" for k in range(20)])
    assert field in str(error.value) and "\n" not in str(error.value)


def test_an_export_is_written_and_printed(run):
    transformers = pytest.importorskip("transformers")
    transformers.LlamaConfig(num_hidden_layers=4).save_pretrained("my llama")
    pathlib.Path("bids.json").write_text(json.dumps([
        {"device": f"GPU {k}", "layers": n, "price": 1, "computation_time": n} for k, n in ((1, 3), (2, 1))]))
    status, out, _ = run("real/export", "PipeDream", "VLLM", "--model", "./my llama", "--bids", "bids.json",
                         "--addresses", "a,b")
    assert status == 0
    text = pathlib.Path("results/PipeDream_vllm.txt").read_text()
    assert text.strip() in out
    assert "VLLM_PP_LAYER_PARTITION=3,1 vllm serve './my llama' --max-model-len" in text
    assert "# on GPU 1, a\n" in text and text.endswith("# on GPU 2, b\n")


@pytest.mark.parametrize("engine, flag", [("vllm", "vllm serve"), ("SGLang", "sglang.launch_server --model-path")])
def test_a_built_in_model_is_exported_for_a_checkpoint_to_be_named(engine, flag, run):
    """With the context that memory was planned for: that of the longest task, of 4 and 399 tokens."""
    tasks = [dict(label=label, prompt=prompt, arrival_time=0, output_words=words, trans_time=1, deadline=9)
             for label, prompt, words in (("A", "one two three", 300), ("B", "one", 30))]
    pathlib.Path("tasks.json").write_text(json.dumps(tasks))
    status, out, _ = run("real/export", "FCIM", engine, "--tasks", "tasks.json")
    assert status == 0 and "a context of 403 tokens" in out
    first, *others = pathlib.Path(f"results/FCIM_{engine}.txt").read_text().splitlines()
    assert first == "MODEL=...  # owner/model or a folder"
    devices = [line for line in others if not line.startswith("#")]
    assert devices and all(re.search(f'{flag} "\\$MODEL" --[a-z-]+ 403 ', line) for line in devices)
