"""The ledger: published evidence as printed, our findings as planted, and neither in the other."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report import published
from cobe.report.audit import contrasts, evidence, measured
from cobe.report.audit.claims import CLAIMS
from cobe.report.audit.ledger import (
    BEGIN,
    CAPTION,
    END,
    ledger,
    long_form,
    read_ledger,
    readme_section,
    verdict_here,
    wide_form,
    write_readme_section,
)
from cobe.report.audit.measured import (
    FALLS,
    NOT_APPLICABLE,
    NOT_COMPUTED,
    RISES,
    SAME,
    UNCLEAR,
    Finding,
    Results,
)
from cobe.report.save import save_table

PROJECT = Path(__file__).parents[1]
QUICK = get_profile("quick")
SUBJECTS = QUICK.plan.subjects
SESSIONS = ("ses-002", "ses-003", "ses-004")
AXES = {axis.name: axis for axis in QUICK.axes}
BY_NAME = {claim.name: claim for claim in CLAIMS}


def rows_of(cell, protocol, value, features="gpt", groups=SESSIONS, summary="mean"):
    """Summary rows of one set of features; `value(subject, group)` is its score."""
    rows = []
    for subject in SUBJECTS:
        for group in ("all", *groups):
            rows.append(
                {
                    "target": -1,
                    "summary": summary,
                    "held_out": group,
                    "r": value(subject, group) if callable(value) else value,
                    "q": np.nan,
                    "chance_95": 0.02 if group == "all" else np.nan,
                    "ci_low": np.nan,
                    "ci_high": np.nan,
                    "n_trs": 800,
                    "cell": cell,
                    "features": features,
                    "subject": subject,
                    "protocol": protocol,
                }
            )
    return rows


def axis_scores(name, per_level, protocol=QUICK.protocol, groups=SESSIONS, wobble=0.0):
    """Scores that go up by `per_level` at every level of an axis, under one protocol."""
    rows = []
    for number, cell in enumerate(axis_cells(QUICK, AXES[name], protocol)):

        def value(subject, group, number=number):
            # the same for all levels, so that it falls out of every difference
            own = 0.01 * SUBJECTS.index(subject) + 0.001 * len(group)
            sign = -1 if wobble and SUBJECTS.index(subject) == 0 else 1
            return 0.2 + own + sign * per_level * number

        rows += rows_of(cell.name, protocol.name, value, groups=groups, summary=protocol.summary)
    return rows


def repeats(values, protocol=QUICK.protocol):
    """Rows and arm table of the base cell with other seeds; the base cell's own rows are given."""
    cells = [
        replace(QUICK.base, seed=seed, precision=bits)
        for bits in ("bf16", "fp32")
        for seed in QUICK.seeds
    ]
    arms = [
        {
            "arm": "noise",
            "cell": cell.name,
            "n_frames": cell.n_frames,
            "scheme": cell.scheme,
            "updates": "steps",
            "n_steps": 600,
            "precision": cell.precision,
            "seed": cell.seed,
        }
        for cell in cells
    ]
    rows = []
    for cell in cells:
        if cell != QUICK.base or "base" in values:
            value = values[cell.precision, cell.seed]
            rows += rows_of(cell.name, protocol.name, value, summary=protocol.summary)
    return rows, pd.DataFrame(arms)


def results(rows=None, **tables):
    scores = pd.DataFrame(rows) if rows else None
    return Results.of({"scores": scores, **tables}, QUICK)


# what the authors' outputs show: literal values from the printed notebooks


def test_published_cells_are_the_printed_ones():
    assert evidence.bars("data_size").loc["6M", "sub-06"] == 0.5677
    assert evidence.bars("hidden_dim").loc["6", "sub-02"] == 0.3972
    assert evidence.bars("n_layers").loc["8", "sub-01"] == 0.4921
    assert evidence.bars("n_heads").loc["1", "sub-01"] == 0.6556
    assert list(evidence.bars("data_size").index) == ["10K", "100K", "1M", "6M"]
    assert evidence.lowest_losses("hidden_dim").loc[["6", "576"]].tolist() == [5.75, 2.2937]


def test_published_gains_by_participant():
    text = evidence.data_size().text
    assert "+.225, +.033, +.210, +.456" in text
    assert "higher in 4 of 4" in text
    assert "+.033, +.009, +.066, +.088" in evidence.data_size().details
    hidden = evidence.hidden_size()
    assert "sub-02 best at 6" in hidden.details
    assert "126 below 30 in 4 of 4" in hidden.details
    assert hidden.verdict == "Shown for the loss; for the brain score in 3 of 4 participants"


def test_layers_fall_and_data_against_width_depends_on_the_range():
    layers = evidence.trend("n_layers")
    assert "-.017, -.008, -.044, -.016" in layers.text
    assert layers.verdict == evidence.LOSS_ONLY
    pair = evidence.data_against_width()
    assert "data larger in 4 of 4" in pair.text and "data larger in 0 of 4" in pair.text
    assert pair.verdict == evidence.RANGE


def test_the_chart_of_the_heads_repeats_that_of_the_layers():
    found = evidence.heads_chart()
    assert found.verdict == evidence.CHART_REPEATS
    assert "sub-02, sub-04, sub-06" in found.text and "9 of 12 bars" in found.text
    assert "sub-01" not in found.text


def test_the_only_hint_of_noise_holds_the_difference_of_the_precisions():
    again = evidence.repeat_difference()
    assert again.abs().max() == pytest.approx(0.0200, abs=1e-9)
    assert again["sub-06"] == pytest.approx(0.5477 - 0.5677)
    spread = evidence.bars("precision").max() - evidence.bars("precision").min()
    assert spread.max() == pytest.approx(0.0121)
    assert evidence.precision().verdict == evidence.COMPATIBLE
    assert "up to .020" in evidence.precision().details


def test_updates_participants_and_features_of_the_published_sets():
    steps = evidence.subset_updates()
    assert "300 / 2,500 / 24,100 / 145,000" in steps.text and "483-fold" in steps.text
    # what the table of hyperparameters says of the largest set, of another file
    known = published.hyperparameters().set_index(["part", "name"])["value"]
    assert known["GPT", "optimiser steps"] == "145000"
    assert known["GPT", "training data (frames)"] == str(evidence.subsets()["frames"].iloc[-1])
    subsets = evidence.subsets().set_index("level")
    assert subsets["participants"].to_dict() == {"10K": 1, "100K": 1, "1M": 1, "6M": 4}
    # windows of 32 frames at 15 Hz hop by 64 of the 60 Hz frames; 64 of them are one step
    for row in subsets.itertuples():
        assert row.steps_per_epoch == pytest.approx(row.frames / 64 / 64, rel=0.25)
    assert "1,536 / 7,680 / 32,256 / 147,456" in evidence.feature_counts().text


def test_the_readout_and_the_table_of_the_vqvae():
    readout = evidence.layers_readout()
    assert "+.128, +.077, +.134, +.170" in readout.details and "inferred" in readout.details
    table = evidence.vqvae_table()
    for words in ("4 x 4 x 4", "4 x 16 x 16", "2048", "1024", "256", "128"):
        assert words in table.text


def test_published_values_that_lost_their_source_are_refused(monkeypatch):
    max_r = published.max_r
    monkeypatch.setattr(published, "max_r", lambda axis: max_r(axis).assign(source="computed"))
    with pytest.raises(CobeError, match="rows are computed, not published"):
        evidence.bars("data_size")


@pytest.mark.parametrize(
    ("claim", "axis"),
    [
        ("data size", "data_size"),
        ("hidden size", "hidden_dim"),
        ("layers", "n_layers"),
        ("heads", "n_heads"),
        ("16 bit, score", "precision"),
    ],
)
def test_claims_cite_the_notebooks_that_the_values_come_from(claim, axis):
    cited = {Path(name).name for name in BY_NAME[claim].cites}
    assert set(published.max_r(axis)["source_notebook"]) <= cited


def test_commands_that_fill_gaps_are_commands():
    from cobe.driver.plan import chosen_figures

    assert all(chosen_figures(QUICK, claim.figure) for claim in CLAIMS)


def test_claims_are_whole():
    assert len(BY_NAME) == len(CLAIMS) == 18
    for claim in CLAIMS:
        shown = claim.shows()
        assert claim.claimed.endswith(".") and claim.cites and shown.text and shown.verdict
        assert claim.basis in ("stated", "derived", "inferred")


# what our run shows: planted


@pytest.mark.parametrize("kind", ["corrected", "as_published"])
@pytest.mark.parametrize(("step", "direction"), [(0.02, RISES), (-0.02, FALLS)])
def test_a_planted_rise_is_read_off(kind, step, direction):
    protocol = QUICK.protocol if kind == "corrected" else QUICK.published
    groups = SESSIONS if kind == "corrected" else ("random 10%",)
    rows = axis_scores("data_size", step, protocol, groups)
    found = measured.trend(results(rows), kind, "data_size")
    assert found.direction == direction
    # four levels, three steps
    assert ("+.060 (" if step > 0 else "-.060 (") in found.text
    assert f"above 0 in {4 if step > 0 else 0} of 4" in found.text
    if kind == "corrected":
        interval = "+.060 to +.060" if step > 0 else "-.060 to -.060"
        assert f"({interval}; 12 pairs" in found.text
    else:
        assert "4 pairs: no interval" in found.text and found.text.startswith("max r")


def test_the_last_block_is_the_published_readout_of_the_layers():
    last = QUICK.published_for("n_layers")
    rows = axis_scores("n_layers", 0.01, last, ("random 10%",))
    assert measured.trend(results(rows), "as_published", "n_layers").direction == RISES
    other = axis_scores("n_layers", 0.01, QUICK.published, ("random 10%",))
    with pytest.raises(measured.NotComputed, match="as_published_last"):
        measured.trend(results(other), "as_published", "n_layers")


def test_signs_that_differ_are_unclear_without_an_interval():
    rows = axis_scores("data_size", 0.02, groups=("random 10%",), wobble=1.0)
    found = measured.trend(results(rows), "corrected", "data_size")
    assert found.direction == UNCLEAR
    assert "above 0 in 3 of 4" in found.text


def test_two_participants_that_agree_show_nothing():
    few = replace(QUICK, plan=replace(QUICK.plan, subjects=SUBJECTS[:2]))
    rows = [
        row
        for row in axis_scores("data_size", 0.02, groups=("random 10%",))
        if row["subject"] in SUBJECTS[:2]
    ]
    mine = Results.of({"scores": pd.DataFrame(rows)}, few)
    found = measured.trend(mine, "corrected", "data_size")
    assert found.direction == UNCLEAR and "above 0 in 2 of 2" in found.text


@pytest.mark.parametrize(
    ("step", "direction"), [(0.0005, SAME), (0.02, RISES), (-0.02, FALLS), (0.0, SAME)]
)
def test_repeats_with_other_seeds_are_the_yardstick(step, direction):
    # the base cell is the last level of the axis and has its value there: mean 0.218 + 3 steps
    base = 0.2 + 0.015 + 0.003 + 3 * step
    seeds = {("fp32", 1): base + 0.002, ("fp32", 2): base - 0.002}
    noise, arms = repeats(seeds | {("bf16", s): 0.24 for s in (0, 1, 2)})
    rows = axis_scores("hidden_dim", step) + noise
    found = measured.trend(results(rows, arms=arms), "corrected", "hidden_dim")
    assert found.direction == direction
    assert (
        found.repeated and "may differ by .012 by their seeds alone" in found.details
    )  # 4.303 * .002 * 2**.5


def test_a_missing_participant_is_named_and_nothing_is_guessed():
    rows = axis_scores("data_size", 0.02)
    first = axis_cells(QUICK, AXES["data_size"])[0].name
    rows = [r for r in rows if not (r["cell"] == first and r["subject"] == SUBJECTS[2])]
    with pytest.raises(measured.NotComputed, match=f"{first} under corrected of {SUBJECTS[2]}"):
        measured.trend(results(rows), "corrected", "data_size")


def test_a_participant_without_any_row_is_missing_too():
    rows = [r for r in axis_scores("data_size", 0.02) if r["subject"] != SUBJECTS[0]]
    with pytest.raises(measured.NotComputed, match=SUBJECTS[0]):
        measured.trend(results(rows), "corrected", "data_size")


def test_a_row_that_stands_twice_is_refused():
    rows = axis_scores("data_size", 0.02)
    with pytest.raises(CobeError, match="two rows"):
        measured.trend(results(rows + rows[-1:]), "corrected", "data_size")


def losses_of(values):
    tables = [
        pd.DataFrame({"cell": cell, "step": [0, 1, 2], "val_loss": [6.0, low, low + 0.1]})
        for cell, low in values.items()
    ]
    return pd.concat(tables, ignore_index=True)


def test_the_loss_that_falls_where_the_score_does_not_is_said():
    cells = [cell.name for cell in axis_cells(QUICK, AXES["n_layers"])]
    losses = losses_of({cells[0]: 2.65, cells[1]: 2.61, cells[2]: 2.58})
    last = QUICK.published_for("n_layers")
    rows = axis_scores("n_layers", -0.01)
    rows += axis_scores("n_layers", -0.01, last, ("random 10%",))
    table = ledger({"scores": pd.DataFrame(rows), "losses": losses}, QUICK, True)
    row = table.set_index("claim").loc["layers"]
    assert "2.65 to 2.58" in row["corrected_details"]
    assert row["verdict_here"] == (
        "Simulated data: holds for the loss, not for the brain score, under both protocols"
    )
    with pytest.raises(CobeError, match="a step twice"):
        measured.lowest_loss(results(losses=pd.concat([losses, losses])), cells[0])


def test_the_base_model_against_its_chance_level():
    base, protocol = QUICK.base.name, QUICK.protocol
    rows = rows_of(base, "corrected", lambda s, g: 0.01 if s == SUBJECTS[0] else 0.3)
    parcel = rows[0] | {"summary": "target"}
    rows += [parcel | {"target": t, "q": q} for t, q in enumerate((0.01, 0.04, 0.06))]
    found = measured.above_chance(results(rows), "corrected")
    assert found.direction == UNCLEAR
    assert "above it in 3 of 4" in found.text
    assert "2 of 3 parcels" in found.details
    assert protocol.summary in found.text


def test_trained_against_untrained_and_the_best_control():
    base = QUICK.base
    rows = rows_of(base.name, "corrected", 0.27)
    rows += rows_of(base.untrained().name, "corrected", 0.22, "untrained")
    rows += rows_of("buttons", "corrected", 0.21, "buttons")
    rows += rows_of("pixel_pca", "corrected", 0.28, "pixel_pca")
    bands = pd.DataFrame(
        {
            "summary": "mean",
            "held_out": ["all", "all", "ses-002"],
            "band": ["gpt", "buttons", "gpt"],
            "delta_r2": [0.0123, 0.03, 9.0],
            "subject": SUBJECTS[0],
        }
    )
    mine = results(rows, bands=bands)
    learned = contrasts.learned_features(mine, "corrected")
    assert learned.direction == RISES and "+.050" in learned.text
    simple = contrasts.simple_features(mine, "corrected")
    assert simple.direction == FALLS and "(pixel_pca): -.010" in simple.text
    assert "buttons +3.00, gpt +1.23" in simple.details
    assert "not computed: lowlevel, vq" in simple.details


def test_data_against_width_is_the_difference_of_the_gains():
    data, width = (axis_cells(QUICK, AXES[name]) for name in ("data_size", "hidden_dim"))
    rows = rows_of(QUICK.base.name, "corrected", 0.30)
    rows += rows_of(data[0].name, "corrected", 0.20) + rows_of(width[0].name, "corrected", 0.25)
    found = contrasts.data_against_width(results(rows), "corrected")
    assert "+.050 (+.050 to +.050; 12 pairs" in found.text and found.direction == RISES
    assert "67-fold" in found.text and "8-fold" in found.text


def test_what_the_number_of_features_does():
    cells = axis_cells(QUICK, AXES["hidden_dim"])
    rows = []
    for cell, native, matched, blank in ((cells[0], 0.20, 0.22, 0.2), (cells[-1], 0.30, 0.25, 0.2)):
        rows += rows_of(cell.name, "native", native) + rows_of(cell.name, "corrected", matched)
        rows += rows_of(cell.untrained().name, "corrected", blank, "untrained")
    found = contrasts.width_features(results(rows), "corrected")
    assert found.direction == RISES and ": +.070 (" in found.text
    assert f"untrained models, {QUICK.protocol.n_features} features each: +.000" in found.details


def blocks_of(deepest, values):
    rows = [
        {"cell": deepest, "trained": True, "n_layers": 4, "subject": s, "block": b, "r": r}
        for s in SUBJECTS
        for b, r in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_middle_block_against_the_last():
    deepest = axis_cells(QUICK, AXES["n_layers"])[-1].name
    blocks = blocks_of(deepest, [0.20, 0.25, 0.28, 0.22])
    found = contrasts.layers_readout(results(blocks=blocks), "corrected")
    assert "middle block (3 of 4) minus last: +.060" in found.text
    assert found.direction == RISES and ".200, .250, .280, .220" in found.details
    with pytest.raises(measured.NotComputed, match="block 2"):
        contrasts.layers_readout(results(blocks=blocks[blocks["block"] != 2]), "corrected")
    with pytest.raises(CobeError, match="two rows"):
        contrasts.layers_readout(results(blocks=pd.concat([blocks, blocks])), "corrected")
    rows = rows_of(deepest, "as_published", 0.5, groups=("random 10%",), summary="max")
    rows += rows_of(deepest, "as_published_last", 0.4, groups=("random 10%",), summary="max")
    found = contrasts.layers_readout(results(rows), "as_published")
    assert found.direction == RISES and "+.100" in found.text


def test_sixteen_bit_is_held_against_seeds():
    values = {("fp32", 0): 0.270, ("fp32", 1): 0.274, ("fp32", 2): 0.272, "base": None}
    same = values | {("bf16", 0): 0.271, ("bf16", 1): 0.273, ("bf16", 2): 0.273}
    rows, arms = repeats(same)
    found = contrasts.precision(results(rows, arms=arms), "corrected")
    assert found.direction == SAME and "mean over 3 seeds" in found.text
    # t(.975, 2) * .002 * (2 / 3) ** .5: each side is a mean over three seeds
    assert "may differ by .007" in found.details
    worse = values | {("bf16", s): 0.25 for s in (0, 1, 2)}
    rows, arms = repeats(worse)
    assert contrasts.precision(results(rows, arms=arms), "corrected").direction == FALLS


def arm_rows(arm, column, values, frames=12_000):
    """An arm of cells that differ in one column, and their scores."""
    arms, rows = [], []
    for name, r in values.items():
        arms.append(
            {"arm": arm, "cell": f"{arm}-{name}", "n_frames": frames, "scheme": "stratified"}
            | {"updates": "steps", "n_steps": 1, "precision": "fp32", "seed": 0, column: name}
        )
        if r is not None:
            rows += rows_of(f"{arm}-{name}", "corrected", r)
    return rows, pd.DataFrame(arms)


def test_who_plays_at_equal_frames():
    values = {"stratified": 0.25, "prefix": 0.22, "single": 0.20}
    rows, arms = arm_rows("diversity", "scheme", values)
    found = contrasts.diversity(results(rows, arms=arms), "corrected")
    assert found.direction == RISES
    assert "12k frames, stratified minus single: +.050" in found.text
    assert "stratified minus prefix: +.030" in found.details
    assert contrasts.diversity(results(rows, arms=arms), "as_published").direction == NOT_APPLICABLE


def test_a_size_that_one_participant_did_not_play_is_said():
    rows, arms = arm_rows("diversity", "scheme", {"stratified": 0.25, "single": 0.20})
    more, rest = arm_rows("diversity", "scheme", {"stratified": 0.25, "single": None}, 50_000)
    rest["cell"] += "-50k"
    arms = pd.concat([arms, rest])
    found = contrasts.diversity(results(rows, arms=arms), "corrected")
    assert "50k frames: not computed" in found.details and found.direction == RISES
    with pytest.raises(measured.NotComputed, match="stratified beside single"):
        contrasts.diversity(results(rows, arms=rest), "corrected")


def test_length_of_training_at_equal_frames():
    rows, arms = arm_rows("updates", "updates", {"steps": 0.25, "epochs": 0.20})
    # the published way changes the subset as well, and is left to the other arm
    both = arms.iloc[-1:].assign(scheme="prefix", cell="updates-both")
    found = contrasts.updates(results(rows, arms=pd.concat([arms, both])), "corrected")
    assert "steps minus epochs: +.050" in found.text and found.direction == RISES
    mixed = contrasts.updates(results(rows, arms=arms), "as_published")
    assert "9 updates for 3k frames, 600 for 200k" in mixed.text


def test_the_arm_table_of_the_sweep_is_read():
    from cobe.sweep.arms import arm_table

    arms = arm_table(QUICK)
    scores = pd.DataFrame(
        [row for cell in arms["cell"].unique() for row in rows_of(cell, "corrected", 0.2)]
    )
    mine = Results.of({"scores": scores, "arms": arms}, QUICK)
    for measure in (contrasts.diversity, contrasts.updates, contrasts.precision):
        assert measure(mine, "corrected").direction == SAME


def test_the_null_brain():
    trials = pd.DataFrame(
        {
            "protocol": ["as_published"] * 20 + ["corrected"] * 20,
            "r": [0.2 + 0.01 * k for k in range(20)] + [0.001 * (-1) ** k for k in range(20)],
            "n_found": [3] * 20 + [0] * 19 + [1],
        }
    ).assign(r_mean=0.05, r_max=0.3, chance_95=0.25, fewest_findable=1, n_parcels=20)
    orders = pd.DataFrame(
        {"protocol": "corrected", "recovered": [True, False], "right_winner": [True, True]}
    )
    mine = results(null_trials=trials, orders=orders)
    leaky = contrasts.null_brain(mine, "as_published")
    assert leaky.direction == RISES and "above 0 in 20 of 20 draws" in leaky.text
    assert "mean over parcels +.050" in leaky.details
    assert "; 14 of 20 draws above its own chance level (5 % expected)" in leaky.text
    clean = contrasts.null_brain(mine, "corrected")
    assert clean.direction == SAME and "pass correction in 1 draws" in clean.text
    assert "found in 1 of 2 draws, the strongest in 2" in clean.details
    often = trials.assign(n_found=1)
    assert contrasts.null_brain(results(null_trials=often), "corrected").direction == RISES
    no_chance = trials.assign(chance_95=np.nan)
    for gap in (trials.iloc[:20], no_chance):
        with pytest.raises(measured.NotComputed, match="under corrected"):
            contrasts.null_brain(results(null_trials=gap), "corrected")


def null_trials(n_passing, n_finding):
    """100 draws, of which so many pass the chance level of the mean, or have parcels that pass."""
    draws = np.arange(100)
    return pd.DataFrame(
        {"protocol": "corrected", "r": np.where(draws < n_passing, 0.05, -0.01)}
        | {"n_found": (draws < n_finding).astype(int)}
    ).assign(r_mean=0.0, r_max=0.1, chance_95=0.04, fewest_findable=1, n_parcels=20)


@pytest.mark.parametrize(
    "n_passing, n_finding, direction, outcome",
    [
        (10, 10, SAME, "holds"),
        (11, 5, UNCLEAR, "cannot tell"),
        (5, 11, RISES, "does not hold"),
        (13, 13, RISES, "does not hold"),
    ],
)
def test_the_null_brain_judges_the_plotted_statistic_too(n_passing, n_finding, direction, outcome):
    mine = results(null_trials=null_trials(n_passing, n_finding))
    found = contrasts.null_brain(mine, "corrected")
    assert found.direction == direction
    assert f"{n_passing} of 100 draws above its own chance level (5 % expected)" in found.text
    assert "passes at most 10 of 100 draws" in found.details
    claim = BY_NAME["measure"]
    verdict = verdict_here(claim, Finding("", NOT_APPLICABLE), found, True)
    assert verdict == f"Simulated data: {outcome} under corrected"


def throughput(half_s):
    recipe = {"dropout": 0.2, "attention": "eager", "attention_dropout": 0.3}
    recipe |= {"activation_checkpointing": True, "compile": False, "tokens_once": False}
    ours = {"dropout": 0.0, "attention": "sdpa", "attention_dropout": 0.0}
    ours |= {"activation_checkpointing": False, "compile": False, "tokens_once": True}
    rows = [
        {"change": "published recipe", "precision": "fp32", "step_s": 1.35} | recipe,
        {"change": "published recipe in bf16", "precision": "bf16", "step_s": half_s} | recipe,
        {"change": "published recipe in fp16", "precision": "fp16", "step_s": np.nan} | recipe,
        {"change": "no checkpointing", "precision": "fp32", "step_s": 0.1} | ours,
        {"change": "bf16", "precision": "bf16", "step_s": 0.2} | ours,
    ]
    return pd.DataFrame(rows).assign(device="cpu")


def test_speed_is_that_of_pairs_that_differ_in_precision_alone():
    mine = results(throughput=throughput(1.0))
    theirs, ours = (contrasts.speed(mine, kind) for kind in ("as_published", "corrected"))
    assert "bf16 1.35 times" in theirs.text and theirs.direction == RISES
    assert "bf16 0.50 times" in ours.text and ours.direction == FALLS
    claim = BY_NAME["16 bit, speed"]
    assert verdict_here(claim, theirs, ours, True) == (
        "Here: depends on the recipe: holds under the published recipe, does not hold under our "
        "recipe"
    )
    with pytest.raises(measured.NotComputed, match="16 bit"):
        contrasts.speed(results(throughput=throughput(np.nan)), "as_published")


# verdicts and the table


def finding(direction, **options):
    return Finding("", direction, **options)


@pytest.mark.parametrize(
    ("expected", "first", "second", "verdict"),
    [
        (RISES, finding(RISES), finding(RISES), "holds under both protocols"),
        (RISES, finding(FALLS), finding(SAME), "does not hold under both protocols"),
        (RISES, finding(UNCLEAR), finding(UNCLEAR), "cannot tell under both protocols"),
        (
            RISES,
            finding(RISES),
            finding(SAME),
            "depends on the protocol: holds under as_published, does not hold under corrected",
        ),
        (
            RISES,
            finding(NOT_COMPUTED),
            finding(RISES),
            "not computed under as_published, holds under corrected",
        ),
        (SAME, finding(NOT_APPLICABLE), finding(SAME), "holds under corrected"),
        (
            SAME,
            finding(RISES, repeated=False),
            finding(RISES, repeated=False),
            "cannot tell under both protocols",
        ),
        (SAME, finding(RISES), finding(FALLS), "does not hold under both protocols"),
    ],
)
def test_verdicts_follow_the_rule(expected, first, second, verdict):
    claim = replace(BY_NAME["heads"], expected=expected)
    assert verdict_here(claim, first, second, True) == f"Simulated data: {verdict}"
    assert verdict_here(claim, first, second, False) == f"Real data: {verdict}"


def test_without_tables_nothing_is_guessed_and_the_published_side_stays():
    table = ledger({}, QUICK, True)
    full = ledger({"scores": pd.DataFrame(axis_scores("data_size", 0.02))}, QUICK, True)
    theirs = [c for c in table if c.startswith(("authors", "verdict_pub", "sure_pub", "cites"))]
    pd.testing.assert_frame_equal(table[theirs], full[theirs])
    for column in ("as_published_here", "corrected_here"):
        assert not table[column].str.contains(r"\.\d{2,3}").any()
        assert table[column].str.contains("not computed|does not depend|mixed by design").all()
    row = table.set_index("claim").loc["hidden size"]
    assert row["corrected_here"] == "not computed: no scores table; ./run_all.sh --only audit"
    assert row["verdict_here"] == "Simulated data: not computed under both protocols"
    smoke = ledger({}, get_profile("smoke"), True).set_index("claim")
    assert "./run_all.sh --profile smoke --only audit" in smoke.loc["hidden size", "corrected_here"]
    assert not table.isna().any().any()


def test_simulated_data_confirm_and_refute_nothing_about_brains():
    rows = axis_scores("data_size", 0.02)
    for simulated in (True, False):
        row = ledger({"scores": pd.DataFrame(rows)}, QUICK, simulated).set_index("claim")
        row = row.loc["data size"]
        assert row["verdict_here"].startswith("Simulated data" if simulated else "Real data")
        assert ("neither confirm nor refute" in row["sure_here"]) == simulated


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"score": None}, "no such table score; give scores"),
        ({"scores": pd.DataFrame({"r": [1.0]})}, "scores table: no column"),
        (
            {"scores": pd.DataFrame(axis_scores("data_size", 0.02)).assign(source="published")},
            "scores table: rows are published, not computed",
        ),
    ],
)
def test_tables_that_are_not_ours_are_refused(tables, message):
    with pytest.raises(CobeError, match=message):
        ledger(tables, QUICK, True)


@pytest.fixture(scope="module")
def table():
    rows = axis_scores("data_size", 0.02) + axis_scores("hidden_dim", 0.02)
    scores = pd.DataFrame(rows).drop_duplicates(["cell", "subject", "held_out", "protocol"])
    return ledger({"scores": scores}, QUICK, True)


def test_the_file_keeps_sources_apart_and_gives_the_ledger_back(table, tmp_path):
    long = long_form(table)
    assert set(long["source"]) == {"published", "computed"}
    assert len(long) == 3 * len(table)
    assert (long.loc[long["source"] == "computed", "protocol"] != "").all()
    save_table(long, "table_ledger", tmp_path, CAPTION)
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "table_ledger.csv"), table)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.assign(source=t["source"].replace({"published": "computed"})),
        lambda t: t.assign(
            source=t["source"].map({"published": "computed", "computed": "published"})
        ),
        lambda t: t.iloc[1:],
        lambda t: pd.concat([t, t.iloc[:1]]),
    ],
)
def test_exchanged_sources_are_refused(table, spoil):
    with pytest.raises(CobeError, match="one published row and one computed"):
        wide_form(spoil(long_form(table)))


def test_a_file_without_sources_is_refused(table, tmp_path):
    with pytest.raises(CobeError, match="no column source"):
        wide_form(long_form(table).drop(columns="source"))
    with pytest.raises(CobeError, match="not there"):
        read_ledger(tmp_path / "table_ledger.csv")


def test_the_short_table(table):
    text = readme_section(table)
    assert text.startswith(f"{BEGIN}\n") and text.endswith(f"{END}\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    short = [claim for claim in CLAIMS if claim.in_readme]
    assert len(lines) == 2 + len(short) and 10 <= len(short) <= 13
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}
    assert "+.060 (+.060 to +.060; 12 pairs; above 0 in 4 of 4)" in text
    assert "+.225, +.033, +.210, +.456" in text
    assert "figures/table_ledger.md" in text


def test_only_what_is_between_the_markers_changes(table, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# before\n\n{BEGIN}\nold\n{END}\n\nafter, with é\n", encoding="utf-8")
    text = readme_section(table)
    write_readme_section(path, text)
    assert path.read_text(encoding="utf-8") == f"# before\n\n{text}\nafter, with é\n"
    once = path.read_bytes()
    write_readme_section(path, text)
    assert path.read_bytes() == once
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    "content", ["no marker", BEGIN, f"{END}\n{BEGIN}\n", f"{BEGIN}{END}{BEGIN}{END}"]
)
def test_a_file_without_its_markers_stays_as_it_is(table, tmp_path, content):
    path = tmp_path / "README.md"
    path.write_text(content)
    with pytest.raises(CobeError, match="once each"):
        write_readme_section(path, readme_section(table))
    assert path.read_text() == content


def test_a_write_that_fails_leaves_the_old_file(table, tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text(f"{BEGIN}\nold\n{END}\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CobeError, match="No space left"):
        write_readme_section(path, readme_section(table))
    assert path.read_text() == f"{BEGIN}\nold\n{END}\n"
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CobeError, match="give the README's path"):
        write_readme_section(tmp_path / "README.md", "")


def test_the_section_of_the_readme_is_that_of_the_committed_ledger():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = text[text.index(BEGIN) : text.index(END) + len(END)]
    table = read_ledger(PROJECT / "figures" / "table_ledger.csv")
    assert section == readme_section(table).rstrip("\n")
