"""The pitch of a voice, which controls voice conversion and is compared by the scorer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

SAMPLING_RATE = 16_000
HOP = 256  # samples between frames: 16 ms
RANGE_HZ = (60.0, 500.0)
_VOICED = 0.5  # SwiftF0's confidence from which a frame counts as voiced


def track(samples: np.ndarray) -> np.ndarray:
    """The pitch at each frame, by SwiftF0.

    Args:
        samples: float32 mono at 16 kHz, (samples,), with at least one sample.

    Returns:
        float32 (samples // HOP + 1,): Hz in `RANGE_HZ`, NaN in unvoiced frames. Frame i is centred at
        sample i * HOP.

    References:
        Nieradzik 2025, "SwiftF0: fast and accurate monophonic pitch detection", arXiv:2508.18440.
    """
    # The padding completes the last frame.
    result = _tracker().detect(np.pad(samples, (0, HOP)), SAMPLING_RATE, *RANGE_HZ)
    hertz = np.where(result.confidence >= _VOICED, result.pitch_hz, np.nan)
    return hertz[: len(samples) // HOP + 1].astype(np.float32)


@lru_cache(maxsize=1)
def _tracker() -> Any:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1, spin=False)
