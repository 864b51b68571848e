"""How FCIM compares by the choice it has: BLOOM-176B on more and more devices, against HexGen, PipeDream and PipeEdge.

    python -m reproduce.pool_size
    python -m reproduce.pool_size --runs 5 --tasks my_tasks.csv

Half of the devices are RTX 4090, half T4, each a host of its own; a larger pool is a smaller one and more: a device has
the same links and makes the same bid in all sizes but the smallest. There the offers drawn are too few for the model,
so that all are raised, until every device must run all that it offers. The paper claims 54.7 % less communication
overhead and 36.9 % less completion time (S. Habibi, O. Ercetin, IEEE Access 13, 2025).
"""
import pathlib
import sys

import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
import FCIM
import PipeEdge
from reproduce import allocation, claims, stats, tables
from reproduce.parallel import parallel

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
SIZES = [6, 8, 10, 12, 16, 24]  # devices
TYPES = ["RTX 4090", "T4"]  # types in common.DEVICES: as many of each
SEED = 0  # of the first draw
RUNS = 20  # draws of links and bids for each size
OUT = "results"  # where the files go

METHODS = ["FCIM", "HexGen", "PipeDream", "PipeEdge"]
METRICS = {"communication_time": "s", "completion_time": "s", "total_cost": "cents", "devices": ""}
PANELS = {"communication_time": ("time on links", claims.OVERHEAD),
          "completion_time": ("completion time", claims.COMPLETION),
          "total_cost": ("cost", None)}  # and the paper's figure (%)
LOOKS = {"HexGen": dict(color=common.BLUE, marker="o", linestyle="-"),
         "PipeDream": dict(color=common.ORANGE, marker="s", linestyle="--"),
         "PipeEdge": dict(color=common.RED, marker="v", linestyle=":")}


def run_case(tasks, model, size, seed):
    """Metrics of the methods on one draw: a list of dicts."""
    pool = f"{size} devices"
    common.POOLS[pool] = []
    for kind in TYPES:
        for k in range(1, size // len(TYPES) + 1):
            common.POOLS[pool].append((f"{kind} {k}", kind, f"host of {kind} {k}"))
    try:
        case = tables.quiet_case(tasks, model, pool, seed)
    finally:  # it is no pool of anybody else's
        del common.POOLS[pool]
    candidates = {name: tables.script(name).allocate for name in METHODS}
    return allocation.measure_all(candidates, case, model=model.name, pool=pool, size=size, seed=seed)


def by_size(table, metric):
    """A table of text, a row a size, of one metric of a table of stats.compare."""
    rows = []
    for size, part in table[table["metric"] == metric].groupby("size"):
        part = part.set_index("algorithm")
        beam = size > PipeEdge.EXACT
        row = {"devices": f"{size}{', PipeEdge a beam' if beam else ''}", "draws": part["runs"].max()}
        for name in METHODS:
            row[name] = tables.show_mean(*part.loc[name, ["mean", "low", "high"]])
        for name in METHODS[1:]:
            row[f"against {name}"] = tables.show_change(*part.loc[name, ["change", "change_low", "change_high"]])
        rows.append(row)
    return pd.DataFrame(rows)


def draw_changes(table):
    """Figure of FCIM's change against each method by the number of devices, one journal column wide: a panel for each
    of PANELS, with 95 % intervals, and the paper's figure as a line."""
    from matplotlib.figure import Figure
    figure = Figure((3.5, 0.8 + 1.5 * len(PANELS)), dpi=300)
    keys = {}
    plots = figure.subplots(len(PANELS), 1, sharex=True)
    sizes = sorted(table["size"].unique())
    for axes, (metric, (label, paper)) in zip(plots, PANELS.items()):
        axes.axhline(0, color="0.5", linewidth=0.7)
        if paper is not None:
            keys["the paper's claim"] = axes.axhline(paper, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
        for k, (name, look) in enumerate(LOOKS.items()):
            line = table[(table["metric"] == metric) & (table["algorithm"] == name)].set_index("size").loc[sizes]
            at = [size + 0.2 * (k - 1) for size in sizes]  # side by side, so that no interval hides another
            down = line["change"] - line["change_low"]
            up = line["change_high"] - line["change"]
            keys[f"against {name}"] = axes.errorbar(at, line["change"], [down.fillna(0), up.fillna(0)], markersize=3.5,
                                                    linewidth=1, capsize=2, elinewidth=0.8, **look)
        axes.set_ylabel(f"FCIM's change\nin {label} (%)", fontsize=7)
        axes.set_xticks(sizes)
    plots[-1].set_xlabel("devices in the pool")
    figure.align_ylabels(plots)
    return common.finish_figure(figure, keys)


def draw_all(args):
    """The runs: a row for each method and draw."""
    model = common.get_model(MODEL)
    common.read_tasks(args.tasks, model, [common.get_device(name) for name in TYPES])  # says what is wrong
    jobs = [(args.tasks, model, size, args.seed + k) for size in SIZES for k in range(args.runs)]
    return tables.as_written(pd.DataFrame([row for rows in parallel(run_case, jobs) for row in rows]))


def read(folder):
    """The runs of an earlier run."""
    return tables.read_runs(folder, "pool_size_runs.csv", ["size", "seed", *METRICS], ["model", "pool", "problem"],
                            METHODS)


def main(name):
    parser = common.make_parser(name, __doc__, tasks=FCIM.tasks, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS)
    args = parser.parse_args()
    runs = tables.get_runs(parser, args, read, draw_all)

    failed = stats.failures(runs, ["size"])
    shared = stats.shared_draws(runs, ["size", "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    table = stats.compare(shared, ["size"], "seed", METHODS, METRICS)
    claim = claims.of_pool_size(runs)

    number = runs["seed"].nunique()
    parts = [f"reproduce.pool_size: {runs['model'][0]}, {' and '.join(TYPES)} in equal number, {number} draws of each "
             f"size, seeds from {runs['seed'].min()}\n{tables.legend(number)}\n{tables.shared_line(failed)}\n"
             f"PipeEdge is exact up to {PipeEdge.EXACT} devices; of more, a beam search, not proven optimal."]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for metric, unit in METRICS.items():
        what = f"{metric} ({unit})" if unit else metric
        parts.append((f"{what}: means, and FCIM's change in % against the others", by_size(table, metric),
                      0 if metric == "devices" else -1))
    parts += [("The paper's claims and what is found here", claims.show(claim)), claims.RULES]

    figures = {} if args.no_plot else {"": common.try_figure(draw_changes, table)}
    tables.publish("pool_size", args.out, parts, {"runs": runs, "table": table, "claims": claim, "failures": failed},
                   figures, args.format)


if __name__ == "__main__":
    common.run(main, "reproduce.pool_size")
