"""The four allocation scripts as a user runs them: what they print and write, their flags, and how they refuse."""
import json
import math
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ALLOCATORS, IS_THOROUGH, LITTLE, edited, files, metrics, quick, refused, script

import common
import FCIM

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


def written(folder, end):
    """The one such file of a folder, whatever the script was called."""
    path, = pathlib.Path(folder).glob(f"*_{end}.csv")
    return path


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


@pytest.mark.parametrize("pool, seed", [("campus", 0), ("paper", 5), ("workstations", 5)])
def test_all_four_get_the_same_devices_links_and_bids(pool, seed, run):
    inputs = set()
    for name in ALLOCATORS:
        assert run(quick(name), "--pool", pool, "--seed", seed, "--no-plot")[0] == 0
        inputs.add(tuple(pathlib.Path("results", f"{name}_{end}.csv").read_text() for end in ("bids", "links")))
    assert len(inputs) == 1


PAIRS = [(model.name, pool) for i, model in enumerate(common.MODELS) for j, pool in enumerate(common.POOLS)
         if IS_THOROUGH or (i % 2 == 0 and (i + j) % 3 == 0)]


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("model, pool", PAIRS)
def test_every_metric_follows_from_the_files(model, pool, name, run):
    assert run(quick(name), "--model", model, "--pool", pool, "--no-plot")[0] == 0
    stages, tasks, intervals, bids, links = (
        table(name, end) for end in ("stages", "tasks", "intervals", "bids", "links"))
    found = metrics(name)
    assert (found["algorithm"], found["model"], found["pool"]) == (name, model, pool)
    bids = bids.set_index("device")
    groups = [devices.split("+") for devices in stages["devices"]]
    used = [device for group in groups for device in group]
    assert len(set(used)) == len(used) == found["devices"]
    assert stages["tensor_parallel"].tolist() == [len(group) for group in groups]
    assert stages["layers"].sum() == common.get_model(model).layers
    assert stages["first_layer"].tolist() == [0, *stages["layers"].cumsum()[:-1]]
    assert (stages["last_layer"] + 1).tolist() == stages["layers"].cumsum().tolist()

    share = pd.Series({device: n / len(group) for group, n in zip(groups, stages["layers"]) for device in group})
    assert (share <= bids.loc[used, "layers"]).all()
    assert (bids["layers"] <= bids["capacity"]).all()
    paid = (share * bids["price"] / bids["layers"])[used]
    if name == "FCIM":
        paid = pd.Series(dict(zip(used, stages["reward"])))
        assert (stages["utility"] >= 0).all()
    cost = (share * bids["true_cost"] / bids["layers"])[used]
    for s, group in enumerate(groups):
        assert stages["reward"][s] == pytest.approx(paid[group].sum(), abs=1e-5)
        assert stages["utility"][s] == pytest.approx((paid - cost)[group].sum(), abs=1e-5)
    per_layer = (bids["computation_time"] / bids["layers"]).to_dict()
    for s, group in enumerate(groups):
        if len(group) == 1 or len({per_layer[device] for device in group}) == 1:
            expected = stages["layers"][s] * per_layer[group[0]] / len(group)
            assert stages["computation_time"][s] == pytest.approx(expected, abs=1e-4)
    assert stages["computation_time"].sum() == pytest.approx(tasks["computation_time"].sum(), abs=1e-4)

    ways = [["client"], *groups, ["client"]]
    delays = [links.loc[a, b].to_numpy().min() for a, b in zip(ways, ways[1:])]
    assert stages["link_delay"].tolist() == pytest.approx(delays[:-1])
    assert tasks["trans_time"].tolist() == pytest.approx([delays[-1]] * 5)
    reduces = sum(n * 4 * (len(group) - 1) / len(group) * links.loc[group, group].to_numpy().max()
                  for group, n in zip(groups, stages["layers"]))
    communication, computation = 5 * (sum(delays) + reduces), tasks["computation_time"].sum()
    assert found["communication_time"] == pytest.approx(communication, abs=1e-4)
    assert found["computation_time"] == pytest.approx(computation, abs=1e-4)
    assert found["communication_overhead"] == pytest.approx(communication / (communication + computation), abs=1e-5)

    compute = intervals[intervals["kind"] == "compute"].groupby("label")
    by_label = tasks.set_index("label")
    assert (compute["start"].min() - by_label["start_time"]).abs().max() < 1e-6
    assert (compute["end"].max() - by_label["end_computation"]).abs().max() < 1e-6
    assert (intervals.groupby("label")["end"].max() - by_label["completion_time"]).abs().max() < 1e-6
    spent = (compute["end"].sum() - compute["start"].sum()).sum()
    assert spent == pytest.approx(computation + 5 * reduces, abs=1e-4)
    waits = intervals.groupby("label").apply(lambda way: (way["start"].iloc[1::2].to_numpy()
                                                          - way["end"].iloc[:-1:2].to_numpy()).sum())
    assert (waits - by_label["waiting_time"]).abs().max() < 1e-6
    assert found["completion_time"] == tasks["completion_time"].max()
    met = tasks["completion_time"] <= tasks["deadline"]
    assert found["deadlines_met"] == met.sum() == tasks["deadline_met"].sum()
    turnaround = tasks["completion_time"] - tasks["arrival_time"]
    assert found["mean_turnaround_time"] == pytest.approx(turnaround.mean(), abs=2e-6)
    assert found["p95_turnaround_time"] == pytest.approx(np.percentile(turnaround, 95), abs=2e-6)
    assert found["mean_waiting_time"] == pytest.approx(waits.mean(), abs=2e-6)

    memory = pd.Series({device: common.get_device(kind).memory for device, kind in bids["type"].items()})
    assert found["memory_utilization"] == pytest.approx(stages["memory_gb"].sum() / memory[used].sum(), abs=1e-5)
    for s, group in enumerate(groups):
        assert stages["memory_utilization"][s] == pytest.approx(stages["memory_gb"][s] / memory[group].sum(), abs=1e-5)
        assert stages["memory_utilization"][s] <= 0.9
    for key, values in (("fairness_layers", share), ("fairness_rewards", paid)):
        assert found[key] == pytest.approx(values.sum() ** 2 / (len(values) * (values ** 2).sum()), abs=1e-5)
        assert found[f"{key}_all"] == pytest.approx(found[key] * len(values) / len(bids), abs=1e-5)
    assert found["total_cost"] == pytest.approx(stages["reward"].sum(), abs=1e-5)
    assert found["cost_efficiency"] == pytest.approx(stages["layers"].sum() / stages["reward"].sum(), rel=1e-4)


def test_pairs_within_a_host_appear_where_they_are_better(run):
    times = {}
    for pool, most in (("campus", 2), ("workstations", 2), ("paper", 1)):
        run("HexGen", "--pool", pool, "--seed", "1", "--no-plot")
        assert table("HexGen", "stages")["tensor_parallel"].max() == most
        times[pool] = metrics("HexGen")["completion_time"]
    assert times["campus"] < times["workstations"] < times["paper"]


@pytest.mark.parametrize("name", ALLOCATORS)
def test_own_bids_and_links_in_the_script_or_in_files(name, run):
    small = ["--no-plot", "--pool", "paper"]
    run(quick(name), *small, "--out", "drawn", "--seed", "3")
    bids, links = table(name, "bids", "drawn"), table(name, "links", "drawn")
    flags = [*small, "--bids", f"drawn/{name}_bids.csv", "--links", f"drawn/{name}_links.csv", "--out", "files"]
    if name == "HexGen":  # whose search it starts
        assert run(quick(name), *flags, "--seed", "3")[0] == 0
    else:
        refused(run(quick(name), *flags, "--seed", "3"), "--seed: has no effect, as bids and links are given")
        assert run(edited(name, SEED=3), *flags)[0] == 0
    for given in (flags[:5], [*small, *flags[5:7]]):  # links, or bids, are drawn then
        assert run(quick(name), *given, "--seed", "4", "--out", "half")[0] == 0
    own = bids[list(common.BID)].to_dict("records")
    search = LITTLE if name == "HexGen" else {}
    mine = edited(name, SEED=3, bids=own, links=links.to_dict(), **search)
    assert run(mine, *small, "--out", "script")[0] == 0
    for end in ("stages", "tasks", "intervals", "bids", "links"):
        assert len({written(folder, end).read_text() for folder in ("drawn", "files", "script")}) == 1
    drawn, from_files, from_script = (
        pd.read_csv(written(folder, "metrics")) for folder in ("drawn", "files", "script"))
    assert drawn[MEASURES].equals(from_files[MEASURES])
    assert drawn[MEASURES].equals(from_script[MEASURES])
    assert drawn[SOURCES].to_numpy().tolist() == [[f"{name}.py", "drawn", "drawn"]]
    assert from_files[SOURCES[1:]].to_numpy().tolist() == [[flags[4], flags[6]]]
    assert from_script[SOURCES].to_numpy().tolist() == [["mine.py"] * 3]
    pathlib.Path("bids.json").write_text(json.dumps(own))
    pathlib.Path("links.json").write_text(json.dumps(links.to_dict()))
    assert run(quick(name), *small, "--bids", "bids.json", "--links", "links.json", "--out", "json",
               *(["--seed", "3"] if name == "HexGen" else []))[0] == 0
    assert pathlib.Path("json", f"{name}_stages.csv").read_text() == pathlib.Path(
        "drawn", f"{name}_stages.csv").read_text()


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


def test_one_device_that_holds_all_is_enough(run):
    pathlib.Path("bids.json").write_text(json.dumps(
        [{"device": "GPU 5", "layers": 24, "price": 2, "computation_time": 5}]))
    for name in ALLOCATORS:
        assert run(quick(name), "--model", "gpt-neo-1.3b", "--bids", "bids.json")[0] == 0
        assert table(name, "stages")["devices"].tolist() == ["GPU 5"]
        assert (metrics(name)["total_cost"], metrics(name)["fairness_layers"]) == (2, 1)


def test_free_layers_cost_nothing(run):
    pathlib.Path("bids.json").write_text(json.dumps(
        [{"device": "GPU 5", "layers": 24, "price": 0, "computation_time": 0}]))
    for name in ALLOCATORS:
        assert run(quick(name), "--model", "gpt-neo-1.3b", "--bids", "bids.json")[0] == 0
        assert math.isinf(metrics(name)["cost_efficiency"])
        assert metrics(name)["fairness_rewards"] == 1


# How they refuse ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("arguments, message", [
    (["--pool", "party"], "unknown pool 'party': choose from campus, paper, workstations"),
    (["--model", "GPT-9"], "unknown model 'GPT-9'"),
    (["--seed", "-1"], "--seed: -1.0 is not a number from 0 to 1e9"),
    (["--seed", "0.5"], "--seed: 0.5 is not a whole number"),
    (["--seed", "x"], "argument --seed: invalid float value: 'x'"),
    (["--model", "./none"], "model './none': no such file or folder"),
    (["--model", "a/b/c"], "model 'a/b/c': no such file or folder"),
    (["--tasks", "none.csv"], "none.csv: No such file or directory"),
    (["--bids", "none.csv"], "none.csv: No such file or directory"),
    (["--links", "none.json"], "none.json: No such file or directory"),
    (["--bids", "file"], "file: not a CSV file"),
    (["--bids", ""], "'': No such file or directory"),
    (["--links", "file"], "file: not a CSV file"),
    (["--links", ""], "'': No such file or directory"),
    (["--tasks", ""], "'': No such file or directory"),
    (["--execute"], "unrecognized arguments: --execute"),
    (["--compare"], "unrecognized arguments: --compare"),
    (["--audit"], "unrecognized arguments: --audit"),
    (["--device", "T4"], "unrecognized arguments: --device T4"),
    (["--out", "file/folder"], "is not a folder that can be written in"),
])
def test_wrong_arguments_are_one_line(name, arguments, message, run):
    pathlib.Path("file").write_text("")
    refused(run(name, *arguments), message)


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("old, new, message", [
    ('POOL = "campus"', "POOL = 3", "unknown pool 3"),
    ("SEED = 0 ", 'SEED = "zero" ', "--seed: 'zero' is not a number from 0 to 1e9"),
    ("SEED = 0 ", "SEED = 0.5 ", "--seed: 0.5 is not a whole number"),
    ("SEED = 0 ", "SEED = None ", "--seed: None is not a number from 0 to 1e9"),
    ("\nbids = None", "\nbids = [{}]", "bids, row 1, device: missing"),
    ("\nbids = None", '\nbids = [{"device": "GPU 1", "layers": 18, "price": 1, "computation_time": 9}]',
     "bids, row 1, layers: 18 is not from 1 to what the device holds of BLOOM-176B"),
    ("\nlinks = None", '\nlinks = {"GPU 1": {"GPU 2": 3}}', "links, GPU 1 to GPU 3: missing"),
    ("\nlinks = None", "\nlinks = {}", "links, GPU 1 to GPU 2: missing"),
    ('"deadline": 150}', '"deadline": "late"}', "tasks, row 1, deadline: 'late' is not a number from 0 to 1e9"),
])
def test_a_wrong_edit_of_a_script_is_one_line(name, old, new, message, run):
    refused(run(edited(name, (old, new))), message)


STAGES = [{"devices": [k], "layers": n} for k, n in enumerate((14, 14, 14, 10, 9, 9))]
BIDS = [{"device": f"GPU {k}", "layers": n, "price": 0.5, "computation_time": 2 * n}
        for k, n in enumerate((14, 14, 14, 10, 9, 9), 1)]


@pytest.mark.parametrize("result, message", [
    ([*STAGES[:5], {"devices": [0], "layers": 9}], "GPU 1 is used twice"),
    ([{"devices": [0], "layers": 18}, *STAGES[1:]], "GPU 1 is given 18 of the 14 layers that its group can take"),
    ([{"devices": [0], "layers": 0}, *STAGES[1:]], "GPU 1 is given 0 of the 14 layers that its group can take"),
    (STAGES[:5], "it holds 61 of 70 layers"),
    ([], "it holds 0 of 70 layers"),
])
def test_an_allocation_that_is_none_is_told(result, message, run):
    """An allocator of the user's: PipeDream's allocate, which returns something else."""
    mine = edited("PipeDream", ("\n    return stages, [", f"\n    return {result!r}, ["), bids=BIDS)
    refused(run(mine, "--no-plot"), f"mine: the allocation is wrong: {message}")


def impossible(outcome, message):
    status, out, err = outcome
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not pathlib.Path("results").exists()


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("bids, message", [
    ([], "no device bids for the 70 layers of BLOOM-176B"),
    ([("GPU 1", 17)], "17 of 70"),
    ([("GPU 1", 17), ("GPU 2", 17), ("GPU 3", 17), ("GPU 4", 11), ("GPU 6", 7)], "69 of 70"),
])
def test_an_allocation_that_cannot_exist_is_one_line(name, bids, message, run):
    own = [{"device": device, "layers": layers, "price": 0.5, "computation_time": 40} for device, layers in bids]
    impossible(run(edited(name, bids=own)), message)


@pytest.mark.parametrize("setting, message", [
    (dict(BUDGET=0.01), "round 1, 70 of 70 layers left: of 12 bids 12 ask more than"),
    (dict(DEADLINE=0.1), "0 ask more than"), (dict(DEADLINE=0.1), "12 take longer than DEADLINE")])
def test_a_budget_or_deadline_that_excludes_all(setting, message, run):
    impossible(run(edited("FCIM", **setting)), message)


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
    assert axes.get_xlabel() == "mean time of a task (s)"
    assert links.loc["GPU 7", "GPU 8"] == 0.02
