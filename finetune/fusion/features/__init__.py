"""Features of the fusion model: reading, converting, and extracting them from a store."""
