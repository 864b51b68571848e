"""Prints the line of a model for common.MODELS: its sizes, and the bits of a weight.

    python -m real.describe HuggingFaceTB/SmolLM2-135M-Instruct
    python -m real.describe SmolLM2-135M-Instruct.Q4_1.gguf

MODEL is a hub name, a folder with a config.json, or a GGUF file. It must be a dense decoder with equal layers, of a
type listed below, all of whose matrices have the same bits; of a GGUF file the bits are the mean, and a warning says so
where they are mixed. What is not understood is refused by its name. Needs transformers, and gguf for a GGUF file.
"""
import os
import re
import sys
import textwrap

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common

# Dense decoders with equal layers, by transformers' model_type. In these the feed-forward block has two matrices ...
UNGATED = ("apertus arcee biogpt bloom codegen falcon gpt2 gpt_bigcode gpt_neo gpt_neox gptj jais2 mpt nanochat "
           "nemotron opt persimmon phi starcoder2 xglm").split()
# ... and in these a third one gates it.
GATED = ("cohere cohere2 cwm ernie4_5 exaone exaone4 gemma gemma2 gemma3_text glm glm4 granite hunyuan_v1_dense "
         "hyperclovax internlm3 llama ministral ministral3 mistral olmo olmo2 olmo3 phi3 qwen2 qwen2_5_vl_text "
         "qwen2_vl_text qwen3 qwen3_vl_text seed_oss smollm3 stablelm vaultgemma").split()
# What llama.cpp calls some of these in a GGUF file.
GGUF_TYPES = {"command-r": "cohere", "gemma3": "gemma3_text", "gptneox": "gpt_neox", "phi2": "phi",
              "hunyuan-dense": "hunyuan_v1_dense", "qwen2vl": "qwen2_vl_text", "qwen3vl": "qwen3_vl_text",
              "starcoder": "gpt_bigcode"}
NO_LIMIT = 10 ** 9  # tokens of context, where a model names no limit
# Lists with an entry a layer that change neither its weights nor its cache, if windows are counted full.
PATTERNS = ("layer_types", "attention_layers", "attention_types", "no_rope_layers")

# Modules that a quantization may leave out: heads, embeddings and norms by their last name ...
BESIDE_LAYERS = (r"lm_head|embed_out|score|classifier|output_layer|embed_\w+|\w*embeddings?|wte|wpe"
                 r"|\w*norm\d*|ln_\w+")
# ... and all that belongs to a vision part.
VISION = "visual|vision|vision_tower|vision_model|multi_modal_projector|mm_projector|modality_projection|merger"
# Keys of a quantization that hold dicts or lists and leave no module out.
OTHER_KEYS = "config_groups exllama_config kv_cache_scheme meta weight_block_size".split()


def main(prog):
    parser = common.make_parser(prog, __doc__, plot=False)
    parser.add_argument("model", metavar="MODEL", help="a hub name (owner/model), a folder or a GGUF file")
    model = read_model(parser.parse_args().model)
    print(textwrap.fill(f"{model},", 120, initial_indent=4 * " ", subsequent_indent=10 * " "))


# Checkpoints ----------------------------------------------------------------------------------------------------------
def read_model(name):
    """common's Model of a hub name, a folder or a GGUF file. Raises UserError."""
    if is_gguf(name):
        return model_from_gguf(name)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # hides its notice that torch is missing
    from transformers import AutoConfig
    config = read_checkpoint(name, AutoConfig.from_pretrained)
    return model_from_config(name, config, read_checkpoint(name, side_quantization))


def read_checkpoint(name, read, **settings):
    """What a from_pretrained of transformers (read) makes of a hub name, a folder or a GGUF file. Raises UserError."""
    import huggingface_hub
    is_hub_name = re.fullmatch(r"[^./~][^/]*/[^/]+", name) and not is_gguf(name)
    common.require(is_hub_name or os.path.exists(name), f"checkpoint {name!r}: no such file or folder")
    folder, problem = name, ""
    if is_gguf(name):
        folder, settings["gguf_file"] = os.path.split(os.path.abspath(name))
    elif not os.path.exists(name):
        try:  # once: where the hub cannot be reached, transformers would try again and again, for half a minute
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(name, "config.json"))
        except huggingface_hub.utils.HfHubHTTPError:  # an answer, which transformers explains
            pass
        except Exception as error:  # of the packages that it connects by; a copy in the cache may do
            problem, settings["local_files_only"] = f"{error}: ", True
    try:
        return read(folder, trust_remote_code=False, **settings)
    except Exception as error:  # transformers, safetensors, gguf and the hub raise many kinds
        raise common.UserError(f"checkpoint {name!r}: {common.format_value(problem + str(error))}") from error


def is_gguf(name):
    return name.lower().endswith(".gguf")


def short_name(name):
    """A checkpoint's name without its owner or folder."""
    return os.path.basename(os.path.abspath(name))


def model_from_gguf(name):
    """Model of a GGUF file: its bits are the mean over the matrices of all layers, scales included."""
    common.require(os.path.exists(name), f"checkpoint {name!r}: no such file or folder")
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise common.UserError(f"checkpoint {name!r}: a GGUF file needs gguf: pip install gguf") from error
    try:
        file = GGUFReader(name)
    except Exception as error:
        raise common.UserError(f"checkpoint {name!r}: cut off, or no GGUF: {common.format_value(error)}") from error

    def read(key):
        field = file.fields.get(key)
        return None if field is None else field.contents()

    common.require(read("split.count") in (None, 1), f"checkpoint {name!r}: one of {read('split.count')} parts, which "
                   "llama.cpp's llama-gguf-split --merge joins")
    kind = read("general.architecture")
    model = make_model(
        name, GGUF_TYPES.get(kind, kind), layers=read(f"{kind}.block_count"), hidden=read(f"{kind}.embedding_length"),
        feed_forward=read(f"{kind}.feed_forward_length"), heads=read(f"{kind}.attention.head_count"),
        kv_heads=read(f"{kind}.attention.head_count_kv"), head_dim=read(f"{kind}.attention.key_length"),
        context=read(f"{kind}.context_length"), window=read(f"{kind}.attention.sliding_window"))

    matrices = [tensor for tensor in file.tensors
                if tensor.name.startswith("blk.") and len(tensor.shape) > 1 and "norm" not in tensor.name]
    weights = sum(int(tensor.n_elements) for tensor in matrices)
    expected = model.layers * model.params
    common.require(weights == expected, f"checkpoint {name!r}: its layers hold {weights:,} weights, and those of a "
                   f"dense {kind} of this shape {expected:,}")
    model.bits = round(8 * sum(int(tensor.n_bytes) for tensor in matrices) / weights, 4)
    types = sorted({tensor.tensor_type.name for tensor in matrices})
    if len(types) > 1:
        common.warn(f"{name}: the layers mix {', '.join(types)}: {model.bits} bits is their mean")
    return model


def model_from_config(name, config, quantization=None):
    """Model of a dense decoder's configuration, or of a model with one. quantization: that of side_quantization."""
    for key in ("is_encoder_decoder", "use_bidirectional_attention", "add_cross_attention"):
        common.require(not first_of(config, key), f"checkpoint {name!r}: a {config.model_type} with {key} is not a "
                       "decoder alone")
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    kv_heads = first_of(text, "num_key_value_heads", "num_kv_heads")
    if first_of(text, "multi_query") and not first_of(text, "new_decoder_architecture"):
        kv_heads = 1
    model = make_model(
        name, text.model_type, layers=first_of(text, "num_hidden_layers"), hidden=first_of(text, "hidden_size"),
        feed_forward=first_of(text, "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner"),
        heads=first_of(text, "num_attention_heads"), kv_heads=kv_heads, head_dim=first_of(text, "head_dim"),
        context=first_of(text, "max_position_embeddings", "seq_length", "max_seq_len"),
        window=first_of(text, "sliding_window"))
    for key, values in vars(text).items():
        is_by_layer = isinstance(values, list) and len(values) == model.layers and key not in PATTERNS
        common.require(not is_by_layer or values.count(values[0]) == len(values),
                       f"checkpoint {name!r}: its layers differ in {key}: {common.shown(values)}")
    for part in (text, config):  # what the whole names counts before what its text decoder names
        named = first_of(part, "quantization_config", "quantization", "compression_config")
        quantization = quantization if named is None else named
    if quantization is not None:
        model.bits = quantized_bits(name, quantization)
    return model


def first_of(config, *keys):
    """The first of these attributes that a configuration has and that is not None; None without one."""
    for key in keys:
        value = getattr(config, key, None)
        if value is not None:
            return value
    return None


def make_model(name, kind, head_dim, context, window, **sizes):
    """A Model of 16 bits; None: as is usual. Raises UserError for a type in neither list, and for a size that is none.
    Its cache is counted full; a warning says so where sliding windows (tokens) need less."""
    is_known = kind in GATED or kind in UNGATED
    common.require(is_known, f"checkpoint {name!r}: type {kind!r} is not in describe's lists of dense decoders with "
                   "equal layers")
    if sizes["feed_forward"] is None:
        sizes["feed_forward"] = 4 * (sizes["hidden"] or 0)
    sizes["kv_heads"] = sizes["kv_heads"] or sizes["heads"]
    sizes["context"] = NO_LIMIT if context is None else context
    for key, value in sizes.items():
        common.check_number(value, f"checkpoint {name!r}, {key}", whole=True, least=1)
    if window is not None and window < sizes["context"]:
        common.warn(f"{name}: layers with a sliding window of {window:,} tokens are counted with a full KV cache")
    return common.Model(short_name(name), **sizes, head_dim=head_dim, gated=kind in GATED)


# Quantization ---------------------------------------------------------------------------------------------------------
def side_quantization(folder, local_files_only=False, **_):
    """What a folder, or a hub repository, says of its quantization in a file of its own; None without one, and where
    the hub cannot be reached."""
    if local_files_only:
        return None
    from transformers.utils import cached_file, has_file
    for file in ("quantize_config.json", "quant_config.json", "hf_quant_config.json"):  # AutoGPTQ, AWQ, ModelOpt
        if has_file(folder, file):
            return common.read_file(cached_file(folder, file))
    return None


def quantized_bits(name, quantization):
    """Bits of a weight under a configuration's quantization (a dict); scales and zero points are not counted.

    Raises UserError unless all matrices of all layers have these bits.
    """
    method = quantization.get("quant_method")
    bits = None
    if quantization.get("load_in_4bit"):  # bitsandbytes
        bits = 4
    elif quantization.get("load_in_8bit") or method in ("fp8", "fbgemm_fp8"):
        bits = 8
    elif method == "compressed-tensors":
        bits = compressed_bits(quantization)
    elif method in ("gptq", "awq", None):  # MLX names no method
        bits = quantization.get("bits", quantization.get("w_bit"))  # the latter in AWQ's own file
    is_number = isinstance(bits, (int, float)) and bits > 0
    common.require(is_number, f"checkpoint {name!r}: to how many bits its layers are quantized is not understood: "
                   f"{common.shown(quantization)}")
    for part in parts_apart(quantization):
        common.require(is_beside_layers(part), f"checkpoint {name!r}: its quantization treats {common.shown(part)} "
                       "apart, which may be a part of the layers")
    return bits


def compressed_bits(quantization):
    """Bits of compressed-tensors; None unless every group holds for all linear modules, with the same bits."""
    widths = set()
    for group in (quantization.get("config_groups") or {}).values():
        is_for_all = isinstance(group, dict) and group.get("targets") == ["Linear"]
        widths.add((group.get("weights") or {}).get("num_bits") if is_for_all else None)
    return widths.pop() if len(widths) == 1 else None


def parts_apart(quantization):
    """What a quantization leaves out or gives bits of their own: entries of its lists; keys that hold a dict, as
    GPTQ's "dynamic" or modules in MLX's files; modules that MLX sets to false."""
    parts = []
    for key, value in quantization.items():
        is_dense = key == "sparsity_config" and value and value.get("format") == "dense"
        if key in OTHER_KEYS or is_dense:
            continue
        if isinstance(value, list):
            parts += value
        elif "." in key or (isinstance(value, dict) and value):
            parts.append(key)
    return parts


def is_beside_layers(part):
    """Whether a name or a pattern of modules means heads, embeddings, norms or vision parts alone. Of a pattern only
    dots and stars are understood: what stands between them are names."""
    plain = re.sub(r"^re:|[\\^$]", "", str(part))
    names = [name for name in re.split(r"[.*]+", plain) if name]
    if not names or not all(re.fullmatch(r"\w+", name) for name in names):
        return False
    is_vision = any(re.fullmatch(VISION, name) for name in names)
    return is_vision or re.fullmatch(BESIDE_LAYERS, names[-1]) is not None


if __name__ == "__main__":
    common.run(main, "real.describe")
