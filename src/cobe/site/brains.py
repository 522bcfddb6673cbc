"""Brain views: still pictures, each with a page of nilearn's below it that can be turned."""

from __future__ import annotations

import hashlib
import re
from html import escape
from pathlib import Path

import pandas as pd

from cobe.brain.parcels import check_labels
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.explore.brain import brain_still, brain_view, participant_parcels
from cobe.explore.live import figure_png
from cobe.report.maps import scale_top
from cobe.sweep.pipeline import load_atlas, open_pipeline

TABLE = "table_parcels.csv"
MODELS = {"gpt": "trained", "untrained": "untrained, same shape"}
# scripts that every view has, such as plotly; kept once
SHARED_FROM = 20_000
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def write_brains(figures: Path, profile: str, files: Path, stills: Path) -> str:
    """Write a turning view and a still picture per participant and model.

    Parameters
    ----------
    figures : Path
        Holds ``table_parcels.csv``.
    profile : str
        Which parcels, and whether the data are simulated.
    files : Path
        Gets the views, each a page of its own, and the scripts that they share.
    stills : Path
        Gets the pictures.

    Returns
    -------
    page : str
        Markdown that shows them.

    Raises
    ------
    CobeError
        The table is not there, is damaged, or lacks a model or a participant.
    """
    path = figures / TABLE
    try:
        table = pd.read_csv(path)
        subjects = list(dict.fromkeys(table["subject"]))
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; notebook 09_explore makes it (./run_all.sh)") from None
    except (ValueError, KeyError) as error:
        raise CobeError(f"{path}: not the table of parcels ({error}); make it again") from None
    pipeline = open_pipeline(profile)
    atlas, simulated = load_atlas(pipeline), get_profile(profile).plan is not None
    labels = check_labels(atlas)
    parcels = {
        (subject, features): participant_parcels(table, subject, features, labels)
        for subject in subjects
        for features in MODELS
    }
    top = scale_top(list(parcels.values()))
    files.mkdir(parents=True)
    stills.mkdir(parents=True, exist_ok=True)
    parts = []
    for subject in subjects:
        frames = []
        for features, model in MODELS.items():
            rows, title = parcels[subject, features], f"{subject}, {model}"
            name = f"{subject}-{features}"
            view = brain_view(rows, atlas, title, simulated, top)
            (files / f"{name}.html").write_text(_sharing(view, files), encoding="utf-8")
            still = figure_png(brain_still(rows, atlas, title, simulated, top))
            (stills / f"{name}.png").write_bytes(still)
            survive = int((rows["q"] <= 0.05).sum())
            words = f"{title}: mean r {rows['r'].mean():.3f}, {survive} of {len(rows)} parcels"
            frames.append(_frame(name, f"{words} with q at most .05"))
        said = _difference(*(parcels[subject, features] for features in MODELS))
        parts.append("\n\n".join([f"## {subject}", said, *frames]))
    return "\n\n".join(parts) + "\n"


def _difference(trained: pd.DataFrame, untrained: pd.DataFrame) -> str:
    """Trained minus untrained in words; a map of it would need an interval for every parcel."""
    both = trained.merge(untrained, on="label", suffixes=("", "_un"), validate="1:1")
    gain = both["r"] - both["r_un"]
    return (
        f"Trained minus untrained: mean {gain.mean():+.3f} over {gain.notna().sum()} parcels, from "
        f"{gain.min():+.3f} to {gain.max():+.3f}; above 0 in {int((gain > 0).sum())}."
    )


def _sharing(view: str, files: Path) -> str:
    """The page of a view with its large scripts as files beside it, one of a kind."""

    def moved(found: re.Match) -> str:
        text = found[1]
        if len(text) < SHARED_FROM or "surfaceMapInfo =" in text:
            return found[0]
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.js"
        (files / name).write_text(text, encoding="utf-8")
        return f'<script src="{name}"></script>'

    return SCRIPT.sub(moved, view)


def _frame(name: str, words: str) -> str:
    """A still picture, what it shows, and below it the view, which loads when it is opened."""
    said = escape(words, quote=True)
    return (
        f'<figure class="brain"><img src="stills/{name}.png" alt="{said}">'
        f"<figcaption>{said}.</figcaption>"
        f"<details><summary>Turn this brain</summary>"
        f'<iframe data-src="brain/{name}.html" title="{said}"></iframe>'
        f'<p class="files"><a href="brain/{name}.html">On a page of its own</a></p>'
        "</details></figure>"
    )
