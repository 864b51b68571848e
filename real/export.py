"""Writes an allocation in the terms of another engine: device_map, vllm, llama.cpp, petals or hexgen.

    python -m real.export FCIM vllm --model HuggingFaceTB/SmolLM2-135M-Instruct
"""
import json
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
from real import model as real

ENGINES = ("device_map", "vllm", "llama.cpp", "petals", "hexgen")
TYPES = {"GPT-Neo 1.3B": "gpt_neo", "GPT-3 175B": "gpt2", "BLOOM-176B": "bloom"}  # transformers' types of built-in ones


def map_modules(config, counts):
    """device_map of accelerate, {module: stage}: embeddings first, norm and head last; a tied head is where its
    embedding is."""
    torch, transformers = real.import_torch()
    with torch.device("meta"):
        model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        model.tie_weights()
    name, head, places = real.decoder_layers(model)[0], model.get_output_embeddings(), {}

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
        return real.load_config(name)
    settings = dict(num_hidden_layers=layers)
    if TYPES[name] == "gpt_neo":
        settings = dict(num_layers=layers, attention_types=[[["global"], layers]])
    return real.import_torch()[1].AutoConfig.for_model(TYPES[name], **settings)


def export(engine, groups, counts, name):
    """The placement in an engine's terms, as text. groups: names of the devices of each stage (lists); counts: layers
    of each; name: of the model, as in common.get_model."""
    sizes, names = [len(group) for group in groups], ["+".join(group) for group in groups]
    if max(sizes) > 1 and engine not in ("vllm", "hexgen"):
        raise common.UserError(f"{engine} cannot split a layer between {names[sizes.index(max(sizes))]}: vllm and "
                               "hexgen can")
    if engine == "device_map":
        return json.dumps(map_modules(config_of(name, sum(counts)), counts), indent=2)
    if engine == "petals":
        return "\n".join(f"python -m petals.cli.run_server {name} --block_indices {sum(counts[:s])}:"
                         f"{sum(counts[:s + 1])}  # on {group}" for s, group in enumerate(names))
    if engine == "vllm":
        if len(set(sizes)) > 1:
            raise common.UserError(f"vllm splits the layers of all stages alike, not between {sizes} devices: hexgen "
                                   "does")
        line = (f"VLLM_PP_LAYER_PARTITION={','.join(map(str, counts))} vllm serve {name} "
                f"--pipeline-parallel-size {len(counts)} --tensor-parallel-size {sizes[0]}")
    elif engine == "llama.cpp":  # the output layer is one more
        line = f"llama-server -m {name} -ngl all -sm layer -ts {','.join(map(str, counts[:-1] + [counts[-1] + 1]))}"
    else:
        line = f"--hetero_config {' '.join(map(str, sizes))} --pp_partition {' '.join(map(str, counts))}"
    return f"# devices in this order: {', '.join(names)}\n{line}"


def text_writer(text):
    def write(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return write


def main(prog):
    parser = real.make_parser(prog, __doc__, real.ALLOCATORS, "tasks", "model", "pool", "bids", "links", "out")
    parser.add_argument("engine", metavar="ENGINE", help=", ".join(ENGINES))
    args = parser.parse_args()
    name, script = real.script(args.script, real.ALLOCATORS)
    engine = common.find_name(args.engine, ENGINES, "engine")
    given = real.overridden(args, script, "model", "out")
    common.check_writable(given["out"])
    model = common.get_model(given["model"])
    pool, case = real.case_of(args, script, model)
    stages, _ = script.allocate(**case)
    table = common.evaluate(stages, **case)[0]
    text = export(engine, [group.split("+") for group in table["devices"]], table["layers"].tolist(), model.name)
    paths = common.write_files(given["out"], {
        f"{name}_{engine}.{'json' if engine == 'device_map' else 'txt'}": text_writer(text)})
    print(f"{name}: {model.name} ({model.layers} layers), pool {pool}, seed {case['seed']}, for {engine}\n\n{text}\n\n"
          f"written: {', '.join(paths)}")


if __name__ == "__main__":
    common.run(main, "real.export")
