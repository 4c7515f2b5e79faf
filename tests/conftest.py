"""Fixtures that all tests share."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

if "HF_HOME" not in os.environ:  # the Hub's client keeps answers there, also those of a stand-in
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="daq-msa-tests-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Their tests start whole runs. Begun last, they would keep one process busy and leave the other idle.
LONGEST = ("test_pipeline.py", "test_fsdp.py", "test_milestones.py", "test_processes.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; the order of all others stays."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media, annotations and reference outputs that lies beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder of real media and labels at {folder}")
    return folder
