"""Hidden states and code vectors as clip features."""

import numpy as np
import pytest
import sklearn.decomposition
import torch
from scipy.spatial.distance import pdist

from cobe.core.config import Cell
from cobe.core.errors import CobeError
from cobe.video.features import block_states, clip_times, code_embeddings, hidden_states
from cobe.video.gpt import build_gpt
from cobe.video.pooling import RandomProjection, check_pca, fit_pca
from cobe.video.tokens import clip_table

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
            branch = block.mlp.c_proj(inner)
            x = x + branch
            states.append({"residual": x[0].numpy(), "mlp": branch[0].numpy()})
    return states


def all_by_hand(model, tokens, codebook, rows, block, branch):
    """States of every token of some windows, float64 (n_rows, n_tokens, hidden)."""
    made = []
    for row in rows:
        target = torch.from_numpy(tokens[row].ravel().astype(int))
        codes = torch.from_numpy(codebook[tokens[row - 1].ravel()])
        made.append(blocks_by_hand(model, target, codes)[block][branch])
    return np.stack(made).astype(float)


@pytest.mark.parametrize("branch", ["residual", "mlp"])
@pytest.mark.parametrize("block", [0, 1, 2, -1, -3])
def test_what_is_read(block, branch, model, tokens, codebook):
    """Against the blocks walked through by hand; the last one is read before the final norm."""
    rows = [7, 3]
    mean = hidden_states(model, tokens, codebook, rows, block, branch=branch)
    position = hidden_states(model, tokens, codebook, rows, block, "position", branch=branch)
    assert mean.dtype == np.float32
    states = all_by_hand(model, tokens, codebook, rows, block, branch)
    np.testing.assert_allclose(mean, states.mean(1), rtol=2e-4, atol=2e-5)
    expected = states.reshape(2, *GRID, HIDDEN).mean(1).reshape(2, -1)
    np.testing.assert_allclose(position, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("branch", ["residual", "mlp"])
@pytest.mark.parametrize("pooling", ["mean", "position", "random", "pca"])
def test_several_blocks_in_one_pass(branch, pooling, model, tokens, codebook):
    rows, more = np.arange(1, 25), {"branch": branch, "pooling": pooling}
    more |= {"n_features": 3} if pooling in ("random", "pca") else {}
    more |= {"fit_rows": rows[:14]} if pooling == "pca" else {}
    together = block_states(model, tokens, codebook, rows, (2, -3, -1), batch=7, **more)
    assert list(together) == [2, -3, -1]
    for block, values in together.items():
        alone = hidden_states(model, tokens, codebook, rows, block, **more)
        np.testing.assert_allclose(values, alone, rtol=1e-4, atol=1e-5)
    assert not any(part._forward_hooks for part in model.modules())


def test_random_projection_keeps_distances_and_follows_its_seed(model, tokens, codebook):
    """Against the explicit matrix; squared distances are kept in the mean over seeds."""
    rows = np.arange(1, 25)
    states = all_by_hand(model, tokens, codebook, rows, 1, "residual").reshape(24, -1)
    how = {"block": 1, "pooling": "random", "n_features": 40}
    ours = [hidden_states(model, tokens, codebook, rows, seed=s, **how) for s in range(20)]
    assert ours[0].shape == (24, 40)
    pool = RandomProjection(40, seed=3)
    matrix = np.concatenate([pool.signs(i, HIDDEN) for i in range(12)]).astype(float)
    assert set(np.unique(matrix)) == {-1, 1}
    np.testing.assert_allclose(ours[3], states @ matrix / 40**0.5, rtol=1e-3, atol=1e-4)
    assert np.array_equal(ours[3], hidden_states(model, tokens, codebook, rows, seed=3, **how))
    np.testing.assert_allclose(
        hidden_states(model, tokens, codebook, rows, seed=3, batch=5, **how), ours[3], atol=1e-5
    )
    assert not np.allclose(ours[0], ours[1])
    ratios = [pdist(x, "sqeuclidean") / pdist(states, "sqeuclidean") for x in ours]
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert np.std(ratios) == pytest.approx((2 / 40) ** 0.5, rel=0.3)


@pytest.mark.parametrize("n_fit", [9, 190])
def test_pca_against_scikit_learn(n_fit, model, codebook):
    """Fewer rows than values and more; what is transformed is not what was fitted on."""
    tokens = np.random.default_rng(5).integers(0, N_CODES, (221, *GRID)).astype(np.uint16)
    fit_rows, rows = np.arange(1, 1 + n_fit), np.arange(200, 221)
    ours = hidden_states(
        model, tokens, codebook, rows, 0, "pca", n_features=5, fit_rows=fit_rows, batch=16
    )
    fit, new = (
        all_by_hand(model, tokens, codebook, r, 0, "residual").reshape(len(r), -1)
        for r in (fit_rows, rows)
    )
    peer = sklearn.decomposition.PCA(5, svd_solver="full").fit(fit)
    theirs = peer.transform(new)
    components = peer.components_
    signs = np.sign(components[np.arange(5), np.abs(components).argmax(1)])
    np.testing.assert_allclose(ours, theirs * signs, rtol=1e-3, atol=2e-3)
    pca = fit_pca(np.array_split(fit.astype(np.float32), 4), n_fit, fit.shape[1], 5)
    np.testing.assert_allclose(pca.explained, peer.explained_variance_ratio_, rtol=1e-3)
    # Rows that are not fitted on change nothing.
    changed = tokens.copy()
    changed[202:] = (changed[202:] + 1) % N_CODES
    again = hidden_states(
        model, changed, codebook, rows[:2], 0, "pca", n_features=5, fit_rows=fit_rows
    )
    np.testing.assert_allclose(again, ours[:2], rtol=1e-3, atol=2e-3)


def test_pca_of_values_far_from_zero():
    """A mean a thousand times the spread must not drown it, on either way."""
    rng = np.random.default_rng(0)
    for n, d in [(200, 30), (30, 200)]:
        x = (1000 + rng.normal(size=(n, 1)) * rng.normal(size=d)).astype(np.float32)
        pca = fit_pca(np.array_split(x, 3), n, d, 2)
        assert pca.explained[0] > 0.999
        peer = sklearn.decomposition.PCA(1, svd_solver="full").fit(x.astype(float))
        assert abs(pca.components[0] @ peer.components_[0]) == pytest.approx(1, abs=1e-4)


def test_blocks_after_the_last_wanted_one_are_not_computed(model, tokens, codebook):
    calls = []
    handles = [
        part.register_forward_hook(lambda module, args, out, name=name: calls.append(name))
        for name, part in [*enumerate(model.transformer.h), ("head", model.head)]
    ]
    hidden_states(model, tokens, codebook, [3], block=1)
    for handle in handles:
        handle.remove()
    assert calls == [0, 1]


def test_clip_times_are_those_of_the_targets():
    table = clip_table(
        [("s", "ses-001", 1, 0, "1-0", 3.0, 300), ("s", "ses-001", 2, 4, "4", 1, 64)]
    )
    times = clip_times(table, [3, 1, 4])
    assert times["start_s"].tolist() == pytest.approx([3 + 3 * 64 / 60, 3 + 64 / 60, 1])
    assert (times["end_s"] - times["start_s"]).tolist() == pytest.approx([64 / 60] * 3)
    assert times[["run", "row", "clip"]].to_numpy().tolist() == [[1, 0, 3], [1, 0, 1], [2, 4, 0]]
    assert times.index.tolist() == [0, 1, 2]


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


def test_autocast_around_it_changes_nothing(model, tokens, codebook):
    rows = np.arange(1, 25)
    before = hidden_states(model, tokens, codebook, rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(hidden_states(model, tokens, codebook, rows), before)


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
    random = code_embeddings(tokens, codebook, "random", n_features=7, seed=2)
    pool = RandomProjection(7, seed=2)
    matrix = np.concatenate([pool.signs(i, 4) for i in range(12)])
    flat = codebook[tokens.reshape(25, -1)].reshape(25, -1)
    np.testing.assert_allclose(random, flat @ matrix / 7**0.5, rtol=1e-4, atol=1e-4)
    pca = code_embeddings(tokens, codebook, "pca", n_features=3, fit_rows=np.arange(20))
    peer = sklearn.decomposition.PCA(3, svd_solver="full").fit(flat[:20])
    np.testing.assert_allclose(np.abs(pca), np.abs(peer.transform(flat)), rtol=1e-3, atol=1e-3)
    assert code_embeddings(tokens[:0], codebook).shape == (0, 4)
    assert code_embeddings(tokens[:0], codebook, "position").shape == (0, 24)


def test_bad_input(model, tokens, codebook):
    with pytest.raises(CobeError, match="choose -3 to 2"):
        hidden_states(model, tokens, codebook, [1], block=3)
    with pytest.raises(CobeError, match="unknown; choose one of mean, position"):
        hidden_states(model, tokens, codebook, [1], pooling="max")
    with pytest.raises(CobeError, match="branch 'attention': give .* one of residual, mlp"):
        hidden_states(model, tokens, codebook, [1], branch="attention")
    with pytest.raises(CobeError, match="give at least one block"):
        block_states(model, tokens, codebook, [1], ())
    for settings, words in [
        ({"pooling": "random"}, "n_features is None; give 1 or more"),
        ({"pooling": "random", "n_features": 0}, "n_features is 0; give 1 or more"),
        ({"pooling": "mean", "n_features": 4}, "leave it out"),
        ({"pooling": "pca", "n_features": 4}, "fit_rows are not given"),
        ({"pooling": "mean", "fit_rows": [1]}, "fit_rows are given"),
        ({"pooling": "pca", "n_features": 3, "fit_rows": [1, 2, 3]}, "3 components of 3 rows"),
    ]:
        with pytest.raises(CobeError, match=words):
            hidden_states(model, tokens, codebook, [1], **settings)
        with pytest.raises(CobeError, match=words):
            code_embeddings(tokens, codebook, **settings)
    with pytest.raises(CobeError, match=r"takes 6\.0 GiB, the limit is 4"):
        check_pca(10_000, 160_000, 5)
    with pytest.raises(CobeError, match="unknown; choose one of mean, position"):
        code_embeddings(tokens, codebook, "max")
    with pytest.raises(CobeError, match="built for"):
        hidden_states(model, tokens[:, :1], codebook, [1])
    with pytest.raises(CobeError, match="codebook has 3 codes"):
        code_embeddings(tokens, codebook[:3])
    with pytest.raises(CobeError, match="a clip before"):
        hidden_states(model, tokens, codebook, [0])
