"""ADSA against FCFS, SRTF, LLF and the proven optimum, on its own list and on random lists in three regimes.

    python -m reproduce.scheduling
    python -m reproduce.scheduling --runs 100 --seed 1 --also EDF.py

The paper claims that ADSA lowers queueing delay by 39 % under strict deadlines (S. Habibi, O. Ercetin, IEEE Access 13,
2025): the last table sets that beside what is found here. --also takes a scheduling script of your own.
"""
import math
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import ADSA
import common
import optimal
from reproduce import tables, trace

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
SEED = 0  # of the random lists
RUNS = 30  # random lists in each regime
OUT = "results"  # where the files go
LIMIT = 20  # s for each exact program
TASKS = 12  # of a random list
WORDS, PROMPT = (40, 1200), (10, 200)  # words of output and of prompt, the least and the most
TRANS = (0.5, 5)  # s of transmission
REGIMES = {  # load (computation / span of arrivals), deadline: arrival + this x (computation + transmission)
    "loose": (0.6, (4, 8)),
    "strict": (0.9, (1.5, 3)),
    "overload": (1.3, (1.5, 3)),
}
STRICT = "strict"  # the regime in which the claim is tested
PAPER = -39  # %: the change of queueing delay under strict deadlines that the paper's abstract claims for ADSA

POLICIES = ["ADSA", "FCFS", "SRTF", "LLF"]
OPTIMA = {"optimal (makespan)": "makespan", "optimal (turnaround)": "turnaround"}
UNITS = {"mean_waiting_time": "s", "mean_response_time": "s", "mean_turnaround_time": "s", "deadlines_met": "",
         "T_end": "s", "preemptions": "", "peak_memory_gb": ""}
ABOVE = {"deadlines_behind": "", "T_end_above": "%", "mean_turnaround_time_above": "%"}  # from the proven optimum
PANELS = [("mean_waiting_time", "waiting (s)"), ("mean_response_time", "response (s)"),
          ("mean_turnaround_time", "turnaround (s)"), ("deadlines_met", "deadlines\nmet (count)"),
          ("T_end", "T_end (s)"), ("preemptions", "preemptions\n(count)")]
DELAYS = list(UNITS)[:3]  # what the claim's queueing delay may be
LEGEND = """deadlines_behind: fewer than the proven optimum meets; above: its T_end or turnaround, if as many are met"""
WHY = """The claim names neither its baseline nor what it counts as queueing delay: here that is waiting_time, ready and
not running, in which no schedule is on average below SRTF (Schrage 1968) and which ADSA, that looks at transmissions
and deadlines, does not aim at"""


def check_settings():
    """UserError unless the settings are as they must be."""
    def check_regime(regime, where):
        common.require(isinstance(regime, (tuple, list)) and len(regime) == 2,
                       f"{where}: {common.shown(regime)} is not a load and a range of deadline factors")
        common.check_number(regime[0], f"{where}, load", positive=True)
        tables.check_range(regime[1], f"{where}, deadlines")

    tables.check_count(RUNS, "RUNS")
    common.check_number(LIMIT, "LIMIT")
    common.require(tables.check_count(TASKS, "TASKS") > 1, "TASKS: a random list needs at least 2, to span some time")
    for name, whole in (("WORDS", True), ("PROMPT", True), ("TRANS", False)):
        tables.check_range(globals()[name], name, whole)
    tables.check_settings(REGIMES, "REGIMES", check_regime)
    common.find_name(STRICT, REGIMES, "STRICT, regime")


def random_tasks(regime, seed, run, model, device):
    """Task table of a random list. The tasks of a run are those of all regimes, but for arrivals and deadlines."""
    import numpy as np
    draw, (load, factors) = np.random.default_rng((seed, run)), REGIMES[regime]
    prompt, output = (draw.integers(*words, TASKS, endpoint=True) for words in (PROMPT, WORDS))
    output = np.minimum(output, int(model.context / common.TOKENS_PER_WORD) - max(PROMPT) - 2)  # none runs capped
    trans, factor = draw.uniform(*TRANS, TASKS), draw.uniform(*factors, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))
    table = common.read_tasks([
        {"label": f"Task {k + 1}", "prompt": "word " * int(prompt[k]), "arrival_time": 0,
         "output_words": int(output[k]), "trans_time": float(trans[k]), "deadline": 0}
        for k in range(TASKS)], model, device)
    arrival = arrival - arrival[0] + trace.later(arrival, table["computation_time"].to_numpy(), load)
    arrival = np.rint(arrival).astype("int64")
    due = np.rint(factor * (table["computation_time"] + table["trans_time"])).astype("int64")
    return table.assign(arrival_time=arrival, deadline=arrival + due)


def measure(tasks, methods, model, device, link):
    """What each method (load_scripts), and the two optima, make of a task table, or of the random list (regime, seed,
    run): the metrics of each and, of a table, (tasks, intervals, lines about what is proven) of each."""
    drawn = isinstance(tasks, tuple)
    if drawn:
        tasks = random_tasks(*tasks, model, device)
    rows, details = [], []
    for name in [*methods, *OPTIMA]:
        if name in OPTIMA:
            intervals = optimal.schedule(tasks, link, OPTIMA[name], LIMIT)
        else:
            intervals = tables.script(methods[name]).schedule(tasks)
        try:
            result, everything = common.simulate(tasks, intervals, link)
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        rows.append(dict(algorithm=name, **common.scheduling_metrics(tasks, result, model, device),
                         **intervals.attrs.get("metrics", {})))
        details.append((result, everything, intervals.attrs.get("summary", [])))
    for metrics in rows:
        for key, best in zip(("T_end", "mean_turnaround_time"), rows[-2:]):
            behind = best["deadlines_met"] - metrics["deadlines_met"] if best["proven_optimal"] else math.nan
            as_many = behind == 0 and best[key] > 0  # with fewer deadlines met, less time would prove nothing
            metrics[f"{key}_above"] = round(100 * (metrics[key] / best[key] - 1), 4) + 0 if as_many else math.nan
            metrics["deadlines_behind"] = behind
    return rows, [] if drawn else details  # nobody looks at those of random lists


def compare(runs, keys, who):
    """tables.compare of runs; ADSA's change of a distance from the optimum would mislead, and is none."""
    table = tables.compare(runs, keys, "run", who, [*UNITS, *ABOVE])
    columns = ["change", "change_low", "change_high"]
    table.loc[table["metric"].isin(ABOVE), columns] = math.nan
    return table


def readable(caption, table, runs, who):
    """Two captions and tables for reading, of one regime: means and counts; ADSA's change."""
    import pandas as pd
    units = {**UNITS, **ABOVE, "deadlines_met": f"of {runs['tasks'].iloc[0]}"}
    compared = table[table["metric"] == "T_end_above"].set_index("algorithm")["runs"]
    proven = runs.dropna(subset=["proven_optimal"]).groupby("algorithm")["proven_optimal"].sum()
    counts = [{"metric": what, **count.astype(int).astype(str)} for what, count in (
        ("as many deadlines met (lists)", compared), ("proven optimal (lists)", proven))]
    means = pd.concat([tables.means(table, who, units), pd.DataFrame(counts)]).fillna("")
    return [(caption, means), (f"{caption.split(':')[0]}, ADSA's change in % against each",
                               tables.changes(table, who, UNITS))]


def claims(runs, methods):
    """ADSA's change of each delay against each other policy and the mean of the published three: a table of numbers."""
    import pandas as pd
    rows = []
    for metric in DELAYS:
        values = runs[runs["regime"] == STRICT].pivot(index="run", columns="algorithm", values=metric)
        for name in [*methods, "their mean"][1:]:
            others = values[POLICIES[1:]].mean(axis=1) if name == "their mean" else values[name]
            found = tables.change(values["ADSA"].to_numpy(), others.to_numpy())
            rows.append(dict(zip(("change", "change_low", "change_high"), found), against=name, metric=metric))
    return pd.DataFrame(rows).round(3).assign(paper=PAPER)[
        ["against", "metric", "paper", "change", "change_low", "change_high"]]


def nearest(claim):
    """What a table of claims() has nearest to the paper's figure."""
    far = (claim["change"] - PAPER).abs()
    if far.isna().all():
        return "."  # nobody waits
    row = claim.loc[far.idxmin()]
    return f"; nearest to the claim comes\n{row['metric']} against {row['against']} ({row['change']:+.1f} %)."


def main(name):
    import pandas as pd
    check_settings()
    parser = common.make_parser(name, __doc__, tasks=ADSA.tasks, model=MODEL, device=DEVICE,
                                link=LINK, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    number = tables.check_count(args.runs, "--runs")
    seed = int(common.check_number(args.seed, "--seed", whole=True))
    link = common.find_name(args.link, common.LINKS, "link")
    device = common.get_device(args.device)
    methods = tables.load_scripts(POLICIES, args.also, "schedule")
    common.check_writable(args.out)
    model = common.get_model(args.model)
    tasks, who = common.read_tasks(args.tasks, model, device), [*methods, *OPTIMA]

    cases = [(regime, seed, run) for regime in REGIMES for run in range(number)]
    (own, details), *drawn = tables.parallel(measure, [(case, methods, model, device, link)
                                                       for case in [tasks, *cases]])
    one = pd.DataFrame(own).assign(run=0)
    if one["memory_utilization"].max() > 1:
        common.warn(f"weights and KV caches reach {one['peak_memory_gb'].max():.1f} GB, the {device.type} has "
                    f"{device.memory} GB: these are the times of one that could hold them")
    runs = pd.DataFrame([dict(zip(("regime", "seed", "run"), case), **metrics)
                         for case, (rows, _) in zip(cases, drawn) for metrics in rows])
    of_one, table, claim = compare(one, ["tasks"], who), compare(runs, ["regime"], who), claims(runs, methods)
    change = of_one.pivot(index="algorithm", columns="metric", values="change")[list(UNITS)]
    one = one.drop(columns="run").join(change.add_prefix("change_"), on="algorithm")

    shown = pd.DataFrame([{"ADSA against": name, "paper (%)": PAPER, **{
        f"{row['metric']} (%)": tables.show_change(*row[["change", "change_low", "change_high"]])
        for _, row in part.iterrows()}} for name, part in claim.groupby("against", sort=False)])
    parts = [f"reproduce.scheduling: {model.name} ({model.layers} layers, {model.bits:g} bits) on {device.type}, "
             f"{link} uplink\nrandom lists: {TASKS} tasks, {WORDS[0]}..{WORDS[1]} words of output, "
             f"{PROMPT[0]}..{PROMPT[1]} of prompt, {TRANS[0]}..{TRANS[1]} s of transmission, seed {seed}\n"
             f"{tables.legend(number)}\n{LEGEND}"]
    parts += [(caption, part.replace([r"(\.0+)? \u00b1 n/a$", r" \[n/a\]$"], "", regex=True))
              for caption, part in readable(f"The list: {len(tasks):,} tasks", of_one, one, who)]
    for regime, (load, (low, high)) in REGIMES.items():
        caption = (f"{regime}: load {load} (computation / span of arrivals), deadline = arrival + {low}..{high} x "
                   f"(computation + transmission), {number} lists")
        parts += readable(caption, *(rows[rows["regime"] == regime] for rows in (table, runs)), who)
    parts += [(f"The paper: ADSA lowers queueing delay by {-PAPER} % under strict deadlines; ours in regime {STRICT}",
               shown),
              "\n".join(f"the list, {name}: {line}" for name, found in zip(who, details) for line in found[-1]),
              WHY + nearest(claim)]
    figures = {}
    if not args.no_plot:
        charts = [(f"{metrics['algorithm']}: {metrics['deadlines_met']} of {len(tasks)} deadlines met",
                   *map(common.in_seconds, found[:2])) for metrics, found in zip(own, details)]
        figures = {"": lambda path: tables.draw_bars(path, PANELS, "regime", who, table),
                   "_gantt": lambda path: tables.draw_charts(path, charts)}
    tables.publish("scheduling", args.out, parts, {"runs": runs, "list": one, "table": table, "claims": claim}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.scheduling")
