"""FCIM against HexGen, PipeDream and PipeEdge on the same draws of links and bids: models x pools x seeds.

    python -m reproduce.allocation
    python -m reproduce.allocation --model "GPT-3 175B" --pool campus --pool paper --runs 10 --also Mine.py

The paper claims that FCIM lowers communication overhead and completion time, and is consistently fairer (S. Habibi, O.
Ercetin, IEEE Access 13, 2025): see reproduce.claims. FCIM_links is ours; Cheapest and LeastLatency are references.
"""
import functools
import sys

import numpy as np
import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
import FCIM
from reproduce import stats, study

MODELS = ["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]  # whose layers are placed: names in common.MODELS
POOLS = ["campus", "cloud", "paper"]  # the devices, owned and rented: names in common.POOLS
SEED = 0  # of the first draw
RUNS = 30  # draws of links and bids for each model and pool
PRIORITIES = {  # FCIM's weights: alpha, beta, gamma, of device count, time and price
    "cost first": (0.1, 0.3, 0.6),
    "time first": (0.1, 0.6, 0.3),
    "devices first": (0.6, 0.3, 0.1),
}

METRICS = {  # with their units
    "completion_time": "s", "completion_time_unseen": "s", "mean_turnaround_time": "s", "computation_time": "s",
    "communication_time": "s", "communication_overhead": "", "total_cost": "cents", "energy": "kWh",
    "memory_utilization": "", "fairness_layers": "", "fairness_layers_all": "", "fairness_rewards": "",
    "fairness_rewards_all": "", "devices": "", "cost_efficiency": "layers/cent", "deadlines_met": "",
    "total_utility": "cents"}
PANELS = {"completion_time": "completion\n(s)", "communication_time": "communica-\ntion (s)",
          "total_cost": "cost\n(cents)", "fairness_layers": "fairness,\ndevices\nused (0-1)",
          "fairness_layers_all": "fairness,\nall that\nbid (0-1)", "devices": "devices\n(count)"}
SHOWN = ["completion_time", "communication_time", "communication_overhead", "total_cost", "fairness_layers",
         "fairness_layers_all", "devices"]  # metrics in the tables of each pool: all stand in allocation_table.csv
KEYS = ["model", "pool"]
ABOUT = """\
campus: devices cost their owners electricity; cloud: the same devices, rented. With a choice: the
models of which FCIM leaves a bidder out, on some draw. fairness: Jain's index over the devices
used; all: over all that bid. completion_time_unseen: of another list of the same kind, that
no method has planned on: tasks drawn from the list with replacement, that arrive at other times.
Not of the paper: Cheapest (no allocation costs less), LeastLatency (a task alone goes fastest)."""


def cases(args):
    settings = study.models_and_pools(args, MODELS, POOLS)
    return [(args.methods, args.tasks, *setting, args.seed + k) for setting in settings for k in range(args.runs)]


# One draw -------------------------------------------------------------------------------------------------------------
def run_case(methods, tasks, model, pool, seed):
    """Metrics of the methods ({name: script}), and of FCIM by other weights, on one draw: a list of dicts."""
    candidates = {name: study.script(path).allocate for name, path in methods.items()}
    for name, weights in PRIORITIES.items():
        candidates[name] = functools.partial(FCIM.allocate, weights=weights)
    case = study.quiet_case(tasks, model, pool, seed)
    return measure_all(candidates, case, model=model.name, pool=pool, seed=seed)


def measure_all(candidates, case, **draw):
    """Metrics of each candidate, {name: its allocate}, on one draw (common.allocation_case): a list of dicts, each with
    what names the draw; "problem" says why a candidate has found no allocation, or nothing."""
    rows = []
    unseen = another_list(case)
    begin = case["tasks"]["arrival_time"].min() / common.US
    for name, allocate in candidates.items():
        row = dict(draw, bidders=len(case["bids"]), algorithm=name, problem="")
        rows.append(row)
        try:
            with study.errors_of(name):
                stages, _ = allocate(**case)
                metrics = common.evaluate(stages, **case)[-1]
        except common.NoAllocation as none:
            row["problem"] = str(none)
            continue
        row.update(metrics)
        row["completion_time_unseen"] = round(completion_time(stages, unseen) - begin, 6)
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
    return dict(case, tasks=drawn, times=case["times"][picked])


def completion_time(stages, case):
    """Seconds until the last task of a list is back: that of common.evaluate, alone."""
    work, links = study.work_and_links(stages, case)
    _, _, end = common.pipeline(case["tasks"]["arrival_time"].to_numpy(), links, work)
    return int(end[-1, -1] + links[-1]) / common.US


# Tables ---------------------------------------------------------------------------------------------------------------
def report(runs):
    who = [name for name in runs["algorithm"].unique() if name not in PRIORITIES]
    shared, failed = study.on_shared_draws(runs, KEYS)
    table = stats.compare(shared, KEYS, "seed", who, METRICS)
    priorities = stats.compare(shared, KEYS, "seed", list(PRIORITIES), METRICS)

    number = runs["seed"].nunique()
    parts = [f"reproduce.allocation: {runs['model'].nunique()} models x {runs['pool'].nunique()} pools x {number} "
             f"draws, seeds from {runs['seed'].min()}\n{study.legend(number)}\n{ABOUT}", *failed]
    for ground, some in by_choice(shared).items():
        name = ground.replace(" ", "_")
        parts += [over_settings(name, ground, some, METRICS, [who[0], *who[2:]]),
                  over_settings(f"{name}_links", ground, some, SHOWN, who[1:]),
                  over_settings(f"{name}_priorities", ground, some, SHOWN, list(PRIORITIES))]
    figures = {}
    for pool, part in table.groupby("pool", sort=False):
        short = part[part["metric"].isin(SHOWN)]
        parts.append((f"{pool}_means", f"Pool {pool}: means", study.means(short, ["model", "metric"], who, METRICS)))
        parts.append((f"{pool}_changes", f"Pool {pool}: change of {who[0]} in % against each",
                      study.changes(short, ["model", "metric"], who)))
        figures[f"_{pool}"] = study.draw_bars, PANELS, "model", who, part, pool
    parts += study.own_changes(shared, ["pool", "model"], "seed", who, SHOWN)
    return parts, {"table": table, "priorities": priorities}, figures


def by_choice(runs):
    """{name: runs}: of each pool those of the models with a choice, of which FCIM leaves a bidder out on some draw; and
    those without a choice, of all pools."""
    left_out = (runs["algorithm"] == "FCIM") & (runs["devices"] < runs["bidders"])
    choice = left_out.groupby([runs["model"], runs["pool"]]).transform("any")
    grounds = dict(list(runs[choice].groupby("pool", sort=False)))
    if not choice.all():
        grounds["no choice"] = runs[~choice]
    return grounds


def over_settings(name, ground, runs, metrics, who):
    """A part to print: changes of the first of `who` against each of the others, a row a metric, means over models and
    pools."""
    first, *others = who
    text = pd.DataFrame({"metric": list(metrics)})
    for other in others:
        changes = [stats.mean_change(stats.in_settings(runs, KEYS, "seed", metric, first, [other]).values())
                   for metric in metrics]
        text[other] = [study.show_change(*change) for change in changes]
    models = ", ".join(runs["model"].unique())
    what = ground if ground == "no choice" else f"Pool {ground}, with a choice"
    return name, f"{what} ({models}): change of {first} in % against each", text


if __name__ == "__main__":
    study.run("allocation", __doc__, cases, run_case, report, RUNS, [*KEYS, "seed", "bidders", "problem", *METRICS],
              {**study.ALLOCATORS, **study.REFERENCES}, tasks=FCIM.tasks, seed=SEED, out=study.OUT,
              flags=functools.partial(study.add_model_and_pool, models=MODELS, pools=POOLS))
