"""Lengths are not known beforehand: policies decide online, by estimates, and the real lengths follow.

    python -m reproduce.uncertainty
    python -m reproduce.uncertainty --runs 50 --seed 1 --also my_policy.py

A server knows a request's deadline and how long its result takes to send, but not how long it computes. Here a policy
is asked through common.next_run which task runs, at every arrival and completion, with an estimate of what is left of
each task: its real length x exp(sigma x Z), Z normal and the same for all policies and sigmas (lognormal, median 1).
When an estimate is used up before its task is done, REST is taken to be left, again and again until it is done.

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
RUNS = 20  # random lists for each load
OUT = "results"  # where the files go

LOADS = (0.6, 0.9, 1.2)  # computation / span of arrivals
SIGMAS = (0, 0.3, 0.6, 1)  # of the estimates; without a cost of preemption
COSTS = (0, 0.01, 0.1)  # s of the processor that a preemption takes; with exact lengths
REST = 0.1  # s that are taken to be left once an estimate is used up
TASKS = 30  # of a list
PROMPT, OUTPUT = (15, 250), (50, 1500)  # tokens, the least and the most
TRANS = (0.5, 5)  # s of transmission
DEADLINE = (1.5, 4)  # deadline: arrival + this x (computation + transmission)

POLICIES = ["ADSA", "FCFS", "SRTF", "LLF"]
EDF = "EDF (reference)"
UNITS = {"deadlines_met": "%", "mean_waiting_time": "s", "mean_turnaround_time": "s", "p95_turnaround_time": "s",
         "preemptions": ""}


def main(name):
    parser = common.make_parser(name, __doc__, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    who = list(runs["algorithm"].unique())
    table = stats.compare(runs, ["load", "sigma", "cost"], "run", who, UNITS)
    lost = changes_by_setting(runs, who)

    model, device, link = runs[["model", "device", "link"]].iloc[0]
    parts = [f"reproduce.uncertainty: {model} on {device}, {link} uplink; lists of {TASKS} tasks, seed "
             f"{runs['seed'].iloc[0]}\nestimate = length x lognormal(sigma), median 1; {REST} s are taken to be left once "
             f"it is used up\n{tables.legend(runs['run'].nunique())}"]
    for load in runs["load"].unique():
        of_load = table[table["load"] == load]
        parts.append((f"Load {load}, by the sigma of the estimates",
                      in_rows(of_load[of_load["cost"] == 0], "sigma", who)))
        parts.append((f"Load {load}, exact lengths, by the cost of a preemption (s)",
                      in_rows(of_load[of_load["sigma"] == 0], "cost", who)))
    parts.append(("What estimates cost each policy: change in % from exact lengths", lost_rows(lost, "sigma", who)))
    parts.append(("What preemptions cost each policy: change in % from free ones", lost_rows(lost, "cost", who)))
    parts.append(("ADSA's change in % against each, by load and sigma", against_others(table, who)))
    figures = {}
    if not args.no_plot:
        figures = {"": common.try_figure(draw, table, who)}
    tables.publish("uncertainty", args.out, parts, {"runs": runs, "table": table, "changes": lost}, figures)


# The runs -------------------------------------------------------------------------------------------------------------
def draw_all(args):
    """The runs: a row for each list, policy and setting (sigma, cost)."""
    link = common.find_name(args.link, common.LINKS, "link")
    device, model = common.get_device(args.device), common.get_model(args.model)
    methods = tables.load_scripts(POLICIES, args.also, "schedule")
    methods[EDF] = "reproduce.EDF"
    cases = [(load, args.seed, run) for load in LOADS for run in range(args.runs)]
    found = parallel(run_case, [(*case, methods, model, device, link) for case in cases])
    return tables.as_written(pd.concat(found, ignore_index=True))


def run_case(load, seed, run, methods, model, device, link):
    """The runs of one random list."""
    draw = np.random.default_rng((seed, run))
    tasks = random_tasks(load, draw, model, device)
    errors = draw.standard_normal(TASKS)
    rows = []
    for sigma, cost in [*((sigma, 0) for sigma in SIGMAS), *((0, cost) for cost in COSTS if cost)]:
        estimates = np.rint(tasks["computation_time"] * np.exp(sigma * errors)).astype("int64")
        for name, script in methods.items():
            schedule = tables.script(script).schedule
            intervals = run_online(schedule, tasks, estimates.clip(lower=1), round(cost * common.US))
            try:
                result, _ = common.simulate(tasks, intervals, link)
            except common.UserError as error:
                raise common.UserError(f"{name}: {error}") from error
            metrics = common.scheduling_metrics(tasks, result, model, device)
            metrics["deadlines_met"] *= 100 / TASKS
            rows.append({"load": load, "seed": seed, "run": run, "sigma": sigma, "cost": cost, "algorithm": name,
                         "model": model.name, "device": device.type, "link": link,
                         **{key: metrics[key] for key in UNITS}})
    return pd.DataFrame(rows)


def random_tasks(load, draw, model, device):
    """Task table of a random list. The tasks of a run are those of all loads, but for arrivals and deadlines."""
    prompt = draw.integers(*PROMPT, TASKS, endpoint=True)
    output = draw.integers(*OUTPUT, TASKS, endpoint=True)
    trans = draw.uniform(*TRANS, TASKS)
    factor = draw.uniform(*DEADLINE, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))
    table = common.read_tasks([
        {"label": f"Task {k + 1}", "prompt": "", "arrival_time": 0, "output_words": 0, "trans_time": float(trans[k]),
         "deadline": 0, "prompt_tokens": int(prompt[k]), "output_tokens": int(output[k])}
        for k in range(TASKS)], model, [device])
    arrival = arrival - arrival[0] + trace.later(arrival, table["computation_time"].to_numpy(), load)
    arrival = np.rint(arrival).astype("int64")
    due = np.rint(factor * (table["computation_time"] + table["trans_time"])).astype("int64")
    return table.assign(arrival_time=arrival, deadline=arrival + due)


def run_online(schedule, tasks, estimates, cost):
    """Compute intervals (label, start, end; microseconds) of a policy that decides as a server would.

    schedule: the policy's; tasks: task table, with the real lengths; estimates: what the policy takes for these, a
    column of microseconds; cost: microseconds of the processor for leaving a task that is not done.
    """
    label, arrival = tasks["label"].tolist(), tasks["arrival_time"].tolist()
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

        # the policy decides; one task alone runs in any case
        k, until = waiting[0], math.inf
        if len(waiting) > 1:
            table = tasks.iloc[waiting].assign(computation_time=[expected[j] for j in waiting])
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
        held, now = k, end
        if left[k] == 0:
            waiting.remove(k)
            held = None
        elif expected[k] <= 0:
            expected[k] = round(REST * common.US)
    return common.interval_table(tasks, runs)


def read(folder):
    """What draw_all returned, of an earlier run."""
    return tables.read_runs(folder, "uncertainty_runs.csv", ["load", "seed", "run", "sigma", "cost", *UNITS],
                            ["model", "device", "link"], [*POLICIES, EDF])


# Tables ---------------------------------------------------------------------------------------------------------------
def in_rows(table, key, who):
    """Means with their intervals as text, for one load: a row for each metric and value of `key`."""
    rows = []
    for metric, unit in UNITS.items():
        for value in table[key].unique():
            part = table[(table["metric"] == metric) & (table[key] == value)].set_index("algorithm")
            cells = {name: tables.show_mean(*part.loc[name, ["mean", "low", "high"]]) for name in who}
            rows.append({"metric": f"{metric} ({unit})" if unit else metric, key: value, **cells})
    return pd.DataFrame(rows)


def changes_by_setting(runs, who):
    """What estimates, and what preemptions that cost something, change for each policy in the same lists: a row for
    each load, metric, policy and setting, in % of exact lengths and free preemptions, with the 95 % interval."""
    rows = []
    for (load, name), part in runs.groupby(["load", "algorithm"], sort=False):
        settings = part.pivot(index="run", columns=["sigma", "cost"], values=list(UNITS))
        for metric in UNITS:
            values = settings[metric].astype(float)
            for sigma, cost in values:
                if sigma or cost:
                    change = stats.change(values[(sigma, cost)].to_numpy(), values[(0, 0)].to_numpy())
                    rows.append([load, sigma, cost, metric, name, *change])
    columns = ["load", "sigma", "cost", "metric", "algorithm", "change", "change_low", "change_high"]
    return pd.DataFrame(rows, columns=columns).round(6)


def lost_rows(lost, key, who):
    """changes_by_setting as text, of the largest value of `key` (sigma or cost): a row for each load and metric."""
    part = lost[lost[key] == lost[key].max()]
    rows = []
    for (load, metric), cells in part.groupby(["load", "metric"], sort=False):
        if metric != "preemptions":
            rows.append({"load": load, key: lost[key].max(), "metric": metric, **changes_of(cells, who)})
    return pd.DataFrame(rows)


def against_others(table, who):
    """ADSA's changes as text: a row for each metric, load and sigma."""
    part = table[(table["cost"] == 0) & (table["metric"] != "preemptions")]
    rows = []
    for (metric, load, sigma), cells in part.groupby(["metric", "load", "sigma"], sort=False):
        if sigma in (0, part["sigma"].max()):
            rows.append({"metric": metric, "load": load, "sigma": sigma, **changes_of(cells, who[1:])})
    return pd.DataFrame(rows)


def changes_of(cells, who):
    cells = cells.set_index("algorithm")
    return {name: tables.show_change(*cells.loc[name, ["change", "change_low", "change_high"]]) for name in who}


# Figure ---------------------------------------------------------------------------------------------------------------
LINES = [dict(color=common.BLUE, marker="o"), dict(color="0.35", marker="s"), dict(color=common.ORANGE, marker="^"),
         dict(color=common.RED, marker="v"), dict(color=common.SKY, marker="D"), dict(color="black", marker="x")]
PANELS = [("deadlines_met", "sigma", "deadlines\nmet (%)"), ("mean_waiting_time", "sigma", "mean\nwaiting (s)"),
          ("p95_turnaround_time", "sigma", "95th percentile of\nturnaround (s)"),
          ("deadlines_met", "cost", "deadlines\nmet (%)")]


def draw(table, who):
    """A row of panels a metric, a column a load, a line a policy with its 95 % intervals."""
    from matplotlib.figure import Figure
    loads = table["load"].unique()
    figure = Figure((3.5, 0.7 + 1.05 * len(PANELS)), dpi=300)
    plots = figure.subplots(len(PANELS), len(loads), sharey="row", squeeze=False)
    keys = {}
    for (metric, key, label), row in zip(PANELS, plots):
        for load, axes in zip(loads, row):
            part = table[(table["load"] == load) & (table["metric"] == metric)]
            part = part[(part["cost"] if key == "sigma" else part["sigma"]) == 0]
            for k, name in enumerate(who):
                keys[name] = draw_line(axes, part[part["algorithm"] == name], key, k)
            axes.set_xlabel("sigma" if key == "sigma" else "a preemption (ms)", fontsize=7)
        row[0].set_ylabel(label, fontsize=7)
        row[0].set_ylim(bottom=0)
    for load, axes in zip(loads, plots[0]):
        axes.set_title(f"load {load}", fontsize=8)
    figure.align_ylabels(plots[:, 0])
    return common.finish_figure(figure, keys)


def draw_line(axes, line, key, k):
    """The k-th policy's means over sigma, or over costs at equal distances; each a little beside the others."""
    at = line[key].to_numpy(dtype=float)
    if key == "cost":
        axes.set_xticks(range(len(at)))
        axes.set_xticklabels([f"{1000 * cost:g}" for cost in at])
        at = np.arange(len(at))
    at = at + (k - 2) * 0.02 * at.max()
    ends = np.array([line["mean"] - line["low"], line["high"] - line["mean"]])
    return axes.errorbar(at, line["mean"], np.nan_to_num(ends).clip(0), linewidth=0.9, markersize=2.5, elinewidth=0.6,
                         **LINES[k % len(LINES)])


if __name__ == "__main__":
    common.run(main, "reproduce.uncertainty")
