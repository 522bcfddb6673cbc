"""The VQ-VAE: shapes, independence of the batch, learning, resume, and refusals."""

import dataclasses

import numpy as np
import pytest
import torch

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.video import vqvae_train
from cobe.video.tokens import clip_table, open_tokens, store_clips, tokenize, write_tokens
from cobe.video.vqvae import VQVAE, build_vqvae
from cobe.video.vqvae_train import reconstruction_error, train_vqvae

TINY = VQVAEConfig(
    resolution=16,
    downsample=(4, 8, 8),
    n_hiddens=16,
    n_res_blocks=1,
    n_codes=32,
    code_dim=8,
    n_steps=12,
    batch_size=4,
)


def moving_squares(rng, n, size=16):
    """White 4 x 4 squares on black, each moving along a row."""
    clips = np.zeros((n, 16, size, size, 3), np.uint8)
    for clip in clips:
        y, x, step = rng.integers(0, size - 4), rng.integers(0, size), rng.integers(-1, 2)
        for i, frame in enumerate(clip):
            columns = (x + step * (i // 4) + np.arange(4)) % size
            frame[y : y + 4, columns] = (255, 160, 40)
    return clips


@pytest.fixture(scope="module")
def val_clips():
    return moving_squares(np.random.default_rng(99), 20)


@pytest.fixture(scope="module")
def trained(val_clips):
    cfg = dataclasses.replace(TINY, n_steps=150, batch_size=8, n_hiddens=32, downsample=(4, 4, 4))
    return train_vqvae(cfg, moving_squares, val_clips, threads=1)


@pytest.mark.parametrize(
    "downsample", [(1, 2, 2), (2, 2, 2), (4, 16, 16), (8, 4, 2), (1, 1, 1), (16, 8, 8)]
)
def test_every_power_of_two_stride_gives_its_grid_and_the_clip_back(downsample):
    model = build_vqvae(dataclasses.replace(TINY, downsample=downsample, n_hiddens=8))
    clips = moving_squares(np.random.default_rng(0), 2)
    tokens = model.encode(clips)
    assert tokens.dtype == np.uint16
    assert tokens.shape == (2, 16 // downsample[0], 16 // downsample[1], 16 // downsample[2])
    decoded = model.decode(tokens)
    assert decoded.dtype == np.uint8
    assert decoded.shape == clips.shape
    assert model.codes(tokens).shape == (*tokens.shape, TINY.code_dim)


def test_training_keeps_small_bright_objects(trained, val_clips):
    model, log = trained
    assert log.val_ratio.iloc[0] > 0.9
    assert log.val_ratio.iloc[-1] < 0.35
    assert log.codes_used.iloc[-1] >= 16
    decoded = model.decode(model.encode(val_clips))
    bright = val_clips.max(-1) > 0
    assert decoded[bright].mean() > 5 * decoded[~bright].mean()


def test_error_of_the_mean_frame_is_one(trained, val_clips):
    """A model that decodes the mean frame must score 1 by the definition of the ratio."""
    model, _ = trained

    class MeanFrame:
        mean_frame = model.mean_frame
        background_error = model.background_error
        pixels, weighted_error, encode = model.pixels, model.weighted_error, model.encode

        def decode(self, tokens):
            frame = (self.mean_frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            return np.broadcast_to(frame, (len(tokens), 16, *frame.shape)).copy()

    errors = reconstruction_error(MeanFrame(), val_clips)
    assert errors["val_ratio"] == pytest.approx(1, abs=0.02)
    assert errors["val_ratio_all"] == pytest.approx(1, abs=0.02)


def test_tokens_do_not_depend_on_batch_or_source(trained, val_clips):
    model, _ = trained

    class Store:
        """64 frames at 60 Hz per clip, every one shown 4 times; 10 frames at the end are left."""

        frames = np.concatenate([np.repeat(c, 4, axis=0) for c in val_clips] + [val_clips[0, :10]])
        shape = frames.shape

        def clips(self, starts):
            return np.stack([self.frames[s : s + 64 : 4] for s in starts])

    whole = tokenize(model, val_clips)
    assert len(np.unique(whole)) > 8
    for batch in (1, 3, 16, 17):
        assert np.array_equal(tokenize(model, val_clips, batch=batch), whole)
    assert np.array_equal(tokenize(model, iter(np.array_split(val_clips, 3))), whole)
    assert np.array_equal(tokenize(model, Store(), batch=7), whole)
    assert sum(len(part) for part in store_clips(Store(), 6)) == len(val_clips)
    # ... nor on what else is in the batch: one clip alone gives its own tokens.
    assert np.array_equal(model.encode(val_clips[5:6])[0], whole[5])
    assert tokenize(model, val_clips[:0]).shape == (0, *model.grid)


def test_encoding_leaves_the_codebook_alone(trained, val_clips):
    model, _ = trained
    before = model.codebook()
    model.train()
    model.encode(val_clips)
    assert np.array_equal(model.codebook(), before)


def test_codes_are_nearest_vectors(trained, val_clips):
    """Against a float64 search over all codes."""
    model, _ = trained
    with torch.no_grad():
        z = model.latents(model.pixels(val_clips[:4])).movedim(1, -1).numpy().astype(float)
    distance = ((z[..., None, :] - model.codebook().astype(float)) ** 2).sum(-1)
    chosen = np.take_along_axis(distance, model.encode(val_clips[:4])[..., None].astype(int), -1)
    assert np.all(chosen[..., 0] <= distance.min(-1) * (1 + 1e-4) + 1e-6)


def test_save_and_load_give_the_same_model(trained, val_clips, tmp_path):
    model, _ = trained
    model.save(tmp_path / "m")
    again = VQVAE.load(tmp_path / "m")
    assert again.cfg == model.cfg
    tokens = model.encode(val_clips)
    assert np.array_equal(again.encode(val_clips), tokens)
    assert np.array_equal(again.decode(tokens), model.decode(tokens))
    first = (tmp_path / "m" / "model.safetensors").read_bytes()
    again.save(tmp_path / "n")
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == first


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(CobeError, match="no readable VQ-VAE"):
        VQVAE.load(tmp_path)
    build_vqvae(TINY).save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"n_codes": 32', '"n_codes": 64'))
    with pytest.raises(CobeError, match="do not fit config.json"):
        VQVAE.load(tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_is_bit_identical_and_keeps_the_codebook(
    precision, val_clips, tmp_path, monkeypatch
):
    clips, path = val_clips[:4], tmp_path / "vq.safetensors"
    whole, log = train_vqvae(TINY, moving_squares, clips, None, 1, precision)
    write, written = vqvae_train.write_checkpoint, []

    def write_then_stop(*args):
        write(*args)
        written.append(args[1]["step"])
        if len(written) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(vqvae_train, "write_checkpoint", write_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train_vqvae(TINY, moving_squares, clips, path, 1, precision)
    assert 0 < written[-1] < TINY.n_steps
    resumed, again = train_vqvae(TINY, moving_squares, clips, path, 1, precision)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    columns = log.columns.drop("seconds")
    assert log[columns].equals(again[columns])
    # A finished checkpoint gives the model back without another step, the codebook untouched.
    finished, _ = train_vqvae(TINY, no_clips_wanted, clips, path, 1, precision)
    assert np.array_equal(finished.codebook(), whole.codebook())


def no_clips_wanted(rng, n):
    raise AssertionError("a finished run asked for clips")


def test_checkpoint_of_another_run_is_refused(val_clips, tmp_path):
    path = tmp_path / "vq.safetensors"
    cfg = dataclasses.replace(TINY, n_steps=2)
    train_vqvae(cfg, moving_squares, val_clips[:2], path, 1, "fp32")
    with pytest.raises(CobeError, match="seed 0 there, 1 here"):
        train_vqvae(
            dataclasses.replace(cfg, seed=1), moving_squares, val_clips[:2], path, 1, "fp32"
        )
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CobeError, match="damaged checkpoint"):
        train_vqvae(cfg, moving_squares, val_clips[:2], path, 1, "fp32")


def test_bad_input(val_clips):
    model = build_vqvae(TINY)
    with pytest.raises(CobeError, match="decode the frames at the model's resolution"):
        model.encode(np.zeros((1, 16, 32, 32, 3), np.uint8))
    with pytest.raises(CobeError, match="float64"):
        model.encode(np.zeros((1, 16, 16, 16, 3)))
    with pytest.raises(CobeError, match="hold out"):
        train_vqvae(TINY, moving_squares, val_clips[:0])
    for change, words in [
        ({"downsample": (3, 8, 8)}, "power of two"),
        ({"downsample": (4, 32, 8)}, "does not divide"),
        ({"n_codes": 70_000}, "uint16"),
        ({"n_hiddens": 6}, "multiple of 4"),
    ]:
        with pytest.raises(CobeError, match=words):
            build_vqvae(dataclasses.replace(TINY, **change))


def test_a_diverging_run_says_what_to_lower(val_clips):
    cfg = dataclasses.replace(TINY, learning_rate=float("inf"), n_steps=4)
    with pytest.raises(CobeError, match="lower VQVAEConfig.learning_rate"):
        train_vqvae(cfg, moving_squares, val_clips[:2], None, 1, "fp32")


def test_clip_table_times_and_left_out_frames():
    table = clip_table(
        [
            ("sub-1", "ses-001", 1, 0, "1-0", 2.0, 64 * 3 + 10),
            ("sub-1", "ses-001", 1, 2, "4-1", 50.5, 63),
            ("sub-1", "ses-001", 2, 0, "1-0", 0.0, 64),
        ]
    )
    assert table["clip"].tolist() == [0, 1, 2, 0]
    assert table.run.tolist() == [1, 1, 1, 2]
    assert table.start_s.tolist() == pytest.approx([2, 2 + 64 / 60, 2 + 128 / 60, 0])
    assert table.end_s.tolist() == pytest.approx([2 + 64 / 60, 2 + 128 / 60, 2 + 192 / 60, 64 / 60])
    assert table.attrs["left_out_frames"] == 10 + 63
    assert len(clip_table([])) == 0
    with pytest.raises(CobeError, match="listed twice"):
        clip_table([("s", "a", 1, 0, "1", 0.0, 64)] * 2)
    with pytest.raises(CobeError, match="-1 frames"):
        clip_table([("s", "a", 1, 0, "1", 0.0, -1)])


def test_token_files(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 500, (7, 4, 2, 3)).astype(np.uint16)
    path = tmp_path / "tokens.npy"
    write_tokens(path, tokens)
    opened = open_tokens(path, n_clips=7, grid=(4, 2, 3))
    assert isinstance(opened, np.memmap)
    assert np.array_equal(opened, tokens)
    with pytest.raises(CobeError, match="7 clips, but the clip table has 8"):
        open_tokens(path, n_clips=8)
    with pytest.raises(CobeError, match="grid"):
        open_tokens(path, grid=(4, 4, 4))
    with pytest.raises(CobeError, match="uint16"):
        write_tokens(path, tokens.astype(np.int64))
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(CobeError, match="no readable token file"):
        open_tokens(path)
    np.save(path, np.zeros((3, 3)))
    with pytest.raises(CobeError, match="uint16"):
        open_tokens(path)
