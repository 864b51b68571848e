"""HexGen: stages that are groups of unlike devices, tensor parallel within, found by a genetic algorithm.

    python HexGen.py
    python HexGen.py --pool paper --seed 3

Asymmetric tensor and pipeline parallelism: each stage has a group of devices, a tensor-parallel degree and a layer
count of its own. (Y. Jiang et al., "HexGen: Generative Inference of Large Language Model over Heterogeneous
Environment", ICML 2024. The published code has no scheduler; this one is written from the paper, for one pipeline.)
Both steps are heuristics and prove nothing: a genetic algorithm seeks the groups and their order (`allocate`), and for
each of them moves of one layer, as long as one helps, the layer counts (`descend`).
"""
import math
from functools import lru_cache
from itertools import islice, zip_longest

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
POPULATION = 24  # groupings that survive a generation
CHILDREN = 48  # new groupings bred in a generation
TRIES = 5  # times that many mutations, at most, to breed them: others are known or cannot hold the layers
STALE = 40  # generations without a better best, after which the search ends
PATIENCE = 3  # a child is given up if so many more moves of a layer, each as good as the last, cannot save it

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

# Cases are groupings in pipeline order, led by empty stages where they have fewer than S. n, cap (S, cases): layers and
# most layers; w (S, tasks, cases): seconds of a layer; d (S + 1, cases): seconds of the links, to the client the last.


def completion(n, w, d, arrivals):
    """Completion times (cases,) of the task list, and (S, S, cases) with one layer more in a stage, less in another.

    finish[k] = max(finish[k-1], ready[k]) + n w[k] is, with W = cumsum(w), n W[k] + the greatest ready[j] - n (W[j] -
    w[j]), j <= k. The effects of a change are passed on once for all later stages, the rest of the way found once.
    """
    import numpy as np
    stages, tasks, cases = w.shape
    total = np.cumsum(w, axis=1)
    before = total - w
    rest = np.empty((stages + 1, tasks, cases))  # least time from a task's link into a stage to the list's end
    rest[stages] = d[stages]
    for s in reversed(range(stages)):
        rest[s] = np.maximum.accumulate((n[s] * total[s] + rest[s + 1])[::-1])[::-1] - n[s] * before[s] + d[s]
    done = np.repeat(arrivals[:, None, None], cases, axis=2)
    changed = np.empty((stages, tasks, 2, cases))  # finish times if an earlier stage has a layer more, or one less
    times = np.full((stages, stages, cases), math.inf)
    for s in range(stages):
        layers = n[s] + np.array([[0], [1], [-1]])
        into, through = d[s] - layers * before[s, :, None], layers * total[s, :, None]
        here = np.maximum.accumulate(done + into) + through
        ends = np.maximum.accumulate(changed[:s] + into[:, :0:-1], axis=1) + (through[:, :0:-1] + rest[s + 1, :, None])
        times[:s, s], times[s, :s] = ends.max(axis=1).transpose(1, 0, 2)
        changed[:s] = np.maximum.accumulate(changed[:s] + into[:, :1], axis=1) + through[:, :1]
        done, changed[s] = here[:, :1], here[:, 1:]
    return done[-1, 0] + d[stages], times


def descend(layers, cap, w, d, arrivals, n, cutoff=math.inf):
    """Completion times (cases,) and layer counts (S, cases): n, filled up in short stages or cut in long ones, then the
    best move of one layer as long as one helps. A local optimum, unless PATIENCE ends above the cutoff."""
    import numpy as np
    n, work = np.minimum(n, cap), w.sum(axis=1)
    while (n.sum(axis=0) != layers).any():
        missing = np.sign(layers - n.sum(axis=0))
        at = np.where(missing > 0, np.where(n < cap, (n + 1) * work, math.inf).argmin(axis=0),
                      np.where(n > 1, n * work, -math.inf).argmax(axis=0))
        n[at, np.arange(len(at))] += missing
    best, case = np.empty(n.shape[1]), np.arange(n.shape[1])
    while len(case):
        best[case], times = completion(n[:, case], w[:, :, case], d[:, case], arrivals)
        times = np.where((n < cap)[:, None, case] & (n > 1)[:, case], times, math.inf).reshape(-1, len(case))
        move = times.argmin(axis=0)
        gain = best[case] - times.min(axis=0)
        better = (gain > 1e-9 * best[case]) & (best[case] - PATIENCE * gain < cutoff)  # more than by rounding
        case, (more, less) = case[better], divmod(move[better], len(n))
        n[more, case] += 1
        n[less, case] -= 1
    return best, n


def first_groupings(layers, times, delay, rng):
    """Routes over the m fastest devices for every m, from the client on to the nearest that is left, and some random
    ones, in stages of one device, of two and of four. Single devices can hold the layers if any grouping can."""
    fastest = times.sum(axis=0).argsort(kind="stable").tolist()
    routes = [rng.permutation(fastest[:layers]).tolist() for _ in range(4)]
    for m in range(len(fastest)):
        left, route = fastest[:m + 1], [len(fastest)]
        while left:
            route.append(min(left, key=lambda i: delay[route[-1], i]))
            left.remove(route[-1])
        routes.append(route[1:])
    return [[route[i:i + k] for i in range(0, len(route), k)] for k in (1, 2, 4) for route in routes]


def mutated(grouping, pairs, rng):
    """A child of a grouping: an operator, and two times in three another one. pairs: a device and its nearest."""
    def draw(most):
        return int(rng.random() * most)
    groups, free = [list(group) for group in grouping], list(set(range(len(pairs))).difference(*grouping))
    operator, a, b = draw(8), draw(len(groups)), draw(len(groups))
    one, other = groups[a], free if draw(2) else groups[b]
    if operator == 0 and a != b:  # merge two groups
        one += groups.pop(b)
    elif operator == 1 and len(one) > 1:  # split one
        rng.shuffle(one)
        i = 1 + draw(len(one) - 1)
        groups[a:a + 1] = [one[:i], one[i:]]
    elif operator == 2:  # move a stage
        groups.insert(b, groups.pop(a))
    elif operator == 3:  # reverse a run of stages
        groups[min(a, b):max(a, b) + 1] = groups[min(a, b):max(a, b) + 1][::-1]
    elif operator == 4 and other:  # swap two devices, or one with a free one
        i, j = draw(len(one)), draw(len(other))
        one[i], other[j] = other[j], one[i]
    elif operator in (5, 6):  # drop a device or take a free one, in a group or alone; or move one over
        source, target = (one, other) if operator == 5 or not other else (other, one)
        i = source.pop(draw(len(source)))
        groups.insert(draw(len(groups) + 1), [i]) if operator == 6 and draw(2) else target.append(i)
    elif operator == 7:  # a stage of a device and the nearest to it, wherever they are
        pair = pairs[draw(len(pairs))]
        *groups, free = ([i for i in group if i not in pair] for group in (*groups, free))
        groups.insert(draw(len(groups) + 1), list(pair))
    groups = [group for group in groups if group] or [[free.pop()]]
    return mutated(groups, pairs, rng) if draw(3) else groups


def allocate(layers, bids, delay, times, arrivals, seed, **_):
    """Stages and notes. Of parents and children those survive that complete the task list soonest (mu + lambda)."""
    import numpy as np
    for name in ("POPULATION", "CHILDREN", "TRIES", "STALE", "PATIENCE"):
        common.check_number(globals()[name], name, whole=True, positive=True)
    offers, links, rng = bids["layers"].tolist(), delay.tolist(), np.random.default_rng(seed)
    if sum(offers) < layers:
        raise common.NoAllocation(f"the offers add up to {sum(offers)} of {layers} layers")
    layer_times = lru_cache(maxsize=None)(lambda group: sum(common.group_times(times, delay, list(group))))
    link = lru_cache(maxsize=None)(lambda one, other: min(links[i][j] for i in one for j in other))  # as HexGen does
    pairs = [{i, min({*range(len(offers))} - {i}, key=links[i].__getitem__, default=i)} for i in range(len(offers))]
    client, seen, population, generations, stale = (len(offers),), set(), [], 0, 0

    def child(groups, parent=(), counts=()):
        """The grouping, most layers and its devices' layers in the parent; nothing if it is known or too small."""
        grouping = tuple(tuple(sorted(group)) for group in groups)
        cap = [len(group) * min(offers[i] for i in group) for group in grouping]
        if grouping not in seen and len(grouping) <= layers <= sum(cap):
            seen.add(grouping)
            share = {i: count / len(group) for group, count in zip(parent, counts) for i in group}
            return grouping, cap, [max(1, round(sum(share.get(i, 0) for i in group))) for group in grouping]

    def placed(children, cutoff):
        """Those of the children that beat the cutoff: completion time, number, grouping, layer counts."""
        def table(rows, nothing=0):  # a row a case, a value a stage
            return np.array(list(zip_longest(*map(reversed, rows), fillvalue=nothing)))[::-1]
        groupings, cap, n = zip(*children)
        w = table([list(map(layer_times, grouping)) for grouping in groupings], 0 * arrivals).swapaxes(1, 2)
        d = table([list(map(link, (client, *grouping), (*grouping, client))) for grouping in groupings])
        cap, (best, n) = table(cap), descend(layers, table(cap), w, d, arrivals, table(n), cutoff)
        good = np.flatnonzero(best < cutoff)  # worth another descent, from even stages: it may end elsewhere
        again, even = descend(layers, cap[:, good], w[:, :, good], d[:, good], arrivals, np.minimum(1, cap[:, good]))
        n[:, good], best[good] = np.where(again < best[good], even, n[:, good]), np.minimum(again, best[good])
        return [(best[k], len(seen) - len(best) + k, groupings[k], n[-len(groupings[k]):, k].tolist()) for k in good]

    children = list(filter(None, map(child, first_groupings(layers, times, delay, rng))))
    while children and stale < STALE:
        first, cutoff = population[:1], population[-1][0] if len(population) == POPULATION else math.inf
        population = sorted(population + placed(children, cutoff))[:int(POPULATION)]
        generations, stale = generations + 1, stale + 1 if population[:1] == first else 0
        parents = (population[i][2:] for i in rng.integers(len(population), size=int(TRIES * CHILDREN)).tolist())
        bred = (child(mutated(grouping, pairs, rng), grouping, n) for grouping, n in parents)
        children = list(islice(filter(None, bred), int(CHILDREN)))
    least, _, grouping, n = population[0]
    notes = [f"genetic algorithm: {generations} generations, {len(seen):,} groupings",
             f"completion time {least:.3f} s, the best found: no proof that none is better"]
    return [{"devices": list(group), "layers": count} for group, count in zip(grouping, n)], notes


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links)
