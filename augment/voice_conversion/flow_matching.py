"""Flow matching: the training target, and integration of the learned field by Euler's method.

Time t runs from 0, noise, to 1, data. On the straight path between noise z and data x,
y = (1 - (1 - σ) t) z + t x, the velocity is x - (1 - σ) z.

References:
    Lipman et al. 2023, "Flow matching for generative modeling", arXiv:2210.02747, example II.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Field = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Velocity of a state (batch, ...) at a time (batch,), shaped like the state."""

SIGMA = 1e-6


def interpolate(
    data: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The point on the path from noise to data at a time, and its velocity.

    Args:
        data: (batch, ...).
        noise: Like `data`.
        time: In [0, 1], (batch,).
    """
    time = time.view(-1, *[1] * (data.dim() - 1))
    return (1 - (1 - SIGMA) * time) * noise + time * data, data - (1 - SIGMA) * noise


def euler(field: Field, start: torch.Tensor, steps: int) -> torch.Tensor:
    """Follow a field from t = 0 to t = 1 in uniform steps.

    Args:
        field: The velocity.
        start: The state at t = 0, (batch, ...).
        steps: At least 1.
    """
    if steps < 1:
        raise ValueError(f"num_inference_steps: {steps} is not positive; take 4 to 50")
    state = start
    for step in range(steps):
        time = torch.full((len(start),), step / steps, device=start.device, dtype=start.dtype)
        state = state + field(state, time) / steps
    return state


def guided(conditional: Field, unconditional: Field, scale: float) -> Field:
    """The field (1 + scale) · conditional − scale · unconditional; of scale 0, `conditional` itself.

    References:
        Ho and Salimans 2022, "Classifier-free diffusion guidance", arXiv:2207.12598.
    """
    if scale == 0:
        return conditional
    return lambda state, time: (1 + scale) * conditional(state, time) - scale * unconditional(state, time)
