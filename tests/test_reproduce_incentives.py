"""reproduce/incentives.py: gains beside a plain search; tables and figure that follow from the runs."""
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, figure_of

import common
import FCIM
from reproduce import FCIM_critical, incentives, study

FEW_PRICES = [0.5, 1.3, 2.5, 12]  # times the true price
FIGURES = ROOT / "reproduce" / "figures"
FILES = ["incentives_runs.csv", "incentives_gains_runs.csv", "incentives_curves_runs.csv"]
BLOOM = common.get_model("BLOOM-176B")
BY_TIME = """import FCIM
def allocate(**case):
    stages, notes = FCIM.allocate(**case)
    for stage in stages:
        stage["reward"] += 0.001 * stage["layers"] * case["times"][:, stage["devices"]].sum()
    return stages, notes
"""


def gained(case, i, allocate, **changed):
    """Utility of device i (cents) where its bid is changed; its true cost is the price of its bid in the case."""
    bids = case["bids"].astype({"price": float, "computation_time": float})
    cost = bids["price"][i] / bids["layers"][i]
    for key, value in changed.items():
        bids.loc[i, key] = value
    change = bids["computation_time"] / bids["layers"] / (case["bids"]["computation_time"] / case["bids"]["layers"])
    try:
        stages, _ = allocate(**dict(case, bids=bids, times=case["times"] * change.to_numpy()))
    except common.NoAllocation:
        return 0
    return sum(stage["reward"] - cost * stage["layers"] for stage in stages if stage["devices"] == [i])


def lies(bid):
    """The bids that are tried in place of a true one, by kind of lie."""
    fewer = [max(1, int(bid["layers"] * part)) for part in incentives.OFFERS]
    return {"price": [dict(price=bid["price"] * k) for k in incentives.PRICES],
            "layers": [dict(layers=n, price=bid["price"] * n / bid["layers"],
                            computation_time=bid["computation_time"] * n / bid["layers"]) for n in fewer],
            "time": [dict(computation_time=bid["computation_time"] * k) for k in incentives.TIMES]}


def test_a_case_finds_what_a_plain_search_finds(monkeypatch, tmp_path):
    """Every second device of an auction on campus, beside FCIM.allocate and a rule of one's own, for one of them beside
    FCIM_critical, on changed bids."""
    monkeypatch.setattr(incentives, "PRICES", FEW_PRICES)
    monkeypatch.setattr(incentives, "TIMES", [0.5, 1.5])
    (tmp_path / "Mine.py").write_text(BY_TIME)
    rules = {"FCIM": FCIM.allocate, "Mine": study.script(str(tmp_path / "Mine.py")).allocate}
    case = common.allocation_case(FCIM.tasks, BLOOM, "campus", 1)
    bids = case["bids"]
    rows, gains, curves = map(pd.DataFrame, incentives.run_case(
        FCIM.tasks, BLOOM, "campus", incentives.TRUE, 1, {"Mine": str(tmp_path / "Mine.py")}))
    gain = gains.set_index(["device", "lie", "algorithm"])["gain"]
    utility = rows.set_index(["device", "algorithm"])["utility"]
    assert len(gain) == len(bids) * 9
    for i, device in list(enumerate(bids["device"]))[::2]:
        for name, allocate in rules.items():
            honest = gained(case, i, allocate)
            assert utility[device, name] == pytest.approx(honest, abs=1e-6)
            for lie, others in lies(bids.loc[i]).items():
                utilities = [gained(case, i, allocate, **other) - honest for other in others]
                assert gain[device, lie, name] == pytest.approx(max(0, *utilities), abs=2e-6)
    assert (bids["price"] / bids["layers"]).groupby(bids["type"]).nunique().tolist() == [6, 6]  # true costs differ
    assert gain.xs(("time", "Mine"), level=[1, 2]).max() > 2 * gain.xs(("time", "FCIM"), level=[1, 2]).max()

    pays = gain.xs(("time", "FCIM_critical"), level=[1, 2]).idxmax()
    i = bids["device"].tolist().index(pays)
    assert gain[pays, "time", "FCIM_critical"] > 1e-3  # so price alone is truthful
    honest = gained(case, i, FCIM_critical.allocate)
    assert utility[pays, "FCIM_critical"] == pytest.approx(honest, abs=1e-6)
    utilities = [gained(case, i, FCIM_critical.allocate, **other) - honest for other in lies(bids.loc[i])["time"]]
    assert gain[pays, "time", "FCIM_critical"] == pytest.approx(max(0, *utilities), abs=2e-6)
    for k in (0.6, 1.3, 30):
        assert gained(case, i, FCIM_critical.allocate, price=bids["price"][i] * k) <= honest + 1e-6
    monotone = rows[rows["monotone"].isin([True])]["device"]
    assert len(monotone) and gain.xs(("price", "FCIM_critical"), level=[1, 2])[monotone].max() <= 1e-6

    shares = [gained(case, i, FCIM.allocate, price=price * 1.3) / price for i, price in enumerate(bids["price"])]
    found = curves[(curves["algorithm"] == "FCIM") & (curves["asks"] == 1.3)]["utility"]
    assert found.tolist() == pytest.approx([np.mean(shares)], abs=1e-4)


def test_the_tables_and_the_figure_follow_from_the_runs():
    runs, gains, curves = (study.read_runs(FIGURES, file) for file in FILES)
    _, tables, figures = incentives.report(runs, gains, curves)
    keys = ["model", "pool", "algorithm"]
    true = runs[runs["asked"] == "true cost"].set_index(keys).sort_index()
    for row in tables["promises"].to_dict("records"):
        part = true.loc[tuple(row[key] for key in keys)]
        paid = part.groupby("seed")["paid"].sum()
        of_fcim = true.loc[(row["model"], row["pool"], "FCIM")].groupby("seed")["paid"].sum()
        assert row["auctions"] == row["with_allocation"] == incentives.RUNS
        assert row["extra"] == pytest.approx((paid - of_fcim).mean(), abs=1e-6)
        assert row["within_budget"] == pytest.approx((paid <= part["budget"].iloc[0]).mean())
        assert row["least_utility_at_true_cost"] == part[part["paid"] > 0]["utility"].min()
    for row in tables["gains"].to_dict("records"):
        part = gains[(gains[[*keys, "lie"]] == [row[key] for key in (*keys, "lie")]).all(axis=1)]["gain"]
        assert row["share"] == pytest.approx((part > 1e-6).mean(), abs=1e-6)
        assert row["largest"] == part.max()

    figure = figure_of(*figures[""])
    part = curves[(curves["pool"] == "campus") & (curves["algorithm"] == "FCIM")]
    for line, model in zip(figure.axes[0].lines, incentives.MODELS):
        means = part[part["model"] == model].groupby("asks")["utility"].mean()
        assert line.get_xdata().tolist() == means.index.tolist()
        assert line.get_ydata().tolist() == pytest.approx(means.tolist())
