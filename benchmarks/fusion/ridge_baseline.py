"""Ridge regression on features averaged over time, a baseline that a network must beat.

    python -m benchmarks.fusion.ridge_baseline --data FILE

prints the correlation with the labels and the mean absolute error on test, for each modality alone and
for all together. The penalty is the one with the smallest error on valid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from finetune.fusion.features.arrays import FeatureSet
from finetune.fusion.features.file import from_file
from pipelines.errors import call
from pipelines.ridge import Decomposed
from pipelines.row import MODALITIES

PENALTIES = tuple(10.0**power for power in range(-2, 6))


def main(argv: list[str]) -> None:
    """Print the table of a feature file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion.ridge_baseline", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="a feature file")
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=MODALITIES)
    options = parser.parse_args(argv)
    features, _ = from_file(options.data, tuple(options.modalities))
    print(table(features))


def table(features: FeatureSet) -> str:
    """Each modality's figures on test, and those of all together."""
    names = list(features.standards)
    chosen = [(name, [name]) for name in names] + ([("all", names)] if len(names) > 1 else [])
    lines = [f"{'test split':<12}{'Corr':>8}{'MAE':>8}"]
    for title, used in chosen:
        correlation, error = rated(features, used)
        lines.append(f"{title:<12}{correlation:>8.4f}{error:>8.4f}")
    return "\n".join(lines)


def rated(features: FeatureSet, modalities: list[str]) -> tuple[float, float]:
    """Correlation and mean absolute error on test of a ridge on the means of these modalities."""
    inputs = {
        split: np.concatenate([pooled(features, split, name) for name in modalities], axis=1)
        for split in features.splits
    }
    labels = {name: split.labels.astype(np.float64) for name, split in features.splits.items()}
    train = Decomposed(inputs["train"], labels["train"])
    fits = [train.fit(penalty) for penalty in PENALTIES]
    errors = [np.abs(inputs["valid"] @ fit[0] + fit[1] - labels["valid"]).mean() for fit in fits]
    weights, intercept = fits[int(np.argmin(errors))]
    ratings, truth = inputs["test"] @ weights + intercept, labels["test"]
    return float(np.corrcoef(ratings, truth)[0, 1]), float(np.abs(ratings - truth).mean())


def pooled(features: FeatureSet, split: str, name: str) -> np.ndarray:
    """The mean over a clip's standardised steps, (n, d); zeros if it has none."""
    steps, standard = features.splits[split].features[name], features.standards[name]
    shown = steps.mask[..., None]
    total = np.where(shown, (steps.values - standard.mean) / standard.deviation, 0).sum(1, dtype=np.float64)
    return total / np.maximum(steps.mask.sum(1), 1)[:, None]


if __name__ == "__main__":
    call(main)
