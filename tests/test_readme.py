"""What the READMEs show is what their commands print, and README.md's recipes run as written."""
import pathlib
import re

import pandas as pd
import pytest
import readme
from conftest import ROOT, metrics

TEXT = readme.READMES[0].read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"<!-- recipe: (.*?) -->\n```python\n(.*?)```\n", TEXT, re.DOTALL))
HEAVY = re.compile(r"-m reproduce\.(?!trace)(\w+)$")


@pytest.mark.parametrize("command, text", [
    pytest.param(command, text, id=f"{path.parent.name} {command.split('|')[0].strip()}")
    for path in readme.READMES for command, text in readme.BLOCK.findall(path.read_text(encoding="utf-8"))])
def test_a_block_is_what_its_command_prints(command, text):
    """A comparison of reproduce/ prints the same of its stored runs; that these are its runs, its own tests check."""
    heavy = HEAVY.match(command.split("|")[0].strip())
    what = f"{heavy.group()} --from {readme.FIGURES}" if heavy else command.split("|")[0].strip()
    output = re.sub(r"(?m)^written: .*$", "", readme.run(what)[0])
    assert readme.shown(command, output).rstrip() == re.sub(r"(?m)^written: .*$", "", text).rstrip(), (
        f"python tests/readme.py brings {command} up to date")


@pytest.mark.parametrize("name", re.findall(readme.ROW, TEXT))
def test_the_rows_of_the_tables_are_the_metrics_of_the_runs(name):
    assert readme.row(name) in TEXT


def test_every_picture_is_there_and_none_too_many():
    named = {path.parent / name for path in readme.READMES
             for name in re.findall(r'<img src="(.*?)"', path.read_text(encoding="utf-8"))}
    assert named
    assert {path.resolve() for path in named} == set(readme.FIGURES.glob("*.png"))


# Recipes --------------------------------------------------------------------------------------------------------------


def test_a_model_a_device_and_a_pool_are_added(run, monkeypatch, tmp_path):
    code = (ROOT / "common.py").read_text(encoding="utf-8")
    end = "# The types whose feed-forward"
    assert code.count(end) == 1
    (tmp_path / "common.py").write_text(code.replace(end, RECIPES["common.py"] + end), encoding="utf-8")
    (tmp_path / "FCIM.py").write_text((ROOT / "FCIM.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "common")
    command = re.search(r'`python (FCIM.py --model "(.*?)" --pool (.*?))`', TEXT)
    status, _, err = run(str(tmp_path / "FCIM.py"), "--model", command.group(2), "--pool", command.group(3))
    assert (status, err) == (0, "")
    assert metrics("FCIM")["model"] == command.group(2)
    assert "Orin" in pd.read_csv("results/FCIM_bids.csv")["device"].tolist()


@pytest.mark.parametrize("recipe", [key for key in RECIPES if key.startswith("copy")])
def test_a_copy_with_one_function_replaced_runs(recipe, run):
    script, function = re.fullmatch(r"copy (\w+\.py), replace (\w+)", recipe).groups()
    code, count = re.subn(rf"def {function}\(.*?\n\n\n", RECIPES[recipe].replace("\\", r"\\") + "\n\n",
                          (ROOT / script).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert count == 1
    pathlib.Path("mine.py").write_text(code, encoding="utf-8")
    status, _, err = run("mine.py")
    assert (status, err) == (0, "")
    before = metrics(script[:-3])
    assert run(script[:-3])[0] == 0
    assert not metrics(script[:-3]).equals(before)


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
    assert pd.read_csv("own/FCIM_bids.csv").loc[0, "layers"] == bid["layers"]


def test_readme_and_continuous_integration_run_the_same_commands():
    commands = re.findall(r"^(?:python3 -m venv|\.venv/bin/pip) .*", TEXT, re.MULTILINE)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    assert 'grep -E "^(python3 -m venv|\\.venv/bin/pip) " README.md' in script
