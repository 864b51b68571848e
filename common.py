"""What the scripts share: models, devices, task lists, links, bids, the uplink, the pipeline, metrics, tables, files.

Lists and files hold seconds. Inside, every time is a whole number of microseconds, converted once when tasks are
read, so that comparisons are exact. numpy, pandas, matplotlib and transformers are imported by the functions that
need them: `--help` needs none.
"""
import argparse
import atexit
import copy
import csv
import json
import math
import numbers
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import time
import warnings
import zlib
from dataclasses import dataclass, replace
from datetime import timedelta

TOKENS_PER_WORD = 1.33  # English text in the usual sub-word vocabularies
COMPUTE_EFFICIENCY = 0.5  # share of the peak FLOP/s that matrix products reach
BANDWIDTH_EFFICIENCY = 0.8  # share of the peak memory bandwidth that reading weights reaches
TRACE_TRANS_RATE = 100  # tokens/s: a request of a trace sends its result in output tokens / this
TRACE_SLACK = 3  # a request's deadline: arrival + this x (computation + transmission)
TABLE_ROWS = 20  # of a longer table the first rows are printed
GANTT_ROWS = 30  # of a longer task list the Gantt chart shows the first rows
MEMORY_SHARE = 0.9  # of a device's memory, what layers and KV caches may take
LINK_SCALE, HOST_LINK = 3, 0.02  # s: Rayleigh scale of a link between hosts; a link within a host
PEER_TIMEOUT = 600  # s that a rank waits for another: one that dies is noticed at once, one that hangs after this
OFFER, MARGIN = (0.6, 1), (1.1, 1.6)  # a bid's layers / capacity and price / true cost: drawn between the two

US = 1000000  # microseconds per second
LINKS = ("shared", "dedicated")
FIELDS = ("label", "prompt", "arrival_time", "output_words", "trans_time", "deadline")  # of a task
BID_FIELDS = ("device", "layers", "price", "computation_time")  # of a bid
TEXTS = ("label", "prompt", "device", "type", "host", "")  # the columns of text; "": the devices of a matrix
TRACES = {  # a published trace, recognised by its columns: arrival, prompt tokens, output tokens
    "Azure LLM inference": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "BurstGPT": ("Timestamp", "Request tokens", "Response tokens"),
}
ENGINES = ("device_map", "vllm", "llama.cpp", "petals", "hexgen")  # of --export
RANDOM = dict(num_layers=12, hidden_size=128, num_heads=4, vocab_size=257, max_position_embeddings=2048,
              attention_types=[[["global", "local"], 6]], bos_token_id=256, eos_token_id=256)  # a GPT-Neo over bytes
RANDOM_TEXT = "random weights: timing and placement are real, the text is not"
RESULT = ("label arrival_time computation_time trans_time deadline start_time end_computation completion_time "
          "response_time waiting_time turnaround_time deadline_met preemptions").split()  # columns of NAME_tasks.csv
SHOWN = ("label arrival_time computation_time trans_time start_time end_computation completion_time deadline "
         "deadline_met preemptions").split()  # those of them that fit a terminal
BLUE, SKY, ORANGE, RED = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"  # Okabe and Ito's, for colour-blind readers too


class UserError(Exception):
    """A mistake in the input, or something missing on the machine: a script prints the line and exits with 2."""


class NoAllocation(Exception):
    """No allocation exists: a script prints the line and exits with 1."""


def warn(message):
    print(f"warning: {message}", file=sys.stderr)


def shown(value):
    """A value from the user for a message: quoted, in one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def find_name(name, names, what):
    """The entry of `names` that `name` means, case aside and '-' for ' '; UserError lists the choices."""
    def plain(text):
        return str(text).lower().replace(" ", "-")
    for known in names:
        if plain(known) == plain(name):
            return known
    raise UserError(f"unknown {what} {shown(name)}: choose from {', '.join(names)}")


# Models and devices ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A stack of equal decoder layers. params: weights per layer; kv_width: kv heads x head size; context: tokens."""
    name: str
    layers: int
    params: int
    kv_width: int
    context: int
    bits: int = 16

    @property
    def layer_bytes(self):
        return self.params * self.bits / 8

    @property
    def kv_bytes(self):
        """Bytes of KV cache per token, over all layers: a key and a value of 16 bits each."""
        return self.layers * 2 * self.kv_width * 2


@dataclass(frozen=True)
class Device:
    """A type of device. memory: GB; tflops: fp16 TFLOP/s without sparsity; bandwidth: GB/s; price_per_hour: USD."""
    type: str
    memory: float
    tflops: float
    bandwidth: float
    price_per_hour: float


DEVICES = {device.type: device for device in (  # from the makers' data sheets, the prices assumed; a new type: a line
    Device("RTX 4090", memory=24, tflops=165, bandwidth=1008, price_per_hour=0.40),
    Device("T4", memory=16, tflops=65, bandwidth=320, price_per_hour=0.15),
)}
POOLS = {  # (device, type, host): a new device is one more line
    "paper": [("GPU 1", "RTX 4090", "host 1"),
              ("GPU 2", "RTX 4090", "host 2"),
              ("GPU 3", "RTX 4090", "host 3"),
              ("GPU 4", "T4", "host 4"),
              ("GPU 5", "T4", "host 5"),
              ("GPU 6", "T4", "host 6")],
    "workstations": [("GPU 1", "RTX 4090", "host 1"),
                     ("GPU 2", "RTX 4090", "host 1"),
                     ("GPU 3", "RTX 4090", "host 2"),
                     ("GPU 4", "T4", "host 2"),
                     ("GPU 5", "T4", "host 3"),
                     ("GPU 6", "T4", "host 3")],
}
MODELS = {  # name: type of transformers configuration, bits per weight, settings
    "GPT-Neo 1.3B": ("gpt_neo", 16, dict(num_layers=24, hidden_size=2048, num_heads=16, max_position_embeddings=2048,
                                         attention_types=[[["global", "local"], 12]])),
    "GPT-3 175B": ("gpt2", 4, dict(n_layer=96, n_embd=12288, n_head=96, n_positions=2048)),
    "BLOOM-176B": ("bloom", 4, dict(n_layer=70, hidden_size=14336, n_head=112, seq_length=2048)),
}
# The types whose feed-forward block has two matrices; in all others a third one gates it.
UNGATED = ("biogpt bloom codegen falcon gpt2 gpt_bigcode gpt_neo gpt_neox gptj mpt nemotron opt persimmon phi "
           "starcoder2 xglm").split()


def read_config(name):
    """Name, transformers configuration and bits per weight of a model: a name in MODELS, a folder with a config.json,
    or a hub name (owner/model; network or cache)."""
    for variable in "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY":
        os.environ.setdefault(variable, "error")  # torch is missing, they say: not needed here
    os.environ.setdefault("TQDM_DISABLE", "1")
    name = str(name)
    if not os.path.isdir(name) and "/" not in name:
        name = find_name(name, MODELS, "model")
        from transformers import AutoConfig
        config_type, bits, settings = MODELS[name]
        return name, AutoConfig.for_model(config_type, **settings), bits
    from transformers import AutoConfig
    try:
        return name, AutoConfig.from_pretrained(name, trust_remote_code=False), 16
    except Exception as error:  # transformers and the hub raise many kinds; all mean that it cannot be read
        raise UserError(f"model {shown(name)}: {first_line(error)}") from error


def get_model(name):
    """Model of one of read_config's names."""
    return model_from_config(*read_config(name))


def model_from_config(name, config, bits=16):
    """Model from the transformers configuration of a dense decoder: the weights of its matrices, biases left out."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config

    def first(*keys):
        return next((getattr(config, key) for key in keys if getattr(config, key, None)), None)

    hidden, heads, layers = first("hidden_size"), first("num_attention_heads"), first("num_hidden_layers")
    experts = first("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts") or 1
    if config.is_encoder_decoder or experts > 1 or not (hidden and heads and layers):
        raise UserError(f"model {shown(name)}: a {config.model_type} is not a dense decoder")
    head_dim = first("head_dim") or hidden // heads
    kv_heads = first("num_key_value_heads", "num_kv_heads") or heads
    if first("multi_query") and not first("new_decoder_architecture"):
        kv_heads = 1
    inner = first("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
    inner = inner or int(hidden * (first("expansion_ratio") or 4))
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim  # query and output, key and value
    feed_forward = (2 if config.model_type in UNGATED else 3) * hidden * inner
    context = first("max_position_embeddings", "seq_length", "max_seq_len") or sys.maxsize
    return Model(name, layers, attention + feed_forward, kv_heads * head_dim, context, bits)


def layer_time(model, device, prompt_tokens, output_tokens):
    """Seconds that one layer takes for a task (numbers or arrays): a roofline of arithmetic and weight reading."""
    import numpy as np
    compute = 2 * model.params / (COMPUTE_EFFICIENCY * device.tflops * 1e12)  # one token
    read = model.layer_bytes / (BANDWIDTH_EFFICIENCY * device.bandwidth * 1e9)  # the weights, once
    return np.maximum(compute * prompt_tokens, read) + output_tokens * max(read, compute)


def layer_times(tasks, model, devices):
    """Seconds that one layer takes for each task on each device: array (tasks, devices). A computation_time that a
    task gives holds for all layers on any device."""
    import numpy as np
    estimates = [layer_time(model, device, tasks["prompt_tokens"], tasks["output_tokens"]) for device in devices]
    given = tasks["given_time"].to_numpy()[:, None]
    return np.where(np.isnan(given), np.array(estimates).T, given / model.layers)


# Task lists -----------------------------------------------------------------------------------------------------------


def check_number(value, where, whole=False):
    """The value, if it is a finite number from 0 to 1e9 (so that sums stay exact); UserError says what it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        problem = "not a number"
    elif not -math.inf < value < math.inf:
        problem = "not finite"
    elif value < 0:
        problem = "negative"
    elif value > 1e9:
        problem = "more than 1e9"
    elif whole and value != int(value):
        problem = "not a whole number"
    else:
        return value
    raise UserError(f"{where}: {shown(value)} is {problem}")


def checked_rows(rows, place, fields, what):
    """Pairs of where a row stands, for messages, and the row (a dict that has the fields), one after another.
    UserError, beginning with `place`, once one is not as it must be."""
    if not isinstance(rows, (list, tuple)):
        raise UserError(f"{place}: must be a list of {what}s")
    for k, row in enumerate(rows, 1):
        where = f"{place}, row {k}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: {shown(row)} is not a {what}")
        for field in fields:
            if field not in row:
                raise UserError(f"{where}, {field}: missing")
        yield where, row


def check_tasks(rows, place):
    """UserError, beginning with `place`, unless rows is a list of tasks in the task format."""
    seen = {}
    for k, (where, row) in enumerate(checked_rows(rows, place, FIELDS, "task"), 1):
        for field, value in row.items():
            if field not in FIELDS + ("computation_time",):
                raise UserError(f"{where}: unknown field {shown(field)}")
            if field in ("label", "prompt"):
                if not isinstance(value, str) or (field == "label" and not value.strip()):
                    raise UserError(f"{where}, {field}: {shown(value)} is not a text")
            else:
                check_number(value, f"{where}, {field}", whole=field == "output_words")
        if row["deadline"] < row["arrival_time"]:
            raise UserError(f"{where}, deadline: {row['deadline']} is before arrival_time {row['arrival_time']}")
        if seen.setdefault(row["label"], k) != k:
            raise UserError(f"{where}, label: {shown(row['label'])} is that of row {seen[row['label']]} already")


def number_or_text(text):
    try:
        return float(text)
    except ValueError:
        return text


def read_file(path, fields, traces=()):
    """Content of a file (CSV: its rows as dicts; JSON, where the name ends in .json: as it is), and the name of the
    trace, or None. `fields` must be columns of a CSV file, unless it is a trace."""
    is_json = path.lower().endswith(".json")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if is_json:
                return json.load(file), None
            csv.field_size_limit(2 ** 31 - 1)  # a prompt may be long
            lines = [line for line in csv.reader(file, strict=True) if line]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError, csv.Error) as error:  # not UTF-8, not JSON, not CSV
        raise UserError(f"{path}: not a {'JSON' if is_json else 'CSV'} file ({error})") from error
    header = lines[0] if lines else []
    trace = next((name for name in traces if set(TRACES[name]) <= set(header)), None)
    if not trace and not set(fields) <= set(header):
        others = f", or that of a trace ({', '.join(traces)})" if traces else ""
        raise UserError(f"{path}: the header must be {','.join(fields)}{others}")
    if len(set(header)) < len(header):
        raise UserError(f"{path}: the header names {shown(max(header, key=header.count))} twice")
    for k, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise UserError(f"{path}, row {k}: {len(line)} fields under a header of {len(header)}")
    rows = [{key: cell if key in TEXTS else number_or_text(cell) for key, cell in zip(header, line)
             if cell or key in fields or trace} for line in lines[1:]]  # an empty optional cell: no such field
    return rows, trace


def read_requests(rows, trace, path):
    """Columns of a trace's requests: label, arrival (s from the first), prompt tokens, output tokens."""
    import numpy as np
    when, prompt, output = TRACES[trace]
    requests = []
    for k, row in enumerate(rows, 1):
        where = f"{path}, row {k}, "
        tokens = [int(check_number(row[key], where + key, whole=True)) for key in (prompt, output)]
        try:
            if trace == "BurstGPT":
                second = check_number(row[when], where + when)
            elif row[when][:1].isdigit():  # a date and time of day, UTC
                second = int(np.datetime64(row[when].replace("+00:00", ""), "us").astype("int64")) / US
            else:
                raise ValueError
        except (ValueError, TypeError) as error:
            raise UserError(f"{where}{when}: {shown(row[when])} is not a date and time") from error
        requests.append((f"Request {k}", second, *tokens))
    if trace == "BurstGPT":  # without a response a request has failed
        failed = sum(request[3] == 0 for request in requests)
        requests = [request for request in requests if request[3] > 0]
        if failed:
            warn(f"{path}: {failed} of {len(rows)} requests have failed (0 response tokens) and are skipped")
    label, second, prompt, output = zip(*requests) if requests else [()] * 4
    return label, np.array(second) - min(second, default=0), np.array(prompt), np.array(output)


def cap_to_context(labels, prompt, output, model):
    """Tokens of prompts and outputs (arrays) cut to the model's context, with a warning. An output may claim up to
    half of the context from its prompt, which loses its beginning; it then runs until the context is full."""
    import numpy as np
    kept = np.minimum(prompt, model.context - np.minimum(output, model.context // 2))
    made = np.minimum(output, model.context - kept)
    cut = np.flatnonzero((kept < prompt) | (made < output))
    if len(cut):
        k = cut[0]
        warn(f"{len(cut)} of {len(prompt)} tasks exceed the context of {model.name} ({model.context} tokens) and run "
             f"capped, {labels[k]} first: prompt {prompt[k]} -> {kept[k]}, output {output[k]} -> {made[k]} tokens")
    return kept, made


def read_tasks(tasks, model, *devices, load=None):
    """Table of tasks from a list in the task format, or from the path of a task file or a trace.

    Returns a pandas table, a row a task in the order given: label, prompt, arrival_time, computation_time, trans_time,
    deadline (whole microseconds; computation, where the task gives none, is estimated: the mean over `devices`),
    prompt_tokens, output_tokens, kv_bytes, given_time (s, the computation_time given or NaN). `load` stretches the
    arrivals, from the first, so that all computation / span of arrivals = load; a deadline moves with its arrival.
    Raises UserError naming file, row and field.
    """
    import numpy as np
    import pandas as pd
    place = tasks if isinstance(tasks, str) else "tasks"
    rows, trace = read_file(tasks, FIELDS, tuple(TRACES)) if isinstance(tasks, str) else (tasks, None)
    if trace:
        label, arrival, prompt_tokens, output_tokens = read_requests(rows, trace, place)
        table = pd.DataFrame({"label": label, "prompt": "", "arrival_time": arrival, "computation_time": math.nan,
                              "trans_time": output_tokens / TRACE_TRANS_RATE})
    else:
        check_tasks(rows, place)
        table = pd.DataFrame(list(rows), columns=FIELDS + ("computation_time",))
        words = np.array([[len(row["prompt"].split()), row["output_words"]] for row in rows]).reshape(-1, 2)
        # rounded before it is rounded up: 1.33 x 300 words are 399 tokens, not 400
        prompt_tokens, output_tokens = np.ceil(np.round(words * TOKENS_PER_WORD, 6)).astype("int64").T
    if not len(table):
        raise UserError(f"{place}: no tasks")
    table["prompt_tokens"], table["output_tokens"] = prompt, output = cap_to_context(
        table["label"], prompt_tokens, output_tokens, model)
    table["kv_bytes"] = model.kv_bytes * (prompt + output)
    table["given_time"] = table["computation_time"].astype(float)
    table["computation_time"] = model.layers * layer_times(table, model, devices).mean(axis=1)
    if trace:
        table["deadline"] = table["arrival_time"] + TRACE_SLACK * (table["computation_time"] + table["trans_time"])
    if load is not None:
        set_load(table, load, place)
    times = ["arrival_time", "computation_time", "trans_time", "deadline"]
    if table[times].to_numpy(float).sum() > 1e12:
        raise UserError(f"{place}: the times add up to more than 1e12 s")
    table[times] = np.rint(table[times].astype(float) * US)
    table.attrs["trace"] = trace
    return table.astype(dict.fromkeys(times, "int64"))


def set_load(table, load, place):
    """Stretches the arrivals of a table as read_tasks says; in any unit of time."""
    since = table["arrival_time"] - table["arrival_time"].min()
    if since.max() == 0:
        raise UserError(f"{place}: --load needs tasks that arrive at different times")
    later = since * (table["computation_time"].sum() / since.max() / load - 1)
    for key in "arrival_time", "deadline":
        table[key] = table[key] + later


# Schedules ------------------------------------------------------------------------------------------------------------


def serve(ready, length):
    """End times of jobs served one at a time in the order given, each once it is ready (integer arrays).

    Closed form of end[k] = max(end[k-1], ready[k]) + length[k] (Lindley 1952): unrolled, end[k] is the largest of
    ready[i] + length[i] + ... + length[k] over i <= k.
    """
    import numpy as np
    total = np.cumsum(length)
    return total + np.maximum.accumulate(ready - (total - length))


def interval_table(tasks, runs):
    """Table label, start, end from runs in order of time: (row of `tasks`, start, end), microseconds. Runs of a task
    that follow on each other become one interval."""
    import numpy as np
    import pandas as pd
    row, start, end = np.array(runs, dtype="int64").T
    new = np.append(True, (row[1:] != row[:-1]) | (start[1:] != end[:-1]))
    return pd.DataFrame({"label": tasks["label"].to_numpy()[row[new]], "start": start[new],
                         "end": end[np.append(new[1:], True)]})


def simulate(tasks, intervals, link):
    """What becomes of each task: the uplink added to a schedule's compute intervals, and both measured.

    tasks: table of read_tasks; intervals: label, start, end (microseconds). Over the "shared" link one result leaves
    at a time, first computed first sent, ties to the earlier arrival, then the earlier row; over a "dedicated" one
    each leaves at once. A schedule that orders the transmissions itself lists the labels in
    intervals.attrs["transmission_order"]. Returns the table of tasks (columns RESULT) and that of all intervals
    (label, kind, start, end), in microseconds. Raises UserError if a task is not computed as it must be.
    """
    import numpy as np
    import pandas as pd
    labels = pd.Index(tasks["label"])
    row = labels.get_indexer(intervals["label"])
    start, end = np.full(len(tasks), np.iinfo("int64").max), np.full(len(tasks), -1)
    np.minimum.at(start, row, intervals["start"].to_numpy())
    np.maximum.at(end, row, intervals["end"].to_numpy())
    done = np.bincount(row, intervals["end"] - intervals["start"], len(tasks))
    if (done != tasks["computation_time"]).any() or (start < tasks["arrival_time"]).any():
        raise UserError("the schedule does not compute every task, whole and after its arrival")
    arrival, trans = tasks["arrival_time"].to_numpy(), tasks["trans_time"].to_numpy()
    completion = end + trans
    if link == "shared":
        order = np.lexsort((arrival, end))
        if "transmission_order" in intervals.attrs:
            order = labels.get_indexer(intervals.attrs["transmission_order"])
        completion[order] = serve(end[order], trans[order])
    result = tasks.assign(
        start_time=start, end_computation=end, completion_time=completion, response_time=start - arrival,
        waiting_time=end - arrival - tasks["computation_time"], turnaround_time=completion - arrival,
        deadline_met=completion <= tasks["deadline"], preemptions=np.bincount(row, minlength=len(tasks)) - 1)
    sent = pd.DataFrame({"label": tasks["label"], "kind": "transmit", "start": completion - trans, "end": completion})
    both = pd.concat([intervals.assign(kind="compute"), sent.sort_values("end", kind="stable")], ignore_index=True)
    return result[RESULT], both[["label", "kind", "start", "end"]]


def scheduling_metrics(scheduler, tasks, result, model, device):
    """The metrics of a schedule: seconds, counts, GB (1e9 bytes), share of the device's memory.

    Peak memory: the weights and the KV caches of all tasks that are started and not yet computed.
    """
    import numpy as np
    when = np.concatenate([result["end_computation"], result["start_time"]])  # at one instant: freed, then taken
    change = np.concatenate([-tasks["kv_bytes"], tasks["kv_bytes"]])
    caches = np.cumsum(change[np.argsort(when, kind="stable")]).max()
    peak = float(model.layers * model.layer_bytes + caches) / 1e9
    return dict(
        scheduler=scheduler, tasks=len(result),
        **{f"mean_{key}": round(float(result[key].mean()) / US, 6)
           for key in ("waiting_time", "response_time", "turnaround_time")},
        deadlines_met=int(result["deadline_met"].sum()), T_end=int(result["completion_time"].max()) / US,
        preemptions=int(result["preemptions"].sum()), peak_memory_gb=peak, memory_utilization=peak / device.memory)


def in_seconds(table):
    """The table with its whole microseconds as seconds."""
    others = "deadline end_computation start end link_delay".split()
    times = [key for key in table if key.endswith("_time") or key in others]
    return table.assign(**{key: table[key] / US for key in times})


# Links and bids -------------------------------------------------------------------------------------------------------


def read_links(links, bidders, devices, seed):
    """Seconds to pass one task's activations over each link: a square table over `bidders` and, last, the client.

    links: None (drawn for all pairs of `devices`, {name: (Device, host)}: Rayleigh with LINK_SCALE, HOST_LINK within a
    host), a dict of dicts of seconds, or the path of a file: that dict as JSON, or a square CSV as NAME_links.csv. A
    pair may be given one way or both. Raises UserError naming what is missing, asymmetric or negative.
    """
    import numpy as np
    import pandas as pd
    known, names = [*devices, "client"], [*bidders, "client"]
    if links is None:
        delay = np.random.default_rng((seed, 0)).rayleigh(LINK_SCALE, (len(known), len(known))).round(6)
        hosts = np.array([host for _, host in devices.values()])
        delay[:-1, :-1][hosts[:, None] == hosts] = HOST_LINK
        delay = np.triu(delay, 1)
        return pd.DataFrame(delay + delay.T, known, known).loc[names, names]
    place, given = (links, read_file(links, [""])[0]) if isinstance(links, str) else ("links", links)
    if isinstance(links, str) and not links.lower().endswith(".json"):
        if len({row[""] for row in given}) < len(given):
            raise UserError(f"{place}: two rows of one device")
        given = {row.pop(""): row for row in given}
    if not isinstance(given, dict) or not all(isinstance(row, dict) for row in given.values()):
        raise UserError(f"{place}: must give seconds for pairs of devices")
    for one, row in given.items():
        for other, cell in row.items():
            for name in (one, other):
                if name not in known:
                    raise UserError(f"{place}: unknown device {shown(name)}: choose from {', '.join(known)}")
            check_number(cell, f"{place}, {one} to {other}")
    table = pd.DataFrame(0.0, names, names)
    for one in names:
        for other in names:
            back = given.get(other, {}).get(one, 0 if one == other else None)
            there = given.get(one, {}).get(other, back)
            if there is None:
                raise UserError(f"{place}, {one} to {other}: missing")
            if back is not None and there != back:
                raise UserError(f"{place}, {one} to {other}: {there} s, but {back} s back")
            if one == other and there != 0:
                raise UserError(f"{place}, {one} to {other}: {there} s, not 0")
            table.loc[one, other] = there
    return table


def bid_times(times, bids):
    """Seconds a layer of each task as the bids promise: T / l of a device, shared out as the estimates `times` are."""
    import numpy as np
    total = times.sum(axis=0)
    part = np.where(total > 0, times / np.where(total > 0, total, 1), 1 / len(times))
    return part * (bids["computation_time"] / bids["layers"]).to_numpy()


def rounded(value):
    """To six digits: what is written is then what is computed with."""
    return float(f"{value:.6g}")


def read_bids(bids, model, devices, times, kv_bytes, seed):
    """Table of bids: device, type, host, capacity, layers, price (cents), computation_time (s), true_cost (cents).

    bids: None (drawn, one of each device that holds a layer), a list of dicts of BID_FIELDS, or the path of a CSV or
    JSON file of them; true_cost, where it is not given, is the device's price per second x computation_time. devices:
    {name: (Device, host)}; times: {name: s that a layer takes over the task list}; kv_bytes: the list's largest KV
    cache per layer. Raises UserError naming row and field.
    """
    import numpy as np
    import pandas as pd
    capacity = {name: int(MEMORY_SHARE * device.memory * 1e9 / (model.layer_bytes + kv_bytes))
                for name, (device, _) in devices.items()}
    cents = {name: device.price_per_hour * 100 / 3600 for name, (device, _) in devices.items()}  # per second
    facts = {name: {"type": device.type, "host": host, "capacity": capacity[name]}
             for name, (device, host) in devices.items()}
    if bids is None:
        draw = np.random.default_rng((seed, 1))
        names = [name for name in devices if capacity[name] > 0]
        most = {name: min(capacity[name], model.layers) for name in names}
        offer = {name: max(1, min(int(capacity[name] * draw.uniform(*OFFER)), model.layers)) for name in names}
        margin = {name: draw.uniform(*MARGIN) for name in names}
        while sum(offer.values()) < min(model.layers, sum(most.values())):  # raised where least of it is offered
            offer[min((name for name in names if offer[name] < most[name]), key=lambda k: offer[k] / most[k])] += 1
        time = {name: rounded(offer[name] * times[name]) for name in names}
        bids = [{"device": name, "layers": offer[name], "price": rounded(time[name] * cents[name] * margin[name]),
                 "computation_time": time[name]} for name in names]
    place, rows = (bids, read_file(bids, BID_FIELDS)[0]) if isinstance(bids, str) else ("bids", bids)
    table = []
    for where, row in checked_rows(rows, place, BID_FIELDS, "bid"):
        name = row["device"]
        if name not in list(devices):  # a list: whatever else the name may be, it can be looked for
            raise UserError(f"{where}, device: unknown device {shown(name)}: choose from {', '.join(devices)}")
        if name in [one["device"] for one in table]:
            raise UserError(f"{where}, device: {name} bids twice")
        for field, value in row.items():
            if field in ("layers", "price", "computation_time", "true_cost"):
                check_number(value, f"{where}, {field}", whole=field == "layers")
            elif field in facts[name] and value != facts[name][field]:
                raise UserError(f"{where}, {field}: {shown(value)}, but {name} has {facts[name][field]}")
            elif field != "device" and field not in facts[name]:
                raise UserError(f"{where}: unknown field {shown(field)}")
        if not 1 <= row["layers"] <= min(capacity[name], model.layers):
            raise UserError(f"{where}, layers: {row['layers']:g} is not from 1 to {min(capacity[name], model.layers)}: "
                            f"{name} holds {capacity[name]} layers, {model.name} has {model.layers}")
        cost = row.get("true_cost", rounded(row["computation_time"] * cents[name]))
        table.append(dict(device=name, **facts[name], layers=int(row["layers"]), price=row["price"],
                          computation_time=row["computation_time"], true_cost=cost))
    if not table:
        raise NoAllocation(f"no device bids for the {model.layers} layers of {model.name}")
    return pd.DataFrame(table)


def pool_devices(pool):
    """{name: (Device, host)} of a pool. Raises UserError if POOLS is not as it must be."""
    devices = {device: (DEVICES[find_name(kind, DEVICES, "device")], host) for device, kind, host in POOLS[pool]}
    if len(devices) < len(POOLS[pool]) or "+" in "".join(devices) or "client" in devices:
        raise UserError(f"POOLS, {pool}: the devices need different names, without '+' and none of them 'client'")
    return devices


def allocation_tasks(tasks, model, pool):
    """Table of read_tasks in order of arrival (ties: in that of the list), as tasks pass the pipeline, and the
    estimated seconds of a layer: array (tasks, devices of the pool)."""
    kinds = [device for device, _ in pool_devices(pool).values()]
    tasks = read_tasks(tasks, model, *kinds).sort_values("arrival_time", kind="stable")
    return tasks, layer_times(tasks, model, kinds)


def allocation_case(model, pool, tasks, estimates, seed, bids=None, links=None):
    """What an allocation is given: tables of bids and of links (read_bids, read_links), seconds a layer (tasks,
    bidding devices) as the bids promise, memory (GB) of the bidding devices."""
    devices = pool_devices(pool)
    names = list(devices)
    kv_bytes = tasks["kv_bytes"].max() / model.layers
    bids = read_bids(bids, model, devices, dict(zip(names, estimates.sum(axis=0))), kv_bytes, seed)
    links = read_links(links, bids["device"], devices, seed)
    times = bid_times(estimates[:, [names.index(device) for device in bids["device"]]], bids)
    return bids, links, times, [devices[device][0].memory for device in bids["device"]]


# Allocations ----------------------------------------------------------------------------------------------------------


def group_link(delay, one, other):
    """Seconds over the link between two groups of devices (lists of positions): the fastest of any two of them."""
    return min(delay[i, j] for i in one for j in other)


def group_times(times, delay, group):
    """What a layer takes in a tensor-parallel group of k devices, in seconds: (computation of each task, all-reduces).

    Each device computes 1/k of a layer, the slowest sets the pace. Two all-reduces, each 2 (k - 1) / k of the
    activations over the group's slowest link, follow (as in HexGen).
    """
    k = len(group)
    return times[:, group].max(axis=1) / k, 4 * (k - 1) / k * max(delay[i, j] for i in group for j in group)


def bottleneck(stages, bids, delay, times):
    """(seconds for a mean task, name) of the slowest stage or link of a pipeline of single devices; the client's links
    do not count."""
    t, name = times.mean(axis=0), bids["device"]
    path = [stage["devices"][0] for stage in stages]
    parts = [(n * t[i], f"{n} layers on {name[i]}") for i, n in zip(path, [stage["layers"] for stage in stages])]
    parts += [(delay[i, j], f"the link from {name[i]} to {name[j]}") for i, j in zip(path, path[1:])]
    return max(parts, key=lambda part: part[0])


def pipeline(arrival, delays, work):
    """When each task is ready, starts and ends in each stage: three arrays (tasks, stages).

    arrival: ascending; delays: of the links into stage 1, 2, .. S and back to the client; work: (tasks, stages).
    finish[k, s] = max(finish[k-1, s], finish[k, s-1] + delay[s]) + work[k, s].
    """
    import numpy as np
    ready, end = np.empty_like(work), np.empty_like(work)
    for s in range(work.shape[1]):
        ready[:, s] = arrival + delays[s]
        arrival = end[:, s] = serve(ready[:, s], work[:, s])
    return ready, end - work, end


def jain(values):
    """Jain's index of fairness: 1 where all are equal, 1/n where one has all."""
    import numpy as np
    values = np.array(values, dtype=float)
    return float(values.sum() ** 2 / (len(values) * (values ** 2).sum())) if values.any() else 1.0


def evaluate(stages, tasks, bids, delay, times, model, memory):
    """What an allocation brings, in one accounting for all algorithms.

    stages: in pipeline order, of dicts: devices (rows of `bids`), layers, and reward (cents; if there is none, each
    device is paid its price per layer); tasks: table of read_tasks in order of arrival; delay (s) over the devices in
    the order of bids and, last, the client; times: s a layer (tasks, devices); memory: GB of each bidding device.
    Returns the tables of stages, of tasks (RESULT) and of intervals (label, kind, start, end: each task's way through
    the pipeline, all-reduces within compute) in microseconds, and the metrics. Raises UserError if the stages are not
    an allocation.
    """
    import numpy as np
    import pandas as pd
    used = [i for stage in stages for i in stage["devices"]]
    share = [stage["layers"] / len(stage["devices"]) for stage in stages for _ in stage["devices"]]  # layers of each
    if (len(set(used)) < len(used) or sum(stage["layers"] for stage in stages) != model.layers or min(share) <= 0
            or (np.array(share) > bids["layers"].to_numpy()[used]).any()):
        raise UserError("the allocation does not place every layer once, each device used once and within its offer")
    layer_bytes = model.layer_bytes + tasks["kv_bytes"].max() / model.layers
    client = [len(bids)]
    groups = [stage["devices"] for stage in stages]
    links = np.array([group_link(delay, a, b) for a, b in zip([client, *groups], [*groups, client])])
    layers = np.array([stage["layers"] for stage in stages])
    compute, reduce = zip(*(group_times(times, delay, group) for group in groups))
    compute = np.rint(np.array(compute).T * layers * US).astype("int64")
    reduce, links = (np.rint(seconds * US).astype("int64") for seconds in (reduce * layers, links))
    arrival = tasks["arrival_time"].to_numpy()
    ready, start, end = pipeline(arrival, links, compute + reduce)
    completion = end[:, -1] + links[-1]
    result = tasks.assign(
        computation_time=compute.sum(axis=1), trans_time=links[-1], start_time=start[:, 0], end_computation=end[:, -1],
        completion_time=completion, response_time=start[:, 0] - arrival, waiting_time=(start - ready).sum(axis=1),
        turnaround_time=completion - arrival, deadline_met=completion <= tasks["deadline"], preemptions=0)[RESULT]
    steps = np.stack([ready - links[:-1], ready, start, end], axis=2)  # sent, ready, start, end
    ways = [pd.DataFrame({"label": result["label"], "kind": kind, "start": steps[:, s, k], "end": steps[:, s, k + 1]})
            for s in range(len(stages)) for k, kind in ((0, "transmit"), (2, "compute"))]
    ways.append(pd.DataFrame({"label": result["label"], "kind": "transmit", "start": end[:, -1], "end": completion}))
    intervals = pd.concat(ways).sort_index(kind="stable")

    paid = [part * bids["price"][i] / bids["layers"][i] for i, part in zip(used, share)]
    costs = [part * bids["true_cost"][i] / bids["layers"][i] for i, part in zip(used, share)]
    if "reward" in stages[0]:
        paid = [stage["reward"] for stage in stages]
    rows, last = [], 0
    for s, stage in enumerate(stages):
        mine = [k for k, i in enumerate(used) if i in groups[s]]
        room, reward = sum(memory[i] for i in groups[s]), sum(paid[k] for k in mine)
        held = stage["layers"] * layer_bytes / 1e9
        rows.append(dict(
            stage=s + 1, devices="+".join(bids["device"][groups[s]]), tensor_parallel=len(mine), first_layer=last,
            last_layer=last + stage["layers"] - 1, layers=stage["layers"], computation_time=compute[:, s].sum(),
            link_delay=links[s], reward=round(reward, 6), utility=round(reward - sum(costs[k] for k in mine), 6),
            memory_gb=round(held, 6), memory_utilization=round(held / room, 6)))
        last += stage["layers"]
    computing = int(compute.sum()) / US
    communicating = len(tasks) * int(links.sum() + reduce.sum()) / US
    total = sum(paid)
    metrics = dict(
        devices=len(used), total_cost=total, completion_time=int(completion.max()) / US, computation_time=computing,
        communication_time=communicating, communication_overhead=communicating / ((communicating + computing) or 1),
        memory_utilization=last * layer_bytes / 1e9 / sum(memory[i] for i in used), fairness_layers=jain(share),
        fairness_rewards=jain(paid), cost_efficiency=last / total if total else math.inf)
    metrics = {key: round(value, 6) if isinstance(value, float) else value for key, value in metrics.items()}
    return pd.DataFrame(rows), result, intervals, dict(metrics, deadlines_met=int(result["deadline_met"].sum()))


# Comparisons ----------------------------------------------------------------------------------------------------------


def t_quantile(degrees):
    """The 97.5 % quantile of Student's t: at t = sqrt(degrees) tan(angle) the density is cos(angle)^(degrees - 1)."""
    import numpy as np
    angle = np.linspace(0, np.pi / 2, 100001)
    share = np.cumsum(np.cos((angle[1:] + angle[:-1]) / 2) ** (degrees - 1))
    return float(np.sqrt(degrees) * np.tan(np.interp(0.95 * share[-1], share, angle[1:])))


def compare(runs, keys, who, metrics):
    """Means over runs with 95 % confidence intervals (Student's t), and the change of the first of `who` in %.

    runs: a row a run: `keys` (what was set), "algorithm", the metrics (NaN where a run has none: left out). Returns a
    table, a row for each of keys, metric and algorithm: runs, mean, interval (half its width; NaN of one run), change
    (of the first algorithm's mean against this one's, %).
    """
    import pandas as pd
    rows = []
    for setting, group in runs.groupby(keys, sort=False):
        setting = setting if isinstance(setting, tuple) else (setting,)  # of one key: older releases of pandas
        for metric in metrics:
            means = group.groupby("algorithm", sort=False)[metric].mean()
            for name in who:
                values = group.loc[group["algorithm"] == name, metric].astype(float).dropna()
                n, mean = len(values), means[name]
                half = t_quantile(n - 1) * values.std() / math.sqrt(n) if n > 1 else math.nan
                change = 100 * (means[who[0]] / mean - 1) if mean and name != who[0] else math.nan
                rows.append([*setting, metric, name, n, round(mean, 6), round(half, 6), round(change, 3)])
    return pd.DataFrame(rows, columns=[*keys, "metric", "algorithm", "runs", "mean", "interval", "change"])


def side_by_side(table, who, units):
    """Part of a table of compare() for reading, a row a metric: mean and interval of each, change against each."""
    import pandas as pd

    def cell(mean, half):
        if math.isnan(mean):
            return "n/a"
        digits = 1 if abs(mean) >= 100 else 2 if abs(mean) >= 10 else 3
        return f"{mean:.{digits}f} \u00b1 " + ("n/a" if math.isnan(half) else f"{half:.{digits}f}")

    rows = []
    for metric, group in table.groupby("metric", sort=False):
        group = group.set_index("algorithm")
        row = {"metric": metric + (f" ({units[metric]})" if units.get(metric) else "")}
        row.update({name: cell(*group.loc[name, ["mean", "interval"]]) for name in who})
        row.update({f"to {name}": "" if math.isnan(group["change"][name]) else f"{group['change'][name]:+.1f} %"
                    for name in who[1:]})
        rows.append(row)
    return pd.DataFrame(rows)


def latex_writer(parts):
    """Function of a path that writes tables as LaTeX (booktabs): parts is a list of (caption, table of text)."""
    marks = {"\\": r"\textbackslash{}", "\u00b1": r"$\pm$", **{mark: "\\" + mark for mark in "%&_#${}"}}

    def text(cell):
        return "".join(marks.get(letter, letter) for letter in str(cell))

    lines = []
    for caption, table in parts:
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{text(caption)}}}",
                  rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule",
                  " & ".join(map(text, table)) + r" \\", r"\midrule",
                  *(" & ".join(map(text, row)) + r" \\" for row in table.to_numpy()),
                  r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return text_writer("\n".join(lines))


def work(function, jobs, pipe, folder):
    """What a process of in_parallel does: sends for each job its result, or the error that it raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent,
    os.setpgrp()  # which ends this group, with all that a job has started
    tempfile.tempdir = folder  # and removes what is left there
    for job in jobs:
        try:
            pipe.send((function(*job), None))
        except Exception as error:
            pipe.send((None, error))


def in_parallel(function, jobs):
    """[function(*job) for job in jobs], by as many processes as there are cores, with a progress bar on a terminal."""
    from multiprocessing import Pipe, Process
    count, workers, results, bar = min(len(jobs), os.cpu_count() or 1), [], [], sys.stderr.isatty()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for i in range(count):
                mine, theirs = Pipe(duplex=False)
                worker = Process(target=work, args=(function, jobs[i::count], theirs, folder), daemon=True)
                worker.start()
                theirs.close()  # a worker that dies is noticed then
                workers.append((worker, mine))
            for k in range(len(jobs)):
                result, error = workers[k % count][1].recv()
                if error:
                    raise error
                results.append(result)
                if bar:
                    done = len(results) * 40 // len(jobs)
                    print(f"\r[{'#' * done}{'.' * (40 - done)}] {len(results)} of {len(jobs)}", end="",
                          file=sys.stderr, flush=True)
        except EOFError as error:
            raise UserError("a process that ran one of the cases has ended: killed, or out of memory") from error
        finally:
            if bar:
                print("", file=sys.stderr)
            for worker, _ in workers:
                if len(results) < len(jobs):
                    try:
                        os.killpg(worker.pid, signal.SIGKILL)
                    except ProcessLookupError:  # it has no group yet
                        worker.kill()
                worker.join()
    return results


# Real models ----------------------------------------------------------------------------------------------------------


def import_torch():
    """The modules torch and transformers, quiet on standard error."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UserError(f"a real model needs torch: pip install torch transformers ({error})") from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_checkpoint(name, read, **settings):
    """A from_pretrained of transformers for a hub name, a folder or a GGUF file; what it raises becomes one line."""
    is_gguf = name.lower().endswith(".gguf")
    if (is_gguf or name.count("/") > 1 or name[:1] in ("/", ".", "~")) and not os.path.exists(name):
        raise UserError(f"checkpoint {name!r}: no such {'file' if is_gguf else 'folder'}")
    if is_gguf:
        folder, settings["gguf_file"] = os.path.split(os.path.abspath(name))
    try:
        return read(folder if is_gguf else name, trust_remote_code=False, **settings)
    except Exception as error:  # transformers, safetensors, gguf and the hub raise many kinds
        raise UserError(f"checkpoint {name!r}: {first_line(error)}") from error


def load_config(name=None):
    """transformers configuration of a checkpoint (hub name, folder, GGUF file) or of a small GPT-Neo (None)."""
    transformers = import_torch()[1]
    if name is None:
        return transformers.GPTNeoConfig(**RANDOM)
    config = read_checkpoint(name, transformers.AutoConfig.from_pretrained)
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(f"checkpoint {name!r}: a {config.model_type} is not a causal language model")
    return config


def load_tokenizer(name=None):
    """Two functions: a prompt to a list of at least one token (as a chat's first message, where the checkpoint is one
    for chats), and tokens to text. None: tokens are bytes, and 256 ends a text."""
    transformers = import_torch()[1]
    if name is None:
        return (lambda text: list(text.encode()) or [256],
                lambda ids: bytes(i for i in ids if i < 256).decode(errors="replace"))
    tokenizer = read_checkpoint(name, transformers.AutoTokenizer.from_pretrained)

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
    raise UserError(f"no list of {count} decoder layers in {type(model).__name__}")


def drop_others(model, first, end):
    """Puts modules without weights in the place of what a part of a pipeline does not run: layers outside [first, end),
    embeddings, head. The latter return zeros: what is received replaces the hidden states that come of them, and the
    last rank's tokens the tokens. An embedding that the head shares stays with it."""
    import torch
    name, layers = decoder_layers(model)
    embedding, head, last = model.get_input_embeddings(), model.get_output_embeddings(), end == len(layers)
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
    config, total = copy.deepcopy(config), config.get_text_config().num_hidden_layers
    end = total if end is None else end
    if end < total:  # the head goes, and the embedding may stay
        config.tie_word_embeddings = False

    def init(self, *args, **settings):  # of a model without storage: transformers then reads the weights it names
        cls.__init__(self, *args, **settings)
        drop_others(self, first, end)

    part = type(cls.__name__, (cls,), {"__init__": init, "__module__": cls.__module__})
    if name is None:
        with torch.device("meta"):
            shapes = part(config)
            shapes.tie_weights()
        state = {key: draw_weight(key, weight.shape, seed) for key, weight in shapes.named_parameters()}
        model = part.from_pretrained(None, config=config, state_dict=state)
    else:
        dtype = torch.float32 if torch.device(device).type == "cpu" else "auto"
        model, report = read_checkpoint(name, part.from_pretrained, config=config, dtype=dtype,
                                        output_loading_info=True)
        if report["missing_keys"]:
            raise UserError(f"checkpoint {name!r}: the weights {min(report['missing_keys'])} are missing")
    keep_own(model, first, end)
    return model.to(device)


def load_checkpoint(name=None, config=None, seed=0):
    """Model (on a GPU, if there is one), tokenizer (load_tokenizer), and a line that says what was loaded."""
    device = "cuda" if import_torch()[0].cuda.is_available() else "cpu"
    model = load_model(name, config or load_config(name), device=device, seed=seed)
    text = name or RANDOM_TEXT
    return model, load_tokenizer(name), f"{text} ({len(decoder_layers(model)[1])} layers, {model.dtype}, {device})"


def clock(device):
    if device.type == "cuda":
        import torch
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device, restart=False):
    """Most bytes held since the last restart: of a GPU's memory, else resident (since the start, if not on Linux)."""
    if device.type == "cuda":
        import torch
        if restart:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        if restart:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def time_stages(layers, counts, device):
    """Lets stages of counts[s] layers note their seconds: a list a stage, an entry for every pass through the model."""
    passes, start = [[] for _ in counts], 0
    for seconds, n in zip(passes, counts):
        def begin(*_, seconds=seconds):
            seconds.append(-clock(device))

        def finish(*_, seconds=seconds):
            seconds[-1] += clock(device)

        layers[start].register_forward_pre_hook(begin)
        layers[start + n - 1].register_forward_hook(finish)
        start += n
    return passes


def measure(model, tokenizer, prompts, tokens, seed=0, sample=False, notes=(), **settings):
    """Each prompt continued by up to so many tokens (lists, an entry a task) with transformers' own generate.

    A dict a task: text, ids, tokens, seconds, tokens_per_second, peak_memory, growth (bytes, over what was held before
    the task). A warm-up comes first and does not count: the lists in `notes`, which hooks fill, are emptied after it.
    What exceeds the context is cut as in cap_to_context. settings: more for generate.
    """
    import torch
    context, rows, cut = model_from_config("", model.config).context, [], 0
    for k, (prompt, wanted) in enumerate([(prompts[0], 2)] + list(zip(prompts, tokens))):
        whole = tokenizer[0](prompt)
        ids = torch.tensor([whole[-(context - min(int(wanted), context // 2)):]], device=model.device)
        most = min(max(1, int(wanted)), context - ids.shape[1])
        before = peak_memory(model.device, restart=True)
        torch.manual_seed(seed + k)
        start = clock(model.device)
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=sample,
                              num_beams=1, pad_token_id=0, **settings)[0, ids.shape[1]:].tolist()
        seconds = clock(model.device) - start
        if k == 0:
            for note in notes:
                note.clear()
            continue
        cut += ids.shape[1] < len(whole) or most < wanted
        rows.append(dict(text=tokenizer[1](made), ids=made, tokens=len(made), seconds=seconds,
                         tokens_per_second=len(made) / seconds, peak_memory=peak_memory(model.device)))
        rows[-1]["growth"] = max(0, rows[-1]["peak_memory"] - before)
    if cut and (launched() or (0, 1))[0] == 0:
        warn(f"{cut} of {len(prompts)} tasks exceed the model's context of {context} tokens and run capped")
    return rows


def check_counts(counts, config):
    total = config.get_text_config().num_hidden_layers
    if min(counts) < 1 or sum(counts) != total:
        raise UserError(f"stages of {', '.join(map(str, counts))} layers do not make up the model's {total}")


def run_stages(model, tokenizer, counts, prompts, tokens, seed=0, sample=False):
    """All stages in this process, counts[s] layers in stage s: the rows of measure, and a dict a stage: layers,
    seconds (in its layers, all tasks together)."""
    check_counts(counts, model.config)
    passes = time_stages(decoder_layers(model)[1], counts, model.device)
    rows = measure(model, tokenizer, prompts, tokens, seed, sample, passes)
    return rows, [dict(layers=n, seconds=sum(seconds)) for n, seconds in zip(counts, passes)]


def launched():
    """(rank, number of ranks) under torchrun, else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return None


def stop_ranks(message, code):
    """Ends this rank. Of all ranks that stop, the first one says why: the store that torchrun keeps for them counts."""
    line = f"{os.path.basename(sys.argv[0])}: {message}"
    try:
        sys.stdout.flush()
        from torch.distributed import rendezvous
        store = next(rendezvous("env://", timeout=timedelta(seconds=5)))[0]
        if store.add("stopping", 1) == 1:
            print(line, file=sys.stderr, flush=True)
            store.set("said", "")
        store.wait(["said"], timedelta(seconds=5))  # once one rank has gone, torchrun ends the others
    except Exception:  # the store went down with its machine, or torch is missing: better said twice than never
        print(line, file=sys.stderr, flush=True)
    finally:
        os._exit(code)  # not sys.exit: a thread may hang in a broken link


def run_ranks(name, config, counts, prompts, tokens, seed=0, sample=False):
    """Under torchrun: stage r on rank r. On rank 0 what run_stages returns, a stage having peak_memory, base_memory
    (before loading; bytes) and bytes_sent (a list, the hidden states of each pass) besides; on the others None.
    A UserError ends all ranks with its line and status 2, a rank that dies with one line and 1."""
    rank, size = launched()
    say = f"rank {rank} stops, and all others with it: "
    signal.signal(signal.SIGTERM, lambda *_: stop_ranks(say + "torchrun asks for it, a rank has ended", 1))
    try:
        if size != len(counts):
            raise UserError(f"torchrun has started {size} ranks for {len(counts)} stages: one rank runs one stage")
        check_counts(counts, config)
        return run_rank(rank, size, name, config, counts, prompts, tokens, seed, sample)
    except UserError as error:
        stop_ranks(str(error), 2)
    except RuntimeError as error:  # mostly of torch.distributed: a link is broken, or PEER_TIMEOUT over
        what = "" if "memory" in str(error) else "it has lost another one: "
        stop_ranks(say + what + first_line(error).split("] ", 1)[-1].split(". ")[0], 1)


def run_rank(rank, size, name, config, counts, prompts, tokens, seed, sample):
    """generate runs on every rank, on a model of the rank's own layers: hooks receive the hidden states before the
    first of them and send those after the last. The last rank's token is everyone's, so that it alone samples: GPUs of
    different types draw differently from one seed."""
    import torch
    from torch import distributed
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise UserError(f"rank {rank} finds no GPU of its own: its machine has {torch.cuda.device_count()}")
        torch.cuda.set_device(device)
    base = peak_memory(device)
    if not distributed.is_initialized():
        distributed.init_process_group("gloo" if device.type == "cpu" else "nccl",
                                       timeout=timedelta(seconds=PEER_TIMEOUT))
        atexit.register(distributed.destroy_process_group)
    model = load_model(name, config, sum(counts[:rank]), sum(counts[:rank + 1]), device, seed)
    layers, sent, loaded = decoder_layers(model)[1], [], peak_memory(device)
    ends = model.generation_config.eos_token_id
    ends = torch.tensor(-1 if ends is None else ends, device=device)

    def receive(module, args, kwargs):
        hidden = (args[0] if args else kwargs["hidden_states"]).contiguous()  # zeros
        distributed.recv(hidden, rank - 1)
        return ((hidden,) + args[1:], kwargs) if args else (args, dict(kwargs, hidden_states=hidden))

    def send(module, args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).contiguous()
        distributed.send(hidden, rank + 1)
        sent.append(hidden.numel() * hidden.element_size())

    def agree(ids, scores):  # generate asks after each token whether to stop
        token = ids[:, -1].clone()
        distributed.broadcast(token, size - 1)
        ids[:, -1] = token
        return torch.isin(token, ends)

    settings = dict(stopping_criteria=[agree])
    if rank > 0:
        layers[0].register_forward_pre_hook(receive, with_kwargs=True)
    passes = time_stages(layers, [len(layers)], device)
    if rank < size - 1:
        layers[-1].register_forward_hook(send)
        settings["eos_token_id"] = -1  # before it agrees, this rank has a token that means nothing
    rows = measure(model, load_tokenizer(name), prompts, tokens, seed, sample, passes + [sent], **settings)
    stage = dict(layers=len(layers), seconds=sum(passes[0]), base_memory=base, bytes_sent=sent,
                 peak_memory=max([loaded] + [row["peak_memory"] for row in rows]))
    stages = [None] * size if rank == 0 else None
    distributed.gather_object(stage, stages)
    return (rows, stages) if rank == 0 else None


def calibrate(model, device, prompt_tokens=512, output_tokens=32, repeats=3):
    """Lines: measured seconds of a layer beside those of layer_time for a Device, and the constants that would fit."""
    import numpy as np
    import torch
    layers = decoder_layers(model)[1]
    plan = model_from_config("", model.config)
    plan = replace(plan, bits=8 * next(layers.parameters()).element_size())
    prompt_tokens = min(prompt_tokens, plan.context // 2)
    passes = time_stages(layers, [plan.layers], model.device)[0]
    ids, runs = torch.ones((1, prompt_tokens), dtype=torch.long, device=model.device), []
    for _ in range(1 + repeats):
        passes.clear()
        model.generate(ids, attention_mask=ids, max_new_tokens=output_tokens + 1, min_new_tokens=output_tokens + 1,
                       do_sample=False, num_beams=1, pad_token_id=0)
        runs.append((passes[0], np.mean(passes[1:])))
    prefill, decode = np.median(runs[1:], axis=0) / plan.layers  # the first is a warm-up
    predicted = layer_time(plan, device, prompt_tokens, np.array([0, 1]))
    compute = 2 * plan.params * prompt_tokens / prefill / (device.tflops * 1e12)
    bandwidth = plan.layer_bytes / decode / (device.bandwidth * 1e9)
    return [f"a layer ({plan.bits} bits, on {model.device}) beside the estimate for a {device.type}:",
            f"prefill of {prompt_tokens} tokens: measured {prefill:.3g} s, predicted {predicted[0]:.3g} s",
            f"decode of a token: measured {decode:.3g} s, predicted {predicted[1] - predicted[0]:.3g} s",
            f"COMPUTE_EFFICIENCY = {compute:.3g}  # share of {device.tflops} TFLOP/s, from prefill",
            f"BANDWIDTH_EFFICIENCY = {bandwidth:.3g}  # share of {device.bandwidth} GB/s, from decoding"]


def map_modules(config, counts):
    """device_map of accelerate, {module: stage}: embeddings first, norm and head last; a tied head is where its
    embedding is."""
    torch, transformers = import_torch()
    with torch.device("meta"):
        model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        model.tie_weights()
    name, head, places = decoder_layers(model)[0], model.get_output_embeddings(), {}

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


def real_model(name, config, bits=16):
    """Model of a checkpoint's configuration (None: of the small one with random weights)."""
    return model_from_config(os.path.basename(name.rstrip("/")) if name else "random GPT-Neo", config, bits)


def measure_tasks(tasks, model, tokenizer, args, seed):
    """The table of read_tasks with the times and the memory that a real model takes for each task in place of the
    estimates, and a table of what was measured."""
    import numpy as np
    if tasks.attrs["trace"]:
        raise UserError(f"{args.tasks}: --measure needs prompts, and a trace has none")
    rows = measure(model, tokenizer, tasks["prompt"].tolist(), tasks["output_tokens"].tolist(), seed, args.sample)
    tasks["computation_time"] = np.rint([row["seconds"] * US for row in rows]).astype("int64")
    tasks["kv_bytes"] = [row["growth"] for row in rows]
    if args.load is not None:
        set_load(tasks, args.load, "tasks")
        tasks = tasks.round({"arrival_time": 0, "deadline": 0}).astype({"arrival_time": "int64", "deadline": "int64"})
    return tasks, texts_table(tasks, rows)


def texts_table(tasks, rows):
    """Table of what measure or run_stages found of each task."""
    import pandas as pd
    return pd.DataFrame([dict(label=label, seconds=round(row["seconds"], 6), tokens=row["tokens"],
                              tokens_per_second=round(row["tokens_per_second"], 3),
                              peak_memory_gb=round(row["peak_memory"] / 1e9, 6), text=row["text"])
                         for label, row in zip(tasks["label"], rows)], index=tasks.index)


def execute(tasks, stages, args, config, seed):
    """Runs an allocation's stages (table of evaluate) on the real model: in this process, or on the ranks of torchrun,
    of which only the first comes back. Returns lines to print, the table of measured stages, and that of the texts."""
    import pandas as pd
    if tasks.attrs["trace"]:
        raise UserError(f"{args.tasks}: --execute needs prompts, and a trace has none")
    counts, arguments = stages["layers"].tolist(), (tasks["prompt"].tolist(), tasks["output_tokens"].tolist(), seed)
    text = args.checkpoint or RANDOM_TEXT
    if launched():
        rows, measured = run_ranks(args.checkpoint, config, counts, *arguments, args.sample) or sys.exit(0)
        lines = [f"executed on {len(counts)} ranks: {text}"]
    else:
        model, tokenizer, text = load_checkpoint(args.checkpoint, config, seed)
        rows, measured = run_stages(model, tokenizer, counts, *arguments, args.sample)
        lines = [f"executed in one process: {text}"]
    if stages["tensor_parallel"].max() > 1:
        lines.append("tensor parallelism is planned only: the layers of such a stage run as those of one device")
    predicted, seconds = stages["computation_time"], pd.Series([stage["seconds"] for stage in measured])
    found = pd.DataFrame(dict(stage=stages["stage"], devices=stages["devices"], layers=counts,
                              predicted_share=predicted / predicted.sum(), measured_share=seconds / seconds.sum(),
                              measured_seconds=seconds)).round(6)
    if launched():
        found["peak_memory_gb"] = [round(stage["peak_memory"] / 1e9, 6) for stage in measured]
        found["bytes_sent"] = [sum(stage["bytes_sent"]) for stage in measured]
    return lines, found, texts_table(tasks, rows)


def print_texts(texts):
    print("")
    print_table(texts.drop(columns="text"))
    print("")
    for label, text in zip(texts["label"], texts["text"]):
        plain = "".join(letter if letter.isprintable() else " " for letter in text)  # a terminal obeys some others
        print(textwrap.shorten(f"{label}: {plain}", 300, placeholder=" ..."))


def export_allocation(engine, stages, name, config=None):
    """The placement in another engine's terms, as text. stages: dicts of devices (names) and layers; name: the model
    as that engine knows it; config: its transformers configuration (for device_map)."""
    counts, sizes = [stage["layers"] for stage in stages], [len(stage["devices"]) for stage in stages]
    groups = ["+".join(stage["devices"]) for stage in stages]
    engine = find_name(engine, ENGINES, "engine")
    if max(sizes) > 1 and engine not in ("vllm", "hexgen"):
        raise UserError(f"{engine} cannot split a layer between {groups[sizes.index(max(sizes))]}: vllm and hexgen can")
    if engine == "device_map":
        return json.dumps(map_modules(config, counts), indent=2)
    if engine == "petals":
        return "\n".join(f"python -m petals.cli.run_server {name} --block_indices {sum(counts[:s])}:"
                         f"{sum(counts[:s + 1])}  # on {group}" for s, group in enumerate(groups))
    if engine == "vllm":
        if len(set(sizes)) > 1:
            raise UserError(f"vllm splits the layers of all stages alike, not between {sizes} devices: hexgen does")
        line = (f"VLLM_PP_LAYER_PARTITION={','.join(map(str, counts))} vllm serve {name} "
                f"--pipeline-parallel-size {len(counts)} --tensor-parallel-size {sizes[0]}")
    elif engine == "llama.cpp":  # the output layer is one more
        line = f"llama-server -m {name} -ngl all -sm layer -ts {','.join(map(str, counts[:-1] + [counts[-1] + 1]))}"
    else:
        line = f"--hetero_config {' '.join(map(str, sizes))} --pp_partition {' '.join(map(str, counts))}"
    return f"# devices in this order: {', '.join(groups)}\n{line}"


# Output ---------------------------------------------------------------------------------------------------------------


def format_value(value):
    return f"{value:.3f}" if isinstance(value, float) else " ".join(str(value).split())  # a label may hold a newline


def print_table(table, more=""):
    """Prints a pandas table with its long names stacked; of rows past TABLE_ROWS the number, and `more`."""
    names = [name.split("_") for name in table]
    height = max(map(len, names))
    columns = [[""] * (height - len(name)) + name + [format_value(value) for value in table[key][:TABLE_ROWS].tolist()]
               for name, key in zip(names, table)]
    widths = [max(map(len, column)) for column in columns]
    for line in zip(*columns):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    if len(table) > TABLE_ROWS:
        print(f"... and {len(table) - TABLE_ROWS:,} more rows{more}")


def print_end(metrics, lines, paths):
    print("")
    width = max(map(len, metrics)) + 2
    for key, value in metrics.items():
        print(f"{key:{width}}{format_value(value)}")
    for line in lines:
        print(line)
    print(f"\nwritten: {', '.join(paths)}")


def check_writable(out):
    """UserError unless the folder `out` can be written in, or made."""
    if not isinstance(out, (str, os.PathLike)):
        raise UserError(f"OUT: {shown(out)} is not a folder")
    parent = os.path.abspath(out)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: {parent} is not a folder that can be written in")


def write_files(out, files):
    """Writes {file name: function of a path} into the folder `out`: all aside first, then moved, so that there are
    whole files only. Returns their paths. Raises UserError if that fails."""
    try:
        os.makedirs(out, exist_ok=True)
        aside = tempfile.mkdtemp(prefix=".writing-", dir=out)
        try:
            for name, write in files.items():
                write(os.path.join(aside, name))
            for name in files:
                os.replace(os.path.join(aside, name), os.path.join(out, name))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
    return [os.path.join(out, name) for name in files]


def csv_writer(table, quoting=csv.QUOTE_MINIMAL):
    return lambda path: table.to_csv(path, index=False, quoting=quoting)


def text_writer(text):
    def write(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return write


def shorten(name):
    """A label or name as text of a figure."""
    name = format_value(name)
    return (name if len(name) <= 16 else name[:15] + "\u2026").replace("$", r"\$")


def finish(figure, path, keys):
    """Adds the legend {name: artist} below, and writes the figure."""
    figure.legend(keys.values(), keys, fontsize=6.5, ncol=3, loc="lower center", frameon=False, columnspacing=1.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks becomes a box
        figure.tight_layout(rect=(0, (0.1 + 0.13 * -(-len(keys) // 3)) / figure.get_figheight(), 1, 1), pad=0.5)
        figure.savefig(path, format="png")


def draw_gantt(path, schedules):
    """Draws schedules one above the other, a row a task in order of arrival, one journal column wide.

    schedules: a list of (title, tasks, intervals), the tables of simulate in seconds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    shown = min(GANTT_ROWS, len(schedules[0][1]))
    figure = Figure(figsize=(3.5, 0.85 + len(schedules) * (0.45 + 0.2 * max(3, shown))), dpi=300)
    FigureCanvasAgg(figure)
    keys, ends = {}, []
    plots = figure.subplots(len(schedules), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, result, intervals) in zip(plots, schedules):
        rows = result.sort_values("arrival_time", kind="stable")[:shown].reset_index(drop=True)
        left, right = min(0, rows["arrival_time"].min()), rows["completion_time"].max()
        if len(rows) < len(result):
            title += f"\nfirst {len(rows)} of {len(result):,} tasks by arrival"
            left = rows["arrival_time"].min()  # and no further than three times what most need: one may wait for hours
            right = min(right, left + 3 * (rows["completion_time"].median() - left))
        right = max(right, left + 1e-3)
        near = rows["deadline"][rows["deadline"] <= left + 2.5 * (right - left)]  # a far one would squeeze the bars
        ends.append(left + 1.02 * (max(right, *near) - left))
        at = dict(zip(rows["label"], rows.index))
        keys["ready, waiting"] = axes.hlines(rows.index, rows["arrival_time"], rows["end_computation"], "0.55",
                                             linewidth=0.8, zorder=0)
        for kind, style in (("compute", dict(color=BLUE)),
                            ("transmit", dict(color="white", edgecolor=ORANGE, hatch="//////"))):
            bars = intervals[(intervals["kind"] == kind) & intervals["label"].isin(at)]
            keys[kind] = axes.barh(bars["label"].map(at), bars["end"] - bars["start"], 0.64, bars["start"],
                                   linewidth=0.4, **style)
        for met, name, style in ((True, "deadline met", dict(marker="|", color="black", markersize=8)),
                                 (False, "deadline missed", dict(marker="x", color=RED, markersize=5))):
            due = rows["deadline"][rows["deadline_met"] == met]
            keys[name] = axes.plot(due, due.index, linestyle="none", markeredgewidth=1.3, **style)[0]
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(rows.index)
        axes.set_yticklabels([shorten(label) for label in rows["label"]])
        axes.tick_params(labelsize=7)
        axes.set_title(title, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes, (_, result, _) in zip(plots, schedules):
        rows = result.sort_values("arrival_time", kind="stable")[:shown].reset_index(drop=True)
        beyond = rows["deadline"][rows["deadline"] > max(ends)]
        if len(beyond):
            keys["deadline later"] = axes.plot([max(ends)] * len(beyond), beyond.index, linestyle="none", marker=">",
                                               color="black", markersize=3.5, clip_on=False)[0]
    axes.set_xlim(left, max(ends))
    axes.set_xlabel("time (s)", fontsize=8)
    finish(figure, path, keys)


def draw_layers(path, metrics, stages, result, links):
    """Draws an allocation (tables in seconds), a row a stage, one journal column wide: the layers, and what a task
    takes there on average: the link into the stage, its computation, its all-reduces."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    shown = stages[:GANTT_ROWS]
    groups = [devices.split("+") for devices in shown["devices"]]
    rows = [shorten(group[0]) + "".join(f"\n+ {shorten(device)}" for device in group[1:]) for group in groups]
    work = (shown["computation_time"] / len(result)).tolist()
    reduce = [4 * (len(group) - 1) / len(group) * links.loc[group, group].to_numpy().max() * layers
              for group, layers in zip(groups, shown["layers"])]
    delay = shown["link_delay"].tolist()
    if len(shown) == len(stages):
        rows, delay = rows + ["client"], delay + [result["trans_time"].iloc[0]]
    unused = [device for device in links.index[:-1] if device not in "+".join(stages["devices"]).split("+")]
    rows = [*rows, *(f"{shorten(device)}, unused" for device in unused[:GANTT_ROWS])]
    tall = 0.13 * max(map(len, groups)) + 0.08
    figure = Figure(figsize=(3.5, 1.1 + tall * len(rows)), dpi=300)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for k, layers in enumerate(shown["layers"]):
        left.barh(k, layers, 0.66, color=SKY, edgecolor="black", linewidth=0.4)
        left.text(layers, k, f" {layers}", va="center", fontsize=7)
    left.set_xlim(0, 1.2 * shown["layers"].max())
    keys = [("link in", delay, [0] * len(delay), dict(color="white", edgecolor=ORANGE, hatch="//////")),
            ("computation", work, delay, dict(color=BLUE)),
            ("all-reduces", reduce, [a + b for a, b in zip(delay, work)], dict(color="white", edgecolor=RED,
                                                                              hatch="......"))]
    for key, width, start, style in keys:
        at = [k for k, seconds in enumerate(width) if seconds]
        if at:
            right.barh(at, [width[k] for k in at], 0.66, [start[k] for k in at], linewidth=0.4, label=key, **style)
    left.set_yticks(range(len(rows)))
    left.set_yticklabels(rows)
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.set_xlabel("layers", fontsize=8)
    right.set_xlabel("mean time of a task (s)", fontsize=8)
    for axes in (left, right):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    more = f", first {len(shown)} of {len(stages)} stages" if len(shown) < len(stages) else ""
    figure.suptitle(f"{metrics['algorithm']}: {metrics['model']}, pool {metrics['pool']}{more}", fontsize=8)
    finish(figure, path, dict(zip(*right.get_legend_handles_labels()[::-1])))


def draw_bars(path, panels, groups, who, table, columns=None):
    """Draws means with their 95 % intervals as bars, one journal column wide: a row of panels for each metric.

    panels: a list of (metric, axis label with its unit); groups: the key of `table` (one of compare()) whose values
    stand on the x axis; who: the algorithms, a bar each; columns: the key whose values have a column of panels each.
    """
    import matplotlib
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    looks = [(BLUE, ""), (SKY, "/////"), (ORANGE, "....."), (RED, "\\\\\\\\\\"), ("white", "xxxxx"), ("0.75", "-----")]
    values = [None] if columns is None else table[columns].unique().tolist()
    names, width, keys = table[groups].unique().tolist(), 0.84 / len(who), {}
    with matplotlib.rc_context({"hatch.linewidth": 0.4}):
        figure = Figure(figsize=(3.5, 0.75 + 0.85 * len(panels)), dpi=300)
        FigureCanvasAgg(figure)
        plots = figure.subplots(len(panels), len(values), sharex=True, sharey="row", squeeze=False)
        for (metric, label), row in zip(panels, plots):
            for value, axes in zip(values, row):
                part = table[(table["metric"] == metric) & (columns is None or table[columns] == value)]
                for k, name in enumerate(who):
                    bars = part[part["algorithm"] == name].set_index(groups).reindex(names)
                    at = np.arange(len(names)) + (k - (len(who) - 1) / 2) * width
                    color, hatch = looks[k % len(looks)]
                    keys[name] = axes.bar(at, bars["mean"], width, color=color, hatch=hatch, edgecolor="black",
                                          linewidth=0.4)
                    axes.errorbar(at, bars["mean"], bars["interval"].fillna(0), fmt="none", ecolor="black",
                                  elinewidth=0.7, capsize=1.5, capthick=0.7)
                if (part["mean"] < 0).any():
                    axes.axhline(0, color="black", linewidth=0.6)
                axes.locator_params(axis="y", nbins=4)
                axes.tick_params(labelsize=7)
                axes.spines[["top", "right"]].set_visible(False)
            if (table["mean"][table["metric"] == metric] >= 0).all():
                row[0].set_ylim(bottom=0)
            row[0].set_ylabel(label, fontsize=7)
        for value, top, bottom in zip(values, plots[0], plots[-1]):
            if value is not None:
                top.set_title(shorten(value), fontsize=8)
            bottom.set_xticks(range(len(names)))
            bottom.set_xticklabels([textwrap.fill(shorten(name), 8) for name in names])
            bottom.set_xlabel(groups, fontsize=8)
        figure.align_ylabels(plots[:, 0])
        finish(figure, path, keys)


# Command line ---------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):  # one line, without the usage
        raise UserError(message)


def make_parser(name, doc, tasks, settings):
    """The flags that all scripts have; add_argument adds a script's own before parse_args."""
    parser = Parser(prog=f"{name}.py", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", metavar="FILE", default=tasks, help="CSV or JSON in the task format, or a trace "
                        f"as published ({', '.join(TRACES)}), in place of the list in the script")
    parser.add_argument("--model", metavar="NAME", default=settings["model"],
                        help=f"{', '.join(MODELS)}, a folder or owner/model")
    parser.add_argument("--out", metavar="DIR", default=settings["out"], help="the folder for the files")
    parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    parser.add_argument("--checkpoint", metavar="NAME", help="the real model: a hub name, a folder or a GGUF file "
                        "(otherwise a small one with random weights)")
    parser.add_argument("--sample", action="store_true", help="let the real model draw its tokens, seeded")
    parser.add_argument("--calibrate", action="store_true", help="measure a real model's layers here, beside estimates")
    return parser


def add_compare(parser, settings):
    parser.add_argument("--compare", action="store_true", help="compare the methods: tables, figures, paper's claims")
    parser.add_argument("--runs", metavar="N", type=int, default=settings["runs"], help="of --compare: random cases")


def run(main, name, *arguments):
    """main(name, *arguments), exiting with one line on standard error: 1 for NoAllocation, 2 for a UserError, 130 when
    interrupted."""
    try:
        if (launched() or (0, 1))[0] > 0:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for good: the first rank prints for all
        main(name, *arguments)
        sys.stdout.flush()
    except (NoAllocation, UserError) as error:
        status = 1 if isinstance(error, NoAllocation) else 2
        if launched():
            stop_ranks(str(error), status)
        print(f"{name}.py: {error}", file=sys.stderr)
        sys.exit(status)
    except KeyboardInterrupt:
        print(f"{name}.py: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output, `head` perhaps, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def run_scheduler(name, schedule, tasks, doc, **settings):
    """Runs a scheduling script: command line, tasks, schedule, metrics, files, tables.

    schedule: function of a task table (read_tasks) to compute intervals; settings: model, device, link and out, for
    optimal.py objective, time_limit and solver besides, which `schedule` then gets, with link, as arguments.
    """
    run(scheduler_main, name, schedule, tasks, doc, settings)


def run_allocator(name, allocate, tasks, doc, **settings):
    """Runs an allocation script: command line, tasks, bids, links, allocation, metrics, files, tables.

    allocate: function of layers, bids, delay, times, arrivals and seed (as in evaluate; arrivals in seconds) to the
    stages and lines of text about them; settings: model, pool, seed, out, bids and links.
    """
    run(allocator_main, name, allocate, tasks, doc, settings)


def scheduler_main(name, schedule, tasks, doc, settings):
    parser = make_parser(name, doc, tasks, settings)
    parser.add_argument("--load", metavar="X", type=float, help="stretch the arrivals so that computation / span = X")
    parser.add_argument("--device", metavar="TYPE", default=settings["device"], help=", ".join(DEVICES))
    parser.add_argument("--link", metavar="LINK", default=settings["link"], help=f"the uplink: {' or '.join(LINKS)}")
    if "objective" in settings:
        parser.add_argument("--objective", metavar="NAME", default=settings["objective"], help="makespan or turnaround")
        parser.add_argument("--time-limit", metavar="S", type=float, default=settings["time_limit"],
                            help="seconds for the exact program; past it, the best found is returned with its gap")
    parser.add_argument("--measure", action="store_true", help="run each task on the real model, and schedule what it "
                        "took")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of real models, and of what --compare draws")
    if "compare" in settings:
        add_compare(parser, settings)
    args = parser.parse_args()

    seed = int(check_number(args.seed, "--seed", whole=True))
    if launched():
        raise UserError("torchrun is for the --execute of an allocation script")
    if (args.checkpoint or args.sample) and not (args.measure or args.calibrate):
        raise UserError("--checkpoint and --sample are for --measure or --calibrate")
    link = find_name(args.link, LINKS, "link")
    device = DEVICES[find_name(args.device, DEVICES, "device")]
    if args.load is not None and check_number(args.load, "--load") == 0:
        raise UserError("--load: 0 is not a load")
    options = {}
    if "objective" in settings:
        options = dict(link=link, objective=find_name(args.objective, ("makespan", "turnaround"), "objective"),
                       time_limit=check_number(args.time_limit, "--time-limit"), solver=settings["solver"])
    check_writable(args.out)
    if args.calibrate:
        print(*calibrate(load_checkpoint(args.checkpoint)[0], device), sep="\n")
        return
    if args.measure:
        real, tokenizer, text = load_checkpoint(args.checkpoint, seed=seed)
        model = real_model(args.checkpoint, real.config, 8 * next(real.parameters()).element_size())
        table = read_tasks(args.tasks, model, device)
        print(f"measuring on {text}", flush=True)
        table, texts = measure_tasks(table, real, tokenizer, args, seed)
    else:
        model = get_model(args.model)
        table = read_tasks(args.tasks, model, device, load=args.load)
    if "compare" in settings and args.compare:
        settings["compare"](table, model, device, link, args)
        return
    where = "measured here" if args.measure else f"on {device.type}"
    about = [f"{len(table):,} tasks", f"{model.name} ({model.layers} layers, {model.bits} bits) {where}",
             f"{link} uplink"] + [f"{key.replace('_', ' ')} {options[key]}" for key in options if key != "link"]
    print(f"{name}: {', '.join(about)}\n", flush=True)

    intervals = schedule(table, **options)
    result, everything = simulate(table, intervals, link)
    metrics = scheduling_metrics(name, table, result, model, device)
    metrics.update(intervals.attrs.get("metrics", {}))
    if metrics["memory_utilization"] > 1:
        warn(f"weights and KV caches reach {metrics['peak_memory_gb']:.1f} GB, the {device.type} has "
             f"{device.memory} GB: these are the times of one that could hold them")
    result, everything = in_seconds(result), in_seconds(everything)
    import pandas as pd
    files = {f"{name}_tasks.csv": csv_writer(result), f"{name}_intervals.csv": csv_writer(everything),
             f"{name}_metrics.csv": csv_writer(pd.DataFrame([metrics]))}
    if args.measure:
        files[f"{name}_texts.csv"] = csv_writer(texts, csv.QUOTE_NONNUMERIC)
    if not args.no_plot:
        files[f"{name}_gantt.png"] = lambda path: draw_gantt(path, [(name, result, everything)])
    paths = write_files(args.out, files)
    print_table(result[SHOWN], f" in {paths[0]}")
    if args.measure:
        print_texts(texts)
    print_end(metrics, intervals.attrs.get("summary", []), paths)


def allocator_main(name, allocate, tasks, doc, settings):
    parser = make_parser(name, doc, tasks, settings)
    parser.add_argument("--pool", metavar="NAME", default=settings["pool"], help=f"the devices: {', '.join(POOLS)}")
    parser.add_argument("--seed", metavar="N", type=int, default=settings["seed"], help="of the links and bids drawn")
    parser.add_argument("--bids", metavar="FILE", default=settings["bids"], help="your bids, as NAME_bids.csv or JSON")
    parser.add_argument("--links", metavar="FILE", default=settings["links"], help="your links, as NAME_links.csv or "
                        "JSON")
    parser.add_argument("--execute", action="store_true", help="run the allocated pipeline on the real model; under "
                        "torchrun, stage r on rank r")
    parser.add_argument("--export", metavar="ENGINE", help=f"write the allocation for {', '.join(ENGINES)}")
    if "compare" in settings:
        add_compare(parser, settings)
        parser.add_argument("--audit", action="store_true", help="what bidders gain from asking or offering otherwise")
    args = parser.parse_args()

    pool = find_name(args.pool, POOLS, "pool")
    seed = int(check_number(args.seed, "--seed", whole=True))
    check_writable(args.out)
    if launched() and not args.execute:
        raise UserError("torchrun is for --execute")
    engine = find_name(args.export, ENGINES, "engine") if args.export else None
    if args.calibrate:
        real = load_checkpoint(args.checkpoint)[0]
        for device in {kind: DEVICES[kind] for _, kind, _ in POOLS[pool]}.values():
            print(*calibrate(real, device), "", sep="\n")
        return
    if args.execute or args.checkpoint:
        config = load_config(args.checkpoint)
        model = real_model(args.checkpoint, config)
    else:
        known, config, bits = read_config(args.model)
        model = model_from_config(known, config, bits)
    if "compare" in settings and (args.compare or args.audit):
        if args.bids is not None or args.links is not None:
            raise UserError("--compare and --audit draw the bids and links of many runs: leave out your own")
        if check_number(args.runs, "--runs", whole=True) == 0:
            raise UserError("--runs: must be at least 1")
        if args.compare:
            settings["compare"](args, seed)
        else:
            settings["audit"](args, pool, seed)
        return
    tasks, estimates = allocation_tasks(args.tasks, model, pool)
    bids, links, times, memory = allocation_case(model, pool, tasks, estimates, seed, args.bids, args.links)
    delay = links.to_numpy()
    print(f"{name}: {len(tasks):,} tasks, {model.name} ({model.layers} layers, {model.bits} bits), pool {pool} "
          f"({len(bids)} devices bid), seed {seed}\n\nbids")
    print_table(bids)
    if len(links) <= TABLE_ROWS:
        print("\nlinks (s)")
        print_table(links.rename_axis("").reset_index())

    arrivals = tasks["arrival_time"].to_numpy() / US
    stages, notes = allocate(layers=model.layers, bids=bids, delay=delay, times=times, arrivals=arrivals, seed=seed)
    print("", *notes, "", sep="\n")
    table, result, intervals, found = evaluate(stages, tasks, bids, delay, times, model, memory)
    metrics = dict(algorithm=name, model=model.name, pool=pool, **found)
    table, result, intervals = in_seconds(table), in_seconds(result.sort_index()), in_seconds(intervals)
    import pandas as pd
    files = {f"{name}_{end}.csv": csv_writer(content) for end, content in (
        ("stages", table), ("tasks", result), ("intervals", intervals), ("bids", bids),
        ("links", links.rename_axis("").reset_index()), ("metrics", pd.DataFrame([metrics])))}
    if not args.no_plot:
        files[f"{name}_layers.png"] = lambda path: draw_layers(path, metrics, table, result, links)
    if engine:
        groups = [dict(devices=bids["device"][stage["devices"]].tolist(), layers=stage["layers"]) for stage in stages]
        exported = export_allocation(engine, groups, args.checkpoint or model.name, config)
        files[f"{name}_{engine}.{'json' if engine == 'device_map' else 'txt'}"] = text_writer(exported + "\n")
    if args.execute:
        lines, measured, texts = execute(tasks, table, args, config, seed)
        texts = texts.sort_index()
        files.update({f"{name}_measured.csv": csv_writer(measured),
                      f"{name}_texts.csv": csv_writer(texts, csv.QUOTE_NONNUMERIC)})
    paths = write_files(args.out, files)
    print_table(table)
    print("")
    print_table(result[SHOWN], f" in {paths[1]}")
    if args.execute:
        print("", *lines, sep="\n")
        print_table(measured)
        print_texts(texts)
    if engine:
        print(f"\n{exported}")
    print_end(metrics, [], paths)
