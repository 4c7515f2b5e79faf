"""The units in which word errors are counted."""

from __future__ import annotations

import unicodedata

SPACELESS = ("zh", "yue", "ja", "th", "lo", "km", "my", "bo")
"""Languages written without spaces between words: their characters are counted."""


def units(text: str, language: str | None) -> list[str]:
    """Words, or characters in `SPACELESS` languages, without case, punctuation and character width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = folded.replace("'", "").replace("’", "")
    # Punctuation, symbols, separators and control characters separate words.
    plain = "".join(" " if unicodedata.category(each)[0] in "PSZC" else each for each in words)
    spaceless = (language or "").split("-")[0].lower() in SPACELESS
    return list("".join(plain.split())) if spaceless else plain.split()
