"""Each epoch is rated on the split valid, and the best is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from finetune import evaluation
from finetune.__main__ import main
from finetune.msa_metrics import DEFINITIONS, OF_CORPUS
from finetune.settings import BestBy, FinetuneConfig
from finetune.training.trainer import WeightedTrainer
from finetune.training.validation import metric_names
from pipelines.durable.checkpoints import MARKER
from pipelines.errors import UsageError
from pipelines.row import SPLITS
from pipelines.store_files.checksums import write_sealed
from tests import tiny

FILES = ("adapter_model.safetensors", "head.safetensors")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        tiny.row(n, split) for split, count in (("train", 6), ("valid", 4), ("test", 3)) for n in range(count)
    ]
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


def arguments(store: Path, thinker: Path, out: Path, **settings: Any) -> list[str]:
    """Three steps an epoch."""
    chosen = {
        "model": thinker,
        "epochs": 6,
        "batch_size": 2,
        "lora_rank": 2,
        "best_by": "MAE",
        "log_every": 1,
    }
    chosen |= settings
    options = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(out), *options]


def log(out: Path, name: str) -> list[Any]:
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [entry[name] for entry in entries if name in entry]


def metrics(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float | None], name: str = "MAE") -> None:
    """Let each epoch, by its number, be worth what is written here."""

    def metrics_of_epoch(trainer: WeightedTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        trainer.validate = lambda: {name: values[round(trainer.state.epoch or 0) - 1]}
        return evaluate(trainer, *args, **kwargs)

    evaluate = WeightedTrainer.evaluate
    monkeypatch.setattr(WeightedTrainer, "evaluate", metrics_of_epoch)


def assert_equal_ends(one: Path, other: Path) -> None:
    for name in FILES:
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize(("best_by", "choose"), [("MAE", min), ("Corr", max)])
def test_the_best_epoch_is_kept(
    store: Path, tiny_thinker: Path, tmp_path: Path, best_by: str, choose: Any
) -> None:
    main(arguments(store, tiny_thinker, tmp_path, best_by=best_by, head_learning_rate=2.0))
    rated = log(tmp_path, f"eval_{best_by}")
    assert len(rated) == 6
    assert rated[-1] != choose(rated), "the last epoch is the best: this test could not fail"
    found = metrics(tmp_path)
    assert found["kept"] == {"epoch": rated.index(choose(rated)) + 1, "by": best_by}
    assert found["valid"]["after"][best_by] == choose(rated)
    assert found["valid"]["after"]["rows"] == 4
    assert list(found) == ["valid", "test", "kept"]
    told = f"Epoch {found['kept']['epoch']} was kept, the best on the split valid by {best_by}."
    assert told in (tmp_path / "README.md").read_text()


def test_the_kept_model_is_the_saved_one(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    """What is in the folder rates valid as the log says of the best epoch."""
    main(arguments(store, tiny_thinker, tmp_path, head_learning_rate=2.0))
    kept = metrics(tmp_path)["kept"]["epoch"]
    evaluation.main(["--model", str(tmp_path), "--data", str(store), "--split", "valid", "--overwrite"])
    assert metrics(tmp_path)["valid"]["after"]["MAE"] == pytest.approx(log(tmp_path, "eval_MAE")[kept - 1])
    assert_equal_ends(tmp_path, tmp_path / "checkpoints" / f"checkpoint-{3 * kept}")


@pytest.mark.parametrize(
    ("patience", "epochs", "kept"), [(None, 6, 6), (1, 3, 2), (2, 4, 2), (3, 6, 6)], ids=str
)
def test_patience_ends_the_training(
    store: Path,
    tiny_thinker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience: int | None,
    epochs: int,
    kept: int,
) -> None:
    scripted(monkeypatch, [0.9, 0.5, 0.6, 0.5, 0.4, 0.3])
    settings = {"save_every": 2} | ({"patience": patience} if patience else {})
    main(arguments(store, tiny_thinker, tmp_path, **settings))
    assert len(log(tmp_path, "loss")) == 3 * epochs
    assert metrics(tmp_path)["kept"]["epoch"] == kept
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["done"], status["left"]) == ("done", 6 * epochs, 0)


def test_a_run_killed_when_patience_was_spent_does_not_train_on(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.9, 0.5, 0.6, 0.5, 0.4, 0.3])
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    main(arguments(store, tiny_thinker, straight, patience=2))

    def die(trainer: WeightedTrainer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WeightedTrainer, "load_best", die)
        with pytest.raises(KeyboardInterrupt):
            main(arguments(store, tiny_thinker, killed, patience=2))
    main(arguments(store, tiny_thinker, killed, patience=2))
    assert log(killed, "loss") == log(straight, "loss")
    assert metrics(killed) == metrics(straight)
    assert_equal_ends(killed, straight)


def test_killed_in_writing_a_checkpoint_the_one_before_is_still_there(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the best: three are kept."""
    scripted(monkeypatch, [0.5, 0.9, 0.9, 0.9, 0.9, 0.9])

    def die(path: Path, content: dict[str, int]) -> None:
        if content["step"] == 12:
            raise KeyboardInterrupt
        write_sealed(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.durable.checkpoints.write_sealed", die)
        with pytest.raises(KeyboardInterrupt):
            main(arguments(store, tiny_thinker, tmp_path))
    whole = sorted(path.parent.name for path in tmp_path.glob(f"checkpoints/*/{MARKER}"))
    assert whole == ["checkpoint-3", "checkpoint-9"]
    main(arguments(store, tiny_thinker, tmp_path))
    assert metrics(tmp_path)["kept"]["epoch"] == 1
    assert len(log(tmp_path, "loss")) == 18


def test_a_moved_folder_still_knows_its_best_epoch(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.5, 0.9, 0.9, 0.9, 0.9, 0.9])
    main(arguments(store, tiny_thinker, tmp_path / "before"))
    moved = (tmp_path / "before").rename(tmp_path / "after")
    expected = metrics(moved)
    main(arguments(store, tiny_thinker, moved))
    assert metrics(moved) == expected
    assert expected["kept"]["epoch"] == 1


def test_where_a_metric_never_has_a_value_the_last_epoch_is_kept(
    store: Path,
    tiny_thinker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scripted(monkeypatch, [None, None], "Corr")
    main(arguments(store, tiny_thinker, tmp_path, best_by="Corr", epochs=2))
    assert metrics(tmp_path)["kept"] == {"epoch": None, "by": "Corr"}
    assert log(tmp_path, "eval_Corr") == []
    assert "Corr had no value on the split valid; the last epoch is kept" in capsys.readouterr().out
    assert_equal_ends(tmp_path, tmp_path / "checkpoints" / "checkpoint-6")


def test_without_best_by_nothing_is_validated(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WeightedTrainer, "evaluate", None)
    main(arguments(store, tiny_thinker, tmp_path, best_by="none", epochs=1))
    assert list(metrics(tmp_path)) == ["test"]


def test_a_store_without_a_split_valid_is_refused(tiny_thinker: Path, tmp_path: Path) -> None:
    store = tiny.store(tmp_path / "store", [tiny.row(0), tiny.row(1, "test")])
    with pytest.raises(UsageError, match=r"finetune.best_by: got MAE, .* no originals in the split valid"):
        main(arguments(store, tiny_thinker, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_metric_of_another_scale_is_refused(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"finetune.best_by: got Accuracy; .* mosi it takes none, Has0_acc_2"
    ):
        main(arguments(store, tiny_thinker, tmp_path, best_by="Accuracy"))


def test_a_corpus_with_metrics_of_its_own_is_judged_by_them(tiny_thinker: Path, tmp_path: Path) -> None:
    rows = [tiny.row(n, split, corpus="meld", scale="sims", label=0.0) for split in SPLITS for n in range(2)]
    store = tiny.store(tmp_path / "store", rows)
    with pytest.raises(UsageError, match=r"finetune.best_by: got Mult_acc_2; .* takes none, Accuracy, F1_sc"):
        main(arguments(store, tiny_thinker, tmp_path, best_by="Mult_acc_2"))
    main(arguments(store, tiny_thinker, tmp_path, best_by="Accuracy", epochs=1))
    assert "Accuracy" in metrics(tmp_path)["valid"]["after"]


def test_patience_needs_something_to_wait_for() -> None:
    with pytest.raises(ValueError, match="patience: got 2, takes a best_by beside it"):
        FinetuneConfig(patience=2)
    with pytest.raises(ValueError, match="patience: got 0, takes 1 or more"):
        FinetuneConfig(patience=0, best_by="MAE")


def test_every_metric_can_be_chosen_by() -> None:
    known = {name for each in (DEFINITIONS | OF_CORPUS).values() for name in metric_names(each)}
    assert known == set(get_args(BestBy)) - {"none"}
