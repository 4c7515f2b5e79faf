"""CGGM: the more a modality's own classifier has just improved, the slower its encoder.

    d_m = s_m − s_m of the step before, at least 0
    c_m = (Σ d − d_m) / Σ d
    grad(θ_m) ← rate · c_m · grad(θ_m)

References:
    Guo et al. 2024, Classifier-guided Gradient Modulation for Enhanced Multimodal Learning, NeurIPS;
    rate 1.3. Differs: s_m is the likelihood of the labels (`finetune.fusion.balancing.observation`) and
    not the accuracy; the classifiers are the unimodal heads, which the encoders learn from too; a
    modality that got worse counts as one that stood still, since Σ d is else as often near 0 as not,
    and where none improved all count alike; the loss of the gradients' directions is left out;
    gradients of the statistical loss are not scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.fusion.balancing.observation import Evidence, Scores
from finetune.fusion.distributed import Total, alone


class Cggm:
    """A `Method`.

    Args:
        rate: What each c_m is multiplied by, above 0.
        total: Sums over processes.
    """

    def __init__(self, *, rate: float, total: Total = alone) -> None:
        self.rate = rate
        self.scores = Scores(total)
        self.before: dict[str, float] = {}

    def observe(self, evidence: Evidence) -> None:
        """Take the scores of a micro-batch."""
        self.scores.add(evidence)

    def factors(self) -> dict[str, float]:
        """rate · c_m by the step so far; 1 for a modality that is alone."""
        scores = self.scores.means()
        if len(scores) < 2:
            return dict.fromkeys(scores, 1.0)
        return {
            name: self.rate * share
            for name, share in shares_of_others(
                {name: score - self.before.get(name, 0.0) for name, score in scores.items()}
            ).items()
        }

    def finish(self) -> None:
        """Remember the scores."""
        self.before = self.scores.means()
        self.scores.forget()

    def state_dict(self) -> dict[str, Any]:
        """The scores of the step before."""
        return {"before": dict(self.before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.before = dict(state["before"])
        self.scores.forget()


def shares_of_others(improvements: Mapping[str, float]) -> dict[str, float]:
    """(Σ d − d_m) / Σ d, of improvements that count as 0 where they are below."""
    counted = {name: max(0.0, value) for name, value in improvements.items()}
    if not any(counted.values()):
        counted = dict.fromkeys(counted, 1.0)
    whole = sum(counted.values())
    return {name: (whole - value) / whole for name, value in counted.items()}
