"""Confounds as fMRIPrep 20.2 names them, computed from the simulated volumes themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.core.timing import TR_S

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
HIGH_PASS_S = 128.0
_JENKINSON_RADIUS_MM = 80.0
_OUTLIER_FD_MM, _OUTLIER_DVARS = 0.5, 1.5
_N_COMPONENTS = {"combined": 6, "CSF": 3, "WM": 3}
_N_TEMPORAL = 6


def confound_table(
    bold: np.ndarray, tissue: np.ndarray, motion: np.ndarray
) -> tuple[pd.DataFrame, dict]:
    """The confounds of one run and what their sidecar says about the components.

    Parameters
    ----------
    bold : float32 array, shape (n_trs, n_voxels)
        Intensities inside the brain mask.
    tissue : str array, shape (n_voxels,)
        ``"GM"``, ``"WM"`` or ``"CSF"``.
    motion : float64 array, shape (n_trs, 6)
        Translations in mm, then rotations in rad.

    Returns
    -------
    table : DataFrame, n_trs rows
        First row NaN where a column looks back, as fMRIPrep writes it.
    sidecar : dict
        Per CompCor column: method, mask, variance explained.
    """
    columns: dict[str, np.ndarray] = {}
    for name, voxels in (
        ("csf", tissue == "CSF"),
        ("white_matter", tissue == "WM"),
        ("global_signal", np.ones(len(tissue), bool)),
    ):
        _expand(columns, name, bold[:, voxels].mean(axis=1, dtype=np.float64))
    columns["csf_wm"] = bold[:, tissue != "GM"].mean(axis=1, dtype=np.float64)

    cosines = cosine_basis(len(bold))
    filtered = _without(bold, cosines)
    spread = filtered.std(axis=0)
    # fMRIPrep's temporal mask: the 2 % of voxels that vary most.
    restless = np.argsort(-spread, kind="stable")[: max(_N_TEMPORAL, round(0.02 * len(spread)))]
    columns["tcompcor"] = bold[:, restless].mean(axis=1, dtype=np.float64)

    columns["std_dvars"], columns["dvars"] = _dvars(bold)
    columns["framewise_displacement"], columns["rmsd"] = _displacement(motion)
    sidecar: dict = {}
    _components(columns, sidecar, "t_comp_cor", filtered[:, restless], _N_TEMPORAL, "tCompCor", "")
    for mask, n in _N_COMPONENTS.items():
        voxels = tissue != "GM" if mask == "combined" else tissue == mask
        _components(columns, sidecar, "a_comp_cor", filtered[:, voxels], n, "aCompCor", mask)
    for k, cosine in enumerate(cosines.T):
        columns[f"cosine{k:02d}"] = cosine
    for name, values in zip(MOTION, motion.T, strict=True):
        _expand(columns, name, values)
    table = pd.DataFrame(columns)
    outliers = (table.framewise_displacement > _OUTLIER_FD_MM) | (table.std_dvars > _OUTLIER_DVARS)
    for k, volume in enumerate(np.flatnonzero(outliers)):
        table[f"motion_outlier{k:02d}"] = (np.arange(len(bold)) == volume).astype(float)
    return table, sidecar


def cosine_basis(n_trs: int) -> np.ndarray:
    """Discrete cosines with periods above 128 s, as nipype makes them; never fewer than one.

    fMRIPrep writes none for runs under 128 s, and nilearn then refuses to filter; a run that
    short exists only in the smallest simulation.

    Returns
    -------
    cosines : float64 array, shape (n_trs, n_cosines)
    """
    order = max(int(2 * n_trs * TR_S / HIGH_PASS_S), 2)
    times = np.arange(n_trs)[:, None] + 0.5
    return np.sqrt(2 / n_trs) * np.cos(np.pi / n_trs * times * np.arange(1, order))


def _expand(columns: dict, name: str, values: np.ndarray) -> None:
    derivative = np.concatenate([[np.nan], np.diff(values)])
    columns[name] = values
    columns[f"{name}_derivative1"] = derivative
    columns[f"{name}_power2"] = values**2
    columns[f"{name}_derivative1_power2"] = derivative**2


def _without(bold: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Voxels without their mean and slow cosines."""
    basis = np.linalg.qr(np.column_stack([np.ones(len(bold)), cosines]))[0].astype(np.float32)
    return bold - basis @ (basis.T @ bold)


def _dvars(bold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardised and plain DVARS; Nichols (2017), arXiv 1704.01469, as in nipype."""
    low, high = np.percentile(bold, [25, 75], axis=0)
    spread = (high - low) / 1.349
    centred = bold - bold.mean(axis=0)
    ar1 = (centred[1:] * centred[:-1]).sum(axis=0) / (centred**2).sum(axis=0)
    expected = (np.sqrt(2 * (1 - ar1)) * spread).mean()
    change = np.sqrt((np.diff(bold, axis=0).astype(np.float64) ** 2).mean(axis=1))
    change = np.concatenate([[np.nan], change])
    return change / expected, change


def _displacement(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power's framewise displacement and Jenkinson's rms deviation, both in mm.

    Power et al. (2012), NeuroImage 59; Jenkinson (1999), FMRIB TR99MJ1, for small rotations.
    """
    step = np.diff(motion, axis=0)
    fd = np.abs(step[:, :3]).sum(axis=1) + HEAD_RADIUS_MM * np.abs(step[:, 3:]).sum(axis=1)
    turned = 2 * (step[:, 3:] ** 2).sum(axis=1)
    rmsd = np.sqrt(_JENKINSON_RADIUS_MM**2 / 5 * turned + (step[:, :3] ** 2).sum(axis=1))
    first = [np.nan]
    return np.concatenate([first, fd]), np.concatenate([first, rmsd])


def _components(columns, sidecar, prefix, voxels, n, method, mask) -> None:
    """First principal time courses of a mask, signs fixed so that the bytes are."""
    values, vectors = np.linalg.eigh(voxels.astype(np.float64) @ voxels.T.astype(np.float64))
    first = sum(name.startswith(prefix) for name in columns)
    n = min(n, voxels.shape[1])
    share = values[::-1] / values.sum()
    for k in range(n):
        vector = vectors[:, -1 - k]
        vector = vector * np.sign(vector[np.argmax(np.abs(vector))])
        name = f"{prefix}_{first + k:02d}"
        columns[name] = vector
        sidecar[name] = {
            "CumulativeVarianceExplained": float(share[: k + 1].sum()),
            "Method": method,
            "Retained": True,
            "SingularValue": float(np.sqrt(max(values[-1 - k], 0))),
            "VarianceExplained": float(share[k]),
        }
        if mask:
            sidecar[name]["Mask"] = mask
