"""Profiles, cells and protocols: frozen dataclasses, data and not branches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_FRAMES


@dataclass(frozen=True)
class Cell:
    """One video model: what it was trained on, its shape, its precision, its seed.

    Attributes
    ----------
    n_frames : int
        60 Hz emulator frames in the training subset.
    scheme : str
        How the subset is drawn: ``"stratified"`` (nested, balanced over subjects and runs).
    hidden, n_layers, n_heads : int
        Width, depth and attention heads of the GPT.
    precision : str
        ``"fp32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``.
    seed : int
        Seed of the initial weights and of the order of the training windows.
    trained : bool
        False: the initial weights, untouched, as a control of the same shape.
    head_rule : str
        ``"divide"``: hidden must be a multiple of n_heads. ``"floor"``: a head has
        ``hidden // n_heads`` channels, so that attention is narrower than hidden where it is no
        multiple (as in the paper's code, whose widths 6 ... 255 have 4 heads).
    """

    n_frames: int
    hidden: int
    n_layers: int
    n_heads: int
    precision: str = "fp32"
    scheme: str = "stratified"
    seed: int = 0
    trained: bool = True
    head_rule: str = "divide"

    @property
    def name(self) -> str:
        """Short unique name, safe as a file name."""
        frames = f"{self.n_frames}f" if self.trained else "untrained"
        floored = "floored" if self.head_rule == "floor" else ""
        shape = f"h{self.hidden}-l{self.n_layers}-a{self.n_heads}{floored}"
        return f"{frames}-{shape}-{self.precision}-{self.scheme}-s{self.seed}"

    def untrained(self) -> Cell:
        """The control of the same shape: precision, data and scheme do not touch it."""
        return replace(self, n_frames=0, precision="fp32", scheme="stratified", trained=False)


@dataclass(frozen=True)
class Protocol:
    """How a cell is scored against the brain.

    Attributes
    ----------
    name : str
        Name in tables and captions.
    holdout : str
        What is held out: ``"session"`` or ``"run"``.
    pooling : str
        How a clip's tokens become one vector: ``"mean"`` over all tokens.
    block : int
        GPT block that is read, counted from 0; negative counts from the last.
    delays_tr : tuple of int
        Delays in TR, positive = the brain answers later.
    alphas : tuple of float
        Ridge penalties to choose from, one per target.
    relative_alphas : bool
        Penalties in units of the mean variance of the columns, so that one grid serves features of
        any scale.
    n_permutations : int
        Block permutations for p-values and chance levels.
    block_trs : int
        Length of a permuted block, in TR.
    confounds : str
        Name of the confound strategy of `cobe.brain.confounds`.
    smoothing_mm : float or None
        Full width at half maximum of the smoothing of volumes.
    seed : int
        Seed of permutations and bootstrap.
    """

    name: str
    holdout: str = "session"
    pooling: str = "mean"
    block: int = -1
    delays_tr: tuple[int, ...] = (1, 2, 3, 4, 5)
    alphas: tuple[float, ...] = tuple(10.0**k for k in range(0, 8))
    relative_alphas: bool = True
    n_permutations: int = 500
    block_trs: int = 40
    confounds: str = "minimal"
    smoothing_mm: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class PlayPlan:
    """What the simulated participants do in the scanner.

    Attributes
    ----------
    subjects : tuple of str
        Participant labels with the ``sub-`` prefix.
    sessions : tuple of (str, int)
        Session label with the ``ses-`` prefix, and its number of runs.
    repetitions_per_run : int
        Plays in one run.
    repetition_s : float
        Length of one play in seconds.
    voxel_mm : float
        Edge of a voxel of the simulated BOLD.
    n_parcels : int
        Parcels of the grey-matter clustering.
    seed : int
        Seed of play, planted weights and noise.
    """

    subjects: tuple[str, ...]
    sessions: tuple[tuple[str, int], ...]
    repetitions_per_run: int
    repetition_s: float
    voxel_mm: float = 6.0
    n_parcels: int = 240
    seed: int = 20241017


@dataclass(frozen=True)
class VQVAEConfig:
    """Shape and training of the VQ-VAE.

    Attributes
    ----------
    resolution : int
        Height and width of a frame in pixels.
    downsample : tuple of int
        Stride over (time, height, width), powers of two.
    n_hiddens, n_res_blocks : int
        Channels, and attention residual blocks on each side.
    n_codes, code_dim : int
        Size of the codebook and of one code.
    n_steps, batch_size : int
        Optimiser steps and clips in a step.
    learning_rate : float
        Peak of the cosine schedule (AdamW).
    seed : int
        Seed of weights, codebook and order of clips.
    quantizer : str
        ``"vq"``: a learned codebook by exponential moving averages. ``"fsq"``: finite scalar
        quantisation, every latent channel rounded to a few levels.
    levels : tuple of int
        Levels of the FSQ channels, whose product is n_codes; empty: 8 and 16 as they fit.
    flat_kernel : int
        Kernel along an axis that a strided convolution does not stride: 3, or 4 as in VideoGPT,
        which pads unevenly for it.
    """

    resolution: int = 64
    downsample: tuple[int, int, int] = (4, 16, 16)
    n_hiddens: int = 32
    n_res_blocks: int = 1
    n_codes: int = 512
    code_dim: int = 32
    n_steps: int = 800
    batch_size: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    quantizer: str = "vq"
    levels: tuple[int, ...] = ()
    flat_kernel: int = 3

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens of one 16-frame clip over (time, height, width)."""
        size = (CLIP_FRAMES, self.resolution, self.resolution)
        return tuple(n // s for n, s in zip(size, self.downsample, strict=True))


@dataclass(frozen=True)
class TrainConfig:
    """Training of one GPT cell; the schedule's length is the run's length.

    Attributes
    ----------
    n_steps, batch_size : int
        Optimiser steps and windows in a step: equal for every cell.
    learning_rate : float
        Peak learning rate at hidden size 96; it falls with the root of the width.
    n_evals : int
        Validations in a run after one at step 0, denser at the start: small sets overfit early.
    dropout : float
        Of embeddings and residual branches.
    attention : str
        ``"sdpa"``: torch's fused attention; ``"eager"``: spelled out, as published.
    attention_dropout : float
        Of attention weights. Above 0 it keeps attention off most fused kernels.
    activation_checkpointing : bool
        Compute the blocks' activations again in the backward pass: less memory, more time.
    compile : bool
        Train through ``torch.compile``: it pays for itself in long runs on a GPU.
    tokens_once : bool
        False: encode the pixels of every batch again in every step, as published.
    """

    n_steps: int = 600
    batch_size: int = 32
    learning_rate: float = 3e-3
    n_evals: int = 16
    dropout: float = 0.1
    attention: str = "sdpa"
    attention_dropout: float = 0.0
    activation_checkpointing: bool = False
    compile: bool = False
    tokens_once: bool = True


@dataclass(frozen=True)
class Axis:
    """A quantity that a figure varies, and its levels; the base level is in it."""

    name: str
    field: str
    levels: tuple
    label: str


@dataclass(frozen=True)
class Profile:
    """Everything that one run of the pipeline needs to know.

    Attributes
    ----------
    name : str
        ``"smoke"``, ``"quick"`` or ``"paper"``.
    plan : PlayPlan or None
        The embedded default; None for data on the user's disk.
    video_sessions : int
        The first sessions of each subject train the video model; the rest belong to the ridge.
    vqvae, train : VQVAEConfig, TrainConfig
        The two video models.
    base : Cell
        The cell that all axes share.
    axes : tuple of Axis
        One per figure of the paper.
    protocol : Protocol
        How cells are scored.
    """

    name: str
    plan: PlayPlan | None
    video_sessions: int
    vqvae: VQVAEConfig
    train: TrainConfig
    base: Cell
    axes: tuple[Axis, ...]
    protocol: Protocol

    def as_dict(self) -> dict:
        """The whole profile as plain nested data."""
        return asdict(self)


def _axes(n_frames, hidden, n_layers, n_heads, precision) -> tuple[Axis, ...]:
    return (
        Axis("data_size", "n_frames", n_frames, "training data (frames)"),
        Axis("hidden_dim", "hidden", hidden, "hidden size"),
        Axis("n_layers", "n_layers", n_layers, "layers"),
        Axis("n_heads", "n_heads", n_heads, "attention heads"),
        Axis("precision", "precision", precision, "precision"),
    )


_CORRECTED = Protocol("corrected")

PROFILES = {
    "smoke": Profile(
        name="smoke",
        plan=PlayPlan(
            subjects=("sub-sim1", "sub-sim2"),
            sessions=(("ses-001", 2), ("ses-002", 1), ("ses-003", 1)),
            repetitions_per_run=3,
            repetition_s=30.0,
            n_parcels=60,
        ),
        video_sessions=1,
        vqvae=VQVAEConfig(n_hiddens=16, n_codes=128, n_steps=120, batch_size=8),
        train=TrainConfig(n_steps=60, batch_size=16, n_evals=6),
        base=Cell(n_frames=9000, hidden=32, n_layers=2, n_heads=4),
        axes=_axes((3000, 9000), (16, 32), (1, 2), (2, 4), ("bf16", "fp32")),
        protocol=replace(_CORRECTED, n_permutations=100, block_trs=20),
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
        protocol=_CORRECTED,
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
        protocol=_CORRECTED,
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


def axis_cells(profile: Profile, axis: Axis) -> list[Cell]:
    """The trained cells of one axis, in the order of its levels; the base cell is one of them."""
    return [replace(profile.base, **{axis.field: level}) for level in axis.levels]
