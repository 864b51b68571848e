"""Optimal schedule: fewest missed deadlines, then least makespan or mean turnaround time, as an integer program.

    python optimal.py
    python optimal.py --objective turnaround --time-limit 10
    python optimal.py --tasks my_tasks.csv --link dedicated

Computation is preemptive; the order in which results leave is free. Once that order is fixed, serving the processor
in the same order is best: it ends every prefix of the order as early as can be. So the program looks for an order,
not for times, and the schedule is rebuilt by simulating the order it finds. Before it, bounds: if a schedule at hand
meets one, nothing is left to solve.

"optimal" is proven in whole microseconds; "optimal to 0.000012 s" by a solver that computes in floating point, to that
tolerance; "best found" is not proven, and its gap is that to the bounds.
"""
import contextlib
import heapq
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from decimal import Decimal

import numpy as np
import pandas as pd

try:
    import pulp
except ImportError:  # many lists need no program
    pulp = None

import ADSA
import common
import FCFS
import LLF
import SRTF

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go
OBJECTIVE = "makespan"  # after the deadlines: "makespan" (T_end) or "turnaround" (its mean)
TIME_LIMIT = 60  # s for the search
MAX_TASKS = 60  # the integer program has n^2 binaries: above, only bounds and the best policy
MAX_EXACT = 12  # tasks of a list of which all orders are searched in whole microseconds

tasks = [
    {"label": "Task 1", "prompt": "Write a complete guide to starting a community garden: the site, the soil, the "
     "beds, the watering, and how to share the work over the year.",
     "arrival_time": 0, "output_words": 1200, "trans_time": 5, "deadline": 100},
    {"label": "Task 2", "prompt": "Explain the causes of the 2008 financial crisis to a reader without economics.",
     "arrival_time": 3, "output_words": 300, "trans_time": 2, "deadline": 20},
    {"label": "Task 3", "prompt": "Plan four one-hour lessons on renewable energy for a secondary school, with one "
     "experiment for each.",
     "arrival_time": 10, "output_words": 800, "trans_time": 3, "deadline": 35},
    {"label": "Task 4", "prompt": "Describe the attached aerial photograph of a river delta and return it annotated.",
     "arrival_time": 14, "output_words": 100, "trans_time": 8, "deadline": 45},
    {"label": "Task 5", "prompt": "Compare three ways to keep patient records in a rural clinic whose network often "
     "fails, and recommend one.",
     "arrival_time": 19, "output_words": 800, "trans_time": 4, "deadline": 55},
]

# CBC computes in floating point: of the time that a schedule spans, it is trusted to the first, a task, and not at all
# where the shortest length is below the second.
SOLVER_TOLERANCE, SOLVER_RANGE = 1e-8, 1e-7
WRONG_PULP = ("3.0.0", "3.0.1")  # they build wrong constraints

# arrival, computation, transmission and deadline of each task: lists of whole microseconds
Case = namedtuple("Case", "a p q d link objective")


def schedule(tasks, link=LINK, objective=OBJECTIVE, time_limit=TIME_LIMIT):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time.

    attrs of the result: transmission_order; metrics (objective, proven_optimal, lower_bound in s); summary.
    """
    objective = common.find_name(objective, ("makespan", "turnaround"), "OBJECTIVE")
    common.check_number(time_limit, "TIME_LIMIT")
    version = pulp.__version__ if pulp else None
    common.require(version not in WRONG_PULP, f"PuLP {version} builds wrong constraints: install another release, "
                                              "pip install 'pulp!=3.0.0,!=3.0.1'")
    labels = tasks["label"].tolist()
    times = tasks[["arrival_time", "computation_time", "trans_time", "deadline"]]
    case = Case(*times.to_numpy().T.tolist(), link, objective)

    # The orders in which results leave under the policies: the best of them is where the search begins.
    orders = {}
    for policy in (FCFS, SRTF, LLF, ADSA):
        result, _ = common.simulate(tasks, policy.schedule(tasks), link)
        orders[policy.__name__] = result["completion_time"].argsort(kind="stable").tolist()
    order, fewest, bound = solve(case, list(orders.values()), time.monotonic() + time_limit)

    proven = is_proven(case, order, fewest, bound)
    per = common.US if objective == "makespan" else common.US * len(labels)
    summary = [describe(case, order, fewest, bound)]
    if not proven and len(labels) > MAX_TASKS:
        policy = next(name for name in orders if orders[name] == order)
        summary.append(f"the integer program is limited to {MAX_TASKS} tasks: this is the order of {policy}, "
                       "the best of FCFS, SRTF, LLF and ADSA")
    completed = completions(case, order)
    late = [label for label, t, due in zip(labels, completed, case.d) if t > due]
    if late:
        unavoidable = "not all deadlines can be met; " if fewest else ""
        more = f" and {len(late) - 10} more" if len(late) > 10 else ""
        summary.append(f"{unavoidable}late: {', '.join(late[:10])}{more}")

    intervals = common.interval_table(tasks, serve_in_order(case, order))
    intervals.attrs["transmission_order"] = [labels[j] for j in order]
    intervals.attrs["summary"] = summary
    intervals.attrs["metrics"] = {
        "objective": objective, "proven_optimal": proven, "lower_bound": round(bound / per, 6)}
    return intervals


def describe(case, order, fewest, bound):
    """One line: what an order costs, and what is proven of it."""
    n = len(order)
    missed, value = cost(case, order)
    name, per = ("makespan", common.US) if case.objective == "makespan" else ("mean turnaround", common.US * n)
    if is_proven(case, order, fewest, bound):
        to = f" to {math.ceil((value - bound) / per * common.US) / common.US:.6f} s" if value > bound else ""
        return f"optimal{to}: {missed} of {n} deadlines missed, then {name} {value / per:.3f} s"
    if missed > fewest:
        where, gap = "missed deadlines", (missed - fewest) / missed
    else:
        where, gap = name, (value - bound) / value
    return (f"best found, gap {100 * gap:.2f} % in {where}: {missed} of {n} deadlines missed (at least {fewest}), "
            f"then {name} {value / per:.3f} s (at least {bound / per:.3f} s)")


def solve(case, orders, stop):
    """The best order of a case, from those at hand on, and what is proven, until the clock says `stop`.

    Returns the order, the fewest misses that any order could have, and the least objective (microseconds) of those
    that have no more misses than this one.
    """
    best = cheapest(case, orders)
    fewest = certainly_missed(case)
    bound = lower_bound(case)
    if len(case.a) > MAX_TASKS or cost(case, best) == (fewest, bound):
        return best, fewest, bound

    # Busy periods bound the whole, and make it up if no transmission reaches into the next one.
    by_arrival = sorted(best, key=lambda j: case.a[j])
    in_turn = pick(case, by_arrival)
    parts = [by_arrival[first:end] for first, end in ADSA.busy_periods(in_turn.a, in_turn.p)]
    if len(parts) == 1:
        return search(case, best, stop)
    joined, fewest, bound = solve_parts(case, parts, orders, stop)
    best = cheapest(case, [best, joined])
    if is_proven(case, best, fewest, bound):
        return best, fewest, bound
    return search(case, best, stop, fewest)


def solve_parts(case, parts, orders, stop):
    """The orders of the parts of a case, each searched by itself, and what is proven of their sum."""
    joined, fewest, bound = [], 0, 0
    for part in parts:
        case_of_part = pick(case, part)
        if case.objective == "makespan" and part is not parts[-1]:
            case_of_part = case_of_part._replace(objective="deadlines")  # T_end is that of the last part
        place = {j: k for k, j in enumerate(part)}
        orders_of_part = [[place[j] for j in order if j in place] for order in orders]

        order, least_missed, least = search(case_of_part, cheapest(case_of_part, orders_of_part), stop)
        joined += [part[k] for k in order]
        fewest += least_missed
        bound += least  # nothing but deadlines: 0
    return joined, fewest, bound


def search(case, best, stop, fewest=0):
    """As solve, from one order on: by moves, the programs and, if tasks are few, all orders. `fewest`: of misses, what
    the parts have proven."""
    known = max(fewest, certainly_missed(case)), lower_bound(case)
    if cost(case, best) == known:
        return (best, *known)
    best = improve(case, best, stop)
    is_short = len(case.a) <= MAX_EXACT
    if solver_resolves(case) or not is_short:
        best, *known = ask_solver(case, best, *known, fewest, stop)
    if is_short:  # whatever the solver says; its order stays where none is better
        best = find_better(case, cost(case, best)) or best
        known = cost(case, best)
    return (best, *known)


def ask_solver(case, best, fewest, bound, fewest_of_parts, stop):
    """As search, by the integer programs."""
    find_cbc()  # else nothing is begun
    is_trusted = solver_resolves(case)

    def left():
        return max(0, stop - time.monotonic())

    def better(order):
        return cheapest(case, [best, improve(case, order, stop)]) if order else best

    # Which tasks to give up is a good start, even if it is known how many.
    if cost(case, best)[0] > fewest_of_parts and left():
        claimed, given_up = fewest_missed(case, left())
        best = better(sorted(best, key=lambda j: (j in given_up, case.d[j] - case.q[j])))
        if is_trusted and claimed <= cost(case, best)[0]:
            fewest = max(fewest, claimed)

    # Is there an order with no more misses than are known to be needed? If not, one more is needed.
    while cost(case, best)[0] > fewest and left():
        status, order = find_on_time(case, fewest, left())
        best = better(order)
        if status != "infeasible" or not is_trusted:
            break
        fewest += 1

    # The least objective with so many misses.
    missed, value = cost(case, best)
    if value > bound and left():
        order, claimed = find_least(case, missed, left(), best)
        best = better(order)
        if is_trusted:
            bound = max(bound, min(claimed, cost(case, best)[1]))
    return best, fewest, bound


def improve(case, order, stop):
    """The order after moving single tasks for as long as that makes it better, or until the clock says `stop`."""
    least = cost(case, order)
    improved = True
    while improved:
        improved = False
        for i in range(len(order)):
            for k in range(len(order)):
                moved = order[:i] + order[i + 1:]
                moved.insert(k, order[i])
                new = cost(case, moved)
                if new < least:
                    least, order, improved = new, moved, True
            if time.monotonic() > stop:
                return order
    return order


# What an order costs --------------------------------------------------------------------------------------------------


def cheapest(case, orders):
    return min(orders, key=lambda order: cost(case, order))


def cost(case, order):
    """(missed deadlines, T_end or sum of turnaround times in microseconds): less is better."""
    completed = completions(case, order)
    missed = sum(t > due for t, due in zip(completed, case.d))
    if case.objective == "deadlines":
        return missed, 0
    if case.objective == "makespan":
        return missed, max(completed)
    return missed, sum(completed) - sum(case.a)


def completions(case, order):
    """Completion time of each task if processor and uplink serve in this order."""
    computed = {j: end for j, _, end in serve_in_order(case, order)}  # a task's last run counts
    completed = [0] * len(order)
    free = 0
    for j in order:
        ready = max(computed[j], free) if case.link == "shared" else computed[j]
        free = completed[j] = ready + case.q[j]
    return completed


def serve_in_order(case, order):
    """Runs (task, start, end) of the processor if tasks earlier in the order preempt later ones."""
    position = {j: k for k, j in enumerate(order)}
    arriving = sorted(order, key=lambda j: -case.a[j])  # the next one last
    remaining = list(case.p)
    runs, ready, now = [], [], 0  # ready: heap of positions
    while arriving or ready:
        if not ready:
            now = max(now, case.a[arriving[-1]])
        while arriving and case.a[arriving[-1]] <= now:
            heapq.heappush(ready, position[arriving.pop()])
        j = order[ready[0]]
        end = now + remaining[j]
        if arriving:
            end = min(end, case.a[arriving[-1]])
        runs.append((j, now, end))
        remaining[j] -= end - now
        if remaining[j] == 0:
            heapq.heappop(ready)
        now = end
    return runs


def pick(case, some):
    """The case of some of its tasks."""
    return Case(*np.array(case[:4])[:, some].tolist(), case.link, case.objective)


def is_proven(case, order, fewest, bound):
    """Whether no order is better than this one, or none by more than the solver tells apart: it may find an order
    too dear by its tolerance, and its bound is lowered by it."""
    missed, value = cost(case, order)
    return missed == fewest and value <= bound + 2 * tolerance(case)


def tolerance(case):
    """Whole microseconds by which the objective may be wrong: of few tasks, none."""
    return 0 if len(case.a) <= MAX_EXACT else math.ceil(SOLVER_TOLERANCE * span(case) * len(case.a))


def solver_resolves(case):
    """Whether lengths and gaps are near enough for the solver's arithmetic."""
    shortest = min((length for length in case.p + case.q if length), default=0)
    return shortest >= SOLVER_RANGE * span(case)


def span(case):
    """No schedule needs longer than this."""
    return max(case.a) - min(case.a) + sum(case.p) + sum(case.q)


# Bounds that hold in whole microseconds -------------------------------------------------------------------------------


def lower_bound(case):
    """Least objective that a schedule could have if deadlines did not matter; microseconds."""
    if case.objective == "deadlines":
        return 0
    if case.objective == "turnaround":  # as if each result left at once, or each task were computed at once
        bound = sum(srpt(case.a, case.p)) + sum(case.q)
        if case.link == "shared":
            bound = max(bound, sum(srpt(soonest_sending(case), case.q)))
        return bound - sum(case.a)

    # As if each result left at once: the longest transmission first is optimal (Jackson 1955).
    tasks = range(len(case.a))
    longest_first = sorted(tasks, key=lambda j: -case.q[j])
    bound = max(completions(case._replace(link="dedicated"), longest_first))
    if case.link == "dedicated":
        return bound

    # As if all that arrives from r on arrived at r: a flow shop of two machines (Johnson 1954).
    order = sorted(tasks, key=lambda j: (0, case.p[j]) if case.p[j] < case.q[j] else (1, -case.q[j]))
    a = np.array(case.a)[order]
    p = np.array(case.p)[order]
    q = np.array(case.q)[order]
    releases = sorted(set(case.a))
    for r in releases[::1 + len(a) // 1000]:  # of a long list, some
        some = a >= r
        to_compute = np.cumsum(p[some])
        to_send = np.cumsum(q[some][::-1])[::-1]
        bound = max(bound, r + int(np.max(to_compute + to_send)))
    return bound


def srpt(release, length):
    """Completion times of shortest remaining time first, ascending: on one machine no schedule has completed k jobs
    before the k-th of them (Schrage 1968)."""
    jobs = pd.DataFrame({"label": range(len(release)), "arrival_time": release, "computation_time": length})
    return sorted(SRTF.schedule(jobs).groupby("label")["end"].max().tolist())


def soonest_sending(case):
    """When the transmission of each task can begin at the soonest."""
    return [a + p for a, p in zip(case.a, case.p)]


def latest_computed(case):
    """When the computation of each task must end at the latest."""
    return [d - q for d, q in zip(case.d, case.q)]


def certainly_missed(case):
    """A lower bound on missed deadlines, in O(n log^2 n).

    Misses of disjoint sets of tasks add up. A task that cannot meet its deadline even alone misses it. Of a set of
    others: whoever meets the deadline has the processor from arrival to deadline - trans_time, the shared uplink from
    arrival + computation to deadline. If each machine had all of the set to do from the set's first release on, every
    schedule would still be one, with the same tasks on time; now one that preempts gains nothing by it, and the fewest
    late are known. Sets: all, and by order of arrival each half, each half of a half, and so on.
    """
    def least(tasks):
        if len(tasks) < 2:
            return 0
        bound = fewest_late([(a, d - q, p) for a, p, q, d in tasks])
        if case.link == "shared":
            bound = max(bound, fewest_late([(a + p, d, q) for a, p, q, d in tasks]))
        half = len(tasks) // 2
        return max(bound, least(tasks[:half]) + least(tasks[half:]))
    hopeful = sorted(task for task in zip(*case[:4]) if sum(task[:3]) <= task[3])
    return len(case.a) - len(hopeful) + least(hopeful)


def fewest_late(jobs):
    """Fewest late jobs (release, due, length) of one machine if all are there from the first release on: by due date,
    and whenever one would be late, the longest so far is given up (Moore 1968)."""
    now = min(jobs)[0]
    kept = []  # heap of lengths, the longest first
    for _, due, length in sorted(jobs, key=lambda job: job[1:]):
        now += length
        heapq.heappush(kept, -length)
        if now > due:
            now += heapq.heappop(kept)
    return len(jobs) - len(kept)


# All orders -----------------------------------------------------------------------------------------------------------


def find_better(case, least):
    """The best order, if it costs less than `least`; else None. In whole microseconds, by dynamic programming over
    sets of tasks: of the orders in which a set can leave first, those are kept that no other is as good as in misses,
    objective and the time from which the uplink is free.
    """
    by_arrival = sorted(range(len(case.a)), key=lambda j: case.a[j])
    everything = 2 ** len(by_arrival) - 1
    kept = {0: [(0, 0, 0, [])]}  # set, as bits: (misses, objective, uplink free, order)
    for some in range(1, everything + 1):
        inside = [j for j in by_arrival if some >> j & 1]
        computed = 0
        for j in inside:
            computed = max(computed, case.a[j]) + case.p[j]

        orders = []
        for last in inside:
            for missed, value, free, order in kept[some - (1 << last)]:
                end = max(computed, free) + case.q[last]
                missed += end > case.d[last]
                if case.objective == "makespan":
                    value = max(value, end)
                elif case.objective == "turnaround":
                    value += end - case.a[last]
                if (missed, value) < least:
                    orders.append((missed, value, end if case.link == "shared" else 0, [*order, last]))

        kept[some] = []
        for one in sorted(orders):
            if not any(other[1] <= one[1] and other[2] <= one[2] for other in kept[some]):
                kept[some].append(one)
    return kept[everything][0][-1] if kept[everything] else None


# The integer programs -------------------------------------------------------------------------------------------------


def fewest_missed(case, seconds):
    """A lower bound on missed deadlines, and the tasks to give up for it; on a dedicated link so few can be missed."""
    problem = pulp.LpProblem("misses", pulp.LpMinimize)
    late = [pulp.LpVariable(f"late_{j}", cat="Binary") for j in range(len(case.a))]
    problem += pulp.lpSum(late)
    add_windows(problem, case, late)
    if problem.constraints and run_cbc(problem, seconds)[0] != "optimal":
        return 0, []
    given_up = [j for j, variable in enumerate(late) if (variable.value() or 0) > 0.5]
    return len(given_up), given_up


def add_windows(problem, case, late):
    """Constraints on late[j], 1 if task j misses its deadline: what is on time fits every window of a machine.

    Of the jobs released at r or later and due at e or earlier, those on time take e - r or less. The processor has a
    job from arrival to deadline - trans_time, the shared uplink from arrival + computation to deadline.
    """
    tasks = range(len(case.a))
    for j in tasks:
        if case.a[j] + case.p[j] + case.q[j] > case.d[j]:
            problem += late[j] >= 1
    machines = [(case.a, latest_computed(case), case.p)]
    if case.link == "shared":
        machines.append((soonest_sending(case), case.d, case.q))
    for release, due, length in machines:
        for r in set(release):
            for e in set(due):
                inside = [j for j in tasks if release[j] >= r and due[j] <= e]
                excess = sum(length[j] for j in inside) - max(0, e - r)
                is_tight = r in [release[j] for j in inside] and e in [due[j] for j in inside]
                if excess > 0 and is_tight:
                    problem += pulp.lpSum(min(1, length[j] / excess) * late[j] for j in inside) >= 1


def find_on_time(case, missed, seconds):
    """Is there an order whose first n - missed tasks are on time? (What is late may as well come last.)

    Returns the status of run_cbc, and the order or None.
    """
    last = len(case.a) - missed
    program = order_program(case._replace(objective="deadlines"), last)
    add_deadlines(program, {}, {}, 0)
    if missed:
        add_misses(program, case, missed, [1 - program.y[j, last] for j in range(len(case.a))])
    status, _ = run_cbc(program.problem, seconds)
    return status, found_order(program, status)


def find_least(case, missed, seconds, start):
    """The least objective of all orders with so many misses or fewer, from the order `start` on, which has so many.

    Returns the order or None, and a lower bound on the objective (whole microseconds).
    """
    n = len(case.a)
    program = order_program(case, n)
    positions = program.positions
    origin = program.origin
    unit = program.unit
    T_end = (max(completions(case, start)) - origin) / unit

    # late[j, k]: task j is the k-th and late, by latest - d[j] at most; late_at[k]: the k-th is late.
    latest = T_end if case.objective == "makespan" else 1000
    may_be_late = [j for j in range(n) if missed and latest > program.case.d[j]]
    late = {(j, k): pulp.LpVariable(f"late_{j}_{k}", 0, 1) for j in may_be_late for k in positions}
    late_at = {k: pulp.LpVariable(f"late_at_{k}", cat="Binary") for k in positions if may_be_late}
    add_deadlines(program, late, late_at, latest)
    if missed:
        lateness = [pulp.lpSum(late[j, k] for k in positions if j in may_be_late) for j in range(n)]
        missed_by = add_misses(program, case, missed, lateness)

    # Every variable is set: the solver begins from the schedule of `start`.
    computed = {j: end for j, _, end in serve_in_order(case, start)}
    now = origin
    for k, j in enumerate(start, 1):
        now = max(now, computed[j])
        is_missed = now + case.q[j] > case.d[j]
        program.S[k].setInitialValue((now - origin) / unit)
        if k < n:
            for i in range(n):
                program.y[i, k].setInitialValue(int(i in start[:k]))
        if may_be_late:
            late_at[k].setInitialValue(int(is_missed))
            for i in may_be_late:
                late[i, k].setInitialValue(int(i == j and is_missed))
        if missed:
            missed_by[j].setInitialValue(int(is_missed))
        if case.link == "shared":
            now += case.q[j]
    program.T_end.setInitialValue(T_end)

    status, bound = run_cbc(program.problem, seconds, warm_start=True)
    if case.objective == "makespan":
        bound = bound * unit + origin
    else:
        bound = bound * unit + n * origin - sum(case.a)
    return found_order(program, status), math.ceil(max(0, bound) - tolerance(case))


# case: its times since `origin`, in units of `unit` microseconds; all else: see order_program
Program = namedtuple("Program", "problem case origin unit positions y z S T_end computed")


def order_program(case, last):
    """The program of the first `last` tasks of an order: any order, and the soonest that processor and uplink allow.

    y[j, k]: task j is among the first k; z[j, k]: it is the k-th. S[k]: the k-th transmission may begin; end[k]: it
    ends. T_end: all have ended. computed[k], sent[k]: no schedule has computed, or sent, k tasks before.
    """
    n = len(case.a)
    tasks = range(n)
    positions = range(1, last + 1)
    origin = min(case.a)
    unit = max(1, span(case)) / 1000  # the solver likes numbers near 1

    def scaled(times):
        return [(t - origin) / unit for t in times]

    computed = dict(enumerate(scaled(srpt(case.a, case.p)), 1))
    sent = dict(enumerate(scaled(srpt(soonest_sending(case), case.q)), 1))
    lengths = {"p": [t / unit for t in case.p], "q": [t / unit for t in case.q]}
    case = case._replace(a=scaled(case.a), d=scaled(case.d), **lengths)

    y = {(j, k): pulp.LpVariable(f"y_{j}_{k}", cat="Binary") for j in tasks for k in positions}
    for j in tasks:
        y[j, 0] = 0
        y[j, n] = 1
    z = {(j, k): y[j, k] - y[j, k - 1] for j in tasks for k in positions}
    S = {k: pulp.LpVariable(f"S_{k}", lowBound=computed[k]) for k in positions}
    end = {k: S[k] + pulp.lpSum(case.q[j] * z[j, k] for j in tasks) for k in positions}
    T_end = pulp.LpVariable("T_end", lowBound=0)

    problem = pulp.LpProblem("order", pulp.LpMinimize)
    objectives = {"makespan": T_end, "turnaround": end.values(), "deadlines": []}
    problem += pulp.lpSum(objectives[case.objective])
    for k in positions:
        # The first k are k tasks, one more than before.
        if k < n:
            problem += pulp.lpSum(y[j, k] for j in tasks) == k
        if k > 1:
            problem += S[k] >= (end[k - 1] if case.link == "shared" else S[k - 1])
            for j in tasks:
                problem += z[j, k] >= 0
        # From a[i] on, if task i is one of them, all of theirs is computed that arrives then or later.
        for i in tasks:
            later = [j for j in tasks if case.a[j] >= case.a[i]]
            surely = k > n - len(later)  # some of them do, whether task i is one or not
            begin = case.a[i] if surely else case.a[i] * y[i, k]
            problem += S[k] >= begin + pulp.lpSum(case.p[j] * y[j, k] for j in later)
        if case.link == "shared":
            problem += end[k] >= sent[k]
        problem += T_end >= end[k]
    return Program(problem, case, origin, unit, positions, y, z, S, T_end, computed)


def add_deadlines(program, late, late_at, latest):
    """Constraints: the k-th task is on time, or late_at[k] is 1 and it ends by `latest`. late[j, k], of the tasks j
    that may be late: task j is the k-th and late."""
    a, p, q, d = program.case[:4]
    problem, z = program.problem, program.z
    may_be_late = sorted({j for j, _ in late})
    for j in range(len(a)):
        for k in program.positions:
            if (j, k) in late:
                problem += late[j, k] <= z[j, k]
            if max(program.computed[k], a[j] + p[j]) + q[j] > d[j] + 1e-6:
                problem += z[j, k] <= late.get((j, k), 0)
    for k in program.positions:
        lateness = program.S[k] + pulp.lpSum((q[j] - d[j]) * z[j, k] for j in range(len(a)))
        problem += lateness <= pulp.lpSum((latest - d[j]) * late[j, k] for j in may_be_late)
        if may_be_late:
            problem += late_at[k] == pulp.lpSum(late[j, k] for j in may_be_late)


def add_misses(program, case, missed, lateness):
    """Constraints: so many misses at most. lateness[j]: an expression that is 1 if task j is late. Returns a variable
    equal to each."""
    problem = program.problem
    missed_by = [pulp.LpVariable(f"missed_by_{j}", 0, 1) for j in range(len(lateness))]
    for variable, late in zip(missed_by, lateness):
        problem += variable == late
    problem += pulp.lpSum(missed_by) <= missed
    add_windows(problem, case, missed_by)
    return missed_by


def found_order(program, status):
    """The order that a program has found, or None: a task comes the sooner, the more of its y are 1."""
    if status not in ("optimal", "feasible"):
        return None
    tasks = range(len(program.case.a))
    among = [sum(pulp.value(program.y[j, k]) for k in program.positions) for j in tasks]
    return sorted(tasks, key=lambda j: -among[j])


# The solver -----------------------------------------------------------------------------------------------------------


def run_cbc(problem, seconds, warm_start=False):
    """Solves a PuLP problem with CBC, which comes with PuLP; from the values of its variables, if `warm_start`.

    Sets the variables if it finds a solution. Returns "optimal", "feasible", "infeasible" or "unknown", and a lower
    bound on the objective (-infinity: none). It starts CBC itself: PuLP would not end CBC when interrupted, and splits
    the name of the temporary folder at spaces.
    """
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder, sigterm_as_exit():
            columns = problem.writeMPS(os.path.join(folder, "problem"), rename=1)[1]  # variable: its column
            command = [find_cbc(), "problem"]
            if warm_start:
                write_start(os.path.join(folder, "start"), problem, columns)
                command += ["-mips", "start"]
            command += ["-sec", str(seconds), "-timeMode", "elapsed", "-solve"]
            command += ["-printingOptions", "all", "-solution", "solution"]
            log = subprocess.run(command, check=True, cwd=folder, encoding="utf-8", errors="replace",
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
            with open(os.path.join(folder, "solution")) as file:
                outcome, *rows = file.read().splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        if time.monotonic() - began >= seconds:  # CBC may crash where its time ends while it prepares
            return "unknown", -math.inf
        raise common.UserError(f"the solver CBC failed: {error}") from error

    if outcome.startswith("Optimal"):
        set_variables(problem, columns, rows)
        return "optimal", pulp.value(problem.objective) or 0
    if re.match(r"Stopped on \w+ - objective", outcome):
        set_variables(problem, columns, rows)
        return "feasible", logged_bound(log)
    if re.match(r"Infeasible|Integer infeasible", outcome) and time.monotonic() - began < seconds:
        return "infeasible", -math.inf
    return "unknown", logged_bound(log)


def find_cbc():
    """Path of the CBC that comes with PuLP. UserError unless both are there and it may be executed."""
    common.require(pulp, "optimal.py needs the package pulp")
    name = pulp.PULP_CBC_CMD.pulp_cbc_path
    path = shutil.which(name)
    common.require(path or os.path.exists(name), "the solver CBC is not installed")
    common.require(path, f"the solver CBC may not be executed: {name}")
    return os.path.abspath(path)


@contextlib.contextmanager
def sigterm_as_exit():
    """Meanwhile SIGTERM raises SystemExit, at which subprocess.run ends CBC as it does on Ctrl-C, and its folder goes.

    Only a main thread may say what a signal does, and one that says so already is left alone.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write_start(path, problem, columns):
    """Writes the values of the variables as CBC reads them: under a title, number, column, value and reduced cost."""
    values = {variable.name: variable.value() or 0 for variable in problem.variables()}
    with open(path, "w") as file:
        print("Stopped on time - objective value 0", file=file)
        for k, (name, column) in enumerate(columns.items()):
            print(k, column, values[name], 0, file=file)


def set_variables(problem, columns, rows):
    """Sets the variables to a solution of CBC: rows of number, column, value and reduced cost."""
    values = {}
    for row in rows:
        _, column, value, _ = row.replace("**", "").split()  # ** marks what its tolerance allows
        values[column] = float(value)
    for variable in problem.variables():
        variable.varValue = values[columns[variable.name]]


def logged_bound(log):
    """The lower bound that the log of CBC names, less what it may be rounded up by; -infinity, if it names none."""
    found = re.search(r"^Lower bound: +(\S+)", log, re.MULTILINE)
    if not found:
        return -math.inf
    bound = Decimal(found[1])
    return float(bound - Decimal(10) ** bound.as_tuple().exponent)


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT,
                         objective=OBJECTIVE, time_limit=TIME_LIMIT)
