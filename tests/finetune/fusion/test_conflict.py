"""The penalty's formula, its schedule, what it leaves alone, and that it sees a step as a whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from finetune.fusion.conflict import ConflictPenalty
from finetune.gradient_norms import factors, ratios

NAMES = ("text", "audio", "video")


class Toy(nn.Module):
    """One linear encoder a modality; the task's gradient at a modality's feature is its `pull`."""

    def __init__(self, pulls: tuple[float, ...], width: int = 4) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(3, width) for name in NAMES})
        self.pulls = dict(zip(NAMES, pulls, strict=True))

    def features(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: encoder(rows) for name, encoder in self.encoders.items()}

    def parameters_by_name(self) -> dict[str, list[nn.Parameter]]:
        return {name: list(encoder.parameters()) for name, encoder in self.encoders.items()}

    def task(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Summed over rows: each row's gradient at a feature has the norm `pull`."""
        return sum(
            (self.pulls[name] * feature[:, 0].sum() for name, feature in features.items()), torch.zeros(())
        )


def statistics_of(features: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(((feature - 1) ** 2).sum() for feature in features.values())  # type: ignore[return-value]


def gradients(model: Toy) -> dict[str, torch.Tensor]:
    return {
        name: torch.cat([parameter.grad.flatten() for parameter in found if parameter.grad is not None])
        for name, found in model.parameters_by_name().items()
    }


def step(
    model: Toy, penalty: ConflictPenalty | None, micro_batches: list[torch.Tensor], exempt: float = 0.0
) -> dict[str, torch.Tensor]:
    """The gradients that a step ends with."""
    model.zero_grad()
    encoders = model.parameters_by_name()
    for rows in micro_batches:
        features = model.features(rows)
        task, statistics = model.task(features), exempt * statistics_of(features)
        if penalty:
            penalty.observe(task, features)
            penalty.keep(statistics, encoders)
        (task + statistics).backward()
    if penalty:
        penalty.apply(encoders)
    return gradients(model)


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def test_equal_norms_leave_every_gradient_as_it_is(rows: torch.Tensor) -> None:
    model = Toy((2.0, 2.0, 2.0))
    plain = step(model, None, [rows], exempt=0.3)
    penalty = ConflictPenalty()
    for _ in range(3):
        penalised = step(model, penalty, [rows], exempt=0.3)
        assert all(torch.equal(penalised[name], plain[name]) for name in NAMES)
    assert set(penalty.detect().factors.values()) == {1.0}


def test_one_norm_ten_times_the_others_scales_that_encoder_alone(rows: torch.Tensor) -> None:
    model = Toy((1.0, 10.0, 1.0))
    plain = step(model, None, [rows])
    penalised = step(model, ConflictPenalty(threshold=2, alpha=0.2), [rows])
    torch.testing.assert_close(penalised["audio"], (1 - math.tanh(0.2 * (10 / 2 - 1))) * plain["audio"])
    assert torch.equal(penalised["text"], plain["text"])
    assert torch.equal(penalised["video"], plain["video"])


def test_the_factor_falls_with_the_ratio_to_the_floor() -> None:
    found = [
        factors({"text": ratio, "audio": 1.0}, threshold=2, alpha=0.5, floor=0.2)["text"]
        for ratio in (1.0, 2.0, 2.5, 4.0, 6.0, 10.0, 1e6, math.inf)
    ]
    assert found[:2] == [1.0, 1.0]
    assert found[1] > found[2] > found[3] > found[4] >= found[5] == found[6] == found[7] == 0.2


def test_the_factor_is_continuous_at_the_threshold() -> None:
    assert factors({"text": 2.0001, "audio": 1.0}, 2.0, 0.5, 0.1)["text"] == pytest.approx(1, abs=1e-4)


def test_ratios_are_over_the_mean_of_the_others() -> None:
    assert ratios({"text": 6.0, "audio": 1.0, "video": 2.0}) == {"text": 4.0, "audio": 0.25, "video": 2 / 3.5}
    assert ratios({"text": 0.0, "audio": 0.0}) == {"text": 1.0, "audio": 1.0}
    assert ratios({"text": 5.0}) == {"text": 1.0}
    assert ratios({"text": 5.0, "audio": 0.0}) == {"text": math.inf, "audio": 0.0}


@pytest.mark.parametrize(("epoch", "acts"), [(1, False), (2, True), (3, True), (4, False), (9, False)])
def test_outside_its_epochs_nothing_changes(rows: torch.Tensor, epoch: int, acts: bool) -> None:
    model = Toy((10.0, 1.0, 1.0))
    plain = step(model, None, [rows], exempt=0.3)
    penalty = ConflictPenalty(start_epoch=2, end_epoch=4)
    penalty.begin_epoch(epoch)
    penalised = step(model, penalty, [rows], exempt=0.3)
    assert torch.equal(penalised["text"], plain["text"]) is not acts
    assert penalty.detect().detected


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_exempt_part_is_never_scaled(rows: torch.Tensor, accumulation: int) -> None:
    model = Toy((10.0, 1.0, 1.0))
    pieces = list(rows.chunk(accumulation))
    task = step(model, None, pieces)
    both = step(model, None, pieces, exempt=0.3)
    penalty = ConflictPenalty(accumulation=accumulation)
    penalised = step(model, penalty, pieces, exempt=0.3)
    factor = penalty.detect().factors["text"]
    assert factor < 0.9
    torch.testing.assert_close(penalised["text"], factor * task["text"] + (both["text"] - task["text"]))
    torch.testing.assert_close(penalised["audio"], both["audio"])


def test_four_micro_batches_are_one_batch(rows: torch.Tensor) -> None:
    model = Toy((10.0, 1.0, 3.0))
    one, four = ConflictPenalty(), ConflictPenalty(accumulation=4)
    for _ in range(3):
        whole = step(model, one, [rows], exempt=0.3)
        cut = step(model, four, list(rows.chunk(4)), exempt=0.3)
        for name in NAMES:
            torch.testing.assert_close(whole[name], cut[name])
    assert one.averages == pytest.approx(four.averages)


def test_norms_are_means_over_rows_averaged_over_steps(rows: torch.Tensor) -> None:
    penalty = ConflictPenalty(decay=0.9)
    step(Toy((4.0, 1.0, 1.0)), penalty, [rows])
    assert penalty.averages == pytest.approx({"text": 4.0, "audio": 1.0, "video": 1.0})
    step(Toy((14.0, 1.0, 0.0)), penalty, [rows[:2]])
    assert penalty.averages == pytest.approx({"text": 5.0, "audio": 1.0, "video": 0.9})


def test_the_loss_scale_of_mixed_precision_changes_nothing(rows: torch.Tensor) -> None:
    model, penalty = Toy((10.0, 1.0, 1.0)), ConflictPenalty()
    plain = step(model, ConflictPenalty(), [rows], exempt=0.3)
    model.zero_grad()
    features = model.features(rows)
    task, statistics = model.task(features), 0.3 * statistics_of(features)
    penalty.observe(task, features, loss_scale=1024)
    penalty.keep(statistics, model.parameters_by_name(), loss_scale=1024)
    ((task + statistics) * 1024).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad /= 1024
    penalty.apply(model.parameters_by_name())
    for name, found in gradients(model).items():
        torch.testing.assert_close(found, plain[name])


def test_a_step_that_overflowed_leaves_the_averages(rows: torch.Tensor) -> None:
    model, penalty = Toy((4.0, 1.0, 1.0)), ConflictPenalty()
    step(model, penalty, [rows])
    before = dict(penalty.averages)
    features = model.features(rows)
    penalty.observe(model.task(features) * float("inf"), features)
    penalty.apply(model.parameters_by_name())
    assert penalty.averages == before


def test_long_sequences_count_no_more_than_short_ones() -> None:
    pooled = torch.randn(5, 4)
    norms = []
    for steps in (1, 3, 30):
        sequence = pooled[:, None].expand(5, steps, 4).clone().requires_grad_()
        penalty = ConflictPenalty()
        penalty.observe((sequence.mean(1) ** 2).sum(), {"text": sequence})
        norms.append(penalty.detect().norms["text"])
    assert norms[1:] == pytest.approx([norms[0]] * 2)


def test_goes_on_from_its_state(rows: torch.Tensor) -> None:
    model = Toy((10.0, 1.0, 1.0))
    straight = ConflictPenalty(start_epoch=1)
    step(model, straight, [rows])
    resumed = ConflictPenalty(start_epoch=1)
    resumed.load_state_dict(straight.state_dict())
    for penalty in (straight, resumed):
        penalty.begin_epoch(1)
    model.pulls["text"] = 3.0
    wanted, found = step(model, straight, [rows]), step(model, resumed, [rows])
    assert all(torch.equal(wanted[name], found[name]) for name in NAMES)
    assert straight.state_dict() == resumed.state_dict()


def test_names_a_feature_that_the_loss_does_not_depend_on(rows: torch.Tensor) -> None:
    model = Toy((1.0, 1.0, 1.0))
    features = model.features(rows)
    with pytest.raises(ValueError, match="the task loss does not depend on that of 'other'"):
        ConflictPenalty().observe(
            model.task(features), features | {"other": torch.zeros(8, 4, requires_grad=True)}
        )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("threshold", 0.5),
        ("alpha", 0.0),
        ("floor", 0.0),
        ("decay", 1.0),
        ("start_epoch", -1),
        ("end_epoch", -1),
    ],
)
def test_names_a_setting_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{setting}: got {value}"):
        ConflictPenalty(**{setting: value})  # type: ignore[arg-type]


def test_a_conflict_that_later_micro_batches_bring_spares_the_exempt_part_of_all(rows: torch.Tensor) -> None:
    def ended(penalty: ConflictPenalty | None, exempt: float) -> torch.Tensor:
        model = Toy((1.0, 1.0, 1.0))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.1)
        for pull, piece in zip((1.0, 30.0), rows.chunk(2), strict=True):
            model.pulls["text"] = pull
            features = model.features(piece)
            task, statistics = model.task(features), exempt * statistics_of(features)
            if penalty:
                penalty.observe(task, features)
                penalty.keep(statistics, model.parameters_by_name())
            (task + statistics).backward()
        if penalty:
            assert penalty.apply(model.parameters_by_name()).factors["text"] == pytest.approx(0.1)
        return gradients(model)["text"]

    task, both = ended(None, 0.0), ended(None, 0.3)
    torch.testing.assert_close(ended(ConflictPenalty(accumulation=2), 0.3), 0.1 * task + (both - task))
