"""Two processes against one, as `accelerate launch` starts them."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cobe.core.config import Cell, TrainConfig
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.video.tokens import clip_table
from cobe.video.tokenset import open_token_set, write_token_set
from cobe.video.train_cell import main, train_cell, with_changes

GRID, N_CODES = (2, 2, 2), 12
CELL = "n_frames=2560,hidden=16,n_layers=1,n_heads=2,head_rule=divide,precision=fp32"
TRAIN = "n_steps=12,batch_size=8,n_evals=3,dropout=0.0,learning_rate=0.01"

# Every process runs this; only the main one writes.
VQVAE = """
import json, sys
import numpy as np
from accelerate import PartialState
from cobe.core.config import VQVAEConfig
from cobe.video.steplog import StepLog
from cobe.video.vqvae_train import train_vqvae

cfg = VQVAEConfig(resolution=16, downsample=(4, 8, 8), n_hiddens=8, n_res_blocks=1, n_codes=2,
                  code_dim=4, n_steps=8, batch_size=8, learning_rate=1e-3)

def clips(rng, n):
    colour = rng.integers(0, 256, (n, 1, 1, 1, 3))
    return np.broadcast_to(colour, (n, 16, 16, 16, 3)).astype(np.uint8)

steps = StepLog()
model, log = train_vqvae(cfg, clips, clips(np.random.default_rng(9), 4), None, 1, "fp32", steps)
state = PartialState()
np.savez(f"{sys.argv[1]}-{state.process_index}-of-{state.num_processes}.npz",
         train_loss=steps.table().train_loss, val_loss=log.val_loss, codebook=model.codebook(),
         sizes=model.quantize._codebook.cluster_size.numpy(),
         weights=np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))
"""


def launch(n_processes, *arguments, cwd):
    """accelerate's launcher of several processes, which is torchrun's, where there is no GPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += [f"--num_processes={n_processes}", "--num_machines=1", "--main_process_port=0"]
    command += ["--mixed_precision=no", "--dynamo_backend=no"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    table = clip_table([("sub-1", "ses-1", run, 0, "1", 0.0, 64 * 40) for run in (1, 2)])
    table["role"] = np.where(table.run == 1, "video_train", "video_val")
    codes = ((np.arange(80)[:, None] + np.arange(8)) % N_CODES).reshape(80, *GRID)
    codebook = np.random.default_rng(1).normal(size=(N_CODES, 4)).astype(np.float32)
    path = folder / "tokens.safetensors"
    write_token_set(path, codes.astype(np.uint16), table, codebook, "a model")
    return path


def test_two_processes_train_the_gpt_of_one(tokens, tmp_path):
    arguments = ["-m", "cobe.video.train_cell", "--tokens", tokens, "--profile", "smoke"]
    arguments += ["--cell", CELL, "--train", TRAIN, "--device", "cpu", "--out"]
    stdout = launch(2, *arguments, tmp_path / "two", cwd=tmp_path)
    timing = json.loads(stdout)  # of the main process alone: two would not be one JSON text
    assert timing["n_processes"] == 2
    assert main([str(a) for a in [*arguments[2:], tmp_path / "one"]]) == 0
    one, two = (
        {
            "steps": pd.read_parquet(tmp_path / name / "steps.parquet"),
            "log": pd.read_parquet(tmp_path / name / "log.parquet"),
            "weights": load_file(tmp_path / name / "model" / "model.safetensors"),
        }
        for name in ("one", "two")
    )
    assert one["log"].val_loss.iloc[-1] < one["log"].val_loss.iloc[0] - 0.1
    assert np.allclose(two["steps"].train_loss[1:], one["steps"].train_loss[1:], atol=1e-5)
    assert np.allclose(two["steps"].grad_norm[1:], one["steps"].grad_norm[1:], rtol=1e-4)
    assert np.allclose(two["log"].val_loss, one["log"].val_loss, atol=1e-5)
    assert two["steps"].tokens_seen.equals(one["steps"].tokens_seen)
    for name, weight in one["weights"].items():
        # Keys' biases have no gradient but rounding errors, which AdamW then scales up.
        if not name.endswith("attn.bias"):
            assert np.allclose(two["weights"][name], weight, atol=1e-4), name


def test_two_processes_train_the_vqvae_of_one(tmp_path, monkeypatch):
    """Losses, weights, and the codebook's counts and vectors, equal on both processes."""
    script = tmp_path / "vqvae.py"
    script.write_text(VQVAE)
    launch(2, script, tmp_path / "vq", cwd=tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "vq")])
    runpy.run_path(str(script))
    one = np.load(tmp_path / "vq-0-of-1.npz")
    main_process, other = (np.load(tmp_path / f"vq-{i}-of-2.npz") for i in range(2))
    assert one["train_loss"][-1] < one["train_loss"][1]
    for name in one.files:
        assert np.array_equal(main_process[name], other[name], equal_nan=True), name
        assert np.allclose(main_process[name], one[name], atol=2e-4, equal_nan=True), name


def test_an_uneven_share_is_refused(monkeypatch):
    from accelerate import Accelerator

    from cobe.video.train import Windows, gpt_task
    from cobe.video.vqvae_train import vqvae_task

    monkeypatch.setattr(Accelerator, "num_processes", 3)
    accelerator = Accelerator(cpu=True)
    windows = Windows(
        np.zeros((9, *GRID), np.uint16), np.zeros((2, 4), np.float32), np.arange(1, 9)
    )
    with pytest.raises(CobeError, match="TrainConfig.batch_size 32: 3 processes"):
        gpt_task(Cell(100, 8, 1, 2), TrainConfig(), windows, windows, GRID, accelerator)
    with pytest.raises(CobeError, match="VQVAEConfig.batch_size 8: 3 processes"):
        vqvae_task(get_profile("smoke").vqvae, None, None, "fp32", accelerator)


def test_an_interrupted_cell_resumes_from_its_folder(tokens, tmp_path):
    profile = get_profile("smoke")
    cell, cfg = with_changes(profile.base, CELL), with_changes(profile.train, TRAIN)
    first = train_cell(cell, cfg, tokens, tmp_path, "cpu")
    again = train_cell(cell, cfg, tokens, tmp_path, "cpu")
    assert again["train_s"] == first["train_s"]  # nothing was trained a second time
    other = with_changes(cell, "hidden=32")
    with pytest.raises(CobeError, match="hidden 16 there, 32 here.*a checkpoint file of its own"):
        train_cell(other, cfg, tokens, tmp_path, "cpu")


def test_changes_are_typed_and_checked(capsys, tokens, tmp_path):
    cfg = with_changes(TrainConfig(), "n_steps=5,learning_rate=1e-4,compile=True,attention=eager")
    assert (cfg.n_steps, cfg.learning_rate, cfg.compile) == (5, 1e-4, True)
    assert cfg.attention == "eager"
    assert with_changes(cfg, "") == cfg
    with pytest.raises(CobeError, match="TrainConfig has no 'steps'; choose from n_steps"):
        with_changes(TrainConfig(), "steps=5")
    with pytest.raises(CobeError, match="compile is of type bool"):
        with_changes(TrainConfig(), "compile=maybe")
    with pytest.raises(CobeError, match="n_steps is of type int"):
        with_changes(TrainConfig(), "n_steps=1.5")
    arguments = ["--tokens", str(tokens), "--out", str(tmp_path), "--cell", "width=3"]
    assert main(arguments) == 2
    assert "Cell has no 'width'" in capsys.readouterr().err


def test_tokens_need_roles(tokens, tmp_path):
    profile = get_profile("smoke")
    cell, cfg = with_changes(profile.base, CELL), with_changes(profile.train, "n_steps=2")
    made = open_token_set(tokens)
    clips = made.clips.drop(columns="role")
    write_token_set(tmp_path / "bare", made.codes, clips, made.codebook, "model")
    with pytest.raises(CobeError, match="no column 'role'"):
        train_cell(cell, cfg, tmp_path / "bare", tmp_path / "c", "cpu")
