"""Speed of training the fusion model, compared with MMSA's MulT, and the cost of its balancing.

    python -m benchmarks.fusion.speed --out DIR [--steps 60] [--mult-steps 3] [--threads 1]

**MulT.** Forward pass, backward pass and optimizer step on the same random arrays of the size of MOSI's
unaligned features, with MMSA's default settings for MulT on MOSI. MMSA is no dependency; without it, only
ours is measured. Install it with `pip install MMSA` in a separate environment.

**Overhead.** The same network without gradient norms and statistical loss, and with more and more of
them. Steps alternate, so that other programs on the machine affect all alike; figures are medians of the
ratios per turn.

Writes `benchmark.json` and `benchmark.md`; every figure is of one run on one machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks.commands import require_at_least, table, write_report
from finetune.fusion.balancing.observation import Observation
from finetune.fusion.features.arrays import FeatureSet, Sequences, Split, cleaned
from finetune.fusion.settings import (
    BalanceSettings,
    ConflictSettings,
    LossSettings,
    NetworkSettings,
    TrainingSettings,
)
from finetune.fusion.total_loss import Batch, batch_of
from finetune.fusion.training import Trainer, make_network
from finetune.gradient_norms import Conflict
from pipelines.errors import call

CLIPS, BATCH = 1284, 16  # size of MOSI's training split; MMSA's batch size for MulT
SHAPES = {"text": (50, 768), "audio": (500, 5), "video": (375, 20)}
BATCHES = 4  # different batches, used in turn
WARM_UP = 3
PER_TURN = 10  # our steps per step of MulT
INSTALL = "pip install MMSA==2.2.1"

Step = Callable[[int], object]

# The section `conflict`, and the weight of the statistical loss. With a threshold of 1 every step is a
# conflict, with a huge one none.
BOOKKEEPING: dict[str, tuple[ConflictSettings, float]] = {
    "norms": (ConflictSettings(penalty=False), 0.0),
    "norms, statistical loss": (ConflictSettings(penalty=False), 0.1),
    "both, no conflict": (ConflictSettings(threshold=1e9), 0.1),
    "both, a conflict at every step": (ConflictSettings(threshold=1.0), 0.1),
}


def main(argv: list[str]) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60, help="our steps of each kind (default: 60)")
    parser.add_argument("--mult-steps", type=int, default=3, help="steps of MulT (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options = parser.parse_args(argv)
    require_at_least(options, steps=1, mult_steps=1, threads=1)
    torch.set_num_threads(options.threads)
    report = measured(options.steps, options.mult_steps)
    write_report(options.out, report, markdown(report))


def measured(steps: int, mult_steps: int) -> dict[str, Any]:
    """All figures."""
    features = made_features(BATCHES * BATCH)
    rows = np.arange(BATCHES * BATCH).reshape(BATCHES, BATCH)
    batches = [batch_of(features.splits["train"], each, torch.device("cpu")) for each in rows]
    kinds = {"plain": trainer_step(features, batches, None)}
    kinds |= {name: trainer_step(features, batches, parts) for name, parts in BOOKKEEPING.items()}
    seconds = turn_by_turn(kinds, steps)
    plain = seconds.pop("plain")
    step_s = float(np.median(seconds["both, a conflict at every step"]))
    return {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "steps": steps,
        "step_s": {"plain": float(np.median(plain)), "both, a conflict at every step": step_s},
        "epoch_s": step_s * -(-CLIPS // BATCH),
        "bookkeeping": {name: float(np.median(each / plain) - 1) for name, each in seconds.items()},
        "mult": compare_with_mult(batches, mult_steps, kinds["both, a conflict at every step"]),
    }


def made_features(clips: int) -> FeatureSet:
    """Noise of the size of MOSI's unaligned features, every clip at full length."""
    rng = np.random.default_rng(0)
    missing = np.full(clips, np.nan, dtype=np.float32)
    split = Split(
        ids=[str(number) for number in range(clips)],
        features={
            name: Sequences(
                values=rng.normal(size=(clips, *shape)).astype(np.float32),
                mask=np.ones((clips, shape[0]), dtype=bool),
            )
            for name, shape in SHAPES.items()
        },
        labels=rng.uniform(-3, 3, size=clips).astype(np.float32),
        unimodal=dict.fromkeys(SHAPES, missing),
        weights=np.ones(clips, dtype=np.float32),
    )
    return cleaned({"train": split, "valid": split, "test": split}, "mosi")


class _NoBalance:
    """Observes and changes nothing."""

    def observe(self, observation: Observation) -> None:
        pass

    def apply(self) -> Conflict:
        return Conflict(norms={}, ratios={}, factors={}, detected=False)


def trainer_step(
    features: FeatureSet, batches: list[Batch], parts: tuple[ConflictSettings, float] | None
) -> Step:
    """Our step on one of the batches; without balancing if `parts` is None."""
    conflict, statistics = parts or (ConflictSettings(), 0.0)
    torch.manual_seed(0)
    trainer = Trainer(
        make_network(features, NetworkSettings()),
        features,
        training=TrainingSettings(batch_size=BATCH, device="cpu"),
        losses=LossSettings(statistics=statistics),
        conflict=conflict,
        balance=BalanceSettings(),
        accelerator=Accelerator(cpu=True),
        seed=0,
    )
    if parts is None:
        trainer.balance = _NoBalance()  # type: ignore[assignment]
    trainer.network.train()
    return lambda number: trainer.step([batches[number % len(batches)]])


def turn_by_turn(kinds: dict[str, Step], turns: int) -> dict[str, np.ndarray]:
    """Seconds of each kind's step in each turn, (turns,); the order rotates."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    names = list(kinds)
    for turn in range(-WARM_UP, turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds = _seconds(kinds[name], turn)
            if turn >= 0:
                times[name].append(seconds)
    return {name: np.array(values) for name, values in times.items()}


def _seconds(step: Step, number: int) -> float:
    started = time.perf_counter()
    step(number)
    return time.perf_counter() - started


def compare_with_mult(batches: list[Batch], steps: int, ours: Step) -> dict[str, Any] | None:
    """Time of MulT's step, and ours as a share of it; None if MMSA is not installed."""
    if importlib.util.find_spec("MMSA") is None:
        return None
    step = mult_step(batches)
    step(0)
    turns = [
        (_seconds(step, turn), np.median([_seconds(ours, number) for number in range(PER_TURN)]))
        for turn in range(steps)
    ]
    seconds = float(np.median([theirs for theirs, _ in turns]))
    share = float(np.median([own / theirs for theirs, own in turns]))
    return {"steps": steps, "step_s": seconds, "epoch_s": seconds * -(-CLIPS // BATCH), "share": share}


def mult_step(batches: list[Batch]) -> Step:
    """A training step of MMSA's MulT with its default settings for MOSI."""
    from MMSA import get_config_regression
    from MMSA.models.singleTask.MULT import MULT

    settings = get_config_regression("mult", "mosi")
    settings.train_mode = "regression"
    torch.manual_seed(0)
    model = MULT(settings).train()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        optimizer.zero_grad()
        rated = model(batch.values["text"], batch.values["audio"], batch.values["video"])["M"]
        (rated.squeeze(-1) - batch.labels).abs().mean().backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), settings.grad_clip)
        optimizer.step()

    return step


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    plain, full = report["step_s"].values()
    shapes = ", ".join(f"{name} {steps}×{size}" for name, (steps, size) in SHAPES.items())
    rows = [["ours, a conflict at every step", f"{1000 * full:.0f} ms", f"{report['epoch_s']:.1f} s"]]
    mult, comparison = (
        report["mult"],
        f"MulT was not measured: MMSA is not installed; {INSTALL}, and start again.",
    )
    if mult:
        name = f"MMSA's MulT ({mult['steps']} steps)"
        rows.append([name, f"{mult['step_s']:.2f} s", f"{mult['epoch_s']:.0f} s"])
        comparison = f"Ours takes 1/{1 / mult['share']:.0f} of MulT's time."
    overhead = [[name, f"{share:+.1%}"] for name, share in report["bookkeeping"].items()]
    parts = [
        f"Arrays of MOSI's size ({CLIPS:,} clips, {shapes}), batch {BATCH}, {report['threads']} thread(s),"
        f" medians of {report['steps']} steps.",
        table(["", "a step", "an epoch"], rows),
        comparison,
        table([f"over the same network with neither ({1000 * plain:.0f} ms)", ""], overhead),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    call(main)
