"""Opens a media file and hands out its packets and frames, with times on one clock.

A file is always read from its beginning and never seeks: some, such as FLV with a late first key frame,
have nothing at 0 that could be sought. What any library raises becomes a `MediaError` that names the file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipelines.decoding import limits
from pipelines.decoding.source_file import read_bytes
from pipelines.media_types import MediaError
from pipelines.running.machine_faults import MachineFault, refuse_fault

if TYPE_CHECKING:
    import av

Source = bytes | str | Path

# FFmpeg's names of the containers that are opened, whatever a file's bytes say: none that names other files
# (concat, hls, dash, sdp), asks a device or the network, or draws text.
FORMATS = (
    "3dostr,aac,ac3,aiff,amr,amrnb,amrwb,apng,asf,asf_o,au,avi,caf,dv,eac3,flac,flv,gif,h261,h263,h264,hevc,"
    "ivf,live_flv,loas,m4v,matroska,webm,mjpeg,mjpeg_2000,mov,mp4,m4a,3gp,3g2,mj2,mp2,mp3,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,swf,tta,vc1,voc,w64,wav,wv,yuv4mpegpipe,image2,tty,png_pipe,jpeg_pipe,"
    "bmp_pipe,gif_pipe,webp_pipe,tiff_pipe,image2pipe"
)
# Matroska and WebM are one format to FFmpeg, as are MP4 and QuickTime.
MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_STILL_CODECS = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}
_STILL_FORMATS = ("image2", "_pipe", "gif", "apng", "tty")
# FFmpeg's own thresholds (dts_delta_threshold): a clock that jumps by more than this has started anew.
_BACK_S, _AHEAD_S = 0.1, 10.0


@contextmanager
def library_errors(name: str, doing: str) -> Iterator[None]:
    """Turn whatever a library raises in the block into a `MediaError`.

    Args:
        name: Of the file.
        doing: What went wrong, as in "breaks while its packets are read".

    Raises:
        MachineFault: If it is the machine's fault.
    """
    try:
        yield
    except (MediaError, MachineFault):
        raise
    except Exception as error:
        refuse_fault(error, name)
        raise MediaError(f"{name}: {doing} ({_reason(error)})") from error


@dataclass(frozen=True)
class File:
    """A media file, and which of its streams are meant."""

    source: Source
    language: str | None = None
    """Of the audio stream, as its tag says, such as eng; where no stream has it, or for None, any."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"<{len(self.source)} bytes>" if isinstance(self.source, bytes) else str(self.source)

    def open(self) -> Container:
        """Begin a pass.

        Raises:
            MediaError: If it cannot be opened, or is no clip.
        """
        return Container(self)


class Container:
    """A media file that is open for one pass, with the streams that a clip is made of.

    Attributes:
        name: The file, for messages.
        format: FFmpeg's name of the container.
        video: The video stream, or None: of those that move the default one, else the largest.
        audio: The audio stream, or None: that of the language, else the default one, else the widest.
        jumps: How often the file's clock has started anew, as far as it was read.
        lost: How many packets of the audio could not be decoded.
    """

    def __init__(self, file: File) -> None:
        self.name = file.name
        self._language = file.language
        self._container = _open(file.source, self.name)
        self.format: str = self._container.format.name
        streams = self._container.streams
        if any(still in self.format for still in _STILL_FORMATS):
            raise MediaError(f"{self.name}: is a still picture or a text ({self.format}), wanted a clip")
        if len(streams) > limits.MAX_STREAMS:
            raise MediaError(f"{self.name}: has {len(streams)} streams, the limit is {limits.MAX_STREAMS}")
        self.video = max(self._decodable(_moving(streams.video)), key=_video_rank, default=None)
        self.audio = max(self._decodable(streams.audio), key=self._audio_rank, default=None)
        if not self._chosen():
            raise MediaError(f"{self.name}: has neither a video nor an audio stream")
        self._time_bases = {stream.index: stream.time_base for stream in self._chosen()}
        self.jumps = self.lost = 0
        self._heard = 0
        self._ends: dict[int, float] = {}
        self._shift_s = 0.0
        self._reached = "before anything is decoded"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def start_s(self) -> float:
        """When the first of both streams begins, on the file's clock."""
        starts = [
            float(each.start_time * each.time_base) for each in self._chosen() if each.start_time is not None
        ]
        return min(starts, default=0.0)

    @property
    def stated_s(self) -> float:
        """The duration that the file states, in seconds; 0 where it states none."""
        import av

        return (self._container.duration or 0) / av.time_base

    @property
    def video_number(self) -> int:
        """Which of the file's video streams is taken, from 0."""
        return list(self._container.streams.video).index(self.video)

    def left_out(self) -> list[str]:
        """What is not read, in words."""
        streams = self._container.streams
        kinds = {"video": (_moving(streams.video), self.video), "audio": (streams.audio, self.audio)}
        notes = [
            f"{len(present)} {kind} streams, stream {taken.index} was taken"
            for kind, (present, taken) in kinds.items()
            if taken is not None and len(present) > 1
        ]
        if self.audio is not None and self._language and self.audio.language != self._language:
            notes.append(f"no audio stream in {self._language}, stream {self.audio.index} was taken")
        return notes

    def packets(self) -> Iterator[av.Packet]:
        """Packets of both streams in the file's order; an empty one shows the frame before once more."""
        packets = self._container.demux(self._chosen())
        for packet in _guarded(packets, self.name, "breaks while its packets are read"):
            if packet.size or packet.pts is not None:  # what PyAV adds at the end has neither
                self._mend_clock(packet)
                yield packet

    def seconds(self, packet: av.Packet, ticks: int) -> float:
        """A time of a packet in seconds; products of fractions would give the same ten times as slowly."""
        time_base = self._time_bases[packet.stream_index]
        return ticks * time_base.numerator / time_base.denominator

    def frames(self, stream: Any) -> Iterator[Any]:
        """The frames that a stream shows or sounds, in order; those that an edit list cuts away are not."""
        # To a decoder an empty packet is the end.
        own = (packet for packet in self.packets() if packet.stream_index == stream.index and packet.size)
        for packet in chain(own, [None]):
            yield from self.decode(stream, packet)

    def decode(self, stream: Any, packet: av.Packet | None) -> list[Any]:
        """The frames that a stream's next packet completes; for None those that the decoder still holds."""
        with library_errors(self.name, f"its {stream.type} stream breaks {self._reached}"):
            frames: list[Any] = self._decoded(stream, packet)
        for frame in frames:
            if packet is None:
                frame.time_base = stream.time_base  # PyAV takes it from the packet
            self._reached = f"after {frame.time or 0.0:.2f} s"
        return frames

    def _decoded(self, stream: Any, packet: av.Packet | None) -> list[Any]:
        import av

        self._heard += stream.type == "audio"
        try:
            return stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            # Sound goes on behind a broken packet, such as the tags between two MP3 files that were joined.
            if stream.type != "audio" or self.lost + 1 > max(1, limits.MAX_LOST * self._heard):
                raise
            self.lost += 1
            return []

    def _decodable(self, streams: Sequence[Any]) -> list[Any]:
        found = [stream for stream in streams if stream.codec_context is not None]
        if streams and not found:
            raise MediaError(f"{self.name}: FFmpeg has no decoder for its {streams[0].type} stream")
        return found

    def _audio_rank(self, stream: Any) -> tuple[bool, bool, int]:
        spoken = self._language is not None and stream.language == self._language
        return spoken, _is_default(stream), stream.channels or 0

    def _chosen(self) -> list[Any]:
        return [stream for stream in (self.video, self.audio) if stream is not None]

    def _mend_clock(self, packet: av.Packet) -> None:
        """Let the clock go on where it starts anew, as in transport streams that were joined.

        As FFmpeg's command does, the shift that one stream needs is given to both, so that they stay in step.
        """
        import av

        if packet.dts is None:
            return
        begins_s = self.seconds(packet, packet.dts) + self._shift_s
        expected_s = self._ends.get(packet.stream_index, begins_s)
        may_jump = self._container.format.flags & av.format.Flags.ts_discont.value
        if may_jump and not -_BACK_S <= begins_s - expected_s <= _AHEAD_S:
            self.jumps += 1
            self._shift_s += expected_s - begins_s
            begins_s = expected_s
        self._ends[packet.stream_index] = begins_s + self.seconds(packet, packet.duration or 0)
        if self._shift_s:
            shift = round(self._shift_s / self._time_bases[packet.stream_index])
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift


def _guarded(items: Iterator[Any], name: str, doing: str) -> Iterator[Any]:
    """Items that a library yields; see `library_errors`."""
    while True:
        with library_errors(name, doing):
            item = next(items, None)
        if item is None:
            return
        yield item


def _open(source: Source, name: str) -> Any:
    """An av.container.InputContainer."""
    import av

    # What goes wrong is said by MediaError; FFmpeg's own lines would only bury it.
    av.logging.set_level(av.logging.PANIC)
    try:
        reason = no_media(source)
        if reason:
            raise MediaError(f"{name}: {reason}")
        if isinstance(source, bytes) and len(source) > limits.MAX_BYTES:
            raise MediaError(f"{name}: has {len(source)} bytes, the limit is {limits.MAX_BYTES}")
        file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}"
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        return av.open(file, options=options, **_tag_decoding())
    except av.error.FFmpegError as error:
        refuse_fault(error, name)
        raise MediaError(f"{name}: {_unreadable(source)} ({_reason(error)})") from error
    except MediaError:
        raise
    except (OSError, ValueError) as error:
        refuse_fault(error, name)
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from error


def _tag_decoding() -> dict[str, Any]:
    """How `av.open` is told to take tags that are not UTF-8, which PyAV 19 and newer always do."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def no_media(source: Source) -> str | None:
    """What a file is that cannot be a clip, from its first bytes; None of one that may be.

    Raises:
        MediaError: If it cannot be read, or is no regular file.
    """
    head = _head(source)
    if not head:
        return "is empty (0 bytes), wanted a clip"
    if all(byte >= 32 or byte in b"\t\n\r" for byte in head):
        return "is a text, wanted a clip"
    return None


def _head(source: Source) -> bytes:
    return source[:512] if isinstance(source, bytes) else read_bytes(Path(source), 512)


def _unreadable(source: Source) -> str:
    """What a file is that no demuxer takes."""
    if _head(source)[4:8] == b"ftyp":
        return "is an MP4 whose index is missing, as of a file cut short"
    return "is no media file or is broken"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _moving(streams: Any) -> list[Any]:
    """Without cover pictures."""
    import av

    attached = av.stream.Disposition.attached_pic
    return [stream for stream in streams if not stream.disposition & attached]


def _is_default(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.default)


def _video_rank(stream: Any) -> tuple[bool, bool, int]:
    # A still may lie beside the film without being marked as a cover; only MP4 tells a track's frames.
    still = stream.frames == 1 or stream.codec_context.name in _STILL_CODECS
    return not still, _is_default(stream), (stream.width or 0) * (stream.height or 0)
