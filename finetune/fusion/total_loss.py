"""Clips as tensors, and the five parts of their loss.

    L = L1(ŷ, y) + 0.1 Σ_m L1(ŷ_m, y_m) + 0.1 Σ_m L_rec + 0.1 L_SL + 0.01 L_div

The five parts are published (arXiv:2605.28575); their forms and weights are ours. y_m is the
clip's unimodal label if it has one, else y. L_rec is the mean squared error of a linear map from the
encoder's steps to the standardized input, averaged to those steps. L_div is the squared cosine between the
features of two modalities, averaged over the pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch

from finetune.fusion.features.arrays import Split
from finetune.fusion.network import Output
from finetune.fusion.statistics import statistical_loss

Parts = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some clips as tensors; dicts are by modality."""

    ids: list[str]
    values: dict[str, torch.Tensor]  # raw features, (B, T, d)
    masks: dict[str, torch.Tensor]  # (B, T)
    labels: torch.Tensor  # (B,)
    unimodal: dict[str, torch.Tensor]  # (B,), the label if a clip has no unimodal one
    weights: torch.Tensor  # (B,)


def batch_of(split: Split, rows: np.ndarray, device: torch.device) -> Batch:
    """Clips of a split, each modality cut to the longest of them."""

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    values, masks, unimodal = {}, {}, {}
    labels = split.labels[rows]
    for name, sequences in split.features.items():
        mask, own = sequences.mask[rows], split.unimodal[name][rows]
        steps = int(mask.any(0).nonzero()[0].max(initial=0)) + 1
        values[name], masks[name] = tensor(sequences.values[rows, :steps]), tensor(mask[:, :steps])
        unimodal[name] = tensor(np.where(np.isnan(own), labels, own))
    return Batch(
        ids=[split.ids[row] for row in rows],
        values=values,
        masks=masks,
        labels=tensor(labels),
        unimodal=unimodal,
        weights=tensor(split.weights[rows]),
    )


def _task(output: Output, batch: Batch) -> torch.Tensor:
    return (output.prediction.float() - batch.labels).abs()


def _auxiliary(output: Output, batch: Batch) -> torch.Tensor:
    errors = unimodal_errors(output, batch)
    return torch.stack([error * batch.masks[name].any(1) for name, error in errors.items()]).sum(0)


def _reconstruction(output: Output, batch: Batch) -> torch.Tensor:
    return torch.stack([error.float() for error in output.reconstruction_errors.values()]).sum(0)


def _statistics(output: Output, batch: Batch) -> torch.Tensor:
    losses = []
    for name, mask in batch.masks.items():
        mean, log_deviation = output.means[name].float(), output.log_deviations[name].float()
        losses.append(statistical_loss(mean, log_deviation, output.standardised[name].float(), mask))
    return torch.stack(losses).sum(0)


def _diversity(output: Output, batch: Batch) -> torch.Tensor:
    pairs = list(itertools.combinations(output.features, 2))
    if not pairs:
        return torch.zeros_like(output.prediction, dtype=torch.float32)
    present = {name: mask.any(1) for name, mask in batch.masks.items()}
    squares = [
        torch.cosine_similarity(output.features[one].float(), output.features[other].float()) ** 2
        * (present[one] & present[other])
        for one, other in pairs
    ]
    return torch.stack(squares).mean(0)


PARTS: dict[str, Callable[[Output, Batch], torch.Tensor]] = {
    "task": _task,
    "auxiliary": _auxiliary,
    "reconstruction": _reconstruction,
    "statistics": _statistics,
    "diversity": _diversity,
}


def loss_parts(output: Output, batch: Batch, names: Collection[str] = PARTS) -> Parts:
    """The losses of each clip, (B,) by part; a modality that a clip lacks adds nothing."""
    return {name: part(output, batch) for name, part in PARTS.items() if name in names}


def unimodal_errors(output: Output, batch: Batch) -> Parts:
    """|ŷ_m − y_m| of each clip, (B,) by modality."""
    return {name: (output.unimodal[name].float() - label).abs() for name, label in batch.unimodal.items()}
