"""Cortical maps: parcels on the inflated fsaverage5 mesh that ships with nilearn.

Which parcel lies under which pixel is worked out once per view (nilearn projects the atlas and
draws the mesh); every map is then a look-up of colours, exact and fast, and small in a PDF.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import matplotlib as mpl
import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from nilearn.plotting import plot_surf
from nilearn.surface import vol_to_surf
from scipy import ndimage

from cobe.brain.parcels import check_labels
from cobe.core.config import Axis, Profile, axis_cells
from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.rows import parcel_rows

VIEWS = ("lateral", "medial")
Q_SURVIVES = 0.05
OUTSIDE = -1
UNLABELLED = 0
SUPERSAMPLING = 3
PANEL_PIXELS = 300
MAX_PANEL_MM = 22.0
MAPS_LEFT_MM, MAPS_WIDTH_MM = 17.0, 148.0
HEADER_MM, ROW_GAP_MM = 7.0, 2.0
PANEL_ASPECT = 0.74
MEDIAL_WALL_THICKNESS_MM = 1.0
COLOUR_UNLABELLED = (0.93, 0.93, 0.93)
COLOUR_FADED = (0.74, 0.74, 0.74)
SCALE_STEP = 0.05
GAP_TEXT = {"ha": "center", "va": "center", "fontsize": 6, "color": "0.35"}


def map_colours() -> LinearSegmentedColormap:
    """Colours of r from 0 to the top of the scale.

    Inferno is monotone in lightness and safe for colour-blind readers; its black end is left out,
    for it would look like a shadow.
    """
    colours = mpl.colormaps["inferno"](np.linspace(0.15, 0.97, 256))
    return LinearSegmentedColormap.from_list("cobe_maps", colours)


def _filled(atlas_img) -> nib.Nifti1Image:
    """The atlas with its border grown by one voxel, so that the mesh does not slip out of it."""
    labels = np.asarray(atlas_img.dataobj)
    labels = labels.reshape(labels.shape[:3]).astype(np.int32)
    voxel_mm = np.asarray(atlas_img.header.get_zooms()[:3], float)
    distance, nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=voxel_mm, return_indices=True
    )
    grown = np.where(distance <= voxel_mm.max() * 1.01, labels[tuple(nearest)], 0)
    return nib.Nifti1Image(grown.astype(np.int32), atlas_img.affine)


def vertex_labels(atlas_img, hemisphere: str = "left") -> np.ndarray:
    """The atlas label of every vertex: the most frequent one between white and pial surface.

    Parameters
    ----------
    atlas_img : nibabel image
        Integer labels in MNI space, 0 = no parcel. Its border is grown by one voxel first.
    hemisphere : str
        ``"left"`` or ``"right"``.

    Returns
    -------
    labels : int array (10242,)
        0 where no parcel is near, and on the medial wall (cortex thinner than 1 mm in fsaverage).
    """
    meshes = load_fsaverage("fsaverage5")
    labels = vol_to_surf(
        _filled(atlas_img),
        meshes["pial"].parts[hemisphere],
        inner_mesh=meshes["white_matter"].parts[hemisphere],
        interpolation="nearest_most_frequent",
    )
    thickness = load_fsaverage_data("fsaverage5", data_type="thickness").data.parts[hemisphere]
    labels = np.nan_to_num(labels, nan=UNLABELLED).round().astype(int)
    labels[np.asarray(thickness).ravel() < MEDIAL_WALL_THICKNESS_MM] = UNLABELLED
    return labels


def view_labels(labels: np.ndarray, hemisphere: str, view: str, pixels: int) -> np.ndarray:
    """Which atlas label is under each pixel of a view of the inflated mesh.

    Every label is drawn in a colour of its own without antialiasing, and read back.

    Parameters
    ----------
    labels : int array (n_vertices,)
        From `vertex_labels`.
    hemisphere, view : str
        A side, and ``"lateral"`` or ``"medial"``.
    pixels : int
        Width of the drawing in pixels, before its margins are cut off.

    Returns
    -------
    image : int array (height, width)
        -1 outside the brain, 0 where no parcel is, else the label.
    """
    known, codes = np.unique(labels, return_inverse=True)
    ids = np.arange(1, len(known) + 1)
    colours = np.stack([ids // 256, ids % 256, np.full(len(ids), 128)], axis=1) / 255.0
    mesh = load_fsaverage("fsaverage5")["inflated"].parts[hemisphere]
    figure = Figure(figsize=(4, 4), dpi=pixels / 4)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes([0, 0, 1, 1], projection="3d")
    plot_surf(
        mesh,
        codes.astype(float),
        hemi=hemisphere,
        view=view,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(known) - 0.5,
        avg_method="median",
        colorbar=False,
        axes=axes,
        figure=figure,
    )
    for collection in axes.collections:
        collection.set_antialiased(False)
    canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    found = np.where(rgb[..., 2] == 128, rgb[..., 0] * 256 + rgb[..., 1], 0)
    image = np.concatenate([[OUTSIDE], known])[np.clip(found, 0, len(known))]
    inside = image != OUTSIDE
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def map_rgba(image: np.ndarray, parcels: pd.DataFrame, top: float) -> np.ndarray:
    """Colours of one map.

    Parameters
    ----------
    image : int array (height, width)
        From `view_labels`.
    parcels : pandas.DataFrame
        Columns label, r, q; one row per parcel.
    top : float
        r at the top of the scale, which begins at 0.

    Returns
    -------
    rgba : float array (height // 3, width // 3, 4)
        Parcels with q > .05, or without an r, are grey; pixels of no parcel are pale.
    """
    colours = np.zeros((max(image.max(), int(parcels["label"].max())) + 2, 4))
    colours[UNLABELLED + 1 :, :] = (*COLOUR_UNLABELLED, 1.0)
    survives = (parcels["q"] <= Q_SURVIVES) & parcels["r"].notna()
    rgba = map_colours()(np.clip(parcels["r"].fillna(0).to_numpy() / top, 0, 1))
    rgba[~survives.to_numpy()] = (*COLOUR_FADED, 1.0)
    colours[parcels["label"].to_numpy() + 1] = rgba
    drawn = colours[image + 1]
    k = SUPERSAMPLING
    height, width = drawn.shape[0] // k * k, drawn.shape[1] // k * k
    drawn = drawn[:height, :width]
    drawn[..., :3] *= drawn[..., 3:]
    blocks = drawn.reshape(height // k, k, width // k, k, 4).mean((1, 3))
    covered = blocks[..., 3:] > 0
    blocks[..., :3] = np.where(covered, blocks[..., :3] / np.maximum(blocks[..., 3:], 1e-9), 1.0)
    return np.clip(blocks, 0, 1)


def scale_top(tables: list[pd.DataFrame]) -> float:
    """Top of the scale of a figure: its largest surviving r, rounded up to a multiple of .05."""
    values = [t.loc[(t["q"] <= Q_SURVIVES) & t["r"].notna(), "r"] for t in tables]
    largest = max((float(v.max()) for v in values if len(v)), default=SCALE_STEP)
    return float(np.ceil(max(largest, SCALE_STEP) / SCALE_STEP - 1e-9) * SCALE_STEP)


def figure_top(profile: Profile, axis: Axis, scores: pd.DataFrame, subjects) -> float:
    """Top of the one scale of all maps of an axis, from the score table of ``corrected``."""
    cells = axis_cells(profile, axis)
    return scale_top([parcel_rows(scores, cell.name, s) for s in subjects for cell in cells])


@dataclass(frozen=True)
class Layout:
    """Where the maps of one subject are: (level, hemisphere, view, column, row) of each.

    Two levels have room for both hemispheres, up to four for both views side by side, and more
    levels get the medial view below the lateral one.
    """

    places: tuple[tuple[int, str, str, int, int], ...]
    panel_mm: float

    @property
    def n_rows(self) -> int:
        """Rows of maps per subject."""
        return 1 + max(place[4] for place in self.places)

    @property
    def n_columns(self) -> int:
        """Columns of maps."""
        return 1 + max(place[3] for place in self.places)

    @property
    def height_mm(self) -> float:
        """Height of one subject's maps."""
        return self.n_rows * self.panel_mm * PANEL_ASPECT


def layout(n_levels: int) -> Layout:
    """The layout for a number of levels."""
    if n_levels > 4:
        places = [(i, "left", v, i, j) for i in range(n_levels) for j, v in enumerate(VIEWS)]
        return Layout(tuple(places), min(16.0, MAPS_WIDTH_MM / n_levels))
    sides = [("left", "lateral"), ("left", "medial")]
    if n_levels <= 2:
        sides += [("right", "medial"), ("right", "lateral")]
    places = [
        (i, side, view, i * len(sides) + j, 0)
        for i in range(n_levels)
        for j, (side, view) in enumerate(sides)
    ]
    return Layout(tuple(places), min(MAX_PANEL_MM, MAPS_WIDTH_MM / len(places)))


def views_words(n_levels: int) -> str:
    """Which views are drawn, in words."""
    if n_levels > 4:
        return "left hemisphere, lateral above medial"
    return "both hemispheres" if n_levels <= 2 else "left hemisphere"


def maps_height(n_subjects: int, n_levels: int) -> float:
    """Height of `draw_maps` in millimetres."""
    return HEADER_MM + n_subjects * (layout(n_levels).height_mm + ROW_GAP_MM) + 1.0


def draw_maps(figure, top_mm, profile: Profile, axis: Axis, scores, subjects, atlas_img) -> None:
    """Maps of r on inflated fsaverage5: a row per subject, columns per level, one scale for all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        180 mm wide, with `maps_height` millimetres free below `top_mm`.
    top_mm : float
        Distance of the maps from the figure's top, millimetres.
    profile, axis
        The levels and their cells.
    scores : pandas.DataFrame
        Score table of one protocol.
    subjects : list of str
        Rows.
    atlas_img : nibabel image
        Labels of the parcels.

    Raises
    ------
    CobeError
        A scored parcel is not in the atlas.
    """
    cells = axis_cells(profile, axis)
    plan = layout(len(cells))
    labels = check_labels(atlas_img)
    per_subject = {
        s: [parcel_rows(scores, cell.name, s, labels) for cell in cells] for s in subjects
    }
    _check_labels(per_subject, labels)
    images = atlas_views(atlas_img, plan)
    _map_headings(figure, top_mm, axis, plan)
    top = scale_top([table for tables in per_subject.values() for table in tables])
    for row, (subject, tables) in enumerate(per_subject.items()):
        y_mm = top_mm + HEADER_MM + row * (plan.height_mm + ROW_GAP_MM)
        style.text_mm(figure, 2, y_mm + plan.height_mm / 2, subject, va="center", fontsize=6)
        for level, side, view, x, y in plan.places:
            axes = style.axes_mm(
                figure,
                MAPS_LEFT_MM + x * plan.panel_mm,
                y_mm + y * plan.panel_mm * PANEL_ASPECT,
                plan.panel_mm * 0.96,
                plan.panel_mm * PANEL_ASPECT * 0.96,
            )
            axes.set_axis_off()
            axes.set_label(f"map {subject} {axis.levels[level]} {side} {view}")
            if tables[level].empty:
                axes.text(0.5, 0.5, style.NOT_COMPUTED, **GAP_TEXT)
            else:
                rgba = map_rgba(images[side, view], tables[level], top)
                axes.imshow(rgba, interpolation="antialiased")
    _scale(figure, plan, top_mm, len(per_subject), top)


def _check_labels(per_subject: dict, in_atlas: np.ndarray) -> None:
    for subject, tables in per_subject.items():
        for table in tables:
            unknown = np.setdiff1d(table["label"], in_atlas)
            if len(unknown):
                raise CobeError(
                    f"score table: parcel {unknown[0]} of {subject} is not in the atlas; hand over "
                    "the atlas that the scores were made with"
                )


def atlas_views(atlas_img, plan: Layout) -> dict:
    """Label images of every view in a layout."""
    labels = np.asarray(atlas_img.dataobj).astype(np.int32)
    sides = tuple(sorted({place[1] for place in plan.places}))
    return _views_of(labels.tobytes(), labels.shape, atlas_img.affine.tobytes(), sides)


@lru_cache(maxsize=4)
def _views_of(labels: bytes, shape: tuple, affine: bytes, sides: tuple[str, ...]) -> dict:
    # all figures of a run share one atlas; the arguments are its whole content
    image = nib.Nifti1Image(
        np.frombuffer(labels, np.int32).reshape(shape), np.frombuffer(affine).reshape(4, 4)
    )
    on_mesh = {side: vertex_labels(image, side) for side in sides}
    views = {
        (side, view): view_labels(on_mesh[side], side, view, PANEL_PIXELS * SUPERSAMPLING)
        for side in sides
        for view in VIEWS
    }
    for pixels in views.values():
        pixels.flags.writeable = False
    return views


def _map_headings(figure, top_mm, axis: Axis, plan: Layout) -> None:
    """Levels above their columns, and the views below them."""
    per_level = plan.n_columns / len(axis.levels)
    for i, level in enumerate(axis.levels):
        middle = MAPS_LEFT_MM + plan.panel_mm * (i + 0.5) * per_level
        style.text_mm(figure, middle, top_mm, style.level_text(level), ha="center", va="top")
    if plan.n_rows > 1:
        return
    for _, side, view, x, _ in plan.places:
        words = f"{side} {view}" if per_level > 2 else view
        middle = MAPS_LEFT_MM + (x + 0.48) * plan.panel_mm
        style.text_mm(
            figure, middle, top_mm + 3.4, words, ha="center", va="top", fontsize=6, color="0.35"
        )


def _scale(figure, plan: Layout, top_mm: float, n_subjects: int, top: float) -> None:
    """The one colour scale, to the right of the maps."""
    left = MAPS_LEFT_MM + plan.n_columns * plan.panel_mm + 2.5
    room = n_subjects * (plan.height_mm + ROW_GAP_MM)
    height = min(room * 0.7, 30.0)
    axes = style.axes_mm(
        figure, left, top_mm + HEADER_MM + (room - height) / 2, 1.8, height, label="scale"
    )
    bar = figure.colorbar(ScalarMappable(Normalize(0, top), map_colours()), cax=axes)
    ticks = [0, top / 2, top]
    bar.set_ticks(ticks, labels=["0", *(style.r_text(tick) for tick in ticks[1:])])
    bar.outline.set_linewidth(0.4)
    axes.tick_params(length=1.5, width=0.4, pad=1)
    axes.set_title("r, all maps", fontsize=6, pad=5, loc="left")
