"""How many deadlines are met, and how long the slowest tasks take, as the load grows: a curve a policy.

    python -m reproduce.load
    python -m reproduce.load --tasks trace.csv --link dedicated --also mine.py

Load is computation / span of arrivals. At each load the same lists are served, their arrivals stretched or squeezed to
it; deadlines stay as long after the arrivals as they were. Random lists have Poisson arrivals; --tasks takes a list of
your own in their place, a trace perhaps (reproduce.trace): one list, so that there are no bands.
"""
import itertools
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
RUNS = 30  # random lists
OUT = "results"  # where the files go
LOADS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
TASKS = 300  # of a random list
PROMPT = (10, 250)  # tokens of a prompt: the least and the most
OUTPUT = (50, 1600)  # tokens of output
TRANS = (0.5, 5)  # s of transmission
FACTOR = (1.5, 3)  # deadline: arrival + this x (computation + transmission)

POLICIES = {"ADSA": "ADSA", "FCFS": "FCFS", "SRTF": "SRTF", "LLF": "LLF", "EDF (reference)": "reproduce.EDF"}
METRICS = {"deadlines_met_percent": "Deadlines met (%)", "p95_turnaround_time": "95th percentile of turnaround (s)"}
BETTER = {"deadlines_met_percent": 1, "p95_turnaround_time": -1}  # more, or less
COLOURS = ("black", common.BLUE, common.ORANGE, common.RED, common.SKY, "0.5")
MARKERS = "os^vDPX"


def main(name):
    parser = common.make_parser(name, __doc__, tasks=None, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    who = runs["algorithm"].unique().tolist()
    table = stats.compare(runs, ["load"], "run", who, METRICS)

    parts = [heading(runs)]
    for metric, caption in METRICS.items():
        parts.append((f"{caption} at each load", by_load(table[table["metric"] == metric], who), BETTER[metric]))
    figures = {} if args.no_plot else {"": common.try_figure(draw_curves, table, who)}
    tables.publish("load", args.out, parts, {"runs": runs, "table": table}, figures, args.format)


def draw_all(args):
    """The runs: a row for each list, load and policy."""
    link = common.find_name(args.link, common.LINKS, "link")
    device = common.get_device(args.device)
    model = common.get_model(args.model)
    methods = tables.load_scripts(POLICIES, args.also, "schedule")
    if args.tasks is None:
        lists = [random_list(args.seed, run, model, device) for run in range(args.runs)]
    else:
        common.require((args.runs, args.seed) == (RUNS, SEED), "--runs and --seed: have no effect with --tasks")
        lists = [common.read_tasks(args.tasks, model, [device])]
        common.require(lists[0]["arrival_time"].nunique() > 1, f"{args.tasks}: all tasks arrive at once, at any load")
        common.require(lists[0]["computation_time"].any(), f"{args.tasks}: no task takes any computation")

    cases, jobs = [], []
    for run, tasks in enumerate(lists):
        for load in LOADS:
            cases.append((run, load))
            jobs.append((at_load(tasks, load), methods, model, device, link))
    rows = []
    for (run, load), metrics in zip(cases, parallel(run_case, jobs)):
        for of_policy in metrics:
            rows.append({"load": load, "seed": args.seed, "run": run, **of_policy})
    runs = pd.DataFrame(rows).assign(model=model.name, device=device.type, link=link, tasks_file=args.tasks or "")
    return tables.as_written(runs)


def read(folder):
    """What draw_all returned, of an earlier run."""
    return tables.read_runs(folder, "load_runs.csv", ["load", "seed", "run", "tasks", *METRICS],
                            ["model", "device", "link", "tasks_file"], POLICIES)


# One list -------------------------------------------------------------------------------------------------------------


def random_list(seed, run, model, device):
    """Task table of a random list, its arrivals a Poisson process."""
    draw = np.random.default_rng((seed, run))
    rows = pd.DataFrame({
        "label": [f"Task {k}" for k in range(1, TASKS + 1)], "prompt": "", "output_words": 0,
        "prompt_tokens": draw.integers(*PROMPT, TASKS, endpoint=True),
        "output_tokens": draw.integers(*OUTPUT, TASKS, endpoint=True),
        "trans_time": draw.uniform(*TRANS, TASKS)})
    factor = draw.uniform(*FACTOR, TASKS)
    rows["arrival_time"] = rows["deadline"] = np.cumsum(draw.exponential(1, TASKS))

    tasks = common.read_tasks(rows.to_dict("records"), model, [device])
    allowed = factor * (tasks["computation_time"] + tasks["trans_time"])
    tasks["deadline"] += np.rint(allowed).astype("int64")
    return tasks


def at_load(tasks, load):
    """The tasks, stretched or squeezed from the first arrival on so that computation / span of arrivals = load."""
    arrival = tasks["arrival_time"].to_numpy()
    work = tasks["computation_time"].to_numpy()
    later = np.rint(trace.later(arrival, work, load)).astype("int64")
    return tasks.assign(arrival_time=arrival + later, deadline=tasks["deadline"] + later)


def run_case(tasks, methods, model, device, link):
    """What each policy makes of a task table: its metrics (dicts)."""
    rows = []
    for name, path in methods.items():
        try:
            result, _ = common.simulate(tasks, tables.script(path).schedule(tasks), link)
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        percent = 100 * result["deadline_met"].mean()
        metrics = common.scheduling_metrics(tasks, result, model, device)
        rows.append({"algorithm": name, "deadlines_met_percent": percent, **metrics})
    return rows


# Tables and figure ----------------------------------------------------------------------------------------------------


def heading(runs):
    """What was run, and how to read it."""
    about = runs.iloc[0]
    number = runs["run"].nunique()
    text = f"reproduce.load: {about['model']} on {about['device']}, {about['link']} uplink\n"
    if about["tasks_file"]:
        text += f"{about['tasks_file']}: {about['tasks']:,} tasks, at each load once\n"
    else:
        text += (f"{number} random lists of {about['tasks']} tasks, Poisson arrivals, seed {about['seed']}\n"
                 f"mean \u00b1 half of its 95 % interval (bootstrap, {stats.RESAMPLES:,} resamples)\n")
    return text + "load: computation / span of arrivals"


def by_load(table, who):
    """Text for reading: a row a load, a column a policy."""
    rows = []
    for load, part in table.groupby("load"):
        row = {"load": str(load)}
        means = part.set_index("algorithm")[["mean", "low", "high"]]
        for name in who:
            row[name] = tables.show_mean(*means.loc[name]).replace(" \u00b1 n/a", "")  # of one list
        rows.append(row)
    return pd.DataFrame(rows)


def draw_curves(table, who):
    """Figure of the means over the load, each with its 95 % band, one journal column wide."""
    figure = common.new_figure(4.2 + 0.13 * (len(who) // 3))
    keys = {}
    plots = figure.subplots(len(METRICS), 1, sharex=True)
    for axes, (metric, label) in zip(plots, METRICS.items()):
        of_metric = table[table["metric"] == metric]
        for name, colour, marker in zip(who, itertools.cycle(COLOURS), itertools.cycle(MARKERS)):
            curve = of_metric[of_metric["algorithm"] == name].sort_values("load")
            load = curve["load"]
            keys[name], = axes.plot(load, curve["mean"], color=colour, marker=marker, markersize=2.5, linewidth=0.9)
            axes.fill_between(load, curve["low"], curve["high"], color=colour, alpha=0.25, linewidth=0)
        axes.set_ylabel(label, fontsize=7)
        axes.grid(color="0.9", linewidth=0.5)
    plots[0].set_ylim(-2, 102)
    plots[1].set_yscale("log")
    plots[1].set_xlabel("load (computation / span of arrivals)")
    figure.align_ylabels(plots)
    return common.finish_figure(figure, keys)


if __name__ == "__main__":
    common.run(main, "reproduce.load")
