"""Stores to push, and a stand-in Hub that the real client talks to, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from pipelines.row import digest, media, new_row, variant_id
from pipelines.store import commit
from tests.hub_server import StandInHub

TOKEN = "hf_a-secret-that-must-not-be-seen"
SETTINGS = {"title": "T", "description": "D", "stage": "import", "command": "c", "versions": {"python": "3"}}


def rows(corpus: str, count: int) -> list[dict[str, Any]]:
    """Originals, each with a variant; media are bytes that nothing decodes, some are missing."""
    made = []
    for number in range(count):
        source = f"{corpus}/speaker/{number:02d}"
        common = {
            "source_id": source,
            "split": ("train", "valid", "test")[number % 3],
            "text": f"text {number} ünï\n",
            "label": number / 2,
            "corpus": corpus,
            "audio": media(bytes([number]) * 500) if number % 2 else None,
        }
        made.append(new_row(id=source, kind="original", video=media(b"picture%d" % number), **common))
        twin = variant_id(source, "video", 0)
        made.append(
            new_row(id=twin, kind="video", video=media(os.urandom(3000)), **common) | {"weight": 0.25}
        )
    return made


def make_store(folder: Path, corpus: str = "puppets", count: int = 5, generation: str = "a") -> Path:
    commit(folder, rows(corpus, count), generation=digest(generation), settings=SETTINGS)
    (folder / "failures.jsonl").write_text('{"id": "x"}\n')
    (folder / "status.json").write_text("{}")
    (folder / "parts" / "ab").mkdir(parents=True)
    (folder / "parts" / "ab" / "left.parquet").write_bytes(b"half of something")
    return folder


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub({TOKEN: "ann", "hf_of-bob": "bob"}) as hub:
        yield hub


@pytest.fixture
def client(hub: StandInHub, tmp_path: Path) -> Any:
    """Runs Python with arguments, so that the client reads its endpoint as it does for a user."""

    def run(*arguments: object, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        ours = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_DISABLE_XET": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = kept | ours | ({"HF_TOKEN": token} if token else {})
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert TOKEN not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def here(hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The Hub of this process."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    path = str(tmp_path / "agents.json")
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", path, raising=False)
    disable_progress_bars()
    yield hub
    enable_progress_bars()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each wait, which takes no time."""
    made: list[float] = []
    monkeypatch.setattr("pipelines.hub.request_retries.sleep", made.append)
    return made
