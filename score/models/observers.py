"""What pre-trained models make of a clip's tracks, computed once a track.

A model looks at one clip alone, so that neither what is beside it in a batch nor where an earlier
run was stopped changes a value. What it saw stays with the track: a source's is there for all its
variants, and a track that a variant shares with its source is looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from score.media.clip import Clip

SEEN = ("image", "face", "expression")
"""Models of the picture; the others listen."""


class Observers:
    """Models by the setting that names them.

    Args:
        models: Each takes a track, `Pixels` or a `Sound`, and returns what it makes of it.
    """

    def __init__(self, models: Mapping[str, Callable[[Any], Any]] | None = None) -> None:
        self.models = dict(models or {})

    @property
    def sees(self) -> bool:
        """Whether any of them looks at pictures."""
        return any(name in SEEN for name in self.models)

    def observe(self, name: str, clips: Iterable[Clip]) -> bool:
        """Let a model see or hear the track of each clip, once; False where there is no such model."""
        if name not in self.models:
            return False
        for clip in clips:
            track = clip.pixels if name in SEEN else clip.sound
            assert track is not None
            if name not in track.observed:
                track.observed[name] = self.models[name](track)
        return True
