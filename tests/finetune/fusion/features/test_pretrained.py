"""Pre-trained encoders: tiny models of real architectures, loaded as users' are, beside their own pass."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from finetune.fusion.features import pretrained
from finetune.fusion.features.encoders import load_encoders
from finetune.fusion.settings import ExtractSettings
from pipelines.errors import UsageError
from tests import tiny_encoders
from tests.finetune.fusion.made import row, stripes, tone

ROWS: dict[str, Any] = {"text": "A GOOD day", "audio": tone(300, 1.0), "video": stripes(vertical=True)}


@pytest.mark.parametrize("kind", ["bert", "deberta"])
def test_words_become_the_last_states_of_their_tokens(tmp_path: Path, kind: str) -> None:
    folder = tiny_encoders.text(tmp_path, kind)
    encoder = pretrained.load("text", str(folder), None, "cpu")
    found = encoder("a good days")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(**tokenizer("a good days", return_tensors="pt")).last_hidden_state[0]
    assert found is not None
    np.testing.assert_allclose(found, states[1:-1], atol=1e-6)  # without [CLS] and [SEP]; day, ##s
    assert found.shape == (4, 16)


def test_long_transcripts_are_cut_and_empty_ones_have_no_state(tmp_path: Path) -> None:
    encoder = pretrained.load("text", str(tiny_encoders.text(tmp_path)), None, "cpu")
    found = encoder("good " * 100)
    assert found is not None
    assert found.shape == (30, 16)  # the tokenizer's 32 without the two special ones
    assert encoder("") is None


def test_a_transcript_in_capitals_is_lower_cased(tmp_path: Path) -> None:
    encoder = pretrained.load("text", str(tiny_encoders.text(tmp_path)), None, "cpu")
    heard: list[str] = []

    class Listening:
        model_max_length = 32

        def __call__(self, text: str, **options: Any) -> Any:
            heard.append(text)
            return encoder.tokenizer(text, **options)

    listening = pretrained.TextEncoder(Listening(), encoder.model)
    for text in ("WHAT A DAY", "What a DAY"):
        listening(text)
    assert heard == ["what a day", "What a DAY"]


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
def test_sound_becomes_states_averaged_to_a_rate(tmp_path: Path, kind: str) -> None:
    folder = tiny_encoders.audio(tmp_path, kind)
    encoder = pretrained.load("audio", str(folder), None, "cpu")
    samples = tone(300, 1.0)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt")
        states = model(**inputs).last_hidden_state[0]
    np.testing.assert_allclose(encoder(samples, 1e4), states, atol=1e-5)
    assert encoder(samples, 10.0).shape == (10, 16)
    np.testing.assert_allclose(encoder(samples, 1.0)[0], states.mean(0), atol=1e-5)
    assert np.isfinite(encoder(np.zeros(3, dtype=np.float32), 10.0)).all()


@pytest.mark.parametrize(("kind", "size"), [("vit", 16), ("dinov2", 16), ("clip", 12), ("resnet", 16)])
def test_frames_become_a_vector_each(tmp_path: Path, kind: str, size: int) -> None:
    folder = tiny_encoders.video(tmp_path, kind)
    frames = np.concatenate([stripes(vertical=True), stripes(vertical=False)])
    found = pretrained.load("video", str(folder), None, "cpu", batch_size=3)(frames)
    assert found.shape == (8, size)
    alone = pretrained.load("video", str(folder), None, "cpu", batch_size=1)(frames[:1])
    np.testing.assert_allclose(found[0], alone[0], atol=1e-5)
    assert np.abs(found[0] - found[-1]).max() > 1e-4
    model = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(list(frames), return_tensors="pt")
    with torch.no_grad():
        if kind == "clip":
            asked = model.visual_projection(model.vision_model(pixels["pixel_values"]).pooler_output)
        else:
            states = model(pixels["pixel_values"]).last_hidden_state
            asked = states.mean((2, 3)) if kind == "resnet" else states[:, 0]
    np.testing.assert_allclose(found, asked, atol=1e-5)


def test_settings_name_an_encoder_for_each_modality(tmp_path: Path) -> None:
    folders = {
        name: str(getattr(tiny_encoders, name)(tmp_path / name)) for name in ("text", "audio", "video")
    }
    settings = ExtractSettings(**folders, audio_fps=10.0, video_fps=8.0, device="cpu")
    encoders = load_encoders(("text", "audio", "video"), settings)
    made = row(1, "train")
    shapes = {name: np.shape(encoder.encode(made)) for name, encoder in encoders.items()}
    assert shapes == {"text": (3, 16), "audio": (5, 16), "video": (4, 16)}
    lacking = row(1, "train", audio=None, video=None, text=None)
    assert [encoder.encode(lacking) for encoder in encoders.values()] == [None] * 3
    assert {name: encoder.origin for name, encoder in encoders.items()} == folders


def test_names_a_model_that_cannot_be_had_or_does_not_fit(tmp_path: Path) -> None:
    text, audio = tiny_encoders.text(tmp_path / "text"), tiny_encoders.audio(tmp_path / "audio")
    with pytest.raises(
        UsageError, match=r"fusion[.]extract[.]text: '/nowhere' cannot be loaded .*a Hub id or a"
    ):
        pretrained.load("text", "/nowhere", None, "cpu")
    (text / "preprocessor_config.json").write_text((audio / "preprocessor_config.json").read_text())
    with pytest.raises(
        UsageError, match=r"is a BertModel, which reads input_ids; takes .* reads input_values"
    ):
        pretrained.load("audio", str(text), None, "cpu")
    extractor = json.loads((audio / "preprocessor_config.json").read_text()) | {"sampling_rate": 8000}
    (audio / "preprocessor_config.json").write_text(json.dumps(extractor))
    with pytest.raises(UsageError, match="expects audio at 8000 Hz; choose a model for 16000 Hz"):
        pretrained.load("audio", str(audio), None, "cpu")


def test_refuses_weights_that_would_be_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_encoders.text(tmp_path)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    pretrained.load("text", str(folder), None, "cpu")  # nobody asks the pooler
    kept = {name: value for name, value in kept.items() if "layer.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"no weights for 16 parts of its BertModel \(.*would be random"):
        pretrained.load("text", str(folder), None, "cpu")


def test_weights_that_are_pickles_are_not_read(tmp_path: Path) -> None:
    folder = tiny_encoders.text(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(
        UsageError, match=r"takes weights as safetensors; fusion[.]extract[.]text_revision may"
    ):
        pretrained.load("text", str(folder), None, "cpu")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("DebertaV2Tokenizer requires the SentencePiece library"),
        ValueError("Converting from SentencePiece and Tiktoken failed, install `sentencepiece`"),
    ],
)
def test_names_packages_that_a_tokenizer_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(UsageError, match=re.escape("pip install sentencepiece protobuf")):
        pretrained.load("text", str(tiny_encoders.text(tmp_path)), None, "cpu")
