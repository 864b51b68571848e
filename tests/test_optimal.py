"""optimal.py: equal to brute force, never worse than a policy, and honest about what is proven."""
import os
import re
import stat

import naive
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schedulers import POLICIES, check_schedule, table

import common
import optimal

TICK = 10000  # microseconds: a solver's tolerance is far below it
objectives, links = st.sampled_from(["makespan", "turnaround"]), st.sampled_from(common.LINKS)


@st.composite
def cases(draw, most=6, longest=9):
    """Lists of tasks with a shared spread of slack, so that all, some or no deadlines can be met."""
    span, slack = draw(st.sampled_from([0, 8, 25])), draw(st.sampled_from([0, 6, 20]))
    task = st.tuples(st.integers(0, span), st.integers(0, longest), st.integers(0, longest), st.integers(-2, slack))
    return [(a, p, q, max(a, a + p + q + s)) for a, p, q, s in draw(st.lists(task, min_size=1, max_size=most))]


def outcome(case, intervals, link, objective, tick=TICK):
    """(missed, objective in ticks) of a schedule."""
    result, _ = common.simulate(table(case, tick), intervals, link)
    done = [int(t) for t in result["completion_time"]]
    missed, value = naive.cost([tuple(t * tick for t in task) for task in case], done, objective)
    return missed, value / tick


@settings(max_examples=400)
@given(cases(), links, objectives)
def test_optimal_equals_brute_force_over_orders(case, link, objective):
    intervals = optimal.schedule(table(case, TICK), link, objective)
    least = naive.best_order(case, link, objective)
    assert outcome(case, intervals, link, objective) == least
    metrics = intervals.attrs["metrics"]
    assert metrics["proven_optimal"] is True
    per = 1e6 / TICK * (1 if objective == "makespan" else len(case))
    assert metrics["lower_bound"] == pytest.approx(least[1] / per, abs=1e-6)


@settings(max_examples=100)
@given(cases(most=3, longest=3), links, objectives)
def test_no_schedule_at_all_beats_the_best_order(case, link, objective):
    """The model searches orders only; here every schedule of whole ticks and every order of transmission is tried."""
    assert naive.best_order(case, link, objective) == naive.best_of_all(case, link, objective)


@settings(max_examples=60)
@given(cases(most=12, longest=15), links, objectives)
def test_optimal_is_never_worse_than_a_policy(case, link, objective):
    intervals = optimal.schedule(table(case, TICK), link, objective, time_limit=20)
    best = outcome(case, intervals, link, objective)
    for policy in POLICIES:
        assert best <= outcome(case, policy.schedule(table(case, TICK)), link, objective)
    per = 1e6 / TICK * (1 if objective == "makespan" else len(case))
    assert intervals.attrs["metrics"]["lower_bound"] <= best[1] / per + 1e-6
    intervals[["start", "end"]] //= TICK
    check_schedule(case, intervals, link)


@settings(max_examples=300)
@given(cases(), links, objectives)
def test_the_bounds_hold_for_every_order(case, link, objective):
    columns = [[value * TICK for value in column] for column in zip(*case)]
    bound = optimal.lower_bound(optimal.Case(*columns, link, objective))
    assert bound <= min(optimal.cost(optimal.Case(*columns, link, objective), order)[1]
                        for order in naive.permutations(range(len(case))))


HARD = [(k * 8 % 97, 3 + k * 7 % 12, 3 + k * 5 % 11, k * 8 % 97 + 14 + 2 * (3 + k * 5 % 11) + k % 5) for k in range(28)]


def test_out_of_time_the_best_found_is_returned_with_its_gap():
    intervals = optimal.schedule(table(HARD, TICK), "shared", "turnaround", time_limit=1)
    metrics, summary = intervals.attrs["metrics"], intervals.attrs["summary"]
    missed, value = outcome(HARD, intervals, "shared", "turnaround")
    assert metrics["proven_optimal"] is False
    assert metrics["lower_bound"] < value / len(HARD) * TICK / 1e6
    assert re.match(r"best found, gap \d+\.\d\d % in mean turnaround: ", summary[0])
    assert f"{missed} of 28 deadlines missed" in summary[0]
    for policy in POLICIES:
        assert (missed, value) <= outcome(HARD, policy.schedule(table(HARD, TICK)), "shared", "turnaround")


def test_late_tasks_are_named():
    case = [(0, 5, 1, 6), (0, 5, 1, 6), (0, 1, 1, 40)]
    summary = optimal.schedule(table(case, TICK), "shared").attrs["summary"]
    assert summary[0].startswith("optimal: 1 of 3 deadlines missed")
    assert summary[1] in ("not all deadlines can be met; late: T0", "not all deadlines can be met; late: T1")


def test_past_its_size_the_program_gives_the_best_policy_and_says_so():
    case = [(k, 2, 1, k + 9) for k in range(optimal.MAX_TASKS + 1)]
    intervals = optimal.schedule(table(case, TICK), "shared", "turnaround")
    assert intervals.attrs["summary"][0].startswith("best found, gap ")
    assert "limited to 60 tasks" in intervals.attrs["summary"][1]
    assert intervals.attrs["metrics"]["proven_optimal"] is False
    best = min(outcome(case, policy.schedule(table(case, TICK)), "shared", "turnaround") for policy in POLICIES)
    assert outcome(case, intervals, "shared", "turnaround") <= best


@pytest.mark.parametrize("objective", ["makespan", "turnaround"])
def test_highs_finds_the_same(objective):
    pytest.importorskip("highspy")
    for case in (HARD[:6], HARD[6:13], [(0, 5, 1, 6), (0, 5, 3, 7), (1, 4, 2, 9), (2, 1, 1, 40)]):
        cbc, highs = (optimal.schedule(table(case, TICK), "shared", objective, solver=solver)
                      for solver in ("CBC", "HiGHS"))
        assert outcome(case, cbc, "shared", objective) == outcome(case, highs, "shared", objective)
        assert cbc.attrs["metrics"] == highs.attrs["metrics"]


def solver_at(path, monkeypatch):
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(path))


def test_a_missing_solver_is_said(monkeypatch, tmp_path):
    solver_at(tmp_path / "nothing", monkeypatch)
    with pytest.raises(common.UserError, match="the solver CBC is not installed"):
        optimal.schedule(table(HARD, TICK))


def test_a_killed_solver_is_said(monkeypatch, tmp_path):
    program = tmp_path / "cbc"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    solver_at(program, monkeypatch)
    before = set(os.listdir(tmp_path))
    with pytest.raises(common.UserError, match="the solver CBC failed"):
        optimal.schedule(table(HARD, TICK))
    assert set(os.listdir(tmp_path)) == before


def test_an_unknown_solver_is_said():
    with pytest.raises(common.UserError, match="SOLVER: 'Gurobi' is neither"):
        optimal.schedule(table(HARD, TICK), solver="Gurobi")
