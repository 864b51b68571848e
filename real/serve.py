"""Lets scheduling scripts order real work: a model serves the list's requests in real time, token by token.

    python -m real.serve ADSA FCFS SRTF LLF --checkpoint HuggingFaceTB/SmolLM2-135M-Instruct --stretch auto
    python -m real.serve reproduce/EDF.py --tasks results/ADSA_measured_tasks.csv

Requests arrive when the list says. The script's own schedule decides at every arrival and completion which task runs
(common.next_run); that task makes one token after another, until it is done or preempted. A preempted task keeps its KV
cache. A result then takes its trans_time over the uplink. Simulated and measured stand side by side, script by script,
and between them what the script makes of the times that the tasks took when they were served (replayed): a machine that
is faster or slower than when they were timed is told apart from what serving adds.
"""
import os
import sys
import threading
import time

import numpy as np
import pandas as pd

if not __package__:  # run by its path: the project's folder is where modules are found
    sys.path[0] = os.path.dirname(sys.path[0])

import common
from real import model as real

COMPARED = ("mean_waiting_time", "mean_response_time", "mean_turnaround_time", "deadlines_met", "preemptions", "T_end")


def main(prog):
    parser = real.make_parser(prog, __doc__, "tasks", "model", "device", "link", "out", "checkpoint", "threads",
                              "repeats")
    parser.add_argument("scripts", metavar="SCRIPT", nargs="+",
                        help=f"{', '.join(real.POLICIES)}, or the path of one's own")
    parser.add_argument("--stretch", default="1", metavar="X", help="factor of arrivals, transmissions and deadlines; "
                        "auto: what this machine takes for the list over what the modelled device would")
    parser.add_argument("--no-plot", action="store_true", help="write no PNG")
    args = parser.parse_args()
    scripts = [real.load_script(name, real.POLICIES, "schedule") for name in args.scripts]
    given = real.settings_of(args, scripts[0][1], "tasks", "model", "device", "link", "out")
    if args.stretch != "auto":
        common.check_number(args.stretch, "--stretch", positive=True)
    link = common.find_name(given["link"], common.LINKS, "link")
    modelled = common.get_model(given["model"]), common.get_device(given["device"])
    common.check_writable(given["out"])

    config, plan = real.read_model(args.checkpoint)
    tasks = common.read_tasks(given["tasks"], plan, [modelled[1]]).sort_values("arrival_time", kind="stable")
    estimate = estimated_seconds(tasks, *modelled)
    prompts, most = real.read_prompts(tasks, real.load_tokenizer(args.checkpoint)[0], plan.context)
    model, text = real.load_whole(args.checkpoint, config)
    print(f"{len(tasks):,} tasks, link {link}, served by {text}\n{real.set_threads(model, args.threads)}", flush=True)

    tasks, alone = measure_alone(tasks, model, plan, prompts, most, args.repeats)
    measured = tasks["computation_time"].sum() / common.US
    factor = measured / estimate if args.stretch == "auto" else float(args.stretch)
    tasks = stretched(tasks, factor)
    print(f"alone the tasks take {measured:.3f} s here, by the estimate {estimate:.3f} s; arrivals, transmissions and "
          f"deadlines x {factor:.3f}", flush=True)

    written = []
    for name, script in scripts:
        intervals = script.schedule(tasks)
        runs, decisions = serve_model(name, script.schedule, tasks, model, prompts, most, alone, intervals["end"].max())
        served = tasks.assign(computation_time=computed_times(runs, len(tasks)))
        simulated = common.simulate(tasks, intervals, link)
        replayed = common.simulate(served, script.schedule(served), link)
        measured = common.simulate(served, common.interval_table(served, runs), link)
        metrics = [common.scheduling_metrics(tasks, tables[0], plan, modelled[1])
                   for tables in (simulated, replayed, measured)]
        comparison = comparison_table(*metrics)

        simulated, measured = ([common.in_seconds(table) for table in tables] for tables in (simulated, measured))
        files = {"tasks.csv": measured[0].sort_index(), "intervals.csv": measured[1], "metrics.csv": comparison}
        written += common.write_files(given["out"], {f"{name}_served_{end}": file for end, file in files.items()})
        if not args.no_plot:
            written += common.write_figure(given["out"], f"{name}_served_gantt.png", both_figure, name, simulated,
                                           measured)
        change = 100 * (served["computation_time"].sum() / tasks["computation_time"].sum() - 1)
        print(f"\n{name}: {len(decisions):,} decisions of {np.mean(decisions) / 1000:.1f} ms in the mean; the tasks "
              f"took {change:+.1f} % to their time alone")
        common.print_table(comparison)
    print(f"\nwritten: {', '.join(written)}")


def estimated_seconds(tasks, model, device):
    """What the list would take on the modelled device, in all: by the time that it gives, if that is not measured."""
    estimates = model.layers * common.layer_time(model, device, tasks["prompt_tokens"], tasks["output_tokens"])
    if measured_with(tasks):
        return estimates.sum()
    return tasks["given_time"].fillna(estimates).sum()


def measured_with(tasks):
    """Names of the models with which the times of a list were measured: none where not all were."""
    if "measured_model" not in tasks or tasks["measured_model"].isna().any():
        return set()
    return set(tasks["measured_model"])


def measure_alone(tasks, model, plan, prompts, most, repeats):
    """The tasks with what each takes alone on this machine, and the tokens it then makes, or None: a list that was
    measured before is taken as it is."""
    if measured_with(tasks):
        others = measured_with(tasks) - {plan.name}
        if others:
            common.warn(f"the list was measured with {', '.join(others)}, not with {plan.name}")
        return tasks, [None] * len(tasks)
    # The whole list again and again, so that a machine whose speed drifts is no slower for one task than for another.
    passes = [list(real.generate(model, prompts, most)) for _ in range(repeats)]
    seconds = np.median([[row["seconds"] for row in rows] for rows in passes], axis=0)
    ids = [row["ids"] for row in passes[0]]
    computation_time = np.rint(seconds * common.US).astype("int64")
    return tasks.assign(computation_time=computation_time, output_tokens=[len(made) for made in ids]), ids


def stretched(tasks, factor):
    """The tasks with all times but the computation's multiplied."""
    times = {key: np.rint(tasks[key] * factor).astype("int64") for key in ("arrival_time", "trans_time", "deadline")}
    return tasks.assign(**times)


# One script -----------------------------------------------------------------------------------------------------------
def serve_model(name, schedule, tasks, model, prompts, most, alone, expected_end):
    """Serves the list with one script and a real model: what `serve` returns. alone: the tokens that each task makes
    alone, or None. expected_end: of the last computation, for the progress bar."""
    generations = [Generation(model, *task) for task in zip(prompts, most)]
    show = real.progress_bar(expected_end)
    start = time.perf_counter()

    def clock():
        real.clock(model.device)
        now = round((time.perf_counter() - start) * common.US)
        show(now, name)
        return now

    def wait(until):
        while clock() < until:
            time.sleep(min(0.2, max(0, until - clock()) / common.US))

    found = serve(schedule, tasks, lambda k: generations[k].step(), clock, wait)
    show(expected_end)
    for label, generation, ids in zip(tasks["label"], generations, alone):
        if ids not in (None, generation.ids):
            common.warn(f"{name}: the tokens of {common.shown(label)} are not those that it makes alone")
    return found


def serve(schedule, tasks, make_token, clock, wait):
    """Serves tasks (a table of read_tasks in order of arrival) with a policy. Returns its runs (row, start, end), in
    order of time, and what each decision took; microseconds.

    schedule: that of a script. make_token: function of a row; makes a token of that task and returns whether it was the
    last. clock: function that returns the time; wait: function that returns at a time, or later. What is left of a task
    is its computation_time less what it has computed, and never less than one token's.
    """
    arrivals = tasks["arrival_time"].tolist()
    estimate = tasks["computation_time"].to_numpy()
    one_token = np.maximum(estimate // tasks["output_tokens"].to_numpy(), 1)
    row_of = {label: k for k, label in enumerate(tasks["label"])}
    computed = np.zeros(len(tasks), dtype="int64")
    unfinished = list(range(len(tasks)))
    runs, decisions = [], []
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

        start = clock()
        decisions.append(start - asked)
        is_done = make_token(k)
        now = clock()
        while not is_done and now < until:
            is_done = make_token(k)
            now = clock()
        computed[k] += now - start
        if runs and runs[-1][0] == k:  # it goes on: that it was asked again is no preemption
            start = runs.pop()[1]
        runs.append((k, start, now))
        if is_done:
            unfinished.remove(k)
    return runs, decisions


class Generation(threading.Thread):
    """The generate of one task, in a thread that stands still between two tokens: so it can be preempted anywhere, it
    keeps its KV cache, and its tokens are those of plain generate. Only one such thread runs at a time.

    `step` lets it make one more token. It then waits in `pause`, which the model calls before each pass."""

    def __init__(self, model, prompt, most):
        super().__init__(daemon=True)
        self.model, self.prompt, self.most = model, prompt, most
        self.ids = None  # the tokens, once all are made
        self.error = None
        self.is_begun = False
        self.may_go, self.has_stopped = threading.Semaphore(0), threading.Semaphore(0)

    def run(self):
        hook = self.model.register_forward_pre_hook(self.pause)
        try:
            self.ids = real.continued(self.model, self.prompt, self.most)
        except BaseException as error:  # step raises it, in the thread that shows it
            self.error = error
        hook.remove()
        self.has_stopped.release()

    def pause(self, *_):
        if threading.current_thread() is not self:
            return
        if self.is_begun:
            self.has_stopped.release()
            self.may_go.acquire()
        self.is_begun = True

    def step(self):
        """Makes one more token; returns whether it was the last."""
        if self.is_alive():
            self.may_go.release()
        else:
            self.start()
        try:
            self.has_stopped.acquire()
        except BaseException:  # interrupted: Python cannot end while the token is under way
            self.has_stopped.acquire()
            raise
        if self.error:
            raise self.error
        return self.ids is not None


def computed_times(runs, count):
    """Microseconds that each of so many tasks has run."""
    times = np.zeros(count, dtype="int64")
    for k, start, end in runs:
        times[k] += end - start
    return times


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
