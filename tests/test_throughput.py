"""The waterfall of a training step: what each row runs, what it says, and projected hours."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from cobe.core.config import Cell, TrainConfig, VQVAEConfig
from cobe.core.errors import CobeError
from cobe.video import throughput as module
from cobe.video.flops import gpt_flops, total_flops, train_flops
from cobe.video.recipe import PUBLISHED_RECIPE
from cobe.video.throughput import RecipeStep, project_hours, recipe_steps, throughput

CELL = Cell(0, 16, 1, 2)
CFG = TrainConfig(batch_size=2, dropout=0.1)
VQVAE = VQVAEConfig(
    resolution=16, downsample=(4, 8, 8), n_hiddens=8, n_res_blocks=1, n_codes=12, code_dim=4
)


@pytest.fixture(scope="module")
def table():
    return throughput(CELL, CFG, VQVAE, rounds=2, steps_per_round=1, device="cpu", threads=1)


def test_each_bar_changes_one_thing():
    steps = recipe_steps(CFG, "cpu")
    chain = [s for s in steps if s.precision == "fp32"]
    assert chain[0].train == dataclasses.replace(CFG, **PUBLISHED_RECIPE)
    changed = [
        {k for k, v in vars(a.train).items() if v != vars(b.train)[k]}
        for a, b in zip(chain, chain[1:], strict=False)
    ]
    assert changed == [
        {"tokens_once"},
        {"attention_dropout"},
        {"dropout"},
        {"dropout"},
        {"attention"},
        {"activation_checkpointing"},
        {"compile"},
    ]
    assert chain[-2].train == dataclasses.replace(CFG, dropout=0.0)
    for precision in ("bf16", "fp16"):  # under both recipes
        trains = [s.train for s in steps if s.precision == precision]
        assert trains == [chain[0].train, chain[-2].train]
    assert [s.precision for s in steps].count("tf32") == 1
    assert recipe_steps(CFG, "cuda")[-1].precision == "bf16"


def test_rows_hold_together(table):
    assert table.change.tolist() == [s.change for s in recipe_steps(CFG, "cpu")]
    done = table[table.note == ""]
    assert len(done) == 9
    flop = total_flops(gpt_flops(CELL, 12, 4, (4, 2, 2), 2))
    assert (table.flop == flop).all()
    assert np.allclose(done.flop_per_s * done.step_s, flop)
    assert np.allclose(done.tokens_per_s * done.step_s, 2 * 16)
    assert np.allclose(done.mfu * done.gemm_flop_per_s, done.flop_per_s)
    assert np.allclose(done.ratio, done.step_s / done.step_s.iloc[0])
    assert (done.step_s_low <= done.step_s).all() and (done.step_s <= done.step_s_high).all()
    assert done.groupby("precision").gemm_flop_per_s.nunique().tolist() == [1, 1]
    assert (table.clock == "CPU time").all() and (table.threads == 1).all()


def test_what_the_device_cannot_do_is_said_and_not_numbered(table):
    left = table[table.note != ""]
    assert left.precision.tolist() == ["fp16", "tf32", "fp16", "fp32"]
    assert left.note.iloc[0] == "not measured: a CPU trains in fp32, bf16"
    assert left.note.iloc[-1] == "not measured: compilation was not asked for"
    assert left[["step_s", "tokens_per_s", "flop_per_s", "mfu", "memory_bytes"]].isna().all(None)


def test_every_row_runs_its_own_recipe(monkeypatch):
    """Pixels are encoded under the published recipe alone, once per step; turns alternate."""
    made, turns = [], []
    encode, turn = module.PixelTokens.__call__, module._Runner.turn
    monkeypatch.setattr(
        module.PixelTokens,
        "__call__",
        lambda self, rows: made.append(len(rows)) or encode(self, rows),
    )
    monkeypatch.setattr(
        module._Runner, "turn", lambda self, n: turns.append(self.step.change) or turn(self, n)
    )
    steps = recipe_steps(CFG, "cpu")
    steps = [steps[0], steps[3]]
    throughput(CELL, CFG, VQVAE, steps, rounds=3, steps_per_round=2, device="cpu", threads=1)
    assert turns == ["published recipe", "tokens once"] * 3
    # two windows of two clips; two steps to warm up, and three turns of two
    assert made == [4] * 8


def test_a_slower_step_is_measured_as_slower(monkeypatch):
    """A recipe with known extra work: the encoder repeated, so that it takes most of the step."""
    encode = module.PixelTokens.__call__

    def repeated(self, rows):
        a = torch.ones(600, 600)
        for _ in range(10):
            a @ a
        return encode(self, rows)

    monkeypatch.setattr(module.PixelTokens, "__call__", repeated)
    steps = recipe_steps(CFG, "cpu")
    table = throughput(CELL, CFG, VQVAE, [steps[0], steps[3]], rounds=3, device="cpu", threads=1)
    assert table.ratio[1] < 0.5


def test_the_peak_is_that_of_a_matrix_product():
    """Within the reach of a plain product of the same size, timed here."""
    a = torch.randn(2048, 2048)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a @ a
        seconds = []
        for _ in range(5):
            started = module._now("cpu")
            a @ a
            seconds.append(module._now("cpu") - started)
        peak = module.gemm_flop_per_s("fp32", "cpu")
    finally:
        torch.set_num_threads(before)
    assert peak == pytest.approx(2 * 2048**3 / min(seconds), rel=0.5)


def test_projected_hours():
    """Between two widths on the line in the logarithms, and against a count by hand."""
    rows = pd.DataFrame(
        {
            "hidden": [16, 64],
            "precision": "fp32",
            "step_s": 1.0,
            "flop_per_s": [1e9, 4e9],
            "device": "cpu",
            "threads": 1,
            "batch_size": 2,
            "n_layers": 1,
            **{name: [value, value] for name, value in PUBLISHED_RECIPE.items()},
        }
    )
    cfg = TrainConfig(n_steps=1000, batch_size=2)
    cells = [Cell(0, width, 1, 2) for width in (16, 32, 64, 128)]
    hours = project_hours(cells, cfg, VQVAE, rows)
    assert hours.flop_per_s.tolist() == pytest.approx([1e9, 2e9, 4e9, 4e9])
    assert hours.outside.tolist() == [False, False, False, True]
    flop = train_flops(cells[1], 12, 4, (4, 2, 2), 1000, 2)
    assert hours.train_hours[1] == pytest.approx(flop / 2e9 / 3600)
    assert "hidden 16, 64" in hours.assumption[0]
    with pytest.raises(CobeError, match="no measured row in bf16, only in fp32"):
        project_hours([Cell(0, 16, 1, 2, "bf16")], cfg, VQVAE, rows)
    for name, values in (
        ("device", ["cpu", "H100"]),
        ("batch_size", [2, 64]),
        ("attention", ["eager", "sdpa"]),
    ):
        with pytest.raises(CobeError, match=f"differ in {name} .*and recipe"):
            project_hours(cells, cfg, VQVAE, rows.assign(**{name: values}))
    with pytest.raises(CobeError, match="no row was measured"):
        project_hours(cells, cfg, VQVAE, rows.assign(step_s=np.nan))


def test_a_device_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        with pytest.raises(CobeError, match="torch sees no GPU"):
            throughput(CELL, CFG, VQVAE, device="cuda")
    with pytest.raises(CobeError, match="choose cpu or cuda"):
        throughput(CELL, CFG, VQVAE, device="tpu")


def test_a_recipe_for_another_device_is_a_note():
    step = RecipeStep("tf32", CFG, "tf32")
    table = throughput(CELL, CFG, VQVAE, [step], device="cpu", threads=1)
    assert table.note[0].startswith("not measured")
    assert table.step_s.isna().all()


def test_the_benchmark_says_what_it_did_not_measure():
    from cobe.bench.__main__ import COLUMNS, format_rows
    from cobe.bench.train import measure

    shape = (16, 1, 2)
    rows = measure(loop_shapes=[shape], recipe_shapes=[shape], vqvae=VQVAE, rounds=1)
    assert all(tuple(row) == COLUMNS for row in rows)
    by_name = {row["measurement"]: row for row in rows}
    ours = by_name["our recipe from tokens, cpu, hidden 16, 1 layers, fp32, 16 tokens"]
    assert ours["ratio"] == pytest.approx(ours["peer_value"] / ours["value"])
    if not torch.cuda.is_available():
        assert by_name["step on a GPU"]["value"] is None
        assert by_name["step on a GPU"]["unit"].startswith("not measured")
    assert "not measured" in format_rows([{"bench": "train"} | row for row in rows])
