"""What frozen vision and audio towers make of each clip, kept on disk."""
