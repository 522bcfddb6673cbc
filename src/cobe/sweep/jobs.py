"""Many artifacts of one kind: what is there is reused, what is not is made side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cobe.core.apart import map_surviving
from cobe.core.artifacts import Artifact, Store
from cobe.core.errors import CobeError, short_of_memory


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
    apart : bool
        It may crash, and never runs in this very process.
    """

    name: str
    write: Callable
    args: tuple
    params: object
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    suffix: str = ""
    resumable: bool = False
    apart: bool = False


def make_all(
    store: Store, jobs: list[Job], what: str, unit: str, failures: dict[str, str] | None = None
) -> list[Artifact | None]:
    """The artifacts of all jobs, in their order.

    Parameters
    ----------
    store : Store
        Where they are kept.
    jobs : list of Job
        What to make.
    what, unit : str
        Words on the progress bar and in the announcement.
    failures : dict or None
        Given: a job that cannot be done stops no other one; its name and the reason go in here,
        and None stands in its place.

    Returns
    -------
    artifacts : list of Artifact or None

    Raises
    ------
    CobeError
        A job cannot be done, or took its process down, and `failures` is None; what the others
        made is kept.
    MachineError
        The disk or the memory does not suffice for a job, with `failures` or without.
    """
    found = [
        store.find(job.name, params=job.params, inputs=job.inputs, code=job.code, suffix=job.suffix)
        for job in jobs
    ]
    missing = [i for i, item in enumerate(found) if item is None]
    make = _make if failures is None else _try_to_make
    made = map_surviving(
        make,
        [(store.root, jobs[i]) for i in missing],
        desc=what,
        unit=unit,
        apart=any(jobs[i].apart for i in missing),
    )
    failed_jobs = {} if failures is None else failures
    for i, item in zip(missing, made, strict=True):
        if isinstance(item, CobeError):
            failed_jobs[jobs[i].name] = str(item)
        else:
            found[i] = item
    if failures is None and failed_jobs:  # a process died; what raised has ended this call above
        name, reason = next(iter(failed_jobs.items()))
        raise CobeError(f"{name}: {reason} (the first of {len(failed_jobs)}); the others are kept")
    n_failed = sum(item is None for item in found)
    failed = f", {n_failed} failed" if n_failed else ""
    store.announce(
        f"{what}: {len(missing) - n_failed} made, {len(jobs) - len(missing)} reused{failed}"
    )
    return found


def _try_to_make(root: Path, job: Job) -> Artifact | CobeError:
    try:
        return _make(root, job)
    except CobeError as error:
        return error
    except MemoryError as error:
        return short_of_memory(f"{job.name}: too little memory ({error})")
    except (TypeError, ValueError) as error:  # input of a kind that no check knows
        return CobeError(f"{job.name}: {type(error).__name__}: {error}")


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
