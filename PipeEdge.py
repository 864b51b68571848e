"""PipeEdge's partitioner: the choice and order of heterogeneous devices whose slowest stage or link is fastest.

    python PipeEdge.py
    python PipeEdge.py --pool paper --seed 3

The bottleneck of a pipeline is its slowest stage or link between stages. Decoder layers are alike, so a bottleneck B
fixes how many layers each device can take, and B is feasible if a path over links of at most B visits devices that can
together take all layers. The least feasible B is found by binary search: exactly for up to EXACT devices; beyond, by a
beam search, which may miss it. (Y. Hu et al., "PipeEdge: Pipeline Parallelism for
Large-Scale Model Inference on Heterogeneous Edge Devices", DSD 2022; its dynamic program over layers, device sets and
last device finds the same optimum.)
"""
import heapq

import numpy as np

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go
EXACT = 18  # devices up to which the search is exact: it looks at 2^EXACT sets of them
BEAM = 500  # beyond that a beam search, not proven: so many partial paths are kept

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


def allocate(layers, bids, delay, times, exact=EXACT, beam=BEAM, **_):
    """Stages of the least bottleneck, of those the fewest, and a line that names it. Raises NoAllocation if the offers
    are fewer than the layers. delay: seconds of the links; times: seconds of a layer, array (tasks, bids)."""
    D = len(bids)
    offers = bids["layers"].to_numpy()
    if offers.sum() < layers:
        raise common.NoAllocation(f"the offers add up to {offers.sum()} of {layers} layers")
    link = delay[:D, :D]  # those of the client are left out
    t = times.mean(axis=0)
    n = np.arange(1, layers + 1)
    stage = np.where(n <= offers[:, None], n * t[:, None], np.inf)  # s for n layers on a device, if it offers them

    # A bottleneck is the time of some stage or link, and not below what all devices together need for all layers.
    least = np.sort(stage, axis=None)[layers - 1]
    B = np.unique(np.concatenate([stage[stage < np.inf], link[np.triu_indices(D, 1)]]))
    B = B[B >= least]

    def path_within(bottleneck):
        cap = (stage <= bottleneck).sum(axis=1)
        near = link <= bottleneck
        return exact_path(cap, near, layers) if D <= exact else beam_path(cap, near, layers, beam)

    # The least one that is possible; the largest is, as every link and every offer may be used.
    low, high = 0, len(B) - 1
    while low < high:
        middle = (low + high) // 2
        if path_within(B[middle]):
            high = middle
        else:
            low = middle + 1
    path = path_within(B[high])

    n = place(path, offers, t, layers)
    name = bids["device"]
    parts = [(n[i] * t[i], f"{n[i]} layers on {name[i]}") for i in path]
    parts += [(link[i, j], f"the link from {name[i]} to {name[j]}") for i, j in zip(path, path[1:])]
    found, what = max(parts, key=lambda part: part[0])
    proof = "proven least"
    if D > exact and found > least:
        proof = f"best of a beam of {beam}, not proven: at least {least:.3f} s"
    stages = [{"devices": [i], "layers": n[i]} for i in path]
    return stages, [f"bottleneck {found:.3f} s ({proof}): {what}"]


def exact_path(cap, near, layers):
    """A path (list of devices) that can take all layers, of the fewest devices that can; None if there is none.

    cap: layers that each device can take (0: it is not used); near: (D, D), may one follow the other. A set of devices
    is a number: bit i says whether it holds device i. Of equal paths the one over the first set, in the first order.
    """
    D = len(cap)
    neighbours = near @ (1 << np.arange(D))  # of each device: a set
    capacity = subset_sums(cap)
    size = subset_sums(np.ones(D, int))
    usable = subset_sums(cap == 0) == 0
    ends = np.zeros(1 << D, "int64")  # ends[s]: the devices on which a path over exactly the set s can end
    for k in range(1, D + 1):
        sets = np.flatnonzero((size == k) & usable)
        for device in range(D):
            holding = sets[sets >> device & 1 == 1]
            others = holding ^ (1 << device)  # one device fewer: their ends are known
            possible = (k == 1) | (ends[others] & neighbours[device] != 0)
            ends[holding[possible]] |= 1 << device
        found = sets[(ends[sets] != 0) & (capacity[sets] >= layers)]
        if len(found):
            return read_path(int(found[0]), ends, neighbours)
    return None


def subset_sums(values):
    """Sum of the values in each set."""
    sums = np.zeros(1, "int64")
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def read_path(s, ends, neighbours):
    """The path over the set s, device after device from its end: the first of those that are possible."""
    path = []
    possible = ends[s]
    while possible:
        device = next(i for i in range(len(neighbours)) if possible >> i & 1)
        path.append(device)
        s ^= 1 << device
        possible = ends[s] & neighbours[device]
    return path  # from its end to its beginning is a path as well: links are symmetric


def beam_path(cap, near, layers, beam):
    """As exact_path, but it goes on only from the `beam` paths of each length that can take most: may miss a path."""
    cap = cap.tolist()
    usable = [i for i in range(len(cap)) if cap[i] > 0]
    paths = [(cap[i], [i]) for i in usable]  # (capacity, path)
    while paths:
        kept = heapq.nlargest(beam, paths, key=lambda entry: entry[0])
        capacity, path = kept[0]
        if capacity >= layers:
            return path
        longer = {}  # one path for each set of devices and last device
        for capacity, path in kept:
            used = frozenset(path)
            for i in usable:
                if i not in used and near[path[-1], i]:
                    longer.setdefault((used, i), (capacity + cap[i], [*path, i]))
        paths = list(longer.values())
    return None


def place(path, offers, t, layers):
    """Layers of each device of a path, a dict: one each, then one by one where the stage is shortest with it."""
    n = dict.fromkeys(path, 1)
    for _ in range(layers - len(path)):
        free = [i for i in path if n[i] < offers[i]]
        n[min(free, key=lambda i: (n[i] + 1) * t[i])] += 1
    return n


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links, exact=EXACT, beam=BEAM)
