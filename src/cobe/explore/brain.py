"""The cortex of one participant: a page that turns, made of nilearn's, and a figure that does not.

Both colour a parcel in the same way: r where it survives the false discovery rate, grey elsewhere.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from nilearn._assets import get_template
from nilearn.datasets import load_fsaverage
from nilearn.plotting.js_plotting_utils import mesh_to_plotly
from nilearn.surface import InMemoryMesh

from cobe.brain.parcels import check_labels
from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.report import maps, style
from cobe.report.rows import require, target_labels

SIDES = ("left", "right")
MENUS = ("hemisphere", "view")
# between the inner edges of the two hemispheres, where both are shown
GAP_MM = 8.0
TOP_MM, PANEL_MM = 10.0, 38.0
FRAME_PX = 620
COLUMNS = ("subject", "target", "features", "r", "q")


def participant_parcels(
    table: pd.DataFrame, subject: str, features: str = "gpt", labels: np.ndarray | None = None
) -> pd.DataFrame:
    """One participant's parcels out of the table of parcels.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns subject, target (parcel from 0), features, r, q; one cell and protocol.
    subject, features : str
        Which rows.
    labels : int array or None
        Of the atlas, from `cobe.brain.parcels.check_labels`; None: they are 1 to n.

    Returns
    -------
    parcels : pandas.DataFrame
        Columns label (of the atlas), r, q; one row per parcel.

    Raises
    ------
    CobeError
        A column is missing, no row is of that participant and features, or a parcel is there twice
        or not in the atlas.
    """
    require(table, COLUMNS, "parcel table")
    for name, wanted in (("subject", subject), ("features", features)):
        known = sorted(table[name].unique())
        if wanted not in known:
            raise CobeError(
                f"parcel table: no {name} {wanted!r}; choose one of {', '.join(map(str, known))}"
            )
    rows = table[(table.subject == subject) & (table.features == features)]
    if rows.target.duplicated().any():
        raise CobeError(f"parcel table: a parcel of {subject} is there twice; keep one cell")
    label = target_labels(rows.target, labels, "parcel table")
    return pd.DataFrame({"label": label, "r": rows.r, "q": rows.q}).reset_index(drop=True)


def brain_browser(table: pd.DataFrame, atlas_img, simulated: bool, live: bool | None = None):
    """Choose a participant, and trained or untrained: the cortex, to be turned.

    Parameters
    ----------
    table : pandas.DataFrame
        As of `participant_parcels`.
    atlas_img : nibabel image
        Integer labels of the parcels in MNI space.
    simulated : bool
        Whether the data are; said above the cortex.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: choices ``participant`` and ``features``, and `brain_view` in a frame. Else
        `brain_still` of the first participant. One scale for all.

    Raises
    ------
    CobeError
        As of `participant_parcels` and `brain_still`.
    """
    require(table, COLUMNS, "parcel table")
    if not len(table):
        raise CobeError("parcel table: no rows; make it by notebook 09_explore")
    people, kinds = sorted(table.subject.unique()), sorted(table.features.unique())
    labels = check_labels(atlas_img)
    every = {
        (who, what): participant_parcels(table, who, what, labels)
        for who in people
        for what in kinds
    }
    top = maps.scale_top(list(every.values()))
    widgets = parts.widgets_of(live)
    if widgets is None:
        who, what = people[0], kinds[0]
        return brain_still(every[who, what], atlas_img, f"{who}, {what}", simulated, top)
    person = parts.chooser(widgets, "participant", people)
    kind = parts.chooser(widgets, "features", kinds)
    page = widgets.HTML(layout=widgets.Layout(width="100%"))

    @lru_cache
    def framed(who, what):
        html = brain_view(every[who, what], atlas_img, f"{who}, {what}", simulated, top)
        return (
            f'<iframe title="cortex of {escape(who)}, {escape(what)}" srcdoc="{escape(html)}" '
            f'style="width: 100%; height: {FRAME_PX}px; border: 0"></iframe>'
        )

    def update(_=None):
        page.value = framed(person.value, kind.value)

    for each in (person, kind):
        each.observe(update, names="value")
    update()
    return widgets.VBox([person, kind, page], layout=widgets.Layout(width="100%"))


def brain_still(
    parcels: pd.DataFrame, atlas_img, title: str, simulated: bool, top: float | None = None
):
    """Both hemispheres from outside and inside.

    Parameters
    ----------
    parcels : pandas.DataFrame
        Columns label (of the atlas), r, q; one row per parcel.
    atlas_img : nibabel image
        Integer labels of the parcels in MNI space.
    title : str
        Whose, and of which model.
    simulated : bool
        Said in the figure.
    top : float or None
        r at the top of the scale; None: of these parcels.

    Returns
    -------
    figure : PaperFigure

    Raises
    ------
    CobeError
        There are no parcels, or one is not in the atlas.
    """
    _check(parcels, atlas_img)
    top = maps.scale_top([parcels]) if top is None else top
    plan = maps.layout(1)
    images = maps.atlas_views(atlas_img, plan)
    height = PANEL_MM * maps.PANEL_ASPECT
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + height + 4)
        words = f"{title}, {style.data_words(simulated)}"
        style.text_mm(figure, 2, 1.5, words, va="top", weight="bold")
        for _, side, view, column, _ in plan.places:
            left = 2 + column * (PANEL_MM + 1.5)
            axes = style.axes_mm(figure, left, TOP_MM, PANEL_MM, height, label=f"{side} {view}")
            axes.imshow(maps.map_rgba(images[side, view], parcels, top))
            axes.set_axis_off()
            axes.set_title(f"{side} {view}", fontsize=6)
        scale = style.axes_mm(figure, 164, TOP_MM + 3, 2, height - 4, label="scale")
        norm = mpl.colors.Normalize(0, top)
        bar = figure.colorbar(mpl.cm.ScalarMappable(norm, maps.map_colours()), cax=scale)
        bar.outline.set_linewidth(0.4)
        scale.set_title("r", fontsize=6, loc="left")
        style.text_mm(
            figure, 2, TOP_MM + height + 0.5, scale_words(parcels, top), va="top", fontsize=6
        )
    return figure


def scale_words(parcels: pd.DataFrame, top: float) -> str:
    """What the colours mean, and how many parcels have one."""
    survives = (parcels.q <= maps.Q_SURVIVES) & parcels.r.notna()
    below = int((survives & (parcels.r < 0)).sum())
    beyond = int((survives & (parcels.r > top)).sum())
    outside = f"; {below} below 0, {beyond} above the scale" if below or beyond else ""
    return (
        f"colour: r from 0 to {style.r_text(top)} in {int(survives.sum())} of {len(parcels)} "
        f"parcels{outside}; grey: q > .05; pale: no parcel"
    )


def brain_view(
    parcels: pd.DataFrame, atlas_img, title: str, simulated: bool, top: float | None = None
) -> str:
    """A page that holds all it needs and can be turned by mouse, finger or menu.

    It is the page that `nilearn.plotting.view_surf` fills with one mesh, filled with two, on
    fsaverage5 as it ships with nilearn. The function itself asks for the package plotly, of which
    it uses nothing; its page also asks a foreign host for an icon, which is taken out here.

    Parameters
    ----------
    parcels, atlas_img, title, simulated, top
        As of `brain_still`.

    Returns
    -------
    html : str
        A whole HTML document of some 2.7 MB: a menu of both hemispheres, the left and the right
        one, and a menu of views. No request leaves it.

    Raises
    ------
    CobeError
        As of `brain_still`; or nilearn's page is not what this function knows.
    """
    _check(parcels, atlas_img)
    top = maps.scale_top([parcels]) if top is None else top
    inflated = load_fsaverage("fsaverage5")["inflated"].parts
    info = {
        "cmin": 0.0,
        "cmax": top,
        "colorscale": _plotly_scale(),
        "colorbar": True,
        "cbar_height": 0.5,
        "cbar_fontsize": 14,
        "black_bg": False,
        "full_brain_mesh": True,
        "title": "",
        "title_fontsize": 14,
        "view": "left",
    }
    for side in SIDES:
        info[f"inflated_{side}"] = mesh_to_plotly(_apart(inflated[side], side))
        labels = _vertex_labels(atlas_img, side)
        info[f"vertexcolor_{side}"] = vertex_colours(labels, parcels, top)
    words = f"{title}, {style.data_words(simulated)}"
    page = get_template("html/plotting/surface_plot.jinja").render(
        page_title=escape(words), stat_map_json=json.dumps(info), **info
    )
    return _own_page(page, words, scale_words(parcels, top))


# one atlas serves many pages, and each projection of it takes seconds
@lru_cache(maxsize=2)
def _vertex_labels(atlas_img, side: str) -> np.ndarray:
    return maps.vertex_labels(atlas_img, side)


def vertex_colours(labels: np.ndarray, parcels: pd.DataFrame, top: float) -> list[str]:
    """The colour of every vertex as ``#rrggbb``.

    Parameters
    ----------
    labels : int array (n_vertices,)
        Atlas labels, from `cobe.report.maps.vertex_labels`.
    parcels, top
        As of `brain_still`.
    """
    # the colours of the figure's pixels, for an image of one block of pixels per label
    known = np.unique(labels)
    k = maps.SUPERSAMPLING
    blocks = np.repeat(np.repeat(known[None], k, axis=0), k, axis=1)
    hexes = [mpl.colors.to_hex(rgba) for rgba in maps.map_rgba(blocks, parcels, top)[0]]
    return [hexes[place] for place in np.searchsorted(known, labels)]


def _plotly_scale() -> list[tuple[float, str]]:
    steps = np.linspace(0, 1, 65)
    colours = maps.map_colours()(steps)
    return [(float(at), mpl.colors.to_hex(rgba)) for at, rgba in zip(steps, colours, strict=True)]


def _apart(mesh, side: str) -> InMemoryMesh:
    """A hemisphere moved sideways, so that the two do not lie in each other."""
    coordinates = np.array(mesh.coordinates, np.float32)
    inner = coordinates[:, 0].max() if side == "left" else coordinates[:, 0].min()
    coordinates[:, 0] += (-GAP_MM / 2 if side == "left" else GAP_MM / 2) - inner
    return InMemoryMesh(coordinates, mesh.faces)


# nilearn's script wants a mesh for each entry of its menu; both hemispheres are joined from the two
# in place of being sent twice
JOIN = """
(function () {
  const info = surfaceMapInfo; const both = {};
  for (const side of ['left', 'right']) decodeHemisphere(info, 'inflated', side);
  const left = info.inflated_left; const right = info.inflated_right;
  for (const a of ['x', 'y', 'z']) both[a] = [...left[a], ...right[a]];
  for (const a of ['i', 'j', 'k']) {
    both[a] = [...left[a], ...Array.from(right[a], (v) => v + left.x.length)];
  }
  info.inflated_both = both;
  info.vertexcolor_both = info.vertexcolor_left.concat(info.vertexcolor_right);
})();
"""
LOOK = """<style>
body { font-family: sans-serif; margin: 0; display: flex; flex-flow: row wrap; }
h1, p, #surface-plot { width: 100%; }
h1 { font-size: 1rem; margin: 0.4em; }
p { font-size: 0.8rem; margin: 0 0.5em 0.4em; }
select { font-size: 1rem; padding: 0.3em; margin-left: 0.4em; }
#surface-plot { order: 1; }
#select-kind { display: none; }
</style>"""


def _own_page(page: str, title: str, words: str) -> str:
    """nilearn's page without its icon from elsewhere, with both hemispheres, words and labels."""
    title, words = escape(title), escape(words)
    icon = re.search(r"<link rel=.icon.[^>]*>", page)
    plot = '<div id="surface-plot"></div>'
    described = f'role="img" aria-label="{title}: cortex that can be turned; {words}"'
    changes = {
        icon.group() if icon else "icon": "",
        "<title>Nilearn - ": "<title>",
        "</head>": f"{LOOK}</head>",
        "function makePlot (": f"{JOIN}function makePlot (",
        plot: f"<h1>{title}</h1><p>{words}</p>{plot[:-7]} {described}></div>",
    }
    for name in MENUS:
        menu = f'<select id="select-{name}"'
        changes[menu] = f'{menu} aria-label="{name}"'
    for old, new in changes.items():
        if old not in page:
            raise CobeError(
                f"nilearn's page of a surface has no {old!r}; install the version of nilearn that "
                "requirements.txt names"
            )
        page = page.replace(old, new)
    return page


def _check(parcels, atlas_img) -> None:
    require(parcels, ("label", "r", "q"), "parcels")
    if not len(parcels):
        raise CobeError("parcels: no rows; hand over those of one participant")
    if parcels.label.duplicated().any():
        raise CobeError("parcels: a label is there twice; hand over one participant and model")
    unknown = np.setdiff1d(parcels.label, np.asarray(atlas_img.dataobj))
    if len(unknown):
        raise CobeError(
            f"parcels: label {unknown[0]} is not in the atlas; hand over the atlas that the scores "
            "were made with"
        )
