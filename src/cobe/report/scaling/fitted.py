"""A fitted surface with its intervals, and what repeated data are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.report.scaling import surface

CONFIDENCE = 0.95
PUBLISHED_REPEAT_CONSTANT = 15.387756


def interval(draws) -> np.ndarray:
    """Ends of the central 95 % along the first axis, stacked on a new first axis of two.

    Of no draws the ends are not known: NaN.
    """
    if not len(draws):
        return np.full((2, *np.shape(draws)[1:]), np.nan)
    return np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ScalingFit:
    """A fitted surface.

    Attributes
    ----------
    factors : tuple of str
        ``("n_params", "n_data")``, for brain scores also ``"scan_hours"``.
    is_score : bool
        Whether the response is a score, fitted as 1 - score, and not a loss.
    estimates : dict of str to Estimate
        E, then A, B (C) in units of the response, then alpha, beta (gamma). NaN where the response
        follows no power law in a factor: exponent and scale of that factor, and the floor.
    floor_profile : Estimate
        E with its profile interval.
    residuals : float64 array of shape (n_rows,)
        Log observed minus log fitted response, in the order given.
    n_rows, n_cells, n_blocks : int
        Models; distinct combinations of factors; units of resampling.
    minima : float64 array of shape (n_starts,)
        Objective reached from each start, ascending.
    n_at_best : int
        Starts that reached the lowest minimum to 1 part in 10,000.
    converged : bool
        Whether L-BFGS converged from the best start.
    n_unconverged_draws : int
        Resamples whose optimiser stopped early; they are kept.
    warnings : tuple of str
        What this fit cannot tell, in plain words.
    lost : tuple of str
        Factors in which the response follows no power law: no exponent, and no floor.
    unfixed : tuple of str
        Factors whose exponent runs into its limit in resamples: its interval is not to be used.
    ranges : dict of str to (float, float)
        Smallest and largest value of each factor that was seen (data after correction of repeats).
    repeat_constant : float or None
        R* of `effective_data` if repeats were corrected.
    theta, draws : float64 arrays of shape (n_theta,), (n_boot, n_theta)
        Parameters as in `cobe.report.scaling.surface`: of the fit, and of each resample.
    centre : float64 array of shape (n_factors,)
        Mean log of each factor.
    seed : int
        Seed of the resamples.
    """

    factors: tuple[str, ...]
    is_score: bool
    estimates: dict[str, Estimate]
    floor_profile: Estimate
    residuals: np.ndarray
    n_rows: int
    n_cells: int
    n_blocks: int
    minima: np.ndarray
    n_at_best: int
    converged: bool
    n_unconverged_draws: int
    warnings: tuple[str, ...]
    lost: tuple[str, ...]
    unfixed: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    repeat_constant: float | None
    theta: np.ndarray
    draws: np.ndarray
    centre: np.ndarray
    seed: int

    @property
    def E(self) -> Estimate:
        """Floor: the response that is left with endless parameters and data."""
        return self.estimates["E"]

    @property
    def A(self) -> Estimate:
        """Scale of the term in n_params."""
        return self.estimates["A"]

    @property
    def B(self) -> Estimate:
        """Scale of the term in n_data."""
        return self.estimates["B"]

    @property
    def alpha(self) -> Estimate:
        """Exponent of n_params."""
        return self.estimates["alpha"]

    @property
    def beta(self) -> Estimate:
        """Exponent of n_data."""
        return self.estimates["beta"]

    def respond(self, theta, values) -> np.ndarray:
        """Loss or score of parameters at factors, broadcast over leading axes.

        Parameters
        ----------
        theta : float array of shape (..., n_theta)
            `theta`, or rows of `draws`.
        values : float array of shape (..., n_factors)
            In the order and units of `factors`.

        Returns
        -------
        response : float64 array
            Of the broadcast leading shape.
        """
        response = np.exp(surface.log_surface(theta, np.log(values) - self.centre))
        return 1 - response if self.is_score else response

    def predict(self, n_params, n_data, scan_hours=None, *, n_unique=None) -> pd.DataFrame:
        """Response at given factors, with its interval and that of one new model.

        Parameters
        ----------
        n_params, n_data : float or array of shape (n_points,)
            In the units of the fit.
        scan_hours : float or array of shape (n_points,), or None
            For a fit of brain scores.
        n_unique : float or array of shape (n_points,), or None
            Unique data, if `n_data` holds repeats and the fit was corrected for them.

        Returns
        -------
        table : pandas.DataFrame
            One row per point: the factors, value, low and high (95 % interval of the surface),
            cell_low and cell_high (95 % interval of one newly trained model: the surface and the
            residuals around it).

        Raises
        ------
        CobeError
            Factors that do not fit this surface, or are not positive.
        """
        values = self.values_of(n_params, n_data, scan_hours, n_unique)
        draws = self.respond(self.draws[:, None, :], values)
        low, high = interval(draws)
        # Residuals of a fit are smaller than the noise: it has followed part of it.
        lost = np.sqrt(self.n_rows / (self.n_rows - len(self.theta)))
        noise = rng_for(self.seed, "new models").choice(self.residuals, draws.shape) * lost
        new = 1 - (1 - draws) * np.exp(noise) if self.is_score else draws * np.exp(noise)
        cell_low, cell_high = interval(new)
        table = pd.DataFrame(values, columns=list(self.factors))
        return table.assign(
            value=self.respond(self.theta, values),
            low=low,
            high=high,
            cell_low=cell_low,
            cell_high=cell_high,
        )

    def values_of(self, n_params, n_data, scan_hours=None, n_unique=None) -> np.ndarray:
        """Factors as one float64 array (n_points, n_factors), checked, with repeats corrected."""
        if (scan_hours is not None) != ("scan_hours" in self.factors):
            raise CobeError(
                f"scan_hours: this fit has the factors {', '.join(self.factors)}; give exactly "
                "these"
            )
        if n_unique is not None:
            if self.repeat_constant is None:
                raise CobeError(
                    "n_unique: this fit was not corrected for repeats; fit with n_unique first"
                )
            n_data = effective_data(n_data, n_unique, repeat_constant=self.repeat_constant)
        given = [n_params, n_data] + ([] if scan_hours is None else [scan_hours])
        values = np.stack(np.broadcast_arrays(*map(np.atleast_1d, given)), axis=-1).astype(float)
        if not (np.isfinite(values) & (values > 0)).all():
            raise CobeError("predict: a factor is not positive and finite; correct it")
        return values


def effective_data(n_data, n_unique, *, repeat_constant=PUBLISHED_REPEAT_CONSTANT):
    """Fresh data that repeated data are worth.

    ``U + U R* (1 - exp(-R / R*))`` with ``U = min(n_unique, n_data)`` unique data seen
    ``1 + R`` times (Muennighoff et al. 2023, arXiv 2305.16264). The published R* is of language
    models on web text; for other data it is an assumption.

    Parameters
    ----------
    n_data : float or array
        Data seen in training, repeats counted.
    n_unique : float or array
        Data that there are.
    repeat_constant : float
        R*: repeats after which more are worth little.

    Returns
    -------
    effective : float64 array
        Between `n_unique` (or `n_data`) and ``n_unique * (1 + repeat_constant)``.

    Raises
    ------
    CobeError
        An entry is not positive and finite, or the lengths differ.
    """
    seen, unique = np.asarray(n_data, float), np.asarray(n_unique, float)
    if seen.shape and unique.shape and seen.shape != unique.shape:
        raise CobeError(
            f"n_unique: shape {unique.shape} for n_data {seen.shape}; give one number per model"
        )
    for name, values in (("n_data", seen), ("n_unique", unique), ("R*", repeat_constant)):
        if not (np.isfinite(values) & (np.asarray(values) > 0)).all():
            raise CobeError(f"{name}: an entry is not positive and finite; correct it")
    unique = np.minimum(seen, unique)
    repeats = seen / unique - 1
    return unique * (1 - repeat_constant * np.expm1(-repeats / repeat_constant))
