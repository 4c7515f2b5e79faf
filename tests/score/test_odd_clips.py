"""Clips with nobody in them, with two people, with nothing to hear: each is scored, and no weight is NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.row import Row, media, new_row
from pipelines.settings import parse_stage
from pipelines.store import StoreReader
from score.run import SCORES, run
from score.settings import ScoreConfig
from tests.score.clips import FPS, blurred, face, original, variant, voice, with_noise, write_store

SECONDS, SIDE = 2.0, 96


def row_of(name: str, frames: np.ndarray, fps: float, samples: np.ndarray | None) -> Row:
    return new_row(
        id=f"odd/{name}/0", source_id=f"odd/{name}/0", kind="original", split="train", group=name,
        video=media(encode_video(frames, fps)), text="words", label=0.0, corpus="odd", scale="mosi",
        audio=None if samples is None else media(encode_audio(samples)), language="en", generator="{}",
        duration_s=len(frames) / fps, fps=fps,
    )  # fmt: skip


def with_variants(row: Row) -> list[Row]:
    """The row, its picture encoded again and blurred, and its sound in noise."""
    clip = read_video(row["video"]["bytes"])
    made = [row]
    for number, frames in enumerate((clip.frames, blurred(clip.frames, 4))):
        made.append(variant(row, "video", number, video=encode_video(frames, clip.fps)))
    if row["audio"] is not None:
        samples = read_audio(row["audio"]["bytes"])
        made.append(variant(row, "audio", 2, audio=encode_audio(with_noise(samples, 5))))
        both = {"video": encode_video(clip.frames, clip.fps), "audio": encode_audio(0 * samples)}
        made.append(variant(row, "both", 3, **both))
    return made


def scored(originals: list[Row], folder: Path) -> dict[str, Row]:
    data = write_store(folder / "in", [row for each in originals for row in with_variants(each)])
    argv = ["--data", str(data), "--out", str(folder / "out"), "--score.calibration_clips", "4"]
    run(parse_stage(ScoreConfig, "score", argv, prog="score"))
    assert (folder / "out" / "failures.jsonl").read_text() == ""
    return {row["id"].removeprefix("odd/"): row for row in StoreReader(folder / "out").rows()}


def check(found: dict[str, Row]) -> None:
    for row in found.values():
        assert 0 < row["weight"] <= 1
        for name in (*SCORES, "quality"):
            assert row[name] is None or np.isfinite(row[name]), (row["id"], name)


def test_two_faces_no_face_a_still_picture_and_no_speech(tmp_path: Path) -> None:
    mouth = np.random.default_rng(0).uniform(0, 1, round(SECONDS * FPS))
    speech = voice(0, seconds=SECONDS)
    two = np.concatenate([face(1, mouth), face(2, mouth[::-1])], axis=2)
    grain = np.random.default_rng(1).integers(0, 255, two.shape, dtype=np.uint8)
    still = np.repeat(face(1, mouth)[:1], len(mouth), axis=0)
    hiss = np.random.default_rng(2).normal(0, 0.05, len(speech)).astype(np.float32)
    odd = {
        "two": (two, speech), "nobody": (grain, speech), "still": (still, speech), "hiss": (two, hiss),
        "silent": (two, 0 * speech), "mute": (two, None), "black": (0 * two, speech),
    }  # fmt: skip
    rows = [row_of(name, frames, FPS, samples) for name, (frames, samples) in odd.items()]
    found = scored([*rows, original(0), original(1)], tmp_path)
    check(found)
    # Two people are judged as one picture: all that moves in it.
    assert found["two/0#video-1"]["quality_video"] < 0.5 < found["two/0#video-0"]["quality_video"]
    assert found["still/0#video-0"]["score_video_motion"] is None
    assert found["still/0#video-0"]["quality_video"] is not None
    for name in ("silent", "hiss"):  # nothing to say it by: of hiss the loudness alone
        assert found[f"{name}/0#audio-2"]["score_audio_pitch"] is None
    assert found["silent/0#audio-2"]["quality_audio"] is None
    assert found["silent/0#audio-2"]["weight"] == pytest.approx(0.1)
    assert found["mute/0#video-0"]["quality_cross"] is None


def test_real_clips_without_a_face_or_speech(shared: Path, tmp_path: Path) -> None:
    rows = []
    for path in sorted((shared / "media/edge").glob("*.mp4")):
        clip = read_video(path, fps=FPS, max_side=SIDE)
        length = round(SECONDS * FPS)
        try:
            samples = read_audio(path)[: round(SECONDS * 16000)]
        except ValueError:
            samples = None  # it has no track
        rows.append(row_of(path.stem.split("_")[0], clip.frames[:length], FPS, samples))
    found = scored(rows, tmp_path)
    check(found)
    for row in rows:
        name = row["id"].removeprefix("odd/")
        assert found[f"{name}#video-1"]["quality_video"] < found[f"{name}#video-0"]["quality_video"]
