"""optimal: equal to brute force, never worse than a policy, and honest about what is proven."""
import itertools
import math
import re
import signal
import subprocess
import threading
import time

import naive
import numpy as np
import pandas as pd
import pulp
import pytest
from conftest import part_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_schedules import POLICIES, check_schedule, table

import common
import optimal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulp")  # of what PuLP 4 will not have
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


def check_optimal(case, link, objective, tick):
    """The schedule costs what brute force finds, and what is printed says so."""
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


@settings(max_examples=part_of(80, 10))
@given(cases(), links, objectives)
def test_optimal_equals_brute_force_over_orders(case, link, objective):
    check_optimal(case, link, objective, TICK)


@settings(max_examples=part_of(80, 10))
@given(real_cases(), links, objectives)
def test_optimal_equals_brute_force_to_the_microsecond(case, link, objective):
    check_optimal(case, link, objective, 1)


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
    monkeypatch.setattr(optimal, "fewest_missed", lambda case, seconds: (len(case.a), []))
    monkeypatch.setattr(optimal, "find_on_time", lambda *_: ("unknown", None))
    monkeypatch.setattr(optimal, "find_least", lambda case, *_: (None, 10 ** 18))
    case = [(10, 8, 7, 25), (14, 1, 7, 23), (8, 9, 3, 24), (0, 2, 8, 12), (7, 7, 5, 20)]
    proof = optimal.schedule(table(case, TICK), "shared", "turnaround").attrs["summary"][0]
    assert proof == ("best found, gap 33.33 % in missed deadlines: 3 of 5 deadlines missed (at least 2), "
                     "then mean turnaround 0.168 s (at least 0.168 s)")


def test_a_gap_is_that_to_the_bound(programs_alone, monkeypatch):
    monkeypatch.setattr(optimal, "find_least", lambda case, *_: (None, 0))
    case = [(7, 10, 9, 500), (4, 6, 10, 500), (15, 11, 10, 500), (2, 10, 1, 500), (29, 8, 5, 500)]
    intervals = optimal.schedule(table(case, 10 ** 6), "shared", "turnaround")
    bound, value = naive.lower_bound(case, "shared", "turnaround"), 120
    assert intervals.attrs["summary"] == [
        f"best found, gap {100 * (value - bound) / value:.2f} % in mean turnaround: 0 of 5 deadlines missed "
        f"(at least 0), then mean turnaround {value / 5:.3f} s (at least {bound / 5:.3f} s)"]
    assert intervals.attrs["metrics"] == {
        "objective": "turnaround", "proven_optimal": False, "lower_bound": bound / 5}


@pytest.mark.parametrize("shortest, is_trusted", [(100, True), (99, False)])
def test_the_solver_is_trusted_where_no_length_is_too_short(shortest, is_trusted):
    times = [(0, 0, 5 * 10 ** 8, 0), (10 ** 8, shortest, 4 * 10 ** 8 - shortest, 0)]  # they may span 1e9
    case = optimal.Case(*map(list, zip(*times)), "shared", "makespan")
    assert optimal.solver_resolves(case) is is_trusted
    assert optimal.solver_resolves(case._replace(p=[0, 0])) is True


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
    claimed, given_up = optimal.fewest_missed(columns(case, link), 10)
    assert len(given_up) == claimed <= least
    if link == "dedicated":
        assert claimed == least
        others = [task for j, task in enumerate(case) if j not in given_up]
        assert not others or naive.best_order(others, link, "makespan")[0] == 0


@settings(max_examples=part_of(100, 10))
@given(cases(most=40, longest=15), links)
def test_the_bound_on_misses_is_none_that_a_policy_beats(case, link):
    bound = optimal.certainly_missed(columns(case, link))
    for policy in POLICIES:
        assert bound <= outcome(case, policy.schedule(table(case, TICK)), link, "makespan")[0]
    together = [(0, p, 0, d) for _, p, _, d in case]  # one machine, all there at once: the bound is the answer
    by_due = optimal.certainly_missed(columns(together, link))
    assert by_due == optimal.fewest_late([(0, d, p) for _, p, _, d in together])


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


def test_late_tasks_are_named():
    case = [(0, 5, 1, 6), (0, 5, 1, 6), (0, 1, 1, 40)]
    summary = optimal.schedule(table(case, TICK), "shared").attrs["summary"]
    assert summary[0].startswith("optimal: 1 of 3 deadlines missed")
    assert summary[1] in ("not all deadlines can be met; late: T0", "not all deadlines can be met; late: T1")


@pytest.mark.parametrize("late, end", [(10, "T9"), (12, "T9 and 2 more")])
def test_of_many_late_tasks_ten_are_named(late, end):
    case = [(0, 1, 1, 1)] * late + [(0, 1, 1, 99)]
    summary = optimal.schedule(table(case, TICK), "dedicated").attrs["summary"]
    names = ", ".join(f"T{j}" for j in range(9))
    assert summary[1] == f"not all deadlines can be met; late: {names}, {end}"


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


@pytest.mark.parametrize("where", ["throughout", "in the middle", "on the uplink"])
def test_misses_of_an_overload_of_thousands_are_bounded(where):
    """Arrivals one a tick. Work of 1.5 ticks a task throughout; of 1.5 for a tenth of the time; results of 1.5."""
    rng, n = np.random.default_rng(0), 4000
    work = rng.integers(0, 2 * TICK, n)
    more = work + TICK // 2
    p, q = {"throughout": (more, work // 4), "on the uplink": (work // 4, more),
            "in the middle": (np.where(abs(np.arange(n) - n // 2) < n // 20, more, work // 2), work // 4)}[where]
    a = np.arange(n) * TICK
    tasks = pd.DataFrame({"label": [f"T{j}" for j in range(n)], "arrival_time": a, "computation_time": p,
                          "trans_time": q, "deadline": a + p + q + rng.integers(0, 20 * TICK, n), "kv_bytes": 1})
    summary = optimal.schedule(tasks, "shared").attrs["summary"][0]
    missed, least = (int(re.search(words, summary).group(1)) for words in (r"(\d+) of 4000", r"\(at least (\d+)\)"))
    assert missed / 5 < least <= missed


# The solver -----------------------------------------------------------------------------------------------------------


def solver_at(path, monkeypatch, script=None):
    if script:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(path))


@pytest.mark.parametrize("title, status, low", [
    ("Stopped on time (no integer solution - continuous used) - objective value 1", "unknown", 12.345),
    ("Stopped on time - objective value 1", "feasible", 12.345),
    ("Infeasible - objective value 0", "infeasible", -math.inf),
    ("Integer infeasible - objective value 0", "infeasible", -math.inf),
    ("Optimal - objective value 2", "optimal", 2)])
def test_what_the_solver_writes_is_read(title, status, low, monkeypatch, tmp_path):
    """A bound in its log is rounded: at least 12.345 if 12.346 stands there."""
    solver_at(tmp_path / "cbc", monkeypatch, f"""printf 'Welcome\\nLower bound:                12.346\\n'
printf '{title}\\n** 0 X0000000 2 0\\n' > solution""")
    problem, x = pulp.LpProblem("one", pulp.LpMinimize), pulp.LpVariable("x", 0, 9)
    problem += x
    problem += x >= 1
    assert optimal.run_cbc(problem, 9) == (status, pytest.approx(low))
    assert x.varValue == (2 if status in ("optimal", "feasible") else None)


def test_a_handler_of_sigterm_stays_and_other_threads_can_solve(monkeypatch):
    during = []
    start = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: (
        during.append(signal.getsignal(signal.SIGTERM)), start(*arguments, **options))[1])
    case = [(0, 5, 1, 6), (0, 5, 3, 7), (1, 4, 2, 9), (2, 1, 1, 40)]

    def own(number, frame):
        raise AssertionError
    before = signal.signal(signal.SIGTERM, own)
    try:
        found = optimal.schedule(table(case, TICK))
        assert during and set(during) == {own} and signal.getsignal(signal.SIGTERM) is own
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        again = []
        thread = threading.Thread(target=lambda: again.append(optimal.schedule(table(case, TICK))))
        thread.start()
        thread.join()
        assert again[0].equals(found) and during[-1] == signal.SIG_DFL
        optimal.schedule(table(case, TICK))
        assert during[-1] not in (own, signal.SIG_DFL) and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_task_is_sent_once_it_is_computed():
    case = optimal.Case(a=[3, 0], p=[5, 4], q=[2, 1], d=[20, 9], link="shared", objective="makespan")
    assert optimal.soonest_sending(case) == [8, 4]
    assert optimal.latest_computed(case) == [18, 8]


@pytest.mark.parametrize("objective", ["makespan", "turnaround"])
def test_parts_are_solved_for_what_the_whole_is(objective):
    rows = [(0, 5, 1, 1000), (0, 3, 1, 1000), (100, 4, 1, 1000), (100, 2, 1, 1000)]
    case = optimal.Case(*map(list, zip(*rows)), "dedicated", objective)
    order, fewest, bound = optimal.solve_parts(case, [[0, 1], [2, 3]], [[0, 1, 2, 3]], time.monotonic() + 5)
    assert (fewest, bound) == optimal.cost(case, order) == naive.best_order(rows, "dedicated", objective)


def test_the_start_that_cbc_reads_has_the_values_of_the_variables(tmp_path):
    problem = pulp.LpProblem("any", pulp.LpMinimize)
    x, y, z = (pulp.LpVariable(name, lowBound=0) for name in "xyz")
    problem += x + y + z
    x.varValue, y.varValue = 0.0, 2.0  # and z has none
    optimal.write_start(tmp_path / "start", problem, {"x": "C0", "y": "C1", "z": "C2"})
    _, *lines = (tmp_path / "start").read_text().splitlines()
    assert [line.split()[:3] for line in lines] == [["0", "C0", "0"], ["1", "C1", "2.0"], ["2", "C2", "0"]]
