"""Features to brain: alignment, delays, ridge, held-out scores, statistics, controls."""

from cobe.encoding.align import clips_to_trs
from cobe.encoding.delays import stack_delays
from cobe.encoding.hrf import HRF
from cobe.encoding.reduce import Reduction
from cobe.encoding.scoring import evaluate
from cobe.encoding.splits import RandomVolumes
from cobe.encoding.unique import unique_variance

__all__ = [
    "HRF",
    "RandomVolumes",
    "Reduction",
    "clips_to_trs",
    "evaluate",
    "stack_delays",
    "unique_variance",
]
