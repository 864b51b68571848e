"""Earliest deadline first, preemptive: a reference that is not of the paper.

At every arrival and completion the task runs whose result must start to be sent first: least deadline - trans_time.
On one processor it meets all of these where any policy does (M. Dertouzos, "Control Robotics", IFIP 1974; C. Liu, J.
Layland, J. ACM 20, 1973); where not all can be met it may miss more than others.
"""
import heapq
import math

import common


def schedule(tasks):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    a, left = queue["arrival_time"].tolist(), queue["computation_time"].tolist()
    due = (queue["deadline"] - queue["trans_time"]).tolist()
    n, i, now = len(queue), 0, 0  # i: next to arrive
    runs, ready = [], []  # ready: heap of (due, task)
    while i < n or ready:
        if not ready:
            now = max(now, a[i])
        while i < n and a[i] <= now:
            heapq.heappush(ready, (due[i], i))
            i += 1
        j = ready[0][1]
        start, now = now, min(now + left[j], a[i] if i < n else math.inf)
        left[j] -= now - start
        if not left[j]:
            heapq.heappop(ready)
        runs.append((j, start, now))
    return common.interval_table(queue, runs)
