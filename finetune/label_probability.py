"""The probability of each row's label under an untuned model: a signal for the scorer, in a file.

    python -m finetune.label_probability --config RECIPE.yaml --data AUGMENTED --out labels.parquet

The model is that of the recipe's section `finetune` before any training, with the head `levels` or `answer`.
Each row of the split train is rated by itself, and no others. `score.label_probability` takes the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.settings import FinetuneConfig
from pipelines.atomic import write_table
from pipelines.errors import UsageError, call
from pipelines.running.outputs import check_file
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader

if TYPE_CHECKING:
    from finetune.model.regressor import SentimentModel

UNTRAINED_HEADS = ("levels", "answer")
"""Heads that work without training."""


def main(argv: list[str]) -> None:
    """Compute the probabilities and write the file."""
    run(parse_stage(FinetuneConfig, "finetune", argv, prog="python -m finetune.label_probability"))


def run(invocation: Invocation[FinetuneConfig]) -> None:
    """Write the log probability of each training row's label to the file `invocation.out`.

    Raises:
        UsageError: If the head needs training, or the file cannot be written or is not to be replaced.
        RunError: If there is no training row, or rows have several scales.
    """
    import pyarrow
    from torch.utils.data import DataLoader

    from finetune.inputs.dataset import Collator, EncodedRows, TrainingRows, select
    from finetune.inputs.scales import common_scale
    from finetune.model.saved_model import build
    from pipelines.device import pick

    config = invocation.config
    if config.head not in UNTRAINED_HEADS:
        raise UsageError(
            f"finetune.head: got {config.head}, which means nothing before it is trained;"
            f" take {' or '.join(UNTRAINED_HEADS)}"
        )
    check_file(invocation.out, {"--data": invocation.data}, overwrite=invocation.overwrite)
    reader = StoreReader(invocation.data)
    selection = select(reader, "uniform", invocation.seed)
    model, encoder = build(config, common_scale(reader, selection.ids), seed=invocation.seed)
    model = model.to(pick(config.device)).eval()
    rows = TrainingRows(selection, EncodedRows(reader, encoder, 0), getattr(model.head, "answer", None))
    collator = Collator(encoder.processor.tokenizer.pad_token_id)
    values: list[float] = []
    for batch in DataLoader(rows, config.batch_size, collate_fn=collator):
        values += log_probabilities(model, batch)
    columns = {"id": selection.ids, "log_probability": pyarrow.array(values, pyarrow.float32())}
    write_table(invocation.out, pyarrow.table(columns))
    print(f"label_probability: {len(values)} rows, written to {invocation.out}", flush=True)


def log_probabilities(model: SentimentModel, batch: dict[str, Any]) -> list[float]:
    """Natural logarithms of the probabilities that a model gives the labels of a batch.

    For `levels`, the mean over the label's two nearest digits, weighted by nearness; for `answer`, the mean
    over the tokens of the written label.

    Args:
        model: In evaluation mode.
        batch: From `finetune.inputs.dataset.Collator`.
    """
    import torch

    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if name not in ("weights", "kinds")}
    with torch.no_grad():
        return (-model(**inputs)).float().tolist()


if __name__ == "__main__":
    call(main)
