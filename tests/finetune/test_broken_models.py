"""Models, settings and disks that are broken, and outputs that would destroy something: one line each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune import evaluation, merging, prediction
from finetune.__main__ import main
from pipelines.durable.checkpoints import read_json_object
from pipelines.errors import RunError, UsageError
from tests import tiny
from tests.damage import files_limited_to

Command = Callable[[Path], None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(4)] + [tiny.row(n, "test") for n in range(2)]
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


def command(store: Path, thinker: Path, out: Path, **settings: Any) -> list[str]:
    chosen = {"model": thinker, "epochs": 2, "batch_size": 2, "lora_rank": 2, "save_every": 2} | settings
    options = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(out), *options]


@pytest.fixture(scope="module")
def trained(store: Path, tiny_thinker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    main(command(store, tiny_thinker, out))
    return out


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


@pytest.fixture(params=["evaluate", "predict", "merge"])
def use(request: pytest.FixtureRequest, store: Path, tmp_path: Path) -> Command:
    """What reads a model's folder."""
    commands: dict[str, Command] = {
        "evaluate": lambda model: evaluation.main(["--model", str(model), "--data", str(store)]),
        "predict": lambda model: prediction.main(["--model", str(model), "--text", "a good film"]),
        "merge": lambda model: merging.main(["--model", str(model), "--out", str(tmp_path / "merged")]),
    }
    return commands[request.param]


def unvouched(model: Path) -> None:
    """Make `model.json` one of an earlier version, which says nothing about other files."""
    record = read_json_object(model / "model.json")
    del record["files"]
    (model / "model.json").write_text(json.dumps(record))


def record_of(content: bytes) -> Command:
    def write(model: Path) -> None:
        (model / "model.json").write_bytes(content)

    return write


def record_with(**changes: Any) -> Command:
    def change(model: Path) -> None:
        record = read_json_object(model / "model.json") | changes
        (model / "model.json").write_text(json.dumps(record))

    return change


def adapter_with(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Command:
    def write(model: Path) -> None:
        unvouched(model)
        path = model / "adapter_model.safetensors"
        save_file(change(load_file(path)), path)

    return write


def cut(model: Path) -> None:
    unvouched(model)
    path = model / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def head_of_another_model(model: Path) -> None:
    unvouched(model)
    save_file({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, model / "head.safetensors")


BREAKAGES: dict[str, tuple[Command, str]] = {
    "no json": (record_of(b"{"), r"model\.json is broken"),
    "no utf-8": (record_of(b"\xff{}"), r"model\.json is broken"),
    "nested": (record_of(b"[" * 100_000), r"model\.json is broken"),
    "a list": (record_of(b"[]"), r"it is no JSON object"),
    "no settings": (record_of(b"{}"), r"lacks config, scale, seed"),
    "strange scale": (record_with(scale="metres"), r"has the scale 'metres'"),
    "strange setting": (record_with(config={"tempo": 3}), r"has settings that this version does not know"),
    "cut adapter": (cut, r"adapter_model\.safetensors: is missing or broken"),
    "other names": (
        adapter_with(lambda tensors: {f"x{name}": value for name, value in tensors.items()}),
        r"adapter_model\.safetensors: is no adapter of this model: \d+ tensors are missing",
    ),
    "other shapes": (
        adapter_with(lambda tensors: {name: torch.zeros(3, 5) for name in tensors}),
        r"is no adapter of this model: .* has the shape \(3, 5\) in the file and \(",
    ),
    "another head": (head_of_another_model, r"head\.safetensors: is no head of this model: .* \(1, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_model_is_one_line(model: Path, use: Command, breakage: str) -> None:
    breaks, said = BREAKAGES[breakage]
    breaks(model)
    with pytest.raises((RunError, UsageError), match=said) as refused:
        use(model)
    assert "\n" not in str(refused.value)


def without(name: str) -> Command:
    return lambda base: (base / name).unlink()


def halved(name: str) -> Command:
    return lambda base: (base / name).write_bytes((base / name).read_bytes()[:200])


BASES: dict[str, tuple[Command, str]] = {
    "cut weights": (halved("model.safetensors"), r"cannot be loaded \(.*deserializing header"),
    "no weights": (without("model.safetensors"), r"cannot be loaded \("),
    "cut tokenizer": (halved("tokenizer.json"), r"cannot be loaded \("),
    "cut settings of the tokenizer": (halved("tokenizer_config.json"), r"cannot be loaded \("),
    "no settings of the tokenizer": (without("tokenizer_config.json"), r"cannot be loaded \("),
    "no tokenizer": (without("tokenizer.json"), r"has a tokenizer in which <\|IMAGE\|> has the id \d+, and"),
    "cut settings of the model": (halved("config.json"), r"cannot be loaded \("),
}


@pytest.mark.parametrize("breakage", BASES)
def test_a_broken_base_model_is_one_line(
    store: Path, tiny_thinker: Path, tmp_path: Path, breakage: str
) -> None:
    breaks, said = BASES[breakage]
    base = Path(shutil.copytree(tiny_thinker, tmp_path / "base"))
    breaks(base)
    with pytest.raises(UsageError, match=f"^finetune.model: '.*base' {said}") as refused:
        main(command(store, base, tmp_path / "out"))
    assert "\n" not in str(refused.value)


def test_results_of_other_rows_are_kept(
    model: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.store(tmp_path / "other", [tiny.row(n, "test") for n in range(5, 8)])
    before = [(model / name).read_bytes() for name in ("metrics.json", "predictions.parquet")]
    evaluate = ["--model", str(model), "--data", str(other)]
    with pytest.raises(UsageError, match=r"predictions.parquet holds ratings of other rows.*--overwrite"):
        evaluation.main(evaluate)
    evaluation.main([*evaluate, "--out", str(tmp_path / "rated")])
    evaluation.main([*evaluate, "--out", str(tmp_path / "rated")])  # the same rows again
    assert [(model / name).read_bytes() for name in ("metrics.json", "predictions.parquet")] == before
    evaluation.main([*evaluate, "--overwrite"])
    assert (model / "predictions.parquet").read_bytes() != before[1]
    rated = json.loads((tmp_path / "rated" / "metrics.json").read_text())
    assert json.loads((model / "metrics.json").read_text())["test"]["after"] == rated["test"]["after"]
    (model / "predictions.parquet").unlink()
    with pytest.raises(UsageError, match=r"has metrics of the split test, and no predictions.parquet says"):
        evaluation.main(evaluate)


def test_metrics_of_another_shape_are_replaced_if_asked_for(model: Path, store: Path) -> None:
    evaluate = ["--model", str(model), "--data", str(store)]
    (model / "metrics.json").write_text('{"test": []}')
    with pytest.raises(UsageError, match=r"metrics.json has something else than metrics by split; --overwr"):
        evaluation.main(evaluate)
    evaluation.main([*evaluate, "--overwrite"])
    assert json.loads((model / "metrics.json").read_text())["test"]["after"]["rows"] == 2


@pytest.mark.parametrize("spelling", ["", ".", "../model"])
def test_a_model_vouches_for_what_evaluate_wrote(
    model: Path, store: Path, tiny_thinker: Path, capsys: pytest.CaptureFixture[str], spelling: str
) -> None:
    out = ["--out", f"{model}/{spelling}"] if spelling else []
    evaluation.main(["--model", str(model), "--data", str(store), "--split", "train", "--overwrite", *out])
    main(command(store, tiny_thinker, model))
    assert "nothing is left to do" in capsys.readouterr().out
    assert set(json.loads((model / "metrics.json").read_text())) == {"test", "train"}


def test_a_folder_with_files_of_others_is_refused(
    model: Path, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name in ("README.md", "metrics.json", "checkpoints/checkpoint-3/model.bin"):
        shutil.rmtree(out, ignore_errors=True)
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")
        with pytest.raises(UsageError, match=f"holds a {name.split('/')[0]} that no run wrote; --overwrite"):
            main(command(store, tiny_thinker, out))
        assert (out / name).read_text() == "mine"
    (out / "run_config.json").write_text("{")  # so it was a run, of which a file is broken
    main(command(store, tiny_thinker, out))
    assert not (out / name).exists()


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_replace_only_what_they_are_told_to(
    model: Path,
    store: Path,
    tiny_thinker: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    finished: bool,
) -> None:
    (model / "notes.txt").write_text("mine")
    if not finished:
        (model / "model.json").unlink()
    held = "a finished model" if finished else "a training with checkpoint-4"
    other = command(store, tiny_thinker, model, learning_rate=0.5)
    with pytest.raises(
        UsageError, match=rf"holds {held} with other settings \(learning_rate was .*--overwrite"
    ):
        main(other)
    main([*other, "--overwrite"])
    assert f"finetune: replaces {held} in {model}" in capsys.readouterr().out
    main(command(store, tiny_thinker, tmp_path / "fresh", learning_rate=0.5))
    for name in ("adapter_model.safetensors", "head.safetensors", "metrics.json"):
        assert (model / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert (model / "notes.txt").read_text() == "mine"


def test_a_model_alone_is_not_replaced_by_other_settings(
    model: Path, store: Path, tiny_thinker: Path
) -> None:
    """Its checkpoints and run_config.json were not kept."""
    shutil.rmtree(model / "checkpoints")
    (model / "run_config.json").unlink()
    with pytest.raises(UsageError, match=r"holds a finished model with other settings \(learning_rate was"):
        main(command(store, tiny_thinker, model, learning_rate=0.5))


def test_outputs_in_wrong_places_are_refused(
    model: Path, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    evaluate = ["--model", str(model), "--data", str(store), "--out"]
    for out, said in (
        (file, "is a file"),
        (file / "below", "is a file"),
        (store / "out", "is inside --data"),
    ):
        with pytest.raises(UsageError, match=f"^--out: .* {said}"):
            main(command(store, tiny_thinker, out))
        with pytest.raises(UsageError, match=f"^--out: .* {said}"):
            evaluation.main([*evaluate, str(out)])
    with pytest.raises(UsageError, match=r"^--out: .* is inside --model"):
        merging.main(["--model", str(model), "--out", str(model / "merged")])
    with pytest.raises(UsageError, match=r"^--out: .* is a file"):
        merging.main(["--model", str(model), "--out", str(file)])


def test_a_full_disk_ends_the_run_and_the_command_goes_on(
    store: Path, tiny_thinker: Path, trained: Path, tmp_path: Path
) -> None:
    """It fills up when the checkpoint is written."""
    arguments = command(store, tiny_thinker, tmp_path / "out")
    said = r"cannot be written \(.*; the same command then goes on$"
    with pytest.raises(RunError, match=said) as ended, files_limited_to(3_000):
        main(arguments)
    assert "\n" not in str(ended.value)
    main(arguments)
    for name in ("adapter_model.safetensors", "head.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (trained / name).read_bytes()


def test_a_full_disk_leaves_no_half_merged_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"merged: cannot be written \("), files_limited_to(10_000):
        merging.main(["--model", str(model), "--out", str(tmp_path / "merged")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_files_have_the_users_permissions(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        main(command(store, tiny_thinker, tmp_path / "model"))
        merging.main(["--model", str(tmp_path / "model"), "--out", str(tmp_path / "merged")])
    finally:
        os.umask(mask)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path
