"""reproduce/incentives.py: gains beside a plain search; properties of no auction; its figure and settings."""
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from test_reproduce_tables import but_latex, check_latex, check_texts, drawn

import common
import FCIM
from reproduce import FCIM_critical, claims, incentives

WRITTEN = ["incentives.png", "incentives_claims.csv", "incentives_curves_runs.csv",
           "incentives_runs.csv", "incentives_table.csv"]
FIGURES = str(ROOT / "reproduce" / "figures")


def read(name, folder="results"):
    return pd.read_csv(pathlib.Path(folder, f"incentives_{name}.csv"), keep_default_na=False, na_values=[""])


def gained(case, i, allocate, **changed):
    """Utility of device i (cents) where its bid is changed; its true cost is the price of its bid in the case."""
    bids = case["bids"].astype({"price": float, "computation_time": float})
    cost = bids["price"][i] / bids["layers"][i]
    for key, value in changed.items():
        bids.loc[i, key] = value
    try:
        stages, _ = allocate(**dict(case, bids=bids))
    except common.NoAllocation:
        return 0
    return sum(stage["reward"] - cost * stage["layers"] for stage in stages if stage["devices"] == [i])


@pytest.mark.parametrize("name, seed", [("BLOOM-176B", 1), ("GPT-3 175B", 5)])
def test_a_case_finds_what_a_plain_search_finds(name, seed):
    """Every device of an auction on campus, beside FCIM.allocate on changed bids."""
    model = common.get_model(name)
    case = common.allocation_case(FCIM.tasks, model, "campus", seed)
    bids = case["bids"] = case["bids"].assign(price=case["bids"]["true_cost"])
    rows, curves = incentives.run_case(FCIM.tasks, model, "campus", incentives.TRUE, seed)
    for i, row in enumerate(rows):
        bid, honest = bids.loc[i], gained(case, i, FCIM.allocate)
        assert row["utility_paper"] == pytest.approx(honest, abs=1e-6)
        by_price = [gained(case, i, FCIM.allocate, price=bid["price"] * k) - honest for k in incentives.PRICES]
        fewer = [int(bid["layers"] * part) for part in incentives.OFFERS]
        by_layers = [gained(case, i, FCIM.allocate, layers=n, price=bid["price"] * n / bid["layers"],
                            computation_time=bid["computation_time"] * n / bid["layers"]) - honest for n in fewer]
        assert row["gain_by_price_paper"] == pytest.approx(max(0, *by_price), abs=2e-6)
        assert row["gain_by_layers_paper"] == pytest.approx(max(0, *by_layers), abs=2e-6)

    winner = max(range(len(rows)), key=lambda i: rows[i]["utility_critical"])
    honest = gained(case, winner, FCIM_critical.allocate)
    assert rows[winner]["utility_critical"] == pytest.approx(honest, abs=1e-6)
    assert honest > 0
    for k in (0.6, 1.3):
        price = bids["price"][winner] * k
        assert gained(case, winner, FCIM_critical.allocate, price=price) <= honest + 1e-6
    assert max(row["gain_by_price_critical"] for row in rows if row["monotone"]) <= 1e-6

    shares = [gained(case, i, FCIM.allocate, price=price * 1.3) / price for i, price in enumerate(bids["price"])]
    assert curves[0]["asks_1.3"] == pytest.approx(np.mean(shares), abs=1e-4)


def test_the_stored_runs_are_those_of_the_command():
    stored, stored_curves = incentives.read(FIGURES)
    for model, pool, asked, seed in (("BLOOM-176B", "paper", "true cost", 0), ("GPT-3 175B", "campus", "as drawn", 1)):
        rows, curves = incentives.run_case(FCIM.tasks, common.get_model(model), pool, asked, seed)
        of_case = (stored["model"] == model) & (stored["pool"] == pool) & (stored["seed"] == seed)
        rows, curves = incentives.as_tables(rows, curves)
        same = stored[of_case & (stored["asked"] == asked)].reset_index(drop=True)
        assert rows.to_csv() == same.to_csv()
        if curves is not None:
            of_case = ((stored_curves["model"] == model) & (stored_curves["pool"] == pool)
                       & (stored_curves["seed"] == seed))
            assert curves.to_csv() == stored_curves[of_case].reset_index(drop=True).to_csv()


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
    assert but_latex("results") == WRITTEN
    runs = read("runs")
    one, other = (runs[runs["pool"] == pool].drop(columns="pool") for pool in ("paper", "workstations"))
    assert one.reset_index(drop=True).equals(other.reset_index(drop=True))
    assert len(runs) == 3 * 2 * 6
    again = run("reproduce/incentives", "--from", "results", "--out", "again")
    assert again == (0, out.replace("results/", "again/"), "")
    for name in WRITTEN:
        assert pathlib.Path("again", name).read_bytes() == pathlib.Path("results", name).read_bytes()
    check_latex("results", "incentives", 4)
    assert "Payment paper: not truthful: by asking another price, " in out


def test_what_no_auction_shows_is_not_tested(run, monkeypatch):
    monkeypatch.setattr(FCIM, "BUDGET", 0)
    status, out, err = run("reproduce/incentives", "--runs", "1")
    assert (status, err) == (0, "")
    assert "not truthful" not in out
    assert out.count("is not tested: none of their auctions has an allocation") == 4
    assert set(read("claims")["verdict"]) == {claims.UNTESTED}
    assert but_latex("results") == [name for name in WRITTEN if name not in (
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
