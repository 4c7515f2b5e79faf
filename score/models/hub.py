"""Loads models by name through transformers.

Nothing that comes with a model is run, and weights are read from safetensors alone. A model some of
whose weights are not in its checkpoint is refused: they would be random, and so would its signal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError

# Weights that no signal depends on, and that many checkpoints leave out.
UNUSED = ("pooler.", "masked_spec_embed", "mask_token")


def load(key: str, name: str, *, processor: str, model: str, device: str) -> tuple[Any, Any]:
    """A model and its processor.

    Args:
        key: The setting, for messages.
        name: A Hub id, with `@REVISION` behind it where one is meant, or a folder.
        processor: The Auto class of the processor.
        model: The Auto class of the model.
        device: The torch device that it runs on.

    Raises:
        UsageError: If it cannot be had, is of another kind, or lacks weights.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    try:
        made = getattr(transformers, processor).from_pretrained(**_where(name))
        loaded, report = getattr(transformers, model).from_pretrained(
            **_where(name), use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, ImportError, KeyError, StrictDataclassError) as error:
        raise cannot(key, name, error) from error
    lacking = sorted(part for part in report["missing_keys"] if not any(word in part for word in UNUSED))
    if lacking:
        raise UsageError(
            f"score.models.{key}: {name!r} has no weights for {len(lacking)} parts of its"
            f" {type(loaded).__name__} ({', '.join(lacking[:3])}), which would be random; name a checkpoint"
            " that was trained for this"
        )
    return made, loaded.eval().requires_grad_(False).to(device)


def config(key: str, name: str) -> Any:
    """A model's configuration.

    Raises:
        UsageError: If it cannot be had.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    try:
        return transformers.AutoConfig.from_pretrained(**_where(name))
    except (OSError, ValueError, ImportError, KeyError, StrictDataclassError) as error:
        raise cannot(key, name, error) from error


def cannot(key: str, name: str, error: Exception) -> UsageError:
    """That a model cannot be loaded, why, and what to do."""
    said = (line.strip() for line in str(error).splitlines())
    reason = next((line for line in said if line), type(error).__name__)
    return UsageError(
        f"score.models.{key}: {name!r} cannot be loaded ({reason}); takes a Hub id, NAME or NAME@REVISION, or"
        f" a folder with config, processor and weights as safetensors; leave {key} out to score without it"
    )


def _where(name: str) -> dict[str, Any]:
    repository, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    return {
        "pretrained_model_name_or_path": repository,
        "revision": revision or None,
        "trust_remote_code": False,
    }
