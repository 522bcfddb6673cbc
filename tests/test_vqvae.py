"""The VQ-VAE: shapes, independence of the batch, learning, resume, and refusals."""

import dataclasses

import numpy as np
import pytest
import torch

from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.video.blocks import StridedConv3d, StridedConvTranspose3d
from cobe.video.quantizer import fsq_levels
from cobe.video.tokens import clip_table, store_clips, tokenize
from cobe.video.vqvae import VQVAE, build_vqvae, count_vqvae_parameters
from cobe.video.vqvae_train import reconstruction_error, train_vqvae
from small_video import TINY, moving_squares


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


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
@pytest.mark.parametrize("n_frames", [4, 16, 40])
def test_any_clip_length_that_the_time_stride_divides(n_frames, quantizer):
    model = build_vqvae(dataclasses.replace(TINY, n_codes=64, quantizer=quantizer))
    clips = np.random.default_rng(0).integers(0, 256, (3, n_frames, 16, 16, 3)).astype(np.uint8)
    tokens = model.encode(clips)
    assert tokens.shape == (3, n_frames // 4, 2, 2)
    assert model.decode(tokens).shape == clips.shape
    assert model.decode(tokens[:0]).shape == (0, *clips.shape[1:])
    with pytest.raises(CobeError, match="a multiple of 4"):
        model.encode(clips[:, :-1])


@pytest.mark.parametrize("downsample", [(4, 8, 8), (2, 2, 2), (1, 4, 2)])
def test_a_kernel_of_four_keeps_the_grid_too(downsample):
    """Upstream's kernels: an axis that a stage does not stride must keep its length."""
    cfg = dataclasses.replace(TINY, downsample=downsample, flat_kernel=4)
    model, clips = build_vqvae(cfg), moving_squares(np.random.default_rng(0), 2)
    tokens = model.encode(clips)
    assert tokens.shape[1:] == tuple(n // s for n, s in zip((16, 16, 16), downsample, strict=True))
    assert model.decode(tokens).shape == clips.shape


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 1, 2), (1, 1, 2), (2, 2, 2)])
def test_uneven_kernels_pad_as_videogpt_does(stride):
    """Its rule, spelt out: 4 - stride zeros per axis, the odd one in front, before either layer."""
    torch.manual_seed(0)
    down, up = StridedConv3d(3, 5, stride, 4), StridedConvTranspose3d(3, 5, stride, 4)
    x = torch.randn(2, 3, 6, 8, 4)
    zeros = [n for s in reversed(stride) for n in ((2, 1) if s == 1 else (1, 1))]
    padded = torch.nn.functional.pad(x, zeros)
    expected = torch.nn.functional.conv3d(padded, down.weight, down.bias, stride)
    torch.testing.assert_close(down(x), expected)
    expected = torch.nn.functional.conv_transpose3d(padded, up.weight, up.bias, stride, 3)
    torch.testing.assert_close(up(x), expected)


def test_parameters_at_the_papers_setting_are_the_published_ones():
    """Encoder 18.7 M, decoder 17.1 M, the convolution to the codes 30.8 K, in all 35.8 M."""
    with torch.device("meta"):
        counts = count_vqvae_parameters(VQVAE(PROFILES["paper"].vqvae))
    for part, published in [
        ("encoder", 18.7e6),
        ("decoder", 17.1e6),
        ("to_codes", 30.8e3),
        ("total", 35.8e6),
    ]:
        assert counts[part] == pytest.approx(published, rel=0.005), part
    assert counts["codebook"] == 1024 * 128


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_the_parts_add_up_to_all_parameters(quantizer):
    model = build_vqvae(dataclasses.replace(TINY, n_codes=64, quantizer=quantizer))
    counts = count_vqvae_parameters(model)
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    parts = ("encoder", "to_codes", "from_codes", "decoder")
    assert counts["total"] == sum(counts[part] for part in parts)
    assert (counts["codebook"] > 0) == (quantizer == "vq")


def test_an_untrained_model_does_not_learn_from_what_it_encodes(val_clips):
    """Its codebook is random, by its seed, and the k-means start waits for training."""
    model, again = build_vqvae(TINY), build_vqvae(TINY)
    tokens = model.encode(val_clips)
    assert len(np.unique(tokens)) > 1
    assert np.array_equal(model.codebook(), again.codebook())
    assert np.array_equal(again.encode(val_clips[7:9]), tokens[7:9])
    other = build_vqvae(dataclasses.replace(TINY, seed=1))
    assert not np.array_equal(other.codebook(), model.codebook())
    model.train()(model.pixels(val_clips))
    assert not np.array_equal(model.codebook(), again.codebook())


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_autocast_around_it_changes_no_token(quantizer, val_clips):
    model = build_vqvae(dataclasses.replace(TINY, n_codes=64, quantizer=quantizer))
    tokens = model.encode(val_clips)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(model.encode(val_clips), tokens)
        assert model(model.pixels(val_clips[:1]))[0].dtype == torch.float32


def test_fsq_codes_are_rounded_levels(val_clips):
    """Every index by its mixed-radix digits; the codebook is what the decoder is given."""
    cfg = dataclasses.replace(TINY, n_codes=60, quantizer="fsq", levels=(3, 4, 5))
    model = build_vqvae(cfg)
    codebook = model.codebook()
    assert codebook.shape == (60, TINY.code_dim)
    digits = np.stack(np.unravel_index(np.arange(60), (5, 4, 3)), 1)[:, ::-1]
    levels = (digits - np.array([1, 2, 2])) / np.array([1, 2, 2])
    out = model.quantize.project_out
    expected = levels @ out.weight.detach().numpy().T + out.bias.detach().numpy()
    np.testing.assert_allclose(codebook, expected, atol=1e-6)
    with torch.no_grad():
        z = model.latents(model.pixels(val_clips))
        codes, tokens, commitment = model.quantize(z)
    assert np.array_equal(model.encode(val_clips), tokens.numpy())
    np.testing.assert_allclose(codes.movedim(1, -1).numpy(), model.codes(tokens), atol=1e-6)
    assert commitment.item() == 0


def test_fsq_learns(val_clips):
    cfg = dataclasses.replace(
        TINY, n_steps=150, batch_size=8, n_hiddens=32, downsample=(4, 4, 4), n_codes=64,
        quantizer="fsq",
    )  # fmt: skip
    model, log = train_vqvae(cfg, moving_squares, val_clips, threads=1)
    assert log.val_ratio.iloc[-1] < 0.5 * log.val_ratio.iloc[0]
    assert log.codes_used.iloc[-1] >= 16
    assert np.isfinite(model.codebook()).all()


@pytest.mark.parametrize(
    ("n_codes", "levels"),
    [(64, (8, 8)), (128, (16, 8)), (256, (16, 16)), (512, (8, 8, 8)), (1024, (16, 8, 8))],
)
def test_fsq_levels_follow_from_the_number_of_codes(n_codes, levels):
    cfg = dataclasses.replace(TINY, n_codes=n_codes, quantizer="fsq")
    assert fsq_levels(cfg) == levels


def test_the_unit_of_the_loss_is_the_median_frames_error(val_clips):
    """By hand: pixels far from the median frame weigh more; the median frame itself scores 1."""
    model = build_vqvae(TINY)
    model.set_statistics(val_clips)
    x = val_clips.astype(float) / 255
    median = np.median(val_clips[:, ::4].reshape(-1, 16, 16, 3), axis=0) / 255
    weight = 1 + 20 * np.abs(x - median).max(-1, keepdims=True)
    expected = (weight * (x - median) ** 2).mean()
    assert float(model.background_error) == pytest.approx(expected, rel=1e-3)
    pixels = model.pixels(val_clips)
    own = model.weighted_error(pixels, model.median_frame[None, :, None])
    assert float(own / model.background_error) == pytest.approx(1, rel=1e-3)


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


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_save_and_load_give_the_same_model(quantizer, trained, val_clips, tmp_path):
    model, _ = trained
    if quantizer == "fsq":
        fsq = {"quantizer": "fsq", "n_codes": 40, "levels": (8, 5)}
        model = build_vqvae(dataclasses.replace(model.cfg, **fsq))
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


def test_bad_input(val_clips):
    model = build_vqvae(TINY)
    with pytest.raises(CobeError, match="decode the frames at the model's resolution"):
        model.encode(np.zeros((1, 16, 32, 32, 3), np.uint8))
    with pytest.raises(CobeError, match="float64"):
        model.encode(np.zeros((1, 16, 16, 16, 3)))
    with pytest.raises(CobeError, match="code 32, but this VQ-VAE has 32 codes"):
        model.decode(np.full((1, 4, 2, 2), 32))
    with pytest.raises(CobeError, match=r"decodes \(n, t, 2, 2\)"):
        model.decode(np.zeros((1, 4, 4, 4), np.uint16))
    with pytest.raises(CobeError, match="hold out"):
        train_vqvae(TINY, moving_squares, val_clips[:0])
    for change, words in [
        ({"downsample": (3, 8, 8)}, "power of two"),
        ({"downsample": (4, 32, 8)}, "does not divide"),
        ({"n_codes": 70_000}, "uint16"),
        ({"n_hiddens": 6}, "multiple of 4"),
        ({"flat_kernel": 5}, "choose 3 or 4"),
        ({"quantizer": "lfq"}, "'lfq' is unknown; choose one of vq, fsq"),
        ({"levels": (8, 4)}, "belong to the quantizer 'fsq', not to 'vq'"),
        ({"quantizer": "fsq", "levels": (8, 5)}, "give 40 codes, n_codes is 32"),
        ({"quantizer": "fsq", "levels": (2, 16)}, "levels of 3 or more"),
        ({"quantizer": "fsq"}, "32 is no product of 8 and 16"),
    ]:
        with pytest.raises(CobeError, match=words):
            build_vqvae(dataclasses.replace(TINY, **change))


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
