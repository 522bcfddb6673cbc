"""Saved tables that exercises read; one that is missing is an error that says who makes it."""

from __future__ import annotations

import pandas as pd

from cobe.core.errors import CobeError
from cobe.core.origin import require
from cobe.core.paths import PROJECT
from cobe.report.save import read_results


def saved_table(profile: str, name: str) -> pd.DataFrame:
    """A table that a notebook of the default left among a profile's work files.

    Parameters
    ----------
    profile : str
        ``"smoke"``, ``"quick"`` or ``"paper"``.
    name : str
        ``"losses"``, ``"scores"`` or ``"audit_scores"``.

    Raises
    ------
    CobeError
        The table is unknown, not there yet, or damaged.
    """
    return read_results(require(profile, f"{name}.parquet")[0])


def committed_table(name: str) -> pd.DataFrame:
    """A table of the project's own `figures/`, from the default run that is committed there.

    Parameters
    ----------
    name : str
        Such as ``"table_scaling_fits"``.

    Raises
    ------
    CobeError
        The table is not there.
    """
    path = PROJECT / "figures" / f"{name}.csv"
    if not path.is_file():
        raise CobeError(f"{path}: not there; restore it from the repository, it is committed")
    return pd.read_csv(path)
