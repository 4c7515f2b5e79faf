"""Trains one fusion network from one seed.

Every part of the loss (`finetune.fusion.losses`) is a clip's own, and clips are weighted over the
whole optimizer step: Σ w ℓ / Σ w.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finetune.fusion.conflict import Conflict, ConflictPenalty
from finetune.fusion.features import FeatureSet, Split
from finetune.fusion.losses import Batch, Parts, batch_of, loss_parts
from finetune.fusion.network import FusionNetwork, Inputs, Output
from finetune.fusion.settings import ConflictSettings, LossSettings, NetworkSettings, TrainingSettings
from finetune.msa_metrics import METRICS
from finetune.objective import weighted_share
from pipelines.atomic import replacing

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network and how it came about."""

    network: FusionNetwork
    best_epoch: int
    history: list[dict[str, Any]]
    """By epoch: losses, MAE on valid, conflict rate, mean ratios and factors."""
    predictions: dict[str, np.ndarray]
    """Of valid and test, (n,)."""
    metrics: dict[str, dict[str, float]]
    """Of valid and test, with MMSA's names."""


def inputs_of(features: FeatureSet, steps: int) -> dict[str, Inputs]:
    """What each modality brings: dimensions, and the stride that makes long clips `steps` steps."""
    found = {}
    for name, sequences in features.splits["train"].features.items():
        long = float(np.quantile(sequences.mask.sum(1), 0.95))
        found[name] = Inputs(dimensions=sequences.values.shape[2], stride=max(1, round(long / steps)))
    return found


def make_network(features: FeatureSet, settings: NetworkSettings) -> FusionNetwork:
    """An untrained network for a corpus' features, with the training split's statistics in it."""
    network = FusionNetwork(inputs_of(features, settings.steps), settings)
    for name, standard in features.standards.items():
        network.set_standard(name, torch.from_numpy(standard.mean), torch.from_numpy(standard.deviation))
    return network


def rate_share(step: int, warm_up: int, steps: int) -> float:
    """The learning rate at a step as a share of its highest: up in a line, then down in half a cosine."""
    if step < warm_up:
        return step / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def make_penalty(settings: ConflictSettings, accumulation: int) -> ConflictPenalty:
    """The detector of conflicts; without a penalty it has no epoch to act in."""
    values = asdict(settings)
    if not values.pop("penalty"):
        values |= {"start_epoch": 0, "end_epoch": 0}
    return ConflictPenalty(**values, accumulation=accumulation)


class Trainer:
    """A network in training, with all that a checkpoint of it holds.

    Args:
        network: On any device; it is moved.
        features: What it learns from.
        training, losses, conflict: Settings.
        accelerator: Where and how precisely it computes.
        seed: Of the order of clips and of dropout.
    """

    def __init__(
        self,
        network: FusionNetwork,
        features: FeatureSet,
        *,
        training: TrainingSettings,
        losses: LossSettings,
        conflict: ConflictSettings,
        accelerator: Accelerator,
        seed: int,
    ) -> None:
        self.features, self.training, self.accelerator = features, training, accelerator
        self.shares = {"task": 1.0, **asdict(losses)}
        self.order = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        clips = training.batch_size * training.accumulation
        steps = training.epochs * -(-len(features.splits["train"]) // clips)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_share(step, steps // 10, steps)
        )
        self.penalty = make_penalty(conflict, training.accumulation)
        self.encoders: dict[str, list[torch.nn.Parameter]] = self.network.encoder_parameters()
        self.epoch, self.best_epoch, self.best_mae = 0, -1, float("inf")
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, Any]] = []

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or the last ones brought nothing."""
        return self.epoch >= self.training.epochs or self.epoch - self.best_epoch > self.training.patience

    def run_epoch(self) -> None:
        """Go through the training clips once, then rate the valid ones."""
        self.penalty.begin_epoch(self.epoch)
        self.network.train()
        done = [self.step(batches) for batches in self._steps()]
        metrics = rated(self.predict("valid"), self.features.splits["valid"], self.features.scale)
        self.history.append(_epoch_record(self.epoch, done, metrics["MAE"]))
        if metrics["MAE"] < self.best_mae:
            self.best_mae, self.best_epoch = metrics["MAE"], self.epoch
            self.best_weights = copy.deepcopy(self.network.state_dict())
        self.epoch += 1

    def step(self, batches: list[Batch]) -> tuple[dict[str, float], Conflict | None]:
        """One optimizer step over some micro-batches; none where all weights are 0."""
        total = torch.stack([batch.weights.sum() for batch in batches]).sum()
        if total == 0:
            return {}, None
        means = dict.fromkeys(self.shares, 0.0)
        for batch in batches:
            with self.accelerator.autocast():
                output = self.network(batch.values, batch.masks)
            parts = {
                name: weighted_share(losses, batch.weights, total)
                for name, losses in loss_parts(output, batch).items()
            }
            self._backward(parts, output)
            means = {name: means[name] + float(value.detach()) for name, value in parts.items()}
        self.accelerator.unscale_gradients(self.optimizer)
        conflict = self.penalty.apply(self.encoders)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return means, conflict

    def _backward(self, parts: Parts, output: Output) -> None:
        scaler = self.accelerator.scaler
        scale = scaler.get_scale() if scaler else 1.0
        weighted = {name: self.shares[name] * value for name, value in parts.items()}
        self.penalty.observe(parts["task"], output.sequences, loss_scale=scale)
        if self.shares["statistics"]:
            self.penalty.keep(weighted["statistics"], self.encoders, loss_scale=scale)
        self.accelerator.backward(torch.stack(list(weighted.values())).sum())

    def predict(self, split: str) -> np.ndarray:
        """Predictions for a split, (n,)."""
        clips = self.features.splits[split]
        found = []
        self.network.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for rows in np.array_split(np.arange(len(clips)), -(-len(clips) // 64)):
                batch = batch_of(clips, rows, self.accelerator.device)
                found.append(self.network(batch.values, batch.masks).prediction.float().cpu().numpy())
        return np.concatenate(found)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "network": self.network.state_dict(),
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "penalty": self.penalty.state_dict(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "order": self.order.get_state(),
            "epochs": (self.epoch, self.best_epoch, self.best_mae),
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.penalty.load_state_dict(state["penalty"])
        torch.set_rng_state(state["random"])
        if state["cuda_random"]:
            torch.cuda.set_rng_state_all(state["cuda_random"])
        self.order.set_state(state["order"])
        self.epoch, self.best_epoch, self.best_mae = state["epochs"]
        self.history = state["history"]

    def _steps(self) -> Iterator[list[Batch]]:
        train = self.features.splits["train"]
        order = torch.randperm(len(train), generator=self.order).numpy()
        size, micro = self.training.batch_size, self.training.accumulation
        for start in range(0, len(order), size * micro):
            rows = order[start : start + size * micro]
            pieces = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
            yield [batch_of(train, piece, self.accelerator.device) for piece in pieces]


def rated(predictions: np.ndarray, split: Split, scale: str) -> dict[str, float]:
    """A split's metrics, and the MAE for every scale."""
    metrics = METRICS[scale](predictions, split.labels)
    return {"MAE": round(float(np.abs(predictions - split.labels).mean()), 4)} | metrics


def train(trainer: Trainer, checkpoint: Path) -> Trained:
    """Train to the end, from the checkpoint if there is one, and rate the best epoch's network."""
    if checkpoint.is_file():
        trainer.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    while not trainer.ended:
        trainer.run_epoch()
        with replacing(checkpoint) as temporary:
            torch.save(trainer.state_dict(), temporary)
    trainer.network.load_state_dict(trainer.best_weights)
    predictions = {split: trainer.predict(split) for split in ("valid", "test")}
    splits, scale = trainer.features.splits, trainer.features.scale
    return Trained(
        network=trainer.network,
        best_epoch=trainer.best_epoch,
        history=trainer.history,
        predictions=predictions,
        metrics={split: rated(found, splits[split], scale) for split, found in predictions.items()},
    )


def _epoch_record(
    epoch: int, done: list[tuple[dict[str, float], Conflict | None]], mae: float
) -> dict[str, Any]:
    losses = [loss for loss, conflict in done if conflict]
    conflicts = [conflict for _, conflict in done if conflict]

    def mean_of(found: list[dict[str, float]]) -> dict[str, float | None]:
        means = {name: float(np.mean([each[name] for each in found])) for name in (found[0] if found else {})}
        return {name: value if np.isfinite(value) else None for name, value in means.items()}

    return {
        "epoch": epoch,
        "losses": mean_of(losses),
        "valid_mae": mae,
        "conflict_rate": float(np.mean([conflict.detected for conflict in conflicts])) if conflicts else 0.0,
        "norms": mean_of([conflict.norms for conflict in conflicts]),
        "ratios": mean_of([conflict.ratios for conflict in conflicts]),
        "factors": mean_of([conflict.factors for conflict in conflicts]),
    }
