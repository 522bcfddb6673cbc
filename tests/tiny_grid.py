"""A joint grid so small that tests can train it, on tokens without a VQ-VAE."""

from dataclasses import replace

import numpy as np

from cobe.core.artifacts import Store
from cobe.core.config import Cell, GridConfig, TrainConfig, VQVAEConfig
from cobe.core.profiles import PROFILES
from cobe.sweep.grid import train_grid
from cobe.sweep.pipeline import Pipeline
from cobe.video.tokens import clip_table
from cobe.video.tokenset import write_token_set

N_CLIPS = 30
GRID = GridConfig(
    hidden=(4, 8),
    n_frames=(640, 1920),
    passes=4.0,
    anchors=((4, 640),),
    seeds=(7,),
    slices=((3e7, (4, 8)),),
    scan_hours=(0.025, 0.05),
    train=TrainConfig(batch_size=4, n_evals=3, dropout=0.0),
)
PROFILE = replace(
    PROFILES["smoke"],
    vqvae=VQVAEConfig(
        resolution=16, downsample=(8, 8, 8), n_hiddens=8, n_res_blocks=1, n_codes=16, code_dim=4
    ),
    base=Cell(n_frames=1920, hidden=8, n_layers=2, n_heads=2),
    protocol=replace(PROFILES["smoke"].protocol, n_features=6, delays_tr=(2, 3)),
    grid=GRID,
)
ROLES = {"ses-001": "video_train", "ses-002": "video_val"}


def quiet(root):
    return Store(root, announce=lambda line: None)


def clips_of_two_subjects():
    """Five sessions of one repetition for each: training, validation, three for the ridge."""
    table = clip_table(
        (f"sub-{s}", f"ses-00{session}", 1, 0, "1-0", 0.0, 64 * N_CLIPS * (3 if session > 2 else 1))
        for s in (1, 2)
        for session in range(1, 6)
    )
    return table.assign(role=table.session.map(ROLES).fillna("ridge"))


def pipeline(root, profile=PROFILE):
    """A pipeline with a store under `root`, and the artifact of its tokens."""
    store = quiet(root)
    rng = np.random.default_rng(0)
    clips = clips_of_two_subjects()
    codes = rng.integers(0, 16, (len(clips), 2, 2, 2)).astype(np.uint16)
    codes[1:, 0] = codes[:-1, 0] // 2  # something to learn
    codebook = rng.standard_normal((16, 4)).astype(np.float32)
    tokens = store.make(
        "tokens",
        params={},
        write=lambda path: write_token_set(path, codes, clips, codebook, "none"),
        suffix=".safetensors",
    )
    return Pipeline(profile, store, root, None), tokens


def slow_profile():
    """The same with a last cell that takes many seconds."""
    return replace(PROFILE, grid=replace(GRID, slices=((3e7, (4, 8)), (3e8, (8,)))))


def train_slowly(root):
    """What the test of a kill runs in a process of its own."""
    made, tokens = pipeline(root, slow_profile())
    train_grid(made, tokens)
