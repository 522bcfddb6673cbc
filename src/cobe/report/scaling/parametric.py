"""Fit of ``E + A N^-alpha + B D^-beta`` (and a third term for scan hours) with intervals.

The form and its Huber objective are those of Hoffmann et al. 2022 (arXiv 2203.15556, approach 3),
with the corrections of Besiroglu et al. 2024 (arXiv 2404.10102): the objective is summed, and
L-BFGS runs to convergence from many starts.

Intervals come from a multiplier bootstrap over cells: each resample gives every block an
independent random weight of mean 1 (Rubin 1981, doi 10.1214/aos/1176345338, has the exponential
distribution). Its variance is n / (n - p) for n blocks and p parameters, because residuals of a fit
are smaller than the noise. The floor also has a profile interval: all floors at which the
objective, minimised over the rest, rises no more than at 95 % of the resampled floors. Drawing
cells with replacement would lose corners of a small grid, and with them the fit.

Over 200 simulations of a 5 x 5 grid with noise of 1 %, the intervals of the five constants covered
the truth in 96 to 99 %, and with three seeds at five of its cells in 96 to 98 %: a little wide.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from threadpoolctl import threadpool_limits

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.report.scaling import surface
from cobe.report.scaling.fitted import (
    CONFIDENCE,
    PUBLISHED_REPEAT_CONSTANT,
    Estimate,
    ScalingFit,
    effective_data,
    interval,
)

SAME_MINIMUM = 1e-4
OUTLIER_SDS = 6.0
AT_BOUND = 0.025
NEAR = 1e-3
FEW_BLOCKS = 15
SCALE_NAMES = ("A", "B", "C")
EXPONENT_NAMES = ("alpha", "beta", "gamma")


def fit_parametric(
    n_params,
    n_data,
    loss,
    *,
    n_boot,
    seed,
    blocks=None,
    n_unique=None,
    repeat_constant=PUBLISHED_REPEAT_CONSTANT,
) -> ScalingFit:
    """Fit ``loss = E + A n_params^-alpha + B n_data^-beta``.

    Parameters
    ----------
    n_params : array of shape (n_rows,)
        Parameters of each model.
    n_data : array of shape (n_rows,)
        Data seen in training, such as target tokens; repeats counted.
    loss : array of shape (n_rows,)
        Validation loss, such as nats per token; positive.
    n_boot : int
        Resamples.
    seed : int
        Seed of the resamples.
    blocks : array of shape (n_rows,) or None
        Models that share chance (such as one data subset); None: the seeds of a cell.
    n_unique : float or array of shape (n_rows,), or None
        Unique data of each model; `n_data` is then replaced by `effective_data`.
    repeat_constant : float
        R* of `effective_data`; only used with `n_unique`.

    Returns
    -------
    fit : ScalingFit

    Raises
    ------
    CobeError
        Lengths differ, an entry is not positive and finite, fewer than three values on an axis, as
        few cells or blocks as parameters, factors that change together, no resamples, or a loss
        that lies further below the fitted floor than its noise explains.
    """
    n_data, constant, notes = _worth_of(n_data, n_unique, repeat_constant)
    rows = surface.checked_rows({"n_params": n_params, "n_data": n_data}, loss, "loss", blocks)
    return _fit(rows, False, n_boot, seed, constant, notes)


def fit_brain_score(
    n_params,
    n_data,
    scan_hours,
    score,
    *,
    n_boot,
    seed,
    blocks=None,
    n_unique=None,
    repeat_constant=PUBLISHED_REPEAT_CONSTANT,
) -> ScalingFit:
    """Fit ``score = 1 - E - A n_params^-alpha - B n_data^-beta - C scan_hours^-gamma``.

    The score rises and saturates in each factor, at ``1 - E``. This is the misalignment form of
    Gokce and Schrimpf 2025 (arXiv 2411.05712) with a term for the readout's own data.

    Parameters
    ----------
    n_params, n_data : arrays of shape (n_rows,)
        As in `fit_parametric`.
    scan_hours : array of shape (n_rows,)
        Hours of fMRI that the readout was fitted on.
    score : array of shape (n_rows,)
        Brain score, such as mean r over parcels or r over its ceiling; below 1, may be negative.
    n_boot, seed, blocks
        As in `fit_parametric`. Scores of one subject share chance: its labels are good blocks
        if there are many subjects, those of model and data subset if there are few.
    n_unique, repeat_constant
        As in `fit_parametric`.

    Returns
    -------
    fit : ScalingFit

    Raises
    ------
    CobeError
        As in `fit_parametric`; or a score of 1 or more.
    """
    score = np.asarray(score, float)
    if (score >= 1).any():
        raise CobeError(
            f"score: {int((score >= 1).sum())} entries are 1 or more; a score that can pass 1 "
            "(over its ceiling) has no floor to fit"
        )
    n_data, constant, notes = _worth_of(n_data, n_unique, repeat_constant)
    factors = {"n_params": n_params, "n_data": n_data, "scan_hours": scan_hours}
    rows = surface.checked_rows(factors, 1 - score, "1 - score", blocks)
    return _fit(rows, True, n_boot, seed, constant, notes)


def _worth_of(n_data, n_unique, repeat_constant):
    """Data to fit on, R* if repeats were corrected, and what is then to be said."""
    if n_unique is None:
        return n_data, None, []
    said = f"repeated data are counted with R* = {repeat_constant:g}, which is not fitted here"
    corrected = effective_data(n_data, n_unique, repeat_constant=repeat_constant)
    return corrected, repeat_constant, [said]


# Thousands of tiny problems: threads of BLAS only wait for each other, 50 times slower when busy.
@threadpool_limits.wrap(limits=1)
def _fit(rows, is_score, n_boot, seed, repeat_constant, notes) -> ScalingFit:
    if n_boot < 1:
        raise CobeError(f"n_boot: {n_boot} resamples give no interval; ask for 200 or more")
    weights = draw_weights(rows, n_boot, seed)
    k = len(rows.names)
    limits = surface.bounds(rows.y, k)
    best, minima = best_minimum(rows.x, rows.y, np.ones(len(rows.y)), limits)
    residuals = rows.y - surface.log_surface(best.x, rows.x)
    _refuse_below_floor(rows, best.x, residuals)
    fits = [surface.minimise(rows.x, rows.y, weight, best.x, limits) for weight in weights]
    draws = np.array([fit.x for fit in fits])
    names = ["E", *SCALE_NAMES[:k], *EXPONENT_NAMES[:k]]
    without = [i for i in range(k) if _lost(best.x, limits, i)]
    # A term that does not fall with its factor is a second floor: their split is arbitrary.
    arbitrary = [at for i in without for at in (0, 1 + i, 1 + k + i)]
    units = _published_units(np.vstack([best.x, draws]), rows.centre)
    units[:, arbitrary] = np.nan
    value, (low, high) = units[0], interval(units[1:])
    floor = Estimate(*[np.nan] * 3) if without else _floor_profile(rows, best, draws, limits)
    at_best = int((minima <= minima[0] * (1 + SAME_MINIMUM) + 1e-12).sum())
    unconverged = sum(not fit.success for fit in fits)
    unfixed = [i for i in range(k) if i not in without and _runs_into_limit(draws, limits, i)]
    notes = [*notes, *_doubts(rows, best, residuals, draws, limits, at_best, unconverged)]
    return ScalingFit(
        factors=rows.names,
        is_score=is_score,
        estimates={
            name: Estimate(*map(float, row))
            for name, *row in zip(names, value, low, high, strict=True)
        },
        floor_profile=floor,
        residuals=residuals,
        n_rows=len(rows.y),
        n_cells=rows.n_cells,
        n_blocks=rows.n_blocks,
        minima=minima,
        n_at_best=at_best,
        converged=bool(best.success),
        n_unconverged_draws=unconverged,
        warnings=tuple(notes),
        lost=tuple(rows.names[i] for i in without),
        unfixed=tuple(rows.names[i] for i in unfixed),
        ranges={
            name: tuple(np.exp(column[[column.argmin(), column.argmax()]] + centre))
            for name, column, centre in zip(rows.names, rows.x.T, rows.centre, strict=True)
        },
        repeat_constant=repeat_constant,
        theta=best.x,
        draws=draws,
        centre=rows.centre,
        seed=seed,
    )


def best_minimum(x, y, weight, limits):
    """The lowest minimum over all starts, and the minima of all in ascending order."""
    fits = [
        surface.minimise(x, y, weight, start, limits) for start in surface.start_grid(y, x.shape[1])
    ]
    minima = np.array([fit.fun for fit in fits])
    return fits[int(minima.argmin())], np.sort(minima)


def draw_weights(rows, n_boot: int, seed: int) -> np.ndarray:
    """Weights of mean 1, float64 (n_boot, n_rows), one per block and resample.

    Blocks of unequal size count as the fewer equal blocks that would be as sure (Kish 1965).
    """
    size, n_parameters = np.bincount(rows.block), 1 + 2 * len(rows.names)
    n_blocks = size.sum() ** 2 / (size @ size)
    if n_blocks <= n_parameters:
        raise CobeError(
            f"blocks: {rows.n_blocks} blocks count as {n_blocks:.1f} of equal size, for "
            f"{n_parameters} parameters; no interval can come from so few, give finer labels"
        )
    variance = n_blocks / (n_blocks - n_parameters)
    drawn = rng_for(seed, "scaling weights").gamma(
        1 / variance, variance, size=(n_boot, rows.n_blocks)
    )
    return drawn[:, rows.block]


def _published_units(theta, centre) -> np.ndarray:
    """E, A.., alpha.. of theta: the scale at a factor of 1, no longer at the mean of its log."""
    k = len(centre)
    exponents = theta[..., 1 + k :]
    scales = np.exp(theta[..., 1 : 1 + k] + exponents * centre)
    return np.concatenate([np.exp(theta[..., :1]), scales, exponents], axis=-1)


def _lost(theta, limits, i: int):
    """Whether the term of factor i has vanished, is level, or has met its steepest slope."""
    k = len(limits) // 2
    scale, exponent = theta[..., 1 + i], theta[..., 1 + k + i]
    vanished = scale <= limits[1 + i, 0] + NEAR
    return vanished | (exponent <= NEAR) | (exponent >= surface.MAX_EXPONENT - NEAR)


def _runs_into_limit(draws, limits, i: int) -> bool:
    """Whether too many resamples lose factor i for its interval to mean anything."""
    return bool(_lost(draws, limits, i).mean() > AT_BOUND)


def _floor_profile(rows, best, draws, limits) -> Estimate:
    """Interval of E: ends of equal objective, wide enough for 95 % of the resampled floors."""
    e, ones = best.x[0], np.ones(len(rows.y))

    def rise(theta):
        return surface.profile(rows.x, rows.y, ones, theta, limits, theta[0]).fun - best.fun

    allowed = np.quantile([rise(theta) for theta in draws], CONFIDENCE)

    def excess(log_floor):
        return rise(np.r_[log_floor, best.x[1:]]) - allowed

    def end(limit):
        if excess(limit) <= 0:
            return limit
        return brentq(excess, e, limit, xtol=1e-5) if excess(e) < 0 else e

    return Estimate(*(float(np.exp(at)) for at in (e, *map(end, limits[0]))))


def _refuse_below_floor(rows, theta, residuals) -> None:
    below = rows.y < theta[0]
    far = theta[0] - rows.y > OUTLIER_SDS * _robust_sd(residuals)
    if far.any():
        raise CobeError(
            f"scaling fit: {int(far.sum())} of {len(below)} responses lie below the fitted floor "
            f"{np.exp(theta[0]):.4g} by more than noise explains (first: row "
            f"{np.flatnonzero(far)[0]}); look for a leak or a wrong loss there, no curve is given"
        )


def _robust_sd(residuals) -> float:
    return max(1.4826 * float(np.median(np.abs(residuals))), surface.HUBER_DELTA)


def _doubts(rows, best, residuals, draws, limits, at_best, unconverged) -> list[str]:
    """What the fit cannot tell."""
    notes = []
    if not best.success:
        notes.append(f"L-BFGS did not converge from the best start: {best.message}")
    if at_best < 2:
        notes.append("only one start reached the lowest minimum: it may not be the lowest")
    if unconverged:
        notes.append(f"L-BFGS stopped early in {unconverged} of {len(draws)} resamples, kept")
    if rows.n_blocks < FEW_BLOCKS:
        notes.append(f"only {rows.n_blocks} blocks to resample: the intervals are too narrow")
    n_below = int((rows.y < best.x[0]).sum())
    if n_below:
        notes.append(f"{n_below} responses lie below the fitted floor, within noise")
    n_outliers = int((np.abs(residuals) > OUTLIER_SDS * _robust_sd(residuals)).sum())
    if n_outliers:
        notes.append(f"{n_outliers} outliers, more than {OUTLIER_SDS:g} robust SD from the surface")
    n_zero = int((draws[:, 0] <= limits[0, 0] + NEAR).sum())
    if n_zero > AT_BOUND * len(draws):
        notes.append(
            f"the data cannot tell the floor from zero ({n_zero} of {len(draws)} resamples)"
        )
    for i, name in enumerate(rows.names):
        n_lost = int(_lost(draws, limits, i).sum())
        if _lost(best.x, limits, i):
            notes.append(
                f"the response follows no power law in {name} (level, rising, or a step): its "
                "exponent and scale, and the floor, are not estimated"
            )
        elif _runs_into_limit(draws, limits, i):
            notes.append(
                f"the data do not fix the exponent of {name}, nor then the floor: it runs into its "
                f"limit in {n_lost} of {len(draws)} resamples; do not use these intervals"
            )
    return notes
