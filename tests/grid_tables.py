"""Planted tables of the joint grid that the tests of its figures share."""

import numpy as np
import pandas as pd

WIDTHS = (12, 24, 48, 96, 192)
FRAMES = (6_000, 12_000, 25_000, 50_000, 100_000)
SUBJECTS = ("sub-sim1", "sub-sim2", "sub-sim3", "sub-sim4")
HOURS = (0.1, 0.2, 0.4, 0.8)
TOKENS_PER_FRAME, EPOCHS = 1.0, 4
LOSS = {"E": 2.0, "A": 60.0, "B": 60.0, "alpha": 0.45, "beta": 0.4}
# How far 1 - r falls with model size, video and scan hours.
BRAIN = {"n_params": 2.0, "n_data": 2.0, "scan_hours": 0.02}


def n_params_of(width):
    return 12 * width**2 + 700 * width


def flop_per_token(width):
    return 6 * (12 * width**2 + 200 * width)


def cells(widths=WIDTHS, frames=FRAMES, slices=(2e10, 6e10, 2e11), seeds=(1, 2)):
    """The design: a grid, seeds at two anchors, and slices of equal FLOP on all frames."""
    rows = [
        (w, f, 0, "grid", np.nan, EPOCHS * f * TOKENS_PER_FRAME) for w in widths for f in frames
    ]
    for width, n_frames in ((widths[0], frames[0]), (widths[2], frames[2])):
        seen = EPOCHS * n_frames * TOKENS_PER_FRAME
        rows += [(width, n_frames, seed, "anchor", np.nan, seen) for seed in seeds]
    for budget in slices:
        rows += [(w, frames[-1], 0, "isoflop", budget, budget / flop_per_token(w)) for w in widths]
    table = pd.DataFrame(rows, columns="hidden n_frames seed kind slice_flop tokens_seen".split())
    table["n_params"] = n_params_of(table.hidden)
    table["n_layers"], table["n_heads"] = 2, 4
    table["flop"] = table.tokens_seen * flop_per_token(table.hidden)
    table["n_steps"] = (table.tokens_seen / 512).round().astype(int)
    table["tokens_seen_best"] = table.tokens_seen
    table["unique_tokens"] = np.minimum(table.n_frames * TOKENS_PER_FRAME, table.tokens_seen)
    table["epochs"] = table.tokens_seen / table.unique_tokens
    table["tokens_per_window"], table["n_windows"] = 64, table.n_frames * TOKENS_PER_FRAME / 64
    names = [
        f"{r.kind}-h{r.hidden}-{r.n_frames}f-s{r.seed}-{i}"
        for i, r in enumerate(table.itertuples())
    ]
    return table.assign(cell=names)


def worth(table):
    """Fresh tokens that the repeats are worth, written out (Muennighoff et al. 2023)."""
    u, repeats, star = table.unique_tokens, table.tokens_seen / table.unique_tokens - 1, 15.387756
    return u + u * star * (1 - np.exp(-repeats / star))


def loss_table(noise=0.004, truth=LOSS, seed=0, design=None):
    table = cells() if design is None else design
    loss = (
        truth["E"]
        + truth["A"] * table.n_params ** -truth["alpha"]
        + truth["B"] * worth(table) ** -truth["beta"]
    )
    rng = np.random.default_rng(seed)
    return table.assign(val_loss=loss * np.exp(noise * rng.standard_normal(len(table))))


def score_table(noise=0.001, scales=BRAIN, seed=0, design=None, hours=HOURS, subjects=SUBJECTS):
    """Scores of two held-out sessions; a model's own luck is shared by its hours of scans."""
    table = (cells() if design is None else design).assign(trained=True)
    twins = table.drop_duplicates("hidden").assign(
        trained=False, kind="untrained", n_frames=0, n_steps=0
    )
    twins["cell"] = "untrained-h" + twins.hidden.astype(str)
    rng, rows = np.random.default_rng([seed, 1]), []
    for number, subject in enumerate(subjects):
        for part in (table, twins):
            trained = bool(part.trained.iloc[0])
            d = worth(part) if trained else 1500.0
            miss = (
                0.75
                + 0.01 * number
                + scales["n_params"] * part.n_params**-0.35
                + scales["n_data"] * d**-0.35
            )
            luck = np.exp(noise * rng.standard_normal(len(part)))
            for level, h in enumerate(hours):
                own = np.exp(0.3 * noise * rng.standard_normal(len(part)))
                r = 1 - (miss + scales["scan_hours"] * h**-0.5) * luck * own
                for session, shift in (("ses-003", 0.002), ("ses-004", -0.002)):
                    rows.append(
                        part.assign(
                            subject=subject,
                            held_out=session,
                            scan_hours=h,
                            n_train_trs=100 * (level + 1),
                            r=r + shift,
                            block=1,
                        )
                    )
    given = ["cell", "hidden", "n_layers", "n_heads", "n_frames", "n_steps", "kind", "trained"]
    given += ["subject", "held_out", "scan_hours", "n_train_trs", "r", "block"]
    return pd.concat(rows, ignore_index=True)[given]


def sizes(scores):
    """Parameters of every cell by its name, as the plan of a grid has them."""
    return n_params_of(scores.drop_duplicates("cell").set_index("cell").hidden)
