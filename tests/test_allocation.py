"""What the allocation scripts share: links, bids, the pipeline and the metrics; and what is refused."""
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCIM

BLOOM = common.get_model("BLOOM-176B")


def pool_of(name):
    return {device: (common.DEVICES[kind], host) for device, kind, host in common.POOLS[name]}


PAPER = pool_of("paper")
TIMES = dict(zip(PAPER, (2, 2, 2, 6, 6, 6)))  # s a layer, over the list


def drawn_bids(seed=0, model=BLOOM, devices=PAPER, kv_bytes=2e7, bids=None):
    return common.read_bids(bids, model, devices, TIMES, kv_bytes, seed)


# Links ----------------------------------------------------------------------------------------------------------------


def test_drawn_links_are_rayleigh_and_the_same_whoever_bids():
    tables = [common.read_links(None, list(PAPER), PAPER, seed) for seed in range(300)]
    for table in tables[:20]:
        assert (table.to_numpy() == table.to_numpy().T).all()
        assert (np.diag(table) == 0).all()
        assert list(table) == [*PAPER, "client"]
    upper = np.concatenate([table.to_numpy()[np.triu_indices(7, 1)] for table in tables])
    assert upper.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.03)
    assert (upper ** 2).mean() == pytest.approx(2 * 3 ** 2, rel=0.05)
    some = common.read_links(None, ["GPU 2", "GPU 5"], PAPER, 7)
    assert some.equals(tables[7].loc[["GPU 2", "GPU 5", "client"], ["GPU 2", "GPU 5", "client"]])


def test_a_link_within_a_host_is_quick_and_the_others_stay():
    hosts = pool_of("workstations")
    table, apart = common.read_links(None, list(hosts), hosts, 3), common.read_links(None, list(PAPER), PAPER, 3)
    for a in table:
        for b in table:
            together = a != b and "client" not in (a, b) and hosts[a][1] == hosts[b][1]
            assert table.loc[a, b] == (0.02 if together else apart.loc[a, b])


def test_own_links_one_way_or_both_or_from_a_file(tmp_path):
    names = ["GPU 1", "GPU 2", "client"]
    one_way = {"GPU 1": {"GPU 2": 3, "client": 0.5}, "client": {"GPU 2": 1}}
    expected = pd.DataFrame([[0, 3, 0.5], [3, 0, 1], [0.5, 1, 0]], names, names, dtype=float)
    both = {one: row.to_dict() for one, row in expected.iterrows()}
    (tmp_path / "links.json").write_text(json.dumps(one_way))
    expected.to_csv(tmp_path / "links.csv")
    (tmp_path / "half.csv").write_text(",GPU 2,client\nGPU 1,3,0.5\nGPU 2,,1\n")
    for links in (one_way, both, *(str(tmp_path / name) for name in ("links.json", "links.csv", "half.csv"))):
        assert common.read_links(links, ["GPU 1", "GPU 2"], PAPER, 0).equals(expected)


@pytest.mark.parametrize("links, message", [
    ({"GPU 1": {"GPU 2": 3}}, "links, GPU 1 to client: missing"),
    ({"GPU 1": {"GPU 2": 3, "client": 1}, "GPU 2": {"GPU 1": 4, "client": 1}},
     "links, GPU 1 to GPU 2: 3 s, but 4 s back"),
    ({"GPU 1": {"GPU 2": -3}}, "links, GPU 1 to GPU 2: -3 is negative"),
    ({"GPU 1": {"GPU 2": "far"}}, "links, GPU 1 to GPU 2: 'far' is not a number"),
    ({"GPU 1": {"GPU 1": 2, "GPU 2": 3, "client": 1}, "GPU 2": {"client": 1}}, "links, GPU 1 to GPU 1: 2 s, not 0"),
    ({"GPU 1": {"GPU 9": 3}}, "links: unknown device 'GPU 9': choose from GPU 1, GPU 2, GPU 3, GPU 4, GPU 5, GPU 6, "),
    ([1, 2], "links: must give seconds for pairs of devices"),
    ({"GPU 1": 3}, "links: must give seconds for pairs of devices"),
    (3, "links: must give seconds for pairs of devices"),
])
def test_wrong_links_are_told(links, message):
    with pytest.raises(common.UserError) as error:
        common.read_links(links, ["GPU 1", "GPU 2"], PAPER, 0)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("text, message", [
    (",GPU 1,GPU 2,client\nGPU 1,0,3,1\nGPU 1,0,3,1\n", "two rows of one device"),
    (",GPU 1,GPU 1,client\nGPU 1,0,3,1\n", "the header names 'GPU 1' twice"),
    ("device,GPU 1\nGPU 1,0\n", "the header must be "),
    (",GPU 1,GPU 2\nGPU 1,0,3\nGPU 2,3,0\n", "GPU 1 to client: missing"),
    (",GPU 1,GPU 2,client\nGPU 1,0,x,1\n", "GPU 1 to GPU 2: 'x' is not a number"),
    (",GPU 1,GPU 2,client\nGPU 1,0,inf,1\n", "GPU 1 to GPU 2: inf is not finite"),
    ("", "the header must be "),
])
def test_a_wrong_file_of_links_is_told(text, message, tmp_path):
    path = tmp_path / "links.csv"
    path.write_text(text)
    with pytest.raises(common.UserError) as error:
        common.read_links(str(path), ["GPU 1", "GPU 2"], PAPER, 0)
    assert str(error.value).startswith(f"{path}")
    assert message in str(error.value)


# Bids -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", common.MODELS)
@pytest.mark.parametrize("seed", range(20))
def test_drawn_bids_follow_the_rules(model, seed):
    model = common.get_model(model)
    bids = drawn_bids(seed, model)
    assert bids["device"].tolist() == list(PAPER)
    capacity = [int(0.9 * device.memory * 1e9 / (model.layer_bytes + 2e7)) for device, _ in PAPER.values()]
    assert bids["capacity"].tolist() == capacity
    most = np.minimum(capacity, model.layers)
    assert (bids["layers"] <= most).all()
    assert bids["layers"].sum() >= model.layers
    drawn = np.minimum((np.array(capacity) * 0.6).astype(int), model.layers)
    assert (bids["layers"] >= drawn).all()
    cents = np.array([device.price_per_hour / 36 for device, _ in PAPER.values()])
    assert bids["computation_time"].to_numpy() == pytest.approx(bids["layers"].to_numpy() * list(TIMES.values()))
    assert bids["true_cost"].to_numpy() == pytest.approx(cents * bids["computation_time"], abs=1e-6)
    margin = bids["price"] / bids["true_cost"]
    assert margin.between(1.0999, 1.6001).all()
    assert margin.nunique() > 1


def test_offers_are_raised_only_as_far_as_needed():
    sums = [drawn_bids(seed)["layers"].sum() for seed in range(50)]
    assert min(sums) == 70  # 6 capacities, 84 in all, x U(0.6, 1): often too few, then exactly enough
    small = {name: PAPER[name] for name in ("GPU 1", "GPU 4")}
    assert drawn_bids(devices=small)["layers"].tolist() == [17, 11]  # all they have, still below 70
    assert drawn_bids(kv_bytes=16e9)["device"].tolist() == ["GPU 1", "GPU 2", "GPU 3"]  # a T4 holds no layer then


BID = {"device": "GPU 1", "layers": 14, "price": 0.8, "computation_time": 40.0}


def test_own_bids_and_their_files(tmp_path):
    bids = [BID, dict(BID, device="GPU 4", layers=3, true_cost=0.7)]
    table = drawn_bids(bids=bids)
    assert table["true_cost"].tolist() == [round(40 * 0.4 / 36, 6), 0.7]
    assert table[["type", "host", "capacity"]].to_numpy().tolist() == [["RTX 4090", "host 1", 17], ["T4", "host 4", 11]]
    (tmp_path / "bids.json").write_text(json.dumps(bids))
    pd.DataFrame(bids).to_csv(tmp_path / "bids.csv", index=False)
    table.to_csv(tmp_path / "written.csv", index=False)
    for name in ("bids.json", "bids.csv", "written.csv"):
        assert drawn_bids(bids=str(tmp_path / name)).equals(table)


@pytest.mark.parametrize("bids, message", [
    ([BID, BID], "bids, row 2, device: GPU 1 bids twice"),
    ([dict(BID, device="GPU 9")], "bids, row 1, device: unknown device 'GPU 9': choose from GPU 1, GPU 2"),
    ([dict(BID, device=["x"])], "bids, row 1, device: unknown device ['x']"),
    ([dict(BID, layers=18)], "bids, row 1, layers: 18 is not from 1 to 17: GPU 1 holds 17 layers, BLOOM-176B has 70"),
    ([dict(BID, layers=0)], "bids, row 1, layers: 0 is not from 1 to 17"),
    ([dict(BID, layers=2.5)], "bids, row 1, layers: 2.5 is not a whole number"),
    ([dict(BID, price=-1)], "bids, row 1, price: -1 is negative"),
    ([dict(BID, computation_time="40 s")], "bids, row 1, computation_time: '40 s' is not a number"),
    ([dict(BID, true_cost=None)], "bids, row 1, true_cost: None is not a number"),
    ([dict(BID, capacity=12)], "bids, row 1, capacity: 12, but GPU 1 has 17"),
    ([dict(BID, type="T4")], "bids, row 1, type: 'T4', but GPU 1 has RTX 4090"),
    ([dict(BID, colour="red")], "bids, row 1: unknown field 'colour'"),
    ([{"device": "GPU 1"}], "bids, row 1, layers: missing"),
    (["GPU 1"], "bids, row 1: 'GPU 1' is not a bid"),
    ({"GPU 1": 3}, "bids: must be a list of bids"),
    (5, "bids: must be a list of bids"),
])
def test_wrong_bids_are_told(bids, message):
    with pytest.raises(common.UserError) as error:
        drawn_bids(bids=bids)
    assert str(error.value).startswith(message)


def test_no_bid_is_no_allocation():
    for bids in ([], ()):
        with pytest.raises(common.NoAllocation, match="no device bids for the 70 layers of BLOOM-176B"):
            drawn_bids(bids=bids)
    with pytest.raises(common.NoAllocation, match="no device bids"):
        drawn_bids(kv_bytes=1e12)


# Pipeline and metrics -------------------------------------------------------------------------------------------------


@st.composite
def allocations(draw):
    """Stages over devices with bids, times, links and tasks, all drawn."""
    seed = draw(st.integers(0, 2 ** 32 - 1))
    random = np.random.default_rng(seed)
    devices, tasks = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    order, groups = random.permutation(devices)[:random.integers(1, devices + 1)].tolist(), []
    for device in order:
        if groups and random.random() < 0.4:
            groups[-1].append(device)
        else:
            groups.append([device])
    layers = random.integers(1, 5, len(groups))
    delay = np.triu(random.uniform(0, 5, (devices + 1, devices + 1)).round(3), 1)
    offers = random.integers(5, 9, devices)
    bids = pd.DataFrame({"device": [f"D{i}" for i in range(devices)], "layers": offers,
                         "price": random.uniform(0, 3, devices), "true_cost": random.uniform(0, 3, devices)})
    stages = [{"devices": group, "layers": int(n)} for group, n in zip(groups, layers)]
    if random.random() < 0.3 and len(order) == len(groups):
        for stage in stages:
            stage["reward"] = random.uniform(0, 2)
    arrival = np.sort(random.integers(0, 20, tasks)) * common.US
    table = pd.DataFrame({"label": [f"T{k}" for k in range(tasks)], "arrival_time": arrival, "trans_time": 0,
                          "computation_time": 0, "deadline": arrival + random.integers(1, 60, tasks) * common.US,
                          "kv_bytes": random.integers(1, 9, tasks) * 1000})
    return stages, table, bids, delay + delay.T, random.uniform(0, 2, (tasks, devices)).round(4)


@settings(max_examples=500)
@given(allocations())
def test_the_accounting_equals_a_plain_one(case):
    stages, tasks, bids, delay, times = case
    layers = sum(stage["layers"] for stage in stages)
    model = common.Model("M", layers, 10 ** 9, 4, 99)
    table, result, intervals, metrics = common.evaluate(stages, tasks, bids, delay, times, model, [24] * len(bids))
    client, now = len(bids), {}
    crossed = computed = 0
    for k in range(len(tasks)):
        time, place = tasks["arrival_time"][k] / common.US, [client]
        for s, stage in enumerate(stages):
            group = stage["devices"]
            link = min(delay[a][b] for a in place for b in group)
            slowest = max(delay[a][b] for a in group for b in group)
            work = stage["layers"] * max(times[k][i] for i in group) / len(group)
            reduces = stage["layers"] * 4 * (len(group) - 1) / len(group) * slowest
            time = max(time + link, now.get(s, 0)) + work + reduces
            now[s], place = time, group
            crossed, computed = crossed + link + reduces, computed + work
        back = min(delay[a][client] for a in place)
        crossed += back
        assert result["end_computation"][k] / common.US == pytest.approx(time, abs=1e-4)
        assert result["completion_time"][k] / common.US == pytest.approx(time + back, abs=1e-4)
    assert metrics["completion_time"] == pytest.approx(time + back, abs=1e-4)
    assert metrics["communication_time"] == pytest.approx(crossed, abs=1e-4)
    assert metrics["computation_time"] == pytest.approx(computed, abs=1e-4)
    assert metrics["deadlines_met"] == (result["completion_time"] <= tasks["deadline"]).sum()
    paid = {}
    for s, stage in enumerate(stages):
        for i in stage["devices"]:
            share = stage["layers"] / len(stage["devices"]) / bids["layers"][i]
            paid[i] = stage.get("reward", bids["price"][i] * share), bids["true_cost"][i] * share
        assert table["reward"][s] == pytest.approx(sum(paid[i][0] for i in stage["devices"]), abs=1e-5)
        assert table["utility"][s] == pytest.approx(sum(paid[i][0] - paid[i][1] for i in stage["devices"]), abs=1e-5)
    rewards = [reward for reward, _ in paid.values()]
    assert metrics["total_cost"] == pytest.approx(sum(rewards), abs=1e-5)
    squares = len(paid) * sum(reward ** 2 for reward in rewards)
    assert metrics["fairness_rewards"] == pytest.approx(sum(rewards) ** 2 / squares, abs=1e-5)
    held = layers * (2e9 + tasks["kv_bytes"].max() / layers) / 1e9
    assert metrics["memory_utilization"] == pytest.approx(held / 24 / len(paid), abs=1e-5)
    assert metrics["devices"] == len(paid)

    last = dict.fromkeys(range(len(stages)), 0)
    for k in range(len(tasks)):  # each task goes through all stages, in order, and no stage does two things at once
        steps = intervals[intervals["label"] == f"T{k}"]
        assert steps["kind"].tolist() == [*["transmit", "compute"] * len(stages), "transmit"]
        assert steps["start"].iloc[0] == tasks["arrival_time"][k]
        assert (steps["start"].to_numpy()[1:] >= steps["end"].to_numpy()[:-1]).all()
        for s, (start, end) in enumerate(steps[steps["kind"] == "compute"][["start", "end"]].to_numpy()):
            assert start == max(last[s], steps["end"].iloc[2 * s])
            last[s] = end


@pytest.mark.parametrize("stages", [
    [{"devices": [0], "layers": 2}],  # a layer is missing
    [{"devices": [0], "layers": 2}, {"devices": [0], "layers": 1}],
    [{"devices": [0], "layers": 3}],  # above the offer
    [{"devices": [0], "layers": 3}, {"devices": [1], "layers": 0}],
])
def test_what_is_no_allocation_is_told(stages):
    tasks = common.read_tasks(FCIM.tasks, BLOOM, common.DEVICES["T4"])
    bids = pd.DataFrame({"device": ["A", "B"], "layers": [2, 2], "price": [1, 1], "true_cost": [1, 1]})
    with pytest.raises(common.UserError, match="does not place every layer once"):
        common.evaluate(stages, tasks, bids, np.zeros((3, 3)), np.ones((5, 2)), common.Model("M", 3, 9, 9, 9), [9, 9])


def test_jain():
    assert common.jain([3, 3, 3]) == pytest.approx(1)
    assert common.jain([1, 0, 0, 0]) == pytest.approx(1 / 4)
    assert common.jain([0, 0]) == 1
    assert common.jain([1, 2]) == pytest.approx(9 / 10)


def test_the_times_are_those_that_the_bids_promise():
    estimates = np.array([[1.0, 3.0, 0], [2.0, 5.0, 0]])
    bids = pd.DataFrame({"layers": [2, 4, 1], "computation_time": [12.0, 4.0, 6.0]})
    times = common.bid_times(estimates, bids)
    assert times.sum(axis=0) == pytest.approx([6, 1, 6])
    assert times[0] / times[1] == pytest.approx([1 / 2, 3 / 5, 1])


def test_a_given_time_holds_on_every_device():
    task = dict(FCIM.tasks[0], computation_time=140)
    devices = [common.DEVICES["T4"], common.DEVICES["RTX 4090"]]
    tasks = common.read_tasks([task, FCIM.tasks[1]], BLOOM, *devices)
    times = common.layer_times(tasks, BLOOM, devices)
    assert times[0] == pytest.approx([2, 2])
    assert times[1][0] > times[1][1]
