"""Four bits, other attention, and that nothing which comes with a model is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.inputs.batch import Budget, collate
from finetune.model import quantization, towers
from finetune.model.adapters import adapted
from finetune.model.loading import BaseModel, load_base
from finetune.settings import FinetuneConfig
from pipelines.errors import UsageError
from tests import tiny
from tests.gpus import pretend_gpus
from tests.tiny_families import BUILDERS

BUDGET = Budget(video_fps=10, max_frames=8, max_audio_s=2)


def load(directory: Path, **settings: Any) -> BaseModel:
    return load_base(str(directory), None, dtype=torch.float32, max_pixels=None, **settings)


def test_nf4_is_asked_for_with_double_quantisation() -> None:
    pytest.importorskip("bitsandbytes")
    config = quantization.quantization("nf4")["quantization_config"]
    assert config.load_in_4bit
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert quantization.quantization("none") == {}


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_it_is_computed_in_what_the_gpu_has(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    """Without the package: what its settings would be made of is noted."""
    pretend_gpus(monkeypatch, 1, capability)
    monkeypatch.setattr(quantization, "find_spec", lambda name: name)
    monkeypatch.setattr("transformers.BitsAndBytesConfig", dict)
    assert quantization.quantization("nf4")["quantization_config"]["bnb_4bit_compute_dtype"] == dtype


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"^finetune.quantize: nf4 needs bitsandbytes; pip install 'daq-msa\[qlora\]'"
    ):
        quantization.quantization("nf4")


@pytest.mark.parametrize("name", ["qwen2_5_omni_thinker", "qwen2_audio", "llama"])
def test_the_language_model_is_in_four_bits_and_its_adapter_learns(tmp_path: Path, name: str) -> None:
    pytest.importorskip("bitsandbytes")
    directory = BUILDERS[name](tmp_path)
    plain, base = load(directory), load(directory, quantize="nf4")
    kinds = {
        layer: type(module).__name__
        for layer, module in base.thinker.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert {
        kind for layer, kind in kinds.items() if ".self_attn." in layer and "audio_tower" not in layer
    } == {"Linear4bit"}
    towers_and_head = [kind for layer, kind in kinds.items() if "visual" in layer or "audio" in layer]
    assert set(towers_and_head) <= {"Linear"}
    batch = collate([base.encoder(BUDGET, None)(tiny.row(0)), base.encoder(BUDGET, None)(tiny.row(1))], 0)
    with torch.no_grad():
        exact = towers.last_hidden_state(plain.thinker, **batch)[:, -1]
        rough = towers.last_hidden_state(base.thinker, **batch)[:, -1]
    assert torch.nn.functional.cosine_similarity(exact, rough.float()).min() > 0.9
    model = adapted(base, FinetuneConfig(lora_rank=2), "mosi", seed=0).train()
    torch.nn.init.normal_(model.head_layer.weight)
    model(**batch).sum().backward()
    learns = [key for key, value in model.named_parameters() if value.grad is not None and value.grad.any()]
    assert any("lora_B" in key for key in learns)
    below = [key for key in learns if "layers.0." in key or ".h.0." in key]
    assert below, "gradients go through the layers in 4 bits"
    assert all(value.dtype == torch.float32 for key, value in model.named_parameters() if "lora_" in key)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_can_be_chosen(tiny_thinker: Path, attention: str) -> None:
    chosen, free = load(tiny_thinker, attention=attention), load(tiny_thinker)
    assert chosen.thinker.config.get_text_config()._attn_implementation == attention
    batch = collate([free.encoder(BUDGET, None)(tiny.row(0))], 0)
    with torch.no_grad():
        torch.testing.assert_close(
            towers.last_hidden_state(chosen.thinker, **batch),
            towers.last_hidden_state(free.thinker, **batch),
            rtol=1e-4,
            atol=1e-5,
        )


def test_attention_that_is_not_installed_says_so(tiny_thinker: Path) -> None:
    pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("may be installed")
    with pytest.raises(UsageError, match=r"^finetune.attention: flash_attention_2 .* pip install flash-attn"):
        load(tiny_thinker, attention="flash_attention_2")


def test_nothing_that_comes_with_a_model_is_run(tiny_thinker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    told: dict[str, dict[str, Any]] = {}

    def spy(owner: Any) -> None:
        original = owner.from_pretrained.__func__

        def from_pretrained(cls: Any, *args: Any, **settings: Any) -> Any:
            told.setdefault(owner.__name__, settings)
            return original(cls, *args, **settings)

        monkeypatch.setattr(owner, "from_pretrained", classmethod(from_pretrained))

    for owner in (
        transformers.AutoConfig,
        transformers.Qwen2_5OmniProcessor,
        transformers.Qwen2_5OmniThinkerForConditionalGeneration,
    ):
        spy(owner)
    load(tiny_thinker)
    assert len(told) == 3
    assert all(settings["trust_remote_code"] is False for settings in told.values())
    assert told["Qwen2_5OmniThinkerForConditionalGeneration"]["use_safetensors"] is True
