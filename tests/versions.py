"""Whether several environments write the same files, byte for byte: `python tests/versions.py PYTHON PYTHON ...`

Each PYTHON is that of a virtual environment: with the newest releases that requirements.txt allows, as README.md
installs them, or with the oldest that have a wheel for this Python, which are found by

    uv pip compile --resolution lowest-direct --only-binary :all: --python-version 3.7 requirements.txt

In each the nine run on their own lists, and a few of them with files. Prints, for each environment, the releases and
which files differ from those of the first; the exit status is 1 if one does. (Of a figure: whether it is one.)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["numpy", "pandas", "matplotlib", "pulp", "transformers"]
TASKS = """label,prompt,arrival_time,output_words,trans_time,deadline,prompt_tokens,memory_gb
one,"two words, and a comma",0.1,100,0.3,20,,
two,,0.30000000000000004,50,1e-06,12.5,700,0.25
three,\u00fc,7,0,2,9.000001,,
"""
RUNS = [[name] for name in ("FCIM", "HexGen", "PipeDream", "PipeEdge", "ADSA", "SRTF", "FCFS", "LLF", "optimal")] + [
    ["SRTF", "--tasks", "tasks.csv", "--out", "tasks"],
    ["HexGen", "--bids", "results/FCIM_bids.csv", "--links", "results/FCIM_links.csv", "--out", "bids"]]


def main(pythons):
    print("".join(f"{title:14}" for title in ["Python", *PACKAGES, "files"]) + "differing")
    reference = None
    same = True
    for python in pythons:
        files = run_all(python)
        reference = reference or files
        differing = [name for name in sorted({*reference, *files}) if files.get(name) != reference.get(name)]
        same = same and not differing
        cells = [*releases(python), len(files)]
        print("".join(f"{cell!s:14}" for cell in cells) + (", ".join(differing) or "none"), flush=True)
    sys.exit(not same)


def releases(python):
    """Versions of Python and of the packages."""
    rows = json.loads(call(python, "-m", "pip", "list", "--format", "json"))
    versions = {row["name"].lower(): row["version"] for row in rows}
    version = call(python, "-c", "import platform; print(platform.python_version())").strip()
    return [version, *(versions[name] for name in PACKAGES)]


def run_all(python):
    """{file: content of a CSV, or whether a PNG is one} of all runs."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tasks.csv").write_text(TASKS, encoding="utf-8")
        for script, *flags in RUNS:
            call(python, ROOT / f"{script}.py", *flags, cwd=folder)
        for path in pathlib.Path(folder).glob("*/*"):
            content = path.read_bytes()
            files[f"{path.parent.name}/{path.name}"] = content[:4] == b"\x89PNG" if path.suffix == ".png" else content
    return files


def call(*command, cwd=None):
    """What a command prints; its errors go to the terminal, and end this script with it."""
    return subprocess.run(list(map(str, command)), cwd=cwd, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


if __name__ == "__main__":
    main(sys.argv[1:])
