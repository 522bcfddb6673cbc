"""Predictions of held-out rows, with everything that is chosen or fitted inside the training rows.

What is chosen: the penalty of every target, the weights of bands, and which of several readouts is
read. What is fitted: scaling and reduction of the features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from cobe.core.errors import CobeError
from cobe.encoding.banded import (
    band_numbers,
    check_band_weights,
    sample_band_weights,
    solve_banded,
)
from cobe.encoding.delays import check_delays
from cobe.encoding.design import (
    centred_responses,
    check_alphas,
    check_arrays,
    check_dtype,
    check_numbers,
    find_rows,
    lags_of,
    stack_rows,
)
from cobe.encoding.folds import Split, check_groups, check_purge, inner_parts, make_folds, run_names
from cobe.encoding.reduce import Reduction
from cobe.encoding.solver import Part, solve

N_BAND_WEIGHTS = 20


@dataclass(frozen=True)
class Plan:
    """What `cobe.encoding.evaluate` is asked to do, checked; see there."""

    delays: tuple
    grid: np.ndarray
    relative_alphas: bool
    alpha_per_target: bool
    hrf: object
    reduce: Reduction | Mapping | None
    bands: Mapping | None
    band_weights: object
    purge_trs: int | None
    seed: int
    dtype: np.dtype
    device: str

    @property
    def lags(self):
        """How many volumes back a row looks."""
        return lags_of(self.delays, self.hrf)


def make_plan(
    *,
    delays_tr,
    alphas,
    relative_alphas=False,
    alpha_per_target=True,
    hrf=None,
    reduce=None,
    bands=None,
    band_weights=N_BAND_WEIGHTS,
    purge_trs=None,
    seed=0,
    dtype=np.float32,
    device="cpu",
):
    """Check what does not need the data.

    Raises
    ------
    CobeError
        See `cobe.encoding.evaluate`.
    """
    grid = check_alphas(alphas)
    dtype = check_dtype(dtype)
    delays = check_delays(delays_tr)
    if hrf is not None and delays != (0,):
        raise CobeError(
            f"delays_tr: {list(delays)} with an hrf, which delays by itself; give delays_tr=(0,)"
        )
    if bands is not None and not alpha_per_target:
        raise CobeError("alpha_per_target: bands are chosen per target; give bands=None or True")
    plan = Plan(
        delays=delays,
        grid=grid,
        relative_alphas=relative_alphas,
        alpha_per_target=alpha_per_target,
        hrf=hrf,
        reduce=reduce,
        bands=bands,
        band_weights=band_weights,
        purge_trs=purge_trs,
        seed=seed,
        dtype=dtype,
        device=device,
    )
    check_purge(purge_trs, max(plan.lags))
    return plan


class Features:
    """One set of features: its delayed rows, fitted per fold where something is fitted.

    Parameters
    ----------
    name : str
        What errors call them.
    runs_x : list of arrays of shape (n_trs, n_features)
        Features of every run.
    rows : list of int arrays of shape (n_rows,)
        Volumes of each run that count.
    plan : Plan
        What to do with them.
    """

    def __init__(self, name, runs_x, rows, plan):
        self.name, self.rows, self.plan = name, rows, plan
        self.runs_x = [np.asarray(x) for x in runs_x]
        n_features = self.runs_x[0].shape[1]
        self.band = np.zeros(n_features, int)
        if plan.bands is not None:
            self.band = band_numbers(plan.bands, n_features)
        self.reductions = _reductions(plan.reduce, plan.bands)
        self.offset = np.cumsum([0, *map(len, rows)])
        self._fixed = None

    def check(self, fold):
        """Make sure that a fold's training rows suffice for what is fitted; else CobeError."""
        if not self.reductions:
            return
        n_rows = sum(map(len, self._volumes(fold.train)))
        for band, reduction in self.reductions.items():
            reduction.check(self._called(band), int((self.band == band).sum()), n_rows)

    def of(self, fold):
        """Rows of all runs as one fold sees them.

        Returns
        -------
        x : tensor of shape (n_rows, n_columns)
        band : int array of shape (n_columns,)
            Band of every column.
        """
        if not self.reductions:
            if self._fixed is None:
                self._fixed = self._stack(self.runs_x), self._columns(self.band)
            return self._fixed
        seen = self._volumes(fold.train)
        made, band = [], []
        for number in np.unique(self.band):
            columns = self.band == number
            parts = [x[:, columns] for x in self.runs_x]
            if number in self.reductions:
                x_train = np.concatenate([x[s] for x, s in zip(parts, seen, strict=True)])
                fitted = self.reductions[number].fit(x_train)
                parts = [fitted(x) for x in parts]
            made.append(parts)
            band += [number] * parts[0].shape[1]
        runs = [np.concatenate(parts, axis=1) for parts in zip(*made, strict=True)]
        return self._stack(runs), self._columns(np.array(band))

    def _called(self, band):
        names = list(self.plan.bands or [])
        return " ".join(filter(None, [self.name, f"band {names[band]!r}" if names else ""]))

    def _volumes(self, train):
        """Volumes of each run that the training rows look at; no other enters a fit."""
        seen = []
        for run, rows in enumerate(self.rows):
            begin, end = np.searchsorted(train, self.offset[run : run + 2])
            own = rows[train[begin:end] - self.offset[run]]
            seen.append(np.unique(own[:, None] - np.array(self.plan.lags)))
        return seen

    def _stack(self, runs):
        plan = self.plan
        runs = [plan.hrf.convolve(x) for x in runs] if plan.hrf else runs
        stacked = stack_rows(runs, self.rows, plan.delays, plan.dtype)[0]
        return torch.from_numpy(stacked).to(plan.device)

    def _columns(self, band):
        return np.tile(band, len(self.plan.delays))


def _reductions(reduce, bands):
    """Reduction of each band number that has one."""
    if reduce is None:
        return {}
    if isinstance(reduce, Reduction):
        return dict.fromkeys(range(len(bands) if bands else 1), reduce)
    if not isinstance(reduce, Mapping) or bands is None:
        raise CobeError("reduce: give a Reduction, or with bands a dict of band names to them")
    unknown = sorted(set(reduce) - set(bands))
    if unknown or not all(isinstance(r, Reduction) for r in reduce.values()):
        raise CobeError(
            f"reduce: {', '.join(map(repr, unknown)) or 'a value'} is no band with a Reduction; "
            f"the bands are {', '.join(map(repr, bands))}"
        )
    return {list(bands).index(name): reduction for name, reduction in reduce.items()}


@dataclass(frozen=True)
class Data:
    """Checked data of all runs.

    Attributes
    ----------
    readouts : dict of str to Features
    y : tensor of shape (n_rows, n_targets)
        Responses of the rows that count, minus a common offset.
    missing : bool array of shape (n_targets,)
        Targets that are NaN throughout a run.
    split : folds.Split
    lengths : list of int
        Rows of each run.
    counts : list of dict
        From `design.find_rows`.
    """

    readouts: dict
    y: torch.Tensor
    missing: np.ndarray
    split: Split
    lengths: list
    counts: list


def load(runs_x, runs_y, groups, plan):
    """Check the data and lay out rows and folds.

    Raises
    ------
    CobeError
        See `cobe.encoding.evaluate`.
    """
    named = runs_x if isinstance(runs_x, Mapping) else {"": runs_x}
    if not named:
        raise CobeError("runs_x: no readout; give a dict of names to lists of runs")
    for runs in named.values():
        check_numbers(runs, runs_y)
    if plan.bands is not None and len(named) > 1:
        raise CobeError("bands: cannot be combined with a choice of readout; give one set of runs")
    names = run_names(groups, len(runs_y))
    for name, runs in named.items():
        what = f"features of {name}" if name else "features"
        check_arrays(names, runs, runs_y, max(plan.lags), what)
    labels = check_groups(groups, [len(y) for y in runs_y])
    rows, missing, counts = find_rows(names, list(named.values()), runs_y, plan.lags, labels)
    split = make_folds(groups, labels, rows, check_purge(plan.purge_trs, max(plan.lags)))
    readouts = {name: Features(name, runs, rows, plan) for name, runs in named.items()}
    for features in readouts.values():
        for fold in split.folds:
            features.check(fold)
    y = torch.from_numpy(centred_responses(runs_y, rows, missing, plan.dtype)[0]).to(plan.device)
    return Data(readouts, y, missing, split, [len(r) for r in rows], counts)


@dataclass(frozen=True)
class FoldFit:
    """The model of one fold.

    Attributes
    ----------
    fold : folds.Fold
    readout : str
        Name of the chosen readout.
    x : tensor of shape (n_rows, n_columns)
        Features of all rows as this fold sees them.
    predicted : array of shape (n_test, n_targets)
        Of the held-out rows, without the intercept: beside it, predictions of a strongly penalised
        target would be rounded to a constant, and it goes when they are centred.
    alphas : float64 array of shape (n_targets,)
        Chosen penalties.
    penalties : float64 array of shape (n_targets,)
        The same in absolute units.
    low, high : bool arrays of shape (n_targets,)
        Whether the penalty is at an edge of the grid.
    column_weights : float64 array of shape (n_columns, n_targets), or None
        Weights of the bands, per column.
    """

    fold: object
    readout: str
    x: torch.Tensor
    predicted: np.ndarray
    alphas: np.ndarray
    penalties: np.ndarray
    low: np.ndarray
    high: np.ndarray
    column_weights: np.ndarray | None


def fit_folds(data, plan):
    """Fit every fold, one after the other.

    Yields
    ------
    fit : FoldFit
    """
    candidates = _candidates(plan)
    choose = len(plan.grid) > 1 or len(data.readouts) > 1 or len(candidates) > 1
    inner_purge = max(plan.lags) if plan.purge_trs is None else plan.purge_trs
    for fold in data.split.folds:
        best = None
        for name, features in data.readouts.items():
            x, band = features.of(fold)
            parts = inner_parts(x, data.y, fold.train, data.split.run, inner_purge, choose)
            solution = _solve(parts, plan, data.missing, band, candidates)
            score = np.nanmean(solution.cv_scores) if len(data.readouts) > 1 else 0.0
            if best is None or score > best[0]:
                best = score, name, x, band, solution
        _, name, x, band, solution = best
        low, high = solution.edges()
        weights = None if plan.bands is None else solution.band_weights.T[band]
        predicted = x[torch.from_numpy(fold.test).to(x.device)] @ solution.weights
        yield FoldFit(
            fold=fold,
            readout=name,
            x=x,
            predicted=predicted.cpu().numpy(),
            alphas=solution.alphas,
            penalties=solution.alphas * solution.alpha_scale,
            low=low,
            high=high,
            column_weights=weights,
        )


def _candidates(plan):
    """Weights of bands to try, float64 (n_candidates, n_bands); one row of 1 without bands."""
    if plan.bands is None:
        return np.ones((1, 1))
    if np.ndim(plan.band_weights) == 0:
        return sample_band_weights(len(plan.bands), plan.band_weights, plan.seed)
    return check_band_weights(plan.band_weights, len(plan.bands))


def _solve(parts, plan, missing, band, candidates):
    if plan.bands is not None:
        return solve_banded(parts, plan.grid, missing, plan.relative_alphas, band, candidates)
    solution = solve(parts, plan.grid, missing, plan.relative_alphas)
    if plan.alpha_per_target or len(plan.grid) == 1:
        return solution
    return _share_alpha(solution, parts, plan, missing)


def _share_alpha(solution, parts, plan, missing):
    """Refit with the penalty whose cross-validated R2 is the best on average over targets."""
    usable = np.isfinite(solution.alphas) & (solution.cv_scores < 1)
    if not usable.any():
        return solution
    mse = solution.cv_mse[:, usable]
    variance = mse.min(axis=0) / (1 - solution.cv_scores[usable])
    best = int((mse / variance).mean(axis=1).argmin())
    # in one fold: nothing is cross-validated again
    whole = [Part(part.x, part.y, 0) for part in parts]
    refit = solve(whole, plan.grid[[best]], missing, plan.relative_alphas)
    return replace(refit, grid=plan.grid)
