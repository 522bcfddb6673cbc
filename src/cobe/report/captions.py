"""Captions: what each figure shows, of how many, split how, summarised how, from which data."""

from __future__ import annotations

import pandas as pd

from cobe.core.config import Axis, Profile, Protocol, axis_cells
from cobe.core.errors import CobeError
from cobe.encoding.stats import fewest_findable
from cobe.report import style
from cobe.report.controls import controls_sentence
from cobe.report.manifest import FIGURE_AXES
from cobe.report.maps import Q_SURVIVES, figure_top, views_words
from cobe.report.published import N_PARCELS
from cobe.report.rows import (
    count_range,
    loss_rows,
    n_trs_range,
    of_protocol,
    parcel_rows,
    subjects_of,
)
from cobe.report.ways import (
    AS_PUBLISHED,
    CORRECTED,
    PUBLISHED,
    fill_command,
    gaps_of,
    of_way,
    protocol_of,
    three_ways,
    way_cells,
)

SIMULATED_DATA = (
    "Simulated data: simulated participants play Airstriker in an emulator, and a planted "
    "response in an autocorrelated, confounded signal stands for BOLD. It says nothing about brains"
)
REAL_DATA = "Real data: the CNeuroMod shinobi dataset"
R_WORDS = (
    "r is the Pearson correlation, over held-out volumes, between the signal of a parcel (a patch "
    "of cortex) and what a ridge regression predicts from the model's features."
)
AS_PUBLISHED_WORDS = (
    "as_published: the paper's procedure as far as it is known; that volumes are split at random, "
    "the delays, the penalties and the pooling are inferred, from earlier public code of the same "
    "author or for want of any statement."
)
PARAGRAPH = "\n\n"
READOUTS = {
    "middle": "the middle block",
    "last": "the last block",
    "nested": "a block that is chosen inside training",
}
BRANCHES = {"mlp": "the MLP branch", "residual": "the output"}
POOLINGS = {
    "mean": "mean over the tokens of a clip",
    "pca": "principal components of the tokens of a clip",
}


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
        Name of the figure, as in `cobe.report.manifest.figure_names` (``_maps`` may follow), or
        ``"film6_predicted_frames"``.
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
        Markdown; for the figures of axes a paragraph per row of panels.

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
        words = (
            _maps_words(profile, axis, scores)
            if name.endswith("_maps")
            else _axis_words(profile, axis, losses, scores)
        )
    elif name == "fig_controls":
        _need(name, scores)
        words = _controls_words(profile, scores)
    elif name == "fig6_predicted_frames":
        words = _frames_words(profile)
    elif name == "film6_predicted_frames":
        words = _film_words(profile)
    else:
        raise CobeError(f"figure {name!r}: has no caption; see cobe.report.manifest.figure_names")
    data = f"{SIMULATED_DATA if simulated else REAL_DATA}; profile {profile.name!r}."
    text = " ".join([f"**{name}.**", *words, data, *([note] if note else [])])
    return text.replace(f" {PARAGRAPH} ", PARAGRAPH)


def _need(name: str, *tables) -> None:
    if any(table is None for table in tables):
        raise CobeError(f"{name}: its caption counts in the tables; hand them over")


def _axis_words(profile: Profile, axis: Axis, losses, scores) -> list[str]:
    table = three_ways(profile, axis, scores)
    return [
        f"Effect of {axis.label}, three ways side by side: as published, our run scored as the "
        "paper did, and our run scored with its problems removed.",
        PARAGRAPH,
        _loss_words(profile, axis),
        _published_loss_words(axis),
        PARAGRAPH,
        _published_words(axis, table),
        _as_published_words(profile, axis, table),
        "(e) Our run under corrected: the mean of r over "
        f"{_n_words(profile, of_protocol(scores, profile.protocol))}.",
        _mark_words(profile),
        "Open diamonds in (d) and (e): the same network with its initial random weights, scored in "
        "the same way.",
        R_WORDS,
        "(c), (d) and (e) have axes of their own: they differ in data, statistic or split, so "
        "their heights cannot be compared; what can be compared is the order within each.",
        PARAGRAPH,
        "(f) " + " ".join(_maps_words(profile, axis, scores)),
        *_gap_words(profile, axis, losses, table),
        PARAGRAPH,
    ]


def _loss_words(profile: Profile, axis: Axis) -> str:
    train = profile.train
    words = (
        "(a) Validation cross-entropy of the video GPT in nats per token, one model (one seed) per "
        f"level, {train.n_steps:,} steps of {train.batch_size} windows each, the same for every "
        "level; large open markers: the minimum, whose weights are scored."
    )
    corrected = way_cells(profile, axis, CORRECTED)
    theirs = way_cells(profile, axis, AS_PUBLISHED)
    others = [i for i, cell in enumerate(theirs) if cell != corrected[i]]
    if others:
        steps = ", ".join(
            f"{theirs[i].n_steps or train.n_steps:,} steps for {style.level_text(axis.levels[i])}"
            for i in others
        )
        words += (
            " Solid, filled markers: corrected, whose frames are spread over all subjects and "
            "runs. Dashed, open markers: as_published, the first frames of the list of recordings, "
            f"for as many passes over the data as the largest level ({steps}); the largest level "
            "is one model in both. The step axis is logarithmic."
        )
    return words


def _published_loss_words(axis: Axis) -> str:
    if axis.name == "precision":
        return (
            "(b) Published validation loss per epoch of the base model at 16 bit, exact; the curve "
            "at 32 bit overlaps it to less than .02 and is not drawn."
        )
    return (
        "(b) Published validation loss per epoch (a different data set, tokeniser and schedule): "
        "solid, the base model, exact; dotted, the other runs, read off the authors' plots to "
        "about ±0.03; rings, minima."
    )


def _published_words(axis: Axis, table: pd.DataFrame) -> str:
    n = of_way(table, PUBLISHED)["subject"].nunique()
    words = (
        f"(c) Published: the maximum of r over {N_PARCELS:,} parcels, real data, n = {n} subjects, "
        "one value per subject and level, from the outputs of the authors' notebooks; the split is "
        "not stated, and no interval or chance level was published."
    )
    if axis.name == "n_heads":
        words += (
            " Crosses: the published bar chart where it differs from the printed values; its bars "
            "of sub-02, sub-04 and sub-06 repeat the chart of the layers."
        )
    return words


def _as_published_words(profile: Profile, axis: Axis, table: pd.DataFrame) -> str:
    protocol = protocol_of(profile, axis, AS_PUBLISHED)
    rows = of_way(table, AS_PUBLISHED)
    found = rows[(rows["state"] == "") & (rows["features"] == "gpt")]
    n_parcels = count_range(found["n_parcels"].dropna())
    n_trs = count_range(found["n_trs"].dropna())
    n = found["subject"].nunique()
    width = f"{protocol.n_features} wide" if protocol.n_features else "as wide as the model"
    penalty = "one penalty per parcel" if protocol.alpha_per_target else "one penalty for all"
    return (
        f"{AS_PUBLISHED_WORDS} (d) Our run under {protocol.name}: the maximum of r over "
        f"{n_parcels} parcels, n = {n} subject{'s' if n != 1 else ''}, {n_trs} held-out volumes "
        "per subject, "
        f"{100 * protocol.test_fraction:g} % of all volumes, drawn at random once; their "
        f"neighbours in time are trained on, which leaks; {penalty}, delays "
        f"{', '.join(map(str, protocol.delays_tr))} TR; features: "
        f"{BRANCHES[protocol.branch]} of {READOUTS[protocol.readout]}, "
        f"{POOLINGS[protocol.pooling]}, {width}. Black lines: chance, the 95th "
        f"percentile of that maximum under {protocol.n_permutations:,} block permutations. No "
        "interval is drawn: the bootstrap does not hold for a maximum."
    )


def _maps_words(profile: Profile, axis: Axis, scores) -> list[str]:
    subjects = subjects_of(scores, profile)
    scores = of_protocol(scores, profile.protocol)
    counts, n_parcels = [], 0
    for subject in subjects:
        per_level = []
        for cell, level in zip(axis_cells(profile, axis), axis.levels, strict=True):
            rows = parcel_rows(scores, cell.name, subject)
            if len(rows):
                n_parcels = len(rows)
                survive = int((rows["q"] <= Q_SURVIVES).sum())
                per_level.append(f"{style.level_text(level)}: {survive} of {len(rows)}")
        counts.append(f"{subject} {', '.join(per_level) or style.NOT_COMPUTED}")
    top = figure_top(profile, axis, scores, subjects)
    return [
        f"r of each parcel under corrected on inflated fsaverage5 ({views_words(len(axis.levels))})"
        f" by {axis.label}; one colour scale for all maps, r from 0 to {style.r_text(top)} (the "
        "largest significant r of the figure, rounded up). "
        f"Grey: q > {Q_SURVIVES} (one-sided block permutation test, false discovery rate over "
        f"parcels{_resolution(profile, n_parcels)}); pale: no parcel, or the medial wall. Parcels "
        "that survive:",
        "; ".join(counts) + ".",
    ]


def _resolution(profile: Profile, n_parcels: int) -> str:
    """Say it where so few permutations cannot find a single parcel among all."""
    n_permutations = profile.protocol.n_permutations
    fewest = fewest_findable(n_parcels, n_permutations) if n_parcels and n_permutations else 1
    if fewest == 1:
        return ""
    return f"; with {n_permutations:,} permutations none is found unless {fewest} reach the least p"


def _controls_words(profile: Profile, scores) -> list[str]:
    corrected = of_protocol(scores, profile.protocol)
    return [
        "The trained base model beside its untrained twin and features that need no GPT: mean of r "
        f"over {_n_words(profile, corrected)}. Low-level video and buttons have columns in units "
        "of their own: each is scaled to variance 1 in the training rows, and sets that are wider "
        "than the models' features come to as many principal components.",
        R_WORDS,
        _mark_words(profile),
        "The star marks the highest mean r of each subject, whichever feature set that is; "
        "intervals of two rows that overlap do not decide between them, paired differences do.",
        controls_sentence(profile, scores),
        "A tie is an interval that holds zero. The units are of these subjects and say nothing of "
        "other people; each interval stands for itself (no correction over controls).",
    ]


def _frames_words(profile: Profile) -> list[str]:
    return [
        "Four frames of 16-frame clips at 15 frames per second: the context clip, the true next "
        "clip, the next clip as the base model predicts it from the context, and the context's "
        "last frame standing still. PSNR over all 16 frames of a clip, on pixels before the "
        "display's gamma.",
        f"Frames are {profile.vqvae.resolution} x {profile.vqvae.resolution} pixels.",
    ]


def _film_words(profile: Profile) -> list[str]:
    return [
        "32 moving frames, one clip per row, in two columns. First both columns show the 16 frames "
        "of the context clip; then the left one shows the 16 frames that really came next, and the "
        "right one, under a light bar, the next clip as the base model predicts it from the "
        "context, one token at a time, and the VQ-VAE decodes it. Clips have 15 frames per second; "
        "the film shows each for 70 ms (about 14 per second), holds the last for a second and "
        "starts again. Frames have at most 64 colours, lightened where the video is nearly black.",
        f"Frames are {profile.vqvae.resolution} x {profile.vqvae.resolution} pixels, enlarged.",
    ]


def _n_words(profile: Profile, scores: pd.DataFrame) -> str:
    """Parcels, subjects, held-out groups and volumes, counted in the rows of ``corrected``."""
    protocol = profile.protocol
    targets = scores[scores["summary"] == "target"]
    n_parcels = sorted(targets.groupby(["subject", "cell"])["target"].nunique().unique())
    groups = scores[scores["held_out"].astype(str) != "all"]
    n_groups = sorted(groups.groupby("subject")["held_out"].nunique().unique())
    trs = n_trs_range(scores)
    subjects = scores["subject"].nunique()
    words = [
        f"{count_range(n_parcels)} parcels",
        f"n = {subjects} subject{'s' if subjects != 1 else ''}",
        f"{count_range(n_groups)} held-out {protocol.holdout}s per subject",
        f"{count_range(trs or ())} held-out volumes per subject",
    ]
    n_video = profile.video_sessions
    video = "first session" if n_video == 1 else f"first {n_video} sessions"
    delays = ", ".join(map(str, protocol.delays_tr))
    split = (
        f"each {protocol.holdout} is held out in turn from a ridge regression (delays {delays} TR, "
        f"penalty per parcel, {_features_words(protocol)}); the {video} of each subject trained "
        f"the video model and {'is' if n_video == 1 else 'are'} in neither part; protocol "
        f"{protocol.name!r}"
    )
    return f"{', '.join(words)}; {split}"


def _features_words(protocol: Protocol) -> str:
    """What the ridge reads under ``corrected``, and where its choices are made."""
    block = "block and penalty" if protocol.readout == "nested" else "penalty"
    width = f"; {protocol.n_features} features from every model" if protocol.n_features else ""
    return f"{block} chosen inside training{width}"


def _mark_words(profile: Profile) -> str:
    return (
        "Whiskers: 95 % interval of the mean, by resampling held-out blocks of at least "
        f"{profile.protocol.block_trs} volumes (the recordings' noise around these models, not the "
        "variation between sessions). Black lines: chance, the 95th percentile of the mean r under "
        f"{profile.protocol.n_permutations:,} block permutations."
    )


def _gap_words(profile: Profile, axis: Axis, losses, table: pd.DataFrame) -> list[str]:
    """What was not computed, and the command that computes it."""
    gaps, told = [], set()
    corrected = way_cells(profile, axis, CORRECTED)
    for way in (AS_PUBLISHED, CORRECTED):
        for cell, level in zip(way_cells(profile, axis, way), axis.levels, strict=True):
            if cell not in told and loss_rows(losses, cell) is None:
                which = "" if cell in corrected else f" under {way}"
                gaps.append(f"loss of {style.level_text(level)}{which}")
            told.add(cell)
        gaps += _score_gaps(axis, of_way(table, way), way)
    if not gaps:
        return []
    command = fill_command(profile, axis)
    return [f"Not computed: {'; '.join(gaps)}. To fill the gaps: `{command}`."]


def _score_gaps(axis: Axis, rows: pd.DataFrame, way: str) -> list[str]:
    """Which scores and untrained twins of one way are missing, levels of a subject together."""
    missing = gaps_of(rows)
    if len(missing) and len(missing) == len(rows):
        return [f"every score under {way}"]
    texts = {str(level): style.level_text(level) for level in axis.levels}
    gaps = []
    for (subject, features), some in missing.groupby(["subject", "features"], sort=False):
        what = "score" if features == "gpt" else "untrained twin"
        levels = ", ".join(texts[level] for level in some["level"])
        gaps.append(f"{what} of {levels} in {subject} under {way}")
    return gaps
