"""Training of the small Stable Diffusion that is shipped."""
