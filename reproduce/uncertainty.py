"""Lengths are not known beforehand: policies decide online, by estimates, and the real lengths follow.

    python -m reproduce.uncertainty
    python -m reproduce.uncertainty --runs 50 --seed 1 --also my_policy.py

A server knows a request's deadline and how long its result takes to send, but not how long it computes. Here a policy
is asked through common.next_run which task runs, at every arrival and completion, with an estimate of what is left of
each task: its real length x exp(sigma x Z), Z normal and the same for all policies and sigmas (lognormal, median 1).
When an estimate is used up before its task is done, REST is taken to be left, again and again, until it is done.

Apart from that, what a preemption costs: leaving a task that is not done takes COSTS of the processor, without an
interruption; then the policy is asked again. EDF (reproduce/EDF.py) is a reference that is not of the paper; like
FCFS it looks at no length. --also takes a scheduling script of your own.
"""
import collections
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
SEED = 0  # of the random lists and estimates
RUNS = 12  # random lists for each load
OUT = "results"  # where the files go

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
EDF = "EDF (reference)"
SCRIPTS = {"ADSA": "ADSA", "FCFS": "FCFS", "SRTF": "SRTF", "LLF": "LLF", EDF: "reproduce.EDF"}
UNITS = {"deadlines_met": "%", "mean_waiting_time": "s", "mean_turnaround_time": "s", "p95_turnaround_time": "s",
         "preemptions": ""}
JUDGED = ["deadlines_met", "mean_waiting_time", "p95_turnaround_time"]  # in the tables of changes
MEAN, CHANGE = ["mean", "low", "high"], ["change", "change_low", "change_high"]  # columns of stats.compare


def main(name):
    parser = common.make_parser(name, __doc__, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    who = list(runs["algorithm"].unique())
    table = stats.compare(runs, ["load", "sigma", "cost"], "run", who, UNITS)
    changed = changes_of_settings(runs, who)

    parts = [heading(runs), *of_estimates(table, changed, who)]
    dear = changed[changed["cost"] > 0]
    parts.append(("What preemptions cost: change in % from free ones", in_rows(dear, JUDGED, who, CHANGE)))
    figures = {}
    if not args.no_plot:
        figures[""] = common.try_figure(draw, table, who)
    tables.publish("uncertainty", args.out, parts, {"runs": runs, "table": table, "changes": changed}, figures,
                   args.format)


# The runs -------------------------------------------------------------------------------------------------------------
def draw_all(args):
    """The runs: a row for each list, policy and setting (sigma, cost)."""
    link = common.find_name(args.link, common.LINKS, "link")
    device = common.get_device(args.device)
    model = common.get_model(args.model)
    methods = tables.load_scripts(SCRIPTS, args.also, "schedule")
    jobs = []
    for load in LOADS:
        for run in range(args.runs):
            jobs.append((load, args.seed, run, methods, model, device, link))
    return tables.as_written(pd.concat(parallel(run_case, jobs), ignore_index=True))


def run_case(load, seed, run, methods, model, device, link):
    """The runs of one random list."""
    draw = np.random.default_rng((seed, run))
    tasks = random_tasks(load, draw, model, device)
    errors = draw.standard_normal(TASKS)
    settings = [(sigma, 0) for sigma in SIGMAS] + [(0, cost) for cost in COSTS]
    rows = []
    for sigma, cost in settings:
        estimates = np.rint(tasks["computation_time"] * np.exp(sigma * errors)).astype("int64")
        for name, script in methods.items():
            schedule = tables.script(script).schedule
            intervals = run_online(schedule, tasks, estimates, round(cost * common.US))
            try:
                result, _ = common.simulate(tasks, intervals, link)
            except common.UserError as error:
                raise common.UserError(f"{name}: {error}") from error
            metrics = common.scheduling_metrics(tasks, result, model, device)
            row = {"load": load, "seed": seed, "run": run, "sigma": sigma, "cost": cost, "algorithm": name,
                   "model": model.name, "device": device.type, "link": link}
            row.update({key: metrics[key] for key in UNITS})
            row["deadlines_met"] *= 100 / TASKS
            rows.append(row)
    return pd.DataFrame(rows)


def random_tasks(load, draw, model, device):
    """Task table of a random list. The tasks of a run are those of all loads, but for arrivals and deadlines."""
    prompt = draw.integers(*PROMPT, TASKS, endpoint=True)
    output = draw.integers(*OUTPUT, TASKS, endpoint=True)
    trans = draw.uniform(*TRANS, TASKS)
    factor = draw.uniform(*DEADLINE, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))

    rows = []
    for k in range(TASKS):
        rows.append({"label": f"Task {k + 1}", "prompt": "", "arrival_time": 0, "output_words": 0,
                     "trans_time": float(trans[k]), "deadline": 0, "prompt_tokens": int(prompt[k]),
                     "output_tokens": int(output[k])})
    table = common.read_tasks(rows, model, [device])

    return trace.at_load(table, arrival, load, factor)


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


def read(folder):
    """What draw_all returned, of an earlier run."""
    return tables.read_runs(folder, "uncertainty_runs.csv", ["load", "seed", "run", "sigma", "cost", *UNITS],
                            ["model", "device", "link"], SCRIPTS)


# Tables ---------------------------------------------------------------------------------------------------------------
def heading(runs):
    """What was run, and how to read it."""
    about = runs.iloc[0]
    return (f"reproduce.uncertainty: {about['model']} on {about['device']}, {about['link']} uplink\n"
            f"lists of {TASKS} tasks, seed {about['seed']}; estimate = length x lognormal(sigma), median 1; once it is "
            f"used up, {REST} s are taken to be left\n{tables.legend(runs['run'].nunique())}")


def of_estimates(table, changed, who):
    """Captions and tables of the runs in which preemptions are free."""
    free = table[table["cost"] == 0]
    parts = []
    for load in free["load"].unique():
        of_load = free[free["load"] == load]
        parts.append((f"Load {load}, means by the sigma of the estimates", in_rows(of_load, UNITS, who, MEAN)))
    most = free["sigma"].max()
    worst = changed[changed["sigma"] == most]
    parts.append(("What estimates cost: change in % from exact lengths", in_rows(worst, JUDGED, who, CHANGE)))
    ends = free[free["sigma"].isin([0, most])]
    parts.append((f"{who[0]}'s change in % against each", in_rows(ends, JUDGED, who[1:], CHANGE)))
    return parts


def changes_of_settings(runs, who):
    """What estimates, and what preemptions that are not free, change for each policy on the same lists.

    A row for each load, sigma, cost, metric and policy: the change in % from exact lengths and free preemptions, and
    its 95 % interval (columns of stats.compare).
    """
    rows = []
    for load, part in runs.groupby("load", sort=False):
        for metric in UNITS:
            values = part.pivot(index="run", columns=["sigma", "cost", "algorithm"], values=metric).astype(float)
            for sigma, cost, name in values:
                if sigma or cost:
                    change = stats.change(values[(sigma, cost, name)].to_numpy(), values[(0, 0, name)].to_numpy())
                    rows.append([load, sigma, cost, metric, name, *change])
    return pd.DataFrame(rows, columns=["load", "sigma", "cost", "metric", "algorithm", *CHANGE]).round(6)


def in_rows(table, metrics, who, columns):
    """A table of text: a row for each metric and setting, a column for each of `who`. columns: MEAN or CHANGE."""
    show = tables.show_mean if columns == MEAN else tables.show_change
    rows = []
    for metric in metrics:
        of_metric = table[table["metric"] == metric]
        for setting, part in of_metric.groupby(["load", "sigma", "cost"], sort=False):
            cells = part.set_index("algorithm")
            row = {"metric": metric, **dict(zip(["load", "sigma", "cost"], setting))}
            row.update({name: show(*cells.loc[name, columns]) for name in who})
            rows.append(row)
    text = pd.DataFrame(rows)
    alike = [key for key in ("load", "sigma", "cost") if text[key].nunique() == 1]
    return text.drop(columns=alike)


# Figure ---------------------------------------------------------------------------------------------------------------
COLOURS = (common.BLUE, "0.5", common.ORANGE, common.RED, "black", common.SKY)  # of the lines, again and again
MARKERS = ("o", "s", "^", "v", "x", "D", "P")
PANELS = [("deadlines_met", "sigma", "deadlines\nmet (%)"), ("mean_waiting_time", "sigma", "mean\nwaiting (s)"),
          ("p95_turnaround_time", "sigma", "95th percentile,\nturnaround (s)"),
          ("deadlines_met", "cost", "deadlines\nmet (%)")]


def draw(table, who):
    """A row of panels for each of PANELS (the last one by cost), a column a load, a line a policy."""
    from matplotlib.figure import Figure
    loads = table["load"].unique()
    figure = Figure((3.5, 0.7 + 1.05 * len(PANELS)), dpi=300)
    plots = figure.subplots(len(PANELS), len(loads), sharey="row", squeeze=False)
    keys = {}
    for (metric, key, label), row in zip(PANELS, plots):
        of_metric = table[table["metric"] == metric]
        other = "cost" if key == "sigma" else "sigma"
        for load, axes in zip(loads, row):
            part = of_metric[(of_metric["load"] == load) & (of_metric[other] == 0)]
            for k, name in enumerate(who):
                keys[name] = draw_line(axes, part[part["algorithm"] == name], key, k)
        row[0].set_ylabel(label, fontsize=7)
    for column, load in enumerate(loads):
        plots[0, column].set_title(f"load {load}")
        plots[-2, column].set_xlabel("sigma", fontsize=7)
        plots[-1, column].set_xlabel("preemption (ms)", fontsize=7)
    figure.align_ylabels(plots[:, 0])
    return common.finish_figure(figure, keys)


def draw_line(axes, line, key, k):
    """The k-th policy's means over sigmas, or over costs at equal distances; each a little beside the others."""
    values = line[key].to_numpy(dtype=float)
    at = values
    if key == "cost":
        at, values = np.arange(len(values)), 1000 * values
    axes.set_xticks(at)
    axes.set_xticklabels([f"{value:g}" for value in values])
    at = at + (k - 2) * 0.02 * at.max()
    ends = np.array([line["mean"] - line["low"], line["high"] - line["mean"]])
    return axes.errorbar(at, line["mean"], np.nan_to_num(ends).clip(0), linewidth=0.9, markersize=2.5, elinewidth=0.6,
                         color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)])


if __name__ == "__main__":
    common.run(main, "reproduce.uncertainty")
