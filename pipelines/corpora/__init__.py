"""Readers of corpus tables, the first half of an import, with one module per layout; nothing is decoded."""
