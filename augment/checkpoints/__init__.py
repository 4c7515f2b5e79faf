"""The small models that are shipped, each in a folder with its card."""

from pathlib import Path

STABLE_DIFFUSION = Path(__file__).parent / "stable_diffusion"
VOICE_CONVERTER = Path(__file__).parent / "voice_converter"
