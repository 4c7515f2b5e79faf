"""Settings of audio variants.

Imports nothing heavy, like `augment.settings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from augment.audio.methods import METHODS, MethodName
from augment.ranges import check_ranges

# The settings that only `flow_matching` reads, and the sections of the other methods.
FLOW_MATCHING = ("model", "revision", "steps", "guidance_scale", "temperature", "batch_size")
SECTIONS = tuple(method.section for method in METHODS.values() if method.section)


@dataclass(frozen=True, kw_only=True)
class VoiceDatasetSettings:
    """Which clips of a dataset of voices to use."""

    subset: str | None = None
    """The dataset's configuration, if it has several."""
    split: str = "train"
    """Its split."""
    revision: str | None = None
    """Revision of a Hub id."""
    clips: int = 200
    """How many of its first clips are read, and kept in memory; at least 1."""
    streaming: bool = True
    """Whether only these are downloaded; false downloads the whole split, and keeps it on disk."""

    def __post_init__(self) -> None:
        check_ranges(self, clips="[1, inf]")


class OwnSettings(Protocol):
    """The section of a method that does not read the settings of `flow_matching`."""

    def options(self) -> dict[str, Any]:
        """What the output depends on."""

    def models(self) -> list[str]:
        """The known models that it depends on, each a Hub id, a folder or `embedded`."""

    @property
    def note(self) -> str:
        """A note for the card of a dataset with such variants."""


@dataclass(frozen=True, kw_only=True)
class SeedVCSettings:
    """Settings of the method `seed_vc`; `daq-msa doctor` explains how to set it up."""

    python: str = ".venv-seed-vc/bin/python"
    """The Python interpreter of Seed-VC's own environment."""
    weights: str = "~/.cache/daq-msa/seed_vc"
    """The folder for the weights that it downloads."""
    diffusion_steps: int = 30
    """Diffusion steps, at least 1: 10 is fast, 50 is best."""
    length_adjust: float = 1.0
    """Length of the output in lengths of the source, in [0.5, 2]. Unless it is 1, lips and voice get out of
    sync; the output is cut, or padded with silence, to the source's length."""
    inference_cfg_rate: float = 0.7
    """Scale of classifier-free guidance, at least 0."""
    f0_condition: bool = False
    """Whether the output follows the source's pitch contour, by a separate model for singing."""
    auto_f0_adjust: bool = False
    """Whether the contour is moved to the target's pitch; needs `f0_condition`."""
    semi_tone_shift: int = 0
    """Semitones by which the contour is moved, in [-24, 24]; needs `f0_condition`."""
    fp16: bool = True
    """Whether it computes in half precision on a GPU; it never does on the CPU."""
    timeout_s: float = 300.0
    """Seconds per clip, above 0; a worker that takes longer is killed and the variant rejected."""
    start_timeout_s: float = 1800.0
    """Seconds for the start, including downloads, above 0."""
    restarts: int = 3
    """How often the worker is restarted without a successful variant in between, at least 0."""

    def __post_init__(self) -> None:
        check_ranges(self, diffusion_steps="[1, inf]", inference_cfg_rate="[0, inf]", restarts="[0, inf]")
        check_ranges(self, timeout_s="(0, inf]", start_timeout_s="(0, inf]")
        check_ranges(self, length_adjust="[0.5, 2]", semi_tone_shift="[-24, 24]")
        for name in ("auto_f0_adjust", "semi_tone_shift"):
            if getattr(self, name) and not self.f0_condition:
                raise ValueError(f"{name}: {getattr(self, name)} needs f0_condition: true")

    def options(self) -> dict[str, Any]:
        """What the output depends on: not the program's location, nor how long it may take."""
        excluded = ("python", "weights", "timeout_s", "start_timeout_s", "restarts")
        return {name: value for name, value in asdict(self).items() if name not in excluded}

    def models(self) -> list[str]:
        """The known folders of weights: none, as the program finds its own."""
        return []

    @property
    def note(self) -> str:
        """A note for the card of a dataset with such variants."""
        return "The sound of variants was made by Seed-VC, a program under the GPL 3.0."


@dataclass(frozen=True, kw_only=True)
class ChatterboxSettings:
    """Settings of the method `chatterbox`."""

    folder: str | None = None
    """A folder with its weights, `s3gen.safetensors`; null downloads the published ones."""
    watermark: Literal["off", "keep"] = "off"
    """Whether to keep the watermark that some releases add to their output. As originals have none, a model
    can tell variants from originals by it."""

    def options(self) -> dict[str, Any]:
        """What the output depends on."""
        return {"watermark": self.watermark}

    def models(self) -> list[str]:
        """The folder of weights, if one is set."""
        return [self.folder] if self.folder else []

    @property
    def note(self) -> str:
        """A note for the card of a dataset with such variants."""
        return f"The sound of variants was made by Chatterbox (MIT). {WATERMARKS[self.watermark]}"


WATERMARKS = {
    "off": "It bears no watermark: the one that Chatterbox can set was left out, so that it does not tell"
    " variants from originals.",
    "keep": "Where the installed release sets one, it bears Chatterbox' inaudible watermark"
    " (`audio.watermark` in a row's `generator` says so), and originals do not: a model can learn to"
    " tell them apart by it.",
}


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """Audio variants by voice conversion."""

    variants: int = 1
    """Audio variants of each training clip."""
    method: MethodName = "flow_matching"
    """The converter: `flow_matching`, the project's own pipeline; `seed_vc`, a program in an environment of
    its own; or `chatterbox`, a package."""
    model: str = "embedded"
    """The model of `flow_matching`: `embedded`, which ships with the project and was trained on synthetic
    voices, a Hub id, or a directory."""
    revision: str | None = None
    """Revision of the model's Hub id."""
    voices: str = "corpus"
    """Target voices: `corpus` for the other speakers of the training split; a folder of speech with a
    subfolder per speaker or a list, `voices.csv`; or a dataset, as a Hub id or a folder of Parquet files."""
    voices_dataset: VoiceDatasetSettings = field(default_factory=VoiceDatasetSettings)
    """For a dataset of voices only."""
    target_gender: Literal["any", "same"] = "any"
    """Whether a target has the source speaker's gender. The gender of untagged voices is guessed from their
    median pitch."""
    reference_s: float = 8.0
    """Seconds of a target's speech that are used, from its clip's beginning; at least 1, with `seed_vc` at
    most 25."""
    steps: int = 10
    """Euler steps of `flow_matching`, at least 1."""
    guidance_scale: float = 0.7
    """Scale of classifier-free guidance of `flow_matching`, at least 0; 0 takes half the time."""
    temperature: float = 0.0
    """Standard deviation of the noise that `flow_matching` starts from, in [0, 1]. 1 suits large converters;
    with the embedded one it makes twice as many words wrong."""
    batch_size: int = 1
    """Chunks of 2 s of a clip that `flow_matching` converts together, at least 1; use more on a GPU."""
    seed_vc: SeedVCSettings = field(default_factory=SeedVCSettings)
    """For `seed_vc` only."""
    chatterbox: ChatterboxSettings = field(default_factory=ChatterboxSettings)
    """For `chatterbox` only."""

    def __post_init__(self) -> None:
        check_ranges(self, variants="[0, inf]", reference_s="[1, inf]", steps="[1, inf]")
        check_ranges(self, guidance_scale="[0, inf]", temperature="[0, 1]", batch_size="[1, inf]")
        longest = METHODS[self.method].longest_reference_s
        if self.reference_s > longest:
            raise ValueError(
                f"reference_s: {self.reference_s} is too long for {self.method}; take 1 to {longest:g}"
            )

    def own(self) -> OwnSettings | None:
        """The settings that the method reads instead of those of `flow_matching`."""
        section = METHODS[self.method].section
        return getattr(self, section) if section else None

    def used(self) -> dict[str, Any]:
        """What a variant depends on: not their number, other methods' settings, or how a dataset of voices is
        read, as the digest of its contents is part of the key."""
        values = asdict(self) | {"variants": None, "reference": "speech"}
        for name in ("voices_dataset", *SECTIONS):
            del values[name]
        if self.method == "flow_matching":
            del values["method"]  # as before there were others, so that its variants stay
        own = self.own()
        if own is None:
            return values
        for name in FLOW_MATCHING:
            del values[name]
        return values | {self.method: own.options()}

    def models(self) -> list[str]:
        """The known models that a variant depends on, each a Hub id, a folder or `embedded`."""
        own = self.own()
        return [self.model] if own is None else own.models()
