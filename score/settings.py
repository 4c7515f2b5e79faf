"""The section `score` of a recipe. Nothing heavy is imported before settings are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from score.models.settings import ModelSettings

Scale = Literal["anchored", "ranks"]
Ruined = Literal["keep", "drop"]
MEASURING = ("calibration_clips", "folds", "label_probability")
"""Settings that, like the models, only measuring depends on, and not weighing."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Stage 1b: a reliability weight for each variant."""

    scale: Scale = "anchored"
    """`anchored`: weight 1 is for the quality of harmless changes of the corpus' own clips, and the smallest
    for that of mismatched and corrupted ones. `ranks`: for the variants' own quantiles `low` and `high`."""
    ruined: Ruined = "keep"
    """What becomes of variants worse than mismatched and corrupted clips, which weights.json lists: `keep`
    gives them the smallest weight, `drop` weight 0, so that training leaves them out."""
    low: float = 0.1
    """Of `ranks`: qualities up to this quantile of the variants' get the smallest weight; in [0, 1)."""
    high: float = 0.9
    """Of `ranks`: qualities from this quantile on get weight 1; in (low, 1]. Both also scale novelty."""
    gamma: float = 1.0
    """Exponent of the weight, above 0: above 1, variants of medium quality count less, below 1 more."""
    floor: float = 0.1
    """Smallest weight before the exponent, in [0, 1]."""
    novelty: float = 0.0
    """Exponent of a factor for the novelty of a variant, 0 or more; 0 ignores novelty."""
    calibration_clips: int = 64
    """Number of training originals to make good and bad pairs from, 0 or more; spread over the corpus."""
    folds: int = 5
    """Cross-validation folds of the label predictor, 2 or more, split by group."""
    signals: tuple[str, ...] | None = None
    """Signals that count towards the quality, by name (docs/scoring.md lists them); null for all.
    All are measured and stored, so that --reweigh can choose others."""
    disabled_signals: tuple[str, ...] = ()
    """Signals that do not count, by name."""
    signal_weights: Literal["fitted", "equal"] = "fitted"
    """`fitted`: an agreement counts the more, the better its predictor tells the labels of this corpus' clips
    that it has not seen (calibration.json has the weights). `equal`: every signal counts the same."""
    label_probability: str | None = None
    """A Parquet file with `id` and `log_probability`, for `cross_label`: the probability of each row's label
    under a frozen multimodal model, as python -m finetune.label_probability writes it."""
    models: ModelSettings = field(default_factory=ModelSettings)

    def __post_init__(self) -> None:
        from score.signals.catalogue import WEIGHED
        from score.weights import check_settings

        check_settings(low=self.low, high=self.high, gamma=self.gamma, floor=self.floor)
        if not 0 <= self.novelty < float("inf"):
            raise ValueError(f"novelty: {self.novelty:g} is not 0 or more and finite")
        if self.calibration_clips < 0:
            raise ValueError(f"calibration_clips: {self.calibration_clips} is negative; take 0 or more")
        if self.folds < 2:
            raise ValueError(f"folds: {self.folds} is not 2 or more")
        for key in ("signals", "disabled_signals"):
            unknown = [name for name in getattr(self, key) or () if name not in WEIGHED]
            if unknown:
                raise ValueError(f"{key}: got {', '.join(unknown)}; takes {', '.join(WEIGHED)}")
        if not self.counted():
            key = "disabled_signals" if self.disabled_signals else "signals"
            raise ValueError(f"{key}: no signal is left that counts; choose more, or disable fewer")

    def counted(self) -> list[str]:
        """The signals that count, if available."""
        from score.signals.catalogue import WEIGHED

        chosen = WEIGHED if self.signals is None else self.signals
        return [name for name in chosen if name not in self.disabled_signals]

    def as_measured(self, before: Mapping[str, Any]) -> ScoreConfig:
        """These settings, with those of the run that measured a store, whose weights are computed again.

        Args:
            before: That run's settings, as `settings.json` has them; what it lacks was the default.

        Raises:
            ValueError: If these ask for others than that or the default, which would have no effect.
        """
        default = ScoreConfig()
        known: dict[str, Any] = {name: before.get(name, getattr(default, name)) for name in MEASURING}
        for name, value in known.items():
            own = getattr(self, name)
            if own not in (getattr(default, name), value):
                raise ValueError(f"{name}: got {own}, and the store was measured with {value}")
        models = before.get("models", {})
        known["models"] = ModelSettings(
            **{name: models[name] for name in models if hasattr(self.models, name)}
        )
        if self.models.names() and self.models.names() != known["models"].names():
            names = known["models"].names()
            raise ValueError(f"models: got {self.models.names()}, and the store was measured with {names}")
        return replace(self, **known)
