"""The settings of the stage: section `augment` of a recipe.

Imports nothing heavy, so that `--help` and a mistyped recipe are answered at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from augment.styles import styles_for

Method = Literal["fatezero", "sdedit", "animatediff", "cogvideox", "wan", "wan_vace"]
# A checkpoint that each is meant for.
EXAMPLES: dict[Method, str] = {
    "fatezero": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdedit": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "animatediff": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "cogvideox": "zai-org/CogVideoX-2b",
    "wan": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "wan_vace": "Wan-AI/Wan2.1-VACE-1.3B-diffusers",
}


@dataclass(frozen=True, kw_only=True)
class FateZeroSettings:
    """What only the method `fatezero` has."""

    guidance_spread: float = 0.2
    """A style's guidance is multiplied by a factor drawn from 1 - this to 1 + this, in [0, 1)."""
    own_frame: bool = True
    """Whether a frame attends to itself too, not to the middle frame alone; keeps a mouth's motion."""
    key_frame_min_channels: int = 64
    """Narrower blocks of the UNet look at each frame alone; 640 for Stable Diffusion."""
    latents: str = "none"
    """A folder where each clip's inversion is kept, so that another style of it inverts nothing; `none` keeps
    none."""

    def __post_init__(self) -> None:
        if not 0 <= self.guidance_spread < 1:
            raise ValueError(f"guidance_spread: {self.guidance_spread} is outside [0, 1)")


@dataclass(frozen=True, kw_only=True)
class VideoToVideoSettings:
    """What all other methods have: they noise a clip, or only look at it, and make it again from words."""

    strength: float = 0.5
    """Share of the steps that are run, from as much noise, in (0, 1]; 1 keeps nothing. Not of `wan_vace`."""
    guidance_scale: float = 5.0
    """How hard the result is pushed towards the words, at least 1."""
    negative_prompt: str = "blurry, distorted"
    """What it is pushed away from."""
    motion_adapter: str = "guoyww/animatediff-motion-adapter-v1-5-2"
    """The motion module of `animatediff`, a Hub id or a directory."""
    conditioning_scale: float = 1.0
    """How closely `wan_vace` follows the source's light and shade, above 0."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: {self.strength} is outside (0, 1]")
        if self.guidance_scale < 1:
            raise ValueError(f"guidance_scale: {self.guidance_scale} is too small; take 1 or more")
        if self.conditioning_scale <= 0:
            raise ValueError(f"conditioning_scale: {self.conditioning_scale} is too small; take more than 0")


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Video variants by diffusion. The defaults suit the embedded model."""

    variants: int = 1
    """Video variants of each training clip."""
    method: Method = "fatezero"
    """What edits: `fatezero`; `sdedit`, Stable Diffusion image by image with one noise for all frames; or a
    video model, `animatediff`, `cogvideox`, `wan`, or `wan_vace`."""
    model: str = "embedded"
    """A checkpoint that the method takes: a Hub id, or a directory. `embedded`, which ships with the project
    and knows drawn heads only, is of Stable Diffusion 1.x, for `fatezero` and `sdedit`."""
    revision: str | None = None
    """Revision of a Hub id."""
    styles: tuple[str, ...] = ()
    """Presets to draw from; empty takes all that suit the model."""
    source_prompt: str = "a person talking"
    """What every clip shows; a style's words are put in front of it."""
    captioner: str | None = None
    """An image captioner of transformers, a Hub id or a directory, whose words for a clip's middle frame take
    the place of `source_prompt`."""
    captioner_revision: str | None = None
    """Revision of a captioner's Hub id."""
    crop: Literal["none", "paste", "keep"] = "none"
    """Whether face and shoulders alone are edited, and then pasted back or kept as the whole picture."""
    fps: float | None = None
    """Frames a second that are edited, each shown until the next; null edits every frame."""
    size: int = 64
    """Pixels of the longer side while frames are edited; 512 for Stable Diffusion."""
    steps: int = 6
    """Steps of the diffusion, of `fatezero` those of inversion and of the edit; at least 1."""
    window: int = 14
    """Frames edited together, at least 2; with `fatezero` the clip's middle frame is one of them."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; auto is float16 on CUDA (bfloat16 for `wan`, `wan_vace` and `cogvideox`) and float32
    elsewhere."""
    compile: bool = False
    """Whether the denoising network is compiled by torch, of `fatezero` its transformer blocks; for GPUs."""
    fatezero: FateZeroSettings = field(default_factory=FateZeroSettings)
    """Of `fatezero` alone."""
    video_to_video: VideoToVideoSettings = field(default_factory=VideoToVideoSettings)
    """Of the other methods."""

    def __post_init__(self) -> None:
        for name, least in (("variants", 0), ("size", 16), ("steps", 1), ("window", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take {least} or more")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps: {self.fps} is too small; take more than 0, or null")
        if self.model == "embedded" and self.method not in ("fatezero", "sdedit"):
            wanted = EXAMPLES[self.method]
            raise ValueError(
                f"model: 'embedded' is no checkpoint for {self.method}; name one, such as {wanted}"
            )
        if self.method not in ("fatezero", "wan_vace") and self.steps * self.video_to_video.strength < 1:
            raise ValueError(
                f"video_to_video.strength: {self.video_to_video.strength} of {self.steps} steps is less than"
                " one step; raise one of them"
            )
        known = styles_for(self.model)
        for style in self.styles:
            if style not in known:
                raise ValueError(f"styles: {style!r} is unknown to {self.model}; take {', '.join(known)}")

    def used(self) -> dict[str, Any]:
        """What a variant depends on: neither how many there are, nor another method's settings, nor where
        inversions are kept."""
        values = asdict(self)
        values.pop("variants")
        values["fatezero"].pop("latents")
        values.pop("video_to_video" if self.method == "fatezero" else "fatezero")
        return values


CLEAN_DB = 50.0
"""Signal-to-noise ratio from which no noise is added."""
Track = Literal["video", "audio"]


@dataclass(frozen=True, kw_only=True)
class ClassicSoundSettings:
    """What may be done to the sound."""

    semitones: float = 2.0
    """How far the pitch may move up or down, in [0, 12]."""
    stretch: float = 0.15
    """How far the speed may be from 1 before it is taken back, in [0, 0.5]; the smear stays."""
    room_s: float = 0.4
    """The longest reverberation time, in which echoes decay by 60 dB, in [0, 3] seconds."""
    snr_db: float = 20.0
    """The lowest ratio of sound to white noise, in [-10, 50] dB; at 50 there is no noise."""

    def __post_init__(self) -> None:
        ranges = {"semitones": (0, 12), "stretch": (0, 0.5), "room_s": (0, 3), "snr_db": (-10, CLEAN_DB)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"sound.{name}: {getattr(self, name)} is outside [{least:g}, {most:g}]")

    def weaker(self, strength: float) -> ClassicSoundSettings:
        """Ranges that are `strength` times as wide."""
        return ClassicSoundSettings(
            semitones=self.semitones * strength,
            stretch=self.stretch * strength,
            room_s=self.room_s * strength,
            snr_db=CLEAN_DB - (CLEAN_DB - self.snr_db) * strength,
        )


@dataclass(frozen=True, kw_only=True)
class ClassicSettings:
    """Variants without diffusion, to compare with. Of the picture: crop, colours, blur and JPEG, alike in all
    frames; of the sound: pitch, a vocoder's smear, a room and noise."""

    variants: int = 0
    """Classic variants of each training clip."""
    tracks: tuple[Track, ...] = ("video",)
    """What each replaces: `[video]`, `[audio]`, or `[video, audio]` together."""
    crop: float = 0.15
    """The largest share of a side that is cut away, in [0, 0.5]."""
    colour: float = 0.3
    """How far brightness, contrast and saturation may move, in [0, 1]; hue a tenth of it."""
    blur: float = 1.0
    """The largest deviation of the blur, in hundredths of the shorter side; at least 0."""
    jpeg: int = 40
    """The lowest JPEG quality, in [1, 100]."""
    sound: ClassicSoundSettings = field(default_factory=ClassicSoundSettings)
    """Of the sound alone."""

    def __post_init__(self) -> None:
        if not self.tracks or len(set(self.tracks)) < len(self.tracks):
            raise ValueError(f"tracks: got {list(self.tracks)}; take video, audio, or each of them once")
        ranges = {"crop": (0, 0.5), "colour": (0, 1), "blur": (0, 100), "jpeg": (1, 100)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)} is outside [{least}, {most}]")
        if self.variants < 0:
            raise ValueError(f"variants: {self.variants} is negative; take 0 or more")

    def weaker(self, strength: float) -> ClassicSettings:
        """Ranges that are `strength` times as wide."""
        return replace(
            self,
            crop=self.crop * strength,
            colour=self.colour * strength,
            blur=self.blur * strength,
            jpeg=round(100 - (100 - self.jpeg) * strength),
            sound=self.sound.weaker(strength),
        )

    def used(self) -> dict[str, Any]:
        """What a variant depends on: not how many there are, nor what would be done to another track."""
        values = asdict(self) | {"variants": None}
        tracks, sound = values.pop("tracks"), values.pop("sound")
        if tracks == ("audio",):
            return {"sound": sound}
        return values | {"sound": sound} if "audio" in tracks else values


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


@dataclass(frozen=True, kw_only=True)
class ChatterboxSettings:
    """What only the method `chatterbox` has."""

    folder: str | None = None
    """A folder with its weights, `s3gen.safetensors`; null downloads the published ones."""
    watermark: Literal["off", "keep"] = "off"
    """Whether the mark that some releases put on all they make is left out or kept. Originals have none, so a
    kept one tells variants from originals."""


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """Audio variants by voice conversion."""

    variants: int = 1
    """Audio variants of each training clip."""
    method: Literal["flow_matching", "seed_vc", "chatterbox"] = "flow_matching"
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
    """How much noise `flow_matching` starts from, in [0, 1]; a large converter may take 1, which the embedded
    one is hard to understand with."""
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
        if self.method == "seed_vc" and self.reference_s > 25:
            raise ValueError(f"reference_s: {self.reference_s} is more than seed_vc hears; take 1 to 25")

    def used(self) -> dict[str, Any]:
        """What a variant depends on: neither how many there are, nor another method's settings, nor how a
        dataset of voices, whose contents count, is read."""
        values = asdict(self) | {"variants": None, "reference": "speech"}
        del values["seed_vc"], values["chatterbox"], values["voices_dataset"]
        if self.method == "flow_matching":
            del values["method"]
            return values
        for name in ("model", "revision", "steps", "guidance_scale", "temperature", "batch_size"):
            del values[name]
        own = self.seed_vc.options() if self.method == "seed_vc" else {"watermark": self.chatterbox.watermark}
        return values | {self.method: own}

    def weights(self) -> list[str]:
        """The model, a Hub id, a folder or `embedded`, where it is known."""
        if self.method == "flow_matching":
            return [self.model]
        return [self.chatterbox.folder] if self.method == "chatterbox" and self.chatterbox.folder else []


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """Variants made again that score badly: by `--scores`, or in the course of `daq-msa run`."""

    attempts: int = 0
    """How often a variant is made again at most; 0 makes none again."""
    below: float = 0.5
    """A variant of lower `quality` is made again, in (0, 1], and so is one that has none."""
    budget: float | None = None
    """How many may be made again in all, as a share of all variants, above 0; the worst come first. Null sets
    no limit."""
    strength: float = 1.0
    """Factor on the edit's strength at each further attempt, in (0, 1]; 1 changes the seed alone. So it is
    whatever this says with what has no strength, audio and `wan_vace`."""

    def __post_init__(self) -> None:
        if self.attempts < 0:
            raise ValueError(f"attempts: {self.attempts} is negative; take 0 or more")
        for name in ("below", "strength"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is outside (0, 1]")
        if self.budget is not None and self.budget <= 0:
            raise ValueError(f"budget: {self.budget} is too small; take more than 0, or null")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Stage 1a: variants of the training clips."""

    video: VideoSettings = field(default_factory=VideoSettings)
    """Video variants, by diffusion from the source's latents."""
    audio: AudioSettings = field(default_factory=AudioSettings)
    """Audio variants, by voice conversion."""
    both: int = 0
    """Variants of each clip with a new picture and a new voice together."""
    classic: ClassicSettings = field(default_factory=ClassicSettings)
    """Variants of picture or sound without diffusion."""
    retries: RetrySettings = field(default_factory=RetrySettings)
    """Variants made again that score badly."""
    device: str = "auto"
    """Where the models run: auto, cpu, cuda, cuda:1, mps."""

    def __post_init__(self) -> None:
        if self.both < 0:
            raise ValueError(f"both: {self.both} is negative; take 0 or more")

    def variants(self) -> dict[str, int]:
        """How many variants of each kind a clip gets."""
        counts = {"video": self.video.variants, "audio": self.audio.variants, "both": self.both}
        return counts | {"classic": self.classic.variants}

    def replaces(self, kind: str) -> tuple[Track, ...]:
        """The tracks that a kind of variant replaces, the picture first."""
        tracks: dict[str, tuple[Track, ...]] = {
            "video": ("video",),
            "audio": ("audio",),
            "both": ("video", "audio"),
            "classic": tuple(sorted(self.classic.tracks, reverse=True)),
        }
        return tracks[kind]

    def strength(self, kind: str, attempt: int) -> float:
        """The factor on the strength of a variant's edit at an attempt, from 0 on."""
        fixed = kind == "audio" or (kind != "classic" and self.video.method == "wan_vace")
        return 1.0 if fixed else self.retries.strength**attempt
