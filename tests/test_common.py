"""common.py: estimates, task lists, links, bids, the pipeline, the metrics, files and tables. What is refused:
test_refusals.py."""
import dataclasses
import itertools
import json
import math
import os
import threading
from fractions import Fraction

import naive
import numpy as np
import pandas as pd
import pytest
from conftest import part_of, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import FCFS
import FCIM

T4, NEO, BLOOM = common.get_device("T4"), common.get_model("GPT-Neo 1.3B"), common.get_model("BLOOM-176B")
TASK = {"label": "A", "prompt": "two words", "arrival_time": 1, "output_words": 10, "trans_time": 2, "deadline": 30}


def read(*tasks):
    return common.read_tasks(list(tasks), NEO, [T4])


def write(folder, text, name="tasks.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


# Estimates ------------------------------------------------------------------------------------------------------------


def test_the_estimate_follows_the_roofline():
    params, rate, bandwidth = 12 * 2048 ** 2, 0.42 * 65e12, 0.73 * 320e9
    seconds = params * 2 / bandwidth
    for prompt, output in ((1, 0), (10, 7), (5000, 1)):
        expected = max(2 * params * prompt / rate, seconds) + output * max(seconds, 2 * params / rate)
        assert common.layer_time(NEO, T4, prompt, output) == pytest.approx(expected)


# Published profiles of one layer, ms in fp16: of a token of the output, and of prompts of so many tokens. Helix (ASPLOS
# 2025); for the RTX 4090 LLMServingSim 2.
LLAMA_30B = common.Model("LLaMA-30B", layers=60, hidden=6656, feed_forward=17920, heads=52, context=2048, gated=True)
LLAMA_70B = common.Model("Llama-2-70B", layers=80, hidden=8192, feed_forward=28672, heads=64, context=4096, kv_heads=8,
                         gated=True)
LLAMA_8B = common.get_model("Llama 3.1 8B")


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


def test_words_become_tokens_and_times_whole_microseconds():
    task = read(dict(TASK, prompt="a b c", output_words=300, arrival_time=0.1, trans_time=1e-6, deadline=29.9999996))
    assert [task[key][0] for key in ("prompt_tokens", "output_tokens", "kv_bytes")] == [4, 399, 403 * 24 * 2 * 2048 * 2]
    assert task["computation_time"][0] == round(24 * float(common.layer_time(NEO, T4, 4, 399)) * 1e6)
    assert task[["arrival_time", "trans_time", "deadline"]].to_numpy().tolist() == [[100000, 1, 30000000]]
    assert read(dict(TASK, computation_time=0.1 + 0.2))["computation_time"][0] == 300000


@pytest.mark.parametrize("prompt, output, kept, made", [
    (100, 1948, 100, 1948), (100, 5000, 100, 1948), (4808, 10, 2038, 10), (1500, 1000, 1048, 1000),
    (5000, 5000, 1024, 1024), (2048, 0, 2048, 0)])
def test_the_context_is_never_exceeded(prompt, output, kept, made, capsys):
    task = read(dict(TASK, prompt_tokens=prompt, output_tokens=output)).iloc[0]
    assert [task["prompt_tokens"], task["output_tokens"]] == [kept, made]
    warning = capsys.readouterr().err
    assert warning.count("\n") == ((kept, made) != (prompt, output)) == ("1 of 1 tasks exceed the 2048" in warning)


# Lists and files ------------------------------------------------------------------------------------------------------


def test_what_a_task_gives_takes_the_place_of_the_estimates_in_lists_and_files(tmp_path):
    tasks = [TASK, dict(TASK, label="B", prompt_tokens=7), dict(TASK, label="C", memory_gb=0.25),
             dict(TASK, label="D", prompt='with, a comma, a "quote" and\na line', prompt_tokens=7, output_tokens=0,
                  memory_gb=1.5, computation_time=2), dict(TASK, label=5, prompt="")]
    table = read(*tasks)
    assert table["label"].tolist() == ["A", "B", "C", "D", "5"]
    assert table["prompt_tokens"].tolist() == [3, 7, 3, 7, 0]
    assert table["output_tokens"].tolist() == [14, 14, 14, 0, 14]
    token = 24 * 2 * 2048 * 2
    assert table["kv_bytes"].tolist() == [17 * token, 21 * token, 0.25e9, 1.5e9, 14 * token]
    estimates = [round(24 * float(common.layer_time(NEO, T4, prompt, 14)) * 1e6) for prompt in (3, 7, 3, 0)]
    assert table["computation_time"].tolist() == [*estimates[:3], 2000000, estimates[3]]
    assert table["given_time"].tolist() == pytest.approx([math.nan] * 3 + [2, math.nan], nan_ok=True)
    text = pd.DataFrame(tasks).to_csv(index=False)
    for path in (write(tmp_path, json.dumps(tasks), "tasks.json"), write(tmp_path, "\ufeff" + text, "excel.csv"),
                 write(tmp_path, "\n".join(map(json.dumps, tasks)), "tasks.jsonl"),
                 write(tmp_path, f"tasks = {tasks}", "my.py")):
        pd.testing.assert_frame_equal(common.read_tasks(path, NEO, [T4]), table, check_dtype=False)


def test_numbers_of_a_file_are_read_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(1)
    numbers = [*rng.uniform(0, 1e9, 300), *rng.uniform(0, 1, 300), 0.1, 1e-7, 123456.789012, 1 / 3]
    tasks = [dict(TASK, label=str(k), memory_gb=float(x)) for k, x in enumerate(numbers)]
    path = write(tmp_path, pd.DataFrame(tasks).to_csv(index=False))
    assert common.read_tasks(path, NEO, [T4])["memory_gb"].tolist() == numbers


def test_further_fields_are_passed_on_and_named_once(tmp_path, capsys):
    """Those of real.measure are not named. Of a CSV file they have pandas' own types, and gaps are NaN."""
    tasks = [dict(TASK, weight=3, team="a", measured_torch="2.1"), dict(TASK, label="B", prompt="")]
    for source in (tasks, write(tmp_path, pd.DataFrame(tasks).to_csv(index=False))):
        table = common.read_tasks(source, NEO, [T4])
        assert table["weight"].tolist() == pytest.approx([3, math.nan], nan_ok=True)
        assert (table["team"][0], table["team"].isna()[1]) == ("a", True)
        assert "measured_torch" in table
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and err.endswith("further fields: weight, team\n")
        seen = []
        common.next_run(lambda queue, seen=seen: seen.append(queue) or FCFS.schedule(queue), table, 0)
        assert seen[0]["weight"][0] == 3


# Links and bids -------------------------------------------------------------------------------------------------------


def pool_of(name, kv_bytes=2e7):
    """The table of devices that allocation_case makes, for BLOOM-176B. kv_bytes: of a layer."""
    table = pd.DataFrame([line[:3] for line in common.POOLS[name]], columns=["device", "type", "host"])
    table = table.set_index("device")
    types = [common.get_device(kind) for kind in table["type"]]
    table["capacity"] = [int(0.9 * kind.memory * 1e9 / (BLOOM.layer_bytes + kv_bytes)) for kind in types]
    table["cost_per_hour"] = [kind.watts * 0.3 / 1000 for kind in types]
    return table.assign(layer_time=6.0)  # s, over the list


PAPER = pool_of("paper")
NAMES = list(PAPER.index)


def test_drawn_links_are_rayleigh_and_the_same_whoever_bids():
    tables = [common.read_links(None, NAMES, PAPER, seed) for seed in range(100)]
    for table in tables[:20]:
        assert (table.to_numpy() == table.to_numpy().T).all()
        assert (np.diag(table) == 0).all()
        assert list(table) == [*NAMES, "client"]
    upper = np.concatenate([table.to_numpy()[np.triu_indices(7, 1)] for table in tables])
    assert upper.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.03)
    assert (upper ** 2).mean() == pytest.approx(2 * 3 ** 2, rel=0.05)
    some = common.read_links(None, ["GPU 2", "GPU 5"], PAPER, 7)
    assert some.equals(tables[7].loc[["GPU 2", "GPU 5", "client"], ["GPU 2", "GPU 5", "client"]])

    hosts = pool_of("workstations")
    near = common.read_links(None, NAMES, hosts, 3)
    for a, b in itertools.combinations(near, 2):
        together = hosts["host"].get(a) == hosts["host"].get(b)
        assert near.loc[a, b] == (0.02 if together else tables[3].loc[a, b])


def test_own_links_one_way_or_both_or_from_a_file(tmp_path):
    names = ["GPU 1", "GPU 2", "client"]
    one_way = {"GPU 1": {"GPU 2": 3, "client": 0.5}, "client": {"GPU 2": 1}}
    expected = pd.DataFrame([[0, 3, 0.5], [3, 0, 1], [0.5, 1, 0]], names, names, dtype=float)
    both = {one: row.to_dict() for one, row in expected.iterrows()}
    paths = [write(tmp_path, json.dumps(one_way), "links.json"), write(tmp_path, expected.to_csv(), "links.csv"),
             write(tmp_path, ",GPU 2,client\nGPU 1,3,0.5\nGPU 2,,1\n", "half.csv")]
    for links in (one_way, both, *paths):
        assert common.read_links(links, ["GPU 1", "GPU 2"], PAPER, 0).equals(expected)


def drawn_bids(seed=0, model=BLOOM, devices=PAPER, bids=None):
    drawn = common.draw_bids(model.layers, devices, seed) if bids is None else bids
    return common.read_bids(drawn, model, devices)


@pytest.mark.parametrize("layers", [24, 70, 96])
@pytest.mark.parametrize("layer_time", [6, 1 / 3, 2.34567891, 0.000123456789])
def test_drawn_bids_follow_the_rules(layers, layer_time):
    """Devices of a type promise alike, to the last digit of their time a layer, which FCIM scores."""
    model = common.Model("M", layers, hidden=1, feed_forward=1, heads=1, context=1)
    capacity = PAPER["capacity"].to_numpy()
    most = np.minimum(capacity, layers)
    cents = PAPER["cost_per_hour"].to_numpy() / 36
    for seed in range(10):
        bids = drawn_bids(seed, model, PAPER.assign(layer_time=layer_time))
        assert bids["device"].tolist() == NAMES
        assert (bids["capacity"] == capacity).all()
        assert bids["layers"].between(np.minimum((capacity * 0.6).astype(int), layers), most).all()
        assert bids["layers"].sum() >= min(layers, most.sum())
        each = bids["computation_time"] / bids["layers"]
        assert {f"{time:.9g}" for time in each} == {f"{float(f'{layer_time:.6g}'):.9g}"}
        assert bids["true_cost"].to_numpy() == pytest.approx(cents * bids["computation_time"], rel=1e-5)
        margin = bids["price"] / bids["true_cost"]
        assert margin.between(1.0999, 1.6001).all()
        assert margin.nunique() > 1


def test_offers_are_raised_only_as_far_as_needed():
    sums = [drawn_bids(seed)["layers"].sum() for seed in range(50)]
    assert min(sums) == 70  # 6 capacities, 84 in all, x U(0.6, 1): often too few, then exactly enough
    assert drawn_bids(devices=PAPER.loc[["GPU 1", "GPU 4"]])["layers"].tolist() == [17, 11]  # all they have, below 70
    assert drawn_bids(devices=pool_of("paper", 16e9))["device"].tolist() == ["GPU 1", "GPU 2", "GPU 3"]  # no layer fits


BID = {"device": "GPU 1", "layers": 14, "price": 0.8, "computation_time": 40.0}


def test_own_bids_and_their_files(tmp_path, capsys):
    bids = [BID, dict(BID, device="GPU 4", layers=3, true_cost=0.7)]
    table = drawn_bids(bids=bids)
    assert table["true_cost"].tolist() == [round(40 * 0.135 / 36, 6), 0.7]
    assert table[["type", "host", "capacity"]].to_numpy().tolist() == [["RTX 4090", "host 1", 17], ["T4", "host 4", 11]]
    for path in (write(tmp_path, json.dumps(bids), "bids.json"), write(tmp_path, table.to_csv(index=False), "w.csv"),
                 write(tmp_path, pd.DataFrame(bids).to_csv(index=False), "bids.csv")):
        assert drawn_bids(bids=path).equals(table)
    assert capsys.readouterr().err == ""
    drawn_bids(bids=[dict(BID, colour="red")])  # a further field is named
    assert capsys.readouterr().err.endswith(": colour\n")


def test_an_hour_costs_electricity_or_a_rent(monkeypatch):
    """A rent in a pool's line comes before that of its type, and both before electricity."""
    rented = dataclasses.replace(T4, type="rented T4", price_per_hour=0.15)
    monkeypatch.setattr(common, "DEVICES", [*common.DEVICES, rented])
    monkeypatch.setitem(common.POOLS, "mixed", [("A", "T4", "host"), ("B", "rented T4", "host"),
                                                ("C", "rented T4", "host", 0.5), ("D", "T4", "host", 0)])
    bids = common.allocation_case(FCIM.tasks, common.get_model("GPT-Neo 1.3B"), "mixed", 0)["bids"]
    cents = bids["true_cost"] / bids["computation_time"] * 3600
    assert cents.tolist() == pytest.approx([0.070 * 30, 15, 50, 0], rel=1e-5)

    campus, cloud = (common.allocation_case(FCIM.tasks, BLOOM, pool, 3) for pool in ("campus", "cloud"))
    assert campus["links"].equals(cloud["links"])  # the same devices
    assert campus["bids"]["layers"].equals(cloud["bids"]["layers"])


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

    devices = [T4, common.get_device("RTX 4090")]  # a given time holds on every device
    tasks = common.read_tasks([dict(FCIM.tasks[0], computation_time=140), FCIM.tasks[1]], BLOOM, devices)
    times = common.layer_times(tasks, BLOOM, devices)
    assert times[0] == pytest.approx([2, 2])
    assert times[1][0] > times[1][1]


def test_what_an_allocation_is_given():
    """Tasks in order of arrival, capacities by the largest cache, and times, links and memory of the bidders."""
    tasks = [dict(FCIM.tasks[0], arrival_time=9), dict(FCIM.tasks[1], memory_gb=7), dict(FCIM.tasks[2], arrival_time=3)]
    case = common.allocation_case(tasks, BLOOM, "workstations", 4)
    assert case["tasks"]["label"].tolist() == ["Task 2", "Task 3", "Task 1"]
    assert case["arrivals"].tolist() == [0, 0, 6]
    capacity = {kind: int(0.9 * common.get_device(kind).memory * 1e9 / (BLOOM.layer_bytes + 7e9 / 70))
                for kind in ("RTX 4090", "T4")}
    assert case["bids"]["capacity"].tolist() == [capacity[kind] for _, kind, _ in common.POOLS["workstations"]]
    assert case["memory"] == [24, 24, 24, 16, 16, 16]
    assert case["watts"] == [450, 450, 450, 70, 70, 70]
    assert (case["layers"], case["model"], case["seed"]) == (70, BLOOM, 4)
    assert (case["delay"] == case["links"].to_numpy()).all()
    assert case["times"].shape == (3, 6)
    some = common.allocation_case(tasks, BLOOM, "workstations", 4, own_bids(("GPU 6", 3, 40), ("GPU 2", 3, 40)))
    assert some["links"].equals(case["links"].loc[["GPU 6", "GPU 2", "client"], ["GPU 6", "GPU 2", "client"]])
    assert some["memory"] == [16, 24]


# Pipeline and metrics -------------------------------------------------------------------------------------------------


@st.composite
def allocations(draw):
    """Stages over devices with bids, times, links and tasks, all drawn."""
    random = np.random.default_rng(draw(st.integers(0, 2 ** 32 - 1)))
    devices, tasks = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    groups = []
    for device in random.permutation(devices)[:random.integers(1, devices + 1)].tolist():
        if groups and random.random() < 0.4:
            groups[-1].append(device)
        else:
            groups.append([device])
    stages = [{"devices": group, "layers": int(random.integers(1, 5))} for group in groups]
    if random.random() < 0.5:
        for stage in stages:
            stage["reward"] = random.uniform(0, 2)
    delay = np.triu(random.uniform(0, 5, (devices + 1, devices + 1)).round(3), 1)
    bids = pd.DataFrame({"device": [f"D{i}" for i in range(devices)], "layers": random.integers(5, 9, devices),
                         "price": random.uniform(0, 3, devices), "true_cost": random.uniform(0, 3, devices)})
    arrival = np.sort(random.integers(0, 20, tasks)) * common.US
    table = pd.DataFrame({"label": [f"T{k}" for k in range(tasks)], "arrival_time": arrival, "trans_time": 0,
                          "computation_time": 0, "deadline": arrival + random.integers(1, 60, tasks) * common.US,
                          "kv_bytes": random.integers(1, 9, tasks) * 1000})
    return stages, table, bids, delay + delay.T, random.uniform(0, 2, (tasks, devices)).round(4)


@settings(max_examples=part_of(500))
@given(allocations())
def test_the_accounting_equals_a_plain_one(case):
    stages, tasks, bids, delay, times = case
    layers = sum(stage["layers"] for stage in stages)
    model = common.Model("M", layers, hidden=8000, feed_forward=46500, heads=8, context=99, kv_heads=layers % 4)
    watts = list(range(100, 100 + len(bids)))
    given_case = (tasks, model, bids, delay, times, [24] * len(bids), watts)
    table, result, intervals, metrics = common.evaluate(stages, *given_case)
    work, links, reduces = naive.group_passes(stages, len(tasks), len(bids), seconds=lambda k, i: times[k][i],
                                              crossing=lambda k, i, j: delay[i][j])
    free, queued, ways = [0] * len(stages), 0, []
    for k, label in enumerate(tasks["label"]):
        now = tasks["arrival_time"][k]
        for s, stage in enumerate(stages):
            name = "+".join(bids["device"][stage["devices"]])
            sent = now + links[k][s]
            start = max(sent, free[s])
            end = start + work[k][s]
            ways.append((label, "transmit", now, sent, s + 1, name))
            ways.append((label, "compute", start, end, s + 1, name))
            queued += start - sent
            now, free[s] = end, end
        back = now + links[k][-1]
        ways.append((label, "transmit", now, back, len(stages) + 1, "client"))
        assert result.loc[k, ["end_computation", "completion_time"]].tolist() == [now, back]
    assert list(intervals.itertuples(index=False, name=None)) == ways

    computed = (np.array(work) - reduces).sum(axis=0)
    crossed = np.sum(links) + np.sum(reduces)
    assert table["computation_time"].tolist() == computed.tolist()
    assert table["link_delay"].tolist() == links[0][:-1]
    assert table["allreduce_time"].tolist() == reduces[0]
    paid = {}
    for s, stage in enumerate(stages):
        for i in stage["devices"]:
            share = stage["layers"] / len(stage["devices"]) / bids["layers"][i]
            reward = stage["reward"] / len(stage["devices"]) if "reward" in stage else bids["price"][i] * share
            paid[i] = reward, bids["true_cost"][i] * share
        assert table["reward"][s] == pytest.approx(sum(paid[i][0] for i in stage["devices"]), abs=1e-5)
        assert table["utility"][s] == pytest.approx(sum(paid[i][0] - paid[i][1] for i in stage["devices"]), abs=1e-5)
    placed = [layer for first, last in zip(table["first_layer"], table["last_layer"])
              for layer in range(first, last + 1)]
    assert placed == list(range(layers))
    assert table["stage"].tolist() == list(range(1, len(stages) + 1))
    assert table["layers"].tolist() == [stage["layers"] for stage in stages]

    rewards = [reward for reward, _ in paid.values()]
    shares = [stage["layers"] / len(stage["devices"]) for stage in stages for _ in stage["devices"]]
    cache = Fraction(int(tasks["kv_bytes"].max()), layers)
    held = sum(stage["layers"] * len(stage["devices"]) * naive.device_bytes(model, len(stage["devices"]), cache)
               for stage in stages)
    turnaround = ((result["completion_time"] - tasks["arrival_time"]) / common.US).tolist()
    expected = {
        "completion_time": (back - tasks["arrival_time"][0]) / 1e6, "communication_time": crossed / 1e6,
        "computation_time": computed.sum() / 1e6,
        "communication_overhead": crossed / (crossed + computed.sum()),
        "deadlines_met": sum(result["completion_time"] <= tasks["deadline"]), "total_cost": sum(rewards),
        "cost_efficiency": layers / sum(rewards), "total_utility": sum(reward - cost for reward, cost in paid.values()),
        "mean_turnaround_time": np.mean(turnaround),
        "p95_turnaround_time": np.percentile(turnaround, 95), "mean_waiting_time": queued / len(tasks) / 1e6,
        "memory_utilization": held / 24e9 / len(paid),
        "devices": len(paid), "tasks": len(tasks),
        "energy": sum(watts[i] * computed[s] / 1e6 / 3600 / 1000
                      for s, stage in enumerate(stages) for i in stage["devices"])}
    for key, values in (("fairness_rewards", rewards), ("fairness_layers", shares)):
        for end, number in (("", len(values)), ("_all", len(bids))):
            expected[key + end] = sum(values) ** 2 / (number * sum(value ** 2 for value in values))
    assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-4)


# Output ---------------------------------------------------------------------------------------------------------------


def test_letters_that_no_file_can_hold_are_written_as_their_codes(tmp_path):
    """As half of a pair of JSON's \\u escapes gives them, or a file's name that is no UTF-8."""
    table = pd.DataFrame({"label": ["\ud83d task", "\u00fc"], "given": [0.1, None]})
    common.write_files(str(tmp_path), {"a.csv": table, "b.tex": "\udcff\n"})
    assert (tmp_path / "a.csv").read_bytes() == "label,given\n\\ud83d task,0.1\n\u00fc,\n".encode()
    assert (tmp_path / "b.tex").read_bytes() == b"\\udcff\n"


def test_a_table_is_printed_in_blocks_of_a_hundred_columns(capsys):
    """Names are stacked; the leading columns stand in every block, and every cell once."""
    common.print_table(pd.DataFrame({"label": ["A", "b\nc"], "end_time": [1.5, 20], "deadline_met": [True, False]}))
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == ["          end deadline", "         time      met", "label", "A       1.500     True",
                       "b c    20.000    False"]
    wide = pd.DataFrame({"who": ["x"] * 3, "load": [1] * 3, **{f"m_{k}": ["1.0 [2.0, 3.0]"] * 3 for k in range(14)}})
    common.print_table(wide, 2, keys=2)
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "... and 1 more rows"
    assert max(map(len, lines)) in range(85, 101)
    rows = [line for line in lines if "1.0" in line]
    assert all(line.startswith("x   1") for line in rows)
    assert sum(line.count("3.0]") for line in rows) == 28
    common.print_table(wide)
    assert "more rows" not in capsys.readouterr().out


def test_a_run_in_a_thread_and_one_that_the_system_refuses():
    done = []
    thread = threading.Thread(target=common.run, args=(done.append, "mine"))
    thread.start()
    thread.join()
    assert done == ["mine"]

    def refuses(name):
        os.listdir("none")
    assert run_main(refuses, "mine") == (2, "", "mine: [Errno 2] No such file or directory: 'none'\n")
