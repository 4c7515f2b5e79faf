"""Feature files: layouts, lengths, what is not finite, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.fusion.features import convert
from finetune.fusion.features.arrays import FeatureError
from finetune.fusion.features.mmsa_pickle import from_pickle
from tests.finetune.fusion.made import mmsa_content, write

ALL = ("text", "audio", "video")


@pytest.mark.parametrize("aligned", [False, True])
def test_reads_the_layouts_of_mmsa(tmp_path: Path, aligned: bool) -> None:
    content = mmsa_content(aligned=aligned)
    features = from_pickle(write(tmp_path / "features.pkl", content), ALL)
    assert features.scale == "mosi"
    for name, split in features.splits.items():
        raw = content[name]
        assert split.ids == raw["id"]
        assert np.array_equal(split.labels, raw["regression_labels"])
        assert np.array_equal(split.features["audio"].values, raw["audio"])
        assert np.array_equal(split.features["text"].mask, raw["text_bert"][:, 1] > 0)
        lengths = raw["text_bert"][:, 1].sum(1) if aligned else np.array(raw["vision_lengths"])
        assert np.array_equal(split.features["video"].mask.sum(1), lengths)
        assert split.weights.tolist() == [1.0] * len(split)


def test_reads_unimodal_labels_and_takes_their_scale(tmp_path: Path) -> None:
    content = mmsa_content()
    for arrays in content.values():
        arrays["regression_labels"] = arrays["regression_labels"] / 3
        arrays["regression_labels_A"] = arrays["regression_labels"] * 0.5
    features = from_pickle(write(tmp_path / "features.pkl", content), ALL)
    assert features.scale == "sims"
    valid = features.splits["valid"]
    assert np.allclose(valid.unimodal["audio"], valid.labels * 0.5)
    assert np.isnan(valid.unimodal["text"]).all()


def test_reads_the_older_layout(tmp_path: Path) -> None:
    """Labels (n, 1, 1), ids as triples of bytes, no lengths, and padding in front."""
    content: dict[str, Any] = {}
    for split, arrays in mmsa_content(aligned=True).items():
        count = len(arrays["id"])
        content[split] = {key: arrays[key][:, ::-1].copy() for key in ("text", "audio", "vision")}
        content[split]["labels"] = arrays["regression_labels"].reshape(count, 1, 1)
        content[split]["id"] = np.array([[b"abc", b"0.5", b"1.5"]] * count)
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    train = from_pickle(path, ALL).splits["train"]
    assert train.ids[0] == "abc/0.5/1.5"
    assert train.labels.shape == (40,)
    assert not train.features["audio"].mask.all()
    assert train.features["audio"].mask[:, -1].all()


def test_counts_what_is_not_finite_and_puts_the_training_mean_there(tmp_path: Path) -> None:
    content = mmsa_content()
    content["train"]["audio"][0, 0, 1] = -np.inf
    content["train"]["audio"][1, 0, 1] = np.nan
    content["test"]["audio"][2, 1, 0] = np.inf
    features = from_pickle(write(tmp_path / "features.pkl", content), ALL)
    assert features.not_finite["audio"] == {"nan": 1, "+inf": 1, "-inf": 1}
    assert features.not_finite["text"] == {"nan": 0, "+inf": 0, "-inf": 0}
    mean = features.standards["audio"].mean
    assert np.isfinite(mean).all()
    assert features.splits["train"].features["audio"].values[0, 0, 1] == mean[1]
    assert features.splits["test"].features["audio"].values[2, 1, 0] == mean[0]


def test_standards_are_those_of_shown_training_frames_alone(tmp_path: Path) -> None:
    content = mmsa_content()
    before = from_pickle(write(tmp_path / "a.pkl", content), ALL).standards["audio"]
    hidden = np.arange(14) >= np.array(content["train"]["audio_lengths"])[:, None]
    shown = content["train"]["audio"][~hidden]
    np.testing.assert_allclose(before.mean, shown.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(before.deviation, shown.std(0), rtol=1e-4)
    content["train"]["audio"][hidden] = 1e6
    content["test"]["audio"] += 100
    after = from_pickle(write(tmp_path / "b.pkl", content), ALL).standards["audio"]
    assert np.array_equal(before.mean, after.mean)
    assert np.array_equal(before.deviation, after.deviation)


def test_a_dimension_that_stands_still_has_the_deviation_1(tmp_path: Path) -> None:
    content = mmsa_content()
    content["train"]["vision"][..., 2] = 0.1
    features = from_pickle(write(tmp_path / "features.pkl", content), ALL)
    assert features.standards["video"].deviation[2] == 1


def broken(**changes: Any) -> dict[str, dict[str, Any]]:
    content = mmsa_content()
    for key, value in changes.items():
        if value is None:
            del content["valid"][key]
        else:
            content["valid"][key] = value
    return content


REFUSED: dict[str, tuple[Any, str]] = {
    "no splits": ([1, 2], r"found a list of 2; expected a dict with the splits train, valid, test"),
    "a split missing": ({"train": {}}, r"found a dict of train; expected a dict with the splits"),
    "no labels": (broken(regression_labels=None), r"valid: neither regression_labels nor labels"),
    "no audio": (
        broken(audio=None),
        r"valid: no 'audio' in it; found .*; leave audio out of fusion[.]modalities",
    ),
    "a flat array": (
        broken(vision=np.zeros((12, 4))),
        r"vision has the shape \(12, 4\); expected \(12 clips",
    ),
    "lengths too long": (
        broken(audio_lengths=[99] * 12),
        r"audio_lengths does not fit 12 clips of at most 14",
    ),
    "words for numbers": (broken(audio=np.array([["a"]])), r"valid: audio: not an array of numbers"),
    "too few ids": (broken(id=["a"]), r"valid: 1 ids and 12 labels"),
    "a number for ids": (broken(id=5), r"valid: id is a int; expected a list of one per clip"),
    "an array without sides for ids": (broken(id=np.array(5)), r"valid: id is a \w+; expected a list"),
    "one long text among many values": (
        broken(audio=[[["a" * 10**6, *range(10**6)]]]),
        r"valid: audio: not an array of numbers \(could not convert string to float",
    ),
    "lists that are no rectangle": (broken(text_bert=[[1], [1, 2]]), r"text_bert: not an array of numbers"),
    "keys that are no text": ({**broken(), "valid": {1: 2}}, r"valid: neither .*; found 1$"),
    "very many keys": (dict.fromkeys(range(1000)), r"found a dict of 0, .*, 19 and 980 more; expected"),
    "an array without sides": (np.array(5.0), r"found a \w+; expected a dict with the splits"),
    "no label": (
        broken(regression_labels=np.full(12, np.nan)),
        r"video0\$_\$0 has the label nan; the scale mosi",
    ),
    "a unimodal label off the scale": (
        broken(regression_labels_T=np.array([np.nan, 9.0] * 6)),
        r"valid: unimodal labels, text: video0\$_\$1 has the label 9[.]0; the scale mosi goes from -3",
    ),
    "an infinite unimodal label": (
        broken(regression_labels_A=np.full(12, np.inf)),
        r"valid: unimodal labels, audio: video0\$_\$0 has the label inf; the scale mosi",
    ),
    "a wrong scale": (
        broken(regression_labels=np.full(12, 5.0)),
        r"has the label 5[.]0; the scale mosi goes from -3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_names_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(FeatureError, match=message):
        from_pickle(write(tmp_path / "features.pkl", content), ALL)


def test_half_a_character_in_an_id_is_written_out(tmp_path: Path) -> None:
    content = mmsa_content()
    content["train"]["id"][0] = "half \ud800"
    path = write(tmp_path / "features.pkl", content)
    assert from_pickle(path, ALL).splits["train"].ids[0] == r"half \ud800"
    convert.main([str(path), "--out", str(tmp_path / "features.safetensors")])


def test_a_modality_that_is_not_asked_for_may_be_missing(tmp_path: Path) -> None:
    features = from_pickle(write(tmp_path / "features.pkl", broken(audio=None)), ("text", "video"))
    assert list(features.standards) == ["text", "video"]


def test_a_real_pickle_of_another_layout_is_named(shared: Path) -> None:
    with pytest.raises(FeatureError, match="found a tuple of 7; expected a dict with the splits"):
        from_pickle(shared / "labels" / "mosi" / "features_audio.pickle", ALL)


def test_names_a_modality_that_says_nothing(tmp_path: Path) -> None:
    content = mmsa_content()
    content["train"]["audio"][:] = np.nan
    with pytest.raises(
        FeatureError, match=r"audio: [0-9]+ frames without a finite value in the training split"
    ):
        from_pickle(write(tmp_path / "features.pkl", content), ALL)


def test_splits_of_unlike_width_are_refused(shared: Path, tmp_path: Path) -> None:
    path = shared / "cases" / "widths_differ.pkl"
    message = r"widths_differ\.pkl: test: audio has 4 columns, and that of train has 5"
    with pytest.raises(FeatureError, match=message):
        from_pickle(path, ("text", "audio", "video"))
    with pytest.raises(FeatureError, match=message):
        convert.main([str(path), "--out", str(tmp_path / "features.safetensors")])
    assert not (tmp_path / "features.safetensors").exists()
