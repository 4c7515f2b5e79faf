"""Audio variants: as long as their source, in another's voice, and made again from what they record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from augment.audio_variants import AudioVariants, load_converter
from augment.settings import AudioSettings
from augment.voices import VoiceBank
from pipelines import media
from pipelines.errors import UsageError
from pipelines.sample import media as in_row
from pipelines.store import StoreReader
from tests import tiny
from tests.tiny_voices import converter, voiced

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    sounds = [voiced(0.8, 110), voiced(0.9, 220), voiced(1.3, 160), np.zeros(8_000, np.float32)]
    rows = [
        tiny.row(number, group=f"speaker {number}", audio=in_row(media.encode_audio(sound)))
        for number, sound in enumerate(sounds)
    ]
    return StoreReader(tiny.store(tmp_path_factory.mktemp("store"), rows[:3]))


@pytest.fixture(scope="module")
def maker(reader: StoreReader, tmp_path_factory: pytest.TempPathFactory) -> AudioVariants:
    folder = tmp_path_factory.mktemp("converter")
    converter().save_pretrained(folder)
    settings = AudioSettings(model=str(folder), steps=2)
    return AudioVariants(settings, "cpu", VoiceBank(settings, reader))


def test_a_variant_is_as_long_and_as_loud_as_its_source(maker: AudioVariants, reader: StoreReader) -> None:
    for index in range(3):
        row = reader.row(index)
        encoded, details = maker(row, 0, seed=5)
        source, made = media.read_audio(row["audio"]["bytes"]), media.read_audio(encoded)
        assert made.shape == source.shape
        assert made.std() == pytest.approx(source.std(), rel=0.02)
        assert details["target_speaker"] != row["group"]


def test_what_is_recorded_is_json_and_the_seed_decides_everything(
    maker: AudioVariants, reader: StoreReader
) -> None:
    row = reader.row(0)
    first, details = maker(row, 0, seed=5)
    again, same_details = maker(row, 0, seed=5)
    other, _ = maker(row, 1, seed=6)
    assert first == again
    assert details == same_details == json.loads(json.dumps(details))
    assert first != other
    wanted = {"method", "model", "steps", "guidance_scale", "target_speaker", "reference", "reference_sha256"}
    assert wanted < set(details)
    # From the lower voice to a higher one the contour moves up by what lies between them.
    assert 0.3 < details["pitch_shift_octaves"] < 1.2


def test_silence_is_refused_with_the_reason(maker: AudioVariants, reader: StoreReader) -> None:
    row = reader.row(0) | {"audio": in_row(media.encode_audio(np.zeros(8_000, np.float32)))}
    with pytest.raises(ValueError, match="audio: silent"):
        maker(row, 0, seed=5)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"augment\.audio\.model: .*nowhere.* cannot be loaded"):
        load_converter(str(tmp_path / "nowhere"), None, "cpu")


@pytest.mark.parametrize(
    "changes", [{"variants": -1}, {"steps": 0}, {"guidance_scale": -0.1}, {"reference_s": 0.5}]
)
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))}: .* is too small"):
        AudioSettings(**changes)  # type: ignore[arg-type]
