"""The figures of the axes: published, as_published and corrected, side by side and never mixed."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from cobe.brain.parcels import grey_matter_parcels
from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report import figures, style, ways
from cobe.report.captions import caption
from cobe.report.manifest import FIGURE_AXES
from report_tables import draw_axis, loss_table, panel, score_table, summary_rows, words

SMOKE = get_profile("smoke")
N_PARCELS = SMOKE.plan.n_parcels
LOSSES = loss_table(SMOKE, published=True)
SCORES = score_table(SMOKE, N_PARCELS, published=True)
CORRECTED = SCORES[SCORES["protocol"] == "corrected"]


@pytest.fixture(scope="module")
def atlas():
    return grey_matter_parcels(N_PARCELS, 6.0, 0)


def axis_figure(name, losses=LOSSES, scores=SCORES, atlas=None):
    return draw_axis(SMOKE, name, losses, scores, atlas)


def check_bars(axes, cells, levels, ours, controls, interval):
    bars = {bar.get_label(): bar[0] for bar in axes.containers}
    spans = {c.get_label(): c for c in axes.collections if isinstance(c, LineCollection)}
    diamonds = {line.get_label(): line for line in axes.lines}
    for cell, level in zip(cells, levels, strict=True):
        for subject in SMOKE.plan.subjects:
            key, row = f"{subject} {level}", ours.loc[subject, cell.name]
            assert bars[key].get_height() == row["r"]
            chance = spans[f"chance {key}"].get_segments()[0]
            np.testing.assert_array_equal(chance[:, 1], row["chance_95"])
            control = controls.loc[subject, cell.untrained().name]
            assert diamonds[f"untrained {key}"].get_ydata()[0] == control["r"]
            assert (f"interval {key}" in spans) == interval
            if interval:
                ends = spans[f"interval {key}"].get_segments()[0]
                np.testing.assert_array_equal(ends[:, 1], [row["ci_low"], row["ci_high"]])
    assert len(bars) == len(levels) * len(SMOKE.plan.subjects)


@pytest.mark.parametrize("name", FIGURE_AXES)
def test_curves_and_bars_are_the_tables(name):
    axis = figures.get_axis(SMOKE, FIGURE_AXES[name])
    figure = axis_figure(axis.name)
    lines = {line.get_label(): line for line in panel(figure, "losses").lines}
    cells = axis_cells(SMOKE, axis)
    for cell, level in zip(cells, axis.levels, strict=True):
        rows = LOSSES[LOSSES["cell"] == cell.name]
        np.testing.assert_array_equal(lines[str(level)].get_xdata(), rows["step"])
        np.testing.assert_array_equal(lines[str(level)].get_ydata(), rows["val_loss"])
        assert lines[f"best {level}"].get_ydata()[0] == rows["val_loss"].min()
    found = [summary_rows(SCORES, "corrected", "mean", kind) for kind in ("gpt", "untrained")]
    check_bars(panel(figure, "scores"), cells, axis.levels, *found, interval=True)
    # the layers were read off the last block, all others off the middle one
    protocol = "as_published_last" if axis.name == "n_layers" else "as_published"
    assert SMOKE.published_for(axis.name).name == protocol
    found = [summary_rows(SCORES, protocol, "max", kind) for kind in ("gpt", "untrained")]
    theirs = axis_cells(SMOKE, axis, SMOKE.published)
    check_bars(panel(figure, "as_published scores"), theirs, axis.levels, *found, interval=False)


def test_as_published_trains_other_cells_on_the_data_axis_only():
    figure = axis_figure("data_size")
    lines = {line.get_label(): line for line in panel(figure, "losses").lines}
    # 3,000 of 9,000 frames for as many epochs are a third of the steps
    assert lines["as_published 3000"].get_xdata().max() == SMOKE.train.n_steps // 3
    assert lines["3000"].get_xdata().max() == SMOKE.train.n_steps
    assert lines["as_published 3000"].is_dashed() and not lines["3000"].is_dashed()
    assert not any(label.startswith("as_published 9000") for label in lines)
    for name in ("hidden_dim", "precision"):
        labels = [line.get_label() for line in panel(axis_figure(name), "losses").lines]
        assert not any(label.startswith("as_published") for label in labels)


def test_the_three_ways_stand_in_one_row_on_axes_of_their_own():
    figure = axis_figure("hidden_dim")
    three = [panel(figure, f"{way}scores") for way in ("published ", "as_published ", "")]
    boxes = [axes.get_position() for axes in three]
    assert len({(round(box.y0, 6), round(box.height, 6)) for box in boxes}) == 1
    assert boxes[0].x1 < boxes[1].x0 and boxes[1].x1 < boxes[2].x0
    for one in three:
        joined = one.get_shared_y_axes().get_siblings(one)
        assert joined == [one]
    text = words(figure)
    for said in (
        "maximum of r over 1,095 parcels, middle block",
        "real data, n = 4; split not stated",
        "maximum of r over 60 parcels, middle block",
        "simulated, n = 2; random 10 % of volumes",
        "mean of r over 60 parcels, chosen block",
        "simulated, n = 2; held-out sessions",
        "a maximum has no interval",
        "no interval, no chance level published",
    ):
        assert said in text
    assert "maximum of r over 60 parcels, last block" in words(axis_figure("n_layers"))


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
@pytest.mark.parametrize("axis", FIGURE_AXES.values())
def test_legends_overlap_no_panel_no_tick_and_no_other_legend(axis, profile):
    # with nothing computed the legends say so, and are at their longest
    profile = get_profile(profile)
    figure = figures.axis_figure(
        profile, figures.get_axis(profile, axis), LOSSES[:0], SCORES, None, True, maps=False
    )
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    legends = [legend.get_window_extent(renderer) for legend in figure.legends]
    others = [axes.get_tightbbox(renderer) for axes in figure.axes]
    others += [text.get_window_extent(renderer) for text in figure.texts]
    assert len(legends) >= 5
    page = figure.bbox
    for i, one in enumerate(legends):
        assert page.x0 < one.x0 and one.x1 < page.x1 and one.y0 > page.y0
        assert not any(one.overlaps(other) for other in others + legends[i + 1 :])


def test_rows_of_other_protocols_are_not_drawn():
    other = CORRECTED.assign(protocol="native", r=0.99)
    figure = axis_figure("n_heads", scores=pd.concat([SCORES, other]))
    assert all(bar[0].get_height() < 0.9 for bar in panel(figure, "scores").containers)


def test_what_was_not_computed_is_a_marked_gap(atlas):
    axis = figures.get_axis(SMOKE, "data_size")
    gone = axis_cells(SMOKE, axis)[0].name
    subject = SMOKE.plan.subjects[1]
    scores = SCORES[~((SCORES["cell"] == gone) & (SCORES["subject"] == subject))]
    losses = LOSSES[LOSSES["cell"] != gone]
    figure = axis_figure("data_size", losses, scores, atlas)
    panels = panel(figure, "scores")
    key = f"{subject} {axis.levels[0]}"
    assert key not in {bar.get_label() for bar in panels.containers}
    assert f"gap {key}" in {patch.get_label() for patch in panels.patches}
    assert [text.get_text() for text in panels.texts] == [style.NOT_COMPUTED]
    assert not panel(figure, "as_published scores").texts
    gap = panel(figure, f"map {key} left lateral")
    assert not gap.images
    assert gap.texts[0].get_text() == style.NOT_COMPUTED
    assert panel(figure, f"map {subject} {axis.levels[1]} left lateral").images
    assert "not computed: 3k" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert "Gaps are filled by ./run_all.sh --profile smoke --only fig1" in words(figure)
    text = caption("fig1_data_size", SMOKE, scores, losses, simulated=True)
    assert f"Not computed: loss of 3k; score of 3k in {subject} under corrected." in text
    assert "To fill the gaps: `./run_all.sh --profile smoke --only fig1`." in text


def test_a_protocol_that_was_not_run_is_one_gap_with_its_command():
    figure = axis_figure("precision", scores=CORRECTED)
    axes = panel(figure, "as_published scores")
    assert not axes.containers
    assert len([p for p in axes.patches if p.get_label().startswith("gap ")]) == 4
    (said,) = [text.get_text() for text in axes.texts]
    assert said == "not computed:\n./run_all.sh\n--profile smoke\n--only fig5"
    assert len(panel(figure, "scores").containers) == 4
    text = caption("fig5_precision", SMOKE, CORRECTED, LOSSES, simulated=True)
    assert "Not computed: every score under as_published." in text
    assert "Gaps" not in words(axis_figure("precision"))
    assert "Not computed" not in caption("fig5_precision", SMOKE, SCORES, LOSSES, simulated=True)


def test_untrained_twins_that_are_missing_are_said():
    scores = SCORES[~((SCORES["features"] == "untrained") & (SCORES["protocol"] == "corrected"))]
    text = caption("fig5_precision", SMOKE, scores, LOSSES, simulated=True)
    for subject in SMOKE.plan.subjects:
        assert f"untrained twin of bf16, fp32 in {subject} under corrected" in text


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("quick", "./run_all.sh --only fig3"),
        ("smoke", "./run_all.sh --profile smoke --only fig3"),
        ("paper", "./run_all.sh --profile paper --data DIR --only fig3"),
    ],
)
def test_the_command_that_fills_a_gap_is_one_that_the_driver_takes(name, command):
    from cobe.driver.__main__ import parse
    from cobe.driver.plan import chosen_figures

    profile = get_profile(name)
    assert ways.fill_command(profile, figures.get_axis(profile, "n_layers")) == command
    options = parse(command.split()[1:])
    assert options.profile == name
    assert chosen_figures(profile, options.only) == ["fig3_n_layers"]


def test_a_planned_subject_without_scores_keeps_its_place():
    one = SCORES[SCORES["subject"] == SMOKE.plan.subjects[0]]
    figure = axis_figure("n_layers", scores=one)
    for label in ("scores", "as_published scores"):
        ticks = [tick.get_text() for tick in panel(figure, label).get_xticklabels()]
        assert tuple(ticks) == SMOKE.plan.subjects
    nothing = axis_figure("n_layers", LOSSES[:0], SCORES[:0])
    assert not panel(nothing, "scores").containers


def test_undefined_scores_and_diverged_losses_say_so():
    axis = figures.get_axis(SMOKE, "n_heads")
    cell = axis_cells(SMOKE, axis)[0].name
    scores, losses = SCORES.copy(), LOSSES.copy()
    scores.loc[(scores["cell"] == cell) & (scores["summary"] == "mean"), "r"] = np.nan
    losses.loc[losses.index[losses["cell"] == cell][-1], "val_loss"] = np.inf
    figure = axis_figure("n_heads", losses, scores)
    assert [t.get_text() for t in panel(figure, "scores").texts] == ["undefined"] * 2
    assert "diverged: 2" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_tables_that_answer_twice_or_lack_columns_are_errors(atlas):
    with pytest.raises(CobeError, match="2 rows for .*keep one"):
        axis_figure("data_size", scores=pd.concat([SCORES, SCORES]))
    with pytest.raises(CobeError, match="has a step twice"):
        axis_figure("data_size", losses=pd.concat([LOSSES, LOSSES]))
    for column in ("chance_95", "protocol"):
        with pytest.raises(CobeError, match=f"score table: no column {column}"):
            axis_figure("data_size", scores=SCORES.drop(columns=column))
    with pytest.raises(CobeError, match="loss table: no column val_loss"):
        axis_figure("data_size", losses=LOSSES.drop(columns="val_loss"))
    axis = figures.get_axis(SMOKE, "data_size")
    with pytest.raises(CobeError, match="parcel 60 .* is not in the atlas"):
        maps_atlas = np.asarray(atlas.dataobj).copy()
        maps_atlas[maps_atlas == 60] = 0
        fewer = nib.Nifti1Image(maps_atlas, atlas.affine)
        figures.maps_figure(SMOKE, axis, SCORES, fewer, True)
    with pytest.raises(CobeError, match="no axis 'colour'"):
        figures.get_axis(SMOKE, "colour")


def test_published_and_computed_values_are_not_joined_by_accident():
    axis = figures.get_axis(SMOKE, "hidden_dim")
    table = ways.three_ways(SMOKE, axis, SCORES)
    sources = table.groupby("way")["source"].unique().map(list).to_dict()
    assert sources == {
        "published": ["published"],
        "as_published": ["computed"],
        "corrected": ["computed"],
    }
    theirs = table[table["way"] == "published"]
    assert theirs[["ci_low", "ci_high", "chance_95"]].isna().all(axis=None)
    with pytest.raises(CobeError, match="no column source; mark every row"):
        ways.of_way(table.drop(columns="source"), "corrected")
    with pytest.raises(CobeError, match="no column way"):
        ways.of_way(table.drop(columns="way"), "corrected")
    with pytest.raises(CobeError, match="rows are published, not computed; keep the two apart"):
        ways.of_way(table.assign(way="corrected"), "corrected")
    with pytest.raises(CobeError, match="score table: rows are published, not computed"):
        axis_figure("hidden_dim", scores=SCORES.assign(source="published"))
    assert axis_figure("hidden_dim", scores=SCORES.assign(source="computed"))


@pytest.mark.parametrize("name", FIGURE_AXES)
def test_captions_of_the_axes_say_all_three_ways(name):
    text = caption(name, SMOKE, SCORES, LOSSES, simulated=True)
    for part in (
        "maximum of r over 1,095 parcels, real data, n = 4 subjects",
        "maximum of r over 60 parcels, n = 2 subjects, 60 to 61 held-out volumes",
        "10 % of all volumes, drawn at random once",
        "which leaks",
        "as far as it is known",
        "are inferred",
        "their heights cannot be compared",
    ):
        assert part in text
    assert ("of the last block" in text) == (name == "fig3_n_layers")
    assert ("20 steps for 3k" in text) == (name == "fig1_data_size")
    assert ("repeat the chart of the layers" in text) == (name == "fig4_n_heads")
