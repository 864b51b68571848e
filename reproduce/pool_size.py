"""How FCIM compares by the choice it has: BLOOM-176B on more and more devices, against HexGen, PipeDream and PipeEdge.

    python -m reproduce.pool_size
    python -m reproduce.pool_size --runs 5 --tasks my_tasks.csv

Half of the devices are RTX 4090, half T4, each a host of its own; a larger pool is a smaller one and more, on the same
draws of links and bids. On the smallest every device must run all that it offers. The paper claims 54.7 % less
communication overhead and 36.9 % less completion time (S. Habibi, O. Ercetin, IEEE Access 13, 2025).
"""
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import pandas as pd

import common
import FCIM
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
PANELS = {"communication_time": ("time on links", -54.7), "completion_time": ("completion time", -36.9),
          "total_cost": ("cost", None)}  # and the paper's figure (%)


def run_case(tasks, model, size, seed):
    """Metrics of the methods on one draw: a list of dicts."""
    pool = f"{size} devices"
    names = [(f"{kind} {k + 1}", kind) for kind in TYPES for k in range(size // len(TYPES))]
    common.POOLS[pool] = [(name, kind, f"host of {name}") for name, kind in names]
    try:
        case = tables.quiet_case(tasks, model, pool, seed)
    finally:  # it is no pool of anybody else's
        del common.POOLS[pool]
    return [dict(row, size=size) for row in allocation.measure_all(
        {name: (tables.script(name).allocate, {}) for name in METHODS}, case, model=model.name, pool=pool, seed=seed)]


def by_size(part):
    """A table of text of one metric, a row a size, of the rows of a table of stats.compare."""
    rows = []
    for size, of_size in part.groupby("size"):
        of_size = of_size.set_index("algorithm")
        rows.append({"devices": size, "draws": of_size["runs"].max(), **{
            name: tables.show_mean(*of_size.loc[name, ["mean", "low", "high"]]) for name in METHODS}, **{
            f"against {name}": tables.show_change(*of_size.loc[name, ["change", "change_low", "change_high"]])
            for name in METHODS[1:]}})
    return pd.DataFrame(rows)


def draw_changes(table):
    """Draws FCIM's change against each method by the number of devices, one journal column wide: a panel for each of
    PANELS, with 95 % intervals, and the paper's figure as a line."""
    from matplotlib.figure import Figure
    figure, keys = Figure((3.5, 0.8 + 1.5 * len(PANELS)), dpi=300), {}
    plots, sizes = figure.subplots(len(PANELS), 1, sharex=True), sorted(table["size"].unique())
    for axes, (metric, (label, paper)) in zip(plots, PANELS.items()):
        axes.axhline(0, color="0.5", linewidth=0.7)
        if paper is not None:
            keys["the paper's claim"] = axes.axhline(paper, color="black", linewidth=0.9, linestyle=(0, (4, 2)))
        for k, name in enumerate(METHODS[1:]):
            line = table[(table["metric"] == metric) & (table["algorithm"] == name)].set_index("size").loc[sizes]
            at = [i + 0.08 * (k - 1) for i in range(len(sizes))]  # side by side, so that no interval hides another
            ends = [line["change"] - line["change_low"], line["change_high"] - line["change"]]
            keys[f"against {name}"] = axes.errorbar(
                at, line["change"], [end.fillna(0) for end in ends], color=(common.BLUE, common.ORANGE, common.RED)[k],
                marker="osv"[k], markersize=3.5, linewidth=1, linestyle=("-", "--", ":")[k], capsize=2, elinewidth=0.8)
        axes.set_ylabel(f"FCIM's change\nin {label} (%)", fontsize=7)
        axes.set_xticks(range(len(sizes)))
        axes.set_xticklabels(sizes)
    plots[-1].set_xlabel("devices in the pool", fontsize=8)
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
    shared, failed = stats.shared_draws(runs, ["size", "seed"]), stats.failures(runs, ["size"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    table, claim = stats.compare(shared, ["size"], "seed", METHODS, METRICS), claims.of_pool_size(runs)
    number = runs["seed"].nunique()
    parts = [f"reproduce.pool_size: {runs['model'][0]}, {' and '.join(TYPES)} in equal number, {number} draws of each "
             f"size, seeds from {runs['seed'].min()}\n{tables.legend(number)}\n{tables.shared_line(failed)}"]
    if len(failed):
        parts.append(("Draws without an allocation", failed))
    for metric, unit in METRICS.items():
        parts.append((f"{metric}{f' ({unit})' if unit else ''}: means, and FCIM's change in % against the others",
                      by_size(table[table["metric"] == metric])))
    parts += [("The paper's claims and what is found here", claims.show(claim)), claims.RULES]
    figures = {} if args.no_plot else {"": common.try_figure(draw_changes, table)}
    tables.publish("pool_size", args.out, parts, {"runs": runs, "table": table, "claims": claim, "failures": failed},
                   figures)


if __name__ == "__main__":
    common.run(main, "reproduce.pool_size")
