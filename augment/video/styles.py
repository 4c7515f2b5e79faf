"""Styles: the words that a style adds to the source prompt, and the parameters of its edit.

`PUBLISHED` are FateZero's, for checkpoints trained on photographs and paintings. `EMBEDDED` are those that
the shipped small model was trained on; it knows no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Style:
    """A named edit."""

    words: str
    """The words in front of the source prompt."""
    cross_replace: float
    """Share of the steps, from the first, whose cross-attention follows the source, in [0, 1]."""
    self_replace: float
    """Share of the steps, from the first, whose self-attention is the source's, in [0, 1]."""
    guidance_scale: float
    """Scale of classifier-free guidance, at least 1."""
    reweight: dict[str, float] = field(default_factory=dict)
    """Factors on the attention to words."""

    def prompt(self, source_prompt: str) -> str:
        """The target prompt."""
        return f"{self.words} {source_prompt}"

    def weaker(self, strength: float) -> Style:
        """The style with `strength` times the guidance and the share of steps that leave the source."""
        return replace(
            self,
            cross_replace=1 - (1 - self.cross_replace) * strength,
            self_replace=1 - (1 - self.self_replace) * strength,
            guidance_scale=1 + (self.guidance_scale - 1) * strength,
        )


def _published(words: str, cross: float, self_: float, factor: float, *names: str) -> Style:
    return Style(
        words=words,
        cross_replace=cross,
        self_replace=self_,
        guidance_scale=7.5,
        reweight=dict.fromkeys(names, factor),
    )


def _embedded(words: str, guidance_scale: float) -> Style:
    return Style(words=words, cross_replace=0.2, self_replace=0.6, guidance_scale=guidance_scale)


# The parameters are those of FateZero's released configurations.
PUBLISHED: dict[str, Style] = {
    "watercolor": _published("watercolor painting of", 0.8, 0.8, 10, "watercolor"),
    "monet": _published("Monet style painting of", 0.5, 0.5, 10, "Monet"),
    "van_gogh": _published("Van Gogh style painting of", 0.5, 0.5, 10, "Van", "Gogh"),
    "cartoon": _published("cartoon style of", 0.8, 0.7, 3, "cartoon"),
    "ukiyo_e": _published("Ukiyo-e style of", 0.9, 0.9, 10, "Ukiyo-e"),
    "shinkai": _published("Makoto Shinkai style of", 1.0, 0.9, 10, "Makoto", "Shinkai"),
    "pokemon": _published("Pokemon cartoon style of", 0.7, 0.7, 3, "Pokemon", "cartoon"),
}

# The words are the captions that the shipped model was trained with; we chose the parameters by eye.
EMBEDDED: dict[str, Style] = {
    "watercolor": _embedded("watercolor painting of", 3.0),
    "sepia": _embedded("sepia photograph of", 3.0),
    "night": _embedded("night scene of", 3.0),
    "cartoon": _embedded("cartoon drawing of", 2.0),
    "sunset": _embedded("sunset picture of", 3.0),
}


def styles_for(model: str) -> dict[str, Style]:
    """The presets for a checkpoint: `embedded`, a Hub id, or a directory."""
    return EMBEDDED if model == "embedded" else PUBLISHED
