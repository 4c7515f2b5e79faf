"""Seed-VC against a stand-in that speaks its interface: one model, exact lengths, crashes, hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment import planning
from augment.__main__ import main
from augment.audio import seed_vc
from augment.audio.seed_vc import ConversionError, SeedVC
from augment.audio.settings import AudioSettings, SeedVCSettings
from augment.audio.worker_process import JsonProcess, ProcessFailed
from augment.settings import AugmentConfig
from pipelines import media
from pipelines.errors import RunError, UsageError
from pipelines.row import media as in_row
from pipelines.runner import task_key
from pipelines.settings import parse_stage
from pipelines.store import StoreReader
from tests import tiny
from tests.tiny_voices import voiced

ENVIRONMENT = Path(__file__).parents[2] / "stand_ins" / "seed_vc_environment"
RATE = 16_000
SOURCE, REFERENCE = voiced(0.77, 120), voiced(1.5, 210, level=0.1)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worker's working folder, with the stand-in on its path."""
    monkeypatch.setenv("PYTHONPATH", str(ENVIRONMENT))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def settings_of(weights: Path, **changes: Any) -> AudioSettings:
    own = {"python": sys.executable, "weights": str(weights), "timeout_s": 20.0} | changes
    return AudioSettings(method="seed_vc", seed_vc=SeedVCSettings(**own))


def behave(weights: Path, *behaviours: str) -> None:
    (weights / "behaviours.txt").write_text("\n".join(behaviours))


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def convert(converter: SeedVC, seed: int = 1, **changes: np.ndarray) -> np.ndarray:
    sounds = {"source": SOURCE, "reference": REFERENCE} | changes
    return converter(sounds["source"], sounds["reference"], RATE, seed=seed)[0]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_model_converts_all_and_the_seed_decides(weights: Path) -> None:
    behave(weights, "convert", "convert", "convert", "chatter", "a little short")
    converter = SeedVC(settings_of(weights), "cpu")
    first, again, other, chattered, short = (convert(converter, seed) for seed in (1, 1, 2, 1, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # What a library prints is not taken for an answer.
    assert np.array_equal(first, chattered)
    for made in (first, other, short):
        assert made.shape == SOURCE.shape
        assert made.dtype == np.float32
        assert made.std() == pytest.approx(SOURCE.std(), rel=0.02)
    assert np.corrcoef(first, SOURCE)[0, 1] > 0.95
    (load,) = lines(weights / "loads.txt")
    assert load.split()[1:] == ["False", "False", "None", "None"]
    # At the model's own rate, so that it does not resample.
    assert {line.split()[0] for line in lines(weights / "conversions.txt")} == {"22050"}
    pid = int(load.split()[0])
    assert alive(pid)
    converter.close()
    assert not alive(pid)


def test_what_made_a_clip_is_told(weights: Path) -> None:
    converter = SeedVC(settings_of(weights, diffusion_steps=12, f0_condition=True), "cpu")
    _, details = converter(SOURCE, REFERENCE, RATE, seed=2**62)
    assert details == json.loads(json.dumps(details))
    assert details["options"]["diffusion_steps"] == 12
    assert set(details["program"]) == {"python", "seed-vc", "torch", "numpy"}
    assert lines(weights / "conversions.txt")[0].split()[0] == "44100"


def test_references_are_cut_and_short_ones_refused(weights: Path) -> None:
    converter = SeedVC(settings_of(weights), "cpu")
    convert(converter, reference=voiced(26, 200))
    assert lines(weights / "conversions.txt")[0].split()[2] == str(25 * 22_050)
    with pytest.raises(ValueError, match=r"reference: lasts 0\.90 s, Seed-VC wants 1 to 25 s"):
        convert(converter, reference=voiced(0.9))
    with pytest.raises(ValueError, match="audio: silent"):
        convert(converter, source=np.zeros(RATE, np.float32))
    assert len(lines(weights / "conversions.txt")) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("nan", "answer: 16979 of 16979 samples are not finite"),
        ("silence", "answer: silent"),
        ("nothing", r"answer: shape \(0,\)"),
        ("half", r"answer: lasts 0\.38 s, wanted 0\.77 s, at most 0\.25 s off"),
        ("stereo", r"answer: lasts 1\.54 s, wanted 0\.77 s"),
        ("overflow", r"answer: jumps by 2\.00 between two samples; it overflowed"),
        ("no sound", "refused the clip: TypeError"),
        ("refuse", "refused the clip: RuntimeError: CUDA out of memory"),
    ],
)
def test_a_wrong_answer_is_a_reason_and_the_worker_lives(weights: Path, behaviour: str, reason: str) -> None:
    behave(weights, behaviour)
    converter = SeedVC(settings_of(weights), "cpu")
    with pytest.raises(ValueError, match=reason):
        convert(converter)
    assert convert(converter).shape == SOURCE.shape
    assert len(lines(weights / "loads.txt")) == 1


def test_a_crash_costs_one_clip_and_the_next_has_a_new_worker(weights: Path) -> None:
    behave(weights, "crash", "convert", "crash")
    converter = SeedVC(settings_of(weights, restarts=1), "cpu")
    for _ in range(2):  # a conversion in between makes the count start again
        with pytest.raises(
            ConversionError,
            match=r"died \(exit code 7\); it last said: Segmentation fault, so to speak; the next",
        ):
            convert(converter)
        assert convert(converter).shape == SOURCE.shape
    assert len(lines(weights / "loads.txt")) == 3


def test_a_hung_worker_is_killed_in_time(weights: Path) -> None:
    behave(weights, "hang")
    converter = SeedVC(settings_of(weights, timeout_s=1.0), "cpu")
    pid = int(lines(weights / "loads.txt")[0].split()[0])
    start = time.monotonic()
    with pytest.raises(ConversionError, match="no answer within 1 s and was killed"):
        convert(converter)
    assert time.monotonic() - start < 3
    assert not alive(pid)
    assert convert(converter).shape == SOURCE.shape


def test_a_program_that_reads_nothing_is_killed_in_time(tmp_path: Path) -> None:
    # The question is longer than a pipe holds, so that writing it blocks.
    process = JsonProcess(["sleep", "600"], environment=os.environ, folder=tmp_path)
    with pytest.raises(ProcessFailed, match=r"within 0\.3 s"):
        process.ask({"do": "x" * 1_000_000}, timeout_s=0.3)


def test_what_a_killed_program_had_started_ends_too(tmp_path: Path) -> None:
    # It holds the pipe that is read from, so that reading would go on.
    script = "sleep 600 & echo $! > child; wait"
    process = JsonProcess(["/bin/sh", "-c", script], environment=os.environ, folder=tmp_path)
    with pytest.raises(ProcessFailed, match=r"within 0\.5 s"):
        process.ask({}, timeout_s=0.5)
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    assert not child.exists() or child.read_text().split()[2] == "Z"


@pytest.mark.parametrize("line", ["hello", "[]", '{"id": 7}'])
def test_what_is_no_answer_is_told(tmp_path: Path, line: str) -> None:
    process = JsonProcess(["echo", line], environment=os.environ, folder=tmp_path)
    with pytest.raises(ProcessFailed, match="wanted JSON with id 1"):
        process.ask({}, timeout_s=5)


def test_too_many_losses_in_a_row_stop_the_run(weights: Path) -> None:
    behave(weights, "crash", "crash")
    converter = SeedVC(settings_of(weights, restarts=1), "cpu")
    with pytest.raises(ConversionError):
        convert(converter)
    with pytest.raises(RunError, match=r"lost 2 times in a row and augment\.audio\.seed_vc\.restarts is 1"):
        convert(converter)


def test_a_program_that_cannot_be_started_is_a_usage_error(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"seed_vc\.python: nowhere/python is no file.*daq-msa doctor"):
        SeedVC(settings_of(weights, python="nowhere/python"), "cpu")
    with pytest.raises(UsageError, match=r"died \(exit code 1\).*it takes a Python interpreter"):
        SeedVC(settings_of(weights, python="/bin/false"), "cpu")
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(UsageError, match=r"cannot import seed_vc .*-m pip install seed-vc==0\.4\.3"):
        SeedVC(settings_of(weights), "cpu")


def test_another_device_or_model_that_is_not_there_is_an_error(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="cuda:1, but PyTorch in Seed-VC's environment computes on cpu"):
        SeedVC(settings_of(weights), "cuda:1")
    (weights / "no_model").touch()
    with pytest.raises(RunError, match=r"cannot be loaded \(OSError: the Hub cannot be reached\).*again"):
        SeedVC(settings_of(weights), "cpu")
    monkeypatch.setattr(seed_vc, "VERSION", "9.9.9")
    with pytest.raises(UsageError, match=r"has seed-vc 0\.4\.3, wanted 9\.9\.9"):
        SeedVC(settings_of(weights), "cpu")


@pytest.mark.parametrize(
    ("visible", "device", "wanted"),
    [(None, "cuda:1", "1"), ("4,6", "cuda:1", "6"), ("4,6", "cuda", "4"), ("4,6", "cpu", "")],
)
def test_the_worker_sees_its_gpu_alone(
    visible: str | None, device: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert seed_vc._environment(device)["CUDA_VISIBLE_DEVICES"] == wanted


def test_keys_of_old_recipes_stay_and_those_of_others_follow_what_counts() -> None:
    def key(settings: AudioSettings) -> str:
        return task_key("c/a/0#audio-0", ["made", "voices"], {"audio": planning.settings(settings)}, 3)

    def other(**changes: Any) -> str:
        return key(AudioSettings(method="seed_vc", seed_vc=SeedVCSettings(**changes)))

    # A recipe's key stays what it is, whatever other methods have; starting from full noise had another.
    old = "bad4619e3c9c8dbe558bb9f2261d8f3f89fa4586efb170a00a40afd21ad1c7f3"
    assert key(AudioSettings(model="x/y")) == old
    assert key(AudioSettings(model="x/y", seed_vc=SeedVCSettings(diffusion_steps=5))) == old
    assert other() == other(python="p", weights="w", timeout_s=1, start_timeout_s=1, restarts=0)
    assert len({old, other(), other(diffusion_steps=10), other(inference_cfg_rate=0.0)}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"diffusion_steps": 0}, "diffusion_steps: 0 is too small"),
        ({"timeout_s": 0}, "timeout_s: 0 is too small"),
        ({"length_adjust": 3}, "length_adjust: 3 is outside"),
        ({"semi_tone_shift": 2}, "semi_tone_shift: 2 needs f0_condition: true"),
        ({"auto_f0_adjust": True}, "auto_f0_adjust: True needs f0_condition: true"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeedVCSettings(**changes)


def test_a_reference_longer_than_it_hears_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reference_s: 30\.0 is too long for seed_vc; take 1 to 25"):
        AudioSettings(method="seed_vc", reference_s=30.0)


def arguments(originals: Path, out: Path, weights: Path) -> list[str]:
    audio = {"method": "seed_vc", "seed_vc.python": sys.executable, "seed_vc.weights": str(weights)}
    given = [text for name, value in audio.items() for text in (f"--augment.audio.{name}", value)]
    stage = ["--data", str(originals), "--out", str(out), "--augment.device", "cpu"]
    return [*stage, "--augment.video.variants", "0", "--augment.audio.variants", "2", *given]


def test_the_stage_loses_what_failed_and_nothing_else(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        tiny.row(
            number, group=f"speaker{number}", audio=in_row(media.encode_audio(voiced(1 + number / 7, 120)))
        )
        for number in range(3)
    ]
    originals, out = tiny.store(tmp_path / "originals", rows), tmp_path / "out"
    behave(weights, "convert", "crash", "nan")
    main(arguments(originals, out, weights))
    assert "6 variants wanted, 4 made, 2 rejected" in capsys.readouterr().out
    failures = [json.loads(line) for line in lines(out / "failures.jsonl")]
    assert [failure["id"] for failure in failures] == ["tiny/train/0#audio-1", "tiny/train/1#audio-0"]
    assert "died (exit code 7)" in failures[0]["message"]
    assert "not finite" in failures[1]["message"]
    main([*arguments(originals, out, weights), "--retry-failed"])
    made = {row["id"]: row for row in StoreReader(out).rows()}
    assert len(made) == 9
    for row in made.values():
        source = media.read_audio(made[row["source_id"]]["audio"]["bytes"])
        assert media.read_audio(row["audio"]["bytes"]).shape == source.shape
        if row["kind"] == "audio":
            told = json.loads(row["generator"])
            assert (told["method"], told["audio"]["program"]["seed-vc"]) == ("seed_vc", "0.4.3")
            assert told["audio"]["target_speaker"] != row["group"]
    assert "Seed-VC, a program under the GPL 3.0" in (out / "README.md").read_text()
    # Twice in the first run, for the crash, and once in the second.
    assert len(lines(weights / "loads.txt")) == 3


def test_the_program_says_what_it_found(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "--augment.audio.seed_vc.python",
        sys.executable,
        "--augment.audio.seed_vc.weights",
        str(weights),
    ]
    seed_vc.main([*given, "--augment.device", "cpu"])
    assert ", seed-vc 0.4.3, torch " in capsys.readouterr().out
    assert not (weights / "loads.txt").exists()


def test_the_worker_imports_nothing_of_the_project() -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='worker');"
        "print([name for name in sys.modules if name.split('.')[0] in ('augment', 'pipelines', 'torch')])"
    )
    command = [sys.executable, "-c", code, str(seed_vc.WORKER)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_its_settings_are_typed_under_their_section(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("augment: {audio: {method: seed_vc, seed_vc: {restarts: -1}}}\n")
    with pytest.raises(UsageError, match=r"augment\.audio\.seed_vc\.restarts: -1 is too small"):
        parse_stage(AugmentConfig, "augment", ["--config", str(recipe)], prog="x", needs=())
