"""Audio variants: target voices and voice converters."""
