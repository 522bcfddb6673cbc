"""The published numbers are data: what is drawn and tabulated is what the files say."""

import csv
from importlib.resources import files

import pytest

from cobe.core.config import get_profile
from cobe.core.errors import CobeError
from cobe.report import published
from cobe.report.figures import axis_figure, get_axis
from cobe.report.tables import (
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
    losses, scores = loss_table(SMOKE), score_table(SMOKE, 20)
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
        ours = {artist.get_label() for artist in panels["scores"].containers}
        theirs = {artist.get_label() for artist in panels["published scores"].containers}
        assert not any(label.startswith("published") for label in ours)
        assert all(label.startswith("published") for label in theirs)
        assert (
            not panels["scores"]
            .get_shared_y_axes()
            .joined(panels["scores"], panels["published scores"])
        )


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


@pytest.mark.parametrize("name", ["smoke", "quick", "paper"])
def test_hyperparameters_stand_beside_the_published_ones(name):
    profile = get_profile(name)
    table = hyperparameter_table(profile).set_index(["part", "name"])
    assert table.loc[("GPT", "hidden size"), "computed"] == str(profile.base.hidden)
    assert table.loc[("GPT", "hidden size"), "published"] == "576"
    assert table.loc[("VQ-VAE", "codes"), "published"] == "1024"
    assert (table["computed"] != "").all()
    assert table.index.is_unique


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
