"""reproduce/claims.py: each verdict by its rule, on drawn figures; changes over settings; the table in README.md."""
import itertools
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
import readme
from conftest import ROOT, files
from hypothesis import given
from hypothesis import strategies as st

import common
from reproduce import claims, stats

FIGURES = str(ROOT / "reproduce" / "figures")
HOLDS, PART, NOT, UNTESTED = "holds", "holds in part", "does not hold", "not tested"
NAN = (math.nan,) * 3
number = st.integers(-90, 90).map(float)
triple = st.tuples(number, number, number).map(sorted).map(lambda three: (three[1], three[0], three[2]))


@pytest.mark.parametrize("ours, best, verdict", [
    ((-50, -60, -40), (-70, -80, -60), HOLDS), ((-50, -60, -30), (-70, -80, -60), PART),
    ((-10, -20, -1), (-20, -30, -10), PART), ((-10, -20, 1), (-40, -50, -10), PART),
    ((-10, -20, 1), (-40, -90, 1), NOT), ((5, -3, 9), (-20, -30, -10), NOT), (NAN, (-40, -50, -30), UNTESTED),
    ((-50, math.nan, math.nan), (-50, math.nan, math.nan), UNTESTED)])
def test_a_change_is_judged_by_its_interval(ours, best, verdict):
    assert claims.verdict_change(-36.9, ours, best) == verdict
    flipped = [tuple(-value for value in found) for found in (ours, best)]
    assert claims.verdict_change(36.9, *flipped) == verdict


@given(triple, triple)
def test_verdicts_on_changes_are_as_the_rules_say(ours, best):
    """The rules of the table, word by word, in another form."""
    _, low, high = ours
    whole = high <= -36.9
    lowered, up_to = high < 0, best[0] <= -36.9 and best[2] < 0
    assert claims.verdict_change(-36.9, ours, best) == (HOLDS if whole else PART if lowered or up_to else NOT)
    each = [ours, best]
    always = claims.verdict_always(ours, each)
    assert (always == HOLDS) == (low > 0 and high >= 0 and best[2] >= 0)
    assert (always == NOT) == (low <= 0)


def test_shares_of_cases():
    assert [claims.verdict_all(*shares) for shares in ((100, 100), (99.9, 100), (60, 99), (math.nan, math.nan))] == [
        HOLDS, PART, NOT, UNTESTED]
    assert claims.verdict_always(NAN, [NAN]) == UNTESTED


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


def test_the_table_in_the_readme_is_that_of_the_command(run):
    status, out, err = run("reproduce/claims", "--from", FIGURES)
    assert (status, err) == (0, "")
    assert files("results") == ["claims_table.csv", "claims_what_the_paper_claims_and_what_is_found_here.tex"]
    assert "\nOf the runs that are stored in reproduce/figures; --from results: of your own.\n" in out
    text = (ROOT / "reproduce" / "README.md").read_text(encoding="utf-8")
    command, block = readme.BLOCK.search(text).groups()
    assert command.startswith("-m reproduce.claims")
    assert readme.shown(command, out) == block
    table = pd.read_csv("results/claims_table.csv")
    assert set(table["verdict"]) == {HOLDS, PART, NOT}
    assert set(table["command"]) == {"allocation", "pool_size", "scheduling", "incentives"}
    for row in table.to_dict("records"):
        assert f"{row['reading']} " in block


@given(st.lists(st.tuples(triple, triple), min_size=1, max_size=4))
def test_a_verdict_by_size_is_that_of_each_size_if_they_agree(sizes):
    by_size = [(ours, {("size", "X"): one}) for ours, one in sizes]
    verdicts = {claims.verdict_change(-36.9, ours, one) for ours, one in sizes}
    assert claims.verdict_sizes(-36.9, by_size) == (verdicts.pop() if len(verdicts) == 1 else PART)


def test_a_verdict_by_size_of_no_size():
    assert claims.verdict_sizes(-36.9, [(NAN, {("size", "X"): NAN})]) == UNTESTED
    assert claims.verdict_sizes(-36.9, [(NAN, {("size", "X"): NAN}), ((-50, -60, -40), {("more", "X"): (
        -50, -60, -40)})]) == HOLDS


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_auctions_are_those_of_a_plain_count(seed):
    """In each draw the share of its devices, and of those the mean; only auctions that have an allocation count."""
    rng, rows = np.random.default_rng(seed), []
    gains = [f"gain_by_{lie}_{payment}" for lie in ("price", "layers", "time") for payment in ("paper", "critical")]
    for model, pool, draw, asked, _ in itertools.product("mn", "pq", range(6), ("as drawn", "true cost"), range(4)):
        rows.append(dict(model=model, pool=pool, seed=draw, asked=asked, allocation=(draw + len(pool)) % 5 > 0,
                         paid_paper=float(rng.integers(2)), utility_paper=float(rng.integers(-1, 2)),
                         **{key: float(rng.integers(2)) * rng.integers(2) for key in gains}))
    found = claims.of_incentives(pd.DataFrame(rows)).set_index("reading")
    rows = [row for row in rows if row["allocation"]]
    cases = {f"winners, prices {where} {asked}": ("utility_paper", 1, asked, True) for where, asked in (
        ("as", "drawn"), ("at", "true cost"))}
    for more, payment in (("", "paper"), (", FCIM_critical (ours)", "critical")):
        for how, lie in (("asking another price", "price"), ("offering fewer layers", "layers"),
                         ("promising another time", "time")):
            cases[f"no gain by {how}{more}"] = f"gain_by_{lie}_{payment}", 0, "true cost", False
    assert found.index.tolist() == list(cases)
    for reading, (key, wanted, asked, of_winners) in cases.items():
        def share(settings, key=key, wanted=wanted, asked=asked, of_winners=of_winners):
            draws = {}
            for row in rows:
                if (row["model"], row["pool"]) in settings and row["asked"].endswith(asked) and (
                        row["paid_paper"] or not of_winners):
                    draws.setdefault(row["seed"], []).append(row[key] == wanted)
            return 100 * np.mean([np.mean(values) for values in draws.values()])
        settings = list(itertools.product("mn", "pq"))
        assert found.loc[reading, "ours"] == pytest.approx(share(settings), abs=1e-5)
        assert found.loc[reading, "best"] == pytest.approx(max(share([one]) for one in settings), abs=1e-5)


def test_whose_runs_are_told():
    assert claims.source_line("results") == "Of the runs in results."
    assert "reproduce/figures" in claims.source_line(FIGURES)


def test_a_folder_without_runs_is_named():
    with pytest.raises(common.UserError, match="--from nowhere: no allocation_runs"):
        claims.collect("nowhere")
    assert pathlib.Path(claims.FIGURES) == ROOT / "reproduce" / "figures"
