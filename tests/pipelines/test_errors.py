"""What messages are made of."""

from __future__ import annotations

import pytest

from pipelines.errors import listed, reason


@pytest.mark.parametrize(
    ("values", "wanted"), [([], ""), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_of_many_values_the_first_are_named(values: list[str], wanted: str) -> None:
    assert listed(values, 2) == wanted


@pytest.mark.parametrize(("said", "wanted"), [("\n its cause\nmore", "its cause"), ("", "ValueError")])
def test_the_reason_is_one_line(said: str, wanted: str) -> None:
    assert reason(ValueError(said)) == wanted
