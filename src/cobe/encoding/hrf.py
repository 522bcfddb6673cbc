"""Features through a haemodynamic response function: the alternative to free delays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cobe.core.errors import CobeError
from cobe.encoding.delays import delayed_rows

MODELS = ("spm", "glover")
FINE_PER_TR = 1000  # even, because half a volume is a number of fine steps


@dataclass(frozen=True)
class HRF:
    """A canonical response function on the clock of the scanner.

    A volume's features stand for its whole time, ``[k TR, (k + 1) TR)``, and its response is that
    of its middle (the reference time of fMRIPrep's slice timing). The weight of the volume ``d``
    before is therefore the integral of the function from ``(d - 1/2) TR`` to ``(d + 1/2) TR``, cut
    at 0, so a response never looks ahead. The function is nilearn's.

    A row is valid only if every volume that its kernel looks at is there: rows within
    ``n_lags - 1`` volumes after the start of the run or after a gap are missing. Nothing is filled
    in, because a filled gap makes an answer to a stimulus that nobody knows. A shorter `span_s`
    loses fewer rows, and more of the undershoot.

    Attributes
    ----------
    tr_s : float
        Repetition time in seconds.
    model : str
        ``"spm"`` or ``"glover"``.
    span_s : float
        Seconds of the function that are kept. 24 s keep 99.5 % of the absolute area of SPM's and
        99.9 % of Glover's.
    """

    tr_s: float
    model: str = "spm"
    span_s: float = 24.0

    def __post_init__(self):
        if self.model not in MODELS:
            raise CobeError(f"hrf: {self.model!r} is unknown; give one of {', '.join(MODELS)}")
        if not (np.isfinite(self.tr_s) and self.tr_s > 0):
            raise CobeError(f"hrf: tr_s {self.tr_s}; give the repetition time in seconds")
        if not (self.tr_s <= self.span_s <= 32):
            raise CobeError(
                f"hrf: span_s {self.span_s}; give seconds between one volume ({self.tr_s}) and 32"
            )

    @cached_property
    def kernel(self):
        """Weight of the volume itself, of the one before, and so on; float64, of sum 1."""
        # here, because nilearn's GLM takes a second to import
        from nilearn.glm.first_level.hemodynamic_models import glover_hrf, spm_hrf

        response = {"spm": spm_hrf, "glover": glover_hrf}[self.model]
        fine = response(self.tr_s, oversampling=FINE_PER_TR, time_length=self.span_s)
        bins = (np.arange(len(fine)) + FINE_PER_TR // 2) // FINE_PER_TR
        weights = np.bincount(bins, weights=fine)
        return weights / weights.sum()

    @property
    def n_lags(self):
        """Volumes that a row looks at, its own included."""
        return len(self.kernel)

    def convolve(self, x):
        """Features of one run as the brain would answer to them.

        Parameters
        ----------
        x : array of shape (n_trs, n_features)
            NaN rows where there are no features.

        Returns
        -------
        convolved : float array of shape (n_trs, n_features)
            NaN rows where the kernel looks at a missing volume. float32 stays float32.

        Raises
        ------
        CobeError
            The kernel is as long as the run.
        """
        x = np.asarray(x)
        if x.ndim != 2:
            raise CobeError(f"features: {x.ndim} dimensions; give one run (n_trs, n_features)")
        if self.n_lags > len(x):
            raise CobeError(
                f"hrf: {self.n_lags} volumes do not fit a run of {len(x)}; "
                "leave the run out or shorten span_s"
            )
        rows = delayed_rows(~np.isnan(x).any(axis=1), range(self.n_lags))
        dtype = x.dtype if np.issubdtype(x.dtype, np.floating) else np.float64
        convolved = np.full(x.shape, np.nan, dtype)
        convolved[rows] = sum(weight * x[rows - lag] for lag, weight in enumerate(self.kernel))
        return convolved
