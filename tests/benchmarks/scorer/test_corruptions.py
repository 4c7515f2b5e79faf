"""The table of corruptions: each keeps the form, and changes more with severity, by its generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scorer.corruptions import CORRUPTIONS, Corruption
from tests.benchmarks.scorer import tracks

COPIES = ("encoded again", "sound encoded again")
CUTS = [name for name, corruption in CORRUPTIONS.items() if corruption.unit == "s"]
IN_PARTNER = ("expression moved", "mood moved")
"""Their severity is in the partner's track; see `test_partners`."""
OWN_MEASURE = ("another take", "flattened pitch", "pitch moved", "shifted in time")
"""Sample by sample, what is said otherwise or shown at another time is soon as far off as it can be."""
STEADY = [
    name
    for name, corruption in CORRUPTIONS.items()
    if len(corruption.severities) > 1 and name not in (*CUTS, *IN_PARTNER, *OWN_MEASURE)
]
RATE = {"video": 12.5, "audio": 16_000}


@pytest.fixture(scope="module")
def own() -> dict[str, np.ndarray]:
    return tracks.own()


@pytest.fixture(scope="module")
def others() -> dict[str, np.ndarray]:
    return tracks.others()


def changed(
    track: np.ndarray, corruption: Corruption, severity: float, other: np.ndarray, seed: int = 0
) -> np.ndarray:
    amount = severity * (RATE[corruption.track] if corruption.unit == "s" else 1)
    partner = [] if corruption.partner is None else [other]
    return corruption.change(track, amount, np.random.default_rng(seed), *partner)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_strongest_severity_changes_the_clip_and_keeps_its_form(
    own: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    source = own[corruption.track]
    made = changed(source.copy(), corruption, corruption.severities[-1], others[corruption.track])
    assert (made.shape[1:], made.dtype) == (source.shape[1:], source.dtype)
    if name in CUTS:
        assert len(source) - len(made) == round(corruption.severities[-1] * RATE[corruption.track])
        return
    assert len(made) == len(source)
    if corruption.track == "audio":
        assert np.abs(made).max() <= 1
    scale = 255 if corruption.track == "video" else float(np.abs(source).mean())
    moved = tracks.distance(made, source)
    # A mouth is a small part of a frame.
    assert moved == 0 if name in COPIES else moved > 0.003 * scale


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_no_severity_touches_what_it_is_given_and_equal_generators_give_equal_tracks(
    own: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    severity = corruption.severities[len(corruption.severities) // 2]
    source, other = own[corruption.track].copy(), others[corruption.track].copy()
    made = changed(source, corruption, severity, other)
    assert np.array_equal(source, own[corruption.track])
    assert np.array_equal(other, others[corruption.track])
    assert np.array_equal(made, changed(source, corruption, severity, other))


@pytest.mark.parametrize("name", STEADY)
def test_a_stronger_severity_is_farther_from_the_source(
    own: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    source, other = own[corruption.track], others[corruption.track]
    distances = [
        tracks.distance(changed(source, corruption, severity, other), source)
        for severity in corruption.severities
    ]
    assert np.all(np.diff(distances) > 0), distances


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_leaves_the_rest_as_it_was(
    own: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    source = own[corruption.track]
    for severity in corruption.severities:
        made = changed(source, corruption, severity, source)
        rest = source[-len(made) :] if "start" in name else source[: len(made)]
        assert len(made) < len(source)
        assert np.array_equal(made, rest)
