"""The semi-real set: which clip goes with which sentence, what streams hold, what hangs on the seed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fusion import crema_d, ridge_baseline, semi_synthetic
from finetune.fusion.features.file import from_file, read
from pipelines.errors import RunError, UsageError
from tests import tiny_encoders

ALL = ("text", "audio", "video")
COUNTS = {"train": 60, "valid": 20, "test": 30}
SENTENCES = ("a good film", "A BAD DAY", "what is it", "it is not good")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "label.csv"
    rng = np.random.default_rng(0)
    lines = [
        [f"{mode}{number // 5}", number % 5, SENTENCES[number % 4], rng.integers(-30, 30) / 10 + 0.05, mode]
        for mode, count in COUNTS.items()
        for number in range(count)
    ]
    return table(path, ["video_id", "clip_id", "text", "label", "mode"], lines)


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten actors, clips of three classes; half of the voices and a third of the faces say otherwise."""
    rng = np.random.default_rng(1)
    lines = []
    for actor in range(1001, 1011):
        for clip in range(12):
            both = "HNA"[clip % 3]
            voice = "N" if rng.random() < 0.5 else both
            face = "S:N" if rng.random() < 0.3 else both
            levels = ("60", "50:70" if ":" in face else "70", "80")
            lines.append([f"{actor}_{clip}_X", voice, levels[0], face, levels[1], both, levels[2]])
    return table(tmp_path_factory.mktemp("votes") / "summaryTable.csv", list(crema_d.COLUMNS), lines)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.text(tmp_path_factory.mktemp("encoder"))


def table(path: Path, header: list[str], lines: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def make(out: Path, labels: Path, encoder: Path, *more: str) -> Path:
    named = ["--labels", str(labels), "--text", str(encoder), "--out", str(out), "--device", "cpu"]
    semi_synthetic.main([*named, *more])
    return out


def test_sentences_become_states_with_their_scores(
    tmp_path: Path, labels: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, _ = from_file(make(tmp_path / "set.safetensors", labels, encoder), ALL)
    assert {name: len(split) for name, split in features.splits.items()} == COUNTS
    train = features.splits["train"]
    assert train.ids[:6] == [f"train{number // 5}$_${number % 5}" for number in range(6)]
    assert train.features["text"].mask.sum(1)[:4].tolist() == [3, 3, 3, 4]
    with labels.open() as file:
        assert train.labels[0] == pytest.approx(float(next(csv.DictReader(file))["label"]))
    assert [features.splits["test"].features[name].values.shape[2] for name in ALL] == [16, 74, 47]
    lengths = train.features["audio"].mask.sum(1)
    assert lengths.min() >= 20
    assert lengths.max() <= 50
    assert len(set(lengths.tolist())) > 5
    assert "60 train, 20 valid, 30 test sentences" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_set_and_another_one_another(
    tmp_path: Path, labels: Path, votes: Path, encoder: Path
) -> None:
    paths = [
        make(tmp_path / name, labels, encoder, "--votes", str(votes), "--seed", seed)
        for name, seed in (("a.safetensors", "0"), ("b.safetensors", "0"), ("c.safetensors", "1"))
    ]
    one, same, other = (from_file(path, ALL)[0].splits["test"].features for path in paths)
    for name in ALL:
        assert np.array_equal(one[name].values, same[name].values)
    assert one["audio"].values.shape != other["audio"].values.shape or not np.array_equal(
        one["audio"].values, other["audio"].values
    )
    assert np.array_equal(one["text"].values, other["text"].values)


def test_a_sentence_does_not_hang_on_those_beside_it(
    tmp_path: Path, labels: Path, votes: Path, encoder: Path
) -> None:
    with labels.open() as file:
        header, *lines = list(csv.reader(file))
    fewer = table(tmp_path / "label.csv", header, [line for line in lines if line[0] != "train0"])
    features = []
    for name, source in (("all", labels), ("fewer", fewer)):
        out = make(tmp_path / f"{name}.safetensors", source, encoder)
        features.append(from_file(out, ALL)[0].splits["train"].features["audio"])
    for row in range(10):
        steps = features[1].mask[row].sum()
        assert np.array_equal(features[0].values[row + 5, :steps], features[1].values[row, :steps])


def test_a_stream_has_its_latent_on_half_of_its_steps() -> None:
    direction = np.random.default_rng(0).standard_normal(74)
    with_latent = semi_synthetic.stream(0.8, direction, (20, 50), 0.0, seed=3)
    without = semi_synthetic.stream(0.0, direction, (20, 50), 0.0, seed=3)
    written = (with_latent - without) / direction  # (T, d)
    on = np.abs(written).max(1) > 1e-3
    np.testing.assert_allclose(written[on], 0.8, atol=1e-3)
    assert on.sum() == round(0.5 * len(on))
    assert np.flatnonzero(on).tolist() == list(range(on.argmax(), on.argmax() + on.sum()))
    noise = np.concatenate([semi_synthetic.stream(0, direction, (50, 50), 0.0, seed=n) for n in range(100)])
    assert noise.std() == pytest.approx(1, abs=0.03)
    steps = noise.reshape(100, 50, 74)
    assert np.mean(steps[:, 1:] * steps[:, :-1]) == pytest.approx(0.9, abs=0.03)


def test_noise_hides_the_latent(tmp_path: Path, labels: Path, encoder: Path) -> None:
    def correlation(noise: str) -> float:
        out = make(
            tmp_path / "set.safetensors", labels, encoder, "--audio-noise", noise, "--video-noise", noise
        )
        return ridge_baseline.rated(from_file(out, ALL)[0], ["audio"])[0]

    assert correlation("0") > 0.8 > 0.5 > abs(correlation("30"))


def test_votes_are_read_as_valences(tmp_path: Path) -> None:
    header = list(crema_d.COLUMNS)
    lines = [
        ["1001_A", "H", "80", "A:N", "60:90", "H", "40"],
        ["1002_B", "N", "70", "F", "50", "N:S", "20:20"],
    ]
    found = crema_d.read_ratings(table(tmp_path / "votes.csv", header, lines))
    assert found.actors.tolist() == ["1001", "1002"]
    np.testing.assert_allclose(found.voice, [0.8, 0])
    np.testing.assert_allclose(found.face, [-0.3, -0.5])
    np.testing.assert_allclose(found.both, [0.4, -0.1])
    assert found.classes.tolist() == [1, 0]


def test_streams_say_what_raters_of_the_clip_said(
    tmp_path: Path, labels: Path, votes: Path, encoder: Path
) -> None:
    from safetensors.numpy import load_file

    out = make(tmp_path / "set.safetensors", labels, encoder, "--votes", str(votes))
    told, splits = read(out, ALL)
    rated, tensors = crema_d.read_ratings(votes), load_file(out)
    position = {clip: index for index, clip in enumerate(rated.clips)}
    actors = {}
    for name, split in splits.items():
        chosen = [position[clip] for clip in told["about"]["clips"][name]]
        np.testing.assert_allclose(tensors[f"{name}/audio/latent"], rated.voice[chosen], rtol=1e-6)
        np.testing.assert_allclose(tensors[f"{name}/video/latent"], rated.face[chosen], rtol=1e-6)
        means = np.array([-0.8, 0, 0.8])  # of the classes in the made table
        wanted = np.abs(split.labels[:, None] / 3 - means).argmin(1) - 1
        assert rated.classes[chosen].tolist() == wanted.tolist()
        actors[name] = set(rated.actors[chosen].tolist())
    assert sum(map(len, actors.values())) == len(set().union(*actors.values()))


def test_actors_are_shared_out_whole_and_in_proportion(votes: Path) -> None:
    rated = crema_d.read_ratings(votes)
    shares = crema_d.split_actors(rated, COUNTS, seed=0)
    assert sorted(actor for share in shares.values() for actor in share) == sorted(set(rated.actors.tolist()))
    assert {name: len(share) for name, share in shares.items()} == {"train": 5, "valid": 2, "test": 3}
    few = crema_d.split_actors(rated, {"train": 1000, "valid": 1, "test": 1}, seed=0)
    assert all(few.values())
    assert shares != crema_d.split_actors(rated, COUNTS, seed=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ["1001_A", "X", "80", "H", "60", "H", "40"],
            r"VoiceVote and VoiceLevel are no emotions .*'X' and '80'",
        ),
        (["1001_A", "H", "80", "H:N", "60", "H", "40"], "FaceVote and FaceLevel are no emotions"),
        (["1001_A", "H", "80", "H", "60", "H", "400"], "MultiModalVote and MultiModalLevel are no emotions"),
        (["", "H", "80", "H", "60", "H", "40"], "FileName is empty"),
    ],
)
def test_names_a_vote_that_is_none(tmp_path: Path, line: list[str], message: str) -> None:
    path = table(tmp_path / "votes.csv", list(crema_d.COLUMNS), [line])
    with pytest.raises(RunError, match=message):
        crema_d.read_ratings(path)


def test_names_what_is_wrong_with_sentences_and_options(tmp_path: Path, labels: Path, encoder: Path) -> None:
    header = ["video_id", "clip_id", "text", "label", "mode"]
    with pytest.raises(RunError, match=r"label is outside the scale mosi .*mode is no split"):
        semi_synthetic.read_sentences(table(tmp_path / "a.csv", header, [["v", "1", "good", "7", "else"]]))
    with pytest.raises(RunError, match="no sentence of valid, test"):
        semi_synthetic.read_sentences(table(tmp_path / "b.csv", header, [["v", "1", "good", "1", "train"]]))
    out = tmp_path / "set.safetensors"
    with pytest.raises(UsageError, match=r"--video-noise: got -1, takes 0 or more"):
        make(out, labels, encoder, "--video-noise", "-1")
    with pytest.raises(
        UsageError, match=r"'/nowhere/model' cannot be loaded .*; takes .* a Hub id or a folder"
    ):
        make(out, labels, Path("/nowhere/model"))
    assert not out.exists()


def test_reads_the_real_tables(shared: Path) -> None:
    sentences = semi_synthetic.read_sentences(shared / "labels" / "mosi" / "label.csv")
    assert {name: len(found) for name, found in sentences.items()} == {
        "train": 1281,
        "valid": 229,
        "test": 685,
    }
    latents, clips = semi_synthetic.latent_valences(
        sentences, shared / "labels" / "cremad" / "summaryTable.csv", seed=0
    )
    scores = np.array([each.score for each in sentences["train"]])
    voice, face = (np.corrcoef(latents["train"][name], scores)[0, 1] for name in ("audio", "video"))
    assert 0.4 < voice < 0.6 < 0.8 < face < 0.95
    assert clips is not None
    assert len({clip[:4] for found in clips.values() for clip in found}) > 80
