"""SRTF: equal to its plain reference, which decides anew at every arrival and completion."""
import naive
from conftest import cases, odd_cases, part_of, runs_of, task_table, units
from hypothesis import given, settings

import SRTF


@settings(max_examples=part_of(250))
@given(cases(), units)
def test_it_equals_the_reference(case, unit):
    assert runs_of(SRTF.schedule(task_table(case, unit)), unit) == naive.srtf(case)


@settings(max_examples=part_of(150))
@given(odd_cases())
def test_odd_ranges(drawn):
    case, _ = drawn
    assert runs_of(SRTF.schedule(task_table(case))) == naive.srtf(case)


@settings(max_examples=20)
@given(cases(most=120, longest=20))
def test_long_lists(case):
    assert runs_of(SRTF.schedule(task_table(case))) == naive.srtf(case)


def test_by_hand():
    """At 4 the first needs 6 more: the second, of 6, leaves it running; the third, of 3, preempts it at 5."""
    case = [(0, 10, 0, 10), (4, 6, 0, 10), (5, 3, 0, 8)]
    assert runs_of(SRTF.schedule(task_table(case))) == [(0, 0, 5), (2, 5, 8), (0, 8, 13), (1, 13, 19)]
