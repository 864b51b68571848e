"""Cases that outlive an interruption: --keep DIR writes each finished one into a folder, --share k/n runs a part.

Each process writes a file of its own: a head line with all that the cases depend on, then for each case a line of JSON,
its name and its tables. Its name is a digest of its arguments, not its number, so that a larger --runs finds it again.
"""
import hashlib
import json
import os
import pathlib
import sys

import numpy as np
import pandas as pd

import common

ROOT = pathlib.Path(common.__file__).resolve().parent
TOP = ["common", "ADSA", "FCFS", "FCIM", "HexGen", "LLF", "PipeDream", "PipeEdge", "SRTF", "optimal"]
FREE = ("runs", "keep", "share", "source", "out", "no_plot", "format", "also")  # flags that change no case


def run_missing(run, study, head, jobs, folder, share):
    """The tables of all cases, in the order of the jobs. Those that are in the folder are not run; of the others only
    every n-th, from the k-th on: share = (k, n). If cases are missing then, the script ends here. run: function of
    jobs and of done(k, tables), which it calls as soon as job k has been run."""
    names = [hashlib.sha256(to_json(job).encode()).hexdigest() for job in jobs]
    found = read(folder, study, head)
    first, step = share
    mine = list(zip(names, jobs))[first - 1::step]
    missing = [(name, job) for name, job in mine if name not in found]
    if missing:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{study}.{os.urandom(4).hex()}.jsonl")  # of this process alone
        with open(path, "w", buffering=1, encoding="utf-8", newline="\n") as file:  # each line is written at once
            file.write(to_json(head) + "\n")
            run([job for _, job in missing], lambda k, tables: file.write(to_json([missing[k][0], tables]) + "\n"))
        found = read(folder, study, head)  # with the cases of other processes
    number = sum(name in found for name in names)
    if number < len(names):
        print(f"{number:,} of {len(names):,} cases are in {folder}")
        sys.exit()
    return [found[name] for name in names]


def read(folder, study, head):
    """{name: tables} of the cases in all files of this study. UserError if one is of another run."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob(f"{study}.*.jsonl")):
        *lines, _ = path.read_text(encoding="utf-8").split("\n")  # behind the last \n: nothing, or what is torn
        if lines:
            theirs, *cases = map(json.loads, lines)
            other = [os.path.basename(key) for key in {**head, **theirs} if head.get(key) != theirs.get(key)]
            common.require(not other, f"{path}: cases of another run, not the same: {common.cut(', '.join(other), 60)}")
            found.update(cases)
    return found


def to_json(value):
    def plain(cell):  # what JSON has no word for: a table, a number of numpy's, a model or a device
        if isinstance(cell, pd.DataFrame):
            return cell.to_dict("list")
        return cell.item() if isinstance(cell, np.generic) else vars(cell)
    return json.dumps(value, default=plain)


def head_of(run_case, args):
    """What cases depend on: settings, digests of files, versions."""
    head = {key: value for key, value in vars(args).items() if key not in FREE}
    head.update({place: hashlib.sha256(content).hexdigest() for place, content in files(run_case, args).values()})
    head.update(Python="{}.{}".format(*sys.version_info), numpy=np.__version__, pandas=pd.__version__)
    return json.loads(to_json(head))  # as it reads back


def files(run_case, args):
    """{path: (place, content)} of the project's code, of the study, lists, scripts of --also, and what these have
    imported from beside them. place: where it goes on a worker, its path in the project or own/ and its path."""
    settings = [*vars(args).values(), *args.methods.values()]
    given = [value for value in settings if isinstance(value, str) and os.path.isfile(value)]
    given.append(run_case.__code__.co_filename)
    folders = {pathlib.Path(path).resolve().parent for path in given}
    beside = []
    for name, module in sorted(sys.modules.items()):
        path = pathlib.Path(getattr(module, "__file__", None) or "").resolve()
        depth = name.count(".") + (path.stem == "__init__")  # in a package
        if path.is_file() and path.parents[depth] in folders:
            beside.append(path)
    found = {}
    for path in [*(ROOT / f"{name}.py" for name in TOP), *sorted(ROOT.glob("reproduce/*.py")), *given, *beside]:
        real = pathlib.Path(path).resolve()
        place = real.relative_to(ROOT).as_posix() if ROOT in real.parents else "/".join(["own", *real.parts[1:]])
        found[str(path)] = place, real.read_bytes()
    return found
