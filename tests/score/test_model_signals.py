"""The signals of pre-trained models, given what the models saw and heard."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.word_errors import units
from score.calibrate import calibrate
from score.media.audio import AudioTrack
from score.media.clip import Clip
from score.media.similarity import agreement
from score.media.video import VideoTrack
from score.models.faces import FaceFinder, crop
from score.models.feature_extractors import extract
from score.models.quality import HOP, WINDOW, WORST, SpeechQuality, windowed
from score.signals import pretrained, pretrained_face
from score.signals.catalogue import measure
from tests.score.clips import voice, with_noise
from tests.score.detector import Detector, picture, seen

RNG = np.random.default_rng(0)
MOUTH = RNG.uniform(0, 1, 24)
WAY = [(16 + int(3 * np.sin(n)), 20 + int(2 * np.cos(1.7 * n))) for n in range(24)]
PLACES = [(left, top, left + 20, top + 24) for left, top in WAY]
OF_FACES = ("video_face", "video_landmarks", "video_mouth")


def faces(variant: Clip, source: Clip) -> dict[str, float]:
    extract({"face": FaceFinder(Detector())}, "face", (variant, source))
    measures = (pretrained_face.presence, pretrained_face.head_motion, pretrained_face.mouth_motion)
    return dict(zip(OF_FACES, (of(variant.video, source.video) for of in measures), strict=True))


def heard(model: str, observation: object, *, text: str = "", language: str | None = None) -> AudioTrack:
    sound = AudioTrack(voice(0, seconds=0.2), text, language)
    sound.extracted[model] = observation
    return sound


def looked_at(model: str, observation: object) -> VideoTrack:
    clip = seen(np.zeros((2, 8, 8, 3), dtype=np.uint8))
    assert clip.video.pixels is not None
    clip.video.pixels.extracted[model] = observation
    assert clip.video is not None
    return clip.video


@pytest.fixture
def source() -> Clip:
    return seen(picture(PLACES, MOUTH))


def test_a_copy_has_all_of_its_face(source: Clip) -> None:
    assert faces(seen(picture(PLACES, MOUTH)), source) == pytest.approx(dict.fromkeys(OF_FACES, 1.0))


def test_a_lost_face_is_bad_and_a_face_that_never_was_does_not_apply(source: Clip) -> None:
    none = seen(picture([None] * 24, MOUTH))
    assert faces(none, source) == dict.fromkeys(OF_FACES, 0.0)
    assert all(np.isnan(value) for value in faces(source, none).values())
    assert all(np.isnan(value) for value in faces(none, none).values())


def test_a_face_lost_in_half_of_the_frames_has_half_of_the_values(source: Clip) -> None:
    gone = [None if n % 2 else place for n, place in enumerate(PLACES)]
    assert faces(seen(picture(gone, MOUTH)), source) == pytest.approx(dict.fromkeys(OF_FACES, 0.5))


def test_a_face_of_half_the_size_is_half_found_whatever_the_picture_s_size(source: Clip) -> None:
    half = [(left, top, left + 10, top + 12) for left, top in WAY]
    assert faces(seen(picture(half, MOUTH)), source)["video_face"] == pytest.approx(0.5)
    twice = [tuple(2 * edge for edge in place) for place in PLACES]
    found = faces(seen(picture(twice, MOUTH, size=128)), source)  # type: ignore[arg-type]
    assert found == pytest.approx(dict.fromkeys(OF_FACES, 1.0), abs=1e-6)


def test_another_mouth_and_another_way_of_the_head_are_told_apart(source: Clip) -> None:
    other_mouth = faces(seen(picture(PLACES, RNG.permutation(MOUTH))), source)
    assert other_mouth["video_mouth"] < 0.6
    assert other_mouth["video_landmarks"] > other_mouth["video_mouth"] + 0.3
    other_way = faces(seen(picture([PLACES[n] for n in RNG.permutation(24)], MOUTH)), source)
    assert other_way["video_landmarks"] < 0.7
    assert other_way["video_mouth"] > 0.8


def test_a_doubtful_face_is_none() -> None:
    class Doubting(Detector):
        def _one(self, image: np.ndarray) -> tuple[object, object, object]:
            box, _, points = super()._one(image)
            return box, np.array([0.5]), points

    clip = seen(picture(PLACES, MOUTH))
    assert clip.video.pixels is not None
    assert not FaceFinder(Doubting())(clip.video.pixels).there.any()


def test_a_face_is_cut_out_with_its_margin_and_within_the_picture() -> None:
    frame = np.arange(40 * 60 * 3, dtype=np.int64).reshape(40, 60, 3)
    box = np.array([10, 10, 30, 30]) / 40
    assert np.array_equal(crop(frame, box, 0.1), frame[8:32, 8:32])
    assert crop(frame, np.array([-5, 30, 80, 90]) / 40, 0.1).shape == (16, 60, 3)
    assert crop(frame, np.array([90, 90, 99, 99]) / 40, 0.0).shape == (1, 1, 3)


def test_content_is_the_cosine_of_the_frames_that_both_have() -> None:
    a, b = np.eye(3)[[0, 1, 1]], np.eye(3)[[0, 1]]
    assert pretrained.content(looked_at("image", a), looked_at("image", b)) == 1
    assert pretrained.content(looked_at("image", np.eye(3)[[0, 2]]), looked_at("image", b)) == 0.5


def test_agreement_of_probabilities_has_its_known_values() -> None:
    sure, other, unsure = np.array([1.0, 0]), np.array([0, 1.0]), np.array([0.5, 0.5])
    assert agreement(sure, sure) == pytest.approx(1)
    assert agreement(sure, other) == pytest.approx(0)
    assert agreement(sure, unsure) == pytest.approx(1 - 0.311278, abs=1e-5)
    assert agreement(np.stack([sure, sure]), np.stack([sure, other])) == pytest.approx([1, 0])


def test_expression_counts_lost_faces_as_disagreement() -> None:
    sure, none = [1.0, 0.0], [np.nan, np.nan]
    known = looked_at("expression", np.array([sure, sure, none]))
    assert pretrained.expression(known, known) == 1
    assert pretrained.expression(looked_at("expression", np.array([sure, none, sure])), known) == 0.5
    assert np.isnan(pretrained.expression(known, looked_at("expression", np.array([none, none]))))


def test_emotion_and_speaker_do_not_apply_to_silence() -> None:
    sad, glad = heard("emotion", np.array([1.0, 0.0])), heard("emotion", np.array([0.0, 1.0]))
    assert pretrained.emotion(sad, sad) == 1
    assert pretrained.emotion(glad, sad) == pytest.approx(0)
    assert pretrained.emotion(heard("emotion", None), sad) == 0
    one, two = heard("speaker", np.array([1.0, 0.0])), heard("speaker", np.array([0.6, 0.8]))
    assert pretrained.speaker(one, one) == 0
    assert pretrained.speaker(two, one) == pytest.approx(0.4)
    assert np.isnan(pretrained.speaker(heard("speaker", None), one))


@pytest.mark.parametrize(
    ("found", "wanted", "language", "expected"),
    [
        ("It's a GOOD film!", "its a good film", "en", 0),
        ("a good film", "it is a good film", "en", 0.4),
        ("a bad film it is", "a good film", "en", 1),
        ("", "a good film", "en", 1),
        ("这部电影很好", "这部电影,很 好。", "zh", 0),
        ("这部电影不好", "这部电影很好", "zh-CN", 1 / 6),
        ("这部电影不好", "这部电影很好", "en", 1),
    ],
)
def test_errors_are_counted_in_words_or_characters(
    found: str, wanted: str, language: str, expected: float
) -> None:
    said = units(wanted, language)
    assert pretrained.error_rate(units(found, language), said) == pytest.approx(expected)


def test_words_are_judged_beyond_the_source_s_own_errors() -> None:
    text = "one two three four five six seven eight nine ten"
    source = heard("speech", "one two three four five six seven eight nine", text=text, language="en")
    assert pretrained.words(source, source) == 0
    assert pretrained.words(heard("speech", text), source) == 0
    assert pretrained.words(heard("speech", "one two three four"), source) == pytest.approx(-0.5)
    assert pretrained.words(heard("speech", ""), source) == pytest.approx(-0.9)


def test_words_do_not_apply_without_words_or_where_the_source_is_not_understood() -> None:
    for text, said in (("", "one"), ("?!", "one"), ("one two three", "something else")):
        assert np.isnan(pretrained.words(heard("speech", said), heard("speech", said, text=text)))


def test_no_signal_of_the_sound_applies_where_the_source_is_silent() -> None:
    silent = Clip(None, AudioTrack(np.zeros(9_600, dtype=np.float32), "one two"))
    models = {"speech": "one two", "quality": 3.0, "emotion": np.ones(1), "speaker": np.ones(1)}
    extractors = {name: lambda sound, told=told: told for name, told in models.items()}
    spoken = Clip(None, AudioTrack(voice(0), "one two"))
    assert all(np.isnan(value) for value in measure(spoken, silent, ("audio",), extractors).values())
    told = measure(silent, spoken, ("audio",), extractors)
    assert np.isfinite([told["audio_words"], told["audio_quality"], told["audio_clarity"]]).all()


class Session:
    """Takes what is rough for bad, as DNSMOS does for noise."""

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        windows = inputs["input_1"]
        assert windows.dtype == np.float32
        rough = np.abs(np.diff(windows, n=2, axis=1)).mean(axis=1) / np.abs(windows).mean(axis=1)
        return [np.stack([np.zeros(len(windows)), np.zeros(len(windows)), 3 - rough], axis=1)]


def test_quality_falls_with_noise_and_is_the_worst_in_silence() -> None:
    source = Clip(None, AudioTrack(voice(0)))
    noisy = [Clip(None, AudioTrack(with_noise(voice(0), ratio))) for ratio in (20, 10, 0)]
    silent = Clip(None, AudioTrack(np.zeros(9_600, dtype=np.float32)))
    extractors = {"quality": SpeechQuality(Session())}
    values = [
        measure(clip, source, ("audio",), extractors)["audio_quality"] for clip in (source, *noisy, silent)
    ]
    assert values[0] == 0
    assert all(np.diff(values) < 0), values
    assert silent.audio.extracted["quality"] == WORST  # type: ignore[union-attr]


def test_a_sound_is_rated_in_windows_of_nine_seconds_a_second_apart() -> None:
    short = np.arange(10_000, dtype=np.float32)
    assert np.array_equal(windowed(short), np.resize(short, WINDOW)[None])
    long = np.arange(WINDOW + 2 * HOP, dtype=np.float32)
    assert windowed(long)[:, 0].tolist() == [0, HOP, 2 * HOP]


def test_face_signals_need_enough_frames() -> None:
    few, enough = (seen(picture(PLACES[:count], MOUTH[:count])) for count in (4, 5))
    assert all(np.isnan(value) for value in faces(few, few).values())
    assert faces(enough, enough) == pytest.approx(dict.fromkeys(OF_FACES, 1.0))


def test_a_face_found_is_worth_the_same_on_every_corpus() -> None:
    pairs = {"video_face": [1.0] * 9, "video_content": [1.0] * 9}
    found = calibrate(pairs, {"video_face": [0.98] * 9, "video_content": [0.6] * 9})
    assert (found.signals["video_face"].bad, found.signals["video_face"].good) == (0.5, 0.9)
    assert found.signals["video_face"].basis == "default"
    assert (found.signals["video_content"].bad, found.signals["video_content"].basis) == (0.6, "corpus")
