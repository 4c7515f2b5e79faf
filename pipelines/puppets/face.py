"""What puppets look like: a drawn head and shoulders whose face carries a valence.

A look is drawn from a speaker pool; a frame is drawn from a look, a valence, the mouth's opening, a blink
and the head's position. Lengths are in units of 1/64 of the frame's side, so that a look is the same at every
size. Frames are drawn four times as large and averaged down.

The speaker pools differ in hair, clothes, backgrounds and face shapes. Each has all skin tones.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from pipelines.puppets.script import SpeakerPool

Rgb = tuple[int, ...]
HairStyle = Literal["short", "long", "bun", "curly", "fringe", "bald"]

UNITS = 64  # across a frame
OVERSAMPLING = 4

# Skin from light to dark; a tone in [0, 1] lies between two of these.
SKINS: tuple[Rgb, ...] = (
    (250, 224, 204), (238, 200, 168), (222, 172, 130), (190, 136, 94), (146, 98, 66), (104, 68, 48),
)  # fmt: skip
HAIRS: dict[SpeakerPool, tuple[Rgb, ...]] = {
    "studio": ((38, 28, 26), (84, 52, 34), (150, 96, 52), (206, 166, 100), (150, 150, 154)),
    "train": ((34, 26, 30), (104, 66, 40), (168, 74, 40)),
    "test": ((50, 36, 30), (214, 184, 128), (190, 190, 196), (96, 42, 60)),
}
STYLES: dict[SpeakerPool, tuple[HairStyle, ...]] = {
    "studio": ("short", "long", "curly", "fringe", "bald"),
    "train": ("short", "fringe", "long"),
    "test": ("bun", "curly", "long", "bald"),
}
BACKGROUND_HUES: dict[SpeakerPool, tuple[float, float]] = {
    "studio": (0.0, 1.0), "train": (0.42, 0.72), "test": (0.95, 1.3),
}  # fmt: skip
FACE_WIDTHS: dict[SpeakerPool, tuple[float, float]] = {
    "studio": (17.0, 20.0), "train": (16.8, 18.6), "test": (18.2, 20.2),
}  # fmt: skip

_EYES: tuple[Rgb, ...] = ((60, 40, 26), (46, 74, 52), (52, 84, 128), (84, 60, 34))
_WHITE: Rgb = (250, 248, 244)
_INSIDE: Rgb = (66, 16, 24)
_TONGUE: Rgb = (198, 82, 86)
_CENTRE = (32.0, 31.0)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A puppet's appearance. Lengths are in 1/64 of the frame's side."""

    tone: float
    """Tone of the skin, from 0, light, to 1, dark."""
    hair: Rgb
    hair_style: HairStyle
    background: Rgb
    shirt: Rgb
    eyes: Rgb
    """Colour of the iris."""
    face_width: float
    """Half the width of the face."""
    face_height: float
    """Half the height of the face."""
    eye_distance: float
    """Distance of an eye from the middle of the face."""
    brow: float
    """Thickness of a brow."""
    mouth_width: float
    """Half the width of the mouth."""
    glasses: bool

    @property
    def skin(self) -> Rgb:
        """Colour of the skin."""
        position = self.tone * (len(SKINS) - 1)
        lower = min(int(position), len(SKINS) - 2)
        return _mix(SKINS[lower], SKINS[lower + 1], position - lower)

    @property
    def lips(self) -> Rgb:
        """Colour of the lips: darker than light skin, lighter than dark skin."""
        return _mix((176, 52, 62), (226, 112, 116), self.tone)


def random_look(rng: np.random.Generator, speaker_pool: SpeakerPool) -> Look:
    """Draw an appearance from a speaker pool."""
    hairs, styles = HAIRS[speaker_pool], STYLES[speaker_pool]
    low, high = BACKGROUND_HUES[speaker_pool]
    return Look(
        tone=float(rng.uniform()),
        hair=hairs[rng.integers(len(hairs))],
        hair_style=styles[rng.integers(len(styles))],
        background=_hsv(rng.uniform(low, high) % 1, rng.uniform(0.12, 0.4), rng.uniform(0.7, 0.95)),
        shirt=_hsv(rng.uniform(), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.9)),
        eyes=_EYES[rng.integers(len(_EYES))],
        face_width=float(rng.uniform(*FACE_WIDTHS[speaker_pool])),
        face_height=float(rng.uniform(22.5, 25)),
        eye_distance=float(rng.uniform(7.6, 9.2)),
        brow=float(rng.uniform(1.5, 2.4)),
        mouth_width=float(rng.uniform(9, 11)),
        glasses=bool(rng.uniform() < 0.15),
    )


def draw_face(
    look: Look,
    *,
    valence: float,
    mouth: float,
    blink: float = 0,
    head: tuple[float, float] = (0, 0),
    size: int = 64,
) -> np.ndarray:
    """Draw a frame.

    Args:
        look: The puppet's appearance.
        valence: From -1, brows and mouth corners down, to 1, both up.
        mouth: How far it is open, in [0, 1].
        blink: How far the lids are closed, in [0, 1].
        head: The head's offset to the right and down, in 1/64 of the frame's side.
        size: Pixels of the frame's side.

    Returns:
        uint8 RGB, (size, size, 3).
    """
    pen = _Pen(look, head, size)
    pen.shoulders()
    pen.hair_behind()
    pen.skin()
    pen.hair_front()
    for side in (-1, 1):
        pen.eye(side, valence, blink)
        pen.brow(side, valence)
    pen.nose()
    pen.mouth(valence, mouth)
    return np.asarray(pen.image.reduce(OVERSAMPLING))


def draw_clip(
    look: Look, *, valence: float, mouth: np.ndarray, rng: np.random.Generator, size: int = 64
) -> np.ndarray:
    """Draw a clip: the mouth as given, with random blinks and small motion of the head.

    Args:
        look: The puppet's appearance.
        valence: In [-1, 1], the same in all frames.
        mouth: How far it is open at each frame, in [0, 1], (F,).
        rng: Draws blinks and motion.
        size: Pixels of a frame's side.

    Returns:
        uint8 RGB, (F, size, size, 3).
    """
    length = len(mouth)
    time = np.arange(length)
    speed, phase = rng.uniform(0.1, 0.3, size=(2, 1)), rng.uniform(0, 2 * np.pi, size=(2, 1))
    heads = rng.uniform(0.4, 1.3, size=(2, 1)) * np.sin(speed * time + phase)
    blinks = np.zeros(length)
    for start in rng.integers(0, length, size=1 + length // 40):
        blinks[start : start + 2] = 1.0
    frames = zip(mouth.tolist(), blinks.tolist(), heads.T.tolist(), strict=True)
    return np.stack(
        [
            draw_face(look, valence=valence, mouth=opening, blink=blink, head=(right, down), size=size)
            for opening, blink, (right, down) in frames
        ]
    )


class _Pen:
    """Draws the parts of one frame, each over the last."""

    def __init__(self, look: Look, head: tuple[float, float], size: int) -> None:
        self.look = look
        self.scale = size * OVERSAMPLING / UNITS
        self.image = Image.new("RGB", (size * OVERSAMPLING,) * 2, look.background)
        self.canvas = ImageDraw.Draw(self.image)
        self.x, self.y = _CENTRE[0] + head[0], _CENTRE[1] + head[1]

    def shoulders(self) -> None:
        # Shoulders move half as much as the head.
        x = (self.x + _CENTRE[0]) / 2
        self._ellipse(x, 70, 29, 16, self.look.shirt)
        neck = _mix(self.look.skin, (40, 20, 20), 0.22)
        self._polygon([(self.x - 7, self.y + 12), (self.x + 7, self.y + 12), (x + 8, 60), (x - 8, 60)], neck)

    def hair_behind(self) -> None:
        look, (x, y) = self.look, (self.x, self.y)
        width, height = look.face_width, look.face_height
        if look.hair_style == "long":
            self._ellipse(x, y - 2, width + 4.5, height + 4, look.hair)
            top = [(x - width - 4.5, y), (x + width + 4.5, y)]
            self._polygon([*top, (x + width + 3, 60), (x - width - 3, 60)], look.hair)
        elif look.hair_style == "curly":
            for a in np.linspace(np.pi * 0.95, np.pi * 2.05, 9):
                self._ellipse(x + width * np.cos(a), y - 4 + (height - 2) * np.sin(a), 6, 6, look.hair)
        elif look.hair_style == "bun":
            self._ellipse(x, y - height - 1, 7.5, 6, look.hair)
        if look.hair_style != "bald":
            self._ellipse(x, y - 4, width + 2, height - 0.5, look.hair)

    def skin(self) -> None:
        look, shade = self.look, _mix(self.look.skin, (90, 30, 20), 0.16)
        for side in (-1, 1):
            self._ellipse(self.x + side * look.face_width, self.y + 1, 3, 4.5, shade)
        self._ellipse(self.x, self.y, look.face_width, look.face_height, look.skin)

    def hair_front(self) -> None:
        look, (x, y) = self.look, (self.x, self.y)
        width, height = look.face_width, look.face_height
        if look.hair_style == "bald":
            return
        # A cap: the part of the face's ellipse above the hairline.
        line = {"fringe": -11.5, "curly": -13.5}.get(look.hair_style, -14.5)
        edge = np.arcsin(-line / height)
        angles = np.linspace(np.pi + edge, 2 * np.pi - edge, 15)
        cap = [(x + 1.04 * width * np.cos(a), y + 1.04 * height * np.sin(a)) for a in angles]
        if look.hair_style == "long":
            cap.append((x - 2, y + line - 4))
        elif look.hair_style == "short":
            cap.append((x + width * 0.45, y + line + 1.5))
        self._polygon(cap, look.hair)

    def eye(self, side: int, valence: float, blink: float) -> None:
        look, x, y = self.look, self.x + side * self.look.eye_distance, self.y - 3.5
        # A smile lifts the lower lid, a frown lowers the upper one.
        half = (3.2 - 0.6 * abs(valence)) * (1 - 0.85 * blink)
        self._ellipse(x, y, 4.6, half + 0.5, _mix(look.skin, (40, 20, 20), 0.55))
        if half > 1:
            self._ellipse(x, y, 4.0, half, _WHITE)
            self._ellipse(x, y, 2.3, min(2.3, half), look.eyes)
            self._ellipse(x, y, 1.2, min(1.2, half), (16, 12, 12))
        if look.glasses:
            width = max(1, round(self.scale))
            self.canvas.ellipse(self._box(x, y, 6.6, 6.6), outline=(40, 38, 44), width=width)
            self._line([(self.x + side * 1.5, y), (self.x + side * 2.6, y)], 1, (40, 38, 44))

    def brow(self, side: int, valence: float) -> None:
        look, x, y = self.look, self.x + side * self.look.eye_distance, self.y - 10.2
        inner, outer = (x - side * 4.6, y - 2.6 * valence + 0.4), (x + side * 5, y + 1.0 * valence + 0.2)
        middle = (x + side * 0.6, (inner[1] + outer[1]) / 2 - 0.8)
        colour = _mix(look.hair, (30, 20, 16), 0.5) if look.hair_style != "bald" else (52, 38, 32)
        self._line([inner, middle, outer], look.brow, colour)

    def nose(self) -> None:
        shade = _mix(self.look.skin, (90, 30, 20), 0.35)
        x, y = self.x, self.y
        self._line([(x, y + 1), (x - 1.4, y + 5.6), (x + 1.6, y + 6)], 1.1, shade)

    def mouth(self, valence: float, opening: float) -> None:
        """The corners rise and fall with valence; the lips part around the middle line."""
        look, (x, y) = self.look, (self.x, self.y + 13.2)
        half = look.mouth_width * (1 + 0.08 * valence - 0.16 * opening)
        u = np.linspace(-1, 1, 15)
        arch = 1 - u**2
        middle = y + 4.6 * valence * (arch - 0.6)
        upper, lower = middle - (0.2 + 2.2 * opening) * arch, middle + (0.2 + 5.6 * opening) * arch
        outer = _outline(x + half * 1.06 * u, upper - 1.5 * arch - 0.7, lower + 1.9 * arch + 0.7)
        self._polygon(outer, look.lips)
        if opening < 0.06:
            self._line([(x + half * a, b) for a, b in zip(u, middle, strict=True)], 1.0, _INSIDE)
            return
        self._polygon(_outline(x + half * 0.9 * u, upper, lower), _INSIDE)
        if opening > 0.15:
            teeth = upper + min(1.8, 5 * opening) * arch
            self._polygon(_outline(x + half * 0.7 * u, upper, np.minimum(teeth, lower)), _WHITE)
        if opening > 0.5:
            self._ellipse(x, float(lower[7]) - 1.2, half * 0.4, 1.2, _TONGUE)

    def _polygon(self, points: list[tuple[float, float]], colour: Rgb) -> None:
        self.canvas.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=colour)

    def _line(self, points: list[tuple[float, float]], width: float, colour: Rgb) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self.canvas.line(scaled, fill=colour, width=max(1, round(width * self.scale)), joint="curve")

    def _box(self, x: float, y: float, width: float, height: float) -> list[float]:
        return [value * self.scale for value in (x - width, y - height, x + width, y + height)]

    def _ellipse(self, x: float, y: float, width: float, height: float, colour: Rgb) -> None:
        self.canvas.ellipse(self._box(x, y, width, height), fill=colour)


def _outline(x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> list[tuple[float, float]]:
    """A closed shape from its upper and lower edge."""
    return [*zip(x, upper, strict=True), *zip(x[::-1], lower[::-1], strict=True)]


def _mix(one: Rgb, other: Rgb, share: float) -> Rgb:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def _hsv(hue: float, saturation: float, value: float) -> Rgb:
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
