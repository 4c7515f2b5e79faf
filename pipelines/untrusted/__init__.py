"""How files are read that nobody vouches for: pickles (the way in is `pipelines.pickles`), and YAML."""
