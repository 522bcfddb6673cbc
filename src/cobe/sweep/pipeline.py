"""The stages of the pipeline, each an artifact made from the ones before it.

A stage takes the pipeline and hands back artifacts; a notebook calls stages and shows what they
made. What a stage needs and does not find, it makes, except the embedded dataset: that is the
simulation's, which nothing here may import, so a missing one is an error that says who makes it.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from cobe.brain.bold import parcel_series
from cobe.brain.dataset import Dataset, Repetition, Run, read_dataset
from cobe.brain.parcels import grey_matter_parcels
from cobe.core.artifacts import Artifact, Store, external
from cobe.core.config import TR_S, Profile, get_profile
from cobe.core.errors import CobeError
from cobe.core.paths import build_dir, data_dir
from cobe.encoding.splits import split_sessions
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.playback import check_rom, decode
from cobe.sweep.jobs import Job, make_all

PARCEL_VOXEL_MM = 6.0
N_PARCELS = 240
TR_TOLERANCE_S = 0.001


@dataclass(frozen=True)
class Pipeline:
    """A profile, the data it reads and the store it writes.

    Attributes
    ----------
    profile : Profile
        What to compute.
    store : Store
        Where results are kept.
    data : Path
        Folder of the data.
    atlas : Artifact
        Label image of the parcels.
    """

    profile: Profile
    store: Store
    data: Path
    atlas: Artifact

    @property
    def simulated(self) -> bool:
        """Whether the data are the embedded, simulated default."""
        return self.profile.plan is not None


def open_pipeline(profile: str, data: str = "") -> Pipeline:
    """The pipeline of a profile, with its parcels ready.

    Parameters
    ----------
    profile : str
        ``"smoke"``, ``"quick"`` or ``"paper"``.
    data : str
        Folder of the data; empty: ``$COBE_DATA``, else ``data/``.

    Raises
    ------
    CobeError
        The profile is unknown, or the folder is a file.
    """
    chosen = get_profile(profile)
    plan = chosen.plan
    store = Store(build_dir(profile) / "artifacts")
    params = {
        "n_parcels": plan.n_parcels if plan else N_PARCELS,
        "voxel_mm": plan.voxel_mm if plan else PARCEL_VOXEL_MM,
        "seed": 0,
    }
    atlas = store.make(
        "atlas",
        params=params,
        write=lambda path: _save_image(grey_matter_parcels(**params), path),
        code=("cobe.brain.parcels",),
        suffix=".nii.gz",
    )
    return Pipeline(chosen, store, data_dir(data), atlas)


def _save_image(image, path: Path) -> None:
    # nibabel's own writer puts the time into the gzip header
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def load_atlas(pipeline: Pipeline):
    """The label image of the parcels (nibabel, int16, 0 = no parcel)."""
    return nibabel.load(pipeline.atlas.path)


def embedded_dataset(pipeline: Pipeline) -> dict:
    """Name, parameters, inputs and code of the embedded dataset, as `Store.make` takes them."""
    return {
        "name": f"embedded-{pipeline.profile.name}",
        "params": pipeline.profile.plan,
        "inputs": {"atlas": pipeline.atlas},
        "code": ("cobe.simulate.dataset",),
    }


def dataset_root(pipeline: Pipeline) -> Path:
    """Folder that holds the raw and the fMRIPrep dataset.

    Raises
    ------
    CobeError
        The embedded dataset has not been made yet, or the folder does not exist.
    """
    if not pipeline.simulated:
        return pipeline.data
    found = Store(pipeline.data, pipeline.store.announce).find(**embedded_dataset(pipeline))
    if found is None:
        raise CobeError(
            f"{pipeline.data}: the embedded dataset of profile {pipeline.profile.name!r} is not "
            "there; run notebook 01_data, or ./run_all.sh, which makes it"
        )
    return found.path


def inventory(pipeline: Pipeline) -> Dataset:
    """Every run of the dataset, joined with its events, replays and BOLD."""
    dataset = read_dataset(dataset_root(pipeline))
    for run in usable_runs(dataset):
        if abs(run.tr_s - TR_S) > TR_TOLERANCE_S:
            raise CobeError(
                f"{run.name}: its repetition time is {run.tr_s} s, this pipeline's is {TR_S} s; "
                "leave the run out, or change TR_S in cobe.core.config"
            )
    return dataset


def usable_runs(dataset: Dataset) -> list[Run]:
    """Runs that can be analysed, in order."""
    return [run for run in dataset.runs if run.usable]


def replayed(run: Run) -> list[Repetition]:
    """Repetitions of a run whose replay is there."""
    return [repetition for repetition in run.repetitions if repetition.has_replay]


def frames(pipeline: Pipeline, dataset: Dataset) -> dict[tuple, Artifact]:
    """Play every replay of the usable runs into the frame store, in parallel.

    Returns
    -------
    stores : dict
        (subject, session, run, row) to the artifact of its frames.

    Raises
    ------
    CobeError
        A game's ROM is missing, or a replay is damaged.
    """
    pairs = [(run, rep) for run in usable_runs(dataset) for rep in replayed(run)]
    if not pairs:
        raise CobeError(f"{dataset.raw}: no usable run has a replay; see its inventory for why")
    check_rom(read_bk2(pairs[0][1].bk2).game)
    size = pipeline.profile.vqvae.resolution
    jobs = [
        Job(
            f"frames/{run.name}_row-{rep.row}",
            _write_frames,
            (rep.bk2, size, rep.skip_first_line),
            params={"size": size, "skip_first_line": rep.skip_first_line},
            inputs={"bk2": external(rep.bk2)},
            code=("cobe.stimulus.playback",),
            suffix=".b2nd",
        )
        for run, rep in pairs
    ]
    made = make_all(pipeline.store, jobs, "playing replays", "replay")
    return {(*run.key, rep.row): item for (run, rep), item in zip(pairs, made, strict=True)}


def _write_frames(path: Path, bk2: Path, size: int, skip_first_line: bool) -> None:
    decode(bk2, path, size, skip_first_line)


def parcel_bold(pipeline: Pipeline, dataset: Dataset) -> dict[tuple, Artifact]:
    """Parcel series of every usable run, cleaned of confounds, z-scored in the run.

    Returns
    -------
    series : dict
        (subject, session, run) to an npz with ``bold`` float32 (n_trs, n_parcels) and ``labels``.
    """
    runs = usable_runs(dataset)
    strategy = pipeline.profile.protocol.confounds
    jobs = [
        Job(
            f"bold/{run.name}",
            _write_bold,
            (run, pipeline.atlas.path, strategy),
            params={"strategy": strategy},
            inputs={
                "atlas": pipeline.atlas,
                "bold": external(run.bold),
                "mask": external(run.mask),
                "confounds": external(run.confounds),
            },
            code=("cobe.brain.bold",),
            suffix=".npz",
        )
        for run in runs
    ]
    made = make_all(pipeline.store, jobs, "parcel series", "run")
    return {run.key: item for run, item in zip(runs, made, strict=True)}


def _write_bold(path: Path, run: Run, atlas: Path, strategy: str) -> None:
    bold, labels = parcel_series(run, nibabel.load(atlas), strategy)
    with open(path, "wb") as handle:
        np.savez(handle, bold=bold, labels=labels)


def load_bold(artifact: Artifact) -> np.ndarray:
    """BOLD of one run: float32 (n_trs, n_parcels)."""
    with np.load(artifact.path, allow_pickle=False) as arrays:
        return arrays["bold"]


def video_roles(pipeline: Pipeline, dataset: Dataset) -> pd.DataFrame:
    """What each replayed repetition is for; a session is for the video model or for the ridge.

    The first `Profile.video_sessions` sessions of each subject belong to the video model: the last
    replayed repetition of each of them validates, the others train. The other sessions belong to
    the ridge.

    Returns
    -------
    roles : DataFrame
        Columns subject, session, run, row, level, onset_s, role
        (``"video_train"``, ``"video_val"``, ``"ridge"``).
    """
    runs = usable_runs(dataset)
    split = split_sessions(runs, pipeline.profile.video_sessions)
    video = {run.key for run in split.video}
    rows = [
        {
            "subject": run.subject,
            "session": run.session,
            "run": run.run,
            "row": rep.row,
            "level": rep.level,
            "onset_s": rep.onset_s,
            "role": "video_train" if run.key in video else "ridge",
        }
        for run in runs
        for rep in replayed(run)
    ]
    roles = pd.DataFrame(rows)
    of_video = roles[roles.role == "video_train"]
    last = of_video.groupby(["subject", "session"]).tail(1).index
    roles.loc[last, "role"] = "video_val"
    return roles


def repetition_keys(roles: pd.DataFrame, role: str) -> list[tuple]:
    """(subject, session, run, row) of the repetitions with that role."""
    chosen = roles[roles.role == role]
    keys = chosen[["subject", "session", "run", "row"]]
    return [tuple(key) for key in keys.itertuples(index=False, name=None)]
