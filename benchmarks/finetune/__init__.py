"""Cost of a training step, and gain of variants and weights."""
