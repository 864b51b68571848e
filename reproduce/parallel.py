"""Many cases at once: as many processes as there are cores, none of which outlives the script.

Each worker leads a process group of its own, so that it is killed with all that it has started, a solver perhaps. It
hears that the script has gone by the end of a pipe, which no signal can withhold; temporary files go into one folder.
"""
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback

import common

MOST = 60  # processes: Windows waits for no more pipes at once


def parallel(function, jobs, done):
    """Calls done(k, function(*job)) for each job, as soon as it has been run, with a progress bar on a terminal.
    Whatever ends this process, Ctrl-C or SIGKILL, ends the workers and what they have started, and their files go."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")  # fork: at once
    folder, lifeline = tempfile.mkdtemp(), context.Pipe(duplex=False)
    waiting = list(enumerate(jobs))[::-1]
    workers = {}
    finished = 0
    try:
        for _ in range(min(len(jobs), cores(), MOST)):
            pipe, its_end = context.Pipe()
            workers[pipe] = context.Process(target=work, args=(function, its_end, lifeline, folder), daemon=True)
            workers[pipe].start()
            its_end.close()  # it is the worker's alone now, so that the pipe ends with the worker
            pipe.send(waiting.pop())
        while finished < len(jobs):
            for pipe in multiprocessing.connection.wait(workers):
                done(*receive(pipe))
                finished += 1
                show_progress(finished, len(jobs))
                if waiting:
                    pipe.send(waiting.pop())
    finally:
        for worker in workers.values():
            if worker.pid:
                end_group(worker.pid)
                worker.kill()  # if it led no group yet
                worker.join()
        remove(folder)
        if sys.stderr.isatty() and 0 < finished < len(jobs):
            print("", file=sys.stderr)  # what is said next does not stand behind the bar


def cores():
    """How many this process may use: a scheduler such as SLURM may have given it a part of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def receive(pipe):
    """What a worker sends: the number of a job and its result. Raises what the job has raised."""
    try:
        return checked(*pipe.recv())
    except (EOFError, OSError) as error:
        raise common.UserError("a process that ran one of the cases has ended: killed, or out of memory") from error


def checked(k, result):
    if isinstance(result, Exception):
        raise result
    return k, result


def show_progress(number, of):
    if sys.stderr.isatty():
        marks = number * 40 // of
        print(f"\r[{'#' * marks}{'.' * (40 - marks)}] {number} of {of}", end="\n" if number == of else "",
              file=sys.stderr, flush=True)


def work(function, pipe, lifeline, folder):
    """What a worker does: one job after another, until it is killed, or its parent, by the end of a pipe, has gone."""
    parent, its_end = lifeline
    its_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    tempfile.tempdir = folder
    watcher = threading.Thread(target=watch, args=(parent, folder), daemon=True)
    watcher.start()
    while True:
        try:
            k, job = pipe.recv()
        except EOFError:
            watcher.join()  # which ends this process, as the parent has gone
        pipe.send((k, attempt(function, job)))


def attempt(function, job):
    """What a job gives; what it raises, as an error of one line."""
    try:
        return function(*job)
    except (common.UserError, common.NoAllocation) as error:
        return error
    except Exception as error:  # of a script of the user's, perhaps, or of a package
        at = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {common.format_value(error)} ({at.filename}, line {at.lineno})"
        return common.UserError(text)


def watch(parent, folder):
    """Ends the worker, and what it has started, once its parent has gone."""
    with contextlib.suppress(EOFError):
        parent.recv()  # nothing is ever sent
    remove(folder)
    end_group(os.getpid())
    os._exit(1)


def end_group(leader):
    """Kills a worker and what it has started, where there are process groups."""
    with contextlib.suppress(AttributeError, OSError):  # Windows; or it has ended
        os.killpg(leader, signal.SIGKILL)


def remove(folder):
    """Removes a folder, under a name by which nobody writes into it meanwhile."""
    with contextlib.suppress(OSError):  # another worker is at it
        os.rename(folder, f"{folder}.old")
    shutil.rmtree(f"{folder}.old", ignore_errors=True)
