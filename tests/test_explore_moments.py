from dataclasses import replace

import numpy as np
import pytest

from cobe.core.errors import CobeError
from cobe.explore.moments import moment_browser, run_r
from cobe.report.style import PaperFigure
from cobe.sweep.moments import Moments
from shown_widgets import (
    axes_of,
    controls,
    enlarged,
    planted_clips,
    runs_over_the_edge,
    shown,
    words,
)

TR_S, N_TRS = 1.49, 48
LATER, NOW = "s earlier: what the blood answers to", "on screen at this volume: not yet answered"


def planted(number=1, seed=0):
    """48 volumes, 3 parcels; the first ten are not predicted, 20 to 24 are not on screen."""
    rng = np.random.default_rng(seed)
    bold = rng.normal(size=(N_TRS, 3)).astype(np.float32)
    predicted = (0.5 * bold + rng.normal(size=bold.shape)).astype(np.float32)
    predicted[:10] = np.nan
    has_frame = np.ones(N_TRS, bool)
    has_frame[20:25] = False
    frames = planted_clips(3, seed).reshape(N_TRS, 64, 64, 3).copy()
    frames[~has_frame] = 0
    return Moments(
        *("sub-a", "ses-002", number, TR_S, bold, predicted, frames, has_frame),
        r=np.array([0.1, 0.4, np.nan]),
        readout="block_1",
    )


def picture(box, part):
    ((title, (rgb, _)),) = [item for item in shown(box).items() if part in item[0]]
    return title, rgb


def test_both_frames_are_those_that_their_titles_name():
    run = planted()
    box = moment_browser([run, planted(2, 1)], True, live=True)
    assert controls(box)["blood is late by"].value == 3  # 4.47 s, the nearest to 5
    controls(box)["volume"].value = 30
    title, rgb = picture(box, NOW)
    assert (
        rgb == enlarged(run.frames_at[30])
    ).all() and f"(volume 30, {30.5 * TR_S:.1f} s)" in title
    title, rgb = picture(box, LATER)
    assert (rgb == enlarged(run.frames_at[27])).all() and "(volume 27, 41.0 s)" in title
    assert title.startswith("4.5 s earlier")
    controls(box)["blood is late by"].value = 5
    title, rgb = picture(box, LATER)
    assert (rgb == enlarged(run.frames_at[25])).all() and title.startswith("7.5 s earlier")
    controls(box)["run"].value = "sub-a ses-002 run 2"
    assert (picture(box, NOW)[1] == enlarged(planted(2, 1).frames_at[30])).all()


def test_words_hold_the_values_of_the_volume():
    run = planted()
    box = moment_browser([run], True, live=True)
    controls(box)["volume"].value = 30
    assert "parcel 1: r .4 over all held-out data" in words(box)
    assert f"BOLD {run.bold[30, 1]:+.2f} z, predicted {run.predicted[30, 1]:+.2f};" in words(box)
    r = np.corrcoef(run.bold[10:, 1], run.predicted[10:, 1])[0, 1]
    assert run_r(run, 1) == pytest.approx(r) and f"{r:.3f}".lstrip("0") in words(box)
    controls(box)["parcel, by rank"].value = 2
    assert "parcel 0: r .1" in words(box)
    controls(box)["parcel, by rank"].value = 3
    assert "parcel 2: r nan" in words(box)


def test_what_was_not_seen_or_not_predicted_is_said():
    box = moment_browser([planted()], True, live=True)
    controls(box)["volume"].value = 22
    title, rgb = picture(box, NOW)
    assert "no replay: not known" in title and (rgb == rgb[0, 0]).all() and rgb[0, 0].min() > 100
    controls(box)["volume"].value = 2
    assert "before the run" in picture(box, LATER)[0]
    assert "predicted none (no features at a delay)" in words(box)


def test_the_still_shows_frames_from_before_the_volumes_that_it_marks():
    run = planted()
    figure = moment_browser([run], True, live=False)
    assert isinstance(figure, PaperFigure) and not runs_over_the_edge(figure)
    series = axes_of(figure, "series")
    lines = {line.get_label(): line for line in series.lines}
    assert np.array_equal(lines["BOLD"].get_ydata(), run.bold[:, 1])
    marked = lines["volumes of the frames below"]
    volumes = np.rint(marked.get_xdata() / TR_S - 0.5).astype(int)
    assert len(volumes) == 8 and volumes.min() == 10 and not set(volumes) & set(range(23, 28))
    for volume in volumes:
        image = axes_of(figure, f"frame before volume {volume}").images[0].get_array()
        assert (np.asarray(image) == run.frames_at[volume - 3]).all()


def test_runs_that_cannot_be_shown_are_refused():
    run = planted()
    nothing = np.full_like(run.predicted, np.nan)
    for bad, message in [
        ([], "moments: no run"),
        ([run, planted(seed=1)], "two runs have the same label"),
        ([run, replace(planted(2), tr_s=2.0)], "runs differ in tr_s"),
        (
            [replace(run, predicted=run.predicted[:-1])],
            r"predicted \(47, 3\) beside BOLD \(48, 3\)",
        ),
        ([replace(run, frames_at=run.frames_at[:-1])], "frames_at"),
        ([replace(run, has_frame=run.has_frame[:-1])], "has_frame"),
        ([replace(run, r=run.r[:2])], r"r \(2,\)"),
        ([replace(run, predicted=nothing)], "no volume is predicted"),
    ]:
        with pytest.raises(CobeError, match=message):
            moment_browser(bad, True, live=False)
