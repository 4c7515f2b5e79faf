"""A training step on tensors without values: what memory it would take, for a model of any size.

The model of the run itself goes through the step of the run, towers, language model, loss and backward pass,
on torch's fake tensors, which have a shape, a type and a storage and no memory. Each storage counts from the
operation that makes it until nothing holds it any more, so what autograd keeps for the backward pass, what is
computed again, and what is needed for a moment only are all in the count, by the code that will run. Not in
it are parameters, their gradients and the optimizer's moments, what a kernel needs within one operation, and
what an allocator loses between storages.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finetune.model import towers
from finetune.model.families import known_family
from finetune.model.fsdp import layers_of
from pipelines.errors import RunError

if TYPE_CHECKING:
    from finetune.model.regressor import SentimentModel

CANNOT = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
FLOATS = ("pixel_values_videos", "input_features")
"""What of a batch is made fake. Ids, grids and masks keep their values: shapes depend on them."""
DEPTHS = (3, 2)
"""Layers of a language model that is gone through at two depths; the first one is not like the others."""

Batch = Mapping[str, torch.Tensor]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that are alive, of those that operations under it make.

    Attributes:
        now: At the moment.
        peak: At most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def ignore(self, tensor: torch.Tensor) -> None:
        """Do not count a tensor's storage, which must live on."""
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = storage

    def count(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once and until it is gone."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = REPLACED.get(func, func)(*_without_masks(func, args), **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor)
        return made


class Rehearsal:
    """Goes through a step of a model.

    Args:
        model: Without weights, on no device, adapter and head in it. It is used up.
        shallow: Whether a language model of equal layers is gone through at two small depths, beyond which
            its memory is a straight line. Not where towers are trained, whose memory may be the larger.
    """

    def __init__(self, model: SentimentModel, *, shallow: bool) -> None:
        self.model = model.train()
        self._layers = layers_of(known_family(model.base).decoder(model.base))
        self._depth = len(self._layers)
        if shallow and _are_equal(self._layers):
            del self._layers[DEPTHS[0] :]
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self._mode:
            model.to_empty(device="cpu")
            for value in model.parameters():
                if value.requires_grad:
                    value.grad = torch.zeros_like(value)

    def asked(self, batch: Batch) -> tuple[dict[str, torch.Tensor], int]:
        """A batch, or its clips alone, with what the towers make of them, and the bytes that it takes.

        Raises:
            RunError: If shapes depend on values that are not there.
        """
        counter = self._counter()
        fake = self._fake(batch, counter)
        made = self._under(counter, lambda: towers.encode_media(self.model.base, **fake))
        return made, counter.peak

    def step(self, batch: Batch) -> int:
        """Bytes that a forward and backward pass takes at most; to be asked for once.

        Args:
            batch: Of `finetune.inputs.batch.collate`, as it is given to the model in training.

        Raises:
            RunError: If shapes depend on values that are not there.
        """
        more = self._step(batch)
        if len(self._layers) == self._depth:
            return more
        del self._layers[DEPTHS[1] :]
        fewer = self._step(batch)
        return fewer + (self._depth - DEPTHS[1]) * (more - fewer)

    def _step(self, batch: Batch) -> int:
        counter = self._counter()
        given = self._fake(batch, counter)  # held to the end, as a Trainer holds it
        labels = torch.zeros(len(batch["input_ids"]))
        self._under(counter, lambda: self.model(labels=labels, **given).mean().backward())
        return counter.peak

    def _counter(self) -> LiveBytes:
        counter = LiveBytes()
        for value in [*self.model.parameters(), *self.model.buffers()]:
            counter.ignore(value)
            if value.grad is not None:
                counter.ignore(value.grad)
        return counter

    def _fake(self, batch: Batch, counter: LiveBytes) -> dict[str, torch.Tensor]:
        """A batch whose clips are fake, and count."""
        given = dict(batch) | {name: self._mode.from_tensor(batch[name]) for name in FLOATS if name in batch}
        for value in given.values():
            counter.count(value)
        return given

    @staticmethod
    def _under(counter: LiveBytes, run: Callable[[], Any]) -> Any:
        try:
            with counter:
                return run()
        except CANNOT as error:
            raise RunError(
                f"--dry-run: the memory of a step cannot be told, since in this model the result of"
                f" {getattr(error, 'func', error)} depends on values; what is told above holds"
            ) from error


def _are_equal(layers: torch.nn.ModuleList) -> bool:
    """Whether all layers have parameters of the same names and shapes."""
    shapes = [[(name, value.shape) for name, value in layer.named_parameters()] for layer in layers]
    return all(one == shapes[0] for one in shapes)


def _without_masks(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments in which a mask that has values is the indices of what it lets through.

    What a mask takes of a fake tensor has a shape of its own only if its values are looked at.
    """
    if func not in INDEXING:
        return args
    indices = [one for index in args[1] for one in _spread(index)]
    return (args[0], indices, *args[2:])


def _spread(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
        return [index]
    return list(index.nonzero().unbind(1))


def _grouped_mm(tokens: torch.Tensor, experts: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """The shape that experts' products have, (tokens, width), also in types that only a kernel takes."""
    return tokens.new_empty(tokens.shape[0], experts.shape[-1])


_ATEN = torch.ops.aten
INDEXING = {
    _ATEN.index.Tensor,
    _ATEN.index_put.default,
    _ATEN.index_put_.default,
    _ATEN._index_put_impl_.default,
}
REPLACED = {_ATEN._grouped_mm.default: _grouped_mm}
