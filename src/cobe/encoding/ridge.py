"""Run-aware ridge regression: what a user fits, and the model that comes out.

The arithmetic is in `cobe.encoding.solver`.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from cobe.core.errors import CobeError
from cobe.encoding.delays import delayed_rows
from cobe.encoding.design import build_design, check_alphas
from cobe.encoding.solver import Part, solve

EDGE_SHARE = 0.1


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
        ``"primal"`` or ``"dual"``.
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
            y[rows] = stacked.astype(self.weights.dtype, copy=False) @ self.weights + self.intercept
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
    dtype=np.float32,
    relative_alphas=False,
    device="cpu",
):
    """Fit ridge regression with one penalty per target, chosen by leave-one-group-out.

    Each fold leaves one group of runs out and centres features and responses by the means of its
    own training rows (an intercept per fold). A target's penalty is the one with the smallest mean
    squared error on left-out rows, averaged over folds with equal weight (as himalaya and
    scikit-learn's GridSearchCV do). The model is then refitted on all rows.

    Parameters
    ----------
    runs_x : list of arrays of shape (n_trs, n_features)
        Features of each run. A NaN in a row marks the volume as missing; rows whose delays reach
        into missing volumes or before the run are left out. Columns are not rescaled.
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses of each run; rows that are NaN in all targets are left out. A target that is NaN
        throughout a run is reported and not fitted.
    groups : sequence of hashable
        One label per run; runs of one label are left out together. At least two labels.
    delays_tr : sequence of int
        Delays in volumes; positive means that the brain answers later.
    alphas : sequence of float
        Penalties to choose from, positive.
    bands : None
        Banded ridge is not built yet; anything else is an error.
    dtype : numpy dtype
        float32 or float64.
    relative_alphas : bool
        Multiply the penalties by the mean variance of the delayed columns in the training rows, so
        that one grid serves features of any scale.
    device : str or torch.device
        Where to compute.

    Returns
    -------
    result : RidgeResult

    Raises
    ------
    CobeError
        Widths differ, groups do not match, fewer than two groups, no valid row in a run, infinite
        values, a delay longer than a run, a penalty that is not positive: named with its run.

    Warns
    -----
    RuntimeWarning
        More than a tenth of the targets chose a penalty at one edge of the grid; or a penalty was
        chosen that is below single precision.
    """
    if bands is not None:
        raise CobeError("bands: banded ridge is not built yet; give bands=None")
    grid = check_alphas(alphas)
    design = build_design(runs_x, runs_y, groups, delays_tr, dtype, device)
    labels = list(dict.fromkeys(groups))
    parts = [
        Part(x, y, labels.index(g)) for x, y, g in zip(design.x, design.y, groups, strict=True)
    ]
    solution = solve(parts, grid, design.missing, relative_alphas)
    low, high = solution.edges()
    warn_edges(grid, low.sum(), high.sum(), np.isfinite(solution.alphas).sum())
    weights = solution.weights
    intercept = solution.intercept + design.y_shift - design.x_shift @ weights
    return RidgeResult(
        weights=weights.cpu().numpy(),
        intercept=intercept.cpu().numpy(),
        alphas=solution.alphas,
        cv_scores=solution.cv_scores,
        cv_mse=solution.cv_mse,
        grid=grid,
        alpha_scale=solution.alpha_scale,
        n_alpha_low=int(low.sum()),
        n_alpha_high=int(high.sum()),
        missing_targets=np.flatnonzero(design.missing),
        constant_targets=np.flatnonzero(solution.constant),
        delays_tr=tuple(int(d) for d in np.atleast_1d(delays_tr)),
        n_rows=np.array([len(r) for r in design.rows]),
        form=solution.form,
    )


def warn_edges(grid, n_low, n_high, n_targets):
    """Name the edge of the grid that more than a tenth of the targets chose."""
    for n, edge, alpha, remedy in (
        (n_low, "lower", grid[0], "smaller"),
        (n_high, "upper", grid[-1], "larger"),
    ):
        if n > EDGE_SHARE * n_targets:
            warnings.warn(
                f"alphas: {n} of {n_targets} targets chose {alpha:g}, the {edge} edge of the grid; "
                f"add {remedy} penalties unless these targets follow no feature",
                RuntimeWarning,
                stacklevel=3,
            )
