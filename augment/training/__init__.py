"""How the shipped checkpoints are trained; making variants needs nothing of it."""
