"""LLF: equal to its plain reference, which looks at every tick, or at every moment at which something may change."""
import naive
from conftest import cases, odd_cases, part_of, runs_of, task_table, units
from hypothesis import given, settings
from hypothesis import strategies as st

import LLF


@settings(max_examples=part_of(250))
@given(cases(), units, st.integers(1, 12))
def test_it_equals_looking_at_every_tick(case, unit, quantum):
    expected = naive.llf(case, quantum)
    assert naive.llf(case, quantum, ticks=False) == expected
    assert runs_of(LLF.schedule(task_table(case, unit), quantum * unit / 1e6), unit) == expected


@settings(max_examples=part_of(150))
@given(odd_cases())
def test_odd_ranges(drawn):
    case, quantum = drawn
    quantum = max(1, quantum, sum(p for _, p, _, _ in case) // 60)  # so that tasks of equal laxity take turns 60 times
    assert runs_of(LLF.schedule(task_table(case), quantum / 1e6)) == naive.llf(case, quantum, ticks=False)


@settings(max_examples=20)
@given(cases(most=120, longest=20), st.integers(1, 6))
def test_long_lists(case, quantum):
    assert runs_of(LLF.schedule(task_table(case), quantum / 1e6)) == naive.llf(case, quantum)


def test_by_hand():
    """Laxities of 3 and 5, then 4: at 2 the second has caught up with the first, and at 3, after the quantum, takes
    over; the third is laxer until it is alone."""
    case = [(0, 6, 1, 10), (0, 2, 0, 7), (1, 1, 0, 30)]
    expected = [(0, 0, 3), (1, 3, 5), (0, 5, 8), (2, 8, 9)]
    assert runs_of(LLF.schedule(task_table(case, 10 ** 6), 3), 10 ** 6) == expected


def test_the_quantum_is_a_second():
    """Two tasks of equal laxity take turns."""
    case = [(0, 30, 0, 100), (0, 30, 0, 100)]
    found = runs_of(LLF.schedule(task_table(case, 10 ** 5)), 10 ** 5)
    assert found[:2] == [(0, 0, 10), (1, 10, 20)]
