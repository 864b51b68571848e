"""Models, estimates and task lists: what is read, what is computed from it, and what is refused."""
import json
import math

import numpy as np
import pytest

import common
import FCFS

T4, NEO = common.DEVICES["T4"], common.get_model("GPT-Neo 1.3B")
TASK = {"label": "A", "prompt": "two words", "arrival_time": 1, "output_words": 10, "trans_time": 2, "deadline": 30}
HEADER = "label,prompt,arrival_time,output_words,trans_time,deadline"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


# Models and estimates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, layers, billions, context", [
    ("GPT-Neo 1.3B", 24, 1.2, 2048), ("gpt-3-175b", 96, 174, 2048), ("BLOOM-176B", 70, 172.6, 2048)])
def test_the_models_have_the_published_sizes(name, layers, billions, context):
    model = common.get_model(name)
    assert (model.layers, model.context) == (layers, context)
    assert model.layers * model.params / 1e9 == pytest.approx(billions, rel=0.01)  # without the embeddings
    assert model.bits == (16 if name == "GPT-Neo 1.3B" else 4)


@pytest.mark.parametrize("kind, settings", [
    ("gpt2", {"n_layer": 1, "n_embd": 768, "n_head": 12}),
    ("gpt_neo", {"num_layers": 1, "hidden_size": 768, "num_heads": 12, "attention_types": [[["global"], 1]]}),
    ("gptj", {"n_layer": 1, "n_embd": 1024, "n_head": 16, "rotary_dim": 64}),
    ("gpt_neox", {"num_hidden_layers": 1, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}),
    ("bloom", {"n_layer": 1, "hidden_size": 1024, "n_head": 16}),
    ("opt", {"num_hidden_layers": 1, "hidden_size": 768, "ffn_dim": 3072, "num_attention_heads": 12}),
    ("falcon", {"num_hidden_layers": 1, "hidden_size": 1024, "num_attention_heads": 16}),
    ("falcon", {"num_hidden_layers": 1, "hidden_size": 1024, "num_attention_heads": 16, "num_kv_heads": 4,
                "new_decoder_architecture": True}),
    ("mpt", {"n_layers": 1, "d_model": 1024, "n_heads": 16}),
    ("phi", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}),
    ("gpt_bigcode", {"n_layer": 1, "n_embd": 768, "n_head": 12}),
    ("starcoder2", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                    "num_key_value_heads": 2}),
    ("llama", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16,
               "num_key_value_heads": 4}),
    ("mistral", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 3584, "num_attention_heads": 16,
                 "num_key_value_heads": 4, "head_dim": 128}),
    ("qwen2", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16,
               "num_key_value_heads": 2}),
    ("gemma", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 4,
               "num_key_value_heads": 1, "head_dim": 256}),
    ("phi3", {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16,
              "num_key_value_heads": 4, "pad_token_id": 0}),
])
def test_weights_and_cache_equal_those_of_the_real_layer(kind, settings):
    """transformers builds the layer itself, without memory, and counts."""
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM
    config = AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        real = AutoModelForCausalLM.from_config(config)
    stacks = [module for module in real.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == 1]
    counted = max(sum(weight.numel() for weight in stack.parameters()) for stack in stacks)
    model = common.model_from_config(kind, config)
    assert model.params == pytest.approx(counted, rel=0.01)
    with torch.no_grad():
        real = real.to_empty(device="cpu").float()
        cache = real(torch.ones(1, 3, dtype=torch.long), use_cache=True).past_key_values
    keys = cache.layers[0].keys if hasattr(cache, "layers") else cache[0][0]
    if not settings.get("new_decoder_architecture"):  # there transformers caches one key a head, not one a group
        assert model.kv_width * 3 == keys.numel()


@pytest.mark.parametrize("kind, settings", [("t5", {}), ("mixtral", {}), ("mamba", {})])
def test_what_is_no_dense_decoder_is_refused(kind, settings):
    from transformers import CONFIG_MAPPING, AutoConfig
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this release of transformers knows no {kind}")
    with pytest.raises(common.UserError, match="is not a dense decoder"):
        common.model_from_config(kind, AutoConfig.for_model(kind, **settings))


def test_a_folder_with_a_configuration_is_a_model(tmp_path):
    from transformers import LlamaConfig
    LlamaConfig(num_hidden_layers=3, hidden_size=64, intermediate_size=96, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=512).save_pretrained(tmp_path)
    model = common.get_model(str(tmp_path))
    assert (model.layers, model.kv_width, model.context, model.bits) == (3, 32, 512, 16)
    assert model.params == 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96


def test_the_estimate_follows_the_roofline():
    params, rate, bandwidth = 12 * 2048 ** 2, 0.5 * 65e12, 0.8 * 320e9
    read = params * 2 / bandwidth
    for prompt, output in ((1, 0), (10, 7), (5000, 1)):
        expected = max(2 * params * prompt / rate, read) + output * max(read, 2 * params / rate)
        assert common.layer_time(NEO, T4, prompt, output) == pytest.approx(expected)


def test_words_become_tokens_and_tokens_time():
    task = common.read_tasks([dict(TASK, prompt="a b c", output_words=300)], NEO, T4).iloc[0]
    assert (task["prompt_tokens"], task["output_tokens"]) == (4, 399)
    assert task["kv_bytes"] == 403 * 24 * 2 * 2048 * 2
    assert task["computation_time"] == round(24 * float(common.layer_time(NEO, T4, 4, 399)) * 1e6)


def test_times_become_whole_microseconds():
    task = common.read_tasks([dict(TASK, arrival_time=0.1, trans_time=1e-6, deadline=29.9999996,
                                   computation_time=0.1 + 0.2)], NEO, T4).iloc[0]
    assert [task[key] for key in ("arrival_time", "trans_time", "deadline", "computation_time")] == [
        100000, 1, 30000000, 300000]


@pytest.mark.parametrize("prompt, output, kept, made", [
    (100, 1948, 100, 1948), (100, 5000, 100, 1948), (4808, 10, 2038, 10), (1500, 1000, 1048, 1000),
    (5000, 5000, 1024, 1024), (2048, 0, 2048, 0)])
def test_the_context_is_never_exceeded(prompt, output, kept, made, capsys):
    tokens = common.cap_to_context(["A"], np.array([prompt]), np.array([output]), NEO)
    assert [int(array[0]) for array in tokens] == [kept, made]
    warning = capsys.readouterr().err
    assert bool(warning) == ((kept, made) != (prompt, output))
    if warning:
        assert warning.count("\n") == 1
        assert f"A first: prompt {prompt} -> {kept}, output {output} -> {made} tokens" in warning


# Files ----------------------------------------------------------------------------------------------------------------


def write(folder, text, name="tasks.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_csv_and_json_and_the_list_are_the_same(tmp_path):
    tasks = [*FCFS.tasks, dict(TASK, prompt='with, a comma, a "quote" and\na line', computation_time=1.25)]
    files = [write(tmp_path, json.dumps(tasks), "tasks.json")]
    import pandas as pd
    files.append(write(tmp_path, "\ufeff" + pd.DataFrame(tasks).to_csv(index=False)))
    table = common.read_tasks(tasks, NEO, T4)
    assert table["computation_time"].iloc[-1] == 1250000
    columns = ["label", "prompt", "arrival_time", "computation_time", "trans_time", "deadline", "kv_bytes"]
    for path in files:
        assert common.read_tasks(path, NEO, T4)[columns].equals(table[columns])


def test_the_azure_trace_is_read_as_it_is(tmp_path):
    path = write(tmp_path, AZURE + "2023-11-16 18:17:03.9799600,480,10\n2023-11-16 18:17:04.0319600,318,250\n"
                                   "2023-11-17 00:00:00+00:00,7,1\n")
    table = common.read_tasks(path, NEO, T4)
    assert table["label"].tolist() == ["Request 1", "Request 2", "Request 3"]
    assert table["arrival_time"].tolist() == [0, 52000, 20576020040]
    assert table[["prompt_tokens", "output_tokens"]].to_numpy().tolist() == [[480, 10], [318, 250], [7, 1]]
    assert table["trans_time"].tolist() == [100000, 2500000, 10000]
    wait = table["deadline"] - table["arrival_time"] - 3 * (table["computation_time"] + table["trans_time"])
    assert wait.abs().max() <= 3  # each was rounded to a microsecond by itself


def test_burstgpt_is_read_without_its_failures(tmp_path, capsys):
    path = write(tmp_path, "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                           "5,ChatGPT,472,18,490,Conversation log\n45.5,ChatGPT,1087,0,1087,API log\n"
                           "118,GPT-4,417,276,693,Conversation log\n")
    table = common.read_tasks(path, NEO, T4)
    assert table["label"].tolist() == ["Request 1", "Request 3"]
    assert table["arrival_time"].tolist() == [0, 113000000]
    assert "1 of 3 requests have failed" in capsys.readouterr().err


@pytest.mark.parametrize("load", [0.5, 0.9, 1.3])
def test_load_stretches_arrivals_and_moves_deadlines(load, tmp_path):
    plain, table = common.read_tasks(FCFS.tasks, NEO, T4), common.read_tasks(FCFS.tasks, NEO, T4, load=load)
    span = table["arrival_time"].max() - table["arrival_time"].min()
    assert table["computation_time"].sum() / span == pytest.approx(load)
    now, then = (tasks["deadline"] - tasks["arrival_time"] for tasks in (table, plain))
    assert (now - then).abs().max() <= 1
    path = write(tmp_path, AZURE + "2023-11-16 18:17:03,480,10\n2023-11-16 18:17:04,318,250\n")
    table = common.read_tasks(path, NEO, T4, load=load)
    assert table["computation_time"].sum() / table["arrival_time"].max() == pytest.approx(load, rel=1e-5)


# What is refused ------------------------------------------------------------------------------------------------------


def without(field):
    return {key: value for key, value in TASK.items() if key != field}


@pytest.mark.parametrize("tasks, message", [
    ([TASK, without("deadline")], "tasks, row 2, deadline: missing"),
    ([without("prompt")], "tasks, row 1, prompt: missing"),
    ([dict(TASK, arrival_time="soon")], "tasks, row 1, arrival_time: 'soon' is not a number"),
    ([dict(TASK, trans_time="5")], "tasks, row 1, trans_time: '5' is not a number"),
    ([dict(TASK, deadline=None)], "tasks, row 1, deadline: None is not a number"),
    ([dict(TASK, deadline=True)], "tasks, row 1, deadline: True is not a number"),
    ([dict(TASK, trans_time=-1)], "tasks, row 1, trans_time: -1 is negative"),
    ([dict(TASK, deadline=math.inf)], "tasks, row 1, deadline: inf is not finite"),
    ([dict(TASK, arrival_time=math.nan)], "tasks, row 1, arrival_time: nan is not finite"),
    ([dict(TASK, deadline=10 ** 400)], "tasks, row 1, deadline: 1" + 56 * "0" + "... is more than 1e9"),
    ([dict(TASK, deadline=1e12)], "tasks, row 1, deadline: 1000000000000.0 is more than 1e9"),
    ([dict(TASK, output_words=2.5)], "tasks, row 1, output_words: 2.5 is not a whole number"),
    ([dict(TASK, computation_time="x")], "tasks, row 1, computation_time: 'x' is not a number"),
    ([dict(TASK, deadline=0.5)], "tasks, row 1, deadline: 0.5 is before arrival_time 1"),
    ([TASK, dict(TASK)], "tasks, row 2, label: 'A' is that of row 1 already"),
    ([dict(TASK, label=" ")], "tasks, row 1, label: ' ' is not a text"),
    ([dict(TASK, label=7)], "tasks, row 1, label: 7 is not a text"),
    ([dict(TASK, prompt=None)], "tasks, row 1, prompt: None is not a text"),
    ([dict(TASK, dead_line=3)], "tasks, row 1: unknown field 'dead_line'"),
    ([TASK["label"]], "tasks, row 1: 'A' is not a task"),
    ({"A": TASK}, "tasks: must be a list of tasks"),
    ([], "tasks: no tasks"),
])
def test_a_wrong_task_is_named(tasks, message, tmp_path):
    with pytest.raises(common.UserError) as error:
        common.read_tasks(tasks, NEO, T4)
    assert str(error.value) == message
    path = write(tmp_path, json.dumps(tasks), "tasks.json")  # the same of a file
    with pytest.raises(common.UserError) as error:
        common.read_tasks(path, NEO, T4)
    assert str(error.value) == message.replace("tasks", path, 1)


@pytest.mark.parametrize("text, message", [
    ("", "the header must be label,prompt,"),
    ("label,prompt\nA,b\n", "the header must be label,prompt,"),
    (HEADER + "\n", "no tasks"),
    (HEADER + "\nA,hello,0,10,1\n", "row 1: 5 fields under a header of 6"),
    (HEADER + "\nA,hello,0,10,1,9\nB,hello,0,ten,1,9\n", "row 2, output_words: 'ten' is not a number"),
    (HEADER + "\nA,hello,0,10,,9\n", "row 1, trans_time: '' is not a number"),
    (HEADER + "\nA,hello,0,10,nan,9\n", "row 1, trans_time: nan is not finite"),
    (HEADER + '\nA,"hello,0,10,1,9\n', "not a CSV file (unexpected end of data)"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "not a CSV file ('utf-8' codec can't decode"),
    (AZURE + "2023-11-16 18:17:03,-4,10\n", "row 1, ContextTokens: -4.0 is negative"),
    (AZURE + "2023-11-16 18:17:03,4,some\n", "row 1, GeneratedTokens: 'some' is not a number"),
    (AZURE + "yesterday,4,10\n", "row 1, TIMESTAMP: 'yesterday' is not a date and time"),
    (AZURE + ",4,10\n", "row 1, TIMESTAMP: '' is not a date and time"),
    (AZURE, "no tasks"),
    (AZURE + "2023,4,10\n", "row 1, TIMESTAMP: 2023.0 is not a date and time"),
    (AZURE + "now,4,10\n", "row 1, TIMESTAMP: 'now' is not a date and time"),
    (AZURE + "2023-13-16 18:17:03,4,10\n", "row 1, TIMESTAMP: '2023-13-16 18:17:03' is not a date and time"),
])
def test_a_wrong_file_is_named(text, message, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(common.UserError) as error:
        common.read_tasks(path, NEO, T4)
    assert str(error.value).startswith(f"{path}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_json_is_named(tmp_path):
    for text in ("[{", b"\xff\xfe\x00", "[" * 100000):
        path = write(tmp_path, text, "tasks.JSON")
        with pytest.raises(common.UserError, match="not a JSON file"):
            common.read_tasks(path, NEO, T4)


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(common.UserError, match="No such file"):
        common.read_tasks(str(tmp_path / "none.csv"), NEO, T4)
    with pytest.raises(common.UserError, match="Is a directory"):
        common.read_tasks(str(tmp_path), NEO, T4)


def test_a_load_needs_different_arrivals():
    with pytest.raises(common.UserError, match="--load needs tasks that arrive at different times"):
        common.read_tasks([TASK], NEO, T4, load=0.9)


def test_times_too_large_to_add_exactly_are_refused():
    with pytest.raises(common.UserError, match="add up to more than 1e12 s"):
        common.read_tasks([dict(TASK, label=str(k), deadline=1e9) for k in range(1001)], NEO, T4)
