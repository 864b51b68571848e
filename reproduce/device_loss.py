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
import math
import os
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np
import pandas as pd

import ADSA
import common
import FCIM
from reproduce import stats, study, whole_system

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOLS = ["campus", "cloud", "paper"]  # the devices, owned and rented: names in common.POOLS
SEED = 0  # of the first draw
RUNS = 100  # losses in each pool
LOAD = 0.9  # of drawn lists, as in reproduce.whole_system
READY = 10  # s from the loss until the auction is over and the new devices have loaded their layers

METRICS = {"extra_seconds": "s", "extra_cents": "cents", "deadlines_lost": ""}
PANELS = {"extra_seconds": "delay of the last task (s)", "extra_cents": "extra cost (cents)",
          "deadlines_lost": "deadlines lost"}
METHODS = ["repair", "anew"]
DIFFERENCE = "repair - anew"
QUARTER = "quarter of the time until\nthe last completion"  # of a loss; completion: without one
study.LOOKS.update({"repair": (common.BLUE, "", "o", "-"), "anew": (common.RED, "\\\\\\\\\\", "v", ":")})
NEEDED = ["model", "pool", "tasks_file", "seed", "algorithm", "problem", "lost_at_share", *METRICS]


# Runs -----------------------------------------------------------------------------------------------------------------
def cases(args):
    """The losses in all pools, one a draw."""
    model = common.get_model(args.model)
    tasks = args.tasks or ""
    if tasks:
        common.allocation_case(tasks, model, POOLS[0], args.seed)  # says what is wrong with the list
    return [(tasks, model, pool, args.seed + k) for pool in POOLS for k in range(args.runs)]


def run_case(tasks, model, pool, seed):
    """What a loss costs, by each method, on one draw: a list of dicts; of a single one if there is no allocation."""
    case = whole_system.one_case(model, pool, seed, LOAD, tasks)
    draw = dict(model=model.name, pool=pool, tasks_file=tasks, seed=seed)
    try:
        stages, _ = FCIM.allocate(**case)
    except common.NoAllocation as none:
        return [dict(draw, algorithm="FCIM", problem=str(none))]
    results, _ = whole_system.feed_forward(stages, case, ADSA.schedule)
    computed = np.column_stack([result["end_computation"] for result in results])
    passed = np.column_stack([result["completion_time"] for result in results])
    completion = passed[:, -1]
    due = case["tasks"]["deadline"]

    # Stage s leaves at time t, before it has passed on its last task.
    rng = common.draw(seed, "loss")
    s = int(rng.integers(len(stages)))
    first = int(case["tasks"]["arrival_time"].min())
    t = first + int(rng.integers(passed[:, s].max() - first))
    lost, = stages[s]["devices"]
    loss = dict(device=case["bids"]["device"][lost], layers=stages[s]["layers"], lost_at=t / common.US,
                lost_at_share=(t - first) / (completion.max() - first))

    rows = []
    for name, method in (("repair", repair), ("anew", anew)):
        row = dict(draw, algorithm=name, problem="", **loss, **dict.fromkeys(METRICS, math.nan))
        rows.append(row)
        try:
            after, cents, completion_after = method(case, stages, computed, passed, s, t)
        except common.NoAllocation as none:
            row["problem"] = str(none)
            continue
        row["stages"] = len(after)
        row["extra_cents"] = round(cents - rewards(stages), 6)
        row["extra_seconds"] = int(completion_after.max() - completion.max()) / common.US
        row["deadlines_lost"] = int((completion <= due).sum() - (completion_after <= due).sum())
    return rows


# The two methods ------------------------------------------------------------------------------------------------------
def repair(case, stages, computed, passed, s, t):
    """The pipeline after stage s has left at t (microseconds), its layers auctioned among idle bidders: its stages, all
    cents paid, and completion times. computed, passed: when each stage would have computed a task, and passed it on,
    the link that follows included: arrays (tasks, stages) of microseconds."""
    tasks = case["tasks"]
    done = np.full(passed.shape, True)
    done[:, s] = passed[:, s] <= t
    todo = ~done[:, s]
    paid = paid_for(done, case, stages)

    # Idle bidders take the place of the lost one.
    idle = bidders_beside(case, stages)
    winners = auction(case, stages[s]["layers"], idle, todo, paid)
    stages = [*stages[:s], *winners, *stages[s + 1:]]
    after = s + len(winners)
    work, links = study.work_and_links(stages, case)

    # On them run the tasks that were not passed on; on the stages that follow, all tasks.
    sent = computed[:, s - 1] if s else tasks["arrival_time"].to_numpy()
    start = np.maximum(sent, t + round(READY * common.US)) + links[s]
    passed = passed[:, s].copy()
    passed[todo] = pass_on(tasks[todo], start[todo], work[todo], links, range(s, after))
    completion = pass_on(tasks, passed, work, links, range(after, len(stages)))
    return stages, paid + rewards(winners), completion


def anew(case, stages, computed, passed, s, t):
    """As repair, all layers auctioned among all bidders but the lost one."""
    tasks = case["tasks"]
    done = computed <= t
    done[:, s] = passed[:, s] <= t
    todo = ~done[:, -1]
    paid = paid_for(done, case, stages)

    # All bidders that are left take part.
    others = bidders_beside(case, [stages[s]])
    stages = auction(case, case["layers"], others, todo, paid)
    work, links = study.work_and_links(stages, case)

    # On the new pipeline run the tasks that the last stage had not computed.
    arrival = tasks["arrival_time"].to_numpy()
    start = np.maximum(arrival, t + round(READY * common.US)) + links[0]
    completion = passed[:, -1].copy()
    completion[todo] = pass_on(tasks[todo], start[todo], work[todo], links, range(len(stages)))
    return stages, paid + rewards(stages), completion


def paid_for(done, case, stages):
    """Cents for the tasks that the stages have done: a mask (tasks, stages)."""
    work, _ = study.work_and_links(stages, case)
    return (share_of(done, work) * [stage["reward"] for stage in stages]).sum()


def bidders_beside(case, stages):
    """Rows of the bids that none of the stages uses."""
    used = [i for stage in stages for i in stage["devices"]]
    return [i for i in range(len(case["bids"])) if i not in used]


def pass_on(tasks, arrival, work, links, numbers):
    """When each task has passed the stages with these numbers, ordered by ADSA; see pass_stages."""
    results, _ = whole_system.pass_stages(tasks, arrival, work, links, ADSA.schedule, numbers)
    return results[-1]["completion_time"].to_numpy() if results else arrival


def auction(case, layers, bidders, todo, paid):
    """Stages by FCIM's auction of so many layers among these bidders (rows of the bids), with rewards in cents, for the
    tasks of `todo` (mask) alone. paid: cents of the list's budget that are gone. Raises NoAllocation if a round has no
    valid bid."""
    times = case["times"][:, bidders]
    share = share_of(todo[:, None], times)  # a bid is for all tasks
    bids = case["bids"].iloc[bidders].reset_index(drop=True)
    bids["price"] *= share
    bids["computation_time"] *= share
    left = FCIM.BUDGET * len(todo) - paid
    stages, _ = FCIM.allocate(layers, bids, times[todo], budget=left / todo.sum())
    for stage in stages:
        stage["devices"] = [bidders[i] for i in stage["devices"]]
    return stages


def share_of(mask, times):
    """The share of some tasks (mask) in the times (tasks, devices) of all, by device; 1 where these are 0."""
    whole = times.sum(axis=0)
    return np.where(whole > 0, (times * mask).sum(axis=0) / np.where(whole > 0, whole, 1), 1)


def rewards(stages):
    return sum(stage["reward"] for stage in stages)


# Tables and figure ----------------------------------------------------------------------------------------------------
def report(runs):
    both, failed = study.on_shared_draws(runs, ["pool"])
    table = compare(both)
    parts = [heading(runs), *failed,
             ("means", "What a loss adds: means over the losses after which both are possible",
              study.means(table, ["pool", "metric"], [*METHODS, DIFFERENCE], METRICS))]

    both = both.assign(**{QUARTER: 1 + (4 * both["lost_at_share"]).astype(int)})
    by_quarter = stats.compare(both, ["pool", QUARTER], "seed", METHODS, METRICS)
    return parts, {"table": table}, {"": (study.draw_lines, PANELS, QUARTER, METHODS, by_quarter, "pool")}


def compare(losses):
    """stats.compare by pool of both methods and of their difference, without changes in %."""
    metrics = list(METRICS)
    repaired, made_anew = (losses[losses["algorithm"] == name].set_index(["pool", "seed"])[metrics] for name in METHODS)
    difference = (repaired - made_anew).reset_index().assign(algorithm=DIFFERENCE)
    both = pd.concat([losses, difference])
    return stats.compare(both, ["pool"], "seed", [*METHODS, DIFFERENCE], metrics).drop(columns=study.CHANGE)


def heading(runs):
    about = runs.iloc[0]
    model = common.get_model(about["model"])
    number = runs["seed"].nunique()
    lists = os.path.basename(about["tasks_file"]) or f"drawn lists, load {LOAD}"
    return (f"reproduce.device_loss: {model.name} ({model.layers} layers, {model.bits:g} bits), {lists},\n{number} "
            f"losses in each pool, seeds from {runs['seed'].min()}, new devices ready after {READY} s\n"
            f"{study.legend(number, changes=False)}")


if __name__ == "__main__":
    study.run("device_loss", __doc__, cases, run_case, report, RUNS, NEEDED, tasks=None, model=MODEL, seed=SEED,
              out=study.OUT)
