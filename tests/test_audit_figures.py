"""The audit's figures of the training side draw the tables' numbers and say what they hold."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from cobe.core.config import axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.core.seeds import rng_for
from cobe.report import published
from cobe.report.audit.data_size import caption_audit_data_size, fig_audit_data_size
from cobe.report.audit.designs import subset_contents
from cobe.report.audit.noise import caption_audit_noise, fig_audit_noise
from cobe.report.audit.pairs import difference
from cobe.report.audit.readout import caption_audit_readout, fig_audit_readout
from cobe.report.audit.width import caption_audit_width, fig_audit_width
from cobe.report.figures import get_axis
from cobe.sweep.arms import all_arm_cells, arm_table

QUICK = get_profile("quick")
SUBJECTS = QUICK.plan.subjects
SESSIONS = ("ses-002", "ses-003", "ses-004")
NOISE = 0.0005


def score_rows(cell, features, means, protocol="corrected", noise=NOISE):
    """Mean rows of one cell; the noise of a held-out group is shared by all cells but for a bit."""
    rng = rng_for(0, cell, protocol)
    rows = []
    for i, (subject, mean) in enumerate(means.items()):
        common = {"cell": cell, "features": features, "subject": subject, "protocol": protocol}
        common |= {"target": -1, "summary": "mean", "n_trs": 800 + i, "q": np.nan}
        per = {s: mean + 0.01 * k + noise * rng.normal() for k, s in enumerate(SESSIONS)}
        whole = {"held_out": "all", "r": np.mean(list(per.values())), "chance_95": 0.017}
        whole |= {"ci_low": whole["r"] - 0.012, "ci_high": whole["r"] + 0.012}
        rows.append(common | whole)
        nothing = dict.fromkeys(("chance_95", "ci_low", "ci_high"), np.nan)
        rows += [common | nothing | {"held_out": s, "r": r} for s, r in per.items()]
    return pd.DataFrame(rows)


def everyone(mean):
    return {s: mean * (1 - 0.05 * i) for i, s in enumerate(SUBJECTS)}


@cache
def width_scores():
    """Native gains with width trained or not; matched features leave learning alone."""
    axis = next(a for a in QUICK.axes if a.name == "hidden_dim")
    tables = []
    for i, cell in enumerate(axis_cells(QUICK, axis)):
        twin = cell.untrained().name
        tables.append(score_rows(cell.name, "gpt", everyone(0.23 + 0.01 * i), "native"))
        tables.append(score_rows(twin, "untrained", everyone(0.17 + 0.015 * i), "native"))
        tables.append(score_rows(cell.name, "gpt", everyone(0.26), "corrected"))
        tables.append(score_rows(twin, "untrained", everyone(0.22), "corrected"))
    return pd.concat(tables, ignore_index=True)


ARMS = arm_table(QUICK)


@cache
def noise_tables(bf16=0.0, seed=0.004):
    """Scores and losses of the noise arm: bf16 costs `bf16`, a seed `seed`."""
    rows = ARMS[ARMS.arm == "noise"]
    scores, losses = [], []
    for r in rows.itertuples():
        cost = bf16 * (r.precision == "bf16") - seed * (r.seed - 1)
        scores.append(score_rows(r.cell, "gpt", everyone(0.26 - cost)))
        losses.append(loss_rows(r.cell, 2.61 + cost, 600))
    return pd.concat(scores, ignore_index=True), pd.concat(losses, ignore_index=True)


def loss_rows(cell, lowest, n_steps):
    steps = np.linspace(0, n_steps, 8).astype(int)
    loss = lowest + np.array([3, 2, 1, 0.5, 0.2, 0.1, 0.0, 0.05])
    return pd.DataFrame({"cell": cell, "step": steps, "epoch": steps / 50, "val_loss": loss})


def clip_table(n_clips=800):
    """Four participants of two levels with enough clips for 200k frames together, not alone."""
    rows = [
        (subject, "ses-001", run, 0, str(1 + run % 2), clip, "video_train")
        for subject in SUBJECTS
        for run in range(1, 5)
        for clip in range(n_clips // 4)
    ]
    names = "subject session run row level clip role".split()
    return pd.DataFrame(rows, columns=names)


@cache
def data_tables():
    """Score of a subset: it gains with size, loses by one participant and by fewer updates."""
    cells = all_arm_cells(QUICK)
    contents = subset_contents(clip_table(), cells)
    sizes = list(get_axis(QUICK, "data_size").levels)
    scores, losses = [], []
    for cell in cells:
        if cell.seed or cell.precision != "fp32" or contents.set_index("cell").left_out[cell.name]:
            continue
        place = sizes.index(cell.n_frames)
        cost = 0.01 * (3 - place) + 0.02 * (cell.scheme != "stratified") * (3 - place) / 3
        cost += 0.015 * bool(cell.n_steps) * (3 - place) / 3
        means = everyone(0.26 - cost)
        if cell.scheme == "single":
            means[SUBJECTS[0]] += 0.03
        scores.append(score_rows(cell.name, "gpt", means))
        losses.append(loss_rows(cell.name, 2.6 + 50 * cost, cell.n_steps or 600))
    scores.append(score_rows(QUICK.base.untrained().name, "untrained", everyone(0.21)))
    tables = [pd.concat(some, ignore_index=True) for some in (scores, losses)]
    return (*tables, ARMS, contents)


@cache
def readout_tables():
    """Deeper models are better at the middle block and worse at the last one."""
    axis = get_axis(QUICK, "n_layers")
    wide = get_axis(QUICK, "hidden_dim")
    cells = list(dict.fromkeys([*axis_cells(QUICK, axis), *axis_cells(QUICK, wide)]))
    cells += [cell.untrained() for cell in cells]
    blocks, scores = [], []
    for cell in dict.fromkeys(cells):
        n = cell.n_layers
        for i, subject in enumerate(SUBJECTS):
            for block in range(n):
                gain = 0.01 * np.log2(n) * (block == n // 2) - 0.01 * np.log2(n) * (block == n - 1)
                r = 0.22 + 0.03 * cell.trained + gain * cell.trained - 0.01 * i
                row = {"cell": cell.name, "trained": cell.trained, "n_layers": n}
                row |= {"hidden": cell.hidden, "subject": subject, "block": block, "r": r}
                row |= {"ci_low": r - 0.01, "ci_high": r + 0.01}
                share = 2 / 3 if block == n // 2 else 1 / 3 / max(n - 1, 1)
                blocks.append(row | {"chosen_share": share if n > 1 else 1.0})
        kind = "gpt" if cell.trained else "untrained"
        scores.append(score_rows(cell.name, kind, everyone(0.25)))
    return pd.DataFrame(blocks), pd.concat(scores, ignore_index=True)


FIGURES = {
    "width": (fig_audit_width, caption_audit_width, lambda: (width_scores(),)),
    "noise": (fig_audit_noise, caption_audit_noise, lambda: (*noise_tables(), ARMS)),
    "data_size": (fig_audit_data_size, caption_audit_data_size, data_tables),
    "readout": (fig_audit_readout, caption_audit_readout, readout_tables),
}


def panel(figure, label):
    (axes,) = (axes for axes in figure.axes if axes.get_label() == label)
    return axes


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def mean_of(scores, cell, subject, protocol="corrected"):
    rows = scores[(scores.cell == cell) & (scores.subject == subject) & (scores.held_out == "all")]
    return rows[rows.protocol == protocol].r.item()


def by_hand(scores, first, second, protocol="corrected"):
    """Mean difference of two cells over participants and sessions."""
    rows = scores[(scores.held_out != "all") & (scores.protocol == protocol)]
    table = rows.pivot(index=["subject", "held_out"], columns="cell", values="r")
    return (table[first] - table[second]).mean()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_the_page_and_name_their_data(name):
    draw, caption, tables = FIGURES[name]
    figure = draw(*tables(), QUICK, True)
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(180)
    assert figure.get_size_inches()[1] * 25.4 < 240
    assert all(text.get_fontsize() >= 6 for text in figure.findobj(Text))
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 255).all()  # nothing runs over the edge
    assert "computed here, simulated data" in words(figure)
    real = draw(*tables(), QUICK, False)
    assert "simulated data" not in words(real) and "real data (CNeuroMod" in words(real)
    assert "Simulated data" in caption(*tables(), QUICK, True)
    text = caption(*tables(), QUICK, False)
    assert "Real data" in text and "imulated" not in text.replace("sub-sim", "")
    assert "n = 4 participants" in text and "Not computed" not in text


@pytest.mark.parametrize("name", FIGURES)
def test_empty_tables_are_gaps_and_the_command_is_named(name):
    draw, caption, tables = FIGURES[name]
    given = [t if t is ARMS or "left_out" in t else t[:0] for t in tables()]
    figure = draw(*given, QUICK, True)
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
    assert any(line.get_label().startswith("gap ") for line in marks)
    assert "`./run_all.sh --only audit` fills the gaps" in caption(*given, QUICK, True)


@pytest.mark.parametrize("name", FIGURES)
def test_published_values_and_cut_tables_are_refused(name):
    draw, _, tables = FIGURES[name]
    first, *rest = tables()
    with pytest.raises(CobeError, match="rows are published, not computed"):
        draw(first.assign(source="published"), *rest, QUICK, True)
    with pytest.raises(CobeError, match="table: no column r"):
        draw(first.drop(columns="r"), *rest, QUICK, True)
    with pytest.raises(CobeError, match="two rows|rows for"):
        draw(pd.concat([first, first]), *rest, QUICK, True)


def test_width_draws_the_table_and_its_differences():
    scores = width_scores()
    figure = fig_audit_width(scores, QUICK, True)
    cells = axis_cells(QUICK, get_axis(QUICK, "hidden_dim"))
    for subject in SUBJECTS:
        axes = panel(figure, f"scores {subject}")
        for protocol in ("native", "corrected"):
            (line,) = lines(axes, f"{protocol} trained")
            wanted = [mean_of(scores, c.name, subject, protocol) for c in cells]
            np.testing.assert_allclose(line.get_ydata(), wanted)
            (line,) = lines(axes, f"{protocol} untrained")
            assert line.get_markerfacecolor() == "white"
    learned = panel(figure, "learned")
    for cell in cells:
        (point,) = lines(learned, f"native {cell.hidden}")
        wanted = by_hand(scores, cell.name, cell.untrained().name, "native")
        assert point.get_ydata()[0] == pytest.approx(wanted)
    # planted: native gains .03 trained, .045 untrained (less where r is low); matched gains nothing
    gains = panel(figure, "gains")
    scale = np.mean([1 - 0.05 * i for i in range(4)])
    for label, planted in (
        ("trained, native", 0.03),
        ("untrained, native", 0.045),
        (f"trained, {QUICK.protocol.n_features} features", 0.0),
    ):
        (point,) = lines(gains, label)
        assert point.get_xdata()[0] == pytest.approx(planted * scale, abs=0.001)
    text = caption_audit_width(scores, QUICK, True)
    assert "gain of the trained models is +.028 (interval above 0)" in text


def test_a_score_that_is_missing_or_undefined_is_a_gap():
    scores = width_scores()
    first, second = axis_cells(QUICK, get_axis(QUICK, "hidden_dim"))[:2]
    lost = (scores.cell == first.name) & (scores.protocol == "native")
    scores = scores[~(lost & (scores.subject == SUBJECTS[1]))].copy()
    scores.loc[(scores.cell == second.name) & (scores.protocol == "native"), "r"] = np.nan
    figure = fig_audit_width(scores, QUICK, True)
    assert len(lines(panel(figure, f"scores {SUBJECTS[0]}"), "gap native trained")) == 1
    assert len(lines(panel(figure, f"scores {SUBJECTS[1]}"), "gap native trained")) == 2
    assert len(lines(panel(figure, "learned"), f"gap native {second.hidden}")) == 1
    text = caption_audit_width(scores, QUICK, True)
    assert f"gpt, hidden size {first.hidden}, native in {SUBJECTS[1]}" in text
    assert "up to 3 pairs without a partner are left out" in text


@pytest.mark.parametrize(
    ("bf16", "seed", "verdict"),
    [
        (0.0, 0.004, "does not exceed the noise: larger than 0 of 6 seed pairs"),
        (0.006, 0.004, "does not exceed the noise: larger than 4 of 6 seed pairs"),
        (0.03, 0.004, "exceeds all 6 differences between two seeds"),
    ],
)
def test_noise_says_whether_precision_exceeds_it(bf16, seed, verdict):
    scores, losses = noise_tables(bf16, seed)
    text = caption_audit_noise(scores, losses, ARMS, QUICK, True)
    assert f"validation loss: precision {verdict}." in text
    assert f"mean r: precision {verdict}." in text
    assert "With 3 seeds a sign test over seeds cannot give p below .25" in text
    figure = fig_audit_noise(scores, losses, ARMS, QUICK, True)
    noise = panel(figure, "noise validation loss")
    np.testing.assert_allclose(lines(noise, "precision")[0].get_xdata(), -bf16, atol=1e-12)
    seeds = np.array([-2, -1, -1, 1, 1, 2, -2, -1, -1, 1, 1, 2]) * seed
    np.testing.assert_allclose(np.sort(lines(noise, "seed")[0].get_xdata()), np.sort(seeds))
    (mean,) = lines(panel(figure, "noise mean r"), "mean")
    assert mean.get_xdata()[0] == pytest.approx(bf16 * 0.925, abs=0.0008)


def test_one_seed_cannot_be_held_against_noise():
    arms = ARMS[(ARMS.arm != "noise") | (ARMS.seed == 0)]
    text = caption_audit_noise(*noise_tables(), arms, QUICK, True)
    assert "precision against seeds: not computed" in text
    assert "1 seed has both precisions: too few to test" in text


def test_published_precision_is_drawn_as_published():
    figure = fig_audit_noise(*noise_tables(), ARMS, QUICK, True)
    axes = panel(figure, "published")
    both, base = published.max_r("precision"), published.max_r("data_size")
    for level, rows in (
        ("fp16", both[both.level == "fp16"]),
        ("fp32", both[both.level == "fp32"]),
        ("base", base[base.level == "6M"]),
    ):
        (line,) = lines(axes, f"published {level}")
        np.testing.assert_array_equal(line.get_ydata(), rows.sort_values("subject").max_pearson_r)
    text = caption_audit_noise(*noise_tables(), ARMS, QUICK, True)
    assert "differ by up to .012" in text and "by up to .02 (" in text


def test_noise_arm_of_another_shape_is_an_error():
    tables = noise_tables()
    third = ARMS[ARMS.precision == "bf16"].assign(precision="fp16")
    with pytest.raises(CobeError, match="holds bf16, fp16, fp32; give fp32 and one other"):
        fig_audit_noise(*tables, pd.concat([ARMS, third]), QUICK, True)
    with pytest.raises(CobeError, match="precision and seed of the noise arm has two rows"):
        fig_audit_noise(*tables, pd.concat([ARMS, ARMS]), QUICK, True)
    with pytest.raises(CobeError, match="no arm 'noise'"):
        fig_audit_noise(*tables, ARMS[ARMS.arm != "noise"], QUICK, True)
    with pytest.raises(CobeError, match="arm table: no column seed"):
        fig_audit_noise(*tables, ARMS.drop(columns="seed"), QUICK, True)


def test_data_size_recovers_what_each_design_adds():
    """Planted: size .03, one participant .02 and fewer updates .015 more, by participant."""
    scores, losses, arms, contents = data_tables()
    figure = fig_audit_data_size(scores, losses, arms, contents, QUICK, True)
    gains = panel(figure, "gains")
    for label, planted in (
        ("all participants, equal updates", 0.03),
        ("first of the list, equal updates", 0.05),
        ("all participants, equal epochs", 0.045),
        ("published design", 0.065),
    ):
        (point,) = lines(gains, label)
        assert point.get_xdata()[0] == pytest.approx(planted * 0.925, abs=0.001)
    spread = axis_cells(QUICK, get_axis(QUICK, "data_size"))
    (line,) = lines(panel(figure, "losses a"), "all participants, equal updates")
    lowest = losses.groupby("cell").val_loss.min()
    np.testing.assert_array_equal(line.get_ydata(), lowest[[c.name for c in spread]])
    for subject in SUBJECTS:
        (line,) = lines(panel(figure, f"scores b {subject}"), "all participants, equal updates")
        wanted = [mean_of(scores, c.name, subject) for c in spread]
        np.testing.assert_allclose(line.get_ydata(), wanted)
        (line,) = lines(panel(figure, f"scores b {subject}"), "untrained")
        wanted = mean_of(scores, QUICK.base.untrained().name, subject)
        np.testing.assert_allclose(line.get_ydata(), wanted)
    text = caption_audit_data_size(scores, losses, arms, contents, QUICK, True)
    assert "The published design gains +.060 in mean r (interval above 0)" in text
    assert "equal updates the gain is +.028 (interval above 0)" in text
    assert "The loss falls by 3.25 nats per token in the published design and by 1.50" in text
    assert f"{SUBJECTS[0]}, who was trained on, +.017" in text
    assert "Its own participant ranks 1 of 4 (first by chance: 1 in 4)" in text


def test_a_size_without_video_is_no_gap():
    scores, losses, arms, contents = data_tables()
    few = subset_contents(clip_table(60), all_arm_cells(QUICK))
    cells = contents.cell[few.n_windows == 0]
    assert len(cells)
    kept = [t[~t.cell.isin(cells)] for t in (scores, losses)]
    text = caption_audit_data_size(*kept, arms, few, QUICK, True)
    assert "Not computed: " not in text
    figure = fig_audit_data_size(*kept, arms, few, QUICK, True)
    assert "–" in [t.get_text() for t in figure.texts]


def test_contents_are_counted_in_the_clips():
    cells = all_arm_cells(QUICK)
    clips = clip_table()
    table = subset_contents(clips, cells).set_index("cell")
    by_name = {cell.name: cell for cell in cells}
    for name, row in table.iterrows():
        cell = by_name[name]
        if cell.scheme == "prefix":
            # in list order: as many participants as the first clips belong to
            n_clips = cell.n_frames // 64
            assert row.n_subjects == clips.subject[:n_clips].nunique()
        elif cell.scheme == "single":
            assert row.subjects == SUBJECTS[0] and row.n_subjects == 1
    assert table.n_subjects[QUICK.base.name] == 4 and table.n_levels[QUICK.base.name] == 2
    held_back = clips.assign(role=np.where(clips.subject == SUBJECTS[0], "ridge", "video_train"))
    again = subset_contents(held_back, cells).set_index("cell")
    assert not again.subjects.str.contains(SUBJECTS[0]).any()
    with pytest.raises(CobeError, match="clip table: no column level"):
        subset_contents(clips.drop(columns="level"), cells)


def test_contents_of_another_run_are_an_error():
    scores, losses, arms, contents = data_tables()
    with pytest.raises(CobeError, match="contents of subsets: nothing of"):
        fig_audit_data_size(scores, losses, arms, contents[1:], QUICK, True)
    single = contents.cell.str.contains("single") & contents.cell.str.startswith("3000f")
    mixed = contents.assign(subjects=contents.subjects.where(~single, SUBJECTS[1]))
    with pytest.raises(CobeError, match="the models of one participant saw sub-sim1, sub-sim2"):
        fig_audit_data_size(scores, losses, arms, mixed, QUICK, True)
    with pytest.raises(CobeError, match="has a step twice"):
        fig_audit_data_size(scores, pd.concat([losses] * 2), arms, contents, QUICK, True)


def test_readout_draws_every_block_and_tells_depth_from_readout():
    blocks, scores = readout_tables()
    figure = fig_audit_readout(blocks, scores, QUICK, True)
    cells = axis_cells(QUICK, get_axis(QUICK, "n_layers"))
    for subject in SUBJECTS:
        axes = panel(figure, f"depth {subject}")
        for cell in cells:
            rows = blocks[(blocks.cell == cell.name) & (blocks.subject == subject)]
            (line,) = lines(axes, f"trained {cell.n_layers}")
            np.testing.assert_array_equal(line.get_ydata(), rows.r)
            np.testing.assert_allclose(line.get_xdata(), (rows.block + 1) / cell.n_layers)
            (rings,) = (
                c for c in axes.collections if c.get_label() == f"chosen trained {cell.n_layers}"
            )
            assert len(rings.get_offsets()) == (cell.n_layers if cell.n_layers > 1 else 0)
    (image,) = panel(figure, "all models").images
    values = np.asarray(image.get_array(), float)
    assert values.shape == (blocks.cell.nunique(), blocks.n_layers.max())
    names = [t.get_text() for t in panel(figure, "all models").get_yticklabels()]
    deep = cells[-1]
    row = names.index(f"200k-h{deep.hidden}-l{deep.n_layers}-a{deep.n_heads}")
    wanted = blocks[blocks.cell == deep.name].groupby("block").r.mean()
    np.testing.assert_allclose(values[row], wanted)
    text = caption_audit_readout(blocks, scores, QUICK, True)
    assert "Middle block, 4 minus 1 layers: +.020, above 0 in 4 of 4 participants" in text
    assert "Last block, 4 minus 1 layers: -.020, above 0 in 0 of 4 participants" in text
    assert "With 1 and 2 layers both are one block" in text


def test_a_block_that_one_participant_lacks_is_not_averaged():
    blocks, scores = readout_tables()
    deep = axis_cells(QUICK, get_axis(QUICK, "n_layers"))[-1].name
    lost = (blocks.cell == deep) & (blocks.block == 2) & (blocks.subject == SUBJECTS[0])
    figure = fig_audit_readout(blocks[~lost], scores, QUICK, True)
    axes = panel(figure, "all models")
    values = np.asarray(axes.images[0].get_array().filled(np.nan), float)
    assert np.isnan(values).sum() == 1 + (values.size - len(blocks) // len(SUBJECTS))
    assert [t.get_text() for t in axes.texts].count("×") == 1
    assert len(lines(panel(figure, f"depth {SUBJECTS[0]}"), "gap trained 4")) == 1
    assert not lines(panel(figure, f"depth {SUBJECTS[1]}"), "gap trained 4")
    text = caption_audit_readout(blocks[~lost], scores, QUICK, True)
    assert f"Not computed: blocks of {deep} in {SUBJECTS[0]};" in text
    assert "Middle block, 4 minus 1 layers: +.020, above 0 in 3 of 3 participants" in text


def test_blocks_that_cannot_be_are_errors():
    blocks, scores = readout_tables()
    with pytest.raises(CobeError, match="beyond its model's layers"):
        fig_audit_readout(blocks.assign(block=blocks.block + 1), scores, QUICK, True)


def test_differences_count_what_has_no_partner():
    index = pd.MultiIndex.from_product([SUBJECTS, SESSIONS], names=["subject", "held_out"])
    first = pd.Series(np.linspace(0.2, 0.3, len(index)), index)
    second = first - 0.01
    second.iloc[0] = np.nan
    found = difference(first, second.drop(index[1])[::-1])
    assert (found.n_pairs, found.n_left_out) == (len(index) - 2, 2)
    assert found.mean == pytest.approx(0.01) and found.low == pytest.approx(0.01)
    assert found.text == "+.010 [+.010, +.010]"
    assert difference(first[:1], second) is None and difference(first[:0], second[:0]) is None
