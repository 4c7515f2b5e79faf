"""Where the parts of a model lie: its language model, its towers and projectors.

Versions of transformers put them in different places: the layers of an omni model's thinker are
`model.layers` up to 5.17 and `model.language_model.layers` in 5.24, and its `visual` is beside `model` or
inside it. So no path is hard-coded in this package; parts are searched for in the model at hand.
"""

from __future__ import annotations

import re
from typing import Any

LANGUAGE_MODEL = "language_model"
VISION_TOWER = "visual"
AUDIO_TOWER = "audio_tower"
PROJECTOR = "multi_modal_projector"
TOWERS = (VISION_TOWER, AUDIO_TOWER, PROJECTOR)
"""Names of the modules between a clip and the language model, whichever a family has."""
IN_TOWERS = rf"(.+\.)?({'|'.join(TOWERS)})"
"""A regular expression of the towers' full names in any model, which begins the names of their layers."""
# Names of mere containers; versions of transformers, and peft, put more or fewer before a layer's name.
_WRAPPERS = {"base_model", "model", "thinker", LANGUAGE_MODEL}


def language_model(model: Any) -> Any:
    """The language model below the head, of a model with towers: the module with the input embeddings."""
    embeddings = model.get_input_embeddings()
    return next(
        module for module in model.modules() if any(child is embeddings for child in module.children())
    )


def part(model: Any, name: str) -> Any | None:
    """The tower or projector of a name, wherever it lies; None for a model without one."""
    return next((module for full, module in model.named_modules() if full.split(".")[-1] == name), None)


def path_of(model: Any, name: str) -> str | None:
    """The full name of a part, `LANGUAGE_MODEL` or one of `TOWERS`; None for a model without it."""
    searched = language_model(model) if name == LANGUAGE_MODEL else part(model, name)
    return next((full for full, module in model.named_modules() if module is searched), None)


def is_in_towers(name: str) -> bool:
    """Whether a module or parameter of this full name is a tower or projector, or lies in one."""
    return re.match(rf"{IN_TOWERS}(\.|$)", name) is not None


def canonical_name(name: str) -> str:
    """A parameter's name without its containers, the same in every version of transformers."""
    return ".".join(step for step in name.split(".") if step not in _WRAPPERS)
