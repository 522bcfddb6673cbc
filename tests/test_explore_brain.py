import json
import re
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_fsaverage
from nilearn.plotting.js_plotting_utils import decode

from cobe.brain.parcels import grey_matter_parcels
from cobe.core.errors import CobeError
from cobe.explore import brain
from cobe.report.maps import COLOUR_FADED, COLOUR_UNLABELLED, map_colours, vertex_labels
from cobe.report.style import PaperFigure
from shown_widgets import axes_of, controls, runs_over_the_edge

N_PARCELS = 24
TITLE = "sub-a, gpt & more"


@pytest.fixture(scope="module")
def atlas():
    return grey_matter_parcels(N_PARCELS, 6.0, 0)


def table():
    """r rises with the parcel, but every third does not survive; untrained is half of it."""
    target = np.arange(N_PARCELS)
    rows = pd.DataFrame(
        {"target": target, "r": 0.02 * target, "q": np.where(target % 3, 0.01, 0.2)}
    )
    return pd.concat(
        rows.assign(subject=subject, features=features, r=rows.r * factor)
        for subject, features, factor in [
            ("sub-a", "gpt", 1),
            ("sub-a", "untrained", 0.5),
            ("sub-b", "gpt", 0.9),
            ("sub-b", "untrained", 0.4),
        ]
    )


@pytest.fixture(scope="module")
def page(atlas):
    parcels = brain.participant_parcels(table(), "sub-a")
    return brain.brain_view(parcels, atlas, TITLE, simulated=True, top=0.5)


def info_of(page):
    return json.loads(re.search(r"var surfaceMapInfo = (\{.*?\});\s*\n", page).group(1))


def test_every_vertex_has_the_colour_of_its_parcel(page, atlas):
    info = info_of(page)
    for side in ("left", "right"):
        labels = vertex_labels(atlas, side)
        drawn = np.array(
            [[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in info[f"vertexcolor_{side}"]]
        )
        assert drawn.shape == (10242, 3) and len(np.unique(labels)) > 5
        for label in np.unique(labels):
            if label == 0:
                expected = COLOUR_UNLABELLED
            elif (label - 1) % 3 == 0:
                expected = COLOUR_FADED
            else:
                expected = map_colours()(0.02 * (label - 1) / 0.5)[:3]
            assert np.abs(drawn[labels == label] - 255 * np.array(expected)).max() <= 1
    assert (info["cmin"], info["cmax"]) == (0, 0.5)


def test_the_meshes_are_those_of_fsaverage5_moved_apart(page):
    info = info_of(page)
    inflated = load_fsaverage("fsaverage5")["inflated"].parts
    x = {}
    for side, mesh in inflated.items():
        sent = info[f"inflated_{side}"]
        coordinates = np.stack([decode(sent[f"_{axis}"], "<f4") for axis in "xyz"], axis=1)
        moved = coordinates - mesh.coordinates
        assert np.abs(moved[:, 1:]).max() == 0 and np.ptp(moved[:, 0]) < 1e-4
        faces = np.stack([decode(sent[f"_{corner}"], "<i4") for corner in "ijk"], axis=1)
        assert np.array_equal(faces, mesh.faces)
        x[side] = coordinates[:, 0]
    assert x["right"].min() - x["left"].max() == pytest.approx(brain.GAP_MM, abs=1e-3)


def test_the_page_asks_no_other_host_for_anything_and_is_not_large(page):
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            links.extend(
                value for name, value in attrs if name in ("src", "href", "srcset", "data")
            )

    Links().feed(page)
    assert links == [] and "@import" not in page and len(page) < 3_000_000
    assert "githubusercontent" not in page


def test_the_page_says_what_it_shows(page):
    said = "colour: r from 0 to .5 in 16 of 24 parcels; grey: q &gt; .05"
    assert f"<p>{said}" in page and 'aria-label="sub-a, gpt &amp; more, simulated data: ' in page
    assert "<title>sub-a, gpt &amp; more, simulated data</title>" in page


def test_values_off_the_scale_are_counted():
    parcels = brain.participant_parcels(table(), "sub-a").assign(q=0.01)
    parcels.loc[0, "r"] = -0.3
    said = brain.scale_words(parcels, 0.4)
    assert "24 of 24 parcels; 1 below 0, 3 above the scale" in said


def test_the_still_has_four_views(atlas):
    figure = brain.brain_browser(table(), atlas, True, live=False)
    assert isinstance(figure, PaperFigure) and not runs_over_the_edge(figure)
    assert figure.texts[0].get_text() == "sub-a, gpt, simulated data"
    colours = {}
    for side in ("left", "right"):
        for view in ("lateral", "medial"):
            rgba = np.asarray(axes_of(figure, f"{side} {view}").images[0].get_array())
            colours[side, view] = rgba[..., :3].std()
    assert min(colours.values()) > 0.05


def test_choosing_a_participant_changes_the_page(atlas):
    box = brain.brain_browser(table(), atlas, True, live=True)
    first = box.children[-1].value
    controls(box)["participant"].value = "sub-b"
    second = box.children[-1].value
    assert "cortex of sub-a, gpt" in first and "cortex of sub-b, gpt" in second
    controls(box)["features"].value = "untrained"
    assert "cortex of sub-b, untrained" in box.children[-1].value
    tops = [re.search(r"&quot;cmax&quot;: ([\d.]+)", each).group(1) for each in (first, second)]
    assert tops[0] == tops[1] == "0.5"


def test_what_cannot_be_shown_is_refused(atlas, monkeypatch):
    good = table()
    with pytest.raises(CobeError, match="no subject 'sub-c'; choose one of sub-a, sub-b"):
        brain.participant_parcels(good, "sub-c")
    with pytest.raises(CobeError, match="no features 'vq'; choose one of gpt, untrained"):
        brain.participant_parcels(good, "sub-a", "vq")
    with pytest.raises(CobeError, match="a parcel of sub-a is there twice"):
        brain.participant_parcels(pd.concat([good, good.iloc[:1]]), "sub-a")
    with pytest.raises(CobeError, match="parcel table: no rows"):
        brain.brain_browser(good.iloc[:0], atlas, True, live=False)
    parcels = brain.participant_parcels(good, "sub-a")
    for draw in (brain.brain_still, brain.brain_view):
        for bad, message in [
            (parcels.iloc[:0], "parcels: no rows"),
            (parcels.assign(label=parcels.label + 100), "label 101 is not in the atlas"),
            (pd.concat([parcels, parcels.iloc[:1]]), "a label is there twice"),
            (parcels.drop(columns="q"), "no column q"),
        ]:
            with pytest.raises(CobeError, match=message):
                draw(bad, atlas, TITLE, True)


def test_a_parcel_is_a_place_among_the_labels_of_the_atlas(atlas, monkeypatch):
    """Of a label image with gaps, and not the label less one."""
    values = np.asarray(atlas.dataobj).astype(np.int32)
    gaps = nib.Nifti1Image(np.where(values == 3, 0, values), atlas.affine)
    shown = []
    monkeypatch.setattr(brain, "brain_still", lambda parcels, *_: shown.append(parcels))
    few = table().query("target < 23")
    brain.brain_browser(few, gaps, True, live=False)
    assert shown[0].label.tolist() == [1, 2, *range(4, N_PARCELS + 1)]
    assert shown[0].r.tolist() == few.query("subject == 'sub-a' and features == 'gpt'").r.tolist()
    with pytest.raises(
        CobeError, match=r"parcel table: parcel 24 \(target 23\) is not in the atlas"
    ):
        brain.brain_browser(table(), gaps, True, live=False)


def test_a_page_of_another_nilearn_is_not_guessed_at():
    with pytest.raises(CobeError, match="nilearn's page of a surface has no 'icon'"):
        brain._own_page("<html></html>", TITLE, "")
