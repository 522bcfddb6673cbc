"""One thread or two: what comes of the same weights and data agrees within stated tolerances.

Training amplifies the last bit, so its end is not among them; a step of it is.
"""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from cobe.core.config import Cell, TrainConfig
from cobe.encoding import evaluate
from cobe.video.features import hidden_states
from cobe.video.gpt import build_gpt
from cobe.video.train import train_gpt
from cobe.video.vqvae import build_vqvae
from small_video import TINY, moving_squares

# what docs/promises.md states
SAME_TOKENS = 0.999
STATES = 1e-5
LOSS_OF_A_STEP = 1e-5
R = 1e-6
GRID, N_CODES, CODE_DIM = (4, 4, 4), 64, 8


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def both(threads, compute):
    """What a function computes with one thread and with two."""
    found = []
    for n in (1, 2):
        threads(n)
        with threadpool_limits(n):
            found.append(compute())
    return found


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, N_CODES, (90, *GRID)).astype(np.uint16)
    return codes, rng.normal(size=(N_CODES, CODE_DIM)).astype(np.float32)


def test_tokens_of_one_model(threads):
    model = build_vqvae(TINY).eval()
    clips = moving_squares(np.random.default_rng(0), 200)
    one, two = both(threads, lambda: model.encode(clips))
    assert one.std() > 0
    assert (one == two).mean() >= SAME_TOKENS


def test_hidden_states_of_one_model(threads, tokens):
    cell = Cell(n_frames=1000, hidden=64, n_layers=2, n_heads=4)
    model = build_gpt(cell, N_CODES, CODE_DIM, GRID).eval()
    rows = np.arange(1, 60)
    one, two = both(threads, lambda: hidden_states(model, *tokens, rows))
    assert one.shape[0] == len(rows)
    assert np.abs(one - two).max() <= STATES * np.abs(one).max()


def test_losses_of_a_first_step(threads, tokens):
    cell = Cell(n_frames=1000, hidden=64, n_layers=2, n_heads=4)
    cfg = TrainConfig(n_steps=1, batch_size=16, n_evals=1, dropout=0.0)
    rows = np.arange(1, 60), np.arange(62, 90)

    def losses():
        threads_now = torch.get_num_threads()
        log = train_gpt(cell, cfg, *tokens, *rows, threads=threads_now, device="cpu")[1]
        return log[["train_loss", "val_loss"]].iloc[-1].to_numpy(float)

    one, two = both(threads, losses)
    np.testing.assert_allclose(one, two, rtol=LOSS_OF_A_STEP)


def test_scores_of_the_same_features(threads):
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(150, 30)) for _ in range(4)]
    weights = rng.normal(size=(30, 50))
    y = [np.roll(run @ weights, 4, axis=0) + 6 * rng.normal(size=(150, 50)) for run in x]

    def scores():
        return evaluate(
            x,
            y,
            groups=["a", "a", "b", "b"],
            delays_tr=(3, 4, 5),
            alphas=np.logspace(0, 5, 6),
            n_permutations=20,
            block_trs=20,
            seed=0,
        )

    one, two = both(threads, scores)
    assert one.r.max() > 0.3
    np.testing.assert_allclose(one.r, two.r, atol=R)
