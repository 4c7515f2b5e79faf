"""The conflict-aware penalty on a multimodal model: what it measures, scales, and leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.gradient_norms import ConflictSettings, factors
from finetune.inputs.batch import collate
from finetune.model import towers
from finetune.model.adapters import adapted
from finetune.model.parts import language_model
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig
from finetune.training.modality_conflict import NAMES, ModalityConflict
from tests import processes, tiny
from tests.finetune import test_what_must_hold as command
from tests.finetune.family_inputs import BUDGET, MULTIMODAL, clip, load

LABELS = torch.tensor([1.0, -2.0])
# One modality has a hundred times the others' norms; τ is passed by far, so that the floor holds.
SETTINGS = ConflictSettings(floor=0.25, alpha=5.0)


def batch(rater: SentimentModel, base: Any, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    encoder = base.encoder(BUDGET, None)
    return collate(encoder.many(rows), base.processor.tokenizer.pad_token_id)


def model(thinker: Path, *, warm: bool = True, **settings: Any) -> tuple[SentimentModel, Any]:
    """A rater with a head, and with an adapter that has moved unless it is not `warm`."""
    base = load(thinker)
    rater = adapted(base, FinetuneConfig(lora_rank=2, **settings), "mosi", seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, value in rater.named_parameters():
        if value.requires_grad and ("head" in name or (warm and "lora_B" in name)):
            torch.nn.init.normal_(value, std=1.0 if "head" in name else 0.02, generator=generator)
    return rater, base


def step(rater: SentimentModel, inputs: dict[str, torch.Tensor], conflict: ModalityConflict | None) -> Any:
    """Loss and gradients of a step."""
    rater.zero_grad()
    if conflict is None:
        loss = rater(labels=LABELS, **inputs).mean()
        loss.backward()
    else:
        with conflict.watching(inputs["input_ids"], inputs["attention_mask"]):
            loss = rater(labels=LABELS, **inputs).mean()
            loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in rater.named_parameters() if p.grad is not None}


def dominated_by(name: str, rater: SentimentModel, settings: ConflictSettings = SETTINGS) -> ModalityConflict:
    conflict = ModalityConflict(rater.base, settings)
    conflict.averages = dict.fromkeys(NAMES, 1.0) | {name: 100.0}
    return conflict


@pytest.fixture
def both() -> list[dict[str, Any]]:
    return [clip(0.8, 0), clip(0.5, 1)]


def test_norms_are_those_of_the_gradients_at_the_modalities_tokens(
    tiny_thinker: Path, both: list[dict[str, Any]]
) -> None:
    """Held to autograd by hand: of each row, the gradients of its tokens of a kind are summed."""
    rater, base = model(tiny_thinker)
    inputs = batch(rater, base, [both[0], both[1] | {"audio": None}])
    config = rater.base.config
    conflict = ModalityConflict(rater.base, ConflictSettings(penalty=False))
    step(rater, inputs, conflict)
    conflict.end_step()

    given = towers.encode_media(rater.base, **inputs)
    ids, mask = given["input_ids"], given["attention_mask"].bool()
    embedded = rater.base.get_input_embeddings()(ids)
    audio, video = ids == config.audio_token_id, ids == config.video_token_id
    for place, found in ((audio, given["audio_embeds"]), (video, given["video_embeds"])):
        embedded = embedded.masked_scatter(place[..., None], found)
    embedded = embedded.detach().requires_grad_()
    hidden = language_model(rater.base)(
        inputs_embeds=embedded, attention_mask=given["attention_mask"], position_ids=given["position_ids"]
    ).last_hidden_state
    rater.head.losses(hidden, None, LABELS, rater.logits).mean().backward()
    gradient = embedded.grad
    assert gradient is not None
    for name, place, rows in (("text", mask & ~audio & ~video, 2), ("audio", audio, 1), ("video", video, 2)):
        norms = [gradient[row][place[row]].sum(0).norm() for row in range(2)]
        assert conflict.averages[name] == pytest.approx(float(sum(norms)) / rows, rel=1e-4), name


def test_to_look_changes_no_bit(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    rater, base = model(tiny_thinker)
    inputs = batch(rater, base, both)
    loss, plain = step(rater, inputs, None)
    conflict = dominated_by("text", rater, ConflictSettings(penalty=False))
    looked, gradients = step(rater, inputs, conflict)
    assert looked == loss
    assert all(torch.equal(value, gradients[name]) for name, value in plain.items())
    conflict.end_step()
    assert set(conflict.averages) == set(NAMES)


@pytest.mark.parametrize(
    "settings",
    [replace(SETTINGS, start_epoch=2), replace(SETTINGS, end_epoch=1), replace(SETTINGS, threshold=1000.0)],
    ids=["before", "after", "no conflict"],
)
def test_outside_the_schedule_and_without_a_conflict_nothing_changes(
    tiny_thinker: Path, both: list[dict[str, Any]], settings: ConflictSettings
) -> None:
    rater, base = model(tiny_thinker)
    inputs = batch(rater, base, both)
    _, plain = step(rater, inputs, None)
    conflict = dominated_by("text", rater, settings)
    conflict.epoch = 1
    _, gradients = step(rater, inputs, conflict)
    assert all(torch.equal(value, gradients[name]) for name, value in plain.items())


def test_a_dominant_texts_tokens_count_their_share(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    """A rating is read off the last token, which is text: the last layer's gradient is all of its making."""
    rater, base = model(tiny_thinker)
    inputs = batch(rater, base, both)
    loss, plain = step(rater, inputs, None)
    penalised, gradients = step(rater, inputs, dominated_by("text", rater))
    assert penalised == loss
    last = [name for name in plain if "layers.1.mlp.down_proj.lora_B" in name]
    assert last
    for name in last:
        torch.testing.assert_close(gradients[name], 0.25 * plain[name])
    head = [name for name in plain if "head" in name]
    assert all(torch.equal(gradients[name], plain[name]) for name in head)


def test_other_modalities_gradients_stay(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    """With the picture dominant, the last layer's gradient, of a text token, stays; lower ones lose."""
    rater, base = model(tiny_thinker, warm=False)
    inputs = batch(rater, base, both)
    _, plain = step(rater, inputs, None)
    _, gradients = step(rater, inputs, dominated_by("video", rater))
    changed = {name for name, value in plain.items() if not torch.equal(value, gradients[name])}
    assert not any("layers.1.mlp" in name or "layers.1.self_attn.o_proj" in name for name in changed)
    assert any("layers.0" in name for name in changed)


def test_what_flows_into_a_dominant_tower_is_scaled(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    rater, base = model(tiny_thinker, warm=False, adapt=("vision", "audio"))
    inputs = batch(rater, base, both)
    _, plain = step(rater, inputs, None)
    _, gradients = step(rater, inputs, dominated_by("video", rater))
    seen = [name for name in plain if "visual" in name and "lora_B" in name]
    heard = [name for name in plain if "audio_tower" in name and "lora_B" in name]
    assert seen
    assert heard
    for name in seen:
        torch.testing.assert_close(gradients[name], 0.25 * plain[name])
    for name in heard:
        torch.testing.assert_close(gradients[name], plain[name])


def test_checkpointed_activations_are_weighed_alike(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    found = []
    for checkpointing in (False, True):
        rater, base = model(tiny_thinker, gradient_checkpointing=checkpointing)
        rater.train()
        found.append(step(rater, batch(rater, base, both), dominated_by("video", rater))[1])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


@pytest.mark.parametrize("name", MULTIMODAL)
def test_every_family_can_be_watched(bases: dict[str, Any], name: str, both: list[dict[str, Any]]) -> None:
    """Of a modality that it does not read, or that no row has, nothing is told."""
    base = bases[name]
    conflict = ModalityConflict(base.thinker, ConflictSettings())
    rater = SentimentModel(base.thinker, adapted_head(base))
    inputs = batch(rater, base, both)
    with conflict.watching(inputs["input_ids"], inputs["attention_mask"]):
        rater(labels=LABELS, **inputs).mean().backward()
    conflict.end_step()
    assert set(conflict.averages) == set(base.family.modalities)
    assert all(norm > 0 for norm in conflict.averages.values())
    told = conflict.take()
    assert told.keys() == {"conflict_rate"} | {
        f"{what}_{one}" for what in ("norm", "ratio", "factor") for one in conflict.averages
    }
    assert conflict.take() == {}


def adapted_head(base: Any) -> Any:
    from finetune.model.adapters import fresh_head

    head = fresh_head(base, FinetuneConfig(), "mosi")
    torch.nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(0))
    return head


def test_averages_follow_the_steps(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    """The first norms are taken whole, later ones by 1 - decay; a step without rows changes nothing."""
    rater, base = model(tiny_thinker)
    inputs = batch(rater, base, both)
    conflict = ModalityConflict(rater.base, ConflictSettings(penalty=False, decay=0.75))
    step(rater, inputs, conflict)
    conflict.end_step()
    first = dict(conflict.averages)
    with conflict.watching(inputs["input_ids"], inputs["attention_mask"]):
        (3 * rater(labels=LABELS, **inputs).mean()).backward()
    conflict.end_step()
    for name, norm in first.items():
        assert conflict.averages[name] == pytest.approx(1.5 * norm, rel=1e-4)
    before = dict(conflict.averages)
    conflict.end_step()
    assert conflict.averages == before


def test_norms_are_kept_where_the_model_went(tiny_thinker: Path) -> None:
    """It is watched from before the Trainer takes it to its device; meta stands in for one."""
    rater, _ = model(tiny_thinker)
    conflict = ModalityConflict(rater.base, ConflictSettings())
    rater.to("meta")
    ids = torch.zeros(2, 3, dtype=torch.long, device="meta")
    with conflict.watching(ids, torch.ones_like(ids)):
        embedded = torch.ones(2, 3, 16, device="meta", requires_grad=True)
        embedded.register_hook(conflict._observe)
        embedded.sum().backward()
    assert conflict._sums.device.type == "meta"


def test_evaluation_is_not_watched(tiny_thinker: Path, both: list[dict[str, Any]]) -> None:
    rater, base = model(tiny_thinker)
    conflict = ModalityConflict(rater.base, ConflictSettings())
    with torch.no_grad():
        rater(**batch(rater, base, both))
    rater(labels=LABELS, **batch(rater, base, both)).mean().backward()
    conflict.end_step()
    assert conflict.averages == {}


CONFLICT = json.dumps({"threshold": 1.0, "alpha": 2.0, "decay": 0.5})


def steps(folder: Path, **settings: Any) -> list[str]:
    given = command.rows(command.WEIGHTS)
    return command.command(folder, given, **{"epochs": 3, "conflict": CONFLICT} | settings)


def told(folder: Path) -> list[dict[str, float]]:
    names = ("norm_", "ratio_", "factor_", "conflict_rate")
    return [
        {key: value for key, value in entry.items() if key.startswith(names)} for entry in command.log(folder)
    ]


def test_the_command_logs_norms_and_penalises(tmp_path: Path) -> None:
    """Without the setting there is no word of it; with it, factors follow from the ratios told."""
    command.warm_start.main(steps(tmp_path / "off", conflict="null"))
    assert not any(told(tmp_path / "off"))
    command.warm_start.main(steps(tmp_path / "on"))
    entries = told(tmp_path / "on")
    assert len(entries) == 3
    for entry in entries:
        ratios = {name: entry[f"ratio_{name}"] for name in NAMES}
        expected = factors(ratios, 1.0, 2.0, 0.1)
        assert {name: entry[f"factor_{name}"] for name in NAMES} == pytest.approx(expected)
        assert min(expected.values()) < 1
        assert entry["conflict_rate"] == 1
    losses = [[entry["loss"] for entry in command.log(tmp_path / name)] for name in ("off", "on")]
    assert losses[0][:2] == losses[1][:2], "the first step has no factors yet"
    assert losses[0][2] != losses[1][2]


def test_a_resumed_run_goes_on_with_the_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command.warm_start.main(steps(tmp_path / "straight"))

    class Killed(Exception):
        pass

    def killed(self: ModalityConflict) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        end = ModalityConflict.end_step
        patch.setattr(
            ModalityConflict, "end_step", lambda self: end(self) if self.epoch < 1 else killed(self)
        )
        with pytest.raises(Killed):
            command.warm_start.main(steps(tmp_path / "resumed"))
    command.warm_start.main(steps(tmp_path / "resumed"))
    assert told(tmp_path / "resumed") == told(tmp_path / "straight")
    assert command.log(tmp_path / "resumed") == command.log(tmp_path / "straight")


@pytest.mark.slow
def test_ranks_and_accumulation_change_nothing(tmp_path: Path) -> None:
    command.warm_start.main(steps(tmp_path / "one"))
    command.warm_start.main(steps(tmp_path / "apart", batch_size=1, accumulation=4))
    processes.run_two("tests.finetune.warm_start", steps(tmp_path / "two", batch_size=2))
    for other in ("apart", "two"):
        for entry, expected in zip(told(tmp_path / other), told(tmp_path / "one"), strict=True):
            assert entry == pytest.approx(expected, rel=1e-4)


def test_a_penalised_model_is_opened_again(tmp_path: Path) -> None:
    from finetune.evaluation import main as evaluate

    command.warm_start.main(steps(tmp_path))
    folder = tmp_path / "out"
    before = json.loads((folder / "metrics.json").read_text())["test"]["after"]["MAE"]
    evaluate(["--model", str(folder), "--data", str(tmp_path / "store")])
    after = json.loads((folder / "metrics.json").read_text())["test"]["after"]["MAE"]
    assert after == pytest.approx(before, abs=1e-4)


def test_a_setting_out_of_its_range_is_refused(tmp_path: Path) -> None:
    from finetune.__main__ import main
    from pipelines.errors import UsageError

    with pytest.raises(UsageError, match=r"threshold: got 0.5; it takes a value at least 1"):
        main(steps(tmp_path, conflict=json.dumps({"threshold": 0.5})))


def test_rows_of_one_modality_have_no_conflict(tiny_thinker: Path) -> None:
    rater, base = model(tiny_thinker)
    inputs = batch(rater, base, [tiny.row(n, video=None, audio=None) for n in range(2)])
    conflict = ModalityConflict(rater.base, ConflictSettings())
    step(rater, inputs, conflict)
    conflict.end_step()
    assert conflict.conflict().ratios == {"text": 1.0}
    assert conflict.conflict().factors == {"text": 1.0}
