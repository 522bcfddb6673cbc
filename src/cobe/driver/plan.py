"""What a run is made of: the figures asked for, and the notebooks that draw them."""

from __future__ import annotations

from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.core.paths import build_dir, figures_dir
from cobe.course.scripts import read_script
from cobe.driver.notebooks import check_parameters, declared_parameters
from cobe.driver.notebooks import scripts as notebook_scripts
from cobe.driver.steps import Step
from cobe.report.manifest import GROUPS, figure_names

# the notebook that draws each group of figures, and what has to run before it
DRAWN_BY = {
    "paper": "05_paper_figures",
    "scaling": "06_compute_optimal",
    "audit": "07_audit",
    "throughput": "08_throughput",
}
BEFORE_ALL = ("01_data", "02_vqvae")
BEFORE_PAPER = ("03_gpt_training", "04_encoding")
# with the whole default only: these draw no group of figures, and the second writes a table
TOUR, EXPLORE = "00_tour", "09_explore"


def chosen_figures(profile: Profile, only: str) -> list[str]:
    """Names of the figures to make: those of the default, or what is asked for.

    Parameters
    ----------
    profile : Profile
        Whose axes.
    only : str
        Names of groups, or of figures or how these begin, with commas between.

    Raises
    ------
    CobeError
        A word fits no figure.
    """
    if not only:
        return figure_names(profile)
    names = figure_names(profile, GROUPS)
    chosen = []
    for word in only.split(","):
        hits = [n for n in names if n == word or n.startswith(f"{word}_")]
        if word in GROUPS:
            hits = figure_names(profile, [word])
        if not hits:
            raise CobeError(
                f"--only {word!r}: no such figure; choose from {', '.join((*GROUPS, *names))}"
            )
        chosen += hits
    return list(dict.fromkeys(chosen))


def plan(profile: Profile, data: str, figures: list[str]) -> list[Step]:
    """The steps of a run, with every parameter checked before the first one starts."""
    everything = figures == figure_names(profile)
    asked = {group: [n for n in figures if n in GROUPS[group]] for group in GROUPS}
    drawing = {DRAWN_BY[group]: names for group, names in asked.items() if names}
    wanted_stems = {*BEFORE_ALL, *drawing}
    wanted_stems |= {*BEFORE_PAPER} if asked["paper"] else set()
    wanted_stems |= {TOUR, EXPLORE} if everything else set()
    axes = [
        axis.name
        for axis in profile.axes
        if everything or any(axis.name in name for name in asked["paper"])
    ]
    steps = []
    for script in notebook_scripts():
        if script.stem not in wanted_stems:
            continue
        wanted = {"profile": profile.name, "data": data, "axes": axes}
        wanted["figures"] = drawing.get(script.stem, [])
        defaults = declared_parameters(read_script(script), script.stem)
        given = {key: value for key, value in wanted.items() if key in defaults}
        check_parameters(given, defaults, script.stem)
        products = figures_dir(profile.name) if script.stem in {*drawing, EXPLORE} else None
        steps.append(Step(script, given, build_dir(profile.name), products, profile))
    return steps
