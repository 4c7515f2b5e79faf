"""Media: the right frames at the right times from any container, equal bytes twice, errors with reasons."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.decoding import pictures
from pipelines.decoding.container import File, _tag_decoding
from pipelines.decoding.orientation import Orientation
from pipelines.decoding.pictures import trusted_decord
from pipelines.decoding.scan import scan
from pipelines.encoding import Codec
from pipelines.media import (
    MediaError,
    encode_audio,
    encode_video,
    mux,
    open_clip,
    probe,
    read_audio,
    read_video,
)
from tests.pipelines.clips import numbered, numbers, tone, write_clip

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 60
OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=12:bframes=3"}
CONTAINERS = [
    ("libx264", "mp4", {}),
    ("libx264", "mp4", OPEN_GROUPS),
    ("libx264", "matroska", OPEN_GROUPS),
    ("mpeg4", "mp4", {"bf": "2"}),
    ("libvpx-vp9", "webm", {}),
    ("mpeg1video", "mpeg", {}),
    ("mpeg2video", "mpegts", {"bf": "2"}),
    ("mpeg4", "avi", {}),
    ("flv", "flv", {}),
]


@pytest.fixture
def clip() -> bytes:
    """One second of numbered frames at 25 a second, with a tone, in Matroska."""
    return mux(numbered(25), 25, tone(1.0))


@pytest.mark.parametrize(("codec", "form", "options"), CONTAINERS)
def test_every_container_gives_its_frames_by_time(
    tmp_path: Path, codec: str, form: str, options: dict[str, str]
) -> None:
    path = write_clip(tmp_path / "clip", numbered(FRAMES), codec=codec, form=form, options=options)
    assert numbers(read_video(path).frames) == list(range(FRAMES))
    assert numbers(read_video(path, fps=5).frames) == list(range(0, FRAMES, 5))
    assert numbers(read_video(path, fps=50).frames) == [index // 2 for index in range(2 * FRAMES)]
    assert read_video(path).fps == 25


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_uneven_frames_are_sampled_by_time_not_by_index(tmp_path: Path, form: str) -> None:
    gaps = np.random.default_rng(0).integers(10, 100, FRAMES - 1) / 1000
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    path = write_clip(tmp_path / "clip", numbered(FRAMES), form=form, times=times, rate=1000)
    assert not probe(path).constant_rate
    video = read_video(path, fps=10)
    shown = [int(np.flatnonzero(times <= k / 10 + 1e-9)[-1]) for k in range(len(video.frames))]
    assert numbers(video.frames) == shown
    assert video.duration_s == pytest.approx(times[-1], abs=0.2)


def test_jitter_is_no_variable_rate(tmp_path: Path) -> None:
    jitter = np.random.default_rng(0).integers(-3, 4, FRAMES) / 1000
    times = np.abs(np.arange(FRAMES) / 25 + jitter)
    path = write_clip(tmp_path / "clip", numbered(FRAMES), form="matroska", times=times, rate=1000)
    assert probe(path).constant_rate
    video = read_video(path)
    assert numbers(video.frames) == list(range(FRAMES))
    assert video.fps == pytest.approx(25, rel=0.01)


def test_bytes_and_path_give_the_same(tmp_path: Path, clip: bytes) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(clip)
    assert np.array_equal(read_video(path).frames, read_video(clip).frames)
    assert np.array_equal(read_audio(str(path)), read_audio(clip))


def test_program_streams_give_the_frames_that_pyav_gives(shared: Path) -> None:
    for path in sorted((shared / "media/grid_corpus/Raw").glob("*/*.mpg"))[:3]:
        with av.open(str(path)) as container:
            expected = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert np.array_equal(read_video(path).frames, expected)


def test_frames_before_an_edit_list_are_left_out(shared: Path) -> None:
    video = read_video(shared / "media/edge/noface_caminandes.mp4", max_side=64)
    assert (len(video.frames), video.fps) == (95, 24)


def test_decord_reads_mp4_and_agrees_with_pyav(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared / "media/edge/nearsilent_single_face.mp4"
    monkeypatch.setattr(pictures, "by_pyav", None)
    by_decord = read_video(path).frames
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "trusted_decord", _none)
    assert np.array_equal(by_decord, read_video(path).frames)


def test_without_decord_frames_are_read(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.setattr(pictures, "by_decord", None)
    assert numbers(read_video(clip).frames) == list(range(25))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_loads_no_gpu_libraries(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(encode_video(numbered(3), 25))
    program = (
        "import sys; from pipelines.media import read_video; read_video(sys.argv[1]); import decord;"
        "assert 'nvidia' not in sys.modules; maps = open('/proc/self/maps').read();"
        "assert 'libdecord' in maps; assert 'libcublas' not in maps and 'libcudnn' not in maps"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "clip.mp4")], cwd=ROOT, check=True)


@pytest.mark.parametrize(("rotation", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_turned_clips_stand_upright(tmp_path: Path, rotation: int, turns: int) -> None:
    upright = np.zeros((5, 64, 48, 3), dtype=np.uint8)
    upright[:, :20] = 200  # bright above
    upright[:, :, :12, 0] = 120  # and another red at the left
    turned = np.ascontiguousarray(np.rot90(upright, turns, axes=(1, 2)))
    path = write_clip(tmp_path / "clip.mp4", turned, rotation=rotation)
    assert (probe(path).width, probe(path).height) == (48, 64)
    assert np.abs(read_video(path).frames.astype(int) - upright).mean() < 3
    small = read_video(path, max_side=32).frames
    assert np.abs(small.astype(int) - upright[:, ::2, ::2]).mean() < 8


def _none(*_: object) -> None:
    return None


def test_decord_is_not_trusted_where_its_times_are_not_the_files(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", numbered(FRAMES))
    file = File(path)
    found = scan(file, None)
    assert trusted_decord(file, found, 64, 48) is not None
    for change in (
        {"start_s": found.start_s + 0.04},
        {"times": found.times[:-1]},
        {"by_packets": False},
        {"orientation": Orientation(left_right=True)},
    ):
        assert trusted_decord(file, replace(found, **change), 64, 48) is None


def test_frames_that_cannot_be_decoded_are_missed(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "clip.ts", numbered(100), form="mpegts").read_bytes()
    middle = len(whole) // 2 // 188 * 188
    with pytest.raises(MediaError, match=r"\d+ of its \d+ frames can be decoded, wanted all"):
        read_video(whole[:middle] + whole[middle + 40 * 188 :])


def test_long_sides_are_shrunk_in_proportion(clip: bytes) -> None:
    assert read_video(clip, max_side=32).frames.shape == (25, 24, 32, 3)
    assert read_video(clip, max_side=640).frames.shape == (25, 48, 64, 3)


def test_a_stream_encodes_to_the_bytes_of_its_frames(clip: bytes) -> None:
    video = read_video(clip, fps=10, max_side=48)
    stream = open_clip(clip).video(fps=10, max_side=48)
    assert (stream.length, stream.height, stream.width) == video.frames.shape[:3]
    assert encode_video(stream, stream.fps) == encode_video(video.frames, video.fps)


def test_video_is_encoded_without_sound_and_the_same_twice() -> None:
    frames = numbered(10)
    encoded = encode_video(frames, 12.5)
    assert encoded == encode_video(frames, 12.5)
    info = probe(encoded)
    assert (info.has_audio, info.fps, info.width, info.height) == (False, 12.5, 64, 48)
    assert np.abs(read_video(encoded).frames.astype(int) - frames).mean() < 3


@pytest.mark.parametrize("fps", [10, 12.5, 15, 24, 24000 / 1001, 29.97, 30])
def test_encoded_video_keeps_count_and_rate(fps: float) -> None:
    video = read_video(encode_video(numbered(31), fps))
    assert numbers(video.frames) == list(range(31))
    assert video.fps == pytest.approx(fps, rel=1e-4)


def test_odd_sides_are_cropped_to_even() -> None:
    frames = numbered(4, height=33, width=65)
    decoded = read_video(encode_video(frames, 25)).frames
    assert decoded.shape == (4, 32, 64, 3)
    assert np.abs(decoded.astype(int) - frames[:, :32, :64]).mean() < 3


def test_sound_survives_encoding_to_the_bit() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 10_000).astype(np.float32)
    encoded = encode_audio(samples)
    decoded = read_audio(encoded)
    assert encoded == encode_audio(samples) == encode_audio(decoded)
    assert decoded.shape == samples.shape
    assert np.abs(decoded - samples).max() <= 1 / 32768


def test_another_codec_takes_the_bit_rate_that_it_is_given() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    for rate in (16_000, 64_000):
        codec = Codec(encoder="libopus", form="ogg", options={}, bit_rate=rate)
        encoded = encode_audio(samples, codec=codec)
        assert probe(encoded).format == "ogg"
        assert 8 * len(encoded) / 2 == pytest.approx(rate, rel=0.25)
    coarse = Codec(encoder="libx264", form="mp4", options={"crf": "45"})
    assert len(encode_video(numbered(20), 25, coarse)) < len(encode_video(numbered(20), 25))


def test_muxed_clips_hold_picture_and_sound(clip: bytes) -> None:
    assert clip == mux(numbered(25), 25, tone(1.0))
    info = probe(clip)
    assert (info.has_video, info.has_audio, info.fps) == (True, True, 25)
    assert numbers(read_video(clip).frames) == list(range(25))
    assert np.abs(read_audio(clip) - tone(1.0)).max() <= 1 / 32768


def test_sound_is_resampled_and_mixed_to_mono(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    stereo = np.stack([tone(1.0, 44_100), np.zeros(44_100, np.float32)], axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=44_100, layout="stereo")
        interleaved = np.round(stereo * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples = read_audio(path)
    assert abs(len(samples) - 16_000) <= 16
    assert np.abs(samples[1000:15_000] - tone(1.0)[1000:15_000] / 2).max() < 0.01


def test_broken_files_say_what_is_wrong(tmp_path: Path, clip: bytes) -> None:
    mp4 = encode_video(numbered(25), 25)
    cases = {
        "empty.mp4": (b"", r"empty\.mp4: is empty \(0 bytes\)"),
        "text.mp4": (b"no clip at all\n" * 40, r"text\.mp4: is a text, wanted a clip"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), r"noise\.mp4: is no media file or is broken"),
        "cut.mp4": (
            mp4[: len(mp4) // 2],
            r"cut\.mp4: is an MP4 whose index is missing, as of a file cut short",
        ),
        "cut.mkv": (clip[: len(clip) * 7 // 10], r"cut\.mkv: breaks off after 0\.\d+ s of the 1\.00 s"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        for read in (read_video, read_audio, probe):
            with pytest.raises(MediaError, match=message):
                read(tmp_path / name)


def test_a_hole_in_a_stream_is_an_error() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (25, 48, 64, 3), dtype=np.uint8)
    spoiled = bytearray(encode_video(noise, 25))
    spoiled[len(spoiled) // 2 : len(spoiled) // 2 + 3000] = bytes(3000)
    with pytest.raises(MediaError, match="video stream breaks"):
        read_video(bytes(spoiled))


def test_missing_files_and_streams_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nowhere\.mp4: cannot be read \(No such file"):
        read_video(tmp_path / "nowhere.mp4")
    with pytest.raises(MediaError, match=r"<\d+ bytes>: found no video stream \(format flac\)"):
        read_video(encode_audio(tone(0.1)))
    with pytest.raises(MediaError, match="found no audio stream"):
        read_audio(encode_video(numbered(3), 25))


def test_still_pictures_are_no_clips(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "still.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(1)[0])))
    (tmp_path / "still.mp4").write_bytes((tmp_path / "still.png").read_bytes())
    with pytest.raises(MediaError, match="is a still picture or a text"):
        read_video(tmp_path / "still.mp4")


def test_long_clips_are_refused_with_both_numbers(clip: bytes) -> None:
    with pytest.raises(MediaError, match=r"lasts 1\.00 s, the limit is max_duration_s 0\.5"):
        read_video(clip, max_duration_s=0.5)
    with pytest.raises(MediaError, match=r"lasts 1\.\d\d s, the limit is max_duration_s 0\.5"):
        read_audio(clip, max_duration_s=0.5)


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.zeros((2, 5)), np.array([np.nan]), np.zeros(5, int)]
)
def test_sound_of_a_wrong_kind_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(MediaError, match="samples: found"):
        encode_audio(samples)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 8, 8), (2, 1, 8, 3), (2, 8, 8, 4)])
def test_frames_of_a_wrong_kind_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="frames: found"):
        encode_video(np.zeros(shape, np.uint8), 25)


@pytest.mark.parametrize("width", [16, 32, 48, 50, 96, 144, 200])
def test_narrow_clips_are_read_whatever_their_row_padding(width: int) -> None:
    column, row = np.meshgrid(np.linspace(0, 80, width), np.linspace(0, 80, 40))
    frames = np.stack([column + row + offset for offset in (0, 40, 80)], axis=-1).astype(np.uint8)
    frames = np.repeat(frames[None], 3, axis=0)
    assert np.abs(read_video(encode_video(frames, 25)).frames.astype(int) - frames).mean() < 3


def test_tags_that_are_not_utf8_cost_no_clip(tmp_path: Path) -> None:
    """Old Windows programs write tags in their own code page; PyAV 18 and 19 are told apart for them."""
    samples = (tone(0.5) * 32767).astype("<i2").tobytes()
    title = "Gespräch".encode("cp1252") + b"\0\0"
    tags = b"INFO" + b"INAM" + struct.pack("<I", len(title)) + title
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    chunks = head + b"LIST" + struct.pack("<I", len(tags)) + tags
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    path = tmp_path / "clip.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    with av.open(str(path), **_tag_decoding()) as container:
        assert "Gespr" in container.metadata["title"]
    assert len(read_audio(path)) == 8_000
