"""Figures of the null and the planted brain: what is drawn and said is what the tables hold."""

import re

import numpy as np
import pandas as pd
import pytest

from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report.audit.trial_captions import null_caption, planted_caption
from cobe.report.audit.trials import fig_null_brain, fig_planted_brain

QUICK = get_profile("quick")
PROTOCOLS = [QUICK.published, QUICK.protocol]
N_DRAWS = 40


def report(rng, protocol, r, n_found=0):
    n = len(r)
    leaks = protocol.holdout == "volumes"
    return {
        "protocol": protocol.name,
        "summary": protocol.summary,
        "r": r,
        "r_mean": r - 0.2 if leaks else r,
        "r_max": r if leaks else r + 0.2,
        "chance_95": np.full(n, 0.6 if leaks else 0.03),
        "p": rng.uniform(size=n),
        "n_found": n_found,
        "n_parcels": 240,
        "fewest_findable": 10,
        "n_permutations": 500,
        "n_trs": 110 if leaks else 1100,
        "leaks": leaks,
    }


def null_table():
    rng = np.random.default_rng(0)
    found = np.zeros(N_DRAWS, int)
    found[:2] = 3
    tables = [
        report(rng, QUICK.published, rng.normal(0.5, 0.05, N_DRAWS)),
        report(rng, QUICK.protocol, np.linspace(-0.0401, 0.0399, N_DRAWS), found),
    ]
    return pd.concat(
        [pd.DataFrame(t).assign(draw=range(N_DRAWS)) for t in tables], ignore_index=True
    )


SETS = {"keys": (0.2, 12), "codes": (0.1, 32), "network": (0.0, 96)}
REPORTED = {"as_published": (0.5, 0.55, 0.62), "corrected": (0.4, 0.2, 0.0)}


def planted_table():
    rng = np.random.default_rng(1)
    tables = []
    for protocol in PROTOCOLS:
        for (name, (share, n)), r in zip(SETS.items(), REPORTED[protocol.name], strict=True):
            row = report(rng, protocol, r + rng.normal(0, 0.002, N_DRAWS))
            row |= {"set": name, "share": share, "n_features": n, "ceiling": np.sqrt(share)}
            row |= {"lag_one": 0.45}
            tables.append(pd.DataFrame(row).assign(draw=range(N_DRAWS)))
    return pd.concat(tables, ignore_index=True)


def order_table():
    ceilings = {"low": 0.6, "object": 0.5, "null": 0.0, "all": 0.45}
    rows = [
        {"protocol": p.name, "cell": "base", "features": "gpt", "subject": s, "region": region}
        | {"n_parcels": 240, "r": ceiling / 2 + 0.01 * i, "ceiling": ceiling, "n_found": 3}
        | {"rank_correlation": 0.5 + 0.1 * i}
        for p in PROTOCOLS
        for i, s in enumerate(("sub-1", "sub-2"))
        for region, ceiling in ceilings.items()
    ]
    return pd.DataFrame(rows)


def texts(figure):
    found = [t.get_text() for t in figure.texts]
    for axes in figure.axes:
        found += [t.get_text() for t in axes.texts] + [axes.get_title("left")]
        if axes.get_legend():
            found += [t.get_text() for t in axes.get_legend().get_texts()]
    return found


def test_null_brain_shows_medians_counts_and_every_draw():
    trials = null_table()
    figure = fig_null_brain(trials, simulated=True)
    published, corrected, chance, found = figure.axes
    words = texts(figure)
    median = trials.loc[trials["protocol"] == "as_published", "r"].median()
    assert f"{median:.2f}" in words and "0.00" in words and "-0.00" not in words
    assert any(f"above zero in {N_DRAWS} of {N_DRAWS}" in text for text in words)
    assert any(f"above zero in {N_DRAWS // 2} of {N_DRAWS}" in text for text in words)
    for axes in (published, corrected):
        assert sum(patch.get_height() for patch in axes.patches) == N_DRAWS
    dots = [line for line in chance.lines if line.get_marker() == "o"]
    for line, (_, here) in zip(dots, trials.groupby("protocol", sort=False), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), here["r"])
        np.testing.assert_array_equal(line.get_xdata(), here["chance_95"])
    above = (trials["r"] > trials["chance_95"])[trials["protocol"] == "corrected"].sum()
    assert 0 < above < N_DRAWS and f"corrected: {above} of {N_DRAWS} above" in words
    assert f"0 in {N_DRAWS} of {N_DRAWS}" in words and f"0 in {N_DRAWS - 2} of {N_DRAWS}" in words
    assert sum(patch.get_height() for patch in found.patches) == 2 * N_DRAWS
    assert any("simulated data" in text for text in words)
    assert any("real data" in text for text in texts(fig_null_brain(trials, simulated=False)))


def test_many_found_parcels_are_all_counted():
    trials = null_table()
    trials.loc[trials["protocol"] == "as_published", "n_found"] = np.arange(N_DRAWS) * 6
    found = fig_null_brain(trials, simulated=True).axes[-1]
    assert sum(patch.get_height() for patch in found.patches) == 2 * N_DRAWS


def test_null_caption_says_n_split_statistic_and_what_cannot_be_found():
    text = null_caption(null_table(), PROTOCOLS, simulated=True)
    for part in (
        f"{N_DRAWS} surrogates",
        "simulated data",
        "as_published: largest r of 240 parcels, 10% of the volumes held out at random",
        "110 held-out volumes",
        "corrected: mean r of 240 parcels, each session held out in turn (1,100",
        "500 permutations",
        "10 of 240 under corrected",
        "may happen in 5 of 100 and does in 0 of 40 under as_published, 5 of 40 under corrected.",
        "Means over parcels may be judged significant somewhat too often.",
    ):
        assert part in text
    largest = null_caption(null_table().iloc[:N_DRAWS], PROTOCOLS, simulated=True)
    assert "under as_published. The published" in largest and "too often" not in largest
    with pytest.raises(CobeError, match="as_published of the trials is not among corrected"):
        null_caption(null_table(), PROTOCOLS[1:], simulated=True)


def test_planted_brain_ranks_and_counts_draws():
    trials = planted_table()
    figure = fig_planted_brain(trials, order_table(), simulated=True)
    planted, published, corrected = figure.axes[:3]
    assert [patch.get_width() for patch in planted.patches] == [20, 10, 0]
    words = [t.get_text() for t in published.texts], [t.get_text() for t in corrected.texts]
    assert [t for t in words[0] if re.fullmatch(r"\d\.", t)] == ["3.", "2.", "1."]
    assert [t for t in words[1] if re.fullmatch(r"\d\.", t)] == ["1.", "2.", "3."]
    assert f"0 of {N_DRAWS}" in words[0] and f"{N_DRAWS} of {N_DRAWS}" in words[1]
    for axes, name in ((published, "as_published"), (corrected, "corrected")):
        here = trials[trials["protocol"] == name]
        widths = [patch.get_width() for patch in axes.patches]
        expected = here.groupby("set", sort=False)["r"].median()
        np.testing.assert_allclose(widths, expected[list(SETS)])
        ceilings = [line.get_xdata()[0] for line in axes.lines if line.get_label() == "ceiling"]
        np.testing.assert_allclose(ceilings, [np.sqrt(share) for share, _ in SETS.values()])
        means = [line for line in axes.lines if line.get_label() == "mean"]
        assert len(means) == (len(SETS) if name == "as_published" else 0)


def test_regions_are_drawn_for_every_participant_and_left_out_without_truth():
    order = order_table()
    figure = fig_planted_brain(planted_table(), order, simulated=True)
    regions = figure.axes[3:]
    assert len(regions) == 2
    assert [t.get_text() for t in regions[0].get_yticklabels()] == ["low", "object", "null"]
    for axes, (_, here) in zip(regions, order.groupby("protocol", sort=False), strict=True):
        for region, rows in here[here["region"] != "all"].groupby("region"):
            (line,) = [line for line in axes.lines if line.get_label() == f"r {region}"]
            np.testing.assert_array_equal(line.get_xdata(), rows["r"])
        assert axes.get_title("left").endswith("rank correlation 0.50 to 0.60")
    assert len(fig_planted_brain(planted_table(), None, simulated=False).axes) == 3


def test_planted_caption_says_shares_verdicts_and_data():
    text = planted_caption(planted_table(), order_table(), PROTOCOLS, simulated=True)
    for part in (
        f"{N_DRAWS} draws",
        "keys 20 % (12 features, lag-one correlation 0.45), codes 10 % (32 features",
        f"as_published (Kendall's tau -1.00; ranked first: network {N_DRAWS})",
        f"corrected (Kendall's tau 1.00; ranked first: keys {N_DRAWS})",
        "2 participants, 240 parcels each",
        "embedded data set (simulated), model base",
    ):
        assert part in text
    assert "embedded" not in planted_caption(planted_table(), None, PROTOCOLS, simulated=False)


def test_mixed_designs_and_models_are_refused():
    with pytest.raises(CobeError, match="no rows"):
        fig_null_brain(null_table().iloc[:0], simulated=True)
    mixed = null_table()
    mixed.loc[3, "n_parcels"] = 24
    with pytest.raises(CobeError, match="several values of n_parcels under as_published"):
        fig_null_brain(mixed, simulated=True)
    order = order_table()
    two = pd.concat([order, order.assign(cell="other")])
    with pytest.raises(CobeError, match="models base, other; give one model per protocol"):
        fig_planted_brain(planted_table(), two, simulated=True)


def test_any_number_of_protocols_has_its_colour():
    trials = null_table()
    more = [trials] + [
        trials[trials["protocol"] == "corrected"].assign(protocol=f"other {i}") for i in range(7)
    ]
    assert len(fig_null_brain(pd.concat(more), simulated=True).axes) == 9 + 2
