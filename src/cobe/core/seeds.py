"""Random streams named by what they are for, so that no two parts share one."""

import hashlib

import numpy as np


def seed_for(seed: int, *names) -> int:
    """A 63-bit seed from a base seed and the names of what it is for."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def rng_for(seed: int, *names) -> np.random.Generator:
    """An independent generator for ``names``, the same on every machine and in any order."""
    return np.random.default_rng(seed_for(seed, *names))
