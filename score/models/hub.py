"""The settings `score.models` of models that transformers loads."""

from __future__ import annotations

from pathlib import Path

from pipelines.pretrained import Pretrained


def named(key: str, name: str) -> Pretrained:
    """The model that a setting names: a folder, or a Hub id, optionally followed by `@REVISION`."""
    repository, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    return Pretrained(
        setting=f"score.models.{key}",
        name=repository,
        revision=revision or None,
        advice="takes a Hub id, NAME or NAME@REVISION, or a folder with config, processor and all weights as"
        f" safetensors; leave {key} out to score without it",
    )
