"""What common.py refuses: one line that names the place, exit status 2, nothing written. A table for each kind."""
import json

import pandas as pd
import pytest
from conftest import ALLOCATORS, SCHEDULERS, edited, files, refused
from test_common import BID, BLOOM, GOOD, NEO, PAPER, T4, TASK, write

import common

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
    ([without("prompt")], "tasks, row 1, prompt: missing"), ([dict(TASK, label="")], "tasks, row 1, label: missing"),
    ([dict(TASK, deadline=None)], "tasks, row 1, deadline: missing"),
    ([dict(TASK, arrival_time="soon")], "tasks, row 1, arrival_time: 'soon' is not a number"),
    ([dict(TASK, trans_time=-1)], "tasks, row 1, trans_time: -1 is not a number"),
    ([dict(TASK, deadline=1e12)], "tasks, row 1, deadline: 1000000000000.0 is not a number"),
    ([dict(TASK, output_words=2.5)], "tasks, row 1, output_words: 2.5 is not a whole number"),
    ([dict(TASK, prompt_tokens=1.5)], "tasks, row 1, prompt_tokens: 1.5 is not a whole number"),
    ([TASK, dict(TASK, label="B", memory_gb="4 GB")], "tasks, row 2, memory_gb: '4 GB' is not a number"),
    ([dict(TASK, deadline=0.5)], "tasks, row 1, deadline: 0.5 is before arrival_time"),
    ([TASK, dict(TASK)], "tasks, row 2, label: 'A' is there already"),
    ([TASK, 5], "tasks, row 2: not a task: 5"), ([], "tasks: no tasks"),
    (5, "tasks: not a list of tasks: 5"), ({"label": "A"}, "tasks: not a list of tasks: {'label': 'A'}"),
])
def test_a_wrong_task_is_named(tasks, place, tmp_path):
    assert told(common.read_tasks, tasks, NEO, [T4]).startswith(place)
    path = write(tmp_path, json.dumps(tasks), "{0}{b}.json")  # the same of a file
    assert told(common.read_tasks, path, NEO, [T4]).startswith(place.replace("tasks", path, 1))


def test_the_dots_of_an_example_are_named():
    assert told(common.read_tasks, [TASK, ...], NEO, [T4]) == "tasks, row 2: not a task: Ellipsis"


@pytest.mark.parametrize("name, text, what", [
    ("t.csv", "", ": EmptyDataError"), ("t.csv", HEADER, ": no tasks"),
    ("t.csv", "label,prompt\nA,b\n", ", row 1, arrival_time: missing"),
    ("t.csv", HEADER + "A,hello,0,10,1\n", ", row 1, deadline: missing"),
    ("t.csv", HEADER + "A,hello,0,10,1,9,7\n", ", row 1: more fields than in the header"),
    ("t.csv", HEADER + "A,hello,0,10,1,9\nB,hello,0,10,1,9,7\n", "Expected 6 fields in line 3, saw 7"),
    ("t.csv", HEADER + "A,hello,0,10,1,9\nB,hello,0,ten,1,9\n", ", row 2, output_words: 'ten' is not a whole number"),
    ("t.csv", HEADER + "A,hello,0,10,,9\n", ", row 1, trans_time: missing"),
    ("t.csv", HEADER + "A,hello,0,10,nan,9\n", ", row 1, trans_time: 'nan' is not a number"),
    ("t.csv", HEADER + "A,hello,0,10,inf,9\n", ", row 1, trans_time: 'inf' is not a number"),
    ("t.csv", HEADER + 'A,"hello,0,10,1,9\n', ": ParserError"),
    ("t.csv", HEADER.replace(",", ";") + "A;hello;0,5;10;1,5;9\n", "are the columns separated by ';'?"),
    ("t.csv", b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", ": UnicodeDecodeError"),
    ("t.JSON", "[{", ": JSONDecodeError"), ("t.json", b"\xff\xfe\x00", ": UnicodeDecodeError"),
    ("my.py", "print(", ": SyntaxError"), ("my.py", "x = 1", ": KeyError: 'tasks'"), ("my.py", "1 / 0", "ZeroDivision"),
])
def test_a_wrong_file_is_named(name, text, what, tmp_path):
    path = write(tmp_path, text, name)
    line = told(common.read_tasks, path, NEO, [T4])
    assert line.startswith(path) and what in line


def test_an_unreadable_file_is_named(tmp_path):
    assert told(common.read_tasks, "none.csv", NEO, [T4]) == "none.csv: No such file or directory"
    assert told(common.read_tasks, str(tmp_path), NEO, [T4]) == f"{tmp_path}: Is a directory"


# Links and bids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links, place", [
    ({"GPU 1": {"GPU 2": 3}}, "links, GPU 1 to client: missing"), ([3, 4], "links, GPU 1 to GPU 2: missing"),
    ({"GPU 1": {"GPU 2": 3, "client": 1}, "GPU 2": {"GPU 1": 4, "client": 1}}, "links, GPU 1 to GPU 2: 3"),
    ({"GPU 1": {"GPU 2": 1, "client": -3}, "GPU 2": {"client": 1}}, "links, GPU 1 to client: -3 is not a number"),
    ({"GPU 1": {"GPU 2": 1, "client": 1}, "client": {"GPU 2": 2e9}}, "links, GPU 2 to client: 2000000000.0 is not"),
    ({"GPU 1": {"GPU 2": "far"}}, "links, GPU 1 to GPU 2: 'far' is not a number"),
    ({"GPU 1": 3}, "links: not a dict of dicts of seconds"),
])
def test_wrong_links_are_told(links, place, tmp_path):
    assert told(common.read_links, links, ["GPU 1", "GPU 2"], PAPER, 0).startswith(place)
    path = write(tmp_path, json.dumps(links), "links.json")
    assert told(common.read_links, path, ["GPU 1", "GPU 2"], PAPER, 0).startswith(place.replace("links", path, 1))


@pytest.mark.parametrize("rows, what", [
    ("GPU 1,0,x,1\n", "GPU 1 to GPU 2: 'x' is not a number"), ("GPU 1,0,inf,1\n", "GPU 1 to GPU 2: 'inf' is not"),
    ("GPU 1,0,,1\n", "GPU 1 to GPU 2: missing"), ("GPU 1,,1,1\nGPU 1,1,,1\n", "not a dict of dicts of sec"),
])
def test_a_wrong_file_of_links_is_told(rows, what, tmp_path):
    path = write(tmp_path, ",GPU 1,GPU 2,client\n" + rows, "links.csv")
    line = told(common.read_links, path, ["GPU 1", "GPU 2"], PAPER, 0)
    assert line.startswith(path) and what in line


@pytest.mark.parametrize("bids, place", [
    ([BID, BID], "bids, row 2, device: 'GPU 1' bids twice"),
    ([dict(BID, device="GPU 9")], "bids, row 1, device: 'GPU 9' is not in the pool (GPU 1, "),
    ([dict(BID, layers=18)], "bids, row 1, layers: 18 is not from 1 to"),
    ([dict(BID, layers=0)], "bids, row 1, layers: 0 is not from 1 to"),
    ([dict(BID, layers=2.5)], "bids, row 1, layers: 2.5 is not a whole number"),
    ([dict(BID, price=-1)], "bids, row 1, price: -1 is not a number"),
    ([dict(BID, true_cost=-1)], "bids, row 1, true_cost: -1 is not a number"),
    ([BID, ...], "bids, row 2: not a bid: Ellipsis"),
    ([{"device": "GPU 1"}], "bids, row 1, layers: missing"),
])
def test_wrong_bids_are_told(bids, place):
    assert told(common.read_bids, bids, BLOOM, PAPER).startswith(place)


def test_a_further_field_of_a_bid_is_named(capsys):
    common.read_bids([dict(BID, colour="red")], BLOOM, PAPER)
    assert capsys.readouterr().err == "warning: bids: further fields: colour\n"


def test_no_bid_is_no_allocation():
    with pytest.raises(common.NoAllocation, match="no device bids for the 70 layers of BLOOM-176B"):
        common.read_bids([], BLOOM, PAPER)


# What a script of one's own returns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stages, what", [
    (GOOD[:1], "it holds 2 of 3 layers"), ([GOOD[0], {"devices": [1], "layers": 2}], "it holds 4 of 3 layers"),
    ([GOOD[0], {"devices": [0], "layers": 1}], "a device is used twice"),
    ([{"devices": [0, 0], "layers": 2}, GOOD[1]], "a device is used twice"),
    ([{"devices": [0], "layers": 3}], "of 2 layers at most"), ([{"devices": [0, 1], "layers": 5}], "of 4 layers at"),
    ([GOOD[0], {"devices": [1], "layers": 0}], "of 2 layers at most"),
])
def test_what_is_no_allocation_is_told(stages, what):
    bids = pd.DataFrame({"device": ["A", "B"], "layers": [2, 2], "price": [1, 1], "true_cost": [1, 1]})
    line = told(common.check_stages, stages, bids, 3)
    assert line.startswith("the allocation is wrong: ") and what in line
    common.check_stages(GOOD, bids, 3)


@pytest.mark.parametrize("runs, what", [
    ([(0, 0, 5), (1, 5, 7)], "'B' is not computed whole"), ([(0, 0, 5)], "'B' is not computed whole"),
    ([(0, 0, 5), (1, 5, 9)], "'B' is not computed whole"), ([(1, 0, 3), (0, 3, 8)], "'B' runs before it arrives"),
    ([(0, 0, 5), (1, 4, 7)], "'B' runs while another task does"),
    ([(0, 0, 2), (1, 2, 5), (0, 4, 7)], "'A' runs while another task does"),
])
def test_what_is_no_schedule_is_told(runs, what):
    tasks = pd.DataFrame({"label": ["A", "B"], "arrival_time": [0, 2], "computation_time": [5, 3]})
    line = told(common.check_schedule, tasks, common.interval_table(tasks, runs))
    assert line.startswith("the schedule is wrong, row ") and what in line
    good = common.interval_table(tasks, [(0, 0, 5), (1, 5, 8)])
    common.check_schedule(tasks, good)
    assert "'C' is no task" in told(common.check_schedule, tasks, good.replace("B", "C"))


def test_a_schedule_that_returns_nothing_is_told(run):
    script = edited("FCFS", ("    return common.interval_table", "    common.interval_table"))
    refused(run(script), "mine: schedule must return a table of common.interval_table")


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALLOCATORS, *SCHEDULERS])
@pytest.mark.parametrize("flags, what", [
    (["--colour", "red"], "unrecognized arguments: --colour red"), (["--tasks", "none.csv"], "none.csv: No such file"),
    (["--model", "GPT-5"], "unknown model 'GPT-5': choose from GPT-Neo 1.3B, "),
])
def test_a_wrong_flag_is_told_by_every_script(name, flags, what, run):
    refused(run(name, *flags), what)
    assert files() == []


@pytest.mark.parametrize("name, flags, what", [
    ("FCFS", ["--device", "T5"], "unknown device 'T5': choose from T4, "),
    ("FCFS", ["--link", "slow"], "unknown link 'slow': choose from shared, dedicated"),
    ("FCFS", ["--pool", "paper"], "unrecognized arguments: --pool paper"),
    ("FCIM", ["--pool", "lab"], "unknown pool 'lab': choose from campus, "),
    ("FCIM", ["--seed", "one"], "argument --seed: invalid float value: 'one'"),
    ("FCIM", ["--seed", "1.5"], "--seed: 1.5 is not a whole number"),
    ("FCIM", ["--seed", "-1"], "--seed: -1.0 is not a whole number from 0"),
    ("FCIM", ["--bids", "none.csv"], "none.csv: No such"), ("FCIM", ["--links", "none.json"], "none.json: No such"),
    ("FCFS", ["--out", "file/inside"], "--out file/inside: "),
])
def test_a_wrong_flag_is_told(name, flags, what, run, tmp_path):
    write(tmp_path, "text", "file")
    refused(run(name, *flags), what)
    assert files() == ["file"]


@pytest.mark.parametrize("value, options, fails", [
    (0, {}, False), ("3.5", {}, False), (1e9, {}, False), (-1, {}, True), (1.1e9, {}, True), ("x", {}, True),
    ("nan", {}, True), (None, {}, True), (2, {"whole": True}, False), (2.5, {"whole": True}, True),
    (0, {"positive": True}, True), (0.1, {"positive": True}, False)])
def test_a_number_is_checked(value, options, fails):
    if fails:
        assert "--x: " in told(lambda: common.check_number(value, "--x", **options))
    else:
        assert common.check_number(value, "--x", **options) == float(value)
