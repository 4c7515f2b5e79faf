"""The pitch path of the voice converter: tracking a contour, shifting it, and synthesising its excitation."""

from __future__ import annotations

import math

import torch

from pipelines import pitch as tracker
from pipelines.pitch import HOP, RANGE_HZ, SAMPLING_RATE

_NOISE_VOICED = 0.5  # amplitude of the noise; each harmonic has amplitude 1
_NOISE_UNVOICED = 6.0  # as loud within a band as pulses at about 200 Hz


def track(samples: torch.Tensor) -> torch.Tensor:
    """The pitch of a voice at each mel frame.

    Args:
        samples: float32 waveform at 16 kHz, (samples,), with at least one sample.

    Returns:
        float32 (frame_count(samples),): Hz, 0 where there is no pitch.
    """
    return torch.from_numpy(tracker.track(samples.numpy(force=True))).nan_to_num(0.0)


def median_log_f0(pitch: torch.Tensor) -> float:
    """Median pitch of the voiced frames in octaves (log2 of Hz); NaN if no frame is voiced."""
    voiced = pitch[pitch > 0]
    return float(voiced.log2().median()) if len(voiced) else math.nan


def shifted(pitch: torch.Tensor, octaves: float) -> torch.Tensor:
    """A contour shifted by octaves and clamped to the range of voices."""
    inside = (pitch * 2**octaves).clamp(*RANGE_HZ)
    return torch.where(pitch > 0, inside, torch.zeros_like(pitch))


def excitation(pitch: torch.Tensor, samples: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """A waveform with a given pitch and nothing else: pulses where voiced, noise elsewhere.

    Args:
        pitch: Hz per mel frame, 0 where unvoiced, (frame_count(samples),).
        samples: Length of the waveform.
        generator: Draws the noise.

    Returns:
        float32 (samples,) with a flat spectrum: every harmonic below half the sampling rate has
        amplitude 1, with a little noise between them.
    """
    # Frame i is centred at sample i * HOP, so the samples nearest to it begin half a hop earlier.
    voiced = torch.repeat_interleave(pitch > 0, HOP).roll(-HOP // 2)[:samples]
    filled = _filled(pitch)[None, None]
    hertz = torch.nn.functional.interpolate(filled, size=len(pitch) * HOP, mode="linear")[0, 0]
    # `interpolate` centres frame i at (i + 1/2) * HOP, half a hop late.
    hertz = torch.cat([hertz[HOP // 2 :], hertz[-1:].expand(HOP // 2)])[:samples]
    noise = torch.randn(samples, generator=generator, device="cpu").to(pitch.device)
    return torch.where(voiced, _pulse_train(hertz) + _NOISE_VOICED * noise, _NOISE_UNVOICED * noise)


def _pulse_train(hertz: torch.Tensor) -> torch.Tensor:
    """Sum of cos(h * phase) over all harmonics h below half the sampling rate, in closed form."""
    phase = torch.cumsum(hertz.double() / SAMPLING_RATE, 0).remainder(1).float() * 2 * math.pi
    count = (0.95 * SAMPLING_RATE / 2 / hertz).floor()
    half = torch.sin(phase / 2)
    near = half.abs() < 1e-3
    sums = torch.sin((count + 0.5) * phase) / (2 * torch.where(near, torch.ones_like(half), half)) - 0.5
    return torch.where(near, count, sums)


def _filled(pitch: torch.Tensor) -> torch.Tensor:
    """The contour with unvoiced frames filled from the nearest voiced ones, or 150 Hz without any."""
    known = torch.nonzero(pitch > 0)[:, 0]
    if not len(known):
        return torch.full_like(pitch, 150.0)
    frames = torch.arange(len(pitch), device=pitch.device)
    after = torch.searchsorted(known, frames).clamp(max=len(known) - 1)
    before = (after - 1).clamp(min=0)
    nearer = (frames - known[before]).abs() < (known[after] - frames).abs()
    return pitch[known[torch.where(nearer, before, after)]]
