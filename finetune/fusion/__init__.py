"""The second method: a small trimodal fusion network with a conflict-aware penalty and a statistical loss."""
