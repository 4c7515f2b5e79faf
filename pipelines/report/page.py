"""Write a store's report: `index.html` and a folder of media, opened from disk without a server.

The page loads nothing from elsewhere, and its content security policy forbids it. Transcripts, ids and
settings are untrusted text and are escaped. Rows are read and written one family at a time, so memory does
not grow with the store's media.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.atomic import replacing
from pipelines.errors import UsageError
from pipelines.report.clips import MediaFolder, families, select
from pipelines.report.summary import BINS, summarize
from pipelines.running.folder_lock import FolderLock
from pipelines.running.outputs import check_output
from pipelines.store import StoreReader

TEMPLATES = Path(__file__).with_name("templates")


def write_report(store: Path, out: Path, *, model: Path | None = None, limit: int | None = None) -> Path:
    """Write the report of a store; an earlier one in the same folder is replaced.

    Args:
        store: The store's folder.
        out: The report's folder, made if it is missing.
        model: A model's folder, whose `metrics.json` is shown.
        limit: The number of originals to show, those with variants first; None shows all. The numbers
            at the top always count the whole store.

    Returns:
        The page to open.

    Raises:
        StoreError: If there is no store.
        UsageError: If `limit` is below 1, nothing can be written in `out`, or that is inside the store.
        RunError: If the model has no metrics, or another run writes in `out`.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: got {limit}; takes 1 or more")
    reader = StoreReader(store)
    check_output(out, {"STORE": store})
    summary = summarize(reader, model)
    chosen = select(reader, limit)
    with FolderLock(out):
        media = MediaFolder(out)
        parts = _render(
            summary=summary,
            families=families(reader, chosen, media),
            shown=len(chosen),
            shown_variants=sum(len(rows) - 1 for rows in chosen),
            bins=BINS,
        )
        with replacing(out / "index.html") as temporary, temporary.open("w", encoding="utf-8") as page:
            page.writelines(parts)
        media.sweep()
    return out / "index.html"


def _render(**values: Any) -> Iterator[str]:
    """The page, piece by piece, so that families are read as they are needed."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": duration}
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values |= {"script": script, "script_hash": f"sha256-{digest}"}
    values["style"] = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template("index.html.jinja").generate(**values)


def number(value: float | None, digits: int = 2) -> str:
    """A number as the page shows it, with a real minus sign; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
