"""Text to tokens: our templates with their special tokens, and a user's text, in which nothing is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


class PromptTokenizer:
    """A tokenizer that keeps templates and a user's text apart.

    Args:
        tokenizer: Of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # A character that a vocabulary lacks may become its unknown token, which is harmless.
        self.added = {
            name: one for name, one in tokenizer.get_added_vocab().items() if name != tokenizer.unk_token
        }

    def id(self, token: str) -> int:
        """The id of a token by its name."""
        return self.tokenizer.convert_tokens_to_ids(token)

    def template(self, text: str) -> list[int]:
        """Ids of text that we wrote, special tokens included."""
        return self._ids(text)

    def user_text(self, text: str) -> list[int]:
        """Ids of a user's text: none of the added tokens, special or not."""
        ids = self._ids(text, split_special_tokens=True)
        if set(ids) & set(self.added.values()):
            # Added tokens that are not special (<think>, <tool_call>) are found in any text.
            ids = [one for piece in self._pieces(text) for one in self._ids(piece, split_special_tokens=True)]
        assert not set(ids) & set(self.added.values()), f"a special token in {text!r}"
        return ids

    def _ids(self, text: str, **options: bool) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, **options)["input_ids"] if text else []

    def _pieces(self, text: str) -> Iterator[str]:
        """A text cut after the first character of each name of an added token in it."""
        # A look-ahead also finds names inside of names.
        names = "|".join(map(re.escape, self.added))
        start = 0
        for match in re.finditer(f"(?={names})", text):
            yield text[start : match.start() + 1]
            start = match.start() + 1
        yield text[start:]
