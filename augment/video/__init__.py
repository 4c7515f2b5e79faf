"""Video variants: crop, frame rate, style, and the editor that makes them."""
