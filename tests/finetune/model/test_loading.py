"""The adapter by what it means, and where models come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.inputs.batch import Budget, collate
from finetune.model.adapters import adapted
from finetune.model.loading import load_base
from finetune.model.parts import is_in_towers
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig
from tests import tiny

BUDGET = Budget(video_fps=10, max_frames=8, max_audio_s=2)


def regressor(thinker: Path, **settings: Any) -> tuple[SentimentModel, dict[str, torch.Tensor]]:
    base = load_base(str(thinker), None, dtype=torch.float32, max_pixels=None)
    encoder = base.encoder(BUDGET, ("text", "audio", "video"))
    batch = collate([encoder(tiny.row(n)) for n in range(2)], 0)
    return adapted(base, FinetuneConfig(**{"lora_rank": 2} | settings), "mosi", seed=0).eval(), batch


def moved(model: SentimentModel) -> SentimentModel:
    """The model after its trained parameters were changed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += 0.2 * torch.randn(value.shape, generator=generator)
    return model


def test_a_fresh_adapter_changes_nothing(tiny_thinker: Path) -> None:
    model, batch = regressor(tiny_thinker)
    with torch.no_grad():
        adapted_features = model.features(**batch)
        with model.thinker.disable_adapter():
            torch.testing.assert_close(model.features(**batch), adapted_features)
        assert model(**batch).tolist() == [0, 0]
        moved(model)
        assert not torch.allclose(model.features(**batch), adapted_features, rtol=1e-2)


def test_saved_and_loaded_is_equal(tiny_thinker: Path, tmp_path: Path) -> None:
    model, batch = regressor(tiny_thinker)
    moved(model).save(tmp_path)
    again, _ = regressor(tiny_thinker)
    again.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(**batch), model(**batch), rtol=0, atol=0)


def test_only_adapter_and_head_are_trained(tiny_thinker: Path) -> None:
    model, _ = regressor(tiny_thinker)
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert all("lora_" in name or name.startswith("head.linear.") for name in trained)
    assert not any(is_in_towers(name) for name in trained)
    assert len([name for name in trained if "lora_A" in name]) == 2 * 7  # layers, linear layers of each


def test_gradient_checkpointing_gives_the_same_gradients(tiny_thinker: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        model, batch = regressor(tiny_thinker, gradient_checkpointing=checkpointing)
        moved(model).train()
        model(**batch).sum().backward()
        gradients.append(
            {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
        )
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_thinker_is_taken_out_of_a_whole_omni_checkpoint(tiny_thinker: Path, tmp_path: Path) -> None:
    """As the Hub has them: thinker and talker together."""
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

    base = load_base(str(tiny_thinker), None, dtype=torch.float32, max_pixels=None)
    thinker_config: Any = base.thinker.config.to_dict()
    config = Qwen2_5OmniConfig(thinker_config=thinker_config, enable_audio_output=False)
    whole = Qwen2_5OmniForConditionalGeneration(config)
    whole.thinker.load_state_dict(base.thinker.state_dict())
    whole.save_pretrained(tmp_path)
    base.processor.save_pretrained(tmp_path)
    taken = load_base(str(tmp_path), None, dtype=torch.float32, max_pixels=None)
    assert type(taken.thinker).__name__ == "Qwen2_5OmniThinkerForConditionalGeneration"
    for name, value in base.thinker.state_dict().items():
        assert torch.equal(value, taken.thinker.state_dict()[name]), name


def test_pixels_can_be_limited(tiny_thinker: Path) -> None:
    base = load_base(str(tiny_thinker), None, dtype=torch.float32, max_pixels=16 * 16)
    encoded = base.encoder(BUDGET, ("video",))(tiny.row(0))
    assert encoded.video_grid_thw is not None
    assert encoded.video_grid_thw.tolist() == [3, 2, 2]
