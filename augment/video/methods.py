"""The table of video editing methods; a new generator is added here.

Imports nothing heavy, since the settings read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Method:
    """The properties of a method."""

    checkpoint: str
    """A checkpoint that fits it, for messages: a Hub id."""
    editor: str = "augment.video.diffusers_editor:DiffusersEditor"
    """The class that edits, `module:Class`: an `augment.video.editor.Editor`."""
    section: Literal["fatezero", "video_to_video"] = "video_to_video"
    """The section of `augment.video` that it reads beside the common settings."""
    takes_embedded: bool = False
    """Whether it works with the small Stable Diffusion that ships with the project."""
    has_strength: bool = True
    """Whether an edit can be made weaker."""
    gpu_precision: Literal["float16", "bfloat16"] = "float16"
    """Precision of the weights on a GPU; weights published in bfloat16 overflow in float16."""
    pipeline: str = ""
    """The pipeline's class in diffusers. This and all that follows is for `DiffusersEditor` only."""
    shown: Literal["video", "images", "luminance"] = "video"
    """How the pipeline gets the clip: as one video, frame by frame, or its luminance as a condition."""
    temporal_stride: int = 1
    """Frames per latent frame: a window has a multiple of it plus one frame."""
    float32: tuple[str, ...] = ()
    """Components that are in float32 whatever the precision."""
    motion_adapter: bool = False
    """Whether the checkpoint is an image model that needs `video_to_video.motion_adapter`."""


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
        float32=("vae",),  # the autoencoder is published for float32
    ),
    "wan_vace": Method(
        checkpoint="Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        has_strength=False,
        gpu_precision="bfloat16",
        pipeline="WanVACEPipeline",
        shown="luminance",
        temporal_stride=4,
        float32=("vae",),
    ),
}

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
