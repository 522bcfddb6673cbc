"""Where the time of a training step goes: from the published recipe to ours, in one run."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.config import Cell, TrainConfig, VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.memory import process_bytes
from cobe.core.seeds import rng_for
from cobe.video.device import make_accelerator, precisions, torch_threads, wait
from cobe.video.flops import gpt_flops, mfu, total_flops, train_flops
from cobe.video.loop import Stepper
from cobe.video.recipe import PUBLISHED_RECIPE, PixelTokens
from cobe.video.train import Windows, gpt_task
from cobe.video.vqvae import build_vqvae

N_CLIPS = 64
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class RecipeStep:
    """One bar of the waterfall: the recipe so far, and what is new in it.

    Attributes
    ----------
    change : str
        What is new in it.
    train : TrainConfig
        All settings of the step.
    precision : str
        Of the step.
    """

    change: str
    train: TrainConfig
    precision: str = "fp32"


def recipe_steps(cfg: TrainConfig, device: str | None = None) -> list[RecipeStep]:
    """From the published recipe to ours, one change at a time.

    Parameters
    ----------
    cfg : TrainConfig
        Batch size, and the dropout that ours ends with beside none at all.
    device : str or None
        ``"cpu"`` or ``"cuda"``; None: a GPU where there is one. The steps are the same on both;
        on a GPU compilation is under bf16, on a CPU under fp32.

    Returns
    -------
    steps : list of RecipeStep
        Each changes one thing of the one before, but for those in other precisions; a change that
        changes nothing is left out. Dropout falls to ``cfg.dropout`` and then to 0, and stays
        there. The four precisions are
        alternatives to each other and not a chain; the published recipe is there in 16 bit too, so
        that the gain of 16 bit can be read under both recipes.
    """
    published = replace(cfg, **PUBLISHED_RECIPE)
    made = [RecipeStep("published recipe", published)]
    made += [RecipeStep(f"published recipe in {p}", published, p) for p in ("bf16", "fp16")]
    train = published
    changes = [
        ("tokens once", {"tokens_once": True}),
        ("attention dropout 0", {"attention_dropout": 0.0}),
        (f"dropout {cfg.dropout:g}", {"dropout": cfg.dropout}),
        ("dropout 0", {"dropout": 0.0}),
        ("fused attention", {"attention": "sdpa"}),
        ("no checkpointing", {"activation_checkpointing": False}),
    ]
    for change, settings in changes:
        before, train = train, replace(train, **settings)
        if train != before:
            made.append(RecipeStep(change, train))
    made += [RecipeStep(precision, train, precision) for precision in ("tf32", "bf16", "fp16")]
    final = "bf16" if _device(device) == "cuda" else "fp32"
    return [*made, RecipeStep(f"compile, {final}", replace(train, compile=True), final)]


def throughput(
    cell: Cell,
    cfg: TrainConfig,
    vqvae: VQVAEConfig,
    steps: Sequence[RecipeStep] | None = None,
    *,
    rounds: int = 5,
    steps_per_round: int = 2,
    device: str | None = None,
    threads: int | None = None,
    compiled: bool | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Time a training step of one cell under a series of recipes, in turns, in one process.

    Every recipe runs the code that trains: `gpt_task` and the loop's own step (batch, forward,
    backward, clipping, fused AdamW). Tokens and pixels are random and the VQ-VAE untrained, which
    changes what is learnt and not what is computed. The pixels lie in memory: reading and decoding
    frames, which the published recipe also does in every step, is not in its time.

    Parameters
    ----------
    cell : Cell
        Shape of the GPT; precision is the recipe's.
    cfg : TrainConfig
        Batch size and dropout.
    vqvae : VQVAEConfig
        The encoder that "pixels in every step" runs, and with it grid, codes and code_dim.
    steps : sequence of RecipeStep or None
        None: all of `recipe_steps`.
    rounds, steps_per_round : int
        Turns, and training steps of every recipe in a turn; the median over turns counts.
    device : str or None
        ``"cpu"`` or ``"cuda"``; None: a GPU where there is one.
    threads : int or None
        torch threads; None: as they are.
    compiled : bool or None
        Whether to measure compiled recipes; None: on a GPU only, since compiling takes minutes on
        a CPU.
    seed : int
        Seed of tokens, pixels and weights.

    Returns
    -------
    rows : DataFrame
        A row per recipe: change, precision, the cell's hidden, n_layers and n_heads, batch_size,
        n_tokens (of a step), the recipe's switches (dropout, attention, attention_dropout,
        activation_checkpointing, compile, tokens_once); step_s (median), step_s_low and step_s_high
        (fastest and slowest turn); tokens_per_s; flop (what the model needs for a step, by
        `gpt_flops`: encoding pixels and work done twice do not count), flop_per_s; gemm_flop_per_s
        (the peak: a large matrix product of that precision, measured in the same process), mfu (of
        that peak); memory_bytes; ratio (step_s over that of the first row measured); clock
        (``"CPU time"``, or ``"wall time"`` on a GPU); device, threads; note (empty, or ``"not
        measured: ..."`` with NaN in the measured columns).

    Raises
    ------
    CobeError
        A device that is not there; a cell or settings that cannot be built.

    Notes
    -----
    On a CPU times are CPU time of the process, which other processes on the machine disturb less
    than the wall clock; on a GPU wall time around a synchronised turn. memory_bytes is the growth,
    from before the model is built to the peak of its first steps, of torch's memory on a GPU, and
    of the resident set of the process on a CPU, which is coarse for small models and NaN where the
    system cannot tell.
    """
    device = _device(device)
    make_accelerator("fp32", device)  # says at once where there is no such device
    compiled = device == "cuda" if compiled is None else compiled
    steps = recipe_steps(cfg, device) if steps is None else list(steps)
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        data = _Data(vqvae, device, seed)
        runners = [_runner(step, cell, data, device, compiled) for step in steps]
        able = [runner for runner in runners if isinstance(runner, _Runner)]
        for _ in range(rounds):
            for runner in able:
                runner.turn(steps_per_round)
        kinds = {runner.step.precision for runner in able}
        peaks = {kind: gemm_flop_per_s(kind, device) for kind in sorted(kinds)}
        used_threads = torch.get_num_threads()
    rows = [_row(r, s, cell, data, peaks) for r, s in zip(runners, steps, strict=True)]
    table = pd.DataFrame(rows)
    measured = table.step_s.dropna()
    table["ratio"] = table.step_s / measured.iloc[0] if len(measured) else np.nan
    table["clock"] = "CPU time" if device == "cpu" else "wall time"
    table["device"] = device if device == "cpu" else torch.cuda.get_device_name()
    table.insert(len(table.columns), "threads", used_threads)
    return table[[*table.columns.drop("note"), "note"]]


def gemm_flop_per_s(precision: str, device: str, repeats: int = 5) -> float:
    """The rate of a large square matrix product, as a measured peak: best of `repeats`, FLOP/s."""
    make_accelerator(precision, device)  # sets TF32
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    size = GEMM_SIZE[device]
    a = torch.randn(size, size, device=device).to(kind)
    seconds = []
    a @ a
    for _ in range(repeats):
        started = _now(device)
        a @ a
        seconds.append(_now(device) - started)
    return 2.0 * size**3 / min(seconds)


def project_hours(
    cells: Sequence[Cell], cfg: TrainConfig, vqvae: VQVAEConfig, measured: pd.DataFrame
) -> pd.DataFrame:
    """Hours that the training of every cell would take, from measured rates.

    Parameters
    ----------
    cells : sequence of Cell
        The cells, such as the paper's.
    cfg : TrainConfig
        Steps and batch size of every cell.
    vqvae : VQVAEConfig
        Grid, codes and code_dim.
    measured : DataFrame
        Rows of `throughput` of one device and recipe, for cells of several widths.

    Returns
    -------
    hours : DataFrame
        A row per cell: cell, hidden, n_layers, n_heads, precision, n_steps, flop (of the training
        steps), flop_per_s (the rate that is assumed), train_hours, outside (True where the cell's
        width lies outside those measured), assumption. ``hours.train_hours.sum()`` is the sum over
        cells on one such device.

    Raises
    ------
    CobeError
        No measured row, rows of several devices, thread counts, batch sizes, depths or recipes, or
        none of a cell's precision.

    Notes
    -----
    FLOP are counted (`train_flops`); the rate is interpolated between the measured widths of the
    same precision, linearly in the logarithms, and held at the nearest one outside. Depth and heads
    are taken not to change the rate. Validation, start-up and writing are not in it.
    """
    rows = measured[measured.step_s.notna()]
    if rows.empty:
        raise CobeError("measured: no row was measured; run throughput on this device first")
    for name in ("device", "threads", "batch_size", "n_layers", *PUBLISHED_RECIPE):
        if rows[name].nunique() > 1:
            raise CobeError(
                f"measured: rows differ in {name} ({', '.join(map(str, rows[name].unique()))}); "
                "give those of one device, thread count, batch size, depth and recipe"
            )
    made = []
    for cell in cells:
        known = rows[rows.precision == cell.precision].groupby("hidden").flop_per_s.median()
        if known.empty:
            raise CobeError(
                f"cell {cell.name}: no measured row in {cell.precision}, only in "
                f"{', '.join(sorted(rows.precision.unique()))}; measure it, or change the cell's"
            )
        flop = train_flops(
            cell, vqvae.n_codes, vqvae.code_dim, vqvae.grid, cfg.n_steps, cfg.batch_size
        )
        rate = np.exp(np.interp(np.log(cell.hidden), np.log(known.index), np.log(known)))
        made.append(
            {
                "cell": cell.name,
                **{k: getattr(cell, k) for k in ("hidden", "n_layers", "n_heads", "precision")},
                "n_steps": cfg.n_steps,
                "flop": flop,
                "flop_per_s": rate,
                "train_hours": flop / rate / 3600,
                "outside": not known.index.min() <= cell.hidden <= known.index.max(),
                "assumption": f"rate of {rows.device.iloc[0]}, threads {rows.threads.iloc[0]}, at "
                f"batch {rows.batch_size.iloc[0]} and {rows.n_layers.iloc[0]} layers, interpolated "
                f"between hidden {', '.join(map(str, known.index))}; without validation",
            }
        )
    return pd.DataFrame(made)


class _Data:
    """Random windows and pixels of the VQ-VAE's grid, and the frozen VQ-VAE itself."""

    def __init__(self, vqvae: VQVAEConfig, device: str, seed: int):
        self.device, self.vqvae = torch.device(device), build_vqvae(vqvae).eval().to(device)
        rng, side = rng_for(seed, "throughput"), vqvae.resolution
        self.grid = self.vqvae.grid
        tokens = rng.integers(0, vqvae.n_codes, (N_CLIPS, *self.grid)).astype(np.uint16)
        self.codebook = rng.standard_normal((vqvae.n_codes, vqvae.code_dim)).astype(np.float32)
        self.pixels = rng.integers(0, 256, (N_CLIPS, 16, side, side, 3), dtype=np.uint8)
        self.train = Windows(tokens, self.codebook, np.arange(1, N_CLIPS - 2), device)
        self.val = Windows(tokens, self.codebook, [N_CLIPS - 1], device)
        self.clip_tokens = PixelTokens(self.vqvae, lambda rows: self.pixels[rows])


def _runner(step: RecipeStep, cell: Cell, data: _Data, device: str, compiled: bool):
    """A runner of this recipe, or the reason why it is not measured."""
    allowed = precisions(device)
    if step.precision not in allowed:
        what = "a CPU" if device == "cpu" else torch.cuda.get_device_name()
        return f"not measured: {what} trains in {', '.join(allowed)}"
    if step.train.compile and not compiled:
        return "not measured: compilation was not asked for"
    return _Runner(step, cell, data)


class _Runner:
    """A recipe with its model: takes turns of training steps."""

    def __init__(self, step: RecipeStep, cell: Cell, data: _Data):
        self.step, self.device, self.seconds, self.done = step, data.device, [], 0
        before = _reset_memory(data.device)
        accelerator = make_accelerator(step.precision, data.device.type)
        self.task = gpt_task(
            replace(cell, precision=step.precision),
            replace(step.train, n_steps=10**6),
            data.train,
            data.val,
            data.grid,
            accelerator,
            data.clip_tokens,
        )
        self.task.model.train()
        self._steps(Stepper(self.task, accelerator), 2)
        self.memory_bytes = _peak_memory(data.device) - before

    def turn(self, n: int) -> None:
        """So many steps, timed."""
        # accelerate keeps one precision per process: every turn sets its own again.
        stepper = Stepper(self.task, make_accelerator(self.step.precision, self.device.type))
        started = _now(self.device.type)
        self._steps(stepper, n)
        self.seconds.append((_now(self.device.type) - started) / n)

    def _steps(self, stepper, n):
        for _ in range(n):
            stepper(self.done)
            self.done += 1


def _row(runner, step: RecipeStep, cell: Cell, data: _Data, peaks: dict) -> dict:
    switches = {name: asdict(step.train)[name] for name in PUBLISHED_RECIPE}
    batch = step.train.batch_size
    row = {"change": step.change, "precision": step.precision}
    row |= {name: getattr(cell, name) for name in ("hidden", "n_layers", "n_heads")}
    row |= {"batch_size": batch, "n_tokens": batch * int(np.prod(data.grid)), **switches}
    flop = total_flops(gpt_flops(cell, *data.codebook.shape, data.grid, batch))
    if isinstance(runner, str):
        names = "step_s step_s_low step_s_high tokens_per_s flop flop_per_s gemm_flop_per_s mfu"
        row |= dict.fromkeys([*names.split(), "memory_bytes"], np.nan) | {"flop": flop}
        return row | {"note": runner}
    seconds, peak = float(np.median(runner.seconds)), peaks[step.precision]
    return row | {
        "step_s": seconds,
        "step_s_low": min(runner.seconds),
        "step_s_high": max(runner.seconds),
        "tokens_per_s": row["n_tokens"] / seconds,
        "flop": flop,
        "flop_per_s": flop / seconds,
        "gemm_flop_per_s": peak,
        "mfu": mfu(flop, seconds, peak),
        "memory_bytes": runner.memory_bytes,
        "note": "",
    }


def _device(device: str | None) -> str:
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _now(device: str) -> float:
    """CPU time of the process, or wall time once the GPU has done what it was given."""
    if device == "cpu":
        return time.process_time()
    wait(torch.device(device))
    return time.perf_counter()


def _reset_memory(device: torch.device) -> float:
    """Start a new peak; bytes in use now (NaN where the system cannot tell)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed shall not serve the next model unseen
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return float("nan")
    return process_bytes("VmRSS")


def _peak_memory(device: torch.device) -> float:
    """Most bytes in use since the last `_reset_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return process_bytes("VmHWM")
