"""Artifacts made here or on a Dask cluster: the same jobs, the same files."""

from __future__ import annotations

import sys
from pathlib import Path

from cobe.core.artifacts import Artifact, Store
from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.sweep.jobs import Job, make_all


def make_anywhere(
    store: Store, jobs: list[Job], what: str, unit: str, client=None
) -> list[Artifact]:
    """The artifacts of all jobs, in their order; what is there is reused.

    Parameters
    ----------
    store : Store
        Where they are kept. Workers of a cluster must see its folder under the same path.
    jobs : list of Job
        What to make; the first are started first.
    what, unit : str
        Words on the progress bar and in the announcement.
    client : distributed.Client or None
        Make what is missing on its workers (`cobe.core.cluster.cluster_client`); None: in processes
        of this machine.

    Returns
    -------
    artifacts : list of Artifact

    Raises
    ------
    CobeError
        A job cannot be done, or took its process down; what the others made is kept.
    """
    if client is None:
        return make_all(store, jobs, what, unit)
    from distributed import as_completed  # Dask takes a second to import

    def find(job: Job) -> Artifact | None:
        return store.find(
            job.name, params=job.params, inputs=job.inputs, code=job.code, suffix=job.suffix
        )

    found = [find(job) for job in jobs]
    missing = [i for i, item in enumerate(found) if item is None]
    root = store.root.resolve()
    # impure: a key of Dask's own would hash all arguments to find equal calls, which there are none
    futures = {
        client.submit(_make_one, root, jobs[i], priority=-place, pure=False): i
        for place, i in enumerate(missing)
    }
    failed = {}
    for future in progress(as_completed(futures), total=len(futures), desc=what, unit=unit):
        error = future.exception()
        if error is not None:
            failed[futures[future]] = error
    if failed:
        first = min(failed)
        raise CobeError(
            f"{jobs[first].name}: {failed[first]} (the first of {len(failed)}); the others are kept"
        ) from failed[first]
    for i in missing:
        # looked up again: the worker's answer may name a folder that this machine does not see
        found[i] = find(jobs[i])
        if found[i] is None:
            raise CobeError(
                f"{jobs[i].name}: a worker made it and it is not in {root}; give workers and this "
                "machine one shared folder (COBE_BUILD)"
            )
    store.announce(f"{what}: {len(missing)} made, {len(jobs) - len(missing)} reused")
    return found


def _make_one(root: Path, job: Job) -> None:
    def announce(line: str) -> None:
        if "damaged" in line:
            print(line, file=sys.stderr, flush=True)

    make_all(Store(root, announce), [job], job.name, "job")
