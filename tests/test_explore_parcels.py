import numpy as np
import pandas as pd
import pytest

from cobe.core.config import Cell
from cobe.core.errors import CobeError
from cobe.explore.parcels import block_parcel_explorer
from cobe.report.style import PaperFigure
from shown_widgets import axes_of, controls, shown, words

DEEP = Cell(1000, 8, 3, 2, precision="bf16")
FLAT = Cell(1000, 8, 1, 2)
N_PARCELS = 4


def planted_r(cell, subject, block, target):
    """Parcel 2 is best, then 0, 3, 1; blocks add; untrained is .1 below, but .3 in parcel 3."""
    r = [0.4, 0.1, 0.5, 0.2][target] + 0.01 * block + (0.05 if subject == "sub-b" else 0)
    return r if cell.trained else r - (0.3 if target == 3 else 0.1)


EVERY = (FLAT, DEEP, FLAT.untrained(), DEEP.untrained())


def table(cells=EVERY):
    rows = [
        (c.name, c.trained, block, subject, target, planted_r(c, subject, block, target))
        for c in cells
        for subject in ("sub-a", "sub-b")
        for block in range(c.n_layers)
        for target in range(N_PARCELS)
    ]
    return pd.DataFrame(rows, columns=["cell", "trained", "block", "subject", "target", "r"])


def test_the_slider_goes_from_the_best_parcel_to_the_worst():
    box = block_parcel_explorer(table(), True, live=True)
    assert controls(box)["model"].value == DEEP.name
    for rank, target in enumerate([2, 0, 3, 1], start=1):
        controls(box)["parcel, by rank"].value = rank
        assert f"parcel {target}, rank {rank} of 4 (trained)" in words(box)
    assert "trained: 0 .1, 1 .11, 2 .12; untrained: 0 0, 1 .01, 2 .02" in words(box)
    assert shown(box)[""][1] in words(box)


def test_the_difference_is_that_of_the_twin_of_the_same_shape():
    box = block_parcel_explorer(table(), True, live=True)
    before = shown(box)[""][0]
    controls(box)["shown"].value = "trained minus untrained"
    assert "parcel 3, rank 1 of 4 (trained minus untrained)" in words(box)
    assert (shown(box)[""][0].shape != before.shape) or (shown(box)[""][0] != before).any()
    controls(box)["participant"].value = "sub-b"
    assert "sub-b, " + DEEP.name in words(box) and "trained: 0 .25, 1 .26, 2 .27" in words(box)
    controls(box)["model"].value = FLAT.name
    assert "trained: 0 .25; untrained: 0 -.05" in words(box)
    assert controls(box)["shown"].value == "trained minus untrained"


def test_a_model_without_a_twin_has_no_difference():
    box = block_parcel_explorer(table((FLAT, DEEP, DEEP.untrained())), True, live=True)
    controls(box)["shown"].value = "untrained"
    controls(box)["model"].value = FLAT.name
    assert controls(box)["shown"].options == ("trained",)
    assert "untrained" not in words(box)


def test_other_parcels_in_another_participant_move_the_end_of_the_slider():
    both = table()
    fewer = both[(both.subject == "sub-a") | (both.target < 2)]
    box = block_parcel_explorer(fewer, True, live=True)
    controls(box)["parcel, by rank"].value = 4
    controls(box)["participant"].value = "sub-b"
    assert controls(box)["parcel, by rank"].max == 2
    assert "parcel 1, rank 2 of 2" in words(box)


def test_a_model_that_was_not_scored_for_a_participant_says_so():
    both = table()
    box = block_parcel_explorer(
        both[(both.subject == "sub-a") | (both.cell != FLAT.name)], True, live=True
    )
    controls(box)["participant"].value = "sub-b"
    controls(box)["model"].value = FLAT.name
    assert "was not scored for sub-b" in words(box) and not shown(box)


def test_the_still_sorts_parcels_and_draws_both_profiles():
    figure = block_parcel_explorer(table(), True, live=False)
    assert isinstance(figure, PaperFigure)
    drawn = np.asarray(axes_of(figure, "blocks by parcels").images[0].get_array())
    want = [
        [planted_r(DEEP, "sub-a", block, target) for target in (2, 0, 3, 1)] for block in range(3)
    ]
    assert np.allclose(drawn, want)
    profile = axes_of(figure, "profile")
    assert profile.get_title(loc="left") == "parcel 2 (rank 1)"
    lines = {line.get_label(): line.get_ydata() for line in profile.lines}
    assert np.allclose(lines["trained"], [0.5, 0.51, 0.52])
    assert np.allclose(lines["untrained"], [0.4, 0.41, 0.42])


def test_tables_that_cannot_be_shown_are_refused():
    good = table()
    for bad, message in [
        (good.drop(columns="block"), "block table: no column block"),
        (good.iloc[:0], "no rows"),
        (pd.concat([good, good.iloc[:1]]), "there twice"),
        (good[~good.trained], "no trained model"),
        (
            good.drop(index=good.index[(good.block == 1) & (good.target == 1)]),
            "not scored in every",
        ),
        (good[good.trained | (good.target < 2)], "differ in blocks or parcels"),
    ]:
        with pytest.raises(CobeError, match=message):
            block_parcel_explorer(bad, True, live=False)
