"""A run killed at any step, also of the first epoch, ends with every bit of one that nothing interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from finetune.__main__ import main
from pipelines.media import encode_audio
from pipelines.row import media
from tests import tiny
from tests.finetune.killing import killed

FILES = ("adapter_model.safetensors", "head.safetensors", "metrics.json", "predictions.parquet")
PER_EPOCH = 8
# The steps in which a run is killed, 20 trials: of the first epoch, of the second, and two in a row.
SHORT = [(2,), (5,), (3, 7)]
LONG = [(step,) for step in range(1, 2 * PER_EPOCH) if (step,) not in SHORT]
LONG += [(1, 2), (4, 12), (6, 8), (2, 15)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds of many lengths: what else is in a batch matters to the last bits of a tower's output."""
    rows = [tiny.row(n) for n in range(8)] + [tiny.variant(n, 0.2 + 0.1 * n) for n in range(8)]
    for number, row in enumerate(rows):
        noise = np.random.default_rng(number).standard_normal(16_000 + 2_777 * number)
        row["audio"] = media(encode_audio(0.1 * noise.astype(np.float32)))
    return tiny.store(tmp_path_factory.mktemp("store"), rows + [tiny.row(n, "test") for n in range(3)])


def command(store: Path, out: Path) -> list[str]:
    settings = {"epochs": 2, "batch_size": 2, "lora_rank": 2, "save_every": 1, "log_every": 3}
    options = [part for name, value in settings.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(out), *options]


@pytest.fixture(scope="module")
def straight(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    main(command(store, out))
    return out


def log(out: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    times = ("train_runtime", "train_samples_per_second", "train_steps_per_second")
    return [{name: value for name, value in entry.items() if name not in times} for entry in entries]


def ends_equal(steps: tuple[int, ...], store: Path, straight: Path, out: Path) -> None:
    for step in steps:
        killed(command(store, out), step)
    main(command(store, out))
    for name in FILES:
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    assert log(out) == log(straight)


@pytest.mark.parametrize("steps", SHORT, ids=str)
def test_killed_it_ends_with_the_same_bits(
    steps: tuple[int, ...], store: Path, straight: Path, tmp_path: Path
) -> None:
    ends_equal(steps, store, straight, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("steps", LONG, ids=str)
def test_killed_anywhere_it_ends_with_the_same_bits(
    steps: tuple[int, ...], store: Path, straight: Path, tmp_path: Path
) -> None:
    ends_equal(steps, store, straight, tmp_path)


def test_the_last_loss_is_that_of_the_whole_run(straight: Path) -> None:
    entries = log(straight)
    steps = np.diff([0, *(entry["step"] for entry in entries[:-1])])
    losses = [entry["loss"] for entry in entries[:-1]]
    assert entries[-1]["train_loss"] == pytest.approx(np.average(losses, weights=steps))
    assert steps.sum() == 2 * PER_EPOCH
