"""What puppets say carries the valence that it is asked to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipelines.puppets.script import FEELINGS, QUALITIES, THINGS, SpeakerPool, sentence, vocabulary


@pytest.mark.parametrize("cast", ["studio", "train", "test"])
def test_sentences_are_short_and_of_the_vocabulary(cast: SpeakerPool) -> None:
    rng = np.random.default_rng(0)
    words = vocabulary()
    for _ in range(300):
        said = sentence(rng.uniform(-1, 1), rng, cast).split()
        assert 4 <= len(said) <= 9
        assert set(said) <= words


def test_wording_carries_the_valence() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.uniform(-1, 1, size=300)
    valences = QUALITIES | FEELINGS
    heard = []
    for valence in wanted:
        judged = [valences[word] for word in sentence(valence, rng, "train").split() if word in valences]
        heard.append(np.mean(judged))
    assert np.corrcoef(wanted, heard)[0, 1] > 0.9


def test_casts_talk_of_different_things() -> None:
    for cast, other in (("train", "test"), ("test", "train")):
        assert set(THINGS[cast]) - set(THINGS[other])  # type: ignore[index]
        assert set(THINGS[cast]) & set(THINGS["studio"])  # type: ignore[index]


def test_equal_seeds_give_equal_sentences() -> None:
    said = [[sentence(0.3, np.random.default_rng(seed), "test") for seed in range(20)] for _ in range(2)]
    assert said[0] == said[1]
    assert len(set(said[0])) > 10


def test_an_article_fits_its_noun() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        words = sentence(rng.uniform(-1, 1), rng, "studio").split()
        for article, after in pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (after[0] in "aeiou"), " ".join(words)
