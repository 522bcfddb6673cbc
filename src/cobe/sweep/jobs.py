"""Many artifacts of one kind: what is there is reused, what is not is made side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cobe.core.artifacts import Artifact, Store
from cobe.core.parallel import map_processes


@dataclass(frozen=True)
class Job:
    """How to make one artifact, so that a worker process can.

    Attributes
    ----------
    name, params, inputs, code, suffix, resumable
        As `cobe.core.artifacts.Store.make` takes them.
    write : callable
        A function of a module: ``write(path, *args)``, or ``write(path, checkpoint, *args)`` where
        it is resumable.
    args : tuple
        What `write` needs; it travels to the worker.
    """

    name: str
    write: Callable
    args: tuple
    params: object
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    suffix: str = ""
    resumable: bool = False


def make_all(store: Store, jobs: list[Job], what: str, unit: str) -> list[Artifact]:
    """The artifacts of all jobs, in their order.

    Parameters
    ----------
    store : Store
        Where they are kept.
    jobs : list of Job
        What to make.
    what, unit : str
        Words on the progress bar and in the announcement.

    Returns
    -------
    artifacts : list of Artifact
    """
    found = [
        store.find(job.name, params=job.params, inputs=job.inputs, code=job.code, suffix=job.suffix)
        for job in jobs
    ]
    missing = [i for i, item in enumerate(found) if item is None]
    made = map_processes(_make, [(store.root, jobs[i]) for i in missing], desc=what, unit=unit)
    for i, item in zip(missing, made, strict=True):
        found[i] = item
    store.announce(f"{what}: {len(missing)} made, {len(jobs) - len(missing)} reused")
    return found


def _make(root: Path, job: Job) -> Artifact:
    def announce(line):
        # hundreds of reuses need no line each; damage does
        if "damaged" in line:
            print(line, file=sys.stderr, flush=True)

    return Store(root, announce).make(
        job.name,
        params=job.params,
        inputs=job.inputs,
        code=job.code,
        suffix=job.suffix,
        resumable=job.resumable,
        write=lambda path, *checkpoint: job.write(path, *checkpoint, *job.args),
    )
