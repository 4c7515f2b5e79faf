"""The wording of the task: the question about a clip, by corpus, language and scale.

It depends on neither models nor tokens.
"""

from __future__ import annotations

from finetune.settings import HeadName
from pipelines.row import SCALES

TRANSCRIPT = {"en": "The speaker says: {}\n", "zh": "说话人说：{}\n"}

# The wording of each task by language, after published prompts for rating utterances; ours where none fits.
QUESTIONS = {
    "rating": {
        "en": "Rate the sentiment of the speaker in this clip from {low:g} (strongly negative)"
        " to {high:g} (strongly positive).",
        "zh": "请为片段中说话人的情感打分，从 {low:g}（非常消极）到 {high:g}（非常积极）。",
    },
    "dialogue": {  # MELD has three classes, so nothing is "strongly" positive or negative
        "en": "Rate the sentiment of this line of a dialogue from {low:g} (negative) to {high:g} (positive).",
        "zh": "请为这句对白的情感打分，从 {low:g}（消极）到 {high:g}（积极）。",
    },
    "sarcasm": {
        "en": "Is the speaker in this clip sarcastic, 0 (no) or 1 (yes)?",
        "zh": "片段中的说话人是在讽刺吗？0（不是）或 1（是）。",
    },
}
LEVELS = {"mosi": 7, "sims": 5, "binary": 2}
"""The number of digits that divide a scale evenly, for the head `levels`."""
ANSWERS = {
    "levels": {
        "en": " Answer with one digit, from 1 for {low:g} to {levels} for {high:g}.",
        "zh": "请用一个数字回答，从 1（{low:g}）到 {levels}（{high:g}）。",
    },
    "answer": {
        "en": " Answer with the number alone, written like {example}.",
        "zh": "请只回答数字，例如 {example}。",
    },
}
BY_CORPUS = {
    "mosi": "rating",
    "mosei": "rating",
    "sims": "rating",
    "mustard": "sarcasm",
    "meld": "dialogue",
}
BY_SCALE = {"mosi": "rating", "sims": "rating", "binary": "sarcasm"}


def rating_question(scale: str, language: str, corpus: str = "") -> str:
    """The question, in the corpus' own wording or else that of the scale; in English for other languages."""
    low, high = SCALES[scale]
    wordings = QUESTIONS[BY_CORPUS.get(corpus, BY_SCALE[scale])]
    return wordings.get(language, wordings["en"]).format(low=low, high=high)


def answer_format(head: HeadName, scale: str, language: str) -> str:
    """The required form of the answer, after the question; empty for heads with a layer of their own."""
    low, high = SCALES[scale]
    wordings = ANSWERS.get(head, {})
    wording = wordings.get(language, wordings.get("en", ""))
    return wording.format(low=low, high=high, levels=LEVELS[scale], example=f"{(low + 2 * high) / 3:+.1f}")


def quoted(text: str | None, language: str) -> tuple[str, str, str]:
    """A transcript between the words that introduce it; three empty strings without one."""
    if not text:
        return "", "", ""
    before, behind = TRANSCRIPT.get(language, TRANSCRIPT["en"]).split("{}")
    space = before[len(before.rstrip()) :]  # tokens of words hold the space before them
    return before.rstrip(), space + text, behind
