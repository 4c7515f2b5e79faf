"""The study: no run twice, tables that say what the runs found, and tests with known answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from matplotlib.figure import Figure

from benchmarks import commands
from benchmarks.commands import mean_and_deviation
from benchmarks.fusion import ablation, ablation_report
from benchmarks.fusion.modality_drop import predicted_without, subsets
from benchmarks.fusion.significance import group_of, over_rows, over_seeds, paired_t, two_sided
from finetune.fusion.__main__ import main as train
from finetune.fusion.features.mmsa_pickle import from_pickle
from finetune.fusion.run import load
from finetune.msa_metrics import DEFINITIONS, measured
from pipelines.errors import RunError, UsageError
from tests.damage import DAMAGES

MODALITIES = ("text", "audio", "video")
QUICK = [
    *("--fusion.network.width", "8", "--fusion.network.heads", "2", "--fusion.network.steps", "6"),
    *(
        "--fusion.training.epochs",
        "2",
        "--fusion.training.batch_size",
        "8",
        "--fusion.training.device",
        "cpu",
    ),
]


def command(data: Path, out: Path, *arms: str) -> list[str]:
    given = ["--data", str(data), "--out", str(out), "--arms", *arms, "--seeds", "1", "2"]
    return [*given, "--resamples", "50", *QUICK]


class Started:
    """Takes the place of `subprocess.run`: the same program in this process, counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, arguments: list[str], check: bool) -> Any:
        assert arguments[1:3] == ["-m", "finetune.fusion"]
        self.count += 1
        train(arguments[3:])
        return subprocess.CompletedProcess(arguments, 0)


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands.subprocess, "run", Started())
        ablation.main(command(data, out, "neither", "both", "late_penalty"))
    return out


def test_the_tables_say_what_the_runs_found(done: Path) -> None:
    told = json.loads((done / "study.json").read_text())
    for arm in ("neither", "both", "late_penalty"):
        found = [json.loads((done / arm / f"seed-{seed}" / "metrics.json").read_text()) for seed in (1, 2)]
        errors = [each["test"]["MAE"] for each in found]
        assert told["arms"][arm]["test"]["MAE"] == errors
        assert told["arms"][arm]["conflict_rate"] == [each["conflict_rate"] for each in found]
        assert (
            f"| {arm} | {np.mean(errors):.3f} ± {np.std(errors, ddof=1):.3f} |"
            in (done / "study.md").read_text()
        )
    both, neither = (np.array(told["arms"][arm]["test"]["MAE"]) for arm in ("both", "neither"))
    difference = float((both - neither).mean())
    assert told["test"]["over_seeds"]["MAE"]["difference"] == pytest.approx(difference)
    # Rows of all seeds pooled have the mean of their MAE.
    assert told["test"]["over_rows"]["metrics"]["MAE"]["difference"] == pytest.approx(difference, abs=2e-4)


def test_arms_are_trained_as_they_are_called(done: Path) -> None:
    config = {
        arm: json.loads((done / arm / "config.json").read_text())["config"] for arm in ("both", "neither")
    }
    assert config["neither"]["balance"]["method"] == "none"
    assert config["neither"]["losses"]["statistics"] == 0
    assert config["both"]["balance"]["method"] == "conflict_penalty"
    late = json.loads((done / "late_penalty" / "config.json").read_text())["config"]
    assert late["conflict"]["start_epoch"] == 5


def test_finished_runs_are_not_done_again_and_missing_ones_are(
    data: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started()
    monkeypatch.setattr(commands.subprocess, "run", started)
    before = (done / "study.json").read_text()
    ablation.main(command(data, done, "neither", "both", "late_penalty"))
    assert started.count == 0
    assert (done / "study.json").read_text() == before
    seed = done / "both" / "seed-2"
    weights = (seed / "model.safetensors").read_bytes()
    (seed / "metrics.json").unlink()
    ablation.main(command(data, done, "neither", "both", "late_penalty"))
    assert started.count == 1
    assert (seed / "model.safetensors").read_bytes() == weights


def test_a_damaged_seed_is_trained_and_rated_again(
    data: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "out"))
    seed = out / "both" / "seed-1"
    before = {path: path.read_bytes() for path in (seed / "model.safetensors", seed / "without.json")}
    DAMAGES["cut"](seed / "model.safetensors")
    (seed / "without.json").write_text("{}")  # of another network
    started = Started()
    monkeypatch.setattr(commands.subprocess, "run", started)
    ablation.main(command(data, out, "neither", "both"))
    assert started.count == 1
    assert {path: path.read_bytes() for path in before} == before


def test_damage_is_told_with_its_path_once(done: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done / "both", tmp_path / "both"))
    weights = out / "seed-1" / "model.safetensors"
    DAMAGES["cut"](weights)
    with pytest.raises(RunError, match="the command of the run makes it again") as told:
        load(out, 1)
    assert str(told.value).count(str(weights)) == 1


def test_a_folder_of_other_settings_is_refused(data: Path, done: Path) -> None:
    with pytest.raises(UsageError, match="other settings or data"):
        ablation.main([*command(data, done, "both"), "--fusion.training.learning_rate", "0.1"])


def test_a_seed_that_is_given_twice_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--seeds: got 1 2 2, takes different numbers$"):
        ablation.main([*command(data, tmp_path, "both"), "--seeds", "1", "2", "2"])


def test_every_arm_has_settings_that_hold(data: Path, tmp_path: Path) -> None:
    options, settings = ablation._options(command(data, tmp_path, *ablation.ARMS))
    configs = [ablation.invocation_of(options, arm, settings).config for arm in ablation.ARMS]
    assert all(one != other for index, one in enumerate(configs) for other in configs[:index])


def test_a_run_that_fails_ends_the_study(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        commands.subprocess, "run", lambda arguments, check: subprocess.CompletedProcess(arguments, 1)
    )
    with pytest.raises(RunError, match="both: the run failed"):
        ablation.main(command(data, tmp_path, "both"))


def test_all_modalities_but_not_all_at_once_are_left_out() -> None:
    assert subsets(MODALITIES) == [
        *(("text",), ("audio",), ("video",)),
        *(("text", "audio"), ("text", "video"), ("audio", "video")),
    ]


def test_what_is_left_out_does_not_count_and_the_rest_does(data: Path, done: Path) -> None:
    network, test = load(done / "both", 1), from_pickle(data, MODALITIES).splits["test"]
    whole = predicted_without(network, test, ())
    without = predicted_without(network, test, ("audio",))
    told = json.loads((done / "both" / "seed-1" / "without.json").read_text())
    assert told["audio"]["MAE"] == pytest.approx(
        measured(DEFINITIONS["mosi"], without, test.labels)["MAE"], abs=1e-4
    )
    assert not np.allclose(whole, without)
    rng = np.random.default_rng(0)
    test.features["audio"].values[:] = rng.normal(size=test.features["audio"].values.shape)
    np.testing.assert_allclose(predicted_without(network, test, ("audio",)), without, atol=1e-5)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Of seed 3, with two conflicts and with none."""
    for arm, found in {"one": [True, False, True], "two": [False, False, False]}.items():
        folder = tmp_path / arm / "seed-3"
        folder.mkdir(parents=True)
        (tmp_path / arm / "config.json").write_text(json.dumps({"config": {"conflict": {"threshold": 2.0}}}))
        ratios = {"ratio_text": [3.0, float("inf"), 0.5], "ratio_audio": [1.0, 0.0, 1.0]}
        table = pyarrow.table({"epoch": [0, 0, 1], "conflict": found, **ratios})
        pyarrow.parquet.write_table(table, folder / "steps.parquet")
    return {arm: tmp_path / arm for arm in ("one", "two")}


@pytest.mark.parametrize(("arm", "marked"), [("one", [0, 2]), ("two", [])])
def test_a_panel_has_the_ratios_the_threshold_and_a_mark_a_conflict(
    runs: dict[str, Path], arm: str, marked: list[int]
) -> None:
    ax = Figure().subplots()
    ablation_report.draw(ax, **ablation_report.read_steps(arm, runs[arm], 3))
    lines = {line.get_label(): line for line in ax.lines}
    low, high = ax.get_ylim()
    assert ax.get_yscale() == "log"
    # What is infinite or nothing lies at the edge.
    assert lines["text"].get_ydata().tolist() == [3, high, 0.5]
    assert lines["audio"].get_ydata().tolist() == [1, low, 1]
    assert [lines[name].get_color() for name in ("text", "audio")] == ["#0072b2", "#d55e00"]
    assert {*lines["threshold"].get_ydata()} == {2.0}
    steps, ends = lines["conflict"].get_data()
    assert steps.tolist() == [step for step in marked for _ in range(3)]
    np.testing.assert_array_equal(ends, [low, high, np.nan] * len(marked))


def test_a_far_ratio_does_not_squeeze_the_rest() -> None:
    ax = Figure().subplots()
    ratios = {"text": [1e-9, 1.0, 1e9]}
    ablation_report.draw(ax, title="", ratios=ratios, conflicts=[False] * 3, threshold=2.0)
    assert ax.get_ylim() == pytest.approx((0.1 / 1.2, 100 * 1.2))


def test_the_picture_has_a_panel_an_arm_and_is_the_same_again(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        ablation_report.plot(tmp_path / name, runs, 3)
    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "two.svg").read_text()
    assert ">one, seed 3: conflicts in 67% of 3 steps<" in picture
    assert ">two, seed 3: conflicts in 0% of 3 steps<" in picture
    for words in ("text", "audio", "threshold", "conflict", "step"):
        assert picture.count(f">{words}<") == len(runs)


@pytest.mark.parametrize(
    ("t", "freedom"),
    [(12.7062, 1), (4.302653, 2), (3.182446, 3), (2.776445, 4), (2.570582, 5), (2.228139, 10)],
)
def test_students_distribution_has_its_tabled_points(t: float, freedom: int) -> None:
    assert two_sided(t, freedom) == pytest.approx(0.05, abs=1e-6)
    assert two_sided(-t, freedom) == two_sided(t, freedom)
    assert two_sided(0.0, freedom) == 1


def test_a_paired_t_is_the_mean_over_its_error() -> None:
    found = paired_t([0.1, 0.3, 0.2, 0.4, 0.5])
    assert found["t"] == pytest.approx(0.3 / (np.std([0.1, 0.3, 0.2, 0.4, 0.5], ddof=1) / np.sqrt(5)))
    assert found["freedom"] == 4
    assert paired_t([0.1]) == {"difference": 0.1, "t": None, "freedom": None, "p": None}
    assert paired_t([0.5, 0.5])["t"] is None


def test_a_run_against_itself_does_not_differ(done: Path) -> None:
    found = over_seeds(done / "both", done / "both", (1, 2))
    assert {each["difference"] for each in found.values()} == {0.0}
    rows = over_rows(done / "both", done / "both", (1, 2), 20)
    assert rows["metrics"]["MAE"]["difference"] == 0
    assert rows["metrics"]["MAE"]["p"] == 1
    assert rows["unit"] == "group"
    assert rows["units"] == 3  # videos of four clips
    assert rows["rows"] == 24  # from two seeds


def test_a_clip_is_of_its_video_where_its_id_says_so() -> None:
    assert group_of("a1b2$_$13") == "a1b2"
    assert group_of("puppet/7") == "puppet/7"


def test_a_metric_without_a_value_is_a_dash() -> None:
    assert mean_and_deviation([None, 0.5]) == "–"
    assert mean_and_deviation([0.5]) == "0.500"


@pytest.mark.slow
def test_it_starts_as_users_start_it(data: Path, tmp_path: Path) -> None:
    from tests import processes

    processes.run("benchmarks.fusion.ablation", command(data, tmp_path / "out", "cp"))
    assert json.loads((tmp_path / "out" / "study.json").read_text())["test"] is None
