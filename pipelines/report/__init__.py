"""The report of a store: originals next to their variants, playable, with scores and weights."""
