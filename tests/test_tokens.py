"""Token sets on disk, and tokens of many frame stores on one process and on two."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.stimulus.frames import open_frames, write_frames
from cobe.video.tokens import clip_table, tokenize, tokenize_stores
from cobe.video.tokenset import open_token_set, write_token_set
from cobe.video.vqvae import VQVAE, build_vqvae

CFG = VQVAEConfig(
    resolution=16, downsample=(4, 8, 8), n_hiddens=8, n_res_blocks=1, n_codes=32, code_dim=8
)
N_FRAMES = (200, 64, 63, 1100)


def model_with_codes(cfg=CFG):
    """A model whose random codebook lies where its latents are, so that many codes are used."""
    model = build_vqvae(cfg)
    clips = np.random.default_rng(3).integers(0, 256, (64, 16, 16, 16, 3)).astype(np.uint8)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the k-means start
        model.train()(model.pixels(clips))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return model_with_codes()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("stores"), np.random.default_rng(0)
    paths = [folder / f"{i}.b2nd" for i in range(len(N_FRAMES))]
    for path, n in zip(paths, N_FRAMES, strict=True):
        write_frames(path, rng.integers(0, 256, (n, 16, 16, 3)).astype(np.uint8))
    return paths


@pytest.fixture
def written(tmp_path, model):
    table = clip_table(
        ("sub-1", "ses-001", 1, row, "1-0", 70.5 * row, n) for row, n in enumerate(N_FRAMES)
    )
    table["role"] = "video_train"
    codes = np.random.default_rng(1).integers(0, 32, (len(table), 4, 2, 2)).astype(np.uint16)
    path = tmp_path / "tokens.safetensors"
    write_token_set(path, codes, table, model.codebook(), model.identity())
    return path, codes, table


def test_two_processes_give_the_bytes_of_one(model, stores, tmp_path):
    model.save(tmp_path / "model")
    one = tokenize_stores(tmp_path / "model", stores, workers=1)
    two = tokenize_stores(tmp_path / "model", stores, workers=2)
    assert one.dtype == np.uint16
    assert one.shape == (3 + 1 + 0 + 17, 4, 2, 2)
    assert one.tobytes() == two.tobytes()
    assert len(np.unique(one)) > 8
    here = [tokenize(model, open_frames(path)) for path in stores]
    assert np.array_equal(np.concatenate(here), one)
    assert tokenize_stores(tmp_path / "model", []).shape == (0, 4, 2, 2)


def test_a_model_saved_again_in_the_same_folder_is_read_again(model, stores, tmp_path):
    model.save(tmp_path / "model")
    first = tokenize_stores(tmp_path / "model", stores[:1], workers=1)
    other = model_with_codes(dataclasses.replace(CFG, seed=5))
    other.save(tmp_path / "model")
    again = tokenize_stores(tmp_path / "model", stores[:1], workers=1)
    assert np.array_equal(again, tokenize(other, open_frames(stores[0])))
    assert not np.array_equal(again, first)


def test_frames_of_another_size_name_both_sides(stores, tmp_path):
    larger = build_vqvae(dataclasses.replace(CFG, resolution=32))
    larger.save(tmp_path / "model")
    words = r"0\.b2nd: frames of 16 x 16 pixels, but the VQ-VAE takes 32 x 32"
    with pytest.raises(CobeError, match=words):
        tokenize_stores(tmp_path / "model", stores)
    with pytest.raises(CobeError, match=words):
        tokenize(larger, open_frames(stores[0]))


def test_a_token_set_comes_back_as_it_was(written, model):
    path, codes, table = written
    opened = open_token_set(path, model.identity())
    assert isinstance(opened.codes, np.memmap)
    assert not opened.codes.flags.writeable
    assert np.array_equal(opened.codes, codes)
    assert np.array_equal(opened.codebook, model.codebook())
    assert opened.model_id == model.identity()
    pd.testing.assert_frame_equal(opened.clips, table, check_like=False)
    assert open_token_set(path).model_id == opened.model_id
    first = path.read_bytes()
    write_token_set(path, codes, table, model.codebook(), model.identity())
    assert path.read_bytes() == first


def test_an_empty_token_set(tmp_path, model):
    path = tmp_path / "none.safetensors"
    write_token_set(path, np.empty((0, 4, 2, 2), np.uint16), clip_table([]), model.codebook(), "id")
    opened = open_token_set(path)
    assert opened.codes.shape == (0, 4, 2, 2)
    assert len(opened.clips) == 0


def test_tokens_of_another_model_name_both_sides(written, model):
    path, *_ = written
    other = build_vqvae(dataclasses.replace(CFG, seed=1)).identity()
    with pytest.raises(
        CobeError, match=f"of VQ-VAE {model.identity()}, but the model given is {other}"
    ):
        open_token_set(path, other)


def test_identity_follows_weights_and_settings(model, tmp_path):
    model.save(tmp_path / "model")
    assert VQVAE.load(tmp_path / "model").identity() == model.identity()
    changed = model_with_codes()
    assert changed.identity() == model.identity()
    with torch.no_grad():
        changed.decoder[-1].bias[0] += 1e-3
    assert changed.identity() != model.identity()


@pytest.mark.parametrize("part", ["codes", "codebook", "clips"])
def test_a_changed_byte_anywhere_is_found(written, part):
    path, codes, _ = written
    content = bytearray(path.read_bytes())
    n_header = int.from_bytes(content[:8], "little")
    start, stop = json.loads(content[8 : 8 + n_header])[part]["data_offsets"]
    content[8 + n_header + (start + stop) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CobeError, match=r"damaged, checksum \w+ but \w+ was written"):
        open_token_set(path)


def test_what_is_no_token_set(written, tmp_path, model):
    path, codes, table = written
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CobeError, match="no readable token set"):
        open_token_set(path)
    with pytest.raises(CobeError, match="no readable token set"):
        open_token_set(tmp_path / "nothing")
    model.save(tmp_path / "model")
    with pytest.raises(CobeError, match="no readable token set"):
        open_token_set(tmp_path / "model" / "model.safetensors")
    foreign = {"codes": codes, "codebook": model.codebook(), "clips": np.zeros(3, np.uint8)}
    save_file(foreign, tmp_path / "foreign")
    with pytest.raises(CobeError, match="its format is None, not 'cobe tokens 1'"):
        open_token_set(tmp_path / "foreign")


def test_what_cannot_be_written(written, tmp_path, model):
    _, codes, table = written
    for arguments, words in [
        ((codes.astype(np.int64), table, model.codebook()), "int64 .* but tokens are uint16"),
        ((codes[1:], table, model.codebook()), "20 clips of tokens and 21 rows"),
        ((codes, table.drop(columns="start_s"), model.codebook()), "lacks start_s"),
        ((codes, table, model.codebook()[:5]), "codebook has 5 codes"),
    ]:
        with pytest.raises(CobeError, match=words):
            write_token_set(tmp_path / "x", *arguments, "id")
    assert not (tmp_path / "x").exists()
