"""Ranges of settings, written as intervals such as `[0, 1)`."""

from __future__ import annotations

import math


def check_ranges(settings: object, prefix: str = "", **ranges: str) -> None:
    """Check numeric settings.

    Args:
        settings: An object with the settings as attributes.
        prefix: Put in front of a setting's name in messages.
        ranges: The interval of each setting, such as `[0, 1)`, or `(0, inf] or null` if it may be None.

    Raises:
        ValueError: If a value is outside its interval, naming the setting.
    """
    for name, text in ranges.items():
        value, (interval, _, other) = getattr(settings, name), text.partition(" or ")
        if value is None:
            continue
        low, high = (float(bound) for bound in interval[1:-1].split(","))
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if math.isinf(high) and not above:
            accepted = f"{low:g} or more" if interval[0] == "[" else f"more than {low:g}"
            accepted += f", or {other}" if other else ""
            raise ValueError(f"{prefix}{name}: {value} is too small; take {accepted}")
        if not (above and below):
            raise ValueError(f"{prefix}{name}: {value} is outside {interval}")
