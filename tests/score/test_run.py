"""The stage on small stores: what comes out, what it never reads, and what becomes of odd rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from datasets import load_dataset

from pipelines import media as clips_on_disk
from pipelines.errors import RunError, UsageError
from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.row import Row, features, media
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader
from pipelines.store_files.checksums import read_sealed, write_sealed
from score import calibrate, measurement
from score.__main__ import FLAGS, main
from score.measurement import Comparison
from score.perturbation.picture import another_look
from score.perturbation.voice import another_voice
from score.quality import QUALITY_AT_BAD, load_calibration
from score.run import SCORES, reweigh, run
from score.settings import ScoreConfig
from score.signals.catalogue import JUDGED
from score.whole_split import MOST_MOOD
from tests import processes
from tests.pipelines.older_stores import as_before
from tests.score.clips import FPS, blurred, noisy, original, restyled, variant, with_noise, write_store

TRAIN, HELD_OUT, PAIRED = 18, 2, 6
NOTE = "Its voices bear a mark."
FEW = ("--score.calibration_clips", str(PAIRED))


def asked(data: Path, out: Path, *options: str) -> Invocation[ScoreConfig]:
    argv = ["--data", str(data), "--out", str(out), *FEW, *options]
    return parse_stage(ScoreConfig, "score", argv, prog="score", flags=FLAGS)


def score(data: Path, out: Path, *options: str) -> dict[str, Row]:
    run(asked(data, out, *options))
    return {row["id"]: row for row in StoreReader(out).rows()}


def decoded(row: Row) -> tuple[np.ndarray, np.ndarray]:
    return read_video(row["video"]["bytes"]).frames, read_audio(row["audio"]["bytes"])


def with_variants(row: Row) -> list[Row]:
    """An original with a good and a bad variant of each kind."""
    frames, samples = decoded(row)
    good = {"video": encode_video(restyled(frames), FPS), "audio": encode_audio(0.5 * samples)}
    bad_frames = noisy(blurred(np.roll(frames, 8, axis=0), 4), 20)
    bad = {"video": encode_video(bad_frames, FPS), "audio": encode_audio(with_noise(samples, -5))}
    tracks = {"video": ("video",), "audio": ("audio",), "both": ("video", "audio")}
    made = [row]
    for kind, names in tracks.items():
        for number, source in enumerate((good, bad)):
            made.append(variant(row, kind, number, **{name: source[name] for name in names}))
    return made


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    train = [with_variants(original(seed)) if seed < 4 else [original(seed)] for seed in range(TRAIN)]
    rest = [[original(100 + n, split=split)] for n in range(HELD_OUT) for split in ("valid", "test")]
    return [row for group in (*train, *rest) for row in group]


@pytest.fixture(scope="module")
def store(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_store(tmp_path_factory.mktemp("augmented"), rows)
    path = folder / "settings.json"
    write_sealed(path, read_sealed(path) | {"notes": [NOTE]})
    return folder


@pytest.fixture(scope="module")
def scored(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored")
    run(asked(store, out))
    return out


def changed(rows: list[Row], change: Callable[[Row], dict[str, Any]]) -> list[Row]:
    return [row | change(row) for row in rows]


def test_the_store_has_every_row_with_its_columns_and_weights_in_range(rows: list[Row], scored: Path) -> None:
    loaded = load_dataset(str(scored), cache_dir=str(scored / "cache"))
    assert loaded["train"].features == features(SCORES)
    assert sum(map(len, loaded.values())) == len(rows)
    for row in StoreReader(scored).rows():
        if row["kind"] == "original":
            assert row["weight"] == 1.0
            assert all(row[name] is None for name in (*SCORES, "quality"))
        else:
            assert 0.1 <= row["weight"] <= 1
            assert 0 < row["quality"] <= 1
            for modality in ("video", "audio", "cross"):
                assert (row[f"quality_{modality}"] is not None) == (modality in JUDGED[row["kind"]])


@pytest.mark.parametrize(("number", "ruined"), [(0, False), (1, True)])
def test_ruined_video_ends_the_stage_with_a_warning(
    rows: list[Row], number: int, ruined: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [row for row in rows if row["kind"] == "original" or row["id"].endswith(f"-{number}")]
    made = score(write_store(tmp_path / "in", kept), tmp_path / "out")
    qualities = [row["quality_video"] for row in made.values() if row["kind"] in ("video", "both")]
    told = [record.getMessage() for record in caplog.records if "median quality_video" in record.message]
    assert (np.median(qualities) < QUALITY_AT_BAD) == ruined
    if ruined:
        assert caplog.records[-1].getMessage() == told[0]
        assert told[0].startswith(f"the median quality_video of {len(qualities)} video variants is 0.0")
        assert "below the 0.1 of another clip's video" in told[0]
        assert "set augment.video.model to a checkpoint for such clips" in told[0]
    else:
        assert told == []


def test_a_classic_row_is_judged_by_the_tracks_that_it_replaced(rows: list[Row], tmp_path: Path) -> None:
    originals = [row for row in rows if row["kind"] == "original" and row["split"] == "train"][:6]
    source = originals[0]
    frames, samples = decoded(source)
    new = {"video": encode_video(restyled(frames), FPS), "audio": encode_audio(with_noise(samples, 20))}
    wanted = {
        0: ((), ("video",), {"video", "cross"}),  # of a maker that tells nothing
        1: (("video",), ("video",), {"video", "cross"}),
        2: (("audio",), ("audio",), {"audio", "cross"}),
        3: (("video", "audio"), ("video", "audio"), {"video", "audio", "cross"}),
    }
    made = [
        variant(source, "classic", number, **{track: new[track] for track in tracks})
        | {"generator": json.dumps({"number": number} | {track: {} for track in told})}
        for number, (told, tracks, _) in wanted.items()
    ]
    scored = score(write_store(tmp_path / "augmented", [*originals, *made]), tmp_path / "scored")
    for row, (*_, judged) in zip(made, wanted.values(), strict=True):
        found = scored[row["id"]]
        told = {name for name in ("video", "audio", "cross") if found[f"quality_{name}"] is not None}
        assert told == judged
        assert (found["score_audio_energy"] is not None) == ("audio" in judged)


def test_what_the_store_before_has_to_say_stays_on_the_card(scored: Path, tmp_path: Path) -> None:
    assert f"\n\n{NOTE}\n\n| split |" in (scored / "README.md").read_text()
    copy = shutil.copytree(scored, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    reweigh(asked(copy, copy, "--reweigh", "--score.gamma", "2"))
    assert NOTE in (copy / "README.md").read_text()


def test_a_good_variant_weighs_more_than_a_bad_one(scored: Path) -> None:
    weights = {row["id"]: row["weight"] for row in StoreReader(scored).rows()}
    margins = {
        row_id: weight - weights[row_id[:-1] + "1"]
        for row_id, weight in weights.items()
        if row_id.endswith("-0")
    }
    # The least is near 0: a predictor fitted on 18 clips takes one change of colours for a change of mood.
    assert min(margins.values()) > 0, margins
    assert np.mean([*margins.values()]) > 0.5


def harmless(row: Row) -> list[Row]:
    """A variant of each kind, changed in no other way than the good pairs, with other seeds."""
    seed = int(row["id"][-3:])
    frames, samples = decoded(row)
    look = encode_video(another_look(frames, seed), FPS)
    voice = encode_audio(another_voice(samples, seed))
    tracks = {"video": {"video": look}, "audio": {"audio": voice}, "both": {"video": look, "audio": voice}}
    return [variant(row, kind, 2, **made) for kind, made in tracks.items()]


def test_all_good_variants_weigh_much_all_bad_ones_little_and_neither_depends_on_the_other(
    rows: list[Row], tmp_path: Path
) -> None:
    originals = [row for row in rows if row["kind"] == "original" and row["split"] == "train"]
    made = {
        "good": [each for row in originals[:8] for each in harmless(row)],
        "bad": [row for row in rows if row["id"].endswith("-1")],
    }
    made["mixed"] = made["good"] + made["bad"]
    # Predictors that are fitted on 18 clips take some harmless changes for a change of mood.
    options = ["--score.disabled_signals", "[video_agreement, audio_agreement]"]
    options += ["--score.calibration_clips", str(TRAIN)]
    weights = {}
    for name, variants in made.items():
        data = write_store(tmp_path / f"{name}_in", [*originals, *variants])
        found = score(data, tmp_path / name, *options)
        weights[name] = {row["id"]: found[row["id"]]["weight"] for row in variants}
    assert weights["mixed"] == weights["good"] | weights["bad"]
    good, bad = (np.mean([*weights[name].values()]) for name in ("good", "bad"))
    assert good > 0.9
    assert bad < 0.15
    reweigh(asked(tmp_path / "good", tmp_path / "good", *options, "--reweigh", "--score.scale", "ranks"))
    ranks = {row["id"]: row["weight"] for row in StoreReader(tmp_path / "good").rows()}
    assert np.mean([ranks[row_id] for row_id in weights["good"]]) < good


def test_a_variant_of_both_tracks_is_as_good_as_its_worse_half(scored: Path) -> None:
    found = {row["id"]: row for row in StoreReader(scored).rows()}
    for row in (row for row in found.values() if row["kind"] == "both"):
        parts = [row[f"quality_{modality}"] for modality in ("video", "audio", "cross")]
        assert row["quality"] <= min(part for part in parts if part is not None)
        for half in ("video", "audio"):  # its track is the same as in the variant of it alone
            alone = found[row["id"].replace("both", half)]
            assert row[f"quality_{half}"] == alone[f"quality_{half}"]


def test_ruined_variants_are_listed_and_left_out_on_request(
    store: Path, scored: Path, tmp_path: Path
) -> None:
    summary = json.loads((scored / "weights.json").read_text())
    before = {row["id"]: row for row in StoreReader(scored).rows()}
    ruined = {
        row_id
        for row_id, row in before.items()
        if row["quality"] is not None and row["quality"] < summary["anchors"]["bad"]
    }
    assert ruined
    assert set(summary["ruined"]) == ruined
    assert [before[row_id]["weight"] for row_id in ruined] == pytest.approx([0.1] * len(ruined))
    dropped = score(store, tmp_path, "--score.ruined", "drop")
    assert json.loads((tmp_path / "weights.json").read_text())["ruined"] == summary["ruined"]
    for row_id, row in before.items():
        assert dropped[row_id]["weight"] == (0 if row_id in ruined else row["weight"])


def test_media_labels_and_words_pass_through_unchanged(rows: list[Row], scored: Path) -> None:
    written = {row["id"]: row for row in StoreReader(scored).rows()}
    for row in rows:
        kept = {name: written[row["id"]][name] for name in ("video", "audio", "text", "generator", "split")}
        assert kept == {name: row[name] for name in kept}


def test_records_beside_the_store_tell_what_was_found(scored: Path) -> None:
    calibration = json.loads((scored / "calibration.json").read_text())
    explained = calibration["predictors"]["video_agreement"]["correlation"] ** 2
    assert explained > 0.1
    weight = calibration["signal_weights"]["video_agreement"]
    assert weight == pytest.approx(min(MOST_MOOD, (explained / (1 - explained)) ** 2))
    assert calibration["signals"]["video_structure"]["basis"] == "corpus"
    summary = json.loads((scored / "weights.json").read_text())
    assert (summary["variants"], summary["without_quality"], summary["scale"]) == (24, 0, "anchored")
    assert summary["anchors"]["basis"] == "corpus"
    assert (summary["q_low"], summary["q_high"]) == (summary["anchors"]["bad"], summary["anchors"]["good"])
    assert set(summary["mean_weight"]) == {"video", "audio", "both"}
    assert 1 < summary["effective_size"] < 24


def test_rows_of_valid_and_test_are_never_read(rows: list[Row], scored: Path, tmp_path: Path) -> None:
    def spoil(row: Row) -> dict[str, Any]:
        return {} if row["split"] == "train" else {"video": media(b"no clip"), "audio": None, "label": -3.0}

    found = score(write_store(tmp_path / "in", changed(rows, spoil)), tmp_path / "out")
    for row in StoreReader(scored).rows():
        if row["split"] == "train":
            assert found[row["id"]] == row
        else:
            assert found[row["id"]]["video"]["bytes"] == b"no clip"
    assert (tmp_path / "out" / "failures.jsonl").read_text() == ""


def test_nothing_is_fitted_on_variants(rows: list[Row], scored: Path, tmp_path: Path) -> None:
    one = next(row["id"] for row in rows if row["kind"] == "video")
    fewer = write_store(
        tmp_path / "in", [row for row in rows if row["kind"] == "original" or row["id"] == one]
    )
    found = score(fewer, tmp_path / "out")
    before = next(iter(StoreReader(scored).rows([one])))
    assert {name: found[one][name] for name in SCORES} == {name: before[name] for name in SCORES}
    assert found[one]["quality"] == before["quality"]


def test_scored_again_does_nothing_and_a_new_variant_is_measured_alone(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    class Counting(measurement.ScoreVariants):
        def __call__(self, comparisons: Sequence[Comparison[Row]]) -> list[Row]:
            measured.extend(each.row["id"] for each in comparisons)
            return super().__call__(comparisons)

    monkeypatch.setattr(measurement, "ScoreVariants", Counting)
    late = next(row for row in rows if row["kind"] == "both")
    early = [row for row in rows if row is not late]
    score(write_store(tmp_path / "in", early), tmp_path / "out")
    assert sorted(measured) == sorted(row["id"] for row in early if row["split"] == "train")
    measured.clear()
    score(tmp_path / "in", tmp_path / "out", "--score.gamma", "2")
    assert measured == []
    grown = score(write_store(tmp_path / "in", rows, generation="1" * 12), tmp_path / "out")
    assert measured == [late["id"]]
    assert grown == score(tmp_path / "in", tmp_path / "straight")


@pytest.mark.parametrize("damage", [None, 0, 1000, "flip"])
def test_lost_measures_are_made_again(
    store: Path, scored: Path, tmp_path: Path, damage: int | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(scored, out, ignore=shutil.ignore_patterns("cache"))
    path = out / "measures.parquet"
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        content[len(content) // 2] ^= 1
    if damage is not None:
        path.write_bytes(content if damage == "flip" else content[:damage])
    run(asked(store, out))
    assert "all rows are measured again" in caplog.text
    assert [*StoreReader(out).rows()] == [*StoreReader(scored).rows()]
    assert path.read_bytes() == (scored / "measures.parquet").read_bytes()


def test_killed_and_started_again_gives_the_rows_of_a_straight_run(
    store: Path, scored: Path, tmp_path: Path
) -> None:
    command = ["--data", str(store), "--out", str(tmp_path), *FEW]
    processes.kill("score", command, once=lambda: list(tmp_path.glob("parts/*/*.parquet")))
    assert not (tmp_path / "README.md").exists()
    processes.run("score", command)
    assert list(StoreReader(tmp_path).rows()) == list(StoreReader(scored).rows())


@pytest.mark.parametrize(
    "new",
    [
        ("--score.gamma", "2", "--score.floor", "0.3", "--score.ruined", "drop"),
        ("--score.scale", "ranks", "--score.high", "0.7", "--score.novelty", "0.5"),
    ],
)
def test_weighing_again_equals_scoring_with_the_new_settings_and_decodes_nothing(
    new: tuple[str, ...], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = score(store, tmp_path / "straight", *new)
    before = score(store, tmp_path / "out")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a clip was decoded")

    for name in ("read_video", "read_audio"):
        monkeypatch.setattr(clips_on_disk, name, refuse)
    monkeypatch.setattr(measurement, "read_video", refuse)
    main(["--out", str(tmp_path / "out"), "--reweigh", *FEW, *new])
    after = {row["id"]: row for row in StoreReader(tmp_path / "out").rows()}
    assert after == straight
    assert after != before
    # A run with the same settings finds nothing left to do.
    assert score(store, tmp_path / "out", *new) == straight


def test_weighing_again_keeps_what_the_store_was_measured_with(scored: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(scored, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    main(["--out", str(copy), "--reweigh", "--score.gamma", "2", "--seed", "7"])
    before, after = (json.loads((folder / "settings.json").read_text()) for folder in (scored, copy))
    assert after["config"] == before["config"] | {"gamma": 2.0}
    assert after["seed"] == before["seed"]
    for option, value in (("folds", "2"), ("label_probability", "x.parquet"), ("models.image", "a/b")):
        with pytest.raises(
            UsageError, match=rf"^--reweigh: score.{option.split('.')[0]}: got .*measured with"
        ):
            main(["--out", str(copy), "--reweigh", f"--score.{option}", value])


def test_weighing_again_refuses_a_store_without_signals(store: Path) -> None:
    with pytest.raises(RunError, match=r"has no scores; score the store first"):
        reweigh(asked(store, store))


def test_a_store_of_before_a_signal_came_to_be_is_weighed_again(
    scored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(scored, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    whole = {row["id"]: row for row in StoreReader(copy).rows()}
    as_before(copy)
    for file in (copy / "data").glob("*.parquet"):
        table = pyarrow.parquet.read_table(file).drop_columns(["score_audio_pitch"])
        pyarrow.parquet.write_table(table, file)
    reweigh(asked(copy, copy, "--reweigh", "--score.gamma", "2"))
    assert "was scored without score_audio_pitch; score it again to have them" in caplog.text
    for row in StoreReader(copy).rows():
        assert row["score_audio_pitch"] is None
        same = {"video": ("quality_video", "score_video_motion"), "audio": ("score_audio_energy",)}
        assert all(row[name] == whole[row["id"]][name] for name in same.get(row["kind"], ()))


def test_a_store_of_0_1_0_is_weighed_and_calibrated_again(
    store: Path, scored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(scored, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    calibration = (copy / "calibration.json").read_text()
    (copy / "calibration.json").write_text(calibration.replace('"basis": "corpus"', '"basis": "usual"', 1))
    table = pyarrow.parquet.read_table(copy / measurement.FILE)
    measured = table.to_pylist()
    cases = [case for row in measured for case in row["cases"] if case["case"] == "corrupted"]
    assert len(cases) == PAIRED
    for case in cases:
        case["case"] = "spoiled"
    old = pyarrow.Table.from_pylist(measured, schema=table.schema)
    pyarrow.parquet.write_table(old, copy / measurement.FILE)
    (copy / calibrate.PAIRS_FILE).unlink()
    before = list(StoreReader(scored).rows())
    reweigh(asked(copy, copy, "--reweigh"))
    assert "was scored without pairs.jsonl; score it again to have a scale of its own" in caplog.text
    assert "weights are on the default scale, from a quality of 0.1 to 1: found 0 good" in caplog.text
    for row, wanted in zip(StoreReader(copy).rows(), before, strict=True):
        assert row["quality"] == wanted["quality"]
        assert row["weight"] == pytest.approx(wanted["weight"], abs=0.1)
    assert list(score(store, copy).values()) == before
    assert (copy / "calibration.json").read_text() == calibration


def test_a_version_that_judges_otherwise_writes_the_rows_that_its_calibration_gives(
    store: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(scored, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    before = {row["id"]: row for row in StoreReader(copy).rows()}
    monkeypatch.setattr(calibrate, "GOOD_QUANTILE", 0.8)
    found = score(store, copy)
    assert found != before
    assert found == score(store, tmp_path / "straight")


def test_signals_that_are_disabled_are_stored_and_do_not_count(store: Path, tmp_path: Path) -> None:
    whole = score(store, tmp_path / "out")
    disabled = ("--score.disabled_signals", "[video_structure,audio_pitch]")
    without = score(store, tmp_path / "without", *disabled)
    names = json.loads((tmp_path / "without" / "weights.json").read_text())["signals"]
    assert not {"video_structure", "audio_pitch"} & set(names)
    for row_id, row in without.items():
        assert {name: row[name] for name in SCORES} == {name: whole[row_id][name] for name in SCORES}
    assert any(row["quality_video"] != whole[row_id]["quality_video"] for row_id, row in without.items())
    reweigh(asked(tmp_path / "out", tmp_path / "out", "--reweigh", *disabled))
    assert {row["id"]: row for row in StoreReader(tmp_path / "out").rows()} == without


def test_signals_that_are_chosen_and_not_there_are_told(
    scored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(scored, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    main(["--out", str(copy), "--reweigh", "--score.signals", "[video_motion,video_content]"])
    assert caplog.text.count("score.signals: the store has no video_content, which do not count") == 1
    before = (copy / "weights.json").read_bytes()
    with pytest.raises(
        UsageError, match=r"score.signals: got video_content, none of which could be measured"
    ):
        main(["--out", str(copy), "--reweigh", "--score.signals", "[video_content]"])
    assert (copy / "weights.json").read_bytes() == before
    chosen = ("--score.signals", "[video_content,cross_label]")
    with pytest.raises(UsageError, match=r"^score.signals: got video_content, cross_label, whose models are"):
        run(asked(scored, tmp_path / "new", *chosen))
    assert not (tmp_path / "new").exists()


def test_only_signals_that_are_chosen_count(store: Path, tmp_path: Path) -> None:
    found = score(store, tmp_path, "--score.signals", "[video_structure]")
    anchors = load_calibration(tmp_path).signals["video_structure"]
    for row in found.values():
        if row["score_video_structure"] is None:
            assert row["quality"] is None
        else:
            expected = anchors.quality(np.array([row["score_video_structure"]]))[0]
            assert row["quality"] == row["quality_video"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signals": ("video_moton",)}, "^signals: got video_moton; takes video_flicker, "),
        (
            {"disabled_signals": ("video_novelty",)},
            "^disabled_signals: got video_novelty; takes ",
        ),
        (
            {"signals": ("video_motion",), "disabled_signals": ("video_motion",)},
            "^disabled_signals: no signal is left that counts",
        ),
    ],
)
def test_signals_that_there_are_not_are_refused(options: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreConfig(**options)


@pytest.mark.slow
def test_two_processes_give_the_rows_that_one_gives(store: Path, scored: Path, tmp_path: Path) -> None:
    processes.run_two("score", ["--data", str(store), "--out", str(tmp_path), *FEW])
    assert list(StoreReader(tmp_path).rows()) == list(StoreReader(scored).rows())


def test_odd_rows_have_their_documented_outcomes(rows: list[Row], tmp_path: Path) -> None:
    video = [row["id"] for row in rows if row["kind"] == "video"]
    audio = [row["id"] for row in rows if row["kind"] == "audio"]
    source = next(row for row in rows if row["id"] == rows[0]["source_id"])
    frames, samples = decoded(source)
    odd = {
        video[0]: {"video": media(b"not an mp4")},
        video[1]: {"video": media(encode_video(frames[:5], FPS))},
        video[2]: {"video": None},
        video[3]: {"source_id": "toy/nobody"},
        audio[0]: {"audio": media(encode_audio(np.zeros_like(samples)))},
        audio[1]: {"audio": media(source["audio"]["bytes"][:100])},
    }
    found = score(
        write_store(tmp_path / "in", changed(rows, lambda row: odd.get(row["id"], {}))), tmp_path / "out"
    )
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    failures = {record["id"]: (record["error"], record["message"]) for record in map(json.loads, lines)}
    assert set(failures) == {*video[:4], audio[1]}
    assert failures[video[0]][0] == failures[audio[1]][0] == "MediaError"
    assert "lasts 0.40 s, its source's 1.28 s" in failures[video[1]][1]
    assert "found no video, a variant of kind video needs one" in failures[video[2]][1]
    assert "toy/nobody is not among the store's originals" in failures[video[3]][1]
    assert len(found) == len(rows) - len(failures)
    silent = found[audio[0]]
    assert silent["score_audio_pitch"] == 0
    assert silent["weight"] == pytest.approx(0.1)
    assert all(np.isfinite(row["weight"]) for row in found.values())


def test_a_corrupt_original_goes_with_its_variants_and_the_rest_is_scored(
    rows: list[Row], tmp_path: Path
) -> None:
    broken = rows[0]["id"]
    spoilt = changed(rows, lambda row: {"audio": media(b"?")} if row["id"] == broken else {})
    found = score(write_store(tmp_path / "in", spoilt), tmp_path / "out")
    assert set(found) == {row["id"] for row in rows if row["source_id"] != broken}


def test_clips_without_sound_are_judged_by_their_picture(rows: list[Row], tmp_path: Path) -> None:
    mute = [row | {"audio": None} for row in rows if row["kind"] in ("original", "video")]
    found = score(write_store(tmp_path / "in", mute), tmp_path / "out")
    for row in found.values():
        if row["kind"] == "video":
            assert row["score_cross_sync"] is None
            assert row["quality_video"] is not None
            assert 0.1 <= row["weight"] <= 1


def text_alone(row: Row, number: int) -> Row:
    """A row of a group of its own that has the words of another and no media."""
    row_id = f"c/text{number}"
    lacking = dict.fromkeys(("video", "audio", "duration_s", "fps"))
    return row | lacking | {"id": row_id, "source_id": row_id, "group": row_id}


def test_rows_of_text_alone_pass_through_and_change_no_weight(rows: list[Row], tmp_path: Path) -> None:
    originals = [row for row in rows if row["kind"] == "original"]
    mixed = [*[text_alone(row, number) for number, row in enumerate(originals)], *rows]
    without = score(write_store(tmp_path / "in", rows), tmp_path / "out")
    found = score(write_store(tmp_path / "mixed", mixed), tmp_path / "out-mixed")
    assert {row_id: found[row_id] for row_id in without} == without
    assert all(found[f"c/text{number}"]["weight"] == 1 for number in range(len(originals)))
    calibrations = [(tmp_path / out / "calibration.json").read_text() for out in ("out", "out-mixed")]
    assert calibrations[0] == calibrations[1]


def test_a_store_of_text_alone_is_scored(rows: list[Row], tmp_path: Path) -> None:
    only = [text_alone(rows[0], number) for number in range(3)]
    found = score(write_store(tmp_path / "in", only), tmp_path / "out")
    assert [row["weight"] for row in found.values()] == [1, 1, 1]


def test_a_small_corpus_says_what_it_leaves_out(
    rows: list[Row], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = [row for row in rows if row["source_id"] in {row["id"] for row in rows[:1]}]
    found = score(write_store(tmp_path / "in", few), tmp_path / "out")
    assert "the signal video_agreement is left out: found 1 labelled originals of 1 groups" in caplog.text
    assert (
        json.loads((tmp_path / "out" / "calibration.json").read_text())["signals"]["audio_pitch"]["basis"]
        == "default"
    )
    assert len(found) == len(few)


def test_variants_outside_train_and_the_own_store_are_refused(
    rows: list[Row], store: Path, tmp_path: Path
) -> None:
    stray = changed(rows, lambda row: {"split": "test"} if row["kind"] == "audio" else {})
    with pytest.raises(RunError, match=r"8 variants are not in the split train, the first is toy/"):
        score(write_store(tmp_path / "in", stray), tmp_path / "out")
    for inside in (store, store / "scored"):
        with pytest.raises(UsageError, match=r"--out: .* is inside --data .*; name a folder outside it"):
            score(store, inside)
    unknown = changed(rows, lambda row: {"kind": "voice"} if row["kind"] == "audio" else {})
    with pytest.raises(RunError, match=r"8 rows are of an unknown kind .*: voice\); takes original, video"):
        score(write_store(tmp_path / "unknown", unknown), tmp_path / "out")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("floor", "2", r"score\.floor: 2 is not in \[0, 1\]"),
        ("scale", "rank", r"score\.scale.*anchored"),
        ("novelty", "-1", r"score\.novelty: -1 is not 0 or more"),
        ("folds", "1", r"score\.folds: 1 is not 2 or more"),
        ("calibration_clips", "-1", r"score\.calibration_clips: -1 is negative"),
    ],
)
def test_settings_out_of_range_are_refused_by_their_key(option: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(Path("a"), Path("b"), f"--score.{option}={value}")
