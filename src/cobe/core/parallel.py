"""Jobs over local processes: results in order, errors whole, nothing left running."""

import os
import threading
import time
import warnings

from joblib import Parallel, delayed

from cobe.core.errors import CobeError
from cobe.core.progress import progress

# joblib replaces a worker whose memory has grown, and no job is lost by it: nothing to act on
warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor")


def n_workers(limit: int | None = None) -> int:
    """Worker processes to use: `COBE_WORKERS`, else the cores this process may use.

    Raises
    ------
    CobeError
        `COBE_WORKERS` is no whole number, or less than one.
    """
    wanted = os.environ.get("COBE_WORKERS")
    if wanted and not (wanted.isdecimal() and len(wanted) < 5 and int(wanted)):
        raise CobeError(
            f"COBE_WORKERS: {wanted[:40]!r} is no whole number from 1 to 9999; correct it"
        )
    available = int(wanted) if wanted else len(os.sched_getaffinity(0))
    return max(1, min(available, limit) if limit else available)


def end_with(parent: int) -> None:
    """Let this process end when its parent has: one that was killed cannot end its workers.

    Parameters
    ----------
    parent : int
        Process id.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def map_processes(function, jobs, *, desc="", unit="job", workers=None):
    """Call ``function(*job)`` for every job, one thread each, over local processes.

    The result does not depend on the number of workers as long as `function` does not.

    Parameters
    ----------
    function : callable
        Importable from a module; arguments and results are pickled between our own processes.
    jobs : sequence of tuple
        Positional arguments of each call.
    desc, unit : str
        Words on the progress bar.
    workers : int or None
        Processes; None: as many as there are cores, or jobs.

    Returns
    -------
    results : list
        In the order of `jobs`.
    """
    jobs = list(jobs)
    if not jobs:
        return []
    workers = n_workers(len(jobs)) if workers is None else workers
    runs = Parallel(
        n_jobs=workers,
        return_as="generator",
        inner_max_num_threads=1,
        backend="loky",
        initializer=end_with,
        initargs=(os.getpid(),),
    )(delayed(function)(*job) for job in jobs)
    return list(progress(runs, total=len(jobs), desc=desc, unit=unit))
