"""The digest of a folder, by which a checkpoint is known again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.provenance import folder_digest


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one").write_bytes(b"1")
    before = folder_digest(tmp_path)
    (tmp_path / "b" / "one").write_bytes(b"2")
    other_content = folder_digest(tmp_path)
    (tmp_path / "b" / "one").rename(tmp_path / "b" / "two")
    assert len({before, other_content, folder_digest(tmp_path)}) == 3


def test_names_that_are_no_utf8_are_told_apart(tmp_path: Path) -> None:
    digests = set()
    for name in (b"\xff", b"\xfe"):
        try:
            path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
            path.touch()
        except OSError:
            pytest.skip("this file system takes no such names")
        digests.add(folder_digest(tmp_path))
        path.unlink()
    assert len(digests) == 2
