"""reproduce/trace.py: published traces as task files, beside a plain reading of them; what is refused."""
import csv
import dataclasses
import datetime
import io
import pathlib
from fractions import Fraction

import numpy as np
import pytest
from conftest import refused

import common

NEO, T4 = common.get_model("GPT-Neo 1.3B"), common.get_device("T4")
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


@pytest.fixture
def convert(run):
    """Converts a trace given as text; returns its tasks (dicts of texts) and standard error."""
    def convert(text, *flags):
        pathlib.Path("trace.csv").write_text(text)
        status, out, err = run("reproduce/trace", "trace.csv", *flags)
        assert status == 0, err
        pathlib.Path("tasks.csv").write_text(out)
        return list(csv.DictReader(io.StringIO(out))), err
    return convert


def column(tasks, name):
    return [float(task[name]) for task in tasks]


@pytest.mark.parametrize("end, hours", [("Z", 0), ("+02:00", -2), ("-05:30", 5.5)])
@pytest.mark.parametrize("between", [" ", "T"])
def test_offsets_are_taken_off(end, hours, between, convert):
    tasks, _ = convert(f"{AZURE}2024-05-10 00:00:00.25,4,1\n2024-05-10{between}00:00:03.5{end},4,1\n"
                       "2024-05-09 12:00:00,4,1\n")
    assert column(tasks, "arrival_time") == [43200.25, 43203.5 + 3600 * hours, 0]


def test_burstgpt_is_read_without_its_failures(convert):
    tasks, err = convert(BURST + "5,ChatGPT,472,18,490,Conversation log\n45.5,ChatGPT,1087,0,1087,API log\n"
                                 "118,GPT-4,417,276,693,Conversation log\n")
    assert [task["label"] for task in tasks] == ["Request 1", "Request 3"]
    assert column(tasks, "arrival_time") == [0, 113]
    assert "1 of 3 requests have failed" in err


@pytest.mark.parametrize("name, text", [
    ("mooncake.jsonl", '{"timestamp": 1500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
     '{"timestamp": 3000, "input_length": 135, "output_length": 71, "hash_ids": []}\n'),
    ("vidur.json", '[{"arrived_at": 0.25, "num_prefill_tokens": 6758, "num_decode_tokens": 500},'
     ' {"arrived_at": 1.75, "num_prefill_tokens": 135, "num_decode_tokens": 71}]'),
    ("aiperf.jsonl", '{"session_id": "a", "timestamp": 0, "input_length": 6758, "output_length": 500}\n'
     '{"session_id": "b", "timestamp": 1500, "input_length": 135, "output_length": 71}\n'),
    ("qwen.jsonl", '{"chat_id": 0, "timestamp": 61.25, "input_length": 6758, "output_length": 500, "turn": 1}\n'
     '{"chat_id": 1, "timestamp": 62.75, "input_length": 135, "output_length": 71, "turn": 1}\n'),
    ("llmservingsim.jsonl", '{"input_toks": 6758, "output_toks": 500, "arrival_time_ns": 3600000000000}\n'
     '{"input_toks": 135, "output_toks": 71, "arrival_time_ns": 3601500000000}\n'),
    ("openai.jsonl", '\ufeff{"created": 1700158546.5, "usage": {"prompt_tokens": 6758, "completion_tokens": 500}}\n\n'
     '{"created": 1700158548, "usage": {"prompt_tokens": 135, "completion_tokens": 71}}'),
    ("images.csv", "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:00.000000,1,6758,500\n"
     "2024-10-15 00:00:01.500000,0,135,71\n"),
    ("log.csv", "id,when,in,out\n7,2024-05-10T00:00:00+0200,6758,500\n8,2024-05-09T22:00:01.5Z,135,71\n"),
    ("log.jsonl", '{"t": 1700158546.5, "use": {"of": {"in": 6758}, "out": 500}}\n'
     '{"t": "1700158548", "use": {"of": {"in": 135}, "out": 71}, "error": null}\n')])
def test_other_traces_are_read_in_their_units(name, text, run):
    """And logs whose columns are named."""
    pathlib.Path(name).write_text(text, encoding="utf-8")
    columns = {"log.csv": "arrival=when,prompt=in,output=out", "log.jsonl": "output=use.out,arrival=t,prompt=use.of.in"}
    flags = ["--columns", columns[name]] if name in columns else []
    status, out, err = run("reproduce/trace", name, *flags)
    tasks = list(csv.DictReader(io.StringIO(out)))
    assert status == 0, err
    assert ("images are not counted" in err) == (name == "images.csv")
    assert column(tasks, "arrival_time") == [0, 1.5]
    assert column(tasks, "prompt_tokens") == [6758, 135]
    assert column(tasks, "output_tokens") == [500, 71]


def test_models_that_take_the_whole_prompts_are_named(convert, monkeypatch):
    monkeypatch.setattr(common, "MODELS", [NEO, dataclasses.replace(NEO, name="Long", context=9000)])
    text = AZURE + "2024-05-10 00:00:00,5000,10\n2024-05-10 00:05:00,100,100\n"
    assert "cut to the context of GPT-Neo 1.3B; longer ones, for --model: Long (9000 tokens)\n" in convert(text)[1]
    assert "warning" not in convert(text, "--model", "Long")[1]


@pytest.mark.parametrize("load", [None, 0.5, 1.3])
@pytest.mark.parametrize("model, device", [("GPT-Neo 1.3B", "T4"), ("BLOOM-176B", "RTX 4090")])
def test_a_trace_is_converted_as_plain_reading_does(load, model, device, convert):
    """In whole microseconds, as the scripts read the tasks; the stretched arrivals in exact fractions of one."""
    rng = np.random.default_rng(7)
    start = datetime.datetime(2023, 11, 16, 23, 58)
    second = np.sort(rng.uniform(0, 600, 200)).round(7).tolist()
    when = [(start + datetime.timedelta(seconds=int(s))).isoformat(" ") + f"{s % 1:.7f}"[1:] for s in second]
    prompt, output = rng.integers(0, 3000, 200).tolist(), rng.integers(0, 1500, 200).tolist()
    flags = ["--model", model, "--device", device, "--first", 150, "--slack", 5, "--rate", 20]
    flags += ["--load", load] if load else []
    tasks, err = convert(AZURE + "".join(f"{row[0]},{row[1]},{row[2]}\n" for row in zip(when, prompt, output)), *flags)
    model, device = common.get_model(model), common.get_device(device)
    table = common.read_tasks("tasks.csv", model, [device])
    second, prompt, output = second[:150], prompt[:150], output[:150]
    arrival = [int(1000000 * s + 1e-6) - int(1000000 * second[0] + 1e-6) for s in second]
    kept = [min(m, model.context - min(n, model.context // 2)) for m, n in zip(prompt, output)]
    made = [min(n, model.context - m) for m, n in zip(kept, output)]
    work = [round(model.layers * float(common.layer_time(model, device, m, n)) * 1e6) for m, n in zip(kept, made)]
    assert table["computation_time"].tolist() == work
    assert table["label"].tolist() == [f"Request {k + 1}" for k in range(150)]
    factor = Fraction(sum(work), max(arrival)) / Fraction(load) if load else 1
    for task, written, a, p, n in zip(table.to_dict("records"), tasks, arrival, work, made):
        assert abs(task["arrival_time"] - factor * a) < 1 + factor  # the arrivals are stretched once they are whole
        assert task["trans_time"] == 50000 * n
        assert task["deadline"] == task["arrival_time"] + 5 * (p + 50000 * n)
        for key in ("arrival_time", "trans_time", "deadline"):  # written with all digits
            assert written[key] == f"{task[key] // 1000000}.{task[key] % 1000000:06d}"
    span = float(factor * max(arrival))
    assert (f"load of the processor ({model.name} on {device.type}) {sum(work) / span:.3f}, of the uplink "
            f"{sum(made) * 50000 / span:.3f}") in err


@pytest.mark.parametrize("text, message", [
    ("", "trace.csv: "),
    ("label,prompt\nA,b\n", "the header is not that of a trace"), (AZURE, "trace.csv: no rows"),
    (BURST + "5,ChatGPT,472,0,472,API log\n", "trace.csv: all 1 requests have failed"),
    (AZURE + "2023-11-16 18:17:03,4,1\n2023-11-16 18:17:03,,1\n", "row 2, ContextTokens: "),
    (AZURE + "2023-11-16 18:17:03,4,1.5\n", "row 1, GeneratedTokens: '1.5' is not a whole number"),
    (AZURE + "2023-11-16,4,1\n,4,10\n", "row 2, TIMESTAMP: '' is not an arrival (date or s)"),
    (AZURE + "2023-13-16 18:17:03,4,10\n", "row 1, TIMESTAMP: '2023-13-16 18:17:03' is not an arrival"),
    (AZURE + "2023-11-16 18:17:03 EST,4,10\n", "row 1, TIMESTAMP: '2023-11-16 18:17:03 EST' is not an arrival"),
    (BURST + "-5,ChatGPT,472,18,490,API log\n", "row 1, Timestamp: '-5' is not an arrival (s)")])
def test_a_wrong_trace_is_named(text, message, run):
    pathlib.Path("trace.csv").write_text(text)
    refused(run("reproduce/trace", "trace.csv"), message)


@pytest.mark.parametrize("arguments, message", [
    ([], "the following arguments are required: FILE"), (["none.csv"], "No such file or directory: 'none.csv'"),
    (["one.csv", "--load", "0"], "--load: "),
    (["one.csv", "--load", "0.9"], "--load needs requests that arrive at different times"),
    (["one.csv", "--rate", "0"], "--rate: "),
    (["one.csv", "--slack", "-1"], "--slack: "),
    (["one.csv", "--first", "0"], "--first: "),
    (["two.csv", "--load", "1e-11"], "deadline of a request: "),
    (["lines.jsonl"], "lines.jsonl: JSONDecodeError: Expecting value: line 3 column 15"),
    (["list.json"], "list.json: not a list of rows"),
    (["turns.jsonl"], "turns.jsonl, row 2, timestamp: '' is not an arrival (ms)"),
    (["one.csv", "--columns", "arrival=TIMESTAMP"], "is not arrival=X,prompt=Y,output=Z"),
    (["one.csv", "--columns", "arrival=TIMESTAMP,prompt=in,output=GeneratedTokens"],
     "one.csv has no column 'in', but TIMESTAMP, ContextTokens, GeneratedTokens"),
    (["list.csv"], "list.csv: --columns is needed"), (["one.csv", "--col", "x"], "unrecognized arguments: --col x")])
def test_wrong_arguments_are_one_line(arguments, message, run):
    pathlib.Path("one.csv").write_text(AZURE + "2023-11-16 18:17:03,4,10\n")
    pathlib.Path("two.csv").write_text(AZURE + "2023-11-16 18:17:03,4,10\n2023-11-16 18:17:04,4,10\n")
    pathlib.Path("list.json").write_text("[1]")
    pathlib.Path("list.csv").write_text("time,tokens\n1,2\n")
    pathlib.Path("turns.jsonl").write_text(
        '{"session_id": "a", "timestamp": 0, "input_length": 200, "output_length": 50}\n'
        '{"session_id": "a", "delay": 800, "input_length": 300, "output_length": 40}\n')
    pathlib.Path("lines.jsonl").write_text('{"timestamp": 1}\n{}\n{"timestamp": }')
    refused(run("reproduce/trace", *arguments), message)
