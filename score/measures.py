"""What was measured of each row, kept beside the store as `measures.parquet`.

The store has the signals. The pooled features and the calibration's pairs, which later rows are
judged with too, are here, so that a run that adds variants measures those alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.atomic import replacing
from pipelines.errors import RunError
from pipelines.runner import Stage, Work
from pipelines.sample import Row
from score.measurement import schema
from score.signals.catalogue import SIGNALS, column

FILE = "measures.parquet"


def collect(stage: Stage, works: Sequence[Work]) -> dict[int, Row]:
    """The results of all works that are done, by the position of their row in the store that was read.

    Raises:
        RunError: If the file that holds those of an earlier run is gone.
    """
    kept = _read(stage.directory)
    done = [work for work in works if stage.parts.done(work.key)]
    results = [_whole(kept.get(work.key) or stage.parts.get(work.key)) for work in done]
    if any("features" not in result for result in results):
        raise RunError(
            f"{stage.directory / FILE}: lacks rows that the store beside it has; remove {stage.directory}"
            " to measure them again"
        )
    _write(stage.directory, [{"key": work.key} | row for work, row in zip(done, results, strict=True)])
    return {work.payload[0]: result for work, result in zip(done, results, strict=True)}


def _whole(result: Row) -> Row:
    """A result with every signal: one of before a signal of a model came to be has none of it."""
    for case in result.get("cases") or ():
        case["signals"] = [*case["signals"], *[float("nan")] * (len(SIGNALS) - len(case["signals"]))]
    return dict.fromkeys(column(name) for name in SIGNALS) | result


def _read(directory: Path) -> dict[str, Row]:
    import pyarrow.parquet

    path = directory / FILE
    rows = pyarrow.parquet.read_table(path).to_pylist() if path.exists() else []
    return {row.pop("key"): row for row in rows}


def _write(directory: Path, rows: list[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = schema().insert(0, pyarrow.field("key", pyarrow.string()))
    with replacing(directory / FILE) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=columns), temporary)
