"""What converts a voice: the table of methods, to which a new converter is added.

Imports nothing heavy, since the settings read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Method:
    """What sets a method apart from the others."""

    converter: str
    """The class that converts, `module:Class`: an `augment.audio.variants.Converter`."""
    section: str | None
    """The section of `augment.audio` that it reads in place of the settings of `flow_matching`."""
    longest_reference_s: float = float("inf")
    """Seconds of the target's speech that it takes at most."""
    pitch_shift: bool = False
    """Whether it is told how far apart source and target are in pitch."""


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
