"""How good a voice converter is, in figures: manner and words kept, the voice another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from augment.audio.variants import SAMPLING_RATE
from augment.training.voice.spectrogram_sheet import mel
from augment.voice_conversion import pitch
from benchmarks.voice_conversion.models import Judges
from benchmarks.voice_conversion.pairs import Converted
from pipelines.word_errors import units

SOFTEST = 2.5
"""Decades below a sound's loudest frame that frames count in, where loudness is compared."""


def figures(pairs: Sequence[Converted], judges: Judges) -> dict[str, float]:
    """Means over pairs, to three decimals.

    Args:
        pairs: Converted sounds.
        judges: Those that are at hand; what needs another is left out.

    Returns:
        `pitch_correlation` and `energy_correlation` of result and source; `real_time_factor`. Where the
        truth is known, `mel_distance` of result and truth in decades, and `mel_distance_source` of source
        and truth, which a converter that does nothing reaches. With a judge of speakers, cosines to both
        voices, `nearer_target`, the share of pairs nearer to the target's voice, and that share for the
        truth, the best to be had. With one of words, `word_errors` and `word_errors_source`: edits over
        words said, of all pairs together; where what is said is not known, against what is understood of
        the source.
    """
    rows = [_row(pair) | _similarities(pair, judges.speaker) for pair in pairs]
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    return {name: round(value, 3) for name, value in (means | _word_errors(pairs, judges.words)).items()}


def _row(pair: Converted) -> dict[str, float]:
    source, result = mel(pair.source), mel(pair.result)
    found = {
        "pitch_correlation": pitch_correlation(pair.source, pair.result),
        "energy_correlation": energy_correlation(source, result),
        "real_time_factor": pair.seconds / (len(pair.source) / SAMPLING_RATE),
    }
    if pair.truth is None:
        return found
    truth = mel(pair.truth)
    distances = {"mel_distance": distance(result, truth), "mel_distance_source": distance(source, truth)}
    return found | distances


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


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean difference of two log mel spectrograms (frames, 80) where the second is loud, in decades."""
    frames = min(len(one), len(other))
    one, other = one[:frames], other[:frames]
    loud = other.max(1).values > other.max() - SOFTEST
    return float((one - other)[loud].abs().mean())


def _similarities(pair: Converted, embed: Callable[[np.ndarray], np.ndarray] | None) -> dict[str, float]:
    if embed is None:
        return {}
    source, target = (_voice(embed, sounds) for sounds in (pair.source_voice, pair.target_voice))
    result = embed(pair.result)
    found = {
        "similarity_target": float(result @ target),
        "similarity_source": float(result @ source),
        "nearer_target": float(result @ target > result @ source),
    }
    if pair.truth is None:
        return found
    truth = embed(pair.truth)
    return found | {"truth_nearer_target": float(truth @ target > truth @ source)}


def _voice(embed: Callable[[np.ndarray], np.ndarray], sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Mean vector of a voice's sounds, of unit length."""
    mean = np.mean([embed(sound) for sound in sounds], axis=0)
    return mean / np.linalg.norm(mean)


def _word_errors(
    pairs: Sequence[Converted], understood: Callable[[np.ndarray], str] | None
) -> dict[str, float]:
    if understood is None:
        return {}
    from torchaudio.functional import edit_distance

    said, wrong, wrong_of_source = 0, 0, 0
    for pair in pairs:
        source, result = (units(understood(sound), "en") for sound in (pair.source, pair.result))
        wanted = source if pair.text is None else units(pair.text, "en")
        said += len(wanted)
        wrong += edit_distance(result, wanted)
        wrong_of_source += edit_distance(source, wanted)
    return {"word_errors": wrong / max(said, 1), "word_errors_source": wrong_of_source / max(said, 1)}
