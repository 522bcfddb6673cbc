"""The dataset as it lies on a user's disk: every trap, every layout, every bad file."""

import json

import nibabel as nib
import numpy as np
import pytest

import brain_tree
from brain_tree import Play, RunPlan, as_repository, dangling, write_rest, write_tree
from cobe.brain.corrections import CORRECTIONS
from cobe.brain.dataset import main, read_dataset
from cobe.brain.inventory import downloads
from cobe.brain.timeline import valid_trs
from cobe.brain.timeseries import find_dseg
from cobe.core.errors import CobeError
from real_tree import write_timeseries

# ---- every trap, in every layout

LONG = (Play("1-0", 16.0), Play("4-1", 12.0), Play("5-0", 10.0))


def odd_names(raw):
    """Name the replays of one run as the dataset does at its oddest."""
    events = raw / "sub-04/ses-010/func/sub-04_ses-010_task-shinobi_run-01_events.tsv"
    text = events.read_text()
    for level, number in (("1", "00"), ("4", "010")):
        old = f"sub-04_ses-010_task-shinobi_run-01_level-{level}_rep-01"
        new = old.replace("rep-01", f"rep-{number}")
        (raw / f"sub-04/ses-010/gamelogs/{old}.bk2").rename(
            raw / f"sub-04/ses-010/gamelogs/{new}.bk2"
        )
        text = text.replace(old, new)
    events.write_text(text)


def rotated_session():
    """Six runs as sub-01/ses-013 is filed: events of run 2 belong to BOLD run 1, and so on."""
    plays = {e: (Play("1-0", 12.0 + 90.0 * (e % 3)), Play("5-0", 10.0)) for e in range(1, 7)}
    return [
        RunPlan(
            "sub-01", "ses-013", bold, plays[bold],
            n_trs=RunPlan("", "", 0, plays[bold % 6 + 1]).volumes,
        )
        for bold in range(1, 7)
    ]  # fmt: skip


def trap_plans():
    swapped = [
        RunPlan("sub-02", "ses-005", 1, (Play("4-1", 15.0, bk2_frames=600), LONG[2])),
        RunPlan("sub-02", "ses-005", 2, (Play("4-1", 10.0, bk2_frames=900), LONG[2])),
    ]
    cut, late = RunPlan("sub-02", "ses-013", 2, LONG), RunPlan("sub-06", "ses-004", 1, LONG)
    cut.n_trs = int((cut.onsets[-1] + 10.0 - 2.0) / brain_tree.TR_S)
    late.n_trs = int((late.onsets[-1] + 10.0 + 63.6) / brain_tree.TR_S)
    return [
        RunPlan("sub-01", "ses-002", 1, LONG),
        RunPlan("sub-01", "ses-002", 2, (Play("1-0", stim="Missing file"), *LONG[1:])),
        RunPlan("sub-02", "ses-007", 3, (Play("1-0", stim=""), *LONG[1:])),
        RunPlan("sub-01", "ses-003", 1, (Play("1-0", bk2="link"), Play("4-1", bk2="pointer"))),
        RunPlan("sub-01", "ses-003", 10, LONG, derived="pointer"),
        *rotated_session(),
        *swapped,
        cut,
        late,
        RunPlan("sub-02", "ses-001", 1, LONG, raw=False),
        RunPlan("sub-04", "ses-007", 4, LONG, events="link"),
        RunPlan("sub-04", "ses-010", 1, LONG),
        RunPlan("sub-06", "ses-009", 1, LONG, events="absent"),
    ]


def write_traps(root, layout):
    raw, fmriprep = write_tree(root, trap_plans(), layout)
    odd_names(raw)
    as_repository(raw)
    as_repository(fmriprep)
    unreferenced = raw / "sub-01/ses-002/gamelogs"
    brain_tree.write_bk2(unreferenced / "sub-01_ses-002_task-shinobi_run-02_level-1_rep-01.bk2", 9)
    return raw, fmriprep, *write_rest(root, ("sub-01", "sub-02", "sub-04", "sub-06"), layout)


UNUSABLE = {
    ("sub-01", "ses-003", 1): "no repetition with a replay",
    ("sub-01", "ses-003", 10): "not downloaded: cd ",
    ("sub-02", "ses-001", 1): "excluded: ",
    ("sub-04", "ses-007", 4): "events not downloaded: cd ",
    ("sub-06", "ses-009", 1): "no events: ",
}


@pytest.mark.parametrize("layout", sorted(brain_tree.LAYOUTS))
def test_every_trap_in_every_layout(tmp_path, layout, capsys):
    raw, fmriprep, anat, stimuli, timeseries = write_traps(tmp_path, layout)
    dataset = read_dataset(tmp_path)
    folders = dataset.folders
    assert (folders.raw, folders.fmriprep, folders.anat) == (raw, fmriprep, anat)
    assert (folders.stimuli, folders.timeseries) == (stimuli, timeseries)
    runs = {run.key: run for run in dataset.runs}
    assert len(runs) == len(trap_plans())
    assert {key for key, run in runs.items() if not run.usable} == set(UNUSABLE)
    for key, reason in UNUSABLE.items():
        assert runs[key].why.startswith(reason), (key, runs[key].why)
    assert [c.status for c in dataset.corrections] == ["applied", "applied", "waiting", "applied"]
    assert all(run.corrected for key, run in runs.items() if key[1] == "ses-013" and "01" in key[0])
    for run in (1, 2):
        first, second = runs["sub-02", "ses-005", run].repetitions
        assert f"_run-0{3 - run}_" in first.bk2.name and first.corrected and first.has_replay
    assert dataset.findings[0].startswith("sub-02_ses-013_run-2: BOLD ends ")
    assert len(dataset.findings) == 1
    names = [r.bk2.name[-10:] for r in runs["sub-04", "ses-010", 1].repetitions]
    assert names == ["rep-00.bk2", "ep-010.bk2", "rep-01.bk2"]
    late = runs["sub-06", "ses-004", 1]
    assert not valid_trs(late)[-int(60 / brain_tree.TR_S) :].any()
    for key in (("sub-01", "ses-002", 2), ("sub-02", "ses-007", 3)):
        run = runs[key]
        assert run.repetitions[0].bk2 is None and not valid_trs(run)[:13].any()
        assert [r.skip_first_line for r in run.repetitions] == [False, False, False]
    links = runs["sub-01", "ses-003", 1].repetitions
    assert all(f"cd {raw} && datalad get sub-01/ses-003/gamelogs/" in r.why for r in links)

    assert main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for key in runs:
        assert f"{key[0]}_{key[1]}_run-{key[2]}: " in text


def test_the_raw_dataset_as_root_finds_all_parts_beside_it(tmp_path):
    raw, fmriprep, anat, stimuli, timeseries = write_traps(tmp_path, "side_by_side")
    folders = read_dataset(raw).folders
    assert (folders.fmriprep, folders.anat, folders.stimuli) == (fmriprep, anat, stimuli)
    assert folders.timeseries == timeseries


@pytest.mark.parametrize("part", ["raw", "fmriprep", "anat", "stimuli", "timeseries"])
def test_a_given_folder_is_taken_or_refused(tmp_path, part):
    found = dict(
        zip(
            ("raw", "fmriprep", "anat", "stimuli", "timeseries"),
            write_traps(tmp_path / "a", "side_by_side"),
            strict=True,
        )
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "file").write_text("x")
    taken = read_dataset(tmp_path / "a", **{part: found[part]})
    assert getattr(taken.folders, part) == found[part]
    with pytest.raises(CobeError, match=f"{tmp_path}/b: no .* in it; give the root"):
        read_dataset(tmp_path / "a", **{part: tmp_path / "b"})
    with pytest.raises(CobeError, match="a file, not a folder"):
        read_dataset(tmp_path / "a", **{part: tmp_path / "file"})


# ---- corrections have a switch each


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: c.name)
def test_a_correction_can_be_switched_off_by_name(tmp_path, correction, capsys):
    plans = [
        *rotated_session(),
        RunPlan("sub-02", "ses-005", 1, (Play("4-1", 15.0, bk2_frames=600), LONG[2])),
        RunPlan("sub-02", "ses-005", 2, (Play("4-1", 10.0, bk2_frames=900), LONG[2])),
        RunPlan(
            "sub-04", "ses-007", 4,
            (*[Play(f"{n}-0", 8.0) for _ in range(3) for n in (4, 5)],
             Play("4-1", 15.0, bk2_frames=600), Play("5-0", 10.0, bk2_frames=900)),
        ),
        RunPlan("sub-02", "ses-001", 1, LONG, raw=False),
    ]  # fmt: skip
    write_tree(tmp_path, plans)
    assert {c.status for c in read_dataset(tmp_path).corrections} == {"applied"}
    assert main([str(tmp_path), "--json", "--without-correction", correction.name]) == 0
    listed = json.loads(capsys.readouterr().out)
    status = {c["name"]: c["status"] for c in listed["corrections"]}
    assert status.pop(correction.name) == "off"
    assert set(status.values()) == {"applied"}
    session = [
        run
        for run in listed["runs"]
        if (run["subject"], run["session"]) == (correction.subject, correction.session)
    ]
    assert not any(run["corrected"] or run["excluded"] for run in session)
    if correction.kind == "events_moved":
        assert all("suspicious" in run["why"] for run in session)
        assert "are the events rotated?" in listed["findings"][0]
    elif correction.kind == "replays_swapped":
        wrong = [r for run in session for r in run["repetitions"] if not r["replay"]]
        assert len(wrong) == 2 and all("a replay of" in r["why"] for r in wrong)
        assert "are they swapped? neither is used" in listed["findings"][0]
    else:
        assert "no events: not in the raw dataset" in session[0]["why"]


def test_an_unknown_correction_is_an_error_that_names_the_known(tmp_path, capsys):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, LONG)])
    assert main([str(tmp_path), "--without-correction", "sub-09"]) == 1
    assert "'sub-09': unknown; there are sub-01_ses-013_events_moved" in capsys.readouterr().err
    absent = read_dataset(tmp_path).corrections
    assert {c.status for c in absent} == {"absent"}


# ---- the same faults elsewhere


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_rotated_session_elsewhere_is_reported_and_left_out(tmp_path, shift):
    lengths = {1: 10.0, 2: 30.0, 3: 50.0, 4: 20.0}
    plans = []
    for bold in range(1, 5):
        events = (bold - 1 + shift) % 4 + 1
        plays, own = (Play("1-0", lengths[events]),), (Play("1-0", lengths[bold]),)
        n_trs = RunPlan("", "", 0, own).volumes + 8
        plans.append(RunPlan("sub-06", "ses-003", bold, plays, n_trs=n_trs))
    plans.append(RunPlan("sub-06", "ses-004", 1, LONG))
    write_tree(tmp_path, plans)
    *session, other = read_dataset(tmp_path).runs
    assert other.usable
    assert not any(run.usable for run in session)
    if shift == 1:  # no run alone is suspicious
        assert all(-4 < run.tail_s < 70 for run in session)
    findings = read_dataset(tmp_path).findings
    back = [(bold - 1 - shift) % 4 + 1 for bold in range(1, 5)]
    assert f"with the events of runs {', '.join(map(str, back))} " in findings[0]


def test_swapped_replays_elsewhere_are_reported_and_left_out(tmp_path):
    plans = [
        RunPlan("sub-06", "ses-003", 1, (Play("1-0", 12.0), Play("4-1", 15.0, bk2_frames=600))),
        RunPlan("sub-06", "ses-003", 2, (Play("1-0", 10.0, bk2_frames=900), Play("4-1", 12.0))),
    ]
    write_tree(tmp_path, plans)
    dataset = read_dataset(tmp_path)
    assert dataset.findings == (
        "sub-06_ses-003_run-1 row 1 and sub-06_ses-003_run-2 row 0: each has the replay that is as "
        "long as the other's play; are they swapped? neither is used",
    )
    assert [[r.has_replay for r in run.repetitions] for run in dataset.runs] == [
        [True, False],
        [False, True],
    ]


@pytest.mark.parametrize(("missing_s", "used"), [(2.5, True), (9.0, False)])
def test_a_run_that_was_cut_elsewhere(tmp_path, missing_s, used):
    plan = RunPlan("sub-06", "ses-003", 1, LONG)
    plan.n_trs = int((plan.onsets[-1] + 10.0 - missing_s) / brain_tree.TR_S)
    write_tree(tmp_path, [plan, RunPlan("sub-06", "ses-003", 2, LONG)])
    dataset = read_dataset(tmp_path)
    assert [run.usable for run in dataset.runs] == [used, True]
    assert len(valid_trs(dataset.runs[0])) == plan.n_trs
    if used:
        assert "s before the last play does" in dataset.findings[0]
    else:
        assert "was it cut short?" in dataset.runs[0].why


# ---- bad input: one bad run stops no other


def resave(path, change):
    image = nib.load(path)
    image = change(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header))
    path.unlink()
    image.to_filename(path)


def of_another_subject(run):
    for path in (run.bold, run.mask):
        resave(path, lambda image: image.slicer[1:])
    return "is not on the grid of most runs of sub-01"


def elsewhere(run):
    def moved(image):
        affine = image.affine.copy()
        affine[:3, 3] += 30
        return nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header)

    for path in (run.bold, run.mask):
        resave(path, moved)
    return "is not on the grid of most runs of sub-01"


def cut_image(run):
    run.bold.write_bytes(run.bold.read_bytes()[:5000])
    return f"{run.bold}: damaged NIfTI"


def other_tr(run):
    path = run.bold.with_name(run.bold.name.replace(".nii.gz", ".json"))
    path.write_text('{"RepetitionTime": 2.0}')
    return "TR differ: 1.49 s in raw JSON, 2 s in fMRIPrep JSON, 1.49 s in BOLD header"


def text_tr(run):
    path = run.bold.with_name(run.bold.name.replace(".nii.gz", ".json"))
    path.write_text('{"RepetitionTime": "1.49 s"}')
    return f"{path}: RepetitionTime '1.49 s' is no number; correct it"


def no_json(run):
    path = run.bold.with_name(run.bold.name.replace(".nii.gz", ".json"))
    path.write_text("{")
    return f"{path}: not readable as JSON"


def events_path(run):
    raw = run.bold.parents[4] / "shinobi" / run.subject / run.session / "func"
    return raw / f"{run.subject}_{run.session}_task-shinobi_run-{run.run:02d}_events.tsv"


def text_in_events(run):
    path = events_path(run)
    path.write_text(path.read_text().replace("16.0", "sixteen"))
    return f"{path}: row 0, duration: 'sixteen' is no number; correct it"


def events_are_a_folder(run):
    path = events_path(run)
    path.unlink()
    path.mkdir()
    return f"no file {path}"


def bold_is_a_folder(run):
    run.bold.unlink()
    run.bold.mkdir()
    return f"no file {run.bold}"


BAD_RUNS = (
    of_another_subject, elsewhere, cut_image, other_tr, text_tr, no_json, text_in_events,
    events_are_a_folder, bold_is_a_folder,
)  # fmt: skip


def bad_bytes(path, content):
    path.write_bytes(content)


def zip_bomb(path):
    """A recording that claims, and holds, a start state of 65 MiB of zeros."""
    import zipfile

    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["Core.bin"] = bytes(65 * 2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    assert path.stat().st_size < 100_000
    return "unpacks to more than 64 MiB"


def cut_replay(path):
    path.write_bytes(path.read_bytes()[:200])
    return "not a whole .bk2 zip"


def folder(path):
    path.unlink()
    path.mkdir()
    return f"no file {path}"


BAD_REPLAYS = (zip_bomb, cut_replay, folder)


def test_bad_runs_and_replays_stop_no_other_run(tmp_path):
    n_good = len(BAD_RUNS) + 2
    plans = [
        RunPlan("sub-01", "ses-002", run, LONG)
        for run in range(1, len(BAD_RUNS) + len(BAD_REPLAYS) + n_good + 1)
    ]
    write_tree(tmp_path, plans)
    before = read_dataset(tmp_path).runs
    assert all(run.usable for run in before)
    reasons = [damage(run) for damage, run in zip(BAD_RUNS, before, strict=False)]
    bad = before[len(BAD_RUNS) :]
    replays = [
        damage(run.repetitions[1].bk2) for damage, run in zip(BAD_REPLAYS, bad, strict=False)
    ]
    after = read_dataset(tmp_path).runs
    for run, reason in zip(after, reasons, strict=False):
        assert not run.usable and reason in run.why, (reason, run.why)
    for run, reason in zip(after[len(BAD_RUNS) :], replays, strict=False):
        assert run.usable
        assert [r.has_replay for r in run.repetitions] == [True, False, True]
        assert reason in run.repetitions[1].why
        assert str(run.repetitions[1].bk2) in run.repetitions[1].why
    assert all(run.usable for run in after[-n_good:])


def test_two_grids_of_equal_right_are_both_left_out(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", run, LONG) for run in (1, 2)])
    of_another_subject(read_dataset(tmp_path).runs[0])
    assert not any(run.usable for run in read_dataset(tmp_path).runs)


def test_a_damaged_task_json_is_a_finding_and_stops_nothing(tmp_path):
    raw, _ = write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, LONG)])
    (raw / "task-shinobi_bold.json").write_text("[]")
    dataset = read_dataset(tmp_path)
    assert dataset.runs[0].usable
    assert dataset.findings == (f"{raw}/task-shinobi_bold.json: not a JSON object; get it again",)


def test_volumes_of_the_raw_json_are_compared_with_the_image(tmp_path):
    raw, _ = write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, LONG)])
    path = next(raw.rglob("*_run-01_bold.json"))
    n = json.loads(path.read_text())["dcmmeta_shape"][3]
    path.write_text(path.read_text().replace(f"60, {n}]", f"60, {n + 1}]"))
    (run,) = read_dataset(tmp_path).runs
    assert f"volumes differ: {n + 1} in raw JSON, {n} in BOLD" in run.why


# ---- extracted series


@pytest.fixture
def series_tree(tmp_path):
    """Series of one atlas for one subject of two, links for the rest; no image is downloaded."""
    plans = [RunPlan("sub-01", "ses-002", run, LONG, derived="link") for run in (1, 2, 3, 4)]
    plans.append(RunPlan("sub-02", "ses-002", 1, LONG, derived="absent"))
    write_tree(tmp_path, plans, "cneuromod_all")
    _, _, folder = write_rest(tmp_path, ("sub-01", "sub-02"), "cneuromod_all")
    stem = f"sub-01/sub-01_task-shinobi_{brain_tree.SPACE}"
    first = folder / "cneuromod2026" / f"{stem}_atlas-cneuromod26_desc-1134Parcels_timeseries.h5"
    first.unlink()
    first.with_name(first.name.replace("timeseries.h5", "dseg.nii.gz")).unlink()
    n = plans[0].volumes
    volumes = {("sub-01", "ses-002", 1): n, ("sub-01", "ses-002", 2): n - 1}
    volumes["sub-01", "ses-002", 4] = n
    write_timeseries(folder.parent, volumes, desc="1134Parcels")
    return tmp_path, folder, first


def test_extracted_series_make_runs_usable_without_images(series_tree):
    root, _, first = series_tree
    assert not any(run.usable for run in read_dataset(root).runs)
    runs = read_dataset(root, source="timeseries").runs
    assert [run.usable for run in runs] == [True, False, False, True, False]
    assert runs[0].timeseries == first
    assert "volumes differ: " in runs[1].why and "in extracted series" in runs[1].why
    assert f"{first}: no series of the run in it" in runs[2].why
    assert "not downloaded: cd " in runs[4].why and "sub-02" in runs[4].why


def test_an_atlas_of_either_spelling_is_found_by_name(series_tree):
    root, folder, _ = series_tree
    run = read_dataset(root, source="timeseries", atlas="Schaefer18").runs[0]
    assert run.timeseries.name.count("atlas-Schaefer2018")
    assert "not downloaded" in run.why
    with pytest.raises(CobeError, match="atlas 'mist': no series of it; there are Schaefer18, cne"):
        read_dataset(root, source="timeseries", atlas="mist")
    with pytest.raises(CobeError, match="source 'h5': unknown; there are fmriprep, timeseries"):
        read_dataset(root, source="h5")


def test_damaged_or_no_series(series_tree, tmp_path_factory):
    root, folder, first = series_tree
    first.write_bytes(first.read_bytes()[:300])
    runs = read_dataset(root, source="timeseries").runs
    assert f"{first}: damaged HDF5" in runs[0].why
    other = tmp_path_factory.mktemp("none")
    write_tree(other, [RunPlan("sub-01", "ses-002", 1, LONG)])
    (run,) = read_dataset(other, source="timeseries").runs
    assert "no extracted series found: name their folder with --timeseries" in run.why


def test_a_part_that_lies_twice_is_not_guessed(tmp_path):
    _, fmriprep, *_ = write_traps(tmp_path, "side_by_side")
    name = "smriprep/sub-01/anat/sub-01_dseg.nii.gz"
    dangling(tmp_path / "other" / name)
    with pytest.raises(CobeError, match="several anat datasets .*--anat"):
        read_dataset(tmp_path)
    dangling(tmp_path / "mario.fmriprep" / "sourcedata" / name)
    dangling(fmriprep / "sourcedata" / name)
    assert read_dataset(tmp_path).folders.anat == fmriprep / "sourcedata" / "smriprep"


def test_series_in_another_space_are_not_taken_for_the_one_asked_for(series_tree):
    root, folder, first = series_tree
    for path in sorted(first.parent.iterdir()):
        path.rename(path.with_name(path.name.replace("MNI152NLin2009cAsym", "T1w")))
    runs = read_dataset(root, source="timeseries", atlas="cneuromod26").runs
    assert not any(run.usable for run in runs)
    assert runs[0].timeseries is None
    assert (
        "extracted series of sub-01 are in space T1w, not in MNI152NLin2009cAsym: choose with "
        "--space" in runs[0].why
    )
    asked = read_dataset(root, source="timeseries", atlas="cneuromod26", space="T1w").runs
    assert [run.usable for run in asked] == [True, False, False, True, False]


@pytest.mark.parametrize("how", ["absent", "link", "damaged"])
def test_series_without_their_label_image_are_not_usable_and_stop_no_other_subject(tmp_path, how):
    plans = [RunPlan(f"sub-0{k}", "ses-002", 1, LONG, derived="absent") for k in (1, 2)]
    write_tree(tmp_path, plans)
    paths = write_timeseries(tmp_path, {(p.subject, p.session, p.run): p.volumes for p in plans})
    dseg = find_dseg(paths["sub-02"])
    if how == "damaged":
        dseg.write_bytes(dseg.read_bytes()[:50])
    else:
        dseg.unlink()
    if how == "link":
        dangling(dseg)
    dataset = read_dataset(tmp_path, source="timeseries")
    assert [run.usable for run in dataset.runs] == [True, False]
    expected = {"absent": "no label image", "link": "not downloaded: cd ", "damaged": "damaged"}
    assert expected[how] in dataset.runs[1].why
    assert any("_dseg.nii.gz" in line for line, _ in downloads(dataset)) == (how == "link")


def test_of_atlases_that_are_there_for_as_many_the_labs_own_is_taken(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", 1, LONG, derived="link")])
    write_rest(tmp_path, ["sub-01"])
    dataset = read_dataset(tmp_path, source="timeseries")
    assert "atlas-cneuromod26" in dataset.runs[0].timeseries.name
    lines = [line for line, _ in downloads(dataset) if "timeseries" in line]
    assert len(lines) == 2  # the series and the label image of one atlas, and of no other
    assert all("atlas-cneuromod26" in line for line in lines)
    assert [line.rsplit("_", 1)[1] for line in lines] == ["timeseries.h5", "dseg.nii.gz"]


def test_bold_of_complex_numbers_is_a_reason(tmp_path):
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", run, LONG) for run in (1, 2)])
    (run, _) = read_dataset(tmp_path).runs
    image = nib.load(run.bold)
    made = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.complex64), image.affine)
    made.header.set_xyzt_units("mm", "sec")
    made.header.set_zooms(image.header.get_zooms())
    made.to_filename(run.bold)
    first, second = read_dataset(tmp_path).runs
    assert "damaged NIfTI (voxels of type complex64)" in first.why and second.usable
