"""The words of the task."""

from __future__ import annotations

import pytest

from finetune.inputs.question import BY_CORPUS, QUESTIONS, quoted, rating_question


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("corpus", list(BY_CORPUS))
def test_every_corpus_is_asked_about_in_both_languages(corpus: str, language: str) -> None:
    scale = {"mustard": "binary", "sims": "sims", "meld": "sims"}.get(corpus, "mosi")
    asked = rating_question(scale, language, corpus)
    assert "{" not in asked
    low = {"binary": "0", "sims": "-1", "mosi": "-3"}[scale]
    assert low in asked
    assert asked.isascii() == (language == "en")


def test_the_question_names_the_scale() -> None:
    assert "从 -1" in rating_question("sims", "zh")
    assert "from -3 " in rating_question("mosi", "fr")
    assert "sarcastic" in rating_question("binary", "en")


def test_an_unknown_corpus_is_asked_about_by_its_scale() -> None:
    assert rating_question("mosi", "en", "puppets") == rating_question("mosi", "en")
    assert rating_question("sims", "en", "meld") != rating_question("sims", "en", "sims")
    assert set(BY_CORPUS.values()) <= set(QUESTIONS)


def test_a_transcript_stands_whole_between_its_words() -> None:
    assert "".join(quoted("it is {good}", "en")) == "The speaker says: it is {good}\n"
    assert "".join(quoted(None, "en")) == ""
