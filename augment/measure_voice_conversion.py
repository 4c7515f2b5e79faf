"""Measure a voice converter on puppets of the test cast, whom no shipped checkpoint has heard.

    python -m augment.measure_voice_conversion --pairs 50 --sheet sheet.png

Each pair is a sentence by one voice, to be said by another, of whom another sentence is known. The
puppets can say it in the other voice themselves, so there is a true result to compare with. Similarity
of speakers needs Resemblyzer; `docs/voice_conversion.md` tells how to install it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augment import pitch, spectrogram_sheet
from augment.audio_variants import SAMPLING_RATE, load_converter
from augment.mel import log_mel
from pipelines.sample import row_seed

SOFTEST = 2.5
"""Decades below a sound's loudest frame that frames count in, where loudness is compared."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is converted, and what should come out."""

    source: np.ndarray
    reference: np.ndarray
    """Another sentence by the target voice."""
    known: np.ndarray
    """Another sentence by the source voice, to compare speakers by."""
    truth: np.ndarray
    """The source's sentence, as the target voice says it."""
    result: np.ndarray
    seconds: float
    """That the conversion took."""


def figures(pairs: list[Pair], embed: Callable[[np.ndarray], np.ndarray] | None) -> dict[str, float]:
    """Means over pairs.

    Args:
        pairs: Converted sounds.
        embed: A speaker's vector of unit length, of 16 kHz samples; None leaves out what needs it.

    Returns:
        `pitch_correlation` and `energy_correlation` of result and source; `mel_distance` of result
        and truth in decades, and `mel_distance_source` of source and truth, which a converter that
        does nothing reaches; `real_time_factor`; the similarities of speakers, the share of pairs
        nearer to the target than to the source, and that share for the truth, the best to be had.
    """
    rows = [_row(pair) | ({} if embed is None else _similarities(pair, embed)) for pair in pairs]
    return {name: round(float(np.nanmean([row[name] for row in rows])), 3) for name in rows[0]}


def _row(pair: Pair) -> dict[str, float]:
    mels = {name: _mel(getattr(pair, name)) for name in ("source", "truth", "result")}
    frames = min(len(mel) for mel in mels.values())
    mels = {name: mel[:frames] for name, mel in mels.items()}
    return {
        "pitch_correlation": pitch_correlation(pair.source, pair.result),
        "energy_correlation": energy_correlation(mels["source"], mels["result"]),
        "mel_distance": _distance(mels["result"], mels["truth"]),
        "mel_distance_source": _distance(mels["source"], mels["truth"]),
        "real_time_factor": pair.seconds / (len(pair.source) / SAMPLING_RATE),
    }


def pitch_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two sounds' log pitch over frames voiced in both; NaN with fewer than 10."""
    contours = [pitch.track(torch.from_numpy(sound)) for sound in (one, other)]
    both = (contours[0] > 0) & (contours[1] > 0)
    if both.sum() < 10:
        return float("nan")
    return _correlation(*(contour[both].log2() for contour in contours))


def energy_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Pearson's correlation of log loudness over all frames, of log mel spectrograms (frames, 80)."""
    loudness = [(10**mel).sum(-1).log10() for mel in (one, other)]
    return _correlation(*(value.clamp(min=float(value.max()) - SOFTEST) for value in loudness))


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean difference of two log mel spectrograms where the second is loud."""
    loud = other.max(1).values > other.max() - SOFTEST
    return float((one - other)[loud].abs().mean())


def _similarities(pair: Pair, embed: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    # The source itself would seem near for having the same words, so another sentence stands for it.
    result, source, target = (embed(sound) for sound in (pair.result, pair.known, pair.reference))
    truth = embed(pair.truth)
    return {
        "similarity_target": float(result @ target),
        "similarity_source": float(result @ source),
        "nearer_target": float(result @ target > result @ source),
        "truth_nearer_target": float(truth @ target > truth @ source),
    }


def _mel(sound: np.ndarray) -> torch.Tensor:
    level = float(np.sqrt(np.square(sound).mean()))
    return log_mel(torch.from_numpy(sound) * (0.05 / level))


def convert_pairs(converter: Any, *, pairs: int, seed: int, steps: int, guidance_scale: float) -> list[Pair]:
    """Let puppets of the test cast speak, and convert."""
    return [
        _pair(converter, row_seed(seed, f"pair {number}"), steps, guidance_scale) for number in range(pairs)
    ]


def _pair(converter: Any, seed: int, steps: int, guidance_scale: float) -> Pair:
    from pipelines.puppets.script import sentence
    from pipelines.puppets.voice import random_voice, render

    rng = np.random.default_rng(seed)
    one, other = random_voice(rng, "test"), random_voice(rng, "test")
    mood, text = rng.uniform(-1, 1), sentence(0.0, rng, "test")
    # Of one pace and with equal generators, both say each sound at the same time.
    source, truth = (
        render(text, replace(voice, pace=1.0), valence=mood, rng=np.random.default_rng(seed))
        for voice in (one, other)
    )
    reference, known = (
        render(sentence(0.0, rng, "test"), voice, valence=rng.uniform(-1, 1), rng=rng)
        for voice in (other, one)
    )
    before = time.perf_counter()
    result = converter(
        source,
        reference,
        sampling_rate=SAMPLING_RATE,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(seed),
    )
    seconds = time.perf_counter() - before
    return Pair(source=source, reference=reference, known=known, truth=truth, result=result, seconds=seconds)


def draw_sheet(pairs: list[Pair], file: Path) -> None:
    """A picture of spectrograms: a pair a line, its source, reference, result and truth side by side."""
    names = ("source", "reference", "result", "truth")
    spectrogram_sheet.draw([{name: _mel(getattr(pair, name)) for name in names} for pair in pairs], file)


def resemblyzer() -> Callable[[np.ndarray], np.ndarray] | None:
    """Resemblyzer's speaker vectors, or None where it is not installed."""
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError:
        return None
    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda samples: encoder.embed_utterance(preprocess_wav(samples, source_sr=SAMPLING_RATE))


def main(argv: list[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m augment.measure_voice_conversion", description=__doc__)
    parser.add_argument("--model", default="embedded", help="embedded, a directory or a Hub id")
    parser.add_argument("--pairs", type=int, default=50, help="(default: 50)")
    parser.add_argument("--steps", type=int, default=10, help="of Euler (default: 10)")
    parser.add_argument("--guidance_scale", type=float, default=0.7, help="(default: 0.7)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--sheet", type=Path, help="picture of the first 6 pairs' spectrograms")
    options = parser.parse_args(argv)
    converter = load_converter(options.model, None, "cpu")
    pairs = convert_pairs(
        converter,
        pairs=options.pairs,
        seed=options.seed,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
    )
    if options.sheet is not None:
        draw_sheet(pairs[:6], options.sheet)
    print(json.dumps(figures(pairs, resemblyzer())))


if __name__ == "__main__":
    main()
