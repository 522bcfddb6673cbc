"""What a run would do, before it does it: steps, cells, disk, GPU-hours."""

from __future__ import annotations

from cobe.core.config import CLIP_SPAN_FRAMES, PROFILES, Cell, Profile
from cobe.core.paths import build_dir, figures_dir
from cobe.sweep.models import sweep_cells, untrained_controls

# compressed 128x128 frames of a detailed game, and the throughput assumed of one H100 (25 % of
# 989 TFLOP/s dense bf16): assumptions of the preview, not measurements
ASSUMED_BYTES_PER_FRAME = 6_000
ASSUMED_FLOP_PER_S = 0.25 * 989e12
PAPER_REPLAYED_FRAMES = 6_476_018


def training_flop(profile: Profile, cell: Cell) -> float:
    """Arithmetic estimate of one cell's training: 6 x block parameters x tokens seen.

    A lower bound: attention scores, cross-attention, the context and the head are left out.
    """
    time, height, width = profile.vqvae.downsample
    side = profile.vqvae.resolution
    tokens_per_clip = (16 // time) * (side // height) * (side // width)
    n_params = 12 * cell.n_layers * cell.hidden**2
    return 6.0 * n_params * tokens_per_clip * profile.train.batch_size * profile.train.n_steps


def describe(profile: Profile, steps, figures: list[str]) -> str:
    """The preview as text."""
    lines = [f"profile {profile.name}: {len(steps)} notebooks, {len(figures)} figures"]
    for step in steps:
        state = "done already" if step.done() else "to do"
        lines.append(f"  {step.name:<20} {state}")
    axes = next((s.parameters["axes"] for s in steps if "axes" in s.parameters), [])
    cells = sweep_cells(profile, axes)
    lines.append(
        f"cells: {len(cells)} to train, {len(untrained_controls(cells))} untrained controls, "
        f"{profile.train.n_steps} steps of {profile.train.batch_size} windows each"
    )
    if profile.plan is None:
        gib = PAPER_REPLAYED_FRAMES * ASSUMED_BYTES_PER_FRAME / 2**30
        hours = sum(training_flop(profile, cell) for cell in cells) / ASSUMED_FLOP_PER_S / 3600
        lines += [
            f"disk: about {gib:.0f} GiB for the frame store, if all "
            f"{PAPER_REPLAYED_FRAMES:,} replayed frames take "
            f"{ASSUMED_BYTES_PER_FRAME:,} bytes each (assumed), besides the dataset",
            f"GPU: at least {hours:.0f} hours on one H100 for the GPT cells, if "
            f"{ASSUMED_FLOP_PER_S / 1e12:.0f} TFLOP/s are reached (assumed, not measured); "
            "the VQ-VAE comes on top",
        ]
    else:
        plan = profile.plan
        runs = len(plan.subjects) * sum(n_runs for _, n_runs in plan.sessions)
        seconds = runs * plan.repetitions_per_run * plan.repetition_s
        lines.append(
            f"data: simulated, {len(plan.subjects)} participants, {runs} runs, "
            f"{seconds * 60:,.0f} frames of play, about "
            f"{seconds * 60 / CLIP_SPAN_FRAMES:,.0f} clips"
        )
    lines.append(f"work files: {build_dir(profile.name)}; figures: {figures_dir(profile.name)}")
    lines.append(f"profiles: {', '.join(PROFILES)}")
    return "\n".join(lines)
