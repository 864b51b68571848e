"""common.py: models, estimates, task lists, links, bids, the pipeline and the metrics; and what is refused."""
import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import files
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCFS
import FCIM

T4, NEO, BLOOM = common.get_device("T4"), common.get_model("GPT-Neo 1.3B"), common.get_model("BLOOM-176B")
TASK = {"label": "A", "prompt": "two words", "arrival_time": 1, "output_words": 10, "trans_time": 2, "deadline": 30}
HEADER = "label,prompt,arrival_time,output_words,trans_time,deadline"
FIELDS = HEADER.replace(",", ", ")


# Models and estimates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, layers, billions, context", [
    ("GPT-Neo 1.3B", 24, 1.2, 2048), ("gpt-3-175b", 96, 174, 2048), ("BLOOM-176B", 70, 172.6, 2048)])
def test_the_models_have_the_published_sizes(name, layers, billions, context):
    model = common.get_model(name)
    assert (model.layers, model.context) == (layers, context)
    assert model.layers * model.params / 1e9 == pytest.approx(billions, rel=0.01)  # without the embeddings
    assert model.bits == (16 if name == "GPT-Neo 1.3B" else 4)


@pytest.mark.parametrize("name, kind, settings", [
    ("GPT-Neo 1.3B", "gpt_neo", dict(num_layers=24, hidden_size=2048, num_heads=16, max_position_embeddings=2048,
                                     attention_types=[[["global", "local"], 12]])),
    ("GPT-3 175B", "gpt2", dict(n_layer=96, n_embd=12288, n_head=96, n_positions=2048)),
    ("BLOOM-176B", "bloom", dict(n_layer=70, hidden_size=14336, n_head=112, seq_length=2048)),
])
def test_the_models_are_those_of_transformers(name, kind, settings):
    from transformers import AutoConfig
    model = common.get_model(name)
    assert common.model_from_config(name, AutoConfig.for_model(kind, **settings), model.bits) == model


def test_these_are_all_built_in_models():
    assert [model.name for model in common.MODELS] == ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]


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
        assert model.kv_bytes * 3 == 4 * keys.numel()


@pytest.mark.parametrize("kind, settings", [("t5", {}), ("mixtral", {}), ("mamba", {}), ("bert", {}), ("roberta", {}),
                                            ("vit", {})])
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
    assert (model.layers, model.kv_bytes, model.context, model.bits) == (3, 3 * 2 * 32 * 2, 512, 16)
    assert model.params == 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96


def test_the_bits_of_a_folder_model_are_those_of_its_configuration(tmp_path):
    from transformers import LlamaConfig
    LlamaConfig(num_hidden_layers=3, hidden_size=64, intermediate_size=96, num_attention_heads=4
                ).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for bits in (4, 4.5):
        file.write_text(json.dumps(dict(config, quantization_config={"quant_method": "awq", "bits": bits})))
        assert common.get_model(str(tmp_path)).bits == bits
    for bits in ("four", -4):
        file.write_text(json.dumps(dict(config, quantization_config={"quant_method": "awq", "bits": bits})))
        with pytest.raises(common.UserError, match=r"bits: .* is not"):
            common.get_model(str(tmp_path))


@pytest.mark.parametrize("name", ["./none", "a/b/c", "/none/at/all", "~/none/x", "none/", "none.gguf", "a/none.gguf"])
def test_a_model_that_is_not_there_is_said_so(name, tmp_path, monkeypatch):
    """Not in the hub's words about repository names."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(common.UserError, match=r"model .*: (no such file or folder|choose from)") as error:
        common.get_model(name)
    assert repr(name) in str(error.value)


def test_a_folder_of_no_decoder_is_refused(tmp_path):
    from transformers import BertConfig
    BertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4).save_pretrained(tmp_path)
    with pytest.raises(common.UserError, match="a bert is not a dense decoder"):
        common.get_model(str(tmp_path))


def test_the_estimate_follows_the_roofline():
    params, rate, bandwidth = 12 * 2048 ** 2, 0.42 * 65e12, 0.73 * 320e9
    read = params * 2 / bandwidth
    for prompt, output in ((1, 0), (10, 7), (5000, 1)):
        expected = max(2 * params * prompt / rate, read) + output * max(read, 2 * params / rate)
        assert common.layer_time(NEO, T4, prompt, output) == pytest.approx(expected)


def test_words_become_tokens_and_tokens_time():
    task = common.read_tasks([dict(TASK, prompt="a b c", output_words=300)], NEO, [T4]).iloc[0]
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
    task = common.read_tasks([dict(TASK, prompt_tokens=prompt, output_tokens=output)], NEO, [T4]).iloc[0]
    assert [task["prompt_tokens"], task["output_tokens"]] == [kept, made]
    warning = capsys.readouterr().err
    assert bool(warning) == ((kept, made) != (prompt, output))
    if warning:
        assert warning.count("\n") == 1
        assert "1 of 1 tasks exceed the 2048 tokens of GPT-Neo 1.3B and run capped, 'A' first" in warning


def test_what_a_task_gives_takes_the_place_of_the_estimates(tmp_path):
    given = dict(TASK, prompt_tokens=7, output_tokens=0, memory_gb=1.5, computation_time=2)
    tasks = [TASK, dict(TASK, label="B", prompt_tokens=7), dict(TASK, label="C", memory_gb=0.25),
             dict(given, label="D")]
    table = common.read_tasks(tasks, NEO, [T4])
    assert table["prompt_tokens"].tolist() == [3, 7, 3, 7]
    assert table["output_tokens"].tolist() == [14, 14, 14, 0]
    token = 24 * 2 * 2048 * 2
    assert table["kv_bytes"].tolist() == [17 * token, 21 * token, 0.25e9, 1.5e9]
    estimates = [round(24 * float(common.layer_time(NEO, T4, prompt, 14)) * 1e6) for prompt in (3, 7, 3)]
    assert table["computation_time"].tolist() == [*estimates, 2000000]
    assert table["given_time"].isna().tolist() == [True, True, True, False]
    assert table["given_time"].iloc[3] == 2
    files = [write(tmp_path, json.dumps(tasks), "tasks.json"), write(tmp_path, pd.DataFrame(tasks).to_csv(index=False))]
    for path in files:
        pd.testing.assert_frame_equal(common.read_tasks(path, NEO, [T4]), table, check_dtype=False)


# Files ----------------------------------------------------------------------------------------------------------------


def write(folder, text, name="tasks.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_csv_and_json_and_the_list_are_the_same(tmp_path):
    tasks = [*FCFS.tasks, dict(TASK, prompt='with, a comma, a "quote" and\na line', computation_time=1.25)]
    files = [write(tmp_path, json.dumps(tasks), "tasks.json")]
    files.append(write(tmp_path, "\ufeff" + pd.DataFrame(tasks).to_csv(index=False)))
    table = common.read_tasks(tasks, NEO, [T4])
    assert table["computation_time"].iloc[-1] == 1250000
    columns = ["label", "prompt", "arrival_time", "computation_time", "trans_time", "deadline", "kv_bytes"]
    for path in files:
        assert common.read_tasks(path, NEO, [T4])[columns].equals(table[columns])


# What is refused ------------------------------------------------------------------------------------------------------


def without(field):
    return {key: value for key, value in TASK.items() if key != field}


@pytest.mark.parametrize("tasks, message", [
    ([TASK, without("deadline")], "tasks, row 2, deadline: missing; the fields of a task are " + FIELDS),
    ([without("prompt")], "tasks, row 1, prompt: missing; the fields of a task are " + FIELDS),
    ([dict(TASK, arrival_time="soon")], "tasks, row 1, arrival_time: 'soon' is not a number"),
    ([dict(TASK, trans_time="5")], "tasks, row 1, trans_time: '5' is not a number"),
    ([dict(TASK, deadline=None)], "tasks, row 1, deadline: None is not a number"),
    ([dict(TASK, deadline=True)], "tasks, row 1, deadline: True is not a number"),
    ([dict(TASK, trans_time=-1)], "tasks, row 1, trans_time: -1 is not from 0 to 1e9"),
    ([dict(TASK, deadline=math.inf)], "tasks, row 1, deadline: inf is not from 0 to 1e9"),
    ([dict(TASK, arrival_time=math.nan)], "tasks, row 1, arrival_time: nan is not from 0 to 1e9"),
    ([dict(TASK, deadline=10 ** 400)], "tasks, row 1, deadline: 1" + 56 * "0" + "... is not from 0 to 1e9"),
    ([dict(TASK, deadline=1e12)], "tasks, row 1, deadline: 1000000000000.0 is not from 0 to 1e9"),
    ([dict(TASK, output_words=2.5)], "tasks, row 1, output_words: 2.5 is not a whole number"),
    ([dict(TASK, computation_time="x")], "tasks, row 1, computation_time: 'x' is not a number"),
    ([dict(TASK, computation_time=None)], "tasks, row 1, computation_time: None is not a number"),
    ([dict(TASK, prompt_tokens=1.5)], "tasks, row 1, prompt_tokens: 1.5 is not a whole number"),
    ([dict(TASK, output_tokens=-2)], "tasks, row 1, output_tokens: -2 is not from 0 to 1e9"),
    ([dict(TASK, memory_gb="4 GB")], "tasks, row 1, memory_gb: '4 GB' is not a number"),
    ([dict(TASK, label="A\0")], "tasks, row 1, label: 'A\\x00' is not a text"),
    ([dict(TASK, label="A\ud800")], "tasks, row 1, label: 'A\\ud800' is not a text"),
    ([dict(TASK, prompt="\udfff")], "tasks, row 1, prompt: '\\udfff' is not a text"),
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
        common.read_tasks(tasks, NEO, [T4])
    assert str(error.value) == message
    path = write(tmp_path, json.dumps(tasks), "tasks.json")  # the same of a file
    with pytest.raises(common.UserError) as error:
        common.read_tasks(path, NEO, [T4])
    assert str(error.value) == message.replace("tasks", path, 1)


@pytest.mark.parametrize("text, message", [
    ("", "no rows under a header"),
    ("\n\n", "no rows under a header"),
    ("label,prompt\nA,b\n", "row 1, arrival_time: missing; the fields of a task are " + FIELDS),
    (HEADER + "\n", "no rows under a header"),
    (HEADER + ",label\nA,hello,0,10,1,9,B\n", "the header names 'label' twice"),
    (HEADER + ",colour\nA,hello,0,10,1,9,red\n", "row 1: unknown field 'colour'"),
    (HEADER + "\nA\0,hello,0,10,1,9\n", "row 1, label: 'A\\x00' is not a text"),
    (HEADER + "\nA,hello,0,10,1\n", "row 1: 5 fields under a header of 6"),
    (HEADER + "\nA,hello,0,10,1,9\nB,hello,0,ten,1,9\n", "row 2, output_words: 'ten' is not a number"),
    (HEADER + "\nA,hello,0,10,,9\n", "row 1, trans_time: missing"),
    (HEADER + "\nA,hello,0,10,nan,9\n", "row 1, trans_time: 'nan' is not a number"),
    (HEADER + '\nA,"hello,0,10,1,9\n', "not a CSV file (unexpected end of data)"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "not a CSV file ('utf-8' codec can't decode"),
])
def test_a_wrong_file_is_named(text, message, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(common.UserError) as error:
        common.read_tasks(path, NEO, [T4])
    assert str(error.value).startswith(f"{path}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_json_is_named(tmp_path):
    for text in ("[{", b"\xff\xfe\x00", "[" * 100000):
        path = write(tmp_path, text, "tasks.JSON")
        with pytest.raises(common.UserError, match="not a JSON file"):
            common.read_tasks(path, NEO, [T4])


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(common.UserError, match="No such file"):
        common.read_tasks(str(tmp_path / "none.csv"), NEO, [T4])
    with pytest.raises(common.UserError, match="Is a directory"):
        common.read_tasks(str(tmp_path), NEO, [T4])
    with pytest.raises(common.UserError, match="''"):
        common.read_tasks("", NEO, [T4])


def test_times_too_large_to_add_exactly_are_refused():
    with pytest.raises(common.UserError, match="add up to more than 1e12 s"):
        common.read_tasks([dict(TASK, label=str(k), deadline=1e9) for k in range(1001)], NEO, [T4])


# Links ----------------------------------------------------------------------------------------------------------------


def pool_of(name):
    return {device: (common.get_device(kind), host) for device, kind, host in common.POOLS[name]}


PAPER = pool_of("paper")
TIMES = dict(zip(PAPER, (2, 2, 2, 6, 6, 6)))  # s a layer, over the list


def test_drawn_links_are_rayleigh_and_the_same_whoever_bids():
    tables = [common.read_links(None, list(PAPER), PAPER, seed) for seed in range(300)]
    for table in tables[:20]:
        assert (table.to_numpy() == table.to_numpy().T).all()
        assert (np.diag(table) == 0).all()
        assert list(table) == [*PAPER, "client"]
    upper = np.concatenate([table.to_numpy()[np.triu_indices(7, 1)] for table in tables])
    assert upper.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.03)
    assert (upper ** 2).mean() == pytest.approx(2 * 3 ** 2, rel=0.05)
    some = common.read_links(None, ["GPU 2", "GPU 5"], PAPER, 7)
    assert some.equals(tables[7].loc[["GPU 2", "GPU 5", "client"], ["GPU 2", "GPU 5", "client"]])


def test_a_link_within_a_host_is_quick_and_the_others_stay():
    hosts = pool_of("workstations")
    table, apart = common.read_links(None, list(hosts), hosts, 3), common.read_links(None, list(PAPER), PAPER, 3)
    for a in table:
        for b in table:
            together = a != b and "client" not in (a, b) and hosts[a][1] == hosts[b][1]
            assert table.loc[a, b] == (0.02 if together else apart.loc[a, b])


def test_own_links_one_way_or_both_or_from_a_file(tmp_path):
    names = ["GPU 1", "GPU 2", "client"]
    one_way = {"GPU 1": {"GPU 2": 3, "client": 0.5}, "client": {"GPU 2": 1}}
    expected = pd.DataFrame([[0, 3, 0.5], [3, 0, 1], [0.5, 1, 0]], names, names, dtype=float)
    both = {one: row.to_dict() for one, row in expected.iterrows()}
    (tmp_path / "links.json").write_text(json.dumps(one_way))
    expected.to_csv(tmp_path / "links.csv")
    (tmp_path / "half.csv").write_text(",GPU 2,client\nGPU 1,3,0.5\nGPU 2,,1\n")
    for links in (one_way, both, *(str(tmp_path / name) for name in ("links.json", "links.csv", "half.csv"))):
        assert common.read_links(links, ["GPU 1", "GPU 2"], PAPER, 0).equals(expected)


@pytest.mark.parametrize("links, message", [
    ({"GPU 1": {"GPU 2": 3}}, "links, GPU 1 to client: missing"),
    ({"GPU 1": {"GPU 2": 3, "client": 1}, "GPU 2": {"GPU 1": 4, "client": 1}},
     "links, GPU 1 to GPU 2: 3 s, but 4 s back"),
    ({"GPU 1": {"GPU 2": -3}}, "links, row 1, GPU 2: -3 is not from 0 to 1e9"),
    ({"GPU 1": {"GPU 2": "far"}}, "links, row 1, GPU 2: 'far' is not a number"),
    ({"GPU 1": {"GPU 1": 2, "GPU 2": 3, "client": 1}, "GPU 2": {"client": 1}},
     "links, row 1: 'GPU 1' is no device, stands there twice, or is not 0 s from itself"),
    ({"GPU 1": {"GPU 9": 3}}, "links, row 1: unknown field 'GPU 9'"),
    ([1, 2], "links, row 1: 1 is not a link"),
    ({"GPU 1": 3}, "links, row 1: 3 is not a link"),
    (3, "links: must be a list of links"),
])
def test_wrong_links_are_told(links, message):
    with pytest.raises(common.UserError) as error:
        common.read_links(links, ["GPU 1", "GPU 2"], PAPER, 0)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("text, message", [
    (",GPU 1,GPU 2,client\nGPU 1,0,3,1\nGPU 1,0,3,1\n", "row 2: 'GPU 1' is no device, stands there twice"),
    (",GPU 1,GPU 1,client\nGPU 1,0,3,1\n", "the header names 'GPU 1' twice"),
    ("device,GPU 1\nGPU 1,0\n", ""),
    ("device,GPU 1,GPU 2,client\nGPU 1,0,3,1\nGPU 2,3,0,1\n", ""),
    (",GPU 1,GPU 2\nGPU 1,0,3\nGPU 2,3,0\n", "GPU 1 to client: missing"),
    (",GPU 1,GPU 2,client\nGPU 1,0,x,1\n", "row 1, GPU 2: 'x' is not a number"),
    (",GPU 1,GPU 2,client\nGPU 1,0,inf,1\n", "row 1, GPU 2: 'inf' is not a number"),
    ("", "no rows under a header"),
    (",GPU 1,GPU 2,client\n", "no rows under a header"),
])
def test_a_wrong_file_of_links_is_told(text, message, tmp_path):
    path = tmp_path / "links.csv"
    path.write_text(text)
    with pytest.raises(common.UserError) as error:
        common.read_links(str(path), ["GPU 1", "GPU 2"], PAPER, 0)
    assert str(error.value).startswith(f"{path}")
    assert message in str(error.value)


# Bids -----------------------------------------------------------------------------------------------------------------


def drawn_bids(seed=0, model=BLOOM, devices=PAPER, kv_bytes=2e7, bids=None):
    """kv_bytes: of a layer."""
    capacity = {name: int(0.9 * device.memory * 1e9 / (model.layer_bytes + kv_bytes))
                for name, (device, _) in devices.items()}
    return common.read_bids(bids, model, devices, capacity, TIMES, seed)


@pytest.mark.parametrize("model", common.MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("seed", range(20))
def test_drawn_bids_follow_the_rules(model, seed):
    bids = drawn_bids(seed, model)
    assert bids["device"].tolist() == list(PAPER)
    capacity = [int(0.9 * device.memory * 1e9 / (model.layer_bytes + 2e7)) for device, _ in PAPER.values()]
    assert bids["capacity"].tolist() == capacity
    most = np.minimum(capacity, model.layers)
    assert (bids["layers"] <= most).all()
    assert bids["layers"].sum() >= model.layers
    drawn = np.minimum((np.array(capacity) * 0.6).astype(int), model.layers)
    assert (bids["layers"] >= drawn).all()
    cents = np.array([device.price_per_hour / 36 for device, _ in PAPER.values()])
    assert bids["computation_time"].to_numpy() == pytest.approx(bids["layers"].to_numpy() * list(TIMES.values()))
    assert bids["true_cost"].to_numpy() == pytest.approx(cents * bids["computation_time"], abs=1e-6)
    margin = bids["price"] / bids["true_cost"]
    assert margin.between(1.0999, 1.6001).all()
    assert margin.nunique() > 1


def test_offers_are_raised_only_as_far_as_needed():
    sums = [drawn_bids(seed)["layers"].sum() for seed in range(50)]
    assert min(sums) == 70  # 6 capacities, 84 in all, x U(0.6, 1): often too few, then exactly enough
    small = {name: PAPER[name] for name in ("GPU 1", "GPU 4")}
    assert drawn_bids(devices=small)["layers"].tolist() == [17, 11]  # all they have, still below 70
    assert drawn_bids(kv_bytes=16e9)["device"].tolist() == ["GPU 1", "GPU 2", "GPU 3"]  # a T4 holds no layer then


BID = {"device": "GPU 1", "layers": 14, "price": 0.8, "computation_time": 40.0}


def test_own_bids_and_their_files(tmp_path):
    bids = [BID, dict(BID, device="GPU 4", layers=3, true_cost=0.7)]
    table = drawn_bids(bids=bids)
    assert table["true_cost"].tolist() == [round(40 * 0.4 / 36, 6), 0.7]
    assert table[["type", "host", "capacity"]].to_numpy().tolist() == [["RTX 4090", "host 1", 17], ["T4", "host 4", 11]]
    (tmp_path / "bids.json").write_text(json.dumps(bids))
    pd.DataFrame(bids).to_csv(tmp_path / "bids.csv", index=False)
    table.to_csv(tmp_path / "written.csv", index=False)
    for name in ("bids.json", "bids.csv", "written.csv"):
        assert drawn_bids(bids=str(tmp_path / name)).equals(table)


@pytest.mark.parametrize("bids, message", [
    ([BID, BID], "bids, row 2, device: GPU 1 bids twice"),
    ([dict(BID, device="GPU 9")], "bids, row 1, device: unknown device 'GPU 9': choose from GPU 1, GPU 2"),
    ([dict(BID, device=["x"])], "bids, row 1, device: ['x'] is not a text"),
    ([dict(BID, layers=18)], "bids, row 1, layers: 18 is not from 1 to 17, what GPU 1 holds of BLOOM-176B"),
    ([dict(BID, layers=0)], "bids, row 1, layers: 0 is not from 1 to 17"),
    ([dict(BID, layers=2.5)], "bids, row 1, layers: 2.5 is not a whole number"),
    ([dict(BID, price=-1)], "bids, row 1, price: -1 is not from 0 to 1e9"),
    ([dict(BID, computation_time="40 s")], "bids, row 1, computation_time: '40 s' is not a number"),
    ([dict(BID, true_cost=None)], "bids, row 1, true_cost: None is not a number"),
    ([dict(BID, capacity=12)], "bids, row 1, capacity: 12, but GPU 1 has 17"),
    ([dict(BID, type="T4")], "bids, row 1, type: 'T4', but GPU 1 has RTX 4090"),
    ([dict(BID, colour="red")], "bids, row 1: unknown field 'colour'"),
    ([{"device": "GPU 1"}], "bids, row 1, layers: missing"),
    ([dict(BID, computation_time=math.nan)], "bids, row 1, computation_time: nan is not from 0 to 1e9"),
    ([dict(BID, true_cost=-1)], "bids, row 1, true_cost: -1 is not from 0 to 1e9"),
    (["GPU 1"], "bids, row 1: 'GPU 1' is not a bid"),
    ({"GPU 1": 3}, "bids: must be a list of bids"),
    (5, "bids: must be a list of bids"),
])
def test_wrong_bids_are_told(bids, message):
    with pytest.raises(common.UserError) as error:
        drawn_bids(bids=bids)
    assert str(error.value).startswith(message)


def test_no_bid_is_no_allocation():
    for bids in ([], ()):
        with pytest.raises(common.NoAllocation, match="no device bids for the 70 layers of BLOOM-176B"):
            drawn_bids(bids=bids)
    with pytest.raises(common.NoAllocation, match="no device bids"):
        drawn_bids(kv_bytes=1e12)


# Pipeline and metrics -------------------------------------------------------------------------------------------------


@st.composite
def allocations(draw):
    """Stages over devices with bids, times, links and tasks, all drawn."""
    seed = draw(st.integers(0, 2 ** 32 - 1))
    random = np.random.default_rng(seed)
    devices, tasks = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    order, groups = random.permutation(devices)[:random.integers(1, devices + 1)].tolist(), []
    for device in order:
        if groups and random.random() < 0.4:
            groups[-1].append(device)
        else:
            groups.append([device])
    layers = random.integers(1, 5, len(groups))
    delay = np.triu(random.uniform(0, 5, (devices + 1, devices + 1)).round(3), 1)
    offers = random.integers(5, 9, devices)
    bids = pd.DataFrame({"device": [f"D{i}" for i in range(devices)], "layers": offers,
                         "price": random.uniform(0, 3, devices), "true_cost": random.uniform(0, 3, devices)})
    stages = [{"devices": group, "layers": int(n)} for group, n in zip(groups, layers)]
    if random.random() < 0.3 and len(order) == len(groups):
        for stage in stages:
            stage["reward"] = random.uniform(0, 2)
    arrival = np.sort(random.integers(0, 20, tasks)) * common.US
    table = pd.DataFrame({"label": [f"T{k}" for k in range(tasks)], "arrival_time": arrival, "trans_time": 0,
                          "computation_time": 0, "deadline": arrival + random.integers(1, 60, tasks) * common.US,
                          "kv_bytes": random.integers(1, 9, tasks) * 1000})
    return stages, table, bids, delay + delay.T, random.uniform(0, 2, (tasks, devices)).round(4)


@settings(max_examples=500)
@given(allocations())
def test_the_accounting_equals_a_plain_one(case):
    stages, tasks, bids, delay, times = case
    layers = sum(stage["layers"] for stage in stages)
    model = common.Model("M", layers, hidden=8000, feed_forward=46500, heads=8, context=99)  # 1e9 weights a layer
    table, result, intervals, metrics = common.evaluate(stages, tasks, model, bids, delay, times, [24] * len(bids))
    client, now, steps = len(bids), {}, list(intervals.itertuples(index=False))
    arrivals, ends, done = (column.tolist() for column in (
        tasks["arrival_time"], result["end_computation"], result["completion_time"]))
    crossed = computed = 0
    for k in range(len(tasks)):
        time, place = arrivals[k] / common.US, [client]
        for s, stage in enumerate(stages):
            group = stage["devices"]
            link = min(delay[a][b] for a in place for b in group)
            slowest = max(delay[a][b] for a in group for b in group)
            work = stage["layers"] * max(times[k][i] for i in group) / len(group)
            reduces = stage["layers"] * 4 * (len(group) - 1) / len(group) * slowest
            time = max(time + link, now.get(s, 0)) + work + reduces
            now[s], place = time, group
            crossed, computed = crossed + link + reduces, computed + work
        back = min(delay[a][client] for a in place)
        crossed += back
        assert ends[k] / common.US == pytest.approx(time, abs=1e-4)
        assert done[k] / common.US == pytest.approx(time + back, abs=1e-4)
    assert metrics["completion_time"] == pytest.approx(time + back, abs=1e-4)
    assert metrics["communication_time"] == pytest.approx(crossed, abs=1e-4)
    assert metrics["computation_time"] == pytest.approx(computed, abs=1e-4)
    assert metrics["deadlines_met"] == (result["completion_time"] <= tasks["deadline"]).sum()
    paid = {}
    for s, stage in enumerate(stages):
        for i in stage["devices"]:
            share = stage["layers"] / len(stage["devices"]) / bids["layers"][i]
            paid[i] = stage.get("reward", bids["price"][i] * share), bids["true_cost"][i] * share
        assert table["reward"][s] == pytest.approx(sum(paid[i][0] for i in stage["devices"]), abs=1e-5)
        assert table["utility"][s] == pytest.approx(sum(paid[i][0] - paid[i][1] for i in stage["devices"]), abs=1e-5)
    rewards = [reward for reward, _ in paid.values()]
    assert metrics["total_cost"] == pytest.approx(sum(rewards), abs=1e-5)
    shares = [stage["layers"] / len(stage["devices"]) for stage in stages for _ in stage["devices"]]
    for key, values in (("fairness_rewards", rewards), ("fairness_layers", shares)):
        squares = len(values) * sum(value ** 2 for value in values)
        assert metrics[key] == pytest.approx(sum(values) ** 2 / squares, abs=1e-5)
    held = layers * (2e9 + tasks["kv_bytes"].max() / layers) / 1e9
    assert metrics["memory_utilization"] == pytest.approx(held / 24 / len(paid), abs=1e-5)
    assert metrics["devices"] == len(paid)

    last = dict.fromkeys(range(len(stages)), 0)
    for k in range(len(tasks)):  # each task goes through all stages, in order, and no stage does two things at once
        kinds, starts, ends = zip(*((kind, start, end) for label, kind, start, end in steps if label == f"T{k}"))
        assert list(kinds) == [*["transmit", "compute"] * len(stages), "transmit"]
        assert starts[0] == arrivals[k]
        assert all(start >= end for start, end in zip(starts[1:], ends))
        for s, (start, end) in enumerate(zip(starts[1::2], ends[1::2])):
            assert start == max(last[s], ends[2 * s])
            last[s] = end


GOOD = [{"devices": [0], "layers": 2}, {"devices": [1], "layers": 1}]


def evaluated(stages):
    """Of three layers on two devices that offer two each."""
    tasks = common.read_tasks(FCIM.tasks, BLOOM, [T4])
    bids = pd.DataFrame({"device": ["A", "B"], "layers": [2, 2], "price": [1, 1], "true_cost": [1, 1]})
    model = common.Model("M", 3, hidden=9, feed_forward=9, heads=3, context=9)
    return common.evaluate(stages, tasks, model, bids, np.ones((3, 3)) - np.eye(3), np.ones((5, 2)), [9, 9])


@pytest.mark.parametrize("stages, rule", [
    ([{"devices": [0], "layers": 2}], "it holds 2 of 3 layers"),
    ([*GOOD, {"devices": [], "layers": 1}], ""),
    ([{"devices": [0], "layers": 2}, {"devices": [0], "layers": 1}], "A is used twice"),
    ([{"devices": [0, 0], "layers": 2}, {"devices": [1], "layers": 1}], "A is used twice"),
    ([{"devices": [0], "layers": 3}], "more than A offers"),
    ([{"devices": [0], "layers": 2}, {"devices": [1], "layers": 0}], "0 is not positive"),
    ([{"devices": [0], "layers": 4}, {"devices": [1], "layers": -1}], "more than A offers"),
    ([{"devices": [0], "layers": 2}, {"devices": [1], "layers": 2}], "it holds 4 of 3 layers"),
    ([{"devices": [0], "layers": 2}, {"devices": [2], "layers": 1}], "2 is not a row of the bids"),
    ([{"devices": [0], "layers": 2}, {"devices": [-1], "layers": 1}], "-1 is not a row of the bids"),
    ([{"devices": [0], "layers": 2}, {"devices": ["B"], "layers": 1}], "'B' is not a row of the bids"),
    ([{"devices": [0], "layers": 2}, {"devices": [1.5], "layers": 1}], "1.5 is not a row of the bids"),
    ([{"devices": [0], "layers": 2}, {"devices": [None], "layers": 1}], "None is not a row of the bids"),
    ([{"devices": [0], "layers": 1.5}, {"devices": [1], "layers": 1.5}], ""),  # half layers
    ([{"devices": [0], "layers": "2"}, {"devices": [1], "layers": 1}], ""),
    ([{"devices": 0, "layers": 2}, {"devices": [1], "layers": 1}], ""),
    ([{"devices": "01", "layers": 3}], ""),
    ([{"devices": [0]}, {"devices": [1], "layers": 1}], ""),
    ([{"layers": 2}, {"devices": [1], "layers": 1}], ""),
    ([dict(GOOD[0], reward=1), GOOD[1]], ""),  # one is paid by a rule, one is not
    ([dict(GOOD[0], reward="1 cent"), dict(GOOD[1], reward=1)], ""),
    ([dict(GOOD[0], reward=math.nan), dict(GOOD[1], reward=1)], ""),
    ([(0, 2), (1, 1)], ""),
    ([], ""), ({}, ""), (None, ""), (7, ""), ("stages", ""), ([None], ""), ([[]], ""),
])
def test_what_is_no_allocation_is_told(stages, rule):
    with pytest.raises(common.UserError) as error:
        evaluated(stages)
    assert rule in str(error.value)
    assert "allocat" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_an_allocation_is_none_of_these():
    assert evaluated(GOOD)[3]["devices"] == 2
    assert evaluated([{"devices": [1, 0], "layers": 3}])[3]["devices"] == 2


def test_equal_or_no_rewards_are_fair():
    free = [dict(stage, reward=0) for stage in GOOD]
    assert (evaluated(free)[3]["fairness_rewards"], evaluated(free)[3]["total_cost"]) == (1, 0)
    assert evaluated([dict(stage, reward=3) for stage in GOOD])[3]["fairness_rewards"] == 1
    assert evaluated([dict(GOOD[0], reward=1), dict(GOOD[1], reward=0)])[3]["fairness_rewards"] == 1 / 2
    assert evaluated([dict(GOOD[0], reward=1), dict(GOOD[1], reward=2)])[3]["fairness_rewards"] == 9 / 10
    assert evaluated(GOOD)[3]["fairness_layers"] == 9 / 10


def own_bids(*devices):
    return [dict(BID, device=device, layers=layers, computation_time=time) for device, layers, time in devices]


def test_the_times_are_those_that_the_bids_promise():
    bids = own_bids(("GPU 4", 2, 12.0), ("GPU 1", 4, 4.0))
    case = common.allocation_case(FCIM.tasks, BLOOM, "paper", 0, bids)
    assert case["times"].sum(axis=0) == pytest.approx([6, 1])
    tasks = case["tasks"]
    estimates = [common.layer_time(BLOOM, common.get_device(kind), tasks["prompt_tokens"], tasks["output_tokens"])
                 for kind in ("T4", "RTX 4090")]
    for times, estimate in zip(case["times"].T, estimates):
        assert times / times[0] == pytest.approx(estimate / estimate.iloc[0])
    idle = [dict(task, computation_time=0) for task in FCIM.tasks]  # what is promised for no work is shared out evenly
    assert common.allocation_case(idle, BLOOM, "paper", 0, bids)["times"] == pytest.approx(np.array([[6, 1]] * 5) / 5)


def test_what_an_allocation_is_given():
    """Tasks in order of arrival, capacities by the largest cache, and times, links and memory of the bidders."""
    tasks = [dict(FCIM.tasks[0], arrival_time=9), dict(FCIM.tasks[1], memory_gb=7), dict(FCIM.tasks[2], arrival_time=3)]
    case = common.allocation_case(tasks, BLOOM, "workstations", 4)
    assert case["tasks"]["label"].tolist() == ["Task 2", "Task 3", "Task 1"]
    assert case["arrivals"].tolist() == [3, 3, 9]
    capacity = {kind: int(0.9 * common.get_device(kind).memory * 1e9 / (BLOOM.layer_bytes + 7e9 / 70))
                for kind in ("RTX 4090", "T4")}
    assert case["bids"]["capacity"].tolist() == [capacity[kind] for _, kind, _ in common.POOLS["workstations"]]
    assert case["memory"] == [24, 24, 24, 16, 16, 16]
    assert (case["layers"], case["model"], case["seed"]) == (70, BLOOM, 4)
    assert (case["delay"] == case["links"].to_numpy()).all()
    assert case["times"].shape == (3, 6)
    some = common.allocation_case(tasks, BLOOM, "workstations", 4, own_bids(("GPU 6", 3, 40), ("GPU 2", 3, 40)))
    assert some["links"].equals(case["links"].loc[["GPU 6", "GPU 2", "client"], ["GPU 6", "GPU 2", "client"]])
    assert some["memory"] == [16, 24]


@pytest.mark.parametrize("factor, warned", [(0.4, True), (0.6, False), (1, False), (1.9, False), (2.1, True)])
def test_own_bids_for_another_list_are_warned_of(factor, warned, capsys):
    drawn = common.allocation_case(FCIM.tasks, BLOOM, "paper", 0)["bids"]
    bids = drawn.assign(computation_time=drawn["computation_time"] * factor)[list(BID)].to_dict("records")
    common.allocation_case(FCIM.tasks, BLOOM, "paper", 0, bids)
    warning = capsys.readouterr().err
    assert warning.count("\n") == warned
    assert warned == ("warning: the bids promise" in warning)


def test_a_given_time_holds_on_every_device():
    task = dict(FCIM.tasks[0], computation_time=140)
    devices = [T4, common.get_device("RTX 4090")]
    tasks = common.read_tasks([task, FCIM.tasks[1]], BLOOM, devices)
    times = common.layer_times(tasks, BLOOM, devices)
    assert times[0] == pytest.approx([2, 2])
    assert times[1][0] > times[1][1]


# Output ---------------------------------------------------------------------------------------------------------------


def test_files_of_an_earlier_run_are_replaced_and_others_stay(tmp_path):
    write(tmp_path, "old", "FCFS_tasks.csv")
    write(tmp_path, "mine", "notes.txt")
    paths = common.write_files(str(tmp_path), {"FCFS_tasks.csv": pd.DataFrame({"a": [1]}),
                                               "x.png": lambda path: pathlib.Path(path).write_text("new")})
    assert paths == [str(tmp_path / "FCFS_tasks.csv"), str(tmp_path / "x.png")]
    assert files(tmp_path) == ["FCFS_tasks.csv", "notes.txt", "x.png"]
    assert (tmp_path / "FCFS_tasks.csv").read_text() == "a\n1\n"


def test_a_figure_that_fails_half_way_is_left_out(tmp_path, capsys):
    def fail(path):
        pathlib.Path(path).write_bytes(b"\x89PNG")
        raise RuntimeError("the font\nis gone")
    assert common.write_files(str(tmp_path), {"a.csv": pd.DataFrame({"a": [1]}), "a.png": fail}) == [
        str(tmp_path / "a.csv")]
    assert files(tmp_path) == ["a.csv"]
    warning = capsys.readouterr().err
    assert warning.startswith("warning: no a.png: ") and "the font" in warning and warning.count("\n") == 1


# Published profiles of one layer, ms in fp16: of a token of the output, and of prompts of so many tokens. Helix (ASPLOS
# 2025); for the RTX 4090 LLMServingSim 2.
LLAMA_30B = common.Model("LLaMA-30B", layers=60, hidden=6656, feed_forward=17920, heads=52, context=2048, gated=True)
LLAMA_70B = common.Model("Llama-2-70B", layers=80, hidden=8192, feed_forward=28672, heads=64, context=4096, kv_heads=8,
                         gated=True)
LLAMA_8B = common.Model("Llama-3.1-8B", layers=32, hidden=4096, feed_forward=14336, heads=32, context=8192, kv_heads=8,
                        gated=True)


@pytest.mark.parametrize("model, device, decode, prompts", [
    (LLAMA_30B, "T4", 4.7, {500: 20, 1000: 41, 2000: 78}), (LLAMA_30B, "L4", 4.5, {500: 13, 1000: 24, 2000: 45}),
    (LLAMA_30B, "V100", 1.8, {500: 6, 1000: 12, 2000: 24}), (LLAMA_30B, "A100", 0.9, {500: 2, 1000: 5, 2000: 9}),
    (LLAMA_70B, "T4", 7.1, {500: 30, 1000: 59, 2000: 128}), (LLAMA_70B, "L4", 6.9, {500: 20, 1000: 38, 2000: 72}),
    (LLAMA_70B, "V100", 2.3, {500: 10, 1000: 19, 2000: 37}), (LLAMA_70B, "A100", 1.4, {500: 4, 1000: 8, 2000: 14}),
    (LLAMA_8B, "RTX 4090", 0.487, {512: 1.43, 1024: 2.82, 2048: 5.63}),
], ids=lambda value: getattr(value, "name", str(value)))
def test_the_estimates_meet_the_published_profiles(model, device, decode, prompts):
    def milliseconds(prompt, output):
        return 1000 * common.layer_time(model, common.get_device(device), prompt, output)

    assert milliseconds(1, 1) - milliseconds(1, 0) == pytest.approx(decode, rel=0.25)
    for tokens, measured in prompts.items():
        assert milliseconds(tokens, 0) == pytest.approx(measured, rel=0.25)


def test_every_type_of_device_has_a_profile():
    assert [device.type for device in common.DEVICES] == ["T4", "L4", "V100", "A100", "RTX 4090"]
