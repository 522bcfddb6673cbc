"""Planted scaling surfaces that the tests of the fits share."""

import numpy as np

# Besiroglu et al. 2024, arXiv 2404.10102: estimate and standard error of each constant.
PUBLISHED = {
    "E": (1.8172, 0.026),
    "A": (482.01, 124.58),
    "B": (2085.43, 1293.23),
    "alpha": (0.3478, 0.015),
    "beta": (0.3658, 0.021),
}
TRUTH = {name: value for name, (value, _) in PUBLISHED.items()}


def grid(n_sizes=5, n_amounts=5):
    """Crossed n_params and n_data, as two flat arrays."""
    n, d = np.meshgrid(np.geomspace(5e7, 5e9, n_sizes), np.geomspace(1e9, 1e11, n_amounts))
    return n.ravel(), d.ravel()


def loss_of(n, d, truth=TRUTH):
    return truth["E"] + truth["A"] * n ** -truth["alpha"] + truth["B"] * d ** -truth["beta"]


def noisy(loss, sd, seed):
    """Losses with log-normal noise, as seeds and subsets make it."""
    return loss * np.exp(sd * np.random.default_rng(seed).standard_normal(len(loss)))
