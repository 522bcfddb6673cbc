"""Low-level features: against closed forms and a plain loop."""

import numpy as np
import pytest

from cobe.core.errors import CobeError
from cobe.stimulus.lowlevel import clip_features


def cells(features, grid):
    """(n, 3, rows, cols): luminance, contrast, motion energy."""
    return features.reshape(len(features), 3, *grid)


def test_constant_grey_has_only_luminance():
    features = cells(clip_features(np.full((2, 16, 64, 64, 3), 51, np.uint8)), (4, 6))
    np.testing.assert_allclose(features[:, 0], 0.2, rtol=1e-6)
    np.testing.assert_allclose(features[:, 1:], 0, atol=1e-7)


def test_flicker_and_stripes():
    flicker = np.zeros((1, 16, 32, 48, 3), np.uint8)
    flicker[:, ::2] = 255
    luminance, contrast, motion = cells(clip_features(flicker), (4, 6))[0]
    np.testing.assert_allclose(luminance, 0.5, rtol=1e-6)
    np.testing.assert_allclose(contrast, 0, atol=1e-7)
    np.testing.assert_allclose(motion, 1, rtol=1e-6)

    stripes = np.zeros((1, 16, 32, 48, 3), np.uint8)
    stripes[:, :, ::2] = 255
    luminance, contrast, motion = cells(clip_features(stripes), (4, 6))[0]
    np.testing.assert_allclose(luminance, 0.5, rtol=1e-6)
    np.testing.assert_allclose(contrast, 0.5, rtol=1e-6)
    assert (motion == 0).all()


def test_colours_weigh_as_in_bt601():
    pure = np.zeros((3, 2, 4, 4, 3), np.uint8)
    for channel in range(3):
        pure[channel, ..., channel] = 255
    np.testing.assert_allclose(clip_features(pure, (1, 1))[:, 0], [0.299, 0.587, 0.114], rtol=1e-6)


def test_a_change_touches_its_own_cell_only():
    clip = np.full((1, 16, 64, 64, 3), 10, np.uint8)
    other = clip.copy()
    other[0, 5, 17:20, 33:40] = 200
    grid = (4, 4)
    changed = cells(clip_features(other, grid), grid) != cells(clip_features(clip, grid), grid)
    where = np.zeros((4, 4), bool)
    where[1, 2] = True
    assert (changed[0] == where).all()


def test_equals_a_plain_loop_where_the_grid_does_not_divide():
    clips = np.random.default_rng(0).integers(0, 256, (40, 5, 11, 13, 3), dtype=np.uint8)
    rows, cols = 3, 4
    luma = clips @ np.array([0.299, 0.587, 0.114]) / 255
    row_of = np.arange(11) * rows // 11
    col_of = np.arange(13) * cols // 13
    expected = np.empty((40, 3, rows, cols))
    for r in range(rows):
        for c in range(cols):
            cell = luma[:, :, row_of == r][..., col_of == c].reshape(40, 5, -1)
            expected[:, 0, r, c] = cell.mean((1, 2))
            expected[:, 1, r, c] = cell.std(2).mean(1)
            expected[:, 2, r, c] = (np.diff(cell, axis=1) ** 2).mean((1, 2))
    features = clip_features(clips, (rows, cols))
    assert features.dtype == np.float32 and features.shape == (40, 36)
    np.testing.assert_allclose(features, expected.reshape(40, -1), rtol=1e-5)


def test_no_clips_give_no_rows():
    assert clip_features(np.empty((0, 16, 64, 64, 3), np.uint8)).shape == (0, 72)


@pytest.mark.parametrize(
    ("shape", "dtype", "grid", "message"),
    [
        ((2, 16, 8, 8, 3), np.float32, (2, 2), "no set of clips"),
        ((16, 8, 8, 3), np.uint8, (2, 2), "no set of clips"),
        ((2, 1, 8, 8, 3), np.uint8, (2, 2), "no set of clips"),
        ((2, 16, 8, 8, 4), np.uint8, (2, 2), "no set of clips"),
        ((2, 16, 8, 8, 3), np.uint8, (9, 2), "does not fit"),
        ((2, 16, 8, 8, 3), np.uint8, (2, 0), "does not fit"),
    ],
)
def test_bad_input(shape, dtype, grid, message):
    with pytest.raises(CobeError, match=message):
        clip_features(np.zeros(shape, dtype), grid)
