import numpy as np
import pandas as pd
import pytest

from cobe.core.errors import CobeError
from cobe.report.throughput import fig_throughput, throughput_caption

CHANGES = ["published recipe", "tokens once", "no checkpointing", "bf16", "fp16"]


def times():
    step_s = np.array([0.4, 0.3, 0.1, 0.08, np.nan])
    return pd.DataFrame(
        {
            "change": CHANGES,
            "precision": ["fp32", "fp32", "fp32", "bf16", "fp16"],
            "hidden": 96,
            "n_layers": 2,
            "n_heads": 4,
            "batch_size": 32,
            "n_tokens": 2048,
            "compile": False,
            "step_s": step_s,
            "step_s_low": step_s * 0.9,
            "step_s_high": step_s * 1.2,
            "ratio": step_s / step_s[0],
            "clock": "CPU time",
            "device": "cpu",
            "threads": 1,
            "note": ["", "", "", "", "not measured: a CPU trains in fp32, bf16"],
        }
    )


def learned():
    r = np.array([0.2, 0.21, 0.22, 0.22])
    return pd.DataFrame(
        {
            "change": CHANGES[:4],
            "val_loss": [3.5, 3.5, 3.2, 3.2],
            "r": r,
            "ci_low": r - 0.01,
            "ci_high": r + 0.01,
            "chance_95": 0.02,
        }
    )


def test_bars_are_the_medians_and_gaps_say_why():
    figure = fig_throughput(times(), learned(), simulated=True)
    first, loss, score = figure.axes
    bars = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in first.patches}
    assert bars == pytest.approx({0: 400, 1: 300, 2: 100, 3: 80})
    drawn = [text.get_text() for text in first.texts]
    assert "1.33×" in drawn and "5.00×" in drawn
    assert "not measured: a CPU trains in fp32, bf16" in drawn
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [3.5, 3.5, 3.2, 3.2, np.nan])
    np.testing.assert_allclose(score.lines[-1].get_xdata(), [0.2, 0.21, 0.22, 0.22, np.nan])


def test_score_axis_does_not_blow_up_a_third_digit():
    flat = learned().assign(val_loss=[3.2, 3.2001, 3.2, 3.2])
    _, loss, _ = fig_throughput(times(), flat, simulated=True).axes
    low, high = loss.get_xlim()
    assert high - low > 0.3


def test_mixed_shapes_and_unknown_recipes_are_refused():
    mixed = times()
    mixed.loc[0, "hidden"] = 48
    with pytest.raises(CobeError, match="several values of hidden"):
        fig_throughput(mixed, learned(), simulated=True)
    with pytest.raises(CobeError, match="magic not among the timed recipes"):
        fig_throughput(times(), learned().assign(change=[*CHANGES[:3], "magic"]), simulated=True)


def test_caption_says_device_date_n_and_gaps():
    text = throughput_caption(times(), 120, 4, "2026-11-22", simulated=True)
    for part in (
        "one thread of a CPU",
        "2026-11-22",
        "120 steps",
        "4 participants",
        "cannot run, marked: 1.",
    ):
        assert part in text
    assert "simulated brain data" in text
    assert "simulated" not in throughput_caption(times(), 120, 4, "2026-11-22", simulated=False)
