"""Least latency: the pipeline through which one task, alone, goes fastest. A reference that is not of the paper.

    python -m reproduce.LeastLatency

The sum of a task's computation and of its links, from the client over the devices and back, is least over all sets of
devices, all orders of them and all layer counts: the objective of EdgeShard (M. Zhang et al., "EdgeShard: Efficient LLM
Inference via Collaborative Edge Computing", 2024). Price plays no part.

For a set of devices the two sums are independent: links depend on the order alone (the dynamic program over sets and
last devices of M. Held and R. Karp, 1962), and computation is least where the fastest devices run all that they offer.
"""
import sys

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import numpy as np

import common
import FCIM

MOST = 16  # bidders: beyond, the sets are too many


def allocate(layers, bids, delay, times, **_):
    """Stages in pipeline order, and a line that gives the latency. layers: those of the model; bids: table of
    common.read_bids; delay: s, square, the client last; times: s a layer, array (tasks, bidders), of which the mean
    over the tasks counts. Raises NoAllocation if the offers do not suffice, UserError for more than MOST bidders."""
    offers = bids["layers"].tolist()
    number = len(offers)
    common.require(number <= MOST, f"LeastLatency is exact and takes up to {MOST} bidders, not {number}")
    if sum(offers) < layers:
        raise common.NoAllocation(f"the offers add up to {sum(offers)} of {layers} layers")

    layer_time = times.mean(axis=0)
    fastest_first = np.argsort(layer_time, kind="stable").tolist()
    best_path, before = shortest_paths(delay[:-1, :-1], delay[-1, :-1])
    computing = np.full(len(best_path), np.inf)
    for devices in range(1, len(computing)):
        counts = layer_counts(devices, layers, offers, fastest_first)
        computing[devices] = sum(n * layer_time[i] for i, n in counts.items()) if counts else np.inf

    # The links of a set and its computation do not depend on each other.
    latency = computing + (best_path + delay[-1, :-1]).min(axis=1)
    best = int(latency.argmin())
    counts = layer_counts(best, layers, offers, fastest_first)
    order = path(best, best_path, before, delay[-1, :-1])
    line = f"latency of a task alone, in the mean: {latency[best]:.3f} s, the least of all pipelines"
    return [{"devices": [i], "layers": counts[i]} for i in order], [line]


def layer_counts(devices, layers, offers, fastest_first):
    """{device: layers} of a set of devices (a bit mask), one or more each and the others to the fastest; empty if they
    cannot hold the layers so."""
    members = [i for i in fastest_first if devices >> i & 1]
    left = layers - len(members)
    counts = {}
    for i in members:
        more = min(offers[i] - 1, max(left, 0))
        counts[i] = 1 + more
        left -= more
    return counts if left == 0 else {}


def shortest_paths(delay, client):
    """The least seconds of links from the client over all devices of a set (a bit mask), by set and last device: array
    (sets, devices); and the device before the last one, likewise. delay: between devices; client: to the client."""
    number = len(delay)
    sets = np.arange(1 << number)
    size = sum(sets >> i & 1 for i in range(number))
    seconds = np.full((len(sets), number), np.inf)
    before = np.full((len(sets), number), -1)
    for i in range(number):
        seconds[1 << i, i] = client[i]
    for k in range(1, number):
        for i in range(number):
            smaller = sets[(size == k) & (sets >> i & 1 == 0)]
            ways = seconds[smaller] + delay[:, i]
            seconds[smaller | 1 << i, i] = ways.min(axis=1)
            before[smaller | 1 << i, i] = ways.argmin(axis=1)
    return seconds, before


def path(devices, seconds, before, client):
    """The devices of a set (a bit mask) in the order over which the links from the client and back add up to least."""
    last = int((seconds[devices] + client).argmin())
    order = []
    while last >= 0:
        order.insert(0, last)
        devices, last = devices ^ 1 << last, int(before[devices, last])
    return order


if __name__ == "__main__":
    common.run_allocator(allocate, FCIM.tasks, __doc__, model=FCIM.MODEL, pool=FCIM.POOL, seed=FCIM.SEED, out=FCIM.OUT,
                         bids=FCIM.bids, links=FCIM.links)
