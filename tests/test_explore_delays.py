import numpy as np
import pandas as pd
import pytest

from cobe.core.errors import CobeError
from cobe.explore.delays import delay_scrubber
from cobe.report.style import PaperFigure
from shown_widgets import axes_of, controls, shown, words

TR_S = 1.5


def table(best=4):
    """The mean is highest at `best`, in sub-b one later; parcel 1 at 6; parcel 2 is the best."""
    rows = []
    for subject, shift in (("sub-a", 0), ("sub-b", 1)):
        for delay in range(9):
            for target in range(5):
                peak = 6 if target == 1 else best + shift
                r = (0.6 if target == 2 else 0.3) - 0.05 * abs(delay - peak)
                rows.append((subject, delay, target, r))
    return pd.DataFrame(rows, columns=["subject", "delay_tr", "target", "r"])


def test_moving_the_delay_tells_the_values_of_that_delay():
    given = table()
    box = delay_scrubber(given, TR_S, True, live=True)
    pictures = []
    for delay in (0, 4, 8):
        controls(box)["delay (TR)"].value = delay
        here = given[(given.subject == "sub-a") & (given.delay_tr == delay)]
        mean = f"{here.r.mean():.3f}".rstrip("0").replace("0.", ".")
        assert f"features of {delay} TR ({delay * TR_S} s) before each volume" in words(box)
        assert f"mean r over 5 parcels {mean}; it is highest at 4 TR (6.0 s)" in words(box)
        assert "Parcel 2: " in words(box)
        pictures.append(shown(box)[""][0])
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()
    controls(box)["parcel"].value = 1
    assert "Parcel 1: .2, highest at 6 TR (9.0 s), .3" in words(box)
    controls(box)["participant"].value = "sub-b"
    assert words(box).startswith("<b>simulated data</b>: sub-b") and "highest at 5 TR" in words(box)


@pytest.mark.parametrize("best", [2, 4])
def test_the_still_marks_the_planted_delay(best):
    figure = delay_scrubber(table(best), TR_S, True, live=False)
    assert isinstance(figure, PaperFigure)
    axes = axes_of(figure, "r by delay")
    (star,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert list(star.get_xdata()) == [best]
    (cursor,) = [line for line in axes.lines if line.get_label() == f"shown: {best} TR"]
    assert set(cursor.get_xdata()) == {best}
    assert star.get_label() == f"highest mean: {best} TR = {best * TR_S:.1f} s"
    counts = [patch.get_height() for patch in axes_of(figure, "parcels at the delay").patches]
    assert sum(counts) == 5


def test_a_parcel_without_r_is_left_out_of_the_mean_and_of_the_histogram():
    given = table()
    given.loc[given.target == 0, "r"] = np.nan
    figure = delay_scrubber(given, TR_S, True, live=False)
    counts = [patch.get_height() for patch in axes_of(figure, "parcels at the delay").patches]
    assert sum(counts) == 4
    box = delay_scrubber(given, TR_S, True, live=True)
    assert "mean r over 4 of 5 parcels (r of the others is undefined)" in words(box)
    controls(box)["parcel"].value = 0
    assert words(box).endswith("Parcel 0: r is undefined")


def test_tables_that_cannot_be_shown_are_refused():
    good = table()
    for bad, tr_s, message in [
        (good.drop(columns="r"), TR_S, "delay table: no column r"),
        (good.iloc[:0], TR_S, "no rows"),
        (good, 0.0, "tr_s: 0.0"),
        (pd.concat([good, good.iloc[:1]]), TR_S, "a delay twice"),
        (good.iloc[1:], TR_S, "sub-a has 44 of 9 delays x 5 parcels"),
        (good.assign(r=np.nan), TR_S, "every r of sub-a is undefined"),
    ]:
        with pytest.raises(CobeError, match=message):
            delay_scrubber(bad, tr_s, True, live=False)
