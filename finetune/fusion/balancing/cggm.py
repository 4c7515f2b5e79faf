"""CGGM: the more a modality's own classifier has just improved, the slower its encoder learns.

    d_m = s_m − s_m of the step before, at least 0
    c_m = (Σ d − d_m) / Σ d
    grad(θ_m) ← rate · c_m · grad(θ_m)

References:
    Guo et al. 2024, Classifier-guided Gradient Modulation for Enhanced Multimodal Learning, NeurIPS;
    rate 1.3. Differs: s_m is the likelihood of the labels (`finetune.fusion.balancing.observation`) and
    not the accuracy; the classifiers are the unimodal heads, which the encoders learn from too; a
    modality that got worse counts as unchanged, because Σ d would often be near 0 otherwise, and if none
    improved all count alike; the loss on the gradients' directions is left out; gradients of the
    statistical loss are not scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.fusion.balancing.observation import Method, Observation, Scores
from finetune.fusion.distributed import AllReduceSum, identity


class Cggm(Method):
    """The method.

    Args:
        rate: The factor of each c_m, above 0.
        all_reduce_sum: Sums over processes.
    """

    def __init__(self, *, rate: float, all_reduce_sum: AllReduceSum = identity) -> None:
        self.rate = rate
        self.scores = Scores(all_reduce_sum)
        self.before: dict[str, float] = {}

    def observe(self, observation: Observation) -> None:
        """Record the scores of a micro-batch."""
        self.scores.add(observation)

    def factors(self) -> dict[str, float]:
        """rate · c_m after the step so far; 1 if there is only one modality."""
        scores = self.scores.means()
        if len(scores) < 2:
            return dict.fromkeys(scores, 1.0)
        improvements = {name: score - self.before.get(name, 0.0) for name, score in scores.items()}
        return {name: self.rate * share for name, share in shares_of_others(improvements).items()}

    def finish(self) -> None:
        """Keep the scores for the next step."""
        self.before = self.scores.means()
        self.scores.reset()

    def state_dict(self) -> dict[str, Any]:
        """The scores of the step before."""
        return {"before": dict(self.before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.before = dict(state["before"])


def shares_of_others(improvements: Mapping[str, float]) -> dict[str, float]:
    """(Σ d − d_m) / Σ d, where negative improvements count as 0."""
    counted = {name: max(0.0, value) for name, value in improvements.items()}
    if not any(counted.values()):
        counted = dict.fromkeys(counted, 1.0)
    total = sum(counted.values())
    return {name: (total - value) / total for name, value in counted.items()}
