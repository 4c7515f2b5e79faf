"""The static viewer of a store: originals beside their variants, playable, with scores and weights."""
