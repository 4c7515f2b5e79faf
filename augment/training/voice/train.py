"""Train a voice converter, on a folder of speech or on puppets of the studio cast.

    accelerate launch -m augment.training.voice.train --config RECIPE.yaml --out DIR
    python -m augment.training.voice.train --config RECIPE.yaml --out DIR --steps 1000

`augment/recipes` has recipes; `--help` tells the settings. The loss is flow matching's, L1, on the frames
behind the prompt. Stopped and started again with the same folder, training goes on where it was saved last.
The product is in DIR/pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from augment.training.voice.settings import PUPPETS, VoiceTrainingConfig, check_same, parse, write_settings
from pipelines.device import check_bfloat16, leave_group, pick
from pipelines.errors import UsageError, call

if TYPE_CHECKING:
    from accelerate import Accelerator

    from augment.training.voice.batches import Batch, Speech
    from augment.training.voice.log import TrainingLog
    from augment.training.voice.trainer import Training

HELD_OUT = (4, 8)
"""Batches that the held-out loss is of, and their size."""


def run(config: VoiceTrainingConfig, out: Path) -> None:
    """Train to the end, from the newest state if there is one.

    Raises:
        UsageError: If the folder was begun with other settings, or if speech or a model cannot be had.
    """
    from augment.training.voice.log import TrainingLog
    from augment.training.voice.trainer import Training, begun

    accelerator = _accelerator()
    check_same(config, accelerator.num_processes, out)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_settings(config, accelerator.num_processes, out)
    start = begun(config)
    with accelerator.main_process_first():
        speech, held_out = load_speech(config, out / "speech")
    training = Training(start, config, accelerator, out / "states")
    log = TrainingLog(out, training.step)
    if accelerator.is_main_process:
        print(
            f"{accelerator.num_processes} process(es) on {accelerator.device.type}, precision"
            f" {accelerator.mixed_precision}, {sum(each.numel() for each in training.parameters):,} trained"
            f" numbers, from step {training.step} to {config.steps}",
            flush=True,
        )
    train(training, speech, held_out, log)
    if accelerator.is_main_process:
        training.pipeline().save_pretrained(out / "pipeline")
    accelerator.wait_for_everyone()


def _accelerator() -> Accelerator:
    from accelerate import Accelerator, InitProcessGroupKwargs

    # Untold of CPUs, processes on them would each train alone. The first may read a folder for hours, while
    # the others wait.
    device = pick("auto")
    accelerator = Accelerator(
        cpu=device == "cpu",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=24))],
    )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UsageError(f"--mixed_precision: got {accelerator.mixed_precision}; takes no or bf16")
    if accelerator.mixed_precision == "bf16":
        check_bfloat16("--mixed_precision: got bf16", device, "no")
    return accelerator


def load_speech(config: VoiceTrainingConfig, folder: Path) -> tuple[Speech, Speech]:
    """What is trained on and what is held out, made or read into a folder at the first start.

    Raises:
        UsageError: If there is no speech that can be used.
    """
    if config.speech == PUPPETS:
        from augment.training.voice.puppet_speech import Takes, load_takes, make_takes

        speech, held_out, takes = folder / "puppets.npz", folder / "held_out.npz", config.takes
        folder.mkdir(parents=True, exist_ok=True)
        if not speech.exists():
            make_takes(speech, takes=takes, voices=max(12, takes // 2), seed=config.seed)
        if not held_out.exists():
            make_takes(held_out, takes=8, voices=24, seed=config.seed + 776)
        return Takes(load_takes(speech), config.seed), Takes(load_takes(held_out), config.seed)
    from augment.training.voice.speech_corpus import read_folder, split

    read_folder(Path(config.speech), folder)
    return split(folder, config.seed)


def batches(speech: Speech, training: Training) -> Iterator[Batch]:
    """This process' batches of the steps that are left; a step's batch is the same whenever it is drawn."""
    from torch.utils.data import DataLoader, Dataset

    config, process = training.config, training.accelerator.process_index

    class Steps(Dataset):
        def __getitem__(self, step: int) -> Batch:
            return speech.batch(config.batch_size, np.random.default_rng([config.seed, step, process]))

    steps = range(training.step, config.steps)
    return iter(DataLoader(Steps(), batch_size=None, sampler=steps, num_workers=config.workers))


def train(training: Training, speech: Speech, held_out: Speech, log: TrainingLog) -> None:
    """Take the steps that are left; log, save and convert a sample now and then, and at the end."""
    import torch

    config, accelerator = training.config, training.accelerator
    fixed = np.random.default_rng(0)
    known = [held_out.batch(HELD_OUT[1], fixed) for _ in range(HELD_OUT[0])]
    began = time.monotonic() - log.seconds
    losses: list[torch.Tensor] = []
    for batch in batches(speech, training):
        rate = training.share
        losses.append(training.learn(batch))
        last = training.step == config.steps
        if last or training.step % config.save_every == 0:
            loss = accelerator.reduce(torch.stack(losses).mean(), "mean")
            losses = []
            if accelerator.is_main_process:
                log.add(
                    step=training.step,
                    loss=float(loss),
                    held_out_loss=training.loss_on(known),
                    rate=rate,
                    seconds=time.monotonic() - began,
                )
            training.save()
        if accelerator.is_main_process and (last or training.step % config.sample_every == 0):
            log.sample(training.pipeline(), held_out.sound(), speech.sound(), training.step)


def main(argv: list[str]) -> None:
    """Train as the command line says."""
    try:
        run(*parse(argv))
    finally:
        leave_group()


if __name__ == "__main__":
    call(main)
