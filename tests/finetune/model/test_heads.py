"""What each head makes of hidden states: closed forms, and texts that are ratings or not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from finetune.inputs.batch import NO_ANSWER
from finetune.inputs.question import LEVELS
from finetune.model.adapters import fresh_head
from finetune.model.heads import (
    Answer,
    Classes,
    Levels,
    Regression,
    Scale,
    parsed_rating,
    single_token,
    written_rating,
)
from finetune.settings import FinetuneConfig
from finetune.thinker.architecture import make_tokenizer
from pipelines.errors import UsageError

MOSI, SIMS, BINARY = Scale("mosi"), Scale("sims"), Scale("binary")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(["a film that was good, 1.5 of 3"], 300)


def hidden(rows: int, length: int, width: int = 6) -> torch.Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(rows * 100 + length))


def head(width: int, vocabulary: int) -> Any:
    weight = torch.randn(vocabulary, width, generator=torch.Generator().manual_seed(5))
    return lambda states: states @ weight.T


def test_a_fresh_regression_says_the_middle() -> None:
    for scale in (MOSI, SIMS, BINARY):
        ratings = Regression(6, scale, "l1").ratings(hidden(3, 4), head(6, 9))
        assert ratings.tolist() == [scale.middle] * 3


def test_a_regressions_loss_is_in_halves_of_the_range() -> None:
    labels = torch.tensor([-3.0, 1.5, 3.0])
    losses = Regression(6, MOSI, "l2").losses(hidden(3, 4), None, labels, head(6, 9))
    torch.testing.assert_close(losses, torch.tensor([1.0, 0.25, 1.0]))


def test_classes_take_the_nearest_value_and_the_most_probable() -> None:
    classes = Classes(6, SIMS)
    with torch.no_grad():
        classes.linear.bias.copy_(torch.tensor([0.0, 2.0, 0.0]))
    assert classes.ratings(hidden(2, 3), head(6, 9)).tolist() == [0, 0]
    losses = classes.losses(hidden(2, 3), None, torch.tensor([0.1, -0.9]), head(6, 9))
    known = torch.tensor([0.0, 2.0, 0.0]).log_softmax(0)
    torch.testing.assert_close(losses, torch.stack([-known[1], -known[0]]))


def test_levels_expect_the_label_when_their_loss_is_least(tokenizer: Any) -> None:
    levels = Levels(tokenizer, MOSI)
    labels = torch.tensor([-3.0, -0.4, 0.0, 1.6, 3.0, 7.0])
    shares = levels._shares(labels)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    torch.testing.assert_close(shares @ levels.values, labels.clamp(-3, 3))
    assert (shares > 0).sum(1).max() == 2


@pytest.mark.parametrize("scale", [MOSI, SIMS, BINARY])
def test_levels_are_softmax_over_the_digits_alone(tokenizer: Any, scale: Scale) -> None:
    levels, logits, states = Levels(tokenizer, scale), head(6, len(tokenizer)), hidden(3, 5)
    digits = [single_token(tokenizer, str(n + 1)) for n in range(LEVELS[scale.name])]
    values = torch.linspace(scale.low, scale.high, len(digits))
    expected = logits(states[:, -1])[:, digits].softmax(1) @ values
    torch.testing.assert_close(levels.ratings(states, logits), expected)


def test_a_digit_that_is_no_token_is_refused() -> None:
    def halves(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [1, 2]}

    with pytest.raises(UsageError, match=r"finetune\.head: levels needs '1' to be one token"):
        Levels(halves, MOSI)


def test_an_answers_loss_is_the_mean_over_its_tokens_each_read_off_the_one_before(tokenizer: Any) -> None:
    """Equal to the cross-entropy of full logits, shifted by one; prompts do not count."""
    answer, vocabulary = Answer(tokenizer, MOSI), len(tokenizer)
    answers = torch.tensor([[3, 1, 4], [NO_ANSWER, NO_ANSWER, 5]])
    ids = torch.tensor([[9, 9, 3, 1, 4], [9, 9, 9, 9, 5]])
    states, logits = hidden(2, 5), head(6, vocabulary)
    full = logits(states)
    expected = [
        F.cross_entropy(full[0, 1:4], ids[0, 2:5]),
        F.cross_entropy(full[1, 3:4], ids[1, 4:5]),
    ]
    losses = answer.losses(states, answers, torch.zeros(2), logits)
    torch.testing.assert_close(losses, torch.stack(expected))


def test_what_is_written_is_read(tokenizer: Any) -> None:
    answer = Answer(tokenizer, MOSI)
    for label in (-3.0, -0.6, 0.0, 1.4, 3.0):
        assert answer.parse(answer.answer(label)) == pytest.approx(label)
    assert len({len(written_rating(label, MOSI)) for label in (-3, -0.66667, 0.0, 2.2, 9.0)}) == 1
    assert written_rating(9.0, SIMS) == "+1.0"


@pytest.mark.parametrize("text", ["+1.4", " -3.0\n", "2", "-0.0"])
def test_numbers_are_ratings(text: str) -> None:
    assert parsed_rating(text, MOSI) == float(text)


@pytest.mark.parametrize(
    "text", ["", "good", "1.4 or so", "about 2", "1.4.2", "+", "3.1", "-4", "nan", "inf", "1e0", "1,5", "２"]
)
def test_other_texts_are_none(text: str) -> None:
    assert parsed_rating(text, MOSI) is None


def test_every_name_builds_its_head(tokenizer: Any) -> None:
    kinds = {"regression": Regression, "classes": Classes, "levels": Levels, "answer": Answer}
    for name, kind in kinds.items():
        config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=6))
        base: Any = SimpleNamespace(
            thinker=SimpleNamespace(config=config), processor=SimpleNamespace(tokenizer=tokenizer)
        )
        built = fresh_head(base, FinetuneConfig(head=name), "mosi")  # type: ignore[arg-type]
        assert type(built) is kind
