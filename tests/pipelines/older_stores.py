"""Stores as earlier versions wrote them."""

from __future__ import annotations

from pathlib import Path

from pipelines.atomic import read_json_lines, write_json, write_json_lines
from pipelines.store_files.checksums import read_sealed, unsealed


def as_before(store: Path) -> None:
    """Make a store one without digests, as earlier versions wrote it."""
    card = (store / "README.md").read_text()
    for path in (store / "data").iterdir():
        plain = path.name.rpartition("-")[0] + ".parquet"
        card = card.replace(path.name, plain)
        path.rename(path.with_name(plain))
    (store / "README.md").write_text(card)
    for name in ("settings.json", "works.json"):
        write_json(store / name, read_sealed(store / name))
    records = [unsealed(record) for record in read_json_lines(store / "failures.jsonl")]
    write_json_lines(store / "failures.jsonl", records)
