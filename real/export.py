"""Writes an allocation as commands for another engine, whole and ready to start, or as a device_map.

    python -m real.export FCIM vllm --model HuggingFaceTB/SmolLM2-135M-Instruct
    python -m real.export PipeEdge llama.cpp --model SmolLM2.gguf --addresses 192.168.1.2,192.168.1.3
"""
import json
import os
import shlex
import sys
from dataclasses import replace

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import describe
from real import model as real

ENDS = "# the first stage holds the embeddings besides, the last one the head"
PLACES = "# one line for each device, on its own machine: replace the addresses by theirs"
RPC_PORT = 50052  # of the first llama.cpp worker on a machine
MOST_WORKERS = 15  # llama.cpp takes shares for fewer than 16 devices
VARIABLE = '"$MODEL"'  # stands in a line for the name of a built-in model, which is no checkpoint
TYPES = {"GPT-Neo 1.3B": "gpt_neo", "GPT-3 175B": "gpt2", "BLOOM-176B": "bloom"}  # transformers' types of built-in ones
HEXGEN_SIZES = {  # layers, hidden size, feed-forward size: the Llama models that HexGen has configurations for
    (32, 4096, 11008): "llama-7b", (40, 5120, 13824): "llama-13b", (60, 6656, 17920): "llama-30b",
    (80, 8192, 28672): "llama-70b"}


def main(prog):
    parser = real.make_parser(prog, __doc__, "tasks", "pool", "bids", "links", "out", "seed", scripts=real.ALLOCATORS)
    parser.add_argument("engine", metavar="ENGINE", help=", ".join(ENGINES))
    parser.add_argument("--addresses", metavar="A,B,..", help="of the devices, in the order of the stages")
    parser.add_argument("--model", metavar="NAME", help="a hub name, a folder, a GGUF file, or a name in common.MODELS")
    args = parser.parse_args()
    name, script = real.load_script(args.script, real.ALLOCATORS, "allocate")
    engine = common.find_name(args.engine, ENGINES, "engine")
    given = real.settings_of(args, script, "model", "out")

    model = find_model(given["model"])
    pool, case, table = real.allocate(args, script, model)
    groups = [devices.split("+") for devices in table["devices"]]
    addresses = read_addresses(args.addresses, len(each_device(groups)))
    planned = int((case["tasks"]["prompt_tokens"] + case["tasks"]["output_tokens"]).max())
    text = ENGINES[engine](groups, table["layers"].tolist(), replace(model, context=planned), addresses)
    if VARIABLE in text:
        text = f"MODEL=...  # owner/model or a folder\n{text}"

    ending = "json" if engine == "device_map" else "txt"
    paths = common.write_files(given["out"], {f"{name}_{engine}.{ending}": text + "\n"})
    print(f"{name}: {model.name} ({model.layers} layers), pool {pool}, seed {case['seed']}, for {engine}, a context of "
          f"{planned:,} tokens\n\n{text}\n\nwritten: {', '.join(paths)}")


def find_model(name):
    """The Model of a checkpoint, under its whole name, or of a name in common.MODELS."""
    if "/" in name or os.path.exists(name) or describe.is_gguf(name):
        return replace(describe.read_model(name), name=name)
    return common.get_model(name)


def read_addresses(text, count):
    """Addresses of so many devices: of a flag, or, without it, of a range that is kept for examples (RFC 5737)."""
    addresses = [f"192.0.2.{k}" for k in range(1, count + 1)] if text is None else text.split(",")
    common.require(len(addresses) == count and all(addresses),
                   f"--addresses: {len(addresses)} of them for {count} devices")
    return addresses


# Engines --------------------------------------------------------------------------------------------------------------
# Functions of groups (names of the devices of each stage), counts (layers of each stage), a common.Model (its context:
# that of the list's longest task) and addresses (of the devices, one after another) to the text of a file.


def device_map(groups, counts, model, addresses):
    require_single(groups, "device_map")
    return json.dumps(map_modules(config_of(model.name, sum(counts)), counts), indent=2)


def vllm(groups, counts, model, addresses):
    size = even_size(groups, "vllm")
    devices = each_device(groups)
    lines = [ENDS, PLACES]
    for rank, device in enumerate(devices):
        words = [f"VLLM_PP_LAYER_PARTITION={commas(counts)}", "vllm", "serve", model.name, "--max-model-len",
                 model.context, "--pipeline-parallel-size", len(counts), "--tensor-parallel-size", size]
        if len(devices) > 1:
            words += ["--nnodes", len(devices), "--node-rank", rank, "--master-addr", addresses[0]]
        if rank > 0:
            words.append("--headless")
        lines.append(command(words, device, addresses[rank]))
    return "\n".join(lines)


def sglang(groups, counts, model, addresses):
    size = even_size(groups, "SGLang")
    devices = each_device(groups)
    lines = [ENDS, PLACES]
    for rank, device in enumerate(devices):
        words = [f"SGLANG_PP_LAYER_PARTITION={commas(counts)}", "python3", "-m", "sglang.launch_server", "--model-path",
                 model.name, "--context-length", model.context, "--pp-size", len(counts), "--tp-size", size]
        if len(devices) > 1:
            words += ["--nnodes", len(devices), "--node-rank", rank, "--dist-init-addr", f"{addresses[0]}:20000"]
        lines.append(command(words, device, addresses[rank]))
    return "\n".join(lines)


def llama_cpp(groups, counts, model, addresses):
    require_gguf(model.name, "llama.cpp")
    require_single(groups, "llama.cpp")
    ports = rpc_ports(addresses)
    lines = ["# the server holds the embeddings, the last worker the output layer besides: -ts counts it as one more",
             "# RPC has no authentication: only in a network that you trust. Older builds call the worker rpc-server",
             PLACES + ", and then the server"]
    for (device,), address, port in zip(groups, addresses, ports):
        lines.append(command(["ggml-rpc-server", "-H", address, "-p", port], device, address))
    places = [f"{address}:{port}" for address, port in zip(addresses, ports)]
    lines.append(command(["llama-server", *llama_flags(model.name, counts, places), "-c", model.context]))
    return "\n".join(lines)


def prima_cpp(groups, counts, model, addresses):
    require_gguf(model.name, "prima.cpp")
    require_single(groups, "prima.cpp")
    lines = ["# rank 0 holds the embeddings and the output layer besides; the devices form a ring", PLACES]
    for rank, (device,) in enumerate(groups):
        ring = ["--world", len(counts), "--rank", rank, "--master", addresses[0],
                "--next", addresses[(rank + 1) % len(counts)]]
        program = ["llama-cli"] if rank else ["llama-server", "--host", "127.0.0.1", "--port", 8080]
        split = [] if rank else ["-lw", commas(counts), "-c", model.context]
        words = [*program, "-m", model.name, *ring, *split, "-ngl", counts[rank]]
        lines.append(command(words, device, addresses[rank]))
    return "\n".join(lines)


def hexgen(groups, counts, model, addresses):
    size = HEXGEN_SIZES.get((model.layers, model.hidden, model.feed_forward))
    common.require(size, f"hexgen runs {', '.join(HEXGEN_SIZES.values())} only, not {model.name}")
    devices = each_device(groups)
    lines = [ENDS, PLACES, "# in the folder hexgen/llama of HexGen's repository"]
    for rank, device in enumerate(devices):
        words = [f"MASTER_ADDR={addresses[0]}", "MASTER_PORT=9991", f"WORLD_SIZE={len(devices)}", f"RANK={rank}",
                 "python3", "llama_inference.py", "--model_size", size, "--use-flash-attn",
                 "--hetero_config", *map(len, groups), "--pp_partition", *counts]
        lines.append(command(words, device, addresses[rank]))
    return "\n".join(lines)


ENGINES = {"device_map": device_map, "vllm": vllm, "SGLang": sglang, "llama.cpp": llama_cpp, "prima.cpp": prima_cpp,
           "hexgen": hexgen}


# What they share ------------------------------------------------------------------------------------------------------
def each_device(groups):
    return [device for group in groups for device in group]


def command(words, device=None, address=None):
    """A line for a shell, each word quoted where it must be, and a comment that says where to run it."""
    built_in = [model.name for model in common.MODELS]
    line = " ".join(VARIABLE if word in built_in else shlex.quote(str(word)) for word in words)
    return line if device is None else f"{line}  # on {common.format_value(device)}, {common.format_value(address)}"


def commas(values):
    return ",".join(map(str, values))


def llama_flags(path, counts, places):
    """llama.cpp's flags for counts[s] layers on the worker at places[s]: layer i of n goes to the first worker whose
    share of -ts, added up, exceeds i / (n + 1), and the output layer, number n, stands on the last one."""
    common.require(len(counts) <= MOST_WORKERS, f"llama.cpp takes {MOST_WORKERS} workers at most, not {len(counts)}")
    devices = [f"RPC{s}" for s in range(len(places))]
    shares = [*counts[:-1], counts[-1] + 1]
    return ["-m", path, "--rpc", commas(places), "--device", commas(devices), "-ngl", "all", "-sm", "layer",
            "-ts", commas(shares)]


def rpc_ports(addresses):
    """A port for each worker: those of one machine, which have one address, differ."""
    return [RPC_PORT + addresses[:k].count(address) for k, address in enumerate(addresses)]


def require_single(groups, engine):
    for group in groups:
        common.require(len(group) == 1, f"{engine} cannot split a layer between {'+'.join(group)}: vllm, SGLang and "
                       "hexgen can")


def even_size(groups, engine):
    """Devices in each group, which must be the same number for all."""
    sizes = [len(group) for group in groups]
    common.require(len(set(sizes)) == 1, f"{engine} splits the layers of all stages alike, not between {sizes} "
                   "devices: hexgen does")
    return sizes[0]


def require_gguf(name, engine):
    common.require(describe.is_gguf(name), f"{engine} needs a GGUF file: MODEL.gguf, not {name}")


def map_modules(config, counts):
    """device_map of accelerate, {module: stage}: embeddings first, norm and head last; a tied head is where its
    embedding is."""
    torch, transformers = real.import_torch()
    with torch.device("meta"):
        model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        model.tie_weights()
    name = real.decoder_layers(model)[0]
    head = model.get_output_embeddings()
    places = {}

    def place(prefix, module):
        for key, child in module.named_children():
            if prefix + key == name:
                stage_of = [s for s, n in enumerate(counts) for _ in range(n)]
                places.update((f"{name}.{i}", s) for i, s in enumerate(stage_of))
            elif name.startswith(prefix + key + "."):
                place(prefix + key + ".", child)
            else:
                early = "emb" in key or isinstance(child, torch.nn.Embedding) or not list(child.parameters())
                tied = child is head and head.weight is model.get_input_embeddings().weight
                places[prefix + key] = 0 if early or tied else len(counts) - 1

    place("", model)
    return places


def config_of(name, layers):
    """transformers configuration of a model: of a built-in one by its type and layers, which place its modules."""
    if name not in TYPES:
        return real.read_model(name)[0]
    settings = dict(num_hidden_layers=layers)
    if TYPES[name] == "gpt_neo":
        settings = dict(num_layers=layers, attention_types=[[["global"], layers]])
    return real.import_torch()[1].AutoConfig.for_model(TYPES[name], **settings)


if __name__ == "__main__":
    common.run(main, "real.export")
