"""What the nine scripts share: models, devices, task lists, bids and links, the simulation of a schedule and of a
pipeline, metrics, files and figures.

Lists and files hold seconds. Inside, times are whole microseconds, converted once when tasks are read, so that equal
times compare equal. Read it from the top: what a user edits, the two kinds of run, then what these call, in order.
"""
import argparse
import contextlib
import inspect
import itertools
import json
import math
import os
import pathlib
import runpy
import signal
import sys
import tempfile
import textwrap
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

US = 1000000  # microseconds per second
TOKENS_PER_WORD = 1.33  # English text in the usual sub-word vocabularies
MEMORY_SHARE = 0.9  # of a device's memory: what layers and KV caches may take
LINK_SCALE = 3  # s: Rayleigh scale of a link between hosts
HOST_LINK = 0.02  # s: a link within a host
OFFER = (0.6, 1)  # a bid offers between these shares of what its device can hold
MARGIN = (1.1, 1.6)  # a bid asks between these multiples of its true cost
ELECTRICITY = 0.30  # USD/kWh: what a device costs its owner while it computes, unless it is rented
TABLE_ROWS = 20  # of a longer table of the nine only these are printed
TEXT_WIDTH = 100  # columns: nothing that is printed is wider
PLOT_ROWS = 30  # of a longer list only these tasks are drawn
LINKS = ("shared", "dedicated")


# Models and devices: what a user edits --------------------------------------------------------------------------------
@dataclass
class Model:
    """A stack of equal decoder layers."""
    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    context: int  # tokens
    bits: float = 16  # of a weight
    kv_heads: int = 0  # 0: as many as heads
    head_dim: int = 0  # 0: hidden / heads
    gated: bool = False  # a third matrix gates the feed-forward block

    def __post_init__(self):
        self.kv_heads = self.kv_heads or self.heads
        self.head_dim = self.head_dim or self.hidden // self.heads

    @property
    def params(self):
        """Weights of a layer's matrices, biases left out: query, output, key, value, and the feed-forward block."""
        attention = (2 * self.heads + 2 * self.kv_heads) * self.head_dim * self.hidden
        feed_forward = (3 if self.gated else 2) * self.feed_forward * self.hidden
        return attention + feed_forward

    @property
    def layer_bytes(self):
        return self.params * self.bits / 8

    @property
    def kv_bytes(self):
        """Bytes of KV cache per token, over all layers: a key and a value of 16 bits each."""
        return 4 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Device:
    """A type of device: its peaks, and the shares of them that a layer reaches."""
    type: str
    memory: float  # GB
    tflops: float  # fp16, dense
    bandwidth: float  # GB/s
    watts: float
    compute_share: float
    bandwidth_share: float
    price_per_hour: float = None  # USD: a rent, in place of electricity


MODELS = [  # a new model: one more line
    Model("GPT-Neo 1.3B", layers=24, hidden=2048, feed_forward=8192, heads=16, context=2048),
    Model("GPT-3 175B", layers=96, hidden=12288, feed_forward=49152, heads=96, context=2048, bits=4),
    Model("BLOOM-176B", layers=70, hidden=14336, feed_forward=57344, heads=112, context=2048, bits=4),
    Model("Llama 3.1 8B", layers=32, hidden=4096, feed_forward=14336, heads=32, context=131072, kv_heads=8, gated=True),
    Model("Llama 3.3 70B", layers=80, hidden=8192, feed_forward=28672, heads=64, context=131072, kv_heads=8, gated=True,
          bits=4),
    Model("Qwen2.5 7B", layers=28, hidden=3584, feed_forward=18944, heads=28, context=32768, kv_heads=4, gated=True),
    Model("Mistral 7B", layers=32, hidden=4096, feed_forward=14336, heads=32, context=32768, kv_heads=8, gated=True),
]
# Peaks and watts: the makers' data sheets (V100 and A100: SXM; Jetson: MAXN). The shares fit measured times of layers:
# of Helix (ASPLOS 2025; LLaMA-30B and -70B) and, for the RTX 4090, of LLMServingSim 2 (CASYS, KAIST; Llama-3.1-8B).
DEVICES = [  # a new type: one more line
    # type, memory, tflops, bandwidth, watts, compute_share, bandwidth_share
    Device("T4", 16, 65, 320, 70, 0.42, 0.73),
    Device("L4", 24, 121, 300, 72, 0.37, 0.81),
    Device("V100", 16, 125, 900, 300, 0.71, 0.75),
    Device("A100", 40, 312, 1555, 400, 0.75, 0.77),
    Device("RTX 4090", 24, 165, 1008, 450, 0.95, 0.89),
    # Shares of these two: assumed, as no profile of their layers is published.
    Device("RTX 3060", 12, 25.5, 360, 170, 0.7, 0.75),
    Device("Jetson AGX Orin", 64, 42.5, 204.8, 60, 0.5, 0.75),
]
POOLS = {  # (device, type, host), of a rented one also its USD/h: a new device is one more of them
    "campus": [
        ("GPU 1", "RTX 4090", "host 1"), ("GPU 2", "RTX 4090", "host 1"), ("GPU 3", "RTX 4090", "host 2"),
        ("GPU 4", "RTX 4090", "host 2"), ("GPU 5", "RTX 4090", "host 3"), ("GPU 6", "RTX 4090", "host 4"),
        ("GPU 7", "T4", "host 5"), ("GPU 8", "T4", "host 5"), ("GPU 9", "T4", "host 6"),
        ("GPU 10", "T4", "host 7"), ("GPU 11", "T4", "host 8"), ("GPU 12", "T4", "host 9")],
    "paper": [
        ("GPU 1", "RTX 4090", "host 1"), ("GPU 2", "RTX 4090", "host 2"), ("GPU 3", "RTX 4090", "host 3"),
        ("GPU 4", "T4", "host 4"), ("GPU 5", "T4", "host 5"), ("GPU 6", "T4", "host 6")],
    "workstations": [
        ("GPU 1", "RTX 4090", "host 1"), ("GPU 2", "RTX 4090", "host 1"), ("GPU 3", "RTX 4090", "host 2"),
        ("GPU 4", "T4", "host 2"), ("GPU 5", "T4", "host 3"), ("GPU 6", "T4", "host 3")],
}
RENTS = {"RTX 4090": 0.40, "T4": 0.15}  # USD/h: assumed
POOLS["cloud"] = [(*line, RENTS[line[1]]) for line in POOLS["campus"]]  # the same devices, rented
# Settings that a flag may override. The others are set in the script alone.
FLAGS = {
    "tasks": "a CSV or JSON file in the task format, or a script whose list is taken",
    "model": "a name in common.MODELS",
    "device": "a type in common.DEVICES",
    "link": "shared or dedicated",
    "pool": "a name in common.POOLS",
    "seed": "of the links and bids that are drawn",
    "bids": "a CSV or JSON file of bids, in the format of NAME_bids.csv",
    "links": "a CSV or JSON file of links, in the format of NAME_links.csv",
    "objective": "makespan or turnaround",
    "time_limit": "seconds for the solver",
    "out": "the folder that files are written into",
}


# The two kinds of run -------------------------------------------------------------------------------------------------
def run_scheduler(schedule, tasks, doc, **settings):
    """Runs a scheduling script. schedule: function of a task table (see read_tasks) to compute intervals (label, start,
    end; microseconds); settings: those at the top of the script, in lower case."""
    def main(name):
        args = make_parser(name, doc, tasks=tasks, **settings).parse_args()
        model = get_model(args.model)
        device = get_device(args.device)
        args.link = find_name(args.link, LINKS, "link")
        table = read_tasks(args.tasks, model, [device])

        wanted = list(inspect.signature(schedule).parameters)[1:]  # the settings that it takes beside the table
        intervals = schedule(table, **{key: value for key, value in vars(args).items() if key in wanted})
        result, everything = simulate(table, intervals, args.link)
        metrics = scheduling_metrics(table, result, model, device)
        if metrics["memory_utilization"] > 1:
            warn(f"the tasks need more memory at once than the {device.type} has: see memory_utilization")
        metrics.update(intervals.attrs.get("metrics", {}))

        args.model = measured_on(table, "model") or model.name
        args.device = measured_on(table, "device") or device.type
        result = in_seconds(result)
        everything = in_seconds(everything)
        files = {"tasks.csv": result, "intervals.csv": everything}
        figure = f"{name}_gantt.png", schedule_figure, name, result, everything
        report(name, args, metrics, intervals.attrs.get("summary", []), [result], files, figure)
    run(main, pathlib.Path(sys.argv[0]).stem)


def run_allocator(allocate, tasks, doc, **settings):
    """Runs an allocation script. allocate: function of an allocation_case, as keywords, to stages (see evaluate) and
    lines of text about them; settings: those at the top of the script, in lower case."""
    def main(name):
        args = make_parser(name, doc, tasks=tasks, **settings).parse_args()
        model = get_model(args.model)
        args.model = model.name
        args.pool = find_name(args.pool, POOLS, "pool")
        args.seed = int(check_number(args.seed, "--seed", whole=True))
        case = allocation_case(args.tasks, model, args.pool, args.seed, args.bids, args.links)

        stages, notes = allocate(**{**vars(args), **case})
        by_stage, result, intervals, metrics = evaluate(stages, **case)

        by_stage = in_seconds(by_stage)
        result = in_seconds(result).sort_index()
        files = {"stages.csv": by_stage.drop(columns="allreduce_time"), "tasks.csv": result,
                 "intervals.csv": in_seconds(intervals), "bids.csv": case["bids"],
                 "links.csv": case["links"].rename_axis("").reset_index()}
        figure = f"{name}_layers.png", layers_figure, f"{name}: {model.name}, pool {args.pool}", by_stage, len(result)
        notes = [*notes, "stages: computation time of all tasks, link delay of one; seconds, cents"]
        report(name, args, metrics, notes, [files["stages.csv"], result], files, figure)
    run(main, pathlib.Path(sys.argv[0]).stem)


# Flags, and how a run ends --------------------------------------------------------------------------------------------
def make_parser(name, doc, plot=True, **settings):
    """A parser of these settings, with a flag for each that FLAGS has, and --no-plot. A mistake raises UserError."""
    parser = argparse.ArgumentParser(name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.error = lambda message: require(False, message)  # one line, without the usage
    parser.set_defaults(**settings)
    for key, text in FLAGS.items():
        if key in settings:
            parser.add_argument("--" + key.replace("_", "-"), help=text)
    if plot:
        parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    return parser


def run(main, name, *arguments):
    """main(name, *arguments). One line on standard error says what stops it: NoAllocation (exit status 1), a UserError,
    a missing package or what the system refuses (2), Ctrl-C (130). SIGTERM ends it as an exit does: nothing is left."""
    with contextlib.suppress(ValueError, AttributeError):  # not the main thread, or an output that is no terminal's
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may have letters that the terminal lacks
    try:
        main(name, *arguments)
        print(end="", flush=True)
    except BrokenPipeError:  # the reader of what is printed, `head` perhaps, has closed it
        os._exit(141)
    except (NoAllocation, UserError, ImportError, OSError, KeyboardInterrupt) as error:
        print(f"{name}: {format_value(error) or 'interrupted'}", file=sys.stderr)
        sys.exit({NoAllocation: 1, KeyboardInterrupt: 130}.get(type(error), 2))


# Tasks ----------------------------------------------------------------------------------------------------------------
TASK = {"label": str, "arrival_time": float, "trans_time": float, "deadline": float}
TASK_OPTIONS = {"prompt": str, "output_words": int,  # either may be left out where its tokens are given
                "computation_time": float, "prompt_tokens": int, "output_tokens": int, "memory_gb": float,
                # of a list that real.measure has written; the weights, of the whole model, replace the estimate
                "measured_model": str, "measured_device": str, "measured_weights_gb": float, "measured_spread": float,
                "measured_threads": int, "measured_torch": str}
TIMES = ["arrival_time", "computation_time", "trans_time", "deadline"]


def get_model(name):
    models = {model.name: model for model in MODELS}
    return models[find_name(name, models, "model")]


def get_device(name):
    types = {device.type: device for device in DEVICES}
    return types[find_name(name, types, "device")]


def read_tasks(tasks, model, devices):
    """Table of a list in the task format, or of the path of a CSV or JSON file or a script that holds one.

    Columns: label; arrival_time, computation_time (if not given: the mean estimate over the devices), trans_time and
    deadline in whole microseconds; prompt_tokens, output_tokens; kv_bytes (what the task holds beside the weights);
    given_time (s, or NaN); and all others that the list has, as they are. Raises UserError.
    """
    place = tasks if isinstance(tasks, str) else "tasks"
    table = read_table(tasks, "task", TASK, TASK_OPTIONS)
    check_rows(~table["label"].duplicated(), table["label"], place, "is there already")
    check_rows(table["deadline"] >= table["arrival_time"], table["deadline"], place, "is before arrival_time")

    # Tokens are estimated from words where they are not given.
    for field, tokens in (("prompt", "prompt_tokens"), ("output_words", "output_tokens")):
        check_rows(table[field].notna() | table[tokens].notna(), table[field], place, f"give it, or {tokens}")
    table["prompt"] = table["prompt"].astype(object).fillna("")
    words = table["prompt"].str.split().str.len()
    prompt = table["prompt_tokens"].fillna(count_tokens(words)).astype("int64")
    output = table["output_tokens"].fillna(count_tokens(table["output_words"])).astype("int64")

    # The prompt leaves room for the output, at most half of the context; the output ends where the context is full.
    table["prompt_tokens"] = np.minimum(prompt, model.context - np.minimum(output, model.context // 2))
    table["output_tokens"] = np.minimum(output, model.context - table["prompt_tokens"])
    capped = (prompt + output > model.context).sum()
    if capped:
        warn(f"{capped} of {len(table)} tasks exceed the {model.context} tokens of {model.name} and run capped")

    cache = model.kv_bytes * (table["prompt_tokens"] + table["output_tokens"])
    table["kv_bytes"] = (table["memory_gb"] * 1e9).fillna(cache)
    table["given_time"] = table["computation_time"]
    table["computation_time"] = model.layers * layer_times(table, model, devices).mean(axis=1)
    return table.assign(**microseconds(table[TIMES]))


def count_tokens(words):
    return np.ceil((words * TOKENS_PER_WORD).round(6))  # a product like 399.00000000000006 would be one token more


def layer_time(model, device, prompt_tokens, output_tokens):
    """Seconds that one layer takes for a task (numbers or arrays): a roofline of arithmetic and of weight reading, for
    the prompt at once (prefill) and for each output token (decode). Attention over the KV cache is left out."""
    flops = device.compute_share * device.tflops * 1e12
    bandwidth = device.bandwidth_share * device.bandwidth * 1e9
    compute = 2 * model.params / flops  # of one token
    read = model.layer_bytes / bandwidth  # of the weights, once
    return np.maximum(compute * prompt_tokens, read) + output_tokens * max(read, compute)


def layer_times(tasks, model, devices):
    """layer_time, s: array (tasks, devices). A computation_time given holds for all layers on any device."""
    estimates = [layer_time(model, device, tasks["prompt_tokens"], tasks["output_tokens"]) for device in devices]
    given = tasks[["given_time"]].to_numpy() / model.layers  # a column, beside those of the devices
    return np.where(np.isnan(given), np.array(estimates).T, given)


def measured_on(tasks, key):
    """The model or the device that a measured list names; an empty text for a list that is estimated."""
    return ", ".join(tasks[f"measured_{key}"].dropna().unique())


# Schedules ------------------------------------------------------------------------------------------------------------
RESULT = ["label", *TIMES, "start_time", "end_computation", "completion_time", "response_time",
          "waiting_time", "uplink_waiting_time", "turnaround_time", "deadline_met", "preemptions"]


def next_run(schedule, waiting, now):
    """What a policy runs now, online. Returns (label, until): a task, and until when it may run, unless one arrives.

    schedule: that of a script; waiting: table (columns label and TIMES) of the unfinished tasks that have arrived, with
    what is left of each as computation_time; now, until: us. Ask anew at every arrival and completion, and at `until`.
    """
    queue = waiting.sort_values("arrival_time", kind="stable")  # ties go by arrival, as ever
    first = schedule(queue.assign(arrival_time=now)).iloc[0]  # all are there
    return first["label"], int(first["end"])


def interval_table(tasks, runs):
    """Table label, start, end of runs (row of `tasks`, start, end) in order of time; adjacent runs of a task join."""
    labels = tasks["label"].tolist()
    joined = []
    for row, start, end in runs:
        if joined and joined[-1][0] == labels[row] and joined[-1][2] == start:
            start = joined.pop()[1]
        joined.append((labels[row], start, end))
    return pd.DataFrame(joined, columns=["label", "start", "end"])


def simulate(tasks, intervals, link):
    """What becomes of each task, given its compute intervals: the table of tasks (columns RESULT) and that of all
    intervals (label, kind, start, end), in microseconds.

    link: "shared" (one result leaves at a time, first computed first sent, ties to the earlier arrival, then row; or
    in the order of rows intervals.attrs["transmission_order"]) or "dedicated" (no contention).
    """
    by_task = check_schedule(tasks, intervals)
    start = by_task["start"].min().to_numpy()
    end = by_task["end"].max().to_numpy()
    trans = tasks["trans_time"].to_numpy()
    if link == "dedicated":
        completion = end + trans
    else:
        order = intervals.attrs.get("transmission_order", np.lexsort((tasks["arrival_time"], end)))
        completion = np.empty_like(end)
        completion[order] = serve(end[order], trans[order])

    waiting = end - tasks["arrival_time"] - tasks["computation_time"]
    result = task_result(tasks, start, end, completion, waiting, by_task.size().to_numpy() - 1)
    sent = pd.DataFrame({"label": tasks["label"], "kind": "transmit", "start": completion - trans, "end": completion})
    parts = [intervals.assign(kind="compute"), sent.sort_values("end", kind="stable")]
    return result, pd.concat(parts, ignore_index=True)[list(sent)]


def check_schedule(tasks, intervals):
    """The intervals by row of `tasks`. UserError unless each task is whole, from its arrival on, and no two at once."""
    place = "the schedule is wrong"
    row = pd.Index(tasks["label"]).get_indexer(intervals["label"])
    computed = np.bincount(row, intervals["end"] - intervals["start"], len(tasks))
    check_rows(computed == tasks["computation_time"], tasks["label"], place, "is not computed whole")
    by_task = intervals.groupby(row)
    began = by_task["start"].min().to_numpy()
    check_rows(began >= tasks["arrival_time"], tasks["label"], place, "runs before it arrives")

    in_time = intervals.sort_values(["start", "end"])
    alone = in_time["start"] >= in_time["end"].shift(fill_value=0)
    check_rows(alone, in_time["label"], place, "runs while another task does")
    return by_task


def serve(ready, length):
    """End times of jobs served one at a time in this order, each once it is ready (integer arrays): end[k] =
    max(end[k-1], ready[k]) + length[k], the largest of ready[i] + length[i] + ... + length[k] (Lindley 1952)."""
    total = np.cumsum(length)
    return total + np.maximum.accumulate(ready - (total - length))


def task_result(tasks, start, end, completion, waiting, preemptions):
    """The table of tasks with what became of each (columns RESULT), in microseconds."""
    return tasks.assign(
        start_time=start, end_computation=end, completion_time=completion,
        response_time=start - tasks["arrival_time"], waiting_time=waiting,
        uplink_waiting_time=completion - tasks["trans_time"] - end, turnaround_time=completion - tasks["arrival_time"],
        deadline_met=completion <= tasks["deadline"], preemptions=preemptions)[RESULT]


def scheduling_metrics(tasks, result, model, device):
    """The metrics of a schedule (README defines them): seconds, counts, shares, GB (1e9 bytes)."""
    metrics = {"tasks": len(result)}
    for key in ("waiting_time", "response_time", "turnaround_time"):
        metrics[f"mean_{key}"] = rounded_seconds(result[key].mean())
        for percent in (50, 95, 99):
            metrics[f"p{percent}_{key}"] = rounded_seconds(np.percentile(result[key], percent))

    # Memory: the weights, as measured with the list or those of the decoder layers, and the caches of all tasks that
    # are started and unfinished; at one instant those that end go first.
    in_time = np.append(result["end_computation"], result["start_time"]).argsort(kind="stable")
    caches = np.append(-tasks["kv_bytes"], tasks["kv_bytes"])[in_time].cumsum()
    weights = (tasks["measured_weights_gb"] * 1e9).fillna(model.layers * model.layer_bytes).max()
    peak = (weights + caches.max()) / 1e9

    T_end = (result["completion_time"].max() - result["arrival_time"].min()) / US
    span = T_end or math.nan  # no time may pass
    tardiness = (result["completion_time"] - result["deadline"]).clip(lower=0)
    metrics.update({
        "mean_uplink_waiting_time": rounded_seconds(result["uplink_waiting_time"].mean()),
        "deadlines_met": result["deadline_met"].sum(),
        "mean_tardiness": rounded_seconds(tardiness.mean()),
        "T_end": T_end,
        "preemptions": result["preemptions"].sum(),
        "throughput": len(result) / span,
        "tokens_per_second": tasks["output_tokens"].sum() / span,
        "processor_utilization": result["computation_time"].sum() / US / span,
        "uplink_utilization": result["trans_time"].sum() / US / span,
        "peak_memory_gb": peak,
        "memory_utilization": peak / device.memory,
    })
    return metrics


def rounded_seconds(microseconds):
    return round(float(microseconds) / US, 6)


def microseconds(seconds):
    return np.rint(seconds * US).astype("int64")


def in_seconds(table):
    """The table with its whole microseconds as seconds."""
    others = ("deadline", "end_computation", "start", "end", "link_delay")
    return table.assign(**{key: table[key] / US for key in table if key.endswith("_time") or key in others})


# Bids and links -------------------------------------------------------------------------------------------------------
BID = {"device": str, "layers": int, "price": float, "computation_time": float}
BID_OPTIONS = {"type": str, "host": str, "capacity": int, "true_cost": float}
BID_COLUMNS = ["device", "type", "host", "capacity", "layers", "price", "computation_time", "true_cost"]


def allocation_case(tasks, model, pool, seed, bids=None, links=None):
    """What an allocation is given, and what evaluate needs, as a dict: tasks (table of read_tasks in order of arrival),
    model and its layers, bids and links (tables), delay (links as an array), times (s a layer, as the bids promise:
    array (tasks, bidding devices)), arrivals (s, from the first on), memory (GB) and watts of each bidder, seed."""
    types = [get_device(line[1]) for line in POOLS[pool]]
    lines = [(*line, kind.price_per_hour)[:4] for line, kind in zip(POOLS[pool], types)]  # its own rent comes first
    devices = pd.DataFrame(lines, columns=["device", "type", "host", "rent"]).set_index("device")
    devices["memory"] = [kind.memory for kind in types]
    devices["watts"] = [kind.watts for kind in types]
    devices["cost_per_hour"] = devices["rent"].astype(float).fillna(devices["watts"] / 1000 * ELECTRICITY)  # USD
    tasks = read_tasks(tasks, model, types).sort_values("arrival_time", kind="stable")
    devices["capacity"] = (MEMORY_SHARE * devices["memory"] * 1e9 / group_bytes(model, tasks, 1)).astype(int)
    estimates = pd.DataFrame(layer_times(tasks, model, types), columns=devices.index)
    devices["layer_time"] = estimates.sum()  # s: over the list

    if bids is None:
        bids = draw_bids(model.layers, devices, seed)
    bids = read_bids(bids, model, devices)
    names = list(bids["device"])
    links = read_links(links, names, devices, seed)
    # A bid promises one time for the whole list; each task has the share of it that the estimates give it.
    share = (estimates / estimates.sum()).fillna(1 / len(tasks))[names].to_numpy()
    return {
        "tasks": tasks,
        "model": model,
        "layers": model.layers,
        "bids": bids,
        "links": links,
        "delay": links.to_numpy(),
        "times": share * (bids["computation_time"] / bids["layers"]).to_numpy(),
        "arrivals": (tasks["arrival_time"] - tasks["arrival_time"].min()).to_numpy() / US,
        "memory": devices["memory"][names].tolist(),
        "watts": devices["watts"][names].tolist(),
        "seed": seed,
    }


def draw(seed, *names):
    """A source of random numbers that depends on the seed and these names alone."""
    return np.random.default_rng([seed, *"\0".join(names).encode()])


def six_digits(number):
    return float(f"{number:.6g}")


def draw_bids(layers, devices, seed):
    """A bid of each device that holds a layer. Of too few offers those are raised that are the least of capacity."""
    able = devices[devices["capacity"] > 0]
    most = able["capacity"].clip(upper=layers)
    sources = [draw(seed, name) for name in able.index]
    offers = (able["capacity"] * [source.uniform(*OFFER) for source in sources]).astype("int64").clip(1, layers)
    margins = [source.uniform(*MARGIN) for source in sources]
    while offers.sum() < min(layers, most.sum()):
        offers[(offers / most)[offers < most].idxmin()] += 1

    layer_time = able["layer_time"].map(six_digits)  # devices of one type: one time per layer
    time = (offers * layer_time).map("{:.12g}".format).astype(float)
    price = (time * able["cost_per_hour"] * 100 / 3600 * margins).map(six_digits)
    return pd.DataFrame({"layers": offers, "price": price, "computation_time": time}).reset_index()


def read_bids(bids, model, devices):
    """Table of bids: device, type, host, capacity, layers, price (cents), computation_time (s), true_cost (cents; where
    it is not given, electricity or rent for that time). bids: a list of dicts, or the path of a CSV or JSON file of
    them; devices: table by name of type, host, capacity (layers) and cost_per_hour (USD). Raises UserError."""
    place = bids if isinstance(bids, str) else "bids"
    if not len(bids):
        raise NoAllocation(f"no device bids for the {model.layers} layers of {model.name}")
    table = read_table(bids, "bid", BID, BID_OPTIONS).astype({"layers": "int64"})
    name = table["device"]
    check_rows(name.isin(devices.index), name, place, f"is not in the pool of common.py: {', '.join(devices.index)}")
    check_rows(~name.duplicated(), name, place, "bids twice")
    facts = devices.loc[name].reset_index()
    fits = table["layers"].between(1, facts["capacity"].clip(upper=model.layers))
    check_rows(fits, table["layers"], place, f"is not from 1 to what the device holds of {model.name}")

    cost = (table["computation_time"] * facts["cost_per_hour"] * 100 / 3600).map(six_digits)
    table["true_cost"] = table["true_cost"].fillna(cost)
    return table.assign(**facts[["type", "host", "capacity"]])[BID_COLUMNS]


def read_links(links, bidders, devices, seed):
    """Seconds to pass one task's activations over each link: a square table over the bidders and, last, the client.
    links: None (drawn), a dict of dicts of seconds, or the path of a JSON file of it or of a square CSV as
    NAME_links.csv; a pair may be given one way or both. Raises UserError."""
    names = [*bidders, "client"]
    place = links if isinstance(links, str) else "links"
    rows = read_file(links) if isinstance(links, str) else links
    if isinstance(rows, pd.DataFrame):  # of a CSV file: its first column names the rows
        rows = rows.set_index(rows.columns[0]).T
    try:
        given = pd.DataFrame(rows, dtype=object).reindex(index=names, columns=names)
    except ValueError as error:
        raise UserError(f"{place}: not seconds by pairs of devices ({error})") from error
    given = given.where(given.notna(), given.T)  # one way is enough

    seconds = pd.DataFrame(0.0, names, names)
    for one, other in itertools.combinations(names, 2):
        if links is not None:
            way = f"{place}, {one} to {other}"
            link = check_number(given[one][other], way)
            require(link == check_number(given[other][one], way), f"{way}: {link} s, but not back")
        elif devices["host"][one] == devices["host"].get(other):  # the client has none
            link = HOST_LINK
        else:
            link = round(draw(seed, *sorted((one, other))).rayleigh(LINK_SCALE), 6)
        seconds.loc[one, other] = seconds.loc[other, one] = link
    return seconds


# Pipelines ------------------------------------------------------------------------------------------------------------
def evaluate(stages, tasks, model, bids, delay, times, memory, watts, **_):
    """What an allocation brings, in one accounting for all algorithms.

    stages: in pipeline order, dicts of devices (rows of `bids`), layers, and reward (cents; without one each device is
    paid its price per layer); the others: see allocation_case. Returns the tables of stages, of tasks (columns RESULT)
    and of intervals (label, kind, start, end, stage, devices; all-reduces in compute) in microseconds, and the metrics.
    """
    check_stages(stages, bids, model.layers)
    groups = [stage["devices"] for stage in stages]
    sizes = [len(group) for group in groups]
    names = ["+".join(bids["device"][group]) for group in groups]
    layers = np.array([stage["layers"] for stage in stages])
    compute, allreduce, hops = stage_times(groups, layers, delay, times)
    ready, start, end = pipeline(tasks["arrival_time"].to_numpy(), hops, compute + allreduce)

    computed = tasks.assign(computation_time=compute.sum(axis=1), trans_time=hops[-1])
    waiting = (start - ready).sum(axis=1)
    result = task_result(computed, start[:, 0], end[:, -1], end[:, -1] + hops[-1], waiting, 0)
    intervals = pipeline_intervals(result["label"], names, hops, ready, start, end)

    shares = device_shares(stages, bids, memory)
    total = shares.groupby("stage").sum()
    held = layers * [group_bytes(model, tasks, size) for size in sizes] / 1e9
    table = pd.DataFrame({
        "stage": range(1, len(stages) + 1),
        "devices": names,
        "tensor_parallel": sizes,
        "first_layer": layers.cumsum() - layers,
        "last_layer": layers.cumsum() - 1,
        "layers": layers,
        "computation_time": compute.sum(axis=0),
        "link_delay": hops[:-1],
        "reward": total["rewards"],
        "utility": total["rewards"] - total["cost"],
        "memory_gb": held,
        "memory_utilization": held / total["memory"],
        "allreduce_time": allreduce,
    }).round(6)

    # The metrics (README defines them): cents, seconds, shares, kWh.
    cost = shares["rewards"].sum()
    computation = compute.sum() / US
    communication = len(tasks) * (hops.sum() + allreduce.sum()) / US
    turnaround = result["turnaround_time"] / US
    power = [sum(watts[i] for i in group) for group in groups]
    metrics = {
        "tasks": len(result),
        "devices": len(shares),
        "total_cost": cost,
        "completion_time": (result["completion_time"].max() - result["arrival_time"].min()) / US,
        "computation_time": computation,
        "communication_time": communication,
        "communication_overhead": communication / ((communication + computation) or 1),
        "memory_utilization": held.sum() / shares["memory"].sum(),
        "fairness_layers": jain(shares["layers"], len(shares)),
        "fairness_rewards": jain(shares["rewards"], len(shares)),
        "cost_efficiency": model.layers / cost if cost else math.inf,
        "deadlines_met": result["deadline_met"].sum(),
        "fairness_layers_all": jain(shares["layers"], len(bids)),
        "fairness_rewards_all": jain(shares["rewards"], len(bids)),
        "mean_turnaround_time": turnaround.mean(),
        "p95_turnaround_time": np.percentile(turnaround, 95),
        "mean_waiting_time": result["waiting_time"].mean() / US,
        "total_utility": cost - shares["cost"].sum(),
        "energy": (compute.sum(axis=0) * power).sum() / US / 3.6e6,
    }
    return table, result, intervals, {key: round(value, 6) for key, value in metrics.items()}


def group_bytes(model, tasks, size):
    """Bytes of a layer with the largest KV cache, of a group; if key-value heads are fewer, each has a copy of one."""
    kv_heads = max(model.kv_heads, size)
    cache = tasks["kv_bytes"].max() / model.layers
    return replace(model, kv_heads=kv_heads).layer_bytes + cache * (kv_heads / model.kv_heads)


def check_stages(stages, bids, layers):
    """UserError unless the stages place every layer once, on devices that are used once and within their offers."""
    used = [i for stage in stages for i in stage["devices"]]
    is_right = len(set(used)) == len(used) and sum(stage["layers"] for stage in stages) == layers
    for stage in stages:
        offers = bids["layers"][stage["devices"]]
        is_right = is_right and 1 <= stage["layers"] <= len(offers) * offers.min()
    require(is_right, f"the allocation is wrong: a device twice, or beyond its offer, or not {layers} layers: {stages}")


def stage_times(groups, layers, delay, times):
    """Whole microseconds: each task's computation (tasks, stages); the all-reduces of a task (stages,); the links into
    the stages and, last, to the client (stages + 1,). groups: rows of the bids in each stage; layers: array (stages,);
    delay, times: see allocation_case."""
    compute, allreduce = zip(*[group_times(times, delay, group) for group in groups])
    client = [len(delay) - 1]
    ways = zip([client, *groups], [*groups, client])
    hops = np.array([delay[np.ix_(one, other)].min() for one, other in ways])  # the quickest pair carries them
    return microseconds(layers * np.column_stack(compute)), microseconds(layers * allreduce), microseconds(hops)


def group_times(times, delay, group):
    """Seconds of a layer in a tensor-parallel group of k devices: the computation of each task, of which the slowest
    does 1/k, and two all-reduces, each 2 (k - 1) / k of the activations over the slowest link, as in HexGen."""
    k = len(group)
    slowest_link = delay[np.ix_(group, group)].max()
    return times[:, group].max(axis=1) / k, 4 * (k - 1) / k * slowest_link


def pipeline(arrival, hops, work):
    """When each task is ready, starts and ends in each stage: arrays (tasks, stages), as work is. Links delay, without
    contention: end[k, s] = max(end[k-1, s], end[k, s-1] + hops[s]) + work[k, s]. arrival: ascending."""
    ready, end = [], []
    for hop, length in zip(hops, work.T):
        ready.append(arrival + hop)
        arrival = serve(ready[-1], length)
        end.append(arrival)
    end = np.column_stack(end)
    return np.column_stack(ready), end - work, end


def pipeline_intervals(labels, names, hops, ready, start, end):
    """Each task's way through the stages, in order: sent over the link into a stage, computed, and sent back."""
    received = np.column_stack([ready, end[:, -1] + hops[-1]])  # in each stage and, last, by the client
    parts = []
    for s, name in enumerate([*names, "client"]):
        sent = pd.DataFrame({"label": labels, "kind": "transmit", "start": received[:, s] - hops[s],
                             "end": received[:, s], "stage": s + 1, "devices": name})
        parts.append(sent)
        if name != "client":
            parts.append(sent.assign(kind="compute", start=start[:, s], end=end[:, s]))
    return pd.concat(parts).sort_index(kind="stable")


def device_shares(stages, bids, memory):
    """A row for each device used: its stage, layers, rewards (cents), their true cost (cents), its memory (GB)."""
    rows = []
    for s, stage in enumerate(stages):
        for i in stage["devices"]:
            layers = stage["layers"] / len(stage["devices"])
            rewards = layers * bids["price"][i] / bids["layers"][i]
            if "reward" in stage:
                rewards = stage["reward"] / len(stage["devices"])
            cost = layers * bids["true_cost"][i] / bids["layers"][i]
            rows.append(dict(stage=s, layers=layers, rewards=rewards, cost=cost, memory=memory[i]))
    return pd.DataFrame(rows)


def jain(x, n):
    """Jain's index of fairness over n, of which those beyond x have nothing: from 1/n (one has all) to 1 (equal)."""
    return x.sum() ** 2 / (n * (x ** 2).sum()) if x.any() else 1.0


# What is written and printed ------------------------------------------------------------------------------------------
UNSAID = ["tasks", "bids", "links", "objective", "time_limit", "out", "no_plot"]  # settings: not in the heading
UNPRINTED = ["response_time", "waiting_time", "uplink_waiting_time", "turnaround_time"]  # else the table is too wide


def write_files(out, files):
    """Writes {name: table, text or figure} into the folder `out`, aside first: whole files only. Returns the paths."""
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as aside:
        for name, content in files.items():
            write_file(os.path.join(aside, name), content)
        for name in files:
            os.replace(os.path.join(aside, name), os.path.join(out, name))
    return [os.path.join(out, name) for name in files]


def write_file(path, content):
    if isinstance(content, pd.DataFrame):
        content = content.to_csv(index=False)
    if isinstance(content, str):
        with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:  # labels may be no UTF-8
            file.write(content)
    else:
        content.savefig(path)


def write_figure(out, name, draw, *arguments):
    """Writes the figure of draw(*arguments) into the folder `out`. Returns [its path], or [] with a warning why not."""
    try:
        import matplotlib
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks becomes a box
            return write_files(out, {name: draw(*arguments)})
    except Exception as error:  # of any kind: it is the tables that matter
        warn(f"{name} is not drawn: {type(error).__name__}: {format_value(error)}")
        return []


def report(name, args, metrics, notes, tables, files, figure):
    """Writes the files of a run of the nine, {end of a name: content}, and its figure (see write_figure); prints it."""
    kind = "scheduler" if "link" in args else "algorithm"
    used = {key: value for key, value in vars(args).items() if key not in UNSAID}
    sources = {f"{key}_file": source_of(getattr(args, key)) for key in ("tasks", "bids", "links") if key in args}
    files["metrics.csv"] = pd.DataFrame([{kind: name, **used, **sources, **metrics}])
    paths = write_files(args.out, {f"{name}_{end}": content for end, content in files.items()})
    if not args.no_plot:
        paths += write_figure(args.out, *figure)

    heading = ", ".join(f"{key} {value}" for key, value in used.items())
    print_lines(f"{name}: {metrics['tasks']:,} tasks, {heading}", *notes, "")
    print(pd.Series(metrics, dtype=object).map(format_value).to_string(), end="\n\n")
    for table in tables:
        print_table(table.drop(columns=UNPRINTED, errors="ignore"), TABLE_ROWS)
        print("")
    print_lines(f"written: {', '.join(paths)}")


def source_of(rows):
    """Where a list comes from: its file, the script that was started, or, of None, a draw."""
    if rows is None:
        return "drawn"
    return rows if isinstance(rows, str) else pathlib.Path(sys.argv[0]).name


def print_lines(*lines):
    """Prints lines of text, too long ones in several."""
    for line in lines:
        print(textwrap.fill(line, TEXT_WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))


def print_table(table, rows=None, keys=1):
    """Prints a table, long names stacked; one that is too wide in blocks of columns, each led by the first `keys`.
    rows: prints only these first ones, then the number of the others."""
    text = table[:rows].apply(lambda column: column.map(lambda value: cut(format_value(value), 40)))
    text = text.set_index(list(text)[:keys])
    words = [name.split("_")[::-1] for name in text]
    text.columns = pd.MultiIndex.from_arrays([*itertools.zip_longest(*words, fillvalue="")][::-1])
    print(text.to_string(line_width=TEXT_WIDTH, sparsify=False))
    if len(table) > len(text):
        print(f"... and {len(table) - len(text):,} more rows")


def format_value(value):
    """A cell of a table as text, in one line."""
    return f"{value:.3f}" if isinstance(value, float) else " ".join(str(value).split())


# Figures --------------------------------------------------------------------------------------------------------------
BLUE, SKY, ORANGE, RED = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"  # Okabe and Ito's, for colour-blind readers too
STYLE = {"axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "axes.spines.top": False,
         "axes.spines.right": False, "legend.fontsize": 6.5, "legend.frameon": False, "legend.columnspacing": 1.2,
         "font.family": "DejaVu Sans", "text.usetex": False}  # whatever a user's matplotlibrc says
LOOKS = {"compute": dict(color=BLUE), "transmit": dict(color="white", edgecolor=ORANGE, hatch="//////"),  # of bars
         "all-reduce": dict(color="white", edgecolor=RED, hatch="......")}


def new_figure(height):
    """A figure one journal column wide; height: inches."""
    from matplotlib.figure import Figure
    return Figure((3.5, height), dpi=300)


def schedule_figure(name, result, intervals):
    """Figure of a schedule (tables of simulate, in seconds): a Gantt chart, of a long list of its first tasks."""
    rows = min(len(result), PLOT_ROWS)
    title = name if rows == len(result) else f"{name}: first {rows} of {len(result):,} tasks"
    figure = new_figure(1.2 + 0.2 * max(3, rows))
    return finish_figure(figure, draw_schedule(figure.subplots(), title, result, intervals))


def draw_schedule(axes, title, result, intervals, until=0):
    """Draws a schedule (tables of simulate, in seconds) from the first arrival on, a row a task in order of arrival.
    Returns its legend. until: s that the scale of time reaches at least, so that several schedules have the same."""
    rows = result.sort_values("arrival_time", kind="stable")[:PLOT_ROWS].reset_index(drop=True)
    first = rows["arrival_time"][0]
    times = rows[["arrival_time", "end_computation", "completion_time", "deadline"]] - first
    deadline = times["deadline"]
    keys = {"waiting": axes.hlines(rows.index, times["arrival_time"], times["end_computation"], "0.55", zorder=0)}
    bars = {}
    for kind, part in intervals.merge(rows["label"].reset_index()).groupby("kind"):  # index: the row
        bars[kind] = part["index"], part["end"] - part["start"], part["start"] - first
    keys.update(draw_rows(axes, rows["label"].map(shorten), bars))

    # Every bar is whole. A deadline far beyond the bars would squeeze them: it becomes an arrow at the edge.
    last = max(until - first, times["completion_time"].max())
    near = deadline <= 1.5 * last
    right = 1.02 * max(last, 1e-3, *deadline[near])
    axes.set_xlim(0, right)
    at = deadline.where(near, right)
    for key, some, marker, color in (("deadline met", near & rows["deadline_met"], "|", "black"),
                                     ("deadline missed", ~rows["deadline_met"], "x", RED),
                                     ("deadline later", ~near, ">", "black")):
        if some.any():
            keys[key], = axes.plot(at[some], rows.index[some], marker, color=color, markersize=5, clip_on=False)
    axes.set(title=title, xlabel="time since the first arrival (s)" if first else "time (s)")
    return keys


def draw_rows(axes, names, bars):
    """Draws named rows of bars, the first on top, {kind in LOOKS: (rows, widths, starts)}. Returns {kind: artist}."""
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    return {kind: axes.barh(at, width, 0.64, start, linewidth=0.4, **LOOKS[kind])
            for kind, (at, width, start) in bars.items() if np.any(width)}


def layers_figure(title, stages, tasks):
    """Figure of an allocation (table of stages in seconds), a row a stage: what a task takes there in the mean."""
    figure = new_figure(1.2 + 0.2 * max(3, len(stages)))
    axes = figure.subplots()
    names = [f"{shorten(devices)}: {layers} layers" for devices, layers in zip(stages["devices"], stages["layers"])]
    rows = range(len(stages))
    link = stages["link_delay"]
    work = stages["computation_time"] / tasks
    keys = draw_rows(axes, names, {"transmit": (rows, link, 0 * link), "compute": (rows, work, link),
                                   "all-reduce": (rows, stages["allreduce_time"], link + work)})
    axes.set(title=title, xlabel="mean time of a task (s)")
    return finish_figure(figure, keys)


def finish_figure(figure, keys):
    """Adds the legend {name: artist} below, and makes room for all texts. Returns the figure."""
    figure.legend(keys.values(), keys, ncol=3, loc="lower center")
    inches = 0.1 + 0.13 * math.ceil(len(keys) / 3)
    figure.tight_layout(rect=(0, inches / figure.get_figheight(), 1, 1), pad=0.5)
    return figure


def shorten(name):
    """A label or name as text of a figure."""
    return cut(format_value(name), 16).replace("$", r"\$")


# Lists and files ------------------------------------------------------------------------------------------------------
def read_table(rows, what, needed, options):
    """Table of a list of dicts, or of the path of a file of them: the columns of needed and options, then all others.

    what: "task" or "bid"; needed, options: {field: str, int or float}. Numbers are from 0 to 1e10; a field of options
    that a row does not give is NaN. UserError names the place, row and field of what is not as it must be.
    """
    place = rows if isinstance(rows, str) else f"{what}s"
    kinds = {**needed, **options}
    content = read_file(rows, dict.fromkeys(kinds, object)) if isinstance(rows, str) else rows
    if not isinstance(content, pd.DataFrame):
        column = pd.Series(content, dtype=object, name=what)
        check_rows(column.map(lambda row: isinstance(row, dict)), column, place, "is not a dict")
        content = column.tolist()
    table = pd.DataFrame(content)
    require(len(table), f"{place}: no {what}s")
    more = [key for key in table if key not in kinds]
    if more:
        warn(f"{place}: further fields: {', '.join(more)}")
    table = table.reindex(columns=[*kinds, *more])
    for field, kind in kinds.items():
        column = table[field]
        if field in needed:
            check_rows(column.notna(), column, place, f"the fields of a {what} are {', '.join(needed)}")
        if kind is str:
            check_rows(~column.map(lambda cell: isinstance(cell, (list, dict))), column, place, "is not a text")
            table[field] = column.map(str, na_action="ignore")
        else:
            table[field] = read_numbers(column, kind, place)
    return table


def read_numbers(column, kind, place):
    """A column as numbers; NaN where nothing is given."""
    numbers = column.map(to_number)
    good = numbers.between(0, 1e10) & ((numbers % 1 == 0) | (kind is float))
    check_rows(good | column.isna(), column, place, f"is not a {'whole ' * (kind is int)}number from 0 to 1e10")
    return numbers


def check_rows(good, column, place, what):
    """UserError about the first row of a column that is not good."""
    if not good.all():
        k = np.argmin(good)
        raise UserError(f"{place}, row {k + 1}, {column.name}: {shown(column.tolist()[k])} {what}")


def read_file(path, kinds=object):
    """What a JSON file holds, or one of JSON lines (.jsonl), or a script's `tasks`, or the table of a CSV file. kinds:
    {column: object} of those that are left as texts, if pandas shall find the types of the others. Raises UserError."""
    kind = pathlib.Path(path).suffix.lower()
    hint = ""
    try:
        if kind == ".py":
            return runpy.run_path(path)["tasks"]
        if kind in (".json", ".jsonl"):
            text = pathlib.Path(path).read_text(encoding="utf-8-sig")
            if kind == ".jsonl":
                text = "[" + ",\n".join(filter(str.strip, text.split("\n"))) + "]"
            return json.loads(text)
        hint = ": are there commas between the fields, and quotes around a text with commas?"
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""], low_memory=False)
    except OSError:  # which names the file
        raise
    except Exception as error:  # not JSON, not CSV, or whatever a script may raise
        raise UserError(f"{path}: {type(error).__name__}: {format_value(error)}{hint}") from error
    is_regular = len(table.columns) > 1 and isinstance(table.index, pd.RangeIndex)  # else row 1 has more fields
    require(is_regular, f"{path}, row 1: no table with the header {shown(','.join(table))}{hint}")
    return table.fillna({"prompt": ""})  # which may be empty


# Names, numbers, errors -----------------------------------------------------------------------------------------------
class UserError(Exception):
    """A mistake in the input, or something missing on the machine: a script prints the line and exits with 2."""


class NoAllocation(Exception):
    """No allocation exists: a script prints the line and exits with 1."""


def require(condition, message):
    if not condition:
        raise UserError(message)


def warn(message):
    print(f"warning: {message}", file=sys.stderr)


def find_name(name, names, what):
    """The one of `names` that `name` means, case aside and '-' for ' '; UserError lists the choices."""
    for known in names:
        if known.lower().replace(" ", "-") == name.lower().replace(" ", "-"):
            return known
    raise UserError(f"unknown {what} {shown(name)}: choose from {', '.join(names)}")


def check_number(value, where, whole=False, least=0):
    """The value as a number, if it is one from `least` to 1e10 (so that sums stay exact); UserError says what it is."""
    number = to_number(value)
    is_good = least <= number <= 1e10 and (number % 1 == 0 or not whole)
    require(is_good, f"{where}: {shown(value)} is not a {'whole ' * whole}number from {least} to 1e10")
    return number


def to_number(value):
    """The value of a list or a file as a float; NaN if it is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def shown(value):
    """A value from the user for a message: quoted, in one short line."""
    return "missing;" if pd.api.types.is_scalar(value) and pd.isna(value) else cut(repr(value), 60)


def cut(text, length):
    return text if len(text) <= length else text[:length - 1] + "\u2026"
