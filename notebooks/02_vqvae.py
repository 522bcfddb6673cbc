# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · A vocabulary for video
#
# **Question.** Can a second of game video be written with 64 words out of a few hundred, so that one
# still sees what matters?
#
# **You will learn** how video becomes tokens, how to look at what is lost, and who may see which
# session.
#
# **Reads** the dataset and the frame store. **Writes** the VQ-VAE and the tokens of every clip.
# **Time** about 3 minutes on two cores for `quick`. **Hardware** any.
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Frames that are not there are
# played here; this takes some 3 minutes more.
#
# **Words:** [VQ-VAE](../docs/glossary.md#vq-vae), [code](../docs/glossary.md#code),
# [codebook](../docs/glossary.md#codebook), [token](../docs/glossary.md#token),
# [perplexity](../docs/glossary.md#perplexity), [held-out](../docs/glossary.md#held-out).

# %% tags=["parameters"]
profile = "quick"
data = ""

# %% [markdown]
# ## Who may see what
#
# The video model is trained on the first session(s) of each participant. The ridge regression, which
# links it to the brain, uses the other sessions only. So no video on which a brain score is computed
# has ever been seen by the video model: its features are those of a *stranger to the scene*.

# %%
from cobe.sweep import models
from cobe.sweep import pipeline as stages

study = stages.open_pipeline(profile, data)
dataset = stages.inventory(study)
frame_stores = stages.frames(study, dataset)
roles = stages.video_roles(study, dataset)

print("repetitions by role:")
print(roles.groupby(["subject", "role"]).size().unstack(fill_value=0))

# %% [markdown]
# ## Training
#
# The encoder is a stack of strided 3-D convolutions with axial attention; it makes a grid of vectors
# from a clip. Each vector is replaced by the nearest of a set of code vectors, and the decoder has
# to rebuild the clip from those. The game is nearly all black, and a plain squared error would be
# content with black. So pixels count by how far they lie from the usual picture.

# %%
from cobe.video.vqvae import VQVAE

cfg = study.profile.vqvae
trained = models.vqvae(study, frame_stores, roles)
vqvae = VQVAE.load(trained.path)

print("input (n_frames, height, width):", (16, cfg.resolution, cfg.resolution))
print("strides (time, height, width):", cfg.downsample)
print("codebook (n_codes, code_dim):", (cfg.n_codes, cfg.code_dim))
print("trainable parameters:", sum(p.numel() for p in vqvae.parameters() if p.requires_grad))

# %% [markdown]
# The strides say how the input shrinks: 16 frames to 4 latent frames, 64 pixels to 4 places. Every so
# many steps the error is measured on validation clips, which no step is trained on.

# %%
import pandas as pd

log = pd.read_parquet(trained.path / "log.parquet")
print("training log (n_rows, n_columns):", log.shape)
print(log.iloc[[0, len(log) // 2, -1]].round(4).to_string(index=False))

# %% [markdown]
# **Figure.** The weighted error per training step, on training and on validation clips.

# %%
from cobe.report.small import training_figure

training_figure(log, simulated=study.simulated)

# %% [markdown]
# *What to see:* both curves fall together. A training point is a mean over the steps since the point
# before, so it lies higher while the error falls.
#
# *What it does not show:* whether a picture is good enough for the eye, or for the brain; look at
# pictures for that.
#
# ## Reconstruction
#
# These clips come from validation repetitions, which training never saw.
#
# **Figure.** Two clips, four frames of each: the original above, below it the rebuilt one, with its
# PSNR (a pixel error in decibels; higher is closer).

# %%
from cobe.report.frames import predicted_frames
from cobe.stimulus.frames import open_frames

key = stages.repetition_keys(roles, "video_val")[0]
clips = open_frames(frame_stores[key].path).clips([640, 1216])
rebuilt = vqvae.decode(vqvae.encode(clips))
print("clips (n_clips, n_frames, height, width, channels):", clips.shape)
predicted_frames({"original": clips, "rebuilt": rebuilt}, simulated=study.simulated)

# %% [markdown]
# *What to see:* in the default run ship, enemies and rocks keep their places; shots turn to streaks and stars vanish.
#
# *What it does not show:* time inside a latent frame: four video frames share one.
#
# ## Tokens, once
#
# Every clip of every repetition is now tokenised, once, with distances in float32 (in 16 bit a few
# tokens in a hundred would flip). From here on, no model touches a pixel.

# %%
from cobe.sweep.cells import load_tokens

tokens = load_tokens(models.tokens(study, frame_stores, roles, trained))
print("tokens (n_clips, time, height, width):", tokens.codes.shape, tokens.codes.dtype)
print("size:", round(tokens.codes.nbytes / 1e6, 2), "MB")

# %% [markdown]
# A vocabulary of which only a few words are used is a poor one. **Perplexity** is the number of codes
# that, used equally often, would be as hard to guess; it is at most the number of codes.

# %%
import numpy as np

used = np.bincount(tokens.codes.reshape(-1), minlength=cfg.n_codes)
share = used[used > 0] / used.sum()
perplexity = np.exp(-(share * np.log(share)).sum())

print("codes in use:", int((used > 0).sum()), "of", cfg.n_codes)
print("perplexity of the code counts:", round(float(perplexity), 1))

# %% [markdown]
# How much changes from one latent frame to the next?

# %%
stay = (tokens.codes[:, 1:] == tokens.codes[:, :-1]).mean()
print("tokens equal to the one before them in time:", round(float(stay), 3))

# %% [markdown]
# That number hints at a bar for the next notebook: a predictor that only says "as before" is
# right about that often.
#
# **Figure.** The 64 tokens of one validation clip, as the GPT will read them.

# %%
from cobe.report.small import token_figure

example = tokens.codes[tokens.clips.index[tokens.clips.role == "video_val"][10]]
print("tokens of one clip (time, height, width):", example.shape)
token_figure(example, cfg.n_codes, simulated=study.simulated)

# %% [markdown]
# *What to see:* four latent frames of 4 x 4 tokens; few of them stay what they were.
#
# *What it does not show:* closeness. Code 17 is no nearer to code 18 than to code 300; the colours
# mean nothing.
#
# **Exercises:** [2 · video](exercises/ex2_video.ipynb).
#
# **Next:** [03 · the GPT](03_gpt_training.ipynb).
