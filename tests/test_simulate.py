"""The embedded default: play, planted brain, layout. Checked against stable-retro and nilearn."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import make_first_level_design_matrix, spm_hrf
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from nilearn.maskers import NiftiLabelsMasker
from scipy.stats import gamma

from cobe.core.config import PlayPlan
from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.core.timing import TR_S
from cobe.simulate import drivers as drv
from cobe.simulate import planted, play, schedule, write_dataset
from cobe.simulate.confounds import MOTION, confound_table, cosine_basis
from cobe.simulate.dataset import noisy
from cobe.simulate.layout import write_derivative_run
from cobe.simulate.objects import segment
from cobe.simulate.savestate import portable_state
from cobe.simulate.volumes import head_motion, read_anatomy, simulate_bold
from cobe.stimulus.bk2 import read_bk2

PLAN = PlayPlan(
    subjects=("sub-sim1", "sub-sim2"),
    sessions=(("ses-001", 2), ("ses-002", 1)),
    repetitions_per_run=3,
    repetition_s=10.0,
    seed=3,
)
EVENTS = ["trial_type", "onset", "duration", "duration_bk2", "level", "stim_file"]


def box_atlas(n=2, voxel_mm=8.0):
    """n^3 boxes of 4 voxels a side, around the middle of MNI space, in a wider grid."""
    labels = np.zeros((24, 28, 24), np.int16)
    block = np.arange(1, n**3 + 1).reshape(n, n, n)
    core = block.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    first = [(s - 4 * n) // 2 for s in labels.shape]
    labels[tuple(slice(f, f + 4 * n) for f in first)] = core
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = [-92, -126, -72]
    return nib.Nifti1Image(labels, affine)


ATLAS = box_atlas(3, 8.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated") / "data"
    counts = write_dataset(root, PLAN, ATLAS, workers=2)
    return root, counts


@pytest.fixture(scope="module")
def long_play():
    """40 s of careless play from the game's start; frames seen at steps as hashes."""
    reckless = play.Player(0.0, 0.2, 0.05, 0.8, 0.0, 0.1)
    with play.Emulator() as emulator:
        return emulator.play(emulator.start_state, 5400, play.Policy(reckless, rng_for(0, "r")))


def tree(root):
    """Every file's hash and every link's target."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# ---------------------------------------------------------------- the whole dataset


def test_same_bytes_again_with_other_workers(data, tmp_path):
    root, counts = data
    again = write_dataset(tmp_path / "again", PLAN, ATLAS, workers=1)
    assert again == counts
    first, second = tree(root), tree(tmp_path / "again")
    assert first == second
    assert len(first) > 80
    assert not any(".work-" in name for name in first)


def test_names_are_those_of_the_real_dataset(data):
    root, counts = data
    raw = r"sub-sim\d/ses-00\d/func/sub-sim\d_ses-00\d_task-shinobi_run-0\d_"
    logs = (
        r"sub-sim\d/ses-00\d/gamelogs/sub-sim\d_ses-00\d_task-shinobi_run-0\d"
        r"_level-[145]_rep-\d\d\.(bk2|json)"
    )
    tops = {
        "README", ".bidsignore", "dataset_description.json", "participants.tsv",
        "task-shinobi_bold.json",
    }  # fmt: skip
    for name in tree(root / "shinobi"):
        assert (
            name in tops
            or re.fullmatch(raw + r"(bold\.nii\.gz|bold\.json|events\.tsv)", name)
            or re.fullmatch(logs, name)
        ), name
    derived = r"sub-sim\d/ses-00\d/func/sub-sim\d_ses-00\d_task-shinobi_run-\d_"
    suffixes = (
        r"(desc-confounds_timeseries\.(tsv|json)|space-MNI152NLin2009cAsym_"
        r"(desc-preproc_bold\.(nii\.gz|json)|desc-brain_mask\.(nii\.gz|json)|boldref\.nii\.gz))"
    )
    names = [n for n in tree(root / "shinobi.fmriprep") if n.startswith("sub-")]
    assert len(names) == counts["runs"] * 7
    assert all(re.fullmatch(derived + suffixes, name) for name in names)
    for link in (root / "shinobi").rglob("*_bold.nii.gz"):
        assert link.is_symlink() and not link.exists()
        assert "/.git/annex/objects/" in str(link.readlink())
    sidecars = sorted((root / "shinobi").rglob("run-*_bold.json"))
    for sidecar in sidecars:
        content = json.loads(sidecar.read_text())
        assert content["RepetitionTime"] == TR_S and content["dcmmeta_shape"][:3] == [104, 104, 60]


def test_events_and_replays_agree(data):
    root, counts = data
    named, lost = set(), 0
    for path in sorted((root / "shinobi").rglob("*_events.tsv")):
        events = pd.read_csv(path, sep="\t", keep_default_na=False)
        assert list(events.columns) == EVENTS
        assert list(events.level) == ["1-0", "4-1", "5-0"]
        assert 0.005 <= events.onset[0] <= 0.021
        gaps = events.onset[1:].values - (events.onset + events.duration)[:-1].values
        assert np.all((gaps > 6.03) & (gaps < 6.08))
        sidecar = json.loads(
            path.with_name(path.name.replace("events.tsv", "bold.json")).read_text()
        )
        tail_s = sidecar["dcmmeta_shape"][3] * TR_S - (events.onset + events.duration).iloc[-1]
        assert 2 <= tail_s < 10 + TR_S
        for row in events.itertuples():
            if row.stim_file in ("", "Missing file"):
                lost += 1
                continue
            named.add(row.stim_file)
            with zipfile.ZipFile(root / "shinobi" / row.stim_file) as movie:
                log = movie.read("Input Log.txt").decode().splitlines()
            assert sum(line.startswith("|") for line in log) / 60 == pytest.approx(row.duration_bk2)
            assert abs(row.duration_bk2 - row.duration) < 0.25
    on_disk = {str(p.relative_to(root / "shinobi")) for p in (root / "shinobi").rglob("*.bk2")}
    assert named == on_disk
    assert (len(named), lost) == (counts["replays"], counts["lost_replays"]) == (16, 2)


def test_replays_are_lost_as_in_the_real_dataset(data):
    """Run 2 ends as run 1 with level 5: its own level 5 is lost, and its length is run 1's."""
    root, _ = data
    names = {}
    for subject in PLAN.subjects:
        func = root / "shinobi" / subject / "ses-001" / "func"
        one, two = (
            pd.read_csv(p, sep="\t", keep_default_na=False)
            for p in sorted(func.glob("*_events.tsv"))
        )
        names[subject] = two.stim_file[2]
        assert two.duration_bk2[2] == one.duration_bk2[2]
        assert abs(two.duration_bk2[2] - two.duration[2]) > 1e-3
        assert two.stim_file[0].endswith("run-02_level-1_rep-02.bk2")
    assert names == {"sub-sim1": "Missing file", "sub-sim2": ""}


def test_the_brain_answers_to_lost_plays_too(data):
    root, _ = data
    key = "sub-sim1_ses-001_run-2"
    with np.load(root / "truth" / "truth.npz") as truth:
        response, in_play = truth[f"response/{key}"], truth[f"in_play/{key}"]
    events = pd.read_csv(
        root / "shinobi/sub-sim1/ses-001/func" / "sub-sim1_ses-001_task-shinobi_run-02_events.tsv",
        sep="\t",
    )
    start_s = np.arange(len(response)) * TR_S
    lost = in_play & (start_s > events.onset[2] + 3)
    active = response.std(axis=0) > 0
    assert lost.sum() >= 3 and active.sum() > 10
    assert np.median(response[lost][:, active].std(axis=0)) > 0.2


def test_truth_tells_what_was_planted(data):
    root, counts = data
    parcels = pd.read_parquet(root / "truth" / "parcels.parquet")
    assert len(parcels) == len(PLAN.subjects) * counts["parcels"]
    null = (parcels.region == "null").values
    assert 0.15 < null.mean() < 0.25
    assert parcels.ceiling[~null].between(0.40, 0.85).all() and (parcels.ceiling[null] == 0).all()
    with np.load(root / "truth" / "truth.npz") as truth:
        responses = {n: truth[n] for n in truth.files if n.startswith("response/")}
        weights = truth["weights/sub-sim1"]
        assert weights.shape == (len(truth["drivers"]), counts["parcels"])
        assert not weights[:, null[: counts["parcels"]]].any()
        spread = [
            np.concatenate(
                [
                    r[truth[f"in_play/{n.split('/')[1]}"]]
                    - r[truth[f"in_play/{n.split('/')[1]}"]].mean(axis=0)
                    for n, r in responses.items()
                    if subject in n
                ]
            ).std(axis=0)
            for subject in PLAN.subjects
        ]
    for subject, spread_of in zip(PLAN.subjects, spread, strict=True):
        planted_here = (parcels[parcels.subject == subject].region != "null").values
        np.testing.assert_allclose(spread_of, planted_here.astype(float), atol=1e-3)


def test_volumes_and_confounds_are_readable(data):
    root, _ = data
    bold_path = next((root / "shinobi.fmriprep").rglob("*desc-preproc_bold.nii.gz"))
    image = nib.load(bold_path)
    np.testing.assert_array_equal(image.affine, ATLAS.affine)
    assert image.shape[:3] == ATLAS.shape and image.header.get_zooms()[3] == pytest.approx(TR_S)
    assert image.header.get_data_dtype() == np.int16 and image.dataobj.slope == 10
    stem = str(bold_path).replace("desc-preproc_bold.nii.gz", "")
    mask = np.asanyarray(nib.load(f"{stem}desc-brain_mask.nii.gz").dataobj) > 0
    volumes = np.asanyarray(image.dataobj)
    assert (
        mask[np.asanyarray(ATLAS.dataobj) > 0].all() and mask.sum() > (ATLAS.dataobj[:] > 0).sum()
    )
    assert not volumes[~mask].any() and 5_000 < volumes[mask].min() < volumes[mask].max() < 20_000
    minimal, _ = load_confounds(
        str(bold_path), ("motion", "high_pass", "wm_csf"), motion="basic", wm_csf="basic"
    )
    simple, _ = load_confounds_strategy(str(bold_path), "simple", global_signal="basic")
    compcor, _ = load_confounds(
        str(bold_path), ("high_pass", "compcor"), compcor="anat_separated", n_compcor=2
    )
    assert {"csf", "white_matter", "cosine00", *MOTION} <= set(minimal.columns)
    assert {"global_signal", "rot_z_derivative1_power2"} <= set(simple.columns)
    assert sum(name.startswith("a_comp_cor") for name in compcor.columns) == 4
    for frame in (minimal, simple, compcor):
        assert len(frame) == image.shape[3] and np.isfinite(frame.values).all()
    table = pd.read_csv(
        stem.replace("space-MNI152NLin2009cAsym_", "desc-confounds_timeseries.tsv"), sep="\t"
    )
    back = [c for c in table if "derivative1" in c] + ["dvars", "std_dvars", "rmsd"]
    assert table[back].iloc[0].isna().all() and table[back].iloc[1:].notna().all().all()


# ---------------------------------------------------------------- play

_REPLAY = """
import hashlib, sys
import stable_retro as retro
movie = retro.Movie(sys.argv[1])
env = retro.make(movie.get_game(), state=retro.State.NONE, render_mode="rgb_array",
                 use_restricted_actions=retro.Actions.ALL, players=movie.players)
env.initial_state = movie.get_state()
env.reset()
frame = 0
while movie.step():
    screen = env.step([movie.get_key(i, 0) for i in range(env.num_buttons)])[0]
    if frame % 4 == 0:
        print(hashlib.md5(screen.tobytes()).hexdigest())
    frame += 1
"""


def test_replay_is_bit_exact_in_another_process(tmp_path, monkeypatch):
    """Two movies, one from a banked state, through stable-retro's own reader and gym loop."""
    seen = []

    def watched(frame, grey=None):
        seen.append(hashlib.md5(frame.tobytes()).hexdigest())
        return segment(frame, grey)

    bank = play.bank_states(5)
    monkeypatch.setattr(play, "segment", watched)
    player = play.player_of(5, 1, "sub-sim2")
    movies = {}
    with play.Emulator() as emulator:
        for level in ("5", "1"):
            seen.clear()
            path = tmp_path / f"{level}.bk2"
            policy = play.Policy(player, rng_for(5, level))
            played = emulator.play(zlib.decompress(bank[level][0]), 903, policy, path)
            movies[path] = list(seen)
            np.testing.assert_array_equal(read_bk2(path).buttons, played.buttons)
    for path, hashes in movies.items():
        done = subprocess.run(
            [sys.executable, "-c", _REPLAY, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == hashes
        assert len(set(hashes)) > 150
        with zipfile.ZipFile(path) as movie:
            assert [i.filename for i in movie.infolist()] == [
                "Input Log.txt", "Header.txt", "Core.bin",
            ]  # fmt: skip
            assert {i.date_time for i in movie.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_portable_state_plays_on_alike():
    """The cleaned savestate gives the same game as the raw one."""
    with play.Emulator() as emulator:
        raw = []

        def watch(step, scene, state, savestate):
            if step in (100, 160):
                raw.append(savestate())

        scout = play.Player(0.9, 0.2, 0.1, 0.8, 0.0, 0.0)
        emulator.play(emulator.start_state, 660, play.Policy(scout, rng_for(1)), watch=watch)
        for state in raw:
            clean = portable_state(state, emulator.start_state)
            assert clean != state and len(clean) == len(state)
            assert portable_state(clean, emulator.start_state) == clean
            one, two = (
                emulator.play(s, 240, play.Policy(scout, rng_for(2))) for s in (state, clean)
            )
            np.testing.assert_array_equal(one.thumbs, two.thumbs)
            np.testing.assert_array_equal(one.score, two.score)
        with pytest.raises(CobeError, match="unknown layout"):
            portable_state(b"SNES" + raw[0][4:], emulator.start_state)


def test_players_differ_and_stay_themselves():
    players = [play.player_of(3, i, f"sub-sim{i + 1}") for i in range(4)]
    assert len(set(players)) == 4
    assert play.player_of(3, 2, "sub-sim3") == players[2]
    assert play.player_of(4, 2, "sub-sim3") != players[2]


def test_play_goes_on_after_game_over(long_play):
    """90 s of careless play: several games, little time in menus, mostly a living ship."""
    off = np.array([s.title or s.menu for s in long_play.scenes])
    assert (np.diff(off.astype(int)) == 1).sum() >= 1
    assert (np.diff(long_play.lives) == 3).sum() >= 1 or (np.diff(long_play.lives) > 1).sum() >= 1
    assert off.mean() < 0.15
    assert np.mean([s.ship is not None for s in long_play.scenes]) > 0.5
    assert long_play.buttons[:, play.START].any()


def test_objects_agree_with_the_games_own_variables(long_play):
    """The ship is seen when the game says that it flies, and not while it explodes."""
    off = np.array([s.title or s.menu for s in long_play.scenes])
    ship = np.array([s.ship is not None for s in long_play.scenes])
    flying, exploding = (long_play.state == play.PLAYING) & ~off, (long_play.state < 3) & ~off
    assert exploding.sum() > 50
    assert ship[flying].mean() > 0.95 and ship[exploding].mean() < 0.1
    # Score falls to objects that were there: an explosion is seen within 3 steps of a hit.
    hits = np.flatnonzero(np.diff(long_play.score) > 0) + 1
    seen = [any(len(s.objects["explosion"]) for s in long_play.scenes[h : h + 4]) for h in hits]
    assert len(hits) > 5 and np.mean(seen) > 0.9


def test_ship_follows_the_keys(long_play):
    """Moving left or right moves the ship that is found, by about the same per frame."""
    x = np.array([np.nan if s.ship is None else s.ship[0] for s in long_play.scenes])
    held = long_play.buttons[4::4][: len(x) - 1]
    dx = np.diff(x)[: len(held)]
    inside = (x[:-1] > 40) & (x[:-1] < 280)
    left, right = (
        np.nanmedian(dx[inside[: len(dx)] & held[:, a] & ~held[:, b]])
        for a, b in ((play.LEFT, play.RIGHT), (play.RIGHT, play.LEFT))
    )
    assert left < -2 and right > 2 and left == pytest.approx(-right, abs=1.5)


def test_segment_names_drawn_objects():
    frame = np.zeros((224, 320, 3), np.uint8)
    frame[180:206, 100:122] = (232, 236, 232)
    frame[60:84, 200:222] = (232, 0, 0)
    frame[60:62, 200:222] = (136, 136, 136)
    frame[100:110, 50:60] = (136, 136, 136)
    frame[140:146, 80:86] = (0, 236, 0)
    frame[120:124, 250:254] = (232, 0, 0)
    frame[121:123, 251:253] = (232, 236, 232)
    frame[30, 30] = (0, 0, 232)
    scene = segment(frame)
    assert {name: len(found) for name, found in scene.objects.items()} == {
        "ship": 1, "enemy": 1, "asteroid": 1, "bullet": 1, "shot": 1, "explosion": 0,
    }  # fmt: skip
    np.testing.assert_allclose(scene.ship, [110.5, 192.5])
    assert len(scene.hazards) == 3 and scene.menu and not scene.title


def test_one_emulator_per_process():
    with play.Emulator():
        with pytest.raises(CobeError, match="emulator"):
            play.Emulator()
    play.Emulator().close()


# ---------------------------------------------------------------- schedule


@settings(max_examples=40, deadline=None)
@given(
    sessions=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    repetitions=st.integers(1, 7),
    seconds=st.floats(5, 120),
    seed=st.integers(0, 2**20),
)
def test_schedule_keeps_the_rules(sessions, repetitions, seconds, seed):
    plan = PlayPlan(
        ("sub-a", "sub-b"),
        tuple((f"ses-{i:03d}", n) for i, n in enumerate(sessions)),
        repetitions,
        seconds,
        seed=seed,
    )
    runs = schedule.schedule(plan)
    assert runs == schedule.schedule(plan)
    assert len(runs) == 2 * sum(sessions)
    names = [row.stim_file for run in runs for row in run.repetitions if row.kept]
    assert len(set(names)) == len(names)
    for run in runs:
        rows = run.repetitions
        assert [r.level for r in rows] == [play.LEVELS[i % 3] for i in range(repetitions)]
        assert all(abs(r.n_frames / 60 - seconds) <= 4.01 for r in rows)
        end_s = rows[-1].onset_s + rows[-1].duration_s
        assert 2 <= run.n_trs * TR_S - end_s < 10 + TR_S
        lost = [i for i, r in enumerate(rows) if not r.kept]
        if run.run == 1:
            assert not lost
        else:
            last = play.LEVELS[(repetitions - 1) % 3]
            assert lost == [play.LEVELS.index(last)]


# ---------------------------------------------------------------- drivers and the planted brain


def test_drivers_look_only_back_but_for_those_named_next(long_play):
    """Cutting the play short changes nothing before the cut."""
    cut = 300
    short = play.Play(
        long_play.buttons[: 4 * cut],
        long_play.scenes[:cut],
        long_play.thumbs[:cut],
        long_play.score[:cut],
        long_play.lives[:cut],
        long_play.state[:cut],
    )
    whole, part = drv.single_drivers(long_play), drv.single_drivers(short)
    back = np.array(["next" not in name for name in drv.SINGLE_NAMES])
    assert back.sum() == len(back) - 4
    np.testing.assert_array_equal(whole[:cut, back], part[:, back])
    foresight = ~back
    np.testing.assert_array_equal(whole[: cut - 30, foresight], part[: cut - 30, foresight])


@given(signal=st.lists(st.integers(0, 3), min_size=1, max_size=60), seconds=st.sampled_from([1, 2]))
def test_next_counts_what_is_to_come(signal, seconds):
    expected = [sum(signal[i + 1 : i + 1 + 15 * seconds]) for i in range(len(signal))]
    assert drv._next(np.array(signal, float), seconds).tolist() == expected


def test_event_drivers_agree_with_the_variables(long_play):
    values = dict(zip(drv.SINGLE_NAMES, drv.single_drivers(long_play).T, strict=True))
    gained = np.clip(np.diff(long_play.score), 0, None).sum() / 20
    assert values["score_gain"].sum() == pytest.approx(gained)
    falls = (np.diff(long_play.lives) < 0).sum()
    # The last life of a game blows up, too, but the counter is at 0 already.
    games = (np.diff(long_play.lives) > 0).sum() + 1
    assert falls <= values["life_lost"].sum() <= falls + games
    held = long_play.buttons[:, play.FIRE].mean()
    assert values["fire"].mean() == pytest.approx(held, abs=0.01)


def test_standardise_has_mean_0_and_unit_bold(long_play):
    whole = drv.single_drivers(long_play)
    runs = [[whole[:500], whole[500:900]], [whole[900:]]]
    out = planted.standardise(runs)
    assert [[len(r) for r in run] for run in out] == [[500, 400], [len(whole) - 900]]
    flat = np.concatenate([r for run in out for r in run])
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-3)
    t = (np.arange(480) + 0.5) / 15
    kernel = (gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6) / (1 - 1 / 6) / 15
    shown = np.concatenate(
        [
            np.stack([np.convolve(c, kernel)[: len(r)] for c in r.T], axis=1)
            for run in out
            for r in run
        ]
    )
    moving = flat.std(axis=0) > 0
    assert moving.mean() > 0.9
    np.testing.assert_allclose(shown[:, moving].std(axis=0), 1, atol=0.01)


def test_hrf_is_spm_s_at_the_canonical_values():
    # nilearn samples from one step before 0 on, ours in the middle of each step.
    ours, theirs = planted.hrf(6.0, 1.0), spm_hrf(1 / 15, oversampling=1, time_length=32.0)
    assert ours.sum() == pytest.approx(1)
    assert np.corrcoef(ours[:-1], theirs[1:])[0, 1] > 0.999
    assert abs(int(ours.argmax()) - int(theirs.argmax())) <= 2
    assert planted.hrf(7.0, 1.0).argmax() > ours.argmax()


def test_response_to_one_event_is_the_hrf_at_mid_volume():
    """Closed form: a 1/15 s event at t gives hrf(mid volume - t) / 15; nothing before it."""
    brain = planted.Brain(
        regions=np.array(["event"]),
        weights=np.ones((1, 1), np.float32),
        hrf_delay_s=np.array([6.4]),
        hrf_dispersion=np.array([0.9]),
        ceiling=np.array([0.5]),
    )
    repetition = np.zeros((300, 1), np.float32)
    repetition[30] = 1  # centred 2 + 1/30 s after the onset
    onset_s = 10.0
    line = planted.run_drivers([repetition], [onset_s], 40, TR_S)
    response = planted.respond(brain, line, 40, TR_S)[:, 0]
    t = (np.arange(40) + 0.5) * TR_S - (onset_s + 30.5 / 15)

    def density(delay):
        return gamma.pdf(t, delay / 0.9, scale=0.9)

    expected = (density(6.4) - density(16.4) / 6) / (1 - 1 / 6) / 15
    np.testing.assert_allclose(response, expected, atol=0.02 * expected.max())
    assert not np.abs(response[t < 0]).max() > 1e-9


def test_per_volume_is_the_mean_of_its_steps():
    line = np.random.default_rng(0).normal(size=(224, 3)).astype(np.float32)
    means = planted.per_volume(line, 10, TR_S)
    inside = [i for i in range(224) if 4 * TR_S <= (i + 0.5) / 15 < 5 * TR_S]
    np.testing.assert_allclose(means[4], line[inside].mean(axis=0), rtol=1e-6)


def test_regions_lie_where_they_should():
    centroids = np.array(
        [[-10, -90, 5], [40, -20, 55], [-45, -60, 0], [20, -60, 55], [5, 40, 30], [36, 5, 0],
         [45, -50, 35], [30, -60, -40], [-40, 10, -35]], float,
    )  # fmt: skip
    assert planted.assign_regions(centroids).tolist() == [
        "low", "motor", "object", "threat", "anticipation", "event", "relation", "null", "null",
    ]  # fmt: skip


def test_brains_share_part_of_their_weights():
    rng = np.random.default_rng(0)
    centroids = rng.uniform(-60, 60, (200, 3))
    regions = np.array(["event"] * 200)
    one, two = (planted.draw_brain(1, s, centroids, regions).weights for s in ("a", "b"))
    used = one.any(axis=1)
    assert used.sum() == len(drv.DRIVERS["event"])
    shared = np.corrcoef(one[used].ravel(), two[used].ravel())[0, 1]
    assert shared == pytest.approx(planted.SHARED_VARIANCE, abs=0.06)


def test_noise_is_ar1_of_unit_variance():
    noise = planted.ar1_noise(np.random.default_rng(0), 4000, 20)
    assert noise.std() == pytest.approx(1, abs=0.02)
    lag = np.mean([np.corrcoef(n[1:], n[:-1])[0, 1] for n in noise.T])
    assert lag == pytest.approx(planted.AR1, abs=0.02)
    assert noise[0].std() == pytest.approx(1, abs=0.4)


# ---------------------------------------------------------------- volumes and confounds


@pytest.fixture(scope="module")
def long_scan(tmp_path_factory):
    """800 volumes with a known response, written, then cleaned by nilearn with and without."""
    root = tmp_path_factory.mktemp("scan")
    anatomy = read_anatomy(ATLAS)
    n_trs, n = 800, len(anatomy.parcels)
    rng = np.random.default_rng(5)
    # A response with the smoothness of BOLD and nothing slower than the high-pass filter.
    white = rng.normal(size=(n_trs, n))
    kernel = spm_hrf(TR_S, oversampling=1)
    response = np.stack([np.convolve(c, kernel)[:n_trs] for c in white.T], axis=1)
    response = (response - response.mean(axis=0)) / response.std(axis=0)
    ceiling = np.where(np.arange(n) % 5 == 0, 0.0, rng.uniform(0.4, 0.85, n))
    run = schedule.RunPlan("sub-x", "ses-001", 1, (), n_trs)
    parcel = noisy(response, ceiling, rng_for(1, "noise"))
    bold, motion = simulate_bold(1, "sub-x", run.key, anatomy, parcel)
    write_derivative_run(root, run, anatomy, bold, motion)
    path = str(next(root.rglob("*desc-preproc_bold.nii.gz")))
    minimal, _ = load_confounds(
        path, ("motion", "high_pass", "wm_csf"), motion="basic", wm_csf="basic"
    )
    masker = NiftiLabelsMasker(ATLAS, standardize=None, t_r=TR_S)
    found = {
        "with": masker.fit_transform(path, confounds=minimal),
        "without": masker.fit_transform(path),
    }
    scores = {}
    for name, series in found.items():
        scores[name] = np.array(
            [np.corrcoef(a, b)[0, 1] for a, b in zip(series.T, response.T, strict=True)]
        )
    return {"ceiling": ceiling, "scores": scores, "bold": bold, "motion": motion,
            "anatomy": anatomy, "parcel": parcel}  # fmt: skip


def test_ceilings_are_reached_after_confound_regression(long_scan):
    ceiling, r = long_scan["ceiling"], long_scan["scores"]["with"]
    planted_here = ceiling > 0
    gap = ceiling[planted_here] - r[planted_here]
    assert gap.mean() == pytest.approx(0.02, abs=0.03) and np.abs(gap).max() < 0.12
    assert np.abs(r[~planted_here]).max() < 4 / np.sqrt(800)


def test_confounds_leak_for_real(long_scan):
    planted_here = long_scan["ceiling"] > 0
    with_, without = (long_scan["scores"][k][planted_here] for k in ("with", "without"))
    assert (with_ - without).mean() > 0.05
    assert (with_ > without).mean() > 0.85


def test_voxel_noise_leaves_the_parcel_mean_as_planted(long_scan):
    """Against the same run without a response: the parcel means differ by the planted series."""
    anatomy, parcel = long_scan["anatomy"], long_scan["parcel"]
    empty, _ = simulate_bold(1, "sub-x", "sub-x_ses-001_run-1", anatomy, np.zeros_like(parcel))
    difference = (long_scan["bold"] - empty).astype(np.float64)
    for p in (0, 7, 20):
        mean = difference[:, anatomy.labels == p].mean(axis=1) / 10_000 * 100
        np.testing.assert_allclose(mean, parcel[:, p], rtol=0.05, atol=0.02)
    silent, _ = simulate_bold(1, "sub-x", "sub-x_ses-001_run-1", anatomy, np.zeros_like(parcel))
    np.testing.assert_array_equal(silent, empty)


def test_framewise_displacement_and_outliers(long_scan):
    motion = np.zeros((60, 6))
    motion[30:, 0] = 0.4  # 0.4 mm and 0.01 rad = 0.5 mm on the sphere of 50 mm
    motion[30:, 4] = 0.01
    bold = long_scan["bold"][:60]
    table, sidecar = confound_table(bold, long_scan["anatomy"].tissue, motion)
    fd = table.framewise_displacement
    assert np.isnan(fd[0]) and fd[30] == pytest.approx(0.9) and fd.drop([0, 30]).max() == 0
    outliers = [c for c in table if c.startswith("motion_outlier")]
    assert any(table[c][30] == 1 and table[c].sum() == 1 for c in outliers)
    csf = long_scan["anatomy"].tissue == "CSF"
    np.testing.assert_allclose(table.csf, bold[:, csf].mean(axis=1, dtype=float))
    np.testing.assert_allclose(
        table.dvars[1:], np.sqrt((np.diff(bold.astype(float), axis=0) ** 2).mean(axis=1)), rtol=1e-5
    )
    assert 0.5 < table.std_dvars[1:].median() < 1.5
    masks = {entry.get("Mask") for entry in sidecar.values()}
    assert masks == {None, "combined", "CSF", "WM"}


@pytest.mark.parametrize("n_trs", [150, 201, 450])
def test_cosines_span_those_of_nilearn(n_trs):
    frame_times = np.arange(n_trs) * TR_S
    design = make_first_level_design_matrix(frame_times, drift_model="cosine", high_pass=1 / 128)
    reference = design.filter(like="drift").values
    ours = cosine_basis(n_trs)
    left = ours - reference @ np.linalg.lstsq(reference, ours, rcond=None)[0]
    assert abs(ours.shape[1] - reference.shape[1]) <= 1
    assert np.abs(left[:, : reference.shape[1]]).max() < 1e-8


def test_head_motion_is_plausible():
    motion = np.stack([head_motion(rng_for(0, i), 200) for i in range(30)])
    fd = np.abs(np.diff(motion[..., :3], axis=1)).sum(-1) + 50 * np.abs(
        np.diff(motion[..., 3:], axis=1)
    ).sum(-1)
    assert 0.03 < np.median(fd) < 0.15
    assert 0.5 < (fd > 0.5).sum(axis=1).mean() < 8


# ---------------------------------------------------------------- bad input


def test_bad_input_is_refused_before_any_work(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").write_text("")
    cases = [
        (tmp_path / "used", PLAN, ATLAS, "not an empty folder"),
        (tmp_path / "a", PlayPlan((), PLAN.sessions, 3, 10.0), ATLAS, "subjects"),
        (tmp_path / "a", PlayPlan(("s", "s"), PLAN.sessions, 3, 10.0), ATLAS, "subjects"),
        (tmp_path / "a", PlayPlan(("s",), (("ses-001", 0),), 3, 10.0), ATLAS, "sessions"),
        (tmp_path / "a", PlayPlan(("s",), PLAN.sessions, 3, 1.0), ATLAS, "repetitions of 1.0 s"),
        (tmp_path / "b", PLAN, nib.Nifti1Image(np.full((5, 5, 5), 0.5), np.eye(4)), "label image"),
        (tmp_path / "b", PLAN, nib.Nifti1Image(np.zeros((5, 5, 5)), np.eye(4)), "0 parcels"),
    ]
    for root, plan, atlas, words in cases:
        with pytest.raises(CobeError, match=words) as caught:
            write_dataset(root, plan, atlas)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
