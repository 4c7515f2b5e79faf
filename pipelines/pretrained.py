"""Loads pre-trained models that settings name, through transformers.

No code that comes with a model is executed, and weights are read from safetensors only. A model is refused if
some of its weights are not in its checkpoint: they would be random, and so would its output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UsageError, listed, reason
from pipelines.running.machine_faults import refuse_fault

SAFE: dict[str, Any] = {"trust_remote_code": False}
SAFE_WEIGHTS: dict[str, Any] = SAFE | {"use_safetensors": True}
# Weights that nothing here depends on, and that many checkpoints leave out.
UNUSED = ("pooler.", "masked_spec_embed", "mask_token")


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A model by name, with what messages say about it."""

    setting: str  # the key that names the model
    name: str  # a Hub id or a folder
    revision: str | None = None  # of a Hub id
    purpose: str = ""  # after `cannot be loaded` in messages
    advice: str  # the values that the setting takes, at the end of messages

    def config(self) -> Any:
        """Load its configuration; a failure is a `UsageError`."""
        import transformers

        with self.explained():
            return transformers.AutoConfig.from_pretrained(self.name, revision=self.revision, **SAFE)

    def load(self, *, processor: str, model: str, device: str = "cpu") -> tuple[Any, Any]:
        """Load its processor, and the model in float32, frozen.

        Args:
            processor: The Auto class of the processor.
            model: The Auto class of the model.
            device: The torch device that it runs on.

        Raises:
            UsageError: If it cannot be loaded, is of another kind, or lacks weights.
        """
        import torch
        import transformers

        if not sys.stderr.isatty():
            transformers.logging.disable_progress_bar()
        where = {"pretrained_model_name_or_path": self.name, "revision": self.revision}
        with self.explained():
            made = getattr(transformers, processor).from_pretrained(**where, **SAFE)
            loaded, report = getattr(transformers, model).from_pretrained(
                **where, **SAFE_WEIGHTS, dtype=torch.float32, output_loading_info=True
            )
        missing = sorted(part for part in report["missing_keys"] if not any(word in part for word in UNUSED))
        if missing:
            raise UsageError(
                f"{self.setting}: {self.name!r} has no weights for {len(missing)} parts of its"
                f" {type(loaded).__name__} ({listed(missing, 3)}), which would be random; {self.advice}"
            )
        return made, loaded.eval().requires_grad_(False).to(device)

    def check_hearing(self, extractor: Any, sampling_rate: int) -> None:
        """Refuse a model for another sampling rate, with a `UsageError`."""
        if extractor.sampling_rate != sampling_rate:
            raise UsageError(
                f"{self.setting}: {self.name!r} expects audio at {extractor.sampling_rate} Hz;"
                f" choose a model for {sampling_rate} Hz"
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of a library that loads the model into one line.

        Raises:
            UsageError: If the model cannot be loaded.
            MachineFault: If this machine lacks memory, handles or the like.
        """
        import torch
        from huggingface_hub.errors import StrictDataclassError
        from safetensors import SafetensorError

        try:
            yield
        except (torch.OutOfMemoryError, UsageError):  # not an error of a library about the model
            raise
        except (
            OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError,
            SafetensorError, StrictDataclassError,
        ) as error:  # fmt: skip
            cause, advice = reason(error), self.advice
            if any(package in str(error).lower() for package in ("sentencepiece", "tiktoken", "protobuf")):
                cause = "its tokenizer needs packages that are missing"
                advice = "pip install sentencepiece protobuf"
            elif isinstance(error, OSError | RuntimeError):
                refuse_fault(error, f"{self.setting}: {self.name}")
            purpose = f" {self.purpose}" if self.purpose else ""
            message = f"{self.setting}: {self.name!r} cannot be loaded{purpose} ({cause}); {advice}"
            raise UsageError(message) from error
