"""The report: what it counts, shows, escapes and leaves beside the page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import RunError, UsageError
from pipelines.media import encode_audio, encode_video
from pipelines.report import variants_picture as picture
from pipelines.report.page import duration, number, write_report
from pipelines.report.pictures import SPECTROGRAM_SIZE, spectrogram, strip
from pipelines.report.summary import flat, read_metrics
from pipelines.row import digest, media, new_row, variant_id
from pipelines.running.folder_lock import NAME, FolderBusy
from pipelines.store import StoreError, StoreReader, commit
from tests.pipelines.running.test_folder_lock import held_by_another

HOSTILE = (
    """</script><script>alert("x")</script><img src=x onerror=alert(1)> & 'quoted' {{ 7 * 7 }} <|im_end|>"""
)
SETTINGS = {"title": "Puppets <b>", "stage": "score", "command": "c", "versions": {"python": "3"}}
SETTINGS |= {"description": "d", "config": {"score": {"low": 0.2}}}
FPS = 12.5


def clip(shade: int) -> bytes:
    frames = np.full((20, 32, 48, 3), shade, dtype=np.uint8)
    frames[:, :, :24, 0] = np.linspace(0, 255, 20, dtype=np.uint8)[:, None, None]
    return encode_video(frames, FPS)


def tone(hertz: float) -> bytes:
    times = np.arange(16_000) / 16_000
    return encode_audio(0.5 * np.sin(2 * np.pi * hertz * times).astype(np.float32))


def rows() -> list[dict[str, Any]]:
    """Originals of train and test, two of them with variants: new pictures, and sounds without one."""
    made: list[dict[str, Any]] = []
    for count, words in enumerate(("plain", HOSTILE, "more", "last")):
        split = "test" if words == "last" else "train"
        source = f"p/<i>{count}"
        picture, sound = media(clip(40 * count)), media(tone(300 + 100 * count))
        common = {"source_id": source, "split": split, "text": words, "corpus": "puppets", "scale": "mosi"}
        common |= {"label": 1.5, "label_text": -3.0, "duration_s": 1.6, "fps": FPS, "score_f0": None}
        made.append(
            {**new_row(), **common, "id": source, "kind": "original", "video": picture, "audio": sound}
        )
        if words not in (HOSTILE, "more"):
            continue
        new_picture, new_sound = media(clip(200 + count)), media(tone(900 + count))
        for kind, own, weight in (("video", (new_picture, sound), 0.25), ("audio", (None, new_sound), 0.5)):
            variant = {"id": variant_id(source, kind, 0), "kind": kind, "video": own[0], "audio": own[1]}
            scores = {"score_f0": 0.1 * count, "quality": 0.6, "weight": weight}
            made.append({**new_row(), **common, **variant, **scores, "generator": '{"prompt": "<u>oil</u>"}'})
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "store"
    commit(folder, rows(), generation=digest("a"), settings=SETTINGS, scores=["score_f0"])
    failure = {
        "id": "p/broken",
        "stage": "import",
        "error": "MediaError",
        "message": "no <video>",
        "attempts": 1,
    }
    (folder / "failures.jsonl").write_text(json.dumps(failure | {"key": "k"}) + "\n")
    return folder


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + " "  # cells of a table have nothing between them

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            found
            for name, found in self.tags
            if name == tag and all(value in (found.get(key) or "").split() for key, value in wanted.items())
        ]


@pytest.fixture(scope="module")
def page(store: Path) -> Page:
    return Page(write_report(store, store.parent / "out"))


def links(page: Page) -> set[str]:
    return {found[key] for _, found in page.tags for key in ("src", "href", "poster") if found.get(key)}  # type: ignore[misc]


def test_counts(page: Page) -> None:
    squeezed = " ".join(page.text.split())
    assert "4 originals and 4 variants" in squeezed
    assert "video 2 0 2 0.25 2.0" in squeezed  # train, test, all, mean weight, effective number
    assert "original 3 1 4 1.00 4.0" in squeezed
    assert "3.6 90 %" in squeezed  # (2 × .25 + 2 × .5)² / (2 × .25² + 2 × .5²) = 3.6
    assert "1 rejected: 1 × import: MediaError" in squeezed
    assert "4 of 4 originals are shown, with 4 of 4 variants" in squeezed
    assert len(page.all("article", **{"class": "family"})) == 4
    assert len(page.all("section", **{"data-kind": "video"})) == 2


def test_texts_are_escaped(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text
    assert [found["data-text"] for found in page.all("article")].count(f"p/<i>1 {HOSTILE}") == 1
    assert not page.all("u")
    assert not [found for _, found in page.tags if any(key.startswith("on") for key in found)]


def test_links_lead_to_files_beside_the_page(store: Path, page: Page) -> None:
    out = store.parent / "out"
    assert links(page)
    assert {path.relative_to(out).as_posix() for path in (out / "media").iterdir()} == links(page)


def test_media_are_the_rows_bytes(store: Path, page: Page) -> None:
    out = store.parent / "out"
    shown = {hashlib.sha256((out / link).read_bytes()).digest() for link in links(page)}
    for row in StoreReader(store).rows():
        for name in ("video", "audio"):
            assert row[name] is None or hashlib.sha256(row[name]["bytes"]).digest() in shown
    # Of two pairs that share the original's sound or picture, each content is there once.
    assert len(list((out / "media").glob("*.mp4"))) == 4 + 2
    assert len(list((out / "media").glob("*.flac"))) == 4 + 2


def test_a_variant_without_a_picture_is_played_with_its_originals(page: Page) -> None:
    videos = [found["src"] for found in page.all("video")]
    assert len(videos) == 8
    squeezed = " ".join(page.text.split())
    assert squeezed.count("original’s video new audio") == 2
    assert squeezed.count("new video original’s audio") == 2


def test_policy_allows_the_script_and_nothing_from_elsewhere(store: Path, page: Page) -> None:
    text = (store.parent / "out" / "index.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    hashed = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy
    assert f"script-src 'sha256-{hashed}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not re.search(r"url\(|@import|https?://", text)


def test_limit_prefers_originals_with_variants_and_sweeps(store: Path, tmp_path: Path) -> None:
    write_report(store, tmp_path)
    (tmp_path / "media" / "notes.txt").write_text("mine")
    page = Page(write_report(store, tmp_path, limit=1))
    assert [(found["data-text"] or "")[:6] for found in page.all("article")] == ["p/<i>1"]
    assert "1 of 4 originals are shown, with 2 of 4 variants" in page.text
    assert "4 originals and 4 variants" in page.text
    left = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "media").iterdir()}
    assert left == links(page) | {"media/notes.txt"}


def test_a_clip_that_cannot_be_decoded_is_said_so(tmp_path: Path) -> None:
    broken = new_row(id="a", source_id="a", kind="original", split="test", text="t", video=media(b"no film"))
    commit(tmp_path / "store", [broken | {"corpus": "c"}], generation=digest("b"), settings=SETTINGS)
    page = Page(write_report(tmp_path / "store", tmp_path / "out"))
    assert page.all("p", **{"class": "problem"})
    assert "The store has no variants yet." in page.text


def test_metrics_of_a_model(store: Path, tmp_path: Path) -> None:
    before, after = {"rows": 20, "MAE": 1.25, "Corr": None}, {"rows": 20, "MAE": 0.75, "Corr": 0.875}
    metrics = {"before": before, "after": after, "training": {"mean_weight": 0.5}, "test": {"after": after}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = Page(write_report(store, tmp_path / "out", model=tmp_path, limit=1))
    shown = "metric before after test after rows 20 20 20 MAE 1.250 0.750 0.750 Corr – 0.875 0.875"
    assert shown in " ".join(page.text.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "missing; `daq-msa evaluate"), ("{", "not JSON"), ('{"a": "b"}', "no numbers")],
)
def test_metrics_that_cannot_be_shown(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(RunError, match=message):
        read_metrics(tmp_path)


def test_two_reports_at_once_do_not_share_a_folder(store: Path, tmp_path: Path) -> None:
    with held_by_another(tmp_path), pytest.raises(FolderBusy):
        write_report(store, tmp_path, limit=1)
    assert write_report(store, tmp_path, limit=1).parent == tmp_path
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_1_is_refused(store: Path, tmp_path: Path, limit: int) -> None:
    with pytest.raises(UsageError, match=f"^--limit: got {limit}; takes 1 or more"):
        write_report(store, tmp_path, limit=limit)


def test_a_store_is_no_place_for_its_report(store: Path) -> None:
    with pytest.raises(UsageError, match=r"--out: .* is inside STORE .*, which is read"):
        write_report(store, store / "report")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_spectrogram_shows_a_tone_at_its_height() -> None:
    def brightest(hertz: float) -> int:
        samples = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000).astype(np.float32)
        image = Image.open(io.BytesIO(spectrogram(samples)))
        assert image.size == SPECTROGRAM_SIZE
        return int(np.asarray(image).mean(axis=1).argmax())

    rows = [brightest(hertz) for hertz in (250, 1000, 4000)]
    assert rows[0] > rows[1] > rows[2]  # row 0 is at the top
    assert abs((rows[0] - rows[1]) - (rows[1] - rows[2])) <= 2  # two octaves each


@pytest.mark.parametrize("samples", [1, 10, 16_000])
@pytest.mark.parametrize("level", [0, 1])
def test_spectrogram_of_next_to_nothing(samples: int, level: float) -> None:
    drawn = spectrogram(np.full(samples, level, dtype=np.float32))
    assert Image.open(io.BytesIO(drawn)).size == SPECTROGRAM_SIZE


def test_strip_runs_through_the_clip() -> None:
    frames = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 3 * 8 * 8).reshape(10, 8, 8, 3)
    image = np.asarray(strip(frames, 5, 8))
    assert image.shape == (8, 40, 3)
    assert image[0, ::8, 0].tolist() == [25, 75, 125, 175, 225]


def test_numbers_and_names() -> None:
    assert [number(None), number(-1.005, 1), number(1234)] == ["–", "−1.0", "1,234"]
    assert [duration(3), duration(600), duration(7200)] == ["3.0 s", "10.0 min", "2.0 h"]
    assert flat({"a": {"b": 1, "c": []}, "d": "x"}) == [("a.b", "1"), ("a.c", "[]"), ("d", "x")]


def test_picture_of_a_family(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "variants.png"
    picture.main([str(store), "--out", str(out), "--source", "p/<i>2"])
    assert capsys.readouterr().out.strip() == str(out)
    drawn = Image.open(out)
    lines = 3 * (picture.ROW_HEIGHT + picture.GAP)
    assert drawn.height > lines
    assert drawn.width > picture.LABEL_WIDTH + picture.AUDIO_WIDTH + picture.WEIGHT_WIDTH


def test_picture_needs_variants(tmp_path: Path) -> None:
    originals = [row for row in rows() if row["kind"] == "original"]
    commit(tmp_path, originals, generation=digest("c"), settings=SETTINGS, scores=["score_f0"])
    with pytest.raises(RunError, match="has no variants to draw"):
        picture.main([str(tmp_path), "--out", str(tmp_path / "x.png")])


def test_rows_without_media_are_shown_for_what_they_are(tmp_path: Path) -> None:
    made, variants = rows()[0], {"video": None, "audio": media(tone(440))}
    alone = made | {"id": "p/alone", "source_id": "p/alone", "text": "only words"}
    alone |= dict.fromkeys(("video", "audio", "duration_s", "fps"))
    heard = made | {"id": "p/heard", "source_id": "p/heard"} | variants
    varied = heard | {"id": variant_id("p/heard", "audio", 0), "kind": "audio", "audio": media(tone(880))}
    commit(tmp_path / "store", [alone, heard, varied], generation="ab" * 32, settings=SETTINGS)
    page = write_report(tmp_path / "store", tmp_path / "out").read_text(encoding="utf-8")
    family = page.partition('data-text="p/alone only words"')[2].partition("</article>")[0]
    assert "Text only: neither video nor audio." in family
    assert 'class="player"' not in family
    family = page.partition('data-text="p/heard plain"')[2].partition("</article>")[0]
    assert ("new audio" in family, "video</span>" in family) == (True, False)
    assert "Text only" not in family
