"""A folder of speech to train a voice converter on: what is read of it, and the examples drawn from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from augment.training.voice.batches import Batch, draw_batch
from augment.training.voice.perturbation import coloured, perturbed_speech
from augment.training.voice.speech_corpus import Recordings, _disjoint, read_folder, split
from augment.voice_conversion import pitch
from augment.voice_conversion.mel import HOP, log_mel
from pipelines import media
from pipelines.errors import UsageError
from tests.tiny_voices import voiced

torch.set_num_threads(1)

HERTZ = {"low": 110.0, "middle": 160.0, "high": 230.0}


def put(file: Path, seconds: float, hertz: float = 150.0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(media.encode_audio(voiced(seconds, hertz)))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers of two files each, one with one file, and files that are of no use."""
    folder = tmp_path_factory.mktemp("speech")
    for name, hertz in HERTZ.items():
        put(folder / name / "a.flac", 2.0, hertz)
        put(folder / name / "b.flac", 2.4, hertz)
    put(folder / "alone.flac", 4.0, 300.0)
    put(folder / "low" / "short.flac", 1.0)
    put(folder / "guest.flac", 2.0)
    (folder / "high" / "broken.wav").write_text("no sound")
    (folder / "high" / "silent.flac").write_bytes(media.encode_audio(np.zeros(40_000, np.float32)))
    return folder


@pytest.fixture(scope="module")
def read(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("read") / "speech"
    read_folder(speech, out)
    return out


def test_files_of_no_use_are_told_of_and_left_out(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_folder(speech, tmp_path)
    said = capsys.readouterr()
    assert "speech: 7 of 11 files, 4 speakers, " in said.out
    assert "4 left out" in said.out
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    reasons = {failure["file"]: failure["error"] for failure in failures}
    assert "wanted a clip" in reasons["high/broken.wav"]
    assert "silent" in reasons["high/silent.flac"]
    assert reasons["low/short.flac"] == "1.01 s of speech; at least 1.60 s are needed"
    assert "in its speaker's only file; at least 2.88 s are needed" in reasons["guest.flac"]
    for name in reasons:
        assert f"speech: {name} is left out: " in said.out


def test_a_folder_is_read_once(speech: Path, read: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in read.iterdir()}
    read_folder(speech, read)
    assert {file.name: file.stat().st_mtime_ns for file in read.iterdir()} == before


def test_nothing_to_use_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"speech: .*nowhere is no folder; take puppets, or a folder"):
        read_folder(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "speech").mkdir()
    with pytest.raises(UsageError, match=r"speech: .* holds no \.wav"):
        read_folder(tmp_path / "speech", tmp_path / "out")
    (tmp_path / "speech" / "a.wav").write_text("no sound")
    with pytest.raises(UsageError, match=r"speech: none of the 1 files in .*failures\.jsonl tells why"):
        read_folder(tmp_path / "speech", tmp_path / "out")
    put(tmp_path / "speech" / "b.flac", 4.0)
    read_folder(tmp_path / "speech", tmp_path / "out")
    with pytest.raises(UsageError, match="speech: 1 usable files of 1 speakers are too few"):
        split(tmp_path / "out", seed=0)


def names(recordings: Recordings) -> set[tuple[str, str]]:
    return {(sound.speaker, sound.name) for spoken in recordings.speakers for sound in spoken}


def test_speakers_are_held_out_and_of_a_lone_one_files(read: Path, tmp_path: Path) -> None:
    trained, held_out = (names(part) for part in split(read, seed=0))
    assert not {speaker for speaker, _ in trained} & {speaker for speaker, _ in held_out}
    assert len(trained | held_out) == 7
    for number in range(5):
        put(tmp_path / "speech" / "anna" / f"{number}.flac", 1.8)
    read_folder(tmp_path / "speech", tmp_path / "out")
    trained, held_out = (names(part) for part in split(tmp_path / "out", seed=0))
    assert (len(trained), len(held_out), len(trained & held_out)) == (3, 2, 0)


def drawn(read: Path, *speakers: str, seed: int = 0) -> Batch:
    parts = split(read, seed=0)
    chosen = [
        sound for part in parts for spoken in part.speakers for sound in spoken if sound.speaker in speakers
    ]
    return draw_batch(Recordings(read, chosen), 8, np.random.default_rng(seed))


def test_an_example_is_a_recording_its_perturbation_and_another_stretch_of_the_voice(read: Path) -> None:
    batch = drawn(read, "low")
    assert batch.source.shape == batch.mel.shape == batch.prior_mel.shape
    assert batch.prompt.shape == batch.prompt_prior_mel.shape
    for samples, mel in ((batch.source_samples, batch.mel), (batch.prompt_samples, batch.prompt)):
        assert samples.shape[1] // HOP + 1 == mel.shape[1]
    for contour in (batch.pitch, batch.prompt_pitch):
        voices = contour[contour > 0].log2()
        assert 2 ** float(voices.median()) == pytest.approx(110, rel=0.12)
    # The source is of another pitch and timbre, the prior of the wanted pitch.
    assert ((batch.source - batch.mel).abs().mean((1, 2)) > 0.1).all()
    loudness = [(10**mel).sum(-1).log10() for mel in (batch.source, batch.mel)]
    for one, other in zip(*loudness, strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.9, "they are apart in time"


def test_a_stretchs_spectrogram_is_that_of_the_whole(read: Path) -> None:
    (spoken,) = (each for part in split(read, 0) for each in part.speakers if each[0].speaker == "alone")
    recordings = Recordings(read, spoken)
    whole = log_mel(torch.from_numpy(recordings.recording()))
    for start, frames in ((0, 70), (60, 90), (len(whole) - 80, 80)):
        near, mel, contour = recordings._stretch(spoken[0], start, frames)
        assert len(contour) == frames
        assert len(near) == (frames - 1 + 8) * HOP
        torch.testing.assert_close(mel, whole[start : start + frames], atol=2e-3, rtol=0)


@pytest.mark.parametrize("frames", [150, 151, 400])
def test_a_lone_recordings_stretches_have_no_frame_in_common(frames: int) -> None:
    rng = np.random.default_rng(0)
    firsts = set()
    for _ in range(50):
        start, prompt = _disjoint(rng, frames, 90, 60)
        assert 0 <= start <= frames - 90
        assert 0 <= prompt <= frames - 60
        assert start + 90 <= prompt or prompt + 60 <= start
        firsts.add(start < prompt)
    assert firsts == {False, True}


def test_a_lone_recording_is_its_own_reference(read: Path) -> None:
    batch = drawn(read, "alone")
    assert 2 ** float(batch.prompt_pitch[batch.prompt_pitch > 0].log2().median()) == pytest.approx(
        300, rel=0.12
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_a_perturbation_moves_pitch_and_colour_and_not_time_or_loudness(seed: int) -> None:
    sound = torch.from_numpy(voiced(1.5, 150))
    moved, octaves = perturbed_speech(sound, np.random.default_rng(seed))
    assert moved.shape == sound.shape
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.05, rel=0.01)
    apart = pitch.median_log_f0(pitch.track(moved)) - pitch.median_log_f0(pitch.track(sound))
    assert abs(octaves) > 0.02
    assert apart == pytest.approx(octaves, abs=0.02)


def test_the_equaliser_has_its_gains() -> None:
    noise = torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(coloured(noise, np.zeros(8)), noise, atol=1e-5, rtol=0)
    steep = coloured(noise, np.array([0, 0, 0, 0, 0, 0, 0, 12.0]))
    ratio = torch.fft.rfft(steep).abs() / torch.fft.rfft(noise).abs()
    assert ratio[0] == pytest.approx(1, abs=1e-3)
    assert ratio[-1] == pytest.approx(10 ** (12 / 20), rel=1e-3)
