"""FCFS: equal to its plain reference, a loop."""
import naive
from conftest import cases, odd_cases, part_of, runs_of, task_table, units
from hypothesis import given, settings

import FCFS


@settings(max_examples=part_of(200))
@given(cases(), units)
def test_it_equals_the_reference(case, unit):
    assert runs_of(FCFS.schedule(task_table(case, unit)), unit) == naive.merged(naive.fcfs(case))


@settings(max_examples=part_of(150))
@given(odd_cases())
def test_odd_ranges(drawn):
    case, _ = drawn
    assert runs_of(FCFS.schedule(task_table(case))) == naive.merged(naive.fcfs(case))


def test_by_hand():
    """(arrival, computation, trans, deadline): the third arrives with the second, below it in the list."""
    case = [(7, 1, 0, 8), (2, 3, 0, 5), (2, 4, 0, 6), (20, 0, 0, 20)]
    assert runs_of(FCFS.schedule(task_table(case))) == [(1, 2, 5), (2, 5, 9), (0, 9, 10), (3, 20, 20)]
