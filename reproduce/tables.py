"""What the scripts of reproduce/ share: flags, earlier runs, further scripts; tables and bars."""
import contextlib
import functools
import importlib
import importlib.util
import io
import math
import os
import pathlib
import sys
import textwrap

import numpy as np
import pandas as pd

import common
from reproduce import latex, stats

TEXTS = ["algorithm", "model", "pool", "asked", "device", "rule", "problem", "regime", "label", "kind", "link",
         "tasks_file", "proof", "setting", "allocator"]  # columns of runs
SAME = "~"  # stands before a change whose interval holds 0
COLOURS = (common.BLUE, common.SKY, common.ORANGE, common.RED, "white", "0.75")
HATCHES = ("", "/////", ".....", "\\\\\\\\\\", "xxxxx", "-----")


# Flags, earlier runs, further scripts ---------------------------------------------------------------------------------


def add_flags(parser, runs, also=False):
    """The flags that common.make_parser does not know: --runs, --from, and --also."""
    parser.add_argument("--runs", metavar="N", type=int, default=runs, help="random cases of each setting")
    parser.add_argument("--from", metavar="DIR", dest="source",
                        help="run nothing: tables and figures of the runs that an earlier run has written into DIR")
    parser.add_argument("--format", choices=["png", "pdf"], default="png", help="pdf: figures as PDF besides PNG")
    if also:
        parser.add_argument("--also", metavar="SCRIPT.py", action="append", default=[],
                            help="a script of your own to compare as well (may be given again)")


def get_runs(parser, args, read, draw_all):
    """The runs: read(folder) with --from, else draw_all(args). UserError if, beside --from, a flag is given that has no
    effect then. --runs and --seed are whole numbers then, and files can be written."""
    common.check_writable(args.out)
    if args.source is None:
        args.runs = int(common.check_number(args.runs, "--runs", whole=True, positive=True))
        args.seed = int(common.check_number(args.seed, "--seed", whole=True))
        return draw_all(args)
    for key, value in vars(args).items():
        common.require(key in ("source", "out", "no_plot", "format") or value == parser.get_default(key),
                       f"--{key.replace('_', '-')}: has no effect with --from")
    return read(args.source)


def as_written(runs):
    """A table of runs as it is once read from its CSV file, so that what is made of it now and later is the same."""
    return parse_runs(io.StringIO(runs.to_csv(index=False)))


def parse_runs(file):
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
    """Module of this name, or of a script of the user's, by the whole path of its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    folder, file = os.path.split(name)
    if folder not in sys.path:
        sys.path.append(folder)  # what it imports from beside it
    spec = importlib.util.spec_from_file_location(file[:-3], name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_scripts(scripts, also, function):
    """{name: what `script` takes} of the methods compared: `scripts`, and the further ones `also` (paths) of the
    user's, each of which must have the function."""
    methods = dict(scripts)
    for given in also:
        where = f"--also {given}"
        path = os.path.abspath(given)
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


# Tables for reading ---------------------------------------------------------------------------------------------------


def legend(runs):
    """What the cells of the tables mean, for so many runs."""
    few = f"\n{runs} runs are few: of fewer than {stats.FEW} the intervals are too narrow." if runs < stats.FEW else ""
    return (f"mean \u00b1 half of its 95 % interval; change in % [its 95 % interval], in paired runs; {SAME}: the "
            f"interval holds 0.\nIntervals: bootstrap, {stats.RESAMPLES:,} resamples.{few}")


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
    texts = {(metric, name): show(*values)
             for metric, name, *values in part[["metric", "algorithm", *columns]].itertuples(index=False)}
    rows = []
    for metric, unit in units.items():
        cells = {name: texts[metric, name] for name in who}
        rows.append({"metric": f"{metric} ({unit})" if unit else metric, **cells})
    return pd.DataFrame(rows)


def means(part, who, units):
    return in_columns(part, who, units, ["mean", "low", "high"], show_mean)


def changes(part, who, metrics):
    """Changes of the first of `who` against the others."""
    return in_columns(part, who[1:], dict.fromkeys(metrics, ""), ["change", "change_low", "change_high"], show_change)


def shared_line(failed):
    """A line about a table of failures()."""
    return "Only the draws on which all methods find an allocation count: " + (
        "here all do." if failed.empty else "who found none, and how often, stands first.")


# Files, terminal, figures ---------------------------------------------------------------------------------------------


def publish(name, out, parts, tables, figures, form="png"):
    """Writes the files of a script, then prints what it has found.

    parts: in the order in which they are printed, lines of text, or tuples of a caption, a table and, perhaps, whether
    more (1) or less (-1) is better in all of its rows: each such table is a LaTeX file too. tables: {what it holds:
    table} of the CSV files; figures: {end of its name: Figure, or None}; form: "pdf" writes them as PDF besides PNG.
    """
    for_latex = latex.files(name, [part for part in parts if not isinstance(part, str)])
    files = {f"{name}_{what}.csv": table for what, table in tables.items()}
    for end, figure in figures.items():
        files[f"{name}{end}.png"] = figure
        if form == "pdf":
            files[f"{name}{end}.pdf"] = figure
    paths = common.write_files(out, {**files, **for_latex})
    for part in parts:
        if isinstance(part, str):
            print(part)
        else:
            print(part[0])
            print_table(part[1])
        print("")
    others = [path for path in paths if not path.endswith(".tex")]
    print(f"written: {', '.join(others)}, and {len(for_latex)} tables in {os.path.join(out, name)}_*.tex")


def print_table(table):
    """Prints all of a table, its long names stacked, numbers to the right, with two spaces between columns: cells such
    as means hold one."""
    names = [column.replace("_", " ").split() for column in table]
    height = max(map(len, names))
    columns = []
    for name, column in zip(names, table):
        cells = [common.format_value(cell) for cell in table[column].tolist()]
        lines = [""] * (height - len(name)) + name + cells
        width = max(map(len, lines))
        is_text = not all(map(latex.NUMBER.match, cells)) or not columns
        columns.append([line.ljust(width) if is_text else line.rjust(width) for line in lines])
    for line in zip(*columns):
        print("  ".join(line).rstrip())


def look(k):
    """Fill of the k-th method's bars: a colour and a hatch, of which no two of 36 methods share both."""
    return COLOURS[k % 6], HATCHES[(k + k // 6) % 6]


def draw_bars(panels, groups, who, table, title=None):
    """Figure of means with their 95 % intervals as bars, one journal column wide: a panel for each metric.

    panels: a list of (metric, axis label with its unit); groups: the key of `table` (one of stats.compare) whose values
    stand on the x axis; who: the algorithms, a bar each.
    """
    import matplotlib
    from matplotlib.figure import Figure
    names = table[groups].unique().tolist()
    places = np.arange(len(names))
    width = 0.84 / len(who)
    matplotlib.rcParams["hatch.linewidth"] = 0.4  # by some releases read when it is drawn, by others when it is written
    figure = Figure((3.5, 0.75 + 0.85 * len(panels) + 0.15 * (len(who) // 6)), dpi=300)
    keys = {}
    plots = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for (metric, label), axes in zip(panels, plots):
        part = table[table["metric"] == metric]
        for k, name in enumerate(who):
            bars = part[part["algorithm"] == name].set_index(groups).reindex(names)
            at = places + (k - (len(who) - 1) / 2) * width
            colour, hatch = look(k)
            keys[name] = axes.bar(at, bars["mean"], width, color=colour, hatch=hatch, edgecolor="black", linewidth=0.4)
            ends = np.array([bars["mean"] - bars["low"], bars["high"] - bars["mean"]])
            axes.errorbar(at, bars["mean"], np.nan_to_num(ends).clip(0), fmt="none", ecolor="black", elinewidth=0.7,
                          capsize=1.5, capthick=0.7)
        if (part["mean"] < 0).any():
            axes.axhline(0, color="black", linewidth=0.6)
        else:
            axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=4)
        axes.set_ylabel(label, fontsize=7)
    if title:
        plots[0].set_title(title)
    plots[-1].set_xticks(places)
    plots[-1].set_xticklabels([textwrap.fill(common.shorten(name), 8, break_long_words=False) for name in names])
    plots[-1].set_xlabel(groups)
    figure.align_ylabels(plots)
    return common.finish_figure(figure, keys)


PAGE, ROW, HEAD = 9, 0.15, 0.41  # inches: of a page; of a row of a chart; above and below its rows


def on_pages(charts):
    """The charts (see draw_charts) of each figure, so that none is taller than a page."""
    rows = min(max(3, len(charts[0][1])), common.PLOT_ROWS)
    number = max(1, int((PAGE - 0.85) / (HEAD + ROW * rows)))
    return [charts[k:k + number] for k in range(0, len(charts), number)]


def draw_charts(charts):
    """Figure of schedules one above the other on one scale of time: (title, the tables of common.simulate in seconds)
    of each."""
    import matplotlib
    from matplotlib.figure import Figure
    matplotlib.rcParams["hatch.linewidth"] = 0.4  # as in draw_bars
    rows = min(max(3, len(charts[0][1])), common.PLOT_ROWS)
    figure = Figure((3.5, 0.85 + len(charts) * (HEAD + ROW * rows)), dpi=300)
    keys = {}
    plots = figure.subplots(len(charts), 1, squeeze=False)[:, 0]
    legends = [common.draw_schedule(axes, *chart) for axes, chart in zip(plots, charts)]
    left = min(axes.get_xlim()[0] for axes in plots)
    right = max(axes.get_xlim()[1] for axes in plots)
    for axes, (_, result, _), legend in zip(plots, charts, legends):
        axes.set_xlim(left, right)
        if axes is not plots[-1]:
            axes.set_xlabel("")
            axes.set_xticklabels([])
        if "deadline later" in legend:  # than the end that this chart would have alone
            later = legend["deadline later"]
            rows = result.sort_values("arrival_time", kind="stable").iloc[later.get_ydata()]
            later.set_xdata(rows["deadline"].clip(upper=right).to_numpy())
            if (rows["deadline_met"] & (rows["deadline"] <= right)).all():
                later.set_marker("|")
                del legend["deadline later"]
        keys.update(legend)
    return common.finish_figure(figure, keys)
