"""Runs an allocation on a real model: in this process, or under torchrun with stage r on rank r.

    python -m real.execute FCIM --checkpoint HuggingFaceTB/SmolLM2-135M-Instruct
    torchrun --standalone --nproc-per-node 3 -m real.execute PipeEdge --bids three.json

The script's own allocate places the layers of that model; transformers' own generate then continues every prompt.
Under torchrun each rank reads and holds its own layers only and passes hidden states on to the next one.
"""
import os
import pathlib
import signal
import sys
from datetime import timedelta

import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import model as real

SHOWN = ("measured_share", "measured_seconds")  # what a terminal shows of what was measured; the file has all
PEER_TIMEOUT = 600  # s that a rank waits for another: one that dies is noticed at once, one that hangs after this


def run_stages(name, config, counts, prompts, tokens, seed=0, sample=False, repeats=1, threads=None):
    """All stages in this process, counts[s] layers in stage s: the rows of real.generate, a dict a stage (layers;
    seconds in its layers, of all tasks once; columns of real.measured_on), and a line that says what was run."""
    model, text = real.load_whole(name, config, seed)
    text = f"executed in one process: {text}; {real.set_threads(model, threads)}"
    made_on = real.measured_on(model, name)
    passes = real.time_stages(real.decoder_layers(model)[1], counts, model.device)
    rows = list(real.generate(model, prompts, tokens, seed, sample, passes, repeats))
    stages = [dict(layers=n, seconds=sum(seconds) / repeats, **made_on) for n, seconds in zip(counts, passes)]
    return rows, stages, text


# Ranks ----------------------------------------------------------------------------------------------------------------
def stop_ranks(prog, message, code):
    """Ends this rank. Of all ranks that stop, the first one says why: the store that torchrun keeps for them counts."""
    line = f"{prog}: {message}"
    try:
        sys.stdout.flush()
        from torch.distributed import rendezvous
        store = next(rendezvous("env://", timeout=timedelta(seconds=5)))[0]
        if store.add("stopping", 1) == 1:
            print(line, file=sys.stderr, flush=True)
            store.set("said", "")
        store.wait(["said"], timedelta(seconds=5))  # once one rank has gone, torchrun ends the others
    except Exception:  # the store went down with its machine, or torch is missing: better said twice than never
        print(line, file=sys.stderr, flush=True)
    finally:
        os._exit(code)  # not sys.exit: a thread may hang in a broken link


def main_of_rank(prog):
    """What each rank of torchrun does: the first one all that main does, the others their stages. An error ends all
    ranks with its line and its status, a rank that dies with one line and 1."""
    rank, _ = real.launched()
    say = f"rank {rank} stops, and all others with it: "
    signal.signal(signal.SIGTERM, lambda *_: stop_ranks(prog, say + "torchrun asks for it, a rank has ended", 1))
    try:
        join()
        check_commands()
        if rank == 0:
            main(prog, run_ranks)
        else:
            run_rank(**share())
        leave()
    except (common.UserError, common.NoAllocation) as error:
        stop_ranks(prog, str(error), 2 if isinstance(error, common.UserError) else 1)
    except KeyboardInterrupt:
        stop_ranks(prog, "interrupted", 130)
    except RuntimeError as error:  # mostly of torch.distributed: a link is broken, or PEER_TIMEOUT over
        words = " ".join(str(error).split()).split("] ", 1)[-1]  # without the line of code that it begins with
        what = "it has lost another one: " if "onnection" in words or "imed out" in words else ""
        stop_ranks(prog, say + what + common.cut(words, 300), 1)


def join():
    """Connects this rank with the others: over gloo, or, where each has a GPU of its own, over nccl."""
    torch = real.import_torch()[0]
    from torch import distributed
    if torch.cuda.is_available():
        index = int(os.environ["LOCAL_RANK"])
        if index >= torch.cuda.device_count():
            raise common.UserError(f"rank {real.launched()[0]} finds no GPU of its own: its machine has "
                                   f"{torch.cuda.device_count()}")
        torch.cuda.set_device(index)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo",
                                   timeout=timedelta(seconds=PEER_TIMEOUT))


def check_commands():
    """UserError on every rank unless all have the first one's command and, where they have them at all, the same script
    and lists: the first rank alone reads them, and others would be ignored."""
    from torch import distributed
    contents = []
    for word in sys.argv[1:]:
        path = word if word.endswith((".csv", ".json", ".py")) else f"{os.path.dirname(common.__file__)}/{word}.py"
        contents.append(pathlib.Path(path).read_bytes() if os.path.isfile(path) else None)
    ranks = [None] * real.launched()[1]
    distributed.all_gather_object(ranks, (sys.argv[1:], contents))
    for rank, (words, others) in enumerate(ranks):
        pairs = zip(ranks[0][1], others)
        is_same = words == ranks[0][0] and all(one == other or None in (one, other) for one, other in pairs)
        common.require(is_same, f"rank {rank} has another command, script or list than the first, which reads them")


def leave():
    """Ends this rank when all are done, and at once: threads of the links may still be closing when python ends by
    itself, and then abort it."""
    from torch import distributed
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def share(job=None):
    """The first rank's job, on every rank."""
    from torch import distributed
    jobs = [job]
    distributed.broadcast_object_list(jobs, 0)
    return jobs[0]


def run_ranks(**job):
    """On the first rank: what run_stages returns, of a pipeline whose stage r runs on rank r. A stage has peak_memory,
    base_memory (before loading; bytes) and bytes_sent (a list, the hidden states of each pass of each run) besides."""
    size = real.launched()[1]
    stages = len(job["counts"])
    common.require(size == stages, f"torchrun has started {size} ranks for {stages} stages: one rank runs one stage")
    share(job)
    return (*run_rank(**job), f"executed on {size} ranks: {job['name'] or real.RANDOM_TEXT}")


def run_rank(name, config, counts, prompts, tokens, seed=0, sample=False, repeats=1, threads=None):
    """A rank's stage of a job: on the first rank the rows of real.generate and what is known of each stage, on the
    others None.

    generate runs on every rank, on a model of the rank's own layers: hooks receive the hidden states before the first
    of them and send those after the last. The last rank's token is everyone's, so that it alone samples: GPUs of
    different types draw differently from one seed."""
    import torch
    from torch import distributed
    rank, size = real.launched()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    if threads is not None:
        torch.set_num_threads(threads)
    base = real.peak_memory(device, restart=True)
    model = real.load_model(name, config, sum(counts[:rank]), sum(counts[:rank + 1]), device, seed)
    layers = real.decoder_layers(model)[1]
    sent = []
    loaded = real.peak_memory(device)
    ends = model.generation_config.eos_token_id
    ends = torch.tensor(-1 if ends is None else ends, device=device)

    def receive(module, args, kwargs):
        hidden = (args[0] if args else kwargs["hidden_states"]).contiguous()  # zeros
        distributed.recv(hidden, rank - 1)
        return ((hidden,) + args[1:], kwargs) if args else (args, dict(kwargs, hidden_states=hidden))

    def send(module, args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).contiguous()
        distributed.send(hidden, rank + 1)
        sent.append(hidden.numel() * hidden.element_size())

    def agree(ids, scores):  # generate asks after each token whether to stop
        token = ids[:, -1].clone()
        distributed.broadcast(token, size - 1)
        ids[:, -1] = token
        return torch.isin(token, ends)

    settings = dict(stopping_criteria=[agree])
    if rank > 0:
        layers[0].register_forward_pre_hook(receive, with_kwargs=True)
    passes = real.time_stages(layers, [len(layers)], device)
    if rank < size - 1:
        layers[-1].register_forward_hook(send)
        settings["eos_token_id"] = -1  # before it agrees, this rank has a token that means nothing
    rows = list(real.generate(model, prompts, tokens, seed, sample, passes + [sent], repeats, **settings))
    stage = dict(layers=len(layers), seconds=sum(passes[0]) / repeats, base_memory=base, bytes_sent=sent,
                 peak_memory=max([loaded] + [row["peak_memory"] for row in rows]),
                 **real.measured_on(model, name))
    stages = [None] * size if rank == 0 else None
    distributed.gather_object(stage, stages)
    return (rows, stages) if rank == 0 else None


# Command --------------------------------------------------------------------------------------------------------------
def measured_table(stages, measured, repeats):
    """Table of the stages as they were measured (dicts of run_stages or run_ranks), beside those of common.evaluate."""
    predicted = stages["computation_time"]
    found = pd.DataFrame(measured)
    table = stages[["stage", "devices", "layers"]].assign(
        predicted_share=predicted / (predicted.sum() or 1), measured_share=found["seconds"] / found["seconds"].sum(),
        measured_seconds=found["seconds"])
    if "bytes_sent" in found:
        table["peak_memory_gb"] = found["peak_memory"] / 1e9
        table["bytes_sent"] = found["bytes_sent"].map(sum) // repeats
    return table.round(6).join(found.filter(like="measured_"))


def main(prog, run=run_stages):
    parser = real.make_parser(prog, __doc__, "tasks", "pool", "bids", "links", "out", "checkpoint", "sample", "seed",
                              "repeats", "threads", scripts=real.ALLOCATORS)
    args = parser.parse_args()
    name, script = real.load_script(args.script, real.ALLOCATORS, "allocate")
    out = real.settings_of(args, script, "out")["out"]

    config, model = real.read_model(args.checkpoint)
    pool, case, stages = real.allocate(args, script, model)
    stages = common.in_seconds(stages)

    tasks = case["tasks"]
    encode, decode = real.load_tokenizer(args.checkpoint)
    prompts, tokens = real.read_prompts(tasks, encode, model.context)
    print(f"{name}: {len(tasks):,} tasks, {model.name} ({model.layers} layers), pool {pool} ({len(case['bids'])} "
          f"devices bid), seed {case['seed']}\n", flush=True)
    rows, measured, text = run(name=args.checkpoint, config=config, counts=stages["layers"].tolist(), prompts=prompts,
                               tokens=tokens, seed=case["seed"], sample=args.sample, repeats=args.repeats,
                               threads=args.threads)

    table = measured_table(stages, measured, args.repeats)
    texts = real.texts_table(tasks, rows, decode)
    paths = common.write_files(out, {f"{name}_stages.csv": stages, f"{name}_measured.csv": table,
                                     f"{name}_texts.csv": real.quoted(texts)})
    common.print_table(stages)
    print(f"\n{text}")
    if stages["tensor_parallel"].max() > 1:
        print("tensor parallelism is planned only: the layers of such a stage run as those of one device")
    common.print_table(table[[key for key in table if not key.startswith("measured_") or key in SHOWN]])
    real.print_texts(texts)
    print(f"\nwritten: {', '.join(paths)}")


if __name__ == "__main__":
    common.run(main_of_rank if real.launched() else main, "real.execute")
