"""Figures, captions and statements of the joint grid, on tables with a planted truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

import grid_tables
from cobe.core.errors import CobeError
from cobe.report import compute_optimal
from cobe.report.compute_optimal import captions, draw
from cobe.report.compute_optimal.brain import scaling_brain
from cobe.report.compute_optimal.evidence import _said, link_of, predict_largest
from cobe.report.compute_optimal.figures import scaling_isoflop, scaling_loss
from cobe.report.compute_optimal.rows import (
    MEAN,
    Refused,
    amount,
    attempt,
    early_words,
    flop_counter,
    hours_of_video,
    loss_rows,
    of_subject,
    subjects_of,
    words_of,
)
from cobe.report.compute_optimal.spending import (
    LOSS,
    SCORE,
    allocation_table,
    allocations,
    fits_table,
    scaling_allocation,
    share_statements,
    shares_table,
)
from cobe.report.scaling import (
    compare_forms,
    fit_brain_score,
    fit_parametric,
    frontier,
    gain_shares,
    isoflop,
)

FLAT = {"E": 3.0, "A": 0.0, "B": 0.0, "alpha": 0.4, "beta": 0.4}
HOW = {"n_boot": 30, "seed": 0}


def score_rows(scores, rows):
    return compute_optimal.rows.score_rows(scores, rows, grid_tables.sizes(scores))


def loss_fit(rows):
    given = (rows.n_params, rows.tokens_seen, rows.val_loss)
    return attempt(fit_parametric, *given, n_unique=rows.unique_tokens, blocks=rows.design, **HOW)


def score_fit(scored, subject=MEAN):
    mine = of_subject(scored, subject)
    given = (mine.n_params, mine.tokens_seen, mine.scan_hours, mine.r)
    options = {"n_unique": mine.unique_tokens, "blocks": mine.design, **HOW}
    return attempt(fit_brain_score, *given, **options)


@pytest.fixture(scope="module")
def rows():
    return loss_rows(grid_tables.loss_table())


@pytest.fixture(scope="module")
def fit(rows):
    return loss_fit(rows)


@pytest.fixture(scope="module")
def scored(rows):
    return score_rows(grid_tables.score_table(), rows)


@pytest.fixture(scope="module")
def brain_fit(scored):
    return score_fit(scored)


@pytest.fixture(scope="module")
def flat_rows():
    return loss_rows(grid_tables.loss_table(0.01, FLAT))


@pytest.fixture(scope="module")
def flat_fit(flat_rows):
    return loss_fit(flat_rows)


def texts(figure) -> str:
    found = [t.get_text() for axes in figure.axes for t in axes.texts]
    found += [axes.get_title(loc="left") for axes in figure.axes]
    found += [axes.get_xlabel() for axes in figure.axes]
    return " ".join(" ".join([*found, *(t.get_text() for t in figure.texts)]).split())


def n_curves(axes) -> int:
    return sum(len(line.get_xdata()) == draw.LINE_POINTS for line in axes.lines)


# ------------------------------------------------------------------------------------------------
# tables made ready to fit


def test_repeats_are_worth_what_the_formula_says(rows):
    assert_allclose(rows.n_effective, grid_tables.worth(rows))
    seeds = rows[rows.kind == "anchor"]
    assert (seeds.groupby("design").seed.nunique() == 2).all()
    assert rows[rows.kind != "isoflop"].design.nunique() == 25


def test_scores_are_means_over_sessions_and_then_participants(rows, scored):
    table = grid_tables.score_table()
    cell, hours = rows.cell[7], 0.4
    mine = table[(table.cell == cell) & (table.scan_hours == hours)]
    by_hand = mine.groupby("subject").r.mean()
    got = scored[(scored.cell == cell) & (scored.scan_hours == hours)].set_index("subject").r
    assert_allclose(got[by_hand.index], by_hand)
    assert_allclose(got[MEAN], by_hand.mean())
    untrained = scored[~scored.trained]
    assert untrained.n_effective.isna().all() and (untrained.n_params > 0).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.drop(columns="r"), "scores: no column r"),
        (lambda t: t.iloc[:0], "scores: no rows"),
        (lambda t: t.assign(r=np.where(t.index == 3, np.nan, t.r)), "r of 1 rows is not finite"),
        (lambda t: t.assign(subject="mean"), "a subject is called 'mean'"),
        (lambda t: t.assign(cell="x" + t.cell), "is not in the plan or the losses"),
        (lambda t: t[(t.subject != "sub-sim2") | (t.scan_hours < 0.5)], "has 3 of 4 participants"),
    ],
)
def test_bad_score_tables_are_refused(rows, change, message):
    with pytest.raises(CobeError, match=message):
        score_rows(change(grid_tables.score_table()), rows)


def test_bad_loss_tables_are_refused():
    table = grid_tables.loss_table()
    for bad, message in [
        (table.drop(columns="flop"), "losses: no column flop"),
        (table.iloc[:0], "losses: no rows"),
        (pd.concat([table, table.iloc[:1]]), "has two rows"),
        (
            table.assign(tokens_seen_best=table.tokens_seen * (table.index != 3)),
            f"losses: {table.cell[3]}: lowest loss before the first step",
        ),
    ]:
        with pytest.raises(CobeError, match=message):
            loss_rows(bad)


def test_models_that_were_best_before_the_end_are_counted():
    table = grid_tables.loss_table()
    table["tokens_seen_best"] = table.tokens_seen * np.where(table.index < 7, 0.5, 1)
    early = loss_rows(table)
    assert early_words(early).startswith(f"7 of {len(table)} models had their lowest loss before")
    none = Refused("nothing")
    given = early, none, none, none
    assert early_words(early) in captions.loss_caption(*given, simulated=True)


def test_parcels_that_change_in_number_are_refused_and_else_counted(rows):
    table = grid_tables.score_table().assign(n_parcels=400)
    table.loc[table.subject == "sub-sim2", "n_parcels"] = 390
    scored = score_rows(table, rows)
    none = Refused("nothing")
    words = captions.brain_caption(scored, none, none, simulated=True)
    assert "mean over 390 to 400 parcels" in words and "over 2 held-out sessions" in words
    table.loc[table.index[-1], "n_parcels"] = 399
    with pytest.raises(CobeError, match="scores: sub-sim4 has 399 to 400 parcels"):
        score_rows(table, rows)


def test_flop_are_those_of_the_table_and_rise_between(rows):
    flops = flop_counter(rows)
    assert_allclose(flops(rows.n_params.to_numpy(), rows.tokens_seen.to_numpy()), rows.flop)
    sizes = np.geomspace(1e3, 1e7, 50)
    each = flops(sizes, 1.0)
    assert (np.diff(each) > 0).all()
    width = 34
    true = grid_tables.flop_per_token(width)
    assert_allclose(flops(grid_tables.n_params_of(width), 1.0), true, rtol=0.03)
    with pytest.raises(CobeError, match="flop: 1 model size"):
        flop_counter(rows[rows.hidden == 12])
    uneven = rows.assign(flop=rows.flop * np.where(rows.index == 0, 1.5, 1))
    with pytest.raises(CobeError, match="cost different FLOP per token"):
        flop_counter(uneven)


def test_an_hour_of_video_is_216000_frames(rows):
    tokens = 216_000 * grid_tables.TOKENS_PER_FRAME
    assert_allclose(hours_of_video(tokens, rows), 1.0)


def test_amounts_are_short():
    read = [amount(x) for x in (7, 950, 1_234, 99_600, 250_000, 3_449_000, 2e9)]
    assert read == ["7", "950", "1.2k", "100k", "250k", "3.4M", "2B"]


def test_a_refused_fit_is_handed_on_with_its_reason(rows):
    bad = attempt(fit_parametric, [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], **HOW)
    assert isinstance(bad, Refused) and "2 distinct values" in bad.why
    assert attempt(frontier, bad, [1e9, 1e10], flops=None) is bad
    assert "not fitted: " in words_of(bad)


# ------------------------------------------------------------------------------------------------
# what is found where something was planted, and where nothing was


def test_planted_surface_is_drawn_with_its_constants(rows, fit):
    forms = compare_forms(
        {"n_params": rows.n_params, "n_data": rows.n_effective},
        rows.val_loss,
        blocks=rows.design,
        **HOW,
    )
    held_out = predict_largest(rows, "val_loss", **HOW)
    assert held_out.inside.mean() >= 0.8
    figure = scaling_loss(rows, fit, held_out, forms, True)
    assert [n_curves(axes) for axes in figure.axes[:2]] == [5, 5]
    assert "simulated data" in texts(figure) and f"α {fit.alpha.value:.2f}" in texts(figure)
    words = captions.loss_caption(rows, fit, held_out, forms, simulated=True)
    assert f"{int(held_out.inside.sum())} of {len(held_out)} inside" in words
    assert "29 models (5 sizes, 5 amounts of video, 4 repeats" in words
    assert "Model size + video: predicts the held-out cells best" in words
    assert "What this does not show" in words and "Simulated data" in words


def test_planted_shares_are_found(fit, brain_fit):
    """The additive surface splits the gain without a rest, so the constants give the shares."""
    truth = grid_tables.LOSS
    (n_low, n_high), (d_low, d_high) = fit.ranges["n_params"], fit.ranges["n_data"]
    gains = np.array(
        [
            truth["A"] * (n_low ** -truth["alpha"] - n_high ** -truth["alpha"]),
            truth["B"] * (d_low ** -truth["beta"] - d_high ** -truth["beta"]),
        ]
    )
    shares = gain_shares(fit)
    assert_allclose(shares.table.share, gains / gains.sum(), atol=0.03)
    assert_allclose(shares.table.share.sum(), 1)
    assert shares.largest == "n_data"
    said = share_statements(shares_table({"loss": fit, MEAN: brain_fit}), {"loss": fit})
    assert said[0].startswith("loss: video explains the largest share")
    assert "in this one draw of the video" in said[0]
    assert "noise that all models of a scan-time level or subset share is not in them" in said[-1]


def test_a_factor_is_named_only_where_every_participant_agrees(rows, brain_fit):
    scales = {"n_params": 0.2, "n_data": 0.2, "scan_hours": 0.08}
    scored = score_rows(grid_tables.score_table(scales=scales), rows)
    mean, own = score_fit(scored), [score_fit(scored, s) for s in grid_tables.SUBJECTS[:2]]
    assert gain_shares(mean).largest == "scan_hours"
    fits = {MEAN: mean, "sub-1": own[0], "sub-2": own[1]}
    said = share_statements(shares_table(fits), fits)
    assert said[0].startswith("mean: scan time explains the largest share")
    assert "in every participant's own fit too" in said[0]
    assert gain_shares(brain_fit).table.set_index("factor").gain.idxmax() != "scan_hours"
    for other in ({"sub-2": brain_fit}, {"sub-2": Refused("too few")}, {}):
        fits = {MEAN: mean, "sub-1": own[0], **other}
        said = share_statements(shares_table(fits), fits)
        assert said[0].startswith("mean: it cannot be told which factor")


def test_a_factor_without_a_power_law_leaves_no_share_known(fit):
    lost = replace(fit, lost=("n_params",))
    shares = gain_shares(lost)
    assert shares.table.share.isna().all() and shares.largest is None
    assert list(shares.table.gain.isna()) == [True, False]
    said = share_statements(shares_table({"loss": lost}), {"loss": lost})
    assert "it cannot be told which factor" in said[0] and "not known (no power law)" in said[0]
    fits, none = {"loss": lost, MEAN: Refused("no scores")}, pd.DataFrame()
    figure = scaling_allocation(none, shares_table(fits), fits, (1, 2), True)
    assert "no share known" in texts(figure)


def test_shares_of_a_fit_that_is_not_fixed_have_no_intervals(fit):
    open_fit, sure = replace(fit, unfixed=("n_params",)), gain_shares(fit)
    shares = gain_shares(open_fit)
    assert_allclose(shares.table.share, sure.table.share)
    assert shares.table[["share_low", "share_high"]].isna().all(axis=None)
    assert (
        list(shares.table.gain_low.isna()) == list(shares.table.gain_high.isna()) == [True, False]
    )
    fits = {"loss": open_fit, MEAN: Refused("no scores")}
    said = share_statements(shares_table(fits), fits)
    model, video = (f"{share:.0%}" for share in sure.table.share)
    why = "no intervals: the data do not fix the exponent of model size"
    assert said[0].endswith(f"(model size {model}, video {video}; {why})") and len(said) == 2
    figure = scaling_allocation(pd.DataFrame(), shares_table(fits), fits, (1, 2), True)
    assert "a dot alone has none" in texts(figure)
    sure_fits = {"loss": fit}
    assert "no intervals" not in " ".join(share_statements(shares_table(sure_fits), sure_fits))


def test_a_flat_surface_is_called_flat_and_gets_no_curve(flat_rows, flat_fit):
    fits = {"loss": flat_fit, MEAN: Refused("no scores")}
    refused = Refused("nothing to predict")
    figure = scaling_loss(flat_rows, flat_fit, refused, refused, True)
    drawn = [n_curves(axes) for axes in figure.axes[:2]]
    assert drawn == [0 if draw.unusable(flat_fit, f) else 5 for f in ("n_data", "n_params")]
    assert 0 in drawn and "no curve: no power law in" in texts(figure)
    table = allocation_table(flat_fit, flat_rows, flop_counter(flat_rows), [1e10, 1e11])
    assert not table.told.any() and table.n_params.isna().all() and table.reached.isna().all()
    shares = shares_table(fits)
    said = share_statements(shares, fits)
    assert "flat" in said[0] or "it cannot be told which factor" in said[0]
    assert said[1] == "mean: not fitted: no scores"
    figure = scaling_allocation(table, shares, fits, (1e9, 1e12), True)
    assert "loss: cannot tell at 2 of 2 budgets" in texts(figure)
    assert "best for loss" not in str(figure.axes[0].get_legend_handles_labels())


def test_noise_names_no_factor():
    named = []
    for seed in range(3):
        fit = loss_fit(loss_rows(grid_tables.loss_table(0.01, FLAT, seed=seed)))
        named.append(gain_shares(fit).largest)
    assert named == [None] * 3


def test_isoflop_slices_give_the_planted_exponent_beside_the_bias(rows, fit):
    flops, cut = flop_counter(rows), rows[rows.kind == "isoflop"]
    slices = isoflop(
        cut.n_params,
        cut.tokens_seen,
        cut.val_loss,
        flops=flops,
        budgets_flop=sorted(cut.slice_flop.unique()),
        fit=fit,
        n_unique=rows.unique_tokens.max(),
        **HOW,
    )
    assert (slices.slices.state == "ok").all()
    best = frontier(fit, np.geomspace(1e9, 1e12, 5), flops=flops)
    figure = scaling_isoflop(rows, slices, best, True)
    said = texts(figure)
    assert f"parabolas: best size ~ FLOP^{slices.exponent.value:.2f}" in said
    assert f"{slices.bias_exponent:+.2f} is bias of the method" in said
    words = captions.isoflop_caption(rows, slices, best, simulated=False)
    assert "15 models in 3 slices" in words and "Real data" in words


def test_frontier_is_what_allocate_says(rows, fit):
    from cobe.report.scaling import allocate

    flops, budgets = flop_counter(rows), [1e10, 1e11]
    table, exponent = frontier(fit, budgets, flops=flops)
    for row in table.itertuples():
        one = allocate(fit, row.budget_flop, flops=flops)
        assert (row.n_params, row.n_data) == (one.n_params.value, one.n_data.value)
        assert (row.flat_n_low, row.flat_n_high) == one.flat_n_params
        assert row.told == one.told
        assert row.extrapolated == one.extrapolated
    assert table.told.all()
    slope = np.diff(np.log(table.n_params)) / np.diff(np.log(budgets))
    assert_allclose(exponent.value, slope[0])
    assert exponent.low <= exponent.value <= exponent.high
    for bad, message in [([1e10], "needs two or more"), ([1e10, -1.0], "not positive and finite")]:
        with pytest.raises(CobeError, match=message):
            frontier(fit, bad, flops=flops)


def test_figures_without_slices_or_fit_say_so(rows):
    none = Refused("too few cells")
    grid = rows[rows.kind != "isoflop"]
    figure = scaling_isoflop(grid, none, none, True)
    assert "no models of equal FLOP were trained" in texts(figure)
    assert "too few cells" in texts(figure)
    assert "parabolas: no exponent; surface: no exponent" in texts(figure)
    assert "too few cells" in captions.isoflop_caption(grid, none, none, simulated=True)
    figure = scaling_allocation(pd.DataFrame(), shares_table({}), {"loss": none}, (1, 2), True)
    assert "not fitted" in texts(figure)
    with pytest.raises(CobeError, match="allocation: no rows"):
        scaling_allocation(pd.DataFrame(), shares_table({}), {}, (1, 2), True)


# ------------------------------------------------------------------------------------------------
# brain scores


def test_link_is_a_rank_correlation_of_designs(rows, scored):
    link = link_of(rows, scored, **HOW)
    row = link.trends[(link.trends.subject == MEAN)].set_index("axis").loc["all cells"]
    assert_allclose(row.rho, spearmanr(-link.models.val_loss, link.models.r)[0])
    assert row.n_cells == rows.design.nunique() and row.low <= row.rho <= row.high
    held = link.trends[(link.trends.subject == MEAN) & (link.trends.axis != "all cells")]
    verb = "follows" if (held.low > 0).all() else "goes together with"
    assert link.statements[0].startswith(f"all cells: the brain score {verb} the loss")
    assert "same sign in 4 of 4 participants" in link.statements[0]


@pytest.mark.parametrize("low, verb", [(0.1, "follows"), (-0.1, "goes together with")])
def test_the_score_follows_the_loss_only_at_either_factor_held(low, verb):
    axes = ["all cells", "equal model size", "equal video"]
    numbers = {"rho": 0.8, "low": [0.5, 0.3, low], "high": 0.9, "n_cells": 25}
    said = _said(pd.DataFrame({"subject": MEAN, "axis": axes, **numbers}))
    assert said[0].startswith(f"all cells: the brain score {verb} the loss")
    assert ("cannot tell" in said[2]) == (low < 0)


def test_link_of_noise_cannot_be_told_and_of_a_reversed_score_is_said(rows):
    flat = {"n_params": 0.0, "n_data": 0.0, "scan_hours": 0.0}
    noise = score_rows(grid_tables.score_table(0.01, flat), rows)
    assert all("cannot tell" in said for said in link_of(rows, noise, **HOW).statements)
    table = grid_tables.score_table()
    reversed_rows = score_rows(table.assign(r=-table.r), rows)
    said = link_of(rows, reversed_rows, **HOW).statements
    assert "falls where the loss improves" in said[0]
    few = rows.cell.isin(rows.cell[:5])
    with pytest.raises(CobeError, match="5 designs with both"):
        link_of(rows[few], noise[noise.cell.isin(rows.cell[:5])], **HOW)
    with pytest.raises(CobeError, match="n_boot: 0"):
        link_of(rows, noise, n_boot=0, seed=0)


def test_brain_figure_has_the_untrained_floor_and_a_curve_per_level(rows, scored, brain_fit):
    link = link_of(rows, scored, **HOW)
    figure = scaling_brain(scored, brain_fit, link, True)
    assert [n_curves(axes) for axes in figure.axes[:3]] == [5, 5, 3]
    floor = scored[~scored.trained & (scored.subject == MEAN)]
    floor = floor[floor.scan_hours == floor.scan_hours.max()]
    drawn = [line for line in figure.axes[1].lines if line.get_label() == "untrained"]
    assert_allclose(np.sort(drawn[0].get_ydata()), np.sort(floor.r))
    assert "mean of 4 participants" in texts(figure)
    words = captions.brain_caption(scored, brain_fit, link, simulated=True)
    for part in ("4 participants", "5 untrained", "0.1, 0.2, 0.4, 0.8 hours", link.statements[0]):
        assert part in words


def test_two_amounts_of_scan_time_are_refused_and_the_figure_says_so(rows):
    scored = score_rows(grid_tables.score_table(hours=(0.1, 0.2)), rows)
    fit = score_fit(scored)
    assert isinstance(fit, Refused)
    link = Refused("too few designs")
    figure = scaling_brain(scored, fit, link, True)
    assert sum(n_curves(axes) for axes in figure.axes) == 0
    assert texts(figure).count("scan_hours: 2 distinct values") == 3
    assert "not compared: too few designs" in texts(figure)
    assert "2 distinct values" in captions.brain_caption(scored, fit, link, simulated=True)
    trained_only = scored[scored.trained]
    assert "no untrained models" in texts(scaling_brain(trained_only, fit, link, True))


def test_held_out_largest_scores_lie_in_the_predicted_interval(scored):
    mine = of_subject(scored)
    table = predict_largest(mine, "r", **HOW)
    designs = mine[mine.cell.isin(table.cell)].design.unique()
    assert len(table) == mine.design.isin(designs).sum()
    assert (table.groupby("cell").scan_hours.nunique() == 4).all()
    assert len(table) >= 0.25 * 160 and table.inside.mean() >= 0.8
    assert table.scan_hours.max() == 0.8 and (table.low <= table.value).all()


def test_allocation_of_scores_finds_the_planted_optimum(rows, brain_fit):
    flops = flop_counter(rows)
    budget, hours = 5e10, 0.4
    table = allocation_table(brain_fit, rows, flops, [budget], [hours])
    sizes = np.geomspace(1e3, 5e6, 4000)
    data = budget / flops(sizes, 1.0)
    scales = grid_tables.BRAIN
    score = -scales["n_params"] * sizes**-0.35 - scales["n_data"] * data**-0.35
    row = table.iloc[0]
    assert row.told and row.n_params_low <= sizes[score.argmax()] <= row.n_params_high
    true = scales["scan_hours"] * (hours**-0.5 - (2 * hours) ** -0.5)
    assert row.gain_scan_hours_low <= true <= row.gain_scan_hours_high
    assert_allclose(row.video_hours, hours_of_video(row.n_tokens, rows))


def test_gains_that_cannot_be_told_are_not_counted_as_extrapolated(rows, brain_fit):
    flops, fits = flop_counter(rows), {MEAN: brain_fit}
    known = allocation_table(brain_fit, rows, flops, [1e10, 1e14], [0.1, 0.4])
    assert known.gain_compute.notna().all() and not known.gain_compute_extrapolated.isna().any()
    open_fit = replace(brain_fit, unfixed=("n_params",))
    unknown = allocation_table(open_fit, rows, flops, [1e10, 1e14], [0.1, 0.4])
    assert unknown.gain_compute.isna().all() and unknown.gain_compute_extrapolated.isna().all()
    assert unknown.gain_scan_hours_extrapolated.notna().all()
    n_compute, n_hours = (
        int(known[f"gain_{step}_extrapolated"].sum()) for step in ("compute", "scan_hours")
    )
    assert n_compute and n_hours

    def words(table):
        return captions.allocation_caption(table, shares_table(fits), fits, simulated=True)

    compute = f"{n_compute} of the 4 settings that tell the gain from compute"
    hours = f"{n_hours} of the 4 settings that tell the gain from scan time"
    assert f"at hand (open: extrapolated, in {compute} and {hours})." in words(known)
    none = "the gain from compute cannot be told"
    assert f"at hand (open: extrapolated, in {hours}; {none})." in words(unknown)
    both = pd.concat([known, unknown], ignore_index=True)
    assert compute in words(both) and none not in words(both)


def test_tables_and_caption_of_the_allocation(rows, fit, brain_fit, scored):
    flops = flop_counter(rows)
    fits = {"loss": fit, MEAN: brain_fit, "sub-x": Refused("one cell")}
    table = pd.concat(
        [
            allocation_table(fit, rows, flops, [1e10, 1e11]),
            allocation_table(brain_fit, rows, flops, [1e10, 1e11], [0.1, 0.4]),
        ],
        ignore_index=True,
    )
    assert list(table.response) == ["loss"] * 2 + ["brain score"] * 4
    shares = shares_table(fits)
    figure = scaling_allocation(table, shares, fits, (1e9, 1e12), True)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert {"best for loss", "best for brain score", "loss within 1 % of its best"} <= set(labels)
    assert "not fitted" in texts(figure)
    beyond = table[table.response == "loss"].extrapolated
    dashed = [line for line in figure.axes[0].lines if line.get_label() == "_best for loss"]
    solid = [line for line in figure.axes[0].lines if line.get_label() == "best for loss"]
    assert len(dashed) == 1 and (np.isnan(solid[0].get_ydata()) == beyond).all()
    words = captions.allocation_caption(table, shares, fits, simulated=True)
    assert f"told at 2 of 2 settings, {beyond.sum()} of these extrapolated" in words
    saved = allocations({LOSS: table, SCORE: Refused("two scan times")})
    assert saved.iloc[-1].said == "not fitted: two scan times" and not saved.iloc[-1].told
    none = allocations({LOSS: Refused("a"), SCORE: Refused("b")})
    assert list(none.said) == ["not fitted: a", "not fitted: b"] and not none.told.any()
    assert "loss: best size told at 2 of 2" in words and "sub-x: not fitted: one cell" in words
    constants = fits_table(fits)
    assert list(constants[constants.fit == "loss"].constant)[:3] == ["E", "A", "B"]
    assert constants.said.iloc[-1] == "not fitted: one cell"
    assert subjects_of(scored) == list(grid_tables.SUBJECTS)
