"""Optimal schedule: fewest missed deadlines, then least makespan or mean turnaround time, as an integer program.

    python optimal.py
    python optimal.py --objective turnaround --time-limit 10
    python optimal.py --tasks my_tasks.csv --link dedicated

Computation is preemptive; the order in which results leave is free. Once that order is fixed, serving the processor
in the same order is best: it ends every prefix of the order as early as can be. So the program looks for an order,
not for times, and the schedule is rebuilt by simulating the order it finds. Before it, bounds: if a schedule at hand
meets one, nothing is left to solve.
"""
import heapq
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import namedtuple

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
TIME_LIMIT = 60  # s for the exact program
SOLVER = "CBC"  # comes with PuLP; or "HiGHS", where highspy is installed
MAX_TASKS = 60  # the exact program has n^2 binaries: above, only bounds and the best policy

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

# arrival, computation, transmission and deadline of each task: lists of whole microseconds
Case = namedtuple("Case", "a p q d link objective")


def serve_in_order(case, order):
    """Runs (task, start, end) of the processor if tasks earlier in the order preempt later ones."""
    position = {j: k for k, j in enumerate(order)}
    arriving, remaining = sorted(order, key=lambda j: case.a[j]), list(case.p)
    n, i, now, runs, ready = len(order), 0, 0, [], []  # i: next to arrive; ready: heap of positions
    while i < n or ready:
        if not ready:
            now = max(now, case.a[arriving[i]])
        while i < n and case.a[arriving[i]] <= now:
            heapq.heappush(ready, position[arriving[i]])
            i += 1
        k = heapq.heappop(ready)
        start, now = now, now + remaining[order[k]]
        while i < n and case.a[arriving[i]] < now and position[arriving[i]] > k:  # arrivals that leave it running
            heapq.heappush(ready, position[arriving[i]])
            i += 1
        if i < n and case.a[arriving[i]] < now:  # this one preempts
            heapq.heappush(ready, k)
            remaining[order[k]] = now - case.a[arriving[i]]
            now = case.a[arriving[i]]
        runs.append((order[k], start, now))
    return runs


def completions(case, order):
    """Completion time of each task if processor and uplink serve in this order."""
    done = [0] * len(order)
    for j, _, end in serve_in_order(case, order):
        done[j] = end
    sent = 0
    for j in order:
        sent = done[j] = (max(done[j], sent) if case.link == "shared" else done[j]) + case.q[j]
    return done


def cost(case, order):
    """(missed deadlines, T_end or sum of turnaround times in microseconds): less is better."""
    done = completions(case, order)
    missed = sum(t > d for t, d in zip(done, case.d))
    if case.objective is None:  # deadlines only
        return missed, 0
    return missed, max(done) if case.objective == "makespan" else sum(done) - sum(case.a)


def improve(case, order, stop):
    """The order after moving single tasks for as long as that makes it better, or until the clock says `stop`."""
    least, improved = cost(case, order), True
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


# Bounds ---------------------------------------------------------------------------------------------------------------


def srpt(release, length):
    """Completion times of shortest remaining time first, ascending: on one machine no schedule has completed k jobs
    before the k-th of them (Schrage 1968)."""
    import pandas as pd
    jobs = pd.DataFrame({"label": range(len(release)), "arrival_time": release, "computation_time": length})
    return sorted(SRTF.schedule(jobs).groupby("label")["end"].max().tolist())


def lower_bound(case):
    """Least objective that a schedule could have if deadlines did not matter; microseconds."""
    import numpy as np
    tasks, shared = range(len(case.a)), case.link == "shared"
    if case.objective is None:
        return 0
    if case.objective == "turnaround":  # as if each result left at once, or each task were computed at once
        bound = sum(srpt(case.a, case.p)) + sum(case.q)
        sent = srpt([case.a[j] + case.p[j] for j in tasks], case.q) if shared else []
        return max(bound, sum(sent)) - sum(case.a)
    # as if each result left at once: the longest transmission first is optimal (Jackson 1955)
    bound = max(completions(case._replace(link="dedicated"), sorted(tasks, key=lambda j: -case.q[j])))
    if shared:  # as if all that arrives from r on arrived at r: a flow shop of two machines (Johnson 1954)
        order = sorted(tasks, key=lambda j: (0, case.p[j]) if case.p[j] < case.q[j] else (1, -case.q[j]))
        a, p, q = (np.array(times)[order] for times in (case.a, case.p, case.q))
        for r in sorted(set(case.a))[::1 + len(a) // 1000]:  # of a long list, some
            some = a >= r
            bound = max(bound, r + int(np.max(np.cumsum(p[some]) + np.cumsum(q[some][::-1])[::-1])))
    return bound


def fewest_late(now, jobs):
    """Fewest late jobs (due, length) of one machine on which all are released at `now`: by due date, and whenever one
    would be late, the longest so far is given up (Moore 1968)."""
    kept = []
    for due, length in sorted(jobs):
        now += length
        heapq.heappush(kept, -length)
        if now > due:
            now += heapq.heappop(kept)
    return len(jobs) - len(kept)


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
        a, p, q, d = zip(*tasks)
        bound = fewest_late(a[0], [(d[j] - q[j], p[j]) for j in range(len(tasks))])
        if case.link == "shared":
            bound = max(bound, fewest_late(min(map(sum, zip(a, p))), list(zip(d, q))))
        half = len(tasks) // 2
        return max(bound, least(tasks[:half]) + least(tasks[half:]))

    hopeful = sorted(task for task in zip(*case[:4]) if sum(task[:3]) <= task[3])
    return len(case.a) - len(hopeful) + least(hopeful)


def window_cuts(case, late):
    """Constraints on late[j], 1 if task j misses its deadline: what is on time fits every window of a machine.

    Of the jobs released at r or later and due at e or earlier, those on time take e - r or less. The processor has a
    job from arrival to deadline - trans_time, the shared uplink from arrival + computation to deadline.
    """
    import pulp
    tasks = range(len(case.a))
    machines = [(case.a, [case.d[j] - case.q[j] for j in tasks], case.p)]
    if case.link == "shared":
        machines.append(([case.a[j] + case.p[j] for j in tasks], case.d, case.q))
    yield from (late[j] >= 1 for j in tasks if case.a[j] + case.p[j] + case.q[j] > case.d[j])
    for release, due, length in machines:
        for r in set(release):
            for e in set(due):
                inside = [j for j in tasks if release[j] >= r and due[j] <= e]
                excess = sum(length[j] for j in inside) - max(0, e - r)
                tight = any(release[j] == r for j in inside) and any(due[j] == e for j in inside)
                if excess > 0 and tight:
                    yield pulp.lpSum(min(1, length[j] / excess) * late[j] for j in inside) >= 1


def fewest_missed(case, seconds, solver):
    """A lower bound on missed deadlines, and the tasks to give up for it (exact where the link is dedicated)."""
    import pulp
    late = [pulp.LpVariable(f"late_{j}", cat="Binary") for j in range(len(case.a))]
    problem = pulp.LpProblem("misses", pulp.LpMinimize)
    problem += pulp.lpSum(late)
    for cut in window_cuts(case, late):
        problem += cut
    if problem.constraints and solve_program(problem, seconds, solver)[0] != "optimal":
        return 0, []
    given_up = [j for j, u in enumerate(late) if (u.value() or 0) > 0.5]
    return len(given_up), given_up


# The program ----------------------------------------------------------------------------------------------------------


def run_cbc(problem, engine):
    """Solves a PuLP problem with CBC; returns the lower bound on its objective that the log of CBC names.

    PuLP starts CBC and waits for it, and would leave it running when interrupted: here it is ended, on SIGTERM as on
    Ctrl-C, and its files go. Only a main thread may say what a signal does, and one that says so already is left alone.
    """
    from_default = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    if from_default:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory() as folder:
            engine.tmpDir = folder
            engine.optionsDict["logPath"] = log = os.path.join(folder, "log")
            try:
                problem.solve(engine)
            except BaseException as error:
                for frame, _ in traceback.walk_tb(error.__traceback__):  # PuLP's function that started it is among them
                    for value in list(frame.f_locals.values()):
                        if isinstance(value, subprocess.Popen) and value.pid:
                            value.kill()
                            value.wait()
                traceback.clear_frames(error.__traceback__)  # closes the log: Windows removes no open file
                raise
            with open(log) as file:
                found = re.search(r"^Lower bound: +(\S+)", file.read(), re.MULTILINE)
            return float(found.group(1)) if found else -math.inf
    finally:
        if from_default:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def solve_program(problem, seconds, solver, start=False):
    """Solves a PuLP problem, from the values of its variables if `start`. Returns "optimal", "feasible", "infeasible"
    or "unknown", and a lower bound on its objective. Only this and run_cbc know the solvers."""
    import pulp
    began = time.monotonic()
    if solver == "CBC":
        engine = pulp.PULP_CBC_CMD(msg=False, timeLimit=seconds, warmStart=start)
    else:
        engine = pulp.HiGHS(msg=False, timeLimit=seconds)
    if not engine.available():
        raise common.UserError(f"the solver {solver} is not installed")
    try:
        if solver == "CBC":
            bound = run_cbc(problem, engine)
        else:
            problem.solve(engine)
            bound = problem.solverModel.getInfo().mip_dual_bound
    except (pulp.PulpSolverError, OSError) as error:
        if time.monotonic() - began >= seconds:  # CBC may crash where its time ends while it prepares
            return "unknown", -math.inf
        raise common.UserError(f"the solver {solver} failed: {error}") from error
    if problem.sol_status == pulp.LpSolutionOptimal:
        return "optimal", pulp.value(problem.objective) or 0
    if problem.sol_status == pulp.LpSolutionIntegerFeasible:
        return "feasible", bound
    if problem.status == pulp.LpStatusInfeasible and time.monotonic() - began < seconds:
        return "infeasible", math.inf
    return "unknown", bound


def order_program(case, missed, seconds, solver, start=None):
    """Searches all orders with an integer program.

    Without `start`: is there an order whose first n - missed tasks are on time? (What is late may as well come last.)
    With `start`, an order with that many misses: the least objective of all orders that have no more.
    Returns the status of solve_program, the order found or None, and a lower bound on the objective (microseconds).

    y[j][k]: task j is among the first k; z[j][k]: it is the k-th; S[k]: the k-th transmission may begin.
    """
    import pulp
    n, shared, minimise = len(case.a), case.link == "shared", start is not None
    tasks, positions = range(n), range(1, n + 1 if minimise else n - missed + 1)
    last, origin = positions[-1], min(case.a)
    unit = max(1, max(case.a) - origin + sum(case.p) + sum(case.q)) / 1000  # the solver likes numbers near 1

    def scaled(times):
        return [(t - origin) / unit for t in times]

    a, d, p, q = scaled(case.a), scaled(case.d), [t / unit for t in case.p], [t / unit for t in case.q]
    computed = [None] + scaled(srpt(case.a, case.p))  # at the soonest, the k-th
    sent = [None] + scaled(srpt([case.a[j] + case.p[j] for j in tasks], case.q))

    problem = pulp.LpProblem("order", pulp.LpMinimize)
    y = [[0] + [1 if k == n else pulp.LpVariable(f"y_{j}_{k}", cat="Binary") for k in positions] for j in tasks]
    z = [[None] + [y[j][k] - y[j][k - 1] for k in positions] for j in tasks]
    S = [None] + [pulp.LpVariable(f"S_{k}", lowBound=computed[k]) for k in positions]
    end = [None] + [S[k] + pulp.lpSum(q[j] * z[j][k] for j in tasks) for k in positions]
    T_end = pulp.LpVariable("T_end", lowBound=0)
    problem += pulp.lpSum([] if not minimise else T_end if case.objective == "makespan" else end[1:])
    for k in positions:
        if k < n:
            problem += pulp.lpSum(y[j][k] for j in tasks) == k
        if k > 1:
            problem += S[k] >= (end[k - 1] if shared else S[k - 1])
            for j in tasks:
                problem += z[j][k] >= 0
        for i in tasks:  # from a[i] on, the prefix computes all of it that arrives then or later
            later = [j for j in tasks if a[j] >= a[i]]
            surely = k > n - len(later)  # the prefix is longer than what arrives before a[i]
            problem += S[k] >= (a[i] if surely else a[i] * y[i][k]) + pulp.lpSum(p[j] * y[j][k] for j in later)
        if shared:
            problem += end[k] >= sent[k]
        problem += T_end >= end[k]

    # Deadlines. late[j, k]: task j is the k-th and late, by latest - d[j] at most.
    T_end_at_start = scaled([max(completions(case, start))])[0] if minimise else None
    latest = T_end_at_start if case.objective == "makespan" else 1000
    may_be_late = [j for j in tasks if minimise and missed and latest > d[j]]
    late = {(j, k): pulp.LpVariable(f"late_{j}_{k}", 0, 1) for j in may_be_late for k in positions}
    late_at = {k: pulp.LpVariable(f"late_at_{k}", cat="Binary") for k in positions if may_be_late}
    for j in tasks:
        for k in positions:
            if j in may_be_late:
                problem += late[j, k] <= z[j][k]
            if max(computed[k], a[j] + p[j]) + q[j] > d[j] + 1e-6:
                problem += z[j][k] <= late.get((j, k), 0)
    for k in positions:
        slack = pulp.lpSum((latest - d[j]) * late[j, k] for j in may_be_late)
        problem += S[k] + pulp.lpSum((q[j] - d[j]) * z[j][k] for j in tasks) <= slack
        if may_be_late:
            problem += late_at[k] == pulp.lpSum(late[j, k] for j in may_be_late)
    missed_by = [pulp.LpVariable(f"missed_by_{j}", 0, 1) for j in tasks if missed]
    for j, u in enumerate(missed_by):
        lateness = pulp.lpSum(late[j, k] for k in positions if j in may_be_late)
        problem += u == (lateness if minimise else 1 - y[j][last])
    if missed:
        problem += pulp.lpSum(missed_by) <= missed
        for cut in window_cuts(case, missed_by):
            problem += cut

    if minimise:  # set every variable: the solver begins from this schedule
        computed_at = {j: t for j, _, t in serve_in_order(case, start)}
        now = origin
        for k, j in enumerate(start, 1):
            now = max(now, computed_at[j])
            S[k].setInitialValue((now - origin) / unit)
            is_missed = now + case.q[j] > case.d[j]
            if k < n:
                for i in tasks:
                    y[i][k].setInitialValue(int(i in start[:k]))
            for i in may_be_late:
                late[i, k].setInitialValue(int(i == j and is_missed))
            if may_be_late:
                late_at[k].setInitialValue(int(is_missed))
            if missed:
                missed_by[j].setInitialValue(int(is_missed))
            now += case.q[j] if shared else 0
        T_end.setInitialValue(T_end_at_start)
    status, bound = solve_program(problem, seconds, solver, start=minimise)
    bound = bound * unit + (origin if case.objective == "makespan" else n * origin - sum(case.a))
    if status not in ("optimal", "feasible"):
        return status, None, bound
    position = [-sum(pulp.value(y[j][k]) for k in positions) for j in tasks]
    return status, sorted(tasks, key=position.__getitem__), bound


def solve(case, orders, stop, solver):
    """The best order of a case, from those at hand on, and what is proven, until the clock says `stop`.

    Returns the order, the fewest misses that any order could have, and the least objective (microseconds) of those
    that have no more misses than this one.
    """
    best, fewest, bound = min(orders, key=lambda order: cost(case, order)), certainly_missed(case), lower_bound(case)
    if len(case.a) > MAX_TASKS or cost(case, best) == (fewest, bound):
        return best, fewest, bound

    def left():
        return max(0, stop - time.monotonic())

    def better(order):
        return min(best, improve(case, order, stop), key=lambda order: cost(case, order)) if order else best

    by_arrival, add_up = sorted(best, key=lambda j: case.a[j]), case.objective == "turnaround"
    parts = [by_arrival[lo:hi] for lo, hi in ADSA.busy_periods(*(
        [times[j] for j in by_arrival] for times in (case.a, case.p)))]
    joined, total, value = [], 0, 0
    if len(parts) > 1:  # busy periods bound the whole, and make it up if no transmission reaches into the next one
        for part in parts:
            place = {j: k for k, j in enumerate(part)}
            found, misses, least = solve(
                Case(*([times[j] for j in part] for times in case[:4]), case.link,
                     case.objective if add_up or part is parts[-1] else None),
                [[place[j] for j in order if j in place] for order in orders], stop, solver)
            joined += [part[k] for k in found]
            total += misses
            value = least + (value if add_up else 0)
        best, fewest = min(best, joined, key=lambda order: cost(case, order)), max(fewest, total)
        if cost(case, best) == (total, value):
            return best, total, value

    best = better(best)
    if cost(case, best)[0] > total and left():  # even if it is known how many: which to give up is a good start
        misses, given_up = fewest_missed(case, left(), solver)
        fewest = max(fewest, misses)
        best = better(sorted(best, key=lambda j: (j in given_up, case.d[j] - case.q[j])))
    status = "infeasible"
    while cost(case, best)[0] > fewest and status == "infeasible" and left():
        status, order, _ = order_program(case, fewest, left(), solver)
        best = better(order)
        fewest += status == "infeasible"
    missed, value = cost(case, best)
    if value > bound and left():
        status, order, proven = order_program(case, missed, left(), solver, best)
        best = better(order)
        value = cost(case, best)[1]
        # the solver works to a tolerance, here 1e-8 of the time that the schedule spans
        tolerance = (max(case.a) - min(case.a) + sum(case.p) + sum(case.q)) * 1e-8 * len(case.a)
        if status == "optimal" and proven >= value - tolerance:
            proven = value
        bound = max(bound, min(proven, value))
    return best, fewest, bound


def schedule(tasks, link=LINK, objective=OBJECTIVE, time_limit=TIME_LIMIT, solver=SOLVER):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time.

    attrs of the result: transmission_order; metrics (objective, proven_optimal, lower_bound in s); summary.
    """
    objective = common.find_name(objective, ("makespan", "turnaround"), "OBJECTIVE")
    solver = common.find_name(solver, ("CBC", "HiGHS"), "SOLVER")
    common.check_number(time_limit, "TIME_LIMIT")
    common.check_number(MAX_TASKS, "MAX_TASKS", whole=True)
    labels = tasks["label"].tolist()
    case = Case(*(tasks[key].tolist() for key in ("arrival_time", "computation_time", "trans_time", "deadline")),
                link, objective)
    policies, orders = (FCFS, SRTF, LLF, ADSA), []
    for policy in policies:
        result, _ = common.simulate(tasks, policy.schedule(tasks), link)
        orders.append(result["completion_time"].argsort(kind="stable").tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PuLP 3 announces what PuLP 4 will not have
        order, fewest, bound = solve(case, orders, time.monotonic() + time_limit, solver)
    missed, value = cost(case, order)
    proven = missed == fewest and value <= bound
    per, name = (common.US, "makespan") if objective == "makespan" else (common.US * len(labels), "mean turnaround")
    found = f"{missed} of {len(labels)} deadlines missed"
    if proven:
        summary = [f"optimal: {found}, then {name} {value / per:.3f} s"]
    else:
        gap = (missed - fewest) / missed if missed > fewest else (value - bound) / value
        summary = [f"best found, gap {100 * gap:.2f} % in {'missed deadlines' if missed > fewest else name}: "
                   f"{found} (at least {fewest}), then {name} {value / per:.3f} s (at least {bound / per:.3f} s)"]
        if len(labels) > MAX_TASKS:
            summary += [f"the exact program is limited to {MAX_TASKS} tasks: this is the order of "
                        f"{policies[orders.index(order)].__name__}, the best of FCFS, SRTF, LLF and ADSA"]
    late = [labels[j] for j, t in enumerate(completions(case, order)) if t > case.d[j]]
    if late:
        summary += [("not all deadlines can be met; " if fewest else "") + f"late: {', '.join(late[:10])}"
                    + (f" and {len(late) - 10} more" if len(late) > 10 else "")]
    intervals = common.interval_table(tasks, serve_in_order(case, order))
    intervals.attrs.update(
        transmission_order=[labels[j] for j in order], summary=summary,
        metrics={"objective": objective, "proven_optimal": proven, "lower_bound": round(bound / per, 6)})
    return intervals


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT,
                         objective=OBJECTIVE, time_limit=TIME_LIMIT)
