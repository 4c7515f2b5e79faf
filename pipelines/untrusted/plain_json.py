"""JSON from files and programs; what is nested too deeply is an error like any other."""

from __future__ import annotations

import json
from typing import Any


def parsed_json(text: str | bytes, **options: Any) -> Any:
    """As `json.loads`, with its options.

    Raises:
        ValueError: If the text is no JSON, holds a number of too many digits, or is nested deeper than Python
            can follow, for which `json.loads` raises `RecursionError`.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from error
