"""What an audio variant depends on: its own method's settings, and no other's."""

from __future__ import annotations

import pytest

from augment.audio.methods import METHODS, Method
from augment.audio.settings import AudioSettings, ChatterboxSettings, SeedVCSettings


def test_only_the_own_section_counts() -> None:
    seed_vc, chatterbox = SeedVCSettings(diffusion_steps=7), ChatterboxSettings(watermark="keep")
    for method in METHODS:
        plain = AudioSettings(method=method, reference_s=5).used()
        changed = AudioSettings(method=method, reference_s=5, seed_vc=seed_vc, chatterbox=chatterbox).used()
        assert (changed != plain) == (METHODS[method].section is not None)


def test_only_flow_matching_has_no_name_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variants are older than the name; another method that reads its settings has its own."""
    monkeypatch.setitem(METHODS, "another", Method(converter="module:Class", section=None))
    used = {method: AudioSettings(method=method, reference_s=5).used() for method in METHODS}
    assert used["another"] == used["flow_matching"] | {"method": "another"}
    assert [name for name, values in used.items() if values.get("method") != name] == ["flow_matching"]
