"""reproduce/allocation.py: its rows are those of the scripts; claims and changes by plain loops; references."""
import functools
import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, quick, run_here

import common
import FCIM
import PipeDream
from reproduce import allocation, claims, study

pytestmark = pytest.mark.usefixtures("little_search")

METHODS = {**study.ALLOCATORS, **study.REFERENCES}
SETTINGS = [("GPT-Neo 1.3B", "campus"), ("GPT-Neo 1.3B", "paper"), ("BLOOM-176B", "campus"), ("BLOOM-176B", "paper")]
FLAGS = ["--model", "GPT-Neo 1.3B", "--model", "bloom-176b", "--pool", "campus", "--pool", "paper"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, little_search):
    """The runs of a comparison of two draws of four settings."""
    folder = tmp_path_factory.mktemp("compare")
    status, _, err = run_here(ROOT / "reproduce" / "allocation.py", "--runs", "2", *FLAGS, "--no-plot", "--out", folder)
    assert (status, err) == (0, "")
    return study.read_runs(folder, "allocation_runs.csv")


# What is measured -----------------------------------------------------------------------------------------------------
def test_a_draw_is_measured_as_the_scripts_measure_it(compared, run):
    """Each of the scripts, run by itself on seed 1, gives the metrics of that draw."""
    runs = compared[(compared["seed"] == 1) & (compared["model"] == "BLOOM-176B") & (compared["pool"] == "paper")]
    same = [metric for metric in allocation.METRICS if metric != "completion_time_unseen"]
    for name in METHODS:
        path = quick(name) if (ROOT / f"{name}.py").exists() else f"reproduce/{name}"
        assert run(path, "--seed", "1", "--pool", "paper", "--no-plot")[0] == 0
        found, mine = pd.read_csv(f"results/{name}_metrics.csv").iloc[0], runs[runs["algorithm"] == name].iloc[0]
        assert mine[same].tolist() == found[same].tolist()
        utility = pd.read_csv(f"results/{name}_stages.csv")["utility"].sum()
        assert mine["total_utility"] == pytest.approx(utility, abs=1e-6)


@pytest.mark.usefixtures("whole_search")
def test_the_stored_runs_are_those_of_the_command():
    """Two draws, with HexGen's whole search, are to the last digit what reproduce/figures holds."""
    rows = [row for seed in (0, 1) for row in allocation.run_case(
        METHODS, FCIM.tasks, common.get_model("GPT-Neo 1.3B"), "paper", seed)]
    stored = (ROOT / "reproduce" / "figures" / "allocation_runs.csv").read_text().splitlines()
    assert set(pd.DataFrame(rows).to_csv(index=False).splitlines()) <= set(stored)


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
def test_the_claims_and_the_changes_follow_from_the_runs(compared):
    """Each row by a plain loop: on `campus` FCIM leaves bidders out, of GPT-Neo on `paper` too."""
    means = compared.groupby(["model", "pool", "algorithm"])[list(allocation.METRICS)].mean()
    neo_campus, neo_paper, bloom_campus, bloom_paper = SETTINGS
    expected = {"campus": [neo_campus, bloom_campus], "paper": [neo_paper], "no choice": [bloom_paper]}
    grounds = allocation.by_choice(compared)
    found = {ground: sorted(set(zip(runs["model"], runs["pool"])), reverse=True) for ground, runs in grounds.items()}
    assert found == expected

    def change(setting, first, other, metric):
        return 100 * (means.loc[(*setting, first), metric] / means.loc[(*setting, other), metric] - 1)

    readings = []  # what is read, metric, of whom, where, against whom, what is best
    baselines = {"static": ["PipeDream"], "performance": ["HexGen", "PipeEdge"],
                 "all three": ["HexGen", "PipeDream", "PipeEdge"]}
    several = {"campus": [bloom_campus], "no choice": [bloom_paper]}  # GPT-Neo is held by one device
    for ground, more in itertools.product(grounds, ("", ", any model")):
        settings = found[ground] if more else several.get(ground)
        if settings is None:
            continue
        for against, _, reading, metric, _ in claims.LATENCY:
            for kind, others in baselines.items():
                if against == claims.SYSTEMS:
                    readings.append((f"{reading}, {kind}{more}", metric, ["FCIM"], ground, settings, others, min))
        for against, reading, metric, firsts in claims.FAIRNESS:
            if against == claims.SYSTEMS:
                readings.append((reading + more, metric, firsts, ground, settings, baselines["all three"], max))
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
    what = "Pool campus, with a choice (GPT-Neo 1.3B, BLOOM-176B): change of FCIM in % against each"
    assert (name, caption) == ("campus", what)
    for row in table.to_dict("records"):
        for other in others:
            mean = np.mean([change(setting, "FCIM", other, row["metric"]) for setting in found["campus"]])
            assert float(row[other].lstrip("~").split(" ")[0]) == pytest.approx(mean, abs=0.0501)


def test_draws_without_an_allocation_are_left_out_and_counted(run, monkeypatch):
    monkeypatch.setattr(FCIM, "allocate", functools.partial(FCIM.allocate, budget=0.58 / len(FCIM.tasks)))
    status, out, err = run("reproduce/allocation", "--runs", "3", "--no-plot", *FLAGS[2:4], *FLAGS[6:])
    assert (status, err) == (0, "")
    runs = study.read_runs("results", "allocation_runs.csv")
    left_out = runs[runs["problem"].str.contains("cents left of BUDGET")]
    assert len(left_out) == (runs["problem"] != "").sum()
    failed = left_out.drop_duplicates(["model", "pool", "seed"]).groupby(["model", "pool"]).size()
    counts = pd.read_csv("results/allocation_table.csv").groupby(["model", "pool"])["runs"].max()
    assert 0 < failed.sum() < 6
    for setting, n in failed.items():
        assert counts.get(setting, 0) == 3 - n
    assert "\nDraws without an allocation\n" in out
