"""The dataset card of a store, its README.md: it names the data files and counts their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import RunError
from pipelines.row import SPLITS

CARD = "README.md"
_HEADER = re.compile(r"---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_COUNT = re.compile(rf"^\| ({'|'.join(SPLITS)}) \| (\d+) \|\r?$", re.MULTILINE)


class StoreError(RunError):
    """A folder is not a store, or a store has no such row, or is damaged."""


class DamagedStore(StoreError):
    """A file of a store does not hold what was written to it."""


@dataclass(frozen=True)
class Card:
    """What a card says of the data."""

    files: dict[str, list[str]]
    """Paths of data files, relative to the store, by split."""
    rows: dict[str, int]
    """Rows by split; empty if the card was written by another program."""

    def paths(self, directory: Path) -> list[Path]:
        """All data files, in the card's order."""
        return [directory / name for names in self.files.values() for name in names]


def is_store(directory: str | Path) -> bool:
    """Whether a folder holds a committed store."""
    return (Path(directory) / CARD).is_file()


def read_card(directory: Path) -> Card:
    """Read a store's card.

    Raises:
        StoreError: If there is none.
        DamagedStore: If it cannot be read, names no file, or one twice, or counts other splits than it names.
    """
    import yaml

    if not is_store(directory):
        raise StoreError(
            f"{directory}: not a store (no {CARD} dataset card there); make one with `daq-msa import`"
            " or give the --out folder of an earlier stage that has ended"
        )
    path = directory / CARD
    try:
        text = path.read_bytes().decode()
        header = _HEADER.match(text)
        files = _data_files(yaml.safe_load(header[1])) if header else {}
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DamagedStore(f"{path}: damaged: its YAML names no data files by split") from error
    names = [name for paths in files.values() for name in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"it names {', '.join(twice)} twice" if twice else "it names no data files"
        raise DamagedStore(f"{path}: damaged: {problem}")
    rows = {split: int(number) for split, number in _COUNT.findall(text)}
    if rows and rows.keys() != files.keys():
        problem = f"it names data files of {', '.join(files)} and counts rows of {', '.join(rows)}"
        raise DamagedStore(f"{path}: damaged: {problem}")
    return Card(files, rows)


def _data_files(header: dict[str, Any]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for config in header["configs"]:
        for split in config["data_files"]:
            files.setdefault(split["split"], []).extend(map(_path, split["path"]))
    return files


def _path(name: Any) -> str:
    if not isinstance(name, str) or "\0" in name:
        raise ValueError("a path is no text")
    return name


def render(files: Mapping[str, Sequence[str]], rows: Mapping[str, int], settings: Mapping[str, Any]) -> str:
    """The text of a card.

    Args:
        files: Paths of data files, relative to the store, by split.
        rows: Rows by split.
        settings: `title`, `description` and `versions`, and maybe `notes`.
    """
    from huggingface_hub import DatasetCardData

    header = DatasetCardData(
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": list(paths)} for split, paths in files.items()],
            }
        ],
        tags=["daq-msa", "multimodal-sentiment-analysis"],
        size_categories=None,
    )
    table = "\n".join(f"| {split} | {count} |" for split, count in rows.items())
    notes = "".join(f"{note}\n\n" for note in settings.get("notes", ()))
    made_by = "\n".join(f"- {name} {version}" for name, version in settings["versions"].items())
    return f"""---
{header.to_yaml()}
---
# {settings["title"]}

{settings["description"]}

{notes}| split | rows |
|---|---|
{table}

A row is one clip or one variant of one: `kind` says which, `source_id` names the original, `generator` holds
everything that is needed to make a variant again, and `weight` says how far the row is to be trusted (1 for
originals). Video is H.264 without sound, audio is mono FLAC at 16 kHz; both are bytes in the row and stay
undecoded when the dataset is loaded. `settings.json` has the whole configuration.

Made by

{made_by}
"""
