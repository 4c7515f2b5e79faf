"""Finds the media file of a clip: corpus layouts give its name without the suffix."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.errors import reason
from pipelines.running.machine_faults import refuse_fault

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
        self._unreadable: dict[Path, str] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The media file `<name>.*` in a folder, or None."""
        if folder not in self._listings:
            # What comes first, a file of the first suffix, is written last.
            files = sorted(filter(is_clip, self._listed(folder)))
            files.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
            files.sort(key=os.path.isdir, reverse=True)
            self._listings[folder] = {path.stem: path for path in files}
        return self._listings[folder].get(name)

    def told(self, folder: Path, media_name: str) -> str:
        """The name of a file in a folder, for messages, with the reason if the folder cannot be read."""
        reason = self._unreadable.get(folder)
        return f"{media_name} ({reason})" if reason else media_name

    def _listed(self, folder: Path) -> list[Path]:
        try:
            return list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            refuse_fault(error, str(folder))
            self._unreadable[folder] = f"the folder cannot be read: {error.strerror or reason(error)}"
            return []


def is_clip(path: Path) -> bool:
    """Whether a file's name is that of a clip; macOS' `._` companion files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")
