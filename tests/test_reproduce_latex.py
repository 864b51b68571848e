"""reproduce/latex.py: every letter, the best in bold, what is too wide; compiled where pdflatex is there."""
import itertools
import pathlib
import random
import re
import shutil
import subprocess

import pandas as pd
import pytest
from test_reproduce_tables import check_latex

from reproduce import latex


def written(folder, *parts):
    """The LaTeX of tables, once they are seen to be whole."""
    files = latex.files("mine", parts)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    check_latex(folder, "mine", len(parts))
    return list(files.values())


def test_every_letter_is_written_for_latex(tmp_path):
    table = pd.DataFrame({"a_b": ["50 % & more", "~+1.0 [-1.0, +3.0]"], "c": [1.5, "-2 \u00b1 3"]})
    text, = written(tmp_path, ("Cost in $ {all} #1 \\ ^, T_end - 1", table))
    for part in (r"\shortstack[l]{a \\ b} & c \\", r"50 \% \& more & 1.500 \\",
                 r"$\sim$+1.0 [$-$1.0, +3.0] & $-$2 $\pm$ 3 \\", r"\label{tab:mine-cost-in-all-1-t-end-1}",
                 r"\caption{Cost in \$ \{all\} \#1 \textbackslash{} \^{}, end of the last transmission - 1}"):
        assert part in text


@pytest.mark.parametrize("text, shown", [
    ("mean_uplink_waiting_time (s)", "mean uplink waiting time (s)"), ("GPT-3 175B", "GPT-3 175B"),
    ("p95_turnaround_time", "95th percentile of turnaround time"), ("1.5..3", "1.5..3"), ("-inf", "$-$inf"),
    ("[-3.0, -1.0]", "[$-$3.0, $-$1.0]"), ("8-bit", "8-bit")])
def test_names_and_minus_signs(text, shown):
    assert latex.escaped(latex.readable(text)) == shown


def bold(text):
    return re.findall(r"\\textbf{(.*?)}", text)


def test_the_best_of_a_row_is_bold(tmp_path):
    rows = [("completion_time (s)", 3, 1, 2), ("fairness_layers", 0.5, 0.7, 0.7), ("devices", 1, 2, 3),
            ("deadlines_met (of 9)", 9, 9, 9)]
    plain = pd.DataFrame([(name, *(f"{value:.3f} \u00b1 0.100" for value in values)) for name, *values in rows],
                         columns=["metric", "X", "Y", "Z"])
    changes = plain.replace(r" \u00b1 .*", " [-1.0, +2.0]", regex=True).replace(r"^(\d)", r"+\1", regex=True)
    one, other, by_sign, less = written(tmp_path, ("Means", plain), ("Changes", changes), ("More", plain, 1),
                                        ("Less", plain, -1))
    assert bold(one) == [r"1.000 $\pm$ 0.100", r"0.700 $\pm$ 0.100", r"0.700 $\pm$ 0.100"]
    assert bold(other) == []
    assert [cell[:5] for cell in bold(by_sign)] == ["3.000", "0.700", "0.700", "3.000"]
    assert [cell[:5] for cell in bold(less)] == ["1.000", "0.500", "1.000"]


def test_columns_go_into_blocks_and_texts_into_lines():
    wide = pd.DataFrame({"model": ["a model"], "pool": ["a pool"], **{f"number_{k}": [1234567890] for k in range(30)}})
    text, = latex.files("mine", [("Wide", wide)]).values()
    found = re.findall(r"begin{tabular}{(.*?)}\n\\toprule\n.*\n\\midrule\n(.*)", text)
    assert len(found) > 2
    assert all(row.startswith("a model & a pool & ") for _, row in found)
    assert sum(kinds.count("r") for kinds, _ in found) == 30
    long = pd.DataFrame({"a": ["word " * 30], "b": ["word " * 60], "c": [1]})
    columns = latex.columns_of(long)
    latex.break_texts(columns)
    assert latex.width_of(columns) <= latex.PAGE
    assert [column["is_broken"] for column in columns] == [True, True, False]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is missing")
def test_no_table_is_too_wide_for_a_page(tmp_path):
    rng = random.Random(0)
    words = "a PipeDream, GPT-3 175B MMMMM WWWW 100 % ~+1.0 \u00b1 -3.25 [-99.9, deadlines_met campus: iiiiii".split()
    parts = []
    for k, (numbers, texts) in enumerate(itertools.product((1, 5, 12, 30), (1, 2, 4))):
        table = {f"text {j}": [" ".join(rng.choices(words, k=rng.choice((1, 4, 15)))) for _ in range(3)]
                 for j in range(texts)}
        for j in range(numbers):
            table[f"a_number_{j}"] = [f"{rng.uniform(-1000, 1000):+.1f} [-99.9, +1234.5]"] * 3
        parts.append((f"Table {k}", pd.DataFrame(table)))
    written(tmp_path, *parts)
    names = "\n".join(rf"\input{{{path.name}}}\clearpage" for path in sorted(tmp_path.glob("*.tex")))
    (tmp_path / "all.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{array,booktabs}"
        r"\usepackage[textwidth=7.16in,columnsep=0.16in]{geometry}\begin{document}" + names + r"\end{document}")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "all.tex"], cwd=tmp_path, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, timeout=60)
    log = pathlib.Path(tmp_path, "all.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log
