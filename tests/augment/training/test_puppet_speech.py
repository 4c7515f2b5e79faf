"""The puppets that a voice converter is trained on: what they say is parallel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from augment.training.voice.batches import draw_batch
from augment.training.voice.puppet_speech import (
    LOUDNESS,
    PCM,
    Take,
    Takes,
    load_takes,
    make_takes,
    perturbed_mel,
    say_together,
)
from augment.voice_conversion.mel import log_mel
from pipelines.puppets.voice import Voice
from tests.tiny_voices import voiced

torch.set_num_threads(1)

LOW = Voice(pitch_hz=110, liveliness=1, stretch=0.88, tilt_db=0, breath_db=0, pace=1)
HIGH = replace(LOW, pitch_hz=220, stretch=1.1, pace=1.15)


@pytest.fixture(scope="module")
def takes() -> Takes:
    """Two sentences that are no speech, by the same three voices."""
    made = []
    for number in range(2):
        sounds = [torch.from_numpy(voiced(1.8 + 0.1 * number, hertz)) for hertz in (110, 160, 230)]
        mel = log_mel(torch.stack(sounds))
        pitch = torch.tensor([110.0, 160.0, 230.0])[:, None].expand(-1, mel.shape[1])
        made.append(
            Take(
                voices=np.arange(3),
                samples=(torch.stack(sounds) * PCM).short().numpy(),
                mel=mel.half().numpy(),
                pitch=pitch.numpy(),
            )
        )
    return Takes(made, seed=0)


def test_voices_say_a_take_in_the_same_time() -> None:
    low, high = say_together([LOW, HIGH], seed=3)
    assert np.sqrt(np.square(low).mean()) == pytest.approx(LOUDNESS, rel=1e-4)
    envelopes = [(10 ** log_mel(torch.from_numpy(sound).float())).sum(-1).log10() for sound in (low, high)]
    shifted = [
        float(torch.corrcoef(torch.stack([envelopes[0][5:-5], envelopes[1].roll(shift)[5:-5]]))[0, 1])
        for shift in range(-3, 4)
    ]
    assert int(np.argmax(shifted)) == 3, "they are apart"
    assert shifted[3] > 0.95


def test_takes_are_read_as_they_were_made(tmp_path: Path) -> None:
    file = tmp_path / "speech.npz"
    make_takes(file, takes=1, voices=3, seed=0, sounds=2)
    (take,) = load_takes(file)
    assert take.mel.shape[:1] == take.pitch.shape[:1] == take.voices.shape == (2,)
    assert take.mel.shape[1] == take.pitch.shape[1]
    assert [path.name for path in tmp_path.iterdir()] == ["speech.npz"]


def test_a_batchs_source_is_never_the_wanted_voice(takes: Takes) -> None:
    batch = draw_batch(takes, 6, np.random.default_rng(0))
    assert 70 <= batch.mel.shape[1] <= 100
    assert batch.mel.shape == batch.source.shape == batch.prior_mel.shape
    assert batch.prompt.shape == batch.prompt_prior_mel.shape
    assert batch.pitch.shape == batch.mel.shape[:2]
    heard = log_mel(batch.prompt_samples)
    assert heard.shape == batch.prompt.shape
    # Both are of the same samples, but for 16 bits, and for the edges, where the samples end.
    loud = batch.prompt[:, 4:-4] > -2.5
    assert (heard - batch.prompt)[:, 4:-4][loud].abs().max() < 0.03
    # The reference is of the wanted voice.
    assert torch.equal(batch.pitch[:, 0], batch.prompt_pitch[:, 0])
    assert ((batch.source - batch.mel).abs().mean((1, 2)) > 0.05).all()


def test_perturbation_moves_the_spectrum_and_not_the_time(takes: Takes) -> None:
    mel = torch.zeros(8, 30, 80)
    mel[:, 10, 40] = 1
    moved = perturbed_mel(mel, np.random.default_rng(0))
    assert moved.shape == mel.shape
    assert (moved[:, 10].argmax(-1) != 40).any()
    assert (moved[:, 10].amax(-1) > 0.3).all()
    # What was silent has the tilt alone, which is the same in all frames.
    assert torch.equal(moved[:, 0], moved[:, 20])
