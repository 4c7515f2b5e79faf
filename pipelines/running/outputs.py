"""Where a program may write: a folder, or a new one, that is not inside what the program reads."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import UsageError


def check_output(out: Path, inputs: dict[str, Path], key: str = "--out") -> None:
    """Refuse an output that is no folder, or inside an input, whose files it would be taken for.

    Args:
        out: The folder that will be written; it need not exist.
        inputs: What is read, by the options that name it.
        key: The option that names the output.

    Raises:
        UsageError: Naming the paths.
    """
    place = out.resolve()
    file = next((path for path in (place, *place.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise UsageError(f"{key}: {file} is a file; takes a folder, name another")
    for name, path in inputs.items():
        if place == path.resolve() or path.resolve() in place.parents:
            raise UsageError(f"{key}: {out} is inside {name} {path}, which is read; name a folder outside it")
