"""Loads the model that is fine-tuned; `finetune.model.adapters` puts an adapter on it.

The supported models and what is special about each are in `finetune.model.families`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from finetune.inputs.audio_in_video import AUDIO_IN_VIDEO, Interleaving
from finetune.inputs.batch import Budget
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.shown_modalities import shown_modalities
from finetune.model.families import FAMILIES, Family, family_of
from finetune.model.quantization import keep_trainable, quantization
from finetune.settings import Attention, HeadName, Quantize
from pipelines.errors import UsageError
from pipelines.pretrained import SAFE, SAFE_WEIGHTS, Pretrained
from pipelines.row import Modality

EMBEDDED = "embedded"
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


@dataclass(frozen=True)
class BaseModel:
    """A frozen model with its processor."""

    name: str
    revision: str | None
    family: Family
    thinker: Any
    processor: Any
    max_pixels: int | None = None
    """Of a frame, at most."""

    def encoder(
        self,
        budget: Budget,
        modalities: Sequence[Modality] | None,
        head: HeadName = "regression",
        audio_in_video: bool | None = None,
    ) -> ChatEncoder:
        """The encoder of this model's inputs; None stands for all modalities, and for audio as in training.

        Raises:
            UsageError: If the family does not read one of them, or cannot have audio among frames.
        """
        model = self.thinker
        rope_index = getattr(model, "get_rope_index", None) or getattr(
            model.base_model, "get_rope_index", None
        )
        return ChatEncoder(
            self.processor,
            rope_index,
            budget,
            shown_modalities(self.family.modalities, self.name, modalities),
            self.family.chat,
            self.max_pixels,
            head,
            self._interleaving(audio_in_video),
        )

    def _interleaving(self, audio_in_video: bool | None) -> Interleaving | None:
        """How audio is interleaved with frames, if it is.

        By default it is in a family that can, unless the model's configuration says that it was trained
        without.
        """
        interleaving, config = self.family.chat.interleaving, self.thinker.config
        if audio_in_video and interleaving is None:
            raise UsageError(
                f"finetune.audio_in_video: got true, but {self.name!r} does not take audio among frames;"
                " takes null or false"
            )
        if audio_in_video is None:
            audio_in_video = getattr(config, AUDIO_IN_VIDEO, True)
        return interleaving(config) if interleaving is not None and audio_in_video else None


def load_base(
    name: str,
    revision: str | None,
    *,
    dtype: torch.dtype,
    max_pixels: int | None,
    attention: Attention = "auto",
    quantize: Quantize = "none",
) -> BaseModel:
    """Load a frozen model and its processor.

    Args:
        name: `embedded`, a Hub id, or a directory.
        revision: Of a Hub model.
        dtype: Of its parameters.
        max_pixels: Of a frame, at most; None for the family's own limit.
        attention: The implementation of attention.
        quantize: How the language model's weights are stored.

    Raises:
        UsageError: If it cannot be loaded, is of no known family, has another tokenizer, or a package is
            missing.
    """
    import transformers

    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    family, processor = load_processor(name, revision)
    settings: dict[str, Any] = SAFE_WEIGHTS | {"revision": revision, "dtype": dtype}
    if attention != "auto":
        settings["attn_implementation"] = attention
    settings |= quantization(quantize)
    with _pretrained(name, revision).explained(), _available(attention):
        model = getattr(transformers, family.model_class).from_pretrained(source_of(name), **settings)
    _check_tokens(name, processor, model.config)
    model.requires_grad_(False)
    keep_trainable(model)
    model.name_or_path = name  # the adapter names its base as the user did, not by a local folder
    return BaseModel(name, revision, family, model, processor, max_pixels)


@contextmanager
def _available(attention: Attention) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        advice = "pip install flash-attn" if attention == "flash_attention_2" else "finetune.attention: sdpa"
        raise UsageError(f"finetune.attention: {attention} is not available ({error}); {advice}") from error


def _check_tokens(name: str, processor: Any, config: Any) -> None:
    """Refuse a tokenizer that is not the model's, as without its `tokenizer.json`: it gives other ids."""
    for kind in ("image", "video", "audio"):
        token, names = getattr(processor, f"{kind}_token", None), (f"{kind}_token_id", f"{kind}_token_index")
        wanted = next((getattr(config, each) for each in names if hasattr(config, each)), None)
        found = processor.tokenizer.convert_tokens_to_ids(token) if token and wanted is not None else wanted
        if found != wanted:
            raise UsageError(
                f"finetune.model: {name!r} has a tokenizer in which {token} has the id {found}, and a"
                f" config.json in which it has {wanted}; give the model's whole folder"
            )


def _pretrained(name: str, revision: str | None) -> Pretrained:
    return Pretrained(
        setting="finetune.model", name=source_of(name), revision=revision, advice="take a Hub id or a folder"
    )


def source_of(name: str) -> str:
    """The name or folder by which transformers finds a model."""
    return str(CHECKPOINTS / "thinker") if name == EMBEDDED else name


def load_family(name: str, revision: str | None) -> Family:
    """A model's family, from its configuration alone.

    Raises:
        UsageError: If it cannot be found, or is of no known family.
    """
    config = _pretrained(name, revision).config()
    family = family_of(config)
    if family is None:
        raise UsageError(
            f"finetune.model: {name!r} is a {config.model_type}; takes {', '.join(FAMILIES)},"
            " and for text alone any causal language model that transformers knows"
        )
    return family


def load_processor(name: str, revision: str | None) -> tuple[Family, Any]:
    """A model's family and its processor.

    Raises:
        UsageError: If it cannot be found, or is of no known family.
    """
    import transformers

    family = load_family(name, revision)
    processor_class = getattr(transformers, family.processor_class)
    with _pretrained(name, revision).explained():
        processor = processor_class.from_pretrained(source_of(name), revision=revision, **SAFE)
    if hasattr(processor, "tokenizer"):
        return family, processor
    tokenizer = processor
    if tokenizer.pad_token is None:  # any token will do, since padding is never attended to
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return family, SimpleNamespace(tokenizer=tokenizer)
