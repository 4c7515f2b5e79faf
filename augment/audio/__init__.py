"""Audio variants: which voice is the target, and which converter makes it speak."""
