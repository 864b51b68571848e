"""Brings the outputs that README shows up to date: `python tests/readme.py` (minutes: it runs what README shows).

A block of README below a line <!-- python X.py --flags --> is what that command prints; of a longer output, after
bars, the paragraphs that begin so: <!-- python X.py --flags | this | that -->. tests/test_readme.py compares them.
"""
import functools
import pathlib
import re
import subprocess
import sys
import tempfile

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"<!-- python (\S+\.py)(.*?) -->\n```text\n(.*?)```\n", re.DOTALL)


@functools.lru_cache(None)
def output(script, flags):
    """What a command prints in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([sys.executable, str(README.parent / script), *flags.split()], cwd=folder, check=True,
                              stdout=subprocess.PIPE, encoding="utf-8").stdout


def shown(script, rest):
    """The text that belongs into the block of <!-- python script rest -->."""
    flags, *beginnings = [part.strip() for part in rest.split("|")]
    text = output(script, flags)
    if not beginnings:
        return text
    paragraphs = text.rstrip("\n").split("\n\n")
    return "".join(next(part for part in paragraphs if part.lstrip().startswith(begin)) + "\n\n"
                   for begin in beginnings)[:-1]


def blocks():
    """(script, rest, text) of each block of README."""
    return BLOCK.findall(README.read_text(encoding="utf-8"))


if __name__ == "__main__":
    def fresh(match):
        script, rest, _ = match.groups()
        return f"<!-- python {script}{rest} -->\n```text\n{shown(script, rest)}```\n"

    README.write_text(BLOCK.sub(fresh, README.read_text(encoding="utf-8")), encoding="utf-8")
