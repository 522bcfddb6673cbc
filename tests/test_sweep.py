"""The stages: reuse, bad input before long work, who may see what, scores of a planted relation."""

import re
import time
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from brain_tree import Play, RunPlan, atlas_image, write_tree
from cobe.brain.dataset import read_dataset
from cobe.core.artifacts import SIDECAR, Store
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.core.profiles import PROFILES
from cobe.core.timing import TR_S
from cobe.sweep import jobs, scores
from cobe.sweep import pipeline as stages
from cobe.sweep.jobs import Job, make_all
from cobe.video import clips as video_clips

PLAYS = (Play("1-0"), Play("4-1", 15.0), Play("5-0", 12.0))


def quiet(root):
    return Store(root, announce=lambda line: None)


@pytest.fixture
def real(tmp_path):
    """A paper pipeline on a tree with the real names: three sessions of one run."""
    plans = [RunPlan("sub-01", f"ses-00{k}", 1, PLAYS) for k in (2, 3, 4)]
    write_tree(tmp_path / "data", plans)
    store = quiet(tmp_path / "store")
    atlas = store.make(
        "atlas",
        params={},
        write=lambda path: nibabel.save(atlas_image(), path),
        suffix=".nii.gz",
    )
    profile = replace(PROFILES["paper"], video_sessions=1)
    return stages.Pipeline(profile, store, tmp_path / "data", atlas)


def test_missing_rom_is_said_before_any_replay_is_played(real):
    dataset = stages.inventory(real)
    with pytest.raises(CobeError, match=r"(?i)rom") as caught:
        stages.frames(real, dataset)
    assert "\n" not in str(caught.value)
    assert not list(real.store.root.glob("frames/*"))


def test_roles_keep_sessions_apart(real):
    roles = stages.video_roles(real, stages.inventory(real))
    by_session = roles.groupby("session").role.apply(set).to_dict()
    assert by_session == {
        "ses-002": {"video_train", "video_val"},
        "ses-003": {"ridge"},
        "ses-004": {"ridge"},
    }
    assert roles[roles.role == "video_val"].row.tolist() == [2]
    assert len(stages.repetition_keys(roles, "ridge")) == 6


def test_bold_stage_reuses_and_notices_a_corrupt_volume(real):
    dataset = stages.inventory(real)
    first = stages.parcel_bold(real, dataset)
    again = stages.parcel_bold(real, dataset)
    assert not any(item.reused for item in first.values())
    assert all(item.reused for item in again.values())
    run = stages.usable_runs(dataset)[0]
    assert stages.load_bold(first[run.key]).shape[0] == run.n_trs
    content = run.bold.read_bytes()
    run.bold.write_bytes(content[: len(content) // 2])
    cut = read_dataset(real.data)
    assert [one.key for one in cut.runs if not one.usable] == [run.key]
    said = []
    real = replace(real, store=Store(real.store.root, announce=said.append))
    others = stages.parcel_bold(real, dataset)
    assert set(others) == set(first) - {run.key}
    assert all(item.reused for item in others.values())
    assert any(f"bold/{run.name}: left out" in line and run.bold.name in line for line in said)
    with pytest.raises(CobeError, match=f"none of 1 runs.*{re.escape(run.bold.name)}"):
        stages.parcel_bold(real, replace(dataset, runs=(run,)))
    assert all(stages.parcel_bold(real, cut)[key].reused for key in first if key != run.key)


def test_embedded_dataset_that_was_not_made_says_who_makes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "build"))
    pipeline = stages.open_pipeline("smoke", str(tmp_path))
    with pytest.raises(CobeError, match="run notebook 01_data"):
        stages.inventory(pipeline)


def test_a_folder_without_a_dataset_is_refused(real, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CobeError, match="empty"):
        stages.inventory(replace(real, data=tmp_path / "empty"))


def _write_number(path, number):
    path.write_text(str(number))


def _write_then_fail(path, number, root):
    path.write_text(str(number))
    if number == 1:
        deadline = time.monotonic() + 60
        while not (root / f"n/0{SIDECAR}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise CobeError("job 1: cannot be done; do something else")


def test_jobs_come_back_in_order_and_only_what_is_missing_is_made(tmp_path):
    store = quiet(tmp_path)
    made = make_all(store, [Job(f"n/{k}", _write_number, (k,), {}) for k in range(5)], "x", "y")
    assert [item.path.read_text() for item in made] == list("01234")
    made[2].path.write_text("damaged")
    again = make_all(store, [Job(f"n/{k}", _write_number, (k,), {}) for k in range(5)], "x", "y")
    assert [item.reused for item in again] == [True, True, False, True, True]
    assert again[2].path.read_text() == "2"


def test_a_failing_job_keeps_what_the_others_made(tmp_path):
    store = quiet(tmp_path)
    tasks = [Job(f"n/{k}", _write_then_fail, (k, tmp_path), {}) for k in range(4)]
    with pytest.raises(CobeError, match="job 1: cannot be done; do something else"):
        make_all(store, tasks, "x", "y")
    assert store.find("n/0", params={}) is not None
    assert store.find("n/1", params={}) is None


def clip_table(n_clips, sessions):
    """One repetition per session, clips side by side."""
    rows = []
    for session in sessions:
        start_s = np.arange(n_clips) * 64 / 60
        rows.append(
            pd.DataFrame(
                {
                    "subject": "sub-x",
                    "session": session,
                    "run": 1,
                    "row": 0,
                    "clip": np.arange(n_clips),
                    "start_s": start_s,
                    "end_s": start_s + 64 / 60,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_scores_find_a_planted_delay_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    clips = clip_table(300, ["ses-001", "ses-002", "ses-003"])
    features = rng.standard_normal((len(clips), 4)).astype(np.float32)
    n_trs = int(300 * 64 / 60 / TR_S)
    protocol = replace(PROFILES["quick"].protocol, n_permutations=200)
    bold = {}
    for key in {("sub-x", session, 1) for session in clips.session}:
        x = np.nan_to_num(scores.run_features(features, clips, key, n_trs))
        answer = np.roll(x @ [1.0, -1.0, 0.5, 0.0], 3)
        noise = rng.standard_normal((n_trs, 10))
        bold[key] = np.column_stack([answer + 0.3 * noise[:, 0], noise[:, 1:]]).astype(np.float32)
    table = scores.score_features(features, clips, bold, protocol)
    overall = table[(table.held_out == "all") & (table.summary == "target")]
    assert overall.r.iloc[0] > 0.8 and overall.q.iloc[0] < 0.05
    assert (overall.q.iloc[1:] > 0.05).all()
    units = scores.session_scores(table.assign(cell="c", features="gpt"))
    assert (table.protocol == "corrected").all() and not table.leaks.any()
    assert sorted(units.held_out) == ["ses-001", "ses-002", "ses-003"]


@pytest.mark.parametrize(
    ("kind", "n_features"), [("lowlevel", 4), ("lowlevel", 2), ("buttons", None)]
)
def test_a_control_does_not_lose_for_the_units_of_its_columns(
    kind, n_features, tmp_path, monkeypatch
):
    """Seen as clips see a game: what moves the parcel most is in the smallest unit."""
    rng = np.random.default_rng(0)
    clips = clip_table(150, ["ses-001", "ses-002", "ses-003"])
    features = rng.standard_normal((len(clips), 4)).astype(np.float32)
    if n_features == 2:
        features[:, 1], features[:, 3] = features[:, 0], features[:, 2]
    protocol = replace(PROFILES["quick"].protocol, n_features=n_features, n_permutations=0)
    n_trs, bold = int(150 * 64 / 60 / TR_S), {}
    for session in ("ses-001", "ses-002", "ses-003"):
        key = ("sub-x", session, 1)
        x = np.nan_to_num(scores.run_features(features, clips, key, n_trs))
        answer = np.roll(x @ [1.0, 0.3, 0.3, 0.0], 3)[:, None] + rng.standard_normal((n_trs, 3))
        bold[key] = answer.astype(np.float32)
    monkeypatch.setattr(scores, "load_tokens", lambda artifact: None)
    monkeypatch.setattr(scores, "ridge_data", lambda tokens, series: (clips, bold))

    def r_of(kind, factors):
        monkeypatch.setattr(scores, "load_features", lambda a: {"features": features * factors})
        scores._write_scores(tmp_path / "a.parquet", kind, kind, protocol, None, None, None)
        return pd.read_parquet(tmp_path / "a.parquet").r

    ones, units = np.ones(4, np.float32), np.array([1e-3, 1, 10, 1], np.float32)
    assert_allclose(r_of(kind, units), r_of(kind, ones), atol=1e-4)
    # components share one unit: for them the factors are a wish of the model
    assert r_of("pixel_pca", units).max() < r_of("pixel_pca", ones).max() - 1e-3


def test_only_the_simulation_knows_the_truth():
    """No room on the analysis path so much as names the folder in which the truth lies."""
    for room in ("core", "stimulus", "brain", "video", "encoding", "sweep", "report"):
        for path in (PROJECT / "src/cobe" / room).rglob("*.py"):
            assert not re.search(r"[\"'/]truth[\"'/]", path.read_text()), path
    readers = [
        p.stem for p in sorted((PROJECT / "notebooks").glob("*.py")) if '"truth"' in p.read_text()
    ]
    assert readers == ["04_encoding", "07_audit", "09_explore"]


def test_spread_clips_and_sampler_stay_inside_their_stores():
    class Fake:
        def __init__(self, n_frames):
            self.shape = (n_frames, 2, 2, 3)
            self.asked = []

        def clips(self, starts):
            self.asked += list(starts)
            return np.zeros((len(starts), 16, 2, 2, 3), np.uint8)

    stores = [Fake(64), Fake(200), Fake(1000)]
    assert video_clips.spread_clips(stores, 12).shape[0] == 12
    sample = video_clips.clip_sampler(stores)
    assert sample(np.random.default_rng(0), 500).shape[0] == 500
    for store in stores:
        assert min(store.asked) >= 0 and max(store.asked) <= store.shape[0] - 64
    assert stores[0].asked.count(0) >= 1
    with pytest.raises(CobeError, match="shorter than one clip"):
        video_clips.clip_sampler([Fake(63)])
    many = [Fake(63), *(Fake(164) for _ in range(50))]  # more of them than clips
    assert len(video_clips.spread_clips(many, 25)) == 25
    starts = np.concatenate([store.asked for store in many])
    assert len(set(starts.tolist())) > 15  # not the first second of each
    assert many[0].asked == []


def test_workers_do_not_announce_reuse(tmp_path, capsys):
    jobs._make(tmp_path, Job("n", _write_number, (1,), {}))
    jobs._make(tmp_path, Job("n", _write_number, (1,), {}))
    assert capsys.readouterr().err == ""
