"""The paper profile on a tree in the real layout: preview, inventory, and a small run of it all.

The real game's ROM may not be shipped. The tree's ``stimuli`` folder therefore holds the embedded
game under the real game's name, and recordings of it carry that name: all paths are those that the
real data take.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import stable_retro

from brain_tree import GAME, Play, RunPlan, atlas_image, dangling, pointer, write_tree
from cobe.brain.bold import parcel_series
from cobe.brain.parcels import grey_matter_parcels
from cobe.brain.timeseries import merged_labels
from cobe.core.artifacts import Store
from cobe.core.config import Axis, Cell, PlayPlan
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.driver.__main__ import main as driver
from cobe.simulate import write_dataset
from cobe.stimulus.frames import open_frames
from cobe.stimulus.playback import play
from cobe.sweep import features, models, scores, targets
from cobe.sweep import pipeline as stages
from cobe.sweep.cells import load_tokens
from real_tree import write_timeseries

EMBEDDED = "Airstriker-Genesis-v0"
SUBJECT = "sub-01"
SESSIONS = ("ses-002", "ses-003", "ses-005", "ses-007")
N_PARCELS = 24


def put_game(raw, rom=True):
    """The embedded game as the dataset's integration of the real one."""
    folder = raw / "stimuli" / GAME
    source = Path(stable_retro.data.get_romfile_path(EMBEDDED)).parent
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if rom or path.name != "rom.md":
            shutil.copy(path, folder / path.name)
    if not rom:
        dangling(folder / "rom.md")


def as_real_recording(path, first_row):
    """The same recording under the real game's name; row 0 begins with a line never played."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = re.sub(rb"GameName \S+", b"GameName " + GAME.encode(), members["Header.txt"])
    lines = members["Input Log.txt"].split(b"\n")
    if first_row:
        lines.insert(2, re.sub(rb"[^|.\r]", b".", lines[2]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            changed = {"Header.txt": header, "Input Log.txt": b"\n".join(lines)}
            archive.writestr(name, changed.get(name, content))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Simulated play and BOLD of one subject, dressed as the real dataset, with its traps."""
    root = tmp_path_factory.mktemp("real") / "data"
    plan = PlayPlan(
        subjects=(SUBJECT,),
        sessions=tuple((session, 1) for session in SESSIONS),
        repetitions_per_run=2,
        repetition_s=20.0,
        n_parcels=N_PARCELS,
    )
    atlas = grey_matter_parcels(N_PARCELS, plan.voxel_mm, seed=0)
    write_dataset(root, plan, atlas, workers=1)
    shutil.rmtree(root / "truth")
    raw, fmriprep = root / "shinobi", root / "shinobi.fmriprep"
    originals = root.parent / "originals"
    for path in sorted(raw.glob("sub-*/ses-*/gamelogs/*.bk2")):
        kept = originals / path.name
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(path, kept)
    for table in sorted(raw.glob("sub-*/ses-*/func/*_events.tsv")):
        for row, line in enumerate(table.read_text().splitlines()[1:]):
            stim = line.split("\t")[-1]
            if stim.endswith(".bk2"):
                as_real_recording(raw / stim, first_row=row == 0)
    put_game(raw)
    # traps: aborted scan, annexed physiology, a session without events, a cut BOLD, links
    func = raw / SUBJECT / SESSIONS[0] / "func"
    stem = f"{SUBJECT}_{SESSIONS[0]}_task-shinobi_run-01"
    dangling(func / f"{stem}_bold__dup-01.nii.gz")
    pointer(func / f"{stem}_physio.tsv.gz")
    last = fmriprep / SUBJECT / SESSIONS[3] / "func"
    (bold,) = last.glob("*space-MNI*preproc_bold.nii.gz")
    bold.write_bytes(bold.read_bytes()[:5000])
    return root, atlas, originals


def tiny(paper):
    """The paper's profile with the models of a toy."""
    smoke = PROFILES["smoke"]
    base = Cell(n_frames=1000, hidden=16, n_layers=1, n_heads=2)
    short = {"n_permutations": 10, "block_trs": 8, "delays_tr": (2, 3), "alphas": (1.0, 100.0)}
    return replace(
        paper,
        video_sessions=1,
        vqvae=replace(
            smoke.vqvae,
            resolution=32,
            downsample=(4, 8, 8),
            n_hiddens=8,
            n_codes=32,
            n_steps=4,
            batch_size=4,
        ),
        train=replace(smoke.train, n_steps=4, batch_size=8, n_evals=2),
        base=base,
        axes=(Axis("hidden_dim", "hidden", (8, 16), "hidden size"),),
        protocol=replace(smoke.protocol, n_features=8, **short),
        published=replace(smoke.published, **short),
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """One store for all tests: what one of them made, the next need not."""
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def open_tiny(real, build, tmp_path, monkeypatch):
    """Open the paper pipeline on the tree, with tiny models and the tree's own atlas."""
    root, atlas, _ = real
    monkeypatch.setenv("COBE_BUILD", str(build))
    monkeypatch.setenv("COBE_WORKERS", "1")
    monkeypatch.setitem(PROFILES, "paper", tiny(PROFILES["paper"]))
    monkeypatch.setattr(models, "N_VAL_CLIPS", 8)
    atlas.to_filename(tmp_path / "atlas.nii.gz")
    said = []

    def call(**env):
        for name, value in {"COBE_ATLAS": str(tmp_path / "atlas.nii.gz"), **env}.items():
            monkeypatch.setenv(name, value)
        pipeline = stages.open_pipeline("paper", str(root))
        return replace(pipeline, store=Store(pipeline.store.root, announce=said.append)), said

    return call


def test_the_whole_path_from_key_logs_to_scores(real, open_tiny):
    root, atlas, originals = real
    study, said = open_tiny()
    assert study.source == "fmriprep"
    dataset = stages.inventory(study)
    assert {run.session: run.usable for run in dataset.runs} == dict(
        zip(SESSIONS, (True, True, True, False), strict=True)
    )
    assert "damaged NIfTI" in dataset.runs[3].why
    assert all(
        rep.skip_first_line == (rep.row == 0)
        for run in dataset.runs
        for rep in run.repetitions
        if rep.has_replay
    )

    video = models.video_stages(study)
    for key, item in video.frames.items():
        run = next(run for run in dataset.runs if run.key == key[:3])
        rep = next(rep for rep in run.repetitions if rep.row == key[3])
        size = study.profile.vqvae.resolution
        expected = play(originals / rep.bk2.name, size)
        found = open_frames(item.path)
        assert found.shape == expected.shape  # the line never played is left out
        starts = [0, len(expected) // 2, len(expected) - 64]
        clips = np.stack([expected[start : start + 64 : 4] for start in starts])
        np.testing.assert_array_equal(found.clips(starts), clips)

    series = stages.parcel_bold(study, video.dataset)
    run = stages.usable_runs(dataset)[1]
    np.testing.assert_array_equal(stages.load_bold(series[run.key]), parcel_series(run, atlas)[0])

    tokens = load_tokens(video.tokens)
    assert set(tokens.clips.session) == set(SESSIONS[:3])
    cells = models.paper_cells(study.profile, ["hidden_dim"])
    trained = models.train_cells(study, video.tokens, cells)
    controls = features.control_features(study, video)
    table = scores.paper_scores(study, video.tokens, series, trained, controls, ["hidden_dim"])
    names = {cell.name for cell in cells}
    assert table.groupby("protocol").cell.agg(set).to_dict() == {
        "corrected": names | set(features.CONTROLS),
        "as_published": names | set(features.CONTROLS),
    }
    assert (table.leaks == (table.protocol == "as_published")).all()
    overall = table[(table.held_out == "all") & (table.summary == "mean")]
    assert np.isfinite(overall.r).all() and (overall.subject == SUBJECT).all()


def test_extracted_series_take_the_place_of_volumes(real, open_tiny, tmp_path, monkeypatch):
    """No NIfTI at all: the same stages, on the lab's series; one parcel is not in one subject."""
    root, atlas, _ = real
    light = tmp_path / "light"
    shutil.copytree(root / "shinobi", light / "shinobi", symlinks=True)
    n_trs = {(SUBJECT, session, 1): _volumes(root / "shinobi", session) for session in SESSIONS[:3]}
    paths = write_timeseries(
        light / "shinobi.timeseries", n_trs, n_columns=6, labels=[1, 2, 3, 5, 8, 9]
    )
    monkeypatch.delenv("COBE_ATLAS", raising=False)
    study = stages.open_pipeline("paper", str(light))
    study = replace(study, store=Store(study.store.root, announce=lambda line: None))
    assert study.source == "timeseries"
    dataset = stages.inventory(study)
    assert [run.usable for run in dataset.runs] == [True, True, True, False]
    assert "no series of the run" in dataset.runs[3].why
    series = stages.parcel_bold(study, dataset)
    assert set(series) == set(n_trs)
    for key, item in series.items():
        assert stages.load_bold(item).shape == (n_trs[key], 6)
    labels = np.unique(np.asarray(stages.load_atlas(study).dataobj))
    assert labels.tolist() == [0, 1, 2, 3, 5, 8, 9]

    # another subject, who lacks parcel 3 and has parcel 11
    other = {("sub-02", "ses-002", 1): 30}
    options = {"n_columns": 6, "labels": [1, 2, 5, 8, 9, 11]}
    second = write_timeseries(light / "shinobi.timeseries", other, **options)["sub-02"]
    merged = merged_labels([paths[SUBJECT], second])
    assert np.unique(np.asarray(merged.dataobj)).tolist() == [0, 1, 2, 3, 5, 8, 9, 11]


def _volumes(raw, session):
    (sidecar,) = (raw / SUBJECT / session / "func").glob("*_bold.json")
    return json.loads(sidecar.read_text())["dcmmeta_shape"][3]


def test_extracted_series_bring_their_own_parcels(real, open_tiny, tmp_path, monkeypatch):
    root, _, _ = real
    light = tmp_path / "light"
    shutil.copytree(root / "shinobi", light / "shinobi", symlinks=True)
    n_trs = _volumes(root / "shinobi", "ses-002")
    write_timeseries(light / "shinobi.timeseries", {(SUBJECT, "ses-002", 1): n_trs}, dseg=False)
    monkeypatch.setenv("COBE_ATLAS", "basc-444")
    with pytest.raises(CobeError, match="COBE_ATLAS=basc-444: .* parcels of their own"):
        stages.open_pipeline("paper", str(light))
    monkeypatch.delenv("COBE_ATLAS")
    with pytest.raises(CobeError, match="no label image .* cannot be placed in the brain"):
        stages.open_pipeline("paper", str(light))
    monkeypatch.setenv("COBE_SOURCE", "surface")
    with pytest.raises(CobeError, match="'surface': unknown"):
        stages.inventory(stages.open_pipeline("paper", str(light)))


# ---- one bad run stops no other


def test_a_run_that_turns_out_bad_is_left_out_and_said(real, open_tiny, tmp_path, monkeypatch):
    root, _, _ = real
    data = tmp_path / "copy"
    shutil.copytree(root, data, symlinks=True)
    study, said = open_tiny()
    study = replace(study, data=data)
    dataset = stages.inventory(study)
    run = stages.usable_runs(dataset)[0]
    content = bytearray(run.bold.read_bytes())
    content[len(content) // 2] ^= 0xFF  # only reading all of it shows this
    run.bold.write_bytes(bytes(content))
    dataset = stages.inventory(study)
    assert run.key in {one.key for one in stages.usable_runs(dataset)}
    series = stages.parcel_bold(study, dataset)
    assert len(series) == 2 and run.key not in series
    assert any("left out" in line and run.bold.name in line for line in said)


def test_an_atlas_of_another_space_is_refused_before_a_gigabyte_is_read(open_tiny, tmp_path):
    far = nib.Nifti1Image(np.ones((3, 3, 3), np.int16), np.diag([2.0, 2, 2, 1]))
    far.affine[:3, 3] = 5000
    far.to_filename(tmp_path / "far.nii.gz")
    study, said = open_tiny(COBE_ATLAS=str(tmp_path / "far.nii.gz"))
    with pytest.raises(CobeError, match="none of 3 runs.*does not overlap the brain mask"):
        stages.parcel_bold(study, stages.inventory(study))


def test_a_full_disk_is_one_line(real, open_tiny, monkeypatch):
    study, _ = open_tiny()
    dataset = stages.inventory(study)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(targets, "parcel_series", full)
    jobs = [
        targets.volumes_job(study.atlas, study.profile.protocol, run) for run in dataset.runs[:1]
    ]
    job = jobs[0]
    with pytest.raises(CobeError, match="the disk is full; free some space"):
        study.store.make(
            job.name,
            params=job.params,
            inputs=job.inputs,
            suffix=job.suffix,
            write=lambda path: job.write(path, *job.args),
        )


def test_annexed_volumes_are_known_by_their_key(tmp_path):
    """What git-annex named after its checksum is not read to be told from another."""
    names = [f"MD5E-s{9 + k}--{k}d8e8fca2dc0f896fd7cb4cb0031ba249.nii.gz" for k in (1, 2)]
    link = tmp_path / "bold.nii.gz"
    keys = []
    for name in names:
        target = tmp_path / ".git/annex/objects" / name / name
        target.parent.mkdir(parents=True)
        target.write_bytes(b"the same content")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, tmp_path))
        keys.append(targets.known_content(link).sha256)
    assert keys == names
    plain = tmp_path / "plain.nii.gz"
    plain.write_bytes(b"the same content")
    assert targets.known_content(plain).sha256 == hashlib.sha256(b"the same content").hexdigest()
    url = tmp_path / "url.nii.gz"
    url.symlink_to(plain)
    assert targets.known_content(url).sha256 == targets.known_content(plain).sha256


# ---- the preview


PLAYS = (Play("1-0", 60.0), Play("4-1", 50.0), Play("5-0", 45.0))
LOST = (Play("1-0", 60.0, stim="Missing file"), Play("4-1", 50.0), Play("5-0", 45.0, stim=""))


@pytest.fixture
def traps(tmp_path):
    """Small files, all traps: no events, links, lost replays, a withdrawn run, no ROM."""
    plans = [RunPlan("sub-01", f"ses-{k:03d}", 1, PLAYS if k % 2 else LOST) for k in range(2, 12)]
    plans += [
        RunPlan("sub-06", "ses-009", 1, PLAYS, events="absent"),
        RunPlan("sub-06", "ses-010", 1, PLAYS, events="link"),
        RunPlan("sub-06", "ses-011", 1, PLAYS, derived="link"),
        RunPlan("sub-06", "ses-012", 1, (Play("1-0", 60.0, bk2="link"), Play("4-1", 50.0))),
        RunPlan("sub-02", "ses-001", 1, PLAYS, raw=False),
    ]
    root = tmp_path / "traps"
    raw, _ = write_tree(root, plans)
    put_game(raw, rom=False)
    return root


@pytest.fixture
def preview(capsys, monkeypatch, tmp_path):
    """What ./run_all.sh --profile paper --dry-run says of a folder."""
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "work"))

    def call(folder):
        code = driver(["--profile", "paper", "--dry-run", "--data", str(folder)])
        return code, *capsys.readouterr()

    return call


def test_the_preview_tells_what_would_be_left_out_and_what_it_takes(traps, preview, tmp_path):
    code, said, errors = preview(traps)
    assert code == 0, errors
    assert "11 of 15 runs can be used" in said
    assert "4 runs left out" in said
    assert "sub-06_ses-009_run-1: no events" in said
    assert "sub-02_ses-001_run-1: excluded" in said
    assert "repetitions without a replay, none named in the events: 10" in said
    assert "repetitions without a replay, not downloaded: 1" in said
    assert re.search(r"correction sub-02.ses-001.*: applied", said)
    assert "sub-06_ses-011_run-1: not downloaded" in said
    assert "datalad get sub-06/ses-*/gamelogs/*.bk2" in said
    assert "download: 4 files, 396 bytes" in said  # links to keys of 99 bytes each
    assert "ROM: missing, so nothing can be played" in said and "your own legal copy" in said
    # sub-06 has one usable session, of eight that the video model would take
    assert "split: cannot be made: sub-06: 1 usable sessions" in said
    # 5 sessions of 155 s, 5 of 50 s, one of 50 s
    assert f"{(5 * 155 + 5 * 50 + 50) * 60:,} frames of 21 replays" in said
    assert re.search(r"disk: about 0\.4 GiB .* GiB are free at", said)
    assert "hours on one H100" in said and "assumed and not measured" in said
    for name in ("01_data", "05_paper_figures"):
        assert name in said
    assert not (tmp_path / "work").exists()


def test_the_preview_of_one_open_subject_counts_the_training_frames(traps, preview, tmp_path):
    only = tmp_path / "only"
    shutil.copytree(traps, only, symlinks=True)
    for folder in only.glob("shinobi*/sub-0[26]"):
        shutil.rmtree(folder)
    shutil.rmtree(only / "shinobi/stimuli")
    put_game(only / "shinobi")
    code, said, errors = preview(only)
    assert code == 0, errors
    assert "10 of 10 runs can be used" in said
    assert f"ROM: there, in {only / 'shinobi/stimuli'}" in said
    frames = (4 * 155 + 4 * 50) * 60
    assert f"{frames:,} frames to train on, the largest cell takes 4,000,000: NOT ENOUGH" in said


def test_a_path_that_is_a_file_or_nowhere_is_said(preview, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for path, reason in ((file, "is a file"), (tmp_path / "nowhere", "no such folder")):
        code, said, errors = preview(path)
        assert code == 1 and reason in errors and len(errors.splitlines()) == 1
    (tmp_path / "empty").mkdir()
    code, said, errors = preview(tmp_path / "empty")
    assert code == 1 and "no raw BIDS dataset" in errors


# ---- a participant's own space, and files that stop no other participant


def native(root, subjects):
    """BOLD in T1w space instead of MNI, of these subjects."""
    plans = [RunPlan(subject, "ses-002", run, PLAYS) for subject in subjects for run in (1, 2)]
    _, fmriprep = write_tree(root, plans)
    for path in sorted(fmriprep.glob("sub-*/ses-*/func/*space-MNI*")):
        other = path.with_name(path.name.replace("MNI152NLin2009cAsym", "T1w"))
        other.unlink(missing_ok=True)
        path.rename(other)
    return root


@pytest.fixture
def opening(tmp_path, monkeypatch):
    """Open the paper pipeline on a folder under these variables."""
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "work"))

    def call(root, **env):
        for name in ("COBE_SPACE", "COBE_ATLAS", "COBE_SOURCE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return stages.open_pipeline("paper", str(root))

    return call


@pytest.mark.parametrize("env", [{}, {"COBE_ATLAS": "grey-matter-24"}])
def test_native_bold_is_not_cut_by_parcels_of_a_template(tmp_path, opening, preview, env):
    root = native(tmp_path / "data", ["sub-01"])
    named = "COBE_ATLAS=grey-matter-24: .* in MNI152NLin2009aSym, and COBE_SPACE=T1w"
    default = "COBE_SPACE=T1w: the default parcels are in MNI space"
    with pytest.raises(CobeError, match=named if env else default):
        opening(root, COBE_SPACE="T1w", **env)
    _, said, _ = preview(root)
    assert ("parcels: cannot be made: COBE_SPACE=T1w" in said) == (not env)


def test_a_native_label_image_serves_one_participant_and_no_other(tmp_path, opening):
    atlas_image().to_filename(tmp_path / "atlas.nii.gz")
    env = {"COBE_SPACE": "T1w", "COBE_ATLAS": str(tmp_path / "atlas.nii.gz")}
    pipeline = opening(native(tmp_path / "one", ["sub-01"]), **env)
    assert pipeline.space == "T1w"
    assert all(run.usable for run in stages.inventory(pipeline).runs)
    two = native(tmp_path / "two", ["sub-01", "sub-02"])
    with pytest.raises(CobeError, match=r"there are 2 \(sub-01, sub-02\): one label image is"):
        opening(two, **env)
    for path in two.glob("shinobi.fmriprep/sub-02/ses-*/func/*space-T1w_desc-preproc_bold.nii.gz"):
        path.unlink()
        dangling(path)
    assert opening(two, **env).space == "T1w"  # the other one is not downloaded


def test_series_of_native_space_are_of_one_participant(tmp_path, opening):
    plans = [RunPlan(subject, "ses-002", 1, PLAYS) for subject in ("sub-01", "sub-02")]
    write_tree(tmp_path, plans)
    paths = write_timeseries(tmp_path, {(p.subject, p.session, p.run): p.volumes for p in plans})
    for path in paths.values():
        for one in sorted(path.parent.iterdir()):
            one.rename(one.with_name(one.name.replace("MNI152NLin2009cAsym", "T1w")))
    with pytest.raises(CobeError, match="COBE_SPACE=T1w: each participant's own space"):
        opening(tmp_path, COBE_SPACE="T1w", COBE_SOURCE="timeseries")
    with pytest.raises(CobeError, match="are in space T1w, not in MNI152NLin2009cAsym"):
        opening(tmp_path, COBE_SOURCE="timeseries")


@pytest.mark.parametrize("how", ["damaged", "label image"])
def test_series_of_one_participant_stop_no_other(tmp_path, opening, how):
    plans = [RunPlan(subject, "ses-002", 1, PLAYS) for subject in ("sub-01", "sub-02")]
    write_tree(tmp_path, plans)
    paths = write_timeseries(tmp_path, {(p.subject, p.session, p.run): p.volumes for p in plans})
    bad = paths["sub-02"]
    if how == "damaged":
        bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    else:
        bad = targets.find_dseg(bad)
        bad.unlink()
        dangling(bad)
    pipeline = opening(tmp_path, COBE_SOURCE="timeseries")
    dataset = stages.inventory(pipeline)
    assert [run.usable for run in dataset.runs] == [True, False]
    assert str(bad.name) in dataset.runs[1].why
    assert set(stages.parcel_bold(pipeline, dataset)) == {("sub-01", "ses-002", 1)}


# ---- the lines of the preview


def test_lines_of_the_preview_are_to_be_typed_as_they_stand(tmp_path, preview, monkeypatch):
    plans = [RunPlan("sub-01", f"ses-{k:03d}", 1, (Play("1-0", 20.0),)) for k in range(2, 18)]
    root = tmp_path / "my data"
    _, fmriprep = write_tree(root, plans)
    shutil.rmtree(fmriprep)
    write_timeseries(root, {(p.subject, p.session, p.run): p.volumes + 1 for p in plans})
    _, said, _ = preview(root)
    assert f"and 4 more: python -m cobe.brain.dataset '{root}' --source timeseries\n" in said
    monkeypatch.setenv("COBE_SPACE", "T1w")
    _, said, _ = preview(root)
    assert f"dataset '{root}' --source timeseries --space T1w\n" in said


def test_the_preview_counts_what_can_be_downloaded_and_is_of_use(tmp_path, preview):
    first = (*PLAYS, Play("1-0", 30.0, bk2="absent"), Play("4-1", 30.0, bk2="link"))
    plans = [
        RunPlan("sub-01", "ses-002", 1, first),
        RunPlan("sub-01", "ses-003", 1, PLAYS, derived="link"),
        RunPlan("sub-02", "ses-001", 1, PLAYS, raw=False, n_trs=40, derived="link"),
        RunPlan("sub-06", "ses-009", 1, PLAYS, events="absent", derived="link"),
    ]
    write_tree(tmp_path / "data", plans)
    code, said, errors = preview(tmp_path / "data")
    assert code == 0, errors
    assert "repetitions without a replay, named in the events and not there: 1" in said
    assert "unreadable" not in said
    # a key log, and BOLD, mask and confounds of one run; the absent key log is nowhere to be had
    assert "download: 4 files" in said
    assert "they also name 6 files of runs excluded or without events, not counted" in said
