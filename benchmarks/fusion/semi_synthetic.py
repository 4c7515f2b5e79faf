"""A semi-real set: real sentences with their scores, and weak sound and picture that are made.

    python -m benchmarks.fusion.semi_synthetic --labels label.csv --votes summaryTable.csv --text MODEL \\
        --out FILE.safetensors

Real: the sentences, scores and splits of `label.csv` (MMSA's layout), the hidden states that a
pre-trained encoder has of the sentences, and with `--votes` what raters of CREMA-D heard in voices
and saw in faces. Made: which clip goes with which sentence, and the streams themselves.

Each sentence has two latent valences in [-1, 1], one for sound and one for picture. Without votes both
are its score over 3. With votes the sentence gets a clip whose rating of voice and face together is
of the class (negative, neutral, positive) nearest to its score; the latent of the sound is then the
rating of that clip's voice and that of the picture the rating of its face, so modalities
disagree as far as those raters did. No actor is in two splits.

A stream of T steps, T drawn evenly from `STEPS`, is x_t = z_t + [t in window] (v + σ η) r. Here z is smooth
noise, z_t = φ z_{t-1} + √(1 − φ²) ε_t of variance 1 in each dimension; r is a fixed direction of
standard normal entries; η is standard normal, one a clip; v is the latent and σ the modality's noise.
The window is half of the steps, its place drawn. All that is drawn comes from (seed, id).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.fusion.features.arrays import FeatureError, Sequences, Split, checked
from pipelines.corpora.table import ParseErrors, read_table
from pipelines.errors import UsageError, call
from pipelines.row import SCALES, SPLITS, row_seed

if TYPE_CHECKING:
    from finetune.fusion.features.pretrained import TextEncoder

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")
SCALE = "mosi"
DIMENSIONS = {"audio": 74, "video": 47}  # of MOSI's COVAREP and FACET features
STEPS = {"audio": (20, 50), "video": (15, 50)}
# σ by modality: so that each stream is weak but not mute, for latents that are the score and for votes,
# which say less of it by themselves.
NOISE = {"audio": 1.5, "video": 1.2}
NOISE_OF_VOTES = {"audio": 0.5, "video": 1.0}
SMOOTHNESS = 0.9  # φ
WINDOW = 0.5  # the share of steps in which the latent is written
MAX_TOKENS = 50  # of a sentence, as in MMSA's features


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One labelled sentence."""

    id: str
    text: str
    score: float
    split: str


def main(argv: list[str]) -> None:
    """Make the set, and print what a ridge regression finds in it."""
    from finetune.fusion.features.file import checked_out

    options = _options(argv)
    noise = {"audio": options.audio_noise, "video": options.video_noise}
    out, sentences = checked_out(options.out), read_sentences(options.labels)
    latents, clips = latent_valences(sentences, options.votes, options.seed)
    splits = made(sentences, latents, _encoder(options), noise, options.seed)
    _write(out, splits, latents, about=_about(options) | {"clips": clips})
    print(_summary(out, splits))


def read_sentences(path: Path) -> dict[str, list[Sentence]]:
    """The sentences of `label.csv` by split.

    Raises:
        RunError: If the table is malformed, or a split has no sentence.
    """
    errors = ParseErrors(path)
    lines = read_table(errors, COLUMNS)
    found: dict[str, list[Sentence]] = {split: [] for split in (*SPLITS, "")}
    for line in lines:
        video, clip = errors.required(line, "video_id"), errors.required(line, "clip_id")
        sentence = Sentence(
            id=f"{video}$_${clip}",  # as MMSA's feature files name clips
            text=errors.required(line, "text"),
            score=errors.number(line, "label", SCALE),
            split=errors.split(line, "mode"),
        )
        errors.unique(line, sentence.id)
        found[sentence.split].append(sentence)
    errors.raise_any()
    empty = [split for split in SPLITS if not found[split]]
    if empty:
        raise FeatureError(
            f"{path}: no sentence of {', '.join(empty)}; mode has to name train, valid and test"
        )
    return {split: found[split] for split in SPLITS}


def latent_valences(
    sentences: dict[str, list[Sentence]], votes: Path | None, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list[str]] | None]:
    """What sound and picture say of each sentence, in [-1, 1], and with votes the clips that say it."""
    scores = {
        split: np.array([each.score for each in found]) / SCALES[SCALE][1]
        for split, found in sentences.items()
    }
    if votes is None:
        return {split: {"audio": found, "video": found} for split, found in scores.items()}, None
    from benchmarks.fusion.crema_d import pair, read_votes, split_actors

    rated = read_votes(votes)
    actors = split_actors(rated, {split: len(found) for split, found in sentences.items()}, seed)
    latents, clips = {}, {}
    for split, found in sentences.items():
        chosen = pair(rated, actors[split], [each.id for each in found], scores[split], seed)
        latents[split] = {"audio": rated.voice[chosen], "video": rated.face[chosen]}
        clips[split] = [rated.clips[index] for index in chosen]
    return latents, clips


def made(
    sentences: dict[str, list[Sentence]],
    latents: dict[str, dict[str, np.ndarray]],
    encoder: TextEncoder,
    noise: dict[str, float],
    seed: int,
) -> dict[str, Split]:
    """The features of all sentences."""
    from tqdm import tqdm

    from finetune.fusion.features.extract import padded

    directions = {
        name: np.random.default_rng(row_seed(seed, f"direction {name}")).standard_normal(size)
        for name, size in DIMENSIONS.items()
    }
    splits = {}
    for split, found in sentences.items():
        ids = [each.id for each in found]
        features = {"text": padded([encoder(each.text) for each in tqdm(found, desc=split, disable=None)])}
        for name, direction in directions.items():
            streams = [
                stream(latent, direction, STEPS[name], noise[name], row_seed(seed, f"{name} {row_id}"))
                for row_id, latent in zip(ids, latents[split][name], strict=True)
            ]
            features[name] = padded(streams)  # type: ignore[arg-type]
        splits[split] = _split_of(found, features)
    return splits


def stream(
    latent: float, direction: np.ndarray, steps: tuple[int, int], noise: float, seed: int
) -> np.ndarray:
    """Smooth noise in which a latent is written along a direction, (T, d); see the module."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(steps[0], steps[1] + 1))
    values = rng.standard_normal((length, len(direction)))
    for step in range(1, length):
        values[step] = SMOOTHNESS * values[step - 1] + np.sqrt(1 - SMOOTHNESS**2) * values[step]
    width = max(1, round(WINDOW * length))
    start = int(rng.integers(0, length - width + 1))
    values[start : start + width] += (latent + noise * rng.standard_normal()) * direction
    return values.astype(np.float32)


def _split_of(sentences: list[Sentence], features: dict[str, Sequences]) -> Split:
    count = len(sentences)
    return Split(
        ids=[each.id for each in sentences],
        features=features,
        labels=np.array([each.score for each in sentences], dtype=np.float32),
        unimodal={name: np.full(count, np.nan, dtype=np.float32) for name in features},
        weights=np.ones(count, dtype=np.float32),
    )


def _encoder(options: argparse.Namespace) -> TextEncoder:
    from finetune.fusion.features.pretrained import load
    from pipelines.device import pick

    return load("text", options.text, options.revision, pick(options.device), max_tokens=options.max_tokens)


def _write(
    out: Path,
    splits: dict[str, Split],
    latents: dict[str, dict[str, np.ndarray]],
    about: dict[str, Any],
) -> None:
    from finetune.fusion.features.file import write

    more = {
        f"{split}/{name}/latent": values.astype(np.float32)
        for split, found in latents.items()
        for name, values in found.items()
    }
    write(out, splits, scale=SCALE, about=about, more=more)


def _about(options: argparse.Namespace) -> dict[str, Any]:
    from finetune.fusion.features.file import named

    model = Path(options.text)
    return {
        "made_by": "benchmarks.fusion.semi_synthetic",
        "labels": named(options.labels),
        "votes": named(options.votes) if options.votes else None,
        "text": model.name if model.is_dir() else options.text,
        "revision": options.revision,
        "max_tokens": options.max_tokens,
        "noise": {name: getattr(options, f"{name}_noise") for name in NOISE},
        "seed": options.seed,
    }


def _summary(out: Path, splits: dict[str, Split]) -> str:
    from benchmarks.fusion.ridge_baseline import table

    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    return (
        f"{out}: {counts} sentences; a ridge on means over time:\n{table(checked(str(out), splits, SCALE))}"
    )


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fusion.semi_synthetic",
        description="Real sentences with weak sound and picture that are made.",
        allow_abbrev=False,
    )
    parser.add_argument("--labels", type=Path, required=True, metavar="label.csv", help="in MMSA's layout")
    parser.add_argument("--votes", type=Path, metavar="summaryTable.csv", help="of CREMA-D")
    parser.add_argument(
        "--text", required=True, metavar="MODEL", help="encoder of the sentences, id or folder"
    )
    parser.add_argument("--revision", help="of the encoder on the Hub")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    for name, value in NOISE.items():
        parser.add_argument(
            f"--{name}-noise",
            type=float,
            help=f"σ of {name} (default: {NOISE_OF_VOTES[name]:g} with votes, else {value:g})",
        )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="of the encoder")
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        help=f"longer sentences are cut (default: {MAX_TOKENS}); special tokens are counted",
    )
    options = parser.parse_args(argv)
    for name, value in (NOISE_OF_VOTES if options.votes else NOISE).items():
        if getattr(options, f"{name}_noise") is None:
            setattr(options, f"{name}_noise", value)
        if getattr(options, f"{name}_noise") < 0:
            raise UsageError(f"--{name}-noise: got {getattr(options, f'{name}_noise')}; it takes at least 0")
    if options.max_tokens < 3:
        raise UsageError(f"--max-tokens: got {options.max_tokens}; it takes at least 3")
    return options


if __name__ == "__main__":
    call(main)
