"""The files of the simulated dataset, in the names, columns and paddings of the real one."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from cobe.core.config import PlayPlan
from cobe.core.timing import TR_S
from cobe.simulate.confounds import confound_table
from cobe.simulate.play import LEVELS, Play
from cobe.simulate.schedule import EVENT_LEVELS, TASK, Repetition, RunPlan
from cobe.simulate.volumes import Anatomy

RAW, FMRIPREP, TRUTH = "shinobi", "shinobi.fmriprep", "truth"
SPACE = "space-MNI152NLin2009cAsym"
_SCALE = 10.0  # scl_slope of the BOLD: intensities near 10,000 are stored near 1,000
_RAW_SHAPE = (104, 104, 60)
_README = (
    "Simulated. Nobody was scanned: programs played Airstriker and a planted brain answered.\n"
    "Written by cobe.simulate in the layout of the CNeuroMod dataset shinobi{where}.\n"
)
_EVENT_COLUMNS = ("trial_type", "onset", "duration", "duration_bk2", "level", "stim_file")


def write_roots(root: Path, plan: PlayPlan) -> None:
    """Directories and files at the tops of the raw and the derivative dataset."""
    raw, derivative = root / RAW, root / FMRIPREP
    raw.mkdir(parents=True)
    derivative.mkdir()
    _text(raw / "README", _README.format(where=""))
    _text(derivative / "README", _README.format(where=".fmriprep"))
    _text(raw / ".bidsignore", "*/*/gamelogs\n")
    made_by = [{"Name": "cobe.simulate", "Description": "simulated data"}]
    _json(
        raw / "dataset_description.json",
        {"Name": "shinobi (simulated)", "BIDSVersion": "1.6.0", "DatasetType": "raw"},
    )
    _json(
        derivative / "dataset_description.json",
        {
            "Name": "shinobi (simulated), in the layout of fMRIPrep 20.2",
            "BIDSVersion": "1.4.0",
            "DatasetType": "derivative",
            "GeneratedBy": made_by,
        },
    )
    _json(raw / f"task-{TASK}_bold.json", {"RepetitionTime": TR_S, "TaskName": TASK})
    # The real table does not list participants in order either.
    order = [*plan.subjects[:-2], *plan.subjects[-2:][::-1]]
    _text(raw / "participants.tsv", "\n".join(["participant_id", *order]) + "\n")


def write_raw_run(root: Path, run: RunPlan) -> None:
    """Events, the sidecar of the raw BOLD, and a link where git-annex would have the volumes.

    The raw volumes are not there, as on a disk onto which they were not downloaded.

    Parameters
    ----------
    root : Path
        Top of the dataset.
    run : RunPlan
    """
    func = root / RAW / run.subject / run.session / "func"
    func.mkdir(parents=True, exist_ok=True)
    stem = f"{run.subject}_{run.session}_task-{TASK}_run-{run.run:02d}"
    _json(
        func / f"{stem}_bold.json",
        {
            "RepetitionTime": TR_S,
            "TaskName": TASK,
            "EchoTime": 0.037,
            "MultibandAccelerationFactor": 4,
            "dcmmeta_shape": [*_RAW_SHAPE, run.n_trs],
        },
    )
    digest = hashlib.md5(stem.encode()).hexdigest()
    key = f"MD5E-s{2 * np.prod(_RAW_SHAPE) * run.n_trs}--{digest}.nii.gz"
    annex = f"../../../.git/annex/objects/{digest[:2]}/{digest[2:4]}/{key}/{key}"
    (func / f"{stem}_bold.nii.gz").symlink_to(annex)
    lines = ["\t".join(_EVENT_COLUMNS)]
    for row in run.repetitions:
        times = (row.onset_s, row.duration_s, row.duration_bk2_s)
        cells = ("gym-retro_game", *map(repr, map(float, times)), EVENT_LEVELS[row.level])
        lines.append("\t".join((*cells, row.stim_file)))
    _text(func / f"{stem}_events.tsv", "\n".join(lines) + "\n")


def write_summary(path: Path, row: Repetition, play: Play) -> None:
    """The sidecar of one .bk2, under the real dataset's keys, some numbers being strings there.

    ``total health lost`` counts lives, ``shurikens used`` shots, ``enemies killed`` score / 20.

    Parameters
    ----------
    path : Path
        The .json to write.
    row : Repetition
    play : Play
    """
    lives_lost = int((np.diff(play.lives) < 0).sum())
    fired = int((np.diff(play.buttons[:, 0].astype(int)) > 0).sum())
    scored = int(np.clip(np.diff(play.score), 0, None).sum())
    as_string = LEVELS.index(row.level) != 1
    _json(
        path,
        {
            "duration": round(row.duration_s, 1),
            "cleared": lives_lost == 0,
            "end_score": int(play.score[-1]),
            "total health lost": str(lives_lost) if as_string else lives_lost,
            "shurikens used": str(fired) if as_string else fired,
            "enemies killed": scored // 20,
        },
    )


def write_derivative_run(
    root: Path, run: RunPlan, anatomy: Anatomy, bold: np.ndarray, motion: np.ndarray
) -> None:
    """What fMRIPrep would have left of one run: volumes, mask, reference, confounds, sidecars.

    Parameters
    ----------
    root : Path
        Top of the dataset.
    run : RunPlan
    anatomy : Anatomy
    bold : float32 array, shape (n_trs, n_voxels)
        Intensities inside the brain.
    motion : float64 array, shape (n_trs, 6)
        Translations in mm, rotations in rad.
    """
    func = root / FMRIPREP / run.subject / run.session / "func"
    func.mkdir(parents=True, exist_ok=True)
    stem = f"{run.subject}_{run.session}_task-{TASK}_run-{run.run}"
    stored = np.round(bold / _SCALE).astype(np.int16)
    space = f"{stem}_{SPACE}"
    _write_nifti(func / f"{space}_desc-preproc_bold.nii.gz", anatomy, stored, _SCALE)
    _write_nifti(
        func / f"{space}_boldref.nii.gz", anatomy, stored.mean(axis=0).astype(np.int16), _SCALE
    )
    _write_nifti(
        func / f"{space}_desc-brain_mask.nii.gz", anatomy, np.ones(stored.shape[1], np.uint8), 1.0
    )
    _json(
        func / f"{space}_desc-preproc_bold.json",
        {"DelayTime": 0.1175, "RepetitionTime": TR_S, "SkullStripped": False, "TaskName": TASK},
    )
    raw_name = f"{run.subject}_{run.session}_task-{TASK}_run-{run.run:02d}_bold.nii.gz"
    _json(func / f"{space}_desc-brain_mask.json", {"RawSources": [raw_name], "Type": "Brain"})
    table, sidecar = confound_table(stored * np.float32(_SCALE), anatomy.tissue, motion)
    name = f"{stem}_desc-confounds_timeseries"
    table.to_csv(
        func / f"{name}.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.9g",
        lineterminator="\n",
    )  # fmt: skip
    _json(func / f"{name}.json", sidecar)


def _write_nifti(path: Path, anatomy: Anatomy, values: np.ndarray, slope: float) -> None:
    """Write values inside the brain, (n_trs, n_voxels) or (n_voxels,), zeros around them."""
    series = np.atleast_2d(values)
    grid = np.zeros((len(series), int(np.prod(anatomy.shape))), values.dtype)
    grid[:, anatomy.voxels] = series
    # NIfTI wants x fastest and time slowest; the grid holds z fastest.
    volumes = grid.reshape(len(series), *anatomy.shape).transpose(0, 3, 2, 1)
    header = nib.Nifti1Header()
    header.set_data_dtype(values.dtype)
    is_series = values.ndim == 2
    header.set_data_shape((*anatomy.shape, len(series)) if is_series else anatomy.shape)
    header.set_sform(anatomy.affine, code="mni")
    header.set_qform(anatomy.affine, code="mni")
    voxel_mm = nib.affines.voxel_sizes(anatomy.affine)
    header.set_zooms((*voxel_mm, TR_S) if is_series else voxel_mm)
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(slope, 0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(header.binaryblock + bytes(4))
        packed.write(np.ascontiguousarray(volumes).tobytes())


def _json(path: Path, content: dict) -> None:
    _text(path, json.dumps(content, indent=4, sort_keys=True) + "\n")


def _text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")
