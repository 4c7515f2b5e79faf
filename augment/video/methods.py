"""What edits a clip: the table of methods, to which a new generator is added.

Imports nothing heavy, since the settings read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Method:
    """What sets a method apart from the others."""

    checkpoint: str
    """One that it takes, for messages: a Hub id."""
    editor: str = "augment.video.diffusers_editor:DiffusersEditor"
    """The class that edits, `module:Class`: an `augment.video.editor.Editor`."""
    section: Literal["fatezero", "video_to_video"] = "video_to_video"
    """The section of `augment.video` that it reads beside what all methods share."""
    takes_embedded: bool = False
    """Whether it takes the small Stable Diffusion that ships with the project."""
    has_strength: bool = True
    """Whether an edit can be made weaker."""
    gpu_precision: Literal["float16", "bfloat16"] = "float16"
    """Of the weights on a GPU; those that were published in bfloat16 overflow in float16."""
    pipeline: str = ""
    """Of `DiffusersEditor` alone, as all that follows: the pipeline's class in diffusers."""
    shown: Literal["video", "images", "shade"] = "video"
    """What the pipeline is given of the clip: its frames as one video or each by itself, or their light and
    shade as a condition."""
    temporal_stride: int = 1
    """Frames that are one step of the latents in time: a window has a multiple of it and one frame."""
    float32: tuple[str, ...] = ()
    """Components that are in float32 whatever the precision."""
    motion_adapter: bool = False
    """Whether the checkpoint makes images, and `video_to_video.motion_adapter` moves them."""


_STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
METHODS: dict[str, Method] = {
    "fatezero": Method(
        checkpoint=_STABLE_DIFFUSION,
        editor="augment.video.fatezero_editor:FateZeroEditor",
        section="fatezero",
        takes_embedded=True,
    ),
    "sdedit": Method(
        checkpoint=_STABLE_DIFFUSION,
        takes_embedded=True,
        pipeline="StableDiffusionImg2ImgPipeline",
        shown="images",
    ),
    "animatediff": Method(
        checkpoint=_STABLE_DIFFUSION, pipeline="AnimateDiffVideoToVideoPipeline", motion_adapter=True
    ),
    "cogvideox": Method(
        checkpoint="zai-org/CogVideoX-2b",
        gpu_precision="bfloat16",
        pipeline="CogVideoXVideoToVideoPipeline",
        temporal_stride=4,
    ),
    "wan": Method(
        checkpoint="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        gpu_precision="bfloat16",
        pipeline="WanVideoToVideoPipeline",
        temporal_stride=4,
        float32=("vae",),  # its autoencoder is published for single precision
    ),
    "wan_vace": Method(
        checkpoint="Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        has_strength=False,
        gpu_precision="bfloat16",
        pipeline="WanVACEPipeline",
        shown="shade",
        temporal_stride=4,
        float32=("vae",),
    ),
}

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
