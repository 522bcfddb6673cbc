"""What the paper mixes, taken apart: the cells that differ in one thing at a time.

``diversity``
    Equal frames, equal steps; the frames are spread over all participants, are the first of the
    list, or are all of one participant.
``updates``
    Equal frames, spread over all participants; as many steps for every data size, or as many passes
    over the data.
``noise``
    The base cell with other seeds, in every precision that the profile compares.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cobe.core.artifacts import Artifact
from cobe.core.config import Axis, Cell, Profile, axis_cells
from cobe.core.errors import CobeError
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.scores import scores
from cobe.video.tokenset import TokenSet
from cobe.video.windows import subset

SCHEMES = ("stratified", "prefix", "single")
UPDATES = ("steps", "epochs")


def arm_cells(profile: Profile) -> dict[str, list[tuple[Cell, str]]]:
    """The trained cells of every arm, with how their steps were set.

    Returns
    -------
    arms : dict
        Name of the arm to (cell, ``"steps"`` or ``"epochs"``); the base cell is in all of them. An
        arm whose axis the profile does not vary has the base cell alone.
    """
    axes = {axis.name: axis for axis in profile.axes}
    sizes = axes.get("data_size", Axis("data_size", "n_frames", (profile.base.n_frames,), ""))
    precisions = axes["precision"].levels if "precision" in axes else (profile.base.precision,)

    def cells(scheme: str, updates: str) -> list[tuple[Cell, str]]:
        how = replace(profile.protocol, scheme=scheme, updates=updates)
        return [(cell, updates) for cell in axis_cells(profile, sizes, how)]

    diverse = [pair for scheme in SCHEMES for pair in cells(scheme, "steps")]
    updated = [pair for updates in UPDATES for pair in cells("stratified", updates)]
    # the published figure changes both at once
    updated += cells("prefix", "epochs")
    repeats = [
        (replace(profile.base, seed=seed, precision=precision), "steps")
        for precision in precisions
        for seed in profile.seeds
    ]
    arms = {"diversity": diverse, "updates": updated, "noise": repeats}
    return {arm: list(dict.fromkeys(pairs)) for arm, pairs in arms.items()}


def arm_table(profile: Profile) -> pd.DataFrame:
    """One row per arm and cell.

    Returns
    -------
    table : DataFrame
        Columns arm, cell, n_frames, scheme, updates, n_steps, precision, seed.
    """
    rows = [
        {
            "arm": arm,
            "cell": cell.name,
            "n_frames": cell.n_frames,
            "scheme": cell.scheme,
            "updates": updates,
            "n_steps": cell.n_steps or profile.train.n_steps,
            "precision": cell.precision,
            "seed": cell.seed,
        }
        for arm, pairs in arm_cells(profile).items()
        for cell, updates in pairs
    ]
    return pd.DataFrame(rows)


def with_arm_scores(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    table: pd.DataFrame,
) -> pd.DataFrame:
    """A score table with the cells of all arms under the profile's protocol.

    Parameters
    ----------
    pipeline, tokenised, bold
        As for `cobe.sweep.scores.scores`.
    models : dict
        Cell to its model; cells of arms that are not in it stay out.
    table : DataFrame
        Score table of the paper's figures; what it holds is not scored again.

    Returns
    -------
    table : DataFrame
        The rows given, and those of the other cells.
    """
    known = set(table[table.protocol == pipeline.profile.protocol.name].cell)
    wanted = [cell for cell in all_arm_cells(pipeline.profile) if cell in models]
    missing = {cell: models[cell] for cell in wanted if cell.name not in known}
    if not missing:
        return table
    return pd.concat([table, scores(pipeline, tokenised, bold, missing, {})], ignore_index=True)


def all_arm_cells(profile: Profile) -> list[Cell]:
    """The cells of all arms, each once."""
    return list(dict.fromkeys(cell for pairs in arm_cells(profile).values() for cell, _ in pairs))


def reachable(data: TokenSet, cells: list[Cell]) -> tuple[list[Cell], dict[str, str]]:
    """The cells that there is video for, before any of them is trained.

    One participant alone, or the first of the list, may not have played as long as a level asks
    for.

    Returns
    -------
    kept : list of Cell
        In the order given.
    left_out : dict
        Name of each other cell to the reason.

    Raises
    ------
    CobeError
        No cell is left.
    """
    allowed = (data.clips.role == "video_train").to_numpy()
    kept, left_out = [], {}
    for cell in cells:
        try:
            subset(data.clips, cell.n_frames, cell.scheme, allowed=allowed)
        except CobeError as error:
            left_out[cell.name] = str(error)
        else:
            kept.append(cell)
    if not kept:
        name, reason = next(iter(left_out.items()))
        raise CobeError(f"all {len(cells)} cells are out of reach; first: {name}: {reason}")
    return kept, left_out
