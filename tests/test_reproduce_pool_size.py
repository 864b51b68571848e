"""reproduce/pool_size.py: pools that hold the smaller ones; claims, table and figure follow from the runs."""
import pytest
from conftest import ROOT

import common
import FCIM
from reproduce import allocation, pool_size, study

BLOOM = common.get_model("BLOOM-176B")


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


def test_table_and_figure_follow_from_the_runs():
    stored = study.read_runs(ROOT / "reproduce" / "figures", "pool_size_runs.csv")
    parts, tables, figures = pool_size.report(stored)
    means = stored.groupby(["size", "algorithm"])["communication_time"].mean()
    changes = 100 * (means.xs("FCIM", level=1) / means.xs("PipeDream", level=1) - 1)
    text = parts[1][2]
    assert text["size"].tolist() == pool_size.SIZES
    for cell, change in zip(text["against PipeDream"], changes):
        assert float(cell.lstrip("~").split(" ")[0]) == pytest.approx(change, abs=0.0501)
    figure = common.try_figure(*figures[""])
    for axes, metric, claimed in zip(figure.axes, pool_size.PANELS, (-54.7, -36.9, 0)):
        lines = [list(line.get_ydata()) for line in axes.lines]
        assert [claimed, claimed] in lines
        table = tables["table"][tables["table"]["metric"] == metric]
        for name in ("HexGen", "PipeDream", "PipeEdge"):
            assert table["change"][table["algorithm"] == name].tolist() in lines
