"""The conflict-aware penalty in an omni model: whether one modality has the adapter's training to itself.

The detector of `finetune.fusion.conflict`, with the gradient norms taken where the modalities enter the
language model: at the embeddings of a chat's video, sound and text tokens. Text is every token that is
neither, the question too. How it is carried over to a language model is ours:

    n_m   norm of ∂L/∂e summed over a row's tokens of m, mean over the step's rows that have any, averaged
          over steps with decay β
    k_m   of the steps before this one, so that a step needs no second backward pass
    grad  a dominant modality's tokens count k_m in the gradient of the language model's adapter, and what
          flows on into its tower is multiplied by k_m

In deeper layers tokens have seen each other, so a token is its modality's by its place, not by all that
it carries. What the gradient passes down through the adapter itself is multiplied with it. Levels that a
vision tower hands to deeper layers are not measured; the first level speaks for them.
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

from finetune.conflict import Conflict, ConflictSettings, judged
from finetune.model.families import known_family
from finetune.training.milestones import steps_per_epoch

NAMES = ("text", "audio", "video")
TOLD = {"norm": "norms", "ratio": "ratios", "factor": "factors"}
"""Words in the log, and what of a `Conflict` they tell."""


class ModalityConflict:
    """Watches a model's modalities in training, and evens them out.

    Args:
        model: The model of transformers inside a `PeftModel`, its adapter in it.
        settings: When there is a conflict, and what then.

    Attributes:
        epoch: The epoch that runs, counted from 0.
        averages: n_m by modality, of those that were met; what a checkpoint needs.
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

    @contextmanager
    def watching(self, input_ids: Tensor, attention_mask: Tensor) -> Iterator[None]:
        """Around a forward and backward pass; other passes, as in evaluation, are let alone.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 0 for padding.
        """
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
        """Take the norms of an optimizer step, of all ranks, into the averages."""
        found = reduce(self._sums.to(self.model.device), reduction="sum").tolist()
        self._sums = self._nothing()
        decay, ranks = self.settings.decay, PartialState().num_processes
        for name, (norms, rows) in zip(NAMES, found, strict=True):
            if rows:
                mean = norms / rows / ranks  # each rank's loss is multiplied by their number
                self.averages[name] = decay * self.averages.get(name, mean) + (1 - decay) * mean
        self._steps.append(self.conflict())

    def take(self) -> dict[str, float]:
        """For a log entry: means over the steps since the last one, by name and modality."""
        steps, self._steps = self._steps, []
        if not steps:
            return {}
        told = {"conflict_rate": fmean(step.detected for step in steps)}
        for word, field in TOLD.items():
            for name in self.averages:
                told[f"{word}_{name}"] = fmean(
                    getattr(step, field)[name] for step in steps if name in getattr(step, field)
                )
        return {key: value for key, value in told.items() if math.isfinite(value)}

    def conflict(self) -> Conflict:
        """What the averages amount to, and what they make of the next step."""
        own = self.settings
        return judged(self.averages, own.threshold, own.alpha, own.floor, scales=own.has_penalty(self.epoch))

    def _nothing(self) -> Tensor:
        """By modality: the sum of its rows' norms, and how many rows have it, (modalities, 2)."""
        return torch.zeros(len(NAMES), 2, device=self.model.device)

    def _watch(self, decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before the language model: see the gradient that its input gets."""
        if self._masks is None or not torch.is_grad_enabled():
            return None
        embedded = kwargs["inputs_embeds"]
        if not embedded.requires_grad:
            embedded = embedded.detach().requires_grad_()
        embedded.register_hook(self._observe)
        return args, kwargs | {"inputs_embeds": embedded}

    def _observe(self, gradient: Tensor) -> Tensor:
        """Add up norms; what flows on below is weighed as the modality's tokens are."""
        assert self._masks is not None, "the backward pass belongs inside `watching`"
        summed = torch.einsum("blw,mbl->mbw", gradient.float(), self._masks.float())
        norms = torch.stack([summed.norm(dim=-1).sum(1), self._masks.any(2).sum(1)], dim=1)
        # The model may have moved since: it is watched from before the Trainer takes it to its device.
        self._sums = self._sums.to(norms.device) + norms
        shares = self._shares()
        return gradient if shares is None else gradient * shares.to(gradient.dtype)

    def _weigh(self, module: Any, args: tuple[Any, ...], output: Tensor) -> None:
        """Behind an adapter's layer: a share of the gradient; the output keeps every bit."""
        shares = self._shares()
        if shares is not None and output.requires_grad:
            shares = shares.to(output.dtype)
            output.register_hook(lambda gradient: gradient * shares)

    def _shares(self) -> Tensor | None:
        """k of each token, (B, L, 1); None where all are 1."""
        if self._masks is None:
            return None
        found = self.conflict().factors
        scales = [found.get(name, 1.0) for name in NAMES]
        if min(scales) == 1.0:
            return None
        shares = torch.ones_like(self._masks[0], dtype=torch.float32)
        for place, scale in zip(self._masks, scales, strict=True):
            shares = shares.masked_fill(place, scale)
        return shares[..., None]


class EndSteps(TrainerCallback):
    """Tells a `ModalityConflict` where epochs begin and steps end."""

    def __init__(self, conflict: ModalityConflict) -> None:
        self.conflict = conflict

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.conflict.epoch = state.global_step // steps_per_epoch(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.conflict.end_step()
