"""Voice conversion by flow matching: another voice says the same, with the same timing and manner."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline

from augment import waveform
from augment.voice_conversion import flow_matching, pitch
from augment.voice_conversion.conditioning import (
    LOUDNESS,
    Frames,
    Networks,
    excitation_mel,
    prior_mel,
    prosody,
)
from augment.voice_conversion.encoders import EncoderInput
from augment.voice_conversion.mel import HOP, SAMPLING_RATE, griffin_lim, log_mel
from augment.voice_conversion.model import Condition, LengthRegulator, VoiceTransformer

PROMPT_FRAMES = 80  # of the reference's loudest stretch, 1.3 s, which the transformer continues
CHUNK_FRAMES = 126  # 2 s, little more than the embedded transformer was trained on
OVERLAP_FRAMES = 16  # of consecutive chunks, 0.26 s


class _Analysis(NamedTuple):
    """A waveform with its features."""

    samples: torch.Tensor  # at 16 kHz, of loudness `LOUDNESS`, (samples,)
    mel: torch.Tensor  # log mel spectrogram, (frames, 80)
    pitch: torch.Tensor  # Hz, 0 where unvoiced, (frames,)
    level: float  # root mean square before scaling


class VoiceConversionPipeline(DiffusionPipeline):
    """Converts a voice.

    Args:
        content_encoder: A `ContentEncoder`, or a model from `encoders.load_content`.
        speaker_encoder: A `SpeakerEncoder`, or a model from `encoders.load_speaker`.
        length_regulator: Resamples content features to the mel spectrogram's frame rate.
        transformer: Predicts the velocity of flow matching.
        vocoder: A `SpeechT5HifiGan`, or None for Griffin and Lim's method.
        content_extractor: The feature extractor of a content encoder that reads samples; None for one that
            reads a mel spectrogram.
        speaker_extractor: The same for the speaker encoder.
    """

    model_cpu_offload_seq = "content_encoder->speaker_encoder->length_regulator->transformer->vocoder"
    # diffusers reads this attribute.
    _optional_components = ["vocoder", "content_extractor", "speaker_extractor"]  # noqa: RUF012

    def __init__(
        self,
        content_encoder: Any,
        speaker_encoder: Any,
        length_regulator: LengthRegulator,
        transformer: VoiceTransformer,
        vocoder: Any = None,
        content_extractor: Any = None,
        speaker_extractor: Any = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            content_encoder=content_encoder,
            speaker_encoder=speaker_encoder,
            length_regulator=length_regulator,
            transformer=transformer,
            vocoder=vocoder,
            content_extractor=content_extractor,
            speaker_extractor=speaker_extractor,
        )

    @property
    def networks(self) -> Networks:
        """All parts but the vocoder."""
        return Networks(**{name: getattr(self, name) for name in Networks._fields})

    @torch.no_grad()
    def __call__(
        self,
        audio: np.ndarray,
        reference: np.ndarray,
        *,
        sampling_rate: int,
        num_inference_steps: int = 10,
        guidance_scale: float = 0.7,
        temperature: float = 0.0,
        pitch_shift: float | None = None,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
    ) -> np.ndarray:
        """Say `audio` in the voice of `reference`.

        Args:
            audio: float32 mono in [-1, 1], (samples,), of any length, not silent.
            reference: The target voice, like `audio`; 1 to 10 s of speech.
            sampling_rate: Of both, in Hz.
            num_inference_steps: Euler steps.
            guidance_scale: Scale of classifier-free guidance; 0 computes only the conditional field.
            temperature: Standard deviation of the noise that the flow starts from, in [0, 1]. With 1, as in
                training, the output is a sample. 0, our addition, gives something like the mean of all
                samples, which a small model says much more clearly.
            pitch_shift: Octaves by which the contour is shifted. None shifts it from the source's median
                pitch to the reference's, or not at all if one of them has no pitch.
            batch_size: Chunks that are converted together; the output is the same up to rounding.
            generator: Of everything that is drawn.

        Returns:
            float32 (samples,) in [-1, 1]: as many samples as `audio`, at its sampling rate, as loud.

        Raises:
            ValueError: If a waveform is not mono, empty, silent or not finite, or a number is out of range.
        """
        _check(guidance_scale, temperature, batch_size)
        source = self._analysed("audio", audio, sampling_rate)
        target = self._analysed("reference", reference, sampling_rate)
        if pitch_shift is None:
            difference = pitch.median_log_f0(target.pitch) - pitch.median_log_f0(source.pitch)
            pitch_shift = 0.0 if math.isnan(difference) else difference
        contour = pitch.shifted(source.pitch, pitch_shift)
        excitation = pitch.excitation(contour, len(source.samples), generator)
        prior = prior_mel(source.mel, source.pitch, contour, log_mel(excitation))
        frames = self._frames(source.samples, source.mel, prior, contour)
        noise = temperature * torch.randn(prior.shape, generator=generator)
        frames = frames._replace(mel=self._placed(noise[None]))
        prompt = self._prompt(target, generator)
        state = self._generate(frames, prompt, num_inference_steps, guidance_scale, batch_size)
        samples = self._vocode(self.transformer.mel(state, prior), excitation)[: len(source.samples)]
        return waveform.matched(
            samples, SAMPLING_RATE, level=source.level, sampling_rate=sampling_rate, length=len(audio)
        )

    def _analysed(self, name: str, sound: np.ndarray, sampling_rate: int) -> _Analysis:
        level = waveform.level(name, sound)
        samples = torch.from_numpy(np.asarray(sound, np.float32)) * (LOUDNESS / level)
        samples = waveform.resampled(samples, sampling_rate, SAMPLING_RATE)
        return _Analysis(samples, log_mel(samples), pitch.track(samples), level)

    def _frames(
        self, samples: torch.Tensor, mel: torch.Tensor, prior: torch.Tensor, contour: torch.Tensor
    ) -> Frames:
        """The transformer's inputs from a waveform, its log mel spectrogram, its prior and its contour."""
        sounds = self._encoder_input(samples, mel)
        return Frames(
            mel=sounds.mel,
            content=self.networks.content(sounds),
            prior_mel=self._placed(self.transformer.normalised(prior)[None]),
            prosody=self._placed(prosody(mel, contour)[None]),
        )

    def _encoder_input(self, samples: torch.Tensor, mel: torch.Tensor) -> EncoderInput:
        return EncoderInput(samples[None], self._placed(self.transformer.normalised(mel)[None]))

    def _prompt(self, target: _Analysis, generator: torch.Generator | None) -> tuple[Frames, EncoderInput]:
        """The reference's loudest stretch, and all of the reference."""
        frames = min(PROMPT_FRAMES, len(target.mel))
        loudness = (10**target.mel).sum(-1).log10()
        start = int(loudness.unfold(0, frames, 1).sum(-1).argmax())
        span = slice(start, start + frames)
        mel, contour = target.mel[span], target.pitch[span]
        prior = prior_mel(mel, contour, contour, excitation_mel(contour, generator))
        samples = target.samples[start * HOP : (span.stop - 1) * HOP + 1]
        return self._frames(samples, mel, prior, contour), self._encoder_input(target.samples, target.mel)

    def _generate(
        self,
        frames: Frames,
        prompt: tuple[Frames, EncoderInput],
        steps: int,
        guidance_scale: float,
        batch_size: int,
    ) -> torch.Tensor:
        """The result of flow matching, (frames, 80), chunk by chunk; `frames.mel` is the noise."""
        made = torch.zeros(frames.mel.shape[1:])
        chunks = self._chunks(len(made))
        for first in range(0, len(chunks), batch_size):
            spans = chunks[first : first + batch_size]
            # All chunks have the same length.
            batch = Frames(*(torch.cat([part[:, start:stop] for start, stop, _ in spans]) for part in frames))
            states = self._flow(batch, prompt, steps, guidance_scale)
            for (start, stop, weight), state in zip(spans, states, strict=True):
                made[start:stop] += weight[:, None] * state
        return made

    def _flow(
        self, chunks: Frames, prompt: tuple[Frames, EncoderInput], steps: int, guidance_scale: float
    ) -> torch.Tensor:
        """The result of flow matching for a batch of chunks, (chunks, frames, 80)."""
        count = len(chunks.mel)
        prompts = Frames(*(part.expand(count, -1, -1) for part in prompt[0]))
        condition = self.networks.condition(prompts, chunks, prompt[1])
        condition = condition._replace(speaker=condition.speaker.expand(count, -1))
        first = prompts.mel.shape[1]

        def field(condition: Condition) -> flow_matching.Field:
            def velocity(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
                # The state is zero in the prompt's frames, at each step.
                padded = torch.cat([torch.zeros_like(prompts.mel), state], 1)
                return self.transformer(padded, time, condition)[:, first:]

            return velocity

        guided = flow_matching.guided(field(condition), field(condition.without()), guidance_scale)
        return flow_matching.euler(guided, chunks.mel, steps).float().cpu()

    def _placed(self, part: torch.Tensor) -> torch.Tensor:
        return part.to(self._execution_device, self.transformer.dtype)

    @staticmethod
    def _chunks(frames: int) -> list[tuple[int, int, torch.Tensor]]:
        """Start, stop and the frames' weights of overlapping chunks; the weights of a frame add up to 1."""
        count = max(1, math.ceil((frames - OVERLAP_FRAMES) / (CHUNK_FRAMES - OVERLAP_FRAMES)))
        starts = np.linspace(0, max(0, frames - CHUNK_FRAMES), count).round().astype(int)
        chunks, total = [], torch.zeros(frames)
        for start in starts:
            stop = min(frames, start + CHUNK_FRAMES)
            ramp = torch.arange(1, stop - start + 1) / OVERLAP_FRAMES
            # Chunks fade only where they overlap another one.
            weight = torch.ones(stop - start)
            if start > 0:
                weight = weight.minimum(ramp)
            if stop < frames:
                weight = weight.minimum(ramp.flip(0))
            total[start:stop] += weight
            chunks.append((int(start), int(stop), weight))
        return [(start, stop, weight / total[start:stop]) for start, stop, weight in chunks]

    def _vocode(self, mel: torch.Tensor, excitation: torch.Tensor) -> torch.Tensor:
        if self.vocoder is None:
            return griffin_lim(mel, excitation)
        return self.vocoder(self._placed(mel)).float().cpu()


def _check(guidance_scale: float, temperature: float, batch_size: int) -> None:
    if guidance_scale < 0:
        raise ValueError(f"guidance_scale: {guidance_scale} is negative; take 0 to 2")
    if not 0 <= temperature <= 1:
        raise ValueError(f"temperature: {temperature} is outside [0, 1]")
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is not positive; take 1 or more")
