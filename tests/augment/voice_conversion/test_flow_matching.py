"""Euler's method and guidance against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch

from augment.voice_conversion import flow_matching


def test_euler_on_a_linear_field_is_the_closed_form() -> None:
    start = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    for steps in (1, 4, 10):
        reached = flow_matching.euler(lambda state, time: -0.7 * state, start, steps)
        torch.testing.assert_close(reached, start * (1 - 0.7 / steps) ** steps)


def test_euler_takes_the_times_at_the_beginning_of_each_step() -> None:
    times: list[float] = []

    def field(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        times.append(float(time[0]))
        return time[:, None].expand_as(state)

    reached = flow_matching.euler(field, torch.zeros(1, 3), 4)
    assert times == [0, 0.25, 0.5, 0.75]
    torch.testing.assert_close(reached, torch.full((1, 3), 1.5 / 4))


def test_the_straight_way_leads_from_noise_to_data_in_one_step() -> None:
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, 3, generator=generator)
    _, velocity = flow_matching.interpolate(data, noise, torch.zeros(2))
    reached = flow_matching.euler(lambda state, time: velocity, noise, 1)
    torch.testing.assert_close(reached, data, atol=1e-5, rtol=0)
    at_the_end, _ = flow_matching.interpolate(data, noise, torch.ones(2))
    torch.testing.assert_close(at_the_end, data, atol=1e-5, rtol=0)


def test_without_guidance_only_the_conditional_field_is_computed() -> None:
    def never(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the unconditional branch was run")

    def conditional(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return 2 * state

    state, time = torch.ones(1, 2), torch.zeros(1)
    assert flow_matching.guided(conditional, never, 0.0) is conditional
    both = flow_matching.guided(conditional, lambda state, time: -state, 0.7)
    torch.testing.assert_close(both(state, time), torch.full((1, 2), 1.7 * 2 + 0.7))


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="num_inference_steps: 0 is not positive"):
        flow_matching.euler(lambda state, time: state, torch.ones(1, 1), 0)
