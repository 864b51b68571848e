"""Optimal schedule: fewest missed deadlines, then least makespan or mean turnaround time, by a search over orders.

    python optimal.py
    python optimal.py --objective turnaround --time-limit 10
    python optimal.py --tasks my_tasks.csv --link dedicated

Computation is preemptive; the order in which results leave is free. Once that order is fixed, serving the processor
in the same order is best: it ends every prefix of the order as early as can be. So an order is looked for, not times,
and the schedule is rebuilt by simulating the order found. Before it, bounds: if a schedule at hand meets one, nothing
is left to search. Then dynamic programming over the sets of tasks that leave first (Held and Karp 1962), in whole
microseconds; what it leaves open, an integer program takes on.

"optimal" is proven in whole microseconds; "optimal to 0.000012 s" by a solver that computes in floating point, to that
tolerance; "best found" is not proven, and its gap is that to the bounds.
"""
import heapq
import math
import os
import re
import tempfile
import time
from collections import namedtuple
from dataclasses import dataclass

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

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go
OBJECTIVE = "makespan"  # after the deadlines: "makespan" (T_end) or "turnaround" (its mean)
TIME_LIMIT = 60  # s for the search
MAX_TASKS = 60  # above, only bounds and the best policy
WIDTHS = (100, 1000, 10000, 100000)  # how many beginnings of orders the search keeps: ever more

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
FAR = 2 ** 62  # microseconds
SPAN = 1000  # units of time that its programs span: it likes numbers near 1
WRONG_PULP = ("3.0.0", "3.0.1")  # build wrong constraints

# arrival, computation, transmission and deadline of each task: lists of whole microseconds
Case = namedtuple("Case", "a p q d link objective")


def schedule(tasks, link=LINK, objective=OBJECTIVE, time_limit=TIME_LIMIT):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time.

    attrs of the result: transmission_order; metrics (objective, proven_optimal, lower_bound in s); summary.
    """
    objective = common.find_name(objective, ("makespan", "turnaround"), "OBJECTIVE")
    time_limit = common.check_number(time_limit, "TIME_LIMIT")
    labels = tasks["label"].tolist()
    first = tasks["arrival_time"].min()  # times count from it
    times = [tasks["arrival_time"] - first, tasks["computation_time"], tasks["trans_time"], tasks["deadline"] - first]
    case = Case(*map(list, times), link, objective)

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
        summary.append(f"the search is limited to {MAX_TASKS} tasks: this is the order of {policy}, "
                       "the best of FCFS, SRTF, LLF and ADSA")
    completed = completions(case, order)
    late = [label for label, t, due in zip(labels, completed, case.d) if t > due]
    if late:
        unavoidable = "not all deadlines can be met; " if fewest else ""
        more = f" and {len(late) - 10} more" if len(late) > 10 else ""
        summary.append(f"{unavoidable}late: {', '.join(late[:10])}{more}")

    runs = [(j, first + start, first + end) for j, start, end in serve_in_order(case, order)]
    intervals = common.interval_table(tasks, runs)
    intervals.attrs["transmission_order"] = order
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
    if len(parts) > 1:
        joined, fewest, bound = solve_parts(case, parts, orders, stop)
        best = cheapest(case, [best, joined])
        if cost(case, best) == (fewest, bound):
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
    """As solve, from one order on. `fewest`: misses that are known to be needed."""
    fewest = max(fewest, certainly_missed(case))
    bound = lower_bound(case)
    if cost(case, best)[0] > fewest:
        deadlines = case._replace(objective="deadlines")
        on_time, fewest, _ = widen(deadlines, best, fewest, 0, stop)
        best = cheapest(case, [best, on_time])
    best, fewest, bound = widen(case, best, fewest, bound, stop)
    missed, value = cost(case, best)
    if missed == fewest and value > bound and solver_resolves(case) and time.monotonic() < stop:
        claimed, found = find_least(case, best, stop)
        best = cheapest(case, [best, *found])
        bound = max(bound, min(claimed, cost(case, best)[1]))
    return best, fewest, bound


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
    """Whole microseconds by which the solver's bound may be wrong."""
    return math.ceil(SOLVER_TOLERANCE * span(case) * len(case.a))


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


# The search -----------------------------------------------------------------------------------------------------------


def widen(case, best, fewest, bound, stop):
    """As search, by sweeps that keep more and more beginnings, until one leaves out none that could be better."""
    for width in WIDTHS:
        if cost(case, best) == (fewest, bound) or time.monotonic() > stop:
            break
        order, missed, value = sweep(case, cost(case, best), width, stop)
        best = cheapest(case, [best, order])
        fewest = max(fewest, min(missed, cost(case, best)[0]))
        bound = max(bound, min(value, cost(case, best)[1]))
    return best, fewest, bound


@dataclass
class Beginnings:
    """Beginnings of orders, all of equally many tasks. sent[b, j]: beginning b has task j. free: from then on the
    uplink is; missed, value: the cost so far."""
    sent: np.ndarray
    free: np.ndarray
    missed: np.ndarray
    value: np.ndarray


def sweep(case, least, width, stop):
    """An order, the best if it costs less than `least`; and misses and objective of what was left out, at least.

    Dynamic programming over sets of tasks, in whole microseconds: from all beginnings of k tasks to those of k + 1.
    Given up are those that cannot cost less than `least`, and those that another is as good as; left out, beyond
    `width`, the least promising. Where only deadlines count, what would be late may as well come last: it is not sent.
    """
    n = len(case.a)
    by_arrival = sorted(range(n), key=lambda j: case.a[j])
    case = Case(*np.array(case[:4], "int64")[:, by_arrival], case.link, case.objective)
    soonest = np.array(srpt(case.a, case.p), "int64")
    zero = np.zeros(1, "int64")
    kept = Beginnings(np.zeros((1, n), bool), zero, zero, zero)
    steps = []
    left_out = n, FAR
    while len(steps) < n:
        # When each task could be sent next; what is late then is late whenever it is sent.
        reached, begin = next_begin(case, kept)
        is_late = (begin + case.q > case.d) & ~kept.sent
        missed = kept.missed + is_late.sum(axis=1)
        value = least_value(case, kept, begin, soonest[len(steps):])
        can_be_less = (missed < least[0]) | (missed == least[0]) & (value < least[1])

        # Each beginning b goes on with each task j.
        may_come = ~(kept.sent | is_late) if case.objective == "deadlines" else ~kept.sent
        b, j = np.nonzero(may_come & can_be_less[:, None])
        if len(b) == 0:
            break
        end = begin[b, j] + case.q[j]
        longer = Beginnings(kept.sent, end, kept.missed[b] + is_late[b, j], kept.value[b])
        if case.objective == "turnaround":
            longer.value = longer.value + end - case.a[j]
        elif case.objective == "makespan":
            longer.value = np.maximum(longer.value, end)
        if case.link == "dedicated":
            longer.free = np.zeros_like(end)

        # The best of them are kept.
        some = undominated(case, longer, b, j, may_come, reached)
        if len(some) > width:
            some = some[np.lexsort((longer.free[some], value[b[some]], missed[b[some]]))]
        is_over = time.monotonic() > stop
        cut = b[some[0 if is_over else width:]]
        if len(cut) > 0:
            left_out = min(left_out[0], int(missed[cut].min())), min(left_out[1], int(value[cut].min()))
        if is_over:
            break
        some = some[:width]
        sent = kept.sent[b[some]]
        sent[np.arange(len(some)), j[some]] = True
        kept = Beginnings(sent, longer.free[some], longer.missed[some], longer.value[some])
        steps.append((b[some], j[some]))

    # The order of the best, backwards; what it does not send comes last.
    best = np.lexsort((kept.value, kept.missed))[0]
    order = []
    for b, j in reversed(steps):
        order.insert(0, by_arrival[j[best]])
        best = b[best]
    return (order + [j for j in by_arrival if j not in order], *left_out)


def next_begin(case, kept):
    """When the processor has done, of each beginning, all that arrives up to each task, and when the task could be sent
    if it came next."""
    load = np.cumsum((kept.sent * case.p)[:, ::-1], axis=1)[:, ::-1]  # of what arrives with the task or later
    reached = np.maximum.accumulate(case.a + load, axis=1)
    done = np.where(kept.sent, case.a + load, 0).max(axis=1)
    begin = np.maximum(reached + case.p, done[:, None])
    if case.link == "shared":
        begin = np.maximum(begin, kept.free[:, None])
    return reached, begin


def least_value(case, kept, begin, soonest):
    """The objective of each beginning in the end, at least. soonest: no schedule has computed the next task, and the
    others after it, before these."""
    to_send = (~kept.sent * case.q).sum(axis=1)
    if case.objective == "turnaround":
        in_turn = np.sort(np.where(kept.sent, FAR, begin), axis=1)[:, :len(soonest)]
        arrivals = (~kept.sent * case.a).sum(axis=1)
        return kept.value + np.maximum(in_turn, soonest).sum(axis=1) + to_send - arrivals
    if case.objective == "makespan" and case.link == "shared":
        last = soonest[-1] + np.where(kept.sent, FAR, case.q).min(axis=1)
        return np.maximum(kept.free + to_send, last)
    if case.objective == "makespan":
        return np.maximum(kept.value, np.where(kept.sent, 0, begin + case.q).max(axis=1))
    return kept.value


def undominated(case, longer, b, j, may_come, reached):
    """Indices of the beginnings that go on, b with j, but those that another is as good as.

    Two are compared that have the same to come. If only deadlines count, what is sent may differ where it arrives no
    later than the first task to come: of it matters when the processor has done it.
    """
    bits = 2 ** np.arange(len(case.a), dtype="int64")
    to_come = (may_come @ bits)[b] - bits[j]
    sent = (longer.sent @ bits)[b] + bits[j]
    first_bit = np.where(to_come, to_come & -to_come, bits[-1])
    first = np.searchsorted(bits, first_bit)
    later = sent // first_bit // 2
    done = np.maximum(reached[b, first], reached[b, np.minimum(first, j)] + case.p[j])
    price = done if case.objective == "deadlines" else longer.value

    order = np.lexsort((longer.free, price, longer.missed, later, to_come))
    kind = np.array([to_come, later, longer.missed])[:, order]
    is_first = np.append(True, (kind[:, 1:] != kind[:, :-1]).any(axis=0))
    # Of a kind, by price: one whose uplink is free no sooner than that of all before it goes.
    rank = np.unique(longer.free[order], return_inverse=True)[1] - len(order) * np.cumsum(is_first)
    is_sooner = np.append(True, rank[1:] < np.minimum.accumulate(rank)[:-1])
    return order[is_sooner]


# The integer program --------------------------------------------------------------------------------------------------


def find_least(case, start, stop):
    """The least objective of all orders with no more misses than the order `start`, from which the solver begins.

    Returns a lower bound on it (whole microseconds), and a list with the order, if one is found.
    """
    check_pulp()
    n = len(case.a)
    program = order_program(case)
    add_deadlines(program, start)
    set_start(program, start)
    bound = run_cbc(program.problem, stop, warm_start=True) * unit(case)
    if case.objective == "makespan":
        bound += min(case.a)
    else:
        bound += n * min(case.a) + sum(case.q) - sum(case.a)

    found = []
    if program.problem.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        # A task comes the sooner, the more of its y are 1.
        among = [sum(pulp.value(program.y[k][j]) for k in program.S) for j in range(n)]
        found.append(sorted(range(n), key=lambda j: -among[j]))
    return math.ceil(max(0, bound) - tolerance(case)), found


@dataclass
class Program:
    """The program of an order. y[k][j]: task j is among the first k; z[k][j]: it is the k-th. S[k]: the k-th
    transmission may begin. late[j]: task j may be late."""
    problem: object
    case: Case
    y: dict
    z: dict
    S: dict
    late: list


def order_program(case):
    """The program of any order, and the soonest that processor and uplink allow."""
    n = len(case.a)
    tasks = range(n)
    positions = range(1, n + 1)
    a = in_units(case, case.a)
    p = [t / unit(case) for t in case.p]
    q = [t / unit(case) for t in case.q]
    computed = in_units(case, srpt(case.a, case.p))
    sent = in_units(case, srpt(soonest_sending(case), case.q))

    y = {k: [pulp.LpVariable(f"y_{j}_{k}", cat="Binary") for j in tasks] for k in positions}
    y[0] = [0] * n
    y[n] = [1] * n
    z = {k: [y[k][j] - y[k - 1][j] for j in tasks] for k in positions}
    S = {k: pulp.LpVariable(f"S_{k}", lowBound=computed[k - 1]) for k in positions}
    T_end = pulp.LpVariable("T_end", lowBound=0)
    problem = pulp.LpProblem("order", pulp.LpMinimize)
    problem += T_end if case.objective == "makespan" else pulp.lpSum(S.values())

    before = 0  # when the k-th transmission may begin at the soonest, by the one before it
    for k in positions:
        # The first k are k tasks.
        if k < n:
            problem += pulp.lpSum(y[k]) == k
        # From a[i] on, if task i is one of them, all of theirs is computed that arrives then or later.
        for i in tasks:
            later = [j for j in tasks if a[j] >= a[i]]
            surely = k > n - len(later)  # some of them do, whether task i is one or not
            begin = a[i] if surely else a[i] * y[k][i]
            problem += S[k] >= begin + pulp.lpSum(p[j] * y[k][j] for j in later)
        # One after another; no schedule has sent k tasks before the k-th of `sent`.
        end = S[k] + pulp.lpSum(q[j] * z[k][j] for j in tasks)
        problem += S[k] >= before
        problem += T_end >= end
        before = S[k]
        if case.link == "shared":
            problem += end >= sent[k - 1]
            before = end
    return Program(problem, case, y, z, S, late=[])


def add_deadlines(program, start):
    """Constraints: no more tasks are late than in the order `start`, nor is one later than the last of it, where that
    is what counts."""
    case = program.case
    missed = cost(case, start)[0]
    latest = max(in_units(case, completions(case, start))) if case.objective == "makespan" else SPAN
    soonest = in_units(case, soonest_sending(case))
    q = [t / unit(case) for t in case.q]
    d = in_units(case, case.d)
    tasks = range(len(d))
    places = []  # places[k - 1][j]: task j is the k-th and late
    for k, S in program.S.items():
        z = program.z[k]
        late = [pulp.LpVariable(f"late_{j}_{k}", 0, 1) if missed else 0 for j in tasks]
        for j in tasks:
            if max(S.lowBound, soonest[j]) + q[j] > d[j] + 1e-6:
                program.problem += z[j] <= late[j]
            program.problem += z[j] >= late[j]
        lateness = S + pulp.lpSum((q[j] - d[j]) * z[j] for j in tasks)
        program.problem += lateness <= pulp.lpSum((latest - d[j]) * late[j] for j in tasks)
        places.append(late)
    for j, place in enumerate(zip(*places)):
        program.late.append(pulp.LpVariable(f"late_{j}", cat="Binary"))
        program.problem += program.late[j] == pulp.lpSum(place)
    program.problem += pulp.lpSum(program.late) <= missed


def set_start(program, order):
    """Sets the binaries to an order, from which the solver begins; the rest follows from them."""
    case = program.case
    if case.link == "dedicated":  # what is computed sooner is sent sooner
        computed = {j: end for j, _, end in serve_in_order(case, order)}
        order = sorted(order, key=computed.get)
    for k in range(1, len(order)):
        for j, among in enumerate(program.y[k]):
            among.setInitialValue(int(j in order[:k]))
    for late, completed, due in zip(program.late, completions(case, order), case.d):
        late.setInitialValue(int(completed > due))


def in_units(case, times):
    """Times since the first arrival, in units of which no schedule needs more than SPAN."""
    return [(t - min(case.a)) / unit(case) for t in times]


def unit(case):
    return max(1, span(case)) / SPAN


# The solver -----------------------------------------------------------------------------------------------------------


def check_pulp():
    """UserError unless PuLP is there, in a release that brings CBC and builds right constraints."""
    common.require(pulp, "optimal.py needs the package pulp: pip install 'pulp<4'")
    is_usable = hasattr(pulp, "PULP_CBC_CMD") and pulp.__version__ not in WRONG_PULP
    common.require(is_usable, f"optimal.py cannot use PuLP {pulp.__version__}: pip install 'pulp<4,!=3.0.0,!=3.0.1'")


def run_cbc(problem, stop, warm_start=False):
    """Solves a program with the CBC that comes with PuLP until the clock says `stop`; from the values of its variables,
    if `warm_start`. Returns a lower bound on the objective (-infinity: none)."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        seconds = max(0, stop - time.monotonic())
        solver = pulp.PULP_CBC_CMD(msg=False, timeLimit=seconds, warmStart=warm_start, logPath=log)
        solver.tmpDir = folder  # an interrupt leaves nothing
        try:
            problem.solve(solver)
        except pulp.PulpSolverError as error:
            if time.monotonic() < stop:  # else: CBC may crash where its time ends while it prepares
                raise common.UserError(f"the solver CBC failed: {error}") from error
        with open(log) as file:
            bound = re.search("^Lower bound: +(.+)", file.read(), re.MULTILINE)
    if problem.sol_status == pulp.LpSolutionOptimal:  # of a proof, the only sign
        return pulp.value(problem.objective)
    return float(bound[1]) - 0.001 if bound else -math.inf  # it is rounded to three digits


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT,
                         objective=OBJECTIVE, time_limit=TIME_LIMIT)
