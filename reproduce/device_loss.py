"""A device leaves: its layers are auctioned again by FCIM, against the whole allocation made anew; by pool.

    python -m reproduce.device_loss
    python -m reproduce.device_loss --runs 30 --tasks my_tasks.csv

FCIM places the layers and ADSA orders the tasks on every device, as in reproduce.whole_system. At a drawn time a drawn
device of the allocation leaves, before it has passed on its last task. (The thesis speaks of fluctuating availability:
S. Habibi, Sabanci University, 2025.)

repair: FCIM's auction hands its layers to bidders that run nothing yet; the winners stand in its place in the pipeline.
    The stage before keeps what it has sent until it is passed on: tasks that had not left the lost stage start that
    stage again, and no other. The stages before are not told, and keep to the deadlines that they had.
anew: FCIM's auction hands all layers to the bidders that are left. Tasks that the last stage had not computed start
    again from the first stage; what was computed of them is lost.

In both, the new devices are ready READY seconds after the loss, while links and the other stages go on; bids hold for
the tasks that remain (price and time in proportion to their computation), and the budget is what is left of the list's.
A device is paid for the tasks that it has computed, the lost one for those that it has passed on.
"""
import os
import pathlib
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import numpy as np
import pandas as pd

import ADSA
import common
import FCIM
from reproduce import stats, tables
from reproduce.parallel import parallel
from reproduce.whole_system import feed_forward, one_case, pass_stages, work_and_links

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
SEED = 0  # of the first draw
RUNS = 100  # losses in each pool
OUT = "results"  # where the files go
LOAD = 0.9  # of drawn lists, as in reproduce.whole_system
READY = 10  # s from the loss until the auction is over and the new devices have loaded their layers

METHODS = ["repair", "anew"]
METRICS = {"extra_cents": "cents", "extra_seconds": "s", "deadlines_lost": ""}
PANELS = {"extra_seconds": "to the last\ncompletion (s)", "extra_cents": "cost\n(cents)",
          "deadlines_lost": "deadlines\nlost"}
LOOKS = {"repair": dict(marker="o", color=common.BLUE), "anew": dict(marker="x", color=common.RED)}


def auctioned(case, layers, bidders, todo, budget):
    """Stages by FCIM's auction of so many layers among these bidders (rows of the bids), with rewards in cents, for the
    tasks of `todo` (mask) alone. Raises NoAllocation if a round has no valid bid."""
    bids, times = case["bids"].iloc[bidders], case["times"][:, bidders]
    whole = times.sum(axis=0)
    share = np.where(whole > 0, times[todo].sum(axis=0) / np.where(whole > 0, whole, 1), 1)  # of what a bid is for
    P, T = (bids[key].to_numpy() * share for key in ("price", "computation_time"))
    rounds = FCIM.auction(layers, bids["layers"].to_numpy(), P, T, FCIM.WEIGHTS, budget, FCIM.DEADLINE * todo.sum())
    return [{"devices": [bidders[winner]], "layers": n, "reward": paid} for winner, n, paid, *_ in rounds]


def earned(stages, work, done):
    """Cents of each stage's reward for the tasks done there (mask (tasks, stages))."""
    return [stage["reward"] * (mine[which].sum() / (mine.sum() or 1))
            for stage, mine, which in zip(stages, work.T, done.T)]


def repair(case, stages, work, old, s, t):
    """The pipeline after stage s has left at t (microseconds), its layers auctioned among idle bidders: its stages, all
    cents paid, and completion times. work, old: of work_and_links and feed_forward before the loss."""
    tasks, total = case["tasks"], sum(stage["reward"] for stage in stages)
    passed = old[s][0]["completion_time"].to_numpy()  # the link that follows included: what is under way is lost
    todo = passed > t
    used = [i for stage in stages for i in stage["devices"]]
    idle = [i for i in range(len(case["bids"])) if i not in used]
    paid = total - stages[s]["reward"] + earned(stages, work, np.column_stack([~todo] * len(stages)))[s]
    winners = auctioned(case, stages[s]["layers"], idle, todo, FCIM.BUDGET * len(tasks) - paid)
    stages, after = [*stages[:s], *winners, *stages[s + 1:]], s + len(winners)
    work, links = work_and_links(stages, case)
    sent = (old[s - 1][0]["end_computation"] if s else tasks["arrival_time"]).to_numpy()
    again = pass_stages(tasks[todo], np.maximum(sent, t + round(READY * common.US))[todo] + links[s], work[todo], links,
                        ADSA.schedule, range(s, after))
    passed = passed.copy()
    passed[todo] = again[-1][0]["completion_time"]
    rest = pass_stages(tasks, passed, work, links, ADSA.schedule, range(after, len(stages)))
    return stages, paid + sum(stage["reward"] for stage in winners), rest[-1][0]["completion_time"] if rest else passed


def anew(case, stages, work, old, s, t):
    """As repair, all layers auctioned among all bidders but the lost one."""
    tasks, lost = case["tasks"], stages[s]["devices"]
    done = np.column_stack([result["end_computation"] <= t for result, _ in old])
    done[:, s] = old[s][0]["completion_time"] <= t
    todo, completion = ~done[:, -1], old[-1][0]["completion_time"].to_numpy().copy()
    paid = sum(earned(stages, work, done))
    stages = auctioned(case, case["layers"], [i for i in range(len(case["bids"])) if i not in lost], todo,
                       FCIM.BUDGET * len(tasks) - paid)
    work, links = work_and_links(stages, case)
    start = np.maximum(tasks["arrival_time"].to_numpy(), t + round(READY * common.US))[todo] + links[0]
    found = pass_stages(tasks[todo], start, work[todo], links, ADSA.schedule, range(len(stages)))
    completion[todo] = found[-1][0]["completion_time"]
    return stages, paid + sum(stage["reward"] for stage in stages), completion


def run_case(tasks, model, pool, seed):
    """What a loss costs, by each method, on one draw: a list of dicts; of a single one if there is no allocation."""
    case = one_case(tasks, model, pool, seed, LOAD)
    row = dict(pool=pool, seed=seed)
    try:
        stages, _ = FCIM.allocate(**case)
    except common.NoAllocation as none:
        return [dict(row, algorithm="FCIM", problem=str(none))]
    tasks, (work, _) = case["tasks"], work_and_links(stages, case)
    old = feed_forward(stages, case, ADSA.schedule)
    rng = common.draw(seed, "loss")
    s = int(rng.integers(len(stages)))
    t = int(rng.integers(old[s][0]["completion_time"].max()))
    before, due = old[-1][0]["completion_time"], tasks["deadline"]
    row.update(device=case["bids"]["device"][stages[s]["devices"][0]], layers=stages[s]["layers"],
               lost_at=t / common.US, lost_at_share=t / before.max())
    rows = []
    for name, method in (("repair", repair), ("anew", anew)):
        try:
            after, cents, completion = method(case, stages, work, old, s, t)
        except common.NoAllocation as none:
            rows.append(dict(row, algorithm=name, problem=str(none)))
            continue
        rows.append(dict(
            row, algorithm=name, problem="", stages=len(after),
            extra_cents=round(cents - sum(stage["reward"] for stage in stages), 6),
            extra_seconds=int(completion.max() - before.max()) / common.US,
            deadlines_lost=int((before <= due).sum() - (completion <= due).sum())))
    return rows


def summarise(runs):
    """A row for each pool and method, and for their difference: losses, the share after which it is possible, and means
    over the losses after which both are, each with its 95 % interval."""
    lines = []
    for pool, part in runs.groupby("pool", sort=False):
        both = stats.shared_draws(part, ["seed"])
        first, other = (both[both["algorithm"] == name].reset_index() for name in METHODS)
        values = {**dict(zip(METHODS, (first, other))), "repair - anew": first[list(METRICS)] - other[list(METRICS)]}
        for name, found in values.items():
            possible = (part.loc[part["algorithm"] == name, "problem"] == "").to_numpy(float)
            line = dict(pool=pool, method=name, losses=part["seed"].nunique(), compared=len(first))
            for metric, numbers in [("possible", possible), *((key, found[key].to_numpy(float)) for key in METRICS)]:
                line.update(zip((metric, f"{metric}_low", f"{metric}_high"), stats.mean(numbers)))
            lines.append(line)
    return pd.DataFrame(lines).round(6)


def verdicts(runs):
    """Lines that say of each pool after how many losses a method is possible, and why not after the others."""
    lines = []
    for pool, part in runs.groupby("pool", sort=False):
        for name in METHODS:
            problems = part.loc[part["algorithm"] == name, "problem"]
            bad = problems[problems != ""]
            lines.append(f"pool {pool}, {name}: possible after {len(problems) - len(bad)} of {len(problems)} losses"
                         + (f"; where not: {bad.iloc[0]}" if len(bad) else ""))
    return lines


def draw_losses(runs):
    """Draws what each loss costs by when it happens, one journal column wide: a row of panels for each metric, a column
    for each pool in which there is something to compare."""
    from matplotlib.figure import Figure
    pools = runs["pool"].unique()
    figure, keys = Figure((3.5, 0.95 + 1.0 * len(PANELS)), dpi=300), {}
    plots = figure.subplots(len(PANELS), len(pools), sharex=True, sharey="row", squeeze=False)
    for (metric, label), row in zip(PANELS.items(), plots):
        for pool, axes in zip(pools, row):
            for name, look in LOOKS.items():
                part = runs[(runs["pool"] == pool) & (runs["algorithm"] == name)]
                keys[name] = axes.plot(part["lost_at_share"], part[metric], linestyle="none", markersize=3, **look,
                                       markeredgewidth=0.8, fillstyle="none")[0]
            axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
            axes.locator_params(axis="y", nbins=5)
        row[0].set_ylabel(label, fontsize=7)
    for pool, top, bottom in zip(pools, plots[0], plots[-1]):
        top.set_title(f"pool {common.shorten(pool)}: what a loss adds", fontsize=8)
        bottom.set_xlabel("time of the loss / last completion without it", fontsize=8)
    figure.align_ylabels(plots[:, 0])
    return common.finish_figure(figure, keys)


def draw_all(args):
    """The runs of all pools: for each loss a row of each method, or one that says why there is no allocation."""
    model, path = common.get_model(args.model), args.tasks or ""
    if path:
        for pool in common.POOLS:
            common.allocation_case(path, model, pool, args.seed)  # says what is wrong with the list
    jobs = [(path, model, pool, args.seed + k) for pool in common.POOLS for k in range(args.runs)]
    runs = pd.DataFrame([row for rows in parallel(run_case, jobs) for row in rows]).reindex(columns=[
        "pool", "seed", "algorithm", "problem", "device", "layers", "lost_at", "lost_at_share", "stages", *METRICS])
    return tables.as_written(runs.assign(model=model.name, tasks_file=path))


def read(folder):
    """The runs that an earlier run has written into the folder."""
    return tables.read_runs(folder, "device_loss_runs.csv", ["seed", *METRICS],
                            ["model", "pool", "tasks_file", "algorithm", "problem"])


def main(name):
    parser = common.make_parser(name, __doc__, tasks=None, model=MODEL, seed=SEED, out=OUT)
    tables.add_flags(parser, RUNS)
    args = parser.parse_args()
    runs = everything = tables.get_runs(parser, args, read, draw_all)
    model, path = common.get_model(runs["model"][0]), runs["tasks_file"][0]
    number, seed = runs["seed"].nunique(), int(runs["seed"].min())
    none, runs = runs[runs["algorithm"] == "FCIM"], runs[runs["algorithm"] != "FCIM"]
    if runs.empty:
        raise common.NoAllocation(f"FCIM finds no allocation to lose a device of: {none['problem'].iloc[0]}")
    table, both = summarise(runs), stats.shared_draws(runs, ["pool", "seed"])
    shown = table[["pool", "method", "losses", "compared"]].assign(**{
        metric + (f" ({unit})" if unit else ""): [
            tables.show_mean(*line) for line in table[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy()]
        for metric, unit in {"possible": "share", **METRICS}.items()})
    lists = os.path.basename(path) if path else f"drawn lists, load {LOAD}"
    parts = [f"reproduce.device_loss: {model.name} ({model.layers} layers, {model.bits:g} bits), {lists}, {number} "
             f"losses in each pool, seeds from {seed}, new devices ready after {READY} s\n{tables.legend(number)}",
             ("What a loss adds: means over the losses after which both are possible", shown),
             "\n".join(verdicts(runs))]
    if len(none):
        parts.append(f"Draws without an allocation by FCIM, which are left out: {len(none)}; {none['problem'].iloc[0]}")
    figures = {} if args.no_plot or both.empty else {"": common.try_figure(draw_losses, both)}
    tables.publish("device_loss", args.out, parts, {"runs": everything, "table": table}, figures)


if __name__ == "__main__":
    common.run(main, "reproduce.device_loss")
