"""Cases that outlive an interruption: --keep DIR writes each finished one into a folder, --share k/n runs a part.

A file in the folder is that of one process: a head line of all that the cases depend on, then a line of JSON for each
case, its name and its tables. A case is named by what it is given, not by its place, so that more can be asked for.
"""
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import sys
import uuid

import numpy as np
import pandas as pd

import common

ROOT = pathlib.Path(common.__file__).resolve().parent
TOP = ["common", "ADSA", "FCFS", "FCIM", "HexGen", "LLF", "PipeDream", "PipeEdge", "SRTF", "optimal"]
LISTS = ("tasks", "bids", "links", "network")  # settings that may be the path of a file
# Flags on which no case depends: how many there are, where they run, what is made of them. (The scripts of --also are
# in args.methods.)
FREE = ("runs", "keep", "share", "source", "out", "no_plot", "format", "also")
LONGEST = 150  # characters of a value in a name or a head: a longer one is a digest there


def run_missing(run, study, run_case, jobs, args):
    """The tables of all cases, in the order of the jobs. Those that are in args.keep are not run; of the others only
    args.share, (k, n), is. If cases are missing then, the script ends here, and says how many are there.

    run: function of jobs and of done(k, text), which it calls as soon as job k has given its text (see as_text).
    """
    head = head_of(run_case, args)
    names = [name_of(job) for job in jobs]
    k, n = args.share or (1, 1)
    found = read(args.keep, study, head)
    missing = {name: job for name, job in zip(names[k - 1::n], jobs[k - 1::n]) if name not in found}
    if missing:
        file = f"{study}.{uuid.uuid4().hex[:8]}.jsonl"  # of this process alone
        write(args.keep, file, head)
        left = list(missing)
        run(list(missing.values()), lambda k, text: write(args.keep, file, [left[k], json.loads(text)]))
        found = read(args.keep, study, head)  # with the cases of other processes
    done = sum(name in found for name in names)
    if done < len(jobs):
        print(f"{done:,} of {len(jobs):,} cases are in {args.keep}")
        sys.exit()
    return [found[name] for name in names]


def write(folder, file, line):
    try:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, file), "a", encoding="utf-8", newline="\n") as lines:
            lines.write(json.dumps(line) + "\n")
    except OSError as error:
        raise common.UserError(f"--keep {folder}: {error.strerror}") from error


def read(folder, study, head):
    """{name: tables} of the cases in all files of this study. UserError if one is of another run."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob(f"{study}.*.jsonl")):
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # torn, as its process was killed; or it is being written
                lines.append(json.loads(line))
        if lines:
            other = [key for key in {**head, **lines[0]} if head.get(key) != lines[0].get(key)]
            common.require(not other, f"{path}: cases of another run: {common.cut(', '.join(other), 60)} differ")
            found.update(lines[1:])
    return found


def as_text(run_case, *job):
    """The tables that run_case finds, always a list of them, as JSON: numpy's numbers as those of Python."""
    found = run_case(*job)
    return json.dumps(found if isinstance(found, tuple) else [found], default=plain)


# What cases depend on -------------------------------------------------------------------------------------------------
def head_of(run_case, args):
    """All that the cases depend on, as one dict: settings, digests of files, versions."""
    settings = {key: short(value) for key, value in vars(args).items() if key not in FREE}
    digests = {name: digest(content) for name, content in files(run_case, args).items()}
    return {**settings, **digests, **versions()}


def versions():
    return {"Python": "{}.{}".format(*sys.version_info), "numpy": np.__version__, "pandas": pd.__version__}


def files(run_case, args):
    """{place: content} of the project's code, and of what is the user's: the study perhaps, lists, scripts of --also,
    and what these have imported from beside them."""
    own = [os.path.realpath(path) for path in (run_case.__code__.co_filename, *given(args))]
    folders = {os.path.dirname(path) for path in own}
    loaded = [os.path.realpath(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())]
    own += sorted(path for path in loaded if os.path.dirname(path) in folders and os.path.isfile(path))
    paths = [*(ROOT / f"{name}.py" for name in TOP), *sorted(ROOT.glob("reproduce/*.py")), *own]
    return {place(path): pathlib.Path(path).read_bytes() for path in paths}


def given(args):
    """Paths of the user's files: lists, and scripts of --also."""
    lists = [value for key, value in vars(args).items() if key in LISTS and isinstance(value, str)]
    return lists + [path for path in vars(args).get("methods", {}).values() if path.endswith(".py")]


def place(path):
    """Where a file stands in the project, or, if it is from elsewhere, beside it on a worker."""
    path = pathlib.Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if ROOT in path.parents else f"own/{path.name}"


def name_of(job):
    return ", ".join(map(short, job))


def short(value):
    """A value of a case, or a setting, as a text, of a long one the digest. A script, a model and a device are known by
    their names: the digests of their files say what they are."""
    text = re.sub(r'"[^"]*[/\\]([^"/\\]+\.py)"', r'"\1"', json.dumps(value, default=plain))
    return text.replace('"', "") if len(text) <= LONGEST else digest(text.encode())


def plain(value):
    """What JSON has no word for."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict("list")
    if dataclasses.is_dataclass(value):
        return next(iter(vars(value).values()))
    return value.item()  # numpy's


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
