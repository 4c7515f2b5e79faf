"""Features of a store: what a word, a sound and a frame become, which rows are taken, and what fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune.fusion.extract import WORD, from_store, oriented_edges, padded, spectra, word_vector
from finetune.fusion.features import FeatureError
from finetune.fusion.settings import ExtractSettings
from finetune.objective import WeightError
from pipelines import media
from pipelines.sample import media as held
from pipelines.sample import new_row
from pipelines.store import commit

SETTINGS = ExtractSettings(word_dimensions=16, mel_bands=12, frame_px=16, cells=4)
ALL = ("text", "audio", "video")
RATE = 16_000


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def stripes(*, vertical: bool, brightness: int = 200) -> np.ndarray:
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    frame[:, (np.arange(32) // 4) % 2 == 0] = brightness
    return np.stack([frame if vertical else frame.transpose(1, 0, 2)] * 4)


def row(number: int, split: str, **changes: Any) -> dict[str, Any]:
    values = {
        "id": f"made/{split}/{number}",
        "source_id": f"made/{split}/{number}",
        "kind": "original",
        "split": split,
        "group": split,
        "video": held(media.encode_video(stripes(vertical=number % 2 == 0), 8.0)),
        "audio": held(media.encode_audio(tone(200 + 100 * number))),
        "text": "a good day" if number % 2 else "bad",
        "label": float(number % 3) - 1,
        "label_audio": 0.5,
        "corpus": "made",
        "scale": "mosi",
        "language": "en",
        "duration_s": 0.5,
        "fps": 8.0,
    }
    return new_row(**(values | changes))


def store(path: Path, rows: list[dict[str, Any]]) -> Path:
    settings = {"title": "made", "description": "made", "versions": {}, "stage": "test", "command": ""}
    commit(path, rows, generation="0" * 64, settings=settings)
    return path


def rows() -> list[dict[str, Any]]:
    counts = {"train": 4, "valid": 2, "test": 2}
    return [row(number, split) for split, count in counts.items() for number in range(count)]


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
        ({"scale": "sims"}, FeatureError, "rows have the scales mosi, sims; wants one, or fusion.scale"),
    ],
)
def test_names_a_row_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace(".", "[.]")):
        from_store(store(tmp_path / "store", [*rows(), row(9, "train", **changes)]), ALL, SETTINGS)


def test_names_an_empty_split(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="valid: no clip in it"):
        from_store(store(tmp_path / "store", [row(0, "train"), row(0, "test")]), ALL, SETTINGS)


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
