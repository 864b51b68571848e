"""How long the algorithms take, as ratios within one run: `python tests/benchmark.py` (about three minutes).

Allocation: random devices, 2 to 6 s a layer and task, links of 1 to 9 s, whose offers add up to 1.5 times the layers
(loose) or to the layers exactly (tight).

Scheduling: computation 0.5 to 15 s, transmission 0.5 to 5 s, deadline 1.5 to 4 times both after a random arrival;
load = computation / span of the arrivals. A heapq pass pushes all tasks of a list and pops them again.

Where OR-Tools is installed (it is not needed otherwise), its CP-SAT answers what optimal.py does, 6 s and two workers a
list: ordinary lists as above, and tight ones, whose deadlines are 1.05 to 2.2 times both lengths after the arrival.
"""
import heapq
import pathlib
import sys
import time

import numpy as np
import pandas as pd

try:
    from ortools.sat.python import cp_model
except ImportError:
    cp_model = None

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import ADSA
import common
import FCFS
import FCIM
import HexGen
import LLF
import optimal
import PipeEdge
import SRTF


def allocators():
    for name, looseness in (("loose", 1.5), ("tight", 1)):
        spent = [seconds(PipeEdge.allocate, **random_devices(18, 96, looseness, seed)) for seed in range(5)]
        line(f"PipeEdge, 18 devices, 96 layers, {name}: slowest of 5", max(spent), "", "under 1 s")
    for n, most in ((12, 1), (24, 3), (48, 6)):
        spent = [seconds(HexGen.allocate, **random_devices(n, 96, 1.5, seed)) for seed in range(3)]
        line(f"HexGen, {n} devices, 96 layers: slowest of 3", max(spent), "", f"under {most} s")
    for most in (1, 20):
        n = 10000
        draw = np.random.default_rng(0)
        l = draw.integers(1, most + 1, n)
        bids = pd.DataFrame({"device": [f"D{i}" for i in range(n)], "layers": l,
                             "computation_time": l * draw.uniform(1, 5, n), "price": l * draw.uniform(0.01, 0.05, n)})
        spent = seconds(FCIM.allocate, 96, bids, np.ones((1, n)), budget=5, deadline=120)
        line(f"FCIM, {n:,} devices that offer up to {most} of 96 layers", spent, "", "under 1 s")


def policies():
    lists = {n: random_list(n, 1.3) for n in (10000, 100000)}
    for n, tasks in lists.items():
        keys = list(zip(tasks["computation_time"].tolist(), range(n)))
        for policy, most in ((FCFS, ""), (SRTF, "under 15x"), (LLF, "under 40x"), (ADSA, "under 100x")):
            spent, floor = in_turn((policy.schedule, tasks), (heap_pass, keys))
            what = f"{policy.__name__} to a heapq pass, {n:,} tasks, load 1.3"
            line(what, spent, f"{spent / floor:.1f}x", most if n == 100000 else "")
    long, short = in_turn((ADSA.schedule, lists[100000]), (ADSA.schedule, lists[10000]))
    line("ADSA, 100,000 to 10,000 tasks, load 1.3", long, f"{long / short:.1f}x", "under 25x")


def optimum():
    for n, objective, most in ((5, "makespan", 1), (5, "turnaround", 1), (15, "makespan", 10), (15, "turnaround", 10),
                               (30, "makespan", 10)):
        spent = []
        proven = 0
        for seed in range(10):
            start = time.perf_counter()
            intervals = optimal.schedule(random_list(n, 0.9, seed), "shared", objective)
            spent.append(time.perf_counter() - start)
            proven += intervals.attrs["metrics"]["proven_optimal"]
        line(f"optimal, {n} tasks, load 0.9, {objective}: median of 10", np.median(spent))
        line(f"    the slowest of them; {proven} of 10 proven", max(spent), "", f"under {most} s, all proven")


def optimum_beside_cp_sat(lists=60, seconds=6):
    for kind, most, loads, factors in (("ordinary", 30, (0.6, 1.2), (1.5, 4)), ("tight", 25, (1.2, 1.2), (1.05, 2.2))):
        draw = np.random.default_rng(0)
        proven = np.zeros(2, int)
        spent = np.zeros(2)
        better = np.zeros(2, int)
        for seed in range(lists):
            tasks = random_list(draw.integers(12, most + 1), draw.uniform(*loads), seed, factors)
            objective = ("makespan", "turnaround")[seed % 2]
            times = tasks[["arrival_time", "computation_time", "trans_time", "deadline"]]
            case = optimal.Case(*times.to_numpy().T.tolist(), "shared", objective)
            start = time.perf_counter()
            intervals = optimal.schedule(tasks, "shared", objective, seconds)
            middle = time.perf_counter()
            costs_there, is_proven = cp_sat(case, seconds)
            spent += middle - start, time.perf_counter() - middle
            order = intervals.attrs["transmission_order"]
            costs_here = optimal.cost(case, order)
            proven += intervals.attrs["metrics"]["proven_optimal"], is_proven
            better += costs_here < costs_there, costs_there < costs_here
        for k, name in enumerate(("optimal.py", "CP-SAT")):
            line(f"{name}, {lists} {kind} lists: {proven[k]} proven, {better[k]} better; mean", spent[k] / lists)


def cp_sat(case, seconds):
    """(Misses, objective) of the best order that CP-SAT finds, by which task is sent before which, and whether both
    are proven."""
    tasks = range(len(case.a))
    model = cp_model.CpModel()
    is_before = {(i, j): model.NewBoolVar("") for i in tasks for j in tasks if i < j}
    for i, j in list(is_before):
        is_before[j, i] = is_before[i, j].Not()
    for i, j in is_before:
        for k in tasks:
            if k not in (i, j):
                model.AddBoolOr([is_before[i, j].Not(), is_before[j, k].Not(), is_before[i, k]])
    horizon = optimal.span(case) + min(case.a)
    begin = [model.NewIntVar(case.a[j], horizon, "") for j in tasks]
    late = [model.NewBoolVar("") for _ in tasks]
    T_end = model.NewIntVar(0, horizon, "")
    for j in tasks:
        end = begin[j] + case.q[j]
        model.Add(T_end >= end)
        model.Add(end <= case.d[j]).OnlyEnforceIf(late[j].Not())
        for i in tasks:
            first = [k for k in tasks if case.a[k] >= case.a[i]]  # what arrives with task i or later
            work = sum(case.p[k] * (k == j or is_before[k, j]) for k in first)
            on_condition = model.Add(begin[j] >= case.a[i] + work)
            if i != j:
                on_condition.OnlyEnforceIf(is_before[i, j])
                model.Add(begin[j] >= begin[i] + case.q[i]).OnlyEnforceIf(is_before[i, j])

    # First the misses, then the objective.
    found = []
    is_proven = True
    turnaround = sum(begin) + sum(case.q) - sum(case.a)
    stop = time.monotonic() + seconds
    for target in (sum(late), T_end if case.objective == "makespan" else turnaround):
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 2
        solver.parameters.max_time_in_seconds = max(0.01, stop - time.monotonic())
        model.Minimize(target)
        status = solver.Solve(model)
        is_proven = is_proven and status == cp_model.OPTIMAL
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return (*found, np.inf), False
        found.append(round(solver.ObjectiveValue()))
        model.Add(target <= found[-1])
        model.ClearHints()
        for variable in [*begin, *late, *(is_before[i, j] for i, j in is_before if i < j)]:
            model.AddHint(variable, solver.Value(variable))
    return tuple(found), is_proven


def random_list(n, load, seed=0, factors=(1.5, 4)):
    """Task table of n random tasks."""
    draw = np.random.default_rng(seed)
    p, q, factor = draw.uniform(0.5, 15, n), draw.uniform(0.5, 5, n), draw.uniform(*factors, n)
    a = np.sort(draw.uniform(0, 1, n))
    a = (a - a[0]) / (a[-1] - a[0]) * p.sum() / load
    columns = np.rint(np.array([a, p, q, a + factor * (p + q)]) * common.US).astype("int64")
    names = "arrival_time", "computation_time", "trans_time", "deadline"
    return pd.DataFrame({"label": [f"T{k}" for k in range(n)], **dict(zip(names, columns))})


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
    return dict(model=model, layers=layers, tasks=pd.DataFrame({"kv_bytes": [0]}), bids=bids, delay=delay + delay.T,
                times=times, arrivals=np.arange(5.0), seed=0)


def heap_pass(keys):
    heap = []
    for key in keys:
        heapq.heappush(heap, key)
    while heap:
        heapq.heappop(heap)


def seconds(function, *arguments, **more):
    start = time.perf_counter()
    function(*arguments, **more)
    return time.perf_counter() - start


def in_turn(one, other):
    """Median seconds of five runs of each, (function, argument), run in turn: a machine's moods strike both."""
    spent = [(seconds(*one), seconds(*other)) for _ in range(5)]
    return np.median(spent, axis=0)


def line(what, spent, ratio="", wanted=""):
    print(f"{what:58}{spent:>10.3f} s{ratio:>10}  {wanted}".rstrip(), flush=True)


if __name__ == "__main__":
    allocators()
    policies()
    optimum()
    if cp_model:
        optimum_beside_cp_sat()
