"""The paper's claims, each in every reading, beside what is found here, with a verdict by stated rules: one table.

    python -m reproduce.claims
    python -m reproduce.claims --from results

Of the runs that reproduce.allocation, pool_size, scheduling and incentives have written: those in reproduce/figures,
or in the folder of --from. (S. Habibi, O. Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025.)
"""
import math
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import pandas as pd

import common
from reproduce import stats, tables

FIGURES = str(pathlib.Path(__file__).resolve().parent / "figures")  # the runs that are shown in README.md
OUT = "results"  # where the files go

# What the paper claims, and its readings ------------------------------------------------------------------------------

OVERHEAD, COMPLETION, QUEUEING = -54.7, -36.9, -39  # %: of communication, of completion time, of queueing delay
BASELINES = {"static": ["PipeDream"], "performance-driven": ["HexGen", "PipeEdge"]}  # of the paper's allocation
METHODS = ["FCIM", *BASELINES["static"], *BASELINES["performance-driven"]]
ALLOCATION = [  # claim, how it is read, metric, the paper's figure
    ("communication overhead", "ratio", "communication_overhead", OVERHEAD),
    ("communication overhead", "time", "communication_time", OVERHEAD),
    ("completion time", "completion", "completion_time", COMPLETION),
    ("completion time", "computation", "computation_time", COMPLETION)]
FAIRNESS = [("Jain's index of layers", "fairness_layers"), ("Jain's index of rewards", "fairness_rewards")]
POOL_SIZE = [("communication overhead", "time, by pool size", "communication_time", OVERHEAD),
             ("completion time", "completion, by pool size", "completion_time", COMPLETION)]
STRICT = "strict"  # the regime of reproduce.scheduling in which the claim is tested
FREE = "ADSA (uplink free)"  # its results leave without contention, those of all others do not: as published
RIVALS = ["FCFS", "SRTF", "LLF"]
SCHEDULING = [  # how queueing delay is read, metric, of which schedule, against whom
    ("response time (first start - arrival), FCFS", "mean_response_time", "ADSA", ["FCFS"]),
    ("response time, all three", "mean_response_time", "ADSA", RIVALS),
    ("waiting time (ready, not running), all three", "mean_waiting_time", "ADSA", RIVALS),
    ("waiting for processor and uplink, all three", "mean_both_waiting_times", "ADSA", RIVALS),
    ("the same, ADSA's uplink free", "mean_both_waiting_times", FREE, RIVALS)]
TOLERANCE = 1e-6  # cents: a gain of less is none, as results are rounded to this
WINNERS = [("winners, prices as drawn", "as drawn"), ("winners, prices at true cost", "true cost")]
LIES = [("no gain by asking another price", "gain_by_price"), ("no gain by offering fewer layers", "gain_by_layers")]
PAYMENTS = [("", "paper"), (', PAYMENT "critical" (ours)', "critical")]


def of_allocation(runs):
    """The table of claims of the runs of reproduce.allocation: draws that all methods share count."""
    keys = ["model", "pool"]
    runs = stats.shared_draws(runs, [*keys, "seed"])
    rows = []
    for claim, reading, metric, paper in ALLOCATION:
        for kind, others in BASELINES.items():
            rows.append(change_row(claim, f"{reading}, {kind}", "allocation", paper, stats.all_changes(
                runs, keys, "seed", metric, "FCIM", others, paper)))
    for reading, metric in FAIRNESS:
        ours, best, where, each = stats.all_changes(runs, keys, "seed", metric, "FCIM", METHODS[1:], 1)
        rows.append(row("fairness", reading, "allocation", "always higher", ours, best, where,
                        verdict_always(ours, each)))
    return pd.DataFrame(rows)


def of_pool_size(runs):
    """The table of claims of the runs of reproduce.pool_size: draws that all methods share count."""
    runs = stats.shared_draws(runs, ["size", "seed"])
    rows = []
    for claim, reading, metric, paper in POOL_SIZE:
        for kind, others in BASELINES.items():
            rows.append(change_row(claim, f"{reading}, {kind}", "pool_size", paper, stats.all_changes(
                runs, ["pool"], "seed", metric, "FCIM", others, paper)))
    return pd.DataFrame(rows)


def of_scheduling(runs):
    """The table of claims of the runs of reproduce.scheduling, in the regime STRICT."""
    runs = runs[runs["regime"] == STRICT]
    runs = runs.assign(mean_both_waiting_times=runs["mean_waiting_time"] + runs["mean_uplink_waiting_time"])
    return pd.DataFrame([
        change_row("queueing delay", reading, "scheduling", QUEUEING, stats.all_changes(
            runs, ["regime"], "run", metric, who, others, QUEUEING))
        for reading, metric, who, others in SCHEDULING])


def of_incentives(rows):
    """The table of claims of the runs of reproduce.incentives: of the auctions that have an allocation."""
    rows = rows[rows["allocation"]]
    won, true = rows[rows["paid_paper"] > 0], rows[rows["asked"] == "true cost"]
    found = []
    for reading, asked in WINNERS:
        part = won[won["asked"] == asked]
        found.append(share_row("positive utility", reading, "all > 0", part, part["utility_paper"] > TOLERANCE))
    for more, payment in PAYMENTS:
        for reading, gain in LIES:
            none = true[f"{gain}_{payment}"] <= TOLERANCE
            found.append(share_row("truthfulness", reading + more, "all", true, none))
    return pd.DataFrame(found)


def collect(folder):
    """The tables of claims of all scripts, one below the other, by the runs in a folder."""
    metrics = [metric for _, _, metric, _ in ALLOCATION] + [metric for _, metric in FAIRNESS]
    allocation = tables.read_runs(folder, "allocation_runs.csv", ["seed", *metrics], ["model", "pool", "problem"],
                                  METHODS)
    pool_size = tables.read_runs(folder, "pool_size_runs.csv", ["size", "seed", *(row[2] for row in POOL_SIZE)],
                                 ["pool", "problem"], METHODS)
    scheduling = tables.read_runs(
        folder, "scheduling_runs.csv",
        ["run", "mean_response_time", "mean_waiting_time", "mean_uplink_waiting_time"], ["regime"],
        ["ADSA", FREE, *RIVALS])
    gains = [f"{gain}_{payment}" for _, gain in LIES for _, payment in PAYMENTS]
    incentives = tables.read_runs(folder, "incentives_runs.csv",
                                  ["seed", "allocation", "paid_paper", "utility_paper", *gains],
                                  ["model", "pool", "asked"])
    return pd.concat([of_allocation(allocation), of_pool_size(pool_size), of_scheduling(scheduling),
                      of_incentives(incentives)], ignore_index=True)


# Verdicts -------------------------------------------------------------------------------------------------------------

HOLDS, IN_PART, NOT, UNTESTED = "holds", "holds in part", "does not hold", "not tested"
RULES = f"""ours: mean over all settings and methods of the reading [its 95 % interval]; most favourable: the best of
them, picked with the results known [its own interval].
A change in %: it {HOLDS} if the whole interval of ours lies at or beyond the paper's figure; it {HOLDS} in part
if that whole interval lies on the paper's side of 0, or the most favourable reaches the paper's figure ("up to"), its
interval not holding 0; else it {NOT}.
"always higher": it {HOLDS} if the whole interval of ours lies above 0, and of no setting and method below it;
in part if of some it does; else it {NOT}.
"all": ours is the share of cases (%); it {HOLDS} if that is 100 %, in part if it is 100 % in the most favourable
setting; else it {NOT}."""


def verdict_change(paper, ours, best):
    """Of a change in %, paper, by two of ours, each with its interval: of the mean, of the best setting."""
    if any(map(math.isnan, (*ours, *best))):
        return UNTESTED
    sign = math.copysign(1, paper)  # so that more is always better
    ours, best = [sign * value for value in ours], [sign * value for value in best]
    if min(ours) >= abs(paper):
        return HOLDS
    up_to = best[0] >= abs(paper) and min(best) > 0
    return IN_PART if min(ours) > 0 or up_to else NOT


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


def change_row(claim, reading, command, paper, changes):
    """A row about a change in %. changes: of stats.all_changes."""
    ours, best, where, _ = changes
    return row(claim, reading, command, f"{paper:+.1f} %", ours, best, where, verdict_change(paper, ours, best))


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
    """A table of claims as text."""
    rows = []
    for line in table.to_dict("records"):
        cells = {key: line[key] for key in ("claim", "reading", "command", "paper")}
        for what, keys in (("ours (%)", ("ours", "low", "high")),
                           ("most favourable (%)", ("best", "best_low", "best_high"))):
            text = tables.show_change(*(line[key] for key in keys)).lstrip(tables.SAME)
            is_share = line["paper"].startswith("all")
            cells[what] = text.replace("+", "") if is_share else text
        rows.append({**cells, "which": line["best_in"], "verdict": line["verdict"]})
    return pd.DataFrame(rows)


def main(name):
    parser = common.make_parser(name, __doc__, plot=False, out=OUT)
    parser.add_argument("--from", metavar="DIR", dest="source", default=FIGURES, help="the folder of the runs")
    args = parser.parse_args()
    common.check_writable(args.out)
    table = collect(args.source)
    tables.publish("claims", args.out, [("What the paper claims, and what is found here", show(table)), RULES],
                   {"table": table}, {})


if __name__ == "__main__":
    common.run(main, "reproduce.claims")
