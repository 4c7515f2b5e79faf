"""How the small embedded model is made; no run of a user's imports it."""
