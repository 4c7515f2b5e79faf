"""Video variants: what they keep of the source, and what a seed decides."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.video.fatezero_editor import FateZeroEditor
from augment.video.settings import FateZeroSettings, VideoSettings, VideoToVideoSettings
from augment.video.styles import PUBLISHED
from augment.video.variants import VideoVariants, _precision, make_editor
from pipelines import media
from pipelines.errors import UsageError
from tests import tiny_diffusion
from tests.gpus import pretend_gpus


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


@pytest.mark.parametrize(("frames", "width", "height"), [(2, 32, 32), (7, 50, 34), (9, 24, 64)])
def test_a_variant_keeps_frames_rate_and_size(checkpoint: Path, frames: int, width: int, height: int) -> None:
    source = row(frames, width, height)
    made, _ = VideoVariants(settings(checkpoint), "cpu")(source, 5)
    before, after = (media.read_video(clip) for clip in (source["video"]["bytes"], made))
    assert after.frames.shape == before.frames.shape == (frames, height, width, 3)
    assert after.fps == pytest.approx(before.fps)
    assert not media.probe(made).has_audio


def test_a_seed_gives_the_same_bytes_and_another_seed_another_style(checkpoint: Path) -> None:
    chosen = settings(checkpoint, styles=("watercolor", "monet", "cartoon"), source_prompt="", steps=1)
    variants, source = VideoVariants(chosen, "cpu"), row(2)
    made = {seed: variants(source, seed) for seed in range(12)}
    assert all(variants(source, seed) == made[seed] for seed in (0, 7))
    assert len({details["style"] for _, details in made.values()}) == 3
    assert len({clip for clip, _ in made.values()}) == 12


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_details_make_the_variant_again(checkpoint: Path, strength: float) -> None:
    source = row(3)
    variants = VideoVariants(settings(checkpoint, styles=("monet", "cartoon"), source_prompt=""), "cpu")
    made, details = variants(source, 7, strength)
    assert details["method"] == "fatezero"
    names = {field.name for field in fields(VideoSettings)} & details.keys() - {"fatezero"}
    again = VideoSettings(
        styles=(details["style"],),
        fatezero=FateZeroSettings(**details["fatezero"]),
        **{name: details[name] for name in names},
    )
    known = ("reweight", "cross_replace", "self_replace")
    style = replace(PUBLISHED[details["style"]], **{name: details[name] for name in known})
    assert (style == PUBLISHED[details["style"]]) == (strength == 1)
    assert style.prompt(again.source_prompt) == details["prompt"]
    clip = media.read_video(source["video"]["bytes"])
    editor = make_editor(again, "cpu")
    assert isinstance(editor, FateZeroEditor)
    frames = editor.edit_with(clip.frames, again.source_prompt, style, details["guidance_scale"])
    assert media.encode_video(frames, clip.fps) == made


def test_a_clip_of_one_frame_is_an_error_that_says_what_to_do(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"video: has one frame, wanted a clip of 2 or more; leave it out"):
        VideoVariants(settings(checkpoint), "cpu")(row(1), 5)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="styles: 'oil' is unknown to embedded; take watercolor"):
        VideoSettings(styles=("oil",))
    with pytest.raises(ValueError, match="window: 1 is too small; take 2 or more"):
        VideoSettings(window=1)
    with pytest.raises(ValueError, match=r"guidance_spread: 1\.5 is outside"):
        FateZeroSettings(guidance_spread=1.5)
    with pytest.raises(ValueError, match="is no checkpoint for wan; name one, such as Wan-AI"):
        VideoSettings(method="wan")
    with pytest.raises(ValueError, match=r"strength: 0\.1 of 6 steps is less than one step"):
        VideoSettings(method="sdedit", video_to_video=VideoToVideoSettings(strength=0.1))


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


def test_frames_at_a_lower_rate_are_held_and_the_clip_is_as_long(checkpoint: Path) -> None:
    source = row(10)
    made, _ = VideoVariants(settings(checkpoint, fps=5.0), "cpu")(source, 5)
    clip = media.read_video(made)
    assert clip.frames.shape == (10, 32, 32, 3)
    assert clip.fps == pytest.approx(12.5)
    moved = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    # Of 12.5 frames a second frames 0, 2, 5 and 7 are edited.
    assert sorted(np.argsort(moved)[-3:]) == [1, 4, 6]
    assert np.delete(moved, [1, 4, 6]).max() < 0.2 * moved[[1, 4, 6]].min()


def test_kept_inversions_are_used_again_by_another_style_and_change_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = media.read_video(row(6)["video"]["bytes"]).frames
    kept = FateZeroSettings(latents=str(tmp_path / "latents"))
    plain, keeping = (
        make_editor(settings(checkpoint, fatezero=own), "cpu") for own in (FateZeroSettings(), kept)
    )
    inverted = []
    invert = keeping.pipeline.invert  # type: ignore[attr-defined]
    monkeypatch.setattr(
        type(keeping.pipeline),  # type: ignore[attr-defined]
        "invert",
        lambda self, *args, **kwargs: inverted.append(self) or invert(*args, **kwargs),
    )
    for style in ("monet", "watercolor"):
        edits = [
            editor.edit(frames, "a person", PUBLISHED[style], np.random.default_rng(1))[0]
            for editor in (keeping, plain)
        ]
        assert np.array_equal(*edits)
    assert inverted.count(keeping.pipeline) == 2  # type: ignore[attr-defined]  # one of each window
    assert len([*(tmp_path / "latents").iterdir()]) == 2
    make_editor(settings(checkpoint, fatezero=kept, steps=3), "cpu").edit(
        frames, "a person", PUBLISHED["monet"], np.random.default_rng(1)
    )
    assert len([*(tmp_path / "latents").iterdir()]) == 4


def test_variants_of_a_clip_share_its_inversion_and_what_was_seen_in_it(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(checkpoint, styles=("monet", "watercolor"), source_prompt="a person")
    variants, inverted, described = VideoVariants(chosen, "cpu"), [], []
    alone = [VideoVariants(chosen, "cpu")(row(6), seed) for seed in range(4)]
    pipeline = variants.editor.pipeline  # type: ignore[attr-defined]
    invert = pipeline.invert
    monkeypatch.setattr(
        pipeline, "invert", lambda *args, **kwargs: inverted.append(1) or invert(*args, **kwargs)
    )
    variants.caption = lambda frame: described.append(frame) or "a person"  # type: ignore[assignment,misc,func-returns-value]
    assert [variants(row(6), seed) for seed in range(4)] == alone
    assert len({details["style"] for _, details in alone}) == 2
    assert len(inverted) == 2  # one of each window
    assert len(described) == 1
    variants(row(5), 0)
    assert len(inverted) == 4
    assert len(described) == 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for a CPU by g++, which is not here")
def test_a_compiled_network_makes_the_same_frames(checkpoint: Path) -> None:
    frames = media.read_video(row(6)["video"]["bytes"]).frames
    editors: list[Any] = [
        make_editor(settings(checkpoint, steps=1, compile=each), "cpu") for each in (False, True)
    ]
    plain, compiled = (
        editor.edit(frames, "a person", PUBLISHED["monet"], np.random.default_rng(1))[0] for editor in editors
    )
    assert np.abs(plain.astype(int) - compiled).max() <= 1
    blocks = [
        [block._compiled_call_impl is not None for block in editor.pipeline.unet.modules()]
        for editor in editors
    ]
    assert [any(each) for each in blocks] == [False, True]


def test_an_inversion_of_other_frames_is_refused(checkpoint: Path) -> None:
    pipeline = make_editor(settings(checkpoint), "cpu").pipeline  # type: ignore[attr-defined]
    frames = media.read_video(row(3)["video"]["bytes"]).frames
    inversion = pipeline.invert(frames, "a person", num_inference_steps=2)
    with pytest.raises(ValueError, match=r"inversion: is of 3 frames and 2 steps .* wanted 2, 2 and False"):
        pipeline(frames[:2], "a person", "a", num_inference_steps=2, inversion=inversion)


@pytest.mark.parametrize(
    ("method", "on_old", "on_new"),
    [("fatezero", "float16", "float16"), ("sdedit", "float16", "float16"), ("wan", "float32", "bfloat16")],
)
def test_bfloat16_is_for_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    on_old: str,
    on_new: str,
) -> None:
    """Where it is not, it is told what is taken in its place, and to ask for it is refused."""
    chosen = VideoSettings(method=method, model="folder", styles=("monet",))
    pretend_gpus(monkeypatch, 1, (8, 0))
    assert _precision(chosen, "cuda:0") == on_new
    assert not capsys.readouterr().out
    pretend_gpus(monkeypatch, 1, (7, 5))
    assert _precision(chosen, "cuda:0") == on_old
    assert ("cuda:0 does not compute in bfloat16" in capsys.readouterr().out) == (on_old != on_new)
    with pytest.raises(UsageError, match=r"augment.video.precision: got bfloat16, and cuda:0 .*; take auto"):
        _precision(replace(chosen, precision="bfloat16"), "cuda:0")
