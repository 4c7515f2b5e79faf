"""Voice conversion by flow matching: another voice says the same, in the same time and manner."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline

from augment import waveform
from augment.voice_conversion import flow_matching, pitch
from augment.voice_conversion.conditioning import LOUDNESS, Frames, Networks, draft, prosody, pulse_mel
from augment.voice_conversion.encoders import Heard
from augment.voice_conversion.mel import HOP, SAMPLING_RATE, griffin_lim, log_mel
from augment.voice_conversion.model import Condition, LengthRegulator, VoiceTransformer

PROMPT_FRAMES = 80
"""Of the reference's loudest stretch, 1.3 s, that the transformer continues."""
CHUNK_FRAMES = 126
"""Of a chunk, 2 s: little more than the embedded transformer was trained on."""
OVERLAP_FRAMES = 16
"""Frames that two chunks have in common, 0.26 s."""


class _Sound(NamedTuple):
    """A sound as the networks take it."""

    samples: torch.Tensor
    """At 16 kHz, of loudness `LOUDNESS`, (samples,)."""
    mel: torch.Tensor
    """Log mel spectrogram, (frames, 80)."""
    pitch: torch.Tensor
    """Hz, 0 where unvoiced, (frames,)."""
    level: float
    """Root mean square that it had."""


class VoiceConversionPipeline(DiffusionPipeline):
    """Converts a voice.

    Args:
        content_encoder: What is said: a `ContentEncoder`, or a model of `voice_encoders.load_content`.
        speaker_encoder: Who is to speak: a `SpeakerEncoder`, or a model of `voice_encoders.load_speaker`.
        length_regulator: Content at the mel spectrogram's frame rate.
        transformer: The velocity of flow matching.
        vocoder: A `SpeechT5HifiGan`, or None for Griffin and Lim's method.
        content_extractor: The feature extractor of a content encoder that reads samples; None of one that
            reads a mel spectrogram.
        speaker_extractor: Likewise, of the speaker encoder.
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
            audio: float32 mono in [-1, 1], (samples,), not silent. Of any length.
            reference: The target voice, like `audio`; 1 to 10 s of speech.
            sampling_rate: Of both, in Hz.
            num_inference_steps: Euler steps.
            guidance_scale: How far to go beyond the conditional field, away from the
                unconditional one. With 0, only the conditional field is computed.
            temperature: Standard deviation of the noise that the flow starts from, in [0, 1]. 1 is what it
                was trained from and draws one of the ways to say it; 0, ours, leads to what all of them
                have in common, which a small model says much more clearly.
            pitch_shift: Octaves that the contour is moved by. None: from the source's median
                pitch to the reference's; 0 where one of them has no pitch.
            batch_size: Chunks that go through the transformer together. The result is the same up to
                rounding.
            generator: Of all that is drawn.

        Returns:
            float32 (samples,) in [-1, 1]: as many samples as `audio`, at its sampling rate, as loud.

        Raises:
            ValueError: If a sound is not mono, empty, silent or not finite, or if a number is out of
                its range.
        """
        _check(guidance_scale, temperature, batch_size)
        source = self._heard("audio", audio, sampling_rate)
        target = self._heard("reference", reference, sampling_rate)
        if pitch_shift is None:
            apart = pitch.middle(target.pitch) - pitch.middle(source.pitch)
            pitch_shift = 0.0 if math.isnan(apart) else apart
        wanted = pitch.moved(source.pitch, pitch_shift)
        pulses = pitch.excitation(wanted, len(source.samples), generator)
        base = draft(source.mel, source.pitch, wanted, log_mel(pulses))
        said = self._frames(source.samples, source.mel, base, wanted)
        noise = temperature * torch.randn(base.shape, generator=generator)
        said = said._replace(mel=self._placed(noise[None]))
        prompt = self._prompt(target, generator)
        made = self._chained(said, prompt, num_inference_steps, guidance_scale, batch_size)
        samples = self._waveform(self.transformer.mel(made, base), pulses)[: len(source.samples)]
        return waveform.as_given(
            samples, SAMPLING_RATE, wanted_level=source.level, sampling_rate=sampling_rate, length=len(audio)
        )

    def _heard(self, name: str, sound: np.ndarray, sampling_rate: int) -> _Sound:
        """A sound checked and analysed."""
        level = waveform.level(name, sound)
        samples = torch.from_numpy(np.asarray(sound, np.float32)) * (LOUDNESS / level)
        samples = waveform.resampled(samples, sampling_rate, SAMPLING_RATE)
        return _Sound(samples, log_mel(samples), pitch.track(samples), level)

    def _frames(
        self, samples: torch.Tensor, mel: torch.Tensor, base: torch.Tensor, contour: torch.Tensor
    ) -> Frames:
        """What the networks take of a sound, its log mel spectrogram, its draft and the wanted contour."""
        heard = self._encodable(samples, mel)
        return Frames(
            mel=heard.mel,
            content=self.networks.content(heard),
            draft=self._placed(self.transformer.normalised(base)[None]),
            prosody=self._placed(prosody(mel, contour)[None]),
        )

    def _encodable(self, samples: torch.Tensor, mel: torch.Tensor) -> Heard:
        return Heard(samples[None], self._placed(self.transformer.normalised(mel)[None]))

    def _prompt(self, target: _Sound, generator: torch.Generator | None) -> tuple[Frames, Heard]:
        """The reference's loudest stretch, and all of it."""
        frames = min(PROMPT_FRAMES, len(target.mel))
        loudness = (10**target.mel).sum(-1).log10()
        start = int(loudness.unfold(0, frames, 1).sum(-1).argmax())
        span = slice(start, start + frames)
        mel, contour = target.mel[span], target.pitch[span]
        base = draft(mel, contour, contour, pulse_mel(contour, generator))
        samples = target.samples[start * HOP : (span.stop - 1) * HOP + 1]
        return self._frames(samples, mel, base, contour), self._encodable(target.samples, target.mel)

    def _chained(
        self,
        said: Frames,
        prompt: tuple[Frames, Heard],
        steps: int,
        guidance_scale: float,
        batch_size: int,
    ) -> torch.Tensor:
        """Where flow matching leads a sound whose `mel` is noise, chunk by chunk, (frames, 80)."""
        made = torch.zeros(said.mel.shape[1:])
        chunks = self._chunks(len(made))
        for first in range(0, len(chunks), batch_size):
            together = chunks[first : first + batch_size]
            # All chunks of a sound are equally long.
            batch = Frames(
                *(torch.cat([part[:, start:stop] for start, stop, _ in together]) for part in said)
            )
            flowed = self._flow(batch, prompt, steps, guidance_scale)
            for (start, stop, share), frames in zip(together, flowed, strict=True):
                made[start:stop] += share[:, None] * frames
        return made

    def _flow(
        self, chunks: Frames, prompt: tuple[Frames, Heard], steps: int, guidance_scale: float
    ) -> torch.Tensor:
        """Where flow matching leads chunks whose `mel` is noise, (chunks, frames, 80)."""
        count = len(chunks.mel)
        kept = Frames(*(part.expand(count, -1, -1) for part in prompt[0]))
        condition = self.networks.condition(kept, chunks, prompt[1])
        condition = condition._replace(speaker=condition.speaker.expand(count, -1))
        first = kept.mel.shape[1]

        def field(condition: Condition) -> flow_matching.Field:
            def velocity(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
                # The prompt's frames of the state are zero at each step.
                whole = torch.cat([torch.zeros_like(kept.mel), state], 1)
                return self.transformer(whole, time, condition)[:, first:]

            return velocity

        guided = flow_matching.guided(field(condition), field(condition.without()), guidance_scale)
        return flow_matching.euler(guided, chunks.mel, steps).float().cpu()

    def _placed(self, part: torch.Tensor) -> torch.Tensor:
        return part.to(self._execution_device, self.transformer.dtype)

    @staticmethod
    def _chunks(frames: int) -> list[tuple[int, int, torch.Tensor]]:
        """First frame, end and the frames' shares in the sum, of overlapping chunks; shares add up to 1."""
        count = max(1, math.ceil((frames - OVERLAP_FRAMES) / (CHUNK_FRAMES - OVERLAP_FRAMES)))
        starts = np.linspace(0, max(0, frames - CHUNK_FRAMES), count).round().astype(int)
        chunks, total = [], torch.zeros(frames)
        for start in starts:
            stop = min(frames, start + CHUNK_FRAMES)
            rise = torch.arange(1, stop - start + 1) / OVERLAP_FRAMES
            # Only what another chunk covers fades.
            share = torch.ones(stop - start)
            if start > 0:
                share = share.minimum(rise)
            if stop < frames:
                share = share.minimum(rise.flip(0))
            total[start:stop] += share
            chunks.append((int(start), int(stop), share))
        return [(start, stop, share / total[start:stop]) for start, stop, share in chunks]

    def _waveform(self, mel: torch.Tensor, pulses: torch.Tensor) -> torch.Tensor:
        if self.vocoder is None:
            return griffin_lim(mel, pulses)
        return self.vocoder(self._placed(mel)).float().cpu()


def _check(guidance_scale: float, temperature: float, batch_size: int) -> None:
    if guidance_scale < 0:
        raise ValueError(f"guidance_scale: {guidance_scale} is negative; take 0 to 2")
    if not 0 <= temperature <= 1:
        raise ValueError(f"temperature: {temperature} is outside [0, 1]")
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is not positive; take 1 or more")
