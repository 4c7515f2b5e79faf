"""Heads: from a model's last hidden states to a loss to train by and to a rating.

    regression   a linear layer on the last token
    classes      a linear layer on the last token, one output a class
    levels       the model's own probabilities of the digits 1, 2, ..., and the expected value under them
    answer       the rating in writing, read by a strict parser

Logits are computed where an answer is read and nowhere else: of the hidden states (B, L, width), only those
at the answers' positions are projected onto the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finetune.inputs.batch import NO_ANSWER
from finetune.inputs.question import LEVELS
from finetune.objective import ROW_LOSSES
from finetune.settings import RowLoss
from pipelines.errors import UsageError
from pipelines.row import SCALES

Logits = Callable[[Tensor], Tensor]
"""The model's language-model head: hidden states (n, width) to scores (n, vocabulary)."""

CLASSES = {
    "mosi": (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
    "sims": (-1.0, 0.0, 1.0),
    "binary": (0.0, 1.0),
}
"""The classes of a scale by their values; a label belongs to the nearest."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


class Scale:
    """A corpus' scale of labels, a key of `SCALES`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.low, self.high = SCALES[name]
        self.middle, self.half_range = (self.low + self.high) / 2, (self.high - self.low) / 2


class _OnLastToken(nn.Module):
    """A linear layer on the last token's hidden state, zero at first."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def outputs(self, hidden: Tensor) -> Tensor:
        """(B, outputs), from hidden states (B, L, width)."""
        last = hidden[:, -1].float()
        with torch.autocast(last.device.type, enabled=False):
            # Divided by the width, so that a step of the layer moves a rating as far in any model.
            return self.linear(last / last.shape[1])


class Regression(_OnLastToken):
    """A number from the last token's hidden state. At first it is the middle of the scale."""

    def __init__(self, width: int, scale: Scale, row_loss: RowLoss) -> None:
        super().__init__(width, 1)
        self.scale, self.row_loss = scale, ROW_LOSSES[row_loss]

    def ratings(self, hidden: Tensor, logits: Logits) -> Tensor:
        """Ratings on the labels' scale, (B,), from hidden states (B, L, width)."""
        return self.scale.middle + self.scale.half_range * self.outputs(hidden).squeeze(-1)

    def losses(self, hidden: Tensor, answers: Tensor | None, labels: Tensor, logits: Logits) -> Tensor:
        """Each row's own loss in units of half the scale's range, (B,)."""
        unit = self.scale.half_range
        return self.row_loss(self.ratings(hidden, logits) / unit, labels / unit)


class Classes(_OnLastToken):
    """The most probable class by a linear layer on the last token; its value is the rating."""

    def __init__(self, width: int, scale: Scale) -> None:
        super().__init__(width, len(CLASSES[scale.name]))
        self.values = nn.Buffer(torch.tensor(CLASSES[scale.name]), persistent=False)

    def ratings(self, hidden: Tensor, logits: Logits) -> Tensor:
        """The value of the most probable class, (B,)."""
        return self.values[self.outputs(hidden).argmax(dim=1)]

    def losses(self, hidden: Tensor, answers: Tensor | None, labels: Tensor, logits: Logits) -> Tensor:
        """Cross-entropy of each row's class, (B,)."""
        nearest = (labels[:, None] - self.values).abs().argmin(dim=1)
        return F.cross_entropy(self.outputs(hidden), nearest, reduction="none")


class Levels(nn.Module):
    """The expected value under the model's probabilities of the digits; other tokens do not count."""

    def __init__(self, tokenizer: Any, scale: Scale) -> None:
        super().__init__()
        count = LEVELS[scale.name]
        tokens = [single_token(tokenizer, str(digit)) for digit in range(1, count + 1)]
        self.tokens = nn.Buffer(torch.tensor(tokens), persistent=False)
        self.values = nn.Buffer(torch.linspace(scale.low, scale.high, count), persistent=False)

    def _scores(self, hidden: Tensor, logits: Logits) -> Tensor:
        return logits(hidden[:, -1])[:, self.tokens].float()  # (B, K)

    def ratings(self, hidden: Tensor, logits: Logits) -> Tensor:
        """The expected value, (B,)."""
        return self._scores(hidden, logits).softmax(dim=1) @ self.values

    def losses(self, hidden: Tensor, answers: Tensor | None, labels: Tensor, logits: Logits) -> Tensor:
        """Cross-entropy against the label, shared out between its two nearest digits, (B,)."""
        return F.cross_entropy(self._scores(hidden, logits), self._shares(labels), reduction="none")

    def _shares(self, labels: Tensor) -> Tensor:
        """(B, K): rows sum to 1 and have the labels, clipped to the scale, as expected values."""
        step = self.values[1] - self.values[0]
        away = (labels.clamp(self.values[0], self.values[-1])[:, None] - self.values).abs() / step
        return (1 - away).clamp(min=0)


class Answer(nn.Module):
    """The rating in writing."""

    def __init__(self, tokenizer: Any, scale: Scale) -> None:
        super().__init__()
        self.tokenizer, self.scale = tokenizer, scale

    def losses(self, hidden: Tensor, answers: Tensor | None, labels: Tensor, logits: Logits) -> Tensor:
        """Each row's mean cross-entropy over the tokens of its answer, (B,).

        A row of `hidden`, (B, L, width), ends with its answer, and each token is predicted from the one
        before. The labels are not used; `answers`, (B, A), contain them.
        """
        assert answers is not None, "rows come with their answers"
        is_token = answers != NO_ANSWER  # (B, A)
        states = hidden[:, -answers.shape[1] - 1 : -1][is_token]
        scores = logits(states).float()  # (tokens of all answers, vocabulary)
        each = F.cross_entropy(scores, answers[is_token], reduction="none")
        rows = is_token.nonzero()[:, 0]
        return torch.zeros_like(labels, dtype=each.dtype).index_add(0, rows, each) / is_token.sum(1)

    def answer(self, label: float) -> list[int]:
        """The tokens that a label is written with, followed by the end of the turn."""
        written = self.tokenizer(written_rating(label, self.scale), add_special_tokens=False)["input_ids"]
        return [*written, self.tokenizer.eos_token_id]

    def parse(self, tokens: Sequence[int]) -> float | None:
        """The rating that generated tokens spell; None if they spell none."""
        ids = list(tokens)
        end = self.tokenizer.eos_token_id
        text = self.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)
        return parsed_rating(text, self.scale)


Head = Regression | Classes | Levels | Answer


def written_rating(label: float, scale: Scale) -> str:
    """A label in writing, with sign and one decimal: always as many characters."""
    return f"{min(max(label, scale.low), scale.high) + 0.0:+.1f}"


def parsed_rating(text: str, scale: Scale) -> float | None:
    """The number that a text consists of; None for any other text and for numbers outside the scale."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if scale.low <= value <= scale.high else None


def single_token(tokenizer: Any, text: str) -> int:
    """The id of a text that is one token.

    Raises:
        UsageError: If it is not.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UsageError(
            f"finetune.head: levels needs {text!r} to be one token, this model's tokenizer makes"
            f" {len(ids)}; take regression or answer"
        )
    return int(ids[0])
