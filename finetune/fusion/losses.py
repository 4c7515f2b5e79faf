"""Clips as tensors, and the five parts of their loss.

    L = L1(ŷ, y) + 0.1 Σ_m L1(ŷ_m, y_m) + 0.1 Σ_m L_rec + 0.1 L_SL + 0.01 L_div

The five parts are published (arXiv:2605.28575); their forms and weights are ours. y_m is the
clip's unimodal label where it has one, else y. L_rec is the mean squared error of the standardised
input, averaged to the encoder's steps, as a linear map makes it from those steps. L_div is the
squared cosine between the features of two modalities, meaned over the pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch

from finetune.fusion.features.arrays import Sequences, Split
from finetune.fusion.network import Output
from finetune.fusion.statistics import statistical_loss

Parts = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some clips as tensors."""

    ids: list[str]
    values: dict[str, torch.Tensor]
    """Raw features by modality, (B, T, d)."""
    masks: dict[str, torch.Tensor]
    """(B, T)."""
    labels: torch.Tensor
    """(B,)."""
    unimodal: dict[str, torch.Tensor]
    """(B,), the label where there is no unimodal one."""
    weights: torch.Tensor
    """(B,)."""


def batch_of(split: Split, rows: np.ndarray, device: torch.device) -> Batch:
    """Clips of a split, each modality cut to the longest of them."""
    values, masks = {}, {}
    for name, sequences in split.features.items():
        cut = _cut(sequences, rows)
        values[name] = torch.from_numpy(cut.values).to(device)
        masks[name] = torch.from_numpy(cut.mask).to(device)
    labels = split.labels[rows]
    unimodal = {name: split.unimodal[name][rows] for name in split.features}
    return Batch(
        ids=[split.ids[row] for row in rows],
        values=values,
        masks=masks,
        labels=torch.from_numpy(labels).to(device),
        unimodal={
            name: torch.from_numpy(np.where(np.isnan(own), labels, own)).to(device)
            for name, own in unimodal.items()
        },
        weights=torch.from_numpy(split.weights[rows]).to(device),
    )


def _cut(sequences: Sequences, rows: np.ndarray) -> Sequences:
    mask = sequences.mask[rows]
    steps = int(mask.any(0).nonzero()[0].max(initial=0)) + 1
    return Sequences(values=sequences.values[rows, :steps], mask=mask[:, :steps])


def _task(output: Output, batch: Batch) -> torch.Tensor:
    return (output.prediction.float() - batch.labels).abs()


def _auxiliary(output: Output, batch: Batch) -> torch.Tensor:
    errors = unimodal_errors(output, batch)
    return torch.stack([error * batch.masks[name].any(1) for name, error in errors.items()]).sum(0)


def _reconstruction(output: Output, batch: Batch) -> torch.Tensor:
    return torch.stack([error.float() for error in output.reconstruction_errors.values()]).sum(0)


def _statistics(output: Output, batch: Batch) -> torch.Tensor:
    losses = [
        statistical_loss(
            output.means[name].float(),
            output.log_deviations[name].float(),
            output.standardised[name].float(),
            mask,
        )
        for name, mask in batch.masks.items()
    ]
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
    """Each clip's own losses, (B,) by part; a modality that a clip lacks adds nothing."""
    return {name: part(output, batch) for name, part in PARTS.items() if name in names}


def unimodal_errors(output: Output, batch: Batch) -> Parts:
    """|ŷ_m − y_m| of each clip, (B,) by modality."""
    return {name: (output.unimodal[name].float() - label).abs() for name, label in batch.unimodal.items()}
