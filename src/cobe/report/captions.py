"""Captions: what each figure shows, of how many, split how, summarised how, from which data."""

from __future__ import annotations

import pandas as pd

from cobe.core.config import Axis, Profile, axis_cells
from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.manifest import FIGURE_AXES
from cobe.report.maps import Q_SURVIVES, views_words
from cobe.report.published import N_PARCELS
from cobe.report.rows import loss_rows, mean_row, n_trs_range, of_protocol, parcel_rows, subjects_of

SIMULATED_DATA = (
    "Simulated data: simulated participants play Airstriker in an emulator, and a planted "
    "response in an autocorrelated, confounded signal stands for BOLD. It says nothing about brains"
)
REAL_DATA = "Real data: the CNeuroMod shinobi dataset"


def caption(
    name: str,
    profile: Profile,
    scores: pd.DataFrame | None = None,
    losses: pd.DataFrame | None = None,
    *,
    simulated: bool,
    note: str = "",
) -> str:
    """The caption of a figure.

    Parameters
    ----------
    name : str
        Name of the figure, as in `cobe.report.manifest.figure_names` (``_maps`` may follow).
    profile : Profile
        What was run.
    scores, losses : pandas.DataFrame or None
        The tables that were drawn; n and gaps are counted in them.
    simulated : bool
        Whether the data are.
    note : str
        Added at the end, such as how the examples of figure 6 were chosen.

    Returns
    -------
    text : str
        Markdown, one paragraph.

    Raises
    ------
    CobeError
        No figure has that name, or its tables were not given.
    """
    stem = name.removesuffix("_maps")
    if stem in FIGURE_AXES:
        axes = {axis.name: axis for axis in profile.axes}
        if FIGURE_AXES[stem] not in axes:
            raise CobeError(f"profile {profile.name}: does not vary {FIGURE_AXES[stem]}")
        axis = axes[FIGURE_AXES[stem]]
        needed = (scores,) if name.endswith("_maps") else (scores, losses)
        _need(name, *needed)
        scores = of_protocol(scores, profile)
        words = (
            _maps_words(profile, axis, scores)
            if name.endswith("_maps")
            else _axis_words(profile, axis, losses, scores)
        )
    elif name == "fig_controls":
        _need(name, scores)
        words = _controls_words(profile, of_protocol(scores, profile))
    elif name == "fig6_predicted_frames":
        words = _frames_words(profile)
    else:
        raise CobeError(f"figure {name!r}: has no caption; see cobe.report.manifest.figure_names")
    data = f"{SIMULATED_DATA if simulated else REAL_DATA}; profile {profile.name!r}."
    return " ".join([f"**{name}.**", *words, data, *([note] if note else [])])


def _need(name: str, *tables) -> None:
    if any(table is None for table in tables):
        raise CobeError(f"{name}: its caption counts in the tables; hand them over")


def _axis_words(profile: Profile, axis: Axis, losses, scores) -> list[str]:
    train = profile.train
    published_words = (
        "(b) Published validation loss per epoch (a different data set, tokeniser and schedule): "
        "solid, the base model, exact; dotted, the other runs, read off the authors' plots to "
        "about ±0.03; rings, minima."
    )
    if axis.name == "precision":
        published_words = (
            "(b) Published validation loss per epoch of the base model at 16 bit, exact; the curve "
            "at 32 bit overlaps it to less than .02 and is not drawn."
        )
    drawn = (
        " Crosses: the published bar chart where it differs from the printed values; its bars of "
        "sub-02, sub-04 and sub-06 repeat the chart of the layers."
        if axis.name == "n_heads"
        else ""
    )
    return [
        f"Effect of {axis.label}.",
        "(a) Validation cross-entropy of the video GPT in nats per token, one model (one seed) per "
        f"level, {train.n_steps:,} steps of {train.batch_size} windows each, the same for every "
        "level; large open markers: the minimum, whose weights are scored.",
        published_words,
        "(c) Mean over parcels of Pearson r between predicted and measured BOLD of held-out data,",
        f"{_n_words(profile, scores)}.",
        _mark_words(profile),
        "Open diamonds: an untrained model of the same shape, scored in the same way.",
        f"(d) Published: the maximum of r over {N_PARCELS:,} parcels, real data, one value per "
        "subject, without interval or chance level: a different statistic, not to be compared with "
        f"(c) in height.{drawn}",
        "(e) " + " ".join(_maps_words(profile, axis, scores)),
        *_gap_words(profile, axis, losses, scores),
    ]


def _maps_words(profile: Profile, axis: Axis, scores) -> list[str]:
    counts = []
    for subject in subjects_of(scores, profile):
        per_level = []
        for cell, level in zip(axis_cells(profile, axis), axis.levels, strict=True):
            rows = parcel_rows(scores, cell.name, subject)
            if len(rows):
                survive = int((rows["q"] <= Q_SURVIVES).sum())
                per_level.append(f"{style.level_text(level)}: {survive} of {len(rows)}")
        counts.append(f"{subject} {', '.join(per_level) or style.NOT_COMPUTED}")
    return [
        f"r of each parcel on inflated fsaverage5 ({views_words(len(axis.levels))}) by "
        f"{axis.label}; one scale per row, from 0 to the row's largest significant r. "
        f"Grey: q > {Q_SURVIVES} (one-sided block permutation test, false discovery rate over "
        "parcels); pale: no parcel, or the medial wall. Parcels that survive:",
        "; ".join(counts) + ".",
    ]


def _controls_words(profile: Profile, scores) -> list[str]:
    return [
        "The trained base model beside its untrained twin and features that need no GPT: mean over "
        "parcels of Pearson r between predicted and measured BOLD of held-out data,",
        f"{_n_words(profile, scores)}.",
        _mark_words(profile),
        "The star marks the highest mean r of each subject, whichever feature set that is; "
        "intervals that overlap do not decide between two feature sets.",
    ]


def _frames_words(profile: Profile) -> list[str]:
    return [
        "Four frames of 16-frame clips at 15 frames per second: the context clip, the true next "
        "clip, the next clip as the base model predicts it from the context, and the context's "
        "last frame standing still. PSNR over all 16 frames of a clip, on pixels before the "
        "display's gamma.",
        f"Frames are {profile.vqvae.resolution} x {profile.vqvae.resolution} pixels.",
    ]


def _n_words(profile: Profile, scores: pd.DataFrame) -> str:
    """Subjects, parcels, held-out groups and volumes, counted in the table."""
    targets = scores[scores["summary"] == "target"]
    n_parcels = sorted(targets.groupby(["subject", "cell"])["target"].nunique().unique())
    groups = scores[scores["held_out"].astype(str) != "all"]
    n_groups = sorted(groups.groupby("subject")["held_out"].nunique().unique())
    trs = n_trs_range(scores)
    subjects = scores["subject"].nunique()
    words = [
        f"n = {subjects} subject{'s' if subjects != 1 else ''}",
        f"{_range(n_parcels)} parcels",
        f"{_range(n_groups)} held-out {profile.protocol.holdout}s per subject",
        f"{_range(trs or ())} held-out volumes per subject",
    ]
    n_video = profile.video_sessions
    video = "first session" if n_video == 1 else f"first {n_video} sessions"
    split = (
        f"each {profile.protocol.holdout} is held out in turn from a ridge regression (delays "
        f"{', '.join(map(str, profile.protocol.delays_tr))} TR, penalty per parcel chosen inside "
        f"training); the {video} of each subject trained the video model and "
        f"{'is' if n_video == 1 else 'are'} in neither part; protocol {profile.protocol.name!r}"
    )
    return f"{', '.join(words)}; {split}"


def _mark_words(profile: Profile) -> str:
    return (
        "Whiskers: 95 % interval of the mean, by resampling held-out blocks of at least "
        f"{profile.protocol.block_trs} volumes (the recordings' noise around these models, not the "
        "variation between sessions). Black lines: chance, the 95th percentile of the mean r under "
        f"{profile.protocol.n_permutations:,} block permutations."
    )


def _gap_words(profile: Profile, axis: Axis, losses, scores) -> list[str]:
    gaps = []
    for cell, level in zip(axis_cells(profile, axis), axis.levels, strict=True):
        if loss_rows(losses, cell) is None:
            gaps.append(f"loss of {style.level_text(level)}")
        gaps += [
            f"score of {style.level_text(level)} in {subject}"
            for subject in subjects_of(scores, profile)
            if mean_row(scores, cell.name, "gpt", subject) is None
        ]
    return [f"Not computed: {', '.join(gaps)}."] if gaps else []


def _range(values) -> str:
    values = [int(v) for v in values]
    if not values:
        return "no"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
