"""A trained network rated on test with modalities left out: how much it leans on each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from finetune.fusion.losses import batch_of
from finetune.fusion.records import rated
from finetune.fusion.run import load, read_features
from pipelines.atomic import write_json

if TYPE_CHECKING:
    from finetune.fusion.features.arrays import FeatureSet, Split
    from finetune.fusion.network import FusionNetwork
    from finetune.fusion.settings import FusionConfig
    from pipelines.settings import Invocation

FILE = "without.json"
CLIPS = 64  # rated at once


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """What can be left out with something staying."""
    return [out for size in range(1, len(names)) for out in itertools.combinations(names, size)]


def rate_without(invocations: Mapping[str, Invocation[FusionConfig]]) -> None:
    """Write `without.json` into each seed's folder of each run: test metrics by what is left out."""
    features: FeatureSet | None = None
    for invocation in invocations.values():
        for seed in invocation.config.seeds:
            path = invocation.out / f"seed-{seed}" / FILE
            if not path.is_file():
                features = features or read_features(invocation.data, invocation.config, invocation.out)[0]
                write_json(path, _rated_without(load(invocation.out, seed), features))


def read_without(run: Path, seed: int) -> dict[str, dict[str, float | None]]:
    """What was written of a seed."""
    return json.loads((run / f"seed-{seed}" / FILE).read_text(encoding="utf-8"))


def _rated_without(network: FusionNetwork, features: FeatureSet) -> dict[str, dict[str, float]]:
    test = features.splits["test"]
    return {
        "+".join(out): rated(predicted_without(network, test, out), test, features.scale)
        for out in subsets(network.names)
    }


def predicted_without(network: FusionNetwork, clips: Split, out: Sequence[str]) -> np.ndarray:
    """Predictions for clips that lack some modalities, (n,)."""
    found = []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(clips)), -(-len(clips) // CLIPS)):
            batch = batch_of(clips, rows, torch.device("cpu"))
            hidden = {name: torch.zeros_like(batch.masks[name]) for name in out}
            batch = replace(batch, masks=batch.masks | hidden)
            found.append(network(batch.values, batch.masks).prediction.numpy())
    return np.concatenate(found)
