"""Time and memory of a conversion; `benchmarks.voice_conversion.speed` calls it in a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measurement import peak_bytes, reset_peak, watched
from pipelines.errors import UsageError

RUNS = 3
"""Conversions, of which the fastest counts: other programs on the machine only make them slower."""
SAMPLING_RATE = 16_000
REFERENCE_S = 8.0
"""Length of the reference audio, as for a variant by default."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One conversion."""

    steps: int
    """Euler steps."""
    seconds: float
    """Length of the audio."""
    batch: int
    """Chunks of the audio per batch of the transformer."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Model and device of a run."""

    model: str
    """`embedded`, or a directory or Hub id of a voice converter."""
    guidance: float
    device: str
    threads: int
    """CPU threads."""


def convert(setting: Setting, case: Case) -> dict[str, Any]:
    """Measure one conversion.

    Returns:
        `taken_s`; `transformer_s`, seconds inside the transformer's passes, and `passes`, their number;
        `bytes`, the peak above the loaded networks, at least 1; `parameters` of the transformer;
        `samples`, the result.

    Raises:
        UsageError: If the model cannot be loaded.
    """
    import torch

    pipeline = _load(setting)
    audio, reference = tone(case.seconds, 120.0), tone(REFERENCE_S, 200.0)

    def call(steps: int, audio: np.ndarray) -> np.ndarray:
        return pipeline(
            audio,
            reference,
            sampling_rate=SAMPLING_RATE,
            num_inference_steps=steps,
            guidance_scale=setting.guidance,
            batch_size=case.batch,
            generator=torch.Generator().manual_seed(0),
        )

    call(1, audio[: SAMPLING_RATE // 2])  # so that start-up is not measured
    before = reset_peak(setting.device)
    times = []
    for _ in range(RUNS):
        with watched(pipeline.transformer, setting.device) as passes:
            started = time.perf_counter()
            samples = call(case.steps, audio)
            times.append((time.perf_counter() - started, passes.seconds))
    taken_s, transformer_s = min(times)
    return {
        "taken_s": taken_s,
        "transformer_s": transformer_s,
        "passes": len(passes.rows),
        "bytes": max(1, peak_bytes(setting.device) - before),
        "parameters": pipeline.transformer.num_parameters(),
        "samples": samples,
    }


def tone(seconds: float, hertz: float) -> np.ndarray:
    """Harmonics of a gliding pitch, modulated like syllables: float32 (samples,) at 16 kHz.

    The time of a conversion does not depend on the content.
    """
    times = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * times))) / SAMPLING_RATE
    samples = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 16))
    return (0.05 * samples * (0.6 + 0.4 * np.sin(6 * np.pi * times))).astype(np.float32)


def _load(setting: Setting) -> Any:
    import diffusers
    import torch

    from augment.audio.flow_matching_converter import load_converter

    torch.set_num_threads(setting.threads)
    diffusers.utils.logging.disable_progress_bar()
    try:
        return load_converter(setting.model, None, setting.device)
    except UsageError as error:
        raise UsageError("--model" + str(error).removeprefix("augment.audio.model")) from error
