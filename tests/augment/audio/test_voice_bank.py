"""Target voices: never the source's speaker, drawn by seed, from the corpus or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.audio.settings import AudioSettings
from augment.audio.voice_bank import VoiceBank
from pipelines import media
from pipelines.errors import RowError, UsageError
from pipelines.row import media as in_row
from pipelines.row import variant_id
from pipelines.store import StoreReader
from tests import tiny
from tests.tiny_voices import voiced

PITCHES = {"anna": 200.0, "bert": 100.0, "cleo": 240.0}


def clip(number: int, speaker: str, **changes: Any) -> dict[str, Any]:
    sound = media.encode_audio(voiced(0.6 + 0.1 * number, PITCHES[speaker]))
    return tiny.row(number, group=speaker, audio=in_row(sound), **changes)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    rows = [clip(number, speaker) for number, speaker in enumerate(["anna", "anna", "bert", "bert", "cleo"])]
    mute = tiny.row(7, group="mute", audio=None)
    held_out = tiny.row(8, group="held out", split="test")
    made = rows[0] | {"id": variant_id(rows[0]["id"], "audio", 0), "kind": "audio", "group": "made"}
    return StoreReader(tiny.store(tmp_path_factory.mktemp("store"), [*rows, mute, held_out, made]))


def test_a_target_is_another_speaker_of_the_training_splits_originals(reader: StoreReader) -> None:
    bank = VoiceBank(AudioSettings(), reader)
    row = reader.row(0)
    drawn = [bank.draw(row, np.random.default_rng(seed)) for seed in range(40)]
    assert {target.speaker for target in drawn} == {"bert", "cleo"}
    for target in drawn:
        source = reader.row(reader.index_of(target.clip))
        assert source["group"] == target.speaker
        assert np.array_equal(target.samples, media.read_audio(source["audio"]["bytes"]))


def test_the_seed_alone_decides_who_is_drawn(reader: StoreReader) -> None:
    row = reader.row(0)
    first, second = (
        [VoiceBank(AudioSettings(), reader).draw(row, np.random.default_rng(seed)).clip for seed in range(8)]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 1


def test_how_far_voices_lie_apart(reader: StoreReader) -> None:
    bank = VoiceBank(AudioSettings(), reader)
    apart = bank.pitch_difference("bert", "anna")
    assert apart == pytest.approx(1.0, abs=0.1)
    back = bank.pitch_difference("anna", "bert")
    assert apart is not None
    assert back == pytest.approx(-apart)


def test_a_folder_of_voices(reader: StoreReader, tmp_path: Path) -> None:
    (tmp_path / "dora").mkdir()
    for name, pitch in (
        ("dora/one.flac", 210),
        ("dora/two.flac", 212),
        ("emil.flac", 105),
        ("anna.flac", 200),
    ):
        (tmp_path / name).write_bytes(media.encode_audio(voiced(3.0, pitch)))
    (tmp_path / "notes.txt").write_text("no sound")
    bank = VoiceBank(AudioSettings(voices=str(tmp_path), reference_s=1.0), reader)
    drawn = [bank.draw(reader.row(0), np.random.default_rng(seed)) for seed in range(30)]
    # A file named after the source's own speaker is taken for that speaker.
    assert {target.speaker for target in drawn} == {"dora", "emil"}
    assert {target.clip for target in drawn} == {"dora/one.flac", "dora/two.flac", "emil.flac"}
    assert all(len(target.samples) == 16_000 for target in drawn)
    assert bank.pitch_difference("bert", "dora") == pytest.approx(np.log2(210 / 100), abs=0.15)


def test_targets_of_the_sources_gender_by_pitch(reader: StoreReader) -> None:
    bank = VoiceBank(AudioSettings(target_gender="same"), reader)
    assert [bank.gender(name) for name in PITCHES] == ["female", "male", "female"]
    drawn = [bank.draw(reader.row(0), np.random.default_rng(seed)) for seed in range(10)]
    assert {(target.speaker, target.gender) for target in drawn} == {("cleo", "female")}
    with pytest.raises(ValueError, match=r"none of the 2 other voices in the training split is male"):
        bank.draw(reader.row(2), np.random.default_rng(0))


def test_tags_come_before_pitch(reader: StoreReader, tmp_path: Path) -> None:
    for name, pitch in (("high.flac", 220), ("low.flac", 100), ("untagged.flac", 105)):
        (tmp_path / name).write_bytes(media.encode_audio(voiced(1.0, pitch)))
    listed = "path,speaker,gender\nhigh.flac,high,m\nlow.flac,low,f\nuntagged.flac,untagged,\n"
    (tmp_path / "voices.csv").write_text(listed)
    bank = VoiceBank(AudioSettings(voices=str(tmp_path), target_gender="same"), reader)
    assert [bank.gender(name) for name in ("high", "low", "untagged")] == ["male", "female", "male"]
    # bert's low voice is a man's by its pitch.
    drawn = {bank.draw(reader.row(2), np.random.default_rng(seed)).speaker for seed in range(20)}
    assert drawn == {"high", "untagged"}
    # A speaker of the corpus whom the list names is tagged there.
    (tmp_path / "voices.csv").write_text(listed + "high.flac,bert,f\n")
    bank = VoiceBank(AudioSettings(voices=str(tmp_path), target_gender="same"), reader)
    assert {bank.draw(reader.row(2), np.random.default_rng(seed)).speaker for seed in range(20)} == {"low"}


def test_a_source_without_tag_and_pitch_has_no_gender(reader: StoreReader, tmp_path: Path) -> None:
    hiss = 0.05 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    rows = [tiny.row(0, group="hiss", audio=in_row(media.encode_audio(hiss))), clip(1, "anna")]
    store = StoreReader(tiny.store(tmp_path, rows))
    with pytest.raises(
        ValueError, match="hiss has neither a gender tag nor a pitch to guess the gender from"
    ):
        VoiceBank(AudioSettings(target_gender="same"), store).draw(store.row(0), np.random.default_rng(0))


def test_a_reference_is_speech(reader: StoreReader, tmp_path: Path) -> None:
    nothing = np.zeros(32_000, np.float32)
    sound = np.concatenate([nothing, voiced(1.0, 120), nothing, voiced(1.0, 120)])
    (tmp_path / "late.flac").write_bytes(media.encode_audio(sound))
    bank = VoiceBank(AudioSettings(voices=str(tmp_path), reference_s=2.0), reader)
    target = bank.draw(reader.row(0), np.random.default_rng(0))
    assert len(target.samples) == 32_000
    assert np.square(target.samples).mean() == pytest.approx(0.05**2, rel=0.3)
    assert bank.pitch_difference("bert", "late") == pytest.approx(np.log2(120 / 100), abs=0.15)


def test_unknown_pitch_is_told(reader: StoreReader, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.standard_normal(16_000).astype(np.float32)
    (tmp_path / "hiss.flac").write_bytes(media.encode_audio(noise))
    assert VoiceBank(AudioSettings(voices=str(tmp_path)), reader).pitch_difference("anna", "hiss") is None


def test_impossible_banks_are_refused(reader: StoreReader, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"augment\.audio\.voices: .*nowhere is no folder"):
        VoiceBank(AudioSettings(voices=str(tmp_path / "nowhere")), reader)
    with pytest.raises(UsageError, match=r"holds no \.wav"):
        VoiceBank(AudioSettings(voices=str(tmp_path)), reader)
    alone = StoreReader(tiny.store(tmp_path / "alone", [clip(0, "anna"), clip(1, "anna")]))
    bank = VoiceBank(AudioSettings(), alone)
    with pytest.raises(
        ValueError,
        match=r"tiny/train/0: the training split has no voice other than its own speaker's \(anna\)",
    ):
        bank.draw(alone.row(0), np.random.default_rng(0))


def test_a_voice_that_cannot_be_read_is_named(reader: StoreReader, tmp_path: Path) -> None:
    (tmp_path / "dora").mkdir()
    (tmp_path / "dora" / "take.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    bank = VoiceBank(AudioSettings(voices=str(tmp_path)), reader)
    with pytest.raises(RowError, match=r"the voice dora \(dora/take\.wav\) cannot be used: .* broken"):
        bank.draw(reader.row(0), np.random.default_rng(0))
