"""The decoded clip as signals see it: video and audio."""
