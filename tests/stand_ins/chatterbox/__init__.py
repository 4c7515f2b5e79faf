"""A stand-in for the package chatterbox: its voice converter, without networks."""
