"""reproduce/stats.py: bootstrap, pairs, runs and draws without a result."""
import math

import numpy as np
import pandas as pd
import pytest

import common
from reproduce import stats, study


@pytest.mark.parametrize("n", [2, 30])
def test_drawings_are_with_replacement_and_always_the_same(n):
    counts = stats.drawings(n)
    assert counts.shape == (10000, n)
    assert (counts.sum(axis=1) == n).all()
    assert (counts >= 0).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=0.05)
    assert counts.var(axis=0) == pytest.approx(np.full(n, 1 - 1 / n), abs=0.06)  # of a multinomial
    stats.drawings.cache_clear()
    assert (stats.drawings(n) == counts).all()


@pytest.mark.parametrize("n", [2, 30])
def test_means_and_changes_are_those_of_a_plain_loop(n):
    rng = np.random.default_rng(n)
    first, other = rng.gamma(2, 5, n), rng.gamma(3, 4, n)
    means, changed = [], []
    for counts in stats.drawings(n).tolist():
        drawn = [k for k, count in enumerate(counts) for _ in range(int(count))]
        mine, theirs = sum(first[k] for k in drawn) / n, sum(other[k] for k in drawn) / n
        means.append(mine)
        changed.append(100 * (mine / theirs - 1))
    means.sort()
    changed.sort()
    assert stats.mean(first) == pytest.approx((first.sum() / n, means[250], means[-251]))
    assert stats.change(first, other) == pytest.approx(
        (100 * (first.sum() / other.sum() - 1), changed[250], changed[-251]))


def test_degenerate_runs():
    nan = pytest.approx(math.nan, nan_ok=True)
    assert stats.mean(np.array([])) == (nan, nan, nan)
    assert stats.mean(np.array([5.0])) == (5, nan, nan)
    assert stats.mean(np.full(4, 5.0)) == (5, 5, 5)
    for values, others, expected in [
            ([], [], (nan, nan, nan)), ([3.0], [4.0], (-25, nan, nan)), ([3.0, 1.0], [0.0, 0.0], (nan, nan, nan)),
            ([0.0, 0.0], [2.0, 2.0], (-100, -100, -100)), ([-3.0, -3.0], [-2.0, -2.0], (-50, -50, -50))]:
        assert stats.change(np.array(values), np.array(others)) == expected
    found, low, high = stats.change(np.ones(5), np.array([0, 0, 0, 0, 1.0]))
    assert found == 400 and low > 0 and high == math.inf  # some drawings miss the only one that is not 0


def test_runs_without_a_value_are_left_out_in_pairs():
    values = {"X": [1, math.nan, 2, 6], "Y": [2, 4, math.nan, 6], "Z": [math.nan] * 4}
    runs = pd.DataFrame([{"case": "one", "seed": k, "algorithm": name, "gap": gap}
                         for name, gaps in values.items() for k, gap in enumerate(gaps)])
    table = stats.compare(runs, ["case"], "seed", ["X", "Y", "Z"], ["gap"]).set_index("algorithm")
    assert table["runs"].tolist() == [3, 3, 0]
    assert table["mean"][:2].tolist() == [3, 4]
    assert table["change"]["Y"] == pytest.approx(-12.5)  # 7 / 8, of the runs 0 and 3
    assert table.loc["Z", ["mean", "low", "high", "change"]].isna().all()
    assert math.isnan(table["change"]["X"])


def test_draws_are_shared_and_failures_counted():
    rows = [("p", 0, "X", ""), ("p", 0, "Y", ""), ("p", 1, "X", "no bid"), ("p", 1, "Y", ""), ("p", 2, "X", "none"),
            ("p", 2, "Y", "full"), ("q", 0, "X", ""), ("q", 0, "Y", "")]
    runs = pd.DataFrame(rows, columns=["pool", "seed", "algorithm", "problem"])
    shared = stats.shared_draws(runs, ["pool", "seed"])
    assert shared[["pool", "seed"]].drop_duplicates().to_numpy().tolist() == [["p", 0], ["q", 0]]
    failed = stats.failures(runs, ["pool"])
    assert failed.to_numpy().tolist() == [["p", "X", 3, 2, "no bid"], ["p", "Y", 3, 1, "full"]]
    assert stats.failures(shared, ["pool"]).columns.tolist() == failed.columns.tolist()


def test_draws_on_which_a_method_finds_nothing_are_left_out_and_named():
    runs = pd.DataFrame({"pool": "campus", "seed": [0, 0, 1, 1], "algorithm": ["A", "B"] * 2, "cost": [1, 2, 3, np.nan],
                         "problem": ["", "", "", "too dear"]})
    shared, (_, (name, _, failed)) = study.on_shared_draws(runs, ["pool"])
    assert shared["seed"].tolist() == [0, 0]
    assert name == "failures"
    assert failed[["pool", "algorithm"]].values.tolist() == [["campus", "B"]]
    with pytest.raises(common.NoAllocation, match="no draw on which every method finds an allocation: too dear"):
        study.on_shared_draws(runs[runs["seed"] == 1], ["pool"])
