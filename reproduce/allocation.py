"""FCIM against HexGen, PipeDream and PipeEdge on the same draws of links and bids: models x pools x seeds.

    python -m reproduce.allocation
    python -m reproduce.allocation --model "GPT-3 175B" --pool campus --pool paper --runs 10
    python -m reproduce.allocation --tasks my_tasks.csv --also Mine.py

The paper claims that FCIM lowers communication overhead by 54.7 % and completion time by 36.9 %, and is consistently
fairer (S. Habibi, O. Ercetin, IEEE Access 13, 2025): the last table sets that beside what is found here. FCIM_links
(reproduce/FCIM_links.py) is ours. --also takes an allocation script of your own.
"""
import functools
import math
import pathlib
import sys

import numpy as np
import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM
import PipeDream
from reproduce import claims, latex, stats, tables
from reproduce.parallel import parallel

MODELS = ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]  # whose layers are placed: names in common.MODELS, or folders
POOLS = ["campus", "paper", "workstations"]  # the devices: names in common.POOLS
SEED = 0  # of the first draw
RUNS = 30  # draws of links and bids for each model and pool
OUT = "results"  # where the files go
PRIORITIES = {  # FCIM's weights: alpha, beta, gamma, of device count, time and price
    "cost first": (0.1, 0.3, 0.6),
    "time first": (0.1, 0.6, 0.3),
    "devices first": (0.6, 0.3, 0.1),
}

SCRIPTS = {"FCIM": "FCIM", "FCIM_links": "reproduce.FCIM_links", "HexGen": "HexGen", "PipeDream": "PipeDream",
           "PipeEdge": "PipeEdge"}
PREFIX = "PipeDream, prefix"  # a reference: see plan_prefix
METHODS = ["FCIM", "FCIM_links", "HexGen", "PipeDream", PREFIX, "PipeEdge"]
METRICS = {  # with their units
    "completion_time": "s", "completion_time_unseen": "s", "mean_turnaround_time": "s", "computation_time": "s",
    "communication_time": "s", "communication_overhead": "", "total_cost": "cents", "memory_utilization": "",
    "fairness_layers": "", "fairness_layers_all": "", "fairness_rewards": "", "fairness_rewards_all": "",
    "devices": "", "cost_efficiency": "layers/cent", "deadlines_met": "", "utility": "cents"}
PANELS = [("completion_time", "completion\n(s)"), ("communication_time", "communica-\ntion (s)"),
          ("total_cost", "cost\n(cents)"), ("fairness_layers", "fairness of\nlayers (0-1)"),
          ("fairness_rewards", "fairness of\nrewards (0-1)"), ("devices", "devices\n(count)")]
KEYS = ["model", "pool"]
ABOUT = """completion_time_unseen: of another list of the same kind, that no method has planned on: as many tasks, drawn
from the list with replacement, that arrive at other times. fairness: Jain's index over the devices used; all: over all
that bid. PipeDream, prefix: the first devices of the listing, as many as PipeDream's own plan finds best; ours."""
WHY = """ratio: communication / (communication + computation), as in the published scripts; time: of all tasks on links.
completion: until the last task is back; of a task: from its arrival, mean; computation (processing): of all tasks in
all stages. Settings with a choice: FCIM leaves a bidder out. The published scripts count links by another rule for each
method; here every link that a task crosses counts once for all, on the same draws. PipeDream is the static baseline;
PipeEdge and HexGen, the performance-driven ones, look at devices and links, while FCIM orders its pipeline by the bids
alone."""


# One draw -------------------------------------------------------------------------------------------------------------


def run_case(tasks, methods, model, pool, seed):
    """Metrics of the methods (load_scripts), and of FCIM by other weights, on one draw: a list of dicts."""
    candidates = {name: tables.script(path).allocate for name, path in methods.items()}
    candidates[PREFIX] = plan_prefix
    for name, weights in PRIORITIES.items():
        candidates[name] = functools.partial(FCIM.allocate, weights=weights)
    case = tables.quiet_case(tasks, model, pool, seed)
    return measure_all(candidates, case, model=model.name, pool=pool, seed=seed)


def measure_all(candidates, case, **draw):
    """Metrics of each candidate, {name: its allocate}, on one draw (common.allocation_case): a list of dicts, each with
    what names the draw; "problem" says why a candidate has found no allocation, or nothing."""
    rows = []
    unseen = another_list(case)
    for name, allocate in candidates.items():
        row = dict(draw, bidders=len(case["bids"]), algorithm=name, problem="")
        try:
            stages, _ = allocate(**case)
            table, _, _, metrics = common.evaluate(stages, **case)
        except common.NoAllocation as none:
            rows.append(dict(row, problem=str(none)))
            continue
        except common.UserError as error:
            raise common.UserError(f"{name}: {error}") from error
        row.update(metrics)
        row["utility"] = round(table["utility"].sum(), 6)
        row["completion_time_unseen"] = completion_time(stages, **unseen)
        rows.append(row)
    return rows


def another_list(case):
    """The case with another list of the same kind: as many tasks, drawn from its list with replacement, which arrive
    evenly spread over the same span, and have as long until their deadlines. Links and bids are the same."""
    tasks = case["tasks"]
    number = len(tasks)
    rng = common.draw(case["seed"], "another list")
    picked = rng.integers(number, size=number)
    first = tasks["arrival_time"].min()
    last = tasks["arrival_time"].max()
    arrival = np.sort(rng.integers(first, last, size=number, endpoint=True))
    until_due = (tasks["deadline"] - tasks["arrival_time"]).to_numpy()
    drawn = tasks.iloc[picked].reset_index(drop=True).assign(
        label=tasks["label"].to_numpy(), arrival_time=arrival, deadline=arrival + until_due[picked])
    return dict(case, tasks=drawn, times=case["times"][picked], arrivals=arrival / common.US)


def completion_time(stages, tasks, delay, times, **_):
    """Seconds until the last task of a list is back: that of common.evaluate, alone."""
    groups = [stage["devices"] for stage in stages]
    layers = np.array([stage["layers"] for stage in stages])
    compute, allreduce, links = common.stage_times(groups, layers, delay, times)
    arrival = tasks["arrival_time"].to_numpy()
    _, _, end = common.pipeline(arrival, links, compute + allreduce)
    return int(end[-1, -1] + links[-1]) / common.US


def plan_prefix(layers, bids, delay, times, **_):
    """PipeDream on the first devices of the listing: as many as give its plan the least bottleneck, fewer of equal
    ones. Its plan takes all devices as equal, so that the largest stage decides."""
    offers = bids["layers"].to_numpy()
    client = len(bids)
    best = math.inf
    number = client
    for n in range(1, client + 1):
        if offers[:n].sum() < layers:
            continue
        largest = next(k for k in range(1, layers + 1) if np.minimum(offers[:n], k).sum() >= layers)
        links = delay[:n, :n][np.triu_indices(n, 1)]
        bottleneck = max(largest * times[:, :n].mean(), links.mean() if n > 1 else 0)
        if bottleneck < best:
            best, number = bottleneck, n
    nodes = [*range(number), client]
    return PipeDream.allocate(layers=layers, bids=bids[:number], delay=delay[np.ix_(nodes, nodes)],
                              times=times[:, :number])


# Tables ---------------------------------------------------------------------------------------------------------------


def of_setting(caption, table, who):
    """Captions and tables for reading of one setting: means, changes. table: part of one of stats.compare."""
    draws = table["runs"].max()
    return [(f"{caption}: means of {draws} draws", tables.means(table, who, METRICS)),
            (f"{caption}: change of {who[0]} in % against each", tables.changes(table, who, METRICS))]


def over_settings(what, runs, who):
    """Caption and table for reading of changes over settings, of FCIM and of FCIM_links against each other method."""
    rows = []
    for metric in METRICS:
        for first in METHODS[:2]:
            row = {"metric": metric, "change of": first}
            settings = stats.in_settings(runs, KEYS, "seed", metric, first, who[2:])
            for other in who[2:]:
                pairs = [pair for setting, pair in settings.items() if setting[-1] == other]
                row[other] = tables.show_change(*stats.mean_change(pairs))
            rows.append(row)
    number = len(runs[KEYS].drop_duplicates())
    return f"{what}: change in % against each, mean over {number} models and pools", pd.DataFrame(rows)


# The script -----------------------------------------------------------------------------------------------------------


def draw_all(args):
    """The runs: a row for each method and draw."""
    methods = tables.load_scripts(SCRIPTS, args.also, "allocate")
    models = [common.get_model(name) for name in args.model or MODELS]
    pools = [common.find_name(name, common.POOLS, "pool") for name in args.pool or POOLS]
    settings = [(model, pool) for model in models for pool in pools]
    for model, pool in settings:
        common.allocation_case(args.tasks, model, pool, args.seed)  # says what is wrong with the list
    jobs = [(args.tasks, methods, *setting, args.seed + k) for setting in settings for k in range(args.runs)]
    return tables.as_written(pd.DataFrame([row for rows in parallel(run_case, jobs) for row in rows]))


def read(folder):
    """The runs of an earlier run."""
    return tables.read_runs(folder, "allocation_runs.csv", ["seed", "bidders", *METRICS], [*KEYS, "problem"],
                            [*METHODS, *PRIORITIES])


def main(name):
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    for flag, metavar, default in (("--model", "NAME", MODELS), ("--pool", "NAME", POOLS)):
        parser.add_argument(flag, metavar=metavar, action="append",
                            help=f"in place of {', '.join(default)} (may be given again)")
    tables.add_flags(parser, RUNS, also=True)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)

    failed = stats.failures(runs, KEYS)
    shared = stats.shared_draws(runs, [*KEYS, "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    own = [name for name in runs["algorithm"].unique() if name not in (*METHODS, *PRIORITIES)]
    who = METHODS + own
    table = stats.compare(shared, KEYS, "seed", who, METRICS)
    priorities = stats.compare(shared, KEYS, "seed", list(PRIORITIES), METRICS)
    claim = claims.of_allocation(runs)

    number = runs["seed"].nunique()
    parts = [f"reproduce.allocation: {runs['model'].nunique()} models x {runs['pool'].nunique()} pools x {number} "
             f"draws, seeds from {runs['seed'].min()}\n{tables.legend(number)}\n{tables.shared_line(failed)}\n{ABOUT}"]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for model, pool in runs[KEYS].drop_duplicates().itertuples(index=False):
        caption = f"{model}, pool {pool}"
        mine, weighed = (part[(part["model"] == model) & (part["pool"] == pool)] for part in (table, priorities))
        if mine.empty:
            parts.append(f"{caption}: no draw on which all methods find an allocation")
            continue
        parts += of_setting(caption, mine, who)
        parts += of_setting(f"{caption}, what FCIM's weights put first", weighed, list(PRIORITIES))
    choice = claims.with_choice(shared)
    for what, some in (("Settings with a choice", shared[choice]), ("Settings without a choice", shared[~choice])):
        if len(some):
            parts.append(over_settings(what, some, who))
    parts += [("The paper's claims and what is found here", claims.show(claim)), claims.RULES, WHY]

    figures = {}
    if not args.no_plot:
        for pool, part in table.groupby("pool", sort=False):
            figures[f"_{latex.slug(pool)}"] = common.try_figure(tables.draw_bars, PANELS, "model", who, part, pool)
    tables.publish("allocation", args.out, parts, {"runs": runs, "table": table, "priorities": priorities,
                                                   "claims": claim, "failures": failed}, figures, args.format)


if __name__ == "__main__":
    common.run(main, "reproduce.allocation")
