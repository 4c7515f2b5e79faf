"""Outputs that are files, or inside what is read, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.running.outputs import KNOWN_BY, Content, check_content, check_file, check_output


def test_a_file_or_a_folder_below_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=r"^--out: .*a{300} cannot be made \(File name too long\)"):
        check_output(tmp_path / ("a" * 300), {})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for check in (lambda out: check_output(out, {}), lambda out: check_file(out, {}, overwrite=True)):
        with pytest.raises(UsageError, match=r"^--out: .*loop cannot be made \(Symlink loop|Too many levels"):
            check(tmp_path / "loop")
    for out in (file, file / "below"):
        with pytest.raises(UsageError, match=rf"^--out: {file} is a file; takes a folder"):
            check_output(out, {})


def test_an_input_and_what_is_inside_it_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "link").symlink_to(store)
    for out in (store, store / "new" / "out", tmp_path / "link" / "out", tmp_path / "a" / ".." / "store"):
        with pytest.raises(UsageError, match=r"^--out: .* is inside --data "):
            check_output(out, {"--data": store})
    check_output(tmp_path / "store2", {"--data": store})
    check_output(tmp_path, {"--data": store})


@pytest.mark.parametrize(
    ("held", "content"),
    [
        ("data/train-0.parquet", "a store"),
        ("parts/0.parquet", "a store"),
        ("model.json", "a fine-tuned model"),
        ("run_config.json", "a fine-tuned model"),
        ("seed-1/claim.json", "fusion networks"),
    ],
)
def test_a_folder_of_another_program_is_refused(tmp_path: Path, held: str, content: Content) -> None:
    check_content(tmp_path / "new", "a store")
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).touch()
    check_content(tmp_path, content)
    for other in KNOWN_BY.keys() - {content}:
        with pytest.raises(UsageError, match=rf"^--out: {tmp_path} holds {content} \({held.split('/')[0]}"):
            check_content(tmp_path, other)


def test_a_file_is_not_replaced_unless_asked_for(tmp_path: Path) -> None:
    store, file = tmp_path / "store", tmp_path / "file"
    store.mkdir()
    inputs = {"--data": store, "PICKLE": tmp_path / "pickle"}
    check_file(file, inputs, overwrite=False)
    file.touch()
    (tmp_path / "pickle").touch()
    check_file(file, inputs, overwrite=True)
    for out, message in {
        file: "exists; --overwrite replaces it",
        store: "is a folder; takes the path of a file",
        store / "data" / "file": "is inside --data",
        tmp_path / "pickle": "is PICKLE, which is read",
    }.items():
        with pytest.raises(UsageError, match=f"^--out: {out.parent}.* {message}"):
            check_file(out, inputs, overwrite=False)
