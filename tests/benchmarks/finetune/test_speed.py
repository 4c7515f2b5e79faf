"""The benchmark compares like with like: the same losses, the same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.commands import import_puppets
from benchmarks.finetune import speed, step_memory
from pipelines.errors import UsageError
from tests import tiny


@pytest.mark.slow
def test_both_trainings_have_the_same_losses(tmp_path: Path) -> None:
    store = import_puppets(tmp_path / "store", clips=16, seed=0)
    told = speed.speed(store, tmp_path, epochs=4)
    assert (told["rows"], told["epochs"]) == (8, 4)
    assert told["largest_difference_of_losses"] < 1e-4
    assert told["losses"][0][1] < told["losses"][0][0]
    assert told["ratio"] > 0


@pytest.mark.parametrize("given", [["--epochs", "0"], ["--clips", "7"]])
def test_a_number_that_trains_nothing_is_refused(tmp_path: Path, given: list[str]) -> None:
    with pytest.raises(UsageError, match=f"^{given[0]}: got {given[1]}, takes [18] or more$"):
        speed.main(["--out", str(tmp_path), *given])


def test_a_store_of_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    store = tiny.store(tmp_path / "store", [tiny.row(number) for number in range(7)])
    with pytest.raises(UsageError, match=r"store: got 7 training rows, takes 8 or more"):
        speed.main(["--out", str(tmp_path / "out"), "--data", str(store)])


def test_logits_of_answers_give_the_gradients_of_all_logits() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = Qwen2Config(vocab_size=64, num_attention_heads=2, num_key_value_heads=2, **size)
    lora = LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False)
    thinker = get_peft_model(Qwen2ForCausalLM(config), lora)
    ids = torch.randint(0, 64, (3, 20))
    found = []
    for full in (True, False):
        thinker.zero_grad()
        step_memory.answer_loss(thinker, ids, full=full).backward()
        found.append([value.grad.clone() for value in thinker.parameters() if value.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_the_report_tells_what_was_measured() -> None:
    report = {
        "speed": {
            "puppets": {
                "rows": 8, "epochs": 3, "samples_per_second": {"in use": 10.0, "ours": 25.0}, "ratio": 2.5,
                "largest_difference_of_losses": 2e-6,
            },
        },
        "logits": {
            "vocabulary": 152_064, "rows": 4, "tokens": 512, "answer_tokens": 6,
            "bytes": {"full": 4 * 2**30, "answers": 2**30}, "ratio": 0.25,
        },
    }  # fmt: skip
    lines = speed.markdown(report).splitlines()
    assert lines[0] == "|  | standard recipe | ours | ratio |"
    assert lines[2] == "| samples per second, puppets, 3 epochs of 8 rows | 10.0 | 25.0 | 2.5 |"
    assert lines[3].endswith("| 4096 | 1024 | 0.25 |")
