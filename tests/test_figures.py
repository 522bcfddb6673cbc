"""The figures draw the tables' numbers, mark gaps, and put each parcel where it lies."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from nibabel.affines import apply_affine
from PIL import Image

from cobe.brain.parcels import grey_matter_parcels
from cobe.core.config import axis_cells, get_profile
from cobe.core.errors import CobeError
from cobe.report import figures, maps, style
from cobe.report.captions import caption
from cobe.report.frames import prediction_film
from cobe.report.manifest import FIGURE_AXES, THROUGHPUT_FIGURE, figure_names
from cobe.report.save import save_figure, save_gif
from report_tables import loss_table, score_table

SMOKE = get_profile("smoke")
N_PARCELS = SMOKE.plan.n_parcels
LOSSES, SCORES = loss_table(SMOKE), score_table(SMOKE, N_PARCELS)


@pytest.fixture(scope="module")
def atlas():
    return grey_matter_parcels(N_PARCELS, 6.0, 0)


@pytest.fixture(scope="module")
def fig1(atlas):
    return figures.fig1_data_size(SMOKE, LOSSES, SCORES, atlas, True)


def panel(figure, label):
    (axes,) = (axes for axes in figure.axes if axes.get_label() == label)
    return axes


def mean_rows(scores, features="gpt"):
    rows = scores[(scores["summary"] == "mean") & (scores["held_out"] == "all")]
    return rows[rows["features"] == features].set_index(["subject", "cell"])


def words(figure):
    texts = [text.get_text() for text in figure.findobj(Text)]
    return " ".join(texts)


@pytest.mark.parametrize("name", FIGURE_AXES)
def test_curves_and_bars_are_the_tables(name):
    axis = figures.get_axis(SMOKE, FIGURE_AXES[name])
    figure = figures.axis_figure(SMOKE, axis, LOSSES, SCORES, None, True, maps=False)
    lines = {line.get_label(): line for line in panel(figure, "losses").lines}
    scores = panel(figure, "scores")
    bars = {bar.get_label(): bar[0] for bar in scores.containers}
    spans = {c.get_label(): c for c in scores.collections if isinstance(c, LineCollection)}
    ours, controls = mean_rows(SCORES), mean_rows(SCORES, "untrained")
    diamonds = {line.get_label(): line for line in scores.lines}
    for cell, level in zip(axis_cells(SMOKE, axis), axis.levels, strict=True):
        rows = LOSSES[LOSSES["cell"] == cell.name]
        np.testing.assert_array_equal(lines[str(level)].get_xdata(), rows["step"])
        np.testing.assert_array_equal(lines[str(level)].get_ydata(), rows["val_loss"])
        assert lines[f"best {level}"].get_ydata()[0] == rows["val_loss"].min()
        for subject in SMOKE.plan.subjects:
            key, row = f"{subject} {level}", ours.loc[subject, cell.name]
            assert bars[key].get_height() == row["r"]
            interval = spans[f"interval {key}"].get_segments()[0]
            np.testing.assert_array_equal(interval[:, 1], [row["ci_low"], row["ci_high"]])
            chance = spans[f"chance {key}"].get_segments()[0]
            np.testing.assert_array_equal(chance[:, 1], row["chance_95"])
            control = controls.loc[subject, cell.untrained().name]
            assert diamonds[f"untrained {key}"].get_ydata()[0] == control["r"]
    assert len(bars) == len(axis.levels) * len(SMOKE.plan.subjects)


def test_rows_of_other_protocols_are_not_drawn():
    other = SCORES.assign(protocol="as_published", r=0.99)
    both = pd.concat([SCORES, other])
    axis = figures.get_axis(SMOKE, "n_heads")
    figure = figures.axis_figure(SMOKE, axis, LOSSES, both, None, True, maps=False)
    assert all(bar[0].get_height() < 0.9 for bar in panel(figure, "scores").containers)


def test_what_was_not_computed_is_a_marked_gap(atlas):
    axis = figures.get_axis(SMOKE, "data_size")
    gone = axis_cells(SMOKE, axis)[0].name
    subject = SMOKE.plan.subjects[1]
    scores = SCORES[~((SCORES["cell"] == gone) & (SCORES["subject"] == subject))]
    losses = LOSSES[LOSSES["cell"] != gone]
    figure = figures.axis_figure(SMOKE, axis, losses, scores, atlas, True)
    panels = panel(figure, "scores")
    key = f"{subject} {axis.levels[0]}"
    assert key not in {bar.get_label() for bar in panels.containers}
    assert f"gap {key}" in {patch.get_label() for patch in panels.patches}
    assert [text.get_text() for text in panels.texts] == [style.NOT_COMPUTED]
    gap = panel(figure, f"map {key} left lateral")
    assert not gap.images
    assert gap.texts[0].get_text() == style.NOT_COMPUTED
    assert panel(figure, f"map {subject} {axis.levels[1]} left lateral").images
    assert "3k (not computed)" in [t.get_text() for t in figure.legends[0].get_texts()]
    text = caption("fig1_data_size", SMOKE, scores, losses, simulated=True)
    assert f"Not computed: loss of 3k, score of 3k in {subject}." in text


def test_a_planned_subject_without_scores_keeps_its_place():
    axis = figures.get_axis(SMOKE, "n_layers")
    one = SCORES[SCORES["subject"] == SMOKE.plan.subjects[0]]
    figure = figures.axis_figure(SMOKE, axis, LOSSES, one, None, True, maps=False)
    ticks = [tick.get_text() for tick in panel(figure, "scores").get_xticklabels()]
    assert tuple(ticks) == SMOKE.plan.subjects
    nothing = figures.axis_figure(SMOKE, axis, LOSSES[:0], SCORES[:0], None, True, maps=False)
    assert not panel(nothing, "scores").containers


def test_undefined_scores_and_diverged_losses_say_so():
    axis = figures.get_axis(SMOKE, "n_heads")
    cell = axis_cells(SMOKE, axis)[0].name
    scores, losses = SCORES.copy(), LOSSES.copy()
    scores.loc[(scores["cell"] == cell) & (scores["summary"] == "mean"), "r"] = np.nan
    losses.loc[losses.index[losses["cell"] == cell][-1], "val_loss"] = np.inf
    figure = figures.axis_figure(SMOKE, axis, losses, scores, None, True, maps=False)
    assert [t.get_text() for t in panel(figure, "scores").texts] == ["undefined"] * 2
    assert "2 (diverged)" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_tables_that_answer_twice_or_lack_columns_are_errors(atlas):
    axis = figures.get_axis(SMOKE, "data_size")
    draw = figures.axis_figure
    with pytest.raises(CobeError, match="2 rows for .*keep one"):
        draw(SMOKE, axis, LOSSES, pd.concat([SCORES, SCORES]), None, True, maps=False)
    with pytest.raises(CobeError, match="has a step twice"):
        draw(SMOKE, axis, pd.concat([LOSSES, LOSSES]), SCORES, None, True, maps=False)
    with pytest.raises(CobeError, match="score table: no column chance_95"):
        draw(SMOKE, axis, LOSSES, SCORES.drop(columns="chance_95"), None, True, maps=False)
    with pytest.raises(CobeError, match="loss table: no column val_loss"):
        draw(SMOKE, axis, LOSSES.drop(columns="val_loss"), SCORES, None, True, maps=False)
    with pytest.raises(CobeError, match="parcel 60 .* is not in the atlas"):
        maps_atlas = np.asarray(atlas.dataobj).copy()
        maps_atlas[maps_atlas == 60] = 0
        fewer = nib.Nifti1Image(maps_atlas, atlas.affine)
        figures.maps_figure(SMOKE, axis, SCORES, fewer, True)
    with pytest.raises(CobeError, match="no axis 'colour'"):
        figures.get_axis(SMOKE, "colour")


def test_data_are_named_in_the_figure(fig1):
    assert "computed here, simulated data" in words(fig1)
    assert "published: maximum over 1,095 parcels, real data" in words(fig1)
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


def test_one_scale_per_row_of_maps(fig1):
    axis = figures.get_axis(SMOKE, "data_size")
    for subject in SMOKE.plan.subjects:
        rows = SCORES[
            (SCORES["subject"] == subject)
            & SCORES["cell"].isin([cell.name for cell in axis_cells(SMOKE, axis)])
            & (SCORES["summary"] == "target")
            & (SCORES["q"] <= 0.05)
        ]
        low, high = panel(fig1, f"scale {subject}").get_ylim()
        assert low == 0
        assert rows["r"].max() <= high < rows["r"].max() + 0.05
    assert maps.row_top([pd.DataFrame({"label": [1], "r": [0.3], "q": [0.9]})]) == 0.05


def test_the_label_column_wins_over_the_order_of_targets():
    rows = SCORES.assign(label=SCORES["target"] + 11)
    cell, subject = SMOKE.base.name, SMOKE.plan.subjects[0]
    assert maps.parcel_rows(rows, cell, subject)["label"].tolist() == list(range(11, 71))
    assert maps.parcel_rows(SCORES, cell, subject)["label"].tolist() == list(range(1, 61))


@pytest.mark.parametrize("n_levels", [1, 2, 3, 4, 8])
def test_maps_fit_the_page(n_levels):
    plan = maps.layout(n_levels)
    assert len({place[3:] for place in plan.places}) == len(plan.places)
    assert maps.MAPS_LEFT_MM + plan.n_columns * plan.panel_mm + 12 <= style.WIDTH_MM
    assert plan.panel_mm >= 15
    assert maps.maps_height(4, n_levels) < 120


def test_controls_are_drawn_and_the_highest_is_marked():
    figure = figures.fig_controls(SMOKE, SCORES, True)
    for subject in SMOKE.plan.subjects:
        axes = panel(figure, subject)
        points = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
        wanted = {}
        for features in figures.CONTROLS:
            rows = mean_rows(SCORES, features).loc[subject]
            name = {"gpt": SMOKE.base.name, "untrained": SMOKE.base.untrained().name}
            wanted[features] = rows.loc[name.get(features, features), "r"]
        assert {key: points[key] for key in wanted} == wanted
        best = max(wanted, key=wanted.get)
        (star,) = (text for text in axes.texts if "★" in text.get_text())
        assert star.xy[1] == figures.CONTROLS.index(best)
        assert f"{wanted[best]:.3f}"[1:] in star.get_text()
    missing = figures.fig_controls(SMOKE, SCORES[SCORES["features"] != "vq"], True)
    axes = panel(missing, SMOKE.plan.subjects[0])
    assert [t.get_position()[1] for t in axes.texts if t.get_text() == style.NOT_COMPUTED] == [2]


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


@pytest.mark.parametrize("name", sorted(set(figure_names(SMOKE)) - {THROUGHPUT_FIGURE}))
def test_captions_say_n_split_summary_and_data(name):
    text = caption(name, SMOKE, SCORES, LOSSES, simulated=True, note="Chosen by seed 0.")
    assert "\n" not in text
    assert "Simulated data" in text and text.endswith("Chosen by seed 0.")
    if not name.startswith("fig6"):
        for part in ("n = 2 subjects", "60 parcels", "2 held-out sessions", "300 to 301 held-out"):
            assert part in text
        assert "95 % interval" in text and "100 block permutations" in text
    assert "CNeuroMod" in caption(name, SMOKE, SCORES, LOSSES, simulated=False)


def test_captions_need_their_tables():
    with pytest.raises(CobeError, match="hand them over"):
        caption("fig1_data_size", SMOKE, SCORES, simulated=True)
    with pytest.raises(CobeError, match="has no caption"):
        caption("fig99", SMOKE, simulated=True)
    with pytest.raises(CobeError, match="does not vary"):
        caption("fig1_data_size", replace(SMOKE, axes=()), SCORES, LOSSES, simulated=True)
    text = caption("fig5_precision_maps", SMOKE, SCORES, simulated=True)
    counted = SCORES[(SCORES["cell"] == SMOKE.base.name) & (SCORES["subject"] == "sub-sim1")]
    assert f"fp32: {int((counted['q'] <= 0.05).sum())} of 60" in text


def test_a_figure_with_maps_is_the_same_twice_and_small(tmp_path, fig1, atlas):
    again = figures.fig1_data_size(SMOKE, LOSSES, SCORES, atlas, True)
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


def test_what_is_no_film_is_refused(tmp_path):
    clips = np.zeros((2, 4, 8, 8, 3), np.uint8)
    with pytest.raises(CobeError, match="same number of clips"):
        prediction_film(clips, clips[:1], clips)
    with pytest.raises(CobeError, match="hand over uint8"):
        save_gif(clips[0].astype(float), "film", tmp_path, "caption")
    with pytest.raises(CobeError, match="no caption"):
        save_gif(clips[0], "film", tmp_path, " ")
