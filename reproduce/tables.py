"""What the scripts of reproduce/ share: parallel runs, statistics, and how results are written, printed and drawn."""
import contextlib
import functools
import importlib
import importlib.util
import io
import math
import multiprocessing
import os
import pathlib
import pickle
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import common

RESAMPLES = 10000  # of a bootstrap
FEW = 10  # runs: of fewer than these a bootstrap's interval is too narrow
TEXTS = ["algorithm", "model", "pool", "asked", "device", "rule", "problem", "regime", "label", "kind", "link",
         "tasks_file", "proof", "setting", "allocator"]  # columns of runs
SAME = "~"  # stands before a change whose interval holds 0
COLOURS = (common.BLUE, common.SKY, common.ORANGE, common.RED, "white", "0.75")
HATCHES = ("", "/////", ".....", "\\\\\\\\\\", "xxxxx", "-----")


# Settings, flags and scripts ------------------------------------------------------------------------------------------


def check_count(value, where):
    """The value as an int, if it is a whole number of at least 1."""
    return int(common.check_number(value, where, whole=True, positive=True))


def check_range(values, where, whole=False):
    """UserError unless the values are two numbers, the least and the most."""
    common.require(isinstance(values, (tuple, list)) and len(values) == 2,
                   f"{where}: {common.shown(values)} is not two numbers, the least and the most")
    for value in values:
        common.check_number(value, where, whole)
    common.require(values[0] <= values[1], f"{where}: {values[0]} is more than {values[1]}")


def check_settings(values, name, check):
    """UserError unless the values are a dict that is not empty, each of which check(value, where) lets pass."""
    common.require(isinstance(values, dict) and values, f"{name}: {common.shown(values)} is not a dict of settings")
    for key, value in values.items():
        check(value, f"{name}, {key}")


def add_flags(parser, runs, also=False):
    """The flags that common.make_parser does not know: --runs, --from, and --also."""
    parser.add_argument("--runs", metavar="N", type=int, default=runs, help="random cases of each setting")
    parser.add_argument("--from", metavar="DIR", dest="source",
                        help="run nothing: tables and figures of the runs that an earlier run has written into DIR")
    if also:
        parser.add_argument("--also", metavar="SCRIPT.py", action="append", default=[],
                            help="a script of your own to compare as well (may be given again)")


def get_runs(parser, args, read, draw_all):
    """The runs: read(folder) with --from, else draw_all(args). UserError if, beside --from, a flag is given that has no
    effect then."""
    if args.source is None:
        return draw_all(args)
    for key, value in vars(args).items():
        common.require(key in ("source", "out", "no_plot") or value == parser.get_default(key),
                       f"--{key.replace('_', '-')}: has no effect with --from")
    return read(args.source)


def as_written(runs):
    """A table of runs as it is once read from its CSV file, so that what is made of it now and later is the same."""
    return parse_runs(io.StringIO(runs.to_csv(index=False)))


def parse_runs(file):
    import pandas as pd
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return table.assign(**{key: parse_cells(table[key].tolist()) for key in table if key not in TEXTS})


def parse_cells(cells):
    """A column of a CSV file: whole numbers, numbers (by Python, which reads each as it was written; NaN for none),
    truth values, or, if it is none of these, texts."""
    known = {"True": True, "False": False, "": math.nan}
    if set(cells) <= set(known) and set(cells) != {""}:
        return [known[cell] for cell in cells]
    for kind in (int, lambda cell: float(cell or math.nan)):
        with contextlib.suppress(ValueError):
            return [kind(cell) for cell in cells]
    return cells


def read_runs(folder, name, numbers, texts=(), who=()):
    """The table that an earlier run has written as `name` into the folder. numbers, texts: columns that it must have;
    who: algorithms. UserError, if it is not there or not as it must be."""
    path = os.path.join(folder, name)
    try:
        table = parse_runs(path)
    except OSError as error:
        raise common.UserError(f"--from {folder}: no {name} ({error.strerror})") from error
    except ValueError as error:  # of pandas, or not UTF-8
        raise common.UserError(f"{path}: not a CSV file ({common.format_value(error)})") from error
    for key in (*numbers, *texts, *(["algorithm"] if who else [])):
        common.require(key in table, f"{path}: has no column {key}")
    common.require(len(table), f"{path}: has no rows")
    for name in who:
        common.require((table["algorithm"] == name).any(), f"{path}: has no run of {name}")
    for key in numbers:
        common.require(table[key].dtype.kind in "ifb", f"{path}, {key}: not all are numbers")
    return table


@functools.lru_cache(None)
def script(name):
    """Module of one of the nine, by its name, or of a script of the user's, by the whole path of its .py file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    folder, file = os.path.split(name)
    if folder not in sys.path:
        sys.path.append(folder)  # what it imports from beside it
    spec = importlib.util.spec_from_file_location(file[:-3], name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_scripts(names, also, function):
    """{name: what `script` takes} of the methods compared: `names`, and the further scripts `also` (paths) of the
    user's, each of which must have the function."""
    methods = {name: name for name in names}
    for given in also:
        where, path = f"--also {given}", os.path.abspath(given)
        common.require(path.endswith(".py"), f"{where}: not a Python script (.py)")
        try:
            module = script(path)
        except (Exception, SystemExit) as error:  # whatever a script of the user's may raise
            raise common.UserError(f"{where}: {type(error).__name__}: {common.format_value(error)}") from error
        common.require(callable(getattr(module, function, None)), f"{where}: has no function {function}")
        name = pathlib.Path(path).stem
        common.require(name not in methods, f"{where}: there is a method {name} already")
        methods[name] = path
    return methods


def quiet_case(*arguments):
    """common.allocation_case for one of many draws, without its warnings: of the first draw they have been given."""
    with contextlib.redirect_stderr(io.StringIO()):
        return common.allocation_case(*arguments)


# Parallel runs --------------------------------------------------------------------------------------------------------
# Each worker leads a process group of its own, so that it is killed with all that it has started. A result goes into a
# file and only an empty message through the pipe of the pool: a worker may be killed at any moment, and the pool still
# ends.


def parallel(function, jobs):
    """[function(*job) for job in jobs], by as many processes as there are cores, with a progress bar on a terminal.
    Whatever ends this process, Ctrl-C or SIGKILL, ends the workers and what they have started, and their files go."""
    workers = min(len(jobs), os.cpu_count() or 1, 61)  # 61: the most that Windows can wait for
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")  # fork: at once
    results, bar, folder = [], sys.stderr.isatty(), tempfile.mkdtemp()
    pool = ProcessPoolExecutor(workers, context, start_worker, (function, jobs, folder, os.getpid()))
    try:
        for k, future in enumerate([pool.submit(work, k) for k in range(len(jobs))]):
            future.result()
            with open(os.path.join(folder, f"{k}.result"), "rb") as file:
                results.append(pickle.load(file))
            if bar:
                done = len(results) * 40 // len(jobs)
                print(f"\r[{'#' * done}{'.' * (40 - done)}] {len(results)} of {len(jobs)}", end="", file=sys.stderr,
                      flush=True)
    except BaseException as error:
        for leader in pathlib.Path(folder).glob("*.pid"):
            end_group(int(leader.stem))
        if isinstance(error, BrokenProcessPool):
            raise common.UserError("a process that ran one of the cases has ended: killed, or out of memory") from error
        raise
    finally:
        if bar:
            print("", file=sys.stderr)
        pool.shutdown()
        remove(folder)
    return results


def start_worker(function, jobs, folder, parent):
    """What a worker does first."""
    global assigned
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    try:
        pathlib.Path(folder, f"{os.getpid()}.pid").touch()
    except OSError:  # the parent has gone already
        os._exit(1)
    tempfile.tempdir = folder
    threading.Thread(target=watch, args=(folder, parent), daemon=True).start()
    assigned = function, jobs, folder


def watch(folder, parent):
    """Ends the worker, and what it has started, once its parent has gone."""
    while not is_orphan(parent):
        time.sleep(0.1)
    remove(folder)
    end_group(os.getpid())


def is_orphan(parent):
    if os.name == "nt":  # which keeps the id of a parent that has gone; Python 3.7 notices it after the job
        return hasattr(multiprocessing, "parent_process") and not multiprocessing.parent_process().is_alive()  # novm
    return os.getppid() != parent


def end_group(leader):
    """Kills a worker and what it has started; on Windows, which has no process groups, the worker."""
    with contextlib.suppress(OSError):  # it has ended
        if hasattr(os, "killpg"):
            os.killpg(leader, signal.SIGKILL)
        else:
            os.kill(leader, signal.SIGTERM)


def remove(folder):
    """Removes a folder, under a name by which nobody writes into it meanwhile."""
    with contextlib.suppress(OSError):  # another worker is at it
        os.rename(folder, f"{folder}.old")
    shutil.rmtree(f"{folder}.old", ignore_errors=True)


def work(k):
    """Does the k-th job, in a worker."""
    function, jobs, folder = assigned
    try:
        result = function(*jobs[k])
    except SystemExit:  # on SIGTERM while a solver runs: not for the parent to raise
        os._exit(1)
    with open(os.path.join(folder, f"{k}.result"), "wb") as file:
        pickle.dump(result, file)


# Statistics -----------------------------------------------------------------------------------------------------------


@functools.lru_cache(8)
def drawings(n):
    """How often each of n runs is drawn, in RESAMPLES drawings of n with replacement: array (RESAMPLES, n). The same
    ones whenever n is the same, so that no result depends on what else is computed."""
    import numpy as np
    return np.random.default_rng(n).multinomial(n, [1 / n] * n, RESAMPLES).astype(float)


def resample(values):
    """Means of the values (array, a row a run) in each drawing of runs with replacement."""
    return drawings(len(values)) @ values / len(values)


def interval(samples):
    """95 % interval of a statistic from its values in the drawings: all but the 2.5 % at either end."""
    import numpy as np
    cut = RESAMPLES * 25 // 1000
    ends = [cut, RESAMPLES - 1 - cut]
    return tuple(np.partition(samples, ends)[ends])


def mean(values):
    """Mean of the runs (array), and its 95 % interval: NaN of no run, and without an interval of a single one."""
    if not len(values):
        return math.nan, math.nan, math.nan
    return (values.mean(), *(interval(resample(values)) if len(values) > 1 else (math.nan, math.nan)))


def change(values, others):
    """Change in % from the mean of the others to that of the values, and its 95 % interval. Both are of the same runs:
    runs are drawn in pairs. A change from 0 to 0 is none, from 0 to more is infinite. Arrays (runs,), or (runs,
    settings): then the mean of the settings' changes, and where a run has none of a setting, NaN stands in both."""
    import numpy as np
    if not len(values):
        return math.nan, math.nan, math.nan
    values, others = (np.reshape(array, (len(array), -1)).astype(float) for array in (values, others))

    def percent(mine, theirs, number=None):
        """Of sums over runs, and the numbers of runs that they are of, if some lack: arrays (drawings, settings)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(mine == theirs, 0, 100 * (mine - theirs) / np.abs(theirs))
        if number is None:
            return each.mean(axis=1)
        return np.where(number > 0, each, 0).sum(axis=1) / (number > 0).sum(axis=1).clip(1)

    known = ~np.isnan(values)
    sums = [np.where(known, values, 0), np.where(known, others, 0)] + [known.astype(float)] * (not known.all())
    if not known.any(axis=0).all() or not sums[1].any(axis=0).all():
        return math.nan, math.nan, math.nan
    found = float(percent(*(part.sum(axis=0, keepdims=True) for part in sums))[0])
    if len(values) == 1:
        return found, math.nan, math.nan
    return (found, *interval(percent(*(drawings(len(values)) @ part for part in sums))))


def shared_draws(runs, keys):
    """The runs of those draws (each named by its `keys`) on which every method has found an allocation or schedule:
    the problem of such a run is ""."""
    return runs[runs.groupby(keys)["problem"].transform(lambda problems: (problems == "").all())]


def failures(runs, keys):
    """A row for each of keys and algorithm that has failed: how many of its draws, and what it said of the first."""
    import pandas as pd
    rows = [[*setting, len(group), (group["problem"] != "").sum(), next(filter(None, group["problem"]), "")]
            for setting, group in runs.groupby([*keys, "algorithm"], sort=False)]
    table = pd.DataFrame(rows, columns=[*keys, "algorithm", "draws", "failed", "first_reason"])
    return table[table["failed"] > 0]


def shared_line(failed):
    """A line about a table of failures()."""
    return "Only the draws on which all methods find an allocation count: " + (
        "here all do." if failed.empty else "who found none, and how often, stands first.")


def compare(runs, keys, pair, who, metrics):
    """Means over runs, and the change of the first of `who` against each of the others in paired runs, in %.

    runs: a row a run: `keys` (what was set), `pair` (what names the draw, alike for all of `who`), "algorithm", the
    metrics (NaN where a run has none: left out). Returns a table, a row for each of keys, metric and algorithm: runs,
    mean, low, high (its 95 % interval), change, change_low, change_high.
    """
    import pandas as pd
    rows = []
    for setting, group in runs.groupby(keys, sort=False):
        setting = setting if isinstance(setting, tuple) else (setting,)  # of one key: older releases of pandas
        for metric in metrics:
            values = group.pivot(index=pair, columns="algorithm", values=metric).astype(float)
            for name in who:
                own, both = values[name].dropna(), values[[who[0], name]].dropna().to_numpy().T
                changed = change(*both) if name != who[0] else [math.nan] * 3
                rows.append([*setting, metric, name, len(own), *mean(own.to_numpy()), *changed])
    columns = [*keys, "metric", "algorithm", "runs", "mean", "low", "high", "change", "change_low", "change_high"]
    return pd.DataFrame(rows, columns=columns).round(6)


# Claims ---------------------------------------------------------------------------------------------------------------
# A row: claim, reading, command, paper; ours, a mean over settings, and its interval low, high; best, of the most
# favourable, best_low, best_high, and best_in, its name; verdict.

HOLDS, IN_PART, NOT, UNTESTED = "holds", "holds in part", "does not hold", "not tested"
RULES = f"""ours: mean over all settings and methods of the reading [its 95 % interval]; most favourable: the best of
them, picked with the results known [its own interval].
A change in %: it {HOLDS} if the whole interval of ours lies at or beyond the paper's figure; it {HOLDS} in part
if that whole interval lies on the paper's side of 0, or the most favourable reaches the paper's figure ("up to"), its
interval not holding 0; else it {NOT}.
"always higher": it {HOLDS} if the whole interval of ours lies above 0, and of no setting and method below it;
in part if of some it does; else it {NOT}.
"all": ours is the share of cases (%); it {HOLDS} if that is 100 %, in part if it is 100 % in the most favourable
setting; else it {NOT}."""


def judge_change(paper, ours, best):
    """The verdict on a change in %, paper, by two of ours, each with its interval: of the mean, of the best setting."""
    if any(map(math.isnan, (*ours, *best))):
        return UNTESTED
    ours, best = ([math.copysign(1, paper) * value for value in found] for found in (ours, best))
    up_to = best[0] >= abs(paper) and min(best) > 0
    return HOLDS if min(ours) >= abs(paper) else IN_PART if min(ours) > 0 or up_to else NOT


def judge_always(ours, each):
    """The verdict on "always higher" by ours, the change with its interval, and those of each setting and method."""
    if any(map(math.isnan, ours)):
        return UNTESTED
    if ours[1] <= 0:
        return NOT
    return IN_PART if any(high < 0 for _, _, high in each) else HOLDS


def judge_all(share, best):
    """The verdict on a claim about all cases by the share (%) of those in which it is so: of all, of the best setting.
    """
    return UNTESTED if math.isnan(share) else HOLDS if share == 100 else IN_PART if best == 100 else NOT


def claim(name, reading, command, paper, ours, best, best_in, verdict):
    """A row of a table of claims. ours, best: (value, low, high)."""
    numbers = [round(float(value), 6) for value in (*ours, *best)]
    return {"claim": name, "reading": reading, "command": command, "paper": paper, "best_in": best_in,
            "verdict": verdict, **dict(zip(("ours", "low", "high", "best", "best_low", "best_high"), numbers))}


def in_settings(runs, keys, pair, metric, first, others):
    """A metric of `first` and of each of the others (names) in each setting of `keys` (see compare): two arrays (runs,
    cases), NaN where a setting has not that run; and the cases, tuples of the setting and the other's name."""
    wide = runs.pivot(index=pair, columns=[*keys, "algorithm"], values=metric)
    cases = [(*setting, name) for setting in runs[keys].drop_duplicates().itertuples(index=False) for name in others]
    mine, theirs = (wide[columns].to_numpy(float) for columns in ([(*case[:-1], first) for case in cases], cases))
    return mine, theirs, cases


def all_changes(runs, keys, pair, metric, first, others, sign):
    """Changes in % of `first` against the others over settings (see in_settings): their mean, the most favourable (of
    this sign) and what it is of, and a list of each; each with its interval."""
    import numpy as np
    mine, theirs, cases = in_settings(runs, keys, pair, metric, first, others)
    known = ~np.isnan(mine)
    each = [change(mine[known[:, k], k], theirs[known[:, k], k]) for k in range(len(cases))]
    best = max(range(len(cases)), key=lambda k: -math.inf if math.isnan(each[k][0]) else sign * each[k][0])
    return change(mine, theirs), each[best], ", ".join(map(str, cases[best])), each


def change_claims(runs, keys, pair, command, first, readings):
    """Rows of a table of claims on changes in %. readings: (claim, reading, metric, paper's figure, others)."""
    rows = []
    for name, reading, metric, paper, others in readings:
        ours, best, where, _ = all_changes(runs, keys, pair, metric, first, others, math.copysign(1, paper))
        rows.append(claim(name, reading, command, f"{paper:+.1f} %", ours, best, where,
                          judge_change(paper, ours, best)))
    return rows


def show_claims(table):
    """A table of claims as text."""
    import pandas as pd

    def show(row, *keys):
        text = show_change(*(row[key] for key in keys)).lstrip(SAME)
        return text.replace("+", "") if row["paper"].startswith("all") else text  # a share, no change

    return pd.DataFrame([{
        **{key: row[key] for key in ("claim", "reading", "command", "paper")},
        "ours (%)": show(row, "ours", "low", "high"),
        "most favourable (%)": show(row, "best", "best_low", "best_high"), "which": row["best_in"],
        "verdict": row["verdict"]} for row in table.to_dict("records")])


# Tables for reading ---------------------------------------------------------------------------------------------------


def legend(runs):
    """What the cells of the tables mean, for so many runs."""
    few = f"\n{runs} runs are few: of fewer than {FEW} the intervals are too narrow." if runs < FEW else ""
    return (f"mean \u00b1 half of its 95 % interval; change in % [its 95 % interval], in paired runs; {SAME}: the "
            f"interval holds 0.\nIntervals: bootstrap, {RESAMPLES:,} resamples.{few}")


def digits(value):
    return 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3


def show_mean(value, low, high):
    if math.isnan(value):
        return "n/a"
    half = (high - low) / 2
    return f"{value:.{digits(value)}f} \u00b1 " + ("n/a" if math.isnan(half) else f"{half:.{digits(value)}f}")


def show_change(value, low, high):
    """A change in % with its interval; SAME before it if that holds 0."""
    if math.isnan(value):
        return "n/a"
    value, low, high = (round(number, 1) + 0 for number in (value, low, high))  # + 0: no minus before a zero
    if math.isnan(low):
        return f"{value:+.1f} [n/a]"
    return f"{SAME if low <= 0 <= high else ''}{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def in_columns(part, who, units, columns, show):
    """A table of text, a row a metric of `units` (with its unit) and a column for each of `who`: what `show` makes of
    the columns of the part of a table of compare()."""
    import pandas as pd
    part = part.set_index(["metric", "algorithm"])
    rows = []
    for metric, unit in units.items():
        cells = {name: show(*part.loc[(metric, name), columns]) for name in who}
        rows.append({"metric": f"{metric} ({unit})" if unit else metric, **cells})
    return pd.DataFrame(rows)


def means(part, who, units):
    return in_columns(part, who, units, ["mean", "low", "high"], show_mean)


def changes(part, who, metrics):
    """Changes of the first of `who` against the others."""
    return in_columns(part, who[1:], dict.fromkeys(metrics, ""), ["change", "change_low", "change_high"], show_change)


# Files, terminal, figures ---------------------------------------------------------------------------------------------


def publish(name, out, parts, tables, figures):
    """Writes the files of a script, then prints what it has found.

    parts: in the order in which they are printed, lines of text, or pairs of a caption and a table, which go into the
    LaTeX file too; tables: {what it holds: table} of the CSV files; figures: {end of its name: function of a path}.
    """
    paths = common.write_files(out, {
        **{f"{name}_{what}.csv": table for what, table in tables.items()},
        f"{name}.tex": latex_writer([part for part in parts if not isinstance(part, str)]),
        **{f"{name}{end}.png": draw for end, draw in figures.items()}})
    for part in parts:
        if isinstance(part, str):
            print(part)
        else:
            print(part[0])
            print_table(part[1])
        print("")
    print(f"written: {', '.join(paths)}")


def print_table(table):
    """Prints all of a table, its long names stacked, numbers to the right, with two spaces between columns: cells such
    as means hold one."""
    number = re.compile(r"[~+-]*(\d|inf)|nan|n/a|not tested|$")
    names = [column.replace("_", " ").split() for column in table]
    height, columns = max(map(len, names)), []
    for name, column in zip(names, table):
        cells = [common.format_value(cell) for cell in table[column].tolist()]
        lines = [""] * (height - len(name)) + name + cells
        width, is_text = max(map(len, lines)), not all(map(number.match, cells)) or not columns
        columns.append([line.ljust(width) if is_text else line.rjust(width) for line in lines])
    for line in zip(*columns):
        print("  ".join(line).rstrip())


def latex_writer(parts):
    """Function of a path that writes tables as LaTeX (booktabs): parts is a list of (caption, table)."""
    marks = {"\\": r"\textbackslash{}", "\u00b1": r"$\pm$", "~": r"$\sim$", "^": r"\^{}",
             **{mark: "\\" + mark for mark in "%&_#${}"}}

    def text(cell):
        return "".join(marks.get(letter, letter) for letter in common.format_value(cell))

    lines = [r"% \usepackage{booktabs}"]
    for caption, table in parts:
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{text(caption)}}}",
                  rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule",
                  " & ".join(map(text, table)) + r" \\", r"\midrule",
                  *(" & ".join(map(text, row)) + r" \\" for row in table.to_numpy()),
                  r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return lambda path: pathlib.Path(path).write_text("\n".join(lines), encoding="utf-8")


def look(k):
    """Fill of the k-th method's bars: a colour and a hatch, of which no two of 36 methods share both."""
    return COLOURS[k % 6], HATCHES[(k + k // 6) % 6]


def draw_bars(path, panels, groups, who, table, columns=None):
    """Draws means with their 95 % intervals as bars, one journal column wide: a row of panels for each metric.

    panels: a list of (metric, axis label with its unit); groups: the key of `table` (one of compare()) whose values
    stand on the x axis; who: the algorithms, a bar each; columns: the key whose values have a column of panels each.
    Over bars that are all equal, to 1 %, stands "alike".
    """
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure
    values = [None] if columns is None else table[columns].unique().tolist()
    names, width, keys = table[groups].unique().tolist(), 0.84 / len(who), {}
    crowded = len(names) * len(values) > 6
    with matplotlib.rc_context({"hatch.linewidth": 0.4}):
        figure = Figure((3.5, 0.75 + 0.85 * len(panels) + 0.15 * (len(who) // 6) + 0.4 * crowded), dpi=300)
        plots = figure.subplots(len(panels), len(values), sharex=True, sharey="row", squeeze=False)
        for (metric, label), row in zip(panels, plots):
            for value, axes in zip(values, row):
                part = table[(table["metric"] == metric) & (columns is None or table[columns] == value)]
                for k, name in enumerate(who):
                    bars = part[part["algorithm"] == name].set_index(groups).reindex(names)
                    at = np.arange(len(names)) + (k - (len(who) - 1) / 2) * width
                    colour, hatch = look(k)
                    keys[name] = axes.bar(at, bars["mean"], width, color=colour, hatch=hatch, edgecolor="black",
                                          linewidth=0.4)
                    ends = np.array([bars["mean"] - bars["low"], bars["high"] - bars["mean"]])
                    axes.errorbar(at, bars["mean"], np.nan_to_num(ends).clip(0), fmt="none", ecolor="black",
                                  elinewidth=0.7, capsize=1.5, capthick=0.7)
                if len(who) > 2:
                    ends = part.groupby(groups)["mean"].agg(["min", "max"]).reindex(names)
                    for k in np.flatnonzero(ends["max"] - ends["min"] <= 0.01 * ends["max"]):
                        axes.text(k, 0.5, "alike", transform=axes.get_xaxis_transform(), fontsize=6.5, rotation=90,
                                  ha="center", va="center", bbox=dict(boxstyle="square,pad=0.15", fc="white", lw=0))
                if (part["mean"] < 0).any():
                    axes.axhline(0, color="black", linewidth=0.6)
                axes.locator_params(axis="y", nbins=4)
            if (table["mean"][table["metric"] == metric] >= 0).all():
                row[0].set_ylim(bottom=0)
            row[0].set_ylabel(label, fontsize=7)
        for value, top, bottom in zip(values, plots[0], plots[-1]):
            if value is not None:
                top.set_title(common.shorten(value), fontsize=8)
            bottom.set_xticks(range(len(names)))
            labels = [textwrap.fill(common.shorten(name), 16 if crowded else 8, break_long_words=False)
                      for name in names]
            bottom.set_xticklabels(labels, rotation=90 if crowded else 0)
            bottom.set_xlabel(groups, fontsize=8)
        figure.align_ylabels(plots[:, 0])
        common.finish(figure, path, keys)


def draw_charts(path, charts):
    """Draws schedules one above the other on one scale of time: (title, the tables of simulate in seconds) of each."""
    import numpy as np
    from matplotlib.figure import Figure
    rows = min(max(3, len(charts[0][1])), common.PLOT_ROWS)
    figure, keys = Figure((3.5, 0.85 + len(charts) * (0.45 + 0.2 * rows)), dpi=300), {}
    plots = figure.subplots(len(charts), 1, squeeze=False)[:, 0]
    drawn = [common.draw_schedule(axes, *chart) for axes, chart in zip(plots, charts)]
    left, right = (end(ends) for end, ends in zip((min, max), zip(*(axes.get_xlim() for axes in plots))))
    for axes, (_, result, _), more in zip(plots, charts, drawn):
        axes.set_xlim(left, right)
        if axes is not plots[-1]:
            axes.set_xlabel("")
            axes.set_xticklabels([])
        if "deadline later" in more:  # than the end of the scale that this chart alone would have
            later = more["deadline later"]
            rows = result.sort_values("arrival_time", kind="stable").iloc[later.get_ydata()]
            later.set_xdata(np.minimum(rows["deadline"].to_numpy(), right))
            if (rows["deadline_met"] & (rows["deadline"] <= right)).all():
                later.set_marker("|")
                del more["deadline later"]
        keys.update(more)
    common.finish(figure, path, keys)
