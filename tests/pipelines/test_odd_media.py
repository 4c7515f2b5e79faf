"""Odd files are stored as ffmpeg and players show them, with notes on what was done."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.decoding import limits
from pipelines.importing import main
from pipelines.media import MediaError, open_clip, read_audio, read_video
from pipelines.store import StoreReader
from tests.pipelines import ffmpeg_clips as ffmpeg
from tests.pipelines.clips import tone

CLOSE_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is to be stored of a file; `shown` and `heard` are when white and the tone begin, in seconds."""

    shown: tuple[float, ...] = (1, 2, 3)
    heard: tuple[float, ...] = (1, 2, 3)
    frames: int | None = 100
    audio_s: float = 4.0
    notes: tuple[str, ...] = ()
    lower_left: str = "red"
    shape: float = 160 / 120


CASES = {
    "picture_late.mp4": Expected(
        shown=(0.69, 1.69, 2.69), heard=(0.69, 1.69, 2.69), frames=92, audio_s=3.7,
        notes=("video begins 0.30 s after the audio",),
    ),
    "sound_gap.mp4": Expected(notes=("audio lacks 0.51 s in 1 places",)),
    "mirrored.mp4": Expected(lower_left="blue"),
    "hidden_frames.webm": Expected(shown=(2, 4, 6), heard=(2, 4, 6), frames=200, audio_s=8.0),
    "late_keyframe.flv": Expected(shown=(1, 2), heard=(1, 2), frames=74, audio_s=2.95),
    "anamorphic.mp4": Expected(shape=1.77, notes=("pixels of 64/45, resampled to square",)),
    "joined.ts": Expected(notes=("timestamps start anew 1 times",)),
    "two_sounds.mp4": Expected(notes=("2 audio streams, stream 2 was taken",)),
    "rate_switch.mp3": Expected(heard=(1.02, 2.06, 3.06), frames=None, audio_s=4.08),
    "opposed_channels.flac": Expected(frames=None),
}  # fmt: skip


@pytest.fixture(scope="module")
def stored(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Rows of the cases, by the file's name."""
    return imported([shared / "cases" / name for name in CASES], tmp_path_factory.mktemp("cases"))


def imported(paths: Iterable[Path], folder: Path, *settings: str) -> dict[str, dict[str, Any]]:
    table = folder / "clips.csv"
    with table.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "text", "label", "split", "group", "id"])
        lines.writerows([path, "hello", 0, "train", path.name, path.name] for path in paths)
    main(["--corpus.name", "folder", "--corpus.path", str(table), "--out", str(folder / "store"), *settings])
    return {row["id"].split("/")[-1]: row for row in StoreReader(folder / "store").rows()}


@pytest.mark.parametrize(("name", "expected"), CASES.items())
def test_the_right_frames_and_samples_are_stored(
    stored: dict[str, dict[str, Any]], name: str, expected: Expected
) -> None:
    row = stored[name]
    samples = read_audio(row["audio"]["bytes"])
    assert ffmpeg.onsets(ffmpeg.sounding(samples), 100) == pytest.approx(expected.heard, abs=CLOSE_S)
    assert len(samples) / 16_000 == pytest.approx(expected.audio_s, abs=CLOSE_S)
    notes = json.loads(row["generator"])["notes"]
    for note in expected.notes:
        assert any(told.startswith(note) for told in notes), notes
    if expected.frames is None:
        assert row["video"] is None
        return
    video = read_video(row["video"]["bytes"])
    height, width = video.frames.shape[1:3]
    below = video.frames[:, int(height * 0.6) : int(height * 0.75), int(width * 0.3) : int(width * 0.7)]
    assert ffmpeg.onsets(below.mean(axis=(1, 2, 3)) > 180, video.fps) == pytest.approx(
        expected.shown, abs=CLOSE_S
    )
    assert abs(len(video.frames) - expected.frames) <= 1
    assert width / height == pytest.approx(expected.shape, rel=0.02)
    if name != "hidden_frames.webm":  # which has no patches
        red, _, blue = video.frames[0, -9, 8].astype(int)
        assert (red > blue) == (expected.lower_left == "red")


def test_the_audio_stream_of_a_language_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    sources = ["sine=f=1000:d=1", "anullsrc=d=1"]
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    tags = ["-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=eng"]
    ffmpeg.ffmpeg(
        *inputs, "-map", 0, "-map", 1, *tags, "-disposition:a:1", "default", "-disposition:a:0", "0", path
    )
    assert not open_clip(path).audio().any()
    clip = open_clip(path, audio_language="deu")
    assert clip.audio().any()
    assert clip.info.notes == ("2 audio streams, stream 0 was taken",)
    assert "no audio stream in fra, stream 1 was taken" in open_clip(path, audio_language="fra").info.notes
    assert imported([path], tmp_path, "--corpus.audio_language", "deu")["clip.mkv"]["audio"]


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_channels_that_cancel_each_other_are_not_silent(tmp_path: Path, noise: float) -> None:
    left = tone(1.0)
    rng = np.random.default_rng(0)
    pair = np.stack([left, -left + noise * rng.standard_normal(len(left))]).astype(np.float32)
    samples = read_audio(stereo(tmp_path / "opposed.wav", pair))
    assert min(np.abs(samples - left).max(), np.abs(samples + left).max()) < 0.03
    # One silent channel cancels nothing: the mean is half of the other.
    pair[1] = 0
    assert np.abs(read_audio(stereo(tmp_path / "half.wav", pair)) - left / 2).max() < 0.001


def stereo(path: Path, channels: np.ndarray) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(channels.T.reshape(1, -1).copy(), format="flt", layout="stereo")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_dialogue_of_surround_sound_is_kept(tmp_path: Path) -> None:
    """Alone in the centre, it is as loud as ffmpeg mixes it."""
    path = tmp_path / "clip.flac"
    ffmpeg.ffmpeg("-f", "lavfi", "-i", "aevalsrc='0|0|0.5*sin(6283*t)|0|0|0':c=5.1:s=48000:d=1", path)
    raw = ffmpeg.ffmpeg("-i", path, "-ac", 1, "-ar", 16_000, "-f", "s16le", "-")
    mixed, samples = np.frombuffer(raw, np.int16) / 32768, read_audio(path)
    assert np.abs(samples).max() == pytest.approx(np.abs(mixed).max(), rel=0.02)


def test_files_that_name_others_are_not_opened(tmp_path: Path) -> None:
    """Whatever a file's bytes say, no other file, no address and no device is read."""
    (tmp_path / "secret.wav").write_bytes(
        stereo(tmp_path / "a.wav", np.zeros((2, 1600), np.float32)).read_bytes()
    )
    lists = {
        "list.mp4": f"ffconcat version 1.0\nfile '{tmp_path / 'secret.wav'}'\n",
        "play.mp4": f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'secret.wav'}\n#EXT-X-ENDLIST\n",
        "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 96\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError, match=rf"{name}: is a text, wanted a clip"):
            open_clip(tmp_path / name)
    with pytest.raises(MediaError, match="cannot be read"):
        open_clip("http://127.0.0.1/clip.mp4")


def test_a_long_file_is_refused_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    ffmpeg.ffmpeg("-f", "lavfi", "-i", "color=s=64x48:r=5:d=30", "-c:v", "mpeg2video", "-r", 25, path)
    with pytest.raises(MediaError, match=r"clip\.ts: lasts .* the limit is max_duration_s 2"):
        open_clip(path, max_duration_s=2)


def test_a_file_beyond_the_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    ffmpeg.ffmpeg("-f", "lavfi", "-i", "color=s=64x48:r=5:d=1", "-c:v", "libx264", path)
    for limit, message in {
        "MAX_BYTES": r"has \d+ bytes, the limit is 0",
        "MAX_STREAMS": "has 1 streams, the limit is 0",
        "MAX_PIXELS": "frames are 64x48, the limit is 0 pixels",
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(limits, limit, 0)
            with pytest.raises(MediaError, match=message):
                open_clip(path)


def test_a_clock_that_wraps_goes_on(tmp_path: Path) -> None:
    """MPEG's clock has 33 bits, and wraps after 26.5 hours; here in the middle of the clip."""
    path = tmp_path / "clip.ts"
    on = "gte(t,1)*lt(t,1.2)"
    video = f"color=gray:s=64x48:r=25:d=2,drawbox=w=iw:h=ih:c=white:t=fill:enable='{on}'"
    inputs = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", f"aevalsrc='0.4*sin(6283*t)*{on}':s=48000:d=2"]
    ffmpeg.ffmpeg(
        *inputs, "-c:v", "mpeg2video", "-c:a", "mp2", "-output_ts_offset", 2**33 / 90_000 - 2.4, path
    )
    clip = open_clip(path)
    frames = np.stack(list(clip.video().frames))
    assert len(frames) == pytest.approx(50, abs=1)
    assert ffmpeg.onsets(ffmpeg.white(frames), 25) == pytest.approx([1.0], abs=CLOSE_S)
    assert ffmpeg.onsets(ffmpeg.sounding(clip.audio()), 100) == pytest.approx([1.0], abs=CLOSE_S)


def test_a_duration_that_is_estimated_refuses_nothing(tmp_path: Path) -> None:
    """FFmpeg guesses the length of an MP3 without a header of its own from the bit rate at its start."""
    parts = []
    for rate in ("8k", "64k"):
        part = tmp_path / f"{rate}.mp3"
        bare = ["-write_xing", 0, "-id3v2_version", 0]
        ffmpeg.ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-b:a", rate, "-ar", 8000, *bare, part)
        parts.append(part.read_bytes())
    path = tmp_path / "clip.mp3"
    path.write_bytes(b"".join(parts))
    limit_s = 4.5
    with av.open(str(path)) as opened:
        assert opened.duration / av.time_base > limit_s
    samples = open_clip(path, max_duration_s=limit_s).audio()
    assert len(samples) / 16_000 == pytest.approx(60 * 0.072, abs=0.01)  # each part has 30 frames of 72 ms
