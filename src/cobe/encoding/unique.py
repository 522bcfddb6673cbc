"""What a band of features explains that the others do not: full model minus controls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.banded import sample_band_weights
from cobe.encoding.crossval import N_BAND_WEIGHTS, fit_folds, load, make_plan
from cobe.encoding.intervals import expanded_ends
from cobe.encoding.reduce import Reduction
from cobe.encoding.scoring import (
    check_enough_groups,
    check_whole,
    describe_rows,
    row_units,
)
from cobe.encoding.splits import RandomVolumes
from cobe.encoding.stats import centre_in_segments, fdr
from cobe.encoding.table import correlate, equalise

COLUMNS = (
    "target summary held_out band delta_r2 p q p_max ci_low ci_high delta_r r2_full r2_controls "
    "r_full r_controls n_trs leaks"
).split()


def stack_bands(runs_x_by_band):
    """One set of features from several bands, side by side.

    Parameters
    ----------
    runs_x_by_band : dict of str to list of arrays of shape (n_trs, n_features)
        Features of every band, one array per run; NaN rows where missing.

    Returns
    -------
    runs_x : list of arrays of shape (n_trs, n_features of all bands)
        A row that one band misses is missing to `cobe.encoding.evaluate`.
    bands : dict of str to slice
        Columns of each band, for `cobe.encoding.evaluate`.

    Raises
    ------
    CobeError
        Bands differ in their runs or in the volumes of a run.
    """
    if not runs_x_by_band:
        raise CobeError("bands: none given; give a dict of names to lists of runs")
    shapes = {}
    for name, runs in runs_x_by_band.items():
        wrong = next((i for i, x in enumerate(runs) if np.ndim(x) != 2), None)
        if wrong is not None:
            raise CobeError(
                f"band {name!r}, run {wrong}: shape {np.shape(runs[wrong])}; "
                "give (n_trs, n_features)"
            )
        widths = {np.shape(x)[1] for x in runs}
        if len(widths) > 1:
            raise CobeError(
                f"band {name!r}: runs have {sorted(widths)} features; give every run the same"
            )
        shapes[name] = [len(x) for x in runs]
    first = next(iter(shapes))
    for name, lengths in shapes.items():
        if lengths != shapes[first]:
            raise CobeError(
                f"band {name!r}: runs of {lengths} volumes, but {first!r} has {shapes[first]}; "
                "give the same runs"
            )
    widths = [np.shape(runs[0])[1] if len(runs) else 0 for runs in runs_x_by_band.values()]
    ends = np.cumsum(widths)
    runs_x = [np.concatenate(parts, axis=1) for parts in zip(*runs_x_by_band.values(), strict=True)]
    slices = [slice(int(e - w), int(e)) for w, e in zip(widths, ends, strict=True)]
    return runs_x, dict(zip(runs_x_by_band, slices, strict=True))


def unique_variance(
    runs_x_by_band,
    runs_y,
    *,
    band,
    groups,
    delays_tr,
    alphas,
    n_permutations=1000,
    block_trs=40,
    seed=0,
    n_bootstrap=1000,
    bootstrap="block",
    reduce=Reduction("scale"),  # noqa: B008 - frozen
    band_weights=N_BAND_WEIGHTS,
    hrf=None,
    purge_trs=None,
    dtype=np.float32,
    device="cpu",
):
    """Held-out variance that a band explains beyond the others: banded ridge, full minus controls.

    Both models are fitted on the same rows and scored on the same held-out rows; everything that
    is chosen is chosen inside the training rows, for each model on its own. The full model may
    also choose the weights of the controls' search with nothing on the band, so a useless band can
    be left out, and the difference is then 0 up to rounding (less than 1e-6 counts as none).

    The difference in R2 is what to read. R2 is a share of the variance, and squared errors add up
    over rows, so the difference is a sum of paired differences that can be tested and resampled
    block by block; it is a lower bound where the band shares variance with the controls. A
    difference in r is given beside it. It has no such meaning: the same added signal moves a small
    r more than a large one, and r does not see a wrong amplitude.

    P-values are one-sided, from flipping the signs of the paired differences of whole blocks of
    held-out rows, the same flips for all targets. They ask whether these fitted models differ
    beyond the noise of the held-out recordings. A useless band makes predictions worse rather than
    better, so the test is conservative: 1 to 2 % at nominal .05 in simulations with a band that
    goes with the controls. That holds while responses follow the controls in the same way in
    every run. With weights drawn anew for every one of 8 runs, so that nothing generalises, it
    called 24 % significant, and 12 % with whole groups flipped: look at the single groups too.

    Parameters
    ----------
    runs_x_by_band : dict of str to list of arrays of shape (n_trs, n_features)
        Features of every band, the controls among them.
    runs_y, groups, delays_tr, alphas, block_trs, seed, hrf, purge_trs
        As for `cobe.encoding.evaluate`. Penalties are absolute: in units of each model's own
        columns the full model and that of the controls would be shrunk differently even where the
        band has no weight, and the paired test would find that difference (25 % of unrelated
        parcels at .05 for a band of buttons).
    band : str
        The band in question; all others are controls.
    n_permutations : int
        Sign flips; 0 leaves p-values NaN.
    n_bootstrap : int
        Resamples for the 95 % interval of the difference in R2; 0 leaves it NaN.
    bootstrap : str
        What is flipped and resampled together: ``"block"`` of at least `block_trs` held-out rows
        of a run, or ``"group"``, which needs six groups.
    reduce : Reduction, dict of band names to Reduction, or None
        By default every column is scaled, so that band weights are in one unit.
    band_weights : int
        Weights to draw for the full model and for the controls.
    dtype, device
        As for `cobe.encoding.evaluate`.

    Returns
    -------
    table : DataFrame
        One row per target, over ``"all"`` held-out rows and per held-out group; then the mean over
        targets (target -1, summary ``"mean"``) for the same. Columns: ``target``, ``summary``,
        ``held_out``, ``band``; ``delta_r2``; only for ``"all"`` ``p``, ``q``, ``p_max``,
        ``ci_low``, ``ci_high`` (of ``delta_r2``); ``delta_r``; ``r2_full``, ``r2_controls``,
        ``r_full``, ``r_controls``; ``n_trs``; ``leaks``. Unusable targets are NaN. The rows of
        single groups are the pairs for `cobe.encoding.stats.paired_comparison`. ``attrs`` as of
        `cobe.encoding.evaluate`.

    Raises
    ------
    CobeError
        The band is not among two or more, bands differ in their runs, or as from
        `cobe.encoding.evaluate`.
    """
    if band not in runs_x_by_band or len(runs_x_by_band) < 2:
        raise CobeError(
            f"band: {band!r} is not one of two or more bands "
            f"({', '.join(map(repr, runs_x_by_band))}); give it and at least one control"
        )
    check_whole(n_permutations=(n_permutations, 0), n_bootstrap=(n_bootstrap, 0))
    check_whole(block_trs=(block_trs, 1), band_weights=(band_weights, 1))
    if bootstrap not in ("block", "group"):
        raise CobeError(f"bootstrap: {bootstrap!r} is unknown; give one of block, group")
    options = {
        "delays_tr": delays_tr,
        "alphas": alphas,
        "hrf": hrf,
        "purge_trs": purge_trs,
        "seed": seed,
        "dtype": dtype,
        "device": device,
    }
    groups = groups if isinstance(groups, RandomVolumes) else list(groups)
    runs_x, bands = stack_bands(runs_x_by_band)
    names = [name for name in bands if name != band]
    own = list(bands).index(band)
    drawn = sample_band_weights(len(names), max(band_weights, len(names) + 1), seed)
    if len(names) == 1:
        drawn = drawn[:1]
    without = np.insert(drawn, own, 0.0, axis=1)
    everything = sample_band_weights(len(bands), max(band_weights, len(bands) + 1), seed)
    whole = make_plan(
        bands=bands,
        band_weights=np.unique(np.concatenate([everything, without]), axis=0),
        reduce=reduce,
        **options,
    )
    lost = [np.isnan(x).any(axis=1) for x in runs_x]
    kept = {name: _without(runs_x_by_band[name], lost) for name in names}
    runs_controls, control_bands = stack_bands(kept)
    several = len(names) > 1
    of_controls = reduce
    if isinstance(reduce, dict):
        of_controls = {name: r for name, r in reduce.items() if name != band}
        of_controls = of_controls if several else of_controls.get(names[0])
    controls = make_plan(
        bands=control_bands if several else None,
        band_weights=drawn,
        reduce=of_controls or None,
        **options,
    )
    data = load(runs_x, runs_y, groups, whole)
    if bootstrap == "group":
        check_enough_groups(len(data.split.folds))
    full = _held_out(data, whole)
    rest = _held_out(load(runs_controls, runs_y, groups, controls), controls)
    units = row_units(data.split, block_trs, bootstrap)
    pair = _Pair.of(full, rest, data)
    table = pair.table(band, units, n_permutations, n_bootstrap, seed)
    table["leaks"] = data.split.leaks
    table.attrs |= describe_rows(data, groups)
    return table


def _without(runs, lost):
    return [np.where(gone[:, None], np.nan, x) for x, gone in zip(runs, lost, strict=True)]


def _held_out(data, plan):
    """Predictions of the held-out rows, centred in their segments; NaN for unusable targets."""
    scored = data.split.fold >= 0
    predicted = np.full((len(data.y), data.y.shape[1]), np.nan)
    for fit in fit_folds(data, plan):
        predicted[fit.fold.test] = fit.predicted
    return centre_in_segments(predicted[scored], data.split.segment[scored])


@dataclass(frozen=True)
class _Pair:
    """Predictions of both models and the responses, on the held-out rows."""

    full: np.ndarray
    controls: np.ndarray
    y: np.ndarray
    fold: np.ndarray
    labels: list

    @classmethod
    def of(cls, full, controls, data):
        scored = data.split.fold >= 0
        y = centre_in_segments(data.y.cpu().numpy()[scored], data.split.segment[scored])
        y[:, data.missing] = np.nan
        labels = [fold.label for fold in data.split.folds]
        return cls(full, controls, y, data.split.fold[scored], labels)

    def table(self, band, units, n_permutations, n_bootstrap, seed):
        """Scores, tests and intervals as the table of `unique_variance`."""
        gain = (self.y - self.controls) ** 2 - (self.y - self.full) ** 2
        total = (self.y**2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0 / 0 where a target does not change: NaN, as it should be
            gain = _sums(gain, units) / total
            share = _sums(self.y**2, units) / total
        blocks = [self._rows("all", slice(None), equalise)]
        extra, mean = _test(gain, share, n_permutations, n_bootstrap, seed)
        blocks[0] = blocks[0].assign(**extra)
        summaries = [_mean_row(blocks[0]) | mean]
        for k, label in enumerate(self.labels):
            blocks.append(self._rows(label, self.fold == k, lambda p, _: p))
            summaries.append(_mean_row(blocks[-1]))
        table = pd.concat([*blocks, pd.DataFrame(summaries)], ignore_index=True)
        return table.assign(band=band).reindex(columns=COLUMNS).astype({"n_trs": int})

    def _rows(self, held_out, rows, evened):
        columns = {}
        for name, predicted in (("full", self.full), ("controls", self.controls)):
            p, y = predicted[rows], self.y[rows]
            with np.errstate(divide="ignore", invalid="ignore"):
                columns[f"r2_{name}"] = 1 - ((y - p) ** 2).sum(axis=0) / (y * y).sum(axis=0)
            columns[f"r_{name}"] = correlate(evened(p, self.fold[rows]), y)[0]
        return pd.DataFrame(
            {
                "target": np.arange(self.y.shape[1]),
                "summary": "target",
                "held_out": held_out,
                "n_trs": len(y),
                **columns,
                "delta_r2": columns["r2_full"] - columns["r2_controls"],
                "delta_r": columns["r_full"] - columns["r_controls"],
            }
        )


def _mean_row(rows):
    scores = ["delta_r2", "delta_r", "r2_full", "r2_controls", "r_full", "r_controls"]
    first = rows.iloc[0]
    return {
        "target": -1,
        "summary": "mean",
        "held_out": first["held_out"],
        "n_trs": first["n_trs"],
        **rows[scores].mean().to_dict(),
    }


def _sums(rows, units):
    """Sum of the rows of each unit, (n_units, n_targets)."""
    number = np.unique(units, return_inverse=True)[1]
    ones = np.ones(len(number))
    return sparse.csr_array((ones, (number, np.arange(len(number))))) @ rows


def _test(gain, share, n_permutations, n_bootstrap, seed):
    """P-values and intervals of the difference, per target and of its mean over targets.

    Parameters
    ----------
    gain, share : float64 arrays of shape (n_units, n_targets)
        Difference of squared errors, and sum of squares of the responses, over the sum of squares
        of all rows.
    """
    n_units, n_targets = gain.shape
    there = np.isfinite(gain).all(axis=0)
    nan = np.full(n_targets, np.nan)
    columns = {name: nan.copy() for name in ("p", "q", "p_max", "ci_low", "ci_high")}
    mean = {name: np.nan for name in ("p", "ci_low", "ci_high")}
    if not there.any():
        return columns, mean
    gain, share = gain[:, there], share[:, there]
    delta = gain.sum(axis=0)
    if n_permutations:
        signs = rng_for(seed, "signs").choice((-1.0, 1.0), size=(n_permutations, n_units))
        null = signs @ gain
        close = 1e-6  # of the variance: two fits in single precision differ by less
        columns["p"][there] = (1 + (null >= delta - close).sum(axis=0)) / (1 + n_permutations)
        largest = null.max(axis=1)[:, None]
        columns["p_max"][there] = (1 + (largest >= delta - close).sum(axis=0)) / (
            1 + n_permutations
        )
        columns["q"] = fdr(columns["p"])
        exceed = (null.mean(axis=1) >= delta.mean() - close).sum()
        mean["p"] = (1 + exceed) / (1 + n_permutations)
    if n_bootstrap:
        rng = rng_for(seed, "bootstrap")
        counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_bootstrap)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (counts @ gain) / (counts @ share)
        ends = expanded_ends(n_units)
        columns["ci_low"][there], columns["ci_high"][there] = np.quantile(drawn, ends, axis=0)
        mean["ci_low"], mean["ci_high"] = np.quantile(drawn.mean(axis=1), ends)
    return columns, mean
