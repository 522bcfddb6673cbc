"""Memorised against general: sessions that the video model has seen, and levels held out.

Two questions, each answered by a difference between the trained model and its untrained twin, so
that what a split adds to the score of any features cancels (what it multiplies does not):

- ``"seen sessions"`` against ``"unseen sessions"``: does training help more in the sessions that
  the video model was trained on? Same number of runs and of volumes per participant.
- ``"held-out level"`` against ``"held-out repetitions"``: does it help less in a level that the
  ridge has not seen? Both hold out whole repetitions inside runs with purged borders, and share
  runs between training and test; only the latter has every level in training.
"""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.artifacts import Artifact
from cobe.core.config import Protocol
from cobe.core.errors import CobeError
from cobe.core.timing import TR_S
from cobe.encoding import evaluate
from cobe.encoding.delays import delayed_rows
from cobe.encoding.splits import level_groups
from cobe.encoding.stats import Comparison, paired_comparison
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, role_rows
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.pipeline import Pipeline, load_bold
from cobe.sweep.protocols import protocol_options, quiet_edges
from cobe.sweep.scores import RunKey, keys_by_subject, run_features

SEEN, UNSEEN = "seen sessions", "unseen sessions"
LEVEL, REPETITIONS = "held-out level", "held-out repetitions"
SPLITS = (UNSEEN, SEEN, REPETITIONS, LEVEL)
COLUMNS = (
    "subject split features held_out pair r ci_low ci_high chance_95 n_trs n_train readout"
).split()
N_PERMUTATIONS = 200
"""For chance levels of a mean; no p-value is read off them."""

Played = namedtuple("Played", "level onset_s duration_s")
Readouts = Mapping[str, np.ndarray]


def seen_unseen(
    seen: tuple[Readouts, pd.DataFrame],
    unseen: tuple[Readouts, pd.DataFrame],
    bold: dict[tuple, np.ndarray],
    protocol: Protocol,
) -> pd.DataFrame:
    """Score one model in sessions that it was trained on and in others, on matched amounts.

    For every participant the longest run of one kind is paired with the longest of the other, and
    so on, until one kind has no more; the rest is left out. The longer run of a pair is cut after
    as many volumes as the shorter one has, counted with their delays. Each run is held out in turn,
    and the others of its kind train. A run that is cut below two blocks of the protocol is only
    rotated in the permutations that the chance level comes from.

    Parameters
    ----------
    seen, unseen : tuple of (dict of str to float32 (n_windows, n_features), DataFrame)
        Readouts of the model, such as its blocks, of which one is chosen inside the training rows;
        and the windows' target clips: subject, session, run, start_s, end_s.
    bold : dict
        (subject, session, run) to float32 (n_trs, n_parcels), of both kinds.
    protocol : Protocol
        Delays and penalties; what is held out is a run, whatever it says.

    Returns
    -------
    table : DataFrame
        `COLUMNS` without features. One row per participant, split and held-out run, and over
        ``"all"``: r, mean over parcels, with 95 % interval and chance level for ``"all"`` only;
        n_trs, held-out volumes; n_train, training volumes (mean over folds for ``"all"``);
        ``pair``, the number of the pair, -1 for ``"all"``.

    Raises
    ------
    CobeError
        A session is of both kinds, or a participant has no BOLD of one, or fewer than two pairs.
    """
    kinds = {SEEN: seen, UNSEEN: unseen}
    keys = {split: keys_by_subject(clips, bold) for split, (_, clips) in kinds.items()}
    sessions = {
        split: {key[:2] for own in found.values() for key in own} for split, found in keys.items()
    }
    shared = sorted(sessions[SEEN] & sessions[UNSEEN])
    if shared:
        named = ", ".join("/".join(key) for key in shared)
        raise CobeError(f"sessions {named}: seen by the video model and unseen; give each one kind")
    single = sorted(keys[SEEN].keys() ^ keys[UNSEEN].keys())
    if single or not keys[SEEN]:
        raise CobeError(
            f"{', '.join(single) or 'clips'}: BOLD of seen and of unseen sessions is needed, and "
            "one is not there; give both, or leave the participant out"
        )
    tables = []
    for subject in keys[SEEN]:
        matched = _match(
            {
                split: {
                    key: _readouts_of_run(*kinds[split], key, len(bold[key]))
                    for key in keys[split][subject]
                }
                for split in kinds
            },
            protocol,
        )
        for split, runs in matched.items():
            if len(runs) < 2:
                raise CobeError(
                    f"{subject}: {len(runs)} pairs of a seen and an unseen run; at least 2 are "
                    "needed to hold one out"
                )
            labels = [f"{key[1]}_run-{key[2]:02d}" for key in runs]
            table = _evaluate(runs, bold, labels, protocol)
            tables.append(table.assign(subject=subject, split=split))
    return pd.concat(tables, ignore_index=True)


def _readouts_of_run(features: Readouts, clips: pd.DataFrame, key: tuple, n_trs: int) -> dict:
    return {name: run_features(values, clips, key, n_trs) for name, values in features.items()}


def _match(runs: dict[str, dict[tuple, dict]], protocol: Protocol) -> dict[str, dict[tuple, dict]]:
    """Equally many runs of each kind, and in each pair equally many volumes that count."""
    rows = {
        split: {
            key: delayed_rows(~np.isnan(next(iter(x.values()))).any(axis=1), protocol.delays_tr)
            for key, x in own.items()
        }
        for split, own in runs.items()
    }
    ordered = {
        split: sorted((key for key in own if len(own[key])), key=lambda key: (-len(own[key]), key))
        for split, own in rows.items()
    }
    matched: dict[str, dict] = {split: {} for split in runs}
    for pair in zip(*ordered.values(), strict=False):
        n = min(len(rows[split][key]) for split, key in zip(runs, pair, strict=True))
        for split, key in zip(runs, pair, strict=True):
            # the last row that counts looks back at the volume before `end` and at older ones
            end = rows[split][key][n - 1] - min(protocol.delays_tr) + 1
            cut = {name: x.copy() for name, x in runs[split][key].items()}
            for x in cut.values():
                x[end:] = np.nan
            matched[split][key] = cut
    return matched


def held_out_levels(
    readouts: Readouts, clips: pd.DataFrame, bold: dict[tuple, np.ndarray], protocol: Protocol
) -> pd.DataFrame:
    """Score one model on levels that the ridge has not seen, and on repetitions of levels it has.

    Each level is held out in turn. Beside it the same repetitions are dealt into as many groups,
    those of each level in turn, so that every group has repetitions of all levels where there are
    enough, and training has them too. Both splits hold out whole repetitions of runs that also
    train, with the same purged borders; what differs is whether the level is new.

    Parameters
    ----------
    readouts : dict of str to float32 (n_windows, n_features)
        As for `seen_unseen`.
    clips : DataFrame
        Target clips of the windows: subject, session, run, row, level, start_s, end_s.
    bold, protocol
        As for `seen_unseen`.

    Returns
    -------
    table : DataFrame
        As of `seen_unseen`; ``pair`` numbers the folds of a participant.

    Raises
    ------
    CobeError
        A participant played a single level, or as from `cobe.encoding.evaluate`.
    """
    tables = []
    for subject, keys in keys_by_subject(clips, bold).items():
        runs = {key: _readouts_of_run(readouts, clips, key, len(bold[key])) for key in keys}
        played = {key: _repetitions(clips, key) for key in keys}
        levels = sorted({rep.level for reps in played.values() for rep in reps})
        if len(levels) < 2:
            raise CobeError(f"{subject}: only level {levels[0]} was played; none can be held out")
        dealt = _dealt(played, levels)
        for split, reps in ((LEVEL, played), (REPETITIONS, dealt)):
            groups = [level_groups(reps[key], len(bold[key]), TR_S) for key in keys]
            table = _evaluate(runs, bold, groups, protocol)
            tables.append(table.assign(subject=subject, split=split))
    return pd.concat(tables, ignore_index=True)


def _dealt(played: dict[tuple, list[Played]], levels: list[str]) -> dict[tuple, list[Played]]:
    """The same repetitions in as many parts as there are levels: those of a level go round."""
    turn = {level: i for i, level in enumerate(levels)}
    dealt = {}
    for key, reps in played.items():
        dealt[key] = []
        for rep in reps:
            part = f"part {turn[rep.level] % len(levels) + 1}"
            turn[rep.level] += 1
            dealt[key].append(rep._replace(level=part))
    return dealt


def _repetitions(clips: pd.DataFrame, key: tuple) -> list[Played]:
    """The repetitions of one run as far as windows show them, in order of time."""
    subject, session, run = key
    own = clips[(clips.subject == subject) & (clips.session == session) & (clips.run == run)]
    spans = own.groupby("row").agg(
        level=("level", "first"), start_s=("start_s", "min"), end_s=("end_s", "max")
    )
    return [
        Played(str(row.level), row.start_s, row.end_s - row.start_s)
        for row in spans.sort_values("start_s").itertuples()
    ]


def _evaluate(runs: dict[tuple, dict], bold, groups: list, protocol: Protocol) -> pd.DataFrame:
    """Mean r over parcels, of all held-out rows and of every group: `COLUMNS` as far as known."""
    by_run = replace(protocol, holdout="run")
    options = protocol_options(by_run, [RunKey(*key) for key in runs])
    options |= {"groups": groups, "n_permutations": min(N_PERMUTATIONS, protocol.n_permutations)}
    names = next(iter(runs.values()))
    runs_x = {name: [x[name] for x in runs.values()] for name in names}
    with quiet_edges():
        warnings.filterwarnings("ignore", message="run .* fewer than two blocks")
        table = evaluate(runs_x, [bold[key] for key in runs], **options)
    folds = {fold["held_out"]: (i, fold) for i, fold in enumerate(table.attrs["folds"])}
    n_train = {held_out: fold["n_train"] for held_out, (_, fold) in folds.items()}
    n_train["all"] = round(np.mean(list(n_train.values())))
    pair = {held_out: i for held_out, (i, _) in folds.items()} | {"all": -1}
    table = table[table.summary == "mean"]
    return table.assign(n_train=table.held_out.map(n_train), pair=table.held_out.map(pair)).reindex(
        columns=[name for name in COLUMNS if name not in ("subject", "split", "features")]
    )


def generality_table(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    unseen: dict[str, Artifact],
    seen: dict[str, Artifact],
) -> pd.DataFrame:
    """`seen_unseen` and `held_out_levels` of several models; what is there is reused.

    The validation repetition of a video session was not trained on and is in neither kind. A
    participant without BOLD of both kinds is announced and left out.

    Parameters
    ----------
    pipeline : Pipeline
        Whose store and protocol are used.
    tokenised, bold : Artifact, dict of Artifact
        Tokens, and the parcel series of every run, those of the video sessions among them.
    unseen, seen : dict of str to Artifact
        ``"gpt"`` and ``"untrained"`` to features of the windows of role ``"ridge"`` and
        ``"video_train"`` (`cobe.sweep.features.model_features`).

    Returns
    -------
    table : DataFrame
        `COLUMNS`.

    Raises
    ------
    CobeError
        The two do not hold the same models, or as from `seen_unseen` and `held_out_levels`.
    """
    if unseen.keys() != seen.keys():
        raise CobeError(
            f"features: {', '.join(unseen)} of unseen sessions and {', '.join(seen)} of seen ones; "
            "give the same models"
        )
    protocol, jobs = pipeline.profile.protocol, []
    clips = load_tokens(tokenised).clips
    for subject in sorted({key[0] for key in bold}):
        of_both = all(
            subject in keys_by_subject(clips[clips.role == role], bold)
            for role in ("video_train", "ridge")
        )
        if not of_both:
            pipeline.store.announce(
                f"memorised or general: {subject} left out: no BOLD of both its video sessions and "
                "its other ones"
            )
            continue
        own = {key: item for key, item in bold.items() if key[0] == subject}
        series = {f"bold {key}": item for key, item in own.items()}
        jobs += [
            Job(
                f"generality/{subject}/{name}",
                _write_generality,
                (name, protocol, unseen[name], seen[name], tokenised, own),
                params={"protocol": protocol, "features": name},
                inputs={"tokens": tokenised, "unseen": unseen[name], "seen": seen[name]} | series,
                code=("cobe.sweep.generality",),
                suffix=".parquet",
            )
            for name in unseen
        ]
    failures: dict[str, str] = {}
    made = make_all(pipeline.store, jobs, "memorised or general", "model", failures)
    for name, reason in failures.items():
        pipeline.store.announce(f"{name}: left out: {reason}")
    found = [pd.read_parquet(item.path) for item in made if item is not None]
    if not found:
        reason = next(iter(failures.values()), "no participant has BOLD of both kinds of sessions")
        raise CobeError(f"memorised or general: nothing can be compared: {reason}")
    return pd.concat(found, ignore_index=True)


def _write_generality(
    path: Path,
    name: str,
    protocol: Protocol,
    unseen: Artifact,
    seen: Artifact,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
) -> None:
    torch.set_num_threads(1)
    data = load_tokens(tokenised)
    series = {key: load_bold(item) for key, item in bold.items()}
    pairs = [
        (load_features(item), data.clips.loc[role_rows(data, role)])
        for item, role in ((seen, "video_train"), (unseen, "ridge"))
    ]
    tables = [seen_unseen(*pairs, series, protocol), held_out_levels(*pairs[1], series, protocol)]
    table = pd.concat(tables, ignore_index=True).assign(features=name)
    table.reindex(columns=list(COLUMNS)).to_parquet(path)


def training_gain(table: pd.DataFrame, split: str) -> pd.Series:
    """Trained minus untrained in every held-out unit of one split.

    Returns
    -------
    gain : Series
        Mean r of ``"gpt"`` minus that of ``"untrained"``, indexed by subject and pair.

    Raises
    ------
    CobeError
        The table lacks the split or one of the two models, or has a unit twice.
    """
    units = table[(table.split == split) & (table.held_out != "all")]
    by = {
        name: units[units.features == name].set_index(["subject", "pair"]).r
        for name in ("gpt", "untrained")
    }
    trained, untrained = by["gpt"], by["untrained"]
    if not len(trained) or set(trained.index) != set(untrained.index):
        raise CobeError(
            f"{split}: {len(trained)} units of the trained and {len(untrained)} of the untrained "
            "model; make the table of both"
        )
    if not (trained.index.is_unique and untrained.index.is_unique):
        raise CobeError(f"{split}: a unit is there twice; keep one table")
    return trained - untrained.reindex(trained.index)


def difference_of_gains(table: pd.DataFrame, first: str, second: str) -> Comparison:
    """How much more training gains in the first split than in the second, over pairs of units.

    Pairs are of one participant: runs of matched length, or folds of the same number. `SEEN` minus
    `UNSEEN` above zero is memorised; `REPETITIONS` minus `LEVEL` above zero is what training gives
    only in levels that the ridge knows.

    Raises
    ------
    CobeError
        As from `training_gain` and `cobe.encoding.stats.paired_comparison`.
    """
    return paired_comparison(training_gain(table, first), training_gain(table, second))
