"""Training of the voice converter: the initial networks, the loss, a step, and the state to resume from.

Encoders from `transformers` stay frozen; everything else is trained, in as many processes as accelerate has
started, each with its own batches. The result is a moving average of the weights.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
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
from augment.voice_conversion.encoders import EncoderInput
from augment.voice_conversion.flow_matching import interpolate
from augment.voice_conversion.model import ContentEncoder, LengthRegulator, SpeakerEncoder, VoiceTransformer
from augment.voice_conversion.pipeline import VoiceConversionPipeline
from pipelines.atomic import sync_folder
from pipelines.durable.checkpoints import MARKER, newest_whole, seal, whole, writing
from pipelines.errors import RunError
from pipelines.row import row_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

WARM_UP = 40  # steps
AVERAGING = 0.998  # decay of the weights' moving average
STATES = "step-*"
DROPPED = 0.1  # share of a batch that is trained without any condition, for guidance


def initial_converter(config: VoiceTrainingConfig) -> VoiceConversionPipeline:
    """The converter that training starts from: loaded, or with random weights and pre-trained encoders.

    Raises:
        UsageError: If a converter or an encoder cannot be loaded.
    """
    if config.start is not None:
        from augment.audio.flow_matching_converter import load_converter

        return load_converter(config.start, None, "cpu", setting="start")
    torch.manual_seed(config.seed)
    name = config.content_encoder or CONTENT_ENCODER
    content, content_extractor = _encoder(name, ContentEncoder, encoders.load_content)
    name = config.speaker_encoder or SPEAKER_ENCODER
    speaker, speaker_extractor = _encoder(name, SpeakerEncoder, encoders.load_speaker)
    sizes = config.transformer or TransformerSettings()
    return VoiceConversionPipeline(
        content,
        speaker,
        LengthRegulator(content_size=encoders.size(content), size=sizes.width),
        VoiceTransformer(content_size=sizes.width, speaker_size=encoders.size(speaker), **asdict(sizes)),
        content_extractor=content_extractor,
        speaker_extractor=speaker_extractor,
    )


def _encoder(name: str, embedded: type, load: Callable[[str], tuple[Any, Any]]) -> tuple[Any, Any]:
    return (embedded(), None) if name == EMBEDDED else load(name)


def flow_loss(networks: Networks, batch: Batch, generator: torch.Generator, dropped: float) -> torch.Tensor:
    """The L1 loss of flow matching on the frames after the prompt.

    Args:
        networks: On the batch's device.
        batch: Of examples.
        generator: On the CPU; draws noise, times and the rows without condition.
        dropped: Probability that a row has no condition.

    References:
        As in Seed-VC.
    """
    model = networks.transformer
    data, device = model.state(batch.mel, batch.prior_mel), batch.mel.device
    prompt = EncoderInput(batch.prompt_samples, model.normalised(batch.prompt))
    source = EncoderInput(batch.source_samples, model.normalised(batch.source))
    condition = networks.condition(
        Frames(
            mel=prompt.mel,
            content=networks.content(prompt),
            prior_mel=model.normalised(batch.prompt_prior_mel),
            prosody=prosody(batch.prompt, batch.prompt_pitch),
        ),
        Frames(
            mel=data,
            content=networks.content(source),
            prior_mel=model.normalised(batch.prior_mel),
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
    """The loss as a module of the trained networks, as distributed training needs it."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.trained = networks.trained()
        self.networks = networks  # a tuple, so that frozen encoders do not become submodules

    def forward(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        return flow_loss(self.networks, batch, generator, DROPPED)


class Training:
    """A converter in training, with everything that is needed to resume.

    Args:
        start: The initial converter; its networks are trained in place.
        config: The settings.
        accelerator: Determines device, precision and processes.
        folder: Of the saved states; the newest intact one is loaded, if there is one.
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
        newest, broken = newest_whole(self.folder, STATES, _sealed)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for state, problem in broken.items():
                print(f"voice conversion: {problem}; {state.name} is not used, and removed", flush=True)
                shutil.rmtree(state)
            if broken and newest is None:
                print("voice conversion: no intact state is left; the training begins anew", flush=True)
        if newest is not None:
            accelerator.load_state(str(newest))
            self.step = int(newest.name.removeprefix("step-"))

    def _newest_state(self) -> Path | None:
        return newest_whole(self.folder, STATES, _sealed)[0]

    @property
    def rate_factor(self) -> float:
        """Factor on the highest learning rates at the next step: linear warm-up, cosine decay to 0.02."""
        decay = 0.51 + 0.49 * np.cos(np.pi * self.step / self.config.steps)
        return float(min(1, (self.step + 1) / WARM_UP) * decay)

    def learn(self, batch: Batch) -> torch.Tensor:
        """Take a step; returns this process' loss.

        Raises:
            RunError: If a gradient is not finite; the weights are not updated then.
        """
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = self.rate_factor * rate
            optimizer.zero_grad()
        seed = row_seed(self.config.seed, f"step {self.step} of process {self.accelerator.process_index}")
        on_cpu = self.accelerator.device.type == "cpu"
        # Fused attention's backward pass is slow on CPUs.
        with sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext():
            loss = self.objective(self._placed(batch), torch.Generator().manual_seed(seed))
            self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.parameters, 1.0)
        # The gradient scaler of float16 skips such steps by itself.
        if self.accelerator.scaler is None and not norm.isfinite():
            newest = self._newest_state()
            kept = f"{newest} is the newest state" if newest else "there is no state yet"
            raise RunError(
                f"voice conversion: the loss or a gradient is not finite in step {self.step + 1}; the"
                f" training ends before it is used, and {kept}; lower adam_rate and muon_rate and begin in"
                " another --out"
            )
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(AVERAGING, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, parameter in zip(self.averaged.parameters(), self.parameters, strict=True):
                average.lerp_(parameter, 1 - decay)
        return loss.detach()

    @torch.no_grad()
    def loss_on(self, batches: list[Batch]) -> float:
        """The averaged networks' mean loss on batches, with the same noise each time."""
        generator = torch.Generator().manual_seed(0)
        with self.accelerator.autocast():
            losses = [flow_loss(self._averaged, self._placed(batch), generator, 0.0) for batch in batches]
        return float(torch.stack(losses).mean())

    @property
    def _averaged(self) -> Networks:
        averaged: dict[str, Any] = dict(self.averaged.items())
        return self.networks._replace(**averaged)

    def _placed(self, batch: Batch) -> Batch:
        """A batch on the device; samples stay on the CPU, where feature extractors need them."""
        return Batch(
            **{
                name: part if name.endswith("samples") else part.to(self.accelerator.device)
                for name, part in batch._asdict().items()
            }
        )

    def pipeline(self) -> VoiceConversionPipeline:
        """The converter with the averaged weights, which it shares."""
        made = VoiceConversionPipeline(**self._averaged._asdict(), vocoder=self.vocoder)
        made.set_progress_bar_config(disable=True)
        return made

    def save(self) -> None:
        """Save the state, in all processes together, then remove those before the previous one."""
        unfinished, accelerator = self.folder / "unfinished", self.accelerator
        if accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a save that was interrupted
        accelerator.wait_for_everyone()
        with writing(unfinished):
            accelerator.save_state(str(unfinished))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                seal(unfinished, step=self.step, run=self.config.record(accelerator.num_processes))
                before = sorted(self.folder.glob(STATES))
                unfinished.rename(self.folder / f"step-{self.step:08d}")
                sync_folder(self.folder)
                for folder in before[:-1]:
                    shutil.rmtree(folder)
        accelerator.wait_for_everyone()


def _sealed(state: Path) -> None:
    """Refuse a state that is broken; those of earlier versions have no marker.

    Raises:
        DamagedFile: Naming the file.
    """
    if (state / MARKER).exists():
        whole(state)


def _sorted_parameters(networks: Networks) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The inner matrices and kernels, for Muon, and everything else."""
    parameters = list(networks.trained().parameters())
    outer = {networks.transformer.inp.weight, networks.transformer.out.weight}
    inner = {each: None for each in parameters if each.dim() > 1 and each not in outer}
    return list(inner), [each for each in parameters if each not in inner]
