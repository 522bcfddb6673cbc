"""The embedded default: simulated play and a planted brain, in the real dataset's layout."""

from cobe.simulate.dataset import write_dataset

__all__ = ["write_dataset"]
