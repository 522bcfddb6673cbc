"""What the authors' public outputs show, computed from the published tables and from nothing else.

Each function answers for one claim: words, and a verdict by a rule that is stated here. No result
of this project enters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.report import published
from cobe.report.rows import check_source

SHOWN = "Shown by the published outputs"
NOT_SHOWN = "Not shown by the published outputs"
LOSS_ONLY = "Shown for the loss, not for the brain score"
BEST_PARCEL = "Shown for the best parcels, which the bars are; maps without test or chance level"
COMPATIBLE = "Compatible with the published outputs; no repeat tests it"
RANGE = "Depends on the range that is compared"
STATED_ONLY = "Stated; the repository holds nothing to check it with"
NO_CHANCE = "Cannot tell: neither split nor chance level is among the published outputs"
NO_CONTROL = "Cannot tell: no control is among the published outputs"
OTHER_SUBJECTS = "Participants and levels differ as well (inferred)"
OTHER_UPDATES = "The number of updates differs as well"
OTHER_FEATURES = "The number of features differs as well"
OTHER_BLOCK = "Another block is read than in the other figures"
CHART_REPEATS = "The chart repeats another chart's values; the printed maxima stand"
NAMES_DIFFER = "Titles and labels differ from the files; no conclusion changes"
TABLE_DIFFERS = "The table differs from the trained model"
AS_IMPLIED = "As the figure implies"
N_EPOCHS = 100


@dataclass(frozen=True)
class Evidence:
    """What the outputs show.

    Attributes
    ----------
    text : str
        The numbers that count, in words.
    verdict : str
        On the published evidence alone.
    details : str
        What else belongs to it.
    """

    text: str
    verdict: str
    details: str = ""


def number(value: float, digits: int = 3, sign: bool = True) -> str:
    """A score or difference as the tables write it: ``+.053``, ``.275``, ``-.007``."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def numbers(values, digits: int = 3, sign: bool = True) -> str:
    """Several of them, with commas."""
    return ", ".join(number(float(value), digits, sign) for value in values)


def bars(axis: str) -> pd.DataFrame:
    """The printed maxima of one axis: rows are levels in their order, columns participants.

    Raises
    ------
    CobeError
        The rows do not say that they are published, or a participant has a level twice.
    """
    table = published.max_r(axis)
    check_source(table, "published", f"published values of {axis}")
    if table.duplicated(["level", "subject"]).any():
        raise CobeError(f"published values of {axis}: a participant has a level twice; keep one")
    order = list(dict.fromkeys(table["level"]))
    return table.pivot(index="level", columns="subject", values="max_pearson_r").loc[order]


def lowest_losses(axis: str) -> pd.Series:
    """Lowest validation loss of every level (nats per token); the base level's curve is exact."""
    points = published.val_loss_points(axis)
    lowest = points[points["is_minimum"]].set_index("level")["val_loss"]
    lowest[published.BASE_LEVEL[axis]] = published.val_loss_base()["val_loss"].min()
    order = sorted(lowest.index, key=lambda level: _amount(level))
    return lowest.loc[order].astype(float)


def _amount(level: str) -> float:
    """10K, 1M, 576, fp16 as numbers."""
    units = {"K": 1e3, "M": 1e6}
    text = level.removeprefix("fp")
    return float(text.rstrip("KM")) * units.get(text[-1], 1.0)


def repeat_difference() -> pd.Series:
    """The same setting published twice, per participant: the only hint of run-to-run noise.

    The base model is in the figure of the data size, and again, as fp16, in that of the precision.
    Whether it was trained again or only fitted again is not said.
    """
    return bars("precision").loc["fp16"] - bars("data_size").loc[published.BASE_LEVEL["data_size"]]


def subsets() -> pd.DataFrame:
    """The training subsets: level, repetitions, frames, participants, game_levels, steps_per_epoch,
    basis (how each row is known), source."""
    path = files("cobe.report") / "published" / "data_subsets.csv"
    with path.open("r", encoding="utf-8") as file:
        table = pd.read_csv(file, dtype={"level": str, "game_levels": str})
    return table.assign(source="published")


def trend_words(axis: str) -> tuple[str, int, int, int]:
    """Change from the first level to the last: words, how many rise, rise at every step, all."""
    table = bars(axis)
    gain = table.iloc[-1] - table.iloc[0]
    up = int((gain > 0).sum())
    every = int((table.diff().iloc[1:] > 0).all().sum())
    text = (
        f"maximum r, {table.index[0]} to {table.index[-1]}: {numbers(gain)} "
        f"({', '.join(table.columns)}); higher in {up} of {len(gain)} participants, at every step "
        f"in {every}"
    )
    return text, up, every, len(gain)


def _loss_words(axis: str) -> tuple[str, bool]:
    """Lowest losses of the levels that have a brain score, and whether they fall throughout."""
    lowest = lowest_losses(axis)
    scored = lowest.loc[[level for level in lowest.index if level in bars(axis).index]]
    values = " / ".join(number(value, 2, sign=False) for value in scored)
    falls = bool((scored.diff().iloc[1:] < 0).all())
    text = f"lowest validation loss {' / '.join(scored.index)}: {values} nats per token"
    return text, falls


def trend(axis: str) -> Evidence:
    """Does the score rise along an axis? Shown: last level above first in all participants.

    Otherwise the verdict counts those in which it is, and says whether the loss, at least, falls
    at every level.
    """
    text, up, every, n = trend_words(axis)
    loss_text, loss_falls = _loss_words(axis)
    if up == n == every:
        verdict = SHOWN
    elif up == n:
        verdict = f"Shown from the smallest to the largest; at every step in {every} of {n}"
    elif up == 0:
        verdict = LOSS_ONLY if loss_falls else NOT_SHOWN
    else:
        loss = "for the loss; for the brain score " if loss_falls else ""
        verdict = f"Shown {loss}in {up} of {n} participants"
    return Evidence(text, verdict, loss_text)


def data_size() -> Evidence:
    """More data: over all sizes, and without the smallest."""
    table = bars("data_size")
    found = trend("data_size")
    later = table.loc["6M"] - table.loc["100K"]
    best = table.loc[:, table.idxmax() != "6M"]
    tops = ", ".join(f"{s} highest at {table[s].idxmax()}" for s in best)
    details = [f"100K to 6M {numbers(later)}", *([tops] if tops else []), found.details]
    return Evidence(found.text, found.verdict, "; ".join(details))


def data_against_width() -> Evidence:
    """Gain by data minus gain by width, from end to end and without the smallest level of each."""
    data, width = bars("data_size"), bars("hidden_dim")
    words, signs = [], []
    for first in (0, 1):
        by_data = data.iloc[-1] - data.iloc[first]
        by_width = width.iloc[-1] - width.iloc[first]
        larger = int((by_data > by_width).sum())
        signs.append(larger)
        words.append(
            f"{data.index[first]} to {data.index[-1]} {numbers(by_data)} against hidden "
            f"{width.index[first]} to {width.index[-1]} {numbers(by_width)}: data larger in "
            f"{larger} of {len(by_data)}"
        )
    n = data.shape[1]
    verdict = SHOWN if signs == [n, n] else RANGE if max(signs) > 0 else NOT_SHOWN
    return Evidence("; ".join(words), verdict)


def hidden_size() -> Evidence:
    """Larger hidden size, with the participants whose best level is not the largest."""
    table = bars("hidden_dim")
    found = trend("hidden_dim")
    others = [f"{s} best at {table[s].idxmax()}" for s in table if table[s].idxmax() != "576"]
    dips = int((table.loc["126"] < table.loc["30"]).sum())
    extra = f"126 below 30 in {dips} of {table.shape[1]}"
    return Evidence(found.text, found.verdict, "; ".join([*others, extra, found.details]))


def _no_difference(axis: str) -> Evidence:
    table, again = bars(axis), repeat_difference().abs()
    last = table.iloc[-1] - table.iloc[0]
    text = (
        f"maximum r, {table.index[-1]} minus {table.index[0]}: {numbers(last)} "
        f"({', '.join(table.columns)})"
    )
    details = (
        f"largest spread over levels {number((table.max() - table.min()).max(), sign=False)}; the "
        "only hint of run-to-run noise is the same setting published twice (base model, and fp16 "
        "in the figure of the precision), which differs by up to "
        f"{number(again.max(), sign=False)}"
    )
    return Evidence(text, COMPATIBLE, details)


def heads() -> Evidence:
    """No difference by heads: compatible, as differences have no common sign; not tested."""
    found = _no_difference("n_heads")
    table = bars("n_heads")
    up = int((table.iloc[-1] > table.iloc[0]).sum())
    if up in (0, table.shape[1]):
        return replace(found, verdict=NOT_SHOWN)
    return replace(found, details=f"{found.details}; {_loss_words('n_heads')[0]}")


def precision() -> Evidence:
    """16 and 32 bit alike: compatible where they differ by less than the same setting did."""
    found = _no_difference("precision")
    table = bars("precision")
    within = (table.max() - table.min()).max() <= repeat_difference().abs().max()
    return found if within else replace(found, verdict=NOT_SHOWN)


def best_parcel() -> Evidence:
    """What number the bars are: the maximum over all parcels, of the base model."""
    base = bars("data_size").loc[published.BASE_LEVEL["data_size"]]
    text = (
        f"base model {numbers(base, sign=False)} ({', '.join(base.index)}): the maximum over "
        f"{published.N_PARCELS:,} parcels"
    )
    details = (
        "known from the identity of the bars with the printed maxima; no mean, chance level, "
        "interval, test or noise ceiling was found, nor how the data were split"
    )
    return Evidence(text, BEST_PARCEL, details)


def learned_features() -> Evidence:
    """An untrained model: none published."""
    return Evidence("no untrained model was found among the outputs", NO_CONTROL)


def simple_features() -> Evidence:
    """Simple controls: none published."""
    return Evidence("no VQ-VAE embedding, pixels or button presses were found", NO_CONTROL)


def measure() -> Evidence:
    """Chance and leakage of the plotted number: not published."""
    return Evidence(
        "a maximum without its chance level; the split is not in the repository",
        NO_CHANCE,
        "a random tenth of the volumes is inferred from an earlier script of the first author",
    )


def subset_participants() -> Evidence:
    """Who plays in each training subset."""
    table = subsets()
    text = "; ".join(
        f"{row.level}: {row.frames:,} frames of {row.participants} "
        f"participant{'s' if row.participants > 1 else ''} (game level {row.game_levels})"
        for row in table.itertuples()
    )
    sole = table.loc[table["participants"] < table["participants"].max(), "level"]
    details = (
        "the sets are taken as prefixes of the published list, which is in order of participants"
    )
    return Evidence(text, OTHER_SUBJECTS if len(sole) else AS_IMPLIED, details)


def subset_updates() -> Evidence:
    """Optimiser steps of each training subset: 100 epochs each."""
    table = subsets()
    steps = table["steps_per_epoch"] * N_EPOCHS
    text = " / ".join(f"{n:,}" for n in steps)
    ratio = steps.iloc[-1] / steps.iloc[0]
    return Evidence(
        f"{' / '.join(table['level'])} frames: {text} optimiser steps in {N_EPOCHS} epochs, "
        f"{ratio:.0f}-fold from first to last",
        OTHER_UPDATES if ratio > 1 else AS_IMPLIED,
    )


def feature_counts() -> Evidence:
    """Values in the hidden states of one clip at each width."""
    values = published.hyperparameters().set_index(["part", "name"])["value"]
    size = [int(values["video", "frames in a clip"])] + [
        int(values["video", "resolution (pixels)"])
    ] * 2
    stride = values["VQ-VAE", "downsampling (time x height x width)"].split(" x ")
    n_tokens = int(np.prod([n // int(s) for n, s in zip(size, stride, strict=True)]))
    widths = [int(level) for level in bars("hidden_dim").index]
    counts = " / ".join(f"{n_tokens * width:,}" for width in widths)
    return Evidence(
        f"hidden {' / '.join(map(str, widths))}: {counts} values in the hidden states of a clip "
        f"({n_tokens} tokens)",
        OTHER_FEATURES,
        f"{max(widths) / min(widths):.0f} times as many from first to last under any pooling that "
        "keeps the width; which pooling was used was not found",
    )


def layers_readout() -> Evidence:
    """Middle block minus last block at 8 layers, taken as the same model."""
    middle = bars("data_size").loc[published.BASE_LEVEL["data_size"]]
    last = bars("n_layers").loc[published.BASE_LEVEL["n_layers"]]
    readouts = {axis: published.max_r(axis)["readout"].unique() for axis in published.BASE_LEVEL}
    others = {r for axis, names in readouts.items() if axis != "n_layers" for r in names}
    text = (
        f"the figure of the layers reads the {', '.join(readouts['n_layers'])}, all others "
        f"{', '.join(sorted(others))}"
    )
    details = (
        f"at 8 layers the middle block is above the last by {numbers(middle - last)} "
        f"({', '.join(middle.index)}), if both are the same model (inferred)"
    )
    same = set(readouts["n_layers"]) == others
    return Evidence(text, AS_IMPLIED if same else OTHER_BLOCK, details)


def heads_chart() -> Evidence:
    """Whether the bars of the heads are those of the layers, cut to two digits."""
    drawn = published.max_r("n_heads", as_drawn=True).pivot(
        index="level", columns="subject", values="max_pearson_r"
    )
    layers = bars("n_layers").iloc[: len(drawn)]
    # the layers' chart was drawn from values cut, not rounded, to two digits
    cut = np.floor(layers.to_numpy() * 100 + 1e-9) / 100
    same = np.isclose(drawn[layers.columns].to_numpy(), cut)
    whole = [s for s, equal in zip(layers.columns, same.all(axis=0), strict=True) if equal]
    printed = bars("n_heads")
    off = (printed[whole] - drawn[whole]).abs().max().max()
    text = (
        f"bars of {', '.join(whole)} at {', '.join(drawn.index)} heads equal those of the layers "
        f"chart at {', '.join(layers.index)} layers, to the two digits drawn "
        f"({int(same.sum())} of {same.size} bars)"
    )
    details = (
        "the maxima printed with the maps of the heads differ from these bars by up to "
        f"{number(off, 2, False)}"
    )
    return Evidence(text, CHART_REPEATS if whole else AS_IMPLIED, details)


def loss_labels() -> Evidence:
    """Names of the loss curves, and which files they load."""
    curve = published.val_loss_base()
    return Evidence(
        f"curves titled as training loss load files of the validation loss ({len(curve)} values: "
        "one before training and one per epoch); in the figure of the precision the curve labelled "
        "16 loads the file named 32 bit, and the other way round",
        NAMES_DIFFER,
        "the two curves overlap, so no conclusion changes",
    )


def vqvae_table() -> Evidence:
    """Hyperparameters whose note says that the README differs from the printed model."""
    table = published.hyperparameters()
    marker = "the README's table says "
    rows = table[table["note"].str.contains(marker, regex=False)]
    words = [
        f"{row['name'].split(' (')[0]} {row['note'].split(marker)[1]} in the table, {row['value']} "
        "in the printed model"
        for row in rows.to_dict("records")
    ]
    details = "the parameter counts of the same README fit the printed model"
    return Evidence("; ".join(words), TABLE_DIFFERS if len(rows) else AS_IMPLIED, details)


def speed() -> Evidence:
    """Time of training by precision."""
    return Evidence(
        "1.17 times is stated in the abstract; no time, device or readable log of either run was "
        "found in the repository",
        STATED_ONLY,
    )
