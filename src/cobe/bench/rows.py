"""Rows of a benchmark, and seconds of CPU time."""

import time


def row(measurement, value, unit, peer=None, peer_value=None, ratio=None) -> dict:
    """One measurement, beside that of a peer where there is one; `cobe.bench.__main__` has more."""
    return {
        "measurement": measurement,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
    }


def cpu_seconds(function) -> float:
    """CPU time of the process in a call."""
    start = time.process_time()
    function()
    return time.process_time() - start
