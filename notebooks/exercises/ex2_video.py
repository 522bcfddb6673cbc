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
# # Exercises 2 · What a loss tells, and what it does not
#
# **Question.** When a number says that a video model is good, compared with what?
#
# **Reads** the frames, the VQ-VAE, the tokens and the base GPT of notebooks 01 to 03. **Writes**
# nothing. **Time** half a minute of computing, an hour and a half of thinking. **Hardware** any.
#
# Replace each `...` by your answer and run the check below it as often as you like.

# %% tags=["parameters"]
profile = "quick"
data = ""

# %%
import numpy as np

from cobe.core.origin import saved_only
from cobe.course import checks
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.cells import load_tokens

study = stages.open_pipeline(profile, data)
base = study.profile.base
with saved_only():
    video = models.video_stages(study)
    trained = models.train_cells(study, video.tokens, [base])
tokens = load_tokens(video.tokens)

print("tokens (n_clips, time, height, width):", tokens.codes.shape)
print("base model:", base.name)

# %% [markdown]
# Sixteen clips of a repetition that training never saw, and what the VQ-VAE makes of them from their 64
# tokens each; two of them are drawn. `black` is what you get for nothing: a screen that is off.

# %%
from cobe.report.frames import predicted_frames
from cobe.stimulus.frames import open_frames
from cobe.video.vqvae import VQVAE

vqvae = VQVAE.load(video.vqvae.path)
store = open_frames(video.frames[stages.repetition_keys(video.roles, "video_val")[0]].path)
clips = store.clips(range(0, 16 * 64, 64))
rebuilt = vqvae.decode(vqvae.encode(clips))
black = np.zeros_like(clips)
median = vqvae.median_frame.permute(1, 2, 0).numpy()

print(
    "clips, rebuilt, black (n_clips, n_frames, height, width, channels):", clips.shape, clips.dtype
)
print("median frame of the training clips, 0 to 1 (height, width, channels):", median.shape)
print("share of black pixels in these clips:", round(float((clips.max(-1) <= 16).mean()), 3))
shown = {"original": clips[[4, 9]], "rebuilt": rebuilt[[4, 9]]}
predicted_frames(shown, simulated=study.simulated)

# %% [markdown]
# *What to see:* ship and enemies are there, smeared over the four frames of a token; stars are not.
# *What it does not show:* how much an error measure thinks of it, and how little of a black screen.

# %% [markdown] tags=["exercise"]
# ## Exercise 2.1 · The score of an empty screen
#
# With pixels from 0 to 1, take the plain mean squared error (MSE) of the black picture. What is it in
# decibels, as peak signal-to-noise ratio, -10 log10(MSE)? By which factor is the MSE of `rebuilt`
# smaller than that of `black` (a factor below 1: it is larger)? And by which factor with the weighted
# error that the VQ-VAE is trained with, where the squared error of a pixel counts 1 + 20 *d*, and *d*
# is its distance from the median frame, the largest of its three colours?

# %% [markdown] tags=["hint"]
# Turn `uint8` into floats before you subtract: `clips.astype(np.float32) / 255`. In `uint8`, 3 minus 5
# is 254.

# %% [markdown] tags=["hint"]
# The MSE of black is the mean of the squared pixels. Write one function of `(x, y)` per error, and use
# it for `black` and for `rebuilt`.

# %% [markdown] tags=["hint"]
# `weight = 1 + 20 * abs(x - median).max(axis=-1, keepdims=True)`. It depends on the true picture only,
# and the mean is over all pixels and colours, not divided by the weights.

# %% tags=["answer"]
#: psnr_black = ...  # float: dB
#: gain_plain = ...  # float: MSE of black over MSE of rebuilt
#: gain_weighted = ...  # float: the same with the weighted error
x, y = clips.astype(np.float32) / 255, rebuilt.astype(np.float32) / 255
weight = 1 + 20 * abs(x - median).max(axis=-1, keepdims=True)
psnr_black = -10 * np.log10((x**2).mean())
gain_plain = (x**2).mean() / ((x - y) ** 2).mean()
gain_weighted = (weight * x**2).mean() / (weight * (x - y) ** 2).mean()

# %% tags=["check"]
from sklearn.metrics import mean_squared_error

flat = [array.reshape(-1) / 255.0 for array in (clips, black, rebuilt)]
plain = [mean_squared_error(flat[0], other) for other in flat[1:]]
pixels = [vqvae.pixels(array) for array in (clips, black, rebuilt)]
weighted = [float(vqvae.weighted_error(pixels[0], other)) for other in pixels[1:]]
scale = [(-10 * np.log10(plain[0] * 255**2), "pixels go from 0 to 1 here, not to 255")]
right = -10 * np.log10(plain[0])
checks.close("2.1a", psnr_black, right, f"{right:.1f} dB, for nothing", remarks=scale)

# %% tags=["check"]
turned = [(plain[1] / plain[0], "the other way round: black over rebuilt")]
lesson = f"plainly, the VQ-VAE is only {plain[0] / plain[1]:.1f} times as good as nothing"
checks.close("2.1b", gain_plain, plain[0] / plain[1], lesson, remarks=turned)
lesson = f"weighted, it is {weighted[0] / weighted[1]:.1f} times as good"
same = [(plain[0] / plain[1], "that is the plain error again: where is the weight?")]
checks.close("2.1c", gain_weighted, weighted[0] / weighted[1], lesson, remarks=same)

# %% [markdown] tags=["discussion"]
# An error is only worth what the laziest answer scores on it. Black gets decibels
# (printed above) that would pass for a rough copy, and a network that starts to draw is at first punished
# for it: a shot one pixel beside its place costs twice. Weighting changes what counts, so it changes what is learned.
# *What it does not show:* that these weights are the right ones; they serve a game on black, and a film
# would want others.

# %% [markdown]
# From pixels to tokens. `targets` are the tokens that the GPT has to predict on validation clips:

# %%
from cobe.video.generate import teacher_forced
from cobe.video.gpt import load_gpt

gpt = load_gpt(trained[base].path, base)
val = tokens.windows_with_role("video_val")
targets = np.asarray(tokens.codes[val]).astype(int)
contexts = np.asarray(tokens.codes[val - 1]).astype(int)
n_codes, code_dim = tokens.codebook.shape

print("targets (n_windows, time, height, width):", targets.shape)
print("codes:", n_codes, " in use here:", len(np.unique(targets)))

# %% [markdown] tags=["exercise"]
# ## Exercise 2.2 · How low can a loss be without looking?
#
# A predictor that never looks at its input can only give every code the same probability each time. The
# best such probabilities are the shares of the codes in `targets` themselves. What is its loss,
# in nats per token? That is the entropy. And of how many equally likely codes would the entropy be the
# same (the perplexity)?

# %% [markdown] tags=["hint"]
# The loss of a token is -log of the probability that it was given. Its mean over all tokens is the sum
# of -p log p over the codes, with the natural logarithm.

# %% [markdown] tags=["hint"]
# `np.bincount(targets.reshape(-1), minlength=n_codes)` counts. Codes that never occur add nothing, but
# `0 * log(0)` is NaN in numpy: leave them out. The perplexity is `exp(entropy)`.

# %% tags=["answer"]
#: entropy = ...  # float: nats per token
#: perplexity = ...  # float: codes
counts = np.bincount(targets.reshape(-1), minlength=n_codes)
p = counts[counts > 0] / counts.sum()
entropy = -(p * np.log(p)).sum()
perplexity = np.exp(entropy)

# %% tags=["check"]
from scipy.stats import entropy as scipy_entropy

loss = teacher_forced(gpt, tokens.codes, tokens.codebook, val)["loss"]
wanted = scipy_entropy(np.unique(targets, return_counts=True)[1])
others = [(wanted / np.log(2), "those are bits; nats take the natural logarithm")]
others += [(np.log(n_codes), "that is guessing, with all codes alike: some are more frequent")]
lesson = f"guessing {np.log(n_codes):.2f}, shares {wanted:.2f}, the base GPT {loss:.2f} nats"
checks.close("2.2a", entropy, wanted, lesson, remarks=others)

# %% tags=["check"]
used = [(len(np.unique(targets)), "that many are used, but not equally often")]
checks.close("2.2b", perplexity, np.exp(wanted), "the codes do share the work", remarks=used)

# %% [markdown] tags=["discussion"]
# Guessing is a poor yardstick, because it is beaten by counting. What the GPT is below the *entropy* is
# what it gets from looking, be it at the context clip or at the tokens before. Tokens differ between
# VQ-VAEs, so their losses cannot be compared: with fewer codes in use the entropy falls, and with it
# the loss, for a worse picture. *What it does not show:* which of the two the GPT looks at (exercise
# 2.5 does); and these shares were counted on the targets, which is a little better than fair.

# %% [markdown] tags=["exercise"]
# ## Exercise 2.3 · "As before", by hand
#
# A predictor without any training says for each token: the same as at this place one latent frame
# before. For latent frame 0 of the target that is the last one of the context clip; for the others it is
# the true frame before, as the GPT is given too. How often is it right? How often would one be
# right who never sees the target, and repeats the last frame of the context four times? And who is right
# more often with `targets`, `"as before"` or the base `"GPT"`?

# %% [markdown] tags=["hint"]
# Both arrays are (n_windows, time, height, width). `contexts[:, -1:]` is the last latent frame of the
# contexts, with its time axis kept.

# %% [markdown] tags=["hint"]
# `np.concatenate([contexts[:, -1:], targets[:, :-1]], axis=1)` is what "as before" says. The frozen
# one is `contexts[:, -1:]` alone: comparing broadcasts it over time.

# %% [markdown] tags=["hint"]
# `teacher_forced(gpt, tokens.codes, tokens.codebook, val)["accuracy"]` is the GPT's share.

# %% tags=["answer"]
#: as_before = ...  # float: share of tokens
#: frozen = ...  # float: share of tokens
#: better = ...  # "as before" or "GPT"
said = np.concatenate([contexts[:, -1:], targets[:, :-1]], axis=1)
as_before = (said == targets).mean()
frozen = (contexts[:, -1:] == targets).mean()
ours = teacher_forced(gpt, tokens.codes, tokens.codebook, val)
better = "GPT" if ours["accuracy"] > as_before else "as before"

# %% tags=["check"]
from cobe.video.generate import copy_last_clip, copy_last_frame, token_accuracy

frame_by_frame = token_accuracy(copy_last_frame(tokens.codes, val), tokens.codes[val])
clip_again = token_accuracy(copy_last_clip(tokens.codes, val), tokens.codes[val])
still = np.mean([token_accuracy(contexts[:, -1], targets[:, t]) for t in range(4)])
clip = [(clip_again, "that repeats the whole context clip, not its last frame")]
swapped = [(still, "from frame 1 on, the frame before is one of the target")]
checks.close("2.3a", as_before, frame_by_frame, "the bar to beat", remarks=clip + swapped)
swapped = [(frame_by_frame, "this one never sees the target")]
checks.close(
    "2.3b", frozen, still, "the truth of the frame before is worth much", remarks=clip + swapped
)

# %% tags=["check"]
accuracy = teacher_forced(gpt, tokens.codes, tokens.codebook, val)["accuracy"]
lesson = f"GPT {accuracy:.3f}, as before {frame_by_frame:.3f}, frozen {still:.3f}"
right = "GPT" if accuracy > frame_by_frame else "as before"
checks.one_of("2.3c", better, ["as before", "GPT"], right, lesson)

# %% [markdown] tags=["discussion"]
# A model of minutes can lose against no model at all (profile `smoke` does), and nothing in its loss
# curve says so. Both predictors have to be fed alike: a GPT that reads the true tokens before, held
# against one that sees only the context, would win by what it is fed. *What it does not show:* how the
# GPT does when it runs freely, on its own predictions; and a token that is not right may still be a
# code vector nearby.

# %% [markdown] tags=["exercise"]
# ## Exercise 2.4 · Parameters and FLOP, on paper
#
# The GPT has *L* blocks of width *h*, *T* tokens in a clip, *K* codes, code vectors of length *D*. A
# block has attention to the target (queries, keys, values, output), attention to the context (the
# same four), an MLP that is 4 *h* wide, a bias for each of these maps, and three layer norms (a scale
# and a shift each). Before them: a table of *K*+1 token vectors, a table of *T* positions; for the
# context a map from *D* to *h* with bias, *T* positions and a norm. After them: a norm and a map to *K*
# codes without bias.
#
# How many parameters? And how many FLOP does one window take forward, if a multiplication and its
# addition count 2, only matrix products count, and attention to the target is causal?

# %%
h, L, T = base.hidden, base.n_layers, targets[0].size
K, D = n_codes, code_dim

print(f"h = {h}, L = {L}, T = {T}, K = {K}, D = {D}")

# %% [markdown] tags=["hint"]
# The maps of a block: four of *h* x *h* for each attention, and *h* x 4*h* forth and back in the MLP. Together
# 16 *h*². The 12 *h*² of textbooks is a GPT without a second clip to attend to.

# %% [markdown] tags=["hint"]
# Biases and norms of a block: 4 *h*, 4 *h*, 5 *h* and 3 times 2 *h*, that is 19 *h*. A map costs 2 FLOP per weight
# and token. Here each map sees *T* tokens, of the target or of the context; tables cost none.

# %% [markdown] tags=["hint"]
# Attention itself has two products, scores and weighted values: 4 *h* FLOP per pair of tokens and
# block. There are *T*² pairs with the context, and *T* (*T*+1) / 2 causal ones.

# %% tags=["answer"]
#: n_parameters = ...  # int
#: flop = ...  # float: of one window, forward
blocks = L * (16 * h**2 + 19 * h) + 2 * h
tables = (K + 1) * h + T * h
context = D * h + h + T * h + 2 * h
n_parameters = blocks + tables + context + K * h
maps = L * 16 * h**2 + D * h + K * h
flop = 2 * T * maps + L * 4 * h * (T**2 + T * (T + 1) / 2)

# %% tags=["check"]
from cobe.video.gpt import count_parameters

counted = count_parameters(gpt)
twelve = [
    (counted["total"] - L * 4 * h * h, "12 h² a block: where is the attention to the context?")
]
twelve += [(counted["total"] - L * 19 * h, "biases and norms of the blocks are missing")]
twelve += [(counted["blocks"], "those are the blocks alone, with the last norm")]
checks.equal("2.4a", n_parameters, counted["total"], "every weight has a place", remarks=twelve)

# %% tags=["check"]
from cobe.video.flops import gpt_flops

needed = gpt_flops(base, n_codes, code_dim, targets.shape[1:]).set_index("part").forward
square = L * 4 * h * (T**2 - T * (T + 1) / 2)
rough = [(needed.sum() + square, "the target's attention is causal: a token sees those before it")]
rough += [
    (2 * counted["total"] * T, "2 N per token: tables are looked up, and attention is missing")
]
rough += [(needed.sum() / 2, "a multiplication and an addition are two")]
lesson = (
    f"attention's own products: {needed[['attention', 'cross-attention']].sum() / needed.sum():.0%}"
)
checks.close("2.4b", flop, needed.sum(), lesson, remarks=rough, rtol=1e-6)

# %% [markdown] tags=["discussion"]
# Rules such as 6 *N D* were made for wide models with long training and no second input. Here tables
# that cost nothing are about a seventh of the parameters, and attention's own products, which have
# no parameters, take a share of the work (printed above). At other widths these shares change, so an axis in "parameters"
# is not an axis in "compute". The backward pass costs about twice the forward one. *What it does not
# show:* seconds. Small products leave a processor idle; notebook 08 measures that.

# %% [markdown] tags=["exercise"]
# ## Exercise 2.5 · Somebody else's past
#
# Give each window the context clip of *another* window, `partner`, and leave the target tokens as they
# are. What is the mean loss then? And how much is the right context worth in each of the four latent
# frames of the target: loss with the wrong context minus loss with the right one, in nats per token?

# %%
from cobe.video.train import Windows

windows = Windows(tokens.codes, tokens.codebook, val)
target_tokens, context_codes = windows.batch(slice(None))
partner = np.roll(np.arange(len(val)), len(val) // 2)
play = tokens.clips.iloc[val].groupby(["subject", "session", "run", "row"]).ngroup().to_numpy()

print("target_tokens (n_windows, n_tokens):", tuple(target_tokens.shape))
print("context_codes (n_windows, n_tokens, code_dim):", tuple(context_codes.shape))
print("partners from another play:", int((play != play[partner]).sum()), "of", len(val))

# %% [markdown] tags=["hint"]
# `gpt.loss(target_tokens, context_codes)` is the loss with the right contexts. Only one of the two
# arguments has to be reordered. Wrap it in `torch.no_grad()`.

# %% [markdown] tags=["hint"]
# For single tokens, take `gpt(target_tokens, codes)`, logits of shape (n_windows, n_tokens, n_codes), and
# `torch.nn.functional.cross_entropy(logits.flatten(0, 1), target_tokens.flatten(), reduction="none")`.

# %% [markdown] tags=["hint"]
# Tokens are in raster order over (time, height, width): `.reshape(len(val), 4, -1)` has one latent
# frame per place of the second axis. Average over the first and the last.

# %% tags=["answer"]
#: loss_partner = ...  # float: nats per token, with the partner's context
#: worth = ...  # array (4,): nats per token that the right context is worth, by latent frame
import torch
from torch.nn.functional import cross_entropy

by_frame = []
for codes in (context_codes, context_codes[partner]):
    with torch.no_grad():
        logits = gpt(target_tokens, codes).flatten(0, 1)
    nats = cross_entropy(logits, target_tokens.flatten(), reduction="none")
    by_frame.append(nats.reshape(len(val), 4, -1).mean(dim=(0, 2)).numpy())
loss_partner = float(by_frame[1].mean())
worth = by_frame[1] - by_frame[0]

# %% tags=["check"]
from cobe.video.train import mean_loss

right_loss = mean_loss(gpt, Windows(tokens.codes, tokens.codebook, val))
moved = Windows(tokens.codes, tokens.codebook, val)
moved.context = moved.context[partner]
wrong_loss = mean_loss(gpt, moved)
as_is = [(right_loss, "that is the loss with the right contexts")]
lesson = f"a wrong past costs {wrong_loss - right_loss:.3f} nats on top of {right_loss:.2f}"
checks.close("2.5a", loss_partner, wrong_loss, lesson, rtol=1e-5, remarks=as_is)

# %% tags=["check"]
from cobe.video.generate import cached_logits

codes_of = (context_codes[partner], context_codes)
log_p = [cached_logits(gpt, target_tokens, codes).log_softmax(-1) for codes in codes_of]
of_target = [one.gather(-1, target_tokens[..., None]).numpy().reshape(-1, 4, 16) for one in log_p]
gain = (of_target[1] - of_target[0]).mean(axis=(0, 2))
sign = [(-gain, "the other way round: wrong minus right")]
lesson = "by frame: " + ", ".join(f"{nats:.3f}" for nats in gain)
checks.close("2.5b", worth, gain, lesson, rtol=1e-3, atol=1e-4, remarks=sign)

# %% [markdown] tags=["discussion"]
# The larger part of what the GPT knows comes from the target's own earlier tokens, which it is fed. In
# the default run the past is worth most at the start, before there are any; in `smoke`, after seconds of
# training, it is worth next to nothing anywhere. A low next-token loss is therefore
# no proof that a model expects anything a second ahead. For the brain this matters: features are read
# while the target is read. *What it does not show:* what a model trained without contexts would
# reach. A wrong context may mislead, which costs more than having none.
#
# **Next:** [exercises 3 · encoding](ex3_encoding.ipynb).

# %%
checks.summary()
