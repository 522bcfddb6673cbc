"""One progress bar for every long step: honest remaining time, quiet where nobody looks."""

import os
import sys

from tqdm import tqdm


def progress(iterable=None, *, total=None, desc="", unit="it"):
    """A tqdm bar on stderr; drawn only on a terminal or in a notebook that asks for it.

    Parameters
    ----------
    iterable : iterable or None
        What to walk through; None gives a bar to `update` by hand.
    total : int or None
        Number of units, where the iterable cannot tell.
    desc, unit : str
        Words on the bar.

    Returns
    -------
    bar : tqdm.tqdm
    """
    wanted = os.environ.get("COBE_PROGRESS")
    shown = sys.stderr.isatty() if wanted is None else wanted == "1"
    return tqdm(iterable, total=total, desc=desc, unit=unit, disable=not shown, smoothing=0.1)
