import sys

import numpy as np
import pytest

from cobe.core.errors import CobeError
from cobe.explore.clips import clip_browser, latent_frame, token_map, token_words
from cobe.explore.pictures import error_map, error_top
from cobe.report.style import PaperFigure
from shown_widgets import axes_of, controls, enlarged, planted_clips, shown, words

LABELS = ["sub-a <1>", "sub-b, 7 s", "sub-c"]


def planted_codes():
    """Codes (3, 4, 4, 4): 0 but for the last clip, whose token 5 is 1, 2, 2, 3 in time."""
    codes = np.zeros((3, 4, 4, 4), np.uint16)
    codes[2, :, 1, 1] = [1, 2, 2, 3]
    return codes


def test_clip_browser_shows_the_frame_that_its_sliders_point_at():
    clips = planted_clips()
    shift = np.arange(3)[:, None, None, None, None] * 7 - 20
    rebuilt = np.clip(clips.astype(int) + shift, 0, 255).astype(np.uint8)
    box = clip_browser(clips, rebuilt, LABELS, True, live=True)
    for clip, frame in [(0, 0), (2, 0), (2, 11)]:
        controls(box)["clip"].value, controls(box)["frame"].value = clip, frame
        pictures = shown(box)
        original, described = pictures["original"]
        assert (original == enlarged(clips[clip, frame])).all()
        assert LABELS[clip] in described and f"frame {frame}" in described
        assert (pictures["rebuilt from tokens"][0] == enlarged(rebuilt[clip, frame])).all()
        assert f"frame {frame} of 16, {frame / 15:.2f} s" in words(box)
        squares = (clips[clip].astype(float) - rebuilt[clip]) ** 2
        psnr = 10 * np.log10(255**2 / squares.mean())
        assert f"PSNR of the clip {psnr:.1f} dB" in words(box)
    assert "gamma" not in words(box) and words(box).startswith("<b>simulated data</b>: sub-c")
    controls(box)["clip"].value = 0
    assert "sub-a &lt;1>" in words(box)


def test_the_error_map_is_dark_where_frames_agree_and_has_one_scale():
    clips = planted_clips()
    rebuilt = clips.copy()
    rebuilt[1, 3, :8, :8] = 0
    top = error_top(clips, rebuilt)
    assert top == 10
    rebuilt[0] = clips[0] - 40
    assert error_top(clips, rebuilt) == 40
    rgb = error_map(clips[1, 3], rebuilt[1, 3], 40)
    lightness = rgb.astype(int).sum(-1)
    assert (lightness[8:] == lightness[-1, -1]).all() and lightness[-1, -1] < 10
    assert (lightness[:8, :8] > 500).all()
    halves = error_map(
        np.full((2, 1, 3), 100, np.uint8), np.array([[[80] * 3], [[70] * 3]], np.uint8), 40
    )
    assert halves[0].sum() < halves[1].sum()


def test_dark_video_is_lightened_and_that_is_said():
    clips = planted_clips() // 40
    box = clip_browser(clips, clips, LABELS, False, live=True)
    expected = np.rint(255 * np.sqrt(clips[0, 0] / 255)).astype(np.uint8)
    assert (shown(box)["original"][0] == enlarged(expected)).all()
    assert "gamma 0.5" in words(box) and "PSNR of the clip equal" in words(box)
    assert words(box).startswith("<b>real data")


def test_a_film_runs_over_the_frames_of_a_clip():
    box = clip_browser(planted_clips(), planted_clips(), LABELS, True, live=True)
    (play,) = [each for each in box.children if type(each).__name__ == "Play"]
    assert (play.min, play.max) == (0, 15) and play.interval > 1000 / 15


def test_tokens_of_a_frame_are_those_of_its_latent_frame():
    assert [latent_frame(frame, 16, 4) for frame in range(16)] == [0] * 4 + [1] * 4 + [2] * 4 + [
        3
    ] * 4
    clips = planted_clips()
    box = token_map(planted_codes(), clips, clips, LABELS, 10, True, live=True)
    controls(box)["clip"].value, controls(box)["token"].value = 2, 5
    said = "token 5 (row 1, column 1) is code"
    before = shown(box)[""][0]
    assert (
        f"{said} 1. Code 1 is 1 of the 192 tokens here (0.52 %), rank 3 of 4 codes in use"
        in words(box)
    )
    controls(box)["frame"].value = 4
    assert f"{said} 2, new (it was 1); 1 of 16 tokens are new" in words(box)
    assert (shown(box)[""][0] != before).any()
    controls(box)["frame"].value = 11
    assert f"{said} 2, unchanged; 0 of 16 tokens are new in this latent frame" in words(box)
    assert "Code 2 is 2 of the 192 tokens" in words(box)


def test_ranks_count_only_codes_that_are_used_more():
    uses = np.array([5, 5, 0, 9, 1])
    codes = np.array([[[0, 1], [3, 4]]])
    for token, rank in enumerate([2, 2, 1, 4]):
        assert f"rank {rank} of 4 codes in use, of 5" in token_words(codes, 0, 16, token, uses)


def test_without_widgets_figures_say_what_they_show(monkeypatch):
    clips = planted_clips()
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    figure = clip_browser(clips, clips // 2, LABELS, True, live=True)
    assert isinstance(figure, PaperFigure)
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == "simulated data" and any("sub-b,\n7 s" in text for text in texts)
    assert (np.asarray(axes_of(figure, "row 3 frame 4").images[0].get_array()) == clips[1, 4]).all()
    figure = token_map(planted_codes(), clips, clips, LABELS, 10, True, live=True)
    assert isinstance(figure, PaperFigure) and figure.texts[-1].get_text().startswith(
        "sub-c; frame 4"
    )
    numbers = {text.get_text() for text in axes_of(figure, "original, latent frame 1").texts}
    assert numbers == {"0", "2"}


def test_arrays_that_do_not_fit_are_refused():
    clips, codes = planted_clips(), planted_codes()
    for bad, message in [
        ((clips[:0], clips[:0], []), r"clips: uint8 \(0, 16, 64, 64, 3\)"),
        ((clips.astype(float), clips, LABELS), "clips: float64"),
        ((clips, clips[:2], LABELS), r"rebuilt: \(2, .*, beside \(3,"),
        ((clips, clips, LABELS[:2]), "labels: 2 for 3 clips"),
    ]:
        with pytest.raises(CobeError, match=message):
            clip_browser(*bad, True, live=False)
    for bad, n_codes, message in [
        (codes[:2], 10, "for 3 clips; hand over integers"),
        (codes.astype(float), 10, "codes: float64"),
        (codes[:, :3], 10, "3 latent frames do not divide 16"),
        (codes, 3, "codes: from 0 to 3, of 3"),
    ]:
        with pytest.raises(CobeError, match=message):
            token_map(bad, clips, clips, LABELS, n_codes, True, live=False)
