"""The paper's claims beside what is found here, with a verdict by stated rules.

    python -m reproduce.claims
    python -m reproduce.claims --from results

Of the runs that reproduce.published, allocation, scheduling and incentives have written: those in reproduce/figures, or
in the folder of --from. Prints one reading of each claim; claims.csv holds all of them, claims.md what is printed as a
Markdown table. (S. Habibi, O. Ercetin, IEEE Access 13, 2025; S. Habibi, Sabanci University, 2025.)
"""
import itertools
import math
import os
import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import pandas as pd

import common
from reproduce import allocation, stats, study

FIGURES = str(pathlib.Path(__file__).resolve().parent / "figures")  # the runs that are shown in README.md

# What the paper claims, and its readings ------------------------------------------------------------------------------
OVERHEAD, COMPLETION, QUEUEING = -54.7, -36.9, -39  # %: of communication, of completion time, of queueing delay
BASELINES = {"static": ["PipeDream"], "performance": ["HexGen", "PipeEdge"],
             "all three": ["HexGen", "PipeDream", "PipeEdge"]}
PUBLISHED, SYSTEMS = "as published", "as the systems are"  # what the baselines are
LATENCY = [  # against what, claim, how it is read, metric, the paper's figure
    (PUBLISHED, "communication overhead", "time on links", "time_on_links", OVERHEAD),
    (PUBLISHED, "communication overhead", "ratio", "overhead_ratio", OVERHEAD),
    (PUBLISHED, "communication overhead", "time on links, one count", "one_count_links", OVERHEAD),
    (PUBLISHED, "communication overhead", "ratio, one count", "one_count_ratio", OVERHEAD),
    (PUBLISHED, "completion time", "links + computation", "both_times", COMPLETION),
    (PUBLISHED, "completion time", "links + computation, one count", "one_count_both", COMPLETION),
    (PUBLISHED, "completion time", "latency", "latency", COMPLETION),
    (SYSTEMS, "communication overhead", "time on links", "communication_time", OVERHEAD),
    (SYSTEMS, "communication overhead", "ratio", "communication_overhead", OVERHEAD),
    (SYSTEMS, "completion time", "completion", "completion_time", COMPLETION),
    (SYSTEMS, "completion time", "completion, unseen list", "completion_time_unseen", COMPLETION),
    (SYSTEMS, "completion time", "completion of a task", "mean_turnaround_time", COMPLETION),
    (SYSTEMS, "completion time", "computation", "computation_time", COMPLETION)]
PRIORITIES = list(allocation.PRIORITIES)  # of FCIM's weights
FAIRNESS = [  # against what, how it is read, metric, of whom
    (PUBLISHED, "Jain of layers", "fairness_layers", ["FCIM"]),
    (PUBLISHED, "Jain of rewards", "fairness_rewards", ["FCIM"]),
    (SYSTEMS, "Jain of layers", "fairness_layers", ["FCIM"]),
    (SYSTEMS, "Jain of layers, over all that bid", "fairness_layers_all", ["FCIM"]),
    (SYSTEMS, "Jain of rewards", "fairness_rewards", ["FCIM"]),
    (SYSTEMS, "Jain of rewards, over all that bid", "fairness_rewards_all", ["FCIM"]),
    (SYSTEMS, "Jain of layers, shifting priorities", "fairness_layers", PRIORITIES),
    (SYSTEMS, "Jain of rewards, shifting priorities", "fairness_rewards", PRIORITIES)]
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
    ("utility above 0, prices as drawn", "as drawn", TOLERANCE), ("no loss, at true cost", "true cost", -TOLERANCE)]
LIES = [("no gain by another price", "price"), ("no gain by fewer layers", "layers"),
        ("no gain by another time", "time")]
PAYMENTS = [("", "FCIM"), (", FCIM_critical", "FCIM_critical")]  # the latter are ours

ANY_MODEL = ", any model"  # a model that one device holds, too
ONE_DEVICE = "one device"  # in place of a pool
SHOWN = [  # of all readings those in the table: against what, claim, reading
    (PUBLISHED, "communication overhead", "time on links, all three"),
    (PUBLISHED, "communication overhead", "ratio, all three"),
    (PUBLISHED, "completion time", "links + computation, all three"),
    (PUBLISHED, "fairness", "Jain of layers"),
    (SYSTEMS, "communication overhead", "time on links, static"),
    (SYSTEMS, "communication overhead", "time on links, performance"),
    (SYSTEMS, "completion time", "completion, static"),
    (SYSTEMS, "completion time", "completion, performance"),
    (SYSTEMS, "fairness", "Jain of layers"),
    (SYSTEMS, "positive utility", "no loss, at true cost"),
    (SYSTEMS, "truthfulness", "no gain by another price"),
    (SYSTEMS, "queueing delay", "response time, FCFS"),
    (SYSTEMS, "queueing delay", "waiting time, all three"),
    (SYSTEMS, "T_end", "T_end of the optimum")]
COLUMNS = {"owned (campus)": "campus", "rented (cloud)": "cloud"}  # of the table, and their pools


def of_pools(grounds, command, against):
    """Rows of claims of an allocation study. grounds: {pool: its runs}, of draws that all methods share."""
    latency = [line[1:] for line in LATENCY if line[0] == against]
    of_fairness = [line[1:] for line in FAIRNESS if line[0] == against]
    for pool, runs in grounds.items():
        about = dict(against=against, pool=pool, command=command)
        is_several = (runs["algorithm"] == "FCIM") & (runs["devices"] > 1)  # on several devices
        of_several = runs[is_several.groupby(runs["model"]).transform("any")]
        for more, some in (("", of_several), (ANY_MODEL, runs)):
            if some.empty:
                continue
            for (claim, reading, metric, paper), (kind, others) in itertools.product(latency, BASELINES.items()):
                settings = stats.in_settings(some, ["model", "pool"], "seed", metric, "FCIM", others)
                yield dict(about, **change_row(claim, f"{reading}, {kind}{more}", paper, settings))
            for reading, metric, firsts in of_fairness:
                yield dict(about, **change_row("fairness", reading + more, None, fairness(some, metric, firsts)))


def fairness(runs, metric, firsts):
    """stats.in_settings of each of `firsts` against the three baselines."""
    found = {}
    for first in firsts:
        settings = stats.in_settings(runs, ["model", "pool"], "seed", metric, first, BASELINES["all three"])
        found.update({(*setting, first): pair for setting, pair in settings.items()})
    return found


def of_scheduling(runs):
    """Rows of claims of the runs of reproduce.scheduling, in the regime STRICT."""
    runs = runs[runs["regime"] == STRICT]
    runs = runs.assign(mean_both_waiting_times=runs["mean_waiting_time"] + runs["mean_uplink_waiting_time"])
    about = dict(against=SYSTEMS, pool=ONE_DEVICE, command="scheduling")
    for reading, metric, who, others in SCHEDULING:
        settings = stats.in_settings(runs, ["regime"], "run", metric, who, others)
        yield dict(about, **change_row("queueing delay", reading, QUEUEING, settings))

    alike = runs[(runs["algorithm"] == "ADSA") & (runs["deadlines_behind"] == 0)]  # the optimum meets no more
    row = share_row("T_end", "T_end of the optimum", alike["regime"], alike["run"], alike["T_end_above"] <= 0)
    yield dict(about, **row)


def of_incentives(runs, gains):
    """Rows of claims of the runs of reproduce.incentives: of the auctions that have an allocation."""
    is_winner = (runs["algorithm"] == "FCIM") & (runs["paid"] > 0)
    for pool, won in runs[is_winner].groupby("pool", sort=False):
        about = dict(against=SYSTEMS, pool=pool, command="incentives")
        for reading, asked, least in WINNERS:
            part = won[won["asked"] == asked]
            is_so = part["utility"] > least
            yield dict(about, **share_row("positive utility", reading, part["model"], part["seed"], is_so))
    for pool, known in gains.dropna(subset=["gain"]).groupby("pool", sort=False):
        about = dict(against=SYSTEMS, pool=pool, command="incentives")
        for (more, payment), (reading, lie) in itertools.product(PAYMENTS, LIES):
            part = known[(known["lie"] == lie) & (known["algorithm"] == payment)]
            is_so = part["gain"] <= TOLERANCE
            yield dict(about, **share_row("truthfulness", reading + more, part["model"], part["seed"], is_so))


def collect(folder):
    """The table of all readings, by the runs in a folder."""
    def read(file, *columns):
        return study.read_runs(folder, f"{file}_runs.csv", columns)

    def shared(command, against, *columns):
        metrics = [line[-2] for line in (*LATENCY, *FAIRNESS) if line[0] == against]
        return stats.shared_draws(read(command, *keys, "algorithm", "problem", *metrics, *columns), keys)

    keys = ["model", "pool", "seed"]
    published = shared("published", PUBLISHED, "devices")
    systems = shared("allocation", SYSTEMS, "devices", "bidders")
    times = [f"mean_{what}_time" for what in ("response", "waiting", "uplink_waiting", "turnaround")]
    return pd.DataFrame([
        *of_pools(dict(list(published.groupby("pool", sort=False))), "published", PUBLISHED),
        *of_pools(allocation.by_choice(systems), "allocation", SYSTEMS),
        *of_incentives(read("incentives", *keys, "asked", "algorithm", "paid", "utility"),
                       read("incentives_gains", *keys, "lie", "algorithm", "gain")),
        *of_scheduling(read("scheduling", "regime", "run", "algorithm", *times, "deadlines_behind", "T_end_above"))])


# Verdicts -------------------------------------------------------------------------------------------------------------
HOLDS, IN_PART, NOT, UNTESTED = "holds", "in part", "fails", "not tested"
RULES = f"""\
ours: mean over the models and methods of the reading [its 95 % interval]. Most favourable: the best
of them, picked with the results known: which, and its interval, stand in claims.csv.
A change in %: it {HOLDS} if the interval of ours contains the paper's figure or lies beyond it,
and excludes 0; {IN_PART} if it excludes 0 on the paper's side, or that of the most favourable does
and reaches the figure ("up to"); else it {NOT}. So 97.5 % of perfect replications hold.
"higher": it {HOLDS} if the whole interval of ours lies above 0, and of no model and method below
it; {IN_PART} if of some it does; else it {NOT}.
"all": ours is the share of cases (%); it {HOLDS} if that is 100 %, {IN_PART} if it is 100 % in the
most favourable setting; else it {NOT}."""
READINGS = """\
As published: the methods of the authors' scripts, with their own counts of links, on our draws. As
the systems are: HexGen, PipeDream and PipeEdge of this project, one count of links for all.
owned: the devices of campus, which cost electricity; rented: the same ones (pool cloud).
Changes of allocations: of the models that FCIM hands to several devices ("any model" in claims.csv:
of all). Losses and gains of bidders: of all models.
static: PipeDream; performance: HexGen and PipeEdge, which look at devices and links.
ratio: communication / (communication + computation), as in the published scripts; time on links: of
all tasks. completion: until the last task is back.
Queueing delay names neither its baseline nor what it counts. response: first start - arrival, the
wait_time of the published ADSA and FCFS; waiting: ready and not running, in which no schedule is on
average below SRTF (Schrage 1968). Under strict deadlines, on one device: owned or rented is alike.
T_end: of the lists on which the proven optimum meets no more deadlines than ADSA.
claims.csv: further readings, most favourable settings, and where FCIM leaves no bidder out."""


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
def row(claim, reading, paper, ours, best, best_in, verdict):
    """What a reading of a claim has found. ours, best: (value, low, high), of the mean over settings and of the most
    favourable one, whose name is best_in."""
    numbers = [round(float(value), 6) for value in (*ours, *best)]
    return {"claim": claim, "reading": reading, "paper": paper, "best_in": best_in, "verdict": verdict,
            **dict(zip(("ours", "low", "high", "best", "best_low", "best_high"), numbers))}


def change_row(claim, reading, paper, settings):
    """A row about a change in %; paper: None for what is always higher. settings: of stats.in_settings."""
    ours, each = stats.all_changes(settings)
    best = most_favourable(each, 1 if paper is None else math.copysign(1, paper))
    found = each.get(best, stats.NONE)
    if paper is None:
        text, verdict = "higher", verdict_always(ours, each.values())
    else:
        text, verdict = f"{paper:+.1f}", verdict_change(paper, ours, found)
    return row(claim, reading, text, ours, found, ", ".join(map(str, best)), verdict)


def most_favourable(each, sign):
    """Which of the changes, {case: (value, low, high)}, is most to this side; none of none."""
    return max(each, key=lambda case: -math.inf if math.isnan(each[case][0]) else sign * each[case][0], default=())


def share_row(claim, reading, settings, draws, is_so):
    """A row about a share of cases. settings, draws, is_so: columns, the setting, the draw and the truth of each."""
    shares = 100 * is_so.astype(float)
    ours = stats.mean(shares.groupby(draws).mean().to_numpy())
    each = {setting: stats.mean(part.groupby(draws[part.index]).mean().to_numpy())
            for setting, part in shares.groupby(settings, sort=False)}
    best = max(each, key=lambda setting: each[setting][0], default="")
    found = each.get(best, stats.NONE)
    return row(claim, reading, "all", ours, found, best, verdict_all(ours[0], found[0]))


# What is shown --------------------------------------------------------------------------------------------------------
def summary(table):
    """The rows SHOWN as text: claim, reading, paper, and for each of COLUMNS what is found and the verdict."""
    found = {(row["against"], row["claim"], row["reading"], row["pool"]): row for row in table.to_dict("records")}
    lines = []
    for key in SHOWN:
        rows = [found.get((*key, pool), found.get((*key, ONE_DEVICE))) for pool in COLUMNS.values()]
        line = dict(zip(("against", "claim", "as read"), key), paper=next((row["paper"] for row in rows if row), ""))
        lines.append({**line, **dict(zip(COLUMNS, map(show, rows)))})
    return pd.DataFrame(lines)


def show(row):
    if row is None:  # no run of this pool
        return UNTESTED
    ours = study.show_change(row["ours"], row["low"], row["high"]).lstrip("~")
    if row["paper"] == "all":  # a share
        ours = ours.replace("+", "") + " %"
    return f"{ours} {row['verdict']}"


def in_markdown(table):
    """The table of `summary` in Markdown."""
    lines = []
    for against, part in table.groupby("against", sort=False):
        part = part.drop(columns="against")
        cells = [[f"claim, {against}", *list(part)[1:]], ["---"] * len(part.columns), *part.to_numpy().tolist()]
        lines += [f"| {' | '.join(line)} |\n" for line in cells]
        lines.append("\n")
    return "".join(lines[:-1])


def main(name):
    parser = common.make_parser(name, __doc__, plot=False, out=study.OUT)
    parser.add_argument("--from", metavar="DIR", dest="source", default=FIGURES, help="the folder of the runs")
    args = parser.parse_args()
    table = collect(args.source)
    shown = summary(table)
    paths = common.write_files(args.out, {"claims.csv": table, "claims.md": in_markdown(shown),
                                          "claims.tex": study.in_latex(shown, "What the paper claims", "claims")})

    folder = "reproduce/figures" if os.path.abspath(args.source) == FIGURES else args.source
    print(f"{name}: what is found here, by the runs in {folder} (--from: in another folder)\n")
    for against, part in shown.groupby("against", sort=False):
        print(f"{against[0].upper()}{against[1:]}: change in %")
        common.print_table(part.drop(columns=["against", "claim"]))
        print("")
    print(f"{RULES}\n{READINGS}\n")
    common.print_lines(f"written: {', '.join(paths)}")


if __name__ == "__main__":
    common.run(main, "reproduce.claims")
