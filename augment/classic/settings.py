"""Settings of the stage: classic variants.

Imports nothing heavy, as `augment.settings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

CLEAN_DB = 50.0
"""Signal-to-noise ratio from which no noise is added."""
Track = Literal["video", "audio"]


@dataclass(frozen=True, kw_only=True)
class ClassicSoundSettings:
    """What may be done to the sound."""

    semitones: float = 2.0
    """How far the pitch may move up or down, in [0, 12]."""
    stretch: float = 0.15
    """How far the speed may be from 1 before it is taken back, in [0, 0.5]; the smear stays."""
    room_s: float = 0.4
    """The longest reverberation time, in which echoes decay by 60 dB, in [0, 3] seconds."""
    snr_db: float = 20.0
    """The lowest ratio of sound to white noise, in [-10, 50] dB; at 50 there is no noise."""

    def __post_init__(self) -> None:
        ranges = {"semitones": (0, 12), "stretch": (0, 0.5), "room_s": (0, 3), "snr_db": (-10, CLEAN_DB)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"sound.{name}: {getattr(self, name)} is outside [{least:g}, {most:g}]")

    def weaker(self, strength: float) -> ClassicSoundSettings:
        """Ranges that are `strength` times as wide."""
        return ClassicSoundSettings(
            semitones=self.semitones * strength,
            stretch=self.stretch * strength,
            room_s=self.room_s * strength,
            snr_db=CLEAN_DB - (CLEAN_DB - self.snr_db) * strength,
        )


@dataclass(frozen=True, kw_only=True)
class ClassicSettings:
    """Variants without diffusion, to compare with. Of the picture: crop, colours, blur and JPEG, alike in all
    frames; of the sound: pitch, a vocoder's smear, a room and noise."""

    variants: int = 0
    """Classic variants of each training clip."""
    tracks: tuple[Track, ...] = ("video",)
    """What each replaces: `[video]`, `[audio]`, or `[video, audio]` together."""
    crop: float = 0.15
    """The largest share of a side that is cut away, in [0, 0.5]."""
    colour: float = 0.3
    """How far brightness, contrast and saturation may move, in [0, 1]; hue a tenth of it."""
    blur: float = 1.0
    """The largest deviation of the blur, in hundredths of the shorter side; at least 0."""
    jpeg: int = 40
    """The lowest JPEG quality, in [1, 100]."""
    sound: ClassicSoundSettings = field(default_factory=ClassicSoundSettings)
    """Of the sound alone."""

    def __post_init__(self) -> None:
        if not self.tracks or len(set(self.tracks)) < len(self.tracks):
            raise ValueError(f"tracks: got {list(self.tracks)}; take video, audio, or each of them once")
        ranges = {"crop": (0, 0.5), "colour": (0, 1), "blur": (0, 100), "jpeg": (1, 100)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)} is outside [{least}, {most}]")
        if self.variants < 0:
            raise ValueError(f"variants: {self.variants} is negative; take 0 or more")

    def weaker(self, strength: float) -> ClassicSettings:
        """Ranges that are `strength` times as wide."""
        return replace(
            self,
            crop=self.crop * strength,
            colour=self.colour * strength,
            blur=self.blur * strength,
            jpeg=round(100 - (100 - self.jpeg) * strength),
            sound=self.sound.weaker(strength),
        )

    def used(self) -> dict[str, Any]:
        """What a variant depends on: not how many there are, nor what would be done to another track."""
        values = asdict(self) | {"variants": None}
        tracks, sound = values.pop("tracks"), values.pop("sound")
        if tracks == ("audio",):
            return {"sound": sound}
        return values | {"sound": sound} if "audio" in tracks else values
