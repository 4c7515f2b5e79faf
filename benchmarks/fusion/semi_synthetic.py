"""Makes a semi-synthetic data set: real sentences with their scores, and weak synthetic audio and video.

    python -m benchmarks.fusion.semi_synthetic --labels label.csv --votes summaryTable.csv --text MODEL \\
        --out FILE.safetensors

Real are the sentences, scores and splits of `label.csv` (MMSA's layout), the hidden states of a
pre-trained text encoder, and with `--votes` the annotators' ratings of voices and faces in CREMA-D.
Synthetic are the assignment of clips to sentences, and the audio and video features.

Each sentence has two latent valences in [-1, 1], one for audio and one for video. Without votes both are
its score over 3. With votes the sentence gets a clip whose rating of voice and face together is in the
class (negative, neutral, positive) nearest to its score. The latents are then the ratings of that clip's
voice and of its face, so that modalities disagree as much as the ratings. No actor is in two splits.

A sequence of T steps, T uniform in `STEPS`, is x_t = z_t + [t in window] (v + σ η) r. Here z is smooth
noise, z_t = φ z_{t-1} + √(1 − φ²) ε_t of variance 1 in each dimension; r is a fixed direction with
standard normal entries; η is standard normal, one per clip; v is the latent and σ the modality's noise.
The window is half of the steps at a random position. All random draws come from (seed, id).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.commands import require_at_least
from finetune.fusion.features.arrays import FeatureError, Split, checked
from pipelines.corpora.table import ParseErrors, read_table
from pipelines.errors import call
from pipelines.row import SCALES, SPLITS, row_seed

if TYPE_CHECKING:
    from finetune.fusion.features.pretrained import TextEncoder

COLUMNS = ("video_id", "clip_id", "text", "label", "mode")
SCALE = "mosi"
DIMENSIONS = {"audio": 74, "video": 47}  # of MOSI's COVAREP and FACET features
STEPS = {"audio": (20, 50), "video": (15, 50)}
# σ by modality, so that each modality is weak but informative: for latents that are the score, and for
# latents from votes, which are less informative by themselves.
NOISE = {"audio": 1.5, "video": 1.2}
NOISE_OF_VOTES = {"audio": 0.5, "video": 1.0}
SMOOTHNESS = 0.9  # φ
WINDOW = 0.5  # share of the steps that contain the latent
MAX_TOKENS = 50  # of a sentence, as in MMSA's features


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One labelled sentence."""

    id: str
    text: str
    score: float
    split: str


def main(argv: list[str]) -> None:
    """Make the set, and print the result of a ridge regression on it."""
    from benchmarks.fusion.ridge_baseline import table
    from finetune.fusion.features.file import checked_out, named, write
    from finetune.fusion.features.pretrained import load
    from pipelines.device import pick

    options = _options(argv)
    noise = {"audio": options.audio_noise, "video": options.video_noise}
    out = checked_out(options.out, {"--labels": options.labels}, overwrite=True)
    sentences = read_sentences(options.labels)
    latents, clips = latent_valences(sentences, options.votes, options.seed)
    encoder = load(
        "text", options.text, options.revision, pick(options.device), max_tokens=options.max_tokens
    )
    splits = made(sentences, latents, encoder, noise, options.seed)
    model = Path(options.text)
    about = {
        "made_by": "benchmarks.fusion.semi_synthetic",
        "labels": named(options.labels),
        "votes": named(options.votes) if options.votes else None,
        "text": model.name if model.is_dir() else options.text,
        "revision": options.revision,
        "max_tokens": options.max_tokens,
        "noise": noise,
        "seed": options.seed,
        "clips": clips,
    }
    more = {
        f"{split}/{name}/latent": values.astype(np.float32)
        for split, by_modality in latents.items()
        for name, values in by_modality.items()
    }
    write(out, splits, scale=SCALE, about=about, more=more)
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    ridge = table(checked(str(out), splits, SCALE))
    print(f"{out}: {counts} sentences; a ridge on means over time:\n{ridge}")


def read_sentences(path: Path) -> dict[str, list[Sentence]]:
    """Read the sentences of `label.csv`, by split.

    Raises:
        RunError: If the table is malformed, or a split has no sentence.
    """
    errors = ParseErrors(path)
    lines = read_table(errors, COLUMNS)
    by_split: dict[str, list[Sentence]] = {split: [] for split in (*SPLITS, "")}
    for line in lines:
        video, clip = errors.required(line, "video_id"), errors.required(line, "clip_id")
        sentence = Sentence(
            id=f"{video}$_${clip}",  # as MMSA's feature files name clips
            text=errors.required(line, "text"),
            score=errors.number(line, "label", SCALE),
            split=errors.split(line, "mode"),
        )
        errors.unique(line, sentence.id)
        by_split[sentence.split].append(sentence)
    errors.raise_any()
    empty = [split for split in SPLITS if not by_split[split]]
    if empty:
        raise FeatureError(
            f"{path}: no sentence of {', '.join(empty)}; mode has to name train, valid and test"
        )
    return {split: by_split[split] for split in SPLITS}


def latent_valences(
    sentences: dict[str, list[Sentence]], votes: Path | None, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list[str]] | None]:
    """The latent valences of each sentence, in [-1, 1], and with votes the clips that they are from."""
    scores = {
        split: np.array([each.score for each in group]) / SCALES[SCALE][1]
        for split, group in sentences.items()
    }
    if votes is None:
        return {split: {"audio": values, "video": values} for split, values in scores.items()}, None
    from benchmarks.fusion.crema_d import pair, read_ratings, split_actors

    ratings = read_ratings(votes)
    actors = split_actors(ratings, {split: len(group) for split, group in sentences.items()}, seed)
    latents, clips = {}, {}
    for split, group in sentences.items():
        chosen = pair(ratings, actors[split], [each.id for each in group], scores[split], seed)
        latents[split] = {"audio": ratings.voice[chosen], "video": ratings.face[chosen]}
        clips[split] = [ratings.clips[index] for index in chosen]
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
    for split, group in sentences.items():
        ids = [each.id for each in group]
        features = {"text": padded([encoder(each.text) for each in tqdm(group, desc=split, disable=None)])}
        for name, direction in directions.items():
            sequences = [
                stream(latent, direction, STEPS[name], noise[name], row_seed(seed, f"{name} {row_id}"))
                for row_id, latent in zip(ids, latents[split][name], strict=True)
            ]
            features[name] = padded(sequences)  # type: ignore[arg-type]
        splits[split] = Split(
            ids=ids,
            features=features,
            labels=np.array([each.score for each in group], dtype=np.float32),
            unimodal={name: np.full(len(ids), np.nan, dtype=np.float32) for name in features},
            weights=np.ones(len(ids), dtype=np.float32),
        )
    return splits


def stream(
    latent: float, direction: np.ndarray, steps: tuple[int, int], noise: float, seed: int
) -> np.ndarray:
    """Smooth noise that contains a latent along a direction, (T, d); see the module."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(steps[0], steps[1] + 1))
    values = rng.standard_normal((length, len(direction)))
    for step in range(1, length):
        values[step] = SMOOTHNESS * values[step - 1] + np.sqrt(1 - SMOOTHNESS**2) * values[step]
    width = max(1, round(WINDOW * length))
    start = int(rng.integers(0, length - width + 1))
    values[start : start + width] += (latent + noise * rng.standard_normal()) * direction
    return values.astype(np.float32)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fusion.semi_synthetic",
        description="Real sentences with weak synthetic audio and video.",
        allow_abbrev=False,
    )
    parser.add_argument("--labels", type=Path, required=True, metavar="label.csv", help="in MMSA's layout")
    parser.add_argument("--votes", type=Path, metavar="summaryTable.csv", help="of CREMA-D")
    parser.add_argument("--text", required=True, metavar="MODEL", help="text encoder, id or folder")
    parser.add_argument("--revision", help="of the encoder on the Hub")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    for name, value in NOISE.items():
        text = f"σ of {name} (default: {NOISE_OF_VOTES[name]:g} with votes, else {value:g})"
        parser.add_argument(f"--{name}-noise", type=float, help=text)
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="of the encoder")
    text = f"longer sentences are cut (default: {MAX_TOKENS}); special tokens are counted"
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help=text)
    options = parser.parse_args(argv)
    for name, value in (NOISE_OF_VOTES if options.votes else NOISE).items():
        if getattr(options, f"{name}_noise") is None:
            setattr(options, f"{name}_noise", value)
    require_at_least(options, audio_noise=0, video_noise=0, max_tokens=3)
    return options


if __name__ == "__main__":
    call(main)
