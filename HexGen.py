"""HexGen: pipeline stages of one or more devices, tensor parallel within a stage, found by a genetic algorithm.

    python HexGen.py
    python HexGen.py --pool paper --seed 3

Asymmetric tensor and pipeline parallelism: each stage has its own group of devices, tensor-parallel degree and layer
count. (Y. Jiang et al., "HexGen: Generative Inference of Large Language Model over Heterogeneous
Environment", ICML 2024. The published code has no scheduler; this one is written from the paper, for one pipeline.)
Two heuristics, without a proof of optimality: a genetic algorithm searches for the groups and their order (`allocate`);
for each candidate, layers are moved one by one between stages as long as that helps (`descend`). A group splits
attention heads evenly, so its size divides the model's heads, and divides its key-value heads or is a multiple of them;
then its devices hold copies of these, and of their KV caches, so that it holds fewer layers.
"""
import math
from functools import lru_cache
from operator import itemgetter

import numpy as np

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
POPULATION = 24  # groupings that survive a generation
CHILDREN = 48  # new groupings bred in a generation
TRIES = 5  # times that many mutations, at most, to breed them: others are known or cannot hold the layers
PLAN = 100  # of a longer list, so many tasks stand for all in the search
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


def allocate(model, layers, tasks, bids, delay, times, arrivals, seed, plan=PLAN, population=POPULATION,
             children=CHILDREN, tries=TRIES, stale=STALE, patience=PATIENCE, **_):
    """Stages (see common.evaluate) and notes, for a case of common.allocation_case. NoAllocation: too few offers.

    A genetic algorithm: of parents and children those survive that complete the task list soonest (mu + lambda).
    """
    common.require(min(plan, population, children, tries, stale, patience) >= 1,
                   "PLAN, POPULATION, CHILDREN, TRIES, STALE and PATIENCE must be at least 1")
    offers = bids["layers"].tolist()
    if sum(offers) < layers:
        raise common.NoAllocation(f"the offers add up to {sum(offers)} of {layers} layers")

    notes = []
    if len(arrivals) > plan:
        notes = [f"planned on {plan:,} of the {len(arrivals):,} tasks, evenly picked, their arrivals drawn together so "
                 "that the load stays the same"]
        times, arrivals = thinned(times, arrivals, plan)

    rng = np.random.default_rng(seed)
    # Copies of key-value heads leave less room: the share of the layers that its devices offer which a group can hold.
    whole = common.group_bytes(model, tasks, 1)
    sizes = {k: whole / common.group_bytes(model, tasks, k) for k in group_sizes(model)}
    given = dict(layers=layers, offers=offers, sizes=sizes, delay=delay, seconds=group_seconds(times, delay))
    known = set()  # groupings that were candidates
    new = []
    for groups in first_groupings(layers, times, delay, rng):
        found = candidate(groups, {}, known, **given)
        if found:
            known.add(found["grouping"])
            new.append(found)
    survivors = []
    generations = 0
    unchanged = 0  # generations without a better best
    while new and unchanged < stale:
        best = survivors[:1]
        cutoff = survivors[-1]["time"] if len(survivors) == population else math.inf
        good = descend(new, layers, arrivals, patience, cutoff)
        even = [dict(one, n=[1] * len(one["n"])) for one in good]  # from another start a descent may end elsewhere
        again = descend(even, layers, arrivals, patience)
        survivors += [min(two, key=BY_TIME) for two in zip(good, again)]
        survivors = sorted(survivors, key=BY_TIME)[:population]
        generations += 1
        unchanged = unchanged + 1 if survivors[:1] == best else 0

        new = []
        for parent in rng.choice(survivors, size=tries * children):
            share = {i: n / len(group) for group, n in zip(parent["grouping"], parent["n"]) for i in group}
            found = candidate(mutated(parent["grouping"], delay, rng), share, known, **given)
            if found:
                known.add(found["grouping"])
                new.append(found)
            if len(new) == children:
                break

    best = survivors[0]
    stages = [{"devices": list(group), "layers": n} for group, n in zip(best["grouping"], best["n"])]
    of_these = f" of these {plan:,}" if notes else ""
    notes += [f"genetic algorithm: {generations} generations, {len(known):,} groupings",
              f"completion time{of_these} {best['time']:.3f} s, the best found: no proof that none is better"]
    return stages, notes


BY_TIME = itemgetter("time")


def thinned(times, arrivals, plan):
    """Times and arrivals of `plan` of the tasks. The first and the last are among them, so that they span what all do;
    then all come closer by the share that they have of the work, and as much work comes in a second as in the list."""
    picked = np.linspace(0, len(arrivals) - 1, plan, dtype=int)
    some = times[picked]
    share = some.sum() / times.sum() if times.any() else plan / len(times)
    first = arrivals[0]
    return some, first + share * (arrivals[picked] - first)


def group_sizes(model):
    """Sizes of a group that splits the heads evenly, and the key-value heads too, or holds copies of these."""
    shared = model.kv_heads
    return {k for k in range(1, model.heads + 1) if model.heads % k == 0 and (shared % k == 0 or k % shared == 0)}


def first_groupings(layers, times, delay, rng):
    """Routes over the m fastest devices for every m, from the client on to the nearest that is left, and some random
    ones, in stages of one device, of two and of four. Single devices can hold the layers if any grouping can."""
    fastest = times.sum(axis=0).argsort(kind="stable").tolist()
    routes = [rng.permutation(fastest[:layers]).tolist() for _ in range(4)]
    for m in range(len(fastest)):
        left = fastest[:m + 1]
        here = len(fastest)  # the client
        route = []
        while left:
            here = min(left, key=delay[here].__getitem__)
            left.remove(here)
            route.append(here)
        routes.append(route)
    return [[route[i:i + k] for i in range(0, len(route), k)] for k in (1, 2, 4) for route in routes]


def group_seconds(times, delay):
    """Function of a group (a tuple of rows of bids) to its seconds of a layer, by task, all-reduces within."""
    @lru_cache(maxsize=None)
    def seconds(group):
        return sum(common.group_times(times, delay, list(group)))
    return seconds


def candidate(groups, share, known, layers, offers, sizes, delay, seconds):
    """A candidate of these groups; None if they are known, if one has a wrong size, or if they cannot hold the layers.

    A candidate is a dict: grouping (groups in pipeline order, tuples of rows of bids) and lists of a value a stage: n
    (layers; at first what its devices had in the parent, share), cap (most layers), w (seconds of a layer, by task), d
    (seconds of the link into it and, one more, to the client). known: groupings; sizes: {size of a group: share that it
    holds of what its devices offer}; seconds: see group_seconds.
    """
    grouping = tuple(tuple(sorted(group)) for group in groups)
    if grouping in known or not all(len(group) in sizes for group in grouping):
        return None
    cap = [int(len(group) * min(offers[i] for i in group) * sizes[len(group)]) for group in grouping]
    if not len(grouping) <= layers <= sum(cap):
        return None
    client = (len(offers),)
    way = (client, *grouping, client)
    return {
        "grouping": grouping,
        "n": [max(1, round(sum(share.get(i, 0) for i in group))) for group in grouping],
        "cap": cap,
        "w": [seconds(group) for group in grouping],
        "d": [min(delay[i, j] for i in one for j in other) for one, other in zip(way, way[1:])],  # by the nearest two
    }


def mutated(grouping, delay, rng):
    """The groups of a child: those of its parent after an operator and, two times in three, a further one."""
    groups = [list(group) for group in grouping]
    while True:
        free = list(set(range(len(delay) - 1)).difference(*groups))
        operator = OPERATORS[draw(rng, len(OPERATORS))]
        a = draw(rng, len(groups))
        b = draw(rng, len(groups))
        other = free if draw(rng, 2) else groups[b]
        operator(groups=groups, a=a, b=b, one=groups[a], other=other, delay=delay, rng=rng)
        groups = [group for group in groups if group] or [[free.pop()]]
        if not draw(rng, 3):
            return groups


def draw(rng, number):
    """A random one of 0 .. number - 1."""
    return int(rng.random() * number)


# The operators change `groups`, lists of devices, in place. a, b: indices of two groups; one: group a; other: group b
# or, as often, the devices that are in no group.


def merge(groups, a, b, **_):
    """Two groups become one."""
    if a != b:
        groups[a].extend(groups.pop(b))


def split(groups, a, one, rng, **_):
    """A group becomes two."""
    if len(one) > 1:
        rng.shuffle(one)
        i = 1 + draw(rng, len(one) - 1)
        groups[a:a + 1] = [one[:i], one[i:]]


def move(groups, a, b, **_):
    """A stage moves to another place in the pipeline."""
    groups.insert(b, groups.pop(a))


def reverse(groups, a, b, **_):
    """A run of stages is reversed."""
    a, b = sorted((a, b))
    groups[a:b + 1] = reversed(groups[a:b + 1])


def swap(one, other, rng, **_):
    """Two devices change places, or one with a free one."""
    if other:
        i = draw(rng, len(one))
        j = draw(rng, len(other))
        one[i], other[j] = other[j], one[i]


def give(one, other, rng, **_):
    """A device goes over to the other group, or out of use."""
    other.append(one.pop(draw(rng, len(one))))


def take(groups, one, other, rng, **_):
    """A device comes from the other group, or from the free ones, into the group or a stage of its own."""
    source, target = other, one
    if not other:  # none is free: the group gives one
        source, target = target, source
    device = source.pop(draw(rng, len(source)))
    if draw(rng, 2):
        groups.insert(draw(rng, len(groups) + 1), [device])
    else:
        target.append(device)


def pair_up(groups, delay, rng, **_):
    """A device and the one nearest to it, wherever they are, become a stage."""
    one = draw(rng, len(delay) - 1)
    others = {*range(len(delay) - 1)} - {one}
    pair = {one, min(others, key=delay[one].__getitem__, default=one)}
    for group in groups:
        group[:] = [i for i in group if i not in pair]
    groups.insert(draw(rng, len(groups) + 1), list(pair))


OPERATORS = [merge, split, move, reverse, swap, give, take, pair_up]


# Placing the layers, of many candidates at once: they are the last index of the arrays n, cap (S, candidates), w (S,
# tasks, candidates) and d (S + 1, candidates); see candidate. Candidates of fewer than S stages are led by empty ones.


def descend(candidates, layers, arrivals, patience=PATIENCE, cutoff=math.inf):
    """The candidates that complete the list before the cutoff, with their time and their layers n: from n on, the best
    move of one layer as long as one helps. A local optimum, unless patience ends above the cutoff."""
    if not candidates:
        return []
    cap = stacked(candidates, "cap")
    w = stacked(candidates, "w")
    d = stacked(candidates, "d")
    n = filled(layers, stacked(candidates, "n"), cap, w)
    time = np.empty(len(candidates))
    left = np.arange(len(candidates))  # those that still get better
    while len(left):
        now, moved = completion(n[:, left], w[:, :, left], d[:, left], arrivals)
        time[left] = now
        possible = (n < cap)[:, None, left] & (n > 1)[:, left]
        moved = np.where(possible, moved, math.inf).reshape(-1, len(left))
        gain = now - moved.min(axis=0)
        better = gain > 1e-9 * now  # by more than rounding
        better &= now - patience * gain < cutoff
        more, less = divmod(moved.argmin(axis=0)[better], len(n))
        left = left[better]
        n[more, left] += 1
        n[less, left] -= 1
    placed = []
    for k in np.flatnonzero(time < cutoff):
        counts = n[:, k]
        placed.append(dict(candidates[k], n=counts[counts > 0].tolist(), time=time[k]))
    return placed


def stacked(candidates, key):
    """Array of what each candidate has for its stages, led by zeros."""
    values = [one[key] for one in candidates]
    most = max(map(len, values))
    return np.stack([[0 * value[0]] * (most - len(value)) + value for value in values], axis=-1)


def filled(layers, n, cap, w):
    """Layer counts that add up to layers: n, within cap, filled up in the shortest stages or cut in the longest."""
    n = np.minimum(n, cap)
    work = w.sum(axis=1)
    while True:
        missing = np.sign(layers - n.sum(axis=0))
        if not missing.any():
            return n
        shortest = np.where(n < cap, (n + 1) * work, math.inf).argmin(axis=0)
        longest = np.where(n > 1, n * work, -math.inf).argmax(axis=0)
        at = np.where(missing > 0, shortest, longest)
        n[at, np.arange(len(at))] += missing


MORE, LESS, SAME = range(3)  # a stage has one layer more, one less, or what it has: an index
CHANGE = np.reshape([1, -1, 0], (3, 1, 1))  # of MORE, LESS, SAME
OPPOSITE = [LESS, MORE]  # of MORE, LESS


def completion(n, w, d, arrivals):
    """Completion times (candidates,) of the task list, and (S, S, candidates) those with a layer moved: one more in a
    stage (first index), one less in another (second).

    finish[k] = max(finish[k-1], sent[k] + d) + n w[k] is, with W = cumsum(w), n W[k] + the greatest of sent[j] + d -
    n (W[j] - w[j]), j <= k. What a change does is passed on from stage to stage once, for all changes in later ones.
    """
    stages, tasks, candidates = w.shape
    total = np.cumsum(w, axis=1)
    before = total - w
    rest = [d[stages]]  # of each stage: least time from a task's way into it to the list's end; at last, of the client
    for s in reversed(range(stages)):
        onward = n[s] * total[s] + rest[0]
        onward = greatest(onward[::-1])[::-1]
        rest.insert(0, onward - n[s] * before[s] + d[s])

    moved = np.full((stages, stages, candidates), math.inf)
    finish = arrivals[:, None]  # of the tasks in the stage before, if no stage changes
    changed = np.empty((stages, 2, tasks, candidates))  # the same if an earlier stage (first index) has MORE or LESS
    for s in range(stages):
        counts = n[s] + CHANGE
        into = d[s] - counts * before[s]
        through = counts * total[s]

        # an earlier stage changes, and this one to the opposite
        ends = greatest(changed[:s] + into[OPPOSITE]) + (through[OPPOSITE] + rest[s + 1])
        ends = ends.max(axis=2)
        moved[:s, s] = ends[:, MORE]
        moved[s, :s] = ends[:, LESS]

        # finish times in this stage, if an earlier one changes, this one changes, none does
        changed[:s] = greatest(changed[:s] + into[SAME]) + through[SAME]
        here = greatest(finish + into) + through
        changed[s] = here[[MORE, LESS]]
        finish = here[SAME]
    return finish[-1] + d[stages], moved


def greatest(times):
    """The greatest so far, task by task."""
    return np.maximum.accumulate(times, axis=-2)


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links, plan=PLAN, population=POPULATION, children=CHILDREN, tries=TRIES, stale=STALE,
                         patience=PATIENCE)
