"""optimal: equal to brute force, never worse than a policy, and honest about what is proven."""
import itertools
import math
import random
import re
import signal
import tempfile
import time

import naive
import pulp
import pytest
from conftest import files, part_of
from conftest import task_table as table
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_schedules import POLICIES

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


def wide_list(seed):
    """Up to 6 tasks whose times are of several orders of magnitude, down to 1 microsecond, up to 1e13; deadlines near
    what some order meets."""
    rng = random.Random(seed)
    n, most = rng.randint(1, 6), rng.choice([1, 3, 6, 9, 11, 13])
    few, starts = rng.random() < 0.5, [0, *(int(10 ** rng.uniform(0, most)) for _ in range(3))]

    def length():
        least = rng.choice([0, 0, 1, 3])
        return 0 if rng.random() < 0.08 else int(10 ** rng.uniform(least, rng.choice([least + 1, most])))
    times = [(rng.choice(starts) + rng.randint(0, 10), rng.randint(0, 9), rng.randint(0, 9)) if few else
             (int(10 ** rng.uniform(0, most)), length(), length()) for _ in range(n)]
    ends = optimal.completions(optimal.Case(*zip(*times), times, "shared", ""), rng.sample(range(n), n))
    dues = [(end + rng.randint(-2, 1), sum(task) + rng.randint(-1, 20), sum(task) + length(), end - length())
            for task, end in zip(times, ends)]
    return [(*task, max(task[0], rng.choice(due))) for task, due in zip(times, dues)]


wide_lists = st.integers(0, 2 ** 32 - 1).map(wide_list)


def columns(case, link, objective="deadlines", tick=TICK):
    return optimal.Case(*([value * tick for value in column] for column in zip(*case)), link, objective)


def said(value, case, objective):
    """The objective (ticks) as it is printed: the makespan from the first arrival on, the mean of turnarounds."""
    return value - min(task[0] for task in case) if objective == "makespan" else value / len(case)


def outcome(case, intervals, link, objective, tick=TICK):
    """(missed, objective in ticks) of a schedule."""
    result, _ = common.simulate(table(case, tick), intervals, link)
    done = [int(t) for t in result["completion_time"]]
    missed, value = naive.cost([tuple(t * tick for t in task) for task in case], done, objective)
    return missed, value / tick


@settings(max_examples=part_of(240, 10))
@given(st.one_of(st.tuples(cases(), st.just(TICK)), st.tuples(wide_lists, st.just(1))), links, objectives)
def test_optimal_equals_brute_force_and_says_so(case_and_tick, link, objective):
    case, tick = case_and_tick
    intervals = optimal.schedule(table(case, tick), link, objective)
    missed, value = naive.best_order(case, link, objective)
    assert outcome(case, intervals, link, objective, tick) == (missed, value)
    seconds = said(value, case, objective) * tick / 1e6
    name = "makespan" if objective == "makespan" else "mean turnaround"
    proof, *late = intervals.attrs["summary"]
    assert proof == f"optimal: {missed} of {len(case)} deadlines missed, then {name} {seconds:.3f} s"
    assert len(late) == (missed > 0)
    assert intervals.attrs["metrics"] == {
        "objective": objective, "proven_optimal": True, "lower_bound": pytest.approx(seconds, abs=1e-6)}


@settings(max_examples=part_of(400, 5))
@given(st.one_of(cases(), wide_lists), links, objectives, st.sampled_from([(100,), (1,), (1, 3), (2, 8)]),
       st.data())
def test_the_search_finds_the_best_order_and_claims_nothing_else(case, link, objective, widths, data):
    """However few beginnings are kept: its bounds hold for all orders with no more misses than the one it returns."""
    tasks = range(len(case))
    start = data.draw(st.permutations(tasks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimal, "WIDTHS", widths)
        patch.setattr(optimal, "find_least", lambda *_: (0, []))
        order, fewest, bound = optimal.search(columns(case, link, objective, tick=1), start, math.inf)
    assert sorted(order) == list(tasks)
    costs = [optimal.cost(columns(case, link, objective, tick=1), other) for other in naive.permutations(tasks)]
    found = optimal.cost(columns(case, link, objective, tick=1), order)
    assert found == min(costs) == (fewest, bound) or widths != (100,)
    assert fewest <= min(costs)[0]
    assert bound <= min(value for missed, value in costs if missed <= found[0])


def fewest_missed(case, link):
    """Of all sets of tasks: free[tasks], when the uplink is free if just these are sent, all on time."""
    free = {(): 0}
    for size in range(1, len(case) + 1):
        for tasks in itertools.combinations(range(len(case)), size):
            computed = max(case[i][0] + sum(case[j][1] for j in tasks if case[j][0] >= case[i][0]) for i in tasks)
            ends = []
            for j in tasks:
                others = tuple(i for i in tasks if i != j)
                if others in free:
                    ends.append((max(computed, free[others] * (link == "shared")) + case[j][2], case[j][3]))
            on_time = [end for end, due in ends if end <= due]
            if on_time:
                free[tasks] = min(on_time)
    return len(case) - max(map(len, free))


@pytest.mark.parametrize("seed, link", [(20, "dedicated"), (42, "shared"), (1, "dedicated"), (1, "shared")])
def test_the_search_finds_the_fewest_misses_of_longer_lists(seed, link):
    """The first two need to know when the processor has done what is sent: else they give up one task too many."""
    rng = random.Random(seed)
    for _ in range(part_of(100)):
        times = [(rng.randint(0, 30), rng.randint(0, 9), rng.randint(0, 5)) for _ in range(9)]
        case = [(a, p, q, a + p + q + rng.randint(0, 9)) for a, p, q in times]
        deadlines = columns(case, link)
        order, fewest, _ = optimal.widen(deadlines, list(range(9)), 0, 0, math.inf)
        assert optimal.cost(deadlines, order)[0] == fewest == fewest_missed(case, link)


@settings(max_examples=part_of(100, 10))
@given(cases(most=5), links, objectives)
def test_a_sweep_that_is_out_of_time_leaves_out_all(case, link, objective):
    order, missed, value = optimal.sweep(columns(case, link, objective), (len(case), math.inf), 9, stop=0)
    assert sorted(order) == list(range(len(case)))
    costs = [optimal.cost(columns(case, link, objective), other) for other in naive.permutations(range(len(case)))]
    assert missed <= min(costs)[0]
    assert value <= min(costs, key=lambda cost: cost[1])[1]


CASE = [(7, 10, 9, 500), (4, 6, 10, 500), (15, 11, 10, 500), (2, 10, 1, 500), (29, 8, 5, 500)]  # that no bound proves


@pytest.fixture
def program_alone(monkeypatch):
    monkeypatch.setattr(optimal, "WIDTHS", ())


@settings(max_examples=part_of(120, 10))
@given(cases(most=5), links, objectives)
def test_the_program_finds_the_best_order(case, link, objective):
    assume(len(case) > 1)
    least = naive.best_order([tuple(t * TICK for t in task) for task in case], link, objective)
    case = columns(case, link, objective)
    start, fewest, _ = optimal.widen(case._replace(objective="deadlines"), list(range(len(case.a))), 0, 0, math.inf)
    assert fewest == least[0]
    bound, found = optimal.find_least(case, start, time.monotonic() + 10)
    assert bound <= least[1]
    assume(found)  # CBC calls a few programs infeasible whose deadlines are just met: then nothing is claimed
    assert optimal.cost(case, optimal.cheapest(case, [start, *found])) == least
    assert least[1] - 2 * optimal.tolerance(case) <= bound


# Lists of which a wrong optimum was once proven.
FALSE = [[(7, 5, 8326028986, 8326028998), (5, 9, 64078725195, 64078725209), (4, 9, 6, 20), (8, 8, 5, 25),
          (5, 9, 6, 28)]]


@pytest.mark.parametrize("link", common.LINKS)
@pytest.mark.parametrize("objective", ["makespan", "turnaround"])
def test_a_proof_of_the_solver_holds_to_the_tolerance_that_it_names(program_alone, link, objective):
    rng = random.Random(link + objective)
    for case in FALSE + [wide_list(rng.random()) for _ in range(part_of(80, 16))]:
        intervals = optimal.schedule(table(case, 1), link, objective, time_limit=5)
        found, least = outcome(case, intervals, link, objective, 1), naive.best_order(case, link, objective)
        proof, metrics = intervals.attrs["summary"][0], intervals.attrs["metrics"]
        per = 1e6 if objective == "makespan" else 1e6 * len(case)
        assert metrics["lower_bound"] <= said(least[1], case, objective) / 1e6 + 1e-6 or found[0] > least[0]
        tolerance = re.match(r"optimal(?: to (\S+) s)?: ", proof)
        assert metrics["proven_optimal"] == bool(tolerance)
        if tolerance:
            assert found[0] == least[0]
            assert found[1] <= least[1] + (float(tolerance.group(1) or 0) + 1e-6) * per
        else:
            assert int(re.search(r"at least (\d+)\)", proof).group(1)) <= least[0]


@pytest.mark.parametrize("case, objective, share", [
    ([(15, 10, 12, 500), (29, 7, 12, 500), (25, 7, 7, 500), (23, 10, 8, 500), (30, 3, 6, 500)], "makespan", 97 * 5),
    (CASE, "turnaround", 107)])
def test_a_proof_of_the_solver_names_its_tolerance(program_alone, case, objective, share):
    """1e-8 of what the schedule may span, times the number of tasks: once or twice."""
    intervals = optimal.schedule(table(case, 10 ** 9), "shared", objective)
    least = said(naive.best_order(case, "shared", objective)[1], case, objective) * 1000
    named = re.match(r"optimal to (\d\.\d{6}) s: 0 of 5 deadlines missed", intervals.attrs["summary"][0]).group(1)
    assert 0.9e-5 * share < float(named) < 2e-5 * share + 1e-6
    assert intervals.attrs["metrics"]["lower_bound"] == pytest.approx(least - float(named), abs=2e-6)
    assert intervals.attrs["metrics"]["proven_optimal"] is True


def test_a_gap_is_that_to_the_bound(program_alone, monkeypatch):
    monkeypatch.setattr(optimal, "find_least", lambda *_: (0, []))
    bound = naive.lower_bound(CASE, "shared", "turnaround")
    assert optimal.schedule(table(CASE, 10 ** 6), "shared", "turnaround").attrs["summary"] == [
        f"best found, gap {100 * (120 - bound) / 120:.2f} % in mean turnaround: 0 of 5 deadlines missed "
        f"(at least 0), then mean turnaround 24.000 s (at least {bound / 5:.3f} s)"]


@pytest.mark.parametrize("shortest", [99, 100])
def test_the_solver_is_trusted_where_no_length_is_too_short(shortest):
    times = [(0, 0, 5 * 10 ** 8, 0), (10 ** 8, shortest, 4 * 10 ** 8 - shortest, 0)]  # they may span 1e9
    assert optimal.solver_resolves(columns(times, "shared", tick=1)) is (shortest == 100)


@settings(max_examples=part_of(60, 10))
@given(cases(most=12, longest=15), links, objectives)
def test_optimal_is_never_worse_than_a_policy(case, link, objective):
    intervals = optimal.schedule(table(case, TICK), link, objective, time_limit=2)
    best = outcome(case, intervals, link, objective)
    for policy in POLICIES:
        assert best <= outcome(case, policy.schedule(table(case, TICK)), link, objective)
    assert intervals.attrs["metrics"]["lower_bound"] <= said(best[1], case, objective) * TICK / 1e6 + 1e-6
    starts, ends = intervals["start"] // TICK, intervals["end"] // TICK
    busy = {t for start, end in zip(starts, ends) for t in range(start, end)}
    for t in range(ends.max()):  # no idling while there is work
        todo = sum(p for a, p, _, _ in case if a <= t) - sum(s < t for s in busy)
        assert (t in busy) == (todo > 0)


@settings(max_examples=part_of(500))
@given(st.one_of(cases(most=9), cases(most=9, longest=4)), links)
def test_the_bound_on_misses_is_that_of_halves(case, link):
    assert optimal.certainly_missed(columns(case, link)) == naive.certainly_missed(case, link)


@settings(max_examples=part_of(300))
@given(st.one_of(cases(most=5), wide_lists), links, objectives)
def test_the_bound_on_the_objective_is_that_of_easier_problems(case, link, objective):
    assert optimal.lower_bound(columns(case, link, objective, tick=1)) == naive.lower_bound(case, link, objective)


HARD = [(k * 8 % 97, 3 + k * 7 % 12, 3 + k * 5 % 11, k * 8 % 97 + 14 + 2 * (3 + k * 5 % 11) + k % 5) for k in range(28)]


def test_out_of_time_the_best_found_is_returned_with_its_gap():
    intervals = optimal.schedule(table(HARD, TICK), "shared", "turnaround", time_limit=0)
    missed, value = outcome(HARD, intervals, "shared", "turnaround")
    assert intervals.attrs["metrics"]["proven_optimal"] is False
    assert intervals.attrs["metrics"]["lower_bound"] < value / len(HARD) * TICK / 1e6
    words = r"best found, gap (\S+) % in missed deadlines: (\d+) of 28 deadlines missed \(at least (\d+)\), then mean "
    gap, claimed, least = re.match(words, intervals.attrs["summary"][0]).groups()
    assert int(claimed) == missed > int(least)
    assert float(gap) == pytest.approx(100 * (missed - int(least)) / missed, abs=0.005)


@pytest.mark.parametrize("late, names", [
    (1, "T0"), (12, "T0, T1, T2, T3, T4, T5, T6, T7, T8, T9 and 2 more")])
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
    named = re.fullmatch("the search is limited to 60 tasks: this is the order of (.*), the best of FCFS, "
                         "SRTF, LLF and ADSA", intervals.attrs["summary"][1]).group(1)
    assert costs[named] == min(costs.values()) < costs["FCFS"]


@pytest.mark.parametrize("objective", ["makespan", "turnaround"])
def test_parts_are_solved_for_what_the_whole_is(objective):
    rows = [(0, 5, 1, 1000), (0, 3, 1, 1000), (100, 4, 1, 1000), (100, 2, 1, 1000)]
    case = columns(rows, "dedicated", objective, tick=1)
    order, fewest, bound = optimal.solve_parts(case, [[0, 1], [2, 3]], [[0, 1, 2, 3]], math.inf)
    assert (fewest, bound) == optimal.cost(case, order) == naive.best_order(rows, "dedicated", objective)


# The solver -----------------------------------------------------------------------------------------------------------


def solver_at(path, monkeypatch, script=None):
    if script:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(path))


@pytest.mark.parametrize("title, low, is_found", [
    ("Optimal - objective value 2", 2, True),
    ("Stopped on time - objective value 1", 12.345, True),
    ("Stopped on time (no integer solution - continuous used) - objective value 1", 12.345, False),
    ("Infeasible - objective value 0", 12.345, False),
    ("Integer infeasible - objective value 0", 12.345, False)])
def test_what_the_solver_writes_is_read(title, low, is_found, monkeypatch, tmp_path):
    """A bound in its log is rounded: at least 12.345 if 12.346 stands there."""
    solver_at(tmp_path / "cbc", monkeypatch, f"""echo 'Lower bound:                12.346'
for last; do :; done
printf '{title}\\n** 0 X0000000 2 0\\n' > "$last\"""")
    x = pulp.LpVariable("x", 0, 9)
    problem = pulp.LpProblem("one", pulp.LpMinimize)
    problem += x
    problem += x >= 1
    assert optimal.run_cbc(problem, time.monotonic() + 9) == pytest.approx(low)
    two = columns([(0, 5, 3, 99), (0, 5, 3, 99)], "shared", "makespan")
    assert len(optimal.find_least(two, [0, 1], time.monotonic() + 9)[1]) == is_found


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
        bound, found = optimal.find_least(case, start, time.monotonic() + 9)
    assert [optimal.cost(case, order) for order in found] == [(missed, value)]
    assert bound == pytest.approx(value, abs=2)


@pytest.mark.parametrize("script", [None, "kill -9 $$", "exit 1", "exit 0"])
def test_a_solver_that_is_missing_or_fails_is_said(program_alone, script, monkeypatch, tmp_path):
    solver_at(tmp_path / "cbc", monkeypatch, script)
    with pytest.raises(common.UserError, match=r"the solver CBC failed: [^\n]*$"):
        optimal.schedule(table(CASE, TICK), objective="turnaround")


def test_an_interrupted_solver_leaves_no_file(program_alone, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    solver_at(tmp_path / "cbc", monkeypatch, "kill -INT $PPID; sleep 1")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it runs with &
    try:
        with pytest.raises(KeyboardInterrupt):
            optimal.schedule(table(CASE, TICK), objective="turnaround")
    finally:
        signal.signal(signal.SIGINT, before)
    assert files(tmp_path) == ["cbc"]


@pytest.mark.parametrize("version", ["3.0.0", "3.0.1", "4.0.0", None])  # 4 has no solver; None: pulp is missing
def test_without_a_pulp_that_can_serve_it_is_said_what_to_install(program_alone, version, monkeypatch):
    monkeypatch.setattr(pulp, "__version__", version)
    if version == "4.0.0":
        monkeypatch.delattr(pulp, "PULP_CBC_CMD")
    if version is None:
        monkeypatch.setattr(optimal, "pulp", None)
    with pytest.raises(common.UserError, match=f"PuLP {version}: pip install 'pulp<4," if version else "pulp: pip"):
        optimal.schedule(table(CASE, TICK), objective="turnaround")


@pytest.mark.parametrize("setting, value", [("objective", "tardiness"), ("time_limit", -1), ("time_limit", 1e11)])
def test_a_wrong_setting_is_said_before_anything_is_computed(setting, value, monkeypatch):
    monkeypatch.setattr(common, "simulate", None)
    with pytest.raises(common.UserError, match=setting.upper()):
        optimal.schedule(table(CASE, TICK), **{setting: value})
