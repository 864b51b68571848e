"""Many cases at once on the workers of a Dask scheduler, where DASK_SCHEDULER_ADDRESS names one.

Scheduler and workers (Linux or macOS) need nothing of the project, but Python and its packages: workers get the code
with the cases. There a case runs in a process that has this code alone, never in a thread of the worker: threads would
take turns, disturb each other, and go on with modules of earlier code.
"""
import functools
import itertools
import os
import pickle
import types
from multiprocessing.connection import Connection

import common
from reproduce import keep
from reproduce.parallel import checked, show_progress, work

ADDRESS = "DASK_SCHEDULER_ADDRESS"
AT_ONCE, MORE = 1000, 100  # cases that the scheduler has, as each may hold a list of tasks; and gets at a time


def on_dask(run_case, args, jobs, done=None):
    """[keep.as_text(run_case, *job) for job in jobs]; done(k, text) is called as soon as job k has given its text."""
    from distributed import CancelledError, Client, KilledWorker, as_completed
    address = os.environ[ADDRESS]
    package = pack(run_case, args)
    left = iter(enumerate(jobs))
    texts = {}
    try:
        with Client(address) as client:
            workers = set(client.nthreads())
            packed = client.submit(tuple, package, pure=False)  # as it is: so each worker asks for it once

            def submit(number):
                part = [pickle.dumps(job) for job in itertools.islice(left, number)]
                return client.map(whole(run_there), [packed] * len(part), part, pure=False)
            running = as_completed(submit(AT_ONCE), with_results=True)
            for finished in running:
                _, (worker, result) = checked(*finished)  # it may be cancelled, as the scheduler has gone
                workers.add(worker)
                common.require(result, f"{worker}: the process of a case has ended: see the log of this worker")
                k, texts[k] = checked(*pickle.loads(result))
                if done:
                    done(k, texts[k])
                show_progress(len(texts), len(jobs))
                if len(texts) % MORE == 0:
                    running.update(submit(MORE))
            lost = len(workers.difference(client.nthreads()))
    except (CancelledError, KilledWorker, OSError, ValueError) as error:
        raise common.UserError(f"{address}: {error}") from error
    print(f"{len(workers)} workers of {address}" + (f", {lost} lost" if lost else ""))
    return [texts[k] for k in range(len(jobs))]


def pack(run_case, args):
    """What a worker needs besides the cases: files, as (place, content), and what a process is told first."""
    places = {path: keep.place(path) for path in keep.given(args)}
    first = keep.place(run_case.__code__.co_filename), run_case.__name__, places, keep.versions()
    return tuple(keep.files(run_case, args).items()), pickle.dumps(first)


# On a worker ----------------------------------------------------------------------------------------------------------
def whole(function):
    """The function, in no module: it is sent as it is then, not by a name that is unknown over there."""
    return types.FunctionType(function.__code__, {}, function.__name__)


def run_there(package, job):
    """Runs a job, (k, case), pickled, in a process of this package that waits, or in a new one. Returns who the worker
    is, and (k, what the case gives or raises), pickled too, or nothing if the process has ended."""
    import multiprocessing
    import pathlib
    import subprocess
    import sys
    import tempfile

    from distributed import get_worker
    worker = get_worker()

    def start(files, first):
        folder = tempfile.mkdtemp(dir=worker.local_directory)
        for name, content in files:
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        pipe, its_end = multiprocessing.Pipe()
        lifeline, its_lifeline = multiprocessing.Pipe()
        numbers = its_end.fileno(), its_lifeline.fileno()
        command = f"from reproduce import cluster; cluster.serve{numbers}"
        subprocess.Popen([sys.executable, "-c", command], cwd=folder, pass_fds=numbers)
        pipe.send_bytes(first)
        return pipe, lifeline

    waiting = vars(worker).setdefault("edge_llm", {})  # {package: its processes, each as the two pipes to it}
    try:
        pipe, lifeline = waiting[package].pop()
    except LookupError:
        waiting.clear()  # those of other packages: without their lifelines they end
        pipe, lifeline = start(*package)
    try:
        pipe.send_bytes(job)
        result = pipe.recv_bytes()
    except (EOFError, OSError):
        return worker.address, None
    waiting.setdefault(package, []).append((pipe, lifeline))
    return worker.address, result


def serve(number, lifeline):
    """What such a process does, over pipes of these numbers, until the worker, or its lifeline, has gone. Its folder
    goes with it."""
    from reproduce import study  # which imports this file
    pipe = Connection(number)
    path, name, places, versions = pipe.recv()
    common.require(keep.versions() == versions, f"this worker has {keep.versions()}, not {versions}")
    study.PLACES.update(places)
    run_case = getattr(study.script(path), name)
    work(functools.partial(keep.as_text, run_case), pipe, Connection(lifeline), os.getcwd())
