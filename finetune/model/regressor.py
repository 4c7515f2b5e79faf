"""The model that is trained: a frozen model with an adapter, and a head on its last hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finetune.model import towers
from finetune.model.fsdp import gather, shard_like
from finetune.model.heads import Answer, Head
from finetune.model.parts import canonical_name
from pipelines.atomic import replacing
from pipelines.errors import RunError, reason

HEAD_FILE = "head.safetensors"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
LONGEST_ANSWER = 8
"""Tokens that are generated at most; a written rating has five or six."""


class SentimentModel(nn.Module):
    """Rates clips.

    Args:
        thinker: The model with its adapter, a `PeftModel`, or a model with the adapter merged in.
        head: Turns its last hidden states into ratings and losses.
    """

    def __init__(self, thinker: Any, head: Head) -> None:
        super().__init__()
        self.thinker, self.head = thinker, head

    @property
    def base(self) -> Any:
        """The transformers model inside, with the adapter's layers in it."""
        return self.thinker.get_base_model() if hasattr(self.thinker, "get_base_model") else self.thinker

    def get_input_embeddings(self) -> nn.Module | None:
        """What accelerate shards apart from the rest; None where the head has the same weights."""
        inner, outer = self.base.get_input_embeddings(), self.base.get_output_embeddings()
        return None if outer is not None and inner.weight is outer.weight else inner

    def get_output_embeddings(self) -> nn.Module | None:
        """As `get_input_embeddings`."""
        return self.base.get_output_embeddings() if self.get_input_embeddings() is not None else None

    @property
    def head_layer(self) -> nn.Linear | None:
        """The head's own layer, if it has one."""
        return getattr(self.head, "linear", None)

    def forward(
        self, labels: Tensor | None = None, answers: Tensor | None = None, **inputs: Tensor
    ) -> Tensor:
        """Each row's own loss against its label, (B,); without labels, ratings on their scale, (B,).

        Args:
            labels: (B,).
            answers: From `finetune.inputs.batch.collate`, for a head that writes.
            inputs: The rest of the batch.
        """
        hidden = towers.last_hidden_state(self.base, **inputs)
        if labels is not None:
            return self.head.losses(hidden, answers, labels, self.logits)
        assert not isinstance(self.head, Answer), "a rating in writing is generated: see `rate`"
        return self.head.ratings(hidden, self.logits)

    def rate(self, **inputs: Tensor) -> Tensor:
        """Ratings, (B,), float32; NaN where a written answer is no number. Rows come without answers."""
        if not isinstance(self.head, Answer):
            return self(**inputs).float()
        ratings = [self.head.parse(tokens) for tokens in self.generated(**inputs).tolist()]
        return torch.tensor([float("nan") if rating is None else rating for rating in ratings])

    def generated(self, **inputs: Tensor) -> Tensor:
        """The most probable next tokens, one after the other, (B, LONGEST_ANSWER)."""
        inputs = towers.encode_media(self.base, **inputs)
        tokens = []
        for _ in range(LONGEST_ANSWER):
            hidden = towers.last_hidden_state(self.base, **inputs)
            tokens.append(self.logits(hidden[:, -1]).argmax(dim=1))
            inputs |= _longer(inputs, tokens[-1])
        return torch.stack(tokens, dim=1)

    def features(self, **inputs: Tensor) -> Tensor:
        """The last token's hidden state, (B, width), float32."""
        return towers.last_hidden_state(self.base, **inputs)[:, -1].float()

    def logits(self, states: Tensor) -> Tensor:
        """The language-model head on hidden states (n, width), (n, vocabulary)."""
        return self.base.get_output_embeddings()(states)

    def save(self, directory: Path, *, write: bool = True) -> None:
        """Write the adapter, and the head's layer if there is one.

        Args:
            directory: Where to.
            write: Whether this process does. Where parameters are sharded, all must call this.
        """
        adapter = {
            name: gather(value) for name, value in self.thinker.named_parameters() if value.requires_grad
        }
        if write:
            # Embeddings are never adapted; unless told so, peft asks the Hub about the base model's.
            self.thinker.save_pretrained(directory, save_embedding_layers=False, state_dict=adapter)
        self.save_head(directory, write=write)

    def save_head(self, directory: Path, *, write: bool = True) -> None:
        """Write the head's layer alone."""
        if self.head_layer is not None:
            layer = {name: gather(value).contiguous() for name, value in self.head_layer.named_parameters()}
            if write:
                with replacing(directory / HEAD_FILE) as temporary:
                    save_file(layer, temporary)

    def load(self, directory: Path) -> None:
        """Load adapter and head from a directory that `save` wrote, under any version of transformers.

        Raises:
            RunError: If a file is missing or broken, or does not fit this model.
        """
        self.load_head(directory)
        own = get_peft_model_state_dict(self.thinker, save_embedding_layers=False)
        names = {canonical_name(name): name for name in own}
        read = read_tensors(directory / ADAPTER_FILE)
        saved = {canonical_name(name): value for name, value in read.items()}
        _check_fit(
            "adapter", directory / ADAPTER_FILE, saved, {key: own[name] for key, name in names.items()}
        )
        adapter = {names[key]: shard_like(own[names[key]], value) for key, value in saved.items()}
        set_peft_model_state_dict(self.thinker, adapter)

    def load_head(self, directory: Path) -> None:
        """Load the head's layer alone; fails as `load` does."""
        if self.head_layer is not None:
            own, saved = self.head_layer.state_dict(), read_tensors(directory / HEAD_FILE)
            _check_fit("head", directory / HEAD_FILE, saved, own)
            self.head_layer.load_state_dict({name: shard_like(own[name], saved[name]) for name in own})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        RunError: If the file is missing or broken.
    """
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise RunError(
            f"{path}: is missing or broken ({reason(error)}); take a whole copy of the folder, or give the"
            " command in its model.json again"
        ) from error


def _check_fit(what: str, path: Path, saved: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Refuse tensors that have other names or shapes than those of the model."""
    strange = saved.keys() ^ own.keys()
    if strange:
        problem = (
            f"{len(strange)} tensors are missing from the file or from the model, such as {min(strange)}"
        )
    else:
        shapes = {name: (tuple(saved[name].shape), tuple(own[name].shape)) for name in own}
        other = {name: both for name, both in shapes.items() if both[0] != both[1]}
        if not other:
            return
        name, (found, wanted) = min(other.items())
        problem = f"{name} has the shape {found} in the file and {wanted} in the model"
    raise RunError(
        f"{path}: is no {what} of this model: {problem}; take the model and the settings that model.json"
        " names"
    )


def _longer(inputs: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """What changes in a batch when each row gets one token more, (B,)."""
    ids, position_ids, mask = inputs["input_ids"], inputs["position_ids"], inputs["attention_mask"]
    # Padding is at the front and has position 1, at which no prompt ends.
    last = position_ids.amax(dim=-1, keepdim=True)
    if position_ids.dim() == 3:  # (3, B, L): behind the highest of the three
        last = last.amax(dim=0, keepdim=True).expand(3, -1, -1)
    return {
        "input_ids": torch.cat([ids, tokens[:, None]], dim=1),
        "position_ids": torch.cat([position_ids, last + 1], dim=-1),
        "attention_mask": torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1),
    }
