"""Many cases at once on the workers of a Dask scheduler.

Scheduler and workers need nothing of the project, but Python and its packages: workers get its code with the cases.
"""
import pathlib
import pickle
import sys
import tempfile

import common
from reproduce.parallel import checked, show_progress


def on_dask(address, files, run_case, jobs, done):
    """Calls done(k, run_case(*job)) for each job, as soon as it has been run. files: what cases need, of keep.files."""
    from distributed import CancelledError, Client, KilledWorker, as_completed, get_worker

    # Dask sends a function that stands in another one as it is; of any other its name, which no worker knows.
    def run_there(k, job, code):
        worker = get_worker()
        if vars(worker).get("code_of_cases") != code:
            own = worker.local_directory
            for name, module in list(sys.modules.items()):
                if (getattr(module, "__file__", None) or "").startswith(own):
                    del sys.modules[name]  # it is of an earlier code
            folder = pathlib.Path(tempfile.mkdtemp(dir=own))
            sys.path[:] = [str(folder), *(path for path in sys.path if not path.startswith(own))]
            places = {}
            for path, (place, content) in pickle.loads(code).items():
                places[path] = str(folder / place)
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(content)
            from reproduce import study
            study.PLACES.update(places)
            worker.code_of_cases = code
        from reproduce import parallel, study
        path, name, *case = pickle.loads(job)
        return worker.address, k, parallel.attempt(getattr(study.script(path), name), case)

    jobs = [pickle.dumps((run_case.__code__.co_filename, run_case.__name__, *job)) for job in jobs]
    workers = set()
    try:
        with Client(address) as client:
            common.require(set(client.nthreads().values()) <= {1}, f"{address}: start workers with --nthreads 1")
            code = client.submit(bytes, pickle.dumps(files))  # once to each worker
            futures = client.map(run_there, range(len(jobs)), jobs, code=code, pure=False)
            for number, finished in enumerate(as_completed(futures, with_results=True), 1):
                _, (worker, *result) = checked(*finished)  # the scheduler may have gone
                done(*checked(*result))
                workers.add(worker)
                show_progress(number, len(jobs))
            lost = len(workers.difference(client.nthreads()))
    except (CancelledError, KilledWorker, OSError, ValueError) as error:
        raise common.UserError(f"{address}: {error}") from error
    print(f"{len(workers)} workers of {address}" + (f", {lost} lost" if lost else ""))
