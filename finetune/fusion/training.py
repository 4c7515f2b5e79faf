"""Trains one fusion network from one seed.

Each part of the loss (`finetune.fusion.total_loss`) is computed per clip, and clips are weighted over the
whole optimizer step, all micro-batches on all processes: Σ w ℓ / Σ w.

Several processes sum their gradients explicitly, once per step. DistributedDataParallel would sum them in
hooks during the backward pass, which do not know of the other passes here (gradient norms, parts that are
exempt from the balance) and demand a backward pass of every micro-batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import get_cosine_schedule_with_warmup

from finetune.divergence import Diverged, rows_named
from finetune.fusion.balancing.methods import make_balance
from finetune.fusion.balancing.observation import Observation
from finetune.fusion.distributed import (
    AllReduceSum,
    gathered,
    identity,
    random_state,
    set_random_state,
    sum_in_place,
)
from finetune.fusion.features.arrays import FeatureSet, Split
from finetune.fusion.network import FusionNetwork, Inputs, Output
from finetune.fusion.records import epoch_record, rated, step_record
from finetune.fusion.settings import (
    BalanceSettings,
    ConflictSettings,
    LossSettings,
    NetworkSettings,
    TrainingSettings,
)
from finetune.fusion.total_loss import Batch, Parts, batch_of, loss_parts, unimodal_errors
from finetune.gradient_norms import Conflict
from finetune.objective import weighted_share
from pipelines.device import summing_dtype
from pipelines.durable.checkpoints import load_state, save_state
from pipelines.errors import RunError
from pipelines.running.stop_signal import StopSignal

if TYPE_CHECKING:
    from accelerate import Accelerator

OTHER_SEED = 1_000_003  # between the dropout seeds of the processes of one training
MOMENTUM = 0.9  # of SGD


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network with its history and results."""

    network: FusionNetwork
    best_epoch: int
    history: list[dict[str, Any]]
    """By epoch: losses, MAE on valid, conflict rate, mean ratios and factors."""
    steps: list[dict[str, Any]]
    """By step: epoch, whether there was a conflict, ratios and factors by modality."""
    predictions: dict[str, np.ndarray]  # for valid and test, (n,)
    metrics: dict[str, dict[str, float]]  # for valid and test, with MMSA's names


def inputs_of(features: FeatureSet, steps: int) -> dict[str, Inputs]:
    """Each modality's dimensions, and the stride that averages long clips to `steps` steps."""
    inputs = {}
    for name, sequences in features.splits["train"].features.items():
        long = float(np.quantile(sequences.mask.sum(1), 0.95))
        inputs[name] = Inputs(dimensions=sequences.values.shape[2], stride=max(1, round(long / steps)))
    return inputs


def make_network(features: FeatureSet, settings: NetworkSettings) -> FusionNetwork:
    """An untrained network for a corpus' features, with the training split's statistics in it."""
    network = FusionNetwork(inputs_of(features, settings.steps), settings)
    for name, standard in features.standards.items():
        network.set_standard(name, torch.from_numpy(standard.mean), torch.from_numpy(standard.deviation))
    return network


def steps_of(clips: int, training: TrainingSettings, processes: int) -> int:
    """Optimizer steps in an epoch."""
    return math.ceil(clips / (training.batch_size * training.accumulation * processes))


class Trainer:
    """A network in training, with everything that a checkpoint holds.

    Args:
        network: The network; it is moved to the accelerator's device.
        features: The training data.
        training, losses, conflict, balance: Settings.
        accelerator: Device and precision.
        seed: Seed of the order of clips and of dropout.
    """

    def __init__(
        self,
        network: FusionNetwork,
        features: FeatureSet,
        *,
        training: TrainingSettings,
        losses: LossSettings,
        conflict: ConflictSettings,
        balance: BalanceSettings,
        accelerator: Accelerator,
        seed: int,
    ) -> None:
        self.features, self.training, self.accelerator = features, training, accelerator
        self.shares = {"task": 1.0, **{name: share for name, share in asdict(losses).items() if share}}
        self.order = torch.Generator().manual_seed(seed)
        self.network = network.to(accelerator.device)
        self.optimizer = accelerator.prepare(_make_optimizer(network, training))
        self.all_reduce_sum: AllReduceSum = identity
        if accelerator.num_processes > 1:
            self.all_reduce_sum = lambda value: accelerator.reduce(value, reduction="sum")
        in_epoch = steps_of(len(features.splits["train"]), training, accelerator.num_processes)
        steps = training.epochs * in_epoch
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, steps // 10, steps)
        self.balance = make_balance(
            balance,
            conflict,
            network.encoder_parameters(),
            accumulation=training.accumulation,
            seed=seed,
            all_reduce_sum=self.all_reduce_sum,
        )
        if accelerator.process_index:  # each process drops out other features
            torch.manual_seed(seed + OTHER_SEED * accelerator.process_index)
        self.epoch, self.best_epoch, self.best_mae = 0, -1, float("inf")
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or the patience is exhausted."""
        return self.epoch >= self.training.epochs or self.epoch - self.best_epoch > self.training.patience

    def run_epoch(self) -> None:
        """Train on all training clips once, then evaluate on valid."""
        self.balance.watch.begin_epoch(self.epoch)
        self.network.train()
        done = [self.step(batches) for batches in self._steps()]
        mae = self._agreed(rated(self.predict("valid"), self.features.splits["valid"], self.features.scale))
        self.history.append(epoch_record(self.epoch, done, mae))
        self.steps += [step_record(self.epoch, conflict) for _, conflict in done if conflict]
        if mae < self.best_mae:
            self.best_mae, self.best_epoch = mae, self.epoch
            self.best_weights = copy.deepcopy(self.network.state_dict())
        self.epoch += 1

    def step(self, batches: list[Batch]) -> tuple[dict[str, float], Conflict | None]:
        """One optimizer step over this process' micro-batches; none if all weights are 0."""
        total = self.all_reduce_sum(torch.stack([batch.weights.sum() for batch in batches]).sum())
        if total == 0:
            return {}, None
        losses = torch.zeros(len(self.shares), device=self.accelerator.device)
        finite: list[torch.Tensor] = []
        for batch in batches:
            with self.accelerator.autocast():
                output = self.network(batch.values, batch.masks)
            own = loss_parts(output, batch, self.shares)
            parts = {name: weighted_share(own[name], batch.weights, total) for name in self.shares}
            self._backward(parts, output, batch)
            losses += torch.stack([value.detach() for value in parts.values()])
            finite.append(torch.stack([own[name].detach() for name in self.shares]).isfinite().all(0))
        parameters = [each for each in self.network.parameters() if each.grad is not None]
        sum_in_place([each.grad for each in parameters if each.grad is not None], self.all_reduce_sum)
        self.accelerator.unscale_gradients(self.optimizer)
        conflict = self.balance.apply()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.training.clip_norm)
        totals = self.all_reduce_sum(losses).tolist()
        self._check_finite(batches, finite, totals, float(norm))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return dict(zip(self.shares, totals, strict=True)), conflict

    def _check_finite(
        self, batches: list[Batch], finite: list[torch.Tensor], losses: list[float], norm: float
    ) -> None:
        """End a diverging training before the optimizer takes the step.

        Raises:
            Diverged: In all processes, if a loss is not finite, or if a gradient is not and there is no
                gradient scaler, which skips such steps by itself.
        """
        lost = not all(math.isfinite(loss) for loss in losses)
        if not lost and (self.accelerator.scaler or math.isfinite(norm)):
            return
        ids = [row for batch in batches for row in batch.ids]
        clips = [row for row, ok in zip(ids, torch.cat(finite).tolist(), strict=True) if not (lost and ok)]
        rows = [row for own in gathered(clips) for row in own]
        raise Diverged(
            f"fusion: {'the loss' if lost else 'a gradient'} is not finite in epoch {self.epoch}, with the"
            f" {rows_named(rows)}; the training ends before it is used; look at these rows, or lower"
            " fusion.training.learning_rate and begin in another --out"
        )

    def _backward(self, parts: Parts, output: Output, batch: Batch) -> None:
        scaler = self.accelerator.scaler
        weighted = {name: self.shares[name] * value for name, value in parts.items()}
        observation = Observation(
            task=weighted["task"],
            auxiliary=weighted.get("auxiliary"),
            statistics=weighted.get("statistics"),
            features=output.sequences,
            outputs=output.encoded,
            errors={  # a missing modality says nothing about the label
                name: error.masked_fill(~batch.masks[name].any(1), math.inf)
                for name, error in unimodal_errors(output, batch).items()
            },
            weights=batch.weights,
            loss_scale=scaler.get_scale() if scaler else 1.0,
        )
        self.balance.observe(observation)
        self.accelerator.backward(torch.stack(list(weighted.values())).sum())

    def _agreed(self, metrics: dict[str, float]) -> float:
        """The first process' MAE, so that rounding differences let no process end earlier."""
        mae = metrics["MAE"] if self.accelerator.is_main_process else 0.0
        device = self.accelerator.device
        return float(self.all_reduce_sum(torch.tensor(mae, dtype=summing_dtype(device), device=device)))

    def predict(self, split: str) -> np.ndarray:
        """Predictions for a split, (n,).

        Raises:
            Diverged: If one is not finite.
        """
        clips = self.features.splits[split]
        ratings = []
        self.network.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for rows in np.array_split(np.arange(len(clips)), -(-len(clips) // 64)):
                batch = batch_of(clips, rows, self.accelerator.device)
                ratings.append(self.network(batch.values, batch.masks).prediction.float().cpu().numpy())
        predictions = np.concatenate(ratings)
        lost = [clips.ids[row] for row in np.flatnonzero(~np.isfinite(predictions))]
        if lost:
            raise Diverged(
                f"fusion: the rating is not finite in epoch {self.epoch} for the {rows_named(lost)} of the"
                f" split {split}; the training ends; lower fusion.training.learning_rate and begin in another"
                " --out"
            )
        return predictions

    def state_dict(self) -> dict[str, Any]:
        """The state that the next epoch depends on; to be called in all processes."""
        return {
            "network": self.network.state_dict(),
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "balance": self.balance.state_dict(),
            "random": gathered(random_state(self.accelerator.device)),
            "order": self.order.get_state(),
            "epochs": (self.epoch, self.best_epoch, self.best_mae),
            "history": self.history,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            RunError: If it was taken with another number of processes.
        """
        if len(state["random"]) != self.accelerator.num_processes:
            raise RunError(
                f"checkpoint: of a training in {len(state['random'])} processes, and this one is in"
                f" {self.accelerator.num_processes}; start as many, or remove the seed's folder"
            )
        self.network.load_state_dict(state["network"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.balance.load_state_dict(state["balance"])
        set_random_state(state["random"][self.accelerator.process_index], self.accelerator.device)
        self.order.set_state(state["order"])
        self.epoch, self.best_epoch, self.best_mae = state["epochs"]
        self.history, self.steps = state["history"], state["steps"]

    def _steps(self) -> Iterator[list[Batch]]:
        """This process' micro-batches of each step; all processes have the same number.

        Steps differ in size by one clip at most: a last step of few clips would count as much as a full one.
        """
        train = self.features.splits["train"]
        order = torch.randperm(len(train), generator=self.order).numpy()
        size, ranks = self.training.batch_size, self.accelerator.num_processes
        for rows in np.array_split(order, steps_of(len(train), self.training, ranks)):
            first = size * self.accelerator.process_index
            pieces = [rows[first + begin :][:size] for begin in range(0, len(rows), size * ranks)]
            # Clips of weight 0 are not computed: 0 times an infinite gradient is NaN.
            counted = rows[train.weights[rows] > 0]
            stand_in = counted[:1] if len(counted) else rows[:1]
            yield [self._batch(train, piece[train.weights[piece] > 0], stand_in) for piece in pieces]

    def _batch(self, split: Split, rows: np.ndarray, stand_in: np.ndarray) -> Batch:
        """A batch of these clips; if there are none for this process, of a stand-in of weight 0."""
        batch = batch_of(split, rows if len(rows) else stand_in, self.accelerator.device)
        return batch if len(rows) else replace(batch, weights=torch.zeros_like(batch.weights))


def _make_optimizer(network: FusionNetwork, training: TrainingSettings) -> torch.optim.Optimizer:
    values: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if training.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=MOMENTUM, **values)
    return torch.optim.AdamW(network.parameters(), **values)


def train(
    trainer: Trainer, checkpoint: Path, report: Callable[[dict[str, Any]], None] | None = None
) -> Trained:
    """Train to the end, from the newest intact checkpoint if there is one; evaluate the best epoch's network.

    Args:
        trainer: A new trainer.
        checkpoint: Written after each epoch, by the first process; that of the epoch before stays beside it.
        report: Called with each epoch's record.

    Raises:
        RunError: After an epoch in which SIGTERM came; its checkpoint is written.
        Diverged: If a loss, a gradient or a rating is not finite; the checkpoint is that of the epoch before.
    """
    state = load_state(checkpoint, "fusion")
    if state is not None:
        trainer.load_state_dict(state)
    with StopSignal() as stop:
        while not trainer.ended:
            try:
                trainer.run_epoch()
            except Diverged as error:
                kept = (
                    f"{checkpoint} is of the epoch before"
                    if checkpoint.is_file()
                    else "there is no checkpoint yet"
                )
                raise Diverged(f"{error}; {kept}") from error
            state = trainer.state_dict()
            if trainer.accelerator.is_main_process:
                save_state(checkpoint, state)
            if report:
                report(trainer.history[-1])
            if any(gathered(stop.came)) and not trainer.ended:
                raise RunError(
                    f"{stop.name or 'SIGTERM'} stopped the training after epoch {trainer.epoch - 1}; it is"
                    f" saved in {checkpoint}, and the same command continues from there"
                )
    trainer.network.load_state_dict(trainer.best_weights)
    predictions = {split: trainer.predict(split) for split in ("valid", "test")}
    splits, scale = trainer.features.splits, trainer.features.scale
    return Trained(
        network=trainer.network,
        best_epoch=trainer.best_epoch,
        history=trainer.history,
        steps=trainer.steps,
        predictions=predictions,
        metrics={split: rated(ratings, splits[split], scale) for split, ratings in predictions.items()},
    )
