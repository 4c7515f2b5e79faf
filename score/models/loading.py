"""Loads the pre-trained models that the settings name, and reports missing packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from score.models.faces import load_face
from score.models.feature_extractors import FeatureExtractors
from score.models.images import load_expression, load_image
from score.models.quality import load_quality
from score.models.speech import load_speech
from score.models.voices import load_emotion, load_speaker

LOADERS: dict[str, Callable[..., Any]] = {
    "image": load_image,
    "face": load_face,
    "expression": load_expression,
    "speech": load_speech,
    "quality": load_quality,
    "speaker": load_speaker,
    "emotion": load_emotion,
}
# Packages needed besides transformers.
PACKAGES = {"face": ("facenet_pytorch",), "quality": ("speechmos", "onnxruntime")}
INSTALL = "pip install 'daq-msa[score]'"


def unavailable(names: Mapping[str, str]) -> dict[str, str]:
    """Models that are set but whose package is not installed, with a message that says how to install it."""
    reasons = {}
    for setting in names:
        lacking = [package for package in PACKAGES.get(setting, ()) if find_spec(package) is None]
        if lacking:
            packages = " and ".join(package.replace("_", "-") for package in lacking)
            reasons[setting] = f"score.models.{setting} needs {packages}, not installed here; {INSTALL}"
    if "face" in reasons and "expression" in names:
        reasons["expression"] = reasons["face"]  # it must not fall back to whole frames
    return reasons


def identity(names: Mapping[str, str]) -> dict[str, str]:
    """Identity of each model, by setting: its name, and a folder's digest."""
    from pipelines.provenance import folder_digest

    return {
        setting: f"{name}:{folder_digest(Path(name))}" if Path(name).is_dir() else name
        for setting, name in names.items()
    }


def load(names: Mapping[str, str], device: str) -> FeatureExtractors:
    """Load models.

    Args:
        names: By setting, without those whose package is not installed.
        device: auto, or a torch device.

    Raises:
        UsageError: If one cannot be loaded; the message names its setting.
    """
    from pipelines.device import pick

    place = pick(device) if names else device
    models: dict[str, Any] = {}
    for setting, loader in LOADERS.items():  # in this order: `expression` asks `face`
        if setting in names:
            extra = {"faces": models.get("face")} if setting == "expression" else {}
            models[setting] = loader(names[setting], place, **extra)
    return models
