"""Harmless changes of a clip: what a good variant may change, for the good pairs."""
