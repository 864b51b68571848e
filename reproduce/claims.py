"""The paper's claims, each in every reading, beside what is found here, with a verdict by stated rules.

    python -m reproduce.claims
    python -m reproduce.claims --from results

Of the runs that reproduce.allocation, pool_size, scheduling and incentives have written: those in reproduce/figures,
or in the folder of --from. (S. Habibi, O. Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025.)
"""
import math
import os
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import pandas as pd

import common
from reproduce import allocation, stats, study

FIGURES = str(pathlib.Path(__file__).resolve().parent / "figures")  # the runs that are shown in README.md
OUT = "results"  # where the files go

# What the paper claims, and its readings ------------------------------------------------------------------------------
OVERHEAD, COMPLETION, QUEUEING = -54.7, -36.9, -39  # %: of communication, of completion time, of queueing delay
BASELINES = {"static": ["PipeDream"], "performance": ["HexGen", "PipeEdge"]}  # static and performance-driven ones
METHODS = ["FCIM", *BASELINES["static"], *BASELINES["performance"]]
ALLOCATION = [  # claim, how it is read, metric, the paper's figure; of the settings with a choice
    ("communication overhead", "ratio", "communication_overhead", OVERHEAD),
    ("communication overhead", "time", "communication_time", OVERHEAD),
    ("completion time", "completion", "completion_time", COMPLETION),
    ("completion time", "completion, unseen list", "completion_time_unseen", COMPLETION),
    ("completion time", "completion of a task", "mean_turnaround_time", COMPLETION),
    ("completion time", "computation", "computation_time", COMPLETION)]
NO_CHOICE = [  # of the others
    ("communication overhead", "time, no choice", "communication_time", OVERHEAD),
    ("completion time", "completion, no choice", "completion_time", COMPLETION)]
PRIORITIES = list(allocation.PRIORITIES)  # of FCIM's weights
FAIRNESS = [  # how it is read, metric, of whom
    ("Jain of layers", "fairness_layers", ["FCIM"]),
    ("Jain of layers, over all that bid", "fairness_layers_all", ["FCIM"]),
    ("Jain of rewards", "fairness_rewards", ["FCIM"]),
    ("Jain of rewards, over all that bid", "fairness_rewards_all", ["FCIM"]),
    ("Jain of layers, shifting priorities", "fairness_layers", PRIORITIES),
    ("Jain of rewards, shifting priorities", "fairness_rewards", PRIORITIES)]
POOL_SIZE = [("communication overhead", "time, by pool size", "communication_time", OVERHEAD),
             ("completion time", "completion, by pool size", "completion_time", COMPLETION)]
STRICT = "strict"  # the regime of reproduce.scheduling in which the claim is tested
FREE = "ADSA (uplink free)"  # its results leave without contention, those of all others do not: as published
RIVALS = ["FCFS", "SRTF", "LLF"]
SCHEDULING = [  # how queueing delay is read, metric, of which schedule, against whom
    ("response time, FCFS", "mean_response_time", "ADSA", ["FCFS"]),
    ("response time, all three", "mean_response_time", "ADSA", RIVALS),
    ("waiting time, all three", "mean_waiting_time", "ADSA", RIVALS),
    ("waiting, uplink's too, all three", "mean_both_waiting_times", "ADSA", RIVALS),
    ("the same, ADSA's uplink free", "mean_both_waiting_times", FREE, RIVALS),
    ("turnaround, all three", "mean_turnaround_time", "ADSA", RIVALS)]
TOLERANCE = 1e-6  # cents: a gain of less is none, as results are rounded to this
WINNERS = [  # reading, prices, what a utility is above if it is so; at true cost, none below 0: individual rationality
    ("above 0, prices as drawn", "as drawn", TOLERANCE), ("none below 0, at true cost", "true cost", -TOLERANCE)]
LIES = [("no gain by another price", "price"), ("no gain by fewer layers", "layers"),
        ("no gain by another time", "time")]
PAYMENTS = [("", "paper"), (", FCIM_critical", "critical")]  # the latter are ours


def of_allocation(runs):
    """The table of claims of the runs of reproduce.allocation: draws that all methods share count."""
    keys = ["model", "pool"]
    runs = stats.shared_draws(runs, [*keys, "seed"])
    choice = allocation.with_choice(runs)
    rows = []
    for readings, some in ((ALLOCATION, runs[choice]), (NO_CHOICE, runs[~choice])):
        for claim, reading, metric, paper in readings:
            for kind, others in BASELINES.items():
                settings = stats.in_settings(some, keys, "seed", metric, "FCIM", others)
                rows.append(change_row(claim, f"{reading}, {kind}", "allocation", paper, settings))
    for reading, metric, firsts in FAIRNESS:
        settings = {}
        for first in firsts:
            for case, pair in stats.in_settings(runs, keys, "seed", metric, first, METHODS[1:]).items():
                settings[case if first == "FCIM" else (*case, first)] = pair
        rows.append(always_row("fairness", reading, "allocation", settings))
    return pd.DataFrame(rows)


def of_pool_size(runs):
    """The table of claims of the runs of reproduce.pool_size: draws that all methods share count."""
    runs = stats.shared_draws(runs, ["size", "seed"])
    rows = []
    for claim, reading, metric, paper in POOL_SIZE:
        for kind, others in BASELINES.items():
            settings = stats.in_settings(runs, ["pool"], "seed", metric, "FCIM", others)
            rows.append(change_row(claim, f"{reading}, {kind}", "pool_size", paper, settings))
    return pd.DataFrame(rows)


def of_scheduling(runs):
    """The table of claims of the runs of reproduce.scheduling, in the regime STRICT."""
    runs = runs[runs["regime"] == STRICT]
    runs = runs.assign(mean_both_waiting_times=runs["mean_waiting_time"] + runs["mean_uplink_waiting_time"])
    rows = []
    for reading, metric, who, others in SCHEDULING:
        settings = stats.in_settings(runs, ["regime"], "run", metric, who, others)
        rows.append(change_row("queueing delay", reading, "scheduling", QUEUEING, settings))
    return pd.DataFrame(rows)


def of_incentives(runs, gains):
    """The table of claims of the runs of reproduce.incentives: of the auctions that have an allocation."""
    won = runs[runs["paid_paper"] > 0]
    rows = []
    for reading, asked, least in WINNERS:
        part = won[won["asked"] == asked]
        rows.append(share_row("positive utility", reading, "all", part, part["utility_paper"] > least))
    gains = gains.dropna(subset=["gain"])
    for more, payment in PAYMENTS:
        for reading, lie in LIES:
            part = gains[(gains["lie"] == lie) & (gains["payment"] == payment)]
            rows.append(share_row("truthfulness", reading + more, "all", part, part["gain"] <= TOLERANCE))
    return pd.DataFrame(rows)


def collect(folder):
    """The tables of claims of all scripts, one below the other, by the runs in a folder."""
    def read(file, *columns):
        return study.read_runs(folder, f"{file}_runs.csv", columns)

    keys = ["model", "pool", "seed"]
    metrics = [reading[2] for reading in ALLOCATION] + [reading[1] for reading in FAIRNESS]
    times = [f"mean_{what}_time" for what in ("response", "waiting", "uplink_waiting", "turnaround")]
    tables = [
        of_allocation(read("allocation", *keys, "algorithm", "problem", "devices", "bidders", *metrics)),
        of_pool_size(read("pool_size", "pool", "size", "seed", "algorithm", "problem", *(row[2] for row in POOL_SIZE))),
        of_scheduling(read("scheduling", "regime", "run", "algorithm", *times)),
        of_incentives(read("incentives", *keys, "asked", "paid_paper", "utility_paper"),
                      read("incentives_gains", *keys, "lie", "payment", "gain"))]
    return pd.concat(tables, ignore_index=True)


# Verdicts -------------------------------------------------------------------------------------------------------------
HOLDS, IN_PART, NOT, UNTESTED = "holds", "holds in part", "does not hold", "not tested"
RULES = f"""\
ours: mean over all settings and methods of the reading [its 95 % interval]; most favourable: the
best of them, picked with the results known: which, and its interval, stand in claims_table.csv.
A change in %: it {HOLDS} if the interval of ours contains the paper's figure or lies beyond it,
and excludes 0; in part if it excludes 0 on the paper's side, or that of the most favourable does
and reaches the figure ("up to"); else it {NOT}. So 97.5 % of perfect replications hold.
"always higher": it {HOLDS} if the whole interval of ours lies above 0, and of no setting and method
below it; in part if of some it does; else it {NOT}.
"all": ours is the share of cases (%); it {HOLDS} if that is 100 %, in part if it is 100 % in the
most favourable setting; else it {NOT}."""
READINGS = """\
Overhead and completion time: of the settings with a choice, in which FCIM leaves a bidder out; "no
choice": of the others. ratio: communication / (communication + computation), as in the published
scripts; time: of all tasks on links (each link that a task crosses counts once, for all methods).
completion: until the last task is back; of a task: from its arrival; unseen list: one that no
method has planned on; computation: in all stages. static: PipeDream; performance: HexGen and
PipeEdge, which look at devices and links.
Queueing delay: the claim names neither its baseline (FCFS, or all three of FCFS, SRTF, LLF) nor
what it counts. response: first start - arrival, the wait_time of the published ADSA and FCFS;
waiting: ready and not running, in which no schedule is on average below SRTF (Schrage 1968);
turnaround: the published waiting_times. ADSA's uplink free: as published, of ADSA alone.
Truthfulness: of bids at true cost; FCIM_critical: with its payments, which are ours."""


def verdict_change(paper, ours, best):
    """Of a change in %, paper, by two of ours, each with its interval: of the mean, of the best setting."""
    if any(map(math.isnan, (*ours, *best))):
        return UNTESTED
    sign = math.copysign(1, paper)  # so that more is always better
    ours, best = [sign * value for value in ours], [sign * value for value in best]
    reaches, best_reaches = (min(found) > 0 and max(found) >= abs(paper) for found in (ours, best))
    if reaches:
        return HOLDS
    return IN_PART if min(ours) > 0 or best_reaches else NOT


def verdict_always(ours, each):
    """Of "always higher", by ours, the change with its interval, and those of each setting and method."""
    if any(map(math.isnan, ours)):
        return UNTESTED
    if ours[1] <= 0:
        return NOT
    return IN_PART if any(high < 0 for _, _, high in each) else HOLDS


def verdict_all(share, best):
    """Of a claim about all cases, by the share (%) of those in which it is so: of all, of the best setting."""
    if math.isnan(share):
        return UNTESTED
    if share == 100:
        return HOLDS
    return IN_PART if best == 100 else NOT


# Rows -----------------------------------------------------------------------------------------------------------------
def row(claim, reading, command, paper, ours, best, best_in, verdict):
    """A row of a table of claims. ours, best: (value, low, high), of the mean over settings and of the most favourable
    one, whose name is best_in."""
    numbers = [round(float(value), 6) for value in (*ours, *best)]
    return {"claim": claim, "reading": reading, "command": command, "paper": paper, "best_in": best_in,
            "verdict": verdict, **dict(zip(("ours", "low", "high", "best", "best_low", "best_high"), numbers))}


def change_row(claim, reading, command, paper, settings):
    """A row about a change in %. settings: of stats.in_settings."""
    ours, each = stats.all_changes(settings)
    best = most_favourable(each, math.copysign(1, paper))
    found = each.get(best, stats.NONE)
    return row(claim, reading, command, f"{paper:+.1f} %", ours, found, name_of(best),
               verdict_change(paper, ours, found))


def always_row(claim, reading, command, settings):
    """A row about what is always higher. settings: of stats.in_settings."""
    ours, each = stats.all_changes(settings)
    best = most_favourable(each, 1)
    return row(claim, reading, command, "always higher", ours, each.get(best, stats.NONE), name_of(best),
               verdict_always(ours, each.values()))


def most_favourable(each, sign):
    """Which of the changes, {case: (value, low, high)}, is most to this side; none of none."""
    return max(each, key=lambda case: -math.inf if math.isnan(each[case][0]) else sign * each[case][0], default=())


def name_of(case):
    return ", ".join(map(str, case))


def share_row(claim, reading, wanted, cases, is_so):
    """A row about a share of cases. cases: model, pool and seed of each; is_so: truth values, a row a case."""
    shares = 100 * is_so.astype(float)
    ours = stats.mean(shares.groupby(cases["seed"]).mean().to_numpy())
    each = {", ".join(setting): stats.mean(shares[part.index].groupby(part["seed"]).mean().to_numpy())
            for setting, part in cases.groupby(["model", "pool"], sort=False)}
    best = max(each, key=lambda setting: each[setting][0], default="")
    found = each.get(best, stats.NONE)
    return row(claim, reading, "incentives", wanted, ours, found, best, verdict_all(ours[0], found[0]))


def show(table):
    """Rows of a table of claims as text."""
    lines = []
    for line in table.to_dict("records"):
        ours = study.show_change(line["ours"], line["low"], line["high"]).lstrip("~")
        best = study.show_change(line["best"], math.nan, math.nan)
        if line["paper"].startswith("all"):  # shares
            ours, best = ours.replace("+", ""), best.replace("+", "")
        lines.append({"reading": line["reading"], "ours (%)": ours, "most_favourable": best,
                      "verdict": line["verdict"]})
    return pd.DataFrame(lines)


def main(name):
    parser = common.make_parser(name, __doc__, plot=False, out=OUT)
    parser.add_argument("--from", metavar="DIR", dest="source", default=FIGURES, help="the folder of the runs")
    parser.set_defaults(no_plot=True)
    args = parser.parse_args()
    common.check_writable(args.out)
    table = collect(args.source)

    folder = "reproduce/figures" if os.path.abspath(args.source) == FIGURES else args.source
    parts = [f"{name}: what is found here, by the runs in {folder} (--from: in another folder)"]
    for (claim, paper), part in table.groupby(["claim", "paper"], sort=False):
        parts.append((claim.replace(" ", "_"), f"{claim}: {paper} in the paper", show(part)))
    study.publish("claims", args, [*parts, RULES, READINGS], {"table": table}, {})


if __name__ == "__main__":
    common.run(main, "reproduce.claims")
