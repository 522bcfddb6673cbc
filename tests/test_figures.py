"""Maps put each parcel where it lies; captions, frames, films and small figures tell the truth."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from nibabel.affines import apply_affine
from PIL import Image

from cobe.brain.parcels import grey_matter_parcels
from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report import figures, maps, style
from cobe.report.captions import caption
from cobe.report.frames import prediction_film
from cobe.report.manifest import figure_names
from cobe.report.save import save_figure, save_gif
from report_tables import draw_axis, loss_table, panel, score_table, words

SMOKE = get_profile("smoke")
N_PARCELS = SMOKE.plan.n_parcels
LOSSES = loss_table(SMOKE, published=True)
SCORES = score_table(SMOKE, N_PARCELS, published=True)
CORRECTED = SCORES[SCORES["protocol"] == "corrected"]


@pytest.fixture(scope="module")
def atlas():
    return grey_matter_parcels(N_PARCELS, 6.0, 0)


@pytest.fixture(scope="module")
def fig1(atlas):
    return draw_axis(SMOKE, "data_size", LOSSES, SCORES, atlas)


def test_data_are_named_in_the_figure(fig1):
    assert "computed here, simulated data" in words(fig1)
    assert "published, real data" in words(fig1)
    real = figures.fig_controls(SMOKE, SCORES, False)
    assert "simulated" not in words(real)
    assert "simulated" in words(figures.fig_controls(SMOKE, SCORES, True))


def test_text_is_legible_and_nothing_runs_over_the_edge(fig1):
    assert fig1.get_size_inches()[0] * 25.4 == pytest.approx(180)
    assert fig1.get_size_inches()[1] * 25.4 < 230
    for text in fig1.findobj(Text):
        assert text.get_fontsize() >= 6
    fig1.canvas.draw()
    pixels = np.asarray(fig1.canvas.buffer_rgba())[..., :3]
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 255).all()  # nothing runs over the edge


def test_levels_differ_in_lightness_and_marker():
    looks = style.level_styles(8)
    lightness = [np.dot(look["color"][:3], (0.2126, 0.7152, 0.0722)) for look in looks]
    assert np.all(np.diff(lightness) > 0.03)
    assert len({look["marker"] for look in looks}) == 8
    assert [style.level_text(v) for v in (3000, 100_000, 6_000_000, 96, "bf16")] == [
        *("3k", "100k", "6M", "96", "bf16")
    ]


def test_vertices_get_the_parcel_that_lies_there(atlas):
    """Against the nearest labelled voxel, found by hand."""
    from nilearn.datasets import load_fsaverage
    from scipy.spatial import cKDTree

    labels = maps.vertex_labels(atlas, "left")
    data = np.asarray(atlas.dataobj)
    voxels = np.argwhere(data > 0)
    tree = cKDTree(apply_affine(atlas.affine, voxels))
    mesh = load_fsaverage("fsaverage5")
    middle = (
        mesh["pial"].parts["left"].coordinates + mesh["white_matter"].parts["left"].coordinates
    ) / 2
    distance, nearest = tree.query(middle)
    expected = data[tuple(voxels[nearest].T)]
    close = (labels > 0) & (distance < 3)
    assert close.sum() > 3000
    assert (labels == expected)[close].mean() > 0.9
    assert (labels == 0).mean() < 0.12  # the medial wall is 9 % of the mesh


def test_a_map_shows_each_parcel_in_its_colour(atlas):
    labels = maps.vertex_labels(atlas, "left")
    image = maps.view_labels(labels, "left", "medial", 600)
    assert {maps.OUTSIDE, maps.UNLABELLED} <= set(np.unique(image))
    shown = np.unique(image[image > 0])
    assert len(shown) > 10 and set(shown) <= set(labels)
    # parcels further back lie further to the left in the left hemisphere's medial view
    centre_y = {k: _centre(atlas, k)[1] for k in shown if (image == k).sum() > 300}
    centre_x = {k: np.argwhere(image == k)[:, 1].mean() for k in centre_y}
    order = list(centre_y)
    correlation = np.corrcoef([centre_y[k] for k in order], [centre_x[k] for k in order])[0, 1]
    assert correlation > 0.9

    first, second, third = sorted(shown, key=lambda k: -(image == k).sum())[:3]
    parcels = pd.DataFrame(
        {"label": [first, second, third], "r": [0.4, 0.4, np.nan], "q": [0.01, 0.2, 0.01]}
    )
    rgba = maps.map_rgba(image, parcels, 0.8)
    wanted = {
        first: maps.map_colours()(0.5),
        second: (*maps.COLOUR_FADED, 1),
        third: (*maps.COLOUR_FADED, 1),
        maps.UNLABELLED: (*maps.COLOUR_UNLABELLED, 1),
    }
    k = maps.SUPERSAMPLING
    height, width = (np.array(image.shape) // k) * k
    blocks = image[:height, :width].reshape(height // k, k, width // k, k)
    for label, colour in wanted.items():
        inner = (blocks == label).all((1, 3))
        assert inner.sum() > 20
        np.testing.assert_allclose(rgba[inner], np.broadcast_to(colour, (inner.sum(), 4)))
    outside = (blocks == maps.OUTSIDE).all((1, 3))
    assert (rgba[outside][:, 3] == 0).all()


def _centre(atlas, label):
    return apply_affine(atlas.affine, np.argwhere(np.asarray(atlas.dataobj) == label)).mean(0)


def test_all_maps_of_a_figure_share_one_scale_that_is_stated(fig1, atlas):
    axis = figures.get_axis(SMOKE, "data_size")
    cells = [cell.name for cell in axis_cells(SMOKE, axis)]
    rows = CORRECTED[CORRECTED["cell"].isin(cells) & (CORRECTED["summary"] == "target")]
    largest = rows.loc[rows["q"] <= 0.05, "r"].max()
    low, high = panel(fig1, "scale").get_ylim()
    assert low == 0
    assert largest <= high < largest + 0.05
    text = caption("fig1_data_size", SMOKE, SCORES, LOSSES, simulated=True)
    assert f"one colour scale for all maps, r from 0 to {style.r_text(high)}" in text
    assert "one scale for all maps" in words(fig1)
    # also where a subject's own largest r is smaller
    pixels = maps.PANEL_PIXELS * maps.SUPERSAMPLING
    image = maps.view_labels(maps.vertex_labels(atlas, "left"), "left", "lateral", pixels)
    for subject in SMOKE.plan.subjects:
        parcels = maps.parcel_rows(CORRECTED, cells[0], subject)
        shown = panel(fig1, f"map {subject} {axis.levels[0]} left lateral").images[0].get_array()
        np.testing.assert_allclose(np.asarray(shown), maps.map_rgba(image, parcels, high))
    assert maps.scale_top([pd.DataFrame({"label": [1], "r": [0.3], "q": [0.9]})]) == 0.05


def test_numbers_are_written_as_readers_write_them():
    shown = [style.r_text(r) for r in (0.75, 0.5, 1.0, 0.0, -0.021, -0.0001, 0.325)]
    assert shown == [".75", ".5", "1", "0", "-.021", "0", ".325"]
    assert [style.signed_r(r) for r in (0.02, -0.007, 1.2)] == ["+.020", "-.007", "+1.200"]


def test_the_label_column_wins_over_the_order_of_targets():
    rows = CORRECTED.assign(label=CORRECTED["target"] + 11)
    cell, subject = SMOKE.base.name, SMOKE.plan.subjects[0]
    assert maps.parcel_rows(rows, cell, subject)["label"].tolist() == list(range(11, 71))
    assert maps.parcel_rows(CORRECTED, cell, subject)["label"].tolist() == list(range(1, 61))


def test_a_target_is_a_place_among_the_labels_of_the_atlas(atlas):
    """Of a label image with gaps, such as one that was cut for a field of view."""
    values = np.asarray(atlas.dataobj).astype(np.int32)
    kept = np.setdiff1d(np.arange(1, N_PARCELS + 1), [3, 4, 20])
    gaps = nib.Nifti1Image(np.where(np.isin(values, kept), values, 0), atlas.affine)
    axis = figures.get_axis(SMOKE, "data_size")
    with pytest.raises(
        CobeError, match=r"parcel 58 \(target 57\) is not in the atlas, .* 57 label"
    ):
        figures.maps_figure(SMOKE, axis, SCORES, gaps, True)
    fewer = SCORES[~(SCORES["target"] >= len(kept))]
    figure = figures.maps_figure(SMOKE, axis, fewer, gaps, True)
    pixels = maps.PANEL_PIXELS * maps.SUPERSAMPLING
    image = maps.view_labels(maps.vertex_labels(gaps, "left"), "left", "lateral", pixels)
    subject, cell = SMOKE.plan.subjects[0], axis_cells(SMOKE, axis)[0].name
    rows = fewer[fewer["protocol"] == "corrected"]
    parcels = maps.parcel_rows(rows, cell, subject, kept)
    assert parcels["label"].tolist() == kept.tolist()
    shown = panel(figure, f"map {subject} {axis.levels[0]} left lateral").images[0].get_array()
    high = panel(figure, "scale").get_ylim()[1]
    np.testing.assert_allclose(np.asarray(shown), maps.map_rgba(image, parcels, high))


@pytest.mark.parametrize("n_levels", [1, 2, 3, 4, 8])
def test_maps_fit_the_page(n_levels):
    plan = maps.layout(n_levels)
    assert len({place[3:] for place in plan.places}) == len(plan.places)
    assert maps.MAPS_LEFT_MM + plan.n_columns * plan.panel_mm + 12 <= style.WIDTH_MM
    assert plan.panel_mm >= 15
    assert maps.maps_height(4, n_levels) < 120


def clips(n=3, seed=0):
    rng = np.random.default_rng(seed)
    made = np.zeros((n, 16, 32, 32, 3), np.uint8)
    for frame in range(16):
        made[:, frame, 4:10, frame : frame + 5] = rng.integers(60, 255, 3)
    return made


def test_predicted_frames_are_the_pixels_and_psnr_is_by_its_definition():
    context, true = clips(seed=0), clips(seed=1)
    predicted = true.copy()
    predicted[1] += 10
    figure = figures.fig6_predicted_frames(context, true, predicted, simulated=True)
    text = words(figure)
    assert "equal" in text
    wrapped = predicted[1].astype(float) - true[1]
    assert f"{20 * np.log10(255 / np.sqrt(np.mean(wrapped**2))):.1f} dB" in text
    assert "gamma 0.5" in text and "simulated" in text
    shown = panel(figure, "true next 2 10").images[0].get_array()
    np.testing.assert_allclose(np.asarray(shown), (true[2, 10] / 255) ** 0.5)
    still = panel(figure, "standing still 0 5").images[0].get_array()
    np.testing.assert_allclose(np.asarray(still), (context[0, -1] / 255) ** 0.5)
    bright = figures.predicted_frames({"original": true + 100, "rebuilt": true}, simulated=True)
    assert "gamma" not in words(bright)


def test_bad_clips_are_errors():
    good = clips()
    with pytest.raises(CobeError, match="predicted: .*hand over uint8 clips"):
        figures.fig6_predicted_frames(good, good, good[:2], simulated=True)
    with pytest.raises(CobeError, match="predicted: float64"):
        figures.fig6_predicted_frames(good, good, good / 255, simulated=True)
    with pytest.raises(CobeError, match="at least 16 frames"):
        figures.predicted_frames({"a": good[:, :8]}, simulated=True)
    with pytest.raises(CobeError, match="no row 'b'"):
        figures.predicted_frames({"a": good}, simulated=True, reference="b")
    with pytest.raises(CobeError, match="hand over uint8"):
        figures.frame_strip(good)


def test_a_notebook_shows_a_returned_figure():
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(figures.frame_strip(clips()[0]), include=["image/png"])
    assert shown["image/png"][:8] == b"\x89PNG\r\n\x1a\n"


def test_small_figures_of_the_notebooks():
    strip = figures.frame_strip(clips()[0], title="one clip")
    assert [axes.get_label() for axes in strip.axes][-1] == "frame 15"
    assert len(strip.axes) == 8
    valid = np.array([0, 1, 1, 0, 1], bool)
    series = figures.parcel_series_figure(np.arange(5.0), valid, 1.49, simulated=True)
    spans = [(p.get_x(), p.get_width()) for p in series.axes[0].patches]
    np.testing.assert_allclose(spans, [(1.49, 2 * 1.49), (4 * 1.49, 1.49)])
    assert "3 of 5 volumes" in words(series)
    chosen = [1.0, 10.0, 10.0, np.nan]
    histogram = figures.alpha_figure(chosen, [10.0, 1.0, 100.0], simulated=True)
    assert [bar.get_height() for bar in histogram.axes[0].patches] == [1, 2, 0]
    assert "4 targets, 1 on no grid point" in words(histogram)


@pytest.mark.parametrize("name", figure_names(SMOKE, ["paper"]))
def test_captions_say_n_split_summary_and_data(name):
    text = caption(name, SMOKE, SCORES, LOSSES, simulated=True, note="Chosen by seed 0.")
    assert "Simulated data" in text and text.endswith("Chosen by seed 0.")
    if not name.startswith("fig6"):
        for part in ("n = 2 subjects", "60 parcels", "2 held-out sessions", "300 to 301 held-out"):
            assert part in text
        assert "95 % interval" in text
        assert f"{SMOKE.protocol.n_permutations} block permutations" in text
    assert "CNeuroMod" in caption(name, SMOKE, SCORES, LOSSES, simulated=False)


def test_captions_need_their_tables():
    with pytest.raises(CobeError, match="hand them over"):
        caption("fig1_data_size", SMOKE, SCORES, simulated=True)
    with pytest.raises(CobeError, match="has no caption"):
        caption("fig99", SMOKE, simulated=True)
    with pytest.raises(CobeError, match="does not vary"):
        caption("fig1_data_size", replace(SMOKE, axes=()), SCORES, LOSSES, simulated=True)
    text = caption("fig5_precision_maps", SMOKE, SCORES, simulated=True)
    counted = CORRECTED[
        (CORRECTED["cell"] == SMOKE.base.name) & (CORRECTED["subject"] == "sub-sim1")
    ]
    assert f"fp32: {int((counted['q'] <= 0.05).sum())} of 60" in text


def test_a_figure_with_maps_is_the_same_twice_and_small(tmp_path, fig1, atlas):
    again = draw_axis(SMOKE, "data_size", LOSSES, SCORES, atlas)
    for name, figure in (("one", fig1), ("two", again)):
        save_figure(figure, "fig1_data_size", tmp_path / name, "caption")
    for suffix in ("pdf", "png"):
        one, two = (
            (tmp_path / n / f"fig1_data_size.{suffix}").read_bytes() for n in ("one", "two")
        )
        assert one == two
        assert len(one) < 2_000_000


def test_nothing_global_is_touched():
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before, opened = dict(mpl.rcParams), plt.get_fignums()
    figures.fig_controls(SMOKE, SCORES, True)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == opened


def test_a_film_shows_context_then_both_futures(tmp_path):
    context = np.full((2, 4, 8, 8, 3), 200, np.uint8)
    true_next, predicted = np.full_like(context, 150), np.full_like(context, 100)
    film = prediction_film(context, true_next, predicted, scale=1)
    assert film.shape == (8, 2 * (8 + 3), 2 * (8 + 4), 3)
    assert film[0, 6, 6].tolist() == film[0, 6, 18].tolist() == [200] * 3  # both begin alike
    assert (film[5, 6, 6, 0], film[5, 6, 18, 0]) == (150, 100)
    assert film[0, 0].max() == 0 and film[5, 0, 18].min() == 255  # the bar over predicted frames
    saved = save_gif(film, "film", tmp_path, "caption")
    with Image.open(tmp_path / saved.files[0]) as gif:
        assert gif.n_frames >= 2 and gif.size == (24, 22)
        gif.seek(gif.n_frames - 1)
        assert abs(gif.convert("RGB").getpixel((18, 6))[0] - 100) <= 2
    again = (tmp_path / "film.gif").read_bytes()
    save_gif(film, "film", tmp_path, "caption")
    assert (tmp_path / "film.gif").read_bytes() == again


def test_the_caption_of_the_film_is_of_the_film():
    text = caption("film6_predicted_frames", SMOKE, simulated=True, note="Chosen evenly.")
    side = SMOKE.vqvae.resolution
    for part in (
        "**film6_predicted_frames.** 32 moving frames",
        "two columns",
        "70 ms (about 14 per second)",
        f"{side} x {side} pixels, enlarged",
        "Simulated data",
        "profile 'smoke'. Chosen evenly.",
    ):
        assert part in text
    for part in ("Four frames", "standing still", "PSNR"):
        assert part not in text


def test_the_film_lasts_what_its_caption_says(tmp_path):
    shape = (2, 16, 8, 8, 3)
    clips = [np.random.default_rng(k).integers(0, 255, shape, dtype=np.uint8) for k in range(3)]
    save_gif(prediction_film(*clips), "film", tmp_path, "caption")
    with Image.open(tmp_path / "film.gif") as gif:
        times = [gif.seek(k) or gif.info["duration"] for k in range(gif.n_frames)]
    assert times == [70] * 31 + [1000]


def test_what_is_no_film_is_refused(tmp_path):
    clips = np.zeros((2, 4, 8, 8, 3), np.uint8)
    with pytest.raises(CobeError, match="same number of clips"):
        prediction_film(clips, clips[:1], clips)
    with pytest.raises(CobeError, match="hand over uint8"):
        save_gif(clips[0].astype(float), "film", tmp_path, "caption")
    with pytest.raises(CobeError, match="no caption"):
        save_gif(clips[0], "film", tmp_path, " ")
