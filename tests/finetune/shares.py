"""What each of two processes holds of a model that is cut up, and what the model then says.

`python -m tests.finetune.shares THINKER` prints a line of JSON from each process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from finetune.inputs import collate
from finetune.omni import adapted
from finetune.settings import FinetuneConfig
from finetune.sharding import shard
from tests.finetune.family_inputs import BUDGET, clip, load


def main(argv: list[str]) -> None:
    """Ask the model before and after it is cut up."""
    state = PartialState(cpu=True)
    base = load(Path(argv[0]))
    rater = adapted(base, FinetuneConfig(lora_rank=2), "mosi", seed=0)
    torch.nn.init.normal_(rater.readout.head.weight, generator=torch.Generator().manual_seed(0))
    encoder = base.encoder(BUDGET, None)
    batch = collate(encoder.many([clip(0.8, state.process_index)]), base.processor.tokenizer.pad_token_id)
    whole = rater(**batch).item()
    shard(rater, state.device, state.num_processes)
    rater(labels=torch.ones(1), **batch).sum().backward()
    layers = [
        value
        for name, value in rater.named_parameters()
        if "language_model.layers" in name and not value.requires_grad
    ]
    trained = [value for value in rater.parameters() if value.requires_grad]
    told = {
        "all": sum(value.numel() for value in layers),
        "held": sum(value.to_local().numel() for value in layers),
        "trained_whole": not any(hasattr(value, "placements") for value in trained),
        "gradients": sum(value.grad is not None for value in trained) / len(trained),
        "whole": whole,
        "cut": rater(**batch).item(),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
