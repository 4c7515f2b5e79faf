"""Alignment of prompts in FateZero: which target token follows which source token, and how strongly.

The edit's cross-attention map (queries x tokens) is built from columns: column j is the source's column
`source_of[j]` if the target's token has a counterpart, else the target's own. As a map only ever multiplies
values, moving the values instead gives the same result without a map:
`new map @ v = source map @ (A v) + own map @ (d * v)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


@dataclass(frozen=True, kw_only=True)
class WordPlan:
    """How to move values so that cross-attention follows the source."""

    from_source: torch.Tensor
    """A, (tokens, tokens): row s sums the target's values that follow source column s."""
    own: torch.Tensor
    """d, (tokens,): weights of the target's own columns; 0 where a column follows the source."""
    any_own: bool  # whether `own` has any nonzero element

    def to(self, like: torch.Tensor) -> WordPlan:
        """The plan on a tensor's device and in its precision."""
        return WordPlan(from_source=self.from_source.to(like), own=self.own.to(like), any_own=self.any_own)


def align(source: list[int], target: list[int]) -> list[int]:
    """Needleman-Wunsch: for each target token the position of its source token, or -1 if it is new.

    Match 1, gap 0, mismatch -1; ties prefer left (a new token), then up, then diagonal.
    """
    rows, columns = len(source) + 1, len(target) + 1
    score = [[0] * columns for _ in range(rows)]
    came = [["left"] * columns] + [["up"] * columns for _ in range(rows - 1)]
    for i in range(1, rows):
        for j in range(1, columns):
            match = 1 if source[i - 1] == target[j - 1] else -1
            left, up, diagonal = score[i][j - 1], score[i - 1][j], score[i - 1][j - 1] + match
            score[i][j] = best = max(left, up, diagonal)
            came[i][j] = "left" if best == left else "up" if best == up else "diagonal"
    return _walk_back(came)


def _walk_back(came: list[list[str]]) -> list[int]:
    positions: list[int] = []
    i, j = len(came) - 1, len(came[0]) - 1
    while i > 0 or j > 0:
        move = came[i][j]
        if move == "diagonal":
            positions.append(i - 1)
        elif move == "left":
            positions.append(-1)
        i -= move != "left"
        j -= move != "up"
    return positions[::-1]


def plan_words(
    tokenizer: CLIPTokenizer, source_prompt: str, prompt: str, reweight: dict[str, float]
) -> WordPlan:
    """Align two prompts and weight the target's words.

    Args:
        tokenizer: Its `model_max_length` is the width of the maps.
        source_prompt: What the clip shows.
        prompt: What the edit shall show.
        reweight: Factors on the columns of words of `prompt`; columns are not renormalised.

    Raises:
        ValueError: If a prompt is too long, or a word is not in it.
    """
    width = tokenizer.model_max_length
    source_tokens, tokens = token_ids(tokenizer, source_prompt), token_ids(tokenizer, prompt)
    # Padding after the target follows the source's column at the same position.
    source_of = [*align(source_tokens, tokens), *range(len(tokens), width)]
    weights = torch.ones(width)
    for word, factor in reweight.items():
        weights[word_positions(tokenizer, prompt, word)] *= factor
    from_source, own = torch.zeros(width, width), torch.zeros(width)
    for position, source in enumerate(source_of):
        if source < 0:
            own[position] = weights[position]
        else:
            from_source[source, position] = weights[position]
    return WordPlan(from_source=from_source, own=own, any_own=bool(own.any()))


def token_ids(tokenizer: CLIPTokenizer, prompt: str) -> list[int]:
    """The prompt's tokens, with start and end token.

    Raises:
        ValueError: If there are more than the text encoder takes.
    """
    ids = tokenizer(prompt).input_ids
    if len(ids) > tokenizer.model_max_length:
        raise ValueError(
            f"prompt: {prompt!r} has {len(ids)} tokens with start and end,"
            f" the text encoder takes {tokenizer.model_max_length}; shorten it"
        )
    return ids


def word_positions(tokenizer: CLIPTokenizer, prompt: str, word: str) -> list[int]:
    """The positions of a word's tokens in the prompt, for all its occurrences.

    Raises:
        ValueError: If it is not in the prompt.
    """
    ids, pieces = token_ids(tokenizer, prompt), token_ids(tokenizer, word)[1:-1]
    starts = [i for i in range(len(ids)) if pieces and ids[i : i + len(pieces)] == pieces]
    if not starts:
        raise ValueError(f"word {word!r} is not in the prompt {prompt!r}; name a word that is")
    return [start + k for start in starts for k in range(len(pieces))]
