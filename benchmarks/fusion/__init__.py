"""Speed of the fusion model, and gain of each of its losses."""
