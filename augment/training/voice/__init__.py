"""Training of voice converters: the shipped one, and users' own."""
