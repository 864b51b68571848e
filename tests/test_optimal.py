"""optimal: equal to brute force, never worse than a policy, and honest about what is proven."""
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from itertools import combinations

import naive
import numpy as np
import pandas as pd
import pulp
import pytest
from conftest import ROOT, files
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scheduling import POLICIES, check_schedule, table

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


def columns(case, link, objective=None):
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
@given(st.integers(0, 9), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8))
def test_the_fewest_late_jobs_are_those_that_no_set_on_time_holds(now, jobs):
    """If a set of jobs can be on time, then by due date."""
    def fits(some):
        return all(now + sum(length for _, length in some[:k + 1]) <= due for k, (due, _) in enumerate(some))
    most = max(k for k in range(len(jobs) + 1) if any(fits(some) for some in combinations(sorted(jobs), k)))
    assert optimal.fewest_late(now, jobs) == len(jobs) - most


@settings(max_examples=100)
@given(cases(most=40, longest=15), links)
def test_the_bound_on_misses_is_none_that_a_policy_beats(case, link):
    bound = optimal.certainly_missed(columns(case, link))
    for policy in POLICIES:
        assert bound <= outcome(case, policy.schedule(table(case, TICK)), link, "makespan")[0]
    together = [(0, p, 0, d) for _, p, _, d in case]  # one machine, all there at once: the bound is the answer
    by_due = optimal.certainly_missed(columns(together, link))
    assert by_due == optimal.fewest_late(0, [(d, p) for _, p, _, d in together])


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


@pytest.mark.parametrize("setting, values", [
    ("OBJECTIVE", [None, 3, "", "tardiness", ["makespan"]]), ("SOLVER", [None, 1, "", "Gurobi", b"CBC"]),
    ("TIME_LIMIT", [None, "60", True, [60], -1, float("nan"), float("inf"), 1e10]),
    ("MAX_TASKS", [None, "60", True, 2.5, -1, float("nan"), float("inf")])])
def test_a_wrong_setting_is_said_before_anything_is_computed(setting, values, monkeypatch):
    monkeypatch.setattr(common, "simulate", None)
    for value in values:
        arguments = {setting.lower(): value} if setting != "MAX_TASKS" else {}
        if not arguments:
            monkeypatch.setattr(optimal, "MAX_TASKS", value)
        with pytest.raises(common.UserError, match=setting) as error:
            optimal.schedule(table(HARD, TICK), **arguments)
        assert "\n" not in str(error.value)


# Signals --------------------------------------------------------------------------------------------------------------


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


SCRIPT = [str(ROOT / "optimal.py"), "--tasks", "tasks.csv", "--objective", "turnaround"]
FUNCTION = ["-c", f"""import sys
sys.path.insert(0, {str(ROOT)!r})
import common, optimal
tasks = common.read_tasks('tasks.csv', common.get_model('GPT-Neo 1.3B'), [common.get_device('T4')])
optimal.schedule(tasks, objective='turnaround')"""]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("program, stop, status, message", [
    (SCRIPT, "SIGINT to all", 130, "optimal: interrupted\n"),  # as a terminal's Ctrl-C
    (SCRIPT, "SIGINT", 130, "optimal: interrupted\n"),
    (SCRIPT, "SIGTERM", 143, ""),
    (FUNCTION, "SIGTERM", 143, ""),
    (SCRIPT, "kill the solver", 2, "optimal: the solver CBC failed: [^\n]*\n")])
def test_a_signal_leaves_no_solver_and_no_file(program, stop, status, message, tmp_path):
    rows = [(f"T{k}", "", a, 0, q, d, p) for k, (a, p, q, d) in enumerate(HARD)]
    pd.DataFrame(rows, columns=["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline",
                                "computation_time"]).to_csv(tmp_path / "tasks.csv", index=False)
    (tmp_path / "temporary").mkdir()
    script = subprocess.Popen(
        [sys.executable, *program], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # ignored in what a shell runs with &
    seen = [[]]
    while not (seen[-1] and seen[-1:] * 10 == seen[-10:]) and script.poll() is None:  # half a second in one program
        time.sleep(0.05)
        seen.append(children(script.pid))
    assert len(seen[-1]) == 1 and len(list((tmp_path / "temporary").iterdir())) == 1
    if stop == "SIGINT to all":
        os.killpg(script.pid, signal.SIGINT)
    elif stop == "kill the solver":
        os.kill(*seen[-1], signal.SIGKILL)
    else:
        os.kill(script.pid, getattr(signal, stop))
    _, err = script.communicate(timeout=30)  # far below TIME_LIMIT
    assert script.returncode == status
    assert re.fullmatch(message, err)
    with pytest.raises(ProcessLookupError):
        os.killpg(script.pid, 0)
    assert files(tmp_path) == ["tasks.csv"] and not list((tmp_path / "temporary").iterdir())


def test_a_handler_of_sigterm_stays_and_other_threads_can_solve(monkeypatch):
    during = []
    run_cbc = pulp.PULP_CBC_CMD.actualSolve
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "actualSolve", lambda *arguments, **options: (
        during.append(signal.getsignal(signal.SIGTERM)), run_cbc(*arguments, **options))[1])
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
