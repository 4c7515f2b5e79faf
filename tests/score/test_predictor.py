"""The predictor: ridge by its normal equations, folds by group, and nobody judged by who saw them."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.ridge import Decomposed
from score.media.clip import FEATURE_SIZES
from score.predictor import (
    LEAST_KEPT,
    PENALTIES,
    TOLERATED,
    Copies,
    Predictor,
    Ridge,
    _scale,
    assign_folds,
    cross_fit,
    fit,
    of_track,
)  # fmt: skip

SIZE = sum(FEATURE_SIZES)


def data(rows: int = 60, groups: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features of which a few carry the label."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, SIZE))
    labels = rng.normal(size=rows)
    features[:, :60] += 2 * labels[:, None]
    features[:, -20:] += 2 * labels[:, None]
    return features, labels, [f"g{row % groups}" for row in range(rows)]


def with_copies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twenty clips, of which ten have a copy each that is a little different."""
    features, labels, _ = data(20)
    copies = features[:10] + np.random.default_rng(5).normal(0, 0.3, (10, SIZE))
    clips = np.concatenate([np.arange(20), np.arange(10)])
    return np.concatenate([features, copies]), labels[clips], clips


def refitted_error(x: np.ndarray, labels: np.ndarray, clips: np.ndarray, penalty: float) -> float:
    """Mean squared error of each row, asked of a ridge regression fitted without its clip."""
    error = 0.0
    for clip in np.unique(clips):
        kept = clips != clip
        design = np.column_stack([x[kept], np.ones(kept.sum())])
        ridge = np.diag([*([penalty] * x.shape[1]), 0.0])
        solution = np.linalg.solve(design.T @ design + ridge, design.T @ labels[kept])
        error += ((labels[~kept] - x[~kept] @ solution[:-1] - solution[-1]) ** 2).sum()
    return error / len(labels)


def fitted(*args: np.ndarray | list[str]) -> Predictor:
    found = cross_fit(*args, folds=5)
    assert isinstance(found, Predictor), found
    return found


def test_ridge_solves_its_normal_equations_and_leaves_one_out_as_refitting_would() -> None:
    features, labels, clips = with_copies()
    model = fit(features, labels, clips, np.ones(SIZE))
    x = features / _scale(features)
    centred, y = x - x.mean(axis=0), labels - labels.mean()
    solutions = [
        np.linalg.solve(centred.T @ centred + penalty * np.eye(SIZE), centred.T @ y) for penalty in PENALTIES
    ]
    errors = [refitted_error(x, labels, clips, penalty) for penalty in PENALTIES]
    most = min(errors) + TOLERATED * labels.var()
    chosen = max(index for index, error in enumerate(errors) if error <= most)
    np.testing.assert_allclose(model.coefficients, solutions[chosen], atol=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 10.0, 100.0])
def test_the_error_of_clips_left_out_with_their_copies_is_that_of_fitting_again(penalty: float) -> None:
    features, labels, clips = with_copies()
    x = features / _scale(features)
    together = [np.flatnonzero(clips == clip) for clip in np.unique(clips)]
    found = Decomposed(x, labels).left_out_error(penalty, together, LEAST_KEPT)
    assert found == pytest.approx(refitted_error(x, labels, clips, penalty), rel=10 * LEAST_KEPT)


def test_follows_the_labels_of_clips_that_it_has_not_seen() -> None:
    assert fitted(*data()).correlation > 0.7


def test_no_group_is_in_two_folds_and_the_folds_depend_on_names_alone() -> None:
    groups = [f"g{n}" for n in range(11)]
    folds = assign_folds(groups, 4)
    assert assign_folds(groups[::-1] * 2, 4) == folds
    counts = np.bincount(list(folds.values()))
    assert counts.max() - counts.min() <= 1
    assert max(assign_folds(["a", "b"], 5).values()) == 1


def test_the_model_asked_about_a_group_never_saw_it() -> None:
    features, labels, groups = data()
    before = fitted(features, labels, groups)
    mine = np.array(groups) == "g3"
    spoilt_features, spoilt_labels = features.copy(), labels.copy()
    spoilt_features[mine], spoilt_labels[mine] = features[mine] + 1, -labels[mine]
    after = fitted(spoilt_features, spoilt_labels, groups)
    probe = np.random.default_rng(9).normal(size=(4, SIZE))
    np.testing.assert_array_equal(before.predict(probe, ["g3"] * 4), after.predict(probe, ["g3"] * 4))
    others = [group for group in before.fold_of if before.fold_of[group] != before.fold_of["g3"]]
    assert not np.allclose(before.predict(probe[:1], others[:1]), after.predict(probe[:1], others[:1]))


def test_agreement_is_no_distance_in_spreads() -> None:
    features, labels, groups = data()
    predictor = fitted(features, labels, groups)
    assert predictor.agreement(features, features, groups).tolist() == [0.0] * len(groups)
    moved = features[np.roll(np.arange(len(features)), 1)]
    found = predictor.agreement(moved, features, groups)
    np.testing.assert_allclose(found, -np.abs(predictor.predict(moved - features, groups)) / predictor.spread)
    np.testing.assert_allclose(found, predictor.agreement(features, moved, groups))


def test_what_people_differ_by_does_not_count() -> None:
    features, labels, groups = data()
    rng = np.random.default_rng(3)
    names = sorted(set(groups))
    looks, tempers = rng.normal(0, 30, (len(names), SIZE)), rng.normal(0, 5, len(names))
    who = [names.index(group) for group in groups]
    plain, unlike = (
        fitted(features, labels, groups),
        fitted(features + looks[who], labels + tempers[who], groups),
    )
    assert unlike.correlation == pytest.approx(plain.correlation)
    assert unlike.spread == pytest.approx(plain.spread)


def test_where_everyone_has_one_clip_it_is_relative_to_all() -> None:
    features, labels, _ = data()
    assert fitted(features, labels, [f"g{n}" for n in range(len(labels))]).correlation > 0.7


def test_a_missing_track_makes_no_difference_and_missing_labels_are_left_out() -> None:
    features, labels, groups = data()
    features[::7, : FEATURE_SIZES[0]] = np.nan
    labels[::5] = np.nan
    predictor = fitted(features, labels, groups)
    assert np.isfinite(predictor.predict(features, groups)).all()
    blind = features[1:2].copy()
    blind[:, : FEATURE_SIZES[0]] = np.nan
    model, same = predictor.models[0], np.nan_to_num(blind, nan=0.0)
    np.testing.assert_allclose(model.predict(blind), model.predict(same))


def test_what_harmless_copies_change_counts_for_less() -> None:
    features, labels, groups = data()
    rng = np.random.default_rng(8)
    carries = slice(SIZE - 20, None)  # half of what carries the label, which another voice changes
    moved = features.copy()
    moved[:, carries] += rng.normal(0, 3, (len(features), 20))
    copies = Copies(moved, np.arange(len(features)))
    plain, taught = (cross_fit(features, labels, groups, folds=5, copies=each) for each in (None, copies))
    assert isinstance(plain, Predictor)
    assert isinstance(taught, Predictor)
    agreements = [each.agreement(moved, features, groups).mean() for each in (plain, taught)]
    assert agreements[1] > 0.7 * agreements[0]
    assert taught.correlation > 0.7


def test_no_model_sees_the_copies_of_what_it_is_asked_about() -> None:
    features, labels, groups = data()
    of = np.arange(len(features))
    mine = np.array(groups) == "g3"
    spoilt = np.where(mine[:, None], features + 1, features)
    before, after = (
        cross_fit(features, labels, groups, folds=5, copies=Copies(each, of)) for each in (features, spoilt)
    )
    assert isinstance(before, Predictor)
    assert isinstance(after, Predictor)
    probe = np.random.default_rng(9).normal(size=(4, SIZE))
    np.testing.assert_array_equal(before.predict(probe, ["g3"] * 4), after.predict(probe, ["g3"] * 4))


def test_what_is_farther_out_than_originals_are_counts_as_the_farthest() -> None:
    features, labels, groups = data()
    predictor = fitted(features, labels, groups)
    far, farther = features[:1] + 1e3, features[:1] + 1e6
    np.testing.assert_array_equal(predictor.predict(far, groups[:1]), predictor.predict(farther, groups[:1]))


def test_of_the_audio_a_difference_beyond_what_a_mood_makes_counts_little() -> None:
    cells = FEATURE_SIZES[0]
    model = Ridge(np.ones(SIZE), np.ones(SIZE), np.ones(SIZE))
    for at, found in (
        (0, [0.4, 2, 6, 6]),
        (cells, [0.4, 0.5 + 0.2 * 1.5, 0.5 + 0.2 * 5.5, 0.5 + 0.2 * 5.5]),
    ):
        differences = np.full((4, SIZE), np.nan)
        differences[:, at] = [0.4, 2, 6, 60]
        assert model.predict(differences) == pytest.approx(found)
        assert model.predict(-differences) == pytest.approx([-each for each in found])


def test_of_a_track_the_features_of_the_other_are_missing() -> None:
    features, cells = data(3)[0], FEATURE_SIZES[0]
    assert np.isnan(of_track(features, "video")[:, cells:]).all()
    assert np.isnan(of_track(features, "audio")[:, :cells]).all()
    np.testing.assert_array_equal(of_track(features, "video")[:, :cells], features[:, :cells])
    np.testing.assert_array_equal(of_track(features, "audio")[:, cells:], features[:, cells:])


def test_a_group_without_labels_is_predicted_and_changes_nothing() -> None:
    features, labels, groups = data()
    whole = fitted(features, labels, groups)
    more = fitted(
        np.concatenate([features, features[:5]]), np.concatenate([labels, [np.nan] * 5]), groups + ["new"] * 5
    )
    differences = features[:5] - features[5:10]
    np.testing.assert_allclose(more.predict(differences, groups[:5]), whole.predict(differences, groups[:5]))
    assert np.isfinite(more.predict(differences, ["new"] * 5)).all()


def test_says_why_there_is_none() -> None:
    features, labels, groups = data()
    noise = np.random.default_rng(3).normal(size=len(labels))
    assert "correlate" in cross_fit(features, noise, groups, folds=5)
    assert "15 labelled originals" in cross_fit(features[:15], labels[:15], groups[:15], folds=5)
    assert "of 2 groups" in cross_fit(features, labels, ["a", "b"] * 30, folds=5)
    one_group = np.where(np.array(groups) == groups[0], labels, np.nan)
    assert "originals of 1 groups" in cross_fit(
        np.tile(features, (9, 1)), np.tile(one_group, 9), groups * 9, folds=5
    )
    assert "do not differ" in cross_fit(features, np.ones(60), groups, folds=5)


@pytest.mark.parametrize("order", [slice(None, None, -1)])
def test_the_order_of_the_rows_does_not_matter(order: slice) -> None:
    features, labels, groups = data()
    straight, turned = fitted(features, labels, groups), fitted(features[order], labels[order], groups[order])
    predictions = straight.predict(features, groups)
    np.testing.assert_allclose(predictions, turned.predict(features, groups), atol=1e-8)
