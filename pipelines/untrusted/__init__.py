"""How files are read that nobody vouches for: pickles (the way in is `pickles.py`), and YAML."""
