"""A clip's audio: resampled, in step with the video, mixed down to mono.

FFmpeg's filter aresample does all of it: it fills what is missing on the stream's clock with silence and
drops what overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.decoding.container import Container, library_errors

if TYPE_CHECKING:
    import av

# A stream whose clock and samples are apart by more than this is filled or cut. FFmpeg's default is 0.1 s,
# two and a half frames at 25 per second.
SYNC_S = 0.02
# Channels whose mean has less than this share of the louder one's energy (-30 dB) cancel each other.
_CANCELLED = 1e-3


def read(container: Container, start_s: float, sampling_rate: int) -> np.ndarray:
    """Mono samples, float32, shape (samples,), from the time `start_s` of the file's clock on.

    The mean of two channels is taken, unless they cancel each other, as with opposite signs; then the louder
    one is. More than two are mixed down as FFmpeg does, the centre, which has the dialogue, loudest.
    """
    with library_errors(container.name, "its audio stream cannot be resampled"):
        chunks = list(_stereo(container, start_s, sampling_rate))
    if not chunks:
        return np.zeros(0, np.float32)
    channels = np.concatenate(chunks, axis=1)
    mixed = channels.mean(axis=0)
    energies = np.square(channels, dtype=np.float64).sum(axis=1)
    if np.square(mixed, dtype=np.float64).sum() < _CANCELLED * energies.max():
        return channels[energies.argmax()]
    return mixed


def _stereo(container: Container, start_s: float, sampling_rate: int) -> Iterator[np.ndarray]:
    """Pieces of shape (2, samples); mono is in both."""
    graph: Any = None
    form, done = None, 0
    for frame in container.frames(container.audio):
        if form != (frame.format.name, frame.layout.name, frame.sample_rate):
            # A filter graph has one format of input; a stream may change its own midway.
            for piece in _pulled(graph):
                done += piece.shape[1]
                yield piece
            form = (frame.format.name, frame.layout.name, frame.sample_rate)
            graph = _graph(frame, done / sampling_rate, sampling_rate)
        if frame.time is not None:
            places = round((frame.time - start_s) * frame.sample_rate)
            frame.pts, frame.time_base = places, Fraction(1, frame.sample_rate)
        graph.push(frame)
        for piece in _pulled(graph, ended=False):
            done += piece.shape[1]
            yield piece
    yield from _pulled(graph)


def _graph(frame: av.AudioFrame, done_s: float, sampling_rate: int) -> av.filter.Graph:
    import av

    rate, layout = frame.sample_rate, frame.layout.name if len(frame.layout.channels) <= 2 else "mono"
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=rate, format=frame.format.name, layout=frame.layout.name, time_base=Fraction(1, rate)
        ),
        # `async=1` fills and cuts and stretches nothing; `first_pts` is in samples of the input; with
        # `rematrix_maxval=1` a mix of many loud channels does not clip.
        graph.add(
            "aresample",
            f"async=1:min_hard_comp={SYNC_S}:first_pts={round(done_s * rate)}:rematrix_maxval=1",
        ),
        graph.add("aformat", f"sample_fmts=fltp:sample_rates={sampling_rate}:channel_layouts={layout}"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _pulled(graph: av.filter.Graph | None, *, ended: bool = True) -> Iterator[np.ndarray]:
    """What a graph has ready; when its input has ended, all that it still holds."""
    import av

    if graph is None:
        return
    if ended:
        graph.push(None)
    while True:
        try:
            piece: Any = graph.pull().to_ndarray()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield np.broadcast_to(piece, (2, piece.shape[1]))
