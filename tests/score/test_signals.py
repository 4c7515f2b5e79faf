"""Each signal: 1 or 0 for a copy, unmoved by what a good variant changes, lower with corruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scorer.audio_faults import lost_packets, overdriven
from benchmarks.scorer.corruptions import CORRUPTIONS
from benchmarks.scorer.harmless import raised
from pipelines.media import read_audio, read_video
from score.media.audio import AudioTrack
from score.media.clip import Clip
from score.media.video import MAX_SIDE, VideoTrack
from score.signals.catalogue import JUDGED, SIGNALS, measure
from tests.score.clips import (
    RANGES,
    blurred,
    noisy,
    restyled,
    shuffled,
    talking,
    voice,
    with_frames,
    with_noise,
)

ALL = ("video", "audio", "cross")
TIMING = ("video_length", "audio_length", "video_delay", "audio_delay")
MEASURED = {name: signal for name, signal in SIGNALS.items() if signal.measure and signal.model is None}


@pytest.fixture(scope="module")
def clip() -> Clip:
    return talking(1)


@pytest.fixture(scope="module")
def real(shared: Path) -> Clip:
    """Three seconds of a real speaker."""
    path = shared / "media" / "grid_corpus" / "Raw" / "speaker_03" / "lbax4n.mpg"
    return Clip(VideoTrack(read_video(path, max_side=MAX_SIDE).frames, 25.0), AudioTrack(read_audio(path)))


def frames(clip: Clip) -> np.ndarray:
    assert clip.video is not None
    return clip.video.frames


def samples(clip: Clip) -> np.ndarray:
    assert clip.audio is not None
    return clip.audio.samples


def heard(samples: np.ndarray, like: Clip) -> Clip:
    return Clip(like.video, AudioTrack(samples.astype(np.float32)))


def falling(values: list[float]) -> bool:
    return all(np.diff(values) < 0)


def test_a_copy_keeps_everything_and_is_not_new(clip: Clip) -> None:
    copy = Clip(VideoTrack(frames(clip).copy(), clip.video.fps), AudioTrack(samples(clip).copy()))
    values = measure(copy, clip, ALL)
    best = ("audio_clarity", "audio_dropouts", "cross_sync", "video_novelty", "audio_novelty", *TIMING)
    for name in MEASURED:
        assert values[name] == pytest.approx(0.0 if name in best else 1.0, abs=1e-5), name


def test_values_stay_in_their_ranges(clip: Clip) -> None:
    others = [
        talking(2),
        with_frames(clip, noisy(frames(clip), 60)),
        heard(with_noise(samples(clip), -10), clip),
    ]
    for other in others:
        values = measure(other, clip, ALL)
        for name, (low, high) in RANGES.items():
            assert np.isnan(values[name]) or low - 1e-5 <= values[name] <= high + 1e-5, name


def test_only_the_modalities_asked_for_are_measured(clip: Clip) -> None:
    for modalities in JUDGED.values():
        values = measure(clip, clip, modalities)
        told = {name for name, value in values.items() if np.isfinite(value)}
        assert told == {name for name, signal in MEASURED.items() if signal.modality in modalities}


def test_a_new_style_is_good_and_new(clip: Clip) -> None:
    values = measure(with_frames(clip, restyled(frames(clip))), clip, ("video", "cross"))
    assert values["video_structure"] > 0.9
    assert values["video_motion"] > 0.9
    assert values["video_flicker"] > 0.7
    assert values["cross_sync"] > -0.1
    assert values["video_novelty"] > 0.05


CORRUPTED = {
    "noise": (lambda f, grade: noisy(f, 6 * grade), ("video_flicker", "video_structure")),
    "blur": (lambda f, grade: blurred(f, 1 + 0.8 * grade), ("video_sharpness", "video_structure")),
    "shuffle": (lambda f, grade: shuffled(f, grade / 5), ("video_motion",)),
    "shift": (lambda f, grade: np.roll(f, grade, axis=0), ("cross_sync",)),
}


@pytest.mark.parametrize("corruption", CORRUPTED)
def test_corruption_of_the_video_lowers_its_signals(clip: Clip, corruption: str) -> None:
    corrupt, names = CORRUPTED[corruption]
    grades = [measure(with_frames(clip, corrupt(frames(clip), grade)), clip, ALL) for grade in (1, 2, 3)]
    best = measure(clip, clip, ALL)
    for name in names:
        assert falling([best[name], *(values[name] for values in grades)]), name


@pytest.mark.parametrize("corruption", ["noise", "blur"])
def test_corruption_of_a_real_video_lowers_its_signals(real: Clip, corruption: str) -> None:
    corrupt, names = CORRUPTED[corruption]
    corrupted = [Clip(VideoTrack(corrupt(frames(real), grade), 25.0), real.audio) for grade in (1, 3, 5)]
    grades = [measure(each, real, ALL) for each in corrupted]
    for name in names:
        assert falling([1.0, *(values[name] for values in grades)]), name


def test_grain_that_is_hardly_visible_is_no_flicker(real: Clip) -> None:
    still = np.repeat(frames(real)[:1], 20, axis=0)
    for source, grain, least in ((frames(real), 2, 0.75), (still, 1, 0.5)):
        track = VideoTrack(source, 25.0)
        assert SIGNALS["video_flicker"].measure(VideoTrack(noisy(source, grain), 25.0), track) > least


def test_a_frozen_picture_has_lost_its_motion(clip: Clip) -> None:
    frozen = np.repeat(frames(clip)[:1], len(frames(clip)), axis=0)
    values = measure(with_frames(clip, frozen), clip, ("video", "cross"))
    assert values["video_motion"] == pytest.approx(0, abs=1e-3)
    assert values["video_flicker"] < 0.3
    assert values["cross_sync"] < -0.5


def test_a_higher_voice_keeps_its_contours_and_a_monotone_does_not() -> None:
    source = Clip(None, AudioTrack(voice(4)))
    higher = measure(Clip(None, AudioTrack(voice(4, factor=1.4))), source, ("audio",))
    flat = measure(Clip(None, AudioTrack(voice(4, flat=True))), source, ("audio",))
    assert higher["audio_pitch"] > 0.9
    assert flat["audio_pitch"] < 0.2
    assert higher["audio_energy"] > 0.97
    assert flat["audio_energy"] > 0.97


def test_half_of_the_pitch_range_costs_what_the_formula_says() -> None:
    source = Clip(None, AudioTrack(voice(4)))
    narrower = Clip(None, AudioTrack(voice(4)))
    pitch = source.audio.pitch
    narrower.audio.__dict__["pitch"] = np.nanmean(pitch) + 0.5 * (pitch - np.nanmean(pitch))
    assert SIGNALS["audio_pitch"].measure(narrower.audio, source.audio) == pytest.approx(0.8, abs=1e-6)


def test_a_frame_that_the_tracker_takes_an_octave_wrong_costs_little() -> None:
    source, variant = Clip(None, AudioTrack(voice(4))), Clip(None, AudioTrack(voice(4)))
    pitch = source.audio.pitch
    wrong = np.flatnonzero(np.isfinite(pitch))[10:14]
    found = []
    for octaves in (1.0, 2.0):
        variant.audio.__dict__["pitch"] = pitch.copy()
        variant.audio.__dict__["pitch"][wrong] += octaves
        found.append(SIGNALS["audio_pitch"].measure(variant.audio, source.audio))
    assert found[0] == found[1] > 0.85


@pytest.mark.parametrize("which", ["drawn", "real"])
def test_graded_noise_lowers_every_signal_of_the_sound(which: str, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue("clip" if which == "drawn" else "real")
    graded = [source, *(heard(with_noise(samples(source), ratio), source) for ratio in (15, 5, -5))]
    values = [measure(each, source, ("audio",)) for each in graded]
    for name in ("audio_pitch", "audio_energy", "audio_articulation", "audio_clarity"):
        assert falling([each[name] for each in values]), name


@pytest.mark.parametrize("which", ["drawn", "real"])
@pytest.mark.parametrize("name", ["noise in the sound", "clipping", "band loss"])
def test_graded_loss_of_sound_lowers_its_clarity(
    which: str, name: str, request: pytest.FixtureRequest
) -> None:
    source, corruption = request.getfixturevalue("clip" if which == "drawn" else "real"), CORRUPTIONS[name]
    rng, severities = np.random.default_rng, corruption.severities[::2]
    corrupted = [corruption.change(samples(source), severity, rng(0)) for severity in severities]
    values = [measure(heard(made, source), source, ("audio",))["audio_clarity"] for made in corrupted]
    assert falling([0.0, *values])


def test_neither_a_gain_nor_another_pitch_costs_clarity(real: Clip) -> None:
    quieter = measure(heard(0.5 * samples(real), real), real, ("audio",))["audio_clarity"]
    assert quieter == pytest.approx(0, abs=0.2)
    rng = np.random.default_rng(0)
    higher = measure(heard(raised(samples(real), 1.3, rng), real), real, ("audio",))["audio_clarity"]
    clipped = measure(heard(overdriven(samples(real), 12, rng), real), real, ("audio",))["audio_clarity"]
    assert clipped < 2 * higher < 0


def test_a_single_hole_is_a_dropout_and_a_gain_or_another_pitch_is_none(real: Clip) -> None:
    def dropouts(made: np.ndarray) -> float:
        return measure(heard(made, real), real, ("audio",))["audio_dropouts"]

    own = samples(real)
    loudest = int(np.convolve(own * own, np.ones(1600), "valid").argmax())
    hole = own.copy()
    hole[loudest : loudest + 1600] = 0
    lost = [lost_packets(own, share, np.random.default_rng(1)) for share in (0.1, 0.3, 0.7)]
    assert -20 <= dropouts(hole) < -15
    assert falling([dropouts(own), *map(dropouts, lost)])
    assert dropouts(0.25 * own) == pytest.approx(0, abs=0.1)
    assert dropouts(raised(own, 1.3, np.random.default_rng(0))) > -8


def test_other_words_are_noticed() -> None:
    source, other = (Clip(None, AudioTrack(voice(seed))) for seed in (5, 6))
    assert measure(other, source, ("audio",))["audio_articulation"] < 0.7
    assert measure(source, source, ("audio",))["audio_articulation"] == pytest.approx(1.0)


def test_the_other_track_moves_no_signal_of_this_one(clip: Clip) -> None:
    corrupted = Clip(
        VideoTrack(noisy(frames(clip), 40), clip.video.fps), AudioTrack(with_noise(samples(clip), 0))
    )
    video_only = with_frames(clip, frames(corrupted))
    audio_only = heard(samples(corrupted), clip)
    assert measure(corrupted, clip, ("audio",)) == pytest.approx(
        measure(audio_only, clip, ("audio",)), nan_ok=True
    )
    assert measure(corrupted, clip, ("video",)) == pytest.approx(
        measure(video_only, clip, ("video",)), nan_ok=True
    )


def test_what_cannot_be_told_is_nan_and_what_is_lost_is_bad(clip: Clip) -> None:
    silent = heard(np.zeros_like(samples(clip)), clip)
    still = with_frames(clip, np.repeat(frames(clip)[:1], 20, axis=0))
    assert np.isnan(measure(silent, silent, ("audio",))["audio_pitch"])
    assert np.isnan(measure(clip, silent, ("cross",))["cross_sync"])
    assert np.isnan(measure(clip, still, ("video",))["video_motion"])
    lost = measure(silent, clip, ("audio", "cross"))
    assert lost["audio_pitch"] == 0
    assert lost["audio_energy"] == pytest.approx(0, abs=1e-6)
    assert lost["cross_sync"] < -0.3


def test_frames_that_show_nothing_do_not_count(clip: Clip) -> None:
    shown = frames(clip)
    faded = with_frames(clip, np.concatenate([np.zeros_like(shown[:8]), shown]))
    assert measure(faded, faded, ("video",))["video_structure"] == pytest.approx(1)
    lost = with_frames(clip, np.concatenate([np.zeros_like(shown[:8]), shown[:4], np.zeros_like(shown[4:])]))
    assert measure(lost, faded, ("video",))["video_structure"] == pytest.approx(4 / len(shown))
    black = with_frames(clip, np.zeros_like(shown))
    assert np.isnan(measure(black, black, ("video",))["video_structure"])


def test_a_clip_of_one_frame_or_without_a_track_is_no_error(clip: Clip) -> None:
    single = with_frames(clip, frames(clip)[:1])
    values = measure(single, single, ALL)
    assert np.isnan(values["video_flicker"])
    assert values["video_structure"] == pytest.approx(1)
    deaf = Clip(clip.video, None)
    values = measure(deaf, deaf, ALL)
    assert np.isnan([values["audio_pitch"], values["cross_sync"]]).all()
    assert values["video_motion"] == pytest.approx(1)
