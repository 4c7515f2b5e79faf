"""What of rows a model is shown, and whether they have it: asked before anything is decoded or trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.errors import UsageError, listed
from pipelines.row import Modality
from pipelines.store import StoreReader


def shown_modalities(
    readable: Sequence[Modality], model: str, asked: Sequence[Modality] | None
) -> tuple[Modality, ...]:
    """What a model is shown of a row.

    Args:
        readable: What models of its family read.
        model: Its name, for the message.
        asked: `finetune.modalities`; None for all that it reads.

    Raises:
        UsageError: If the model does not read one of them.
    """
    unread = [name for name in asked or () if name not in readable]
    if unread:
        raise UsageError(
            f"finetune.modalities: {model!r} does not read {', '.join(unread)}; takes {', '.join(readable)}"
        )
    return tuple(readable if asked is None else asked)


def check_shown(
    reader: StoreReader, chosen: Mapping[str, Sequence[str]], shown: Sequence[Modality], *, named: bool
) -> None:
    """Refuse rows that have nothing of what the model is shown.

    Args:
        reader: The store.
        chosen: Ids of rows, by what they are in a message, as `rows to train on`.
        shown: What the model is shown of a row.
        named: Whether `finetune.modalities` names it; then of each set of rows some must have each of them.

    Raises:
        UsageError: Naming the rows, or the modality that none of them has.
    """
    for what, ids in chosen.items():
        held = _held(reader, ids)
        without = [row_id for row_id in ids if not held[row_id] & set(shown)]
        if without:
            key = "finetune.modalities: got" if named else "finetune.model: it reads"
            raise UsageError(
                f"{key} {', '.join(shown)}, and {len(without)} of the {len(ids)} {what} in {reader.directory}"
                f" have none of it: {listed(without)}; leave them out of the store, or show"
                " what they have"
            )
        nowhere = [name for name in shown if not any(name in held[row_id] for row_id in ids)]
        if named and nowhere:
            raise UsageError(
                f"finetune.modalities: got {', '.join(shown)}, and none of the {len(ids)} {what} in"
                f" {reader.directory} has {' or '.join(nowhere)}; take that out"
            )


def _held(reader: StoreReader, ids: Sequence[str]) -> dict[str, set[str]]:
    """The modalities that rows have, by id; an empty transcript is none."""
    wanted = set(ids)
    columns = {"text": "text", "audio": "has_audio", "video": "has_video"}
    rows = reader.table.select(["id", *columns.values()]).to_pylist()
    return {
        row["id"]: {name for name, column in columns.items() if row[column]}
        for row in rows
        if row["id"] in wanted
    }
