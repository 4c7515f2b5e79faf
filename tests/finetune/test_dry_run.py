"""What is told of a run before it runs."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from finetune.__main__ import main
from finetune.dry_run import NF4_BYTES, blank, step_bytes, weight_bytes
from finetune.inputs.batch import Budget, Encoded
from finetune.model.adapters import adapted
from finetune.model.loading import load_base
from finetune.settings import FinetuneConfig
from pipelines.errors import UsageError
from tests import tiny
from tests.tiny_families import BUILDERS

BUDGET = Budget(video_fps=10, max_frames=8, max_audio_s=2)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(3)] + [tiny.row(9, text=" ".join(tiny.TEXTS * 3))]
    rows += [tiny.row(n, split) for split in ("valid", "test") for n in range(2)]
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thinker of Qwen2.5-Omni's size, without weights, beside the processor of a tiny one."""
    from transformers import Qwen2_5OmniThinkerConfig

    directory = tiny.thinker(tmp_path_factory.mktemp("full_size"))
    small = json.loads((directory / "config.json").read_text())
    (directory / "model.safetensors").unlink()
    tokens = {key: value for key, value in small.items() if "token_" in key}
    # The checkpoint's vision tower is narrower than the class's default; patches and mel bins are the tiny
    # processor's.
    vision, audio = {"hidden_size": 1280, "patch_size": tiny.THINKER.patch_px}, {"num_mel_bins": 16}
    config = Qwen2_5OmniThinkerConfig(**tokens, vision_config=vision, audio_config=audio)
    config.save_pretrained(directory)
    return directory


def told(capsys: pytest.CaptureFixture[str], store: Path, model: Path, **settings: Any) -> dict[str, str]:
    given = [part for name, value in settings.items() for part in (f"--finetune.{name}", str(value))]
    main(["--dry-run", "--data", str(store), "--finetune.model", str(model), *given])
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def gib(lines: dict[str, str], name: str) -> float:
    return float(lines[f"memory{name}"].split()[0])


def test_it_tells_of_rows_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
    store: Path,
    tiny_thinker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = told(capsys, store, tiny_thinker, video_fps=10)
    assert lines["rows"] == "4 to train on, 2 of test to rate"
    assert re.search(r"median \d+, 95 % \d+, most \d+ \(tiny/train/9\)", lines["tokens of a row"])
    assert lines["frames of a row"] == "median 6, most 6"
    assert lines["seconds of audio of a row"] == "median 0.6, most 0.6"
    assert not list(tmp_path.iterdir())


def test_it_tells_how_many_rows_a_budget_shortens(
    capsys: pytest.CaptureFixture[str], store: Path, tiny_thinker: Path
) -> None:
    free = told(capsys, store, tiny_thinker, video_fps=10)["tokens of a row"]
    median, most = (int(number) for number in re.findall(r"(?:median|most) (\d+)", free))
    held = told(capsys, store, tiny_thinker, video_fps=10, max_tokens=median + 10)
    assert held[f"rows over {median + 10} tokens"].startswith("1, ")
    assert held["rows that cannot be brought under it"] == "1 (tiny/train/9)"
    assert most > median + 10
    roomy = told(capsys, store, tiny_thinker, video_fps=10, max_tokens=most)
    assert roomy[f"rows over {most} tokens"].startswith("0, ")


def test_it_refuses_a_best_by_that_a_run_refuses(
    capsys: pytest.CaptureFixture[str], store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    lines = told(capsys, store, tiny_thinker, best_by="MAE")
    assert lines["rows"] == "4 to train on, 2 of valid to rate, 2 of test to rate"
    told_what_it_takes = r"^finetune\.best_by: got Accuracy; for tiny on the scale mosi it takes"
    with pytest.raises(UsageError, match=told_what_it_takes):
        told(capsys, store, tiny_thinker, best_by="Accuracy")
    lacking = tiny.store(tmp_path, [tiny.row(0), tiny.row(0, "test")])
    with pytest.raises(UsageError, match=r"^finetune\.best_by: got MAE, which takes originals in .* valid"):
        told(capsys, lacking, tiny_thinker, best_by="MAE")


def test_parameters_are_those_of_the_loaded_model(tiny_thinker: Path) -> None:
    config = FinetuneConfig(model=str(tiny_thinker))
    loaded = load_base(str(tiny_thinker), None, dtype=torch.float32, max_pixels=None)
    models = [adapted(base, config, "mosi", seed=0) for base in (blank(config), loaded)]
    shapes = [{name: value.shape for name, value in model.named_parameters()} for model in models]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", list(BUILDERS))
def test_each_family_is_built_without_weights(tmp_path: Path, name: str) -> None:
    directory = BUILDERS[name](tmp_path)
    (directory / "model.safetensors").unlink()
    base = blank(FinetuneConfig(model=str(directory)))
    assert all(value.is_meta for value in base.thinker.parameters())


def test_a_model_of_full_size_is_told_about(
    capsys: pytest.CaptureFixture[str], store: Path, full_size: Path
) -> None:
    settings: dict[str, Any] = {"precision": "bfloat16", "lora_rank": 16}
    plain = told(capsys, store, full_size, **settings)
    billions = float(plain["parameters"].split()[0])
    assert 8 < billions < 9.5
    assert gib(plain, ", weights") == pytest.approx(billions * 2e9 / 2**30, rel=0.01)
    assert gib(plain, " in all, roughly") > gib(plain, ", weights")
    config = FinetuneConfig(model=str(full_size), quantize="nf4", **settings)
    quantised = weight_bytes(adapted(blank(config), config, "mosi", seed=0), config) / 2**30
    assert 0.25 < quantised / gib(plain, ", weights") < 0.55


def test_it_tells_what_processes_share_out(
    capsys: pytest.CaptureFixture[str], store: Path, full_size: Path
) -> None:
    """Seven billion parameters in bfloat16 less embeddings, their head and towers."""
    lines = told(capsys, store, full_size, precision="bfloat16")
    assert 11 < gib(lines, ", of it what FSDP shares out") < 13
    assert gib(lines, ", of it what FSDP shares out") < gib(lines, ", weights")


def test_the_recipe_for_mosi_keeps_its_memory_budget(
    capsys: pytest.CaptureFixture[str], store: Path, full_size: Path
) -> None:
    """The figures that stand in the recipe."""
    recipe = ROOT / "pipelines" / "recipes" / "mosi_qwen2_5_omni.yaml"
    main(["--dry-run", "--config", str(recipe), "--data", str(store), "--finetune.model", str(full_size),
          "--finetune.precision", "bfloat16"])  # fmt: skip
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert 16 < gib(lines, ", weights") < 17.5
    assert gib(lines, ", adapter, gradients and Adam") == pytest.approx(0.6, abs=0.05)
    assert lines["rows over 3000 tokens"].startswith("0, ")
    settings = yaml.safe_load(recipe.read_text())["finetune"] | {"precision": "bfloat16"}
    config = FinetuneConfig(**settings | {"model": str(full_size)})
    _, activations = told_of(config, text_row(config.max_tokens or 0))
    assert activations / 2**30 == pytest.approx(3.6, abs=0.1)


def text_row(tokens: int) -> Encoded:
    """A row of so many tokens, none of them of a clip."""
    return Encoded(input_ids=torch.full((tokens,), 5), position_ids=torch.arange(tokens).expand(3, -1))


def told_of(config: FinetuneConfig, row: Encoded) -> tuple[int, int]:
    return step_bytes(adapted(blank(config), config, "mosi", seed=0), config, (row, row, row))


def test_activations_grow_with_rows_tokens_and_trained_towers(tiny_thinker: Path) -> None:
    base: dict[str, Any] = {"model": str(tiny_thinker), "precision": "float32"}
    row = load_base(str(tiny_thinker), None, dtype=torch.float32, max_pixels=None).encoder(BUDGET, None)(
        tiny.row(0)
    )
    towers, one = told_of(FinetuneConfig(batch_size=1, **base), row)
    assert told_of(FinetuneConfig(batch_size=4, **base), row)[1] == pytest.approx(4 * one, rel=0.1)
    doubled = [told_of(FinetuneConfig(batch_size=1, **base), text_row(n))[1] for n in (200, 400)]
    assert doubled[1] == pytest.approx(2 * doubled[0], rel=0.1)
    eager = [told_of(FinetuneConfig(attention="eager", **base), text_row(n))[1] for n in (200, 400)]
    assert eager[1] > 2.5 * eager[0], "tables of all pairs of tokens"
    checkpointed = FinetuneConfig(batch_size=1, gradient_checkpointing=True, **base)
    assert told_of(checkpointed, text_row(400))[1] < 0.8 * doubled[1]
    adapt = ("language", "vision", "audio")
    asked, trained = told_of(FinetuneConfig(batch_size=1, adapt=adapt, **base), row)
    assert trained > asked > towers > 0
    assert trained > 1.5 * one
    assert pytest.approx(0.516, abs=1e-3) == NF4_BYTES


def test_towers_are_told_of_as_they_are_asked(
    capsys: pytest.CaptureFixture[str], store: Path, tiny_thinker: Path
) -> None:
    """About one picture at a time where their answers are kept, about a batch at each step where not."""
    config = FinetuneConfig(model=str(tiny_thinker), precision="float32", batch_size=6)
    row = load_base(str(tiny_thinker), None, dtype=torch.float32, max_pixels=None).encoder(BUDGET, None)(
        tiny.row(0, audio=None)
    )
    kept, _ = told_of(config, row)
    assert kept == told_of(replace(config, batch_size=1), row)[0]
    assert told_of(replace(config, tower_cache="none"), row)[0] == 6 * kept
    lines = told(capsys, store, tiny_thinker)
    assert list(lines)[-4:] == [
        "memory, towers",
        "memory, activations",
        "memory in all, roughly",
        "memory, of it what FSDP shares out",
    ]


def test_a_folder_of_weights_is_not_needed(full_size: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(full_size, tmp_path / "copy"))
    assert not list(copy.glob("*.safetensors"))
    assert blank(FinetuneConfig(model=str(copy))).thinker.get_input_embeddings().weight.is_meta
