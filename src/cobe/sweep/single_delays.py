"""One delay at a time: how well the features of a single volume, so long ago, predict BOLD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.errors import CobeError
from cobe.core.timing import TR_S
from cobe.encoding.delays import check_delays, delayed_rows
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, model_features, role_rows
from cobe.sweep.pipeline import Pipeline, load_bold
from cobe.sweep.scores import keys_by_subject, run_features, score_features

LONGEST_TR = 10
COLUMNS = ["subject", "delay_tr", "target", "r", "n_trs"]


def delays_that_fit(clips: pd.DataFrame) -> tuple[int, ...]:
    """All delays up to 10 volumes, or to a quarter of a typical repetition if that is shorter.

    The first volumes of a repetition have no past at the longest delay and do not count; so three
    quarters of a typical one do.

    Parameters
    ----------
    clips : DataFrame
        Target clips of the windows: subject, session, run, row, start_s, end_s.

    Returns
    -------
    delays_tr : tuple of int
        From 0, in volumes.
    """
    spans = clips.groupby(["subject", "session", "run", "row"]).agg(
        start_s=("start_s", "min"), end_s=("end_s", "max")
    )
    typical_tr = float((spans.end_s - spans.start_s).median()) / TR_S
    return tuple(range(min(LONGEST_TR, int(typical_tr // 4)) + 1))


def single_delays(
    features: np.ndarray | Mapping[str, np.ndarray],
    clips: pd.DataFrame,
    bold: dict[tuple, np.ndarray],
    protocol: Protocol,
    delays_tr: Sequence[int],
) -> pd.DataFrame:
    """Score each delay alone, all on the same volumes.

    A volume counts if features are there at every delay of the list: otherwise late delays would be
    scored on other volumes, such as those after a repetition, than early ones.

    Parameters
    ----------
    features, clips, bold, protocol
        As for `cobe.sweep.scores.score_features`; what is held out and how penalties and the block
        are chosen is the protocol's, its delays are not used.
    delays_tr : sequence of int
        Delays in volumes, 0 or more.

    Returns
    -------
    table : DataFrame
        One row per subject, delay and parcel: subject, delay_tr, target (parcel from 0), r
        (held-out groups pooled), n_trs (held-out volumes).

    Raises
    ------
    CobeError
        A delay is not valid, or no repetition of a participant is long enough for the longest one;
        or as from `cobe.encoding.evaluate`.
    """
    delays = check_delays(delays_tr)
    one = next(iter(features.values())) if isinstance(features, Mapping) else features
    seen = {}
    for subject, keys in keys_by_subject(clips, bold).items():
        for key in keys:
            present = np.isfinite(run_features(one, clips, key, len(bold[key]))).all(axis=1)
            rows = delayed_rows(present, delays)
            seen[key] = np.full(bold[key].shape, np.nan, np.float32)
            seen[key][rows] = bold[key][rows]
        if not any(np.isfinite(seen[key]).any() for key in keys):
            raise CobeError(
                f"{subject}: no volume has features {max(delays)} volumes back; shorten the delays"
            )
    tables = []
    for delay in delays:
        how = replace(protocol, delays_tr=(delay,))
        table = score_features(features, clips, seen, how, n_permutations=0, n_bootstrap=0)
        rows = table[(table.held_out == "all") & (table.summary == "target")]
        tables.append(rows.assign(delay_tr=delay)[COLUMNS])
    return pd.concat(tables, ignore_index=True)


def delay_table(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    cell: Cell,
) -> pd.DataFrame:
    """`single_delays` of one cell under the profile's protocol, made once.

    Delays are those of `delays_that_fit`.

    Parameters
    ----------
    pipeline, tokenised, bold, models
        As for `cobe.sweep.scores.scores`.
    cell : Cell
        Which of the models.

    Returns
    -------
    table : DataFrame
        As of `single_delays`.
    """
    protocol = pipeline.profile.protocol
    (source,) = model_features(pipeline, tokenised, {cell: models[cell]}, protocol).values()

    data = load_tokens(tokenised)
    clips = data.clips.loc[role_rows(data)]
    delays = delays_that_fit(clips)

    def write(path: Path):
        torch.set_num_threads(1)
        series = {key: load_bold(item) for key, item in bold.items()}
        single_delays(load_features(source), clips, series, protocol, delays).to_parquet(path)

    artifact = pipeline.store.make(
        f"explored/delays/{cell.name}",
        params={"protocol": protocol, "delays_tr": delays},
        inputs={"features": source, "tokens": tokenised}
        | {f"bold {key}": item for key, item in bold.items()},
        write=write,
        code=("cobe.sweep.single_delays",),
        suffix=".parquet",
    )
    return pd.read_parquet(artifact.path)
