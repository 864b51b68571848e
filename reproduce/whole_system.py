"""The whole system of the paper in one run: FCIM places the layers, ADSA orders the tasks on every device.

    python -m reproduce.whole_system
    python -m reproduce.whole_system --runs 5 --tasks my_tasks.csv

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
import pathlib
import sys
import textwrap

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import numpy as np
import pandas as pd

import common
from reproduce import EDF, stats, tables
from reproduce.parallel import parallel

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the first draw
RUNS = 20  # draws of tasks, links and bids
OUT = "results"  # where the files go
TASKS = 40  # of a drawn list
WORDS, PROMPT = (40, 400), (10, 200)  # words of output, tokens of a prompt, the least and the most
LOADS = {"queues form": 0.9, "overload": 1.3}  # of the slowest stage of a plain pipeline (see draw)
DEADLINES = (1.5, 3)  # arrival + so many times the task's time through that pipeline, alone
CHART = 12  # tasks that the chart by device tells apart

ALLOCATORS = {  # the script and further keywords of its allocate
    "FCIM": ("FCIM", {}), "FCIM (links)": ("FCIM", {"order": "links"}), "HexGen": ("HexGen", {}),
    "PipeDream": ("PipeDream", {}), "PipeEdge": ("PipeEdge", {})}
SCHEDULERS = ["ADSA", "FCFS", "SRTF", "LLF", "EDF"]
METRICS = {"mean_waiting_time": "s", "mean_turnaround_time": "s", "p95_turnaround_time": "s", "deadlines_met": "",
           "T_end": "s", "preemptions": ""}
COMPARED = {"mean_waiting_time": -1, "mean_turnaround_time": -1, "deadlines_met": 1}  # 1: more is better
PIPELINE = ["stages", "slowest_stage_load", "time_alone", "total_cost"]  # of an allocation, whatever the scheduler
PANELS = {"deadlines_met": "deadlines met", "mean_turnaround_time": "turnaround (s)",
          "p95_turnaround_time": "its 95th pct. (s)"}


def scheduler(name):
    return EDF.schedule if name == "EDF" else tables.script(name).schedule


# The pipeline ---------------------------------------------------------------------------------------------------------


def work_and_links(stages, case):
    """Microseconds that each task takes in each stage, all-reduces within: (tasks, stages); and that each link takes,
    from the client on to the client: (stages + 1,). As common.evaluate accounts for them, which checks the stages."""
    ways = common.evaluate(stages, **case)[2]  # a row a task: link, work, link, work, .., link
    width = (ways["end"] - ways["start"]).to_numpy().reshape(len(case["tasks"]), -1)
    return width[case["tasks"].index, 1::2], width[0, ::2]


def pass_stages(tasks, arrival, work, links, schedule, numbers):
    """The tables of common.simulate, tasks and intervals in microseconds, of each of the stages with these numbers.

    arrival: of each task at the first of them; work, links: of the whole pipeline. A stage's trans_time is the link
    that follows, its deadline the task's less the work and links that follow that.
    """
    found = []
    for s in numbers:
        later = work[:, s + 1:].sum(axis=1) + links[s + 2:].sum()
        queue = tasks.assign(arrival_time=arrival, computation_time=work[:, s], trans_time=links[s + 1],
                             deadline=tasks["deadline"] - later)
        found.append(common.simulate(queue, schedule(queue), "dedicated"))
        arrival = found[-1][0]["completion_time"].to_numpy()
    return found


def feed_forward(stages, case, schedule):
    """What becomes of the tasks in a pipeline with a queue at each stage: pass_stages over all of it.

    stages: of an allocate; case: of common.allocation_case; schedule: function of a task table to compute intervals. As
    tasks only move forward, stage after stage is exact; with FCFS the last completion_time is that of common.evaluate.
    """
    tasks, (work, links) = case["tasks"], work_and_links(stages, case)
    return pass_stages(tasks, tasks["arrival_time"].to_numpy() + links[0], work, links, schedule, range(len(stages)))


def measure(tasks, found):
    """Metrics, in seconds and counts, of what feed_forward has found."""
    completion = found[-1][0]["completion_time"].to_numpy()
    turnaround = (completion - tasks["arrival_time"].to_numpy()) / common.US
    waiting = sum(result["waiting_time"].to_numpy() for result, _ in found) / common.US
    return dict(mean_waiting_time=round(waiting.mean(), 6), mean_turnaround_time=round(turnaround.mean(), 6),
                p95_turnaround_time=round(float(np.percentile(turnaround, 95)), 6),
                deadlines_met=int((completion <= tasks["deadline"].to_numpy()).sum()),
                T_end=int(completion.max()) / common.US,
                preemptions=int(sum(result["preemptions"].sum() for result, _ in found)))


# Draws ----------------------------------------------------------------------------------------------------------------


def draw(model, pool, seed, load):
    """A case, as common.allocation_case: tasks, links and bids of one seed, alike for all loads but for arrivals and
    deadlines.

    No method has a part in it: a plain pipeline sets the scale, of the fastest bidders, each with all that it offers,
    until the layers are placed, and of mean links. Tasks arrive, evenly spread, within the time of which its slowest
    stage would be busy for `load`; a deadline is arrival + a factor of DEADLINES x the task's time through it, alone.
    """
    rng = common.draw(seed, "tasks")
    prompt, words = (rng.integers(*most, TASKS, endpoint=True) for most in (PROMPT, WORDS))
    factor, arrival = rng.uniform(*DEADLINES, TASKS), np.sort(rng.uniform(size=TASKS))
    case = tables.quiet_case([
        {"label": f"Task {k + 1}", "prompt": "", "arrival_time": 0, "prompt_tokens": int(prompt[k]),
         "output_words": int(words[k]), "trans_time": 0, "deadline": 0} for k in range(TASKS)], model, pool, seed)
    times, delay, offers = case["times"], case["delay"], case["bids"]["layers"].to_numpy()
    layers, fastest = np.zeros_like(offers), times.sum(axis=0).argsort(kind="stable")
    before = offers[fastest].cumsum() - offers[fastest]
    layers[fastest] = (model.layers - before).clip(0, offers[fastest])
    alone = times @ layers + (np.count_nonzero(layers) + 1) * delay[np.triu_indices(len(delay), 1)].mean()
    span = (times.sum(axis=0) * layers).max() / load
    arrival = np.rint((arrival - arrival[0]) / (arrival[-1] - arrival[0]) * span * common.US).astype("int64")
    due = arrival + np.rint(factor * alone * common.US).astype("int64")
    return dict(case, tasks=case["tasks"].assign(arrival_time=arrival, deadline=due), arrivals=arrival / common.US)


def one_case(tasks, model, pool, seed, load):
    """The case of one seed with a list of the user's (its path), or, if that is None, with one drawn at this load."""
    return tables.quiet_case(tasks, model, pool, seed) if tasks else draw(model, pool, seed, load)


def run_case(tasks, model, pool, seed, setting, load):
    """Metrics of allocators x schedulers on one draw: a list of dicts. tasks: a path, or "" for drawn lists; setting:
    its name."""
    case = one_case(tasks, model, pool, seed, load)
    arrival, rows = case["tasks"]["arrival_time"], []
    for allocator, (script, options) in ALLOCATORS.items():
        row = dict(model=model.name, pool=pool, tasks_file=tasks, setting=setting, seed=seed, allocator=allocator)
        try:
            stages, _ = tables.script(script).allocate(**case, **options)
        except common.NoAllocation as none:
            rows += [dict(row, algorithm=name, problem=str(none)) for name in SCHEDULERS]
            continue
        work, links = work_and_links(stages, case)
        row.update(problem="", stages=len(stages), time_alone=(work.sum(axis=1).mean() + links.sum()) / common.US,
                   slowest_stage_load=work.sum(axis=0).max() / (arrival.max() - arrival.min() or math.nan),
                   total_cost=common.evaluate(stages, **case)[3]["total_cost"])
        for name in SCHEDULERS:
            found = measure(case["tasks"], feed_forward(stages, case, scheduler(name)))
            rows.append(dict(row, algorithm=name, **found))
    return rows


# What is shown --------------------------------------------------------------------------------------------------------


def across(part, metric, show, columns, who=SCHEDULERS):
    """A table of text, allocators down and schedulers across, of the rows of a table of stats.compare."""
    part = part[part["metric"] == metric].set_index(["allocator", "algorithm"])
    return pd.DataFrame([{"allocator": allocator, **{name: show(*part.loc[(allocator, name), columns]) for name in who}}
                         for allocator in ALLOCATORS])


def whole_against(runs):
    """stats.compare of FCIM with ADSA, the whole system, against every other pair."""
    pairs = [(allocator, name) for allocator in ALLOCATORS for name in SCHEDULERS]
    names = {f"{allocator}, {name}": (allocator, name) for allocator, name in pairs}
    runs = runs.assign(algorithm=runs["allocator"] + ", " + runs["algorithm"])
    table = stats.compare(runs, ["setting"], "seed", list(names), COMPARED)
    allocator, name = zip(*table["algorithm"].map(names))
    return table.assign(allocator=allocator, algorithm=name)


def verdicts(table, whole, setting):
    """Lines that say, of one setting, where ADSA and FCIM with ADSA are beaten: by changes whose interval leaves out
    0."""
    lines = []
    for metric, better in COMPARED.items():
        def beaten(part, metric=metric, better=better):  # a change of the first, ADSA, for the worse
            change, low, high = (better * part[key] for key in ("change", "change_low", "change_high"))
            return part[(part["setting"] == setting) & (part["metric"] == metric) & (change < 0) & (low * high > 0)]

        by = [f"{name} ({', '.join(group['allocator'])})" for name, group in beaten(table).groupby("algorithm",
                                                                                                   sort=False)]
        also = [f"{name} with {', '.join(group['algorithm'])}" for name, group in beaten(whole).groupby("allocator",
                                                                                                        sort=False)]
        lines += [f"{metric}: ADSA is beaten by {'; '.join(by) or 'none'}",
                  f"{metric}: FCIM with ADSA is beaten by {'; '.join(also) or 'none'}"]
    return [textwrap.fill(line, 120, subsequent_indent="    ") for line in lines]


def draw_devices(title, names, found):
    """Draws who computes which task when, a row a device or group. Told apart are CHART tasks that arrive one after
    another: those that are preempted most, the first of equal ones.

    names: of the devices of each stage; found: of feed_forward.
    """
    import matplotlib
    from matplotlib.figure import Figure
    often = np.cumsum([0, *sum(result["preemptions"].to_numpy() for result, _ in found)])
    k = int((often[CHART:] - often[:-CHART]).argmax()) if len(often) > CHART else 0
    (begin, *_), first = (found[0][0][key].to_numpy()[k:k + CHART] for key in ("arrival_time", "label"))
    begin, end = begin / common.US, found[-1][0]["completion_time"].to_numpy()[k:k + CHART].max() / common.US
    keys = {}
    matplotlib.rcParams["hatch.linewidth"] = 0.4
    figure = Figure((3.5, 1.35 + 0.26 * len(names) + 0.13 * -(-len(first) // 3)), dpi=300)
    axes = figure.subplots()
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels([common.shorten(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    for s, (_, intervals) in enumerate(found):
        runs = intervals[intervals["kind"] == "compute"]
        start, width = runs["start"] / common.US, (runs["end"] - runs["start"]) / common.US
        for k, label in enumerate(first):
            mine = runs["label"] == label
            colour, hatch = tables.look(k)
            keys[common.shorten(label)] = axes.barh([s] * mine.sum(), width[mine], 0.72, start[mine], color=colour,
                                                    hatch=hatch, edgecolor="black", linewidth=0.3)
        others = ~runs["label"].isin(first) & (start < end) & (start + width > begin)
        if others.any():
            keys["other tasks"] = axes.barh([s] * others.sum(), width[others], 0.3, start[others], color="0.85",
                                            edgecolor="0.55", linewidth=0.3)
    axes.set_xlim(begin, end)
    axes.set_xlabel("time (s)", fontsize=8)
    axes.set_title(title, fontsize=8)
    return common.finish_figure(figure, keys)


# Command line ---------------------------------------------------------------------------------------------------------


def draw_all(args):
    """The runs of all settings: a row for each allocator and scheduler of a draw."""
    pool, path = common.find_name(args.pool, common.POOLS, "pool"), args.tasks or ""
    model = common.get_model(args.model)
    if path:
        common.allocation_case(path, model, pool, args.seed)  # says what is wrong with the list
    settings = {os.path.basename(path): None} if path else LOADS
    jobs = [(path, model, pool, args.seed + k, *setting) for setting in settings.items() for k in range(args.runs)]
    return tables.as_written(pd.DataFrame([row for rows in parallel(run_case, jobs) for row in rows]))


def read(folder):
    """The runs that an earlier run has written into the folder."""
    return tables.read_runs(folder, "whole_system_runs.csv", ["seed", *METRICS, *PIPELINE],
                            ["model", "pool", "tasks_file", "setting", "allocator", "problem"], SCHEDULERS)


def main(name):
    parser = common.make_parser(name, __doc__, tasks=None, model=MODEL, pool=POOL, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)
    model, pool, path = common.get_model(runs["model"][0]), runs["pool"][0], runs["tasks_file"][0]
    number, seed = runs["seed"].nunique(), int(runs["seed"].min())
    settings = {setting: LOADS.get(setting) for setting in runs["setting"].unique()}
    failed = stats.failures(runs[runs["algorithm"] == SCHEDULERS[0]], ["setting", "allocator"]).drop(
        columns="algorithm")
    shared = stats.shared_draws(runs, ["setting", "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    table = stats.compare(shared, ["setting", "allocator"], "seed", SCHEDULERS, METRICS)
    whole = whole_against(shared)
    pipelines = stats.compare(shared[shared["algorithm"] == SCHEDULERS[0]].assign(algorithm=shared["allocator"]),
                               ["setting"], "seed", list(ALLOCATORS), PIPELINE)

    parts = [f"reproduce.whole_system: {model.name} ({model.layers} layers, {model.bits:g} bits), pool {pool}, "
             f"{number} draws of tasks, links and bids, seeds from {seed}\n{tables.legend(number)}\nEDF is not of the "
             "paper. Only the draws on which all allocators find an allocation count: "
             + ("here all do." if failed.empty else "who found none, and how often, stands first.")]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for setting, load in settings.items():
        of_setting = shared[shared["setting"] == setting]
        if of_setting.empty:
            parts.append(f"{setting}: no draw on which all allocators find an allocation")
            continue
        about = f"load {load} of a plain pipeline, " if load else ""
        own, mine, theirs = (part[part["setting"] == setting] for part in (pipelines, table, whole))
        parts.append((f"{setting}: {about}the pipelines, means of {of_setting['seed'].nunique()} draws", pd.DataFrame([
            {"allocator": allocator, **{metric: tables.show_mean(*own[(own["metric"] == metric) & (
                own["algorithm"] == allocator)][["mean", "low", "high"]].iloc[0]) for metric in PIPELINE}}
            for allocator in ALLOCATORS])))
        for metric, unit in METRICS.items():
            unit = f"of {TASKS}" if metric == "deadlines_met" and load else unit
            parts.append((f"{setting}, {metric}{f' ({unit})' if unit else ''}", across(
                mine, metric, tables.show_mean, ["mean", "low", "high"])))
        change = ["change", "change_low", "change_high"]
        for metric in COMPARED:
            parts += [(f"{setting}, {metric}: change of FCIM with ADSA in % against each",
                       across(theirs, metric, tables.show_change, change)),
                      (f"{setting}, {metric}: ADSA's change in % against each, same allocator",
                       across(mine, metric, tables.show_change, change, SCHEDULERS[1:]))]
        parts.append("\n".join([f"{setting}, by changes whose interval leaves out 0:",
                                *verdicts(table, whole, setting)]))
    figures = {}
    if not args.no_plot:
        setting = next(iter(settings))
        drawn = table.assign(metric=table["metric"] + ", " + table["setting"])
        panels = [(f"{metric}, {setting}", f"{label}\n{common.shorten(setting)}")
                  for metric, label in PANELS.items() for setting in settings]
        case = one_case(path, model, pool, seed, settings[setting])
        stages, _ = tables.script("FCIM").allocate(**case)
        found = feed_forward(stages, case, tables.script("ADSA").schedule)
        names = ["+".join(case["bids"]["device"][stage["devices"]]) for stage in stages]
        figures = {"": common.try_figure(tables.draw_bars, panels, "allocator", SCHEDULERS, drawn),
                   "_devices": common.try_figure(
            draw_devices, f"FCIM with ADSA, {setting}, seed {seed}", names, found)}
    tables.publish("whole_system", args.out, parts, {"runs": runs, "table": table, "whole": whole,
                                                     "pipelines": pipelines, "failures": failed}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.whole_system")
