"""Sound and frames in turn: as the omni families' processors write them and their models place them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from finetune.inputs.audio_in_video import Tokens, chunks, qwen2_5_omni, qwen3_omni
from finetune.inputs.batch import Budget, Encoded, InputError, collate
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.question import rating_question
from finetune.model import towers
from finetune.model.loading import BaseModel
from finetune.settings import FinetuneConfig
from finetune.tower_cache.cache import TowerCache
from finetune.tower_cache.frozen_towers import FrozenTowers
from pipelines import media
from pipelines.durable.checkpoints import read_json_object
from pipelines.errors import UsageError
from pipelines.row import Row
from pipelines.row import media as in_row
from tests import tiny
from tests.finetune.family_inputs import TEXT, _prompt, combinations, every, without

OMNI = ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"]
CONFIGURED = {"qwen2_5_omni_thinker": qwen2_5_omni, "qwen3_omni_moe_thinker": qwen3_omni}


class Clip(NamedTuple):
    """Frames and their rate, and seconds of sound."""

    frames: int
    fps: float
    sound_s: float


CLIPS = {
    "equal": Clip(8, 4.0, 2.0),
    "longer than a chunk": Clip(22, 4.0, 5.5),
    "sound shorter": Clip(20, 4.0, 1.1),
    "sound longer": Clip(6, 4.0, 5.3),
    "much longer sound": Clip(2, 4.0, 9.0),
    "fractional rate": Clip(17, 3.7, 4.4),
    "steps longer than a chunk": Clip(8, 0.7, 9.1),
    "one frame": Clip(1, 1.0, 0.8),
    "camera": Clip(13, 29.97, 0.4),
}
each_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS.keys())


def row(clip: Clip, number: int = 0) -> Row:
    """A clip as a row, its sound ending in silence, which a processor's padding goes on with."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, size=(clip.frames, 32, 32, 3), dtype=np.uint8)
    samples = rng.normal(0, 0.1, round(16_000 * clip.sound_s)).astype(np.float32)
    samples[-1600:] = 0
    made = {
        "video": in_row(media.encode_video(frames, clip.fps)),
        "audio": in_row(media.encode_audio(samples)),
    }
    return tiny.row(number, duration_s=clip.frames / clip.fps, fps=clip.fps, text=TEXT, **made)


def encoder_of(base: BaseModel, clip: Clip, *, among: bool | None = True, **limits: Any) -> ChatEncoder:
    budget = Budget(video_fps=clip.fps, max_frames=clip.frames, max_audio_s=20, **limits)
    return base.encoder(budget, None, audio_in_video=among)


def by_processor(base: BaseModel, clip: Clip, given: Row) -> dict[str, Any]:
    """A row through its processor, which is told to put the sound among the frames."""
    processor: Any = base.processor
    said = f"The speaker says: {TEXT}\n" + rating_question("mosi", "en")
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": said}]}]
    if base.family.chat.turn.__name__ == "chatml_with_system":
        system = {"type": "text", "text": "You are a helpful assistant."}
        messages.insert(0, {"role": "system", "content": [system]})
    frames = torch.from_numpy(media.read_video(given["video"]["bytes"], fps=clip.fps).frames)
    frame_settings = {
        "do_sample_frames": False,
        "cap_pixels_per_frame": False,
        "size": base.family.chat.video.size(processor, len(frames), None),  # type: ignore[union-attr]
        "fps": clip.fps,
    }
    if hasattr(type(processor), "load_audio_from_video"):
        among = {"load_audio_from_video": True, "audio_from_video_indices": [0]}
    elif "use_audio_in_video" in inspect.getsource(inspect.getmodule(type(processor))):  # type: ignore[arg-type]
        among, frame_settings["use_audio_in_video"] = {}, True
    else:
        pytest.skip("this processor does not put the sound of a video among its frames")
    return dict(
        processor(
            text=[_prompt(processor, messages)],
            videos=[frames.permute(0, 3, 1, 2)],
            videos_kwargs=frame_settings,
            audio=[media.read_audio(given["audio"]["bytes"], sampling_rate=16_000)],
            audio_kwargs={"sampling_rate": 16_000, "max_length": 10 * 16_000},  # a tiny one hears two seconds
            return_tensors="pt",
            **among,
        )
    )


def model_position_ids(base: BaseModel, encoded: Encoded, clip: Clip) -> torch.Tensor:
    """Where the model itself places tokens."""
    rope: Any = base.encoder(Budget(video_fps=1, max_frames=1, max_audio_s=1), None).rope_index
    if "use_audio_in_video" not in inspect.signature(rope).parameters:
        pytest.skip("this model does not place the sound of a video among its frames")
    assert encoded.feature_attention_mask is not None
    places, _ = rope(
        encoded.input_ids[None],
        video_grid_thw=encoded.video_grid_thw[None],  # type: ignore[index]
        attention_mask=torch.ones_like(encoded.input_ids)[None],
        use_audio_in_video=True,
        audio_seqlens=encoded.feature_attention_mask.sum()[None],
        second_per_grids=torch.tensor([2 / clip.fps]),
    )
    return places[:, 0]


@every(OMNI)
@each_clip
def test_tokens_are_the_processors(bases: dict[str, BaseModel], name: str, clip: Clip) -> None:
    given = row(clip)
    ours = encoder_of(bases[name], clip)(given)
    assert ours.input_ids.tolist() == by_processor(bases[name], clip, given)["input_ids"][0].tolist()


@every(OMNI)
@each_clip
def test_places_are_the_models(bases: dict[str, BaseModel], name: str, clip: Clip) -> None:
    ours = encoder_of(bases[name], clip)(row(clip))
    own = model_position_ids(bases[name], ours, clip)
    assert ours.position_ids.dtype == own.dtype
    assert torch.equal(ours.position_ids, own)


@every(OMNI)
@each_clip
def test_the_forward_pass_is_the_models(bases: dict[str, BaseModel], name: str, clip: Clip) -> None:
    """On what the processor gives, order and places left to the two of them."""
    base, given = bases[name], row(clip)
    theirs = by_processor(base, clip, given) | {"video_second_per_grid": torch.tensor([2 / clip.fps])}
    parameters = inspect.signature(base.thinker.model.forward).parameters
    if "use_audio_in_video" in parameters:
        theirs["use_audio_in_video"] = True
    with torch.no_grad():
        ours = towers.last_hidden_state(base.thinker, **collate([encoder_of(base, clip)(given)], 0))
        own = base.thinker.model(**{key: theirs[key] for key in parameters if key in theirs})
    torch.testing.assert_close(ours, own.last_hidden_state, rtol=1e-5, atol=1e-5)


@every(OMNI)
def test_the_same_tokens_stand_in_another_order(bases: dict[str, BaseModel], name: str) -> None:
    clip = CLIPS["longer than a chunk"]
    among, behind = (encoder_of(bases[name], clip, among=among)(row(clip)) for among in (True, False))
    assert among.input_ids.tolist() != behind.input_ids.tolist()
    assert sorted(among.input_ids.tolist()) == sorted(behind.input_ids.tolist())
    for kind in ("pixel_values_videos", "video_grid_thw", "input_features", "feature_attention_mask"):
        assert torch.equal(getattr(among, kind), getattr(behind, kind))


@every(OMNI)
def test_rows_that_lack_sound_or_picture_stay_as_they_are(bases: dict[str, BaseModel], name: str) -> None:
    clip = CLIPS["equal"]
    encoders = [encoder_of(bases[name], clip, among=among) for among in (True, False)]
    for shown in combinations(bases[name]):
        among, behind = (encoder(without(row(clip), shown)) for encoder in encoders)
        equal = among.input_ids.tolist() == behind.input_ids.tolist()
        assert equal == (not {"audio", "video"} <= set(shown)), shown
        assert equal == torch.equal(among.position_ids, behind.position_ids), shown


@every(OMNI)
def test_rows_in_a_batch_are_read_as_if_alone(bases: dict[str, BaseModel], name: str) -> None:
    base = bases[name]
    encoded = [encoder_of(base, clip)(row(clip, number)) for number, clip in enumerate(CLIPS.values())]
    encoded.append(encoder_of(base, CLIPS["equal"])(without(row(CLIPS["equal"]), ("text",))))
    with torch.no_grad():
        together = towers.last_hidden_state(base.thinker, **collate(encoded, 0))[:, -1]
        alone = [towers.last_hidden_state(base.thinker, **collate([one], 0))[:, -1] for one in encoded]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@every(OMNI)
def test_what_frozen_towers_made_goes_to_its_places(
    bases: dict[str, BaseModel], name: str, tmp_path: Path
) -> None:
    """It is kept once for both orders."""
    base, clip = bases[name], CLIPS["fractional rate"]
    cache = TowerCache(tmp_path, "tiny")
    for among in (True, False):
        plain = encoder_of(base, clip, among=among)
        frozen = FrozenTowers(plain, base.thinker, cache)
        for _ in range(2):  # asked, and found
            kept, fresh = frozen(row(clip)), plain(row(clip))
            assert torch.equal(kept.input_ids, fresh.input_ids)
            assert torch.equal(kept.position_ids, fresh.position_ids)
            with torch.no_grad():
                found, wanted = (
                    towers.last_hidden_state(base.thinker, **collate([one], 0)) for one in (kept, fresh)
                )
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert cache.lookups == {"missing": 2, "found": 6}


@every(OMNI)
def test_a_token_budget_is_kept(bases: dict[str, BaseModel], name: str) -> None:
    """Frames go, then sound; what is left stands where the model would place it."""
    base, clip = bases[name], CLIPS["longer than a chunk"]
    given = row(clip)
    whole = len(encoder_of(base, clip)(given).input_ids)
    lengths = []
    for limit in range(whole, 0, -7):
        encoder = encoder_of(base, clip, max_tokens=limit)
        try:
            encoded = encoder(given)
        except InputError:
            break
        lengths.append(len(encoded.input_ids))
        assert lengths[-1] <= limit
        frames = 2 * int(encoded.video_grid_thw[0])  # type: ignore[index]
        own = model_position_ids(base, encoded, clip._replace(fps=frames / (clip.frames / clip.fps)))
        assert torch.equal(encoded.position_ids, own)
    assert lengths[-1] < whole / 2


@pytest.mark.parametrize("name", OMNI)
def test_order_and_places_agree_at_any_rate(bases: dict[str, BaseModel], name: str) -> None:
    """Each token has its place, later ones of a kind no earlier one."""
    interleaving = CONFIGURED[name](bases[name].thinker.config)
    for fps in (0.3, 1.0, 23.976, 25.0, 30.0, 59.94):
        for sounds in (1, 60, 400):
            tokens = Tokens(grid=(40, 2, 3), step_s=2 / fps, audio=sounds)
            runs = interleaving.runs(tokens)
            assert sum(count for is_sound, count in runs if is_sound) == sounds
            assert sum(count for is_sound, count in runs if not is_sound) == 240
            assert not runs[0][0], "the picture begins"
            places = interleaving.position_ids(tokens, 5, 5 + 240 + sounds + 4 + 7)
            kinds = torch.tensor([is_sound for is_sound, count in runs for _ in range(count)])
            inside = places[0, 7 : 7 + len(kinds)]
            assert bool((inside[kinds].diff() == 1).all())
            assert bool((inside[~kinds].diff() >= 0).all())
            assert torch.equal(places[:, -7:].diff(), torch.ones(3, 6, dtype=places.dtype))


def test_a_chunk_is_opened_by_the_first_token_in_it_and_none_is_passed_over() -> None:
    turns = chunks(50)
    assert turns(torch.tensor([0.0, 49.9, 50, 99, 100])).tolist() == [0, 0, 1, 1, 2]
    assert turns(torch.tensor([0.0, 120, 120, 120])).tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_audio", "llama"])
def test_a_family_that_does_not_both_see_and_hear_refuses_it(bases: dict[str, BaseModel], name: str) -> None:
    with pytest.raises(UsageError, match=r"^finetune.audio_in_video: got true, but '.*' does not take"):
        encoder_of(bases[name], CLIPS["equal"])
    for among in (False, None):
        assert encoder_of(bases[name], CLIPS["equal"], among=among).interleaving is None


def test_left_unsaid_it_is_as_the_model_was_trained(bases: dict[str, BaseModel]) -> None:
    """A released model was trained with it; a thinker made here says in its configuration that it was not."""
    assert encoder_of(bases["qwen3_omni_moe_thinker"], CLIPS["equal"], among=None).interleaving is not None
    assert bases["qwen2_5_omni_thinker"].thinker.config.audio_in_video is False
    assert encoder_of(bases["qwen2_5_omni_thinker"], CLIPS["equal"], among=None).interleaving is None
    assert FinetuneConfig().audio_in_video is None
    from transformers import Qwen2_5OmniThinkerConfig

    from finetune.model.loading import source_of

    assert Qwen2_5OmniThinkerConfig.from_pretrained(source_of("embedded")).audio_in_video is False


# Through the command


@pytest.fixture(scope="module")
def trained(tiny_thinker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, and a model that was trained with sound among frames."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [tiny.row(n) for n in range(4)] + [tiny.row(n, "test") for n in range(2)]
    tiny.store(folder / "store", rows)
    finetune(folder, tiny_thinker, "among", audio_in_video="true")
    return folder


def finetune(folder: Path, model: Path, out: str, **settings: Any) -> Path:
    from finetune.__main__ import main

    fixed = {
        "model": model,
        "epochs": 1,
        "batch_size": 2,
        "lora_rank": 2,
        "learning_rate": 0.02,
        "video_fps": 10,
    }
    given = [part for key, value in (fixed | settings).items() for part in (f"--finetune.{key}", str(value))]
    main(["--data", str(folder / "store"), "--out", str(folder / out), *given])
    return folder / out


def ratings(path: Path) -> Sequence[float]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path / "predictions.parquet")["prediction"].to_pylist()


def test_a_model_opens_as_it_was_trained(trained: Path, tiny_thinker: Path) -> None:
    from finetune.merging import merge
    from finetune.model.saved_model import open_model

    behind = finetune(trained, tiny_thinker, "behind")
    assert ratings(behind) != ratings(trained / "among")
    for name, wanted in (("among", True), ("behind", False)):
        _, encoder, record = open_model(trained / name, "cpu")
        assert (encoder.interleaving is not None) == wanted
        assert record["config"]["audio_in_video"] is (True if wanted else None)
        merged = merge(trained / name, trained / f"merged-{name}")
        assert (open_model(merged, "cpu")[1].interleaving is not None) == wanted
        assert json.loads((merged / "config.json").read_text())["audio_in_video"] is wanted


def test_a_record_that_says_nothing_of_it_was_made_without(trained: Path, tiny_thinker: Path) -> None:
    """Of whatever model: one that of itself is read with sound among frames, too."""
    from finetune.model.saved_model import open_model

    record = read_json_object(trained / "among" / "model.json")
    del record["config"]["audio_in_video"]
    record["config"]["readout"] = record["config"].pop("head")  # its name in version 0.1.0
    (trained / "among" / "model.json").write_text(json.dumps(record))
    _, encoder, current = open_model(trained / "among", "cpu")
    assert encoder.interleaving is None
    assert current["config"]["head"] == "regression"
    begun = json.loads((trained / "among" / "run_config.json").read_text())
    del begun["audio_in_video"]
    begun["readout"] = begun.pop("head")
    (trained / "among" / "run_config.json").unlink()
    (trained / "among" / "begun.json").write_text(json.dumps(begun))  # its name in version 0.1.0
    with pytest.raises(UsageError, match=r"other settings \(audio_in_video was False and is True\)"):
        finetune(trained, tiny_thinker, "among", audio_in_video="true")


def test_asked_once_or_at_each_step_it_trains_the_same(trained: Path, tiny_thinker: Path) -> None:
    kept, asked = (
        finetune(trained, tiny_thinker, name, audio_in_video="true", tower_cache=cache)
        for name, cache in (("kept", "auto"), ("asked", "none"))
    )
    assert ratings(kept) == pytest.approx(ratings(asked), abs=1e-4)
