"""Rows without what a model is to be shown stop a run before its first step, and are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune import evaluation
from finetune.__main__ import main
from finetune.inputs.shown_modalities import check_shown
from pipelines.errors import UsageError
from pipelines.row import Modality
from pipelines.store import StoreReader
from tests import tiny, tiny_families
from tests.finetune.test_run import arguments

NO_MEDIA: dict[str, Any] = dict.fromkeys(("video", "audio", "duration_s", "fps"))
SPLITS = ("train", "valid", "test")


def mixed() -> list[dict[str, Any]]:
    """In each split a row of text alone, of picture alone, of sound alone, and of all three."""
    return [
        row
        for split in SPLITS
        for row in (
            tiny.row(0, split, **NO_MEDIA),
            tiny.row(1, split, audio=None, text=""),
            tiny.row(2, split, video=None, text="", fps=None),
            tiny.row(3, split),
        )
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.store(tmp_path_factory.mktemp("store"), mixed())


def check(store: Path, shown: tuple[Modality, ...], named: bool = True) -> None:
    ids = [f"tiny/train/{number}" for number in range(4)]
    check_shown(StoreReader(store), {"rows to train on": ids}, shown, named=named)


@pytest.mark.parametrize(
    ("shown", "without"),
    [
        (("text",), "2 of the 4 rows to train on in .* tiny/train/1, tiny/train/2;"),
        (("audio",), "2 of the 4 rows to train on in .* tiny/train/0, tiny/train/1;"),
        (("video", "audio"), "1 of the 4 rows to train on in .* tiny/train/0;"),
        (("text", "audio"), "1 of the 4 rows to train on in .* tiny/train/1;"),
    ],
)
def test_a_row_needs_one_of_what_is_shown(store: Path, shown: tuple[Modality, ...], without: str) -> None:
    with pytest.raises(UsageError, match=rf"finetune\.modalities: got {', '.join(shown)}, and {without}"):
        check(store, shown)
    with pytest.raises(UsageError, match=rf"finetune\.model: it reads {', '.join(shown)}, and {without}"):
        check(store, shown, named=False)


def test_rows_may_lack_some_of_it(store: Path) -> None:
    check(store, ("text", "audio", "video"))


def test_many_rows_are_counted_and_some_named(tmp_path: Path) -> None:
    store = tiny.store(tmp_path, [tiny.row(number, **NO_MEDIA) for number in range(9)])
    ids = [f"tiny/train/{number}" for number in range(9)]
    with pytest.raises(UsageError, match=r"9 of the 9 rows .*: tiny/train/0, .*/4 and 4 more; leave"):
        check_shown(StoreReader(store), {"rows": ids}, ["audio"], named=True)


def test_what_is_named_and_nowhere_is_refused(tmp_path: Path) -> None:
    store = tiny.store(tmp_path, [tiny.row(number, video=None) for number in range(4)])
    with pytest.raises(
        UsageError, match=r"got text, video, and none of the 4 rows .* has video; take that out"
    ):
        check(store, ("text", "video"))
    check(store, ("text", "video"), named=False)


@pytest.mark.parametrize("rated", ["test", "valid"])
def test_a_run_is_refused_before_its_folder_is_begun(tmp_path: Path, tiny_thinker: Path, rated: str) -> None:
    rows = [tiny.row(number, split) for split in SPLITS for number in range(3)]
    silent = [row | {"audio": None} if row["id"] == f"tiny/{rated}/1" else row for row in rows]
    store = tiny.store(tmp_path / "store", silent)
    given = arguments(store, tiny_thinker, tmp_path / "out", modalities="[audio]", best_by="MAE")
    with pytest.raises(UsageError, match=rf"1 of the 3 originals of {rated} .*: tiny/{rated}/1;"):
        main(given)
    assert not (tmp_path / "out").exists()
    main(arguments(store, tiny_thinker, tmp_path / "out", modalities="[audio,text]", best_by="MAE", epochs=1))


def test_a_dry_run_is_refused_too(store: Path, tiny_thinker: Path) -> None:
    given = ["--data", str(store), "--finetune.model", str(tiny_thinker), "--finetune.modalities", "[video]"]
    with pytest.raises(UsageError, match="2 of the 4 rows to train on"):
        main([*given, "--dry-run"])


def test_a_text_model_is_told_of_rows_without_words(tmp_path: Path, store: Path) -> None:
    model = tiny_families.qwen2(tmp_path / "model")
    with pytest.raises(UsageError, match=r"finetune\.model: it reads text, and 2 of the 4 rows to train on"):
        main(arguments(store, model, tmp_path / "out"))
    spoken = tiny.store(tmp_path / "store", [row | {"text": row["text"] or "words"} for row in mixed()])
    main(arguments(spoken, model, tmp_path / "out", epochs=1))


def test_rows_that_are_rated_are_checked(tmp_path: Path, tiny_thinker: Path) -> None:
    rows = [tiny.row(number, split) for split in SPLITS for number in range(2)]
    store = tiny.store(tmp_path / "store", rows)
    main(arguments(store, tiny_thinker, tmp_path / "out", modalities="[audio]", epochs=1))
    mute = tiny.store(tmp_path / "mute", [row | {"audio": None} for row in rows])
    with pytest.raises(
        UsageError, match=r"got audio, and 2 of the 2 originals of test in .* have none of it"
    ):
        evaluation.main(["--model", str(tmp_path / "out"), "--data", str(mute)])
