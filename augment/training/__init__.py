"""Training of the shipped checkpoints; the stage itself does not use it."""
