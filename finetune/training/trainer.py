"""transformers' Trainer with the weighted objective of `finetune.objective`, over each optimizer step.

What differs from the Trainer: the sum of weights is gathered over all micro-batches and ranks before the
first of them is computed; rows come in an order in which no row counts twice; checkpoints hold adapter and
head and are complete once their marker is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME

from finetune.divergence import DivergenceWatch
from finetune.inputs.dataset import STAND_IN, Collator, EpochOrder, TrainingRows
from finetune.model.fsdp import prepare_once, shard
from finetune.model.regressor import SentimentModel
from finetune.objective import weighted_share
from finetune.training.milestones import Milestones, steps_per_epoch
from finetune.training.modality_conflict import ModalityConflict
from finetune.training.resuming import newest_complete_checkpoint
from finetune.training.training_log import TrainingLog
from pipelines.atomic import write_json
from pipelines.durable.checkpoints import seal, writing
from pipelines.row import KINDS
from pipelines.untrusted.plain_json import parsed_json

CONFLICT = "conflict.json"
"""In a checkpoint, the averaged norms by modality."""


class WeightedTrainer(Trainer):
    """Trains a `SentimentModel` on weighted rows.

    Args:
        model: The model.
        arguments: The Trainer's own settings.
        rows: The training rows.
        collator: Makes batches of them.
        head_rate: The head's peak learning rate.
        validate: Returns the metrics at an epoch's end, None where one has no value.
        milestones: When to log, evaluate, save and end.
        log_file: Reports the training in its folder.
        callbacks: Further callbacks of the Trainer.
        conflict: Watches the modalities of the model, if they are to be watched.
        claim: What is trained, which every checkpoint says of itself.
    """

    def __init__(
        self,
        model: SentimentModel,
        arguments: TrainingArguments,
        rows: TrainingRows,
        collator: Collator,
        head_rate: float,
        validate: Callable[[], dict[str, Any]],
        milestones: Milestones,
        log_file: TrainingLog,
        callbacks: list[TrainerCallback],
        conflict: ModalityConflict | None = None,
        claim: dict[str, Any] | None = None,
    ) -> None:
        step_size = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        self.order = EpochOrder(len(rows), step_size, arguments.seed)
        self.head_rate, self.claim = head_rate, claim
        self.sentiment_model, self.checkpoints = model, Path(str(arguments.output_dir))
        self.validate, self.milestones, self.log_file = validate, milestones, log_file
        super().__init__(
            model=model,
            args=arguments,
            data_collator=collator,
            train_dataset=rows,
            callbacks=[_FollowEpochs(self.order), milestones, log_file, *callbacks],
        )
        self.watch = DivergenceWatch(
            model, rows.selection.ids, lambda: newest_complete_checkpoint(self.checkpoints)
        )
        self.add_callback(self.watch)
        self.conflict = conflict
        if conflict:
            self.add_callback(conflict)
        self.counts = False
        """Whether any row of the current step has a weight above 0."""
        # The loss is a share of the whole step's already: it must not be divided by the accumulation again.
        self.model_accepts_loss_kwargs = True
        self.statistics = StepStatistics(self.args.device)
        if self.is_fsdp_enabled:
            self.optimizer = shard(self.sentiment_model, self.create_optimizer(), self.accelerator)

    def create_accelerator_and_postprocess(self) -> None:
        """As the Trainer's; what is sharded before the training is not sharded once more."""
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            prepare_once(self.accelerator)

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint if one is given, or until its milestones end it."""
        if checkpoint:
            state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            if self.milestones.patience_is_spent(state):  # it was killed between its last step and its end
                self.args.num_train_epochs = state.global_step // steps_per_epoch(state)
            if self.conflict:
                self.conflict.averages = parsed_json((checkpoint / CONFLICT).read_text(encoding="utf-8"))
        try:
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except BaseException:
            self.log_file.stop()
            raise

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return self.order

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one optimizer step, and the sum of weights of the step on all ranks."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        own = sum((batch["weights"].sum() for batch in batches), torch.tensor(0.0)).to(device)
        total = self.accelerator.reduce(own, reduction="sum")
        self.counts = bool(total > 0)
        return batches, total

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of a micro-batch.

        A step whose weights are all 0 leaves no gradient, so that the optimizer changes nothing, not even its
        momenta.
        """
        if not self.counts:
            return torch.zeros((), device=self.args.device)
        if self.conflict is None:
            return super().training_step(model, inputs, num_items_in_batch)
        with self.conflict.watching(inputs["input_ids"], inputs["attention_mask"]):
            return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A micro-batch's share of the step's weighted mean, times the ranks, over which DDP averages."""
        labels, weights, kinds, rows = (inputs.pop(name) for name in ("labels", "weights", "kinds", "rows"))
        losses = model(labels=labels, **inputs)
        self.statistics.add(losses.detach(), weights, kinds)
        self.watch.record(rows, losses)
        loss = weighted_share(losses, weights, torch.as_tensor(num_items_in_batch)) * self.args.world_size
        return (loss, losses) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a learning rate of its own for the head."""
        if self.optimizer is None:
            trained = self.sentiment_model if model is None else model
            named = [(name, value) for name, value in trained.named_parameters() if value.requires_grad]
            head = [value for name, value in named if ".head." in f".{name}"]
            adapter = [value for name, value in named if ".head." not in f".{name}"]
            groups: list[dict[str, Any]] = [{"params": adapter}, {"params": head, "lr": self.head_rate}]
            self.optimizer = torch.optim.AdamW(
                [group for group in groups if group["params"]],  # not every head has a layer
                lr=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
            )
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of the validation rows, not weighted; the Trainer finds the best epoch by them."""
        metrics = {f"eval_{name}": value for name, value in self.validate().items()}
        self.log({name: value for name, value in metrics.items() if value is not None})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return {name: float("nan") if value is None else value for name, value in metrics.items()}

    def load_best(self) -> int | None:
        """Load the epoch that was best in validation; returns its number, None if no epoch was chosen."""
        step = self.state.best_global_step
        if not step:
            return None
        self.sentiment_model.load(self.checkpoints / f"checkpoint-{step}")
        return step // steps_per_epoch(self.state)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add mean weight, effective sample size, each kind's loss and conflicts to a training entry.

        The last entry has the mean loss of all steps, also of those before the training was resumed.
        """
        if "loss" in logs:
            logs |= self.statistics.take(lambda sums: self.accelerator.reduce(sums, reduction="sum"))
            logs |= self.conflict.take() if self.conflict else {}
        if "train_loss" in logs:
            logs["train_loss"] = mean_loss(self.state)
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write adapter and head; all ranks must call this, and the first writes."""
        directory = Path(output_dir or self.checkpoints)
        directory.mkdir(parents=True, exist_ok=True)
        self.sentiment_model.save(directory, write=self.args.should_save)
        if self.conflict and self.args.should_save:
            write_json(directory / CONFLICT, self.conflict.averages)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.watch.check_weights(self.state.global_step, self.args.device)
        directory = self.checkpoints / f"checkpoint-{self.state.global_step}"
        with writing(directory):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # other ranks write their generator's state
            if self.args.should_save:
                seal(directory, step=self.state.global_step, ranks=self.args.world_size, run=self.claim)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # The Trainer would write the whole base model beside it.
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.sentiment_model, output_dir)
        if self.args.should_save and self.lr_scheduler:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.sentiment_model.load(Path(resume_from_checkpoint))


class StepStatistics:
    """Figures about the rows since the last log entry; rows that do not count are left out."""

    def __init__(self, device: torch.device) -> None:
        # Per kind, and for stand-ins behind them: rows, sum of losses, of weights, of squared weights.
        self.sums = torch.zeros(len(KINDS) + 1, 4, device=device)

    def add(self, losses: Tensor, weights: Tensor, kinds: Tensor) -> None:
        """Count a micro-batch."""
        columns = [torch.ones_like(weights), losses.float(), weights, weights**2]
        self.sums.index_add_(0, kinds, torch.stack(columns, dim=1))  # (B, 4)

    def take(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The figures over all ranks; starts anew."""
        kinds = reduce(self.sums)[:STAND_IN].tolist()
        self.sums = torch.zeros_like(self.sums)
        rows, _, total, squares = (sum(column) for column in zip(*kinds, strict=True))
        figures = {
            "mean_weight": total / rows if rows else 0.0,
            "effective_sample_size": total**2 / squares if squares else 0.0,
        }
        for name, (count, summed, _, _) in zip(KINDS, kinds, strict=True):
            if count:
                figures[f"loss_{name}"] = summed / count
        return figures


def mean_loss(state: TrainerState) -> float:
    """The mean loss over all steps of a training, from its log."""
    total, last = 0.0, 0.0
    for entry in state.log_history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - last)
            last = entry["step"]
    return total / max(last, 1)


class _FollowEpochs(TrainerCallback):
    """Sets the epoch of the rows' order, also after resuming in the middle of one."""

    def __init__(self, order: EpochOrder) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.epoch = state.global_step // steps_per_epoch(state)
