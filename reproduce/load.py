"""How many deadlines are met, and how long the slowest tasks take, as the load grows: a curve a policy.

    python -m reproduce.load
    python -m reproduce.load --tasks trace.csv --link dedicated --also mine.py

Load is computation, one task at a time / span of arrivals. At each load the same lists are served, their arrivals
stretched or squeezed to it; deadlines stay as long after the arrivals as they were. Goodput, the largest load at which
GOAL % of the deadlines are met, is interpolated. Random lists have Poisson arrivals; a list of --tasks has no bands.
"""
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
SEED = 0  # of the random lists
RUNS = 30  # random lists
LOADS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
GOAL = 90  # %: the deadlines that are met up to the goodput
TASKS = 300  # of a random list
PROMPT = (10, 250)  # tokens of a prompt: the least and the most
OUTPUT = (50, 1600)  # tokens of output
TRANS = (0.5, 5)  # s of transmission
FACTOR = (1.5, 3)  # deadline: arrival + this x (computation + transmission)

METRICS = {"deadlines_met_percent": "Deadlines met (%)", "p95_turnaround_time": "95th percentile of turnaround (s)"}


def cases(args):
    """A case is a list at a load."""
    model = common.get_model(args.model)
    device = common.get_device(args.device)
    lists = study.task_lists(args, TASKS, PROMPT, OUTPUT, TRANS, FACTOR, None)
    common.require(lists[0]["arrival_time"].nunique() > 1, f"{args.tasks}: all tasks arrive at once, at any load")
    common.require(lists[0]["computation_time"].any(), f"{args.tasks}: no task takes any computation")
    return [(load, args.seed, run, tasks, args.tasks or "", args.methods, model, device, args.link)
            for run, tasks in enumerate(lists) for load in LOADS]


def run_case(load, seed, run, tasks, tasks_file, methods, model, device, link):
    """Metrics of the policies ({name: script}) on one list, stretched to the load: a list of dicts."""
    tasks = study.at_load(tasks, load)
    about = dict(load=load, seed=seed, run=run, model=model.name, device=device.type, link=link, tasks_file=tasks_file)
    rows = []
    for name, path in methods.items():
        with study.errors_of(name):
            result, _ = common.simulate(tasks, study.script(path).schedule(tasks), link)
        met = 100 * result["deadline_met"].mean()
        metrics = common.scheduling_metrics(tasks, result, model, device)
        rows.append({**about, "algorithm": name, "deadlines_met_percent": met, **metrics})
    return rows


def report(runs):
    who = list(runs["algorithm"].unique())
    table = stats.compare(runs, ["load"], "run", who, METRICS)
    found = goodput(runs, who)
    caption = f"Goodput: the largest load, up to {LOADS[-1]}, at which {GOAL} % of the deadlines are met"
    parts = [heading(runs), *study.means_of(table, ["load"], who, METRICS),
             *study.own_changes(runs, ["load"], "run", who, METRICS),
             ("goodput", caption, study.means(found, ["goal"], who))]
    return parts, {"table": table, "goodput": found}, {"": (draw, who, table, found)}


def goodput(runs, who):
    """The goodput of each policy, of the mean over the lists, and its 95 % interval: a row a policy."""
    rows = []
    for name in who:
        met = runs[runs["algorithm"] == name].pivot(index="run", columns="load", values="deadlines_met_percent")
        curves = [met.mean().to_numpy(), *(stats.drawings(len(met)) @ met.to_numpy() / len(met))]
        found = np.array([largest_load(met.columns.to_numpy(), curve) for curve in curves])
        low, high = stats.interval(found[1:], len(met))
        rows.append(dict(goal=f"{GOAL} %", algorithm=name, runs=len(met), mean=found[0], low=low, high=high))
    return pd.DataFrame(rows).round(6)


def largest_load(loads, met):
    """The largest load at which GOAL % are met: 0 if at none. loads: ascending; met: % at each of them."""
    good = np.flatnonzero(met >= GOAL)
    if not len(good):
        return 0
    after, last = min(good[-1] + 1, len(loads) - 1), good[-1]
    return np.interp(GOAL, met[[after, last]], loads[[after, last]])


def draw(who, table, found):
    """Figure of the curves, with the goodput of each policy below its curve."""
    goal = {"deadlines_met_percent": (GOAL, f"{GOAL} %")}
    figure = study.draw_lines(METRICS, "load", who, table, None, ["p95_turnaround_time"], goal)
    colours = [study.looks(who)[name][0] for name in found["algorithm"]]
    figure.axes[0].vlines(found["mean"], 0, GOAL, colours, linewidth=0.8)
    return figure


def heading(runs):
    about = runs.iloc[0]
    number = runs["run"].nunique()
    text = f"reproduce.load: {about['model']} on {about['device']}, {about['link']} uplink\n"
    if about["tasks_file"]:
        text += f"{about['tasks_file']}: {about['tasks']:,} tasks, at each load once\n"
    else:
        text += (f"{number} random lists of {about['tasks']} tasks, Poisson arrivals, seed {about['seed']}\n"
                 f"{study.legend(number, changes=False)}\n")
    return text + "load: computation, one task at a time / span of arrivals"


if __name__ == "__main__":
    study.run("load", __doc__, cases, run_case, report, RUNS,
              ["model", "device", "link", "tasks_file", "load", "seed", "run", "tasks", *METRICS], study.POLICIES,
              tasks=None, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=study.OUT)
