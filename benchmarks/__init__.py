"""Measurements for the docs: speed, memory, quality, ablations. No stage imports them."""
