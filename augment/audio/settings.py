"""Settings of the stage: audio variants.

Imports nothing heavy, as `augment.settings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from augment.audio.methods import METHODS, MethodName

FLOW_MATCHING = ("model", "revision", "steps", "guidance_scale", "temperature", "batch_size")
"""The settings that only `flow_matching` reads."""


@dataclass(frozen=True, kw_only=True)
class VoiceDatasetSettings:
    """Which clips of a dataset of voices are targets."""

    subset: str | None = None
    """The dataset's configuration, where it has several."""
    split: str = "train"
    """Its split."""
    revision: str | None = None
    """Revision of a Hub id."""
    clips: int = 200
    """So many of its first clips are read, and kept in memory; at least 1."""
    streaming: bool = True
    """Whether no more than these are loaded; false loads the whole split, and keeps it on disk."""

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"clips: {self.clips} is too small; take 1 or more")


@dataclass(frozen=True, kw_only=True)
class SeedVCSettings:
    """What only the method `seed_vc` has; `daq-msa doctor` tells how to set it up."""

    python: str = ".venv-seed-vc/bin/python"
    """The Python interpreter of Seed-VC's own environment."""
    weights: str = "~/.cache/daq-msa/seed_vc"
    """The folder where it keeps the weights that it downloads."""
    diffusion_steps: int = 30
    """Steps from noise to speech, at least 1: 10 is fast, 50 best."""
    length_adjust: float = 1.0
    """Length of the result in lengths of the source, in [0.5, 2]. With other than 1, lips and voice part; it
    is cut, or followed by silence, to the source's length."""
    inference_cfg_rate: float = 0.7
    """How far to go beyond the conditional field, at least 0."""
    f0_condition: bool = False
    """Whether the source's pitch contour steers the result, by a model of its own for singing."""
    auto_f0_adjust: bool = False
    """Whether the contour moves to the target's pitch; needs `f0_condition`."""
    semi_tone_shift: int = 0
    """Semitones that the contour is moved by, in [-24, 24]; needs `f0_condition`."""
    fp16: bool = True
    """Whether it computes in half precision on a GPU; on the CPU it never does."""
    timeout_s: float = 300.0
    """Seconds for one clip, above 0; a worker that takes longer is killed and the variant rejected."""
    start_timeout_s: float = 1800.0
    """Seconds for the start, downloads included, above 0."""
    restarts: int = 3
    """How often in a row the worker is started again without a variant made in between, at least 0."""

    def __post_init__(self) -> None:
        for name, least in (("diffusion_steps", 1), ("inference_cfg_rate", 0), ("restarts", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take {least} or more")
        for name in ("timeout_s", "start_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take more than 0")
        for name, low, high in (("length_adjust", 0.5, 2), ("semi_tone_shift", -24, 24)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: {getattr(self, name)} is outside [{low}, {high}]")
        for name in ("auto_f0_adjust", "semi_tone_shift"):
            if getattr(self, name) and not self.f0_condition:
                raise ValueError(f"{name}: {getattr(self, name)} needs f0_condition: true")

    def options(self) -> dict[str, Any]:
        """What a result depends on: not where the program is, nor how long it may take."""
        apart = ("python", "weights", "timeout_s", "start_timeout_s", "restarts")
        return {name: value for name, value in asdict(self).items() if name not in apart}

    def models(self) -> list[str]:
        """The folders of weights that are known: none, the program finds its own."""
        return []

    @property
    def note(self) -> str:
        """For the card of a dataset with such variants."""
        return "The sound of variants was made by Seed-VC, a program under the GPL 3.0."


@dataclass(frozen=True, kw_only=True)
class ChatterboxSettings:
    """What only the method `chatterbox` has."""

    folder: str | None = None
    """A folder with its weights, `s3gen.safetensors`; null downloads the published ones."""
    watermark: Literal["off", "keep"] = "off"
    """Whether the mark that some releases put on all they make is left out or kept. Originals have none, so a
    kept one tells variants from originals."""

    def options(self) -> dict[str, Any]:
        """What a result depends on."""
        return {"watermark": self.watermark}

    def models(self) -> list[str]:
        """The folder of weights, where it is one."""
        return [self.folder] if self.folder else []

    @property
    def note(self) -> str:
        """For the card of a dataset with such variants."""
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
    """What converts: the project's own pipeline; Seed-VC, a program in an environment of its own; or the
    package chatterbox."""
    model: str = "embedded"
    """The voice converter of `flow_matching`: `embedded`, which ships with the project and was trained on
    synthetic voices, a Hub id, or a directory."""
    revision: str | None = None
    """Revision of a Hub id."""
    voices: str = "corpus"
    """Target voices: `corpus` for the other speakers of the training split; a folder of speech with a
    subfolder a speaker, or with a list, `voices.csv`; or a dataset, a Hub id or a folder of Parquet files."""
    voices_dataset: VoiceDatasetSettings = field(default_factory=VoiceDatasetSettings)
    """Of a dataset of voices alone."""
    target_gender: Literal["any", "same"] = "any"
    """Whether a target has the source speaker's gender. Where a voice is not tagged with one, it is guessed
    from the usual pitch."""
    reference_s: float = 8.0
    """Seconds of a target's speech that are listened to, from its clip's beginning; at least 1, of `seed_vc`
    at most 25."""
    steps: int = 10
    """Euler steps of `flow_matching` from noise to speech, at least 1."""
    guidance_scale: float = 0.7
    """How far `flow_matching` goes beyond the conditional field, at least 0; 0 takes half the time."""
    temperature: float = 0.0
    """How much noise `flow_matching` starts from, in [0, 1]; a large converter may take 1, with which
    twice as many words of the embedded one are wrong."""
    batch_size: int = 1
    """Chunks of 2 s of a clip that `flow_matching` takes through the transformer together, at least 1; more
    suit a GPU."""
    seed_vc: SeedVCSettings = field(default_factory=SeedVCSettings)
    """Of `seed_vc` alone."""
    chatterbox: ChatterboxSettings = field(default_factory=ChatterboxSettings)
    """Of `chatterbox` alone."""

    def __post_init__(self) -> None:
        least_of = {"variants": 0, "reference_s": 1, "steps": 1, "guidance_scale": 0, "batch_size": 1}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take {least} or more")
        if not 0 <= self.temperature <= 1:
            raise ValueError(f"temperature: {self.temperature} is outside [0, 1]")
        longest = METHODS[self.method].longest_reference_s
        if self.reference_s > longest:
            raise ValueError(
                f"reference_s: {self.reference_s} is more than {self.method} hears; take 1 to {longest:g}"
            )

    def own(self) -> SeedVCSettings | ChatterboxSettings | None:
        """The settings that the method reads in place of those of `flow_matching`."""
        section = METHODS[self.method].section
        return getattr(self, section) if section else None

    def used(self) -> dict[str, Any]:
        """What a variant depends on: neither how many there are, nor another method's settings, nor how a
        dataset of voices, whose contents count, is read."""
        values = asdict(self) | {"variants": None, "reference": "speech"}
        del values["seed_vc"], values["chatterbox"], values["voices_dataset"]
        own = self.own()
        if own is None:
            del values["method"]
            return values
        for name in FLOW_MATCHING:
            del values[name]
        return values | {self.method: own.options()}

    def models(self) -> list[str]:
        """The weights that a variant depends on, where they are known: a Hub id, a folder or `embedded`."""
        own = self.own()
        return [self.model] if own is None else own.models()
