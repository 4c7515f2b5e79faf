"""Which file in a folder is the clip of a name: layouts give the name without its ending."""

from __future__ import annotations

from pathlib import Path

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
# Where a folder holds several files of one name, the first of these endings is the clip.
SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"),
    *AUDIO_SUFFIXES,
)


class ClipFolders:
    """Finds clips by name, reading each folder once."""

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The media file `<name>.*` in a folder, or None."""
        if folder not in self._listings:
            self._listings[folder] = _listing(folder)
        return self._listings[folder].get(name)


def is_clip(path: Path) -> bool:
    """Whether a file's name is that of a clip; macOS' `._` companions are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def _listing(folder: Path) -> dict[str, Path]:
    files = sorted(filter(is_clip, folder.iterdir())) if folder.is_dir() else []
    by_rank = sorted(files, key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in by_rank}
