"""The study: rank correlations, and the table of a store whose qualities do or do not follow the mood."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.commands import import_puppets
from benchmarks.redrawn_faces import RedrawnFaces
from benchmarks.scorer.partners import redrawn
from benchmarks.scorer.sentiment import CachedProbes, Change, changes, main, spearman, table
from pipelines.errors import RunError
from pipelines.media import encode_video, read_video
from pipelines.row import QUALITIES, Row
from pipelines.store import StoreReader
from tests.score.clips import original, restyled, variant, write_store

SHARES = (0.0, 0.3, 0.6, 1.0)


@pytest.mark.parametrize(
    ("quality", "distance", "expected"),
    [([3, 2, 1], [0.1, 0.5, 9], 1.0), ([1, 2, 3], [0.1, 0.5, 9], -1.0), ([1, 2, 2], [3, 1, 1], 1.0)],
)
def test_spearman_equals_its_closed_forms(
    quality: list[float], distance: list[float], expected: float
) -> None:
    assert spearman(np.array(quality), np.array(distance)) == pytest.approx(expected)


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as the scorer writes it: pictures in other moods, the worse the farther these moved."""
    folder = tmp_path_factory.mktemp("study")
    source = import_puppets(folder / "originals", clips=8, seed=2)
    rows: list[Row] = []
    for row in StoreReader(source).rows():
        if row["split"] != "train":
            continue
        rows.append(row | dict.fromkeys(QUALITIES) | {"weight": 1.0})
        for number, share in enumerate(SHARES):
            frames = redrawn(row, "video", share, 2)
            made = variant(row, "video", number, video=encode_video(frames, row["fps"]))
            made |= {"generator": json.dumps({"method": "redrawn"}), "quality_audio": None}
            rows.append(made | dict.fromkeys(("quality_video", "quality", "quality_cross"), 1 - share))
    return write_store(folder / "scored", rows)


def test_moods_that_move_farther_are_read_as_farther(puppets: Path) -> None:
    probes = CachedProbes({"video": RedrawnFaces(2)})
    found = list(changes(StoreReader(puppets), probes))
    assert len(found) == 4 * len(SHARES)
    assert {(each.made_by, each.kind) for each in found} == {("redrawn", "video")}
    by_share = np.array([each.distance for each in found]).reshape(4, len(SHARES)).mean(axis=0)
    assert np.all(np.diff(by_share) > 0)
    assert by_share[0] < 0.02
    assert spearman(*np.array([(each.quality, each.distance) for each in found]).T) > 0.6


def test_a_style_does_not_change_the_mood_of_a_face(puppets: Path) -> None:
    probe = RedrawnFaces(2)
    for row in StoreReader(puppets).rows():
        if row["kind"] == "original":
            frames = read_video(row["video"]["bytes"]).frames
            assert probe(row, frames) == pytest.approx(row["label_video"] / 3, abs=0.05)
            assert probe(row, restyled(frames)) == pytest.approx(row["label_video"] / 3, abs=0.1)


def test_puppets_of_another_seed_are_not_compared(puppets: Path) -> None:
    probe = RedrawnFaces(3)
    rows = [row for row in StoreReader(puppets).rows() if row["kind"] == "original"]
    with pytest.raises(RunError, match="is not what the seed 3 draws"):
        for row in rows:
            probe(row, read_video(row["video"]["bytes"]).frames)


def test_the_table_has_the_groups_that_are_large_enough() -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(0, 1, 40)
    good = [
        Change("fatezero", "video", f"c{at % 9}", d, 1 - d, rng.uniform(), d, rng.uniform())
        for at, d in enumerate(distances)
    ]
    few = [Change("sdedit", "video", "c0", 0.1, 0.5, 0.5, 0.5, 0.5)]
    lines = table(good + few).splitlines()[2:]
    assert [line.split(" | ")[1:3] for line in lines] == [["all", "41"], ["fatezero", "40"]]
    assert "| 1.00 (1.00 to 1.00) | " in lines[1]
    assert "| -1.00 (-1.00 to -1.00) | nan" in lines[1]  # nothing is left that novelty could explain


def test_other_clips_than_puppets_and_stores_without_scores_are_refused(
    tmp_path: Path, puppets: Path
) -> None:
    probes = CachedProbes({})
    with pytest.raises(RunError, match=r"holds clips of toy; the sentiment of puppets alone is known"):
        next(changes(StoreReader(write_store(tmp_path / "toy", [original(0)])), probes))
    plain = [row | {"quality": None} for row in StoreReader(puppets).rows()]
    bare = write_store(tmp_path / "bare", plain)
    with pytest.raises(RunError, match="none of its variants has a quality; score it first"):
        next(changes(StoreReader(bare), probes))
    originals = write_store(tmp_path / "originals", [row for row in plain if row["kind"] == "original"])
    with pytest.raises(RunError, match="has no variants; name a scored store that has some"):
        next(changes(StoreReader(originals), probes))


def test_a_folder_that_is_no_store_and_settings_without_a_seed_are_refused(
    tmp_path: Path, puppets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.scorer.sentiment.VoiceProbe", lambda: None)  # fitting it takes long
    with pytest.raises(RunError, match="nothere: not a store"):
        main([str(tmp_path / "nothere")])
    with pytest.raises(RunError, match=r"settings\.json has no seed; give that of its puppets with --seed"):
        main([str(puppets)])


def test_help_keeps_the_lines_of_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "\n    python -m benchmarks.scorer.sentiment SCORED [SCORED ...] [--seed N]\n\n" in (
        capsys.readouterr().out
    )
