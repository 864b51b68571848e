"""The frame of every study: flags, runs of many cases, tables of means and changes, files, two kinds of figure.

A study has its settings at the top, three functions, and one call (reproduce/devices.py is the shortest):

    def cases(args):  # args: the flags, and args.methods = {name: script}; returns a tuple for each case
        return [(load, args.seed + k, args.methods) for load in LOADS for k in range(args.runs)]

    def run_case(load, seed, methods):  # returns rows: what was set, what names the draw, "algorithm", the metrics
        return [dict(load=load, seed=seed, algorithm=name, gap=gap(load, seed, script(path).schedule))
                for name, path in methods.items()]

    def report(runs):  # the table of all rows; returns parts to print, tables to write, figures to draw: see publish
        who = list(runs["algorithm"].unique())
        table = stats.compare(runs, ["load"], "seed", who, ["gap"])
        parts = ["heading", ("gaps", "Gaps (s)", means(table, ["load"], who))]
        return parts, {"table": table}, {"": (draw_lines, {"gap": "gap (s)"}, "load", who, table)}

    run("gaps", __doc__, cases, run_case, report, RUNS, ["load", "seed", "gap"], POLICIES, seed=SEED, out=OUT)

The rows are always written to NAME_runs.csv and read again, so that `--from DIR` makes the same of them later: what a
heading says of the settings must stand in columns.
"""
import contextlib
import functools
import importlib.util
import io
import itertools
import math
import os
import re
import sys
import textwrap

import numpy as np
import pandas as pd

import common
from reproduce import cluster, keep, stats
from reproduce.parallel import parallel

ALLOCATORS = {"FCIM": "FCIM", "FCIM_links": "reproduce.FCIM_links", "HexGen": "HexGen", "PipeDream": "PipeDream",
              "PipeEdge": "PipeEdge"}
REFERENCES = {"Cheapest": "reproduce.Cheapest", "LeastLatency": "reproduce.LeastLatency"}  # allocators
POLICIES = {"ADSA": "ADSA", "FCFS": "FCFS", "SRTF": "SRTF", "LLF": "LLF", "EDF": "reproduce.EDF"}
OUT = "results"  # where the files go
MEAN = ["mean", "low", "high"]  # columns of stats.compare
CHANGE = ["change", "change_low", "change_high"]
TEXTS = ("problem", "tasks_file", "proof")  # columns of runs in which an empty cell is an empty text
WHOLE = "1/1"  # the share of all cases
PAGE_ROWS = 50  # a longer LaTeX table goes over several pages
PLACES = {}  # {path of a user's file: where it stands}, on a worker of reproduce/cluster.py


# A run ----------------------------------------------------------------------------------------------------------------
def run(name, doc, cases, run_case, report, runs, needed, methods=None, more=(), flags=None, **settings):
    """Runs a study.

    runs: cases of each setting; needed: columns that the table of runs must have; methods: {name: script} of what is
    compared, as args.methods, to which --also adds; more: names of further tables, NAME_{more}.csv: run_case then
    returns a tuple of lists of rows, and report takes a table of each; flags: function of the parser that adds flags of
    the study's own; settings: those at the top of the script, in lower case, that a flag may override.
    """
    def main(title):
        parser = make_parser(title, doc, runs, methods, settings)
        if flags:
            flags(parser)
        args = parser.parse_args()
        check_writable(args.out, "--out")
        files = [f"{name}_{what}.csv" for what in ("runs", *more)]
        if args.source is None:
            check_settings(args, methods)
            found = run_cases(name, run_case, cases(args), args)
            found = found if more else [[rows] for rows in found]
            tables = [pd.DataFrame(itertools.chain.from_iterable(parts)) for parts in zip(*found)]
            common.write_files(args.out, dict(zip(files, tables)))
            tables = [read_runs(args.out, file) for file in files]  # runs may lack metrics that no method has
        else:
            refuse_without_effect(parser, args)
            tables = [read_runs(args.source, file, needed if file == files[0] else ()) for file in files]
        publish(name, args, *report(*tables))
    common.run(main, f"reproduce.{name}")


def run_cases(name, run_case, jobs, args):
    """[run_case(*job) for job in jobs], of which --keep may have some already, on all cores, or on Dask's workers."""
    run = functools.partial(parallel, run_case)
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")  # Dask's own variable
    if address:
        run = functools.partial(cluster.on_dask, address, keep.files(run_case, args), run_case)
    try:
        if args.keep is not None:
            return keep.run_missing(run, name, keep.head_of(run_case, args), jobs, args.keep, args.share)
        found = {}
        run(jobs, found.__setitem__)
        return [found[k] for k in range(len(jobs))]
    except KeyboardInterrupt:
        hint = "the same command goes on" if args.keep else "nothing is kept, as it would be with --keep DIR"
        raise KeyboardInterrupt(f"interrupted: {hint}") from None


def check_writable(folder, flag):
    """UserError unless the folder can be written in, or made: a study may run for hours before it writes."""
    parent = os.path.abspath(folder)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    is_open = os.path.isdir(parent) and os.access(parent, os.W_OK)
    common.require(is_open, f"{flag} {folder}: {parent} is not a folder that can be written in")


def make_parser(title, doc, runs, methods, settings):
    parser = common.make_parser(title, doc, **settings)
    parser.add_argument("--runs", metavar="N", type=int, default=runs, help="random cases of each setting")
    parser.add_argument("--from", dest="source", metavar="DIR",
                        help="run nothing: make tables and figures of the runs that are stored in DIR")
    parser.add_argument("--keep", metavar="DIR",
                        help="keep each finished case in DIR: the same command goes on after an interruption")
    parser.add_argument("--share", metavar="K/N", default=WHOLE,
                        help="with --keep: of the cases only every N-th, from the K-th on")
    parser.add_argument("--format", choices=["png", "pdf"], default="png", help="pdf: figures as PDF besides PNG")
    if methods:
        parser.add_argument("--also", metavar="SCRIPT.py", action="append", default=[],
                            help="a script of your own to compare as well (may be given again)")
    return parser


def check_settings(args, methods):
    """Whole numbers for --runs and --seed; the names that flags give; (K, N) of --share; all that is compared, as
    args.methods."""
    if args.keep is not None:
        check_writable(args.keep, "--keep")
    common.require(args.keep is not None or args.share == WHOLE, "--share: needs --keep")
    share = re.fullmatch(r"(\d+)/(\d+)", args.share)
    k, n = map(int, share.groups()) if share else (0, 0)
    common.require(0 < k <= n, f"--share: {common.shown(args.share)} is not one of 1/n, 2/n ... n/n")
    args.share = (k, n)
    args.runs = int(common.check_number(args.runs, "--runs", whole=True, least=1))
    args.seed = int(common.check_number(args.seed, "--seed", whole=True))
    if "link" in args:
        args.link = common.find_name(args.link, common.LINKS, "link")
    args.methods = {**methods, **further_methods(args.also, methods)} if methods else {}


def refuse_without_effect(parser, args):
    """UserError if, beside --from, a flag is given that has no effect then."""
    for key, value in vars(args).items():
        has_effect = key in ("source", "out", "no_plot", "format")
        common.require(has_effect or value == parser.get_default(key),
                       f"--{key.replace('_', '-')}: has no effect with --from")


def read_runs(folder, file, needed=()):
    """A table of runs, with these columns, as it is once read from its file: so it is the same now and later."""
    path = os.path.join(folder, file)
    try:
        runs = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str))
    except OSError as error:
        raise common.UserError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # of pandas, or not UTF-8
        raise common.UserError(f"{path}: not a CSV file ({common.format_value(error)})") from error
    missing = [key for key in needed if key not in runs]
    common.require(not missing, f"{path}: has no column {', '.join(missing)}")
    common.require(len(runs), f"{path}: has no rows")
    return runs.fillna({key: "" for key in TEXTS if key in runs})


# What is compared -----------------------------------------------------------------------------------------------------
def further_methods(paths, methods):
    """{name: path} of the scripts that --also names. Each has an allocate or a schedule, as the methods have."""
    known = set().union(*(vars(script(path)) for path in methods.values()))
    needed = known & {"allocate", "schedule"}
    found = {}
    for path in paths:
        common.require(path.endswith(".py"), f"--also {path}: is not the path of a SCRIPT.py")
        name = os.path.splitext(os.path.basename(path))[0]
        try:
            module = script(path)
        except (Exception, SystemExit) as error:  # whatever a script of the user's may raise
            raise common.UserError(f"--also {path}: {type(error).__name__}: {common.format_value(error)}") from error
        common.require(needed & set(vars(module)), f"--also {path}: has no function {' or '.join(sorted(needed))}")
        common.require(name not in {**methods, **found}, f"--also {path}: there is a method {name} already")
        found[name] = path
    return found


@functools.lru_cache(None)
def script(name):
    """The module of this name, or of a script of the user's, by the path of its file."""
    name = PLACES.get(name, name)
    if not name.endswith(".py"):
        return importlib.import_module(name)
    folder, file = os.path.split(name)
    sys.path.append(folder)  # what it imports from beside it
    spec = importlib.util.spec_from_file_location(file[:-3], name)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def errors_of(name):
    """Says of a UserError whose it is: a method of the user's may return what is no allocation, or no schedule."""
    try:
        yield
    except common.UserError as error:
        raise common.UserError(f"{name}: {error}") from error


# Cases ----------------------------------------------------------------------------------------------------------------
def add_model_and_pool(parser, models, pools):
    """Flags --model and --pool of a study that has several of both."""
    for flag, names in (("--model", models), ("--pool", pools)):
        parser.add_argument(flag, metavar="NAME", action="append",
                            help=f"in place of {', '.join(names)} (may be given again)")


def models_and_pools(args, models, pools):
    """The (model, name of a pool) of such a study: those of its flags, or else these names."""
    models = [common.get_model(name) for name in args.model or models]
    pools = [common.find_name(name, common.POOLS, "pool") for name in args.pool or pools]
    settings = list(itertools.product(models, pools))
    for model, pool in settings:
        common.allocation_case(args.tasks, model, pool, args.seed)  # says what is wrong with the list
    return settings


def quiet_case(*arguments):
    """common.allocation_case for one of many draws, without its warnings, which the first draw has given."""
    arguments = [PLACES.get(value, value) if isinstance(value, str) else value for value in arguments]
    with contextlib.redirect_stderr(io.StringIO()):
        return common.allocation_case(*arguments)


def work_and_links(stages, case):
    """Microseconds that each task takes in each stage, all-reduces within: (tasks, stages); and that each link takes,
    from the client on to the client: (stages + 1,)."""
    groups = [stage["devices"] for stage in stages]
    layers = np.array([stage["layers"] for stage in stages])
    compute, allreduce, links = common.stage_times(groups, layers, case["delay"], case["times"])
    return compute + allreduce, links


def task_lists(args, *drawn):
    """Task tables in order of arrival: that of --tasks, or a random one for each of --runs. drawn: what random_tasks is
    given, from number to load."""
    model = common.get_model(args.model)
    device = common.get_device(args.device)
    if args.tasks is not None:
        return [common.read_tasks(args.tasks, model, [device]).sort_values("arrival_time", kind="stable")]
    return [random_tasks(np.random.default_rng((args.seed, run)), *drawn, model, device) for run in range(args.runs)]


def random_tasks(draw, number, prompt, output, trans, factor, load, model, device, in_words=False):
    """Task table of a random list, in order of arrival.

    draw: numpy's Generator; prompt, output (tokens), trans (s), factor: the least and the most; load: computation over
    span of the arrivals, evenly spread; None: Poisson arrivals, one a second; a deadline is arrival + factor x
    (computation + transmission). The tasks that a draw gives are the same at all loads, but for arrivals and deadlines.
    in_words: prompt and output are words, not tokens.
    """
    rows = pd.DataFrame({"label": [f"Task {k + 1}" for k in range(number)], "prompt": "", "output_words": 0,
                         "arrival_time": 0, "deadline": 0})
    rows["prompt_tokens"] = draw.integers(*prompt, number, endpoint=True)
    rows["output_tokens"] = draw.integers(*output, number, endpoint=True)
    rows["trans_time"] = draw.uniform(*trans, number)
    factors = draw.uniform(*factor, number)

    if in_words:
        tokens = ["prompt_tokens", "output_tokens"]
        rows[tokens] = common.count_tokens(rows[tokens])
    most = model.context - rows["prompt_tokens"].max()
    rows["output_tokens"] = rows["output_tokens"].clip(upper=most)  # so that none runs capped
    tasks = common.read_tasks(rows.to_dict("records"), model, [device])
    if load is None:
        tasks["arrival_time"] = common.microseconds(draw.exponential(1, number).cumsum())
    else:
        arrival = np.sort(draw.uniform(0, 1, number))
        tasks = at_load(tasks.assign(arrival_time=arrival - arrival[0]), load)
    allowed = factors * (tasks["computation_time"] + tasks["trans_time"])
    return tasks.assign(deadline=tasks["arrival_time"] + np.rint(allowed).astype("int64"))


def at_load(tasks, load):
    """The tasks, their arrivals stretched or squeezed from the first one on so that computation / span of the arrivals
    is the load; deadlines stay as long after the arrivals as they were."""
    arrival = tasks["arrival_time"]
    since = arrival - arrival.min()
    factor = tasks["computation_time"].sum() / since.max() / load
    stretched = np.rint(arrival + since * (factor - 1)).astype("int64")
    return tasks.assign(arrival_time=stretched, deadline=tasks["deadline"] + stretched - arrival)


# Tables ---------------------------------------------------------------------------------------------------------------
def means(table, rows, who, units=None):
    """Text: a row for each value of the columns `rows`, a column for each of `who`: its mean and half of its interval.

    table: of stats.compare; who: names in its column "algorithm"; units: {metric: unit}, beside the metrics then.
    """
    if units:
        table = table.assign(metric=table["metric"].map(lambda metric: with_unit(metric, units)))
    return in_columns(table, rows, who, MEAN, show_mean)


def changes(table, rows, who):
    """The same of the change in % of the first of `who` against each of the others."""
    return in_columns(table, rows, who[1:], CHANGE, show_change)


def means_of(table, rows, who, captions):
    """Parts to print: the means of each metric, {metric: caption}."""
    return [(metric, caption, means(table[table["metric"] == metric], rows, who))
            for metric, caption in captions.items()]


def own_changes(runs, rows, pair, who, metrics):
    """Parts to print: a table for each method of the user's (--also): its change in % against each of the others, a row
    for each of `rows` (keys) and metric. Arguments: see stats.compare."""
    parts = []
    for name in [name for name in who if name not in LOOKS]:
        order = sorted(who, key=lambda other: other != name)  # it comes first
        table = stats.compare(runs, rows, pair, order, metrics)
        text = changes(table, [*rows, "metric"], order)
        parts.append((f"{name}_by_{rows[-1]}", f"Change of {name} in % against each", text))
    return parts


def in_columns(table, rows, who, shown, show):
    lines = []
    for key, part in table.groupby(rows, sort=False):
        key = key if isinstance(key, tuple) else (key,)  # of one column: older releases of pandas
        values = part.set_index("algorithm")[shown]
        settings = dict(zip(rows, map(show_setting, key)))
        lines.append({**settings, **{name: show(*values.loc[name]) for name in who}})
    text = pd.DataFrame(lines)
    text.attrs["keys"] = len(rows)
    return text


def show_setting(value):
    return f"{value:g}" if isinstance(value, float) else value


def with_unit(metric, units):
    return f"{metric} ({units[metric]})" if units[metric] else metric


def show_mean(value, low, high):
    if math.isnan(value):
        return "n/a"
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    text = f"{value:.{digits}f}"
    return text if math.isnan(low) else f"{text} \u00b1 {(high - low) / 2:.{digits}f}"  # one run has no interval


def show_change(value, low, high):
    """A change in % with its interval, if that has a width; ~ before it if it holds 0."""
    if math.isnan(value):
        return "n/a"
    value, low, high = (round(number, 1) + 0 for number in (value, low, high))  # + 0: no minus before a zero
    if math.isnan(low) or low == high:
        return f"{value:+.1f}"
    return f"{'~' if low <= 0 <= high else ''}{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def legend(runs, changes=True, means=True):
    """What the cells of such tables mean, for so many runs; changes, means: whether there are tables of them."""
    cells = []
    if means:
        cells.append("mean \u00b1 half of its 95 % interval")
    if changes:
        cells.append("change in % [its 95 % interval], in paired runs; ~: it holds 0")
    few = f"\n{runs} runs are few: of fewer than {stats.FEW} the intervals are too narrow." if runs < stats.FEW else ""
    return f"{'; '.join(cells)}.\nIntervals: bootstrap, {stats.RESAMPLES:,} resamples.{few}"


def on_shared_draws(runs, keys):
    """The runs of the draws on which every method has found an allocation, and parts about the others."""
    shared = stats.shared_draws(runs, [*keys, "seed"])
    if shared.empty:
        raise common.NoAllocation(f"no draw on which every method finds an allocation: {runs['problem'].max()}")
    failed = stats.failures(runs, keys)
    if failed.empty:
        return shared, []
    failed = failed.assign(**{key: failed[key].map(show_setting) for key in keys})
    return shared, ["Only the draws on which all methods find an allocation count.",
                    ("failures", "Draws without an allocation", failed)]


# Files ----------------------------------------------------------------------------------------------------------------
def publish(name, args, parts, tables, figures):
    """Prints what a study has found, and writes its files.

    parts: in the order in which they are printed: a text, or (name, caption, table), which is a LaTeX file too; tables:
    {what it holds: table} of the CSV files; figures: {end of the file's name: (function that draws it, its arguments)}.
    """
    files = {f"{name}_{what}.csv": table for what, table in tables.items()}
    for what, caption, table in (part for part in parts if not isinstance(part, str)):
        files[f"{name}_{what}.tex"] = in_latex(table, caption, f"{name}_{what}")
    paths = common.write_files(args.out, files)
    for end, drawing in ({} if args.no_plot else figures).items():
        for kind in sorted({"png", args.format}):
            paths += common.write_figure(args.out, f"{name}{end}.{kind}", *drawing)

    for part in parts:
        if isinstance(part, str):
            print(part)
        else:
            print(part[1])
            common.print_table(part[2], keys=part[2].attrs.get("keys", 1))
        print("")
    shown = [path for path in paths if not path.endswith(".tex")] + [os.path.join(args.out, f"{name}_*.tex")]
    common.print_lines(f"written: {', '.join(shown)}")


def in_latex(table, caption, label):
    r"""A table for \usepackage{booktabs,graphicx,longtable}: made smaller where it is wider than the text; one that is
    longer than a page goes over several."""
    kinds = "l" + "".join("l" if is_text(table[key]) else "r" for key in list(table)[1:])
    cells = [[key.replace("_", " ") for key in table], *table.itertuples(index=False)]
    head, *rows = (" & ".join(escaped(common.format_value(cell)) for cell in line) + r" \\" for line in cells)
    body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    caption = rf"\caption{{{escaped(caption)}}}\label{{tab:{label.replace('_', '-')}}}"
    lines = [r"% \usepackage{booktabs,graphicx,longtable}"]
    if len(table) > PAGE_ROWS:
        lines += [r"{\scriptsize\setlength{\tabcolsep}{3pt}", rf"\begin{{longtable}}{{{kinds}}}", caption + r" \\",
                  *body, r"\end{longtable}}"]
    else:
        lines += [r"\begin{table*}\centering\footnotesize\setlength{\tabcolsep}{3pt}", caption,
                  r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
                  rf"\begin{{tabular}}{{{kinds}}}", *body, r"\end{tabular}}", r"\end{table*}"]
    return "\n".join([*lines, ""])


def is_text(column):
    return not all(re.fullmatch(r"[~+-]?(\d|inf\b).*|nan|n/a|", common.format_value(cell)) for cell in column)


def escaped(text):
    """A text for LaTeX, with minus signs."""
    text = re.sub(r"(?<![\w.)-])-(?=\d|inf)", "\u2212", text)
    marks = {"\\": r"\textbackslash{}", "\u00b1": r"$\pm$", "\u2212": "$-$", "~": r"$\sim$", "^": r"\^{}",
             "[": "{[}", "*": "{*}"}  # [ and *: after \\ they would be options of it
    return text.translate(str.maketrans({**{letter: f"\\{letter}" for letter in "%&_#${}"}, **marks}))


# Figures --------------------------------------------------------------------------------------------------------------
GREEN, PURPLE, YELLOW = "#009E73", "#CC79A7", "#F0E442"  # Okabe and Ito's, as common's
# One look for each method in all figures: colour, hatch of bars, marker and style of lines.
LOOKS = {
    "FCIM": (common.BLUE, "", "o", "-"), "FCIM_links": (common.SKY, "/////", "s", "--"),
    "HexGen": (common.ORANGE, ".....", "^", "-."), "PipeDream": (common.RED, "\\\\\\\\\\", "v", ":"),
    "PipeEdge": (GREEN, "xxxxx", "D", "--"), "Cheapest": (PURPLE, "-----", "P", "-."),
    "LeastLatency": ("0.6", "+++++", "X", ":"), "ADSA": (common.BLUE, "", "o", "-"),
    "FCFS": ("0.6", "/////", "s", "--"), "SRTF": (common.ORANGE, ".....", "^", "-."),
    "LLF": (common.RED, "\\\\\\\\\\", "v", ":"), "EDF": (GREEN, "xxxxx", "D", "--"),
    "optimal (makespan)": ("white", "", "P", "-."), "optimal (turnaround)": ("white", "-----", "X", ":"),
}
OTHERS = [("black", "", "*", "-"), (YELLOW, "ooo", "p", "--"), ("0.4", "|||||", "h", "-."), ("0.8", "OOO", "d", ":")]


def looks(who):
    """{name: its look}: methods of the user's get those that are left, in turn."""
    own = [name for name in who if name not in LOOKS]
    return {**{name: OTHERS[k % len(OTHERS)] for k, name in enumerate(own)}, **LOOKS}


def draw_bars(panels, groups, who, table, title=""):
    """Figure of means with their 95 % intervals as bars, one journal column wide.

    panels: {metric: axis label with its unit}, a panel each; groups: the column of `table` (one of stats.compare) whose
    values stand on the x axis; who: the algorithms, a bar each; title: above the first panel.
    """
    import matplotlib
    matplotlib.rcParams["hatch.linewidth"] = 0.4  # by some releases read when it is drawn, by others when it is written
    figure = common.new_figure(0.75 + 0.85 * len(panels) + 0.15 * (len(who) // 6))
    plots = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    names = table[groups].unique().tolist()
    places = np.arange(len(names))
    width = 0.84 / len(who)
    look = looks(who)
    keys = {}
    for (metric, label), axes in zip(panels.items(), plots):
        part = table[table["metric"] == metric]
        for k, name in enumerate(who):
            bars = part[part["algorithm"] == name].set_index(groups).reindex(names)
            colour, hatch, _, _ = look[name]
            at = places + (k - (len(who) - 1) / 2) * width
            keys[name] = axes.bar(at, bars["mean"], width, color=colour, hatch=hatch, edgecolor="black", linewidth=0.4)
            ends = np.array([bars["mean"] - bars["low"], bars["high"] - bars["mean"]])
            axes.errorbar(at, bars["mean"], np.nan_to_num(ends).clip(0), fmt="none", ecolor="black", elinewidth=0.7,
                          capsize=1.5, capthick=0.7)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.locator_params(axis="y", nbins=4)
        axes.set_ylabel(label, fontsize=7)
    plots[0].set_title(title)
    plots[-1].set_xticks(places)
    plots[-1].set_xticklabels([textwrap.fill(common.shorten(name), 8, break_long_words=False) for name in names])
    plots[-1].set_xlabel(groups)
    figure.align_ylabels(plots)
    return common.finish_figure(figure, keys)


def draw_lines(panels, x, who, table, beside=None, log=(), marks=()):
    """Figure of means over the column `x`, a line with its 95 % band for each of `who`, one journal column wide.

    panels: {metric: axis label with its unit}, a row of panels each; beside: a setting, whose values stand beside one
    another, a panel each; log: x, or metrics, on a logarithmic scale; marks: {metric: (value, name)}, a dashed line.
    x, beside: names of columns of `table` (one of stats.compare).
    """
    pieces = [("", table)]
    if beside is not None:
        pieces = [(f"{beside} {show_setting(value)}", piece) for value, piece in table.groupby(beside, sort=False)]
    figure = common.new_figure(0.9 + min(1.25 * len(panels), 5) + 0.13 * (len(who) // 3))
    plots = figure.subplots(len(panels), len(pieces), squeeze=False, sharex=True, sharey="row")
    look = looks(who)
    keys = {}
    for (title, piece), column in zip(pieces, plots.T):
        for metric, axes in zip(panels, column):
            part = piece[piece["metric"] == metric]
            for name in who:
                line = part[part["algorithm"] == name].sort_values(x)
                colour, _, marker, style = look[name]
                axes.fill_between(line[x], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
                keys[name], = axes.plot(line[x], line["mean"], color=colour, marker=marker, linestyle=style,
                                        linewidth=1, markersize=3)
            axes.grid(color="0.92", linewidth=0.5)
            if (part["mean"] < 0).any():
                axes.axhline(0, color="black", linewidth=0.6)
            if metric in marks:
                value, name = marks[metric]
                keys[name] = axes.axhline(value, color="black", linestyle="--", linewidth=1)
            if x in log:
                axes.set_xscale("log", base=2)
                axes.xaxis.set_major_formatter("{x:g}")
            elif table[x].nunique() <= 6:
                axes.set_xticks(table[x].unique())
            elif table[x].dtype.kind == "i":
                axes.locator_params(axis="x", integer=True)
            if metric in log:
                axes.set_yscale("log", base=2)
                axes.yaxis.set_major_formatter("{x:g}")
        column[0].set_title(title)
        column[-1].set_xlabel(x)
    for axes, label in zip(plots[:, 0], panels.values()):
        axes.set_ylabel(textwrap.fill(label, 20), fontsize=7)
    figure.align_ylabels(plots[:, 0])
    return common.finish_figure(figure, keys)
