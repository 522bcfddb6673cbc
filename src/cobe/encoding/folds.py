"""Folds over the rows of all runs: who is held out, who trains, who is purged between them."""

from dataclasses import dataclass

import numpy as np

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.solver import Part
from cobe.encoding.splits import RandomVolumes, contiguous_parts, has_rows, is_no_label

INNER_PARTS = 4
# 12 s at the TR of 1.49 s: what is left of a haemodynamic response after that is small.
MIN_PURGE_TRS = 8


@dataclass(frozen=True)
class Fold:
    """Rows of one held-out group and of its training set.

    Attributes
    ----------
    label : str
        Of the held-out group.
    train, test : int arrays
        Positions among the rows of all runs, ascending.
    n_purged : int
        Rows that are in neither, because they lie too near to a border in their run.
    """

    label: str
    train: np.ndarray
    test: np.ndarray
    n_purged: int


@dataclass(frozen=True)
class Split:
    """All folds, and what a row belongs to.

    Attributes
    ----------
    folds : list of Fold
    run : int array of shape (n_rows,)
        Run of each row; rows lie one run after the other.
    fold : int array of shape (n_rows,)
        Fold that holds the row out, -1 for none.
    segment : int array of shape (n_rows,)
        Rows that are centred together before scoring: those of one run in one fold. A random split
        is centred over its fold, as it was published.
    leaks : bool
        Whether neighbouring volumes are on both sides.
    """

    folds: list
    run: np.ndarray
    fold: np.ndarray
    segment: np.ndarray
    leaks: bool


def run_names(groups, n_runs):
    """What errors call each run.

    Raises
    ------
    CobeError
        There is not one entry of groups per run.
    """
    if isinstance(groups, RandomVolumes):
        return [f"run {i}" for i in range(n_runs)]
    if len(groups) != n_runs:
        raise CobeError(f"groups: {len(groups)} labels for {n_runs} runs; give one per run")
    return [f"run {i}" if has_rows(g) else f"run {i} (group {g!r})" for i, g in enumerate(groups)]


def check_groups(groups, lengths):
    """Make one label per volume of labels per run or per volume.

    Parameters
    ----------
    groups : sequence of hashable or of arrays of shape (n_trs,), or RandomVolumes
        See `cobe.encoding.evaluate`.
    lengths : sequence of int
        Volumes of each run.

    Returns
    -------
    labels : list of object arrays of shape (n_trs,), or None
        None marks volumes of no fold. None in place of the list: a random split, without labels.

    Raises
    ------
    CobeError
        Their number does not fit a run's volumes, there are fewer than two labels, two
        labels are the same as text, or one is ``"all"``.
    """
    if isinstance(groups, RandomVolumes):
        return None
    labels = []
    for run, (group, n_trs) in enumerate(zip(groups, lengths, strict=True)):
        row_labels = np.full(n_trs, None, object)
        if has_rows(group):
            if len(group) != n_trs:
                raise CobeError(
                    f"run {run}: {len(group)} labels in groups for {n_trs} volumes; "
                    "give one per volume, or one for the run"
                )
            plain = group.tolist() if hasattr(group, "tolist") else group
            row_labels[:] = [None if is_no_label(label) else label for label in plain]
        else:
            row_labels[:] = [group] * n_trs  # a plain assignment would spread a tuple
        labels.append(row_labels)
    found = dict.fromkeys(label for row_labels in labels for label in row_labels)
    found.pop(None, None)
    names = {str(label) for label in found}
    if len(found) < 2:
        only = next(iter(found), None)
        raise CobeError(
            f"groups: only {only!r} in {len(lengths)} runs; give at least two, such as one per run"
        )
    if "all" in names or len(names) < len(found):
        raise CobeError("groups: labels must differ as text, and none may be 'all'; rename them")
    return labels


def check_purge(purge_trs, reach_trs):
    """Volumes to purge at borders, not fewer than the delays reach.

    Raises
    ------
    CobeError
        Fewer, or not a whole number.
    """
    if purge_trs is None:
        return max(reach_trs, MIN_PURGE_TRS)
    if purge_trs != int(purge_trs) or purge_trs < reach_trs:
        raise CobeError(
            f"purge_trs: {purge_trs}, but delays reach back {reach_trs} volumes, so training rows "
            f"would hold features of held-out volumes; give {reach_trs} or more"
        )
    return int(purge_trs)


def make_folds(groups, labels, rows, purge_trs):
    """Hold out every group once.

    A row trains a fold unless it is held out in it, has no label, or lies within `purge_trs`
    volumes of a volume of the held-out group in the same run.

    Parameters
    ----------
    groups : sequence or RandomVolumes
        See `cobe.encoding.evaluate`.
    labels : list of object arrays of shape (n_trs,), or None
        From `check_groups`.
    rows : list of int arrays of shape (n_rows,)
        Volumes of each run that count; all of them have a label.
    purge_trs : int
        From `check_purge`.

    Returns
    -------
    split : Split

    Raises
    ------
    CobeError
        A fold would hold fewer than two rows on one side.
    """
    run = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    if labels is None:
        return _random_folds(groups, run)
    row_labels = np.concatenate([own[r] for own, r in zip(labels, rows, strict=True)])
    first = dict.fromkeys(label for own in labels for label in own)
    fold, folds = np.full(len(run), -1), []
    for k, label in enumerate(label for label in first if label is not None):
        held = np.array([other == label for other in row_labels], bool)
        near = np.concatenate(
            [_near(own, label, purge_trs)[r] for own, r in zip(labels, rows, strict=True)]
        )
        fold[held] = k
        train = np.flatnonzero(~held & ~near)
        folds.append(Fold(str(label), train, np.flatnonzero(held), int((~held & near).sum())))
    _check_sizes(folds)
    segment = np.unique(np.stack([run, fold]), axis=1, return_inverse=True)[1].ravel()
    return Split(folds, run, fold, segment, False)


def _near(labels, label, purge_trs):
    """Volumes within so many of one with the label, in the same run: bool (n_trs,)."""
    there = np.array([other == label for other in labels])
    if there.all():
        return there
    distance = np.full(len(labels), purge_trs + 1)
    held = np.flatnonzero(there)
    if len(held):
        volumes = np.arange(len(labels))
        after = np.searchsorted(held, volumes).clip(max=len(held) - 1)
        before = (after - 1).clip(min=0)
        distance = np.minimum(abs(held[after] - volumes), abs(held[before] - volumes))
    return distance <= purge_trs


def _random_folds(split, run):
    rng = rng_for(split.seed, "random volumes")
    order, n = rng.permutation(len(run)), len(run)
    fold = np.full(n, -1)
    if split.n_folds is None:
        fold[order[: round(split.test_fraction * n)]] = 0
        names = [f"random {split.test_fraction:.0%}"]
    else:
        fold[order] = np.arange(n) * split.n_folds // n
        names = [f"random {k + 1} of {split.n_folds}" for k in range(split.n_folds)]
    folds = [
        Fold(name, np.flatnonzero(fold != k), np.flatnonzero(fold == k), 0)
        for k, name in enumerate(names)
    ]
    _check_sizes(folds)
    return Split(folds, run, fold, fold, True)


def _check_sizes(folds):
    for fold in folds:
        for what, rows in (("held out", fold.test), ("for training", fold.train)):
            if len(rows) < 2:
                raise CobeError(
                    f"group {fold.label!r}: {len(rows)} valid rows {what}, {fold.n_purged} purged "
                    "at its borders; leave its volumes unlabelled, or give more data"
                )


def inner_parts(x, y, train, run, purge_trs, choose):
    """Parts of the training rows: one inner fold per run, or four within a single run.

    Parameters
    ----------
    x, y : tensors of shape (n_rows, n_columns), (n_rows, n_targets)
        Rows of all runs.
    train : int array
        Rows to train on, ascending.
    run : int array of shape (n_rows,)
        Run of each row.
    purge_trs : int
        Rows to leave out between the parts of a single run.
    choose : bool
        Whether there is anything to choose; if not, a single run stays in one part.

    Returns
    -------
    parts : list of Part
    """
    number = np.unique(run[train], return_inverse=True)[1]
    if number[-1] == 0 and choose:
        # Neighbouring rows may lie apart in time, so purging rows purges at least as many volumes.
        # Those purged here, numbered -1, join the refit.
        number = contiguous_parts(len(train), INNER_PARTS, purge_trs)
    pieces = {int(k): train[number == k] for k in np.unique(number)}
    return [Part(take(x, rows), take(y, rows), k) for k, rows in pieces.items()]


def take(tensor, rows):
    """Rows of a tensor: a view where they follow each other, which saves memory."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return tensor[rows[0] : rows[-1] + 1]
    return tensor[rows]
