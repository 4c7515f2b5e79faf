"""Variants made again: which ones, what is kept of them, and that nothing finished is done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from augment import retries
from augment import run as stage
from augment.__main__ import main
from augment.classic.settings import ClassicSettings, ClassicSoundSettings
from augment.planning import Attempt
from augment.settings import AugmentConfig, RetrySettings
from augment.video.diffusers_editor import weaker
from augment.video.settings import VideoSettings, VideoToVideoSettings
from augment.video.styles import PUBLISHED
from pipelines import finished_tasks, whole_run
from pipelines.errors import RunError, UsageError
from pipelines.row import digest
from pipelines.runner import StageFailed
from pipelines.store import StoreReader, commit, committed_generation
from score.__main__ import main as score
from score.measurement import Comparison, ScoreVariants
from tests import tiny

Row = dict[str, Any]
Quality = Callable[[str, int], float | None]
"""Of a variant's id and an attempt."""

CLASSIC = (
    "--augment.video.variants",
    "0",
    "--augment.audio.variants",
    "0",
    "--augment.classic.variants",
    "1",
)
TWICE = ("--augment.retries.attempts", "2", "--augment.retries.strength", "0.5")


def name(speaker: int) -> str:
    return f"c/{speaker}#classic-0"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = [f"c/{number}" for number in range(5)]
    rows = [tiny.row(n, "train", id=row_id, source_id=row_id) for n, row_id in enumerate(ids)]
    return tiny.store(tmp_path_factory.mktemp("originals"), [*rows, tiny.row(9, "test")])


class Loop:
    """A working folder in which augment and a made-up scorer take turns."""

    def __init__(self, originals: Path, folder: Path, *options: str) -> None:
        self.out, self.scores = folder / "augmented", folder / "scored"
        self.command = ["--data", str(originals), "--out", str(self.out), "--augment.device", "cpu", *CLASSIC]
        self.command += options

    def augment(self, *options: str) -> dict[str, Row]:
        main([*self.command, *options])
        return self.rows()

    def again(self, *options: str) -> dict[str, Row]:
        return self.augment("--scores", str(self.scores), *options)

    def score(self, quality: Quality) -> None:
        """The store with the qualities that `quality` gives to what its rows say that they are."""
        rows = [self._scored(row, quality) for row in StoreReader(self.out).rows()]
        told = {"stage": "score", "title": "", "description": "", "command": "", "versions": {}}
        told |= {"inputs": committed_generation(self.out)}
        generation = digest([told["inputs"], [row["quality"] for row in rows]])
        commit(self.scores, rows, generation=generation, settings=told, scores=["score_x"])

    def _scored(self, row: Row, quality: Quality) -> Row:
        if row["kind"] == "original":
            return row
        return row | {"score_x": 1.0, "quality": quality(row["id"], generator(row).get("attempt", 0))}

    def rows(self) -> dict[str, Row]:
        return {row["id"]: row for row in StoreReader(self.out).rows()}

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for path in self.out.rglob("*")
            if path.is_file() and path.name != "status.json"
        }

    def until_settled(self, quality: Quality, *options: str) -> dict[str, Row]:
        for _ in range(6):
            self.score(quality)
            before = committed_generation(self.out)
            rows = self.again(*options)
            if committed_generation(self.out) == before:
                return rows
        raise AssertionError("does not come to an end")


def generator(row: Row) -> dict[str, Any]:
    return json.loads(row["generator"])


def of(table: dict[int, list[float | None]]) -> Quality:
    """Qualities by the clip's number and the attempt; 0.9 of what is not in the table."""

    def quality(row_id: str, attempt: int) -> float | None:
        return table.get(int(row_id[2]), [0.9] * 3)[attempt]

    return quality


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The attempts that were computed: ids and numbers, in order."""
    done: list[tuple[str, int]] = []
    compute = stage.MakeVariants._variant

    def variant(self: stage.MakeVariants, row: Row, attempt: Attempt) -> Row:
        done.append((f"{row['id']}#classic-0", attempt.number))
        return compute(self, row, attempt)

    monkeypatch.setattr(stage.MakeVariants, "_variant", variant)
    return done


TABLE: dict[int, list[float | None]] = {
    0: [0.1, 0.6, 0.0],  # good enough at the second attempt
    1: [0.3, 0.1, 0.2],  # best at first
    2: [0.1, 0.3, 0.2],  # best at the second attempt, and never good
    3: [None, 0.2, 0.4],  # best at the last
}


def test_the_best_attempt_is_kept_and_the_row_tells_of_the_others(
    originals: Path, tmp_path: Path, made: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    loop = Loop(originals, tmp_path, *TWICE)
    first = loop.augment()
    loop.score(of(TABLE))
    second = loop.again()
    assert (
        "4 of 5 variants below 0.5, 4 made again now; of 0 made again before, 0 are"
        in capsys.readouterr().out
    )
    settled = loop.until_settled(of(TABLE))
    said = capsys.readouterr().out
    assert "3 of 5 variants below 0.5, 3 made again now; of 4 made again before, 3 are better" in said
    assert "0 made again now; of 4 made again before, 3 are better than at first, and 2 go back" in said
    kept = {number: generator(settled[name(number)]) for number in range(4)}
    assert [kept[number]["attempt"] for number in range(4)] == [1, 0, 1, 2]
    for number, told in kept.items():
        everything = {each["attempt"]: each for each in told["tries"]}
        assert told["attempt"] not in everything
        for attempt, one in everything.items():
            wanted = TABLE[number][attempt]
            assert one["quality"] == (None if wanted is None else pytest.approx(wanted))
            assert one["strength"] == 0.5**attempt
        seeds = {told["seed"], *(one["seed"] for one in told["tries"])}
        assert len(seeds) == 1 + len(everything) == (2 if number == 0 else 3)
    assert settled[name(0)] == second[name(0)]
    changing = {"generator"}
    assert {k: v for k, v in settled[name(1)].items() if k not in changing} == {
        k: v for k, v in first[name(1)].items() if k not in changing
    }
    assert settled[name(1)]["video"] != second[name(1)]["video"]
    untouched = {row_id for row_id in first if row_id not in map(name, range(4))}
    assert {row_id: settled[row_id] for row_id in untouched} == {
        row_id: first[row_id] for row_id in untouched
    }
    assert sorted(made) == sorted(
        [(name(number), 0) for number in range(5)]
        + [(name(number), 1) for number in range(4)]
        + [(name(number), 2) for number in range(1, 4)]
    )
    assert not (loop.out / "parts").exists()


def test_with_nothing_below_nothing_changes(originals: Path, tmp_path: Path) -> None:
    plain = Loop(originals, tmp_path / "plain")
    loop = Loop(originals, tmp_path / "loop", *TWICE)
    assert plain.augment() == loop.augment()
    before = loop.files()
    loop.score(of({}))
    loop.again()
    assert loop.files() == before
    loop.until_settled(of(TABLE))
    before = loop.files()
    loop.augment()
    loop.score(of(TABLE))
    loop.again()
    assert loop.files() == before
    assert loop.augment("--augment.retries.attempts", "0", "--overwrite") == plain.rows()


def test_interrupted_and_started_again_equals_straight(
    originals: Path, tmp_path: Path, made: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = Loop(originals, tmp_path / "a", *TWICE), Loop(originals, tmp_path / "b", *TWICE)
    for loop in (straight, broken):
        loop.augment()
        loop.score(of(TABLE))
    straight.again()
    compute, limit = stage.MakeVariants._variant, len(made) + 2

    def interrupted(self: stage.MakeVariants, row: Row, attempt: Attempt) -> Row:
        if len(made) == limit:
            raise KeyboardInterrupt
        return compute(self, row, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(stage.MakeVariants, "_variant", interrupted)
        with pytest.raises(StageFailed, match="augment: stopped, "):
            broken.again()
    broken.augment()  # as `daq-msa run` does when it is started again
    with monkeypatch.context() as patch:
        patch.setattr(
            finished_tasks.Parts, "close", _crash
        )  # the store is replaced, and nobody has noted it yet
        with pytest.raises(KeyboardInterrupt):
            broken.again()
    assert broken.again() == straight.rows()
    assert len(made) == limit + 2  # each of the four attempts once
    assert broken.until_settled(of(TABLE)) == straight.until_settled(of(TABLE))


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_earlier_attempt_that_is_gone_is_made_as_it_was(
    originals: Path, tmp_path: Path, made: list[tuple[str, int]]
) -> None:
    loop = Loop(originals, tmp_path, "--augment.retries.attempts", "1")
    first = loop.augment()
    loop.score(of({1: [0.3, 0.1]}))
    loop.again()
    for part in loop.out.glob("parts/*/*.parquet"):
        part.unlink()
    loop.score(of({1: [0.3, 0.1]}))
    assert loop.again()[name(1)]["video"] == first[name(1)]["video"]
    assert made[-2:] == [(name(1), 1), (name(1), 0)]


def test_the_worst_come_first_and_the_budget_is_for_all_rounds(
    originals: Path, tmp_path: Path, made: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    table: dict[int, list[float | None]] = {
        0: [0.2, 0.21, 0.9],
        1: [0.4, 0.9, 0.9],
        2: [None, 0.1, 0.9],
        3: [0.3, 0.9, 0.9],
    }
    loop = Loop(originals, tmp_path, *TWICE, "--augment.retries.budget", "0.6")  # of five variants
    loop.augment()
    made.clear()
    loop.until_settled(of(table))
    assert [one for one in made if one[1] == 1] == [(name(0), 1), (name(2), 1), (name(3), 1)]
    assert not [one for one in made if one[1] == 2]
    assert "budget: 0 left" in capsys.readouterr().out
    made.clear()
    loop.until_settled(of(table), "--augment.retries.budget", "0.8")
    assert made == [(name(2), 2)]


def test_an_attempt_that_fails_leaves_the_one_before(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(originals, tmp_path, *TWICE)
    first = loop.augment()
    compute = stage.MakeVariants._variant

    def failing(self: stage.MakeVariants, row: Row, attempt: Attempt) -> Row:
        if attempt.number == 1:
            raise ValueError("blacked out")
        return compute(self, row, attempt)

    monkeypatch.setattr(stage.MakeVariants, "_variant", failing)
    loop.score(of(TABLE))
    fallen = loop.again()
    assert set(fallen) == set(first)
    assert fallen[name(1)]["video"] == first[name(1)]["video"]
    told = generator(fallen[name(1)])
    assert (told["attempt"], told["tries"][0]["attempt"]) == (0, 1)
    assert (told["tries"][0]["quality"], told["tries"][0]["error"]) == (None, "ValueError: blacked out")
    assert (loop.out / "failures.jsonl").read_text() == ""
    settled = loop.until_settled(of(TABLE))
    assert [generator(settled[name(number)])["attempt"] for number in range(4)] == [0, 0, 2, 2]


def test_what_is_less_strong() -> None:
    config = AugmentConfig(retries=RetrySettings(attempts=2, strength=0.5))
    assert [config.strength("both", attempt) for attempt in range(3)] == [1, 0.5, 0.25]
    assert config.strength("audio", 2) == 1
    vace = VideoSettings(method="wan_vace", model="x")
    assert AugmentConfig(video=vace, retries=config.retries).strength("both", 1) == 1
    classic = ClassicSettings(crop=0.2, colour=0.4, blur=1.0, jpeg=40)
    assert classic.weaker(1.0) == classic
    half = ClassicSoundSettings(semitones=1.0, stretch=0.075, room_s=0.2, snr_db=35.0)
    assert classic.weaker(0.5) == ClassicSettings(crop=0.1, colour=0.2, blur=0.5, jpeg=70, sound=half)
    style = PUBLISHED["cartoon"].weaker(0.5)
    assert (style.cross_replace, style.self_replace, style.guidance_scale) == pytest.approx((0.9, 0.85, 4.25))
    for steps in (3, 49, 50):
        noised = VideoSettings(
            method="sdedit", steps=steps, video_to_video=VideoToVideoSettings(strength=0.5)
        )
        assert weaker(noised, 0.8).video_to_video.strength == pytest.approx(0.4)
        assert int(weaker(noised, 0.001).video_to_video.strength * steps) == 1


def test_a_variant_is_made_again_with_less_strength(originals: Path, tmp_path: Path) -> None:
    loop = Loop(originals, tmp_path, "--augment.retries.attempts", "1", "--augment.retries.strength", "0.01")
    loop.augment()
    loop.score(of({0: [0.1], 1: [0.1]}))
    made = [generator(row) for row in loop.again().values() if row["kind"] == "classic"]
    moved = [max(abs(told["video"][what] - 1) for what in ("brightness", "saturation")) for told in made]
    assert max(moved[:2]) <= 0.01 * ClassicSettings().colour < min(moved[2:])


def test_judging_comes_to_an_end_whatever_the_second_look_says() -> None:
    """A row that was taken back is judged worse than before, by less than the attempt that it beat."""
    states = {"a": retries.State(attempt=0, tries=({"attempt": 1, "quality": 0.3},))}
    settings = RetrySettings(attempts=1)
    judged = retries.judge(states, {"a": 0.2}, lambda _, attempt: {"attempt": attempt}, settings)
    assert judged.states["a"].attempt == 0
    assert judged.states["a"].tries == states["a"].tries


def test_settings_and_scores_that_do_not_fit_are_refused(originals: Path, tmp_path: Path) -> None:
    for values, message in (
        ({"attempts": -1}, "attempts: -1 is too small; take 0 or more"),
        ({"below": 0.0}, r"below: 0\.0 is outside \(0, 1\]"),
        ({"strength": 1.5}, r"strength: 1\.5 is outside \(0, 1\]"),
        ({"budget": 0.0}, r"budget: 0\.0 is too small"),
    ):
        with pytest.raises(ValueError, match=message):
            RetrySettings(**values)
    loop, other = Loop(originals, tmp_path / "a", *TWICE), Loop(originals, tmp_path / "b", *TWICE)
    loop.augment()
    loop.score(of(TABLE))
    with pytest.raises(UsageError, match=r"--scores: got .*, but augment\.retries\.attempts is 0"):
        loop.again("--augment.retries.attempts", "0")
    with pytest.raises(
        RunError, match=r"no columns score_\*, wanted a scored store; run `python -m score --data"
    ):
        loop.augment("--scores", str(originals))
    with pytest.raises(RunError, match=r"nowhere: not a store"):
        loop.augment("--scores", str(tmp_path / "nowhere"))
    with pytest.raises(
        RunError, match=r"--scores: .* was scored from a store of generation .* holds nothing"
    ):
        other.augment("--scores", str(loop.scores))
    other.augment("--seed", "5")
    with pytest.raises(
        RunError, match=rf"but {other.out} holds .*; run `python -m score --data {other.out}`"
    ):
        other.augment("--scores", str(loop.scores))
    with pytest.raises(RunError, match=r"5 of 5 variants are not in .* as these settings and this seed make"):
        loop.again("--seed", "5")
    with pytest.raises(RunError, match=r"the first is c/0#classic-0; run the same without --scores"):
        loop.again("--augment.classic.colour", "0.1")
    before = loop.files()
    loop.augment()
    assert loop.files() == before


def test_a_run_augments_and_scores_by_turns(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, started, measured = tmp_path / "task", [], []
    measure = ScoreVariants.__call__

    def start(section: str, arguments: list[str], **_: str) -> None:
        started.append(section)
        if section in ("augment", "score"):
            {"augment": main, "score": score}[section](arguments[2:])
        elif section == "finetune":
            (task / "model").mkdir(exist_ok=True)
            (task / "model" / "metrics.json").write_text(json.dumps({"test": {"after": {"MAE": 1.0}}}))

    def measuring(self: ScoreVariants, comparisons: Sequence[Comparison[Row]]) -> list[Row]:
        measured.extend(each.row["id"] for each in comparisons)
        return measure(self, comparisons)

    monkeypatch.setattr(whole_run, "start", start)
    monkeypatch.setattr(whole_run, "_gpus", lambda: 0)
    monkeypatch.setattr(ScoreVariants, "__call__", measuring)
    (tmp_path / "recipe.yaml").write_text(
        "augment:\n  video: {variants: 0}\n  audio: {variants: 0}\n  classic: {variants: 1}\n  device: cpu\n"
        "  retries: {attempts: 1, below: 1.0}\n"
    )
    task.mkdir()
    (task / "originals").symlink_to(originals)
    whole_run.run(tmp_path / "recipe.yaml", task, [])
    assert started[:5] == ["corpus", "augment", "score", "augment", "score"]
    assert started[-3:] == ["augment", "finetune", "report"]
    rows = {row["id"]: row for row in StoreReader(task / "scored").rows()}
    again = [name(n) for n in range(5) if "tries" in generator(rows[name(n)])]
    back = {row_id for row_id in again if generator(rows[row_id])["attempt"] == 0}
    assert f"{len(again)} of 5 variants below 1, {len(again)} made again now" in capsys.readouterr().out
    assert back
    assert len(back) < len(again)
    for row_id in again:
        (other,) = generator(rows[row_id])["tries"]
        assert rows[row_id]["quality"] >= other["quality"]
    # Originals and first attempts, then what was made again, then what went back.
    assert sorted(measured) == sorted([*(f"c/{n}" for n in range(5)), *map(name, range(5)), *again, *back])
    before, times = {path: path.read_bytes() for path in task.glob("*/data/*")}, len(measured)
    whole_run.run(tmp_path / "recipe.yaml", task, [])
    assert {path: path.read_bytes() for path in task.glob("*/data/*")} == before
    assert len(measured) == times
