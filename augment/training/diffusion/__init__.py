"""Trains the small Stable Diffusion that is shipped."""
