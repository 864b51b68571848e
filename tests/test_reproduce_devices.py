"""reproduce/devices.py: dealing, and what each device then meets, against plain loops."""
import numpy as np
import pandas as pd
import pytest

import common
from reproduce import devices, study


def random_list(seed):
    """Up to 12 tasks, many of which arrive at once."""
    draw = np.random.default_rng(seed)
    number = draw.integers(1, 13)
    tasks = pd.DataFrame({"label": [f"T{k}" for k in range(number)],
                          "arrival_time": np.sort(draw.integers(0, 9, number)),
                          "computation_time": draw.integers(0, 7, number), "trans_time": draw.integers(0, 4, number)})
    allowed = draw.integers(0, 3 * (tasks["computation_time"] + tasks["trans_time"]) + 1)
    return tasks.assign(deadline=tasks["arrival_time"] + allowed)


def met_percent(tasks, number, link):
    rows = devices.run_case(tasks, study.POLICIES, {"devices": number, "link": link})
    return {row["algorithm"]: row[devices.MET] for row in rows}


def met_by(name, tasks, link):
    intervals = study.script(study.POLICIES[name]).schedule(tasks)
    return common.simulate(tasks, intervals, link)[0]["deadline_met"].sum()


@pytest.mark.parametrize("seed", range(40))
def test_tasks_are_dealt_and_served_as_plain_loops_do_it(seed):
    tasks, number, link = random_list(seed), 1 + seed % 4, common.LINKS[seed // 4 % 2]
    dealt = [[] for _ in range(number)]
    for task in tasks.to_dict("records"):
        left = []
        for some in dealt:  # until when it computes, or sends, what it has, first come, first served
            computed = sent = 0
            for one in some:
                computed = max(computed, one["arrival_time"]) + one["computation_time"]
                sent = max(sent, computed) + one["trans_time"]
            left.append(max(0, (sent if link == "shared" else computed) - task["arrival_time"]))
        dealt[left.index(min(left))].append(task)
    for name, percent in met_percent(tasks, number, link).items():
        met = sum(met_by(name, pd.DataFrame(some), link) for some in dealt if some)
        assert percent == pytest.approx(100 * met / len(tasks))
