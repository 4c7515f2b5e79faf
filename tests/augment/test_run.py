"""The augment stage by its command: what a variant keeps, what is done again, kills and shares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.__main__ import main
from augment.planning import check_embedded, settings
from augment.settings import AugmentConfig
from augment.video.settings import VideoSettings
from pipelines import media
from pipelines.errors import UsageError
from pipelines.row import media as in_row
from pipelines.settings import parse_stage
from pipelines.store import StoreReader
from tests import processes, tiny, tiny_diffusion
from tests.tiny_voices import converter, voiced


def clip(number: int, split: str, *, silent: bool = False) -> dict[str, Any]:
    sound = None if silent else in_row(media.encode_audio(voiced(0.5, 110 + 40 * number)))
    row_id = f"c/speaker{number}/0"
    return tiny.row(number, split, id=row_id, source_id=row_id, group=f"speaker{number}", audio=sound)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        clip(0, "train"),
        clip(1, "train"),
        clip(2, "train", silent=True),
        clip(3, "valid"),
        clip(4, "test"),
    ]
    return tiny.store(tmp_path_factory.mktemp("originals"), rows)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    voice = tmp_path_factory.mktemp("voice")
    converter().save_pretrained(voice)
    video = tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("video"))
    return [
        *("--augment.video.model", str(video), "--augment.video.styles", "[watercolor]"),
        *("--augment.video.source_prompt", "a person", "--augment.video.size", "32"),
        *("--augment.video.steps", "1", "--augment.audio.model", str(voice), "--augment.audio.steps", "1"),
    ]


def arguments(originals: Path, out: Path, models: list[str], *more: str) -> list[str]:
    return ["--data", str(originals), "--out", str(out), *models, "--augment.device", "cpu", *more]


def rows_of(store: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in StoreReader(store).rows()}


@pytest.fixture(scope="module")
def augmented(originals: Path, models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("augmented") / "store"
    main(arguments(originals, out, models, "--augment.both", "1"))
    return out


def test_training_clips_alone_get_the_variants_that_apply(augmented: Path) -> None:
    ids = StoreReader(augmented).table["id"].to_pylist()
    assert ids == [
        *("c/speaker0/0", "c/speaker0/0#video-0", "c/speaker0/0#audio-0", "c/speaker0/0#both-0"),
        *("c/speaker1/0", "c/speaker1/0#video-0", "c/speaker1/0#audio-0", "c/speaker1/0#both-0"),
        *("c/speaker2/0", "c/speaker2/0#video-0"),
        *("c/speaker3/0", "c/speaker4/0"),
    ]


def test_the_card_counts_the_variants_in_words(augmented: Path) -> None:
    card = (augmented / "README.md").read_text()
    assert "training clips, of which each has up to 1 video, 1 audio, 1 both. Words and labels" in card


def test_classic_variants_are_a_kind_of_their_own(originals: Path, tmp_path: Path) -> None:
    out, none = tmp_path / "store", ("--augment.video.variants", "0", "--augment.audio.variants", "0")
    main(arguments(originals, out, [], *none, "--augment.classic.variants", "2"))
    sources, made = rows_of(originals), rows_of(out)
    variants = [row for row in made.values() if row["kind"] == "classic"]
    assert {row["id"] for row in variants} == {
        f"c/speaker{speaker}/0#classic-{number}" for speaker in range(3) for number in range(2)
    }
    for row in variants:
        source = sources[row["source_id"]]
        assert row["video"] != source["video"]
        assert (row["audio"], row["text"], row["label"]) == (source["audio"], source["text"], source["label"])
        assert json.loads(row["generator"])["method"] == "classic"


@pytest.mark.parametrize(
    ("tracks", "replaced"), [("[audio]", {"audio"}), ("[audio,video]", {"video", "audio"})]
)
def test_classic_variants_replace_the_tracks_that_are_set_and_there(
    originals: Path, tmp_path: Path, tracks: str, replaced: set[str]
) -> None:
    none = ("--augment.video.variants", "0", "--augment.audio.variants", "0")
    classic = ("--augment.classic.variants", "1", "--augment.classic.tracks", tracks)
    main(arguments(originals, tmp_path / "store", [], *none, *classic))
    sources = rows_of(originals)
    variants = [row for row in rows_of(tmp_path / "store").values() if row["kind"] == "classic"]
    # The third speaker's clip has no sound: of it the picture alone can be replaced.
    speakers = range(3 if "video" in replaced else 2)
    assert [row["id"] for row in variants] == [f"c/speaker{speaker}/0#classic-0" for speaker in speakers]
    for row in variants:
        source, made = sources[row["source_id"]], json.loads(row["generator"])
        there = {track for track in replaced if source[track] is not None}
        assert {track for track in ("video", "audio") if row[track] != source[track]} == there
        assert {track for track in ("video", "audio") if track in made} == there
        assert made["method"] == "classic"


def test_voices_are_looked_for_where_a_variant_gets_one_alone(
    originals: Path, models: list[str], tmp_path: Path
) -> None:
    nowhere = ("--augment.audio.voices", str(tmp_path / "nowhere"), "--augment.audio.variants", "0")
    main(arguments(originals, tmp_path / "pictures", models, *nowhere))
    assert "c/speaker0/0#video-0" in rows_of(tmp_path / "pictures")
    with pytest.raises(UsageError, match=r"augment\.audio\.voices: .*nowhere is no folder"):
        main(arguments(originals, tmp_path / "both", models, *nowhere, "--augment.both", "1"))


def test_odd_sounds_are_told_of_and_the_rest_is_made(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = np.clip(40 * voiced(0.5, 120), -1, 1)
    sounds = {"silent": np.zeros(8_000, np.float32), "short": voiced(0.01, 150), "clipped": loud}
    rows = [
        tiny.row(n, "train", id=f"c/{name}/0", source_id=f"c/{name}/0", group=name, audio=in_row(sound))
        for n, (name, sound) in enumerate({k: media.encode_audio(s) for k, s in sounds.items()}.items())
    ]
    originals, out = tiny.store(tmp_path / "originals", rows), tmp_path / "store"
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "anna.flac").write_bytes(media.encode_audio(voiced(1.0, 220)))
    voices = ("--augment.audio.voices", str(tmp_path / "voices"), "--augment.video.variants", "0")
    main(arguments(originals, out, models, *voices, "--max-failures", "1"))
    made = rows_of(out)
    assert {row_id for row_id in made if "#" in row_id} == {"c/short/0#audio-0", "c/clipped/0#audio-0"}
    for name in ("short", "clipped"):
        heard = media.read_audio(made[f"c/{name}/0#audio-0"]["audio"]["bytes"])
        assert len(heard) == len(sounds[name])
        assert np.abs(heard).max() < 1
    (failure,) = (json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines())
    assert (failure["id"], failure["error"]) == ("c/silent/0#audio-0", "RowError")
    assert failure["message"].startswith("audio: silent, root mean square 0.0e+00 below 1e-04")
    assert "augment: 3 variants wanted, 2 made, 1 rejected" in capsys.readouterr().out


@pytest.fixture
def face_finder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in for facenet-pytorch, which tests after this one do not take for the real one."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "stand_ins"))
    yield
    sys.modules.pop("facenet_pytorch", None)


@pytest.mark.usefixtures("face_finder")
def test_a_clip_without_a_face_is_left_out_with_its_reason(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, nobody = np.full((2, 4, 48, 64, 3), 90, dtype=np.uint8)
    head[:, 8:32, 16:40] = 200
    rows = [
        tiny.row(n, "train", id=row_id, source_id=row_id, video=in_row(media.encode_video(frames, 10.0)))
        for n, (row_id, frames) in enumerate({"c/head/0": head, "c/nobody/0": nobody}.items())
    ]
    originals, out = tiny.store(tmp_path / "originals", rows), tmp_path / "store"
    crop = ("--augment.video.crop", "keep", "--augment.audio.variants", "0", "--max-failures", "1")
    main(arguments(originals, out, models, *crop))
    assert list(rows_of(out)) == ["c/head/0", "c/head/0#video-0", "c/nobody/0"]
    (failure,) = (json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines())
    assert (failure["id"], failure["stage"], failure["error"]) == (
        "c/nobody/0#video-0",
        "augment",
        "RowError",
    )
    assert "no face was found in 4 frames of 64 x 48 pixels" in failure["message"]
    assert "set augment.video.crop: none" in failure["message"]
    status = json.loads((out / "status.json").read_text())
    assert (status["done"], status["failed"], status["left"]) == (1, 1, 0)
    assert "augment: 2 variants wanted, 1 made, 1 rejected" in capsys.readouterr().out


def test_a_variant_replaces_its_media_and_keeps_all_else(originals: Path, augmented: Path) -> None:
    sources = rows_of(originals)
    changing = {"id", "kind", "generator", "video", "audio"}
    for row in rows_of(augmented).values():
        source = sources[row["source_id"]]
        assert {k: v for k, v in row.items() if k not in changing} == {
            k: v for k, v in source.items() if k not in changing
        }
        replaced = {"original": set(), "video": {"video"}, "audio": {"audio"}, "both": {"video", "audio"}}
        assert {name for name in ("video", "audio") if row[name] != source[name]} == replaced[row["kind"]]
        made = json.loads(row["generator"])
        assert row["kind"] == "original" or set(made) >= {
            "seed",
            "method",
            "versions",
            *replaced[row["kind"]],
        }


def test_more_variants_and_a_new_style_redo_nothing_else(
    originals: Path, models: list[str], augmented: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    main(arguments(originals, out, models, "--augment.both", "1"))
    assert rows_of(out) == rows_of(augmented)
    main(arguments(originals, out, models, "--augment.both", "1", "--augment.audio.variants", "2"))
    more = rows_of(out)
    assert {row_id: more[row_id] for row_id in rows_of(augmented)} == rows_of(augmented)
    assert set(more) - set(rows_of(augmented)) == {"c/speaker0/0#audio-1", "c/speaker1/0#audio-1"}
    other = ("--augment.both", "0", "--augment.video.styles", "[monet]")
    main(arguments(originals, out, models, *other, "--overwrite"))
    restyled = rows_of(out)
    assert restyled["c/speaker0/0#audio-0"] == more["c/speaker0/0#audio-0"]
    assert restyled["c/speaker0/0#video-0"]["video"] != more["c/speaker0/0#video-0"]["video"]


def test_what_no_variant_depends_on_redoes_none(
    originals: Path, models: list[str], augmented: Path, tmp_path: Path
) -> None:
    def told(*more: str) -> dict[str, Any]:
        given = arguments(originals, augmented, models, *more)
        return settings(parse_stage(AugmentConfig, "augment", given, prog="augment").config.video)

    assert told("--augment.video.fatezero.latents", str(tmp_path)) == told()
    assert told("--augment.video.video_to_video.strength", "0.9") == told()
    assert told("--augment.video.variants", "7") == told()
    assert told("--augment.video.allow_embedded", "true") == told()
    assert told("--augment.video.fatezero.own_frame", "false") != told()


@pytest.mark.slow
def test_killed_and_started_again_gives_the_rows_of_a_straight_run(
    originals: Path, models: list[str], augmented: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    command = arguments(originals, out, models, "--augment.both", "1")
    processes.kill("augment", command, once=lambda: list(out.glob("parts/*/*.parquet")))
    assert not (out / "README.md").exists()
    processes.run("augment", command)
    assert rows_of(out) == rows_of(augmented)


@pytest.mark.slow
def test_two_processes_give_the_rows_that_one_gives(
    originals: Path, models: list[str], augmented: Path, tmp_path: Path
) -> None:
    processes.run_two("augment", arguments(originals, tmp_path / "store", models, "--augment.both", "1"))
    assert rows_of(tmp_path / "store") == rows_of(augmented)


def test_the_embedded_model_edits_no_faces_of_people_unless_it_is_told_to(
    originals: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    refusal = (
        r"augment\.video\.model: got embedded, .*, and 3 of 3 training clips are not drawn \(corpus tiny\);"
        r" name a checkpoint such as stable-diffusion.*allow_embedded true"
    )
    with pytest.raises(UsageError, match=refusal):
        main(arguments(originals, out, []))
    assert [*out.glob("*")] == []
    quick = ("--augment.video.steps", "1", "--augment.video.size", "16", "--augment.audio.variants", "0")
    main(arguments(originals, out, [*quick, "--augment.video.allow_embedded", "true"]))
    assert "c/speaker0/0#video-0" in rows_of(out)


def test_drawn_heads_are_told_from_filmed_ones_row_by_row(tmp_path: Path) -> None:
    drawn, filmed = tiny.row(0, corpus="puppets"), tiny.row(1, corpus="mosi")
    silent = tiny.row(2, corpus="mosi", audio=None)
    unused = [tiny.row(3, corpus="mosi", video=None), tiny.row(4, "test", corpus="mosi")]

    def check(*rows: dict[str, Any], both: int = 0, **video: Any) -> None:
        store = tiny.store(tmp_path / str(len([*tmp_path.iterdir()])), [*rows, *unused])
        check_embedded(StoreReader(store), AugmentConfig(video=VideoSettings(**video), both=both))

    check(drawn)
    with pytest.raises(UsageError, match=r"1 of 2 training clips are not drawn \(corpus mosi\)"):
        check(drawn, filmed)
    check(drawn, filmed, allow_embedded=True)
    check(drawn, filmed, model="somebody/a-checkpoint")
    check(drawn, filmed, variants=0)
    check(drawn, silent, variants=0, both=1)  # a clip without audio has no variant of both
    with pytest.raises(UsageError, match="1 of 2 training clips"):
        check(drawn, filmed, silent, variants=0, both=1)


def test_its_own_store_and_a_missing_model_are_refused(
    originals: Path, models: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--out: .* is inside --data .*, which is read"):
        main(arguments(originals, originals, models))
    with pytest.raises(UsageError, match=r"augment\.video\.model: .* cannot be loaded"):
        main(arguments(originals, tmp_path / "o", [], "--augment.video.model", str(tmp_path / "nowhere")))
    with pytest.raises(UsageError, match="device: 'abacus' cannot be used"):
        main([*arguments(originals, tmp_path / "o", models), "--augment.device", "abacus"])
