"""What is measured of a voice converter: perfect for a copy, and telling where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from augment.audio.flow_matching_converter import load_converter
from benchmarks.voice_conversion.metrics import Models, figures
from benchmarks.voice_conversion.pairs import UNLIKE_OCTAVES, Converted, convert, of_folder, of_puppets
from benchmarks.voice_conversion.quality import draw_sheet
from pipelines.errors import UsageError
from pipelines.media import encode_audio
from tests.tiny_voices import voiced

LOW, HIGH = voiced(1.0, 110), voiced(1.0, 220)
COPY = Converted(
    source=LOW, reference=HIGH, source_voice=(LOW,), target_voice=(HIGH, HIGH), truth=HIGH, result=LOW,
    text="Well, a low voice!", seconds=0.5,
)  # fmt: skip


def by_pitch(sound: np.ndarray) -> np.ndarray:
    """A speaker's vector that knows nothing but which of the two sounds is nearer."""
    peak = np.abs(np.fft.rfft(sound)).argmax() / len(sound) * 16_000
    return np.array([1.0, 0.0]) if peak < 160 else np.array([0.0, 1.0])


def test_a_copy_keeps_everything_and_is_nobody_else() -> None:
    made = figures([COPY], Models(speaker=by_pitch))
    assert made["pitch_correlation"] == pytest.approx(1)
    assert made["energy_correlation"] == pytest.approx(1)
    assert made["mel_distance"] == made["mel_distance_source"] > 0.05
    assert made["real_time_factor"] == 0.5
    assert (made["nearer_target"], made["truth_nearer_target"]) == (0, 1)


def test_the_truth_is_at_no_distance_and_nearer_to_the_target() -> None:
    made = figures([replace(COPY, result=HIGH)], Models(speaker=by_pitch))
    assert made["mel_distance"] == 0
    assert made["nearer_target"] == 1


def test_another_manner_is_told() -> None:
    backwards = np.ascontiguousarray(LOW[::-1])
    fading = (LOW * np.linspace(1, 0.02, len(LOW))).astype(np.float32)
    assert figures([replace(COPY, result=backwards)], Models())["pitch_correlation"] < 0
    assert figures([replace(COPY, result=fading)], Models())["energy_correlation"] < 0.8


def test_words_are_counted_against_what_was_said_or_understood_of_the_source() -> None:
    def understood(sound: np.ndarray) -> str:
        return "well a low" if by_pitch(sound)[0] else "a high voice"

    known = figures([COPY, replace(COPY, result=HIGH)], Models(words=understood))
    assert (known["word_errors"], known["word_errors_source"]) == (0.375, 0.25)
    unknown = figures([replace(COPY, text=None, result=HIGH)], Models(words=understood))
    assert (unknown["word_errors"], unknown["word_errors_source"]) == (1.0, 0.0)


def test_without_judges_and_truth_their_figures_are_left_out() -> None:
    assert set(figures([replace(COPY, truth=None)], Models())) == {
        "pitch_correlation", "energy_correlation", "real_time_factor",
    }  # fmt: skip


def test_puppets_say_a_sentence_together_and_other_sentences_apart() -> None:
    (pair,) = of_puppets(1, 3, "unlike")
    assert pair.truth is not None
    assert len(pair.source) == len(pair.truth)
    assert len(pair.source_voice) == len(pair.target_voice) == 5
    # Moods and liveliness move a sentence's pitch, so voices are told apart by several.
    low, high = sorted(
        np.median([_pitch(sound) for sound in heard]) for heard in (pair.source_voice, pair.target_voice)
    )
    assert high - low > UNLIKE_OCTAVES - 0.1
    assert np.array_equal(pair.source, next(of_puppets(1, 3, "unlike")).source)


def _pitch(sound: np.ndarray) -> float:
    import torch

    from augment.voice_conversion import pitch

    return pitch.median_log_f0(pitch.track(torch.from_numpy(sound)))


def test_recordings_of_a_folder_are_paired_across_speakers(tmp_path: Path) -> None:
    for name, hertz in (("anna/1", 220), ("anna/2", 230), ("ben", 110)):
        file = tmp_path / f"{name}.flac"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(encode_audio(voiced(1.0, hertz)))
    for pair in of_folder(tmp_path, 4, 0):
        low = _pitch(pair.source) < 7.4
        assert (_pitch(pair.reference) < 7.4) != low
        assert all((_pitch(sound) < 7.4) == low for sound in pair.source_voice)
        assert np.array_equal(pair.source_voice[0], pair.source) == low  # ben has nothing else
        assert pair.truth is pair.text is None
    (tmp_path / "ben.flac").unlink()
    with pytest.raises(UsageError, match=r"--speech: .* has one speaker; give a folder of two or more"):
        next(of_folder(tmp_path, 1, 0))


def test_the_shipped_converter_keeps_the_manner_and_comes_nearer_to_the_target() -> None:
    converter = load_converter("embedded", None, "cpu")
    pairs = [
        convert(converter, pair, seed=0, num_inference_steps=10, guidance_scale=0.7, temperature=0.0)
        for pair in of_puppets(5, 5, "unlike")
    ]
    found = figures(pairs, Models())
    assert found["energy_correlation"] >= 0.9
    assert found["mel_distance"] < 0.8 * found["mel_distance_source"]
    # Not the mean: one frame that the tracker hears an octave off takes 0.2 from a pair, the truth's too.
    octaves = [_octaves_off_the_contour(pair) for pair in pairs]
    assert max(octaves) < 0.05


def _octaves_off_the_contour(pair: Converted) -> float:
    """Median over frames voiced in both of how far the result's pitch is from the source's, moved to it."""
    import torch

    from augment.voice_conversion import pitch

    source, result = (pitch.track(torch.from_numpy(sound)) for sound in (pair.source, pair.result))
    both = (source > 0) & (result > 0)
    apart = result[both].log2() - source[both].log2()
    return float((apart - apart.median()).abs().median())


def test_the_command_prints_figures_and_draws_a_sheet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.voice_conversion.quality", "--pairs", "1", "--steps", "1"]
    done = subprocess.run([*command, "--sheet", str(tmp_path / "sheet.png")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pitch_correlation"] > 0.5
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    draw_sheet([replace(COPY, truth=None)], tmp_path / "without_truth.png")
    assert (tmp_path / "without_truth.png").stat().st_size > 5_000
