"""Fair Cost-Efficient Incentive Mechanism (FCIM): an auction that hands a model's layers to edge devices.

    python FCIM.py
    python FCIM.py --pool paper --seed 3

In every round the bids within the budget left and the deadline are scored: what they would mean for the number of
devices, for the time and for the cost, each on a scale from 0 (best of the round) to 1 (worst). The least score wins,
is rewarded by a rule that no winner loses under, and leaves the auction; so until all layers are placed. Winners run
the layers in the order in which they won. (S. Habibi, O. Ercetin, "Edge-LLM Inference With Cost-Aware Layer Allocation
and Adaptive Scheduling", IEEE Access 13, 2025.)
"""
import math

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
WEIGHTS = (0.1, 0.3, 0.6)  # alpha, beta, gamma: of device count, time and price in the score
DELTA = 0.1  # penalty on a winner's price per layer above the round's average
BUDGET = 5  # P: cents, the most that may be paid in all
DEADLINE = 120  # T: s, the longest computation time of a bid that is admitted

bids = None  # drawn; or your own: [{"device": "GPU 1", "layers": 14, "price": 0.8, "computation_time": 40.0}, ...]
links = None  # drawn; or your own: {"GPU 1": {"GPU 2": 3.1, ..., "client": 2.0}, ...}, seconds

tasks = [
    {"label": "Task 1", "prompt": "Write a one-page guide to starting a community garden: the site, the soil, the "
     "beds, and how to share the work over the year.",
     "arrival_time": 0, "output_words": 300, "trans_time": 5, "deadline": 150},
    {"label": "Task 2", "prompt": "Explain the causes of the 2008 financial crisis to a reader without economics.",
     "arrival_time": 3, "output_words": 150, "trans_time": 2, "deadline": 130},
    {"label": "Task 3", "prompt": "Plan one lesson on renewable energy for a secondary school, with an experiment.",
     "arrival_time": 10, "output_words": 250, "trans_time": 3, "deadline": 170},
    {"label": "Task 4", "prompt": "Summarise in a short paragraph what a river delta is and how it forms.",
     "arrival_time": 14, "output_words": 80, "trans_time": 1, "deadline": 140},
    {"label": "Task 5", "prompt": "Compare three ways to keep patient records in a rural clinic whose network often "
     "fails, and recommend one.",
     "arrival_time": 19, "output_words": 220, "trans_time": 4, "deadline": 200},
]


def scores(weights, layers, l, T, P):
    """Score of each valid bid of a round (arrays l, T, P): alpha N(L/l) + beta N(T/l) + gamma N(P/l)."""
    import numpy as np

    def N(x):  # min-max over the round
        return (x - x.min()) / (x.max() - x.min() or 1)

    alpha, beta, gamma = weights
    return np.round(alpha * N(layers / l) + beta * N(T / l) + gamma * N(P / l), 12)  # equal ones must be found equal


def reward(weights, n, l, P, c, c2, c_avg, cheapest, left):
    """Cents for n of the winner's l layers, asked at P. c = P/l; c2: that of the second-best score (None: a lone bid);
    c_avg: mean of the round's; cheapest: nobody asks less per layer; left: of the budget."""
    alpha, beta, gamma = weights
    if c2 is None:
        paid = c * n
    elif gamma - alpha - beta > 1e-9:  # cost comes first
        paid = P if n == l else c2 * n
    elif cheapest:
        paid = c2 * n
    else:
        paid = max(c2, c) * n - DELTA * n * (c - c_avg)
    return min(max(paid, c * n), left)  # no winner loses, and the budget holds


def auction(layers, l, P, T, weights):
    """Rounds until all layers are placed, each a tuple: winner, layers it runs, cents it is paid, layers and cents
    that were left before, valid bids from best to worst, their scores. l, P, T: arrays over the bids. Raises
    NoAllocation if a round has no valid bid."""
    import numpy as np
    c = P / l
    waiting = np.ones(len(l), dtype=bool)
    rounds, missing, left = [], layers, BUDGET
    while missing:
        valid = np.flatnonzero(waiting & (P <= left) & (T <= DEADLINE))
        if not len(valid):
            dear, late = ((waiting & rule).sum() for rule in (P > left, T > DEADLINE))
            raise common.NoAllocation(
                f"no valid bid in round {len(rounds) + 1}, {missing} of {layers} layers left: of {waiting.sum()} bids "
                f"{dear} ask more than the {left:.3f} cents left of BUDGET, {late} take longer than DEADLINE")
        score = scores(weights, layers, l[valid], T[valid], P[valid])
        rank = np.lexsort((valid, c[valid], score))  # ties: the cheaper per layer, then the listing
        order = valid[rank]
        winner, n = order[0], min(int(l[order[0]]), missing)
        paid = reward(weights, n, l[winner], P[winner], c[winner], c[order[1]] if len(order) > 1 else None,
                      math.fsum(c[valid]) / len(valid), c[winner] == c[valid].min(), left)
        rounds.append((int(winner), n, float(paid), missing, left, order, score[rank]))
        missing, left = missing - n, left - paid
        waiting[winner] = False
    return rounds


def allocate(layers, bids, weights=None, **_):
    """Stages in the order of winning, and a report of the rounds. Raises NoAllocation if a round has no valid bid."""
    for name, value in ("BUDGET", BUDGET), ("DEADLINE", DEADLINE), ("DELTA", DELTA):
        common.check_number(value, name)
    weights = WEIGHTS if weights is None else weights
    if not isinstance(weights, (tuple, list)) or len(weights) != 3:
        raise common.UserError("WEIGHTS: must be three numbers, alpha, beta and gamma")
    for weight in weights:
        common.check_number(weight, "WEIGHTS")
    rounds = auction(layers, *(bids[key].to_numpy() for key in ("layers", "price", "computation_time")), weights)
    names, report = bids["device"], []
    for k, (winner, n, paid, missing, left, order, score) in enumerate(rounds, 1):
        shown = [f"{names[i]} {s:.3f}" for i, s in zip(order[:common.TABLE_ROWS], score)]
        report += [f"round {k}: {missing} layers and {left:.3f} cents left; valid bids: {len(order)}; scores",
                   "    " + ", ".join(shown + ["..."] * (len(order) > len(shown))),
                   f"    {names[winner]} wins {n} of the {bids['layers'][winner]} layers it offered at "
                   f"{bids['price'][winner]:.3f} cents, for {paid:.3f} cents"]
    return [{"devices": [winner], "layers": n, "reward": paid} for winner, n, paid, *_ in rounds], report


if __name__ == "__main__":
    common.run_allocator("FCIM", allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links)
