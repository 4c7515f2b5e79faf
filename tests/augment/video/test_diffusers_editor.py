"""Other generators behind the operator: real pipelines of diffusers, built tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment.video.settings import VideoSettings, VideoToVideoSettings
from augment.video.styles import PUBLISHED
from augment.video.variants import VideoVariants, make_editor
from pipelines import media
from pipelines.errors import UsageError
from tests import tiny_diffusion, tiny_video
from tests.tiny_diffusion import with_safety_checker

METHODS = ("sdedit", "animatediff", "cogvideox", "wan", "wan_vace")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    image_model = tiny_diffusion.stable_diffusion(folder / "sd")
    return {
        "sdedit": image_model,
        "animatediff": image_model,
        "adapter": tiny_video.motion_adapter(folder / "adapter"),
        "cogvideox": tiny_video.cogvideox(folder / "cogvideox"),
        "wan": tiny_video.wan(folder / "wan"),
        "wan_vace": tiny_video.wan(folder / "vace", vace=True),
    }


def settings(models: dict[str, Path], method: str, **changes: Any) -> VideoSettings:
    own = {"motion_adapter": str(models["adapter"]), "negative_prompt": "", "strength": 0.5}
    own |= {name: changes.pop(name) for name in (*own, "conditioning_scale") if name in changes}
    plain = {"size": 32, "steps": 2, "window": 8, "source_prompt": "a", "styles": ("monet",)}
    return VideoSettings(
        method=method,
        model=str(models[method]),
        video_to_video=VideoToVideoSettings(**own),
        **(plain | changes),
    )


def clip(frames: int, width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    start, end = rng.integers(0, 256, size=(2, 1, height, width, 3))
    share = np.linspace(0, 1, frames)[:, None, None, None]
    return np.round(start * (1 - share) + end * share).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_a_variant_keeps_frames_rate_and_size_and_follows_its_seed(
    models: dict[str, Path], method: str
) -> None:
    # 11 frames: windows of 6 and 5, of which one needs frames beside its own, of four and one.
    source = {"id": "x", "video": {"bytes": media.encode_video(clip(11, 48, 34), 12.5), "path": None}}
    variants = VideoVariants(settings(models, method), "cpu")
    made, details = variants(source, 5)
    shown = media.read_video(made)
    assert shown.frames.shape == (11, 34, 48, 3)
    assert shown.fps == pytest.approx(12.5)
    assert variants(source, 5) == (made, details)
    assert variants(source, 6)[0] != made
    assert details["method"] == method
    assert details["prompt"] == PUBLISHED["monet"].prompt("a")
    assert details["video_to_video"]["negative_prompt"] == ""
    assert "fatezero" not in details


def test_frames_that_a_safety_checker_blacks_out_are_an_error(
    models: dict[str, Path], tmp_path: Path
) -> None:
    passing, flagging = (
        make_editor(
            settings(
                {**models, "sdedit": with_safety_checker(models["sdedit"], folder, flags=flags)}, "sdedit"
            ),
            "cpu",
        )
        for folder, flags in ((tmp_path / "passing", False), (tmp_path / "flagging", True))
    )
    given = (clip(5, 32, 32), "a", PUBLISHED["monet"])
    assert passing.edit(*given, np.random.default_rng(1))[0].std() > 0
    with pytest.raises(ValueError, match=r"video: the safety checker of .* blacked out frames of the edit"):
        flagging.edit(*given, np.random.default_rng(1))


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_that_of_the_networks_that_take_it(models: dict[str, Path], method: str) -> None:
    editor: Any = make_editor(settings(models, method, precision="bfloat16"), "cpu")
    denoiser = getattr(editor.pipeline, "unet", None) or editor.pipeline.transformer
    assert denoiser.dtype == torch.bfloat16
    made, _ = editor.edit(clip(5, 32, 32), "a", PUBLISHED["monet"], np.random.default_rng(1))
    assert made.shape == (5, 32, 32, 3)
    if method.startswith("wan"):
        assert editor.pipeline.vae.dtype == torch.float32
        assert denoiser.scale_shift_table.dtype == torch.float32
        assert denoiser.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("method", [method for method in METHODS if method != "wan_vace"])
def test_a_small_strength_stays_near_the_source(models: dict[str, Path], method: str) -> None:
    frames, style = clip(5, 32, 32), PUBLISHED["monet"]
    edits = [
        make_editor(settings(models, method, steps=10, strength=strength), "cpu").edit(
            frames, "a", style, np.random.default_rng(1)
        )[0]
        for strength in (0.1, 0.2, 1.0)
    ]
    near, far = (np.abs(edits[0].astype(float) - edit).mean() for edit in edits[1:])
    assert 0 < near < far


@pytest.mark.parametrize("method", ["sdedit", "wan"])
def test_a_weaker_edit_is_one_of_less_strength(models: dict[str, Path], method: str) -> None:
    given = (clip(5, 32, 32), "a", PUBLISHED["monet"])
    strong, weak = (
        make_editor(settings(models, method, steps=10, strength=strength), "cpu") for strength in (0.6, 0.3)
    )
    made, drawn = strong.edit(*given, np.random.default_rng(1), 0.5)
    assert (made == weak.edit(*given, np.random.default_rng(1))[0]).all()
    assert (made != strong.edit(*given, np.random.default_rng(1))[0]).any()
    assert drawn["video_to_video"]["strength"] == pytest.approx(0.3)


def test_one_noise_for_all_frames_makes_equal_frames_equal(models: dict[str, Path]) -> None:
    still = np.repeat(clip(1, 32, 32), 5, axis=0)
    editor = make_editor(settings(models, "sdedit", window=2), "cpu")
    edited, _ = editor.edit(still, "a", PUBLISHED["monet"], np.random.default_rng(1))
    assert np.abs(edited.astype(int) - edited[:1]).max() <= 1
    assert (edited != still).any()


def test_vace_follows_the_light_of_the_source_and_not_its_colours(models: dict[str, Path]) -> None:
    frames, style = clip(5, 32, 32), PUBLISHED["monet"]
    grey = np.repeat(np.round(frames @ [0.299, 0.587, 0.114])[..., None], 3, axis=-1).astype(np.uint8)

    def edited(given: np.ndarray, scale: float) -> np.ndarray:
        editor = make_editor(settings(models, "wan_vace", conditioning_scale=scale), "cpu")
        return editor.edit(given, "a", style, np.random.default_rng(1))[0].astype(int)

    assert np.abs(edited(frames, 1.0) - edited(grey, 1.0)).mean() < 1
    assert (edited(frames, 1.0) != edited(255 - frames, 1.0)).any()
    assert (edited(frames, 1.0) != edited(frames, 2.0)).any()


@pytest.mark.parametrize("method", METHODS)
def test_another_models_checkpoint_is_refused(models: dict[str, Path], method: str) -> None:
    other = "wan" if method in ("sdedit", "animatediff") else "sdedit"
    wrong = settings(models | {method: models[other]}, method)
    with pytest.raises(UsageError, match=rf"augment.video.model: .* cannot be loaded for {method} "):
        make_editor(wrong, "cpu")


def test_a_motion_adapter_that_is_not_there_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    wrong = settings(models, "animatediff", motion_adapter=str(tmp_path))
    with pytest.raises(UsageError, match=r"video_to_video\.motion_adapter: .* cannot be loaded"):
        make_editor(wrong, "cpu")


def test_words_that_are_too_many_are_refused_before_any_clip(models: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"with style monet: .* tokens, the text encoder takes"):
        VideoVariants(settings(models, "sdedit", source_prompt="xyz" * 9), "cpu")
