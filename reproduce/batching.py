"""Does the policy still matter with batching? Batches made anew for every token, on one device, in the policy's order.

    python -m reproduce.batching
    python -m reproduce.batching --tasks tasks.csv --device L4 --also MyPolicy.py

A serving engine computes one token of many tasks at a time, as reading the weights takes longer than computing with
them (iteration-level batching: G. Yu et al., "Orca", OSDI 2022). When a task has arrived or is completed, the next
token's batch is made anew: the first B tasks in the order in which the policy's `schedule` would run those that are
there, by the time that each still needs alone. A pass over all layers takes max(reading the weights, computing): a
token of a batch of b is a pass of b tokens; the prompt of a task that joins is one more, before its first token. A task
joins if its KV cache fits the device's memory beside the weights and the caches of all tasks that have begun, including
those put off; if it does not fit, the next in the order may join.

Load is that of batches of B: time of all tasks in full batches / span of arrivals, so that batches of any size are as
hard pressed; random lists are B times as long, those of --tasks are taken as they arrive. The uplink is dedicated: a
shared one carries less than batches of 4.
"""
import math
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import common
from reproduce import stats, study

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "dedicated"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists
RUNS = 20  # random lists for each batch and load
BATCH = (1, 2, 4, 8)  # most tasks in a batch
LOADS = (0.75, 1, 1.25)  # time of all tasks in full batches / span of arrivals
TASKS = 20  # of a random list, for each place in the batch
PROMPT = (10, 300)  # tokens of a prompt: the least and the most
OUTPUT = (50, 1500)  # tokens of output
TRANS = (0.5, 5)  # s of transmission
DEADLINE = (1.5, 3)  # arrival + this x (computation + transmission)

METRICS = {"deadlines_met_percent": "Deadlines met (%)", "p95_turnaround_time": "95th percentile of turnaround (s)"}


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    """A case is a list for a size of batch: a random one, at a load, or that of --tasks, as it is."""
    model = common.get_model(args.model)
    device = common.get_device(args.device)
    lists = [(load, batch, args.seed, run, None) for load in LOADS for batch in BATCH for run in range(args.runs)]
    if args.tasks is not None:
        tasks, = study.task_lists(args)
        if tasks["given_time"].notna().any():
            common.warn(f"{args.tasks}: computation_time is not used: batches take the estimated time of their tokens")
        lists = [(None, batch, args.seed, 0, tasks) for batch in BATCH]
    return [(*drawn, args.tasks or "", args.methods, model, device, args.link) for drawn in lists]


def run_case(load, batch, seed, run, tasks, tasks_file, methods, model, device, link):
    """Metrics of the policies ({name: script}) on a list of one's own, or on a random one at a load."""
    if tasks is None:
        draw = np.random.default_rng((seed, run))
        tasks = study.random_tasks(draw, batch * TASKS, PROMPT, OUTPUT, TRANS, DEADLINE, 1, model, device)
    weights = model.layers * model.layer_bytes
    room = device.memory * 1e9 - weights
    need = tasks["kv_bytes"].max()
    common.require(need <= room, f"{device.type} has {device.memory} GB, too little for the weights of {model.name} "
                   f"({weights / 1e9:.1f} GB) and the KV cache of a task ({need / 1e9:.1f} GB)")
    prompt = pass_time(model, device, tasks["prompt_tokens"].to_numpy())
    token = pass_time(model, device, np.arange(batch + 1))
    together = prompt.sum() + tasks["output_tokens"].sum() * token[batch] / batch
    if load is None:
        span = tasks["arrival_time"].max() - tasks["arrival_time"].min()
        load = round(together / span, 4) if span else math.inf
    else:
        tasks = study.at_load(tasks, load * tasks["computation_time"].sum() / together)

    about = dict(model=model.name, device=device.type, link=link, tasks_file=tasks_file, load=load, seed=seed, run=run,
                 tasks=len(tasks), batch=batch)
    rows = []
    for name, path in methods.items():
        with study.errors_of(name):
            end = serve_batches(study.script(path).schedule, tasks, prompt.tolist(), token.tolist(), room, batch)
        rows.append({**about, "algorithm": name, **measure(tasks, end, link)})
    return rows


def measure(tasks, end, link):
    """Metrics of tasks whose last tokens are computed at `end` (array, microseconds), as README defines them."""
    arrival = tasks["arrival_time"].to_numpy()
    trans = tasks["trans_time"].to_numpy()
    completion = end + trans
    if link == "shared":  # first computed, first sent
        order = np.lexsort((arrival, end))
        completion[order] = common.serve(end[order], trans[order])
    return {"deadlines_met_percent": 100 * (completion <= tasks["deadline"]).mean(),
            "p95_turnaround_time": round(float(np.percentile(completion - arrival, 95)) / common.US, 6)}


# Batches --------------------------------------------------------------------------------------------------------------
def pass_time(model, device, tokens):
    """Microseconds of a pass of so many tokens (array) over all layers: reading the weights once, or computing."""
    return np.rint(model.layers * common.layer_time(model, device, tokens, 0) * common.US).astype("int64")


def serve_batches(schedule, tasks, prompt, token, room, most):
    """When each task has its last token: array, microseconds.

    schedule: of a script; tasks: table in order of arrival, rows 0, 1, .., of one output token or more each; prompt:
    microseconds of each task's prompt; token: of one token of a batch of 0, 1, .. most; room: bytes for KV caches.
    """
    arrival = tasks["arrival_time"].tolist()
    kv = tasks["kv_bytes"].tolist()
    left = tasks["output_tokens"].tolist()
    columns = {key: tasks[key].to_numpy() for key in tasks}
    end = np.zeros(len(tasks), "int64")
    present = []  # rows of tasks
    begun = set()  # those of them that have a KV cache
    coming = now = 0
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
            order = running_order(schedule, columns, alone, now)
        batch = first_that_fit(order, begun, kv, free, most)

        # prompts, then tokens until one of the batch is completed, or up to the first token after an arrival
        now += sum(prompt[k] for k in batch if k not in begun)
        begun.update(batch)
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
    return end


def running_order(schedule, columns, alone, now):
    """The tasks (rows) in the order in which the policy would run them from now on: as common.next_run asks it.
    columns: of the table of tasks; alone: {row: microseconds that are left of it}, in order of arrival."""
    rows = list(alone)
    queue = {key: column[rows] for key, column in columns.items()}  # a quarter of the time that tasks.loc takes
    queue.update(arrival_time=now, computation_time=list(alone.values()))
    row = dict(zip(queue["label"], rows))
    labels = schedule(pd.DataFrame(queue))["label"].unique()
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
    who = list(runs["algorithm"].unique())
    keys = ["load", "batch"]
    table = stats.compare(runs, keys, "run", who, METRICS)
    met = table[table["metric"] == "deadlines_met_percent"]
    parts = [heading(runs), *study.means_of(table, keys, who, METRICS),
             ("changes", f"Deadlines met: {who[0]}'s change in % against each", study.changes(met, keys, who)),
             *study.own_changes(runs, keys, "run", who, ["deadlines_met_percent"])]
    figure = study.draw_lines, METRICS, "batch", who, table, None if runs["tasks_file"].iloc[0] else "load"
    return parts, {"table": table}, {"": figure}


def heading(runs):
    about = runs.iloc[0]
    number = runs["run"].nunique()
    lists = (f"{number} random lists of {TASKS} x batch tasks for each batch and load, seed {about['seed']}\n"
             f"{study.legend(number)}")
    if about["tasks_file"]:
        lists = f"{about['tasks_file']}: {about['tasks']:,} tasks, as they arrive"
    return (f"reproduce.batching: {about['model']} on {about['device']}, {about['link']} uplink\n{lists}\n"
            "batch: most tasks in a batch; load: time of all tasks in full batches / span of arrivals\n"
            "(of batches of 1: one task at a time, as in the other studies)")


if __name__ == "__main__":
    study.run("batching", __doc__, cases, run_case, report, RUNS,
              ["model", "device", "link", "tasks_file", "load", "seed", "run", "tasks", "batch", *METRICS],
              study.POLICIES, tasks=None, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=study.OUT)
