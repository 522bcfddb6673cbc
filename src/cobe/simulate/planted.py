"""The planted brain: what drives every parcel, through which HRF, up to which ceiling.

The specification was fixed before any encoding model was fitted to its data.

- Drivers are computed from the screen, the keys and the game's own variables, 15 times a second,
  from nothing that a network has learned, and brought to one scale over a participant's play.
  Between repetitions (the instruction screen) every driver is at its mean: nothing is planted.
- Every parcel belongs to a region by its centroid. Its drive is a weighted sum of its region's
  drivers; weights are partly shared by all participants (60 % of their variance).
- The drive passes a double-gamma HRF whose delay and dispersion vary from parcel to parcel. Time
  starts at the run's first volume; volume k covers [k TR, (k + 1) TR) and shows the response in
  the middle of it. Everything is causal, but the drivers named "next": they stand for a brain
  that foresees.
- The ceiling of a parcel is the correlation of its noiseless response with response plus AR(1)
  noise, over volumes inside repetitions, before drift and motion are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import gamma

from cobe.core.seeds import rng_for
from cobe.simulate.drivers import DRIVER_NAMES, DRIVERS, GRID, PAIRS, SINGLE_NAMES, STEP_HZ

CEILING_RANGE = (0.40, 0.85)
AR1 = 0.4
NULL_SHARE = 0.2
SHARED_VARIANCE = 0.6
HRF_S = 32.0
HRF_DELAY_S, HRF_DELAY_SD_S = 6.0, 0.6
HRF_DISPERSION = (0.8, 1.2)
_FLAT = 1e-6

SPECIFICATION = {
    "drivers_hz": STEP_HZ,
    "grid_rows_columns": GRID,
    "ceiling_range": CEILING_RANGE,
    "ar1": AR1,
    "null_share": NULL_SHARE,
    "shared_variance_of_weights": SHARED_VARIANCE,
    "hrf": "gamma(delay / dispersion, dispersion) - gamma((delay + 10) / dispersion) / 6",
    "hrf_delay_s_mean_sd": (HRF_DELAY_S, HRF_DELAY_SD_S),
    "hrf_dispersion_range": HRF_DISPERSION,
    "response_at": "middle of the volume",
    "between_repetitions": "drivers at their mean",
}

REGIONS = (
    "low", "object", "threat", "relation", "motor", "event", "anticipation", "null",
)  # fmt: skip


@dataclass(frozen=True)
class Brain:
    """The planted brain of one participant.

    Attributes
    ----------
    regions : str array, shape (n_parcels,)
        One of `REGIONS`.
    weights : float32 array, shape (n_drivers, n_parcels)
        Over `DRIVER_NAMES`; 0 outside the parcel's region, and everywhere for null parcels.
    hrf_delay_s, hrf_dispersion : float64 arrays, shape (n_parcels,)
        Delay of the response's gamma in seconds, and its dispersion.
    ceiling : float64 array, shape (n_parcels,)
        Correlation of the noiseless response with response plus noise; 0 for null parcels.
    """

    regions: np.ndarray
    weights: np.ndarray
    hrf_delay_s: np.ndarray
    hrf_dispersion: np.ndarray
    ceiling: np.ndarray


def assign_regions(centroids_mm: np.ndarray) -> np.ndarray:
    """Region of every parcel, from where it lies.

    The fifth of the parcels that lies lowest (cerebellum, temporal poles, orbital cortex) is null.
    The others follow the anatomy coarsely: occipital = low, lateral temporal = object, parietal =
    threat (upper) and relation (lower), around the central sulcus = motor, frontal and cingulate =
    anticipation, insula, inferior frontal and the deep nuclei = event.

    Parameters
    ----------
    centroids_mm : float array, shape (n_parcels, 3)
        MNI coordinates.

    Returns
    -------
    regions : str array, shape (n_parcels,)
    """
    x, y, z = np.abs(centroids_mm[:, 0]), centroids_mm[:, 1], centroids_mm[:, 2]
    n_null = max(1, round(NULL_SHARE * len(z)))
    null = np.zeros(len(z), bool)
    null[np.argsort(z, kind="stable")[:n_null]] = True
    return np.select(
        [
            null,
            (y < -72) & (z < 40),
            (z > 38) & (y > -38) & (y < 12),
            (z > 38) & (y <= -38),
            (z > 14) & (y <= -38),
            (y <= -38) | ((x > 36) & (y < -5) & (z < 22)),
            (x > 36) & (y < -5),
            (y > 0) & (z > 14),
            (y > 30),
        ],
        ["null", "low", "motor", "threat", "relation", "object", "relation", "anticipation",
         "anticipation"],
        default="event",
    )  # fmt: skip


def draw_brain(seed: int, subject: str, centroids_mm: np.ndarray, regions: np.ndarray) -> Brain:
    """Draw weights, HRFs and ceilings of one participant.

    Parameters
    ----------
    seed : int
        Seed of the plan.
    subject : str
        Label of the participant.
    centroids_mm : float array, shape (n_parcels, 3)
        MNI coordinates; they place the receptive fields of low-level parcels.
    regions : str array, shape (n_parcels,)
    """
    n = len(regions)
    own = rng_for(seed, "brain", subject)
    shared = _draw_weights(rng_for(seed, "brain"), regions, centroids_mm)
    weights = np.sqrt(SHARED_VARIANCE) * shared + np.sqrt(1 - SHARED_VARIANCE) * _draw_weights(
        own, regions, centroids_mm
    )
    return Brain(
        regions=regions,
        weights=weights.astype(np.float32),
        hrf_delay_s=np.clip(own.normal(HRF_DELAY_S, HRF_DELAY_SD_S, n), 4.5, 7.5),
        hrf_dispersion=own.uniform(*HRF_DISPERSION, n),
        ceiling=np.where(regions == "null", 0.0, own.uniform(*CEILING_RANGE, n)),
    )


def _draw_weights(rng, regions, centroids_mm) -> np.ndarray:
    weights = np.zeros((len(DRIVER_NAMES), len(regions)))
    index = {name: i for i, name in enumerate(DRIVER_NAMES)}
    for parcel, region in enumerate(regions):
        if region == "null":
            continue
        rows = [index[name] for name in DRIVERS[region]]
        if region == "low":
            weights[rows, parcel] = _receptive_field(rng, centroids_mm[parcel])
            continue
        drawn = rng.normal(size=len(rows))
        if region == "object":  # a parcel cares for a few of the many
            drawn[rng.permutation(len(rows))[8:]] = 0
        weights[rows, parcel] = drawn
    return weights


def _receptive_field(rng, centroid_mm) -> np.ndarray:
    """Gaussian over the grid: contralateral, upper field below; a mix of the three channels."""
    x, _, z = centroid_mm
    centre = np.array([0.5 - x / 90, 0.5 + (z - 5) / 60]) + rng.normal(0, 0.12, 2)
    centre = np.clip(centre, 0.08, 0.92)
    sigma = rng.uniform(0.12, 0.25)
    rows, columns = GRID
    cx, cy = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    field = np.exp(-((cx - centre[0]) ** 2 + (cy - centre[1]) ** 2) / (2 * sigma**2)).ravel()
    return (np.abs(rng.normal(size=3))[:, None] * field).ravel()


def standardise(runs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Bring a participant's drivers to one scale over all play, and add the conjunctions.

    Every driver gets mean 0, and unit variance as the brain would show it: after the canonical
    HRF. A short event then weighs as much as a slow change of scene.

    Parameters
    ----------
    runs : list of list of float32 arrays, shape (n_steps, n_single)
        Per run, per repetition: `single_drivers`.

    Returns
    -------
    runs : list of list of float32 arrays, shape (n_steps, n_drivers)
        In the order of `DRIVER_NAMES`; a driver that never changes is 0.
    """
    index = {name: i for i, name in enumerate(SINGLE_NAMES)}
    ends = np.cumsum([len(rep) for run in runs for rep in run])[:-1]
    single = np.concatenate([rep for run in runs for rep in run]).astype(np.float64)
    mean, spread = single.mean(axis=0), single.std(axis=0)
    single = np.where(spread < _FLAT, 0, (single - mean) / np.maximum(spread, _FLAT))
    products = np.column_stack([single[:, index[a]] * single[:, index[b]] for a, b in PAIRS])
    drivers = np.hstack([single, products - products.mean(axis=0)])
    canonical = hrf(HRF_DELAY_S, 1.0)[:, None]
    shown = np.concatenate(
        [fftconvolve(rep, canonical, axes=0)[: len(rep)] for rep in np.split(drivers, ends)]
    ).std(axis=0)
    drivers = np.where(shown < _FLAT, 0, drivers / np.maximum(shown, _FLAT)).astype(np.float32)
    flat = iter(np.split(drivers, ends))
    return [[next(flat) for _ in run] for run in runs]


def hrf(delay_s: float, dispersion: float) -> np.ndarray:
    """Double-gamma haemodynamic response at 15 Hz, summing to 1.

    Friston et al. (1998), NeuroImage 7; the defaults (6, 1) are SPM's canonical response.

    Returns
    -------
    response : float64 array, shape (480,)
        From 0 to 32 s.
    """
    t = (np.arange(round(HRF_S * STEP_HZ)) + 0.5) / STEP_HZ
    response = gamma.pdf(t, delay_s / dispersion, scale=dispersion)
    response -= gamma.pdf(t, (delay_s + 10) / dispersion, scale=dispersion) / 6
    return response / response.sum()


def run_drivers(repetitions, onsets_s, n_trs: int, tr_s: float) -> np.ndarray:
    """Put the repetitions of a run on one time line at 15 Hz, 0 (the mean) where none is.

    Step j of a repetition fills the slot of the time line that holds ``onset + j / 15``.

    Returns
    -------
    drivers : float32 array, shape (ceil(n_trs * tr_s * 15), n_drivers)
    """
    line = np.zeros((int(np.ceil(n_trs * tr_s * STEP_HZ)), repetitions[0].shape[1]), np.float32)
    for drivers, onset_s in zip(repetitions, onsets_s, strict=True):
        first = round(onset_s * STEP_HZ)
        stop = min(first + len(drivers), len(line))
        line[first:stop] = drivers[: stop - first]
    return line


def respond(brain: Brain, drivers: np.ndarray, n_trs: int, tr_s: float) -> np.ndarray:
    """Noiseless response of every parcel at the middle of every volume, in the drive's units.

    Parameters
    ----------
    brain : Brain
    drivers : float32 array, shape (n_steps, n_drivers)
        The run's time line from `run_drivers`.
    n_trs : int
        Volumes of the run.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    response : float64 array, shape (n_trs, n_parcels)
    """
    drive = drivers.astype(np.float64) @ brain.weights
    kernels = np.column_stack(
        [hrf(d, s) for d, s in zip(brain.hrf_delay_s, brain.hrf_dispersion, strict=True)]
    )
    response = fftconvolve(drive, kernels, axes=0)[: len(drive)]
    at = (np.arange(n_trs) + 0.5) * tr_s * STEP_HZ - 0.5  # slot i is centred on (i + 0.5) / 15 s
    low = np.clip(np.floor(at).astype(int), 0, len(drive) - 2)
    part = (at - low)[:, None]
    return response[low] * (1 - part) + response[low + 1] * part


def per_volume(drivers: np.ndarray, n_trs: int, tr_s: float) -> np.ndarray:
    """Mean of a run's time line inside every volume.

    Parameters
    ----------
    drivers : float32 array, shape (n_steps, n_drivers)
    n_trs : int
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    means : float64 array, shape (n_trs, n_drivers)
    """
    volume = np.floor((np.arange(len(drivers)) + 0.5) / STEP_HZ / tr_s).astype(int)
    starts = np.searchsorted(volume, np.arange(n_trs))
    sums = np.add.reduceat(drivers.astype(np.float64), starts, axis=0)
    return sums / np.diff(np.append(starts, len(drivers)))[:, None]


def ar1_noise(rng, n_trs: int, n_series: int) -> np.ndarray:
    """Stationary AR(1) noise of unit variance, float64 (n_trs, n_series)."""
    noise = rng.normal(size=(n_trs, n_series))
    for k in range(1, n_trs):
        noise[k] = AR1 * noise[k - 1] + np.sqrt(1 - AR1**2) * noise[k]
    return noise
