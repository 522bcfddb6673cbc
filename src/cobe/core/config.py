"""What a profile, a cell and a protocol are: frozen dataclasses, data and not branches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from cobe.core.timing import CLIP_FRAMES


@dataclass(frozen=True)
class Cell:
    """One video model: what it was trained on, its shape, its precision, its seed.

    Attributes
    ----------
    n_frames : int
        60 Hz emulator frames in the training subset.
    scheme : str
        How the subset is drawn, always nested: ``"stratified"`` (balanced over subjects and runs),
        ``"prefix"`` (in list order, as published) or ``"single"`` (one subject, balanced over its
        runs).
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
    n_steps : int
        Optimiser steps, and with them the length of the schedule; 0: as `TrainConfig` says.
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
    n_steps: int = 0

    @property
    def name(self) -> str:
        """Short unique name, safe as a file name."""
        frames = f"{self.n_frames}f" if self.trained else "untrained"
        floored = "floored" if self.head_rule == "floor" else ""
        shape = f"h{self.hidden}-l{self.n_layers}-a{self.n_heads}{floored}"
        steps = f"-{self.n_steps}u" if self.n_steps else ""
        return f"{frames}-{shape}-{self.precision}-{self.scheme}-s{self.seed}{steps}"

    def untrained(self) -> Cell:
        """The control of the same shape: precision, data and scheme do not touch it."""
        given = {"n_frames": 0, "precision": "fp32", "scheme": "stratified", "n_steps": 0}
        return replace(self, **given, trained=False)


@dataclass(frozen=True)
class Protocol:
    """How cells are trained for a comparison, and scored against the brain.

    Attributes
    ----------
    name : str
        Name in tables and captions.
    scheme : str
        How training subsets smaller than the base cell's are drawn (`Cell.scheme`).
    updates : str
        ``"steps"``: as many optimiser steps for every cell; ``"epochs"``: as many passes over its
        data as the base cell makes, so that steps grow with the data.
    holdout : str
        What is held out: ``"session"``, ``"run"``, or ``"volumes"``, drawn at random, which leaks.
    test_fraction : float
        Share of the volumes that is held out at random.
    readout : str
        GPT block that is read: ``"nested"``: chosen among all, inside the training rows;
        ``"middle"``: block ``n_layers // 2`` counted from 0; ``"last"``.
    branch : str
        ``"residual"``: the output of the block; ``"mlp"``: its MLP branch before it is added.
    pooling : str
        How a clip's tokens become one vector: ``"mean"`` over all tokens, or ``"pca"``: principal
        components of all tokens, fitted on the video model's training sessions (for every cell on
        all of them).
    n_features : int or None
        Features of every model, whatever its width; None: as many as the pooling gives.
    delays_tr : tuple of int
        Delays in TR, positive = the brain answers later.
    alphas : tuple of float
        Ridge penalties to choose from.
    alpha_per_target : bool
        False: one penalty for all parcels.
    relative_alphas : bool
        Penalties in units of the mean variance of the columns, so that one grid serves features of
        any scale.
    summary : str
        What stands for a subject: the ``"mean"`` or the ``"max"`` over parcels.
    n_permutations : int
        Block permutations for p-values and chance levels.
    block_trs : int
        Length of a permuted block, in TR.
    confounds : str
        Name of the confound strategy of `cobe.brain.confounds`.
    smoothing_mm : float or None
        Full width at half maximum of the smoothing of volumes.
    seed : int
        Seed of random splits, permutations and bootstrap.
    """

    name: str
    scheme: str = "stratified"
    updates: str = "steps"
    holdout: str = "session"
    test_fraction: float = 0.1
    readout: str = "nested"
    branch: str = "residual"
    pooling: str = "pca"
    n_features: int | None = None
    delays_tr: tuple[int, ...] = (1, 2, 3, 4, 5)
    alphas: tuple[float, ...] = tuple(10.0**k for k in range(0, 8))
    alpha_per_target: bool = True
    relative_alphas: bool = True
    summary: str = "mean"
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
class GridConfig:
    """The joint grid of model size and frames, crossed with the scan time of the ridge.

    Attributes
    ----------
    hidden : tuple of int
        Widths; depth, heads and precision are the base cell's.
    n_frames : tuple of int
        Frames of the nested training subsets.
    passes : float
        Passes over the clips of its subset that every cell of the grid makes. Up to 4 are worth
        nearly as much as fresh data (Muennighoff 2023, arXiv 2305.16264).
    anchors : tuple of (int, int)
        Widths and frames of the cells that are repeated with other seeds.
    seeds : tuple of int
        Seeds of these repeats, besides the base cell's.
    slices : tuple of (float, tuple of int)
        Budgets in FLOP, and the widths that are trained for each, on the largest subset.
    scan_hours : tuple of float
        Hours of fMRI that the ridge is trained on, nested.
    train : TrainConfig
        Of all cells; a cell's own steps take the place of its.
    """

    hidden: tuple[int, ...]
    n_frames: tuple[int, ...]
    anchors: tuple[tuple[int, int], ...]
    slices: tuple[tuple[float, tuple[int, ...]], ...]
    scan_hours: tuple[float, ...]
    train: TrainConfig
    passes: float = 4.0
    seeds: tuple[int, ...] = (1, 2)


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
        How cells are scored: ``corrected``.
    published : Protocol
        How the paper trained and scored them, as far as it is known: ``as_published``.
    published_by_axis : tuple of (str, Protocol)
        Axes whose figure was made in another way than the others.
    grid : GridConfig
        The joint grid of model size, frames and scan time.
    seeds : tuple of int
        Seeds of the repeats of the base cell, its own first.
    """

    name: str
    plan: PlayPlan | None
    video_sessions: int
    vqvae: VQVAEConfig
    train: TrainConfig
    base: Cell
    axes: tuple[Axis, ...]
    protocol: Protocol
    published: Protocol
    published_by_axis: tuple[tuple[str, Protocol], ...]
    grid: GridConfig
    seeds: tuple[int, ...] = (0, 1, 2)

    def published_for(self, axis: str) -> Protocol:
        """The protocol ``as_published`` of one axis."""
        return dict(self.published_by_axis).get(axis, self.published)

    def as_dict(self) -> dict:
        """The whole profile as plain nested data."""
        return asdict(self)


def axis_cells(profile: Profile, axis: Axis, protocol: Protocol | None = None) -> list[Cell]:
    """The trained cells of one axis, in the order of its levels; the base cell is one of them.

    Parameters
    ----------
    profile, axis
        The base cell, and what varies.
    protocol : Protocol or None
        How smaller training subsets are drawn and for how long they are trained; None: as
        ``corrected`` does. The base cell is the same under every protocol.
    """
    how = profile.protocol if protocol is None else protocol
    base, cells = profile.base, []
    for level in axis.levels:
        cell = replace(base, **{axis.field: level})
        if cell.n_frames < base.n_frames:
            cell = replace(cell, scheme=how.scheme, n_steps=_steps(profile, how, cell))
        cells.append(cell)
    return cells


def _steps(profile: Profile, protocol: Protocol, cell: Cell) -> int:
    """Steps of a smaller subset: 0 as all others, or in proportion to its frames."""
    if protocol.updates == "steps":
        return 0
    return max(1, round(profile.train.n_steps * cell.n_frames / profile.base.n_frames))
