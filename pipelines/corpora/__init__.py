"""Importers' first half: what a corpus' tables say, one module a layout. Decodes nothing."""
