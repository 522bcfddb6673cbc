"""Score and loss tables with the columns of the real ones, and what is read out of a figure.

For the tests of the figures only.
"""

import numpy as np
import pandas as pd
from matplotlib.text import Text

from cobe.core.config import axis_cells
from cobe.report import figures

CONTROL_R = {"vq": 0.20, "pixel_pca": 0.30, "buttons": 0.12, "lowlevel": 0.18}


def cells_of(profile, protocol=None):
    """Cells of all axes by name; as a protocol trains them."""
    cells = {
        cell.name: cell for axis in profile.axes for cell in axis_cells(profile, axis, protocol)
    }
    return {**cells, profile.base.name: profile.base}


def loss_table(profile, seed=0, published=False):
    """Losses of the cells of ``corrected``, and of ``as_published`` if asked for."""
    rng = np.random.default_rng(seed)
    train = profile.train
    cells = cells_of(profile) | (cells_of(profile, profile.published) if published else {})
    tables = []
    for name, cell in cells.items():
        n_steps = cell.n_steps or train.n_steps
        steps = np.unique(np.linspace(0, n_steps, train.n_evals + 1).astype(int))
        floor = 2 + 3 / cell.hidden**0.5 + 0.3 / cell.n_layers
        loss = floor + (6 - floor) * np.exp(-8 * steps / train.n_steps)
        loss += 3000 / cell.n_frames * steps / train.n_steps + rng.normal(0, 0.01, len(steps))
        table = {"step": steps, "epoch": steps / 100, "train_loss": loss - 0.1, "val_loss": loss}
        tables.append(pd.DataFrame(table).assign(cell=name, n_frames=cell.n_frames))
    return pd.concat(tables, ignore_index=True)


def score_table(profile, n_parcels, seed=0, subjects=None, published=False):
    """Scores of ``corrected`` with all controls, and those of ``as_published`` if asked for."""
    rng = np.random.default_rng(seed)
    cells = cells_of(profile)
    tables = _protocol_scores(profile.protocol, cells, n_parcels, rng, profile, subjects)
    if published:
        asked = {profile.published: cells_of(profile, profile.published)}
        for axis in profile.axes:
            protocol = profile.published_for(axis.name)
            if protocol != profile.published:
                cells = axis_cells(profile, axis, protocol)
                asked[protocol] = {cell.name: cell for cell in cells}
        for protocol, cells in asked.items():
            tables += _protocol_scores(protocol, cells, n_parcels, rng, profile, subjects)
    return pd.concat(tables, ignore_index=True)


def _protocol_scores(protocol, cells, n_parcels, rng, profile, subjects):
    controls = CONTROL_R if protocol == profile.protocol else {}
    bonus = 0.0 if protocol == profile.protocol else 0.1
    features = {name: ("gpt", 0.2 + bonus + 0.001 * cell.hidden) for name, cell in cells.items()}
    features |= {cell.untrained().name: ("untrained", 0.15 + bonus) for cell in cells.values()}
    features |= {name: (name, r) for name, r in controls.items()}
    sessions = ("ses-002", "ses-003") if protocol.holdout == "session" else ("random",)
    n_trs = 300 if protocol.holdout == "session" else 60
    tables = []
    for number, subject in enumerate(subjects or profile.plan.subjects):
        for cell, (kind, mean) in features.items():
            r = mean * (1 - 0.1 * number) + rng.normal(0, 0.1, n_parcels)
            common = {"cell": cell, "features": kind, "subject": subject, "protocol": protocol.name}
            common |= {"n_trs": n_trs + number}
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
            top = {"summary": "max", "r": r.max(), "chance_95": 0.3}
            rows = [row, row | top | {"ci_low": np.nan, "ci_high": np.nan}]
            for session in sessions:
                rows.append(row | {"held_out": session, "chance_95": np.nan, "r": r.mean() - 0.01})
            tables.append(pd.concat([targets, pd.DataFrame(rows)]).assign(**common))
    return tables


def draw_axis(profile, name, losses, scores, atlas=None):
    """The figure of an axis; without an atlas, without its maps."""
    axis = figures.get_axis(profile, name)
    return figures.axis_figure(
        profile, axis, losses, scores, atlas, simulated=True, maps=atlas is not None
    )


def panel(figure, label):
    """The axes of that label."""
    (axes,) = (axes for axes in figure.axes if axes.get_label() == label)
    return axes


def words(figure):
    """All text of a figure."""
    return " ".join(text.get_text() for text in figure.findobj(Text))


def summary_rows(scores, protocol, summary, features="gpt"):
    """Summaries over all held-out data, by subject and cell."""
    rows = scores[(scores["summary"] == summary) & (scores["held_out"] == "all")]
    rows = rows[(rows["features"] == features) & (rows["protocol"] == protocol)]
    return rows.set_index(["subject", "cell"])
