"""A published trace of LLM requests as a task file that any of the nine scripts reads.

    python -m reproduce.trace AzureLLMInferenceTrace_code.csv --load 0.9 > tasks.csv
    python -m reproduce.trace mooncake_trace.jsonl --first 1000 --slack 5 > tasks.csv
    python ADSA.py --tasks tasks.csv

Traces, as they are published: Azure LLM inference (P. Patel et al., "Splitwise", ISCA 2024), BurstGPT (Y. Wang et al.,
2024), Mooncake (R. Qin et al., FAST 2025), and what Vidur makes of them (A. Agrawal et al., MLSys 2024). Token counts
are used as they are, and arrivals count from the first request. Traces hold neither transmissions nor deadlines: those
follow from the settings below, a deadline from the estimated computation too.
"""
import argparse
import json
import pathlib
import re
import sys

import numpy as np
import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common
from reproduce import study

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LOAD = None  # None: arrivals as published; or stretched, so that computation / span of arrivals is this
RATE = 100  # tokens/s: a request sends its result in output tokens / this
SLACK = 3  # a request's deadline: arrival + this x (computation + transmission)
FIRST = None  # None: all requests; or so many

TRACES = {  # recognised by their columns: arrival, prompt tokens, output tokens; and what of the arrival is a second
    "Azure LLM inference": ("TIMESTAMP", "ContextTokens", "GeneratedTokens", "date"),
    "BurstGPT": ("Timestamp", "Request tokens", "Response tokens", 1),
    "Mooncake": ("timestamp", "input_length", "output_length", 1000),
    "Vidur": ("arrived_at", "num_prefill_tokens", "num_decode_tokens", 1),
}
COLUMNS = ["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline", "prompt_tokens",
           "output_tokens"]


def main(name):
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = common.refuse  # one line, without the usage
    parser.add_argument("file", metavar="FILE", help=f"a trace as published: {', '.join(TRACES)}")
    for flag, kind, metavar, default, text in (
            ("--first", int, "N", FIRST, "so many of the requests, from the first"),
            ("--load", float, "X", LOAD, "stretch the arrivals so that computation, one task at a time / span = X"),
            ("--slack", float, "X", SLACK, "deadline: arrival + X times (computation + transmission)"),
            ("--rate", float, "X", RATE, "a result is sent at X tokens/s"),
            ("--model", str, "NAME", MODEL, "for the computation that deadlines and load rest on"),
            ("--device", str, "TYPE", DEVICE, "the same")):
        parser.add_argument(flag, type=kind, metavar=metavar, default=default, help=text)
    args = parser.parse_args()
    common.check_number(args.rate, "--rate", positive=True)
    common.check_number(args.slack, "--slack")
    if args.load is not None:
        common.check_number(args.load, "--load", positive=True)
    if args.first is not None:
        common.check_number(args.first, "--first", positive=True)

    model = common.get_model(args.model)
    device = common.get_device(args.device)
    requests = read_requests(args.file)[:args.first]
    tasks, line = task_table(requests, model, device, args.load, args.rate, args.slack)
    print(line, file=sys.stderr)
    print(tasks.to_csv(index=False), end="")


def read_requests(path):
    """Table of the requests of a trace: label, arrival (s), prompt_tokens, output_tokens. Raises UserError naming file,
    row and field."""
    rows = read_rows(path)
    name = next((name for name, (*fields, _) in TRACES.items() if set(fields) <= set(rows)), None)
    common.require(name, f"{path}: the header is not that of a trace: " + ", or ".join(
        f"{','.join(fields)} ({name})" for name, (*fields, _) in TRACES.items()))
    if "NumImages" in rows:
        common.warn(f"{path}: NumImages: images are not counted, only tokens are")
    *fields, second = TRACES[name]
    when, prompt, output = (rows[field].fillna("") for field in fields)
    if second == "date":
        arrival = when.map(seconds)
        common.check_rows(arrival.notna(), when, path, "is not a date and time")
    else:
        arrival = common.read_numbers(when, float, path) / second
    requests = pd.DataFrame({
        "label": [f"Request {k}" for k in range(1, len(rows) + 1)], "arrival": arrival,
        "prompt_tokens": common.read_numbers(prompt, int, path).astype("int64"),
        "output_tokens": common.read_numbers(output, int, path).astype("int64")})
    return requests if name != "BurstGPT" else answered(requests, path)


def read_rows(path):
    """Table of the rows of a CSV or JSON file, or of one whose lines are JSON."""
    if not path.lower().endswith(".jsonl"):
        rows = common.read_file(path)
    else:
        try:
            with open(path, encoding="utf-8") as file:
                rows = [json.loads(line) for line in file if line.strip()]
        except OSError as error:
            raise common.UserError(f"{path}: {error.strerror}") from error
        except ValueError as error:  # not UTF-8, not JSON
            raise common.UserError(f"{path}: not a file of JSON lines ({error})") from error
    is_table = isinstance(rows, pd.DataFrame) or all(isinstance(row, dict) for row in rows)
    common.require(is_table, f"{path}: not a list of rows")
    common.require(len(rows), f"{path}: no rows")
    return pd.DataFrame(rows)


def answered(requests, path):
    """The requests that have an answer: without one a request of BurstGPT has failed."""
    failed = requests["output_tokens"] == 0
    common.require(not failed.all(), f"{path}: all {len(requests)} requests have failed (0 response tokens)")
    if failed.any():
        common.warn(f"{path}: {failed.sum()} of {len(requests)} requests have failed (0 response tokens) and are "
                    "skipped")
    return requests[~failed]


def seconds(text):
    """Seconds since 1970 of a date and time, in UTC unless an offset such as +02:00 follows; None if it is none."""
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?)(?:Z|([+-])(\d\d):(\d\d))?", str(text))
    if not found:
        return None
    date, sign, hours, minutes = found.groups()
    try:
        moment = int(np.datetime64(date, "us").astype("int64"))
    except ValueError:  # no such day
        return None
    offset = int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60) if sign else 0
    return moment / common.US - offset


def task_table(requests, model, device, load=None, rate=RATE, slack=SLACK):
    """Tasks (table of COLUMNS, times as texts) of requests (see read_requests), and a line about their load."""
    tasks = pd.DataFrame({
        "label": requests["label"], "prompt": "", "arrival_time": 0, "trans_time": 0, "deadline": 0,
        "output_words": np.ceil(requests["output_tokens"] / common.TOKENS_PER_WORD).astype("int64"),
        "prompt_tokens": requests["prompt_tokens"], "output_tokens": requests["output_tokens"]})
    run = common.read_tasks(tasks.to_dict("records"), model, [device])  # the tokens within the model's context
    name_longer_models(run["prompt_tokens"].sum() < tasks["prompt_tokens"].sum(), model)

    # A deadline follows the arrival, wherever the load puts that. In microseconds, as the scripts will read them.
    arrival = common.microseconds(requests["arrival"] - requests["arrival"].min()).to_numpy()
    trans = common.microseconds(run["output_tokens"] / rate)
    allowed = np.rint(slack * (run["computation_time"] + trans)).astype("int64")
    run = run.assign(arrival_time=arrival, trans_time=trans, deadline=arrival + allowed)
    if load is not None:
        common.require(arrival.max() > 0, "--load needs requests that arrive at different times")
        run = study.at_load(run, load)
    common.check_number(run["deadline"].max() / common.US, "deadline of a request")
    for key in ("arrival_time", "trans_time", "deadline"):
        tasks[key] = run[key].map(as_text).tolist()

    span = run["arrival_time"].max()
    loads = []
    for what, total in ((f"of the processor ({model.name} on {device.type})", run["computation_time"].sum()),
                        ("of the uplink", run["trans_time"].sum())):
        loads.append(f"{what} {total / span:.3f}" if span else f"{what} without a span")
    return tasks[COLUMNS], f"{len(tasks):,} requests in {span / common.US:,.1f} s; load {', '.join(loads)}"


def name_longer_models(is_cut, model):
    """A warning that names the built-in models of a longer context, if prompts are cut."""
    longer = [f"{other.name} ({other.context} tokens)" for other in common.MODELS if other.context > model.context]
    if is_cut and longer:
        common.warn(f"prompts are cut to the context of {model.name}; longer ones, for --model: {', '.join(longer)}")


def as_text(microseconds):
    """Seconds with all their digits, so that they are read as they are."""
    return f"{microseconds // common.US}.{microseconds % common.US:06d}"


if __name__ == "__main__":
    common.run(main, "reproduce.trace")
