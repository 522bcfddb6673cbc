"""What the system says of this process's memory."""

from pathlib import Path

STATUS = Path("/proc/self/status")


def process_bytes(field: str) -> float:
    """A figure of ``/proc/self/status`` in bytes, such as VmRSS or VmHWM; NaN where there is none.

    VmHWM is the peak of this process alone. ``ru_maxrss`` of a worker begins with its parent's.
    """
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return float("nan")
    found = (float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
    return next(found, float("nan"))
