import importlib

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict

from cobe.core.errors import CobeError
from cobe.encoding import RandomVolumes, clips_to_trs, evaluate, stack_delays
from cobe.encoding.controls import (
    CONTROLS,
    autocorrelation_only,
    buttons,
    confound_band,
    fit_pixel_pca,
    level_and_time,
    pixel_pca,
)
from cobe.encoding.design import row_counts

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
CLIP_S = 64 / 60


def clips(n, size=32, seed=0):
    """Clips with a few strong patterns under noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).standard_normal((3, 16, size, size, 3)).cumsum(axis=2)
    strength = rng.standard_normal((n, 3)) * [4, 2, 1]
    pictures = 128 + np.tensordot(strength, patterns, 1)
    pictures += 5 * rng.standard_normal(pictures.shape)
    return pictures.clip(0, 255).astype(np.uint8)


def averaged(clips, grid):
    t, h, w = (size // bins for size, bins in zip(clips.shape[1:4], grid, strict=True))
    pooled = clips.reshape(len(clips), grid[0], t, grid[1], h, grid[2], w, 3).mean(axis=(2, 4, 6))
    return pooled.reshape(len(clips), -1) / 255


@pytest.mark.parametrize(("n", "n_components"), [(40, 6), (120, 4)])
def test_pixel_pca_equals_the_singular_vectors(n, n_components):
    train, test = clips(n), clips(15, seed=1)
    model = fit_pixel_pca(train, n_components, seed=0, grid=(4, 8, 8))
    scores = pixel_pca(model, test)
    x = averaged(train, (4, 8, 8))
    _, singular, vectors = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    expected = (averaged(test, (4, 8, 8)) - x.mean(axis=0)) @ vectors[:3].T
    assert scores.dtype == np.float32
    assert_allclose(np.abs(scores[:, :3]), np.abs(expected), atol=1e-3)
    assert_allclose(model.explained_variance[:3], singular[:3] ** 2 / (n - 1), rtol=1e-3)
    # Not whitened: components keep their very different variances.
    variance = pixel_pca(model, train).var(axis=0, ddof=1)
    assert_allclose(variance, model.explained_variance, rtol=1e-3)
    assert variance[0] > 4 * variance[2]


def test_pixel_pca_is_repeatable_and_takes_clips_one_by_one():
    train = clips(120, size=16)
    one, two = fit_pixel_pca(train, 4, seed=3), fit_pixel_pca(train, 4, seed=3)
    assert_array_equal(one.components, two.components)
    many = clips(270, size=16, seed=4)
    assert_allclose(pixel_pca(one, many)[255:], pixel_pca(one, many[255:]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "n_components", "words"),
    [
        (lambda c: c.astype(float), 2, "give uint8"),
        (lambda c: c[:, 0], 2, "give uint8"),
        (lambda c: c, 10, "10 components of 10 clips"),
        (lambda c: c[:, :, :30], 2, "does not divide"),
    ],
)
def test_pixel_pca_refuses(change, n_components, words):
    with pytest.raises(CobeError, match=words):
        fit_pixel_pca(change(clips(10)), n_components)


def test_buttons_are_counted_frame_by_frame():
    rng = np.random.default_rng(0)
    pressed = rng.random((64 * 3 + 20, 12)) < 0.3
    features = buttons(pressed, 3)
    assert features.shape == (3, 24)
    for clip in range(3):
        for button in range(12):
            frames = range(64 * clip, 64 * (clip + 1))
            held = sum(pressed[f, button] for f in frames) / 64
            switches = sum(f > 0 and pressed[f, button] != pressed[f - 1, button] for f in frames)
            assert_allclose(features[clip, button], held)
            assert features[clip, 12 + button] == switches


def test_buttons_refuse():
    with pytest.raises(CobeError, match="hold 1 clips, not 2"):
        buttons(np.zeros((100, 12), bool), 2)
    with pytest.raises(CobeError, match="give"):
        buttons(np.zeros((100, 9), bool), 1)


def clip_table(n_runs=4, repetitions=3, n_clips=70):
    rows = []
    for run in range(1, n_runs + 1):
        for row in range(repetitions):
            start = 3 + row * (n_clips * CLIP_S + 4) + CLIP_S * np.arange(n_clips)
            rows.append(
                pd.DataFrame(
                    {
                        "subject": "sub-sim1",
                        "session": "ses-002",
                        "run": run,
                        "row": row,
                        "level": ["1-0", "4-1", "5-0"][row % 3],
                        "clip": np.arange(n_clips),
                        "start_s": start,
                        "end_s": start + CLIP_S,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def test_level_and_time_say_what_they_promise():
    table = clip_table()
    features = level_and_time(table, ["1-0", "4-1", "5-0", "9-9"], 400.0)
    assert features.shape == (len(table), 8)
    levels = np.array(["1-0", "4-1", "5-0", "9-9"])[features[:, :4].argmax(axis=1)]
    assert_array_equal(levels, table["level"])
    assert_array_equal(features[:, :4].sum(axis=1), 1)
    time = ((table["start_s"] + table["end_s"]) / 2 / 400 * 2 - 1).to_numpy()
    assert_allclose(features[:, 4], time, atol=1e-6)
    assert_allclose(features[:, 5], (3 * time**2 - 1) / 2, atol=1e-6)
    assert_allclose(features[:, 6], (5 * time**3 - 3 * time) / 2, atol=1e-6)
    assert_allclose(features[:, 7], table["clip"] * CLIP_S / 400, atol=1e-6)
    with pytest.raises(CobeError, match="levels 5-0: not listed"):
        level_and_time(table, ["1-0", "4-1"], 400.0)
    with pytest.raises(CobeError, match="must be positive"):
        level_and_time(table, ["1-0", "4-1", "5-0"], 0)


def test_slow_control_has_the_time_constant_and_no_link_between_runs():
    table = clip_table(n_clips=300)
    features = autocorrelation_only(table, 60, time_constant_s=12.0, seed=1)
    assert_allclose(features.var(), 1, atol=0.05)
    one = features[:300]
    neighbours = (one[1:] * one[:-1]).mean() / one.var()
    assert_allclose(neighbours, np.exp(-CLIP_S / 12), atol=0.02)
    # The 4 s between repetitions are part of the process.
    across = np.corrcoef(features[299], features[300])[0, 1]
    assert_allclose(across, np.exp(-(CLIP_S + 4) / 12), atol=0.25)
    runs = features.reshape(4, -1)
    assert np.abs(np.corrcoef(runs)[np.triu_indices(4, 1)]).max() < 0.1
    # A run has the same features whatever else is in the table, in whatever order.
    mixed = table[table["run"] == 3].sample(frac=1, random_state=0)
    again = autocorrelation_only(mixed, 60, time_constant_s=12.0, seed=1)
    assert_array_equal(again, features[mixed.index])
    with pytest.raises(CobeError, match="both must be positive"):
        autocorrelation_only(table, 0)


def test_slow_control_is_at_chance_on_held_out_runs_but_not_on_random_volumes():
    table = clip_table(n_runs=4)
    features = autocorrelation_only(table, 40, seed=2)
    rng = np.random.default_rng(3)
    runs_x, runs_y = [], []
    for run in range(1, 5):
        here = (table["run"] == run).to_numpy()
        times = table.loc[here, ["start_s", "end_s"]].to_numpy().T
        x = clips_to_trs(features[here], *times, 165, 1.49)
        y = rng.standard_normal((165, 30))
        for i in range(1, 165):
            y[i] = 0.9 * y[i - 1] + np.sqrt(1 - 0.81) * y[i]
        runs_x.append(x)
        runs_y.append(y)
    options = {"delays_tr": (1, 2, 3), "alphas": np.logspace(0, 4, 5), "block_trs": 30}
    options |= {"n_permutations": 100, "n_bootstrap": 0}
    corrected = evaluate(runs_x, runs_y, groups=range(4), **options)
    mean = corrected[(corrected["summary"] == "mean") & (corrected["held_out"] == "all")].iloc[0]
    assert abs(mean["r"]) < 0.06 and mean["p"] > 0.05
    published = RandomVolumes(test_fraction=0.1, seed=1)
    leaky = evaluate(runs_x, runs_y, groups=published, alpha_per_target=False, **options)
    mean = leaky[(leaky["summary"] == "mean") & (leaky["held_out"] == "all")].iloc[0]
    largest = leaky[(leaky["summary"] == "max") & (leaky["held_out"] == "all")].iloc[0]
    assert mean["r"] > 0.2 and largest["r"] > 0.5
    assert leaky["leaks"].all() and not corrected["leaks"].any()
    # the same by scikit-learn
    x = np.concatenate([stack_delays(x, (1, 2, 3)) for x in runs_x])
    kept = ~np.isnan(x).any(axis=1)
    y = np.concatenate(runs_y)[kept]
    shuffled = KFold(5, shuffle=True, random_state=0)
    peer = cross_val_predict(Ridge(alpha=10), x[kept], y, cv=shuffled)
    peer_r = np.mean([np.corrcoef(peer[:, t], y[:, t])[0, 1] for t in range(30)])
    assert peer_r > 0.2


def test_every_control_has_a_maker():
    names = [control.name for control in CONTROLS]
    assert len(set(names)) == len(names) >= 8
    for control in CONTROLS:
        module, function = control.made_by.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert control.rate in ("clip", "volume") and control.question


def test_confounds_keep_their_numbers_and_lose_the_first_volume():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((30, 3)), columns=["trans_x", "rot_z", "csf"])
    table["framewise_displacement"] = table["trans_x"].diff().abs()
    runs_x = [confound_band(table)] * 2
    assert np.isnan(runs_x[0][0]).all() and runs_x[0].dtype == np.float32
    assert_allclose(runs_x[0][1:], table.to_numpy()[1:], rtol=1e-6)
    runs_y = [rng.standard_normal((30, 2))] * 2
    counts = row_counts(runs_x, runs_y, delays_tr=(0, 1))
    assert counts["n_without_features"].tolist() == [1, 1]
    assert (counts["n_before_run"] + counts["n_into_gap"]).tolist() == [2, 2]
    table.loc[[7, 9], "csf"] = np.nan
    with pytest.warns(RuntimeWarning, match="2 of 30 volumes after the first lack a number in csf"):
        again = confound_band(table)
    assert np.isnan(again[[0, 7, 9]]).all() and np.isnan(again).any(axis=1).sum() == 3


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.zeros((5, 2)), "give a DataFrame"),
        (pd.DataFrame(index=range(5)), "give a DataFrame"),
        (pd.DataFrame({"a": ["x", "y"]}), "not all numbers"),
        (pd.DataFrame({"a": [1.0, 2], "b": [np.nan, np.nan]}), "confounds b: no number"),
    ],
)
def test_confounds_refuse(table, words):
    with pytest.raises(CobeError, match=words):
        confound_band(table)
