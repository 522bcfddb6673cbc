"""What our own run shows of what the paper's figures mix: one contrast per confound.

As in `cobe.report.audit.measured`, whose rule for the direction of an effect holds here too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import binom

from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.report.audit.evidence import number, numbers
from cobe.report.audit.measured import (
    FALLS,
    NOT_APPLICABLE,
    RISES,
    SAME,
    UNCLEAR,
    Effect,
    Finding,
    NotComputed,
    Results,
    Scored,
    arm_cells,
    axis_of,
    compare,
    gain,
    levels_words,
    loss_words,
    lowest_loss,
    protocol_of,
    repeats_of,
    scored,
)
from cobe.report.maps import Q_SURVIVES
from cobe.report.style import level_text

CONTROLS = ("pixel_pca", "lowlevel", "vq", "buttons")
CLEAR_RATIO = 0.02
BEYOND_CHANCE = 0.05
RECIPE = "dropout attention attention_dropout activation_checkpointing compile tokens_once".split()
PUBLISHED_RECIPE, OUR_RECIPE = "published recipe", "no checkpointing"


def no_run(results: Results, kind: str) -> Finding:
    """Of claims about the published figures and tables alone."""
    return Finding("does not depend on a run", NOT_APPLICABLE)


def learned_features(results: Results, kind: str) -> Finding:
    """Trained minus untrained base model."""
    protocol, base = protocol_of(results, kind), results.profile.base
    effect = compare(
        scored(results, base.name, "gpt", protocol),
        scored(results, base.untrained().name, "untrained", protocol),
    )
    repeats, seeds = repeats_of(results, protocol)
    return effect.finding(f"{protocol.summary} r, trained minus untrained", repeats, seeds)


def simple_features(results: Results, kind: str) -> Finding:
    """Trained base model minus the best simple control, and the unique variance of each band."""
    protocol = protocol_of(results, kind)
    trained = scored(results, results.profile.base.name, "gpt", protocol)
    found, absent = {}, []
    for name in CONTROLS:
        try:
            found[name] = scored(results, name, name, protocol)
        except NotComputed:
            absent.append(name)
    if not found:
        raise NotComputed(f"simple controls under {protocol.name}")
    best = max(found, key=lambda name: found[name].subjects.mean())
    repeats, seeds = repeats_of(results, protocol)
    details = [seeds, *([f"not computed: {', '.join(absent)}"] if absent else [])]
    if kind == "corrected":
        details.append(_bands_words(results))
    text = f"{protocol.summary} r, trained minus the best simple control ({best})"
    return compare(trained, found[best]).finding(text, repeats, "; ".join(details))


def _bands_words(results: Results) -> str:
    """Unique variance of each band, mean over parcels and participants."""
    try:
        table = results.table("bands")
    except NotComputed:
        return "unique variance not computed"
    rows = table[(table["summary"] == "mean") & (table["held_out"].astype(str) == "all")]
    shares = rows.groupby("band")["delta_r2"].mean().sort_values(ascending=False)
    words = ", ".join(f"{band} {number(100 * share, 2)}" for band, share in shares.items())
    return f"unique variance in per cent of all variance: {words}"


def null_brain(results: Results, kind: str) -> Finding:
    """What a protocol reports of BOLD that has nothing to do with the video."""
    protocol = protocol_of(results, kind)
    table = results.table("null_trials")
    rows = table[table["protocol"] == protocol.name]
    if rows.empty or not np.isfinite(rows[["r", "chance_95"]]).all(axis=None):
        raise NotComputed(f"null brain under {protocol.name}")
    n, low, high = len(rows), rows["r"].min(), rows["r"].max()
    positive, found = int((rows["r"] > 0).sum()), int((rows["n_found"] > 0).sum())
    passes = int((rows["r"] > rows["chance_95"]).sum())
    text = (
        f"BOLD unrelated to the video: {protocol.summary} r {number(low)} to {number(high)}, above "
        f"0 in {positive} of {n} draws; {passes} of {n} draws above its own chance level (5 % "
        f"expected); parcels pass correction in {found} draws"
    )
    details = (
        f"median of the mean over parcels {number(rows['r_mean'].median())}, of the maximum "
        f"{number(rows['r_max'].median())} (a maximum is above 0 by construction, a mean is not); "
        f"a test that holds its level passes at most {_most(n, BEYOND_CHANCE)} of {n} draws (97.5 "
        f"%); fewest parcels that can pass: {rows['fewest_findable'].iloc[0]} of "
        f"{rows['n_parcels'].iloc[0]}; {_orders_words(results, protocol)}"
    )
    return Finding(text, _null_direction(n, positive, found, passes), details=details)


def _null_direction(n: int, positive: int, found: int, passes: int) -> str:
    """No difference only where neither the parcels nor the reported statistic pass too often."""
    if positive == n or found > _most(n, Q_SURVIVES):
        return RISES
    # no parcel is wrongly found too often, but the reported number is not nothing either
    return UNCLEAR if passes > _most(n, BEYOND_CHANCE) else SAME


def _most(n: int, rate: float) -> int:
    """More than so many would be a surprise for a test that holds its level."""
    return int(binom.ppf(0.975, n, rate))


def _orders_words(results: Results, protocol) -> str:
    try:
        table = results.table("orders")
    except NotComputed:
        return "planted order not computed"
    rows = table[table["protocol"] == protocol.name]
    recovered, right = int(rows["recovered"].sum()), int(rows["right_winner"].sum())
    return (
        f"feature sets planted in a known order: the whole order is found in {recovered} of "
        f"{len(rows)} draws, the strongest in {right}"
    )


def data_against_width(results: Results, kind: str) -> Finding:
    """Gain from the smallest to the largest data size, minus that over the hidden sizes."""
    data, width = (axis_of(results, name) for name in ("data_size", "hidden_dim"))
    protocol = protocol_of(results, kind, data.name)
    gains = []
    for axis in (data, width):
        cells = axis_cells(results.profile, axis, protocol)
        last, first = (scored(results, c.name, "gpt", protocol) for c in (cells[-1], cells[0]))
        gains.append(last - first)
    effect = compare(*gains)
    repeats, seeds = repeats_of(results, protocol)
    folds = [f"{axis.levels[-1] / axis.levels[0]:.0f}-fold" for axis in (data, width)]
    text = (
        f"{protocol.summary} r, gain over {levels_words(data)} ({folds[0]}) minus gain over "
        f"{levels_words(width)} ({folds[1]})"
    )
    return effect.finding(text, repeats, seeds)


def width_features(results: Results, kind: str) -> Finding:
    """What the width buys without learning: gain of the untrained, and of native over matched."""
    axis = axis_of(results, "hidden_dim")
    protocol = protocol_of(results, kind, axis.name)
    repeats, seeds = repeats_of(results, protocol)
    untrained = gain(results, axis, protocol, trained=False)
    if kind != "corrected":
        text = f"{protocol.summary} r, {levels_words(axis)}, untrained models"
        return untrained.finding(text, repeats, seeds)
    native = replace(protocol, name="native")
    cells = axis_cells(results.profile, axis, protocol)
    change = {}
    for how in (native, protocol):
        last, first = (scored(results, c.name, "gpt", how) for c in (cells[-1], cells[0]))
        change[how.name] = last - first
    effect = compare(change["native"], change[protocol.name])
    text = (
        f"{protocol.summary} r, gain over {levels_words(axis)} with every model's own number of "
        f"features, minus that with {protocol.n_features} features each"
    )
    details = f"untrained models, {protocol.n_features} features each: {untrained.words()}; {seeds}"
    return effect.finding(text, repeats, details)


def layers_readout(results: Results, kind: str) -> Finding:
    """Middle block minus last block of the deepest model."""
    axis = axis_of(results, "n_layers")
    deepest = axis_cells(results.profile, axis)[-1]
    middle, last = deepest.n_layers // 2, deepest.n_layers - 1
    if middle == last:
        return Finding(
            f"with {deepest.n_layers} layers the middle block is the last one", NOT_APPLICABLE
        )
    which = f"middle block ({middle + 1} of {deepest.n_layers}) minus last"
    if kind != "corrected":
        ways = (results.profile.published, results.profile.published_for(axis.name))
        effect = compare(*(scored(results, deepest.name, "gpt", way) for way in ways))
        repeats, seeds = repeats_of(results, ways[0])
        return effect.finding(f"{ways[0].summary} r, {which}", repeats, seeds)
    blocks = results.table("blocks")
    rows = blocks[(blocks["cell"] == deepest.name) & blocks["trained"].astype(bool)]
    if rows.duplicated(["subject", "block"]).any():
        raise CobeError(f"block table: a block of {deepest.name} has two rows; keep one of them")
    table = rows.pivot(index="subject", columns="block", values="r")
    gaps = [str(b) for b in (middle, last) if b not in table or table[b].isna().any()]
    if gaps:
        raise NotComputed(f"block {', '.join(gaps)} of {deepest.name}")
    effect = Effect(table[middle] - table[last], len(table), None, "participants")
    repeats, seeds = repeats_of(results, protocol_of(results, kind))
    details = f"by block {numbers(table.mean(), sign=False)}; {seeds}"
    return effect.finding(f"mean r, {which}", repeats, details)


def precision(results: Results, kind: str) -> Finding:
    """16 bit minus 32 bit: one pair of models, or the mean over seeds where they were repeated."""
    axis = axis_of(results, "precision")
    protocol = protocol_of(results, kind, axis.name)
    low, high = axis.levels[0], axis.levels[-1]
    if kind != "corrected":
        first, last = axis_cells(results.profile, axis, protocol)[:: len(axis.levels) - 1]
        effect = compare(*(scored(results, c.name, "gpt", protocol) for c in (first, last)))
        repeats, seeds = repeats_of(results, protocol)
        loss, _ = loss_words(results, last.name, first.name)
        text = f"{protocol.summary} r, {low} minus {high}"
        return effect.finding(text, repeats, f"{seeds}; {loss}")
    rows = arm_cells(results, "noise").set_index(["precision", "seed"])["cell"]
    seeds = sorted(set(rows[low].index) & set(rows[high].index))
    if not seeds:
        raise NotComputed(f"a seed with both {low} and {high}")
    means = {
        bits: _mean([scored(results, rows[bits, seed], "gpt", protocol) for seed in seeds])
        for bits in (low, high)
    }
    losses = [[_loss(results, rows[bits, seed]) for seed in seeds] for bits in (low, high)]
    effect = compare(means[low], means[high])
    repeats, words = repeats_of(results, protocol, len(seeds))
    change = float(np.mean(losses[0]) - np.mean(losses[1]))
    text = f"{protocol.summary} r, {low} minus {high}, mean over {len(seeds)} seeds"
    details = f"{words}; lowest validation loss changes by {number(change)}"
    return effect.finding(text, repeats, details)


def _mean(scores: list[Scored]) -> Scored:
    """Mean over models that were scored on the same participants and held-out groups."""
    if any(set(s.pairs.index) != set(scores[0].pairs.index) for s in scores):
        raise NotComputed("every seed over the same held-out groups")
    subjects, pairs = ([getattr(s, name) for s in scores] for name in ("subjects", "pairs"))
    return Scored(sum(subjects) / len(scores), sum(pairs) / len(scores))


def _loss(results: Results, cell: str) -> float:
    try:
        return lowest_loss(results, cell)
    except NotComputed:
        return np.nan


def diversity(results: Results, kind: str) -> Finding:
    """Subsets spread over participants minus subsets of one, at equal frames and equal steps."""
    if kind != "corrected":
        return Finding(
            "mixed by design: subsets are prefixes of a list in the order of participants",
            NOT_APPLICABLE,
        )
    return _arm(results, "diversity", "scheme", "stratified", ("single", "prefix"))


def updates(results: Results, kind: str) -> Finding:
    """Equal steps minus equal epochs, at equal frames."""
    if kind != "corrected":
        axis = axis_of(results, "data_size")
        protocol = protocol_of(results, kind, axis.name)
        first = axis_cells(results.profile, axis, protocol)[0]
        steps = [first.n_steps or results.profile.train.n_steps, results.profile.train.n_steps]
        return Finding(
            f"mixed by design: {steps[0]:,} updates for {level_text(axis.levels[0])} frames, "
            f"{steps[1]:,} for {level_text(axis.levels[-1])}",
            NOT_APPLICABLE,
        )
    return _arm(results, "updates", "updates", "steps", ("epochs",))


def _arm(results: Results, arm: str, column: str, first: str, others) -> Finding:
    """Pairs of an arm that differ in one column: the direction is that of the first pair."""
    protocol = results.profile.protocol
    rows = arm_cells(results, arm)
    if column != "scheme":
        rows = rows[rows["scheme"] == protocol.scheme]
    repeats, seeds = repeats_of(results, protocol)
    words, directions, details = [], [], []
    for frames, here in rows.groupby("n_frames"):
        cells = here.set_index(column)["cell"]
        if not cells.index.is_unique:
            raise NotComputed(f"one cell per {column} at {frames} frames")
        for other in (o for o in others if {first, o} <= set(cells.index)):
            if cells[first] == cells[other]:
                continue
            size = f"{level_text(int(frames))} frames"
            try:
                effect = compare(
                    *(scored(results, cells[name], "gpt", protocol) for name in (first, other))
                )
            except NotComputed as gap:
                details.append(f"{size}: not computed, {gap}")
                continue
            loss, _ = loss_words(results, cells[other], cells[first])
            told = f"{size}, {first} minus {other}: {effect.words()}"
            if other == others[0]:
                words.append(told)
                directions.append(effect.direction(repeats))
                details.append(f"{size}: {loss}")
            else:
                details.append(f"{told}, {loss}")
    if not directions:
        raise NotComputed(f"{first} beside {others[0]} in the arm {arm!r}")
    found = set(directions)
    direction = found.pop() if len(found) == 1 else _several(found)
    text = f"{protocol.summary} r, {'; '.join(words)}"
    joined = "; ".join([*details, seeds])
    return Finding(text, direction, None, joined, repeats is not None)


def _several(directions: set[str]) -> str:
    """One clear direction anywhere is a difference; two opposite ones are unclear."""
    clear = directions & {RISES, FALLS}
    return clear.pop() if len(clear) == 1 else UNCLEAR


def speed(results: Results, kind: str) -> Finding:
    """Time of a 32-bit step over that of a 16-bit step, of the published recipe or of ours."""
    table = results.table("throughput")
    name = OUR_RECIPE if kind == "corrected" else PUBLISHED_RECIPE
    start = table[(table["change"] == name) & (table["precision"] == "fp32")]
    if len(start) != 1:
        raise NotComputed(f"step time of {name!r} in fp32")
    same = (table[RECIPE] == start[RECIPE].iloc[0]).all(axis=1)
    half = table[same & table["precision"].isin(["bf16", "fp16"]) & table["step_s"].notna()]
    if half.empty or not np.isfinite(start["step_s"].iloc[0]):
        raise NotComputed(f"step time of {name!r} in 16 bit")
    ratios = start["step_s"].iloc[0] / half["step_s"]
    words = ", ".join(
        f"{bits} {ratio:.2f} times" for bits, ratio in zip(half["precision"], ratios, strict=True)
    )
    which = "our recipe" if kind == "corrected" else "the published recipe"
    text = f"speed of {which} over fp32 on {start['device'].iloc[0]}: {words}"
    best = float(ratios.max())
    faster, slower = best > 1 + CLEAR_RATIO, best < 1 - CLEAR_RATIO
    return Finding(text, RISES if faster else FALLS if slower else SAME)
