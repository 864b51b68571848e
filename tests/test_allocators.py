"""The four allocation scripts: what holds of every allocation, and what a run prints and writes."""
import json
import math
import pathlib

import pandas as pd
import pytest
from conftest import ALLOCATORS, IS_THOROUGH, LITTLE, check_allocation, edited, metrics, part_of, pipeline_cases, quick
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM
import HexGen
import PipeDream
import PipeEdge


def table(name, end):
    return pd.read_csv(f"results/{name}_{end}.csv", index_col=0 if end == "links" else None)


# What holds of every allocation ---------------------------------------------------------------------------------------


MODEL = common.Model("any", layers=1, hidden=27720, feed_forward=1, heads=27720, context=1)  # groups of any size
CALLS = [
    (FCIM, dict(budget=1e9, deadline=1e9)),
    (HexGen, dict(model=MODEL, tasks=pd.DataFrame({"kv_bytes": [9]}),
                  **{key.lower(): value for key, value in LITTLE.items()})),  # too short to repair much
    (PipeDream, {}),
    (PipeEdge, {}),
]


@pytest.mark.parametrize("module, setting", CALLS)
@settings(max_examples=part_of(200))
@given(pipeline_cases(most_devices=6, most_layers=30), st.sampled_from(["few layers", "all that is offered", "more"]))
def test_an_allocation_is_found_exactly_where_the_offers_suffice(module, setting, given, layers):
    offers = given["bids"]["layers"].tolist()
    if layers != "few layers":
        given["layers"] = sum(offers) + (layers == "more")
    if sum(offers) < given["layers"]:
        message = f"the offers add up to {sum(offers)} of {given['layers']} layers"
        with pytest.raises(common.NoAllocation, match=message):
            module.allocate(**given, **setting)
        return
    stages, _ = module.allocate(**given, **setting)
    used, counts = check_allocation(stages, **given)
    assert len(used) == len(counts) or module is HexGen


# What a run prints and writes -----------------------------------------------------------------------------------------


PAIRS = [(model.name, pool) for i, model in enumerate(common.MODELS) for j, pool in enumerate(common.POOLS)
         if IS_THOROUGH or (i % 2 == 0 and (i + j) % 3 == 0)]


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("model, pool", PAIRS)
def test_the_files_of_a_run_agree(model, pool, name, run):
    """The stages with the bids and links that are written beside them, and the metrics with the stages."""
    assert run(quick(name), "--model", model, "--pool", pool, "--no-plot")[0] == 0
    stages, tasks, bids, links = (table(name, end) for end in ("stages", "tasks", "bids", "links"))
    bids = bids.set_index("device")
    assert (bids["layers"] <= bids["capacity"]).all()
    assert stages["layers"].sum() == common.get_model(model).layers
    assert (stages["memory_utilization"] <= 0.9).all()
    before = ["client"]
    for stage in stages.to_dict("records"):
        group = stage["devices"].split("+")
        share = stage["layers"] / len(group) / bids.loc[group, "layers"]
        assert (share <= 1).all()
        asked, cost = (share * bids["price"][group]).sum(), (share * bids["true_cost"][group]).sum()
        assert stage["reward"] >= asked - 1e-5 if name == "FCIM" else stage["reward"] == pytest.approx(asked, abs=1e-5)
        assert stage["utility"] == pytest.approx(stage["reward"] - cost, abs=1e-5)
        if len(group) == 1:
            assert stage["computation_time"] == pytest.approx((share * bids["computation_time"][group]).sum(), abs=1e-4)
        assert stage["link_delay"] == links.loc[before, group].to_numpy().min()
        before = group
    assert (tasks["trans_time"] == links.loc[before, "client"].min()).all()
    assert metrics(name)["completion_time"] == tasks["completion_time"].max()


@pytest.mark.parametrize("name", ALLOCATORS)
def test_own_bids_and_links_in_the_script_or_in_files(name, run):
    """What a run has drawn gives the same run, wherever it stands."""
    setting = dict(SEED=3, **LITTLE) if name == "HexGen" else dict(SEED=3)
    assert run(edited(name, to="drawn.py", **setting), "--no-plot", "--pool", "paper")[0] == 0
    bids, links = table("drawn", "bids"), table("drawn", "links")
    edited(name, to="mine.py", bids=bids[list(common.BID)].to_dict("records"), links=links.to_dict(), **setting)
    edited(name, to="files.py", **setting)
    paths = ["results/drawn_bids.csv", "results/drawn_links.csv"]
    for copy, flags, sources in (("mine", [], ["mine.py"] * 3),
                                 ("files", ["--bids", paths[0], "--links", paths[1]], ["files.py", *paths])):
        assert run(f"{copy}.py", "--no-plot", "--pool", "paper", *flags)[0] == 0
        assert metrics(copy)[["tasks_file", "bids_file", "links_file"]].tolist() == sources
        for end in ("stages", "tasks", "intervals", "bids", "links"):
            assert table(copy, end).equals(table("drawn", end))


@pytest.mark.parametrize("price, time, efficiency", [(2, 5, 12), (0, 0, math.inf)])
def test_one_device_that_holds_all_is_enough_free_or_not(price, time, efficiency, run):
    pathlib.Path("bids.json").write_text(json.dumps(
        [{"device": "GPU 5", "layers": 24, "price": price, "computation_time": time}]))
    for name in ALLOCATORS:
        assert run(quick(name), "--model", "gpt-neo-1.3b", "--bids", "bids.json", "--no-plot")[0] == 0
        assert table(name, "stages")["devices"].tolist() == ["GPU 5"]
        assert metrics(name)[["total_cost", "cost_efficiency", "fairness_layers", "fairness_rewards"]].tolist() == [
            price, efficiency, 1, 1]


def test_the_figure_shows_the_stages():
    """In the mean of two tasks: the link, then the work, then the all-reduces."""
    stages = pd.DataFrame({"devices": ["A", "B+C"], "layers": [3, 4], "link_delay": [1.0, 2],
                           "computation_time": [6.0, 8], "allreduce_time": [0, 0.5]})
    axes = common.layers_figure("title", stages, 2).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["A: 3 layers", "B+C: 4 layers"]
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()) for bar in axes.patches]
    assert bars == [(0, 0, 1), (1, 0, 2), (0, 1, 3), (1, 2, 4), (0, 4, 0), (1, 6, 0.5)]


@pytest.mark.parametrize("name, setting, message", [
    *((name, {"bids": []}, "no device bids for the 70 layers of BLOOM-176B") for name in ALLOCATORS),
    ("FCIM", {"BUDGET": 0.001}, "12 ask more than"), ("FCIM", {"DEADLINE": 0.1}, "12 take longer than DEADLINE"),
])
def test_where_no_allocation_exists(name, setting, message, run):
    status, out, err = run(edited(name, **setting))
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not pathlib.Path("results").exists()
