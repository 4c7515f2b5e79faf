"""Classic variants: the same change in all frames, within the settings, and little of it; bounded memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from augment.classic.settings import ClassicSettings
from augment.classic.video import changed, draw_changes, make_variant
from benchmarks.measurement import in_new_process, peak_bytes, reset_peak
from pipelines import media
from pipelines.decoding import pictures

NOTHING: dict[str, Any] = {
    "crop": [0.0, 0.0, 0.0],
    **dict.fromkeys(("brightness", "contrast", "saturation"), 1.0),
    "hue": 0.0,
    "blur": 0.0,
    "jpeg": 100,
}


def picture() -> np.ndarray:
    """Coloured waves, (48, 64, 3)."""
    rows, columns = np.mgrid[0:48, 0:64]
    light = np.sin(rows / 2) * np.cos(columns / 3)
    colours = [np.sin(rows / 9), np.cos(columns / 7), np.sin((rows + columns) / 11)]
    return np.round(127 + 60 * light[..., None] + 50 * np.stack(colours, axis=-1)).astype(np.uint8)


def difference(**change: Any) -> float:
    frame = picture()[None]
    return float(np.abs(changed(frame, **NOTHING | change).astype(float) - frame).mean())


def test_each_change_changes_and_none_changes_next_to_nothing() -> None:
    assert difference() < 2  # what JPEG of the best quality does
    for change in (
        {"crop": [0.05, 0.1, 0.2]},
        {"brightness": 1.2},
        {"contrast": 0.7},
        {"saturation": 0.7},
        {"hue": 0.05},
        {"blur": 3.0},
        {"jpeg": 5},
    ):
        assert difference(**change) > 3, change


def test_a_cropped_picture_is_the_part_that_is_told() -> None:
    frame = np.zeros((1, 40, 80, 3), np.uint8)
    frame[:, :20, :40] = 255
    corner = changed(frame, **NOTHING | {"crop": [0.0, 0.0, 0.5]})
    assert corner.shape == frame.shape
    assert corner.min() > 250
    assert changed(frame, **NOTHING | {"crop": [0.5, 0.5, 0.5]}).max() < 5


def test_a_variant_keeps_frames_rate_and_size_and_stands_still() -> None:
    source = {"id": "x", "video": {"bytes": media.encode_video(np.stack([picture()] * 6), 12.5)}}
    made, details = make_variant(ClassicSettings(), source, 3)
    clip = media.read_video(made)
    assert clip.frames.shape == (6, 48, 64, 3)
    assert clip.fps == pytest.approx(12.5)
    assert np.abs(clip.frames.astype(int) - clip.frames[:1]).max() < 6
    assert (made, details) == make_variant(ClassicSettings(), source, 3)
    assert made != make_variant(ClassicSettings(), source, 4)[0]
    again = changed(
        media.read_video(source["video"]["bytes"]).frames, **{key: details[key] for key in NOTHING}
    )
    assert media.encode_video(again, 12.5) == made


def moving(length: int, height: int, width: int) -> dict[str, Any]:
    """A row of a clip whose colours and brightness change from frame to frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    light = [np.sin((rows + 3 * number) / 5) + np.cos((columns - number) / 7) for number in range(length)]
    frames = np.stack([np.stack([each, each[::-1], -each], axis=-1) for each in light])
    encoded = media.encode_video(np.round(127 + 60 * frames).astype(np.uint8), 25.0)
    return {"id": "x", "video": {"bytes": encoded}}


@pytest.mark.parametrize(("height", "width"), [(48, 64), (90, 122), (180, 320)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_frame_is_changed_as_it_is_among_all_others(height: int, width: int, seed: int) -> None:
    source = moving(9, height, width)
    made, details = make_variant(ClassicSettings(), source, seed)
    frames = media.read_video(source["video"]["bytes"]).frames
    together = changed(frames, **{key: details[key] for key in NOTHING})
    assert len(np.unique(together.reshape(9, -1), axis=0)) == 9
    assert made == media.encode_video(together, 25.0)


def peak_of_a_variant(source: dict[str, Any]) -> int:
    """Bytes that a variant of a clip that counts as long takes above what this process has."""
    pictures.AHEAD_BYTES = 0
    make_variant(ClassicSettings(), moving(1, 16, 16), 1)  # loads the libraries
    before = reset_peak("cpu")
    make_variant(ClassicSettings(), source, 1)
    return peak_bytes("cpu") - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_longer_clip_takes_no_more_memory() -> None:
    short, long = 100, 300  # both fill the encoder's buffers
    peaks = [
        in_new_process(peak_of_a_variant, moving(length, 180, 320), smaller="clips")
        for length in (short, long)
    ]
    assert peaks[1] - peaks[0] < 0.2 * (long - short) * 180 * 320 * 3


def test_what_is_drawn_stays_within_the_settings() -> None:
    settings = ClassicSettings(crop=0.1, colour=0.2, blur=0.5, jpeg=70)
    drawn = [draw_changes(settings, np.random.default_rng(seed), 1.0) for seed in range(200)]
    assert all(
        0 <= cut <= 0.1 and left <= cut and top <= cut for left, top, cut in (d["crop"] for d in drawn)
    )
    assert all(0.8 <= d["saturation"] <= 1.2 and abs(d["hue"]) <= 0.02 for d in drawn)
    assert {d["jpeg"] for d in drawn} <= set(range(70, 101))
    assert max(d["blur"] for d in drawn) <= 0.5


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"crop: 0\.6 is outside \[0, 0\.5\]"):
        ClassicSettings(crop=0.6)
    with pytest.raises(ValueError, match=r"jpeg: 0 is outside \[1, 100\]"):
        ClassicSettings(jpeg=0)
    with pytest.raises(ValueError, match="variants: -1 is too small; take 0 or more"):
        ClassicSettings(variants=-1)
