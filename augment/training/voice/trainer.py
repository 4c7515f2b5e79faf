"""How the voice converter is trained: its networks, the loss, a step, and the state to go on from.

Encoders of `transformers` stay as they are; everything else is trained, in as many processes as accelerate
has started, each on batches of its own. What is kept is a moving average of the weights.
"""

from __future__ import annotations

import copy
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from augment.training.muon import Muon
from augment.training.voice.batches import Batch
from augment.training.voice.settings import (
    CONTENT_ENCODER,
    EMBEDDED,
    SPEAKER_ENCODER,
    TransformerSettings,
    VoiceTrainingConfig,
)
from augment.voice_conversion import encoders
from augment.voice_conversion.conditioning import Frames, Networks, prosody
from augment.voice_conversion.encoders import Heard
from augment.voice_conversion.flow_matching import interpolate
from augment.voice_conversion.model import (
    ContentEncoder,
    LengthRegulator,
    SpeakerEncoder,
    VoiceTransformer,
)
from augment.voice_conversion.pipeline import VoiceConversionPipeline
from pipelines.errors import RunError
from pipelines.row import row_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

WARM_UP = 40
"""Steps that the rates take to their peak."""
AVERAGING = 0.998
"""Decay of the weights' moving average."""
DROPPED = 0.1
"""Share of a batch that is trained without any condition."""


def begun(config: VoiceTrainingConfig) -> VoiceConversionPipeline:
    """The converter that training starts from: loaded, or of random weights with its encoders loaded.

    Raises:
        UsageError: If a converter or an encoder cannot be had.
    """
    if config.start is not None:
        from augment.audio.flow_matching_converter import load_converter

        return load_converter(config.start, None, "cpu", setting="start")
    torch.manual_seed(config.seed)
    content, content_extractor = _content(config.content_encoder or CONTENT_ENCODER)
    speaker, speaker_extractor = _speaker(config.speaker_encoder or SPEAKER_ENCODER)
    sizes = config.transformer or TransformerSettings()
    return VoiceConversionPipeline(
        content,
        speaker,
        LengthRegulator(content_size=encoders.size(content), size=sizes.width),
        VoiceTransformer(content_size=sizes.width, speaker_size=encoders.size(speaker), **asdict(sizes)),
        content_extractor=content_extractor,
        speaker_extractor=speaker_extractor,
    )


def _content(name: str) -> tuple[Any, Any]:
    return (ContentEncoder(), None) if name == EMBEDDED else encoders.load_content(name)


def _speaker(name: str) -> tuple[Any, Any]:
    return (SpeakerEncoder(), None) if name == EMBEDDED else encoders.load_speaker(name)


def flow_loss(networks: Networks, batch: Batch, generator: torch.Generator, dropped: float) -> torch.Tensor:
    """Flow matching's L1 loss on the frames behind the prompt.

    Args:
        networks: Of the batch's device.
        batch: Of stretches.
        generator: On the CPU; draws noise, times and which rows go without condition.
        dropped: Share of such rows.

    References:
        As in Seed-VC.
    """
    model = networks.transformer
    data, device = model.state(batch.mel, batch.draft), batch.mel.device
    prompt = Heard(batch.prompt_samples, model.normalised(batch.prompt))
    source = Heard(batch.source_samples, model.normalised(batch.source))
    condition = networks.condition(
        Frames(
            mel=prompt.mel,
            content=networks.content(prompt),
            draft=model.normalised(batch.prompt_draft),
            prosody=prosody(batch.prompt, batch.prompt_pitch),
        ),
        Frames(
            mel=data,
            content=networks.content(source),
            draft=model.normalised(batch.draft),
            prosody=prosody(batch.source, batch.pitch),
        ),
        prompt,
    )
    rows = len(data)
    condition = condition.without((torch.rand(rows, generator=generator) < dropped).to(device))
    time = torch.rand(rows, generator=generator).to(device)
    noisy, velocity = interpolate(data, torch.randn(data.shape, generator=generator).to(device), time)
    state = torch.cat([torch.zeros_like(prompt.mel), noisy], 1)
    return (model(state, time, condition)[:, prompt.mel.shape[1] :] - velocity).abs().mean()


class _Objective(nn.Module):
    """The loss as a module of what is trained, which processes can train together."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.trained = networks.trained()
        self.networks = networks  # a tuple, so that frozen encoders are no part of the module

    def forward(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        return flow_loss(self.networks, batch, generator, DROPPED)


class Training:
    """A converter on its way, with all that a stopped training needs to go on.

    Args:
        start: The converter at the beginning; it is trained itself.
        config: The settings.
        accelerator: Tells device, precision and processes.
        folder: Of the states; the newest one is loaded if there is one.
    """

    def __init__(
        self,
        start: VoiceConversionPipeline,
        config: VoiceTrainingConfig,
        accelerator: Accelerator,
        folder: Path,
    ) -> None:
        self.config, self.accelerator, self.folder = config, accelerator, folder
        start.to(accelerator.device)
        self.networks, self.vocoder = start.networks, start.vocoder
        self.objective = accelerator.prepare(_Objective(self.networks))
        trained = self.networks.trained()
        self.averaged = copy.deepcopy(trained).eval().requires_grad_(False)
        inner, other = _sorted_parameters(self.networks)
        self.rates = (config.muon_rate, config.adam_rate)
        self.optimizers = accelerator.prepare(
            Muon(inner, lr=config.muon_rate),
            torch.optim.AdamW(other, lr=config.adam_rate, betas=(0.9, 0.98), weight_decay=0.01),
        )
        self.parameters = list(trained.parameters())
        self.step = 0
        accelerator.register_for_checkpointing(self.averaged)
        newest = max(folder.glob("step-*"), default=None)
        if newest is not None:
            accelerator.load_state(str(newest))
            self.step = int(newest.name.removeprefix("step-"))

    @property
    def share(self) -> float:
        """Of the highest rates that the next step has: up within `WARM_UP`, down along half a cosine."""
        falling = 0.51 + 0.49 * np.cos(np.pi * self.step / self.config.steps)
        return float(min(1, (self.step + 1) / WARM_UP) * falling)

    def learn(self, batch: Batch) -> torch.Tensor:
        """Take a step; returns this process' loss, a number.

        Raises:
            RunError: If a gradient is not finite; the optimizers have not used it then.
        """
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = self.share * rate
            optimizer.zero_grad()
        seed = row_seed(self.config.seed, f"step {self.step} of process {self.accelerator.process_index}")
        with self._quick_attention():
            loss = self.objective(self._placed(batch), torch.Generator().manual_seed(seed))
            self.accelerator.backward(loss)
        self._check_finite(self.accelerator.clip_grad_norm_(self.parameters, 1.0))
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._average()
        return loss.detach()

    def _check_finite(self, norm: torch.Tensor) -> None:
        """End a training that diverges, but for steps that a scaler of float16 leaves out by itself."""
        if self.accelerator.scaler is None and not norm.isfinite():
            newest = max(self.folder.glob("step-*"), default=None)
            kept = f"{newest} is the newest state" if newest else "there is no state yet"
            raise RunError(
                f"voice conversion: the loss or a gradient is not finite in step {self.step + 1}; the"
                f" training ends before it is used, and {kept}; lower adam_rate and muon_rate and begin in"
                " another --out"
            )

    def _quick_attention(self) -> Any:
        # Fused attention's backward pass is slow on CPUs.
        return sdpa_kernel(SDPBackend.MATH) if self.accelerator.device.type == "cpu" else nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(AVERAGING, (1 + self.step) / (10 + self.step))
        for average, parameter in zip(self.averaged.parameters(), self.parameters, strict=True):
            average.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def loss_on(self, batches: list[Batch]) -> float:
        """The averaged networks' mean loss on batches, with the same noise each time."""
        generator = torch.Generator().manual_seed(0)
        with self.accelerator.autocast():
            losses = [flow_loss(self._kept, self._placed(batch), generator, 0.0) for batch in batches]
        return float(torch.stack(losses).mean())

    @property
    def _kept(self) -> Networks:
        averaged: dict[str, Any] = dict(self.averaged.items())
        return self.networks._replace(**averaged)

    def _placed(self, batch: Batch) -> Batch:
        """A batch on the device; samples stay, for feature extractors take them from the CPU."""
        return Batch(
            **{
                name: part if name.endswith("samples") else part.to(self.accelerator.device)
                for name, part in batch._asdict().items()
            }
        )

    def pipeline(self) -> VoiceConversionPipeline:
        """The converter of the averaged weights, which it shares."""
        made = VoiceConversionPipeline(**self._kept._asdict(), vocoder=self.vocoder)
        made.set_progress_bar_config(disable=True)
        return made

    def save(self) -> None:
        """Write the state, by all processes together, and then remove the one before."""
        unfinished, accelerator = self.folder / "unfinished", self.accelerator
        accelerator.save_state(str(unfinished))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            before = list(self.folder.glob("step-*"))
            unfinished.rename(self.folder / f"step-{self.step:08d}")
            for folder in before:
                shutil.rmtree(folder)
        accelerator.wait_for_everyone()


def _sorted_parameters(networks: Networks) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The inner matrices and kernels, and everything else."""
    inner: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    outer = {networks.transformer.inp.weight, networks.transformer.out.weight}
    for parameter in networks.trained().parameters():
        matrix = parameter.dim() > 1 and parameter not in outer
        (inner if matrix else other).append(parameter)
    return inner, other
