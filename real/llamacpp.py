"""Runs an allocation on llama.cpp: one worker of its RPC backend a stage, predicted beside measured, stage by stage.

    python -m real.llamacpp FCIM --checkpoint SmolLM2-135M-Instruct.Q4_1.gguf
    python -m real.llamacpp reproduce/FCIM_links.py --checkpoint MODEL.gguf --rpc 192.168.1.2:50052,192.168.1.3:50052
    python -m real.llamacpp FCIM --checkpoint MODEL.gguf --bids real/three.json --serve

The script's own allocate places the layers. Workers of one thread are started on this machine, or those of --rpc are
used, in the order of the stages, and over them llama.cpp's server; its log must say that each layer went where it was
allocated. It continues the list's prompts or, with --serve, serves whoever asks, until Ctrl-C.
"""
import contextlib
import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import describe, export, server
from real import model as real

SERVER = "llama-server"
WORKER = ("ggml-rpc-server", "rpc-server")  # the first that is found; older builds have the second only
START_TIMEOUT = 20  # s that a worker may take to listen
HOW_TO = "python tests/build_llama.py FOLDER builds it; then put it on PATH, or its folder in LLAMA_CPP"


def main(prog):
    parser = real.make_parser(prog, __doc__, "tasks", "pool", "bids", "links", "out", "seed", scripts=real.ALLOCATORS)
    parser.add_argument("--checkpoint", metavar="FILE", help="a GGUF file", required=True)
    parser.add_argument("--rpc", metavar="A:P,B:P", help="workers that run already, in the order of the stages")
    parser.add_argument("--tokens", type=real.positive, default=48, metavar="N",
                        help="most tokens of an output, at least 8")
    parser.add_argument("--serve", type=real.positive, nargs="?", const=8080, metavar="PORT",
                        help="leave the server running, on this port of this machine (8080)")
    parser.add_argument("--slots", type=real.positive, default=20, metavar="N", help="requests at once (20)")
    parser.add_argument("--context", type=real.positive, default=2048, metavar="N", help="tokens of a request (2048)")
    args = parser.parse_args()
    name, script = real.load_script(args.script, real.ALLOCATORS, "allocate")
    out = real.settings_of(args, script, "out")["out"]
    program = find_program(SERVER)
    worker = None if args.rpc else find_program(*WORKER)

    export.require_gguf(args.checkpoint, "llama.cpp")
    model = describe.read_model(args.checkpoint)
    pool, case, table = real.allocate(args, script, model)
    groups = [devices.split("+") for devices in table["devices"]]
    export.require_single(groups, "llama.cpp")
    counts = table["layers"].tolist()
    rpc = args.rpc and args.rpc.split(",")
    common.require(not rpc or len(rpc) == len(counts), f"--rpc: {args.rpc} for {len(counts)} stages")
    tasks = case["tasks"]
    print(f"{name}: {len(tasks):,} tasks, {model.name} ({model.layers} layers), pool {pool}, seed {case['seed']}, "
          f"{len(counts)} stages: " + ", ".join(f"{n} layers" for n in counts), flush=True)

    if args.serve:
        with local_workers(worker, len(counts), rpc) as (places, _), \
                local_server(program, args.checkpoint, counts, places, args.slots, args.context,
                             args.serve) as process:
            print(f"placed as allocated, by the log; http://127.0.0.1:{args.serve} serves {args.slots} requests at "
                  "once, until Ctrl-C", flush=True)
            raise common.UserError(f"{SERVER} ended with {process.wait()}")

    tokens = np.minimum(tasks["output_tokens"], args.tokens).clip(lower=8)

    def run(counts):
        port = free_port()
        with local_workers(worker, len(counts), rpc) as (places, pids), \
                local_server(program, args.checkpoint, counts, places, 1, args.context, port):
            return places, run_prompts(f"127.0.0.1:{port}", pids, tasks["prompt"], tokens)

    if rpc:
        places, runs = run(counts)
        stage_table = remote_table(table, places, case, model)
    else:
        # A layer, a worker and the head are timed first: all layers but one on a worker, one on another, and the output
        # layer on a third.
        _, alone = run([model.layers - 1, 1, 0])
        places, runs = run(counts)
        stage_table = local_table(table, places, alone["worker_ms"], runs["worker_ms"])

    texts = pd.DataFrame({"label": tasks["label"], "text": runs["texts"]})
    paths = common.write_files(out, {f"{name}_llamacpp.csv": stage_table,
                                     f"{name}_llamacpp_texts.csv": real.quoted(texts)})
    print("placed as allocated, by the log, the output layer last\n")
    common.print_table(stage_table)
    print(f"\na token, from end to end: {runs['token_ms']:.3f} ms measured, {stage_table['predicted_ms'].sum():.3f} ms "
          "predicted for the stages alone")
    if not args.rpc:
        is_same = alone["texts"] == runs["texts"]
        print(f"the texts are {'those' if is_same else 'NOT those'} of {model.layers - 1} layers on one worker")
    print(f"\nwritten: {', '.join(paths)}")


# llama.cpp's programs -------------------------------------------------------------------------------------------------
def find_program(*names):
    """Path of the first of these programs in the folder LLAMA_CPP (or its bin), or on PATH. Raises UserError."""
    folder = os.environ.get("LLAMA_CPP")
    path = os.pathsep.join([folder, os.path.join(folder, "bin")]) if folder else None
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise common.UserError(f"llama.cpp's {names[0]} is not {'in ' + folder if folder else 'on PATH'}: {HOW_TO}")


@contextlib.contextmanager
def local_workers(program, count, rpc=None):
    """Starts so many workers of one thread on this machine: their places (address:port) and process ids. They end with
    the block, however it ends. Of workers that run already (rpc: their places) no process ids are known."""
    if rpc:
        yield rpc, []
        return
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


@contextlib.contextmanager
def local_server(program, path, counts, places, slots, context, port):
    """Starts llama.cpp's server on a port of this machine, counts[s] layers on the worker at places[s], and gives its
    process once the model is loaded. It ends with the block. context: tokens of a slot. Raises UserError unless its log
    says that every layer is where counts says."""
    words = [program, *export.llama_flags(path, counts, places), "-np", slots, "-c", slots * context,
             "-t", 1, "--host", "127.0.0.1", "--port", port, "--cache-ram", 0, "-lv", 5, "--log-colors", "off"]
    process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    try:
        log = []
        for line in process.stdout:
            log.append(line)
            if "model loaded" in line:
                break
        else:
            last = common.format_value(" ".join(log[-3:]))
            raise common.UserError(f"{SERVER} ended with {process.wait()}: {last}")
        check_places("".join(log), counts)
        threading.Thread(target=read_on, args=(process.stdout.buffer,), daemon=True).start()
        yield process
    finally:
        process.kill()
        process.wait()


def read_on(stream):
    """Reads what nobody needs: its writer would stand still otherwise."""
    while stream.read(65536):
        pass


def run_prompts(address, pids, prompts, tokens):
    """What a server makes of each prompt: texts; token_ms, a token from end to end; worker_ms, the processor time that
    each worker takes for a token (empty without pids).

    Each prompt is computed first, with one token, and does not count: what is timed goes on from its KV cache.
    """
    texts, seconds, passes = [], 0.0, 0
    used = np.zeros(len(pids))
    for prompt, most in zip(prompts, tokens):
        body = dict(prompt=prompt or " ", temperature=0, id_slot=0)
        server.ask(address, "/completion", n_predict=1, cache_prompt=False, **body)
        before, start = cpu_seconds(pids), time.perf_counter()
        fields = ("content",), ("tokens_predicted",)
        text, made = server.ask(address, "/completion", fields, n_predict=int(most), **body)
        seconds += time.perf_counter() - start
        used += cpu_seconds(pids) - before
        passes += made  # the first of them by the prompt's last token, which is computed again
        texts.append(text)
    return dict(texts=texts, token_ms=1000 * seconds / passes, worker_ms=1000 * used / passes)


# Its log --------------------------------------------------------------------------------------------------------------
def check_places(log, counts):
    """UserError unless a log says that layer after layer stands as counts says, and the output layer on the last."""
    placed = {int(layer): device
              for layer, device in re.findall(r"layer +(\d+) assigned to device ([^\s,]+)", log)}
    expected = [s for s, n in enumerate(counts) for _ in range(n)] + [len(counts) - 1]
    for layer, stage in enumerate(expected):
        common.require(placed.get(layer) == f"RPC{stage}", f"llama.cpp has put layer {layer} on {placed.get(layer)}, "
                       f"not on RPC{stage} as allocated")


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
    parts = [layer, own, last - own, *measured]
    common.require(not any(part <= 0 for part in parts), "a layer, a worker or the head took no time at all: the "
                   "machine does too much else for such a measurement")
    stages = table[["stage", "devices", "layers"]].assign(
        worker=places, layers_ms=table["layers"] * layer, worker_ms=own, head_ms=0.0)
    stages.loc[len(stages) - 1, "head_ms"] = last - own
    stages["predicted_ms"] = stages[["layers_ms", "worker_ms", "head_ms"]].sum(axis=1)
    stages["measured_ms"] = measured
    stages["error_percent"] = 100 * (stages["predicted_ms"] / stages["measured_ms"] - 1)
    return stages.round(4)


def remote_table(table, places, case, model):
    """Table of the stages on workers elsewhere: milliseconds a token by the estimates of the devices' types. What each
    takes cannot be seen from here, nor is the head estimated."""
    kinds = case["bids"].set_index("device")["type"]
    devices = [common.get_device(kinds[name]) for name in table["devices"]]
    token = [common.layer_time(model, device, 1, 1) - common.layer_time(model, device, 1, 0) for device in devices]
    stages = table[["stage", "devices", "layers"]].assign(worker=places)
    return stages.assign(predicted_ms=1000 * table["layers"] * token).round(4)


if __name__ == "__main__":
    common.run(main, "real.llamacpp")
