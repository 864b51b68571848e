"""ADSA: equal to its plain reference, which orders all tasks anew at every arrival and completion."""
import naive
import pytest
from conftest import cases, odd_cases, part_of, runs_of, task_table, units
from hypothesis import given, settings
from hypothesis import strategies as st

import ADSA


@settings(max_examples=part_of(250))
@given(cases(), units, st.integers(0, 5))
def test_it_equals_the_reference(case, unit, alike):
    assert runs_of(ADSA.schedule(task_table(case, unit), alike * unit / 1e6), unit) == naive.adsa(case, alike)


@settings(max_examples=part_of(150))
@given(odd_cases())
def test_odd_ranges(drawn):
    case, alike = drawn
    assert runs_of(ADSA.schedule(task_table(case), alike / 1e6)) == naive.adsa(case, alike)


@settings(max_examples=20)
@given(cases(most=120, longest=20), st.integers(0, 5))
def test_long_lists(case, alike):
    assert runs_of(ADSA.schedule(task_table(case), alike / 1e6)) == naive.adsa(case, alike)


@pytest.mark.parametrize("spread, first", [(99999, 0), (100000, 1)])
def test_transmissions_are_alike_within_a_tenth_of_a_second(spread, first):
    """No deadline is in danger: by arrival the first runs first, else the one that is longer to send."""
    case = [(0, 10, 0, 10 ** 9), (0, 10, spread, 10 ** 9)]
    assert runs_of(ADSA.schedule(task_table(case))) == naive.adsa(case, 10 ** 5)
    assert runs_of(ADSA.schedule(task_table(case)))[0][0] == first


def test_by_hand():
    """At 0 the order is 1, 0 (trans 4, 1), completions 3 + 4 and 8 + 1, slacks 13 and 11: the first in order runs. At 2
    the third has a slack of 6 - 2 - (1 + 5 + 2 + 0) = -4, the least: it runs; then the order is 1, 0 again."""
    case = [(0, 5, 1, 20), (0, 3, 4, 20), (2, 2, 0, 6)]
    assert runs_of(ADSA.schedule(task_table(case), 1e-6)) == [(1, 0, 2), (2, 2, 4), (1, 4, 5), (0, 5, 10)]


@settings(max_examples=part_of(100))
@given(cases())
def test_busy_periods_are_what_idle_time_cuts(case):
    """Equal to the ranges between which FCFS leaves the processor idle."""
    case = sorted(case)
    cuts, end = [0], 0
    for j, start, stop in naive.fcfs(case):
        if start > end and j > 0:
            cuts.append(j)
        end = stop
    expected = list(zip(cuts, [*cuts[1:], len(case)]))
    assert list(ADSA.busy_periods([task[0] for task in case], [task[1] for task in case])) == expected
