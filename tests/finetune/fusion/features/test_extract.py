"""Features of a store: what a word, a sound and a frame become, which rows are taken, and what fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune.fusion.features import extract
from finetune.fusion.features.arrays import FeatureError
from finetune.fusion.features.built_in import WORD, oriented_edges, spectra, word_vector
from finetune.fusion.features.encoders import Encoder, load_encoders
from finetune.fusion.features.extract import from_store, padded
from finetune.fusion.features.file import from_file
from finetune.fusion.settings import ExtractSettings
from finetune.objective import WeightError
from pipelines import media
from pipelines.device import Share
from pipelines.errors import RunError, UsageError
from pipelines.row import SPLITS
from pipelines.row import media as held
from tests import tiny, tiny_encoders
from tests.finetune.fusion.made import assert_equal, row, rows, store, stripes, tone

ALL = ("text", "audio", "video")
SETTINGS = ExtractSettings(word_dimensions=16, mel_bands=12, frame_px=16, cells=4)


def test_reads_a_store(tmp_path: Path) -> None:
    features, failures = from_store(store(tmp_path / "store", rows()), ALL, SETTINGS)
    assert failures == []
    assert features.scale == "mosi"
    train = features.splits["train"]
    assert train.ids == [f"made/train/{number}" for number in range(4)]
    assert train.labels.tolist() == [-1, 0, 1, -1]
    assert train.features["text"].mask.sum(1).tolist() == [1, 3, 1, 3]
    assert train.features["audio"].values.shape[2] == 12
    assert train.features["video"].values.shape[2] == 16 * 7
    assert train.unimodal["audio"].tolist() == [0.5] * 4
    assert np.isnan(train.unimodal["text"]).all()


def test_takes_variants_of_train_with_their_weights_and_rates_originals_alone(tmp_path: Path) -> None:
    variants = [
        row(0, "train", id="made/train/0#audio-0", kind="audio", weight=0.25),
        row(0, "test", id="made/test/0#audio-0", kind="audio"),
    ]
    features, _ = from_store(store(tmp_path / "store", rows() + variants), ALL, SETTINGS)
    assert features.splits["train"].weights.tolist() == [1, 1, 1, 1, 0.25]
    assert len(features.splits["test"]) == 2


def test_a_clip_may_lack_sound_picture_or_words(tmp_path: Path) -> None:
    lacking = [row(9, "train", audio=None), row(10, "train", video=None), row(11, "train", text="...")]
    features, failures = from_store(store(tmp_path / "store", rows() + lacking), ALL, SETTINGS)
    assert failures == []
    masks = {name: found.mask.any(1) for name, found in features.splits["train"].features.items()}
    assert masks["audio"].tolist() == [True] * 4 + [False, True, True]
    assert masks["video"].tolist() == [True] * 4 + [True, False, True]
    assert masks["text"].tolist() == [True] * 4 + [True, True, False]


def test_a_row_that_cannot_be_read_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    broken = row(9, "train", audio=held(b"no sound"))
    features, failures = from_store(store(tmp_path / "store", [*rows(), broken]), ALL, SETTINGS)
    assert len(features.splits["train"]) == 4
    assert [failure["id"] for failure in failures] == ["made/train/9"]
    assert failures[0]["error"] == "MediaError"
    assert failures[0]["message"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": None}, WeightError, "made/train/9: no weight"),
        ({"weight": -1.0}, WeightError, "made/train/9: the weight -1"),
        ({"label": None}, FeatureError, "made/train/9 has the label nan"),
        ({"label": 7.0}, FeatureError, "made/train/9 has the label 7.0; the scale mosi goes from -3 to 3"),
        ({"label_audio": 7.0}, FeatureError, "audio: made/train/9 has the label 7.0; the scale mosi"),
        ({"scale": "sims"}, RunError, "scales are 8 of mosi .*; 1 of sims"),
    ],
)
def test_names_a_row_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_store(store(tmp_path / "store", [*rows(), row(9, "train", **changes)]), ALL, SETTINGS)


def test_a_store_whose_training_rows_all_weigh_0_is_refused(tmp_path: Path) -> None:
    weightless = [made | {"weight": 0.0} for made in rows()]
    with pytest.raises(WeightError, match=r"/store: all 4 training rows have the weight 0, so nothing"):
        from_store(store(tmp_path / "store", weightless), ALL, SETTINGS)


def test_names_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="valid: no clip in it"):
        from_store(store(tmp_path / "store", [row(0, "train"), row(0, "test")]), ALL, SETTINGS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Modality and row of each question to an encoder."""
    found: list[tuple[str, str]] = []

    def load(modalities: tuple[str, ...], settings: ExtractSettings) -> dict[str, Encoder]:
        return {
            name: _listening(name, encoder, found)
            for name, encoder in load_encoders(modalities, settings).items()
        }

    monkeypatch.setattr(extract, "load_encoders", load)
    return found


def _listening(name: str, encoder: Encoder, found: list[tuple[str, str]]) -> Encoder:
    def encode(row: dict[str, Any]) -> np.ndarray | None:
        found.append((name, row["id"]))
        return encoder.encode(row)

    return Encoder(encode, encoder.origin)


def test_features_are_made_once_and_kept_with_the_failures(
    tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    broken = row(9, "train", audio=held(b"no sound"))
    data, cache = store(tmp_path / "store", [*rows(), broken]), tmp_path / "cache"
    first, failed = from_store(data, ALL, SETTINGS, cache=cache)
    assert asked
    asked.clear()
    again, failed_again = from_store(data, ALL, SETTINGS, cache=cache)
    assert not asked
    assert failed == failed_again
    assert [failure["id"] for failure in failed] == ["made/train/9"]
    assert_equal(again, first)
    assert_equal(from_store(data, ALL, SETTINGS)[0], first)  # as without a cache
    assert len(list(cache.iterdir())) == 1


def test_features_of_other_settings_or_rows_are_made_anew(
    tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    data, cache = store(tmp_path / "store", rows()), tmp_path / "cache"
    from_store(data, ALL, SETTINGS, cache=cache)
    same = replace(SETTINGS, device="cpu", batch_size=1)  # these change no feature
    asked.clear()
    from_store(data, ("video", "text", "audio"), same, cache=cache)
    assert not asked
    other = tiny.store(tmp_path / "other", [tiny.row(n, split) for n in range(2) for split in SPLITS])
    for source, modalities, settings in (
        (data, ("text",), SETTINGS),
        (data, ALL, replace(SETTINGS, mel_bands=10)),
        (other, ALL, SETTINGS),
    ):
        asked.clear()
        from_store(source, modalities, settings, cache=cache)
        assert asked


def test_another_model_in_the_same_folder_is_another_encoder(
    tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    data, cache = store(tmp_path / "store", rows()), tmp_path / "cache"
    settings = replace(SETTINGS, text=str(tiny_encoders.text(tmp_path / "model")), device="cpu")
    first, _ = from_store(data, ("text",), settings, cache=cache)
    tiny_encoders.text(tmp_path / "model", "deberta")
    asked.clear()
    second, _ = from_store(data, ("text",), settings, cache=cache)
    assert asked
    assert not np.array_equal(first.standards["text"].mean, second.standards["text"].mean)


def test_what_a_variant_shares_with_its_original_is_encoded_once(
    tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    variant = row(
        0, "train", id="made/train/0#audio-0", kind="audio", audio=held(media.encode_audio(tone(999)))
    )
    features, _ = from_store(store(tmp_path / "store", [*rows(), variant]), ALL, SETTINGS)
    assert [name for name, row_id in asked if row_id == variant["id"]] == ["audio"]
    video = features.splits["train"].features["video"].values
    assert np.array_equal(video[0], video[-1])


def test_states_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = tiny_encoders.audio(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["encoder.layers.1.final_layer_norm.bias"][3] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    settings = ExtractSettings(audio=str(model), audio_fps=4.0, device="cpu")
    features, _ = from_store(store(tmp_path / "store", rows()), ("audio",), settings)
    steps = sum(split.features["audio"].mask.sum() for split in features.splits.values())
    assert features.not_finite["audio"] == {"nan": steps, "+inf": 0, "-inf": 0}
    assert all(np.isfinite(split.features["audio"].values).all() for split in features.splits.values())


def test_the_command_makes_a_file_that_a_run_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = row(9, "train", audio=held(b"no sound"))
    data, out = store(tmp_path / "store", [*rows(), broken]), tmp_path / "features.safetensors"
    named = ["--data", str(data), "--out", str(out), "--fusion.extract.mel_bands", "12"]
    extract.main(named)
    assert f"{out}: features of 8 rows, 1 rows failed" in capsys.readouterr().out
    found, failures = from_file(out, ALL)
    assert_equal(found, from_store(data, ALL, ExtractSettings(mel_bands=12))[0])
    assert [failure["id"] for failure in failures] == ["made/train/9"]
    with pytest.raises(RunError, match="1 rows failed, --max-failures is 0"):
        extract.main([*named, "--max-failures", "0", "--overwrite"])
    with pytest.raises(UsageError, match=f"--out: {out} exists; --overwrite replaces it"):
        extract.main(named)
    with pytest.raises(UsageError, match="found the suffix ''; it takes the path of a file"):
        extract.main(["--data", str(data), "--out", str(tmp_path / "folder")])


def test_of_two_processes_the_second_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = store(tmp_path / "store", rows()), tmp_path / "cache"
    with ThreadPoolExecutor() as pool:
        monkeypatch.setattr(extract, "share", lambda: Share(1, 2))
        waiting = pool.submit(from_store, data, ALL, SETTINGS, None, cache)
        time.sleep(0.3)
        assert not waiting.done()
        monkeypatch.setattr(extract, "share", lambda: Share(0, 2))
        first, _ = from_store(data, ALL, SETTINGS, cache=cache)
        assert_equal(waiting.result(timeout=20)[0], first)


@pytest.mark.parametrize("spoil", [lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda _: b""])
def test_damaged_features_are_extracted_again(
    spoil: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, cache = store(tmp_path / "store", rows()), tmp_path / "cache"
    from_store(data, ALL, SETTINGS, cache=cache)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    capsys.readouterr()
    from_store(data, ALL, SETTINGS, cache=cache)
    assert path.read_bytes() == whole
    assert capsys.readouterr().out.startswith(f"fusion: {path}: ")


def test_words_spelled_alike_are_near_and_others_far() -> None:
    happy, happily, table = (word_vector(word, 2048) for word in ("happy", "happily", "table"))
    assert np.linalg.norm(happy) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(happy, word_vector("happy", 2048))
    assert happy @ happily > happy @ table + 0.1
    assert abs(happy @ table) < 0.1


def test_words_are_runs_of_letters_or_single_cjk_characters() -> None:
    assert WORD.findall("i don't like_it, 2 bad") == ["i", "don't", "like", "it", "2", "bad"]
    assert WORD.findall("我很高兴ok") == ["我", "很", "高", "兴", "ok"]


def test_a_tone_is_loudest_in_its_band() -> None:
    low, high = spectra(tone(200), 24, 25.0), spectra(tone(3000), 24, 25.0)
    assert low.shape == (13, 24)
    assert low[6].argmax() < high[6].argmax()
    assert np.isfinite(spectra(np.zeros(10, dtype=np.float32), 24, 25.0)).all()


def test_edges_tell_directions_and_not_brightness() -> None:
    upright, lying = (oriented_edges(stripes(vertical=vertical), 16, 4) for vertical in (True, False))
    assert upright.shape == (4, 7 * 16)
    directions = [found[0].reshape(7, 16)[:6].sum(1) for found in (upright, lying)]
    assert directions[0].argmax() == 0  # across: the gradient of upright stripes
    assert directions[1].argmax() == 3  # a quarter turn on
    dim = oriented_edges(stripes(vertical=True, brightness=100), 16, 4)
    np.testing.assert_allclose(dim[:, :96], upright[:, :96], rtol=1e-3, atol=1e-4)
    assert np.isfinite(oriented_edges(np.zeros((2, 20, 30, 3), dtype=np.uint8), 16, 4)).all()


def test_padding_puts_sequences_in_front() -> None:
    found = padded([np.ones((2, 3)), None, np.ones((4, 3))])
    assert found.values.shape == (3, 4, 3)
    assert found.mask.sum(1).tolist() == [2, 0, 4]
    assert torch.equal(torch.from_numpy(found.values.any(-1)), torch.from_numpy(found.mask))
