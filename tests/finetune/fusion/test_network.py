"""The network: masks, subsets of modalities, what its parts depend on."""

from __future__ import annotations

import itertools

import pytest
import torch

from finetune.fusion.network import FusionNetwork, Inputs, Output, averaged
from finetune.fusion.settings import NetworkSettings

DIMENSIONS = {"text": 6, "audio": 3, "video": 4}
STRIDES = {"text": 1, "audio": 4, "video": 2}
LENGTHS = {"text": [5, 2, 1], "audio": [13, 4, 9], "video": [7, 7, 2]}
SUBSETS = [names for size in (1, 2, 3) for names in itertools.combinations(DIMENSIONS, size)]

Clips = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


def make(names: tuple[str, ...] = tuple(DIMENSIONS), **settings: bool) -> FusionNetwork:
    torch.manual_seed(0)
    inputs = {name: Inputs(dimensions=DIMENSIONS[name], stride=STRIDES[name]) for name in names}
    network = FusionNetwork(inputs, NetworkSettings(width=8, heads=2, **settings)).eval()
    for name in names:
        network.set_standard(name, torch.full((DIMENSIONS[name],), 0.5), torch.full((DIMENSIONS[name],), 2.0))
    return network


def clips(names: tuple[str, ...] = tuple(DIMENSIONS), extra: int = 0, junk: float = 0.0) -> Clips:
    """Three clips; `extra` more steps of padding, filled with `junk`."""
    generator = torch.Generator().manual_seed(7)
    values, masks = {}, {}
    for name, dimensions in DIMENSIONS.items():
        steps = max(LENGTHS[name])
        shown = torch.randn(3, steps, dimensions, generator=generator)
        filled = torch.cat([shown, torch.zeros(3, extra, dimensions)], dim=1)
        mask = torch.arange(steps + extra) < torch.tensor(LENGTHS[name])[:, None]
        filled[~mask] = junk
        if name in names:
            values[name], masks[name] = filled, mask
    return values, masks


def same(found: Output, wanted: Output) -> None:
    torch.testing.assert_close(found.prediction, wanted.prediction)
    for part in ("unimodal", "features", "means", "log_deviations", "reconstruction_errors"):
        for name, value in getattr(wanted, part).items():
            torch.testing.assert_close(getattr(found, part)[name], value)


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_rates_any_subset_of_modalities(names: tuple[str, ...]) -> None:
    output = make(names)(*clips(names))
    assert output.prediction.shape == (3,)
    assert list(output.unimodal) == list(names)
    assert all(output.means[name].shape == (3, DIMENSIONS[name]) for name in names)
    assert all(feature.shape == (3, 8) for feature in output.features.values())


@pytest.mark.parametrize(("extra", "junk"), [(0, 9.0), (1, 0.0), (11, 1e9), (11, float("nan"))])
def test_padding_changes_nothing(extra: int, junk: float) -> None:
    network = make()
    with torch.no_grad():
        same(network(*clips(extra=extra, junk=junk)), network(*clips()))


def test_a_clip_alone_is_a_clip_in_a_batch() -> None:
    network = make()
    values, masks = clips()
    with torch.no_grad():
        whole = network(values, masks).prediction
        alone = [
            network(
                {name: value[row : row + 1, : LENGTHS[name][row]] for name, value in values.items()},
                {name: mask[row : row + 1, : LENGTHS[name][row]] for name, mask in masks.items()},
            ).prediction
            for row in range(3)
        ]
    torch.testing.assert_close(torch.cat(alone), whole)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_clip_may_lack_a_modality(name: str) -> None:
    network = make()
    values, masks = clips()
    with torch.no_grad():
        whole = network(values, masks)
        masks[name] = masks[name].clone()
        masks[name][1] = False
        lacking = network(values, masks)
    assert lacking.prediction.isfinite().all()
    assert lacking.reconstruction_errors[name][1] == 0
    torch.testing.assert_close(lacking.prediction[[0, 2]], whole.prediction[[0, 2]])
    assert not torch.allclose(lacking.prediction[1], whole.prediction[1])


def test_every_parameter_learns_from_the_whole_loss() -> None:
    network = make()
    output = network(*clips())
    parts = [*output.unimodal.values(), *output.reconstruction_errors.values()]
    parts += [*output.means.values(), *output.log_deviations.values(), output.prediction]
    torch.stack([part.square().sum() for part in parts]).sum().backward()
    idle = [name for name, found in network.named_parameters() if found.grad is None or not found.grad.any()]
    # Keys shift all scores alike and cancel in the softmax; so does the bias of a score.
    assert [name for name in idle if not name.endswith("score.bias")] == []


def test_a_modality_reaches_the_task_through_its_sequence_alone() -> None:
    network = make()
    output = network(*clips())
    gradients = torch.autograd.grad(
        output.prediction.sum(), list(output.sequences.values()), retain_graph=True
    )
    assert all(gradient.flatten(1).norm(dim=1).gt(0).all() for gradient in gradients)


def test_parameters_of_an_encoder_touch_no_other_feature() -> None:
    network = make()
    output = network(*clips())
    for name, parameters in network.encoder_parameters().items():
        for other, feature in output.features.items():
            found = torch.autograd.grad(feature.sum(), parameters, retain_graph=True, allow_unused=True)
            reached = any(gradient is not None and gradient.any() for gradient in found)
            assert reached is (name == other)


def test_standardises_with_what_it_was_given() -> None:
    network = make(("audio",))
    values, masks = clips(("audio",))
    found = network(values, masks).standardised["audio"]
    torch.testing.assert_close(found[0], (values["audio"][0] - 0.5) / 2)


def test_without_a_gate_there_are_no_gates() -> None:
    assert any("gates" in name for name in make().state_dict())
    assert not any("gates" in name for name in make(gate=False).state_dict())
    assert make(gate=False)(*clips()).prediction.isfinite().all()


def test_modality_weights_are_one_on_average() -> None:
    network = make()
    assert network.modality_weights() == pytest.approx({"text": 1.0, "audio": 1.0, "video": 1.0})
    with torch.no_grad():
        network.modality_scores.copy_(torch.tensor([1.0, 0.0, -1.0]))
    weights = network.modality_weights()
    assert weights["text"] > weights["audio"] > weights["video"]
    assert sum(weights.values()) == pytest.approx(3)


def test_averages_only_what_the_mask_shows() -> None:
    values = torch.tensor([[[1.0], [3.0], [5.0], [100.0], [100.0]]])
    mask = torch.tensor([[True, True, True, False, False]])
    means, shown = averaged(values, mask, 2)
    assert means.flatten().tolist() == [2.0, 5.0, 0.0]
    assert shown.tolist() == [[True, True, False]]


def test_padding_of_any_kind_leaves_the_gradients_finite() -> None:
    network = make()
    values, masks = clips(junk=float("nan"))
    output = network(values, masks)
    (output.prediction.sum() + sum(error.sum() for error in output.reconstruction_errors.values())).backward()
    assert all(found.grad.isfinite().all() for found in network.parameters() if found.grad is not None)
    assert not output.standardised["audio"][~masks["audio"]].any()
