"""Least laxity first (LLF): the task that can least afford to wait runs.

    python LLF.py
    python LLF.py --tasks my_tasks.csv --link dedicated

laxity = deadline - trans_time - now - remaining. A waiting task's laxity falls, the running task's is constant. At an
arrival a strictly smaller laxity preempts; between events a smaller or equal one does, but only once the running
task has had a quantum, which keeps equal tasks from thrashing. (A. K. Mok, "Fundamental design problems of
distributed systems for the hard-real-time environment", MIT, 1983.)
"""
import heapq

import common

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LINK = "shared"  # the uplink: "shared" (one result at a time) or "dedicated" (no contention)
OUT = "results"  # where the files go
QUANTUM = 1  # s: a task runs this long before one that has caught up with it takes over

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


def schedule(tasks, quantum=QUANTUM):
    """Compute intervals (label, start, end; microseconds) of a task table, in order of time. quantum: seconds."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier arrival, then the earlier row
    arrival, remaining = queue["arrival_time"].tolist(), queue["computation_time"].tolist()
    key = (queue["deadline"] - queue["trans_time"] - queue["computation_time"]).tolist()  # laxity + now, on arrival
    quantum = max(1, round(quantum * common.US))
    n, coming, now = len(queue), 0, 0
    runs, ready = [], []  # ready: heap of (laxity + now, task); the sum is constant while a task waits
    running = None  # likewise
    while coming < n or ready or running:
        if not running:
            if not ready:
                now = max(now, arrival[coming])
            while coming < n and arrival[coming] <= now:
                heapq.heappush(ready, (key[coming], coming))
                coming += 1
            running = heapq.heappop(ready)

        # It runs until it is done, or until another takes over.
        task = running[1]
        laxity = running[0] - now  # it stays while the task runs
        start, end = now, now + remaining[task]
        running = None
        while not running:
            # The next event: completion, an arrival, or a waiting task has caught up after the quantum.
            caught_up = max(start + quantum, ready[0][0] - laxity) if ready else end
            now = min(end, caught_up)
            if coming < n:
                now = min(now, arrival[coming])
            if now == end:
                break
            while coming < n and arrival[coming] == now:
                heapq.heappush(ready, (key[coming], coming))
                coming += 1
            if ready[0][0] - now < laxity or now >= caught_up:
                remaining[task] = end - now
                running = heapq.heapreplace(ready, (laxity + now, task))
        runs.append((task, start, now))
    return common.interval_table(queue, runs)


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT, quantum=QUANTUM)
