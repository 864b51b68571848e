"""reproduce/sensitivity.py: what a sweep changes, and restores; --set; text and figures follow from the runs."""
import pandas as pd
import pytest
from conftest import ROOT, figure_of, refused

import common
import FCIM
from reproduce import allocation, sensitivity, study

pytestmark = pytest.mark.usefixtures("little_search")
BLOOM = common.get_model("BLOOM-176B")
SETTINGS = ["MARGIN", *sensitivity.OF_COMMON]


def cases_of(sweep, values, seed, monkeypatch):
    """{value: the allocation_case that the methods are given}."""
    cases = {}
    before = [dict(common.POOLS), *(getattr(common, key) for key in SETTINGS)]
    with monkeypatch.context() as patch:
        patch.setattr(allocation, "measure_all", lambda _, case, value, **draw: cases.update({value: case}) or [])
        sensitivity.run_case(FCIM.tasks, BLOOM, sweep, values, seed)
    assert [common.POOLS, *(getattr(common, key) for key in SETTINGS)] == before
    return cases


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_pool_is_a_smaller_one_and_more(seed, monkeypatch):
    """Offers are raised on the smallest pool alone."""
    cases = cases_of("devices", [6, 8, 12], seed, monkeypatch)
    least, small, large = (case["bids"].set_index("device") for case in cases.values())
    assert (len(least), len(small), len(large)) == (6, 8, 12)
    assert large["type"].value_counts().to_dict() == {"RTX 4090": 6, "T4": 6}
    assert large["host"].nunique() == 12
    assert large.loc[small.index].equals(small)
    assert (least["layers"] >= small.loc[least.index, "layers"]).all()
    assert least["layers"].sum() == BLOOM.layers < small["layers"].sum()
    names = [*small.index, "client"]
    assert cases[12]["links"].loc[names, names].equals(cases[8]["links"])


def test_a_sweep_changes_what_it_names_and_nothing_else(monkeypatch):
    plain = common.allocation_case(FCIM.tasks, BLOOM, "campus", 3)
    bids = plain["bids"]
    is_slow = bids["type"] == "T4"
    for sweep, usual, factors in (("T4_COST", 1, 1 + 9 * is_slow), ("ELECTRICITY", 0.3, 10)):
        cases = cases_of(sweep, [usual, 10 * usual], 3, monkeypatch)
        assert cases[usual]["bids"].equals(bids)
        dear = cases[10 * usual]["bids"]
        assert dear["price"].tolist() == pytest.approx((bids["price"] * factors).tolist(), rel=1e-5)
        assert dear.drop(columns=["price", "true_cost"]).equals(bids.drop(columns=["price", "true_cost"]))
    cases = cases_of("MARGIN", [1, 1.6], 3, monkeypatch)
    assert cases[1]["bids"]["price"].tolist() == pytest.approx(bids["true_cost"].tolist(), rel=1e-5)
    assert cases[1.6]["bids"].equals(bids)
    cases = cases_of("LINK_SCALE", [3, 6], 3, monkeypatch)
    assert cases[3]["links"].equals(plain["links"])
    between_hosts = plain["delay"] != common.HOST_LINK
    assert cases[6]["delay"] == pytest.approx(plain["delay"] * (1 + between_hosts), abs=2e-6)
    assert cases_of("TOKENS_PER_WORD", [2.66], 3, monkeypatch)[2.66]["times"].sum() > 1.9 * plain["times"].sum()


@pytest.mark.parametrize("sweep, values, keyword", [
    ("gamma", [0.2, 0.6], lambda value: dict(weights=(0.1, 0.3, value))), ("T4_COST", [0.5, 3], lambda value: {})])
def test_rows_are_those_of_each_method_run_anew(sweep, values, keyword, monkeypatch):
    """Though what a setting does not change is computed once."""
    rows = sensitivity.run_case(FCIM.tasks, BLOOM, sweep, values, 1)
    expected = []
    for value in values:
        case = cases_of(sweep, [value], 1, monkeypatch)[value]
        methods = {name: study.script(name).allocate for name in sensitivity.METHODS}
        given = keyword(value)
        methods["FCIM"] = lambda given=given, **case: FCIM.allocate(**{**case, **given})
        expected += allocation.measure_all(methods, case, model=BLOOM.name, sweep=sweep, value=value, seed=1)
    assert rows == expected
    assert rows[0] != dict(rows[4], value=values[0])  # FCIM's: it hangs on each of them


def test_draws_without_an_allocation_are_counted(run):
    status, out, err = run("reproduce/sensitivity", "--runs", 1, "--set", "delta=0,0.1,0.1", "--set", "budget=2,0.0001",
                           "--set", "MEMORY_SHARE=0,0.9", "--no-plot")
    assert (status, err) == (0, "")
    failures = out[out.index("Draws without an allocation"):].split("\n\n")[0]
    assert [line.split()[:5] for line in failures.splitlines()[-5:]] == [
        ["BUDGET", "0.0001", "FCIM", "1", "1"],
        *(["MEMORY_SHARE", "0", name, "1", "1"] for name in sensitivity.METHODS)]


@pytest.mark.parametrize("text, message", [
    ("BUDGET", "BUDGET: is not NAME=VALUE"), ("MOON=1", "unknown setting 'MOON'"),
    ("BUDGET=1,x", "BUDGET: 'x' is not a number"), ("devices=6.5", "devices: '6.5' is not a whole")])
def test_a_wrong_setting_is_told_in_one_line(text, message, run):
    refused(run("reproduce/sensitivity", "--set", text), message)


def test_table_and_figures_follow_from_the_runs():
    stored = study.read_runs(ROOT / "reproduce" / "figures", "sensitivity_runs.csv")
    parts, tables, figures = sensitivity.report(stored)
    table = tables["table"].set_index(["sweep", "metric", "algorithm"]).sort_index(kind="stable")
    texts = {part[0]: part[2] for part in parts if not isinstance(part, str)}
    for sweep, values in sensitivity.SWEEPS.items():
        mean = stored[stored["sweep"] == sweep].groupby(["value", "algorithm"])["communication_time"].mean().unstack()
        text = texts[sweep][texts[sweep]["metric"] == "time on links"]
        assert text["value"].astype(float).tolist() == values
        shown = text["PipeDream"].str.lstrip("~").str.split(" ").str[0].astype(float)
        assert shown.to_numpy() == pytest.approx((100 * (mean["FCIM"] / mean["PipeDream"] - 1)).to_numpy(), abs=0.0501)
        for axes, metric, claimed in zip(figure_of(*figures[f"_{sweep}"]).axes, sensitivity.PANELS,
                                         (-54.7, -54.7, -36.9, 0, 0)):
            lines = [list(line.get_ydata()) for line in axes.lines]
            assert claimed == 0 or [claimed, claimed] in lines
            for name in sensitivity.METHODS[1:]:
                assert table.loc[(sweep, metric, name), "change"].tolist() in lines


def test_the_sentence_names_the_values_at_which_all_intervals_are_on_fcims_side():
    table = pd.DataFrame([dict(sweep="BUDGET", value=value, metric=metric, algorithm=name, change_low=-9,
                               change_high=9 - 10 * (value in values))
                          for metric in sensitivity.METRICS for name, values in (("A", (1, 4, 8.5)), ("B", (1, 2, 4)))
                          for value in (1, 2, 4, 8.5)])
    more = table["metric"] == "fairness_layers"
    table.loc[more, ["change_low", "change_high"]] = -table.loc[more, ["change_high", "change_low"]].to_numpy()
    begin = "What an advantage of FCIM over"
    for others, where in ((["A", "B"], "BUDGET 1 or 4"), (["A"], "BUDGET 1 or 4 or 8.5"), (["B"], "BUDGET 1 to 4")):
        text = sensitivity.needs(table, others, {"BUDGET": [1, 2, 4, 8.5]})
        assert text.startswith(f"{begin} {', '.join(others)} needs: in time on links {where}; in ")
        assert text.endswith(f"; in cost {where}; in fairness (used) {where}; in fairness (all) there is none.")
    least = table[table["value"] == 1]
    assert sensitivity.needs(least, ["A"], {"BUDGET": [1]}).count(" any BUDGET") == 5
    assert sensitivity.needs(least, ["A"], {"BUDGET": [0.1, 1]}).count(" BUDGET 1;") == 5  # at 0.1 no allocation exists
