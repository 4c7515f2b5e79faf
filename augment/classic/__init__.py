"""Variants without diffusion: the baseline that generated ones are compared with."""
