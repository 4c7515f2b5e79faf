"""The models that can be fine-tuned: `FAMILIES` by the `model_type` of a configuration, and `TEXT_ONLY`.

An entry names the classes of transformers that load a family, and says how rows become its inputs, how its
towers are called, and which of its layers `adapters.py` puts an adapter on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from finetune.inputs import chat_formats
from finetune.inputs.chat_formats import Chat
from finetune.model import tower_calls
from finetune.model.parts import AUDIO_TOWER, LANGUAGE_MODEL, PROJECTOR, VISION_TOWER, language_model
from finetune.settings import Part
from pipelines.row import Modality

Encode = Callable[[Any, Tensor, Tensor], list[Tensor]]
"""As `finetune.model.towers.encode_video` and `encode_audio`."""


class Layers(NamedTuple):
    """Linear layers of a model."""

    part: str
    """A name in `finetune.model.parts`."""
    pattern: str
    """A regular expression of their names inside that part."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of model."""

    model_class: str
    """In transformers."""
    processor_class: str
    chat: Chat
    adapted: dict[Part, tuple[Layers, ...]]
    """The linear layers that get an adapter, by part; all below the head where none are named."""
    encode_video: Encode | None = None
    encode_audio: Encode | None = None
    decoder: Callable[[Any], Any] = language_model
    """Returns a model's language model below the head."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The family's inputs. A row's other modalities are left out."""
        video: tuple[Modality, ...] = ("video",) if self.encode_video else ()
        audio: tuple[Modality, ...] = ("audio",) if self.encode_audio else ()
        return ("text", *audio, *video)


_ATTENTION = Layers(LANGUAGE_MODEL, r"layers\.\d+\.self_attn\.[qkvo]_proj")
_LANGUAGE = Layers(LANGUAGE_MODEL, r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)")
_AUDIO = Layers(AUDIO_TOWER, r"layers\.\d+\.(self_attn\.\w+_proj|fc[12])")
_SPLIT_VISION = Layers(VISION_TOWER, r"blocks\.\d+\.(attn\.(q|k|v|proj)|mlp\.\w+_proj)")
_FUSED_VISION = Layers(VISION_TOWER, r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(\w+_proj|linear_fc[12]))")

_QWEN2_5_OMNI = Family(
    model_class="Qwen2_5OmniThinkerForConditionalGeneration",
    processor_class="Qwen2_5OmniProcessor",
    chat=chat_formats.QWEN2_5_OMNI,
    encode_video=tower_calls.encode_video,
    encode_audio=tower_calls.encode_audio_packed,
    adapted={
        "language": (_LANGUAGE,),
        "projectors": (Layers(VISION_TOWER, r"merger\.mlp\.[02]"), Layers(AUDIO_TOWER, "proj")),
        "vision": (_SPLIT_VISION,),
        "audio": (_AUDIO,),
    },
)
_QWEN3_OMNI = Family(
    model_class="Qwen3OmniMoeThinkerForConditionalGeneration",
    processor_class="Qwen3OmniMoeProcessor",
    chat=chat_formats.QWEN3_OMNI,
    encode_video=tower_calls.encode_video_levels,
    encode_audio=tower_calls.encode_audio_chunked,
    adapted={
        # Attention alone: the experts are two parameters for all of them, no linear layers.
        "language": (_ATTENTION,),
        "projectors": (
            Layers(VISION_TOWER, r"(merger|merger_list\.\d+)\.mlp\.[02]"),
            Layers(AUDIO_TOWER, "proj[12]"),
        ),
        "vision": (_FUSED_VISION,),
        "audio": (_AUDIO,),
    },
)
_QWEN2_5_VL = Family(
    model_class="Qwen2_5_VLForConditionalGeneration",
    processor_class="Qwen2_5_VLProcessor",
    chat=chat_formats.QWEN2_5_VL,
    encode_video=tower_calls.encode_video,
    adapted={
        "language": (_LANGUAGE,),
        "projectors": (Layers(VISION_TOWER, r"merger\.mlp\.[02]"),),
        "vision": (_FUSED_VISION,),
    },
)
_QWEN3_VL = Family(
    model_class="Qwen3VLForConditionalGeneration",
    processor_class="Qwen3VLProcessor",
    chat=chat_formats.QWEN3_VL,
    encode_video=tower_calls.encode_video_levels,
    adapted={
        "language": (_LANGUAGE,),
        "projectors": (Layers(VISION_TOWER, r"(merger|deepstack_merger_list\.\d+)\.linear_fc[12]"),),
        "vision": (_FUSED_VISION,),
    },
)
_QWEN2_AUDIO = Family(
    model_class="Qwen2AudioForConditionalGeneration",
    processor_class="Qwen2AudioProcessor",
    chat=chat_formats.QWEN2_AUDIO,
    encode_audio=tower_calls.encode_audio_padded,
    adapted={
        "language": (_LANGUAGE,),
        "projectors": (Layers(PROJECTOR, "linear"),),
        "audio": (_AUDIO,),
    },
)
FAMILIES: dict[str, Family] = {
    "qwen2_5_omni": _QWEN2_5_OMNI,  # thinker and talker together, as on the Hub; the thinker is loaded
    "qwen2_5_omni_thinker": _QWEN2_5_OMNI,
    "qwen3_omni_moe": _QWEN3_OMNI,
    "qwen3_omni_moe_thinker": _QWEN3_OMNI,
    "qwen2_5_vl": _QWEN2_5_VL,
    "qwen3_vl": _QWEN3_VL,
    "qwen2_audio": _QWEN2_AUDIO,
}
TEXT_ONLY = Family(
    model_class="AutoModelForCausalLM",
    processor_class="AutoTokenizer",
    chat=chat_formats.TEXT,
    decoder=lambda model: model.base_model,
    adapted={"language": ()},
)


def known_family(model: Any) -> Family:
    """The family of a model that `load_base` has loaded."""
    family = family_of(model.config)
    assert family is not None, f"load_base takes no {model.config.model_type}"
    return family


def family_of(config: Any) -> Family | None:
    """The family of a configuration; None for a model that is not known here."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.model_type in FAMILIES:
        return FAMILIES[config.model_type]
    # The mapping also has encoders that can be used as decoders; their configuration says they are not.
    causal = getattr(config, "is_decoder", True) and not getattr(config, "is_encoder_decoder", False)
    return TEXT_ONLY if causal and config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else None
