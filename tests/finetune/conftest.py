"""Tiny models, shared by the tests of this package."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.model.loading import BaseModel
from tests import tiny
from tests.finetune.family_inputs import load
from tests.tiny_families import BUILDERS


@pytest.fixture(scope="session")
def tiny_thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny thinker and its processor."""
    return tiny.thinker(tmp_path_factory.mktemp("thinker"))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    """A model of each family, loaded as a user's would be; not to be changed."""
    return {name: load(build(tmp_path_factory.mktemp(name))) for name, build in BUILDERS.items()}
