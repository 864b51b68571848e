"""The four allocation scripts: what holds of every allocation, and what a run prints and writes."""
import json
import math
import pathlib
import re

import pandas as pd
import pytest
from conftest import ALLOCATORS, IS_THOROUGH, LITTLE, edited, files, metrics, part_of, pipeline_cases, quick, script
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM
import HexGen
import PipeDream
import PipeEdge

ENDS = ["bids.csv", "intervals.csv", "layers.png", "links.csv", "metrics.csv", "stages.csv", "tasks.csv"]
HEADERS = {
    "tasks": "label,arrival_time,computation_time,trans_time,deadline,start_time,end_computation,completion_time,"
             "response_time,waiting_time,uplink_waiting_time,turnaround_time,deadline_met,preemptions",
    "intervals": "label,kind,start,end,stage,devices",
    "stages": "stage,devices,tensor_parallel,first_layer,last_layer,layers,computation_time,link_delay,reward,utility,"
              "memory_gb,memory_utilization",
    "bids": "device,type,host,capacity,layers,price,computation_time,true_cost",
    "links": "," + ",".join(f"GPU {k}" for k in range(1, 13)) + ",client",
}
MEASURES = ("tasks,devices,total_cost,completion_time,computation_time,communication_time,communication_overhead,"
            "memory_utilization,fairness_layers,fairness_rewards,cost_efficiency,deadlines_met,fairness_layers_all,"
            "fairness_rewards_all,mean_turnaround_time,p95_turnaround_time,mean_waiting_time").split(",")
SOURCES = ["tasks_file", "bids_file", "links_file"]


def table(name, end, folder="results"):
    return pd.read_csv(pathlib.Path(folder) / f"{name}_{end}.csv", index_col=0 if end == "links" else None)


# What holds of every allocation ---------------------------------------------------------------------------------------


MODEL = common.Model("any", layers=1, hidden=27720, feed_forward=1, heads=27720, context=1)  # groups of any size
CALLS = [
    (FCIM, dict(budget=1e9, deadline=1e9)),
    (HexGen, dict(model=MODEL, **{key.lower(): value for key, value in LITTLE.items()})),  # too short to repair much
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
    used = [i for stage in stages for i in stage["devices"]]
    assert len(set(used)) == len(used)
    assert set(used) <= set(range(len(offers)))
    assert sum(stage["layers"] for stage in stages) == given["layers"]
    for stage in stages:
        group = stage["devices"]
        assert 1 <= stage["layers"] <= len(group) * min(offers[i] for i in group)
        assert len(group) == 1 or module is HexGen


# What a run prints and writes -----------------------------------------------------------------------------------------


def test_the_shipped_lists_and_settings_are_one():
    texts = [script(name) for name in ALLOCATORS]
    assert len({text.split("\ntasks = ")[1].split("\n]\n")[0] for text in texts}) == 1
    for line in ("MODEL =", "POOL =", "SEED =", "OUT =", "bids =", "links ="):
        assert len({re.search(rf"^{line}.*$", text, re.MULTILINE).group(0) for text in texts}) == 1


@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_run_writes_the_files_and_prints_the_tables(name, run):
    status, out, err = run(quick(name))
    assert (status, err) == (0, "")
    assert files("results") == [f"{name}_{end}" for end in ENDS]
    for end, header in HEADERS.items():
        assert pathlib.Path("results", f"{name}_{end}.csv").read_text().split("\n")[0] == header
    header = table(name, "metrics").columns.tolist()
    assert header[:4] == ["algorithm", "model", "pool", "seed"]
    assert header[-len(MEASURES) - 3:] == [*SOURCES, *MEASURES]
    assert pathlib.Path("results", f"{name}_layers.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"{name}: 5 tasks, model BLOOM-176B, pool campus, seed 0" in out.split("\n")[0]
    for text in ("GPU 1", "Task 5", "communication_overhead", f"results/{name}_layers.png"):
        assert text in out
    found = metrics(name)
    assert [found[key] for key in (*header[:4], "tasks_file", "tasks")] == [
        name, "BLOOM-176B", "campus", 0, f"{name}.py", 5]
    before = {file: pathlib.Path("results", file).read_bytes() for file in files("results")}
    assert run(quick(name)) == (status, out, err)
    assert {file: pathlib.Path("results", file).read_bytes() for file in files("results")} == before


def test_all_four_get_the_same_devices_links_and_bids(run):
    inputs = set()
    for name in ALLOCATORS:
        assert run(quick(name), "--pool", "workstations", "--seed", 5, "--no-plot")[0] == 0
        inputs.add(tuple(pathlib.Path("results", f"{name}_{end}.csv").read_text() for end in ("bids", "links")))
    assert len(inputs) == 1


PAIRS = [(model.name, pool) for i, model in enumerate(common.MODELS) for j, pool in enumerate(common.POOLS)
         if IS_THOROUGH or (i % 2 == 0 and (i + j) % 3 == 0)]


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("model, pool", PAIRS)
def test_the_files_of_a_run_agree(model, pool, name, run):
    """The stages with the bids and links that are written beside them, and the metrics with the stages."""
    assert run(quick(name), "--model", model, "--pool", pool, "--no-plot")[0] == 0
    stages, tasks, bids, links = (table(name, end) for end in ("stages", "tasks", "bids", "links"))
    bids = bids.set_index("device")
    found = metrics(name)
    assert stages["layers"].sum() == common.get_model(model).layers
    assert (bids["layers"] <= bids["capacity"]).all()
    before = ["client"]
    for stage in stages.to_dict("records"):
        group = stage["devices"].split("+")
        share = stage["layers"] / len(group)
        assert (share <= bids.loc[group, "layers"]).all()
        assert stage["memory_utilization"] <= 0.9
        asked = share * (bids["price"] / bids["layers"])[group].sum()
        cost = share * (bids["true_cost"] / bids["layers"])[group].sum()
        assert stage["reward"] >= asked - 1e-5 if name == "FCIM" else stage["reward"] == pytest.approx(asked, abs=1e-5)
        assert stage["utility"] == pytest.approx(stage["reward"] - cost, abs=1e-5)
        if len(group) == 1:
            per_layer = (bids["computation_time"] / bids["layers"])[group[0]]
            assert stage["computation_time"] == pytest.approx(share * per_layer, abs=1e-4)
        assert stage["link_delay"] == pytest.approx(links.loc[before, group].to_numpy().min())
        before = group
    assert tasks["trans_time"].tolist() == pytest.approx([links.loc[before, "client"].min()] * len(tasks))
    assert found["total_cost"] == pytest.approx(stages["reward"].sum(), abs=1e-5)
    assert found["computation_time"] == pytest.approx(stages["computation_time"].sum(), abs=1e-4)
    assert found["completion_time"] == tasks["completion_time"].max()


def test_pairs_within_a_host_appear_where_they_are_better(run):
    times = {}
    for pool, most in (("campus", 2), ("workstations", 2), ("paper", 1)):
        run("HexGen", "--pool", pool, "--seed", "1", "--no-plot")
        assert table("HexGen", "stages")["tensor_parallel"].max() == most
        times[pool] = metrics("HexGen")["completion_time"]
    assert times["campus"] < times["workstations"] < times["paper"]


@pytest.mark.parametrize("name", ALLOCATORS)
def test_own_bids_and_links_in_the_script_or_in_files(name, run):
    flags = ["--no-plot", "--pool", "paper"]
    search = LITTLE if name == "HexGen" else {}
    assert run(edited(name, to="drawn.py", SEED=3, **search), *flags)[0] == 0
    bids, links = table("drawn", "bids"), table("drawn", "links")
    own = bids[list(common.BID)].to_dict("records")
    pathlib.Path("bids.json").write_text(json.dumps(own))
    pathlib.Path("links.json").write_text(json.dumps(links.to_dict()))
    edited(name, to="files.py", SEED=3, **search)
    edited(name, to="json.py", SEED=3, **search)
    edited(name, to="mine.py", SEED=3, bids=own, links=links.to_dict(), **search)
    csv = ["--bids", "results/drawn_bids.csv", "--links", "results/drawn_links.csv"]
    for copy, more, sources in (
            ("files", csv, ["files.py", csv[1], csv[3]]),
            ("json", ["--bids", "bids.json", "--links", "links.json"], ["json.py", "bids.json", "links.json"]),
            ("mine", [], ["mine.py"] * 3)):
        assert run(f"{copy}.py", *flags, *more)[0] == 0
        assert table(copy, "metrics")[SOURCES].to_numpy().tolist() == [sources]
        assert table(copy, "metrics")[MEASURES].equals(table("drawn", "metrics")[MEASURES])
        for end in ("stages", "tasks", "intervals", "bids", "links"):
            assert table(copy, end).equals(table("drawn", end))
    for half in (csv[:2], csv[2:]):  # links, or bids, are drawn then
        assert run(quick(name), *flags, *half, "--seed", "4")[0] == 0


@pytest.mark.parametrize("name", ALLOCATORS)
def test_the_flags_work_in_each(name, run):
    run(quick(name), "--no-plot")
    base = metrics(name)
    pd.DataFrame(FCIM.tasks[:3]).to_csv("tasks.csv", index=False)
    assert run(quick(name), "--tasks", "tasks.csv", "--out", "a/b", "--no-plot")[0] == 0
    assert files("a/b") == [f"{name}_{end}" for end in ENDS if end != "layers.png"]
    assert metrics(name, "a/b")["completion_time"] < base["completion_time"]
    for flags in (("--seed", 1), ("--pool", "Workstations"), ("--model", "gpt-3-175b")):
        assert run(quick(name), *flags, "--no-plot")[0] == 0
        assert metrics(name)["completion_time"] != base["completion_time"]


@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_task_that_arrives_later_in_the_list_may_arrive_earlier(name, run):
    run(quick(name), "--no-plot")
    before = table(name, "tasks").set_index("label")
    pd.DataFrame(FCIM.tasks[::-1]).to_json("tasks.json", orient="records")
    run(quick(name), "--tasks", "tasks.json", "--no-plot")
    after = table(name, "tasks").set_index("label")
    assert after.index.tolist() == before.index.tolist()[::-1]
    assert after.loc[before.index].equals(before)


@pytest.mark.parametrize("price, time, efficiency", [(2, 5, 12), (0, 0, math.inf)])
def test_one_device_that_holds_all_is_enough_free_or_not(price, time, efficiency, run):
    pathlib.Path("bids.json").write_text(json.dumps(
        [{"device": "GPU 5", "layers": 24, "price": price, "computation_time": time}]))
    for name in ALLOCATORS:
        assert run(quick(name), "--model", "gpt-neo-1.3b", "--bids", "bids.json", "--no-plot")[0] == 0
        assert table(name, "stages")["devices"].tolist() == ["GPU 5"]
        assert metrics(name)[["total_cost", "cost_efficiency", "fairness_layers", "fairness_rewards"]].tolist() == [
            price, efficiency, 1, 1]


def test_the_figure_shows_the_stages(run, monkeypatch):
    from matplotlib.figure import Figure
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (
        pathlib.Path(path).write_bytes(b""), drawn.append(figure)))
    status, _, err = run("HexGen")
    assert (status, err) == (0, "")
    axes, = drawn[0].axes
    stages, tasks, links = (table("HexGen", end) for end in ("stages", "tasks", "links"))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        f"{devices}: {layers} layers" for devices, layers in zip(stages["devices"], stages["layers"])]
    reduces = [n * 4 * (k - 1) / k * 0.02 for n, k in zip(stages["layers"], stages["tensor_parallel"])]
    assert max(reduces) > 0
    link, work = stages["link_delay"], stages["computation_time"] / len(tasks)
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()) for bar in axes.patches]
    for k, (row, start, width) in enumerate(bars):
        of, kind = k % len(stages), k // len(stages)
        assert row == pytest.approx(of)
        assert width == pytest.approx([link, work, reduces][kind][of])
        assert start == pytest.approx([0, link[of], link[of] + work[of]][kind])
    assert len(bars) == 3 * len(stages)
    assert links.loc["GPU 7", "GPU 8"] == 0.02


@pytest.mark.parametrize("name, setting, message", [
    *((name, "bids=[]", "no device bids for the 70 layers of BLOOM-176B") for name in ALLOCATORS),
    ("FCIM", "BUDGET=0.01", "round 1, 70 of 70 layers left: of 12 bids 12 ask more than"),
    ("FCIM", "DEADLINE=0.1", "12 take longer than DEADLINE"),
])
def test_where_no_allocation_exists(name, setting, message, run):
    key, value = setting.split("=")
    status, out, err = run(edited(name, **{key: value}))
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not pathlib.Path("results").exists()
