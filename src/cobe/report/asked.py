"""What a notebook was asked for, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.report.manifest import GROUPS


def check_asked(
    profile: Profile,
    *,
    axes: Sequence[str] = (),
    figures: Sequence[str] = (),
    group: str = "paper",
) -> None:
    """Refuse axes and figures that are not known.

    For the parameters of notebooks, which anybody may edit: a misspelt figure would not be drawn,
    without a word, and a misspelt axis be noticed after minutes of training.

    Parameters
    ----------
    profile : Profile
        Whose axes.
    axes, figures : sequence of str
        Their names.
    group : str
        The figures' group in `cobe.report.manifest.GROUPS`.

    Raises
    ------
    CobeError
        Naming the parameter, the name, and those to choose from.
    """
    known = {"axes": [axis.name for axis in profile.axes], "figures": GROUPS[group]}
    for parameter, names in (("axes", axes), ("figures", figures)):
        if isinstance(names, str):
            raise CobeError(f"{parameter} = {names!r}: give a list, [{names!r}]")
        for name in names:
            if name not in known[parameter]:
                raise CobeError(
                    f"{parameter} = {list(names)}: {name!r} is unknown; choose from "
                    f"{', '.join(known[parameter])}"
                )
