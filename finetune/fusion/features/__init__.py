"""Features of the fusion model: read, converted, and made of a store."""
