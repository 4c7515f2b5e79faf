"""Audio, by a speech recogniser: can the words still be understood?"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from score.clip import Clip

SPACELESS = ("zh", "yue", "ja", "th", "lo", "km", "my", "bo")
"""Languages written without spaces between words: their characters are counted."""
UNDERSTOOD = 0.5
"""Errors of the source; with more the recogniser does not understand it, and nothing can be lost."""


def measure(variant: Clip, source: Clip) -> float:
    """The source's errors against the transcript less the variant's, at most 0, in [-1, 0]; 0 is kept.

    Errors of words, or of characters in a language without spaces, at most 1. NaN where there is no
    transcript, the source is silent, or the recogniser does not understand it.
    """
    assert source.sound is not None
    wanted = units(source.sound.text, source.sound.language)
    if not wanted or source.sound.silent:
        return float("nan")
    found, own = (
        errors(units(clip.heard("speech"), source.sound.language), wanted) for clip in (variant, source)
    )
    return float("nan") if own > UNDERSTOOD else min(own - found, 0.0)


def units(text: str, language: str | None) -> list[str]:
    """Words, or characters, without case, punctuation and width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(_plain(character) for character in folded)
    return list("".join(plain.split())) if _spaceless(language) else plain.split()


def errors(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Edits from what is wanted to what is found, over the number wanted, at most 1."""
    row = list(range(len(wanted) + 1))
    for at, unit in enumerate(found, start=1):
        above, row[0] = row[0], at
        for index, other in enumerate(wanted, start=1):
            replaced = above + (unit != other)
            above, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, replaced)
    return min(1.0, row[-1] / len(wanted))


def _plain(character: str) -> str:
    """The character; nothing for an apostrophe, a space for other signs."""
    if character in "'’":
        return ""
    return " " if unicodedata.category(character)[0] in "PSZC" else character


def _spaceless(language: str | None) -> bool:
    return (language or "").split("-")[0].lower() in SPACELESS
