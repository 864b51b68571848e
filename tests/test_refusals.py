"""What common.py refuses: one line that names the place (file, row, field), exit status 2, nothing written."""
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from conftest import cases, files, part_of, refused, task_table
from hypothesis import given, settings
from hypothesis import strategies as st
from test_common import BID, BLOOM, NEO, PAPER, T4, TASK, write

import common
import FCFS

HEADER = "label,prompt,arrival_time,output_words,trans_time,deadline\n"


def told(function, *arguments):
    """The line that the function refuses with."""
    with pytest.raises(common.UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# Lists and files ------------------------------------------------------------------------------------------------------


def without(field):
    return {key: value for key, value in TASK.items() if key != field}


@pytest.mark.parametrize("tasks, place", [
    ([TASK, without("deadline")], "tasks, row 2, deadline: missing"),
    ([dict(TASK, trans_time=-1)], "tasks, row 1, trans_time: -1"),
    ([dict(TASK, deadline=1e12)], "tasks, row 1, deadline: 1000000000000.0"),
    ([dict(TASK, output_words=2.5)], "tasks, row 1, output_words: 2.5"),
    ([TASK, dict(TASK, label="B", memory_gb="4 GB")], "tasks, row 2, memory_gb: '4 GB'"),
    ([dict(TASK, prompt=[{"role": "user", "content": "Hi"}])], "tasks, row 1, prompt: [{'role': 'user', 'content': "),
    ([dict(TASK, label={})], "tasks, row 1, label: {} is not a text"),
    ([dict(without("output_words"), prompt_tokens=3)], "tasks, row 1, output_words: missing; give it, or output_t"),
    ([TASK, dict(without("prompt"), label="B", output_tokens=3)], "tasks, row 2, prompt: missing; give it, or prompt_"),
    ([dict(TASK, deadline=0.5)], "tasks, row 1, deadline: 0.5"),  # before it arrives
    ([TASK, dict(TASK)], "tasks, row 2, label: 'A'"),  # is there already
    ([TASK, 5], "tasks, row 2, task: 5 is not a dict"), ([], "tasks: "), ({"tasks": [TASK]}, "tasks, row 1, task: [{"),
])
def test_a_wrong_task_is_named_in_a_list_and_in_a_file(tasks, place, tmp_path):
    assert told(common.read_tasks, tasks, NEO, [T4]).startswith(place)
    path = write(tmp_path, json.dumps(tasks), "{0}{b}.json")
    assert told(common.read_tasks, path, NEO, [T4]).startswith(place.replace("tasks", path, 1))


@pytest.mark.parametrize("name, text, place", [
    ("t.csv", "", ": EmptyDataError: No columns to parse from file: are there commas "), ("t.csv", HEADER, ": "),
    ("t.csv", b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", ": "),
    ("t.csv", HEADER + "A,hello,0,10,1\n", ", row 1, deadline: missing"),
    ("t.csv", HEADER + "A,hello, you,0,10,1,9\n", ", row 1: no table with the header 'label,prompt,"),
    ("t.csv", HEADER + "A,hello,0,10,1,9\nB,hello, you,0,10,1,9\n",
     ": ParserError: Error tokenizing data. C error: Expected 6 fields in line 3, saw 7: are there commas between th"),
    ("t.csv", HEADER + "A,hello,0,10,1,9\nB,hello,0,ten,1,9\n", ", row 2, output_words: 'ten'"),
    ("t.csv", HEADER + "A,hello,0,10,nan,9\n", ", row 1, trans_time: 'nan'"),
    ("t.csv", HEADER + 'A,"hello,0,10,1,9\n', ": "),
    ("t.csv", HEADER.replace(",", ";"), ", row 1: no table with the header 'label;"),
    ("t.jsonl", '{"label": "A"}\n\n{"label": ', ": JSONDecodeError: Expecting value: line 2 column 11"),
    ("t.JSON", "[{", ": "), ("t.json", b"\xff\xfe\x00", ": "), ("my.py", "x = 1", ": "), ("my.py", "1 / 0", ": "),
])
def test_a_wrong_file_is_named(name, text, place, tmp_path):
    path = write(tmp_path, text, name)
    assert told(common.read_tasks, path, NEO, [T4]).startswith(path + place)


# Links and bids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links, place", [
    ({"GPU 1": {"GPU 2": 3}}, "links, GPU 1 to client: missing"), ([3, 4], "links, GPU 1 to GPU 2: missing"),
    ({"GPU 1": {"GPU 2": 3, "client": 1}, "GPU 2": {"GPU 1": 4, "client": 1}}, "links, GPU 1 to GPU 2: 3"),
    ({"GPU 1": {"GPU 2": 1, "client": -3}, "GPU 2": {"client": 1}}, "links, GPU 1 to client: -3"),
    ({"GPU 1": {"GPU 2": 1, "client": 1}, "client": {"GPU 2": 2e10}}, "links, GPU 2 to client: 20000000000.0"),
    ({"GPU 1": 3}, "links: not seconds by pairs of devices"),
    ("GPU 1,0,x,1\n", "links, GPU 1 to GPU 2: 'x'"),  # of a CSV file
])
def test_a_wrong_link_is_named(links, place, tmp_path):
    if isinstance(links, str):
        path = write(tmp_path, ",GPU 1,GPU 2,client\n" + links, "links.csv")
    else:
        assert told(common.read_links, links, ["GPU 1", "GPU 2"], PAPER, 0).startswith(place)
        path = write(tmp_path, json.dumps(links), "links.json")
    assert told(common.read_links, path, ["GPU 1", "GPU 2"], PAPER, 0).startswith(place.replace("links", path, 1))


@pytest.mark.parametrize("bids, place", [
    ([BID, BID], "bids, row 2, device: 'GPU 1'"), ([dict(BID, device="GPU 9")], "bids, row 1, device: 'GPU 9'"),
    ([dict(BID, layers=18)], "bids, row 1, layers: 18"), ([dict(BID, layers=0)], "bids, row 1, layers: 0"),
    ([dict(BID, layers=2.5)], "bids, row 1, layers: 2.5"), ([dict(BID, price=-1)], "bids, row 1, price: -1"),
    ([dict(BID, true_cost=-1)], "bids, row 1, true_cost: -1"), ([{"device": "GPU 1"}], "bids, row 1, layers: missing"),
    ([BID, ...], "bids, row 2, bid: Ellipsis is not a dict"),
])
def test_a_wrong_bid_is_named(bids, place):
    assert told(common.read_bids, bids, BLOOM, PAPER).startswith(place)


# What a script of one's own returns -----------------------------------------------------------------------------------


GOOD = [{"devices": [0], "layers": 2}, {"devices": [1], "layers": 1}]


@pytest.mark.parametrize("stages", [
    GOOD[:1], [GOOD[0], {"devices": [1], "layers": 2}],  # 2 of 3 layers, and 4
    [GOOD[0], {"devices": [0], "layers": 1}], [{"devices": [0, 0], "layers": 2}, GOOD[1]],  # a device is used twice
    [{"devices": [0], "layers": 3}], [{"devices": [0, 1], "layers": 5}],  # more than is offered
    [*GOOD, {"devices": [2], "layers": 0}],
])
def test_a_wrong_allocation_is_refused(stages):
    bids = pd.DataFrame({"device": ["A", "B", "C"], "layers": [2, 2, 2], "price": 1, "true_cost": 1})
    assert told(common.check_stages, stages, bids, 3).startswith("the allocation is wrong: ")
    common.check_stages(GOOD, bids, 3)


@pytest.mark.parametrize("runs, place", [
    ([(0, 0, 5), (1, 5, 7)], "row 2, label: 'B'"), ([(0, 0, 5)], "row 2, label: 'B'"),  # not computed whole
    ([(0, 0, 5), (1, 5, 9)], "row 2, label: 'B'"), ([(1, 0, 3), (0, 3, 8)], "row 2, label: 'B'"),  # before it arrives
    ([(0, 0, 2), (1, 2, 5), (0, 4, 7)], "row 3, label: 'A'"),  # while another does
])
def test_a_wrong_schedule_is_refused(runs, place):
    tasks = pd.DataFrame({"label": ["A", "B"], "arrival_time": [0, 2], "computation_time": [5, 3]})
    intervals = common.interval_table(tasks, runs)
    assert told(common.check_schedule, tasks, intervals).startswith(f"the schedule is wrong, {place}")


@settings(max_examples=part_of(150))
@given(cases(most=6), st.data())
def test_two_at_once_are_always_found(case, data):
    """Intervals moved about: refused exactly where two overlap, or a task runs too early."""
    tasks = task_table(case, 10)
    intervals = FCFS.schedule(tasks)
    moved = data.draw(st.lists(st.integers(-6, 25), min_size=len(intervals), max_size=len(intervals)))
    later = intervals.assign(start=intervals["start"] + np.array(moved), end=intervals["end"] + np.array(moved))
    spans = sorted(zip(later["start"], later["end"]))
    overlap = any(start < end for (_, end), (start, _) in itertools.combinations(spans, 2))
    early = any(start < 10 * case[int(label[1:])][0] for label, start in zip(later["label"], later["start"]))
    if overlap or early:
        assert told(common.check_schedule, tasks, later).startswith("the schedule is wrong")
    else:
        common.check_schedule(tasks, later)


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, flags, what", [
    ("SRTF", ["--colour", "red"], "--colour red"), ("HexGen", ["--colour", "red"], "--colour red"),
    ("LLF", ["--tasks", "none.csv"], "'none.csv'"), ("PipeDream", ["--tasks", "none.csv"], "'none.csv'"),
    ("optimal", ["--model", "GPT-5"], "model 'GPT-5': choose from "), ("PipeEdge", ["--model", "GPT-5"], "'GPT-5'"),
    ("FCFS", ["--device", "T5"], "device 'T5': choose from T4, "),
    ("FCFS", ["--link", "slow"], "link 'slow': choose from shared, dedicated"),
    ("FCFS", ["--pool", "paper"], "--pool paper"), ("FCIM", ["--pool", "lab"], "pool 'lab': choose from campus, "),
    *(("FCIM", ["--seed", seed], "--seed: ") for seed in ("one", "1.5", "-1", "10000000001", "nan")),
    ("FCIM", ["--bids", "none.csv"], "'none.csv'"), ("FCIM", ["--links", "none.json"], "'none.json'"),
    ("FCFS", ["--out", "file/inside"], "Not a directory: 'file/inside'"),
])
def test_a_wrong_flag_is_told(name, flags, what, run, tmp_path):
    write(tmp_path, "text", "file")
    refused(run(name, *flags), what)
    assert files() == ["file"]
