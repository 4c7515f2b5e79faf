"""JSON of any depth is parsed or refused."""

from __future__ import annotations

import pytest

from pipelines.untrusted.plain_json import parsed_json


def test_what_is_nested_too_deeply_is_refused_as_what_is_no_json() -> None:
    assert parsed_json('{"a": [1, null]}') == {"a": [1, None]}
    for text in ("[" * 100_000, b'{"a":' * 100_000, "{", ""):
        with pytest.raises(ValueError, match=r"too deeply|Expecting"):
            parsed_json(text)
