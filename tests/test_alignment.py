"""The clock, end to end: luminance that drives BOLD with a known lag is found at that lag.

What was on screen is known to the test only. It drives the BOLD files of a tree in the real layout
with a pure delay; then the tree is read, joined, corrected and aligned as real data are, and ridge
weights over delays tell when the brain answers.
"""

import warnings
import zlib
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from brain_tree import TR_S, Play, RunPlan, atlas_image, write_tree
from cobe.brain.bold import parcel_series
from cobe.brain.corrections import CORRECTIONS
from cobe.brain.dataset import read_dataset
from cobe.brain.timeline import volume_kinds
from cobe.core.timing import CLIP_SPAN_FRAMES, FRAME_RATE_HZ
from cobe.encoding import ridge
from cobe.encoding.align import clips_to_trs
from cobe.stimulus.bk2 import read_bk2

DELAYS_TR = tuple(range(8))
ALPHAS = (1e-2, 1.0, 1e2)
N_DRIVEN = 4  # parcels 1 to 4 of 8 answer
STEP_S = 0.1
LOST = "Missing file"
MOVED = next(c for c in CORRECTIONS if c.kind == "events_moved")


def luminance(name, n_frames):
    """Luminance of a play, one value per frame: steps of 2 s, another walk for every play."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    levels = rng.normal(size=n_frames // 120 + 2)
    return np.repeat(levels, 120)[:n_frames]


def screen_of(plan):
    """What was seen during a run, in steps of 0.1 s; the text screen between plays is dark."""
    seen = np.zeros(int(plan.volumes * TR_S / STEP_S) + 1)
    for row, (onset, play) in enumerate(zip(plan.onsets, plan.plays, strict=True)):
        n_frames = round(play.duration_s * 60)
        values = luminance(f"{plan.subject}_{plan.session}_run-{plan.run}_row-{row}", n_frames)
        time = np.arange(len(seen)) * STEP_S - onset
        inside = (time >= 0) & (time < play.duration_s)
        frame = np.minimum((time[inside] * 60).astype(int), n_frames - 1)
        seen[inside] = values[frame]
    return seen


def drive(path, seen, n_trs, lag_s, rng):
    """Rewrite a BOLD file: driven parcels follow the screen, `lag_s` later, with noise."""
    time = np.arange(len(seen)) * STEP_S
    volume = ((time + lag_s) / TR_S).astype(int)
    kept = volume < n_trs
    count = np.bincount(volume[kept], minlength=n_trs)
    response = np.bincount(volume[kept], seen[kept], n_trs) / np.maximum(count, 1)
    image = nib.load(path)
    data = 1000 + rng.normal(0, 20, (*image.shape[:3], n_trs))
    labels = np.asarray(atlas_image().dataobj)
    data[(labels > 0) & (labels <= N_DRIVEN)] += 10 * response
    made = nib.Nifti1Image(data.astype(np.float32), image.affine, image.header)
    path.unlink()
    made.to_filename(path)


def ordinary(root, lag_s):
    """Runs with gaps, with lost replays, and one that was cut 3.3 s before its last play ended."""
    plays = {
        1: (Play("1-0", 80.0), Play("4-1", 50.0), Play("5-0", 71.0)),
        2: (Play("1-0", 60.0, stim=LOST), Play("4-1", 90.0), Play("1-0", 40.0, stim=""),
            Play("5-0", 66.0)),
        3: (Play("4-1", 93.0), Play("5-0", 88.0)),
    }  # fmt: skip
    plans = [RunPlan("sub-01", "ses-002", run, played) for run, played in plays.items()]
    plans[2].n_trs = int((plans[2].onsets[-1] + 88.0 - 3.3) / TR_S)
    write_all(root, [(plan, plan) for plan in plans], lag_s)


def rotated(root, lag_s):
    """The session whose events are filed under the wrong runs: (as filed, as scanned) pairs."""
    bold_of = dict(MOVED.events_to_bold)
    lengths = {1: 100.0, 2: 60.0, 3: 140.0, 4: 210.0, 5: 80.0, 6: 160.0}
    scanned = {
        run: RunPlan(MOVED.subject, MOVED.session, run, (Play("1-0", s / 2), Play("4-1", s / 2)))
        for run, s in lengths.items()
    }
    pairs = []
    for run in lengths:  # the events of this number belong to the BOLD of another
        filed = replace(scanned[bold_of[run]], run=run, n_trs=scanned[run].volumes)
        pairs.append((filed, scanned[run]))
    write_all(root, pairs, lag_s)


def write_all(root, pairs, lag_s):
    """Write the tree as filed, then drive the BOLD of each run by what was scanned."""
    write_tree(root, [filed for filed, _ in pairs])
    rng = np.random.default_rng(7)
    runs = {run.key: run for run in read_dataset(root, corrections=False).runs}
    for filed, scanned in pairs:
        run = runs[filed.subject, filed.session, scanned.run]
        drive(run.bold, screen_of(scanned), run.n_trs, lag_s, rng)


def shown_by(root, bold_of):
    """Which play a replay file shows: the test wrote the files as filed, so it knows."""
    return {
        rep.bk2.name: f"{run.subject}_{run.session}_run-{bold_of.get(run.run, run.run)}"
        f"_row-{rep.row}"
        for run in read_dataset(root, corrections=False).runs
        for rep in run.repetitions
        if rep.bk2
    }


def features(run, shown, shift_s=0.0):
    """Mean luminance of the clips of a run, on the clock of the scanner: (n_trs, 1)."""
    span_s = CLIP_SPAN_FRAMES / FRAME_RATE_HZ
    values, starts = [], []
    for rep in run.repetitions:
        if rep.has_replay:
            seen = luminance(shown[rep.bk2.name], read_bk2(rep.bk2).n_frames)
            seen = seen[int(rep.skip_first_line) :]
            n_clips = len(seen) // CLIP_SPAN_FRAMES
            values.append(seen[: n_clips * CLIP_SPAN_FRAMES].reshape(n_clips, -1).mean(axis=1))
            starts.append(rep.onset_s + shift_s + np.arange(n_clips) * span_s)
    starts, values = np.concatenate(starts), np.concatenate(values)
    return clips_to_trs(values[:, None], starts, starts + span_s, run.n_trs, run.tr_s)


def fit(dataset, shown, shift_s=0.0):
    """Ridge weights over delays: mean over driven parcels, mean over the others."""
    runs = [run for run in dataset.runs if run.usable]
    with warnings.catch_warnings():
        # parcels that follow nothing take the largest penalty there is
        warnings.filterwarnings("ignore", message="alphas: .* edge of the grid")
        fitted = ridge.fit(
            [features(run, shown, shift_s) for run in runs],
            [parcel_series(run, atlas_image())[0] for run in runs],
            groups=[run.name for run in runs],
            delays_tr=DELAYS_TR,
            alphas=ALPHAS,
        )
    return fitted.weights[:, :N_DRIVEN].mean(axis=1), fitted.weights[:, N_DRIVEN:].mean(axis=1)


def centre(weights):
    """Delay of the response in TR: centre of the weights around their peak."""
    peak = int(np.argmax(weights))
    near = np.arange(max(peak - 1, 0), min(peak + 2, len(weights)))
    positive = np.maximum(weights[near], 0)
    return float((near * positive).sum() / positive.sum())


def build(root, kind, lag_s):
    """Write a tree; what each replay of it shows."""
    if kind == "ordinary":
        ordinary(root, lag_s)
        return shown_by(root, {})
    rotated(root, lag_s)
    return shown_by(root, dict(MOVED.events_to_bold))


@pytest.mark.parametrize("lag_s", [3 * TR_S, 5.0, 6.2])
@pytest.mark.parametrize("kind", ["ordinary", "rotated"])
def test_the_lag_is_found_to_within_half_a_tr(tmp_path, kind, lag_s):
    shown = build(tmp_path, kind, lag_s)
    dataset = read_dataset(tmp_path)
    assert all(run.usable for run in dataset.runs), [run.why for run in dataset.runs]
    driven, others = fit(dataset, shown)
    assert abs(centre(driven) - lag_s / TR_S) < 0.5
    assert driven.max() > 5 * np.abs(others).max()


def test_the_ordinary_tree_has_the_faults_it_should(tmp_path):
    build(tmp_path, "ordinary", 5.0)
    first, second, third = read_dataset(tmp_path).runs
    assert (volume_kinds(first) == "gap").sum() > 4
    assert [rep.has_replay for rep in second.repetitions] == [False, True, False, True]
    assert third.tail_s == pytest.approx(-3.3, abs=TR_S)


def test_a_clock_that_is_off_would_be_seen(tmp_path):
    """The test can fail: features that come two volumes late move the answer by as much."""
    shown = build(tmp_path, "ordinary", 5.0)
    late = centre(fit(read_dataset(tmp_path), shown, shift_s=2 * TR_S)[0])
    assert late == pytest.approx(5.0 / TR_S - 2, abs=0.5)


def test_without_corrections_the_rotated_session_is_suspicious_and_not_used(tmp_path):
    shown = build(tmp_path, "rotated", 5.0)
    corrected = read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, corrections=False)
    assert not any(run.usable for run in dataset.runs)
    assert all("suspicious" in run.why for run in dataset.runs)
    assert any("rotated" in finding for finding in dataset.findings)
    # and rightly so: had they been used, nothing of the response would be left
    forced = replace(dataset, runs=tuple(replace(run, usable=True) for run in dataset.runs))
    assert fit(forced, shown)[0].max() < 0.3 * fit(corrected, shown)[0].max()
