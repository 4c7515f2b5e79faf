"""Memory of a training step with logits for all tokens, and for the answers' tokens only. Linux only."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.measurement import in_new_process, peak_bytes, reset_peak

VOCABULARY, TOKENS, ROWS, ANSWER = 152_064, 512, 4, 6
"""Size of the model's vocabulary; tokens per row, rows, and answer tokens per row of a step."""


def logits() -> dict[str, Any]:
    """Bytes of both kinds of step, each measured in a new process."""
    isolated = partial(in_new_process, step_bytes, smaller="a machine with more memory")
    kinds = {"full": isolated(True), "answers": isolated(False)}
    return {
        "vocabulary": VOCABULARY, "rows": ROWS, "tokens": TOKENS, "answer_tokens": ANSWER,
        "bytes": kinds, "ratio": kinds["answers"] / kinds["full"],
    }  # fmt: skip


def step_bytes(full: bool) -> int:
    """Peak memory of a forward and backward pass above the loaded model."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    thinker = get_peft_model(Qwen2ForCausalLM(config), LoraConfig(target_modules="all-linear", r=4))
    ids = torch.randint(0, VOCABULARY, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    before = reset_peak("cpu")
    answer_loss(thinker, ids, full=full).backward()
    return peak_bytes("cpu") - before


def answer_loss(thinker: Any, ids: torch.Tensor, *, full: bool) -> torch.Tensor:
    """The mean loss of the rows' last `ANSWER` tokens, from logits for all tokens or for those only."""
    from finetune.model.heads import Answer, Scale
    from finetune.model.regressor import SentimentModel

    if full:
        labels = ids.clone()
        labels[:, :-ANSWER] = -100
        return thinker(input_ids=ids, labels=labels).loss
    rater = SentimentModel(thinker, Answer(None, Scale("mosi")))
    return rater(
        labels=torch.zeros(len(ids)),
        answers=ids[:, -ANSWER:],
        input_ids=ids,
        position_ids=torch.arange(ids.shape[1]).expand_as(ids),
        attention_mask=torch.ones_like(ids),
    ).mean()
