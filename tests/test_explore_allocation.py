import sys

import numpy as np
import pandas as pd
import pytest

from cobe.core.errors import CobeError
from cobe.explore.allocation import (
    allocation_slider,
    few_settings,
    setting_words,
    settings_figure,
)
from cobe.report.style import PaperFigure
from shown_widgets import controls, shown, words


def table(response="brain score", hours=(0.1, 0.2, 0.4, 0.8), told=True):
    rows = []
    for budget in np.geomspace(1e9, 1e12, 5):
        for h in hours:
            n, score = budget**0.5, 0.1 + 0.02 * np.log10(budget / 1e9)
            rows.append(
                {"response": response, "budget_flop": budget, "scan_hours": h, "told": told}
                | {"extrapolated": budget > 5e11}
                | {"n_params": n, "n_params_low": n / 2, "n_params_high": 2 * n}
                | {"video_hours": n / 1e5, "video_hours_low": n / 2e5, "video_hours_high": n / 5e4}
                | {"reached": score, "reached_low": score - 0.01, "reached_high": score + 0.01}
                | {"flat_n_low": n / 3, "flat_n_high": 3 * n, "said": "a statement"}
            )
    return pd.DataFrame(rows)


def test_sliders_look_up_the_row_that_they_point_at():
    given = table()
    box = allocation_slider(given, True, live=True)
    budget, hours = controls(box).values()
    budget.value, hours.value = given.budget_flop.max(), 0.8
    row = given[(given.budget_flop == given.budget_flop.max()) & (given.scan_hours == 0.8)].iloc[0]
    assert words(box) == f"<b>simulated data</b>: {setting_words(row)}"
    said = "1e+12 FLOP and 0.8 h of scans: extrapolated: 1M parameters [500k, 2M]"
    assert setting_words(row).startswith(said)
    before, described = shown(box)[""]
    assert said in described and before.shape[1] > 500
    budget.value = given.budget_flop.min()
    assert (shown(box)[""][0] != before).any() and "1e+09 FLOP" in words(box)


def test_losses_have_one_slider():
    box = allocation_slider(table("loss", hours=(np.nan,)), True, live=True)
    assert list(controls(box)) == ["budget (FLOP)"]
    assert "scans" not in words(box)


def test_what_cannot_be_told_is_said_and_not_drawn():
    given = table(told=False)
    assert "cannot tell the best model size or video: a statement" in setting_words(given.iloc[0])
    figure = settings_figure(few_settings(given), True)
    for axes in figure.axes:
        assert not axes.lines and {t.get_text() for t in axes.texts} == {"cannot tell"}


def test_without_a_live_notebook_or_widgets_a_figure_is_shown(monkeypatch):
    given = table()
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        monkeypatch.delenv(name, raising=False)
    figure = allocation_slider(given, True)
    assert isinstance(figure, PaperFigure) and figure._repr_png_().startswith(b"\x89PNG")
    assert len(few_settings(given)) == 9
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 9 and "0.1 h scans" in names[0]
    assert figure.axes[-1].get_title(loc="left") == "simulated data"
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert not isinstance(allocation_slider(given, True), PaperFigure)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(allocation_slider(given, True), PaperFigure)


def test_nothing_to_show_is_refused():
    for bad, message in [
        (table().iloc[:0], "no settings to show"),
        (pd.concat([table(), table("loss")]), "loss and brain score in one table"),
    ]:
        with pytest.raises(CobeError, match=message):
            allocation_slider(bad, True)
