"""reproduce/batching.py: batches against a plain simulation tick by tick, schedule's order, passes, a run."""
from functools import partial

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of

import ADSA
import common
import FCFS
import LLF
import SRTF
from reproduce import EDF, batching

NEO, T4 = common.get_model("GPT-Neo 1.3B"), common.get_device("T4")


def table_of(case):
    """Task table of (arrival, prompt, tokens, room, trans, deadline) of each task, in order of arrival; and the
    prompts."""
    arrival, prompt, tokens, room, trans, deadline = zip(*case)
    rows = {"label": [f"T{k}" for k in range(len(case))], "arrival_time": arrival, "computation_time": 0,
            "trans_time": trans, "deadline": deadline, "output_tokens": tokens, "kv_bytes": room}
    return pd.DataFrame(rows), list(prompt)


def ordered_by(schedule, case):
    """What naive.batches asks for an order: a policy, told that all have arrived now."""
    def order(now, rest):
        rows = sorted(rest)
        present = table_of([case[j] for j in rows])[0]
        present = present.assign(computation_time=[rest[j] for j in rows], arrival_time=now)
        return [rows[int(label[1:])] for label in schedule(present)["label"].drop_duplicates()]
    return order


POLICIES = [FCFS.schedule, SRTF.schedule, EDF.schedule, partial(ADSA.schedule, alike=3 / common.US),
            partial(LLF.schedule, quantum=4 / common.US)]


def test_small_cases_are_as_tick_by_tick():
    """Each of the five policies on 40 cases: rows of equal tasks, caches that just fit, arrivals within a token."""
    rng = np.random.default_rng(0)
    waited = put_off = full = 0
    for k in range(part_of(200)):
        schedule = POLICIES[k % 5]
        count, most = int(rng.integers(1, 8)), int(rng.integers(1, 5))
        token = np.sort(rng.integers(1, 6, most + 1)).tolist()
        arrival = np.sort(rng.integers(0, rng.choice([3, 15, 40]), count)).tolist()
        case = [(a, int(rng.integers(0, 9)), int(rng.integers(1, 6)), int(rng.integers(1, 5)), int(rng.integers(0, 6)),
                 int(a + rng.integers(0, 40))) for a in arrival]
        room = int(rng.choice([4, 6, 10, 99]))
        tasks, prompt = table_of(case)
        end = batching.serve_batches(schedule, tasks, prompt, token, room, most)
        expected, most_held = naive.batches([row[:4] for row in case], ordered_by(schedule, case), token, room, most)
        assert end.tolist() == expected
        assert most_held <= room
        alone = [a + p + n * token[1] for a, p, n, *_ in case]
        waited += sum(t > least for t, least in zip(expected, alone))
        unlimited = naive.batches([row[:4] for row in case], ordered_by(schedule, case), token, 999, most)
        full += unlimited[0] != expected
        put_off += unlimited[1] > sum(sorted(row[3] for row in case)[-most:])
    assert min(waited, put_off, full) >= part_of(15)  # more begun than a batch holds; caches that did not fit


def test_a_batch_takes_no_longer_until_computing_outweighs_reading():
    """A layer of GPT-Neo has 2048 x (4 x 2048 + 2 x 8192) weights of 2 bytes: up to 116 tokens are as fast as one."""
    weights = 2048 * (4 * 2048 + 2 * 8192)
    reading, computing = 24 * 2 * weights / (0.73 * 320e9), 24 * 2 * weights / (0.42 * 65e12)
    times = batching.pass_time(NEO, T4, np.array([1, 2, 116, 117, 234]))
    expected = [1e6 * time for time in (reading, reading, reading, 117 * computing, 234 * computing)]
    assert times.tolist() == [round(time) for time in expected]
    assert times[3] > times[2]


def test_metrics():
    """Two results over one uplink, first computed first sent."""
    tasks = table_of([(1000000, 0, 10, 1, 4000000, 9500000), (1500000, 0, 20, 1, 3000000, 5000000)])[0]
    end = np.array([6000000, 2000000])
    shared = batching.measure(tasks, end, "shared")
    assert shared == {"deadlines_met_percent": 50, "p95_turnaround_time": 8.725}
    late = batching.measure(tasks, np.array([4000000, 2000000]), "shared")  # sent from 5 s on, when the other is
    assert late == {"deadlines_met_percent": 100, "p95_turnaround_time": 7.775}
    apart = batching.measure(tasks, np.array([4000000, 2000000]), "dedicated")
    assert apart == {"deadlines_met_percent": 100, "p95_turnaround_time": 6.825}


def test_tasks_that_the_memory_has_no_room_for_are_refused():
    with pytest.raises(common.UserError, match=r"weights of GPT-3 175B \(87.0 GB\) and the KV cache of a task"):
        batching.run_case(1, 1, 0, 0, None, "", {}, common.get_model("GPT-3 175B"), T4, "shared")


def test_load_is_that_of_full_batches(run):
    """Equal tasks, which divide into batches of any size, take load x span."""
    own = pd.DataFrame({"label": np.arange(16), "prompt": "", "arrival_time": [0] * 15 + [0.001], "output_words": 0,
                        "prompt_tokens": 50, "output_tokens": 120, "trans_time": 0, "deadline": 60})
    own.assign(computation_time=2).to_csv("mine.csv", index=False)
    status, out, err = run("reproduce/batching", "--tasks", "mine.csv", "--no-plot")
    assert (status, err) == (0, "warning: mine.csv: computation_time is not used: batches take the estimated "
                             "time of their tokens\n")
    assert "mine.csv: 16 tasks, as they arrive" in out and "as in the other studies" in out
    runs = pd.read_csv("results/batching_runs.csv")
    tasks = common.read_tasks(own.to_dict("records"), NEO, [T4])
    prompt = batching.pass_time(NEO, T4, tasks["prompt_tokens"].to_numpy()).tolist()
    for batch, of_batch in runs.groupby("batch"):
        token = batching.pass_time(NEO, T4, np.arange(batch + 1)).tolist()
        end = batching.serve_batches(FCFS.schedule, tasks, prompt, token, 16e9, batch)
        assert end.max() == pytest.approx(1000 * of_batch["load"].iloc[0], rel=1e-4)
    assert runs["load"].iloc[0] == pytest.approx(16 * 121 * batching.pass_time(NEO, T4, 1) / 1000)  # one at a time
