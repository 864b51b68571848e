"""FCIM with Myerson's payments: ours, not the paper's.

    python -m reproduce.FCIM_critical

The auction is FCIM's: the same winners and layers. A winner is paid its price for them, and what it could have won at
higher prices besides: then a device gains most by asking its true cost, as long as asking more never wins it more
layers (R. Myerson, "Optimal auction design", 1981; A. Archer, E. Tardos, "Truthful mechanisms for one-parameter
agents", 2001). Whether that is so is checked at 66 prices of each device, which the report says. It makes the price
truthful and nothing else: a device may still gain by promising another time or by offering fewer layers. The payments
may add up to more than the budget, which the report says too.
"""
import math
import sys
from functools import lru_cache

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
import FCIM

STEPS = 64  # equal steps of the price per layer, up to the budget, at whose ends the auction is held
HALVINGS = 24  # of a step in which the layers won change: 64 x 2^24 = 1e9


def allocate(layers, bids, times, weights=FCIM.WEIGHTS, delta=FCIM.DELTA, budget=FCIM.BUDGET, deadline=FCIM.DEADLINE,
             **_):
    """FCIM's stages with Myerson's payments as rewards, and its report with two more lines. Arguments and errors: see
    FCIM.allocate."""
    stages, notes = FCIM.allocate(layers, bids, times, weights, delta, budget, deadline)
    case = auction_case(layers, bids, len(times), weights, delta, budget, deadline)
    curves = [layers_won(i, case) for i in range(len(bids))]
    for stage in stages:
        i = stage["devices"][0]
        stage["reward"] = payment(case["P"][i] / case["l"][i], stage["layers"], curves[i])

    total = math.fsum(stage["reward"] for stage in stages)
    beyond = max(total - case["most_paid"], 0)
    notes.append(f"critical payments instead: {total:.3f} cents in all, {beyond:.3f} beyond BUDGET")
    more = [device for device, curve in zip(bids["device"], curves) if not never_grows(curve)]
    found = "wins none more layers, and so true prices are best, as far as that shows"
    if more:
        found = f"would win {', '.join(more)} more layers; true prices are not proven best here"
    notes.append(f"checked at {STEPS + 2} prices of each device: asking more {found}")
    return stages, notes


def auction_case(layers, bids, tasks, weights, delta, budget, deadline):
    """The arguments of FCIM.auction for a table of bids and so many tasks, as a dict."""
    l, P, T = bids["layers"].tolist(), bids["price"].tolist(), bids["computation_time"].tolist()
    return dict(layers=layers, l=l, P=P, T=T, weights=weights, delta=delta, most_paid=budget * tasks,
                longest=deadline * tasks)


def with_bid(case, i, **bid):
    """The case (of auction_case) with other layers l, price P or time T of bid i."""
    changed = dict(case)
    for key, value in bid.items():
        changed[key] = [*case[key]]
        changed[key][i] = value
    return changed


def layers_won(i, case):
    """The layers that bid i wins by what it asks, all else equal: pairs (x, n), where n are won from the x before up to
    x cents a layer; none beyond the last.

    The auction's payments, and so the budget left in it, stay the paper's. Where no allocation exists nothing is won.
    Tried are 65 prices in equal steps up to budget / l, the most that is valid, and its own; and where n differs
    between two of them, halves down to 1e-9 of budget / l. That finds all of an n that never grows; of another n it may
    miss what lies between two of the 66.
    """
    @lru_cache(maxsize=None)
    def won_at(x):
        try:
            rounds = FCIM.auction(**with_bid(case, i, P=x * case["l"][i]))
        except common.NoAllocation:
            return 0
        return sum(won.layers for won in rounds if won.winner == i)

    highest = case["most_paid"] / case["l"][i]
    steps = [highest * k / STEPS for k in range(STEPS + 1)]
    tried = sorted({case["P"][i] / case["l"][i], *steps})
    for _ in range(HALVINGS):
        halves = [(low + high) / 2 for low, high in zip(tried, tried[1:]) if won_at(low) != won_at(high)]
        tried = sorted(tried + halves)
    return [(x, won_at(x)) for x in tried]


def payment(c, n, curve):
    """Cents for n layers asked at c each: c n + the integral of n(x) from c up. curve: n(x), of layers_won."""
    parts = []
    for (low, _), (high, won) in zip(curve, curve[1:]):
        if high > c:
            parts.append(won * (high - max(low, c)))
    return c * n + math.fsum(parts)


def never_grows(curve):
    """Whether asking more never wins more layers: only then are the payments proven truthful."""
    won = [n for _, n in curve]
    return won == sorted(won, reverse=True)


if __name__ == "__main__":
    common.run_allocator(allocate, FCIM.tasks, __doc__, model=FCIM.MODEL, pool=FCIM.POOL, seed=FCIM.SEED, out=FCIM.OUT,
                         bids=FCIM.bids, links=FCIM.links, weights=FCIM.WEIGHTS, delta=FCIM.DELTA, budget=FCIM.BUDGET,
                         deadline=FCIM.DEADLINE)
