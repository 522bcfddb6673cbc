"""Features to brain: alignment, delays, ridge, held-out scores, statistics, controls."""

from cobe.encoding.align import clips_to_trs
from cobe.encoding.delays import stack_delays
from cobe.encoding.scoring import evaluate

__all__ = ["clips_to_trs", "evaluate", "stack_delays"]
