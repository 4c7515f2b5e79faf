"""The statistical loss (SL): the predicted mean and deviation of an encoder's input against the true ones.

Comparing predicted distribution statistics with empirical ones of the input is published (arXiv:2605.28575);
taking the mean and the logarithm of the standard deviation over time of each input dimension is our choice.
An encoder that ignores its input, because another modality explains the labels faster, cannot predict them.
"""

from __future__ import annotations

import torch

# A lower limit of deviations of standardized input, so that a constant dimension has a finite logarithm.
SMALLEST_DEVIATION = 1e-2


def masked_statistics(values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log standard deviation over time, under a mask.

    Args:
        values: (B, T, d). Hidden values may be anything, NaN too.
        mask: (B, T), true where there is input.

    Returns:
        Both (B, d); the population's deviation, at least `SMALLEST_DEVIATION`. A row without input has
        the mean 0.
    """
    shown = mask.to(values.dtype)  # (B, T)
    count = shown.sum(1, keepdim=True).clamp_min(1)  # (B, 1)
    own = values.masked_fill(~mask[..., None], 0)
    mean = torch.einsum("bt,btd->bd", shown, own) / count
    own.sub_(mean[:, None]).square_()  # in place, since this is done at each step to large inputs
    deviation = (torch.einsum("bt,btd->bd", shown, own) / count).sqrt()
    return mean, deviation.clamp_min(SMALLEST_DEVIATION).log()


def statistical_loss(
    mean: torch.Tensor, log_deviation: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """‖μ̂ − μ‖²/d + ‖log σ̂ − log σ‖²/d of one modality, for each row.

    Args:
        mean: Predicted means μ̂, (B, d).
        log_deviation: Predicted log standard deviations log σ̂, (B, d).
        values: The standardized input, (B, T, d); it gets no gradient.
        mask: (B, T), true where there is input.

    Returns:
        At least 0, (B,); 0 for exact statistics, and for a row without input.

    Raises:
        ValueError: If the shapes do not fit.
    """
    shape = (values.shape[0], values.shape[-1])
    if mean.shape != shape or log_deviation.shape != shape or mask.shape != values.shape[:2]:
        raise ValueError(
            f"mean {tuple(mean.shape)}, log_deviation {tuple(log_deviation.shape)}, mask {tuple(mask.shape)}"
            f" do not fit values {tuple(values.shape)}; expected (B, d), (B, d), (B, T) and (B, T, d)"
        )
    true_mean, true_log = masked_statistics(values.detach(), mask)
    squares = (mean - true_mean) ** 2 + (log_deviation - true_log) ** 2
    return squares.mean(-1) * mask.any(1)
