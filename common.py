"""What the scripts share: models, devices, time estimates, task lists, the uplink, metrics, tables and files.

Lists and files hold seconds. Inside, every time is a whole number of microseconds, converted once when tasks are
read, so that comparisons are exact. numpy, pandas, matplotlib and transformers are imported by the functions that
need them: `--help` needs none.
"""
import argparse
import csv
import json
import math
import numbers
import os
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass

TOKENS_PER_WORD = 1.33  # English text in the usual sub-word vocabularies
COMPUTE_EFFICIENCY = 0.5  # share of the peak FLOP/s that matrix products reach
BANDWIDTH_EFFICIENCY = 0.8  # share of the peak memory bandwidth that reading weights reaches
TRACE_TRANS_RATE = 100  # tokens/s: a request of a trace sends its result in output tokens / this
TRACE_SLACK = 3  # a request's deadline: arrival + this x (computation + transmission)
TABLE_ROWS = 20  # of a longer table the first rows are printed
GANTT_ROWS = 30  # of a longer task list the Gantt chart shows the first rows

US = 1000000  # microseconds per second
LINKS = ("shared", "dedicated")
FIELDS = ("label", "prompt", "arrival_time", "output_words", "trans_time", "deadline")  # of a task
TRACES = {  # a published trace, recognised by its columns: arrival, prompt tokens, output tokens
    "Azure LLM inference": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "BurstGPT": ("Timestamp", "Request tokens", "Response tokens"),
}
RESULT = ("label arrival_time computation_time trans_time deadline start_time end_computation completion_time "
          "response_time waiting_time turnaround_time deadline_met preemptions").split()  # columns of NAME_tasks.csv
SHOWN = ("label arrival_time computation_time trans_time start_time end_computation completion_time deadline "
         "deadline_met preemptions").split()  # those of them that fit a terminal
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"  # Okabe and Ito's colours, told apart by colour-blind readers


class UserError(Exception):
    """A mistake in the input, or something missing on the machine: a script prints the line and exits with 2."""


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
    """A type of device. memory: GB; tflops: fp16 TFLOP/s without sparsity; bandwidth: GB/s."""
    type: str
    memory: float
    tflops: float
    bandwidth: float


DEVICES = {device.type: device for device in (  # from the makers' data sheets; a new type is one more line
    Device("RTX 4090", memory=24, tflops=165, bandwidth=1008),
    Device("T4", memory=16, tflops=65, bandwidth=320),
)}
MODELS = {  # name: type of transformers configuration, bits per weight, settings
    "GPT-Neo 1.3B": ("gpt_neo", 16, dict(num_layers=24, hidden_size=2048, num_heads=16, max_position_embeddings=2048,
                                         attention_types=[[["global", "local"], 12]])),
    "GPT-3 175B": ("gpt2", 4, dict(n_layer=96, n_embd=12288, n_head=96, n_positions=2048)),
    "BLOOM-176B": ("bloom", 4, dict(n_layer=70, hidden_size=14336, n_head=112, seq_length=2048)),
}
# The types whose feed-forward block has two matrices; in all others a third one gates it.
UNGATED = ("biogpt bloom codegen falcon gpt2 gpt_bigcode gpt_neo gpt_neox gptj mpt nemotron opt persimmon phi "
           "starcoder2 xglm").split()


def get_model(name):
    """Model from a name in MODELS, a folder with a config.json, or a hub name (owner/model; network or cache)."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # torch is missing, it says: not needed here
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    name = str(name)
    if not os.path.isdir(name) and "/" not in name:
        name = find_name(name, MODELS, "model")
        from transformers import AutoConfig
        config_type, bits, settings = MODELS[name]
        return model_from_config(name, AutoConfig.for_model(config_type, **settings), bits)
    from transformers import AutoConfig
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # transformers and the hub raise many kinds; all mean that it cannot be read
        raise UserError(f"model {shown(name)}: {str(error).strip().splitlines()[0]}") from error
    return model_from_config(name, config)


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


def check_tasks(rows, place):
    """UserError, beginning with `place`, unless rows is a list of tasks in the task format."""
    if not isinstance(rows, (list, tuple)):
        raise UserError(f"{place}: must be a list of tasks")
    seen = {}
    for k, row in enumerate(rows, 1):
        where = f"{place}, row {k}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: {shown(row)} is not a task")
        for field in FIELDS:
            if field not in row:
                raise UserError(f"{where}, {field}: missing")
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


def read_file(path):
    """Rows of a task file or trace (CSV; JSON where the name ends in .json) and the trace's name, or None."""
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
    trace = next((name for name in TRACES if set(TRACES[name]) <= set(header)), None)
    if not trace and not set(FIELDS) <= set(header):
        raise UserError(f"{path}: the header must be {','.join(FIELDS)}, or that of a trace ({', '.join(TRACES)})")
    for k, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise UserError(f"{path}, row {k}: {len(line)} fields under a header of {len(header)}")
    rows = [{key: cell if key in ("label", "prompt") else number_or_text(cell) for key, cell in zip(header, line)
             if cell or key != "computation_time"} for line in lines[1:]]  # an empty optional cell: no such field
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


def read_tasks(tasks, model, device, load=None):
    """Table of tasks from a list in the task format, or from the path of a task file or a trace.

    Returns a pandas table, a row a task in the order given: label, prompt, arrival_time, computation_time, trans_time,
    deadline (whole microseconds; computation estimated on `device` where the task gives none), prompt_tokens,
    output_tokens, kv_bytes. `load` stretches the arrivals, from the first, so that all computation / span of
    arrivals = load; a deadline moves with its arrival. Raises UserError naming file, row and field.
    """
    import numpy as np
    import pandas as pd
    place = tasks if isinstance(tasks, str) else "tasks"
    rows, trace = read_file(tasks) if isinstance(tasks, str) else (tasks, None)
    if trace:
        label, arrival, prompt_tokens, output_tokens = read_requests(rows, trace, place)
        table = pd.DataFrame({"label": label, "prompt": "", "arrival_time": arrival,
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
    estimate = pd.Series(model.layers * layer_time(model, device, prompt, output))
    if trace:
        table["computation_time"] = estimate
        table["deadline"] = table["arrival_time"] + TRACE_SLACK * (estimate + table["trans_time"])
    else:
        table["computation_time"] = table["computation_time"].astype(float).fillna(estimate)
    if load is not None:
        since = table["arrival_time"] - table["arrival_time"].min()
        if since.max() == 0:
            raise UserError(f"{place}: --load needs tasks that arrive at different times")
        later = since * (table["computation_time"].sum() / since.max() / load - 1)
        table["arrival_time"] += later
        table["deadline"] += later
    times = ["arrival_time", "computation_time", "trans_time", "deadline"]
    if table[times].to_numpy(float).sum() > 1e12:
        raise UserError(f"{place}: the times add up to more than 1e12 s")
    table[times] = np.rint(table[times].astype(float) * US)
    return table.astype(dict.fromkeys(times, "int64"))


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
    times = [key for key in table if key.endswith("_time") or key in ("deadline", "end_computation", "start", "end")]
    return table.assign(**{key: table[key] / US for key in times})


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
    whole files only. Returns their paths."""
    os.makedirs(out, exist_ok=True)
    aside = tempfile.mkdtemp(prefix=".writing-", dir=out)
    try:
        for name, write in files.items():
            write(os.path.join(aside, name))
        for name in files:
            os.replace(os.path.join(aside, name), os.path.join(out, name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [os.path.join(out, name) for name in files]


def csv_writer(table):
    return lambda path: table.to_csv(path, index=False)


def draw_gantt(path, title, result, intervals):
    """Draws a schedule (tables of simulate, in seconds), a row a task in order of arrival, one journal column wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    rows = result.sort_values("arrival_time", kind="stable")[:GANTT_ROWS].reset_index(drop=True)
    left, right = min(0, rows["arrival_time"].min()), rows["completion_time"].max()
    if len(rows) < len(result):
        title += f"\nfirst {len(rows)} of {len(result):,} tasks by arrival"
        left = rows["arrival_time"].min()  # and no further than three times what most need: one may wait for hours
        right = min(right, left + 3 * (rows["completion_time"].median() - left))
    right = max(right, left + 1e-3)
    near = rows["deadline"][rows["deadline"] <= left + 2.5 * (right - left)]  # a far one would squeeze the bars
    right = left + 1.02 * (max(right, *near) - left)
    figure = Figure(figsize=(3.5, 1.3 + 0.2 * max(3, len(rows))), dpi=300)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    at = dict(zip(rows["label"], rows.index))
    waits = axes.hlines(rows.index, rows["arrival_time"], rows["end_computation"], "0.55", linewidth=0.8, zorder=0)
    keys = [(waits, "ready, waiting")]
    for kind, style in (("compute", dict(color=BLUE)),
                        ("transmit", dict(color="white", edgecolor=ORANGE, hatch="//////"))):
        bars = intervals[(intervals["kind"] == kind) & intervals["label"].isin(at)]
        keys.append((axes.barh(bars["label"].map(at), bars["end"] - bars["start"], 0.64, bars["start"],
                               linewidth=0.4, **style), kind))
    for met, name, style in ((True, "deadline met", dict(marker="|", color="black", markersize=8)),
                             (False, "deadline missed", dict(marker="x", color=RED, markersize=5))):
        due = rows["deadline"][rows["deadline_met"] == met]
        keys += [(axes.plot(due, due.index, linestyle="none", markeredgewidth=1.3, **style)[0], name)]
    beyond = rows["deadline"][rows["deadline"] > right]
    if len(beyond):
        keys += [(axes.plot([right] * len(beyond), beyond.index, linestyle="none", marker=">", color="black",
                            markersize=3.5, clip_on=False)[0], "deadline later")]
    axes.set_xlim(left, right)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(rows.index)
    labels = [format_value(label).replace("$", r"\$") for label in rows["label"]]
    axes.set_yticklabels([label if len(label) <= 16 else label[:15] + "\u2026" for label in labels])
    axes.tick_params(labelsize=7)
    axes.set_xlabel("time (s)", fontsize=8)
    axes.set_title(title, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*zip(*keys), fontsize=6.5, ncol=3, loc="lower center", frameon=False, columnspacing=1.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font lacks becomes a box
        figure.tight_layout(rect=(0, 0.36 / figure.get_figheight(), 1, 1), pad=0.5)
        figure.savefig(path, format="png")


# Command line ---------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):  # one line, without the usage
        raise UserError(message)


def run_scheduler(name, schedule, tasks, doc, **settings):
    """Runs a scheduling script: command line, tasks, schedule, metrics, files, tables.

    schedule: function of a task table (read_tasks) to compute intervals; settings: model, device, link and out, for
    optimal.py objective, time_limit and solver besides, which `schedule` then gets, with link, as arguments. Exits
    with 2 and one line on standard error for a UserError, with 130 when interrupted.
    """
    try:
        scheduler_main(name, schedule, tasks, doc, settings)
        sys.stdout.flush()
    except UserError as error:
        print(f"{name}.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}.py: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output, `head` perhaps, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def scheduler_main(name, schedule, tasks, doc, settings):
    parser = Parser(prog=f"{name}.py", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", metavar="FILE", default=tasks, help="CSV or JSON in the task format, or a trace "
                        f"as published ({', '.join(TRACES)}), in place of the list in the script")
    parser.add_argument("--load", metavar="X", type=float, help="stretch the arrivals so that computation / span = X")
    parser.add_argument("--model", metavar="NAME", default=settings["model"],
                        help=f"{', '.join(MODELS)}, a folder or owner/model")
    parser.add_argument("--device", metavar="TYPE", default=settings["device"], help=", ".join(DEVICES))
    parser.add_argument("--link", metavar="LINK", default=settings["link"], help=f"the uplink: {' or '.join(LINKS)}")
    if "objective" in settings:
        parser.add_argument("--objective", metavar="NAME", default=settings["objective"], help="makespan or turnaround")
        parser.add_argument("--time-limit", metavar="S", type=float, default=settings["time_limit"],
                            help="seconds for the exact program; past it, the best found is returned with its gap")
    parser.add_argument("--out", metavar="DIR", default=settings["out"], help="the folder for the files")
    parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    args = parser.parse_args()

    link = find_name(args.link, LINKS, "link")
    device = DEVICES[find_name(args.device, DEVICES, "device")]
    if args.load is not None and check_number(args.load, "--load") == 0:
        raise UserError("--load: 0 is not a load")
    options = {}
    if "objective" in settings:
        options = dict(link=link, objective=find_name(args.objective, ("makespan", "turnaround"), "objective"),
                       time_limit=check_number(args.time_limit, "--time-limit"), solver=settings["solver"])
    check_writable(args.out)
    model = get_model(args.model)
    table = read_tasks(args.tasks, model, device, args.load)
    about = [f"{len(table):,} tasks", f"{model.name} ({model.layers} layers, {model.bits} bits) on {device.type}",
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
    if not args.no_plot:
        files[f"{name}_gantt.png"] = lambda path: draw_gantt(path, name, result, everything)
    try:
        paths = write_files(args.out, files)
    except OSError as error:
        raise UserError(f"--out {args.out}: {error.strerror}") from error
    print_table(result[SHOWN], f" in {paths[0]}")
    print("")
    for key, value in metrics.items():
        print(f"{key:22}{format_value(value)}")
    for line in intervals.attrs.get("summary", []):
        print(line)
    print(f"\nwritten: {', '.join(paths)}")
