"""Speed of FateZero edits, and quality of the included checkpoint."""
