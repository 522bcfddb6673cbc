"""Learned against given: what every band of features explains that all others together do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.artifacts import Artifact
from cobe.core.config import Protocol
from cobe.core.errors import CobeError
from cobe.core.timing import TR_S
from cobe.encoding import Reduction, evaluate, unique_variance
from cobe.encoding.controls import level_and_time
from cobe.encoding.stats import paired_comparison
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import MIXED_UNITS, load_features, ridge_data
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.protocols import protocol_options, quiet_edges
from cobe.sweep.scores import RunKey, keys_by_subject, run_features

LEARNED = "gpt"
LEVEL_AND_TIME = "level_and_time"
BANDS = (LEARNED, "untrained", "vq", "pixel_pca", "lowlevel", "buttons", LEVEL_AND_TIME)
Q_FOUND = 0.05
EXPECTED = {
    "low": ("lowlevel", "pixel_pca"),
    "object": (LEARNED,),
    "threat": (LEARNED,),
    "relation": (LEARNED,),
    "motor": ("buttons",),
    "event": (LEARNED,),
    "anticipation": (LEARNED,),
    "null": (),
}
"""Bands that a planted region might be won by. For those with one learned band this is a hope: the
drivers are on the screen, and simpler features may carry them as well."""


def scaled_band(name: str, features: np.ndarray) -> np.ndarray:
    """One band on the scale that all bands share: total variance 1 over all windows.

    Band weights and penalties are searched on one grid for all bands, so none may be louder for its
    units. Components of one kind keep their variances relative to each other; columns in units of
    their own (`cobe.sweep.features.MIXED_UNITS`, level and time) get variance 1 each before. No
    response enters these numbers.

    Parameters
    ----------
    name : str
        Name of the band.
    features : float32 (n_windows, n_features)

    Returns
    -------
    scaled : float32 (n_windows, n_features)

    Raises
    ------
    CobeError
        No column changes.
    """
    centred = features - features.mean(axis=0, dtype=float)
    if name in (*MIXED_UNITS, LEVEL_AND_TIME):
        spread = centred.std(axis=0)
        centred = centred / np.where(spread > 1e-9 * spread.max(), spread, np.inf)
    total = centred.var(axis=0).sum()
    if not total > 0:
        raise CobeError(f"band {name!r}: no feature changes in {len(features)} windows; leave out")
    return (centred / np.sqrt(total)).astype(np.float32)


def unique_by_band(
    features: Mapping[str, np.ndarray],
    clips: pd.DataFrame,
    bold: dict[tuple, np.ndarray],
    protocol: Protocol,
    bands: tuple[str, ...] | None = None,
) -> pd.DataFrame:
    """What each band explains beyond all others, per participant and parcel.

    Every band is scaled (`scaled_band`) and brought to as many principal components as the protocol
    gives every model, or keeps its width where it is narrower. They are fitted in each fold on the
    volumes that its training rows look at. With fewer components a band would be credited with
    what the others lost by being cut.
    The search is the smallest that is fair: equal weights for all bands, each band alone, equal
    weights for the controls. Delays, penalties (in units of the mean variance of all columns), what
    is held out and permutations are the protocol's.

    Parameters
    ----------
    features : mapping of str to float32 (n_windows, n_features)
        One row per row of `clips`; two bands or more.
    clips : DataFrame
        Target clips of the windows: subject, session, run, start_s, end_s.
    bold : dict
        (subject, session, run) to float32 (n_trs, n_parcels).
    protocol : Protocol
        Held-out sessions or runs; a random split of volumes is refused.
    bands : tuple of str or None
        Those to report; all others are controls all the same. None: each in turn.

    Returns
    -------
    table : DataFrame
        The columns of `cobe.encoding.unique.unique_variance`; subject; n_components of the band;
        ``r2_alone``, the held-out R2 of the band without any other; ``found``: q < .05, False in
        summaries and single groups, which have no q.

    Raises
    ------
    CobeError
        Rows do not fit the clips, a band is unknown or does not change, the protocol splits
        volumes at random, or as from `cobe.encoding.unique.unique_variance`.
    """
    _check(features, clips, protocol)
    unknown = sorted(set(bands or ()) - set(features))
    if unknown:
        raise CobeError(f"band {unknown[0]!r}: not among {', '.join(features)}; give its features")
    scaled = {name: scaled_band(name, values) for name, values in features.items()}
    reduce = {name: _reduction(values, protocol) for name, values in scaled.items()}
    # in units of the mean variance of all columns, the same with and without the band: penalties
    # relative to each model's own columns differ a little, and useless predictions that are shrunk
    # a little more are better in every block, which the paired test takes for a finding
    unit = len(reduce) / sum(reduction.n_components for reduction in reduce.values())
    alphas = tuple(unit * alpha for alpha in protocol.alphas)
    tables = []
    for subject, keys in keys_by_subject(clips, bold).items():
        options = protocol_options(protocol, [RunKey(*key) for key in keys])
        del options["alpha_per_target"], options["relative_alphas"]
        options |= {"alphas": alphas}
        runs_y = [bold[key] for key in keys]
        runs_x = {
            name: [run_features(values, clips, key, len(bold[key])) for key in keys]
            for name, values in scaled.items()
        }
        for band in bands or features:
            with quiet_edges():
                table = unique_variance(
                    runs_x,
                    runs_y,
                    band=band,
                    reduce=reduce,
                    band_weights=len(features) + 1,
                    **options,
                )
                alone = evaluate(
                    runs_x[band],
                    runs_y,
                    reduce=reduce[band],
                    **options | {"n_permutations": 0},
                    n_bootstrap=0,
                )
            about = {"subject": subject, "n_components": reduce[band].n_components}
            tables.append(_with_alone(table, alone).assign(**about))
    return pd.concat(tables, ignore_index=True)


def _check(features, clips, protocol: Protocol) -> None:
    for name, values in features.items():
        if values.ndim != 2 or len(values) != len(clips):
            raise CobeError(
                f"band {name!r}: shape {values.shape} for {len(clips)} clips; give one row per clip"
            )
    if protocol.holdout == "volumes":
        raise CobeError(
            f"protocol {protocol.name!r}: holds out volumes at random, which leaks; unique "
            "variance needs held-out sessions or runs"
        )


def _reduction(values: np.ndarray, protocol: Protocol) -> Reduction:
    n_changing = int((values.std(axis=0) > 0).sum())
    return Reduction("pca", min(protocol.n_features or n_changing, n_changing), scale=False)


def _with_alone(table: pd.DataFrame, alone: pd.DataFrame) -> pd.DataFrame:
    keys = ["target", "summary", "held_out"]
    alone = alone[[*keys, "r2"]].rename(columns={"r2": "r2_alone"})
    table = table.merge(alone, on=keys, how="left", validate="1:1")
    return table.assign(found=table.q < Q_FOUND)


def level_and_time_band(clips: pd.DataFrame, bold: dict[tuple, np.ndarray]) -> np.ndarray:
    """The level and the time of every clip, scaled by the longest run: float32 (n_windows, k)."""
    run_s = TR_S * max(len(series) for series in bold.values())
    return level_and_time(clips, sorted(clips["level"].unique()), run_s)


def read_band(artifact: Artifact) -> np.ndarray:
    """All features of an artifact side by side, such as a model's blocks: (n_windows, n)."""
    return np.concatenate(list(load_features(artifact).values()), axis=1)


def band_table(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    features: dict[str, Artifact],
) -> pd.DataFrame:
    """`unique_by_band` on the ridge's windows, several jobs at a time; what is there is reused.

    Parameters
    ----------
    pipeline : Pipeline
        Whose store and protocol are used.
    tokenised, bold : Artifact, dict of Artifact
        Tokens, and the parcel series of every run.
    features : dict of str to Artifact
        The bands by name: features of the trained base model (``"gpt"``), of its untrained twin
        (``"untrained"``) and of the controls. All blocks of a model are one band. The level and the
        time are added here.

    Returns
    -------
    table : DataFrame
        As of `unique_by_band`.
    """
    clips = load_tokens(tokenised).clips
    subjects = clips[clips.role == "ridge"].subject.unique()
    protocol = pipeline.profile.protocol
    jobs = []
    for subject in sorted(set(subjects) & {key[0] for key in bold}):
        own = {key: item for key, item in bold.items() if key[0] == subject}
        series = {f"bold {key}": item for key, item in own.items()}
        jobs += [
            Job(
                f"bands/{subject}/{band}",
                _write_band,
                (band, protocol, features, tokenised, own),
                params={"protocol": protocol, "band": band, "bands": list(features)},
                inputs={"tokens": tokenised} | features | series,
                code=("cobe.sweep.bands",),
                suffix=".parquet",
            )
            for band in (*features, LEVEL_AND_TIME)
        ]
    made = make_all(pipeline.store, jobs, "unique variance", "band")
    return pd.concat([pd.read_parquet(item.path) for item in made], ignore_index=True)


def _write_band(
    path: Path,
    band: str,
    protocol: Protocol,
    features: dict[str, Artifact],
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
) -> None:
    torch.set_num_threads(1)
    clips, series = ridge_data(load_tokens(tokenised), bold)
    bands = {name: read_band(item) for name, item in features.items()}
    bands[LEVEL_AND_TIME] = level_and_time_band(clips, series)
    unique_by_band(bands, clips, series, protocol, (band,)).to_parquet(path)


def band_winners(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Which band has the largest unique variance in the parcels of each planted region.

    Parameters
    ----------
    table : DataFrame
        As of `unique_by_band`.
    truth : DataFrame
        The simulation's parcels: subject, parcel (from 1; target + 1), region.

    Returns
    -------
    winners : DataFrame
        One row per region: region; n_parcels (over participants); ``winner``, the band with the
        largest mean ``delta_r2`` over the region's parcels, participants and held-out groups;
        ``delta_r2``, ``ci_low``, ``ci_high`` (95 %, resampling pairs of participant and group) and
        ``share_found`` (of parcels) of the winner; ``second`` and ``second_delta_r2``;
        ``expected``, bands of `EXPECTED`, comma between; ``as_expected``: the winner is one of them
        and its interval is above 0, or, where nothing was planted, no band was found in any parcel.
    """
    units, parcels = region_units(table, truth), parcel_regions(table, truth)
    rows = []
    for region, here in parcels.groupby("region"):
        gain = (units.r2_full - units.r2_controls)[region].groupby("band").mean()
        gain = gain.sort_values(ascending=False)
        winner, expected = gain.index[0], EXPECTED.get(region, ())
        own = units.loc[region, winner]
        over_units = paired_comparison(own.r2_full, own.r2_controls)
        kept = winner in expected and over_units.ci_low > 0 if expected else not here.found.any()
        rows.append(
            {
                "region": region,
                "n_parcels": len(here) // len(gain),
                "winner": winner,
                "delta_r2": over_units.difference,
                "ci_low": over_units.ci_low,
                "ci_high": over_units.ci_high,
                "share_found": here[here.band == winner].found.mean(),
                "second": gain.index[1],
                "second_delta_r2": gain.iloc[1],
                "expected": ", ".join(expected),
                "as_expected": bool(kept),
            }
        )
    return pd.DataFrame(rows)


def region_units(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Means over the parcels of each region, in every held-out group of every participant.

    Returns
    -------
    units : DataFrame
        Indexed by region, band, subject and held_out; columns r2_full, r2_controls, r2_alone.
    """
    single = table[(table.held_out != "all") & (table.summary == "target")]
    return (
        planted_regions(single, truth)
        .groupby(["region", "band", "subject", "held_out"])[["r2_full", "r2_controls", "r2_alone"]]
        .mean()
    )


def parcel_regions(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The rows of single parcels over all held-out rows, with the planted region."""
    parcels = table[(table.summary == "target") & (table.held_out == "all")]
    return planted_regions(parcels, truth)


def planted_regions(parcels: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Rows of parcels with the planted region.

    Raises
    ------
    CobeError
        A parcel has no planted region: the two tables are of different simulations.
    """
    planted = truth.assign(target=truth.parcel - 1)[["subject", "target", "region"]]
    joined = parcels.merge(planted, on=["subject", "target"], how="left", validate="m:1")
    if joined.region.isna().any():
        raise CobeError(
            f"planted regions: {int(joined.region.isna().sum())} rows of the band table have "
            "none; give the parcels of the same simulation"
        )
    return joined
