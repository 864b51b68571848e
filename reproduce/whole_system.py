"""The whole system of the paper in one run: FCIM places the layers, ADSA orders the tasks on every device.

    python -m reproduce.whole_system
    python -m reproduce.whole_system --runs 5 --tasks my_tasks.csv
    python -m reproduce.whole_system --also MyScheduler.py --also MyAllocator.py

Allocators x schedulers on the same draws of tasks, links and bids. Each stage of a pipeline has a queue of its own: a
task arrives there when its activations do, and goes on over the link to the next stage, from the last one to the
client. At each stage a script's own `schedule` orders the tasks, with the deadline that is left if all that follows
goes without waiting (effective deadline: B. Kao, H. Garcia-Molina, "Subtask deadline assignment for complex distributed
soft real-time tasks", ICDCS 1994). EDF is not of the paper: what a plain rule reaches.

To ADSA a task's transmission is the link that follows its stage. All tasks cross the same one, so that its longest
transmission never decides: here ADSA is first come, first served, until a deadline is in danger.
"""
import contextlib
import math
import os
import pathlib
import sys
import textwrap

import numpy as np
import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import ADSA
import common
import FCIM
from reproduce import stats, tables
from reproduce.parallel import parallel

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the first draw
RUNS = 20  # draws of tasks, links and bids
OUT = "results"  # where the files go
TASKS = 40  # of a drawn list, 2 or more
WORDS, PROMPT = (40, 400), (10, 200)  # words of output, tokens of a prompt, the least and the most
LOADS = {"queues form": 0.9, "overload": 1.3}  # of the slowest stage of a plain pipeline (see draw)
DEADLINES = (1.5, 3)  # arrival + so many times the task's time through that pipeline, alone
CHART = 12  # tasks that the chart by device tells apart

# Names and scripts. FCIM and ADSA, the first, are compared with all others.
ALLOCATORS = {"FCIM": "FCIM", "FCIM (links)": "reproduce.FCIM_links", "HexGen": "HexGen", "PipeDream": "PipeDream",
              "PipeEdge": "PipeEdge"}
SCHEDULERS = {"ADSA": "ADSA", "FCFS": "FCFS", "SRTF": "SRTF", "LLF": "LLF", "EDF": "reproduce.EDF"}
METRICS = {"mean_waiting_time": "s", "mean_turnaround_time": "s", "p95_turnaround_time": "s", "deadlines_met": "",
           "T_end": "s", "preemptions": ""}
COMPARED = {"mean_waiting_time": -1, "mean_turnaround_time": -1, "deadlines_met": 1}  # 1: more is better
PIPELINE = ["stages", "slowest_stage_load", "time_alone", "total_cost"]  # of an allocation, whatever the scheduler
MEAN, CHANGE = ["mean", "low", "high"], ["change", "change_low", "change_high"]  # columns of tables.compare
PANELS = {"deadlines_met": "deadlines met", "mean_turnaround_time": "turnaround (s)",
          "p95_turnaround_time": "its 95th pct. (s)"}


def main(name):
    parser = common.make_parser(name, __doc__, tasks=None, model=MODEL, pool=POOL, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    shared = stats.shared_draws(runs, ["setting", "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")

    failed = failures(runs)
    pipelines = compare_pipelines(shared)
    table = compare_schedulers(shared)
    whole = compare_pairs(shared)

    parts = [heading(runs, failed)]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for setting in runs["setting"].unique():
        parts += setting_parts(setting, pipelines, table, whole)
    figures = {} if args.no_plot else {
        "": common.try_figure(draw_means, table),
        "_devices": common.try_figure(draw_example, runs),
    }
    tables.publish("whole_system", args.out, parts, {
        "runs": runs,
        "table": table,
        "whole": whole,
        "pipelines": pipelines,
        "failures": failed,
    }, figures, args.format)


# Runs -----------------------------------------------------------------------------------------------------------------


def draw_all(args):
    """The runs of all settings: a row for each allocator and scheduler of a draw."""
    pool = common.find_name(args.pool, common.POOLS, "pool")
    model = common.get_model(args.model)
    scripts = load_scripts(args.also)
    path = args.tasks or ""
    if path:
        common.allocation_case(path, model, pool, args.seed)  # says what is wrong with the list
    settings = {os.path.basename(path): None} if path else LOADS
    jobs = [(*scripts, path, model, pool, args.seed + k, *setting)
            for setting in settings.items() for k in range(args.runs)]
    rows = [row for of_draw in parallel(run_case, jobs) for row in of_draw]
    return tables.as_written(pd.DataFrame(rows))


def read(folder):
    """The runs that an earlier run has written into the folder."""
    return tables.read_runs(folder, "whole_system_runs.csv", ["seed", *METRICS, *PIPELINE],
                            ["model", "pool", "tasks_file", "setting", "allocator", "problem"], SCHEDULERS)


def load_scripts(also):
    """{name: script} of the allocators and of the schedulers: those above, and the user's own (paths)."""
    own = {"allocate": [], "schedule": []}
    for path in also:
        own[function_of(path)].append(path)
    allocators = tables.load_scripts(ALLOCATORS, own["allocate"], "allocate")
    schedulers = tables.load_scripts(SCHEDULERS, own["schedule"], "schedule")
    return {**allocators, **ALLOCATORS}, {**schedulers, **SCHEDULERS}


def function_of(path):
    """Which of the two functions a script of the user's defines."""
    try:
        module = tables.script(os.path.abspath(path))
    except (Exception, SystemExit):
        return "schedule"  # tables.load_scripts will say what is wrong with it
    for function in ("allocate", "schedule"):
        if hasattr(module, function):
            return function
    raise common.UserError(f"--also {path}: has no function allocate, nor schedule")


def run_case(allocators, schedulers, tasks, model, pool, seed, setting, load):
    """Metrics of allocators x schedulers ({name: script}) on one draw: a list of dicts. tasks: a path, or "" for drawn
    lists; setting: its name."""
    case = one_case(tasks, model, pool, seed, load)
    rows = []
    for allocator in allocators:
        row = dict(model=model.name, pool=pool, tasks_file=tasks, setting=setting, seed=seed, allocator=allocator)
        try:
            with errors_of(allocator):
                stages, _ = tables.script(allocators[allocator]).allocate(**case)
                row.update(problem="", **pipeline_metrics(stages, case))
        except common.NoAllocation as none:
            rows += [dict(row, algorithm=name, problem=str(none)) for name in schedulers]
            continue
        for name in schedulers:
            with errors_of(name):
                results, _ = feed_forward(stages, case, tables.script(schedulers[name]).schedule)
            rows.append(dict(row, algorithm=name, **queue_metrics(case["tasks"], results)))
    return rows


@contextlib.contextmanager
def errors_of(name):
    """Says of a UserError whose it is: a script of the user's may return what is no allocation, or no schedule."""
    try:
        yield
    except common.UserError as error:
        raise common.UserError(f"{name}: {error}") from error


def one_case(tasks, model, pool, seed, load):
    """The case of one seed with a list of the user's (its path), or, if that is "", with one drawn at this load."""
    if tasks:
        return tables.quiet_case(tasks, model, pool, seed)
    return draw(model, pool, seed, load)


def draw(model, pool, seed, load):
    """A case, as common.allocation_case: tasks, links and bids of one seed, alike for all loads but for arrivals and
    deadlines.

    No method has a part in it: a plain pipeline sets the scale. Tasks arrive, evenly spread, within the time of which
    its slowest stage would be busy for `load`; a deadline is arrival + a factor of DEADLINES x the task's time through
    it, alone.
    """
    rng = common.draw(seed, "tasks")
    prompt = rng.integers(*PROMPT, TASKS, endpoint=True)
    words = rng.integers(*WORDS, TASKS, endpoint=True)
    factor = rng.uniform(*DEADLINES, TASKS)
    arrival = np.sort(rng.uniform(size=TASKS))
    case = tables.quiet_case([{
        "label": f"Task {k + 1}",
        "prompt": "",
        "arrival_time": 0,
        "prompt_tokens": int(prompt[k]),
        "output_words": int(words[k]),
        "trans_time": 0,
        "deadline": 0,
    } for k in range(TASKS)], model, pool, seed)

    alone, slowest = plain_pipeline(case)
    share = (arrival - arrival[0]) / (arrival[-1] - arrival[0])
    arrival = microseconds(share * slowest / load)
    due = arrival + microseconds(factor * alone)
    tasks = case["tasks"].assign(arrival_time=arrival, deadline=due)
    return dict(case, tasks=tasks, arrivals=arrival / common.US)


def plain_pipeline(case):
    """Seconds that each task takes alone, and that the slowest stage takes for all, in a pipeline of the fastest
    bidders, each with all that it offers, until the layers are placed, and of mean links."""
    times, delay, offers = case["times"], case["delay"], case["bids"]["layers"]
    whole = times.sum(axis=0)
    layers = np.zeros(len(offers), dtype="int64")
    for i in whole.argsort(kind="stable"):
        left = case["layers"] - layers.sum()
        layers[i] = min(left, offers[i])

    link = delay[np.triu_indices(len(delay), 1)].mean()
    links = np.count_nonzero(layers) + 1
    alone = times @ layers + links * link
    return alone, (whole * layers).max()


def microseconds(seconds):
    return np.rint(seconds * common.US).astype("int64")


# The pipeline ---------------------------------------------------------------------------------------------------------


def work_and_links(stages, case):
    """Microseconds that each task takes in each stage, all-reduces within: (tasks, stages); and that each link takes,
    from the client on to the client: (stages + 1,)."""
    groups = [stage["devices"] for stage in stages]
    layers = np.array([stage["layers"] for stage in stages])
    compute, allreduce, links = common.stage_times(groups, layers, case["delay"], case["times"])
    return compute + allreduce, links


def feed_forward(stages, case, schedule):
    """What becomes of the tasks in a pipeline with a queue at each stage: the tables of pass_stages, of all stages.

    stages: of an allocate; case: of common.allocation_case; schedule: function of a task table to compute intervals. As
    tasks only move forward, stage after stage is exact; with FCFS the last completion_time is that of common.evaluate.
    """
    tasks = case["tasks"]
    work, links = work_and_links(stages, case)
    first = tasks["arrival_time"].to_numpy() + links[0]
    return pass_stages(tasks, first, work, links, schedule, range(len(stages)))


def pass_stages(tasks, arrival, work, links, schedule, numbers):
    """The tables of common.simulate, in microseconds, of each of the stages with these numbers: a list of those of
    tasks, and one of those of intervals.

    arrival: of each task at the first of them; work, links: of the whole pipeline. A stage's trans_time is the link
    that follows, its deadline the task's less the work and links that follow that.
    """
    results, intervals = [], []
    for s in numbers:
        later = work[:, s + 1:].sum(axis=1) + links[s + 2:].sum()
        queue = tasks.assign(
            arrival_time=arrival,
            computation_time=work[:, s],
            trans_time=links[s + 1],
            deadline=tasks["deadline"] - later,
        )
        result, runs = common.simulate(queue, schedule(queue), "dedicated")
        results.append(result)
        intervals.append(runs)
        arrival = result["completion_time"].to_numpy()
    return results, intervals


def pipeline_metrics(stages, case):
    """What is known of an allocation, whatever the scheduler. UserError, if it is none."""
    _, _, _, metrics = common.evaluate(stages, **case)
    work, links = work_and_links(stages, case)
    alone = work.sum(axis=1) + links.sum()
    busy = work.sum(axis=0)
    span = np.ptp(case["tasks"]["arrival_time"].to_numpy()) or math.nan
    return dict(
        stages=len(stages),
        time_alone=alone.mean() / common.US,
        slowest_stage_load=busy.max() / span,
        total_cost=metrics["total_cost"],
    )


def queue_metrics(tasks, results):
    """Metrics, in seconds and counts, of the tables of tasks that feed_forward has found."""
    waiting = sum(result["waiting_time"] for result in results) / common.US
    preemptions = sum(result["preemptions"].sum() for result in results)
    completion = results[-1]["completion_time"]
    turnaround = (completion - tasks["arrival_time"]) / common.US
    return dict(
        mean_waiting_time=round(waiting.mean(), 6),
        mean_turnaround_time=round(turnaround.mean(), 6),
        p95_turnaround_time=round(float(np.percentile(turnaround, 95)), 6),
        deadlines_met=int((completion <= tasks["deadline"]).sum()),
        T_end=completion.max() / common.US,
        preemptions=int(preemptions),
    )


# Tables ---------------------------------------------------------------------------------------------------------------


def failures(runs):
    """stats.failures of the allocators: alike for all schedulers."""
    runs = runs[runs["algorithm"] == "ADSA"]
    return stats.failures(runs, ["setting", "allocator"]).drop(columns="algorithm")


def compare_pipelines(runs):
    """stats.compare of the allocations: alike for all schedulers."""
    runs = runs[runs["algorithm"] == "ADSA"]
    runs = runs.assign(algorithm=runs["allocator"])
    return stats.compare(runs, ["setting"], "seed", list(runs["allocator"].unique()), PIPELINE)


def compare_schedulers(runs):
    """stats.compare of ADSA with every other scheduler, the allocator the same."""
    return stats.compare(runs, ["setting", "allocator"], "seed", list(runs["algorithm"].unique()), METRICS)


def compare_pairs(runs):
    """stats.compare of FCIM with ADSA, the whole system, against every other pair."""
    pairs = runs["allocator"] + ", " + runs["algorithm"]
    allocator = dict(zip(pairs, runs["allocator"]))
    scheduler = dict(zip(pairs, runs["algorithm"]))
    table = stats.compare(runs.assign(algorithm=pairs), ["setting"], "seed", list(allocator), COMPARED)
    pairs = table["algorithm"]
    return table.assign(allocator=pairs.map(allocator), algorithm=pairs.map(scheduler))


def heading(runs, failed):
    model = common.get_model(runs["model"][0])
    number = runs["seed"].nunique()
    where = "here all do" if failed.empty else "who found none, and how often, stands first"
    return (f"reproduce.whole_system: {model.name} ({model.layers} layers, {model.bits:g} bits), "
            f"pool {runs['pool'][0]}, {number} draws of tasks, links and bids, seeds from {runs['seed'].min()}\n"
            f"{tables.legend(number)}\n"
            f"EDF is not of the paper. Only the draws on which all allocators find an allocation count: {where}.")


def setting_parts(setting, pipelines, table, whole):
    """What is published of one setting."""
    pipelines, table, whole = (part[part["setting"] == setting] for part in (pipelines, table, whole))
    if table.empty:
        return [f"{setting}: no draw on which all allocators find an allocation"]
    own = pipelines.rename(columns={"algorithm": "allocator"})
    load = f"load {LOADS[setting]} of a plain pipeline, " if setting in LOADS else ""
    caption = f"{setting}: {load}the pipelines, means of {own['runs'].iloc[0]} draws"
    parts = [(caption, across(own, "metric", tables.show_mean, MEAN))]

    for metric, unit in METRICS.items():
        part = table[table["metric"] == metric]
        if metric == "deadlines_met" and setting in LOADS:
            unit = f"of {TASKS}"
        caption = f"{setting}, {metric} ({unit})" if unit else f"{setting}, {metric}"
        better = {"deadlines_met": 1, "preemptions": 0}.get(metric, -1)
        parts.append((caption, across(part, "algorithm", tables.show_mean, MEAN), better))

    others = table[table["algorithm"] != "ADSA"]
    for metric in COMPARED:
        part = whole[whole["metric"] == metric]
        caption = f"{setting}, {metric}: change of FCIM with ADSA in % against each"
        parts.append((caption, across(part, "algorithm", tables.show_change, CHANGE)))
        part = others[others["metric"] == metric]
        caption = f"{setting}, {metric}: ADSA's change in % against each, same allocator"
        parts.append((caption, across(part, "algorithm", tables.show_change, CHANGE)))
    lines = [f"{setting}, by changes whose interval leaves out 0:", *beaten_lines(table, whole)]
    return [*parts, "\n".join(lines)]


def across(part, columns, show, values):
    """A table of text, a row an allocator, a column for each value of `columns`: what `show` makes of the `values`."""
    names = part[columns].unique()
    part = part.set_index(["allocator", columns])[values]
    rows = []
    for allocator in part.index.unique("allocator"):
        cells = {name: show(*part.loc[(allocator, name)]) for name in names}
        rows.append({"allocator": allocator, **cells})
    return pd.DataFrame(rows)


def beaten_lines(table, whole):
    """Lines that say, of one setting, where ADSA and FCIM with ADSA are beaten."""
    lines = []
    for metric in COMPARED:
        schedulers = [f"{scheduler} ({', '.join(rows['allocator'])})"
                      for scheduler, rows in beaten_by(table, metric, "algorithm")]
        pairs = [f"{allocator} with {', '.join(rows['algorithm'])}"
                 for allocator, rows in beaten_by(whole, metric, "allocator")]
        lines.append(f"{metric}: ADSA is beaten by {'; '.join(schedulers) or 'none'}")
        lines.append(f"{metric}: FCIM with ADSA is beaten by {'; '.join(pairs) or 'none'}")
    return [textwrap.fill(line, 120, subsequent_indent="    ") for line in lines]


def beaten_by(table, metric, key):
    """The rows against which the first is worse, its interval leaving out 0: in groups of equal `key`."""
    part = table[table["metric"] == metric]
    is_worse = COMPARED[metric] * part["change"] < 0
    is_certain = part["change_low"] * part["change_high"] > 0
    return part[is_worse & is_certain].groupby(key, sort=False)


# Figures --------------------------------------------------------------------------------------------------------------


def draw_means(table):
    """Draws means as bars: a row of panels for each of PANELS and setting."""
    panels = []
    for metric, label in PANELS.items():
        for setting in table["setting"].unique():
            panels.append((f"{metric}, {setting}", f"{label}\n{common.shorten(setting)}"))
    table = table.assign(metric=table["metric"] + ", " + table["setting"])
    return tables.draw_bars(panels, "allocator", list(table["algorithm"].unique()), table)


def draw_example(runs):
    """Draws the first draw, FCIM with ADSA."""
    tasks, pool, setting, seed = runs[["tasks_file", "pool", "setting", "seed"]].iloc[0]
    model = common.get_model(runs["model"][0])
    case = one_case(tasks, model, pool, seed, LOADS.get(setting))
    stages, _ = FCIM.allocate(**case)
    names = ["+".join(case["bids"]["device"][stage["devices"]]) for stage in stages]
    title = f"FCIM with ADSA, {setting}, seed {seed}"
    return draw_devices(title, names, *feed_forward(stages, case, ADSA.schedule))


def draw_devices(title, names, results, intervals):
    """Draws who computes which task when, a row a device or group. Colours mark CHART tasks that arrive one after
    another: those that are preempted most, the first of equal ones.

    names: of the devices of each stage; results, intervals: of feed_forward.
    """
    import matplotlib
    first = most_preempted(results)
    labels = results[0]["label"].iloc[first]
    begin = results[0]["arrival_time"].iloc[first].min() / common.US
    end = results[-1]["completion_time"].iloc[first].max() / common.US
    runs = pd.concat([runs.assign(stage=s) for s, runs in enumerate(intervals)])
    runs = common.in_seconds(runs[runs["kind"] == "compute"])
    is_seen = (runs["start"] < end) & (runs["end"] > begin)
    others = runs[is_seen & ~runs["label"].isin(labels)]

    matplotlib.rcParams["hatch.linewidth"] = 0.4  # read when the figure is written
    figure = common.new_figure(1.35 + 0.26 * len(names) + 0.13 * math.ceil(len(labels) / 3))
    axes = figure.subplots()
    common.draw_rows(axes, [common.shorten(name) for name in names], {})
    keys = {}
    for k, label in enumerate(labels):
        colour, hatch = tables.look(k)
        part = runs[runs["label"] == label]
        keys[common.shorten(label)] = draw_runs(axes, part, 0.72, color=colour, hatch=hatch, edgecolor="black")
    if len(others):
        keys["other tasks"] = draw_runs(axes, others, 0.3, color="0.85", edgecolor="0.55")
    axes.set_xlim(begin, end)
    axes.set_xlabel("time (s)")
    axes.set_title(title)
    return common.finish_figure(figure, keys)


def draw_runs(axes, runs, height, **look):
    """Draws runs (stage; start and end in seconds) as bars."""
    width = runs["end"] - runs["start"]
    return axes.barh(runs["stage"], width, height, runs["start"], linewidth=0.3, **look)


def most_preempted(results):
    """The CHART tasks that arrive one after another and are preempted most, as a slice of the rows."""
    preemptions = sum(result["preemptions"] for result in results)
    before = np.cumsum([0, *preemptions])
    k = 0
    if len(preemptions) > CHART:
        k = int((before[CHART:] - before[:-CHART]).argmax())
    return slice(k, k + CHART)


if __name__ == "__main__":
    common.run(main, "reproduce.whole_system")
