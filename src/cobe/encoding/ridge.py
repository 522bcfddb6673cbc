"""Run-aware ridge regression: what a user fits, and the model that comes out.

The arithmetic is in `cobe.encoding.solver`.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from cobe.core.errors import CobeError
from cobe.encoding.banded import (
    band_numbers,
    check_band_weights,
    check_mapping,
    sample_band_weights,
)
from cobe.encoding.delays import check_delays, delayed_rows
from cobe.encoding.design import build_design, check_alphas
from cobe.encoding.engines import solve_himalaya
from cobe.encoding.solver import Part, solve
from cobe.encoding.splits import has_rows, is_no_label

EDGE_SHARE = 0.1
ENGINES = ("cobe", "himalaya")
N_BAND_WEIGHTS = 20


@dataclass(frozen=True)
class RidgeResult:
    """A fitted ridge model.

    Attributes
    ----------
    weights : array of shape (n_delays * n_features, n_targets)
        All features at the first delay, then at the second, and so on; NaN for unusable targets.
    intercept : array of shape (n_targets,)
        Response where all features are 0.
    alphas : float64 array of shape (n_targets,)
        Chosen penalty, NaN for unusable targets.
    cv_scores : float64 array of shape (n_targets,)
        Cross-validated R2 of the chosen penalty, against the mean of the training rows.
    cv_mse : float64 array of shape (n_alphas, n_targets)
        Mean squared error on left-out rows, averaged over folds.
    grid : float64 array of shape (n_alphas,)
        Penalties tried, ascending.
    alpha_scale : float
        What the penalties were multiplied by in the refit: 1, or the mean variance of the columns.
    n_alpha_low, n_alpha_high : int
        Usable targets whose penalty is the smallest, the largest of the grid (0 if it has only
        one).
    missing_targets, constant_targets : int arrays
        Targets that are NaN throughout a run, or never change: not scored.
    delays_tr : tuple of int
        Delays in volumes.
    n_rows : int array of shape (n_runs,)
        Rows of each run that counted.
    form : str
        ``"primal"``, ``"dual"`` or ``"himalaya"``.
    bands : tuple of str
        Names of the bands, empty without.
    band_weights : float64 array of shape (n_targets, n_bands) or None
        As chosen: a column of band ``b`` is penalised by ``alpha_scale * alphas / band_weights``,
        and has weight 0 where the band has.
    """

    weights: np.ndarray
    intercept: np.ndarray
    alphas: np.ndarray
    cv_scores: np.ndarray
    cv_mse: np.ndarray
    grid: np.ndarray
    alpha_scale: float
    n_alpha_low: int
    n_alpha_high: int
    missing_targets: np.ndarray
    constant_targets: np.ndarray
    delays_tr: tuple[int, ...]
    n_rows: np.ndarray
    form: str
    bands: tuple[str, ...] = ()
    band_weights: np.ndarray | None = None

    def predict(self, runs_x):
        """Predicted responses of runs.

        Parameters
        ----------
        runs_x : list of arrays of shape (n_trs, n_features)
            NaN rows where there are no features.

        Returns
        -------
        runs_y : list of arrays of shape (n_trs, n_targets)
            NaN rows where a delayed row is missing, NaN columns for unusable targets.
        """
        n_features = len(self.weights) // len(self.delays_tr)
        predicted = []
        for i, x in enumerate(runs_x):
            x = np.asarray(x)
            if x.ndim != 2 or x.shape[1] != n_features:
                raise CobeError(
                    f"run {i}: shape {x.shape}, but the model has {n_features} features; "
                    "give what it was fitted on"
                )
            if max(self.delays_tr) >= len(x):
                raise CobeError(
                    f"run {i}: delay {max(self.delays_tr)} does not fit its {len(x)} volumes; "
                    "leave the run out"
                )
            rows = delayed_rows(~np.isnan(x).any(axis=1), self.delays_tr)
            stacked = np.concatenate([x[rows - d] for d in self.delays_tr], axis=1)
            y = np.full((len(x), self.weights.shape[1]), np.nan, self.weights.dtype)
            # What the intercept takes off again can be large: only what is left is multiplied in
            # the model's own precision.
            offset = stacked.mean(axis=0, dtype=float)
            around = (stacked - offset.astype(stacked.dtype)).astype(self.weights.dtype, copy=False)
            taken = offset.astype(stacked.dtype).astype(float) @ self.weights.astype(float)
            y[rows] = around @ self.weights + (taken + self.intercept)
            predicted.append(y)
        return predicted


def fit(
    runs_x,
    runs_y,
    *,
    groups,
    delays_tr,
    alphas,
    bands=None,
    band_weights=N_BAND_WEIGHTS,
    seed=0,
    engine="cobe",
    client=None,
    dtype=np.float32,
    relative_alphas=False,
    device="cpu",
):
    """Fit ridge regression with one penalty per target, chosen by leave-one-group-out.

    Each fold leaves one group of runs out and centres features and responses by the means of its
    own training rows (an intercept per fold). A target's penalty is the one with the smallest mean
    squared error on left-out rows, averaged over folds with equal weight (as himalaya and
    scikit-learn's GridSearchCV do). The model is then refitted on all rows.

    With `bands` every candidate of band weights is tried with every penalty on the same folds, and
    each target takes the best pair (banded ridge).

    Parameters
    ----------
    runs_x : list of arrays of shape (n_trs, n_features)
        Features of each run. A NaN in a row marks the volume as missing; rows whose delays reach
        into missing volumes or before the run are left out. Columns are not rescaled. A function
        without arguments that returns the array may stand for it; with a `client` also a future or
        a delayed object.
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses of each run, likewise; rows that are NaN in all targets are left out. A target
        that is NaN throughout a run is reported and not fitted.
    groups : sequence of hashable
        One label per run; runs of one label are left out together. At least two labels.
    delays_tr : sequence of int
        Delays in volumes; positive means that the brain answers later.
    alphas : sequence of float
        Penalties to choose from, positive.
    bands : mapping of str to slice or sequence of int, or None
        Columns of each band among the features before delays; each feature in one band.
    band_weights : int, or array of shape (n_candidates, n_bands)
        How many candidates to draw with `cobe.encoding.banded.sample_band_weights` (equal weights
        and each band alone among them), or a grid: rows of weights, 0 or more, that sum to 1.
    seed : int
        Seed of the draw.
    engine : str
        ``"cobe"``, or ``"himalaya"`` for its RidgeCV and GroupRidgeCV on the same rows, folds and
        penalties; those compute with himalaya's current backend, cannot take a band weight of 0
        (none is drawn for them) nor relative penalties, and tell `cv_mse` only of the chosen
        penalty (NaN elsewhere).
    client : distributed.Client or None
        Compute on a Dask cluster: products where a run's data lies, one decomposition per fold,
        then blocks of targets. See `cobe.encoding.distributed`.
    dtype : numpy dtype
        float32 or float64.
    relative_alphas : bool
        Multiply the penalties by the mean variance of the delayed columns in the training rows
        (before band weights), so that one grid serves features of any scale.
    device : str or torch.device
        Where to compute.

    Returns
    -------
    result : RidgeResult

    Raises
    ------
    CobeError
        Widths differ, groups do not match, fewer than two groups, no valid row in a run, infinite
        values, a delay longer than a run, a penalty that is not positive: named with its run. Bands
        that do not divide the features, band weights off the simplex, an unknown engine, or options
        that the engine or the client cannot serve.

    Warns
    -----
    RuntimeWarning
        More than a tenth of the targets chose a penalty at one edge of the grid; or a penalty was
        chosen that is below single precision.
    """
    grid = check_alphas(alphas)
    delays = check_delays(delays_tr)
    groups = list(groups)
    if any(has_rows(label) or is_no_label(label) for label in groups):
        raise CobeError(
            "groups: give one label per run, and none empty; labels per volume are for "
            "cobe.encoding.evaluate"
        )
    check_engine(engine, client, relative_alphas, device)
    candidates = None if bands is None else check_candidates(bands, band_weights, seed, engine)
    options = (grid, relative_alphas, bands, candidates)
    if client is not None:
        from cobe.encoding.distributed import fit_runs  # Dask takes a second to import

        found = fit_runs(client, runs_x, runs_y, groups, delays, *options, dtype, device)
    else:
        found = _fit_here(runs_x, runs_y, groups, delays, *options, dtype, device, engine)
    solution, x_shift, y_shift, missing, n_rows = found
    low, high = solution.edges()
    warn_edges(grid, low.sum(), high.sum(), np.isfinite(solution.alphas).sum())
    weights = solution.weights.cpu().numpy()
    # Shifts can be large beside what is left, so the intercept is in double precision.
    intercept = solution.intercept.cpu().numpy().astype(float) + y_shift - x_shift @ weights
    return RidgeResult(
        weights=weights,
        intercept=intercept,
        alphas=solution.alphas,
        cv_scores=solution.cv_scores,
        cv_mse=solution.cv_mse,
        grid=grid,
        alpha_scale=solution.alpha_scale,
        n_alpha_low=int(low.sum()),
        n_alpha_high=int(high.sum()),
        missing_targets=np.flatnonzero(missing),
        constant_targets=np.flatnonzero(solution.constant),
        delays_tr=delays,
        n_rows=np.asarray(n_rows),
        form=solution.form,
        bands=() if bands is None else tuple(bands),
        band_weights=solution.band_weights,
    )


def _fit_here(
    runs_x, runs_y, groups, delays, grid, relative, bands, candidates, dtype, device, engine
):
    """Solution, shifts of x and y (float64), missing targets, rows of each run."""
    runs_x, runs_y = (
        [run() if callable(run) else run for run in runs] for runs in (runs_x, runs_y)
    )
    design = build_design(runs_x, runs_y, groups, delays, dtype, device)
    columns = None
    if bands is not None:
        columns = np.tile(band_numbers(bands, np.shape(runs_x[0])[1]), len(delays))
    labels = list(dict.fromkeys(groups))
    parts = [
        Part(x, y, labels.index(g)) for x, y, g in zip(design.x, design.y, groups, strict=True)
    ]
    if engine == "cobe":
        solution = solve(parts, grid, design.missing, relative, columns, candidates)
    else:
        solution = solve_himalaya(parts, grid, design.missing, columns, candidates)
    shifts = [shift.cpu().numpy().astype(float) for shift in (design.x_shift, design.y_shift)]
    return solution, *shifts, design.missing, [len(rows) for rows in design.rows]


def check_candidates(bands, band_weights, seed, engine):
    """Rows of band weights to try, drawn if a number of them is given."""
    check_mapping(bands)
    n_bands = len(bands)
    if isinstance(band_weights, int | np.integer):
        return sample_band_weights(n_bands, band_weights, seed, corners=engine == "cobe")
    candidates = check_band_weights(band_weights, n_bands)
    if engine == "himalaya" and (candidates == 0).any():
        row = int(np.flatnonzero((candidates == 0).any(axis=1))[0])
        raise CobeError(
            f"band_weights: row {row} has a weight of 0, which himalaya cannot take; leave the row "
            "out or use engine='cobe'"
        )
    return candidates


def check_engine(engine, client, relative_alphas, device):
    """Refuse an unknown engine, and what the engine or client cannot do."""
    if engine not in ENGINES:
        raise CobeError(f"engine: {engine!r} is unknown; give one of {', '.join(ENGINES)}")
    if client is not None and not (hasattr(client, "submit") and hasattr(client, "gather")):
        raise CobeError(
            f"client: {type(client).__name__} is no Dask client; give a distributed.Client, "
            "such as from cobe.core.cluster.cluster_client"
        )
    if engine == "cobe":
        return
    for name, given, remedy in (
        ("client", client is not None, "give client=None"),
        ("relative_alphas", relative_alphas, "it takes one grid for all folds; give False"),
        ("device", str(device) != "cpu", "choose himalaya's own backend instead"),
    ):
        if given:
            raise CobeError(f"{name}: not with engine 'himalaya'; {remedy} or use engine='cobe'")


def warn_edges(grid, n_low, n_high, n_fits, what="targets"):
    """Name the edge of the grid that more than a tenth of the fits chose."""
    for n, edge, alpha, remedy in (
        (n_low, "lower", grid[0], "smaller"),
        (n_high, "upper", grid[-1], "larger"),
    ):
        if n > EDGE_SHARE * n_fits:
            warnings.warn(
                f"alphas: {n} of {n_fits} {what} chose {alpha:g}, the {edge} edge of the grid; "
                f"add {remedy} penalties unless these targets follow no feature",
                RuntimeWarning,
                stacklevel=3,
            )
