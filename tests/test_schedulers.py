"""The five schedulers: equal to plain references, and what must hold of every schedule."""
from unittest import mock

import naive
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ADSA
import common
import FCFS
import LLF
import optimal
import SRTF

POLICIES = [FCFS, SRTF, LLF, ADSA]


def table(case, unit=1):
    """Task table of a case in ticks of `unit` microseconds."""
    columns = np.array(case, dtype="int64").reshape(-1, 4).T * unit
    return pd.DataFrame({"label": [f"T{j}" for j in range(len(case))], **dict(zip(
        ("arrival_time", "computation_time", "trans_time", "deadline"), columns)), "kv_bytes": range(1, len(case) + 1)})


def runs(intervals, unit=1):
    return [(int(label[1:]), start // unit, end // unit) for label, start, end in zip(
        intervals["label"], intervals["start"], intervals["end"])]


@st.composite
def cases(draw, most=9, longest=12):
    """Lists of tasks: few distinct values, so that ties are common; idle gaps; overload; tasks of no length."""
    span = draw(st.sampled_from([0, 3, 12, 40, 90]))
    alike = draw(st.sampled_from([0, 1, 9]))
    task = st.tuples(st.integers(0, span), st.integers(0, longest), st.integers(0, alike), st.integers(-3, 30))
    return [(a, p, q, max(a, a + p + q + slack)) for a, p, q, slack in draw(st.lists(task, min_size=1, max_size=most))]


units = st.sampled_from([1, 37, 100000])  # decimal times: ticks of 0.1 s, or of no round number of microseconds


@settings(max_examples=2000)
@given(cases(), units)
def test_fcfs_equals_a_loop(case, unit):
    assert runs(FCFS.schedule(table(case, unit)), unit) == naive.merged(naive.fcfs(case))


@settings(max_examples=2000)
@given(cases(), units)
def test_srtf_equals_deciding_anew_each_time(case, unit):
    assert runs(SRTF.schedule(table(case, unit)), unit) == naive.srtf(case)


@settings(max_examples=2000)
@given(cases(), units, st.integers(1, 12))
def test_llf_equals_looking_at_every_tick(case, unit, quantum):
    with mock.patch.object(LLF, "QUANTUM", quantum * unit / 1e6):
        assert runs(LLF.schedule(table(case, unit)), unit) == naive.llf(case, quantum)


@settings(max_examples=2000)
@given(cases(), units, st.integers(0, 5))
def test_adsa_equals_deciding_anew_each_time(case, unit, alike):
    with mock.patch.object(ADSA, "ALIKE", alike * unit / 1e6):
        assert runs(ADSA.schedule(table(case, unit)), unit) == naive.adsa(case, alike)


@settings(max_examples=60)
@given(cases(most=120, longest=20), st.integers(0, 5))
def test_long_lists_equal_the_references(case, alike):
    assert runs(SRTF.schedule(table(case))) == naive.srtf(case)
    with mock.patch.object(ADSA, "ALIKE", alike / 1e6), mock.patch.object(LLF, "QUANTUM", 4e-6):
        assert runs(ADSA.schedule(table(case))) == naive.adsa(case, alike)
        assert runs(LLF.schedule(table(case))) == naive.llf(case, 4)


def test_adsa_alike_is_a_tenth_of_a_second_and_the_quantum_one():
    assert (ADSA.ALIKE, LLF.QUANTUM) == (0.1, 1)


@settings(max_examples=500)
@given(cases(), st.sampled_from(POLICIES), st.sampled_from(common.LINKS))
def test_the_uplink_and_the_measures_equal_a_loop(case, policy, link):
    intervals = policy.schedule(table(case))
    result, everything = common.simulate(table(case), intervals, link)
    start, end, pieces = {}, {}, dict.fromkeys(range(len(case)), 0)
    for j, s, e in runs(intervals):
        start.setdefault(j, s)
        end[j] = e
        pieces[j] += 1
    done = naive.uplink(case, [end[j] for j in range(len(case))], link)
    for j, (a, p, _, d) in enumerate(case):
        row = result.iloc[j]
        assert row["label"] == f"T{j}"
        assert (row["start_time"], row["end_computation"], row["completion_time"]) == (start[j], end[j], done[j])
        assert (row["response_time"], row["turnaround_time"]) == (start[j] - a, done[j] - a)
        assert row["waiting_time"] == end[j] - a - p >= 0
        assert (row["deadline_met"], row["preemptions"]) == (done[j] <= d, pieces[j] - 1)
    sent = everything[everything["kind"] == "transmit"]
    assert sorted(sent["end"] - sent["start"]) == sorted(q for _, _, q, _ in case)
    model = common.Model("m", layers=1, params=0, kv_width=0, context=1)
    metrics = common.scheduling_metrics("X", table(case), result, model, common.DEVICES["T4"])
    held = naive.peak_memory(case, start, end, range(1, len(case) + 1))
    assert metrics["peak_memory_gb"] == pytest.approx(held / 1e9)
    mean = sum(t - task[0] for t, task in zip(done, case)) / len(case) / 1e6
    assert metrics["mean_turnaround_time"] == pytest.approx(mean, abs=1e-6)
    assert (metrics["T_end"], metrics["tasks"]) == (max(done) / 1e6, len(case))


def check_schedule(case, intervals, link):
    """What must hold of any schedule of a case."""
    by_time = runs(intervals)
    assert [start for _, start, _ in by_time] == sorted(start for _, start, _ in by_time)
    for (_, _, end), (_, start, _) in zip(by_time, by_time[1:]):
        assert end <= start  # one at a time
    for j, (a, p, _, _) in enumerate(case):
        mine = [(start, end) for i, start, end in by_time if i == j]
        assert mine
        assert sum(end - start for start, end in mine) == p  # no work lost, none invented
        assert mine[0][0] >= a  # nothing runs before it arrives
    busy = {t for _, start, end in by_time for t in range(start, end)}
    for t in range(max(end for _, _, end in by_time)):  # no idling while there is work
        todo = sum(p for a, p, _, _ in case if a <= t) - sum(1 for s in busy if s < t)
        assert (t in busy) == (todo > 0)
    _, everything = common.simulate(table(case), intervals, link)
    if link == "shared":
        sent = everything[everything["kind"] == "transmit"].sort_values(["start", "end"])
        assert (sent["start"].to_numpy()[1:] >= sent["end"].to_numpy()[:-1]).all()


@settings(max_examples=400)
@given(cases(), st.sampled_from([*POLICIES, optimal]), st.sampled_from(common.LINKS))
def test_invariants(case, policy, link):
    options = {"link": link, "time_limit": 0} if policy is optimal else {}
    check_schedule(case, policy.schedule(table(case), **options), link)


def test_an_urgent_late_arrival_separates_fcfs_and_adsa():
    """The first two tasks of the shipped list alone: FCFS misses Task 2, ADSA meets both."""
    device, model = common.DEVICES["T4"], common.get_model("GPT-Neo 1.3B")
    tasks = common.read_tasks(ADSA.tasks[:2], model, device)
    assert (tasks["computation_time"] / 1e6).round(1).tolist() == [15.1, 3.8]
    met = {policy: common.simulate(tasks, policy.schedule(tasks), "shared")[0]["deadline_met"].tolist()
           for policy in (FCFS, ADSA)}
    assert met == {FCFS: [True, False], ADSA: [True, True]}


def test_the_shipped_list_tells_the_schedulers_apart():
    device, model = common.DEVICES["T4"], common.get_model("GPT-Neo 1.3B")
    tasks = common.read_tasks(ADSA.tasks, model, device)
    results = {policy: common.simulate(tasks, policy.schedule(tasks), "shared")[0] for policy in [*POLICIES, optimal]}
    assert len({tuple(result["end_computation"]) for result in results.values()}) == 5
    assert results[ADSA]["preemptions"].sum() >= 1
    assert not results[FCFS]["deadline_met"].all()
