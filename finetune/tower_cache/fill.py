"""Fill a tower cache ahead of training: `python -m finetune.tower_cache.fill --config RECIPE --data
STORE --out DIR`.

Runs the frozen towers on each clip of a store, with the settings of the recipe's section `finetune`; a
fine-tuning with `--finetune.tower_cache DIR` then never runs them. Under `accelerate launch -m` each process
takes its share. Clips that are in the cache already are skipped.
"""

from __future__ import annotations

from dataclasses import replace

from finetune.settings import FinetuneConfig
from pipelines.device import pick, share
from pipelines.errors import UsageError, call
from pipelines.row import digest
from pipelines.running.outputs import check_output
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader


def main(argv: list[str]) -> None:
    """Fill a cache."""
    fill(parse_stage(FinetuneConfig, "finetune", argv, prog="python -m finetune.tower_cache.fill"))


def fill(invocation: Invocation[FinetuneConfig]) -> dict[str, int]:
    """Run the towers on this process' share of a store.

    Returns:
        How many media were `found` in the cache and how many were `missing`.

    Raises:
        UsageError: If the settings train the towers.
    """
    from finetune.model.loading import load_base
    from finetune.model.saved_model import base_dtype, encoder_of
    from finetune.tower_cache.frozen_towers import FrozenTowers, frozen_towers

    config = replace(invocation.config, tower_cache=str(invocation.out))
    if not config.towers_are_frozen:
        raise UsageError(
            f"finetune.adapt: got {', '.join(config.adapt)}; only frozen towers can be cached,"
            " take language alone"
        )
    check_output(invocation.out, {"--data": invocation.data})
    base = load_base(config.model, config.revision, dtype=base_dtype(config), max_pixels=config.max_pixels)
    base.thinker.to(pick(config.device))
    encoder = frozen_towers(encoder_of(base, config), base.thinker, config, invocation.out)
    assert isinstance(encoder, FrozenTowers)
    reader, mine = StoreReader(invocation.data), share()
    own = [row_id for row_id in reader.table["id"].to_pylist() if mine.holds(digest(row_id))]
    for start in range(0, len(own), config.batch_size):
        batch = own[start : start + config.batch_size]
        encoder.many([reader.row(reader.index_of(row_id)) for row_id in batch])
    encoder.cache.flush()
    lookups = dict.fromkeys(("missing", "found"), 0) | encoder.cache.lookups
    print(f"{invocation.out}: {lookups['missing']} media encoded, {lookups['found']} found")
    return lookups


if __name__ == "__main__":
    call(main)
