"""optimal: equal to brute force, never worse than a policy, and honest about what is proven."""
import itertools
import math
import re
import time

import naive
import pulp
import pytest
from conftest import part_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_schedules import POLICIES, check_schedule, table

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


@st.composite
def real_cases(draw, most=5):
    """Lists of any microseconds, some of whose deadlines are met to the microsecond in one order."""
    span, length = draw(st.sampled_from([0, 10 ** 7, 10 ** 8])), st.integers(1, 10 ** 7)
    times = draw(st.lists(st.tuples(st.integers(0, span), length, length), min_size=1, max_size=most))
    done = optimal.completions(optimal.Case(*zip(*times), times, "shared", ""), range(len(times)))
    spare = draw(st.lists(st.sampled_from([-10 ** 6, -1, 0, 10 ** 6]), min_size=most, max_size=most))
    return [(a, p, q, max(a, end + more)) for (a, p, q), end, more in zip(times, done, spare)]


def columns(case, link, objective="deadlines", tick=TICK):
    return optimal.Case(*([value * tick for value in column] for column in zip(*case)), link, objective)


def outcome(case, intervals, link, objective, tick=TICK):
    """(missed, objective in ticks) of a schedule."""
    result, _ = common.simulate(table(case, tick), intervals, link)
    done = [int(t) for t in result["completion_time"]]
    missed, value = naive.cost([tuple(t * tick for t in task) for task in case], done, objective)
    return missed, value / tick


@settings(max_examples=part_of(160, 10))
@given(st.one_of(st.tuples(cases(), st.just(TICK)), st.tuples(real_cases(), st.just(1))), links, objectives)
def test_optimal_equals_brute_force_and_says_so(case_and_tick, link, objective):
    case, tick = case_and_tick
    intervals = optimal.schedule(table(case, tick), link, objective)
    missed, value = naive.best_order(case, link, objective)
    assert outcome(case, intervals, link, objective, tick) == (missed, value)
    seconds = value * tick / 1e6 / (1 if objective == "makespan" else len(case))
    name = "makespan" if objective == "makespan" else "mean turnaround"
    proof, *late = intervals.attrs["summary"]
    assert proof == f"optimal: {missed} of {len(case)} deadlines missed, then {name} {seconds:.3f} s"
    assert len(late) == (missed > 0)
    assert intervals.attrs["metrics"] == {
        "objective": objective, "proven_optimal": True, "lower_bound": pytest.approx(seconds, abs=1e-6)}


@settings(max_examples=part_of(200, 10))
@given(st.one_of(cases(most=5), real_cases()), links, objectives)
def test_all_orders_are_searched(case, link, objective):
    least = naive.best_order(case, link, objective)
    case = columns(case, link, objective, tick=1)
    assert optimal.cost(case, optimal.find_better(case, (len(case.a) + 1, 0))) == least
    assert optimal.cost(case, optimal.find_better(case, (least[0], least[1] + 1))) == least
    assert optimal.find_better(case, least) is None


@pytest.fixture
def programs_alone(monkeypatch):
    monkeypatch.setattr(optimal, "MAX_EXACT", 0)


@settings(max_examples=part_of(120, 10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases(most=5), links, objectives)
def test_the_programs_alone_equal_brute_force(programs_alone, case, link, objective):
    intervals = optimal.schedule(table(case, TICK), link, objective)
    least = naive.best_order(case, link, objective)
    assert outcome(case, intervals, link, objective) == least
    assert intervals.attrs["metrics"]["proven_optimal"] is True
    per = 1e6 / TICK * (1 if objective == "makespan" else len(case))
    assert intervals.attrs["metrics"]["lower_bound"] == pytest.approx(least[1] / per, abs=1e-5)


@pytest.mark.parametrize("case, objective, share", [
    ([(15, 10, 12, 500), (29, 7, 12, 500), (25, 7, 7, 500), (23, 10, 8, 500), (30, 3, 6, 500)], "makespan", 97 * 5),
    ([(7, 10, 9, 500), (4, 6, 10, 500), (15, 11, 10, 500), (2, 10, 1, 500), (29, 8, 5, 500)], "turnaround", 107)])
def test_a_proof_of_the_solver_names_its_tolerance(programs_alone, case, objective, share):
    """1e-8 of what the schedule may span, times the number of tasks: once or twice."""
    intervals = optimal.schedule(table(case, 10 ** 9), "shared", objective)
    least = naive.best_order(case, "shared", objective)[1] * 1000 / (1 if objective == "makespan" else len(case))
    named = re.match(r"optimal to (\d\.\d{6}) s: 0 of 5 deadlines missed", intervals.attrs["summary"][0]).group(1)
    assert 0.9e-5 * share < float(named) < 2e-5 * share + 1e-6
    assert intervals.attrs["metrics"]["lower_bound"] == pytest.approx(least - float(named), abs=2e-6)
    assert intervals.attrs["metrics"]["proven_optimal"] is True


def test_a_claim_that_an_order_refutes_is_none(programs_alone, monkeypatch):
    monkeypatch.setattr(optimal, "fewest_missed", lambda case, stop: (len(case.a), []))
    monkeypatch.setattr(optimal, "find_on_time", lambda *_: (False, []))
    monkeypatch.setattr(optimal, "find_least", lambda *_: (10 ** 18, []))
    case = [(10, 8, 7, 25), (14, 1, 7, 23), (8, 9, 3, 24), (0, 2, 8, 12), (7, 7, 5, 20)]
    proof = optimal.schedule(table(case, TICK), "shared", "turnaround").attrs["summary"][0]
    assert proof == ("best found, gap 33.33 % in missed deadlines: 3 of 5 deadlines missed (at least 2), "
                     "then mean turnaround 0.168 s (at least 0.168 s)")


def test_a_gap_is_that_to_the_bound(programs_alone, monkeypatch):
    monkeypatch.setattr(optimal, "find_least", lambda *_: (0, []))
    case = [(7, 10, 9, 500), (4, 6, 10, 500), (15, 11, 10, 500), (2, 10, 1, 500), (29, 8, 5, 500)]
    bound = naive.lower_bound(case, "shared", "turnaround")
    assert optimal.schedule(table(case, 10 ** 6), "shared", "turnaround").attrs["summary"] == [
        f"best found, gap {100 * (120 - bound) / 120:.2f} % in mean turnaround: 0 of 5 deadlines missed "
        f"(at least 0), then mean turnaround 24.000 s (at least {bound / 5:.3f} s)"]


@pytest.mark.parametrize("shortest", [99, 100])
def test_the_solver_is_trusted_where_no_length_is_too_short(shortest):
    times = [(0, 0, 5 * 10 ** 8, 0), (10 ** 8, shortest, 4 * 10 ** 8 - shortest, 0)]  # they may span 1e9
    assert optimal.solver_resolves(columns(times, "shared", tick=1)) is (shortest == 100)


@settings(max_examples=part_of(120, 10))
@given(st.one_of(cases(), real_cases()), links, objectives)
def test_no_single_move_improves_an_improved_order(case, link, objective):
    case = columns(case, link, objective, tick=1)
    start = list(range(len(case.a)))
    order = optimal.improve(case, start, math.inf)
    assert sorted(order) == start
    assert optimal.cost(case, order) <= optimal.cost(case, start)
    for i, k in itertools.product(start, start):
        moved = [j for j in order if j != i]
        moved.insert(k, i)
        assert optimal.cost(case, order) <= optimal.cost(case, moved)


@settings(max_examples=part_of(100, 10))
@given(cases(most=3, longest=3), links, objectives)
def test_no_schedule_at_all_beats_the_best_order(case, link, objective):
    """The model searches orders only; here every schedule of whole ticks and every order of transmission is tried."""
    assert naive.best_order(case, link, objective) == naive.best_of_all(case, link, objective)


@settings(max_examples=part_of(60, 10))
@given(cases(most=12, longest=15), links, objectives)
def test_optimal_is_never_worse_than_a_policy(case, link, objective):
    intervals = optimal.schedule(table(case, TICK), link, objective, time_limit=2)
    best = outcome(case, intervals, link, objective)
    for policy in POLICIES:
        assert best <= outcome(case, policy.schedule(table(case, TICK)), link, objective)
    per = 1e6 / TICK * (1 if objective == "makespan" else len(case))
    assert intervals.attrs["metrics"]["lower_bound"] <= best[1] / per + 1e-6
    intervals[["start", "end"]] //= TICK
    check_schedule(case, intervals, link)


@settings(max_examples=part_of(120, 10))
@given(cases(), links, objectives)
def test_the_bounds_hold_for_every_order(case, link, objective):
    case = columns(case, link, objective)
    missed, values = zip(*(optimal.cost(case, order) for order in naive.permutations(range(len(case.a)))))
    assert optimal.certainly_missed(case) <= min(missed)
    assert optimal.lower_bound(case) <= min(values)


@settings(max_examples=part_of(200, 10))
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=8))
def test_the_fewest_late_jobs_are_those_that_no_set_on_time_holds(jobs):
    assert optimal.fewest_late(jobs) == naive.fewest_late(jobs)


@settings(max_examples=part_of(150, 10))
@given(st.one_of(cases(most=9), cases(most=9, longest=4)), links)
def test_the_bound_on_misses_is_that_of_halves(case, link):
    assert optimal.certainly_missed(columns(case, link)) == naive.certainly_missed(case, link)


@settings(max_examples=part_of(150, 10))
@given(st.one_of(cases(most=5), real_cases()), links, objectives)
def test_the_bound_on_the_objective_is_that_of_easier_problems(case, link, objective):
    assert optimal.lower_bound(columns(case, link, objective, tick=1)) == naive.lower_bound(case, link, objective)


@settings(max_examples=30)
@given(cases(most=5), links)
def test_the_program_of_misses_is_never_above_the_fewest(case, link):
    """On a dedicated link it finds them, and tasks that can be given up for them."""
    least, _ = naive.best_order(case, link, "makespan")
    assert optimal.fewest_missed(columns(case, link), time.monotonic()) == (0, [])  # out of time
    claimed, given_up = optimal.fewest_missed(columns(case, link), time.monotonic() + 10)
    assert len(given_up) == claimed <= least
    if link == "dedicated":
        assert claimed == least
        others = [task for j, task in enumerate(case) if j not in given_up]
        assert not others or naive.best_order(others, link, "makespan")[0] == 0


HARD = [(k * 8 % 97, 3 + k * 7 % 12, 3 + k * 5 % 11, k * 8 % 97 + 14 + 2 * (3 + k * 5 % 11) + k % 5) for k in range(28)]


def test_out_of_time_the_best_found_is_returned_with_its_gap():
    intervals = optimal.schedule(table(HARD, TICK), "shared", "turnaround", time_limit=2)
    metrics, summary = intervals.attrs["metrics"], intervals.attrs["summary"]
    missed, value = outcome(HARD, intervals, "shared", "turnaround")
    assert metrics["proven_optimal"] is False
    assert metrics["lower_bound"] < value / len(HARD) * TICK / 1e6
    assert re.match(r"best found, gap \d+\.\d\d % in (missed deadlines|mean turnaround): ", summary[0])
    assert f"{missed} of 28 deadlines missed" in summary[0]
    for policy in POLICIES:
        assert (missed, value) <= outcome(HARD, policy.schedule(table(HARD, TICK)), "shared", "turnaround")


@pytest.mark.parametrize("late, names", [
    (1, "T0"), (10, "T0, T1, T2, T3, T4, T5, T6, T7, T8, T9"),
    (12, "T0, T1, T2, T3, T4, T5, T6, T7, T8, T9 and 2 more")])
def test_late_tasks_are_named_up_to_ten(late, names):
    case = [(0, 1, 1, 1)] * late + [(0, 1, 1, 99)]
    summary = optimal.schedule(table(case, TICK), "dedicated").attrs["summary"]
    assert summary[0].startswith(f"optimal: {late} of {len(case)} deadlines missed")
    assert summary[1] == f"not all deadlines can be met; late: {names}"


def test_past_its_size_the_program_gives_the_best_policy_and_says_which():
    case = [(0, 30, 1, 400)] + [(k, 2, 1, k + 9) for k in range(optimal.MAX_TASKS)]  # FCFS has all wait for the first
    intervals = optimal.schedule(table(case, TICK), "shared", "turnaround")
    assert intervals.attrs["summary"][0].startswith("best found, gap ")
    assert intervals.attrs["metrics"]["proven_optimal"] is False
    costs = {policy.__name__: outcome(case, policy.schedule(table(case, TICK)), "shared", "turnaround")
             for policy in POLICIES}
    assert outcome(case, intervals, "shared", "turnaround") <= min(costs.values())
    named = re.fullmatch("the integer program is limited to 60 tasks: this is the order of (.*), the best of FCFS, "
                         "SRTF, LLF and ADSA", intervals.attrs["summary"][1]).group(1)
    assert costs[named] == min(costs.values()) < costs["FCFS"]


# The solver -----------------------------------------------------------------------------------------------------------


def solver_at(path, monkeypatch, script=None):
    if script:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(path))


@pytest.mark.parametrize("title, low, is_impossible, is_found", [
    ("Optimal - objective value 2", 2, False, True),
    ("Stopped on time - objective value 1", 12.345, False, True),
    ("Stopped on time (no integer solution - continuous used) - objective value 1", 12.345, False, False),
    ("Infeasible - objective value 0", 12.345, True, False),
    ("Integer infeasible - objective value 0", 12.345, True, False)])
def test_what_the_solver_writes_is_read(title, low, is_impossible, is_found, monkeypatch, tmp_path):
    """A bound in its log is rounded: at least 12.345 if 12.346 stands there."""
    solver_at(tmp_path / "cbc", monkeypatch, f"""echo 'Lower bound:                12.346'
for last; do :; done
printf '{title}\\n** 0 X0000000 2 0\\n' > "$last\"""")
    x = pulp.LpVariable("x", 0, 9)
    problem = pulp.LpProblem("one", pulp.LpMinimize)
    problem += x
    problem += x >= 1
    assert optimal.run_cbc(problem, time.monotonic() + 9) == pytest.approx(low)
    two = columns([(0, 5, 3, 99), (0, 5, 3, 99)], "shared")
    is_proven, found = optimal.find_on_time(two, 0, time.monotonic() + 9)
    assert (is_proven, len(found)) == (is_impossible, is_found)


@settings(max_examples=part_of(100, 10))
@given(cases(most=5), links, objectives, st.randoms(use_true_random=False))
def test_a_program_with_its_binaries_at_an_order_has_the_cost_of_the_order(case, link, objective, rng):
    """So the model is right, and the start of the solver a solution."""
    case = columns(case, link, objective)
    start = list(range(len(case.a)))
    assume(len(start) > 1)
    rng.shuffle(start)
    missed, value = optimal.cost(case, start)
    solved = []

    def run_fixed(problem, stop, warm_start=False):
        for variable in problem.variables():
            if variable.varValue is not None:
                variable.fixValue()
        solved.append(run_cbc(problem, stop, warm_start))
        return solved[0]
    with pytest.MonkeyPatch.context() as patch:
        run_cbc = optimal.run_cbc
        patch.setattr(optimal, "run_cbc", run_fixed)
        bound, found = optimal.find_least(case, missed, time.monotonic() + 9, start)
    assert [optimal.cost(case, order) for order in found] == [(missed, value)]
    assert bound == pytest.approx(value, abs=2)
