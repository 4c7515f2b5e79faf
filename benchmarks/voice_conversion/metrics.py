"""Metrics of a voice converter: whether it keeps prosody and words, and changes the voice.

Speaker similarity and word errors need pre-trained models that nothing in this project is trained with.
They are no dependencies; `docs/voice_conversion.md` tells how to install them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from augment.audio.variants import SAMPLING_RATE
from augment.training.voice.spectrogram_sheet import mel
from augment.voice_conversion import pitch
from benchmarks.voice_conversion.pairs import Converted
from pipelines.word_errors import units

SOFTEST = 2.5
"""Frames up to this many decades below the loudest one count where loudness is compared."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """Models that take float32 waveforms at 16 kHz, (samples,); None if one is not available."""

    speaker: Callable[[np.ndarray], np.ndarray] | None = None
    """Returns a speaker embedding of unit length."""
    words: Callable[[np.ndarray], str] | None = None
    """Returns the recognised English words."""


def resemblyzer() -> Callable[[np.ndarray], np.ndarray] | None:
    """Resemblyzer's speaker embeddings, or None if it is not installed."""
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError:
        return None
    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda samples: encoder.embed_utterance(preprocess_wav(samples, source_sr=SAMPLING_RATE))


def moonshine() -> Callable[[np.ndarray], str] | None:
    """Speech recognition by Moonshine's English model, or None if it is not installed with a model."""
    try:
        from moonshine_voice.moonshine_api import ModelArch
        from moonshine_voice.transcriber import Transcriber
        from moonshine_voice.utils import get_model_path
    except ImportError:
        return None
    model = get_model_path("tiny-en")
    if not model.is_dir():
        return None
    transcriber = Transcriber(model_path=str(model), model_arch=ModelArch.TINY)

    def recognise(samples: np.ndarray) -> str:
        lines = transcriber.transcribe_without_streaming(samples.tolist(), SAMPLING_RATE).lines
        return " ".join(line.text for line in lines)

    return recognise


def figures(pairs: Sequence[Converted], models: Models) -> dict[str, float]:
    """Means over pairs, rounded to three decimals.

    Args:
        pairs: Converted audio.
        models: The available models; metrics that need another are left out.

    Returns:
        `pitch_correlation` and `energy_correlation` of result and source; `real_time_factor`. If the
        truth is known, `mel_distance` of result and truth in decades, and `mel_distance_source` of source
        and truth, that of a converter that does nothing. With a speaker model, cosine similarities to both
        voices, `nearer_target`, the share of pairs nearer to the target's voice, and that share for the
        truth, an upper bound. With speech recognition, `word_errors` and `word_errors_source`: errors over
        all words of all pairs; without a transcript, relative to the recognised words of the source.
    """
    rows = [_prosody(pair) | _similarities(pair, models.speaker) for pair in pairs]
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    return {name: round(value, 3) for name, value in (means | _word_errors(pairs, models.words)).items()}


def _prosody(pair: Converted) -> dict[str, float]:
    source, result = mel(pair.source), mel(pair.result)
    metrics = {
        "pitch_correlation": pitch_correlation(pair.source, pair.result),
        "energy_correlation": energy_correlation(source, result),
        "real_time_factor": pair.seconds / (len(pair.source) / SAMPLING_RATE),
    }
    if pair.truth is None:
        return metrics
    truth = mel(pair.truth)
    return metrics | {"mel_distance": distance(result, truth), "mel_distance_source": distance(source, truth)}


def pitch_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of the log pitch over frames voiced in both; NaN with fewer than 10."""
    contours = [pitch.track(torch.from_numpy(samples)) for samples in (one, other)]
    both = (contours[0] > 0) & (contours[1] > 0)
    if both.sum() < 10:
        return float("nan")
    return _correlation(*(contour[both].log2() for contour in contours))


def energy_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Pearson correlation of log loudness over all frames, from log mel spectrograms (frames, 80)."""
    loudness = [(10**mel).sum(-1).log10() for mel in (one, other)]
    return _correlation(*(value.clamp(min=float(value.max()) - SOFTEST) for value in loudness))


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean absolute difference of log mel spectrograms (frames, 80) where the second is loud, in decades."""
    frames = min(len(one), len(other))
    one, other = one[:frames], other[:frames]
    loud = other.max(1).values > other.max() - SOFTEST
    return float((one - other)[loud].abs().mean())


def _similarities(pair: Converted, embed: Callable[[np.ndarray], np.ndarray] | None) -> dict[str, float]:
    if embed is None:
        return {}
    means = [np.mean([*map(embed, voice)], axis=0) for voice in (pair.source_voice, pair.target_voice)]
    source, target = (mean / np.linalg.norm(mean) for mean in means)
    result = embed(pair.result)
    metrics = {
        "similarity_target": float(result @ target),
        "similarity_source": float(result @ source),
        "nearer_target": float(result @ target > result @ source),
    }
    if pair.truth is None:
        return metrics
    truth = embed(pair.truth)
    return metrics | {"truth_nearer_target": float(truth @ target > truth @ source)}


def _word_errors(
    pairs: Sequence[Converted], recognise: Callable[[np.ndarray], str] | None
) -> dict[str, float]:
    if recognise is None:
        return {}
    from torchaudio.functional import edit_distance

    words, errors, source_errors = 0, 0, 0
    for pair in pairs:
        source, result = (units(recognise(samples), "en") for samples in (pair.source, pair.result))
        transcript = source if pair.text is None else units(pair.text, "en")
        words += len(transcript)
        errors += edit_distance(result, transcript)
        source_errors += edit_distance(source, transcript)
    return {"word_errors": errors / max(words, 1), "word_errors_source": source_errors / max(words, 1)}
