"""The settings of `augment.training.voice.train`, from its recipe and its command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.atomic import write_json
from pipelines.errors import UsageError

EMBEDDED = "embedded"
PUPPETS = "puppets"
CONTENT_ENCODER = "openai/whisper-small"
SPEAKER_ENCODER = "microsoft/wavlm-base-plus-sv"
FREE = ("save_every", "sample_every", "workers")
"""Settings that may change between a training and its resumption."""


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Sizes of the transformer; the defaults are those of the embedded converter."""

    width: int = 128
    """Of the hidden states and of the regulated content; a multiple of twice `heads`."""
    layers: int = 4
    """Of attention."""
    heads: int = 4
    """Of attention."""
    feedforward: int = 256
    """Width between the matrices of a feed-forward layer."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise UsageError(f"transformer.{name}: got {value}; takes 1 or more")
        if self.width % (2 * self.heads):
            raise UsageError(
                f"transformer.width: got {self.width} with {self.heads} heads; takes a multiple of"
                f" {2 * self.heads}"
            )


@dataclass(frozen=True, kw_only=True)
class VoiceTrainingConfig:
    """Training of a voice converter."""

    speech: str = PUPPETS
    """`puppets` for synthetic voices that say the same in the same time, or a folder of speech: WAV, FLAC,
    MP3, OGG and M4A files, a subfolder being a speaker, and so a file beside them; or as its `voices.csv`
    tells. The folder is read once, at the first start."""
    takes: int = 260
    """Sentences that the puppets say; a folder of speech has its own."""
    content_encoder: str | None = None
    """`embedded` for a small encoder that is trained along; or Whisper, wav2vec2, HuBERT or WavLM, which
    stay as they are: a Hub id or a directory. null: that of `start`, or openai/whisper-small."""
    speaker_encoder: str | None = None
    """Likewise `embedded`, or an x-vector model. null: that of `start`, or microsoft/wavlm-base-plus-sv."""
    transformer: TransformerSettings | None = None
    """Its sizes. null: those of `start`, or of the embedded converter."""
    start: str | None = None
    """A converter whose weights training starts from: `embedded`, a directory, or a Hub id. It brings its
    encoders and sizes. null: random weights."""
    steps: int = 20_000
    """Of the optimizer, in all; the rate falls over them."""
    batch_size: int = 16
    """Stretches of a step on one device."""
    muon_rate: float = 0.02
    """Highest rate of the inner matrices."""
    adam_rate: float = 2e-3
    """Highest rate of everything else."""
    seed: int = 1111
    """Of weights, batches and noise."""
    save_every: int = 500
    """Steps from one state and line of the log to the next."""
    sample_every: int = 2_000
    """Steps from one converted sample to the next."""
    workers: int = 0
    """Processes that draw batches ahead, beside each training process; 0 draws them in between."""

    def __post_init__(self) -> None:
        least = {"takes": 2, "steps": 1, "batch_size": 1, "save_every": 1, "sample_every": 1, "workers": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UsageError(f"{name}: got {getattr(self, name)}; takes {value} or more")
        for name in ("muon_rate", "adam_rate"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: got {getattr(self, name)}; takes more than 0")
        if self.start is not None:
            for name in ("content_encoder", "speaker_encoder", "transformer"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"{name}: got {getattr(self, name)!r} beside start: {self.start}, which brings its"
                        " own; leave one of the two out"
                    )


def parse(argv: Sequence[str]) -> tuple[VoiceTrainingConfig, Path]:
    """The settings and the folder that a command line names.

    Raises:
        UsageError: If an argument, a key or a value is wrong.
    """
    import jsonargparse

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(prog="python -m augment.training.voice.train", exit_on_error=False)
    parser.add_argument("--config", action="config", help="the recipe, a YAML file with the settings below")
    parser.add_argument("--out", help="folder of the speech, the states, the log and the pipeline")
    parser.add_class_arguments(VoiceTrainingConfig)
    try:
        given: dict[str, Any] = parser.parse_args(list(argv)).as_dict()
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    out = given.pop("out")
    del given["config"]
    if out is None:
        raise UsageError("--out: not given; it takes the folder that training writes")
    if given["transformer"] is not None:
        given["transformer"] = TransformerSettings(**given["transformer"])
    return VoiceTrainingConfig(**given), Path(out)


def check_same(config: VoiceTrainingConfig, processes: int, out: Path) -> None:
    """Refuse a folder that was begun with other settings than these, or with another number of processes.

    Raises:
        UsageError: With the first key that differs.
    """
    file = out / "settings.json"
    if not file.exists():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    for key, value in _record(config, processes).items():
        if key not in FREE and before.get(key) != value:
            raise UsageError(
                f"{key}: got {value!r}, but the training in {out} was begun with {before.get(key)!r}; take"
                " that, or another folder"
            )


def write_settings(config: VoiceTrainingConfig, processes: int, out: Path) -> None:
    """Put the settings where `check_same` looks for them."""
    write_json(out / "settings.json", _record(config, processes))


def _record(config: VoiceTrainingConfig, processes: int) -> dict[str, Any]:
    return asdict(config) | {"num_processes": processes}
