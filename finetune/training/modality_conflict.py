"""The conflict-aware penalty in an omni model: whether one modality dominates the adapter's training.

The detector is that of `finetune.fusion.conflict`, with the gradient norms taken where the modalities enter
the language model: at the embeddings of a chat's video, audio and text tokens. Every other token is text, the
question included. This application to a language model is ours:

    n_m   norm of ∂L/∂e summed over a row's tokens of m, mean over the step's rows that have any, averaged
          over steps with decay β
    k_m   of the steps before this one, so that a step needs no second backward pass
    grad  a dominant modality's tokens count k_m in the gradient of the language model's adapter, and the
          gradient that flows on into its tower is multiplied by k_m

In deeper layers tokens have attended to each other, so a token belongs to a modality by its position, not by
all the information it carries. The gradient that passes down through the adapter is multiplied as well. The
levels that a vision tower adds to deeper layers are not measured; the first level stands for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from transformers import TrainerCallback

from finetune.gradient_norms import Conflict, ConflictSettings, judged
from finetune.model.families import known_family
from finetune.training.milestones import steps_per_epoch

NAMES = ("text", "audio", "video")


class ModalityConflict(TrainerCallback):
    """Watches a model's modalities in training, and slows the dominant one down.

    Args:
        model: The transformers model inside a `PeftModel`, with its adapter.
        settings: When there is a conflict, and how strong the penalty is.

    Attributes:
        epoch: The current epoch, counted from 0.
        averages: n_m by modality, of those that have occurred; what a checkpoint needs.
    """

    def __init__(self, model: Any, settings: ConflictSettings) -> None:
        self.settings, self.model = settings, model
        self.epoch = 0
        self.averages: dict[str, float] = {}
        self._masks: Tensor | None = None
        self._steps: list[Conflict] = []
        self._sums = self._nothing()
        decoder = known_family(model).decoder(model)
        decoder.register_forward_pre_hook(self._watch, with_kwargs=True)
        if settings.penalty:
            for name, module in decoder.named_modules():
                if ".lora_B." in name:
                    module.register_forward_hook(self._weigh)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epoch = state.global_step // steps_per_epoch(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.end_step()

    @contextmanager
    def watching(self, input_ids: Tensor, attention_mask: Tensor) -> Iterator[None]:
        """Around a forward and backward pass of ids and mask, (B, L); other passes are not watched."""
        audio, video = (
            input_ids == getattr(self.model.config, f"{name}_token_id", -1) for name in ("audio", "video")
        )
        text = attention_mask.bool() & ~audio & ~video
        self._masks = torch.stack([text, audio, video])  # (modalities, B, L)
        try:
            yield
        finally:
            self._masks = None

    def end_step(self) -> None:
        """Add the norms of an optimizer step, of all ranks, to the averages."""
        sums = reduce(self._sums.to(self.model.device), reduction="sum").tolist()
        self._sums = self._nothing()
        decay, ranks = self.settings.decay, PartialState().num_processes
        for name, (norms, rows) in zip(NAMES, sums, strict=True):
            if rows:
                mean = norms / rows / ranks  # each rank's loss is multiplied by their number
                self.averages[name] = decay * self.averages.get(name, mean) + (1 - decay) * mean
        self._steps.append(self.conflict())

    def take(self) -> dict[str, float]:
        """For a log entry: means over the steps since the last one, by name and modality."""
        steps, self._steps = self._steps, []
        if not steps:
            return {}
        entry = {"conflict_rate": fmean(step.detected for step in steps)}
        for word in ("norm", "ratio", "factor"):
            for name in self.averages:
                values = (getattr(step, f"{word}s").get(name) for step in steps)
                entry[f"{word}_{name}"] = fmean(value for value in values if value is not None)
        return {key: value for key, value in entry.items() if math.isfinite(value)}

    def conflict(self) -> Conflict:
        """The conflict among the averages, whose factors apply to the next step."""
        own = self.settings
        return judged(self.averages, own.threshold, own.alpha, own.floor, scales=own.has_penalty(self.epoch))

    def _nothing(self) -> Tensor:
        """By modality: the sum of its rows' norms, and the number of rows that have it, (modalities, 2)."""
        return torch.zeros(len(NAMES), 2, device=self.model.device)

    def _watch(self, decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before the language model: observe the gradient of its input."""
        if self._masks is None or not torch.is_grad_enabled():
            return None
        embeds = kwargs["inputs_embeds"]
        if not embeds.requires_grad:
            embeds = embeds.detach().requires_grad_()
        embeds.register_hook(self._observe)
        return args, kwargs | {"inputs_embeds": embeds}

    def _observe(self, gradient: Tensor) -> Tensor:
        """Add up norms; the gradient that flows on is multiplied by k of its tokens."""
        assert self._masks is not None, "the backward pass belongs inside `watching`"
        summed = torch.einsum("blw,mbl->mbw", gradient.float(), self._masks.float())
        norms = torch.stack([summed.norm(dim=-1).sum(1), self._masks.any(2).sum(1)], dim=1)
        # The model may have moved since then: hooks are set before the Trainer moves it to its device.
        self._sums = self._sums.to(norms.device) + norms
        shares = self._shares()
        return gradient if shares is None else gradient * shares.to(gradient.dtype)

    def _weigh(self, module: Any, args: tuple[Any, ...], output: Tensor) -> None:
        """After an adapter's layer: multiply the gradient; the output stays the same to the bit."""
        shares = self._shares()
        if shares is not None and output.requires_grad:
            shares = shares.to(output.dtype)
            output.register_hook(lambda gradient: gradient * shares)

    def _shares(self) -> Tensor | None:
        """k of each token, (B, L, 1); None where all are 1."""
        if self._masks is None:
            return None
        factors = self.conflict().factors
        scales = [factors.get(name, 1.0) for name in NAMES]
        if min(scales) == 1.0:
            return None
        shares = torch.ones_like(self._masks[0], dtype=torch.float32)
        for mask, scale in zip(self._masks, scales, strict=True):
            shares = shares.masked_fill(mask, scale)
        return shares[..., None]
