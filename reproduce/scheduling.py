"""ADSA against FCFS, SRTF, LLF and the proven optimum, on its own list and on random lists in three regimes.

    python -m reproduce.scheduling
    python -m reproduce.scheduling --runs 100 --seed 1 --also EDF.py

The paper claims that ADSA lowers queueing delay by 39 % under strict deadlines (S. Habibi, O. Ercetin, IEEE Access 13,
2025): the last table sets that beside what is found here. EDF (reproduce/EDF.py) is a reference that is not of the
paper. --also takes a scheduling script of your own.
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
WORDS, PROMPT = (40, 1200), (10, 200)  # words of output and of prompt, the least and the most
TRANS = (0.5, 5)  # s of transmission
REGIMES = {  # load (computation / span of arrivals), deadline: arrival + this x (computation + transmission)
    "loose": (0.6, (4, 8)),
    "strict": (0.9, (1.5, 3)),
    "overload": (1.3, (1.5, 3)),
}

POLICIES = ["ADSA", "FCFS", "SRTF", "LLF"]
EDF = "EDF (reference)"
FREE = claims.FREE
OPTIMA = {"optimal (makespan)": "makespan", "optimal (turnaround)": "turnaround"}
LIST = "list"  # stands for a regime in the runs of the list of tasks that is no random one
UNITS = {"mean_waiting_time": "s", "mean_response_time": "s", "mean_uplink_waiting_time": "s",
         "mean_turnaround_time": "s", "deadlines_met": "", "T_end": "s", "preemptions": "", "peak_memory_gb": ""}
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


def random_tasks(regime, seed, run, model, device):
    """Task table of a random list. The tasks of a run are those of all regimes, but for arrivals and deadlines."""
    draw, (load, factors) = np.random.default_rng((seed, run)), REGIMES[regime]
    prompt, output = (draw.integers(*words, TASKS, endpoint=True) for words in (PROMPT, WORDS))
    output = np.minimum(output, int(model.context / common.TOKENS_PER_WORD) - max(PROMPT) - 2)  # none runs capped
    trans, factor = draw.uniform(*TRANS, TASKS), draw.uniform(*factors, TASKS)
    arrival = np.sort(draw.uniform(0, 1, TASKS))
    table = common.read_tasks([
        {"label": f"Task {k + 1}", "prompt": "word " * int(prompt[k]), "arrival_time": 0,
         "output_words": int(output[k]), "trans_time": float(trans[k]), "deadline": 0}
        for k in range(TASKS)], model, [device])
    arrival = arrival - arrival[0] + trace.later(arrival, table["computation_time"].to_numpy(), load)
    arrival = np.rint(arrival).astype("int64")
    due = np.rint(factor * (table["computation_time"] + table["trans_time"])).astype("int64")
    return table.assign(arrival_time=arrival, deadline=arrival + due)


def run_case(tasks, methods, model, device, link):
    """What each method (load_scripts), and the two optima, make of a task table, or of the random list (regime, seed,
    run): the metrics of each (dicts) and, of a table, all intervals, with what becomes of their tasks (a table)."""
    drawn = isinstance(tasks, tuple)
    if drawn:
        tasks = random_tasks(*tasks, model, device)
    rows, details = [], []
    for name in [*methods, FREE, *OPTIMA]:
        if name in OPTIMA:
            intervals = optimal.schedule(tasks, link, OPTIMA[name], LIMIT)
        else:
            intervals = tables.script(methods["ADSA" if name == FREE else name]).schedule(tasks)
        try:
            result, everything = common.simulate(tasks, intervals, "dedicated" if name == FREE else link)
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        rows.append(dict(algorithm=name, **common.scheduling_metrics(tasks, result, model, device),
                         **intervals.attrs.get("metrics", {}), proof=" | ".join(intervals.attrs.get("summary", []))))
        result, everything = map(common.in_seconds, (result, everything))
        details.append(everything.merge(result, on="label").assign(algorithm=name))
    for metrics in rows:
        for key, best in zip(("T_end", "mean_turnaround_time"), rows[-2:]):
            behind = best["deadlines_met"] - metrics["deadlines_met"] if best["proven_optimal"] else math.nan
            as_many = behind == 0 and best[key] > 0  # with fewer deadlines met, less time would prove nothing
            metrics[f"{key}_above"] = round(100 * (metrics[key] / best[key] - 1), 4) + 0 if as_many else math.nan
            metrics["deadlines_behind"] = behind
    return rows, None if drawn else pd.concat(details)  # nobody looks at those of random lists


def compare(runs, keys, who):
    """stats.compare of runs; ADSA's change of a distance from the optimum would mislead, and is none."""
    table = stats.compare(runs, keys, "run", who, [*UNITS, *ABOVE])
    columns = ["change", "change_low", "change_high"]
    table.loc[table["metric"].isin(ABOVE), columns] = math.nan
    return table


def readable(caption, table, runs, who):
    """Two captions and tables for reading, of one regime: means and counts; ADSA's change."""
    units = {**UNITS, **ABOVE, "deadlines_met": f"of {runs['tasks'].iloc[0]}"}
    compared = table[table["metric"] == "T_end_above"].set_index("algorithm")["runs"]
    proven = runs.dropna(subset=["proven_optimal"]).groupby("algorithm")["proven_optimal"].sum()
    counts = [{"metric": what, **count.astype(int).astype(str)} for what, count in (
        ("as many deadlines met (lists)", compared), ("proven optimal (lists)", proven))]
    means = pd.concat([tables.means(table, who, units), pd.DataFrame(counts)]).fillna("")
    return [(caption, means), (f"{caption.split(':')[0]}, ADSA's change in % against each",
                               tables.changes(table, [name for name in who if name not in OPTIMA], UNITS))]


def beaten(table, who):
    """Who does better than ADSA, the whole interval of the change on that side: a table of text, a row a regime."""
    rows = []
    for regime, part in table.groupby("regime", sort=False):
        row = {"regime": regime}
        for metric in ("deadlines_met", *[key for key in UNITS if key.startswith("mean")]):
            of_metric = part[(part["metric"] == metric) & part["algorithm"].isin(who) & (part["algorithm"] != "ADSA")]
            worse = of_metric["change_high"] < 0 if metric == "deadlines_met" else of_metric["change_low"] > 0
            row[metric] = ", ".join(of_metric["algorithm"][worse].str.split(" ").str[0]) or "nobody"
        rows.append(row)
    return pd.DataFrame(rows)


def charts(rows, details):
    """What tables.draw_charts takes, of what run_case returns."""
    found = []
    for row in rows:
        if row["algorithm"] != FREE:
            part = details[details["algorithm"] == row["algorithm"]]
            found.append((f"{row['algorithm']}: {row['deadlines_met']} of {row['tasks']} deadlines met",
                          part.drop_duplicates("label")[common.RESULT], part[["label", "kind", "start", "end"]]))
    return found


def draw_all(args):
    """The runs, a row for each method and list, and the intervals of the list that is no random one."""
    link = common.find_name(args.link, common.LINKS, "link")
    device = common.get_device(args.device)
    methods = tables.load_scripts(POLICIES, args.also, "schedule")
    methods[EDF] = "reproduce.EDF"
    model = common.get_model(args.model)
    tasks = common.read_tasks(args.tasks, model, [device])
    cases = [(LIST, args.seed, 0), *((regime, args.seed, run) for regime in REGIMES for run in range(args.runs))]
    found = parallel(run_case, [(case if case[0] != LIST else tasks, methods, model, device, link)
                                      for case in cases])
    runs = pd.DataFrame([dict(zip(("regime", "seed", "run"), case), model=model.name, device=device.type, link=link,
                              **metrics) for case, (rows, _) in zip(cases, found) for metrics in rows])
    return tables.as_written(runs), found[0][1]


def read(folder):
    """What draw_all returned, of an earlier run."""
    runs = tables.read_runs(folder, "scheduling_runs.csv", ["seed", "run", *UNITS, *ABOVE],
                            ["regime", "model", "device", "link", "proof"], [*POLICIES, EDF, FREE, *OPTIMA])
    for regime in (LIST, claims.STRICT):
        common.require((runs["regime"] == regime).any(), f"--from {folder}: no runs of {regime}")
    for regime in runs["regime"].unique():
        common.find_name(regime, [LIST, *REGIMES], f"--from {folder}, regime")
    columns = ["start", "end", *(key for key in common.RESULT if key != "label")]
    return runs, tables.read_runs(folder, "scheduling_list_runs.csv", columns, ["label", "kind"],
                                  runs["algorithm"].unique())


def main(name):
    parser = common.make_parser(name, __doc__, tasks=ADSA.tasks, model=MODEL, device=DEVICE,
                                link=LINK, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs, of_list = tables.get_runs(parser, args, read, draw_all)
    who = [name for name in runs["algorithm"].unique() if name != FREE]
    one, drawn = (runs[rows] for rows in (runs["regime"] == LIST, runs["regime"] != LIST))
    number, count, (model, device, link) = drawn["run"].nunique(), int(one["tasks"].iloc[0]), one[
        ["model", "device", "link"]].iloc[0]
    if one["memory_utilization"].max() > 1:
        common.warn(f"weights and KV caches reach {one['peak_memory_gb'].max():.1f} GB, more than the {device} has: "
                    "these are the times of one that could hold them")
    one_table, table, claim = compare(one, ["tasks"], who), compare(drawn, ["regime"], who), claims.of_scheduling(runs)
    change = one_table.pivot(index="algorithm", columns="metric", values="change")[list(UNITS)]

    parts = [f"reproduce.scheduling: {model} on {device}, {link} uplink\nrandom lists: {drawn['tasks'].iloc[0]} tasks, "
             f"{WORDS[0]}..{WORDS[1]} words of output, {PROMPT[0]}..{PROMPT[1]} of prompt, {TRANS[0]}..{TRANS[1]} s of "
             f"transmission, seed {drawn['seed'].iloc[0]}\n{tables.legend(number)}\n{LEGEND}"]
    parts += [(caption, part.replace([r"(\.0+)? \u00b1 n/a$", r" \[n/a\]$"], "", regex=True))
              for caption, part in readable(f"The list: {count:,} tasks", one_table, one, who)]
    for regime in drawn["regime"].unique():
        load, (low, high) = REGIMES[regime]
        caption = (f"{regime}: load {load} (computation / span of arrivals), deadline = arrival + {low}..{high} x "
                   f"(computation + transmission), {number} lists")
        parts += readable(caption, *(rows[rows["regime"] == regime] for rows in (table, drawn)), who)
    parts += ["\n".join(f"the list, {name}: {line}" for name, proof in zip(one["algorithm"], one["proof"]) if proof
                        for line in proof.split(" | ")),
              ("Where ADSA is beaten (by whom; the whole interval of the change says so)",
               beaten(table, [name for name in who if name not in OPTIMA])),
              ("The paper's claim and what is found here, in regime " + claims.STRICT, claims.show(claim)),
              claims.RULES, WHY]
    figures = {}
    if not args.no_plot:
        drawn_list = charts(one.to_dict("records"), of_list)
        figures = {"": common.try_figure(tables.draw_bars, PANELS, "regime", who, table),
                   "_gantt": common.try_figure(tables.draw_charts, drawn_list)}
    tables.publish("scheduling", args.out, parts, {
        "runs": runs, "list_runs": of_list, "list": one.join(change.add_prefix("change_"), on="algorithm"),
        "table": table, "claims": claim}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.scheduling")
