"""The whole system of the paper in one run: FCIM places the layers, ADSA orders the tasks on every device.

    python -m reproduce.whole_system
    python -m reproduce.whole_system --tasks my_tasks.csv --also MyScheduler.py --also MyAllocator.py

Allocators x schedulers on the same draws of tasks, links and bids. Each stage of a pipeline has a queue of its own: a
task arrives there when its activations do, and goes on over the link to the next stage, from the last one to the
client. At each stage a script's own `schedule` orders the tasks, with the deadline that is left if all that follows
goes without waiting (effective deadline: B. Kao, H. Garcia-Molina, "Subtask deadline assignment for complex distributed
soft real-time tasks", ICDCS 1994). EDF is not of the paper: what a plain rule reaches.

To ADSA a task's transmission is the link that follows its stage. All tasks cross the same one, so that its longest
transmission never decides: here ADSA is first come, first served, until a deadline is in danger.
"""
import math
import os
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import ADSA
import common
import FCIM
from reproduce import stats, study

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the first draw
RUNS = 20  # draws of tasks, links and bids
TASKS = 40  # of a drawn list, 2 or more
WORDS, PROMPT = (40, 400), (10, 200)  # words of output, tokens of a prompt, the least and the most
LOADS = {"queues form": 0.9, "overload": 1.3}  # of the slowest stage of a plain pipeline (see one_case)
DEADLINES = (1.5, 3)  # arrival + so many times the task's time through that pipeline, alone
CHART = 12  # tasks that the chart by device tells apart, from the middle of the list

# Metrics and their units: of an allocation, whatever the scheduler, and of both.
PIPELINE = {"stages": "", "slowest_stage_load": "", "time_alone": "s", "total_cost": "cents"}
METRICS = {"mean_waiting_time": "s", "mean_turnaround_time": "s", "p95_turnaround_time": "s", "deadlines_met": "",
           "T_end": "s", "preemptions": ""}
SHOWN = {"deadlines_met": "deadlines met", "mean_turnaround_time": "turnaround (s)",
         "p95_turnaround_time": "its 95th pct. (s)"}
NEEDED = ["model", "pool", "tasks_file", "setting", "seed", "allocator", "problem", "algorithm", *PIPELINE, *METRICS]
COLOURS = (common.BLUE, common.SKY, common.ORANGE, common.RED, "white", "0.75")  # of the tasks in the chart by device


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    """The cases: all allocators x schedulers on one draw in one setting."""
    model = common.get_model(args.model)
    pool = common.find_name(args.pool, common.POOLS, "pool")
    tasks = args.tasks or ""
    settings = LOADS
    if tasks:
        common.allocation_case(tasks, model, pool, args.seed)  # says what is wrong with the list
        settings = {os.path.basename(tasks): None}

    allocators = {name: path for name, path in args.methods.items() if hasattr(study.script(path), "allocate")}
    schedulers = {name: path for name, path in args.methods.items() if hasattr(study.script(path), "schedule")}
    return [(allocators, schedulers, tasks, model, pool, args.seed + k, setting, load)
            for setting, load in settings.items() for k in range(args.runs)]


def run_case(allocators, schedulers, tasks, model, pool, seed, setting, load):
    """Metrics of allocators x schedulers ({name: script}) on one draw: a list of dicts. The others: see one_case."""
    case = one_case(model, pool, seed, load, tasks)
    rows = []
    for allocator, path in allocators.items():
        row = dict(model=model.name, pool=pool, tasks_file=tasks, setting=setting, seed=seed, allocator=allocator)
        try:
            with study.errors_of(allocator):
                stages, _ = study.script(path).allocate(**case)
                row.update(problem="", **pipeline_metrics(stages, case))
        except common.NoAllocation as none:
            rows += [dict(row, algorithm=name, problem=str(none)) for name in schedulers]
            continue
        for name, path in schedulers.items():
            with study.errors_of(name):
                results, _ = feed_forward(stages, case, study.script(path).schedule)
            rows.append(dict(row, algorithm=name, **queue_metrics(case["tasks"], results)))
    return rows


def one_case(model, pool, seed, load, tasks=""):
    """A case, as common.allocation_case: links and bids of one seed, and a list of the user's (its path), or a drawn
    one, alike for all loads but for arrivals and deadlines.

    No method has a part in it: a plain pipeline sets the scale. Tasks arrive, evenly spread, within the time of which
    its slowest stage would be busy for `load`; a deadline is arrival + a factor of DEADLINES x the task's time through
    it, alone.
    """
    if tasks:
        return study.quiet_case(tasks, model, pool, seed)
    rng = common.draw(seed, "tasks")
    prompt = rng.integers(*PROMPT, TASKS, endpoint=True)
    words = rng.integers(*WORDS, TASKS, endpoint=True)
    factor = rng.uniform(*DEADLINES, TASKS)
    arrival = np.sort(rng.uniform(size=TASKS))
    rows = pd.DataFrame({"label": [f"Task {k + 1}" for k in range(TASKS)], "prompt": "", "arrival_time": 0,
                         "prompt_tokens": prompt, "output_words": words, "trans_time": 0, "deadline": 0})
    case = study.quiet_case(rows, model, pool, seed)

    alone, slowest = plain_pipeline(case)
    share = (arrival - arrival[0]) / (arrival[-1] - arrival[0])
    arrival = common.microseconds(share * slowest / load)
    due = arrival + common.microseconds(factor * alone)
    tasks = case["tasks"].assign(arrival_time=arrival, deadline=due)
    return dict(case, tasks=tasks, arrivals=arrival / common.US)


def plain_pipeline(case):
    """Seconds that each task takes alone, and that the slowest stage takes for all, in a pipeline of the fastest
    bidders, each with all that it offers, until the layers are placed, and of mean links."""
    times, delay, offers = case["times"], case["delay"], case["bids"]["layers"]
    whole = times.sum(axis=0)
    layers = np.zeros(len(offers), dtype="int64")
    for i in whole.argsort(kind="stable"):
        layers[i] = min(case["layers"] - layers.sum(), offers[i])

    link = delay[np.triu_indices(len(delay), 1)].mean()
    links = np.count_nonzero(layers) + 1
    alone = times @ layers + links * link
    return alone, (whole * layers).max()


# The pipeline ---------------------------------------------------------------------------------------------------------
def feed_forward(stages, case, schedule):
    """What becomes of the tasks in a pipeline with a queue at each stage: the tables of pass_stages, of all stages.

    stages: of an allocate; case: of common.allocation_case; schedule: function of a task table to compute intervals. As
    tasks only move forward, stage after stage is exact; with FCFS the last completion_time is that of common.evaluate.
    """
    tasks = case["tasks"]
    work, links = study.work_and_links(stages, case)
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
        queue = tasks.assign(arrival_time=arrival, computation_time=work[:, s], trans_time=links[s + 1],
                             deadline=tasks["deadline"] - later)
        result, runs = common.simulate(queue, schedule(queue), "dedicated")
        results.append(result)
        intervals.append(runs)
        arrival = result["completion_time"].to_numpy()
    return results, intervals


def pipeline_metrics(stages, case):
    """What is known of an allocation, whatever the scheduler. UserError, if it is none."""
    _, _, _, metrics = common.evaluate(stages, **case)
    work, links = study.work_and_links(stages, case)
    alone = work.sum(axis=1) + links.sum()
    span = np.ptp(case["tasks"]["arrival_time"].to_numpy()) or math.nan
    return dict(
        stages=len(stages),
        time_alone=alone.mean() / common.US,
        slowest_stage_load=work.sum(axis=0).max() / span,
        total_cost=metrics["total_cost"],
    )


def queue_metrics(tasks, results):
    """Metrics, in seconds and counts, of the tables of tasks that feed_forward has found."""
    waiting = sum(result["waiting_time"] for result in results) / common.US
    completion = results[-1]["completion_time"]
    turnaround = (completion - tasks["arrival_time"]) / common.US
    return dict(
        mean_waiting_time=round(waiting.mean(), 6),
        mean_turnaround_time=round(turnaround.mean(), 6),
        p95_turnaround_time=round(float(np.percentile(turnaround, 95)), 6),
        deadlines_met=int((completion <= tasks["deadline"]).sum()),
        T_end=(completion.max() - tasks["arrival_time"].min()) / common.US,
        preemptions=int(sum(result["preemptions"].sum() for result in results)),
    )


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs):
    allocators = list(runs["allocator"].unique())
    schedulers = list(runs["algorithm"].unique())
    allocations = runs[runs["algorithm"] == schedulers[0]]  # alike for all schedulers
    allocations, failed = study.on_shared_draws(allocations.assign(algorithm=allocations["allocator"]), ["setting"])
    shared = stats.shared_draws(runs, ["setting", "seed"])
    keys = ["setting", "allocator"]
    pipelines = stats.compare(allocations, ["setting"], "seed", allocators, PIPELINE)
    table = stats.compare(shared, keys, "seed", schedulers, METRICS)

    means = study.means(pipelines, ["setting", "metric"], allocators, PIPELINE)
    parts = [heading(runs), *failed, ("pipelines", "The pipelines", means)]
    for metric in SHOWN:
        part = table[table["metric"] == metric]
        parts += [(metric, study.with_unit(metric, METRICS), study.means(part, keys, schedulers)),
                  (f"{metric}_changes", f"{metric}: {schedulers[0]}'s change in % behind the same allocator",
                   study.changes(part, keys, schedulers))]
    parts += study.own_changes(allocations, ["setting"], "seed", allocators, PIPELINE)
    parts += study.own_changes(shared, keys, "seed", schedulers, SHOWN)

    figures = {"_devices": (draw_example, shared)}
    for setting, part in table.groupby("setting", sort=False):
        end = f"_{setting}".replace(" ", "-")
        figures[end] = study.draw_bars, SHOWN, "allocator", schedulers, part, common.shorten(setting)
    return parts, {"table": table, "pipelines": pipelines}, figures


def heading(runs):
    about = runs.iloc[0]
    model = common.get_model(about["model"])
    number = runs["seed"].nunique()
    lines = [f"reproduce.whole_system: {model.name} ({model.layers} layers, {model.bits:g} bits), pool "
             f"{about['pool']},\n{number} draws of tasks, links and bids, seeds from {runs['seed'].min()}"]
    if not about["tasks_file"]:
        loads = ", ".join(f"{setting} {load}" for setting, load in LOADS.items())
        lines.append(f"{TASKS} tasks; load of a plain pipeline: {loads}")
    return "\n".join([*lines, study.legend(number), "EDF is not of the paper."])


# Chart by device ------------------------------------------------------------------------------------------------------
def draw_example(runs):
    """Draws the first draw, FCIM with ADSA."""
    about = runs.iloc[0]
    setting, seed = about[["setting", "seed"]]
    case = one_case(common.get_model(about["model"]), about["pool"], seed, LOADS.get(setting), about["tasks_file"])
    stages, _ = FCIM.allocate(**case)
    names = case["bids"]["device"][[stage["devices"][0] for stage in stages]]
    title = f"FCIM with ADSA, {setting}, seed {seed}"
    return draw_devices(title, names, *feed_forward(stages, case, ADSA.schedule))


def draw_devices(title, names, results, intervals):
    """Draws who computes which task when, a row a device or group. names: of the devices of each stage; results,
    intervals: of feed_forward."""
    import matplotlib
    tasks = results[0]
    middle = max(0, len(tasks) - CHART) // 2
    labels = tasks["label"].tolist()[middle:middle + CHART]
    since = tasks["arrival_time"].min()
    runs = pd.concat([part[part["kind"] == "compute"].assign(stage=s) for s, part in enumerate(intervals)])
    runs = common.in_seconds(runs.assign(start=runs["start"] - since, end=runs["end"] - since))
    runs["width"] = runs["end"] - runs["start"]
    is_told_apart = runs["label"].isin(labels)

    matplotlib.rcParams["hatch.linewidth"] = 0.4  # read when the figure is written
    figure = common.new_figure(1.35 + 0.26 * len(names) + 0.13 * math.ceil(len(labels) / 3))
    axes = figure.subplots()
    common.draw_rows(axes, [common.shorten(name) for name in names], {})
    keys = {}
    for k, label in enumerate(labels):
        part = runs[runs["label"] == label]
        look = dict(color=COLOURS[k % 6], hatch="" if k < 6 else "/////", edgecolor="black", linewidth=0.3)
        keys[common.shorten(label)] = axes.barh(part["stage"], part["width"], 0.72, part["start"], **look)
    if not is_told_apart.all():
        others = runs[~is_told_apart]
        look = dict(color="0.85", edgecolor="0.55", linewidth=0.3)
        keys["other tasks"] = axes.barh(others["stage"], others["width"], 0.3, others["start"], **look)
    axes.set(title=title, xlabel="time since the first arrival (s)",
             xlim=(runs["start"][is_told_apart].min(), runs["end"][is_told_apart].max()))
    return common.finish_figure(figure, keys)


if __name__ == "__main__":
    study.run("whole_system", __doc__, cases, run_case, report, RUNS, NEEDED,
              {**study.ALLOCATORS, **study.POLICIES}, tasks=None, model=MODEL, pool=POOL, seed=SEED, out=study.OUT)
