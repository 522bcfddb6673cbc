"""Score and loss tables with the columns of the real ones, for the tests of the figures only."""

import numpy as np
import pandas as pd

from cobe.core.config import axis_cells

CONTROL_R = {"vq": 0.20, "pixel_pca": 0.30, "buttons": 0.12, "lowlevel": 0.18}


def cells_of(profile):
    cells = {cell.name: cell for axis in profile.axes for cell in axis_cells(profile, axis)}
    return {**cells, profile.base.name: profile.base}


def loss_table(profile, seed=0):
    rng = np.random.default_rng(seed)
    train = profile.train
    steps = np.linspace(0, train.n_steps, train.n_evals + 1).astype(int)
    tables = []
    for name, cell in cells_of(profile).items():
        floor = 2 + 3 / cell.hidden**0.5 + 0.3 / cell.n_layers
        loss = floor + (6 - floor) * np.exp(-8 * steps / steps[-1])
        loss += 3000 / cell.n_frames * steps / steps[-1] + rng.normal(0, 0.01, len(steps))
        table = {"step": steps, "epoch": steps / 100, "train_loss": loss - 0.1, "val_loss": loss}
        tables.append(pd.DataFrame(table).assign(cell=name, n_frames=cell.n_frames))
    return pd.concat(tables, ignore_index=True)


def score_table(profile, n_parcels, seed=0, subjects=None):
    rng = np.random.default_rng(seed)
    cells = cells_of(profile)
    features = {name: ("gpt", 0.2 + 0.001 * cell.hidden) for name, cell in cells.items()}
    features |= {cell.untrained().name: ("untrained", 0.15) for cell in cells.values()}
    features |= {name: (name, r) for name, r in CONTROL_R.items()}
    tables = []
    for number, subject in enumerate(subjects or profile.plan.subjects):
        for cell, (kind, mean) in features.items():
            r = mean * (1 - 0.1 * number) + rng.normal(0, 0.1, n_parcels)
            common = {"cell": cell, "features": kind, "subject": subject, "protocol": "corrected"}
            common |= {"n_trs": 300 + number}
            targets = pd.DataFrame(
                {
                    "target": np.arange(n_parcels),
                    "summary": "target",
                    "held_out": "all",
                    "r": r,
                    "q": np.where(r > 0.1, 0.01, 0.5),
                    "chance_95": 0.1,
                    "ci_low": r - 0.1,
                    "ci_high": r + 0.1,
                }
            )
            row = {"target": -1, "summary": "mean", "held_out": "all", "r": r.mean()}
            row |= {"q": np.nan, "chance_95": rng.uniform(0.02, 0.05)}
            row |= {"ci_low": r.mean() - 0.02, "ci_high": r.mean() + 0.03}
            rows = [row, row | {"summary": "max", "r": r.max(), "chance_95": 0.3}]
            for session in ("ses-002", "ses-003"):
                rows.append(row | {"held_out": session, "chance_95": np.nan, "r": r.mean() - 0.01})
            tables.append(pd.concat([targets, pd.DataFrame(rows)]).assign(**common))
    return pd.concat(tables, ignore_index=True)
