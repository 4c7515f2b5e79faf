"""Encoders of transformers in the voice converter: what they read, where it lies in time, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment.voice_conversion import VoiceConversionPipeline, encoders
from augment.voice_conversion.encoders import EncoderInput
from augment.voice_conversion.mel import HOP, frame_count
from augment.voice_conversion.model import LengthRegulator, VoiceTransformer
from pipelines.errors import UsageError
from tests import tiny_encoders, tiny_observers
from tests.tiny_voices import converter, voiced

torch.set_num_threads(1)

CONTENT = ("whisper", "wavlm", "hubert", "wav2vec2")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models in folders of their kind."""
    folder = tmp_path_factory.mktemp("models")
    tiny_observers.whisper(folder / "whisper")
    tiny_observers.speaker(folder / "speaker")
    tiny_encoders.text(folder / "bert")
    for kind in CONTENT[1:]:
        tiny_encoders.audio(folder / kind, kind)
    return folder


@pytest.fixture(scope="module")
def pipeline(models: Path) -> VoiceConversionPipeline:
    """A converter with a Whisper and a WavLM x-vector model."""
    content, content_extractor = encoders.load_content(str(models / "whisper"))
    speaker, speaker_extractor = encoders.load_speaker(str(models / "speaker"))
    torch.manual_seed(0)
    made = VoiceConversionPipeline(
        content,
        speaker,
        LengthRegulator(content_size=16, size=8, layers=1),
        VoiceTransformer(content_size=8, speaker_size=8, width=16, layers=2, heads=2, feedforward=16),
        content_extractor=content_extractor,
        speaker_extractor=speaker_extractor,
    )
    torch.nn.init.normal_(made.transformer.out.weight, std=0.1)
    return made


def heard(samples: np.ndarray | torch.Tensor) -> EncoderInput:
    batch = torch.as_tensor(samples).reshape(-1, samples.shape[-1])
    return EncoderInput(batch, torch.zeros(len(batch), frame_count(batch.shape[1]), 80))


def convert(pipeline: Any, seconds: float = 1.0, reference: np.ndarray | None = None) -> np.ndarray:
    reference = voiced(1.0, 220) if reference is None else reference
    generator = torch.Generator().manual_seed(0)
    return pipeline(
        voiced(seconds, 120), reference, sampling_rate=16_000, num_inference_steps=2, generator=generator
    )


def test_a_whispers_encoder_is_loaded_without_its_decoder(models: Path) -> None:
    import transformers

    encoder, _ = encoders.load_content(str(models / "whisper"))
    whole = transformers.WhisperModel.from_pretrained(models / "whisper").encoder.state_dict()
    assert encoder.state_dict().keys() == whole.keys()
    assert all(torch.equal(value, whole[name]) for name, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("kind", CONTENT)
def test_content_of_a_long_sound_is_that_of_its_windows(models: Path, kind: str) -> None:
    encoder, extractor = encoders.load_content(str(models / kind))
    sound = torch.from_numpy(voiced(31.0))
    whole = encoders.content(encoder, extractor, heard(sound))
    assert whole.shape == (1, 1551, encoders.size(encoder))
    first, rest = (encoders.content(encoder, extractor, heard(part)) for part in sound.split(480_000))
    torch.testing.assert_close(whole[:, :1500], first[:, :1500])
    torch.testing.assert_close(whole[:, 1500:], rest)


@pytest.mark.parametrize("kind", CONTENT)
@pytest.mark.parametrize("at_s", [0.4, 30.7])
def test_content_lies_where_it_is_heard(models: Path, kind: str, at_s: float) -> None:
    """A burst changes the content most at the mel frame on which it is centred, where attention is off."""
    encoder, extractor = encoders.load_content(str(models / kind))
    for name, parameter in encoder.named_parameters():
        if "out_proj" in name:
            parameter.zero_()
    plain = 0.05 * torch.randn(499_200, generator=torch.Generator().manual_seed(0))
    at = round(at_s * 16_000)
    burst = plain.clone()
    burst[at - 200 : at + 200] *= -1
    said = encoders.content(encoder, extractor, heard(torch.stack([plain, burst])))
    frames = torch.nn.functional.interpolate(said.transpose(1, 2), size=frame_count(len(plain)))
    moved = (frames[0] - frames[1]).square().sum(0)
    assert abs(int(moved.argmax()) - at / HOP) <= 2.5


@pytest.mark.parametrize("kind", CONTENT)
@pytest.mark.parametrize("samples", [1, 100, 8_000])
def test_content_of_short_sounds_has_its_positions(models: Path, kind: str, samples: int) -> None:
    encoder, extractor = encoders.load_content(str(models / kind))
    said = encoders.content(encoder, extractor, heard(voiced(1.0)[:samples]))
    assert said.shape[1] == samples // 320 + 1
    assert said.isfinite().all()


@pytest.mark.parametrize("samples", [1, 100, 30_000])
def test_a_speaker_is_a_unit_vector_of_sounds_of_any_length(models: Path, samples: int) -> None:
    encoder, extractor = encoders.load_speaker(str(models / "speaker"))
    vector = encoders.speaker(encoder, extractor, heard(voiced(2.0)[-samples:]))
    assert vector.shape == (1, encoders.size(encoder))
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(1))


def test_saved_and_loaded_is_the_same(pipeline: VoiceConversionPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["content_encoder"] == ["augment.voice_conversion.encoders", "WhisperContentEncoder"]
    assert index["speaker_encoder"] == ["transformers", "WavLMForXVector"]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    loaded = VoiceConversionPipeline.from_pretrained(tmp_path)
    np.testing.assert_array_equal(convert(pipeline), convert(loaded))


def test_what_was_saved_before_0_2_0_is_loaded(pipeline: VoiceConversionPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    index = file.read_text()
    for module, before in (("model", "voice_conversion_model"), ("encoders", "voice_encoders")):
        assert f'"augment.voice_conversion.{module}"' in index
        index = index.replace(f'"augment.voice_conversion.{module}"', f'"augment.{before}"')
    file.write_text(index)
    loaded = VoiceConversionPipeline.from_pretrained(tmp_path)
    np.testing.assert_array_equal(convert(pipeline), convert(loaded))


def test_a_converter_hears_content_and_speaker(
    pipeline: VoiceConversionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = convert(pipeline, 0.7)
    assert made.shape == (11_200,)
    for name in ("content", "speaker"):
        told = getattr(encoders, name)
        with monkeypatch.context() as patch:
            patch.setattr(encoders, name, lambda *given, told=told: torch.zeros_like(told(*given)))
            assert np.abs(convert(pipeline, 0.7) - made).max() > 1e-4, name


def test_samples_follow_the_encoder_to_its_device(models: Path) -> None:
    there = EncoderInput(torch.zeros(1, 16_000), torch.zeros(1, 63, 80, device="meta"))
    for load, read, name in (
        (encoders.load_content, encoders.content, "hubert"),
        (encoders.load_speaker, encoders.speaker, "speaker"),
    ):
        encoder, extractor = load(str(models / name))
        assert read(encoder.to("meta"), extractor, there).device.type == "meta"


def test_parts_that_wait_elsewhere_give_the_same(models: Path) -> None:
    made = converter()
    content, content_extractor = encoders.load_content(str(models / "hubert"))
    made.register_modules(content_encoder=content, content_extractor=content_extractor)
    before = convert(made)
    made.enable_model_cpu_offload(device="cpu")
    np.testing.assert_array_equal(convert(made), before)


@pytest.mark.parametrize("reads_samples", [False, True])
def test_half_precision_reaches_every_part(models: Path, reads_samples: bool) -> None:
    made = converter()
    if reads_samples:
        content, content_extractor = encoders.load_content(str(models / "hubert"))
        made.register_modules(content_encoder=content, content_extractor=content_extractor)
    made.to(torch.bfloat16)
    assert np.isfinite(convert(made)).all()


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        ("content", "bert", "content_encoder: '.*bert' is a model of type bert; wanted .*Whisper"),
        ("content", "nowhere", "content_encoder: '.*nowhere' cannot be loaded"),
        ("speaker", "hubert", "speaker_encoder: '.*hubert' cannot be loaded .*wanted .*x-vector"),
        ("speaker", "wavlm", "speaker_encoder: '.*wavlm' has no weights for .*would be random; wanted"),
    ],
)
def test_what_is_no_such_encoder_is_refused(models: Path, load: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        getattr(encoders, f"load_{load}")(str(models / name))
