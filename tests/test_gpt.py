"""The conditional GPT: shape, causality, conditioning, initial weights, generation."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cobe.core.config import Cell, TrainConfig, axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.video.generate import (
    cached_logits,
    copy_last_clip,
    copy_last_frame,
    predict_next,
    teacher_forced,
    token_accuracy,
)
from cobe.video.gpt import ConditionalGPT, build_gpt, count_parameters, load_gpt
from cobe.video.train import Windows, train_gpt

CELL = Cell(n_frames=1000, hidden=32, n_layers=2, n_heads=4)
GRID, N_CODES, CODE_DIM = (2, 2, 2), 16, 6


@pytest.fixture(scope="module")
def codebook():
    return np.random.default_rng(1).normal(size=(N_CODES, CODE_DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def tokens():
    """A planted rule: every token is the one of the clip before plus 3, modulo the codes.

    Its first clips are random in every chain of 10, so the next clip follows from the context and
    from nothing else.
    """
    rng = np.random.default_rng(2)
    first = rng.integers(0, N_CODES, (60, 1, *GRID))
    chain = (first + 3 * np.arange(10)[:, None, None, None]) % N_CODES
    return chain.reshape(-1, *GRID).astype(np.uint16)


@pytest.fixture(scope="module")
def rows():
    every = np.arange(600)
    every = every[every % 10 > 0]
    return every[every < 480], every[every >= 480]


@pytest.fixture(scope="module")
def trained(tokens, codebook, rows):
    cfg = TrainConfig(n_steps=400, batch_size=32, learning_rate=4e-3, n_evals=4)
    return train_gpt(CELL, cfg, tokens, codebook, *rows, threads=1)


def example(seed=0, n=3):
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(rng.integers(0, N_CODES, (n, 8)))
    return targets, torch.from_numpy(rng.normal(size=(n, 8, CODE_DIM)).astype(np.float32))


def random_weights(seed=5, **changes):
    """A model whose weights are large enough for every path to matter."""
    model = build_gpt(dataclasses.replace(CELL, **changes), N_CODES, CODE_DIM, GRID).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model


def test_learns_a_planted_next_clip_rule(trained, tokens, codebook, rows):
    model, log, _ = trained
    assert log.val_loss.iloc[0] == pytest.approx(np.log(N_CODES), abs=0.1)
    assert log.val_loss.min() < 0.05
    assert teacher_forced(model, tokens, codebook, rows[1])["accuracy"] > 0.99
    greedy = predict_next(model, tokens, codebook, rows[1], temperature=0)
    assert token_accuracy(greedy, tokens[rows[1]]) > 0.99
    assert token_accuracy(copy_last_clip(tokens, rows[1]), tokens[rows[1]]) == 0


def test_later_tokens_do_not_change_earlier_logits():
    model = random_weights()
    targets, codes = example()
    with torch.no_grad():
        before = model(targets, codes)
        for position in range(8):
            changed = targets.clone()
            changed[:, position] = (changed[:, position] + 5) % N_CODES
            after = model(changed, codes)
            torch.testing.assert_close(after[:, : position + 1], before[:, : position + 1])
            if position < 7:
                assert (after[:, position + 1 :] - before[:, position + 1 :]).abs().max() > 1e-2


def test_every_context_code_matters_to_every_logit_row():
    model = random_weights()
    targets, codes = example()
    with torch.no_grad():
        before = model(targets, codes)
        for position in range(8):
            changed = codes.clone()
            changed[:, position] += 1
            assert ((model(targets, changed) - before).abs().amax(-1) > 1e-4).all()
        # Positions of the context are told apart: swapping two codes is not the same context.
        swapped = codes[:, [1, 0, 2, 3, 4, 5, 6, 7]]
        assert (model(targets, swapped) - before).abs().max() > 1e-3


def test_initial_weights_follow_from_shape_and_seed():
    torch.manual_seed(123)
    state = torch.get_rng_state()
    ours = build_gpt(CELL, N_CODES, CODE_DIM, GRID).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    for other in (CELL.untrained(), dataclasses.replace(CELL, n_frames=5, precision="bf16")):
        theirs = build_gpt(other, N_CODES, CODE_DIM, GRID).state_dict()
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    other = build_gpt(dataclasses.replace(CELL, seed=1), N_CODES, CODE_DIM, GRID).state_dict()
    assert not torch.equal(ours["transformer.wte.weight"], other["transformer.wte.weight"])


def test_untrained_model_is_what_training_starts_from(tokens, codebook, rows, trained):
    model, log, timing = train_gpt(CELL.untrained(), TrainConfig(), tokens, codebook, *rows)
    built = build_gpt(CELL, N_CODES, CODE_DIM, GRID)
    for name, value in built.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert timing["n_steps"] == 0
    assert log.val_loss.tolist() == [trained[1].val_loss.iloc[0]]


@pytest.mark.parametrize("shape", [(32, 2, 4), (24, 1, 1), (8, 3, 8)])
def test_parameter_counts_by_part(shape):
    """Against the closed form of GPT-2 with cross-attention."""
    hidden, layers, heads = shape
    cell = dataclasses.replace(CELL, hidden=hidden, n_layers=layers, n_heads=heads)
    counts = count_parameters(build_gpt(cell, N_CODES, CODE_DIM, GRID))
    norm = 2 * hidden
    attention = 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden
    mlp = 8 * hidden * hidden + 5 * hidden
    assert counts["blocks"] == layers * (2 * attention + mlp + 3 * norm) + norm
    assert counts["embedding"] == (N_CODES + 1 + 8) * hidden
    assert counts["context"] == CODE_DIM * hidden + hidden + 8 * hidden + norm
    assert counts["head"] == hidden * N_CODES
    assert counts["total"] == sum(v for k, v in counts.items() if k != "total")


def test_hidden_not_divisible_by_heads():
    with pytest.raises(CobeError, match="hidden 30 is not divisible by 4 heads; take hidden 32"):
        build_gpt(dataclasses.replace(CELL, hidden=30), N_CODES, CODE_DIM, GRID)
    with pytest.raises(CobeError, match="at least 1"):
        build_gpt(dataclasses.replace(CELL, n_layers=0), N_CODES, CODE_DIM, GRID)
    with pytest.raises(CobeError, match="hidden 3 leaves nothing for each of 4 heads"):
        build_gpt(dataclasses.replace(CELL, hidden=3, head_rule="floor"), N_CODES, CODE_DIM, GRID)
    with pytest.raises(CobeError, match="'round' is unknown; choose one of divide, floor"):
        build_gpt(dataclasses.replace(CELL, head_rule="round"), N_CODES, CODE_DIM, GRID)


def test_save_and_load(tmp_path, trained, tokens, codebook, rows):
    model = trained[0]
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = ConditionalGPT.from_pretrained(tmp_path)
    assert again.config.grid == list(GRID)
    assert again.config._attn_implementation == "sdpa"
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    part = rows[1][:20]
    assert teacher_forced(again, tokens, codebook, part) == teacher_forced(
        model, tokens, codebook, part
    )


PAPER_SHAPES = [
    *((hidden, 8, 4) for hidden in (6, 15, 30, 63, 126, 255, 576, 1024)),
    *((576, n_layers, 4) for n_layers in (1, 2, 4, 16)),
    *((576, 8, n_heads) for n_heads in (1, 2, 8)),
]


@pytest.mark.parametrize("shape", PAPER_SHAPES)
def test_every_shape_of_the_paper_can_be_built(shape):
    """Against the closed form, with attention of heads x floor(hidden / heads) channels."""
    hidden, layers, heads = shape
    cell = dataclasses.replace(
        CELL, hidden=hidden, n_layers=layers, n_heads=heads, head_rule="floor"
    )
    with torch.device("meta"):
        counts = count_parameters(build_gpt(cell, 1024, 128, (4, 8, 8)))
    inner, norm = heads * (hidden // heads), 2 * hidden
    attention = 4 * hidden * inner + 3 * inner + hidden
    mlp = 8 * hidden * hidden + 5 * hidden
    assert counts["blocks"] == layers * (2 * attention + mlp + 3 * norm) + norm
    assert counts["head"] == hidden * 1024
    assert counts["embedding"] == hidden * (1025 + 256)
    assert counts["context"] == hidden * (128 + 1 + 256) + norm


def test_the_paper_profile_has_the_papers_shapes():
    paper = PROFILES["paper"]
    cells = [cell for axis in paper.axes for cell in axis_cells(paper, axis)]
    assert {(c.hidden, c.n_layers, c.n_heads) for c in cells} == set(PAPER_SHAPES)


def test_floored_heads_attend_as_written_out():
    """Hidden 30 with 4 heads of 7 channels: both attentions of a block by plain matrix algebra."""
    model = random_weights(hidden=30, head_rule="floor")
    block, generator = model.transformer.h[0], torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, 30, generator=generator)
    context = torch.randn(3, 8, 30, generator=generator)

    def attend(q, k, v, mask):
        heads = []
        for head in range(4):
            part = slice(7 * head, 7 * head + 7)
            score = q[..., part] @ k[..., part].transpose(-1, -2) / 7**0.5 + mask
            heads.append(score.softmax(-1) @ v[..., part])
        return torch.cat(heads, -1)

    with torch.no_grad():
        future = torch.full((8, 8), -torch.inf).triu(1)
        q, k, v = (x @ block.attn.c_attn.weight + block.attn.c_attn.bias).split(28, -1)
        expected = attend(q, k, v, future) @ block.attn.c_proj.weight + block.attn.c_proj.bias
        torch.testing.assert_close(block.attn(x)[0], expected, rtol=1e-4, atol=1e-4)
        cross = block.crossattention
        q = x @ cross.q_attn.weight + cross.q_attn.bias
        k, v = (context @ cross.c_attn.weight + cross.c_attn.bias).split(28, -1)
        expected = attend(q, k, v, 0.0) @ cross.c_proj.weight + cross.c_proj.bias
        found = cross(x, encoder_hidden_states=context)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_floored_heads_start_as_gpt2_does():
    """c_proj at .02 / sqrt(2 layers), every other matrix at .02, biases at 0."""
    cell = dataclasses.replace(CELL, hidden=126, n_layers=8, head_rule="floor")
    for block in build_gpt(cell, N_CODES, CODE_DIM, GRID).transformer.h:
        for attention in (block.attn, block.crossattention):
            assert float(attention.c_proj.weight.detach().std()) == pytest.approx(0.005, rel=0.05)
            assert float(attention.c_attn.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
            assert float(attention.c_attn.bias.detach().abs().max()) == 0


def test_the_rule_changes_nothing_where_heads_divide_hidden():
    ours = build_gpt(CELL, N_CODES, CODE_DIM, GRID).state_dict()
    floored = dataclasses.replace(CELL, head_rule="floor")
    theirs = build_gpt(floored, N_CODES, CODE_DIM, GRID).state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert floored.name != CELL.name


def test_a_floored_model_trains_saves_and_loads(tmp_path, tokens, codebook, rows):
    cell = dataclasses.replace(CELL, hidden=30, head_rule="floor")
    cfg = TrainConfig(n_steps=30, batch_size=32, learning_rate=4e-3, n_evals=1)
    model, log, _ = train_gpt(cell, cfg, tokens, codebook, *rows, threads=1)
    assert log.val_loss.iloc[-1] < log.val_loss.iloc[0] - 0.01
    model.save_pretrained(tmp_path)
    again = load_gpt(tmp_path, cell)
    part = rows[1][:20]
    assert teacher_forced(again, tokens, codebook, part) == teacher_forced(
        model, tokens, codebook, part
    )


def test_a_saved_model_of_another_cell_names_both(tmp_path):
    build_gpt(CELL, N_CODES, CODE_DIM, GRID).save_pretrained(tmp_path)
    assert not load_gpt(tmp_path, CELL).training
    other = dataclasses.replace(CELL, n_layers=3)
    words = "hidden 32, 2 layers, 4 heads, but cell .* has hidden 32, 3 layers, 4 heads"
    with pytest.raises(CobeError, match=words):
        load_gpt(tmp_path, other)
    with pytest.raises(CobeError, match="no saved GPT"):
        load_gpt(tmp_path / "nothing")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CobeError, match="no readable GPT"):
        load_gpt(tmp_path)


@pytest.mark.parametrize("changes", [{}, {"hidden": 30, "head_rule": "floor"}])
def test_cached_logits_equal_the_full_pass(changes):
    model = random_weights(n_layers=3, **changes)
    targets, codes = example(n=4)
    with torch.no_grad():
        torch.testing.assert_close(
            cached_logits(model, targets, codes), model(targets, codes), rtol=1e-4, atol=1e-4
        )


def test_samples_follow_the_model(codebook):
    """The first token's frequencies over many draws against the model's own probabilities."""
    model = random_weights()
    with torch.no_grad():
        model.head.weight.mul_(0.5)
    tokens = np.zeros((2001, *GRID), np.uint16)
    rows = np.arange(1, 2001)
    drawn = predict_next(model, tokens, codebook, rows, seed=3, batch=500)
    windows = Windows(tokens, codebook, rows[:1])
    with torch.no_grad():
        expected = model(*windows.batch([0]))[0, 0].softmax(-1).numpy()
    observed = np.bincount(drawn[:, 0, 0, 0], minlength=N_CODES) / len(rows)
    assert 0.1 < expected.max() < 0.9
    assert np.abs(observed - expected).max() < 0.04
    few = predict_next(model, tokens, codebook, rows[:300], top_k=2, seed=3)
    assert set(few[:, 0, 0, 0]) == set(np.argsort(expected)[-2:])


def test_samples_depend_on_seed_and_row_but_not_on_batch(codebook):
    model = random_weights()
    tokens = np.random.default_rng(0).integers(0, N_CODES, (30, *GRID)).astype(np.uint16)
    rows = np.arange(1, 30)
    drawn = predict_next(model, tokens, codebook, rows, seed=1)
    assert drawn.dtype == np.uint16
    assert np.array_equal(drawn, predict_next(model, tokens, codebook, rows, seed=1, batch=4))
    assert np.array_equal(drawn[7:9], predict_next(model, tokens, codebook, rows[7:9], seed=1))
    assert not np.array_equal(drawn, predict_next(model, tokens, codebook, rows, seed=2))


def test_copy_baselines():
    tokens = np.arange(3 * 8).reshape(3, *GRID).astype(np.uint16)
    rows = np.array([1, 2])
    assert np.array_equal(copy_last_clip(tokens, rows), tokens[:2])
    copied = copy_last_frame(tokens, rows)
    assert np.array_equal(copied[:, 0], tokens[:2, 1])
    assert np.array_equal(copied[:, 1], tokens[1:, 0])
    with pytest.raises(CobeError, match="compare equals"):
        token_accuracy(tokens, tokens[:1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": -1}, "temperature -1"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": 0}, "choose 1 to 16"),
        ({"top_k": 17}, "choose 1 to 16"),
        ({"rows": [0]}, "rows 1 to 3 with a clip before"),
        ({"rows": [4]}, "rows 1 to 3 with a clip before"),
        ({"rows": []}, "no rows"),
        ({"tokens": np.zeros((4, 4, 4, 4), np.uint16)}, "built for"),
        ({"tokens": np.full((4, *GRID), 16, np.uint16)}, "codebook has 16 codes"),
    ],
)
def test_bad_input_to_generation(changes, words, codebook):
    model = build_gpt(CELL, N_CODES, CODE_DIM, GRID)
    arguments = {"tokens": np.zeros((4, *GRID), np.uint16), "rows": [1]} | changes
    with pytest.raises(CobeError, match=words):
        predict_next(model, codebook=codebook, **arguments)


def test_weights_that_are_missing_are_no_random_weights(tmp_path):
    cell = Cell(0, 8, 1, 2)
    build_gpt(cell, 12, 4, (2, 2, 2)).save_pretrained(tmp_path)
    assert load_gpt(tmp_path, cell).n_tokens == 8
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CobeError, match="1 missing or unknown, such as .*c_fc.weight"):
        load_gpt(tmp_path, cell)
