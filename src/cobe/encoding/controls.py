"""Control features: what plain pixels, buttons, the level and slowness alone explain."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for, seed_for
from cobe.core.timing import CLIP_SPAN_FRAMES

N_BUTTONS = 12
CHUNK_CLIPS = 256


@dataclass(frozen=True)
class Control:
    """A control band, and the question that it answers.

    Attributes
    ----------
    name : str
        Name in tables.
    made_by : str
        ``module:function`` that makes it.
    rate : str
        ``"clip"``: goes to volumes by `cobe.encoding.clips_to_trs`; ``"volume"``: is there already.
    question : str
        What a model must beat it to show.
    """

    name: str
    made_by: str
    rate: str
    question: str


CONTROLS = (
    Control(
        "untrained",
        "cobe.video.features:hidden_states",
        "clip",
        "does training matter, or is it the network's shape? (the same GPT with initial weights)",
    ),
    Control(
        "vq",
        "cobe.video.features:code_embeddings",
        "clip",
        "does the GPT add to the tokens that it reads?",
    ),
    Control(
        "pixel_pca",
        "cobe.encoding.controls:pixel_pca",
        "clip",
        "does the network add to a linear summary of the pixels?",
    ),
    Control(
        "lowlevel",
        "cobe.stimulus.lowlevel:clip_features",
        "clip",
        "is it luminance, contrast and motion energy?",
    ),
    Control(
        "buttons",
        "cobe.encoding.controls:buttons",
        "clip",
        "is it the hands?",
    ),
    Control(
        "level_and_time",
        "cobe.encoding.controls:level_and_time",
        "clip",
        "is it the level, or drift over the run and the repetition?",
    ),
    Control(
        "confounds",
        "cobe.encoding.controls:confound_band",
        "volume",
        "is it head motion or another nuisance that moves with the game?",
    ),
    Control(
        "autocorrelation_only",
        "cobe.encoding.controls:autocorrelation_only",
        "clip",
        "is it slowness alone? at chance unless the split leaks",
    ),
)
"""Every control band: where it comes from and what it is for."""


@dataclass(frozen=True)
class PixelPCA:
    """Principal components of small clips, never whitened.

    Attributes
    ----------
    mean : float32 array of shape (n_pixels,)
        Mean of the training clips.
    components : float32 array of shape (n_components, n_pixels)
        Orthonormal, by falling variance.
    explained_variance : float32 array of shape (n_components,)
        Variance of each component in the training clips.
    grid : tuple of int
        Time bins, rows and columns that a clip is averaged to.
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    grid: tuple[int, int, int]


def fit_pixel_pca(clips_train, n_components, seed=0, grid=(4, 16, 16)):
    """Find the principal components of training clips.

    Clips are averaged to a coarse grid first, in colour. Components keep their variance: whitening
    would hand the ridge a noise direction as loud as the picture, and make the control unfairly
    weak.

    Parameters
    ----------
    clips_train : uint8 array of shape (n_clips, 16, height, width, 3)
        Clips of the training side only.
    n_components : int
        Components to keep.
    seed : int
        Seed of the randomised decomposition.
    grid : tuple of int
        Time bins, rows and columns; each must divide the clip.

    Returns
    -------
    model : PixelPCA

    Raises
    ------
    CobeError
        The clips do not fit the grid, or are too few for so many components.
    """
    pixels = _pool(clips_train, grid)
    if not 1 <= n_components < min(pixels.shape):
        raise CobeError(
            f"pixel_pca: {n_components} components of {pixels.shape[0]} clips with "
            f"{pixels.shape[1]} "
            "values; give more clips or ask for fewer components"
        )
    few = n_components < 0.1 * min(pixels.shape)
    pca = PCA(
        n_components,
        whiten=False,
        svd_solver="randomized" if few else "full",
        random_state=seed_for(seed, "pixel_pca") % 2**32,
    ).fit(pixels)
    return PixelPCA(
        pca.mean_.astype(np.float32),
        pca.components_.astype(np.float32),
        pca.explained_variance_.astype(np.float32),
        tuple(grid),
    )


def pixel_pca(model, clips):
    """Scores of clips on components found elsewhere.

    Parameters
    ----------
    model : PixelPCA
        From `fit_pixel_pca`.
    clips : uint8 array of shape (n_clips, 16, height, width, 3)
        Clips of the size that the model was fitted on.

    Returns
    -------
    features : float32 array of shape (n_clips, n_components)
    """
    return (_pool(clips, model.grid) - model.mean) @ model.components.T


def _pool(clips, grid):
    """Clips averaged to a grid: float32 (n_clips, n_pixels), 0 to 1."""
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
        raise CobeError(
            f"clips: {clips.dtype} {clips.shape}; give uint8 (n_clips, 16, height, width, 3)"
        )
    if any(size % bins for size, bins in zip(clips.shape[1:4], grid, strict=True)):
        raise CobeError(
            f"clips: {clips.shape[1:4]} does not divide into {grid}; choose another grid"
        )
    t, h, w = (size // bins for size, bins in zip(clips.shape[1:4], grid, strict=True))
    pooled = np.empty((len(clips), *grid, 3), np.float32)
    for i in range(0, len(clips), CHUNK_CLIPS):  # bounds the float copy of the clips
        part = clips[i : i + CHUNK_CLIPS].reshape(-1, grid[0], t, grid[1], h, grid[2], w, 3)
        pooled[i : i + CHUNK_CLIPS] = part.sum(axis=(2, 4, 6), dtype=np.uint32)
    return pooled.reshape(len(clips), -1) / np.float32(255 * t * h * w)


def buttons(pressed, n_clips):
    """How long each button was held in a clip, and how often it switched.

    Parameters
    ----------
    pressed : bool array of shape (n_frames, 12)
        Keys of one repetition at 60 Hz, frame 0 first.
    n_clips : int
        Clips of the repetition; clip ``c`` has the frames ``[64 c, 64 (c + 1))``.

    Returns
    -------
    features : float32 array of shape (n_clips, 24)
        12 times the fraction of frames that the button was down, then 12 times the number of
        presses and releases in the clip. A switch between two clips belongs to the later one.

    Raises
    ------
    CobeError
        The frames do not hold so many clips, or there are not 12 buttons.
    """
    pressed = np.asarray(pressed, bool)
    if pressed.ndim != 2 or pressed.shape[1] != N_BUTTONS:
        raise CobeError(f"buttons: shape {pressed.shape}; give (n_frames, {N_BUTTONS})")
    n_frames = n_clips * CLIP_SPAN_FRAMES
    if len(pressed) < n_frames:
        raise CobeError(
            f"buttons: {len(pressed)} frames hold {len(pressed) // CLIP_SPAN_FRAMES} clips, not "
            f"{n_clips}; give the keys of the same repetition"
        )
    pressed = pressed[:n_frames]
    switched = np.zeros_like(pressed)
    switched[1:] = pressed[1:] != pressed[:-1]
    held = pressed.reshape(n_clips, CLIP_SPAN_FRAMES, N_BUTTONS).mean(axis=1)
    switches = switched.reshape(n_clips, CLIP_SPAN_FRAMES, N_BUTTONS).sum(axis=1)
    return np.concatenate([held, switches], axis=1).astype(np.float32)


def level_and_time(clip_table, levels, run_s):
    """Which level is played, and how far the run and the repetition have come.

    Levels follow each other in a fixed order, so the level and the time in the run are confounded
    with each other and with slow drifts: this control says how much that alone explains.

    Parameters
    ----------
    clip_table : DataFrame
        One row per clip: subject, session, run, row, level, start_s, end_s.
    levels : sequence of str
        The levels, in the order of the columns; the same for every subject.
    run_s : float
        Length that time in the run is scaled by, in seconds; the same for every run.

    Returns
    -------
    features : float32 array of shape (n_clips, n_levels + 4)
        One indicator per level; Legendre polynomials of order 1 to 3 of the clip's middle over the
        run (-1 at its start, 1 at `run_s`); time since the repetition began, in units of `run_s`.

    Raises
    ------
    CobeError
        The table has a level that is not listed, or the length is not positive.
    """
    unknown = sorted(set(clip_table["level"]) - set(levels))
    if unknown:
        raise CobeError(f"levels {', '.join(unknown)}: not listed in {list(levels)}; list them")
    if not run_s > 0:
        raise CobeError(f"run_s: {run_s} must be positive; give the longest run in seconds")
    level = clip_table["level"].to_numpy()[:, None] == np.asarray(levels, object)
    middle = (clip_table["start_s"] + clip_table["end_s"]).to_numpy(float) / 2
    drifts = np.polynomial.legendre.legvander(2 * middle / run_s - 1, 3)[:, 1:]
    repetition = ["subject", "session", "run", "row"]
    began = clip_table.groupby(repetition, sort=False)["start_s"].transform("min").to_numpy(float)
    since = (clip_table["start_s"].to_numpy(float) - began) / run_s
    return np.column_stack([level, drifts, since]).astype(np.float32)


def autocorrelation_only(clip_table, n_features, *, time_constant_s=20.0, seed=0):
    """Features that are slow and know nothing of the game.

    An Ornstein-Uhlenbeck process per feature, independent from run to run. Scored on held-out runs
    it must be at chance. Scored on shuffled volumes it is not, because neighbours of a test volume
    are in the training set: the leak that Hadidi et al. 2025 show for language models.

    Parameters
    ----------
    clip_table : DataFrame
        One row per clip: subject, session, run, start_s.
    n_features : int
        Columns to make.
    time_constant_s : float
        Seconds in which the autocorrelation falls to 1/e.
    seed : int
        Seed of the process; each run has its own stream.

    Returns
    -------
    features : float32 array of shape (n_clips, n_features)
        Unit variance.
    """
    if not (n_features >= 1 and time_constant_s > 0):
        raise CobeError(
            f"autocorrelation_only: {n_features} features with time constant {time_constant_s} s; "
            "both must be positive"
        )
    features = np.empty((len(clip_table), n_features), np.float32)
    table = clip_table.reset_index(drop=True)
    for key, run in table.groupby(["subject", "session", "run"], sort=False):
        order = run["start_s"].to_numpy(float).argsort(kind="stable")
        start_s = run["start_s"].to_numpy(float)[order]
        noise = rng_for(seed, "autocorrelation_only", *key).standard_normal((len(run), n_features))
        kept = np.exp(-np.diff(start_s) / time_constant_s)
        for i, rho in enumerate(kept, start=1):
            noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
        features[run.index.to_numpy()[order]] = noise
    return features


def confound_band(confounds):
    """Motion and other confounds of one run as features.

    Use it beside features of the game, to see what they explain beyond it
    (`cobe.encoding.unique.unique_variance`). Confounds that the responses were cleaned of, run by
    run, cannot explain them at delay 0 any more; they still can at others.

    Parameters
    ----------
    confounds : DataFrame of shape (n_trs, n_confounds)
        Numbers, one row per volume, such as `cobe.brain.bold.read_confounds` gives or columns of
        fMRIPrep's table. There, what is a difference to the volume before has none in the first
        row.

    Returns
    -------
    x : float32 array of shape (n_trs, n_confounds)
        NaN rows where a confound has no number: such volumes have no features and are counted with
        the others (`cobe.encoding.design.row_counts`); nothing is filled in.

    Raises
    ------
    CobeError
        It is no table of numbers, or a column has none at all.

    Warns
    -----
    RuntimeWarning
        Volumes after the first lack a number.
    """
    if not isinstance(confounds, pd.DataFrame) or not confounds.shape[1]:
        raise CobeError("confounds: give a DataFrame with one column per confound")
    try:
        x = confounds.to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise CobeError(f"confounds: not all numbers ({error}); choose other columns") from error
    bad = ~np.isfinite(x)
    if bad.all(axis=0).any():
        named = ", ".join(map(str, confounds.columns[bad.all(axis=0)]))
        raise CobeError(f"confounds {named}: no number in any volume; leave them out")
    gone = bad.any(axis=1)
    if gone[1:].any():
        named = ", ".join(map(str, confounds.columns[bad[1:].any(axis=0)][:5]))
        warnings.warn(
            f"confounds: {int(gone[1:].sum())} of {len(x)} volumes after the first lack a number "
            f"in {named}; they count as volumes without features",
            RuntimeWarning,
            stacklevel=2,
        )
    x[gone] = np.nan
    return x.astype(np.float32)
