import gzip
import json
import re
import subprocess
import sys
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brain_tree
from brain_tree import Play, RunPlan, write_tree
from cobe.brain.corrections import CORRECTIONS, swapped
from cobe.brain.dataset import main, read_dataset
from cobe.brain.events import read_events
from cobe.brain.records import Repetition, Run
from cobe.brain.timeline import KINDS, valid_trs, volume_counts, volume_kinds
from cobe.core.errors import CobeError

THREE = (Play("1-0"), Play("4-1", 15.0), Play("5-0", 12.0))


def one(tree_root, **kwargs):
    (run,) = read_dataset(tree_root, **kwargs).runs
    return run


# ---- join and layouts


@pytest.mark.parametrize("layout", sorted(brain_tree.LAYOUTS))
def test_every_layout_is_found_by_content(tmp_path, layout):
    plans = [RunPlan("sub-01", "ses-002", 1, THREE), RunPlan("sub-01", "ses-002", 2, THREE)]
    raw, fmriprep = write_tree(tmp_path, plans, layout)
    dataset = read_dataset(tmp_path)
    assert (dataset.raw, dataset.fmriprep) == (raw, fmriprep)
    assert [run.key for run in dataset.runs] == [("sub-01", "ses-002", 1), ("sub-01", "ses-002", 2)]
    assert all(run.usable and run.why == "" for run in dataset.runs)
    first = dataset.runs[0]
    assert first.bold.name.startswith("sub-01_ses-002_task-shinobi_run-1_space-MNI")
    assert "_run-01_" in first.repetitions[0].bk2.name
    assert first.tr_s == 1.49
    assert first.n_trs == plans[0].volumes
    assert [r.level for r in first.repetitions] == ["1-0", "4-1", "5-0"]
    np.testing.assert_allclose([r.onset_s for r in first.repetitions], plans[0].onsets)
    assert [r.skip_first_line for r in first.repetitions] == [True, False, False]


def test_raw_given_as_root_finds_its_derivatives_beside_it(tmp_path):
    raw, fmriprep = write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    assert read_dataset(raw).fmriprep == fmriprep
    named = read_dataset(raw, fmriprep=fmriprep, raw=raw)
    assert named.runs[0].usable


def test_two_raw_datasets_are_not_guessed(tmp_path):
    for name in ("a", "b"):
        write_tree(tmp_path / name, [RunPlan("sub-01", "ses-002", 1, THREE)])
    with pytest.raises(CobeError, match="several raw datasets .*--raw"):
        read_dataset(tmp_path)


def test_other_tasks_are_not_shinobi(tmp_path):
    func = tmp_path / "mario" / "sub-01" / "ses-001" / "func"
    func.mkdir(parents=True)
    (func / "sub-01_ses-001_task-mario_run-01_events.tsv").write_text("onset\n")
    with pytest.raises(CobeError, match="no raw BIDS dataset; looked 3 levels deep for sub-"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("case", ["absent", "file", "empty"])
def test_a_root_without_a_dataset(tmp_path, case, capsys):
    root = tmp_path / "root"
    if case == "file":
        root.write_text("x")
    elif case == "empty":
        root.mkdir()
    assert main([str(root)]) == 1
    out, err = capsys.readouterr()
    expected = {"absent": "no such folder", "file": "not a folder", "empty": "looked 3 levels"}
    assert out == ""
    assert err.count("\n") == 1 and str(root) in err and expected[case] in err


# ---- what is not there


@pytest.mark.parametrize("stim", ["Missing file", "", "nan", "n/a"])
def test_a_repetition_without_replay_stays_in_time(tmp_path, stim):
    plays = (Play("1-0", stim=stim), Play("4-1", 15.0))
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 2, plays)])
    run = one(tmp_path)
    assert run.usable
    assert [r.has_replay for r in run.repetitions] == [False, True]
    assert run.repetitions[0].bk2 is None
    assert "no replay" in run.repetitions[0].why
    assert not valid_trs(run)[: int(20.0 / 1.49)].any()
    assert valid_trs(run).sum() == pytest.approx(15.0 / 1.49, abs=2)


@pytest.mark.parametrize(
    ("bk2", "reason"),
    [
        ("link", "not downloaded: cd /.* && datalad get .*run-01_level-1_rep-01.bk2"),
        ("pointer", "not downloaded: cd /.* && datalad get .*run-01_level-1_rep-01.bk2"),
        ("absent", "no file /.*run-01_level-1_rep-01.bk2"),
        ("broken", "run-01_level-1_rep-01.bk2"),
    ],
)
def test_a_replay_that_cannot_be_read(tmp_path, bk2, reason):
    plays = (Play("1-0", bk2=bk2), Play("4-1", 15.0))
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, plays)])
    run = one(tmp_path)
    assert run.usable
    assert not run.repetitions[0].has_replay
    assert re.search(reason, run.repetitions[0].why)
    assert run.repetitions[1].has_replay


@pytest.mark.parametrize("derived", ["link", "pointer"])
def test_bold_not_downloaded_names_the_command_and_keeps_the_volumes(tmp_path, derived):
    plan = RunPlan("sub-04", "ses-001", 1, THREE, derived=derived)
    write_tree(tmp_path, [plan])
    run = one(tmp_path)
    assert not run.usable
    assert f"not downloaded: cd {run.bold.parent} && datalad get {run.bold.name}" in run.why
    assert run.n_trs == plan.volumes
    assert not valid_trs(run).any()


def test_no_events_no_derivatives_no_raw(tmp_path):
    plans = [
        RunPlan("sub-06", "ses-009", 1, THREE, events="absent"),
        RunPlan("sub-04", "ses-007", 1, THREE, events="link"),
        RunPlan("sub-02", "ses-001", 1, THREE, raw=False),
        RunPlan("sub-01", "ses-002", 1, THREE, derived="absent"),
        RunPlan("sub-01", "ses-002", 2, THREE),
    ]
    write_tree(tmp_path, plans)
    dataset = read_dataset(tmp_path)
    why = {run.key: run.why for run in dataset.runs}
    assert "no events" in why["sub-06", "ses-009", 1]
    assert "events not downloaded: cd /" in why["sub-04", "ses-007", 1]
    assert why["sub-02", "ses-001", 1].startswith("excluded")
    assert "no bold in the fMRIPrep derivatives" in why["sub-01", "ses-002", 1]
    assert [run.key for run in dataset.runs if run.usable] == [("sub-01", "ses-002", 2)]
    assert "no events" in read_dataset(tmp_path, corrections=False).runs[2].why


def test_no_derivatives_at_all_is_a_reason_not_an_error(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE, derived="absent")])
    dataset = read_dataset(tmp_path)
    assert dataset.fmriprep is None
    assert "--fmriprep" in dataset.runs[0].why
    assert all(r.has_replay for r in dataset.runs[0].repetitions)


def test_other_space_is_asked_for_by_name(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    run = one(tmp_path, space="T1w")
    assert not run.usable
    assert "T1w_desc-preproc_bold.nii.gz" in run.why


def test_a_link_stored_as_text_is_not_downloaded(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    path = one(tmp_path).bold
    path.write_text("../../../.git/annex/objects/Wx/00/MD5E-s99--ff.nii.gz/MD5E-s99--ff.nii.gz")
    assert f"not downloaded: cd {path.parent} && datalad get {path.name}" in one(tmp_path).why


def test_aborted_scans_and_unreferenced_replays_are_left_alone(tmp_path):
    raw, _ = write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    log = raw / "sub-01/ses-002/gamelogs/sub-01_ses-002_task-shinobi_run-01_level-1_rep-010.bk2"
    brain_tree.write_bk2(log, 100)
    (run,) = read_dataset(tmp_path).runs
    assert log not in [r.bk2 for r in run.repetitions]
    assert run.usable and len(run.repetitions) == 3


# ---- what does not fit


def test_a_replay_of_another_play_is_excluded(tmp_path):
    plays = (Play("1-0", 20.0, bk2_frames=20 * 60 + 31), Play("4-1", 15.0, bk2_frames=15 * 60 + 29))
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, plays)])
    run = one(tmp_path)
    assert [r.has_replay for r in run.repetitions] == [False, True]
    assert "a replay of 20.5 s for a play of 20.0 s" in run.repetitions[0].why


def test_a_replay_named_twice_is_not_used(tmp_path):
    twice = "sub-01/ses-002/gamelogs/sub-01_ses-002_task-shinobi_run-01_level-1_rep-01.bk2"
    plays = (Play("1-0", 20.0), Play("1-0", 20.0, stim=twice), Play("5-0", 12.0))
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, plays)])
    run = one(tmp_path)
    assert [r.has_replay for r in run.repetitions] == [False, False, True]
    assert "named by 2 plays" in run.repetitions[0].why


@pytest.mark.parametrize(("extra_s", "fits"), [(-6, False), (-3, True), (68, True), (74, False)])
def test_the_end_of_bold_against_the_end_of_play(tmp_path, extra_s, fits):
    plan = RunPlan("sub-01", "ses-002", 1, THREE)
    plan.n_trs = round((plan.onsets[-1] + 12.0 + extra_s) / 1.49)
    write_tree(tmp_path, [plan])
    run = one(tmp_path)
    assert run.usable == fits
    assert ("suspicious" in run.why) != fits
    assert run.tail_s == pytest.approx(extra_s, abs=0.75)
    assert len(valid_trs(run)) == plan.n_trs


def tamper(path, change):
    import nibabel as nib

    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    path.unlink()
    change(image).to_filename(path)


def with_tr(image):
    image.header.set_zooms((20.0, 20.0, 20.0, 2.0))
    return image


def shorter(image):
    return image.slicer[..., :-1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_tr, "TR differ: 1.49 s in raw JSON, 1.49 s in fMRIPrep JSON, 2 s in BOLD header"),
        (shorter, "volumes differ: "),
        (lambda image: image.slicer[..., 0], "3 dimensions, not 4"),
        (lambda image: image.slicer[1:], "not on the grid of the BOLD"),
    ],
)
def test_an_image_that_contradicts_the_rest(tmp_path, change, reason):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    tamper(one(tmp_path).bold, change)
    run = one(tmp_path)
    assert not run.usable
    assert reason in run.why


def test_tr_in_milliseconds_is_understood(tmp_path):
    def milliseconds(image):
        image.header.set_xyzt_units("mm", "msec")
        image.header.set_zooms((20.0, 20.0, 20.0, 1490.0))
        return image

    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    tamper(one(tmp_path).bold, milliseconds)
    assert one(tmp_path).usable


@pytest.mark.parametrize("damage", ["cut", "header", "text", "empty"])
def test_a_damaged_image_is_found_in_the_inventory(tmp_path, damage):
    plans = [RunPlan("sub-01", "ses-002", 1, THREE), RunPlan("sub-01", "ses-002", 2, THREE)]
    write_tree(tmp_path, plans)
    path = read_dataset(tmp_path).runs[0].bold
    content = path.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "header": gzip.compress(b"\0" * 400),
        "text": b"<html>404 not found</html>" * 20,
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    first, second = read_dataset(tmp_path).runs
    assert not first.usable
    assert str(path) in first.why
    assert "get it again" in first.why
    assert second.usable


def test_a_gzip_of_several_members_is_whole(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    path = one(tmp_path).bold
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert one(tmp_path).usable


def test_confounds_of_another_length(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    path = one(tmp_path).confounds
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    assert "volumes differ" in one(tmp_path).why


def test_two_files_for_one_run_are_reported(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    events = next(tmp_path.rglob("*_run-01_events.tsv"))
    events.with_name(events.name.replace("run-01", "run-1")).write_text(events.read_text())
    assert "a second file for the same run" in one(tmp_path).why


# ---- known corrections


def rotated(run_of_events):
    """Six runs whose events lie in the file of another run; lengths differ by 80 s."""
    plans = []
    for bold_run in range(1, 7):
        source = {events: bold for events, bold in run_of_events.items()}
        events_bold = source[bold_run]
        plays = (Play("1-0", 12.0 + 90.0 * (events_bold % 3)), Play("5-0", 12.0 + 0.1 * bold_run))
        own = (Play("1-0", 12.0 + 90.0 * (bold_run % 3)), Play("5-0", 12.0))
        n_trs = RunPlan("", "", 0, own).volumes
        plans.append(RunPlan("sub-01", "ses-013", bold_run, plays, n_trs=n_trs))
    return plans


ROTATION = {2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 1: 6}


def test_rotated_session_is_put_right(tmp_path):
    write_tree(tmp_path, rotated(ROTATION))
    runs = read_dataset(tmp_path).runs
    assert all(run.usable for run in runs), [run.why for run in runs]
    for run in runs:
        source = {bold: events for events, bold in ROTATION.items()}[run.run]
        assert run.corrected.startswith(f"events of run {source}:")
        assert all(f"_run-{source:02d}_" in r.bk2.name for r in run.repetitions)
        assert 0 <= run.tail_s <= 10


def test_rotated_session_as_filed_is_suspicious_as_a_whole(tmp_path):
    write_tree(tmp_path, rotated(ROTATION))
    runs = read_dataset(tmp_path, corrections=False).runs
    assert not any(run.usable for run in runs)
    assert all("suspicious" in run.why for run in runs)
    assert not any(run.corrected for run in runs)


def test_a_fault_put_right_at_its_source_is_not_corrected_again(tmp_path):
    write_tree(tmp_path, rotated({run: run for run in range(1, 7)}))
    runs = read_dataset(tmp_path).runs
    assert all(run.usable and not run.corrected for run in runs)


def test_one_run_does_not_prove_that_a_session_was_put_right(tmp_path):
    """BOLD run 1 fits the events of run 1 by chance, as it does in the real session."""
    plans = rotated(ROTATION)
    plans[0].n_trs = None  # as long as its own events
    write_tree(tmp_path, plans[:1])
    dataset = read_dataset(tmp_path)
    (run,) = dataset.runs
    assert not run.usable and run.corrected.startswith("events of run 2:")
    assert run.repetitions == () and "no events" in run.why
    assert dataset.corrections[0].status == "applied"
    assert one(tmp_path, corrections=False).usable


def test_five_of_six_runs_do_not_prove_it_either(tmp_path):
    write_tree(tmp_path, rotated({run: run for run in range(1, 7)})[:5])
    assert all(run.corrected for run in read_dataset(tmp_path).runs)


OF_OTHERS = {
    "subject": "sub-02/ses-002/gamelogs/sub-02_ses-002_task-shinobi_run-01_level-1_rep-01.bk2",
    "session": "sub-01/ses-003/gamelogs/sub-01_ses-003_task-shinobi_run-01_level-1_rep-01.bk2",
    "run": "sub-01/ses-002/gamelogs/sub-01_ses-002_task-shinobi_run-02_level-1_rep-010.bk2",
    "level": "sub-01/ses-002/gamelogs/sub-01_ses-002_task-shinobi_run-01_level-4_rep-00.bk2",
}


@pytest.mark.parametrize("what", OF_OTHERS)
def test_a_replay_named_for_another_play_is_not_used_though_its_length_fits(tmp_path, what):
    plays = (Play("1-0", 40.0, stim=OF_OTHERS[what]), Play("5-0", 30.0))
    raw, _ = write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, plays)])
    brain_tree.write_bk2(raw / OF_OTHERS[what], 2400)
    dataset = read_dataset(tmp_path)
    first, second = dataset.runs[0].repetitions
    assert not first.has_replay and second.has_replay
    assert "by its name of another play than sub-01 ses-002 run 1, level 1-0" in first.why
    assert str(raw / OF_OTHERS[what]) in first.why
    assert dataset.findings == (f"sub-01_ses-002_run-1 row 0: {first.why}; not used",)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_ses-002_task-shinobi_run-01_level-1_rep-00.bk2",
        "sub-01_ses-002_task-shinobi_run-01_level-1_rep-010.bk2",
        "sub-01_ses-002_task-shinobi_run-1_level-1_rep-7.bk2",
        "sub-01_ses-002_task-shinobi_run-01_level-1-0_rep-01.bk2",
        "sub-02_recorded_by_hand.bk2",  # says nothing that can be compared
    ],
)
def test_odd_names_of_the_right_play_are_used(tmp_path, name):
    stim = f"sub-01/ses-002/gamelogs/{name}"
    plan = RunPlan("sub-01", "ses-002", 1, (Play("1-0", 40.0, stim=stim),))
    raw, _ = write_tree(tmp_path, [plan])
    brain_tree.write_bk2(raw / stim, 2400)
    assert one(tmp_path).repetitions[0].has_replay


def test_events_put_right_by_renaming_the_table_or_its_cells_keep_their_replays(tmp_path):
    """Both faults may be mended so that names of replays and of runs differ for good reason."""
    raw, _ = write_tree(tmp_path, rotated({run: run for run in range(1, 7)}))
    stem = "sub-01_ses-013_task-shinobi_run-0"
    filed = {
        events: (raw / f"sub-01/ses-013/func/{stem}{events}_events.tsv").read_text()
        for events in range(1, 7)
    }
    for events, bold in ROTATION.items():  # the replays were named before, after their old run
        text = filed[bold].replace(f"_run-0{bold}_", f"_run-0{events}_")
        (raw / f"sub-01/ses-013/func/{stem}{bold}_events.tsv").write_text(text)
    logs = raw / "sub-01/ses-013/gamelogs"
    for path in sorted(logs.glob("*.bk2")):
        path.rename(path.with_name(f"old-{path.name}"))
    for events, bold in ROTATION.items():
        for path in sorted(logs.glob(f"old-*_run-0{bold}_*.bk2")):
            name = path.name.removeprefix("old-").replace(f"_run-0{bold}_", f"_run-0{events}_")
            path.rename(logs / name)
    runs = read_dataset(tmp_path).runs
    assert all(run.usable and not run.corrected for run in runs)
    assert all(r.has_replay for run in runs for r in run.repetitions)

    cells = tmp_path / "cells"
    plans = [RunPlan("sub-02", "ses-005", run, (Play("4-1", 20.0 + run),)) for run in (1, 2)]
    raw, _ = write_tree(cells, plans)
    stem = "sub-02_ses-005_task-shinobi_run-0"
    logs = raw / "sub-02/ses-005/gamelogs"
    one_log, other = (logs / f"{stem}{run}_level-4_rep-01.bk2" for run in (1, 2))
    one_log.rename(logs / "moved")
    other.rename(one_log)
    (logs / "moved").rename(other)
    for run in (1, 2):
        table = raw / f"sub-02/ses-005/func/{stem}{run}_events.tsv"
        table.write_text(table.read_text().replace(f"_run-0{run}_", f"_run-0{3 - run}_"))
    assert all(r.has_replay for run in read_dataset(cells).runs for r in run.repetitions)


def test_one_recording_under_two_names_is_used_for_neither(tmp_path):
    plans = [
        RunPlan("sub-01", "ses-002", 1, (Play("1-0", 60.0), Play("4-1", 40.0))),
        RunPlan("sub-01", "ses-002", 2, (Play("1-0", 60.2), Play("4-1", 44.0))),
    ]
    raw, _ = write_tree(tmp_path, plans)
    logs = raw / "sub-01/ses-002/gamelogs"
    first, second = sorted(logs.glob("*level-1_rep-01.bk2"))
    with zipfile.ZipFile(first) as archive, zipfile.ZipFile(second, "w") as copy:
        for member in archive.namelist():  # packed anew: other bytes on disk, the same play
            copy.writestr(member, archive.read(member))
    dataset = read_dataset(tmp_path)
    for run, path, other in zip(dataset.runs, (first, second), (second, first), strict=True):
        assert run.usable and [r.has_replay for r in run.repetitions] == [False, True]
        assert run.repetitions[0].why == f"{path}: the same content as {other}"
    (finding,) = dataset.findings
    assert finding.startswith(f"{first}, {second}: replays of one content")


def test_links_of_one_key_are_one_recording_also_where_one_is_downloaded(tmp_path):
    plans = [RunPlan("sub-01", "ses-002", run, (Play("1-0", 60.0),)) for run in (1, 2, 3)]
    raw, _ = write_tree(tmp_path, plans)
    first, second, third = sorted((raw / "sub-01/ses-002/gamelogs").glob("*.bk2"))
    objects = raw / ".git/annex/objects"
    key = "MD5E-s45000--0123456789abcdef0123456789abcdef.bk2"
    content = objects / key / key
    content.parent.mkdir(parents=True)
    first.rename(content)
    for path in (first, second):
        path.unlink(missing_ok=True)
        path.symlink_to(f"../../../.git/annex/objects/{key}/{key}")
    second.unlink()
    second.write_text(f"/annex/objects/{key}\n")  # an unlocked branch: a pointer file
    dataset = read_dataset(tmp_path)
    used = [r.has_replay for run in dataset.runs for r in run.repetitions]
    assert used == [False, False, True]
    assert "the same content as" in dataset.runs[0].repetitions[0].why
    assert "not downloaded" in dataset.runs[1].repetitions[0].why
    assert dataset.findings[0].startswith(f"{first}, {second}: replays of one content")


def test_a_swap_is_of_one_name_and_not_of_all_that_begin_with_it():
    swap = next(c for c in CORRECTIONS if c.name == "sub-04_ses-007_replays_swapped")
    stem = "sub-04_ses-007_task-shinobi_run-04_level-4_rep-04"
    assert swapped(PurePosixPath(f"{stem}.bk2"), swap).name.endswith("level-5_rep-04.bk2")
    assert swapped(PurePosixPath(f"{stem}0.bk2"), swap).name == f"{stem}0.bk2"


def test_swapped_replays_of_two_runs(tmp_path):
    plans = [
        RunPlan("sub-02", "ses-005", 1, (Play("4-1", 30.0, bk2_frames=600), Play("5-0", 12.0))),
        RunPlan("sub-02", "ses-005", 2, (Play("4-1", 10.0, bk2_frames=1800), Play("5-0", 12.0))),
        RunPlan("sub-02", "ses-005", 3, (Play("4-1", 11.0),)),
    ]
    write_tree(tmp_path, plans)
    runs = read_dataset(tmp_path).runs
    assert "_run-02_level-4_" in runs[0].repetitions[0].bk2.name
    assert "_run-01_level-4_" in runs[1].repetitions[0].bk2.name
    assert "swapped" in runs[0].repetitions[0].corrected
    assert all(r.has_replay for run in runs for r in run.repetitions)
    assert not runs[2].repetitions[0].corrected
    filed = read_dataset(tmp_path, corrections=False).runs
    assert [run.repetitions[0].has_replay for run in filed] == [False, False, True]


def test_swapped_replays_within_a_run(tmp_path):
    plays = [Play(f"{level}-0", 12.0) for _ in range(3) for level in (4, 5)]
    plays += [Play("4-1", 25.0, bk2_frames=840), Play("5-0", 14.0, bk2_frames=1500)]
    write_tree(tmp_path, [RunPlan("sub-04", "ses-007", 4, tuple(plays))])
    run = one(tmp_path)
    assert all(r.has_replay for r in run.repetitions)
    assert "level-5_rep-04" in run.repetitions[6].bk2.name
    assert "level-4_rep-04" in run.repetitions[7].bk2.name
    assert [bool(r.corrected) for r in run.repetitions] == [False] * 6 + [True] * 2
    filed = one(tmp_path, corrections=False)
    assert [r.has_replay for r in filed.repetitions] == [True] * 6 + [False] * 2


def test_replays_put_right_at_their_source_are_not_swapped_again(tmp_path):
    # The first pair has one length, so that only the session as a whole can tell.
    plans = [
        RunPlan("sub-02", "ses-005", 1, (Play("4-1", 20.0), Play("5-0", 12.0))),
        RunPlan("sub-02", "ses-005", 2, (Play("4-1", 20.0), Play("5-0", 25.0))),
    ]
    write_tree(tmp_path, plans)
    for run in read_dataset(tmp_path).runs:
        for repetition in run.repetitions:
            assert repetition.has_replay and not repetition.corrected
            assert f"_run-{run.run:02d}_" in repetition.bk2.name


def test_replays_that_are_not_downloaded_are_swapped_by_name(tmp_path):
    plans = [RunPlan("sub-02", "ses-005", run, (Play("4-1", 20.0, bk2="link"),)) for run in (1, 2)]
    write_tree(tmp_path, plans)
    first, second = read_dataset(tmp_path).runs
    assert "_run-02_" in first.repetitions[0].bk2.name
    assert "_run-01_" in second.repetitions[0].bk2.name
    assert "datalad get" in first.repetitions[0].why


@pytest.mark.parametrize(("n_misfits", "n_usable"), [(1, 3), (2, 0)])
def test_two_misfits_put_a_whole_session_in_doubt_and_no_other(tmp_path, n_misfits, n_usable):
    plans = [RunPlan("sub-01", "ses-002", run, THREE) for run in (1, 2, 3, 4)]
    for plan in plans[:n_misfits]:
        plan.n_trs = plan.volumes - 20
    plans.append(RunPlan("sub-01", "ses-003", 1, THREE))
    write_tree(tmp_path, plans)
    *session, other = read_dataset(tmp_path).runs
    assert sum(run.usable for run in session) == n_usable
    assert all("suspicious" in run.why for run in session if not run.usable)
    assert other.usable


# ---- tables and the command line


@pytest.fixture
def mixed(tmp_path):
    plans = [
        RunPlan("sub-01", "ses-002", 1, THREE),
        RunPlan("sub-01", "ses-002", 2, (Play("1-0", stim="Missing file"), Play("4-1", 15.0))),
        RunPlan("sub-06", "ses-009", 1, THREE, events="absent"),
        RunPlan("sub-06", "ses-010", 10, THREE, derived="link"),
    ]
    write_tree(tmp_path, plans)
    return tmp_path, plans


def test_only_shinobi_recordings_have_a_line_that_was_never_played(tmp_path):
    raw, _ = write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE)])
    first = one(tmp_path).repetitions[0]
    assert first.skip_first_line
    brain_tree.write_bk2(first.bk2, 1201, game="Airstriker-Genesis-v0")
    first = one(tmp_path).repetitions[0]
    assert first.has_replay and not first.skip_first_line


def test_table_has_a_row_for_every_repetition_and_every_run(mixed):
    root, _ = mixed
    table = read_dataset(root).table()
    columns = "subject session run row level onset_s duration_s replay why".split()
    assert list(table.columns[:9]) == columns
    assert len(table) == 3 + 2 + 1 + 3
    assert table["replay"].tolist() == [True] * 3 + [False, True] + [False] + [True] * 3
    alone = table[table["session"] == "ses-009"].iloc[0]
    assert pd.isna(alone["row"]) and "no events" in alone["why"]
    assert (table["why"] == "").tolist() == [True] * 3 + [False, True] + [False] * 4


def test_totals_add_up(mixed):
    root, plans = mixed
    dataset = read_dataset(root)
    totals = dataset.totals().set_index("subject")
    first, second = totals.loc["sub-01"], totals.loc["sub-06"]
    assert first["volumes"] == plans[0].volumes + plans[1].volumes
    assert first["hours"] == pytest.approx(first["volumes"] * 1.49 / 3600, abs=1e-3)
    assert (first["repetitions"], first["named"], first["replays"]) == (5, 4, 4)
    assert (first["runs"], first["usable_runs"], first["covered_runs"]) == (2, 2, 1)
    assert first["valid_trs"] == sum(valid_trs(run).sum() for run in dataset.runs[:2])
    assert (second["runs"], second["usable_runs"], second["valid_trs"]) == (2, 0, 0)


def test_command_line_prints_and_writes_json(mixed):
    root, _ = mixed
    command = [sys.executable, "-m", "cobe.brain.dataset", str(root)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "sub-06_ses-009_run-1: no events" in text
    assert "sub-01_ses-002_run-2 row 0 level 1-0: no replay" in text
    listing = json.loads(
        subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    )
    assert [run["usable"] for run in listing["runs"]] == [True, True, False, False]
    first = listing["runs"][0]
    assert sum(first["volumes"].values()) == first["n_trs"]
    assert first["repetitions"][0]["replay"] is True
    failed = subprocess.run([*command[:-1], str(root / "none")], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1


# ---- events


HEAD = "trial_type\tonset\tduration\tduration_bk2\tlevel\tstim_file\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("gym-retro_game\tsoon\t10\t10\t1-0\ta.bk2\n", "row 0, onset: 'soon' is no number"),
        ("gym-retro_game\t0\tn/a\t10\t1-0\ta.bk2\n", "row 0, duration: 'n/a' is no number"),
        ("gym-retro_game\t0\tinf\t10\t1-0\ta.bk2\n", "duration: 'inf' is no number"),
        ("gym-retro_game\t-3\t10\t10\t1-0\ta.bk2\n", "starts at -3.0 s"),
        ("gym-retro_game\t0\t0\t10\t1-0\ta.bk2\n", "lasts 0.0 s"),
        ("gym-retro_game\t0\t9\t9\t1-0\t../../a.bk2\n", "leads out of the dataset"),
        ("gym-retro_game\t0\t9\t9\t1-0\t/etc/a.bk2\n", "leads out of the dataset"),
        (
            "gym-retro_game\t0\t9\t9\t1-0\ta.bk2\ngym-retro_game\t5\t9\t9\t1-0\tb.bk2\n",
            "rows 0 and 1 overlap",
        ),
        ("a\tb\tc\td\te\tf\tg\th\n" * 2 + "x\n" + "\t" * 20 + "\n", "not readable as a table"),
    ],
)
def test_wrong_events_are_refused_with_the_place(tmp_path, body, reason):
    path = tmp_path / "events.tsv"
    path.write_text(HEAD + body)
    with pytest.raises(CobeError) as raised:
        read_events(path)
    assert reason in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"onset\tduration\n1\t2\n", b"\xff\xfe\x00\x01", b"\0\0"])
def test_no_events_table(tmp_path, content):
    path = tmp_path / "events.tsv"
    path.write_bytes(content)
    with pytest.raises(CobeError, match="events.tsv: "):
        read_events(path)


def test_wrong_events_are_a_reason_in_the_inventory(tmp_path):
    write_tree(
        tmp_path, [RunPlan("sub-01", "ses-002", 1, THREE), RunPlan("sub-01", "ses-002", 2, THREE)]
    )
    path = next(tmp_path.rglob("*_run-01_events.tsv"))
    path.write_text(path.read_text().replace("20.0", "twenty"))
    first, second = read_dataset(tmp_path).runs
    assert "'twenty' is no number" in first.why and not first.usable
    assert second.usable


text = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r", exclude_categories=["C"]))
event = st.tuples(
    st.floats(0.1, 100.0, allow_nan=False),
    st.floats(0.05, 20.0, allow_nan=False),
    text.map(str.strip).filter(lambda t: not t.startswith("/") and ".." not in t),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(event, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_events_come_back_as_written(tmp_path_factory, rows, random):
    path = tmp_path_factory.mktemp("events") / "events.tsv"
    onset, cells = 0.0, []
    for duration, gap, stim in rows:
        cells.append((onset, duration, stim))
        onset += duration + gap
    order = list(range(len(cells)))
    random.shuffle(order)
    lines = [
        f"gym-retro_game\t{cells[i][0]!r}\t{cells[i][1]!r}\t\t1-0\t{cells[i][2]}" for i in order
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    events = read_events(path)
    assert [e.onset_s for e in events] == [c[0] for c in cells]
    assert [e.duration_s for e in events] == [c[1] for c in cells]
    assert [order[e.row] for e in events] == list(range(len(cells)))
    for found, (_, _, stim) in zip(events, cells, strict=True):
        if stim.lower() in ("", "missing file", "n/a", "nan", "none"):
            assert found.replay is None
        else:
            assert found.replay.parts == tuple(p for p in stim.split("/") if p not in ("", "."))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_events_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("events") / "events.tsv"
    path.write_bytes(HEAD.encode() + content)
    try:
        assert all(event.duration_s > 0 for event in read_events(path))
    except CobeError as error:
        assert str(path) in str(error)


# ---- timeline


def run_of(spans, n_trs, tr_s=1.49, usable=True):
    repetitions, time = [], 0.0
    for row, (gap, duration, has_replay) in enumerate(spans):
        time += gap
        bk2 = f"{row}.bk2" if has_replay else None
        repetitions.append(
            Repetition(row, "1-0", time, duration, bk2, "" if has_replay else "no replay")
        )
        time += duration
    files = (None, None, None)
    return Run("sub-01", "ses-001", 1, *files, n_trs, tr_s, tuple(repetitions), usable)


span = st.tuples(st.floats(0, 20), st.floats(0.1, 40), st.booleans())


@settings(max_examples=300, deadline=None)
@given(st.lists(span, max_size=5), st.integers(1, 80), st.sampled_from([0.5, 1.49, 2.0]))
def test_valid_volumes_equal_a_volume_by_volume_count(spans, n_trs, tr_s):
    run = run_of(spans, n_trs, tr_s)
    kinds, valid = volume_kinds(run), valid_trs(run)
    assert len(valid) == n_trs
    assert sum(volume_counts(run).values()) == n_trs
    assert set(kinds) <= set(KINDS)
    for k in range(n_trs):
        start, end = k * tr_s, k * tr_s + tr_s
        inside, touched = False, []
        for r in run.repetitions:
            off = r.onset_s + r.duration_s
            if r.has_replay and start >= r.onset_s - 1e-6 and end <= off + 1e-6:
                inside = True
            if min(end, off) - max(start, r.onset_s) > 1e-6:
                touched.append(r.has_replay)
        assert valid[k] == inside
        if not inside:
            expected = "edge" if any(touched) else "no_replay" if touched else None
            assert kinds[k] == expected if expected else kinds[k] in ("gap", "after")


def test_kinds_of_a_run_by_hand():
    run = run_of([(0.0, 3.0, True), (2.0, 2.0, False), (1.0, 2.5, True)], n_trs=13, tr_s=1.0)
    assert volume_kinds(run).tolist() == (
        ["replay"] * 3 + ["gap"] * 2 + ["no_replay"] * 2 + ["gap"] + ["replay"] * 2
        + ["edge"] + ["after"] * 2
    )  # fmt: skip
    expected = {"replay": 5, "edge": 1, "no_replay": 2, "gap": 3, "after": 2}
    assert volume_counts(run) == expected


def test_an_unusable_run_has_no_valid_volume_and_an_unknown_one_is_an_error():
    spans = [(0.0, 10.0, True)]
    assert not valid_trs(run_of(spans, 8, usable=False)).any()
    with pytest.raises(CobeError, match="sub-01_ses-001_run-1: number of volumes"):
        valid_trs(run_of(spans, None))


# ---- tables and sidecars of another shape


HEADER = "onset\tduration\tduration_bk2\tlevel\tstim_file"


@pytest.mark.parametrize(
    "rows",
    [
        ["0.01\t40.0\t40.0\t1-0\ta.bk2\t"],
        ["0.01\t40.0\t40.0\t1-0\ta.bk2\tmore"],
        ["0.01\t40.0\t40.0\t1-0\ta.bk2\tmore", "50.0\t40.0\t40.0\t1-0\tb.bk2"],
        ["0.01\t40.0\t40.0\t1-0\ta.bk2", "50.0\t40.0\t40.0\t1-0\tb.bk2\tmore"],
        ["0.01\t40.0\t40.0\t1-0\ta.bk2\tmore\tand"],
    ],
)
def test_rows_with_more_cells_than_the_header_are_refused(tmp_path, rows):
    path = tmp_path / "a_events.tsv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    with pytest.raises(CobeError, match="a_events.tsv: "):
        read_events(path)


def test_an_events_table_without_rows_is_no_error(tmp_path):
    path = tmp_path / "a_events.tsv"
    path.write_text(HEADER + "\n")
    assert read_events(path) == ()


@pytest.mark.parametrize("n_volumes", [10**11, 100_000, -5, 0, 40.5, "many", None])
def test_an_absurd_number_of_volumes_is_a_reason_and_counts_for_nothing(tmp_path, n_volumes):
    plans = [RunPlan("sub-01", "ses-002", run, (Play(duration_s=40.0),)) for run in (1, 2)]
    plans[0].derived = "link"
    raw, _ = write_tree(tmp_path, plans)
    path = next(raw.glob("sub-*/ses-*/func/*run-01_bold.json"))
    sidecar = json.loads(path.read_text())
    sidecar["dcmmeta_shape"][3] = n_volumes
    path.write_text(json.dumps(sidecar))
    dataset = read_dataset(tmp_path)
    first, second = dataset.runs
    assert first.n_trs is None and f"{path}: dcmmeta_shape of " in first.why
    assert second.usable
    assert dataset.totals().volumes.tolist() == [second.n_trs]
    assert dataset.totals().unknown_runs.tolist() == [1]
