"""How far what was understood is from what was said."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

SPACELESS = ("zh", "yue", "ja", "th", "lo", "km", "my", "bo")
"""Languages written without spaces between words: their characters are counted."""


def units(text: str, language: str | None) -> list[str]:
    """Words, or characters, without case, punctuation and width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(_plain(character) for character in folded)
    return list("".join(plain.split())) if _spaceless(language) else plain.split()


def edits(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Units to be put in, left out or replaced to get from what is wanted to what is found."""
    row = list(range(len(wanted) + 1))
    for at, unit in enumerate(found, start=1):
        above, row[0] = row[0], at
        for index, other in enumerate(wanted, start=1):
            replaced = above + (unit != other)
            above, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, replaced)
    return row[-1]


def _plain(character: str) -> str:
    """The character; nothing for an apostrophe, a space for other signs."""
    if character in "'’":
        return ""
    return " " if unicodedata.category(character)[0] in "PSZC" else character


def _spaceless(language: str | None) -> bool:
    return (language or "").split("-")[0].lower() in SPACELESS
