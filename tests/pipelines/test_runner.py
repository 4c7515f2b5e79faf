"""The runner: finished tasks is never done twice, failures are kept apart, the store is whole or old."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from pipelines import runner
from pipelines.errors import RowError, UsageError
from pipelines.finished_tasks import Failure
from pipelines.row import Row, arrow_schema, digest, features, media, new_row
from pipelines.runner import RunSettings, Stage, StageFailed, Task, task_key
from pipelines.running.shared_failure import likeness
from pipelines.store import StoreError, StoreReader, commit, committed_generation, open_store

SETTINGS = {
    "stage": "test",
    "title": "A store",
    "description": "For a test.",
    "command": "pytest",
    "versions": {"python": "3"},
    "config": {},
    "inputs": None,
}


class Doubler:
    """An operator that doubles the payload, fails for what it is told to, and counts its calls."""

    def __init__(self, fails: Collection[str] = (), error: type[Exception] = ValueError) -> None:
        self.fails, self.error, self.seen = fails, error, list[str]()

    def __call__(self, rows: list[Row]) -> list[Row]:
        for row in rows:
            if row["id"] in self.fails:
                raise self.error(f"cannot double {row['id']}")
        self.seen += [row["id"] for row in rows]
        return [row | {"label": 2 * row["label"]} for row in rows]


class Interrupted(Doubler):
    """Ends the run after some rows."""

    def __init__(self, after: int, fails: Collection[str] = (), error: type[Exception] = ValueError) -> None:
        super().__init__(fails, error)
        self.after = after

    def __call__(self, rows: list[Row]) -> list[Row]:
        if len(self.seen) >= self.after:
            raise KeyboardInterrupt
        return super().__call__(rows)


def tasks(count: int, setting: int = 0) -> list[Task]:
    ids = [f"c/v{index % 3}/{index:03d}" for index in range(count)]
    return [Task(row_id, task_key(row_id, index, setting, 7), index) for index, row_id in enumerate(ids)]


def load(task: Task) -> Row:
    return new_row(
        id=task.id,
        source_id=task.id,
        kind="original",
        split=("train", "valid", "test")[task.payload % 3],
        label=float(task.payload),
        video=media(bytes([task.payload]) * 9),
        generator=json.dumps({"n": task.payload}),
    )


def failed(out: Path) -> list[str]:
    """Ids of the rows that a folder holds a failure of, whether or not its stage has ended."""
    parts = [json.loads(path.read_text()) for path in out.glob("parts/*/*.failed.json")]
    lines = (out / "failures.jsonl").read_text().splitlines() if (out / "failures.jsonl").exists() else []
    return sorted({record["id"] for record in [*parts, *map(json.loads, lines)]})


def run(out: Path, todo: list[Task], operator: Doubler, **settings: int | bool | None) -> Stage:
    stage = Stage("test", out, features().arrow_schema, RunSettings(**settings))
    stage.perform(todo, load, lambda: operator)
    if stage.leads:
        rows = (stage.parts.get(task.key) for task in todo if stage.parts.done(task.key))
        stage.commit(todo, rows, SETTINGS)
    return stage


def test_a_store_holds_every_row_and_opens_with_load_dataset(tmp_path: Path) -> None:
    run(tmp_path / "s", tasks(10), Doubler(), batch_size=4)
    loaded = load_dataset(str(tmp_path / "s"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "valid": 3, "test": 3}
    assert loaded["train"].features == features()
    assert loaded["train"][1]["label"] == 6.0
    assert loaded["train"][1]["video"]["bytes"] == bytes([3]) * 9
    assert len(open_store(tmp_path / "s")) == 10
    status = json.loads((tmp_path / "s" / "status.json").read_text())
    assert (status["done"], status["failed"], status["left"], status["state"]) == (10, 0, 0, "done")
    assert len(open_store((tmp_path / "s").rename(tmp_path / "s[1]*"))) == 10


def test_tasks_of_one_shard_key_fall_to_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    todo = [replace(task, shard_key=digest(task.payload % 4)) for task in tasks(24)]
    seen = []
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        operator = Doubler()
        run(tmp_path / "s", todo, operator)
        seen.append({task.payload % 4 for task in todo if task.id in operator.seen})
    assert not seen[0] & seen[1]
    assert all(seen)
    assert len(StoreReader(tmp_path / "s")) == 24


def test_reader_finds_rows_across_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.store.GROUP_ROWS", 2)
    monkeypatch.setattr("pipelines.store.SHARD_BYTES", 30)
    run(tmp_path / "s", tasks(17), Doubler())
    reader = StoreReader(tmp_path / "s")
    assert len(list((tmp_path / "s" / "data").glob("train-*.parquet"))) > 1
    for index, row_id in enumerate(reader.table["id"].to_pylist()):
        assert reader.index_of(row_id) == index
        assert (
            reader.row(index)["video"]["bytes"]
            == bytes([json.loads(reader.row(index)["generator"])["n"]]) * 9
        )
    with pytest.raises(StoreError, match="no row has the id 'nobody'"):
        reader.index_of("nobody")
    assert reader.table["has_video"].to_pylist() == [True] * 17
    assert reader.table["has_audio"].to_pylist() == [False] * 17


def test_a_finished_stage_does_nothing_again_and_a_new_setting_redoes_what_it_touches(tmp_path: Path) -> None:
    run(tmp_path / "s", tasks(6), Doubler())
    again = Doubler()
    run(tmp_path / "s", tasks(6), again)
    assert again.seen == []
    changed = tasks(6)
    changed[2] = tasks(6, setting=1)[2]
    run(tmp_path / "s", changed, again, overwrite=True)
    assert again.seen == [changed[2].id]
    assert len(StoreReader(tmp_path / "s")) == 6


def test_finished_rows_are_not_replaced_unless_that_is_asked_for(tmp_path: Path) -> None:
    run(tmp_path / "s", tasks(6), Doubler())
    with pytest.raises(StageFailed):
        run(tmp_path / "half", tasks(6), Interrupted(4), batch_size=2)
    for folder, others in (("s", tasks(6)[:5]), ("s", tasks(6, setting=1)), ("half", tasks(6, setting=1))):
        with pytest.raises(
            UsageError, match=rf"--out: .*{folder} holds finished rows of other .*--overwrite"
        ):
            run(tmp_path / folder, others, Doubler())
    more = Doubler()
    run(tmp_path / "s", tasks(8), more)  # what is added replaces nothing
    assert len(more.seen) == 2
    run(tmp_path / "s", tasks(6)[:5], more, overwrite=True)
    assert len(StoreReader(tmp_path / "s")) == 5


def test_a_store_of_other_making_is_not_replaced_unless_that_is_asked_for(tmp_path: Path) -> None:
    rows = [load(task) for task in tasks(3)]
    commit(tmp_path, rows, generation="of another program", settings=SETTINGS | {"stage": "another"})
    with pytest.raises(UsageError, match=r"has a README.md that this stage did not write; .*--overwrite"):
        run(tmp_path, tasks(6), Doubler())
    (tmp_path / "works.json").write_text("{")  # damage makes it nobody's
    with pytest.raises(UsageError, match=r"has a README.md that this stage did not write; .*--overwrite"):
        run(tmp_path, tasks(6), Doubler())
    assert len(StoreReader(tmp_path)) == 3
    run(tmp_path, tasks(6), Doubler(), overwrite=True)
    assert len(StoreReader(tmp_path)) == 6
    (tmp_path / "works.json").unlink()  # of the stage itself
    run(tmp_path, tasks(6), Doubler())


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    own = [
        tmp_path / name for name in ("data/mine.parquet", "parts/mine.txt", "parts/ab/mine.parquet", "mine")
    ]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    with pytest.raises(StageFailed):
        run(tmp_path, tasks(6), Interrupted(4), batch_size=2)
    run(tmp_path, tasks(6), Doubler())
    run(tmp_path, tasks(8), Doubler())
    assert [path.read_text() for path in own] == ["mine"] * len(own)
    assert not [path for path in tmp_path.rglob("parts/??/*") if path not in own]


def test_a_readme_that_is_no_card_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_text("mine")
    with pytest.raises(UsageError, match=r"has a README.md that this stage did not write"):
        run(tmp_path, tasks(6), Doubler())
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "README.md", "data", "train-00000-of-00001.parquet",
    ]  # fmt: skip


def test_interrupted_and_resumed_equals_straight(tmp_path: Path) -> None:
    run(tmp_path / "straight", tasks(9), Doubler())
    with pytest.raises(StageFailed, match="test: stopped, 4 of 9 done; the same command goes on"):
        run(tmp_path / "resumed", tasks(9), Interrupted(4), batch_size=2)
    assert json.loads((tmp_path / "resumed" / "status.json").read_text())["state"] == "stopped"
    rest = Doubler()
    run(tmp_path / "resumed", tasks(9), rest, batch_size=3)
    assert len(rest.seen) == 5
    rows = [list(StoreReader(tmp_path / name).rows()) for name in ("straight", "resumed")]
    assert rows[0] == rows[1]


def test_a_bad_row_is_quarantined_with_its_reason_and_can_be_taken_again(tmp_path: Path) -> None:
    bad = tasks(6)[4].id
    run(tmp_path / "s", tasks(6), Doubler(fails=(bad,)), batch_size=3)
    records = [json.loads(line) for line in (tmp_path / "s" / "failures.jsonl").read_text().splitlines()]
    assert [(r["id"], r["stage"], r["error"], r["message"], r["attempts"]) for r in records] == [
        (bad, "test", "ValueError", f"cannot double {bad}", 1)
    ]
    assert len(StoreReader(tmp_path / "s")) == 5
    idle = Doubler()
    run(tmp_path / "s", tasks(6), idle)
    assert idle.seen == []
    run(tmp_path / "s", tasks(6), Doubler(fails=(bad,)), retry_failed=True)
    assert json.loads((tmp_path / "s" / "failures.jsonl").read_text())["attempts"] == 2
    run(tmp_path / "s", tasks(6), Doubler(), retry_failed=True)
    assert (tmp_path / "s" / "failures.jsonl").read_text() == ""
    assert len(StoreReader(tmp_path / "s")) == 6


def test_an_error_about_the_run_ends_it_and_blames_no_row(tmp_path: Path) -> None:
    class Misled(Doubler):
        def __call__(self, rows: list[Row]) -> list[Row]:
            raise UsageError("augment.video.model: no such model")

    with pytest.raises(UsageError, match="no such model"):
        run(tmp_path / "s", tasks(3), Misled())
    rest = Doubler()
    run(tmp_path / "s", tasks(3), rest)
    assert len(rest.seen) == 3


def test_too_many_failures_stop_the_run_and_keep_what_is_done(tmp_path: Path) -> None:
    operator = Doubler(fails=tuple(task.id for task in tasks(6)[2:]))
    with pytest.raises(StageFailed, match=r"stopped after 2 failed rows \(max_failures is 1\)"):
        run(tmp_path / "s", tasks(6), operator, max_failures=1)
    rest = Doubler()
    run(tmp_path / "s", tasks(6), rest, retry_failed=True)
    assert rest.seen == [task.id for task in tasks(6)[2:]]


def test_a_stage_whose_every_row_failed_says_so(tmp_path: Path) -> None:
    everything = Doubler([task.id for task in tasks(3)], RowError)
    with pytest.raises(
        StageFailed,
        match=r"all 3 rows failed, the first with RowError: cannot double c/v0/000.* --retry-failed",
    ):
        run(tmp_path / "s", tasks(3), everything)
    assert len(failed(tmp_path / "s")) == 3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_failure_that_the_first_rows_share_ends_the_stage_and_is_no_rows(
    tmp_path: Path, batch_size: int
) -> None:
    todo = tasks(20)
    broken = Doubler([task.id for task in todo], TypeError)
    with pytest.raises(
        StageFailed, match="the first 8 rows failed alike, with TypeError: cannot double c/v0"
    ):
        run(tmp_path / "s", todo, broken, batch_size=batch_size)
    assert failed(tmp_path / "s") == []
    status = json.loads((tmp_path / "s" / "status.json").read_text())
    assert (status["done"], status["failed"], status["left"], status["state"]) == (0, 0, 20, "stopped")
    mended = Doubler()
    run(tmp_path / "s", todo, mended, batch_size=batch_size)
    assert mended.seen == [task.id for task in todo]


def test_a_stage_of_few_rows_ends_where_all_fail_alike(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="all 3 rows failed alike, with TypeError"):
        run(tmp_path / "s", tasks(3), Doubler([task.id for task in tasks(3)], TypeError))
    assert failed(tmp_path / "s") == []
    run(tmp_path / "s", tasks(3), Doubler())
    assert len(StoreReader(tmp_path / "s")) == 3


def test_failures_about_content_or_of_several_reasons_are_the_rows_own(tmp_path: Path) -> None:
    todo, bad = tasks(20), [task.id for task in tasks(20)[:10]]
    run(tmp_path / "content", todo, Doubler(bad, RowError))
    assert failed(tmp_path / "content") == sorted(bad)

    class Various(Doubler):
        def __call__(self, rows: list[Row]) -> list[Row]:
            self.error = (TypeError, KeyError)[rows[0]["id"] == bad[7]]
            return super().__call__(rows)

    run(tmp_path / "various", todo, Various(bad))
    assert failed(tmp_path / "various") == sorted(bad)
    run(tmp_path / "seven", todo, Doubler(bad[:7], TypeError))
    assert failed(tmp_path / "seven") == sorted(bad[:7])


def test_each_process_decides_on_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = tasks(40)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(StageFailed, match="the first 8 rows failed alike"):
        run(tmp_path / "s", todo, Doubler([task.id for task in todo], TypeError))
    assert failed(tmp_path / "s") == []


def test_a_stage_stops_though_earlier_rows_are_done(tmp_path: Path) -> None:
    run(tmp_path / "s", tasks(5), Doubler())
    with pytest.raises(StageFailed, match="the first 8 rows failed alike"):
        run(tmp_path / "s", tasks(20), Doubler([task.id for task in tasks(20)], TypeError))
    assert failed(tmp_path / "s") == []


def test_rows_that_fail_again_as_before_do_not_end_the_stage(tmp_path: Path) -> None:
    todo, bad = tasks(20), [task.id for task in tasks(20)[2:12]]
    run(tmp_path / "s", todo, Doubler(bad, TypeError))
    run(tmp_path / "s", todo, Doubler(bad, TypeError), retry_failed=True)
    assert failed(tmp_path / "s") == sorted(bad)
    assert '"attempts": 2' in (tmp_path / "s" / "failures.jsonl").read_text()


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("no x in a/b#video-0", "no x in c d#video-0", True),
        ("cannot open /data/x/1.mp4", "cannot open /data/y/22.mp4", True),
        ("12 frames at 0x7f3a, wanted 1e-3", "7 frames at 0x8000, wanted 2.5", True),
        ("unexpected argument 'a'", "unexpected argument 'b'", False),
    ],
)
def test_messages_are_alike_up_to_ids_paths_and_numbers(first: str, second: str, alike: bool) -> None:
    told = [
        likeness(Failure(id=row_id, stage="s", error="E", message=message, attempts=1, key="k"))
        for row_id, message in (("a/b#video-0", first), ("c d#video-0", second))
    ]
    assert (told[0] == told[1]) is alike


def test_a_crash_while_committing_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "s", tasks(6), Doubler())
    before = list(StoreReader(tmp_path / "s").rows())

    def crash(*_: object) -> str:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr("pipelines.store.render", crash)
        run(tmp_path / "s", tasks(8, setting=1), Doubler(), overwrite=True)
    assert list(StoreReader(tmp_path / "s").rows()) == before
    untouched = Doubler()
    run(tmp_path / "s", tasks(8, setting=1), untouched, overwrite=True)
    assert untouched.seen == []
    assert len(StoreReader(tmp_path / "s")) == 8
    generations = {path.name.split("-")[1] for path in (tmp_path / "s" / "data").iterdir()}
    assert generations == {committed_generation(tmp_path / "s")}


def test_a_crash_after_the_store_was_replaced_does_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "s", tasks(6), Doubler())

    def crash(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr("pipelines.finished_tasks.Parts.close", crash)
        run(tmp_path / "s", tasks(8), Doubler())
    assert len(StoreReader(tmp_path / "s")) == 8
    untouched = Doubler()
    run(tmp_path / "s", tasks(8), untouched)
    assert untouched.seen == []


def test_results_that_are_to_be_kept_outlive_the_commit(tmp_path: Path) -> None:
    todo, operator = tasks(6), Doubler()
    keys = [task.key for task in todo]

    def commit(chosen: list[Task], keep: list[str]) -> Stage:
        stage = Stage("test", tmp_path / "s", features().arrow_schema, RunSettings(batch_size=3))
        stage.perform(chosen, load, lambda: operator, others=keys)
        stage.commit(chosen, [stage.parts.get(task.key) for task in chosen], SETTINGS, keep=keep)
        return Stage("test", tmp_path / "s", features().arrow_schema, RunSettings())

    first = {key: commit(todo, []).parts.get(key) for key in keys}
    kept = commit(todo[:4], keys[4:5]).parts
    assert [kept.done(key) for key in keys] == [True] * 5 + [False]
    assert kept.get(keys[4]) == first[keys[4]]
    commit(todo[:5], [])
    assert len(operator.seen) == 6
    assert not (tmp_path / "s" / "parts").exists()


def _in_process(out: Path, rank: int, processes: int, late_s: float = 0) -> None:
    time.sleep(late_s)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
    run(out, tasks(12), Doubler(fails=(tasks(12)[5].id,)))


def _end_well(*shares: tuple[Any, ...]) -> None:
    """Run `_in_process` with each of these arguments, all at the same time."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_in_process, args=share) for share in shares]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0] * len(shares)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_rows_that_one_gives(tmp_path: Path, processes: int) -> None:
    run(tmp_path / "one", tasks(12), Doubler(fails=(tasks(12)[5].id,)))
    _end_well(*[(tmp_path / "many", rank, processes) for rank in range(processes)])
    assert list(StoreReader(tmp_path / "one").rows()) == list(StoreReader(tmp_path / "many").rows())
    status = json.loads((tmp_path / "many" / "status.json").read_text())
    assert (status["done"], status["failed"], status["left"]) == (11, 1, 0)
    assert status["rows_per_second"] > 0


@pytest.mark.parametrize("committed", [True, False])
def test_another_process_may_begin_while_the_first_commits(tmp_path: Path, *, committed: bool) -> None:
    """With nothing left to do, the first process commits at once, and the second may be anywhere by then."""
    for turn in range(20):
        out = tmp_path / str(turn)
        todo = tasks(12)
        stage = Stage("test", out, features().arrow_schema, RunSettings())
        stage.perform(todo, load, Doubler)
        if committed:
            stage.commit(todo, map(stage.parts.get, [task.key for task in todo]), SETTINGS)
        _end_well((out, 0, 2), (out, 1, 2, turn / 1000))
        assert len(StoreReader(out)) == 12


def test_failed_rows_are_not_taken_again_by_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "share", lambda: runner.Share(0, 2))
    with pytest.raises(UsageError, match=r"^--retry-failed: 2 processes were started"):
        run(tmp_path / "s", tasks(3), Doubler(), retry_failed=True)


def test_a_folder_without_a_card_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a store"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="no row is left"):
        commit(tmp_path, [], generation="00", settings=SETTINGS)


def test_the_schema_of_results_is_that_of_the_store() -> None:
    assert arrow_schema().equals(features().arrow_schema, check_metadata=False)
