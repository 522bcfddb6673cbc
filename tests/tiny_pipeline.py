"""The whole way from key logs to a figure in seconds: emulator, VQ-VAE, GPTs, ridge, files.

Run as ``python tests/tiny_pipeline.py FOLDER`` it makes what is missing in the folder. It is small,
not simplified: every stage is the project's own, in its own processes.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib.externals.loky import get_reusable_executor

from cobe.core.artifacts import Store, external
from cobe.core.config import Cell, TrainConfig, VQVAEConfig
from cobe.core.parallel import n_workers
from cobe.core.profiles import PROFILES
from cobe.core.seeds import rng_for
from cobe.report.manifest import build_manifest
from cobe.report.save import save_figure, save_table
from cobe.simulate.play import Emulator, Policy, player_of
from cobe.stimulus.playback import decode
from cobe.sweep.cells import load_tokens, write_cell, write_tokens, write_vqvae
from cobe.sweep.features import features_job, load_features, role_rows
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.pipeline import load_bold
from cobe.sweep.scores import score_features

SIZE, N_PARCELS = 32, 5
FRAMES = {"video": 10 * 64, "ridge": 14 * 64}
VQVAE_CFG = VQVAEConfig(
    resolution=SIZE, downsample=(4, 8, 8), n_hiddens=16, n_res_blocks=1, n_codes=32, code_dim=8,
    n_steps=40, batch_size=8, learning_rate=3e-3,
)  # fmt: skip
TRAIN = TrainConfig(n_steps=40, batch_size=8, n_evals=8)
CELLS = [Cell(n_frames=640, hidden=h, n_layers=1, n_heads=2, precision="fp32") for h in (8, 16)]
CELLS.append(CELLS[0].untrained())
PROTOCOL = replace(
    PROFILES["smoke"].protocol,
    pooling="mean",
    n_features=None,
    delays_tr=(1, 2),
    n_permutations=20,
    block_trs=3,
    alphas=(1.0, 100.0),
)
ROLES = pd.DataFrame(
    [("sub-1", "ses-001", 1, 0, "video_train"), ("sub-1", "ses-001", 1, 1, "video_val")]
    + [("sub-1", f"ses-00{k}", 1, 0, "ridge") for k in (2, 3, 4)],
    columns=["subject", "session", "run", "row", "role"],
).assign(level="1-0", onset_s=0.0)[["subject", "session", "run", "row", "level", "onset_s", "role"]]
STAGES = "keys frames vqvae tokens gpt features bold scores table figure".split()


def _play(path: Path, n_frames: int, seed: int, name: str) -> None:
    player, rng = player_of(seed, 0, "sub-1"), rng_for(seed, "tiny", name)
    with Emulator() as emulator:
        emulator.play(emulator.start_state, n_frames, Policy(player, rng), path)


def _decode(path: Path, bk2: Path) -> None:
    decode(bk2, path, SIZE)


def _bold(path: Path, n_trs: int, seed: int, session: str) -> None:
    bold = rng_for(seed, "tiny bold", session).standard_normal((n_trs, N_PARCELS))
    with open(path, "wb") as handle:
        np.savez(handle, bold=bold.astype(np.float32))


def _score(path: Path, name: str, features, tokens, bold) -> None:
    torch.set_num_threads(1)
    data = load_tokens(tokens)
    clips = data.clips.loc[role_rows(data)]
    series = {key: load_bold(item) for key, item in bold.items()}
    score_features(load_features(features), clips, series, PROTOCOL).assign(cell=name).to_parquet(
        path
    )


def run(folder: Path, boundary=lambda stage: None, figures: Path | None = None, threads=1) -> None:
    """Make what is missing, calling ``boundary(stage)`` after each stage."""
    torch.set_num_threads(threads)
    folder, figures = Path(folder), figures or Path(folder) / "figures"
    store = Store(folder / "artifacts", lambda line: print(line, flush=True))
    # with one worker all in this very process: another one takes seconds to start
    apart = n_workers() > 1
    keys = [row[:4] for row in ROLES.itertuples(index=False, name=None)]
    lengths = [FRAMES["ridge" if role == "ridge" else "video"] for role in ROLES.role]
    names = ["_".join(map(str, key)) for key in keys]
    made = make_all(
        store,
        [
            Job(f"keys/{name}", _play, (n, 7, name), {"n_frames": n, "seed": 7},
                suffix=".bk2", apart=apart)
            for name, n in zip(names, lengths, strict=True)
        ],
        "playing", "play",
    )  # fmt: skip
    boundary("keys")
    made = make_all(
        store,
        [
            Job(f"frames/{name}", _decode, (item.path,), {"size": SIZE},
                {"bk2": external(item.path)}, suffix=".b2nd", apart=apart)
            for name, item in zip(names, made, strict=True)
        ],
        "playing replays", "replay",
    )  # fmt: skip
    frames = dict(zip(keys, made, strict=True))
    boundary("frames")
    train, val = frames[keys[0]], frames[keys[1]]
    vqvae = store.make(
        "vqvae", params={"vqvae": VQVAE_CFG, "threads": threads},
        inputs={"train": train, "val": val}, resumable=True,
        write=lambda path, checkpoint: write_vqvae(
            path, checkpoint, VQVAE_CFG, [train.path], [val.path], 4, threads, "fp32"),
    )  # fmt: skip
    boundary("vqvae")
    paths = {key: item.path for key, item in frames.items()}
    tokens = store.make(
        "tokens", params={"roles": ROLES.to_dict("list")}, inputs={"vqvae": vqvae},
        write=lambda path: write_tokens(path, ROLES, paths, vqvae.path), suffix=".safetensors",
    )  # fmt: skip
    boundary("tokens")
    jobs = [
        Job(f"gpt/{cell.name}", write_cell, (cell, TRAIN, tokens), {"cell": cell, "train": TRAIN},
            {"tokens": tokens}, resumable=True)
        for cell in CELLS
    ]  # fmt: skip
    models = make_all(store, jobs, "training cells", "cell")
    boundary("gpt")
    pairs = list(zip(CELLS, models, strict=True))
    jobs = [features_job(cell.name, 1, item, tokens, PROTOCOL) for cell, item in pairs]
    features = make_all(store, jobs, "features", "model")
    boundary("features")
    n_trs = int(FRAMES["ridge"] / 60 / 1.49) + 6
    ridge = [key for key in keys if key[1] != "ses-001"]
    jobs = [
        Job(f"bold/{key[1]}", _bold, (n_trs, 3, key[1]), {"n_trs": n_trs, "seed": 3}, suffix=".npz")
        for key in ridge
    ]
    series = make_all(store, jobs, "parcel series", "run")
    bold = {key[:3]: item for key, item in zip(ridge, series, strict=True)}
    boundary("bold")
    jobs = [
        Job(f"scores/{cell.name}", _score, (cell.name, item, tokens, bold), {"protocol": PROTOCOL},
            {"features": item, "tokens": tokens} | {f"bold {k}": v for k, v in bold.items()},
            suffix=".parquet")
        for cell, item in zip(CELLS, features, strict=True)
    ]  # fmt: skip
    scores = pd.concat([pd.read_parquet(s.path) for s in make_all(store, jobs, "scoring", "model")])
    boundary("scores")
    means = scores[scores.summary == "mean"][["cell", "held_out", "r"]]
    saved = [save_table(means, "table_tiny", figures, "Mean r; random BOLD.", "tests/tiny")]
    boundary("table")
    figure = _figure(means)
    saved.append(save_figure(figure, "fig_tiny", figures, "Mean r; random BOLD.", "tests/tiny", 60))
    build_manifest(figures, saved)
    boundary("figure")


def _figure(means: pd.DataFrame):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    for cell, rows in means.groupby("cell"):
        axes.plot(rows.held_out.astype(str), rows.r, "o", label=cell)
    return figure


def in_its_own_group(folder, workers: int, figures=None, die_after: str = "", **options) -> None:
    """`run` as a process that can be killed with all that it started, from a warm interpreter."""
    os.setsid()
    # a shell starts what it puts into the background deaf to this one
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["COBE_WORKERS"] = str(workers)
    os.environ["TINY_PIPELINE"] = str(folder)  # by which what it left behind is found
    (Path(folder) / "started").touch()
    stage, _, signal_number = die_after.partition(":")

    def boundary(done):
        if done == stage:
            os.kill(os.getpid(), int(signal_number))
            time.sleep(60)

    with open(Path(folder) / "log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        run(folder, boundary, figures, **options)
    if workers > 1:
        # such a process waits for its children, and idle workers would stay for five minutes
        get_reusable_executor().shutdown()


if __name__ == "__main__":
    started = time.monotonic()
    last = [started]

    def took(stage):
        print(f"{stage} {time.monotonic() - last[0]:.2f} s", flush=True)
        last[0] = time.monotonic()

    run(Path(sys.argv[1]), took)
    print(f"{time.monotonic() - started:.1f} s")
