"""Train one GPT cell from its tokens, on one process or several.

``accelerate launch --multi_gpu --num_processes 4 -m cobe.video.train_cell --tokens TOKENS
--out DIR --profile paper --cell hidden=1024,precision=bf16``

All that a GPU machine needs of a dataset is its tokens: the one file of `cobe.video.tokenset`, or
the folder of the sweep's tokens stage. ``python -m cobe.video.train_cell`` is the same run on one
process. The same ``accelerate launch`` starts several processes where there is no GPU, with
``--device cpu``. An interrupted run resumes from ``OUT/checkpoint.safetensors``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

from accelerate import PartialState

from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES, get_profile
from cobe.video.steplog import StepLog
from cobe.video.tokenset import TokenSet, open_token_set
from cobe.video.train import train_gpt
from cobe.video.windows import subset


def with_changes(settings, text: str):
    """A copy of a dataclass with ``name=value,name=value`` changed.

    Parameters
    ----------
    settings : dataclass
        Its values tell the types: int, float, bool (``True`` or ``False``) or str.
    text : str
        The changes; may be empty.

    Raises
    ------
    CobeError
        A name that the dataclass does not have, or a value of another type.
    """
    kinds = {f.name: type(getattr(settings, f.name)) for f in fields(settings)}
    changes = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in kinds:
            raise CobeError(
                f"{part!r}: {type(settings).__name__} has no {name!r}; "
                f"choose from {', '.join(kinds)}"
            )
        try:
            kind = (
                {"True": True, "False": False}.__getitem__ if kinds[name] is bool else kinds[name]
            )
            changes[name] = kind(value)
        except (KeyError, ValueError) as error:
            raise CobeError(
                f"{part!r}: {type(settings).__name__}.{name} is of type {kinds[name].__name__}; "
                "give such a value"
            ) from error
    return replace(settings, **changes)


def train_cell(cell, cfg, tokens: Path, out: Path, device: str | None = None) -> dict:
    """Train a cell from tokens and write what comes of it; `train_gpt` has the details.

    Parameters
    ----------
    cell : Cell
        The cell.
    cfg : TrainConfig
        Its training.
    tokens : Path
        A token set (`cobe.video.tokenset`) whose clip table has a column ``role``.
    out : Path
        Folder to write, from the main process alone: ``model/``, ``log.parquet`` (a row per
        validation), ``steps.parquet`` (a row per step), ``run.json`` (cell, training, timing) and,
        while it trains, ``checkpoint.safetensors``, which holds the last weights.
    device : str or None
        ``"cpu"`` or ``"cuda"``; None: a GPU where there is one.

    Returns
    -------
    timing : dict
        As of `train_gpt`.
    """
    data = _read(tokens)
    allowed = (data.clips.role == "video_train").to_numpy()
    train_rows = subset(data.clips, cell.n_frames, cell.scheme, allowed=allowed)
    steps = StepLog()
    model, log, timing = train_gpt(
        cell,
        cfg,
        data.codes,
        data.codebook,
        train_rows,
        data.windows_with_role("video_val"),
        out / "checkpoint.safetensors",
        device=device,
        step_log=steps,
    )
    if PartialState().is_main_process:
        model.save_pretrained(out / "model")
        log.to_parquet(out / "log.parquet")
        steps.table().to_parquet(out / "steps.parquet")
        run = {"cell": asdict(cell), "train": asdict(cfg), "timing": timing}
        (out / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    return timing


def _read(path: Path) -> TokenSet:
    """The token set, with the column that says what is trained on."""
    made = open_token_set(path)
    if "role" not in made.clips:
        raise CobeError(
            f"{path}: its clip table has no column 'role', which says what is trained on "
            "('video_train') and validated on ('video_val'); write it with that column"
        )
    return made


def main(argv=None) -> int:
    """Command line: train, print the timing as JSON, return the exit status."""
    summary = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m cobe.video.train_cell", description=summary)
    parser.add_argument("--tokens", type=Path, required=True, help="token set (one file)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--profile", choices=PROFILES, default="paper", help="what to start from")
    parser.add_argument("--cell", default="", help="changes to its base cell, such as hidden=1024")
    parser.add_argument("--train", default="", help="changes to its training, such as n_steps=100")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    options = parser.parse_args(argv)
    try:
        profile = get_profile(options.profile)
        cell = with_changes(profile.base, options.cell)
        cfg = with_changes(profile.train, options.train)
        timing = train_cell(cell, cfg, options.tokens, options.out, options.device)
    except CobeError as error:
        print(error, file=sys.stderr)
        return 2
    if PartialState().is_main_process:
        print(json.dumps(timing))
    return 0


if __name__ == "__main__":
    sys.exit(main())
