"""First come, first served (FCFS): tasks are computed in order of arrival, without preemption.

    python FCFS.py
    python FCFS.py --tasks my_tasks.csv --link dedicated

The usual order when nothing is known about the tasks. End times have a closed form: Lindley's recursion, unrolled
(D. V. Lindley, "The theory of queues with a single server", 1952).
"""
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
    """Compute intervals (label, start, end; microseconds) of a task table: one a task."""
    queue = tasks.sort_values("arrival_time", kind="stable")  # ties: the earlier row
    arrival, computation = queue["arrival_time"].to_numpy(), queue["computation_time"].to_numpy()
    end = common.serve(arrival, computation)
    runs = zip(range(len(queue)), end - computation, end)
    return common.interval_table(queue, list(runs))


if __name__ == "__main__":
    common.run_scheduler(schedule, tasks, __doc__, model=MODEL, device=DEVICE, link=LINK, out=OUT)
