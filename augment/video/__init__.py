"""Video variants: crop, frame rate, styles and editors."""
