"""Whether the oldest and the newest releases that requirements.txt allows write the same files, byte for byte.

    python tests/versions.py python3.7 python3.13
    python tests/versions.py python3.7 python3.13 --folder ENVIRONMENTS

Makes two environments for each Python named (a command, or a path): one as README.md installs it, and one with the
oldest releases that requirements.txt allows and that have a wheel for this Python. In each the nine run on their
own lists, and a few of them with files and with a figure. Prints a table: the releases, and which files differ from
those of the first environment; the exit status is 1 if one does.

Run by hand: an environment takes minutes to make. In --folder they are kept, and used again if they are there.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
PACKAGES = ["numpy", "pandas", "matplotlib", "pulp", "transformers"]
NINE = ["FCIM", "HexGen", "PipeDream", "PipeEdge", "ADSA", "SRTF", "FCFS", "LLF", "optimal"]
TASKS = """label,prompt,arrival_time,output_words,trans_time,deadline,prompt_tokens,memory_gb
one,"two words, and a comma",0.1,100,0.3,20,,
two,,0.30000000000000004,50,1e-06,12.5,700,0.25
three,\u00fc,7,0,2,9.000001,,
"""
MODEL = {"model_type": "gpt2", "n_layer": 5, "n_embd": 1024, "n_head": 16, "n_positions": 2048}
# {what a run shows: the script and its flags}; each writes into a folder named after it
RUNS = dict({name: [name, "--no-plot"] for name in NINE}, **{
    "tasks": ["SRTF", "--no-plot", "--tasks", "tasks.csv"],
    "model": ["FCFS", "--no-plot", "--model", "./model"],
    "bids": ["HexGen", "--no-plot", "--bids", "FCIM/FCIM_bids.csv", "--links", "FCIM/FCIM_links.csv"],
    "gantt": ["ADSA"],
    "layers": ["PipeEdge"],
})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="+", help="python3.7 and the newest Python at hand")
    parser.add_argument("--folder", help="where environments are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(args.folder or temporary).resolve()
        found = {}
        for python in args.pythons:
            for releases in ("oldest", "newest"):
                environment = make_environment(folder, python, releases)
                found[describe(environment)] = run_all(environment)
    print_table(found)
    sys.exit(any(files != next(iter(found.values())) for files in found.values()))


def make_environment(folder, python, releases):
    """The Python of an environment; made, unless the folder has it."""
    place = folder / f"{version_of(python)}-{releases}"
    environment = place / "bin" / "python"
    if not (place / "ready").exists():
        say(f"making {place.name} ...")
        call(python, "-m", "venv", "--clear", place)
        wanted = ["-r", REQUIREMENTS]
        if releases == "oldest":
            pins = oldest_releases(folder, version_of(python))
            (place / "oldest.txt").write_text(pins)
            wanted = ["-r", place / "oldest.txt", "--only-binary", ":all:"]
        call(environment, "-m", "pip", "install", "--quiet", *wanted)
        (place / "ready").write_text("")
    return environment


def oldest_releases(folder, version):
    """The oldest releases that requirements.txt allows and that have wheels for a Python, as a requirements file,
    and the newest of what these need. uv finds them; pip has no such choice."""
    uv = folder / "uv" / "bin" / "uv"
    if not uv.exists():
        call(sys.executable, "-m", "venv", "--clear", folder / "uv")
        call(folder / "uv" / "bin" / "python", "-m", "pip", "install", "--quiet", "uv")
    return call(uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--resolution", "lowest-direct",
                "--only-binary", ":all:", "--python-version", version, REQUIREMENTS)


def describe(environment):
    """Versions of Python and of the packages."""
    rows = json.loads(call(environment, "-m", "pip", "list", "--format", "json"))
    versions = {row["name"].lower(): row["version"] for row in rows}
    return (version_of(environment), *[versions[name] for name in PACKAGES])


def run_all(environment):
    """{folder/file: content of a CSV, or whether a PNG is one} of all runs."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "tasks.csv").write_text(TASKS, encoding="utf-8")
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(MODEL))
        for name, (script, *flags) in RUNS.items():
            say(f"{name} ...")
            call(environment, ROOT / f"{script}.py", *flags, "--out", name, cwd=folder)
            for path in sorted((folder / name).iterdir()):
                content = path.read_bytes()
                files[f"{name}/{path.name}"] = content[:4] == b"\x89PNG" if path.suffix == ".png" else content
    return files


def print_table(found):
    reference = next(iter(found.values()))
    print("".join(f"{title:14}" for title in ["Python", *PACKAGES, "files", "figures"]) + "differing")
    for versions, files in found.items():
        differing = [name for name in sorted({*reference, *files}) if files.get(name) != reference.get(name)]
        figures = sum(content is True for content in files.values())
        cells = [*versions, len(files), figures]
        print("".join(f"{cell!s:14}" for cell in cells) + (", ".join(differing) or "none"))


def version_of(python):
    return call(python, "-c", "import platform; print(platform.python_version())").strip()


def call(*command, cwd=None):
    """What a command prints; its errors go to the terminal, and end this script with it."""
    return subprocess.run(list(map(str, command)), cwd=cwd, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def say(text):
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
