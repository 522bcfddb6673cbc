"""Captions of the scaling figures: n, what was fitted, the split, the data, what is not shown."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.report.captions import REAL_DATA, SIMULATED_DATA
from cobe.report.compute_optimal import draw
from cobe.report.compute_optimal.figures import bias_words, exponent_words
from cobe.report.compute_optimal.rows import (
    MEAN,
    SHARED,
    Refused,
    early_words,
    of_subject,
    subjects_of,
)
from cobe.report.compute_optimal.spending import LOSS, SCORE, share_statements

FITS_CAPTION = (
    "Constants of every scaling fit with 95 % intervals (multiplier bootstrap over designs), "
    f"{SHARED}. `E "
    "(profile)` is the floor with its profile interval. An empty value is not estimated, and "
    "`said` says why; a refused fit has one row."
)
ALLOCATION_CAPTION = (
    "Best model size and amount of video for every training budget (FLOP, counted part by part) "
    f"and amount of scan time, with 95 % intervals, {SHARED}. All video is counted as fresh, 60 "
    "frames per second. `told`: the best size and its interval lie inside the search, the interval "
    "spans less than a factor of ten, and the fit fixes the exponents of size and video; where it "
    "is False, they are empty. `extrapolated`: the best size or video, or the scan time, lies "
    "beyond what the fit has seen; so for what doubling adds, for compute empty where its gain is. "
    "A response that could not be allocated has one row. `flat_n_low` to `flat_n_high`: "
    "sizes within 1 % of the best response. `said`: what the surface says and cannot tell."
)


def loss_caption(rows: pd.DataFrame, fit, held_out, forms, *, simulated: bool) -> str:
    """Caption of `scaling_loss`; the arguments are those of the figure."""
    grid = rows[rows.kind != "isoflop"]
    words = [
        f"**fig_scaling_loss.** Validation loss of {len(grid)} models ({_designs(grid)}, "
        f"{len(grid) - grid.design.nunique()} repeats with another seed) against (a) the video "
        "they were trained on and (b) their parameters, all of them counted. One marker per model: "
        "its lowest validation loss in nats per token, on the same held-out windows for all; "
        f"{early_words(rows)}. Lines and bands: "
        + _fit_words(fit, "E + A N^-α + B D^-β", len(rows), rows.design.nunique())
        + " Tokens seen again count as fewer fresh ones (Muennighoff et al. 2023, R* of language "
        "models, an assumption here).",
        _held_out_words(held_out),
        _forms_words(forms),
        "What this does not show: other shapes than width, other learning rates than the one rule "
        "used, or losses beyond the largest cells, where the form is an assumption.",
    ]
    return " ".join([*words, _data(simulated)])


def isoflop_caption(rows: pd.DataFrame, cut, frontier, *, simulated: bool) -> str:
    """Caption of `scaling_isoflop`; the arguments are those of the figure."""
    slices = rows[rows.kind == "isoflop"]
    said = f"not fitted: {cut.why}" if isinstance(cut, Refused) else "; ".join(cut.warnings)
    words = [
        f"**fig_scaling_isoflop.** "
        f"(a) {len(slices)} models in {slices.slice_flop.nunique()} slices of "
        "equal FLOP, counted part by part, all trained on the largest subset. Curves: parabolas in "
        "log parameters; star and bar: vertex with its 95 % interval over resampled models.",
        "(b) Best model size of each slice by the parabola (stars), what a parabola makes of the "
        "fitted surface at the same sizes without noise (rings), and the optimum of the surface "
        "itself with its 95 % band (line; dashed: extrapolated), for the video that there is. "
        f"Intervals are {SHARED}.",
        f"{_sentence(exponent_words(cut, frontier))}",
        *[f"{_sentence(said)}" for said in bias_words(cut)],
        "A parabola is biased where the two exponents differ or the sizes do not lie around the "
        f"optimum; {_bias_seen(cut)}.",
        f"(c) Loss of all {len(rows)} models against the FLOP of their training, the envelope that "
        "no cheaper model beats, and the surface at its best size (dashed: extrapolated). "
        f"{_sentence(early_words(rows))}",
        *([f"Not told: {said}."] if said else []),
        "What this does not show: the cost of the VQ-VAE, of validation, or of runs that were "
        "thrown away; FLOP are not seconds.",
    ]
    return " ".join([*words, _data(simulated)])


def brain_caption(rows: pd.DataFrame, fit, link, *, simulated: bool) -> str:
    """Caption of `scaling_brain`; the arguments are those of the figure."""
    trained, untrained = of_subject(rows), of_subject(rows, trained=False)
    hours = np.sort(trained.scan_hours.unique())
    followed = (
        f"not compared: {link.why}." if isinstance(link, Refused) else "; ".join(link.statements)
    )
    words = [
        f"**fig_scaling_brain.** "
        f"Pearson r of predicted and measured BOLD, mean over {_parcel_words(rows)}, over "
        f"{_range(trained.n_held_out)} held-out sessions in turn and over {len(subjects_of(rows))} "
        f"participants, of {trained.cell.nunique()} trained and {untrained.cell.nunique()} "
        "untrained models: against (a) video and (b) parameters with all scan time, and (c) the "
        f"scan time that the readout was fitted on ({', '.join(f'{h:g}' for h in hours)} hours, "
        "nested). The readout block is chosen inside the training volumes. Lines and bands: "
        + _fit_words(
            fit, "r = 1 - E - A N^-α - B D^-β - C H^-γ", len(trained), trained.design.nunique()
        )
        + " Bands are for these participants; markers have no interval of their own. Diamonds and "
        "grey: the same models without training, in (a) their mean and range over sizes, in (c) "
        "their mean.",
        f"(d) Score against loss, one line per model size along its video: {followed}. ρ is the "
        "rank correlation of score and lower loss, with a 95 % bootstrap interval over designs; at "
        "equal model size or equal video one common cause less is left.",
        "What this does not show: other participants, other stimuli, or that a lower loss is the "
        "cause of a higher score.",
    ]
    return " ".join([*words, _data(simulated)])


def allocation_caption(
    table: pd.DataFrame, shares: pd.DataFrame, fits: dict, *, simulated: bool
) -> str:
    """Caption of `scaling_allocation`; the arguments are those of the figure."""
    told = []
    for response in (LOSS, SCORE):
        mine = table[table.response == response] if len(table) else table
        if len(mine):
            beyond = int((mine.told & mine.extrapolated).sum())
            told.append(
                f"{response}: best size told at {int(mine.told.sum())} of {len(mine)} settings, "
                f"{beyond} of these extrapolated"
            )
        else:
            told.append(f"{response}: no allocation")
    words = [
        "**fig_scaling_allocation.** "
        "(a) Best model size and (b) best amount of video for a training "
        "budget, for the loss and for the brain score with the most scan time tried; shaded: 95 % "
        "interval; hatched: sizes whose response is within 1 % of the best, where the choice does "
        "not matter; grey: budgets that were not trained; open, dashed: best size or video beyond "
        "what the fit has seen, extrapolated. Where a best size is not "
        "known within a factor of ten, or an exponent is not fixed, it is not drawn "
        f"({'; '.join(told)}).",
        "(c) What doubling the compute or the scan time would add to the mean r, from what is at "
        f"hand{_doubled_words(table)}. (d) Share of each factor in the fitted gain from the "
        "smallest to the largest value tried: " + ". ".join(share_statements(shares, fits)) + ".",
        "What this does not show: prices (an hour of scanning costs more than an hour of video), "
        "how factors act together beyond the sum of their terms, or shares over other ranges: a "
        "factor that was varied more explains more.",
    ]
    return " ".join([*words, _data(simulated)])


def _designs(rows) -> str:
    return f"{rows.n_params.nunique()} sizes, {rows.n_frames.nunique()} amounts of video"


def _fit_words(fit, form: str, n_models: int, n_designs: int) -> str:
    if isinstance(fit, Refused):
        return f"none, {fit}."
    words = (
        f"{form} by summed Huber loss of log residuals on {n_models} rows of {n_designs} designs, "
        "95 % multiplier bootstrap over designs."
    )
    words += f" Intervals are {SHARED}."
    said = [draw.unusable(fit, name) or draw.caution(fit, name) for name in fit.factors]
    said = [*filter(None, said), *fit.warnings]
    return f"{words} The fit says: {'; '.join(said)}." if said else words


def _held_out_words(held_out) -> str:
    if isinstance(held_out, Refused):
        return f"(c) Largest cells not predicted: {held_out.why}."
    return (
        f"(c) The {len(held_out)} models of the largest cells (dots; crosses: outside), predicted "
        "from a fit without them: 95 % interval of the surface (blue) and of one new model (grey); "
        f"{int(held_out.inside.sum())} of {len(held_out)} inside."
    )


def _forms_words(forms) -> str:
    if isinstance(forms, Refused):
        return f"(d) Forms not compared: {forms.why}."
    verdicts = "; ".join(
        f"{draw.form_words(row.form)}: {row.verdict}" for row in forms.itertuples()
    )
    for name, words in draw.FACTOR_WORDS.items():
        verdicts = verdicts.replace(name, words)
    return (
        "(d) Relative error of each form on the same largest cells, with 95 % interval; open: "
        f"worse than the best. {_sentence(verdicts.replace('floor + ', ''))}"
    )


def _bias_seen(cut) -> str:
    if isinstance(cut, Refused) or cut.slices.bias.isna().all():
        return "how much here is not known"
    return "the distance of rings and line is that bias"


def _doubled_words(table) -> str:
    """In how many settings of known gain what is doubled lies beyond what the fit has seen."""
    scores = table[table.response == SCORE] if len(table) else table
    if not len(scores):
        return ""
    counts, unknown = [], []
    for step, words in (("compute", "compute"), ("scan_hours", "scan time")):
        known = scores[np.isfinite(scores[f"gain_{step}"])]
        if not len(known):
            unknown.append(f"the gain from {words} cannot be told")
            continue
        beyond = int(known[f"gain_{step}_extrapolated"].eq(True).sum())
        counts.append(f"{beyond} of the {len(known)} settings that tell the gain from {words}")
    opened = [f"open: extrapolated, in {' and '.join(counts)}"] if counts else []
    return f" ({'; '.join([*opened, *unknown])})"


def _parcel_words(rows) -> str:
    """How many parcels the score is a mean over, if the table says it."""
    if "n_parcels" not in rows:
        return "all parcels"
    return f"{_range(rows.n_parcels[rows.subject != MEAN].astype(int))} parcels of a participant"


def _range(counts) -> str:
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _data(simulated: bool) -> str:
    return f"{SIMULATED_DATA if simulated else REAL_DATA}."
