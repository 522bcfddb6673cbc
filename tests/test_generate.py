"""Predicted clips scored against baselines, in tokens and in pixels."""

import dataclasses

import numpy as np
import pytest
import torch

from cobe.core.config import Cell, VQVAEConfig
from cobe.core.errors import CobeError
from cobe.video.generate import predict_next, psnr_db, score_predictions
from cobe.video.gpt import build_gpt
from cobe.video.vqvae import build_vqvae

CFG = VQVAEConfig(
    resolution=16, downsample=(4, 8, 8), n_hiddens=8, n_res_blocks=1, n_codes=16, code_dim=6
)
GRID, ROWS = (4, 2, 2), np.array([1, 3, 5])


@pytest.fixture(scope="module")
def clips():
    """Six clips; the last frame of clip 2 stays on screen all through clip 3."""
    clips = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 16, 3)).astype(np.uint8)
    clips[3] = clips[2, -1]
    return clips


@pytest.fixture(scope="module")
def vqvae(clips):
    model = build_vqvae(CFG)
    model.set_statistics(clips)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()(model.pixels(clips))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build_gpt(Cell(0, 16, 1, 2), CFG.n_codes, CFG.code_dim, GRID)


@pytest.fixture(scope="module")
def scored(model, vqvae, clips):
    tokens = vqvae.encode(clips)
    return tokens, *score_predictions(model, vqvae, tokens, ROWS, clips[ROWS], seed=4)


def test_every_prediction_is_scored_by_hand(scored, model, vqvae, clips):
    tokens, table, frames = scored
    mean = (vqvae.mean_frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    mean_clip = np.broadcast_to(mean, (16, 16, 16, 3))
    predicted = {
        "model": predict_next(model, tokens, vqvae.codebook(), ROWS, seed=4),
        "copy last clip": tokens[ROWS - 1],
        "copy last frame": tokens[ROWS - 1][:, [3, 3, 3, 3]],
        "true tokens": tokens[ROWS],
        "mean frame": np.repeat(vqvae.encode(mean_clip[None]), 3, 0),
    }
    assert set(table["prediction"]) == set(predicted)
    assert set(frames) == {"true frames", *predicted}
    for name, values in predicted.items():
        rows = table[table["prediction"] == name].reset_index(drop=True)
        assert rows["row"].tolist() == ROWS.tolist()
        for i, row in enumerate(ROWS):
            made = mean_clip if name == "mean frame" else vqvae.decode(values[i : i + 1])[0]
            assert np.array_equal(frames[name][i], made)
            mse = np.mean((made / 255.0 - clips[row] / 255.0) ** 2)
            assert rows["mse"][i] == pytest.approx(mse)
            assert rows["psnr_db"][i] == pytest.approx(10 * np.log10(1 / mse))
            share = np.mean(values[i] == tokens[row])
            assert rows["token_accuracy"][i] == pytest.approx(share)
    true = table[table["prediction"] == "true tokens"]
    assert true["token_accuracy"].eq(1).all()


def test_no_prediction_sees_its_target(scored, model, vqvae, clips):
    """Other targets, same contexts: what is predicted stays as it was."""
    tokens, _, frames = scored
    changed = tokens.copy()
    changed[ROWS] = (changed[ROWS] + 1) % CFG.n_codes
    _, again = score_predictions(model, vqvae, changed, ROWS, clips[ROWS], seed=4)
    for name in ("model", "copy last clip", "copy last frame", "mean frame"):
        assert np.array_equal(again[name], frames[name]), name
    assert not np.array_equal(again["true tokens"], frames["true tokens"])


def test_psnr_of_known_errors():
    assert psnr_db(0.01) == pytest.approx(20)
    assert psnr_db(np.array([1.0, 0.0])).tolist() == [0, np.inf]


def test_bad_input(model, vqvae, clips):
    tokens = vqvae.encode(clips)
    with pytest.raises(CobeError, match=r"clips: \(2, .* predictions of 3 rows are \(3, 16"):
        score_predictions(model, vqvae, tokens, ROWS, clips[:2])
    other = build_vqvae(dataclasses.replace(CFG, n_codes=32))
    with pytest.raises(CobeError, match="the GPT has 16 codes, the VQ-VAE 32"):
        score_predictions(model, other, tokens, ROWS, clips[ROWS])
    with pytest.raises(CobeError, match="built for"):
        score_predictions(model, vqvae, tokens[:, :2], ROWS, clips[ROWS])
