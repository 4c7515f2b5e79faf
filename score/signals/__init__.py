"""How a variant differs from its source; `catalogue` lists the signals. What one is worth comes later."""
