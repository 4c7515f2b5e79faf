"""The benchmark of voice conversion: what it measures, and that its outputs say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from benchmarks import speed_plots
from benchmarks.voice_conversion import speed
from benchmarks.voice_conversion.speed import Case, Setting, tone
from pipelines.errors import UsageError
from tests.tiny_voices import converter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("converter")
    converter().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process: a new one takes seconds to start."""

    def call(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(speed, "isolated", call)


@pytest.mark.usefixtures("here")
def test_the_command_measures_and_says_what(model: str, tmp_path: Path) -> None:
    arguments = ["--steps", "1", "3", "--seconds", "4.5", "--batches", "4", "1", "--device", "cpu"]
    threads = ["--threads", str(torch.get_num_threads())]
    speed.main(["--out", str(tmp_path), "--model", model, *arguments, *threads])
    report = json.loads((tmp_path / "benchmark.json").read_text())
    cases = report["cases"]
    # 4.5 s are 3 chunks, with two branches each.
    assert [(row["batch"], row["steps"], row["passes"]) for row in cases] == [
        (1, 1, 6),
        (1, 3, 18),
        (4, 1, 2),
        (4, 3, 6),
    ]
    for row in cases:
        assert row["real_time_factor"] == pytest.approx(row["taken_s"] / 4.5)
        assert row["transformer_share"] == pytest.approx(row["transformer_s"] / row["taken_s"])
        assert 0 < row["transformer_s"] < row["taken_s"]
        assert row["bytes"] > 0
        assert row["largest_difference"] < 1e-5
        assert (row["largest_difference"] == 0) >= (row["batch"] == 1)
    told = (tmp_path / "benchmark.md").read_text()
    assert told.startswith("`python -m benchmarks.voice_conversion.speed --out ")
    assert "The fastest of 3; memory is the peak above the loaded networks." in told
    row = cases[0]
    assert f"| 4.5 | 1 | 1 | {row['taken_s']:.2f} | {row['real_time_factor']:.3f} |" in told
    picture = (tmp_path / "benchmark.svg").read_text()
    for words in ("Real-time factor", "4.5 s, batch 1", "4.5 s, batch 4", "as long as the sound", "steps"):
        assert f">{words}<" in picture


def test_the_fastest_conversion_counts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 27.0])
    setting = Setting(model=model, guidance=0.0, device="cpu", threads=torch.get_num_threads())
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))

    class Nothing:
        def __enter__(self) -> Any:
            return type("Passes", (), {"seconds": 0.5, "rows": [1, 1]})

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(speed, "watched", lambda *_: Nothing())
    told = speed.convert(setting, Case(steps=2, seconds=0.5, batch=1))
    assert (told["taken_s"], told["transformer_s"], told["passes"]) == (2.0, 0.5, 2)
    assert told["samples"].shape == (8_000,)


def test_the_sound_lasts_as_long_as_it_says() -> None:
    sound = tone(1.5, 120)
    assert (sound.shape, sound.dtype) == ((24_000,), np.float32)
    assert 0.01 < np.abs(sound).max() < 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "4", "0"], "--steps: got 0, takes 1 or more"),
        (["--seconds", "0"], "--seconds: got 0, takes 0.1 or more"),
        (["--batches", "0"], "--batches: got 0, takes 1 or more"),
        (["--guidance", "-1"], "--guidance: got -1, takes 0 or more"),
        (["--threads", "0"], "--threads: got 0, takes 1 or more"),
    ],
)
def test_a_command_line_that_cannot_be_followed(argv: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        speed.main(["--out", str(tmp_path), *argv])


def test_a_model_that_does_not_load_is_named(tmp_path: Path) -> None:
    setting = Setting(model=str(tmp_path), guidance=0.7, device="cpu", threads=torch.get_num_threads())
    with pytest.raises(UsageError, match=f"^--model: '{tmp_path}' cannot be loaded"):
        speed.convert(setting, Case(steps=1, seconds=1.0, batch=1))


def test_the_picture_has_what_was_measured() -> None:
    values = {"real_time_factor": 0.2, "transformer_share": 0.5, "bytes": 50 * 2**20}
    cases = [
        {"seconds": seconds, "batch": batch, "steps": steps} | values | {"real_time_factor": steps / 10}
        for seconds in (2.0, 8.0)
        for batch in (1, 4)
        for steps in (4, 10)
    ]
    axes = list(Figure().subplots(1, 3))
    speed_plots.draw_conversions(axes, cases)
    lines = {line.get_label(): line for line in axes[0].lines if not line.get_label().startswith("_")}
    assert sorted(lines) == ["2 s, batch 1", "2 s, batch 4", "8 s, batch 1", "8 s, batch 4"]
    assert lines["2 s, batch 1"].get_xydata().tolist() == [[4, 0.4], [10, 1.0]]
    assert [lines[f"2 s, batch {batch}"].get_linestyle() for batch in (1, 4)] == ["-", "--"]
    assert lines["2 s, batch 1"].get_color() != lines["8 s, batch 1"].get_color()
    assert axes[2].lines[0].get_ydata().tolist() == [50.0, 50.0]
    assert [ax.get_title() for ax in axes] == [title for title, _ in speed_plots.CONVERSION_MEASURES.values()]
    for ax in axes:
        assert ax.get_ylim()[0] == 0
        assert ax.get_xticks().tolist() == [4, 10]
