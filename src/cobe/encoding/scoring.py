"""Scores on held-out groups, with chance levels: bring your own features."""

import warnings

import numpy as np

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.crossval import N_BAND_WEIGHTS, fit_folds, load, make_plan
from cobe.encoding.folds import run_names
from cobe.encoding.intervals import bootstrap_r
from cobe.encoding.permute import RefitNull
from cobe.encoding.ridge import warn_edges
from cobe.encoding.splits import RandomVolumes, describe_folds
from cobe.encoding.stats import (
    block_numbers,
    block_permutations,
    centre_in_segments,
    chance_of,
    fdr,
    moved_null,
)
from cobe.encoding.table import correlate, equalise, joined, summary_rows, target_rows

MIN_GROUPS_TO_RESAMPLE = 6


def evaluate(
    runs_x,
    runs_y,
    *,
    groups,
    delays_tr,
    alphas,
    n_permutations=1000,
    block_trs=40,
    seed=0,
    relative_alphas=False,
    n_bootstrap=1000,
    bootstrap="block",
    equalise_folds=True,
    null="refit",
    dtype=np.float32,
    device="cpu",
    alpha_per_target=True,
    reduce=None,
    bands=None,
    band_weights=N_BAND_WEIGHTS,
    hrf=None,
    purge_trs=None,
):
    """Score features against responses on groups of runs that the fit has not seen.

    Each group is held out once. Every target's penalty is chosen inside the training runs, by
    leave-one-run-out; if only one run is left for training, by leave-one-part-out over four parts
    of it, with purged borders as long as the delays. The weights of bands and the readout are
    chosen on the same inner folds. Held-out predictions and responses are centred within their run
    before scoring, because a run's offset is not predicted.

    Labels per volume hold out a part of a run, such as a level. Delays are built in the whole run
    first. Training rows within `purge_trs` volumes of the held-out group are purged, before and
    after it, so that no volume's features serve both sides; those left out are counted. The first
    held-out rows may still look back at what was there before, unless a gap lies between. Rows are
    centred within run and group then. A random split of volumes is neither purged nor centred by
    run, but over its held-out rows, as it is commonly scored.

    R over ``"all"`` rows pools the held-out rows of all groups. Each group has a model of its own,
    whose predictions differ in amplitude with its data and penalties. A correlation should not see
    that, so each target's predictions are brought to the same variance in every group first
    (``equalise_folds``). Pooled as they are they score lower than the single groups do, and below
    zero where there is no relation: -0.03 with 3 groups and -0.05 with 6 in simulations.

    P-values are one-sided and come from moving blocks of the responses within runs, the same for
    all targets (`cobe.encoding.stats.block_permutations`), and fitting every fold again with its
    penalties kept (``null="refit"``): 5 to 7 % of targets at .05 in simulated noise that is as slow
    as BOLD and features are (`cobe.bench.nulls`). ``null="moved"`` moves finished predictions
    instead, which is several times faster, but not valid here: groups share training data, which it
    ignores. In simulated noise it called 11 % of targets significant at .05, and found something by
    the maximum statistic in 36 % of data sets, where refitting gave 5 % and 7 %.
    Choices made inside the training rows (penalties, weights of bands, the readout) are kept under
    permutation; they were made without the held-out rows. Under a split that leaks, refitting
    leaks too, and ``chance_95`` shows how much.

    Intervals resample held-out blocks of at least `block_trs` rows (``bootstrap="block"``). They
    hold the noise of the held-out recordings around these models, not the variation between
    sessions nor that of the fit.
    ``bootstrap="group"`` resamples whole groups, which includes the variation between sessions; it
    needs six groups, since with three there are only ten different resamples and the interval
    means nothing. With few sessions look at the rows of the single groups. The maximum over
    targets has no interval: the bootstrap is inconsistent for it.

    Parameters
    ----------
    runs_x : list of arrays of shape (n_trs, n_features), or dict of str to such a list
        Features of each run at the volumes' rate, NaN rows where missing. Delays are built here.
        A dict names several readouts of one model, such as its blocks: each fold reads the one
        with the best mean cross-validated R2 over targets in its training rows, one for all
        targets. This costs as many fits as there are readouts. Rows must be there in all of them.
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses, NaN rows where invalid. A target that is NaN throughout a run, or constant, gets
        NaN scores and a warning.
    groups : sequence of hashable or of arrays of shape (n_trs,), or RandomVolumes
        One label per run, such as its session; runs of one label are held out together. An array
        labels every volume of its run, such as with its level
        (`cobe.encoding.splits.level_groups`); volumes labelled None or ``""`` neither train nor
        test, and are counted. `cobe.encoding.splits.RandomVolumes` draws volumes at random, which
        leaks and says so.
    delays_tr : sequence of int
        Delays in volumes; positive means that the brain answers later.
    alphas : sequence of float
        Penalties to choose from.
    n_permutations : int
        Block permutations; 0 leaves p-values NaN.
    block_trs : int
        Smallest length of a block in rows.
    seed : int
        Seed of permutations and bootstrap; the same seed gives the same table.
    relative_alphas : bool
        Penalties in units of the mean variance of the training columns, so that one grid serves
        features of any scale.
    n_bootstrap : int
        Resamples for the interval (95 %); 0 leaves it NaN.
    bootstrap : str
        ``"block"`` or ``"group"``.
    equalise_folds : bool
        Equal variance of predictions in every group before r over ``"all"`` rows. R2 always takes
        predictions as they are.
    null : str
        ``"refit"`` or ``"moved"``.
    dtype : numpy dtype
        float32 or float64.
    device : str or torch.device
        Where the fits run.
    alpha_per_target : bool
        False: one penalty for all targets, with the best mean cross-validated R2 over them.
    reduce : Reduction, dict of band names to Reduction, or None
        Scale features and bring them to a common width (`cobe.encoding.reduce.Reduction`), fitted
        in every fold on the volumes that its training rows look at, before delays. With bands, each
        band on its own.
    bands : dict of str to slice or list of int, or None
        Columns of `runs_x`, before delays, that share a penalty: banded ridge.
        `cobe.encoding.unique.stack_bands` makes it from one list of runs per band.
    band_weights : int or array of shape (n_candidates, n_bands)
        How many weights to draw (`cobe.encoding.banded.sample_band_weights`), or those to try.
    hrf : HRF or None
        Convolve features with a response function (`cobe.encoding.hrf.HRF`) in place of delays;
        give ``delays_tr=(0,)``.
    purge_trs : int or None
        Volumes purged where folds touch inside a run; not fewer than the delays reach back. None:
        the reach of the delays inside a single training run, and at least 8 volumes (12 s at a TR
        of 1.49 s) around held-out parts of runs.

    Returns
    -------
    table : DataFrame
        One row per target and held-out group, and per target over ``"all"`` held-out rows; then
        summaries (target -1) ``"mean"`` and ``"max"`` over targets for the same. Columns:

        - ``target``, ``summary`` (``"target"``, ``"mean"``, ``"max"``), ``held_out``;
        - ``r``, ``r2``: Pearson correlation and 1 - residual / total sum of squares;
        - only for ``"all"``: ``p``, ``q`` (Benjamini-Hochberg over targets), ``p_max`` (maximum
          statistic), ``chance_95`` (95th percentile under chance), ``ci_low``, ``ci_high`` (of r);
        - ``n_trs``: held-out rows;
        - ``alpha``: penalty chosen with that group held out, geometric mean over groups for
          ``"all"``; NaN in summaries;
        - ``n_alpha_edge``: at how many of these folds (summed over targets in summaries) the
          penalty was at an edge of the grid;
        - ``readout``: name of the readout that the fold chose, all different ones for ``"all"``,
          ``""`` without a choice;
        - ``leaks``: whether the split leaks.

        ``table.attrs`` holds, as plain lists and numbers: ``leaks``; ``split``, the folds in a
        sentence; ``folds``, per fold its rows for training, held out and purged; ``rows``, per run
        what became of its volumes (as `cobe.encoding.design.row_counts`).

    Raises
    ------
    CobeError
        Widths differ, groups do not match, fewer than two groups, no valid row in a run, infinite
        values, a delay longer than a run, a penalty that is not positive, blocks longer than every
        run, a purge shorter than the delays, bands that do not cover the columns, more components
        than features or training volumes: named with the run, before any fit.

    Warns
    -----
    RuntimeWarning
        Some targets cannot be scored; some runs hold only one block; penalties at the grid's edge.
    """
    plan = make_plan(
        delays_tr=delays_tr,
        alphas=alphas,
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
    check_whole(n_permutations=(n_permutations, 0), n_bootstrap=(n_bootstrap, 0))
    check_whole(block_trs=(block_trs, 1))
    for name, value, known in (
        ("bootstrap", bootstrap, ("block", "group")),
        ("null", null, ("refit", "moved")),
    ):
        if value not in known:
            raise CobeError(f"{name}: {value!r} is unknown; give one of {', '.join(known)}")
    groups = groups if isinstance(groups, RandomVolumes) else list(groups)
    data = load(runs_x, runs_y, groups, plan)
    split, y_rows = data.split, data.y
    if bootstrap == "group":
        check_enough_groups(len(split.folds))
    if null == "moved" and (split.fold < 0).any():
        raise CobeError(
            "null: 'moved' moves predictions of whole runs, and some rows are never held out; "
            "use null='refit'"
        )
    _check_blocks(run_names(groups, len(runs_y)), data.lengths, block_trs, n_permutations)
    order = block_permutations(
        data.lengths, block_trs, n_permutations, rng_for(seed, "permutations")
    )
    refit = RefitNull(y_rows, split, order, equalise_folds) if null == "refit" else None

    n_targets = y_rows.shape[1]
    predictions = np.full((len(y_rows), n_targets), np.nan, plan.dtype)
    alpha = np.full((len(split.folds), n_targets), np.nan)
    low, high = np.zeros((2, *alpha.shape), bool)
    readouts = {}
    for k, fit in enumerate(fit_folds(data, plan)):
        predictions[fit.fold.test] = fit.predicted
        alpha[k], low[k], high[k] = fit.alphas, fit.low, fit.high
        readouts[fit.fold.label] = fit.readout
        if refit:
            refit.add(fit.x, fit.fold, fit.penalties, fit.column_weights)
    n_fits = np.isfinite(alpha).sum()
    warn_edges(plan.grid, low.sum(), high.sum(), n_fits, "fits of targets in folds")

    scored = np.flatnonzero(split.fold >= 0)
    fold_of, segment = split.fold[scored], split.segment[scored]
    p = centre_in_segments(predictions[scored], segment)
    y = centre_in_segments(y_rows.cpu().numpy()[scored], segment)
    y[:, data.missing] = np.nan
    r2 = correlate(p, y)[1]
    pooled = equalise(p, fold_of) if equalise_folds else p
    r = correlate(pooled, y)[0]
    _warn_dead(r, data.missing)
    under_chance = refit.r() if refit else moved_null(pooled, y, order)
    chance = chance_of(r, under_chance)
    units = row_units(split, block_trs, bootstrap)
    ci_low, ci_high, ci_mean = bootstrap_r(pooled, y, units, n_bootstrap, seed)

    edge = low | high
    with np.errstate(invalid="ignore"):
        mean_alpha = np.exp(np.log(alpha).mean(axis=0))
    extra = {
        "p": chance.p,
        "q": fdr(chance.p),
        "p_max": chance.p_max,
        "chance_95": chance.chance_95,
        "ci_low": ci_low,
        "ci_high": ci_high,
    }
    blocks = [target_rows("all", r, r2, len(p), mean_alpha, edge.sum(axis=0), **extra)]
    summaries = summary_rows("all", r, r2, len(p), edge.sum(), chance, ci_mean)
    for k, fold in enumerate(split.folds):
        rows = fold_of == k
        fold_r, fold_r2 = correlate(p[rows], y[rows])
        n = int(rows.sum())
        blocks.append(target_rows(fold.label, fold_r, fold_r2, n, alpha[k], edge[k]))
        summaries += summary_rows(fold.label, fold_r, fold_r2, n, edge[k].sum())
    readouts["all"] = ",".join(sorted(set(readouts.values())))
    table = joined(blocks, summaries, readouts, split.leaks)
    table.attrs |= describe_rows(data, groups)
    return table


def describe_rows(data, groups):
    """What a table should know of its rows and folds, in plain lists and numbers."""
    return {
        "leaks": data.split.leaks,
        "split": describe_folds(groups, "group"),
        "folds": [
            {
                "held_out": fold.label,
                "n_train": len(fold.train),
                "n_held_out": len(fold.test),
                "n_purged": fold.n_purged,
            }
            for fold in data.split.folds
        ],
        "rows": [{"run": run, **counts} for run, counts in enumerate(data.counts)],
    }


def check_whole(**numbers):
    """Each a (value, least) pair: whole numbers that are not below the least."""
    for name, (value, least) in numbers.items():
        if int(value) != value or value < least:
            raise CobeError(f"{name}: {value}; give a whole number, {least} or more")


def check_enough_groups(n_groups):
    """Enough groups to resample them; otherwise CobeError."""
    if n_groups < MIN_GROUPS_TO_RESAMPLE:
        raise CobeError(
            f"bootstrap: {n_groups} groups are too few to resample, {MIN_GROUPS_TO_RESAMPLE} are "
            "needed; use bootstrap='block'"
        )


def row_units(split, block_trs, kind):
    """Rows that are resampled together: int (n_scored_rows,), blocks of a run or whole groups."""
    scored = split.fold >= 0
    if kind == "group":
        return split.fold[scored]
    units, begin = [], 0
    for n in np.bincount(split.run[scored]):
        if n:
            units.append(block_numbers(n, block_trs) + begin)
            begin = units[-1][-1] + 1
    return np.concatenate(units)


def _check_blocks(names, lengths, block_trs, n_permutations):
    short = [i for i, n in enumerate(lengths) if n < 2 * block_trs]
    if not short or not n_permutations:
        return
    first = short[0]
    found = f"{names[first]}: {lengths[first]} valid rows"
    if max(lengths) < block_trs:
        raise CobeError(
            f"{found} are fewer than a block of {block_trs}, as in every run; lower block_trs"
        )
    warnings.warn(
        f"{found} hold fewer than two blocks of {block_trs}, so the run is only rotated in "
        f"permutations ({len(short)} of {len(lengths)} runs); lower block_trs or leave them out",
        RuntimeWarning,
        stacklevel=3,
    )


def _warn_dead(r, missing):
    dead = np.flatnonzero(~np.isfinite(r))
    if len(dead):
        warnings.warn(
            f"targets: {len(dead)} of {len(r)} cannot be scored (first: {dead[0]}), "
            f"{int(missing.sum())} of them NaN throughout a run, the rest constant in responses or "
            "predictions; their scores are NaN",
            RuntimeWarning,
            stacklevel=3,
        )
