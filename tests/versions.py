"""Whether several environments write the same files, byte for byte: `python tests/versions.py PYTHON PYTHON ...`

Each PYTHON is that of a virtual environment: with the newest releases that requirements.txt allows, as README.md
installs them, or with the oldest that have a wheel for this Python, which are found by

    uv pip compile --resolution lowest-direct --only-binary :all: --python-version 3.7 requirements.txt

In each the nine run on their own lists, and a few of them with files. Prints which files differ from those of the first
environment (of a figure: whether it is one); the exit status is 1 if one does.
"""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TASKS = """label,prompt,arrival_time,output_words,trans_time,deadline,prompt_tokens,memory_gb
one,"two words, and a comma",0.1,100,0.3,20,,
two,,0.30000000000000004,50,1e-06,12.5,700,0.25
three,\u00fc,7,0,2,9.000001,,
"""
RUNS = [[name] for name in ("FCIM", "HexGen", "PipeDream", "PipeEdge", "ADSA", "SRTF", "FCFS", "LLF", "optimal")] + [
    ["SRTF", "--tasks", "tasks.csv", "--out", "tasks"],
    ["HexGen", "--bids", "results/FCIM_bids.csv", "--links", "results/FCIM_links.csv", "--out", "bids"]]


def main(pythons):
    files = {python: run_all(python) for python in pythons}
    first = files[pythons[0]]
    status = 0
    for python, found in files.items():
        differing = [name for name in sorted({*first, *found}) if found.get(name) != first.get(name)]
        print(f"{python}: {len(found)} files, differing: {', '.join(differing) or 'none'}")
        status = 1 if differing else status
    sys.exit(status)


def run_all(python):
    """{file: content of a CSV, or whether a PNG is one} of all runs. What a script says of an error ends this one."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tasks.csv").write_text(TASKS, encoding="utf-8")
        for script, *flags in RUNS:
            command = [python, str(ROOT / f"{script}.py"), *flags]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for path in pathlib.Path(folder).glob("*/*"):
            content = path.read_bytes()
            files[f"{path.parent.name}/{path.name}"] = content[:4] == b"\x89PNG" if path.suffix == ".png" else content
    return files


if __name__ == "__main__":
    main(sys.argv[1:])
