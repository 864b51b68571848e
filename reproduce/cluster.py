"""Many cases at once on the workers of a Dask scheduler.

Scheduler and workers need Python and the packages, but no copy of the project: its code is sent with the cases.
"""
import logging
import pathlib
import pickle
import sys
import tempfile

import common
from reproduce.parallel import checked, show_progress


def on_dask(address, files, run_case, jobs, done):
    """Calls done(k, run_case(*job)) for each job, as soon as it has been run. files: what cases need, of keep.files."""
    import distributed
    logging.disable()  # one line says what stops a run

    # Dask sends a nested function by value, any other by its name, under which no worker could import it.
    def run_there(k, job, code):
        worker = distributed.get_worker()
        if getattr(worker, "state", worker).nthreads > 1:  # each might need another code; state: not in old releases
            return worker.address, k, ValueError("start workers with --nthreads 1")
        if vars(worker).get("code_of_cases") != code:
            own = worker.local_directory
            for module, its in list(sys.modules.items()):
                if (getattr(its, "__file__", None) or "").startswith(own):
                    del sys.modules[module]  # of an earlier code
            folder = pathlib.Path(tempfile.mkdtemp(dir=own))
            here = ("", str(pathlib.Path.cwd()))  # where a helper of an earlier time may lie
            sys.path[:] = [str(folder), *(path for path in sys.path if not path.startswith(own) and path not in here)]
            files = pickle.loads(code)
            for place, content in files.values():
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(content)
            from reproduce import study
            study.PLACES.update({path: str(folder / place) for path, (place, _) in files.items()})
            worker.code_of_cases = code
        from reproduce import parallel, study
        script, function, *case = pickle.loads(job)
        return worker.address, k, parallel.attempt(getattr(study.script(script), function), case)

    pickled = [pickle.dumps((run_case.__code__.co_filename, run_case.__name__, *job)) for job in jobs]
    workers = set()
    try:
        with distributed.Client(address) as client:
            code = client.submit(bytes, pickle.dumps(files))  # once to each worker
            futures = client.map(run_there, range(len(jobs)), pickled, code=code, pure=False)
            for number, finished in enumerate(distributed.as_completed(futures, with_results=True), 1):
                _, (worker, *result) = checked(*finished)  # the scheduler may have gone
                done(*checked(*result))
                workers.add(worker)
                show_progress(number, len(jobs))
            lost = len(workers.difference(client.nthreads()))
    except (distributed.CancelledError, distributed.scheduler.KilledWorker, OSError, ValueError) as error:
        raise common.UserError(f"{address}: {error}") from error
    print(f"{len(workers)} workers of {address}" + (f", {lost} lost" if lost else ""))
