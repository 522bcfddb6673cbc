"""Low-level features of clips: what an observer without any knowledge of the game could measure."""

import numpy as np

from cobe.core.errors import CobeError

GRID = (4, 6)
"""Default rows and columns of the grid: cells close to square on a 4:3 screen."""

# Weights of ITU-R BT.601 for R, G, B: the luma of the television that the console drew for.
_LUMA = np.array([0.299, 0.587, 0.114]) / 255.0
_CLIPS_AT_ONCE = 32


def clip_features(clips: np.ndarray, grid: tuple[int, int] = GRID) -> np.ndarray:
    """Luminance, contrast and motion energy of clips, on a grid over the screen.

    Per cell of the grid, from the BT.601 luma in 0 ... 1: luminance is its mean over pixels and
    frames; contrast its standard deviation over pixels, averaged over frames; motion energy the
    mean squared difference between a frame and the next.

    Parameters
    ----------
    clips : ndarray of uint8, shape (n, n_frames, height, width, 3)
        RGB clips of two frames or more, such as 16.
    grid : tuple of int
        Rows and columns; where they do not divide the screen, cells differ by one pixel.

    Returns
    -------
    features : ndarray of float32, shape (n, 3 * rows * cols)
        First luminance of all cells, row by row from the top left, then contrast, then motion
        energy.

    Raises
    ------
    CobeError
        The clips have another dtype or shape, or the grid is finer than the pixels.
    """
    clips = np.asarray(clips)
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[4] != 3 or clips.shape[1] < 2:
        raise CobeError(
            f"clips: {clips.dtype} {clips.shape} is no set of clips; give uint8 "
            "(n, 2 or more frames, height, width, 3)"
        )
    rows, cols = grid
    if not (1 <= rows <= clips.shape[2] and 1 <= cols <= clips.shape[3]):
        raise CobeError(
            f"grid {rows} x {cols}: does not fit {clips.shape[2]} x {clips.shape[3]} pixels; "
            "choose 1 or more pixels for each cell"
        )
    pool_rows = _pooling(clips.shape[2], rows)
    pool_cols = _pooling(clips.shape[3], cols).T

    def cell_means(images):
        return pool_rows @ images @ pool_cols

    features = np.empty((len(clips), 3, rows * cols), np.float32)
    for start in range(0, len(clips), _CLIPS_AT_ONCE):
        # float64: the variance below is a small difference of large numbers.
        luma = clips[start : start + _CLIPS_AT_ONCE] @ _LUMA
        mean = cell_means(luma)
        variance = np.maximum(cell_means(luma**2) - mean**2, 0.0)
        motion = cell_means(np.diff(luma, axis=1) ** 2)
        for k, measure in enumerate((mean, np.sqrt(variance), motion)):
            features[start : start + len(luma), k] = measure.mean(axis=1).reshape(len(luma), -1)
    return features.reshape(len(clips), 3 * rows * cols)


def _pooling(n_pixels: int, n_cells: int) -> np.ndarray:
    """Matrix (n_cells, n_pixels) that averages the pixels of each cell."""
    cell = np.arange(n_pixels) * n_cells // n_pixels
    matrix = (cell == np.arange(n_cells)[:, None]).astype(np.float64)
    return matrix / matrix.sum(axis=1, keepdims=True)
