"""From a Hub id to a trained regressor: families, adapters, heads, saving."""
