"""Speech quality by DNSMOS, whose weights come with the package speechmos.

References:
    Reddy et al. 2022, "DNSMOS P.835", arXiv:2110.01763. As the package computes it, except that audio
    shorter than a window is rated once, and not up to seven times at other offsets of its repetition.
    The package's own code is not used, since it needs librosa for another rating.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from score.media.audio import SAMPLING_RATE, AudioTrack

WINDOW = 144_160
"""Samples of a rated window, 9.01 s; shorter audio is repeated."""
HOP = SAMPLING_RATE
BATCH = 8
"""Windows per batch."""
WORST = 1.0
"""Lowest rating on the scale from 1 to 5."""
_RATING = np.poly1d([-0.06766283, 1.11546468, 0.04602535])  # maps the network's output to ratings


class SpeechQuality:
    """Rates speech.

    Args:
        session: An onnxruntime session, from samples (n, WINDOW) to speech, background, overall (n, 3).
    """

    def __init__(self, session: Any) -> None:
        self.session = session

    def __call__(self, audio: AudioTrack) -> float:
        """Mean opinion score, from 1 to 5, over all windows; `WORST` for silence."""
        if audio.silent:
            return WORST
        windows = windowed(audio.samples)
        outputs = [
            self.session.run(None, {"input_1": windows[start : start + BATCH]})[0][:, 2]
            for start in range(0, len(windows), BATCH)
        ]
        return float(_RATING(np.concatenate(outputs)).mean())


def windowed(samples: np.ndarray) -> np.ndarray:
    """Windows that start one second apart, (n, WINDOW); shorter audio is repeated to fill one."""
    if len(samples) < WINDOW:
        return np.resize(samples, (1, WINDOW)).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP].astype(np.float32)


def load_quality(name: str, device: str) -> SpeechQuality:
    """Load the network; `name` is dnsmos, the only choice, and `device` is ignored."""
    import onnxruntime
    import torch

    assert name == "dnsmos", name
    package = find_spec("speechmos")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return SpeechQuality(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
