"""Video variants: what they keep of the source, and what a seed decides."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.settings import VideoSettings
from augment.styles import PUBLISHED
from augment.video_variants import VideoVariants
from pipelines import media
from pipelines.errors import UsageError
from tests import tiny_diffusion


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("sd"))


def settings(checkpoint: Path, **changes: Any) -> VideoSettings:
    plain = {"model": str(checkpoint), "size": 32, "steps": 2, "window": 4, "source_prompt": "a person"}
    return VideoSettings(**(plain | {"styles": ("watercolor",)} | changes))


def row(frames: int, width: int = 32, height: int = 32, fps: float = 12.5) -> dict[str, Any]:
    rng = np.random.default_rng(frames)
    pictures = rng.integers(0, 256, size=(frames, height, width, 3), dtype=np.uint8)
    return {"id": "x", "video": {"bytes": media.encode_video(pictures, fps), "path": None}}


@pytest.mark.parametrize(("frames", "width", "height"), [(1, 32, 32), (2, 32, 32), (7, 50, 34), (9, 24, 64)])
def test_a_variant_keeps_frames_rate_and_size(checkpoint: Path, frames: int, width: int, height: int) -> None:
    source = row(frames, width, height)
    made, _ = VideoVariants(settings(checkpoint), "cpu")(source, 0, 5)
    before, after = (media.read_video(clip) for clip in (source["video"]["bytes"], made))
    assert after.frames.shape == before.frames.shape == (frames, height, width, 3)
    assert after.fps == pytest.approx(before.fps)
    assert not media.probe(made).has_audio


def test_a_seed_gives_the_same_bytes_and_another_seed_another_style(checkpoint: Path) -> None:
    chosen = settings(checkpoint, styles=("watercolor", "monet", "cartoon"), source_prompt="", steps=1)
    variants, source = VideoVariants(chosen, "cpu"), row(1)
    made = {seed: variants(source, 0, seed) for seed in range(12)}
    assert all(variants(source, 1, seed) == made[seed] for seed in (0, 7))
    assert len({details["style"] for _, details in made.values()}) == 3
    assert len({clip for clip, _ in made.values()}) == 12


def test_details_make_the_variant_again(checkpoint: Path) -> None:
    source = row(3)
    variants = VideoVariants(settings(checkpoint, styles=("monet", "cartoon"), source_prompt=""), "cpu")
    made, details = variants(source, 0, 7)
    assert details["method"] == "fatezero"
    again = VideoSettings(
        styles=(details["style"],),
        **{field.name: details[field.name] for field in fields(VideoSettings) if field.name in details},
    )
    style = replace(
        PUBLISHED[details["style"]], **{name: details[name] for name in ("reweight", "cross_replace")}
    )
    assert style.prompt(again.source_prompt) == details["prompt"]
    clip = media.read_video(source["video"]["bytes"])
    frames = VideoVariants(again, "cpu").edit(clip.frames, style, details["guidance_scale"])
    assert media.encode_video(frames, clip.fps) == made


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="styles: 'oil' is unknown to embedded; take watercolor"):
        VideoSettings(styles=("oil",))
    with pytest.raises(ValueError, match="window: 1 is too small; take 2 or more"):
        VideoSettings(window=1)
    with pytest.raises(ValueError, match=r"guidance_spread: 1\.5 is outside"):
        VideoSettings(guidance_spread=1.5)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = tiny_diffusion.stable_diffusion(tmp_path / "v", prediction_type="v_prediction")
    with pytest.raises(
        UsageError, match=r"augment.video.model: .*not Stable Diffusion 1.x: found a model that predicts"
    ):
        VideoVariants(settings(other), "cpu")
    with pytest.raises(UsageError, match=r"augment.video.model: .*cannot be loaded"):
        VideoVariants(settings(tmp_path / "nothing"), "cpu")


def test_a_prompt_that_is_too_long_is_refused_before_any_clip(checkpoint: Path) -> None:
    with pytest.raises(
        UsageError, match=r"augment.video.source_prompt: with style watercolor: .* has 17 tokens"
    ):
        VideoVariants(settings(checkpoint, source_prompt="a person who is xyzzyxxx"), "cpu")
