"""How long the algorithms take, as ratios within one run: `python tests/benchmark.py` (about three minutes).

Allocation: the default tasks, model and pool; or random devices, 2 to 6 s a layer and task, links of 1 to 9 s, whose
offers add up to 1.5 times the layers (loose), or 2, or to the layers exactly (tight).

Scheduling: computation 0.5 to 15 s, transmission 0.5 to 5 s, deadline 1.5 to 4 times both after a random arrival;
load = computation / span of the arrivals. A heapq pass pushes all tasks of a list and pops them again.
"""
import heapq
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import naive

import ADSA
import common
import FCFS
import FCIM
import HexGen
import LLF
import optimal
import PipeEdge
import SRTF
from reproduce import FCIM_critical, FCIM_links


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


def whole_runs(n=100000):
    """A run of FCFS.py, files and all, to pandas writing the table of tasks alone."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = random_list(n, 0.9).assign(prompt="one two three", output_words=10)
        for key in ("arrival_time", "computation_time", "trans_time", "deadline"):
            tasks[key] /= common.US
        tasks.to_csv(f"{folder}/tasks.csv", index=False)
        command = [sys.executable, FCFS.__file__, "--tasks", "tasks.csv", "--no-plot"]
        spent, ratio = in_turn((lambda: subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE),),
                               (lambda: tasks.to_csv(f"{folder}/again.csv", index=False),), 3)
    line(f"python FCFS.py of {n:,} tasks to writing the list once", spent, f"{ratio:.1f}x")


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


def random_devices(n, layers, looseness, seed):
    """What an allocation script's allocate is given: n random devices whose offers add up to layers x looseness."""
    draw = np.random.default_rng(seed)
    offers = np.ones(n, dtype=int)
    for i in draw.integers(0, n, round(layers * looseness) - n):
        offers[i] += 1
    times = draw.uniform(2, 6, n) * draw.uniform(0.5, 1.5, (5, 1))
    T = times.sum(axis=0) * offers
    bids = pd.DataFrame({"device": [f"D{i}" for i in range(n)], "layers": offers, "price": T * draw.uniform(1, 2, n),
                         "computation_time": T, "true_cost": T})
    delay = np.triu(draw.uniform(1, 9, (n + 1, n + 1)), 1)
    model = common.Model("M", layers, hidden=9600, feed_forward=38400, heads=96, context=2048)
    return dict(model=model, layers=layers, bids=bids, delay=delay + delay.T, times=times, arrivals=np.arange(5.0),
                seed=0)


def allocators():
    def call(script, case):
        return lambda: script.allocate(**case)

    for n in (6, 8):
        case = random_devices(n, 96, 1.5, n)
        plain = naive.plain_pipeedge, case["layers"], case["bids"]["layers"].tolist(), case["times"], case["delay"]
        spent, ratio = in_turn(plain, (call(PipeEdge, case),), 3)
        line(f"PipeEdge's plain program to PipeEdge, {n} devices, 96 layers", spent, f"{ratio:.0f}x")
    for name, looseness in (("loose", 1.5), ("tight", 1)):
        spent = [seconds(call(PipeEdge, random_devices(18, 96, looseness, seed)))[0] for seed in range(5)]
        line(f"PipeEdge, 18 devices, 96 layers, {name}: slowest of 5", max(spent), "", "under 1 s")
    case = common.allocation_case(FCIM.tasks, common.get_model(HexGen.MODEL), HexGen.POOL, 0)
    line(f"HexGen, default list and pool, {len(case['bids'])} devices", seconds(call(HexGen, case))[0], "", "under 1 s")
    for n, most in ((12, 1), (24, 3), (48, 6)):
        spent = [seconds(call(HexGen, random_devices(n, 96, 1.5, seed)))[0] for seed in range(3)]
        line(f"HexGen, {n} devices, 96 layers: slowest of 3", max(spent), "", f"under {most} s")
    for n, layers, most in ((12, 70, 1), (48, 96, 10)):
        case = dict(random_devices(n, layers, 2, 0), budget=1e6, deadline=1e6)
        paid, ratio = in_turn((call(FCIM_critical, case),), (call(FCIM, case),), 3)
        line(f"FCIM's critical payments to the paper's, {n} devices, {layers} layers", paid, f"{ratio:.0f}x",
             f"under {most} s")
    delay = random_devices(12, 12, 1, 0)["delay"]
    spent = seconds(FCIM_links.by_links, list(range(12)), delay)[0]
    line("FCIM_links, 12 winners in the order of links", spent, "", "under 50 ms")
    for most in (1, 20):
        n = 10000
        draw = np.random.default_rng(0)
        l = draw.integers(1, most + 1, n)
        bids = pd.DataFrame({"device": [f"D{i}" for i in range(n)], "layers": l,
                             "computation_time": l * draw.uniform(1, 5, n), "price": l * draw.uniform(0.01, 0.05, n)})
        case = dict(layers=96, bids=bids, times=np.ones((1, n)), budget=5, deadline=120)
        spent, (stages, _) = seconds(call(FCIM, case))
        line(f"FCIM, {n:,} devices, 96 layers, {len(stages)} rounds", spent, "", "under 1 s")


if __name__ == "__main__":
    allocators()
    policies()
    whole_runs()
    optimum()
