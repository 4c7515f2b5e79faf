"""The units in which word errors are counted."""

from __future__ import annotations

import unicodedata

SPACELESS = ("zh", "yue", "ja", "th", "lo", "km", "my", "bo")
"""Languages written without spaces between words: their characters are counted."""


def units(text: str, language: str | None) -> list[str]:
    """Words, or characters in `SPACELESS` languages, without case, punctuation and character width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(_plain(character) for character in folded)
    spaceless = (language or "").split("-")[0].lower() in SPACELESS
    return list("".join(plain.split())) if spaceless else plain.split()


def _plain(character: str) -> str:
    """The character; nothing for an apostrophe, a space for other punctuation and symbols."""
    if character in "'’":
        return ""
    return " " if unicodedata.category(character)[0] in "PSZC" else character
