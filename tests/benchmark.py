"""How long the schedulers take, as ratios within one run: `python tests/benchmark.py` (about two minutes).

Lists: computation 0.5 to 15 s, transmission 0.5 to 5 s, deadline 1.5 to 4 times both after a random arrival; load =
computation / span of the arrivals. A heapq pass pushes all tasks of a list and pops them again.
"""
import heapq
import pathlib
import sys
import time

import numpy as np
import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import naive

import ADSA
import common
import FCFS
import LLF
import optimal
import SRTF


def random_list(n, load, seed=0):
    """Task table of n random tasks."""
    draw = np.random.default_rng(seed)
    p, q, factor = draw.uniform(0.5, 15, n), draw.uniform(0.5, 5, n), draw.uniform(1.5, 4, n)
    a = np.sort(draw.uniform(0, 1, n))
    a = (a - a[0]) / (a[-1] - a[0]) * p.sum() / load
    columns = np.rint(np.array([a, p, q, a + factor * (p + q)]) * common.US).astype("int64")
    names = "arrival_time", "computation_time", "trans_time", "deadline"
    return pd.DataFrame({"label": [f"T{k}" for k in range(n)], **dict(zip(names, columns))})


def seconds(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def in_turn(one, other, rounds=5):
    """Median seconds of `one` and median of its ratio to `other`, run in turn: a machine's moods strike both."""
    spent = [(seconds(*one)[0], seconds(*other)[0]) for _ in range(rounds)]
    return np.median([x for x, _ in spent]), np.median([x / y for x, y in spent])


def heap_pass(keys):
    heap = []
    for key in keys:
        heapq.heappush(heap, key)
    while heap:
        heapq.heappop(heap)


def line(what, spent, ratio="", wanted=""):
    print(f"{what:58}{spent:>10.3f} s{ratio:>10}  {wanted}".rstrip(), flush=True)


def policies():
    lists = {n: random_list(n, 1.3) for n in (10000, 100000)}
    for n, tasks in lists.items():
        floor = heap_pass, list(zip(tasks["computation_time"].tolist(), range(n)))
        for policy, most in ((FCFS, ""), (SRTF, "under 15x"), (LLF, "under 40x"), (ADSA, "under 100x")):
            spent, ratio = in_turn((policy.schedule, tasks), floor)
            what = f"{policy.__name__} to a heapq pass, {n:,} tasks, load 1.3"
            line(what, spent, f"{ratio:.1f}x", most if n == 100000 else "")
    spent, growth = in_turn(*((ADSA.schedule, lists[n]) for n in (100000, 10000)))
    line("ADSA, 100,000 to 10,000 tasks, load 1.3", spent, f"{growth:.1f}x", "under 25x")
    columns = (lists[10000][key].tolist() for key in ("arrival_time", "computation_time", "trans_time", "deadline"))
    plain = naive.adsa, list(zip(*columns)), round(ADSA.ALIKE * common.US)
    assert len(plain[0](*plain[1:])) == len(ADSA.schedule(lists[10000]))
    spent, ratio = in_turn(plain, (ADSA.schedule, lists[10000]))
    line("ADSA's plain reference to ADSA, 10,000 tasks, load 1.3", spent, f"{ratio:.0f}x", "over 40x")


def optimum(seeds=range(10)):
    for n, objective, most in ((5, "makespan", 1), (5, "turnaround", 1), (15, "makespan", 10), (15, "turnaround", 10),
                               (30, "makespan", 10)):
        spent, proven = [], 0
        for seed in seeds:
            took, intervals = seconds(optimal.schedule, random_list(n, 0.9, seed), "shared", objective)
            spent.append(took)
            proven += intervals.attrs["metrics"]["proven_optimal"]
        line(f"optimal, {n} tasks, load 0.9, {objective}: median of {len(seeds)}", np.median(spent))
        line(f"    the slowest of them; {proven} of {len(seeds)} proven", max(spent), "", f"under {most} s, all proven")


if __name__ == "__main__":
    policies()
    optimum()
