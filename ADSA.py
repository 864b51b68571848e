"""Adaptive Dynamic Scheduling Algorithm (ADSA): the longest transmission first, until a deadline is in danger.

    python ADSA.py
    python ADSA.py --tasks my_tasks.csv --link dedicated

At every arrival and completion the unfinished tasks that have arrived are put in order: by arrival if their
transmission times are alike, else the longest transmission first. If no slack is negative in that order, its first task
runs; else the task with the least slack does (preemptive). Slack includes the task's own transmission, but not its
wait for the uplink. (S. Habibi, O. Ercetin, "Edge-LLM Inference With Cost-Aware Layer Allocation and Adaptive
Scheduling", IEEE Access 13, 2025.)

A decision costs O(log n): the least slack of an order is kept at the root of a segment tree (Order, at the end).
"""
import heapq
import math

import common

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go
ALIKE = 0.1  # s: transmission times are alike if the longest and the shortest differ by less than this

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


def schedule(tasks, alike=ALIKE):
    """ADSA's compute intervals for a list that is known in advance. (Online: common.next_run asks this function.)

    tasks: table of one task or more: label, and in whole microseconds arrival_time, computation_time, trans_time and
    deadline (absolute, of the end of the transmission); alike: seconds. Returns a table of label, start and end
    (microseconds) in order of time, a row for each run of a task.
    """
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    columns = [queue[key].tolist() for key in ("arrival_time", "computation_time", "trans_time", "deadline")]
    alike_us = round(alike * common.US)
    runs = []
    arrival, computation, _, _ = columns
    for first, after in busy_periods(arrival, computation):  # none depends on another: the trees stay small
        period = [column[first:after] for column in columns]
        runs += [(first + task, start, end) for task, start, end in simulate_period(*period, alike_us)]
    return common.interval_table(queue, runs)


def simulate_period(arrival, computation, trans, deadline, alike):
    """Runs (task, start, end) of one busy period, in which the processor is never idle. Tasks count from 0 in order of
    arrival; times are microseconds."""
    n = len(arrival)
    remaining = list(computation)
    latest = [deadline[task] - trans[task] for task in range(n)]  # when the computation must end
    by_arrival = Order(range(n), latest)
    by_trans = Order(sorted(range(n), key=lambda task: -trans[task]), latest)  # equal ones stay in order of arrival
    present = set()  # the tasks that have arrived and are not done
    longest, shortest = [], []  # heaps of (-trans, task) and (trans, task); a task that is done goes once it is on top
    coming, now, runs = 0, arrival[0], []
    while coming < n or present:
        while coming < n and arrival[coming] <= now:
            present.add(coming)
            heapq.heappush(longest, (-trans[coming], coming))
            heapq.heappush(shortest, (trans[coming], coming))
            by_arrival.put(coming, remaining[coming])
            by_trans.put(coming, remaining[coming])
            coming += 1

        if len(present) == 1:
            task, = present  # alone it is the first, and the tightest
        else:
            # Order: by arrival if the transmission times are alike, else the longest first.
            while longest[0][1] not in present:
                heapq.heappop(longest)
            while shortest[0][1] not in present:
                heapq.heappop(shortest)
            spread = -longest[0][0] - shortest[0][0]
            order = by_arrival if spread < alike else by_trans
            # Choice: the first in order, unless some slack is negative; then the task with the least slack.
            slack = order.least_slack(now)
            task = order.first() if slack >= 0 else order.tightest()

        # It runs until the next arrival or its completion.
        end = now + remaining[task]
        if coming < n:
            end = min(end, arrival[coming])
        runs.append((task, now, end))
        remaining[task] -= end - now
        now = end
        if remaining[task] > 0:
            by_arrival.put(task, remaining[task])
            by_trans.put(task, remaining[task])
        else:
            present.remove(task)
            by_arrival.take_away(task)
            by_trans.take_away(task)
    return runs


def busy_periods(arrival, computation):
    """Ranges [first, after) of tasks in order of arrival, between which the processor is idle whatever the policy."""
    first, end = 0, arrival[0]
    for task in range(len(arrival)):
        if arrival[task] > end:
            yield first, task
            first = task
        end = max(end, arrival[task]) + computation[task]
    yield first, len(arrival)


class Order:
    """The tasks that are present, in a fixed order: which is the first, which has the least slack? Each in O(log n).

    slack_i = deadline_i - now - completion_i, and completion_i = (remaining times up to and including i) + trans_i, so
    slack_i + now = latest_i - (remaining times up to and including i), with latest_i = deadline_i - trans_i. The least
    of these stands at the root of a binary tree over the places in the order. Node i has the children 2i and 2i + 1;
        work[i]   remaining times of the tasks below i
        least[i]  least of latest - (remaining times up to and including the task, of the tasks below i alone),
                  infinite if none is present: least[i] = min(least[2i], least[2i + 1] - work[2i])
    """

    def __init__(self, tasks, latest):
        self.tasks, self.latest = list(tasks), latest
        self.leaves = 1 << (len(self.tasks) - 1).bit_length()
        self.leaf = [0] * len(self.tasks)  # of each task
        for place, task in enumerate(self.tasks):
            self.leaf[task] = self.leaves + place
        self.work = [0] * (2 * self.leaves)
        self.least = [math.inf] * (2 * self.leaves)
        # Since the last update: {task: what remains of it, None once it is done}. A tree not asked costs nothing.
        self.changed = {}

    def put(self, task, remaining):
        """Enters a task that has arrived, or notes what remains of one that has run."""
        self.changed[task] = remaining

    def take_away(self, task):
        self.changed[task] = None

    def least_slack(self, now):
        """Microseconds; now: microseconds."""
        self.update()
        return self.least[1] - now

    def first(self):
        """The first task that is present."""
        self.update()
        least, i = self.least, 1
        while i < self.leaves:
            i *= 2
            if least[i] == math.inf:
                i += 1
        return self.tasks[i - self.leaves]

    def tightest(self):
        """The task with the least slack; of equal ones the first."""
        self.update()
        work, least, i = self.work, self.least, 1
        while i < self.leaves:
            left, right = 2 * i, 2 * i + 1
            i = left if least[left] <= least[right] - work[left] else right
        return self.tasks[i - self.leaves]

    def update(self):
        """Brings the tree up to date: the leaf of every changed task, and the nodes above it."""
        work, least = self.work, self.least
        for task, remaining in self.changed.items():
            i = self.leaf[task]
            if remaining is None:
                work[i], least[i] = 0, math.inf
            else:
                work[i], least[i] = remaining, self.latest[task] - remaining
            while i > 1:
                i //= 2
                left = 2 * i
                work[i] = work[left] + work[left + 1]
                later = least[left + 1] - work[left]
                least[i] = least[left] if least[left] <= later else later
        self.changed.clear()


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT, alike=ALIKE)
