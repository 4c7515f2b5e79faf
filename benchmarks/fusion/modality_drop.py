"""Metrics of a trained network on test with modalities left out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.fusion.records import rated
from finetune.fusion.run import load, read_features
from finetune.fusion.total_loss import batch_of
from pipelines.atomic import write_json

if TYPE_CHECKING:
    from finetune.fusion.features.arrays import FeatureSet, Split
    from finetune.fusion.network import FusionNetwork
    from finetune.fusion.settings import FusionConfig
    from pipelines.settings import Invocation

FILE = "without.json"
BATCH = 64


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All sets of modalities that can be left out so that at least one remains."""
    return [out for size in range(1, len(names)) for out in itertools.combinations(names, size)]


def rate_without(invocations: Mapping[str, Invocation[FusionConfig]]) -> None:
    """Write `without.json` into each seed's folder of each run: test metrics by left-out modalities."""
    features: FeatureSet | None = None
    for invocation in invocations.values():
        for seed in invocation.config.seeds:
            path = invocation.out / f"seed-{seed}" / FILE
            if not path.is_file():
                features = features or read_features(invocation.data, invocation.config, invocation.out)[0]
                network, test = load(invocation.out, seed), features.splits["test"]
                metrics = {
                    "+".join(out): rated(predicted_without(network, test, out), test, features.scale)
                    for out in subsets(network.names)
                }
                write_json(path, metrics)


def predicted_without(network: FusionNetwork, clips: Split, out: Sequence[str]) -> np.ndarray:
    """Predictions for clips without some modalities, (n,)."""
    predictions = []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(clips)), -(-len(clips) // BATCH)):
            batch = batch_of(clips, rows, torch.device("cpu"))
            hidden = {name: torch.zeros_like(batch.masks[name]) for name in out}
            batch = replace(batch, masks=batch.masks | hidden)
            predictions.append(network(batch.values, batch.masks).prediction.numpy())
    return np.concatenate(predictions)
