"""What a conversion costs, and how good it is."""
