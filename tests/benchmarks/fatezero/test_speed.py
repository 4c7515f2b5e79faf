"""The benchmark of video edits: what it measures, and that its outputs say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from matplotlib.figure import Figure

from benchmarks import speed_plots as plots
from benchmarks.fatezero import measure, speed
from benchmarks.fatezero.measure import Case, Setting, load, seeded
from benchmarks.measurement import peak_bytes, reset_peak
from pipelines.errors import RunError, UsageError
from pipelines.figures import drawn
from tests import tiny_diffusion

TINY = Case(steps=3, frames=2, size=32)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    model = tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("sd"))
    return Setting(model=str(model), device="cpu", threads=torch.get_num_threads())


@pytest.mark.slow
def test_the_command_measures_and_says_what(tmp_path: Path) -> None:
    arguments = ["--steps", "2", "--frames", "3", "--sizes", "128", "--clips", "11", "--device", "cpu"]
    speed.main(["--out", str(tmp_path), *arguments])
    report = json.loads((tmp_path / "benchmark.json").read_text())
    (row,) = report["cases"]
    ours, reference = row["ours"], row["reference"]
    assert row["largest_difference"] < 1e-3
    assert reference["bytes"] > reference["map_bytes"] > 2 * ours["bytes"]
    assert row["share_of_memory"] == pytest.approx(ours["bytes"] / reference["bytes"])
    assert row["times_as_fast"] == pytest.approx(reference["seconds"] / ours["seconds"])
    assert 0 < ours["unet_s"] < ours["seconds"]
    assert report["styles"]["many"]["inversion_passes"] == report["styles"]["steps"] == 2
    assert abs(report["clips"]["bytes_last"] / report["clips"]["bytes_first"] - 1) < 0.02
    figures = (tmp_path / "benchmark.md").read_text()
    assert "a seeded model, its UNet of 2.5 M parameters, on cpu" in figures
    assert f"| 2 | 3 | 128 | {ours['seconds']:.2f} | {reference['seconds']:.2f} |" in figures
    picture = (tmp_path / "benchmark.svg").read_text()
    assert all(f">{words}<" in picture for words in ("Seconds, 128 pixels", "ours, 3 frames", "steps"))


def test_both_ways_are_measured_on_the_same_edit(setting: Setting) -> None:
    ours, reference = (measure.edit(setting, TINY, method) for method in ("ours", "reference"))
    np.testing.assert_allclose(ours["frames"], reference["frames"], atol=1e-3)
    for figures in (ours, reference):
        assert figures["passes"] == 2 * TINY.steps
        assert figures["frames"].shape == (2, 32, 32, 3)
        assert 0 < figures["unet_s"] < figures["seconds"]
    assert ours["bare_s"] > 0
    # Latents of 8 x 8 and 4 x 4, 16 tokens, 2 heads; three layers at 8 x 8, four at 4 x 4.
    assert reference["map_bytes"] == 3 * 2 * 2 * 4 * (3 * 64 * (64 + 16) + 4 * 16 * (16 + 16))


def test_maps_that_do_not_fit_are_not_tried(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SPARE", 0.0)
    figures = measure.edit(setting, TINY, "reference")
    assert figures.keys() == {"left_out"}
    assert figures["left_out"].startswith("its maps take 0.0 GiB, ")


def test_styles_share_an_inversion(setting: Setting) -> None:
    figures = measure.styles(setting, TINY)
    assert (figures["one"]["styles"], figures["many"]["styles"]) == (1, 3)
    assert (figures["one"]["passes"], figures["many"]["passes"]) == (3 + 3, 3 + 3 * 3)
    assert (figures["one"]["inversion_passes"], figures["many"]["inversion_passes"]) == (3, 3)


def test_clips_leave_nothing_behind(setting: Setting) -> None:
    figures = measure.clips(setting, 14)
    assert (figures["frames"], figures["size"]) == (2, 64)
    assert abs(figures["bytes_last"] - figures["bytes_first"]) < 4 * 2**20


def test_passes_are_counted_until_the_watch_ends(setting: Setting) -> None:
    pipeline = load(setting)
    with measure.watched(pipeline.unet, "cpu") as passes:
        seconds = measure.bare(pipeline, TINY, [2, 6, 6, 6, 6, 4], "cpu")
    assert passes.rows == [2, 6, 6, 6, 4]
    assert seconds > 0
    pipeline.unet(torch.zeros(1, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(1, 16, 16))
    assert len(passes.rows) == 5


def test_a_peak_is_seen_after_it_is_over() -> None:
    reset_peak("cpu")
    before = peak_bytes("cpu")
    block = np.ones(64 * 2**20, dtype=np.uint8)
    del block
    assert peak_bytes("cpu") - before > 60 * 2**20
    reset_peak("cpu")
    assert peak_bytes("cpu") - psutil.Process().memory_info().rss < 30 * 2**20


def test_the_seeded_model_is_the_same_every_time() -> None:
    torch.manual_seed(1)
    one, other = seeded(), seeded()
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    assert 2.4e6 < one.unet.num_parameters() < 2.6e6
    for part in ("unet", "vae", "text_encoder"):
        for name, values in getattr(one, part).state_dict().items():
            assert torch.equal(values, getattr(other, part).state_dict()[name])


def test_a_process_that_is_killed_is_told_of() -> None:
    with pytest.raises(RunError, match=r"the process of _exit\(9,\) was killed"):
        speed.isolated(os._exit, 9)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out", "x", "--frames", "4", "0"], "--frames: got 0, takes 2 or more"),
        (["--out", "x", "--threads", "0"], "--threads: got 0, takes 1 or more"),
        (["--out", "x", "--steps", "1001"], "--steps: got 1001, takes at most 1000"),
        (["--out", "x", "--clips", "10"], "--clips: got 10, takes more than the 10 after which"),
    ],
)
def test_a_command_line_that_cannot_be_followed(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        speed.main(argv)


def test_a_mistake_is_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fatezero.speed", "--out", "x", "--threads", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --threads: got 0, takes 1 or more\n"


def test_models_and_sizes_that_do_not_go_are_named(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sizes: got 36, this model takes multiples of 8"):
        measure.edit(setting, Case(steps=1, frames=2, size=36), "ours")
    with pytest.raises(UsageError, match=f"^--model: '{tmp_path}' cannot be loaded"):
        load(Setting(model=str(tmp_path), device="cpu", threads=1))


def test_the_report_tells_what_was_measured() -> None:
    lines = speed.markdown(made_report()).splitlines()
    assert lines[0].startswith("`COMMAND`: somewhere, its UNet of 2.5 M parameters, on cpu (x), 1 thread(s).")
    assert lines[4] == "| 10 | 8 | 256 | 10.00 | 30.00 | 3.00 | 300 | 6000 | 0.050 | 95% | 90% | 1e-05 |"
    assert lines[5] == "| 20 | 8 | 256 | 20.00 |  |  | 310 |  |  | 96% | 91% |  |"
    left_out = "The reference's 20 steps, 8 frames, 256 pixels were not tried: its maps take 18.0 GiB."
    assert lines[7] == left_out
    assert "take 2.20 times as long as one (9.00 s)." in lines[9]
    assert "that invert: 10, for one style 10; that edit: 30, for one style 10." in lines[9]
    assert lines[11].endswith("holds 800.0 MiB after 10 and 801.0 MiB after the last (+0.12%).")


def test_the_picture_has_what_was_measured() -> None:
    axes = list(Figure().subplots(1, 2))
    plots.draw_edits(axes, [*made_report()["cases"], made_report()["cases"][0] | {"size": 128}])
    lines = {(ax.get_title(), line.get_label()): line for ax in axes for line in ax.lines}
    found = {key: line.get_xydata().tolist() for key, line in lines.items()}
    memory = "Memory above the loaded networks, MiB, 256 pixels"
    assert found == {
        ("Seconds, 256 pixels", "ours, 8 frames"): [[10, 10], [20, 20]],
        ("Seconds, 256 pixels", "reference, 8 frames"): [[10, 30]],
        (memory, "ours, 8 frames"): [[10, 300], [20, 310]],
        (memory, "reference, 8 frames"): [[10, 6000]],
    }
    assert len({line.get_color() for line in axes[0].lines}) == 2
    for ax in axes:
        assert ax.get_yscale() == "log"
        assert ax.get_xticks().tolist() == [10, 20]
        assert ax.get_xlim()[0] == 0
        # More seconds are further up.
        assert ax.transData.transform((10, 20))[1] > ax.transData.transform((10, 10))[1]


def test_fewer_frames_are_dashed() -> None:
    axes, case = Figure().subplots(1, 2), made_report()["cases"][0]
    plots.draw_edits(list(axes), [case | {"frames": 4}, case])
    styles = {line.get_label(): line.get_linestyle() for line in axes[1].lines}
    assert styles == {
        f"{method}, {n} frames": "--" if n == 4 else "-" for method in plots.METHODS for n in (4, 8)
    }


def test_the_picture_says_what_it_shows_and_is_the_same_again(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        with drawn(tmp_path / name, 2, width=4.6, height=3.4, below=0.8) as axes:
            plots.draw_edits(axes, made_report()["cases"])
    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "two.svg").read_text()
    labels = ("Seconds, 256 pixels", "ours, 8 frames", "reference, 8 frames", "steps", "10", "20", "5000")
    for words in labels:
        assert f">{words}<" in picture


def made_report() -> dict[str, Any]:
    """Of one clip, with the reference's longer edit left out."""
    size = {"frames": 8, "size": 256}
    ours = {"seconds": 10.0, "bytes": 300 * 2**20, "parameters": 2_500_000}
    edits = {"seconds": 9.0, "passes": 20, "inversion_passes": 10, "styles": 1}
    return {
        "command": "COMMAND", "model": "somewhere", "device": "cpu", "machine": "x", "threads": 1,
        "cases": [
            {
                **size, "steps": 10, "ours": ours, "reference": {"seconds": 30.0, "bytes": 6000 * 2**20},
                "unet_share": 0.95, "bare_share": 0.9, "largest_difference": 1e-5, "times_as_fast": 3.0,
                "share_of_memory": 0.05,
            },
            {
                **size, "steps": 20, "ours": ours | {"seconds": 20.0, "bytes": 310 * 2**20},
                "reference": {"left_out": "its maps take 18.0 GiB"}, "unet_share": 0.96, "bare_share": 0.91,
            },
        ],
        "styles": {
            **size, "steps": 10, "one": edits,
            "many": edits | {"styles": 3, "seconds": 19.8, "passes": 40},
        },
        "clips": {
            "count": 1000, "frames": 2, "size": 64, "bytes_first": 800 * 2**20, "bytes_last": 801 * 2**20,
        },
    }  # fmt: skip
