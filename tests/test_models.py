"""common's models, against transformers' own modules and configurations: types, weights, bits, and what is refused."""
import json
import pathlib
import types

import pytest

import common

TYPES = sorted(common.GATED + common.UNGATED)

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
# Published shapes where a type's default configuration is not one, or is one of several kinds; layers are cut to three.
SHAPES = [*PUBLISHED.values(), *[
    ("falcon", dict(num_hidden_layers=3, hidden_size=4544, num_attention_heads=71)),  # 7B: one key and value
    ("falcon", dict(num_hidden_layers=3, hidden_size=8192, num_attention_heads=128, num_kv_heads=8,
                    new_decoder_architecture=True)),  # 40B: groups
    ("falcon", dict(num_hidden_layers=3, hidden_size=2048, num_attention_heads=32, multi_query=False)),  # RW 1B
    ("gpt_bigcode", dict(n_layer=3, n_embd=6144, n_head=48, n_inner=24576)),  # StarCoder
    ("gpt_bigcode", dict(n_layer=3, n_embd=6144, n_head=48, multi_query=False)),
    ("mpt", dict(n_layers=3, d_model=4096, n_heads=32)),  # 7B
    ("opt", dict(num_hidden_layers=3, hidden_size=12288, ffn_dim=49152, num_attention_heads=96)),  # 175B
    ("llama", dict(num_hidden_layers=3, hidden_size=5120, intermediate_size=13824, num_attention_heads=40)),  # 2 13B
    ("ministral", dict(num_hidden_layers=3, head_dim=128)),
    ("nemotron", dict(num_hidden_layers=3, num_key_value_heads=8)),
    ("hunyuan_v1_dense", dict(num_hidden_layers=3, head_dim=128)),
]]
# Different numbers, so that no two of them can be mistaken for each other.
SMALL = dict(num_hidden_layers=7, hidden_size=96, num_attention_heads=6, num_key_value_heads=2, num_kv_heads=2,
             head_dim=20, intermediate_size=200, ffn_dim=200, n_inner=200, ffn_hidden_size=200, expansion_ratio=3)
TOKENS = dict(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def configuration(kind, **settings):
    from transformers import CONFIG_MAPPING
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this release of transformers knows no {kind}")
    return CONFIG_MAPPING[kind](**settings)


def small_configuration(kind):
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
    return configuration(kind, **settings, **TOKENS)


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
    return max(([weights_of(layer) for layer in stack] for stack in stacks), key=sum)


def weights_of(layer):
    return sum(weight.numel() for name, weight in layer.named_parameters() if weight.dim() > 1 and "norm" not in name)


# The types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_weights_and_cache_of_a_small_model_are_those_of_the_real_layers(kind):
    config = small_configuration(kind)
    model, real = common.model_from_config(kind, config), on_meta(config)
    assert model.layers == 7
    assert weights_of_layers(real, 7) == [model.params] * 7
    if kind not in ("qwen2_vl_text", "qwen2_5_vl_text"):  # their rotary sections do not fit so small a head
        assert model.kv_bytes == 4 * cached_numbers(real)


def cached_numbers(real):
    """How many numbers the keys of one token take in all layers."""
    import torch
    with torch.no_grad():
        real = real.to_empty(device="cpu").float()
        cache = real(torch.ones(1, 3, dtype=torch.long), use_cache=True).past_key_values
    return sum(layer.keys.numel() for layer in cache.layers) / 3


@pytest.mark.parametrize("kind, settings", [
    *[(kind, {}) for kind in TYPES if kind not in ("ministral", "hunyuan_v1_dense", "nemotron")],  # these lack a number
    *SHAPES])
def test_weights_of_a_model_of_real_shape_are_those_of_the_real_layers(kind, settings):
    """Each type's own defaults, which are mostly those of its first model, and published shapes."""
    config = configuration(kind, **settings)
    model = common.model_from_config(kind, config)
    assert weights_of_layers(on_meta(config), model.layers) == [model.params] * model.layers


def test_no_type_is_in_both_lists():
    assert len(set(TYPES)) == len(TYPES)


@pytest.mark.parametrize("kind, settings, text", [
    ("gemma3", {}, "gemma3_text"), ("qwen2_5_vl", {}, "qwen2_5_vl_text"), ("llava", {}, "llama"),
    ("paligemma", {}, "gemma")])
def test_of_a_multimodal_model_the_text_decoder_is_read(kind, settings, text):
    config = configuration(kind, **settings)
    if not hasattr(config, "get_text_config"):
        pytest.skip("this release of transformers does not tell the text decoder")
    assert config.get_text_config().model_type == text
    assert common.model_from_config("M", config) == common.model_from_config("M", config.get_text_config())


@pytest.mark.parametrize("kind", [
    "t5", "bart", "mixtral", "mamba", "bert", "roberta", "vit", "dbrx", "lfm2", "jamba", "qwen3_5_text", "qwen3_moe",
    "gemma3n", "gemma3n_text", "mllama", "diffllama", "deepseek_v3", "gpt_oss"])
def test_any_other_type_is_refused_by_its_name(kind):
    with pytest.raises(common.UserError, match=r"model 'M': type '\w+' is not in common's lists"):
        common.model_from_config("M", configuration(kind))


# The built-in models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_built_in_model_is_that_of_its_published_configuration(name):
    kind, settings = PUBLISHED[name]
    model = common.get_model(name)
    read = common.model_from_config(name, configuration(kind, **settings), model.bits)
    assert (model.layers, model.hidden, model.heads, model.feed_forward) == (
        read.layers, read.hidden, read.heads, read.feed_forward)
    assert (model.context, model.gated, model.bits) == (read.context, read.gated, read.bits)
    assert (model.params, model.kv_bytes) == (read.params, read.kv_bytes)


@pytest.mark.parametrize("name, billions", [
    ("GPT-Neo 1.3B", 1.208), ("gpt-3-175b", 173.9), ("BLOOM-176B", 172.6), ("Llama 3.1 8B", 6.98),
    ("Llama 3.3 70B", 68.5), ("Qwen2.5 7B", 6.53), ("Mistral 7B", 6.98)])
def test_the_models_have_the_published_sizes(name, billions):
    """All weights but those of embeddings, biases and norms."""
    model = common.get_model(name)
    assert model.layers * model.params / 1e9 == pytest.approx(billions, rel=0.005)


# Folders, files and bits ----------------------------------------------------------------------------------------------
LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
         "num_hidden_layers": 3, "num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": 99}


def folder_model(folder, **settings):
    (folder / "config.json").write_text(json.dumps({**LLAMA, **settings}))
    return common.get_model(str(folder))


def test_a_folder_with_a_configuration_is_a_model(tmp_path):
    model = folder_model(tmp_path)
    assert (model.layers, model.kv_bytes, model.context, model.bits) == (3, 3 * 2 * 32 * 2, 512, 16)
    assert model.params == 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96


def compressed(*bits, **settings):
    groups = {f"group_{i}": {"weights": {"num_bits": one}, "targets": ["Linear"]} for i, one in enumerate(bits)}
    return {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"], **settings}


@pytest.mark.parametrize("settings, bits", [
    ({}, 16), ({"torch_dtype": "bfloat16"}, 16),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}}, 4),
    ({"quantization_config": {"quant_method": "gptq", "bits": 3, "modules_in_block_to_quantize": None}}, 3),
    ({"quantization_config": {"quant_method": "awq", "bits": 4, "modules_to_not_convert": None}}, 4),
    ({"quantization_config": {"quant_method": "awq", "bits": 4.5}}, 4.5),
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}}, 4),
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}}, 8),
    ({"quantization_config": {"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head", "multi_modal_projector"]}}, 8),
    ({"quantization_config": {"quant_method": "fp8", "ignored_layers": ["lm_head"]}}, 8),
    ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": [
        "lm_head", "model.layers.0.input_layernorm", "model.layers.0.self_attn.q_norm"]}}, 8),
    ({"quantization_config": compressed(8)}, 8),
    ({"quantization_config": compressed(4, 4)}, 4),
    ({"quantization_config": compressed(8, ignore=["lm_head", "re:vision_tower.*", "visual.blocks.0.attn.qkv"])}, 8),
    ({"compression_config": compressed(8)}, 8),
    ({"quantization": {"group_size": 64, "bits": 4}}, 4),
    ({"quantization": {"group_size": 64, "bits": 6, "model.embed_tokens": {"group_size": 64, "bits": 8}}}, 6),
    ({"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}}, 4),
])
def test_the_bits_are_those_of_the_quantization(settings, bits, tmp_path):
    assert folder_model(tmp_path, **settings).bits == bits


@pytest.mark.parametrize("quantization", [
    {}, {"bits": None, "quant_method": "gptq"}, {"bits": "four", "quant_method": "gptq"},
    {"bits": "4", "quant_method": "gptq"},
    {"bits": 0, "quant_method": "awq"}, {"bits": -4, "quant_method": "awq"}, {"quant_method": "gptq"},
    {"quant_method": "quanto", "weights": "int4"}, {"quant_method": "of the year 2030", "bits": 4},
    {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False},
    {"quant_method": "compressed-tensors"}, compressed(4, 8),
    {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": None}}},
    # the layers are not all of these bits
    compressed(8, ignore=["lm_head", "re:.*self_attn.*"]), compressed(8, ignore=["model.layers.0.mlp.down_proj"]),
    compressed(8, ignore=[r"re:.*layers\.1\..*"]),
    {"load_in_4bit": True, "llm_int8_skip_modules": ["lm_head", "model.layers.1.mlp"]},
    {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["model.layers.0.self_attn.q_proj"]},
    {"quant_method": "gptq", "bits": 4, "dynamic": {r"+:.*\.18\..*": {"bits": 8}}},
    {"bits": 4, "group_size": 64, "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 6}},
])
def test_a_quantization_that_is_not_understood_is_refused(quantization, tmp_path):
    with pytest.raises(common.UserError, match="to how many bits is not understood") as error:
        folder_model(tmp_path, quantization_config=quantization)
    assert "\n" not in str(error.value)


def test_bits_that_are_given_go_before_those_of_the_configuration():
    config = configuration("llama", quantization_config={"quant_method": "gptq", "bits": 4})
    assert [common.model_from_config("M", config, bits).bits for bits in (None, 32)] == [4, 32]


@pytest.mark.parametrize("settings", [{"hidden_size": 0}, {"num_attention_heads": 0}, {"num_hidden_layers": -1}])
def test_sizes_that_are_none_are_refused(settings, tmp_path):
    with pytest.raises(common.UserError, match="model "):
        folder_model(tmp_path, **settings)


@pytest.mark.parametrize("size", [None, 0, "twelve", 1.5])
def test_a_size_that_is_none_is_refused_by_its_name(size):
    """Of a configuration that transformers has let through, as its older releases do."""
    config = types.SimpleNamespace(model_type="llama", num_hidden_layers=size, hidden_size=8, num_attention_heads=2,
                                   intermediate_size=16)
    with pytest.raises(common.UserError, match=r"model 'M', layers: .* is not "):
        common.model_from_config("M", config)


@pytest.mark.parametrize("name", ["./none", "a/b/c", "/none/at/all", "~/none/x", "none/", "none.gguf", "a/none.gguf"])
def test_a_model_that_is_not_there_is_said_so(name, tmp_path, monkeypatch):
    """Not in the hub's words about repository names."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(common.UserError, match=r"model .*: (no such file or folder|choose from)") as error:
        common.get_model(name)
    assert repr(name) in str(error.value)


# GGUF -----------------------------------------------------------------------------------------------------------------


def gguf_file(folder, matrices, kinds):
    """A small llama's GGUF file whose layers hold `matrices` {name: shape, fastest last}, quantized to kinds[layer]."""
    gguf = pytest.importorskip("gguf")
    import numpy as np
    path = str(pathlib.Path(folder) / "small.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_block_count(len(kinds))
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.0, 0.0])
    writer.add_token_types([1, 1])
    writer.add_tensor("token_embd.weight", np.zeros((2, 64), np.float32))
    for layer, kind in enumerate(kinds):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.zeros(64, np.float32))
        for name, shape in matrices.items():
            values = gguf.quants.quantize(np.zeros(shape, np.float32), kind)
            writer.add_tensor(f"blk.{layer}.{name}.weight", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


MATRICES = {"attn_q": (64, 64), "attn_output": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "ffn_up": (96, 64),
            "ffn_gate": (96, 64), "ffn_down": (64, 96)}


@pytest.mark.parametrize("kinds, bits", [(["F16", "F16"], 16), (["Q4_0"], 4.5), (["Q8_0"], 8.5), (["Q4_1"], 5),
                                         (["Q4_0", "Q4_1"], 4.75), (["F32"], 32)])
def test_the_bits_of_a_gguf_file_are_those_of_its_layers(kinds, bits, tmp_path):
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("torch")
    kinds = [gguf.GGMLQuantizationType[kind] for kind in kinds]
    model = common.get_model(gguf_file(tmp_path, MATRICES, kinds))
    assert (model.layers, model.params, model.bits) == (len(kinds), 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96, bits)


def test_a_gguf_file_with_other_layers_than_its_type_says_is_refused(tmp_path):
    """As those with experts, which name the type of the dense model."""
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("torch")
    matrices = {**MATRICES, "ffn_gate_exps": (4, 96, 64)}
    path = gguf_file(tmp_path, matrices, [gguf.GGMLQuantizationType.F16])
    with pytest.raises(common.UserError, match="hold 55,296 weights, and those of a dense llama of this shape 30,720"):
        common.get_model(path)


@pytest.mark.parametrize("content", [b"", b"no GGUF file"])
def test_what_is_no_gguf_file_is_refused(content, tmp_path):
    pytest.importorskip("gguf")
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(common.UserError, match="model "):
        common.get_model(str(path))
