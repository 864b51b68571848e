"""optimal: equal to brute force, never worse than a policy, and honest about what is proven."""
import re
from itertools import combinations

import naive
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
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


def columns(case, link, objective="deadlines"):
    return optimal.Case(*([value * TICK for value in column] for column in zip(*case)), link, objective)


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
    assert optimal.certainly_missed(columns(case, link, objective)) <= least[0]
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
    intervals = optimal.schedule(table(case, TICK), link, objective, time_limit=2)
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
    case = columns(case, link, objective)
    missed, values = zip(*(optimal.cost(case, order) for order in naive.permutations(range(len(case.a)))))
    assert optimal.certainly_missed(case) <= min(missed)
    assert optimal.lower_bound(case) <= min(values)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=8))
def test_the_fewest_late_jobs_are_those_that_no_set_on_time_holds(jobs):
    """All are there from the first release on. If a set of jobs can be on time, then by due date."""
    now = min(release for release, _, _ in jobs)
    by_due = sorted((due, length) for _, due, length in jobs)

    def fits(some):
        return all(now + sum(length for _, length in some[:k + 1]) <= due for k, (due, _) in enumerate(some))
    most = max(k for k in range(len(jobs) + 1) if any(fits(some) for some in combinations(by_due, k)))
    assert optimal.fewest_late(jobs) == len(jobs) - most


@settings(max_examples=100)
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


def test_past_its_size_the_program_gives_the_best_policy_and_says_which():
    case = [(0, 30, 1, 400)] + [(k, 2, 1, k + 9) for k in range(optimal.MAX_TASKS)]  # FCFS has all wait for the first
    intervals = optimal.schedule(table(case, TICK), "shared", "turnaround")
    assert intervals.attrs["summary"][0].startswith("best found, gap ")
    assert intervals.attrs["metrics"]["proven_optimal"] is False
    costs = {policy.__name__: outcome(case, policy.schedule(table(case, TICK)), "shared", "turnaround")
             for policy in POLICIES}
    assert outcome(case, intervals, "shared", "turnaround") <= min(costs.values())
    named = re.fullmatch("the exact program is limited to 60 tasks: this is the order of (.*), the best of FCFS, SRTF, "
                         "LLF and ADSA", intervals.attrs["summary"][1]).group(1)
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
