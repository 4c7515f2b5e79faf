"""How loud a sound is, and another one made as loud: variants keep their source's loudness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SILENT = 1e-4
"""Root mean square below which a sound is silent."""
PEAK = 0.999
"""A sound that would reach further is made softer."""


def level(name: str, sound: np.ndarray) -> float:
    """Root mean square of a sound that can be worked on.

    Args:
        name: What it is called in an error.
        sound: Mono samples in [-1, 1], (samples,).

    Raises:
        ValueError: If it is not mono, empty, silent or not finite.
    """
    if sound.ndim != 1 or not len(sound):
        raise ValueError(f"{name}: shape {sound.shape}; wants mono samples, (samples,) with at least one")
    if not np.isfinite(sound).all():
        raise ValueError(f"{name}: {int((~np.isfinite(sound)).sum())} of {len(sound)} samples are not finite")
    found = float(np.sqrt(np.square(sound, dtype=np.float64).mean()))
    if found < SILENT:
        raise ValueError(
            f"{name}: silent, root mean square {found:.1e} below {SILENT:.0e}; there is no voice"
        )
    return found


def with_level(samples: torch.Tensor, level: float) -> torch.Tensor:
    """A sound (samples,) brought to a root mean square; softer where it would clip."""
    gain = level / max(float(samples.square().mean().sqrt()), 1e-9)
    return samples * min(gain, PEAK / max(float(samples.abs().max()), 1e-9))
