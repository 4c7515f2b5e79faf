"""Texts that can be stored: without the lone surrogates by which Python keeps bytes that are not UTF-8."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    return text == escaped(text)


def escaped(text: str) -> str:
    r"""A text that can be written as UTF-8: what cannot be is shown as in `caf\udce9`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
