"""Classic sounds: as long and as loud as their source, each change as much as it says, and no more."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from augment.classic.audio import changed, draw_changes, make_variant
from augment.classic.settings import ClassicSettings, ClassicSoundSettings
from augment.settings import AugmentConfig
from augment.voice_conversion import pitch
from pipelines import media
from tests.tiny_voices import voiced

NOTHING: dict[str, Any] = {"semitones": 0.0, "stretch": 1.0, "room_s": 0.0, "snr_db": 50.0, "noise_seed": 0}
ALL: dict[str, Any] = {"semitones": -1.5, "stretch": 1.1, "room_s": 0.3, "snr_db": 20.0, "noise_seed": 0}


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def contour(samples: np.ndarray) -> np.ndarray:
    """Energy of each 16 ms, in dB."""
    return 10 * np.log10(np.square(samples[: len(samples) // 256 * 256]).reshape(-1, 256).mean(1) + 1e-9)


@pytest.mark.parametrize("length", [1, 100, 257, 16_000, 30_001])
def test_length_and_loudness_are_the_sources(length: int) -> None:
    source = voiced(3.0)[8_000 : 8_000 + length]
    made = changed(source, **ALL)
    assert (made.shape, made.dtype) == (source.shape, np.float32)
    assert np.sqrt(np.square(made).mean()) == pytest.approx(np.sqrt(np.square(source).mean()), rel=1e-3)


def test_each_change_changes_and_none_changes_nothing() -> None:
    source = voiced(1.0)
    np.testing.assert_allclose(changed(source, **NOTHING), source, atol=1e-6)
    for name in ("semitones", "stretch", "room_s", "snr_db"):
        made = changed(source, **NOTHING | {name: ALL[name]})
        assert np.abs(made - source).max() > 0.01, name


@pytest.mark.parametrize("semitones", [-4.0, 0.7, 2.0])
def test_the_pitch_moves_by_what_it_says_and_words_stay_where_they_are(semitones: float) -> None:
    source = voiced(2.0, 180)
    made = changed(source, **NOTHING | {"semitones": semitones})
    moved = pitch.median_log_f0(pitch.track(torch.from_numpy(made)))
    assert 12 * (moved - pitch.median_log_f0(pitch.track(torch.from_numpy(source)))) == pytest.approx(
        semitones, abs=0.15
    )
    assert correlation(contour(made), contour(source)) > 0.95


@pytest.mark.parametrize("stretch", [0.8, 1.2])
def test_stretched_and_back_keeps_pitch_and_times(stretch: float) -> None:
    source = voiced(2.0, 180)
    made = changed(source, **NOTHING | {"stretch": stretch})
    contours = [pitch.track(torch.from_numpy(sound)).numpy() for sound in (made, source)]
    both = (contours[0] > 0) & (contours[1] > 0)
    assert both.mean() > 0.9
    np.testing.assert_allclose(contours[0][both], contours[1][both], rtol=0.03)
    assert correlation(contour(made), contour(source)) > 0.95


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_is_as_loud_as_it_says(snr_db: float) -> None:
    source = voiced(2.0)
    made = changed(source, **NOTHING | {"snr_db": snr_db})
    share = (made @ source) / (source @ source)
    noise = made / share - source
    assert 10 * np.log10(np.square(source).mean() / np.square(noise).mean()) == pytest.approx(snr_db, abs=0.2)


def test_a_rooms_echoes_decay_in_its_time() -> None:
    click = np.zeros(16_000, np.float32)
    click[0] = 1.0
    made = changed(click, **NOTHING | {"room_s": 0.4})
    assert np.abs(made).argmax() == 0
    echoes = np.square(made[1:] / made[0])
    assert echoes.sum() == pytest.approx(0.4 / 0.8, rel=1e-3)
    # Half of 60 dB in half the time, and nothing behind it.
    left = np.cumsum(echoes[::-1])[::-1]
    assert 10 * np.log10(left[3_200] / left[0]) == pytest.approx(-30, abs=1.5)
    assert np.abs(made[6_400:]).max() < 1e-6


def test_a_variant_is_what_its_record_says() -> None:
    source = {"id": "x", "audio": {"bytes": media.encode_audio(voiced(1.0))}}
    settings = ClassicSettings(tracks=("audio",))
    made, details = make_variant(settings, source, 3)
    assert (made, details) == make_variant(settings, source, 3)
    assert made != make_variant(settings, source, 4)[0]
    assert details == {"method": "classic"} | json.loads(
        json.dumps({name: details[name] for name in NOTHING})
    )
    samples = media.read_audio(source["audio"]["bytes"])
    again = changed(samples, **{name: details[name] for name in NOTHING})
    assert media.encode_audio(again, 16_000) == made


def test_silence_is_refused_with_the_reason() -> None:
    silence = {"id": "x", "audio": {"bytes": media.encode_audio(np.zeros(8_000, np.float32))}}
    with pytest.raises(ValueError, match="audio: silent"):
        make_variant(ClassicSettings(tracks=("audio",)), silence, 3)


def test_what_is_drawn_stays_within_the_settings() -> None:
    sound = ClassicSoundSettings(semitones=3, stretch=0.1, room_s=0.5, snr_db=10)
    settings = ClassicSettings(sound=sound)
    for strength in (1.0, 0.5):
        drawn = [draw_changes(settings, np.random.default_rng(seed), strength) for seed in range(200)]
        assert 2.5 * strength < max(abs(each["semitones"]) for each in drawn) <= 3 * strength
        assert 0.08 * strength < max(abs(each["stretch"] - 1) for each in drawn) <= 0.1001 * strength
        assert 0.4 * strength < max(each["room_s"] for each in drawn) <= 0.5 * strength
        assert 50 - 40 * strength <= min(each["snr_db"] for each in drawn) < 50 - 36 * strength


def test_a_recipe_of_pictures_depends_on_what_it_did_before() -> None:
    pictures = {"variants": None, "crop": 0.15, "colour": 0.3, "blur": 1.0, "jpeg": 40}
    sound = {"semitones": 2.0, "stretch": 0.15, "room_s": 0.4, "snr_db": 20.0}
    assert ClassicSettings(variants=3).used() == pictures
    assert ClassicSettings(tracks=("audio",), crop=0.3).used() == {"sound": sound}
    both = ClassicSettings(tracks=("video", "audio"))
    assert both.used() == pictures | {"sound": sound}
    assert AugmentConfig(classic=ClassicSettings(tracks=("audio", "video"))).replaces("classic") == (
        "video",
        "audio",
    )
    assert ClassicSettings(tracks=("audio", "video")).used() == both.used()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassicSoundSettings(semitones=13), r"sound\.semitones: 13 is outside \[0, 12\]"),
        (lambda: ClassicSoundSettings(snr_db=51), r"sound\.snr_db: 51 is outside \[-10, 50\]"),
        (lambda: ClassicSettings(tracks=()), r"tracks: got \[\]; take video, audio, or each of them once"),
        (lambda: ClassicSettings(tracks=("audio", "audio")), r"tracks: got \['audio', 'audio'\]"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
