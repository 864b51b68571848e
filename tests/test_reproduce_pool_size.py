"""reproduce/pool_size.py: pools that hold the smaller ones, tables and figure that follow from the runs, settings."""
import functools
import pathlib

import pandas as pd
import pytest
from conftest import ROOT, refused, thorough
from test_reproduce_tables import but_latex, check_latex, check_texts, drawn

import common
import FCIM
import PipeEdge
from reproduce import allocation, claims, pool_size, stats, tables

pytestmark = pytest.mark.usefixtures("little_search")

WRITTEN = ["pool_size.png", "pool_size_claims.csv", "pool_size_failures.csv", "pool_size_runs.csv",
           "pool_size_table.csv"]
FIGURES = str(ROOT / "reproduce" / "figures")
BLOOM = common.get_model("BLOOM-176B")


@pytest.fixture(scope="module")
def stored():
    return pool_size.read(FIGURES)


@pytest.mark.usefixtures("whole_search")
@pytest.mark.parametrize("size", [6, pytest.param(12, marks=thorough)])
def test_the_stored_runs_are_those_of_the_command(size, stored):
    fresh = tables.as_written(pd.DataFrame([row for seed in (0, 1) for row in pool_size.run_case(
        FCIM.tasks, BLOOM, size, seed)]))
    same = stored[(stored["size"] == size) & (stored["seed"] <= 1)].reset_index(drop=True)
    assert fresh.to_csv() == same.to_csv()


@pytest.mark.parametrize("seed", range(6))
def test_a_larger_pool_is_a_smaller_one_and_more(seed, monkeypatch):
    """Offers are raised on the smallest pool alone."""
    cases = {}
    monkeypatch.setattr(allocation, "measure_all", lambda _, case, size, **draw: cases.update({size: case}))
    for size in (6, 8, 12):
        pool_size.run_case(FCIM.tasks, BLOOM, size, seed)
    least, small, large = (case["bids"].set_index("device") for case in cases.values())
    assert (len(least), len(small), len(large)) == (6, 8, 12)
    assert large["type"].value_counts().to_dict() == {"RTX 4090": 6, "T4": 6}
    assert large["host"].nunique() == 12
    assert large.loc[small.index].equals(small)
    assert (least["layers"] >= small.loc[least.index, "layers"]).all()
    assert least["layers"].sum() == BLOOM.layers < small["layers"].sum()
    names = [*small.index, "client"]
    assert cases[12]["links"].loc[names, names].equals(cases[8]["links"])
    assert "12 devices" not in common.POOLS


def test_the_rows_of_a_beam_say_so(monkeypatch):
    runs = pd.DataFrame([dict(size=size, seed=seed, algorithm=name, cost=seed + size) for size in (6, 24)
                         for seed in (0, 1) for name in pool_size.METHODS])
    table = stats.compare(runs, ["size"], "seed", pool_size.METHODS, ["cost"])
    monkeypatch.setattr(PipeEdge, "EXACT", 18)
    assert pool_size.by_size(table, "cost")["devices"].tolist() == ["6", "24, PipeEdge a beam"]


def test_tables_claims_and_figure_follow_from_the_runs(stored, monkeypatch):
    table = stats.compare(stored, ["size"], "seed", pool_size.METHODS, pool_size.METRICS)
    means = stored.groupby(["size", "algorithm"])[list(pool_size.METRICS)].mean()
    for row in table.to_dict("records"):
        assert row["mean"] == pytest.approx(means.loc[(row["size"], row["algorithm"]), row["metric"]], abs=1e-6)
        assert row["runs"] == 20
    found = claims.of_pool_size(stored)
    best = found.loc[found["reading"] == "time, by pool size, static"].iloc[0]
    changes = 100 * (means["communication_time"].xs("FCIM", level=1) / means["communication_time"].xs(
        "PipeDream", level=1) - 1)
    assert best["ours"] == pytest.approx(changes.mean(), abs=1e-5)
    assert (best["best"], best["best_in"]) == (pytest.approx(changes.min(), abs=1e-5),
                                               f"{changes.idxmin()} devices, PipeDream")
    figure = drawn(pool_size.draw_changes, table)
    check_texts(figure, 20)
    for axes, (metric, (_, paper)) in zip(figure.axes, pool_size.PANELS.items()):
        level = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
        assert ([-54.7] if paper == -54.7 else [-36.9] if paper else []) == [value for value in level if value < -30]
        for bars, name in zip(axes.containers, pool_size.METHODS[1:]):
            lines = table[(table["metric"] == metric) & (table["algorithm"] == name)]
            assert bars.lines[0].get_ydata().tolist() == lines["change"].tolist()


def test_a_run_and_its_runs_give_the_same(run, monkeypatch):
    monkeypatch.setattr(pool_size, "SIZES", [6, 8])
    argv = ["pool_size", "--runs", "2"]
    monkeypatch.setattr("sys.argv", argv)
    run("reproduce/trace", "--help")  # an empty folder
    monkeypatch.setattr("sys.argv", argv)
    pool_size.main("reproduce.pool_size")
    assert but_latex("results") == WRITTEN
    status, _, err = run("reproduce/pool_size", "--from", "results", "--out", "again")
    assert (status, err) == (0, "")
    for name in WRITTEN:
        assert pathlib.Path("again", name).read_bytes() == pathlib.Path("results", name).read_bytes()
    check_latex("results", "pool_size", 5)
    refused_of = run("reproduce/pool_size", "--from", "results", "--seed", "1", "--out", "more")
    assert (refused_of[0], refused_of[2]) == (2, "reproduce.pool_size: --seed: has no effect with --from\n")


def test_no_draw_that_all_share(run, monkeypatch):
    refused(run("reproduce/pool_size", "--from", FIGURES, "--runs", "2"), "--runs: has no effect with --from")
    monkeypatch.setattr(FCIM, "allocate", functools.partial(FCIM.allocate, budget=0))
    rows = pool_size.run_case(FCIM.tasks, BLOOM, 6, 0)
    assert [row["algorithm"] for row in rows if row["problem"]] == ["FCIM"]
    failed = stats.failures(tables.as_written(pd.DataFrame(rows)), ["size"])
    assert failed[["size", "algorithm", "draws", "failed"]].to_numpy().tolist() == [[6, "FCIM", 1, 1]]
    assert "BUDGET" in failed["first_reason"].iloc[0]
