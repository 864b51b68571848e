"""PipeEdge's partitioner: the least bottleneck that any choice and order of different devices can have.

    python PipeEdge.py
    python PipeEdge.py --pool paper --seed 3

The bottleneck of a pipeline is the slowest of its stages and of the links between them. Decoder layers are alike, so a
bottleneck B fixes how many layers each device can take, and B is possible if some path over links of B or less visits
devices that can take all layers. The least such B is found by binary search. (Y. Hu et al., "PipeEdge: Pipeline
Parallelism for Large-Scale Model Inference on Heterogeneous Edge Devices", DSD 2022; its dynamic program over layers,
device sets and last device finds the same.)
"""
import heapq

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS, a folder or owner/model
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
EXACT = 16  # devices up to which the search is exact: it looks at 2^EXACT sets of them
BEAM = 500  # partial paths kept beyond that

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


def subset_sums(values):
    """Sum of the values in each set; set s holds i if bit i of s is 1."""
    import numpy as np
    sums = np.zeros(1, dtype="int64")
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def exact_path(cap, near, layers):
    """A path (list of devices) that can take all layers, of the fewest devices that can; None if there is none.

    cap: layers that each device can take (0: it is not used); near: (D, D), may one follow the other. Of equal paths
    the one over the first set (as a number), in the first order.
    """
    import numpy as np
    bit = 1 << np.arange(len(cap))
    near, capacity, size = near @ bit, subset_sums(cap), subset_sums(np.ones_like(cap))
    usable = subset_sums(cap == 0) == 0
    reach = np.zeros(len(size), dtype="int64")  # reach[s]: the devices on which a path over exactly the set s can end
    reach[bit] = bit
    for k in range(1, len(cap) + 1):
        sets = np.flatnonzero((size == k) & usable)
        if k > 1:  # s ^ bit is s without a device of it; or with one more, and then its reach is still 0
            reach[sets] = ((reach[sets[:, None] ^ bit] & near) != 0) @ bit
        found = sets[(reach[sets] != 0) & (capacity[sets] >= layers)]
        if len(found):
            s, path = found[0], []
            ends = reach[s]
            while ends:
                path.append(int(ends & -ends).bit_length() - 1)  # the first device of the possible ones
                s ^= bit[path[-1]]
                ends = reach[s] & near[path[-1]]
            return path  # from its end to its beginning: links are symmetric
    return None


def beam_path(cap, near, layers):
    """As exact_path, but it goes on only from the BEAM paths of each length that can take most: it may miss a path."""
    follow = [[j for j in range(len(cap)) if near[i, j] and cap[j]] for i in range(len(cap))]
    states = {(1 << i, i): (int(cap[i]), [i]) for i in range(len(cap)) if cap[i]}  # (set, end): (capacity, path)
    while states:
        kept = heapq.nlargest(BEAM, states.items(), key=lambda state: state[1][0])
        capacity, path = kept[0][1]
        if capacity >= layers:
            return path
        states = {}
        for (used, end), (capacity, path) in kept:
            for j in follow[end]:
                if not used >> j & 1:
                    states.setdefault((used | 1 << j, j), (capacity + int(cap[j]), [*path, j]))
    return None


def place(path, l, t, layers):
    """Stages on the devices of a path: one layer each, then one by one where the stage is shortest with it."""
    n = dict.fromkeys(path, 1)
    for _ in range(layers - len(path)):
        n[min((i for i in path if n[i] < l[i]), key=lambda i: (n[i] + 1) * t[i])] += 1
    return [{"devices": [i], "layers": n[i]} for i in path]


def allocate(layers, bids, delay, times, **_):
    """Stages of the least bottleneck, of those the fewest, and the bottleneck. Raises NoAllocation if the offers are
    fewer than the layers."""
    import numpy as np
    for name, value in ("EXACT", EXACT), ("BEAM", BEAM):
        common.check_number(value, name, whole=True)
    if BEAM < 1:
        raise common.UserError("BEAM: at least one path must be kept")
    D, l, t = len(bids), bids["layers"].to_numpy(), times.mean(axis=0)  # t: s a layer, mean of the tasks
    if l.sum() < layers:
        raise common.NoAllocation(f"the offers add up to {l.sum()} of {layers} layers")
    link = delay[:D, :D]
    n = np.arange(1, layers + 1)
    stage = np.where(n <= l[:, None], n * t[:, None], np.inf)  # s for n layers on a device; infinite past its offer
    least = np.sort(stage, axis=None)[layers - 1]  # below it the devices together cannot take all layers
    B = np.unique(np.concatenate([stage[stage < np.inf], link[np.triu_indices(D, 1)]]))  # what a bottleneck can be
    B = B[B >= least]

    def path(k):  # over links of B[k] or less, by as many layers as a device computes within B[k]
        return (exact_path if D <= EXACT else beam_path)((stage <= B[k]).sum(axis=1), link <= B[k], layers)

    low, high = 0, len(B) - 1  # with the largest B every link and every offer is at hand
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if path(middle) else (middle + 1, high)
    stages = place(path(high), l, t, layers)
    way, name = [stage["devices"][0] for stage in stages], bids["device"]
    parts = [(stage["layers"] * t[i], f"{stage['layers']} layers on {name[i]}") for stage, i in zip(stages, way)]
    parts += [(link[i, j], f"the link from {name[i]} to {name[j]}") for i, j in zip(way, way[1:])]
    found, what = max(parts, key=lambda part: part[0])
    proof = "proven least"
    if D > EXACT and found > least:
        proof = f"best of a beam of {BEAM}, not proven: at least {least:.3f} s"
    return stages, [f"bottleneck {found:.3f} s ({proof}): {what}"]


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links)
