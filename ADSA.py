"""Adaptive Dynamic Scheduling Algorithm (ADSA): the longest transmission first, until a deadline is in danger.

    python ADSA.py
    python ADSA.py --tasks my_tasks.csv --link dedicated

At every arrival and completion the unfinished tasks that have arrived are put in order: by arrival if their
transmission times are alike, else the longest transmission first. If every task would meet its deadline in that
order, its first task runs; else the task with the least slack does. (S. Habibi, O. Ercetin, "Edge-LLM Inference With
Cost-Aware Layer Allocation and Adaptive Scheduling", IEEE Access 13, 2025.)

A decision costs O(log n): the slacks of a whole order are kept in a segment tree.
"""
import heapq
import math

import common

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go
ALIKE = 0.1  # s: transmission times that differ by less than this, at most, are alike

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


# An order of tasks as a segment tree (S, B) over static ranks. With S_i the remaining time of the task at rank i and
# B_i = deadline - trans - S_i, a node holds S = Sl + Sr and B = min(Bl, Br - Sl): the least of deadline - trans -
# (remaining times up to and including the task) over its tasks. The root's B - now is the least slack of the order.


def new_tree(n):
    """Tree over n ranks, all empty (S = 0, B = infinity)."""
    size = 1 << max(0, n - 1).bit_length()
    return [0] * (2 * size), [math.inf] * (2 * size)


def set_leaf(tree, rank, s, b):
    """Puts a leaf (s, b) and brings its ancestors up to date."""
    S, B = tree
    i = rank + len(S) // 2
    if S[i] == s and B[i] == b:
        return
    S[i], B[i] = s, b
    while i > 1:  # s and b: of the child i, then of its parent
        if i & 1:
            left = S[i - 1]
            s += left
            b -= left
            if B[i - 1] <= b:
                b = B[i - 1]
        else:
            right = B[i + 1] - s
            s += S[i + 1]
            if right < b:
                b = right
        i >>= 1
        S[i] = s
        B[i] = b


def least_slack(tree):
    """Rank of the task with the least slack, the first in order of equal ones."""
    S, B = tree
    i, leaves = 1, len(S) // 2
    while i < leaves:
        i *= 2
        if B[i + 1] - S[i] < B[i]:
            i += 1
    return i - leaves


def busy_periods(a, p):
    """Ranges [lo, hi) of tasks by arrival between which the processor, whatever the policy, stands idle."""
    lo, end = 0, a[0]
    for i in range(len(a)):
        if a[i] > end:
            yield lo, i
            lo = i
        end = max(end, a[i]) + p[i]
    yield lo, len(a)


def busy_period(a, p, q, d, alike):
    """Runs (task, start, end) of one busy period; arrival, computation, trans and deadline by order of arrival."""
    n = len(a)
    by_trans = sorted(range(n), key=lambda j: -q[j])  # stable: equal ones stay in order of arrival
    rank = [0] * n
    for r, j in enumerate(by_trans):
        rank[j] = r
    remaining, done = list(p), [False] * n
    trees = new_tree(n), new_tree(n)  # by arrival, by trans
    changed = [], []  # tasks that a tree does not show as they are: it is brought up to date when it is consulted
    longest, shortest = [], []  # heaps of the ranks by trans of the tasks present, and of their negatives
    oldest = i = 0  # first unfinished task; next to arrive
    now, runs = a[0], []
    while i < n or oldest < n:
        while i < n and a[i] <= now:
            heapq.heappush(longest, rank[i])
            heapq.heappush(shortest, -rank[i])
            changed[0].append(i)
            changed[1].append(i)
            i += 1
        while done[by_trans[longest[0]]]:
            heapq.heappop(longest)
        while done[by_trans[-shortest[0]]]:
            heapq.heappop(shortest)
        if longest[0] == -shortest[0]:  # alone
            j = oldest
        else:
            trans_order = q[by_trans[longest[0]]] - q[by_trans[-shortest[0]]] >= alike
            tree, j = trees[trans_order], by_trans[longest[0]] if trans_order else oldest
            for c in changed[trans_order]:
                r = rank[c] if trans_order else c
                if done[c]:
                    set_leaf(tree, r, 0, math.inf)
                else:
                    set_leaf(tree, r, remaining[c], d[c] - q[c] - remaining[c])
            changed[trans_order].clear()
            if tree[1][1] < now:  # some slack is negative
                j = least_slack(tree)
                j = by_trans[j] if trans_order else j
        end = now + remaining[j]
        if i < n and a[i] < end:
            end = a[i]
        remaining[j] -= end - now
        done[j] = remaining[j] == 0
        changed[0].append(j)
        changed[1].append(j)
        runs.append((j, now, end))
        now = end
        while oldest < i and done[oldest]:
            oldest += 1
    return runs


def schedule(tasks):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    a, p, q, d = (queue[key].tolist() for key in ("arrival_time", "computation_time", "trans_time", "deadline"))
    alike = round(common.check_number(ALIKE, "ALIKE") * common.US)
    runs = []
    for lo, hi in busy_periods(a, p):
        period = busy_period(a[lo:hi], p[lo:hi], q[lo:hi], d[lo:hi], alike)
        runs += [(lo + j, start, end) for j, start, end in period]
    return common.interval_table(queue, runs)


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT)
