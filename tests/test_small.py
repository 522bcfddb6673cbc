"""The small figures of the notebooks, checked against the arrays that they are made of."""

import numpy as np
import pandas as pd
import pytest

from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report import small
from cobe.report.style import PaperFigure

SMOKE = get_profile("smoke")


def painted(panel, place):
    """Start and end of the coloured bars of one row, from left to right, by colour."""
    bars = [bar for bar in panel.patches if np.isclose(bar.get_y() + bar.get_height() / 2, place)]
    bars = sorted(bars, key=lambda bar: bar.get_x())
    return [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_facecolor()[:3]) for bar in bars]


def test_volumes_are_painted_where_they_are_in_time():
    valid = {"ses-001 run 1": [0, 1, 1, 0, 1], "ses-001 run 2": [1, 1]}
    figure = small.usable_volumes_figure(valid, 1.5, simulated=True, title="sub-sim1")
    (panel,) = figure.axes
    first, second = painted(panel, 0), painted(panel, 1)
    assert [bar[:2] for bar in first] == [(0, 1.5), (1.5, 4.5), (4.5, 6.0), (6.0, 7.5)]
    assert [bar[:2] for bar in second] == [(0, 3.0)]
    pale, dark = first[0][2], first[1][2]
    assert pale != dark and sum(pale) > sum(dark)
    assert [bar[2] for bar in first] == [pale, dark, pale, dark] and second[0][2] == dark
    assert [label.get_text() for label in panel.get_yticklabels()] == list(valid)
    title = panel.get_title(loc="left")
    assert title == "sub-sim1  simulated data; dark: 5 of 7 volumes inside a replay"
    assert "real data" in small.usable_volumes_figure(valid, 1.5, simulated=False).axes[
        0
    ].get_title(loc="left")


def test_training_curves_are_those_of_the_log():
    log = pd.DataFrame(
        {"step": [0, 10, 40], "train_loss": [np.nan, 0.9, 0.4], "val_loss": [1.0, 0.7, 0.3]}
    )
    (panel,) = small.training_figure(log, simulated=True).axes
    curves = {line.get_label(): line.get_xydata() for line in panel.lines}
    np.testing.assert_array_equal(curves["training clips"], log[["step", "train_loss"]])
    np.testing.assert_array_equal(curves["validation clips"], log[["step", "val_loss"]])
    assert panel.get_yscale() == "log" and panel.get_title(loc="left") == "simulated data"


def test_every_token_is_written_in_its_place():
    codes = np.random.default_rng(0).integers(0, 512, (4, 4, 4)).astype("uint16")
    figure = small.token_figure(codes, 512, simulated=True)
    assert isinstance(figure, PaperFigure) and len(figure.axes) == 4
    for frame, panel in zip(codes, figure.axes, strict=True):
        written = np.zeros((4, 4), int)
        for text in panel.texts:
            column, row = text.get_position()
            written[row, column] = int(text.get_text())
        np.testing.assert_array_equal(written, frame)
        np.testing.assert_array_equal(panel.images[0].get_array(), frame)
        (image,) = panel.images
        for text in panel.texts:  # light on dark, dark on light
            colour = image.cmap(image.norm(int(text.get_text())))[:3]
            assert (text.get_color() == "white") == (np.mean(colour) < 0.47)


@pytest.mark.parametrize("codes, n_codes", [(np.zeros((4, 4)), 8), (np.full((1, 2, 2), 8), 8)])
def test_tokens_that_are_none_are_refused(codes, n_codes):
    with pytest.raises(CobeError, match="hand over the tokens of one clip"):
        small.token_figure(codes, n_codes, simulated=True)


def losses_of(cells):
    rows = [
        {"cell": cell.name, "step": step, "epoch": 0.0, "val_loss": 4.0 - place - step / 100}
        for place, cell in enumerate(cells)
        for step in (0, 50, 100)
    ]
    return pd.DataFrame(rows)


def test_axis_panels_hold_the_curves_of_their_cells():
    shown = SMOKE.axes[:2]
    losses = losses_of(list(dict.fromkeys(c for a in shown for c in axis_cells(SMOKE, a))))
    figure = small.axis_losses_figure(SMOKE, shown, losses, simulated=True)
    for axis, panel in zip(shown, figure.axes, strict=True):
        assert panel.get_title() == axis.label
        for cell, line in zip(axis_cells(SMOKE, axis), panel.lines, strict=True):
            rows = losses[losses.cell == cell.name]
            np.testing.assert_array_equal(line.get_xydata(), rows[["step", "val_loss"]])
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylabel() and not second.get_ylabel()


def test_a_cell_without_losses_is_named():
    axis = SMOKE.axes[0]
    cells = axis_cells(SMOKE, axis)
    figure = small.axis_losses_figure(SMOKE, [axis], losses_of(cells[1:]), simulated=True)
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [" not computed" in one for one in words] == [True] + [False] * (len(cells) - 1)


def test_no_axis_asked_for_is_said():
    figure = small.axis_losses_figure(SMOKE, [], losses_of([]), simulated=True)
    assert not figure.axes
    assert "no axis was asked for" in " ".join(text.get_text() for text in figure.texts)
