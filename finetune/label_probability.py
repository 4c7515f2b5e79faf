"""How probable an untuned model finds each row's label: a signal for the scorer, in a file.

    python -m finetune.label_probability --config RECIPE.yaml --data AUGMENTED --out labels.parquet

The model is the one that the recipe's section `finetune` names, as it is before any training, with the
head `levels` or `answer`. Rows of the split train are asked about, each by itself, and no others.
`score.label_probability` takes the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.settings import FinetuneConfig
from pipelines.atomic import write_table
from pipelines.errors import UsageError, call
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader

if TYPE_CHECKING:
    import torch

    from finetune.model.regressor import SentimentModel

UNTRAINED_HEADS = ("levels", "answer")
"""Those that a model has without training."""


def main(argv: list[str]) -> None:
    """Ask the model and write the file."""
    run(parse_stage(FinetuneConfig, "finetune", argv, prog="python -m finetune.label_probability"))


def run(invocation: Invocation[FinetuneConfig]) -> None:
    """Write the log probability of each training row's label to the file `invocation.out`.

    Raises:
        UsageError: If the head is one that needs training.
        RunError: If no row can be asked about, or rows have several scales.
    """
    from torch.utils.data import DataLoader

    from finetune.inputs.dataset import Collator, EncodedRows, TrainingRows, select
    from finetune.inputs.scales import common_scale
    from finetune.model.saved_model import build
    from pipelines.device import pick

    config = invocation.config
    if config.head not in UNTRAINED_HEADS:
        raise UsageError(
            f"finetune.head: got {config.head}, which tells nothing before it is trained;"
            f" take {' or '.join(UNTRAINED_HEADS)}"
        )
    reader = StoreReader(invocation.data)
    selection = select(reader, "uniform", invocation.seed)
    model, encoder = build(config, common_scale(reader, selection.ids), seed=invocation.seed)
    model = model.to(pick(config.device)).eval()
    rows = TrainingRows(selection, EncodedRows(reader, encoder, 0), getattr(model.head, "answer", None))
    collator = Collator(encoder.processor.tokenizer.pad_token_id)
    found: list[float] = []
    for batch in DataLoader(rows, config.batch_size, collate_fn=collator):
        found += log_probabilities(model, batch)
    _write(invocation.out, selection.ids, found)
    print(f"label_probability: {len(found)} rows, written to {invocation.out}", flush=True)


def log_probabilities(model: SentimentModel, batch: dict[str, Any]) -> list[float]:
    """Natural logarithms of the probabilities that a model gives the labels of a batch.

    Of `levels`, the mean of the label's two nearest digits by how near they are; of `answer`, the mean over
    the tokens of the written label.

    Args:
        model: In evaluation mode.
        batch: As `finetune.inputs.dataset.Collator` makes it.
    """
    import torch

    device = next(model.parameters()).device
    asked: dict[str, torch.Tensor] = {
        name: value.to(device) for name, value in batch.items() if name not in ("weights", "kinds")
    }
    with torch.no_grad():
        losses: list[float] = (-model(**asked)).float().tolist()
    return losses


def _write(path: Path, ids: Sequence[str], found: Sequence[float]) -> None:
    import pyarrow

    table = pyarrow.table({"id": ids, "log_probability": pyarrow.array(found, pyarrow.float32())})
    write_table(path, table)


if __name__ == "__main__":
    call(main)
