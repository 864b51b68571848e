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
    due = queue["deadline"] - queue["trans_time"]
    runs = runs_by_rank(queue["arrival_time"].tolist(), queue["computation_time"].tolist(), due.tolist())
    return common.interval_table(queue, runs)


def runs_by_rank(arrival, computation, rank):
    """Runs (task, start, end) in order of time, if of the tasks that are there the one of least rank always runs.
    Arguments: lists, in order of arrival."""
    remaining = list(computation)
    runs = []
    ready = []  # heap of (rank, task)
    coming = now = 0
    while coming < len(arrival) or ready:
        if not ready:
            now = max(now, arrival[coming])
        while coming < len(arrival) and arrival[coming] <= now:
            heapq.heappush(ready, (rank[coming], coming))
            coming += 1

        # The most urgent runs until the next arrival or its completion.
        task = ready[0][1]
        end = now + remaining[task]
        if coming < len(arrival):
            end = min(end, arrival[coming])
        runs.append((task, now, end))
        remaining[task] -= end - now
        now = end
        if remaining[task] == 0:
            heapq.heappop(ready)
    return runs
