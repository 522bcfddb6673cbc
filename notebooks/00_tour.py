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
# # 00 · The whole path on one clip
#
# **Question.** A person plays a video game in a scanner. Can a network that has only ever *watched*
# the game say something about that person's brain?
#
# **You will learn** the four steps from key logs to a brain score, and the shape of the data at each.
#
# **Reads** nothing. **Writes** the `smoke` dataset and its small models (`data/`, `build/smoke/`).
# **Time** about a minute on two cores. **Hardware** any.
#
# **Run alone.** It needs no other notebook.
#
# **Words:** [repetition](../docs/glossary.md#repetition), [frame](../docs/glossary.md#frame),
# [clip](../docs/glossary.md#clip), [token](../docs/glossary.md#token),
# [VQ-VAE](../docs/glossary.md#vq-vae), [GPT](../docs/glossary.md#gpt),
# [hidden state](../docs/glossary.md#hidden-state), [TR](../docs/glossary.md#tr),
# [planted brain](../docs/glossary.md#planted-brain).
#
# This tour walks the whole path once, at the smallest size that is still real: a real emulator, real
# training, real regression. Only the brain is simulated, because no scanner data may be shipped
# here: a *planted* brain answers to what is on screen in a way that we know. The other notebooks
# take the same steps at a larger size, and slowly.

# %% tags=["parameters"]
tour_profile = "smoke"

# %% [markdown]
# ## 1 · From keys to frames
#
# The dataset does not hold any video. It holds *key logs* (`.bk2` files): the start state of the
# console and the buttons that were down in each of the 60 frames of a second. An emulator turns them
# back into exactly the frames that were on screen. The next cell makes the dataset if it is not
# there: simulated participants play *Airstriker*, a small free game that ships with the emulator.

# %%
from cobe.core.artifacts import Store
from cobe.simulate import write_dataset
from cobe.sweep import pipeline as stages
from cobe.sweep.pipeline import embedded_dataset, load_atlas, open_pipeline

smoke = open_pipeline(tour_profile)
on_disk = Store(smoke.data).make(
    **embedded_dataset(smoke),
    write=lambda path: write_dataset(path, smoke.profile.plan, load_atlas(smoke)),
)
print("dataset:", on_disk.path.name)

# %% [markdown]
# One **run** is one stretch of scanning; it holds a few **repetitions**, each one play of a level.
# Here is the key log of a single repetition.

# %%
from cobe.stimulus.bk2 import BUTTONS, read_bk2

dataset = stages.inventory(smoke)
run = stages.usable_runs(dataset)[-1]
repetition = stages.replayed(run)[0]
movie = read_bk2(repetition.bk2)

print("one repetition of", run.subject, run.session, "run", run.run)
print("buttons (n_frames, n_buttons):", movie.buttons.shape, "at 60 Hz")
print("size of the key log:", repetition.bk2.stat().st_size, "bytes")

# %% [markdown]
# Twelve booleans a frame are all that the participant did. How often was each button down?

# %%
print("share of frames with the button down:")
print({name: float(share.round(2)) for name, share in zip(BUTTONS, movie.buttons.mean(0))})

# %% [markdown]
# Playing them back gives the pixels. The frame store keeps them at 64 x 64, losslessly.

# %%
from cobe.stimulus.frames import open_frames

frame_stores = stages.frames(smoke, dataset)
frames = open_frames(frame_stores[(*run.key, repetition.row)].path)

print("frames (n_frames, height, width, channels):", frames.shape)

# %% [markdown]
# A **clip** is 16 of these frames at 15 frames a second: it spans 64 emulator frames, or 1.07 s.
#
# **Figure.** One clip: eight of its 16 frames, with their times.

# %%
from cobe.report.frames import frame_strip

clips = frames.clips([640, 704])
print("clips (n_clips, n_frames, height, width, channels):", clips.shape)
frame_strip(clips[0], title="one clip")

# %% [markdown]
# *What to see:* a ship at the bottom, rocks and enemies, shots; almost everything else is black.
#
# *What it does not show:* the game of the paper. Shinobi III is far richer to look at, and its frames
# may not be shipped.
#
# ## 2 · From frames to tokens
#
# A VQ-VAE learns a vocabulary of small moving image patches. Each clip becomes a grid of 4 x 4 x 4
# **tokens** (time x height x width); each token is the index of a code vector.

# %%
from cobe.sweep import models
from cobe.sweep.cells import load_tokens

roles = stages.video_roles(smoke, dataset)
vqvae_artifact = models.vqvae(smoke, frame_stores, roles)
token_artifact = models.tokens(smoke, frame_stores, roles, vqvae_artifact)
tokens = load_tokens(token_artifact)

print("tokens   (n_clips, time, height, width):", tokens.codes.shape, tokens.codes.dtype)
print("codebook (n_codes, code_dim):", tokens.codebook.shape)

# %% [markdown]
# The decoder of the VQ-VAE turns tokens back into pixels. So we can look at what 64 tokens keep.
#
# **Figure.** The same clip as above, rebuilt from its 64 tokens.

# %%
from cobe.video.vqvae import VQVAE

vqvae = VQVAE.load(vqvae_artifact.path)
rebuilt = vqvae.decode(vqvae.encode(clips))
print("rebuilt (n_clips, n_frames, height, width, channels):", rebuilt.shape)
frame_strip(rebuilt[0], title="the same clip, rebuilt from its 64 tokens (smoke size)")

# %% [markdown]
# *What to see:* the text at the top is there, and the ship is a bright smear at the bottom; rocks and
# shots are gone. Some twenty seconds of training buy no more; notebook 02 trains longer.
#
# *What it does not show:* whether what is lost here matters to the brain.
#
# ## 3 · From tokens to expectations
#
# A small GPT reads the tokens of one clip and learns to predict those of the **next** one. Nobody
# tells it what a ship is; it only ever sees the game.

# %%
from cobe.sweep.tables import loss_table

base = smoke.profile.base
trained = models.train_cells(smoke, token_artifact, [base])
losses = loss_table(trained)

print("cell:", base.name)
print("validation loss, nats per token:")
print(losses[["step", "val_loss"]].round(3).to_string(index=False))

# %% [markdown]
# The loss starts near the logarithm of the number of codes (pure guessing) and falls: the network
# learns what tends to come next.
#
# While it predicts, each of its blocks holds a **hidden state** for every token: a vector that
# summarises what it makes of the scene. These are brought to the same number of features (principal
# components) for every model, so that a wider one has no head start.

# %%
from cobe.sweep.features import gpt_features, role_rows

features = gpt_features(trained[base].path, tokens, smoke.profile.protocol)
for block, states in features.items():
    print(f"block {block}: features (n_windows, n_features):", states.shape)

# %% [markdown]
# ## 4 · From expectations to the brain
#
# The scanner takes one volume every 1.49 s (a **TR**), and the blood answers late. So hidden states
# are averaged inside each volume, and delayed copies are put side by side. The answer is BOLD, one
# number per volume and brain parcel.

# %%
series = stages.parcel_bold(smoke, dataset)
bold = {key: stages.load_bold(item) for key, item in series.items()}
print("BOLD of one run (n_trs, n_parcels):", bold[run.key].shape)

# %% [markdown]
# A ridge regression learns, for each parcel, how to weigh the features. It is then tested on
# **sessions that it has never seen**: r is the correlation of what it predicts with what was measured.

# %%
from cobe.sweep.scores import score_features

window_clips = tokens.clips.loc[role_rows(tokens)]
blocks = {f"block {block}": states for block, states in features.items()}
scores = score_features(blocks, window_clips, bold, smoke.profile.protocol)
overall = scores[scores.held_out == "all"]

print("mean r over parcels, held-out sessions:")
columns = ["subject", "r", "chance_95", "ci_low", "ci_high"]
print(overall[overall.summary == "mean"][columns].round(3).to_string(index=False))

# %% [markdown]
# **How to read it.** One row per simulated participant: its r, its interval (`ci_low` to `ci_high`),
# and `chance_95`, the level that a model without any relation to the brain would pass in one of
# twenty tries. With a few minutes of play and a network of this size the two may be close: that is
# what the rest of the project is about. It says nothing about real brains: these participants are
# simulated.
#
# **Next:** [01 · the data](01_data.ipynb), where the same dataset is looked at in full size. To move
# sliders over finished results instead, go to [09 · explore](09_explore.ipynb).
