"""Whether quality falls where a clip is corrupted, and follows the sentiment that a variant lost."""
