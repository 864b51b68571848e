"""reproduce/allocation.py: its rows are those of the scripts; claims and changes by plain loops."""
import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, metrics

import common
import FCIM
import PipeDream
from reproduce import allocation, claims, study

METHODS = {**study.ALLOCATORS, **study.REFERENCES}


@pytest.fixture(scope="module")
def stored():
    """The stored runs."""
    return study.read_runs(ROOT / "reproduce" / "figures", "allocation_runs.csv")


# What is measured -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", METHODS)
def test_the_stored_runs_are_what_the_scripts_measure(name, stored, run):
    """Each of the scripts, run by itself on a draw, gives the metrics of that draw to the last digit."""
    draw = (stored["seed"] == 1) & (stored["model"] == "BLOOM-176B") & (stored["pool"] == "paper")
    row = stored[draw & (stored["algorithm"] == name)].iloc[0]
    path = name if (ROOT / f"{name}.py").exists() else f"reproduce/{name}"
    assert run(path, "--seed", "1", "--pool", "paper", "--no-plot")[0] == 0
    same = [metric for metric in allocation.METRICS if metric != "completion_time_unseen"]
    assert row[same].tolist() == metrics(name)[same].tolist()
    utility = pd.read_csv(f"results/{name}_stages.csv")["utility"].sum()
    assert row["total_utility"] == pytest.approx(utility, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_another_list_is_of_the_same_kind_and_judged_as_any(seed):
    case = common.allocation_case(FCIM.tasks, common.get_model("GPT-Neo 1.3B"), "campus", seed)
    other = allocation.another_list(case)
    tasks, drawn = case["tasks"], other["tasks"]
    kinds = ["prompt_tokens", "output_tokens", "trans_time"]
    rows = {tuple(row): k for k, row in enumerate(tasks[kinds].to_numpy().tolist())}
    assert len(rows) == len(tasks) == len(drawn)
    for j, row in enumerate(drawn[kinds].to_numpy().tolist()):
        k = rows[tuple(row)]  # one of the list's tasks
        assert (other["times"][j] == case["times"][k]).all()
        allowed = drawn["deadline"].iloc[j] - drawn["arrival_time"].iloc[j]
        assert allowed == tasks["deadline"].iloc[k] - tasks["arrival_time"].iloc[k]
    arrival = drawn["arrival_time"]
    assert arrival.is_monotonic_increasing
    assert arrival.between(tasks["arrival_time"].min(), tasks["arrival_time"].max()).all()
    stages, _ = PipeDream.allocate(**case)
    for one in (case, other):
        since = one["tasks"]["arrival_time"].min() / common.US
        found = allocation.completion_time(stages, one) - since
        assert found == pytest.approx(common.evaluate(stages, **one)[3]["completion_time"], abs=1e-6)


# What is made of the runs ---------------------------------------------------------------------------------------------
def test_the_claims_and_the_changes_follow_from_the_runs(stored):
    """Each row by a plain loop: on the paper's pool FCIM leaves no bidder out but of GPT-Neo."""
    few = stored[stored["seed"] < 3]
    means = few.groupby(["model", "pool", "algorithm"])[list(allocation.METRICS)].mean()
    grounds = allocation.by_choice(few)
    found = {ground: sorted(set(zip(runs["model"], runs["pool"]))) for ground, runs in grounds.items()}
    bloom, gpt, neo = sorted(allocation.MODELS)
    assert found == {"campus": [(bloom, "campus"), (gpt, "campus"), (neo, "campus")],
                     "cloud": [(bloom, "cloud"), (gpt, "cloud"), (neo, "cloud")],
                     "paper": [(neo, "paper")], "no choice": [(bloom, "paper"), (gpt, "paper")]}

    def change(setting, first, other, metric):
        return 100 * (means.loc[(*setting, first), metric] / means.loc[(*setting, other), metric] - 1)

    readings = []  # what is read, metric, of whom, where, against whom, what is best
    baselines = {"static": ["PipeDream"], "performance": ["HexGen", "PipeEdge"],
                 "all three": ["HexGen", "PipeDream", "PipeEdge"]}
    for ground, more in itertools.product(grounds, ("", ", any model")):
        several = [one for one in found[ground] if more or one[0] != neo]  # which is held by one device
        if not several:
            continue
        for against, _, reading, metric, _ in claims.LATENCY:
            for kind, others in baselines.items():
                if against == claims.SYSTEMS:
                    readings.append((f"{reading}, {kind}{more}", metric, ["FCIM"], ground, several, others, min))
        for against, reading, metric, firsts in claims.FAIRNESS:
            if against == claims.SYSTEMS:
                readings.append((reading + more, metric, firsts, ground, several, baselines["all three"], max))
    rows = list(claims.of_pools(grounds, "allocation", claims.SYSTEMS))
    expected = [(reading, ground) for reading, _, _, ground, *_ in readings]
    assert [(row["reading"], row["pool"]) for row in rows] == expected
    for row, (_, metric, firsts, _, settings, others, best) in zip(rows, readings):
        changes = {}
        for setting, other, first in itertools.product(settings, others, firsts):
            key = ", ".join([*setting, other, first] if best is max else [*setting, other])
            changes[key] = change(setting, first, other, metric)
        assert row["ours"] == pytest.approx(sum(changes.values()) / len(changes), abs=1e-5)
        assert row["low"] - 1e-6 <= row["ours"] <= row["high"] + 1e-6
        assert row["best"] == pytest.approx(best(changes.values()), abs=1e-5) == changes[row["best_in"]]

    others = ["HexGen", "Cheapest"]
    name, caption, table = allocation.over_settings("campus", "campus", grounds["campus"], ["devices", "total_cost"],
                                                    ["FCIM", *others])
    assert table["metric"].tolist() == ["devices", "total_cost"]
    what = "Pool campus, with a choice (GPT-Neo 1.3B, GPT-3 175B, BLOOM-176B): change of FCIM in % against each"
    assert (name, caption) == ("campus", what)
    for row in table.to_dict("records"):
        for other in others:
            mean = np.mean([change(setting, "FCIM", other, row["metric"]) for setting in found["campus"]])
            assert float(row[other].lstrip("~").split(" ")[0]) == pytest.approx(mean, abs=0.0501)
