"""What model size, data and scan time buy: scaling fits with intervals, and what to spend.

Everything takes arrays with one entry per trained and scored model (a row). Rows with the same
factors (seeds) are one cell. Nothing is drawn that the data cannot carry: bad or too little input
raises `CobeError`, and what a fit cannot tell it says in ``warnings``.
"""

from cobe.report.scaling.allocation import Allocation, allocate, frontier
from cobe.report.scaling.alternatives import compare_forms
from cobe.report.scaling.fitted import Estimate, ScalingFit, effective_data
from cobe.report.scaling.isoflop import Isoflop, envelope, isoflop
from cobe.report.scaling.parametric import fit_brain_score, fit_parametric
from cobe.report.scaling.shares import Shares, gain_shares

__all__ = [
    "Allocation",
    "Estimate",
    "Isoflop",
    "ScalingFit",
    "Shares",
    "allocate",
    "compare_forms",
    "effective_data",
    "envelope",
    "fit_brain_score",
    "fit_parametric",
    "frontier",
    "gain_shares",
    "isoflop",
]
