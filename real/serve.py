"""Lets scheduling scripts order real work: a model serves the list's requests in real time, token by token.

    python -m real.serve ADSA FCFS SRTF LLF --checkpoint HuggingFaceTB/SmolLM2-135M-Instruct --stretch auto
    python -m real.serve reproduce/EDF.py --tasks results/ADSA_measured_tasks.csv
    python -m real.serve ADSA FCFS --server http://127.0.0.1:8080 --tasks real/twenty.csv --stretch auto

Requests arrive when the list says. The script's own schedule decides at every arrival and completion which task runs
(common.next_run); that task makes one token after another (of a server: one chunk of tokens), until it is done or
preempted. A preempted task keeps its KV cache. A result then takes its trans_time over the uplink. Simulated and
measured stand side by side, and between them what the script makes of the times that the tasks took when they were
served (replayed): a machine that is now faster or slower is told apart from what serving adds.
"""
import functools
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd

if __name__ == "__main__" and not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import model as real
from real import server

CHUNK_SECONDS = 0.05  # what a chunk takes of a server, unless --chunk says its length
PREFILL = 128  # tokens of a prompt that are computed at once: between them it can be preempted
COMPARED = ("mean_waiting_time", "mean_response_time", "mean_turnaround_time", "deadlines_met", "preemptions", "T_end")


def main(prog):
    parser = real.make_parser(prog, __doc__, "tasks", "model", "device", "link", "out", "checkpoint", "threads",
                              "repeats")
    parser.add_argument("scripts", metavar="SCRIPT", nargs="+",
                        help=f"{', '.join(real.POLICIES)}, or the path of one's own")
    parser.add_argument("--stretch", default="1", metavar="X", help="factor of arrivals, transmissions and deadlines; "
                        "auto: what this machine takes for the list over what the modelled device would")
    parser.add_argument("--server", metavar="URL", help="a server that runs already, in place of a model here")
    parser.add_argument("--api", default=server.LLAMA, help="of the server: llama.cpp (the default) or openai")
    parser.add_argument("--slots", type=real.positive, metavar="N", help="slots of the server to use (otherwise all)")
    parser.add_argument("--chunk", type=real.positive, metavar="N",
                        help="tokens that the server makes at a time (otherwise those that take 50 ms)")
    parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    args = parser.parse_args()
    scripts = [real.load_script(name, real.POLICIES, "schedule") for name in args.scripts]
    given = real.settings_of(args, scripts[0][1], "tasks", "model", "device", "link", "out")
    if args.stretch != "auto":
        common.check_number(args.stretch, "--stretch", least=1e-6)
    link = common.find_name(given["link"], common.LINKS, "link")
    modelled = common.get_model(given["model"]), common.get_device(given["device"])

    if args.server:
        host = server.connect(args.server, common.find_name(args.api, server.APIS, "api"), args.slots)
        plan = replace(modelled[0], name=host.model, context=server.NO_LIMIT)
        encode = functools.partial(server.encode, host)
    else:
        config, plan = real.read_model(args.checkpoint)
        encode = real.load_tokenizer(args.checkpoint)[0]
    tasks = common.read_tasks(given["tasks"], plan, [modelled[1]]).sort_values("arrival_time", kind="stable")
    estimate = estimated_seconds(tasks, *modelled)
    prompts, most = real.read_prompts(tasks, encode, plan.context)
    whole = []
    if args.server:
        needed = max(len(prompt) + tokens for prompt, tokens in zip(prompts, most))
        common.require(needed < host.context, f"a request needs {needed} tokens of context, and a slot of the server "
                       f"has {host.context} (its flag -c is for all slots together)")
        begin = functools.partial(server.Request, host)
        seconds, whole = measure_alone(begin, prompts, most)
        token = min(seconds / [max(1, request.count) for request in whole])
        host.chunk = args.chunk or max(1, int(CHUNK_SECONDS / token))
        print(f"served by {host.model} at {host.address} in chunks of {host.chunk} tokens; in whole requests the list "
              f"takes {seconds.sum():.3f} s", flush=True)
    else:
        model, text = real.load_whole(args.checkpoint, config)
        print(f"served by {text}\n{real.set_threads(model, args.threads)}", flush=True)
        begin = functools.partial(Generation, model)
    if tasks["measured_model"].notna().all() and not args.server:
        alone = []
        for key, here in (("model", plan.name), ("device", real.processor_name(model.device))):
            used = common.measured_on(tasks, key)
            if used not in ("", here):
                common.warn(f"the list was measured with {used}, not with {here}")
    else:
        measure_alone(begin, prompts[:1], most[:1])  # a warm-up
        seconds, alone = measure_alone(begin, prompts, most, args.repeats)
        tasks = tasks.assign(computation_time=np.rint(seconds * common.US).astype("int64"),
                             output_tokens=[generation.count for generation in alone])
    taken = tasks["computation_time"].sum() / common.US
    factor = taken / estimate if args.stretch == "auto" else float(args.stretch)
    others = ("arrival_time", "trans_time", "deadline")
    tasks = tasks.assign(**{key: np.rint(tasks[key] * factor).astype("int64") for key in others})
    print(f"{len(tasks):,} tasks, link {link}; alone the tasks take {taken:.3f} s here, by the estimate {estimate:.3f} "
          f"s; arrivals, transmissions and deadlines x {factor:.3f}", flush=True)

    for name, script in scripts:
        intervals = script.schedule(tasks)
        if args.server:
            server.check_slots(host, name, intervals)
        generations = [begin(*task) for task in zip(prompts, most)]
        runs, decisions = serve_model(name, script.schedule, tasks, generations, intervals["end"].max(), given["out"])
        for label, generation, first in zip(tasks["label"], generations, whole or alone):
            if generation.ids != first.ids:
                common.warn(f"{name}: the tokens of {common.shown(label)} are not those that it makes alone")
        served = tasks.assign(computation_time=computed_times(runs, len(tasks)))
        simulated = common.simulate(tasks, intervals, link)
        replayed = common.simulate(served, script.schedule(served), link)
        measured = common.simulate(served, common.interval_table(served, runs), link)
        metrics = [common.scheduling_metrics(tasks, tables[0], plan, modelled[1])
                   for tables in (simulated, replayed, measured)]
        comparison = comparison_table(*metrics)

        simulated, measured = ([common.in_seconds(table) for table in tables] for tables in (simulated, measured))
        files = {"tasks.csv": measured[0].sort_index(), "intervals.csv": measured[1], "metrics.csv": comparison}
        paths = common.write_files(given["out"], {f"{name}_served_{end}": file for end, file in files.items()})
        if not args.no_plot:
            figure = f"{name}_served_gantt.png"
            paths += common.write_figure(given["out"], figure, both_figure, name, simulated, measured)
        change = 100 * (served["computation_time"].sum() / tasks["computation_time"].sum() - 1)
        print(f"\n{name}: {len(decisions):,} decisions of {np.mean(decisions) / 1000:.1f} ms in the mean; the tasks "
              f"took {change:+.1f} % to their time alone")
        common.print_table(comparison)
        print(f"\nwritten: {', '.join(paths)}", flush=True)


def estimated_seconds(tasks, model, device):
    """What the list would take on the modelled device, in all: by the time that it gives, if that is not measured."""
    estimates = model.layers * common.layer_time(model, device, tasks["prompt_tokens"], tasks["output_tokens"])
    if tasks["measured_model"].notna().all():
        return estimates.sum()
    return tasks["given_time"].fillna(estimates).sum()


def measure_alone(begin, prompts, most, repeats=1):
    """Seconds that each generation takes alone, the median of so many runs, and the generations of the last one."""
    passes = []
    for _ in range(repeats):  # of the whole list: a machine whose speed drifts is no slower for one task than another
        generations = [begin(*task) for task in zip(prompts, most)]
        seconds = []
        for generation in generations:
            start = time.perf_counter()
            while not generation.step():
                pass
            seconds.append(time.perf_counter() - start)
        passes.append(seconds)
    return np.median(passes, axis=0), generations


# One script -----------------------------------------------------------------------------------------------------------
def serve_model(name, schedule, tasks, generations, expected_end, out):
    """Serves the list with one script: its runs and decisions (see serve). generations: one a task, of which `step`
    makes a token, or a chunk; expected_end: of the last computation, for the progress bar; out: the folder for what an
    interrupted run leaves."""
    show = real.progress_bar(expected_end)
    start = time.perf_counter()

    def clock():
        now = round((time.perf_counter() - start) * common.US)
        show(now, name)
        return now

    def wait(until):
        while clock() < until:
            time.sleep(min(0.2, max(0, until - clock()) / common.US))

    runs = []
    try:
        decisions = serve(schedule, tasks, lambda k: generations[k].step(), clock, wait, runs)
    except BaseException:  # interrupted, or a server that is gone: what has run is kept
        if runs:
            part = common.in_seconds(common.interval_table(tasks, runs))
            path, = common.write_files(out, {f"{name}_served_part.csv": part})
            done = sum(generation.ids is not None for generation in generations)
            common.warn(f"{name}: {done} of {len(tasks)} tasks are served; what has run is kept in {path}")
        raise
    show(expected_end)
    return runs, decisions


def serve(schedule, tasks, make_token, clock, wait, runs):
    """Serves tasks (a table of read_tasks in order of arrival) with a policy. Adds to the list `runs` what has run
    (row, start, end), in order of time, and returns what each decision took; microseconds.

    schedule: that of a script. make_token: function of a row; makes a token of that task and returns whether it was the
    last. clock: function that returns the time; wait: function that returns at a time, or later. What is left of a task
    is its computation_time less what it has computed, and never less than one token's.
    """
    arrivals = tasks["arrival_time"].tolist()
    estimate = tasks["computation_time"].to_numpy()
    one_token = np.maximum(estimate // np.maximum(tasks["output_tokens"].to_numpy(), 1), 1)
    row_of = {label: k for k, label in enumerate(tasks["label"])}
    computed = np.zeros(len(tasks), dtype="int64")
    unfinished = list(range(len(tasks)))
    decisions = []
    while unfinished:
        asked = clock()
        arrived = [k for k in unfinished if arrivals[k] <= asked]
        later = [arrivals[k] for k in unfinished if arrivals[k] > asked]
        if not arrived:
            wait(later[0])
            continue
        left = np.maximum(estimate - computed, one_token)[arrived]
        label, until = common.next_run(schedule, tasks.iloc[arrived].assign(computation_time=left), asked)
        until = min([until, *later[:1]])
        k = row_of[label]

        start = begun = clock()
        decisions.append(start - asked)
        if runs and runs[-1][0] == k:  # it goes on: that it was asked again is no preemption
            begun = runs.pop()[1]
        is_done = make_token(k)
        now = clock()
        runs.append((k, begun, now))
        while not is_done and now < until:
            is_done = make_token(k)
            now = clock()
            runs[-1] = (k, begun, now)
        computed[k] += now - start
        if is_done:
            unfinished.remove(k)
    return decisions


class Generation:
    """The generation of one task by a model in this process, greedily: preempted, it keeps its KV cache, and its tokens
    are those of plain generate."""

    def __init__(self, model, prompt, most):
        self.model, self.most = model, most
        self.left = prompt  # tokens that are not computed yet
        self.past = {}  # its KV cache, under the name that this transformers gives it
        self.made, self.count = [], 0
        self.ids = None  # the tokens, once all are made

    def step(self):
        """Makes one more token, or computes the next part of a long prompt; returns whether it was the last."""
        import torch
        part = torch.tensor([self.left[:PREFILL]], device=self.model.device)
        self.left = self.left[PREFILL:]
        with torch.inference_mode():
            found = self.model(part, use_cache=True, **self.past)
        self.past = {key: value for key, value in found.items() if key in ("cache", "past_key_values")}
        if self.left:
            return False
        token = int(found.logits[0, -1].argmax())
        self.left = [token]
        self.made.append(token)
        self.count += 1
        ends = self.model.generation_config.eos_token_id
        if token in (ends if isinstance(ends, list) else [ends]) or self.count == self.most:
            self.ids = self.made
        return self.ids is not None


def computed_times(runs, count):
    """Microseconds that each of so many tasks has run."""
    rows, starts, ends = np.array(runs).T
    return np.bincount(rows, ends - starts, count).astype("int64")


def comparison_table(simulated, replayed, measured):
    """A row for each compared metric: what was measured lies error_percent above what was simulated, and
    replay_error_percent above what the script makes of the times that the tasks took when they were served."""
    every_metric = pd.DataFrame({"simulated": simulated, "replayed": replayed, "measured": measured})
    table = every_metric.loc[list(COMPARED)].astype(float).round(6).rename_axis("metric").reset_index()
    for column, expected in (("error_percent", "simulated"), ("replay_error_percent", "replayed")):
        error = 100 * (table["measured"] / table[expected] - 1)
        table[column] = error.where(table[expected] != 0).round(3)
    return table


def both_figure(name, simulated, measured):
    """Figure of a Gantt chart as simulated, and of one as measured below it (each two tables, in seconds)."""
    rows = min(max(3, len(measured[0])), common.PLOT_ROWS)
    figure = common.new_figure(2 * (1.0 + 0.2 * rows))
    above, below = figure.subplots(2, 1)
    keys = common.draw_schedule(above, f"{name}, simulated", *simulated)
    keys.update(common.draw_schedule(below, f"{name}, measured", *measured))
    right = max(axes.get_xlim()[1] for axes in figure.axes)
    for axes in figure.axes:
        axes.set_xlim(right=right)
    return common.finish_figure(figure, keys)


if __name__ == "__main__":
    common.run(main, "real.serve")
