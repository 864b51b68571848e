"""FCFS, SRTF, LLF and ADSA: each gives exactly the runs of its plain reference in naive.py."""
import naive
import pytest
from conftest import cases, part_of, runs_of, task_table
from hypothesis import given, settings
from hypothesis import strategies as st

import ADSA
import FCFS
import LLF
import SRTF

POLICIES = [FCFS, SRTF, LLF, ADSA]


def found(policy, case, ticks, unit=1):
    """Runs of a policy. ticks: the QUANTUM of LLF, or ADSA's ALIKE, in ticks of `unit` microseconds as all the case."""
    own = [ticks * unit / 1e6] if policy in (LLF, ADSA) else []
    return runs_of(policy.schedule(task_table(case, unit), *own), unit)


def expected(policy, case, ticks, by_tick=False):
    """Runs of its reference. by_tick: that of LLF goes on a tick at a time."""
    if policy is FCFS:
        return naive.fcfs(case)
    if policy is SRTF:
        return naive.srtf(case)
    if policy is LLF:
        return naive.llf(case, ticks, by_tick)
    return naive.adsa(case, ticks)


units = st.sampled_from([1, 37, 100000])  # decimal times: ticks of 0.1 s, or of no round number of microseconds


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=part_of(250))
@given(cases(), units, st.integers(1, 12))
def test_a_policy_equals_its_reference(policy, case, unit, ticks):
    assert found(policy, case, ticks, unit) == expected(policy, case, ticks, by_tick=True)


@pytest.mark.parametrize("policy", [SRTF, LLF, ADSA])
@settings(max_examples=20)
@given(cases(most=120, longest=20), st.integers(1, 6))
def test_a_policy_equals_its_reference_on_long_lists(policy, case, ticks):
    assert found(policy, case, ticks) == expected(policy, case, ticks)


@st.composite
def odd_cases(draw, most=8):
    """Lists of tasks of ranges that nobody expects, in microseconds, and one for ALIKE or QUANTUM: zeros and single
    microseconds beside hours and weeks, sums and differences of one another, deadlines passed at once or far away."""
    scale = st.sampled_from([1, 3, 1000, 10 ** 6, 36 * 10 ** 8, 10 ** 12])
    some = draw(st.lists(scale.flatmap(lambda high: st.integers(0, high)), min_size=1, max_size=4))
    number = st.sampled_from([0, *some, *(abs(x + sign * y) for x in some for y in some for sign in (1, -1))])
    tasks = draw(st.lists(st.tuples(number, number, number, number), min_size=1, max_size=most))
    return [(a, p, q, a + slack) for a, p, q, slack in tasks], draw(number)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=part_of(150))
@given(odd_cases())
def test_a_policy_equals_its_reference_on_odd_ranges(policy, drawn):
    case, ticks = drawn
    if policy is LLF:  # so that tasks of equal laxity take turns 60 times at most
        ticks = max(1, ticks, sum(p for _, p, _, _ in case) // 60)
    assert found(policy, case, ticks) == expected(policy, case, ticks)


# By hand: tasks are (arrival, computation, transmission, deadline) ----------------------------------------------------


@pytest.mark.parametrize("policy, ticks, case, runs", [
    # The third arrives with the second, below it in the list.
    (FCFS, None, [(7, 1, 0, 8), (2, 3, 0, 5), (2, 4, 0, 6), (20, 0, 0, 20)],
     [(1, 2, 5), (2, 5, 9), (0, 9, 10), (3, 20, 20)]),
    # At 4 the first needs 6 more: the second, of 6, leaves it running; the third, of 3, preempts it at 5.
    (SRTF, None, [(0, 10, 0, 10), (4, 6, 0, 10), (5, 3, 0, 8)], [(0, 0, 5), (2, 5, 8), (0, 8, 13), (1, 13, 19)]),
    # Laxities of 3 and 5, then 4: at 2 the second has caught up with the first, and at 3, after the quantum, takes
    # over; the third is laxer until it is alone.
    (LLF, 3, [(0, 6, 1, 10), (0, 2, 0, 7), (1, 1, 0, 30)], [(0, 0, 3), (1, 3, 5), (0, 5, 8), (2, 8, 9)]),
    # At 0 the order is 1, 0 (trans 4, 1), completions 3 + 4 and 8 + 1, slacks 13 and 11: the first in order runs. At 2
    # the third has a slack of 6 - 2 - (1 + 5 + 2 + 0) = -4, the least: it runs; then the order is 1, 0 again.
    (ADSA, 1, [(0, 5, 1, 20), (0, 3, 4, 20), (2, 2, 0, 6)], [(1, 0, 2), (2, 2, 4), (1, 4, 5), (0, 5, 10)]),
])
def test_by_hand(policy, ticks, case, runs):
    assert found(policy, case, ticks) == runs


def test_tasks_of_equal_laxity_take_turns_of_a_second():
    runs = runs_of(LLF.schedule(task_table([(0, 30, 0, 100), (0, 30, 0, 100)], 10 ** 5)), 10 ** 5)
    assert runs[:2] == [(0, 0, 10), (1, 10, 20)]


@pytest.mark.parametrize("spread, first", [(99999, 0), (100000, 1)])
def test_transmissions_are_alike_within_a_tenth_of_a_second(spread, first):
    """No deadline is in danger: by arrival the first runs first, else the one that is longer to send."""
    case = [(0, 10, 0, 10 ** 9), (0, 10, spread, 10 ** 9)]
    assert runs_of(ADSA.schedule(task_table(case)))[0][0] == first
