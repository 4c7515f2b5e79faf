"""The paired bootstrap: what it must find, what it must not, and that its interval means what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.comparison import COLUMNS, Pairs, compare, drawn_units, main, metrics_of_draws, paired, table
from finetune.msa_metrics import DEFINITIONS, OF_CORPUS, Definition, measured
from finetune.training.validation import write_predictions
from pipelines.errors import RunError, UsageError
from pipelines.row import SCALES

ALL = DEFINITIONS | OF_CORPUS


def pairs(rows: int, seed: int, *, shift: float = 0.0, groups: list[str] | None = None) -> Pairs:
    """Two models with errors of their own; `shift` is added to what the second says."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-15, 16, rows) / 5
    return Pairs(
        groups=groups or [str(row) for row in range(rows)],
        labels=labels,
        model=labels + rng.normal(0, 0.6, rows),
        against=labels + rng.normal(0, 0.6, rows) + shift,
        definition=DEFINITIONS["mosi"],
    )


def rows_of(count: int, **changes: Any) -> list[dict[str, Any]]:
    row = {"group": "g", "corpus": "mosi", "scale": "mosi", "split": "test"}
    rng = np.random.default_rng(count)
    numbers = rng.normal(0, 1, (count, 2)).astype(np.float32).tolist()
    return [
        row | {"id": f"r{n}", "group": f"g{n}", "label": label, "prediction": said} | changes
        for n, (label, said) in enumerate(numbers)
    ]


@pytest.mark.parametrize("name", ALL)
def test_every_metric_of_a_resample_is_that_of_the_rows_drawn(name: str) -> None:
    definition: Definition = ALL[name]
    rng = np.random.default_rng(3)
    scale = {"meld": "sims"}.get(name, name)
    low, high = SCALES[scale]
    labels = rng.integers(0, 2, 60) * 1.0 if scale == "binary" else rng.choice(np.linspace(low, high, 11), 60)
    found = labels + rng.normal(0, 0.5, 60)
    _, units = drawn_units([str(row // 4) for row in range(60)])
    counts = rng.multinomial(15, [1 / 15] * 15, size=20).astype(float)
    values = metrics_of_draws(definition, found, labels, units, counts)
    for resample, drawn in enumerate(counts):
        rows = np.repeat(np.arange(60), drawn[units].astype(int))
        wanted = measured(definition, found[rows], labels[rows])
        assert {key: value[resample] for key, value in values.items()} == pytest.approx(wanted, abs=5.1e-5)


def test_what_has_no_value_has_none_on_a_resample() -> None:
    definition = DEFINITIONS["mosi"]
    labels, found = np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.1, 0.3])
    values = metrics_of_draws(definition, found, labels, np.arange(3), np.array([[2.0, 1, 0], [1, 1, 1]]))
    for name in ("Non0_acc_2", "Non0_F1_score", "Corr"):
        assert np.isnan(values[name][0])
        assert np.isfinite(values[name][1])


def test_equal_models_do_not_differ() -> None:
    both = pairs(50, 0)
    same = Pairs(**(vars(both) | {"against": both.model}))
    for found in compare(same, resamples=200)["metrics"].values():
        assert (found["difference"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)


def test_a_shift_is_found() -> None:
    told = compare(pairs(400, 1, shift=0.8), resamples=2000)["metrics"]["MAE"]
    assert told["high"] < 0
    assert told["low"] <= told["difference"] <= told["high"]
    assert told["p"] == pytest.approx(2 / 2001, abs=5e-5)


def test_swapped_models_differ_the_other_way() -> None:
    one = pairs(80, 2, shift=0.3)
    other = Pairs(**(vars(one) | {"model": one.against, "against": one.model}))
    first, second = (compare(each, resamples=500)["metrics"]["MAE"] for each in (one, other))
    assert first["difference"] == -second["difference"]
    assert (first["low"], first["high"]) == pytest.approx((-second["high"], -second["low"]))
    assert first["p"] == second["p"]


def test_a_seed_repeats_and_another_does_not() -> None:
    both = pairs(60, 3, shift=0.1)
    first, again, other = (compare(both, resamples=300, seed=seed)["metrics"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    true = (0.6 - 0.7) * np.sqrt(2 / np.pi)  # E|N(0, s)| = s sqrt(2 / pi)
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        errors = rng.normal(0, 1, (2, 60)) * [[0.6], [0.7]]
        both = simulated(errors, [str(row) for row in range(60)])
        found = compare(both, resamples=400, seed=seed)["metrics"]["MAE"]
        held += found["low"] <= true <= found["high"]
    assert 178 <= held <= 199  # 94 %, as of a percentile interval at this size, ± 3 standard deviations


def test_rows_of_one_speaker_do_not_pass_for_more_evidence() -> None:
    """Speakers make one model better and the other worse; on average there is no difference."""
    held = {"group": 0, "row": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        speaker = np.repeat(rng.normal(0, 0.2, 40), 8)
        errors = np.stack([0.6 + speaker, 0.6 - speaker]) + rng.normal(0, 0.05, (2, 320))
        for unit, groups in (("group", np.repeat(np.arange(40), 8)), ("row", np.arange(320))):
            told = compare(simulated(errors, [str(group) for group in groups]), resamples=300, seed=seed)
            found = told["metrics"]["MAE"]
            assert told["unit"] == unit
            held[unit] += found["low"] <= 0 <= found["high"]
    assert 176 <= held["group"] <= 199
    assert held["row"] < 130


def simulated(errors: np.ndarray, groups: list[str]) -> Pairs:
    labels = np.zeros(errors.shape[1])
    labels[0] = 1.0
    model, against = labels + errors
    return Pairs(groups=groups, labels=labels, model=model, against=against, definition=DEFINITIONS["mosi"])


def test_one_group_alone_cannot_be_drawn_from() -> None:
    assert drawn_units(["a"] * 4)[0] == "row"
    assert drawn_units(list("abcd"))[0] == "row"
    unit, numbers = drawn_units(list("abca"))
    assert unit == "group"
    assert numbers.tolist() == [0, 1, 2, 0]


def test_a_constant_has_no_correlation_to_compare() -> None:
    both = pairs(30, 4)
    found = compare(Pairs(**(vars(both) | {"against": np.full(30, 0.1)})), resamples=100)["metrics"]["Corr"]
    assert found["model"] is not None
    assert (found["against"], found["difference"], found["p"], found["resamples"]) == (None, None, None, 0)


def test_a_test_split_takes_seconds() -> None:
    start = time.perf_counter()
    compare(pairs(700, 5, groups=[f"video{row % 90}" for row in range(700)]))
    compare(pairs(700, 5))
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:2] + rows[3:], "r2: the other table lacks this row"),
        (lambda rows: [*rows, rows[0] | {"id": "r9"}], "r9: the first table lacks this row"),
        (lambda rows: [*rows, rows[1]], "r1: stands in a table of predictions twice"),
        (lambda rows: [rows[0] | {"label": 2.5}, *rows[1:]], r"r0: label is .* and 2.5 in the other"),
        (lambda rows: [row | {"scale": "sims"} for row in rows], "r0: scale is mosi in the first table"),
        (lambda rows: [*rows[:3], rows[3] | {"prediction": np.inf}], "r3: rated inf"),
        (lambda rows: [*rows[:3], rows[3] | {"label": np.nan}], "r3: rated .*, label nan"),
    ],
)
def test_rows_that_do_not_match_are_named(change: Any, told: str) -> None:
    rows = rows_of(4)
    with pytest.raises(RunError, match=told):
        paired(rows, change(rows))


def test_an_answer_without_a_number_counts_as_the_middle_of_the_scale() -> None:
    rows = rows_of(4)
    both = paired([rows[0] | {"prediction": np.nan}, *rows[1:]], rows)
    assert both.model.tolist() == [0.0, *both.against[1:]]
    found = compare(both, resamples=10)
    assert found["unparsable"] == {"model": 1, "against": 0}
    assert "count as the middle of the scale: 1 of model, 0 of against" in table(found)


def test_rows_may_stand_in_another_order() -> None:
    rows = rows_of(5)
    both = paired(rows, rows[::-1])
    assert both.model.tolist() == both.against.tolist()


def test_two_tables_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(12, group="one speaker")
    rows[0] |= {"group": None}
    said = np.array([row["prediction"] for row in rows])
    write_predictions(tmp_path / "a.parquet", rows, said)
    write_predictions(tmp_path / "b.parquet", rows, said + 1)
    main([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), "--resamples", "50"])
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert (told["unit"], told["units"], told["rows"], told["resamples"]) == ("group", 2, 12, 50)
    assert told["model"] == str(tmp_path / "a.parquet")
    printed = capsys.readouterr().out
    assert "12 rows; whole groups are drawn: 2, 50 times" in printed
    difference = told["metrics"]["MAE"]["difference"]
    assert f"{difference:+.4f}" in next(line for line in printed.splitlines() if line.startswith("MAE"))


def test_a_table_that_lacks_something_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {name: ["x"] for name in COLUMNS if name != "group"}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "old.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    for name, told in (
        ("old", "lacks the columns group; evaluate the model again"),
        ("text", "cannot be read"),
        ("nowhere", "cannot be read"),
    ):
        with pytest.raises(RunError, match=f"{name}.parquet: {told}"):
            main([str(tmp_path / f"{name}.parquet"), str(tmp_path / "b.parquet")])
    with pytest.raises(UsageError, match="--resamples: got 0"):
        main(["a", "b", "--resamples", "0"])
