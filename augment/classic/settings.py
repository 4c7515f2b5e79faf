"""Settings of classic variants.

Imports nothing heavy, like `augment.settings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from augment.ranges import check_ranges

CLEAN_DB = 50.0  # signal-to-noise ratio from which no noise is added
Track = Literal["video", "audio"]


@dataclass(frozen=True, kw_only=True)
class ClassicSoundSettings:
    """Changes to the audio."""

    semitones: float = 2.0
    """Largest pitch shift, up or down, in [0, 12]."""
    stretch: float = 0.15
    """Largest change of speed, in [0, 0.5]; it is undone again, and the phase vocoder's smear stays."""
    room_s: float = 0.4
    """Longest reverberation time, in which echoes decay by 60 dB, in [0, 3] seconds."""
    snr_db: float = 20.0
    """Lowest ratio of signal to white noise, in [-10, 50] dB; at 50 there is no noise."""

    def __post_init__(self) -> None:
        limits = {"semitones": "[0, 12]", "stretch": "[0, 0.5]", "room_s": "[0, 3]", "snr_db": "[-10, 50]"}
        check_ranges(self, "sound.", **limits)

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
    """Variants without diffusion, as a baseline. Video: crop, colours, blur and JPEG, the same in all frames.
    Audio: pitch, a phase vocoder's smear, reverberation and noise."""

    variants: int = 0
    """Classic variants of each training clip."""
    tracks: tuple[Track, ...] = ("video",)
    """What each replaces: `[video]`, `[audio]`, or `[video, audio]` together."""
    crop: float = 0.15
    """Largest share of a side that is cut away, in [0, 0.5]."""
    colour: float = 0.3
    """Largest change of brightness, contrast and saturation, in [0, 1]; of hue a tenth of it."""
    blur: float = 1.0
    """Largest standard deviation of the blur, in hundredths of the shorter side, in [0, 100]."""
    jpeg: int = 40
    """Lowest JPEG quality, in [1, 100]."""
    sound: ClassicSoundSettings = field(default_factory=ClassicSoundSettings)
    """Changes to the audio."""

    def __post_init__(self) -> None:
        if not self.tracks or len(set(self.tracks)) < len(self.tracks):
            raise ValueError(f"tracks: got {list(self.tracks)}; take video, audio, or each of them once")
        check_ranges(
            self, variants="[0, inf]", crop="[0, 0.5]", colour="[0, 1]", blur="[0, 100]", jpeg="[1, 100]"
        )

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
        """What a variant depends on: neither the number of variants nor the settings of other tracks."""
        values = asdict(self) | {"variants": None}
        tracks, sound = values.pop("tracks"), values.pop("sound")
        if tracks == ("audio",):
            return {"sound": sound}
        return values | {"sound": sound} if "audio" in tracks else values
