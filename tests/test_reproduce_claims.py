"""reproduce/claims.py: each verdict by its rule, on drawn figures; changes over settings; shares; a refusal."""
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st

from reproduce import claims, stats

HOLDS, PART, NOT, UNTESTED = "holds", "in part", "fails", "not tested"
NAN = (math.nan,) * 3
number = st.integers(-90, 90).map(float)
triple = st.tuples(number, number, number).map(sorted).map(lambda three: (three[1], three[0], three[2]))


@given(triple, triple)
def test_verdicts_on_changes_are_as_the_rules_say(ours, best):
    """The rules of the table, word by word, in another form."""
    _, low, high = ours
    holds = (low <= -36.9 <= high or high <= -36.9) and not low <= 0 <= high
    up_to = (best[1] <= -36.9 <= best[2] or best[2] <= -36.9) and not best[1] <= 0 <= best[2]
    verdict = claims.verdict_change(-36.9, ours, best)
    assert verdict == (HOLDS if holds else PART if high < 0 or up_to else NOT)
    assert claims.verdict_change(36.9, *([-value for value in found] for found in (ours, best))) == verdict
    always = claims.verdict_always(ours, [ours, best])
    assert (always == HOLDS) == (low > 0 and high >= 0 and best[2] >= 0)
    assert (always == NOT) == (low <= 0)


def test_shares_and_what_is_not_tested():
    assert [claims.verdict_all(*shares) for shares in ((100, 100), (99.9, 100), (60, 99), (math.nan, math.nan))] == [
        HOLDS, PART, NOT, UNTESTED]
    assert claims.verdict_always(NAN, [NAN]) == UNTESTED
    assert claims.verdict_change(-36.9, NAN, (-40, -50, -30)) == UNTESTED
    assert claims.verdict_change(-36.9, (-50, math.nan, math.nan), (-50, math.nan, math.nan)) == UNTESTED


def test_changes_over_settings_draw_the_runs_of_all_together():
    """A plain loop over the drawings; one setting lacks two runs."""
    rng, rows = np.random.default_rng(0), []
    for setting, seed, name in ((s, k, n) for s in "pq" for k in range(12) for n in ("X", "Y", "Z")):
        if (setting, seed) not in {("q", 3), ("q", 7)}:
            rows.append(dict(setting=setting, seed=seed, algorithm=name, cost=rng.gamma(3, 4)))
    runs = pd.DataFrame(rows)
    ours, each = stats.all_changes(stats.in_settings(runs, ["setting"], "seed", "cost", "X", ["Y", "Z"]))
    value = runs.set_index(["setting", "seed", "algorithm"])["cost"].to_dict()

    def total(counts, setting, name):
        return sum(counts[..., k] * value.get((setting, k, name), 0) for k in range(12))

    names = [(setting, name) for setting in "pq" for name in "YZ"]
    parts, drawn = ([100 * (total(counts, setting, "X") / total(counts, setting, name) - 1) for setting, name in names]
                    for counts in (np.ones(12), stats.drawings(12)))
    assert list(each) == names
    assert [change[0] for change in each.values()] == pytest.approx(parts)
    assert claims.most_favourable(each, -1) == names[parts.index(min(parts))]
    assert claims.most_favourable(each, 1) == names[parts.index(max(parts))]
    assert claims.most_favourable({}, 1) == ()
    means = sorted(sum(drawn) / 4)
    assert ours == pytest.approx((sum(parts) / 4, means[250], means[-251]))


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_auctions_are_those_of_a_plain_count(seed):
    """In each draw the share of its devices, and of those the mean; only auctions that have an allocation count."""
    rng, rows, gains = np.random.default_rng(seed), [], []
    for model, pool, draw, k in itertools.product("mn", "pq", range(6), range(4)):
        case = dict(model=model, pool=pool, seed=draw)
        sold = (draw + len(pool)) % 5 > 0
        for asked in ("as drawn", "true cost"):
            rows.append(dict(case, asked=asked, algorithm="FCIM", paid=float(sold * rng.integers(2)),
                             utility=float(rng.integers(-1, 2))))
            rows.append(dict(rows[-1], algorithm="FCIM_critical", utility=-1.0))
        for lie, rule in itertools.product(("price", "layers", "time"), ("FCIM", "FCIM_critical")):
            gains.append(dict(case, device=k, lie=lie, algorithm=rule,
                              gain=float(rng.integers(2)) * rng.integers(2) if sold else math.nan))
    table = pd.DataFrame(claims.of_incentives(pd.DataFrame(rows), pd.DataFrame(gains)))

    cases = {}
    for reading, asked, least in (("utility above 0, prices as drawn", "as drawn", 1),
                                  ("no loss, at true cost", "true cost", 0)):
        cases[reading] = [(row, row["utility"] >= least) for row in rows
                          if row["paid"] and row["asked"] == asked and row["algorithm"] == "FCIM"]
    for more, rule in (("", "FCIM"), (", FCIM_critical", "FCIM_critical")):
        for how, lie in (("another price", "price"), ("fewer layers", "layers"), ("another time", "time")):
            cases[f"no gain by {how}{more}"] = [(row, row["gain"] == 0) for row in gains if (
                row["lie"], row["algorithm"]) == (lie, rule) and not math.isnan(row["gain"])]
    found = table.set_index(["pool", "reading"])
    assert sorted(found.index) == sorted(itertools.product("pq", cases))
    for pool, reading in found.index:
        def share(models, pool=pool, values=cases[reading]):
            draws = {}
            for row, is_so in values:
                if row["model"] in models and row["pool"] == pool:
                    draws.setdefault(row["seed"], []).append(is_so)
            return 100 * np.mean([np.mean(values) for values in draws.values()])
        assert found.loc[(pool, reading), "ours"] == pytest.approx(share("mn"), abs=1e-5)
        assert found.loc[(pool, reading), "best"] == pytest.approx(max(share("m"), share("n")), abs=1e-5)


def test_a_folder_without_runs_is_named(run):
    refused(run("reproduce/claims", "--from", "nowhere"), "nowhere/published_runs.csv: No such file or directory")
