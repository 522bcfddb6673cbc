"""The claims of the ledger as data: what was claimed, where, what answers for it.

All sentences are ours. What a figure implies without saying so is marked as implied. Files are
those of the authors' repository, ``Sana3883/compute-optimal_GPT_brain-encoding``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cobe.report.audit import contrasts, evidence, measured
from cobe.report.audit.evidence import Evidence
from cobe.report.audit.measured import RISES, SAME, Finding, Results

ABSTRACT = "arXiv:2410.19810, abstract"
DATA_BARS = "notebooks/scaling_results_dataset_size.ipynb"
DATA_MAPS = "notebooks/Datasize_scaling_brain_maps.ipynb"
WIDTH_BARS = "notebooks/scaling GPT_model_hidden_dimension _f.ipynb"
WIDTH_MAPS = "notebooks/hidden_dim_scaling_brain_maps.ipynb"
LAYERS_BARS = "notebooks/scaling GPT_model_Num_layers (2).ipynb"
LAYERS_MAPS = "notebooks/Num_layers_scaling_brain maps.ipynb"
HEADS_BARS = "notebooks/scaling GPT_model_num_heads.ipynb"
HEADS_MAPS = "notebooks/num_heads_scaling_brain_maps.ipynb"
BITS_BARS = "notebooks/GPT_Floating_Point_Precision (1).ipynb"
BITS_MAPS = "notebooks/GPT_Floating_Point_Precision_brain_maps.ipynb"
PRINTED_MODEL = "notebooks/Final_Results_Shinobi (2).ipynb"
ALL_MAPS = (DATA_MAPS, WIDTH_MAPS, LAYERS_MAPS, HEADS_MAPS, BITS_MAPS)
BASE_LOSS = "Training/metrics/16bit_batchsize64_val_loss_values.npy"
SUBSET_LIST = "Video_data_generation/training data_ cumulative size"
TRAIN_SCRIPT = "Training/train_gpt_test.sh"

ONE_RUN = "One run per setting was published; no repeat, interval or chance level was found."
NOT_FOUND = "None was found in the repository; the paper's full text was not available to us."
FILES = "The files can be read by anyone."


@dataclass(frozen=True)
class Claim:
    """One claim, and what is asked of the published outputs and of our run.

    Attributes
    ----------
    name : str
        Short name, the key of the ledger.
    where : str
        The abstract, or which figure or table.
    claimed : str
        In our words.
    shows : callable
        Gives the `Evidence` of the authors' outputs.
    cites : tuple of str
        Files of the authors' repository that show it, or the abstract.
    basis : str
        ``"stated"``, ``"derived"`` or ``"inferred"``: how the evidence is known.
    measure : callable
        Gives the `Finding` of our `Results` under ``"as_published"`` or ``"corrected"``.
    expected : str
        The direction of a finding with which the claim holds.
    sure : str
        How sure the verdict on the published evidence is.
    figure : str
        What ``./run_all.sh --only`` is told to fill a gap.
    in_readme : bool
        Whether the short table has it.
    about_brains : bool
        Whether it needs real brains to be confirmed or refuted.
    ways : tuple of str
        What differs between the two findings, and what each is under.
    """

    name: str
    where: str
    claimed: str
    shows: Callable[[], Evidence]
    cites: tuple[str, ...]
    basis: str
    measure: Callable[[Results, str], Finding]
    expected: str
    sure: str
    figure: str = "audit"
    in_readme: bool = True
    about_brains: bool = True
    ways: tuple[str, str, str] = ("protocol", "as_published", "corrected")


def _trend(axis: str) -> Callable[[Results, str], Finding]:
    return partial(measured.trend, axis_name=axis)


CLAIMS = (
    Claim(
        "encoding",
        "figures: bars and maps",
        "Features of the video model predict the fMRI of people at play, with a Pearson r above "
        ".6 in the best cases.",
        evidence.best_parcel,
        (DATA_MAPS, DATA_BARS),
        "derived",
        measured.above_chance,
        RISES,
        f"That the number is a maximum is certain. {ONE_RUN}",
    ),
    Claim(
        "measure",
        "all figures",
        "Implied: the plotted score is nothing where the video explains nothing.",
        evidence.measure,
        (DATA_MAPS, DATA_BARS),
        "inferred",
        contrasts.null_brain,
        SAME,
        "Our protocol as_published follows that inference; the split that was used may differ.",
    ),
    Claim(
        "learned features",
        "all figures",
        "Implied: it is what the video model has learned that predicts the fMRI.",
        evidence.learned_features,
        ALL_MAPS,
        "derived",
        contrasts.learned_features,
        RISES,
        NOT_FOUND,
    ),
    Claim(
        "simple features",
        "all figures",
        "Implied: what was learned predicts more than simple features of picture and play do.",
        evidence.simple_features,
        ALL_MAPS,
        "derived",
        contrasts.simple_features,
        RISES,
        NOT_FOUND,
        in_readme=False,
    ),
    Claim(
        "data size",
        "abstract; figure of the data size",
        "More training video gives better brain encoding, and the largest set the best.",
        evidence.data_size,
        (ABSTRACT, DATA_MAPS, DATA_BARS),
        "stated",
        _trend("data_size"),
        RISES,
        ONE_RUN,
    ),
    Claim(
        "data against model",
        "abstract",
        "More data helps brain encoding more than a larger model does.",
        evidence.data_against_width,
        (ABSTRACT, DATA_MAPS, WIDTH_MAPS),
        "derived",
        contrasts.data_against_width,
        RISES,
        f"{ONE_RUN} The two ranges have no common unit.",
    ),
    Claim(
        "who plays",
        "figure of the data size",
        "Implied: the data sizes differ by the amount of video only.",
        evidence.subset_participants,
        (SUBSET_LIST, TRAIN_SCRIPT),
        "inferred",
        contrasts.diversity,
        SAME,
        "The list gives sizes in its own order; that the smaller sets are its first entries is "
        "inferred from that.",
    ),
    Claim(
        "length of training",
        "figure of the data size",
        "Implied: the data sizes differ by the amount of video, not by how long was trained.",
        evidence.subset_updates,
        (TRAIN_SCRIPT, "Training/train_gpt_test.py", BASE_LOSS),
        "derived",
        contrasts.updates,
        SAME,
        "Steps of the largest set are confirmed by its checkpoint's name; the others follow from "
        "their frames.",
    ),
    Claim(
        "hidden size",
        "abstract; figure of the hidden size",
        "A larger hidden size improves brain encoding clearly, in all participants.",
        evidence.hidden_size,
        (ABSTRACT, WIDTH_MAPS, WIDTH_BARS, BASE_LOSS),
        "stated",
        _trend("hidden_dim"),
        RISES,
        f"{ONE_RUN} Losses but the base model's are read off the plots, to about .03.",
    ),
    Claim(
        "number of features",
        "figure of the hidden size",
        "Implied: hidden sizes differ by what the model learned, not by how many features the "
        "ridge gets.",
        evidence.feature_counts,
        ("Training/src/videogpt/gpt.py", WIDTH_BARS, PRINTED_MODEL),
        "derived",
        contrasts.width_features,
        SAME,
        "Sizes of the hidden states are certain; how they were pooled is not known.",
        in_readme=False,
    ),
    Claim(
        "layers",
        "abstract; figure of the layers",
        "More layers improve brain encoding somewhat, less consistently than hidden size does.",
        partial(evidence.trend, "n_layers"),
        (ABSTRACT, LAYERS_MAPS, LAYERS_BARS, BASE_LOSS),
        "stated",
        _trend("n_layers"),
        RISES,
        f"{ONE_RUN} Losses but the base model's are read off the plots, to about .03.",
    ),
    Claim(
        "block that is read",
        "figure of the layers",
        "Implied: the figure of the layers can be set beside the others.",
        evidence.layers_readout,
        (LAYERS_MAPS, LAYERS_BARS, DATA_BARS),
        "stated",
        contrasts.layers_readout,
        SAME,
        "Which block is read is in the names of the files; that both values at 8 layers are of one "
        "model is inferred.",
        in_readme=False,
    ),
    Claim(
        "heads",
        "abstract; figure of the heads",
        "The number of attention heads makes no significant difference to brain encoding.",
        evidence.heads,
        (ABSTRACT, HEADS_MAPS),
        "stated",
        _trend("n_heads"),
        SAME,
        f"{ONE_RUN} No difference found is not no difference.",
    ),
    Claim(
        "chart of the heads",
        "figure of the heads",
        "The bars are the scores at 1, 4 and 8 heads.",
        evidence.heads_chart,
        (HEADS_BARS, LAYERS_BARS, HEADS_MAPS),
        "stated",
        contrasts.no_run,
        SAME,
        FILES,
        in_readme=False,
    ),
    Claim(
        "16 bit, score",
        "abstract; figure of the precision",
        "Training with 16 bit gives the same brain encoding as with 32 bit.",
        evidence.precision,
        (ABSTRACT, BITS_MAPS, BITS_BARS, DATA_MAPS),
        "stated",
        contrasts.precision,
        SAME,
        f"{ONE_RUN} No difference found is not no difference.",
    ),
    Claim(
        "16 bit, speed",
        "abstract",
        "Training with 16 bit is 1.17 times as fast as with 32 bit.",
        evidence.speed,
        (ABSTRACT,),
        "stated",
        contrasts.speed,
        RISES,
        "Device, batch and what was timed are not known to us.",
        "throughput,audit",
        about_brains=False,
        ways=("recipe", "the published recipe", "our recipe"),
    ),
    Claim(
        "names of the losses",
        "figures of the loss",
        "The curves are training losses; in the figure of the precision, of 16 and 32 bit.",
        evidence.loss_labels,
        (DATA_BARS, WIDTH_BARS, LAYERS_BARS, HEADS_BARS, BITS_BARS),
        "stated",
        contrasts.no_run,
        SAME,
        f"{FILES} Whether the labels or the file names are exchanged cannot be told.",
        in_readme=False,
    ),
    Claim(
        "table of the VQ-VAE",
        "README, table of hyperparameters",
        "The VQ-VAE has 2,048 codes of 256 values and downsamples by 4 x 4 x 4.",
        evidence.vqvae_table,
        ("README.md", PRINTED_MODEL),
        "stated",
        contrasts.no_run,
        SAME,
        FILES,
        in_readme=False,
    ),
)
