"""ADSA against FCFS, SRTF, LLF, EDF and the proven optimum, on its own list and on random lists in three regimes.

    python -m reproduce.scheduling

The paper claims that ADSA lowers queueing delay by 39 % under strict deadlines (S. Habibi, O. Ercetin, IEEE Access 13,
2025): see reproduce.claims. EDF is a reference that is not of the paper. Of a list of more tasks than a Gantt chart
shows, an overview of all policies is drawn, and there are no random lists.
"""
import math
import sys
import textwrap

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import ADSA
import common
import optimal
from reproduce import stats, study

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists
RUNS = 30  # random lists in each regime
LIMIT = 20  # s for each exact program
TASKS = 12  # of a random list
WORDS = (40, 1200)  # of output: the least and the most
PROMPT = (10, 200)  # words of a prompt
TRANS = (0.5, 5)  # s of transmission
REGIMES = {  # load (computation / span of arrivals), deadline: arrival + this x (computation + transmission)
    "loose": (0.6, (4, 8)),
    "strict": (0.9, (1.5, 3)),
    "overload": (1.3, (1.5, 3)),
}

LIST = "list"  # stands for a regime in the runs of the list of tasks that is no random one
FREE = "ADSA (uplink free)"  # its results leave without contention, as in the published script
OPTIMA = {"optimal (makespan)": "makespan", "optimal (turnaround)": "turnaround"}
SHOWN = {"mean_waiting_time": "s", "mean_response_time": "s", "mean_turnaround_time": "s", "p95_turnaround_time": "s",
         "deadlines_met": "", "T_end": "s", "preemptions": ""}
ABOVE = {"deadlines_behind": "", "T_end_above": "%", "mean_turnaround_time_above": "%"}  # from the proven optimum
METRICS = [*SHOWN, "mean_uplink_waiting_time", "peak_memory_gb", *ABOVE]
PANELS = {"mean_waiting_time": "waiting (s)", "mean_response_time": "response (s)",
          "mean_uplink_waiting_time": "waiting for\nuplink (s)", "mean_turnaround_time": "turnaround (s)",
          "deadlines_met": "deadlines\nmet (count)", "preemptions": "preemptions\n(count)"}
NEEDED = ["regime", "seed", "run", "model", "device", "link", "algorithm", "tasks", "memory_utilization", "proof",
          "proven_optimal", *METRICS]  # columns of the runs
LEGEND = """deadlines_behind: how many fewer deadlines are met than by the proven optimum; T_end_above and
mean_turnaround_time_above: how far above it, on the lists where as many deadlines are met
(column runs of scheduling_table.csv: on how many)"""
SLICES = 80  # of the time of a long list: the tasks in the system are the mean of each
PAGE, ROW, HEAD, FOOT = 9, 0.15, 0.41, 0.85  # inches: a page; a row of a Gantt chart; above and below it; the legend


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    """The list of tasks, and, if it is no long one, random lists in each regime."""
    model = common.get_model(args.model)
    device = common.get_device(args.device)
    lists = {(LIST, args.seed, 0): common.read_tasks(args.tasks, model, [device])}
    if len(lists[LIST, args.seed, 0]) <= common.PLOT_ROWS:
        for regime in REGIMES:
            for run in range(args.runs):
                lists[regime, args.seed, run] = random_tasks(regime, args.seed, run, model, device)
    return [(*drawn, tasks, args.methods, model, device, args.link) for drawn, tasks in lists.items()]


def random_tasks(regime, seed, run, model, device):
    """Task table of a random list. The tasks of a run are those of all regimes, but for arrivals and deadlines."""
    load, factor = REGIMES[regime]
    draw = np.random.default_rng((seed, run))
    return study.random_tasks(draw, TASKS, PROMPT, WORDS, TRANS, factor, load, model, device, in_words=True)


def run_case(regime, seed, run, tasks, methods, model, device, link):
    """What each method ({name: script}) and the two optima make of a task table: their metrics; and, of the list that
    is no random one, all intervals, each with what becomes of its task (s)."""
    schedules = {name: study.script(path).schedule(tasks) for name, path in methods.items()}
    schedules[FREE] = schedules["ADSA"]
    for name, objective in OPTIMA.items():
        schedules[name] = optimal.schedule(tasks, link, objective, LIMIT)

    rows = []
    details = []
    for name, schedule in schedules.items():
        with study.errors_of(name):
            result, intervals = common.simulate(tasks, schedule, "dedicated" if name == FREE else link)
        row = dict(regime=regime, seed=seed, run=run, model=model.name, device=device.type, link=link, algorithm=name)
        row.update(common.scheduling_metrics(tasks, result, model, device))
        row.update(schedule.attrs.get("metrics", {}))
        row["proof"] = " | ".join(schedule.attrs.get("summary", []))
        rows.append(row)
        if regime == LIST:
            whole = common.in_seconds(intervals).merge(common.in_seconds(result), on="label")
            details += whole.assign(algorithm=name).to_dict("records")
    add_distances(rows)
    return rows, details


def add_distances(rows):
    """Adds to the metrics of each method how far it is from the two optima, the last rows, where those are proven."""
    for metric, best in zip(("T_end", "mean_turnaround_time"), rows[-2:]):
        for row in rows:
            behind = best["deadlines_met"] - row["deadlines_met"] if best["proven_optimal"] else math.nan
            above = math.nan
            if behind == 0 and best[metric] > 0:  # with fewer met, less time would prove nothing
                above = round(100 * (row[metric] / best[metric] - 1), 4) + 0
            row[f"{metric}_above"] = above
            row["deadlines_behind"] = behind


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs, intervals):
    of_list = runs[runs["regime"] == LIST]
    if of_list["memory_utilization"].max() > 1:
        common.warn(f"weights and KV caches reach {of_list['peak_memory_gb'].max():.1f} GB, more than the "
                    f"{of_list['device'].iloc[0]} has: these are the times of one that could hold them")
    found = (runs["tasks"] <= optimal.MAX_TASKS) | runs["proven_optimal"].eq(True)  # else an optimum was not searched
    who = [name for name in runs.loc[found | ~runs["algorithm"].isin(OPTIMA), "algorithm"].unique() if name != FREE]
    policies = [name for name in who if name not in OPTIMA]
    table = compare(runs, who)
    drawn = table[table["regime"] != LIST]

    parts = [heading(runs)]
    for regime, part in table.groupby("regime", sort=False):
        parts += regime_parts(regime, runs[runs["regime"] == regime], part, who, policies)
    parts += study.own_changes(runs[runs["algorithm"].isin(policies)], ["regime"], "run", policies, SHOWN)
    figures = list_figures(intervals)
    if len(drawn):
        least = drawn[drawn["metric"] == "T_end_least"].fillna({"mean": 0})
        least = least.assign(equal=(least["mean"] * least["runs"]).round().astype(int))
        parts.append(("T_end", "T_end is the optimum's: on how many of the lists on which as many deadlines are met",
                      study.in_columns(least, ["regime"], policies, ["equal", "runs"], "{} of {}".format)))
        figures[""] = study.draw_bars, PANELS, "regime", who, drawn
    return [*parts, proofs(runs)], {"table": table}, figures


def compare(runs, who):
    """stats.compare of runs; ADSA's change of a distance from the optimum would mislead, and is none. T_end_least: the
    share of lists on which T_end is the optimum's. A metric that nobody has is left out."""
    above = runs["T_end_above"]
    runs = runs.assign(T_end_least=above.eq(0).where(above.notna()))
    table = stats.compare(runs, ["regime"], "run", who, [*METRICS, "T_end_least"])
    table.loc[table["metric"].isin([*ABOVE, "T_end_least"]), study.CHANGE] = math.nan
    return table[table.groupby(["regime", "metric"])["mean"].transform("count") > 0]


def heading(runs):
    about = runs.iloc[0]
    drawn = runs[runs["regime"] != LIST]
    lines = [f"reproduce.scheduling: {about['model']} on {about['device']}, {about['link']} uplink",
             "EDF, preemptive, earliest deadline - transmission first, is not of the paper"]
    if len(drawn):
        lines.append(f"random lists: {drawn['tasks'].iloc[0]} tasks, {WORDS[0]} to {WORDS[1]} words of output, "
                     f"{PROMPT[0]} to {PROMPT[1]} of prompt,\n"
                     f"{TRANS[0]} to {TRANS[1]} s of transmission, seed {about['seed']}")
        lines.append("load: computation / span of arrivals; deadline: arrival + factor x (computation + transmission)")
        lines.append(study.legend(drawn["run"].nunique()))
    if runs["deadlines_behind"].notna().any():
        lines.append(LEGEND)
    return "\n".join(lines)


def regime_parts(regime, runs, table, who, policies):
    """The tables of one regime: means; ADSA's changes."""
    title = "The list"
    about = f"{runs['tasks'].iloc[0]:,} tasks"
    if regime != LIST:
        load, (low, high) = REGIMES[regime]
        title = regime
        about = f"load {load}, deadline factor {low} to {high}, {runs['run'].nunique()} lists"
    units = {**SHOWN, **ABOVE, "deadlines_met": f"of {runs['tasks'].iloc[0]}"}
    means = study.means(table[table["metric"].isin(units)], ["metric"], who, units)
    changed = table.groupby("metric")["change"].transform("count") > 0
    changes = study.changes(table[table["metric"].isin(SHOWN) & changed], ["metric"], policies)
    return [(f"{regime}_means", f"{title}: {about}", means),
            (f"{regime}_changes", f"{title}: ADSA's change in % against each", changes)]


def proofs(runs):
    """Lines that say what is proven of the list, and on how many of the random ones the optimum is."""
    lines = []
    for name in OPTIMA:
        of_list, *drawn = runs[runs["algorithm"] == name].to_dict("records")
        lines += [f"the list, {name}: {line}" for line in of_list["proof"].split(" | ")]
        if drawn:
            proven = sum(row["proven_optimal"] is True for row in drawn)
            lines.append(f"random lists, {name}: proven on {proven} of {len(drawn)}")
    return "\n".join(textwrap.fill(line, common.TEXT_WIDTH, subsequent_indent="    ") for line in lines)


# Figures of the list --------------------------------------------------------------------------------------------------
def list_figures(intervals):
    """Of the list that is no random one: Gantt charts on pages, or, of a long list, the overview of all policies."""
    schedules = list(intervals[intervals["algorithm"] != FREE].groupby("algorithm", sort=False))
    tasks = intervals["label"].nunique()
    if tasks > common.PLOT_ROWS:
        return {"_overview": (draw_overview, {name: part.drop_duplicates("label") for name, part in schedules
                                              if name not in OPTIMA})}

    height = HEAD + ROW * max(3, tasks)
    number = max(1, int((PAGE - FOOT) / height))
    last = intervals["completion_time"].max()
    figures = {}
    for k in range(0, len(schedules), number):
        page = "_gantt" if k == 0 else f"_gantt_{k // number + 1}"
        figures[page] = draw_charts, schedules[k:k + number], height, last
    return figures


def draw_charts(schedules, height, last):
    """Figure of Gantt charts one above the other, on one scale of time. schedules: (name, table of intervals with what
    becomes of their tasks); height: inches of each; last: s, the last completion of all."""
    import matplotlib
    matplotlib.rcParams["hatch.linewidth"] = 0.4
    figure = common.new_figure(FOOT + height * len(schedules))
    plots = figure.subplots(len(schedules), 1, squeeze=False)[:, 0]
    keys = {}
    for axes, (name, intervals) in zip(plots, schedules):
        result = intervals.drop_duplicates("label")
        title = f"{name}: {result['deadline_met'].sum()} of {len(result)} deadlines met"
        keys.update(common.draw_schedule(axes, title, result, intervals, last))
    for axes in plots[:-1]:
        axes.set_xlabel("")
        axes.set_xticklabels([])
    return common.finish_figure(figure, keys)


def draw_overview(results):
    """Figure of long schedules, {name: table of tasks in seconds}, one journal column wide: the distributions of
    waiting and turnaround, and the tasks in the system over time, a line a schedule."""
    figure = common.new_figure(5.2 + 0.13 * (len(results) // 3))
    *distributions, of_system = figure.subplots(3, 1)
    everybody = pd.concat(results.values())
    first = everybody["arrival_time"].min()
    edges = np.linspace(first, everybody["completion_time"].max(), SLICES + 1)
    keys = {}
    for k, (name, result) in enumerate(results.items()):
        colour, _, _, style = study.looks(results)[name]
        look = dict(color=colour, linestyle=style, linewidth=2.6 - 2 * k / len(results))  # thin over thick: all show
        shares = np.linspace(0, 1, min(len(result), 1000) + 1)
        for what, axes in zip(("waiting", "turnaround"), distributions):
            axes.step(np.quantile(result[f"{what}_time"], shares), shares, where="post", **look)
        arrived, left = (np.clip(edges[:, None] - result[key].to_numpy(), 0, None).sum(axis=1)
                         for key in ("arrival_time", "completion_time"))
        present = np.diff(arrived - left) / np.diff(edges)
        keys[name], = of_system.plot((edges[1:] + edges[:-1]) / 2 - first, present, **look)
    for what, axes in zip(("waiting", "turnaround"), distributions):
        times = everybody[f"{what}_time"]
        low, high = times.quantile(0.05), times.quantile(0.95)
        if high > 100 * low:  # most times span more than two decades
            axes.set_xscale("symlog", linthresh=10 ** math.ceil(math.log10(max(low, high / 1e3))))
        axes.set(xlabel=f"{what} of a task (s)", ylabel="share of tasks", xlim=(times.min(), None))
    of_system.set(xlabel="time since the first arrival (s)" if first else "time (s)", ylabel="tasks in system",
                  xlim=(0, edges[-1] - first), ylim=(0, None))
    figure.align_ylabels()
    return common.finish_figure(figure, keys)


if __name__ == "__main__":
    study.run("scheduling", __doc__, cases, run_case, report, RUNS, NEEDED, study.POLICIES, more=["list_runs"],
              tasks=ADSA.tasks, model=MODEL, device=DEVICE, link=LINK, seed=SEED, out=study.OUT)
