"""Saved files read directly, not through the store: what is damaged is refused in words."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from cobe.core.arrays import read_npz
from cobe.core.errors import CobeError
from cobe.video.checkpoint import read_checkpoint, write_checkpoint
from cobe.video.tokens import CLIP_COLUMNS
from cobe.video.tokenset import open_token_set, write_token_set
from cobe.video.vqvae import VQVAE, build_vqvae
from small_video import TINY


def flips(content: bytes, n: int, seed: int = 0):
    """The content with one bit changed, at `n` places."""
    rng = np.random.default_rng(seed)
    for at, bit in zip(rng.integers(len(content), size=n), rng.integers(8, size=n), strict=True):
        yield content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


@pytest.fixture
def training():
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_every_flipped_bit_of_a_checkpoint_is_found(tmp_path, training):
    path = tmp_path / "c.safetensors"
    state = {"identity": {"seed": 1}, "step": 3}
    best = {"weight": torch.arange(5.0), "flag": torch.tensor(True), "count": torch.tensor(7)}
    write_checkpoint(path, state, *training, best=best)
    found, parts = read_checkpoint(path, state["identity"], *training)
    assert found == state and torch.equal(parts["best"]["weight"], best["weight"])
    for damaged in flips(path.read_bytes(), 300):
        path.write_bytes(damaged)
        with pytest.raises(CobeError, match="damaged checkpoint"):
            read_checkpoint(path, state["identity"], *training)


def test_a_checkpoint_of_before_checksums_is_refused(tmp_path, training):
    path = tmp_path / "c.safetensors"
    save_file(
        {"model/weight": np.zeros(3, np.float32)}, path, metadata={"state": '{"identity": {}}'}
    )
    with pytest.raises(CobeError, match="damaged checkpoint.*sha256"):
        read_checkpoint(path, {}, *training)


def test_flipped_bits_and_objects_in_npz_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"bold": np.random.default_rng(0).normal(size=(40, 7)), "notes": np.array(["a", "b"])}
    np.savez(path, **arrays)
    content = path.read_bytes()
    for name, value in read_npz(path).items():
        np.testing.assert_array_equal(value, arrays[name])
    refused = 0
    for damaged in flips(content, 300):
        path.write_bytes(damaged)
        try:
            values = read_npz(path)
        except CobeError:
            refused += 1
        else:  # a bit of the zip's own bookkeeping, such as a date
            for name in values.keys() & arrays.keys():
                np.testing.assert_array_equal(values[name], arrays[name])
    assert refused > 200
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CobeError, match="not whole arrays"):
        read_npz(path)
    np.savez(path, bold=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(CobeError, match="not whole arrays"):
        read_npz(path)
    with pytest.raises(CobeError, match="not there"):
        read_npz(tmp_path / "none.npz")
    path.write_bytes(content)
    assert list(read_npz(path, "notes")) == ["notes"]
    with pytest.raises(CobeError, match="not whole arrays.*series"):
        read_npz(path, "series")


@pytest.mark.parametrize("missing", ["sha256", "model_id", "all"])
def test_a_token_set_without_its_header_is_refused(tmp_path, missing):
    path = tmp_path / "t.safetensors"
    texts = {"subject": "sub-01", "session": "ses-001", "level": "1"}
    clips = pd.DataFrame({name: [texts.get(name, k) for k in range(4)] for name in CLIP_COLUMNS})
    codes = np.zeros((4, 1, 1, 1), np.uint16)
    write_token_set(path, codes, clips, np.zeros((2, 3), np.float32), "model")
    about = {"format": "cobe tokens 1", "sha256": "0", "model_id": "m"}
    about = [] if missing == "all" else {k: v for k, v in about.items() if k != missing}
    save_file(load_file(path), path, metadata={"cobe": json.dumps(about)})
    with pytest.raises(CobeError, match="tokenise again"):
        open_token_set(path)


@pytest.mark.parametrize(
    "change",
    [
        {"n_hiddens": 2_000_000},
        {"n_res_blocks": 3_000_000},
        {"n_codes": 10**12},
        {"code_dim": 10**12},
        {"resolution": 10**12},
        {"batch_size": 10**12},
        {"n_hiddens": "many"},
        {"n_res_blocks": None},
    ],
)
def test_settings_of_a_network_that_never_was_are_refused_at_once(tmp_path, change):
    build_vqvae(replace(TINY, n_hiddens=4, n_codes=8, code_dim=2)).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert VQVAE.load(tmp_path).cfg.n_hiddens == 4
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CobeError, match="no readable VQ-VAE"):
        VQVAE.load(tmp_path)
