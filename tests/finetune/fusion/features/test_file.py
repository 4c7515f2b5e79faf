"""Feature files: what they keep of a pickle, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from finetune.fusion.features import convert
from finetune.fusion.features.arrays import FeatureError
from finetune.fusion.features.file import METADATA_KEY, from_file, read
from finetune.fusion.features.mmsa_pickle import from_pickle
from finetune.objective import WeightError
from pipelines.errors import UsageError
from pipelines.running.machine_faults import MachineFault
from tests.finetune.fusion.made import assert_equal, mmsa_content, write

ALL = ("text", "audio", "video")


def converted(folder: Path, content: Any, *more: str) -> Path:
    out = folder / "features.safetensors"
    convert.main([str(write(folder / "features.pkl", content)), "--out", str(out), "--overwrite", *more])
    return out


def content_with_oddities(*, aligned: bool, older: bool) -> dict[str, dict[str, Any]]:
    """float64 arrays, values that are not finite, unimodal labels; in the older layout padding in front."""
    content = mmsa_content(aligned=aligned)
    for arrays in content.values():
        arrays["audio"] = arrays["audio"].astype(np.float64) / 3
        arrays["audio"][1, 0, 1] = np.nan
        arrays["vision"][0, 0, 2] = -np.inf
        arrays["regression_labels"] = arrays["regression_labels"].astype(np.float64) / 3
        arrays["regression_labels_V"] = arrays["regression_labels"] * 0.5
        if older:
            for key in ("text", "audio", "vision"):
                arrays[key] = arrays[key][:, ::-1].copy()
            for key in ("text_bert", "audio_lengths", "vision_lengths"):
                arrays.pop(key, None)
            arrays["labels"] = arrays.pop("regression_labels").reshape(-1, 1, 1)
    return content


@pytest.mark.parametrize("modalities", [ALL, ("text",), ("video", "text")])
@pytest.mark.parametrize(("aligned", "older"), [(False, False), (True, False), (True, True)])
def test_a_converted_pickle_gives_the_same_features(
    tmp_path: Path, aligned: bool, older: bool, modalities: tuple[str, ...]
) -> None:
    out = converted(tmp_path, content_with_oddities(aligned=aligned, older=older))
    found, failures = from_file(out, modalities)
    assert failures == []
    assert found.scale == "sims"
    assert_equal(found, from_pickle(tmp_path / "features.pkl", modalities))


def test_arrays_keep_their_types_and_values(tmp_path: Path) -> None:
    content = content_with_oddities(aligned=False, older=False)
    content["train"]["vision"] = np.round(content["train"]["vision"][1:].repeat(2, 0)[:40]).astype(">i8")
    found = load_file(converted(tmp_path, content))
    for key, name in (("text", "text"), ("audio", "audio"), ("vision", "video")):
        values, wanted = found[f"train/{name}/values"], content["train"][key]
        assert values.dtype == wanted.dtype.newbyteorder("=")
        assert np.array_equal(values, wanted, equal_nan=values.dtype.kind == "f")
    assert np.array_equal(found["test/labels"], content["test"]["regression_labels"])


def test_says_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = mmsa_content()
    content["test"]["audio"][0, 0, 0] = np.nan
    told, _ = read(converted(tmp_path, content), ALL)
    source = (tmp_path / "features.pkl").read_bytes()
    assert told["about"]["source"] == {
        "file": "features.pkl",
        "sha256": hashlib.sha256(source).hexdigest(),
    }
    assert "numpy" in told["about"]["versions"]
    assert told["not_finite"]["audio"] == {"nan": 1, "+inf": 0, "-inf": 0}
    assert told["scale"] == "mosi"
    printed = capsys.readouterr().out
    assert "40 train, 12 valid, 12 test clips on the scale mosi" in printed
    assert "audio: 14 steps of 3 float32, 1 nan" in printed


def test_the_scale_does_not_hang_on_which_modalities_are_read(tmp_path: Path) -> None:
    content = content_with_oddities(aligned=False, older=False)  # labels of the picture alone
    assert from_pickle(write(tmp_path / "features.pkl", content), ("text",)).scale == "sims"


def test_takes_the_modalities_that_are_there(tmp_path: Path) -> None:
    content = mmsa_content()
    for arrays in content.values():
        del arrays["audio"]
    out = converted(tmp_path, content)
    assert list(from_file(out, ("text", "video"))[0].standards) == ["text", "video"]
    with pytest.raises(FeatureError, match="train: no audio in it; found text, video; leave audio out of"):
        from_file(out, ALL)


def test_a_given_scale_goes_before_the_file_s(tmp_path: Path) -> None:
    out = converted(tmp_path, content_with_oddities(aligned=False, older=False), "--scale", "mosi")
    assert from_file(out, ALL)[0].scale == "mosi"
    assert from_file(out, ALL, "sims")[0].scale == "sims"


def test_conversion_names_what_is_wrong_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="found a list of 1; expected a dict with the splits"):
        converted(tmp_path, [1])
    lacking = {split: {"id": [], "labels": []} for split in ("train", "valid", "test")}
    with pytest.raises(
        FeatureError, match="train: found id, labels; expected at least one of text, audio, vision"
    ):
        converted(tmp_path, lacking)
    content = mmsa_content()
    content["test"]["regression_labels"][3] = 9
    with pytest.raises(FeatureError, match=r"has the label 9[.]0; the scale mosi goes from -3"):
        converted(tmp_path, content)
    assert not (tmp_path / "features.safetensors").exists()
    with pytest.raises(UsageError, match=r"found the suffix '[.]bin'; it takes .* ends in [.]safetensors"):
        convert.main([str(tmp_path / "features.pkl"), "--out", str(tmp_path / "features.bin")])


def test_a_pickle_of_another_program_is_named(shared: Path, tmp_path: Path) -> None:
    source = shared / "labels" / "mosi" / "features_audio.pickle"
    with pytest.raises(
        FeatureError, match=r"features_audio.pickle: found a tuple of 7; expected a dict with"
    ):
        convert.convert(source, tmp_path / "features.safetensors")


def changed(path: Path, metadata: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """The file with other metadata and tensors, as an earlier version wrote it; None takes a tensor out."""
    with safe_open(path, framework="numpy") as file:
        told = json.loads(file.metadata()[METADATA_KEY])
    del told["checksums"], told["sha256"]
    found = load_file(path)
    for name, value in tensors.items():
        found.pop(name) if value is None else found.update({name: np.ascontiguousarray(value)})
    save_file(found, path, metadata={METADATA_KEY: json.dumps(told | (metadata or {}))})
    return path


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "a tensor missing": ({"valid/labels": None}, "no tensor valid/labels in it"),
    "a modality missing in one split": (
        {"test/audio/values": None},
        "test: no audio in it; found text, video",
    ),
    "a mask of another shape": (
        {"train/audio/mask": np.ones((40, 3), dtype=bool)},
        r"train/audio/mask is bool \(40, 3\); expected bool \(40, 14\)",
    ),
    "a mask of numbers": (
        {"train/audio/mask": np.ones((40, 14), dtype=np.float32)},
        r"train/audio/mask is float32 \(40, 14\); expected bool",
    ),
    "flat values": (
        {"train/video/values": np.ones((40, 4), dtype=np.float32)},
        r"train/video/values is float32 \(40, 4\); expected numbers \(40, any, any\)",
    ),
    "too few labels": (
        {"train/labels": np.ones(39, dtype=np.float32)},
        r"train/labels is float32 \(39,\); expected numbers \(40\)",
    ),
    "another version": ({"metadata": {"version": 7}}, "a feature file of version 7; this program reads 1"),
    "an unknown scale": (
        {"metadata": {"scale": "likert"}},
        "has the scale 'likert'; expected one of mosi, sims",
    ),
    "a version that is a list": (
        {"metadata": {"version": [7] * 999}},
        r"of version \[7, .*7, ; this program",
    ),
    "a scale that is a list": ({"metadata": {"scale": []}}, r"has the scale \[\]; expected one of"),
    "ids in a list": ({"metadata": {"ids": [1]}}, "train: found NoneType for ids; expected a list"),
    "no ids": ({"metadata": {"ids": {}}}, "train: found NoneType for ids; expected a list of strings"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_names_what_is_damaged(tmp_path: Path, name: str) -> None:
    changes, message = DAMAGED[name]
    with pytest.raises(FeatureError, match=message):
        from_file(changed(converted(tmp_path, mmsa_content()), **changes), ALL)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = converted(tmp_path, mmsa_content())
    whole = path.read_bytes()
    for at, message in (
        (len(whole) - 1, "damaged: .* has other content than was written"),
        (whole.index(b"video0"), "metadata is damaged"),
    ):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(FeatureError, match=message):
            from_file(path, ALL)
    path.write_bytes(whole)
    from_file(path, ALL)


def test_a_fault_of_the_machine_is_no_damage_of_a_file(tmp_path: Path) -> None:
    path = converted(tmp_path, mmsa_content())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    handle = os.open(path, os.O_RDONLY)  # the lowest number that is free, so all below it are taken
    resource.setrlimit(resource.RLIMIT_NOFILE, (handle + 1, most[1]))
    try:
        with pytest.raises(MachineFault, match=r"features[.]safetensors: cannot be read: .*ulimit -n"):
            read(path, ALL)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
        os.close(handle)


def test_refuses_weights_and_labels_that_cannot_be_used(tmp_path: Path) -> None:
    out = converted(tmp_path, mmsa_content())
    with pytest.raises(FeatureError, match=r"video0\$_\$0 has the label 5[.]0; the scale mosi"):
        from_file(changed(out, **{"train/labels": np.full(40, 5, dtype=np.float32)}), ALL)
    out = converted(tmp_path, mmsa_content())
    with pytest.raises(WeightError, match=r"video0\$_\$0: the weight -1"):
        from_file(changed(out, **{"train/weights": np.full(40, -1, dtype=np.float32)}), ALL)
    out = converted(tmp_path, mmsa_content())
    with pytest.raises(WeightError, match=r"features[.]safetensors: all 40 training rows have the weight 0"):
        from_file(changed(out, **{"train/weights": np.zeros(40, dtype=np.float32)}), ALL)


def test_names_files_that_are_no_feature_files(tmp_path: Path) -> None:
    path = converted(tmp_path, mmsa_content())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FeatureError, match=r"features[.]safetensors: not a whole safetensors file"):
        from_file(path, ALL)
    path.write_bytes(b"no tensors at all")
    with pytest.raises(FeatureError, match="not a whole safetensors file"):
        from_file(path, ALL)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(FeatureError, match="a safetensors file without daq_msa_features in its metadata"):
        from_file(path, ALL)
    save_file({"weight": np.zeros(3)}, path, metadata={METADATA_KEY: "[" * 100_000})
    with pytest.raises(FeatureError, match="daq_msa_features in its metadata is damaged"):
        from_file(path, ALL)
    save_file({"weight": np.zeros(3)}, path, metadata={METADATA_KEY: "{"})
    with pytest.raises(FeatureError, match="daq_msa_features in its metadata is damaged"):
        from_file(path, ALL)
    with pytest.raises(FeatureError, match=r"nowhere[.]safetensors: not a whole safetensors file"):
        from_file(tmp_path / "nowhere.safetensors", ALL)
