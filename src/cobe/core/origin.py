"""Which notebook makes what: said when it is missing, before it is made out of order.

A stage makes what it does not find. In the notebook whose task that is, nothing needs saying; in
any other one a reader would wait for minutes without knowing why, so the store says a line first.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from cobe.core.errors import CobeError
from cobe.core.paths import build_dir, figures_dir
from cobe.core.profiles import PROFILES

# the driver tells a kernel here which notebook it runs
NOTEBOOK = "COBE_NOTEBOOK"
# makes a small one of everything, which is its task
TOUR = "00_tour"


@dataclass(frozen=True)
class Origin:
    """What makes a kind of result.

    Attributes
    ----------
    notebook : str
        The notebook whose task it is.
    minutes : float
        That notebook with the default profile on two cores, roughly.
    only : str
        What ``--only`` takes to run it; empty: the default does.
    also : tuple of str
        Notebooks that make more of the kind, of their own.
    """

    notebook: str
    minutes: float
    only: str = ""
    also: tuple[str, ...] = ()

    def command(self, profile: str) -> str:
        """The command that makes it."""
        words = ["./run_all.sh"]
        words += [] if profile == "quick" else ["--profile", profile]
        words += ["--only", self.only] if self.only else []
        return " ".join(words)


_DATA = Origin("01_data", 6)
_TOKENS = Origin("02_vqvae", 3)
_SCORES = Origin("04_encoding", 3, also=("07_audit", "09_explore"))
_PAPER = Origin("05_paper_figures", 1)
_SCALING = Origin("06_compute_optimal", 25, only="scaling")
_AUDIT = Origin("07_audit", 8)
_BLOCKS = Origin("07_audit", 8, also=("09_explore",))
_THROUGHPUT = Origin("08_throughput", 4, only="throughput")
_EXPLORE = Origin("09_explore", 2)

# the first part of an artifact's name
ARTIFACTS = {
    **dict.fromkeys(("frames", "bold", "series", "endings"), _DATA),
    **dict.fromkeys(("vqvae", "tokens"), _TOKENS),
    "gpt": Origin("03_gpt_training", 6, also=("07_audit",)),
    "features": Origin("04_encoding", 3, also=("06_compute_optimal", "07_audit", "08_throughput")),
    **dict.fromkeys(("controls", "scores"), _SCORES),
    **dict.fromkeys(("grid", "grid_scores"), _SCALING),
    "blocks": _BLOCKS,
    **dict.fromkeys(("bands", "generality", "null-brain", "planted-brain"), _AUDIT),
    **dict.fromkeys(("throughput", "recipes"), _THROUGHPUT),
    "explored": _EXPLORE,
}
# what cannot be read of a run is never saved: it is tried again, and left out again
RETRIED = ("bold", "series", "endings")
# tables beside the executed notebooks, and in the folder of figures
TABLES = {
    **dict.fromkeys(("scores.parquet", "losses.parquet"), _PAPER),
    **dict.fromkeys(("table_hyperparameters.csv", "table_model_size.csv"), _PAPER),
    "table_timing.csv": _PAPER,
    **dict.fromkeys(("grid_losses.parquet", "grid_scores.parquet"), _SCALING),
    **dict.fromkeys(("table_allocation.csv", "table_scaling_fits.csv"), _SCALING),
    **dict.fromkeys(("audit_scores.parquet", "table_ledger.csv"), _AUDIT),
    **dict.fromkeys(("table_throughput.csv", "table_cost.csv"), _THROUGHPUT),
    "table_parcels.csv": _EXPLORE,
}


def command_of(made_by: str, profile: str) -> str:
    """The command that runs a notebook again, such as "notebooks/07_audit.ipynb"."""
    stem = Path(made_by).stem
    known = {origin.notebook: origin for origin in (*TABLES.values(), *ARTIFACTS.values())}
    profile = profile if profile in PROFILES else "quick"
    return known.get(stem, _DATA).command(profile)


_saved_only: ContextVar[bool] = ContextVar("saved_only", default=False)


def this_notebook() -> str | None:
    """Stem of the notebook that runs; "" in one whose name is unknown, None outside notebooks."""
    named = os.environ.get(NOTEBOOK) or os.environ.get("JPY_SESSION_NAME")
    if named:
        return Path(named).stem
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        return None
    return Path(shell.user_ns.get("__vsc_ipynb_file__", "")).stem  # VS Code's


@contextmanager
def saved_only():
    """Inside it, a stage that does not find a result says who makes it, and makes nothing.

    For readers of saved results. The stage raises a `CobeError` that names the notebook and the
    command.
    """
    token = _saved_only.set(True)
    try:
        yield
    finally:
        _saved_only.reset(token)


def before_making(name: str, root: Path) -> str:
    """What to say before an artifact is made that is not there.

    Parameters
    ----------
    name : str
        Of the artifact.
    root : Path
        Folder of its store, that is the profile's ``artifacts``.

    Returns
    -------
    line : str
        Empty where this is the notebook that makes it, or no notebook at all.

    Raises
    ------
    CobeError
        Inside `saved_only`.
    """
    kind = name.partition("/")[0]
    origin = ARTIFACTS.get(kind)
    if origin is None:
        return ""
    profile = root.parent.name
    profile = profile if profile in PROFILES else "quick"
    if _saved_only.get() and kind not in RETRIED:
        raise CobeError(
            f"{name} (profile {profile!r}): not there, and only saved results are read here; "
            f"notebook {origin.notebook} makes it: run {origin.command(profile)}"
        )
    here = this_notebook()
    if here in (None, TOUR, origin.notebook):
        return ""
    about = f" (about {origin.minutes:g} min)" if profile == "quick" else ""
    if here in origin.also:
        return (
            f"{kind}: not all there yet; notebook {origin.notebook} makes those of the figures"
            f"{about}, this one its own; making them now"
        )
    return (
        f"{kind}: not there yet; notebook {origin.notebook}, or {origin.command(profile)}, makes "
        f"it{about}; making it now"
    )


def require(profile: str, *names: str) -> list[Path]:
    """Paths of tables that earlier notebooks wrote.

    Parameters
    ----------
    profile : str
        Name of the profile.
    *names : str
        Names in `TABLES`, such as ``"scores.parquet"``.

    Returns
    -------
    paths : list of Path
        In the order of `names`.

    Raises
    ------
    CobeError
        A name is unknown; or tables are missing: all of them, each with the notebook and the
        command that make it.
    """
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise CobeError(f"table {unknown[0]!r}: unknown; choose from {', '.join(TABLES)}")
    folders = {name: build_dir(profile) for name in names if name.endswith(".parquet")}
    paths = [folders.get(name, figures_dir(profile)) / name for name in names]
    missing = [
        f"{path}: not there; notebook {TABLES[path.name].notebook} makes it: run "
        f"{TABLES[path.name].command(profile)}"
        for path in paths
        if not path.is_file()
    ]
    if missing:
        raise CobeError("; ".join(missing))
    return paths
