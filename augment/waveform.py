"""What all voice converters do with waveforms: check them, and match the output to the source."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.errors import RowError

SILENT = 1e-4  # root mean square below which a waveform is silent
PEAK = 0.999  # output that would exceed this peak is made softer
# How far an output's duration may be off: the larger of so many seconds and such a share of it.
SLACK_S, SLACK = 0.25, 0.05
JUMP = 1.5  # a larger step between two samples comes from integers that overflowed


def level(name: str, samples: np.ndarray) -> float:
    """Root mean square of a waveform that can be converted.

    Args:
        name: The waveform's name, for messages.
        samples: float (samples,).

    Raises:
        RowError: If it is not mono, empty, not finite or silent.
    """
    if samples.ndim != 1 or not len(samples):
        raise RowError(f"{name}: shape {samples.shape}; wants mono samples, (samples,) with at least one")
    broken = int((~np.isfinite(samples)).sum())
    if broken:
        raise RowError(f"{name}: {broken} of {len(samples)} samples are not finite")
    rms = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
    if rms < SILENT:
        raise RowError(f"{name}: silent, root mean square {rms:.1e} below {SILENT:.0e}; there is no voice")
    return rms


def resampled(samples: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """Samples (…, samples) at another rate, both in Hz."""
    from torchaudio.functional import resample

    return samples if source == target else resample(samples, source, target)


def fitted(samples: torch.Tensor, length: int) -> torch.Tensor:
    """Samples (samples,) cut, or padded with silence at the end, to a length."""
    return torch.nn.functional.pad(samples, (0, max(0, length - len(samples))))[:length]


def matched(
    samples: torch.Tensor, made_rate: int, *, level: float, sampling_rate: int, length: int
) -> np.ndarray:
    """A converter's output at the source's sampling rate, length and loudness; softer where it would clip.

    Args:
        samples: float32 (samples,) at `made_rate` Hz.
        made_rate: In Hz.
        level: Root mean square of the source.
        sampling_rate: Of the source, in Hz.
        length: Samples of the source; the output is cut, or padded with silence.

    Returns:
        float32 (length,) in [-1, 1].
    """
    back = fitted(resampled(samples, made_rate, sampling_rate), length)
    gain = level / max(float(back.square().mean().sqrt()), 1e-9)
    gain = min(gain, PEAK / max(float(back.abs().max()), 1e-9))
    return (back * gain).numpy()


def checked_output(
    converter: str,
    made: np.ndarray,
    made_rate: int,
    source: np.ndarray,
    sampling_rate: int,
    pace: float = 1.0,
) -> np.ndarray:
    """The output of an external converter, checked and matched to its source.

    Args:
        converter: The converter's name, for messages.
        made: Its output, float (samples,) at `made_rate` Hz.
        made_rate: In Hz.
        source: float32 (samples,) at `sampling_rate` Hz, not silent.
        sampling_rate: In Hz.
        pace: Wanted length of the output in lengths of the source.

    Returns:
        float32, with the source's shape, rate and loudness.

    Raises:
        ValueError: If the output is not finite, silent, overflowed, or of another duration.
    """
    name = f"{converter}'s answer"
    try:
        level(name, made)
    except RowError as error:  # the converter is at fault, not the clip
        raise ValueError(str(error)) from error
    wanted_s, made_s = pace * len(source) / sampling_rate, len(made) / made_rate
    slack_s = max(SLACK_S, SLACK * wanted_s)
    if abs(made_s - wanted_s) > slack_s:
        raise ValueError(
            f"{name}: lasts {made_s:.2f} s, wanted {wanted_s:.2f} s, at most {slack_s:.2f} s off"
        )
    jump = float(np.abs(np.diff(made)).max(initial=0.0))
    if jump > JUMP:
        raise ValueError(f"{name}: jumps by {jump:.2f} between two samples; it overflowed and is noise")
    samples = torch.from_numpy(np.ascontiguousarray(made, np.float32))
    source_level = level("audio", source)
    return matched(samples, made_rate, level=source_level, sampling_rate=sampling_rate, length=len(source))
