"""What the shipped thinker was taught, and that the shipped checkpoint is whole."""

from __future__ import annotations

from pathlib import Path

import torch

from finetune.inputs.batch import Budget
from finetune.model.loading import CHECKPOINTS, load_base
from tests import tiny


def test_the_shipped_checkpoint_loads_and_is_small() -> None:
    base = load_base("embedded", None, dtype=torch.float32, max_pixels=None)
    encoded = base.encoder(Budget(video_fps=4, max_frames=8, max_audio_s=4), ("text", "audio", "video"))(
        tiny.row(0)
    )
    assert encoded.video_grid_thw is not None
    assert base.processor.tokenizer.decode(encoded.input_ids).count("<|im_end|>") == 2
    files = list((Path(CHECKPOINTS) / "thinker").iterdir())
    assert sum(path.stat().st_size for path in files) < 12 * 2**20
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl")]
