"""Damage: each file of a stage's folder is emptied, cut, changed or removed, and the command given again."""

from __future__ import annotations

import multiprocessing
import os
import platform
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pipelines.__main__ import main
from pipelines.atomic import DamagedFile, read_json_lines, write_json
from pipelines.errors import RowError, RunError
from pipelines.row import Row, features
from pipelines.runner import RunSettings, Stage, StageFailed
from pipelines.store import DamagedStore, StoreReader, committed_generation, made_by, open_store
from pipelines.store_files.checking import DamageFound, check
from pipelines.store_files.checksums import read_sealed
from tests.pipelines.older_stores import as_before
from tests.pipelines.test_runner import SETTINGS, Doubler, Interrupted, load, tasks

BAD = tasks(9)[4].id
FLIPS = 6


def run(out: Path, operator: Doubler | None = None, count: int = 9) -> Doubler:
    """The command of a stage: nine rows of which one fails, in batches of two."""
    operator = operator or Doubler([BAD], RowError)
    stage = Stage("test", out, features().arrow_schema, RunSettings(batch_size=2))
    todo = tasks(count)
    stage.perform(todo, load, lambda: operator)
    if stage.leads:
        rows = (stage.parts.get(task.key) for task in todo if stage.parts.done(task.key))
        stage.commit(todo, rows, SETTINGS)
    return operator


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "s"
    run(folder)
    return folder


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unfinished") / "s"
    with pytest.raises(StageFailed, match="stopped, 7 of 9 done"):
        run(folder, Interrupted(6, [BAD], RowError))
    return folder


def content(store: Path) -> dict[str, bytes]:
    """Every file of a store but its status, which has the time."""
    paths = [path for path in store.rglob("*") if path.is_file() and path.name != "status.json"]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in paths}


def damages(original: bytes, seed: str) -> Iterator[tuple[str, bytes | None]]:
    """What a file may hold after damage, each with its name; None if the file is gone."""
    yield "empty", b""
    yield "cut", original[: len(original) // 2]
    yield "removed", None
    generator = random.Random(seed)
    for place in sorted(generator.sample(range(len(original)), min(FLIPS, len(original)))):
        bit = 1 << generator.randrange(8)
        flipped = original[:place] + bytes([original[place] ^ bit]) + original[place + 1 :]
        yield f"bit {bit} of byte {place}", flipped


def trials(folder: Path, tmp_path: Path, names: Iterable[str]) -> Iterator[tuple[str, Path, str]]:
    """Copies of a folder, in each of which one of these files is damaged in one way."""
    for name in names:
        for number, (told, damaged) in enumerate(damages((folder / name).read_bytes(), name)):
            copy = tmp_path / f"{name.replace('/', '_')}-{number}"
            shutil.copytree(folder, copy)
            if damaged is None:
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(damaged)
            yield f"{name}: {told}", copy, name


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file())


def silent(line: str) -> None:
    """For checks whose outcome is all that matters."""


def test_a_store_whose_settings_are_lost_is_read_with_a_warning(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "settings.json").unlink()
    assert made_by(copy) == {}
    assert [record.message for record in caplog.records] == [
        f"{copy / 'settings.json'}: missing; how its rows were made is not known"
    ]


RECORDS = ("README.md", "settings.json", "works.json", "failures.jsonl", "status.json")


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_of_a_finished_store_is_made_again(
    finished: Path, tmp_path: Path, record: str
) -> None:
    whole = content(finished)
    for told, copy, _ in trials(finished, tmp_path, [record]):
        again = run(copy)
        found = content(copy)
        # A card that names the right files may have other words: its owner may have edited it.
        edited = "bit" in told and found.pop("README.md") != whole["README.md"]
        assert found == {name: each for name, each in whole.items() if name in found}, told
        assert not edited or record == "README.md"
        assert again.seen == [] or record in ("works.json", "failures.jsonl"), told
        check(copy, silent)


def test_rows_of_a_damaged_shard_are_made_again_and_no_others(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = content(finished)
    for told, copy, name in trials(finished, tmp_path, names(finished, "data/*")):
        lost = [row["id"] for row in StoreReader(finished).rows() if Path(name).name.startswith(row["split"])]
        caplog.clear()
        again = run(copy)
        assert content(copy) == whole, told
        assert sorted(again.seen) == sorted(lost), told
        assert f"{len(lost)} of 8 finished rows are lost" in caplog.text
        assert "removed" in told or f"{copy / name}: damaged" in caplog.text
        check(copy, silent)


def test_the_same_command_ends_alike_whatever_was_damaged_on_the_way(
    finished: Path, unfinished: Path, tmp_path: Path
) -> None:
    parts = names(unfinished, "parts/*/*")
    assert {Path(name).suffix for name in parts} == {".parquet", ".json"}
    whole = content(finished)
    for told, copy, name in trials(unfinished, tmp_path, [*parts, "status.json"]):
        again = run(copy)
        assert content(copy) == whole, told
        assert len(again.seen) <= 1 + (2 if name.endswith(".parquet") else 0), told


def test_a_part_damaged_during_the_run_is_one_line(unfinished: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    shutil.copytree(unfinished, out)
    stage = Stage("test", out, features().arrow_schema, RunSettings())
    key = next(task.key for task in tasks(9) if stage.parts.done(task.key))
    for path in out.glob("parts/*/*.parquet"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match=r"parts/.*\.parquet: damaged: the SHA-256 .* wanted is"):
        stage.parts.get(key)
    run(out)
    assert len(StoreReader(out)) == 8


def read(store: Path) -> list[Row]:
    """All rows of a store, and all that is read beside them."""
    made_by(store)
    committed_generation(store)
    read_json_lines(store / "failures.jsonl")
    assert len(open_store(store)) == len(StoreReader(store))
    return [*StoreReader(store).rows()]


def rows_or_error(store: Path) -> tuple[list[Row] | None, RunError | None]:
    try:
        return read(store), None
    except RunError as error:
        return None, error


def test_a_reader_of_a_damaged_store_gets_its_rows_or_one_line(finished: Path, tmp_path: Path) -> None:
    rows, told_of = read(finished), 0
    data = names(finished, "data/*")
    for told, copy, name in trials(finished, tmp_path, [*data, "README.md", "settings.json"]):
        found, error = rows_or_error(copy)
        if not isinstance(error, DamagedStore):
            assert name not in data, told
            assert found == rows or "not a store" in str(error), told
            continue
        told_of += 1
        assert str(copy / ("README.md" if "removed" in told else name)) in str(error), told
        assert f"the command that made {copy} once more" in str(error)
        assert "\n" not in str(error)
        assert name == "settings.json" or str(error).endswith(": pytest")
        with pytest.raises(DamageFound, match="1 damaged file, named above"):
            check(copy, silent)
    assert told_of > (3 + FLIPS) * len(data)


def test_a_card_that_counts_other_rows_than_its_files_have_is_damaged(finished: Path, tmp_path: Path) -> None:
    card = (finished / "README.md").read_text()
    first = card[card.index("    - data/train") : card.index("\n", card.index("    - data/train")) + 1]
    for number, (changed, told) in enumerate(
        {
            card.replace(first, first + first): r"README.md: damaged: it names data/train-\S+ twice",
            card.replace("| train | 3 |", "| train | 4 |"): "counts 4 rows of train, but .* have 3",
            card.replace(
                "  - split: train\n    path:\n" + first, ""
            ): "of valid, test and counts rows of train, valid, test",
        }.items()
    ):
        copy = tmp_path / str(number)
        shutil.copytree(finished, copy)
        assert changed != card
        (copy / "README.md").write_text(changed)
        with pytest.raises(DamagedStore, match=told):
            StoreReader(copy)
        with pytest.raises(DamagedStore, match=told):
            open_store(copy)
        assert run(copy).seen == []
        assert content(copy) == content(finished)


def test_a_store_without_digests_is_read_as_before_and_goes_on(finished: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(finished, plain)
    as_before(plain)
    assert read(plain) == read(finished)
    check(plain, silent)
    before = content(plain)
    assert run(plain).seen == []
    assert content(plain).keys() == before.keys()
    assert read(plain) == read(finished)
    index = (plain / "works.json").read_text()
    (plain / "works.json").write_text(index.replace('"rows"', '"rowt"'))
    assert len(run(plain).seen) == 8
    assert read(plain) == read(finished)
    shard = names(plain, "data/train-*")[0]
    for told, copy, _ in trials(plain, tmp_path, [shard]):
        if "bit" not in told:
            with pytest.raises(
                DamagedStore, match=f"{copy / shard}: damaged|names data files that are missing"
            ):
                read(copy)
            assert len(run(copy).seen) == 3, told
            assert read(copy) == read(finished)
            check(copy, silent)


def test_parts_without_digests_are_read_as_before(finished: Path, unfinished: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    shutil.copytree(unfinished, out)
    for number, path in enumerate(sorted(out.glob("parts/*/*.parquet"))):
        plain = path.rename(path.with_name(path.name.partition("-")[0] + ".parquet"))
        if number == 0:
            plain.write_bytes(plain.read_bytes()[:-100])
    for path in out.glob("parts/*/*.failed.json"):
        write_json(path, read_sealed(path))
    assert len(run(out).seen) == 1 + 2
    assert content(out) == content(finished)


def test_the_check_of_a_runs_folder_names_each_damaged_file(
    finished: Path, unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work / "a")
    shutil.copytree(unfinished, work / "b")
    (work / "model").mkdir()
    main(["check", str(work)])
    whole = [f"{work}/a: 8 rows, no damaged file", f"{work}/b: not finished, no damaged file"]
    assert capsys.readouterr().out.splitlines() == whole
    damaged = [
        *("a/" + name for name in (*RECORDS[:-1], *names(finished, "data/train*"))),
        *("b/" + name for name in names(unfinished, "parts/*/*")),
    ]
    for name in damaged:
        (work / name).write_bytes((work / name).read_bytes()[:-40])
    (work / "a/status.json").unlink()
    with pytest.raises(DamageFound, match=f"{work}: {len(damaged)} damaged files, named above"):
        main(["check", str(work)])
    lines = capsys.readouterr().out.splitlines()
    told = {line.partition(":")[0] for line in lines}
    found = {str(work / name) for name in damaged if name != "a/README.md"} | {f"{work}/a/status.json"}
    assert told == found | {f"{work}/a", f"{work}/b"}
    with pytest.raises(RunError, match="no store there"):
        check(work / "model", silent)


@pytest.mark.parametrize("record", ["README.md", "settings.json", "works.json", "status.json"])
def test_the_check_names_a_record_that_is_lost_or_cannot_be_read(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], record: str
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "s"))
    (copy / record).unlink()
    with pytest.raises(DamageFound, match="1 damaged file, named above"):
        main(["check", str(copy)])
    assert f"{copy / record}: missing" in capsys.readouterr().out
    if record != "README.md":
        (copy / record).mkdir()
        with pytest.raises(DamageFound, match="1 damaged file, named above"):
            main(["check", str(copy)])
        assert f"{copy / record}: cannot be read" in capsys.readouterr().out


def test_a_store_from_the_hub_is_whole(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "s"))
    for name in ("works.json", "status.json"):
        (copy / name).unlink()
    check(copy, silent)


def test_what_killed_processes_left_is_swept_at_the_next_start(
    finished: Path, unfinished: Path, tmp_path: Path
) -> None:
    for number, folder in enumerate((finished, unfinished)):
        out = tmp_path / str(number)
        shutil.copytree(folder, out)
        dead = subprocess.run(
            ["sh", "-c", "echo $$"], capture_output=True, text=True, check=True
        ).stdout.strip()
        (out / "parts" / "ab").mkdir(parents=True, exist_ok=True)  # its part was damaged and is gone
        part = next(iter((*out.glob("parts/*/"), out)))
        (out / "data").mkdir(exist_ok=True)
        rubbish = [
            out / f".status.json.{dead}@{platform.node()}.tmp",
            out / f".works.json.{dead}.tmp",
            out / "data" / f".train-0123456789ab-00000.parquet.{dead}@{platform.node()}.tmp",
            out / "data" / "train-0123456789ab-00000-0123456789abcdef.parquet",
            part / f".a.parquet.{dead}@{platform.node()}.tmp",
            out / ".old.json.1@elsewhere.tmp",
        ]
        living = [
            out / f".mine.json.{os.getppid()}@{platform.node()}.tmp",
            out / ".theirs.json.1@elsewhere.tmp",
        ]
        for path in (*rubbish, *living):
            path.write_bytes(b"half")
        os.utime(rubbish[-1], (0, 0))
        Stage("test", out, features().arrow_schema, RunSettings())
        assert not [path for path in rubbish if path.exists()]
        assert all(path.exists() for path in living)
        run(out)
        for path in living:
            path.unlink()
        assert content(out) == content(finished)


def test_a_commit_removes_shards_of_other_generations_whatever_came_between(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        run(out, count=6)
        killed.setattr("pipelines.store.remove_unnamed", interrupt)
        run(out)
    assert len(names(out, "data/*")) == 6
    run(out)
    assert content(out) == content(finished)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_a_marker_vouches_for_is_on_disk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files and folders, their content and their names."""
    at_risk: set[Path] = set()
    sync, rename, make = os.fsync, os.replace, os.mkdir

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        synced = Path(f"/proc/self/fd/{descriptor}").readlink()
        at_risk.difference_update([path for path in at_risk if path.parent == synced])
        whole.add(synced)

    def note_rename(source: Path, target: Path) -> None:
        assert Path(source) in whole, f"{target} was renamed before its content was on disk"
        if Path(target).name in ("README.md", "works.json"):
            assert not at_risk, f"{target} was written while these may still be lost"
            markers.append(Path(target).name)
        rename(source, target)
        at_risk.add(Path(target))

    def note_folder(path: Path, *more: int) -> None:
        make(path, *more)
        at_risk.add(Path(path))

    whole: set[Path] = set()
    markers: list[str] = []
    out = tmp_path / "made" / "s"
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    monkeypatch.setattr(os, "mkdir", note_folder)
    run(out)
    assert markers == ["works.json", "README.md", "works.json"]
    assert not at_risk


def test_several_processes_make_damaged_parts_and_shards_again(
    finished: Path, unfinished: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    for number, (folder, pattern) in enumerate(((unfinished, "parts/*/*"), (finished, "data/*"))):
        out = tmp_path / str(number)
        shutil.copytree(folder, out)
        for path in out.glob(pattern):
            path.write_bytes(path.read_bytes()[:-1])
        started = [context.Process(target=run_as, args=(rank, out)) for rank in range(2)]
        for process in started:
            process.start()
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [0, 0]
        assert [*StoreReader(out).rows()] == [*StoreReader(finished).rows()]
        check(out, silent)


def run_as(rank: int, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    run(out)
