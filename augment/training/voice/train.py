"""Train a voice converter, on a folder of speech or on puppets of the studio cast.

    accelerate launch -m augment.training.voice.train --config RECIPE.yaml --out DIR
    python -m augment.training.voice.train --config RECIPE.yaml --out DIR --steps 1000

There are recipes in `augment/recipes`; `--help` lists the settings. The loss is that of flow matching, L1, on
the frames after the prompt. Started again with the same folder, training resumes from its last saved state.
The trained converter is in DIR/pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from augment.training.voice.settings import PUPPETS, VoiceTrainingConfig, check_resumable, parse
from pipelines.atomic import write_json
from pipelines.device import check_bfloat16, leave_group, pick
from pipelines.durable.checkpoints import settle_tree, writing
from pipelines.errors import UsageError, call

if TYPE_CHECKING:
    from accelerate import Accelerator

    from augment.training.voice.batches import Batch, Speech
    from augment.training.voice.log import TrainingLog
    from augment.training.voice.trainer import Training

HELD_OUT = (4, 8)  # number and size of the batches for the held-out loss


def run(config: VoiceTrainingConfig, out: Path) -> None:
    """Train to the end, from the newest state if there is one.

    Raises:
        UsageError: If the folder was begun with other settings, or speech or a model cannot be loaded.
    """
    from augment.training.voice.log import TrainingLog
    from augment.training.voice.trainer import Training, initial_converter

    accelerator = _accelerator()
    record = config.record(accelerator.num_processes)
    check_resumable(record, out)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(out / "settings.json", record)
    start = initial_converter(config)
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
        with writing(out / "pipeline"):
            training.pipeline().save_pretrained(out / "pipeline")
            settle_tree(out / "pipeline")
    accelerator.wait_for_everyone()


def _accelerator() -> Accelerator:
    from accelerate import Accelerator, InitProcessGroupKwargs

    # Without `cpu`, several processes on CPUs would each train alone. The timeout is long because the first
    # process may read a folder for hours, while the others wait.
    device = pick("auto")
    timeout = InitProcessGroupKwargs(timeout=timedelta(hours=24))
    accelerator = Accelerator(cpu=device == "cpu", kwargs_handlers=[timeout])
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise UsageError(f"--mixed_precision: got {accelerator.mixed_precision}; takes no or bf16")
    if accelerator.mixed_precision == "bf16":
        check_bfloat16("--mixed_precision: got bf16", device, "no")
    return accelerator


def load_speech(config: VoiceTrainingConfig, folder: Path) -> tuple[Speech, Speech]:
    """The speech to train on and the held-out speech; created in a folder at the first start.

    Raises:
        UsageError: If no speech can be used.
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
    """This process' batches for the remaining steps; the batch of a step does not depend on the others."""
    from torch.utils.data import DataLoader, Dataset

    from augment.training.voice.batches import draw_batch

    config, process = training.config, training.accelerator.process_index

    class Steps(Dataset):
        def __getitem__(self, step: int) -> Batch:
            rng = np.random.default_rng([config.seed, step, process])
            return draw_batch(speech, config.batch_size, rng)

    steps = range(training.step, config.steps)
    return iter(DataLoader(Steps(), batch_size=None, sampler=steps, num_workers=config.workers))


def train(training: Training, speech: Speech, held_out: Speech, log: TrainingLog) -> None:
    """Take the remaining steps; log, save and convert a sample at intervals and at the end."""
    import torch

    from augment.training.voice.batches import draw_batch

    config, accelerator = training.config, training.accelerator
    rng = np.random.default_rng(0)
    validation = [draw_batch(held_out, HELD_OUT[1], rng) for _ in range(HELD_OUT[0])]
    began = time.monotonic() - log.seconds
    losses: list[torch.Tensor] = []
    for batch in batches(speech, training):
        rate = training.rate_factor
        losses.append(training.learn(batch))
        last = training.step == config.steps
        if last or training.step % config.save_every == 0:
            loss = accelerator.reduce(torch.stack(losses).mean(), "mean")
            losses = []
            if accelerator.is_main_process:
                log.add(
                    step=training.step,
                    loss=float(loss),
                    held_out_loss=training.loss_on(validation),
                    rate=rate,
                    seconds=time.monotonic() - began,
                )
            training.save()
        if accelerator.is_main_process and (last or training.step % config.sample_every == 0):
            log.sample(training.pipeline(), held_out.recording(), speech.recording(), training.step)


def main(argv: list[str]) -> None:
    """Train with the settings of the command line."""
    try:
        run(*parse(argv))
    finally:
        leave_group()


if __name__ == "__main__":
    call(main)
