"""reproduce.theory: its counterexamples are some, in the scripts that they are pasted into."""
import itertools
import re

import pandas as pd
import pytest
from conftest import edited, metrics

import ADSA
import common
import FCIM
import optimal
from reproduce import EDF, Cheapest, theory

STATEMENTS = {f"{who}: {statement}": (tried, show) for who, statement, tried, show in theory.STATEMENTS}


def first_exception(beginning):
    """The first case that a statement which begins so is not true of, as it is printed."""
    (tried, show), = (found for statement, found in STATEMENTS.items() if statement.startswith(beginning))
    return show(*next(case for case, holds in tried() if not holds))


def pasted(script, text, **values):
    """A copy of the script with these settings and lists."""
    found = re.findall(r"^(\w+) = (\[\n.*?^\]|.*?)$", text, re.MULTILINE | re.DOTALL)
    return edited(script, **dict(found), **values)


def cheapest_cost(text, bids=None):
    namespace = {}
    exec(text, namespace)
    model = common.get_model(namespace["MODEL"])
    case = common.allocation_case(FCIM.tasks, model, "campus", 0, bids or namespace["bids"])
    return common.evaluate(Cheapest.allocate(**case)[0], **case)[3]["total_cost"]


def listed_tasks(text):
    namespace = {}
    exec(text, namespace)
    return common.read_tasks(namespace["tasks"], common.get_model(ADSA.MODEL), [common.get_device(ADSA.DEVICE)])


@pytest.mark.parametrize("beginning", ["FCIM: a dearer", "ADSA: meets all where EDF does, 2",
                                       "ADSA: T_end is least, an uplink"])
def test_what_has_no_exception_has_none_among_the_first_cases(beginning):
    (tried, _), = (found for statement, found in STATEMENTS.items() if statement.startswith(beginning))
    results = [holds for _, holds in itertools.islice(tried(), 300)]
    assert len(results) == 300 and all(results)


def test_a_bid_that_wins_nothing_changes_who_wins(run):
    text = first_exception("FCIM: a bid that wins nothing")
    layers = []
    for some in (text, re.sub(r"    {'device': 'GPU 4'.*\n", "", text)):
        assert run(pasted("FCIM", some), "--no-plot")[0] == 0
        stages = pd.read_csv("results/mine_stages.csv")
        layers.append(dict(zip(stages["devices"], stages["layers"])))
    assert layers[0] != layers[1] and "GPU 4" not in layers[0]


def test_fcim_pays_more_than_ten_times_the_least(run):
    text = first_exception("FCIM: pays")
    assert run(pasted("FCIM", text), "--no-plot")[0] == 0
    assert metrics("mine")["total_cost"] > 10 * cheapest_cost(text)


def test_fcim_finds_nothing_within_a_budget_that_suffices(run):
    text = first_exception("FCIM: finds")
    status, _, err = run(pasted("FCIM", text), "--no-plot")
    assert status == 1 and "no valid bid" in err
    budget = float(re.search(r"BUDGET = (.*)", text).group(1))
    assert cheapest_cost(text) <= budget * len(FCIM.tasks)


@pytest.mark.parametrize("beginning, sign", [("ADSA: meets all where EDF does, 3", 1), ("ADSA: never meets", -1)])
def test_adsa_meets_fewer_or_more_than_edf(beginning, sign, run):
    text = first_exception(beginning)
    assert run(pasted("ADSA", text, LINK='"dedicated"'), "--no-plot")[0] == 0
    tasks = listed_tasks(text)
    by_edf, _ = common.simulate(tasks, EDF.schedule(tasks), "dedicated")
    assert sign * (by_edf["deadline_met"].sum() - metrics("mine")["deadlines_met"]) > 0


def test_adsa_ends_later_than_it_might_on_a_shared_link(run):
    text = first_exception("ADSA: T_end is least, one")
    assert run(pasted("ADSA", text, ALIKE="0"), "--no-plot")[0] == 0
    tasks = listed_tasks(text)
    best, _ = common.simulate(tasks, optimal.schedule(tasks, "shared", "makespan", 20), "shared")
    assert best["completion_time"].max() / common.US < metrics("mine")["T_end"]
