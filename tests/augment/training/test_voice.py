"""Training a voice converter: it learns, goes on where it stopped, and tells of itself."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from augment.audio.flow_matching_converter import load_converter
from augment.checkpoints import VOICE_CONVERTER
from augment.training.voice import train, trainer
from augment.training.voice.batches import draw_batch
from augment.training.voice.settings import TransformerSettings, VoiceTrainingConfig, parse
from augment.training.voice.train import load_speech, main, run
from augment.training.voice.trainer import DROPPED, Training, flow_loss, initial_converter
from pipelines import media
from pipelines.errors import RunError, UsageError
from pipelines.row import row_seed
from tests import tiny_observers
from tests.damage import DAMAGES
from tests.processes import ROOT, run_two
from tests.tiny_voices import converter, voiced

torch.set_num_threads(1)

RECIPES = ROOT / "augment" / "recipes"
TRANSFORMER = ["--transformer.width", "16", "--transformer.layers", "2", "--transformer.heads", "2"]
SMALL = ["--batch_size", "3", "--save_every", "2", "--sample_every", "4", *TRANSFORMER]
EMBEDDED = ["--content_encoder", "embedded", "--speaker_encoder", "embedded"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three puppets say, two files each."""
    from pipelines.puppets.script import sentence
    from pipelines.puppets.voice import random_voice, render

    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    for speaker in ("anna", "bert", "cleo"):
        voice = random_voice(rng, "studio")
        (folder / speaker).mkdir()
        for number in range(2):
            words = " ".join(sentence(0.0, rng, "studio") for _ in range(3))
            sound = render(words, voice, valence=0.0, rng=rng)
            (folder / speaker / f"{number}.flac").write_bytes(media.encode_audio(sound))
    return folder


def command(speech: Path, out: Path, *more: str) -> list[str]:
    return ["--speech", str(speech), "--out", str(out), *EMBEDDED, *SMALL, *more]


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[tuple[Any, ...]]:
    return [(line["step"], line["loss"], line["held_out_loss"]) for line in log(out)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    files = sorted((out / "pipeline").rglob("*.safetensors"))
    return {f"{file.parent.name}.{name}": value for file in files for name, value in load_file(file).items()}


@pytest.fixture(scope="module")
def trained(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after six steps."""
    out = tmp_path_factory.mktemp("trained")
    main(command(speech, out, "--steps", "6"))
    return out


def stopped_behind(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make training break off in the step behind one."""
    learn = Training.learn

    def learn_or_stop(self: Training, batch: Any) -> torch.Tensor:
        if self.step == step:
            raise KeyboardInterrupt
        return learn(self, batch)

    monkeypatch.setattr(Training, "learn", learn_or_stop)


def test_the_loss_on_held_out_voices_falls(trained: Path) -> None:
    found = [line["held_out_loss"] for line in log(trained)]
    assert [line["step"] for line in log(trained)] == [2, 4, 6]
    assert found[-1] < found[0]


def test_a_step_that_is_not_finite_ends_the_training(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = flow_loss

    def lost(networks: Any, batch: Any, generator: Any, dropped: float) -> torch.Tensor:
        found = plain(networks, batch, generator, dropped)
        return found * math.inf if dropped and len(list(tmp_path.glob("out/states/step-*"))) else found

    monkeypatch.setattr("augment.training.voice.trainer.flow_loss", lost)
    with pytest.raises(RunError, match=r"gradient is not finite in step 3; .*step-00000002 is the newest"):
        main(command(speech, tmp_path / "out", "--steps", "6"))
    (state,) = tmp_path.glob("out/states/step-*/model.safetensors")
    assert all(bool(value.isfinite().all()) for value in load_file(state).values())


def test_stopped_and_started_again_it_is_as_if_it_had_not_been(
    speech: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_behind(5, patch)  # one behind the last saved state
        main(command(speech, tmp_path, "--steps", "6"))
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["step-00000002", "step-00000004"]
    main(command(speech, tmp_path, "--steps", "6"))
    assert losses(tmp_path) == losses(trained)
    one, other = weights(tmp_path), weights(trained)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "cut"),
        ("optimizer.bin", "zeros"),
        ("whole.json", "empty"),
        ("settings.json", "cut"),
    ],
)
def test_a_broken_state_is_passed_over_for_the_one_before_it(
    speech: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: str,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_behind(5, patch)
        main(command(speech, tmp_path, "--steps", "6"))
    newest = tmp_path / "states" / "step-00000004"
    DAMAGES[damage]((tmp_path if name == "settings.json" else newest) / name)
    if name == "settings.json":
        with pytest.raises(UsageError, match=r"^adam_rate: got 0\.5, but the training in .* was begun with"):
            main(command(speech, tmp_path, "--steps", "6", "--adam_rate", "0.5"))
    capsys.readouterr()
    main(command(speech, tmp_path, "--steps", "6"))
    said = capsys.readouterr().out
    assert (f"{newest.name} is not used, and removed" in said) == (name != "settings.json")
    assert f"from step {4 if name == 'settings.json' else 2} to 6" in said
    assert losses(tmp_path) == losses(trained)
    for key, value in weights(tmp_path).items():
        assert torch.equal(value, weights(trained)[key]), key


def test_files_are_made_with_the_users_permissions(trained: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in trained.rglob("*.safetensors")}
    assert modes == {(trained / "settings.json").stat().st_mode & 0o777}


def test_batches_drawn_ahead_are_the_same(speech: Path, trained: Path, tmp_path: Path) -> None:
    main(command(speech, tmp_path, "--steps", "6", "--workers", "1"))
    assert losses(tmp_path) == losses(trained)


def test_samples_and_figures_are_there(trained: Path) -> None:
    assert (trained / "losses.svg").read_text(encoding="utf-8").count("<svg") == 1
    names = {file.name for file in (trained / "samples").iterdir()}
    made = {f"step-{step:08d}.{kind}" for step in (4, 6) for kind in ("flac", "png")}
    assert names == made | {"source.flac", "reference.flac"}
    source, last = (
        media.read_audio(trained / "samples" / name) for name in ("source.flac", "step-00000006.flac")
    )
    assert source.shape == last.shape
    assert np.abs(source - last).max() > 0.01


def test_the_product_is_the_average_and_converts(trained: Path) -> None:
    pipeline = load_converter(str(trained / "pipeline"), None, "cpu")
    made = pipeline(voiced(0.5, 120), voiced(0.5, 220), sampling_rate=16_000, num_inference_steps=2)
    assert np.isfinite(made).all()
    kept = torch.load(trained / "states" / "step-00000006" / "custom_checkpoint_0.pkl", weights_only=True)
    average = pipeline.transformer.state_dict()
    assert all(torch.equal(value, kept[f"transformer.{name}"]) for name, value in average.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "9"], "steps: got 9, but the training in .* was begun with 6"),
        (["--steps", "6", "--batch_size", "4"], "batch_size: got 4, .* begun with 3; take that, or another"),
        (["--steps", "6", "--start", "embedded"], "content_encoder: got 'embedded' beside start: embedded"),
    ],
)
def test_another_recipe_is_refused(speech: Path, trained: Path, more: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(command(speech, trained, *more))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--out: not given"),
        (["--out", "o", "--steps", "0"], "steps: 0 is too small; take 1 or more"),
        (["--out", "o", "--adam_rate", "0"], "adam_rate: 0.0 is too small; take more than 0"),
        (["--out", "o", "--sppech", "x"], "sppech"),
        (["--out", "o", "--transformer.width", "100", "--transformer.heads", "8"], "a multiple of 16"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_command_lines_that_cannot_be_followed(more: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(more)


def test_an_unknown_key_of_a_recipe_is_an_error(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("speach: puppets\n")
    with pytest.raises(UsageError, match="speach"):
        parse(["--config", str(recipe), "--out", "o"])


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_taken(recipe: Path) -> None:
    config, out = parse(["--config", str(recipe), "--out", "o", "--steps", "7"])
    assert (config.steps, out) == (7, Path("o"))
    with pytest.raises(SystemExit) as ended:
        parse(["--config", str(recipe), "--print_config"])
    assert ended.value.code == 0


def test_every_setting_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "voice_conversion.md").read_text(encoding="utf-8")
    for settings in (VoiceTrainingConfig, TransformerSettings):
        assert not [field.name for field in fields(settings) if f"`{field.name}`" not in page]


def test_a_usage_error_is_one_line_and_exit_code_2() -> None:
    program = [sys.executable, "-m", "augment.training.voice.train", "--steps", "0", "--out", "o"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: steps: 0 is too small; take 1 or more\n")


def of(speech: Path, **settings: Any) -> VoiceTrainingConfig:
    return VoiceTrainingConfig(speech=str(speech), batch_size=2, **settings)


def test_encoders_that_read_samples_stay_as_they_are(speech: Path, tmp_path: Path) -> None:
    content, speaker = tiny_observers.whisper(tmp_path / "w"), tiny_observers.speaker(tmp_path / "s")
    config = of(speech, steps=2, content_encoder=str(content), speaker_encoder=str(speaker))
    before = initial_converter(config)
    run(config, tmp_path / "out")
    after = load_converter(str(tmp_path / "out" / "pipeline"), None, "cpu")
    for name in ("content_encoder", "speaker_encoder"):
        pairs = zip(getattr(before, name).parameters(), getattr(after, name).parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs), name
    assert not torch.equal(before.transformer.inp.weight, after.transformer.inp.weight)
    assert not torch.equal(before.length_regulator.inp.weight, after.length_regulator.inp.weight)
    state = next((tmp_path / "out" / "states").iterdir())
    assert not [name for name in load_file(state / "model.safetensors") if "encoder" in name]


def test_training_starts_from_a_converter(speech: Path, tmp_path: Path) -> None:
    converter().save_pretrained(tmp_path / "start")
    started = initial_converter(of(speech, start=str(tmp_path / "start")))
    assert torch.equal(started.transformer.inp.weight, converter().transformer.inp.weight)
    embedded = initial_converter(of(speech, start="embedded"))
    shipped = load_converter(str(VOICE_CONVERTER), None, "cpu")
    assert torch.equal(embedded.transformer.inp.weight, shipped.transformer.inp.weight)
    with pytest.raises(UsageError, match="start: 'nowhere' cannot be loaded as a voice converter"):
        initial_converter(of(speech, start="nowhere"))


def test_equal_seeds_begin_alike() -> None:
    settings = {"content_encoder": "embedded", "speaker_encoder": "embedded"}
    first, again, other = (
        initial_converter(VoiceTrainingConfig(**settings, seed=seed)) for seed in (1, 1, 2)
    )
    for name in ("content_encoder", "speaker_encoder", "length_regulator", "transformer"):
        values = [next(getattr(each, name).parameters()) for each in (first, again, other)]
        assert torch.equal(values[0], values[1])
        assert not torch.equal(values[0], values[2])


def test_puppets_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(file: Path, *, takes: int, voices: int, seed: int) -> None:
        made.append(takes)
        np.savez(file, takes=np.array(0))

    monkeypatch.setattr("augment.training.voice.puppet_speech.make_takes", make)
    for _ in range(2):
        load_speech(VoiceTrainingConfig(takes=5), tmp_path)
    assert made == [5, 8]


def test_the_rates_rise_and_fall(tmp_path: Path) -> None:
    training = Training(converter(), VoiceTrainingConfig(steps=1000), Accelerator(), tmp_path)
    shares = []
    for step in range(1000):
        training.step = step
        shares.append(training.rate_factor)
    peak = int(np.argmax(shares))
    assert peak == trainer.WARM_UP - 1
    assert np.diff(shares[:peak]).min() > 0 > np.diff(shares[peak:]).max()
    assert shares[-1] == pytest.approx(0.02, abs=1e-3)


def test_bfloat16_is_refused_on_a_gpu_without_it(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as accelerate launch --mixed_precision bf16
    monkeypatch.setattr(train, "pick", lambda device: "cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    wanted = r"--mixed_precision: got bf16, and cuda:0 \(Tesla T4\) does not compute in bfloat16; take no"
    try:
        with pytest.raises(UsageError, match=wanted):
            main(command(speech, tmp_path / "out"))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_it_runs_under_accelerate_launch(speech: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    program += ["--num_machines", "1", "--mixed_precision", "bf16", "--dynamo_backend", "no"]
    program += ["-m", "augment.training.voice.train", *command(speech, tmp_path, "--steps", "2")]
    done = subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "1 process(es) on cpu, precision bf16" in done.stdout
    assert [line["step"] for line in log(tmp_path)] == [2]
    assert load_converter(str(tmp_path / "pipeline"), None, "cpu")


@pytest.mark.slow
def test_two_processes_take_one_step_along_the_mean_of_their_gradients(speech: Path, tmp_path: Path) -> None:
    arguments = command(speech, tmp_path / "out", "--steps", "1")
    said = run_two("augment.training.voice.train", arguments)
    assert "2 process(es) on cpu" in said
    config, out = parse(arguments)
    drawn, _ = load_speech(config, out / "speech")
    training = Training(initial_converter(config), config, Accelerator(cpu=True), tmp_path / "states")
    parts = [draw_batch(drawn, 3, np.random.default_rng([config.seed, 0, process])) for process in range(2)]
    seeds = [row_seed(config.seed, f"step 0 of process {process}") for process in range(2)]

    def both(batch: Any, generator: Any) -> torch.Tensor:
        draws = (torch.Generator().manual_seed(seed) for seed in seeds)
        losses = [
            flow_loss(training.networks, part, draw, DROPPED) for part, draw in zip(parts, draws, strict=True)
        ]
        return torch.stack(losses).mean()

    training.objective = both
    loss = float(training.learn(parts[0]))
    assert [line["loss"] for line in log(out)] == pytest.approx([loss], abs=1e-5)
    for name, value in load_file(out / "states" / "step-00000001" / "model.safetensors").items():
        stepped = training.networks.trained().get_parameter(name.split("trained.")[1])
        torch.testing.assert_close(value, stepped, atol=1e-5, rtol=1e-4)
