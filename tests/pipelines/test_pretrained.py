"""What is said where a pre-trained model cannot be loaded, and whose fault it is."""

from __future__ import annotations

import pytest
import torch

from pipelines.errors import UsageError
from pipelines.pretrained import Pretrained

MODEL = Pretrained(setting="score.models.image", name="nowhere", advice="takes a Hub id or a folder")


def test_what_a_library_raises_is_one_line_with_the_setting() -> None:
    with (
        pytest.raises(
            UsageError, match=r"^score.models.image: 'nowhere' cannot be loaded \(bad\); takes a Hub id"
        ),
        MODEL.explained(),
    ):
        raise RuntimeError("bad\nand more")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_device_that_is_full_is_not_the_models_fault(error: Exception) -> None:
    with pytest.raises(type(error)), MODEL.explained():
        raise error
