"""Banks of voices: a folder with a list of speakers and genders, and datasets with their columns."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.audio import voice_sources
from augment.audio.settings import AudioSettings, VoiceDatasetSettings
from augment.audio.voice_bank import VoiceBank
from augment.audio.voice_sources import contents, of_dataset, of_folder
from augment.settings import AugmentConfig
from pipelines import media, provenance
from pipelines.errors import RowError, UsageError
from pipelines.row import media as in_row
from pipelines.store import StoreReader
from tests import tiny
from tests.tiny_voices import voiced

LIST = "path,speaker,gender\na.flac,anna,F\nb.flac,anna,\nsub/c.flac,bert,male\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    of_dataset.cache_clear()


def sounds(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(media.encode_audio(voiced(0.6, 110 + 20 * number)))


def dataset(folder: Path, count: int = 3, **columns: Any) -> Path:
    """A folder of Parquet files as `datasets` writes them."""
    import pyarrow
    import pyarrow.parquet
    from datasets import Audio, ClassLabel, Features, Value

    folder.mkdir()
    audio = [
        {"bytes": media.encode_audio(voiced(0.6, 110 + 20 * n)), "path": f"{n}.flac"} for n in range(count)
    ]
    features = {"audio": Audio(decode=False)} | {name: Value("int64") for name in columns}
    if "gender" in columns:
        features["gender"] = ClassLabel(names=["male", "female"])
    # `datasets` itself writes sound by torchcodec alone.
    made = pyarrow.Table.from_pydict({"audio": audio} | columns, schema=Features(features).arrow_schema)
    pyarrow.parquet.write_table(made, folder / "train.parquet")
    return folder


def test_a_list_tells_speakers_and_genders(tmp_path: Path) -> None:
    sounds(tmp_path, "a.flac", "b.flac", "sub/c.flac", "unlisted.flac")
    (tmp_path / "voices.csv").write_text(LIST, encoding="utf-8-sig")
    told = [(clip.name, clip.speaker, clip.gender) for clip in of_folder(tmp_path)]
    assert told == [("a.flac", "anna", "female"), ("b.flac", "anna", None), ("sub/c.flac", "bert", "male")]


def test_files_that_hold_no_speech_are_left_out_by_name(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in an import: companions that macOS writes, empty files, texts with a wrong suffix."""
    shutil.copytree(shared / "cases" / "voices", tmp_path, dirs_exist_ok=True)
    assert (tmp_path / "c" / "._take.wav").exists()
    (tmp_path / "c" / "empty.wav").write_bytes(b"")
    (tmp_path / "c" / "notes.wav").write_text("what was said")
    clips = voice_sources.clips_of(AudioSettings(voices=str(tmp_path)), StoreReader.__new__(StoreReader))
    assert [clip.name for clip in clips] == [f"{name}/take.wav" for name in "abc"]
    assert "c/empty.wav is empty (0 bytes)" in caplog.text
    assert "c/notes.wav is a text" in caplog.text


def of_speech(folder: Path) -> list[str]:
    clips = voice_sources.clips_of(AudioSettings(voices=str(folder)), StoreReader.__new__(StoreReader))
    return [clip.name for clip in clips]


def test_what_is_no_file_on_a_disk_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sounds(tmp_path, "a/take.flac", "b/take.flac", "b/take_\udce9.flac")
    before = contents(AudioSettings(voices=str(tmp_path)))
    os.mkfifo(tmp_path / "a/pipe.wav")
    (tmp_path / "a/folder.wav").mkdir()
    (tmp_path / "a/loop.wav").symlink_to("loop.wav")
    (tmp_path / "a/memory.wav").symlink_to("/proc/self/mem")
    assert of_speech(tmp_path) == ["a/take.flac", "b/take.flac"]
    assert contents(AudioSettings(voices=str(tmp_path))) == before
    for told in (
        "a/pipe.wav is a pipe, wanted a file",
        "a/loop.wav cannot be read (Too many levels of symbolic links)",
        "a/memory.wav lies in /proc, wanted a file on a disk",
        "b/take_\\udce9.flac is not named in UTF-8",
    ):
        assert told in caplog.text


def test_a_folders_digest_is_that_of_its_names_and_contents(tmp_path: Path) -> None:
    """Finished variants of earlier versions are found by it."""
    sounds(tmp_path, "a/take.flac", "b.flac")
    (tmp_path / "notes.txt").write_text("notes")
    assert contents(AudioSettings(voices=str(tmp_path))) == provenance.folder_digest(tmp_path)


def test_a_folder_without_speech_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=rf"{tmp_path} holds no \.wav, .*; put speech there"):
        of_speech(tmp_path)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(UsageError, match=rf"{tmp_path} holds no speech: empty\.wav is empty \(0 bytes\)"):
        of_speech(tmp_path)
    with pytest.raises(UsageError, match=r"augment\.audio\.voices: .* cannot be read \(File name too long\)"):
        of_speech(tmp_path / ("a" * 300))


def test_a_voice_that_goes_is_an_error_of_the_row(tmp_path: Path) -> None:
    sounds(tmp_path / "bank", "a.flac", "b.flac")
    row = tiny.row(0, group="someone", audio=in_row(media.encode_audio(voiced(0.6))))
    reader = StoreReader(tiny.store(tmp_path / "store", [row]))
    bank = VoiceBank(AudioSettings(voices=str(tmp_path / "bank")), reader)
    for name in ("a.flac", "b.flac"):
        (tmp_path / "bank" / name).unlink()
    with pytest.raises(
        RowError, match=r"the voice . \(.\.flac\) cannot be used: .* cannot be read \(No such file"
    ):
        bank.draw(reader.row(0), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,speaker\na.flac,anna\n",
            "found the columns file, speaker, wanted path, speaker and",
        ),
        ("", "found the columns none"),
        ("path,speaker\na.flac,\n", r"voices\.csv, line 2: no speaker; name who speaks in a\.flac"),
        ("path,speaker\na.flac,anna\nnowhere.flac,bert\n", r"line 3: 'nowhere\.flac' is no file"),
        ("path,speaker\n", r"holds no \.wav"),
        ("path,speaker\n,anna\n", r"line 2: '' is no file"),
        ("path,speaker\na.flac," + "a" * 200_000, r"voices\.csv: is no CSV, line 2: field larger"),
        ("a" * 2_000_000, r"voices\.csv: is no CSV, line 1: it has more than"),
    ],
)
def test_a_list_that_cannot_be_followed_is_told(tmp_path: Path, text: str, message: str) -> None:
    sounds(tmp_path, "a.flac")
    (tmp_path / "voices.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        of_folder(tmp_path)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_tells_by_its_columns(tmp_path: Path, streaming: bool) -> None:
    folder = dataset(tmp_path / "bank", speaker_id=[7, 7, 9], gender=[1, 1, 0])
    clips = of_dataset(str(folder), VoiceDatasetSettings(streaming=streaming))
    assert [(clip.name, clip.speaker, clip.gender) for clip in clips] == [
        ("train/0", "7", "female"),
        ("train/1", "7", "female"),
        ("train/2", "9", "male"),
    ]
    assert isinstance(clips[2].at, bytes)
    assert len(media.read_audio(clips[2].at)) == 9_600
    few = of_dataset(str(folder), VoiceDatasetSettings(streaming=streaming, clips=2))
    assert few == clips[:2]


def test_a_target_of_a_dataset(tmp_path: Path) -> None:
    row = tiny.row(0, group="7", audio=in_row(media.encode_audio(voiced(0.6))))
    reader = StoreReader(tiny.store(tmp_path / "store", [row]))
    folder = dataset(tmp_path / "bank", speaker=[7, 7, 9])
    bank = VoiceBank(AudioSettings(voices=str(folder)), reader)
    drawn = [bank.draw(reader.row(0), np.random.default_rng(seed)) for seed in range(8)]
    assert {(target.speaker, target.clip) for target in drawn} == {("9", "train/2")}
    assert bank.pitch_difference("7", "9") is not None


def test_what_a_dataset_holds_is_in_the_key_and_how_it_is_read_is_not(tmp_path: Path) -> None:
    from augment.planning import Attempt, plan

    row = tiny.row(0, audio=in_row(media.encode_audio(voiced(0.6))))
    reader = StoreReader(tiny.store(tmp_path / "store", [row]))
    one = dataset(tmp_path / "one", speaker=[7, 7, 9])
    other = dataset(tmp_path / "other", speaker=[7, 8, 9])

    def told(folder: Path, **how: Any) -> str:
        settings = AudioSettings(voices=str(folder), voices_dataset=VoiceDatasetSettings(**how))
        return contents(settings)

    assert told(one) == told(one, streaming=False) == told(one, clips=3)
    assert len({told(one), told(one, clips=2), told(other)}) == 3
    keys = []
    for streaming, clips in ((True, 3), (False, 200), (True, 1)):
        how = VoiceDatasetSettings(streaming=streaming, clips=clips)
        config = AugmentConfig(audio=AudioSettings(voices=str(one), voices_dataset=how))
        keys.append(Attempt(plan(reader, config, 0)[1], 0).task().key)
    assert keys[0] == keys[1] != keys[2]


def test_a_dataset_without_the_columns_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "bank", reader=[1, 2, 3])
    with pytest.raises(UsageError, match="has the columns audio, reader, wanted audio, speaker or speaker"):
        of_dataset(str(folder), VoiceDatasetSettings())


def test_a_name_that_is_neither_folder_nor_dataset_is_refused(tmp_path: Path) -> None:
    from datasets.exceptions import DatasetNotFoundError

    def nothing(name: str, *_: Any, **__: Any) -> None:
        raise DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub or cannot be accessed.")

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(UsageError, match="'voices-of/nobody' is no folder, and cannot be loaded as a dataset"),
    ):
        patch.setattr("datasets.load_dataset", nothing)
        voice_sources.clips_of(AudioSettings(voices="voices-of/nobody"), StoreReader.__new__(StoreReader))
    with pytest.raises(UsageError, match=r"split"):
        of_dataset(str(dataset(tmp_path / "bank", speaker=[1, 2, 3])), VoiceDatasetSettings(split="nowhere"))


def test_a_hub_dataset_is_asked_for_as_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder, asked = dataset(tmp_path / "bank", speaker=[1, 2, 3]), []

    def local(name: str, subset: str | None, **options: Any) -> Any:
        asked.append((name, subset, options.pop("revision")))
        return load_dataset(str(folder), **options)

    monkeypatch.setattr("datasets.load_dataset", local)
    settings = VoiceDatasetSettings(subset="clean", revision="v1")
    wanted = AudioSettings(voices="someone/voices", voices_dataset=settings)
    clips = voice_sources.clips_of(wanted, StoreReader.__new__(StoreReader))
    assert asked == [("someone/voices", "clean", "v1")]
    assert [clip.speaker for clip in clips] == ["1", "2", "3"]
