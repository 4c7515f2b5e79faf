"""The settings of `augment.training.voice.train`, from a recipe and the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from augment.ranges import check_ranges
from pipelines.atomic import DamagedFile
from pipelines.durable.checkpoints import MARKER, newest_whole, read_json_object
from pipelines.errors import UsageError

EMBEDDED = "embedded"
PUPPETS = "puppets"
CONTENT_ENCODER = "openai/whisper-small"
SPEAKER_ENCODER = "microsoft/wavlm-base-plus-sv"
RESUMABLE_KEYS = ("save_every", "sample_every", "workers")  # may change when a training is resumed


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Sizes of the transformer. The defaults are those of the embedded converter."""

    width: int = 128
    """Width of the hidden states and of the regulated content; a multiple of twice `heads`."""
    layers: int = 4
    """Number of blocks."""
    heads: int = 4
    """Number of attention heads."""
    feedforward: int = 256
    """Hidden width of the feed-forward layers."""

    def __post_init__(self) -> None:
        check_ranges(self, "transformer.", **dict.fromkeys(asdict(self), "[1, inf]"))
        if self.width % (2 * self.heads):
            raise UsageError(
                f"transformer.width: got {self.width} with {self.heads} heads; takes a multiple of"
                f" {2 * self.heads}"
            )


@dataclass(frozen=True, kw_only=True)
class VoiceTrainingConfig:
    """Training of a voice converter."""

    speech: str = PUPPETS
    """`puppets` for synthetic voices that say the same with the same timing, or a folder of speech: WAV,
    FLAC, MP3, OGG and M4A files. A subfolder, or a file outside one, is a speaker, unless a `voices.csv`
    lists the speakers. The folder is read once, at the first start."""
    takes: int = 260
    """Sentences that the puppets say, at least 2; not used with a folder of speech."""
    content_encoder: str | None = None
    """`embedded` for a small encoder that is trained, too; or Whisper, wav2vec2, HuBERT or WavLM, which stay
    frozen: a Hub id or a directory. null: that of `start`, or openai/whisper-small."""
    speaker_encoder: str | None = None
    """Likewise `embedded`, or an x-vector model. null: that of `start`, or microsoft/wavlm-base-plus-sv."""
    transformer: TransformerSettings | None = None
    """Sizes of the transformer. null: those of `start`, or of the embedded converter."""
    start: str | None = None
    """A converter to start from: `embedded`, a directory, or a Hub id, with its encoders and sizes. null:
    random weights."""
    steps: int = 20_000
    """Steps of the optimizer in total; the learning rate falls over them."""
    batch_size: int = 16
    """Examples per step and device."""
    muon_rate: float = 0.02
    """Highest learning rate of the inner matrices."""
    adam_rate: float = 2e-3
    """Highest learning rate of everything else."""
    seed: int = 1111
    """Seed of weights, batches and noise."""
    save_every: int = 500
    """Steps between two saved states, each with a line of the log."""
    sample_every: int = 2_000
    """Steps between two converted samples."""
    workers: int = 0
    """Processes that draw batches in advance, per training process; 0 draws them between the steps."""

    def __post_init__(self) -> None:
        check_ranges(self, takes="[2, inf]", workers="[0, inf]", muon_rate="(0, inf]", adam_rate="(0, inf]")
        counts = ("steps", "batch_size", "save_every", "sample_every")
        check_ranges(self, **dict.fromkeys(counts, "[1, inf]"))
        if self.start is not None:
            for name in ("content_encoder", "speaker_encoder", "transformer"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"{name}: got {getattr(self, name)!r} beside start: {self.start}, which brings its"
                        " own; leave one of the two out"
                    )

    def record(self, processes: int) -> dict[str, Any]:
        """What is noted of a training by this number of processes."""
        return asdict(self) | {"num_processes": processes}


def parse(argv: Sequence[str]) -> tuple[VoiceTrainingConfig, Path]:
    """The settings and the output folder of a command line.

    Raises:
        UsageError: If an argument, a key or a value is wrong.
    """
    import jsonargparse

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(prog="python -m augment.training.voice.train", exit_on_error=False)
    parser.add_argument("--config", action="config", help="the recipe, a YAML file with the settings below")
    parser.add_argument("--out", help="folder for the speech, the states, the log and the pipeline")
    parser.add_class_arguments(VoiceTrainingConfig)
    try:
        values: dict[str, Any] = parser.parse_args(list(argv)).as_dict()
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    out = values.pop("out")
    del values["config"]
    if out is None:
        raise UsageError("--out: not given; it takes the folder that training writes")
    try:
        if values["transformer"] is not None:
            values["transformer"] = TransformerSettings(**values["transformer"])
        return VoiceTrainingConfig(**values), Path(out)
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_resumable(record: dict[str, Any], out: Path) -> None:
    """Refuse to resume a training with other settings, or with another number of processes.

    Args:
        record: The settings and `num_processes`.
        out: The training's folder, with the earlier record in `settings.json`, if any, and in its states.

    Raises:
        UsageError: With the first key that differs.
    """
    before = record
    try:
        before = read_json_object(out / "settings.json")
    except DamagedFile as error:  # or a new folder
        newest = newest_whole(out / "states", "step-*")[0]
        if newest is not None:
            before = read_json_object(newest / MARKER).get("run", {})
            print(f"voice conversion: {error}; it is written again", flush=True)
    for key, value in record.items():
        if key not in RESUMABLE_KEYS and before.get(key) != value:
            raise UsageError(
                f"{key}: got {value!r}, but the training in {out} was begun with {before.get(key)!r}; take"
                " that, or another folder"
            )
