"""The figure of the controls: what is drawn, and who ties with or beats the learned features."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.report import controls, figures, style
from cobe.report.captions import caption
from report_tables import panel, score_table, summary_rows, words

SMOKE = get_profile("smoke")
SCORES = score_table(SMOKE, SMOKE.plan.n_parcels, published=True)
CORRECTED = SCORES[SCORES["protocol"] == "corrected"]


def test_controls_are_drawn_and_the_highest_is_marked():
    figure = figures.fig_controls(SMOKE, SCORES, True)
    for subject in SMOKE.plan.subjects:
        axes = panel(figure, subject)
        points = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
        wanted = {}
        for features in controls.CONTROLS:
            rows = summary_rows(SCORES, "corrected", "mean", features).loc[subject]
            name = {"gpt": SMOKE.base.name, "untrained": SMOKE.base.untrained().name}
            wanted[features] = rows.loc[name.get(features, features), "r"]
        assert {key: points[key] for key in wanted} == wanted
        best = max(wanted, key=wanted.get)
        (star,) = (text for text in axes.texts if "★" in text.get_text())
        assert star.xy[1] == controls.CONTROLS.index(best)
        assert f"{wanted[best]:.3f}"[1:] in star.get_text()
    missing = figures.fig_controls(SMOKE, SCORES[SCORES["features"] != "vq"], True)
    axes = panel(missing, SMOKE.plan.subjects[0])
    assert [t.get_position()[1] for t in axes.texts if t.get_text() == style.NOT_COMPUTED] == [2]


def units(differences, n_subjects=4, n_sessions=3, noise=0.004):
    """A score table of session means: the base model at .3, each control below it by so much."""
    rng = np.random.default_rng(0)
    names = {"gpt": SMOKE.base.name, "untrained": SMOKE.base.untrained().name}
    rows = []
    for features, below in {"gpt": 0.0, **differences}.items():
        for s in range(n_subjects):
            for k in range(n_sessions):
                row = {"subject": f"sub-{s}", "held_out": f"ses-{k}", "features": features}
                row |= {"r": 0.3 + 0.02 * s - below + rng.normal(0, noise), "summary": "mean"}
                rows.append(row | {"cell": names.get(features, features)})
    table = pd.DataFrame(rows).assign(protocol="corrected", target=-1)
    return table.reindex(columns=[*SCORES.columns])


def test_a_control_that_ties_or_beats_is_said_from_paired_differences():
    table = units({"untrained": 0.1, "vq": 0.0, "pixel_pca": -0.05, "buttons": 0.2})
    found = controls.control_comparisons(SMOKE, table).set_index("features")
    wide = table.pivot_table(index=["subject", "held_out"], columns="features", values="r")
    for features in ("untrained", "vq", "pixel_pca", "buttons"):
        by_hand = (wide["gpt"] - wide[features]).mean()
        assert found.loc[features, "difference"] == pytest.approx(by_hand)
        # against Student's interval of the paired differences
        t = ttest_rel(wide["gpt"], wide[features]).confidence_interval()
        assert found.loc[features, "ci_low"] == pytest.approx(t.low, abs=0.002)
        assert found.loc[features, "ci_high"] == pytest.approx(t.high, abs=0.002)
    verdicts = found["verdict"].to_dict()
    assert verdicts == {
        "untrained": controls.LOSES,
        "vq": controls.TIES,
        "pixel_pca": controls.BEATS,
        "lowlevel": style.NOT_COMPUTED,
        "buttons": controls.LOSES,
    }
    text = controls.controls_sentence(SMOKE, table)
    assert "over 12 units (subject x held-out session): " in text
    assert "Pixel PCA (-.0" in text and "beats the trained GPT." in text
    assert "VQ-VAE codes (" in text and "ties with the trained GPT" in text
    assert "The trained GPT beats its untrained twin (+.1" in text
    assert "Not computed: low-level video." in text
    better = units(dict.fromkeys(controls.CONTROLS[1:], 0.1))
    assert "No control that was computed ties with or beats it." in controls.controls_sentence(
        SMOKE, better
    )


def test_a_control_that_lacks_units_says_so():
    table = units({"vq": 0.1, "buttons": 0.1})
    gone = (table["features"] == "vq") & (table["subject"] == "sub-0")
    few = (table["features"] == "buttons") & (table["subject"] != "sub-0")
    few |= (table["features"] == "buttons") & (table["held_out"] != "ses-0")
    text = controls.controls_sentence(SMOKE, table[~gone & ~few])
    assert "; 9 units)" in text
    assert "Too few units to compare with buttons" in text
    with pytest.raises(CobeError, match="has a unit twice"):
        controls.control_comparisons(SMOKE, pd.concat([table, table]))


def test_the_figure_of_the_controls_reads_one_protocol_and_says_who_wins():
    text = controls.controls_sentence(SMOKE, SCORES)
    figure = figures.fig_controls(SMOKE, SCORES, True)
    assert text in words(figure).replace("\n", " ")
    assert text in caption("fig_controls", SMOKE, SCORES, simulated=True)
    assert text == controls.controls_sentence(SMOKE, CORRECTED)
    assert "over 4 units (subject x held-out session), so few that the intervals are too" in text
