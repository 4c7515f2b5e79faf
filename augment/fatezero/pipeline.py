"""FateZero (ICCV 2023): edits a clip by a prompt, keeping layout and motion, without stored attention maps.

The clip is inverted to noise by DDIM with the source prompt; only the latents of each step are stored.
Each step of the edit runs the UNet on [source latents of that step, uncond, cond]. The source rows
recompute exactly the attention of the inversion, and the edit borrows from them inside the batch. Source
rows are left out once no step needs them any more.

Differences from the published code: latents are the mode of the autoencoder's posterior unless a generator
is given; a blended word's mask comes from the coarsest cross-attention of the down and up path, which in
Stable Diffusion 1.x are the 16 x 16 maps that the published code uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import BaseOutput
from transformers import CLIPTextModel, CLIPTokenizer

from augment.fatezero.attention import Control, controlled, key_table
from augment.fatezero.prompts import WordPlan, plan_words, token_ids, word_positions

_VAE_BATCH = 8  # frames


@dataclass
class FateZeroOutput(BaseOutput):
    """An edited clip."""

    frames: Any
    """float32 in [0, 1], (F, H, W, 3); with a list of prompts (prompts, F, H, W, 3)."""
    inverted_latents: torch.Tensor
    """The noisiest latents of the inversion, (F, C, h, w)."""


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """The inversion of a clip; serves any number of edits with the arguments that it was made with."""

    latents: list[torch.Tensor]
    """From clean to noisiest, T + 1, each (F, C, h, w)."""
    attended: list[torch.Tensor]
    """Attention to the blended words at each step, T, each (F, 1, h, w); empty without blended words."""


class FateZeroPipeline(DiffusionPipeline):
    """Loads any Stable Diffusion 1.x checkpoint.

    The arguments of a call that control the attention of an edit with T steps:

    - `cross_replace`: cross-attention follows the source in steps below int(share * (T + 1)).
    - `self_replace`: self-attention is the source's in steps below int(share * T).
    - `reweight`: factors on the attention of words of the prompt, within `cross_replace`.
    - `blend_words`: words of the source prompt; where they are in the image, the edit keeps its own
      self-attention, elsewhere it takes the source's. None takes the source's everywhere.
    - `blend_threshold`: share of a frame's strongest attention to a word above which the word is there.
    - `key_frames`: frames that each frame's self-attention attends to: "first", "mid", "last", or an
      offset from the frame itself.
    - `key_frame_min_channels`: in blocks with fewer channels each frame attends to itself only.

    Raises:
        ValueError: If the components are not those of Stable Diffusion 1.x.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: Any,
    ) -> None:
        super().__init__()
        _check_components(vae, text_encoder, unet, scheduler)
        scheduler = DDIMScheduler.from_config(
            scheduler.config, clip_sample=False, timestep_spacing="leading", steps_offset=1
        )
        cast(Any, self).register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def __call__(
        self,
        frames: np.ndarray,
        source_prompt: str,
        prompt: str | list[str],
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        cross_replace: float = 0.8,
        self_replace: float = 0.8,
        reweight: dict[str, float] | None = None,
        blend_words: Sequence[str] | None = None,
        blend_threshold: float | None = 0.3,
        key_frames: Sequence[str | int] = ("mid",),
        key_frame_min_channels: int = 640,
        generator: torch.Generator | None = None,
        output_type: str = "np",
        inversion: Inversion | None = None,
    ) -> FateZeroOutput:
        """Edit a clip.

        Args:
            frames: uint8 RGB (F, H, W, 3), F at least 2; sides are multiples of `vae_scale_factor`.
            source_prompt: What the clip shows.
            prompt: What the edit shall show; with a list, all are edits of the same inversion.
            num_inference_steps: T.
            guidance_scale: 1 runs without the unconditional branch.
            cross_replace, self_replace, reweight: How closely the edit follows the source; see the class.
            blend_words, blend_threshold: Where it does not; see the class.
            key_frames, key_frame_min_channels: What keeps the frames consistent; see the class.
            generator: Draws from the autoencoder's posterior; None takes its mode.
            output_type: "np", or "pt" for a tensor of the same shape.
            inversion: The result of `invert` for the same frames, source prompt, steps, key frames and
                blended words; None inverts here.

        Raises:
            ValueError: If an argument is out of range, a prompt too long, or a word not in it.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        _check_call(frames, prompts, num_inference_steps, self.vae_scale_factor, output_type)
        plans = [plan_words(self.tokenizer, source_prompt, one, reweight or {}) for one in prompts]
        inversion = inversion or self.invert(
            frames,
            source_prompt,
            num_inference_steps=num_inference_steps,
            blend_words=blend_words,
            key_frames=key_frames,
            key_frame_min_channels=key_frame_min_channels,
            generator=generator,
        )
        _check_inversion(inversion, len(frames), num_inference_steps, bool(blend_words))
        control = self._control(inversion.latents[0], key_frames, key_frame_min_channels)
        control.threshold = blend_threshold or 0.0
        windows = (int(cross_replace * (num_inference_steps + 1)), int(num_inference_steps * self_replace))
        words = self._embed(["", source_prompt, *prompts])
        clips = self._edits(inversion, words, control, plans, windows, guidance_scale)
        made = clips[0] if isinstance(prompt, str) else clips
        return FateZeroOutput(
            frames=made.numpy() if output_type == "np" else made, inverted_latents=inversion.latents[-1]
        )

    @torch.no_grad()
    def invert(
        self,
        frames: np.ndarray,
        source_prompt: str,
        *,
        num_inference_steps: int = 50,
        blend_words: Sequence[str] | None = None,
        key_frames: Sequence[str | int] = ("mid",),
        key_frame_min_channels: int = 640,
        generator: torch.Generator | None = None,
    ) -> Inversion:
        """Invert a clip to noise; arguments and errors as for `__call__`."""
        _check_call(frames, [source_prompt], num_inference_steps, self.vae_scale_factor, "np")
        blended = [
            p for word in blend_words or () for p in word_positions(self.tokenizer, source_prompt, word)
        ]
        words = self._embed([source_prompt])[0]
        latents = self._encode(frames, generator)
        control = self._control(latents, key_frames, key_frame_min_channels)
        self.scheduler.set_timesteps(num_inference_steps, device=latents.device)
        with controlled(self.unet, control):
            return self._invert(latents, words, control, blended)

    def _edits(
        self,
        inversion: Inversion,
        words: torch.Tensor,
        control: Control,
        plans: list[WordPlan],
        windows: tuple[int, int],
        guidance_scale: float,
    ) -> torch.Tensor:
        """Edited clips, (plans, F, H, W, 3); `words` embeds the empty, the source and each plan's prompt."""
        self.scheduler.set_timesteps(len(inversion.latents) - 1, device=self.unet.device)
        with controlled(self.unet, control):
            edits = [
                self._edit(inversion, words[[1, 0, 2 + i]], control, plan, windows, guidance_scale)
                for i, plan in enumerate(plans)
            ]
        return torch.stack([self._decode(edit) for edit in edits])

    def _control(
        self, latents: torch.Tensor, key_frames: Sequence[str | int], key_frame_min_channels: int
    ) -> Control:
        return Control(
            keys=key_table(tuple(key_frames), len(latents)).to(latents.device),
            key_frame_min_channels=key_frame_min_channels,
            latent_shape=(latents.shape[-2], latents.shape[-1]),
        )

    def _invert(
        self, latents: torch.Tensor, words: torch.Tensor, control: Control, blended: list[int]
    ) -> Inversion:
        """DDIM inversion without guidance: the UNet sees the latents of step t - 1 together with t."""
        kept, attended = [latents], []
        control.blended = blended
        for timestep in reversed(self.scheduler.timesteps):
            noise = self._noise(latents, timestep, words[None], control)
            latents = self._step(latents, noise, timestep, invert=True)
            kept.append(latents)
            if blended:
                attended.append(torch.stack(control.recorded).mean(dim=0))
                control.recorded.clear()
        return Inversion(latents=kept, attended=attended)

    def _edit(
        self,
        inversion: Inversion,
        words: torch.Tensor,
        control: Control,
        plan: WordPlan,
        windows: tuple[int, int],
        guidance_scale: float,
    ) -> torch.Tensor:
        """DDIM sampling from the noisiest latents; `words` embeds the prompts of [source, uncond, cond]."""
        latents = inversion.latents[-1]
        steps = len(self.scheduler.timesteps)
        plan = plan.to(words)
        for i, timestep in enumerate(self.scheduler.timesteps):
            control.words = plan if i < windows[0] else None
            control.borrow_self = i < windows[1]
            control.attended = inversion.attended[steps - 1 - i] if inversion.attended else None
            streams = [control.words is not None or control.borrow_self, guidance_scale != 1, True]
            inputs = [inversion.latents[steps - 1 - i], latents, latents]
            used = torch.cat([part for part, is_used in zip(inputs, streams, strict=True) if is_used])
            noise = self._noise(used, timestep, words[streams], control)
            noise = noise.unflatten(0, (-1, control.frames))
            guided = noise[-1]
            if streams[1]:
                guided = noise[-2] + guidance_scale * (noise[-1] - noise[-2])
            latents = self._step(latents, guided, timestep)
        return latents

    def _noise(
        self, latents: torch.Tensor, timestep: torch.Tensor, words: torch.Tensor, control: Control
    ) -> torch.Tensor:
        """The noise that the UNet predicts for streams of frames; `words` has one embedding per stream."""
        per_frame = words.repeat_interleave(control.frames, dim=0)
        return self.unet(latents.to(words), timestep, encoder_hidden_states=per_frame).sample.float()

    def _step(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor, *, invert: bool = False
    ) -> torch.Tensor:
        """A deterministic DDIM step from a timestep to the one below, or inverted.

        Like diffusers' DDIMScheduler and DDIMInverseScheduler, but with coefficients in double precision.
        """
        below = int(timestep) - self.scheduler.config.num_train_timesteps // len(self.scheduler.timesteps)
        alphas = self.scheduler.alphas_cumprod
        start = float(alphas[int(timestep)])
        end = float(alphas[below] if below >= 0 else self.scheduler.final_alpha_cumprod)
        if invert:
            start, end = end, start
        clean = (latents - (1 - start) ** 0.5 * noise) / start**0.5
        return end**0.5 * clean + (1 - end) ** 0.5 * noise

    def _embed(self, prompts: list[str]) -> torch.Tensor:
        for prompt in prompts:
            token_ids(self.tokenizer, prompt)
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=self.tokenizer.model_max_length, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device)).last_hidden_state

    def _encode(self, frames: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        parts = []
        for part in pixels.split(_VAE_BATCH):
            scaled = part.to(self.vae.device, self.vae.dtype) / 127.5 - 1
            posterior = self.vae.encode(scaled).latent_dist
            parts.append(posterior.mode() if generator is None else posterior.sample(generator))
        # Latents stay in float32 whatever the networks' precision, as rounding errors add up over the steps.
        return torch.cat(parts).float().contiguous() * self.vae.config.scaling_factor

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        parts = [self.vae.decode(part).sample for part in scaled.split(_VAE_BATCH)]
        return (torch.cat(parts).float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()


def _check_components(vae: Any, text_encoder: Any, unet: Any, scheduler: Any) -> None:
    """Raise if these are not the components of Stable Diffusion 1.x."""
    channels, latent_channels = unet.config.in_channels, vae.config.latent_channels
    width, text_width = unet.config.cross_attention_dim, text_encoder.config.hidden_size
    extra, predicted = unet.config.addition_embed_type, scheduler.config.prediction_type
    differences = {
        f"a UNet with {channels} input channels over {latent_channels} latent channels": (
            channels != latent_channels
        ),
        f"a UNet that attends to width {width} and a text encoder of width {text_width}": width != text_width,
        f"a UNet with additional {extra} embeddings, as of SDXL": extra is not None,
        f"a model that predicts {predicted!r}": predicted != "epsilon",
    }
    for difference in (text for text, differs in differences.items() if differs):
        raise ValueError(
            f"this checkpoint is not Stable Diffusion 1.x: found {difference};"
            " take one such as stable-diffusion-v1-5/stable-diffusion-v1-5"
        )


def _check_inversion(inversion: Inversion, frames: int, steps: int, blended: bool) -> None:
    actual = (len(inversion.latents[0]), len(inversion.latents) - 1, bool(inversion.attended))
    if actual != (frames, steps, blended):
        raise ValueError(
            "inversion: is of {} frames and {} steps (blended words: {}), wanted {}, {} and {};".format(
                *actual, frames, steps, blended
            )
            + " invert these frames with these arguments"
        )


def _check_call(frames: np.ndarray, prompts: list[str], steps: int, factor: int, output_type: str) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames: found {frames.dtype} {frames.shape}, wanted uint8 (F, H, W, 3)")
    if len(frames) < 2:
        raise ValueError(
            f"frames: found {len(frames)}, wanted a clip of 2 or more; edit a single image with an image"
            " pipeline such as StableDiffusionImg2ImgPipeline"
        )
    if frames.shape[1] % factor or frames.shape[2] % factor:
        raise ValueError(
            f"frames: found {frames.shape[1]} x {frames.shape[2]} pixels, wanted multiples of {factor};"
            " resize them"
        )
    if not prompts:
        raise ValueError("prompt: is an empty list; name at least one")
    if not 1 <= steps <= 1000:
        raise ValueError(f"num_inference_steps: {steps} is outside [1, 1000]")
    if output_type not in ("np", "pt"):
        raise ValueError(f"output_type: {output_type!r} is unknown; take np or pt")
