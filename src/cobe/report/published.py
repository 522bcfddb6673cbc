"""The published numbers, as data: each row says which level, which subject, where from.

They are the outputs of the authors' public figure notebooks (repository
``Sana3883/compute-optimal_GPT_brain-encoding``, MIT, commit of 2024-10-18) for arXiv 2410.19810,
and the model sizes and hyperparameters that its README, its scripts and its printed models state:

``max_r.csv``
    The "Pearson r" of the bar charts: the **maximum** over 1,095 parcels, per subject and setting,
    four digits. Rows of the axis ``n_heads_bar_chart_as_drawn`` (two digits) are that bar chart as
    it was drawn: its bars of sub-02, sub-04 and sub-06 repeat the chart of the layers.
``val_loss_6M_base.csv``
    Validation cross-entropy per epoch of the base model (hidden size 576, 8 layers, 4 heads, 6M
    frames), exact.
``val_loss_digitised.csv``
    The other runs at four epochs and at their minimum, read off the plots, about +-0.03.
``model_size.csv``, ``hyperparameters.csv``
    As stated; the precision or the contradiction is in the last column.
``gpt_size_by_level.csv``
    Trained parameters of the GPT at every level of hidden size, layers and heads: stated for the
    base model, for the others derived from the architecture that the code states (its context stack
    of 2.4 M parameters has one size at every level).
``data_subsets.csv``
    What the training subsets hold; how each row is known is in the column basis. Read by
    `cobe.report.audit`.

Every table carries ``source = "published"``: it is shown beside what is computed here and never
averaged with it.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from cobe.core.errors import CobeError

N_PARCELS = 1095
BASE_LEVEL = {
    "data_size": "6M",
    "hidden_dim": "576",
    "n_layers": "8",
    "n_heads": "4",
    "precision": "fp16",
}
DIGITISED_EPOCHS = (1, 10, 50, 100)
AS_DRAWN = "_bar_chart_as_drawn"


def _read(name: str) -> pd.DataFrame:
    path = files("cobe.report") / "published" / name
    with path.open("r", encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"level": str, "value": str}, keep_default_na=False)


def _check_axis(axis: str) -> None:
    if axis not in BASE_LEVEL:
        known = ", ".join(BASE_LEVEL)
        raise CobeError(f"axis {axis!r}: nothing is published; choose one of {known}")


def max_r(axis: str, as_drawn: bool = False) -> pd.DataFrame:
    """The published bars of one axis: maximum of Pearson r over 1,095 parcels.

    Parameters
    ----------
    axis : str
        ``"data_size"``, ``"hidden_dim"``, ``"n_layers"``, ``"n_heads"`` or ``"precision"``.
    as_drawn : bool
        The bar chart as drawn where it differs from the printed values (heads only; empty
        elsewhere), instead of the printed values.

    Returns
    -------
    table : pandas.DataFrame
        Columns level (str), readout, subject, max_pearson_r (float), source_notebook, source.

    Raises
    ------
    CobeError
        The paper does not vary that axis.
    """
    _check_axis(axis)
    table = _read("max_r.csv")
    table = table[table["axis"] == (axis + AS_DRAWN if as_drawn else axis)]
    return table.drop(columns="axis").assign(source="published").reset_index(drop=True)


def val_loss_points(axis: str) -> pd.DataFrame:
    """Published validation losses of one axis that were read off the plots, about +-0.03.

    Parameters
    ----------
    axis : str
        As in `max_r`.

    Returns
    -------
    table : pandas.DataFrame
        One row per point: level (str), epoch (int), val_loss (nats/token), is_minimum (bool),
        source. The base run's exact curve is `val_loss_base`. Empty for precision: the curve of
        fp32 overlaps that of fp16 (less than .02 apart).
    """
    _check_axis(axis)
    table = _read("val_loss_digitised.csv")
    rows = []
    for record in table[table["axis"] == axis].to_dict("records"):
        points = [(e, record[f"epoch_{e}"], False) for e in DIGITISED_EPOCHS]
        points.append((record["epoch_of_minimum"], record["minimum"], True))
        rows += [(record["level"], int(e), float(v), m) for e, v, m in points]
    table = pd.DataFrame(rows, columns=["level", "epoch", "val_loss", "is_minimum"])
    return table.assign(source="published")


def val_loss_base() -> pd.DataFrame:
    """Published validation loss of the base model, exact: epoch (0 ... 100), val_loss, source."""
    table = _read("val_loss_6M_base.csv")
    table.columns = ["epoch", "val_loss"]
    return table.assign(source="published")


def model_size() -> pd.DataFrame:
    """Published parameter counts: model, part, n_parameters (int), precision, source."""
    return _read("model_size.csv").assign(source="published")


def gpt_size(axis: str) -> pd.DataFrame:
    """Published parameter counts of the GPT along one axis.

    Parameters
    ----------
    axis : str
        ``"hidden_dim"``, ``"n_layers"`` or ``"n_heads"``; data size and precision have one model,
        and their table is empty.

    Returns
    -------
    table : pandas.DataFrame
        Columns level (str), n_parameters (int, without the frozen VQ-VAE), precision (stated or
        derived, and digits), source.

    Raises
    ------
    CobeError
        The paper does not vary that axis.
    """
    _check_axis(axis)
    table = _read("gpt_size_by_level.csv")
    table = table[table["axis"] == axis].drop(columns="axis")
    return table.assign(source="published").reset_index(drop=True)


def hyperparameters() -> pd.DataFrame:
    """Published hyperparameters: part, name, value (str), note, source."""
    return _read("hyperparameters.csv").assign(source="published")
