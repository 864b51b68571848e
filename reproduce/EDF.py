"""Earliest deadline first, preemptive: a reference that is not of the paper.

At every arrival and completion the task runs whose result must start to be sent first: least deadline - trans_time.
On one processor it meets all of these where any policy does (M. Dertouzos, "Control Robotics", IFIP 1974; C. Liu, J.
Layland, J. ACM 20, 1973); where not all can be met it may miss more than others.
"""
import heapq

import common


def schedule(tasks):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    arrival, remaining = queue["arrival_time"].tolist(), queue["computation_time"].tolist()
    due = (queue["deadline"] - queue["trans_time"]).tolist()
    n, coming, now = len(queue), 0, 0
    runs, ready = [], []  # ready: heap of (due, task)
    while coming < n or ready:
        if not ready:
            now = max(now, arrival[coming])
        while coming < n and arrival[coming] <= now:
            heapq.heappush(ready, (due[coming], coming))
            coming += 1

        # The most urgent runs until the next arrival or its completion.
        task = ready[0][1]
        end = now + remaining[task]
        if coming < n:
            end = min(end, arrival[coming])
        runs.append((task, now, end))
        remaining[task] -= end - now
        now = end
        if remaining[task] == 0:
            heapq.heappop(ready)
    return common.interval_table(queue, runs)
