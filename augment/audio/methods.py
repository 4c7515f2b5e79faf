"""The table of voice conversion methods; a new converter is added here.

Imports nothing heavy, since the settings read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Method:
    """The properties of a method."""

    converter: str
    """The class that converts, `module:Class`: an `augment.audio.variants.Converter`."""
    section: str | None
    """The section of `augment.audio` that it reads instead of the settings of `flow_matching`."""
    longest_reference_s: float = float("inf")
    """Seconds of the target's speech that it takes at most."""
    pitch_shift: bool = False
    """Whether it takes the difference in pitch between source and target."""


METHODS: dict[str, Method] = {
    "flow_matching": Method(
        converter="augment.audio.flow_matching_converter:FlowMatching", section=None, pitch_shift=True
    ),
    "seed_vc": Method(converter="augment.audio.seed_vc:SeedVC", section="seed_vc", longest_reference_s=25),
    "chatterbox": Method(converter="augment.audio.chatterbox:Chatterbox", section="chatterbox"),
}

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
