"""reproduce/incentives.py: gains beside a plain search; properties of no auction; its figure and settings."""
import pathlib

import numpy as np
import pandas as pd
import pytest
from conftest import files
from test_reproduce_tables import check_latex, check_texts, draw

import common
import FCIM
from reproduce import incentives, tables

WRITTEN = ["incentives.png", "incentives.tex", "incentives_curves.csv", "incentives_runs.csv", "incentives_table.csv"]


def read(name):
    return pd.read_csv(pathlib.Path("results", f"incentives_{name}.csv"), keep_default_na=False, na_values=[""])


def test_the_audit_finds_what_a_plain_search_finds(run):
    status, out, err = run("reproduce/incentives", "--runs", "2")
    assert (status, err) == (0, "")
    assert files("results") == WRITTEN
    rows, table, curves = read("runs"), read("table"), read("curves")
    assert len(rows) == 3 * 2 * 2 * 6
    model = common.get_model("BLOOM-176B")
    case = common.allocation_case(FCIM.tasks, model, "paper", 1)
    bids = case["bids"]
    bids["price"] = bids["true_cost"]
    found = rows[(rows["model"] == model.name) & (rows["seed"] == 1) & (rows["asked"] == "true cost")].reset_index()

    def gained(changed, i):
        try:
            stages, _ = FCIM.allocate(**dict(case, bids=changed))
        except common.NoAllocation:
            return 0
        mine = [stage for stage in stages if stage["devices"] == [i]]
        cost = bids["true_cost"][i] / bids["layers"][i]
        return sum(stage["reward"] - cost * stage["layers"] for stage in mine)

    for i in range(6):
        assert found["utility"][i] == pytest.approx(gained(bids, i), abs=1e-6)
        by_price, by_layers = [], []
        for factor in np.arange(5, 31) / 10:
            changed = bids.astype({"price": float})
            changed.loc[i, "price"] *= factor
            by_price.append(gained(changed, i))
        for n in range(1, bids["layers"][i]):
            changed = bids.astype({"price": float})
            for key in ("price", "computation_time"):
                changed.loc[i, key] *= n / bids["layers"][i]
            changed.loc[i, "layers"] = n
            by_layers.append(gained(changed, i))
        for gains, key in ((by_price, "gain_by_price"), (by_layers, "gain_by_layers")):
            assert found[key][i] == pytest.approx(max(0, max(gains) - found["utility"][i]), abs=2e-6)
    for row in table.to_dict("records"):
        part = rows[(rows["model"] == row["model"]) & (rows["asked"] == row["asked"])]
        assert row["share_that_gains_by_price"] == pytest.approx((part["gain_by_price"] > 0).mean(), abs=1e-6)
        assert row["mean_gain_by_price"] == pytest.approx(part["gain_by_price"].mean(), abs=2e-6)
        by_auction = part.groupby("seed")["gain_by_price"].mean().to_numpy()
        assert [row["mean_gain_by_price_low"], row["mean_gain_by_price_high"]] == pytest.approx(
            tables.mean(by_auction)[1:], abs=2e-6)
        assert row["largest_gain_by_layers"] == pytest.approx(part["gain_by_layers"].max(), abs=1e-6)
        assert row["least_winner_utility"] == pytest.approx(part.loc[part["paid"] > 0, "utility"].min(), abs=1e-6)
        assert (row["within_budget"], row["with_allocation"], row["auctions"]) == (1, 2, 2)
        line = curves[(curves["model"] == row["model"]) & (curves["asked"] == row["asked"])]
        assert line["times"].tolist() == [k / 10 for k in range(5, 31)]
        cost = row["asked"] == "true cost"
        honest = line.loc[line["times"] == 1, "mean"].iloc[0]
        assert honest == pytest.approx(0, abs=1e-6) if cost else honest > 0  # paid first-price, at true cost
    assert "No winner loses: yes, in all auctions." in out
    assert "Payments stay within BUDGET: yes, in all auctions." in out
    assert "Not truthful: by asking another price, " in out
    check_latex(pathlib.Path("results/incentives.tex").read_text(), 2)


def test_what_no_auction_shows_is_not_tested(run, monkeypatch):
    monkeypatch.setattr(FCIM, "BUDGET", 0)
    status, out, err = run("reproduce/incentives", "--runs", "1")
    assert (status, err) == (0, "")
    assert "NO" not in out
    assert "ruthful" not in out
    assert "No auction has an allocation" in out
    assert out.count("not tested") >= 12
    assert files("results") == WRITTEN[1:]  # nothing to draw


def test_only_what_an_auction_shows_is_said():
    rows = pd.DataFrame([dict(model="m", pool="p", asked=asked, seed=0, device="d", allocation=asked != "true cost",
                              budget=5.0, paid=6.0, utility=-1.0, gain_by_price=0.0, gain_by_layers=0.0)
                         for asked in incentives.ASKED])
    table = incentives.summarise(rows)
    assert table["with_allocation"].tolist() == [1, 0]
    assert table["within_budget"].isna().tolist() == [False, True]
    assert incentives.verdicts(rows, table) == [
        "No winner loses: NO.", "Payments stay within BUDGET: NO.",
        *(f"Whether bids at true cost gain by {how} is not tested: none of their auctions has an allocation."
          for how in ("asking another price", "offering fewer layers"))]


def test_the_figure_shows_the_curves(monkeypatch):
    rows = [dict(model=model, pool="paper", asked=asked, times=k / 10, mean=k / 10 - shift, low=k / 10 - shift - 0.2,
                 high=k / 10 - shift + 0.1) for asked in incentives.ASKED
            for shift, model in enumerate(["GPT-Neo 1.3B", "GPT-3 175B", "BLOOM-176B"]) for k in range(5, 31)]
    figure = draw(monkeypatch, incentives.draw_curves, pd.DataFrame(rows))
    check_texts(figure, 15)
    for axes in figure.axes:
        curves = [line for line in axes.lines if len(line.get_xdata()) == 26]
        assert [line.get_ydata()[0] for line in curves] == [0.5, -0.5, -1.5]
        assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in curves}) == 3
        assert len(axes.collections) == 3
    assert [axes.get_title() for axes in figure.axes] == ["prices as drawn, pool paper",
                                                          "prices at true cost, pool paper"]


@pytest.mark.parametrize("name, value, message", [
    ("RUNS", 0, "RUNS: 0 is not positive"), ("POOLS", [], "POOLS: [] is not a list"),
    ("POOLS", ["farm"], "unknown POOLS, pool 'farm'"), ("POOLS", "paper", "POOLS: 'paper' is not a list"),
    ("TIMES", [1, "x"], "TIMES: 'x' is not a number"), ("TIMES", [-1], "TIMES: -1 is not from 0 to 1e9"),
])
def test_a_wrong_setting_is_named_before_anything_runs(name, value, message, monkeypatch):
    monkeypatch.setattr(incentives, name, value)
    monkeypatch.setattr("sys.argv", ["incentives"])
    monkeypatch.setattr(tables, "parallel", None)
    with pytest.raises(common.UserError) as error:
        incentives.main("incentives")
    assert str(error.value).startswith(message)
