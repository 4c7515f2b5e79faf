"""The stage with models set: columns, calibration, what is measured again, and what is looked at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import score.run
from pipelines.errors import UsageError
from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.row import Row
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader
from score import measurement, planning
from score.measurement import Comparison
from score.media.clip import Clip, analysis_fps, decode_video
from score.media.video import MAX_SIDE, MODEL_SIDE, Pixels
from score.models import loading
from score.run import SCORES, run
from score.settings import ScoreConfig
from score.signals.catalogue import SIGNALS, Signal, column, measure, of_models
from tests import tiny_observers
from tests.score.clips import FPS, blurred, original, restyled, variant, with_noise, write_store

TRAIN, PAIRED = 6, 5
CORE = [name for name, signal in SIGNALS.items() if signal.model is None]


def asked(data: Path, out: Path, **models: str) -> Invocation[ScoreConfig]:
    argv = ["--data", str(data), "--out", str(out), "--score.calibration_clips", str(PAIRED)]
    argv += [f"--score.models.{setting}={name}" for setting, name in models.items()]
    return parse_stage(ScoreConfig, "score", argv, prog="score")


def scored(data: Path, out: Path, **models: str) -> dict[str, Row]:
    run(replace(asked(data, out, **models), overwrite=True))
    return {row["id"]: row for row in StoreReader(out).rows()}


def calibration(out: Path) -> dict[str, Any]:
    return json.loads((out / "calibration.json").read_text())


def with_variants(row: Row) -> list[Row]:
    frames, samples = read_video(row["video"]["bytes"]).frames, read_audio(row["audio"]["bytes"])
    style, blur = encode_video(restyled(frames), FPS), encode_video(blurred(frames, 6), FPS)
    quiet, noise = encode_audio(0.5 * samples), encode_audio(with_noise(samples, -5))
    return [
        row, variant(row, "video", 0, video=style), variant(row, "video", 1, video=blur),
        variant(row, "audio", 0, audio=quiet), variant(row, "audio", 1, audio=noise),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    made = [with_variants(original(seed)) if seed < 2 else [original(seed)] for seed in range(TRAIN)]
    return [row for group in made for row in group]


@pytest.fixture(scope="module")
def store(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("augmented"), rows)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "image": str(tiny_observers.clip(root / "image")),
        "emotion": str(tiny_observers.emotion(root / "emotion")),
    }


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each row was measured."""
    measured: Counter[str] = Counter()

    class Counting(measurement.ScoreVariants):
        def __call__(self, comparisons: Sequence[Comparison[Row]]) -> list[Row]:
            measured.update(each.row["id"] for each in comparisons)
            return super().__call__(comparisons)

    monkeypatch.setattr(measurement, "ScoreVariants", Counting)
    return measured


def test_signals_of_models_are_stored_calibrated_and_weighed(
    store: Path, models: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = scored(store, tmp_path / "out", **models)
    plain = scored(store, tmp_path / "plain")
    variants = [row for row in found.values() if row["kind"] != "original"]
    for row in variants:
        assert (row["score_video_content"] is not None) == (row["kind"] == "video")
        assert (row["score_audio_emotion"] is not None) == (row["kind"] == "audio")
        assert row["score_audio_words"] is None
        assert 0.1 <= row["weight"] <= 1
        # Pictures this small are not shrunk, and what needs no model is the same to the bit.
        assert {name: row[column(name)] for name in CORE} == {
            name: plain[row["id"]][column(name)] for name in CORE
        }
    assert all(row["weight"] == 1 for row in found.values() if row["kind"] == "original")
    told = calibration(tmp_path / "out")
    asked_for = {"video_content", "audio_emotion"}
    assert asked_for <= set(told["signals"]) | set(told["left_out"])
    unset = set(of_models(set(loading.LOADERS) - set(models)))
    assert not unset & (set(told["signals"]) | set(told["left_out"]))
    assert not any(name in caplog.text for name in unset)
    # What is weighed moves the quality of its modality, and that of no other.
    assert "video_content" in told["signals"]
    moved = [row for row in variants if row["quality_video"] != plain[row["id"]]["quality_video"]]
    assert {row["kind"] for row in moved} == {"video"}


def test_anchors_come_from_the_corpus_pairs(store: Path, models: dict[str, str], tmp_path: Path) -> None:
    scored(store, tmp_path, image=models["image"])
    told = calibration(tmp_path)
    found = told["signals"]["video_content"]
    assert (found["good_pairs"], found["bad_pairs"], found["basis"]) == (PAIRED, PAIRED, "corpus")
    assert found["bad"] < found["good"] - 0.05


def test_a_changed_model_measures_again_what_it_touches_and_nothing_else(
    rows: list[Row], store: Path, models: dict[str, str], tmp_path: Path, counted: Counter[str]
) -> None:
    out = tmp_path / "out"
    scored(store, out, emotion=models["emotion"])
    assert set(counted.values()) == {1}
    assert len(counted) == len(rows)
    counted.clear()
    scored(store, out, emotion=models["emotion"])
    assert not counted
    scored(store, out)
    kinds = {row["id"]: row["kind"] for row in rows}
    assert {kinds[row_id] for row_id in counted} == {"original", "audio"}
    counted.clear()
    scored(store, out, image=models["image"])
    assert len(counted) == len(rows)  # pictures are decoded larger, and of audio variants the source's is
    counted.clear()
    other = str(tiny_observers.clip(tmp_path / "other", seed=1))
    changed = scored(store, out, image=other)
    assert {kinds[row_id] for row_id in counted} == {"original", "video"}
    assert sum(kinds[row_id] == "original" for row_id in counted) == PAIRED
    assert changed == scored(store, tmp_path / "straight", image=other)


def test_a_changed_signal_measures_again_the_rows_that_it_applies_to(
    rows: list[Row], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> dict[str, str]:
        tasks = planning.plan(StoreReader(store), calibration_clips=0, seed=3)
        return {task.id: task.key for task in tasks}

    before = keys()
    with monkeypatch.context() as patch:
        patch.setitem(SIGNALS, "audio_pitch", replace(SIGNALS["audio_pitch"], version=2))
        patch.setitem(SIGNALS, "video_face", replace(SIGNALS["video_face"], version=2))  # no model is set
        changed = {row_id for row_id, key in keys().items() if key != before[row_id]}
    assert changed == {row["id"] for row in rows if row["kind"] == "audio"}
    reordered(monkeypatch)
    assert keys() == before


def test_what_was_measured_is_read_by_the_signals_names(
    store: Path, tmp_path: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another order, and with one more in the middle, as a later version may have them."""
    before = scored(store, tmp_path)
    anchors = calibration(tmp_path)["signals"]
    counted.clear()
    reordered(monkeypatch, hum=replace(SIGNALS["audio_pitch"], measure=None))
    for row_id, row in scored(store, tmp_path).items():
        assert {name: row[name] for name in SCORES} == {name: before[row_id][name] for name in SCORES}
        assert row["quality"] == pytest.approx(before[row_id]["quality"])
    assert not counted
    found = calibration(tmp_path)["signals"]
    assert {name: found[name] for name in anchors} == anchors


def reordered(monkeypatch: pytest.MonkeyPatch, **more: Signal) -> None:
    """Turn the table of signals round, with more of them in its middle."""
    turned = list(reversed(SIGNALS.items()))
    turned[len(turned) // 2 : len(turned) // 2] = more.items()
    for name in list(SIGNALS):
        monkeypatch.delitem(SIGNALS, name)
    for name, signal in turned:
        monkeypatch.setitem(SIGNALS, name, signal)
    monkeypatch.setattr(score.run, "SCORES", [column(name) for name in SIGNALS])


def test_a_source_is_looked_at_once_and_a_track_that_stays_with_it(rows: list[Row]) -> None:
    looked: list[Any] = []

    def look(track: Any) -> Any:
        looked.append(track)
        return np.ones((2, 1)) if isinstance(track, Pixels) else np.ones(1)

    source = rows[0]
    operator = measurement.ScoreVariants({"image": look, "emotion": look})
    variants = [row for row in rows if row["source_id"] == source["id"] and row is not source]
    operator([Comparison(row=row, source=source) for row in variants])
    assert len(variants) == 4
    # Each variant's changed track, and both of the source.
    assert len(looked) == len({id(track) for track in looked}) == 6


def test_a_variant_and_a_partner_of_other_sizes_are_looked_at_in_their_own(rows: list[Row]) -> None:
    sizes: set[tuple[int, ...]] = set()

    def look(pixels: Pixels) -> np.ndarray:
        sizes.add(pixels.frames.shape[1:3])
        return np.ones((2, 1))

    source = rows[0]
    frames = read_video(source["video"]["bytes"]).frames
    larger = encode_video(frames.repeat(2, axis=1).repeat(2, axis=2), FPS)
    smaller = encode_video(frames[:, :40, :36], FPS)
    made = Comparison(row=variant(source, "video", 5, video=larger), source=source)
    original = Comparison(row=source, partner=rows[5] | {"video": {"bytes": smaller, "path": None}})
    measured = measurement.ScoreVariants({"image": look})([made, original])
    assert measured[0]["score_video_content"] == 1
    assert {(48, 48), (96, 96)} <= sizes
    # Of pictures that show the same at other places, and of the other clip, a part is looked at.
    assert all(height < 48 and width < 48 for height, width in sizes - {(48, 48), (96, 96)})


def test_a_model_whose_package_is_missing_is_left_out_and_said_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    found = scored(store, tmp_path / "out", face="mtcnn", quality="dnsmos")
    left_out = calibration(tmp_path / "out")["left_out"]
    for name in of_models(["face", "quality"]):
        assert "not installed here; pip install" in left_out[name]
        assert caplog.text.count(f"the signal {name} is left out") == 1
        assert all(row[column(name)] is None for row in found.values())
    assert found == scored(store, tmp_path / "plain")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"image": "nobody/nothing"}, r"score\.models\.image: 'nobody/nothing' cannot be loaded"),
        ({"face": "retinaface"}, r"models\.face"),
        ({"eyes": "mtcnn"}, r"models\.eyes"),
    ],
)
def test_a_wrong_model_is_a_usage_error(
    store: Path, tmp_path: Path, models: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(asked(store, tmp_path, **models))


def test_what_needs_no_model_hardly_changes_with_the_larger_picture(shared: Path) -> None:
    clip = shared / "media" / "grid_corpus" / "Raw" / "speaker_03" / "lbax4n.mpg"
    frames = read_video(clip, max_side=256).frames[:40]
    made = [frames, blurred(frames, 1.5), restyled(frames)]
    rows = [{"video": {"bytes": encode_video(each, 25.0)}, "fps": 25.0} for each in made]
    values = []
    for side in (MAX_SIDE, MODEL_SIDE):
        clips = [Clip(decode_video(row, analysis_fps(row), max_side=side), None) for row in rows]
        values += [[measure(clip, clips[0], ("video",)) for clip in clips[1:]]]
    for small, large in zip(*values, strict=True):
        for name in CORE:
            assert large[name] == pytest.approx(small[name], abs=0.03, nan_ok=True), name
