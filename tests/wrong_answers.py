"""Plausible wrong answers to every exercise: code that runs after its solution, by number."""

WRONG = {
    "1.1": [
        "volume = int(frame / 60 // tr_s)",  # no onset
        "volume = volume + 1",  # rounded up, or counted from 1
        "into_s = tr_s - into_s",
        "into_s = into_s / tr_s",
        "volume = float('nan')",
        "volume = 'a'",
    ],
    "1.2": [
        "held_s = sum(down)",
        "held_s = sum('L' in line for line in lines) / 60",
        "held_s = sum(down) / 15",
        "longest_s = longest_s * 60",
        "longest_s = held_s",
        "off_s = -off_s - 0.01",
    ],
    "1.3": [
        "fewer = 6",
        "fewer = len(delays_tr)",
        "n_rows = int(valid.sum())",
        "n_rows = sum(bool(valid[t - 6 : t - 2].all() and valid[t]) for t in range(6, run.n_trs))",
        "n_rows = n_rows - 1",
    ],
    "1.4": [
        "n_lost = len(events)",
        "n_wrong = n_lost",
        "n_wrong = len(files)",
        "n_unnoticed = n_wrong - n_unnoticed",
        "n_unnoticed = 0",
    ],
    "1.5": [
        "r_across = r_across**2",
        "r_across = r_across.mean()",
        "level_within = 0.1",
        "level_within = level_within * np.nan",
    ],
    "2.1": [
        "psnr_black = psnr_black + 20 * np.log10(255)",
        "psnr_black = -psnr_black",
        "gain_plain = 1 / gain_plain",
        "gain_weighted = gain_plain",
        "y = y * 0; gain_weighted = (weight * x**2).mean() / (weight * (x - y) ** 2).mean()",
    ],
    "2.2": [
        "entropy = np.log(n_codes)",
        "entropy = entropy / np.log(2)",
        "perplexity = n_codes",
        "perplexity = 2**entropy",
    ],
    "2.3": [
        "as_before = frozen",
        "as_before = (contexts == targets).mean()",
        "frozen = as_before",
        "better = 'GPT' if better == 'as before' else 'as before'",
        "better = True",
    ],
    "2.4": [
        "n_parameters = n_parameters - L * 4 * h * h",  # no attention to the context
        "n_parameters = n_parameters - L * 19 * h",  # no biases and norms
        "flop = 2 * n_parameters * T",
        "flop = flop / 2",
        "flop = 2 * T * maps + L * 4 * h * 2 * T**2",  # no causality
    ],
    "2.5": [
        "loss_partner = float(by_frame[0].mean())",
        "loss_partner = loss_partner / np.log(2)",
        "worth = -worth",
        "worth = worth.mean()",
        "worth = worth * 0",
    ],
    "3.1": [
        "r_shuffled, r_last_run = r_last_run, r_shuffled",
        "r_last_run = 0.0",
        "r_shuffled = pearson(model.predict(x), y).mean()",  # scored on training rows
        "r_shuffled = r_shuffled**2",
    ],
    "3.2": [
        "wrong = np.stack([np.roll(joined, d) for d in delays], axis=1)",
        "wrong = np.nan_to_num(wrong)",
        "wrong = wrong.T",
        "wrong = wrong[::-1]",
        "bad_rows = bad_rows | set(range(5))",  # the first run has no past
        "bad_rows = set(starts[1:].tolist())",
        "bad_rows = other.any(axis=1)",  # a mask
    ],
    "3.3": [
        "causal = same",
        "causal = np.convolve(flash, kernel)",
        "causal = causal[::-1]",
        "too_early_s = too_early_s / TR_S",
        "too_early_s = -too_early_s",
        "too_early_s = causal.argmax() * TR_S",
    ],
    "3.4": [
        "false_t, false_blocks = false_blocks, false_t",
        "false_t = 0.05",
        "false_t = (2 * p_t < 0.05).mean()",  # two-sided
        "false_blocks = 0.05",
        "false_blocks = 1 - false_blocks",
    ],
    "3.5": [
        "difference = -difference",
        "difference = units.trained.mean()",
        "p = p / 2",  # one-sided
        "p = 0.0",
        "p = (p * len(null) + 1) / (len(null) + 1)",  # the flips are all, not drawn
    ],
    "4.1": [
        "constants = found",  # logarithms
        "constants = np.array(constants)[[0, 2, 1, 4, 3]]",
        "constants = [0, *constants[1:]]",
        "constants = constants[:3]",
    ],
    "4.2": [
        "n_opt, d_opt = d_opt, n_opt",
        "n_opt = scale * 1e21 ** (b / (a + b))",  # N D for 6 N D
        "d_opt = 1e21 / n_opt",
        "growth = 10**0.5",
        "growth = b / (a + b)",
    ],
    "4.3": [
        "n_around = np.log(n_around)",
        "n_around = slices['around'][losses['around'].argmin()]",
        "n_below = slices['below'][-1]",
        "n_below = n_around",
        "report = 'both'",
    ],
    "4.4": [
        "flop = 10 * 312e12 * 0.35",
        "flop = 10 * 3600 * 312e12",
        "best_n = scale * flop ** (b / (a + b))",
        "video_hours = video_hours * 3600",
        "video_hours = video_hours * 64",
        "times_beyond = 1 / times_beyond",
    ],
    "4.5": [
        "gains = -gains",
        "gains = gains * 0",
        "n_reliable = len(asked)",
        "buys_more = 'scan hours'",
        "buys_more = 'compute'",
    ],
    "5.1": [
        "median_largest = np.zeros(4)",
        "median_largest = 1 - median_largest",
        "median_largest = student_t.ppf(0.5 ** (1 / counts), n_volumes - 2)",
        "median_largest = median_largest[::-1]",
    ],
    "5.2": [
        "updates = updates / 100",
        "updates = [145_000] * 4",
        "loss_6m = float(base_curve.min())",
        "loss_6m = base_curve[int(minima.epoch['1M'])]",  # as many epochs
    ],
    "5.3": [
        "gain_native = -gain_native",
        "gain_native, gain_matched = gain_matched, gain_native",
        "learned_growth = gain_matched",
        "learned_growth = -learned_growth",
    ],
    "5.4": [
        "q = p",
        "q = np.minimum(p * n, 1)",
        "q = np.sort(q)",
        "n_fdr = int((p < 0.05).sum())",
        "n_bonferroni = len(p)",
    ],
    "5.5": [
        "unique_first = r2['first']",
        "unique_first, unique_second = unique_second, unique_first",
        "unique_second = r2['second']",
        "shared = r2['both']",
        "shared = -shared",
    ],
}
