"""The cells and features of the comparisons: one thing differs at a time, and it is said."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.sweep import arms, brains, features, models, pipeline
from cobe.video.gpt import build_gpt
from cobe.video.tokens import clip_table
from cobe.video.tokenset import TokenSet
from cobe.video.windows import subset

GRID = (2, 2, 2)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_every_arm_changes_one_thing_and_holds_the_base_cell(profile):
    table = arms.arm_table(profile)
    assert set(table.arm) == {"diversity", "updates", "noise"}
    for arm, rows in table.groupby("arm"):
        assert profile.base.name in set(rows.cell), arm
        assert not rows.duplicated(["cell", "updates"]).any()
    diverse = table[table.arm == "diversity"]
    assert (diverse.n_steps == profile.train.n_steps).all()
    smaller = diverse[diverse.n_frames < profile.base.n_frames]
    assert (smaller.groupby("n_frames").scheme.agg(set) == {"stratified", "prefix", "single"}).all()
    noise = table[table.arm == "noise"]
    assert (noise.n_frames == profile.base.n_frames).all()
    assert len(noise) == len(profile.seeds) * noise.precision.nunique() >= 4


def test_equal_epochs_means_steps_in_proportion_to_frames():
    profile = PROFILES["quick"]
    table = arms.arm_table(profile).query("arm == 'updates' and updates == 'epochs'")
    share = table.n_frames / profile.base.n_frames
    assert (table.n_steps - profile.train.n_steps * share).abs().max() <= 0.5
    published = axis_cells(profile, profile.axes[0], profile.published)
    assert {cell.name for cell in published} <= set(table.cell)
    assert [cell.scheme for cell in published] == ["prefix"] * 3 + ["stratified"]


def test_the_protocols_share_the_base_cell_and_all_axes_but_data():
    profile = PROFILES["quick"]
    names = [axis.name for axis in profile.axes]
    corrected = set(models.sweep_cells(profile, names))
    both = {cell for cell in models.paper_cells(profile, names) if cell.trained}
    assert {cell.scheme for cell in both - corrected} == {"prefix"}
    assert len(both - corrected) == 3


def small_table(n_subjects=3):
    return clip_table(
        (f"sub-{s}", "ses-001", run, row, "1-0", 70.0 * row, 64 * 40)
        for s in range(n_subjects)
        for run in (1, 2)
        for row in range(2)
    )


def test_a_single_subject_subset_is_balanced_over_its_runs_and_says_when_it_ends():
    table = small_table()
    rows = subset(table, 64 * 64, "single")
    chosen = table.iloc[np.union1d(rows, rows - 1)]
    assert set(chosen.subject) == {"sub-0"}
    assert chosen.groupby("run").size().to_dict() == {1: 32, 2: 32}
    smaller = subset(table, 32 * 64, "single")
    assert set(smaller) <= set(rows)
    with pytest.raises(CobeError, match=r"\(single\): there are 10,240 frames in 160 clips"):
        subset(table, 64 * 161, "single")
    with pytest.raises(CobeError, match="are out of reach"):
        data = token_set(table)
        cell = replace(PROFILES["quick"].base, n_frames=64 * 161, scheme="single")
        arms.reachable(data, [cell])


def test_cells_out_of_reach_are_named_and_the_others_kept():
    data = token_set(small_table())
    base = replace(PROFILES["quick"].base, n_frames=64 * 60)
    cells = [
        base,
        replace(base, scheme="single"),
        replace(base, n_frames=64 * 100, scheme="single"),
    ]
    kept, left_out = arms.reachable(data, cells)
    assert kept == cells[:2]
    assert list(left_out) == [cells[2].name] and "80 clips" in left_out[cells[2].name]


def token_set(table, n_codes=16, code_dim=4):
    rng = np.random.default_rng(0)
    codes = rng.integers(n_codes, size=(len(table), *GRID)).astype(np.uint16)
    role = np.where(table.run == 1, "video_train", "ridge")
    codebook = rng.standard_normal((n_codes, code_dim)).astype(np.float32)
    return TokenSet(codes, table.assign(role=role), codebook, "test")


def test_a_protocol_reads_the_blocks_that_it_names(tmp_path):
    data = token_set(small_table())
    cell = replace(PROFILES["quick"].base, hidden=8, n_layers=3, n_heads=2)
    torch.manual_seed(0)
    model = build_gpt(cell, 16, 4, GRID)
    model.save_pretrained(tmp_path / "model")
    profile = PROFILES["quick"]
    published = features.gpt_features(tmp_path / "model", data, profile.published)
    assert {block: x.shape[1] for block, x in published.items()} == {1: 8}
    last = features.gpt_features(tmp_path / "model", data, profile.published_for("n_layers"))
    assert list(last) == [2]
    nested = replace(profile.protocol, n_features=5)
    found = features.gpt_features(tmp_path / "model", data, nested)
    assert {block: x.shape for block, x in found.items()} == dict.fromkeys(
        range(3), (len(features.role_rows(data)), 5)
    )
    with pytest.raises(CobeError, match="readout 'best' is unknown"):
        features.gpt_features(tmp_path / "model", data, replace(nested, readout="best"))


def test_matched_features_are_components_of_the_training_windows_only(tmp_path):
    data = token_set(small_table())
    cell = replace(PROFILES["quick"].base, hidden=8, n_layers=1, n_heads=2)
    model = build_gpt(cell, 16, 4, GRID)
    model.save_pretrained(tmp_path / "model")
    nested = replace(PROFILES["quick"].protocol, n_features=5)
    found = features.gpt_features(tmp_path / "model", data, nested)[0]

    states = []
    model = model.eval()
    model.transformer.h[0].register_forward_hook(lambda m, a, out: states.append(out.detach()))
    fit_on, ridge = data.windows_with_role("video_train"), data.windows_with_role("ridge")
    for rows in (fit_on, ridge):
        context = torch.from_numpy(data.codebook[data.codes[rows - 1].reshape(len(rows), -1)])
        target = torch.from_numpy(data.codes[rows].reshape(len(rows), -1).astype(np.int64))
        with torch.no_grad():
            model.last_hidden(target, context)
    train, test = (part.flatten(1).numpy() for part in states)
    expected = PCA(5, svd_solver="full").fit(train).transform(test)
    overlap = np.abs(np.corrcoef(found.T, expected.T)[:5, 5:].diagonal())
    np.testing.assert_allclose(overlap, 1, atol=1e-4)


def test_trained_models_do_not_depend_on_how_they_are_scored():
    """Their keys see the code from `cobe.sweep.cells` upwards: a new ridge retrains none."""
    code = "import sys, cobe.sweep.cells; print(*[m for m in sys.modules if m.startswith('cobe.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in done.stdout.split()}
    assert rooms == {"core", "stimulus", "video", "sweep"}


def test_the_published_list_is_by_subject_and_then_by_level():
    """Levels cycle inside runs; the published list has all plays of a level one after the other."""
    table = small_table()
    levels = np.array(["1-0", "4-1", "5-0"])[(table.row + table.run) % 3]
    table = table.assign(level=levels)
    first = table[table.subject == "sub-0"].groupby("level").size()
    rows = subset(table, 64 * int(first["1-0"]), "prefix")
    chosen = table.iloc[np.union1d(rows, rows - 1)]
    assert set(chosen.subject) == {"sub-0"} and set(chosen.level) == {"1-0"}
    more = subset(table, 64 * (int(first["1-0"]) + 8), "prefix")
    assert set(rows) <= set(more)
    assert set(table.iloc[more].level) == {"1-0", "4-1"}


def test_protocols_must_clean_bold_alike():
    profile = PROFILES["quick"]
    smoothed = replace(profile, published=replace(profile.published, smoothing_mm=8.0))
    with pytest.raises(CobeError, match="smoothing_mm is None in corrected and 8.0 in as_publ"):
        pipeline._check_cleaned_alike(smoothed)
    pipeline._check_cleaned_alike(profile)


def test_trials_take_whole_parcels_and_new_sets_in_every_draw():
    rng = np.random.default_rng(0)
    y = [rng.standard_normal((50, 6)) for _ in range(2)]
    y[1][:, 2] = np.nan
    few = brains._every(y, 5)
    assert [run.shape for run in few] == [(50, 5)] * 2 and np.isfinite(few[1]).all()
    with pytest.raises(CobeError, match="no parcel has a whole series"):
        brains._every([run[:, 2:3] for run in y], 5)
    sets = brains.SlowSets((("a", (3, 0.5, 0.1)), ("b", (4, 0.9, 0.0))), (50, 40))
    first, again, other = sets(0), sets(0), sets(1)
    assert [run.shape for run in first["b"]] == [(50, 4), (40, 4)]
    np.testing.assert_array_equal(first["a"][0], again["a"][0])
    assert abs(np.corrcoef(first["a"][0][:, 0], other["a"][0][:, 0])[0, 1]) < 0.9
