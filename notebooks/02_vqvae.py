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
# **Reads** the frame store. **Writes** the VQ-VAE and the tokens of every clip. **Time** about 3
# minutes on two cores for `quick`. **Hardware** any.

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
from cobe.sweep.cells import load_tokens

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
import pandas as pd

from cobe.video.vqvae import VQVAE

cfg = study.profile.vqvae
trained = models.vqvae(study, frame_stores, roles)
vqvae = VQVAE.load(trained.path)
log = pd.read_parquet(trained.path / "log.parquet")

print("input (n_frames, height, width):", (16, cfg.resolution, cfg.resolution))
print("strides (time, height, width):", cfg.downsample)
print("codes and their dimension:", cfg.n_codes, cfg.code_dim)
print("trainable parameters:", sum(p.numel() for p in vqvae.parameters() if p.requires_grad))
print(log.iloc[[0, len(log) // 2, -1]].round(4).to_string(index=False))

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(3.5, 2.4))
ax.plot(log.step, log.train_loss, lw=0.8, color="#999999", label="training")
ax.plot(log.step, log.val_loss, lw=1.5, color="#0072B2", label="validation")
ax.set(xlabel="step", ylabel="weighted error", yscale="log")
ax.legend(frameon=False)

# %% [markdown]
# *What to see:* both curves fall together. *What it does not show:* whether a picture is good enough
# for the eye, or for the brain; look at pictures for that.
#
# ## Reconstruction
#
# These clips come from validation repetitions, which training never saw.

# %%
import numpy as np

from cobe.report.frames import predicted_frames
from cobe.stimulus.frames import open_frames

key = stages.repetition_keys(roles, "video_val")[0]
store = open_frames(frame_stores[key].path)
clips = store.clips([640, 1216])
rebuilt = vqvae.decode(vqvae.encode(clips))
print("clips (n_clips, n_frames, height, width, channels):", clips.shape)
predicted_frames({"original": clips, "rebuilt": rebuilt}, simulated=study.simulated)

# %% [markdown]
# *What to see:* ship, enemies and rocks keep their places; shots turn to streaks and stars vanish.
# *What it does not show:* time inside a latent frame: four video frames share one.
#
# ## Tokens, once
#
# Every clip of every repetition is now tokenised, once, with distances in float32 (in 16 bit a few
# tokens in a hundred would flip). From here on, no model touches a pixel.

# %%
token_artifact = models.tokens(study, frame_stores, roles, trained)
tokens = load_tokens(token_artifact)
used = np.bincount(tokens.codes.reshape(-1), minlength=cfg.n_codes)
share = used / used.sum()
perplexity = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())

print("tokens (n_clips, time, height, width):", tokens.codes.shape, tokens.codes.dtype)
print("size:", round(tokens.codes.nbytes / 1e6, 2), "MB")
print("codes in use:", int((used > 0).sum()), "of", cfg.n_codes)
print("perplexity of the code counts:", round(float(perplexity), 1))
stay = (tokens.codes[:, 1:] == tokens.codes[:, :-1]).mean()
print("tokens equal to the one before them in time:", round(float(stay), 3))

# %% [markdown]
# The last number hints at a bar for the next notebook: a predictor that only says "as before" is
# right about that often.

# %%
example = tokens.codes[tokens.clips.index[(tokens.clips.role == "video_val")][10]]
fig, axes = plt.subplots(1, 4, figsize=(7, 1.9))
for t, ax in enumerate(axes):
    ax.imshow(example[t], cmap="cividis", vmin=0, vmax=cfg.n_codes)
    for (row, column), code in np.ndenumerate(example[t]):
        ax.text(column, row, code, ha="center", va="center", fontsize=7, color="white")
    ax.set(title=f"latent frame {t}", xticks=[], yticks=[])

# %% [markdown]
# *What to see:* one clip, as the GPT will read it: four latent frames of 4 x 4 tokens. *What it does
# not show:* closeness. Code 17 is no nearer to code 18 than to code 300; the colours mean nothing.
#
# **Next:** [03 · the GPT](03_gpt_training.ipynb).
