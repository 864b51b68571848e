"""A published trace of LLM requests as a task file that any of the nine scripts reads.

    python -m reproduce.trace AzureLLMInferenceTrace_code.csv --load 0.9 > tasks.csv
    python ADSA.py --tasks tasks.csv

Traces: Azure LLM inference (P. Patel et al., "Splitwise", ISCA 2024) and BurstGPT (Y. Wang et al., 2024), as they are
published. Token counts are used as they are, and arrivals count from the first request. Traces hold neither
transmissions nor deadlines: those follow from the settings below, a deadline from the estimated computation too.
"""
import argparse
import csv
import functools
import pathlib
import re
import sys

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

import common

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS, a folder or owner/model
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LOAD = None  # None: arrivals as published; or stretched, so that computation / span of arrivals is this
RATE = 100  # tokens/s: a request sends its result in output tokens / this
SLACK = 3  # a request's deadline: arrival + this x (computation + transmission)

TRACES = {  # recognised by their columns: arrival, prompt tokens, output tokens
    "Azure LLM inference": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "BurstGPT": ("Timestamp", "Request tokens", "Response tokens"),
}
COLUMNS = ["label", "prompt", "arrival_time", "output_words", "trans_time", "deadline", "prompt_tokens",
           "output_tokens"]


def later(arrival, work, load):
    """How much later each request must arrive (array), the first one not at all, so that all work / span of arrivals =
    load."""
    since = arrival - arrival.min()
    return since * (work.sum() / since.max() / load - 1)


def seconds(text):
    """Seconds since 1970 of a date and time, in UTC unless an offset such as +02:00 follows. Raises ValueError."""
    import numpy as np
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?)(?:Z|([+-])(\d\d):(\d\d))?", text)
    if not found:
        raise ValueError(text)
    date, sign, hours, minutes = found.groups()
    offset = int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60) if sign else 0
    return int(np.datetime64(date, "us").astype("int64")) / common.US - offset


def read_requests(path):
    """Requests of a trace: a list of (label, arrival in s, prompt tokens, output tokens). Raises UserError naming file,
    row and field."""
    rows = common.read_file(path)
    common.require(isinstance(rows, list) and all(isinstance(row, dict) for row in rows), f"{path}: not a list of rows")
    header = set().union(*rows)
    fields = next((fields for fields in TRACES.values() if set(fields) <= header), None)
    common.require(fields, f"{path}: the header is not that of a trace: " + ", or ".join(
        f"{','.join(fields)} ({name})" for name, fields in TRACES.items()))
    requests, failed = [], 0
    for k, row in enumerate(rows, 1):
        when, *counts = (row.get(field, "") for field in fields)  # an empty cell is left out
        where = f"{path}, row {k}, {fields[0]}"
        if fields == TRACES["BurstGPT"]:
            second = common.check_number(when, where)
        else:
            try:
                second = seconds(str(when))
            except ValueError as error:
                raise common.UserError(f"{where}: {common.shown(when)} is not a date and time") from error
        tokens = [int(common.check_number(count, f"{path}, row {k}, {field}", whole=True))
                  for field, count in zip(fields[1:], counts)]
        if fields == TRACES["BurstGPT"] and tokens[1] == 0:  # without a response it has failed
            failed += 1
        else:
            requests.append((f"Request {k}", second, *tokens))
    common.require(requests, f"{path}: all {len(rows)} requests have failed (0 response tokens)")
    if failed:
        common.warn(f"{path}: {failed} of {len(rows)} requests have failed (0 response tokens) and are skipped")
    return requests


def task_rows(requests, model, device, load=None):
    """Tasks (dicts of COLUMNS, times as texts) of requests, and a line about their load."""
    import numpy as np
    labels, second, prompt, output = zip(*requests)
    arrival, output = np.array(second) - min(second), np.array(output)
    trans = output / RATE
    words = np.ceil(output / common.TOKENS_PER_WORD).astype("int64").tolist()
    tasks = [{"label": label, "prompt": "", "arrival_time": 0, "output_words": n, "trans_time": 0, "deadline": 0,
              "prompt_tokens": a, "output_tokens": b} for label, n, a, b in zip(labels, words, prompt, output.tolist())]
    run = common.read_tasks(tasks, model, [device])  # the tokens within the model's context
    work = model.layers * common.layer_time(model, device, run["prompt_tokens"], run["output_tokens"]).to_numpy()
    deadline, span = arrival + SLACK * (work + trans), arrival.max()
    if load is not None:
        common.require(span > 0, "--load needs requests that arrive at different times")
        by = later(arrival, work, load)
        arrival, deadline = arrival + by, deadline + by
    common.check_number(float(deadline.max()), "deadline of a request")
    for task, *times in zip(tasks, arrival, trans, deadline):
        for key, value in zip(("arrival_time", "trans_time", "deadline"), times):
            whole = int(np.rint(value * common.US))  # as text of all its digits, so that it is read as it is
            task[key] = f"{whole // common.US}.{whole % common.US:06d}"
    loads = [f"{what} {total / arrival.max():.3f}" if span else f"{what} without a span" for what, total in (
        (f"of the processor ({model.name} on {device.type})", work.sum()), ("of the uplink", trans.sum()))]
    return tasks, f"{len(tasks):,} requests in {arrival.max():,.1f} s; load {loads[0]}, {loads[1]}"


def main(name):
    parser = argparse.ArgumentParser(name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = functools.partial(common.require, False)  # one line, without the usage
    parser.add_argument("file", metavar="FILE", help=f"a trace as published: {', '.join(TRACES)}")
    parser.add_argument("--load", metavar="X", type=float, default=LOAD,
                        help="stretch the arrivals so that computation / span = X")
    parser.add_argument("--model", metavar="NAME", default=MODEL,
                        help="for the computation that deadlines and load rest on")
    parser.add_argument("--device", metavar="TYPE", default=DEVICE, help="the same")
    args = parser.parse_args()
    common.check_number(RATE, "RATE", positive=True)
    common.check_number(SLACK, "SLACK")
    if args.load is not None:
        common.check_number(args.load, "--load", positive=True)
    model, device = common.get_model(args.model), common.get_device(args.device)
    tasks, line = task_rows(read_requests(args.file), model, device, args.load)
    print(line, file=sys.stderr)
    out = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    out.writeheader()
    out.writerows(tasks)


if __name__ == "__main__":
    common.run(main, "reproduce.trace")
