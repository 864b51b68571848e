"""common.py: estimates, task lists, links, bids, the pipeline and the metrics. What is refused: test_refusals.py."""
import json
import math

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import files, part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCFS
import FCIM

T4, NEO, BLOOM = common.get_device("T4"), common.get_model("GPT-Neo 1.3B"), common.get_model("BLOOM-176B")
TASK = {"label": "A", "prompt": "two words", "arrival_time": 1, "output_words": 10, "trans_time": 2, "deadline": 30}


# Estimates ------------------------------------------------------------------------------------------------------------


def test_the_estimate_follows_the_roofline():
    params, rate, bandwidth = 12 * 2048 ** 2, 0.42 * 65e12, 0.73 * 320e9
    read = params * 2 / bandwidth
    for prompt, output in ((1, 0), (10, 7), (5000, 1)):
        expected = max(2 * params * prompt / rate, read) + output * max(read, 2 * params / rate)
        assert common.layer_time(NEO, T4, prompt, output) == pytest.approx(expected)


def test_words_become_tokens_and_tokens_time():
    task = common.read_tasks([dict(TASK, prompt="a b c", output_words=300)], NEO, [T4]).iloc[0]
    assert (task["prompt_tokens"], task["output_tokens"]) == (4, 399)
    assert task["kv_bytes"] == 403 * 24 * 2 * 2048 * 2
    assert task["computation_time"] == round(24 * float(common.layer_time(NEO, T4, 4, 399)) * 1e6)


def test_times_become_whole_microseconds():
    task = common.read_tasks([dict(TASK, arrival_time=0.1, trans_time=1e-6, deadline=29.9999996,
                                   computation_time=0.1 + 0.2)], NEO, [T4]).iloc[0]
    assert [task[key] for key in ("arrival_time", "trans_time", "deadline", "computation_time")] == [
        100000, 1, 30000000, 300000]


@pytest.mark.parametrize("prompt, output, kept, made", [
    (100, 1948, 100, 1948), (100, 5000, 100, 1948), (4808, 10, 2038, 10), (1500, 1000, 1048, 1000),
    (5000, 5000, 1024, 1024), (2048, 0, 2048, 0)])
def test_the_context_is_never_exceeded(prompt, output, kept, made, capsys):
    task = common.read_tasks([dict(TASK, prompt_tokens=prompt, output_tokens=output)], NEO, [T4]).iloc[0]
    assert [task["prompt_tokens"], task["output_tokens"]] == [kept, made]
    warning = capsys.readouterr().err
    assert bool(warning) == ((kept, made) != (prompt, output))
    if warning:
        assert warning.count("\n") == 1
        assert "1 of 1 tasks exceed the 2048 tokens of GPT-Neo 1.3B and run capped (first 'A')" in warning


def test_what_a_task_gives_takes_the_place_of_the_estimates(tmp_path):
    given = dict(TASK, prompt_tokens=7, output_tokens=0, memory_gb=1.5, computation_time=2)
    tasks = [TASK, dict(TASK, label="B", prompt_tokens=7), dict(TASK, label="C", memory_gb=0.25),
             dict(given, label="D")]
    table = common.read_tasks(tasks, NEO, [T4])
    assert table["prompt_tokens"].tolist() == [3, 7, 3, 7]
    assert table["output_tokens"].tolist() == [14, 14, 14, 0]
    token = 24 * 2 * 2048 * 2
    assert table["kv_bytes"].tolist() == [17 * token, 21 * token, 0.25e9, 1.5e9]
    estimates = [round(24 * float(common.layer_time(NEO, T4, prompt, 14)) * 1e6) for prompt in (3, 7, 3)]
    assert table["computation_time"].tolist() == [*estimates, 2000000]
    assert table["given_time"].isna().tolist() == [True, True, True, False]
    assert table["given_time"].iloc[3] == 2
    files = [write(tmp_path, json.dumps(tasks), "tasks.json"), write(tmp_path, pd.DataFrame(tasks).to_csv(index=False))]
    for path in files:
        pd.testing.assert_frame_equal(common.read_tasks(path, NEO, [T4]), table, check_dtype=False)


def test_words_without_spaces_cannot_be_counted(capsys):
    """A prompt in Chinese is one word; its tokens must be given, and that is said."""
    prompt = "\u8bf7" * 1020
    common.read_tasks([dict(TASK, prompt=prompt)], NEO, [T4])
    assert "1 of 1 tasks have a long prompt with hardly any spaces" in capsys.readouterr().err
    for quiet in (dict(TASK, prompt=prompt, prompt_tokens=900), dict(TASK, prompt="word " * 400),
                  dict(TASK, prompt="a-rather-long-single-word")):
        common.read_tasks([quiet], NEO, [T4])
        assert capsys.readouterr().err == ""


# Files ----------------------------------------------------------------------------------------------------------------


def write(folder, text, name="tasks.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_csv_and_json_and_the_list_are_the_same(tmp_path):
    tasks = [*FCFS.tasks, dict(TASK, prompt='with, a comma, a "quote" and\na line', computation_time=1.25)]
    files = [write(tmp_path, json.dumps(tasks), "tasks.json")]
    files.append(write(tmp_path, "\ufeff" + pd.DataFrame(tasks).to_csv(index=False)))
    table = common.read_tasks(tasks, NEO, [T4])
    assert table["computation_time"].iloc[-1] == 1250000
    columns = ["label", "prompt", "arrival_time", "computation_time", "trans_time", "deadline", "kv_bytes"]
    for path in files:
        assert common.read_tasks(path, NEO, [T4])[columns].equals(table[columns])


def test_a_file_of_a_windows_shell_is_read(tmp_path):
    """UTF-16 with a byte order mark, as PowerShell's > writes; and UTF-8 with one, as Excel does."""
    text = pd.DataFrame([dict(TASK, label="T\u00e4sk")]).to_csv(index=False)
    for encoding in ("utf-16", "utf-8-sig", "utf-8"):
        path = write(tmp_path, text.encode(encoding))
        assert common.read_tasks(path, NEO, [T4])["label"].tolist() == ["T\u00e4sk"]


def test_the_list_of_another_script_is_read():
    table = common.read_tasks(FCIM.__file__, NEO, [T4])
    assert table["label"].tolist() == [task["label"] for task in FCIM.tasks]


def test_numbers_of_a_file_are_read_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(1)
    numbers = [*rng.uniform(0, 1e9, 300), *rng.uniform(0, 1, 300), 0.1, 1e-7, 123456.789012, 1 / 3]
    tasks = [dict(TASK, label=str(k), arrival_time=0, deadline=1e9, memory_gb=float(x))
             for k, x in enumerate(numbers)]
    path = write(tmp_path, pd.DataFrame(tasks).to_csv(index=False))
    assert common.read_tasks(path, NEO, [T4])["memory_gb"].tolist() == numbers


def test_a_long_list_is_limited_by_what_int64_holds():
    """Its times add up, and nothing else does: a million arrivals over months are no sum."""
    tasks = [dict(TASK, label=str(k), arrival_time=9e8, deadline=1e9, computation_time=1) for k in range(5000)]
    table = common.read_tasks(tasks, NEO, [T4])
    end = FCFS.schedule(table)["end"].iloc[-1]
    assert end == 9e8 * common.US + 5000 * common.US
    with pytest.raises(common.UserError, match=r"add up to more than 4e\+12 s"):
        common.read_tasks([dict(task, computation_time=1e9) for task in tasks], NEO, [T4])


# Intervals ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=9))
def test_runs_that_follow_on_each_other_become_one_interval(steps):
    """steps: of each run the task, the idle time before it and its length."""
    runs, now = [], 0
    for task, idle, length in steps:
        runs.append((task, now + idle, now + idle + length))
        now += idle + length
    table = common.interval_table(pd.DataFrame({"label": ["A", "B", "C"]}), runs)
    found = list(zip(table["label"], table["start"], table["end"]))
    assert found == [("ABC"[task], start, end) for task, start, end in naive.merged(runs)]


# Links ----------------------------------------------------------------------------------------------------------------


def pool_of(name, kv_bytes=2e7):
    """The table of devices that allocation_case makes, for BLOOM-176B. kv_bytes: of a layer."""
    table = pd.DataFrame(common.POOLS[name], columns=["device", "type", "host"]).set_index("device")
    types = [common.get_device(kind) for kind in table["type"]]
    table["capacity"] = [int(0.9 * kind.memory * 1e9 / (BLOOM.layer_bytes + kv_bytes)) for kind in types]
    table["price_per_hour"] = [kind.price_per_hour for kind in types]
    table["layer_time"] = [2.0 if kind == "RTX 4090" else 6.0 for kind in table["type"]]  # s, over the list
    return table


PAPER = pool_of("paper")
NAMES = list(PAPER.index)


def test_drawn_links_are_rayleigh_and_the_same_whoever_bids():
    tables = [common.read_links(None, NAMES, PAPER, seed) for seed in range(300)]
    for table in tables[:20]:
        assert (table.to_numpy() == table.to_numpy().T).all()
        assert (np.diag(table) == 0).all()
        assert list(table) == [*NAMES, "client"]
    upper = np.concatenate([table.to_numpy()[np.triu_indices(7, 1)] for table in tables])
    assert upper.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.03)
    assert (upper ** 2).mean() == pytest.approx(2 * 3 ** 2, rel=0.05)
    some = common.read_links(None, ["GPU 2", "GPU 5"], PAPER, 7)
    assert some.equals(tables[7].loc[["GPU 2", "GPU 5", "client"], ["GPU 2", "GPU 5", "client"]])


def test_a_link_within_a_host_is_quick_and_the_others_stay():
    hosts = pool_of("workstations")
    table, apart = common.read_links(None, list(hosts.index), hosts, 3), common.read_links(None, NAMES, PAPER, 3)
    for a in table:
        for b in table:
            together = a != b and "client" not in (a, b) and hosts["host"][a] == hosts["host"][b]
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


# Bids -----------------------------------------------------------------------------------------------------------------


def drawn_bids(seed=0, model=BLOOM, devices=PAPER, bids=None):
    drawn = common.draw_bids(model.layers, devices, seed) if bids is None else bids
    return common.read_bids(drawn, model, devices)


@pytest.mark.parametrize("layers", [24, 70, 96])
@pytest.mark.parametrize("seed", range(20))
def test_drawn_bids_follow_the_rules(layers, seed):
    model = common.Model("M", layers, hidden=1, feed_forward=1, heads=1, context=1)
    bids = drawn_bids(seed, model)
    assert bids["device"].tolist() == NAMES
    assert bids["capacity"].tolist() == PAPER["capacity"].tolist()
    most = np.minimum(PAPER["capacity"].to_numpy(), layers)
    assert (bids["layers"] <= most).all()
    assert bids["layers"].sum() >= min(layers, most.sum())
    drawn = np.minimum((PAPER["capacity"].to_numpy() * 0.6).astype(int), layers)
    assert (bids["layers"] >= drawn).all()
    cents = PAPER["price_per_hour"].to_numpy() / 36
    promised = bids["layers"].to_numpy() * PAPER["layer_time"].to_numpy()
    assert bids["computation_time"].to_numpy() == pytest.approx(promised)
    assert bids["true_cost"].to_numpy() == pytest.approx(cents * bids["computation_time"], abs=1e-6)
    margin = bids["price"] / bids["true_cost"]
    assert margin.between(1.0999, 1.6001).all()
    assert margin.nunique() > 1


def test_offers_are_raised_only_as_far_as_needed():
    sums = [drawn_bids(seed)["layers"].sum() for seed in range(50)]
    assert min(sums) == 70  # 6 capacities, 84 in all, x U(0.6, 1): often too few, then exactly enough
    assert drawn_bids(devices=PAPER.loc[["GPU 1", "GPU 4"]])["layers"].tolist() == [17, 11]  # all they have, below 70
    assert drawn_bids(devices=pool_of("paper", 16e9))["device"].tolist() == ["GPU 1", "GPU 2", "GPU 3"]  # no layer fits


def test_devices_of_a_type_promise_alike_to_the_last_digit():
    """Their promised time a layer, which FCIM scores, must not differ by rounding."""
    for seed in range(20):
        for layer_time in (1.0 / 3, 2.34567891, 0.000123456789):
            bids = drawn_bids(seed, devices=PAPER.assign(layer_time=layer_time))
            each = bids["computation_time"] / bids["layers"]
            assert {f"{time:.9g}" for time in each} == {f"{float(f'{layer_time:.6g}'):.9g}"}


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
                          "measured_weights_gb": math.nan, "kv_bytes": random.integers(1, 9, tasks) * 1000})
    return stages, table, bids, delay + delay.T, random.uniform(0, 2, (tasks, devices)).round(4)


def queues(intervals, stages):
    """Of each task: when each stage starts with it, and when it was ready there."""
    for _, steps in intervals.groupby("label", sort=False):
        starts = steps["start"][steps["kind"] == "compute"].tolist()
        yield starts, steps["end"][steps["kind"] == "transmit"].tolist()[:stages]


@settings(max_examples=part_of(500))
@given(allocations())
def test_the_accounting_equals_a_plain_one(case):
    stages, tasks, bids, delay, times = case
    layers = sum(stage["layers"] for stage in stages)
    model = common.Model("M", layers, hidden=8000, feed_forward=46500, heads=8, context=99)  # 1e9 weights a layer
    table, result, intervals, metrics = common.evaluate(stages, tasks, model, bids, delay, times, [24] * len(bids))
    client, now, steps = len(bids), {}, list(intervals.itertuples(index=False))
    arrivals, ends, done = (column.tolist() for column in (
        tasks["arrival_time"], result["end_computation"], result["completion_time"]))
    crossed = computed = 0
    for k in range(len(tasks)):
        time, place = arrivals[k] / common.US, [client]
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
        assert ends[k] / common.US == pytest.approx(time, abs=1e-4)
        assert done[k] / common.US == pytest.approx(time + back, abs=1e-4)
    assert metrics["completion_time"] == pytest.approx(time + back, abs=1e-4)
    placed = [layer for first, last in zip(table["first_layer"], table["last_layer"])
              for layer in range(first, last + 1)]
    assert placed == list(range(layers))
    assert table["stage"].tolist() == list(range(1, len(stages) + 1))
    assert table["layers"].tolist() == [stage["layers"] for stage in stages]
    assert metrics["communication_time"] == pytest.approx(crossed, abs=1e-4)
    assert metrics["computation_time"] == pytest.approx(computed, abs=1e-4)
    overhead = crossed / (crossed + computed) if crossed + computed else 0
    assert metrics["communication_overhead"] == pytest.approx(overhead, abs=1e-4)
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
    assert metrics["cost_efficiency"] == pytest.approx(layers / sum(rewards), rel=1e-4, abs=1e-5)
    shares = [stage["layers"] / len(stage["devices"]) for stage in stages for _ in stage["devices"]]
    for key, values in (("fairness_rewards", rewards), ("fairness_layers", shares)):
        for end, number in (("", len(values)), ("_all", len(bids))):
            squares = number * sum(value ** 2 for value in values)
            assert metrics[key + end] == pytest.approx(sum(values) ** 2 / squares, abs=1e-5)
    turnaround = ((result["completion_time"] - result["arrival_time"]) / common.US).tolist()
    assert metrics["mean_turnaround_time"] == pytest.approx(sum(turnaround) / len(turnaround), abs=1e-5)
    assert metrics["p95_turnaround_time"] == pytest.approx(np.percentile(turnaround, 95), abs=1e-5)
    queued = [sum(a - b for a, b in zip(starts, readies)) for starts, readies in queues(intervals, len(stages))]
    assert metrics["mean_waiting_time"] == pytest.approx(sum(queued) / len(queued) / common.US, abs=1e-5)
    held = layers * (2e9 + tasks["kv_bytes"].max() / layers) / 1e9
    assert metrics["memory_utilization"] == pytest.approx(held / 24 / len(paid), abs=1e-5)
    assert metrics["devices"] == len(paid)

    last = dict.fromkeys(range(len(stages)), 0)
    for k in range(len(tasks)):  # each task goes through all stages, in order, and no stage does two things at once
        kinds, starts, ends = zip(*((step.kind, step.start, step.end) for step in steps if step.label == f"T{k}"))
        places = [(step.stage, step.devices) for step in steps if step.label == f"T{k}"]
        names = ["+".join(bids["device"][stage["devices"]]) for stage in stages]
        assert places == [*((s + 1, name) for s, name in enumerate(names) for _ in "to"), (len(stages) + 1, "client")]
        assert list(kinds) == [*["transmit", "compute"] * len(stages), "transmit"]
        assert starts[0] == arrivals[k]
        assert all(start >= end for start, end in zip(starts[1:], ends))
        for s, (start, end) in enumerate(zip(starts[1::2], ends[1::2])):
            assert start == max(last[s], ends[2 * s])
            last[s] = end


GOOD = [{"devices": [0], "layers": 2}, {"devices": [1], "layers": 1}]


def evaluated(stages):
    """Of three layers on two devices that offer two each."""
    tasks = common.read_tasks(FCIM.tasks, BLOOM, [T4])
    bids = pd.DataFrame({"device": ["A", "B"], "layers": [2, 2], "price": [1, 1], "true_cost": [1, 1]})
    model = common.Model("M", 3, hidden=9, feed_forward=9, heads=3, context=9)
    return common.evaluate(stages, tasks, model, bids, np.ones((3, 3)) - np.eye(3), np.ones((5, 2)), [9, 9])


def test_what_is_an_allocation_is_none_of_these():
    assert evaluated(GOOD)[3]["devices"] == 2
    assert evaluated([{"devices": [1, 0], "layers": 3}])[3]["devices"] == 2


def test_equal_or_no_rewards_are_fair():
    free = [dict(stage, reward=0) for stage in GOOD]
    assert (evaluated(free)[3]["fairness_rewards"], evaluated(free)[3]["total_cost"]) == (1, 0)
    assert evaluated([dict(stage, reward=3) for stage in GOOD])[3]["fairness_rewards"] == 1
    assert evaluated([dict(GOOD[0], reward=1), dict(GOOD[1], reward=0)])[3]["fairness_rewards"] == 1 / 2
    assert evaluated([dict(GOOD[0], reward=1), dict(GOOD[1], reward=2)])[3]["fairness_rewards"] == 9 / 10
    assert evaluated(GOOD)[3]["fairness_layers"] == 9 / 10


def own_bids(*devices):
    return [dict(BID, device=device, layers=layers, computation_time=time) for device, layers, time in devices]


def test_the_times_are_those_that_the_bids_promise():
    bids = own_bids(("GPU 4", 2, 12.0), ("GPU 1", 4, 4.0))
    case = common.allocation_case(FCIM.tasks, BLOOM, "paper", 0, bids)
    assert case["times"].sum(axis=0) == pytest.approx([6, 1])
    tasks = case["tasks"]
    estimates = [common.layer_time(BLOOM, common.get_device(kind), tasks["prompt_tokens"], tasks["output_tokens"])
                 for kind in ("T4", "RTX 4090")]
    for times, estimate in zip(case["times"].T, estimates):
        assert times / times[0] == pytest.approx(estimate / estimate.iloc[0])
    idle = [dict(task, computation_time=0) for task in FCIM.tasks]  # what is promised for no work is shared out evenly
    assert common.allocation_case(idle, BLOOM, "paper", 0, bids)["times"] == pytest.approx(np.array([[6, 1]] * 5) / 5)


def test_what_an_allocation_is_given():
    """Tasks in order of arrival, capacities by the largest cache, and times, links and memory of the bidders."""
    tasks = [dict(FCIM.tasks[0], arrival_time=9), dict(FCIM.tasks[1], memory_gb=7), dict(FCIM.tasks[2], arrival_time=3)]
    case = common.allocation_case(tasks, BLOOM, "workstations", 4)
    assert case["tasks"]["label"].tolist() == ["Task 2", "Task 3", "Task 1"]
    assert case["arrivals"].tolist() == [3, 3, 9]
    capacity = {kind: int(0.9 * common.get_device(kind).memory * 1e9 / (BLOOM.layer_bytes + 7e9 / 70))
                for kind in ("RTX 4090", "T4")}
    assert case["bids"]["capacity"].tolist() == [capacity[kind] for _, kind, _ in common.POOLS["workstations"]]
    assert case["memory"] == [24, 24, 24, 16, 16, 16]
    assert (case["layers"], case["model"], case["seed"]) == (70, BLOOM, 4)
    assert (case["delay"] == case["links"].to_numpy()).all()
    assert case["times"].shape == (3, 6)
    some = common.allocation_case(tasks, BLOOM, "workstations", 4, own_bids(("GPU 6", 3, 40), ("GPU 2", 3, 40)))
    assert some["links"].equals(case["links"].loc[["GPU 6", "GPU 2", "client"], ["GPU 6", "GPU 2", "client"]])
    assert some["memory"] == [16, 24]


@pytest.mark.parametrize("factor, warned", [(0.4, True), (0.6, False), (1, False), (1.9, False), (2.1, True)])
def test_own_bids_for_another_list_are_warned_of(factor, warned, capsys):
    drawn = common.allocation_case(FCIM.tasks, BLOOM, "paper", 0)["bids"]
    bids = drawn.assign(computation_time=drawn["computation_time"] * factor)[list(BID)].to_dict("records")
    common.allocation_case(FCIM.tasks, BLOOM, "paper", 0, bids)
    warning = capsys.readouterr().err
    assert warning.count("\n") == warned
    assert warned == ("warning: the bids promise" in warning)


def test_a_given_time_holds_on_every_device():
    task = dict(FCIM.tasks[0], computation_time=140)
    devices = [T4, common.get_device("RTX 4090")]
    tasks = common.read_tasks([task, FCIM.tasks[1]], BLOOM, devices)
    times = common.layer_times(tasks, BLOOM, devices)
    assert times[0] == pytest.approx([2, 2])
    assert times[1][0] > times[1][1]


# Output ---------------------------------------------------------------------------------------------------------------


def test_files_of_an_earlier_run_are_replaced_and_others_stay(tmp_path):
    write(tmp_path, "old", "FCFS_tasks.csv")
    write(tmp_path, "mine", "notes.txt")
    contents = {"FCFS_tasks.csv": pd.DataFrame({"a": [1]}), "x.tex": "new", "y.png": None}
    paths = common.write_files(str(tmp_path), contents)
    assert paths == [str(tmp_path / "FCFS_tasks.csv"), str(tmp_path / "x.tex")]
    assert files(tmp_path) == ["FCFS_tasks.csv", "notes.txt", "x.tex"]
    assert (tmp_path / "FCFS_tasks.csv").read_text() == "a\n1\n"


# Published profiles of one layer, ms in fp16: of a token of the output, and of prompts of so many tokens. Helix (ASPLOS
# 2025); for the RTX 4090 LLMServingSim 2.
LLAMA_30B = common.Model("LLaMA-30B", layers=60, hidden=6656, feed_forward=17920, heads=52, context=2048, gated=True)
LLAMA_70B = common.Model("Llama-2-70B", layers=80, hidden=8192, feed_forward=28672, heads=64, context=4096, kv_heads=8,
                         gated=True)
LLAMA_8B = common.Model("Llama-3.1-8B", layers=32, hidden=4096, feed_forward=14336, heads=32, context=8192, kv_heads=8,
                        gated=True)


@pytest.mark.parametrize("model, device, decode, prompts", [
    (LLAMA_30B, "T4", 4.7, {500: 20, 1000: 41, 2000: 78}), (LLAMA_30B, "L4", 4.5, {500: 13, 1000: 24, 2000: 45}),
    (LLAMA_30B, "V100", 1.8, {500: 6, 1000: 12, 2000: 24}), (LLAMA_30B, "A100", 0.9, {500: 2, 1000: 5, 2000: 9}),
    (LLAMA_70B, "T4", 7.1, {500: 30, 1000: 59, 2000: 128}), (LLAMA_70B, "L4", 6.9, {500: 20, 1000: 38, 2000: 72}),
    (LLAMA_70B, "V100", 2.3, {500: 10, 1000: 19, 2000: 37}), (LLAMA_70B, "A100", 1.4, {500: 4, 1000: 8, 2000: 14}),
    (LLAMA_8B, "RTX 4090", 0.487, {512: 1.43, 1024: 2.82, 2048: 5.63}),
], ids=lambda value: getattr(value, "name", str(value)))
def test_the_estimates_meet_the_published_profiles(model, device, decode, prompts):
    def milliseconds(prompt, output):
        return 1000 * common.layer_time(model, common.get_device(device), prompt, output)

    assert milliseconds(1, 1) - milliseconds(1, 0) == pytest.approx(decode, rel=0.25)
    for tokens, measured in prompts.items():
        assert milliseconds(tokens, 0) == pytest.approx(measured, rel=0.25)
