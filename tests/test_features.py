"""Hidden states and code vectors as clip features."""

import numpy as np
import pytest
import torch

from cobe.core.config import Cell
from cobe.core.errors import CobeError
from cobe.video.features import code_embeddings, hidden_states
from cobe.video.gpt import build_gpt

GRID, N_CODES, HIDDEN = (2, 3, 2), 10, 8


@pytest.fixture(scope="module")
def codebook():
    return np.random.default_rng(1).normal(size=(N_CODES, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, N_CODES, (25, *GRID)).astype(np.uint16)


@pytest.fixture(scope="module")
def model():
    model = build_gpt(Cell(0, HIDDEN, 3, 2), N_CODES, 4, GRID)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model


def blocks_by_hand(model, target, context_codes):
    """Residual stream after every block of one window, walked through module by module."""
    body, states = model.transformer, []
    with torch.no_grad():
        inputs = torch.cat([torch.tensor([N_CODES]), target[:-1]])
        x = (body.wte(inputs) + body.wpe.weight)[None]
        context = model.context_norm(
            model.context_project(context_codes) + model.context_position.weight
        )[None]
        future = torch.full((len(target), len(target)), -torch.inf).triu(1)

        def attend(q, k, v, mask):
            split = [part.unflatten(-1, (2, HIDDEN // 2)).transpose(1, 2) for part in (q, k, v)]
            score = split[0] @ split[1].transpose(-1, -2) / (HIDDEN // 2) ** 0.5
            return ((score + mask).softmax(-1) @ split[2]).transpose(1, 2).flatten(-2)

        for block in body.h:
            q, k, v = block.attn.c_attn(block.ln_1(x)).chunk(3, -1)
            x = x + block.attn.c_proj(attend(q, k, v, future))
            k, v = block.crossattention.c_attn(context).chunk(2, -1)
            q = block.crossattention.q_attn(block.ln_cross_attn(x))
            x = x + block.crossattention.c_proj(attend(q, k, v, 0.0))
            inner = block.mlp.c_fc(block.ln_2(x))
            inner = torch.nn.functional.gelu(inner, approximate="tanh")
            x = x + block.mlp.c_proj(inner)
            states.append(x[0].numpy())
    return states


@pytest.mark.parametrize("block", [0, 1, 2, -1, -3])
def test_residual_stream_after_the_block(block, model, tokens, codebook):
    """Against the blocks walked through by hand; the last one is read before the final norm."""
    rows = [7, 3]
    mean = hidden_states(model, tokens, codebook, rows, block)
    position = hidden_states(model, tokens, codebook, rows, block, "position")
    assert mean.dtype == np.float32
    for i, row in enumerate(rows):
        target = torch.from_numpy(tokens[row].ravel().astype(int))
        codes = torch.from_numpy(codebook[tokens[row - 1].ravel()])
        states = blocks_by_hand(model, target, codes)[block]
        np.testing.assert_allclose(mean[i], states.mean(0), rtol=2e-4, atol=2e-5)
        expected = states.reshape(*GRID, HIDDEN).mean(0).ravel()
        np.testing.assert_allclose(position[i], expected, rtol=2e-4, atol=2e-5)


def test_batch_and_training_mode_do_not_matter(model, tokens, codebook):
    rows = np.arange(1, 25)
    whole = hidden_states(model, tokens, codebook, rows)
    assert whole.shape == (24, HIDDEN)
    np.testing.assert_allclose(
        hidden_states(model, tokens, codebook, rows, batch=5), whole, atol=1e-6
    )
    noisy = build_gpt(Cell(0, HIDDEN, 3, 2), N_CODES, 4, GRID, dropout=0.5)
    noisy.load_state_dict(model.state_dict())
    noisy.train()
    assert np.array_equal(hidden_states(noisy, tokens, codebook, rows), whole)
    assert noisy.training
    assert not model.transformer.h[-1]._forward_hooks


def test_blocks_differ(model, tokens, codebook):
    rows = np.arange(1, 25)
    states = [hidden_states(model, tokens, codebook, rows, block) for block in range(3)]
    assert np.abs(states[0] - states[1]).max() > 0.1
    assert np.array_equal(states[2], hidden_states(model, tokens, codebook, rows))


def test_features_depend_on_context_and_target_but_not_on_its_last_token(model, tokens, codebook):
    before = hidden_states(model, tokens, codebook, [5])
    for row, place, matters in [(4, (0, 0, 0), True), (5, (0, 0, 0), True), (5, (1, 2, 1), False)]:
        changed = tokens.copy()
        changed[row][place] = (changed[row][place] + 1) % N_CODES
        after = hidden_states(model, changed, codebook, [5])
        assert (np.abs(after - before).max() > 1e-3) == matters


def test_code_embeddings(tokens, codebook):
    mean, position = (code_embeddings(tokens, codebook, how) for how in ("mean", "position"))
    assert mean.shape == (25, 4)
    assert position.shape == (25, 3 * 2 * 4)
    for i in range(25):
        vectors = np.stack([codebook[t] for t in tokens[i].ravel()]).astype(float)
        np.testing.assert_allclose(mean[i], vectors.mean(0), atol=1e-6)
        by_place = vectors.reshape(2, 6, 4).mean(0).ravel()
        np.testing.assert_allclose(position[i], by_place, atol=1e-6)
    assert code_embeddings(tokens[:0], codebook).shape == (0, 4)
    assert code_embeddings(tokens[:0], codebook, "position").shape == (0, 24)


def test_bad_input(model, tokens, codebook):
    with pytest.raises(CobeError, match="choose -3 to 2"):
        hidden_states(model, tokens, codebook, [1], block=3)
    with pytest.raises(CobeError, match="unknown; choose one of mean, position"):
        hidden_states(model, tokens, codebook, [1], pooling="max")
    with pytest.raises(CobeError, match="unknown; choose one of mean, position"):
        code_embeddings(tokens, codebook, "max")
    with pytest.raises(CobeError, match="built for"):
        hidden_states(model, tokens[:, :1], codebook, [1])
    with pytest.raises(CobeError, match="codebook has 3 codes"):
        code_embeddings(tokens, codebook[:3])
    with pytest.raises(CobeError, match="a clip before"):
        hidden_states(model, tokens, codebook, [0])
