"""The profiles: what ``smoke``, ``quick`` and ``paper`` compute, as data."""

from __future__ import annotations

from dataclasses import replace

from cobe.core.config import (
    Axis,
    Cell,
    GridConfig,
    PlayPlan,
    Profile,
    Protocol,
    TrainConfig,
    VQVAEConfig,
)
from cobe.core.errors import CobeError


def _axes(n_frames, hidden, n_layers, n_heads, precision) -> tuple[Axis, ...]:
    return (
        Axis("data_size", "n_frames", n_frames, "training data (frames)"),
        Axis("hidden_dim", "hidden", hidden, "hidden size"),
        Axis("n_layers", "n_layers", n_layers, "layers"),
        Axis("n_heads", "n_heads", n_heads, "attention heads"),
        Axis("precision", "precision", precision, "precision"),
    )


_CORRECTED = Protocol("corrected")
# the penalties and delays are those of an earlier public script of the same author: inferred
_PUBLISHED = Protocol(
    "as_published",
    scheme="prefix",
    updates="epochs",
    holdout="volumes",
    readout="middle",
    branch="mlp",
    pooling="mean",
    delays_tr=(1, 2, 3, 4),
    alphas=(0.1, 1.0, 100.0, 200.0, 300.0, 400.0, 600.0, 800.0, 900.0, 1000.0, 1200.0),
    alpha_per_target=False,
    relative_alphas=False,
    summary="max",
)


def _protocols(n_features: int, **changes) -> dict:
    """Both protocols of a profile; the figure of the layers read the last block."""
    published = replace(_PUBLISHED, **changes)
    last = replace(published, name="as_published_last", readout="last")
    return {
        "protocol": replace(_CORRECTED, n_features=n_features, **changes),
        "published": published,
        "published_by_axis": (("n_layers", last),),
    }


PROFILES = {
    "smoke": Profile(
        name="smoke",
        plan=PlayPlan(
            subjects=("sub-sim1", "sub-sim2"),
            sessions=(("ses-001", 3), ("ses-002", 1), ("ses-003", 1)),
            repetitions_per_run=3,
            repetition_s=30.0,
            n_parcels=60,
        ),
        video_sessions=1,
        vqvae=VQVAEConfig(n_hiddens=16, n_codes=128, n_steps=120, batch_size=8),
        train=TrainConfig(n_steps=60, batch_size=16, n_evals=6),
        base=Cell(n_frames=9000, hidden=32, n_layers=2, n_heads=4),
        axes=_axes((3000, 9000), (16, 32), (1, 2), (2, 4), ("bf16", "fp32")),
        **_protocols(32, n_permutations=100, block_trs=20),
        grid=GridConfig(
            hidden=(8, 16, 32),
            n_frames=(2_000, 4_000, 8_000),
            anchors=((8, 2_000), (32, 8_000)),
            seeds=(1,),
            slices=(
                (8e8, (8, 12, 16, 20)),
                (1.6e9, (8, 12, 20, 28)),
                (3.2e9, (8, 12, 20, 32)),
            ),
            scan_hours=(0.018, 0.0225, 0.028),
            train=TrainConfig(batch_size=4, n_evals=4),
        ),
        seeds=(0, 1),
    ),
    "quick": Profile(
        name="quick",
        plan=PlayPlan(
            subjects=("sub-sim1", "sub-sim2", "sub-sim3", "sub-sim4"),
            sessions=(("ses-001", 5), ("ses-002", 2), ("ses-003", 2), ("ses-004", 2)),
            repetitions_per_run=4,
            repetition_s=65.0,
        ),
        video_sessions=1,
        vqvae=VQVAEConfig(),
        train=TrainConfig(),
        base=Cell(n_frames=200_000, hidden=96, n_layers=2, n_heads=4),
        axes=_axes(
            (3_000, 12_000, 50_000, 200_000),
            (12, 24, 48, 96),
            (1, 2, 4),
            (1, 2, 4),
            ("bf16", "fp32"),
        ),
        **_protocols(48, n_permutations=250),
        grid=GridConfig(
            hidden=(12, 24, 48, 96, 192),
            n_frames=(9_000, 20_000, 45_000, 100_000, 230_000),
            anchors=((12, 9_000), (12, 230_000), (48, 45_000), (192, 9_000), (96, 100_000)),
            slices=(
                (1e11, (12, 20, 36, 60, 96)),
                (3e11, (16, 28, 48, 84, 144)),
                (9e11, (24, 44, 72, 116, 192)),
                (2.7e12, (44, 64, 92, 132, 200)),
            ),
            scan_hours=(0.0375, 0.075, 0.15, 0.3),
            train=TrainConfig(batch_size=8, n_evals=8),
        ),
    ),
    "paper": Profile(
        name="paper",
        plan=None,
        video_sessions=8,
        vqvae=VQVAEConfig(
            resolution=128,
            n_hiddens=240,
            n_res_blocks=4,
            n_codes=1024,
            code_dim=128,
            n_steps=156_000,
            batch_size=32,
            learning_rate=3e-4,
            flat_kernel=4,
        ),
        train=TrainConfig(
            n_steps=145_000, batch_size=64, learning_rate=7.3e-4, n_evals=100, dropout=0.2
        ),
        base=Cell(
            n_frames=4_000_000,
            hidden=576,
            n_layers=8,
            n_heads=4,
            precision="bf16",
            head_rule="floor",
        ),
        axes=_axes(
            (10_000, 100_000, 1_000_000, 4_000_000),
            (6, 15, 30, 63, 126, 255, 576, 1024),
            (1, 2, 4, 8, 16),
            (1, 2, 4, 8),
            ("bf16", "fp32"),
        ),
        **_protocols(576),
        grid=GridConfig(
            hidden=(30, 63, 126, 255, 576, 1024, 2048),
            n_frames=(10_000, 40_000, 160_000, 640_000, 1_600_000, 4_000_000),
            anchors=((30, 10_000), (30, 4_000_000), (255, 160_000), (2048, 10_000)),
            slices=(
                (1e15, (63, 126, 255, 400, 576)),
                (4e15, (126, 255, 400, 576, 1024)),
                (1.6e16, (255, 400, 576, 1024, 1448)),
                (4e16, (400, 576, 832, 1200, 2048)),
            ),
            scan_hours=(0.2, 0.4, 0.8, 1.6),
            train=TrainConfig(batch_size=16, learning_rate=7.3e-4, n_evals=30, dropout=0.2),
        ),
    ),
}


def get_profile(name: str) -> Profile:
    """The profile of that name.

    Raises
    ------
    CobeError
        No profile has that name.
    """
    if name not in PROFILES:
        raise CobeError(f"profile {name!r}: unknown; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
