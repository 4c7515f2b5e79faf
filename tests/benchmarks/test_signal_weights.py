"""Weights between signals that are fitted on graded corruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.signal_weights import Graded, fit, main
from pipelines.errors import RunError
from score.quality import FILE
from tests.score.clips import original, variant, write_store

GRADES = np.arange(1.0, 6.0)[:, None]


def graded() -> Graded:
    """Two signals: the first follows what was done to a clip, the second does not."""
    rng = np.random.default_rng(0)
    excess = {"mirrored": np.stack([rng.uniform(0, 0.2, (1, 12)), rng.uniform(0, 12, (1, 12))], axis=-1)}
    for name in ("noise", "blur", "smear"):
        follows = GRADES * rng.uniform(0.8, 1.2, (1, 12))
        excess[name] = np.stack([follows, rng.uniform(0, 12, (5, 12))], axis=-1)
    return Graded(["follows", "does not"], excess)


def test_a_signal_that_follows_the_corruption_counts_more_and_tells_one_that_was_left_out() -> None:
    data = graded()
    weights = fit(data, "smear", penalty=0.03)
    assert weights[0] > 5 * weights[1]
    equal, fitted = (data.told("smear", each) for each in (np.ones(2), weights))
    assert fitted.well
    assert not equal.well
    assert fitted.tau > equal.tau
    assert fitted.area > equal.area


def test_what_is_left_out_has_no_part_in_the_fit_and_a_penalty_keeps_weights_equal() -> None:
    data = graded()
    other = Graded(data.signals, data.excess | {"smear": data.excess["smear"][..., ::-1]})
    assert np.array_equal(fit(data, "smear", 0.3), fit(other, "smear", 0.3))
    assert fit(data, "smear", penalty=1e4) == pytest.approx(1, abs=0.01)


def test_a_clip_that_lacks_a_signal_is_judged_by_the_others() -> None:
    data = graded()
    lacking = {name: each.copy() for name, each in data.excess.items()}
    for each in lacking.values():
        each[..., 1] = np.nan
    alone = Graded(data.signals, lacking).told("noise", np.ones(2))
    assert alone == data.told("noise", np.array([1.0, 0.0]))


def test_help_keeps_the_lines_of_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "\n    python -m benchmarks.signal_weights SCORED [SCORED ...]\n\n" in capsys.readouterr().out


def test_a_store_that_is_not_scored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing; score the store first"):
        main([str(write_store(tmp_path, [original(0)]))])


@pytest.mark.parametrize("generated", [False, True])
def test_a_store_of_other_clips_is_refused(generated: bool, tmp_path: Path) -> None:
    row = original(0)
    rows = [row, variant(row, "video", 0, video=row["video"]["bytes"])] if generated else [row]
    store = write_store(tmp_path, rows)
    (store / FILE).write_text('{"signals": {}, "left_out": {}}', encoding="utf-8")
    with pytest.raises(RunError, match=r"DIR/scored of benchmarks\.scorer\.sensitivity"):
        main([str(store)])
