"""The loss of power at a change of the file system: what a disk may then hold, and the same command again.

A program's changes are replayed on a model of a disk. Names of a folder last once the folder was synced, the
content of a file once the file was; what was not may be there or not. From the folder of a program that was
stopped, and the log of its changes, these disks are made:

    empty, cut, zeros      all names are there; a file that was not synced is empty, half there, or of zeros
    undone                 no change of a name in a folder that was not synced is there
    undone in FOLDER       nor are those in this folder alone, while all others are there

The order in which a disk keeps what was not synced is free, so a marker may be there and what it vouches for
not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.findings import Trial
from tests.campaign.interception import Change, Fault
from tests.campaign.kills import Case, Left, Straight, cases, refusal, steps, straight, told
from tests.campaign.stages import Bench

SHORT_STEP, STEP = 20, 1  # of the changes, each how many-th is tried


@dataclass
class Folder:
    """A folder on the disk: its names as they are, and as they were when it was last synced.

    A name stands for another folder or for a file, by its inode.
    """

    names: dict[str, Folder | int] = field(default_factory=dict)
    synced: dict[str, Folder | int] = field(default_factory=dict)


@dataclass
class Disk:
    """The model.

    Attributes:
        top: The folder.
        path: Where it is.
        synced: The size of each file, by inode, that was synced after its last change.
    """

    path: Path
    top: Folder
    synced: dict[int, int]

    @classmethod
    def of(cls, path: Path) -> Disk:
        """A disk that holds a folder, all of it synced."""
        disk = cls(path, Folder(), {})
        disk._take(path, disk.top)
        return disk

    def _take(self, path: Path, folder: Folder) -> None:
        for entry in sorted(path.iterdir()) if path.is_dir() else ():
            if entry.is_dir():
                inner = Folder()
                self._take(entry, inner)
                folder.names[entry.name] = inner
            else:
                found = entry.stat()
                folder.names[entry.name], self.synced[found.st_ino] = found.st_ino, found.st_size
        folder.synced = dict(folder.names)

    def replay(self, changes: Iterable[Change]) -> None:
        """Make changes, in order."""
        for change in changes:
            if change.path == str(self.path):
                if change.what == "sync":
                    self.top.synced = dict(self.top.names)
                continue
            getattr(self, f"_{change.what}")(change)

    def _create(self, change: Change) -> None:
        folder, name = self._place(change.path)
        folder.names[name] = change.inode
        self.synced.pop(change.inode, None)

    def _mkdir(self, change: Change) -> None:
        folder, name = self._place(change.path)
        folder.names[name] = Folder()

    def _remove(self, change: Change) -> None:
        folder, name = self._place(change.path)
        folder.names.pop(name)

    def _rename(self, change: Change) -> None:
        source, name = self._place(change.path)
        self._notice(source, name, change.inode)
        target, other = self._place(change.other)
        target.names[other] = source.names.pop(name)

    def _sync(self, change: Change) -> None:
        folder, name = self._place(change.path)
        self._notice(folder, name, change.inode)
        there = folder.names[name]
        if isinstance(there, Folder):
            there.synced = dict(there.names)
        else:
            self.synced[there] = change.size

    def _write(self, change: Change) -> None:
        self.synced.pop(change.inode, None)

    _truncate = _open = _write

    @staticmethod
    def _notice(folder: Folder, name: str, inode: int) -> None:
        """See a rename that was made without the C library, as safetensors does."""
        other = next((each for each, there in folder.names.items() if there == inode), name)
        if other != name:
            folder.names[name] = folder.names.pop(other)

    def _place(self, path: str) -> tuple[Folder, str]:
        *outer, name = Path(path).relative_to(self.path).parts
        folder = self.top
        for part in outer:
            inner = folder.names[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name

    def unsynced(self) -> list[tuple[str, Folder]]:
        """The folders, with their paths, whose names were changed and not synced."""
        found, todo = [], [("", self.top)]
        while todo:
            path, folder = todo.pop()
            if folder.names != folder.synced:
                found.append((path, folder))
            inner = {**folder.synced, **folder.names}
            todo += [(f"{path}/{name}", each) for name, each in inner.items() if isinstance(each, Folder)]
        return sorted(found, key=lambda each: each[0])

    def write(
        self, path: Path, contents: dict[int, Path], undone: list[Folder], spoil: Callable[[bytes], bytes]
    ) -> None:
        """Write what is left of the disk to an empty folder.

        Args:
            path: The folder.
            contents: Where the content of each inode is.
            undone: The folders whose changes are lost.
            spoil: What becomes of the content of a file that was not synced.
        """
        self._write_folder(self.top, path, contents, undone, spoil)

    def _write_folder(
        self,
        folder: Folder,
        path: Path,
        contents: dict[int, Path],
        undone: list[Folder],
        spoil: Callable[[bytes], bytes],
    ) -> None:
        path.mkdir()
        lost = any(each is folder for each in undone)
        for name, there in (folder.synced if lost else folder.names).items():
            if isinstance(there, Folder):
                self._write_folder(there, path / name, contents, undone, spoil)
            elif there in contents:
                content = contents[there].read_bytes()
                (path / name).write_bytes(content if there in self.synced else spoil(content))


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
}


def disks(disk: Disk, left: Path, saved: Path, target: Path) -> Iterator[tuple[str, Path]]:
    """What a disk may hold, one after the other, each in the folder `target`, with what was lost.

    Args:
        disk: After the changes that were made.
        left: What the program left.
        saved: Files that lost their names, called by their inodes.
        target: A folder that is replaced.
    """
    contents = {int(path.name): path for path in saved.iterdir()}
    for folder, _, names in os.walk(left):
        contents |= {(path := Path(folder) / name).stat().st_ino: path for name in names}
    changed = disk.unsynced()
    everything = [folder for _, folder in changed]
    ways = [(name, [], spoil) for name, spoil in SPOILT.items()] + [("undone", everything, SPOILT["empty"])]
    if len(changed) > 1:
        ways += [(f"undone in {path or '.'}", [folder], SPOILT["empty"]) for path, folder in changed]
    for name, undone, spoil in ways:
        shutil.rmtree(target, ignore_errors=True)
        disk.write(target, contents, undone, spoil)
        yield name, target


def trials(bench: Bench, name: str, short: bool = False) -> Iterator[Trial]:
    """Lose power before every change of a stage, in a fresh folder and over work of another setting."""
    for plain in cases(bench, name):
        if "finished" in plain.name or "clip" in plain.name:
            continue
        case, run = straight(bench, plain)
        if run.ended.code:
            yield refusal(bench, case, run)
            continue
        yield from _losses(bench, case, run, SHORT_STEP if short else STEP)


def _losses(bench: Bench, case: Case, run: Straight, step: int) -> Iterator[Trial]:
    left, tried = Left(bench, case, run), []
    disk, made = Disk(bench.out, Folder(), {}), 0
    target = bench.folder / "bench" / "lost"
    for number, program in enumerate(steps(bench, case), start=1):
        if number == 1:
            disk = Disk.of(bench.out)
        changes = program.changes()
        disk.replay(changes[made:])
        made = len(changes)
        if number % step == 0:
            for way, folder in disks(disk, bench.out, program.scratch / "saved", target):
                tried.append((f"{told(run, Fault(change=number))}: {way}", left.keep(folder)))
    for name, digest in tried:
        yield Trial("power loss", case.name, name, left.findings(digest, whole=case.begin is None))
