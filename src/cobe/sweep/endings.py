"""Whether the replays of one run end as plays end, as an artifact: by row, with the reason."""

import json
from pathlib import Path

from cobe.brain.dataset import Dataset
from cobe.brain.endings import check_endings
from cobe.core.artifacts import Artifact, Store
from cobe.sweep.jobs import Job


def endings_apart(store: Store, job: Job) -> Artifact:
    """The endings of a run of which one replay took the process down: each replay by itself.

    What failed for another reason fails here again, and says so.
    """
    return store.make(
        job.name,
        params=job.params,
        inputs=job.inputs,
        code=job.code,
        suffix=job.suffix,
        write=lambda path: write_endings(path, *job.args, workers=2),
    )


def write_endings(path: Path, dataset: Dataset, workers: int = 1) -> None:
    """Why replays of the one run cannot be used, by row, and what else was found."""
    checked = check_endings(dataset, workers=workers)
    (before,), (after,) = dataset.runs, checked.runs
    pairs = zip(before.repetitions, after.repetitions, strict=True)
    why = {str(new.row): new.why for old, new in pairs if new.why != old.why}
    path.write_text(json.dumps({"why": why, "findings": list(checked.findings)}))
