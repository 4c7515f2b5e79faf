"""Each method against its formula on a tiny model, what all leave alone, and that all go on from a state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import nn

from finetune.fusion.balancing.cggm import shares_of_others
from finetune.fusion.balancing.methods import METHODS, Balance, make_balance
from finetune.fusion.balancing.mmpareto import balanced, task_share
from finetune.fusion.balancing.observation import Observation
from finetune.fusion.balancing.ogm_ge import OgmGe
from finetune.fusion.settings import BalanceSettings, Balancing, ConflictSettings, FusionConfig, LossSettings

NAMES = ("text", "audio", "video")
ALL: tuple[Balancing, ...] = get_args(Balancing)
SCALING = tuple(name for name in ALL if name not in ("none", "mmpareto"))
ERRORS = {"text": 0.5, "audio": 1.0, "video": 2.0}
SCORES = {name: math.exp(-error) for name, error in ERRORS.items()}


class Model(nn.Module):
    """A linear encoder a modality, three losses of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({name: nn.Linear(3, 4) for name in NAMES})
        self.pull = {"text": 10.0, "audio": 1.0, "video": 1.0}

    def parameters_by_name(self) -> dict[str, list[nn.Parameter]]:
        return {name: list(encoder.parameters()) for name, encoder in self.encoders.items()}

    def observation(self, rows: torch.Tensor, errors: dict[str, float] | None = None) -> Observation:
        features = {name: encoder(rows) for name, encoder in self.encoders.items()}
        given = errors or ERRORS
        return Observation(
            task=sum_of(self.pull[name] * feature[:, 0].sum() for name, feature in features.items()),
            auxiliary=sum_of(feature.square().sum() for feature in features.values()),
            statistics=sum_of(0.3 * (feature - 1).square().sum() for feature in features.values()),
            features=features,
            outputs={name: (feature,) for name, feature in features.items()},
            errors={name: torch.full((len(rows),), given[name]) for name in NAMES},
            weights=torch.ones(len(rows)),
        )


def sum_of(values: object) -> torch.Tensor:
    return torch.stack(list(values)).sum()  # type: ignore[call-overload]


def gradients_of(model: Model, loss: Callable[[Observation], torch.Tensor], rows: torch.Tensor) -> dict:
    """By encoder, flat, without any balance."""
    model.zero_grad()
    loss(model.observation(rows)).backward()
    return flat(model)


def flat(model: Model) -> dict[str, torch.Tensor]:
    return {
        name: torch.cat([each.grad.flatten() for each in found if each.grad is not None])
        for name, found in model.parameters_by_name().items()
    }


def step(balance: Balance, model: Model, pieces: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The gradients that a step ends with."""
    model.zero_grad()
    for rows in pieces:
        observation = model.observation(rows)
        balance.observe(observation)
        assert observation.statistics is not None
        (observation.task + observation.auxiliary + observation.statistics).backward()
    balance.apply()
    return flat(model)


def make(model: Model, method: Balancing, accumulation: int = 1, **numbers: float) -> Balance:
    return make_balance(
        BalanceSettings(method=method, **numbers),  # type: ignore[arg-type]
        ConflictSettings(decay=0.0),
        model.parameters_by_name(),
        accumulation=accumulation,
        seed=1,
    )


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def parts(model: Model, rows: torch.Tensor) -> tuple[dict, dict]:
    """What may be scaled and what never is."""
    free = gradients_of(model, lambda found: found.task + found.auxiliary, rows)
    exempt = gradients_of(model, lambda found: found.statistics, rows)  # type: ignore[arg-type, return-value]
    return free, exempt


def check(found: dict, free: dict, exempt: dict, factors: dict[str, float]) -> None:
    for name in NAMES:
        torch.testing.assert_close(found[name], factors[name] * free[name] + exempt[name])


def test_every_method_has_its_place() -> None:
    assert set(METHODS) | {"conflict_penalty", "none"} == set(ALL)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_none_changes_nothing(rows: torch.Tensor, accumulation: int) -> None:
    model = Model()
    pieces = list(rows.chunk(accumulation))
    found = step(make(model, "none", accumulation), model, pieces)
    model.zero_grad()
    for piece in pieces:
        observation = model.observation(piece)
        (observation.task + observation.auxiliary + observation.statistics).backward()  # type: ignore[operator]
    assert all(torch.equal(found[name], value) for name, value in flat(model).items())


@pytest.mark.parametrize("accumulation", [1, 4])
def test_constant_is_its_factor_on_the_first_encoder(rows: torch.Tensor, accumulation: int) -> None:
    model = Model()
    found = step(make(model, "constant", accumulation, constant=0.25), model, list(rows.chunk(accumulation)))
    check(found, *parts(model, rows), {"text": 0.25, "audio": 1.0, "video": 1.0})


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_penalty_is_its_factor_on_the_dominant_encoder(rows: torch.Tensor, accumulation: int) -> None:
    model = Model()
    found = step(make(model, "conflict_penalty", accumulation), model, list(rows.chunk(accumulation)))
    check(found, *parts(model, rows), {"text": 0.1, "audio": 1.0, "video": 1.0})


def quiet(balance: Balance, monkeypatch: pytest.MonkeyPatch) -> Balance:
    """OGM-GE without its noise."""
    zeros = torch.zeros
    monkeypatch.setattr(torch, "randn", lambda shape, generator: zeros(shape))
    return balance


@pytest.mark.parametrize("accumulation", [1, 4])
def test_ogm_ge_slows_what_scores_above_the_others(
    rows: torch.Tensor, accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    free, exempt = parts(model, rows)
    balance = quiet(make(model, "ogm_ge", accumulation, ogm_ge_alpha=0.4), monkeypatch)
    found = step(balance, model, list(rows.chunk(accumulation)))
    others = (SCORES["audio"] + SCORES["video"]) / 2
    text = 1 - math.tanh(0.4 * SCORES["text"] / others)
    assert SCORES["audio"] < (SCORES["text"] + SCORES["video"]) / 2
    check(found, free, exempt, {"text": text, "audio": 1.0, "video": 1.0})


def test_the_noise_of_ogm_ge_has_the_spread_of_the_gradient_before_it_was_scaled() -> None:
    encoder = nn.Linear(400, 300)
    method = OgmGe({"text": list(encoder.parameters()), "audio": []}, alpha=0.4, seed=1)
    method.factors = lambda: {"text": 0.5, "audio": 1.0}  # type: ignore[method-assign]
    given = 3 * torch.randn(300, 400, generator=torch.Generator().manual_seed(2))
    encoder.weight.grad, encoder.bias.grad = 0.5 * given, None
    method.finish()
    noise = encoder.weight.grad - 0.5 * given
    assert float(noise.std()) == pytest.approx(3, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), given.flatten()]))[0, 1])) < 0.02


@pytest.mark.parametrize("accumulation", [1, 4])
def test_cggm_slows_what_has_just_improved(rows: torch.Tensor, accumulation: int) -> None:
    model = Model()
    balance = make(model, "cggm", accumulation, cggm_rate=1.3)
    pieces = list(rows.chunk(accumulation))
    found = step(balance, model, pieces)  # against no score at all
    whole = sum(SCORES.values())
    check(found, *parts(model, rows), {name: 1.3 * (whole - SCORES[name]) / whole for name in NAMES})
    model.observation = lambda rows: Model.observation(model, rows, {"text": 0.4, "audio": 0.9, "video": 3.0})  # type: ignore
    found = step(balance, model, pieces)
    gained = {"text": math.exp(-0.4) - SCORES["text"], "audio": math.exp(-0.9) - SCORES["audio"]}
    whole = sum(gained.values())
    factors = {"text": 1.3 * gained["audio"] / whole, "audio": 1.3 * gained["text"] / whole, "video": 1.3}
    check(found, *parts(model, rows), factors)


def test_where_none_improved_cggm_takes_all_alike() -> None:
    assert shares_of_others({"text": -0.2, "audio": 0.0, "video": -0.1}) == pytest.approx(
        dict.fromkeys(NAMES, 2 / 3)
    )


@pytest.mark.parametrize(
    ("task", "unimodal", "share"),
    [
        ([1.0, 0.0], [1.0, 1.0], 0.5),  # they agree
        ([1.0, 0.0], [-1.0, 1.0], 0.6),  # the foot of the perpendicular on the line between them
        ([4.0, 0.0], [-1.0, 0.1], pytest.approx(5.01 / 25.01)),
        ([1.0, 0.0], [0.0, 1.0], 0.5),
        ([0.0, 0.0], [0.0, 0.0], 0.5),
    ],
)
def test_mmpareto_weighs_by_the_shortest_sum(task: list, unimodal: list, share: float) -> None:
    assert task_share(torch.tensor(task), torch.tensor(unimodal)) == share


def test_what_mmpareto_makes_opposes_neither_and_is_no_shorter_than_their_sum() -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        task, unimodal = torch.randn(6, generator=generator), 3 * torch.randn(6, generator=generator)
        found = balanced(task, unimodal, 1.5)
        assert float(found @ task) > -1e-4
        assert float(found @ unimodal) > -1e-4
        assert float(found.norm()) >= 1.5 * float((task + unimodal).norm()) - 1e-4
    assert torch.equal(balanced(torch.zeros(3), torch.zeros(3), 1.5), torch.zeros(3))


@pytest.mark.parametrize("accumulation", [1, 4])
def test_mmpareto_takes_the_place_of_both_gradients(rows: torch.Tensor, accumulation: int) -> None:
    model = Model()
    found = step(make(model, "mmpareto", accumulation), model, list(rows.chunk(accumulation)))
    task = gradients_of(model, lambda found: found.task, rows)
    unimodal = gradients_of(model, lambda found: found.auxiliary, rows)
    _, exempt = parts(model, rows)
    for name in NAMES:
        torch.testing.assert_close(
            found[name], balanced(task[name], unimodal[name], 1.5) + exempt[name], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("method", ALL)
def test_goes_on_from_its_state(rows: torch.Tensor, method: Balancing) -> None:
    model = Model()
    straight, resumed = make(model, method), make(model, method)
    step(straight, model, [rows])
    resumed.load_state_dict(straight.state_dict())
    wanted = step(straight, model, [rows[:5]])
    found = step(resumed, model, [rows[:5]])
    assert all(torch.equal(found[name], wanted[name]) for name in NAMES)


@pytest.mark.parametrize("method", ["ogm_ge", "cggm", "constant"])
def test_a_modality_that_is_alone_is_not_slowed_by_scores(method: Balancing) -> None:
    encoder = nn.Linear(2, 2)
    found = METHODS[method](
        BalanceSettings(constant=1.0), {"text": list(encoder.parameters())}, 1, lambda x: x
    )
    empty = torch.zeros(())
    found.observe(
        Observation(
            task=empty,
            auxiliary=empty,
            statistics=None,
            features={},
            outputs={},
            errors={"text": torch.ones(3)},
            weights=torch.ones(3),
        )
    )
    assert found.factors() == {"text": 1.0}


@pytest.mark.parametrize("method", ["ogm_ge", "cggm", "mmpareto"])
def test_a_method_that_goes_by_unimodal_heads_wants_them_trained(method: Balancing) -> None:
    with pytest.raises(ValueError, match=f"losses.auxiliary: got 0 with fusion.balance.method {method}"):
        FusionConfig(balance=BalanceSettings(method=method), losses=LossSettings(auxiliary=0))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("constant", 0.0),
        ("constant", 1.5),
        ("ogm_ge_alpha", 0.0),
        ("cggm_rate", -1.0),
        ("mmpareto_gain", 0.0),
    ],
)
def test_names_a_number_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{setting}: got {value}"):
        BalanceSettings(**{setting: value})  # type: ignore[arg-type]
