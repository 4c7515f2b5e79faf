"""A tiny omni thinker, shared by the tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def tiny_thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny thinker and its processor."""
    return tiny.thinker(tmp_path_factory.mktemp("thinker"))
