"""Confounds of a run, as nilearn chooses them from fMRIPrep's table."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.interfaces.fmriprep.load_confounds_utils import MissingConfoundError

from cobe.brain.records import Run
from cobe.core.bounds import check_bytes
from cobe.core.errors import CobeError

# Arguments of nilearn's `load_confounds`. "minimal" is what the lab's own tutorials use,
# "simple_gs" is `load_confounds_strategy("simple", global_signal="basic")`, as in its parcel files.
STRATEGIES = {
    "minimal": {
        "strategy": ("motion", "high_pass", "wm_csf"),
        "motion": "basic",
        "wm_csf": "basic",
    },
    "simple_gs": {
        "strategy": ("high_pass", "motion", "wm_csf", "global_signal"),
        "motion": "full",
        "wm_csf": "basic",
        "global_signal": "basic",
    },
}
# fMRIPrep's high-pass filter of 128 s has at least one cosine in a run of this length.
HIGH_PASS_S = 128.0
# fMRIPrep writes up to a thousand columns: some 20 MiB in an hour's run.
MAX_BYTES = 256 * 2**20


def read_confounds(run: Run, strategy: str) -> pd.DataFrame:
    """The confounds of a strategy, as nilearn chooses them: one row per volume.

    Parameters
    ----------
    run : Run
        With BOLD and confounds side by side, in the names of fMRIPrep.
    strategy : str
        A name of `STRATEGIES`.

    Returns
    -------
    confounds : DataFrame of float64, shape (n_trs, n_confounds)
        Each with mean 0 over the run; the derivative of the first volume, which has none, is that
        of the second.

    Raises
    ------
    CobeError
        The strategy is unknown, a column is missing or holds no numbers.
    """
    if strategy not in STRATEGIES:
        raise CobeError(f"confounds {strategy!r}: unknown; choose one of {', '.join(STRATEGIES)}")
    check_bytes(run.confounds, MAX_BYTES)
    try:
        confounds, kept = load_confounds(str(run.bold), **STRATEGIES[strategy])
        values = confounds.to_numpy(dtype=np.float64)
    except (MissingConfoundError, ValueError, TypeError, LookupError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CobeError(
            f"{run.confounds}: not the confounds of strategy {strategy!r} ({reason}); get it again"
        ) from error
    # nilearn leaves out a high-pass filter that it does not find, and says nothing.
    if len(confounds) * run.tr_s >= HIGH_PASS_S and not any(
        column.startswith("cosine") for column in confounds
    ):
        raise CobeError(
            f"{run.confounds}: no cosine columns (high-pass filter) in a run of "
            f"{len(confounds) * run.tr_s:.0f} s; get it again"
        )
    if not np.isfinite(values).all():
        bad = confounds.columns[~np.isfinite(values).all(axis=0)]
        raise CobeError(
            f"{run.confounds}: no number after the first row in {', '.join(bad[:5])}; get it again"
        )
    if kept is not None:
        warnings.warn(
            f"{run.name}: {len(confounds) - len(kept)} volumes are marked as not in steady state "
            "and are kept",
            stacklevel=2,
        )
    return confounds
