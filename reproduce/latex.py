"""Tables as LaTeX (booktabs), a file each: at footnotesize and no wider than a page of two columns, the best bold.

    \\usepackage{array,booktabs}
    \\input{results/allocation_bloom_176b_pool_campus_means_of_30_draws.tex}

Widths are estimated from above: texts that are too wide are broken into lines, and if numbers are, the table goes into
blocks of columns, one below the other.
"""
import re

import common

COLUMN, PAGE = 252, 515  # pt: one column of a page (3.5 in), both (7.16 in)
GAP = 3  # pt: \tabcolsep, left and right of a column
LEAST = 60  # pt: no text is broken into narrower lines
NARROW, WIDE = "fijlrtI.,:;|!'()[] ", "mwMWGOQ%+~\u00b1\u2212"  # letters of 3.4 pt or less, and of more than 6
MARKS = {"\\": r"\textbackslash{}", "\u00b1": r"$\pm$", "\u2212": "$-$", "~": r"$\sim$", "^": r"\^{}", "%": r"\%",
         "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
NUMBER = re.compile(r"[~+-]*(\d|inf)|nan|n/a|not tested|$")
MEAN = re.compile(r"(-?\d[\d.]*) \u00b1 ")
NAMES = {"T_end": "end of the last transmission", "peak_memory_gb": "peak memory (GB)"}
MORE = ("deadlines_met", "fairness", "cost_efficiency", "throughput", "tokens_per_second")  # is better
LESS = ("T_end", "mean_", "p95_", "p99_", "completion_time", "computation_time", "communication", "total_cost",
        "peak_memory", "deadlines_behind")


def files(name, parts):
    """{file name: text} of tables. parts: of a caption, a table and, perhaps, whether more (1) or less (-1) is better
    in each row; else the metrics in the first column say it."""
    found = {}
    for caption, table, *sign in parts:
        label = f"{name}_{slug(caption)}"
        while f"{label}.tex" in found:
            label += "_more"
        columns = columns_of(table)
        mark_best(columns, *sign)
        found[f"{label}.tex"] = in_latex(columns, caption, label)
    return found


def slug(name, most=44):
    """A name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())[:most].strip("_")


def columns_of(table):
    """The columns of a table: what stands above (words), the cells, which are bold (rows), whether they are texts, and
    the width in pt."""
    columns = []
    for key in table:
        cells = [common.format_value(cell) for cell in table[key]]
        is_text = not columns or not all(map(NUMBER.match, cells))
        columns.append({"head": key.replace("_", " ").split(), "cells": cells, "bold": set(), "is_text": is_text})
    for column in columns:
        column["width"] = max(map(points, [*column["head"], *map(readable, column["cells"])]))
        column["is_broken"] = False
    return columns


def points(text):
    """How wide a text is at most, in bold type of 8 pt."""
    return sum(3.4 if letter in NARROW else 7.6 if letter in WIDE or letter.isupper() else 5.1 for letter in text)


def mark_best(columns, sign=0):
    """Makes the best means of each row bold, of single runs the best values."""
    rows = list(zip(*(column["cells"] for column in columns)))
    if not sign and any(cell.startswith(("+", "~")) for row in rows for cell in row):
        return  # changes in %
    for k, row in enumerate(rows):
        better = sign or direction(row[0])
        values = {j: float(MEAN.match(cell).group(1)) for j, cell in enumerate(row) if MEAN.match(cell)}
        if not values and not sign:
            values = {j: float(cell) for j, cell in enumerate(row) if j and re.fullmatch(r"-?\d[\d.]*", cell)}
        if not better or len(set(values.values())) < 2:
            continue
        best = max(values.values()) if better > 0 else min(values.values())
        for j, value in values.items():
            if value == best:
                columns[j]["bold"].add(k)


def direction(metric):
    """1 for a metric of which more is better, -1 for one of which less is, 0 for others."""
    if metric.startswith(MORE):
        return 1
    return -1 if metric.startswith(LESS) else 0


def in_latex(columns, caption, label):
    """A table of such columns."""
    break_texts(columns)
    blocks = in_blocks(columns)
    kind = "table" if max(map(width_of, blocks)) <= COLUMN else "table*"
    lines = [r"% \usepackage{array,booktabs}", rf"\begin{{{kind}}}", r"\centering", r"\footnotesize",
             rf"\setlength{{\tabcolsep}}{{{GAP}pt}}", rf"\caption{{{escaped(readable(caption))}}}",
             rf"\label{{tab:{label.replace('_', '-')}}}"]
    for block in blocks:
        lines += tabular(block)
    return "\n".join([*lines, rf"\end{{{kind}}}", ""])


def width_of(columns):
    return sum(column["width"] + 2 * GAP for column in columns)


def break_texts(columns):
    """Breaks the widest texts into lines, until all columns fit into a page, or all are narrow."""
    while width_of(columns) > PAGE:
        widest = max((column for column in columns if column["is_text"]), key=lambda column: column["width"])
        if widest["width"] <= LEAST:
            return
        widest["width"] = max(LEAST, int(widest["width"]) - 5)
        widest["is_broken"] = True


def in_blocks(columns):
    """The columns in blocks, each no wider than a page, and with the texts that lead."""
    leading = []
    for column in columns:
        if not column["is_text"]:
            break
        leading.append(column)
    blocks = [list(leading)]
    for column in columns[len(leading):]:
        if width_of([*blocks[-1], column]) > PAGE:
            blocks.append(list(leading))
        blocks[-1].append(column)
    return blocks


def tabular(columns):
    """Lines of a tabular of these columns."""
    kinds, heads = [], []
    for column in columns:
        kind = "l" if column["is_text"] else "r"
        if column["is_broken"]:
            kinds.append(rf">{{\raggedright\arraybackslash}}p{{{column['width']}pt}}")
            heads.append(" ".join(map(escaped, column["head"])))
        else:
            kinds.append(kind)
            heads.append(stacked(column["head"], kind))
    lines = [rf"\begin{{tabular}}{{{''.join(kinds)}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    for k in range(len(columns[0]["cells"])):
        cells = []
        for column in columns:
            text = escaped(readable(column["cells"][k]))
            cells.append(rf"\textbf{{{text}}}" if k in column["bold"] else text)
        if cells[0].startswith(("[", "*")):  # what stands before would take it for an option
            cells[0] = "{}" + cells[0]
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\par\smallskip"]


def stacked(words, side):
    """Words one below the other."""
    lines = r" \\ ".join(map(escaped, words))
    return rf"\shortstack[{side}]{{{lines}}}" if len(words) > 1 else lines


def readable(text):
    """A text in which metrics have names for readers."""
    for key, name in NAMES.items():
        text = text.replace(key, name)
    text = re.sub(r"\bp(\d\d)_", r"\1th percentile of ", text)
    return re.sub(r"(?<=[a-z])_(?=[a-z])", " ", text)


def escaped(text):
    """A text for LaTeX, with minus signs."""
    text = re.sub(r"(?<![\w.)-])-(?=\d|inf)", "\u2212", text)
    return "".join(MARKS.get(letter, letter) for letter in text)
