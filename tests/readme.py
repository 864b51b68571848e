"""Brings what the READMEs show up to date: `python tests/readme.py [NAME ...]` (minutes: it runs what they show).

- A block below a line <!-- python X.py --flags --> or <!-- python -m reproduce.X --flags --> is what that command
  prints; of a longer output, after bars, the paragraphs that begin so: <!-- python X.py --flags | this | that -->.
  Of a table, "this > word; two words" keeps its caption, its header and the rows in which one of these stands.
- <!-- FILE of python -m reproduce.X --> stands above the content of a file that the command writes, <!-- end --> below.
- Rows of README.md's tables that begin with a script are that script's metrics.
- Pictures in reproduce/figures are those that the commands write and a README shows; beside them lie the runs of the
  studies, from which `--from` makes the tables again. reproduce.claims, which reads those runs, comes last.

With names (FCIM or reproduce.allocation), only what these print is brought up to date. tests/test_readme.py compares.
"""
import csv
import functools
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ROOT / "reproduce" / "figures"
READMES = [ROOT / "README.md", ROOT / "reproduce" / "README.md", ROOT / "real" / "README.md"]
OF_RUNS = "-m reproduce.claims"  # it reads the runs in reproduce/figures
BLOCK = re.compile(r"<!-- python (.*?) -->\n```text\n(.*?)```\n", re.DOTALL)
FILE = re.compile(r"<!-- ([\w.]+) of python (.*?) -->\n(.*?)<!-- end -->\n", re.DOTALL)
ROW = re.compile(r"^\| \[(\w+)\.py\]\(\1\.py\) \| (?!.*[a-z]{3}).*\|$", re.MULTILINE)
SCHEDULING = ("mean_waiting_time", "mean_response_time", "mean_turnaround_time", "deadlines_met", "T_end",
              "preemptions")
ALLOCATION = ("devices", "total_cost", "completion_time", "communication_time", "communication_overhead",
              "fairness_rewards", "deadlines_met")


def update(names):
    pictures = set(re.findall(r"figures/(\w+\.png)", "".join(path.read_text(encoding="utf-8") for path in READMES)))
    for is_of_runs in (False, True):
        for path in READMES:
            update_file(path, names, pictures, is_of_runs)
    for path in FIGURES.glob("*.png"):
        if path.name not in pictures:
            path.unlink()


def update_file(path, names, pictures, is_of_runs):
    """Brings the blocks of a README up to date: those that are made of stored runs, or the others."""
    def is_wanted(command):
        is_named = not names or any(name in command.split("|")[0] for name in names)
        return is_named and command.startswith(OF_RUNS) == is_of_runs

    def fresh(match):
        command = match.group(1)
        if not is_wanted(command):
            return match.group(0)
        output, files = run(command.split("|")[0].strip())
        for name, content in files.items():
            if name.endswith("_runs.csv") or name in pictures:
                (FIGURES / name).write_bytes(content)
        return f"<!-- python {command} -->\n```text\n{shown(command, output)}```\n"

    def fresh_file(match):
        name, command, _ = match.groups()
        if not is_wanted(command):
            return match.group(0)
        content = run(command)[1][name].decode()
        return f"<!-- {name} of python {command} -->\n{content}<!-- end -->\n"

    text = FILE.sub(fresh_file, BLOCK.sub(fresh, path.read_text(encoding="utf-8")))
    if path == READMES[0]:
        text = ROW.sub(lambda match: row(match.group(1), run(f"{match.group(1)}.py")[1]), text)
    path.write_text(text, encoding="utf-8")


@functools.lru_cache(None)
def run(command):
    """What a command (X.py or -m reproduce.X, and flags) prints in an empty folder, and its files: {name: content}."""
    with tempfile.TemporaryDirectory() as folder:
        text = subprocess.run([sys.executable, *map(str, script_and_flags(command))], cwd=folder, check=True,
                              encoding="utf-8", stdout=subprocess.PIPE).stdout
        return text, {path.name: path.read_bytes() for path in pathlib.Path(folder, "results").iterdir()}


def script_and_flags(command):
    """The path of the script of a command, and its flags: a list."""
    module, *flags = command.replace("-m ", "").split()
    return [ROOT / (module if module.endswith(".py") else module.replace(".", "/") + ".py"), *flags]


def shown(command, output):
    """The text that belongs into the block of <!-- python command | parts -->, of what the command prints."""
    parts = " ".join(command.split()).split("|")[1:]
    output = "\n".join(line.rstrip() for line in output.split("\n"))  # pandas fills lines up
    if not parts:
        return output
    paragraphs = output.rstrip("\n").split("\n\n")
    texts = []
    for part in parts:
        begin, _, rows = (text.strip() for text in part.partition(" > "))
        paragraph = next(paragraph for paragraph in paragraphs if paragraph.lstrip().startswith(begin))
        texts.append(with_rows(paragraph, rows.split("; ")) if rows else paragraph)
    return "\n\n".join(texts) + "\n"


def with_rows(table, wanted):
    """The first block of a table's columns as it is printed: its caption, its header (lines without a digit) and these
    of its rows."""
    caption, *lines = table.split("\n")
    kept = [caption]
    for line in lines:
        spaced = f" {' '.join(line.split())} "
        if not re.search(r"\d", line) or any(f" {row} " in spaced for row in wanted):
            kept.append(line.rstrip(" \\"))  # pandas marks that columns follow below
    return "\n".join(kept)


def row(name, files):
    """The row of README.md's table for a script: metrics of the shipped list, by the files of its run."""
    metrics = next(csv.DictReader(str(files[f"{name}_metrics.csv"], "utf-8").splitlines()))
    cells = [metrics[key] if metrics[key].isdigit() else f"{float(metrics[key]):.2f}"
             for key in (SCHEDULING if "scheduler" in metrics else ALLOCATION)]
    return f"| [{name}.py]({name}.py) | {' | '.join(cells)} |"


if __name__ == "__main__":
    update(sys.argv[1:])
