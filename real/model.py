"""What the commands of real/ share: scripts by their names, checkpoints, parts of models, measured generation.

torch and transformers are imported by the functions that need them: `--help` needs neither.
"""
import copy
import csv
import ctypes
import importlib
import importlib.util
import os
import platform
import sys
import textwrap
import time
import zlib

import numpy as np
import pandas as pd

import common
import FCFS
import FCIM
from real import describe

ALLOCATORS = ("FCIM", "HexGen", "PipeDream", "PipeEdge")
POLICIES = ("ADSA", "SRTF", "FCFS", "LLF")
SCRIPTS = (*ALLOCATORS, *POLICIES, "optimal")
def positive(text):
    """The number of a flag that counts."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


FLAGS = {  # of these commands, beside those of the scripts
    "checkpoint": dict(metavar="NAME", help="a hub name, a folder or a GGUF file (otherwise a small GPT-Neo with "
                       "random weights)"),
    "sample": dict(action="store_true", help="draw the tokens, seeded, in place of the likeliest"),
    "seed": dict(type=int, metavar="N", help="of what is drawn: links and bids, weights, samples"),
    "repeats": dict(type=positive, default=3, metavar="N", help="runs of each task, whose median counts"),
    "threads": dict(type=positive, metavar="N", help="threads of torch on a CPU (otherwise OMP_NUM_THREADS, or the "
                    "fastest number)"),
}
RANDOM = dict(num_layers=12, hidden_size=128, num_heads=4, vocab_size=257, max_position_embeddings=2048,
              attention_types=[[["global", "local"], 6]], bos_token_id=256, eos_token_id=256)  # a GPT-Neo over bytes
RANDOM_NAME = "random GPT-Neo"
RANDOM_TEXT = "random weights: timing and placement are real, the text is not"


# Command line ---------------------------------------------------------------------------------------------------------
def make_parser(prog, doc, *flags, scripts=()):
    """A parser with these flags: of FLAGS, or settings of a script (common.FLAGS), None where they are not given. With
    scripts: it takes one of them as well, or the path of one's own."""
    settings = [key for key in flags if key not in FLAGS]
    parser = common.make_parser(prog, doc, plot=False, **dict.fromkeys(settings))
    if scripts:
        parser.add_argument("script", metavar="SCRIPT", help=f"{', '.join(scripts)}, or the path of one's own")
    for key in flags:
        if key in FLAGS:
            parser.add_argument(f"--{key}", **FLAGS[key])
    return parser


def load_script(name, names, what):
    """Name and module of a script: one of `names`, or the path of one's own, which must have an `allocate`, say (what).
    """
    stem = os.path.splitext(os.path.basename(name))[0]
    if not os.path.isfile(name):
        known = common.find_name(name, names, "script")
        return known, importlib.import_module(known)
    spec = importlib.util.spec_from_file_location(stem, name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    common.require(hasattr(module, what), f"{name}: has no {what}")
    return stem, module


def settings_of(args, module, *keys):
    """Settings of a script: of each key the flag, where it is given, else what stands at the top of the script. One
    that wraps FCIM, say, has no settings of its own: then those of FCIM or FCFS."""
    default = FCIM if hasattr(module, "allocate") else FCFS
    settings = {}
    for key in keys:
        own = key if key in ("tasks", "bids", "links") else key.upper()
        settings[key] = getattr(args, key)
        if settings[key] is None:
            settings[key] = getattr(module, own, getattr(default, own, None))
    return settings


def allocate(args, script, model):
    """What an allocation script and its flags make of a Model: the name of the pool, the case (common.allocation_case)
    and the table of stages (common.evaluate)."""
    settings = settings_of(args, script, "tasks", "pool", "seed", "bids", "links")
    settings["seed"] = int(common.check_number(settings["seed"], "--seed", whole=True))
    settings["pool"] = common.find_name(settings["pool"], common.POOLS, "pool")
    case = common.allocation_case(model=model, **settings)
    stages, _ = script.allocate(**case)
    return settings["pool"], case, common.evaluate(stages, **case)[0]


# Checkpoints ----------------------------------------------------------------------------------------------------------
def import_torch():
    """The modules torch and transformers, quiet on standard error."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise common.UserError(f"a real model needs torch: pip install torch transformers ({error})") from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def read_model(name=None):
    """transformers' configuration and common's Model of a checkpoint (hub name, folder, GGUF file), or of a small
    GPT-Neo (None)."""
    transformers = import_torch()[1]
    if name is None:
        config = transformers.GPTNeoConfig(**RANDOM)
        return config, describe.model_from_config(RANDOM_NAME, config)
    plan = describe.read_model(name)
    config = describe.read_checkpoint(name, transformers.AutoConfig.from_pretrained)
    is_causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    common.require(is_causal, f"checkpoint {name!r}: a {config.model_type} is not a causal language model")
    return config, plan


def load_tokenizer(name=None):
    """Two functions: a prompt to a list of at least one token (as a chat's first message, where the checkpoint is one
    for chats), and tokens to text. None: tokens are bytes, and 256 ends a text."""
    transformers = import_torch()[1]
    if name is None:
        return (lambda text: list(text.encode()) or [256],
                lambda ids: bytes(i for i in ids if i < 256).decode(errors="replace"))
    tokenizer = describe.read_checkpoint(name, transformers.AutoTokenizer.from_pretrained)

    def encode(text):
        if tokenizer.chat_template:
            chat = [{"role": "user", "content": text}]
            return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        return tokenizer(text)["input_ids"] or [tokenizer.bos_token_id or 0]

    return encode, lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def decoder_layers(model):
    """Name and ModuleList of a model's decoder layers."""
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if type(module).__name__ == "ModuleList" and len(module) == count:
            return name, module
    raise common.UserError(f"no list of {count} decoder layers in {type(model).__name__}")


def drop_others(model, first, end):
    """Puts modules without weights in the place of what a part of a pipeline does not run: layers outside [first, end),
    embeddings, head. The latter return zeros: what is received replaces the hidden states that come of them, and the
    last rank's tokens the tokens. An embedding that the head shares stays with it."""
    import torch
    name, layers = decoder_layers(model)
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    last = end == len(layers)
    kept = embedding if last and model.config.tie_word_embeddings else None

    def put_zeros(key, width):
        empty = torch.nn.Module()
        empty.forward = lambda x: torch.zeros(x.shape[:2] + (width,), dtype=model.dtype, device=x.device)
        model.set_submodule(key, empty)

    for i in set(range(len(layers))) - set(range(first, end)):
        layers[i] = torch.nn.Module()
    for key, module in list(model.named_modules()):
        embeds = type(module) is torch.nn.Embedding or module is embedding
        if first > 0 and embeds and module is not kept and not key.startswith(name + "."):
            put_zeros(key, module.embedding_dim)
        elif not last and module is head:
            put_zeros(key, module.out_features)


def keep_own(model, first, end):
    """Makes the layers [first, end) all that a model has. They count from 0 then, so that each finds its KV cache."""
    import torch
    name, layers = decoder_layers(model)
    model.set_submodule(name, torch.nn.ModuleList(layers[first:end]))
    for module in model.get_submodule(name).modules():
        for key in {"layer_idx", "layer_id"} & set(vars(module)):
            setattr(module, key, getattr(module, key) - first)
    config = model.config.get_text_config()
    types = getattr(config, "layer_types", None)
    config.num_hidden_layers = end - first
    if types:  # sliding windows differ by layer
        config.layer_types = types[first:end]


def draw_weight(key, shape, seed):
    """A random weight that depends on its name and the seed alone: so a rank draws its own layers and no others."""
    import torch
    if len(shape) == 1:  # of a norm, or a bias
        return torch.full(shape, float(key.endswith("weight")))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + zlib.crc32(key.encode()))) / shape[1] ** .5


def load_model(name, config, first=0, end=None, device="cpu", seed=0):
    """Causal language model with the decoder layers [first, end) of a checkpoint (None: random weights). Of the other
    layers nothing is read or held; embeddings come with the first layer, the head with the last. float32 on a CPU."""
    torch, transformers = import_torch()
    cls = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    config = copy.deepcopy(config)
    total = config.get_text_config().num_hidden_layers
    end = total if end is None else end
    if end < total:  # the head goes, and the embedding may stay
        config.tie_word_embeddings = False

    def init(self, *args, **settings):  # of a model without storage: transformers then reads the weights it names
        cls.__init__(self, *args, **settings)
        drop_others(self, first, end)

    # from_pretrained must build the part itself: only then does it read the weights of the part alone. It builds
    # whatever class it is called on, and takes the architecture from that class's name and module. So the part is a
    # class of the same name and module that drops what the part lacks as soon as it is made.
    part = type(cls.__name__, (cls,), {"__init__": init, "__module__": cls.__module__})
    if name is None:
        with torch.device("meta"):
            shapes = part(config)
            shapes.tie_weights()
        state = {key: draw_weight(key, weight.shape, seed) for key, weight in shapes.named_parameters()}
        model = part.from_pretrained(None, config=config, state_dict=state)
    else:
        dtype = torch.float32 if torch.device(device).type == "cpu" else "auto"
        model, report = describe.read_checkpoint(name, part.from_pretrained, config=config, dtype=dtype,
                                                 output_loading_info=True)
        if report["missing_keys"]:
            raise common.UserError(f"checkpoint {name!r}: the weights {min(report['missing_keys'])} are missing")
    keep_own(model, first, end)
    # Of a checkpoint's settings for generate only its end tokens count: others change what is timed, or the result.
    model.generation_config = transformers.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return model.to(device)


def launched():
    """(rank, number of ranks) under torchrun, else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return None


def load_whole(name, config, seed=0):
    """The whole model of a checkpoint (on a GPU, if there is one), and a line that says what was loaded."""
    device = "cuda" if import_torch()[0].cuda.is_available() else "cpu"
    model = load_model(name, config, device=device, seed=seed)
    return model, f"{name or RANDOM_TEXT} ({len(decoder_layers(model)[1])} layers, {model.dtype}, {device})"


# This machine ---------------------------------------------------------------------------------------------------------
def clock(device):
    """Seconds, once a device has done what it was asked for."""
    if device.type == "cuda":
        import torch
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device, restart=False):
    """Most bytes held since the last restart: of a GPU's memory, else resident (since the start, if not on Linux).
    A restart gives back what is free, so that it counts when it is taken again."""
    if device.type == "cuda":
        import torch
        if restart:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        if restart:
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, AttributeError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def processor_name(device):
    """Name of the GPU or of the processor that a torch device stands for."""
    if device.type == "cuda":
        import torch
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measured_on(model, name):
    """What a measurement was made with, as columns of a file: checkpoint (its name, or None), processor, weights,
    threads and torch."""
    import torch
    weights = sum(weight.nbytes for weight in model.parameters())
    return dict(measured_model=describe.short_name(name or RANDOM_NAME), measured_device=processor_name(model.device),
                measured_weights_gb=round(weights / 1e9, 6), measured_threads=torch.get_num_threads(),
                measured_torch=torch.__version__)


def set_threads(model, wanted=None):
    """Sets the threads that torch computes with, and returns a line that says so. wanted None: as OMP_NUM_THREADS says,
    or else the number that makes a token fastest; for a GPU none is tried."""
    import torch
    if wanted is not None:
        torch.set_num_threads(wanted)
    elif model.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        times = {}
        for n in thread_counts():
            torch.set_num_threads(n)
            times[n] = min(token_seconds(model) for _ in range(3))
        fastest = min(times, key=times.get)
        torch.set_num_threads(fastest)
        tried = ", ".join(f"{n}: {1000 * seconds:.1f} ms" for n, seconds in times.items())
        return f"threads: {fastest}, the fastest for a token ({tried})"
    return f"threads: {torch.get_num_threads()}"


def thread_counts():
    """1, 2, 4 .. and, last, as many as there are processors for this process."""
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [n for n in (1, 2, 4, 8, 16, 32, 64) if n < most] + [most]


def token_seconds(model, tokens=4):
    """Seconds that a model takes for a token, with a short prompt."""
    start = clock(model.device)
    continued(model, [1] * 8, tokens, min_new_tokens=tokens)
    return (clock(model.device) - start) / tokens


def progress_bar(total):
    """Function of how much of `total` is done, and a word about it: a line on standard error says what share that is
    and how long the rest may take. Where that is no terminal, or on a rank but the first, it does nothing."""
    if not sys.stderr.isatty() or (launched() or (0, 1))[0] > 0:
        return lambda done, text="": None
    start, last = time.perf_counter(), [0.0]

    def show(done, text=""):
        now = time.perf_counter()
        if now - last[0] < 0.5 and done < total:
            return
        last[0] = now
        share = min(1, done / total)
        left = (now - start) * (1 - share) / share if share else 0
        bar = "#" * round(20 * share)
        line = f"[{bar:<20}] {100 * share:3.0f} %, {now - start:.0f} s, {left:.0f} s left  {text}"
        print(f"\r{line:<78.78}", end="" if share < 1 else f"\r{'':78}\r", file=sys.stderr, flush=True)
    return show


def time_stages(layers, counts, device):
    """Lets stages of counts[s] layers note their seconds: a list a stage, an entry for every pass through the model."""
    passes = [[] for _ in counts]
    start = 0
    for seconds, n in zip(passes, counts):
        def begin(*_, seconds=seconds):
            seconds.append(-clock(device))

        def finish(*_, seconds=seconds):
            seconds[-1] += clock(device)

        layers[start].register_forward_pre_hook(begin)
        layers[start + n - 1].register_forward_hook(finish)
        start += n
    return passes


# Generation -----------------------------------------------------------------------------------------------------------
def read_prompts(tasks, encode, context):
    """Token ids of each prompt and the most tokens to make of it: lists, an entry a task of a table of read_tasks.

    What exceeds the context is cut with a warning, as common does with its estimates: an output may claim up to half
    of the context from its prompt, which loses its beginning. Raises UserError if only a prompt's length is given.
    """
    prompts, most, cut = [], [], 0
    for task in tasks[["label", "prompt", "prompt_tokens", "output_tokens"]].itertuples(index=False):
        if not task.prompt and task.prompt_tokens > 0:
            raise common.UserError(f"task {common.shown(task.label)}: a real model needs its prompt, not its length "
                                   "alone")
        ids = encode(task.prompt)
        wanted = max(1, int(task.output_tokens))
        prompts.append(ids[-(context - min(wanted, context // 2)):])
        most.append(min(wanted, context - len(prompts[-1])))
        cut += len(prompts[-1]) < len(ids) or most[-1] < wanted
    if cut:
        common.warn(f"{cut} of {len(tasks)} tasks exceed the model's context of {context} tokens and run capped")
    return prompts, most


def generate(model, prompts, tokens, seed=0, sample=False, notes=(), repeats=1, **settings):
    """Yields a dict for each prompt (list of token ids), continued by up to so many tokens with transformers' own
    generate: ids; seconds, the median of `repeats` runs; spread, the longest less the shortest; peak_memory and growth
    (bytes, the latter over what was held before the task).

    A warm-up comes first and does not count: the lists in `notes`, which hooks fill, are emptied after it. settings:
    more for generate.
    """
    run_once(model, prompts[0], min(2, tokens[0]), seed, sample, **settings)
    for note in notes:
        note.clear()
    show = progress_bar(repeats * sum(tokens))
    asked = 0  # tokens, by the runs that are finished
    for k, (prompt, most) in enumerate(zip(prompts, tokens), 1):
        runs = []
        for _ in range(repeats):
            runs.append(run_once(model, prompt, most, seed + k, sample, **settings))
            asked += most
            show(asked)
        seconds = [run["seconds"] for run in runs]
        yield dict(ids=runs[0]["ids"], seconds=float(np.median(seconds)), spread=max(seconds) - min(seconds),
                   peak_memory=max(run["peak_memory"] for run in runs), growth=max(run["growth"] for run in runs))


def run_once(model, prompt, most, seed, sample, **settings):
    """One run of generate: the tokens that it makes of a prompt, and what they take."""
    import torch
    before = peak_memory(model.device, restart=True)
    torch.manual_seed(seed)
    start = clock(model.device)
    ids = continued(model, prompt, most, sample, **settings)
    seconds = clock(model.device) - start
    peak = peak_memory(model.device)
    return dict(ids=ids, seconds=seconds, peak_memory=peak, growth=max(0, peak - before))


def continued(model, prompt, most, sample=False, **settings):
    """Up to `most` tokens after a prompt (list of token ids), made by transformers' own generate."""
    import torch
    ids = torch.tensor([prompt], device=model.device)
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=sample,
                          use_cache=True, pad_token_id=0, **settings)
    return made[0, len(prompt):].tolist()


def texts_table(tasks, rows, decode):
    """Table of what generate found of each task, in the order of the list."""
    found = pd.DataFrame(rows, index=tasks.index)
    made = found["ids"].map(len)
    table = pd.DataFrame({
        "label": tasks["label"], "seconds": found["seconds"].round(6), "spread": found["spread"].round(6),
        "tokens": made, "tokens_per_second": (made / found["seconds"]).round(3),
        "peak_memory_gb": (found["peak_memory"] / 1e9).round(6), "text": found["ids"].map(decode)})
    return table.sort_index()


def print_texts(texts):
    print("")
    common.print_table(texts.drop(columns="text"))
    print("")
    for label, text in zip(texts["label"], texts["text"]):
        print(textwrap.shorten(common.format_value(f"{label}: {text}"), 300, placeholder=" ..."))


def quoted(table):
    """A table as the text of a CSV file that quotes every text: one may hold a line's end of any kind."""
    return table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
