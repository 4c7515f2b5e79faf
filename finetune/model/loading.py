"""The model that is fine-tuned: where it comes from; `finetune.model.adapters` puts an adapter on it.

Which models there are, and what is peculiar to each, is in `finetune.model.families`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.inputs.audio_in_video import AUDIO_IN_VIDEO, Interleaving
from finetune.inputs.batch import Budget
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.shown_modalities import shown_modalities
from finetune.model.families import FAMILIES, Family, family_of
from finetune.model.quantization import keep_trainable, quantization
from finetune.settings import Attention, Quantize, ReadoutName
from pipelines.errors import UsageError
from pipelines.pretrained import SAFE, SAFE_WEIGHTS, Pretrained
from pipelines.row import Modality

EMBEDDED = "embedded"
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


@dataclass(frozen=True)
class TextProcessor:
    """A tokenizer where other families have a processor with more in it."""

    tokenizer: Any


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A frozen model with what belongs to it."""

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
        readout: ReadoutName = "regression",
        audio_in_video: bool | None = None,
    ) -> ChatEncoder:
        """What makes rows into this model's inputs.

        Args:
            budget: How much of a clip is shown.
            modalities: What is shown; None for all that the family reads.
            readout: How the rating is read, which the question says.
            audio_in_video: Whether the sound of a clip stands among its frames; None for as the model was
                trained.

        Raises:
            UsageError: If the family does not read one of them, or cannot have sound among frames.
        """
        return ChatEncoder(
            self.processor,
            _rope_index(self.thinker),
            budget,
            shown_modalities(self.family.modalities, self.name, modalities),
            self.family.chat,
            self.max_pixels,
            readout,
            self._interleaving(audio_in_video),
        )

    def _interleaving(self, wanted: bool | None) -> Interleaving | None:
        """How sound stands among frames, if it does.

        Of itself it does in a family that can, unless the configuration of the model says that it was
        trained without.
        """
        possible, config = self.family.chat.interleaving, self.thinker.config
        if wanted and possible is None:
            raise UsageError(
                f"finetune.audio_in_video: got true, but {self.name!r} does not take sound among frames;"
                " takes null or false"
            )
        if wanted is None:
            wanted = getattr(config, AUDIO_IN_VIDEO, True)
        return possible(config) if possible is not None and wanted else None


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
        attention: By which code attention is computed.
        quantize: How the language model's weights are kept.

    Raises:
        UsageError: If it cannot be found, is of no known family, or a package is missing.
    """
    import transformers

    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    family, processor = load_processor(name, revision)
    settings: dict[str, Any] = SAFE_WEIGHTS | {"revision": revision, "dtype": dtype}
    if attention != "auto":
        settings["attn_implementation"] = attention
    settings |= quantization(quantize)
    try:
        model = getattr(transformers, family.model_class).from_pretrained(source_of(name), **settings)
    except ImportError as error:
        wanted = "pip install flash-attn" if attention == "flash_attention_2" else "finetune.attention: sdpa"
        raise UsageError(f"finetune.attention: {attention} is not to be had ({error}); {wanted}") from error
    model.requires_grad_(False)
    keep_trainable(model)
    model.name_or_path = name  # the adapter names its base as the user did, not by a folder here
    return BaseModel(
        name=name,
        revision=revision,
        family=family,
        thinker=model,
        processor=processor,
        max_pixels=max_pixels,
    )


def source_of(name: str) -> str:
    """Where transformers finds a model."""
    return str(CHECKPOINTS / "thinker") if name == EMBEDDED else name


def load_family(name: str, revision: str | None) -> Family:
    """A model's family, by its configuration alone.

    Raises:
        UsageError: If it cannot be found, or is of no known family.
    """
    config = Pretrained(
        setting="finetune.model", name=source_of(name), revision=revision, advice="take a Hub id or a folder"
    ).config()
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
    processor = getattr(transformers, family.processor_class).from_pretrained(
        source_of(name), revision=revision, **SAFE
    )
    return family, processor if hasattr(processor, "tokenizer") else _text_processor(processor)


def _text_processor(tokenizer: Any) -> TextProcessor:
    """With a token to pad with: what it is does not matter, since padding is never attended to."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return TextProcessor(tokenizer)


def _rope_index(model: Any) -> Any:
    """The model's own rule for the places of tokens; None for a model that counts them."""
    return getattr(model, "get_rope_index", None) or getattr(model.base_model, "get_rope_index", None)
