"""Trains voice converters: the shipped one, and a user's own."""
