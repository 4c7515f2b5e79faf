"""What a clip shows in words, and where its face is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from augment.video.captioner import Captioner
from augment.video.settings import VideoSettings
from augment.video.variants import VideoVariants
from pipelines import media
from pipelines.errors import UsageError
from pipelines.puppets import face
from tests import tiny_captioner, tiny_diffusion
from tests.tiny_captioner import WORDS

DETECTOR = importlib.util.find_spec("facenet_pytorch") is not None


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_captioner.captioner(tmp_path_factory.mktemp("blip"))


def row(seed: int = 0, frames: int = 5) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    look = face.random_look(rng, "studio")
    pictures = np.stack([face.draw_face(look, valence=0.2, mouth=n / frames) for n in range(frames)])
    return {"id": "x", "video": {"bytes": media.encode_video(pictures, 12.5)}}


def settings(folder: Path, **changes: object) -> VideoSettings:
    model = tiny_diffusion.stable_diffusion(folder / "sd")
    plain = {"model": str(model), "size": 32, "steps": 1, "styles": ("monet",), "source_prompt": "a"}
    return VideoSettings(**(plain | changes))  # type: ignore[arg-type]


def test_a_caption_is_told_of_the_words_that_it_knows(captioner: Path) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    caption = Captioner(str(captioner), None, "cpu")
    said = caption(frame)
    assert said == caption(frame)
    assert said
    assert set(said.split()) <= {word.lower() for word in WORDS}
    assert not said.endswith(".")


def test_a_variants_prompt_is_its_clips_caption(captioner: Path, tmp_path: Path) -> None:
    variants = VideoVariants(settings(tmp_path, captioner=str(captioner), styles=("watercolor",)), "cpu")
    assert variants.caption is not None
    variants.caption = lambda frame: f"a {frame.shape[0]}"  # type: ignore[assignment,misc]
    _, details = variants(row(), 1)
    assert details["source_prompt"] == "a 32"
    assert details["prompt"].endswith("of a 32")


def test_a_captioner_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"augment.video.captioner: .* cannot be loaded as an image captioner"
    ):
        Captioner(str(tmp_path), None, "cpu")


@pytest.mark.skipif(DETECTOR, reason="facenet-pytorch is installed")
def test_without_a_detector_a_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"augment\.video\.crop: needs facenet-pytorch"):
        VideoVariants(settings(tmp_path, crop="keep"), "cpu")


@pytest.mark.skipif(not DETECTOR, reason="facenet-pytorch is not installed")
class TestCrop:
    """With the detector itself."""

    def test_a_kept_crop_is_smaller_and_as_long(self, tmp_path: Path) -> None:
        made, details = VideoVariants(settings(tmp_path, crop="keep"), "cpu")(row(), 1)
        clip = media.read_video(made)
        left, top, width, height = details["box"]
        assert clip.frames.shape == (5, height, width, 3)
        assert 32 < width <= 64 - left
        assert 32 < height <= 64 - top

    def test_a_pasted_crop_leaves_the_rest_as_it_was(self, tmp_path: Path) -> None:
        wide = np.zeros((5, 96, 160, 3), np.uint8)
        source = media.read_video(row()["video"]["bytes"]).frames  # type: ignore[index]
        wide[:, 16:80, 48:112] = source
        given = {"id": "x", "video": {"bytes": media.encode_video(wide, 12.5)}}
        made, details = VideoVariants(settings(tmp_path, crop="paste"), "cpu")(given, 1)
        frames, before = (
            media.read_video(each).frames.astype(int) for each in (made, given["video"]["bytes"])
        )
        assert frames.shape == before.shape
        left, top, width, height = details["box"]
        changed = np.abs(frames - before).mean(axis=(0, 3))
        inside = np.zeros_like(changed, dtype=bool)
        inside[top : top + height, left : left + width] = True
        assert changed[inside].mean() > 10 * changed[~inside].mean()

    def test_a_clip_without_a_face_is_an_error_that_says_what_to_do(self, tmp_path: Path) -> None:
        grey = {
            "id": "x",
            "video": {"bytes": media.encode_video(np.full((3, 64, 64, 3), 90, np.uint8), 12.5)},
        }
        with pytest.raises(ValueError, match=r"no face was found in 3 frames of 64 x 64 .*crop: none"):
            VideoVariants(settings(tmp_path, crop="keep"), "cpu")(grey, 1)
