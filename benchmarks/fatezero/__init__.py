"""What FateZero edits cost, and how good the shipped checkpoint is."""
