"""How good speech sounds: DNSMOS, whose weights come with the package speechmos.

References:
    Reddy et al. 2022, "DNSMOS P.835", arXiv:2110.01763. As the package computes it, but that a sound
    shorter than a window is rated once, and not up to seven times at other places of its repetition.
    The package's own code is not called: it needs librosa, for another rating.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from score.media.audio import SAMPLING_RATE, Sound

WINDOW = 144_160
"""Samples that are rated at once, 9.01 s; shorter sounds are repeated."""
HOP = SAMPLING_RATE
BATCH = 8
"""Windows that are rated together."""
WORST = 1.0
"""Of a scale from 1 to 5."""
_RATING = np.poly1d([-0.06766283, 1.11546468, 0.04602535])  # from what the network says to ratings


class SpeechQuality:
    """Holds the network.

    Args:
        session: An onnxruntime session, from samples (n, WINDOW) to speech, background, overall (n, 3).
    """

    def __init__(self, session: Any) -> None:
        self.session = session

    def __call__(self, sound: Sound) -> float:
        """Mean opinion score of the sound as a whole, from 1 to 5; `WORST` of silence."""
        if sound.silent:
            return WORST
        windows = windowed(sound.samples)
        told = [
            self.session.run(None, {"input_1": windows[start : start + BATCH]})[0][:, 2]
            for start in range(0, len(windows), BATCH)
        ]
        return float(_RATING(np.concatenate(told)).mean())


def windowed(samples: np.ndarray) -> np.ndarray:
    """Windows that begin a second apart, (n, WINDOW); of a shorter sound one, which it fills by repeating."""
    if len(samples) < WINDOW:
        return np.resize(samples, (1, WINDOW)).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP].astype(np.float32)


def load_quality(name: str, device: str) -> SpeechQuality:
    """Load the network; `name` is dnsmos, the only one, and `device` is not asked."""
    import onnxruntime
    import torch

    assert name == "dnsmos", name
    found = find_spec("speechmos")
    assert found is not None
    assert found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return SpeechQuality(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
