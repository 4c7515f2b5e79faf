"""Partners: who they are, and that a puppet drawn again or with another face is what it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.commands import import_puppets
from benchmarks.scorer.partners import Partners, double, redrawn
from pipelines import pitch
from pipelines.media import read_audio, read_video
from pipelines.store import StoreReader
from tests.benchmarks.scorer.tracks import distance
from tests.score.clips import original, write_store


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Partners:
    """Of six clips by two speakers, the second of which says what the first says; one clip is mute."""
    rows = [original(seed, groups=2) for seed in range(6)]
    rows[4] |= {"audio": None}
    rows[5] |= {"text": "other words"}
    return Partners(StoreReader(write_store(tmp_path_factory.mktemp("partners"), rows)))


def test_a_partner_is_of_the_same_person_in_another_mood_or_a_stranger(partners: Partners) -> None:
    rows = [original(seed, groups=2) for seed in range(6)]
    labels = [row["label"] for row in rows]
    for at, row in enumerate(rows):
        same = [other for other in range(at % 2, 6, 2) if other != at]
        farthest = max(same, key=lambda other: abs(labels[other] - labels[at]))
        found = partners.track(row, "video", "same person", 1)
        assert np.array_equal(found, read_video(rows[farthest]["video"]["bytes"]).frames)
        stranger = partners.track(row, "video", "stranger", 1)
        theirs = [read_video(rows[other]["video"]["bytes"]).frames for other in range(1 - at % 2, 6, 2)]
        assert any(np.array_equal(stranger, each) for each in theirs)
        assert partners.track(row, "video", "redrawn", 1) is None


def test_another_take_has_the_same_words_and_a_sound(partners: Partners) -> None:
    first, third, other = (original(seed, groups=2) for seed in (0, 3, 5))
    # Of the first speaker's other clips one is mute, so it is as good as not there, or the farther one.
    found = partners.track(first, "audio", "same person", 1)
    assert found is None or len(found) == len(read_audio(first["audio"]["bytes"]))
    assert np.array_equal(
        partners.track(third, "audio", "same person", 1), read_audio(original(1, groups=2)["audio"]["bytes"])
    )
    assert partners.track(other | {"text": "other words"}, "audio", "same person", 1) is None


def test_a_puppet_is_drawn_again_with_its_words_and_another_mood(tmp_path: Path) -> None:
    puppets = import_puppets(tmp_path, clips=8, seed=3)
    row = next(row for row in StoreReader(puppets).rows() if row["split"] == "train")
    frames, samples = read_video(row["video"]["bytes"]).frames, read_audio(row["audio"]["bytes"])
    same = [redrawn(row, track, 0.0, 3) for track in ("video", "audio")]
    assert np.corrcoef(same[0].ravel(), frames.ravel())[0, 1] > 0.99  # the store's were encoded, twice
    # The label was rounded, and with it, on some processors, the length of what is said.
    assert len(same[1]) == pytest.approx(len(samples), abs=16)
    both = min(len(same[1]), len(samples))
    assert np.corrcoef(same[1][:both], samples[:both])[0, 1] > 0.99
    moved = [distance(redrawn(row, "video", share, 3), same[0]) for share in (0.2, 0.6, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]
    louder = redrawn(row, "audio", 1.0, 3)
    assert len(louder) != len(samples) or distance(louder, samples) > 0.1 * float(np.abs(samples).mean())


def test_a_crowd_is_of_other_groups_each_as_loud_as_the_other(tmp_path: Path) -> None:
    rows = [original(seed, groups=3) for seed in range(6)]
    crowd = Partners(StoreReader(write_store(tmp_path, rows))).track(rows[0], "audio", "crowd", 0)
    # Of both other groups the next clip.
    voices = [read_audio(rows[at]["audio"]["bytes"]) for at in (1, 2)]
    assert crowd == pytest.approx(sum(voice / voice.std() for voice in voices), rel=1e-4, abs=1e-4)
    alone = Partners(StoreReader(write_store(tmp_path / "alone", [original(0, groups=1)])))
    assert alone.track(original(0, groups=1), "audio", "crowd", 0) is None


def test_a_double_says_the_same_words_in_the_same_mood(tmp_path: Path) -> None:
    rows = [original(seed, groups=2) for seed in range(4)]
    moods = {row["id"]: mood for row, mood in zip(rows, ("glad", "sad", "sad", "glad"), strict=True)}
    reader = StoreReader(write_store(tmp_path, rows))
    partners = Partners(reader, moods=moods)
    for at, other in ((0, 3), (1, 2), (2, 1), (3, 0)):
        found = partners.track(rows[at], "audio", "double", 1)
        assert np.array_equal(found, read_audio(rows[other]["audio"]["bytes"]))
        assert partners.track(rows[at] | {"text": "other words"}, "audio", "double", 1) is None
        assert partners.track(rows[at], "video", "double", 1) is None
    assert Partners(reader).track(rows[0], "audio", "double", 1) is None  # no label is another's


def test_a_puppet_has_a_double_with_another_face_or_voice_and_the_same_mouth_and_mood(tmp_path: Path) -> None:
    puppets = import_puppets(tmp_path, clips=8, seed=3)
    row = next(row for row in StoreReader(puppets).rows() if row["split"] == "train")
    own = redrawn(row, "video", 0.0, 3).astype(float)
    face = double(row, "video", 3).astype(float)
    assert face.shape == own.shape
    assert distance(face, own) > 5
    mouths, theirs = (
        np.abs(np.diff(each[:, 40:52, 26:38], axis=0)).mean(axis=(1, 2, 3)) for each in (own, face)
    )
    assert np.corrcoef(mouths, theirs)[0, 1] > 0.7
    said, again = redrawn(row, "audio", 0.0, 3), double(row, "audio", 3)
    heights = [np.nanmedian(np.log2(pitch.track(each))) for each in (said, again)]
    assert abs(heights[0] - heights[1]) > 0.02
    assert 0.7 < len(again) / len(said) < 1.4
