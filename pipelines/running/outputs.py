"""Where a program may write: nothing inside what it reads, and nothing of another kind than it makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pipelines.errors import UsageError, reason

Content = Literal["a store", "a fine-tuned model", "fusion networks"]
# By what is in a folder from the first minutes of a run on, as patterns of names.
KNOWN_BY: dict[Content, tuple[str, ...]] = {
    "a store": ("data/*.parquet", "parts"),
    "a fine-tuned model": ("model.json", "run_config.json", "begun.json"),
    "fusion networks": ("seed-*/claim.json", "seed-*/metrics.json"),
}


def check_output(out: Path, inputs: Mapping[str, Path], key: str = "--out") -> None:
    """Refuse an output that can be no folder, or is inside an input, whose files it would be taken for.

    Args:
        out: The folder that will be written; it need not exist.
        inputs: What is read, by the options that name it.
        key: The option that names the output.

    Raises:
        UsageError: Naming the paths.
    """
    try:
        place = out.resolve()
        there = next(path for path in (place, *place.parents) if path.exists())
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a null character
        told = getattr(error, "strerror", None) or reason(error)
        raise UsageError(f"{key}: {out} cannot be made ({told}); give another place") from error
    if not there.is_dir():
        raise UsageError(f"{key}: {there} is a file; takes a folder, name another")
    for name, path in inputs.items():
        if place == path.resolve() or path.resolve() in place.parents:
            raise UsageError(f"{key}: {out} is inside {name} {path}, which is read; name a folder outside it")


def check_content(out: Path, makes: Content, key: str = "--out") -> None:
    """Refuse a folder that holds what another program makes, whose files have the same names.

    Args:
        out: The folder that will be written; it need not exist.
        makes: What the program makes there.
        key: The option that names the folder.

    Raises:
        UsageError: Naming what the folder holds.
    """
    for content, patterns in KNOWN_BY.items():
        found = next((path for pattern in patterns for path in out.glob(pattern)), None)
        if content != makes and found is not None:
            raise UsageError(
                f"{key}: {out} holds {content} ({found.relative_to(out)}), of which files would be replaced;"
                " choose another folder"
            )


def check_file(out: Path, inputs: Mapping[str, Path], *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, is inside an input, or would replace another.

    Args:
        out: The file that will be written; it need not exist.
        inputs: What is read, by the options that name it.
        overwrite: Whether a file of that name is replaced.

    Raises:
        UsageError: Naming the paths.
    """
    check_output(out.parent, inputs)
    try:
        is_there, place = out.exists(), out.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"--out: {out} cannot be made ({reason(error)}); give another place") from error
    if out.is_dir():
        raise UsageError(f"--out: {out} is a folder; takes the path of a file")
    for name, path in inputs.items():
        if place == path.resolve():
            raise UsageError(f"--out: {out} is {name}, which is read; name another file")
    if is_there and not overwrite:
        raise UsageError(f"--out: {out} exists; --overwrite replaces it, or name another file")
