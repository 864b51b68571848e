"""Shortest remaining time first (SRTF): a task that needs less time than the running one still does preempts it.

    python SRTF.py
    python SRTF.py --tasks my_tasks.csv --link dedicated

Minimises the mean time from arrival to the end of computation (L. Schrage, "A proof of the optimality of the shortest
remaining processing time discipline", Operations Research 16, 1968). Deadlines are ignored.
"""
import heapq

import common

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go

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


def schedule(tasks):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    arrival, computation = queue["arrival_time"].tolist(), queue["computation_time"].tolist()
    n, coming, now = len(queue), 0, 0
    runs, ready = [], []  # ready: heap of (remaining, task)
    while coming < n or ready:
        if not ready:
            now = max(now, arrival[coming])
        while coming < n and arrival[coming] <= now:
            heapq.heappush(ready, (computation[coming], coming))
            coming += 1

        # The shortest runs until the next arrival or its completion. Of equal ones the running one goes on: it is the
        # earlier in the list, as those that waited with it need more.
        remaining, task = heapq.heappop(ready)
        end = now + remaining
        if coming < n:
            end = min(end, arrival[coming])
        runs.append((task, now, end))
        remaining -= end - now
        now = end
        if remaining > 0:
            heapq.heappush(ready, (remaining, task))
    return common.interval_table(queue, runs)


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT)
