"""Write the embedded default: real play, a planted brain, the real dataset's layout."""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from cobe.core.config import PlayPlan
from cobe.core.errors import CobeError
from cobe.core.parallel import map_processes
from cobe.core.seeds import rng_for
from cobe.core.timing import TR_S
from cobe.simulate import planted, volumes
from cobe.simulate.drivers import DRIVER_NAMES, single_drivers
from cobe.simulate.layout import (
    RAW,
    TRUTH,
    write_derivative_run,
    write_raw_run,
    write_roots,
    write_summary,
)
from cobe.simulate.play import LEVELS, Emulator, Player, Policy, bank_states, player_of
from cobe.simulate.schedule import RunPlan, schedule
from cobe.simulate.volumes import Anatomy, read_anatomy, simulate_bold

_SHORTEST_S = 5.0


def write_dataset(
    root: Path, plan: PlayPlan, atlas_img: nib.Nifti1Image, workers: int | None = None
) -> dict[str, int]:
    """Simulate a whole dataset and write it below `root`.

    Participants play Airstriker and are recorded (``shinobi/``); their planted brains answer, and
    what fMRIPrep would make of it is written on the atlas's grid (``shinobi.fmriprep/``). The
    brain also answers to plays whose replay gets lost. ``truth/`` keeps what was planted. The
    same plan and atlas give the same bytes, whatever the number of workers.

    Parameters
    ----------
    root : Path
        A folder that does not exist yet or is empty.
    plan : PlayPlan
    atlas_img : nibabel.Nifti1Image
        Integer labels of grey-matter parcels in MNI space; its grid becomes that of the BOLD.
    workers : int or None
        Processes, one emulator each; None: one per core.

    Returns
    -------
    counts : dict of str to int
        ``subjects``, ``runs``, ``repetitions``, ``replays`` (those that reach the disk),
        ``lost_replays``, ``frames`` (at 60 Hz, in replays), ``volumes``, ``parcels``.

    Raises
    ------
    CobeError
        `root` is in use, the plan or the atlas cannot be used, the emulator is missing.
    """
    root = Path(root)
    _check(root, plan)
    anatomy = read_anatomy(atlas_img)
    runs = schedule(plan)
    (bank,) = map_processes(bank_states, [(plan.seed,)], desc="scout", workers=1)
    write_roots(root, plan)
    with tempfile.TemporaryDirectory(dir=root, prefix=".work-") as work:
        plays = [(root, Path(work), plan.seed, run, *_starts(plan, run, bank)) for run in runs]
        map_processes(_play_run, plays, desc="play", unit="run", workers=workers)
        jobs = [
            (root, Path(work), plan.seed, subject, [r for r in runs if r.subject == subject],
             anatomy)
            for subject in plan.subjects
        ]  # fmt: skip
        brains = map_processes(
            _respond_subject, jobs, desc="planted brain", unit="subject", workers=workers
        )
        scans = [(root, Path(work), plan.seed, run, anatomy) for run in runs]
        map_processes(_scan_run, scans, desc="scan", unit="run", workers=workers)
        _write_truth(root, Path(work), plan, runs, anatomy, brains)
    rows = [row for run in runs for row in run.repetitions]
    kept = [row for row in rows if row.kept]
    return {
        "subjects": len(plan.subjects),
        "runs": len(runs),
        "repetitions": len(rows),
        "replays": len(kept),
        "lost_replays": len(rows) - len(kept),
        "frames": sum(row.n_frames for row in kept),
        "volumes": sum(run.n_trs for run in runs),
        "parcels": len(anatomy.parcels),
    }


def _check(root: Path, plan: PlayPlan) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise CobeError(f"{root}: already there and not an empty folder; give a new one")
    if not plan.subjects or len(set(plan.subjects)) < len(plan.subjects):
        raise CobeError(f"plan: subjects {plan.subjects}; name at least one, each once")
    if not plan.sessions or any(n < 1 for _, n in plan.sessions):
        raise CobeError(f"plan: sessions {plan.sessions}; at least one, each with a run or more")
    if plan.repetitions_per_run < 1 or plan.repetition_s < _SHORTEST_S:
        raise CobeError(
            f"plan: {plan.repetitions_per_run} repetitions of {plan.repetition_s} s; "
            f"use at least 1 of {_SHORTEST_S:.0f} s"
        )


def _starts(plan: PlayPlan, run: RunPlan, bank: dict) -> tuple[Player, list[bytes]]:
    """The player of a run and the packed savestate that each of its repetitions starts from."""
    index = plan.subjects.index(run.subject)
    rng = rng_for(plan.seed, "start", run.key)
    states = [bank[row.level][rng.integers(len(bank[row.level]))] for row in run.repetitions]
    return player_of(plan.seed, index, run.subject), states


def _play_run(
    root: Path, work: Path, seed: int, run: RunPlan, player: Player, states: list[bytes]
) -> None:
    """Play and record one run; leave its drivers in the work folder."""
    drivers = {}
    write_raw_run(root, run)
    with Emulator() as emulator:
        for row, (repetition, packed) in enumerate(zip(run.repetitions, states, strict=True)):
            bk2 = root / RAW / repetition.stim_file if repetition.kept else None
            if bk2 is not None:
                bk2.parent.mkdir(parents=True, exist_ok=True)
            policy = Policy(player, rng_for(seed, "play", run.key, row))
            play = emulator.play(zlib.decompress(packed), repetition.n_frames, policy, bk2)
            if bk2 is not None:
                write_summary(bk2.with_suffix(".json"), repetition, play)
            drivers[f"{row:03d}"] = single_drivers(play)
    np.savez(work / f"play_{run.key}.npz", **drivers)


def _respond_subject(
    root: Path, work: Path, seed: int, subject: str, runs: list[RunPlan], anatomy: Anatomy
) -> planted.Brain:
    """Noiseless responses of one participant, unit variance over volumes of play."""
    regions = planted.assign_regions(anatomy.centroids_mm)
    brain = planted.draw_brain(seed, subject, anatomy.centroids_mm, regions)
    single = []
    for run in runs:
        with np.load(work / f"play_{run.key}.npz") as played:
            single.append([played[name] for name in sorted(played.files)])
    responses, in_play, driven = [], [], []
    for run, repetitions in zip(runs, planted.standardise(single), strict=True):
        onsets = [row.onset_s for row in run.repetitions]
        line = planted.run_drivers(repetitions, onsets, run.n_trs, TR_S)
        responses.append(planted.respond(brain, line, run.n_trs, TR_S))
        driven.append(planted.per_volume(line, run.n_trs, TR_S))
        in_play.append(play_volumes(run))
    centred = [r[v] - r[v].mean(axis=0) for r, v in zip(responses, in_play, strict=True)]
    spread = np.concatenate(centred).std(axis=0)
    for run, response, drivers in zip(runs, responses, driven, strict=True):
        unit = np.divide(response, spread, out=np.zeros_like(response), where=spread > 0)
        np.savez(work / f"response_{run.key}.npz", response=unit, drivers=drivers)
    return brain


def play_volumes(run: RunPlan) -> np.ndarray:
    """Volumes that lie wholly inside a repetition, bool (n_trs,)."""
    start_s = np.arange(run.n_trs) * TR_S
    inside = np.zeros(run.n_trs, bool)
    for row in run.repetitions:
        end_s = row.onset_s + row.duration_s
        inside |= (start_s >= row.onset_s) & (start_s + TR_S <= end_s)
    return inside


def _scan_run(root: Path, work: Path, seed: int, run: RunPlan, anatomy: Anatomy) -> None:
    """Add noise up to the ceiling, make voxels, write the derivative of one run."""
    regions = planted.assign_regions(anatomy.centroids_mm)
    brain = planted.draw_brain(seed, run.subject, anatomy.centroids_mm, regions)
    with np.load(work / f"response_{run.key}.npz") as saved:
        response = saved["response"]
    parcel_pct = noisy(response, brain.ceiling, rng_for(seed, "noise", run.key))
    bold, motion = simulate_bold(seed, run.subject, run.key, anatomy, parcel_pct)
    write_derivative_run(root, run, anatomy, bold, motion)


def noisy(response: np.ndarray, ceiling: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noiseless responses of unit variance, brought to their ceilings by AR(1) noise.

    Parameters
    ----------
    response : float64 array, shape (n_trs, n_parcels)
    ceiling : float64 array, shape (n_parcels,)
        Wanted correlation of the response with the result.
    rng : numpy.random.Generator

    Returns
    -------
    parcel_pct : float64 array, shape (n_trs, n_parcels)
        Percent of the baseline.
    """
    noise = planted.ar1_noise(rng, *response.shape)
    return volumes.PARCEL_SPREAD_PCT * (ceiling * response + np.sqrt(1 - ceiling**2) * noise)


def _write_truth(root, work, plan, runs, anatomy, brains) -> None:
    """What was planted, for tests and teaching; nothing on the analysis path reads it."""
    truth = root / TRUTH
    truth.mkdir()
    tables, arrays = [], {"drivers": np.array(DRIVER_NAMES)}
    for subject, brain in zip(plan.subjects, brains, strict=True):
        x, y, z = anatomy.centroids_mm.T
        tables.append(
            pd.DataFrame(
                {
                    "subject": subject,
                    "parcel": anatomy.parcels,
                    "region": brain.regions,
                    "ceiling": brain.ceiling,
                    "hrf_delay_s": brain.hrf_delay_s,
                    "hrf_dispersion": brain.hrf_dispersion,
                    "x_mm": x,
                    "y_mm": y,
                    "z_mm": z,
                }
            )
        )
        arrays[f"weights/{subject}"] = brain.weights
    for run in runs:
        with np.load(work / f"response_{run.key}.npz") as saved:
            arrays[f"response/{run.key}"] = saved["response"].astype(np.float32)
            arrays[f"drivers/{run.key}"] = saved["drivers"].astype(np.float32)
        arrays[f"in_play/{run.key}"] = play_volumes(run)
    pd.concat(tables, ignore_index=True).to_parquet(truth / "parcels.parquet", index=False)
    np.savez_compressed(truth / "truth.npz", **arrays)
    specification = {
        "planted": planted.SPECIFICATION,
        "volumes": volumes.SPECIFICATION,
        "levels": LEVELS,
        "tr_s": TR_S,
        "seed": plan.seed,
    }
    text = json.dumps(specification, indent=4, sort_keys=True) + "\n"
    (truth / "specification.json").write_text(text, encoding="utf-8", newline="\n")
