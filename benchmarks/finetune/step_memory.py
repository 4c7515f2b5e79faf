"""What logits cost a training step in memory: for all tokens, and for the answers' alone.

Part of `python -m benchmarks.finetune.speed`; `python -m benchmarks.finetune.step_memory full` prints
the bytes of one kind. A process has one peak, so each kind is measured in a process of its own. Linux
only.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch

from benchmarks.process_memory import forget_peak, peak_bytes

VOCABULARY, TOKENS, ROWS, ANSWER = 152_064, 512, 4, 6
"""Of the model, and of a step."""


def logits() -> dict[str, Any]:
    """Bytes that a step takes, each in a process of its own."""
    found = {}
    for name in ("full", "answers"):
        command = [sys.executable, "-m", "benchmarks.finetune.step_memory", name]
        found[name] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "vocabulary": VOCABULARY, "rows": ROWS, "tokens": TOKENS, "answer_tokens": ANSWER,
        "bytes": found, "ratio": found["answers"] / found["full"],
    }  # fmt: skip


def step_bytes(*, full: bool) -> int:
    """What a forward and backward pass takes above the loaded model at its highest."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    thinker = get_peft_model(Qwen2ForCausalLM(config), LoraConfig(target_modules="all-linear", r=4))
    ids = torch.randint(0, VOCABULARY, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    forget_peak()
    before = peak_bytes()
    answer_loss(thinker, ids, full=full).backward()
    return peak_bytes() - before


def answer_loss(thinker: Any, ids: torch.Tensor, *, full: bool) -> torch.Tensor:
    """The mean loss of the rows' last `ANSWER` tokens, by logits for all tokens or for those alone."""
    from finetune.model.heads import Answer, Scale
    from finetune.model.regressor import SentimentModel

    if full:
        labels = ids.clone()
        labels[:, :-ANSWER] = -100
        return thinker(input_ids=ids, labels=labels).loss
    rater = SentimentModel(thinker, Answer(None, Scale("mosi")))
    places = torch.arange(ids.shape[1]).expand_as(ids)
    return rater(
        labels=torch.zeros(len(ids)),
        answers=ids[:, -ANSWER:],
        input_ids=ids,
        position_ids=places,
        attention_mask=torch.ones_like(ids),
    ).mean()


if __name__ == "__main__":
    print(step_bytes(full=sys.argv[1:] == ["full"]))
