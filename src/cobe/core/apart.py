"""Jobs that may take their process down with them: an emulator that crashes has no exception."""

from __future__ import annotations

import os

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from cobe.core.errors import CobeError, MachineError, short_of_memory
from cobe.core.parallel import end_with, map_processes, n_workers
from cobe.core.progress import progress

_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}


def map_surviving(function, jobs, *, desc="", unit="job", workers=None, apart=False) -> list:
    """`map_processes`, where a job that kills its process stops no other one.

    Where a process dies, all jobs are done again one after the other, each in a process that lives
    until one of them kills it: only so is it known which job does.

    Parameters
    ----------
    function, jobs, desc, unit, workers
        As in `cobe.core.parallel.map_processes`.
    apart : bool
        Give a single worker a process too, where `map_processes` takes this very one: for jobs
        that are known to kill theirs.

    Returns
    -------
    results : list
        In the order of `jobs`; a CobeError in the place of a job that killed its process.

    Raises
    ------
    MachineError
        A job gave one back in place of its result, or its process was killed by SIGKILL while it
        was alone, as a system does that is short of memory.
    """
    jobs = list(jobs)
    workers = n_workers(len(jobs)) if workers is None else workers
    if apart and jobs and workers == 1:
        results = _one_by_one(function, jobs, desc, unit)
    else:
        try:
            results = map_processes(function, jobs, desc=desc, unit=unit, workers=workers)
        except BrokenProcessPool:
            results = _one_by_one(function, jobs, desc, unit)
    for item in results:
        if isinstance(item, MachineError):
            raise item
    return results


def _lone_worker() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        max_workers=1, env=_ONE_THREAD, initializer=end_with, initargs=(os.getpid(),)
    )


def _one_by_one(function, jobs: list, desc: str, unit: str) -> list:
    results, executor = [], None
    try:
        for job in progress(jobs, total=len(jobs), desc=desc, unit=unit):
            executor = executor or _lone_worker()
            try:
                results.append(executor.submit(function, *job).result())
            except BrokenProcessPool as error:
                executor.shutdown(kill_workers=True)
                executor = None
                if "SIGKILL" in str(error):  # loky tells how its workers ended in words only
                    raise short_of_memory(
                        f"{desc}: a process was killed, as happens where memory is short"
                    ) from None
                results.append(CobeError("its process died: it crashed"))
    finally:
        if executor is not None:
            executor.shutdown()
    return results
