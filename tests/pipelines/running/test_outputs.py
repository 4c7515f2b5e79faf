"""Outputs that are files, or inside what is read, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.running.outputs import check_output


def test_a_file_or_a_folder_below_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
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
