import numpy as np
import pytest

from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.explore.axes import axis_explorer, axis_table, level_words
from cobe.report.figures import get_axis
from cobe.report.style import PaperFigure, level_text, r_text
from report_tables import loss_table, score_table
from shown_widgets import axes_of, controls, runs_over_the_edge, shown, words

SMOKE = get_profile("smoke")
N_PARCELS = 12
LOSSES = loss_table(SMOKE, published=True)
SCORES = score_table(SMOKE, N_PARCELS, published=True)
SUBJECTS = sorted(SCORES.subject.unique())


def mean_r(protocol, cell, subject):
    """Of the score table, found by hand."""
    rows = SCORES[(SCORES.protocol == protocol.name) & (SCORES.cell == cell.name)]
    rows = rows[(rows.subject == subject) & (rows.summary == "mean") & (rows.held_out == "all")]
    return rows.r.item()


@pytest.mark.parametrize("axis", SMOKE.axes, ids=lambda axis: axis.name)
def test_the_words_hold_the_numbers_of_the_tables_under_both_protocols(axis):
    box = axis_explorer(SMOKE, SCORES, LOSSES, True, live=True)
    controls(box)["axis"].value = axis.name
    level = controls(box)["level"]
    assert [text for text, _ in level.options] == [level_text(each) for each in axis.levels]
    seen = set()
    for place, subject in [(0, SUBJECTS[0]), (len(axis.levels) - 1, SUBJECTS[-1])]:
        level.value, controls(box)["participant"].value = place, subject
        for name, protocol in (
            ("corrected", SMOKE.protocol),
            ("as_published", SMOKE.published_for(axis.name)),
        ):
            cell = axis_cells(SMOKE, axis, protocol)[place]
            curve = LOSSES[LOSSES.cell == cell.name]
            assert f"{name}: mean r {r_text(mean_r(protocol, cell, subject))} [" in words(box)
            assert f"lowest validation loss {curve.val_loss.min():.3f} nats/token" in words(box)
        seen.add(shown(box)[""][0].tobytes())
    assert len(seen) == 2


def test_a_new_axis_begins_at_its_first_level():
    box = axis_explorer(SMOKE, SCORES, LOSSES, True, live=True)
    controls(box)["level"].value = len(SMOKE.axes[0].levels) - 1
    controls(box)["axis"].value = SMOKE.axes[1].name
    assert controls(box)["level"].value == 0
    first = f"{SMOKE.axes[1].label} {level_text(SMOKE.axes[1].levels[0])}"
    assert f"</b>: {first}, " in words(box)


def test_the_still_draws_every_level_and_the_parcels_of_the_last():
    figure = axis_explorer(SMOKE, SCORES, LOSSES, True, live=False)
    assert isinstance(figure, PaperFigure) and not runs_over_the_edge(figure)
    axis = SMOKE.axes[0]
    curves = [line for line in axes_of(figure, "losses").lines if len(line.get_xdata())]
    for curve, cell in zip(curves, axis_cells(SMOKE, axis), strict=True):
        rows = LOSSES[LOSSES.cell == cell.name]
        assert np.array_equal(curve.get_ydata(), rows.val_loss)
    for name, protocol in (("corrected", SMOKE.protocol), ("as_published", SMOKE.published)):
        drawn = [line for line in axes_of(figure, name).lines if line.get_marker() == "o"]
        found = [line.get_ydata()[0] for line in drawn if len(line.get_ydata())]
        cells = axis_cells(SMOKE, axis, protocol)
        assert found == [mean_r(protocol, cell, SUBJECTS[0]) for cell in cells]
    assert axes_of(figure, "corrected").get_ylim() == axes_of(figure, "as_published").get_ylim()
    labels = [text.get_text() for text in axes_of(figure, "parcels").get_legend().get_texts()]
    assert labels == [f"corrected, {N_PARCELS} parcels", f"as_published, {N_PARCELS} parcels"]


def test_curves_go_no_further_than_the_slider():
    from cobe.explore.axes import axis_parcels, level_figure

    axis = SMOKE.axes[0]
    table = axis_table(SMOKE, axis, SCORES, LOSSES)
    parcels = axis_parcels(SMOKE, axis, SCORES)
    for level in range(len(axis.levels)):
        figure = level_figure(SMOKE, axis, table, LOSSES, parcels, SUBJECTS[0], level, True)
        assert len(axes_of(figure, "losses").lines) == level + 1


def test_what_was_not_computed_is_said_and_not_drawn():
    axis = get_axis(SMOKE, SMOKE.axes[0].name)
    cell = axis_cells(SMOKE, axis)[0]
    lacking = SCORES[SCORES.cell != cell.name]
    losses = LOSSES[LOSSES.cell != cell.name]
    box = axis_explorer(SMOKE, lacking, losses, True, live=True)
    assert "corrected: mean r not computed; not trained" in words(box)
    figure = axis_explorer(SMOKE, lacking, losses, True, live=False)
    said = [text.get_text() for text in axes_of(figure, "corrected").texts]
    assert said == ["not computed"]


def test_tables_that_cannot_be_shown_are_refused():
    other = SCORES.assign(cell="another")
    for scores, losses, message in [
        (SCORES.iloc[:0], LOSSES, "score table: no rows"),
        (SCORES.drop(columns="protocol"), LOSSES, "no column protocol"),
        (SCORES, LOSSES.drop(columns="step"), "loss table: no column step"),
        (other, LOSSES, "no row of profile smoke"),
    ]:
        with pytest.raises(CobeError, match=message):
            axis_explorer(SMOKE, scores, losses, True, live=False)
    table = axis_table(SMOKE, SMOKE.axes[0], SCORES, LOSSES)
    with pytest.raises(CobeError, match="sub-who: not in the score table; choose one of sub-"):
        level_words(SMOKE.axes[0], table, "sub-who", 0)
