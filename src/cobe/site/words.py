"""Words for images and pages: Markdown to plain text, plain text into Markdown."""

from __future__ import annotations

import re

MAX_ALT = 300


def plain_text(markdown: str) -> str:
    """Markdown without its marks, on one line."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"(?<![\w\\])[*]+(?=\S)|(?<=[^\s\\])[*]+(?!\w)|`", "", text)
    return " ".join(re.sub(r"\\([^\w\s])", r"\1", text).split())


def first_sentences(text: str, most: int = MAX_ALT) -> str:
    """As many whole sentences from the start as fit; at least the first, cut between words.

    Parameters
    ----------
    text : str
        Plain text on one line.
    most : int
        Characters.
    """
    kept = ""
    for sentence in re.split(r"(?<=[.!?]) +(?=[A-Z(])", text):
        if len(kept) + len(sentence) + 1 > most:
            break
        kept = f"{kept} {sentence}".strip()
    return kept or text[: most - 1].rsplit(" ", 1)[0] + "…"


def escaped(text: str) -> str:
    """Plain text as Markdown that shows the same."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~^&@:])", r"\\\1", text)
