"""Cases that outlive an interruption: --keep DIR writes each finished one into a folder, --share k/n runs a part.

A file in the folder is that of one process: a head line of all that the cases depend on, then a line of JSON for each
case, its name and its tables. Its name is a digest of what the case is given, not its place: so more can be asked for.
"""
import hashlib
import json
import os
import pathlib
import sys
import uuid

import numpy as np
import pandas as pd

import common

ROOT = pathlib.Path(common.__file__).resolve().parent
TOP = ["common", "ADSA", "FCFS", "FCIM", "HexGen", "LLF", "PipeDream", "PipeEdge", "SRTF", "optimal"]
FREE = ("runs", "keep", "share", "source", "out", "no_plot", "format", "also")  # flags on which no case depends


def run_missing(run, study, head, jobs, folder, share):
    """The tables of all cases, in the order of the jobs. Those that are in the folder are not run; of the others only
    every n-th, from the k-th on: share = (k, n). If cases are missing then, the script ends here.

    run: function of jobs and of done(k, tables), which it calls as soon as job k has been run.
    """
    names = [digest(to_json(job).encode()) for job in jobs]
    found = read(folder, study, head)
    k, n = share
    missing = [(name, job) for name, job in list(zip(names, jobs))[k - 1::n] if name not in found]
    if missing:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{study}.{uuid.uuid4().hex[:8]}.jsonl")  # of this process alone
        with open(path, "w", buffering=1, encoding="utf-8", newline="\n") as file:  # each line is written at once
            file.write(to_json(head) + "\n")
            run([job for _, job in missing], lambda k, tables: file.write(to_json([missing[k][0], tables]) + "\n"))
        found = read(folder, study, head)  # with the cases of other processes
    done = sum(name in found for name in names)
    if done < len(names):
        print(f"{done:,} of {len(names):,} cases are in {folder}")
        sys.exit()
    return [found[name] for name in names]


def read(folder, study, head):
    """{name: tables} of the cases in all files of this study. UserError if one is of another run."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob(f"{study}.*.jsonl")):
        *lines, _ = path.read_text(encoding="utf-8").split("\n")  # the last one is torn, or is being written
        if lines:
            theirs, *cases = map(json.loads, lines)
            other = [os.path.basename(key) for key in {**head, **theirs} if head.get(key) != theirs.get(key)]
            common.require(not other, f"{path}: cases of another run: {common.cut(', '.join(other), 60)} differ")
            found.update(cases)
    return found


def to_json(value):
    def plain(value):  # what JSON has no word for: a table, a number of numpy's, a model or a device
        if isinstance(value, pd.DataFrame):
            return value.to_dict("list")
        return value.item() if isinstance(value, np.generic) else vars(value)
    return json.dumps(value, default=plain)


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


# What cases depend on -------------------------------------------------------------------------------------------------
def head_of(run_case, args):
    """Settings, digests of files, versions."""
    head = {key: value for key, value in vars(args).items() if key not in FREE}
    head.update({place: digest(content) for place, content in files(run_case, args).values()})
    head.update(Python="{}.{}".format(*sys.version_info), numpy=np.__version__, pandas=pd.__version__)
    return json.loads(to_json(head))  # as it is once read


def files(run_case, args):
    """{path: (place, content)} of the project's code, of the study, lists, scripts of --also, and what these have
    imported from beside them. A place is a path in the project, or among the files that are the user's own."""
    settings = [*vars(args).values(), *args.methods.values()]
    given = [value for value in settings if isinstance(value, str) and os.path.isfile(value)]
    given.append(run_case.__code__.co_filename)
    folders = {pathlib.Path(path).resolve().parent for path in given}
    loaded = [pathlib.Path(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())]
    beside = sorted(path for path in loaded if path.resolve().parent in folders and path.is_file())
    found = {}
    for path in [*(ROOT / f"{name}.py" for name in TOP), *sorted(ROOT.glob("reproduce/*.py")), *given, *beside]:
        real = pathlib.Path(path).resolve()
        place = real.relative_to(ROOT).as_posix() if ROOT in real.parents else "/".join(["own", *real.parts[1:]])
        found[str(path)] = place, real.read_bytes()
    return found
