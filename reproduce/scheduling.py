"""ADSA against FCFS, SRTF, LLF and the proven optimum, on its own list and on random lists in three regimes.

    python -m reproduce.scheduling
    python -m reproduce.scheduling --runs 100 --seed 1 --also EDF.py

The paper claims that ADSA lowers queueing delay by 39 % under strict deadlines (S. Habibi, O. Ercetin, IEEE Access 13,
2025): the last table sets that beside what is found here. EDF (reproduce/EDF.py) is a reference that is not of the
paper. --also takes a scheduling script of your own. Of a list of more tasks than a Gantt chart shows the distributions
are drawn, and no random lists are.
"""
import math
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import numpy as np
import pandas as pd

import ADSA
import common
import optimal
from reproduce import claims, stats, tables, trace
from reproduce.parallel import parallel

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists
RUNS = 30  # random lists in each regime
OUT = "results"  # where the files go
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

POLICIES = ["ADSA", "FCFS", "SRTF", "LLF"]
EDF = "EDF (reference)"
SCRIPTS = {"ADSA": "ADSA", "FCFS": "FCFS", "SRTF": "SRTF", "LLF": "LLF", EDF: "reproduce.EDF"}
FREE = claims.FREE
OPTIMA = {"optimal (makespan)": "makespan", "optimal (turnaround)": "turnaround"}
LIST = "list"  # stands for a regime in the runs of the list of tasks that is no random one
UNITS = {"mean_waiting_time": "s", "mean_response_time": "s", "mean_uplink_waiting_time": "s",
         "mean_turnaround_time": "s", "p95_turnaround_time": "s", "deadlines_met": "", "T_end": "s", "preemptions": "",
         "peak_memory_gb": ""}
LINES = ("black", common.BLUE, common.ORANGE, common.RED, common.SKY, "0.5")  # of an overview
FAR = {"p99_waiting_time": "s", "p99_turnaround_time": "s"}  # of a long list too
ABOVE = {"deadlines_behind": "", "T_end_above": "%", "mean_turnaround_time_above": "%"}  # from the proven optimum
PANELS = [("mean_waiting_time", "waiting (s)"), ("mean_response_time", "response (s)"),
          ("mean_uplink_waiting_time", "waiting for\nuplink (s)"), ("mean_turnaround_time", "turnaround (s)"),
          ("deadlines_met", "deadlines\nmet (count)"), ("preemptions", "preemptions\n(count)")]
LEGEND = f"""deadlines_behind: fewer than the proven optimum meets; above: its T_end or turnaround, if as many are met
{EDF}: earliest deadline first, preemptive, by deadline - transmission; not of the paper"""
WHY = """The claim names neither its baseline (FCFS, or all three policies of the paper) nor what it counts as queueing
delay. The published ADSA and FCFS alone have a wait_time = first start - arrival: response time. In waiting time no
schedule is on average below SRTF (Schrage 1968), and ADSA, that looks at transmissions and deadlines, does not aim at
it. The published ADSA sends results without contention, the other policies do not: the last reading is of that."""


# One list -------------------------------------------------------------------------------------------------------------


def random_tasks(regime, seed, run, model, device):
    """Task table of a random list. The tasks of a run are those of all regimes, but for arrivals and deadlines."""
    load, factors = REGIMES[regime]
    draw = np.random.default_rng((seed, run))
    prompt = draw.integers(*PROMPT, TASKS, endpoint=True)
    output = draw.integers(*WORDS, TASKS, endpoint=True)
    trans = draw.uniform(*TRANS, TASKS)
    factor = draw.uniform(*factors, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))

    most = int(model.context / common.TOKENS_PER_WORD) - max(PROMPT) - 2  # so that none runs capped
    rows = []
    for k in range(TASKS):
        rows.append({"label": f"Task {k + 1}", "prompt": "word " * int(prompt[k]), "arrival_time": 0,
                     "output_words": min(int(output[k]), most), "trans_time": float(trans[k]), "deadline": 0})
    table = common.read_tasks(rows, model, [device])

    return trace.at_load(table, arrival, load, factor)


def run_case(tasks, methods, model, device, link):
    """What each method (load_scripts), and the two optima, make of a task table: the metrics of each (dicts), and all
    intervals, with what becomes of their tasks (a table, in seconds)."""
    schedules = {name: tables.script(path).schedule(tasks) for name, path in methods.items()}
    schedules[FREE] = schedules["ADSA"]
    for name, objective in OPTIMA.items():
        schedules[name] = optimal.schedule(tasks, link, objective, LIMIT)

    rows, details = [], []
    for name, intervals in schedules.items():
        try:
            result, everything = common.simulate(tasks, intervals, "dedicated" if name == FREE else link)
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        row = dict(algorithm=name, **common.scheduling_metrics(tasks, result, model, device))
        row.update(intervals.attrs.get("metrics", {}))
        row["proof"] = " | ".join(intervals.attrs.get("summary", []))
        rows.append(row)
        whole = common.in_seconds(everything).merge(common.in_seconds(result), on="label")
        details.append(whole.assign(algorithm=name))
    add_distances(rows)
    return rows, pd.concat(details)


def add_distances(rows):
    """Adds to the metrics of each method how far it is from the two optima, the last rows, where those are proven."""
    for metric, best in zip(("T_end", "mean_turnaround_time"), rows[-2:]):
        for row in rows:
            behind = above = math.nan
            if best["proven_optimal"]:
                behind = best["deadlines_met"] - row["deadlines_met"]
            if behind == 0 and best[metric] > 0:  # with fewer met, less time would prove nothing
                above = round(100 * (row[metric] / best[metric] - 1), 4) + 0
            row[f"{metric}_above"] = above
            row["deadlines_behind"] = behind


# Tables ---------------------------------------------------------------------------------------------------------------


def heading(runs, drawn):
    """What was run, and how to read it. drawn: the runs of random lists, perhaps none."""
    about = runs.iloc[0]
    lines = [f"reproduce.scheduling: {about['model']} on {about['device']}, {about['link']} uplink"]
    if len(drawn):
        number = drawn["tasks"].iloc[0]
        lines.append(f"random lists: {number} tasks, {WORDS[0]}..{WORDS[1]} words of output, {PROMPT[0]}..{PROMPT[1]} "
                     f"of prompt, {TRANS[0]}..{TRANS[1]} s of transmission, seed {about['seed']}")
        lines.append(tables.legend(drawn["run"].nunique()))
    lines.append(LEGEND)
    return "\n".join(lines)


def compare(runs, keys, who, units):
    """stats.compare of runs; ADSA's change of a distance from the optimum would mislead, and is none."""
    table = stats.compare(runs, keys, "run", who, [*units, *ABOVE])
    table.loc[table["metric"].isin(ABOVE), ["change", "change_low", "change_high"]] = math.nan
    return table


def readable(caption, table, runs, who, units):
    """Two captions and tables for reading, of one regime: means and counts; ADSA's change."""
    number = runs["tasks"].iloc[0]
    means = tables.means(table, who, {**units, **ABOVE, "deadlines_met": f"of {number}"})
    compared = table[table["metric"] == "T_end_above"].set_index("algorithm")["runs"]
    means.loc[len(means)] = counts("as many deadlines met (lists)", compared, who)
    exact = runs.dropna(subset=["proven_optimal"])
    proven = exact.groupby("algorithm")["proven_optimal"].sum()
    means.loc[len(means)] = counts("proven optimal (lists)", proven, who)

    regime = caption.split(":")[0]
    policies = [name for name in who if name not in OPTIMA]
    changes = tables.changes(table, policies, units)
    return [(caption, means), (f"{regime}, ADSA's change in % against each", changes)]


def counts(what, numbers, who):
    """A row of whole numbers, {name: number}, for those of `who` that have one."""
    row = {"metric": what}
    for name in who:
        row[name] = f"{numbers[name]:.0f}" if name in numbers else ""
    return row


def of_list(table, one, who, units):
    """What `readable` gives of the list that is no random one; and what is proven of it."""
    parts = []
    for caption, part in readable(f"The list: {one['tasks'].iloc[0]:,} tasks", table, one, who, units):
        without = part.replace([r"(\.0+)? \u00b1 n/a$", r" \[n/a\]$"], "", regex=True)  # intervals: it is one run
        parts.append((caption, without))
    lines = []
    for name, proof in zip(one["algorithm"], one["proof"]):
        lines += [f"the list, {name}: {line}" for line in proof.split(" | ") if line]
    return [*parts, "\n".join(lines)]


def of_regimes(table, drawn, who):
    """What `readable` gives of each regime; where ADSA is beaten."""
    parts = []
    for regime, runs in drawn.groupby("regime", sort=False):
        load, (low, high) = REGIMES[regime]
        caption = (f"{regime}: load {load} (computation / span of arrivals), deadline = arrival + {low}..{high} x "
                   f"(computation + transmission), {runs['run'].nunique()} lists")
        parts += readable(caption, table[table["regime"] == regime], runs, who, UNITS)
    parts.append(("Where ADSA is beaten (by whom; the whole interval of the change says so)",
                  beaten(table, [name for name in who if name not in OPTIMA])))
    return parts


def beaten(table, who):
    """Who does better than ADSA, the whole interval of the change on that side: a table of text, a row a regime."""
    rows = []
    for regime, part in table.groupby("regime", sort=False):
        row = {"regime": regime}
        for metric in ("deadlines_met", *[key for key in UNITS if key.startswith("mean")]):
            of_metric = part[(part["metric"] == metric) & part["algorithm"].isin(who)].set_index("algorithm")
            worse = of_metric["change_high"] < 0 if metric == "deadlines_met" else of_metric["change_low"] > 0
            row[metric] = ", ".join(name.split()[0] for name in worse.index[worse]) or "nobody"
        rows.append(row)
    return pd.DataFrame(rows)


# Figures --------------------------------------------------------------------------------------------------------------


def list_figures(details):
    """Figures of the list that is no random one, {end of the name: Figure}: Gantt charts, or, of a long list, an
    overview of the policies."""
    results = {}
    for name, part in details[details["algorithm"] != FREE].groupby("algorithm", sort=False):
        results[name] = part.drop_duplicates("label")
    if is_long(len(results["ADSA"])):
        policies = {name: result for name, result in results.items() if name not in OPTIMA}
        return {"_overview": common.try_figure(draw_overview, policies)}
    charts = []
    for name, result in results.items():
        met = result["deadline_met"].sum()
        title = f"{name}: {met} of {len(result)} deadlines met"
        charts.append((title, result, details[details["algorithm"] == name]))
    figures = {}
    for page, some in enumerate(tables.on_pages(charts), 1):
        figures["_gantt" if page == 1 else f"_gantt_{page}"] = common.try_figure(tables.draw_charts, some)
    return figures


def draw_overview(results):
    """Figure of long schedules, {name: table of tasks in seconds}, one journal column wide: the distributions of
    waiting and turnaround, and the tasks in the system over time, a line a schedule."""
    figure = common.new_figure(5.2 + 0.13 * (len(results) // 3))
    of_waiting, of_turnaround, of_system = figure.subplots(3, 1)
    distributions = {"waiting": of_waiting, "turnaround": of_turnaround}
    keys = {}
    for k, (name, result) in enumerate(results.items()):
        look = dict(color=LINES[k % 6], linestyle=("-", "--", "-.", ":")[k % 4])
        for what, axes in distributions.items():
            keys[name], = common.draw_distribution(axes, result[f"{what}_time"], **look)
        system = common.over_time(result["arrival_time"], result["completion_time"], 1)
        of_system.step(system["time"], system["held"], where="post", linewidth=0.9, **look)
    everybody = pd.concat(results.values())
    for what, axes in distributions.items():
        times = everybody[f"{what}_time"]
        common.set_time_scale(axes, times)
        axes.set_xlim(left=times.min())
        axes.set_xlabel(f"{what} of a task (s)")
        axes.set_ylabel("share of tasks")
    of_system.set_xlabel("time (s)")
    of_system.set_ylabel("tasks in system")
    of_system.set_xlim(everybody["arrival_time"].min(), everybody["completion_time"].max())
    of_system.set_ylim(bottom=0)
    figure.align_ylabels()
    return common.finish_figure(figure, keys)


# The script -----------------------------------------------------------------------------------------------------------


def is_long(number):
    """Whether so many tasks are more than a Gantt chart shows."""
    return number > common.PLOT_ROWS


def draw_all(args):
    """The runs, a row for each method and list, and the intervals of the list that is no random one."""
    link = common.find_name(args.link, common.LINKS, "link")
    device = common.get_device(args.device)
    methods = tables.load_scripts(SCRIPTS, args.also, "schedule")
    model = common.get_model(args.model)
    cases = [(LIST, args.seed, 0)]
    lists = [common.read_tasks(args.tasks, model, [device])]
    if not is_long(len(lists[0])):
        for regime in REGIMES:
            for run in range(args.runs):
                cases.append((regime, args.seed, run))
                lists.append(random_tasks(regime, args.seed, run, model, device))
    found = parallel(run_case, [(tasks, methods, model, device, link) for tasks in lists])

    rows = []
    for (regime, seed, run), (metrics, _) in zip(cases, found):
        draw = dict(regime=regime, seed=seed, run=run, model=model.name, device=device.type, link=link)
        rows += [dict(draw, **of_method) for of_method in metrics]
    return tables.as_written(pd.DataFrame(rows)), found[0][1]


def read(folder):
    """What draw_all returned, of an earlier run."""
    texts = ["regime", "model", "device", "link", "proof"]
    runs = tables.read_runs(folder, "scheduling_runs.csv", ["seed", "run", "tasks", *UNITS, *FAR, *ABOVE], texts,
                            [*SCRIPTS, FREE, *OPTIMA])
    regimes = runs["regime"].unique()
    common.require(LIST in regimes, f"--from {folder}: no runs of {LIST}")
    for regime in regimes:
        common.find_name(regime, [LIST, *REGIMES], f"--from {folder}, regime")
    numbers = ["start", "end", *common.RESULT[1:]]
    details = tables.read_runs(folder, "scheduling_list_runs.csv", numbers, ["label", "kind"],
                               runs["algorithm"].unique())
    return runs, details


def main(name):
    parser = common.make_parser(name, __doc__, tasks=ADSA.tasks, model=MODEL, device=DEVICE, link=LINK, seed=SEED,
                                out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs, details = tables.get_runs(parser, args, read, draw_all)
    who = [name for name in runs["algorithm"].unique() if name != FREE]
    one = runs[runs["regime"] == LIST]
    drawn = runs[runs["regime"] != LIST]
    about = one.iloc[0]
    if one["memory_utilization"].max() > 1:
        common.warn(f"weights and KV caches reach {one['peak_memory_gb'].max():.1f} GB, more than the "
                    f"{about['device']} has: these are the times of one that could hold them")

    units = {**UNITS, **FAR} if is_long(about["tasks"]) else UNITS
    table = compare(one, ["tasks"], who, units)
    change = table.pivot(index="algorithm", columns="metric", values="change")[list(units)]
    parts = [heading(runs, drawn), *of_list(table, one, who, units)]
    files = {"runs": runs, "list_runs": details, "list": one.join(change.add_prefix("change_"), on="algorithm")}
    figures = {} if args.no_plot else list_figures(details)
    if len(drawn):
        table = compare(drawn, ["regime"], who, UNITS)
        claim = claims.of_scheduling(runs)
        caption = f"The paper's claim and what is found here, in regime {claims.STRICT}"
        parts += of_regimes(table, drawn, who)
        parts += [(caption, claims.show(claim)), claims.RULES, WHY]
        files.update(table=table, claims=claim)
        if not args.no_plot:
            figures[""] = common.try_figure(tables.draw_bars, PANELS, "regime", who, table)
    tables.publish("scheduling", args.out, parts, files, figures, args.format)


if __name__ == "__main__":
    common.run(main, "reproduce.scheduling")
