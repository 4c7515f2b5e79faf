"""Models by name: real architectures, tiny and with random weights, through their real loaders."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipelines.errors import UsageError
from pipelines.media import read_audio, read_video
from score.media.audio import AudioTrack
from score.media.clip import Clip, video_track
from score.media.video import MODEL_SIDE, Pixels
from score.models import loading
from score.models.faces import FaceFinder, load_face
from score.models.images import load_expression
from score.models.quality import SpeechQuality, load_quality
from score.models.speech import load_speech
from score.signals.catalogue import SIGNALS, measure, of_models
from tests import tiny_encoders, tiny_observers
from tests.score.clips import FPS, RANGES, noisy, talking, with_noise
from tests.score.detector import Detector, picture

TINY = {
    "image": tiny_observers.clip,
    "expression": tiny_observers.expression,
    "emotion": tiny_observers.emotion,
    "speaker": tiny_observers.speaker,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, build in TINY.items():
        build(root / name)
    tiny_observers.siglip(root / "siglip")
    tiny_observers.whisper(root / "whisper")
    tiny_observers.moonshine(root / "moonshine")
    tiny_observers.ctc(root / "ctc")
    return root


def watched(seed: int) -> Clip:
    clip = talking(seed)
    assert clip.video is not None
    assert clip.audio is not None
    return Clip(video_track(clip.video.frames, FPS, max_side=MODEL_SIDE), AudioTrack(clip.audio.samples))


@pytest.mark.parametrize(
    ("name", "model", "best"),
    [
        ("video_content", "image", 1.0),
        ("video_content", "siglip", 1.0),
        ("video_expression", "expression", 1.0),
        ("audio_emotion", "emotion", 1.0),
        ("audio_speaker", "speaker", 0.0),
    ],
)
def test_a_copy_is_best_and_another_clip_is_worse(folder: Path, name: str, model: str, best: float) -> None:
    extractors = loading.load({SIGNALS[name].model: str(folder / model)}, "cpu")
    modalities = (SIGNALS[name].modality,)
    copy, other = (measure(watched(seed), watched(1), modalities, extractors)[name] for seed in (1, 2))
    assert copy == pytest.approx(best, abs=1e-5)
    assert abs(other - best) > 1e-4
    low, high = RANGES[name]
    assert low <= other <= high


def test_a_model_that_is_not_set_tells_nothing_and_the_rest_stays(folder: Path) -> None:
    plain = measure(watched(2), watched(1), ("video", "audio"))
    found = measure(watched(2), watched(1), ("video", "audio"), loading.load({}, "cpu"))
    assert found == pytest.approx(plain, nan_ok=True)
    assert all(np.isnan(found[name]) for name in of_models(loading.LOADERS))


def test_what_a_model_saw_depends_on_the_clip_alone(folder: Path) -> None:
    extractors = loading.load({"image": str(folder / "image")}, "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (40, 40, 40, 3), dtype=np.uint8)
    embedder = extractors["image"]
    whole = embedder(Pixels(frames, 2.0))
    apart = np.concatenate([embedder(Pixels(frame[None], 2.0)) for frame in frames])
    np.testing.assert_allclose(whole, apart, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    assert len(embedder(Pixels(frames, 25.0))) == 4  # every twelfth


def test_the_expression_is_that_of_the_face_where_faces_are_found(folder: Path) -> None:
    places = [(8, 8, 40, 48), None, (8, 8, 40, 48)]
    pixels = Pixels(picture(places, [0.2, 0.2, 0.9]), 12.5)
    aware = load_expression(str(folder / "expression"), "cpu", FaceFinder(Detector()))(pixels)
    whole = load_expression(str(folder / "expression"), "cpu", None)(pixels)
    assert np.isnan(aware).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(aware[[0, 2]].sum(axis=1), 1, atol=1e-5)
    assert np.isfinite(whole).all()
    assert np.abs(aware[0] - whole[0]).max() > 1e-3


@pytest.mark.parametrize("kind", ["whisper", "moonshine", "ctc"])
def test_a_recogniser_hears_the_same_twice_and_nothing_in_silence(folder: Path, kind: str) -> None:
    recogniser = load_speech(str(folder / kind), "cpu")
    sound = watched(1).audio
    assert sound is not None
    said = recogniser(AudioTrack(sound.samples, language="en"))
    assert said
    assert recogniser(AudioTrack(sound.samples.copy(), language="en")) == said
    assert recogniser(AudioTrack(np.zeros(16_000, dtype=np.float32))) == ""


def test_a_recogniser_of_many_languages_is_told_which_and_hears_long_sounds_in_pieces(folder: Path) -> None:
    recogniser = load_speech(str(folder / "whisper"), "cpu")
    assert recogniser._options("de-AT") == {"generate_kwargs": {"language": "de", "task": "transcribe"}}
    assert recogniser._options("fi") == recogniser._options(None) == {}
    assert load_speech(str(folder / "ctc"), "cpu")._options("de") == {}
    pieces: list[int] = []

    def hear(piece: dict[str, np.ndarray], **_: object) -> dict[str, str]:
        pieces.append(len(piece["raw"]))
        return {"text": "so"}

    hear.model = recogniser.pipeline.model  # type: ignore[attr-defined]
    assert type(recogniser)(hear)(AudioTrack(np.ones(40 * 16_000, dtype=np.float32))) == "so so"
    assert pieces == [30 * 16_000, 10 * 16_000]


@pytest.mark.parametrize(
    ("setting", "name", "message"),
    [
        ("image", "nobody/nothing", r"score\.models\.image: 'nobody/nothing' cannot be loaded .*leave image"),
        ("speech", "nobody/nothing", r"score\.models\.speech: 'nobody/nothing' cannot be loaded"),
        ("image", "vit", r"score\.models\.image: .* ViTModel, which has no image embedding; choose CLIP"),
        ("expression", "vit", r"score\.models\.expression: .* has no weights for 2 parts .*classifier"),
        ("emotion", "wavlm", r"score\.models\.emotion: .* has no weights for .*would be random"),
        ("speech", "vit", r"score\.models\.speech: .* cannot be loaded"),
        ("image", "broken", r"score\.models\.image: .* cannot be loaded \(.*hidden_size"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_by_its_setting(
    setting: str, name: str, message: str, tmp_path: Path
) -> None:
    if name == "vit":
        name = str(tiny_encoders.video(tmp_path, "vit"))
    elif name == "broken":
        name = str(tiny_observers.clip(tmp_path))
        config = json.loads((tmp_path / "config.json").read_text())
        config["vision_config"]["hidden_size"] = "wide"
        (tmp_path / "config.json").write_text(json.dumps(config))
    elif name == "wavlm":
        name = str(tiny_encoders.audio(tmp_path, "wavlm"))
    with pytest.raises(UsageError, match=message):
        loading.load({setting: name}, "cpu")


def test_a_missing_package_is_said_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    names = {"image": "a/b", "face": "mtcnn", "expression": "c/d", "quality": "dnsmos"}
    found = loading.unavailable(names)
    assert set(found) == {"face", "expression", "quality"}
    assert found["face"].endswith("needs facenet-pytorch, not installed here; pip install 'daq-msa[score]'")
    assert found["expression"] == found["face"]
    assert "speechmos and onnxruntime" in found["quality"]
    assert found["quality"].endswith("pip install 'daq-msa[score]'")
    monkeypatch.setattr(loading, "find_spec", lambda name: object())
    assert loading.unavailable(names) == {}


def test_a_folder_is_told_apart_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("1")
    names = {"image": str(tmp_path), "speech": "openai/whisper-small"}
    before = loading.identity(names)
    (tmp_path / "config.json").write_text("2")
    after = loading.identity(names)
    assert before["image"] != after["image"]
    assert before["speech"] == after["speech"] == "openai/whisper-small"


def test_the_detector_and_the_rating_are_loaded_by_their_packages_interfaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    stand_in = ModuleType("facenet_pytorch")
    stand_in.MTCNN = Detector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "facenet_pytorch", stand_in)
    assert isinstance(load_face("mtcnn", "cpu").detector, Detector)
    (tmp_path / "speechmos").mkdir()
    (tmp_path / "speechmos" / "__init__.py").write_text("raise ImportError('needs librosa')")
    monkeypatch.syspath_prepend(str(tmp_path))
    opened: list[str] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, *_, **__: opened.append(path))
    load_quality("dnsmos", "cpu")
    assert opened == [str(tmp_path / "speechmos" / "dnsmos_models" / "sig_bak_ovr.onnx")]


def test_the_real_detector_finds_a_real_face(shared: Path) -> None:
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    path = shared / "media" / "grid_corpus" / "Raw" / "speaker_03" / "lbax4n.mpg"
    frames = read_video(path, fps=12.5, max_side=MODEL_SIDE).frames[:8]
    faces = load_face("mtcnn", "cpu")(Pixels(frames, 12.5))
    assert faces.there.all()
    left_eye, right_eye, nose, *mouth = faces.landmarks.mean(axis=0)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < mouth[0][1]
    blank = Pixels(noisy(np.full_like(frames, 90), 10), 12.5)
    assert not load_face("mtcnn", "cpu")(blank).there.any()


def test_the_real_rating_of_real_speech_falls_with_noise(shared: Path) -> None:
    if find_spec("speechmos") is None:
        pytest.skip("speechmos is not installed")
    samples = read_audio(shared / "media" / "grid_corpus" / "Raw" / "speaker_03" / "lbax4n.mpg")
    quality: SpeechQuality = load_quality("dnsmos", "cpu")
    ratings = [
        quality(AudioTrack(made)) for made in (samples, with_noise(samples, 10), with_noise(samples, 0))
    ]
    assert 5 > ratings[0] > ratings[1] > ratings[2] > 1
