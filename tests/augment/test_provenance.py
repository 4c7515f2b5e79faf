"""What a variant's `generator` says of what made it: weights, device, precision, versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from augment.__main__ import main
from augment.audio.flow_matching_converter import FlowMatching
from augment.audio.settings import AudioSettings
from augment.checkpoints import STABLE_DIFFUSION, VOICE_CONVERTER
from augment.video.captioner import Captioner
from augment.video.settings import VideoSettings, VideoToVideoSettings
from augment.video.variants import VideoVariants, loaded_weights
from pipelines import media
from pipelines.provenance import folder_digest
from pipelines.row import media as in_row
from pipelines.store import StoreReader
from tests import hub_cache, tiny, tiny_diffusion, tiny_video
from tests.tiny_captioner import captioner
from tests.tiny_voices import converter, voiced

FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40
NAME = "ann/tiny-diffusion"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache for this test, with nothing in it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def settings(model: str | Path, **changes: Any) -> VideoSettings:
    plain = {"size": 32, "steps": 1, "source_prompt": "a person", "styles": ("watercolor",)}
    return VideoSettings(model=str(model), **(plain | changes))


def clip() -> dict[str, Any]:
    frames = np.random.default_rng(0).integers(0, 256, size=(3, 32, 32, 3), dtype=np.uint8)
    return {"id": "x", "video": {"bytes": media.encode_video(frames, 10.0)}}


def test_a_hub_model_is_recorded_by_the_commit_that_was_loaded(cache: Path, tmp_path: Path) -> None:
    folders = {commit: tmp_path / commit[0] for commit in (FIRST, SECOND)}
    tiny_diffusion.stable_diffusion(folders[FIRST])
    tiny_diffusion.stable_diffusion(folders[SECOND], seed=1)
    hub_cache.put(cache, NAME, FIRST, folders[FIRST], branch="v1")
    hub_cache.put(cache, NAME, SECOND, folders[SECOND])
    made = {}
    for revision, commit in ((None, SECOND), ("v1", FIRST), (FIRST, FIRST)):
        encoded, details = VideoVariants(settings(NAME, revision=revision), "cpu")(clip(), 1)
        assert details["weights"] == {"model": {"commit": commit}}
        assert encoded == VideoVariants(settings(folders[commit]), "cpu")(clip(), 1)[0]
        made[commit] = encoded
    assert made[FIRST] != made[SECOND]
    # The branch moves on; what was loaded stays told.
    shutil.rmtree(cache)
    hub_cache.put(cache, NAME, THIRD, folders[FIRST])
    assert VideoVariants(settings(NAME), "cpu")(clip(), 1)[1]["weights"] == {"model": {"commit": THIRD}}


def test_every_model_of_a_variant_is_recorded(cache: Path, tmp_path: Path) -> None:
    hub_cache.put(cache, NAME, FIRST, tiny_diffusion.stable_diffusion(tmp_path / "sd"))
    hub_cache.put(cache, "ann/captions", SECOND, captioner(tmp_path / "captioner"))
    hub_cache.put(cache, "ann/motion", THIRD, tiny_video.motion_adapter(tmp_path / "motion"))
    own = VideoToVideoSettings(motion_adapter="ann/motion", negative_prompt="")
    chosen = settings(NAME, method="animatediff", captioner="ann/captions", steps=2, video_to_video=own)
    variants = VideoVariants(chosen, "cpu")
    assert isinstance(variants.caption, Captioner)
    variants.caption = lambda _: "a"  # type: ignore[assignment,misc]
    assert variants(clip(), 1)[1]["weights"] == {
        "model": {"commit": FIRST},
        "captioner": {"commit": SECOND},
        "motion_adapter": {"commit": THIRD},
    }


def test_a_voice_converter_is_recorded_likewise(cache: Path, tmp_path: Path) -> None:
    converter().save_pretrained(tmp_path / "voice")
    hub_cache.put(cache, "ann/voices", FIRST, tmp_path / "voice")
    for model, wanted in (
        ("ann/voices", {"commit": FIRST}),
        (str(tmp_path / "voice"), {"sha256": folder_digest(tmp_path / "voice")}),
        ("embedded", {"sha256": folder_digest(VOICE_CONVERTER)}),
    ):
        made = FlowMatching(AudioSettings(model=model, steps=1), "cpu")
        _, details = made(voiced(0.5), voiced(1.0, 220), 16_000, seed=1)
        assert details["weights"] == {"model": wanted}
        assert details["precision"] == "float32"


def test_a_folder_is_recorded_by_the_digest_of_its_files(tmp_path: Path) -> None:
    assert loaded_weights(VideoSettings()) == {"model": {"sha256": folder_digest(STABLE_DIFFUSION)}}
    (tmp_path / "weights").write_bytes(b"1")
    local = loaded_weights(VideoSettings(model=str(tmp_path), styles=()))
    assert local == {"model": {"sha256": folder_digest(tmp_path)}}


def test_each_track_of_a_variant_says_what_computed_it(tmp_path: Path) -> None:
    rows = [
        tiny.row(number, group=f"speaker{number}", audio=in_row(media.encode_audio(voiced(0.5, 150))))
        for number in range(2)
    ]
    originals, out = tiny.store(tmp_path / "originals", rows), tmp_path / "out"
    model = tiny_diffusion.stable_diffusion(tmp_path / "sd")
    converter().save_pretrained(tmp_path / "voice")
    chosen = {
        "device": "cpu", "both": 1, "video.model": model, "video.size": 32, "video.steps": 1,
        "video.variants": 0, "video.source_prompt": "a", "video.styles": "[watercolor]", "audio.steps": 1,
        "audio.model": tmp_path / "voice", "audio.variants": 0, "classic.variants": 1,
        "classic.tracks": "[video,audio]",
    }  # fmt: skip
    given = [part for key, value in chosen.items() for part in (f"--augment.{key}", str(value))]
    main(["--data", str(originals), "--out", str(out), *given])
    for row in StoreReader(out).rows():
        if row["kind"] != "original":
            made = json.loads(row["generator"])
            assert {"torch", "torchvision", "pillow", "swift-f0", "diffusers"} < set(made["versions"])
            for track, folder in (("video", model), ("audio", tmp_path / "voice")):
                assert (made[track]["device"], made[track]["precision"]) == ("cpu", "float32")
                told = {} if row["kind"] == "classic" else {"model": {"sha256": folder_digest(folder)}}
                assert made[track].get("weights", {}) == told
