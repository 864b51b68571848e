"""Does the policy still matter with batching? Batches made anew for every token, on one device, in the policy's order.

    python -m reproduce.batching
    python -m reproduce.batching --runs 50 --device L4 --also MyPolicy.py

A serving engine computes one token of many tasks at a time, as reading the weights takes longer than computing with
them (iteration-level batching: G. Yu et al., "Orca", OSDI 2022). When a task has arrived or is completed, the next
token's batch is made anew: the first B tasks in the order in which the policy's `schedule` would run those that are
there, given what is left of each, computed alone. A pass over all layers takes max(reading the weights, computing): a
token of a batch of b is a pass of b tokens; the prompt of a task that joins is one more, before its first token. A task
joins if its KV cache fits the device's memory beside the weights and the caches of all tasks that have begun, including
those put off; if it does not fit, the next in the order may join.

Random lists at two loads: what the device just carries without batching (B = 1), and twice that. Results are sent as
in the scheduling scripts. EDF (reproduce/EDF.py) is a reference that is not of the paper.
"""
import math
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import numpy as np
import pandas as pd

import common
from reproduce import stats, tables, trace
from reproduce.parallel import parallel

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists
RUNS = 30  # random lists at each load
OUT = "results"  # where the files go
BATCH = (1, 2, 4, 8, 16)  # most tasks in a batch
LOADS = (1, 2)  # computation of all tasks, each alone / span of arrivals
TASKS = 40  # of a random list
PROMPT = (10, 300)  # tokens of a prompt: the least and the most
OUTPUT = (50, 1500)  # tokens of output
TRANS = (0.5, 5)  # s of transmission
DEADLINE = (1.5, 3)  # arrival + this x (computation + transmission)

SCRIPTS = {"ADSA": "ADSA", "FCFS": "FCFS", "SRTF": "SRTF", "LLF": "LLF", "EDF (reference)": "reproduce.EDF"}
METRICS = {"deadlines_met": "Deadlines met", "p95_turnaround_time": "95th percentile of turnaround (s)",
           "tokens_per_second": "Output tokens a second", "peak_memory_gb": "Most memory held at once (GB)"}
COMPARED = ["deadlines_met", "p95_turnaround_time"]
PANELS = {"deadlines_met": "deadlines met", "p95_turnaround_time": "95th percentile of\nturnaround (s)",
          "tokens_per_second": "tokens a second"}
LINES = ("black", common.BLUE, common.ORANGE, common.RED, common.SKY, "0.5")  # of a figure
MEAN = ["mean", "low", "high"]  # columns of stats.compare
CHANGE = ["change", "change_low", "change_high"]


def main(name):
    parser = common.make_parser(name, __doc__, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    who = list(runs["algorithm"].unique())
    table = stats.compare(runs, ["load", "batch"], "run", who, METRICS)

    parts = [heading(runs)]
    for (load, metric), part in table.groupby(["load", "metric"], sort=False):
        caption = f"{METRICS[metric]}, load {load:g}"
        parts.append((caption, by_batch(part, who, tables.show_mean, MEAN)))
        if metric in COMPARED:
            change = by_batch(part, who[1:], tables.show_change, CHANGE)
            parts.append((f"{caption}: {who[0]}'s change in % against each", change))
    figures = {} if args.no_plot else {"": common.try_figure(draw_curves, table, who)}
    tables.publish("batching", args.out, parts, {"runs": runs, "table": table}, figures, args.format)


# Runs -----------------------------------------------------------------------------------------------------------------


def draw_all(args):
    """The runs: a row for each policy, size of batch and list."""
    link = common.find_name(args.link, common.LINKS, "link")
    device = common.get_device(args.device)
    methods = tables.load_scripts(SCRIPTS, args.also, "schedule")
    model = common.get_model(args.model)
    jobs = []
    for run in range(args.runs):
        for load in LOADS:
            jobs.append((load, args.seed, run, methods, model, device, link))
    rows = [row for of_list in parallel(run_case, jobs) for row in of_list]
    runs = pd.DataFrame(rows).sort_values(["load", "run"], kind="stable")
    return tables.as_written(runs)


def read(folder):
    """The runs that an earlier run has written into the folder."""
    return tables.read_runs(folder, "batching_runs.csv", ["load", "seed", "run", "batch", "tasks", *METRICS],
                            ["model", "device", "link"], SCRIPTS)


def run_case(load, seed, run, methods, model, device, link):
    """Metrics of the policies ({name: script}) at each size of batch on one random list: a list of dicts."""
    tasks = random_tasks(load, seed, run, model, device)
    weights = model.layers * model.layer_bytes
    room = device.memory * 1e9 - weights
    need = tasks["kv_bytes"].max()
    common.require(need <= room, f"{device.type} has {device.memory} GB, too little for the weights of {model.name} "
                   f"({weights / 1e9:.1f} GB) and the KV cache of a task ({need / 1e9:.1f} GB)")
    about = dict(model=model.name, device=device.type, link=link, load=load, seed=seed, run=run, tasks=len(tasks))
    prompt = pass_time(model, device, tasks["prompt_tokens"].to_numpy()).tolist()
    token = pass_time(model, device, np.arange(max(BATCH) + 1)).tolist()
    rows = []
    for batch in BATCH:
        for name, path in methods.items():
            schedule = tables.script(path).schedule
            try:
                end, held = serve_batches(schedule, tasks, prompt, token, room, batch)
            except common.UserError as error:
                raise common.UserError(f"{name}: {error}") from error
            row = dict(about, batch=batch, algorithm=name, peak_memory_gb=(weights + held) / 1e9)
            rows.append({**row, **measure(tasks, end, link)})
    return rows


def random_tasks(load, seed, run, model, device):
    """Task table of a random list, in order of arrival. The tasks of a run are those of all loads, but for arrivals and
    deadlines."""
    draw = np.random.default_rng((seed, run))
    prompt = draw.integers(*PROMPT, TASKS, endpoint=True)
    output = draw.integers(*OUTPUT, TASKS, endpoint=True)
    trans = draw.uniform(*TRANS, TASKS)
    factor = draw.uniform(*DEADLINE, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))

    output = np.minimum(output, model.context - max(PROMPT))  # so that none runs capped
    rows = []
    for k in range(TASKS):
        rows.append({"label": f"Task {k + 1}", "prompt": "", "prompt_tokens": int(prompt[k]), "arrival_time": 0,
                     "output_words": 0, "output_tokens": int(output[k]), "trans_time": float(trans[k]), "deadline": 0})
    table = common.read_tasks(rows, model, [device])

    return trace.at_load(table, arrival, load, factor)


def measure(tasks, end, link):
    """Metrics of tasks whose last tokens are computed at `end` (array, microseconds), as README defines them."""
    arrival = tasks["arrival_time"].to_numpy()
    trans = tasks["trans_time"].to_numpy()
    completion = end + trans
    if link == "shared":  # first computed, first sent
        order = np.lexsort((arrival, end))
        completion[order] = common.serve(end[order], trans[order])
    span = completion.max() - arrival.min()
    return {"deadlines_met": int((completion <= tasks["deadline"]).sum()),
            "p95_turnaround_time": round(float(np.percentile(completion - arrival, 95)) / common.US, 6),
            "tokens_per_second": round(float(tasks["output_tokens"].sum() / span * common.US), 6)}


# Batches --------------------------------------------------------------------------------------------------------------


def pass_time(model, device, tokens):
    """Microseconds of a pass of so many tokens (array) over all layers: reading the weights once, or computing."""
    return np.rint(model.layers * common.layer_time(model, device, tokens, 0) * common.US).astype("int64")


def serve_batches(schedule, tasks, prompt, token, room, most):
    """When each task has its last token (array, microseconds), and the most bytes that KV caches take at once.

    schedule: of a script; tasks: table in order of arrival, rows 0, 1, .., of one output token or more each; prompt:
    microseconds of each task's prompt; token: of one token of a batch of 0, 1, .. most; room: bytes for KV caches.
    """
    arrival = tasks["arrival_time"].tolist()
    kv = tasks["kv_bytes"].tolist()
    left = tasks["output_tokens"].tolist()
    end = np.zeros(len(tasks), "int64")
    present = []  # rows of tasks
    begun = set()  # those of them that have a KV cache
    coming = now = peak = 0
    while coming < len(tasks) or present:
        if not present:
            now = max(now, arrival[coming])
        while coming < len(tasks) and arrival[coming] <= now:
            present.append(coming)
            coming += 1

        free = room - sum(kv[k] for k in begun)
        alone = {k: left[k] * token[1] + (0 if k in begun else prompt[k]) for k in present}
        order = present
        if len(present) > most or sum(kv[k] for k in present if k not in begun) > free:  # else all are in the batch
            order = running_order(schedule, tasks, alone, now)
        batch = first_that_fit(order, begun, kv, free, most)

        # prompts, then tokens until one of the batch is completed, or up to the first token after an arrival
        now += sum(prompt[k] for k in batch if k not in begun)
        begun.update(batch)
        peak = max(peak, sum(kv[k] for k in begun))
        each = token[len(batch)]
        number = min(left[k] for k in batch)
        if coming < len(tasks):
            number = min(number, max(1, math.ceil((arrival[coming] - now) / each)))
        now += number * each
        for k in batch:
            left[k] -= number
            if left[k] == 0:
                end[k] = now
                present.remove(k)
                begun.remove(k)
    return end, peak


def running_order(schedule, tasks, alone, now):
    """The tasks (rows) in the order in which the policy would run them from now on: as common.next_run asks it. alone:
    {row: microseconds that are left of it}, in order of arrival."""
    queue = tasks.loc[list(alone)].assign(arrival_time=now, computation_time=list(alone.values()))
    row = dict(zip(queue["label"], queue.index))
    labels = schedule(queue)["label"].unique()
    common.require(set(labels) == set(row), "the schedule is wrong: it must run all tasks, and no others")
    return [row[label] for label in labels]


def first_that_fit(order, begun, kv, free, most):
    """The batch: the first tasks of the order that have begun or whose KV cache fits what is free."""
    batch = []
    for k in order:
        if k not in begun:
            if kv[k] > free:
                continue
            free -= kv[k]
        batch.append(k)
        if len(batch) == most:
            break
    return batch


# Tables and figure ----------------------------------------------------------------------------------------------------


def heading(runs):
    about = runs.iloc[0]
    number = runs["run"].nunique()
    prompt = "{}..{}".format(*PROMPT)
    output = "{}..{}".format(*OUTPUT)
    trans = "{}..{}".format(*TRANS)
    return (f"reproduce.batching: {about['model']} on {about['device']}, {about['link']} uplink\n"
            f"{number} random lists at each load: {about['tasks']} tasks, {prompt} tokens of prompt, {output} of "
            f"output, {trans} s of\ntransmission, deadline = arrival + {DEADLINE[0]}..{DEADLINE[1]} x (computation "
            f"alone + transmission), seed {about['seed']}\nload: computation of all tasks, each alone / span of "
            f"arrivals; B: most tasks in a batch\n{tables.legend(number)}")


def by_batch(part, who, show, values):
    """A table of text, a row for each size of batch and a column for each of `who`."""
    rows = []
    for batch, of_batch in part.groupby("batch", sort=False):
        of_batch = of_batch.set_index("algorithm")
        rows.append({"B": str(batch), **{name: show(*of_batch.loc[name, values]) for name in who}})
    return pd.DataFrame(rows)


def draw_curves(table, who):
    """Figure of the metrics against the size of the batch, a column a load, a curve a policy with its 95 % band."""
    loads = table["load"].unique()
    figure = common.new_figure(0.9 + 1.15 * len(PANELS) + 0.13 * (len(who) // 3))
    plots = figure.subplots(len(PANELS), len(loads), squeeze=False, sharex=True)
    keys = {}
    for row, (metric, label) in zip(plots, PANELS.items()):
        row[0].set_ylabel(label, fontsize=7)
        for axes, load in zip(row, loads):
            part = table[(table["metric"] == metric) & (table["load"] == load)]
            for k, name in enumerate(who):
                curve = part[part["algorithm"] == name].sort_values("batch")
                colour = LINES[k % len(LINES)]
                axes.fill_between(curve["batch"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
                keys[name], = axes.plot(curve["batch"], curve["mean"], color=colour, linewidth=1,
                                        linestyle=("-", "--", "-.", ":")[k % 4], marker=".", markersize=3)
            axes.set_xscale("log")
            axes.set_xticks(curve["batch"])
            axes.set_xticklabels(curve["batch"])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
    for axes, load in zip(plots[0], loads):
        axes.set_title(f"load {load:g}")
    for axes in plots[-1]:
        axes.set_xlabel("most tasks in a batch", fontsize=7)
    figure.align_ylabels(plots)
    return common.finish_figure(figure, keys)


if __name__ == "__main__":
    common.run(main, "reproduce.batching")
