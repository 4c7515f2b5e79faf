"""The pitch path of the voice converter: a contour, moved to another range, and the sound of it alone."""

from __future__ import annotations

import math

import torch

from pipelines import pitch as tracker
from pipelines.pitch import HOP, RANGE_HZ, SAMPLING_RATE

_NOISE_VOICED = 0.5  # beside pulses of amplitude 1 a harmonic
_NOISE_UNVOICED = 6.0  # as loud in a band as pulses at about 200 Hz


def track(samples: torch.Tensor) -> torch.Tensor:
    """The pitch of a voice, one value a mel frame.

    Args:
        samples: float32 waveform at 16 kHz, (samples,), with at least one sample.

    Returns:
        float32 (frame_count(samples),): Hz, 0 where there is no pitch.
    """
    return torch.from_numpy(tracker.track(samples.numpy(force=True))).nan_to_num(0.0)


def middle(pitch: torch.Tensor) -> float:
    """Median of the voiced frames' pitch in octaves (log2 of Hz); NaN where no frame is voiced."""
    voiced = pitch[pitch > 0]
    return float(voiced.log2().median()) if len(voiced) else math.nan


def moved(pitch: torch.Tensor, octaves: float) -> torch.Tensor:
    """The same contour so many octaves higher, within the range of voices."""
    inside = (pitch * 2**octaves).clamp(*RANGE_HZ)
    return torch.where(pitch > 0, inside, torch.zeros_like(pitch))


def excitation(pitch: torch.Tensor, samples: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """The sound of a pitch and nothing else: pulses where there is one, noise where there is none.

    Args:
        pitch: Hz per mel frame, 0 where unvoiced, (frame_count(samples),).
        samples: Length of the sound.
        generator: Draws the noise.

    Returns:
        float32 (samples,) with a flat spectrum: every harmonic below half the sampling rate has
        amplitude 1, with a little noise between them.
    """
    reached = len(pitch) * HOP
    # Frame i is centred at sample i * HOP, so what is nearest to it begins half a hop before.
    voiced = torch.repeat_interleave(pitch > 0, HOP).roll(-HOP // 2)[:samples]
    hertz = torch.nn.functional.interpolate(_held(pitch)[None, None], size=reached, mode="linear")[0, 0]
    # Interpolation centres frame i at (i + 1/2) * HOP: half a hop late.
    hertz = torch.cat([hertz[HOP // 2 :], hertz[-1:].expand(HOP // 2)])[:samples]
    noise = torch.randn(samples, generator=generator, device="cpu").to(pitch.device)
    pulses = _pulses(hertz) + _NOISE_VOICED * noise
    return torch.where(voiced, pulses, _NOISE_UNVOICED * noise)


def _pulses(hertz: torch.Tensor) -> torch.Tensor:
    """Sum of cos(h * phase) over all harmonics h below half the sampling rate, in closed form."""
    phase = torch.cumsum(hertz.double() / SAMPLING_RATE, 0).remainder(1).float() * 2 * math.pi
    count = (0.95 * SAMPLING_RATE / 2 / hertz).floor()
    half = torch.sin(phase / 2)
    near = half.abs() < 1e-3
    sums = torch.sin((count + 0.5) * phase) / (2 * torch.where(near, torch.ones_like(half), half)) - 0.5
    return torch.where(near, count, sums)


def _held(pitch: torch.Tensor) -> torch.Tensor:
    """The contour with unvoiced frames filled from the nearest voiced ones, 150 Hz where there are none."""
    known = torch.nonzero(pitch > 0)[:, 0]
    if not len(known):
        return torch.full_like(pitch, 150.0)
    frames = torch.arange(len(pitch), device=pitch.device)
    after = torch.searchsorted(known, frames).clamp(max=len(known) - 1)
    before = (after - 1).clamp(min=0)
    nearer = (frames - known[before]).abs() < (known[after] - frames).abs()
    return pitch[known[torch.where(nearer, before, after)]]
