"""The metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.msa_metrics import DEFINITIONS, OF_CORPUS, definition_of, measured, mosi, mustard, sims


def test_mosi_by_hand() -> None:
    found = np.array([-2.6, -0.2, 0.0, 0.4, 1.5, 3.9])
    wanted = np.array([-3.0, 0.0, 0.2, -0.4, 2.5, 2.0])
    metrics = mosi(found, wanted)
    # >= 0 said: - - + + + +, is: - + + - + +
    assert metrics["Has0_acc_2"] == pytest.approx(4 / 6, abs=5e-5)
    # label 0 left out; > 0 said: - - + + +, is: - + - + +
    assert metrics["Non0_acc_2"] == pytest.approx(3 / 5)
    # rounded at 3: -3 0 0 0 2 3 against -3 0 0 0 2 2 (1.5 and 2.5 both round to 2)
    assert metrics["Mult_acc_7"] == pytest.approx(5 / 6, abs=5e-5)
    # at 2: -2 0 0 0 2 2 against -2 0 0 0 2 2
    assert metrics["Mult_acc_5"] == 1.0
    # at 1: -1 0 0 0 1 1 against -1 0 0 0 1 1
    assert metrics["Mult_acc_3"] == 1.0
    assert metrics["MAE"] == pytest.approx((0.4 + 0.2 + 0.2 + 0.8 + 1.0 + 1.9) / 6, abs=5e-5)
    assert metrics["Corr"] == pytest.approx(np.corrcoef(found, wanted)[0, 1], abs=5e-5)


def test_mosi_f1_is_weighted_by_support() -> None:
    metrics = mosi(np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0]))
    # positive: 2·2/(3+2) = 0.8; negative: 2·1/(1+2) = 2/3; half of the labels each
    assert metrics["Has0_F1_score"] == pytest.approx((0.8 + 2 / 3) / 2, abs=5e-5)


def test_sims_bins_are_closed_on_the_right() -> None:
    edges = np.array([-0.7, -0.1, 0.0, 0.1, 0.7])
    inside = np.array([-0.8, -0.5, -0.05, 0.05, 0.5])
    metrics = sims(edges, inside)
    assert metrics["Mult_acc_5"] == 1.0
    # 0.0 is not positive, 0.05 is: of the pairs only the third and fourth tell, and both agree
    assert metrics["Mult_acc_2"] == 1.0
    assert sims(np.array([0.0]), np.array([0.05]))["Mult_acc_2"] == 0.0
    assert sims(np.array([0.1]), np.array([0.1000001]))["Mult_acc_3"] == 0.0


def test_sims_clips_before_everything() -> None:
    metrics = sims(np.array([5.0, -5.0, 0.0]), np.array([1.0, -1.0, 0.0]))
    assert metrics["MAE"] == 0.0
    assert metrics["Corr"] == 1.0


def test_mustard_by_hand() -> None:
    metrics = mustard(np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 0, 1, 0]))
    assert metrics == {"Accuracy": 0.5, "Precision": 0.5, "Recall": 0.5, "F1_score": 0.5}


def test_meld_by_hand() -> None:
    metrics = measured(OF_CORPUS["meld"], np.array([-0.9, -0.5, 0.1, 0.51, 2.0]), np.array([-1, -1, 0, 0, 1]))
    # said: - 0 0 + +, is: - - 0 0 +; F1 2/3, 1/2, 2/3 with supports 2, 2, 1
    assert metrics["Accuracy"] == 0.6
    assert metrics["F1_score"] == pytest.approx((2 * 2 / 3 + 2 * 1 / 2 + 2 / 3) / 5, abs=5e-5)
    assert metrics["MAE"] == pytest.approx((0.1 + 0.5 + 0.1 + 0.51 + 0.0) / 5, abs=5e-5)


def test_meld_has_metrics_of_its_own_beside_those_of_its_scale() -> None:
    assert definition_of("sims", {"meld"}) is not DEFINITIONS["sims"]
    assert definition_of("sims", {"sims"}) is definition_of("sims", {"sims", "meld"}) is DEFINITIONS["sims"]


def test_a_class_nobody_predicts_has_no_precision() -> None:
    found = mustard(np.zeros(4), np.array([0, 0, 0, 1]))
    assert (found["Precision"], found["F1_score"]) == pytest.approx((0.75 * 0.75, 0.75 * 6 / 7), abs=5e-5)


def test_constant_predictions_have_no_correlation() -> None:
    assert np.isnan(mosi(np.zeros(3), np.array([1.0, -1.0, 0.4]))["Corr"])


def test_only_zero_labels_leave_non0_without_a_value() -> None:
    assert np.isnan(mosi(np.ones(2), np.zeros(2))["Non0_acc_2"])


@pytest.mark.parametrize(
    ("found", "wanted", "told"),
    [
        ([], [], "no sample"),
        ([1.0], [1.0, 2.0], "shape"),
        ([1.0, np.nan], [1.0, 2.0], r"predictions\[1\] is not finite"),
        ([1.0], [np.inf], r"labels\[0\] is not finite"),
    ],
)
def test_bad_input_is_refused(found: list[float], wanted: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mosi(np.array(found), np.array(wanted))
