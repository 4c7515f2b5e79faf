"""Measurements whose figures stand in the docs: speed, memory, quality, ablations. No stage imports them."""
