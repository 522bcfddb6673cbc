"""The published numbers are data: what is drawn and tabulated is what the files say."""

import csv
from importlib.resources import files

import pytest

from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report import published
from cobe.report.figures import axis_figure, get_axis
from cobe.report.tables import (
    NOT_PUBLISHED,
    hyperparameter_table,
    model_size_table,
    paper_size_table,
    timing_table,
)
from report_tables import loss_table, score_table

AXES = list(published.BASE_LEVEL)
SMOKE = get_profile("smoke")


def raw(name):
    path = files("cobe.report") / "published" / name
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def drawn():
    """Axes of each figure, without maps, by label."""
    losses, scores = loss_table(SMOKE, published=True), score_table(SMOKE, 20, published=True)
    figures = {}
    for name in AXES:
        figure = axis_figure(SMOKE, get_axis(SMOKE, name), losses, scores, None, True, maps=False)
        figures[name] = {axes.get_label(): axes for axes in figure.axes}
    return figures


@pytest.mark.parametrize("axis", AXES)
def test_every_published_score_is_drawn_as_the_file_says(drawn, axis):
    axes = drawn[axis]["published scores"]
    heights = {
        bars.get_label().removeprefix("published "): bars[0].get_height()
        for bars in axes.containers
    }
    wanted = {
        f"{row['subject']} {row['level']}": float(row["max_pearson_r"])
        for row in raw("max_r.csv")
        if row["axis"] == axis
    }
    assert wanted
    assert heights == wanted


def test_the_bar_chart_of_the_heads_is_drawn_where_it_differs(drawn):
    def crosses(axis):
        return {
            line.get_label().removeprefix("as drawn "): float(line.get_ydata()[0])
            for line in drawn[axis]["published scores"].lines
            if line.get_label().startswith("as drawn")
        }

    wanted = {
        f"{row['subject']} {row['level']}": float(row["max_pearson_r"])
        for row in raw("max_r.csv")
        if row["axis"] == "n_heads_bar_chart_as_drawn"
    }
    assert len(wanted) == 12
    assert crosses("n_heads") == wanted
    assert crosses("n_layers") == {}


@pytest.mark.parametrize("axis", AXES)
def test_every_published_loss_is_drawn_as_the_file_says(drawn, axis):
    lines = {line.get_label(): line for line in drawn[axis]["published losses"].lines}
    base = raw("val_loss_6M_base.csv")
    assert lines["published base"].get_xdata().tolist() == [int(row["epoch"]) for row in base]
    assert lines["published base"].get_ydata().tolist() == [
        float(row["val_cross_entropy_nats_per_token"]) for row in base
    ]
    for row in raw("val_loss_digitised.csv"):
        if row["axis"] != axis or row["level"] == published.BASE_LEVEL[axis]:
            continue
        line = lines[f"published {row['level']}"]
        points = dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
        for epoch in (1, 10, 50, 100):
            assert points[epoch] == float(row[f"epoch_{epoch}"])
        best = lines[f"published best {row['level']}"]
        assert best.get_xdata().tolist() == [int(row["epoch_of_minimum"])]
        assert best.get_ydata().tolist() == [float(row["minimum"])]


def test_published_and_computed_values_have_axes_of_their_own(drawn):
    for panels in drawn.values():
        theirs = panels["published scores"]
        assert all(bars.get_label().startswith("published") for bars in theirs.containers)
        for label in ("scores", "as_published scores"):
            bars = {artist.get_label() for artist in panels[label].containers}
            assert bars
            assert not any(name.startswith("published") for name in bars)
            assert not theirs.get_shared_y_axes().joined(theirs, panels[label])


# typed in from the authors' notebooks' outputs, and not from the files of the package
PRINTED = {
    ("data_size", "10K", "sub-06"): 0.1121,
    ("data_size", "1M", "sub-02"): 0.3891,
    ("data_size", "6M", "sub-04"): 0.6736,
    ("hidden_dim", "6", "sub-02"): 0.3972,
    ("hidden_dim", "30", "sub-01"): 0.5589,
    ("hidden_dim", "126", "sub-06"): 0.3927,
    ("n_layers", "1", "sub-04"): 0.5834,
    ("n_layers", "8", "sub-02"): 0.2870,
    ("n_heads", "1", "sub-01"): 0.6556,
    ("n_heads", "8", "sub-06"): 0.5655,
    ("precision", "fp16", "sub-04"): 0.6745,
    ("precision", "fp32", "sub-01"): 0.6275,
}


@pytest.mark.parametrize(("axis", "level", "subject"), PRINTED)
def test_bars_are_what_the_notebooks_print(drawn, axis, level, subject):
    bars = {bar.get_label(): bar[0] for bar in drawn[axis]["published scores"].containers}
    assert bars[f"published {subject} {level}"].get_height() == PRINTED[axis, level, subject]


def test_losses_are_what_the_authors_saved_and_what_was_read_off(drawn):
    lines = {line.get_label(): line for line in drawn["data_size"]["published losses"].lines}
    base = lines["published base"].get_ydata()
    assert [round(base[epoch], 3) for epoch in (1, 10, 50, 100)] == [3.709, 2.556, 2.321, 2.303]
    assert (round(base.min(), 3), base.argmin()) == (2.294, 80)
    best = lines["published best 1M"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (12, 4.29)


def test_the_published_files_are_whole():
    counts = {"max_r.csv": 80, "val_loss_6M_base.csv": 101, "val_loss_digitised.csv": 18}
    for name, n_rows in counts.items():
        assert len(raw(name)) == n_rows
    rows = [(row["axis"], row["level"], row["subject"]) for row in raw("max_r.csv")]
    assert len(set(rows)) == len(rows)


def test_published_tables_say_their_source():
    tables = [published.max_r("data_size"), published.val_loss_points("n_layers")]
    tables += [published.val_loss_base(), published.model_size(), published.hyperparameters()]
    for table in tables:
        assert (table["source"] == "published").all()
    assert published.max_r("data_size", as_drawn=True).empty
    assert published.val_loss_points("precision").empty


def test_an_axis_that_was_not_published_is_an_error():
    with pytest.raises(CobeError, match="'colour'.*nothing is published"):
        published.max_r("colour")


def test_model_sizes_keep_their_sources_apart():
    import pandas as pd

    counts = pd.DataFrame(
        {"model": ["base", "VQ-VAE"], "total": [3_000, 500], "blocks": [2_500, None]}
    )
    table = model_size_table(counts)
    ours = table[table["source"] == "computed"].set_index("model")
    theirs = table[table["source"] == "published"].set_index("model")["total"]
    assert ours["total"].tolist() == [3_000, 500]
    assert pd.isna(ours.loc["VQ-VAE", "blocks"])
    assert sorted(theirs) == [35_800_000, 40_300_000]
    # the parts add up to the total to the digits that were printed
    row = table[table["model"].str.startswith("GPT (")].iloc[0]
    parts = row[["blocks", "context", "embedding", "head"]].sum()
    assert abs(parts - row["total"]) < 100_000
    with pytest.raises(CobeError, match="no column model"):
        model_size_table(counts.drop(columns="model"))
    with pytest.raises(CobeError, match="two rows"):
        model_size_table(pd.concat([counts, counts]))
    with pytest.raises(CobeError, match="parameter counts: rows are published, not computed"):
        model_size_table(counts.assign(source="published"))


@pytest.mark.parametrize("name", ["smoke", "quick", "paper"])
def test_hyperparameters_stand_beside_the_published_ones(name):
    profile = get_profile(name)
    table = hyperparameter_table(profile).set_index(["part", "name"])
    ours = ["as_published here", "corrected here"]
    assert list(table.columns) == ["published", *ours, "note"]
    assert table.loc[("GPT", "hidden size"), ours].tolist() == [str(profile.base.hidden)] * 2
    assert table.loc[("GPT", "hidden size"), "published"] == "576"
    assert table.loc[("VQ-VAE", "codes"), "published"] == "1024"
    assert table.index.is_unique
    assert (table[["published", *ours]] != "").all(axis=None)
    # parts stand together
    parts = table.index.get_level_values("part")
    assert (parts[1:] != parts[:-1]).sum() == parts.nunique() - 1


def test_both_protocols_are_told_apart_in_the_table():
    table = hyperparameter_table(get_profile("quick")).set_index(["part", "name"])
    ridge = table.loc["ridge"]
    rows = {
        "held out": ("10 % of volumes, drawn at random", "every session in turn"),
        "delays (TR)": ("1, 2, 3, 4", "1, 2, 3, 4, 5"),
        "penalty is chosen": ("one for all parcels", "for each parcel"),
        "branch that is read": ("MLP branch, before it is added", "output of the block"),
        "statistic of the figures": ("maximum over parcels", "mean over parcels"),
        "unit of the penalties": (
            "that of the products of features, as they are",
            "mean variance of the feature columns in training",
        ),
    }
    for name, values in rows.items():
        assert tuple(ridge.loc[name, ["as_published here", "corrected here"]]) == values, name
    assert "last block on the axis n_layers" in ridge.loc["block that is read", "as_published here"]
    assert ridge.loc["penalties", "as_published here"] == ridge.loc["penalties", "published"]
    assert (
        table.loc[("GPT", "smaller training subsets"), "as_published here"]
        == (table.loc[("GPT", "smaller training subsets"), "published"])
    )
    for name in ("held out", "delays (TR)", "penalties", "penalty is chosen", "smoothing (mm)"):
        assert ridge.loc[name, "note"].startswith("inferred")
    assert ridge.loc["pooling of a clip's tokens", "published"] == NOT_PUBLISHED


def test_timings_are_checked():
    import pandas as pd

    stages = pd.DataFrame(
        {"stage": ["vqvae"], "seconds": [12.345], "device": ["2 cores"], "date": ["2026-01-02"]}
    )
    table = timing_table(stages)
    assert table["seconds"].tolist() == [12.3]
    assert table["date"].tolist() == ["2026-01-02"]
    with pytest.raises(CobeError, match="no column device, date"):
        timing_table(stages[["stage", "seconds"]])
    with pytest.raises(CobeError, match="seconds of vqvae"):
        timing_table(stages.assign(seconds=float("nan")))


def published_architecture(hidden, n_layers, n_heads):
    """Trained parameters of the authors' GPT, from the shapes that their code gives its layers."""
    inner, values, context = n_heads * (hidden // n_heads), n_heads * (240 // n_heads), 240
    attention = 4 * hidden * inner + hidden
    cross = hidden * inner + context * (inner + values) + values * hidden + hidden
    block = attention + cross + 8 * hidden**2 + 5 * hidden + 6 * hidden
    return n_layers * block + 2.4e6 + (128 + 1024) * hidden


@pytest.mark.parametrize("axis", ["hidden_dim", "n_layers", "n_heads"])
def test_published_sizes_are_those_of_the_published_architecture(axis):
    table = published.gpt_size(axis)
    base = {"hidden_dim": 576, "n_layers": 8, "n_heads": 4}
    names = {"hidden_dim": "hidden", "n_layers": "n_layers", "n_heads": "n_heads"}
    assert table["source"].eq("published").all()
    for row in table.itertuples():
        shape = {names[k]: v for k, v in (base | {axis: int(row.level)}).items()}
        digits = int(row.precision.split()[2])
        expected = published_architecture(**shape)
        assert row.n_parameters == pytest.approx(expected, rel=0.5 * 10 ** (1 - digits)), shape
        is_base = tuple(shape.values()) == tuple(base.values())
        assert row.precision.startswith("stated") == is_base
    levels = {raw_row["level"] for raw_row in raw("max_r.csv") if raw_row["axis"] == axis}
    assert levels <= set(table["level"])


def test_published_sizes_of_an_axis_with_one_model_are_none():
    assert published.gpt_size("data_size").empty
    with pytest.raises(CobeError, match="nothing is published"):
        published.gpt_size("depth")


def test_our_sizes_stand_beside_the_published_ones():
    table = paper_size_table()
    parts = table[["blocks", "context", "embedding", "head"]].sum(axis=1)
    assert (parts == table.total).all()
    assert table.axis.value_counts().to_dict() == {"hidden_dim": 8, "n_layers": 5, "n_heads": 4}
    base = table[table.level.eq(576) | table.axis.eq("n_layers") & table.level.eq(8)]
    assert (base.published == 40_300_000).all()
    # every layer adds the same
    blocks = table[table.axis == "n_layers"].set_index("level").blocks
    assert blocks[16] - blocks[8] == 8 * (blocks[2] - blocks[1])
