"""The stages of the pipeline, each an artifact made from the ones before it.

A stage takes the pipeline and hands back artifacts; a notebook calls stages and shows what they
made. What a stage needs and does not find, it makes, except the embedded dataset: that is the
simulation's, which nothing here may import, so a missing one is an error that says who makes it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from cobe.brain import layout
from cobe.brain.checks import with_repetitions
from cobe.brain.dataset import Dataset, Repetition, Run, read_dataset
from cobe.core.arrays import read_npz
from cobe.core.artifacts import Artifact, Store, external
from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.core.paths import build_dir, data_dir
from cobe.core.profiles import get_profile
from cobe.core.timing import TR_S
from cobe.encoding.splits import split_sessions
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.playback import check_rom
from cobe.sweep.decoding import write_frames
from cobe.sweep.endings import endings_apart, write_endings
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.targets import (
    atlas_of_series,
    check_space,
    grey_matter,
    named_atlas,
    series_job,
    source_there,
    volumes_job,
)

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
    space : str
        Space of the BOLD, as in the file names.
    source : str
        ``"fmriprep"``: parcels are cut out of volumes; ``"timeseries"``: the lab's extracted
        series.
    """

    profile: Profile
    store: Store
    data: Path
    atlas: Artifact
    space: str = layout.SPACE
    source: str = "fmriprep"

    @property
    def simulated(self) -> bool:
        """Whether the data are the embedded, simulated default."""
        return self.profile.plan is not None


def open_pipeline(profile: str, data: str = "") -> Pipeline:
    """The pipeline of a profile, with its parcels ready.

    For data on the user's disk, the environment chooses: ``COBE_ATLAS`` the parcels, by a name or
    path of `cobe.brain.atlases.atlas` (default: the project's own grey-matter parcels);
    ``COBE_SPACE`` the space of the BOLD (default: MNI152NLin2009cAsym; a participant's own, such as
    T1w, takes a label image of that participant by path, and one participant); ``COBE_SOURCE``
    ``fmriprep`` or ``timeseries`` (default: volumes where any is there, else the lab's extracted
    series). Extracted series come with parcels of their own.

    Parameters
    ----------
    profile : str
        ``"smoke"``, ``"quick"`` or ``"paper"``.
    data : str
        Folder of the data; empty: ``$COBE_DATA``, else ``data/``.

    Raises
    ------
    CobeError
        The profile is unknown, the folder is a file, or the atlas cannot be had or does not belong
        in the space of the BOLD.
    """
    chosen = get_profile(profile)
    _check_cleaned_alike(chosen)
    store = Store(build_dir(profile) / "artifacts")
    folder = data_dir(data)
    if chosen.plan is not None:
        plan = chosen.plan
        return Pipeline(chosen, store, folder, grey_matter(store, plan.n_parcels, plan.voxel_mm))
    space = os.environ.get("COBE_SPACE") or layout.SPACE
    source = os.environ.get("COBE_SOURCE") or source_there(folder, space)
    name = os.environ.get("COBE_ATLAS", "")
    if source == "timeseries":
        if name:
            raise CobeError(
                f"COBE_ATLAS={name}: extracted series have parcels of their own; unset it, or set "
                "COBE_SOURCE=fmriprep"
            )
        dataset = read_dataset(folder, space=space, source=source)
        atlas = atlas_of_series(store, dataset, space)
    elif name:
        check_space(folder, space, name)
        atlas = named_atlas(store, name, folder / "atlases", space)
    else:
        check_space(folder, space, name)
        atlas = grey_matter(store, N_PARCELS, PARCEL_VOXEL_MM)
    return Pipeline(chosen, store, folder, atlas, space, source)


def _check_cleaned_alike(profile: Profile) -> None:
    """BOLD is read once: protocols that clean it differently would be scored on the same series."""
    ways = (profile.published, *dict(profile.published_by_axis).values())
    for way in ways:
        for field in ("confounds", "smoothing_mm"):
            ours, theirs = getattr(profile.protocol, field), getattr(way, field)
            if ours != theirs:
                raise CobeError(
                    f"profile {profile.name!r}: {field} is {ours!r} in {profile.protocol.name} and "
                    f"{theirs!r} in {way.name}; BOLD is cleaned once, give both the same"
                )


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
    """Every run of the dataset, joined with its events, replays and BOLD.

    Where the ROM is there, replays that do not end as a play ends are left out, with the reason.
    A run of another repetition time than the pipeline's is left out too.
    """
    dataset = read_dataset(dataset_root(pipeline), space=pipeline.space, source=pipeline.source)
    runs = tuple(_check_tr(run) for run in dataset.runs)
    dataset = replace(dataset, runs=runs)
    return dataset if pipeline.simulated else _check_endings(pipeline, dataset)


def _check_tr(run: Run) -> Run:
    if not run.usable or abs(run.tr_s - TR_S) <= TR_TOLERANCE_S:
        return run
    why = f"its repetition time is {run.tr_s} s, this pipeline's is {TR_S} s (cobe.core.config)"
    return replace(run, usable=False, why=why)


def _check_endings(pipeline: Pipeline, dataset: Dataset) -> Dataset:
    """The dataset without replays that are out of step; as it is where there is no ROM yet."""
    runs = usable_runs(dataset)
    try:
        stimuli = stimuli_with_rom(dataset)
    except CobeError:
        return dataset  # the frames cannot be played either, and that stage says why
    folders = replace(dataset.folders, stimuli=stimuli)
    jobs = [
        Job(
            f"endings/{run.name}",
            write_endings,
            (replace(dataset, folders=folders, runs=(run,), findings=()),),
            params={"skip_first_line": [rep.skip_first_line for rep in replayed(run)]},
            inputs={f"bk2 {rep.row}": external(rep.bk2) for rep in replayed(run)},
            code=("cobe.sweep.endings",),
            suffix=".json",
            apart=True,
        )
        for run in runs
    ]
    failures = {}
    made = make_all(pipeline.store, jobs, "checking how replays end", "run", failures)
    checked, findings = {}, list(dataset.findings)
    for run, job, item in zip(runs, jobs, made, strict=True):
        if item is None:
            item = endings_apart(pipeline.store, job)
        found = json.loads(item.path.read_text())
        findings += found["findings"]
        repetitions = tuple(
            replace(rep, why=found["why"].get(str(rep.row), rep.why)) for rep in run.repetitions
        )
        checked[run.key] = with_repetitions(run, repetitions)
    return replace(
        dataset,
        runs=tuple(checked.get(run.key, run) for run in dataset.runs),
        findings=tuple(findings),
    )


def stimuli_with_rom(dataset: Dataset) -> Path | None:
    """The dataset's integrations where the ROM lies in them; None: stable-retro's own has it.

    Raises
    ------
    CobeError
        Neither holds the ROM, or there is no replay to name the game.
    """
    replays = [rep.bk2 for run in usable_runs(dataset) for rep in replayed(run)]
    if not replays:
        raise CobeError(f"{dataset.raw}: no usable run has a replay; see its inventory for why")
    game, stimuli = read_bk2(replays[0]).game, dataset.folders.stimuli
    try:
        check_rom(game, stimuli)
    except CobeError:
        if stimuli is None:
            raise
        try:
            check_rom(game)
        except CobeError:
            pass
        else:
            return None
        raise
    return stimuli


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
    stimuli = stimuli_with_rom(dataset)
    pairs = [(run, rep) for run in usable_runs(dataset) for rep in replayed(run)]
    size = pipeline.profile.vqvae.resolution
    jobs = [
        Job(
            f"frames/{run.name}_row-{rep.row}",
            write_frames,
            (rep.bk2, size, rep.skip_first_line, stimuli),
            params={"size": size, "skip_first_line": rep.skip_first_line},
            inputs={"bk2": external(rep.bk2)},
            code=("cobe.sweep.decoding",),
            suffix=".b2nd",
            apart=True,
        )
        for run, rep in pairs
    ]
    made = make_all(pipeline.store, jobs, "playing replays", "replay")
    return {(*run.key, rep.row): item for (run, rep), item in zip(pairs, made, strict=True)}


def parcel_bold(pipeline: Pipeline, dataset: Dataset) -> dict[tuple, Artifact]:
    """Parcel series of every usable run, cleaned of confounds, z-scored in the run.

    A run whose files turn out to be damaged stops no other one: it is announced with the reason,
    and is not among the series. So are parcels without a series.

    Returns
    -------
    series : dict
        (subject, session, run) to an npz with ``bold`` float32 (n_trs, n_parcels), ``labels`` and
        ``notes``.

    Raises
    ------
    CobeError
        No run is usable, or none has a series.
    """
    runs = usable_runs(dataset)
    if not runs:
        raise CobeError(f"{dataset.raw}: no run is usable; see its inventory for why")
    atlas, protocol = pipeline.atlas, pipeline.profile.protocol
    if pipeline.source == "timeseries":
        jobs = [series_job(atlas, run) for run in runs]
    else:
        jobs = [volumes_job(atlas, protocol, run) for run in runs]
    failures = {}
    made = make_all(pipeline.store, jobs, "parcel series", "run", failures)
    for name, reason in failures.items():
        pipeline.store.announce(f"{name}: left out: {reason}")
    if len(failures) == len(jobs):
        raise CobeError(f"parcel series: none of {len(jobs)} runs; first: {reason}")
    found = {run.key: item for run, item in zip(runs, made, strict=True) if item is not None}
    for item in found.values():
        for note in read_npz(item.path, "notes")["notes"]:
            pipeline.store.announce(str(note))
    return found


def load_bold(artifact: Artifact) -> np.ndarray:
    """BOLD of one run: float32 (n_trs, n_parcels)."""
    return read_npz(artifact.path, "bold")["bold"]


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
