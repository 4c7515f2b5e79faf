"""Fixtures of the fusion model's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.fusion.features.arrays import FeatureSet
from finetune.fusion.features.mmsa_pickle import from_pickle
from tests.finetune.fusion.made import mmsa_content, write


@pytest.fixture(autouse=True)
def own_precision() -> Iterator[None]:
    """accelerate holds one precision a process; each test begins and ends without one."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature pickle in MMSA's layout."""
    return write(tmp_path_factory.mktemp("data") / "features.pkl", mmsa_content())


@pytest.fixture(scope="module")
def features(data: Path) -> FeatureSet:
    """What is in it."""
    return from_pickle(data, ("text", "audio", "video"))
