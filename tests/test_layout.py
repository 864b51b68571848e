"""The layout: what stands where, and who may import whom."""
import ast
import re
import runpy
import subprocess
import sys

import pytest
from conftest import ALLOCATORS, ROOT, SCHEDULERS, script

NINE = [*ALLOCATORS, *SCHEDULERS]
FOLDERS = ["reproduce", "real", "tests"]
OURS = {"common", *NINE, *FOLDERS}
PACKAGES = {"numpy", "pandas", "matplotlib", "pulp", "transformers"}


def tracked():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8").stdout.split("\n")
    names = [name for name in names if name and (ROOT / name).exists()]
    if not names:
        pytest.skip("not a git checkout")
    return names


def files_of(folder):
    return [ROOT / name for name in tracked() if name.startswith(f"{folder}/") and name.endswith(".py")]


def imports(path):
    """First names of the modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level  # no folder here is a package
            found.add(node.module.split(".")[0])
    return found


# What stands where, and who imports whom ------------------------------------------------------------------------------


def test_nothing_else_stands_at_the_top():
    top = {name.split("/")[0] for name in tracked()}
    assert top == {*(f"{name}.py" for name in NINE), "common.py", "requirements.txt", "README.md", *FOLDERS,
                   ".ci", ".github", ".gitignore", ".pytest.ini", ".ruff.toml"}
    assert {name for name in tracked() if name.endswith("__init__.py")} == {"reproduce/__init__.py", "real/__init__.py"}
    assert {"reproduce/README.md", "real/README.md"} <= set(tracked())


def test_of_the_project_common_imports_nothing_and_the_nine_common_and_only_optimal_its_siblings():
    allowed = {"common": set(), "optimal": {"common", "FCFS", "SRTF", "LLF", "ADSA"}}
    for name in ("common", *NINE):
        assert imports(ROOT / f"{name}.py") & OURS == allowed.get(name, {"common"}), name


@pytest.mark.parametrize("folder, other", [("reproduce", "real"), ("real", "reproduce")])
def test_reproduce_and_real_do_not_import_each_other_or_the_tests(folder, other):
    for path in files_of(folder):
        assert not imports(path) & {other, "tests"}, path


@pytest.mark.parametrize("folder", ["reproduce", "real"])
def test_a_worker_that_starts_a_script_again_finds_the_project_where_its_parent_did(folder, monkeypatch):
    """As multiprocessing does where it does not fork."""
    for path in files_of(folder):
        there = [str(ROOT), *sys.path]
        monkeypatch.setattr(sys, "path", there[:])
        runpy.run_path(str(path), run_name="__mp_main__")
        assert sys.path == there, path


def test_only_the_packages_of_the_project_are_imported():
    """torch, gguf and huggingface_hub (transformers') in real/ and the tests alone; further ones in the tests alone."""
    standard = set(getattr(sys, "stdlib_module_names", ()))
    if not standard:
        pytest.skip("this Python does not list its library")
    assert set(re.findall(r"^\w+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)) == PACKAGES
    for path in [*(ROOT / f"{name}.py" for name in ("common", *NINE)), *files_of("reproduce"), *files_of("real")]:
        more = {"torch", "gguf", "huggingface_hub"} if path.parent.name == "real" else set()
        if path.name == "cluster.py":  # optional
            more = {"distributed"}
        assert imports(path) - standard - OURS <= PACKAGES | more, path


# common.py ------------------------------------------------------------------------------------------------------------


def test_every_name_of_common_serves_two_of_the_nine_at_least():
    """Directly, or another name of common that does."""
    tree = ast.parse(script("common"))
    nodes = list(ast.walk(tree))
    defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                and not node.col_offset}
    within = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    users = {name: [one for one in NINE if re.search(rf"\bcommon\.{name}\b", script(one))] for name in defined}
    few = {name for name in defined - within if len(users[name]) < 2}
    assert few == {"next_run"}  # which a server asks


def test_no_two_scripts_define_the_same_function():
    bodies = {}
    for name in ("common", *NINE):
        for node in ast.walk(ast.parse(script(name))):
            if isinstance(node, ast.FunctionDef):
                bodies.setdefault(tuple(map(ast.dump, node.body)), set()).add((name, node.name))
    assert [sorted(places) for places in bodies.values() if len(places) > 1] == []


def test_the_scripts_that_the_readmes_name_are_there():
    for readme in ("README.md", "reproduce/README.md", "real/README.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        for folder, name in re.findall(r"\b(?:python|-m) +(?:-m +)?(reproduce|real)[./](\w+)", text):
            assert (ROOT / folder / f"{name}.py").exists(), (readme, name)
