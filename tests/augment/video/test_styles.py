"""Styles: every preset is one that its pipeline can run."""

from __future__ import annotations

import numpy as np
import pytest

from augment.training.diffusion.style_renderers import RENDERERS
from augment.video.styles import EMBEDDED, PUBLISHED, Style
from pipelines.puppets import face

PRESETS = [*PUBLISHED.values(), *EMBEDDED.values()]


@pytest.mark.parametrize("style", PRESETS, ids=lambda style: style.words)
def test_presets_are_within_range_and_weigh_words_that_they_have(style: Style) -> None:
    assert 0 <= style.cross_replace <= 1
    assert 0 <= style.self_replace <= 1
    prompt = style.prompt("a person talking")
    assert prompt.endswith("a person talking")
    assert all(word in prompt for word in style.reweight)


def test_the_embedded_model_was_taught_each_of_its_styles() -> None:
    assert set(EMBEDDED) == set(RENDERERS)


@pytest.mark.parametrize("name", RENDERERS)
def test_a_renderer_changes_the_colours_and_keeps_the_face(name: str) -> None:
    rng = np.random.default_rng(0)
    look = face.random_look(rng, "studio")
    plain = face.draw_face(look, valence=0.5, mouth=0.6).astype(np.float32) / 255
    styled = RENDERERS[name](plain, rng)
    assert styled.dtype == np.float32
    assert styled.shape == plain.shape
    assert np.abs(styled - plain).mean() > 0.03
    light, styled_light = (picture.mean(axis=-1)[38:54, 18:46].ravel() for picture in (plain, styled))
    assert np.corrcoef(light, styled_light)[0, 1] > 0.5
