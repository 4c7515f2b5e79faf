"""The command `daq-msa`: fast help, one-line errors, status, and overrides that reach their stage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import whole_run
from pipelines.__main__ import main
from pipelines.errors import RunError, UsageError
from pipelines.running import launching

ROOT = Path(__file__).resolve().parents[2]


def test_help_is_fast_and_names_every_command() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
    for name in (
        "demo",
        "import",
        "run",
        "status",
        "evaluate",
        "predict",
        "merge",
        "convert",
        "report",
        "push",
        "doctor",
    ):
        assert f"\n    {name} " in done.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["frob"], "invalid choice: 'frob'"),
        (["status", "x", "--more"], "unrecognized arguments: --more; see daq-msa status --help"),
        (["import", "iemocap", "x", "--out", "y"], "invalid choice: 'iemocap'"),
        (["run"], "required: --config"),
        (["run", "--config", "nowhere.yaml"], "--config: cannot read nowhere.yaml"),
        (["demo", "--fintune.epochs", "3"], "--fintune.epochs: no section of a recipe"),
        (["demo", "3"], "3: a value without a key"),
    ],
)
def test_usage_errors_name_what_is_wrong(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        main(argv)
    assert message in str(caught.value)


def test_a_recipe_without_a_working_folder_needs_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    with pytest.raises(UsageError, match="names no working folder"):
        main(["run", "--config", str(tmp_path / "recipe.yaml")])


def test_a_run_hands_each_stage_its_own_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, list[str]] = {}
    monkeypatch.setattr(whole_run, "start", lambda name, arguments, **_: started.update({name: arguments}))
    monkeypatch.setattr(whole_run, "_gpus", lambda: 0)
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    (tmp_path / "work" / "model").mkdir(parents=True)
    (tmp_path / "work" / "model" / "metrics.json").write_text(json.dumps({"test": {"before": {"MAE": 1.0}}}))
    overrides = ["--augment.video.variants", "3", "--score.low=0.2", "--max-failures", "5", "--seed", "9"]
    main(["run", "--config", str(tmp_path / "recipe.yaml"), "--work", str(tmp_path / "work"), *overrides])
    assert list(started) == ["corpus", "augment", "score", "finetune", "report"]
    assert "--augment.video.variants" in started["augment"]
    assert "--augment.video.variants" not in started["score"]
    assert "--score.low=0.2" in started["score"]
    assert all("9" in started[name] for name in ("corpus", "augment", "score", "finetune"))
    assert [name for name in started if "--max-failures" in started[name]] == ["corpus", "augment", "score"]


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("finetune: {nope: 3}", [], "finetune.nope: unknown key"),
        ("fusion: {nope: 3}", [], "fusion.nope: unknown key"),
        ("corpus: {name: mustard, path: M, fold: 7}", [], "corpus.fold: 7 is not 0 to 4"),
        ("seed: 1", ["--finetune.epoch", "3"], r"finetune.epoch: unknown key; did you mean epochs\?"),
        ("seed: 1", ["--score.folds", "1"], "score.folds: 1 is not 2 or more"),
        ("seed: 1", ["--max-failures", "-1"], "--max-failures: got -1; takes 0 or more"),
    ],
)
def test_wrong_settings_of_a_late_stage_are_told_before_the_first_one(
    recipe: str, override: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_run, "start", lambda *_, **__: pytest.fail("a stage was started"))
    monkeypatch.setattr(whole_run, "_gpus", lambda: pytest.fail("it waited for torch"))
    (tmp_path / "recipe.yaml").write_text(recipe)
    with pytest.raises(UsageError, match=f"^{message}"):
        main(["run", "--config", str(tmp_path / "recipe.yaml"), "--work", str(tmp_path / "work"), *override])
    assert not (tmp_path / "work").exists()


def test_the_settings_are_checked_without_torch(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipelines import whole_run\n"
        "whole_run._check_settings(Path(sys.argv[1]), whole_run._by_section([]))\n"
        "assert 'finetune.settings' in sys.modules and 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("gpus", [0, 2])
def test_failed_rows_are_tried_again_by_one_process(
    gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: dict[str, int | None] = {}
    monkeypatch.setattr(
        whole_run, "start", lambda name, _, **given: processes.update({name: given.get("processes")})
    )
    monkeypatch.setattr(whole_run, "_gpus", lambda: gpus)
    monkeypatch.setattr(whole_run.os, "cpu_count", lambda: 4)
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")

    def started(*options: str) -> dict[str, int | None]:
        with pytest.raises(FileNotFoundError):
            main(["run", "--config", str(tmp_path / "recipe.yaml"), "--work", str(tmp_path), *options])
        return {name: processes[name] for name in ("augment", "score", "finetune")}

    trained_by = gpus or 1
    assert started("--retry-failed") == {"augment": 1, "score": 1, "finetune": trained_by}
    assert started() == {"augment": gpus or 4, "score": gpus or 4, "finetune": trained_by}


@pytest.mark.parametrize(
    ("argv", "started"),
    [
        ("evaluate --model M --data S --split valid", "finetune.evaluation --model M --data S --split valid"),
        ("evaluate --model M --data S --against N", "finetune.evaluation --model M --data S --against N"),
        (
            "merge --model M --out O --precision bfloat16",
            "finetune.merging --model M --out O --precision bfloat16",
        ),
        ("predict --model M --json C --text t", "finetune.prediction --model M --json C --text t"),
        ("convert P --out F --scale sims", "finetune.fusion.features.convert P --out F --scale sims"),
    ],
)
def test_commands_of_models_start_their_programs(
    argv: str, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[str]] = []
    for module in (whole_run, launching):
        monkeypatch.setattr(module, "launch", lambda name, arguments, **_: found.append(arguments))
    main(argv.split())
    assert found == [["-m", *started.split()]]


@pytest.mark.parametrize(("code", "error"), [(2, UsageError), (1, RunError), (-9, RunError)])
def test_a_stage_that_fails_ends_the_run(code: int, error: type[Exception]) -> None:
    ending = (
        f"import os, signal, sys; sys.exit({code}) if {code} > 0 else os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(error, match="augment"):
        whole_run.start("augment", ["-c", ending])


def test_status_of_a_store_and_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = {
        "stage": "score",
        "state": "stopped",
        "done": 3,
        "failed": 1,
        "left": 6,
        "rows_per_second": 2.0,
        "expected_end": "2030-01-01T00:00:00+00:00",
    }
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "status.json").write_text(json.dumps(status))
    main(["status", str(tmp_path)])
    main(["status", str(tmp_path / "scored")])
    line = "score      stopped  3 done, 1 failed, 6 left, 2 rows/s, expected end 2030-01-01T00:00:00+00:00\n"
    assert capsys.readouterr().out == 2 * line
    with pytest.raises(RunError, match="no status"):
        main(["status", str(tmp_path / "nothing")])
    for damage in ("", "{", "[]", '{"stage": "score"}'):
        (tmp_path / "scored" / "status.json").write_text(damage)
        with pytest.raises(RunError, match=r"status\.json: is damaged .*writes it again"):
            main(["status", str(tmp_path)])


@pytest.mark.parametrize(
    "recipe", sorted((ROOT / "pipelines" / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
@pytest.mark.parametrize(
    "program", ["pipelines.importing", "augment", "score", "finetune", "finetune.fusion"]
)
def test_every_shipped_recipe_is_taken_by_every_stage(program: str, recipe: Path) -> None:
    command = [
        sys.executable,
        "-m",
        program,
        "--config",
        str(recipe),
        "--data",
        "d",
        "--out",
        "o",
        "--print_config",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed: 1111" in done.stdout
