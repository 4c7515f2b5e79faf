"""Finds the media file of a clip: corpus layouts give its name without the suffix."""

from __future__ import annotations

from pathlib import Path

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
# If a folder has several files of one name, the first of these suffixes is the clip.
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
            files = sorted(filter(is_clip, folder.iterdir())) if folder.is_dir() else []
            # The suffix that comes first is written last.
            files.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
            self._listings[folder] = {path.stem: path for path in files}
        return self._listings[folder].get(name)


def is_clip(path: Path) -> bool:
    """Whether a file's name is that of a clip; macOS' `._` companion files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")
