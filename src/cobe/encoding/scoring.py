"""Scores on held-out groups, with chance levels: bring your own features."""

import warnings

import numpy as np
import pandas as pd
import torch

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.design import build_design, check_alphas
from cobe.encoding.permute import refit_null
from cobe.encoding.ridge import warn_edges
from cobe.encoding.solver import Part, solve
from cobe.encoding.splits import contiguous_parts
from cobe.encoding.stats import (
    block_numbers,
    block_permutations,
    bootstrap_r,
    centre_in_runs,
    chance_of,
    fdr,
    moved_null,
)

COLUMNS = (
    "target summary held_out r r2 p q p_max chance_95 ci_low ci_high n_trs alpha n_alpha_edge"
).split()
INNER_PARTS = 4
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
):
    """Score features against responses on groups of runs that the fit has not seen.

    Each group is held out once. Every target's penalty is chosen inside the training runs, by
    leave-one-run-out; if only one run is left for training, by leave-one-part-out over four parts
    of it, with purged borders as long as the delays. Held-out predictions and responses are
    centred within their run before scoring, because a run's offset is not predicted.

    R over ``"all"`` rows pools the held-out rows of all groups. Each group has a model of its own,
    whose predictions differ in amplitude with its data and penalties. A correlation should not see
    that, so each target's predictions are brought to the same variance in every group first
    (``equalise_folds``). Pooled as they are they score lower than the single groups do, and below
    zero where there is no relation: -0.03 with 3 groups and -0.05 with 6 in simulations.

    P-values are one-sided and come from moving blocks of the responses within runs, the same for
    all targets (`cobe.encoding.stats.block_permutations`), and fitting every fold again with its
    penalties kept (``null="refit"``). ``null="moved"`` moves finished predictions instead, which is
    several times faster, but not valid here: groups share training data, which it ignores. In
    simulated noise it called 11 % of targets significant at .05, and found something by the
    maximum statistic in 36 % of data sets, where refitting gave 5 % and 7 %.

    Intervals resample held-out blocks of at least `block_trs` rows (``bootstrap="block"``). They
    hold the noise of the held-out recordings around these models, not the variation between
    sessions nor that of the fit, and are somewhat narrow with fewer than about 20 blocks.
    ``bootstrap="group"`` resamples whole groups, which includes the variation between sessions; it
    needs six groups, since with three there are only ten different resamples and the interval
    means nothing. With few sessions look at the rows of the single groups. The maximum over
    targets has no interval: the bootstrap is inconsistent for it.

    Parameters
    ----------
    runs_x : list of arrays of shape (n_trs, n_features)
        Features of each run at the volumes' rate, NaN rows where missing. Delays are built here.
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses, NaN rows where invalid. A target that is NaN throughout a run, or constant, gets
        NaN scores and a warning.
    groups : sequence of hashable
        One label per run, such as its session; runs of one label are held out together.
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
          penalty was at an edge of the grid.

    Raises
    ------
    CobeError
        Widths differ, groups do not match, fewer than two groups, no valid row in a run, infinite
        values, a delay longer than a run, a penalty that is not positive, blocks longer than every
        run: named with the run, before any fit.

    Warns
    -----
    RuntimeWarning
        Some targets cannot be scored; some runs hold only one block; penalties at the grid's edge.
    """
    grid = check_alphas(alphas)
    _check_options(groups, n_permutations, block_trs, n_bootstrap, bootstrap, null)
    design = build_design(runs_x, runs_y, groups, delays_tr, dtype, device)
    lengths = [len(rows) for rows in design.rows]
    _check_blocks(lengths, groups, block_trs, n_permutations)
    labels = list(dict.fromkeys(groups))
    run_group = np.array([labels.index(g) for g in groups])
    purge = int(max(np.atleast_1d(delays_tr)))
    folds = [_inner_parts(design, run_group != k, purge, len(grid)) for k in range(len(labels))]

    n_targets = design.y[0].shape[1]
    predictions = [None] * len(design.x)
    alpha = np.full((len(labels), n_targets), np.nan)
    scale = np.ones(len(labels))
    low, high = np.zeros((2, len(labels), n_targets), bool)
    for k, parts in enumerate(folds):
        solution = solve(parts, grid, design.missing, relative_alphas)
        alpha[k], scale[k] = solution.alphas, solution.alpha_scale
        low[k], high[k] = solution.edges()
        for run in np.flatnonzero(run_group == k):
            # the intercept goes when predictions are centred within runs; beside it those of a
            # strongly penalised target would be rounded to a constant
            predicted = design.x[run] @ solution.weights
            predictions[run] = predicted.cpu().numpy()
    warn_edges(grid, low.sum(), high.sum(), np.isfinite(alpha).sum())

    p = centre_in_runs(np.concatenate(predictions), lengths)
    y = centre_in_runs(torch.cat(design.y).cpu().numpy(), lengths)
    y[:, design.missing] = np.nan
    row_group = np.repeat(run_group, lengths)
    r, r2 = _correlate(p, y)
    pooled = _equalise(p, row_group) if equalise_folds else p
    r = _correlate(pooled, y)[0]
    dead = np.flatnonzero(~np.isfinite(r))
    if len(dead):
        warnings.warn(
            f"targets: {len(dead)} of {n_targets} cannot be scored (first: {dead[0]}), "
            f"{int(design.missing.sum())} of them NaN throughout a run, the rest constant in "
            "responses "
            "or predictions; their scores are NaN",
            RuntimeWarning,
            stacklevel=2,
        )
    order = block_permutations(lengths, block_trs, n_permutations, rng_for(seed, "permutations"))
    if null == "refit":
        under_chance = refit_null(
            design.x, design.y, run_group, alpha * scale[:, None], order, equalise_folds
        )
    else:
        under_chance = moved_null(pooled, y, order)
    chance = chance_of(r, under_chance)
    units = row_group if bootstrap == "group" else _block_units(lengths, block_trs)
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
    blocks = [_rows("all", r, r2, len(p), mean_alpha, edge.sum(axis=0), **extra)]
    summaries = _summaries("all", r, r2, len(p), edge.sum(), chance, ci_mean)
    for k, label in enumerate(labels):
        rows = row_group == k
        fold_r, fold_r2 = _correlate(p[rows], y[rows])
        n = int(rows.sum())
        blocks.append(_rows(str(label), fold_r, fold_r2, n, alpha[k], edge[k]))
        summaries += _summaries(str(label), fold_r, fold_r2, n, edge[k].sum())
    table = pd.concat([*blocks, pd.DataFrame(summaries)], ignore_index=True)
    table = table.reindex(columns=COLUMNS)
    return table.astype({"target": int, "n_trs": int, "n_alpha_edge": int})


def _check_options(groups, n_permutations, block_trs, n_bootstrap, bootstrap, null):
    names = {str(g) for g in groups}
    if "all" in names or len(names) < len(set(groups)):
        raise CobeError("groups: labels must differ as text, and none may be 'all'; rename them")
    for name, value, least in (
        ("n_permutations", n_permutations, 0),
        ("n_bootstrap", n_bootstrap, 0),
        ("block_trs", block_trs, 1),
    ):
        if int(value) != value or value < least:
            raise CobeError(f"{name}: {value}; give a whole number, {least} or more")
    for name, value, known in (
        ("bootstrap", bootstrap, ("block", "group")),
        ("null", null, ("refit", "moved")),
    ):
        if value not in known:
            raise CobeError(f"{name}: {value!r} is unknown; give one of {', '.join(known)}")
    if bootstrap == "group" and len(names) < MIN_GROUPS_TO_RESAMPLE:
        raise CobeError(
            f"bootstrap: {len(names)} groups are too few to resample, {MIN_GROUPS_TO_RESAMPLE} are "
            "needed; use bootstrap='block'"
        )


def _check_blocks(lengths, groups, block_trs, n_permutations):
    short = [i for i, n in enumerate(lengths) if n < 2 * block_trs]
    if not short or not n_permutations:
        return
    first = short[0]
    found = f"run {first} (group {groups[first]!r}): {lengths[first]} valid rows"
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


def _inner_parts(design, training, purge, n_alphas):
    """Parts of the training runs: one inner fold per run, or four within a single run."""
    runs = np.flatnonzero(training)
    if len(runs) > 1:
        return [Part(design.x[run], design.y[run], fold) for fold, run in enumerate(runs)]
    x, y = design.x[runs[0]], design.y[runs[0]]
    if n_alphas == 1:
        return [Part(x, y, 0)]
    # Neighbouring rows may lie apart in time, so purging rows purges at least as many volumes.
    number = contiguous_parts(len(x), INNER_PARTS, purge)
    return [
        Part(x[rows], y[rows], int(part))
        for part in np.unique(number)
        for rows in [torch.from_numpy(number == part).to(x.device)]
    ]


def _block_units(lengths, block_trs):
    units, begin = [], 0
    for n in lengths:
        units.append(block_numbers(n, block_trs) + begin)
        begin = units[-1][-1] + 1
    return np.concatenate(units)


def _equalise(p, row_group):
    """Predictions divided by their root mean square in each held-out group."""
    equal = p.copy()
    for k in np.unique(row_group):
        rms = np.sqrt((p[row_group == k] ** 2).mean(axis=0))
        equal[row_group == k] /= np.where(rms > 0, rms, 1)
    return equal


def _correlate(p, y):
    """Pearson r and R2 of columns that are centred within runs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (y * y).sum(axis=0)
        r = (p * y).sum(axis=0) / np.sqrt((p * p).sum(axis=0) * total)
        r2 = 1 - ((y - p) ** 2).sum(axis=0) / total
    return r, np.where(np.isfinite(r), r2, np.nan)


def _rows(held_out, r, r2, n_trs, alpha, n_alpha_edge, **extra):
    columns = {"r": r, "r2": r2, "n_trs": n_trs, "alpha": alpha, "n_alpha_edge": n_alpha_edge}
    return pd.DataFrame(
        {
            "target": np.arange(len(r)),
            "summary": "target",
            "held_out": held_out,
            **dict.fromkeys(COLUMNS[5:11], np.nan),
            **columns,
            **extra,
        }
    )


def _summaries(held_out, r, r2, n_trs, n_alpha_edge, chance=None, ci_mean=(np.nan, np.nan)):
    there = np.isfinite(r)
    found = there.any()
    best = int(np.nanargmax(r)) if found else -1
    common = {
        "target": -1,
        "held_out": held_out,
        "n_trs": n_trs,
        "alpha": np.nan,
        "n_alpha_edge": int(n_alpha_edge),
    }
    mean = {
        **common,
        "summary": "mean",
        "r": r[there].mean() if found else np.nan,
        "r2": r2[there].mean() if found else np.nan,
    }
    largest = {
        **common,
        "summary": "max",
        "r": r[best] if found else np.nan,
        "r2": r2[best] if found else np.nan,
    }
    if chance is not None:
        mean |= {"p": chance.p_mean, "chance_95": chance.chance_95_mean}
        mean |= {"ci_low": ci_mean[0], "ci_high": ci_mean[1]}
        p_max = chance.p_max[best] if found else np.nan
        largest |= {"p": p_max, "p_max": p_max, "chance_95": chance.chance_95_max}
    return [mean, largest]
