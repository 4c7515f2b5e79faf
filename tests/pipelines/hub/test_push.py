"""Pushing by the real client to a stand-in Hub, and reading back by the real `load_dataset`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UsageError
from pipelines.hub.push import files_of, push
from pipelines.row import digest
from pipelines.store import commit
from pipelines.store_files.checksums import unsealed
from tests.hub_server import StandInHub
from tests.pipelines.hub.conftest import SETTINGS, make_store, rows

PUSH = ("-m", "pipelines", "push")


def test_a_pushed_store_loads_back_row_by_row(client: Any, hub: StandInHub, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    pushed = client(*PUSH, store, "ann/clips")
    assert pushed.returncode == 0, pushed.stderr
    assert "10 rows in 6 files, sizes and checksums as sent" in pushed.stdout
    repository = hub.repositories["ann/clips"]
    assert repository.private
    assert {path for path in repository.files if not path.startswith("data/")} == {
        "README.md",
        "settings.json",
        "failures.jsonl",
    }
    assert unsealed(json.loads(repository.files["settings.json"].content)) == SETTINGS
    compared = client(
        "-c",
        f"""
import datasets
here = datasets.load_dataset({str(store)!r})
there = datasets.load_dataset("ann/clips")
assert set(here) == set(there) == {{"train", "valid", "test"}}
for split in here:
    assert here[split].features == there[split].features
    assert here[split].to_list() == there[split].to_list()
print(sum(len(rows) for rows in there.values()), "equal rows")
""",
    )
    assert compared.returncode == 0, compared.stderr
    assert "10 equal rows" in compared.stdout


def test_pushing_again_replaces_and_sends_nothing_twice(client: Any, hub: StandInHub, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    assert client(*PUSH, store, "ann/clips", "--public").returncode == 0
    repository = hub.repositories["ann/clips"]
    assert not repository.private
    before = set(repository.files)
    repository.commit(repository.files | {"LICENSE": next(iter(repository.files.values()))})
    hub.requests.clear()
    assert client(*PUSH, store, "ann/clips", "--public").returncode == 0
    assert not [request for request in hub.requests if request.method == "PUT"]

    commit(store, rows("puppets", 3), generation=digest("b"), settings=SETTINGS)
    assert client(*PUSH, store, "ann/clips", "--public").returncode == 0
    after = set(repository.files)
    assert {path for path in after if path.startswith("data/")}.isdisjoint(before)
    assert "LICENSE" in after


def test_dry_run_needs_no_hub_and_no_token(
    hub: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "store")
    assert push(store, "ann/clips", dry_run=True) is None
    shown = capsys.readouterr().out
    for path in files_of(store):
        assert f"{(store / path).stat().st_size:,}  {path}" in shown
    total = sum(path.stat().st_size for path in (store / "data").iterdir())
    total += sum((store / name).stat().st_size for name in ("README.md", "settings.json", "failures.jsonl"))
    assert f"{total:,}  bytes in 6 files" in shown
    assert "parts" not in shown
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "ann/clips", "hf auth login"),
        ("hf_unknown", "ann/clips", "does not accept the access token"),
        ("hf_of-bob", "ann/clips", "may not write to 'ann'"),
    ],
)
def test_without_the_right_to_write(
    client: Any, hub: StandInHub, tmp_path: Path, token: str | None, repo_id: str, message: str
) -> None:
    done = client(*PUSH, make_store(tmp_path / "store"), repo_id, token=token)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert token is None or token not in done.stdout + done.stderr
    assert hub.repositories == {}


def test_an_existing_repository_of_the_other_visibility_is_left_alone(
    client: Any, hub: StandInHub, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store")
    assert client(*PUSH, store, "ann/clips", "--public").returncode == 0
    head = hub.repositories["ann/clips"].head
    done = client(*PUSH, store, "ann/clips")
    assert "exists and is public, so nothing was sent" in done.stderr
    assert hub.repositories["ann/clips"].head == head


def test_a_file_that_did_not_arrive_is_noticed(client: Any, hub: StandInHub, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    lost = next(files_of(store))
    hub.loses = {lost}
    done = client(*PUSH, store, "ann/clips")
    assert done.returncode == 1
    assert f"{lost} " in done.stderr
    assert "it is not there" in done.stderr


def test_refusal_is_lifted_by_the_option(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", corpus="mosi", count=3)
    with pytest.raises(UsageError, match=r"arXiv:1606\.06259"):
        push(store, "ann/clips", dry_run=True)
    assert push(store, "ann/clips", dry_run=True, i_have_the_rights=True) is None


@pytest.mark.parametrize(
    ("repo_id", "message"), [("clips", "lacks its owner"), ("a/b/c", "no name"), ("a/b c", "no")]
)
def test_names(tmp_path: Path, repo_id: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        push(tmp_path, repo_id)
