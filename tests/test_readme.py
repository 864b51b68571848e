"""What the READMEs show is what their commands print, and README.md's recipes run as written."""
import functools
import io
import itertools
import json
import pathlib
import re
import shlex
import subprocess
import tempfile

import pandas as pd
import pytest
import readme
import stub_server
from conftest import ALLOCATORS, LITTLE, ROOT, SCHEDULERS, edited, metrics, refused, run_here

import common
import FCIM
import HexGen

TEXTS = [path.read_text(encoding="utf-8") for path in readme.READMES]
BLOCKS = dict(block for text in TEXTS for block in readme.BLOCK.findall(text))  # {command: what it prints}
RECIPES = dict(re.findall(r"<!-- recipe: (.*?) -->\n```python\n(.*?)```\n", TEXTS[0], re.DOTALL))
CLAIMS = re.findall(r"^\| (?:FCIM|ADSA), .*? \| .*? \| (.*?) \| (.*?) \|$", TEXTS[0], re.MULTILINE)  # owned, rented
SHOWN = re.compile(f"{readme.BLOCK.pattern}|{readme.FILE.pattern}", re.DOTALL)
LONGEST = ['    ("FCIM", "a dearer bid wins no more layers", layers_by_price, show_bids),\n',
           '    ("ADSA", "never meets more than EDF, 3 tasks", never_more_than_edf, show_tasks),\n']
SECTIONS = [text for text in re.split(r"^## ", TEXTS[1], flags=re.MULTILINE) if SHOWN.search(text)]


@pytest.fixture(scope="module")
def pristine():
    """README's numbers are of the scripts as shipped: where one was edited, as users do, they are not compared."""
    changed = subprocess.run(["git", "diff", "--name-only", "HEAD", "--", "*.py", ":!tests"], cwd=ROOT,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8").stdout.split()
    if changed:
        pytest.skip(f"edited: {', '.join(changed)}; README shows what the shipped files print")


@functools.lru_cache(None)
def run_command(command):
    """What readme.run gives, without figures and in this process; of a study, which takes minutes, from its stored runs
    (that these are its runs, its own tests check)."""
    path, *flags = readme.script_and_flags(command)
    if re.fullmatch(r"-m reproduce\.(?!trace|theory)\w+", command):
        flags += ["--from", readme.FIGURES]
    if command not in (readme.OF_RUNS, "-m reproduce.theory"):
        flags += ["--no-plot"]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if command == "-m reproduce.theory":  # without what takes longest and README does not show
            path = pathlib.Path(edited("reproduce/theory", *((line, "") for line in LONGEST))).resolve()
        status, text, _ = run_here(path, *flags)
        assert status == 0
        return text, {path.name: path.read_bytes() for path in pathlib.Path("results").iterdir()}


@pytest.mark.parametrize("command", BLOCKS, ids=lambda command: command.split("|")[0].strip())
def test_a_block_is_what_its_command_prints(command, pristine):
    printed = readme.shown(command, run_command(command.split("|")[0].strip())[0])
    assert printed == BLOCKS[command], f"python tests/readme.py brings {command} up to date"


@pytest.mark.parametrize("name, command, content", readme.FILE.findall(TEXTS[1]))
def test_a_file_is_what_its_command_writes(name, command, content, pristine):
    assert run_command(command)[1][name].decode() == content


@pytest.mark.parametrize("name", re.findall(readme.ROW, TEXTS[0]))
def test_the_rows_of_the_tables_are_the_metrics_of_the_runs(name, pristine):
    assert readme.row(name, run_command(f"{name}.py")[1]) in TEXTS[0]


@pytest.mark.parametrize("names, letters", re.findall(r"^\| (`.*`) \| ([TSAG ,]+) \|", TEXTS[0], re.MULTILINE))
def test_a_metric_is_in_one_of_the_files_that_the_table_names(names, letters):
    files = {"T": "ADSA_tasks.csv", "S": "ADSA_metrics.csv", "A": "FCIM_metrics.csv", "G": "FCIM_stages.csv"}
    contents = {**run_command("ADSA.py")[1], **run_command("FCIM.py")[1]}
    headers = [contents[files[letter]].decode().split("\n")[0] for letter in re.findall(r"\w", letters)]
    for name in re.findall(r"`(\w+)`", names):
        assert name in ",".join(headers), name


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split(":")[0])
def test_the_figures_of_an_answer_are_those_of_its_command(section, pristine):
    of_block, _, _, of_file, _ = SHOWN.search(section).groups()
    command = (of_block or of_file).split("|")[0].strip()
    output = run_command(command)[0]
    figures = re.findall(r"\d+\.\d+", SHOWN.sub("", section))
    assert f"`python {command}`" in section and "**Answer.**" in section
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", output), figure


def test_each_study_has_a_section_and_no_line_of_theirs_is_wider_than_100_columns():
    commands = re.findall(r"^\| `(\w+)` \|", TEXTS[1], re.MULTILINE)
    assert [section.split(":")[0] for section in SECTIONS] == commands
    assert max(len(line) for line in TEXTS[1].split("\n") if not line.startswith("| ")) <= 100


def test_the_claims_have_the_figures_of_reproduce(pristine):
    output, written = run_command("-m reproduce.claims")
    assert sorted(written) == ["claims.csv", "claims.md", "claims.tex"]
    table = pd.read_csv(io.BytesIO(written["claims.csv"]))
    assert len(CLAIMS) == 6
    for cells in CLAIMS:
        for text, pool in zip(cells, ("campus", "cloud")):
            rows = table[table["pool"] == pool]
            figure, verdict = text.split(" %, ")
            assert (float(figure), verdict) in set(zip(rows["ours"].round(1), rows["verdict"]))
    for cell in re.findall("[^|]*(?:holds|in part|fails)", written["claims.md"].decode()):
        assert cell.strip() in output


def test_every_picture_is_there_and_none_too_many():
    named = {(path.parent / name).resolve() for path, text in zip(readme.READMES, TEXTS)
             for name in re.findall(r'<img src="(.*?)"', text)}
    assert named == set(readme.FIGURES.glob("*.png"))


def test_a_model_a_device_and_a_pool_are_added(run, monkeypatch, tmp_path):
    code = (ROOT / "common.py").read_text(encoding="utf-8")
    end = "# Settings that a flag may override."
    assert code.count(end) == 1
    (tmp_path / "common.py").write_text(code.replace(end, RECIPES["common.py"] + end), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "common")
    model, pool = re.search(r'`python FCIM.py --model "(.*?)" --pool (.*?)`', TEXTS[0]).groups()
    assert run(edited("FCIM"), "--model", model, "--pool", pool)[::2] == (0, "")
    assert metrics("mine")["model"] == model
    assert "RTX 3090" in pd.read_csv("results/mine_bids.csv")["type"].tolist()


@pytest.mark.parametrize("recipe", [key for key in RECIPES if key.startswith("copy")])
def test_a_copy_with_one_function_replaced_runs(recipe, run):
    script, function = re.fullmatch(r"copy (\w+)\.py, replace (\w+)", recipe).groups()
    old = re.search(rf"def {function}\(.*?\n\n\n", (ROOT / f"{script}.py").read_text(encoding="utf-8"), re.DOTALL)
    edited(script, (old.group(), RECIPES[recipe] + "\n\n"), to="Mine.py")
    tasks = [dict(task, deadline=999 - 99 * k, computation_time=20 + 9 * k) for k, task in enumerate(FCIM.tasks)]
    pathlib.Path("tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    for path in (script, "Mine.py"):
        assert run(path, "--tasks", "tasks.json", "--no-plot")[::2] == (0, "")
    before, after = metrics(script), metrics("Mine")
    assert after.iloc[0] == "Mine"  # a copy is named after itself
    measured = [key for key in before.index if key.startswith(("mean_", "total_", "completion"))]
    assert (after[measured] != before[measured]).any()


def test_weighted_shortest_job_first_is_one_line_away(run):
    """A task is late where it matters least: whoever is there runs by computation / weight, ties by arrival."""
    recipe = RECIPES["copy FCFS.py, replace schedule"]
    changed, count = re.subn(r"        row = .*\n", RECIPES["a line of the scheduler above"], recipe)
    assert count == 1
    old = re.search(r"def schedule\(.*?\n\n\n", (ROOT / "FCFS.py").read_text(encoding="utf-8"), re.DOTALL).group()
    work, weight, arrival = [5, 9, 4, 2, 6, 3], [1, 3, 1, 1, 2, 0.5], [0, 1, 2, 3, 21, 40]
    tasks = [dict(label=f"T{k}", arrival_time=arrival[k], computation_time=work[k], weight=weight[k], trans_time=0,
                  deadline=99, prompt_tokens=1, output_tokens=1) for k in range(6)]
    pathlib.Path("tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    edited("FCFS", (old, changed + "\n\n"), to="WSJF.py")
    status, _, err = run("WSJF.py", "--tasks", "tasks.jsonl", "--no-plot")
    assert (status, err) == (0, "warning: tasks.jsonl: further fields: weight\n")
    order = pd.read_csv("results/WSJF_tasks.csv").sort_values("start_time")["label"].tolist()
    assert order == ["T0", "T3", "T1", "T2", "T4", "T5"]  # at 5 s: 9 / 3, 4 / 1 and 2 / 1; T3, T1, T2


def test_the_sweep_of_a_setting_runs(run, monkeypatch):
    monkeypatch.setattr(HexGen.allocate, "__defaults__", (HexGen.PLAN, *LITTLE.values()))
    flags = re.search(r"`python -m reproduce.sensitivity (.*?)`", TEXTS[0]).group(1).split()
    status, _, err = run("reproduce/sensitivity", *flags, "--runs", "1", "--no-plot")
    assert status == 0, err
    assert set(pd.read_csv("results/sensitivity_runs.csv")["sweep"]) == {"BUDGET", "gamma"}


def test_a_server_asks_what_to_run(run, pristine):
    """The second request preempts the first, as its transmission is longer; both texts are those of whole requests."""
    with stub_server.running(seconds=0.02) as stub:
        pathlib.Path("server.py").write_text(RECIPES["server"].replace("http://127.0.0.1:8080", stub.url))
        status, out, err = run("server.py")
    assert (status, err) == (0, "")
    prompts = [body["prompt"] for _, body in stub.asked]
    first = [prompt.startswith("The sea") for prompt in prompts]
    assert 0 < first.index(False) < len(first) - first[::-1].index(True) - 1
    chunks = {"two": prompts[first.index(False):first.index(False) + first.count(False)], "one": []}
    chunks["one"] = [prompt for prompt in prompts if prompt.startswith("The sea")]
    assert [line.split(":")[0] for line in out.splitlines() if line[:3] in chunks] == ["two", "one"]
    for text in chunks.values():
        whole = text[0] + bytes(stub_server.continued(text[0].encode(), 999)[0]).decode()
        assert all(whole.startswith(prompt) and len(prompt) == len(text[0]) + 8 * k for k, prompt in enumerate(text))


def test_the_bids_and_links_of_the_recipe_are_accepted(run):
    own = {}
    exec(re.search(r"^bids = .*?^links = .*?$", TEXTS[0], re.MULTILINE | re.DOTALL).group(), own)
    script = edited("FCIM", bids=own["bids"], links=own["links"])
    status, _, err = run(script, "--model", "GPT-Neo 1.3B", "--no-plot")
    assert status == 0, err
    assert pd.read_csv("results/mine_bids.csv")["layers"].tolist() == [bid["layers"] for bid in own["bids"]]


@pytest.mark.usefixtures("little_search")
def test_from_measured_links_to_the_commands_of_engines(run, monkeypatch):
    """The four commands of the recipe; only the checkpoints are not here, and few draws are made."""
    pool, links, commands = re.search(r"<!-- recipe: five machines -->\n```python\n(.*?)```\n```text\n(.*?)```\n"
                                      r"```sh\n(.*?)```", TEXTS[0], re.DOTALL).groups()
    pools = {}
    exec(pool, {"POOLS": pools})
    monkeypatch.setitem(common.POOLS, "home", pools["home"])
    given = pd.read_csv(io.StringIO(links))
    pairs = itertools.combinations([*(machine[0] for machine in pools["home"]), "client"], 2)
    missing = [[*pair, 1, 100] for pair in pairs if list(pair) not in given[["from", "to"]].to_numpy().tolist()]
    pd.concat([given, pd.DataFrame(missing, columns=list(given))]).to_csv("links.csv", index=False)
    llama = common.get_model("Llama 3.3 70B")
    monkeypatch.setattr("real.describe.read_model", lambda name: llama)
    pathlib.Path(re.search(r"\S+\.gguf", commands).group()).touch()

    outputs = []
    for words in (shlex.split(line, comments=True)[1:] for line in commands.splitlines()):
        script, *flags = words[1:] if words[0] == "-m" else words
        few = ["--runs", 1, "--no-plot"] if script == "reproduce.tokens" else []
        status, out, err = run(script.replace(".py", "").replace(".", "/"), *flags, *few)
        assert status == 0, err
        outputs.append(out)
    stages = pd.read_csv("results/FCIM_stages.csv")
    layers = stages["layers"].tolist()
    assert sum(layers) == 80 and len(layers) > 1
    assert f"-ts {','.join(map(str, [*layers[:-1], layers[-1] + 1]))} -c " in outputs[2]
    assert outputs[2].count("ggml-rpc-server -H") == len(layers)
    assert outputs[3].count(f"VLLM_PP_LAYER_PARTITION={','.join(map(str, layers))} vllm serve owner/") == len(layers)
    for device in stages["devices"]:
        assert all(f"# on {device}, 192.0.2." in out for out in outputs[2:])


@pytest.mark.parametrize("name", ALLOCATORS + SCHEDULERS)
def test_the_list_of_the_published_readme_gives_a_result_and_its_ellipsis_one_line(name, run):
    tasks = [
        {"label": "Task 1", "prompt": "...", "arrival_time": 0, "output_words": 1200, "trans_time": 5, "deadline": 100},
        {"label": "Task 2", "prompt": "...", "arrival_time": 3, "output_words": 300, "trans_time": 2, "deadline": 20},
        ...
    ]
    assert run(edited(name, tasks=tasks[:2]), "--no-plot", "--out", "out")[::2] == (0, "")
    refused(run(edited(name, tasks=tasks)), "tasks")


def test_readme_and_continuous_integration_run_the_same_commands():
    assert len(re.findall(r"^(?:python3 -m venv|\.venv/bin/pip) ", TEXTS[0], re.MULTILINE)) == 2
    assert 'grep -E "^(python3 -m venv|\\.venv/bin/pip) " README.md' in (ROOT / ".ci" / "run").read_text()
