"""What a conversion takes in time and memory, measured by a process that does nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import measurement
from benchmarks.measurement import watched
from pipelines.errors import UsageError

RUNS = 3
"""Conversions, of which the fastest counts: what else the machine does only makes them slower."""
SAMPLING_RATE = 16_000
REFERENCE_S = 8.0
"""As many seconds of a target as a variant listens to by default."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sound and how it is converted."""

    steps: int
    """Of Euler."""
    seconds: float
    """That it lasts."""
    batch: int
    """Chunks of it that go through the transformer together."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What does not change within a run."""

    model: str
    """`embedded`, or a directory or Hub id of a voice converter."""
    guidance: float
    device: str
    threads: int
    """Of the CPU."""


def convert(setting: Setting, case: Case) -> dict[str, Any]:
    """Measure one conversion.

    Returns:
        `taken_s`; `transformer_s`, seconds inside the transformer's passes, and `passes`, how many;
        `bytes`, the peak above the loaded networks, at least 1; `parameters` of the transformer;
        `sound`, the result.

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

    call(1, audio[: SAMPLING_RATE // 2])  # what starts up is not measured
    before = measurement.start(setting.device)
    found = []
    for _ in range(RUNS):
        with watched(pipeline.transformer, setting.device) as passes:
            started = time.perf_counter()
            made = call(case.steps, audio)
            found.append((time.perf_counter() - started, passes.seconds))
    taken_s, transformer_s = min(found)
    return {
        "taken_s": taken_s,
        "transformer_s": transformer_s,
        "passes": len(passes.rows),
        "bytes": max(1, measurement.reached(setting.device) - before),
        "parameters": pipeline.transformer.num_parameters(),
        "sound": made,
    }


def tone(seconds: float, hertz: float) -> np.ndarray:
    """Harmonics of a pitch that glides, in syllables: float32 (samples,) at 16 kHz.

    How long a conversion takes does not depend on what is said.
    """
    times = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * times))) / SAMPLING_RATE
    sound = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 16))
    return (0.05 * sound * (0.6 + 0.4 * np.sin(6 * np.pi * times))).astype(np.float32)


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
