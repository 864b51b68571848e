"""PipeDream's partitioner: a balanced pipeline for workers that are assumed to be equal.

    python PipeDream.py
    python PipeDream.py --pool paper --seed 3

It plans for the mean device and the mean link: a dynamic program over (layers, stages) minimises the slowest stage or
link, within what each device offers. Stages go to the devices in listing order, and all devices are used. A straight
pipeline without replicated stages, forward pass only. (D. Narayanan et al., "PipeDream: Generalized Pipeline
Parallelism for DNN Training", SOSP 2019, section 3.1.)
"""
import itertools
import math
import operator

import numpy as np

import common

MODEL = "BLOOM-176B"  # whose layers are placed: a name in common.MODELS
POOL = "campus"  # the devices: a name in common.POOLS
SEED = 0  # of the links and bids that are drawn
OUT = "results"  # where the files go

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


def allocate(layers, bids, delay, times, **_):
    """One stage a device in listing order, and the bottleneck planned beside the real one. Raises NoAllocation if the
    offers are fewer than the layers. delay: seconds of the links; times: seconds of a layer, array (tasks, bids)."""
    D = len(bids)
    offers = bids["layers"].tolist()
    if sum(offers) < layers:
        raise common.NoAllocation(f"the offers add up to {sum(offers)} of {layers} layers")
    t = times.mean()  # of a layer: the mean task on the mean device
    link = delay[:D, :D][np.triu_indices(D, 1)].mean() if D > 1 else 0
    counts = partition([t] * layers, link, offers[:layers])  # with fewer layers than devices, the last hold none
    stages = [{"devices": [i], "layers": n} for i, n in enumerate(counts)]

    planned = max(counts) * t
    if len(counts) > 1:
        planned = max(planned, link)
    real = counts * times.mean(axis=0)[:len(counts)]
    slowest = int(real.argmax())
    return stages, [f"planned for mean devices ({t:.3f} s a layer) and mean links ({link:.3f} s): "
                    f"bottleneck {planned:.3f} s",
                    f"really the slowest stage takes {real[slowest]:.3f} s a task, "
                    f"{counts[slowest]} layers on {bids['device'][slowest]}"]


def partition(time, link, most):
    """Layer counts of the stages that minimise the slowest stage or link; None if the limits leave no partition.

    time: seconds of each of the L layers; link: seconds between two stages; most: the largest layer count of each
    stage, in order; each has one layer at least. Of equal partitions the evenest (least sum of squared stage times),
    then the one that has fewer layers in the earlier stages.
    """
    time = [round(seconds * 1e9) for seconds in time]  # whole nanoseconds, so that equal sums are equal
    slowest, _ = best_counts(time, most, cost=lambda stage: stage, join=max)
    if slowest is None:
        return None
    bottleneck = max(slowest, round(link * 1e9))  # stages faster than the link need not be as fast as can be

    def square(stage):
        return stage ** 2 if stage <= bottleneck else math.inf
    _, counts = best_counts(time, most, cost=square, join=operator.add)
    return counts


def best_counts(time, most, cost, join):
    """Least cost of a partition and its layer counts, the least of equal ones; None and None if there is none. cost: of
    a stage by its time; join: function of the cost of the stages before and of one more to that of both."""
    T = [0, *itertools.accumulate(time)]  # T[j] - T[i]: time of the layers i + 1 .. j
    A = {0: (0, ())}  # A[j]: least cost of the first j layers over the stages so far, and their counts
    for limit in most:
        before, A = A, {}
        for j in range(1, len(T)):
            options = []
            for i in range(max(0, j - limit), j):
                if i in before:
                    value, counts = before[i]
                    options.append((join(value, cost(T[j] - T[i])), (*counts, j - i)))
            if options:
                A[j] = min(options)
    return A.get(len(time), (None, None))


if __name__ == "__main__":
    common.run_allocator(allocate, tasks, __doc__, model=MODEL, pool=POOL, seed=SEED, out=OUT, bids=bids,
                         links=links)
