"""Which modalities a model is shown, and whether the rows have them: checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.errors import UsageError, listed
from pipelines.row import Modality
from pipelines.store import StoreReader


def shown_modalities(
    readable: Sequence[Modality], model: str, asked: Sequence[Modality] | None
) -> tuple[Modality, ...]:
    """The modalities that a model is shown: those of `finetune.modalities`, by default all that it reads.

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
    """Refuse rows that have none of the modalities that the model is shown.

    Args:
        reader: The store.
        chosen: Ids of rows, by their name in a message, such as `rows to train on`.
        shown: The modalities.
        named: Whether `finetune.modalities` names them; then some rows of each set must have each of them.

    Raises:
        UsageError: Naming the rows, or the modality that none of them has.
    """
    columns = {"text": "text", "audio": "has_audio", "video": "has_video"}  # an empty transcript is none
    rows = reader.table.select(["id", *columns.values()]).to_pylist()
    held = {row["id"]: {name for name, column in columns.items() if row[column]} for row in rows}
    for what, ids in chosen.items():
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
