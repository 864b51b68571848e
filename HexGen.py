"""HexGen: stages that are groups of unlike devices, tensor parallel within, found by a genetic algorithm.

    python HexGen.py
    python HexGen.py --pool paper --seed 3

Asymmetric tensor and pipeline parallelism: each stage has a group of devices, a tensor-parallel degree and a layer
count of its own. (Y. Jiang et al., "HexGen: Generative Inference of Large Language Model over Heterogeneous
Environment", ICML 2024. The published code has no scheduler; this one is written from the paper, for one pipeline.)
Inner step (`place`): given the groups in order, the layer counts that complete the task list soonest, exactly. Outer
step (`allocate`): groups and order, by a genetic algorithm, which proves nothing.
"""
import math
from functools import lru_cache

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
POPULATION = 24  # groupings that survive a generation
CHILDREN = 48  # new groupings bred in a generation
TRIES = 5  # times that many mutations, at most, to breed them: others are known or cannot hold the layers
STALE = 40  # generations without a better best, after which the search ends
ROUNDS = 200  # spent at most on the lower bound of a placement
FRONTIER = 50000  # finish times kept at most between two stages of a placement: past that, not exact for sure

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

# Of a grouping, the groups of devices in pipeline order, with S stages: w (tasks, S), seconds of a layer; d (S + 1,),
# seconds of the links into the stages and to the client; cap (S,), most layers; n (S,), layers.


def through(done, n, w, delay):
    """When tasks are ready and finished in a stage: two arrays (cases, tasks), the first less the work before.

    done: finish times (cases, tasks) in the stage before; n: layers (cases,); w: (tasks,). The closed form of
    finish[k] = max(finish[k-1], done[k] + delay) + n w[k].
    """
    import numpy as np
    total, n = np.cumsum(w), n[:, None]
    ready = done + delay - n * (total - w)
    return ready, n * total + np.maximum.accumulate(ready, axis=1)


def completion(n, w, d, arrivals):
    """Completion times (cases,) of the task list for the layer counts n (cases, S)."""
    done = arrivals[None]
    for s in range(len(d) - 1):
        _, done = through(done, n[:, s], w[:, s], d[s])
    return done[:, -1] + d[-1]


def longest_paths(n, w, d, arrivals):
    """What the completion times for n (cases, S) consist of: paths from a task's arrival to the last task's end, each
    step to the next task or the next stage. The task that enters each stage, and seconds a layer of all that follow
    there: two arrays (cases, S)."""
    import numpy as np
    done, ready = arrivals[None], []
    for s in range(len(d) - 1):
        before, done = through(done, n[:, s], w[:, s], d[s])
        ready.append(before)
    entry, cost, total = np.empty_like(n), np.empty(n.shape), np.cumsum(w, axis=0)
    last = np.full(len(n), len(w) - 1)  # the task with which a path leaves the stage
    for s in reversed(range(len(d) - 1)):
        first = np.where(np.arange(len(w)) <= last[:, None], ready[s], -math.inf).argmax(axis=1)
        cost[:, s] = total[last, s] - total[first, s] + w[first, s]
        entry[:, s] = last = first
    return entry, cost


def cheapest(layers, cap, cost):
    """The counts of least total cost (per layer, (S,)): at least 1, at most cap, adding up to layers."""
    import numpy as np
    order = np.argsort(cost, kind="stable")
    return 1 + np.bincount(np.repeat(order, (cap - 1)[order])[:layers - len(cap)], minlength=len(cap))


def mixture(layers, cap, base, cost, cutoff):
    """A lower bound on the completion time, and the weights (paths,) that give it.

    A path has length base (paths,) + cost (paths, S) @ n, and none is longer than the completion time; nor is a mean
    of them, whose least value over all n is a greedy fill. The weights play against n by regret matching (Hart and
    Mas-Colell, Econometrica 68, 2000), regrets kept from falling below 0, until they meet the cutoff or ROUNDS end.
    """
    import numpy as np
    regret, weights = np.zeros(len(base)), np.full(len(base), 1 / len(base))
    best = -math.inf, weights
    for _ in range(ROUNDS):
        length = base + cost @ cheapest(layers, cap, weights @ cost)
        mean = weights @ length
        if mean > best[0]:
            best = mean, weights
        regret = np.maximum(regret + length - mean, 0)
        if mean >= cutoff or not regret.any():
            break
        weights = regret / regret.sum()
    return best


def descend(layers, cap, w, d, arrivals, moves):
    """A good placement: from even stages on, the best of the moves (of one layer) as long as there is a better one.
    Returns the completion time and the counts."""
    import numpy as np
    n, time = np.ones(len(cap), dtype=int), w.sum(axis=0)
    for _ in range(layers - len(cap)):
        n[np.where(n < cap, (n + 1) * time, math.inf).argmin()] += 1
    best = completion(n[None], w, d, arrivals)[0]
    while True:
        near = n + moves
        near = near[((near >= 1) & (near <= cap)).all(axis=1)]
        times = completion(near, w, d, arrivals)
        if not len(near) or times.min() >= best:
            return best, n
        best, n = times.min(), near[times.argmin()]


def place(layers, cap, w, d, arrivals, cutoff=math.inf):
    """The least completion time below the cutoff, its layer counts (the cutoff and None: there is none), and whether
    that is proven.

    Stage by stage all counts of the stages so far are listed, with the tasks' finish times, less those whose lower
    bound on what they lead to is not below the best known.
    """
    import numpy as np
    one = np.eye(len(cap), dtype=int)
    moves = (one[:, None] - one)[~one.astype(bool)]
    best, n = descend(layers, cap, w, d, arrivals, moves)
    best, counts = (best, n) if best < cutoff else (cutoff, None)
    if cap.sum() == layers:  # nothing to choose
        return best, counts, True
    near = n + np.concatenate([one[:1] * 0, moves, 2 * moves])  # any counts will do: their longest paths are wanted
    near = near[::1 + near.size * len(arrivals) // (100 * FRONTIER)]  # fewer of them for a long list
    entry, cost = longest_paths(near, w, d, arrivals)
    bound, weights = mixture(layers, cap, arrivals[entry[:, 0]] + d.sum(), cost, best)
    if bound >= best:
        return best, counts, True
    cost, room = weights @ cost, np.append(np.cumsum(cap[::-1])[::-1], 0)
    done, used, proven, widest = arrivals[None], np.zeros((1, 0), dtype=int), True, max(1, FRONTIER // len(arrivals))
    for s in range(len(cap)):
        left = layers - used.sum(axis=1)[:, None] - np.arange(1, cap[s] + 1)
        i, j = np.nonzero((left >= len(cap) - s - 1) & (left <= room[s + 1]))
        left, used = left[i, j], np.column_stack([used[i], j + 1])
        _, done = through(done[i], j + 1, w[:, s], d[s])
        if s < len(cap) - 1:  # the rest of the mixed paths, at the counts that make it least
            order = s + 1 + np.argsort(cost[s + 1:], kind="stable")
            more = np.append(0, np.cumsum(np.repeat(cost[order], cap[order] - 1)))
            into = np.bincount(entry[:, s + 1], weights, len(arrivals))
            bound = done @ into + d[s + 1:].sum() + cost[order].sum() + more[left - len(order)]
        else:
            bound = done[:, -1] + d[-1]
        keep = np.flatnonzero(bound < best)
        if len(keep) > widest:
            keep, proven = keep[np.argsort(bound[keep], kind="stable")[:widest]], False
        done, used, bound = done[keep], used[keep], bound[keep]
    if len(keep):
        best, counts = bound.min(), used[bound.argmin()]
    return best, counts, proven


def nearest_route(devices, delay):
    """The devices in the order in which they are met by going on to the nearest, from the client on."""
    route, left, here = [], list(devices), len(delay) - 1
    while left:
        here = min(left, key=lambda i: delay[here, i])
        left.remove(here)
        route.append(here)
    return route


def first_groupings(layers, times, delay, rng):
    """The first population: routes over the m fastest devices for every m, cut into stages of one device, of two and of
    four. Some grouping can hold the layers if any can, as a group holds no more than its devices do one by one, and as
    many devices as there are layers suffice: each offers one at least."""
    fastest = times.sum(axis=0).argsort(kind="stable").tolist()
    routes = [nearest_route(fastest[:m + 1], delay) for m in range(len(fastest))]
    routes += [rng.permutation(fastest[:layers]).tolist() for _ in range(4)]
    return [[route[i:i + k] for i in range(0, len(route), k)] for k in (1, 2, 4) for route in routes]


def mutated(grouping, devices, rng):
    """A child of a grouping: an operator, drawn evenly, is applied, and with even chances another one."""
    groups, more = [list(group) for group in grouping], True
    while more:
        used = [i for group in groups for i in group]
        free = [i for i in range(devices) if i not in used]
        operator, a, b = (int(rng.integers(most)) for most in (8, len(groups), len(groups)))
        i, j = int(rng.integers(len(groups[a]))), int(rng.integers(len(groups[b])))
        if operator == 0 and a != b:  # merge two groups
            groups[a] += groups[b]
            del groups[b]
        elif operator == 1 and len(groups[a]) > 1:  # split one
            rng.shuffle(groups[a])
            groups[a:a + 1] = [groups[a][:i or 1], groups[a][i or 1:]]
        elif operator == 2:  # swap two devices
            groups[a][i], groups[b][j] = groups[b][j], groups[a][i]
        elif operator == 3:  # swap two stages
            groups[a], groups[b] = groups[b], groups[a]
        elif operator == 4:  # move a stage
            groups.insert(b, groups.pop(a))
        elif operator == 5:  # reverse a run of stages
            a, b = min(a, b), max(a, b) + 1
            groups[a:b] = groups[a:b][::-1]
        elif operator == 6 and len(used) > 1:  # drop a device
            del groups[a][i]
            groups = [group for group in groups if group]
        elif operator == 7 and free:  # take one, into a group or alone
            i = int(rng.choice(free))
            if rng.random() < 0.5:
                groups[a].append(i)
            else:
                groups.insert(b + int(rng.integers(2)), [i])
        more = rng.random() < 0.5
    return groups


def allocate(layers, bids, delay, times, arrivals, seed, **_):
    """Stages and notes. Of parents and children alike those survive that complete the task list soonest (mu + lambda),
    so a child that cannot be better than the worst of them needs no exact placement."""
    import numpy as np
    offers, rng = bids["layers"].tolist(), np.random.default_rng(seed)
    if sum(offers) < layers:
        raise common.NoAllocation(f"the offers add up to {sum(offers)} of {layers} layers")

    @lru_cache(maxsize=1024)
    def layer_times(group):
        computation, all_reduces = common.group_times(times, delay, list(group))
        return computation + all_reduces

    @lru_cache(maxsize=4096)
    def link(one, other):  # as in HexGen's cost model: the fastest between any device of one and any of the other
        return delay[np.ix_(one, other)].min()

    client, seen, population, unproven = (len(offers),), set(), [], 0

    def is_new(groups):
        """Whether a grouping is a new one that can hold the layers; if it is good enough, it joins the population."""
        nonlocal unproven
        grouping = tuple(tuple(sorted(group)) for group in groups)
        cap = [len(group) * min(offers[i] for i in group) for group in grouping]
        if grouping in seen or len(grouping) > layers or sum(cap) < layers:
            return False
        seen.add(grouping)
        w = np.column_stack([layer_times(group) for group in grouping])
        d = np.array([link(*pair) for pair in zip((client,) + grouping, grouping + (client,))])
        cutoff = population[-1][0] if len(population) == POPULATION else math.inf
        cap = np.minimum(cap, layers - len(cap) + 1)  # as each other stage has one at least
        time, n, proven = place(layers, cap, w, d, arrivals, cutoff)
        unproven += not proven
        if n is not None:
            population.append((time, len(seen), grouping, n.tolist()))
            population.sort()
            del population[POPULATION:]
        return True

    for groups in first_groupings(layers, times, delay, rng):
        is_new(groups)
    generations, stale, bred = 0, 0, 1
    while stale < STALE and bred:
        least, parents, bred = population[0][0], [grouping for _, _, grouping, _ in population], 0
        for _ in range(TRIES * CHILDREN):
            if bred < CHILDREN:
                bred += is_new(mutated(parents[rng.integers(len(parents))], len(offers), rng))
        generations += 1
        stale = 0 if population[0][0] < least else stale + 1
    least, _, grouping, n = population[0]
    exact = f"not proven for {unproven:,} of them, exact for the others" if unproven else "exact for each"
    notes = [f"genetic algorithm: {generations} generations, {len(seen):,} groupings; the layer counts are {exact}",
             f"completion time {least:.3f} s, the best found: no proof that no grouping is better"]
    return [{"devices": list(group), "layers": count} for group, count in zip(grouping, n)], notes


if __name__ == "__main__":
    common.run_allocator("HexGen", allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links)
