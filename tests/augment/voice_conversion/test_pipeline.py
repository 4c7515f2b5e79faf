"""The voice converter: its contract, what its parts depend on, and the vocoder without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment.audio.flow_matching_converter import load_converter
from augment.checkpoints import VOICE_CONVERTER
from augment.voice_conversion import mel, pitch
from augment.voice_conversion.conditioning import Frames, envelope, prior_mel
from augment.voice_conversion.encoders import EncoderInput
from augment.voice_conversion.flow_matching import euler
from augment.voice_conversion.model import Condition
from augment.voice_conversion.pipeline import CHUNK_FRAMES, VoiceConversionPipeline
from tests.tiny_voices import converter, networks, voiced

torch.set_num_threads(1)


SIZES = {"prompt": (10, 80), "content": (10, 8), "prior_mel": (10, 80), "prosody": (10, 2), "speaker": (8,)}
"""Of the tiny transformer's conditions, without the batch."""


@pytest.fixture(scope="module")
def pipeline() -> VoiceConversionPipeline:
    return converter()


def convert(
    pipeline: Any, audio: np.ndarray, reference: np.ndarray, seed: int = 0, **options: Any
) -> np.ndarray:
    options = {"sampling_rate": 16_000, "num_inference_steps": 2} | options
    return pipeline(audio, reference, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("sampling_rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("samples", [1, 700, 7_001, 50_003])
def test_length_rate_and_loudness_are_the_sources(
    pipeline: VoiceConversionPipeline, sampling_rate: int, samples: int
) -> None:
    audio = voiced(samples / sampling_rate + 1, 120, sampling_rate)[-samples:]
    reference = voiced(0.7, 220, sampling_rate)
    made = convert(pipeline, audio, reference, sampling_rate=sampling_rate)
    assert made.shape == audio.shape
    assert made.dtype == np.float32
    assert np.abs(made).max() <= 1
    if samples > 700:
        assert np.sqrt(np.square(made).mean()) == pytest.approx(np.sqrt(np.square(audio).mean()), rel=0.02)


def test_equal_generators_give_equal_sounds_and_others_others(pipeline: VoiceConversionPipeline) -> None:
    audio, reference = voiced(0.5, 120), voiced(0.5, 220)
    first = convert(pipeline, audio, reference)
    assert np.array_equal(first, convert(pipeline, audio, reference))
    assert not np.array_equal(first, convert(pipeline, audio, reference, seed=1))


def test_saved_and_loaded_is_the_same(pipeline: VoiceConversionPipeline, tmp_path: Path) -> None:
    audio, reference = voiced(0.5, 120), voiced(0.5, 220)
    pipeline.save_pretrained(tmp_path)
    loaded = VoiceConversionPipeline.from_pretrained(tmp_path)
    pairs = convert(pipeline, audio, reference), convert(loaded, audio, reference)
    assert np.allclose(*pairs, atol=1e-5)


def test_guidance_of_zero_runs_one_branch(
    pipeline: VoiceConversionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    forward = type(pipeline.transformer).forward

    def counted(self: Any, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        return forward(self, *arguments)

    monkeypatch.setattr(type(pipeline.transformer), "forward", counted)
    audio, reference = voiced(0.5, 120), voiced(0.5, 220)
    convert(pipeline, audio, reference, num_inference_steps=3, guidance_scale=0.0)
    assert len(calls) == 3
    convert(pipeline, audio, reference, num_inference_steps=3, guidance_scale=0.7)
    assert len(calls) == 3 + 6


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_flow_starts_from_as_much_noise_as_is_said(
    pipeline: VoiceConversionPipeline, temperature: float
) -> None:
    states: list[torch.Tensor] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    audio, reference = voiced(1.5, 120), voiced(0.5, 220)
    convert(pipeline, audio, reference, temperature=temperature, guidance_scale=0.0)
    hook.remove()
    wanted = mel.frame_count(len(audio))
    assert float(states[0][:, -wanted:].std()) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(8_000, np.float32), "audio: silent"),
        (np.zeros(0, np.float32), "audio: shape"),
        (np.ones((2, 100), np.float32), r"audio: shape \(2, 100\); wants mono"),
        (np.array([0.1, np.nan, np.inf], np.float32), "audio: 2 of 3 samples are not finite"),
    ],
)
def test_sounds_without_a_voice_are_refused(
    pipeline: VoiceConversionPipeline, audio: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convert(pipeline, audio, voiced(0.5))


@pytest.mark.parametrize("samples", [1, 400, 8_000])
def test_a_reference_may_be_short_but_not_silent(pipeline: VoiceConversionPipeline, samples: int) -> None:
    audio = voiced(0.5, 120)
    made = convert(pipeline, audio, voiced(1.0, 220)[4_000 : 4_000 + samples])
    assert made.shape == audio.shape
    assert np.isfinite(made).all()
    with pytest.raises(ValueError, match="reference: silent"):
        convert(pipeline, audio, np.zeros(samples, np.float32))


@pytest.mark.parametrize("gain", [4.0, 100.0])
def test_clipped_sounds_are_converted_and_do_not_clip_again(
    pipeline: VoiceConversionPipeline, gain: float
) -> None:
    audio = np.clip(gain * voiced(0.7, 120), -1, 1)
    over = gain * voiced(0.7, 120)
    for sound in (audio, over):
        made = convert(pipeline, sound, np.clip(gain * voiced(0.7, 220), -1, 1))
        assert np.isfinite(made).all()
        assert np.abs(made).max() <= 0.9991
        level = np.sqrt(np.square(sound).mean())
        assert np.sqrt(np.square(made).mean()) <= 1.02 * level


@pytest.mark.parametrize("sampling_rate", [8_000, 48_000])
def test_the_sampling_rate_changes_the_band_and_no_more(
    pipeline: VoiceConversionPipeline, sampling_rate: int
) -> None:
    from torchaudio.functional import resample

    audio, reference = (resample(torch.from_numpy(voiced(0.8, hz)), 16_000, 48_000) for hz in (120, 220))
    at_16k = [resample(sound, 48_000, 16_000).numpy() for sound in (audio, reference)]
    given = [resample(sound, 48_000, sampling_rate).numpy() for sound in (audio, reference)]
    wanted = convert(pipeline, *at_16k)
    made = convert(pipeline, *given, sampling_rate=sampling_rate)
    back = resample(torch.from_numpy(made), sampling_rate, 16_000)[: len(wanted)]
    # The 60 lowest bands reach to 3.4 kHz, which both rates hold.
    spectra = [mel.log_mel(sound)[:, :60] for sound in (back, torch.from_numpy(wanted))]
    assert np.corrcoef(*(spectrum.flatten().numpy() for spectrum in spectra))[0, 1] > 0.97
    if sampling_rate == 48_000:
        power = np.abs(np.fft.rfft(made)) ** 2
        hertz = np.fft.rfftfreq(len(made), 1 / sampling_rate)
        assert power[hertz > 8_100].sum() < 1e-4 * power.sum()


def test_impossible_settings_are_refused(pipeline: VoiceConversionPipeline) -> None:
    with pytest.raises(ValueError, match=r"guidance_scale: -1 is negative"):
        convert(pipeline, voiced(0.5), voiced(0.5), guidance_scale=-1)
    for temperature in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"temperature: .* is outside \[0, 1\]"):
            convert(pipeline, voiced(0.5), voiced(0.5), temperature=temperature)
    with pytest.raises(ValueError, match="batch_size: 0 is not positive"):
        convert(pipeline, voiced(0.5), voiced(0.5), batch_size=0)
    with pytest.raises(ValueError, match="num_inference_steps: 0"):
        convert(pipeline, voiced(0.5), voiced(0.5), num_inference_steps=0)


def test_chunks_together_are_chunks_one_by_one(pipeline: VoiceConversionPipeline) -> None:
    rows: list[int] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    audio, reference = voiced(7.0, 120), voiced(2.0, 220)
    made = {size: convert(pipeline, audio, reference, batch_size=size) for size in (1, 3, 9)}
    hook.remove()
    # 438 frames are 4 chunks; two steps, two branches.
    assert rows == [1] * 16 + [3, 3, 3, 3, 1, 1, 1, 1] + [4] * 4
    np.testing.assert_allclose(made[3], made[1], atol=1e-5)
    np.testing.assert_allclose(made[9], made[1], atol=1e-5)


@pytest.mark.parametrize("frames", [1, 125, 126, 127, 600])
def test_shares_of_chunks_add_up_to_one(frames: int) -> None:
    total = torch.zeros(frames)
    for start, stop, share in VoiceConversionPipeline._chunks(frames):
        assert stop - start <= CHUNK_FRAMES
        assert share.min() > 0
        total[start:stop] += share
    torch.testing.assert_close(total, torch.ones(frames))


@pytest.mark.parametrize("missing", Condition._fields)
def test_the_velocity_depends_on_each_condition(missing: str) -> None:
    model = networks().transformer
    generator = torch.Generator().manual_seed(0)
    parts = {name: torch.randn(1, *size, generator=generator) for name, size in SIZES.items()}
    state, time = torch.randn(1, 10, 80, generator=generator), torch.tensor([0.3])
    with torch.no_grad():
        whole = model(state, time, Condition(**parts))
        other = model(state, time, Condition(**parts | {missing: torch.zeros_like(parts[missing])}))
        later = model(state, time + 0.4, Condition(**parts))
    assert (whole - other).abs().max() > 1e-4
    assert (whole - later).abs().max() > 1e-4


@pytest.fixture(scope="module")
def shipped_step() -> tuple[Any, torch.Tensor, torch.Tensor, Condition]:
    """The shipped transformer with what it was given in the first step of a conversion."""
    given: list[Any] = []
    pipeline = load_converter("embedded", None, "cpu")
    pipeline.transformer.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    convert(pipeline, voiced(0.7, 120), voiced(0.7, 220))
    return pipeline.transformer, *given[0]


@pytest.mark.parametrize("missing", [*Condition._fields, "time"])
def test_the_shipped_velocity_depends_on_each_condition(shipped_step: Any, missing: str) -> None:
    model, state, time, condition = shipped_step
    with torch.no_grad():
        whole = model(state, time, condition)
        if missing == "time":
            other = model(state, time + 0.5, condition)
        else:
            part = getattr(condition, missing)
            other = model(state, time, condition._replace(**{missing: torch.zeros_like(part)}))
    assert (whole - other).abs().mean() > 0.01 * whole.abs().mean()


def test_a_condition_without_its_parts_is_zero_for_those_rows() -> None:
    condition = Condition(*(torch.ones(2, *size) for size in SIZES.values()))
    dropped = condition.without(torch.tensor([True, False]))
    for part in dropped:
        assert not part[0].any()
        assert part[1].all()
    assert not any(part.any() for part in condition.without())


def test_the_prompt_is_continued_by_the_frames_to_be_made() -> None:
    made = networks()
    prompt = Frames(*(torch.ones(1, 4, size) for size in (80, 8, 80, 2)))
    wanted = Frames(torch.full((1, 6, 80), 9.0), *(torch.zeros(1, 6, size) for size in (8, 80, 2)))
    condition = made.condition(prompt, wanted, EncoderInput(torch.zeros(1, 769), prompt.mel))
    assert condition.prompt[:, :4].all()
    assert not condition.prompt[:, 4:].any(), "the wanted frames' spectrogram leaked"
    assert condition.content.shape == (1, 10, 8)


def test_the_state_alone_gives_the_best_linear_guess() -> None:
    """A transformer whose output is zero still leads noise to something of its variance or less."""
    model = networks().transformer
    torch.nn.init.zeros_(model.out.weight)
    torch.nn.init.zeros_(model.out.bias)
    nothing = Condition(*(torch.zeros(1, *size) for size in SIZES.values()))
    noise = torch.randn(1, 10, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reached = euler(lambda state, time: model(state, time, nothing), noise, 50)
    assert 0.8 < float(reached.std()) < 1.2


def test_pitch_is_tracked_moved_and_heard_again() -> None:
    sound = torch.from_numpy(voiced(1.0, 150))
    hertz = pitch.track(sound)
    assert len(hertz) == mel.frame_count(len(sound))
    assert 2 ** pitch.median_log_f0(hertz) == pytest.approx(150, rel=0.06)
    higher = pitch.shifted(hertz, 0.5)
    assert pitch.median_log_f0(higher) == pytest.approx(pitch.median_log_f0(hertz) + 0.5, abs=1e-4)
    assert torch.equal(higher > 0, hertz > 0)
    heard = pitch.track(pitch.excitation(higher, len(sound), torch.Generator().manual_seed(0)))
    both = (heard > 0) & (higher > 0)
    assert both.sum() > 0.8 * (higher > 0).sum()
    assert (heard[both].log2() - higher[both].log2()).abs().median() < 0.02


def test_a_sound_without_pitch_has_no_median_and_a_noisy_excitation() -> None:
    nothing = torch.zeros(20)
    assert np.isnan(pitch.median_log_f0(nothing))
    assert not pitch.shifted(nothing, 1.0).any()
    noise = pitch.excitation(nothing, 5_000, torch.Generator().manual_seed(0))
    assert noise.std() > 1


@pytest.mark.parametrize("octaves", [-0.6, 0.6])
def test_a_prior_has_the_sources_envelope_and_the_wanted_pitch(octaves: float) -> None:
    sound = torch.from_numpy(voiced(1.0, 200))
    source, hertz = mel.log_mel(sound), pitch.track(sound)
    wanted = pitch.shifted(hertz, octaves)
    pulses = pitch.excitation(wanted, len(sound), torch.Generator().manual_seed(0))
    made = prior_mel(source, hertz, wanted, mel.log_mel(pulses))
    loud = source.max(1).values > source.max() - 1
    coarse = torch.full_like(hertz, 5.0)
    assert (envelope(made, coarse) - envelope(source, coarse))[loud].abs().mean() < 0.1
    heard = pitch.track(mel.griffin_lim(made, pulses))
    both = (heard > 0) & (wanted > 0)
    assert (heard[both].log2() - wanted[both].log2()).abs().median() < 0.02


def test_without_a_pitch_a_prior_is_the_envelope() -> None:
    source = mel.log_mel(torch.from_numpy(voiced(0.5, 200)))
    nothing = torch.zeros(len(source))
    made = prior_mel(source, nothing, nothing, torch.rand(source.shape))
    wanted = envelope(source, torch.full_like(nothing, 20.0)).clamp(min=np.log10(mel.FLOOR))
    torch.testing.assert_close(made, wanted)


def test_griffin_lim_keeps_spectrogram_and_pitch() -> None:
    sound = torch.from_numpy(voiced(1.0, 150))
    wanted, hertz = mel.log_mel(sound), pitch.track(sound)
    made = mel.griffin_lim(wanted, pitch.excitation(hertz, len(sound), torch.Generator().manual_seed(0)))
    assert len(made) == len(sound)
    loud = wanted > wanted.max() - 2
    assert (mel.log_mel(made) - wanted)[loud].abs().mean() < 0.1
    heard = pitch.track(made)
    both = (heard > 0) & (hertz > 0)
    assert np.corrcoef(heard[both].log2(), hertz[both].log2())[0, 1] > 0.98


def test_the_shipped_converter_is_small_and_moves_a_voice_to_the_targets_pitch() -> None:
    weights = [*VOICE_CONVERTER.rglob("*.safetensors")]
    assert sum(file.stat().st_size for file in weights) < 12e6
    low, high = voiced(1.0, 110), voiced(1.0, 220)
    made = convert(load_converter("embedded", None, "cpu"), low, high, num_inference_steps=4)
    assert 2 ** pitch.median_log_f0(pitch.track(torch.from_numpy(made))) == pytest.approx(220, rel=0.1)
