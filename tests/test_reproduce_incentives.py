"""reproduce/incentives.py: gains beside a plain search; properties of no auction; its figure and settings."""
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, files
from test_reproduce_tables import check_latex, check_texts, drawn

import common
import FCIM
from reproduce import claims, incentives, tables

WRITTEN = ["incentives.png", "incentives.tex", "incentives_claims.csv", "incentives_curves_runs.csv",
           "incentives_runs.csv", "incentives_table.csv"]
FIGURES = str(ROOT / "reproduce" / "figures")


def read(name, folder="results"):
    return pd.read_csv(pathlib.Path(folder, f"incentives_{name}.csv"), keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("name, seed", [("BLOOM-176B", 1), ("GPT-3 175B", 5)])
def test_the_audit_finds_what_a_plain_search_finds(name, seed):
    """Every device of an auction on campus, beside FCIM.allocate on changed bids."""
    model = common.get_model(name)
    case = common.allocation_case(FCIM.tasks, model, "campus", seed)
    bids = case["bids"] = case["bids"].assign(price=case["bids"]["true_cost"])
    rows, curves = incentives.run_case(FCIM.tasks, model, "campus", seed, "true cost")

    def gained(i, payment="paper", **changed):
        own = bids.astype({"price": float, "computation_time": float})
        for key, value in changed.items():
            own.loc[i, key] = value
        try:
            stages, _ = FCIM.allocate(**dict(case, bids=own), payment=payment)
        except common.NoAllocation:
            return 0
        cost = bids["true_cost"][i] / bids["layers"][i]
        return sum(stage["reward"] - cost * stage["layers"] for stage in stages if stage["devices"] == [i])

    for i, row in enumerate(rows):
        bid, honest = bids.loc[i], gained(i)
        assert row["utility_paper"] == pytest.approx(honest, abs=1e-6)
        by_price = [gained(i, price=bid["price"] * k) - honest for k in incentives.TIMES]
        by_layers = [gained(i, layers=n, **{key: bid[key] * n / bid["layers"] for key in ("price", "computation_time")})
                     - honest for n in (int(bid["layers"] * part) for part in (0.25, 0.5, 0.75))]
        assert row["gain_by_price_paper"] == pytest.approx(max(0, *by_price), abs=2e-6)
        assert row["gain_by_layers_paper"] == pytest.approx(max(0, *by_layers), abs=2e-6)
    winner = max(range(12), key=lambda i: rows[i]["utility_critical"])
    honest = gained(winner, "critical")
    assert rows[winner]["utility_critical"] == pytest.approx(honest, abs=1e-6)
    assert honest > 0
    for k in (0.6, 1.3):
        assert gained(winner, "critical", price=bids["price"][winner] * k) <= honest + 1e-6
    assert max(row["gain_by_price_critical"] for row in rows if row["monotone"]) <= 1e-6
    mean = np.mean([gained(i, price=bids["price"][i] * 1.3) / bids["price"][i] for i in range(12)])
    assert curves[0]["asks_1.3"] == pytest.approx(mean, abs=1e-4)


def test_the_stored_runs_are_those_of_the_command():
    stored, stored_curves = incentives.read(FIGURES)
    for model, pool, seed, asked in (("BLOOM-176B", "paper", 0, "true cost"), ("GPT-3 175B", "campus", 1, "as drawn")):
        rows, curves = incentives.run_case(FCIM.tasks, common.get_model(model), pool, seed, asked)
        for fresh, table in ((rows, stored[stored["asked"] == asked]), (curves, stored_curves)):
            fresh = tables.as_written(pd.DataFrame(fresh, columns=table.columns))
            same = (table["model"] == model) & (table["pool"] == pool) & (table["seed"] == seed)
            if len(fresh):
                assert fresh.to_csv() == table[same].reset_index(drop=True).to_csv()


@pytest.fixture(scope="module")
def stored():
    return incentives.read(FIGURES)[0]


def test_the_tables_follow_from_the_runs(stored):
    promised, gained = incentives.promises(stored), incentives.gains(stored)
    assert len(promised) == 3 * 3 * 2
    for row in promised.to_dict("records"):
        part = stored[(stored["model"] == row["model"]) & (stored["pool"] == row["pool"])
                      & (stored["asked"] == row["asked"])]
        total = part.groupby("seed")[["paid_paper", "paid_critical"]].sum()
        assert (row["auctions"], row["with_allocation"]) == (30, 30)
        assert row["extra"] == pytest.approx(total["paid_critical"].mean() - total["paid_paper"].mean(), abs=1e-6)
        assert row["within_budget_critical"] == pytest.approx((total["paid_critical"] <= 5).mean())
        assert row["least_utility_paper"] == part.loc[part["paid_paper"] > 0, "utility_paper"].min()
    for row in gained.to_dict("records"):
        part = stored[(stored["model"] == row["model"]) & (stored["pool"] == row["pool"])
                      & (stored["asked"] == "true cost")]
        for what in ("by_price_paper", "by_layers_critical"):
            assert row[f"share_{what}"] == pytest.approx((part[f"gain_{what}"] > 1e-6).mean(), abs=1e-6)
            assert row[f"largest_{what}"] == part[f"gain_{what}"].max()
    who = incentives.who_gains(stored)
    true = stored[(stored["asked"] == "true cost") & (stored["pool"] == "campus") & (stored["type"] == "RTX 4090")]
    share = who[(who["pool"] == "campus") & (who["type"] == "RTX 4090")]["% of them"].astype(float).sum()
    assert share == pytest.approx(100 * (true["gain_by_price_paper"] > 1e-6).mean(), abs=0.2)


def test_pools_of_the_same_devices_give_the_same(run, monkeypatch):
    monkeypatch.setattr(common, "MODELS", common.MODELS[2:])
    monkeypatch.setitem(common.POOLS, "campus", common.POOLS["workstations"][::-1])
    status, out, err = run("reproduce/incentives", "--runs", "1")
    assert (status, err) == (0, "")
    assert files("results") == WRITTEN
    runs = read("runs")
    one, other = (runs[runs["pool"] == pool].drop(columns="pool") for pool in ("paper", "workstations"))
    assert one.reset_index(drop=True).equals(other.reset_index(drop=True))
    assert len(runs) == 3 * 2 * 6
    again = run("reproduce/incentives", "--from", "results", "--out", "again")
    assert again == (0, out.replace("results/", "again/"), "")
    for name in WRITTEN:
        assert pathlib.Path("again", name).read_bytes() == pathlib.Path("results", name).read_bytes()
    check_latex(pathlib.Path("results/incentives.tex").read_text(), 4)
    assert "PAYMENT paper: not truthful: by asking another price, " in out


def test_what_no_auction_shows_is_not_tested(run, monkeypatch):
    monkeypatch.setattr(FCIM, "BUDGET", 0)
    status, out, err = run("reproduce/incentives", "--runs", "1")
    assert (status, err) == (0, "")
    assert "not truthful" not in out
    assert out.count("is not tested: none of their auctions has an allocation") == 4
    assert set(read("claims")["verdict"]) == {claims.UNTESTED}
    assert files("results") == [name for name in WRITTEN if name not in (
        "incentives.png", "incentives_curves_runs.csv")]  # nothing to draw
    again = run("reproduce/incentives", "--from", "results", "--out", "again")
    assert again == (0, out.replace("results/", "again/"), "")


def test_the_figure_shows_the_curves(monkeypatch):
    curves = incentives.read(FIGURES)[1]
    figure = drawn(incentives.draw_curves, curves)
    check_texts(figure, 15)
    assert [axes.get_title() for axes in figure.axes] == [
        f"{pools}:\npayment {payment}" for pools in ("campus", "paper, workstations")
        for payment in ("paper", "critical")]
    part = curves[(curves["pool"] == "campus") & (curves["payment"] == "paper")]
    for line, (_, lines) in zip(figure.axes[0].lines, part.groupby("model", sort=False)):
        assert line.get_ydata().tolist() == pytest.approx(lines.filter(like="asks_").mean().tolist())
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines[:3]}
    assert len(looks) == 3
