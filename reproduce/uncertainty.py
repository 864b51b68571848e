"""Lengths are not known beforehand: policies decide online, by estimates, and the real lengths follow.

    python -m reproduce.uncertainty

A server knows a request's deadline and how long its result takes to send, but not how long it computes. Here a policy
is asked through common.next_run which task runs, at every arrival and completion, with an estimate of what is left of
each task: its real length x exp(sigma x Z), Z normal and the same for all policies and sigmas (lognormal, median 1).
When an estimate is used up before its task is done, REST is taken to be left, again and again, until it is done.

Apart from that, what a preemption costs: leaving a task that is not done takes COSTS of the processor, without an
interruption; then the policy is asked again. EDF (not of the paper) looks at no length, like FCFS.
"""
import collections
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
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists and estimates
RUNS = 12  # random lists for each load

LOADS = (0.6, 0.9, 1.2)  # computation / span of arrivals
SIGMAS = (0, 0.3, 0.6, 1)  # of the estimates; preemptions are free then
COSTS = (0.01, 0.1)  # s of the processor that a preemption takes; lengths are known exactly then
REST = 1  # s that are taken to be left once an estimate is used up
TASKS = 30  # of a list
PROMPT, OUTPUT = (15, 250), (50, 1500)  # tokens, the least and the most
TRANS = (0.5, 5)  # s of transmission
DEADLINE = (1.5, 4)  # deadline: arrival + this x (computation + transmission)

SEEN = ["label", "arrival_time", "computation_time", "trans_time", "deadline", "prompt_tokens", "output_tokens",
        "memory_gb"]  # what a policy may look at
METRICS = ["deadlines_met", "mean_waiting_time", "mean_turnaround_time", "p95_turnaround_time", "preemptions"]
SHOWN = {"deadlines_met": "Deadlines met (%)", "p95_turnaround_time": "95th percentile of turnaround (s)"}
DRAWN = {"deadlines_met": "Change in deadlines met (%)", "p95_turnaround_time": "Change in 95th percentile (%)"}


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    """A case is a random list at a load."""
    model = common.get_model(args.model)
    device = common.get_device(args.device)
    return [(load, args.seed, run, args.methods, model, device, args.link)
            for load in LOADS for run in range(args.runs)]


def run_case(load, seed, run, methods, model, device, link):
    """Metrics of the policies ({name: script}) with estimates of each sigma, and with preemptions of each cost."""
    draw = np.random.default_rng((seed, run))
    tasks = study.random_tasks(draw, TASKS, PROMPT, OUTPUT, TRANS, DEADLINE, load, model, device)
    errors = draw.standard_normal(TASKS)
    settings = [(sigma, 0) for sigma in SIGMAS] + [(0, cost) for cost in COSTS]
    rows = []
    for sigma, cost in settings:
        estimates = np.rint(tasks["computation_time"] * np.exp(sigma * errors)).astype("int64")
        for name, path in methods.items():
            with study.errors_of(name):
                intervals = run_online(study.script(path).schedule, tasks, estimates, round(cost * common.US))
                result, _ = common.simulate(tasks, intervals, link)
            metrics = common.scheduling_metrics(tasks, result, model, device)
            metrics["deadlines_met"] *= 100 / TASKS
            rows.append(dict(load=load, seed=seed, run=run, sigma=sigma, cost=cost, algorithm=name, model=model.name,
                             device=device.type, link=link, **{key: metrics[key] for key in METRICS}))
    return rows


def run_online(schedule, tasks, estimates, cost):
    """Compute intervals (label, start, end; microseconds) of a policy that decides as a server would.

    schedule: the policy's; tasks: task table, with the real lengths; estimates: what the policy takes for these, a
    column of microseconds; cost: microseconds of the processor for leaving a task that is not done.
    """
    seen = tasks.filter(items=SEEN)
    label = tasks["label"].tolist()
    arrival = tasks["arrival_time"].tolist()
    left = tasks["computation_time"].tolist()
    expected = estimates.tolist()  # to be left
    coming = collections.deque(np.argsort(arrival, kind="stable").tolist())
    waiting, runs = [], []
    now, held = 0, None  # held: the task that the processor holds, if it is not done
    while coming or waiting:
        if not waiting:
            now = max(now, arrival[coming[0]])
        while coming and arrival[coming[0]] <= now:
            waiting.append(coming.popleft())

        # the policy decides; a task that is alone runs in any case
        k = waiting[0]
        until = now + expected[k]
        if len(waiting) > 1:
            table = seen.iloc[waiting].assign(computation_time=[expected[j] for j in waiting])
            chosen, until = common.next_run(schedule, table, now)
            k = label.index(chosen)

        # another task than the one that the processor holds: once it has changed over, the policy is asked again
        if cost and held not in (None, k):
            held = k
            now += cost
            continue

        # it runs until it is done, until another arrives, or as long as the policy lets it
        next_arrival = arrival[coming[0]] if coming else math.inf
        end = min(now + left[k], next_arrival, until)
        runs.append((k, now, end))
        left[k] -= end - now
        expected[k] -= end - now
        held = k
        now = end
        if left[k] == 0:
            waiting.remove(k)
            held = None
        elif expected[k] <= 0:
            expected[k] = round(REST * common.US)
    return common.interval_table(tasks, runs)


# Report ---------------------------------------------------------------------------------------------------------------
def report(runs):
    who = list(runs["algorithm"].unique())
    table = stats.compare(runs, ["load", "sigma", "cost"], "run", who, METRICS)
    changed = changes_of_settings(runs)
    free = table[table["cost"] == 0]
    worst = changed["sigma"].max()
    met = free[(free["metric"] == "deadlines_met") & free["sigma"].isin([0, worst])]
    of_deadlines = changed[changed["metric"] == "deadlines_met"]
    estimated = of_deadlines[of_deadlines["sigma"] == worst]
    dear = of_deadlines[of_deadlines["cost"] > 0]
    keys = ["load", "sigma"]
    parts = [
        heading(runs), *study.means_of(free, keys, who, SHOWN),
        ("changes", f"Deadlines met: {who[0]}'s change in % against each", study.changes(met, keys, who)),
        *study.own_changes(runs[runs["cost"] == 0], keys, "run", who, ["deadlines_met"]),
        ("estimates", f"Deadlines met: change in % from exact lengths to sigma {worst:g}",
         study.in_columns(estimated, ["load"], who, study.CHANGE, study.show_change)),
        ("preemptions", "Deadlines met: change in % from free preemptions",
         study.in_columns(dear, ["load", "cost"], who, study.CHANGE, study.show_change))]
    shown = changed[changed["cost"] == 0].rename(columns=dict(zip(study.CHANGE, study.MEAN)))
    figure = (study.draw_lines, DRAWN, "sigma", who, shown, "load")
    return parts, {"table": table, "changes": changed}, {"": figure}


def heading(runs):
    about = runs.iloc[0]
    number = runs["run"].nunique()
    return (f"reproduce.uncertainty: {about['model']} on {about['device']}, {about['link']} uplink\n"
            f"{number} random lists of {TASKS} tasks at each load, seed {about['seed']}\n"
            f"sigma: estimate = length x lognormal(sigma), median 1; when used up, {REST} s is taken to be left\n"
            "cost: seconds of the processor that a preemption takes\n"
            f"{study.legend(number)}")


def changes_of_settings(runs):
    """The change in % of each policy from exact lengths and free preemptions on the same lists, and its 95 % interval
    (columns of stats.compare): a row for each load, sigma, cost, metric and policy."""
    rows = []
    for load, part in runs.groupby("load", sort=False):
        for metric in METRICS:
            values = part.pivot(index="run", columns=["sigma", "cost", "algorithm"], values=metric).astype(float)
            for sigma, cost, name in values:
                change = stats.change(values[(sigma, cost, name)].to_numpy(), values[(0, 0, name)].to_numpy())
                rows.append([load, sigma, cost, metric, name, *change])
    return pd.DataFrame(rows, columns=["load", "sigma", "cost", "metric", "algorithm", *study.CHANGE]).round(6)


if __name__ == "__main__":
    study.run("uncertainty", __doc__, cases, run_case, report, RUNS,
              ["model", "device", "link", "load", "seed", "run", "sigma", "cost", *METRICS], study.POLICIES,
              model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=study.OUT)
