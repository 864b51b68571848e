"""What the nine scripts share: models, devices, task lists, links, bids, both accountings, metrics, tables and files.

Lists and files hold seconds. Inside, every time is a whole number of microseconds, converted once when tasks are
read, so that comparisons are exact. matplotlib and transformers are imported where they are needed."""
import argparse
import csv
import functools
import inspect
import itertools
import json
import math
import os
import re
import signal
import sys
import tempfile
import warnings
from dataclasses import dataclass, fields
from numbers import Real

import numpy as np
import pandas as pd

TOKENS_PER_WORD = 1.33  # English text in the usual sub-word vocabularies
TABLE_ROWS, PLOT_ROWS = 20, 30  # of a longer list the first rows are printed, or drawn
MEMORY_SHARE = 0.9  # of a device's memory, what layers and KV caches may take
LINK_SCALE, HOST_LINK = 3, 0.02  # s: Rayleigh scale of a link between hosts; a link within a host
OFFER, MARGIN = (0.6, 1), (1.1, 1.6)  # a bid's layers / capacity and price / true cost: drawn between the two
US = 1000000  # microseconds per second
LINKS = ("shared", "dedicated")
# Settings of a script that a flag overrides; all others go to its schedule or allocate as they are.
FLAGS = ("model", "device", "link", "pool", "seed", "bids", "links", "objective", "time_limit", "out")
TASK = {"label": str, "prompt": str, "arrival_time": float, "output_words": int, "trans_time": float, "deadline": float}
TASK_OPTIONS = {"computation_time": float, "prompt_tokens": int, "output_tokens": int, "memory_gb": float}
BID = {"device": str, "layers": int, "price": float, "computation_time": float}
BID_OPTIONS = {"type": str, "host": str, "capacity": int, "true_cost": float}
RESULT = ("label arrival_time computation_time trans_time deadline start_time end_computation completion_time "
          "response_time waiting_time uplink_waiting_time turnaround_time deadline_met preemptions").split()
BLUE, SKY, ORANGE, RED = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"  # Okabe and Ito's, for colour-blind readers too
LOOKS = {"compute": dict(color=BLUE), "transmit": dict(color="white", edgecolor=ORANGE, hatch="//////"),  # of bars
         "all-reduce": dict(color="white", edgecolor=RED, hatch="......")}


class UserError(Exception):
    """A mistake in the input, or something missing on the machine: a script prints the line and exits with 2."""


class NoAllocation(Exception):
    """No allocation exists: a script prints the line and exits with 1."""


def require(condition, message):
    if not condition:
        raise UserError(message)


def warn(message):
    print(f"warning: {message}", file=sys.stderr)


def shown(value):
    """A value from the user for a message: quoted, in one short line."""
    text = repr(value) if repr(value).isprintable() else ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def find_name(name, names, what):
    """The entry of `names` that `name` means, case aside and '-' for ' '; UserError lists the choices."""
    for known in names:
        if str(known).lower().replace(" ", "-") == str(name).lower().replace(" ", "-"):
            return known
    raise UserError(f"unknown {what} {shown(name)}: choose from {', '.join(map(str, names))}")


def check_number(value, where, whole=False, positive=False):
    """The value, if it is a number from 0 to 1e9 (so that sums stay exact); UserError says what it is."""
    require(isinstance(value, Real) and not isinstance(value, bool), f"{where}: {shown(value)} is not a number")
    require(0 <= value <= 1e9, f"{where}: {shown(value)} is not from 0 to 1e9")  # nor is NaN
    require(not whole or value == int(value), f"{where}: {shown(value)} is not a whole number")
    require(not positive or value > 0, f"{where}: {shown(value)} is not positive")
    return value


# Models and devices ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Model:
    """A stack of equal decoder layers. hidden, feed_forward: widths; context: tokens; bits: of a weight; kv_heads,
    head_dim: 0 for heads and hidden / heads; gated: a third matrix gates the feed-forward block."""
    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    context: int
    bits: float = 16
    kv_heads: int = 0
    head_dim: int = 0
    gated: bool = False

    @property
    def params(self):
        """Weights of a layer's matrices, biases left out: query and output, key and value, feed-forward."""
        heads = 2 * self.heads + 2 * (self.kv_heads or self.heads)
        return self.hidden * (heads * (self.head_dim or self.hidden // self.heads)
                              + (3 if self.gated else 2) * self.feed_forward)

    @property
    def layer_bytes(self):
        return self.params * self.bits / 8

    @property
    def kv_bytes(self):
        """Bytes of KV cache per token, over all layers: a key and a value of 16 bits each."""
        return 4 * self.layers * (self.kv_heads or self.heads) * (self.head_dim or self.hidden // self.heads)


@dataclass(frozen=True)
class Device:
    """A type of device: memory in GB, fp16 TFLOP/s (dense), GB/s, USD an hour, the shares of both rates it reaches."""
    type: str
    memory: float
    tflops: float
    bandwidth: float
    price_per_hour: float
    compute_share: float
    bandwidth_share: float


MODELS = [  # a new model: one more line
    Model("GPT-Neo 1.3B", layers=24, hidden=2048, feed_forward=8192, heads=16, context=2048, bits=16),
    Model("GPT-3 175B", layers=96, hidden=12288, feed_forward=49152, heads=96, context=2048, bits=4),
    Model("BLOOM-176B", layers=70, hidden=14336, feed_forward=57344, heads=112, context=2048, bits=4),
]
# Memory, tflops, bandwidth: the makers' data sheets; prices: assumed. The shares fit measured times of layers: of Helix
# (ASPLOS 2025), LLaMA-30B and -70B; RTX 4090: of LLMServingSim 2 (CASYS, KAIST), Llama-3.1-8B. A new type: one line.
DEVICES = [Device(*numbers) for numbers in (
    # type, memory, tflops, bandwidth, price_per_hour, compute_share, bandwidth_share
    ("T4", 16, 65, 320, 0.15, 0.42, 0.73),
    ("L4", 24, 121, 300, 0.30, 0.37, 0.81),
    ("V100", 16, 125, 900, 0.25, 0.71, 0.75),
    ("A100", 40, 312, 1555, 0.80, 0.75, 0.77),
    ("RTX 4090", 24, 165, 1008, 0.40, 0.95, 0.89))]
POOLS = {  # (device, type, host): a new device is one more of them
    "campus": [("GPU 1", "RTX 4090", "host 1"), ("GPU 2", "RTX 4090", "host 1"), ("GPU 3", "RTX 4090", "host 2"),
               ("GPU 4", "RTX 4090", "host 2"), ("GPU 5", "RTX 4090", "host 3"), ("GPU 6", "RTX 4090", "host 4"),
               ("GPU 7", "T4", "host 5"), ("GPU 8", "T4", "host 5"), ("GPU 9", "T4", "host 6"),
               ("GPU 10", "T4", "host 7"), ("GPU 11", "T4", "host 8"), ("GPU 12", "T4", "host 9")],
    "paper": [("GPU 1", "RTX 4090", "host 1"), ("GPU 2", "RTX 4090", "host 2"), ("GPU 3", "RTX 4090", "host 3"),
              ("GPU 4", "T4", "host 4"), ("GPU 5", "T4", "host 5"), ("GPU 6", "T4", "host 6")],
    "workstations": [("GPU 1", "RTX 4090", "host 1"), ("GPU 2", "RTX 4090", "host 1"), ("GPU 3", "RTX 4090", "host 2"),
                     ("GPU 4", "T4", "host 2"), ("GPU 5", "T4", "host 3"), ("GPU 6", "T4", "host 3")],
}
# The types whose feed-forward block has two matrices; in all others a third one gates it.
UNGATED = ("biogpt bloom codegen falcon gpt2 gpt_bigcode gpt_neo gpt_neox gptj mpt nemotron opt persimmon phi "
           "starcoder2 xglm").split()


def find_entry(name, table, kind):
    """The entry of MODELS or DEVICES that `name` means, its numbers checked. UserError says what is wrong."""
    title, (key, *others) = f"{kind.__name__.upper()}S", fields(kind)
    is_list = isinstance(table, list) and all(isinstance(entry, kind) for entry in table)
    names = [str(getattr(entry, key.name)) for entry in (table if is_list else [])]
    require(names and len(set(names)) == len(names), f"{title}: must be a list of {kind.__name__}s of different names")
    name = find_name(name, names, kind.__name__.lower())
    entry = table[names.index(name)]
    for field in others:
        value, where = getattr(entry, field.name), f"{title}, {name}, {field.name}"
        if field.type is bool:
            require(isinstance(value, bool), f"{where}: {shown(value)} is not True or False")
        else:
            check_number(value, where, field.type is int, field.name not in ("price_per_hour", "kv_heads", "head_dim"))
    return entry


def get_device(name):
    return find_entry(name, DEVICES, Device)


def get_model(name):
    """Model of a name in MODELS, a folder with a config.json, a hub name (owner/model; network or cache) or a GGUF
    file. UserError, if there is none or it is no dense decoder."""
    source, is_gguf = str(name), str(name).lower().endswith(".gguf")
    if not os.path.exists(source) and "/" not in source:
        return find_entry(source, MODELS, Model)
    is_hub = re.fullmatch(r"[^./~][^/]*/[^/]+", source) and not is_gguf
    require(is_hub or os.path.exists(source), f"model {shown(source)}: no such file or folder")
    folder, file = os.path.split(os.path.abspath(source)) if is_gguf else (source, None)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # torch is missing, it says: not needed here
    try:
        from transformers import AutoConfig
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, gguf_file=file)
    except Exception as error:  # transformers and the hub raise many kinds; all mean that it cannot be read
        raise UserError(f"model {shown(source)}: {format_value(error)}") from error
    return model_from_config(source, config)


def model_from_config(name, config, bits=None):
    """Model from the transformers configuration of a dense decoder; bits, if None: of quantization_config, or 16."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as decoders
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as encoders
    config = config.get_text_config() if hasattr(config, "get_text_config") else config

    def first(*keys):
        return next((getattr(config, key) for key in keys if getattr(config, key, None)), None)
    hidden, heads, layers = first("hidden_size"), first("num_attention_heads"), first("num_hidden_layers")
    experts = first("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts") or 1
    decodes = config.model_type in decoders and (config.model_type not in encoders or first("is_decoder"))
    is_dense = decodes and hidden and heads and layers and experts == 1 and not config.is_encoder_decoder
    require(is_dense, f"model {shown(name)}: a {config.model_type} is not a dense decoder")
    shared = first("multi_query") and not first("new_decoder_architecture")
    inner = first("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
    context = first("max_position_embeddings", "seq_length", "max_seq_len") or sys.maxsize
    bits = check_number(bits or dict(first("quantization_config") or {}).get("bits", 16), f"model {shown(name)}, bits")
    return Model(name, layers, hidden, inner or int(hidden * (first("expansion_ratio") or 4)), heads, context, bits,
                 1 if shared else first("num_key_value_heads", "num_kv_heads") or 0, first("head_dim") or 0,
                 gated=config.model_type not in UNGATED)


def layer_time(model, device, prompt_tokens, output_tokens):
    """Seconds that one layer takes for a task (numbers or arrays): a roofline of arithmetic and weight reading."""
    compute = 2 * model.params / (device.compute_share * device.tflops * 1e12)  # one token
    read = model.layer_bytes / (device.bandwidth_share * device.bandwidth * 1e9)  # the weights, once
    return np.maximum(compute * prompt_tokens, read) + output_tokens * max(read, compute)


def layer_times(tasks, model, devices):
    """layer_time of each task on each device: array. A computation_time given holds for all layers on any device."""
    estimates = [layer_time(model, device, tasks["prompt_tokens"], tasks["output_tokens"]) for device in devices]
    given = tasks[["given_time"]].to_numpy() / model.layers
    return np.where(np.isnan(given), np.array(estimates).T, given)


def read_file(path):
    """Content of a JSON file (its name ends in .json), or the rows of a CSV as dicts: texts in the columns of text,
    elsewhere numbers, if they are numbers; empty cells there are left out."""
    is_json, texts = path.lower().endswith(".json"), ("label", "prompt", "device", "type", "host", "")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if is_json:
                return json.load(file)
            csv.field_size_limit(2 ** 31 - 1)  # a prompt may be long
            header, *lines = [line for line in csv.reader(file, strict=True) if line] or [[""]]
    except OSError as error:
        raise UserError(f"{path or shown(path)}: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:  # not UTF-8, not JSON, not CSV
        raise UserError(f"{path}: not a {'JSON' if is_json else 'CSV'} file ({error})") from error
    require(lines, f"{path}: no rows under a header")
    require(len(set(header)) == len(header), f"{path}: the header names {shown(max(header, key=header.count))} twice")
    for k, line in enumerate(lines, 1):
        require(len(line) == len(header), f"{path}, row {k}: {len(line)} fields under a header of {len(header)}")
    number = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
    return [{key: float(cell) if key not in texts and number.fullmatch(cell) else cell
             for key, cell in zip(header, line) if cell or key in texts} for line in lines]


def checked_rows(rows, what, needed, options, place=None):
    """Where each row stands, for messages, and the row (a dict), one after another, of a list of dicts or of a CSV or
    JSON file of them. needed, options: {field: str, float or int}. UserError once one is not as it must be."""
    place, kinds = place or (rows if isinstance(rows, str) else f"{what}s"), {**needed, **options}
    rows = read_file(rows) if isinstance(rows, str) else rows
    require(isinstance(rows, (list, tuple)), f"{place}: must be a list of {what}s")
    for k, row in enumerate(rows, 1):
        where = f"{place}, row {k}"
        require(isinstance(row, dict), f"{where}: {shown(row)} is not a {what}")
        for field in needed:
            require(field in row, f"{where}, {field}: missing; the fields of a {what} are {', '.join(needed)}")
        for field, value in row.items():
            require(field in kinds, f"{where}: unknown field {shown(field)}")
            if kinds[field] is not str:
                check_number(value, f"{where}, {field}", whole=kinds[field] is int)
            else:  # no file can hold NUL or half of a surrogate pair, and no row a lone carriage return
                odd = "[\0\ud800-\udfff]" if field == "prompt" else r"[\0\r\ud800-\udfff]|^\s*$"
                is_text = isinstance(value, str) and not re.search(odd, value)
                require(is_text, f"{where}, {field}: {shown(value)} is not a text")
        yield where, row


def read_tasks(tasks, model, devices):
    """Table of tasks from a list in the task format, or from the path of a file of it: label, prompt, arrival_time,
    computation_time, trans_time, deadline (whole microseconds; computation, if not given: the mean estimate over
    devices), prompt_tokens, output_tokens, kv_bytes (beside the weights), given_time (s, or NaN). Raises UserError."""
    rows, seen, place = [], {}, tasks if isinstance(tasks, str) else "tasks"
    for where, row in checked_rows(tasks, "task", TASK, TASK_OPTIONS):
        label, due, arrival = row["label"], row["deadline"], row["arrival_time"]
        require(due >= arrival, f"{where}, deadline: {due} is before arrival_time {arrival}")
        require(label not in seen, f"{where}, label: {shown(label)} is that of row {seen.get(label)} already")
        rows.append(row)
        seen[label] = len(rows)
    require(rows, f"{place}: no tasks")
    table = pd.DataFrame(rows, columns=[*TASK, *TASK_OPTIONS]).astype(dict.fromkeys(TASK_OPTIONS, float))
    words = table["prompt"].str.split().str.len(), table["output_words"]
    for key, count in zip(("prompt_tokens", "output_tokens"), words):  # 1.33 x 300 words are 399 tokens, not 400:
        table[key] = table[key].fillna(np.ceil((count * TOKENS_PER_WORD).round(6))).astype("int64")  # rounded before
    # cut to the context: an output may claim up to half of it from its prompt, and then runs until it is full
    prompt, output = table["prompt_tokens"], table["output_tokens"]
    table["prompt_tokens"] = np.minimum(prompt, model.context - np.minimum(output, model.context // 2))
    table["output_tokens"] = np.minimum(output, model.context - table["prompt_tokens"])
    cut = table["label"][(table["prompt_tokens"] < prompt) | (table["output_tokens"] < output)]
    if len(cut):
        warn(f"{len(cut)} of {len(table)} tasks exceed the {model.context} tokens of {model.name} and run capped, "
             f"{shown(cut.iloc[0])} first")
    held = model.kv_bytes * (table["prompt_tokens"] + table["output_tokens"])
    table["kv_bytes"] = (table["memory_gb"] * 1e9).fillna(held)
    table["given_time"] = table["computation_time"]
    table["computation_time"] = model.layers * layer_times(table, model, devices).mean(axis=1)
    times = ["arrival_time", "computation_time", "trans_time", "deadline"]
    require(table[times].to_numpy(float).sum() <= 1e12, f"{place}: the times add up to more than 1e12 s")
    table[times] = np.rint(table[times].astype(float) * US)
    return table.astype(dict.fromkeys(times, "int64"))


# Schedules ------------------------------------------------------------------------------------------------------------
def serve(ready, length):
    """End times of jobs served one at a time in the order given, each once it is ready (integer arrays): end[k] =
    max(end[k-1], ready[k]) + length[k] (Lindley 1952), unrolled the largest ready[i] + length[i] + ... + length[k]."""
    total = np.cumsum(length)
    return total + np.maximum.accumulate(ready - (total - length))


def interval_table(tasks, runs):
    """Table label, start, end from runs in order of time: (row of `tasks`, start, end); a task's adjacent runs join."""
    label, start, end = np.array(runs, dtype="int64").reshape(-1, 3).T
    new = np.append(True, (label[1:] != label[:-1]) | (start[1:] != end[:-1]))[:len(label)]
    return pd.DataFrame({"label": tasks["label"].to_numpy()[label[new]], "start": start[new],
                         "end": end[np.append(new[1:], True)[:len(new)]]})


def check_schedule(tasks, intervals):
    """UserError unless every task is computed whole, from its arrival on, and no two at once. Returns three arrays, in
    the order of the tasks: the start of the first and the end of the last of its intervals, their number."""
    require(isinstance(intervals, pd.DataFrame) and {"label", "start", "end"} <= set(intervals)
            and intervals["start"].dtype.kind == intervals["end"].dtype.kind == "i"
            and (intervals["start"] <= intervals["end"]).all() and intervals["label"].isin(tasks["label"]).all(),
            "schedule must return a table of label (of a task), start and end (whole microseconds, start <= end)")
    label, begin, stop = (intervals[key].to_numpy() for key in ("label", "start", "end"))
    row = pd.Index(tasks["label"]).get_indexer(label)
    start, end = np.full(len(tasks), np.iinfo("int64").max), np.full(len(tasks), -1)
    np.minimum.at(start, row, begin)
    np.maximum.at(end, row, stop)
    count, done = (np.bincount(row, weights, len(tasks)).astype("int64") for weights in (None, stop - begin))
    for right, what in ((start >= tasks["arrival_time"], "runs before it arrives"), (
            (done == tasks["computation_time"]) & (count > 0), "is not computed, or not for as long as it takes")):
        require(right.all(), f"the schedule is wrong: {shown(tasks['label'].iloc[right.argmin()])} {what}")
    order = np.lexsort((stop, begin))
    latest = np.maximum.accumulate(stop[order])
    for k in np.flatnonzero(begin[order[1:]] < latest[:-1])[:1]:
        one, two = (f"{shown(label[i])} from {begin[i] / US:g} to {stop[i] / US:g} s"
                    for i in (order[latest.searchsorted(latest[k])], order[k + 1]))
        raise UserError(f"the schedule is wrong: it computes {one} and, at the same time, {two}")
    return start, end, count


def simulate(tasks, intervals, link):
    """What becomes of each task, given its compute intervals: the table of tasks (columns RESULT) and that of all
    intervals (label, kind, start, end), in microseconds. link: "shared" (one result leaves at a time, first computed
    first sent, ties to the earlier arrival, then row; or by intervals.attrs["transmission_order"]) or "dedicated"."""
    start, end, count = check_schedule(tasks, intervals)
    arrival, trans = tasks["arrival_time"].to_numpy(), tasks["trans_time"].to_numpy()
    completion = end + trans
    if link == "shared":
        order = np.lexsort((arrival, end))
        if "transmission_order" in intervals.attrs:
            order = pd.Index(tasks["label"]).get_indexer(intervals.attrs["transmission_order"])
            require(sorted(order) == list(range(len(tasks))), "transmission_order must hold every label once")
        completion[order] = serve(end[order], trans[order])
    result = tasks.assign(
        start_time=start, end_computation=end, completion_time=completion, response_time=start - arrival,
        waiting_time=end - arrival - tasks["computation_time"], uplink_waiting_time=completion - trans - end,
        turnaround_time=completion - arrival, deadline_met=completion <= tasks["deadline"], preemptions=count - 1)
    sent = pd.DataFrame({"label": tasks["label"], "kind": "transmit", "start": completion - trans, "end": completion})
    parts = [intervals.assign(kind="compute"), sent.sort_values("end", kind="stable")]
    return result[RESULT], pd.concat(parts, ignore_index=True)[list(sent)]


def scheduling_metrics(tasks, result, model, device):
    """The metrics of a schedule, in seconds, counts, GB (1e9 bytes), share of the device's memory. Peak memory: the
    weights, and what all tasks hold that are started and not yet computed."""
    when = np.concatenate([result["end_computation"], result["start_time"]])  # at one instant: freed, then taken
    change = np.concatenate([-tasks["kv_bytes"], tasks["kv_bytes"]])
    held = np.cumsum(change[np.argsort(when, kind="stable")]).max()
    peak = float(model.layers * model.layer_bytes + held) / 1e9
    means = {f"mean_{key}": round(float(result[key].mean()) / US, 6)
             for key in ("waiting_time", "response_time", "uplink_waiting_time", "turnaround_time")}
    return dict(tasks=len(result), **means, deadlines_met=int(result["deadline_met"].sum()),
                T_end=int(result["completion_time"].max()) / US, preemptions=int(result["preemptions"].sum()),
                peak_memory_gb=peak, memory_utilization=peak / device.memory)


def in_seconds(table):
    """The table with its whole microseconds as seconds."""
    others = "deadline end_computation start end link_delay".split()
    return table.assign(**{key: table[key] / US for key in table if key.endswith("_time") or key in others})


# Allocations ----------------------------------------------------------------------------------------------------------
def draw(seed, *names):
    """A source of random numbers that depends on the seed and the names alone."""
    return np.random.default_rng([seed, *"\0".join(names).encode()])


def read_links(links, bidders, devices, seed):
    """Seconds to pass one task's activations over each link: a square table over `bidders` and, last, the client.
    links: None (drawn: Rayleigh, HOST_LINK within a host), a dict of dicts of seconds, or the path of a file: that dict
    as JSON, or a square CSV as NAME_links.csv. A pair may be given one way or both. devices: {name: (Device, host)}."""
    names, place = [*bidders, "client"], links if isinstance(links, str) else "links"
    if links is None:  # the client has no host
        hosts = {name: host for name, (_, host) in devices.items()}
        links = {one: {other: HOST_LINK if hosts[one] == hosts.get(other) else round(
            draw(seed, *sorted((one, other))).rayleigh(LINK_SCALE), 6) for other in names[k + 1:]}
            for k, one in enumerate(names[:-1])}
    rows = read_file(links) if isinstance(links, str) else links
    if isinstance(rows, dict):
        rows = [{"": name, **row} if isinstance(row, dict) else row for name, row in rows.items()]
    known, links = [*devices, "client"], {}
    for where, row in checked_rows(rows, "link", {"": str}, dict.fromkeys(known, float), place):
        one = row.pop("")
        require(one in known and one not in links and row.get(one, 0) == 0,
                f"{where}: {shown(one)} is no device, stands there twice, or is not 0 s from itself")
        links[one] = row
    table = pd.DataFrame(0.0, names, names)
    for one, other in itertools.combinations(names, 2):
        both = [links[a][b] for a, b in ((one, other), (other, one)) if b in links.get(a, {})]
        require(both, f"{place}, {one} to {other}: missing")
        require(both[0] == both[-1], f"{place}, {one} to {other}: {both[0]} s, but {both[-1]} s back")
        table.loc[one, other] = table.loc[other, one] = both[0]
    return table


def pool_devices(pool):
    """{name: (Device, host)} of a pool. Raises UserError if POOLS is not as it must be."""
    devices = {}
    require(isinstance(POOLS[pool], list) and POOLS[pool], f"POOLS, {pool}: must be a list of devices")
    for k, row in enumerate(POOLS[pool], 1):
        is_row = isinstance(row, tuple) and [type(cell) for cell in row] == [str] * 3 and all(map(str.strip, row))
        require(is_row and row[0] not in (*devices, "client") and "+" not in row[0], f"POOLS, {pool}, row {k}: must be "
                f"(name, type, host), the names different, without '+' and none of them 'client'; not {shown(row)}")
        devices[row[0]] = get_device(row[1]), row[2]
    return devices


def draw_bids(layers, devices, capacity, times, seed):
    """A bid of each device that holds a layer, in six digits; raised, where least is offered, if all are too few."""
    most = {name: min(count, layers) for name, count in capacity.items() if count > 0}
    share, margin = zip(*(draw(seed, name).uniform(*zip(OFFER, MARGIN)) for name in most)) if most else ((), ())
    offer = {name: max(1, min(int(capacity[name] * part), layers)) for name, part in zip(most, share)}
    while sum(offer.values()) < min(layers, sum(most.values())):
        offer[min((name for name in most if offer[name] < most[name]), key=lambda k: offer[k] / most[k])] += 1
    time = {name: float(f"{offer[name] * times[name]:.6g}") for name in most}
    rent = {name: time[name] * devices[name][0].price_per_hour * 100 / 3600 for name in most}
    return [{"device": name, "layers": offer[name], "price": float(f"{rent[name] * asked:.6g}"),
             "computation_time": time[name]} for name, asked in zip(most, margin)]


def read_bids(bids, model, devices, capacity, times, seed):
    """Table of bids: device, type, host, capacity, layers, price (cents), computation_time (s), true_cost (cents; where
    it is not given, the device's rent for that time). bids: None (drawn), a list of dicts, or the path of a file of
    them; devices: {name: (Device, host)}; capacity (layers) and times (s a layer, over the list): {name: number}."""
    drawn, table = draw_bids(model.layers, devices, capacity, times, seed) if bids is None else None, {}
    for where, row in checked_rows(bids if drawn is None else drawn, "bid", BID, BID_OPTIONS):
        name, n = row["device"], row["layers"]
        require(name in devices, f"{where}, device: unknown device {shown(name)}: choose from {', '.join(devices)}")
        require(name not in table, f"{where}, device: {name} bids twice")
        (device, host), most = devices[name], min(capacity[name], model.layers)
        facts = {"type": device.type, "host": host, "capacity": capacity[name]}
        for field, fact in facts.items():
            require(row.get(field, fact) == fact, f"{where}, {field}: {shown(row.get(field))}, but {name} has {fact}")
        require(1 <= n <= most, f"{where}, layers: {n:g} is not from 1 to {most}, what {name} holds of {model.name}")
        cost = float(f"{row['computation_time'] * device.price_per_hour * 100 / 3600:.6g}")
        table[name] = {"device": name, **facts, "layers": int(n), "price": row["price"],
                       "computation_time": row["computation_time"], "true_cost": row.get("true_cost", cost)}
    if not table:
        raise NoAllocation(f"no device bids for the {model.layers} layers of {model.name}")
    table = pd.DataFrame(list(table.values()))
    promised, expected = table["computation_time"].sum(), (table["layers"] * table["device"].map(times)).sum()
    if drawn is None and not expected / 2 <= promised <= 2 * expected:
        warn(f"the bids promise {promised:g} s in all, the estimate is {expected:g} s: are they for this task list?")
    return table


def allocation_case(tasks, model, pool, seed, bids=None, links=None):
    """What an allocation is given, and what evaluate needs, as a dict: tasks (table of read_tasks in order of arrival,
    as tasks pass the pipeline), model and its layers, bids and links (tables), delay (links as an array), times (s a
    layer, as the bids promise: array (tasks, bidding devices)), arrivals (s), memory (GB of each bidder), seed."""
    devices = pool_devices(pool)
    kinds = [device for device, _ in devices.values()]
    tasks = read_tasks(tasks, model, kinds).sort_values("arrival_time", kind="stable")
    layer_bytes = model.layer_bytes + tasks["kv_bytes"].max() / model.layers
    capacity = {name: int(MEMORY_SHARE * device.memory * 1e9 / layer_bytes) for name, (device, _) in devices.items()}
    times = pd.DataFrame(layer_times(tasks, model, kinds), columns=list(devices))
    bids = read_bids(bids, model, devices, capacity, times.sum(), seed)
    part = (times / times.sum()).fillna(1 / len(tasks))[bids["device"]]  # of what a bid promises: as the estimates are
    links = read_links(links, bids["device"], devices, seed)
    return dict(tasks=tasks, model=model, layers=model.layers, bids=bids, links=links, delay=links.to_numpy(),
                times=part.to_numpy() * (bids["computation_time"] / bids["layers"]).to_numpy(), seed=seed,
                arrivals=tasks["arrival_time"].to_numpy() / US, memory=[devices[name][0].memory for name in part])


def group_times(times, delay, group):
    """Seconds of a layer in a tensor-parallel group of k devices: (computation of each task, as the slowest does 1/k;
    two all-reduces, each 2 (k - 1) / k of the activations over the slowest link, as in HexGen)."""
    k = len(group)
    return times[:, group].max(axis=1) / k, 4 * (k - 1) / k * max(delay[i, j] for i in group for j in group)


def pipeline(arrival, delays, work):
    """When each task is ready, starts and ends in each stage: arrays (tasks, stages), as work is. finish[k, s] =
    max(finish[k-1, s], finish[k, s-1] + delay[s]) + work[k, s]; arrival: ascending; delays: of the links between."""
    ready, end = np.empty_like(work), np.empty_like(work)
    for s in range(work.shape[1]):
        ready[:, s] = arrival + delays[s]
        arrival = end[:, s] = serve(ready[:, s], work[:, s])
    return ready, end - work, end


def check_stages(stages, bids, layers):
    """UserError unless the stages place every layer once, on devices that are used once and within their offers."""
    require(isinstance(stages, list) and stages and all(
        isinstance(stage, dict) and isinstance(stage.get("devices"), list) and stage["devices"]
        and ("reward" in stage) == ("reward" in stages[0]) for stage in stages), 'allocate must return a list of '
        'stages, {"devices": [rows of bids], "layers": n} and, all or none, "reward" (cents), and a list of notes')
    used = []
    for k, stage in enumerate(stages, 1):
        where = f"the allocation is wrong: stage {k}"
        n = check_number(stage.get("layers"), f"{where}, layers", whole=True, positive=True)
        check_number(stage.get("reward", 0), f"{where}, reward")
        for i in stage["devices"]:
            require(i in range(len(bids)), f"{where}: {shown(i)} is not a row of the bids")
            require(i not in used, f"{where}: {bids['device'][i]} is used twice")
            require(n <= len(stage["devices"]) * bids["layers"][i], f"{where}: more than {bids['device'][i]} offers")
            used.append(i)
    held = sum(stage["layers"] for stage in stages)
    require(held == layers, f"the allocation is wrong: it holds {held} of {layers} layers")


def evaluate(stages, tasks, model, bids, delay, times, memory, **_):
    """What an allocation brings, in one accounting for all algorithms.
    stages: in pipeline order, of dicts: devices (rows of `bids`), layers, and reward (cents; without it each device is
    paid its price per layer); the others: see allocation_case. Returns the tables of stages, of tasks (RESULT) and of
    intervals (label, kind, start, end: each task's way, all-reduces in compute), in microseconds, and the metrics."""
    check_stages(stages, bids, model.layers)
    client, groups = [len(bids)], [stage["devices"] for stage in stages]
    layers, size = np.array([int(stage["layers"]) for stage in stages]), np.array([len(group) for group in groups])
    links = np.array([delay[np.ix_(a, b)].min() for a, b in zip([client, *groups], [*groups, client])])
    compute, reduce = zip(*(group_times(times, delay, group) for group in groups))
    compute = np.rint(np.array(compute).T * layers * US).astype("int64")
    reduce, links = (np.rint(seconds * US).astype("int64") for seconds in (reduce * layers, links))
    arrival = tasks["arrival_time"].to_numpy()
    ready, start, end = pipeline(arrival, links, compute + reduce)
    completion = end[:, -1] + links[-1]
    result = tasks.assign(
        computation_time=compute.sum(axis=1), trans_time=links[-1], start_time=start[:, 0], end_computation=end[:, -1],
        completion_time=completion, response_time=start[:, 0] - arrival, waiting_time=(start - ready).sum(axis=1),
        uplink_waiting_time=0, turnaround_time=completion - arrival, deadline_met=completion <= tasks["deadline"],
        preemptions=0)[RESULT]
    steps = np.stack([ready - links[:-1], ready, start, end], axis=2)  # sent, ready, start, end
    ways = [pd.DataFrame({"label": result["label"], "kind": kind, "start": steps[:, s, k], "end": steps[:, s, k + 1]})
            for s in range(len(stages)) for k, kind in ((0, "transmit"), (2, "compute"))]
    ways.append(pd.DataFrame({"label": result["label"], "kind": "transmit", "start": end[:, -1], "end": completion}))

    used = bids.iloc[np.concatenate(groups)].assign(stage=np.repeat(range(len(stages)), size))  # a row for each device
    used["memory"], used["share"] = np.array(memory)[used.index], (layers / size)[used["stage"]]
    used["paid"], used["cost"] = (used["share"] * used[key] / used["layers"] for key in ("price", "true_cost"))
    if "reward" in stages[0]:
        used["paid"] = [stages[s]["reward"] / size[s] for s in used["stage"]]
    total = used.groupby("stage")[["paid", "cost", "memory"]].sum()
    held = layers * (model.layer_bytes + tasks["kv_bytes"].max() / model.layers) / 1e9
    table = pd.DataFrame(dict(
        stage=range(1, len(stages) + 1), devices=["+".join(bids["device"][group]) for group in groups],
        tensor_parallel=size, first_layer=layers.cumsum() - layers, last_layer=layers.cumsum() - 1, layers=layers,
        computation_time=compute.sum(axis=0), link_delay=links[:-1], reward=total["paid"],
        utility=total["paid"] - total["cost"], memory_gb=held, memory_utilization=held / total["memory"])).round(6)
    computing, communicating = compute.sum() / US, len(tasks) * (links.sum() + reduce.sum()) / US
    fairness = {f"fairness_{name}": x.sum() ** 2 / (len(x) * (x ** 2).sum()) if x.any() else 1.0  # Jain's index
                for name, x in (("layers", used["share"]), ("rewards", used["paid"]))}
    cost = used["paid"].sum()
    metrics = dict(
        tasks=len(tasks), devices=len(used), total_cost=cost, completion_time=completion.max() / US,
        computation_time=computing, communication_time=communicating,
        communication_overhead=communicating / ((communicating + computing) or 1),
        memory_utilization=held.sum() / used["memory"].sum(), **fairness,
        cost_efficiency=model.layers / cost if cost else math.inf, deadlines_met=int(result["deadline_met"].sum()))
    metrics = {key: round(value, 6) if isinstance(value, float) else value for key, value in metrics.items()}
    return table, result, pd.concat(ways).sort_index(kind="stable"), metrics


# Output and command line ----------------------------------------------------------------------------------------------
def format_value(value):
    """A cell of a table as text: one line, of letters that a terminal shows and does not obey."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())


def print_table(table, more=""):
    """Prints a pandas table with its long names stacked; of rows past TABLE_ROWS the number, and `more`."""
    names = [name.split("_") for name in table]
    cells = table[:TABLE_ROWS].apply(lambda column: column.map(format_value))
    cells.columns = pd.MultiIndex.from_tuples([[""] * (max(map(len, names)) - len(name)) + name for name in names])
    print(*(line.rstrip() for line in cells.to_string(index=False, sparsify=False).splitlines()), sep="\n")
    if len(table) > TABLE_ROWS:
        print(f"... and {len(table) - TABLE_ROWS:,} more rows{more}")


def check_writable(out):
    """UserError unless the folder `out` can be written in, or made."""
    require(isinstance(out, str) and out and "\0" not in out, f"OUT: {shown(out)} is not a folder")
    parent = os.path.abspath(out)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    is_open = os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK)
    require(is_open, f"--out {out}: {parent} is not a folder that can be written in")


def write_files(out, files):
    """Writes {file name: table, or function of a path} into the folder `out`: all aside first, then moved, so that
    there are whole files only. Returns their paths. A figure that fails is left out, with a warning; else UserError."""
    try:
        os.makedirs(out, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as aside:
            written = []
            for name, content in files.items():
                path = os.path.join(aside, name)
                try:
                    if callable(content):
                        content(path)
                    elif hasattr(content, "savefig"):
                        content.savefig(path)
                    elif isinstance(content, str):
                        with open(path, "w", encoding="utf-8") as file:
                            file.write(content)
                    else:
                        content.to_csv(path, index=False)
                    written.append(name)
                except Exception as error:  # matplotlib is missing, or raises one of its many kinds
                    if not name.endswith(".png"):
                        raise
                    warn(f"no {name}: {format_value(repr(error))}")
            for name in written:
                os.replace(os.path.join(aside, name), os.path.join(out, name))
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
    return [os.path.join(out, name) for name in written]


def shorten(name):
    """A label or name as text of a figure."""
    name = format_value(name)
    return (name if len(name) <= 16 else name[:15] + "\u2026").replace("$", r"\$")


def finish(figure, path, keys):
    finish_figure(figure, keys).savefig(path, format="png")


def finish_figure(figure, keys):
    """Gives all axes their look and adds the legend {name: artist} below; returns the figure."""
    for axes in figure.axes:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(keys.values(), keys, fontsize=6.5, ncol=3, loc="lower center", frameon=False, columnspacing=1.2)
    warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks becomes a box
    figure.tight_layout(rect=(0, (0.1 + 0.13 * -(-len(keys) // 3)) / figure.get_figheight(), 1, 1), pad=0.5)
    return figure


def try_figure(draw, *arguments):
    """The figure that draw(*arguments) returns; None, with a warning, where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        warn(f"no figure is written: {error}")
        return None
    return draw(*arguments)


def draw_figure(path, rows, plot):
    """Writes a figure of so many rows, one journal column wide. plot: function of its axes to its legend."""
    from matplotlib.figure import Figure
    figure = Figure((3.5, 1.2 + 0.2 * min(max(3, rows), PLOT_ROWS)), dpi=300)
    axes = figure.subplots()
    keys = plot(axes)
    if rows > PLOT_ROWS:
        axes.set_title(f"{axes.get_title()}\nfirst {PLOT_ROWS} of {rows:,} rows", fontsize=8)
    finish(figure, path, keys)


def draw_rows(axes, names, bars):
    """Draws named rows of bars, the first on top, {kind in LOOKS: (rows, widths, starts)}. Returns {kind: artist}."""
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels(names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return {kind: axes.barh(at, width, 0.64, start, linewidth=0.4, **LOOKS[kind])
            for kind, (at, width, start) in bars.items() if np.any(width)}


def draw_schedule(axes, title, result, intervals):
    """Draws a schedule (the tables of simulate, in seconds), a row a task in order of arrival. Returns its legend."""
    rows = result.sort_values("arrival_time", kind="stable")[:PLOT_ROWS].reset_index(drop=True)
    at = dict(zip(rows["label"], rows.index))
    bars = intervals[intervals["label"].isin(at)]
    bars = bars.assign(row=bars["label"].map(at), width=bars["end"] - bars["start"])
    bars = {kind: (part["row"], part["width"], part["start"]) for kind, part in bars.groupby("kind")}
    keys = {"waiting": axes.hlines(rows.index, rows["arrival_time"], rows["end_computation"], "0.55", zorder=0),
            **draw_rows(axes, rows["label"].map(shorten), bars)}
    # up to three times what most tasks need: one may wait for hours, and a far deadline would squeeze the bars
    left, done, due = rows["arrival_time"].min(), rows["completion_time"], rows["deadline"]
    limit = left + max(3 * (done.median() - left), 1e-3)
    right = max([left + 1e-3, *done.clip(upper=limit), *due[due <= limit]])
    axes.set_xlim(left, right + 0.02 * (right - left))
    for key, some, style in (("deadline met", rows["deadline_met"] & (due <= right), dict(marker="|", color="black")),
                             ("deadline missed", ~rows["deadline_met"] & (due <= right), dict(marker="x", color=RED)),
                             ("deadline later", due > right, dict(marker=">", color="black", clip_on=False))):
        if some.any():
            keys[key] = axes.plot(due[some].clip(upper=axes.get_xlim()[1]), rows.index[some], linestyle="none",
                                  markersize=5, markeredgewidth=1.3, **style)[0]
    axes.set_title(title, fontsize=8)
    axes.set_xlabel("time (s)", fontsize=8)
    return keys


def draw_layers(axes, title, stages, result, links):
    """Draws an allocation (tables in seconds), a row a stage: what a task takes there in mean. Returns its legend."""
    stages = stages[:PLOT_ROWS]
    groups = [devices.split("+") for devices in stages["devices"]]
    rows, link, work = np.arange(len(stages)), stages["link_delay"], stages["computation_time"] / len(result)
    reduce = stages["layers"] * [4 * (1 - 1 / len(one)) * links.loc[one, one].to_numpy().max() for one in groups]
    axes.set_title(title, fontsize=8)
    axes.set_xlabel("mean time of a task (s)", fontsize=8)
    names = [f"{shorten(devices)}: {layers} layers" for devices, layers in zip(stages["devices"], stages["layers"])]
    return draw_rows(axes, names, {"transmit": (rows, link, 0 * link), "compute": (rows, work, link),
                                   "all-reduce": (rows, reduce, link + work)})


def make_parser(name, doc, plot=True, **settings):
    """A parser with the flags that override these settings, and --no-plot."""
    texts = {"model": "a name in common.MODELS, a folder, a GGUF file or owner/model", "device": "in common.DEVICES",
             "pool": "a name in common.POOLS", "link": "shared or dedicated"}
    parser = argparse.ArgumentParser(name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = functools.partial(require, False)  # one line, without the usage
    for key, value in settings.items():
        parser.add_argument("--" + key.replace("_", "-"), default=value, help=texts.get(key, "instead of the script's"),
                            metavar="X", type=float if isinstance(value, (int, float)) else None)
    if plot:
        parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    return parser


def run(main, name, *arguments, **settings):
    """main(name, *arguments, **settings), exiting with one line on standard error: 1 for NoAllocation, 2 for a
    UserError, 130 when interrupted. A SIGTERM ends it as an exit does: nothing is left behind."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may have letters that the terminal lacks
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(name, *arguments, **settings)
        print(end="", flush=True)
    except (NoAllocation, UserError, ImportError, KeyboardInterrupt) as error:
        print(f"{name}: {format_value(error) or 'interrupted'}", file=sys.stderr)
        sys.exit({NoAllocation: 1, KeyboardInterrupt: 130}.get(type(error), 2))
    except OSError as error:  # of standard output: full, or closed by who read it, `head` perhaps
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where python's own last flush goes
        sys.exit(141 if isinstance(error, BrokenPipeError) else f"{name}: standard output: {error.strerror}")


def report(name, args, settings, found, notes, tables, draw):
    """Writes the files of a run, then prints it. settings, found: of the metrics; tables: {end of a file's name:
    table}, the first of them with a row for each row of the figure; draw: (end of its name, function of axes)."""
    source = args.tasks if isinstance(args.tasks, str) else os.path.basename(sys.argv[0])
    metrics = {**settings, "tasks_file": source, **found}
    files = {f"{name}_{end}.csv": table for end, table in [*tables.items(), ("metrics", pd.DataFrame([metrics]))]}
    if not args.no_plot:
        files[f"{name}_{draw[0]}.png"] = lambda path: draw_figure(path, len(next(iter(tables.values()))), draw[1])
    paths = write_files(args.out, files)
    print(f"{name}: {found['tasks']:,} tasks", *(f"{key} {settings[key]}" for key in list(settings)[1:]), sep=", ")
    print(*("".join(letter if letter.isprintable() else " " for letter in note) for note in notes), "", sep="\n")
    for table in [tables[end] for end in ("stages", "tasks") if end in tables]:
        print_table(table.drop(columns=RESULT[8:12], errors="ignore"), f" in {args.out}")  # these do not fit
        print("")
    print(pd.Series({key: format_value(value) for key, value in metrics.items()}).to_string())
    print(f"\nwritten: {', '.join(paths)}")


def parse_flags(name, doc, tasks, settings):
    flags = {key: value for key, value in settings.items() if key in FLAGS}
    return make_parser(name, doc, tasks=tasks, **flags).parse_args()


def script_name():
    """Name of the script that was started: of a run, in what it prints and in its files."""
    return os.path.splitext(os.path.basename(sys.argv[0]))[0]


def schedule_tasks(name, schedule, tasks, doc, **settings):
    """A run of a scheduling script. schedule: function of a task table (read_tasks) to compute intervals; settings:
    model, device, link and out; further ones, those of optimal.py, are handed to `schedule` together with link."""
    args = parse_flags(name, doc, tasks, settings)
    model, device, link = get_model(args.model), get_device(args.device), find_name(args.link, LINKS, "link")
    options = {key: getattr(args, key, value) for key, value in settings.items()
               if key not in ("model", "device", "link", "out")}
    check_writable(args.out)
    table = read_tasks(args.tasks, model, [device])
    if "link" in inspect.signature(schedule).parameters:
        options["link"] = link
    intervals = schedule(table, **options)
    tables = simulate(table, intervals, link)
    found = {**scheduling_metrics(table, tables[0], model, device), **intervals.attrs.get("metrics", {})}
    if found["memory_utilization"] > 1:
        warn(f"the tasks need {found['peak_memory_gb']:.1f} GB at once, and the {device.type} has {device.memory} GB")
    result, everything = map(in_seconds, tables)
    report(name, args, dict(scheduler=name, model=model.name, device=device.type, link=link, **{
        key: value for key, value in options.items() if key not in FLAGS}), found,
           intervals.attrs.get("summary", []), dict(tasks=result, intervals=everything),
           ("gantt", lambda axes: draw_schedule(axes, name, result, everything)))


def allocate_layers(name, allocate, tasks, doc, **settings):
    """A run of an allocation script. allocate: function of what allocation_case returns, as keywords, to the stages
    (see evaluate) and lines of text about them; settings: model, pool, seed, out, bids and links."""
    args = parse_flags(name, doc, tasks, settings)
    require(isinstance(POOLS, dict) and POOLS, "POOLS: must be a dict of lists of devices")
    model, pool, drawn = get_model(args.model), find_name(args.pool, POOLS, "pool"), args.seed != settings["seed"]
    seed = int(check_number(args.seed, "--seed" if drawn else "SEED", whole=True))
    is_used = args.bids is None or args.links is None or "seed" in inspect.signature(allocate).parameters
    require(is_used or not drawn, "--seed: has no effect, as bids and links are given")
    check_writable(args.out)
    case = allocation_case(args.tasks, model, pool, seed, args.bids, args.links)
    options = {key: value for key, value in settings.items() if key not in FLAGS}
    links, found = case["links"], allocate(**case, **options)
    stages, notes = found if isinstance(found, tuple) and [*map(type, found)] == [list, list] else (None, [])
    *tables, found = evaluate(stages, **case)
    stages, result, intervals = map(in_seconds, tables)
    report(name, args, dict(algorithm=name, model=model.name, pool=pool, seed=seed, **options), found, notes,
           dict(stages=stages, tasks=result.sort_index(), intervals=intervals, bids=case["bids"],
                links=links.rename_axis("").reset_index()),
           ("layers", lambda axes: draw_layers(axes, f"{name}: {model.name}, pool {pool}", stages, result, links)))


def run_scheduler(schedule, tasks, doc, **settings):
    run(schedule_tasks, script_name(), schedule, tasks, doc, **settings)


def run_allocator(allocate, tasks, doc, **settings):
    run(allocate_layers, script_name(), allocate, tasks, doc, **settings)
