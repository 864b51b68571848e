"""What common.py refuses: one line that names the place, exit status 2, nothing written. A table for each kind."""
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ALLOCATORS, SCHEDULERS, edited, files, refused
from test_common import BID, BLOOM, NEO, PAPER, T4, TASK, write

import common
import FCFS
import FCIM

HEADER = "label,prompt,arrival_time,output_words,trans_time,deadline"
FIELDS = HEADER.replace(",", ", ")


def without(field):
    return {key: value for key, value in TASK.items() if key != field}


def told(function, *arguments):
    """The line that the function refuses with."""
    with pytest.raises(common.UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# Tasks ----------------------------------------------------------------------------------------------------------------


def test_a_label_may_be_a_number():
    tasks = common.read_tasks([dict(TASK, label=7), dict(TASK, label="7a")], NEO, [T4])
    assert tasks["label"].tolist() == ["7", "7a"]


def test_an_error_in_a_file_whose_name_has_braces_is_named(tmp_path):
    path = write(tmp_path, json.dumps([dict(TASK, deadline="x")]), "{0}{b}.json")
    assert told(common.read_tasks, path, NEO, [T4]) == f"{path}, row 1, deadline: 'x' is not a number from 0 to 1e9"


@pytest.mark.parametrize("tasks, message", [
    ([TASK, without("deadline")], "tasks, row 2, deadline: missing; the fields of a task are " + FIELDS),
    ([without("prompt")], "tasks, row 1, prompt: missing; the fields of a task are " + FIELDS),
    ([dict(TASK, deadline=None)], "tasks, row 1, deadline: missing; the fields of a task are " + FIELDS),
    ([dict(TASK, label="")], "tasks, row 1, label: missing; the fields of a task are " + FIELDS),
    ([dict(TASK, arrival_time="soon")], "tasks, row 1, arrival_time: 'soon' is not a number from 0 to 1e9"),
    ([dict(TASK, trans_time=-1)], "tasks, row 1, trans_time: -1 is not a number from 0 to 1e9"),
    ([dict(TASK, deadline=1e12)], "tasks, row 1, deadline: 1000000000000.0 is not a number from 0 to 1e9"),
    ([dict(TASK, output_words=2.5)], "tasks, row 1, output_words: 2.5 is not a whole number"),
    ([dict(TASK, computation_time="x")], "tasks, row 1, computation_time: 'x' is not a number from 0 to 1e9"),
    ([dict(TASK, prompt_tokens=1.5)], "tasks, row 1, prompt_tokens: 1.5 is not a whole number"),
    ([dict(TASK, output_tokens=-2)], "tasks, row 1, output_tokens: -2 is not a number from 0 to 1e9"),
    ([dict(TASK, memory_gb="4 GB")], "tasks, row 1, memory_gb: '4 GB' is not a number from 0 to 1e9"),
    ([dict(TASK, deadline=0.5)], "tasks, row 1, deadline: 0.5 is before arrival_time"),
    ([TASK, dict(TASK)], "tasks, row 2, label: 'A' is there already"),
    ([TASK, dict(TASK, dead_line=3)], "tasks, row 2: unknown field 'dead_line'"),
    ([], "tasks: no tasks"),
    (5, "tasks: not a list of tasks: 5"),
    ({"label": "A", "deadline": 3}, "tasks: not a list of tasks: {'label': 'A', 'deadline': 3}"),
])
def test_a_wrong_task_is_named(tasks, message, tmp_path):
    assert told(common.read_tasks, tasks, NEO, [T4]) == message
    path = write(tmp_path, json.dumps(tasks), "tasks.json")  # the same of a file
    assert told(common.read_tasks, path, NEO, [T4]) == message.replace("tasks", path, 1)


@pytest.mark.parametrize("text, message", [
    ("", "not a CSV file"),
    (HEADER + "\n", "no tasks"),
    ("label,prompt\nA,b\n", "row 1, arrival_time: missing; the fields of a task are " + FIELDS),
    (HEADER + ",colour\nA,hello,0,10,1,9,red\n", "row 1: unknown field 'colour'"),
    (HEADER + ",label\nA,hello,0,10,1,9,B\n", "row 1: unknown field 'label.1'"),
    (HEADER + "\nA,hello,0,10,1\n", "row 1, deadline: missing"),
    (HEADER + "\nA,hello,0,10,1,9,7\n", "row 1: more fields than in the header"),
    (HEADER + "\nA,hello,0,10,1,9\nB,hello,0,10,1,9,7\n", "Expected 6 fields in line 3, saw 7"),
    (HEADER + "\nA,hello,0,10,1,9\nB,hello,0,ten,1,9\n", "row 2, output_words: 'ten' is not a number from 0 to 1e9"),
    (HEADER + "\nA,hello,0,10,,9\n", "row 1, trans_time: missing"),
    (HEADER + "\nA,hello,0,10,nan,9\n", "row 1, trans_time: 'nan' is not a number from 0 to 1e9"),
    (HEADER + "\nA,hello,0,10,inf,9\n", "row 1, trans_time: 'inf' is not a number from 0 to 1e9"),
    (HEADER + '\nA,"hello,0,10,1,9\n', "not a CSV file"),
    (HEADER.replace(",", ";") + "\nA;hello;0;10;1;9\n", "no commas in the header: are the columns separated by ';'?"),
    (HEADER.replace(",", ";") + "\nA;hello;0,5;10;1,5;9\n", "no commas in the header: are the columns separated by"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "not a CSV file ('utf-8' codec can't decode"),
])
def test_a_wrong_file_is_named(text, message, tmp_path):
    path = write(tmp_path, text)
    line = told(common.read_tasks, path, NEO, [T4])
    assert line.startswith(path) and message in line


@pytest.mark.parametrize("name, text, message", [
    ("tasks.JSON", "[{", "not a JSON file"),
    ("tasks.json", b"\xff\xfe\x00", "not a JSON file"),
    ("mine.py", "print(", "not a script with a list `tasks`"),
    ("mine.py", "x = 1", "not a script with a list `tasks`"),
    ("mine.py", "1 / 0", "not a script with a list `tasks` (division by zero)"),
])
def test_a_wrong_json_or_script_is_named(name, text, message, tmp_path):
    assert message in told(common.read_tasks, write(tmp_path, text, name), NEO, [T4])


def test_an_unreadable_file_is_named(tmp_path):
    assert "none.csv: No such file" in told(common.read_tasks, str(tmp_path / "none.csv"), NEO, [T4])
    assert "Is a directory" in told(common.read_tasks, str(tmp_path), NEO, [T4])
    assert "''" in told(common.read_tasks, "", NEO, [T4])


# Links and bids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links, message", [
    ({"GPU 1": {"GPU 2": 3}}, "links, GPU 1 to client: missing"),
    ({"GPU 1": {"GPU 2": 3, "client": 1}, "GPU 2": {"GPU 1": 4, "client": 1}},
     "links, GPU 1 to GPU 2: 3.0 s, but 4.0 s back"),
    ({"GPU 1": {"GPU 2": -3}}, "links, GPU 1 to GPU 2: -3 is not a number from 0 to 1e9"),
    ({"GPU 1": {"GPU 2": "far"}}, "links, GPU 1 to GPU 2: 'far' is not a number from 0 to 1e9"),
    ({"GPU 1": {"GPU2": 3}}, "links, GPU 1 to GPU 2: missing"),
    ([3, 4], "links: not a dict of dicts of seconds: [3, 4]"),
    ({"GPU 1": 3}, "links: not a dict of dicts of seconds: {'GPU 1': 3}"),
])
def test_wrong_links_are_told(links, message, tmp_path):
    assert told(common.read_links, links, ["GPU 1", "GPU 2"], PAPER, 0) == message
    path = write(tmp_path, json.dumps(links), "links.json")
    assert told(common.read_links, path, ["GPU 1", "GPU 2"], PAPER, 0) == message.replace("links", path, 1)


@pytest.mark.parametrize("text, message", [
    (",GPU 1,GPU 2\nGPU 1,0,3\nGPU 2,3,0\n", "GPU 1 to client: missing"),
    (",GPU 1,GPU 2,client\nGPU 1,0,x,1\n", "GPU 1 to GPU 2: 'x' is not a number from 0 to 1e9"),
    (",GPU 1,GPU 2,client\nGPU 1,0,inf,1\n", "GPU 1 to GPU 2: 'inf' is not a number from 0 to 1e9"),
    ("", "not a CSV file"),
    (",GPU 1,GPU 2,client\n", "GPU 1 to GPU 2: missing"),
    (",GPU 1,GPU 2,client\nGPU 1,0,1,1\nGPU 1,1,0,1\n", "row 2, Unnamed: 0: 'GPU 1' is there already"),
])
def test_a_wrong_file_of_links_is_told(text, message, tmp_path):
    path = write(tmp_path, text, "links.csv")
    line = told(common.read_links, path, ["GPU 1", "GPU 2"], PAPER, 0)
    assert line.startswith(path) and message in line


@pytest.mark.parametrize("bids, message", [
    ([BID, BID], "bids, row 2, device: 'GPU 1' bids twice"),
    ([dict(BID, device="GPU 9")], "bids, row 1, device: 'GPU 9' is not in the pool (GPU 1, GPU 2, GPU 3, GPU 4, GPU 5, "
                                  "GPU 6); a line in common.POOLS adds it"),
    ([dict(BID, layers=18)], "bids, row 1, layers: 18 is not from 1 to what the device holds of BLOOM-176B"),
    ([dict(BID, layers=0)], "bids, row 1, layers: 0 is not from 1 to what the device holds of BLOOM-176B"),
    ([dict(BID, layers=2.5)], "bids, row 1, layers: 2.5 is not a whole number"),
    ([dict(BID, price=-1)], "bids, row 1, price: -1 is not a number from 0 to 1e9"),
    ([dict(BID, computation_time="40 s")], "bids, row 1, computation_time: '40 s' is not a number from 0 to 1e9"),
    ([dict(BID, true_cost=-1)], "bids, row 1, true_cost: -1 is not a number from 0 to 1e9"),
    ([dict(BID, colour="red")], "bids, row 1: unknown field 'colour'"),
    ([{"device": "GPU 1"}], "bids, row 1, layers: missing; the fields of a bid are device, layers, price, "
                            "computation_time"),
])
def test_wrong_bids_are_told(bids, message):
    assert told(common.read_bids, bids, BLOOM, PAPER) == message


def test_no_bid_is_no_allocation():
    with pytest.raises(common.NoAllocation, match="no device bids for the 70 layers of BLOOM-176B"):
        common.read_bids([], BLOOM, PAPER)


# What a script of one's own returns -----------------------------------------------------------------------------------


GOOD = [{"devices": [0], "layers": 2}, {"devices": [1], "layers": 1}]


@pytest.mark.parametrize("stages, message", [
    ([{"devices": [0], "layers": 2}], "it holds 2 of 3 layers"),
    ([{"devices": [0], "layers": 2}, {"devices": [1], "layers": 2}], "it holds 4 of 3 layers"),
    ([{"devices": [0], "layers": 2}, {"devices": [0], "layers": 1}], "A is used twice"),
    ([{"devices": [0, 0], "layers": 2}, {"devices": [1], "layers": 1}], "A is used twice"),
    ([{"devices": [0], "layers": 3}], "A is given 3 of the 2 layers that its group can take"),
    ([{"devices": [0], "layers": 2}, {"devices": [1], "layers": 0}],
     "B is given 0 of the 2 layers that its group can take"),
])
def test_what_is_no_allocation_is_told(stages, message):
    bids = pd.DataFrame({"device": ["A", "B"], "layers": [2, 2], "price": [1, 1], "true_cost": [1, 1]})
    assert told(common.check_stages, stages, bids, 3) == f"the allocation is wrong: {message}"
    common.check_stages(GOOD, bids, 3)


@pytest.mark.parametrize("runs, message", [
    ([(0, 0, 5), (1, 5, 7)], "the schedule is wrong: 'B' is not computed whole"),
    ([(0, 0, 5)], "the schedule is wrong: 'B' is not computed whole"),
    ([(0, 0, 5), (1, 5, 9)], "the schedule is wrong: 'B' is not computed whole"),
    ([(1, 0, 3), (0, 3, 8)], "the schedule is wrong: 'B' runs before it arrives"),
    ([(0, 0, 5), (1, 4, 7)], "the schedule is wrong: 'B' runs while another task does"),
    ([(0, 0, 2), (1, 2, 5), (0, 4, 7)], "the schedule is wrong: 'A' runs while another task does"),
])
def test_what_is_no_schedule_is_told(runs, message):
    tasks = pd.DataFrame({"label": ["A", "B"], "arrival_time": [0, 2], "computation_time": [5, 3], "trans_time": 1,
                          "deadline": 99})
    assert told(common.check_schedule, tasks, common.interval_table(tasks, runs)) == message
    common.check_schedule(tasks, common.interval_table(tasks, [(0, 0, 5), (1, 5, 8)]))


def test_a_schedule_that_returns_nothing_is_told(run):
    script = edited("FCFS", ("    return common.interval_table", "    common.interval_table"))
    refused(run(script), "mine: schedule must return a table of common.interval_table")


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALLOCATORS, *SCHEDULERS])
@pytest.mark.parametrize("flags, message", [
    (["--colour", "red"], "unrecognized arguments: --colour red"),
    (["--model", "GPT-5"], "unknown model 'GPT-5': choose from GPT-Neo 1.3B"),
    (["--tasks", "none.csv"], "none.csv: No such file or directory"),
    (["--out", ""], "--out: names no folder"),
])
def test_a_wrong_flag_is_told_by_every_script(name, flags, message, run):
    refused(run(name, *flags), f"{name}: {message}")
    assert files() == []


@pytest.mark.parametrize("name, flags, message", [
    ("FCFS", ["--device", "T5"], "unknown device 'T5': choose from T4, "),
    ("FCFS", ["--link", "slow"], "unknown link 'slow': choose from shared, dedicated"),
    ("FCFS", ["--pool", "paper"], "unrecognized arguments: --pool paper"),
    ("FCIM", ["--pool", "lab"], "unknown pool 'lab': choose from campus, "),
    ("FCIM", ["--seed", "one"], "argument --seed: invalid float value: 'one'"),
    ("FCIM", ["--seed", "1.5"], "--seed: 1.5 is not a whole number"),
    ("FCIM", ["--seed", "-1"], "--seed: -1.0 is not a number from 0 to 1e9"),
    ("FCIM", ["--bids", "none.csv"], "none.csv: No such file or directory"),
    ("FCIM", ["--links", "none.json"], "none.json: No such file or directory"),
])
def test_a_wrong_flag_is_told(name, flags, message, run):
    refused(run(name, *flags), f"{name}: {message}")


def test_a_seed_that_has_no_effect_is_told(run):
    assert run("FCIM", "--no-plot")[0] == 0
    given = ["--bids", "results/FCIM_bids.csv", "--links", "results/FCIM_links.csv", "--out", "again", "--no-plot"]
    assert run("FCIM", *given)[0] == 0
    status, out, err = run("FCIM", *given, "--seed", "3")
    assert (status, out, err) == (2, "", "FCIM: --seed: has no effect, as bids and links are given\n")


def test_a_folder_that_cannot_be_written_is_told(run, tmp_path):
    write(tmp_path, "text", "file")
    refused(run("FCFS", "--out", "file/inside"), "--out file/inside: ")
    assert files() == ["file"]


def test_the_lists_of_tests_are_those_of_the_scripts():
    """The shipped tasks pass what is refused above."""
    for tasks in (FCFS.tasks, FCIM.tasks):
        assert np.isfinite(common.read_tasks(tasks, NEO, [T4])["computation_time"]).all()
