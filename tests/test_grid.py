"""The joint grid: what it holds and costs, a budget, a kill, a cluster, and its table of losses."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cobe.core.artifacts import content_sha256
from cobe.core.cluster import ClusterConfig, cluster_client
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.driver import dry_run
from cobe.sweep.anywhere import make_anywhere
from cobe.sweep.cells import load_tokens
from cobe.sweep.grid import check_frames, grid_losses, measured_rate, train_grid
from cobe.sweep.grid_plan import (
    ASSUMED_CPU,
    ASSUMED_GPU,
    Rate,
    grid_cells,
    plan_table,
    side_by_side,
    within_budget,
)
from cobe.sweep.jobs import Job
from cobe.video.flops import train_flops
from cobe.video.gpt import build_gpt
from cobe.video.windows import subset
from tiny_grid import GRID, PROFILE, clips_of_two_subjects, pipeline, slow_profile

PLAN = plan_table(PROFILE)


def with_grid(**changes):
    return replace(PROFILE, grid=replace(GRID, **changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    made, tokens = pipeline(tmp_path_factory.mktemp("grid"))
    return made, tokens, train_grid(made, tokens)


grids = st.builds(
    lambda hidden, clips, passes, batch: with_grid(
        hidden=tuple(2 * h for h in hidden),
        n_frames=tuple(64 * n for n in clips),
        passes=passes,
        anchors=((2 * hidden[0], 64 * clips[-1]),),
        slices=(),
        train=replace(GRID.train, batch_size=batch),
    ),
    st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(160, 900), min_size=1, max_size=4, unique=True),
    st.floats(1, 6),
    st.integers(1, 16),
)


@settings(max_examples=20, deadline=None)
@given(grids)
def test_every_size_meets_every_number_of_frames_with_a_schedule_of_its_length(profile):
    grid, cells = profile.grid, grid_cells(profile)
    crossed = {(c.cell.hidden, c.cell.n_frames) for c in cells if c.kind == "grid"}
    assert crossed == {(h, n) for h in grid.hidden for n in grid.n_frames}
    for one in cells:
        if one.cell.trained:
            clips_seen = one.cell.n_steps * grid.train.batch_size
            wanted = grid.passes * (one.cell.n_frames // 64)
            assert abs(clips_seen - wanted) <= grid.train.batch_size / 2 + 1e-6
    anchors = [(c.cell.hidden, c.cell.n_frames, c.cell.seed) for c in cells if c.kind == "anchor"]
    assert anchors == [(*grid.anchors[0], 7)]
    assert {c.cell.hidden for c in cells if c.kind == "untrained"} == set(grid.hidden)
    assert len({c.cell.name for c in cells}) == len(cells)
    table = plan_table(profile)
    assert table.cell.tolist() == [c.cell.name for c in cells]
    assert table.flop.is_monotonic_increasing  # cheapest first
    assert table.cum_flop.iloc[-1] == pytest.approx(table.flop.sum())


def step_flop(cell, cfg, batch):
    """FLOP of a step by torch's counter, with the causal half of attention taken off by hand."""
    model = build_gpt(cell, cfg.n_codes, cfg.code_dim, cfg.grid).train()
    n_tokens = model.n_tokens
    targets = torch.zeros(batch, n_tokens, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        model.loss(targets, torch.randn(batch, n_tokens, cfg.code_dim)).backward()
    above_diagonal = n_tokens * (n_tokens - 1) / 2
    unneeded = 3 * 4 * above_diagonal * cell.hidden * cell.n_layers * batch
    return counter.get_total_flops() - unneeded


@pytest.mark.parametrize("name", ["smoke", "quick"])
def test_slices_meet_their_budgets_by_torchs_count(name):
    profile = PROFILES[name]
    cells = [one for one in grid_cells(profile) if one.kind == "isoflop"]
    assert len(cells) == sum(len(widths) for _, widths in profile.grid.slices)
    for one in cells[:: 3 if name == "quick" else 1]:
        step = step_flop(one.cell, profile.vqvae, profile.grid.train.batch_size)
        # steps are whole numbers: half a step is what a cell may miss its budget by
        assert abs(one.cell.n_steps * step - one.slice_flop) <= 0.5001 * step
        assert one.cell.n_frames == max(profile.grid.n_frames)


def test_the_profiles_have_the_grids_that_were_promised():
    for name in ("quick", "paper"):
        grid = PROFILES[name].grid
        assert len(grid.hidden) >= 5 and len(grid.n_frames) >= 5
        assert len(grid.slices) >= 3 and all(len(widths) >= 5 for _, widths in grid.slices)
        assert len(grid.anchors) * len(grid.seeds) >= 8
        assert grid_cells(PROFILES[name])
    paper = {axis.name: axis.levels for axis in PROFILES["paper"].axes}
    assert max(PROFILES["paper"].grid.hidden) > max(paper["hidden_dim"])
    assert set(paper["data_size"]) & set(PROFILES["paper"].grid.n_frames)
    assert plan_table(PROFILES["quick"], workers=2).cum_s.iloc[-1] < 45 * 60
    assert plan_table(PROFILES["paper"]).score_s.isna().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": ()}, "GridConfig.hidden: empty"),
        ({"n_frames": ()}, "GridConfig.n_frames: empty"),
        ({"scan_hours": ()}, "GridConfig.scan_hours: empty"),
        ({"hidden": (8, 8)}, "GridConfig.hidden: .* each once"),
        ({"n_frames": (0, 640)}, "GridConfig.n_frames: .* above 0"),
        ({"passes": 0}, "GridConfig.passes: 0"),
        ({"anchors": ((6, 640),)}, "GridConfig.anchors: hidden 6 with 640 frames is no cell"),
        ({"seeds": (0,)}, "GridConfig.seeds: .*has seed 0 already"),
        ({"slices": ((1e7, ()),)}, "GridConfig.slices: budget 1e.07 with widths"),
        ({"slices": ((-1.0, (8,)),)}, "GridConfig.slices: budget -1"),
        ({"slices": ((1e5, (8,)),)}, "isoflop cell of hidden 8 .* 0 steps"),
        ({"passes": 0.1}, "grid cell of hidden 4 and 640 frames .* steps, at least 10"),
        ({"hidden": (5, 8), "anchors": ()}, "hidden 5 is not divisible by 2 heads"),
        ({"n_frames": (640, 64_000), "anchors": ()}, "largest subset has 64,000 frames, .* 3,840"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_is_trained(tmp_path, changes, words):
    made, tokens = pipeline(tmp_path, with_grid(**changes))
    with pytest.raises(CobeError, match=words):
        train_grid(made, tokens)
    assert not list(tmp_path.glob("grid/*"))


def test_frames_that_are_just_there_are_enough():
    clips = clips_of_two_subjects()
    check_frames(with_grid(n_frames=(3840,)), clips)
    with pytest.raises(CobeError, match="3,904"):
        check_frames(with_grid(n_frames=(3904,)), clips)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 40), st.floats(1, 40), st.floats(6, 10), st.floats(6, 10))
def test_a_larger_budget_keeps_the_cells_of_a_smaller_one(s1, s2, f1, f2):
    table = PLAN
    cheapest = table[table.kind != "untrained"].iloc[0]

    def within(seconds, flop):
        return within_budget(table, cheapest.cum_s + seconds, cheapest.cum_flop + 10**flop)

    small, large = within(min(s1, s2), min(f1, f2)), within(max(s1, s2), max(f1, f2))
    assert (small <= large).all()
    for kept in (small, large):
        n = kept.sum()
        assert kept[:n].all()  # cheapest first, without a gap
    kept = table[small]
    assert kept.cum_s.max() <= cheapest.cum_s + min(s1, s2)
    assert kept.flop.sum() <= cheapest.cum_flop + 10 ** min(f1, f2)


def test_what_the_budget_does_not_pay_for_is_listed(trained, tmp_path):
    _, _, everything = trained
    assert everything.not_computed.empty
    made, tokens = pipeline(tmp_path)
    said = []
    made.store.announce = said.append
    plan = PLAN
    some = train_grid(made, tokens, budget_flop=plan.cum_flop[5])
    assert [one.cell.name for one in some.models] == plan.cell[:6].tolist()
    assert some.not_computed.cell.tolist() == plan.cell[6:].tolist()
    assert (some.not_computed.flop > 0).all()
    assert any("3 of 9 cells are beyond the budget" in line for line in said)
    there = {path.name.rsplit("-", 1)[0] for path in tmp_path.glob("grid/*.meta.json")}
    assert there == {one.cell.name for one in some.models}
    with pytest.raises(CobeError, match="does not pay for the cheapest trained cell"):
        train_grid(made, tokens, budget_flop=1.0)
    with pytest.raises(CobeError, match="budget_s: -3"):
        train_grid(made, tokens, budget_s=-3)


def test_losses_against_logs_subsets_and_the_plan(trained):
    made, tokens, grid = trained
    losses = grid_losses(grid.models).set_index("cell")
    plan = PLAN.set_index("cell")
    clips = load_tokens(tokens).clips
    allowed = (clips.role == "video_train").to_numpy()
    models = {one.cell.name: (one.cell, item) for one, item in grid.models.items()}
    assert len(losses) == sum(one.cell.trained for one in grid.models)
    for name, row in losses.iterrows():
        cell, item = models[name]
        log = pd.read_parquet(item.path / "log.parquet")
        assert row.val_loss == log.val_loss.min() <= row.val_loss_end == log.val_loss.iloc[-1]
        assert row.n_windows == len(subset(clips, cell.n_frames, allowed=allowed))
        n_seen = cell.n_steps * GRID.train.batch_size
        assert row.tokens_seen == n_seen * 8
        assert row.unique_tokens == min(n_seen, row.n_windows) * 8
        assert row.epochs == pytest.approx(n_seen / row.n_windows)
        flop = train_flops(cell, 16, 4, (2, 2, 2), cell.n_steps, GRID.train.batch_size)
        assert row.flop == pytest.approx(flop) == pytest.approx(plan.flop[name])
        assert row.n_params == plan.n_params[name] > row.n_params_body
        assert row.n_steps == cell.n_steps
    assert (losses.kind == plan.kind[losses.index]).all()
    assert losses.slice_flop.dropna().tolist() == [3e7, 3e7]
    first = losses.loc[losses.tokens_seen.idxmin()]
    assert losses.val_loss.min() < first.val_loss  # there is something to learn


def test_subsets_of_the_grid_are_nested(trained):
    _, tokens, _ = trained
    clips = load_tokens(tokens).clips
    allowed = (clips.role == "video_train").to_numpy()
    small, large = (set(subset(clips, n, allowed=allowed)) for n in GRID.n_frames)
    assert small < large
    for rows in (small, large):
        by_subject = clips.subject.iloc[sorted(rows)].value_counts()
        assert len(by_subject) == (2 if rows == large else 1)


def test_a_rate_is_measured_on_what_is_there():
    """Seconds of a machine with a known rate, which trains and validates, give that rate."""
    profile = PROFILES["quick"]
    wanted = Rate(5e10, 0.02, 0.06, "known")
    seconds = plan_table(profile, wanted).set_index("cell").train_s
    there = {
        one.cell: SimpleNamespace(
            meta={"seconds": seconds[one.cell.name], "resumed": one.cell.name.endswith("0u")}
        )
        for one in grid_cells(profile)
    }
    rate = measured_rate(profile, there)
    assert rate.flop_per_s == pytest.approx(5e10, rel=1e-6)
    assert rate.step_s == pytest.approx(0.02, rel=1e-6)
    n_whole = sum(cell.trained and not cell.name.endswith("0u") for cell in there)
    assert rate.source == f"measured: {n_whole} cells trained before"
    again = plan_table(profile, rate).set_index("cell")
    assert again.rate.unique().tolist() == [rate.source]
    assert again.train_s.tolist() == pytest.approx(seconds[again.index].tolist())
    trained = [cell for cell in there if cell.trained and not cell.name.endswith("0u")]
    assert measured_rate(profile, {cell: there[cell] for cell in trained[:4]}) is None


def test_cells_on_disk_take_no_seconds_of_a_budget(trained):
    made, tokens, grid = trained
    everything = train_grid(made, tokens, budget_s=1e-6)
    assert list(everything.models) == list(grid.models) and everything.not_computed.empty
    half = PLAN.cell[: len(PLAN) // 2].tolist()
    table = plan_table(PROFILE, there=half)
    there = table.cell.isin(half)
    assert (table.cum_s[there] == 0).all() and (table.train_s[~there] > 0).all()
    assert table.cum_flop.equals(PLAN.cum_flop)  # a budget in FLOP does not see it


def test_the_assumed_rate_of_a_gpu_is_not_multiplied_by_cores(monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", "64")
    for there, words in ((0, "1 GPU, "), (1, "1 GPU, "), (4, "4 GPUs, ")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        assert side_by_side(ASSUMED_GPU, 64) == max(1, there)
        *_, last = dry_run.grid_lines(PROFILES["paper"])
        minutes = plan_table(PROFILES["paper"]).cum_s.iloc[-1] / 60 / max(1, there)
        assert f"in all {minutes:,.0f} minutes with {words}" in last
    assert side_by_side(ASSUMED_CPU, 64) == 64
    assert "with 64 workers" in dry_run.grid_lines(PROFILES["quick"])[-1]


def test_the_preview_of_the_grid_alone_prices_no_other_cells(monkeypatch):
    monkeypatch.setattr(dry_run, "_real_data", lambda *_: [])
    step = SimpleNamespace(name="06_compute_optimal", parameters={}, done=lambda: None)
    (line,) = (
        s for s in dry_run.describe(PROFILES["paper"], [step], []).splitlines() if "GPU:" in s
    )
    assert "GPT" not in line and "for the VQ-VAE" in line
    assert line.endswith("the joint grid is priced above")


def test_the_preview_says_what_the_grid_cannot_have():
    def run(session, n_trs=500):
        replay = SimpleNamespace(has_replay=True, replay_s=700.0)
        key = ("sub-1", f"ses-{session:03}", 1)
        names = dict(zip(("subject", "session", "run"), key, strict=True))
        return SimpleNamespace(**names, key=key, n_trs=n_trs, usable=True, repetitions=[replay])

    profile = replace(PROFILES["paper"], video_sessions=2)
    dataset = SimpleNamespace(runs=[run(session) for session in range(1, 6)])
    split, hours = dry_run._video(profile, dataset, True)
    assert "takes 4,000,000: NOT ENOUGH" in split
    assert "CANNOT BE HAD" in hours and "scan_hours: 0.8 h" in hours and "sub-1 has 1000" in hours
    grid = replace(profile.grid, n_frames=(10_000, 5_000_000), scan_hours=(0.1, 0.4))
    split, hours = dry_run._video(replace(profile, grid=grid), dataset, True)
    assert "takes 5,000,000: NOT ENOUGH" in split
    assert hours == "scan hours of the joint grid: 0.1, 0.4: enough volumes"
    (split,) = dry_run._video(replace(profile, grid=grid), dataset, False)
    assert "takes 4,000,000" in split


def sidecars(root):
    return {path.name: path for path in Path(root).glob("grid/*.meta.json")}


def test_after_a_kill_only_the_cell_in_flight_is_taken_up_again(tmp_path):
    """A process is killed in the middle of its last cell, and the grid is started again."""
    here = str(Path(__file__).parent)
    code = (
        f"import tiny_grid; tiny_grid.train_slowly(__import__('pathlib').Path({str(tmp_path)!r}))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"COBE_WORKERS": "1", "PYTHONPATH": os.pathsep.join([here, *sys.path])},
        start_new_session=True,
    )
    try:
        last = grid_cells(slow_profile())[-1].cell.name
        until = time.monotonic() + 300
        while not list(tmp_path.glob(f"grid/.checkpoint-{last}*")):
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    before = {name: path.stat().st_mtime_ns for name, path in sidecars(tmp_path).items()}
    assert len(before) == len(grid_cells(slow_profile())) - 1
    assert not any(name.startswith(last) for name in before)
    # a shorter last cell would be another cell: the same one is finished, from its checkpoint
    made, tokens = pipeline(tmp_path, slow_profile())
    grid = train_grid(made, tokens)
    after = sidecars(tmp_path)
    assert {name: after[name].stat().st_mtime_ns for name in before} == before
    (new,) = set(after) - set(before)
    assert new.startswith(last) and json.loads(after[new].read_text())["resumed"]
    assert [item.reused for item in grid.models.values()] == [True] * len(before) + [False]


def _write_or_fail(path, number):
    if number < 0:
        raise CobeError("number: below 0; give another")
    path.write_text(str(number))


def test_a_cluster_makes_the_same_grid_and_says_what_fails(trained, tmp_path):
    _, _, local = trained
    made, tokens = pipeline(tmp_path)
    with cluster_client(ClusterConfig(workers=2)) as client:
        away = train_grid(made, tokens, budget_flop=PLAN.cum_flop[6], client=client)
        again = train_grid(made, tokens, budget_flop=PLAN.cum_flop[6], client=client)
        bad = [Job(f"n/{k}", _write_or_fail, (k,), {}) for k in (3, -1, 5)]
        with pytest.raises(
            CobeError, match=r"n/-1: number: below 0; give another \(the first of 1"
        ):
            make_anywhere(made.store, bad, "numbers", "number", client)
        good = make_anywhere(made.store, [bad[0], bad[2]], "numbers", "number", client)
    assert [item.reused for item in good] == [True, True]  # what the others made is kept
    same = {one: local.models[one] for one in list(local.models)[:7]}
    assert list(away.models) == list(same)
    for one, item in away.models.items():
        assert item.sha256 == content_sha256(item.path) == same[one].sha256, one
    assert grid_losses(away.models).equals(grid_losses(same))
    assert all(item.reused for item in again.models.values())
