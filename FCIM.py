"""Fair Cost-Efficient Incentive Mechanism (FCIM): an auction that hands a model's layers to edge devices.

    python FCIM.py
    python FCIM.py --pool paper --seed 3

In every round the bids within the budget left and the deadline are scored: what they would mean for the number of
devices, for the time and for the cost, each on a scale from 0 (best of the round) to 1 (worst). The least score wins,
is rewarded by a rule that no winner loses under, and leaves the auction; so until all layers are placed. Winners run
the layers in the order in which they won. (S. Habibi, O. Ercetin, "Edge-LLM Inference With Cost-Aware Layer Allocation
and Adaptive Scheduling", IEEE Access 13, 2025.)

Ours, for the same winners and layers: ORDER "links", in which a task's links add up to least, and PAYMENT "critical",
by which a device gains most by asking its true cost, as long as asking more never wins it more layers (R. Myerson,
"Optimal auction design", 1981; A. Archer, E. Tardos, "Truthful mechanisms for one-parameter agents", 2001).
"""
import math
from functools import lru_cache

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
WEIGHTS = (0.1, 0.3, 0.6)  # alpha, beta, gamma: of device count, time and price in the score
DELTA = 0.1  # penalty on a winner's price per layer above the round's average
BUDGET = 1  # P: cents a task of the list, the most that may be paid in all
DEADLINE = 24  # T: s a task of the list, the longest computation time of a bid that is admitted
ORDER = "won"  # of the winners in the pipeline: "won" (the paper's) or "links"
PAYMENT = "paper"  # or "critical"

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


def scores(weights, criteria):
    """Score of each valid bid of a round: alpha N(L/l) + beta N(T/l) + gamma N(P/l). criteria: the three in rows, a
    column for each bid."""
    import numpy as np
    span = np.ptp(criteria, axis=1, keepdims=True)
    N = (criteria - criteria.min(axis=1, keepdims=True)) / np.where(span > 0, span, 1)  # min-max over the round
    return (weights @ N).round(12)  # equal ones must be found equal


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


def auction(layers, l, P, T, weights, budget, deadline):
    """Rounds until all layers are placed, each a tuple: winner, layers it runs, cents it is paid, layers and cents
    that were left before, valid bids from best to worst, their scores. l, P, T: arrays over the bids; budget (cents)
    and deadline (s): for the whole list. Raises NoAllocation if a round has no valid bid."""
    import numpy as np
    c, criteria = P / l, np.array([layers / l, T / l, P / l])
    waiting = np.ones(len(l), dtype=bool)
    rounds, missing, left = [], layers, budget
    while missing:
        valid = np.flatnonzero(waiting & (P <= left) & (T <= deadline))
        if not len(valid):
            if not waiting.any():
                raise common.NoAllocation(f"the offers add up to {l.sum()} of {layers} layers")
            dear, late = ((waiting & rule).sum() for rule in (P > left, T > deadline))
            raise common.NoAllocation(
                f"no valid bid in round {len(rounds) + 1}, {missing} of {layers} layers left: of {waiting.sum()} bids "
                f"{dear} ask more than the {left:.3f} cents left of BUDGET, {late} take longer than DEADLINE")
        score = scores(weights, criteria[:, valid])
        rank = np.lexsort((c[valid], score))  # ties: the cheaper per layer, then the listing
        order = valid[rank]
        winner, n = order[0], min(int(l[order[0]]), missing)
        paid = reward(weights, n, l[winner], P[winner], c[winner], c[order[1]] if len(order) > 1 else None,
                      math.fsum(c[valid]) / len(valid), c[winner] == c[valid].min(), left)
        rounds.append((int(winner), n, float(paid), missing, left, order, score[rank]))
        missing, left = missing - n, left - paid
        waiting[winner] = False
    return rounds


def layers_won(i, layers, l, P, T, weights, budget, deadline):
    """n(x), the layers that bid i wins asking x cents a layer, all else equal: pairs (x, n), n from the x before to
    this one; 0 past the last and where no allocation exists. The auction, its payments and so the budget left in it
    are the paper's. Tried are 65 prices in equal steps to budget / l, the most that is valid, and its own, and halves
    where n differs, to 1e-9 of budget / l: all of an n that never grows; else, what the 66 do not meet is missed."""
    P = P.astype(float)

    @lru_cache(maxsize=None)
    def n(x):
        P[i] = x * l[i]
        try:
            return sum(n for winner, n, *_ in auction(layers, l, P, T, weights, budget, deadline) if winner == i)
        except common.NoAllocation:
            return 0

    prices = sorted({P[i] / l[i], *(budget / l[i] * k / 64 for k in range(65))})
    for _ in range(24):  # halve where n differs: 64 * 2^24 = 1e9
        prices = sorted(prices + [(a + b) / 2 for a, b in zip(prices, prices[1:]) if n(a) != n(b)])
    return [(x, n(x)) for x in prices]


def critical(c, n, won):
    """Cents for n layers asked at c each: c n + the integral of n(x) from c up. won: n(x), of layers_won."""
    return c * n + math.fsum(k * (b - max(a, c)) for (a, _), (b, k) in zip(won, won[1:]) if b > c)


def by_links(path, delay, exact=12):
    """The devices of `path` in the order in which a task's links add up to least, from and to the client (the last of
    `delay`), by whole microseconds, and whether that is proven; ties: what is first in `path` goes first. A dynamic
    program over sets (M. Held, R. Karp, 1962) for `exact` devices or fewer; else the better of `path` and insertion."""
    import numpy as np
    n, nodes = len(path), [*path, len(delay) - 1]
    d = np.rint(delay[np.ix_(nodes, nodes)] * common.US).astype("int64")
    found = []
    if n > exact:
        def length(order):
            return d[[n, *order], [*order, n]].sum()
        for i in range(n):
            found = min(([*found[:k], i, *found[k:]] for k in range(i + 1)), key=length)
        return [path[i] for i in min(list(range(n)), found, key=length)], "best insertion, not proven least"
    sets, bit = np.arange(1 << n), 1 << np.arange(n)
    size = (sets[:, None] & bit > 0).sum(axis=1)
    rest = np.full((1 << n, n + 1), 10 ** 17)  # [s, i]: from i over all devices of the set s to the client
    rest[0] = d[:, n]
    for k in range(1, n + 1):
        s = sets[size == k]  # s ^ bit is s without a device of it; or with one more, and then its rest is not yet known
        rest[s] = (d[:, :n] + rest[s[:, None] ^ bit, range(n)][:, None]).min(axis=2)
    s, i = sets[-1], n
    while s:
        i = min((j for j in range(n) if s & bit[j]), key=lambda j: d[i, j] + rest[s ^ bit[j], j])
        found.append(path[i])
        s ^= bit[i]
    return found, "proven least"


def allocate(layers, bids, times, delay, weights=WEIGHTS, order=ORDER, payment=PAYMENT, **_):
    """Stages in the given order, and a report of the rounds. times: a row for each task; delay: s, square, the client
    last. Raises NoAllocation if a round has no valid bid, UserError if a setting is not as it must be."""
    common.require(isinstance(weights, (tuple, list)) and len(weights) == 3, "WEIGHTS: must be alpha, beta and gamma")
    for name, value in [("BUDGET", BUDGET), ("DEADLINE", DEADLINE), ("DELTA", DELTA),
                        *(("WEIGHTS", weight) for weight in weights)]:
        common.check_number(value, name)
    order = common.find_name(order, ("won", "links"), "ORDER")
    payment = common.find_name(payment, ("paper", "critical"), "PAYMENT")
    l, P, T = (bids[key].to_numpy() for key in ("layers", "price", "computation_time"))
    budget = BUDGET * len(times)
    case = layers, l, P, T, weights, budget, DEADLINE * len(times)
    rounds = auction(*case)
    names, notes = bids["device"], []
    for k, (winner, n, paid, missing, left, ranked, score) in enumerate(rounds, 1):
        shown = [f"{names[i]} {s:.3f}" for i, s in zip(ranked[:common.TABLE_ROWS], score)]
        notes += [f"round {k}: {missing} layers and {left:.3f} cents left; valid bids: {len(ranked)}; scores",
                  "    " + ", ".join(shown + ["..."] * (len(ranked) > len(shown))),
                  f"    {names[winner]} wins {n} of the {bids['layers'][winner]} layers it offered at "
                  f"{bids['price'][winner]:.3f} cents, for {paid:.3f} cents"]
    stages = {winner: {"devices": [winner], "layers": n, "reward": paid} for winner, n, paid, *_ in rounds}
    if payment == "critical":
        won = [layers_won(i, *case) for i in range(len(l))]
        for i, stage in stages.items():
            stage["reward"] = critical(P[i] / l[i], stage["layers"], won[i])
        total = math.fsum(stage["reward"] for stage in stages.values())
        notes.append(f"critical payments instead: {total:.3f} cents in all, {max(total - budget, 0):.3f} beyond BUDGET")
        more = [name for name, n in zip(names, won) if any(b > a for (_, a), (_, b) in zip(n, n[1:]))]
        notes.append(f"truthfulness is not proven for this draw: asking more would win {', '.join(more)} more layers"
                     if more else "asking more wins no device more layers, as far as tried")
    if order == "links":
        path, proof = by_links(list(stages), delay)
        before, after = (delay[[-1, *order], [*order, -1]].sum() for order in (list(stages), path))
        stages = {i: stages[i] for i in path}
        notes.append(f"order of the links: {after:.3f} s of them a task ({proof}), {before:.3f} s in the order won")
    return list(stages.values()), notes


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links)
