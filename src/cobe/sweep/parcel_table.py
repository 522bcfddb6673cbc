"""The table of parcels: the base model and its untrained twin, from which brains are drawn."""

from __future__ import annotations

import pandas as pd

from cobe.core.config import Profile
from cobe.core.errors import CobeError

COLUMNS = "subject target features cell protocol r q chance_95 ceiling readout".split()
CAPTION = (
    "Correlation of held-out prediction and BOLD in every parcel (target, from 0), for the base "
    "model and the same model untrained, under the protocol corrected: whole sessions held out, "
    "the block (readout) chosen inside the training sessions; q: false discovery rate over the "
    "parcels of a participant; chance_95: 95th percentile of r under chance; ceiling: the r that "
    "the simulation allows, known for simulated participants only."
)


def parcel_table(
    scores: pd.DataFrame, profile: Profile, truth: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The base model and its untrained twin in every parcel, under the profile's protocol.

    Parameters
    ----------
    scores : DataFrame
        Score table that holds both.
    profile : Profile
        Which cell is the base, and which protocol.
    truth : DataFrame or None
        What the simulation wrote down: subject, parcel (from 1), ceiling. None for real data.

    Returns
    -------
    table : DataFrame
        One row per model, subject and parcel: subject, target (parcel from 0), features (``"gpt"``
        or ``"untrained"``), cell, protocol, r (held-out groups pooled), q, chance_95, ceiling (NaN
        without truth), readout (blocks that the folds chose).

    Raises
    ------
    CobeError
        The scores lack one of the models, hold a parcel twice, or the truth lacks a parcel.
    """
    kinds = {profile.base.name: "gpt", profile.base.untrained().name: "untrained"}
    rows = scores[
        (scores.summary == "target")
        & (scores.held_out == "all")
        & (scores.protocol == profile.protocol.name)
        & scores.cell.isin(list(kinds))
    ]
    for cell in kinds:
        mine = rows[rows.cell == cell]
        if mine.empty or mine.duplicated(["subject", "target"]).any():
            raise CobeError(
                f"scores: {len(mine)} rows of {cell} under {profile.protocol.name}; give each "
                "parcel once (cobe.sweep.scores.paper_scores)"
            )
    if truth is None:
        rows = rows.assign(ceiling=float("nan"))
    else:
        ceiling = truth.assign(target=truth.parcel - 1)[["subject", "target", "ceiling"]]
        rows = rows.merge(ceiling, on=["subject", "target"], how="left", validate="m:1")
        if rows.ceiling.isna().any():
            raise CobeError("truth: lacks scored parcels; give that of the same data")
    order = ["features", "subject", "target"]
    return rows.sort_values(order, ignore_index=True)[COLUMNS]
