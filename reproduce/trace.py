"""A trace of LLM requests, published or a log of one's own, as a task file that any of the nine scripts reads.

    python -m reproduce.trace AzureLLMInferenceTrace_code.csv --load 0.9 > tasks.csv
    python -m reproduce.trace mooncake_trace.jsonl --first 1000 --slack 5 > tasks.csv
    python -m reproduce.trace log.csv --columns arrival=time,prompt=tokens_in,output=tokens_out > tasks.csv
    python ADSA.py --tasks tasks.csv

Traces and logs are CSV or JSON files, or JSON lines; formats are recognised by their columns (TRACES below). Token
counts are used as they are, and arrivals count from the first request. Traces hold neither transmissions nor deadlines:
those follow from the settings below, a deadline from the estimated computation too.
"""
import re
import sys
from collections import namedtuple

import numpy as np
import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: modules are found in the folder above
    sys.path[0] += "/.."

import common
from reproduce import study

MODEL = "GPT-Neo 1.3B"  # whose layers are computed: a name in common.MODELS
DEVICE = "T4"  # the device that computes them: a type in common.DEVICES
LOAD = None  # None: arrivals as published; or stretched, so that computation / span of arrivals is this
RATE = 100  # tokens/s: a request sends its result in output tokens / this
SLACK = 3  # a request's deadline: arrival + this x (computation + transmission)
FIRST = None  # None: all requests; or so many

# A format: its columns of arrival and tokens (a dot reaches into an object), the unit of its arrivals, and, where a
# file may fit two formats, a column that this one alone has.
Format = namedtuple("Format", "arrival prompt output unit mark", defaults=[None])
UNITS = {"s": 1, "ms": 1e3, "ns": 1e9, "date or s": 1}  # how many make a second
TRACES = {
    # Azure/AzurePublicDataset; P. Patel et al., "Splitwise", ISCA 2024
    "Azure LLM inference": Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", "date or s"),
    # HPMLL/BurstGPT; Y. Wang et al., 2024
    "BurstGPT": Format("Timestamp", "Request tokens", "Response tokens", "s"),
    # alibaba-edu/qwen-bailian-usagetraces-anon
    "Qwen-Bailian": Format("timestamp", "input_length", "output_length", "s", "chat_id"),
    # kvcache-ai/Mooncake, and AIPerf, which takes its format; R. Qin et al., FAST 2025
    "Mooncake": Format("timestamp", "input_length", "output_length", "ms"),
    # microsoft/vidur; A. Agrawal et al., MLSys 2024
    "Vidur": Format("arrived_at", "num_prefill_tokens", "num_decode_tokens", "s"),
    # casys-kaist/LLMServingSim; J. Cho et al., IISWC 2024
    "LLMServingSim": Format("arrival_time_ns", "input_toks", "output_toks", "ns"),
    # the answers of a server with OpenAI's interface
    "OpenAI": Format("created", "usage.prompt_tokens", "usage.completion_tokens", "date or s"),
}


def main(name):
    parser = common.make_parser(name, __doc__, plot=False, model=MODEL, device=DEVICE)
    parser.add_argument("file", metavar="FILE", help=f"a trace or log: {', '.join(TRACES)}")
    parser.add_argument("--columns", metavar="arrival=X,prompt=Y,output=Z",
                        help="of a log of your own: dates or seconds, tokens, tokens")
    parser.add_argument("--first", type=int, default=FIRST, help="so many of the requests, from the first")
    for flag, default, text in (
            ("--load", LOAD, "stretch the arrivals so that computation, one task at a time / span = X"),
            ("--slack", SLACK, "deadline: arrival + X times (computation + transmission)"),
            ("--rate", RATE, "a result is sent at X tokens/s")):
        parser.add_argument(flag, type=float, metavar="X", default=default, help=text)
    args = parser.parse_args()
    for flag, least in (("rate", 1e-12), ("slack", 0), ("load", 1e-12), ("first", 1)):
        value = getattr(args, flag)
        if value is not None:
            common.check_number(value, f"--{flag}", least=least)

    model = common.get_model(args.model)
    device = common.get_device(args.device)
    requests = read_requests(args.file, args.columns)[:args.first]
    tasks, line = task_table(requests, model, device, args.load, args.rate, args.slack)
    print(line, file=sys.stderr)
    print(tasks.to_csv(index=False), end="")


def read_requests(path, columns=None):
    """Table of the requests of a trace: label, arrival (s), prompt_tokens, output_tokens. columns: of a log that has no
    format of TRACES, as a text, "arrival=X,prompt=Y,output=Z". Raises UserError naming file, row and field."""
    rows = read_rows(path)
    name, form = ("--columns", own_format(columns, rows, path)) if columns else find_format(rows, path)
    if "NumImages" in rows:
        common.warn(f"{path}: NumImages: images are not counted, only tokens are")
    requests = pd.DataFrame({
        "label": [f"Request {k}" for k in range(1, len(rows) + 1)],
        "arrival": read_arrivals(rows[form.arrival], form.unit, path),
        "prompt_tokens": common.read_numbers(rows[form.prompt], int, path).astype("int64"),
        "output_tokens": common.read_numbers(rows[form.output], int, path).astype("int64")})
    return requests if name != "BurstGPT" else answered(requests, path)


def read_rows(path):
    """Table of the rows of a file: texts, numbers and, in columns with dots in their names, what objects hold."""
    rows = common.read_file(path)
    if not isinstance(rows, pd.DataFrame):
        is_list = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        common.require(is_list, f"{path}: not a list of rows")
        rows = pd.json_normalize(rows)
    common.require(len(rows), f"{path}: no rows")
    return rows.astype(object).where(rows.notna(), "")


def find_format(rows, path):
    """The format of TRACES that has all its columns in the rows, and its name."""
    for name, form in TRACES.items():
        needed = {form.arrival, form.prompt, form.output, form.mark or form.arrival}
        if needed <= set(rows):
            return name, form
    known = ", or ".join(f"{form.arrival},{form.prompt},{form.output} ({name})" for name, form in TRACES.items())
    raise common.UserError(f"{path}: --columns is needed, as the header is not that of a trace: {known}")


def own_format(columns, rows, path):
    """The format of a log's columns that are given as "arrival=X,prompt=Y,output=Z"."""
    given = dict(part.split("=", 1) for part in columns.split(",") if "=" in part)
    common.require(set(given) == {"arrival", "prompt", "output"},
                   f"--columns: {common.shown(columns)} is not arrival=X,prompt=Y,output=Z")
    for name in given.values():
        common.require(name in rows, f"--columns: {path} has no column {common.shown(name)}, but {', '.join(rows)}")
    return Format(**given, unit="date or s")


def read_arrivals(column, unit, path):
    """Seconds of a column of arrivals, since 1970 where they are dates and times."""
    arrival = column.map(common.to_number) / UNITS[unit]
    if unit == "date or s" and arrival.isna().all():
        arrival = column.map(seconds)
    common.check_rows(arrival.between(0, 1e10), column, path, f"is not an arrival ({unit})")
    return arrival


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
    if not re.fullmatch(r"\d{4}-\d\d-\d\d([ T][\d:.]+)?(Z|[+-][\d:]+)?", str(text)):  # pandas reads more
        return None
    try:
        return pd.Timestamp(str(text)).value // 1000 / common.US  # value: nanoseconds
    except (ValueError, OverflowError):  # no such day; or beyond 2262
        return None


def task_table(requests, model, device, load=None, rate=RATE, slack=SLACK):
    """Tasks (table in the task format, times as texts) of requests (see read_requests), and a line about their load."""
    tasks = pd.DataFrame({
        "label": requests["label"], "prompt": "", "arrival_time": 0,
        "output_words": np.ceil(requests["output_tokens"] / common.TOKENS_PER_WORD).astype("int64"),
        "trans_time": 0, "deadline": 0,
        "prompt_tokens": requests["prompt_tokens"], "output_tokens": requests["output_tokens"]})
    run = common.read_tasks(tasks.to_dict("records"), model, [device])  # the tokens within the model's context
    longer = [f"{other.name} ({other.context} tokens)" for other in common.MODELS if other.context > model.context]
    if longer and run["prompt_tokens"].sum() < tasks["prompt_tokens"].sum():
        common.warn(f"prompts are cut to the context of {model.name}; longer ones, for --model: {', '.join(longer)}")

    # A deadline follows the arrival, wherever the load puts that. In microseconds, as the scripts will read them.
    arrival = common.microseconds(requests["arrival"] - requests["arrival"].min()).to_numpy()
    trans = common.microseconds(run["output_tokens"] / rate)
    allowed = np.rint(slack * (run["computation_time"] + trans)).astype("int64")
    run = run.assign(arrival_time=arrival, trans_time=trans, deadline=arrival + allowed)
    if load is not None:
        common.require(arrival.max() > 0, "--load needs requests that arrive at different times")
        run = study.at_load(run, load)
    common.check_number(float(run["deadline"].max()) / common.US, "deadline of a request")
    for key in ("arrival_time", "trans_time", "deadline"):
        tasks[key] = run[key].map(as_text).tolist()

    span = run["arrival_time"].max()
    loads = []
    for what, total in ((f"of the processor ({model.name} on {device.type})", run["computation_time"].sum()),
                        ("of the uplink", run["trans_time"].sum())):
        loads.append(f"{what} {total / span:.3f}" if span else f"{what} without a span")
    return tasks, f"{len(tasks):,} requests in {span / common.US:,.1f} s; load {', '.join(loads)}"


def as_text(microseconds):
    """Seconds with all their digits, so that they are read as they are."""
    return f"{microseconds // common.US}.{microseconds % common.US:06d}"


if __name__ == "__main__":
    common.run(main, "reproduce.trace")
