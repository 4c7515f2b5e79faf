"""What every voice converter does with sounds: check them, and give back what fits the source."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.errors import RowError

SILENT = 1e-4
"""Root mean square below which a sound is silent."""
PEAK = 0.999
"""A result that would be louder is made softer until this is its peak."""
SLACK_S, SLACK = 0.25, 0.05
"""How far a converter's answer may be from the wanted duration: the greater of seconds and a share of it."""
JUMP = 1.5
"""More than this between two samples is no sound but integers that overflowed."""


def level(name: str, sound: np.ndarray) -> float:
    """Root mean square of a sound that can be converted.

    Args:
        name: Of the sound, for messages.
        sound: float (samples,).

    Raises:
        RowError: If it is not mono, empty, not finite or silent.
    """
    if sound.ndim != 1 or not len(sound):
        raise RowError(f"{name}: shape {sound.shape}; wants mono samples, (samples,) with at least one")
    if not np.isfinite(sound).all():
        raise RowError(f"{name}: {int((~np.isfinite(sound)).sum())} of {len(sound)} samples are not finite")
    found = float(np.sqrt(np.square(sound, dtype=np.float64).mean()))
    if found < SILENT:
        raise RowError(f"{name}: silent, root mean square {found:.1e} below {SILENT:.0e}; there is no voice")
    return found


def resampled(samples: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """Samples (…, samples) at another rate, both in Hz."""
    from torchaudio.functional import resample

    return samples if source == target else resample(samples, source, target)


def as_given(
    samples: torch.Tensor, made_rate: int, *, wanted_level: float, sampling_rate: int, length: int
) -> np.ndarray:
    """A sound of the source's rate, length and loudness; softer where it would clip.

    Args:
        samples: float32 (samples,) at `made_rate` Hz.
        made_rate: In Hz.
        wanted_level: Root mean square of the source.
        sampling_rate: Of the source, in Hz.
        length: Samples of the source; what is made is cut, or followed by silence.

    Returns:
        float32 (length,) in [-1, 1].
    """
    back = resampled(samples, made_rate, sampling_rate)
    back = torch.nn.functional.pad(back, (0, max(0, length - len(back))))[:length]
    gain = wanted_level / max(float(back.square().mean().sqrt()), 1e-9)
    gain = min(gain, PEAK / max(float(back.abs().max()), 1e-9))
    return (back * gain).numpy()


def answered(
    converter: str,
    made: np.ndarray,
    made_rate: int,
    source: np.ndarray,
    sampling_rate: int,
    pace: float = 1.0,
) -> np.ndarray:
    """What another program made of a source, checked and made to fit it.

    Args:
        converter: Its name, for messages.
        made: Its answer, float (samples,) at `made_rate` Hz.
        made_rate: In Hz.
        source: float32 (samples,) at `sampling_rate` Hz, not silent.
        sampling_rate: In Hz.
        pace: How many times as long as the source the answer was to be.

    Returns:
        float32, of the source's shape, rate and loudness.

    Raises:
        ValueError: If the answer is not finite, silent, overflowed, or of another duration.
    """
    name = f"{converter}'s answer"
    try:
        level(name, made)
    except RowError as error:  # the converter's doing, and not the clip's
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
    return as_given(
        samples,
        made_rate,
        wanted_level=level("audio", source),
        sampling_rate=sampling_rate,
        length=len(source),
    )
