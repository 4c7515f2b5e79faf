"""Audio variants: as long as their source, in another's voice, and made again from what they record."""

from __future__ import annotations

import json
import struct
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from augment.audio.flow_matching_converter import load_converter
from augment.audio.settings import AudioSettings
from augment.audio.variants import AudioVariants
from augment.audio.voice_bank import VoiceBank
from pipelines import media
from pipelines.errors import UsageError
from pipelines.row import media as in_row
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
        encoded, details = maker(row, seed=5)
        source, made = media.read_audio(row["audio"]["bytes"]), media.read_audio(encoded)
        assert made.shape == source.shape
        assert made.std() == pytest.approx(source.std(), rel=0.02)
        assert details["target_speaker"] != row["group"]


def test_what_is_recorded_is_json_and_the_seed_decides_everything(
    maker: AudioVariants, reader: StoreReader
) -> None:
    row = reader.row(0)
    first, details = maker(row, seed=5)
    again, same_details = maker(row, seed=5)
    other, _ = maker(row, seed=6)
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
        maker(row, seed=5)


def wav(samples: np.ndarray, sampling_rate: int) -> bytes:
    """A WAV file of float32 samples (channels, samples)."""
    data = samples.T.astype("<f4").tobytes()
    channels = len(samples)
    header = struct.pack(
        "<HHIIHH", 3, channels, sampling_rate, 4 * channels * sampling_rate, 4 * channels, 32
    )
    chunks = (
        b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    )
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@pytest.mark.parametrize("sampling_rate", [8_000, 48_000])
def test_a_stereo_voice_is_heard_as_the_mean_of_its_channels(
    maker: AudioVariants, reader: StoreReader, tmp_path: Path, sampling_rate: int
) -> None:
    voice = voiced(1.0, 200, sampling_rate)
    for name, channels in (("mono", [voice]), ("stereo", [1.5 * voice, 0.5 * voice])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.wav").write_bytes(wav(np.stack(channels), sampling_rate))
    made, heard = [], []
    for name in ("mono", "stereo"):
        settings = replace(maker.settings, voices=str(tmp_path / name))
        other = copy(maker)
        other.settings, other.bank = settings, VoiceBank(settings, reader)
        heard.append(other.bank.draw(reader.row(0), np.random.default_rng(5)).samples)
        made.append(media.read_audio(other(reader.row(0), seed=5)[0]))
    np.testing.assert_allclose(*heard, atol=1e-6)
    assert np.corrcoef(*made)[0, 1] > 0.999


def test_a_voice_that_is_not_finite_is_refused(
    maker: AudioVariants, reader: StoreReader, tmp_path: Path
) -> None:
    voice = voiced(1.0, 200)
    voice[5_000] = np.nan
    (tmp_path / "broken.wav").write_bytes(wav(voice[None], 16_000))
    other = copy(maker)
    other.settings = replace(maker.settings, voices=str(tmp_path))
    other.bank = VoiceBank(other.settings, reader)
    with pytest.raises(ValueError, match=r"the voice broken \(broken\.wav\): 1 of 16000 samples are"):
        other(reader.row(0), seed=5)
    assert other.bank.pitch_difference("speaker 0", "broken") is None


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"augment\.audio\.model: .*nowhere.* cannot be loaded"):
        load_converter(str(tmp_path / "nowhere"), None, "cpu")


@pytest.mark.parametrize(
    "changes",
    [{"variants": -1}, {"steps": 0}, {"guidance_scale": -0.1}, {"batch_size": 0}, {"reference_s": 0.5}],
)
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))}: .* is too small"):
        AudioSettings(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"temperature: 1.5 is outside \[0, 1\]"):
        AudioSettings(temperature=1.5)
