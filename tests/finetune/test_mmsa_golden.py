"""Our metrics beside MMSA's: what it said once, and what it says where it is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from finetune.msa_metrics import OF_CORPUS, measured, mosi, mustard, sims
from tests.finetune import mmsa_golden
from tests.finetune.mmsa_golden import Case, asked, cases

OURS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "MOSI": mosi,
    "MOSEI": mosi,
    "SIMS": sims,
}
SAID = json.loads(mmsa_golden.GOLDEN.read_text(encoding="utf-8"))
CASES = cases()


@pytest.fixture(scope="module")
def mmsa() -> Any:
    try:
        return mmsa_golden.load_mmsa()
    except ImportError as error:
        pytest.skip(f"{error}; {mmsa_golden.INSTALL}")


def check(corpus: str, case: Case, said: dict[str, float | None] | str) -> None:
    """Ours is what MMSA said, but where the module's docstring says that it is not."""
    ours = OURS[corpus]
    if not all(np.isfinite(values).all() for values in case):
        with pytest.raises(ValueError, match="is not finite"):
            ours(*case)
    elif said == "IndexError":  # no label but 0
        assert not case[1].any()
        assert math.isnan(ours(*case)["Non0_acc_2"])
    else:
        found = ours(*case)
        assert isinstance(said, dict)
        assert set(found) - set(said) == ({"Mult_acc_3"} if corpus != "SIMS" else set())
        for name, value in said.items():
            assert found[name] == value or (value is None and math.isnan(found[name])), name


@pytest.mark.parametrize("corpus", OURS)
@pytest.mark.parametrize("name", CASES)
def test_ours_are_what_mmsa_said(name: str, corpus: str) -> None:
    assert set(SAID["cases"]) == set(CASES)
    check(corpus, CASES[name], SAID["cases"][name][corpus])


@pytest.mark.parametrize("corpus", OURS)
def test_ours_are_what_mmsa_says(corpus: str, mmsa: Any) -> None:
    for name, case in CASES.items():
        assert asked(mmsa, corpus, case) == SAID["cases"][name][corpus], name
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = int(rng.integers(2, 400))
        labels = np.float32(rng.integers(-15, 16, rows) / 5)
        drawn = np.float32(rng.integers(-35, 36, rows) / 10), labels
        check(corpus, drawn, asked(mmsa, corpus, drawn))


def test_weighted_scores_are_scikit_learns() -> None:
    scores = pytest.importorskip("sklearn.metrics", reason=mmsa_golden.INSTALL)
    rng = np.random.default_rng(0)
    for rows in (1, 2, 3, 40, 400):
        said, sarcastic = rng.uniform(0, 1, rows), rng.integers(0, 2, rows)
        of_three, sentiments = rng.uniform(-1.4, 1.4, rows), rng.integers(-1, 2, rows)
        found = [mustard(said, sarcastic)[name] for name in ("Precision", "Recall", "F1_score")]
        told = scores.precision_recall_fscore_support(
            sarcastic, said >= 0.5, average="weighted", zero_division=0
        )
        assert found == pytest.approx(told[:3], abs=5.1e-5)
        classes = np.where(of_three > 0.5, 1, np.where(of_three < -0.5, -1, 0))
        assert measured(OF_CORPUS["meld"], of_three, sentiments)["F1_score"] == pytest.approx(
            scores.f1_score(sentiments, classes, average="weighted"), abs=5.1e-5
        )


def test_float64_is_taken_as_the_float32_that_a_model_gives() -> None:
    """0.1 as a float32 is on the edge of the bin; as a float64 of the same value it lies beyond."""
    edge = np.array([np.float32(0.1)], dtype=np.float64)
    assert sims(edge, np.array([0.0]))["Mult_acc_3"] == 1.0
    assert sims(np.array([np.float32(-0.7)], dtype=np.float64), np.array([-0.8]))["Mult_acc_5"] == 1.0
