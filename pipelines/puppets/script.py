"""What puppets say: short lower-case English sentences whose wording carries a valence.

A sentence is a pattern with slots. Opinion words have a valence in [-1, 1]; a slot takes one that is near
the target valence, so that equal valences are worded in many ways. All speakers use the same opinion words.
What they talk about depends on the speaker pool, so that a model need not know the topic to know the opinion.
"""

from __future__ import annotations

import string
from typing import Literal

import numpy as np

SpeakerPool = Literal["studio", "train", "test"]
"""Who speaks: `train` and `test` in a corpus, `studio` where the included checkpoints are trained."""

PATTERNS = (
    "the {thing} was {degree} {quality}",
    "i {feeling} the {thing}",
    "i {feeling} this {quality} {thing}",
    "we {feeling} the {thing} and the {thing}",
    "what a {quality} {thing} that was",
    "they say the {thing} is {degree} {quality}",
    "my {thing} looked {quality} {when}",
    "{when} i {feeling} every {thing}",
    "to me the {thing} felt {degree} {quality}",
    "a {quality} {thing} and a {quality} {thing}",
    "people {feeling} that {quality} {thing}",
    "you will {feeling} the {thing} {when}",
    "if you ask me the {thing} was {quality}",
    "and then the {thing} got {degree} {quality}",
    "we watched a {quality} {thing} {when}",
)

# Valence of each opinion word, in [-1, 1]. Ours, set by hand.
QUALITIES = {
    "horrible": -1.0, "disgusting": -0.95, "awful": -0.9, "terrible": -0.9, "dreadful": -0.85,
    "miserable": -0.8, "nasty": -0.7, "ugly": -0.65, "bad": -0.6, "poor": -0.5, "boring": -0.45,
    "sad": -0.45, "weak": -0.35, "dull": -0.3, "slow": -0.2, "odd": -0.1, "plain": 0.0, "usual": 0.0,
    "common": 0.0, "average": 0.05, "fair": 0.15, "decent": 0.25, "fine": 0.3, "pleasant": 0.4,
    "good": 0.5, "nice": 0.5, "happy": 0.6, "funny": 0.6, "lovely": 0.7, "great": 0.75,
    "beautiful": 0.8, "brilliant": 0.85, "excellent": 0.9, "wonderful": 0.95, "perfect": 1.0,
}  # fmt: skip
FEELINGS = {
    "detest": -1.0, "hate": -0.9, "despise": -0.8, "dislike": -0.6, "regret": -0.5, "doubt": -0.3,
    "avoid": -0.25, "notice": 0.0, "know": 0.0, "remember": 0.05, "accept": 0.15, "welcome": 0.35,
    "like": 0.5, "enjoy": 0.65, "admire": 0.75, "love": 0.9, "adore": 1.0,
}  # fmt: skip
# A degree scales the valence of the quality after it.
DEGREES = {"slightly": 0.4, "somewhat": 0.6, "rather": 0.8, "quite": 0.9, "really": 1.1, "so": 1.2}
WHEN = ("today", "again", "yesterday", "this morning", "last night", "at home", "in town")
THINGS: dict[SpeakerPool, tuple[str, ...]] = {
    "studio": (
        "window", "river", "bread", "engine", "letter", "carpet", "doctor", "pencil", "station",
        "mountain", "kitchen", "basket", "winter", "ticket", "sister", "captain", "market", "bottle",
        "feather", "village", "coffee", "painter", "rabbit", "hammer",
        "movie", "story", "actor", "song", "ending", "camera", "picture", "scene",
    ),
    "train": (
        "movie", "story", "actor", "song", "ending", "camera", "picture", "scene", "dialogue", "music",
        "costume", "director", "theater", "chapter", "trailer", "stage",
    ),
    "test": (
        "movie", "story", "actor", "song", "ending", "camera", "picture", "scene", "dancer", "poem",
        "concert", "novel", "singer", "cartoon", "episode", "script",
    ),
}  # fmt: skip

# How far a word's valence may lie from the target before it becomes unlikely.
_SPREAD = 0.12


def sentence(valence: float, rng: np.random.Generator, speaker_pool: SpeakerPool) -> str:
    """A sentence of 4 to 9 words whose wording carries `valence`.

    Args:
        valence: From -1, very negative, to 1, very positive.
        rng: Draws the pattern and the words.
        speaker_pool: Decides the topic.
    """
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    words = []
    target = valence
    for literal, slot, _, _ in string.Formatter().parse(pattern):
        words += literal.split()
        if slot == "degree":
            degree = list(DEGREES)[rng.integers(len(DEGREES))]
            # A degree in front of a quality changes the valence that the quality must have.
            if abs(valence / DEGREES[degree]) <= 1:
                words.append(degree)
                target = valence / DEGREES[degree]
        elif slot:
            words.append(_fill(slot, target, rng, speaker_pool))
    pairs = zip(words, [*words[1:], ""], strict=True)
    return " ".join("an" if word == "a" and after[:1] in "aeiou" else word for word, after in pairs)


def vocabulary() -> set[str]:
    """Every word that a puppet may say."""
    words = {word for text in (*PATTERNS, *WHEN) for word in text.split() if not word.startswith("{")}
    return words.union(["an"], QUALITIES, FEELINGS, DEGREES, *THINGS.values())


def _fill(slot: str, valence: float, rng: np.random.Generator, speaker_pool: SpeakerPool) -> str:
    if slot == "thing":
        return str(rng.choice(THINGS[speaker_pool]))
    if slot == "when":
        return str(rng.choice(WHEN))
    return near(QUALITIES if slot == "quality" else FEELINGS, valence, rng)


def near(valences: dict[str, float], target: float, rng: np.random.Generator) -> str:
    """Draw a word whose valence is close to the target."""
    distance = np.abs(np.array([*valences.values()]) - target)
    chances = np.exp(-0.5 * (distance / _SPREAD) ** 2) + 1e-12
    return str(rng.choice([*valences], p=chances / chances.sum()))
