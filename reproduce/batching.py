"""Does the policy still matter with batching? Batches made anew for every token, on one device, in the policy's order.

    python -m reproduce.batching
    python -m reproduce.batching --runs 50 --device L4 --also MyPolicy.py

A serving engine computes one token of many tasks at a time, as reading the weights takes longer than computing with
them (iteration-level batching: G. Yu et al., "Orca", OSDI 2022). When a task has arrived or is completed, the next
token's batch is made anew: the first B tasks in the order in which the policy's `schedule` would run those that are
there, by the time that each still needs alone. A pass over all layers takes max(reading the weights, computing): a
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

import common
from reproduce import stats, study

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
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

METRICS = {"deadlines_met": "Deadlines met", "p95_turnaround_time": "95th percentile of turnaround (s)",
           "tokens_per_second": "Output tokens a second", "peak_memory_gb": "Most memory held (GB)"}


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    """A case is a random list at a load."""
    model = common.get_model(args.model)
    device = common.get_device(args.device)
    return [(load, args.seed, run, args.methods, model, device, args.link)
            for load in LOADS for run in range(args.runs)]


def run_case(load, seed, run, methods, model, device, link):
    """Metrics of the policies ({name: script}) at each size of batch."""
    draw = np.random.default_rng((seed, run))
    tasks = study.random_tasks(draw, TASKS, PROMPT, OUTPUT, TRANS, DEADLINE, load, model, device)
    weights = model.layers * model.layer_bytes
    room = device.memory * 1e9 - weights
    need = tasks["kv_bytes"].max()
    common.require(need <= room, f"{device.type} has {device.memory} GB, too little for the weights of {model.name} "
                   f"({weights / 1e9:.1f} GB) and the KV cache of a task ({need / 1e9:.1f} GB)")
    prompt = pass_time(model, device, tasks["prompt_tokens"].to_numpy()).tolist()
    token = pass_time(model, device, np.arange(max(BATCH) + 1)).tolist()
    about = dict(model=model.name, device=device.type, link=link, load=load, seed=seed, run=run, tasks=len(tasks))
    rows = []
    for batch in BATCH:
        for name, path in methods.items():
            with study.errors_of(name):
                end, held = serve_batches(study.script(path).schedule, tasks, prompt, token, room, batch)
            row = dict(about, batch=batch, algorithm=name, peak_memory_gb=(weights + held) / 1e9)
            rows.append({**row, **measure(tasks, end, link)})
    return rows


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


# Report ---------------------------------------------------------------------------------------------------------------
def report(runs):
    """What is published of the runs."""
    who = list(runs["algorithm"].unique())
    table = stats.compare(runs, ["load", "batch"], "run", who, METRICS)
    parts = [heading(runs)]
    for metric, caption in METRICS.items():
        of_metric = table[table["metric"] == metric]
        parts.append((metric, caption, study.means(of_metric, ["load", "batch"], who)))
    met = table[table["metric"] == "deadlines_met"]
    parts.append(("changes", f"Deadlines met: {who[0]}'s change in % against each",
                  study.changes(met, ["load", "batch"], who)))
    figure = (study.draw_lines, METRICS, "batch", who, table, "load", ["batch", "p95_turnaround_time"])
    return parts, {"table": table}, {"": figure}


def heading(runs):
    """What was run, and how to read it."""
    about = runs.iloc[0]
    number = runs["run"].nunique()
    return (f"reproduce.batching: {about['model']} on {about['device']}, {about['link']} uplink\n"
            f"{number} random lists at each load, seed {about['seed']}: {about['tasks']} tasks; prompts of "
            f"{PROMPT[0]}..{PROMPT[1]} tokens, outputs of {OUTPUT[0]}..{OUTPUT[1]};\n"
            f"transmissions of {TRANS[0]}..{TRANS[1]} s; deadline = arrival + {DEADLINE[0]}..{DEADLINE[1]} x "
            "(computation alone + transmission)\n"
            "load: computation of all tasks, each alone / span of arrivals; batch: most tasks in a batch\n"
            f"{study.legend(number)}")


if __name__ == "__main__":
    study.run("batching", __doc__, cases, run_case, report, RUNS,
              ["model", "device", "link", "load", "seed", "run", "batch", "tasks", *METRICS], study.POLICIES,
              model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=OUT)
