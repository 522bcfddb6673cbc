"""cobe: compute-optimal brain encoding, from key logs to brain maps."""

__version__ = "0.1.0"
