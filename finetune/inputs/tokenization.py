"""Text to tokens: our own text with its special tokens, a user's text in which nothing is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


class Words:
    """A tokenizer that keeps our text and a user's apart.

    Args:
        tokenizer: Of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # A character that a vocabulary lacks may become its unknown token: that says nothing to a model.
        self.added = {
            name: one for name, one in tokenizer.get_added_vocab().items() if name != tokenizer.unk_token
        }

    def id(self, token: str) -> int:
        """Of a token by its name."""
        return self.tokenizer.convert_tokens_to_ids(token)

    def own(self, text: str) -> list[int]:
        """Ids of our own text, special tokens among it."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def foreign(self, text: str) -> list[int]:
        """Ids of a user's text: none of the tokens that were added to the words, special or not."""
        ids = self._split(text)
        if set(ids) & set(self.added.values()):
            # Tokens that were added without being special (<think>, <tool_call>) are found in any text.
            ids = [one for piece in self._parted(text) for one in self._split(piece)]
        assert not set(ids) & set(self.added.values()), f"a special token in {text!r}"
        return ids

    def _split(self, text: str) -> list[int]:
        if not text:
            return []
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def _parted(self, text: str) -> Iterator[str]:
        """A text cut behind the first character of each name of an added token in it."""
        # A look-ahead finds names inside of names as well.
        names = "|".join(map(re.escape, self.added))
        start = 0
        for found in re.finditer(f"(?={names})", text):
            yield text[start : found.start() + 1]
            start = found.start() + 1
        yield text[start:]
