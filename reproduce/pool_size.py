"""How FCIM compares by the choice it has: BLOOM-176B on more and more devices, against HexGen, PipeDream and PipeEdge.

    python -m reproduce.pool_size
    python -m reproduce.pool_size --runs 5 --tasks my_tasks.csv

Half of the devices are RTX 4090, half T4, each a host of its own; a larger pool is a smaller one and more: a device has
the same links and makes the same bid in all sizes but the smallest. There the offers drawn are too few for the model,
so that all are raised, until every device must run all that it offers. The paper claims 54.7 % less communication
overhead and 36.9 % less completion time (S. Habibi, O. Ercetin, IEEE Access 13, 2025).
"""
import functools
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM
import PipeEdge
from reproduce import allocation, claims, stats, study

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
SIZES = [6, 8, 10, 12, 16, 24]  # devices
TYPES = ["RTX 4090", "T4"]  # types in common.DEVICES: as many of each
SEED = 0  # of the first draw
RUNS = 20  # draws of links and bids for each size
OUT = "results"  # where the files go

METHODS = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
METRICS = {"communication_time": "s", "completion_time": "s", "total_cost": "cents", "devices": ""}
PANELS = {"communication_time": "FCIM's change in time on links (%)",
          "completion_time": "FCIM's change in completion time (%)", "total_cost": "FCIM's change in cost (%)"}
CLAIM = "the paper's claim"
CLAIMED = {"communication_time": (claims.OVERHEAD, CLAIM), "completion_time": (claims.COMPLETION, CLAIM)}  # %


def cases(args):
    model = common.get_model(MODEL)
    common.read_tasks(args.tasks, model, [common.get_device(name) for name in TYPES])  # says what is wrong
    return [(args.tasks, model, size, args.seed + k) for size in SIZES for k in range(args.runs)]


def run_case(tasks, model, size, seed):
    """Metrics of the methods on one draw: a list of dicts."""
    pool = f"{size} devices"
    common.POOLS[pool] = []
    for kind in TYPES:
        for k in range(1, size // len(TYPES) + 1):
            common.POOLS[pool].append((f"{kind} {k}", kind, f"host of {kind} {k}"))
    try:
        case = study.quiet_case(tasks, model, pool, seed)
    finally:  # it is no pool of anybody else's
        del common.POOLS[pool]
    candidates = {name: study.script(name).allocate for name in METHODS}
    return allocation.measure_all(candidates, case, model=model.name, pool=pool, size=size, seed=seed)


def report(runs):
    shared, failed = study.on_shared_draws(runs, ["size"])
    table = stats.compare(shared, ["size"], "seed", METHODS, METRICS)
    number = runs["seed"].nunique()
    parts = [f"reproduce.pool_size: {runs['model'][0]}, {' and '.join(TYPES)} in equal number (size: of both)\n"
             f"{number} draws of each size, seeds from {runs['seed'].min()}\n{study.legend(number)}", *failed]
    for metric, part in table.groupby("metric", sort=False):
        means = study.means(part, ["size"], METHODS)
        changes = study.changes(part, ["size"], METHODS).drop(columns="size").add_prefix("against ")
        unit = f" ({METRICS[metric]})" if METRICS[metric] else ""
        caption = (f"{metric}{unit}: means, FCIM's change in %; beyond {PipeEdge.EXACT} devices PipeEdge is a beam "
                   "search")
        parts.append((metric, caption, means.join(changes)))

    changes = table.drop(columns=study.MEAN).rename(columns=dict(zip(study.CHANGE, study.MEAN)))
    changes = changes.rename(columns={"size": "devices in the pool"})
    draw = functools.partial(study.draw_lines, marks=CLAIMED)
    return parts, {"table": table}, {"": (draw, PANELS, "devices in the pool", METHODS[1:], changes)}


if __name__ == "__main__":
    study.run("pool_size", __doc__, cases, run_case, report, RUNS, ["size", "seed", "problem", *METRICS],
              tasks=FCIM.tasks, seed=SEED, out=OUT)
