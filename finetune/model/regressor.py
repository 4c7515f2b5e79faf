"""The model that is trained: a frozen model with an adapter, and a read-out of its last hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune.model import towers
from finetune.model.fsdp import like, whole
from finetune.model.heads import Answer, Readout
from finetune.model.parts import placeless
from pipelines.errors import RunError

HEAD_FILE = "head.safetensors"
ADAPTER_FILE = "adapter_model.safetensors"
LONGEST_ANSWER = 8
"""Tokens that are generated at most; a written rating has five or six."""


class Rater(nn.Module):
    """Rates clips.

    Args:
        thinker: The model with its adapter, a `PeftModel`, or a whole model with it merged in.
        readout: What is read of its last hidden states.
    """

    def __init__(self, thinker: Any, readout: Readout) -> None:
        super().__init__()
        self.thinker, self.readout = thinker, readout

    @property
    def base(self) -> Any:
        """The model of transformers inside, with the adapter's layers in it."""
        return self.thinker.get_base_model() if hasattr(self.thinker, "get_base_model") else self.thinker

    def get_input_embeddings(self) -> nn.Module | None:
        """What accelerate cuts up apart from the rest; None where the head has the same weights."""
        inner, outer = self.base.get_input_embeddings(), self.base.get_output_embeddings()
        return None if outer is not None and inner.weight is outer.weight else inner

    def get_output_embeddings(self) -> nn.Module | None:
        """As `get_input_embeddings`."""
        return self.base.get_output_embeddings() if self.get_input_embeddings() is not None else None

    @property
    def head(self) -> nn.Linear | None:
        """The read-out's own layer, if it has one."""
        return getattr(self.readout, "head", None)

    def forward(
        self, labels: torch.Tensor | None = None, answers: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> torch.Tensor:
        """Each row's own loss against its label, (B,); without labels, ratings on their scale, (B,).

        Args:
            labels: (B,).
            answers: Of `finetune.inputs.batch.collate`, for a read-out that writes.
            inputs: The rest of it.
        """
        hidden = towers.last_hidden_state(self.base, **inputs)
        if labels is not None:
            return self.readout.losses(hidden, answers, labels, self.logits)
        assert not isinstance(self.readout, Answer), "a rating in writing is generated: see `rate`"
        return self.readout.ratings(hidden, self.logits)

    def rate(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Ratings, (B,), float32; NaN where a written answer is none. Rows come without answers."""
        if not isinstance(self.readout, Answer):
            return self(**inputs).float()
        ratings = [self.readout.parse(tokens) for tokens in self.generated(**inputs).tolist()]
        return torch.tensor([float("nan") if rating is None else rating for rating in ratings])

    def generated(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The most probable next tokens, one after the other, (B, LONGEST_ANSWER)."""
        inputs = towers.asked_once(self.base, **inputs)
        tokens = []
        for _ in range(LONGEST_ANSWER):
            hidden = towers.last_hidden_state(self.base, **inputs)
            tokens.append(self.logits(hidden[:, -1]).argmax(dim=1))
            inputs |= _longer(inputs, tokens[-1])
        return torch.stack(tokens, dim=1)

    def features(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The last token's hidden state, (B, width), float32."""
        return towers.last_hidden_state(self.base, **inputs)[:, -1].float()

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The language-model head on hidden states (n, width), (n, vocabulary)."""
        return self.base.get_output_embeddings()(states)

    def save(self, directory: Path, *, write: bool = True) -> None:
        """Write the adapter, and the head of a read-out that has one.

        Args:
            directory: Where to.
            write: Whether this process does. Where parameters are cut up, all must call this.
        """
        adapter = {
            name: whole(value) for name, value in self.thinker.named_parameters() if value.requires_grad
        }
        if write:
            # Embeddings are never adapted; unless told so, peft asks the Hub about the base model's.
            self.thinker.save_pretrained(directory, save_embedding_layers=False, state_dict=adapter)
        self.save_head(directory, write=write)

    def save_head(self, directory: Path, *, write: bool = True) -> None:
        """Write the head alone."""
        from safetensors.torch import save_file

        if self.head is not None:
            head = {name: whole(value).contiguous() for name, value in self.head.named_parameters()}
            if write:
                save_file(head, directory / HEAD_FILE)

    def load(self, directory: Path) -> None:
        """Take adapter and head from a directory that `save` wrote, under whatever version of transformers.

        Raises:
            RunError: If the adapter is not one of this model.
        """
        from peft import get_peft_model_state_dict, set_peft_model_state_dict
        from safetensors.torch import load_file

        self.load_head(directory)
        own = get_peft_model_state_dict(self.thinker, save_embedding_layers=False)
        names = {placeless(name): name for name in own}
        found = {placeless(name): value for name, value in load_file(directory / ADAPTER_FILE).items()}
        strange = found.keys() ^ names.keys()
        if strange:
            raise RunError(
                f"{directory / ADAPTER_FILE}: is no adapter of this model: {len(strange)} of their tensors"
                f" are in one and not in the other, such as {min(strange)}; take the model and the settings"
                " that model.json names"
            )
        adapter = {names[place]: like(own[names[place]], value) for place, value in found.items()}
        set_peft_model_state_dict(self.thinker, adapter)

    def load_head(self, directory: Path) -> None:
        """Take the head alone."""
        from safetensors.torch import load_file

        if self.head is not None:
            own, found = self.head.state_dict(), load_file(directory / HEAD_FILE)
            self.head.load_state_dict({name: like(own[name], found[name]) for name in own})


def _longer(inputs: dict[str, torch.Tensor], tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """What changes in a batch when each row gets one token more, (B,)."""
    ids, places, mask = inputs["input_ids"], inputs["position_ids"], inputs["attention_mask"]
    # Padding stands at the front and at place 1, which no prompt ends at.
    last = places.amax(dim=-1, keepdim=True)
    if places.dim() == 3:  # (3, B, L): behind the highest of the three
        last = last.amax(dim=0, keepdim=True).expand(3, -1, -1)
    return {
        "input_ids": torch.cat([ids, tokens[:, None]], dim=1),
        "position_ids": torch.cat([places, last + 1], dim=-1),
        "attention_mask": torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1),
    }
