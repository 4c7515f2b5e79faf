"""The embedded corpus: drawn talking heads with a known sentiment in face, voice and words."""
