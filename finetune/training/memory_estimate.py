"""The memory of a training step, found by running it on tensors without values, for a model of any size.

The run's own model goes through the run's own step, towers, language model, loss and backward pass, on
torch's fake tensors, which have a shape, a type and a storage but no memory. Each storage counts from the
operation that creates it until nothing refers to it any more. So the count includes what autograd keeps for
the backward pass, what is recomputed, and temporary results. It does not include parameters, their gradients
and the optimizer's moments, which `finetune.dry_run` adds, the workspace of kernels, and the fragmentation of
an allocator.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
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
from finetune.model.regressor import SentimentModel
from pipelines.errors import RunError

UNSUPPORTED = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
FLOATS = ("pixel_values_videos", "input_features")
"""The fake tensors of a batch. Ids, grids and masks keep their values, because shapes depend on them."""
DEPTHS = (3, 2)
"""Numbers of layers at which a deep language model is run; the first layer differs from the others."""

Batch = Mapping[str, Tensor]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of living storages among those that operations under it create.

    Attributes:
        now: The current number.
        peak: The largest number so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def ignore(self, tensor: Tensor) -> None:
        """Do not count a tensor's storage; it is kept alive."""
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = storage

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once and until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = weakref.ref(storage, lambda _: self._freed(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _freed(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = REPLACED.get(func, func)(*_without_masks(func, args), **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return output


class Rehearsal:
    """Runs a step of a model on fake tensors.

    Args:
        model: Without weights, on the meta device, with adapter and head. It cannot be used afterwards.
        shallow: Whether a language model of equal layers is run at two small depths, from which its memory is
            extrapolated linearly. Not if towers are trained, whose memory may be the larger.
    """

    def __init__(self, model: SentimentModel, *, shallow: bool) -> None:
        self.model = model.train()
        self._layers = layers_of(known_family(model.base).decoder(model.base))
        self._depth = len(self._layers)
        shapes = [[(name, value.shape) for name, value in layer.named_parameters()] for layer in self._layers]
        if shallow and all(one == shapes[0] for one in shapes):
            del self._layers[DEPTHS[0] :]
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self._mode:
            model.to_empty(device="cpu")
            for value in model.parameters():
                if value.requires_grad:
                    value.grad = torch.zeros_like(value)

    def towers(self, batch: Batch) -> tuple[dict[str, Tensor], int]:
        """A batch, or its clips alone, with the towers' outputs, and the peak memory in bytes.

        Raises:
            RunError: If shapes depend on values that are not there.
        """
        counter = self._counter()
        fake = self._fake(batch, counter)
        encoded = self._under(counter, lambda: towers.encode_media(self.model.base, **fake))
        return encoded, counter.peak

    def step(self, batch: Batch) -> int:
        """The peak memory of a forward and backward pass in bytes; can be called once.

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
        inputs = self._fake(batch, counter)  # kept alive to the end, as by a Trainer
        labels = torch.zeros(len(batch["input_ids"]))
        self._under(counter, lambda: self.model(labels=labels, **inputs).mean().backward())
        return counter.peak

    def _counter(self) -> LiveBytes:
        counter = LiveBytes()
        for value in [*self.model.parameters(), *self.model.buffers()]:
            counter.ignore(value)
            if value.grad is not None:
                counter.ignore(value.grad)
        return counter

    def _fake(self, batch: Batch, counter: LiveBytes) -> dict[str, Tensor]:
        """A batch whose clips are fake and counted."""
        fake = {name: self._mode.from_tensor(batch[name]) for name in FLOATS if name in batch}
        inputs = dict(batch) | fake
        for value in inputs.values():
            counter.count(value)
        return inputs

    @staticmethod
    def _under(counter: LiveBytes, run: Callable[[], Any]) -> Any:
        try:
            with counter:
                return run()
        except UNSUPPORTED as error:
            raise RunError(
                f"--dry-run: the memory of a step cannot be counted, since in this model the result of"
                f" {getattr(error, 'func', error)} depends on values; the lines above are valid"
            ) from error


def _without_masks(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments in which masks with values are replaced by indices.

    The shape of a fake tensor indexed by a mask is known only from the mask's values.
    """
    if func not in INDEXING:
        return args
    indices: list[Tensor | None] = []
    for index in args[1]:
        is_mask = index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor)
        indices += index.nonzero().unbind(1) if is_mask else [index]
    return (args[0], indices, *args[2:])


def _grouped_mm(tokens: Tensor, experts: Tensor, *_: Any, **__: Any) -> Tensor:
    """The shape of the experts' products, (tokens, width), also in types that only kernels support."""
    return tokens.new_empty(tokens.shape[0], experts.shape[-1])


_ATEN = torch.ops.aten
INDEXING = {
    _ATEN.index.Tensor,
    _ATEN.index_put.default,
    _ATEN.index_put_.default,
    _ATEN._index_put_impl_.default,
}
REPLACED = {_ATEN._grouped_mm.default: _grouped_mm}
