"""What the READMEs show is what their commands print, and README.md's recipes run as written."""
import functools
import json
import pathlib
import re
import subprocess
import tempfile

import pandas as pd
import pytest
import readme
from conftest import ROOT, metrics, run_here

import FCIM

TEXT = readme.READMES[0].read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"<!-- recipe: (.*?) -->\n```python\n(.*?)```\n", TEXT, re.DOTALL))


@pytest.fixture(scope="module")
def pristine():
    """README's numbers are of the scripts as shipped: where one was edited, as users do, they are not compared."""
    edited = subprocess.run(["git", "diff", "--name-only", "HEAD", "--", "*.py", ":!tests"], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8").stdout.split()
    if edited:
        pytest.skip(f"edited: {', '.join(edited)}; README shows what the shipped files print")


@functools.lru_cache(None)
def run_without_figures(command):
    """What readme.run gives, but for the figures, in this process."""
    path, flags = readme.script_of(command)
    no_plot = [] if command.startswith(readme.OF_RUNS) else ["--no-plot"]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, text, _ = run_here(path, *flags, *no_plot)
        assert status == 0
        return text, {path.name: path.read_bytes() for path in pathlib.Path("results").iterdir()}


@pytest.fixture(scope="module", autouse=True)
def in_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readme, "run", run_without_figures)
        yield


HEAVY = re.compile(r"-m reproduce\.(?!trace)(\w+)$")


@pytest.mark.parametrize("command, text", [
    pytest.param(command, text, id=f"{path.parent.name} {command.split('|')[0].strip()}")
    for path in readme.READMES for command, text in readme.BLOCK.findall(path.read_text(encoding="utf-8"))])
def test_a_block_is_what_its_command_prints(command, text, pristine):
    """A comparison of reproduce/ prints the same of its stored runs; that these are its runs, its own tests check."""
    heavy = HEAVY.match(command.split("|")[0].strip())
    what = f"{heavy.group()} --from {readme.FIGURES}" if heavy else command.split("|")[0].strip()
    output = re.sub(r"(?m)^written: .*$", "", readme.run(what)[0])
    assert readme.shown(command, output).rstrip() == re.sub(r"(?m)^written: .*$", "", text).rstrip(), (
        f"python tests/readme.py brings {command} up to date")


@pytest.mark.parametrize("name", re.findall(readme.ROW, TEXT))
def test_the_rows_of_the_tables_are_the_metrics_of_the_runs(name, pristine):
    assert readme.row(name) in TEXT


QUESTIONS = re.findall(r"^\| [^|]+\? \| `python (-m reproduce\.\w+)` \| (.*) \|$",
                       readme.READMES[1].read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command, answer", QUESTIONS)
def test_the_figures_of_an_answer_are_those_of_its_command(command, answer, pristine):
    output = readme.run(f"{command} --from {readme.FIGURES}")[0]
    figures = re.findall(r"[+-]?\d+\.\d+", answer)
    assert len(QUESTIONS) > 5 and figures
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure.lstrip('+'))}(?![\d.])", output), figure


def test_every_picture_is_there_and_none_too_many():
    named = {path.parent / name for path in readme.READMES
             for name in re.findall(r'<img src="(.*?)"', path.read_text(encoding="utf-8"))}
    assert named
    assert {path.resolve() for path in named} == set(readme.FIGURES.glob("*.png"))


# Recipes --------------------------------------------------------------------------------------------------------------


def test_a_model_a_device_and_a_pool_are_added(run, monkeypatch, tmp_path):
    code = (ROOT / "common.py").read_text(encoding="utf-8")
    end = "# Settings that a flag may override."
    assert code.count(end) == 1
    (tmp_path / "common.py").write_text(code.replace(end, RECIPES["common.py"] + end), encoding="utf-8")
    (tmp_path / "FCIM.py").write_text((ROOT / "FCIM.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "common")
    command = re.search(r'`python (FCIM.py --model "(.*?)" --pool (.*?))`', TEXT)
    status, _, err = run(str(tmp_path / "FCIM.py"), "--model", command.group(2), "--pool", command.group(3))
    assert (status, err) == (0, "")
    assert metrics("FCIM")["model"] == command.group(2)
    assert "RTX 3090" in pd.read_csv("results/FCIM_bids.csv")["type"].tolist()


@pytest.mark.parametrize("recipe", [key for key in RECIPES if key.startswith("copy")])
def test_a_copy_with_one_function_replaced_runs(recipe, run):
    script, function = re.fullmatch(r"copy (\w+\.py), replace (\w+)", recipe).groups()
    code, count = re.subn(rf"def {function}\(.*?\n\n\n", RECIPES[recipe].replace("\\", r"\\") + "\n\n",
                          (ROOT / script).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert count == 1
    pathlib.Path("Mine.py").write_text(code, encoding="utf-8")
    tasks = [dict(task, deadline=999 - 99 * k, computation_time=20 + 9 * k) for k, task in enumerate(FCIM.tasks)]
    pathlib.Path("tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    assert run(script[:-3], "--tasks", "tasks.json")[0] == 0
    before = metrics(script[:-3])
    status, _, err = run("Mine.py", "--tasks", "tasks.json")
    assert (status, err) == (0, "")
    assert metrics(script[:-3]).equals(before)  # a copy is named after itself
    assert metrics("Mine").iloc[0] == "Mine"
    measured = [key for key in before.index if key.startswith(("mean_", "total_", "completion"))]
    assert (metrics("Mine")[measured] != before[measured]).any()


def test_a_server_asks_what_to_run(run, pristine):
    """By the paper's rule: in the order Task 1, 3, 2 (longest transmission first) Task 2 has the least slack, 20 - 12 -
    (9 + 11.014 + 4.137 + 2) s, so it runs, to its end."""
    pathlib.Path("server.py").write_text(RECIPES["server"], encoding="utf-8")
    status, out, err = run("server.py")
    assert (status, err) == (0, "")
    assert out == "run Task 2 until 16.137 s, unless a task arrives\n"


def test_the_bids_and_links_of_the_recipe_are_accepted(run):
    """Both lists end in an ellipsis: completed by what a run drew."""
    found = re.search(r"^bids = \[(\{.*?\}), \.\.\.\]\nlinks = (\{.*?\}), \.\.\.\}", TEXT, re.MULTILINE)
    bid, links = eval(found.group(1)), eval(found.group(2) + "}")
    run("FCIM", "--no-plot")
    bids, drawn = pd.read_csv("results/FCIM_bids.csv"), pd.read_csv("results/FCIM_links.csv", index_col=0)
    assert set(bid) < set(bids)
    for one, row in links.items():
        for other, seconds in row.items():
            drawn.loc[one, other] = drawn.loc[other, one] = seconds
    rows = [bid] + bids[list(bid)].iloc[1:].to_dict("records")
    code = (ROOT / "FCIM.py").read_text(encoding="utf-8").replace("\nbids = None", f"\nbids = {rows!r}")
    code = code.replace("\nlinks = None", f"\nlinks = {drawn.to_dict()!r}")
    pathlib.Path("mine.py").write_text(code, encoding="utf-8")
    status, _, err = run("mine.py", "--no-plot", "--out", "own")
    assert status == 0, err
    assert pd.read_csv("own/mine_bids.csv").loc[0, "layers"] == bid["layers"]


def test_readme_and_continuous_integration_run_the_same_commands():
    commands = re.findall(r"^(?:python3 -m venv|\.venv/bin/pip) .*", TEXT, re.MULTILINE)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    assert 'grep -E "^(python3 -m venv|\\.venv/bin/pip) " README.md' in script
